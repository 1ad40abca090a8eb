//! Versions that were taken into a channel: the newest of each id, so that an older file changes nothing, whenever it comes.
//!
//! ```text
//! versions/CHANNEL[-SOURCE]: a magic, then for each id 16 bytes of its key and 8 of its version
//! ```
//!
//! Keys are hashes, so the file names nothing. A file that is lost or damaged costs the comparison, not the import.

use super::ApiError;
use crate::exchange::{Version, VersionKey};
use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

const MAGIC: &[u8; 8] = b"huecryV1";
const ENTRY_BYTES: usize = 24;
/// Ids of one channel and source, 96 MB on the disk. Of more the newest versions are not kept.
const ENTRIES_MAX: usize = 4_000_000;

/// Two imports into one channel at once add to what the other has written.
static WRITING: Mutex<()> = Mutex::new(());

/// The versions of a channel and source.
pub(super) struct TakenVersions {
    path: PathBuf,
    pub all: Arc<HashMap<VersionKey, Version>>,
}

impl TakenVersions {
    /// Reads them.
    pub(super) fn of(data: &Path, channel: &str, origin: Option<&str>) -> Self {
        let source = origin.map(|origin| format!("-{}", hex::encode(origin))).unwrap_or_default();
        let path = data.join("versions").join(format!("{channel}{source}"));
        let all = Arc::new(read(&path));
        Self { path, all }
    }

    /// Adds versions that are published by now.
    pub(super) fn add(&self, taken: HashMap<VersionKey, Version>) -> Result<(), ApiError> {
        if taken.is_empty() {
            return Ok(());
        }
        let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = read(&self.path);
        for (key, version) in taken {
            if all.len() < ENTRIES_MAX || all.contains_key(&key) {
                let best = all.entry(key).or_default();
                *best = best.max(version);
            }
        }
        write(&self.path, &all).map_err(ApiError::internal)
    }
}

fn read(path: &Path) -> HashMap<VersionKey, Version> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return HashMap::new(),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "versions that were taken cannot be read; older files may come back");
            return HashMap::new();
        }
    };
    let Some(entries) = bytes.strip_prefix(MAGIC) else {
        tracing::warn!(path = %path.display(), "this file has no versions in it; older files may come back");
        return HashMap::new();
    };
    let entry = |entry: &[u8]| {
        let (key, word) = entry.split_first_chunk::<16>()?;
        let word = u64::from_le_bytes(word.try_into().ok()?);
        Some((u128::from_le_bytes(*key), Version { ms: word >> 1, is_final: word & 1 == 1 }))
    };
    entries.chunks_exact(ENTRY_BYTES).filter_map(entry).collect()
}

fn write(path: &Path, all: &HashMap<VersionKey, Version>) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let aside = path.with_extension("new");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&aside)?);
    file.write_all(MAGIC)?;
    for (key, version) in all {
        file.write_all(&key.to_le_bytes())?;
        file.write_all(&(version.ms << 1 | u64::from(version.is_final)).to_le_bytes())?;
    }
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_kept_over_runs_and_a_damaged_file_costs_the_comparison_alone() {
        let place = tempfile::tempdir().unwrap();
        let of = |origin| TakenVersions::of(place.path(), "imported", origin);
        let version = |ms, is_final| Version { ms, is_final };
        of(None).add(HashMap::from([(1, version(10, false)), (2, version(20, true))])).unwrap();
        of(None).add(HashMap::from([(1, version(5, false)), (2, version(30, false))])).unwrap();
        assert_eq!(*of(None).all, HashMap::from([(1, version(10, false)), (2, version(30, true))]));
        assert!(of(Some("from:feed")).all.is_empty());
        std::fs::write(place.path().join("versions/imported"), b"rubbish").unwrap();
        assert!(of(None).all.is_empty());
    }
}
