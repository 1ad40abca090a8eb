//! Verdicts at the door that come after the record: when policies change, when a person decides, when time is over.
//!
//! Each is a journal entry of its own; what was decided first stays beside it.

use super::{Door, DoorError};
use crate::{
    envelope::Hash,
    ledger::{JudgedEntry, JudgedPlace, OutcomeLine, Place, PolicyEntry, StoredBatch},
    node::rules::Rules,
    policy::{Judgement, Verdict},
    query::{As, Reading},
    record::{DAY_MS, RecordRef, Timestamp},
};

/// Held records looked at in one go; the door has other things to do.
const HELD_CHUNK: usize = 512;
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
        let Some(from) = self.rejudging else { return Ok(()) };
        let places = self.ledger().held(from, HELD_CHUNK)?;
        let records = self.names(&places)?;
        self.rejudge(&records, As::Now, None)?;
        // The place after the last one looked at.
        self.rejudging = places.last().map(|last| last.next());
        Ok(self.writer.commit()?)
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
        let mut reading = Reading::new(&ledger, now);
        for record in records {
            if let Some(line) = reading.judged_again(&intake, record, at)? {
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
        let (ledger, now, days) = (self.ledger(), self.clock.now(), self.current.get().limits.hold_days);
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

/// Later verdicts, gathered for one journal entry.
struct Later {
    entry: JudgedEntry,
}

impl Later {
    fn new(at: Timestamp, by: Option<String>, policy: Hash) -> Self {
        Self { entry: JudgedEntry { at, by, policy, table: Vec::new(), places: Vec::new() } }
    }

    fn put(&mut self, record: &RecordRef, line: OutcomeLine) {
        let known = self.entry.table.iter().position(|one| *one == line);
        let number = known.unwrap_or_else(|| {
            self.entry.table.push(line);
            self.entry.table.len() - 1
        });
        let line = u16::try_from(number).unwrap_or(u16::MAX);
        self.entry.places.push(JudgedPlace { record: record.to_string(), line });
    }

    fn count(&self) -> usize {
        self.entry.places.len()
    }

    fn entry(self) -> JudgedEntry {
        self.entry
    }
}
