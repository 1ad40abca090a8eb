//! The one place that asks the system what time it is.

use crate::{
    record::{MemberId, Timestamp},
    timekeeping::{Checkpoint, Doubt, Now, Reading, Timekeeper},
};
use std::{
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// The checkpoint of a node, in its data directory.
const CHECKPOINT_FILE: &str = "clock.json";

/// Where time comes from: the system, or a test's hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The wall clock as it is.
    #[default]
    System,
    Driven(Arc<AtomicU64>),
    /// The wall clock compared with everything else that tells the time.
    Kept(Arc<Kept>),
}

/// The wall clock and the steady clock of a machine.
#[derive(Clone, Debug)]
pub enum Source {
    System,
    /// A test's hands, in milliseconds.
    Hands {
        wall: Arc<AtomicU64>,
        steady: Arc<AtomicU64>,
    },
}

/// A pair of clocks with the timekeeper that compares them.
#[derive(Debug)]
pub struct Kept {
    source: Source,
    keeper: RwLock<Timekeeper>,
}

impl Source {
    fn read(&self) -> Reading {
        match self {
            Self::System => Reading { wall: wall(), steady_ms: steady_ms() },
            Self::Hands { wall, steady } => Reading {
                wall: Timestamp::from_ms(wall.load(Ordering::SeqCst)).unwrap_or_default(),
                steady_ms: steady.load(Ordering::SeqCst),
            },
        }
    }
}

/// A system clock before 1970 or past 9999 reads as 1970, which makes everything look far in the future.
#[expect(clippy::disallowed_methods, reason = "this is the Clock that everyone else must use")]
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or_default()).unwrap_or_default()
}

/// Milliseconds since the machine started, sleep included (`CLOCK_BOOTTIME`).
fn steady_ms() -> u64 {
    let Ok(read) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) else { return 0 };
    let seconds = u64::try_from(read.tv_sec()).unwrap_or_default();
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(read.tv_nsec()).unwrap_or_default() / 1_000_000)
}

/// Names this start of the machine; nothing where the kernel does not say.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Clock {
    /// The clock of the node in `data`, whose charter and stamps name `floor`. It continues from the checkpoint of the last run.
    pub fn of_node(data: &Path, floor: Timestamp) -> Self {
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Checkpoint>(&bytes).map_err(std::io::Error::other);
        let checkpoint = match std::fs::read(data.join(CHECKPOINT_FILE)).and_then(read) {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "{CHECKPOINT_FILE} is damaged; the clock is compared with signed documents alone");
                None
            }
        };
        Self::kept(Source::System, &boot(), checkpoint.as_ref(), floor)
    }

    /// A clock that is compared; `boot` names this start of the machine.
    pub fn kept(source: Source, boot: &str, checkpoint: Option<&Checkpoint>, floor: Timestamp) -> Self {
        let keeper = Timekeeper::start(source.read(), boot, checkpoint, floor);
        Self::Kept(Arc::new(Kept { source, keeper: RwLock::new(keeper) }))
    }

    /// Now, as well as this node can tell.
    pub fn now(&self) -> Timestamp {
        self.moment().best
    }

    /// Now, with how sure that is.
    pub fn moment(&self) -> Now {
        match self {
            Self::System => wall().into(),
            Self::Driven(ms) => Timestamp::from_ms(ms.load(Ordering::SeqCst)).unwrap_or_default().into(),
            Self::Kept(kept) => kept.asked(Timekeeper::now),
        }
    }

    /// The wall clock, right or wrong.
    pub fn wall(&self) -> Timestamp {
        match self {
            Self::Kept(kept) => kept.source.read().wall,
            _ => self.now(),
        }
    }

    /// Compares the clocks, with the dates of the newest signed documents. Returns true if a doubt began or ended.
    pub fn look(&self, floor: Timestamp) -> bool {
        let Self::Kept(kept) = self else { return false };
        kept.changed(|keeper, reading| {
            keeper.set_floor(floor);
            keeper.look(reading)
        })
    }

    /// Notes the time that a member states.
    pub fn hear(&self, member: &MemberId, time: Timestamp) {
        if let Self::Kept(kept) = self {
            kept.changed(|keeper, reading| keeper.hear(member, time, reading.steady_ms));
        }
    }

    /// The reason not to believe the wall clock, if there is one.
    pub fn doubt(&self) -> Option<Doubt> {
        let Self::Kept(kept) = self else { return None };
        kept.asked(|keeper, _| keeper.doubt().cloned())
    }

    /// The reason to erase nothing by age yet, although nothing contradicts the clock.
    pub fn unsettled(&self) -> Option<String> {
        let Self::Kept(kept) = self else { return None };
        kept.asked(Timekeeper::unsettled)
    }

    /// Believes the wall clock on the word of operators.
    ///
    /// # Errors
    /// If the wall clock is behind a signed document.
    pub fn confirm(&self) -> Result<(), Doubt> {
        let Self::Kept(kept) = self else { return Ok(()) };
        kept.changed(Timekeeper::confirm)
    }

    /// The start of the next run; `None` while there is a doubt.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let Self::Kept(kept) = self else { return None };
        kept.asked(Timekeeper::checkpoint)
    }

    /// Writes the checkpoint into the data directory, unless there is a doubt.
    pub fn keep(&self, data: &Path) -> std::io::Result<()> {
        let Some(checkpoint) = self.checkpoint() else { return Ok(()) };
        let bytes = serde_json::to_vec(&checkpoint).map_err(std::io::Error::other)?;
        let (path, aside) = (data.join(CHECKPOINT_FILE), data.join("clock.json.new"));
        std::fs::write(&aside, bytes)?;
        std::fs::File::open(&aside)?.sync_all()?;
        std::fs::rename(aside, path)
    }
}

impl Kept {
    fn asked<T>(&self, ask: impl FnOnce(&Timekeeper, Reading) -> T) -> T {
        ask(&self.keeper.read().unwrap_or_else(PoisonError::into_inner), self.source.read())
    }

    fn changed<T>(&self, change: impl FnOnce(&mut Timekeeper, Reading) -> T) -> T {
        change(&mut self.keeper.write().unwrap_or_else(PoisonError::into_inner), self.source.read())
    }
}
