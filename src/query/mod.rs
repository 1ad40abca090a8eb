//! Query: what is asked of the ledger, and answers that say why.
//!
//! In: a question about values. Out: every assertion about them, with author, verdict, reason and provenance; and, as
//! important, one line on what was not shown and by which rule.
//!
//! ```text
//! text -Question-> key ranges -scan-> places -read-> records -join report, withdrawal-> Answer
//! ```
//!
//! Not here: printing (`cli`), HTTP (`http`).

mod assess;
mod explain;
mod hits;
mod trial;

pub use assess::*;
pub use explain::*;
pub use hits::*;
pub use trial::*;

use crate::{
    intake::{Defaults, Known as _, value_of},
    ledger::{self, KeyRange, Ledger, LedgerError, OutcomeLine, Place, SCAN_ROWS_MAX, StoredBatch, Withdrawn},
    policy::{CONFIDENCE_UNSAID, Verdict},
    record::{Indicator, MemberId, Observable, ObservableType, Record, RecordRef, Scope, Sighted, Timestamp, Tlp, UnknownName, WireRef},
};
use ipnet::IpNet;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Most values in one answer unless less is asked for.
pub const VALUES_DEFAULT: usize = 100;
/// Most values in one answer.
pub const VALUES_MAX: usize = 10_000;
/// Batches kept decoded while one question is answered.
const BATCHES_CACHED_MAX: usize = 512;

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// A value in any spelling, a network, or `*.domain` for all below a domain.
    pub text: Option<String>,
    pub origin: Option<MemberId>,
    pub kind: Option<ObservableType>,
    pub tlp_max: Option<Tlp>,
    /// Also what is held, refused, withdrawn or over.
    pub all: bool,
    pub limit: usize,
}

/// Why a question cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{0}; ask for a value in any spelling, a network, `*.domain`, or give --origin or --type")]
    Unreadable(String),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Name(#[from] UnknownName),
}

/// How a record stands here, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Accepted,
    Held,
    Refused,
    Withdrawn,
    /// Its end has come.
    Over,
    /// Its report is not here.
    Waiting,
    /// Its author's card, or its author's own contradiction, says that it does not count.
    Quarantined,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Over => "over",
            Self::Waiting => "waiting",
            Self::Quarantined => "quarantined",
        })
    }
}

/// One record about a value.
#[derive(Clone, Debug, Serialize)]
pub struct Assertion {
    pub reference: String,
    pub origin: String,
    pub channel: String,
    pub kind: String,
    pub standing: Standing,
    pub tlp: String,
    pub audience: String,
    pub role: String,
    #[serde(rename = "use")]
    pub usage: String,
    /// The author's, capped by policy.
    pub confidence: u8,
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub signed: String,
    pub received: String,
    pub ends: String,
    pub reason: String,
    pub policies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
}

/// All that is asserted about one value.
#[derive(Clone, Debug, Serialize)]
pub struct ValueAnswer {
    pub value: String,
    pub defanged: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Members that assert it, shown ones only.
    pub origins: Vec<String>,
    /// How many of them are independent sources.
    pub independent: u32,
    pub disputed_by: Vec<String>,
    /// The effective one: worn by time, raised by independent sources, halved by disputes.
    pub confidence: u8,
    pub tlp: String,
    pub assertions: Vec<Assertion>,
}

impl ValueAnswer {
    /// The value itself.
    fn observable(&self) -> Option<Observable> {
        self.kind.parse::<crate::record::TypeName>().ok()?.read(&self.value).ok()
    }
}

/// An answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answer {
    pub values: Vec<ValueAnswer>,
    /// How many records were not shown, by the rule that hid them.
    pub not_shown: BTreeMap<String, u64>,
    /// There is more than was asked for or looked at.
    pub cut: bool,
}

/// Reads records for one question or explanation.
pub struct Reading<'a> {
    ledger: &'a Ledger,
    batches: HashMap<u64, Arc<StoredBatch>>,
    now: Timestamp,
}

/// A record with all that decides how it stands.
pub struct Found {
    pub batch: Arc<StoredBatch>,
    pub reference: RecordRef,
    pub record: Record,
    pub outcome: OutcomeLine,
    pub defaults: Option<Arc<Defaults>>,
    pub report: Option<RecordRef>,
    pub withdrawn: Option<Withdrawn>,
}

