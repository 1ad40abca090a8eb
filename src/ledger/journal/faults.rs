//! The journal on a disk that fails, and after the power has gone: what was acknowledged is there, whatever step it was that failed.

use super::*;
use crate::ledger::{Faults, Step};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

/// Bytes after which a segment is closed here: some three commits.
const SEGMENT: u64 = 150;

fn payload(number: usize) -> Vec<u8> {
    format!("\x05frame {number:02} of some bytes").into_bytes()
}

/// What the rewritten frame becomes.
fn rewritten() -> Vec<u8> {
    b"\x05shorter".to_vec()
}

/// Rewrites the frame at `position`. `Err` if the journal acknowledges nothing more; `Ok(false)` if all is as it was.
fn rewrite(journal: &mut Journal, position: Position) -> Result<bool, LedgerError> {
    journal.close_segment()?;
    let written = journal.rewriting(&[position]).run(|at, _| Ok((at == position).then(rewritten)));
    match written {
        Ok(written) => journal.install(&written, journal.end()).map(|()| true),
        Err(_) => Ok(false),
    }
}

/// What one run was told.
#[derive(Default)]
struct Told {
    acknowledged: usize,
    appended: usize,
    rewritten: bool,
    tried_rewriting: bool,
}

/// Appends and commits, over ends of segments; rewrites a frame; commits once more. Stops at the first error, but sees that the
/// journal then acknowledges nothing more. `note` hears of each acknowledgement.
fn work(disk: Disk, directory: &Path, mut note: impl FnMut(&Told)) -> Told {
    let mut told = Told::default();
    let Ok((mut journal, _)) = Journal::open_on(disk, directory, || Ok("store".to_owned())) else { return told };
    journal.manifest.segment_bytes = Some(SEGMENT);
    let mut positions = Vec::new();
    for commit in 0..8 {
        for _ in 0..=commit % 2 {
            positions.push(journal.append(&payload(told.appended)).unwrap());
            told.appended += 1;
        }
        if journal.commit().is_err() {
            assert!(journal.append(b"\x05more").and_then(|_| journal.commit()).is_err(), "acknowledged after a failure");
            return told;
        }
        told.acknowledged = told.appended;
        note(&told);
        if commit == 6 {
            told.tried_rewriting = true;
            match rewrite(&mut journal, positions[1]) {
                Ok(done) => told.rewritten = done,
                Err(_) => {
                    assert!(journal.append(b"\x05more").and_then(|_| journal.commit()).is_err(), "acknowledged after a failure");
                    return told;
                }
            }
            note(&told);
        }
    }
    told
}

/// Opens what is left on a good disk: everything acknowledged is there, in order, nothing that was never appended, and it goes on.
fn survives(directory: &Path, told: &Told, what: &str) {
    let opened = Journal::open(directory, || Ok("store".to_owned()));
    let (mut journal, _) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut frames = Vec::new();
    let visit = |_, payload: &[u8]| {
        frames.push(payload.to_vec());
        Ok(())
    };
    journal.reader().scan(0, journal.end(), visit).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(frames.len() >= told.acknowledged, "{what}: {} frames of {} acknowledged", frames.len(), told.acknowledged);
    for (number, frame) in frames.iter().enumerate() {
        let (old, new) = (*frame == payload(number), number == 1 && *frame == rewritten());
        assert!(if told.rewritten && number == 1 { new } else { old || (new && told.tried_rewriting) }, "{what}: frame {number}");
    }
    journal.append(b"\x05on it goes").unwrap();
    journal.commit().unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// Fails at one step.
struct FailAt {
    step: usize,
    seen: Mutex<usize>,
    error: fn() -> io::Error,
    /// Of a write that fails, how much is written, in quarters.
    quarters: usize,
}

impl Faults for FailAt {
    fn before(&self, step: Step<'_>) -> Result<(), (usize, io::Error)> {
        let mut seen = self.seen.lock().unwrap();
        *seen += 1;
        let written = if let Step::Write(_, _, bytes) = step { bytes.len() * self.quarters / 4 } else { 0 };
        if *seen - 1 == self.step { Err((written, (self.error)())) } else { Ok(()) }
    }
}

#[test]
fn g_14_r_02_r_03_at_whatever_step_the_disk_fails_nothing_is_acknowledged_after_it_and_nothing_is_lost() {
    let full: fn() -> io::Error = || io::Error::from(io::ErrorKind::StorageFull);
    let broken: fn() -> io::Error = || io::Error::from_raw_os_error(5);
    let mut tried = 0;
    for step in 0.. {
        let mut reached = false;
        for (error, quarters) in [(full, 0), (full, 2), (broken, 3), (broken, 4)] {
            let directory = tempfile::tempdir().unwrap();
            let faults = Arc::new(FailAt { step, seen: Mutex::new(0), error, quarters });
            let told = work(Disk::with(Arc::clone(&faults) as Arc<dyn Faults>), directory.path(), |_| ());
            reached |= *faults.seen.lock().unwrap() > step;
            survives(directory.path(), &told, &format!("step {step}, {quarters} quarters written"));
            tried += 1;
        }
        if !reached {
            break;
        }
    }
    assert!(tried > 200, "{tried} faults");
}

/// One step, remembered with its bytes; or an acknowledgement between steps.
#[derive(Clone, Debug)]
enum Done {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Sync(PathBuf),
    Cut(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    SyncDirectory,
    Remove(PathBuf),
    Acknowledged { frames: usize, rewritten: bool },
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Done>>);

impl Faults for Recorder {
    fn before(&self, step: Step<'_>) -> Result<(), (usize, io::Error)> {
        let name = |path: &Path| PathBuf::from(path.file_name().unwrap());
        self.0.lock().unwrap().push(match step {
            Step::Create(path) => Done::Create(name(path)),
            Step::Write(path, offset, bytes) => Done::Write(name(path), offset, bytes.to_vec()),
            Step::Sync(path) => Done::Sync(name(path)),
            Step::Cut(path, length) => Done::Cut(name(path), length),
            Step::Rename(from, to) => Done::Rename(name(from), name(to)),
            Step::SyncDirectory(_) => Done::SyncDirectory,
            Step::Remove(path) => Done::Remove(name(path)),
        });
        Ok(())
    }
}

/// A file as a disk has it: what survives, and what was done to it since.
#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    since: Vec<Done>,
}

impl Inode {
    fn apply(bytes: &mut Vec<u8>, done: &Done, half: bool) {
        match done {
            Done::Write(_, offset, new) => {
                let (offset, new) = (*offset as usize, &new[..if half { new.len() / 2 } else { new.len() }]);
                bytes.resize(bytes.len().max(offset + new.len()), 0);
                bytes[offset..offset + new.len()].copy_from_slice(new);
            }
            Done::Cut(_, length) => bytes.resize(*length as usize, 0),
            _ => unreachable!(),
        }
    }

    /// What may be found after a power loss: the first `kept` of what was done since, the one behind them by half.
    fn after(&self, kept: usize, half: bool) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.since.iter().take(kept).for_each(|done| Self::apply(&mut bytes, done, false));
        if let Some(next) = self.since.get(kept).filter(|_| half) {
            Self::apply(&mut bytes, next, true);
        }
        bytes
    }
}

