//! Rewriting: closed segments become sparse ones in which some frames are shorter, or gone.
//!
//! ```text
//! Journal::rewriting -> Rewriting::run (any thread: closed segments never change) -> Journal::install (manifest, swap, remove)
//! ```
//!
//! A crash before the manifest is written leaves the old segments, one after it the new ones, never a mixture; what is left over of
//! either is removed at the next start. Positions stay what they are.

use super::{Journal, LedgerError, Manifest, Position, Segment, at, segment::SparseWriter};
use crate::ledger::Disk;
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

/// What is to be rewritten: a look at closed segments, which nobody changes meanwhile.
pub struct Rewriting {
    disk: Disk,
    directory: PathBuf,
    segments: Vec<Closed>,
}

struct Closed {
    file: String,
    segment: Segment,
    end: Position,
}

/// Segments that were written aside and wait to be installed.
pub struct Rewritten {
    segments: Vec<(Position, String)>,
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
    /// Writes the segments anew. `change` says what becomes of a frame: `None` if it stays as it is. What fails leaves everything as it
    /// was.
    pub fn run(self, change: impl Fn(Position, &[u8]) -> Result<Option<Vec<u8>>, LedgerError>) -> Result<Rewritten, LedgerError> {
        let mut done = Rewritten { segments: Vec::new(), before: 0, after: 0 };
        for closed in &self.segments {
            let name = rewritten_name(&closed.file);
            let path = self.directory.join(&name);
            let length = self.write(closed, &path, &change);
            // It is in no manifest, so it is nothing yet; a start would remove it too.
            let length = length.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
            done.before += closed.segment.file.metadata().map_or(0, |metadata| metadata.len());
            done.after += length;
            done.segments.push((closed.segment.begins, name));
        }
        self.disk.sync_directory(&self.directory).map_err(at(&self.directory))?;
        Ok(done)
    }

    fn write(
        &self,
        closed: &Closed,
        path: &Path,
        change: &impl Fn(Position, &[u8]) -> Result<Option<Vec<u8>>, LedgerError>,
    ) -> Result<u64, LedgerError> {
        let mut writer = SparseWriter::create(&self.disk, path.to_owned()).map_err(at(path))?;
        closed.segment.each(closed.segment.begins, closed.end, &mut |position, payload| {
            let changed = change(position, payload)?;
            writer.add(position, changed.as_deref().unwrap_or(payload)).map_err(at(path))
        })?;
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

    /// The closed segments that hold any of these positions, which rise.
    pub fn rewriting(&self, positions: &[Position]) -> Rewriting {
        let all = self.reader.segments();
        let closed = all.iter().zip(&self.manifest.segments).zip(all.iter().skip(1));
        let holds =
            |begins: Position, end: Position| positions.get(positions.partition_point(|at| *at < begins)).is_some_and(|at| *at < end);
        let segments = closed
            .filter(|((segment, _), next)| holds(segment.begins, next.begins))
            .map(|((segment, line), next)| Closed { file: line.file.clone(), segment: segment.clone(), end: next.begins })
            .collect();
        Rewriting { disk: self.disk.clone(), directory: self.directory.clone(), segments }
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
        let (mut manifest, mut old, mut new) = (self.manifest.clone(), Vec::new(), Vec::new());
        for (begins, name) in &rewritten.segments {
            let path = self.directory.join(name);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
            let segment = Segment::of(file, *begins, &path)?;
            if let Some((index, line)) = manifest.segments.iter_mut().enumerate().find(|(_, line)| line.begins == *begins) {
                old.push(std::mem::replace(&mut line.file, name.clone()));
                new.push((index, segment));
            }
        }
        manifest.rewritten = begun;
        manifest.write(&self.disk, &self.directory)?;
        self.manifest = manifest;
        for (index, segment) in new {
            self.reader.replace(index, segment);
        }
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

/// Removes files that a manifest's segments have replaced, or that were to replace them and never did. Others are left alone.
pub(super) fn remove_leftovers(manifest: &Manifest, directory: &Path) -> Result<(), LedgerError> {
    let listed: HashMap<&str, &str> = manifest.segments.iter().map(|line| (stem_of(&line.file), line.file.as_str())).collect();
    for entry in std::fs::read_dir(directory).map_err(at(directory))?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(".seg")) else { continue };
        if listed.get(stem_of(name)).is_some_and(|listed| *listed != name) {
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
