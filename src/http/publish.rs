//! Publishing a file: its bytes come as the request's body and leave as signed batches, a chunk at a time.
//!
//! ```text
//! body -lines-> TextReader -items-> chunks of 4,096 -door-> batches           (parsing and signing overlap)
//! ```
//!
//! A dry run reads everything, signs nothing, and says whom it would reach and which lists its values are on.

use super::{ApiError, Local, operators::Deed, queue};
use crate::{
    envelope::Class,
    exchange::{Complaint, Item, LINE_BYTES_MAX, Layout, SNIFF_BYTES, TextReader, sniff},
    node::door::{DoorError, Publication, Published, ReportOf, Request, reach, shared_channel},
    record::{
        ChannelName, DAY_MS, Indicator, Kind, MemberId, Observable, Record, RecordRef, Report, Role, Scope, Source, Timestamp, Tlp,
        TypeName, Use,
    },
};
use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::{Query, State},
    response::IntoResponse,
};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    hash::BuildHasher as _,
};
use tokio::sync::oneshot;

/// Records handed to the door at once: sixteen full batches, some 10 ms of its time.
const CHUNK_RECORDS: usize = 4_096;
/// Most records of one publication; a longer list is several.
pub const PUBLICATION_RECORDS_MAX: usize = 5_000_000;
/// Complaints that are given back in full; the rest is a number.
const COMPLAINTS_MAX: usize = 50;
/// Pieces of the body that wait to be read.
const PIECES_MAX: usize = 32;

/// What the importing member says once about the whole list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishParameters {
    pub channel: String,
    pub tlp: String,
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_days: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// Separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Every domain means also what is below it.
    #[serde(default)]
    pub subdomains: bool,
    #[serde(default)]
    pub dry_run: bool,
    /// Do not wait for others to tell this node its own last head.
    #[serde(default)]
    pub alone: bool,
}

/// One member in a dry run's reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReachLine {
    pub member: String,
    pub reached: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// How many values are on one of our lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListHit {
    pub list: String,
    pub values: u64,
    pub first: String,
}

/// What became of a publication.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PublishReply {
    pub dry_run: bool,
    /// It waits, durable and unsigned, until the lane may publish; under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
    pub channel: String,
    pub tlp: String,
    pub audience: String,
    pub report: Option<String>,
    pub first: Option<String>,
    pub last: Option<String>,
    /// Indicators published, or to be published in a dry run.
    pub records: u64,
    pub batches: u64,
    /// By our own policy.
    pub accepted: u64,
    pub held: u64,
    pub refused: u64,
    pub lines: u64,
    pub duplicates: u64,
    /// Lines that gave nothing, in all; the first fifty are below.
    pub complaints: u64,
    pub first_complaints: Vec<ComplaintLine>,
    pub latin1_lines: u64,
    pub by_type: BTreeMap<String, u64>,
    pub reach: Vec<ReachLine>,
    /// How long it takes others to take them in under this member's quota, in milliseconds; 0 if at once.
    #[serde(default)]
    pub quota_ms: u64,
    pub lists: Vec<ListHit>,
}

/// A line that gave nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ComplaintLine {
    pub line: u64,
    pub why: String,
}

/// Parameters that were understood.
struct Plan {
    channel: ChannelName,
    tlp: Tlp,
    report: Report,
    layout: Layout,
    kind: Option<TypeName>,
    subdomains: bool,
    dry_run: bool,
}

fn plan(parameters: &PublishParameters, me: &MemberId, now: Timestamp) -> Result<Plan, ApiError> {
    fn word<T: std::str::FromStr<Err: std::fmt::Display>>(text: Option<&String>) -> Result<Option<T>, ApiError> {
        text.map(|text| text.parse()).transpose().map_err(ApiError::bad)
    }
    let tag = |tag: &str| Some(tag.trim().to_owned()).filter(|tag| !tag.is_empty());
    let valid_until = match (&parameters.valid_until, parameters.valid_days) {
        (Some(text), _) => {
            let moment = Timestamp::parse(text);
            Some(moment.ok_or_else(|| ApiError::bad(format!("`{text}` is no time; write 2026-12-31 or 2026-12-31T00:00:00Z")))?)
        }
        (None, Some(days)) => Some(now.plus_ms(u64::from(days) * DAY_MS)),
        (None, None) => None,
    };
    let report = Report {
        kind: Kind::Report,
        role: word::<Role>(parameters.role.as_ref())?,
        usage: word::<Use>(parameters.usage.as_ref())?,
        confidence: parameters.confidence,
        valid_from: None,
        valid_until,
        tags: parameters.tags.iter().flat_map(|tags| tags.split(',')).filter_map(tag).collect(),
        title: parameters.title.clone(),
        description: parameters.description.clone(),
        language: None,
        actors: Vec::new(),
        malware: Vec::new(),
        techniques: Vec::new(),
        references: Vec::new(),
        source: parameters.source.as_ref().map(|name| {
            let name = if name == "own" { me.to_string() } else { name.clone() };
            Source { organisation: Some(name), url: None, external_id: None }
        }),
        caveat: None,
        replaces: None,
    };
    // A report that readers would refuse is refused here, before anything is signed.
    Record::Report(report.clone()).encode().map_err(ApiError::bad)?;
    Ok(Plan {
        channel: parameters.channel.parse().map_err(ApiError::bad)?,
        tlp: Tlp::parse(&parameters.tlp).map_err(ApiError::bad)?,
        report,
        layout: word::<Layout>(parameters.layout.as_ref())?.unwrap_or(Layout::Plain),
        kind: word::<TypeName>(parameters.kind.as_ref())?,
        subdomains: parameters.subdomains,
        dry_run: parameters.dry_run,
    })
}

