//! Retention: how long content stays, and what goes first when there is no room.
//!
//! ```text
//! Retention (limits, rules) + every batch -survey-> Due: what is to be erased, and what a person has to look at
//! ```
//!
//! In: rules and the time. Out: places to erase; nothing is changed here. A report stays as long as anything that names it, withdrawals
//! and renewals stay always.

use super::{ErasedPlaces, Ledger, LedgerError, OutcomeLine, StoredBatch};
use crate::{
    envelope::{Class, Head},
    intake::value_of,
    policy::Verdict,
    record::{DAY_MS, Indicator, MemberId, ObservableType, Record, RecordRef, Timestamp, Tlp},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

/// Beside what has to go, so much more of the room is made free, in hundredths: so that it is not needed again tomorrow.
const SPARE_PERCENT: u64 = 10;

/// Reports whose indicators are looked for in one round: each may be named all over a long feed.
const REPORTS_AT_ONCE: usize = 64;
/// Indicators that wait for one report.
const WAITING_MAX: usize = 1_000_000;

/// One rule: which records, and how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionRule {
    pub name: String,
    /// Empty where it does not matter; so are the others.
    pub types: BTreeSet<ObservableType>,
    pub markings: BTreeSet<Tlp>,
    pub origins: BTreeSet<MemberId>,
    /// Only what was received from whose agreement it is, in its term.
    pub term: Option<(MemberId, Timestamp, Timestamp)>,
    /// Days from when it was received.
    pub keep_days: u32,
    /// A person decides then; otherwise it goes.
    pub review: bool,
    /// A person has decided: what was received until the first stays until the second.
    pub reviewed: Option<(Timestamp, Timestamp)>,
}

/// How long content stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// From the date of its head on, whatever it is.
    pub content_days: u32,
    /// From its end on.
    pub over_days: u32,
    /// Refused records, from when they were received.
    pub refused_days: u32,
    pub rules: Vec<RetentionRule>,
}

/// Records that a person has to look at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct DueLine {
    pub rule: String,
    pub records: u64,
    /// When the oldest of them was received.
    pub oldest: String,
    /// How many of each origin and type.
    pub of: BTreeMap<String, u64>,
}

/// What has come to its end.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// By the rule that says so.
    pub erase: BTreeMap<String, Vec<ErasedPlaces>>,
    /// By rule: what a person is asked about, and where it stands.
    pub review: BTreeMap<String, (DueLine, Vec<ErasedPlaces>)>,
}

/// What is to become of one record.
enum Fate<'a> {
    Stays,
    Goes(&'a str),
    Review(&'a RetentionRule),
}

impl RetentionRule {
    fn concerns(&self, head: &Head, received: Timestamp, kind: Option<ObservableType>) -> bool {
        let in_term =
            |(member, from, until): &(MemberId, Timestamp, Timestamp)| *member == head.member && (*from..*until).contains(&received);
        (self.types.is_empty() || kind.is_some_and(|kind| self.types.contains(&kind)))
            && (self.markings.is_empty() || self.markings.contains(&head.tlp))
            && (self.origins.is_empty() || self.origins.contains(&head.member))
            && self.term.as_ref().is_none_or(in_term)
    }

    fn is_due(&self, received: Timestamp, now: Timestamp) -> bool {
        let stays = self.reviewed.is_some_and(|(received_until, until)| received <= received_until && now < until);
        received.plus_ms(u64::from(self.keep_days) * DAY_MS) <= now && !stays
    }
}

impl Retention {
    fn fate(&self, batch: &StoredBatch, index: u16, kind: impl Fn() -> Option<ObservableType>, now: Timestamp) -> Fate<'_> {
        let (head, received) = (&batch.head, batch.entry.received);
        let past = |from: Timestamp, days: u32| from.plus_ms(u64::from(days) * DAY_MS) <= now;
        if past(head.time, self.content_days) {
            return Fate::Goes("older than this node keeps anything (`retention_days`)");
        }
        match batch.outcome(index) {
            OutcomeLine::Gone => return Fate::Stays,
            OutcomeLine::Judged { ends, .. } if past(ends, self.over_days) => return Fate::Goes("over for long (`over_days`)"),
            OutcomeLine::Judged { judgement, .. } if judgement.verdict == Verdict::Refuse && past(received, self.refused_days) => {
                return Fate::Goes("refused, and nobody thought otherwise (`refused_days`)");
            }
            OutcomeLine::Bad(_) if past(received, self.refused_days) => return Fate::Goes("malformed (`refused_days`)"),
            _ => (),
        }
        let due = self.rules.iter().filter(|rule| rule.is_due(received, now));
        let due: Vec<&RetentionRule> = due.filter(|rule| rule.concerns(head, received, kind())).collect();
        // What one rule lets go is not asked about for another.
        match due.iter().find(|rule| !rule.review).or(due.first()) {
            Some(rule) if rule.review => Fate::Review(rule),
            Some(rule) => Fate::Goes(&rule.name),
            None => Fate::Stays,
        }
    }

    /// Whether anything of a batch may be due, by what its entry says alone.
    fn may_concern(&self, batch: &StoredBatch, now: Timestamp) -> bool {
        let past = |from: Timestamp, days: u32| from.plus_ms(u64::from(days) * DAY_MS) <= now;
        let line = |line: &OutcomeLine| match line {
            OutcomeLine::Gone | OutcomeLine::Absent => false,
            OutcomeLine::Judged { ends, .. } if past(*ends, self.over_days) => true,
            OutcomeLine::Judged { .. } | OutcomeLine::Bad(_) => past(batch.entry.received, self.refused_days),
            _ => past(batch.head.time, self.content_days),
        };
        batch.entry.table.iter().any(line)
            || !batch.later.is_empty()
            || !batch.runs.is_empty()
            || past(batch.head.time, self.content_days)
            || self.rules.iter().any(|rule| rule.is_due(batch.entry.received, now))
    }
}

