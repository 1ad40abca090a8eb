//! Verdicts at the door that come after the record: when policies change, when a person decides, when time is over.
//!
//! Each is a journal entry of its own; what was decided first stays beside it.

use super::{Door, DoorError};
use crate::{
    envelope::Hash,
    intake::Matter,
    ledger::{JudgedEntry, JudgedPlace, JudgedRuns, OutcomeLine, Place, PolicyEntry, RenewedReport, StoredBatch},
    node::rules::Rules,
    policy::{Judgement, Verdict},
    query::{As, Reading, Renewal},
    record::{DAY_MS, FeedId, RecordRef, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Held records looked at in one go; the door has other things to do.
const HELD_CHUNK: usize = 512;
/// Batches whose indicators get their new end in one go, when their report was renewed: 4,096 records, some 15 ms.
const RENEWED_BATCHES: usize = 16;
/// Pages of held records that are looked through for those whose time is over, at a time.
const HELD_PAGES_MAX: usize = 16;
impl Door {
    /// Puts policies and lists in force that were read anew.
    pub(super) fn take_rules(&mut self, rules: Rules) -> Result<(), DoorError> {
        let Rules { policy, lists, alarms, notes: _ } = rules;
        if policy.hash() != self.current.get().policy.hash() {
            let entry = PolicyEntry { at: self.clock.now(), hash: policy.hash(), pieces: policy.pieces().to_vec() };
            self.writer.keep_policy(entry)?;
            self.writer.commit()?;
        }
        self.current.set_rules(policy, lists);
        self.current.set_alarms(alarms);
        self.rejudging = Some(Place { batch: 0, index: 0 });
        if let Some(enforcer) = &self.enforcer {
            enforcer.look_at_everything();
        }
        Ok(())
    }

    /// Judges some more of what is held again, if the policies changed.
    pub fn rejudge_held(&mut self) -> Result<(), DoorError> {
        if self.clock.moment().doubted {
            // It begins again when the doubt has ended.
            self.rejudging = None;
            self.uncertain = true;
        }
        let Some(from) = self.rejudging else { return Ok(()) };
        let places = self.ledger().held(from, HELD_CHUNK)?;
        let records = self.names(&places)?;
        self.rejudge(&records, As::Now, None)?;
        // The place after the last one looked at.
        self.rejudging = places.last().map(|last| last.next());
        Ok(self.writer.commit()?)
    }

    /// Puts off, or brings back, the end of what stands under reports that were renewed or are so no more: some of it. Answers whether there
    /// is more.
    pub fn carry_out_renewals(&mut self) -> Result<bool, DoorError> {
        self.renewing.add(self.writer.take_renewed());
        let Some((report, from)) = self.renewing.next() else { return Ok(false) };
        let (intake, ledger, now) = (self.current.get(), self.ledger(), self.clock.now());
        if from == 0 {
            // As it was remembered a renewal that was taken back may still count.
            ledger.forget_report(&report);
        }
        let Renewal { verdicts, next } = Reading::whole(&ledger, now).renewed(&intake, &report, from, RENEWED_BATCHES)?;
        let mut later = Later::new(now, None, intake.policy.hash());
        later.put_runs(&report.feed, verdicts);
        let once_more = next.is_none() && self.renewing.once_more.remove(&report);
        later.entry.renewed = Some(RenewedReport { report: report.to_string(), done: next.is_none() && !once_more });
        if next.is_none() || !later.entry.runs.is_empty() {
            self.writer.keep_judged(later.entry())?;
            self.writer.commit()?;
            self.untold = true;
        }
        // Each in its turn: nobody's report waits until another's, which is renewed again and again, is done.
        if let Some(next) = next.or(once_more.then_some(0)) {
            self.renewing.go_on(report, next);
        }
        Ok(!self.renewing.is_empty())
    }

    pub(super) fn names(&self, places: &[Place]) -> Result<Vec<RecordRef>, DoorError> {
        let (ledger, mut batch, mut names) = (self.ledger(), None, Vec::new());
        for place in places {
            if batch.as_ref().is_none_or(|one: &StoredBatch| one.number != place.batch) {
                batch = ledger.batch(place.batch)?;
            }
            let Some(batch) = batch.as_ref().filter(|batch| batch.aside.is_none()) else { continue };
            // A feed that went on elsewhere has another record under this name; one that was rewritten out has none.
            let same = ledger.batch_number(&batch.head.feed(), batch.head.seq)? == Some(place.batch);
            if same && batch.record(place.index).is_some() {
                names.push(batch.reference(place.index));
            }
        }
        Ok(names)
    }

    /// Judges records again; journals what changed. Answers how much.
    pub(super) fn rejudge(&mut self, records: &[RecordRef], at: As, by: Option<String>) -> Result<usize, DoorError> {
        let (intake, ledger, now) = (self.current.get(), self.ledger(), self.clock.now());
        let mut later = Later::new(now, by, intake.policy.hash());
        let (mut reading, doubted) = (Reading::whole(&ledger, now), self.clock.moment().doubted);
        for record in records {
            let line = match reading.judged_again(&intake, record, at)? {
                Some(OutcomeLine::Judged { judgement, ends }) if doubted && judgement.verdict == Verdict::Accept => {
                    Some(OutcomeLine::Judged { judgement: Matter::unsure_time(), ends })
                }
                line => line,
            };
            if let Some(line) = line {
                later.put(record, line);
            }
        }
        let count = later.count();
        if count > 0 {
            self.writer.keep_judged(later.entry())?;
        }
        Ok(count)
    }

    /// What a person, or time, decides about records that are held. Answers how many were.
    pub(super) fn decide(&mut self, records: &[RecordRef], decision: &Judgement, by: Option<String>) -> Result<usize, DoorError> {
        let (ledger, now) = (self.ledger(), self.clock.now());
        let mut later = Later::new(now, by, self.current.get().policy.hash());
        for record in records {
            let Some(batch) = ledger.batch_at(&record.feed, record.seq)? else { continue };
            let OutcomeLine::Judged { judgement, ends } = batch.outcome(record.index) else { continue };
            if judgement.verdict == Verdict::Hold {
                later.put(record, OutcomeLine::Judged { judgement: decision.clone(), ends });
            }
        }
        let count = later.count();
        if count > 0 {
            self.writer.keep_judged(later.entry())?;
        }
        Ok(count)
    }

    /// Refuses what was held too long.
    pub(super) fn expire_held(&mut self) -> Result<(), DoorError> {
        let (ledger, now, days) = (self.ledger(), self.clock.moment().earliest, self.current.get().limits.hold_days);
        let (mut over, mut from) = (Vec::new(), Place { batch: 0, index: 0 });
        // What was set aside stays in the queue and decides nothing: past it.
        for _page in 0..HELD_PAGES_MAX {
            let places = ledger.held(from, HELD_CHUNK)?;
            let Some(last) = places.last() else { break };
            from = last.next();
            // They stand in the order in which they came.
            let mut old = Vec::new();
            for place in &places {
                let received = ledger.batch(place.batch)?.map_or(now, |batch| batch.entry.received);
                if now.ms_since(received) >= u64::from(days) * DAY_MS {
                    old.push(*place);
                }
            }
            over.extend(self.names(&old)?);
            if old.len() < places.len() || over.len() >= HELD_CHUNK {
                break;
            }
        }
        if !over.is_empty() {
            let reason = format!("it was held for {days} days, and nobody decided");
            let count = self.decide(&over, &Judgement::by_rule(Verdict::Refuse, "held-too-long", reason), None)?;
            tracing::warn!(count, days, "records were held for so long that they are refused now");
        }
        Ok(())
    }
}

/// Reports whose indicators are being given another end.
#[derive(Default)]
pub(super) struct Renewing {
    turns: VecDeque<RecordRef>,
    /// The batch with which each goes on.
    from: BTreeMap<RecordRef, u64>,
    /// Those that were renewed once more while they were at it.
    once_more: BTreeSet<RecordRef>,
}

impl Renewing {
    /// One that is being carried out goes to its end first: whoever renews it all the time must not keep it from that.
    pub fn add(&mut self, reports: impl IntoIterator<Item = RecordRef>) {
        for report in reports {
            match self.from.get(&report) {
                Some(0) => (),
                Some(_) => drop(self.once_more.insert(report)),
                None => self.go_on(report, 0),
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    fn next(&mut self) -> Option<(RecordRef, u64)> {
        let report = self.turns.pop_front()?;
        let from = self.from.remove(&report)?;
        Some((report, from))
    }

    fn go_on(&mut self, report: RecordRef, from: u64) {
        self.from.insert(report.clone(), from);
        self.turns.push_back(report);
    }
}

/// Later verdicts, gathered for one journal entry.
struct Later {
    entry: JudgedEntry,
}

impl Later {
    fn new(at: Timestamp, by: Option<String>, policy: Hash) -> Self {
        Self { entry: JudgedEntry { at, by, policy, table: Vec::new(), places: Vec::new(), runs: Vec::new(), renewed: None } }
    }

    fn line(&mut self, line: OutcomeLine) -> u16 {
        let known = self.entry.table.iter().position(|one| *one == line);
        let number = known.unwrap_or_else(|| {
            self.entry.table.push(line);
            self.entry.table.len() - 1
        });
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    fn put(&mut self, record: &RecordRef, line: OutcomeLine) {
        let line = self.line(line);
        self.entry.places.push(JudgedPlace { record: record.to_string(), line });
    }

    /// Verdicts on places of one feed, which rise within a batch.
    fn put_runs(&mut self, feed: &FeedId, verdicts: impl IntoIterator<Item = (u64, u16, OutcomeLine)>) {
        let feed = feed.to_string();
        let mut batches: BTreeMap<u64, Vec<(u16, u16, u16)>> = BTreeMap::new();
        for (seq, index, line) in verdicts {
            let line = self.line(line);
            let runs = batches.entry(seq).or_default();
            match runs.last_mut() {
                Some((first, count, of)) if *of == line && first.checked_add(*count) == Some(index) => *count += 1,
                _ => runs.push((index, 1, line)),
            }
        }
        self.entry.runs.extend(batches.into_iter().map(|(seq, runs)| JudgedRuns { feed: feed.clone(), seq, runs }));
    }

    fn count(&self) -> usize {
        self.entry.places.len()
    }

    fn entry(self) -> JudgedEntry {
        self.entry
    }
}
