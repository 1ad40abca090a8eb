//! The enforcer: keeps every outlet's lines as ledger, policies, lists and orders would have them, and writes the exports.
//!
//! ```text
//! door -touched-> enforcer thread: taken back, disputed, set aside first; then what is new; then, if need be, everything
//! operator -order-> door (journal) -> Enforcer::obey -> exports written before the operator is answered
//! ```
//!
//! An export is one or more files `outlets/NAME.*` in the format of its tool ([`Delivery`]). Beside them
//! `outlets/NAME.lines.jsonl` says of every line, enforced or not, by which record and policy it stands there; it is ten times
//! as long and follows within half a minute. After a restart the lines are read back from there; lost, they begin as new
//! ones, within the hour's room. A node that was away leaves the last export as it is until it has heard what was taken back since.

use super::{
    Current,
    delivery::{Delivery, Shelf, Tell, empty_forgotten, replace},
};
use crate::{
    access::{Access, Shown},
    clock::Clock,
    enforce::{Evidence, Exception, Line, MassWithdrawal, Order, OrderEntry, Orders, Outlet, OutletSet, Proposal, Stage, StageCounts},
    exchange::{Entry, Tool},
    intake::Intake,
    ledger::{Ledger, LedgerError, Place, Touched},
    policy::Permission,
    query::{Assessment, Prospect, Reading, value_behind},
    record::{HOUR_MS, MemberId, Observable, Record, RecordRef, Timestamp, Tlp, Use},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Values that are looked at before the exports are written, when something was taken back.
const URGENT_CHUNK: usize = 4_096;
/// How long additions may wait for the next writing of an export; removals do not wait.
const WRITE_DELAY: Duration = Duration::from_millis(200);
/// Values looked at before removals are asked for again.
const CHUNK: usize = 256;
/// Values that may wait to be looked at, some 40 MiB; beyond it everything is looked at in the ledger's order, which needs no
/// memory.
const PENDING_MAX: usize = 262_144;
/// Batches looked at in a sweep before removals are asked for again.
const SWEEP_CHUNK: u64 = 4;
/// How often what is over or staged is looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often the reasons of a long export are written: a million lines are some 270 MB.
const LINES_DELAY_MS: u64 = 30_000;
/// Up to so many lines their reasons are written with every change.
const LINES_SHORT: usize = 20_000;
/// Exports of an outlet that can be gone back to.
const EXPORTS_KEPT: usize = 1_000;
/// When a tool that could not be told is told again.
const RETELL_MS: u64 = 10_000;
/// How often everything is looked at anew, because policies may read the age of records.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3_600);
/// How long it is remembered that an outlet had a line, and for how many records at most.
const LATELY_MS: u64 = 24 * HOUR_MS;
const TAKEN_MAX: usize = 256 * 1024;
/// A node whose exports are older than this when it starts was away: what was taken back meanwhile is in none of its records.
const AWAY_MS: u64 = HOUR_MS;

/// The handle of the enforcer.
#[derive(Clone)]
pub struct Enforcer {
    shared: Arc<Shared>,
}

struct Shared {
    ledger: Ledger,
    current: Current,
    access: Access,
    clock: Clock,
    directory: PathBuf,
    desk: Mutex<Desk>,
    /// Held while exports are written and their tools are told.
    telling: Mutex<()>,
    waiting: Mutex<Waiting>,
    through: AtomicU64,
    /// Nothing is written but by order: others have to be heard first.
    awaits: AtomicBool,
    woken: Condvar,
}

/// Lines and orders together: every export is a function of both.
struct Desk {
    orders: Orders,
    outlets: Vec<Kept>,
}

/// One outlet with its export.
struct Kept {
    set: OutletSet,
    shelf: Shelf,
    dirty: bool,
    /// When the tool is told again, after it could not be told.
    again: Option<Timestamp>,
    /// The reasons have to be written: in time, or at once because a stage was decided by a person.
    reasons: Reasons,
    reasons_at: Timestamp,
    serial: u64,
    /// The last exports, with the times at which they were written, the newest last.
    exports: VecDeque<(u64, Timestamp)>,
    written: Option<Timestamp>,
    given: Given,
    lines: usize,
    failure: Option<String>,
    /// When it was last said that an origin is at its cap; as many as the charter has members.
    alarmed: BTreeMap<MemberId, Timestamp>,
}

/// A line of an outlet's export, and the record for which it stands there.
pub struct OutletEntry {
    pub entry: Entry,
    pub record: RecordRef,
}

/// What of `NAME.lines.jsonl` is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reasons {
    Written,
    Due,
    Urgent,
}

#[derive(Default)]
struct Waiting {
    touched: Touched,
    /// All batches with lower numbers have been told.
    upto: u64,
    caught_up: bool,
    stop: bool,
}

/// One line as it stands in `NAME.lines.jsonl`.
#[derive(Serialize, Deserialize)]
struct StoredLine {
    value: String,
    #[serde(rename = "type")]
    kind: String,
    stage: Stage,
    since: u64,
    until: u64,
    origin: MemberId,
    record: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    below: bool,
    policies: Vec<String>,
    reasons: Vec<String>,
}

