//! Copies of the journal: backups, and what `verify` builds its second ledger from.

use super::{Disk, LedgerError, Manifest, Position, SegmentLine, at, rewrite::remove_leftovers, segment};
use std::{
    collections::HashSet,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// How often a copy begins again because segments were rewritten under it.
const ATTEMPTS_MAX: usize = 5;

/// What was copied.
#[derive(Debug, Default)]
pub struct Copied {
    /// Files that were not there before.
    pub files: Vec<PathBuf>,
    /// Files that are part of the journal no more, and were removed.
    pub removed: usize,
    /// Where the original had ended when its segments were rewritten last.
    pub rewritten: Position,
}

/// Copies the journal in `from` into `to`, up to a position or as far as it goes: closed segments by a hard link where the file system
/// can, the one that grows byte by byte. What is there already under the same name and as long is left, since a closed segment never
/// changes under its name; what the journal has no more is removed, so that what was erased is gone from the copy too. The manifest comes
/// before the removals and after everything else, so that a copy that was cut off is not taken for one.
pub fn copy_journal(from: &Path, to: &Path, up_to: Option<Position>) -> Result<Copied, LedgerError> {
    if let Some(there) = Manifest::read(to)?
        && Manifest::read(from)?.is_some_and(|ours| ours.store != there.store)
    {
        return Err(LedgerError::OtherBackup(to.to_owned()));
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        match copy_once(from, to, up_to) {
            // A segment of the manifest that was read has been replaced meanwhile.
            Err(LedgerError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound && attempt < ATTEMPTS_MAX => (),
            outcome => return outcome,
        }
    }
}

fn copy_once(from: &Path, to: &Path, up_to: Option<Position>) -> Result<Copied, LedgerError> {
    let path = from.join("manifest");
    let mut manifest = Manifest::read(from)?.ok_or_else(|| LedgerError::NoBackup(from.to_owned()))?;
    manifest.segments.retain(|line| up_to.is_none_or(|up_to| line.begins == 0 || line.begins < up_to));
    let mut copied = Copied { rewritten: manifest.rewritten, ..Copied::default() };
    let last = manifest.segments.last().cloned().ok_or_else(|| LedgerError::Damaged(format!("{} lists no segment", path.display())))?;
    let grows = segment::is_dense(&from.join(&last.file)).map_err(at(&path))?;
    for line in manifest.segments.iter().filter(|line| !grows || line.begins != last.begins) {
        let (old, new) = (from.join(&line.file), to.join(&line.file));
        let length = std::fs::metadata(&old).map_err(at(&old))?.len();
        if std::fs::metadata(&new).is_ok_and(|there| there.len() == length) {
            continue;
        }
        if std::fs::hard_link(&old, &new).is_err() {
            std::fs::copy(&old, &new).map_err(at(&old))?;
            File::open(&new).and_then(|file| file.sync_all()).map_err(at(&new))?;
        }
        copied.files.push(new);
    }
    if grows {
        let (old, new) = (from.join(&last.file), to.join(&last.file));
        let length = up_to.map_or(u64::MAX, |up_to| up_to - last.begins + segment::MAGIC_BYTES);
        // Aside first: a copy that is cut off leaves the one before.
        let aside = new.with_extension("new");
        let (mut reader, mut file) = (File::open(&old).map_err(at(&old))?.take(length), File::create(&aside).map_err(at(&aside))?);
        std::io::copy(&mut reader, &mut file).and_then(|_| file.sync_all()).map_err(at(&aside))?;
        std::fs::rename(&aside, &new).map_err(at(&new))?;
        copied.files.push(new);
    } else if let Some(up_to) = up_to {
        // The segment that held this position was closed and rewritten since; a ledger needs one that can grow.
        let number = super::segment_number(&last.file) + 1;
        let line: SegmentLine = super::Journal::create_segment(&Disk::default(), to, number, up_to)?;
        manifest.segments.push(line);
    }
    manifest.write(&Disk::default(), to)?;
    copied.removed = remove_unlisted(&manifest, to)?;
    Ok(copied)
}

/// Removes segments that a copy has from before.
fn remove_unlisted(manifest: &Manifest, directory: &Path) -> Result<usize, LedgerError> {
    let before = segment_files(directory)?;
    remove_leftovers(manifest, directory)?;
    Ok(before.difference(&segment_files(directory)?).count())
}

fn segment_files(directory: &Path) -> Result<HashSet<PathBuf>, LedgerError> {
    let entries = std::fs::read_dir(directory).map_err(at(directory))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "seg")).collect())
}
