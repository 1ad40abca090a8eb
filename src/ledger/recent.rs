//! What was kept a moment ago, in memory: neighbours ask for it at once, and so do those who announce and count.

use super::{Ledger, LedgerError, StoredBatch, stored_head};
use crate::{
    envelope::{Hash, Head},
    record::FeedId,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Batches kept here: those of the last moments. With bodies of 13 KiB half a megabyte.
pub(super) const BATCHES_MAX: usize = 16;
/// Last heads of feeds that are kept read.
const HEADS_MAX: usize = 4_096;

/// Batches that became durable last, the newest in the end; and the last heads of feeds, read.
#[derive(Default)]
pub(super) struct Recent {
    batches: Mutex<VecDeque<(FeedId, u64, Arc<StoredBatch>)>>,
    heads: Mutex<HashMap<Hash, Arc<Head>>>,
}

impl Recent {
    fn batches(&self) -> MutexGuard<'_, VecDeque<(FeedId, u64, Arc<StoredBatch>)>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds batches that are durable now.
    pub fn add(&self, new: Vec<StoredBatch>) {
        let mut batches = self.batches();
        batches.extend(new.into_iter().map(|batch| (batch.head.feed(), batch.head.seq, Arc::new(batch))));
        let surplus = batches.len().saturating_sub(BATCHES_MAX);
        batches.drain(..surplus);
    }

    /// Forgets them all: something about a batch that is here may have changed.
    pub fn forget(&self) {
        self.batches().clear();
    }
}

impl Ledger {
    /// A batch, if it was kept a moment ago and nothing that concerns any batch has changed since.
    pub fn recent(&self, feed: &FeedId, seq: u64) -> Option<Arc<StoredBatch>> {
        let found =
            self.shared.recent.batches().iter().find(|(of, at, _)| *at == seq && of == feed).map(|(_, _, batch)| Arc::clone(batch))?;
        // A feed may have been set aside meanwhile.
        self.feed(feed).is_some_and(|state| state.aside.is_none()).then_some(found)
    }

    /// The last head of a feed, read.
    pub fn last_head(&self, state: &super::FeedState) -> Result<Arc<Head>, LedgerError> {
        let heads = || self.shared.recent.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = heads().get(&state.id) {
            return Ok(Arc::clone(head));
        }
        let head = Arc::new(stored_head(&state.head)?);
        let mut heads = heads();
        if heads.len() >= HEADS_MAX {
            heads.clear();
        }
        heads.insert(state.id, Arc::clone(&head));
        Ok(head)
    }
}
