//! TAXII 2.1: what stands here, by channel and audience, as collections of STIX objects.
//!
//! ```text
//! GET /taxii2/                                    discovery
//! GET /taxii2/api/                                API root
//! GET /taxii2/api/collections/                    a collection for each channel and audience
//! GET .../{collection}/objects/, /manifest/       pages, in the order in which this node took things in
//! GET .../{collection}/objects/{object}/          one object; /versions/ its version
//! ```
//!
//! A page is read from the journal behind the place where the page before ended, so it costs what is in it, however much the
//! collection holds, and nothing is lost or told twice where thousands have the same time. An object stands where it was last
//! changed: whoever has read everything and goes on by `next` or `added_after` is told what was withdrawn, as `revoked`. Times of
//! addition rise by a tenth of a microsecond at least from object to object.
//!
//! Read only: what is published goes through `huecry publish`. Sources: TAXII 2.1 (OASIS Standard, 10 June 2021), sections 1.6,
//! 3, 4, 5.

use crate::{
    exchange::{definition_object, id_of, identity_object, indicator_object, marking_of, record_id, record_of_id, report_object},
    http::{ApiError, Class, Local, Operator, Witness, blocking, each_changed, has_stood, identify, stated},
    ledger::{Change, Position, Seen, View},
    query::{Found, Reading, Standing},
    record::{ChannelName, MemberId, Record, RecordRef, Timestamp, Tlp},
};
use axum::{
    Extension, Json, Router,
    extract::{Path, Query, Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The media type (section 1.6.8).
const TAXII: &str = "application/taxii+json;version=2.1";
const STIX: &str = "application/stix+json;version=2.1";
/// Objects of a page unless asked for fewer or more.
const LIMIT: usize = 1_000;
/// Most objects of a page: some 10 MB.
const LIMIT_MAX: usize = 10_000;
/// Looks of 1,024 journal entries that one page takes at most; it may then be shorter than asked, with more to come.
const PIECES_MAX: usize = 64;
/// Indicators that a report's object names.
const MEMBERS_MAX: usize = 10_000;
/// Objects apart in time, at least, in nanoseconds: clients read six digits of a second.
const APART_NS: u64 = 1_000;
/// Nanoseconds of a millisecond, which is what some clients keep.
const MS_NS: u64 = 1_000_000;
/// Milliseconds by which objects of one journal entry may reach into the time of the next: 20,000 of them.
const APART_MARGIN_MS: u64 = 20;
/// Texts of a filter, joined by commas.
const MATCHES_MAX: usize = 256;
const FIRST: HeaderName = HeaderName::from_static("x-taxii-date-added-first");
const LAST: HeaderName = HeaderName::from_static("x-taxii-date-added-last");

/// The routes.
pub(super) fn router(local: Local) -> Router {
    Router::new()
        .route("/taxii2/", get(discovery))
        .route("/taxii2/api/", get(root))
        .route("/taxii2/api/collections/", get(collections))
        .route("/taxii2/api/collections/{collection}/", get(collection))
        .route("/taxii2/api/collections/{collection}/objects/", get(objects))
        .route("/taxii2/api/collections/{collection}/objects/{object}/", get(object))
        .route("/taxii2/api/collections/{collection}/objects/{object}/versions/", get(versions))
        .route("/taxii2/api/collections/{collection}/manifest/", get(manifest))
        .route_layer(from_fn_with_state(local.clone(), accepts))
        .route_layer(from_fn_with_state((local.clone(), Class::Bulk), identify))
        .with_state(local)
}

/// Whoever reads, and takes what we speak.
async fn accepts(State(_): State<Local>, request: Request, next: Next) -> Response {
    let reads = request.extensions().get::<Operator>().is_some_and(|operator| operator.roles.contains(&crate::config::Role::Reads));
    if !reads {
        return failed(StatusCode::FORBIDDEN, "whoever reads collections has the role `reads`; an outlet has its export");
    }
    let takes = |kind: &str| {
        let kind = kind.split(";q=").next().unwrap_or_default().replace(' ', "");
        ["*/*", "application/*", "application/taxii+json", TAXII].contains(&kind.as_str())
    };
    let accept = request.headers().get(ACCEPT).map_or("*/*", |accept| accept.to_str().unwrap_or_default());
    if !accept.split(',').any(|kind| takes(kind.trim())) {
        return failed(StatusCode::NOT_ACCEPTABLE, "this is TAXII 2.1: accept application/taxii+json;version=2.1");
    }
    next.run(request).await
}

/// An error message (section 3.6.1).
fn failed(status: StatusCode, title: &str) -> Response {
    let body = json!({ "title": title, "http_status": status.as_u16().to_string() });
    (status, [(CONTENT_TYPE, HeaderValue::from_static(TAXII))], Json(body).into_response().into_body()).into_response()
}

fn refuse(error: ApiError) -> Response {
    let (status, text) = error.parts();
    failed(status, &text)
}

fn said(body: &Value) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(TAXII))], body.to_string()).into_response()
}

