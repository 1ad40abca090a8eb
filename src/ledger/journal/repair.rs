//! Repair: a journal whose files are damaged becomes one that holds every frame that is whole, and says what it lacks.
//!
//! ```text
//! damaged segment -every frame that is whole-> sparse segment, with what a copy of the same store has of the rest
//!                 '-as it is-> damaged/, until the next compaction
//! ```
//!
//! What is lost is never guessed. Feeds come again from peers; what people decided does not, unless a backup has it.

use super::{
    FRAME_BYTES_MAX, Journal, JournalReader, KIND_MAX, LedgerError, Manifest, Position, Segment, at,
    rewrite::rewritten_name,
    segment::{self, DENSE, DENSE_1, FRAME_HEAD_BYTES, MAGIC_BYTES, POSITION_BYTES, SPARSE, Seal, SparseWriter, frame_head},
};
use crate::ledger::Disk;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

/// Where damaged segments go, in the journal's directory.
pub const DAMAGED: &str = "damaged";

/// What was found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Repaired {
    /// Segments that were damaged.
    pub segments: usize,
    /// Entries that a copy had.
    pub recovered: usize,
    /// Stretches of the journal that are lost, from and to; of a segment whose table is lost too, only that there is one.
    pub lost: Vec<(Position, Position)>,
}

/// What is whole in one segment.
struct Salvaged {
    frames: BTreeMap<Position, Vec<u8>>,
    lost: Vec<(Position, Position)>,
    /// The file itself has to be written anew, whether anything is lost or not.
    damaged: bool,
    /// Where the last whole frame ends; of a sparse segment nobody asks.
    end: Position,
}

/// Repairs the journal in `directory`, which nobody may have open. `copies` are directories of backups; those of other stores are not
/// looked at.
pub fn repair_journal(directory: &Path, copies: &[PathBuf]) -> Result<Repaired, LedgerError> {
    let disk = Disk::default();
    let mut manifest = Manifest::read(directory)?.ok_or_else(|| LedgerError::NoBackup(directory.to_owned()))?;
    let copies: Vec<JournalReader> = copies.iter().filter_map(|copy| copy_of(copy, &manifest.store)).collect();
    let (mut repaired, mut damaged, last) = (Repaired::default(), Vec::new(), manifest.segments.len().saturating_sub(1));
    let (store, seal) = (manifest.store.clone(), Seal::of(&manifest.store));
    let begins: Vec<Position> = manifest.segments.iter().map(|line| line.begins).collect();
    let mut end = None;
    for (number, line) in manifest.segments.iter_mut().enumerate() {
        let path = directory.join(&line.file);
        let next = begins.get(number + 1).copied();
        let mut salvaged = salvage(&path, &store, line.begins, next)?;
        end = Some(salvaged.end);
        if salvaged.lost.is_empty() && !salvaged.damaged && (number < last || segment::is_dense(&path).unwrap_or(false)) {
            continue;
        }
        repaired.segments += 1;
        salvaged.lost.retain(|(from, to)| {
            let (had, whole) = recovered(&copies, *from, *to);
            repaired.recovered += had.len();
            salvaged.frames.extend(had);
            !whole
        });
        repaired.lost.extend(salvaged.lost);
        let name = rewritten_name(&line.file);
        let new = directory.join(&name);
        let mut writer = SparseWriter::create(&disk, new.clone(), seal).map_err(at(&new))?;
        for (position, payload) in &salvaged.frames {
            writer.add(*position, payload).map_err(at(&new))?;
        }
        writer.finish().map_err(at(&new))?;
        damaged.push(std::mem::replace(&mut line.file, name));
        end = Some(next.unwrap_or_else(|| behind_all(&salvaged.frames, salvaged.end)));
    }
    if damaged.is_empty() {
        return Ok(repaired);
    }
    let end = end.unwrap_or_default();
    let grows = manifest.segments.last().is_some_and(|line| segment::is_dense(&directory.join(&line.file)).unwrap_or(false));
    if !grows {
        let number = manifest.segments.last().map_or(0, |line| super::segment_number(&line.file)) + 1;
        manifest.segments.push(Journal::create_segment(&disk, directory, number, end)?);
    }
    manifest.rewritten = end;
    let aside = directory.join(DAMAGED);
    std::fs::create_dir_all(&aside).map_err(at(&aside))?;
    // A second name first, so that the damaged file is there whatever happens.
    for name in &damaged {
        let _it_may_be_missing_or_there_from_before = std::fs::hard_link(directory.join(name), aside.join(name));
    }
    disk.sync_directory(directory).map_err(at(directory))?;
    manifest.write(&disk, directory)?;
    for name in &damaged {
        let _it_may_be_missing = std::fs::remove_file(directory.join(name));
    }
    Ok(repaired)
}

/// Behind the last frame that is here, if that is further than what could be read of the file.
fn behind_all(frames: &BTreeMap<Position, Vec<u8>>, end: Position) -> Position {
    let last = frames.last_key_value().map(|(position, payload)| position + (FRAME_HEAD_BYTES + payload.len()) as Position);
    last.map_or(end, |last| last.max(end))
}

