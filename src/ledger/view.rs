//! Views: the ledger as a reader with some clearance may know it.
//!
//! A batch has one marking, so the ledger counts the changes of each marking by themselves. A cursor is how many of each the reader has
//! seen, and a list walks those alone. So no answer, no cursor and no response time depends on records above the clearance.
//!
//! ```text
//! journal entry -marking-> state: (marking, ordinal) -> position -merge up to the clearance-> changes in the order of the journal
//! ```

use super::{Change, ChangedAt, Entry, FeedState, LEVELS, Ledger, LedgerError, Level, LevelState, NoCursor, Place, Position, level_of};
use crate::ledger::since::count_before;
use crate::record::{FeedId, Timestamp, Tlp, excerpt};

/// Entries that one look reads at most: some 4 MiB of them.
const ENTRIES_MAX: usize = 1_024;

/// Number of changes of each marking that a reader has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen([u64; LEVELS]);

/// The ledger up to a clearance.
#[derive(Clone)]
pub struct View {
    ledger: Ledger,
    clearance: Tlp,
}

/// One entry of the journal, with the changes that a reader may know of.
#[derive(Clone, Debug)]
pub struct SeenChange {
    /// Everything before it.
    pub before: Seen,
    pub position: Position,
    /// When it was taken in, where that is known.
    pub at: Option<Timestamp>,
    pub changes: Vec<Change>,
}

/// A feed as far as a reader may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFeed {
    pub feed: FeedId,
    /// The first batch; the last one, its head's id and its time.
    pub first: u64,
    pub last: u64,
    pub id: crate::envelope::Hash,
    pub time: Timestamp,
    pub batches: u64,
    pub counts: super::Counts,
    pub aside: Option<super::Aside>,
    /// The reader may know all of it.
    pub whole: bool,
}

impl SeenFeed {
    /// The part of a feed that is marked up to `clearance`; `None` if there is none.
    fn of(feed: FeedId, state: &FeedState, clearance: Tlp) -> Option<Self> {
        let seen = state.levels.range(..=level_of(clearance)).map(|(_, level)| level);
        let newest: &LevelState = seen.clone().max_by_key(|level| level.last)?;
        let mut counts = super::Counts::default();
        seen.clone().for_each(|level| counts.add(&level.counts));
        let batches = seen.clone().map(|level| level.batches).sum();
        let first = seen.clone().map(|level| level.first).min()?;
        let whole = seen.count() == state.levels.len();
        let (last, id, time) = (newest.last, newest.id, newest.time);
        Some(Self { feed, first, last, id, time, batches, counts, aside: state.aside, whole })
    }
}

impl Ledger {
    /// The ledger up to a clearance.
    pub fn view(&self, clearance: Tlp) -> View {
        View { ledger: self.clone(), clearance }
    }
}

impl View {
    /// The clearance.
    pub fn clearance(&self) -> Tlp {
        self.clearance
    }

