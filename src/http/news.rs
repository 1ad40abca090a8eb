//! News: what became other here, as it happens and since somebody looked last.
//!
//! ```text
//! GET /v1/events?after=CURSOR   server-sent events, one a record, each with the cursor behind it; goes on with what comes
//! GET /v1/news?after=CURSOR     how much of what, by member, and the cursor for the next time
//! GET /v1/members               who is in the federation, who is connected, how complete we are
//! ```
//!
//! Both read the journal behind a cursor, as deltas of exports do: nothing is missed over a restart of either side. An end
//! that comes by itself is no event; each record is told with it.

use super::{ApiError, Local, Operator, Witness, blocking, each_changed};
use crate::{
    config::{AccessMode, Role},
    ledger::{Change, Position},
    query::Reading,
    record::{MemberId, Record, RecordRef, Tlp},
};
use axum::{
    Extension, Json,
    extract::{Query, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    time::Duration,
};

/// How often a stream looks for more.
const POLL: Duration = Duration::from_millis(250);
/// A line that says nothing, so that both ends know of each other.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Entries of the journal that one summary looks through: some seconds of work; a longer absence is told as such.
const PIECES_MAX: usize = 256;

/// From where on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewsParameters {
    /// A cursor of an answer before; unsaid, from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// One record that came or stands otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventLine {
    /// `accepted`, `held`, `refused`, `withdrawn`, `over`, `waiting`, `quarantined`; or `erased`.
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
    tlp_max: Tlp,
    position: Position,
    waiting: VecDeque<Result<Event, Infallible>>,
}

impl Reader {
    /// What stands behind the position, if anything.
    fn more(&mut self) -> Result<(), ApiError> {
        let (entries, (at, _)) = self.local.ledger.changes_from(self.position)?;
        let mut reading = Reading::new(&self.local.ledger, self.local.clock.now());
        for entry in entries {
            for change in &entry.changes {
                let (waiting, witness, tlp_max) = (&mut self.waiting, &self.witness, self.tlp_max);
                let mut tell = |reading: &mut Reading<'_>, record: RecordRef, _| {
                    if let Some(line) = line(reading, &record, tlp_max)? {
                        witness.line(&line.record, &line.tlp);
                        let data = serde_json::to_string(&line).map_err(ApiError::internal)?;
                        waiting.push_back(Ok(Event::default().event(line.what).data(data)));
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
        if at != self.position {
            // A reader that comes back names it, and hears what follows.
            let cursor = self.local.ledger.cursor_at(at)?;
            self.waiting.push_back(Ok(Event::default().event("cursor").id(cursor.clone()).data(format!("\"{cursor}\""))));
            self.position = at;
        }
        self.witness.write()
    }
}

fn line(reading: &mut Reading<'_>, record: &RecordRef, tlp_max: Tlp) -> Result<Option<EventLine>, ApiError> {
    let Some(found) = reading.named(record)?.filter(|found| found.batch.head.tlp <= tlp_max) else { return Ok(None) };
    let (said, about) = (reading.assertion_up_to(&found, tlp_max)?, crate::query::title_of(&found.record));
    Ok(Some(EventLine {
        what: said.standing.to_string(),
        record: said.reference,
        about,
        kind: said.kind,
        origin: said.origin,
        tlp: said.tlp,
        ends: said.ends,
        reason: said.reason,
    }))
}

/// `GET /v1/events`.
pub(super) async fn events(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<NewsParameters>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    witness.demand()?;
    let position = match &parameters.after {
        Some(cursor) => local.ledger.read_cursor(cursor).map_err(ApiError::bad)?,
        None => local.ledger.here()?,
    };
    let reader = Reader { local, witness, tlp_max: operator.clearance, position, waiting: VecDeque::new() };
    // The first event is the place to come back to, even if nothing ever happens.
    let hello = {
        let cursor = reader.local.ledger.cursor_at(position)?;
        futures::stream::iter([Ok(Event::default().event("cursor").id(cursor.clone()).data(format!("\"{cursor}\"")))])
    };
    let stream = futures::stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        loop {
            if let Some(event) = reader.waiting.pop_front() {
                return Some((event, Some(reader)));
            }
            let looked = blocking(move || {
                if reader.local.ledger.here()? != reader.position {
                    reader.more()?;
                }
                Ok(reader)
            })
            .await;
            match looked {
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
    Ok(Sse::new(hello.chain(stream)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// What came of one member.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
        let mut position = match &parameters.after {
            Some(cursor) => local.ledger.read_cursor(cursor).map_err(ApiError::bad)?,
            None => local.ledger.here()?,
        };
        let (mut reply, mut lines) = (NewsReply::default(), BTreeMap::<MemberId, NewsLine>::new());
        let mut reading = Reading::new(&local.ledger, local.clock.now());
        for piece in 0..PIECES_MAX {
            let (entries, (onward, more)) = local.ledger.changes_from(position)?;
            for change in entries.iter().flat_map(|entry| &entry.changes) {
                match change {
                    Change::Batch(number) => {
                        let Some(batch) = reading.batch(*number)?.filter(|batch| batch.head.tlp <= operator.clearance) else { continue };
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
                        let seen = reading.named(record)?.is_some_and(|found| found.batch.head.tlp <= operator.clearance);
                        if seen {
                            lines.entry(record.feed.member.clone()).or_default().judged += 1;
                        }
                    }
                    Change::Feed(_) => reply.set_aside += 1,
                    Change::Erased => reply.erased = true,
                }
            }
            position = onward;
            if !more {
                break;
            }
            reply.cut = piece + 1 == PIECES_MAX;
        }
        reply.cursor = local.ledger.cursor_at(position)?;
        reply.lines = lines.into_iter().map(|(member, line)| NewsLine { member: member.to_string(), ..line }).collect();
        Ok(Json(reply))
    })
    .await
}

/// One member of the federation.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
pub(super) async fn members(State(local): State<Local>) -> Json<Vec<MemberLine>> {
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
        for (feed, state) in local.ledger.feeds().into_iter().filter(|(feed, _)| feed.member == member.id) {
            line.records += state.counts.total();
            line.accepted += state.counts.accepted;
            line.held += state.counts.held;
            line.refused += state.counts.refused;
            line.withheld += state.withheld;
            line.behind += network.behind.get(&feed.to_string()).copied().unwrap_or(0);
            line.newest = line.newest.max(Some(state.time.to_string()));
        }
        lines.push(line);
    }
    Json(lines)
}

/// What somebody is who asks: for a page that shows what they may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
