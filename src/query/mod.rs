//! Query: what is asked of the ledger, and answers that say why.
//!
//! In: a question about values. Out: every assertion about them, with author, verdict, reason and provenance; and, as
//! important, one line on what was not shown and by which rule.
//!
//! ```text
//! Question -ranges of the index-> places -read-> records -join report, withdrawal, filter-> Answer
//! ```
//!
//! Not here: printing (`cli`), HTTP (`http`).

mod assess;
mod ends;
mod explain;
mod hits;
mod meant;
mod question;
mod trial;

pub use assess::*;
pub use ends::{End, Ends, LIVE_MS};
pub use explain::*;
pub use hits::*;
pub use meant::Meant;
use question::is_source;
pub use question::*;
pub use trial::*;

use crate::{
    intake::{Defaults, Known as _},
    ledger::{Ledger, LedgerError, OutcomeLine, Place, Row, StoredBatch, View, Withdrawn, exactly, value_key},
    policy::{CONFIDENCE_UNSAID, Verdict},
    record::{Indicator, Observable, Record, RecordRef, Sighted, Source, Timestamp, Tlp, WireRef},
};
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Batches kept decoded while one question is answered.
const BATCHES_CACHED_MAX: usize = 512;
/// Records, and values with their rows, that one reading remembers.
const FOUND_MAX: usize = 64;

/// How a record stands here, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
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
#[derive(Clone, Debug, Serialize, JsonSchema)]
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
#[derive(Clone, Debug, Serialize, JsonSchema)]
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

/// Reads records for one question or explanation. It finds nothing that is marked above its clearance.
pub struct Reading<'a> {
    ledger: &'a Ledger,
    batches: HashMap<u64, Arc<StoredBatch>>,
    /// Records that were read lately: what is found is weighed, so most are asked for twice.
    found: HashMap<Place, Arc<Found>>,
    /// All rows of values that were read, by their keys.
    rows: HashMap<Vec<u8>, Vec<Row>>,
    now: Timestamp,
    clearance: Tlp,
}

/// A record with all that decides how it stands.
pub struct Found {
    pub batch: Arc<StoredBatch>,
    pub reference: RecordRef,
    pub record: Record,
    pub outcome: OutcomeLine,
    /// What it has from its report.
    pub defaults: Option<Arc<Defaults>>,
    /// Of a report: what it lends.
    lends: Option<Arc<Defaults>>,
    pub report: Option<RecordRef>,
    pub withdrawn: Option<Withdrawn>,
}

impl Found {
    /// What its report lends it; a report lends to itself what it lends to others, and to what renews it. As at the door.
    pub fn lent(&self) -> Arc<Defaults> {
        self.lends.as_ref().or(self.defaults.as_ref()).map_or_else(Arc::default, Arc::clone)
    }
}

impl<'a> Reading<'a> {
    /// Reads all of `ledger` as of `now`, for the node itself.
    pub fn whole(ledger: &'a Ledger, now: Timestamp) -> Self {
        Self::up_to(Tlp::Red, ledger, now)
    }

    /// Reads for whoever has `view`, as of `now`.
    pub fn of(view: &'a View, now: Timestamp) -> Self {
        Self::up_to(view.clearance(), view.ledger(), now)
    }

    /// Reads what is marked up to `clearance`, as of `now`.
    pub fn up_to(clearance: Tlp, ledger: &'a Ledger, now: Timestamp) -> Self {
        Self { ledger, batches: HashMap::new(), found: HashMap::new(), rows: HashMap::new(), now, clearance }
    }

    /// The strictest marking that it reads.
    pub fn clearance(&self) -> Tlp {
        self.clearance
    }

    /// As of when it reads.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A batch by its number, remembered for a while.
    pub fn batch(&mut self, number: u64) -> Result<Option<Arc<StoredBatch>>, LedgerError> {
        if let Some(batch) = self.batches.get(&number) {
            return Ok(Some(Arc::clone(batch)));
        }
        let batch = self.ledger.batch(number)?.filter(|batch| batch.head.tlp <= self.clearance);
        let Some(batch) = batch.map(Arc::new) else { return Ok(None) };
        if self.batches.len() >= BATCHES_CACHED_MAX {
            self.batches.clear();
        }
        self.batches.insert(number, Arc::clone(&batch));
        Ok(Some(batch))
    }

