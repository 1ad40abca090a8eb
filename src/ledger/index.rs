//! The index: from a value to the records about it, in fjall.
//!
//! ```text
//! key = class, value in search order, batch number (8 bytes), place in the batch (2 bytes)      value = last day, flags
//! ```
//!
//! Classes of values are lower-case letters; under `W` stand words, tags and actors ([`super::words_of`]).
//! Names stand with their labels reversed, so a domain and all below it are one range; URLs, endpoints and e-mail
//! addresses stand under their host; addresses stand as bytes, so a network is one range. May be deleted; it is rebuilt.

use super::{LedgerError, Lengths, Position, known, known::Known};
use crate::{
    envelope::Head,
    policy::Verdict,
    record::{Observable, ObservableType, Record, Scope, Timestamp, Tlp, WireValue},
};
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, PersistMode,
    config::{FilterPolicy, PartitioningPolicy, PinningPolicy, RestartIntervalPolicy},
};
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// What rows hold, as a number: an index that was written by another version is built anew from the journal.
const INDEX_FORMAT: u32 = 3;
/// From this many rows on, a sorted run is built at once instead of row by row: 815,000 a second against 384,000.
const RUN_ROWS_MIN: usize = 20_000;
/// Most rows that a query looks at; past it the answer says that it is cut.
pub const SCAN_ROWS_MAX: usize = 100_000;

/// What fjall's journal has to hold before it begins another, and what it is given at once for that.
const JOURNAL_BYTES: usize = 65_000_000;
const NOISE_BYTES: usize = 1024 * 1024;
/// How often it is given that at most; mostly once.
const ROUNDS_MAX: usize = 6;

/// Bytes of a place at the end of a key.
const PLACE_BYTES: usize = 10;

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub batch: u64,
    pub index: u16,
}

impl Place {
    /// Behind every record.
    pub const LAST: Self = Self { batch: u64::MAX, index: u16::MAX };

    /// The place behind this one, where a walk over places goes on.
    pub fn next(self) -> Self {
        match self.index.checked_add(1) {
            Some(index) => Self { index, ..self },
            None => Self { batch: self.batch + 1, index: 0 },
        }
    }
}

/// A row found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub place: Place,
    pub about: About,
}

/// What a row says about its record, so that many questions need not read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Day on which the record ends here; days from 1970 on, at most those of 2149.
    pub end_day: u16,
    /// The newest verdict; `None` where none was made.
    pub verdict: Option<Verdict>,
    pub tlp: Tlp,
    /// It speaks also for what is below its domain.
    pub below: bool,
    /// It is an indicator, and no sighting or question.
    pub indicator: bool,
}

impl About {
    /// What is to be said about `record`, which came under `head`.
    pub fn of(record: &Record, head: &Head, ends: Timestamp, verdict: Option<Verdict>) -> Self {
        let indicator = if let Record::Indicator(indicator) = record { Some(indicator) } else { None };
        Self {
            end_day: u16::try_from(ends.day()).unwrap_or(u16::MAX),
            verdict,
            tlp: head.tlp,
            below: indicator.is_some_and(|one| one.scope == Some(Scope::Subdomains)),
            indicator: indicator.is_some(),
        }
    }

    /// Two bits of verdict, three of marking, one each for the rest.
    pub(super) fn bytes(self) -> [u8; 3] {
        let [a, b] = self.end_day.to_be_bytes();
        let verdict = self.verdict.map_or(3, |verdict| verdict as u8);
        [a, b, verdict | (self.tlp as u8) << 2 | u8::from(self.below) << 5 | u8::from(self.indicator) << 6]
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, flags] = *bytes.first_chunk::<3>()?;
        let verdict = [Verdict::Accept, Verdict::Hold, Verdict::Refuse].get(usize::from(flags & 3)).copied();
        let tlp = Tlp::from_number(u64::from(flags >> 2 & 7))?;
        Some(Self { end_day: u16::from_be_bytes([a, b]), verdict, tlp, below: flags & 1 << 5 != 0, indicator: flags & 1 << 6 != 0 })
    }
}

/// A row to be written.
pub type NewRow = (Vec<u8>, [u8; 3]);

