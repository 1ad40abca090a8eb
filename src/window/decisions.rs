//! Decisions: what an outlet enforces, as clients of CrowdSec's local API take it ("bouncers": firewalls, proxies, web servers).
//!
//! ```text
//! outlet's lines -as of its serial-> Stream: what it holds, what changed, the whole as one packed body
//! startup=true  -> the whole, ready
//! startup=false -> what changed since this client asked last
//! ```
//!
//! A client says only its key. Several machines that share one are told apart by their address and what they call themselves;
//! and because even that may be the same, whatever changed within [`OVERLAP_MS`] is told again to everyone: telling twice that an
//! address is blocked, or is not, changes nothing. So no machine takes from another what it has not read yet, as long as each
//! asks every two minutes.
//!
//! Source: CrowdSec's Local API, `/v1/decisions` and `/v1/decisions/stream` (its OpenAPI document, version 1.0).

use crate::{
    enforce::Outlet,
    http::{ApiError, Bearer, Class, Local, Operator, blocking, identify},
    record::{Observable, ObservableType, Timestamp, Use},
};
use axum::{
    Extension, Router,
    body::Bytes,
    extract::{Query, State},
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT, VARY},
    },
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt::Write as _,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

/// Whatever changed so long ago at most is told again.
const OVERLAP_MS: u64 = 120_000;
/// Values that changed, remembered for an outlet: some 100 MB. Whoever asks for older ones is given the whole.
const CHANGES_MAX: usize = 1_000_000;
/// Clients that are remembered for an outlet; the one that has not asked for longest is forgotten, and given the whole.
const CLIENTS_MAX: usize = 4_096;
/// The ready body says how long each decision holds from when it was made: it is made anew after so long.
const BODY_MS_MAX: u64 = 600_000;
/// Longest name of a client that is compared, in bytes.
const CLIENT_BYTES_MAX: usize = 256;

/// The streams of all outlets, each from when it was first asked for.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<BTreeMap<String, Arc<Mutex<Stream>>>>>);

impl Streams {
    fn of(&self, outlet: &str) -> Arc<Mutex<Stream>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(outlet.to_owned()).or_default())
    }

    /// Those of outlets that clients have tokens for, as they stand now: what goes from them since, a client may hold from before.
    fn begun(local: &Local) -> Self {
        let streams = Self::default();
        let has_token =
            |name: &str| local.tokens.all().iter().any(|entry| matches!(&entry.bearer, Bearer::Outlet { outlet } if outlet == name));
        for outlet in local.enforcer.specs().into_iter().filter(|outlet| has_token(&outlet.name)) {
            streams.of(&outlet.name).lock().unwrap_or_else(PoisonError::into_inner).look(local, &outlet, local.clock.now());
        }
        streams
    }
}

/// A value that an outlet blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    until: Timestamp,
    record: String,
}

/// What one outlet's clients are told.
#[derive(Default)]
struct Stream {
    /// Of the outlet, as of which this is.
    serial: u64,
    begun: bool,
    holds: BTreeMap<Observable, Held>,
    /// What changed, by the number of the change and its time, the oldest first.
    changed: VecDeque<(u64, Timestamp, Vec<Observable>)>,
    /// The number of the newest change, and how many values all remembered changes have.
    newest: u64,
    values: usize,
    /// Up to which change each client was told.
    clients: HashMap<String, (u64, Timestamp)>,
    /// The whole, packed, as of a change and a time.
    ready: Option<(u64, Timestamp, Bytes)>,
}

/// What a client asks for. What else clients of other versions ask is passed over, as CrowdSec does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    startup: bool,
    scopes: Option<String>,
    ip: Option<String>,
    range: Option<String>,
    value: Option<String>,
    scope: Option<String>,
}

/// The routes.
pub(super) fn router(local: Local) -> Router {
    Router::new()
        .route("/v1/decisions", get(decisions))
        .route("/v1/decisions/stream", get(stream))
        .route_layer(from_fn_with_state((local.clone(), Class::Query), identify))
        .with_state((local.clone(), Streams::begun(&local)))
}

/// The outlet that asks, if it is one that blocks.
fn outlet_of(operator: Operator) -> Result<Outlet, ApiError> {
    let why = "decisions are an outlet's; its token is made by `huecry token new NAME --outlet OUTLET`";
    let outlet = operator.outlet.ok_or_else(|| ApiError::forbidden(why))?;
    match outlet.usage {
        Use::Block => Ok(outlet),
        _ => {
            let why = format!("outlet `{}` does not block, and whoever takes decisions does nothing else", outlet.name);
            Err(ApiError::forbidden(why))
        }
    }
}