/// An outlet, for people.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OutletLine {
    pub name: String,
    pub kind: String,
    #[serde(rename = "use")]
    pub usage: String,
    pub types: Vec<String>,
    pub tlp_max: String,
    /// `monitor` or `enforce`.
    pub mode: String,
    /// By which order nothing is enforced there, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Lines in the export.
    pub lines: usize,
    pub serial: u64,
    /// The serial that an operator went back to, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<u64>,
    pub written: Option<String>,
    /// Of its tool.
    #[serde(default)]
    pub format: String,
    pub file: String,
    /// Values that the format cannot hold, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<String, u64>,
    /// Values for which there was no room.
    pub beyond: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The node was away, and has not yet heard what was taken back meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits: bool,
    pub origins: Vec<OriginLine>,
}

/// An origin at an outlet, for people.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OriginLine {
    pub origin: String,
    pub mode: String,
    /// Nothing of it is enforced anywhere.
    pub stopped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<u32>,
    #[serde(flatten)]
    pub counts: StageCounts,
    /// The hour's additions are used up.
    pub at_cap: bool,
}

/// A line that hits a value, for people.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HitLine {
    pub outlet: String,
    pub file: String,
    /// Line in the file, from 1; none where it is not in the export.
    pub line: Option<usize>,
    pub value: String,
    pub below: bool,
    pub stage: Stage,
    pub origin: String,
    pub record: String,
    pub because: String,
    pub since: String,
    pub until: String,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Enforcer {
    /// Outlets as the configuration has them, with the lines that were written last, under the orders of the journal.
    pub fn open(
        data: &Path,
        outlets: Vec<(Outlet, Delivery)>,
        ledger: Ledger,
        current: Current,
        access: Access,
        clock: Clock,
    ) -> Result<Self, LedgerError> {
        let (orders, directory, now) = (ledger.orders()?, data.join("outlets"), clock.now());
        let named: Vec<_> = outlets.iter().map(|(outlet, delivery)| (outlet.name.clone(), delivery.tool)).collect();
        empty_forgotten(&directory, &named);
        let mut last_written = None;
        let kept = |(outlet, delivery): (Outlet, Delivery)| {
            let shelf = Shelf::new(&directory, &outlet.name, outlet.usage == Use::Block, delivery);
            let path = directory.join(format!("{}.lines.jsonl", outlet.name));
            let mut set = OutletSet::new(outlet);
            set.shows_watched = shelf.can_watch();
            set.shows_ends = shelf.delivery.tool == Tool::Nftables;
            let (serial, failure) = match restore(&path, &mut set, now) {
                Ok(Restored { serial, written }) => {
                    last_written = last_written.max(written);
                    (serial, None)
                }
                Err(error) => (0, Some(format!("{}: {error}; its lines begin anew", path.display()))),
            };
            let given = Given::of(&set);
            Kept {
                set,
                shelf,
                dirty: true,
                again: None,
                reasons: Reasons::Due,
                reasons_at: now,
                serial,
                exports: VecDeque::new(),
                given,
                written: None,
                lines: 0,
                failure,
                alarmed: BTreeMap::new(),
            }
        };
        let desk = Desk { orders, outlets: outlets.into_iter().map(kept).collect() };
        let away = last_written.is_some_and(|at| now.ms_since(at) > AWAY_MS);
        if away {
            tracing::warn!("this node was away; exports stay as they are until it has heard what was taken back meanwhile");
        }
        let shared = Shared {
            access,
            ledger,
            current,
            clock,
            directory,
            desk: Mutex::new(desk),
            telling: Mutex::default(),
            waiting: Mutex::default(),
            through: AtomicU64::new(0),
            awaits: AtomicBool::new(away),
            woken: Condvar::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether there is any outlet.
    pub fn is_idle(&self) -> bool {
        held(&self.shared.desk).outlets.is_empty()
    }

    /// The outlets as they are configured.
    pub fn specs(&self) -> Vec<Outlet> {
        held(&self.shared.desk).outlets.iter().map(|kept| kept.set.outlet.clone()).collect()
    }

    /// The last exports of an outlet since this node started, by serial and time, the newest last.
    pub fn exports(&self, outlet: &str) -> Vec<(u64, Timestamp)> {
        let desk = held(&self.shared.desk);
        let found = desk.outlets.iter().find(|kept| kept.set.outlet.name == outlet);
        found.map(|kept| kept.exports.iter().copied().collect()).unwrap_or_default()
    }

    /// What operators ordered.
    pub fn orders(&self) -> Orders {
        held(&self.shared.desk).orders.clone()
    }

    /// Says what changed in the ledger.
    pub fn touch(&self, touched: Touched) {
        if !touched.is_empty() {
            held(&self.shared.waiting).touched.add(touched);
            self.shared.woken.notify_one();
        }
    }

    /// Says that whatever the batches with lower numbers change has been told.
    pub fn told(&self, upto: u64) {
        held(&self.shared.waiting).upto = upto;
    }

    /// Whether exports wait until others have been heard, because the node was away.
    pub fn awaits(&self) -> bool {
        self.shared.awaits.load(Ordering::Relaxed)
    }

    /// Says that what was taken back while the node was away has been told, or that nobody can be heard.
    pub fn caught_up(&self) {
        held(&self.shared.waiting).caught_up = true;
        self.shared.woken.notify_one();
    }

    /// Exports are rebuilt with every batch that has a lower number.
    pub fn through(&self) -> u64 {
        self.shared.through.load(Ordering::Relaxed)
    }

    /// Policies, lists or the roster changed: everything is looked at.
    pub fn look_at_everything(&self) {
        self.touch(Touched { everything: true, ..Touched::default() });
    }

    /// Ends [`Self::run`].
    pub fn stop(&self) {
        held(&self.shared.waiting).stop = true;
        self.shared.woken.notify_one();
    }

    /// Takes an order into account that is in the journal.
    pub fn obey(&self, entry: &OrderEntry) {
        let intake = self.shared.current.get();
        let mut desk = held(&self.shared.desk);
        let Desk { orders, outlets } = &mut *desk;
        orders.apply(entry);
        for kept in outlets {
            let protects = |value: &Observable, below: bool| protects(&intake, orders, value, below, entry.at);
            kept.set.obey(&entry.order, orders, intake.lists.can_clear(), &protects, entry.at);
            kept.dirty = true;
            if matches!(entry.order, Order::Mode { .. } | Order::Admit { .. } | Order::Keep { .. } | Order::Unkeep { .. }) {
                kept.reasons = Reasons::Urgent;
            }
        }
        if matches!(entry.order, Order::Force { .. } | Order::Unforce { .. }) {
            drop(desk);
            if let Order::Force { value, .. } | Order::Unforce { value } = &entry.order
                && let Ok(value) = Observable::recognise(value)
                && let Err(error) = self.look_at(std::slice::from_ref(&value))
            {
                tracing::error!(%error, "a value could not be looked at again");
                self.look_at_everything();
            }
        }
    }

    /// Writes every export that has changed, unless they wait.
    fn write_in_turn(&self) {
        if !self.awaits() {
            self.write();
        }
    }

    /// Writes every export that has changed, and tells the tools. Answers how many lines stand in each outlet now.
    pub fn write(&self) -> Vec<(String, usize)> {
        // Tools are told in the order in which exports are written; nobody who only looks has to wait for them.
        let _in_turn = held(&self.shared.telling);
        let now = self.shared.clock.now();
        let (mut counts, mut tells) = (Vec::new(), Vec::new());
        {
            let mut desk = held(&self.shared.desk);
            let Desk { orders, outlets } = &mut *desk;
            for (at, kept) in outlets.iter_mut().enumerate() {
                match kept.write(&self.shared, orders, now) {
                    Ok(tell) => tells.extend(tell.map(|tell| (at, tell))),
                    Err(error) => {
                        tracing::error!(%error, outlet = kept.set.outlet.name, "an export could not be written; the last one stands");
                        kept.failure = Some(error);
                    }
                }
                counts.push((kept.set.outlet.name.clone(), kept.lines));
            }
        }
        for (at, tell) in tells {
            let told = tell.run();
            let mut desk = held(&self.shared.desk);
            let Some(kept) = desk.outlets.get_mut(at) else { continue };
            if let Err(error) = &told {
                tracing::error!(%error, outlet = kept.set.outlet.name, "a tool could not be told of its export; it is told again");
            }
            kept.shelf.told(told.is_ok());
            kept.again = told.is_err().then(|| now.plus_ms(RETELL_MS));
            kept.failure = told.err();
        }
        counts
    }

    /// Looks at values anew.
    fn look_at(&self, values: &[Observable]) -> Result<(), LedgerError> {
        let mut reading = Reading::whole(&self.shared.ledger, self.shared.clock.now());
        values.iter().try_for_each(|value| {
            let places = reading.places(value)?;
            self.consider(&mut reading, value, &places)
        })
    }

    /// Returns true if anything may be newly enforced: not while protective lists cannot be read, nor while the clock is doubted.
    fn may_add(&self, intake: &Intake) -> bool {
        intake.lists.can_clear() && !self.shared.clock.moment().doubted
    }

    fn consider(&self, reading: &mut Reading<'_>, value: &Observable, places: &[Place]) -> Result<(), LedgerError> {
        let (intake, now) = (self.shared.current.get(), self.shared.clock.now());
        // Each outlet acts on evidence up to its own marking, so its lines reveal nothing above it.
        let markings: BTreeSet<Tlp> = held(&self.shared.desk).outlets.iter().map(|kept| kept.set.outlet.marking()).collect();
        let mut assessed: BTreeMap<Tlp, Assessment> = BTreeMap::new();
        for tlp_max in markings {
            assessed.insert(tlp_max, reading.assess_at(&intake, value, places, tlp_max)?);
        }
        let may_add = self.may_add(&intake);
        let mut desk = held(&self.shared.desk);
        let Desk { orders, outlets } = &mut *desk;
        for kept in outlets {
            let Some(assessed) = assessed.get(&kept.set.outlet.marking()) else { continue };
            let proposals = match reading.prospect(&intake, assessed, &kept.set.outlet, orders) {
                Prospect::Permitted(proposals) => proposals,
                _ => Vec::new(),
            };
            let withdrawn = |line: &Line| self.withdrawal_came(line);
            let evidence = Evidence { proposals, behind: assessed.behind.clone(), withdrawn: &withdrawn };
            kept.dirty |= kept.set.consider(value, evidence, orders, may_add, now);
            kept.reasons = kept.reasons.max(Reasons::Due);
        }
        Ok(())
    }

    /// When the withdrawal of a line's record, or of its report, came; `None` if there is none, or one that erases.
    fn withdrawal_came(&self, line: &Line) -> Option<Timestamp> {
        let (ledger, record) = (&self.shared.ledger, &line.proposal.record);
        let report = line.behind.iter().find(|one| one.record == *record).and_then(|one| one.report.clone());
        let found = [Some(record), report.as_ref()].into_iter().flatten().find_map(|one| ledger.withdrawn(one).ok().flatten())?;
        let by: RecordRef = found.by.parse().ok()?;
        let came = ledger.batch_at(&by.feed, by.seq).ok().flatten().map(|batch| batch.entry.received);
        came.filter(|_| !found.reason().erases())
    }

    /// Sentences about withdrawals that are a large part of an outlet's lines.
    pub fn mass_withdrawals(&self) -> Vec<String> {
        let desk = held(&self.shared.desk);
        let said = |kept: &Kept| {
            let name = kept.set.outlet.name.clone();
            let line = move |one: MassWithdrawal| {
                // Without numbers: each change of the sentence would be another notification.
                let MassWithdrawal { origin, .. } = one;
                format!(
                    "{origin} withdrew more than a fifth of the lines of outlet `{name}` within an hour; `huecry outlets` shows how many. If that \
                     looks wrong, keep them in force while you ask: huecry outlets keep --origin {origin} --for 24h"
                )
            };
            kept.set.mass_withdrawals().into_iter().map(line).collect::<Vec<_>>()
        };
        desk.outlets.iter().flat_map(said).collect()
    }

    /// Works until [`Self::stop`]. A ledger that cannot be read is logged and looked at again with the next change.
    pub fn run(&self) {
        let mut sweep: Option<u64> = None;
        let (mut swept, mut ticked, mut written) = (Instant::now(), Instant::now(), Instant::now());
        let mut pending: Vec<Observable> = Vec::new();
        let mut standings = self.standings();
        // The last export stands until every line of it has been looked at: it may be half a minute older than the ledger.
        let restored: Vec<Observable> =
            held(&self.shared.desk).outlets.iter().flat_map(|kept| kept.set.lines()).map(|(value, _)| value.clone()).collect();
        for chunk in restored.chunks(CHUNK) {
            if held(&self.shared.waiting).stop {
                return;
            }
            if let Err(error) = self.look_at(chunk) {
                tracing::error!(%error, "lines of the last run could not be looked at");
            }
        }
        let mut again = false;
        self.look_at_everything();
        loop {
            let idle = pending.is_empty() && sweep.is_none();
            let Some((mut touched, upto, caught_up)) = self.wait(if idle { WRITE_DELAY } else { Duration::ZERO }) else { break };
            let urgent = !touched.records.is_empty() || !touched.feeds.is_empty();
            let result = (|| {
                for chunk in self.concerned(&touched)?.chunks(URGENT_CHUNK) {
                    self.look_at(chunk)?;
                    self.write_in_turn();
                }
                if caught_up {
                    self.shared.awaits.store(false, Ordering::Relaxed);
                    self.write();
                }
                if urgent {
                    self.write_in_turn();
                }
                pending.append(&mut touched.values);
                let behind = pending.len() > PENDING_MAX;
                if behind || touched.everything || swept.elapsed() >= SWEEP_INTERVAL {
                    // What lists protect since now does not wait for its turn.
                    self.look_at(&self.newly_protected())?;
                    self.write_in_turn();
                    // A sweep that runs goes to its end: whoever could start it anew all the time could keep it from ending.
                    again = true;
                    pending.truncate(PENDING_MAX);
                }
                if again && sweep.is_none() {
                    held(&self.shared.desk).outlets.iter_mut().for_each(|kept| kept.set.begin_sweep());
                    (sweep, swept, again) = (Some(0), Instant::now(), false);
                }
                let chunk: Vec<Observable> = pending.drain(..pending.len().min(CHUNK)).collect();
                self.look_at(&chunk)?;
                if let Some(from) = sweep {
                    sweep = self.sweep(from)?;
                }
                Ok::<_, LedgerError>(())
            })();
            if let Err(error) = result {
                tracing::error!(%error, "what is enforced could not be looked at anew; it is tried again");
                sweep = None;
                touched.everything = true;
                self.touch(touched);
                if caught_up {
                    self.caught_up();
                }
                std::thread::sleep(TICK);
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick();
                let now = self.standings();
                if now != standings {
                    self.look_at_members(now.iter().filter(|one| !standings.contains(*one)).map(|(id, _)| id.clone()).collect());
                    standings = now;
                    self.look_at_everything();
                }
            }
            // Additions gather; with nothing more to do they are written at once.
            if (pending.is_empty() && sweep.is_none()) || written.elapsed() >= WRITE_DELAY {
                self.write_in_turn();
                written = Instant::now();
                if pending.is_empty() && sweep.is_none() {
                    self.shared.through.store(upto, Ordering::Relaxed);
                }
            }
        }
        held(&self.shared.desk).outlets.iter_mut().for_each(|kept| kept.reasons = Reasons::Urgent);
        self.write_in_turn();
    }

    /// What changed since the last time, waiting a moment for it; `None` when it is time to stop.
    fn wait(&self, long: Duration) -> Option<(Touched, u64, bool)> {
        let mut waiting = held(&self.shared.waiting);
        if waiting.touched.is_empty() && !waiting.stop && !long.is_zero() {
            let (after, _timed_out) = self.shared.woken.wait_timeout(waiting, long).unwrap_or_else(PoisonError::into_inner);
            waiting = after;
        }
        let caught_up = std::mem::take(&mut waiting.caught_up);
        (!waiting.stop).then(|| (std::mem::take(&mut waiting.touched), waiting.upto, caught_up))
    }

    /// Values of lines that lists protect now: found without the ledger, a million of them in half a second.
    fn newly_protected(&self) -> Vec<Observable> {
        let (intake, now) = (self.shared.current.get(), self.shared.clock.now());
        let desk = held(&self.shared.desk);
        let lines = desk.outlets.iter().flat_map(|kept| kept.set.lines());
        lines
            .filter(|(value, line)| protects(&intake, &desk.orders, value, line.proposal.below, now))
            .map(|(value, _)| value.clone())
            .collect()
    }

    /// Looks at the lines of members whose standing changed.
    fn look_at_members(&self, members: BTreeSet<MemberId>) {
        let values: Vec<Observable> = held(&self.shared.desk).outlets.iter().flat_map(|kept| kept.set.of_members(&members)).collect();
        for chunk in values.chunks(URGENT_CHUNK) {
            if let Err(error) = self.look_at(chunk) {
                tracing::error!(%error, "lines of members whose standing changed could not be looked at");
            }
            self.write_in_turn();
        }
    }

    /// Values that are to be looked at because of what was taken back, disputed or set aside.
    fn concerned(&self, touched: &Touched) -> Result<Vec<Observable>, LedgerError> {
        let mut values = Vec::new();
        if !touched.records.is_empty() || !touched.feeds.is_empty() {
            let desk = held(&self.shared.desk);
            for kept in &desk.outlets {
                values.extend(kept.set.behind(&touched.records));
                touched.feeds.iter().for_each(|feed| values.extend(kept.set.of_feed(feed)));
            }
        }
        let mut reading = Reading::whole(&self.shared.ledger, self.shared.clock.now());
        for record in &touched.records {
            values.extend(value_behind(&mut reading, record)?);
        }
        values.sort();
        values.dedup();
        Ok(values)
    }

    /// Looks at some batches of everything; answers where to go on. In the order of the ledger, because reading a batch
    /// costs more than finding the other records of its values.
    fn sweep(&self, from: u64) -> Result<Option<u64>, LedgerError> {
        let end = self.shared.ledger.batches();
        let mut reading = Reading::whole(&self.shared.ledger, self.shared.clock.now());
        let to = (from + SWEEP_CHUNK).min(end);
        for number in from..to {
            let Some(batch) = reading.batch(number)?.filter(|batch| batch.aside.is_none()) else { continue };
            for index in 0..batch.head.count {
                let Some(Record::Indicator(indicator)) = batch.record(index) else { continue };
                let places = reading.places(&indicator.value)?;
                // The first record of a value stands for all of them.
                if reading.is_first(&indicator.value, Place { batch: number, index }, &places)? {
                    self.consider(&mut reading, &indicator.value, &places)?;
                }
            }
        }
        if to < end {
            return Ok(Some(to));
        }
        for kept in &mut held(&self.shared.desk).outlets {
            kept.dirty |= kept.set.end_sweep();
        }
        Ok(None)
    }

    /// How every member stands; when that changes, policies see it.
    fn standings(&self) -> Vec<(MemberId, &'static str)> {
        let (roster, now) = (Arc::clone(&self.shared.current.get().roster), self.shared.clock.now());
        roster.charter().charter().members.iter().map(|member| (member.id.clone(), roster.standing(&member.id, now).name())).collect()
    }

    /// What time alone changes: lines that are over, exceptions that are over, room for what is staged.
    fn tick(&self) {
        self.alarm();
        let (now, intake) = (self.shared.clock.now(), self.shared.current.get());
        let may_add = self.may_add(&intake);
        let mut desk = held(&self.shared.desk);
        let Desk { orders, outlets } = &mut *desk;
        let expired = orders.expire(now);
        let mut over: Vec<Observable> = expired.iter().filter_map(|value| Observable::recognise(value).ok()).collect();
        for kept in outlets {
            let protects = |value: &Observable, below: bool| protects(&intake, orders, value, below, now);
            let ticked = kept.set.tick(orders, may_add, &protects, now);
            kept.dirty |= ticked || !expired.is_empty() || kept.again.is_some_and(|at| at <= now);
            over.extend(kept.set.over(now));
            // The export leaves out what is over by itself.
            kept.dirty |= !over.is_empty();
        }
        drop(desk);
        for chunk in over.chunks(URGENT_CHUNK) {
            if let Err(error) = self.look_at(chunk) {
                tracing::error!(%error, "lines that are over could not be looked at");
            }
            self.write_in_turn();
        }
    }

    /// Says once an hour in the log that an origin has used up its room.
    fn alarm(&self) {
        let now = self.shared.clock.now();
        let mut desk = held(&self.shared.desk);
        let Desk { orders, outlets } = &mut *desk;
        for kept in outlets {
            for (origin, counts) in kept.set.counts() {
                let quiet = kept.alarmed.get(origin).is_some_and(|at| now.ms_since(*at) < HOUR_MS);
                if counts.staged > 0 && !quiet && kept.set.at_cap(origin, orders, now) {
                    let (outlet, staged) = (&kept.set.outlet.name, counts.staged);
                    tracing::warn!(%origin, outlet, staged, "an origin has used up the hour's additions; what is beyond is staged");
                    kept.alarmed.insert(origin.clone(), now);
                }
            }
        }
    }

    /// The outlets, for people.
    pub fn outlets(&self) -> Vec<OutletLine> {
        let (desk, now) = (held(&self.shared.desk), self.shared.clock.now());
        let awaits = self.awaits();
        let line = |kept: &Kept| OutletLine { awaits, ..outlet_line(kept, &desk.orders, now) };
        desk.outlets.iter().map(line).collect()
    }

    /// Outlets whose exports have a line for this record, or had one within a day.
    pub fn held_lately(&self, record: &RecordRef) -> Vec<String> {
        let (number, desk) = (number_of(record), held(&self.shared.desk));
        let holds = |kept: &&Kept| kept.given.held.contains(&number) || kept.given.taken.contains_key(&number);
        desk.outlets.iter().filter(holds).map(|kept| kept.set.outlet.name.clone()).collect()
    }

    /// The serial of an outlet's export: when it is the same, so is the export.
    pub fn serial(&self, outlet: &str) -> Option<u64> {
        let desk = held(&self.shared.desk);
        desk.outlets.iter().find(|kept| kept.set.outlet.name == outlet).map(|kept| kept.serial)
    }

    /// Values of an outlet's lines that hit a value, whether they stand in its export or not.
    pub fn hits(&self, outlet: &str, value: &Observable) -> Vec<Observable> {
        let desk = held(&self.shared.desk);
        let kept = desk.outlets.iter().find(|kept| kept.set.outlet.name == outlet);
        kept.map(|kept| kept.set.hitting(value).into_iter().map(|(line, _)| line.clone()).collect()).unwrap_or_default()
    }

    /// What stands in an outlet's export now, by the order of values, from behind `after` on; `None` if there is no such outlet.
    pub fn standing(&self, outlet: &str, after: Option<&Observable>, limit: usize) -> Option<Vec<OutletEntry>> {
        let (desk, now) = (held(&self.shared.desk), self.shared.clock.now());
        let kept = desk.outlets.iter().find(|kept| kept.set.outlet.name == outlet)?;
        let entry = |(value, line): (&Observable, &Line), watched: bool| {
            let Proposal { below, until, record, .. } = line.proposal.clone();
            OutletEntry { entry: Entry { value: value.clone(), below, until, watched }, record }
        };
        let is_behind = |(value, _): &(&Observable, &Line)| after.is_none_or(|after| *value > after);
        let enforced = kept.set.export(&desk.orders, now).into_iter().filter(is_behind).take(limit).map(|one| entry(one, false));
        let watched = kept.set.watched(&desk.orders, now).into_iter().filter(is_behind).take(limit).map(|one| entry(one, true));
        let mut entries: Vec<OutletEntry> = enforced.chain(watched).collect();
        entries.sort_by(|one, other| one.entry.cmp(&other.entry));
        entries.truncate(limit);
        Some(entries)
    }

    /// The lines that hit a value or stand on it as their host, in all outlets, enforced or not.
    pub fn hitting(&self, value: &Observable) -> Vec<HitLine> {
        let (desk, now) = (held(&self.shared.desk), self.shared.clock.now());
        let mut hits = Vec::new();
        for kept in &desk.outlets {
            let found = kept.set.lifted(value);
            let export = if found.is_empty() { Vec::new() } else { kept.set.export(&desk.orders, now) };
            for (line, it) in found {
                let plain = kept.shelf.delivery.tool == Tool::List;
                let number = export.iter().position(|(value, _)| *value == line).map(|at| at + 1).filter(|_| plain);
                let file = kept.shelf.file().display().to_string();
                let order = desk.orders.keeps(&kept.set.outlet.name, &it.proposal.origin, Timestamp::START, now);
                let mut hit = hit_line(&kept.set.outlet.name, file, number, line, it);
                if let (Stage::Kept, Some(order)) = (it.stage, order) {
                    let Exception { by, reason, until, .. } = order;
                    hit.because = format!("kept in force by {by} until {until} although its author withdrew it: {reason}");
                }
                hits.push(hit);
            }
        }
        hits
    }
}

/// Whether lists keep a line from being enforced, now: it is on one that protects, or would hit what is.
fn protects(intake: &Intake, orders: &Orders, value: &Observable, below: bool, now: Timestamp) -> bool {
    intake.lists.protecting(value, below).next().is_some() && !orders.is_forced(value, now)
}

fn hit_line(outlet: &str, file: String, number: Option<usize>, value: &Observable, line: &Line) -> HitLine {
    let Proposal { origin, record, below, until, permission, .. } = &line.proposal;
    HitLine {
        outlet: outlet.to_owned(),
        file,
        line: number,
        value: value.to_string(),
        below: *below,
        stage: line.stage,
        origin: origin.to_string(),
        record: record.to_string(),
        because: permission.because(),
        since: line.since.to_string(),
        until: until.to_string(),
    }
}

fn outlet_line(kept: &Kept, orders: &Orders, now: Timestamp) -> OutletLine {
    let Kept { set, shelf, serial, written, lines, failure, .. } = kept;
    let Outlet { name, kind, usage, types, tlp_max, .. } = &set.outlet;
    let word = |mode: crate::enforce::Mode| match mode {
        crate::enforce::Mode::Monitor => "monitor".to_owned(),
        crate::enforce::Mode::Enforce => "enforce".to_owned(),
    };
    let origin = |(origin, counts): (&MemberId, &StageCounts)| OriginLine {
        origin: origin.to_string(),
        mode: word(orders.origin_mode(name, origin)),
        stopped: orders.origin_stopped(origin),
        throttled: orders.throttled.get(origin).copied(),
        counts: *counts,
        at_cap: counts.staged > 0 && set.at_cap(origin, orders, now),
    };
    OutletLine {
        name: name.clone(),
        kind: kind.to_string(),
        usage: usage.to_string(),
        types: types.iter().map(ToString::to_string).collect(),
        tlp_max: tlp_max.label(),
        mode: word(orders.outlet_mode(name)),
        stopped: orders.outlet_stopped(name).map(ToString::to_string),
        lines: *lines,
        serial: *serial,
        rolled_back: orders.rolled_back.get(name).map(|(serial, _)| *serial),
        written: written.map(|at| at.to_string()),
        format: shelf.delivery.tool.name().to_owned(),
        file: shelf.file().display().to_string(),
        left: shelf.left.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
        beyond: set.beyond,
        failure: failure.clone(),
        awaits: false,
        origins: set.counts().filter(|(_, counts)| **counts != StageCounts::default()).map(origin).collect(),
    }
}

/// The last writing of an outlet's lines.
#[derive(Default)]
struct Restored {
    serial: u64,
    written: Option<Timestamp>,
}

/// Reads back the lines that were written last.
fn restore(path: &Path, set: &mut OutletSet, now: Timestamp) -> Result<Restored, String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Restored::default()),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let mut lines = BufReader::new(file).lines();
    let first = lines.next().ok_or("it is empty")?.map_err(|error| error.to_string())?;
    let head: BTreeMap<String, u64> = serde_json::from_str(&first).map_err(|error| error.to_string())?;
    for (number, line) in (2..).zip(lines) {
        let line = line.map_err(|error| error.to_string())?;
        let stored: StoredLine = serde_json::from_str(&line).map_err(|error| format!("line {number}: {error}"))?;
        let (value, proposal) = stored.proposal().ok_or_else(|| format!("line {number} is no line of an export"))?;
        let since = Timestamp::from_ms(stored.since).ok_or_else(|| format!("line {number} has no time"))?;
        set.restore(value, stored.stage, since, proposal, now);
    }
    let written = head.get("written").and_then(|at| Timestamp::from_ms(*at));
    Ok(Restored { serial: head.get("serial").copied().unwrap_or(0), written })
}