/// A half-open range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    first: Vec<u8>,
    end: Vec<u8>,
    /// What [`Known`] has heard of if anything stands there at all.
    only: Option<Only>,
}

/// A range that is about one thing, which its first key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Value,
    /// What stands on one host, by class.
    Host,
}

impl KeyRange {
    /// Everything from the first key up to the second.
    fn between(first: Vec<u8>, end: Vec<u8>) -> Self {
        Self { first, end, only: None }
    }

    /// The same range, from behind a row on: its value's key, and its place.
    pub fn after(self, value: &[u8], last: Place) -> Self {
        Self { first: key_at(value.to_vec(), last.next()), only: None, ..self }
    }

    /// The rows of every value.
    pub fn everything() -> Self {
        Self::between(vec![b'a'], vec![b'z' + 1])
    }

    /// The same range from behind all rows of one value on, whose key this is.
    pub fn past(&self, value: &[u8]) -> Self {
        let from = under(value.to_vec()).end;
        Self { first: from.max(self.first.clone()), end: self.end.clone(), only: None }
    }

    /// Whether rows under this value's key lie in it.
    pub fn holds(&self, value: &[u8]) -> bool {
        let row = key_at(value.to_vec(), Place { batch: 0, index: 0 });
        if self.only == Some(Only::Value) { value == self.first } else { self.first <= row && row < self.end }
    }

    /// Whether it is all rows of one value, and begins with that one's key.
    pub fn is_of_value(&self) -> bool {
        self.only == Some(Only::Value)
    }

    /// Where it begins: ranges that have been sorted by this are walked in the order of values.
    pub fn first(&self) -> &[u8] {
        &self.first
    }
}

/// The hash by which a value's key is known in filters: XXH3 with 64 bits, the same in every process.
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The index on disk.
pub struct Index {
    path: PathBuf,
    database: Database,
    values: Keyspace,
    meta: Keyspace,
    pub(super) known: Known,
}

impl Index {
    /// Opens or creates the index; `None` as position when it is not of store `store_id` or says nothing, so that the
    /// caller rebuilds it. Blocks that were read stay in at most `cache_bytes`.
    pub fn open(path: &Path, store_id: &str, cache_bytes: u64) -> Result<(Self, Option<Position>), LedgerError> {
        let database = Database::builder(path).cache_size(cache_bytes).worker_threads(1).open().map_err(broken)?;
        // Nothing is asked for by its whole key, so filters answer nobody: without them a run is built a tenth faster. Index blocks in memory
        // and four keys between restarts: a look costs 5.6 us in place of 7.9 (three million, settled), and two bytes a record more.
        let options = || {
            KeyspaceCreateOptions::default()
                .filter_policy(FilterPolicy::disabled())
                .data_block_restart_interval_policy(RestartIntervalPolicy::all(4))
                .index_block_pinning_policy(PinningPolicy::all(true))
                .index_block_partitioning_policy(PartitioningPolicy::all(false))
        };
        let values = database.keyspace("values", options).map_err(broken)?;
        let meta = database.keyspace("meta", KeyspaceCreateOptions::default).map_err(broken)?;
        let same = meta.get("store").map_err(broken)?.is_some_and(|store| *store == *mark(store_id).as_bytes());
        let index = Self { path: path.to_owned(), database, values, meta, known: Known::default() };
        let position = if same { index.position()? } else { None };
        Ok((index, position))
    }

