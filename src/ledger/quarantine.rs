//! Quarantine: what of a feed does not count, and how it comes back or goes.
//!
//! Every step is a journal entry, so a rebuild ends in the same place. Batches that do not chain to a pin are taken out of
//! their feed, which then goes on from the pin; they stay in the journal, listed, until an operator releases or drops them.

use super::{
    Aside, BatchInfo, Entry, Erased, ErasedBy, ErasureEntry, FeedState, Ledger, LedgerError, Level, Place, Position, QuarantineEntry,
    QuarantineStep, SeenFeed, StoredBatch, Writer, count, level_of,
};
use crate::{
    ledger::Counts,
    record::{FeedId, Record, RecordRef, Timestamp, Tlp},
};

/// What is aside of one feed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct AsideLine {
    pub feed: String,
    /// First and last seq.
    pub first: u64,
    pub last: u64,
    pub batches: u64,
    pub records: u64,
    pub why: String,
    /// An operator has dropped it for good.
    pub dropped: bool,
}

/// Most batches looked at for a list.
const LIST_BATCHES_MAX: usize = 100_000;

impl Ledger {
    /// Batches of a feed that were taken out of it, by number.
    pub fn aside_batches(&self, feed: &FeedId) -> Result<Vec<u64>, LedgerError> {
        Ok(self.state(|state| state.aside(feed))?.into_iter().map(|(_, number)| number).collect())
    }

    /// Where a record stands that was set aside, if it was.
    pub fn aside_at(&self, record: &RecordRef) -> Result<Option<Place>, LedgerError> {
        let aside = self.state(|state| state.aside(&record.feed))?;
        let number = aside.into_iter().rev().find(|(seq, _)| *seq == record.seq).map(|(_, number)| number);
        Ok(number.map(|batch| Place { batch, index: record.index }))
    }

    /// Quarantined feeds and batches, all of them.
    pub fn quarantine(&self) -> Result<Vec<AsideLine>, LedgerError> {
        self.quarantine_up_to(Tlp::Red)
    }

    /// Quarantined feeds and batches that are marked up to `clearance`.
    pub fn quarantine_up_to(&self, clearance: Tlp) -> Result<Vec<AsideLine>, LedgerError> {
        let mut lines: Vec<AsideLine> = Vec::new();
        for seen in self.view(clearance).feeds() {
            // What an agreement's end purged is told by `agreements`.
            if let Some(aside) = seen.aside.filter(|aside| !matches!(aside, Aside::Purged | Aside::Erased)) {
                let SeenFeed { feed, first, last, batches, counts, .. } = seen;
                let (feed, why, records) = (feed.to_string(), aside.sentence().to_owned(), counts.total());
                lines.push(AsideLine { feed, first, last, batches, records, why, dropped: false });
            }
        }
        for number in self.state(|state| state.all_aside(LIST_BATCHES_MAX))? {
            let Some(batch) = self.batch(number)?.filter(|batch| batch.head.tlp <= clearance) else { continue };
            let (feed, aside) = (batch.head.feed().to_string(), batch.aside.unwrap_or(Aside::PinnedAway));
            let (seq, records, dropped) = (batch.head.seq, u64::from(batch.head.count), aside == Aside::Dropped);
            match lines.iter_mut().find(|line| line.feed == feed && line.why == aside.sentence()) {
                Some(line) => {
                    (line.first, line.last) = (line.first.min(seq), line.last.max(seq));
                    (line.batches, line.records) = (line.batches + 1, line.records + records);
                }
                None => {
                    let why = aside.sentence().to_owned();
                    lines.push(AsideLine { feed, first: seq, last: seq, batches: 1, records, why, dropped });
                }
            }
        }
        Ok(lines)
    }
}

impl Writer {
    /// Takes one step in a feed's quarantine. What was taken in before is committed first.
    pub fn quarantine(&mut self, feed: &FeedId, step: QuarantineStep, at: Timestamp, by: Option<String>) -> Result<(), LedgerError> {
        self.commit()?;
        let entry = QuarantineEntry { feed: feed.to_string(), step, at, by };
        let position = self.journal.append(&Entry::Quarantine(entry.clone()).encode())?;
        self.note_quarantine(&entry, position)
    }

    /// Erases what a feed has said under an agreement that has ended, and journals the receipt: how much it was. The receipt comes last, so
    /// that a crash between leaves the work to be done again.
    pub fn erase_feed(&mut self, feed: &FeedId, text: &str, at: Timestamp) -> Result<(), LedgerError> {
        let places = self.places_of_feed(feed)?;
        let entry = ErasureEntry { at, by: None, because: ErasedBy::Agreement, text: text.to_owned(), places, decisions: Vec::new() };
        let Erased { records, batches } = self.erase(&entry)?;
        self.quarantine(feed, QuarantineStep::Erase { batches, records }, at, None)?;
        self.commit()
    }

