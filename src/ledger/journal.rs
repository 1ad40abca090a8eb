//! The journal: append-only segments, and a manifest that lists them. The truth.
//!
//! ```text
//! journal/manifest            store id, segments with the position each begins at (written aside, synced, renamed)
//! journal/0000000001.seg      frames ([`segment`]); 0000000001-1.seg is the same, rewritten without what had to go ([`rewrite`])
//! ```
//!
//! A position counts payload and frame bytes from the ledger's first day; segments may go, positions never change meaning.
//! Promise: what [`Journal::commit`] has returned for is on the disk. A torn tail is cut when the journal is opened, and
//! only that: a frame that is damaged with a good frame anywhere behind it is an error, not a tail. After a failed write or sync
//! nothing more is appended, because the kernel may have dropped what it could not write.
//!
//! The rest of the ledger knows it by three things alone: append (and commit), read from a position, cut the tail that was never
//! acknowledged. A log that several machines keep together can stand in; rewriting is each one's own affair, since positions stay.

mod copy;
mod repair;
mod rewrite;
mod segment;

pub use copy::{Copied, copy_journal};
pub use repair::{DAMAGED, Repaired, repair_journal};
pub use rewrite::{Rewriting, Rewritten};

use super::{Disk, LedgerError};
pub(super) use segment::FRAME_HEAD_BYTES;
use segment::{DENSE, MAGIC_BYTES, Seal, Segment, frame_head};
use serde::{Deserialize, Serialize};
use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

/// Length at which a segment is closed and the next begun: large enough to be few, small enough to be rewritten.
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Longest frame: a charter of 1 MiB with room. Also bounds what a damaged length can make us read.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Version of the files in this directory; an older huecry refuses a higher one.
pub const LEDGER_FORMAT: u32 = 2;

/// Begins the last line of a manifest: a checksum over the lines before it. Whoever edits one removes the line.
const MANIFEST_CRC: &str = "# crc32c ";

/// Highest kind that an entry's first byte may have, now or in a later format.
pub const KIND_MAX: u8 = 31;

/// A place in the journal.
pub type Position = u64;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    store: String,
    /// Length at which a segment is closed, if it is another than [`SEGMENT_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u64>,
    /// Where the journal ended when segments were rewritten last.
    #[serde(default, skip_serializing_if = "is_zero")]
    rewritten: Position,
    segments: Vec<SegmentLine>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SegmentLine {
    file: String,
    begins: Position,
}

fn is_zero(position: &Position) -> bool {
    *position == 0
}

/// Readers' half: any thread may read any committed frame.
#[derive(Clone)]
pub struct JournalReader {
    segments: Arc<RwLock<Vec<Segment>>>,
}

/// Writer's half. One per ledger.
pub struct Journal {
    disk: Disk,
    directory: PathBuf,
    manifest: Manifest,
    reader: JournalReader,
    /// Where the newest frame stands, if the last segment holds one.
    newest: Option<Position>,
    /// Where the next frame goes.
    end: Position,
    committed: Position,
    pending: Vec<u8>,
    broken: bool,
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError + '_ {
    move |error| LedgerError::io(path, error)
}

impl Manifest {
    /// The manifest of a directory; `None` where there is none.
    fn read(directory: &Path) -> Result<Option<Self>, LedgerError> {
        let path = directory.join("manifest");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let damaged = || LedgerError::Damaged(format!("{}: its checksum is wrong", path.display()));
                if let Some((text, crc)) = text.rsplit_once(MANIFEST_CRC) {
                    let said = u32::from_str_radix(crc.trim_end(), 16).map_err(|_| damaged())?;
                    if said != crc32c::crc32c(text.as_bytes()) {
                        return Err(damaged());
                    }
                }
                let manifest: Self = toml::from_str(&text).map_err(|error| LedgerError::Damaged(format!("{}: {error}", path.display())))?;
                match manifest.format > LEDGER_FORMAT {
                    true => Err(LedgerError::Newer { found: manifest.format, ours: LEDGER_FORMAT }),
                    false => Ok(Some(manifest)),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LedgerError::io(&path, error)),
        }
    }

    fn write(&self, disk: &Disk, directory: &Path) -> Result<(), LedgerError> {
        let (aside, path) = (directory.join("manifest.new"), directory.join("manifest"));
        let text = toml::to_string(self).map_err(|error| LedgerError::Damaged(format!("manifest cannot be written: {error}")))?;
        let text = format!("{text}{MANIFEST_CRC}{:08x}\n", crc32c::crc32c(text.as_bytes()));
        let file = disk.create(&aside).map_err(at(&aside))?;
        disk.write(&file, &aside, 0, text.as_bytes()).and_then(|()| disk.sync(&file, &aside)).map_err(at(&aside))?;
        disk.rename(&aside, &path).map_err(at(&path))?;
        disk.sync_directory(directory).map_err(at(directory))
    }
}

