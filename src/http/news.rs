//! News: what became other here, as it happens and since somebody looked last.
//!
//! ```text
//! GET /v1/events?after=CURSOR   server-sent events, one a record, each with the cursor behind it; goes on with what comes
//! GET /v1/news?after=CURSOR     how much of what, by member, and the cursor for the next time
//! GET /v1/members               who is in the federation, who is connected, how complete we are
//! ```
//!
//! Both read the journal behind a cursor, as deltas of exports do: nothing is missed over a restart of either side. What runs out is in no
//! journal: the cursor of an event says too up to which end these were told.

use super::{
    ApiError, Local, Operator, Witness,
    admission::Threads,
    blocking,
    contract::{Events, Json, Query},
    each_changed,
};
use crate::{
    config::{AccessMode, Role},
    ledger::{Change, Ledger, LedgerError, Place, Seen, View},
    query::{End, Ends, Found, LIVE_MS, Reading, Standing},
    record::{MemberId, Record, RecordRef, SECOND_MS, Timestamp, Tlp},
};
use axum::{
    Extension,
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    sync::{Mutex, MutexGuard, TryLockError},
    time::Duration,
};

/// How often a stream looks for more.
const POLL: Duration = Duration::from_millis(250);
/// Ends that are told at once.
const ENDS_MAX: usize = 1_000;
/// The same for a reader who comes from long ago: each time costs a look through the index, and what is told waits in memory.
const ENDS_BEHIND_MAX: usize = 8_192;
/// How often a reader is told where it is while nothing happens, so that it need not come back from long ago.
const NAMED_MS: u64 = 20 * SECOND_MS;
/// A line that says nothing, so that both ends know of each other.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Looks of 1,024 journal entries that one summary takes: some seconds of work. The summary of a longer absence is cut.
const PIECES_MAX: usize = 256;

/// From where on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewsParameters {
    /// A cursor of an answer before; unsaid, from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// One record that came or stands otherwise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// How it stands: `accepted`, `held`, `refused`, `withdrawn`, `over`, `waiting`, `quarantined`; or `expired`, when it has just run out.
    pub what: String,
    pub record: String,
    /// The value, defanged, or a title.
    pub about: String,
    pub kind: String,
    pub origin: String,
    pub tlp: String,
    pub ends: String,
    pub reason: String,
}

struct Reader {
    local: Local,
    witness: Witness,
    view: View,
    seen: Seen,
    /// The last end that was examined.
    told: End,
    /// The last end that the reader may know of.
    shown: End,
    /// Up to when the last cursor went.
    named: Timestamp,
    waiting: VecDeque<Result<Event, Infallible>>,
}

/// What runs out next, for all who follow; and who of them looks back, one at a time: many would keep the node from everything else.
#[derive(Default)]
pub struct Upcoming {
    shared: Mutex<Ends>,
    back: Mutex<()>,
}

impl Upcoming {
    /// As [`Ends::between`]; `None` while another looks, whose look takes a while: nothing is told then, and nothing lost.
    fn between(&self, ledger: &Ledger, told: End, now: Timestamp) -> Option<Result<(Vec<End>, End), LedgerError>> {
        if now.ms_since(told.0) < LIVE_MS {
            return unlocked(&self.shared).map(|mut ends| ends.between(ledger, told, now, ENDS_MAX));
        }
        unlocked(&self.back).map(|_one| Ends::knowing(ENDS_BEHIND_MAX).between(ledger, told, now, ENDS_BEHIND_MAX))
    }
}

