//! Segments: the files of the journal, of two forms.
//!
//! ```text
//! dense    huecryJ3, then frames: length u32, CRC32C u32, payload                 as it is written; a position is an offset
//! sparse   huecryJ2, then frames: length u32, CRC32C u32, position u64, payload   as it is rewritten when something has to go;
//!          then (position u64, offset u32) of each, their count u32, CRC32C u32   frames have become shorter, or are gone
//! ```
//!
//! All numbers are little-endian. The checksum covers the store's id, the position and the payload: a frame never answers for another one, and
//! what a stranger has written into a record is never taken for a frame, because nobody outside knows the id. Dense segments of format 1
//! (huecryJ1) have one over the payload alone; nothing is appended to them any more.

use super::{FRAME_BYTES_MAX, LedgerError, Position};
use crate::ledger::Disk;
use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

pub(super) const DENSE: &[u8; 8] = b"huecryJ3";
pub(super) const DENSE_1: &[u8; 8] = b"huecryJ1";
pub(super) const SPARSE: &[u8; 8] = b"huecryJ2";
pub(super) const MAGIC_BYTES: u64 = 8;
pub(in crate::ledger) const FRAME_HEAD_BYTES: usize = 8;
pub(super) const POSITION_BYTES: usize = 8;
const TABLE_LINE_BYTES: usize = 12;
const TABLE_END_BYTES: usize = 8;
/// Longest table: frames are longer than their lines, and a segment is 256 MiB and a group commit at most.
const TABLE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// A sparse segment is written in pieces of this length.
const PIECE_BYTES: usize = 1024 * 1024;

/// Where each frame of a sparse segment stands, by position.
type Table = Vec<(Position, u32)>;

#[derive(Clone)]
enum Form {
    Dense,
    /// Its table is read when it is first asked for: at a start nobody asks most segments anything.
    Sparse(Arc<OnceLock<Table>>),
}

/// One file of the journal, open.
#[derive(Clone)]
pub(super) struct Segment {
    pub begins: Position,
    pub file: Arc<File>,
    form: Form,
    pub seal: Seal,
}

/// What checksums of a segment begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seal {
    /// Over the payload alone, as in format 1.
    Plain,
    /// Over the store's id, whose checksum this is, the position and the payload.
    Store(u32),
}

impl Seal {
    /// That of the segments of a store.
    pub fn of(store: &str) -> Self {
        Self::Store(crc32c::crc32c(store.as_bytes()))
    }

    /// The checksum of a frame.
    pub fn checksum(self, position: Position, payload: &[u8]) -> u32 {
        match self {
            Self::Plain => crc32c::crc32c(payload),
            Self::Store(seed) => crc32c::crc32c_append(crc32c::crc32c_append(seed, &position.to_le_bytes()), payload),
        }
    }
}

/// Whether a file is a segment that can grow.
pub(super) fn is_dense(path: &Path) -> std::io::Result<bool> {
    let mut magic = [0; MAGIC_BYTES as usize];
    File::open(path)?.read_exact_at(&mut magic, 0)?;
    Ok(magic == *DENSE || magic == *DENSE_1)
}

fn damaged(position: Position, what: &str) -> LedgerError {
    LedgerError::Damaged(format!("journal position {position}: {what}"))
}

impl Segment {
    /// A segment of a store, as its first bytes say.
    pub fn of(file: File, begins: Position, path: &Path, store: &str) -> Result<Self, LedgerError> {
        let mut magic = [0; MAGIC_BYTES as usize];
        let read = file.read_exact_at(&mut magic, 0);
        let (form, seal) = match &magic {
            DENSE if read.is_ok() => (Form::Dense, Seal::of(store)),
            DENSE_1 if read.is_ok() => (Form::Dense, Seal::Plain),
            SPARSE if read.is_ok() => (Form::Sparse(Arc::default()), Seal::of(store)),
            _ => return Err(LedgerError::Damaged(format!("{} does not begin as a segment of ours", path.display()))),
        };
        Ok(Self { begins, file: Arc::new(file), form, seal })
    }

    /// Whether frames can be appended: only a dense one has room at its end.
    pub fn is_dense(&self) -> bool {
        matches!(self.form, Form::Dense)
    }

