//! Rewriting: closed segments become sparse ones in which some frames are shorter, or gone.
//!
//! ```text
//! Journal::rewriting -> Rewriting::run (any thread: closed segments never change) -> Journal::install (manifest, swap, remove)
//! ```
//!
//! A crash before the manifest is written leaves the old segments, one after it the new ones, never a mixture; what is left over of
//! either is removed at the next start. Positions stay what they are.

use super::{
    Journal, LedgerError, Manifest, Position, Segment, at,
    segment::{Seal, SparseWriter},
};
use crate::ledger::Disk;
use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

/// Bytes that are rewritten in one round: as much has to be free beside them.
const ROUND_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Segments smaller than this part of a whole one are joined with their neighbours: each costs an open file.
const SMALL: u64 = 4;
/// So many small neighbours are joined although nothing of them goes.
const JOINED_MIN: usize = 16;

/// What is to be rewritten: a look at closed segments, which nobody changes meanwhile. Each group becomes one.
pub struct Rewriting {
    disk: Disk,
    directory: PathBuf,
    seal: Seal,
    groups: Vec<Vec<Closed>>,
}

struct Closed {
    file: String,
    segment: Segment,
    end: Position,
    length: u64,
}

/// Segments that were written aside and wait to be installed: where each begins and ends, and its name.
pub struct Rewritten {
    segments: Vec<(Position, Position, String)>,
    /// Bytes of the files before and after.
    pub before: u64,
    pub after: u64,
}

impl Rewritten {
    /// How many segments.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }
}

impl Rewriting {
    /// Whether a position is among what is rewritten in this round.
    pub fn covers(&self, position: Position) -> bool {
        self.groups.iter().flatten().any(|closed| (closed.segment.begins..closed.end).contains(&position))
    }

    /// Writes the segments anew. `change` says what becomes of a frame: `None` if it stays as it is. What fails, for want of room or
    /// whatever else, leaves everything as it was.
    pub fn run(self, change: impl Fn(Position, &[u8]) -> Result<Option<Vec<u8>>, LedgerError>) -> Result<Rewritten, LedgerError> {
        let mut done = Rewritten { segments: Vec::new(), before: 0, after: 0 };
        let outcome = self.write_groups(&mut done, &change);
        if outcome.is_err() {
            // They are in no manifest, so they are nothing yet; a start would remove them too.
            done.segments.iter().for_each(|(_, _, name)| drop(std::fs::remove_file(self.directory.join(name))));
        }
        outcome.map(|()| done)
    }

    fn write_groups(
        &self,
        done: &mut Rewritten,
        change: &impl Fn(Position, &[u8]) -> Result<Option<Vec<u8>>, LedgerError>,
    ) -> Result<(), LedgerError> {
        done.before = self.groups.iter().flatten().map(|closed| closed.length).sum();
        let free = nix::sys::statvfs::statvfs(&self.directory)
            .map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
        if free < done.before {
            return Err(LedgerError::DiskFull(self.directory.clone()));
        }
        for group in &self.groups {
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            let name = rewritten_name(&first.file);
            let path = self.directory.join(&name);
            done.segments.push((first.segment.begins, last.end, name));
            done.after += self.write(group, &path, change)?;
        }
        self.disk.sync_directory(&self.directory).map_err(at(&self.directory))
    }

    fn write(
        &self,
        group: &[Closed],
        path: &Path,
        change: &impl Fn(Position, &[u8]) -> Result<Option<Vec<u8>>, LedgerError>,
    ) -> Result<u64, LedgerError> {
        let mut writer = SparseWriter::create(&self.disk, path.to_owned(), self.seal).map_err(at(path))?;
        for closed in group {
            closed.segment.each(closed.segment.begins, closed.end, &mut |position, payload| {
                let changed = change(position, payload)?;
                writer.add(position, changed.as_deref().unwrap_or(payload)).map_err(at(path))
            })?;
        }
        writer.finish().map_err(at(path))
    }
}

impl Journal {
    /// Begins a new segment, so that what is committed by now can be rewritten.
    pub fn close_segment(&mut self) -> Result<(), LedgerError> {
        self.commit()?;
        let is_empty = self.reader.last().is_none_or(|last| last.begins == self.committed);
        if is_empty {
            return Ok(());
        }
        let outcome = self.roll();
        self.broken |= outcome.is_err();
        outcome
    }

