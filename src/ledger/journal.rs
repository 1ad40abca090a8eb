//! The journal: append-only segments, and a manifest that lists them. The truth.
//!
//! ```text
//! journal/manifest            store id, segments with the position each begins at (written aside, synced, renamed)
//! journal/0000000001.seg      magic, then frames: length u32, CRC32C u32, payload (little-endian)
//! ```
//!
//! A position counts payload and frame bytes from the ledger's first day; segments may go, positions never change meaning.
//! Promise: what [`Journal::commit`] has returned for is on the disk. A torn tail is cut when the journal is opened, and
//! only that: a frame that is damaged with a good frame anywhere behind it is an error, not a tail. After a failed write or sync
//! nothing more is appended, because the kernel may have dropped what it could not write.

use super::{Disk, LedgerError};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

/// Length at which a segment is closed and the next begun: large enough to be few, small enough to be rewritten.
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Longest frame: a charter of 1 MiB with room. Also bounds what a damaged length can make us read.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Version of the files in this directory; an older huecry refuses a higher one.
pub const LEDGER_FORMAT: u32 = 1;

/// Highest kind that an entry's first byte may have, now or in a later format.
pub const KIND_MAX: u8 = 31;

const MAGIC: &[u8; 8] = b"huecryJ1";
const FRAME_HEAD_BYTES: usize = 8;

/// A place in the journal.
pub type Position = u64;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    store: String,
    /// Length at which a segment is closed, if it is another than [`SEGMENT_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u64>,
    segments: Vec<SegmentLine>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SegmentLine {
    file: String,
    begins: Position,
}