impl StoredLine {
    fn of(value: &Observable, line: &Line) -> Self {
        let Proposal { origin, record, below, until, permission, .. } = &line.proposal;
        Self {
            value: value.to_string(),
            kind: value.kind().to_string(),
            stage: line.stage,
            since: line.since.ms(),
            until: until.ms(),
            origin: origin.clone(),
            record: record.to_string(),
            below: *below,
            policies: permission.policies.clone(),
            reasons: permission.reasons.clone(),
        }
    }

    fn proposal(&self) -> Option<(Observable, Proposal)> {
        let value = Observable::from_text(self.kind.parse().ok()?, &self.value).ok()?;
        let record: RecordRef = self.record.parse().ok()?;
        let (policies, reasons) = (self.policies.clone(), self.reasons.clone());
        let permission = Arc::new(Permission { permitted: true, policies, reasons });
        Some((
            value,
            Proposal {
                origin: self.origin.clone(),
                record,
                below: self.below,
                until: Timestamp::from_ms(self.until)?,
                rank: 0,
                permission,
            },
        ))
    }
}

/// The records for which an export has lines, by their hashes.
struct Given {
    /// Acted on.
    held: HashSet<u64>,
    /// Acted on lately, and until when.
    taken: HashMap<u64, Timestamp>,
    /// Noted as given to the outlet, also to be watched only.
    noted: HashSet<u64>,
}

