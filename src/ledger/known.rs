//! Known: which values the index may have, in memory, by the marking of their rows. A value without a row up to the reader's
//! clearance costs one look here in place of a walk through every run on the disk; it errs only to "may be". So a hidden value takes
//! the time of an absent one.

use super::{Index, KeyRange, Ledger, LedgerError, Lengths, Level, Row, index::host_key, key_hash, lengths::NotedLengths, level_of};
use crate::record::Tlp;
use fastbloom::AtomicBloomFilter;
use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

/// Of what was never said, how much is looked for on the disk all the same: less than one in a hundred, so that the 99th percentile
/// of misses stays in memory.
const FALSE_POSITIVES: f64 = 0.004;
/// Rows that a filter is made for at least: 0.2 MiB. A full one is made again for three times as many, in 40 ms from here.
const ROWS_MIN: u64 = 131_072;

/// One filter, and what it was made for.
struct Filter {
    bits: AtomicBloomFilter,
    /// Markings of which there are rows, a bit each.
    levels: AtomicU8,
    lengths: NotedLengths,
    rows_max: u64,
    rows: AtomicU64,
}

impl Filter {
    fn of(rows_max: u64) -> Self {
        let items = usize::try_from(rows_max).unwrap_or(usize::MAX);
        // Our keys are hashes already, so the filter's own seed guards nothing.
        let bits = AtomicBloomFilter::with_false_pos(FALSE_POSITIVES).seed(&0).expected_items(items);
        Self { bits, levels: AtomicU8::new(0), lengths: NotedLengths::default(), rows_max, rows: AtomicU64::new(0) }
    }

    fn add(&self, (hash, level): Hashed) {
        self.levels.fetch_or(1 << level, Ordering::Relaxed);
        self.bits.insert_hash(salted(hash, level));
        self.rows.fetch_add(1, Ordering::Relaxed);
    }

    fn may_have(&self, hash: u64, clearance: Tlp) -> bool {
        let levels = self.levels.load(Ordering::Relaxed);
        (0..=level_of(clearance)).any(|level| levels & (1 << level) != 0 && self.bits.contains_hash(salted(hash, level)))
    }

    fn is_full(&self) -> bool {
        self.rows.load(Ordering::Relaxed) > self.rows_max
    }
}

/// The hash of a key, and the marking of the row under it.
pub(super) type Hashed = (u64, Level);

