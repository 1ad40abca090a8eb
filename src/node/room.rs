//! Room: free disk space for the ledger. When it is short, content is deferred, so that withdrawals, orders and signed documents still fit. A
//! part of this room is allocated in advance, in a file of its own, which other programs cannot use up.
//!
//! ```text
//! free   2 x kept        kept                kept / 8
//! -------|---------------|-------------------|-------> full
//!        reserve whole   content deferred    reserve released, an eighth of `kept` at a time
//! ```

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Below so many free bytes nothing but removals, orders and documents is taken in, unless the configuration says otherwise: some millions
/// of withdrawals, and what sled and fjall need to settle.
pub const ROOM_BYTES: u64 = 256 * 1024 * 1024;
/// The reserve's name in the data directory.
const RESERVE: &str = "reserve";

/// Free space and its limits. Cheap to clone; all clones share one state.
#[derive(Clone, Default)]
pub struct Room(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// None in a simulation, which does not check the disk.
    directory: Option<PathBuf>,
    kept: u64,
    free: AtomicU64,
    /// The allocated file and its length; none unless a node runs.
    reserve: Mutex<Option<(File, u64)>>,
}

impl Room {
    /// Watches the disk of `directory`, with `kept` bytes reserved for withdrawals and orders. If the disk is full, it releases a reserve that the last
    /// run left.
    pub fn of(directory: &Path, kept: u64) -> Self {
        let reserve = OpenOptions::new().write(true).open(directory.join(RESERVE)).ok();
        let reserve = reserve.and_then(|file| file.metadata().ok().map(|about| (file, about.len())));
        let (directory, free) = (Some(directory.to_owned()), AtomicU64::new(u64::MAX));
        let room = Self(Arc::new(Shared { directory, kept, free, reserve: Mutex::new(reserve) }));
        room.look();
        room
    }

    /// Allocates the reserve, now and again whenever there is room.
    pub fn keep_reserve(&self) {
        let Some(directory) = &self.0.directory else { return };
        let path = directory.join(RESERVE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        match file.and_then(|file| file.metadata().map(|about| (file, about.len()))) {
            Ok(reserve) => *self.0.reserve.lock().unwrap_or_else(PoisonError::into_inner) = Some(reserve),
            Err(error) => tracing::warn!(%error, path = %path.display(), "the reserve for withdrawals and orders cannot be allocated"),
        }
        self.look();
    }

    /// Checks the disk, and releases or refills the reserve. An unknown amount counts as enough: a failed write reports itself.
    pub fn look(&self) {
        let Shared { directory: Some(directory), kept, .. } = &*self.0 else { return };
        let free = free_on(directory);
        self.0.free.store(free, Ordering::Relaxed);
        if free < kept / 8 {
            self.release();
        } else if free >= 2 * kept {
            self.refill();
        }
    }

    /// Releases a part of the reserve. Returns false if it is empty.
    pub fn release(&self) -> bool {
        let mut reserve = self.0.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((file, length)) = reserve.as_mut().filter(|(_, length)| *length > 0) else { return false };
        let shorter = length.saturating_sub((self.0.kept / 8).max(1));
        if let Err(error) = file.set_len(shorter) {
            tracing::error!(%error, "the reserve for withdrawals and orders cannot be released");
            return false;
        }
        *length = shorter;
        tracing::warn!(left_mib = shorter >> 20, "the disk is full: a part of the reserve for withdrawals and orders is released");
        if let Some(directory) = &self.0.directory {
            self.0.free.store(free_on(directory), Ordering::Relaxed);
        }
        true
    }

    /// Allocates the reserve again, once there is room.
    fn refill(&self) {
        let mut reserve = self.0.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = self.0.kept / 4;
        let Some((file, length)) = reserve.as_mut().filter(|(_, length)| *length < whole) else { return };
        if let Err(error) = take(file, whole) {
            tracing::warn!(%error, "the reserve for withdrawals and orders cannot be allocated");
            *reserve = None;
            return;
        }
        *length = whole;
    }

    /// Returns a sentence if there is too little room for content.
    pub fn low(&self) -> Option<String> {
        let Shared { directory, kept, free, .. } = &*self.0;
        let free = free.load(Ordering::Relaxed);
        (directory.is_some() && free < *kept).then(|| {
            let reserve = self.0.reserve.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |(_, length)| *length);
            format!(
                "the disk has {} MiB left, and {} MiB reserved for withdrawals and orders: new content is not taken in, withdrawals and orders \
                 are; free disk space, or set `ledger_bytes_max`",
                free >> 20,
                reserve >> 20
            )
        })
    }
}

fn free_on(directory: &Path) -> u64 {
    nix::sys::statvfs::statvfs(directory).map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// Allocates blocks up to `length`: a sparse file would reserve nothing.
fn take(file: &File, length: u64) -> io::Result<()> {
    let length = i64::try_from(length).map_err(io::Error::other)?;
    Ok(nix::fcntl::fallocate(file.as_fd(), nix::fcntl::FallocateFlags::empty(), 0, length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn x14_the_reserve_is_allocated_in_advance_and_released_in_parts() {
        let data = tempfile::tempdir().unwrap();
        // Small enough for any test machine.
        let room = Room::of(data.path(), 8 << 20);
        let blocks = || std::fs::metadata(data.path().join(RESERVE)).map_or(0, |about| about.blocks() * 512);
        assert_eq!(blocks(), 0, "nobody runs");
        assert!(!room.release(), "nothing is kept yet");
        room.keep_reserve();
        assert!(blocks() >= 2 << 20, "{} bytes", blocks());
        assert!(room.release());
        assert!((1 << 20..2 << 20).contains(&blocks()), "{} bytes", blocks());
        room.look();
        assert!(blocks() >= 2 << 20, "taken again: {} bytes", blocks());
        while room.release() {}
        assert_eq!(blocks(), 0);
        // A reserve of the last run is found.
        room.look();
        assert!(Room::of(data.path(), 8 << 20).release());
    }
}
