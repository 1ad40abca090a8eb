//! Upkeep: what the ledger needs from time to time, while everything goes on. What authors took back as `legal` goes within seconds, what
//! has come to its end within a day, what there is no room for within the hour.
//!
//! ```text
//! tick -> taken back? no room? a day over? -survey, on a blocking thread-> door: erase, compact -> contents and backups follow
//! ```
//!
//! Everything is decided again from the ledger and the configuration, so that whatever was cut off goes on at the next tick.

use super::{
    Current,
    documents::{Documents, write_aside},
    door::{self, DoorError, Request},
};
use crate::{
    clock::Clock,
    config::{Config, RetentionConfig},
    ledger::{
        BackedUp, Compacted, DueLine, Erased, ErasedBy, ErasedPlaces, ErasureEntry, Ledger, LedgerError, Position, Retention, StoredBatch,
    },
    record::{Content, ContentHash, DAY_MS, Document, HOUR_MS, Kind, MemberId, Record, Timestamp},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How often it looks whether anything is to be done.
const TICK: Duration = Duration::from_secs(5);
/// Between two compactions that nobody ordered; the first one is at once.
const COMPACTION_INTERVAL_MS: u64 = 10 * crate::record::MINUTE_MS;
/// After a start other things come first.
const FIRST_SURVEY_MS: u64 = 5 * crate::record::MINUTE_MS;
/// Time without a question after which the memory of cached batches is freed.
const IDLE_MS: u64 = 10 * crate::record::MINUTE_MS;
/// Time between two checkpoints of the clock: after a restart of the machine the time is known to a minute.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// Directories of backups that are remembered: more than anybody keeps up to date.
const BACKUPS_MAX: usize = 16;
/// Documents looked at for contents that nobody names any more.
const DOCUMENTS_MAX: usize = 100_000;

/// What an erasure came to, everywhere.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Outcome {
    pub erased: Erased,
    pub compacted: Compacted,
    /// Contents of documents that were removed.
    pub contents: usize,
    /// Backups: brought up to date, or why not.
    pub backups: Vec<BackupLine>,
}

/// One backup's directory.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct BackupLine {
    pub directory: PathBuf,
    /// Why it still holds what was erased.
    pub stale: Option<String>,
}

/// The care of one node's ledger. Cheap to clone.
#[derive(Clone)]
pub struct Upkeep {
    pub ledger: Ledger,
    pub door: door::Sender,
    pub current: Current,
    pub clock: Clock,
    pub documents: Documents,
    pub member: MemberId,
    pub data: PathBuf,
    due: Arc<Mutex<Vec<DueLine>>>,
    /// Records that are to be erased when the clock has been right for long enough.
    waiting: Arc<AtomicUsize>,
}

impl Upkeep {
    /// Of this ledger, through this door.
    pub fn new(
        ledger: Ledger,
        door: door::Sender,
        current: Current,
        clock: Clock,
        documents: Documents,
        member: MemberId,
        data: PathBuf,
    ) -> Self {
        Self { ledger, door, current, clock, documents, member, data, due: Arc::default(), waiting: Arc::default() }
    }