    /// Writes rows, takes out those that are `gone` by then, and notes the journal position that this reaches. Rows first: doing it again
    /// after a crash changes nothing.
    pub fn write(&self, mut rows: Vec<NewRow>, gone: Vec<Vec<u8>>, store_id: &str, position: Position) -> Result<(), LedgerError> {
        // Of all of them, always: a filter may come into being while they are written.
        let (mut hashes, mut lengths) = (Vec::with_capacity(rows.len()), Lengths::default());
        for (key, about) in rows.iter().filter_map(|row| Some((row.0.get(..row.0.len().checked_sub(PLACE_BYTES)?)?, About::read(&row.1)?)))
        {
            hashes.extend(known::hashes_of(key, about.tlp));
            lengths.note(key);
        }
        let mut batch = self.database.batch();
        if rows.len() >= RUN_ROWS_MIN {
            // Of several rows of one record the last one holds.
            rows.sort_by(|one, other| one.0.cmp(&other.0));
            rows.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    earlier.1 = later.1;
                }
                same
            });
            let mut run = self.values.start_ingestion().map_err(broken)?;
            for (key, value) in rows {
                run.write(key, value).map_err(broken)?;
            }
            run.finish().map_err(broken)?;
        } else {
            for (key, value) in rows {
                batch.insert(&self.values, key, value);
            }
        }
        gone.into_iter().for_each(|key| batch.remove(&self.values, key));
        batch.insert(&self.meta, "store", mark(store_id).as_bytes());
        batch.insert(&self.meta, "position", position.to_be_bytes());
        batch.commit().map_err(broken)?;
        self.known.add(&hashes, lengths);
        Ok(())
    }

    /// The journal position that it reaches.
    pub fn position(&self) -> Result<Option<Position>, LedgerError> {
        Ok(self.meta.get("position").map_err(broken)?.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok()).map(u64::from_be_bytes))
    }

    /// About how many rows there are.
    pub fn rows_about(&self) -> u64 {
        self.values.approximate_len() as u64
    }

    /// Writes what is left into new files, so that of rows that were taken out nothing stays on the disk.
    pub fn compact(&self) -> Result<(), LedgerError> {
        let before = self.journals();
        for _ in 0..ROUNDS_MAX {
            self.flush_journal()?;
            if self.journals().is_disjoint(&before) {
                break;
            }
        }
        if !self.journals().is_disjoint(&before) {
            return Err(LedgerError::Index("fjall keeps a journal that holds what was taken out".to_owned()));
        }
        self.values.major_compact().map_err(broken)?;
        self.meta.major_compact().map_err(broken)?;
        // The files that were replaced go with the next flush: of a version of the tables that no reader may look at any more.
        self.meta.remove("noise").map_err(broken)?;
        self.meta.rotate_memtable_and_wait().map_err(broken)?;
        self.sync()
    }

    /// fjall drops its own journal when it is longer than 64 MB and everything in it has been flushed, and there is no other way to ask for it
    /// (fjall 3.1, `worker_pool.rs`): so it gets that much of what cannot be compressed. A flush of its own may come between, and then it takes
    /// another round.
    fn flush_journal(&self) -> Result<(), LedgerError> {
        let mut noise = vec![0; NOISE_BYTES];
        getrandom::fill(&mut noise).map_err(|error| LedgerError::Random(error.to_string()))?;
        for _ in 0..JOURNAL_BYTES.div_ceil(NOISE_BYTES) {
            self.meta.insert("noise", &*noise).map_err(broken)?;
        }
        for _ in 0..2 {
            for keyspace in [&self.values, &self.meta] {
                // Something to flush, so that the flush is waited for.
                keyspace.remove("noise").map_err(broken)?;
                keyspace.rotate_memtable_and_wait().map_err(broken)?;
            }
        }
        Ok(())
    }

    /// The files of fjall's own journal.
    fn journals(&self) -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "jnl")).collect()
    }

    /// Writes the rows into as few runs as can be: a look costs a look into each.
    pub fn settle(&self) -> Result<(), LedgerError> {
        self.values.major_compact().map_err(broken)
    }

    /// Everything written so far survives a crash without a replay.
    pub fn sync(&self) -> Result<(), LedgerError> {
        self.database.persist(PersistMode::SyncAll).map_err(broken)
    }

    /// Visits the rows in a range, ordered by value, with the value's part of the key, for as long as `visit` says to go on. Answers whether
    /// it came to the end.
    pub fn each_in(&self, range: &KeyRange, clearance: Tlp, visit: impl FnMut(&[u8], Row) -> bool) -> Result<bool, LedgerError> {
        let KeyRange { first, end, only } = range;
        if (only.is_some() && !self.known.may_have(first, clearance)) || first >= end {
            return Ok(true);
        }
        Self::visit(self.values.range(first.clone()..end.clone()), visit)
    }

    /// The same for every row, those of words too.
    pub fn each(&self, visit: impl FnMut(&[u8], Row) -> bool) -> Result<bool, LedgerError> {
        Self::visit(self.values.iter(), visit)
    }

    fn visit(rows: fjall::Iter, mut visit: impl FnMut(&[u8], Row) -> bool) -> Result<bool, LedgerError> {
        for guard in rows {
            let (key, value) = guard.into_inner().map_err(broken)?;
            if let (Some(row), Some(value)) = (row_of(&key, &value), key.len().checked_sub(PLACE_BYTES).and_then(|end| key.get(..end)))
                && !visit(value, row)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The rows in a range of keys, up to `rows_max`, and whether there were more.
    pub fn scan(&self, range: &KeyRange, clearance: Tlp, rows_max: usize) -> Result<(Vec<Row>, bool), LedgerError> {
        let mut rows = Vec::new();
        let KeyRange { first, end, only } = range;
        if only.is_some() && !self.known.may_have(first, clearance) {
            return Ok((rows, false));
        }
        for guard in self.values.range(first.clone()..end.clone()) {
            let (key, value) = guard.into_inner().map_err(broken)?;
            if rows.len() >= rows_max {
                return Ok((rows, true));
            }
            rows.extend(row_of(&key, &value));
        }
        Ok((rows, false))
    }
}

/// Names the store whose index this is, and the form in which it is kept.
fn mark(store_id: &str) -> String {
    format!("{store_id} {INDEX_FORMAT}")
}

fn broken(error: fjall::Error) -> LedgerError {
    LedgerError::Index(error.to_string())
}

fn row_of(key: &[u8], value: &[u8]) -> Option<Row> {
    let (rest, index) = key.split_last_chunk::<2>()?;
    let (_, batch) = rest.split_last_chunk::<8>()?;
    Some(Row { place: Place { batch: u64::from_be_bytes(*batch), index: u16::from_be_bytes(*index) }, about: About::read(value)? })
}

/// The key of a record about `value`.
pub fn row_key(value: &Observable, place: Place) -> Vec<u8> {
    key_at(value_key(value), place)
}

fn key_at(mut key: Vec<u8>, place: Place) -> Vec<u8> {
    key.extend_from_slice(&place.batch.to_be_bytes());
    key.extend_from_slice(&place.index.to_be_bytes());
    key
}

/// The row of a record about `value`.
pub fn row(value: &Observable, place: Place, about: About) -> NewRow {
    (row_key(value, place), about.bytes())
}

/// Where rows about `value` begin; a prefix of nothing else's rows but its own.
pub fn value_key(value: &Observable) -> Vec<u8> {
    use ObservableType as T;
    let text = value.text().unwrap_or_default();
    let hosted = |class: u8| {
        let host = value.host().unwrap_or_default();
        [&[class], &reversed(&host)[..], &[0], text.as_bytes(), &[0]].concat()
    };
    match (value.kind(), value.wire()) {
        (T::Domain, _) => [b"d", &reversed(text)[..], &[0]].concat(),
        (T::Url, _) => hosted(b'u'),
        (T::Endpoint, _) => hosted(b'e'),
        (T::Email, _) => hosted(b'm'),
        (T::Ipv4, WireValue::Bytes(bytes)) => [b"a4", &bytes[..]].concat(),
        (T::Ipv6, WireValue::Bytes(bytes)) => [b"a6", &bytes[..]].concat(),
        (T::Cidr, WireValue::Bytes(bytes)) if bytes.len() == 5 => [b"n4", &bytes[..]].concat(),
        (T::Cidr, WireValue::Bytes(bytes)) => [b"n6", &bytes[..]].concat(),
        (T::Other, _) => [b"o", value.other().unwrap_or_default().as_bytes(), &[0], text.as_bytes(), &[0]].concat(),
        (kind, WireValue::Bytes(bytes)) => [&[b'h', kind as u8], &bytes[..]].concat(),
        (kind, WireValue::Text(text)) => [&[b't', kind as u8], text.as_bytes(), &[0]].concat(),
        (kind, WireValue::Number(number)) => [&[b's', kind as u8][..], &number.to_be_bytes()].concat(),
    }
}

fn reversed(host: &str) -> Vec<u8> {
    if host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
        return host.as_bytes().to_vec();
    }
    host.rsplit('.').collect::<Vec<_>>().join(".").into_bytes()
}