impl Found {
    /// What its report lends it; a report lends to itself what it lends to others. As at the door.
    pub fn lent(&self) -> Arc<Defaults> {
        match (&self.record, &self.defaults) {
            (Record::Report(report), _) => Arc::new(Defaults::of(report)),
            (_, Some(defaults)) => Arc::clone(defaults),
            (_, None) => Arc::default(),
        }
    }
}

impl<'a> Reading<'a> {
    /// Reads `ledger` as of `now`.
    pub fn new(ledger: &'a Ledger, now: Timestamp) -> Self {
        Self { ledger, batches: HashMap::new(), now }
    }

    /// A batch by its number, remembered for a while.
    pub fn batch(&mut self, number: u64) -> Result<Option<Arc<StoredBatch>>, LedgerError> {
        if let Some(batch) = self.batches.get(&number) {
            return Ok(Some(Arc::clone(batch)));
        }
        let Some(batch) = self.ledger.batch(number)?.map(Arc::new) else { return Ok(None) };
        if self.batches.len() >= BATCHES_CACHED_MAX {
            self.batches.clear();
        }
        self.batches.insert(number, Arc::clone(&batch));
        Ok(Some(batch))
    }

    /// The record at a place, joined with its report and its withdrawal.
    pub fn found(&mut self, place: Place) -> Result<Option<Found>, LedgerError> {
        let Some(batch) = self.batch(place.batch)? else { return Ok(None) };
        self.join(batch, place.index)
    }

    /// The record of that name.
    pub fn named(&mut self, reference: &RecordRef) -> Result<Option<Found>, LedgerError> {
        match self.ledger.batch_number(&reference.feed, reference.seq)? {
            Some(batch) => self.found(Place { batch, index: reference.index }),
            None => Ok(None),
        }
    }

    fn join(&self, batch: Arc<StoredBatch>, index: u16) -> Result<Option<Found>, LedgerError> {
        let Some(record) = batch.record(index) else { return Ok(None) };
        let reference = batch.reference(index);
        let report = match &record {
            Record::Indicator(Indicator { report: Some(report), .. }) => WireRef::resolve(report, &reference.feed, reference.seq),
            _ => None,
        };
        let mut withdrawn = self.ledger.withdrawn(&reference)?;
        if let (None, Some(report)) = (&withdrawn, &report) {
            withdrawn = self.ledger.withdrawn(report)?;
        }
        let defaults = report.as_ref().and_then(|report| self.ledger.defaults(report));
        Ok(Some(Found { outcome: batch.outcome(index), batch, reference, record, defaults, report, withdrawn }))
    }

    /// How a record stands, and the sentence that says why.
    pub fn standing(&self, found: &Found) -> (Standing, String) {
        if let Some(aside) = found.batch.aside {
            return (Standing::Quarantined, aside.sentence().to_owned());
        }
        if let Some(withdrawn) = &found.withdrawn {
            let note = withdrawn.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            let why = format!("withdrawn by its author as {}{note} ({} at {})", withdrawn.reason(), withdrawn.by, withdrawn.at);
            return (Standing::Withdrawn, why);
        }
        match &found.outcome {
            OutcomeLine::Judged { ends, judgement } if judgement.verdict == Verdict::Accept && *ends <= self.now => {
                (Standing::Over, format!("its validity ended at {ends}"))
            }
            OutcomeLine::Judged { judgement, .. } => {
                let standing = match judgement.verdict {
                    Verdict::Accept => Standing::Accepted,
                    Verdict::Hold => Standing::Held,
                    Verdict::Refuse => Standing::Refused,
                };
                (standing, judgement.sentence())
            }
            OutcomeLine::Waiting(report) => (Standing::Waiting, format!("its report, {report}, is not here")),
            OutcomeLine::Newer(what) => (Standing::Waiting, format!("it needs a newer huecry ({what})")),
            OutcomeLine::Bad(why) => (Standing::Refused, format!("malformed: {why}")),
            OutcomeLine::Absent => (Standing::Waiting, "whoever served its batch withheld it".to_owned()),
            OutcomeLine::Gone => (Standing::Over, "its content was erased here".to_owned()),
        }
    }