#[derive(Clone)]
struct Segment {
    begins: Position,
    file: Arc<File>,
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
    fn write(&self, disk: &Disk, directory: &Path) -> Result<(), LedgerError> {
        let (aside, path) = (directory.join("manifest.new"), directory.join("manifest"));
        let text = toml::to_string(self).map_err(|error| LedgerError::Damaged(format!("manifest cannot be written: {error}")))?;
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
        let path = directory.join("manifest");
        let manifest = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str::<Manifest>(&text).map_err(|error| LedgerError::Damaged(format!("{}: {error}", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(&disk, directory, new_store_id()?)?,
            Err(error) => return Err(LedgerError::io(&path, error)),
        };
        if manifest.format > LEDGER_FORMAT {
            return Err(LedgerError::Newer { found: manifest.format, ours: LEDGER_FORMAT });
        }
        let mut segments = Vec::new();
        for line in &manifest.segments {
            let path = directory.join(&line.file);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
            segments.push(Segment { begins: line.begins, file: Arc::new(file) });
        }
        let last = segments.last().cloned().ok_or_else(|| LedgerError::Damaged("the manifest lists no segment".to_owned()))?;
        let reader = JournalReader { segments: Arc::new(RwLock::new(segments)) };
        let last_path = manifest.segments.last().map_or_else(|| directory.to_owned(), |line| directory.join(&line.file));
        let (end, cut) = reader.cut_tail(&disk, &last, &last_path)?;
        let journal =
            Self { disk, directory: directory.to_owned(), manifest, reader, end, committed: end, pending: Vec::new(), broken: false };
        Ok((journal, cut))
    }

    fn create(disk: &Disk, directory: &Path, store: String) -> Result<Manifest, LedgerError> {
        let manifest =
            Manifest { format: LEDGER_FORMAT, store, segment_bytes: None, segments: vec![Self::create_segment(disk, directory, 1, 0)?] };
        manifest.write(disk, directory)?;
        Ok(manifest)
    }

    fn create_segment(disk: &Disk, directory: &Path, number: usize, begins: Position) -> Result<SegmentLine, LedgerError> {
        let name = format!("{number:010}.seg");
        let path = directory.join(&name);
        let file = disk.create(&path).map_err(at(&path))?;
        disk.write(&file, &path, 0, MAGIC).and_then(|()| disk.sync(&file, &path)).map_err(at(&path))?;
        disk.sync_directory(directory).map_err(at(directory))?;
        Ok(SegmentLine { file: name, begins })
    }

    /// Which store this is; the derived stores carry the same id.
    pub fn store_id(&self) -> &str {
        &self.manifest.store
    }

    /// Where the next frame will stand.
    pub fn end(&self) -> Position {
        self.end
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
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.pending.extend_from_slice(&length.to_le_bytes());
        self.pending.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        self.pending.extend_from_slice(payload);
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
        let offset = offset_in(&last, self.committed);
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
        let line = Self::create_segment(&self.disk, &self.directory, self.manifest.segments.len() + 1, self.committed)?;
        let path = self.directory.join(&line.file);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
        self.manifest.segments.push(line);
        self.manifest.write(&self.disk, &self.directory)?;
        self.reader.push(Segment { begins: self.committed, file: Arc::new(file) });
        Ok(())
    }
}

impl Journal {
    /// Replaces committed frames by others of the same length, segment by segment: a new file aside, synced, then the
    /// manifest, then the old file goes. A crash leaves the old segment or the new one, never a mixture.
    pub fn rewrite(&mut self, frames: &BTreeMap<Position, Vec<u8>>) -> Result<(), LedgerError> {
        self.commit()?;
        let outcome = self.rewrite_committed(frames);
        self.broken |= outcome.is_err();
        outcome
    }

    fn rewrite_committed(&mut self, frames: &BTreeMap<Position, Vec<u8>>) -> Result<(), LedgerError> {
        let segments = self.reader.segments();
        for (index, segment) in segments.iter().enumerate() {
            let end = segments.get(index + 1).map_or(self.committed, |next| next.begins);
            let within: Vec<_> = frames.range(segment.begins..end).collect();
            let Some(line) = self.manifest.segments.get(index).filter(|_| !within.is_empty()).cloned() else { continue };
            let name = rewritten_name(&line.file);
            let (old, new) = (self.directory.join(&line.file), self.directory.join(&name));
            let file = self.disk.copy(&old, &new).map_err(at(&new))?;
            for (position, payload) in within {
                let length = self.reader.read(*position)?.len();
                if length != payload.len() {
                    return Err(LedgerError::Damaged(format!("a frame of {length} bytes cannot become one of {}", payload.len())));
                }
                let head = [u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes(), crc32c::crc32c(payload).to_le_bytes()].concat();
                let frame = [&head[..], payload].concat();
                self.disk.write(&file, &new, offset_in(segment, *position), &frame).map_err(at(&new))?;
            }
            self.disk.sync(&file, &new).map_err(at(&new))?;
            self.disk.sync_directory(&self.directory).map_err(at(&self.directory))?;
            if let Some(line) = self.manifest.segments.get_mut(index) {
                line.file = name;
            }
            self.manifest.write(&self.disk, &self.directory)?;
            self.reader.replace(index, Segment { begins: segment.begins, file: Arc::new(file) });
            self.disk.remove(&old).map_err(at(&old))?;
        }
        Ok(())
    }
}

/// Copies the journal in `from` into `to`, up to a position or as far as it goes: segments that are closed by a hard link where the
/// file system can, the last one byte by byte. What is there already under the same name and as long is left, since a closed segment
/// never changes under its name. The manifest comes last, so that a copy that was cut off is not taken for one. Answers what was copied.
pub fn copy_journal(from: &Path, to: &Path, up_to: Option<Position>) -> Result<Vec<PathBuf>, LedgerError> {
    let path = from.join("manifest");
    let text = std::fs::read_to_string(&path).map_err(at(&path))?;
    let mut manifest: Manifest = toml::from_str(&text).map_err(|error| LedgerError::Damaged(format!("{}: {error}", path.display())))?;
    manifest.segments.retain(|line| up_to.is_none_or(|up_to| line.begins == 0 || line.begins < up_to));
    let mut copied = Vec::new();
    let last = manifest.segments.len().saturating_sub(1);
    for (number, line) in manifest.segments.iter().enumerate() {
        let (old, new) = (from.join(&line.file), to.join(&line.file));
        let length = std::fs::metadata(&old).map_err(at(&old))?.len();
        if number < last {
            if std::fs::metadata(&new).is_ok_and(|there| there.len() == length) {
                continue;
            }
            if std::fs::hard_link(&old, &new).is_err() {
                std::fs::copy(&old, &new).map_err(at(&new))?;
                File::open(&new).and_then(|file| file.sync_all()).map_err(at(&new))?;
            }
        } else {
            let wanted = up_to.map_or(length, |up_to| (up_to - line.begins + MAGIC.len() as u64).min(length));
            let (mut reader, mut file) = (File::open(&old).map_err(at(&old))?.take(wanted), File::create(&new).map_err(at(&new))?);
            std::io::copy(&mut reader, &mut file).and_then(|_| file.sync_all()).map_err(at(&new))?;
        }
        copied.push(new);
    }
    manifest.write(&Disk::default(), to)?;
    Ok(copied)
}

/// `0000000001.seg`, `0000000001-1.seg`, `0000000001-2.seg`, ...
fn rewritten_name(name: &str) -> String {
    let stem = name.trim_end_matches(".seg");
    match stem.split_once('-') {
        Some((number, times)) => format!("{number}-{}.seg", times.parse::<u64>().unwrap_or(0) + 1),
        None => format!("{stem}-1.seg"),
    }
}

fn offset_in(segment: &Segment, position: Position) -> u64 {
    position - segment.begins + MAGIC.len() as u64
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

    fn replace(&self, index: usize, segment: Segment) {
        if let Ok(mut segments) = self.segments.write()
            && let Some(old) = segments.get_mut(index)
        {
            *old = segment;
        }
    }

    fn push(&self, segment: Segment) {
        if let Ok(mut segments) = self.segments.write() {
            segments.push(segment);
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
        let offset = offset_in(&segment, position);
        let mut head = [0; FRAME_HEAD_BYTES];
        segment.file.read_exact_at(&mut head, offset).map_err(|_| damaged("it is past the end"))?;
        let (length, crc) = frame_head(&head);
        if length > FRAME_BYTES_MAX {
            return Err(damaged("its length is impossible"));
        }
        let mut payload = vec![0; length];
        segment.file.read_exact_at(&mut payload, offset + FRAME_HEAD_BYTES as u64).map_err(|_| damaged("it ends early"))?;
        if crc32c::crc32c(&payload) == crc { Ok(payload) } else { Err(damaged("its checksum is wrong")) }
    }

    /// Visits every frame from `from` up to `end`, in order.
    pub fn scan(
        &self,
        from: Position,
        end: Position,
        mut visit: impl FnMut(Position, &[u8]) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut position = from;
        while position < end {
            let payload = self.read(position)?;
            visit(position, &payload)?;
            position += (FRAME_HEAD_BYTES + payload.len()) as u64;
        }
        Ok(())
    }

    /// Finds where the last segment's good frames end, and cuts what is behind if it is a torn tail.
    fn cut_tail(&self, disk: &Disk, last: &Segment, path: &Path) -> Result<(Position, u64), LedgerError> {
        let io = |error: std::io::Error| LedgerError::Damaged(format!("the last segment cannot be read: {error}"));
        let mut file = last.file.try_clone().map_err(io)?;
        let length = file.seek(SeekFrom::End(0)).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Err(LedgerError::Damaged("a segment does not begin as a segment of ours".to_owned()));
        }
        let file_end = last.begins + length - MAGIC.len() as u64;
        let mut position = last.begins;
        while position < file_end {
            match self.read(position) {
                Ok(payload) => position += (FRAME_HEAD_BYTES + payload.len()) as u64,
                Err(error) if self.good_frame_follows(last, position, file_end)? => return Err(error),
                Err(_) => break,
            }
        }
        let cut = file_end - position;
        if cut > 0 {
            disk.cut(&last.file, path, offset_in(last, position)).and_then(|()| disk.sync(&last.file, path)).map_err(at(path))?;
        }
        Ok((position, cut))
    }

    /// Whether any good frame stands behind a bad one: then this is damage to what was acknowledged, not a torn tail, and
    /// cutting would lose it. Every offset is tried, because a damaged length no longer says where the next frame is.
    fn good_frame_follows(&self, segment: &Segment, position: Position, end: Position) -> Result<bool, LedgerError> {
        let length = usize::try_from(end - position).unwrap_or(usize::MAX);
        let mut tail = vec![0; length];
        let io = |error: std::io::Error| LedgerError::Damaged(format!("the last segment cannot be read: {error}"));
        segment.file.read_exact_at(&mut tail, offset_in(segment, position)).map_err(io)?;
        Ok((1..length).any(|start| tail.get(start..).is_some_and(is_good_frame)))
    }
}

/// Whether `bytes` begin with a whole frame. The kind byte is looked at first: it spares nearly all checksums.
fn is_good_frame(bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return false };
    let (length, crc) = frame_head(head);
    let kind = rest.first().is_some_and(|kind| (1..=KIND_MAX).contains(kind));
    kind && length <= FRAME_BYTES_MAX && rest.get(..length).is_some_and(|payload| !payload.is_empty() && crc32c::crc32c(payload) == crc)
}

fn frame_head(head: &[u8; FRAME_HEAD_BYTES]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h] = *head;
    (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]))
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
    fn r_05_an_older_binary_refuses_a_newer_ledger() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()));
        let path = directory.path().join("manifest");
        let text = std::fs::read_to_string(&path).unwrap().replace("format = 1", "format = 2");
        std::fs::write(&path, text).unwrap();
        let error = Journal::open(directory.path(), || Ok(String::new())).err().unwrap().to_string();
        assert!(error.contains("newer huecry"), "{error}");
    }
}
