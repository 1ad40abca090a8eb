//! Explain: the whole story of one record, or of everything about a value.

use super::{Assertion, Found, Prospect, QueryError, Question, Reading, Standing, answer, title_of};
use crate::{
    enforce::{Mode, Orders, Outlet},
    envelope::Hash,
    intake::{Intake, Matter, value_of},
    ledger::{Ledger, LedgerError, OutcomeLine},
    policy::{Confidence, Party, Way, may_send, policy_texts},
    record::{Observable, Record, RecordRef, Timestamp, Tlp},
};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Everything about a value, or about one record and its value.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Explanation {
    pub value: Option<ValueStory>,
    pub records: Vec<Story>,
    /// What is left to say of a record whose content was erased here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased: Option<String>,
}

/// What the records about a value come to together.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ValueStory {
    pub value: String,
    pub defanged: String,
    pub confidence: Confidence,
    /// Independent sources that assert it now.
    pub origins: u32,
    pub sources: Vec<SourceLine>,
    pub disputed_by: Vec<String>,
    /// Lists of ours that it is on now, with their roles.
    pub lists: Vec<String>,
    pub outlets: Vec<OutletStory>,
}

/// One member's claim.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceLine {
    pub member: String,
    /// Whose finding it is.
    pub source: String,
    pub confidence: u8,
    pub disputed: bool,
}

/// Sightings of one record that are told.
const SIGHTINGS_TOLD_MAX: usize = 100;

/// What one outlet may do with the value, and why.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OutletStory {
    pub outlet: String,
    pub permitted: bool,
    pub why: String,
}

/// The story of one record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Story {
    /// The value, or what the record is about in a few words.
    pub about: String,
    #[serde(flatten)]
    pub assertion: Assertion,
    /// Whose finding it is, by its report.
    pub source: String,
    /// The node that brought it, `this node` for our own, or the key if no card names it any more.
    pub through: String,
    /// Through which members it was passed on before, as each says of the one before; the nearest to its author first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    pub head_id: String,
    pub signed_by: String,
    /// Hash of the policy that judged, as it was then.
    pub policy_hash: String,
    /// Every decision about it, the oldest first.
    pub decisions: Vec<DecisionStory>,
    /// Members that may have it, and why others may not.
    pub shared: SharedStory,
    /// Sightings that name it, the oldest first, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<String>,
}

/// One decision about a record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DecisionStory {
    pub at: String,
    /// The operator who decided, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub sentence: String,
    /// Policies that decided, as they read then.
    pub policies: BTreeMap<String, String>,
}

/// With whom a record is and is not shared.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct SharedStory {
    pub with: Vec<String>,
    /// Members that do not get it, by reason.
    pub not: BTreeMap<String, Vec<String>>,
}

/// Explains a record by its name, or all records about a value, up to a marking: what is above it is as if it did not
/// exist. Empty when nothing is held.
pub fn explain(
    ledger: &Ledger,
    intake: &Intake,
    outlets: &[Outlet],
    orders: &Orders,
    text: &str,
    tlp_max: Tlp,
    now: Timestamp,
) -> Result<Explanation, QueryError> {
    let mut teller = Teller { reading: Reading::up_to(tlp_max, ledger, now), intake, texts: HashMap::new(), tlp_max, now };
    let (mut records, mut value, mut erased) = (Vec::new(), None, None);
    if let Ok(reference) = text.parse::<RecordRef>() {
        let batch = ledger.batch_at(&reference.feed, reference.seq)?.filter(|batch| batch.head.tlp <= tlp_max);
        if batch.is_some_and(|batch| batch.outcome(reference.index) == OutcomeLine::Gone) {
            erased =
                Some(format!("{reference} stood here; its content was erased, and a hash is left; `huecry decisions` says by whose order"));
        }
        if let Some(found) = teller.reading.named(&reference)? {
            value = value_of(&found.record).cloned();
            records.push(teller.story(&found)?);
        }
    } else {
        let (asked, limit) = (Some(text.to_owned()), super::VALUES_DEFAULT);
        let question = Question { text: asked, all: true, limit, tlp_max: Some(tlp_max), ..Question::default() };
        for found in answer(ledger, &question, now)?.values {
            for reference in found.assertions.iter().filter_map(|one| one.reference.parse().ok()) {
                if let Some(found) = teller.reading.named(&reference)? {
                    records.push(teller.story(&found)?);
                }
            }
        }
        value = Observable::recognise(text).ok();
    }
    let value = value.filter(|_| !records.is_empty()).map(|value| teller.value_story(&value, outlets, orders)).transpose()?;
    Ok(Explanation { value, records, erased })
}

