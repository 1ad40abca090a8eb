//! Documents: the contents that are too long for a record, as files beside the ledger.
//!
//! ```text
//! documents/<root>        whole and proved, fsynced
//! documents/<root>.part   its first chunks, each proved as it came; the length says how many
//! documents/<root>.want   which record names it, how long it is: fetched whenever somebody may give it
//! ```
//!
//! A content is its root's hash, so two records that name one content share a file, and a name never leads out of the
//! directory. One thread writes; whatever it cannot write is asked for again. Not here: who may have a chunk (`serving`), what
//! is asked of whom (`replica::Contents`).

use crate::{
    cbor::{self, int_map},
    envelope::{CHUNK_BYTES, ContentTree, Hash, chunk_count, chunk_leaf},
    record::{ContentHash, DOCUMENT_LENGTH_MAX, RecordRef},
    replica::Ready,
};
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

/// Chunks that may wait to be written: 4 MiB.
pub const BACKLOG_MAX: usize = 64;
/// Contents that are wanted at a time; a person asked for each.
pub const WANTED_MAX: usize = 1_024;
/// Trees kept in memory for serving, 256 KiB each at most.
const TREES_MAX: usize = 8;
/// Longest file that says what is wanted.
const WANT_BYTES_MAX: usize = 4 * 1024;

int_map! {
    /// What a `.want` file says.
    struct WantFile {
        req 0 record: String,
        req 1 length: u64,
    }
}

/// A content that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub record: RecordRef,
    pub length: u64,
    /// Chunks that are here.
    pub have: u64,
}

/// Where a content stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Absent,
    Wanted { have_bytes: u64 },
    Here,
}

/// Why a content cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("the content is empty")]
    Empty,
    #[error("longer than 256 MiB; publish it in parts")]
    Long,
    #[error(
        "{length} bytes more would be more than `documents_bytes_max` allows ({max}); make room with `huecry document drop`, or raise it"
    )]
    Full { length: u64, max: u64 },
    #[error("{WANTED_MAX} contents are being fetched already")]
    Many,
}

#[derive(Default)]
struct State {
    here: BTreeMap<ContentHash, u64>,
    wanted: BTreeMap<ContentHash, Want>,
}

struct Shared {
    directory: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
    trees: Mutex<VecDeque<(ContentHash, Arc<ContentTree>)>>,
    backlog: AtomicUsize,
    chunks: mpsc::SyncSender<Ready>,
}

/// All contents of a node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Documents(Arc<Shared>);