/// `POST /v1/publish`, with a line for the journal.
pub(super) async fn publish_deed(
    state: State<Local>,
    Query(parameters): Query<PublishParameters>,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let (title, channel, dry_run) = (parameters.title.clone(), parameters.channel.clone(), parameters.dry_run);
    let reply = publish(state, Query(parameters), body).await?;
    let where_to = reply.first.clone().unwrap_or(channel);
    let word = if dry_run { "tries" } else { "publishes" };
    Ok((Extension(Deed(format!("{word} `{}`, {} records, {where_to}", title, reply.records))), reply))
}

/// Reads a body and publishes what it holds.
pub(super) async fn publish(
    State(local): State<Local>,
    Query(parameters): Query<PublishParameters>,
    body: Body,
) -> Result<Json<PublishReply>, ApiError> {
    let plan = plan(&parameters, &local.identity.member, local.clock.now())?;
    if parameters.alone {
        local.own.alone();
    }
    let shared = shared_channel(&local.current.get(), &local.identity.member, &plan.channel)?;
    if shared && !plan.dry_run && !queue::lane_is_free(&local).await {
        let reply = PublishReply { channel: plan.channel.to_string(), tlp: plan.tlp.label(), ..PublishReply::default() };
        let queued = Some(queue::keep_publication(&local, parameters, body).await?);
        return Ok(Json(PublishReply { queued, ..reply }));
    }
    let (pieces, queue) = tokio::sync::mpsc::channel::<Bytes>(PIECES_MAX);
    let working = tokio::task::spawn_blocking(move || Work::new(local, plan)?.run(queue));
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(ApiError::bad)?;
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    drop(pieces);
    working.await.map_err(ApiError::internal)?.map(Json)
}

/// One publication under way.
struct Work {
    local: Local,
    plan: Plan,
    reader: TextReader,
    reply: PublishReply,
    /// Values seen, by 64-bit hash under two random keys: a list may name one twice.
    seen: HashSet<(u64, u64)>,
    hashers: (std::hash::RandomState, std::hash::RandomState),
    chunk: Vec<Record>,
    report: Option<RecordRef>,
    /// The chunk that the door is working on while the next is read.
    at_door: Option<oneshot::Receiver<Result<Published, DoorError>>>,
    hits: BTreeMap<String, (u64, String)>,
}

impl Work {
    fn new(local: Local, plan: Plan) -> Result<Self, ApiError> {
        let intake = local.current.get();
        let audience = crate::node::door::own_audience(&intake, &local.identity.member, &plan.channel)?;
        if !audience.permits(plan.tlp) {
            let (tlp, channel) = (plan.tlp, plan.channel.clone());
            return Err(DoorError::Marking { tlp, channel, audience: audience.name() }.into());
        }
        let members = reach(&intake, &local.identity.member, &plan.channel, plan.tlp, local.clock.now())?;
        let line = |(member, why_not): (crate::record::MemberId, Option<String>)| ReachLine {
            member: member.to_string(),
            reached: why_not.is_none(),
            why_not,
        };
        let reply = PublishReply {
            dry_run: plan.dry_run,
            channel: format!("{}/{}", local.identity.member, plan.channel),
            tlp: plan.tlp.label(),
            audience: audience.name(),
            reach: members.into_iter().map(line).collect(),
            ..PublishReply::default()
        };
        let reader = TextReader::new(plan.layout, plan.kind.clone());
        let hashers = Default::default();
        let (chunk, report, at_door, hits) = (Vec::new(), None, None, BTreeMap::new());
        Ok(Self { local, plan, reader, reply, seen: HashSet::new(), hashers, chunk, report, at_door, hits })
    }

