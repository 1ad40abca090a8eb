//! Ledger: what is kept.
//!
//! ```text
//! Admitted -append-> journal (truth, fsync before any acknowledgement)
//!             '-> state (sled): heads, catalogue, withdrawals, held, disputes
//!             '-> index (fjall): value -> records
//! ```
//!
//! One [`Writer`], any number of readers ([`Ledger`]). Promise: what [`Writer::commit`] has returned for survives a crash;
//! state and index are rebuilt from the journal when they are missing, behind or damaged.
//! Not here: whether a batch may be kept (`intake`), how answers are put together (`query`).

mod backup;
mod batch_cache;
mod caches;
mod copies;
mod disk;
mod disputes;
mod entry;
mod erasure;
mod index;
mod journal;
mod known;
mod later;
mod lengths;
mod quarantine;
mod recent;
mod renewals;
mod retention;
mod shares;
mod since;
mod state;
mod tree;
mod verify;
mod view;
mod words;

pub use backup::*;
pub use batch_cache::BatchContent;
pub use caches::{CACHE_BYTES, CACHE_BYTES_MIN, CacheBudget};
pub use copies::*;
pub use disk::*;
pub use disputes::*;
pub use entry::*;
pub use erasure::{Compacted, Erased};
pub use index::*;
pub use journal::*;
pub use later::Touched;
pub use lengths::Lengths;
pub use quarantine::*;
pub use retention::*;
pub use shares::*;
pub use since::*;
pub use state::*;
pub use verify::*;
pub use view::*;
pub use words::*;

use crate::{
    charter::{Card, Roster, SignedCharter, card_of, charter_version},
    envelope::{BATCH_RECORDS_MAX, Class, FederationId, Hash, Head, KeyId, RecordSpan, SignedHead, record_spans},
    intake::{Admitted, Defaults, Known, Outcome, Spans, value_of},
    policy::Verdict,
    record::{
        Decoded, FeedId, Indicator, MemberId, Observable, Record, RecordRef, Sighted, SightingKind, Timestamp, Tlp, WireRef, names_in,
    },
};
use batch_cache::BatchCache;
use fs4::fs_std::FileExt as _;
use journal::FRAME_HEAD_BYTES;
use recent::Recent;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// Most reports whose defaults are kept in memory; each is some 300 bytes.
const REPORTS_CACHED_MAX: usize = 16 * 1024;
/// Places found damaged that are told one by one.
const DAMAGE_MAX: usize = 16;
/// Rows that wait for the index before they are written as one sorted run.
pub const INDEX_ROWS_PENDING_MAX: usize = 256 * 1024;
/// Rows from which a thread of its own writes them. Fewer are a millisecond's work, and the memory that a thread used to write them stays
/// with them: a third of a megabyte a node in a simulation of 250.
const INDEX_THREAD_ROWS_MIN: usize = 2_048;

/// Why the ledger cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{}: the disk is full; make room and start the node again, nothing acknowledged was lost", .0.display())]
    DiskFull(PathBuf),
    #[error("{} is in use by another huecry; stop that one first, or talk to it through its socket", .0.display())]
    InUse(PathBuf),
    #[error("this ledger has format {found} and needs a newer huecry; this one reads up to {ours}")]
    Newer { found: u32, ours: u32 },
    #[error("the journal is damaged: {0}; `huecry ledger repair` keeps what is whole, with what a backup has of the rest")]
    Damaged(String),
    #[error("the state store failed: {0}; remove the directory `state` and start again, it is rebuilt from the journal")]
    State(String),
    #[error("the index failed: {0}; remove the directory `index` and start again, it is rebuilt from the journal")]
    Index(String),
    #[error("{} holds a ledger already; move it away first", .0.display())]
    Exists(PathBuf),
    #[error("{} is no backup: it has no manifest; name the directory that `huecry ledger backup` wrote to", .0.display())]
    NoBackup(PathBuf),
    #[error("{} holds the backup of another ledger; choose another directory", .0.display())]
    OtherBackup(PathBuf),
    #[error("the journal stopped after a write that failed; start the node again")]
    Stopped,
    #[error("the random generator of the system failed: {0}")]
    Random(String),
}

impl LedgerError {
    fn io(path: &Path, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), error },
        }
    }
}

struct Shared {
    journal: JournalReader,
    state: RwLock<State>,
    index: Index,
    reports: Mutex<HashMap<RecordRef, Arc<Defaults>>>,
    recent: Recent,
    batches: BatchCache,
    damage: Mutex<BTreeSet<String>>,
    store_id: String,
    directory: PathBuf,
    _lock: File,
}

/// The readers' half: cheap to clone, safe from any thread.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

/// The writer's half. There is one.
pub struct Writer {
    ledger: Ledger,
    journal: Journal,
    changes: Changes,
    rows: Vec<NewRow>,
    /// Keys of rows that have to go from the index, behind `rows`.
    gone: Vec<Vec<u8>>,
    compaction: Option<erasure::Compaction>,
    /// A run that is being written to the index meanwhile.
    indexing: Option<std::thread::JoinHandle<Result<(), LedgerError>>>,
    next_batch: u64,
    /// Batches taken in since the last commit.
    fresh: Vec<StoredBatch>,
    /// Reports whose indicators are to get another end, since that was last asked.
    renewed: BTreeSet<RecordRef>,
    /// What changed since it was last asked for, if anybody asks.
    touched: Option<Touched>,
}

/// What opening had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Recovery {
    /// Bytes of a torn tail that were cut; they had not been acknowledged.
    pub cut_bytes: u64,
    /// Entries replayed into the state, the index or both.
    pub replayed: u64,
    pub state_rebuilt: bool,
    pub index_rebuilt: bool,
    /// The format in which an older huecry had left the ledger; a copy of its journal stands beside it.
    pub upgraded_from: Option<u32>,
}

/// A batch read back.
pub struct StoredBatch {
    pub number: u64,
    content: Arc<BatchContent>,
    /// Why it does not count, if so.
    pub aside: Option<Aside>,
    /// Verdicts on single records that were made after it came, the oldest first.
    pub later: BTreeMap<u16, Vec<LaterVerdict>>,
    /// Verdicts on many at once, one for each report that was renewed.
    pub runs: Vec<LaterRuns>,
}

impl std::ops::Deref for StoredBatch {
    type Target = BatchContent;

    fn deref(&self) -> &BatchContent {
        &self.content
    }
}

/// The record in these bytes, if this version can read it.
fn decoded(bytes: &[u8]) -> Option<Record> {
    match Record::decode(bytes) {
        Ok(Decoded::Record(record)) => Some(record),
        _ => None,
    }
}

impl StoredBatch {
    /// A batch of which nothing was said since it came.
    fn fresh(number: u64, head: Head, entry: BatchEntry, spans: Vec<RecordSpan>, aside: Option<Aside>) -> Self {
        Self { number, content: Arc::new(BatchContent { head, entry, spans }), aside, later: BTreeMap::new(), runs: Vec::new() }
    }

    /// The name of one of its records.
    pub fn reference(&self, index: u16) -> RecordRef {
        RecordRef { feed: self.head.feed(), seq: self.head.seq, index }
    }