    /// Where in a dense segment a position stands.
    pub fn offset(&self, position: Position) -> u64 {
        position - self.begins + MAGIC_BYTES
    }

    /// Where frames stand, of a sparse segment.
    pub fn positions(&self) -> Result<Vec<Position>, LedgerError> {
        Ok(self.table()?.map(|table| table.iter().map(|(position, _)| *position).collect()).unwrap_or_default())
    }

    fn table(&self) -> Result<Option<&Table>, LedgerError> {
        let Form::Sparse(table) = &self.form else { return Ok(None) };
        if let Some(table) = table.get() {
            return Ok(Some(table));
        }
        let read = read_table(&self.file).ok_or_else(|| damaged(self.begins, "the table of its segment is damaged"))?;
        Ok(Some(table.get_or_init(|| read)))
    }

    /// The frame at `position`, its checksum checked.
    pub fn read(&self, position: Position) -> Result<Vec<u8>, LedgerError> {
        let offset = match self.table()? {
            None => self.offset(position),
            Some(table) => match table.binary_search_by_key(&position, |(at, _)| *at) {
                Ok(line) => table.get(line).map_or(0, |(_, offset)| u64::from(*offset)),
                Err(_) => return Err(damaged(position, "nothing stands there any more")),
            },
        };
        let mut head = [0; FRAME_HEAD_BYTES];
        self.file.read_exact_at(&mut head, offset).map_err(|_| damaged(position, "it is past the end"))?;
        let (length, crc) = frame_head(&head);
        if length > FRAME_BYTES_MAX {
            return Err(damaged(position, "its length is impossible"));
        }
        let skipped = if self.is_dense() { 0 } else { POSITION_BYTES };
        let mut bytes = vec![0; skipped + length];
        self.file.read_exact_at(&mut bytes, offset + FRAME_HEAD_BYTES as u64).map_err(|_| damaged(position, "it ends early"))?;
        let named = bytes.first_chunk::<POSITION_BYTES>().map(|bytes| Position::from_le_bytes(*bytes));
        bytes.drain(..skipped);
        if self.seal.checksum(position, &bytes) != crc || (skipped > 0 && named != Some(position)) {
            return Err(damaged(position, "its checksum is wrong"));
        }
        Ok(bytes)
    }

    /// Where the first frame at or behind `position` stands; `None` if there is none before `end`.
    pub fn next(&self, position: Position, end: Position) -> Result<Option<Position>, LedgerError> {
        let found = match self.table()? {
            None => Some(position),
            Some(table) => table.get(table.partition_point(|(at, _)| *at < position)).map(|(at, _)| *at),
        };
        Ok(found.filter(|at| *at < end))
    }
}

impl Segment {
    /// Visits every frame from `from` up to `end`, in order.
    pub fn each(
        &self,
        from: Position,
        end: Position,
        visit: &mut impl FnMut(Position, &[u8]) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut position = self.next(from, end)?;
        while let Some(at) = position {
            let payload = self.read(at)?;
            visit(at, &payload)?;
            let behind = if self.is_dense() { at + (FRAME_HEAD_BYTES + payload.len()) as Position } else { at + 1 };
            position = self.next(behind, end)?;
        }
        Ok(())
    }
}

fn read_table(file: &File) -> Option<Table> {
    let length = file.metadata().ok()?.len();
    let mut end = [0; TABLE_END_BYTES];
    file.read_exact_at(&mut end, length.checked_sub(TABLE_END_BYTES as u64)?).ok()?;
    let (count, crc) = frame_head(&end);
    let bytes = (count as u64).checked_mul(TABLE_LINE_BYTES as u64).filter(|bytes| *bytes <= TABLE_BYTES_MAX)?;
    let mut table = vec![0; usize::try_from(bytes).ok()?];
    file.read_exact_at(&mut table, length.checked_sub(TABLE_END_BYTES as u64 + bytes)?).ok()?;
    if crc32c::crc32c(&table) != crc {
        return None;
    }
    let line = |line: &[u8]| {
        let (position, offset) = line.split_first_chunk::<8>()?;
        Some((Position::from_le_bytes(*position), u32::from_le_bytes(*offset.first_chunk()?)))
    };
    table.chunks_exact(TABLE_LINE_BYTES).map(line).collect()
}