impl Ledger {
    /// Looks through everything for what has come to its end. `progress` hears how many batches of how many are looked at. Ten million
    /// records take some seconds, and nobody waits for it.
    pub fn survey(&self, retention: &Retention, now: Timestamp, progress: impl FnMut(u64, u64)) -> Result<Due, LedgerError> {
        self.survey_up_to(retention, now, Tlp::Red, progress)
    }

    /// As [`Self::survey`], over batches that are marked up to `clearance`.
    pub fn survey_up_to(
        &self,
        retention: &Retention,
        now: Timestamp,
        clearance: Tlp,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Due, LedgerError> {
        let all = self.batches();
        let (mut due, mut leaving, mut reports) = (Due::default(), HashMap::<(String, u64), BTreeSet<u16>>::new(), Vec::new());
        for number in 0..all {
            progress(number, all);
            let Some(batch) = self.batch(number)?.filter(|batch| batch.head.tlp <= clearance) else { continue };
            if batch.head.class == Class::Removal || batch.aside.is_some() || !retention.may_concern(&batch, now) {
                continue;
            }
            let (feed, seq) = (batch.head.feed(), batch.head.seq);
            let mut goes: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
            let mut asks: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
            for index in 0..batch.head.count {
                let record = batch.record(index);
                if matches!(record, Some(Record::Withdrawal(_) | Record::Renewal(_))) || batch.outcome(index) == OutcomeLine::Gone {
                    continue;
                }
                let kind = || record.as_ref().and_then(value_of).map(|value| value.kind());
                match retention.fate(&batch, index, kind, now) {
                    Fate::Stays => (),
                    // What names it has to go first, or with it.
                    Fate::Goes(why) if matches!(record, Some(Record::Report(_))) => reports.push((batch.reference(index), why.to_owned())),
                    Fate::Goes(why) => goes.entry(why).or_default().push(index),
                    Fate::Review(rule) => {
                        let received = batch.entry.received;
                        let entry = due.review.entry(rule.name.clone());
                        let line = DueLine { rule: rule.name.clone(), records: 0, oldest: received.to_string(), of: BTreeMap::new() };
                        let (line, _) = entry.or_insert_with(|| (line, Vec::new()));
                        line.records += 1;
                        let what = kind().map_or_else(|| "without a value".to_owned(), |kind| kind.to_string());
                        *line.of.entry(format!("{} {what}", batch.head.member)).or_default() += 1;
                        asks.entry(&rule.name).or_default().push(index);
                    }
                }
            }
            for (why, places) in goes {
                leaving.entry((feed.to_string(), seq)).or_default().extend(&places);
                due.erase.entry(why.to_owned()).or_default().push(ErasedPlaces::of(&feed, seq, places));
            }
            for (rule, places) in asks {
                if let Some((_, all)) = due.review.get_mut(rule) {
                    all.push(ErasedPlaces::of(&feed, seq, places));
                }
            }
        }
        progress(all, all);
        for (report, why) in reports {
            if !self.is_named(&report, |batch, index| {
                let leaves = leaving.get(&(report.feed.to_string(), batch.head.seq));
                leaves.is_some_and(|places| places.contains(&index))
            })? {
                due.erase.entry(why).or_default().push(ErasedPlaces::of(&report.feed, report.seq, [report.index]));
            }
        }
        Ok(due)
    }

    /// Whether an indicator that is here, and does not leave, names a report.
    fn is_named(&self, report: &RecordRef, leaves: impl Fn(&StoredBatch, u16) -> bool) -> Result<bool, LedgerError> {
        let mut named = false;
        self.each_indicator_of(report, |batch, index| {
            named |= !leaves(batch, index);
            !named
        })?;
        Ok(named)
    }

    /// Visits every indicator that names a report, for as long as `visit` says to go on.
    pub fn each_indicator_of(&self, report: &RecordRef, mut visit: impl FnMut(&StoredBatch, u16) -> bool) -> Result<(), LedgerError> {
        let Some((first, last)) = self.naming(report)? else { return Ok(()) };
        let spans = self.feed(&report.feed).map(|state| state.spans).unwrap_or_default();
        for seq in spans.iter().skip_while(|seq| *seq < first).take_while(|seq| *seq <= last) {
            let Some(batch) = self.batch_at(&report.feed, seq)? else { continue };
            for index in 0..batch.head.count {
                let Some(Record::Indicator(Indicator { report: Some(named), .. })) = batch.record(index) else { continue };
                if named.resolve(&report.feed, seq).as_ref() == Some(report) && !visit(&batch, index) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What authors took back as `legal` or `over-shared`, and what stands under it: the indicators of a report go with it.
    pub fn taken_back(&self) -> Result<Vec<ErasedPlaces>, LedgerError> {
        let (mut places, mut reports) = (BTreeSet::new(), 0);
        for record in self.to_erase()? {
            // A feed that does not count, such as one behind its pin, erases nothing.
            if !self.withdrawn_by(&record)?.iter().any(|by| self.counts(by)) {
                continue;
            }
            if self.naming(&record)?.is_some() {
                reports += 1;
                if reports > REPORTS_AT_ONCE {
                    continue;
                }
                self.each_indicator_of(&record, |batch, index| {
                    places.insert(batch.reference(index));
                    true
                })?;
            }
            for waiting in self.waiting_for(&record, WAITING_MAX)? {
                places.extend(self.batch(waiting.batch)?.map(|batch| batch.reference(waiting.index)));
            }
            places.insert(record);
        }
        Ok(grouped(places))
    }

    /// Whether the batch of a record is here and counts.
    fn counts(&self, record: &RecordRef) -> bool {
        self.batch_at(&record.feed, record.seq).ok().flatten().is_some_and(|batch| batch.aside.is_none())
    }

    /// Bytes of journal, state and index on the disk.
    pub fn disk_bytes(&self) -> u64 {
        ["journal", "state", "index"].iter().map(|name| bytes_in(&self.shared.directory.join(name))).sum()
    }

    /// What has to go so that the ledger is smaller than `bytes_max`: what was refused, then what is over, then the oldest of the rest,
    /// reports and what `own` has published aside. Empty if there is room.
    pub fn to_evict(&self, bytes_max: u64, own: &MemberId, now: Timestamp) -> Result<Vec<ErasedPlaces>, LedgerError> {
        let used = self.disk_bytes();
        let Some(over) = used.checked_sub(bytes_max).filter(|over| *over > 0) else { return Ok(Vec::new()) };
        let wanted = over + bytes_max / 100 * SPARE_PERCENT;
        let (mut records, mut order): (u64, [Vec<(ErasedPlaces, u64)>; 3]) = (0, Default::default());
        for number in 0..self.batches() {
            let Some(batch) = self.batch(number)? else { continue };
            if batch.head.class == Class::Removal || batch.aside.is_some() || batch.head.member == *own {
                continue;
            }
            let mut places: [Vec<u16>; 3] = Default::default();
            for index in 0..batch.head.count {
                let rank = match batch.outcome(index) {
                    OutcomeLine::Gone | OutcomeLine::Absent => continue,
                    OutcomeLine::Judged { judgement, .. } if judgement.verdict == Verdict::Refuse => 0,
                    OutcomeLine::Judged { ends, .. } if ends <= now => 1,
                    _ => 2,
                };
                records += 1;
                if !matches!(batch.record(index), Some(Record::Report(_) | Record::Withdrawal(_) | Record::Renewal(_)))
                    && let Some(places) = places.get_mut(rank)
                {
                    places.push(index);
                }
            }
            for (places, order) in places.into_iter().zip(&mut order).filter(|(places, _)| !places.is_empty()) {
                let count = places.len() as u64;
                order.push((ErasedPlaces::of(&batch.head.feed(), batch.head.seq, places), count));
            }
        }
        // What a record takes, index and all, is what records take on average.
        let each = (used / records.max(1)).max(1);
        let mut freed = 0;
        let enough = |(_, count): &(ErasedPlaces, u64)| {
            let before = freed;
            freed += count * each;
            before < wanted
        };
        Ok(order.into_iter().flatten().take_while(enough).map(|(places, _)| places).collect())
    }
}

/// Records by their batches; they rise.
pub fn grouped(records: impl IntoIterator<Item = RecordRef>) -> Vec<ErasedPlaces> {
    let mut by_batch: BTreeMap<(crate::record::FeedId, u64), BTreeSet<u16>> = BTreeMap::new();
    for record in records {
        by_batch.entry((record.feed, record.seq)).or_default().insert(record.index);
    }
    by_batch.into_iter().map(|((feed, seq), places)| ErasedPlaces::of(&feed, seq, places)).collect()
}

/// Bytes of the files in a directory, as the disk holds them; a file with two names counts once.
fn bytes_in(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let (mut bytes, mut seen, mut waiting) = (0, HashSet::new(), vec![directory.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(entry.path()),
                Ok(metadata) if seen.insert(metadata.ino()) => bytes += metadata.blocks() * 512,
                _ => (),
            }
        }
    }
    bytes
}