    /// One of its records, if it is here and this version can read it.
    pub fn record(&self, index: u16) -> Option<Record> {
        decoded(self.record_bytes(index)?)
    }

    /// What was decided about one of its records when it came.
    pub fn first_outcome(&self, index: u16) -> OutcomeLine {
        self.entry.outcomes().nth(usize::from(index)).cloned().unwrap_or(OutcomeLine::Absent)
    }

    /// What became of one of its records: the newest verdict.
    pub fn outcome(&self, index: u16) -> OutcomeLine {
        match self.newest(index) {
            Some((_, line)) => line.clone(),
            None => self.first_outcome(index),
        }
    }

    /// The newest verdict that was made after it came: in the order of the journal, because a clock may be set back.
    fn newest(&self, index: u16) -> Option<(Position, &OutcomeLine)> {
        let single = self.later.get(&index).and_then(|verdicts| verdicts.last()).map(|one| (one.position, &one.line));
        // Of what was erased nothing counts that was said of it.
        let is_here = self.record_bytes(index).is_some();
        let runs = self.runs.iter().filter(|_| is_here).filter_map(|runs| Some((runs.position, runs.line(index)?)));
        runs.chain(single).max_by_key(|(position, _)| *position)
    }

    /// Every verdict on one of its records that was made after it came, the oldest first; of those in runs the newest of each report.
    pub fn verdicts(&self, index: u16) -> Vec<LaterVerdict> {
        let mut verdicts = self.later.get(&index).cloned().unwrap_or_default();
        let of_runs = |runs: &LaterRuns| {
            let LaterRuns { position, at, policy, .. } = *runs;
            Some(LaterVerdict { position, at, by: None, policy, line: runs.line(index)?.clone() })
        };
        verdicts.extend(self.runs.iter().filter_map(of_runs));
        verdicts.sort_by_key(|verdict| verdict.position);
        verdicts
    }
}

impl Ledger {
    /// Opens or creates the ledger in `directory`, alone. Replays what the derived stores lack.
    pub fn open(directory: &Path) -> Result<(Self, Writer, Recovery), LedgerError> {
        Self::open_with(directory, CacheBudget::default())
    }

    /// Opens or creates the ledger with this much memory for its caches.
    pub fn open_with(directory: &Path, cache: CacheBudget) -> Result<(Self, Writer, Recovery), LedgerError> {
        Self::open_as(directory, cache, false)
    }

    /// The same with the state in memory, built anew at each start: for a rehearsal of many nodes in one process.
    pub fn open_for_rehearsal(directory: &Path) -> Result<(Self, Writer, Recovery), LedgerError> {
        Self::open_as(directory, CacheBudget::default(), true)
    }

    fn open_as(directory: &Path, cache: CacheBudget, rehearsal: bool) -> Result<(Self, Writer, Recovery), LedgerError> {
        std::fs::create_dir_all(directory).map_err(|error| LedgerError::io(directory, error))?;
        let lock = lock(directory)?;
        let (mut journal, cut_bytes) = Journal::open(&directory.join("journal"), new_store_id)?;
        let store_id = journal.store_id().to_owned();
        let mut recovery = Recovery { cut_bytes, ..Recovery::default() };
        // What a verification that was cut off has left holds what is erased since.
        start_anew(&directory.join(verify::SHADOW))?;
        if journal.format() < LEDGER_FORMAT {
            recovery.upgraded_from = Some(journal.format());
            upgrade(&mut journal, directory)?;
        }
        // Behind what was rewritten a replay would count what is no more.
        let behind =
            |position: &Option<Position>| position.is_none_or(|position| position > journal.end() || position < journal.rewritten());
        let state_path = directory.join("state");
        let open_state =
            || if rehearsal { Ok((State::in_memory(), Some(0))) } else { State::open(&state_path, &store_id, cache.state_bytes()) };
        let mut opened = open_state();
        if opened.as_ref().map_or(true, |(_, position)| behind(position)) {
            recovery.state_rebuilt = journal.end() > 0;
            drop(opened);
            start_anew(&state_path)?;
            opened = open_state();
        }
        let (state, state_position) = opened?;
        let index_path = directory.join("index");
        let mut opened = Index::open(&index_path, &store_id, cache.index_bytes());
        if opened.as_ref().map_or(true, |(_, position)| behind(position)) {
            recovery.index_rebuilt = journal.end() > 0;
            drop(opened);
            start_anew(&index_path)?;
            opened = Index::open(&index_path, &store_id, cache.index_bytes());
        }
        let (index, index_position) = opened?;
        let next_batch = state.next_batch;
        let shared = Shared {
            journal: journal.reader(),
            state: RwLock::new(state),
            index,
            reports: Mutex::new(HashMap::new()),
            recent: Recent::default(),
            batches: BatchCache::new(cache.batch_bytes()),
            damage: Mutex::default(),
            store_id,
            directory: directory.to_owned(),
            _lock: lock,
        };
        let ledger = Self { shared: Arc::new(shared) };
        let mut writer = Writer {
            ledger: ledger.clone(),
            journal,
            changes: Changes::default(),
            rows: Vec::new(),
            gone: Vec::new(),
            compaction: None,
            indexing: None,
            next_batch,
            fresh: Vec::new(),
            renewed: BTreeSet::new(),
            touched: None,
        };
        recovery.replayed = writer.replay(state_position.unwrap_or(0), index_position.unwrap_or(0))?;
        // What of these is not done yet stands in the state.
        writer.renewed.clear();
        Ok((ledger, writer, recovery))
    }

    fn state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The feeds and how far each is judged. Only what is durable.
    pub fn feeds(&self) -> Vec<(FeedId, FeedState)> {
        let mut feeds: Vec<_> = self.state(|state| state.feeds.clone()).into_iter().collect();
        feeds.sort_by(|one, other| one.0.cmp(&other.0));
        feeds
    }

    /// Whether there is a feed like this.
    pub fn any_feed(&self, is: impl Fn(&FeedId) -> bool) -> bool {
        self.state(|state| state.feeds.keys().any(is))
    }

    /// One feed.
    pub fn feed(&self, feed: &FeedId) -> Option<FeedState> {
        self.state(|state| state.feeds.get(feed).cloned())
    }