impl Given {
    fn of(set: &OutletSet) -> Self {
        let number = |(_, line): (&Observable, &Line)| number_of(&line.proposal.record);
        let held = set.lines().filter(|(_, line)| matches!(line.stage, Stage::Enforced | Stage::Kept)).map(number).collect();
        Self { held, taken: HashMap::new(), noted: set.lines().map(number).collect() }
    }

    /// Notes which records an outlet is given that it did not have. What protects goes on if that cannot be noted, and it is tried again.
    fn note(&mut self, shared: &Shared, outlet: &Outlet, records: impl Iterator<Item = RecordRef>) {
        if !shared.access.notes(outlet.tlp_max) {
            return;
        }
        let (mut shown, mut noted) = (Shown::default(), HashSet::new());
        for record in records {
            let number = number_of(&record);
            noted.insert(number);
            if !self.noted.contains(&number)
                && shared.ledger.marking(&record).is_ok_and(|tlp| tlp.is_some_and(|tlp| shared.access.notes(tlp)))
            {
                shown.add(&record);
            }
        }
        match shared.access.note(shared.clock.moment(), &format!("outlet {}", outlet.name), "outlet", None, &shown) {
            Ok(()) => self.noted = noted,
            Err(error) => tracing::error!(%error, outlet = outlet.name, "it could not be noted what an outlet is given"),
        }
    }

