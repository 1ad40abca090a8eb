//! Room: what the disk has left for the ledger. Before it is full, content is refused for later, so that what takes something back, what
//! operators order and what members and charter say still has a place.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Below so many free bytes nothing but removals, orders and documents is taken in, unless the configuration says otherwise: some millions
/// of withdrawals, and what sled and fjall need to settle.
pub const ROOM_BYTES: u64 = 256 * 1024 * 1024;

/// What is free, and what has to stay so. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Room(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// None where nobody looks: in a rehearsal.
    directory: Option<PathBuf>,
    kept: u64,
    free: AtomicU64,
}

impl Room {
    /// The room on the disk of `directory`, of which `kept` bytes are for what takes something back.
    pub fn of(directory: &Path, kept: u64) -> Self {
        let room = Self(Arc::new(Shared { directory: Some(directory.to_owned()), kept, free: AtomicU64::new(u64::MAX) }));
        room.look();
        room
    }

    /// Looks at the disk. What cannot be told counts as enough: a write that fails says so itself.
    pub fn look(&self) {
        let Some(directory) = &self.0.directory else { return };
        let free =
            nix::sys::statvfs::statvfs(directory).map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
        self.0.free.store(free, Ordering::Relaxed);
    }

    /// Whether there is too little for content, in a sentence.
    pub fn low(&self) -> Option<String> {
        let Shared { directory, kept, free } = &*self.0;
        let free = free.load(Ordering::Relaxed);
        (directory.is_some() && free < *kept).then(|| {
            format!(
                "the disk has {} MiB left: new content is not taken in, what takes something back is; make room, or set `ledger_bytes_max`",
                free >> 20
            )
        })
    }
}