async fn discovery(State(local): State<Local>) -> Response {
    let charter = local.current.get().roster.charter().charter().name.clone();
    said(&json!({
        "title": format!("huecry of {}", local.identity.member), "description": format!("what stands here of {charter}"),
        "default": "/taxii2/api/", "api_roots": ["/taxii2/api/"],
    }))
}

async fn root(State(local): State<Local>) -> Response {
    said(&json!({ "title": local.identity.member.to_string(), "versions": [TAXII], "max_content_length": 0 }))
}

/// A channel, as it is addressed by somebody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Collection {
    channel: ChannelName,
    audience: String,
}

impl Collection {
    fn id(&self) -> String {
        let name = format!("urn:huecry:collection:{}:{}", self.channel, self.audience);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
    }

    fn resource(&self) -> Value {
        json!({
            "id": self.id(), "title": format!("{}, to {}", self.channel, self.audience), "alias": format!("{}:{}", self.channel, self.audience),
            "can_read": true, "can_write": false, "media_types": [STIX],
        })
    }
}

/// The collections of which somebody may see something.
fn all(local: &Local, operator: &Operator) -> BTreeSet<Collection> {
    let view = local.view(operator);
    let (mut found, mut reading) = (BTreeSet::new(), Reading::of(&view, local.clock.now()));
    for seen in view.feeds() {
        let number = local.ledger.batch_number(&seen.feed, seen.last).ok().flatten();
        if let Some(batch) = number.and_then(|number| reading.batch(number).ok().flatten()) {
            found.insert(Collection { channel: seen.feed.channel.clone(), audience: batch.head.audience.name() });
        }
    }
    found
}

async fn collections(State(local): State<Local>, Extension(operator): Extension<Operator>) -> Response {
    let resources: Vec<Value> = all(&local, &operator).iter().map(Collection::resource).collect();
    said(&json!({ "collections": resources }))
}

fn named(local: &Local, operator: &Operator, name: &str) -> Result<Collection, ApiError> {
    let found = all(local, operator).into_iter().find(|one| one.id() == name || format!("{}:{}", one.channel, one.audience) == name);
    found.ok_or_else(|| ApiError::nothing("there is no such collection"))
}

async fn collection(State(local): State<Local>, Extension(operator): Extension<Operator>, Path(name): Path<String>) -> Response {
    named(&local, &operator, &name).map_or_else(refuse, |found| said(&found.resource()))
}

/// What a page is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    limit: Option<String>,
    added_after: Option<String>,
    next: Option<String>,
    #[serde(rename = "match[id]")]
    ids: Option<String>,
    #[serde(rename = "match[type]")]
    types: Option<String>,
    #[serde(rename = "match[version]")]
    versions: Option<String>,
    #[serde(rename = "match[spec_version]")]
    spec_versions: Option<String>,
}

impl Asked {
    fn limit(&self) -> Result<usize, ApiError> {
        match &self.limit {
            None => Ok(LIMIT),
            Some(text) => match text.parse::<usize>() {
                Ok(limit) if limit > 0 => Ok(limit.min(LIMIT_MAX)),
                _ => Err(ApiError::bad("limit is a number of objects, one at least")),
            },
        }
    }

    /// Whether an object is meant by its id, type and version. Here is one version of each: the newest, which is the first too.
    fn means(&self, object: &Value) -> bool {
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let one_of = |asked: &Option<String>, said: &str| {
            asked.as_ref().is_none_or(|asked| asked.split(',').take(MATCHES_MAX).any(|one| one.trim() == said))
        };
        let version = self.versions.as_ref().is_none_or(|asked| {
            let modified = text("modified").parse::<jiff::Timestamp>().ok();
            asked.split(',').take(MATCHES_MAX).any(|one| match one.trim() {
                "last" | "first" | "all" => true,
                one => one.parse::<jiff::Timestamp>().is_ok_and(|one| Some(one) == modified),
            })
        });
        one_of(&self.ids, text("id")) && one_of(&self.types, text("type")) && one_of(&self.spec_versions, "2.1") && version
    }
}

