//! Access: who was shown what, when, by what way and why. What nobody may deny later.
//!
//! ```text
//! answer -Shown-> Access::note -fsync-> the answer leaves          auditor -record-> each entry that tells of it
//! ```
//!
//! Only what is marked `from` or above is noted, so that look-ups of what everybody may know cost nothing. It holds names of records and no
//! values: what was erased is not found here, and a thief of the log learns nothing of what it is about. Promise: an answer leaves when what it
//! shows is on the disk, or does not leave.

mod entry;
mod log;

pub use entry::{AccessEntry, Shown};
pub use log::{AccessError, Reach, Verified};

use crate::{
    config::{AccessConfig, AccessMode},
    record::{HOUR_MS, RecordRef, Tlp},
    timekeeping::Now,
};
use log::{Log, Said};
use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// The directory in the data directory.
const DIRECTORY: &str = "access";

/// The access log of a node: cheap to clone, safe from any thread.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    log: Log,
    mode: AccessMode,
    from: Tlp,
    /// How far the log reached when a day ended, until the journal has it.
    day_ended: Mutex<Option<Reach>>,
    noted: Mutex<Noted>,
}

/// What was noted within an hour: a page that is drawn anew every few seconds makes one line of it.
#[derive(Default)]
struct Noted {
    hour: u64,
    looks: HashSet<u64>,
}

/// Looks that are remembered; beyond them the same is noted again.
const NOTED_MAX: usize = 256 * 1024;

impl Access {
    /// Opens the log of a data directory; what is over goes.
    pub fn open(data: &Path, config: &AccessConfig, now: impl Into<Now>) -> Result<Self, AccessError> {
        let log = Log::open(&data.join(DIRECTORY), config.keep_days, now)?;
        Ok(Self {
            shared: Arc::new(Shared { log, mode: config.log, from: config.from(), day_ended: Mutex::default(), noted: Mutex::default() }),
        })
    }

    /// Whether looks are noted, and need a reason.
    pub fn mode(&self) -> AccessMode {
        self.shared.mode
    }

    /// Whether a look at something marked like this is noted.
    pub fn notes(&self, tlp: Tlp) -> bool {
        self.shared.mode != AccessMode::Off && tlp >= self.shared.from
    }

    /// Notes what is about to be shown. When this has returned it is on the disk, of this hour: the same person who sees the same in the same way
    /// and for the same reason is noted once an hour.
    pub fn note(&self, now: impl Into<Now>, who: &str, how: &str, why: Option<&str>, shown: &Shown) -> Result<(), AccessError> {
        let now = now.into();
        let noted = || self.shared.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let look =
            |record: &RecordRef| xxhash_rust::xxh3::xxh3_64(format!("{who}\0{how}\0{}\0{record}", why.unwrap_or_default()).as_bytes());
        let (mut new, mut looks, hour) = (Shown::default(), Vec::new(), now.best.ms() / HOUR_MS);
        {
            let noted = noted();
            for record in shown.records() {
                let look = look(&record);
                if noted.hour != hour || !noted.looks.contains(&look) {
                    new.add(&record);
                    looks.push(look);
                }
            }
        }
        if let Some(tlp) = shown.everything() {
            new.add_everything(tlp);
        }
        if let Some(reach) = self.shared.log.append(now, &Said { who, how, why, shown: &new })? {
            *self.shared.day_ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(reach);
        }
        let mut noted = noted();
        if noted.hour != hour || noted.looks.len() + looks.len() > NOTED_MAX {
            *noted = Noted { hour, looks: HashSet::new() };
        }
        noted.looks.extend(looks);
        Ok(())
    }

    /// How far the log reached when a day ended, once: for the journal, which an auditor may hold against the log.
    pub fn day_ended(&self) -> Option<Reach> {
        self.shared.day_ended.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Visits every entry, the oldest first, as long as `visit` says to go on; only those that tell of `record`, if one is named.
    pub fn each(&self, record: Option<&RecordRef>, visit: impl FnMut(AccessEntry) -> bool) -> Result<(), AccessError> {
        self.shared.log.each(record, visit)
    }

    /// Whether the log is what was written: in itself, and against heads that stand elsewhere, each with a word on where.
    pub fn verify(&self, heads: &[(String, Reach)]) -> Result<Verified, AccessError> {
        self.shared.log.verify(heads)
    }
}