/// Everything that begins with `prefix`.
pub(super) fn under(prefix: Vec<u8>) -> KeyRange {
    let mut end = prefix.clone();
    // INVARIANT: prefixes begin with an ASCII class letter, so there is a byte that can be raised.
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    KeyRange::between(prefix, end)
}

/// Rows about exactly this value.
pub fn exactly(value: &Observable) -> KeyRange {
    KeyRange { only: Some(Only::Value), ..under(value_key(value)) }
}

/// Rows about a domain, everything below it, and what stands on those hosts.
pub fn below_domain(name: &str) -> Vec<KeyRange> {
    let reversed = reversed(name);
    let classes = [b'd', b'e', b'm', b'u'].into_iter();
    classes.flat_map(|class| [0u8, b'.'].map(|next| under([&[class], &reversed[..], &[next]].concat()))).collect()
}

/// Classes of what stands on a host: endpoints, e-mail addresses, URLs.
const HOSTED: [u8; 3] = [b'e', b'm', b'u'];

/// The part of a value's key that names its host, of what stands on one.
pub(super) fn host_key(key: &[u8]) -> Option<&[u8]> {
    let hosted = key.first().is_some_and(|class| HOSTED.contains(class));
    let end = key.iter().position(|byte| *byte == 0).filter(|_| hosted)?;
    key.get(..=end)
}