impl Documents {
    /// Opens the directory, made when first needed, and starts the thread that writes. It ends when all handles are gone.
    pub fn open(directory: &Path, bytes_max: u64) -> Result<Self, DocumentsError> {
        let mut state = State::default();
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let length = entry.metadata().map_or(0, |metadata| metadata.len());
            match name.split_once('.') {
                None => drop(name.parse::<ContentHash>().map(|hash| state.here.insert(hash, length))),
                Some((name, "want")) => {
                    let Ok(hash) = name.parse::<ContentHash>() else { continue };
                    let Some(want) = read_want(&path) else { continue };
                    let part = std::fs::metadata(path.with_extension("part")).map_or(0, |metadata| metadata.len());
                    // A chunk that was being written when the machine stopped does not count.
                    state.wanted.insert(hash, Want { have: part / CHUNK_BYTES as u64, ..want });
                }
                // What an upload that was cut left behind.
                Some((_, "new")) => drop(std::fs::remove_file(&path)),
                Some(_) => (),
            }
        }
        let (chunks, queue) = mpsc::sync_channel(BACKLOG_MAX);
        let shared = Shared {
            directory: directory.to_owned(),
            bytes_max,
            state: Mutex::new(state),
            trees: Mutex::default(),
            backlog: AtomicUsize::new(0),
            chunks,
        };
        let documents = Self(Arc::new(shared));
        let writer = Arc::downgrade(&documents.0);
        std::thread::spawn(move || {
            while let Ok(ready) = queue.recv() {
                let Some(shared) = writer.upgrade() else { return };
                let documents = Self(shared);
                documents.write(&ready);
                documents.0.backlog.fetch_sub(1, Ordering::Relaxed);
            }
        });
        Ok(documents)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, hash: &ContentHash) -> PathBuf {
        self.0.directory.join(hash.to_string())
    }

    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> DocumentsError {
        let path = path.to_owned();
        move |error| DocumentsError::Io { path, error }
    }

    fn make_room(&self, state: &State, length: u64) -> Result<(), DocumentsError> {
        let wanted = state.wanted.values().map(|want| want.length);
        let used: u64 = state.here.values().copied().chain(wanted).sum();
        match used.saturating_add(length) > self.0.bytes_max {
            true => Err(DocumentsError::Full { length, max: self.0.bytes_max }),
            false => Ok(std::fs::create_dir_all(&self.0.directory).map_err(Self::io(&self.0.directory))?),
        }
    }

    /// Where a content stands.
    pub fn progress(&self, hash: &ContentHash) -> Progress {
        let state = self.state();
        match state.wanted.get(hash) {
            _ if state.here.contains_key(hash) => Progress::Here,
            Some(want) => Progress::Wanted { have_bytes: (want.have * CHUNK_BYTES as u64).min(want.length) },
            None => Progress::Absent,
        }
    }

    /// What is to come.
    pub fn wanted(&self) -> Vec<(ContentHash, Want)> {
        self.state().wanted.iter().map(|(hash, want)| (*hash, want.clone())).collect()
    }

    /// Bytes that contents take here, and how many they may.
    pub fn room(&self) -> (u64, u64) {
        let state = self.state();
        (state.here.values().copied().chain(state.wanted.values().map(|want| want.length)).sum(), self.0.bytes_max)
    }

    /// From now on fetches a content, over restarts too, until it is here. Naming another record of it changes who is asked.
    pub fn want(&self, hash: ContentHash, record: &RecordRef, length: u64) -> Result<(), DocumentsError> {
        let mut state = self.state();
        if state.here.contains_key(&hash) {
            return Ok(());
        }
        let before = state.wanted.get(&hash).map(|want| want.have);
        if before.is_none() {
            if state.wanted.len() >= WANTED_MAX {
                return Err(DocumentsError::Many);
            }
            self.make_room(&state, length)?;
        }
        let path = self.path(&hash).with_extension("want");
        write_aside(&path, &cbor::to_vec(&WantFile { record: record.to_string(), length })).map_err(Self::io(&path))?;
        state.wanted.insert(hash, Want { record: record.clone(), length, have: before.unwrap_or(0) });
        Ok(())
    }

    /// Removes a content, or stops fetching it. Answers whether there was anything.
    pub fn drop_content(&self, hash: &ContentHash) -> Result<bool, DocumentsError> {
        let mut state = self.state();
        let had = state.here.remove(hash).is_some() | state.wanted.remove(hash).is_some();
        self.0.trees.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| of != hash);
        for path in [self.path(hash), self.path(hash).with_extension("part"), self.path(hash).with_extension("want")] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Self::io(&path)(error)),
                _ => (),
            }
        }
        Ok(had)
    }

    /// Begins to keep a content of our own.
    pub fn receive(&self) -> Result<Receiving, DocumentsError> {
        self.make_room(&self.state(), 0)?;
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|error| Self::io(&self.0.directory)(std::io::Error::other(error.to_string())))?;
        let path = self.0.directory.join(hex::encode(name)).with_extension("new");
        let file = File::create_new(&path).map_err(Self::io(&path))?;
        Ok(Receiving { documents: self.clone(), path, file, leaves: Vec::new(), chunk: Vec::new(), length: 0, kept: false })
    }

    /// How many more chunks may be handed to [`Self::append`] now.
    pub fn backlog_room(&self) -> usize {
        BACKLOG_MAX.saturating_sub(self.0.backlog.load(Ordering::Relaxed))
    }

    /// Hands over a chunk that continues what is here. `false` if it cannot be taken now.
    pub fn append(&self, ready: Ready) -> bool {
        self.0.backlog.fetch_add(1, Ordering::Relaxed);
        let taken = self.0.chunks.try_send(ready).is_ok();
        if !taken {
            self.0.backlog.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn write(&self, ready: &Ready) {
        let wants_it = |want: &Want| want.have == ready.index;
        let Some(want) = self.state().wanted.get(&ready.hash).cloned().filter(wants_it) else { return };
        match self.write_chunk(ready, &want) {
            Ok(()) => (),
            // It begins again from what is on the disk, when there is room.
            Err(error) => tracing::error!(%error, "a chunk of a document could not be written"),
        }
    }

    fn write_chunk(&self, ready: &Ready, want: &Want) -> Result<(), DocumentsError> {
        let part = self.path(&ready.hash).with_extension("part");
        let mut file = File::options().create(true).truncate(false).write(true).open(&part).map_err(Self::io(&part))?;
        let offset = ready.index * CHUNK_BYTES as u64;
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(&ready.bytes)).map_err(Self::io(&part))?;
        let last = ready.index + 1 == chunk_count(want.length);
        if last {
            file.set_len(want.length).and_then(|()| file.sync_all()).map_err(Self::io(&part))?;
            // Proved once more as it lies on the disk: a machine that stopped may have kept less than it said.
            let proved = tree_of(&part).is_ok_and(|tree| tree.root() == ready.hash);
            if !proved {
                tracing::warn!(content = %ready.hash.short(), "a document's content was damaged on the disk and is fetched again");
                std::fs::remove_file(&part).map_err(Self::io(&part))?;
                if let Some(want) = self.state().wanted.get_mut(&ready.hash) {
                    want.have = 0;
                }
                return Ok(());
            }
            self.put_in_place(&part, &ready.hash)?;
        }
        let mut state = self.state();
        match state.wanted.get_mut(&ready.hash) {
            Some(want) => want.have = ready.index + 1,
            None => return Ok(()),
        }
        if last {
            state.wanted.remove(&ready.hash);
            state.here.insert(ready.hash, want.length);
            let path = self.path(&ready.hash).with_extension("want");
            std::fs::remove_file(&path).map_err(Self::io(&path))?;
            tracing::info!(content = %ready.hash.short(), bytes = want.length, "a document's content is here");
        }
        Ok(())
    }

    fn put_in_place(&self, from: &Path, hash: &ContentHash) -> Result<(), DocumentsError> {
        let path = self.path(hash);
        std::fs::rename(from, &path).map_err(Self::io(&path))?;
        File::open(&self.0.directory).and_then(|directory| directory.sync_all()).map_err(Self::io(&self.0.directory))
    }

    /// A chunk of a content that is here, with the path that proves it. Reads from the disk.
    pub fn chunk(&self, hash: &ContentHash, index: u64) -> Option<(Vec<u8>, Vec<Hash>)> {
        if self.progress(hash) != Progress::Here {
            return None;
        }
        let path = self.tree(hash)?.path(index)?;
        let mut file = File::open(self.path(hash)).ok()?;
        file.seek(SeekFrom::Start(index.checked_mul(CHUNK_BYTES as u64)?)).ok()?;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes).ok()?;
        Some((bytes, path))
    }

    fn tree(&self, hash: &ContentHash) -> Option<Arc<ContentTree>> {
        let trees = || self.0.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tree)) = trees().iter().find(|(of, _)| of == hash) {
            return Some(Arc::clone(tree));
        }
        let tree = Arc::new(tree_of(&self.path(hash)).ok().filter(|tree| tree.root() == *hash)?);
        let mut trees = trees();
        trees.push_back((*hash, Arc::clone(&tree)));
        if trees.len() > TREES_MAX {
            trees.pop_front();
        }
        Some(tree)
    }

    /// The file of a content that is here.
    pub fn file(&self, hash: &ContentHash) -> Option<PathBuf> {
        (self.progress(hash) == Progress::Here).then(|| self.path(hash))
    }
}