/// Every frame of a segment that is whole, wherever it stands.
fn salvage(path: &Path, store: &str, begins: Position, next: Option<Position>) -> Result<Salvaged, LedgerError> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(LedgerError::io(path, error)),
        read => read.unwrap_or_default(),
    };
    let body = bytes.get(MAGIC_BYTES as usize..).unwrap_or_default();
    // A first byte that flipped does not make a dense segment a sparse one: whichever gives more is it.
    // Without the store's seal only where the file says that it is of format 1: what a stranger wrote into a record is no frame.
    let seal = Seal::of(store);
    let is_old = bytes.starts_with(DENSE_1);
    let (dense, sparse) = (dense_frames(body, begins, if is_old { Seal::Plain } else { seal }), sparse_frames(body, seal));
    let is_dense = dense.len() > sparse.len() || (dense.is_empty() && bytes.starts_with(DENSE));
    let damaged = !bytes.starts_with(if is_old {
        DENSE_1
    } else if is_dense {
        DENSE
    } else {
        SPARSE
    });
    let mut salvaged = Salvaged { frames: BTreeMap::new(), lost: Vec::new(), damaged, end: begins };
    if is_dense {
        for (position, payload) in dense {
            if position > salvaged.end {
                salvaged.lost.push((salvaged.end, position));
            }
            salvaged.end = position + (FRAME_HEAD_BYTES + payload.len()) as Position;
            salvaged.frames.insert(position, payload.to_vec());
        }
        // Of a closed segment the end is known; of the last one what follows was never acknowledged.
        if let Some(next) = next.filter(|next| salvaged.end < *next) {
            salvaged.lost.push((salvaged.end, next));
        }
        return Ok(salvaged);
    }
    salvaged.frames = sparse.into_iter().map(|(position, payload)| (position, payload.to_vec())).collect();
    match std::fs::File::open(path).ok().and_then(|file| Segment::of(file, begins, path, store).ok()).map(|segment| segment.positions()) {
        Some(Ok(positions)) if !positions.is_empty() => {
            let missing = positions.iter().filter(|position| !salvaged.frames.contains_key(position));
            salvaged.lost.extend(missing.map(|position| (*position, position + 1)));
        }
        _ => salvaged.lost.push((begins, next.unwrap_or(begins))),
    }
    Ok(salvaged)
}

/// Frames of a dense segment: where one is damaged, every offset behind it is tried.
fn dense_frames(body: &[u8], begins: Position, seal: Seal) -> Vec<(Position, &[u8])> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while let Some(rest) = body.get(offset..).filter(|rest| rest.len() > FRAME_HEAD_BYTES) {
        let position = begins + offset as Position;
        match whole_frame(rest, 0, position, seal) {
            Some(payload) => {
                found.push((position, payload));
                offset += FRAME_HEAD_BYTES + payload.len();
            }
            None => offset += 1,
        }
    }
    found
}

/// The same of a sparse one, whose frames say their positions.
fn sparse_frames(body: &[u8], seal: Seal) -> Vec<(Position, &[u8])> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while let Some(rest) = body.get(offset..).filter(|rest| rest.len() > FRAME_HEAD_BYTES + POSITION_BYTES) {
        let named = rest.get(FRAME_HEAD_BYTES..).and_then(|rest| rest.first_chunk::<POSITION_BYTES>());
        let position = named.map_or(0, |named| Position::from_le_bytes(*named));
        match whole_frame(rest, POSITION_BYTES, position, seal) {
            Some(payload) => {
                found.push((position, payload));
                offset += FRAME_HEAD_BYTES + POSITION_BYTES + payload.len();
            }
            None => offset += 1,
        }
    }
    found
}

/// The payload of a frame that begins here and is whole; `named` bytes of it say its position. The kind is looked at before the checksum,
/// which spares nearly all of them.
fn whole_frame(bytes: &[u8], named: usize, position: Position, seal: Seal) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>()?;
    let (length, crc) = frame_head(head);
    let covered = rest.get(..named + length).filter(|_| (1..=FRAME_BYTES_MAX).contains(&length))?;
    let payload = covered.get(named..)?;
    let known = payload.first().is_some_and(|kind| (1..=KIND_MAX).contains(kind));
    (known && seal.checksum(position, payload) == crc).then_some(payload)
}

/// What copies have of a stretch, and whether that is all of it.
fn recovered(copies: &[JournalReader], from: Position, to: Position) -> (BTreeMap<Position, Vec<u8>>, bool) {
    let mut had = BTreeMap::new();
    for copy in copies {
        let mut reached = from;
        // What a copy does not have, or has damaged, ends it; the next one may have more.
        let _until_then = copy.scan(from, to, |position, payload| {
            reached = position + (FRAME_HEAD_BYTES + payload.len()) as Position;
            had.insert(position, payload.to_vec());
            Ok(())
        });
        if reached >= to && from < to {
            return (had, true);
        }
    }
    // Of what was rewritten one position is one frame.
    let whole = to == from + 1 && had.contains_key(&from);
    (had, whole)
}

/// A reader of a copy, if it is one of this store.
fn copy_of(directory: &Path, store: &str) -> Option<JournalReader> {
    let manifest = Manifest::read(directory).ok()??;
    if manifest.store != store {
        return None;
    }
    let open = |line: &super::SegmentLine| {
        let path = directory.join(&line.file);
        Segment::of(std::fs::File::open(&path).ok()?, line.begins, &path, store).ok()
    };
    let segments = manifest.segments.iter().map(open).collect::<Option<Vec<Segment>>>()?;
    Some(JournalReader { segments: Arc::new(RwLock::new(segments)) })
}