    /// A batch by its number.
    pub fn batch(&self, number: u64) -> Result<Option<StoredBatch>, LedgerError> {
        let Some(info) = self.state(|state| state.batch(number))? else { return Ok(None) };
        let content = match self.shared.batches.get_or_read(info.newest(), || self.read_batch(number, info.newest())) {
            Ok(content) => content,
            // It is never answered from, and stops nobody who asks about something else.
            Err(LedgerError::Damaged(what)) => {
                self.note_damage(what);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let aside = info.aside.or_else(|| self.state(|state| state.feeds.get(&content.head.feed()).and_then(|feed| feed.aside)));
        let (later, runs) = self.state(|state| state.later_verdicts(number))?;
        Ok(Some(StoredBatch { number, content, aside, later, runs }))
    }

    /// Takes a batch of the journal apart.
    fn read_batch(&self, number: u64, position: Position) -> Result<BatchContent, LedgerError> {
        let (entry, spans) = match Entry::decode(&self.shared.journal.read(position)?)? {
            Entry::Batch(entry) | Entry::Filled(entry) => {
                let entry = self.without_pending(number, entry)?;
                let spans = record_spans(&entry.body).map_err(|error| LedgerError::Damaged(format!("batch {number}: {error}")))?;
                (entry, spans)
            }
            Entry::Erased(entry) => (entry.as_batch(), vec![RecordSpan::default(); usize::from(entry.records)]),
            _ => return Err(LedgerError::Damaged(format!("batch {number} points at something else"))),
        };
        Ok(BatchContent { head: stored_head(&entry.head)?, entry, spans })
    }

    /// Frees the memory of cached batches if none was asked for since the last call.
    pub fn drop_idle_batches(&self) {
        self.shared.batches.drop_if_idle();
    }

    fn note_damage(&self, what: String) {
        let mut damage = self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if damage.len() < DAMAGE_MAX && damage.insert(what.clone()) {
            tracing::error!(what, "the journal is damaged; stop the node and run `huecry ledger repair`");
        }
    }

    /// What was found damaged since the ledger was opened, a sentence each.
    pub fn damage(&self) -> Vec<String> {
        self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The number of the batch at a place of a feed.
    pub fn batch_number(&self, feed: &FeedId, seq: u64) -> Result<Option<u64>, LedgerError> {
        self.state(|state| state.batch_at(feed, seq))
    }

    /// The batch at a place of a feed.
    pub fn batch_at(&self, feed: &FeedId, seq: u64) -> Result<Option<StoredBatch>, LedgerError> {
        match self.state(|state| state.batch_at(feed, seq))? {
            Some(number) => self.batch(number),
            None => Ok(None),
        }
    }

    /// How the batch of a record is marked, for one who asks nothing else.
    pub fn marking(&self, record: &RecordRef) -> Result<Option<Tlp>, LedgerError> {
        let info = self.state(|state| match state.batch_at(&record.feed, record.seq)? {
            Some(number) => Ok::<_, LedgerError>(state.batch(number)?.map(|info| (number, info.newest()))),
            None => Ok(None),
        })?;
        let Some((number, position)) = info else { return Ok(None) };
        Ok(Some(self.shared.batches.get_or_read(position, || self.read_batch(number, position))?.head.tlp))
    }

    /// A record that is known here, is marked above `tlp`, and is named by `record`: in a reference of its own or in free text.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn named_above(&self, record: &Record, tlp: Tlp) -> Result<Option<(RecordRef, Tlp)>, LedgerError> {
        let mut names: Vec<RecordRef> = record.whole_references().cloned().collect();
        record.any_text(|text| {
            names.extend(names_in(text));
            false
        });
        self.above(&names, tlp)
    }

    /// The first of these records that is known here and marked above `tlp`.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn above(&self, names: &[RecordRef], tlp: Tlp) -> Result<Option<(RecordRef, Tlp)>, LedgerError> {
        for name in names {
            if let Some(marking) = self.marking(name)?.filter(|marking| *marking > tlp) {
                return Ok(Some((name.clone(), marking)));
            }
        }
        Ok(None)
    }

    /// Whether and why a record was taken back, by itself.
    pub fn withdrawn(&self, record: &RecordRef) -> Result<Option<Withdrawn>, LedgerError> {
        self.state(|state| state.withdrawn(record))
    }

    /// What people did here, the newest first.
    pub fn decisions(&self, limit: usize) -> Result<Vec<DecisionEntry>, LedgerError> {
        Ok(self.decisions_at(limit)?.into_iter().map(|(_, decision)| decision).collect())
    }

    /// The same, with where each stands.
    pub fn decisions_at(&self, limit: usize) -> Result<Vec<(Position, DecisionEntry)>, LedgerError> {
        let (mut found, erased) = (Vec::new(), self.state(State::pending_decisions)?);
        for position in self.state(|state| state.decisions(limit))? {
            if let Entry::Decision(decision) = Entry::decode(&self.shared.journal.read(position)?)? {
                found.push((position, if erased.contains(&position) { decision.without_words() } else { decision }));
            }
        }
        Ok(found)
    }

    /// Visits every durable entry that is no batch, from a position on: where it stands, where it ends, and what it says. Answers where the
    /// last of all ends.
    pub fn each_decision(&self, from: Position, mut visit: impl FnMut(Position, Position, Entry)) -> Result<Position, LedgerError> {
        let (end, erased) = (self.state(State::position)?, self.state(State::pending_decisions)?);
        self.shared.journal.scan(from, end, |position, payload| {
            if !Entry::is_batch(payload) {
                let entry = match Entry::decode(payload)? {
                    Entry::Decision(decision) if erased.contains(&position) => Entry::Decision(decision.without_words()),
                    other => other,
                };
                visit(position, position + (FRAME_HEAD_BYTES + payload.len()) as Position, entry);
            }
            Ok(())
        })?;
        Ok(end.max(from))
    }

    /// Rows of the index in a range of keys.
    pub fn scan(&self, range: &KeyRange, rows_max: usize) -> Result<(Vec<Row>, bool), LedgerError> {
        self.scan_up_to(range, Tlp::Red, rows_max)
    }

    /// As [`Self::scan`]; a value without a row up to `clearance` is not looked for on the disk. Rows above it may be among the answer.
    pub fn scan_up_to(&self, range: &KeyRange, clearance: Tlp, rows_max: usize) -> Result<(Vec<Row>, bool), LedgerError> {
        self.shared.index.scan(range, clearance, rows_max)
    }

    /// Visits the rows of every value, ordered by value, with the value's part of the key, for as long as `visit` says to go on. Answers
    /// whether it came to the end.
    pub fn each_row(&self, visit: impl FnMut(&[u8], Row) -> bool) -> Result<bool, LedgerError> {
        self.shared.index.each_in(&KeyRange::everything(), Tlp::Red, visit)
    }

    /// Up to which place of the journal the index knows everything; what stands behind it is on its way there.
    pub fn indexed(&self) -> Result<Position, LedgerError> {
        self.shared.index.position()?.map_or_else(|| self.here(), Ok)
    }

    /// Writes the index into as few runs as can be, while everything goes on: half a second a million rows.
    pub fn settle_index(&self) -> Result<(), LedgerError> {
        self.shared.index.settle()
    }

    /// Which lengths the prefixes of networks have of which something is said, perhaps with some more; all, before they were looked at.
    pub fn lengths(&self) -> Lengths {
        self.shared.index.known.lengths()
    }

    /// As [`Self::each_row`], of the rows in a range, as [`Self::scan_up_to`] does.
    pub fn each_row_in(&self, range: &KeyRange, clearance: Tlp, visit: impl FnMut(&[u8], Row) -> bool) -> Result<bool, LedgerError> {
        self.shared.index.each_in(range, clearance, visit)
    }

    /// The roster as the journal's documents make it; `None` before a charter was taken.
    pub fn roster(&self) -> Result<Option<Roster>, LedgerError> {
        let refused = |what: &str, error: String| LedgerError::Damaged(format!("a kept {what} does not verify: {error}"));
        let Some(first) = self.document(DocumentKey::Charter(1))? else { return Ok(None) };
        let charter = SignedCharter::first(&first, None).map_err(|error| refused("charter", error.to_string()))?;
        let mut roster = Roster::new(charter);
        while let Some(next) = self.document(DocumentKey::Charter(roster.charter().charter().version + 1))? {
            roster.restore_charter(&next).map_err(|error| refused("charter", error.to_string()))?;
        }
        if let Some(rival) = self.document(DocumentKey::Rival)? {
            // A rival of an earlier version was settled by the versions since.
            let _settled = roster.take_charter(&rival);
        }
        if let Some(stamp) = self.document(DocumentKey::Stamp)? {
            // A stamp over an earlier version says nothing about this one.
            let _about_another_version = roster.take_stamp(&stamp);
        }
        for card in self.past_cards()? {
            card_of(&card).iter().for_each(|card| roster.recall_card(card));
        }
        let members: Vec<MemberId> = roster.charter().charter().members.iter().map(|member| member.id.clone()).collect();
        for member in members {
            if let Some(card) = self.document(DocumentKey::Card(&member))? {
                // A card under a root key that was replaced since does not count.
                let _under_an_old_root = roster.take_card(&card).map(|_| ());
            }
        }
        Ok(Some(roster))
    }

    /// The cards that named any key last, as they were signed: those in force, and former ones with keys that were dropped since.
    pub fn past_cards(&self) -> Result<Vec<Vec<u8>>, LedgerError> {
        let mut cards = Vec::new();
        for position in self.state(State::cards_with_keys)? {
            if let Entry::Card(bytes) = Entry::decode(&self.shared.journal.read(position)?)? {
                cards.push(bytes);
            }
        }
        Ok(cards)
    }

    /// The key that signed the newest batch of a feed.
    pub fn newest_key(&self, feed: &FeedId) -> Result<Option<KeyId>, LedgerError> {
        let Some(state) = self.feed(feed) else { return Ok(None) };
        let Some(batch) = self.batch_at(feed, state.last())? else { return Ok(None) };
        let signed = SignedHead::open(&batch.entry.head, &FederationId([0; 32])).ok();
        Ok(signed.map(|signed| signed.key()))
    }

    /// The proofs of equivocation that are here, each with its feed.
    pub fn proofs(&self) -> Result<Vec<(FeedId, Vec<u8>)>, LedgerError> {
        let mut found = Vec::new();
        for position in self.state(State::proofs)? {
            if let Entry::Proof(bytes) = Entry::decode(&self.shared.journal.read(position)?)? {
                let heads = crate::charter::equivocation_heads(&bytes);
                found.extend(heads.map(|[one, _]| (one.feed(), bytes)));
            }
        }
        Ok(found)
    }

    /// Whether a proof about this feed is here that is about a place after `settled`.
    pub fn has_proof(&self, feed: &FeedId, settled: u64) -> Result<bool, LedgerError> {
        let Some(position) = self.state(|state| state.document(DocumentKey::Proof(feed)))? else { return Ok(false) };
        let Entry::Proof(bytes) = Entry::decode(&self.shared.journal.read(position)?)? else { return Ok(false) };
        Ok(crate::charter::equivocation_heads(&bytes).is_some_and(|[one, _]| one.seq > settled))
    }

    /// Which channels are followed, if that was ever said.
    pub fn followed(&self) -> Result<Option<FollowEntry>, LedgerError> {
        let Some(position) = self.state(|state| state.document(DocumentKey::Follow))? else { return Ok(None) };
        match Entry::decode(&self.shared.journal.read(position)?)? {
            Entry::Follow(entry) => Ok(Some(entry)),
            _ => Err(LedgerError::Damaged("what is followed points at something else".to_owned())),
        }
    }

    fn document(&self, key: DocumentKey<'_>) -> Result<Option<Vec<u8>>, LedgerError> {
        let Some(position) = self.state(|state| state.document(key))? else { return Ok(None) };
        match Entry::decode(&self.shared.journal.read(position)?)? {
            Entry::Charter(bytes) | Entry::Rival(bytes) | Entry::Stamp(bytes) | Entry::Card(bytes) => Ok(Some(bytes)),
            Entry::Policy(entry) => Ok(Some(crate::cbor::to_vec(&entry))),
            _ => Err(LedgerError::Damaged("a document points at something else".to_owned())),
        }
    }

    /// Who calls a value, or this very record about it, a false positive, in sightings up to a marking.
    pub fn disputed_up_to(&self, value: Option<&Observable>, record: &RecordRef, tlp_max: Tlp, now: Timestamp) -> BTreeSet<MemberId> {
        self.state(|state| match state.disputes.is_empty() {
            true => BTreeSet::new(),
            false => state.disputes.by(subjects(value, record).iter(), tlp_max, now),
        })
    }

    fn remember(&self, report: RecordRef, defaults: Arc<Defaults>) {
        self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(report, defaults);
    }

    fn forget_reports(&self) {
        self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn remembered(&self, report: &RecordRef) -> Option<Arc<Defaults>> {
        self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner).get(report).cloned()
    }
}

/// Facts for the door. An unreadable store answers "unknown", which at worst has something asked for again.
impl Known for Ledger {
    fn position(&self, feed: &FeedId) -> Option<(u64, Hash)> {
        self.state(|state| state.feeds.get(feed).map(|state| (state.last(), state.id)))
    }