impl Journal {
    /// Opens or creates the journal in `directory`. A torn tail is cut; the number of bytes cut is answered.
    pub fn open(directory: &Path, new_store_id: impl FnOnce() -> Result<String, LedgerError>) -> Result<(Self, u64), LedgerError> {
        Self::open_on(Disk::default(), directory, new_store_id)
    }

    /// The same on a disk on which things may go wrong.
    pub fn open_on(
        disk: Disk,
        directory: &Path,
        new_store_id: impl FnOnce() -> Result<String, LedgerError>,
    ) -> Result<(Self, u64), LedgerError> {
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let manifest = match Manifest::read(directory)? {
            Some(manifest) => manifest,
            None => Self::create(&disk, directory, new_store_id()?)?,
        };
        let mut segments = Vec::new();
        for line in &manifest.segments {
            let path = directory.join(&line.file);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
            segments.push(Segment::of(file, line.begins, &path, &manifest.store)?);
        }
        let last = segments.last().cloned().filter(Segment::is_dense);
        let last = last.ok_or_else(|| LedgerError::Damaged("the manifest lists no segment that can grow".to_owned()))?;
        let reader = JournalReader { segments: Arc::new(RwLock::new(segments)) };
        let last_path = manifest.segments.last().map_or_else(|| directory.to_owned(), |line| directory.join(&line.file));
        let (newest, end, cut) = reader.cut_tail(&disk, &last, &last_path)?;
        rewrite::remove_leftovers(&manifest, directory)?;
        let (directory, committed) = (directory.to_owned(), end);
        let journal = Self { disk, directory, manifest, reader, newest, end, committed, pending: Vec::new(), broken: false };
        Ok((journal, cut))
    }

    fn create(disk: &Disk, directory: &Path, store: String) -> Result<Manifest, LedgerError> {
        let manifest = Manifest {
            format: LEDGER_FORMAT,
            store,
            segment_bytes: None,
            rewritten: 0,
            segments: vec![Self::create_segment(disk, directory, 1, 0)?],
        };
        manifest.write(disk, directory)?;
        Ok(manifest)
    }

    fn create_segment(disk: &Disk, directory: &Path, number: u64, begins: Position) -> Result<SegmentLine, LedgerError> {
        let name = format!("{number:010}.seg");
        let path = directory.join(&name);
        let file = disk.create(&path).map_err(at(&path))?;
        disk.write(&file, &path, 0, DENSE).and_then(|()| disk.sync(&file, &path)).map_err(at(&path))?;
        disk.sync_directory(directory).map_err(at(directory))?;
        Ok(SegmentLine { file: name, begins })
    }

    /// When the disk is full, `make_room` is asked whether there is more now.
    pub fn when_full(&mut self, make_room: impl Fn() -> bool + Send + Sync + 'static) {
        self.disk.when_full(make_room);
    }

    /// In which format its files are.
    pub fn format(&self) -> u32 {
        self.manifest.format
    }

    /// Says that they are in ours from now on. What older segments hold reads the same; a new one is begun.
    pub fn upgrade(&mut self) -> Result<(), LedgerError> {
        self.manifest.format = LEDGER_FORMAT;
        self.roll()
    }

