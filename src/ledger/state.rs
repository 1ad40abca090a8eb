//! The state: what follows from the journal and is asked for all the time, in sled.
//!
//! One tree, one-byte table prefix, big-endian keys; one atomic batch a commit, with the journal position it reaches. sled
//! may lose its newest batches in a crash, or open damaged files as an empty database: position and store id tell, and
//! the journal is replayed from there. May be deleted; it is rebuilt.

use super::{
    Aside, Dispute, Disputes, LaterRuns, LaterVerdict, LedgerError, Place, Position, ShareEntry, Shares,
    entry::{BatchEntry, ErasedPlaces, Runs},
    tree::{Batch, Tree},
};
use crate::{
    cbor,
    charter::Card,
    envelope::{Class, Hash, Head, SignedHead},
    intake::Spans,
    record::{FeedId, Kind, MemberId, Reason, Record, RecordRef, Sighted, Sighting, Timestamp, Tlp},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

/// Tables, by key prefix.
mod table {
    pub const META: u8 = b'M';
    pub const FEED: u8 = b'F';
    pub const BATCH: u8 = b'B';
    pub const SEQ: u8 = b'S';
    pub const WITHDRAWN: u8 = b'W';
    pub const HELD: u8 = b'H';
    pub const DISPUTE: u8 = b'D';
    pub const DOCUMENT: u8 = b'K';
    pub const ASIDE: u8 = b'Q';
    pub const DECISION: u8 = b'J';
    pub const VERDICT: u8 = b'V';
    pub const ORDER: u8 = b'O';
    pub const WITHHELD: u8 = b'L';
    pub const REMOVAL: u8 = b'R';
    pub const WAITING: u8 = b'T';
    pub const SHARE: u8 = b'P';
    pub const LISTED: u8 = b'I';
    pub const ANSWER: u8 = b'A';
    pub const ERASED: u8 = b'E';
    pub const TO_ERASE: u8 = b'X';
    pub const REVIEWED: u8 = b'Y';
    pub const RELEASED: u8 = b'U';
    pub const NAMED: u8 = b'N';
    pub const PENDING: u8 = b'G';
    pub const PENDING_DECISION: u8 = b'g';
    pub const RENEWED: u8 = b'n';
    pub const RENEWS: u8 = b'r';
    pub const RENEWING: u8 = b'c';
    pub const CHANGED: u8 = b'l';

    /// Follows from what the journal's files hold besides what was said in them: not compared with a replay.
    pub const LOCAL: [u8; 6] = [META, NAMED, PENDING, PENDING_DECISION, WITHHELD, CHANGED];
}

/// What the tables hold, as a number: a state that was written by another version is built anew from the journal.
const STATE_FORMAT: u32 = 7;

/// Bytes of a key under which the later verdicts on one place stand: table, batch, index. Those of runs are longer.
const SINGLE_KEY_BYTES: usize = 11;

/// How many records of a feed met which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    pub accepted: u64,
    pub held: u64,
    pub refused: u64,
    pub waiting: u64,
    pub newer: u64,
    pub bad: u64,
    pub absent: u64,
    /// Erased here.
    #[serde(default)]
    pub gone: u64,
}

impl Counts {
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.accepted + self.held + self.refused + self.waiting + self.newer + self.bad + self.absent + self.gone
    }

    /// Takes `other` off these.
    pub fn subtract(&mut self, other: &Self) {
        let less = |from: &mut u64, by: u64| *from = from.saturating_sub(by);
        less(&mut self.accepted, other.accepted);
        less(&mut self.held, other.held);
        less(&mut self.refused, other.refused);
        less(&mut self.waiting, other.waiting);
        less(&mut self.newer, other.newer);
        less(&mut self.bad, other.bad);
        less(&mut self.absent, other.absent);
        less(&mut self.gone, other.gone);
    }

    /// Adds `other` to these.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.held += other.held;
        self.refused += other.refused;
        self.waiting += other.waiting;
        self.newer += other.newer;
        self.bad += other.bad;
        self.absent += other.absent;
        self.gone += other.gone;
    }
}

/// The part of a feed that has one marking: all of it that a reader with that clearance may know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelState {
    /// The first batch, and the last.
    pub first: u64,
    pub last: u64,
    pub id: Hash,
    pub time: Timestamp,
    pub batches: u64,
    pub counts: Counts,
}

/// How far a feed has been judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedState {
    /// The batches that we hold; one at least.
    pub spans: Spans,
    /// Records of them that were withheld by whoever served us, and may be had elsewhere.
    #[serde(default)]
    pub withheld: u64,
    /// Id of the last head.
    pub id: Hash,
    /// The last head itself, for its audience.
    pub head: serde_bytes::ByteBuf,
    pub time: Timestamp,
    pub counts: Counts,
    /// Counts and last batches by marking.
    #[serde(default)]
    pub levels: BTreeMap<Level, LevelState>,
    /// Why nothing of the feed counts, if so.
    pub aside: Option<Aside>,
}

impl FeedState {
    /// Takes some records out of the counts and others in, of batches marked `tlp`.
    pub fn recount(&mut self, tlp: Tlp, less: &Counts, more: &Counts) {
        let level = self.levels.get_mut(&level_of(tlp)).map(|level| &mut level.counts);
        for counts in [Some(&mut self.counts), level].into_iter().flatten() {
            counts.subtract(less);
            counts.add(more);
        }
    }

    /// The first batch that we hold.
    pub fn first(&self) -> u64 {
        self.spans.first().unwrap_or_default()
    }

    /// The last one.
    pub fn last(&self) -> u64 {
        self.spans.last().unwrap_or_default()
    }
}

/// A marking as a number, in the order of strictness.
pub type Level = u8;

/// How many markings there are.
pub const LEVELS: usize = 5;