    /// The record at a place, joined with its report and its withdrawal.
    pub fn found(&mut self, place: Place) -> Result<Option<Arc<Found>>, LedgerError> {
        if let Some(found) = self.found.get(&place) {
            return Ok(Some(Arc::clone(found)));
        }
        let Some(batch) = self.batch(place.batch)? else { return Ok(None) };
        let Some(found) = self.join(batch, place.index)?.map(Arc::new) else { return Ok(None) };
        if self.found.len() >= FOUND_MAX {
            self.found.clear();
        }
        self.found.insert(place, Arc::clone(&found));
        Ok(Some(found))
    }

    /// Keeps all rows of the value with this key for whoever weighs it.
    fn remember_rows(&mut self, key: &[u8], rows: Vec<Row>) {
        if self.rows.len() >= FOUND_MAX {
            self.rows.clear();
        }
        self.rows.insert(key.to_vec(), rows);
    }

    /// The rows of a value, up to so many, and whether there are more.
    fn rows_of(&self, value: &Observable, rows_max: usize) -> Result<(Vec<Row>, bool), LedgerError> {
        match self.rows.get(&value_key(value)).filter(|rows| rows.len() <= rows_max) {
            Some(rows) => Ok((rows.clone(), false)),
            None => self.ledger.scan_up_to(&exactly(value), self.clearance, rows_max),
        }
    }

    /// The record of that name.
    pub fn named(&mut self, reference: &RecordRef) -> Result<Option<Arc<Found>>, LedgerError> {
        match self.ledger.batch_number(&reference.feed, reference.seq)? {
            Some(batch) => self.found(Place { batch, index: reference.index }),
            None => Ok(None),
        }
    }

    /// The same also for one that was set aside, and stands under no name any more.
    pub fn named_or_aside(&mut self, reference: &RecordRef) -> Result<Option<Arc<Found>>, LedgerError> {
        match (self.named(reference)?, self.ledger.aside_at(reference)?) {
            (None, Some(place)) => self.found(place),
            (found, _) => Ok(found),
        }
    }

    fn join(&self, batch: Arc<StoredBatch>, index: u16) -> Result<Option<Found>, LedgerError> {
        let Some(record) = batch.record(index) else { return Ok(None) };
        let reference = batch.reference(index);
        let report = match &record {
            Record::Indicator(Indicator { report: Some(report), .. }) => WireRef::resolve(report, &reference.feed, reference.seq),
            Record::Renewal(renewal) => renewal.targets.first().and_then(|report| report.resolve(&reference.feed, reference.seq)),
            _ => None,
        };
        let lends = if let Record::Report(_) = &record { self.ledger.defaults(&reference) } else { None };
        let mut withdrawn = self.ledger.withdrawn(&reference)?;
        if let (None, Some(report)) = (&withdrawn, &report) {
            withdrawn = self.ledger.withdrawn(report)?;
        }
        let defaults = report.as_ref().and_then(|report| self.ledger.defaults(report));
        Ok(Some(Found { outcome: batch.outcome(index), batch, reference, record, defaults, lends, report, withdrawn }))
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

    /// Returns true for a record whose report is, or may be, marked above `tlp_max`.
    fn is_report_above(&mut self, found: &Found, tlp_max: Tlp) -> Result<bool, LedgerError> {
        match &found.report {
            // The marking of a report that is missing or quarantined is unknown.
            Some(report) if tlp_max < Tlp::Red => Ok(self.named(report)?.is_none_or(|report| report.batch.head.tlp > tlp_max)),
            _ => Ok(false),
        }
    }

    /// The source that its report names for a record, unless the report is marked above `tlp_max`.
    pub fn lent_source<'f>(&mut self, found: &'f Found, tlp_max: Tlp) -> Result<Option<&'f Source>, LedgerError> {
        match found.defaults.as_ref().and_then(|defaults| defaults.source.as_ref()) {
            Some(lent) if !self.is_report_above(found, tlp_max)? => Ok(Some(lent)),
            _ => Ok(None),
        }
    }

    /// The record as an answer shows it. A report marked above the clearance lends it no word.
    pub fn assertion(&mut self, found: &Found) -> Result<Assertion, LedgerError> {
        let mut said = self.whole_assertion(found);
        if self.is_report_above(found, self.clearance)? {
            (said.title, said.report) = (None, None);
            said.tags = match &found.record {
                Record::Indicator(indicator) => indicator.tags.clone(),
                _ => Vec::new(),
            };
        }
        Ok(said)
    }

    fn whole_assertion(&self, found: &Found) -> Assertion {
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