    /// Which store this is; the derived stores carry the same id.
    pub fn store_id(&self) -> &str {
        &self.manifest.store
    }

    /// Where the next frame will stand.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Where the newest frame stands, if the segment that grows holds one.
    pub fn newest(&self) -> Option<Position> {
        self.newest
    }

    /// A handle for readers.
    pub fn reader(&self) -> JournalReader {
        self.reader.clone()
    }

    /// Takes a frame in; it is durable, and readable, after the next [`Self::commit`].
    pub fn append(&mut self, payload: &[u8]) -> Result<Position, LedgerError> {
        if self.broken {
            return Err(LedgerError::Stopped);
        }
        if payload.len() > FRAME_BYTES_MAX {
            return Err(LedgerError::Damaged(format!("a frame of {} bytes is too long for the journal", payload.len())));
        }
        let position = self.end;
        let seal = self.reader.last().ok_or(LedgerError::Stopped)?.seal;
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.pending.extend_from_slice(&length.to_le_bytes());
        self.pending.extend_from_slice(&seal.checksum(position, payload).to_le_bytes());
        self.pending.extend_from_slice(payload);
        self.newest = Some(position);
        self.end += u64::try_from(FRAME_HEAD_BYTES + payload.len()).unwrap_or(u64::MAX);
        Ok(position)
    }