    /// The record as an answer shows it.
    pub fn assertion(&self, found: &Found) -> Assertion {
        let (standing, reason) = self.standing(found);
        let head = &found.batch.head;
        let nothing = Defaults::default();
        let defaults = found.defaults.as_deref().unwrap_or(&nothing);
        let (role, usage, confidence, own_tags) = match &found.record {
            Record::Indicator(one) => (one.role, one.usage, one.confidence, one.tags.as_slice()),
            Record::Report(one) => (one.role, one.usage, one.confidence, one.tags.as_slice()),
            _ => (None, None, None, &[][..]),
        };
        let (cap, ends, policies) = match &found.outcome {
            OutcomeLine::Judged { judgement, ends } => (judgement.confidence_cap, Some(*ends), judgement.policies.clone()),
            _ => (None, None, Vec::new()),
        };
        let confidence = confidence.or(defaults.confidence).unwrap_or(CONFIDENCE_UNSAID);
        Assertion {
            reference: found.reference.to_string(),
            origin: head.member.to_string(),
            channel: head.channel.to_string(),
            kind: found.record.kind().to_string(),
            standing,
            tlp: head.tlp.label(),
            audience: head.audience.name(),
            role: role.or(defaults.role).map_or("unknown", |role| role.name()).to_owned(),
            usage: usage.or(defaults.usage).map_or("context", |usage| usage.name()).to_owned(),
            confidence: cap.map_or(confidence, |cap| cap.min(confidence)),
            tags: own_tags.iter().chain(&defaults.tags).cloned().collect(),
            report: found.report.as_ref().map(ToString::to_string),
            title: found.defaults.as_ref().map(|defaults| defaults.title.clone()).filter(|title| !title.is_empty()),
            signed: head.time.to_string(),
            received: found.batch.entry.received.to_string(),
            ends: ends.map(|ends| ends.to_string()).unwrap_or_default(),
            reason,
            policies,
            withdrawn: found.withdrawn.as_ref().map(|withdrawn| withdrawn.reason().to_string()),
        }
    }
}

/// What a question's text means as ranges of the index, and whether a found record must speak for its subdomains.
#[derive(Default)]
struct Plan {
    ranges: Vec<KeyRange>,
    /// Hosts that the value names, for what else stands there.
    beside: Vec<KeyRange>,
    /// Parents of the name asked for: only indicators with scope `subdomains` count there.
    parents: Vec<KeyRange>,
}

impl Plan {
    /// What is said of the value itself or of all around it, and whether it stands above.
    fn speaking(&self) -> impl Iterator<Item = (&KeyRange, bool)> {
        self.ranges.iter().map(|range| (range, false)).chain(self.parents.iter().map(|range| (range, true)))
    }
}

fn plan(question: &Question) -> Result<Plan, QueryError> {
    let Some(text) = question.text.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(Plan { ranges: vec![KeyRange::everything()], ..Plan::default() });
    };
    let unreadable = |error: crate::record::ObservableError| QueryError::Unreadable(error.to_string());
    if let Some(name) = text.strip_prefix("*.") {
        let name = Observable::from_text(ObservableType::Domain, name).map_err(unreadable)?;
        return Ok(Plan { ranges: ledger::below_domain(&name.to_string()), ..Plan::default() });
    }
    if let Ok(net) = text.parse::<IpNet>() {
        let mut ranges = ledger::inside(net.trunc());
        ranges.extend(ledger::covering(net.trunc()).map(|wider| ledger::exactly(&wider)));
        return Ok(Plan { ranges, ..Plan::default() });
    }
    let value = Observable::recognise(text).map_err(unreadable)?;
    let mut ranges = vec![ledger::exactly(&value)];
    let (mut parents, mut beside) = (Vec::new(), Vec::new());
    if let Some(net) = value.network() {
        ranges.extend(ledger::covering(net).map(|wider| ledger::exactly(&wider)));
        beside.extend(ledger::on_host(&net.addr().to_string()));
    }
    if value.kind() == ObservableType::Domain {
        let mut name = value.to_string();
        beside.extend(ledger::on_host(&name));
        while let Some((_, parent)) = name.split_once('.') {
            let Ok(above) = Observable::from_text(ObservableType::Domain, parent) else { break };
            parents.push(ledger::exactly(&above));
            name = parent.to_owned();
        }
    }
    Ok(Plan { ranges, beside, parents })
}