    fn spans(&self, feed: &FeedId) -> Spans {
        self.state(|state| state.feeds.get(feed).map(|state| state.spans.clone()).unwrap_or_default())
    }

    fn names_before(&self, feed: &FeedId, seq: u64) -> Option<Hash> {
        if !self.state(|state| state.feeds.get(feed).is_some_and(|state| state.spans.contains(seq))) {
            return None;
        }
        self.batch_at(feed, seq).ok()??.head.prev
    }

    fn head_at(&self, feed: &FeedId, seq: u64) -> Option<Hash> {
        let number = self.state(|state| state.batch_at(feed, seq)).ok()??;
        self.state(|state| state.batch(number)).ok()?.map(|info| info.id)
    }

    fn quarantined(&self, feed: &FeedId) -> bool {
        self.state(|state| {
            let proved = || state.document(DocumentKey::Proof(feed)).is_ok_and(|position| position.is_some());
            state.feeds.get(feed).map_or_else(proved, |state| state.aside == Some(Aside::Forked))
        })
    }

    fn defaults(&self, report: &RecordRef) -> Option<Arc<Defaults>> {
        if let Some(known) = self.remembered(report) {
            return Some(known);
        }
        let batch = self.batch_at(&report.feed, report.seq).ok()??;
        let Record::Report(found) = batch.record(report.index)? else { return None };
        let renewed = self.state(|state| state.renewed(report)).ok()?;
        let defaults = Arc::new(renewals::lent(&found, &renewed));
        self.remember(report.clone(), Arc::clone(&defaults));
        Some(defaults)
    }