    /// The closed segments that hold any of these positions, which rise; as many as one round takes. Small neighbours are joined to them.
    pub fn rewriting(&self, positions: &[Position]) -> Rewriting {
        let whole = self.manifest.segment_bytes.unwrap_or(super::SEGMENT_BYTES_MAX);
        let all = self.reader.segments();
        let holds =
            |begins: Position, end: Position| positions.get(positions.partition_point(|at| *at < begins)).is_some_and(|at| *at < end);
        let (mut groups, mut group, mut total): (Vec<Vec<Closed>>, Vec<Closed>, u64) = (Vec::new(), Vec::new(), 0);
        let is_worth_it = |group: &[Closed]| group.iter().any(|one| holds(one.segment.begins, one.end)) || group.len() >= JOINED_MIN;
        for ((segment, line), next) in all.iter().zip(&self.manifest.segments).zip(all.iter().skip(1)) {
            let length = segment.file.metadata().map_or(0, |metadata| metadata.len());
            let closed = Closed { file: line.file.clone(), segment: segment.clone(), end: next.begins, length };
            let belongs = holds(closed.segment.begins, closed.end) || length < whole / SMALL;
            let room = group.iter().map(|one| one.length).sum::<u64>() + length <= whole;
            if !(belongs && room) {
                groups.extend(Some(std::mem::take(&mut group)).filter(|group| is_worth_it(group)));
            }
            if belongs {
                group.push(closed);
            }
        }
        groups.extend(Some(group).filter(|group| is_worth_it(group)));
        groups.retain(|group| {
            let before = total;
            total += group.iter().map(|one| one.length).sum::<u64>();
            before == 0 || total <= ROUND_BYTES_MAX
        });
        Rewriting { disk: self.disk.clone(), directory: self.directory.clone(), seal: Seal::of(&self.manifest.store), groups }
    }

    /// Puts rewritten segments in the place of the old ones, whose files go. State and index that do not reach `begun`, where the journal
    /// ended when it was decided what goes, cannot be brought up by a replay any more, and are built anew.
    pub fn install(&mut self, rewritten: &Rewritten, begun: Position) -> Result<(), LedgerError> {
        if self.broken {
            return Err(LedgerError::Stopped);
        }
        let outcome = self.install_segments(rewritten, begun);
        self.broken |= outcome.is_err();
        outcome
    }

    fn install_segments(&mut self, rewritten: &Rewritten, begun: Position) -> Result<(), LedgerError> {
        let (mut manifest, mut segments, mut old) = (self.manifest.clone(), self.reader.segments(), Vec::new());
        for (begins, end, name) in &rewritten.segments {
            let path = self.directory.join(name);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
            let segment = Segment::of(file, *begins, &path, &manifest.store)?;
            old.extend(manifest.segments.iter().filter(|line| (*begins..*end).contains(&line.begins)).map(|line| line.file.clone()));
            manifest.segments.retain(|line| !(begins + 1..*end).contains(&line.begins));
            segments.retain(|one| !(begins + 1..*end).contains(&one.begins));
            manifest.segments.iter_mut().filter(|line| line.begins == *begins).for_each(|line| line.file.clone_from(name));
            segments.iter_mut().filter(|one| one.begins == *begins).for_each(|one| *one = segment.clone());
        }
        manifest.rewritten = begun.max(manifest.rewritten);
        manifest.write(&self.disk, &self.directory)?;
        self.manifest = manifest;
        self.reader.replace(segments);
        for name in old {
            let path = self.directory.join(name);
            self.disk.remove(&path).map_err(at(&path))?;
        }
        self.disk.sync_directory(&self.directory).map_err(at(&self.directory))
    }

    /// Up to where state and index must reach to be brought up by a replay.
    pub fn rewritten(&self) -> Position {
        self.manifest.rewritten
    }
}

/// Removes files that a manifest's segments have replaced, or that were to replace them and never did: all that it does not list up to the
/// last number that it does. One behind that was begun and not yet listed, or is another manifest's, and is left alone.
pub(super) fn remove_leftovers(manifest: &Manifest, directory: &Path) -> Result<(), LedgerError> {
    let listed: HashSet<&str> = manifest.segments.iter().map(|line| line.file.as_str()).collect();
    let last = manifest.segments.last().map_or(0, |line| super::segment_number(&line.file));
    for entry in std::fs::read_dir(directory).map_err(at(directory))?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(".seg")) else { continue };
        if !listed.contains(name) && (1..=last).contains(&super::segment_number(name)) {
            let path = directory.join(name);
            std::fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

/// The number in a segment's name: `0000000001` of `0000000001-2.seg`.
pub(super) fn stem_of(name: &str) -> &str {
    let stem = name.trim_end_matches(".seg");
    stem.split_once('-').map_or(stem, |(number, _)| number)
}

/// `0000000001.seg`, `0000000001-1.seg`, `0000000001-2.seg`, ...
pub(super) fn rewritten_name(name: &str) -> String {
    let times = name.trim_end_matches(".seg").split_once('-').and_then(|(_, times)| times.parse::<u64>().ok());
    format!("{}-{}.seg", stem_of(name), times.unwrap_or(0) + 1)
}