    /// What the last survey found that a person has to decide about.
    pub fn due(&self) -> Vec<DueLine> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The reason to erase nothing by age yet, if anything has expired.
    pub fn waits(&self) -> Option<String> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let why = self.clock.unsettled().filter(|_| waiting > 0)?;
        Some(format!("{waiting} records have expired; {why}"))
    }

    /// Takes note of what a survey found.
    pub fn set_due(&self, lines: Vec<DueLine>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }

    /// Something that reads much, on a thread that may.
    async fn read<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> Result<T, LedgerError> + Send + 'static) -> Result<T, DoorError> {
        let here = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&here)).await;
        Ok(done.map_err(|_| DoorError::Stopping)??)
    }

    /// Erases, and carries it through: journal's files, index, contents, backups.
    pub async fn erase(&self, because: ErasedBy, by: Option<String>, text: &str, places: Vec<ErasedPlaces>) -> Result<Outcome, DoorError> {
        self.erase_with(because, by, text, places, Vec::new()).await
    }

    /// The same with the words of decisions, by where they stand.
    pub async fn erase_with(
        &self,
        because: ErasedBy,
        by: Option<String>,
        text: &str,
        places: Vec<ErasedPlaces>,
        decisions: Vec<Position>,
    ) -> Result<Outcome, DoorError> {
        let entry = ErasureEntry { at: self.clock.now(), by, because, text: text.to_owned(), places, decisions };
        let (erased, contents) = self.erase_in_word(entry).await?;
        let compacted = door::ask(&self.door, Request::Compact).await?;
        let backups = self.read(|here| Ok(here.refresh_backups())).await?;
        Ok(Outcome { erased, compacted, contents, backups })
    }

    /// Erases, but for the bytes in the journal's files: what must not wait for a compaction, which may fail. Answers how much it was, and how
    /// many contents of documents.
    async fn erase_in_word(&self, entry: ErasureEntry) -> Result<(Erased, usize), DoorError> {
        let asked = entry.places.clone();
        let contents = self.read(move |here| here.contents_at(&asked)).await?;
        let erased = door::ask(&self.door, |reply| Request::Erase { entry: Box::new(entry), reply }).await?;
        let dropped = self.read(move |here| here.note_erased().and_then(|()| here.drop_contents(contents))).await?;
        Ok((erased, dropped))
    }

    /// Rewrites what is erased and still there.
    pub async fn compact(&self) -> Result<Compacted, DoorError> {
        door::ask(&self.door, Request::Compact).await
    }

    /// Contents of documents that stand at these places.
    fn contents_at(&self, places: &[ErasedPlaces]) -> Result<BTreeSet<ContentHash>, LedgerError> {
        let mut found = BTreeSet::new();
        for record in places.iter().flat_map(ErasedPlaces::records) {
            for number in self.ledger.all_at(&record.feed, record.seq)? {
                found.extend(self.ledger.batch(number)?.and_then(|batch| content_of(&batch, record.index)));
            }
        }
        Ok(found)
    }

    /// Removes contents, but for those that another document names. Answers how many.
    fn drop_contents(&self, mut contents: BTreeSet<ContentHash>) -> Result<usize, LedgerError> {
        if contents.is_empty() {
            return Ok(0);
        }
        for place in self.ledger.listed(Kind::Document, DOCUMENTS_MAX)? {
            if let Some(hash) = self.ledger.batch(place.batch)?.and_then(|batch| content_of(&batch, place.index)) {
                contents.remove(&hash);
            }
        }
        Ok(contents.into_iter().filter(|hash| self.documents.drop_content(hash).unwrap_or(false)).count())
    }

    /// Directories that backups went to, the newest last.
    pub fn backups(&self) -> Vec<PathBuf> {
        known_backups(&self.data)
    }

    /// Backs up, and remembers where to.
    pub fn backup(&self, to: &Path) -> Result<BackedUp, LedgerError> {
        let done = self.ledger.backup(to)?;
        let mut known = self.backups();
        known.retain(|one| one != to);
        known.push(to.to_owned());
        known.drain(..known.len().saturating_sub(BACKUPS_MAX));
        let text: String = known.iter().map(|path| format!("{}\n", path.display())).collect();
        write_at(&self.data.join(BACKUPS_FILE), text.as_bytes())?;
        Ok(done)
    }

    /// Brings every backup that can be reached up to date, so that what was erased is gone from it.
    fn refresh_backups(&self) -> Vec<BackupLine> {
        let refresh = |directory: PathBuf| {
            let stale = match directory.join("manifest").is_file() {
                true => self.ledger.backup(&directory).err().map(|error| error.to_string()),
                false => Some("it cannot be reached; back up into it again when it can".to_owned()),
            };
            BackupLine { directory, stale }
        };
        self.backups().into_iter().map(refresh).collect()
    }

    /// Writes down, beside the ledger, what stays out for good: a restore of an older backup applies it.
    fn note_erased(&self) -> Result<(), LedgerError> {
        let all = self.ledger.all_erased()?;
        if all.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_vec(&all).map_err(|error| LedgerError::Damaged(error.to_string()))?;
        write_at(&self.data.join(ERASED_FILE), &text)
    }

    /// How long content stays here, as the configuration says now.
    pub fn retention(&self) -> Result<Retention, String> {
        let config = Config::read(&self.data.join("node.toml")).map_err(|error| error.to_string())?;
        let roster = Arc::clone(&self.current.get().roster);
        let reviewed = self.ledger.reviewed().map_err(|error| error.to_string())?;
        let rule = |rule: &RetentionConfig| {
            let mut read = rule.rule()?;
            if let Some(id) = &rule.agreement {
                let agreement = roster.charter().charter().agreements.iter().find(|one| one.id == *id);
                let agreement = agreement.ok_or_else(|| format!("retention `{}`: the charter has no agreement `{id}`", rule.name))?;
                read.term = Some((agreement.member.clone(), agreement.from, agreement.end()));
            }
            read.reviewed = reviewed.get(&rule.name).copied();
            Ok(read)
        };
        let limits = &config.limits;
        Ok(Retention {
            content_days: limits.retention_days,
            over_days: limits.over_days,
            refused_days: limits.refused_days,
            rules: config.retention.iter().map(rule).collect::<Result<_, String>>()?,
        })
    }

    fn bytes_max(&self) -> Option<u64> {
        Config::read(&self.data.join("node.toml")).ok()?.limits.ledger_bytes_max
    }

    /// Finds all expired content, and erases it: if a person has `ordered` that and nothing contradicts the clock, or if
    /// the clock has been right for a day. Answers how much that was.
    pub async fn survey(&self, ordered: bool) -> Result<Erased, DoorError> {
        let retention = match self.retention() {
            Ok(retention) => retention,
            Err(error) => {
                tracing::error!(%error, "nothing is erased by age until this is mended");
                return Ok(Erased::default());
            }
        };
        let moment = self.clock.moment();
        let due = self.read(move |here| here.ledger.survey(&retention, moment.earliest, |_, _| ())).await?;
        self.set_due(due.review.into_values().map(|(line, _)| line).collect());
        let mut all = Erased::default();
        let may = moment.may_destroy || (ordered && !moment.doubted);
        let waiting = if may { 0 } else { due.erase.values().flatten().flat_map(ErasedPlaces::records).count() };
        self.waiting.store(waiting, Ordering::Relaxed);
        if !may {
            return Ok(all);
        }
        for (rule, places) in due.erase {
            let erased = self.erase(ErasedBy::Retention, None, &rule, places).await?.erased;
            tracing::info!(rule, records = erased.records, "erased, as its time is over");
            (all.records, all.batches) = (all.records + erased.records, all.batches + erased.batches);
        }
        Ok(all)
    }

    /// Makes room, if there is less than the configuration allows for.
    pub async fn make_room(&self) -> Result<Erased, DoorError> {
        let Some(bytes_max) = self.bytes_max() else { return Ok(Erased::default()) };
        let now = self.clock.moment().earliest;
        let places = self.read(move |here| here.ledger.to_evict(bytes_max, &here.member, now)).await?;
        if places.is_empty() {
            return Ok(Erased::default());
        }
        let erased = self.erase(ErasedBy::Room, None, "`ledger_bytes_max` was reached", places).await?.erased;
        tracing::warn!(records = erased.records, bytes_max, "the oldest records were erased, as the ledger has no more room");
        Ok(erased)
    }

    /// What authors have taken back so that it is erased, goes, in word.
    async fn erase_taken_back(&self) -> Result<Erased, DoorError> {
        let places = self.read(|here| here.ledger.taken_back()).await?;
        if places.is_empty() {
            return Ok(Erased::default());
        }
        let text = "its author took it back as `legal` or `over-shared`".to_owned();
        let entry = ErasureEntry { at: self.clock.now(), by: None, because: ErasedBy::Author, text, places, decisions: Vec::new() };
        Ok(self.erase_in_word(entry).await?.0)
    }

    /// Whether anything waits to be erased, in word or in deed.
    async fn any_due(&self) -> bool {
        let look = |here: &Self| Ok(!here.ledger.to_erase()?.is_empty() || here.ledger.pending_erasures()? > 0);
        self.read(look).await.unwrap_or(false)
    }

    /// Goes on until the node stops.
    pub async fn run(self) {
        let started = self.clock.now();
        let (mut surveyed, mut measured, mut compacted): (Option<Timestamp>, Option<Timestamp>, Option<Timestamp>) = (None, None, None);
        let (mut idle_checked, mut clock_kept, mut could_destroy) = (started, None::<Instant>, false);
        loop {
            tokio::time::sleep(TICK).await;
            let now = self.clock.now();
            if now.ms_since(idle_checked) >= IDLE_MS {
                self.ledger.drop_idle_batches();
                idle_checked = now;
            }
            if clock_kept.is_none_or(|at| at.elapsed() >= CLOCK_INTERVAL) {
                clock_kept = Some(Instant::now());
                if let Err(error) = self.clock.keep(&self.data) {
                    tracing::error!(%error, "the clock's checkpoint could not be written");
                }
            }
            let may_destroy = self.clock.moment().may_destroy;
            let settled = may_destroy && !could_destroy && surveyed.is_some();
            could_destroy = may_destroy;
            let survey_due = settled
                || match surveyed {
                    Some(at) => now.ms_since(at) >= DAY_MS,
                    None => now.ms_since(started) >= FIRST_SURVEY_MS,
                };
            let room_due = measured.is_none_or(|at| now.ms_since(at) >= HOUR_MS);
            // One for every member's withdrawal would be a way to keep a node busy with nothing else.
            let compaction_due = compacted.is_none_or(|at| now.ms_since(at) >= COMPACTION_INTERVAL_MS) && self.any_due().await;
            if let Err(error) = self.tick(survey_due, room_due, compaction_due).await {
                if matches!(error, DoorError::Stopping) {
                    return;
                }
                tracing::error!(%error, "the ledger's upkeep failed; it is tried again");
            }
            compacted = if compaction_due { Some(now) } else { compacted };
            surveyed = if survey_due { Some(now) } else { surveyed };
            measured = if room_due { Some(now) } else { measured };
        }
    }

    /// One round. What fails is told, and the rest goes on.
    async fn tick(&self, survey_due: bool, room_due: bool, compaction_due: bool) -> Result<(), DoorError> {
        let mut outcome = Ok(());
        let mut note = |done: Result<(), DoorError>| {
            if outcome.is_ok() {
                outcome = done;
            }
        };
        if room_due {
            note(self.make_room().await.map(drop));
        }
        note(self.erase_taken_back().await.map(drop));
        if compaction_due {
            note(self.finish().await);
        }
        if survey_due {
            note(self.survey(false).await.map(drop));
            note(self.read(|here| here.ledger.settle_index()).await);
        }
        outcome
    }

    /// Carries through what was cut off: bytes of what is erased, and copies that hold it.
    async fn finish(&self) -> Result<(), DoorError> {
        if self.read(|here| here.ledger.pending_erasures()).await? == 0 {
            return Ok(());
        }
        self.read(Self::note_erased).await?;
        self.compact().await?;
        self.read(|here| Ok(here.refresh_backups())).await.map(drop)
    }
}

/// Directories that backups went to, in the data directory.
const BACKUPS_FILE: &str = "backups";

/// Directories that the backups of a node went to, the newest last.
pub fn known_backups(data: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(data.join(BACKUPS_FILE)).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

/// What stays out for good, in the data directory.
pub const ERASED_FILE: &str = "erased.json";

/// Reads what stays out for good; nothing where there is no such file.
pub fn read_erased(path: &Path) -> Result<Vec<ErasedPlaces>, String> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn write_at(path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    write_aside(path, bytes).map_err(|error| LedgerError::Io { path: path.to_owned(), error })
}

fn content_of(batch: &StoredBatch, index: u16) -> Option<ContentHash> {
    match batch.record(index)? {
        Record::Document(Document { content: Content::Hash { hash, .. }, .. }) => Some(hash),
        _ => None,
    }
}