    fn disputed_by(&self, value: Option<&Observable>, record: &RecordRef, tlp: Tlp, now: Timestamp) -> BTreeSet<MemberId> {
        self.disputed_up_to(value, record, tlp, now)
    }
}

/// As the ledger's own, with what this writer has taken in since the last commit.
impl Known for Writer {
    fn position(&self, feed: &FeedId) -> Option<(u64, Hash)> {
        self.changes.feeds.get(feed).map(|state| (state.last(), state.id)).or_else(|| self.ledger.position(feed))
    }

    fn spans(&self, feed: &FeedId) -> Spans {
        self.changes.feeds.get(feed).map(|state| state.spans.clone()).unwrap_or_else(|| self.ledger.spans(feed))
    }

    fn head_at(&self, feed: &FeedId, seq: u64) -> Option<Hash> {
        self.changes.seqs.get(&(feed.clone(), seq)).map(|(id, _)| *id).or_else(|| self.ledger.head_at(feed, seq))
    }

    fn names_before(&self, feed: &FeedId, seq: u64) -> Option<Hash> {
        match self.changes.seqs.get(&(feed.clone(), seq)) {
            Some((_, before)) => *before,
            None => self.ledger.names_before(feed, seq),
        }
    }

    fn quarantined(&self, feed: &FeedId) -> bool {
        self.changes.feeds.get(feed).is_some_and(|state| state.aside == Some(Aside::Forked)) || self.ledger.quarantined(feed)
    }

    fn defaults(&self, report: &RecordRef) -> Option<Arc<Defaults>> {
        self.ledger.defaults(report)
    }

    fn disputed_by(&self, value: Option<&Observable>, record: &RecordRef, tlp: Tlp, now: Timestamp) -> BTreeSet<MemberId> {
        let mut members = self.ledger.disputed_by(value, record, tlp, now);
        if !self.changes.disputes.is_empty() {
            let subjects = subjects(value, record);
            let pending = self.changes.disputes.iter().flatten().filter(|one| one.until > now && one.tlp <= tlp);
            members.extend(pending.filter(|one| one.subjects.iter().any(|it| subjects.contains(it))).map(|one| one.member.clone()));
        }
        members
    }
}

/// What a dispute of a value, or of a record about it, is filed under.
fn subjects(value: Option<&Observable>, record: &RecordRef) -> Vec<Subject> {
    value.map(Subject::value).into_iter().chain([Subject::record(record)]).collect()
}

impl Writer {
    /// One feed, as it is after what was taken in since the last commit.
    pub fn feed(&self, feed: &FeedId) -> Option<FeedState> {
        self.changes.feeds.get(feed).cloned().or_else(|| self.ledger.feed(feed))
    }

    /// The readers' half.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes in a batch that passed the door. Durable after the next [`Self::commit`].
    pub fn keep(&mut self, admitted: &Admitted, received: Timestamp, brought: &Brought<'_>) -> Result<(), LedgerError> {
        let gone = |index: u16| brought.gone.contains(&index).then_some(OutcomeLine::Gone);
        let entry = BatchEntry::of(admitted, received, brought);
        let entry = if brought.gone.is_empty() { entry } else { entry.with_lines(gone) };
        let frame = Entry::Batch(entry.clone()).encode();
        let position = self.journal.append(&frame)?;
        let records = admitted.outcomes().iter().map(|outcome| match outcome {
            Outcome::Judged(one) => Some(&one.record),
            _ => None,
        });
        let (number, head) = (self.next_batch, admitted.batch().head().head());
        self.note_batch(position, head, &entry, records);
        let spans = record_spans(&entry.body).map_err(|error| LedgerError::Damaged(error.to_string()))?;
        if self.fresh.len() >= recent::BATCHES_MAX {
            self.fresh.remove(0);
        }
        self.fresh.push(StoredBatch::fresh(number, head.clone(), entry, spans, None));
        Ok(())
    }

    /// Takes in more of a batch that is here: its `new` places. What was taken in before is committed first.
    pub fn fill(&mut self, admitted: &Admitted, new: &[u16], received: Timestamp, brought: &Brought<'_>) -> Result<(), LedgerError> {
        self.commit()?;
        let head = admitted.batch().head().head();
        let Some(before) = self.ledger.batch_at(&head.feed(), head.seq)? else { return Ok(()) };
        let lines = |index: u16| match brought.gone.contains(&index) {
            true => Some(OutcomeLine::Gone),
            false => (!new.contains(&index)).then(|| before.first_outcome(index)),
        };
        let entry = BatchEntry::of(admitted, received, brought).with_lines(lines);
        let position = self.journal.append(&Entry::Filled(entry.clone()).encode())?;
        self.note_filled(position, head, &entry, &before)
    }

    /// What more of a batch changes in state and index.
    fn note_filled(&mut self, position: Position, head: &Head, entry: &BatchEntry, before: &StoredBatch) -> Result<(), LedgerError> {
        let feed = head.feed();
        let Some(mut info) = self.ledger.state(|state| state.batch(before.number))? else { return Ok(()) };
        // When only the index is behind, the state knows this copy already.
        if !info.fills.contains(&position) {
            info.fills.push(position);
        }
        let spans = record_spans(&entry.body).map_err(|error| LedgerError::Damaged(error.to_string()))?;
        let mut counts = Counts::default();
        for ((index, span), line) in (0u16..).zip(&spans).zip(entry.outcomes()) {
            if index < before.places()
                && before.record_bytes(index).is_none()
                && let Some(bytes) = span.of(&entry.body)
            {
                let record = decoded(bytes);
                self.note_place(head, Place { batch: before.number, index }, record.as_ref(), line, &mut counts);
                if let Some(Record::Indicator(Indicator { report: Some(report), .. })) = &record {
                    self.note_naming(report, head);
                }
            }
        }
        self.changes.info(before.number, &info);
        let Some(mut state) = self.changes.feeds.get(&feed).cloned().or_else(|| self.ledger.feed(&feed)) else { return Ok(()) };
        state.recount(head.tlp, &Counts { absent: counts.total(), ..Counts::default() }, &counts);
        self.changes.changed(head.tlp, position, &entry.id.0);
        self.changes.feeds.insert(feed.clone(), state);
        self.note_withheld(&feed, head.seq, (entry.absent() > 0).then_some(entry.withheld))
    }

    /// Notes how many records of a batch are withheld from us by now; `None` if it is whole. Only in the state: a rebuild asks
    /// again.
    pub fn note_withheld(&mut self, feed: &FeedId, seq: u64, withheld: Option<u16>) -> Result<(), LedgerError> {
        let before = self.ledger.state(|state| state.withheld_of(feed, seq))?;
        let state = self.changes.feeds.get(feed).cloned().or_else(|| self.ledger.feed(feed));
        if let Some(mut state) = state {
            state.withheld = state.withheld.saturating_sub(u64::from(before)) + u64::from(withheld.unwrap_or(0));
            self.changes.feeds.insert(feed.clone(), state);
        }
        self.changes.withhold(feed, seq, withheld);
        Ok(())
    }

    /// Others are followed than before: what is absent of the batches that are here may be wanted now.
    fn note_follow(&mut self, position: Position) -> Result<(), LedgerError> {
        self.changes.document(DocumentKey::Follow, position);
        for (feed, _) in self.ledger.feeds() {
            for (seq, withheld) in self.ledger.state(|state| state.partial(&feed))? {
                let Some(batch) = self.ledger.batch_at(&feed, seq)?.filter(|batch| !batch.entry.body.is_empty()) else { continue };
                let absent = batch.entry.absent();
                if absent != withheld {
                    self.note_withheld(&feed, seq, Some(absent))?;
                }
            }
        }
        Ok(())
    }

