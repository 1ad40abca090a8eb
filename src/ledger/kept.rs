//! What of a batch never changes unless something of it is erased: read once, shared by all who ask. Taking a batch of 256 apart costs more
//! than answering from one of its records.

use super::{BatchEntry, Position};
use crate::envelope::{Head, Slot};
use quick_cache::{Weighter, sync::Cache};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of batches that stay taken apart: some 3,500 batches of 256, a million records.
const KEPT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// What the allocator and the tables take for a place, beside its bytes.
const SLOT_BYTES: usize = 48;
/// What everything else of a batch takes, about.
const REST_BYTES: usize = 2_048;
/// How many batches fit, about; the cache lays out its tables by it.
const KEPT_ITEMS: usize = 4_096;

/// A batch as it stands in the journal, taken apart.
pub struct Kept {
    pub head: Head,
    pub entry: BatchEntry,
    pub slots: Vec<Slot>,
}

impl Kept {
    fn bytes(&self) -> u64 {
        let slots = self.slots.iter().map(|slot| match slot {
            Slot::Present(bytes) => bytes.len() + SLOT_BYTES,
            Slot::Absent => SLOT_BYTES,
        });
        (self.entry.body.len() + slots.sum::<usize>() + REST_BYTES) as u64
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Position, Arc<Kept>> for ByBytes {
    fn weight(&self, _: &Position, kept: &Arc<Kept>) -> u64 {
        kept.bytes()
    }
}

/// Batches that were read lately, by where they stand in the journal.
pub(super) struct KeptBatches {
    cache: Cache<Position, Arc<Kept>, ByBytes>,
    /// How often everything was forgotten; held while something is remembered.
    forgotten: Mutex<u64>,
}

impl Default for KeptBatches {
    fn default() -> Self {
        Self { cache: Cache::with_weighter(KEPT_ITEMS, KEPT_BYTES_MAX, ByBytes), forgotten: Mutex::default() }
    }
}

impl KeptBatches {
    fn forgotten(&self) -> MutexGuard<'_, u64> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch at a position: remembered, or as `read` finds it.
    ///
    /// What was read while something was erased is answered and not remembered: it may be what stood there before.
    pub fn at<E>(&self, position: Position, read: impl FnOnce() -> Result<Kept, E>) -> Result<Arc<Kept>, E> {
        if let Some(kept) = self.cache.get(&position) {
            return Ok(kept);
        }
        let before = *self.forgotten();
        let kept = Arc::new(read()?);
        let forgotten = self.forgotten();
        if *forgotten == before {
            self.cache.insert(position, Arc::clone(&kept));
        }
        drop(forgotten);
        Ok(kept)
    }

    /// Forgets them all, after something was erased.
    pub fn forget(&self) {
        let mut forgotten = self.forgotten();
        *forgotten += 1;
        self.cache.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        envelope::{Audience, Class, HEAD_FORMAT, Hash},
        record::{Timestamp, Tlp},
    };

    fn kept(word: &[u8]) -> Result<Kept, ()> {
        let (time, root) = (Timestamp::default(), Hash::of(word));
        let head = Head {
            format: HEAD_FORMAT,
            member: "xa-police".parse().map_err(drop)?,
            channel: "main".parse().map_err(drop)?,
            lane: 0,
            epoch: 0,
            audience: Audience::federation(),
            seq: 1,
            prev: None,
            floor_seq: 0,
            time,
            tlp: Tlp::Green,
            class: Class::Content,
            count: 1,
            body_length: 0,
            root,
        };
        let entry = BatchEntry {
            received: time,
            from: Vec::new().into(),
            id: root,
            head: Vec::new().into(),
            body: Vec::new().into(),
            policy: root,
            table: Vec::new(),
            runs: Vec::new(),
            withheld: 0,
            path: Vec::new(),
        };
        Ok(Kept { head, entry, slots: vec![Slot::Present(word.to_vec())] })
    }

    #[test]
    fn a_batch_is_read_once_until_something_is_erased() {
        let batches = KeptBatches::default();
        let read = |word: &'static [u8]| batches.at(7, || kept(word)).unwrap().slots.clone();
        assert_eq!(read(b"first"), [Slot::Present(b"first".to_vec())]);
        assert_eq!(read(b"second"), [Slot::Present(b"first".to_vec())]);
        batches.forget();
        assert_eq!(read(b"third"), [Slot::Present(b"third".to_vec())]);
    }

    #[test]
    fn what_was_read_while_something_was_erased_is_not_remembered() {
        let batches = KeptBatches::default();
        let meanwhile = batches.at(7, || {
            batches.forget();
            kept(b"before")
        });
        assert_eq!(meanwhile.unwrap().slots, [Slot::Present(b"before".to_vec())]);
        assert_eq!(batches.at(7, || kept(b"after")).unwrap().slots, [Slot::Present(b"after".to_vec())]);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_bytes() {
        let batches = KeptBatches::default();
        let large = vec![7; 1024 * 1024];
        for position in 0..400 {
            batches.at(position, || kept(&large)).unwrap();
        }
        assert!(batches.cache.weight() <= KEPT_BYTES_MAX && batches.cache.len() > 64, "{} bytes", batches.cache.weight());
    }
}