/// A content of our own that is coming in.
pub struct Receiving {
    documents: Documents,
    path: PathBuf,
    file: File,
    leaves: Vec<Hash>,
    chunk: Vec<u8>,
    length: u64,
    kept: bool,
}

impl Receiving {
    /// Takes more of it.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), DocumentsError> {
        self.length += bytes.len() as u64;
        if self.length > DOCUMENT_LENGTH_MAX {
            return Err(DocumentsError::Long);
        }
        self.file.write_all(bytes).map_err(Documents::io(&self.path))?;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = rest;
            if self.chunk.len() == CHUNK_BYTES {
                self.leaves.push(chunk_leaf(&self.chunk));
                self.chunk.clear();
            }
        }
        Ok(())
    }

    /// Its end: durable, under its root and length.
    pub fn keep(mut self) -> Result<(ContentHash, u64), DocumentsError> {
        if !self.chunk.is_empty() {
            self.leaves.push(chunk_leaf(&self.chunk));
        }
        if self.leaves.is_empty() {
            return Err(DocumentsError::Empty);
        }
        let hash = ContentTree::of(std::mem::take(&mut self.leaves)).root();
        let mut state = self.documents.state();
        if !state.here.contains_key(&hash) {
            self.documents.make_room(&state, self.length)?;
        }
        self.file.sync_all().map_err(Documents::io(&self.path))?;
        self.documents.put_in_place(&self.path, &hash)?;
        state.here.insert(hash, self.length);
        state.wanted.remove(&hash);
        drop(state);
        self.kept = true;
        Ok((hash, self.length))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.kept {
            let _gone_already = std::fs::remove_file(&self.path);
        }
    }
}

fn read_want(path: &Path) -> Option<Want> {
    let file: WantFile = cbor::from_slice(&std::fs::read(path).ok()?, WANT_BYTES_MAX).ok()?;
    (1..=DOCUMENT_LENGTH_MAX).contains(&file.length).then_some(())?;
    Some(Want { record: file.record.parse().ok()?, length: file.length, have: 0 })
}

