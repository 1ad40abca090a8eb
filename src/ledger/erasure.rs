//! Erasure: content that goes. First in word, at once, then in deed.
//!
//! ```text
//! erase -journal entry, fsync-> dead: never answered, served, exported -compaction-> rewritten out of the journal's files and the index
//! ```
//!
//! The entry decides; a compaction only catches up with it, in the background, and may be killed at any moment: what it has not done is
//! still noted as pending. Of each record its leaf's hash remains, so that the neighbours in its batch still prove themselves, and its
//! place stays taken. Withdrawals and renewals are never erased: they outlive what they are about.

use super::{
    BatchEntry, Counts, Entry, ErasedBy, ErasedPlaces, ErasureEntry, Ledger, LedgerError, Place, Position, Rewritten, Runs, StoredBatch,
    Writer, count, places_of, row_key, runs_of, word_keys,
};
use crate::{
    envelope::record_spans,
    intake::value_of,
    ledger::OutcomeLine,
    record::{Decoded, FeedId, Record, RecordRef, Timestamp},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Batches that one compaction takes on: their places are some 100 bytes each in memory.
const PENDING_MAX: usize = 1_000_000;
/// Longest list of places in one journal entry, in bytes: half of the longest frame.
const PLACES_BYTES_MAX: usize = 1024 * 1024;
/// Records looked up as to be erased at once.
const TO_ERASE_MAX: usize = 65_536;

/// What an erasure changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Erased {
    pub records: u64,
    pub batches: u64,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Compacted {
    pub segments: usize,
    pub batches: usize,
    /// Bytes of the rewritten segments before and after.
    pub before: u64,
    pub after: u64,
}

/// A compaction that runs.
pub(super) struct Compaction {
    thread: std::thread::JoinHandle<Result<Rewritten, LedgerError>>,
    batches: Vec<(u64, Runs)>,
    decisions: HashSet<Position>,
    begun: Position,
}

impl Ledger {
    /// Which places of a batch stay out for good, whoever brings them.
    pub fn erased(&self, feed: &FeedId, seq: u64) -> Result<BTreeSet<u16>, LedgerError> {
        if !self.state(|state| state.any_erased())? {
            return Ok(BTreeSet::new());
        }
        Ok(places_of(&self.state(|state| state.erased(feed, seq))?))
    }

    /// All that stays out for good, batch by batch.
    pub fn all_erased(&self) -> Result<Vec<ErasedPlaces>, LedgerError> {
        self.state(|state| state.all_erased(PENDING_MAX))
    }

    /// By rule of retention: what was received until when stays until when, as people decided.
    pub fn reviewed(&self) -> Result<HashMap<String, (Timestamp, Timestamp)>, LedgerError> {
        self.state(super::State::reviewed)
    }

    /// Whether anything stays out for good: of most ledgers nothing, which spares the other questions.
    pub fn any_erased(&self) -> Result<bool, LedgerError> {
        self.state(|state| state.any_erased())
    }

    /// Records that their authors took back as `legal` or `over-shared` and whose content is still here.
    pub fn to_erase(&self) -> Result<Vec<RecordRef>, LedgerError> {
        self.state(|state| state.to_erase(TO_ERASE_MAX))
    }

    /// Batches with erased content, and decisions with erased words, whose bytes still stand in the journal; at most some millions.
    pub fn pending_erasures(&self) -> Result<usize, LedgerError> {
        Ok(self.state(|state| state.all_pending(PENDING_MAX))?.len() + self.state(super::State::pending_decisions)?.len())
    }

    /// The batches in which a report is named, first and last.
    pub fn naming(&self, report: &RecordRef) -> Result<Option<(u64, u64)>, LedgerError> {
        self.state(|state| state.naming(report))
    }

    /// Every batch at a place of a feed: the one that counts, and those that were set aside once.
    pub fn all_at(&self, feed: &FeedId, seq: u64) -> Result<Vec<u64>, LedgerError> {
        let mut numbers = self.state(|state| state.were_aside(feed, seq))?;
        numbers.extend(self.batch_number(feed, seq)?);
        Ok(numbers)
    }

    /// The entry of a batch as it stands, without what is erased and not yet rewritten.
    pub(super) fn without_pending(&self, number: u64, entry: BatchEntry) -> Result<BatchEntry, LedgerError> {
        let pending = self.state(|state| state.pending(number))?;
        if pending.is_empty() { Ok(entry) } else { entry.without(&places_of(&pending)) }
    }
}

impl Writer {
    /// Erases records, in word: after the next commit nobody is told of them any more. What was taken in before is committed first.
    /// Their bytes go with the next compaction.
    pub fn erase(&mut self, entry: &ErasureEntry) -> Result<Erased, LedgerError> {
        self.commit()?;
        let mut erased = Erased::default();
        let (mut parts, mut bytes) = (vec![Vec::new()], 0);
        for places in &entry.places {
            let length = places.feed.len() + 32 + 8 * places.runs.len();
            if bytes + length > PLACES_BYTES_MAX {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += length;
            parts.last_mut().into_iter().for_each(|part| part.push(places.clone()));
        }
        for (number, places) in parts.into_iter().enumerate() {
            let decisions = if number == 0 { entry.decisions.clone() } else { Vec::new() };
            let part =
                ErasureEntry { places, decisions, at: entry.at, by: entry.by.clone(), because: entry.because, text: entry.text.clone() };
            let position = self.journal.append(&Entry::Erasure(part.clone()).encode())?;
            let done = self.note_erasure(&part, position)?;
            (erased.records, erased.batches) = (erased.records + done.records, erased.batches + done.batches);
            self.commit()?;
        }
        Ok(erased)
    }

    /// Erases all that a feed has said, but for what takes back.
    pub fn places_of_feed(&self, feed: &FeedId) -> Result<Vec<ErasedPlaces>, LedgerError> {
        let Some(state) = self.ledger.feed(feed) else { return Ok(Vec::new()) };
        let aside = self.ledger.state(|state| state.aside(feed))?.into_iter().map(|(seq, _)| seq);
        let seqs: BTreeSet<u64> = state.spans.iter().chain(aside).collect();
        let mut places = Vec::new();
        for seq in seqs {
            let mut count = 0;
            for number in self.ledger.all_at(feed, seq)? {
                count = self.ledger.batch(number)?.map_or(0, |batch| batch.head.count).max(count);
            }
            places.push(ErasedPlaces::of(feed, seq, 0..count));
        }
        Ok(places)
    }

    /// Takes the rows of erased records out of an index that is behind the state, which knows them no more: from the journal, where they stand
    /// until an index that reaches this far has been synced.
    pub(super) fn gone_rows(&mut self, entry: &ErasureEntry) -> Result<(), LedgerError> {
        for record in entry.places.iter().flat_map(ErasedPlaces::records) {
            for number in self.ledger.all_at(&record.feed, record.seq)? {
                let Some(info) = self.ledger.state(|state| state.batch(number))? else { continue };
                let (Entry::Batch(batch) | Entry::Filled(batch)) = Entry::decode(&self.ledger.shared.journal.read(info.newest())?)? else {
                    continue;
                };
                let spans = record_spans(&batch.body).map_err(|error| LedgerError::Damaged(error.to_string()))?;
                let Some(bytes) = spans.get(usize::from(record.index)).and_then(|span| span.of(&batch.body)) else { continue };
                if let Ok(Decoded::Record(one)) = Record::decode(bytes) {
                    let place = Place { batch: number, index: record.index };
                    self.gone.extend(word_keys(&one, place).chain(value_of(&one).map(|value| row_key(value, place))));
                }
            }
        }
        Ok(())
    }

    pub(super) fn note_erasure(&mut self, entry: &ErasureEntry, position: Position) -> Result<Erased, LedgerError> {
        let mut erased = Erased::default();
        let mut by_batch: BTreeMap<(FeedId, u64), BTreeSet<u16>> = BTreeMap::new();
        for places in &entry.places {
            let feed = || LedgerError::Damaged(format!("an erasure names `{}`, which is no feed", places.feed));
            let feed: FeedId = places.feed.parse().map_err(|_| feed())?;
            by_batch.entry((feed, places.seq)).or_default().extend(places_of(&places.runs));
        }
        self.ledger.forget_reports();
        for position in &entry.decisions {
            // At a replay it may be rewritten already, or lost with a damaged file.
            if let Ok(payload) = self.ledger.shared.journal.read(*position)
                && let Entry::Decision(decision) = Entry::decode(&payload)?
                && decision != decision.clone().without_words()
            {
                self.changes.pending_decision(*position, true);
            }
        }
        for ((feed, seq), places) in by_batch {
            if entry.because.is_lasting() {
                let before = places_of(&self.ledger.state(|state| state.erased(&feed, seq))?);
                self.changes.erased(&feed, seq, &runs_of(before.union(&places).copied()));
            }
            for index in &places {
                self.changes.to_erase(&RecordRef { feed: feed.clone(), seq, index: *index }, false);
            }
            // What is due by its age is what counts; an order means whatever stands there.
            let numbers = match entry.because.is_lasting() || entry.because == ErasedBy::Agreement {
                true => self.ledger.all_at(&feed, seq)?,
                false => self.ledger.batch_number(&feed, seq)?.into_iter().collect(),
            };
            for number in numbers {
                if let Some(batch) = self.ledger.batch(number)? {
                    // Erasure by age, or for room, is not reported.
                    if !matches!(entry.because, ErasedBy::Retention | ErasedBy::Room) {
                        self.changes.changed(batch.head.tlp, position, format!("{feed}#{seq} {}", entry.at).as_bytes());
                    }
                    let gone = self.forget_places(&batch, &places)?;
                    erased.records += gone;
                    erased.batches += u64::from(gone > 0);
                }
            }
        }
        Ok(erased)
    }

    /// Takes places of a batch out of everything but the journal's files. Answers how many records that were.
    fn forget_places(&mut self, batch: &StoredBatch, places: &BTreeSet<u16>) -> Result<u64, LedgerError> {
        let (mut before, mut gone) = (Counts::default(), Vec::new());
        for index in places.iter().copied().filter(|index| *index < batch.head.count) {
            let (was, record) = (batch.outcome(index), batch.record(index));
            if was == OutcomeLine::Gone || matches!(record, Some(Record::Withdrawal(_) | Record::Renewal(_))) {
                continue;
            }
            let (place, this) = (Place { batch: batch.number, index }, batch.reference(index));
            count(&mut before, &was);
            gone.push(index);
            self.changes.forget(record.as_ref(), place, &this, was.waits_for().as_ref());
            self.gone.extend(record.iter().flat_map(|record| word_keys(record, place)));
            if let Some(value) = record.as_ref().and_then(value_of) {
                self.gone.push(row_key(value, place));
                self.touch(|touched| touched.value(value));
            }
            self.touch(|touched| touched.record(this.clone()));
        }
        if gone.is_empty() {
            return Ok(0);
        }
        let pending = places_of(&self.ledger.state(|state| state.pending(batch.number))?);
        self.changes.pending(batch.number, &runs_of(pending.into_iter().chain(gone.iter().copied()).collect::<BTreeSet<u16>>()));
        let feed = batch.head.feed();
        // What was set aside by itself is in no count of its feed.
        let is_aside = self.ledger.state(|state| state.batch(batch.number))?.is_some_and(|info| info.aside.is_some());
        let state = self.changes.feeds.get(&feed).cloned().or_else(|| self.ledger.feed(&feed));
        if let Some(mut state) = state.filter(|_| !is_aside) {
            state.recount(batch.head.tlp, &before, &Counts { gone: gone.len() as u64, ..Counts::default() });
            self.changes.feeds.insert(feed, state);
        }
        Ok(gone.len() as u64)
    }

    /// Begins to rewrite erased content out of the journal's files, on a thread of its own. Answers whether there is any.
    pub fn begin_compaction(&mut self) -> Result<bool, LedgerError> {
        if self.compaction.is_some() {
            return Ok(true);
        }
        self.commit()?;
        let batches = self.ledger.state(|state| state.all_pending(PENDING_MAX))?;
        let decisions = self.ledger.state(super::State::pending_decisions)?;
        if batches.is_empty() && decisions.is_empty() {
            return Ok(false);
        }
        // State and index have to know all that is rewritten: from the new files nobody could tell any more.
        self.write_index()?;
        self.ledger.shared.index.sync()?;
        self.ledger.state(super::State::flush)?;
        let mut gone: BTreeMap<Position, Arc<BTreeSet<u16>>> = BTreeMap::new();
        for (number, runs) in &batches {
            let places = Arc::new(places_of(runs));
            if let Some(info) = self.ledger.state(|state| state.batch(*number))? {
                for position in info.positions() {
                    // Of several copies some may have been rewritten in a round before.
                    if info.fills.is_empty() || self.still_holds(position, &places)? {
                        gone.insert(position, Arc::clone(&places));
                    }
                }
            }
        }
        self.journal.close_segment()?;
        let positions: BTreeSet<Position> = gone.keys().copied().chain(decisions.iter().copied()).collect();
        let positions: Vec<Position> = positions.into_iter().collect();
        let rewriting = self.journal.rewriting(&positions);
        let (ledger, begun) = (self.ledger.clone(), self.journal.end());
        // What this round does not reach stays pending for the next.
        let mut reached = Vec::new();
        for (number, runs) in batches {
            let info = self.ledger.state(|state| state.batch(number))?;
            let done = |position: Position| !gone.contains_key(&position) || rewriting.covers(position);
            if info.is_none_or(|info| info.positions().all(done)) {
                reached.push((number, runs));
            }
        }
        let batches = reached;
        let decisions: HashSet<Position> = decisions.into_iter().filter(|position| rewriting.covers(*position)).collect();
        let nothing = Arc::new(BTreeSet::new());
        let wordless = decisions.clone();
        let change = move |position, payload: &[u8]| match gone.get(&position) {
            Some(places) => changed(payload, places).map(Some),
            None if wordless.contains(&position) => changed(payload, &nothing).map(Some),
            None => Ok(None),
        };
        // The files last: an index that fails leaves none behind.
        let thread = std::thread::spawn(move || {
            ledger.shared.index.compact()?;
            rewriting.run(change)
        });
        self.compaction = Some(Compaction { thread, batches, decisions, begun });
        Ok(true)
    }

    /// Whether the copy of a batch at a position holds any of these places.
    fn still_holds(&self, position: Position, places: &BTreeSet<u16>) -> Result<bool, LedgerError> {
        let (Entry::Batch(batch) | Entry::Filled(batch)) = Entry::decode(&self.ledger.shared.journal.read(position)?)? else {
            return Ok(false);
        };
        let lines = (0..).zip(batch.outcomes());
        Ok(lines.into_iter().any(|(index, line)| places.contains(&index) && *line != OutcomeLine::Gone))
    }

    /// Whether a compaction runs, or waits to be ended.
    pub fn is_compacting(&self) -> bool {
        self.compaction.is_some()
    }

    /// Whether a compaction has come to its end, and waits for [`Self::end_compaction`].
    pub fn is_compacted(&self) -> bool {
        self.compaction.as_ref().is_some_and(|running| running.thread.is_finished())
    }

    /// Waits for the compaction that runs, and puts its segments in the place of the old ones. A disk that has no room for them leaves
    /// everything as it was.
    pub fn end_compaction(&mut self) -> Result<Compacted, LedgerError> {
        let Some(Compaction { thread, batches, decisions, begun }) = self.compaction.take() else { return Ok(Compacted::default()) };
        let rewritten = thread.join().map_err(|_| LedgerError::Damaged("the thread that rewrote segments ended".to_owned()))??;
        self.commit()?;
        self.journal.install(&rewritten, begun)?;
        for (number, runs) in &batches {
            let now = self.ledger.state(|state| state.pending(*number))?;
            let done = places_of(runs);
            self.changes.pending(*number, &runs_of(places_of(&now).difference(&done).copied()));
        }
        decisions.into_iter().for_each(|position| self.changes.pending_decision(position, false));
        self.commit()?;
        // A restore point, and what was damaged, hold what they hold, also what is erased since.
        super::start_anew(&self.ledger.shared.directory.join("journal").join(super::DAMAGED))?;
        for format in 0..super::LEDGER_FORMAT {
            super::start_anew(&super::restore_point(&self.ledger.shared.directory, format))?;
        }
        let Rewritten { before, after, .. } = rewritten;
        Ok(Compacted { segments: rewritten.segments(), batches: batches.len(), before, after })
    }
}

/// A frame without the content of these places.
fn changed(payload: &[u8], places: &BTreeSet<u16>) -> Result<Vec<u8>, LedgerError> {
    Ok(match Entry::decode(payload)? {
        Entry::Batch(entry) => Entry::Batch(entry.without(places)?).encode(),
        Entry::Filled(entry) => Entry::Filled(entry.without(places)?).encode(),
        Entry::Decision(entry) => Entry::Decision(entry.without_words()).encode(),
        _ => payload.to_vec(),
    })
}
