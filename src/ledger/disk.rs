//! The disk, as the journal uses it: every step that changes something goes through here, so that tests can make any one of them fail,
//! and know in what states a power loss may leave the files.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

/// Bytes copied at once.
const COPY_BYTES: usize = 1024 * 1024;

/// One step that changes files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Makes an empty file, or empties one.
    Create(&'a Path),
    /// Writes these bytes at an offset.
    Write(&'a Path, u64, &'a [u8]),
    /// Content and length of a file survive a power loss from here on.
    Sync(&'a Path),
    /// Cuts a file.
    Cut(&'a Path, u64),
    Rename(&'a Path, &'a Path),
    /// What was created, renamed or removed in a directory survives from here on.
    SyncDirectory(&'a Path),
    Remove(&'a Path),
}

/// What may go wrong. A real disk has none.
pub trait Faults: Send + Sync {
    /// Asked before each step. An error is what the step fails with; of a write, so many of its bytes are written before.
    fn before(&self, step: Step<'_>) -> Result<(), (usize, io::Error)>;
}

/// The file system.
#[derive(Clone, Default)]
pub struct Disk {
    faults: Option<Arc<dyn Faults>>,
    make_room: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl Disk {
    /// One on which things go wrong.
    pub fn with(faults: Arc<dyn Faults>) -> Self {
        Self { faults: Some(faults), make_room: None }
    }

    /// Asks `make_room` when it is full, as often as that answers that there is more now.
    pub fn when_full(&mut self, make_room: impl Fn() -> bool + Send + Sync + 'static) {
        self.make_room = Some(Arc::new(make_room));
    }

    fn ask(&self, step: Step<'_>) -> Result<(), (usize, io::Error)> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.before(step))
    }

    fn plain(&self, step: Step<'_>) -> io::Result<()> {
        self.ask(step).map_err(|(_, error)| error)
    }

    /// Makes an empty file, open for reading and writing.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        self.plain(Step::Create(path))?;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write(&self, file: &File, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Err((written, error)) = self.ask(Step::Write(path, offset, bytes)) {
            file.write_all_at(bytes.get(..written).unwrap_or_default(), offset)?;
            return Err(error);
        }
        loop {
            let written = file.write_all_at(bytes, offset);
            let full = written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull);
            // The retry overwrites a partial write.
            if !full || !self.make_room.as_ref().is_some_and(|make_room| make_room()) {
                return written;
            }
        }
    }

    /// Copies a file, and leaves the copy open.
    pub fn copy(&self, from: &Path, to: &Path) -> io::Result<File> {
        let (source, file) = (File::open(from)?, self.create(to)?);
        let (mut buffer, mut offset) = (vec![0; COPY_BYTES], 0);
        loop {
            let read = source.read_at(&mut buffer, offset)?;
            if read == 0 {
                return Ok(file);
            }
            self.write(&file, to, offset, buffer.get(..read).unwrap_or_default())?;
            offset += read as u64;
        }
    }

    /// Content and length survive a power loss. fdatasync: the length of a file is metadata that it does write (fdatasync(2)).
    pub fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.plain(Step::Sync(path))?;
        file.sync_data()
    }

    /// Cuts a file at `length`.
    pub fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        self.plain(Step::Cut(path, length))?;
        file.set_len(length)
    }

    /// Gives a file another name, over whatever had it.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plain(Step::Rename(from, to))?;
        std::fs::rename(from, to)
    }

    /// What happened to names in a directory survives a power loss.
    pub fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.plain(Step::SyncDirectory(path))?;
        File::open(path)?.sync_all()
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.plain(Step::Remove(path))?;
        std::fs::remove_file(path)
    }
}