    pub(super) fn note_quarantine(&mut self, entry: &QuarantineEntry, position: Position) -> Result<(), LedgerError> {
        let damaged = |_| LedgerError::Damaged(format!("a quarantine entry names `{}`, which is no feed", entry.feed));
        let feed: FeedId = entry.feed.parse().map_err(damaged)?;
        self.touch(|touched| touched.feed(&feed));
        self.note_feed_changed(&feed, position);
        // What a report lends stands and falls with its feed.
        self.ledger.forget_reports();
        match entry.step {
            QuarantineStep::Detach { from } => self.detach(&feed, from)?,
            QuarantineStep::Await => self.set_feed_aside(&feed, Some(Aside::AwaitsPin)),
            QuarantineStep::Clear => self.set_feed_aside(&feed, None),
            QuarantineStep::Release => {
                self.set_feed_aside(&feed, None);
                self.change_aside(&feed, None)?;
            }
            QuarantineStep::Purge => self.set_feed_aside(&feed, Some(Aside::Purged)),
            QuarantineStep::Erase { .. } => self.set_feed_aside(&feed, Some(Aside::Erased)),
            QuarantineStep::Drop => self.change_aside(&feed, Some(Aside::Dropped))?,
        }
        Ok(())
    }

    pub(super) fn set_feed_aside(&mut self, feed: &FeedId, aside: Option<Aside>) {
        let state = self.changes.feeds.get(feed).cloned().or_else(|| self.ledger.feed(feed));
        if let Some(mut state) = state {
            state.aside = aside;
            self.changes.feeds.insert(feed.clone(), state);
        }
    }

    fn change_aside(&mut self, feed: &FeedId, aside: Option<Aside>) -> Result<(), LedgerError> {
        for (_, number) in self.ledger.state(|state| state.aside(feed))? {
            if let Some(info) = self.ledger.state(|state| state.batch(number))? {
                self.changes.set_aside(number, &BatchInfo { aside, ..info }, feed);
            }
        }
        Ok(())
    }

    /// Gives each marking the last of its batches before `from`; one that has none left goes.
    fn end_levels(&self, feed: &FeedId, state: &mut FeedState, from: u64) -> Result<(), LedgerError> {
        let mut open: Vec<Level> = state.levels.iter().filter(|(_, level)| level.last >= from).map(|(level, _)| *level).collect();
        for seq in state.spans.clone().iter().rev() {
            if open.is_empty() {
                return Ok(());
            }
            let Some(batch) = self.ledger.batch_at(feed, seq)? else { continue };
            let of = level_of(batch.head.tlp);
            if let Some(level) = state.levels.get_mut(&of).filter(|_| open.contains(&of)) {
                (level.last, level.id, level.time) = (seq, batch.entry.id, batch.head.time);
                open.retain(|level| *level != of);
            }
        }
        state.levels.retain(|level, _| !open.contains(level));
        Ok(())
    }

    /// Takes the batches from `from` on out of their feed, which then ends before them. What they withdrew and disputed
    /// stands again.
    fn detach(&mut self, feed: &FeedId, from: u64) -> Result<(), LedgerError> {
        let Some(state) = self.ledger.feed(feed) else { return Ok(()) };
        let mut after = state.clone();
        for seq in state.spans.iter().rev().take_while(|seq| *seq >= from) {
            let Some(number) = self.ledger.state(|state| state.batch_at(feed, seq))? else { continue };
            let Some(info) = self.ledger.state(|state| state.batch(number))? else { continue };
            if let Some(batch) = self.ledger.batch(number)? {
                self.undo(&batch)?;
                after.recount(batch.head.tlp, &counts_of(&batch), &Counts::default());
                if let Some(level) = after.levels.get_mut(&level_of(batch.head.tlp)) {
                    level.batches = level.batches.saturating_sub(1);
                }
                after.withheld = after.withheld.saturating_sub(u64::from(self.ledger.withheld_of(feed, seq)?));
            }
            self.changes.detach(number, &BatchInfo { aside: Some(Aside::PinnedAway), ..info }, feed);
            self.changes.seqs.remove(&(feed.clone(), seq));
        }
        after.spans.remove_span(from, u64::MAX);
        self.end_levels(feed, &mut after, from)?;
        let before = after.spans.last().map(|last| self.ledger.batch_at(feed, last)).transpose()?.flatten();
        match before {
            Some(batch) => {
                let (id, head, time) = (batch.entry.id, batch.entry.head.clone(), batch.head.time);
                self.changes.feeds.insert(feed.clone(), FeedState { id, head, time, aside: None, ..after });
            }
            None => self.changes.ended.push(feed.clone()),
        }
        Ok(())
    }

    fn undo(&mut self, batch: &StoredBatch) -> Result<(), LedgerError> {
        for index in 0..batch.head.count {
            let by = batch.reference(index);
            match batch.record(index) {
                Some(Record::Withdrawal(withdrawal)) => {
                    for target in withdrawal.targets.iter().filter_map(|target| target.resolve(&by.feed, by.seq)) {
                        self.changes.unwithdraw(&target, &by);
                        self.changes.to_erase(&target, false);
                        self.touch(|touched| touched.record(target.clone()));
                    }
                }
                Some(Record::Sighting(_)) => self.changes.undispute(&by),
                Some(Record::Renewal(_)) => self.unrenew(&by),
                _ => (),
            }
        }
        Ok(())
    }
}

fn counts_of(batch: &StoredBatch) -> Counts {
    let mut counts = Counts::default();
    (0..batch.head.count).for_each(|index| count(&mut counts, &batch.outcome(index)));
    counts
}