fn unlocked<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Reader {
    /// Takes up what happened since, if anything did.
    fn more(&mut self) -> Result<(), ApiError> {
        let now = self.local.clock.now();
        let moved = self.view.here() != self.seen && self.changes(now)?;
        let ran_out = self.ran_out(now)?;
        if ran_out || moved || self.told.0.ms_since(self.named) > NAMED_MS {
            self.named = self.told.0;
            // A reader that comes back names it, and hears what follows.
            let cursor = self.cursor()?;
            self.waiting.push_back(Ok(Event::default().event("cursor").id(cursor.clone()).data(format!("\"{cursor}\""))));
        }
        self.witness.write()
    }

    /// Reports the changes since the last look. Returns true if there were any.
    fn changes(&mut self, now: Timestamp) -> Result<bool, ApiError> {
        let (entries, at, _) = self.view.changes_after(self.seen)?;
        let mut reading = Reading::of(&self.view, now);
        for entry in entries {
            for change in &entry.changes {
                let (waiting, witness) = (&mut self.waiting, &self.witness);
                let mut tell = |reading: &mut Reading<'_>, record: RecordRef, _| {
                    if let Some(found) = reading.named(&record)? {
                        waiting.push_back(Ok(event(witness, line(reading, &found)?)?));
                    }
                    Ok(true)
                };
                match change {
                    // All of a feed would be a flood; what its records are now is asked for.
                    Change::Feed(_) => (),
                    Change::Erased => waiting.push_back(Ok(Event::default().event("erased").data("{}"))),
                    change => drop(each_changed(&mut reading, &self.local, change, &mut tell)?),
                }
            }
        }
        let moved = at != self.seen;
        self.seen = at;
        Ok(moved)
    }

    /// What has run out since; answers whether anything has.
    fn ran_out(&mut self, now: Timestamp) -> Result<bool, ApiError> {
        let ledger = &self.local.ledger;
        // A clock that was set back must not silence the stream until it has caught up.
        let told = self.told.min((now, Place::LAST));
        let Some(found) = self.local.ends.between(ledger, told, now) else { return Ok(false) };
        let (ends, up_to) = found?;
        self.told = up_to;
        let (mut reading, mut any) = (Reading::of(&self.view, now), false);
        for (at, place) in &ends {
            let Some(found) = reading.found(*place)? else { continue };
            (self.shown, any) = ((*at, *place), true);
            // It may have been renewed or withdrawn in the meantime.
            if reading.standing(&found).0 == Standing::Over {
                let line = line(&mut reading, &found)?;
                self.waiting.push_back(Ok(event(&self.witness, EventLine { what: "expired".to_owned(), ..line })?));
            }
        }
        if self.told.1 == Place::LAST {
            self.shown = self.told;
        }
        Ok(any)
    }

    /// The cursor of a reader: the changes that it has seen, and an end.
    fn cursor(&self) -> Result<String, ApiError> {
        let (at, place) = self.shown;
        let place = if place == Place::LAST { None } else { self.view.spell_place(place)? };
        let place = place.map(|place| format!("-{place}")).unwrap_or_default();
        Ok(format!("{}@{}{place}", self.view.cursor(self.seen)?, at.ms()))
    }
}

/// Up to which end a reader was told who has this cursor; that of an export says nothing of ends, and now is where they begin.
fn told_of(cursor: &str, view: &View, now: Timestamp) -> Option<End> {
    let Some((_, end)) = cursor.split_once('@') else { return Some((now, Place::LAST)) };
    let parts = end.split('-').collect::<Vec<_>>();
    let at = Timestamp::from_ms(parts.first()?.parse().ok()?)?;
    let place = match parts[..] {
        [_] => Place::LAST,
        [_, place] => view.unspell_place(place)?,
        // As older versions wrote it.
        [_, batch, index] => Place { batch: batch.parse().ok()?, index: index.parse().ok()? },
        _ => return None,
    };
    // Nothing has run out that will: a clock that was set back must not silence the stream.
    Some((at, place).min((now, Place::LAST)))
}

/// The event of a line, which is noted as seen.
fn event(witness: &Witness, line: EventLine) -> Result<Event, ApiError> {
    witness.line(&line.record, &line.tlp);
    let data = serde_json::to_string(&line).map_err(ApiError::internal)?;
    Ok(Event::default().event(line.what).data(data))
}