/// Rows about what stands on exactly this host, itself aside: endpoints, URLs, e-mail addresses.
pub fn on_host(host: &str) -> Vec<KeyRange> {
    HOSTED.map(|class| KeyRange { only: Some(Only::Host), ..under([&[class], &reversed(host)[..], &[0]].concat()) }).into()
}

/// Rows about addresses and networks inside `net`.
pub fn inside(net: IpNet) -> Vec<KeyRange> {
    let (family, bytes) = match net {
        IpNet::V4(v4) => (b'4', (v4.network().octets().to_vec(), v4.broadcast().octets().to_vec())),
        IpNet::V6(v6) => (b'6', (v6.network().octets().to_vec(), v6.broadcast().octets().to_vec())),
    };
    let (first, last) = bytes;
    [b'a', b'n']
        .map(|class| {
            let begin = [&[class, family], &first[..]].concat();
            KeyRange::between(begin, under([&[class, family], &last[..]].concat()).end)
        })
        .into()
}

/// Networks of these lengths that hold all of `net`, the smallest first.
pub fn covering(net: IpNet, lengths: Lengths) -> impl Iterator<Item = Observable> {
    std::iter::successors(net.supernet(), IpNet::supernet)
        .filter(move |wider| lengths.has(wider))
        .filter_map(|wider| Observable::of_network(wider).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Observable {
        Observable::recognise(text).unwrap()
    }

    fn found(ranges: &[KeyRange], texts: &[&str]) -> Vec<String> {
        let within = |key: &[u8]| ranges.iter().any(|range| range.first.as_slice() <= key && key < range.end.as_slice());
        let hit = |text: &&&str| within(&row_key(&value(text), Place { batch: 1, index: 0 }));
        texts.iter().filter(hit).map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_domain_range_holds_the_domain_and_what_is_below_and_nothing_else() {
        let texts = [
            "evil.example",
            "www.evil.example",
            "http://a.evil.example/x",
            "evil.example:80",
            "x@evil.example",
            "notevil.example",
            "evil.example.org",
        ];
        assert_eq!(found(&below_domain("evil.example"), &texts), &texts[..5]);
        assert_eq!(found(&[exactly(&value("evil.example"))], &texts), ["evil.example"]);
    }

    #[test]
    fn a_network_range_holds_its_addresses_and_smaller_networks() {
        let texts = ["192.0.2.0", "192.0.2.255", "192.0.2.128/25", "192.0.3.0", "192.0.1.255", "2001:db8::1"];
        assert_eq!(found(&inside("192.0.2.0/24".parse().unwrap()), &texts), &texts[..3]);
        let wider: Vec<String> = covering("192.0.2.0/25".parse().unwrap(), Lengths::ALL).take(2).map(|one| one.to_string()).collect();
        assert_eq!(wider, ["192.0.2.0/24", "192.0.2.0/23"]);
    }
}
