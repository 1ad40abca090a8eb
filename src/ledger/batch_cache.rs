//! Batches as they were read from the journal, shared by all readers. A look-up needs its record's batch three times, and reading one of 256
//! records costs more than answering from it.

use super::{BatchEntry, Position};
use crate::envelope::{Head, RecordSpan};
use quick_cache::{Weighter, sync::Cache};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Bytes of a batch without its body and spans: head, outcomes, and what the allocator adds.
const OVERHEAD_BYTES: usize = 1_024;
/// Bytes of an average batch, for the cache to size its tables: 256 records of 50 bytes, with their spans.
const AVERAGE_BYTES: u64 = 16 * 1024;

/// A batch of the journal, with the place of each record in its bytes.
pub struct BatchContent {
    pub head: Head,
    pub entry: BatchEntry,
    /// One for each place of the batch, into `entry.body`.
    pub spans: Vec<RecordSpan>,
}

impl BatchContent {
    /// Number of places, present or absent: at most 256.
    pub fn places(&self) -> u16 {
        u16::try_from(self.spans.len()).unwrap_or(u16::MAX)
    }

    /// True if every record is here.
    pub fn is_whole(&self) -> bool {
        self.spans.iter().all(|span| span.is_present())
    }

    /// The bytes of one record, if it is here.
    pub fn record_bytes(&self, index: u16) -> Option<&[u8]> {
        self.spans.get(usize::from(index))?.of(&self.entry.body)
    }

    fn bytes(&self) -> u64 {
        (self.entry.body.len() + self.spans.len() * size_of::<RecordSpan>() + OVERHEAD_BYTES) as u64
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Position, Arc<BatchContent>> for ByBytes {
    fn weight(&self, _: &Position, batch: &Arc<BatchContent>) -> u64 {
        batch.bytes()
    }
}

/// Batches by their position in the journal, up to a number of bytes.
pub(super) struct BatchCache {
    cache: Cache<Position, Arc<BatchContent>, ByBytes>,
    /// Number of times everything was dropped. The lock is held while a batch is added.
    dropped: Mutex<u64>,
    /// Set by every question since the last call of `drop_if_idle`.
    asked: AtomicBool,
}

impl BatchCache {
    /// An empty cache that holds at most `bytes_max`.
    pub fn new(bytes_max: u64) -> Self {
        let items = usize::try_from(bytes_max / AVERAGE_BYTES).unwrap_or(usize::MAX).max(1);
        Self { cache: Cache::with_weighter(items, bytes_max, ByBytes), dropped: Mutex::default(), asked: AtomicBool::default() }
    }

    fn dropped(&self) -> MutexGuard<'_, u64> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the batch at a position: from memory, or as `read` finds it.
    ///
    /// A batch that was read while something was erased is returned and not added: it may be older than the erasure.
    pub fn get_or_read<E>(&self, position: Position, read: impl FnOnce() -> Result<BatchContent, E>) -> Result<Arc<BatchContent>, E> {
        self.asked.store(true, Ordering::Relaxed);
        if let Some(batch) = self.cache.get(&position) {
            return Ok(batch);
        }
        let before = *self.dropped();
        let batch = Arc::new(read()?);
        let dropped = self.dropped();
        if *dropped == before {
            self.cache.insert(position, Arc::clone(&batch));
        }
        drop(dropped);
        Ok(batch)
    }

    /// Drops every batch: after something was erased.
    pub fn clear(&self) {
        let mut dropped = self.dropped();
        *dropped += 1;
        self.cache.clear();
    }

    /// Frees the memory if no batch was asked for since the last call.
    pub fn drop_if_idle(&self) {
        if !self.asked.swap(false, Ordering::Relaxed) {
            self.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        envelope::{Audience, Class, HEAD_FORMAT, Hash, encode_full, merkle::Seed, record_spans},
        record::{Timestamp, Tlp},
    };

    fn batch(word: &[u8]) -> Result<BatchContent, ()> {
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
            body: word.to_vec().into(),
            policy: root,
            table: Vec::new(),
            runs: Vec::new(),
            withheld: 0,
            path: Vec::new(),
        };
        let body = encode_full(&Seed([1; 16]), &[word.to_vec()]);
        let spans = record_spans(&body).map_err(drop)?;
        Ok(BatchContent { head, entry: BatchEntry { body: body.into(), ..entry }, spans })
    }

    const BYTES_MAX: u64 = 8 * 1024 * 1024;

    fn first_record(batches: &BatchCache, word: &[u8]) -> Vec<u8> {
        batches.get_or_read(7, || batch(word)).unwrap().record_bytes(0).unwrap().to_vec()
    }

    #[test]
    fn a_batch_is_read_once_until_something_is_erased() {
        let batches = BatchCache::new(BYTES_MAX);
        assert_eq!(first_record(&batches, b"first"), b"first");
        assert_eq!(first_record(&batches, b"second"), b"first");
        batches.clear();
        assert_eq!(first_record(&batches, b"third"), b"third");
    }

    #[test]
    fn a_batch_that_was_read_during_an_erasure_is_not_remembered() {
        let batches = BatchCache::new(BYTES_MAX);
        let meanwhile = batches.get_or_read(7, || {
            batches.clear();
            batch(b"before")
        });
        assert_eq!(meanwhile.unwrap().record_bytes(0), Some(&b"before"[..]));
        assert_eq!(first_record(&batches, b"after"), b"after");
    }

    #[test]
    fn the_cache_holds_no_more_bytes_than_it_may() {
        let batches = BatchCache::new(BYTES_MAX);
        let large = vec![7; 64 * 1024];
        for position in 0..400 {
            batches.get_or_read(position, || batch(&large)).unwrap();
        }
        assert!(batches.cache.weight() <= BYTES_MAX && batches.cache.len() > 64, "{} bytes", batches.cache.weight());
    }

    #[test]
    fn memory_is_given_back_when_nobody_asks_between_two_rounds() {
        let batches = BatchCache::new(BYTES_MAX);
        first_record(&batches, b"first");
        batches.drop_if_idle();
        assert_eq!(batches.cache.len(), 1, "asked since the start");
        batches.drop_if_idle();
        assert_eq!(batches.cache.len(), 0);
    }
}