    /// Takes in a version of the charter.
    pub fn keep_charter(&mut self, version: u64, bytes: &[u8]) -> Result<(), LedgerError> {
        let position = self.journal.append(&Entry::Charter(bytes.to_vec()).encode())?;
        self.changes.document(DocumentKey::Charter(version), position);
        Ok(())
    }

    /// Notes what a person did.
    pub fn keep_decision(&mut self, decision: DecisionEntry) -> Result<(), LedgerError> {
        let position = self.journal.append(&Entry::Decision(decision).encode())?;
        self.changes.decision(position);
        Ok(())
    }

    /// Notes what a person decided about records that were due for review.
    pub fn keep_review(&mut self, entry: ReviewEntry) -> Result<(), LedgerError> {
        self.changes.reviewed(&entry.rule, (entry.received_until, entry.until));
        self.journal.append(&Entry::Review(entry).encode())?;
        Ok(())
    }

    /// Takes in a second charter of the version in force.
    pub fn keep_rival(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let position = self.journal.append(&Entry::Rival(bytes.to_vec()).encode())?;
        self.changes.document(DocumentKey::Rival, position);
        Ok(())
    }

    /// Takes in a stamp.
    pub fn keep_stamp(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let position = self.journal.append(&Entry::Stamp(bytes.to_vec()).encode())?;
        self.changes.document(DocumentKey::Stamp, position);
        Ok(())
    }

    /// Notes which channels are followed from now on.
    pub fn keep_follow(&mut self, entry: FollowEntry) -> Result<(), LedgerError> {
        self.commit()?;
        let position = self.journal.append(&Entry::Follow(entry).encode())?;
        self.note_follow(position)
    }

    /// Takes in a card.
    pub fn keep_card(&mut self, card: &Card, bytes: &[u8]) -> Result<(), LedgerError> {
        let position = self.journal.append(&Entry::Card(bytes.to_vec()).encode())?;
        self.changes.card(card, position);
        Ok(())
    }

    /// Takes in a proof that a feed's author said two things, and quarantines the feed.
    pub fn keep_proof(&mut self, feed: &FeedId, bytes: &[u8]) -> Result<(), LedgerError> {
        let position = self.journal.append(&Entry::Proof(bytes.to_vec()).encode())?;
        self.changes.document(DocumentKey::Proof(feed), position);
        self.touch(|touched| touched.feed(feed));
        self.note_feed_changed(feed, position);
        self.set_feed_aside(feed, Some(Aside::Forked));
        Ok(())
    }

    /// Makes everything taken in durable: journal and fsync first, then the state. The index follows.
    pub fn commit(&mut self) -> Result<(), LedgerError> {
        self.journal.commit()?;
        // What is no new batch may be about one that is.
        if self.changes.touches_old() {
            self.ledger.shared.recent.forget();
        }
        self.changes.newest = self.journal.newest();
        self.apply_changes(self.journal.end())?;
        self.ledger.shared.recent.add(std::mem::take(&mut self.fresh));
        if self.rows.len() >= INDEX_ROWS_PENDING_MAX { self.begin_index() } else { Ok(()) }
    }

    fn apply_changes(&mut self, position: Position) -> Result<(), LedgerError> {
        let changes = std::mem::take(&mut self.changes);
        let erases = changes.erases();
        let mut state = self.ledger.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        state.apply(changes, &self.ledger.shared.store_id, position)?;
        drop(state);
        if erases {
            self.ledger.shared.batches.clear();
        }
        let mut reports = self.ledger.shared.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.len() > REPORTS_CACHED_MAX {
            reports.clear();
        }
        Ok(())
    }

    /// When the disk is full, `make_room` is asked whether there is more now.
    pub fn when_full(&mut self, make_room: impl Fn() -> bool + Send + Sync + 'static) {
        self.journal.when_full(make_room);
    }

    /// Rows that wait for the index.
    pub fn rows_pending(&self) -> usize {
        self.rows.len()
    }