    /// Makes everything appended so far durable, or stops the journal for good.
    pub fn commit(&mut self) -> Result<(), LedgerError> {
        if self.broken {
            return Err(LedgerError::Stopped);
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let outcome = self.write_pending();
        self.broken = outcome.is_err();
        outcome
    }

    fn write_pending(&mut self) -> Result<(), LedgerError> {
        let last = self.reader.last().ok_or(LedgerError::Stopped)?;
        let offset = last.offset(self.committed);
        let path = self.manifest.segments.last().map_or_else(|| self.directory.clone(), |line| self.directory.join(&line.file));
        self.disk.write(&last.file, &path, offset, &self.pending).map_err(at(&path))?;
        self.disk.sync(&last.file, &path).map_err(at(&path))?;
        self.pending.clear();
        self.committed = self.end;
        if self.committed - last.begins > self.manifest.segment_bytes.unwrap_or(SEGMENT_BYTES_MAX) {
            self.roll()?;
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), LedgerError> {
        let number = self.manifest.segments.last().map_or(0, |line| segment_number(&line.file)) + 1;
        let line = Self::create_segment(&self.disk, &self.directory, number, self.committed)?;
        let path = self.directory.join(&line.file);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
        let mut segments = self.reader.segments();
        // An empty one is replaced: two segments never begin at one place.
        if segments.last().is_some_and(|last| last.begins == self.committed) {
            segments.pop();
            self.manifest.segments.pop();
        }
        segments.push(Segment::of(file, self.committed, &path, &self.manifest.store)?);
        self.manifest.segments.push(line);
        self.manifest.write(&self.disk, &self.directory)?;
        self.reader.replace(segments);
        Ok(())
    }
}

/// The number that a segment's file is named by.
fn segment_number(file: &str) -> u64 {
    rewrite::stem_of(file).parse().unwrap_or(0)
}

impl JournalReader {
    fn last(&self) -> Option<Segment> {
        self.segments.read().ok()?.last().cloned()
    }

    /// The first position that is kept.
    pub fn begin(&self) -> Position {
        self.segments().first().map_or(0, |segment| segment.begins)
    }

    fn segments(&self) -> Vec<Segment> {
        self.segments.read().map(|segments| segments.clone()).unwrap_or_default()
    }

    fn replace(&self, new: Vec<Segment>) {
        if let Ok(mut segments) = self.segments.write() {
            *segments = new;
        }
    }

    fn segment_of(&self, position: Position) -> Option<Segment> {
        let segments = self.segments.read().ok()?;
        let after = segments.partition_point(|segment| segment.begins <= position);
        after.checked_sub(1).and_then(|index| segments.get(index)).cloned()
    }

    /// Reads the frame at `position`, checking its CRC. Damage is an error that names the place, never wrong bytes.
    pub fn read(&self, position: Position) -> Result<Vec<u8>, LedgerError> {
        let damaged = |what: &str| LedgerError::Damaged(format!("journal position {position}: {what}"));
        let segment = self.segment_of(position).ok_or_else(|| damaged("no segment holds it"))?;
        segment.read(position)
    }

    /// Visits every frame from `from` up to `end`, in order.
    pub fn scan(
        &self,
        from: Position,
        end: Position,
        mut visit: impl FnMut(Position, &[u8]) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let segments = self.segments();
        for (number, segment) in segments.iter().enumerate() {
            let segment_end = segments.get(number + 1).map_or(end, |next| next.begins.min(end));
            segment.each(from.max(segment.begins), segment_end, &mut visit)?;
        }
        Ok(())
    }

    /// Finds where the last segment's newest good frame stands and ends, and cuts what is behind if it is a torn tail.
    fn cut_tail(&self, disk: &Disk, last: &Segment, path: &Path) -> Result<(Option<Position>, Position, u64), LedgerError> {
        let io = |error: std::io::Error| LedgerError::Damaged(format!("the last segment cannot be read: {error}"));
        let file_end = last.begins + last.file.metadata().map_err(io)?.len() - MAGIC_BYTES;
        let (mut newest, mut position) = (None, last.begins);
        while position < file_end {
            match self.read(position) {
                Ok(payload) => {
                    newest = Some(position);
                    position += (FRAME_HEAD_BYTES + payload.len()) as u64;
                }
                Err(error) if self.good_frame_follows(last, position, file_end)? => return Err(error),
                Err(_) => break,
            }
        }
        let cut = file_end - position;
        if cut > 0 {
            disk.cut(&last.file, path, last.offset(position)).and_then(|()| disk.sync(&last.file, path)).map_err(at(path))?;
        }
        Ok((newest, position, cut))
    }

    /// Whether any good frame stands behind a bad one: then this is damage to what was acknowledged, not a torn tail, and
    /// cutting would lose it. Every offset is tried, because a damaged length no longer says where the next frame is.
    fn good_frame_follows(&self, segment: &Segment, position: Position, end: Position) -> Result<bool, LedgerError> {
        let length = usize::try_from(end - position).unwrap_or(usize::MAX);
        let mut tail = vec![0; length];
        let io = |error: std::io::Error| LedgerError::Damaged(format!("the last segment cannot be read: {error}"));
        segment.file.read_exact_at(&mut tail, segment.offset(position)).map_err(io)?;
        let is_good =
            |start: usize| tail.get(start..).is_some_and(|bytes| is_good_frame(bytes, position + start as Position, segment.seal));
        Ok((1..length).any(is_good))
    }
}

/// Whether `bytes` begin with a whole frame. The kind byte is looked at first: it spares nearly all checksums.
fn is_good_frame(bytes: &[u8], position: Position, seal: Seal) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return false };
    let (length, crc) = frame_head(head);
    let kind = rest.first().is_some_and(|kind| (1..=KIND_MAX).contains(kind));
    kind && length <= FRAME_BYTES_MAX
        && rest.get(..length).is_some_and(|payload| !payload.is_empty() && seal.checksum(position, payload) == crc)
}