fn line(reading: &mut Reading<'_>, found: &Found) -> Result<EventLine, ApiError> {
    let (said, about) = (reading.assertion(found)?, crate::query::title_of(&found.record));
    Ok(EventLine {
        what: said.standing.to_string(),
        record: said.reference,
        about,
        kind: said.kind,
        origin: said.origin,
        tlp: said.tlp,
        ends: said.ends,
        reason: said.reason,
    })
}

/// `GET /v1/events`.
pub(super) async fn events(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<NewsParameters>,
) -> Result<Events<EventLine>, ApiError> {
    witness.demand()?;
    let now = local.clock.now();
    let view = local.view(&operator);
    let (seen, told) = match &parameters.after {
        Some(cursor) => {
            let unread = || ApiError::bad(format!("`{}` is no cursor of events", crate::record::excerpt(cursor)));
            (view.read_cursor(cursor).map_err(ApiError::bad)?, told_of(cursor, &view, now).ok_or_else(unread)?)
        }
        None => (view.here(), (now, Place::LAST)),
    };
    let reader = Reader { local, witness, view, seen, told, shown: told, named: told.0, waiting: VecDeque::new() };
    // The first event is the place to come back to, even if nothing ever happens.
    let hello = {
        let cursor = reader.cursor()?;
        futures::stream::iter([Ok(Event::default().event("cursor").id(cursor.clone()).data(format!("\"{cursor}\"")))])
    };
    // Where the answer is under way, no request is being answered any more.
    let threads = Threads::here();
    let stream = futures::stream::unfold(Some((reader, threads)), |reader| async {
        let (mut reader, threads) = reader?;
        loop {
            if let Some(event) = reader.waiting.pop_front() {
                return Some((event, Some((reader, threads))));
            }
            let looked = threads.run(move || {
                reader.more()?;
                Ok(reader)
            });
            match looked.await.and_then(|looked| looked) {
                Ok(after) => reader = after,
                Err(error) => {
                    let (_, text) = error.parts();
                    return Some((Ok(Event::default().event("ended").data(text.replace(['\n', '\r'], " "))), None));
                }
            }
            if reader.waiting.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
    });
    Ok(Events::of(Sse::new(hello.chain(stream)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))))
}

/// What came of one member.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct NewsLine {
    pub member: String,
    pub accepted: u64,
    pub held: u64,
    pub refused: u64,
    /// Taken back by the member.
    pub withdrawn: u64,
    /// Judged anew, renewed or released here.
    pub judged: u64,
}

/// What happened since a cursor.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct NewsReply {
    pub cursor: String,
    pub lines: Vec<NewsLine>,
    pub set_aside: u64,
    pub erased: bool,
    /// There is more than was looked through: these are the older ones.
    pub cut: bool,
}

/// `GET /v1/news`.
pub(super) async fn news(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Query(parameters): Query<NewsParameters>,
) -> Result<Json<NewsReply>, ApiError> {
    blocking(move || {
        let view = local.view(&operator);
        let mut seen = match &parameters.after {
            Some(cursor) => view.read_cursor(cursor).map_err(ApiError::bad)?,
            None => view.here(),
        };
        let (mut reply, mut lines) = (NewsReply::default(), BTreeMap::<MemberId, NewsLine>::new());
        let mut reading = Reading::of(&view, local.clock.now());
        for piece in 0..PIECES_MAX {
            let (entries, onward, more) = view.changes_after(seen)?;
            for change in entries.iter().flat_map(|entry| &entry.changes) {
                match change {
                    Change::Batch(number) => {
                        let Some(batch) = reading.batch(*number)? else { continue };
                        let line = lines.entry(batch.head.member.clone()).or_default();
                        for index in 0..batch.head.count {
                            if let Some(Record::Withdrawal(withdrawal)) = batch.record(index) {
                                line.withdrawn += withdrawal.targets.len() as u64;
                                continue;
                            }
                            match batch.outcome(index).verdict() {
                                Some(crate::policy::Verdict::Accept) => line.accepted += 1,
                                Some(crate::policy::Verdict::Hold) => line.held += 1,
                                Some(crate::policy::Verdict::Refuse) => line.refused += 1,
                                None => (),
                            }
                        }
                    }
                    Change::Record(record) => {
                        if reading.named(record)?.is_some() {
                            lines.entry(record.feed.member.clone()).or_default().judged += 1;
                        }
                    }
                    Change::Feed(_) => reply.set_aside += 1,
                    Change::Erased => reply.erased = true,
                }
            }
            seen = onward;
            if !more {
                break;
            }
            reply.cut = piece + 1 == PIECES_MAX;
        }
        reply.cursor = view.cursor(seen)?;
        reply.lines = lines.into_iter().map(|(member, line)| NewsLine { member: member.to_string(), ..line }).collect();
        Ok(Json(reply))
    })
    .await
}

