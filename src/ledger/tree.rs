//! The tree under the state: sorted keys, one atomic batch a commit. sled on disk; in a rehearsal of hundreds of nodes a map in
//! memory, because every sled database of a process takes one lock for its batches (sled 0.34, `concurrency_control.rs`).

use super::LedgerError;
use std::{
    collections::BTreeMap,
    ops::Bound,
    path::Path,
    sync::{PoisonError, RwLock},
};

/// How often sled writes by itself: what it loses in a crash is replayed from the journal, some seconds of it.
const FLUSH_MS: u64 = 5_000;

/// A key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// Changes that are applied together; of several to one key the last counts.
#[derive(Default)]
pub(super) struct Batch {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub fn insert(&mut self, key: Vec<u8>, value: impl Into<Vec<u8>>) {
        self.rows.push((key, Some(value.into())));
    }

    pub fn remove(&mut self, key: Vec<u8>) {
        self.rows.push((key, None));
    }
}

pub(super) enum Tree {
    Sled(sled::Db),
    Memory(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>),
}

fn broken(error: sled::Error) -> LedgerError {
    LedgerError::State(error.to_string())
}

/// The first key behind all that begin with `prefix`.
fn behind(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

impl Tree {
    /// Opens sled so that none of its ways to fail takes the node along: it panics on some damaged files.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, LedgerError> {
        let config = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(Some(FLUSH_MS));
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open())) {
            Ok(opened) => opened.map(Self::Sled).map_err(broken),
            Err(_panic) => Err(LedgerError::State("sled panicked while opening its file".to_owned())),
        }
    }

    /// Empty, and gone with the process.
    pub fn in_memory() -> Self {
        Self::Memory(RwLock::default())
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        match self {
            Self::Sled(tree) => Ok(tree.get(key).map_err(broken)?.map(|value| value.to_vec())),
            Self::Memory(map) => Ok(map.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()),
        }
    }

    fn rows(&self, from: Vec<u8>, to: Bound<Vec<u8>>, limit: usize, newest_first: bool) -> Result<Vec<Row>, LedgerError> {
        let range = (Bound::Included(from), to);
        match self {
            Self::Sled(tree) => {
                let plain =
                    |row: sled::Result<(sled::IVec, sled::IVec)>| row.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(broken);
                let rows = tree.range(range);
                if newest_first { rows.rev().take(limit).map(plain).collect() } else { rows.take(limit).map(plain).collect() }
            }
            Self::Memory(map) => {
                let map = map.read().unwrap_or_else(PoisonError::into_inner);
                let rows = map.range(range).map(|(key, value)| (key.clone(), value.clone()));
                Ok(if newest_first { rows.rev().take(limit).collect() } else { rows.take(limit).collect() })
            }
        }
    }

    /// Rows whose keys begin with `prefix`, in order, at most `limit`.
    pub fn prefix(&self, prefix: &[u8], limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.rows(prefix.to_vec(), behind(prefix), limit, false)
    }

    /// The same from the end.
    pub fn last(&self, prefix: &[u8], limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.rows(prefix.to_vec(), behind(prefix), limit, true)
    }

    /// Rows from one key up to another, in order, at most `limit`.
    pub fn range(&self, from: Vec<u8>, to: Vec<u8>, limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.rows(from, Bound::Excluded(to), limit, false)
    }

    /// Applies changes, all or nothing.
    pub fn apply(&self, batch: Batch) -> Result<(), LedgerError> {
        match self {
            Self::Sled(tree) => {
                let mut changes = sled::Batch::default();
                for (key, value) in batch.rows {
                    match value {
                        Some(value) => changes.insert(key, value),
                        None => changes.remove(key),
                    }
                }
                tree.apply_batch(changes).map_err(broken)
            }
            Self::Memory(map) => {
                let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
                for (key, value) in batch.rows {
                    match value {
                        Some(value) => drop(map.insert(key, value)),
                        None => drop(map.remove(&key)),
                    }
                }
                Ok(())
            }
        }
    }

    /// Pushes everything to the disk.
    pub fn flush(&self) -> Result<(), LedgerError> {
        match self {
            Self::Sled(tree) => tree.flush().map(|_bytes| ()).map_err(broken),
            Self::Memory(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_trees_answer_alike() {
        let place = tempfile::tempdir().unwrap();
        let trees = [Tree::open(place.path(), 1 << 20).unwrap(), Tree::in_memory()];
        let key = |text: &str| text.as_bytes().to_vec();
        for tree in &trees {
            let mut batch = Batch::default();
            ["a", "ab", "ab\u{7f}", "b", "c"].iter().for_each(|text| batch.insert(key(text), key(text)));
            batch.insert(vec![b'a', 0xff], &b"end"[..]);
            batch.remove(key("b"));
            batch.insert(key("c"), &b"newer"[..]);
            tree.apply(batch).unwrap();
        }
        let keys = |rows: Vec<Row>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        for tree in &trees {
            assert_eq!(tree.get(b"c").unwrap(), Some(b"newer".to_vec()));
            assert_eq!(tree.get(b"b").unwrap(), None);
            assert_eq!(keys(tree.prefix(b"a", 9).unwrap()), [key("a"), key("ab"), key("ab\u{7f}"), vec![b'a', 0xff]]);
            assert_eq!(keys(tree.prefix(b"ab", 1).unwrap()), [key("ab")]);
            assert_eq!(keys(tree.last(b"a", 2).unwrap()), [vec![b'a', 0xff], key("ab\u{7f}")]);
            assert_eq!(keys(tree.range(key("ab"), key("c"), 9).unwrap()), [key("ab"), key("ab\u{7f}"), vec![b'a', 0xff]]);
            assert_eq!(keys(tree.prefix(&[0xff, 0xff], 9).unwrap()), Vec::<Vec<u8>>::new());
        }
    }
}