/// The number of a marking.
pub fn level_of(tlp: Tlp) -> Level {
    tlp as Level
}

/// A change that readers of one marking may see: where its entry stands, and a checksum over what they may see of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedAt {
    pub position: Position,
    pub check: u32,
}

/// Where a batch is and what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchInfo {
    pub position: Position,
    pub feed: String,
    pub seq: u64,
    pub id: Hash,
    /// Why this batch does not count, if so.
    #[serde(default)]
    pub aside: Option<Aside>,
    /// Where it stands again, with more of its records each time.
    #[serde(default)]
    pub fills: Vec<Position>,
}

impl BatchInfo {
    /// Where the fullest copy stands.
    pub fn newest(&self) -> Position {
        self.fills.last().copied().unwrap_or(self.position)
    }

    /// Everywhere that it stands.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        std::iter::once(self.position).chain(self.fills.iter().copied())
    }
}

/// That a record was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    pub reason: u8,
    /// The withdrawal record.
    pub by: String,
    pub at: Timestamp,
    pub note: Option<String>,
}

impl Withdrawn {
    /// Why.
    pub fn reason(&self) -> Reason {
        Reason::from_number(u64::from(self.reason)).unwrap_or(Reason::Wrong)
    }
}

/// Verdicts that were made after a batch came: by place, and in runs.
pub type Later = (BTreeMap<u16, Vec<LaterVerdict>>, Vec<LaterRuns>);

/// That a report holds longer than it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    pub until: Timestamp,
    /// When its author said so.
    pub at: Timestamp,
    /// The renewal record.
    pub by: String,
}

