//! Since: what of the ledger is other than it was, for those who were given all of it before.
//!
//! ```text
//! cursor (a position of the journal, and whose) -scan-> Change: a batch, a record, a whole feed
//! ```
//!
//! Positions never change meaning, and everything that changes how a record stands is a journal entry but two: an end that
//! comes, which whoever was given the record knows, and an operator's orders, which are about values.

use super::{Entry, Ledger, LedgerError, Position, State, stored_head};
use crate::record::{FeedId, RecordRef};

/// Something that is other than it was. The same may be told more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A batch came, or more of one, by its number.
    Batch(u64),
    /// A record was judged anew.
    Record(RecordRef),
    /// A feed, or part of it, was set aside or counts again.
    Feed(FeedId),
    /// So many records were erased: there is nothing left by which to name them.
    Erased(u64),
}

/// A text that is no cursor of this ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cursor of this ledger as it is now; take everything once more, and go on from the cursor that comes with it")]
pub struct NoCursor(String);

impl Ledger {
    /// Where one goes on who has read everything up to now.
    pub fn cursor(&self) -> Result<String, LedgerError> {
        Ok(format!("c{}-{}", self.state(State::position)?, self.mark()))
    }

    /// What [`Self::cursor`] said once, if this is still that ledger.
    pub fn read_cursor(&self, text: &str) -> Result<Position, NoCursor> {
        let read = |text: &str| text.strip_prefix('c')?.split_once('-').map(|(at, mark)| (at.parse().ok(), mark.to_owned()));
        let end = self.state(State::position).unwrap_or_default();
        match read(text) {
            Some((Some(at), mark)) if mark == self.mark() && at <= end => Ok(at),
            _ => Err(NoCursor(crate::record::excerpt(text))),
        }
    }

    fn mark(&self) -> &str {
        self.shared.store_id.get(..8).unwrap_or_default()
    }

    /// Visits what has changed from a position on, in the order in which it did.
    pub fn each_change(&self, from: Position, mut visit: impl FnMut(Change) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        let end = self.state(State::position)?;
        self.shared.journal.scan(from, end, |_, payload| match Entry::decode(payload)? {
            Entry::Batch(batch) | Entry::Filled(batch) => {
                let head = stored_head(&batch.head)?;
                // By its place: one that was set aside since stands there no more, and its feed is told.
                self.batch_number(&head.feed(), head.seq)?.map_or(Ok(()), |number| visit(Change::Batch(number)))
            }
            Entry::Judged(entry) => {
                let singly = entry.places.iter().filter_map(|place| place.record.parse().ok());
                let in_runs = entry.runs.iter().filter_map(|batch| Some((batch.feed.parse::<FeedId>().ok()?, batch)));
                let in_runs = in_runs.flat_map(|(feed, batch)| {
                    let indexes = batch.runs.iter().flat_map(|(first, count, _)| *first..first.saturating_add(*count));
                    indexes.map(move |index| RecordRef { feed: feed.clone(), seq: batch.seq, index })
                });
                singly.chain(in_runs).try_for_each(|record| visit(Change::Record(record)))
            }
            Entry::Quarantine(entry) => entry.feed.parse().map_or(Ok(()), |feed| visit(Change::Feed(feed))),
            Entry::Proof(bytes) => crate::charter::equivocation_heads(&bytes).map_or(Ok(()), |[one, _]| visit(Change::Feed(one.feed()))),
            Entry::Erasure(entry) => visit(Change::Erased(entry.places.iter().map(|places| places.records().count() as u64).sum())),
            _ => Ok(()),
        })
    }
}