async fn stream(
    State((local, streams)): State<(Local, Streams)>,
    Extension(operator): Extension<Operator>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    client: Option<Extension<std::net::SocketAddr>>,
) -> Result<Response, ApiError> {
    let token = operator.token.clone().unwrap_or_default();
    let outlet = outlet_of(operator)?;
    let address = client.map(|Extension(address)| address.ip().to_string()).unwrap_or_default();
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let client: String = format!("{token}\n{address}\n{agent}").chars().take(CLIENT_BYTES_MAX).collect();
    let packed = headers.get(ACCEPT_ENCODING).and_then(|kinds| kinds.to_str().ok()).is_some_and(|kinds| kinds.contains("gzip"));
    let one = streams.of(&outlet.name);
    blocking(move || {
        let mut stream = one.lock().unwrap_or_else(PoisonError::into_inner);
        let now = local.clock.now();
        stream.look(&local, &outlet, now);
        stream.answer(&client, &asked, packed, now)
    })
    .await
}

/// What is decided about one address, or range, now: for clients that ask for each.
async fn decisions(
    State((local, streams)): State<(Local, Streams)>,
    Extension(operator): Extension<Operator>,
    Query(asked): Query<Asked>,
) -> Result<Response, ApiError> {
    let outlet = outlet_of(operator)?;
    let is_scope = asked.scope.as_deref().is_none_or(|scope| ["ip", "range"].contains(&scope.to_ascii_lowercase().as_str()));
    let text = asked.ip.or(asked.range).or(asked.value.filter(|_| is_scope));
    let text =
        text.ok_or_else(|| ApiError::bad("say about which `ip` or `range`; what is decided about all of them is at /v1/decisions/stream"))?;
    let value = Observable::recognise(&text).map_err(ApiError::bad)?;
    let one = streams.of(&outlet.name);
    blocking(move || {
        let mut stream = one.lock().unwrap_or_else(PoisonError::into_inner);
        let now = local.clock.now();
        stream.look(&local, &outlet, now);
        let hits = local.enforcer.hits(&outlet.name, &value);
        let held = hits.iter().filter_map(|value| Some((value, stream.holds.get(value)?)));
        let lines: Vec<String> = held.map(|(value, held)| decision(value, held.until, &held.record, now)).collect();
        // CrowdSec says so that there is none, and its clients expect it.
        let body = if lines.is_empty() { "null".to_owned() } else { format!("[{}]", lines.join(",")) };
        Ok(json(body))
    })
    .await
}

fn json(body: impl Into<Bytes>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into()).into_response()
}

/// The scope under which clients know a value; `None` for what no client blocks.
fn scope_of(value: &Observable) -> Option<&'static str> {
    match value.kind() {
        ObservableType::Ipv4 | ObservableType::Ipv6 => Some("Ip"),
        ObservableType::Cidr => Some("Range"),
        _ => None,
    }
}

/// A number that a value has whenever and wherever it is said.
fn number_of(value: &Observable) -> u64 {
    xxhash_rust::xxh3::xxh3_64(value.to_string().as_bytes()) >> 11
}

fn decision(value: &Observable, until: Timestamp, record: &str, now: Timestamp) -> String {
    let mut text = String::new();
    put(&mut text, value, until, record, now);
    text
}

/// One decision. Nothing in it needs to be escaped: addresses, names of records and numbers.
fn put(text: &mut String, value: &Observable, until: Timestamp, record: &str, now: Timestamp) {
    let left = until.ms_since(now) / 1_000;
    let (hours, minutes, seconds) = (left / 3_600, left / 60 % 60, left % 60);
    let scope = scope_of(value).unwrap_or("Ip");
    let _infallible = write!(
        text,
        "{{\"id\":{},\"origin\":\"huecry\",\"type\":\"ban\",\"scope\":\"{scope}\",\"value\":\"{value}\",\
         \"duration\":\"{hours}h{minutes}m{seconds}s\",\"scenario\":\"{record}\"}}",
        number_of(value)
    );
}

impl Stream {
    /// Takes in what the outlet holds now, if that is other than before.
    fn look(&mut self, local: &Local, outlet: &Outlet, now: Timestamp) {
        let Some(serial) = local.enforcer.serial(&outlet.name) else { return };
        if self.begun && serial == self.serial {
            return;
        }
        let lines = local.enforcer.standing(&outlet.name, None, usize::MAX).unwrap_or_default();
        let held = lines.into_iter().filter(|one| !one.entry.watched && scope_of(&one.entry.value).is_some());
        let holds = held.map(|one| (one.entry.value, Held { until: one.entry.until, record: one.record.to_string() })).collect();
        self.take(holds, now);
        (self.serial, self.begun) = (serial, true);
    }