/// A document whose bytes stand in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKey<'a> {
    Charter(u64),
    Rival,
    Stamp,
    Card(&'a MemberId),
    /// The newest card that names a key.
    Key(&'a [u8; 32]),
    /// A policy that judged once, by its hash.
    Policy(Hash),
    /// The newest policy that was in force.
    PolicyInForce,
    /// The proof that a feed's author said two things.
    Proof(&'a FeedId),
    /// Which channels are followed.
    Follow,
}

/// Changes that are applied together.
#[derive(Default)]
pub struct Changes {
    batch: Batch,
    /// Feeds as they are after the changes.
    pub feeds: BTreeMap<FeedId, FeedState>,
    /// Id of each head taken in, and of the one that it names as before it.
    pub seqs: HashMap<(FeedId, u64), (Hash, Option<Hash>)>,
    /// Feeds of which nothing is left.
    pub ended: Vec<FeedId>,
    /// Disputes that come (`Ok`) or end (`Err`, the sighting), in order.
    pub disputes: Vec<Result<Dispute, String>>,
    /// Orders to pass records on, or to do so no more, in order.
    pub shares: Vec<ShareEntry>,
    /// Records taken back in these changes.
    pub withdrawn: HashSet<RecordRef>,
    /// In which batches reports are named, as it is after these changes.
    pub named: HashMap<RecordRef, (u64, u64)>,
    /// Renewals of reports, as they are after these changes.
    pub renewed: HashMap<RecordRef, Vec<Renewed>>,
    /// What renewals among these changes are about.
    pub renews: HashMap<RecordRef, Vec<RecordRef>>,
    pub next_batch: Option<u64>,
    /// Where the newest entry stands, if that is known.
    pub newest: Option<Position>,
    /// Entries that change something for readers of a marking, in order.
    changed: Vec<(Level, ChangedAt)>,
    /// Something about a batch that was here before is among them.
    old: bool,
    /// So are bytes that go.
    erases: bool,
}

/// The state on disk, and the parts of it that are held in memory.
pub struct State {
    tree: Tree,
    pub feeds: HashMap<FeedId, FeedState>,
    pub disputes: Disputes,
    pub shares: Shares,
    pub next_batch: u64,
    /// How many changes there are, by the marking of what they changed.
    pub changes: [u64; LEVELS],
}

/// Names the store whose state this is, and the form in which it is kept.
fn mark(store_id: &str) -> String {
    format!("{store_id} {STATE_FORMAT}")
}

fn keyed(table: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![table];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

fn feed_key(feed: &FeedId) -> Vec<u8> {
    let (lane, epoch) = (feed.lane.to_be_bytes(), feed.epoch.to_be_bytes());
    [feed.member.as_str().as_bytes(), &[0], feed.channel.as_str().as_bytes(), &[0], &lane, &epoch].concat()
}

/// Reads what [`feed_key`] and a seq behind it spell.
fn feed_and_seq(key: &[u8]) -> Option<(FeedId, u64)> {
    let (rest, seq) = key.split_last_chunk::<8>()?;
    let (rest, epoch) = rest.split_last_chunk::<4>()?;
    let (rest, lane) = rest.split_last_chunk::<4>()?;
    let mut names = rest.split(|byte| *byte == 0).map(|name| std::str::from_utf8(name).ok());
    let (member, channel) = (names.next()??.parse().ok()?, names.next()??.parse().ok()?);
    let feed = FeedId { member, channel, lane: u32::from_be_bytes(*lane), epoch: u32::from_be_bytes(*epoch) };
    Some((feed, u64::from_be_bytes(*seq)))
}

fn record_key(record: &RecordRef) -> Vec<u8> {
    [&feed_key(&record.feed)[..], &record.seq.to_be_bytes(), &record.index.to_be_bytes()].concat()
}

/// The place at the end of a key behind its table's byte.
fn place_of(key: &[u8]) -> Option<Place> {
    let (rest, index) = key.get(1..)?.split_last_chunk::<2>()?;
    Some(Place { batch: u64::from_be_bytes(*rest.first_chunk::<8>()?), index: u16::from_be_bytes(*index) })
}

/// The place that ends a key, whatever stands before it.
fn last_place(key: &[u8]) -> Option<Place> {
    key.last_chunk::<10>().and_then(|place| place_of(&[&[0], &place[..]].concat()))
}

fn place_key(place: Place) -> Vec<u8> {
    [&place.batch.to_be_bytes()[..], &place.index.to_be_bytes()].concat()
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LedgerError> {
    cbor::decode_stored(bytes).map_err(|error| LedgerError::State(format!("a value does not read: {error}")))
}

impl State {
    /// Opens or creates the state. As position `None`: it is new, damaged or of another store, and has to be rebuilt.
    pub fn open(path: &Path, store_id: &str, cache_bytes: u64) -> Result<(Self, Option<Position>), LedgerError> {
        let tree = Tree::open(path, cache_bytes)?;
        let meta = |name: &str| tree.get(&keyed(table::META, &[name.as_bytes()]));
        let number = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok()).map(u64::from_be_bytes);
        let same = meta("store")?.is_some_and(|store| *store == *mark(store_id).as_bytes());
        let position = number(meta("position")?).filter(|_| same);
        let next_batch = number(meta("next")?).unwrap_or(0);
        let mut state = Self { next_batch, ..Self::of(tree) };
        if position.is_some() {
            state.load()?;
        }
        Ok((state, position))
    }

    /// An empty state that is gone with the process: for a rehearsal of many nodes in one.
    pub fn in_memory() -> Self {
        Self::of(Tree::in_memory())
    }

    fn of(tree: Tree) -> Self {
        Self { tree, feeds: HashMap::new(), disputes: Disputes::default(), shares: Shares::default(), next_batch: 0, changes: [0; LEVELS] }
    }

    /// Fills the memory part from the tree.
    fn load(&mut self) -> Result<(), LedgerError> {
        for row in self.tree.prefix(&[table::FEED], usize::MAX)? {
            let (_, value) = row;
            let feed: FeedState = read(&value)?;
            if let Ok(head) = stored_head(&feed.head) {
                self.feeds.insert(head.feed(), feed);
            }
        }
        for row in self.tree.prefix(&[table::DISPUTE], usize::MAX)? {
            self.disputes.add(read(&row.1)?);
        }
        for row in self.tree.prefix(&[table::SHARE], usize::MAX)? {
            self.shares.apply(&read(&row.1)?);
        }
        for (level, count) in (0..).zip(&mut self.changes) {
            let last = self.tree.last(&[table::CHANGED, level], 1)?;
            let ordinal = last.first().and_then(|(key, _)| key.last_chunk::<8>().map(|ordinal| u64::from_be_bytes(*ordinal)));
            *count = ordinal.map_or(0, |ordinal| ordinal + 1);
        }
        Ok(())
    }

    /// Applies changes and the position they reach, all or nothing.
    pub fn apply(&mut self, mut changes: Changes, store_id: &str, position: Position) -> Result<(), LedgerError> {
        for (feed, state) in &changes.feeds {
            changes.batch.insert(keyed(table::FEED, &[&feed_key(feed)]), cbor::to_vec(state));
        }
        for feed in &changes.ended {
            changes.batch.remove(keyed(table::FEED, &[&feed_key(feed)]));
        }
        for change in &changes.disputes {
            match change {
                Ok(dispute) => changes.batch.insert(keyed(table::DISPUTE, &[dispute.sighting.as_bytes()]), cbor::to_vec(dispute)),
                Err(sighting) => changes.batch.remove(keyed(table::DISPUTE, &[sighting.as_bytes()])),
            }
        }
        if let Some(next) = changes.next_batch {
            changes.batch.insert(keyed(table::META, &[b"next"]), next.to_be_bytes());
            self.next_batch = next;
        }
        let mut counts = self.changes;
        for (level, at) in &changes.changed {
            let Some(count) = counts.get_mut(usize::from(*level)) else { continue };
            let value = [&at.position.to_be_bytes()[..], &at.check.to_be_bytes()].concat();
            changes.batch.insert(keyed(table::CHANGED, &[&[*level], &count.to_be_bytes()]), value);
            *count += 1;
        }
        changes.batch.insert(keyed(table::META, &[b"store"]), mark(store_id).as_bytes());
        changes.batch.insert(keyed(table::META, &[b"position"]), position.to_be_bytes());
        if let Some(newest) = changes.newest {
            changes.batch.insert(keyed(table::META, &[b"newest"]), newest.to_be_bytes());
        }
        self.tree.apply(changes.batch)?;
        self.changes = counts;
        self.feeds.extend(changes.feeds);
        for feed in changes.ended {
            self.feeds.remove(&feed);
        }
        for change in changes.disputes {
            match change {
                Ok(dispute) => self.disputes.add(dispute),
                Err(sighting) => drop(self.disputes.remove(&sighting)),
            }
        }
        changes.shares.iter().for_each(|entry| self.shares.apply(entry));
        Ok(())
    }

    /// The journal position that it reaches, and every row that follows from the journal alone.
    pub fn rows(&self) -> Result<(Position, Vec<super::tree::Row>), LedgerError> {
        let mut rows = self.tree.prefix(&[], usize::MAX)?;
        rows.retain(|(key, _)| key.first().is_some_and(|table| !table::LOCAL.contains(table)));
        // What others hold back from us is noted as they say it, and not in the journal.
        for (_, value) in rows.iter_mut().filter(|(key, _)| key.first() == Some(&table::FEED)) {
            *value = cbor::to_vec(&FeedState { withheld: 0, ..read(value)? });
        }
        Ok((self.position()?, rows))
    }

    /// The journal position that it reaches: what stands before it is durable.
    pub fn position(&self) -> Result<Position, LedgerError> {
        Ok(self.meta(b"position")?.unwrap_or(0))
    }

    /// Where the newest entry before that position stands, if that is known.
    pub fn newest(&self) -> Result<Option<Position>, LedgerError> {
        self.meta(b"newest")
    }

    fn meta(&self, name: &[u8]) -> Result<Option<Position>, LedgerError> {
        let number = self.tree.get(&keyed(table::META, &[name]))?.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok());
        Ok(number.map(Position::from_be_bytes))
    }

    /// Pushes everything to the disk; called when the node stops in order.
    pub fn flush(&self) -> Result<(), LedgerError> {
        self.tree.flush()
    }

    fn get<T: DeserializeOwned>(&self, table: u8, key: &[u8]) -> Result<Option<T>, LedgerError> {
        self.tree.get(&keyed(table, &[key]))?.map(|bytes| read(&bytes)).transpose()
    }

    /// Changes for readers of one marking, from the one with this ordinal on.
    pub fn changed(&self, level: Level, from: u64, limit: usize) -> Result<Vec<ChangedAt>, LedgerError> {
        let key = |ordinal: u64| keyed(table::CHANGED, &[&[level], &ordinal.to_be_bytes()]);
        let rows = self.tree.range(key(from), keyed(table::CHANGED, &[&[level], &[u8::MAX; 9]]), limit)?;
        let read = |(_, value): super::tree::Row| {
            let (position, check) = value.split_first_chunk::<8>()?;
            let check = u32::from_be_bytes(*check.first_chunk::<4>()?);
            Some(ChangedAt { position: Position::from_be_bytes(*position), check })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// A batch by its number.
    pub fn batch(&self, number: u64) -> Result<Option<BatchInfo>, LedgerError> {
        self.get(table::BATCH, &number.to_be_bytes())
    }

    /// The number of the batch at a place of a feed.
    pub fn batch_at(&self, feed: &FeedId, seq: u64) -> Result<Option<u64>, LedgerError> {
        self.get(table::SEQ, &[&feed_key(feed)[..], &seq.to_be_bytes()].concat())
    }

    /// Whether and why a record was taken back.
    pub fn withdrawn(&self, record: &RecordRef) -> Result<Option<Withdrawn>, LedgerError> {
        // A row for each withdrawal that names it: one of them may be set aside, and the others still hold.
        let mut found: Option<Withdrawn> = None;
        for row in self.tree.prefix(&keyed(table::WITHDRAWN, &[&record_key(record)]), usize::MAX)? {
            let one: Withdrawn = read(&row.1)?;
            if found.as_ref().is_none_or(|first| one.at < first.at) {
                found = Some(one);
            }
        }
        Ok(found)
    }

    /// Where the records stand that take back a record.
    pub fn withdrawn_by(&self, record: &RecordRef) -> Result<Vec<RecordRef>, LedgerError> {
        let rows = self.tree.prefix(&keyed(table::WITHDRAWN, &[&record_key(record)]), usize::MAX)?;
        let by = rows.iter().map(|(_, value)| Ok(read::<Withdrawn>(value)?.by.parse().ok()));
        by.filter_map(Result::transpose).collect()
    }

    /// Renewals of a report that count; the one that holds longest is the last.
    pub fn renewed(&self, report: &RecordRef) -> Result<Vec<Renewed>, LedgerError> {
        Ok(self.get(table::RENEWED, &record_key(report))?.unwrap_or_default())
    }

    /// Whether a record is a renewal that counts.
    pub fn renews(&self, by: &RecordRef) -> Result<bool, LedgerError> {
        Ok(self.tree.get(&keyed(table::RENEWS, &[&record_key(by)]))?.is_some())
    }

    /// Reports whose indicators have not got their new end yet.
    pub fn renewing(&self, limit: usize) -> Result<Vec<RecordRef>, LedgerError> {
        let rows = self.tree.prefix(&[table::RENEWING], limit)?;
        rows.iter().map(|(_, value)| Ok(read::<String>(value)?.parse().ok())).filter_map(Result::transpose).collect()
    }

    /// Records that are found by their kind, the newest first.
    pub fn listed(&self, kind: Kind, limit: usize) -> Result<Vec<Place>, LedgerError> {
        let rows = self.tree.last(&[table::LISTED, kind as u8], limit)?;
        Ok(rows.iter().filter_map(|(key, _)| last_place(key)).collect())
    }

    /// Sightings that name a record, the oldest first.
    pub fn answers(&self, record: &RecordRef, limit: usize) -> Result<Vec<Place>, LedgerError> {
        let rows = self.tree.prefix(&keyed(table::ANSWER, &[&record_key(record)]), limit)?;
        Ok(rows.iter().filter_map(|(key, _)| last_place(key)).collect())
    }

    /// Records that wait for a person, oldest first, from `from` on.
    pub fn held(&self, from: Place, limit: usize) -> Result<Vec<Place>, LedgerError> {
        let first = keyed(table::HELD, &[&place_key(from)]);
        let mut places = Vec::new();
        for row in self.tree.range(first, vec![table::HELD + 1], limit)? {
            places.extend(place_of(&row.0));
        }
        Ok(places)
    }

    /// Verdicts on places of a batch that were made after it came: one by one, the oldest first, and in runs.
    pub fn later_verdicts(&self, batch: u64) -> Result<Later, LedgerError> {
        let (mut singly, mut runs) = (BTreeMap::new(), Vec::new());
        for (key, value) in self.tree.prefix(&keyed(table::VERDICT, &[&batch.to_be_bytes()]), usize::MAX)? {
            match place_of(&key) {
                Some(place) if key.len() == SINGLE_KEY_BYTES => drop(singly.insert(place.index, read(&value)?)),
                _ => runs.push(read(&value)?),
            }
        }
        Ok((singly, runs))
    }

    /// Where operators' orders stand, oldest first.
    pub fn orders(&self) -> Result<Vec<Position>, LedgerError> {
        let mut found = Vec::new();
        for row in self.tree.prefix(&[table::ORDER], usize::MAX)? {
            found.extend(row.0.last_chunk::<8>().map(|position| Position::from_be_bytes(*position)));
        }
        Ok(found)
    }

    /// Batches of a feed that were set aside: their seq and number.
    pub fn aside(&self, feed: &FeedId) -> Result<Vec<(u64, u64)>, LedgerError> {
        let prefix = keyed(table::ASIDE, &[&feed_key(feed)]);
        let mut found = Vec::new();
        for row in self.tree.prefix(&prefix, usize::MAX)? {
            let (key, _) = row;
            let numbers = key.get(prefix.len()..).and_then(|rest| rest.split_first_chunk::<8>());
            if let Some((seq, number)) = numbers.and_then(|(seq, rest)| Some((seq, rest.first_chunk::<8>()?))) {
                found.push((u64::from_be_bytes(*seq), u64::from_be_bytes(*number)));
            }
        }
        Ok(found)
    }

    /// Batches at a place of a feed that are or were set aside.
    pub fn were_aside(&self, feed: &FeedId, seq: u64) -> Result<Vec<u64>, LedgerError> {
        let mut found = Vec::new();
        for table in [table::ASIDE, table::RELEASED] {
            for (key, _) in self.tree.prefix(&keyed(table, &[&feed_key(feed), &seq.to_be_bytes()]), usize::MAX)? {
                found.extend(key.last_chunk::<8>().map(|number| u64::from_be_bytes(*number)));
            }
        }
        Ok(found)
    }

    /// Where the newest decisions stand, the newest first.
    pub fn decisions(&self, limit: usize) -> Result<Vec<Position>, LedgerError> {
        let mut found = Vec::new();
        for row in self.tree.last(&[table::DECISION], limit)? {
            found.extend(row.0.last_chunk::<8>().map(|position| Position::from_be_bytes(*position)));
        }
        Ok(found)
    }

    /// Numbers of batches that were set aside, of every feed, at most `limit`.
    pub fn all_aside(&self, limit: usize) -> Result<Vec<u64>, LedgerError> {
        let mut found = Vec::new();
        for row in self.tree.prefix(&[table::ASIDE], limit)? {
            let (key, _) = row;
            found.extend(key.last_chunk::<8>().map(|number| u64::from_be_bytes(*number)));
        }
        Ok(found)
    }

    /// Batches of a feed that are here in part: their seq, and how many records are withheld from us.
    pub fn partial(&self, feed: &FeedId) -> Result<Vec<(u64, u16)>, LedgerError> {
        let mut found = Vec::new();
        for row in self.tree.prefix(&keyed(table::WITHHELD, &[&feed_key(feed)]), usize::MAX)? {
            let (key, value) = row;
            if let Some(seq) = key.last_chunk::<8>() {
                found.push((u64::from_be_bytes(*seq), read(&value)?));
            }
        }
        Ok(found)
    }

    /// How many records of a batch that is here in part are withheld from us.
    pub fn withheld_of(&self, feed: &FeedId, seq: u64) -> Result<u16, LedgerError> {
        Ok(self.get(table::WITHHELD, &[&feed_key(feed)[..], &seq.to_be_bytes()].concat())?.unwrap_or(0))
    }

    /// Removal batches of a feed, from `first` on, at most `limit`.
    pub fn removals(&self, feed: &FeedId, first: u64, limit: usize) -> Result<Vec<u64>, LedgerError> {
        self.seqs_in(table::REMOVAL, feed, first, limit)
    }

    fn seqs_in(&self, table: u8, feed: &FeedId, first: u64, limit: usize) -> Result<Vec<u64>, LedgerError> {
        let key = feed_key(feed);
        let (from, to) = (keyed(table, &[&key, &first.to_be_bytes()]), keyed(table, &[&key, &[0xff; 9]]));
        let mut found = Vec::new();
        for row in self.tree.range(from, to, limit)? {
            found.extend(row.0.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq)));
        }
        Ok(found)
    }

    /// Which places of a batch stay out for good, whoever brings them.
    pub fn erased(&self, feed: &FeedId, seq: u64) -> Result<Runs, LedgerError> {
        Ok(self.get(table::ERASED, &[&feed_key(feed)[..], &seq.to_be_bytes()].concat())?.unwrap_or_default())
    }

    /// All that stays out for good, at most `limit` batches.
    pub fn all_erased(&self, limit: usize) -> Result<Vec<ErasedPlaces>, LedgerError> {
        let mut found = Vec::new();
        for (key, value) in self.tree.prefix(&[table::ERASED], limit)? {
            if let Some((feed, seq)) = feed_and_seq(key.get(1..).unwrap_or_default()) {
                found.push(ErasedPlaces { feed: feed.to_string(), seq, runs: read(&value)? });
            }
        }
        Ok(found)
    }

    /// By rule of retention: what was received until when stays until when, as people decided.
    pub fn reviewed(&self) -> Result<HashMap<String, (Timestamp, Timestamp)>, LedgerError> {
        let rows = self.tree.prefix(&[table::REVIEWED], usize::MAX)?;
        rows.iter().map(|(key, value)| Ok((String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned(), read(value)?))).collect()
    }

    /// Whether anything at all stays out for good.
    pub fn any_erased(&self) -> Result<bool, LedgerError> {
        Ok(!self.tree.prefix(&[table::ERASED], 1)?.is_empty())
    }

    /// Records that their authors took back in a way that erases them, and that are not erased yet.
    pub fn to_erase(&self, limit: usize) -> Result<Vec<RecordRef>, LedgerError> {
        let mut found = Vec::new();
        for (_, value) in self.tree.prefix(&[table::TO_ERASE], limit)? {
            found.extend(read::<String>(&value)?.parse::<RecordRef>().ok());
        }
        Ok(found)
    }

    /// The batches of its feed, first and last, in which a report is named.
    pub fn naming(&self, report: &RecordRef) -> Result<Option<(u64, u64)>, LedgerError> {
        self.get(table::NAMED, &record_key(report))
    }

    /// Which places of a batch are erased while their bytes still stand in the journal.
    pub fn pending(&self, number: u64) -> Result<Runs, LedgerError> {
        Ok(self.get(table::PENDING, &number.to_be_bytes())?.unwrap_or_default())
    }

    /// Decisions whose words are erased and still stand in the journal.
    pub fn pending_decisions(&self) -> Result<HashSet<Position>, LedgerError> {
        let rows = self.tree.prefix(&[table::PENDING_DECISION], usize::MAX)?;
        Ok(rows.iter().filter_map(|(key, _)| key.last_chunk::<8>().map(|at| Position::from_be_bytes(*at))).collect())
    }

    /// All of those, by batch.
    pub fn all_pending(&self, limit: usize) -> Result<Vec<(u64, Runs)>, LedgerError> {
        let mut found = Vec::new();
        for (key, value) in self.tree.prefix(&[table::PENDING], limit)? {
            if let Some(number) = key.last_chunk::<8>() {
                found.push((u64::from_be_bytes(*number), read(&value)?));
            }
        }
        Ok(found)
    }

    /// Indicators that wait for a report.
    pub fn waiting_for(&self, report: &RecordRef, limit: usize) -> Result<Vec<Place>, LedgerError> {
        let mut places = Vec::new();
        for row in self.tree.prefix(&keyed(table::WAITING, &[&record_key(report)]), limit)? {
            places.extend(last_place(&row.0));
        }
        Ok(places)
    }

    /// Where every proof of equivocation stands.
    pub fn proofs(&self) -> Result<Vec<Position>, LedgerError> {
        let rows = self.tree.prefix(&keyed(table::DOCUMENT, &[b"e"]), usize::MAX)?;
        rows.iter().map(|(_, value)| read(value)).collect()
    }

    /// Positions of the cards that named a key, each once.
    pub fn cards_with_keys(&self) -> Result<BTreeSet<Position>, LedgerError> {
        let rows = self.tree.prefix(&keyed(table::DOCUMENT, &[b"h"]), usize::MAX)?;
        rows.iter().map(|(_, value)| read(value)).collect()
    }

    /// Where in the journal a document stands.
    pub fn document(&self, key: DocumentKey<'_>) -> Result<Option<Position>, LedgerError> {
        self.get(table::DOCUMENT, &document_key(key))
    }
}

fn document_key(key: DocumentKey<'_>) -> Vec<u8> {
    match key {
        DocumentKey::Charter(version) => [&b"c"[..], &version.to_be_bytes()].concat(),
        DocumentKey::Rival => b"r".to_vec(),
        DocumentKey::Stamp => b"s".to_vec(),
        DocumentKey::Card(member) => [b"k", member.as_str().as_bytes()].concat(),
        DocumentKey::Key(key) => [&b"h"[..], key].concat(),
        DocumentKey::Policy(hash) => [&b"p"[..], &hash.0].concat(),
        DocumentKey::PolicyInForce => b"P".to_vec(),
        DocumentKey::Proof(feed) => [b"e", &feed_key(feed)[..]].concat(),
        DocumentKey::Follow => b"f".to_vec(),
    }
}

/// The head of a batch that we proved before we kept it; only taken apart here.
pub fn stored_head(bytes: &[u8]) -> Result<Head, LedgerError> {
    // The federation only matters to the signature, which was checked at the door.
    SignedHead::open(bytes, &crate::envelope::FederationId([0; 32]))
        .map(|signed| signed.head().clone())
        .map_err(|error| LedgerError::Damaged(format!("a kept head does not read: {error}")))
}

impl Changes {
    /// Whether anything about a batch that was here before has changed: its place, its copies, its verdicts.
    pub fn touches_old(&self) -> bool {
        self.old
    }

    /// Whether bytes of a batch that was here before are erased.
    pub fn erases(&self) -> bool {
        self.erases
    }

    /// Notes where a document stands.
    pub fn document(&mut self, key: DocumentKey<'_>, position: Position) {
        self.batch.insert(keyed(table::DOCUMENT, &[&document_key(key)]), cbor::to_vec(&position));
    }

    /// Notes a card, and that it names its keys.
    pub fn card(&mut self, card: &Card, position: Position) {
        self.document(DocumentKey::Card(&card.member), position);
        card.keys().for_each(|key| self.document(DocumentKey::Key(&key.to_bytes()), position));
    }

    /// Notes that an entry changes something for readers of a marking; `seen` is what they may see of it.
    pub fn changed(&mut self, tlp: Tlp, position: Position, seen: &[u8]) {
        let level = level_of(tlp);
        match self.changed.iter_mut().rev().find(|(of, at)| *of == level && at.position == position) {
            Some((_, at)) => at.check = crc32c::crc32c_append(at.check, seen),
            None => self.changed.push((level, ChangedAt { position, check: crc32c::crc32c(seen) })),
        }
    }

    /// Notes a batch and what its head names as the one before.
    pub fn batch(&mut self, number: u64, info: &BatchInfo, head: &Head) {
        let feed = head.feed();
        self.batch.insert(keyed(table::BATCH, &[&number.to_be_bytes()]), cbor::to_vec(info));
        self.batch.insert(keyed(table::SEQ, &[&feed_key(&feed), &info.seq.to_be_bytes()]), cbor::to_vec(&number));
        if head.class == Class::Removal {
            self.batch.insert(keyed(table::REMOVAL, &[&feed_key(&feed), &info.seq.to_be_bytes()]), []);
        }
        self.seqs.insert((feed, info.seq), (info.id, head.prev));
        self.next_batch = Some(number + 1);
    }

    /// Notes where a batch is.
    pub fn info(&mut self, number: u64, info: &BatchInfo) {
        self.old = true;
        self.batch.insert(keyed(table::BATCH, &[&number.to_be_bytes()]), cbor::to_vec(info));
    }

    /// Notes how many records of a batch that is here in part are withheld from us; `None` of one that is whole.
    pub fn withhold(&mut self, feed: &FeedId, seq: u64, withheld: Option<u16>) {
        let key = keyed(table::WITHHELD, &[&feed_key(feed), &seq.to_be_bytes()]);
        match withheld {
            Some(count) => self.batch.insert(key, cbor::to_vec(&count)),
            None => self.batch.remove(key),
        }
    }

    /// Notes which places of a batch stay out for good.
    pub fn erased(&mut self, feed: &FeedId, seq: u64, runs: &[(u16, u16)]) {
        self.batch.insert(keyed(table::ERASED, &[&feed_key(feed), &seq.to_be_bytes()]), cbor::to_vec(runs));
    }

    /// Notes until when what a rule of retention asks about stays.
    pub fn reviewed(&mut self, rule: &str, until: (Timestamp, Timestamp)) {
        self.batch.insert(keyed(table::REVIEWED, &[rule.as_bytes()]), cbor::to_vec(&until));
    }

    /// Notes that a record is to be erased, or is by now.
    pub fn to_erase(&mut self, record: &RecordRef, is_due: bool) {
        let key = keyed(table::TO_ERASE, &[&record_key(record)]);
        if is_due { self.batch.insert(key, cbor::to_vec(&record.to_string())) } else { self.batch.remove(key) }
    }

    /// Notes in which batches a report is named.
    pub fn naming(&mut self, report: &RecordRef, span: (u64, u64)) {
        self.batch.insert(keyed(table::NAMED, &[&record_key(report)]), cbor::to_vec(&span));
        self.named.insert(report.clone(), span);
    }

    /// Notes which erased places of a batch still have their bytes in the journal.
    pub fn pending(&mut self, number: u64, runs: &[(u16, u16)]) {
        (self.old, self.erases) = (true, true);
        let key = keyed(table::PENDING, &[&number.to_be_bytes()]);
        if runs.is_empty() { self.batch.remove(key) } else { self.batch.insert(key, cbor::to_vec(runs)) }
    }

    /// Notes that the words of a decision are erased and still stand in the journal, or do so no more.
    pub fn pending_decision(&mut self, position: Position, is_pending: bool) {
        let key = keyed(table::PENDING_DECISION, &[&position.to_be_bytes()]);
        if is_pending { self.batch.insert(key, []) } else { self.batch.remove(key) }
    }

    /// Takes out everything by which a record is found or waits.
    pub fn forget(&mut self, record: Option<&Record>, place: Place, this: &RecordRef, waits_for: Option<&RecordRef>) {
        self.old = true;
        self.batch.remove(keyed(table::HELD, &[&place_key(place)]));
        self.batch.remove(keyed(table::VERDICT, &[&place_key(place)]));
        if let Some(report) = waits_for {
            self.wait(report, place, false);
        }
        match record {
            Some(Record::Document(_) | Record::Question(_)) => {
                let kind = record.map_or(0, |record| record.kind() as u8);
                self.batch.remove(keyed(table::LISTED, &[&[kind], &place_key(place)]));
            }
            Some(Record::Sighting(Sighting { of: Sighted::Records(targets), .. })) => {
                for target in targets.iter().filter_map(|target| target.resolve(&this.feed, this.seq)) {
                    self.batch.remove(keyed(table::ANSWER, &[&record_key(&target), &place_key(place)]));
                }
            }
            _ => (),
        }
        self.undispute(this);
    }

    /// Notes that an indicator waits for a report, or does no more.
    pub fn wait(&mut self, report: &RecordRef, place: Place, waits: bool) {
        let key = keyed(table::WAITING, &[&record_key(report), &place_key(place)]);
        if waits { self.batch.insert(key, []) } else { self.batch.remove(key) }
    }

    /// Notes a record that is found by its kind, or by what it answers.
    pub fn listed(&mut self, record: &Record, place: Place, this: &impl Fn() -> RecordRef) {
        match record {
            Record::Document(_) | Record::Question(_) => {
                self.batch.insert(keyed(table::LISTED, &[&[record.kind() as u8], &place_key(place)]), []);
            }
            Record::Sighting(Sighting { of: Sighted::Records(targets), .. }) => {
                let this = this();
                for target in targets.iter().filter_map(|target| target.resolve(&this.feed, this.seq)) {
                    self.batch.insert(keyed(table::ANSWER, &[&record_key(&target), &place_key(place)]), []);
                }
            }
            _ => (),
        }
    }

    /// Notes an order to pass records on, or to do so no more.
    pub fn share(&mut self, entry: &ShareEntry) {
        for record in &entry.records {
            let key = keyed(table::SHARE, &[record.as_bytes(), &[0], entry.with.as_bytes()]);
            let one = ShareEntry { records: vec![record.clone()], ..entry.clone() };
            if entry.ends { self.batch.remove(key) } else { self.batch.insert(key, cbor::to_vec(&one)) }
        }
        self.shares.push(entry.clone());
    }

    /// Notes that a record waits for a person.
    pub fn hold(&mut self, place: Place) {
        self.batch.insert(keyed(table::HELD, &[&place_key(place)]), []);
    }

    /// Notes the verdicts that were made after the record came, the oldest first.
    pub fn verdicts(&mut self, place: Place, verdicts: &[LaterVerdict]) {
        self.old = true;
        self.batch.insert(keyed(table::VERDICT, &[&place_key(place)]), cbor::to_vec(verdicts));
    }

    /// Notes that many places of a batch were judged again together, because `report` was renewed.
    pub fn runs(&mut self, batch: u64, report: &RecordRef, runs: &LaterRuns) {
        self.old = true;
        let key = keyed(table::VERDICT, &[&batch.to_be_bytes(), &record_key(report)]);
        self.batch.insert(key, cbor::to_vec(runs));
    }

    /// Notes whether a record waits for a person.
    pub fn held(&mut self, place: Place, is_held: bool) {
        if is_held { self.hold(place) } else { self.batch.remove(keyed(table::HELD, &[&place_key(place)])) }
    }

    /// Notes which renewals of a report count now.
    pub fn renewals(&mut self, report: &RecordRef, renewals: Vec<Renewed>) {
        let key = keyed(table::RENEWED, &[&record_key(report)]);
        if renewals.is_empty() {
            self.batch.remove(key)
        } else {
            self.batch.insert(key, cbor::to_vec(&renewals))
        }
        self.renewed.insert(report.clone(), renewals);
    }

    /// Notes what a renewal is about, or that it does not count any more.
    pub fn renews(&mut self, by: &RecordRef, reports: Option<Vec<RecordRef>>) {
        let key = keyed(table::RENEWS, &[&record_key(by)]);
        match reports {
            Some(reports) => {
                self.batch.insert(key, []);
                self.renews.insert(by.clone(), reports);
            }
            None => {
                self.batch.remove(key);
                self.renews.remove(by);
            }
        }
    }

    /// Notes whether the indicators of a report have yet to get their new end.
    pub fn renewing(&mut self, report: &RecordRef, is_due: bool) {
        let key = keyed(table::RENEWING, &[&record_key(report)]);
        if is_due { self.batch.insert(key, cbor::to_vec(&report.to_string())) } else { self.batch.remove(key) }
    }

    /// Notes where an operator's order stands.
    pub fn order(&mut self, position: Position) {
        self.batch.insert(keyed(table::ORDER, &[&position.to_be_bytes()]), []);
    }

    /// Notes a withdrawal.
    pub fn withdraw(&mut self, target: &RecordRef, withdrawn: &Withdrawn) {
        self.batch.insert(keyed(table::WITHDRAWN, &[&record_key(target), withdrawn.by.as_bytes()]), cbor::to_vec(withdrawn));
        self.withdrawn.insert(target.clone());
    }

    /// Notes where a decision stands.
    pub fn decision(&mut self, position: Position) {
        self.batch.insert(keyed(table::DECISION, &[&position.to_be_bytes()]), []);
    }

    /// Takes a batch out of its feed and keeps it aside.
    pub fn detach(&mut self, number: u64, info: &BatchInfo, feed: &FeedId) {
        self.info(number, info);
        self.withhold(feed, info.seq, None);
        self.batch.remove(keyed(table::REMOVAL, &[&feed_key(feed), &info.seq.to_be_bytes()]));
        self.batch.remove(keyed(table::SEQ, &[&feed_key(feed), &info.seq.to_be_bytes()]));
        self.batch.insert(keyed(table::ASIDE, &[&feed_key(feed), &info.seq.to_be_bytes(), &number.to_be_bytes()]), []);
    }

    /// Changes why a batch that is aside does not count; with `None` it counts again.
    pub fn set_aside(&mut self, number: u64, info: &BatchInfo, feed: &FeedId) {
        self.info(number, info);
        if info.aside.is_none() {
            let name = [&feed_key(feed)[..], &info.seq.to_be_bytes(), &number.to_be_bytes()].concat();
            self.batch.remove(keyed(table::ASIDE, &[&name]));
            self.batch.insert(keyed(table::RELEASED, &[&name]), []);
        }
    }

    /// Undoes a withdrawal whose own record does not count any more.
    pub fn unwithdraw(&mut self, target: &RecordRef, by: &RecordRef) {
        self.batch.remove(keyed(table::WITHDRAWN, &[&record_key(target), by.to_string().as_bytes()]));
    }

    /// Undoes a dispute whose own record does not count any more; of any other record it changes nothing.
    pub fn undispute(&mut self, sighting: &RecordRef) {
        self.disputes.push(Err(sighting.to_string()));
    }

    /// Notes that a sighting disputes something.
    pub fn dispute(&mut self, dispute: Dispute) {
        self.disputes.push(Ok(dispute));
    }

    /// Adds a batch to its feed.
    pub fn advance(&mut self, before: Option<&FeedState>, head: &Head, entry: &BatchEntry, counts: &Counts) {
        let mut after = before.cloned().unwrap_or(FeedState {
            spans: Spans::default(),
            withheld: 0,
            id: entry.id,
            head: entry.head.clone(),
            time: head.time,
            counts: Counts::default(),
            levels: BTreeMap::new(),
            aside: None,
        });
        let first = || LevelState { first: head.seq, last: head.seq, id: entry.id, time: head.time, batches: 0, counts: Counts::default() };
        let level = after.levels.entry(level_of(head.tlp)).or_insert_with(first);
        level.batches += 1;
        level.first = level.first.min(head.seq);
        if head.seq >= level.last {
            (level.last, level.id, level.time) = (head.seq, entry.id, head.time);
        }
        if head.seq >= after.last() {
            after.id = entry.id;
            after.head = entry.head.clone();
            after.time = head.time;
        }
        after.spans.insert(head.seq);
        after.recount(head.tlp, &Counts::default(), counts);
        after.withheld += u64::from(entry.withheld);
        if counts.absent > 0 {
            self.withhold(&head.feed(), head.seq, Some(entry.withheld));
        }
        self.feeds.insert(head.feed(), after);
    }
}