/// A directory as a disk has it.
#[derive(Clone, Default)]
struct Directory {
    inodes: Vec<Inode>,
    /// Names as they survive, and what was done to them since: one state after another.
    durable: BTreeMap<PathBuf, usize>,
    since: Vec<BTreeMap<PathBuf, usize>>,
}

impl Directory {
    fn names(&self) -> BTreeMap<PathBuf, usize> {
        self.since.last().unwrap_or(&self.durable).clone()
    }

    fn done(&mut self, done: &Done) {
        let mut names = self.names();
        match done {
            Done::Create(path) => {
                self.inodes.push(Inode::default());
                names.insert(path.clone(), self.inodes.len() - 1);
                self.since.push(names);
            }
            Done::Write(path, ..) | Done::Cut(path, _) => self.inodes[names[path]].since.push(done.clone()),
            Done::Sync(path) => {
                let inode = &mut self.inodes[names[path]];
                *inode = Inode { durable: inode.after(usize::MAX, false), since: Vec::new() };
            }
            Done::Rename(from, to) => {
                let inode = names.remove(from).unwrap();
                names.insert(to.clone(), inode);
                self.since.push(names);
            }
            Done::Remove(path) => {
                names.remove(path);
                self.since.push(names);
            }
            Done::SyncDirectory => (self.durable, self.since) = (names, Vec::new()),
            Done::Acknowledged { .. } => (),
        }
    }

    /// Every state that may be found after a power loss now.
    fn states(&self) -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
        let mut states = Vec::new();
        for names in std::iter::once(&self.durable).chain(&self.since) {
            let most = names.values().map(|inode| self.inodes[*inode].since.len()).max().unwrap_or(0);
            for kept in 0..=most {
                for half in [false, true] {
                    states.push(names.iter().map(|(path, inode)| (path.clone(), self.inodes[*inode].after(kept, half))).collect());
                }
            }
        }
        states
    }
}

#[test]
fn g_13_after_a_power_loss_at_any_moment_everything_acknowledged_is_there_and_every_frame_is_old_or_new() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::default());
    let note = |told: &Told| {
        recorder.0.lock().unwrap().push(Done::Acknowledged { frames: told.acknowledged, rewritten: told.rewritten });
    };
    let whole = work(Disk::with(Arc::clone(&recorder) as Arc<dyn Faults>), directory.path(), note);
    assert!(whole.rewritten && whole.acknowledged == whole.appended);
    let (mut disk, mut told, mut states) = (Directory::default(), Told { appended: whole.appended, ..Told::default() }, 0);
    for (step, done) in recorder.0.lock().unwrap().clone().iter().enumerate() {
        disk.done(done);
        if let Done::Acknowledged { frames, rewritten } = done {
            (told.acknowledged, told.rewritten) = (*frames, *rewritten);
        }
        told.tried_rewriting |= told.acknowledged >= 10;
        for state in disk.states() {
            let place = tempfile::tempdir().unwrap();
            state.iter().for_each(|(path, bytes)| std::fs::write(place.path().join(path), bytes).unwrap());
            survives(place.path(), &told, &format!("power loss behind step {step}, {done:?}"));
            states += 1;
        }
    }
    assert!(states > 200, "{states} states");
}