    /// Remembers what is acted on now, and what is no more.
    fn take(&mut self, records: impl Iterator<Item = RecordRef>, now: Timestamp) {
        let held: HashSet<u64> = records.map(|record| number_of(&record)).collect();
        self.taken.retain(|_, until| now.ms_since(*until) < LATELY_MS);
        let room = TAKEN_MAX.saturating_sub(self.taken.len());
        self.taken.extend(self.held.difference(&held).take(room).map(|number| (*number, now)));
        self.held = held;
    }
}

fn number_of(record: &RecordRef) -> u64 {
    xxhash_rust::xxh3::xxh3_64(record.to_string().as_bytes())
}

impl Kept {
    /// Writes what has changed; answers how the tool is told.
    fn write(&mut self, shared: &Shared, orders: &Orders, now: Timestamp) -> Result<Option<Tell>, String> {
        let (name, directory) = (self.set.outlet.name.clone(), &shared.directory);
        let mut tell = None;
        if self.dirty {
            let entry = |(value, line): (&Observable, &Line), watched: bool| {
                let Proposal { below, until, .. } = line.proposal;
                Entry { value: value.clone(), below, until, watched }
            };
            let exported = self.set.export(orders, now);
            let watched = if self.shelf.can_watch() { self.set.watched(orders, now) } else { Vec::new() };
            let record = |(_, line): &(&Observable, &Line)| line.proposal.record.clone();
            self.given.note(shared, &self.set.outlet, exported.iter().chain(&watched).map(record));
            self.given.take(exported.iter().map(record), now);
            let mut entries: Vec<Entry> = exported.into_iter().map(|one| entry(one, false)).collect();
            let lines = entries.len();
            if self.shelf.can_watch() {
                entries.extend(watched.into_iter().map(|one| entry(one, true)));
                entries.sort();
            }
            // Seconds since 1970, and never the same twice: it rises over restarts without being kept anywhere.
            let serial = (self.serial + 1).max(now.ms() / 1_000);
            tell = Some(self.shelf.write(entries, serial, now)?);
            if self.exports.len() >= EXPORTS_KEPT {
                self.exports.pop_front();
            }
            self.exports.push_back((serial, now));
            (self.serial, self.lines, self.written, self.dirty) = (serial, lines, Some(now), false);
            (self.failure, self.again) = (None, None);
        }
        let due = self.set.lines().len() <= LINES_SHORT || now.ms_since(self.reasons_at) >= LINES_DELAY_MS;
        if self.reasons == Reasons::Urgent || (self.reasons == Reasons::Due && due) {
            replace(&directory.join(format!("{name}.lines.jsonl")), |out| {
                writeln!(out, "{{\"serial\":{},\"written\":{}}}", self.serial, now.ms())?;
                self.set.lines().try_for_each(|(value, line)| {
                    serde_json::to_writer(&mut *out, &StoredLine::of(value, line))?;
                    out.write_all(b"\n")
                })
            })?;
            (self.reasons, self.reasons_at) = (Reasons::Written, now);
        }
        Ok(tell)
    }
}
