//! Backup and restore: the journal is all that has to be kept, since everything else follows from it.

use super::{
    ErasedBy, ErasedPlaces, ErasureEntry, Ledger, LedgerError, Recovery, Repaired, Writer, copy_journal, lock, repair_journal, start_anew,
};
use crate::record::Timestamp;
use std::path::{Path, PathBuf};

/// What a backup did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct BackedUp {
    /// Files and bytes that were copied; what was there from the last time was left.
    pub files: u64,
    pub bytes: u64,
    /// Files whose content was rewritten since, and that were removed.
    #[serde(default)]
    pub removed: u64,
}

/// Erases what was erased before, in what came from a copy, before anybody can ask for it.
fn keep_out(writer: &mut Writer, stays_out: &[ErasedPlaces], now: Timestamp) -> Result<(), LedgerError> {
    if stays_out.is_empty() {
        return Ok(());
    }
    let text = "erased before this ledger was restored or repaired".to_owned();
    let entry = ErasureEntry { at: now, by: None, because: ErasedBy::Order, text, places: stays_out.to_vec(), decisions: Vec::new() };
    writer.erase(&entry)?;
    if writer.begin_compaction()? {
        writer.end_compaction()?;
    }
    Ok(())
}

/// Batches of a feed that are not here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hole {
    pub feed: String,
    pub first: u64,
    pub last: u64,
}

impl Ledger {
    /// Copies what the last backup into `directory` did not have; at any time, while everything goes on. What is acknowledged before it
    /// begins is in it. A segment is copied byte by byte where `directory` is on another disk, and linked where it is on this one.
    pub fn backup(&self, directory: &Path) -> Result<BackedUp, LedgerError> {
        let copied = self.copy_journal(directory, None)?;
        let bytes = copied.files.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len()).sum();
        Ok(BackedUp { files: copied.files.len() as u64, bytes, removed: copied.removed as u64 })
    }

    /// Makes a ledger in `directory` of a backup; there must be none. State and index are built. What `stays_out` is erased before anybody
    /// can ask for it, also if the backup is older than its erasure.
    pub fn restore(backup: &Path, directory: &Path, stays_out: &[ErasedPlaces], now: Timestamp) -> Result<Recovery, LedgerError> {
        let journal = directory.join("journal");
        if journal.exists() {
            return Err(LedgerError::Exists(directory.to_owned()));
        }
        let manifest = backup.join("manifest");
        if !manifest.is_file() {
            return Err(LedgerError::NoBackup(backup.to_owned()));
        }
        std::fs::create_dir_all(&journal).map_err(|error| LedgerError::io(&journal, error))?;
        copy_journal(backup, &journal, None)?;
        let (ledger, mut writer, recovery) = Self::open(directory)?;
        keep_out(&mut writer, stays_out, now)?;
        writer.close()?;
        drop(ledger);
        Ok(recovery)
    }

    /// Repairs a ledger whose journal is damaged, and builds state and index anew. What is lost of feeds comes again from peers. Nobody may
    /// have it open. `copies` are backups of it.
    pub fn repair(
        directory: &Path,
        copies: &[PathBuf],
        stays_out: &[ErasedPlaces],
        now: Timestamp,
    ) -> Result<(Repaired, Vec<Hole>), LedgerError> {
        let repaired = {
            let _alone = lock(directory)?;
            repair_journal(&directory.join("journal"), copies)?
        };
        Self::rebuild(directory)?;
        let (ledger, mut writer, _) = Self::open(directory)?;
        keep_out(&mut writer, stays_out, now)?;
        let holes = ledger.feeds().into_iter().flat_map(|(feed, state)| {
            let intervals = state.spans.intervals().to_vec();
            let starts = std::iter::once(1).chain(intervals.iter().map(|(_, last)| last + 1));
            let gaps: Vec<(u64, u64)> = starts.zip(intervals.iter().map(|(first, _)| *first)).filter(|(from, next)| from < next).collect();
            gaps.into_iter().map(move |(from, next)| Hole { feed: feed.to_string(), first: from, last: next - 1 })
        });
        let holes = holes.collect();
        writer.close()?;
        Ok((repaired, holes))
    }

    /// Removes state and index and builds them from the journal. Nobody may have the ledger open.
    pub fn rebuild(directory: &Path) -> Result<Recovery, LedgerError> {
        if !directory.join("journal").exists() {
            return Err(LedgerError::Damaged(format!("{} has no journal", directory.display())));
        }
        {
            let _alone = lock(directory)?;
            start_anew(&directory.join("state"))?;
            start_anew(&directory.join("index"))?;
        }
        let (ledger, writer, recovery) = Self::open(directory)?;
        writer.close()?;
        drop(ledger);
        Ok(recovery)
    }
}