    fn run(mut self, mut queue: tokio::sync::mpsc::Receiver<Bytes>) -> Result<PublishReply, ApiError> {
        let mut line = Vec::new();
        let mut sniffed = 0;
        let (mut items, mut complaints) = (Vec::new(), Vec::new());
        while let Some(piece) = queue.blocking_recv() {
            if sniffed < SNIFF_BYTES {
                sniff(&piece).map_err(ApiError::bad)?;
                sniffed += piece.len();
            }
            let mut rest = piece.as_ref();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let (head, tail) = rest.split_at(end);
                rest = tail.get(1..).unwrap_or_default();
                if line.is_empty() {
                    self.line(head, &mut items, &mut complaints)?;
                } else {
                    push_bounded(&mut line, head);
                    self.line(&line, &mut items, &mut complaints)?;
                    line.clear();
                }
            }
            push_bounded(&mut line, rest);
        }
        if !line.is_empty() {
            self.line(&line, &mut items, &mut complaints)?;
        }
        self.finish()
    }

    fn line(&mut self, raw: &[u8], items: &mut Vec<Item>, complaints: &mut Vec<Complaint>) -> Result<(), ApiError> {
        self.reply.lines += 1;
        self.reader.line(raw, items, complaints);
        for complaint in complaints.drain(..) {
            self.reply.complaints += 1;
            if self.reply.first_complaints.len() < COMPLAINTS_MAX {
                self.reply.first_complaints.push(ComplaintLine { line: complaint.line, why: complaint.why });
            }
        }
        for item in items.drain(..) {
            let marks = (self.hashers.0.hash_one(&item.value), self.hashers.1.hash_one(&item.value));
            if !self.seen.insert(marks) {
                self.reply.duplicates += 1;
                continue;
            }
            if self.seen.len() > PUBLICATION_RECORDS_MAX {
                return Err(ApiError::bad("more than 5,000,000 values; publish them as several lists"));
            }
            self.take(item.value, item.scope)?;
        }
        Ok(())
    }

    fn take(&mut self, value: Observable, scope: Option<Scope>) -> Result<(), ApiError> {
        self.reply.records += 1;
        let name = value.kind().name();
        match self.reply.by_type.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.reply.by_type.insert(name.to_owned(), 1)),
        }
        if self.plan.dry_run {
            for list in self.local.current.get().lists.of(&value).names() {
                let hit = self.hits.entry(list.to_owned()).or_insert_with(|| (0, value.defanged()));
                hit.0 += 1;
            }
            return Ok(());
        }
        let below = self.plan.subdomains && value.kind() == crate::record::ObservableType::Domain;
        let mut indicator = Indicator::of(value, None);
        indicator.scope = if below { Some(Scope::Subdomains) } else { scope };
        self.chunk.push(Record::Indicator(indicator));
        // The report takes the first place of the first chunk.
        let full = if self.report.is_none() { CHUNK_RECORDS - 1 } else { CHUNK_RECORDS };
        if self.chunk.len() >= full { self.send() } else { Ok(()) }
    }

    /// Gives the chunk to the door. Before the first answer nothing else is sent, because it names the report.
    fn send(&mut self) -> Result<(), ApiError> {
        self.settle()?;
        let report = match &self.report {
            Some(report) => ReportOf::Known(report.clone()),
            None => ReportOf::New(Box::new(self.plan.report.clone())),
        };
        let records = std::mem::take(&mut self.chunk);
        let publication = Publication { channel: self.plan.channel.clone(), tlp: self.plan.tlp, class: Class::Content, report, records };
        let (reply, answer) = oneshot::channel();
        self.local.door.send(Request::Publish(publication, reply)).map_err(|_| DoorError::Stopping)?;
        self.at_door = Some(answer);
        if self.report.is_none() { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> Result<(), ApiError> {
        let Some(answer) = self.at_door.take() else { return Ok(()) };
        let done = answer.blocking_recv().map_err(|_| DoorError::Stopping)??;
        self.report = self.report.take().or(done.report);
        let reply = &mut self.reply;
        reply.first = reply.first.take().or(done.first.map(|first| first.to_string()));
        reply.last = done.last.map(|last| last.to_string()).or(reply.last.take());
        reply.batches += done.batches;
        reply.accepted += done.counts.accepted;
        reply.held += done.counts.held;
        reply.refused += done.counts.refused;
        Ok(())
    }

    fn finish(mut self) -> Result<PublishReply, ApiError> {
        if self.reply.lines == 0 {
            return Err(ApiError::bad("the file is empty"));
        }
        if self.reply.records == 0 {
            let first = self.reply.first_complaints.first().map(|one| format!("; line {}: {}", one.line, one.why));
            return Err(ApiError::bad(format!("no line gave a value, so nothing was published{}", first.unwrap_or_default())));
        }
        if !self.plan.dry_run {
            if !self.chunk.is_empty() {
                self.send()?;
            }
            self.settle()?;
        }
        self.reply.report = self.report.map(|report| report.to_string());
        self.reply.latin1_lines = self.reader.latin1_lines;
        if self.reply.reach.iter().any(|line| line.reached) {
            let Local { current, identity, clock, .. } = &self.local;
            self.reply.quota_ms = current.get().roster.quota(&identity.member, clock.now()).ms_to_take(self.reply.records);
        }
        let hit = |(list, (values, first)): (String, (u64, String))| ListHit { list, values, first };
        self.reply.lists = self.hits.into_iter().map(hit).collect();
        Ok(self.reply)
    }
}

/// Keeps at most one byte more of a line than is read, so that a line of a gibibyte costs 64 KiB and is still too long.
fn push_bounded(line: &mut Vec<u8>, more: &[u8]) {
    let room = (LINE_BYTES_MAX + 1).saturating_sub(line.len());
    line.extend_from_slice(more.get(..room.min(more.len())).unwrap_or_default());
}