    /// Begins to make everything committed findable by value, on a thread of its own if it is much; waits for the run before, so that rows
    /// reach the index in their order and at most two runs are in memory.
    pub fn begin_index(&mut self) -> Result<(), LedgerError> {
        if self.rows.len() + self.gone.len() < INDEX_THREAD_ROWS_MIN {
            return self.write_index();
        }
        self.end_index()?;
        let (rows, gone) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.gone));
        let (position, ledger) = (self.journal.end(), self.ledger.clone());
        ledger.widen_known();
        let write = move || ledger.shared.index.write(rows, gone, &ledger.shared.store_id, position);
        self.indexing = Some(std::thread::spawn(write));
        Ok(())
    }

    /// Whether a run is being written just now.
    pub fn is_indexing(&self) -> bool {
        self.indexing.as_ref().is_some_and(|running| !running.is_finished())
    }

    /// Waits for the run that is being written.
    fn end_index(&mut self) -> Result<(), LedgerError> {
        let Some(running) = self.indexing.take() else { return Ok(()) };
        running.join().map_err(|_| LedgerError::Index("the thread that wrote it ended".to_owned()))?
    }

    /// Makes everything committed findable by value. Call it when there is nothing more urgent, within a second.
    pub fn write_index(&mut self) -> Result<(), LedgerError> {
        self.end_index()?;
        self.ledger.widen_known();
        let (rows, gone) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.gone));
        self.ledger.shared.index.write(rows, gone, &self.ledger.shared.store_id, self.journal.end())
    }

    /// Leaves everything on the disk so that the next start has nothing to replay.
    pub fn close(mut self) -> Result<(), LedgerError> {
        self.ledger.shared.index.known.closing.store(true, std::sync::atomic::Ordering::Relaxed);
        if self.is_compacting()
            && let Err(error) = self.end_compaction()
        {
            tracing::warn!(%error, "what was erased is not rewritten yet; the next start goes on with it");
        }
        self.commit()?;
        self.write_index()?;
        self.ledger.shared.index.sync()?;
        self.ledger.state(State::flush)
    }

    /// What a batch changes in state and index; the same whether it is new or replayed.
    fn note_batch<'a>(&mut self, position: Position, head: &Head, entry: &BatchEntry, records: impl Iterator<Item = Option<&'a Record>>) {
        let feed = head.feed();
        let number = self.next_batch;
        self.next_batch += 1;
        let mut counts = Counts::default();
        let mut named = None;
        for ((index, record), line) in (0u16..).zip(records).zip(entry.outcomes()) {
            self.note_place(head, Place { batch: number, index }, record, line, &mut counts);
            // Neighbours mostly name the same report.
            if let (Some(Record::Indicator(Indicator { report: Some(report), .. })), OutcomeLine::Judged { .. }) = (record, line)
                && named != Some(report)
            {
                self.note_naming(report, head);
                named = Some(report);
            }
        }
        // A removal travels whole or not at all, so what has to stay out of it goes when it is here.
        if head.class == Class::Removal
            && let Ok(erased) = self.ledger.erased(&feed, head.seq)
        {
            erased.into_iter().for_each(|index| self.changes.to_erase(&RecordRef { feed: feed.clone(), seq: head.seq, index }, true));
        }
        let before = self.changes.feeds.get(&feed).cloned().or_else(|| self.ledger.feed(&feed));
        let info = BatchInfo { position, feed: feed.to_string(), seq: head.seq, id: entry.id, aside: None, fills: Vec::new() };
        self.changes.batch(number, &info, head);
        self.changes.changed(head.tlp, position, &entry.id.0);
        self.changes.advance(before.as_ref(), head, entry, &counts);
    }

    /// Notes that a feed as a whole stands otherwise for everyone who may know of it.
    fn note_feed_changed(&mut self, feed: &FeedId, position: Position) {
        let Some(state) = self.feed(feed) else { return };
        for tlp in Tlp::ALL.iter().filter(|tlp| state.levels.contains_key(&state::level_of(**tlp))) {
            self.changes.changed(*tlp, position, feed.to_string().as_bytes());
        }
    }

    /// What one record of a batch changes, when it is new here.
    fn note_place(&mut self, head: &Head, place: Place, record: Option<&Record>, line: &OutcomeLine, counts: &mut Counts) {
        count(counts, line);
        if line.verdict() == Some(Verdict::Hold) {
            self.changes.hold(place);
        }
        if let Some(report) = line.waits_for() {
            self.changes.wait(&report, place, true);
        }
        let (Some(record), OutcomeLine::Judged { ends, judgement }) = (record, line) else { return };
        let reference = || RecordRef { feed: head.feed(), seq: head.seq, index: place.index };
        self.changes.listed(record, place, &reference);
        self.note_record(record, &reference, head);
        if judgement.verdict == Verdict::Accept {
            self.note_dispute(record, &reference, head, *ends);
            self.note_renewal(record, &reference, head);
        }
        self.rows.extend(words::word_rows(record, place));
        if let Some(value) = value_of(record) {
            self.rows.push(row(value, place, About::of(record, head, *ends, line.verdict())));
            self.touch(|touched| touched.value(value));
        }
    }

    /// In which batches a report is named: where one looks for its indicators. Widened only.
    fn note_naming(&mut self, report: &WireRef, head: &Head) {
        let Some(report) = report.resolve(&head.feed(), head.seq) else { return };
        let known = self.changes.named.get(&report).copied();
        let known = known.or_else(|| self.ledger.state(|state| state.naming(&report)).ok().flatten());
        let span = known.map_or((head.seq, head.seq), |(first, last)| (first.min(head.seq), last.max(head.seq)));
        if known != Some(span) {
            self.changes.naming(&report, span);
        }
    }

    fn note_record(&mut self, record: &Record, reference: &impl Fn() -> RecordRef, head: &Head) {
        match record {
            Record::Report(report) => self.note_report(report, &reference()),
            Record::Withdrawal(withdrawal) => {
                let by = reference();
                for target in withdrawal.targets.iter().filter_map(|target| target.resolve(&by.feed, by.seq)) {
                    let note = withdrawal.description.clone();
                    let reason = withdrawal.reason as u8;
                    self.changes.withdraw(&target, &Withdrawn { reason, by: by.to_string(), at: head.time, note });
                    self.changes.undispute(&target);
                    self.unrenew(&target);
                    // What no batch can hold was never said, and would wait for ever.
                    if withdrawal.reason.erases() && usize::from(target.index) < BATCH_RECORDS_MAX {
                        self.changes.to_erase(&target, true);
                    }
                    self.touch(|touched| touched.record(target));
                }
            }
            _ => (),
        }
    }

    /// An accepted false-positive sighting is a dispute, until its author takes it back.
    fn note_dispute(&mut self, record: &Record, reference: &impl Fn() -> RecordRef, head: &Head, until: Timestamp) {
        let Record::Sighting(sighting) = record else { return };
        if sighting.sighting != SightingKind::FalsePositive {
            return;
        }
        let this = reference();
        if self.changes.withdrawn.contains(&this) || self.ledger.withdrawn(&this).ok().flatten().is_some() {
            return;
        }
        let subjects = match &sighting.of {
            Sighted::Value(value) => {
                self.touch(|touched| touched.record(this.clone()));
                vec![Subject::value(value)]
            }
            Sighted::Records(targets) => {
                let targets: Vec<RecordRef> = targets.iter().filter_map(|target| target.resolve(&this.feed, this.seq)).collect();
                targets.iter().for_each(|target| self.touch(|touched| touched.record(target.clone())));
                targets.iter().map(Subject::record).collect()
            }
        };
        self.changes.dispute(Dispute { sighting: this.to_string(), member: head.member.clone(), tlp: head.tlp, until, subjects });
    }

    /// Builds what state and index lack, from the entries behind their positions.
    fn replay(&mut self, state_from: Position, index_from: Position) -> Result<u64, LedgerError> {
        let end = self.journal.end();
        let from = state_from.min(index_from);
        let reader = self.journal.reader();
        let mut replayed = 0;
        if from < end && state_from > from {
            // Only the index is behind: batch numbers are those that the state gave.
            self.next_batch = self.ledger.number_at(from)?;
        }
        reader.scan(from, end, |position, payload| {
            replayed += 1;
            let into_state = position >= state_from;
            let entry = Entry::decode(payload)?;
            // The state knows what was erased since; it does not have to be found again.
            let entry = if into_state { entry } else { self.as_of_now(entry)? };
            self.replay_entry(position, entry, into_state)?;
            if position < index_from {
                self.rows.clear();
                self.gone.clear();
            }
            if into_state {
                self.apply_changes(position + (8 + payload.len()) as Position)?;
            } else {
                self.changes = Changes::default();
            }
            if self.rows.len() >= INDEX_ROWS_PENDING_MAX {
                let (rows, gone) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.gone));
                self.ledger.shared.index.write(rows, gone, &self.ledger.shared.store_id, position)?;
            }
            Ok(())
        })?;
        if state_from == 0 || state_from < end {
            self.apply_changes(end)?;
        }
        if !self.rows.is_empty() || !self.gone.is_empty() || index_from < end || index_from == 0 {
            self.write_index()?;
        }
        Ok(replayed)
    }

    /// A batch that is replayed into the index alone, without what is erased by now.
    fn as_of_now(&self, entry: Entry) -> Result<Entry, LedgerError> {
        Ok(match entry {
            Entry::Batch(batch) => Entry::Batch(self.ledger.without_pending(self.next_batch, batch)?),
            Entry::Filled(batch) => {
                let head = stored_head(&batch.head)?;
                match self.ledger.batch_number(&head.feed(), head.seq)? {
                    Some(number) => Entry::Filled(self.ledger.without_pending(number, batch)?),
                    None => Entry::Filled(batch),
                }
            }
            other => other,
        })
    }

    /// Whether a copy of a batch is a further one: it may be the first that is left.
    fn is_here(&self, entry: &BatchEntry, position: Position) -> Result<bool, LedgerError> {
        if self.ledger.state(|state| state.batch(self.next_batch))?.is_some_and(|info| info.position == position) {
            return Ok(false);
        }
        let head = stored_head(&entry.head)?;
        Ok(self.ledger.batch_number(&head.feed(), head.seq)?.is_some())
    }

    fn is_copy(&self, entry: &ErasedEntry, position: Position) -> Result<bool, LedgerError> {
        let head = stored_head(&entry.head)?;
        let Some(number) = self.ledger.batch_number(&head.feed(), head.seq)? else { return Ok(false) };
        Ok(self.ledger.state(|state| state.batch(number))?.is_some_and(|info| info.position < position))
    }

    /// A batch as it was before the copy at `position` came.
    fn before_fill(&self, head: &Head, position: Position) -> Result<Option<StoredBatch>, LedgerError> {
        let Some(number) = self.ledger.batch_number(&head.feed(), head.seq)? else { return Ok(None) };
        let Some(info) = self.ledger.state(|state| state.batch(number))? else { return Ok(None) };
        let Some(at) = info.positions().take_while(|one| *one < position).last() else { return Ok(None) };
        let (Entry::Batch(entry) | Entry::Filled(entry)) = Entry::decode(&self.ledger.shared.journal.read(at)?)? else { return Ok(None) };
        let spans = record_spans(&entry.body).map_err(|error| LedgerError::Damaged(error.to_string()))?;
        Ok(Some(StoredBatch::fresh(number, head.clone(), entry, spans, info.aside)))
    }

    fn replay_entry(&mut self, position: Position, entry: Entry, into_state: bool) -> Result<(), LedgerError> {
        match entry {
            Entry::Charter(bytes) => {
                // Version numbers stand in the payload; the signatures are checked when the roster is built.
                let version =
                    charter_version(&bytes).ok_or_else(|| LedgerError::Damaged("a stored charter cannot be parsed".to_owned()))?;
                self.changes.document(DocumentKey::Charter(version), position);
            }
            Entry::Decision(_) => self.changes.decision(position),
            Entry::Rival(_) => self.changes.document(DocumentKey::Rival, position),
            Entry::Stamp(_) => self.changes.document(DocumentKey::Stamp, position),
            Entry::Card(bytes) => {
                let card = card_of(&bytes).ok_or_else(|| LedgerError::Damaged("a stored card cannot be parsed".to_owned()))?;
                self.changes.card(&card, position);
            }
            Entry::Proof(bytes) => {
                let proof: crate::charter::Equivocation =
                    crate::cbor::decode_stored(&bytes).map_err(|error| LedgerError::Damaged(format!("a proof: {error}")))?;
                let feed = stored_head(&proof.one)?.feed();
                self.changes.document(DocumentKey::Proof(&feed), position);
                self.note_feed_changed(&feed, position);
                self.set_feed_aside(&feed, Some(Aside::Forked));
            }
            Entry::Quarantine(entry) => self.note_quarantine(&entry, position)?,
            Entry::Policy(entry) => self.note_policy(&entry, position),
            Entry::Judged(entry) => self.note_judged(&entry, position)?,
            Entry::Order(_) => self.changes.order(position),
            Entry::Follow(_) => self.note_follow(position)?,
            Entry::Share(entry) => self.changes.share(&entry),
            Entry::Review(entry) => self.changes.reviewed(&entry.rule, (entry.received_until, entry.until)),
            Entry::Erasure(entry) => {
                if !into_state {
                    self.gone_rows(&entry)?;
                }
                self.note_erasure(&entry, position)?;
            }
            // A further copy of a batch that was rewritten out changes nothing; the first one keeps its number.
            Entry::Erased(entry) if self.is_copy(&entry, position)? => (),
            Entry::Erased(entry) => {
                let records = std::iter::repeat_n(None, usize::from(entry.records));
                self.note_batch(position, &stored_head(&entry.head)?, &entry.as_batch(), records);
            }
            Entry::Filled(batch) if self.is_here(&batch, position)? => {
                let head = stored_head(&batch.head)?;
                // As it was before this copy: what the copies up to here show.
                if let Some(before) = self.before_fill(&head, position)? {
                    self.note_filled(position, &head, &batch, &before)?;
                }
            }
            // A copy whose first one was lost with a damaged file is that batch.
            Entry::Batch(batch) | Entry::Filled(batch) => {
                let head = stored_head(&batch.head)?;
                let spans = record_spans(&batch.body).map_err(|error| LedgerError::Damaged(error.to_string()))?;
                let records: Vec<Option<Record>> = spans.iter().map(|span| decoded(span.of(&batch.body)?)).collect();
                self.note_batch(position, &head, &batch, records.iter().map(Option::as_ref));
            }
        }
        Ok(())
    }
}

