//! Ends: which indicators run out, in the order in which they do, for whoever hears of what happens.
//!
//! ```text
//! index rows: the day -batches: the moment-> the earliest ends from a moment on -what came since, by the journal-> those up to now
//! ```

use crate::{
    ledger::{Change, Ledger, LedgerError, OutcomeLine, Place, Position, StoredBatch},
    policy::Verdict,
    record::{Record, SECOND_MS, Timestamp},
};
use std::{collections::BTreeSet, ops::Bound};

/// Ends that are known ahead: some ten megabytes; those behind them are looked for when these have come.
const AHEAD_MAX: usize = 262_144;
/// Rows whose batches are read together, in the order of the ledger.
const ROWS_TOGETHER: usize = 65_536;

/// Readers who have heard everything up to so long ago share one look ahead: it begins that far back, so that none makes another look.
pub const LIVE_MS: u64 = 60 * SECOND_MS;

/// One end: when, and of the record at which place. In this order they are told.
pub type End = (Timestamp, Place);

/// The ends that come next.
#[derive(Debug)]
pub struct Ends {
    ahead: Option<Ahead>,
    most: usize,
}

impl Default for Ends {
    fn default() -> Self {
        Self::knowing(AHEAD_MAX)
    }
}

/// All ends behind `from` and up to `until`.
#[derive(Debug)]
struct Ahead {
    from: End,
    until: End,
    ends: BTreeSet<End>,
    /// Most of them.
    most: usize,
    /// How much of the journal they know of.
    position: Position,
    /// Where the journal ended when they were looked for: what became of whole feeds before that was seen.
    looked: Position,
}

impl Ends {
    /// Knows so many ahead.
    pub fn knowing(most: usize) -> Self {
        Self { ahead: None, most }
    }

    /// The ends behind `told` up to `now`, the earliest first, `most` at most; and up to where these are all.
    ///
    /// Looking ahead reads every row of the index once a day, or once for 262,144 ends. What is withdrawn, renewed or judged otherwise since
    /// is among them: how a record stands is asked when its end is told.
    ///
    /// # Errors
    ///
    /// The ledger could not be read.
    pub fn between(&mut self, ledger: &Ledger, told: End, now: Timestamp, most: usize) -> Result<(Vec<End>, End), LedgerError> {
        if let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.covers(told))
            && !ahead.follow(ledger)?
        {
            self.ahead = None;
        }
        if !self.ahead.as_ref().is_some_and(|ahead| ahead.covers(told)) {
            let back = told.min((now.minus_ms(LIVE_MS), Place { batch: 0, index: 0 }));
            let mut ahead = Ahead::look(ledger, back, now, self.most)?;
            if !ahead.covers(told) && back < told {
                // More ended in that time than is known at once.
                ahead = Ahead::look(ledger, told, now, self.most)?;
            }
            self.ahead = Some(ahead);
        }
        let Some(ahead) = &self.ahead else { return Ok((Vec::new(), told)) };
        let last = ahead.until.min((now, Place::LAST));
        if last <= told {
            return Ok((Vec::new(), told));
        }
        let found: Vec<End> = ahead.ends.range((Bound::Excluded(told), Bound::Included(last))).take(most).copied().collect();
        let up_to = found.last().copied().filter(|_| found.len() == most).unwrap_or(last);
        Ok((found, up_to))
    }
}

impl Ahead {
    /// Whether what follows upon this end is known.
    fn covers(&self, told: End) -> bool {
        self.from <= told && told < self.until
    }

    /// Looks for what ends behind `from`, up to the end of today.
    fn look(ledger: &Ledger, from: End, now: Timestamp, most: usize) -> Result<Self, LedgerError> {
        let today = now.max(from.0).day();
        let mut ahead = Self {
            from,
            until: (last_of(today), Place::LAST),
            ends: BTreeSet::new(),
            most,
            position: ledger.indexed()?,
            looked: ledger.here()?,
        };
        let mut places = Vec::new();
        let mut failed = None;
        ledger.each_row(|_, row| {
            let day = u32::from(row.about.end_day);
            if row.about.indicator && row.about.verdict == Some(Verdict::Accept) && (from.0.day()..=today).contains(&day) {
                places.push(row.place);
            }
            if places.len() >= ROWS_TOGETHER {
                failed = ahead.take(ledger, &mut places).err();
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)?;
        ahead.take(ledger, &mut places)?;
        // What is not in the index yet is in the journal. What became of a feed in the meantime has them looked for again.
        ahead.follow(ledger)?;
        Ok(ahead)
    }

    /// Notes when the records at these places end.
    fn take(&mut self, ledger: &Ledger, places: &mut Vec<Place>) -> Result<(), LedgerError> {
        places.sort_unstable();
        for together in places.chunk_by(|one, other| one.batch == other.batch) {
            let Some(batch) = together.first().map(|place| ledger.batch(place.batch)).transpose()?.flatten() else { continue };
            together.iter().for_each(|place| self.note(*place, &batch));
        }
        places.clear();
        Ok(())
    }

    fn note(&mut self, place: Place, batch: &StoredBatch) {
        let OutcomeLine::Judged { ends, judgement } = batch.outcome(place.index) else { return };
        let end = (ends, place);
        if judgement.verdict != Verdict::Accept || end <= self.from || end > self.until {
            return;
        }
        if !matches!(batch.record(place.index), Some(Record::Indicator(_))) {
            return;
        }
        self.ends.insert(end);
        if self.ends.len() > self.most {
            self.ends.pop_last();
            self.until = self.ends.last().copied().unwrap_or(self.until);
        }
    }

    /// Takes in what came since, or was judged again. Answers whether that could be told from the journal.
    fn follow(&mut self, ledger: &Ledger) -> Result<bool, LedgerError> {
        while ledger.here()? != self.position {
            let (entries, (at, _)) = ledger.changes_from(self.position)?;
            for (entry, change) in entries.iter().flat_map(|entry| entry.changes.iter().map(move |change| (entry, change))) {
                match change {
                    Change::Batch(number) => {
                        if let Some(batch) = ledger.batch(*number)? {
                            (0..batch.head.count).for_each(|index| self.note(Place { batch: *number, index }, &batch));
                        }
                    }
                    Change::Record(record) => {
                        if let Some(batch) = ledger.batch_at(&record.feed, record.seq)? {
                            self.note(Place { batch: batch.number, index: record.index }, &batch);
                        }
                    }
                    Change::Feed(_) if entry.position >= self.looked => return Ok(false),
                    Change::Feed(_) | Change::Erased => (),
                }
            }
            self.position = at;
        }
        Ok(true)
    }
}

/// The last millisecond of a day.
fn last_of(day: u32) -> Timestamp {
    let next = (u64::from(day) + 1) * crate::record::DAY_MS;
    Timestamp::from_ms(next - 1).unwrap_or_default()
}