#[cfg(test)]
mod faults;

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> (Journal, u64) {
        Journal::open(directory, || Ok("store".to_owned())).unwrap()
    }

    fn frames(journal: &Journal) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let visit = |_, payload: &[u8]| {
            all.push(payload.to_vec());
            Ok(())
        };
        journal.reader().scan(0, journal.end(), visit).unwrap();
        all
    }

    #[test]
    fn what_was_committed_is_there_after_reopening_and_what_was_not_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(directory.path());
        journal.append(b"one").unwrap();
        journal.commit().unwrap();
        journal.append(b"two").unwrap();
        drop(journal);
        assert_eq!(frames(&open(directory.path()).0), [b"one".to_vec()]);
    }

    #[test]
    fn a_torn_tail_is_cut_and_nothing_more() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(directory.path());
        for payload in [&b"one"[..], b"two", b"three"] {
            journal.append(payload).unwrap();
        }
        journal.commit().unwrap();
        let path = directory.path().join("0000000001.seg");
        let whole = std::fs::read(&path).unwrap();
        for length in 8..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (journal, _) = open(directory.path());
            let kept = frames(&journal);
            let expected = [11usize, 22, 35].iter().filter(|end| **end + 8 <= length).count();
            assert_eq!(kept.len(), expected, "cut at {length}");
        }
    }

    #[test]
    fn r_04_a_flipped_bit_in_the_middle_is_found_and_not_taken_for_a_tail() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(directory.path());
        journal.append(b"\x05one").unwrap();
        journal.append(b"\x05two").unwrap();
        journal.commit().unwrap();
        let path = directory.path().join("0000000001.seg");
        let whole = std::fs::read(&path).unwrap();
        // Any byte of the first frame: its length, its checksum, its payload.
        for at in 8..8 + 12 {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                std::fs::write(&path, bytes).unwrap();
                let opened = Journal::open(directory.path(), || Ok(String::new()));
                assert!(matches!(opened, Err(LedgerError::Damaged(_))), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_frame_that_a_stranger_wrote_into_a_record_is_never_taken_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(directory.path());
        journal.append(b"\x05one").unwrap();
        journal.commit().unwrap();
        // What somebody outside can make: a length, the checksum of a payload, an order of an operator.
        let inner = b"\x0can order";
        let forged = [&(inner.len() as u32).to_le_bytes()[..], &crc32c::crc32c(inner).to_le_bytes(), inner].concat();
        journal.append(&[b"\x05", &forged[..], b"more"].concat()).unwrap();
        journal.commit().unwrap();
        let path = directory.path().join("0000000001.seg");
        let whole = std::fs::read(&path).unwrap();
        // Torn behind the inner one: a tail, and cut; nothing is made of what stood in it.
        std::fs::write(&path, &whole[..whole.len() - 2]).unwrap();
        let (journal, cut) = open(directory.path());
        assert_eq!((frames(&journal), cut > 0), (vec![b"\x05one".to_vec()], true));
        drop(journal);
        let mut damaged = whole.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        std::fs::write(&path, [&damaged[..], &whole[8..20]].concat()).unwrap();
        let repaired = repair_journal(directory.path(), &[]).unwrap();
        let kept = frames(&open(directory.path()).0);
        assert!(kept.iter().all(|frame| frame != inner), "{repaired:?}: {kept:?}");
    }

    #[test]
    fn small_neighbours_are_joined_when_something_of_them_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(directory.path());
        let mut positions = Vec::new();
        for number in 0..20u8 {
            positions.push(journal.append(&[5, number, number]).unwrap());
            journal.commit().unwrap();
            journal.close_segment().unwrap();
        }
        let files =
            || std::fs::read_dir(directory.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count();
        assert_eq!(files(), 21);
        let written = journal.rewriting(&positions[3..4]).run(|at, _| Ok((at == positions[3]).then(|| b"\x05gone".to_vec()))).unwrap();
        let end = journal.end();
        journal.install(&written, end).unwrap();
        let expected: Vec<Vec<u8>> =
            (0..20u8).map(|number| if number == 3 { b"\x05gone".to_vec() } else { vec![5, number, number] }).collect();
        assert_eq!((files(), frames(&journal)), (2, expected.clone()));
        drop(journal);
        assert_eq!(frames(&open(directory.path()).0), expected);
    }

    #[test]
    fn r_05_an_older_binary_refuses_a_newer_ledger() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()));
        let path = directory.path().join("manifest");
        let text = std::fs::read_to_string(&path).unwrap().replace("format = 2", "format = 3");
        let text = text.split(MANIFEST_CRC).next().unwrap();
        std::fs::write(&path, text).unwrap();
        let error = Journal::open(directory.path(), || Ok(String::new())).err().unwrap().to_string();
        assert!(error.contains("newer huecry"), "{error}");
    }
}