struct Teller<'a> {
    reading: Reading<'a>,
    intake: &'a Intake,
    /// Texts of policies that judged, by the hash of the whole.
    texts: HashMap<Hash, BTreeMap<String, String>>,
    tlp_max: Tlp,
    now: Timestamp,
}

impl Teller<'_> {
    fn story(&mut self, found: &Found) -> Result<Story, LedgerError> {
        let (entry, roster) = (&found.batch.entry, &self.intake.roster);
        let through = match <[u8; 32]>::try_from(entry.from.as_slice()) {
            Err(_) => "this node".to_owned(),
            Ok(key) => roster
                .node(&key, entry.received)
                .map_or_else(|| format!("node {}", hex::encode(key)), |node| format!("{}'s node `{}`", node.member, node.node)),
        };
        let signed_by = crate::envelope::SignedHead::open(&entry.head, &roster.federation());
        let source = self.reading.lent_source(found, self.tlp_max)?;
        let named = |source: &crate::record::Source| {
            let parts = [&source.organisation, &source.url, &source.external_id];
            parts.into_iter().flatten().cloned().collect::<Vec<_>>().join(", ")
        };
        Ok(Story {
            about: title_of(&found.record),
            assertion: self.reading.assertion(found)?,
            source: source.map_or("not said, so it corroborates nothing".to_owned(), named),
            through,
            path: entry.path.iter().map(ToString::to_string).collect(),
            head_id: entry.id.to_string(),
            signed_by: signed_by.map(|head| head.key().to_string()).unwrap_or_default(),
            policy_hash: entry.policy.to_string(),
            decisions: self.decisions(found)?,
            shared: self.shared(found),
            sightings: self.sightings(found)?,
        })
    }

    fn sightings(&mut self, found: &Found) -> Result<Vec<String>, LedgerError> {
        let mut told = Vec::new();
        for place in self.reading.ledger.answers(&found.reference, SIGHTINGS_TOLD_MAX)? {
            let Some(one) = self.reading.found(place)? else { continue };
            let Record::Sighting(sighting) = &one.record else { continue };
            let head = &one.batch.head;
            if self.reading.standing(&one).0 == Standing::Accepted {
                let (count, place) = (sighting.count.unwrap_or(1), sighting.country.as_ref().map(|place| format!(" in {place}")));
                let place = place.unwrap_or_default();
                told.push(format!("{} {count}x{place} by {} at {} ({})", sighting.sighting, head.member, head.time, one.reference));
            }
        }
        Ok(told)
    }

    fn decisions(&mut self, found: &Found) -> Result<Vec<DecisionStory>, LedgerError> {
        let (batch, index) = (&found.batch, found.reference.index);
        let mut decisions = Vec::new();
        let first = (batch.entry.received, None, batch.entry.policy, batch.first_outcome(index));
        let later = batch.verdicts(index).into_iter().map(|one| (one.at, one.by, one.policy, one.line));
        for (at, by, policy, line) in std::iter::once(first).chain(later) {
            let OutcomeLine::Judged { judgement, .. } = line else { continue };
            let texts = self.texts(policy)?;
            let policies = judgement.policies.iter().filter_map(|id| Some((id.clone(), texts.get(id)?.clone()))).collect();
            decisions.push(DecisionStory { at: at.to_string(), by, sentence: judgement.sentence(), policies });
        }
        Ok(decisions)
    }

    fn texts(&mut self, hash: Hash) -> Result<&BTreeMap<String, String>, LedgerError> {
        if !self.texts.contains_key(&hash) {
            let entry = self.reading.ledger.policy(hash)?;
            self.texts.insert(hash, entry.map(|entry| policy_texts(&entry.pieces)).unwrap_or_default());
        }
        Ok(self.texts.entry(hash).or_default())
    }

    /// Who may have it by charter and audience, and who of them our `share` policies would leave out.
    fn shared(&self, found: &Found) -> SharedStory {
        let (roster, head) = (&self.intake.roster, &found.batch.head);
        let matter = Matter::new(self.intake, head, self.now);
        let defaults = found.lent();
        let nobody = std::collections::BTreeSet::new();
        let ends = matter.ends(&found.record, &defaults);
        let mut shared = SharedStory::default();
        for member in roster.charter().charter().members.iter().filter(|member| member.id != head.member) {
            let standing = roster.standing(&member.id, self.now);
            let reader = Party { id: &member.id, kind: member.kind, country: member.country.as_deref(), standing: standing.name() };
            let why = match may_send(roster, head, &member.id, self.now, Way::Published) {
                Err(why) => Some(why.to_string()),
                Ok(()) => matter
                    .case(&found.record, &defaults, ends, &nobody, 0, |case| self.intake.policy.shares(case, &reader))
                    .filter(|permission| !permission.permitted)
                    .map(|permission| format!("our policy would withhold it: {}", permission.because())),
            };
            match why {
                None => shared.with.push(member.id.to_string()),
                Some(why) => shared.not.entry(why).or_default().push(member.id.to_string()),
            }
        }
        shared
    }

    fn value_story(&mut self, value: &Observable, outlets: &[Outlet], orders: &Orders) -> Result<ValueStory, LedgerError> {
        let assessed = self.reading.assess(self.intake, value, self.tlp_max)?;
        let source = |claim: &crate::policy::Claim| SourceLine {
            member: claim.member.to_string(),
            source: claim.standpoint.sentence(),
            confidence: claim.confidence,
            disputed: claim.disputed,
        };
        let mut stories = Vec::new();
        for outlet in outlets {
            let (permitted, why) = match self.reading.prospect(self.intake, &assessed, outlet, orders) {
                Prospect::Permitted(by) => (true, by.first().map(|one| one.permission.because()).unwrap_or_default()),
                Prospect::Protected(lists) => (false, format!("never enforced: it is protected by {}", lists.join(", "))),
                Prospect::Unfit(why) => (false, why.to_string()),
                Prospect::Denied(permission) => (false, permission.because()),
                Prospect::Nothing => (false, "nothing that counts asserts it".to_owned()),
            };
            let mode = match (permitted, orders.outlet_mode(&outlet.name), orders.outlet_stopped(&outlet.name)) {
                (true, _, Some(scope)) => format!("; but an operator stopped {scope}"),
                (true, Mode::Monitor, _) => "; but the outlet is in monitor mode".to_owned(),
                _ => String::new(),
            };
            stories.push(OutletStory { outlet: outlet.name.clone(), permitted, why: format!("{why}{mode}") });
        }
        Ok(ValueStory {
            value: value.to_string(),
            defanged: value.defanged(),
            confidence: assessed.confidence(self.now),
            origins: assessed.origins,
            sources: assessed.claims.iter().map(source).collect(),
            disputed_by: assessed.disputed_by.iter().map(ToString::to_string).collect(),
            lists: self.intake.lists.of(value).lists().map(|list| format!("{} ({})", list.name, list.role)).collect(),
            outlets: stories,
        })
    }
}