/// Length (or count) and checksum, as they stand before a frame and behind a table.
pub(super) fn frame_head(head: &[u8; FRAME_HEAD_BYTES]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h] = *head;
    (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]))
}

/// Writes a sparse segment, frame by frame.
pub(super) struct SparseWriter<'a> {
    disk: &'a Disk,
    path: PathBuf,
    file: File,
    seal: Seal,
    table: Table,
    /// Bytes on the disk, and those that wait to be written.
    written: u64,
    pending: Vec<u8>,
}

impl<'a> SparseWriter<'a> {
    /// Begins a segment aside, under a name that no manifest knows yet.
    pub fn create(disk: &'a Disk, path: PathBuf, seal: Seal) -> std::io::Result<Self> {
        let file = disk.create(&path)?;
        Ok(Self { disk, path, file, seal, table: Table::new(), written: 0, pending: SPARSE.to_vec() })
    }

    /// Adds the frame of a position behind all that were added.
    pub fn add(&mut self, position: Position, payload: &[u8]) -> std::io::Result<()> {
        let offset = self.written + self.pending.len() as u64;
        self.table.push((position, u32::try_from(offset).map_err(|_| std::io::ErrorKind::FileTooLarge)?));
        let named = position.to_le_bytes();
        let crc = self.seal.checksum(position, payload);
        self.pending.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.pending.extend_from_slice(&crc.to_le_bytes());
        self.pending.extend_from_slice(&named);
        self.pending.extend_from_slice(payload);
        if self.pending.len() >= PIECE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> std::io::Result<()> {
        self.disk.write(&self.file, &self.path, self.written, &self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Ends it: table, sync. Answers its length.
    pub fn finish(mut self) -> std::io::Result<u64> {
        let mut table = Vec::with_capacity(self.table.len() * TABLE_LINE_BYTES);
        for (position, offset) in &self.table {
            table.extend_from_slice(&position.to_le_bytes());
            table.extend_from_slice(&offset.to_le_bytes());
        }
        self.pending.extend_from_slice(&table);
        self.pending.extend_from_slice(&u32::try_from(self.table.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.pending.extend_from_slice(&crc32c::crc32c(&table).to_le_bytes());
        self.write()?;
        self.disk.sync(&self.file, &self.path)?;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(frames: &[(Position, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sparse.seg");
        let disk = Disk::default();
        let mut writer = SparseWriter::create(&disk, path.clone(), Seal::of("store")).unwrap();
        frames.iter().for_each(|(position, payload)| writer.add(*position, payload).unwrap());
        writer.finish().unwrap();
        (directory, path)
    }

    fn open(path: &Path) -> Segment {
        Segment::of(File::open(path).unwrap(), 100, path, "store").unwrap()
    }

    #[test]
    fn a_sparse_segment_answers_by_position_and_says_what_is_gone() {
        let (_directory, path) = sparse(&[(100, b"one"), (5_000, b"three")]);
        let segment = open(&path);
        assert_eq!(segment.read(100).unwrap(), b"one");
        assert_eq!(segment.read(5_000).unwrap(), b"three");
        assert!(segment.read(120).unwrap_err().to_string().contains("any more"));
        assert_eq!([100, 101, 5_001].map(|from| segment.next(from, 9_000).unwrap()), [Some(100), Some(5_000), None]);
        assert_eq!(segment.next(101, 4_000).unwrap(), None);
    }

    #[test]
    fn r_04_a_flipped_bit_of_a_sparse_segment_is_found_wherever_it_is() {
        let (_directory, path) = sparse(&[(100, b"one"), (5_000, b"three")]);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                std::fs::write(&path, &bytes).unwrap();
                let Ok(segment) = Segment::of(File::open(&path).unwrap(), 100, &path, "store") else { continue };
                // A damaged frame leaves the other one alone; none ever reads as something else.
                let read = [segment.read(100), segment.read(5_000)];
                assert!(read.iter().any(Result::is_err), "byte {at}, bit {bit}");
                assert!(read[0].as_ref().map_or(true, |bytes| bytes == b"one") && read[1].as_ref().map_or(true, |bytes| bytes == b"three"));
            }
        }
    }
}