/// Answers a question as of `now`.
pub fn answer(ledger: &Ledger, question: &Question, now: Timestamp) -> Result<Answer, QueryError> {
    let plan = plan(question)?;
    let mut reading = Reading::new(ledger, now);
    let mut answer = Answer::default();
    let mut by_value: BTreeMap<Observable, Vec<Assertion>> = BTreeMap::new();
    let limit = match question.limit {
        0 => VALUES_DEFAULT,
        limit => limit.min(VALUES_MAX),
    };
    let marked = plan.speaking().chain(plan.beside.iter().map(|range| (range, false)));
    for (range, parent) in marked {
        let (rows, more) = ledger.scan(range, SCAN_ROWS_MAX)?;
        answer.cut |= more;
        for row in rows {
            let Some(found) = reading.found(row.place)? else { continue };
            let Some(value) = value_of(&found.record) else { continue };
            let speaks_below = matches!(&found.record, Record::Indicator(one) if one.scope == Some(Scope::Subdomains));
            if (parent && !speaks_below) || !matches(question, &found, value) {
                continue;
            }
            let assertion = reading.assertion(&found);
            if assertion.standing != Standing::Accepted && !question.all {
                *answer.not_shown.entry(rule_of(&assertion)).or_default() += 1;
                continue;
            }
            if by_value.len() >= limit && !by_value.contains_key(value) {
                answer.cut = true;
                break;
            }
            by_value.entry(value.clone()).or_default().push(assertion);
        }
    }
    answer.values = by_value.into_iter().map(|(value, assertions)| grouped(&value, assertions)).collect();
    Ok(answer)
}

fn matches(question: &Question, found: &Found, value: &Observable) -> bool {
    let head = &found.batch.head;
    question.origin.as_ref().is_none_or(|origin| *origin == head.member)
        && question.kind.is_none_or(|kind| kind == value.kind())
        && question.tlp_max.is_none_or(|tlp| head.tlp <= tlp)
}

/// The few words under which a record that is not shown is counted.
fn rule_of(assertion: &Assertion) -> String {
    match assertion.standing {
        Standing::Held | Standing::Refused if assertion.policies.is_empty() => format!("{}, no policy permits it", assertion.standing),
        Standing::Held | Standing::Refused => format!("{} by `{}`", assertion.standing, assertion.policies.join("`, `")),
        Standing::Withdrawn => format!("withdrawn by {}", assertion.origin),
        other => other.to_string(),
    }
}

fn grouped(value: &Observable, assertions: Vec<Assertion>) -> ValueAnswer {
    let shown = || assertions.iter().filter(|one| one.kind == "indicator");
    let origins: BTreeSet<String> = shown().map(|one| one.origin.clone()).collect();
    let strictest = assertions.iter().map(|one| Tlp::parse(&one.tlp).unwrap_or(Tlp::Red)).max();
    ValueAnswer {
        value: value.to_string(),
        defanged: value.defanged(),
        kind: value.other().map_or_else(|| value.kind().to_string(), |name| format!("other:{name}")),
        origins: origins.into_iter().collect(),
        independent: 0,
        disputed_by: Vec::new(),
        confidence: shown().map(|one| one.confidence).max().unwrap_or(0),
        tlp: strictest.map(Tlp::label).unwrap_or_default(),
        assertions,
    }
}

/// The value that a record is about, or the first value of the records it is about, for a title.
pub fn title_of(record: &Record) -> String {
    match record {
        Record::Report(report) => report.title.clone(),
        Record::Document(document) => document.title.clone(),
        Record::Question(question) => question.text.clone(),
        Record::Sighting(sighting) => match &sighting.of {
            Sighted::Value(value) => format!("{} of {}", sighting.sighting, value.defanged()),
            Sighted::Records(targets) => format!("{} of {} records", sighting.sighting, targets.len()),
        },
        Record::Withdrawal(withdrawal) => format!("takes back {} records as {}", withdrawal.targets.len(), withdrawal.reason),
        Record::Renewal(renewal) => format!("renews {} reports until {}", renewal.targets.len(), renewal.valid_until),
        Record::Indicator(indicator) => indicator.value.defanged(),
    }
}
