//! Since: what changed in the ledger behind a position of the journal. [`super::view`] is for readers with a clearance.
//!
//! ```text
//! position -scan-> entry -> Change: a batch, a record, a whole feed
//! ```
//!
//! Positions never change meaning, and everything that changes how a record stands is a journal entry but two: an end that
//! comes, which whoever was given the record knows, and an operator's orders, which are about values.

use super::{Entry, ErasedBy, FRAME_HEAD_BYTES, Ledger, LedgerError, Position, State, stored_head};
use crate::record::{FeedId, RecordRef, Timestamp};

/// Something that is other than it was. The same may be told more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A batch came, or more of one, by its number.
    Batch(u64),
    /// A record was judged anew.
    Record(RecordRef),
    /// A feed, or part of it, was set aside or counts again.
    Feed(FeedId),
    /// Records were erased: there is nothing left by which to name them.
    Erased,
}

/// Bytes of the journal that are looked through at once.
const CHANGES_BYTES: u64 = 4 * 1024 * 1024;

/// What one entry of the journal changed.
#[derive(Clone, Debug)]
pub struct EntryChanges {
    pub position: Position,
    /// When it was taken in, where that is known.
    pub at: Option<Timestamp>,
    pub changes: Vec<Change>,
}

/// How many of `count` numbered things `before` holds for, if it holds for the first ones and not for the others.
pub(super) fn count_before(count: u64, mut before: impl FnMut(u64) -> Result<bool, LedgerError>) -> Result<u64, LedgerError> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// A text that is no cursor of this ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cursor of this ledger as it is now; take everything once more, and go on from the cursor that comes with it")]
pub struct NoCursor(String);

impl NoCursor {
    pub(super) fn of(text: String) -> Self {
        Self(text)
    }
}

impl Ledger {
    /// Where the next entry will stand.
    pub fn here(&self) -> Result<Position, LedgerError> {
        self.state(State::position)
    }

    /// Reads a cursor of an older version, a place of the journal; `None` if this is another ledger, or one with another past.
    pub(super) fn position_of(&self, text: &str) -> Option<Position> {
        // What events add to it is about ends, which are no entries.
        let text = text.split_once('@').map_or(text, |(cursor, _)| cursor);
        let [end, newest, mark, check] = text.strip_prefix('c')?.split('-').collect::<Vec<_>>()[..] else { return None };
        let (end, newest): (Position, Position) = (end.parse().ok()?, newest.parse().ok()?);
        if mark != self.mark() || end > self.state(State::position).ok()? {
            return None;
        }
        if newest == end {
            return (check == "00000000" && self.is_place(end)).then_some(end);
        }
        let payload = self.shared.journal.read(newest).ok()?;
        let same = newest + (FRAME_HEAD_BYTES + payload.len()) as Position == end && check == format!("{:08x}", crc32c::crc32c(&payload));
        same.then_some(end)
    }

    /// The number of the first batch that came at `time` or later. Numbers rise with time.
    pub fn first_since(&self, time: Timestamp) -> Result<u64, LedgerError> {
        count_before(self.batches(), |number| Ok(self.batch(number)?.is_some_and(|batch| batch.entry.received < time)))
    }

    /// The number of the first batch at or behind `position`. Numbers rise with positions.
    pub(super) fn number_at(&self, position: Position) -> Result<u64, LedgerError> {
        count_before(self.batches(), |number| Ok(self.state(|state| state.batch(number))?.is_some_and(|info| info.position < position)))
    }

    /// A position behind which everything stands that was taken in from `time` on, and perhaps a little from before.
    pub fn position_at(&self, time: Timestamp) -> Result<Position, LedgerError> {
        match self.first_since(time)?.checked_sub(1) {
            Some(last) => Ok(self.state(|state| state.batch(last))?.map_or(0, |info| info.position)),
            None => Ok(0),
        }
    }

    /// Where the entry of a batch stands, by its number.
    pub fn batch_position(&self, number: u64) -> Result<Option<Position>, LedgerError> {
        Ok(self.state(|state| state.batch(number))?.map(|info| info.position))
    }

    /// Whether an entry begins there, or the next one will.
    pub fn is_place(&self, position: Position) -> bool {
        self.state(State::position).is_ok_and(|end| end == position) || self.shared.journal.read(position).is_ok()
    }

    /// A short name of this ledger, for what is handed out and comes back.
    pub fn mark(&self) -> &str {
        self.shared.store_id.get(..8).unwrap_or_default()
    }

    /// What entries say that stand from a position on, some of them: each with its position, time and changes. Answers where to go on, and
    /// whether there is more: what came while this was read stands behind that place, and not behind the end of now.
    pub fn changes_from(&self, from: Position) -> Result<(Vec<EntryChanges>, (Position, bool)), LedgerError> {
        let end = self.state(State::position)?;
        let (to, mut found, mut next) = (end.min(from.saturating_add(CHANGES_BYTES)), Vec::new(), from);
        self.shared.journal.scan(from, to, |position, payload| {
            next = position + (FRAME_HEAD_BYTES + payload.len()) as Position;
            let mut entry = EntryChanges { position, at: None, changes: Vec::new() };
            self.changes_of(Entry::decode(payload)?, &mut |at, change| {
                entry.at = entry.at.max(at);
                entry.changes.push(change);
                Ok(())
            })?;
            if !entry.changes.is_empty() {
                found.push(entry);
            }
            Ok(())
        })?;
        let reached = next.max(to).max(from);
        Ok((found, (reached, reached < end)))
    }

    pub(super) fn changes_of(
        &self,
        entry: Entry,
        visit: &mut dyn FnMut(Option<Timestamp>, Change) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        match entry {
            Entry::Batch(batch) | Entry::Filled(batch) => {
                let head = stored_head(&batch.head)?;
                // By its place: one that was set aside since stands there no more, and its feed is told.
                let number = self.batch_number(&head.feed(), head.seq)?;
                number.map_or(Ok(()), |number| visit(Some(batch.received), Change::Batch(number)))
            }
            Entry::Judged(entry) => {
                let singly = entry.places.iter().filter_map(|place| place.record.parse().ok());
                let in_runs = entry.runs.iter().filter_map(|batch| Some((batch.feed.parse::<FeedId>().ok()?, batch)));
                let in_runs = in_runs.flat_map(|(feed, batch)| {
                    let indexes = batch.runs.iter().flat_map(|(first, count, _)| *first..first.saturating_add(*count));
                    indexes.map(move |index| RecordRef { feed: feed.clone(), seq: batch.seq, index })
                });
                singly.chain(in_runs).try_for_each(|record| visit(Some(entry.at), Change::Record(record)))
            }
            Entry::Quarantine(entry) => entry.feed.parse().map_or(Ok(()), |feed| visit(Some(entry.at), Change::Feed(feed))),
            Entry::Proof(bytes) => {
                crate::charter::equivocation_heads(&bytes).map_or(Ok(()), |[one, _]| visit(None, Change::Feed(one.feed())))
            }
            // What only grew old, or made room, says nothing of what it said.
            Entry::Erasure(entry) if matches!(entry.because, ErasedBy::Retention | ErasedBy::Room) => Ok(()),
            Entry::Erasure(entry) => visit(Some(entry.at), Change::Erased),
            _ => Ok(()),
        }
    }
}