/// One member of the federation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MemberLine {
    pub id: String,
    pub name: String,
    pub kind: String,
    pub country: Option<String>,
    pub standing: String,
    /// This node's own.
    pub own: bool,
    /// Nodes of it that are connected, and the software they say they run.
    pub nodes: Vec<String>,
    /// Nodes of it that were dialled and not reached.
    pub unreachable: usize,
    pub records: u64,
    pub accepted: u64,
    pub held: u64,
    pub refused: u64,
    /// Batches that connected nodes have of its feeds and this one lacks.
    pub behind: u64,
    pub withheld: u64,
    pub newest: Option<String>,
}

/// `GET /v1/members`.
pub(super) async fn members(State(local): State<Local>, Extension(operator): Extension<Operator>) -> Json<Vec<MemberLine>> {
    let view = local.view(&operator);
    let (feeds, operates) = (view.feeds(), operator.operates() || operator.clearance == Tlp::Red);
    let (intake, now, network) = (local.current.get(), local.clock.now(), local.watch.get());
    let charter = intake.roster.charter().charter();
    let mut lines: Vec<MemberLine> = Vec::new();
    for member in &charter.members {
        let nodes: BTreeSet<String> = network
            .peers
            .iter()
            .filter(|peer| peer.member == member.id.as_str())
            .map(|peer| format!("{} ({})", peer.node, peer.software))
            .collect();
        let mut line = MemberLine {
            id: member.id.to_string(),
            name: member.name.clone(),
            kind: member.kind.to_string(),
            country: member.country.clone(),
            standing: intake.roster.standing(&member.id, now).name().to_owned(),
            own: member.id == local.identity.member,
            nodes: nodes.into_iter().collect(),
            unreachable: network.unreachable.iter().filter(|one| one.member == member.id.as_str()).count(),
            records: 0,
            accepted: 0,
            held: 0,
            refused: 0,
            behind: 0,
            withheld: 0,
            newest: None,
        };
        for seen in feeds.iter().filter(|seen| seen.feed.member == member.id) {
            line.records += seen.counts.total();
            line.accepted += seen.counts.accepted;
            line.held += seen.counts.held;
            line.refused += seen.counts.refused;
            let withheld = || local.ledger.feed(&seen.feed).map_or(0, |state| state.withheld);
            line.withheld += if seen.whole { withheld() } else { 0 };
            line.newest = line.newest.max(Some(seen.time.to_string()));
        }
        if operates {
            let of_member = |feed: &str| feed.split_once('/').is_some_and(|(id, _)| id == member.id.as_str());
            line.behind = network.behind.iter().filter(|(feed, _)| of_member(feed)).map(|(_, count)| count).sum();
        }
        lines.push(line);
    }
    Json(lines)
}

/// What somebody is who asks: for a page that shows what they may do.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Myself {
    pub name: String,
    pub token: Option<String>,
    pub roles: Vec<String>,
    pub clearance: String,
    /// Whether this node asks why one looks: `off`, `ask` or `require`.
    pub reasons: AccessMode,
}

/// `GET /v1/me`.
pub(super) async fn me(State(local): State<Local>, Extension(operator): Extension<Operator>) -> Json<Myself> {
    let roles = operator.roles.iter().map(Role::to_string).collect();
    Json(Myself { name: operator.name, token: operator.token, roles, clearance: operator.clearance.label(), reasons: local.access.mode() })
}