fn count(counts: &mut Counts, line: &OutcomeLine) {
    let counter = match line {
        OutcomeLine::Absent => &mut counts.absent,
        OutcomeLine::Gone => &mut counts.gone,
        OutcomeLine::Bad(_) => &mut counts.bad,
        OutcomeLine::Newer(_) => &mut counts.newer,
        OutcomeLine::Waiting(_) => &mut counts.waiting,
        OutcomeLine::Judged { judgement, .. } => match judgement.verdict {
            Verdict::Accept => &mut counts.accepted,
            Verdict::Hold => &mut counts.held,
            Verdict::Refuse => &mut counts.refused,
        },
    };
    *counter += 1;
}

/// Longest wait for a lock: a child process keeps its copy from `fork` to `exec`, some milliseconds on a loaded machine.
const LOCK_PATIENCE: std::time::Duration = std::time::Duration::from_millis(300);
/// Time between two tries.
const LOCK_POLL: std::time::Duration = std::time::Duration::from_millis(10);

fn lock(directory: &Path) -> Result<File, LedgerError> {
    let path = directory.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|error| LedgerError::io(&path, error))?;
    let begun = std::time::Instant::now();
    loop {
        match file.try_lock_exclusive() {
            Ok(true) => return Ok(file),
            // A process that this one starts holds the lock with it until it has begun its program.
            Ok(false) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_POLL),
            Ok(false) => return Err(LedgerError::InUse(directory.to_owned())),
            Err(error) => return Err(LedgerError::io(&path, error)),
        }
    }
}

/// Where the journal stands as it was in format `format`, for the huecry of then.
fn restore_point(directory: &Path, format: u32) -> PathBuf {
    directory.join(format!("before-format-{}", format + 1))
}

/// Leaves a copy of the journal as it was, which the older huecry can restore, and goes over to our format.
fn upgrade(journal: &mut Journal, directory: &Path) -> Result<(), LedgerError> {
    let to = restore_point(directory, journal.format());
    std::fs::create_dir_all(&to).map_err(|error| LedgerError::io(&to, error))?;
    copy_journal(&directory.join("journal"), &to, None)?;
    journal.upgrade()
}

/// Removes a derived store, whose content the journal has.
fn start_anew(path: &Path) -> Result<(), LedgerError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(LedgerError::io(path, error)),
        _ => Ok(()),
    }
}

fn new_store_id() -> Result<String, LedgerError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| LedgerError::Random(error.to_string()))?;
    Ok(hex::encode(id))
}