pub(super) fn write_aside(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let aside = path.with_extension("want-new");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

fn tree_of(path: &Path) -> std::io::Result<ContentTree> {
    let (file, mut leaves) = (File::open(path)?, Vec::new());
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        if (&file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)? == 0 {
            return Ok(ContentTree::of(leaves));
        }
        leaves.push(chunk_leaf(&chunk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 3) as u8).collect()
    }

    fn keep(documents: &Documents, bytes: &[u8]) -> ContentHash {
        let mut receiving = documents.receive().unwrap();
        bytes.chunks(10_000).for_each(|piece| receiving.push(piece).unwrap());
        receiving.keep().unwrap().0
    }

    fn until(mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_content_goes_over_in_chunks_and_on_after_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let (ours, theirs) = (place.path().join("ours"), place.path().join("theirs"));
        let bytes = content(5 * CHUNK_BYTES + 100);
        let from = Documents::open(&ours, 1 << 30).unwrap();
        let hash = keep(&from, &bytes);
        let record = "talos/files#1.0".parse().unwrap();
        let give = |to: &Documents, index: u64| {
            let (bytes, _path) = from.chunk(&hash, index).unwrap();
            assert!(to.append(Ready { hash, index, bytes }));
        };
        let to = Documents::open(&theirs, 1 << 30).unwrap();
        to.want(hash, &record, bytes.len() as u64).unwrap();
        (0..3).for_each(|index| give(&to, index));
        until(|| to.progress(&hash) == Progress::Wanted { have_bytes: 3 * CHUNK_BYTES as u64 });
        drop(to);
        // Cut in the middle of a chunk.
        let part = theirs.join(hash.to_string()).with_extension("part");
        std::fs::File::options().append(true).open(&part).unwrap().write_all(&[1; 99]).unwrap();
        let to = Documents::open(&theirs, 1 << 30).unwrap();
        assert_eq!(to.wanted()[0].1, Want { record, length: bytes.len() as u64, have: 3 });
        (3..6).for_each(|index| give(&to, index));
        until(|| to.progress(&hash) == Progress::Here);
        assert_eq!(std::fs::read(to.file(&hash).unwrap()).unwrap(), bytes);
        assert!(to.wanted().is_empty() && !part.exists() && !part.with_extension("want").exists());
    }

    #[test]
    fn r_04_what_was_damaged_on_the_disk_is_not_served_and_fetched_again() {
        let place = tempfile::tempdir().unwrap();
        let bytes = content(2 * CHUNK_BYTES + 1);
        let from = Documents::open(&place.path().join("ours"), 1 << 30).unwrap();
        let hash = keep(&from, &bytes);
        let to = Documents::open(&place.path().join("theirs"), 1 << 30).unwrap();
        to.want(hash, &"talos/files#1.0".parse().unwrap(), bytes.len() as u64).unwrap();
        let give = |index: u64| assert!(to.append(Ready { hash, index, bytes: from.chunk(&hash, index).unwrap().0 }));
        give(0);
        until(|| to.progress(&hash) != Progress::Wanted { have_bytes: 0 });
        let part = place.path().join("theirs").join(hash.to_string()).with_extension("part");
        std::fs::write(&part, vec![0; CHUNK_BYTES]).unwrap();
        (1..3).for_each(give);
        until(|| to.progress(&hash) == Progress::Wanted { have_bytes: 0 });
        (0..3).for_each(give);
        until(|| to.progress(&hash) == Progress::Here);
        // And what rots later is found before it leaves.
        std::fs::write(place.path().join("theirs").join(hash.to_string()), vec![0; bytes.len()]).unwrap();
        assert_eq!(to.chunk(&hash, 0), None);
    }

    #[test]
    fn room_is_bounded_and_what_is_cut_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let documents = Documents::open(place.path(), 3 * CHUNK_BYTES as u64).unwrap();
        let hash = keep(&documents, &content(2 * CHUNK_BYTES));
        assert_eq!(keep(&documents, &content(2 * CHUNK_BYTES)), hash, "the same content takes no more room");
        let wanted = documents.want(ContentHash([7; 32]), &"talos/files#1.0".parse().unwrap(), 2 * CHUNK_BYTES as u64);
        assert!(matches!(wanted, Err(DocumentsError::Full { .. })));
        let mut receiving = documents.receive().unwrap();
        receiving.push(&content(10)).unwrap();
        drop(receiving);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
        assert!(documents.drop_content(&hash).unwrap() && !documents.drop_content(&hash).unwrap());
        assert_eq!((documents.room().0, std::fs::read_dir(place.path()).unwrap().count()), (0, 0));
        assert!(matches!(documents.receive().unwrap().keep(), Err(DocumentsError::Empty)));
    }
}