    fn take(&mut self, holds: BTreeMap<Observable, Held>, now: Timestamp) {
        let before = std::mem::replace(&mut self.holds, holds);
        let mut changed: Vec<Observable> = Vec::new();
        changed.extend(before.iter().filter(|(value, held)| self.holds.get(*value) != Some(*held)).map(|(value, _)| value.clone()));
        changed.extend(self.holds.keys().filter(|value| !before.contains_key(*value)).cloned());
        if changed.is_empty() {
            return;
        }
        self.newest += 1;
        self.values += changed.len();
        self.changed.push_back((self.newest, now, changed));
        while self.values > CHANGES_MAX && self.changed.len() > 1 {
            self.values -= self.changed.pop_front().map_or(0, |(_, _, values)| values.len());
        }
    }

    fn answer(&mut self, client: &str, asked: &Asked, packed: bool, now: Timestamp) -> Result<Response, ApiError> {
        let told = self.clients.get(client).map(|(change, _)| *change);
        if self.clients.len() >= CLIENTS_MAX && told.is_none() {
            let oldest = self.clients.iter().min_by_key(|(_, (_, at))| *at).map(|(client, _)| client.clone());
            oldest.map(|oldest| self.clients.remove(&oldest));
        }
        self.clients.insert(client.to_owned(), (self.newest, now));
        let scopes: Option<BTreeSet<String>> =
            asked.scopes.as_ref().map(|scopes| scopes.split(',').map(|scope| scope.trim().to_ascii_lowercase()).collect());
        let wanted = |value: &Observable| {
            let scope = scope_of(value).map(str::to_ascii_lowercase);
            scopes.as_ref().is_none_or(|scopes| scope.is_some_and(|scope| scopes.contains(&scope)))
        };
        let is_whole = scopes.as_ref().is_none_or(|scopes| scopes.contains("ip") && scopes.contains("range"));
        let remembered = self.changed.front().is_none_or(|(first, ..)| told.is_some_and(|told| told + 1 >= *first));
        match told {
            Some(told) if !asked.startup && remembered => Ok(json(self.delta(told, wanted, now))),
            _ if is_whole && packed => {
                let mut response = json(self.ready(now)?);
                response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
                Ok(response)
            }
            _ => Ok(json(self.whole(wanted, now))),
        }
    }

    /// What changed since a change, and within the last two minutes, as it is now.
    fn delta(&self, told: u64, wanted: impl Fn(&Observable) -> bool, now: Timestamp) -> String {
        let is_told = |change: u64, at: Timestamp| change <= told && now.ms_since(at) > OVERLAP_MS;
        let news = self.changed.iter().rev().take_while(|(change, at, _)| !is_told(*change, *at));
        let values: BTreeSet<&Observable> = news.flat_map(|(.., values)| values).filter(|value| wanted(value)).collect();
        let (new, deleted): (Vec<_>, Vec<_>) = values.into_iter().partition(|value| self.holds.contains_key(*value));
        let mut text = String::with_capacity(64 + 192 * (new.len() + deleted.len()));
        text.push_str("{\"new\":");
        let held = |value: &Observable| self.holds.get(value).map_or((now, ""), |held| (held.until, held.record.as_str()));
        list(&mut text, new.into_iter().map(|value| (value, held(value))), now);
        text.push_str(",\"deleted\":");
        list(&mut text, deleted.into_iter().map(|value| (value, (now, "withdrawn"))), now);
        text.push('}');
        text
    }

    /// Everything, and what is not held any more, for a client that may hold it from before.
    fn whole(&self, wanted: impl Fn(&Observable) -> bool, now: Timestamp) -> String {
        let mut text = String::with_capacity(64 + 192 * self.holds.len());
        text.push_str("{\"new\":");
        let held = self.holds.iter().filter(|(value, _)| wanted(value));
        list(&mut text, held.map(|(value, held)| (value, (held.until, held.record.as_str()))), now);
        text.push_str(",\"deleted\":");
        let gone: BTreeSet<&Observable> = self.changed.iter().flat_map(|(.., values)| values).collect();
        let gone = gone.into_iter().filter(|value| !self.holds.contains_key(*value) && wanted(value));
        list(&mut text, gone.map(|value| (value, (now, "withdrawn"))), now);
        text.push('}');
        text
    }