/// The progress of a reader: the changes that it has seen, how many records of the next one, and the time of the last record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    seen: Seen,
    skip: usize,
    last_ns: u64,
}

impl Place {
    fn text(self, view: &View, mark: &str) -> String {
        format!("{}-{}-{}-{mark}", view.spell(self.seen), self.skip, self.last_ns)
    }

    fn read(text: &str, local: &Local, view: &View) -> Result<Self, ApiError> {
        let parsed = || {
            let [seen, skip, last_ns, mark] = text.split('-').collect::<Vec<_>>()[..] else { return None };
            let place = Self { seen: view.unspell(seen)?, skip: skip.parse().ok()?, last_ns: last_ns.parse().ok()? };
            (mark == local.ledger.mark()).then_some(place)
        };
        parsed().ok_or_else(|| ApiError::bad("`next` is none that this server gave as it is now; begin anew"))
    }
}

/// An object with the time at which it was added.
struct Added {
    object: Value,
    ns: u64,
    /// The place of a page that begins with it.
    from: Place,
}

fn moment(ns: u64) -> String {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap_or_default();
    moment.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

struct Page {
    added: Vec<Added>,
    next: Option<Place>,
}

impl Page {
    fn respond(&self, body: &Value) -> Response {
        let mut response = said(body);
        for (name, added) in [(FIRST, self.added.first()), (LAST, self.added.last())] {
            if let Some(value) = added.and_then(|added| HeaderValue::from_str(&moment(added.ns)).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// What makes a page.
struct Pager<'a> {
    local: &'a Local,
    reading: Reading<'a>,
    collection: &'a Collection,
    view: &'a View,
    witness: &'a Witness,
    asked: &'a Asked,
    limit: usize,
    after_ns: u64,
    page: Page,
    place: Place,
}

impl Pager<'_> {
    fn run(mut self) -> Result<Page, ApiError> {
        let begins = self.asked.next.is_none() && self.after_ns == 0;
        if begins {
            self.preamble();
        }
        for _piece in 0..PIECES_MAX {
            let (entries, onward, more) = self.view.changes_after(self.place.seen)?;
            for entry in entries {
                let skip = if entry.before == self.place.seen { self.place.skip } else { 0 };
                let ms = entry.at.map_or(0, Timestamp::ms);
                let mut number = 0;
                for change in &entry.changes {
                    for record in self.records(change)? {
                        number += 1;
                        if number <= skip {
                            continue;
                        }
                        let ns = ms.saturating_mul(1_000_000).max(self.place.last_ns.saturating_add(APART_NS));
                        let object = if ns > self.after_ns { self.object(&record, entry.position)? } else { None };
                        if let Some((object, tlp)) = object.filter(|(object, _)| self.asked.means(object)) {
                            if self.page.added.len() >= self.limit {
                                let from = Place { seen: entry.before, skip: number - 1, last_ns: self.place.last_ns };
                                return Ok(self.ended(from, ns));
                            }
                            self.witness.saw(&record, tlp);
                            let from = Place { seen: entry.before, skip: number - 1, last_ns: self.place.last_ns };
                            self.page.added.push(Added { object, ns, from });
                        }
                        self.place.last_ns = ns;
                    }
                }
            }
            if !more {
                return Ok(self.page);
            }
            self.place = Place { seen: onward, skip: 0, last_ns: self.place.last_ns };
        }
        self.page.next = Some(self.place);
        Ok(self.page)
    }

    /// The page; the next one begins at `from` with an object that was added at `ns`. It ends between two milliseconds if it can: clients
    /// that keep milliseconds and page by `added_after` would otherwise miss or repeat objects of one millisecond.
    fn ended(mut self, from: Place, ns: u64) -> Page {
        let apart = |pair: &[Added]| pair.first().zip(pair.last()).is_some_and(|(one, next)| one.ns / MS_NS != next.ns / MS_NS);
        self.page.next = Some(from);
        if self.page.added.last().is_some_and(|last| last.ns / MS_NS == ns / MS_NS)
            && let Some(end) = self.page.added.windows(2).rposition(apart)
        {
            self.page.next = self.page.added.get(end + 1).map(|first| first.from);
            self.page.added.truncate(end + 1);
        }
        self.page
    }

    /// What objects refer to, and nobody in particular says: it comes first, once.
    fn preamble(&mut self) {
        let me = self.local.identity.member.to_string();
        let markings = [Tlp::Clear, Tlp::Green, Tlp::Amber, Tlp::AmberStrict, Tlp::Red].map(|tlp| marking_of(tlp).1);
        let authors: BTreeSet<MemberId> = self.feeds().into_iter().map(|feed| feed.member).collect();
        let mut all: Vec<Value> = markings.into_iter().chain([definition_object(&id_of("identity", &me))]).collect();
        all.extend(authors.iter().map(|author| identity_object(author.as_str())));
        if !authors.contains(&self.local.identity.member) {
            all.push(identity_object(&me));
        }
        for object in all.into_iter().filter(|object| self.asked.means(object)) {
            self.page.added.push(Added { object, ns: MS_NS, from: Place::default() });
        }
        // A page of one is still a page: what nobody can do without comes together.
        self.limit = self.limit.max(self.page.added.len());
    }

    fn feeds(&self) -> Vec<crate::record::FeedId> {
        let here = |seen: &crate::ledger::SeenFeed| seen.feed.channel == self.collection.channel;
        self.view.feeds().into_iter().filter(here).map(|seen| seen.feed).collect()
    }

    /// Records that a change is about, if it is one of this collection's channel.
    fn records(&mut self, change: &Change) -> Result<Vec<RecordRef>, ApiError> {
        let channel = &self.collection.channel;
        let is_here = match change {
            Change::Batch(number) => self.reading.batch(*number)?.is_some_and(|batch| batch.head.channel == *channel),
            Change::Record(record) => record.feed.channel == *channel,
            Change::Feed(feed) => feed.channel == *channel,
            Change::Erased => false,
        };
        let mut found = Vec::new();
        if is_here {
            each_changed(&mut self.reading, self.local, change, &mut |_, record, _| {
                found.push(record);
                Ok(true)
            })?;
        }
        Ok(found)
    }

    /// The object of a record and its marking, if it is shown, and changed last at this place.
    fn object(&mut self, record: &RecordRef, position: Position) -> Result<Option<(Value, Tlp)>, ApiError> {
        let Some(found) = self.reading.named_or_aside(record)? else { return Ok(None) };
        if self.changed_at(&found)?.is_some_and(|changed| changed > position) {
            return Ok(None);
        }
        Ok(self.shown(&found)?.map(|object| (object, found.batch.head.tlp)))
    }

    /// The object of a record, if it is one of this collection that the reader may see.
    fn shown(&mut self, found: &Found) -> Result<Option<Value>, ApiError> {
        let head = &found.batch.head;
        if head.channel != self.collection.channel || head.audience.name() != self.collection.audience {
            return Ok(None);
        }
        let standing = self.reading.standing(found).0;
        if standing != Standing::Accepted && !(standing != Standing::Over && has_stood(found)) {
            return Ok(None);
        }
        if let Record::Report(report) = &found.record {
            return Ok(if standing == Standing::Accepted { self.report(found, &report.title)? } else { None });
        }
        let assertion = self.reading.assertion(found)?;
        Ok(stated(&mut self.reading, found, &assertion)?.map(|stated| indicator_object(&stated)))
    }

    fn report(&mut self, found: &Found, title: &str) -> Result<Option<Value>, ApiError> {
        let mut members = Vec::new();
        self.local.ledger.each_indicator_of(&found.reference, |batch, index| {
            if batch.head.tlp <= self.view.clearance() {
                members.push(record_id("indicator", &batch.reference(index)));
            }
            members.len() < MEMBERS_MAX
        })?;
        let head = &found.batch.head;
        let name = found.reference.to_string();
        let object = || report_object(&name, head.member.as_str(), title, (head.time, head.time), head.tlp, &members);
        Ok((!members.is_empty()).then(object))
    }

    /// Where the entry stands that changed a record last.
    fn changed_at(&self, found: &Found) -> Result<Option<Position>, ApiError> {
        let mut at = self.local.ledger.batch_position(found.batch.number)?;
        at = at.max(found.batch.verdicts(found.reference.index).last().map(|verdict| verdict.position));
        if let Some(by) = found.withdrawn.as_ref().and_then(|withdrawn| withdrawn.by.parse::<RecordRef>().ok())
            && let Some(number) = self.local.ledger.batch_number(&by.feed, by.seq)?
        {
            at = at.max(self.local.ledger.batch_position(number)?);
        }
        Ok(at)
    }
}

/// Reads a page.
async fn page(local: Local, (operator, witness): (Operator, Witness), name: &str, asked: Asked) -> Result<Page, ApiError> {
    let collection = named(&local, &operator, name)?;
    let read = move || {
        let after = asked.added_after.as_ref().map(|text| {
            let moment = text.parse::<jiff::Timestamp>().ok().and_then(|moment| u64::try_from(moment.as_nanosecond()).ok());
            moment.ok_or_else(|| ApiError::bad("added_after is a time such as 2026-12-31T18:00:00Z"))
        });
        let after_ns = after.transpose()?.unwrap_or(0);
        let view = local.view(&operator);
        let place = match &asked.next {
            Some(next) => Place::read(next, &local, &view)?,
            None if after_ns > 0 => {
                let time = Timestamp::from_ms(after_ns / MS_NS).unwrap_or_default().minus_ms(APART_MARGIN_MS);
                Place { seen: view.at_time(time)?, ..Place::default() }
            }
            None => Place::default(),
        };
        let (reading, limit) = (Reading::of(&view, local.clock.now()), asked.limit()?);
        let page = Page { added: Vec::new(), next: None };
        let (collection, view, witness, asked) = (&collection, &view, &witness, &asked);
        Pager { local: &local, reading, collection, view, witness, asked, limit, after_ns, page, place }.run()
    };
    blocking(read).await
}

/// The envelope (section 3.7), which is called a page here.
async fn objects(
    state: State<Local>,
    operator: Extension<Operator>,
    witness: Extension<Witness>,
    name: Path<String>,
    asked: Query<Asked>,
) -> Response {
    paged(state, operator, witness, name, asked, |added| added.object.clone()).await
}

/// What the same page would be of (section 3.8).
async fn manifest(
    state: State<Local>,
    operator: Extension<Operator>,
    witness: Extension<Witness>,
    name: Path<String>,
    asked: Query<Asked>,
) -> Response {
    let line = |added: &Added| json!({ "id": added.object.get("id"), "date_added": moment(added.ns), "version": version(&added.object), "media_type": STIX });
    paged(state, operator, witness, name, asked, line).await
}

async fn paged(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    line: impl Fn(&Added) -> Value,
) -> Response {
    let (mark, view) = (local.ledger.mark().to_owned(), local.view(&operator));
    let page = match page(local, (operator, witness), &name, asked).await {
        Ok(page) => page,
        Err(error) => return refuse(error),
    };
    let mut fields = serde_json::Map::new();
    if let Some(next) = page.next {
        fields.insert("more".to_owned(), json!(true));
        fields.insert("next".to_owned(), json!(next.text(&view, &mark)));
    }
    fields.insert("objects".to_owned(), page.added.iter().map(line).collect());
    page.respond(&Value::Object(fields))
}

/// The time that tells versions of an object apart: markings have only that of their making.
fn version(object: &Value) -> Option<&Value> {
    object.get("modified").or_else(|| object.get("created"))
}

/// One object of a collection, by its id.
async fn one(local: Local, (operator, witness): (Operator, Witness), name: &str, id: String) -> Result<Value, ApiError> {
    let collection = named(&local, &operator, name)?;
    let read = move || {
        let asked = Asked { ids: Some(id.clone()), ..Asked::default() };
        let view = local.view(&operator);
        let reading = Reading::of(&view, local.clock.now());
        let page = Page { added: Vec::new(), next: None };
        let (limit, place) = (1, Place::default());
        let (collection, witness, asked) = (&collection, &witness, &asked);
        let mut pager = Pager { local: &local, reading, collection, view: &view, witness, asked, limit, after_ns: 0, page, place };
        pager.preamble();
        if let Some(fixed) = pager.page.added.pop() {
            return Ok(Some(fixed.object));
        }
        let feeds = pager.feeds();
        let Some(record) = record_of_id(&id, &feeds) else { return Ok(None) };
        let Some(found) = pager.reading.named_or_aside(&record)? else { return Ok(None) };
        // The same bits under another type are another id.
        let object = pager.shown(&found)?.filter(|object| object.get("id").and_then(Value::as_str) == Some(&id));
        object.iter().for_each(|_| witness.found(&found));
        Ok(object)
    };
    blocking(read).await?.ok_or_else(|| ApiError::nothing("there is no such object in this collection"))
}

async fn object(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Path((name, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Response {
    match one(local, (operator, witness), &name, id).await {
        Err(error) => refuse(error),
        Ok(object) => {
            let objects = if asked.means(&object) { vec![object] } else { Vec::new() };
            said(&json!({ "objects": objects }))
        }
    }
}

async fn versions(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Path((name, id)): Path<(String, String)>,
) -> Response {
    match one(local, (operator, witness), &name, id).await {
        Err(error) => refuse(error),
        Ok(object) => said(&json!({ "versions": [version(&object)] })),
    }
}