/// A hash that is another for each marking.
fn salted(hash: u64, level: Level) -> u64 {
    // The fractional part of the golden ratio: odd, and its multiples lie far apart.
    hash ^ u64::from(level).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The filter in use, and the one that is being made; none before it was asked for.
#[derive(Default)]
pub(super) struct Known {
    current: RwLock<Option<Arc<Filter>>>,
    next: RwLock<Option<Arc<Filter>>>,
    filling: Mutex<()>,
    /// The ledger is being closed: whoever walks through the index stops.
    pub closing: AtomicBool,
}

fn of(slot: &RwLock<Option<Arc<Filter>>>) -> Option<Arc<Filter>> {
    slot.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Under what a value is known: its key, and that of its host, so that one who asks what else stands on a host learns here that nothing does.
pub(super) fn hashes_of(key: &[u8], tlp: Tlp) -> impl Iterator<Item = Hashed> + use<> {
    [Some(key_hash(key)), host_key(key).map(key_hash)].into_iter().flatten().map(move |hash| (hash, level_of(tlp)))
}

impl Known {
    /// Returns true if there may be a row up to a clearance of the value with this key, or of a value on the host with this key.
    pub fn may_have(&self, key: &[u8], clearance: Tlp) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_none_or(|filter| filter.may_have(key_hash(key), clearance))
    }

    /// Which lengths the prefixes of networks have that are known.
    pub fn lengths(&self) -> Lengths {
        self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(Lengths::ALL, |filter| filter.lengths.get())
    }

    /// Notes keys of values, and lengths of networks among them, whose rows can be read now: behind the rows themselves, so that a walk
    /// which makes the next filter either sees the row or is seen here.
    pub fn add(&self, hashes: &[Hashed], lengths: Lengths) {
        // The next one first: in the other order it could become the current one in between, and hear of nothing.
        for filter in [of(&self.next), of(&self.current)].into_iter().flatten() {
            filter.lengths.add(lengths);
            hashes.iter().for_each(|hash| filter.add(*hash));
        }
    }

    /// Whether there is a filter, and it holds more than it was made for.
    pub fn is_full(&self) -> bool {
        of(&self.current).is_some_and(|filter| filter.is_full()) && of(&self.next).is_none()
    }

    /// Makes a filter of everything in the index, in the time that a walk through it takes: 3 s for ten million rows.
    fn fill(&self, index: &Index) -> Result<(), LedgerError> {
        // One at a time: a second would take the first's place as the next.
        let _one = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        // Room for as many again, of which half stand on hosts.
        let rows_max = (3 * index.rows_about()).max(ROWS_MIN);
        let filter = Arc::new(Filter::of(rows_max));
        *self.next.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&filter));
        let mut lengths = Lengths::default();
        let walked = index.each_in(&KeyRange::everything(), Tlp::Red, |key: &[u8], row: Row| {
            lengths.note(key);
            hashes_of(key, row.about.tlp).for_each(|hash| filter.add(hash));
            !self.closing.load(Ordering::Relaxed)
        });
        filter.lengths.add(lengths);
        // It is in use before it is the next one no more: what is added meanwhile is added to it either way.
        if walked.as_ref().is_ok_and(|walked| *walked) {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(filter);
        }
        *self.next.write().unwrap_or_else(PoisonError::into_inner) = None;
        walked.map(|_| ())
    }
}

impl Ledger {
    /// Makes the filter again with more room if it is full, on a thread of its own. A ledger that is being closed needs none.
    pub(super) fn widen_known(&self) {
        let known = &self.shared.index.known;
        if known.is_full() && !known.closing.load(Ordering::Relaxed) {
            let _on_its_own = self.remember_known();
        }
    }

    /// Begins to remember which values are known at all, on a thread of its own: for one who asks about many. Until it is through,
    /// every look goes to the disk.
    pub fn remember_known(&self) -> std::thread::JoinHandle<()> {
        let ledger = self.clone();
        std::thread::spawn(move || {
            if let Err(error) = ledger.shared.index.known.fill(&ledger.shared.index) {
                tracing::warn!(%error, "what is known could not be walked through; look-ups go to the disk");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::value_key, *};
    use crate::{ledger::on_host, record::Observable};

    #[test]
    fn a_value_makes_itself_and_what_stands_on_its_host_known() {
        let filter = Filter::of(ROWS_MIN);
        let of = |text: &str| value_key(&Observable::recognise(text).unwrap());
        for text in ["http://shop.example/a", "192.0.2.7:443", "bob@mail.example", "plain.example"] {
            hashes_of(&of(text), Tlp::Green).for_each(|hash| filter.add(hash));
        }
        hashes_of(&of("hidden.example"), Tlp::Red).for_each(|hash| filter.add(hash));
        let known = Known { current: RwLock::new(Some(Arc::new(filter))), ..Known::default() };
        let hosts = |host: &str| on_host(host).iter().filter(|range| known.may_have(range.first(), Tlp::Green)).count();
        assert_eq!(["shop.example", "192.0.2.7", "mail.example"].map(hosts), [1, 1, 1]);
        assert_eq!(["plain.example", "example", "192.0.2.70", "a.shop.example"].map(hosts), [0; 4]);
        assert!(known.may_have(&of("plain.example"), Tlp::Red) && known.may_have(&of("http://shop.example/a"), Tlp::Green));
        assert!(!known.may_have(&of("http://shop.example/b"), Tlp::Red) && !known.may_have(&of("plain.example"), Tlp::Clear));
        // X2: a hidden value is as good as absent.
        assert!(known.may_have(&of("hidden.example"), Tlp::Red) && !known.may_have(&of("hidden.example"), Tlp::AmberStrict));
    }
}