    /// The same, packed, and kept for the next one who asks.
    fn ready(&mut self, now: Timestamp) -> Result<Bytes, ApiError> {
        if let Some((change, made, body)) = &self.ready
            && *change == self.newest
            && now.ms_since(*made) < BODY_MS_MAX
        {
            return Ok(body.clone());
        }
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(self.whole(|_| true, now).as_bytes()).map_err(ApiError::internal)?;
        let body = Bytes::from(packer.finish().map_err(ApiError::internal)?);
        self.ready = Some((self.newest, now, body.clone()));
        Ok(body)
    }
}

fn list<'a>(text: &mut String, lines: impl Iterator<Item = (&'a Observable, (Timestamp, &'a str))>, now: Timestamp) {
    text.push('[');
    for (number, (value, (until, record))) in lines.enumerate() {
        if number > 0 {
            text.push(',');
        }
        put(text, value, until, record, now);
    }
    text.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use http_body_util::BodyExt as _;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_ms(1_760_000_000_000 + seconds * 1_000).unwrap()
    }

    fn holding(stream: &mut Stream, values: &[&str], now: Timestamp) {
        let held = |value: &&str| (Observable::recognise(value).unwrap(), Held { until: at(86_400), record: "xx/c2#1.1".to_owned() });
        stream.take(values.iter().map(held).collect(), now);
    }

    /// Values that a client is told, and those that it is told no more.
    fn told(stream: &mut Stream, client: &str, query: &str, now: Timestamp) -> (Vec<String>, Vec<String>) {
        let asked = Query::<Asked>::try_from_uri(&format!("http://h/?{query}").parse().unwrap()).unwrap().0;
        let response = stream.answer(client, &asked, false, now).unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let bytes = futures::executor::block_on(response.into_body().collect()).unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let values = |name: &str| body[name].as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap().to_owned()).collect();
        (values("new"), values("deleted"))
    }

    #[test]
    fn a_client_is_told_what_changed_since_it_asked_and_a_new_one_everything() {
        let mut stream = Stream::default();
        holding(&mut stream, &["192.0.2.1", "192.0.2.2", "198.51.100.0/24"], at(0));
        let all = ["192.0.2.1", "192.0.2.2", "198.51.100.0/24"].map(str::to_owned).to_vec();
        assert_eq!(told(&mut stream, "a", "startup=true", at(1)), (all.clone(), vec![]));
        assert_eq!(told(&mut stream, "a", "startup=false", at(200)), (vec![], vec![]), "nothing changed");
        holding(&mut stream, &["192.0.2.1", "192.0.2.3", "198.51.100.0/24"], at(300));
        let changed = (vec!["192.0.2.3".to_owned()], vec!["192.0.2.2".to_owned()]);
        assert_eq!(told(&mut stream, "a", "", at(301)), changed);
        // What one has read, another that shares its key has not; within two minutes even one that looks the same is told.
        assert_eq!(told(&mut stream, "a", "", at(302)), changed);
        assert_eq!(told(&mut stream, "a", "", at(500)), (vec![], vec![]));
        let now = ["192.0.2.1", "192.0.2.3", "198.51.100.0/24"].map(str::to_owned).to_vec();
        assert_eq!(told(&mut stream, "b", "", at(500)), (now, vec!["192.0.2.2".to_owned()]), "it may hold what was there before");
        assert_eq!(told(&mut stream, "b", "startup=true&scopes=range", at(501)).0, ["198.51.100.0/24"]);
    }

    #[test]
    fn what_is_told_fits_crowdsecs_form_and_says_how_long_it_holds() {
        let value = Observable::recognise("192.0.2.1").unwrap();
        let said: serde_json::Value = serde_json::from_str(&decision(&value, at(3_723), "xx/c2#1.1", at(0))).unwrap();
        assert_eq!((said["duration"].as_str(), said["scope"].as_str(), said["type"].as_str()), (Some("1h2m3s"), Some("Ip"), Some("ban")));
        assert!(said["id"].as_i64().is_some_and(|id| id > 0));
    }

    #[test]
    fn the_whole_is_packed_once_until_something_changes() {
        let mut stream = Stream::default();
        holding(&mut stream, &["192.0.2.1"], at(0));
        let (first, again) = (stream.ready(at(1)).unwrap(), stream.ready(at(2)).unwrap());
        assert_eq!(first.as_ptr(), again.as_ptr());
        holding(&mut stream, &["192.0.2.1", "192.0.2.2"], at(3));
        assert_ne!(stream.ready(at(4)).unwrap(), first);
    }
}