    /// All of the ledger: for code that keeps to the clearance by itself.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn levels(&self) -> impl Iterator<Item = (Level, usize)> + use<> {
        (0..=level_of(self.clearance)).map(|level| (level, usize::from(level)))
    }

    /// The feeds that the reader may know of, in order.
    pub fn feeds(&self) -> Vec<SeenFeed> {
        let seen = |(feed, state): (FeedId, FeedState)| SeenFeed::of(feed, &state, self.clearance);
        self.ledger.feeds().into_iter().filter_map(seen).collect()
    }

    /// One feed.
    pub fn feed(&self, feed: &FeedId) -> Option<SeenFeed> {
        SeenFeed::of(feed.clone(), &self.ledger.feed(feed)?, self.clearance)
    }

    /// Everything that there is by now.
    pub fn here(&self) -> Seen {
        let all = self.ledger.state(|state| state.changes);
        let mut seen = Seen::default();
        for (_, at) in self.levels() {
            if let (Some(to), Some(from)) = (seen.0.get_mut(at), all.get(at)) {
                *to = *from;
            }
        }
        seen
    }

    /// The changes before a place of the journal.
    pub fn at_position(&self, position: Position) -> Result<Seen, LedgerError> {
        let (all, mut seen) = (self.here(), Seen::default());
        for (level, at) in self.levels() {
            let before = |ordinal| Ok(self.one(level, ordinal)?.is_some_and(|changed| changed.position < position));
            let passed = count_before(all.0.get(at).copied().unwrap_or(0), before)?;
            seen.0.get_mut(at).into_iter().for_each(|count| *count = passed);
        }
        Ok(seen)
    }

    /// The changes before a batch came, by its number.
    pub fn at_batch(&self, number: u64) -> Result<Seen, LedgerError> {
        match self.ledger.batch_position(number)? {
            Some(position) => self.at_position(position),
            None => Ok(self.here()),
        }
    }

    /// The changes before a moment, and perhaps a few less.
    pub fn at_time(&self, time: Timestamp) -> Result<Seen, LedgerError> {
        self.at_position(self.ledger.position_at(time)?)
    }

    /// The number that the next batch had when `seen` was all there was, as far as the reader can tell.
    pub fn batch_after(&self, seen: Seen) -> Result<u64, LedgerError> {
        let mut last = None;
        for (level, at) in self.levels() {
            if let Some(before) = seen.0.get(at).and_then(|count| count.checked_sub(1)) {
                last = last.max(self.one(level, before)?.map(|changed| changed.position));
            }
        }
        match last {
            Some(position) => self.ledger.number_at(position + 1),
            None => Ok(0),
        }
    }

    fn one(&self, level: Level, ordinal: u64) -> Result<Option<ChangedAt>, LedgerError> {
        Ok(self.ledger.state(|state| state.changed(level, ordinal, 1))?.first().copied())
    }

    /// Changes after `seen`, the oldest first, some of them; then what has been seen with them, and whether there is more.
    pub fn changes_after(&self, seen: Seen) -> Result<(Vec<SeenChange>, Seen, bool), LedgerError> {
        let mut rows: Vec<(Position, usize)> = Vec::new();
        for (level, at) in self.levels() {
            let from = seen.0.get(at).copied().unwrap_or(0);
            let found = self.ledger.state(|state| state.changed(level, from, ENTRIES_MAX))?;
            rows.extend(found.into_iter().map(|changed| (changed.position, at)));
        }
        rows.sort_unstable();
        rows.truncate(ENTRIES_MAX);
        let mut now = seen;
        let mut found: Vec<SeenChange> = Vec::new();
        for (position, at) in rows {
            let before = now;
            now.0.get_mut(at).into_iter().for_each(|count| *count += 1);
            if found.last().is_some_and(|last| last.position == position) {
                continue;
            }
            let mut entry = SeenChange { before, position, at: None, changes: Vec::new() };
            let payload = match self.ledger.read_entry(position) {
                Ok(payload) => payload,
                // A further copy of a batch is dropped when something of it is erased; the first copy stays.
                Err(error) => {
                    tracing::debug!(%error, position, "an entry that changed something is not there any more");
                    continue;
                }
            };
            self.ledger.changes_of(Entry::decode(&payload)?, &mut |at, change| {
                if self.may_see(&change)? {
                    entry.at = entry.at.max(at);
                    entry.changes.push(change);
                }
                Ok(())
            })?;
            found.push(entry);
        }
        Ok((found, now, now != self.here()))
    }

    /// Every change after `seen`.
    pub fn each_change(&self, seen: Seen, mut visit: impl FnMut(Change) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        let (end, mut from) = (self.here(), seen);
        while from != end {
            let (entries, now, _) = self.changes_after(from)?;
            if entries.is_empty() {
                break;
            }
            entries.into_iter().flat_map(|entry| entry.changes).try_for_each(&mut visit)?;
            from = now;
        }
        Ok(())
    }

    fn may_see(&self, change: &Change) -> Result<bool, LedgerError> {
        Ok(match change {
            Change::Batch(number) => self.ledger.batch(*number)?.is_some_and(|batch| batch.head.tlp <= self.clearance),
            Change::Record(record) => self.ledger.marking(record)?.is_some_and(|tlp| tlp <= self.clearance),
            Change::Feed(feed) => self.feed(feed).is_some(),
            // Its entry is among those of the markings that it erased something of.
            Change::Erased => true,
        })
    }

    /// A cursor for who has seen this much.
    pub fn cursor(&self, seen: Seen) -> Result<String, LedgerError> {
        let (counts, check) = (self.spell(seen), self.check(seen)?);
        Ok(format!("v{counts}-{}-{check:08x}", self.ledger.mark()))
    }

    /// The counts alone, as they stand in a cursor.
    pub fn spell(&self, seen: Seen) -> String {
        let counts: Vec<String> = self.levels().filter_map(|(_, at)| seen.0.get(at)).map(u64::to_string).collect();
        counts.join(".")
    }

    /// All counts, those of markings above the clearance as 0.
    pub fn counts(seen: Seen) -> [u64; LEVELS] {
        seen.0
    }

    /// Reads [`Self::spell`]; `None` if it is none, or counts more than there is. Markings that were not in it have not been seen.
    pub fn unspell(&self, text: &str) -> Option<Seen> {
        let (mut seen, all) = (Seen::default(), self.here());
        let counts: Vec<u64> = text.split('.').map(|count| count.parse().ok()).collect::<Option<_>>()?;
        if counts.len() > LEVELS {
            return None;
        }
        for ((to, count), most) in seen.0.iter_mut().zip(counts).zip(all.0).take(usize::from(level_of(self.clearance)) + 1) {
            *to = Some(count).filter(|count| *count <= most)?;
        }
        Some(seen)
    }

    /// Over the last change of each marking: a ledger that was restored and went on otherwise has others.
    fn check(&self, seen: Seen) -> Result<u32, LedgerError> {
        let mut check = 0;
        for (level, at) in self.levels() {
            if let Some(last) = seen.0.get(at).and_then(|count| count.checked_sub(1)) {
                let found = self.one(level, last)?.map_or(0, |changed| changed.check);
                check = crc32c::crc32c_append(check, &found.to_be_bytes());
            }
        }
        Ok(check)
    }

    /// Reads a cursor, if this is still that ledger with that past. Takes the cursors of older versions too, which are places of the
    /// journal.
    pub fn read_cursor(&self, text: &str) -> Result<Seen, NoCursor> {
        self.seen_of(text).ok_or_else(|| NoCursor::of(excerpt(text)))
    }

    fn seen_of(&self, text: &str) -> Option<Seen> {
        // The part that events add names an end, not an entry.
        let text = text.split_once('@').map_or(text, |(cursor, _)| cursor);
        let Some(rest) = text.strip_prefix('v') else { return self.at_position(self.ledger.position_of(text)?).ok() };
        let [counts, mark, check] = rest.split('-').collect::<Vec<_>>()[..] else { return None };
        let seen = self.unspell(counts)?;
        // A cursor that counted other markings is checked for those that this reader may see.
        let same =
            counts.split('.').count() != usize::from(level_of(self.clearance)) + 1 || format!("{:08x}", self.check(seen).ok()?) == check;
        (mark == self.ledger.mark() && same).then_some(seen)
    }

    /// Names a place of a batch without its number, which counts hidden batches too.
    pub fn spell_place(&self, place: Place) -> Result<Option<String>, LedgerError> {
        let Some(position) = self.ledger.batch_position(place.batch)? else { return Ok(None) };
        Ok(Some(format!("{}.{}", self.spell(self.at_position(position)?), place.index)))
    }

    /// Reads [`Self::spell_place`].
    pub fn unspell_place(&self, text: &str) -> Option<Place> {
        let (counts, index) = text.rsplit_once('.')?;
        let batch = self.batch_after(self.unspell(counts)?).ok()?;
        Some(Place { batch, index: index.parse().ok()? })
    }
}

impl Ledger {
    fn read_entry(&self, position: Position) -> Result<Vec<u8>, LedgerError> {
        self.shared.journal.read(position)
    }
}
