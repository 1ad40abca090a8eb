//! Since: what of the ledger is other than it was, for those who were given all of it before.
//!
//! ```text
//! cursor (a position of the journal, whose, and what stands before it) -scan-> Change: a batch, a record, a whole feed
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
    /// Where one goes on who has read everything up to now.
    pub fn cursor(&self) -> Result<String, LedgerError> {
        let (end, newest) = self.state(|state| Ok::<_, LedgerError>((state.position()?, state.newest()?)))?;
        let (newest, check) = match newest {
            Some(newest) => (newest, crc32c::crc32c(&self.shared.journal.read(newest)?)),
            None => (end, 0),
        };
        Ok(format!("c{end}-{newest}-{}-{check:08x}", self.mark()))
    }

    /// The same for one who has read up to a place of the journal. Before the end it names no entry, and so no past.
    pub fn cursor_at(&self, position: Position) -> Result<String, LedgerError> {
        match self.here()? == position {
            true => self.cursor(),
            false => Ok(format!("c{position}-{position}-{}-00000000", self.mark())),
        }
    }

    /// Where the next entry will stand.
    pub fn here(&self) -> Result<Position, LedgerError> {
        self.state(State::position)
    }

    /// What [`Self::cursor`] said once, if this is still that ledger with that past: one that was restored from a copy has another.
    pub fn read_cursor(&self, text: &str) -> Result<Position, NoCursor> {
        self.position_of(text).ok_or_else(|| NoCursor(crate::record::excerpt(text)))
    }

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

    /// A position behind which everything stands that was taken in from `time` on, and perhaps a little from before.
    pub fn position_at(&self, time: Timestamp) -> Result<Position, LedgerError> {
        // Batches are numbered as they came.
        let (mut low, mut high) = (0, self.batches());
        while low < high {
            let middle = low + (high - low) / 2;
            let before = self.batch(middle)?.is_some_and(|batch| batch.entry.received < time);
            if before { low = middle + 1 } else { high = middle }
        }
        match low.checked_sub(1) {
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

    /// Visits what has changed from a position on, in the order in which it did.
    pub fn each_change(&self, from: Position, mut visit: impl FnMut(Change) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        let end = self.state(State::position)?;
        self.shared.journal.scan(from, end, |_, payload| self.changes_of(Entry::decode(payload)?, &mut |_, change| visit(change)))
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
