//! Pulling: what a TAXII collection or a file on a server has that was not there the last time.
//!
//! ```text
//! [[sources]] with a `url` -Fetcher-> pages -objects-> a file without a name -publish, as the source says-> the channel
//! ```
//!
//! A collection's pages become one bundle before anything of it is said, so that an object on the third page may name one on
//! the first. How far we are (`added_after`) is written down when all of it is durable, so a pull that is cut off is done
//! again; what stands already is not said twice. Times, pages and bytes are bounded. TAXII 2.1 section 3, 5.4; MISP feeds:
//! `manifest.json` and an event a file.

use super::{
    ApiError, Local,
    contract::{Acted, Json},
    plan::PublishParameters,
    publish::{self, PublishReply},
    queue,
    upload::Upload,
};
use crate::{
    config::{PullConfig, SourceConfig},
    exchange::{Element, Is, Step, Take, Visit, Walker},
    node::fetch::{Answer, FetchError, Fetcher},
    node::{door::shared_channel, membership::IMPORTED},
    record::{Timestamp, UnknownName},
};
use axum::{
    body::{Body, Bytes},
    extract::State,
};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    path::PathBuf,
    time::Duration,
};

/// Most bytes of one page, and of a file.
const PAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Most pages of one pull: at a thousand objects each, ten million.
const PAGES_MAX: u64 = 10_000;
/// Pages without an object, one after another, behind which no more is expected.
const EMPTY_PAGES_MAX: u32 = 100;
/// Most events of a feed that one pull fetches; the next goes on.
const EVENTS_MAX: usize = 2_000;
/// Most bytes of all pages of a pull, which stand in a file until they are read.
const PULL_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// How long a pull may take: a server that says a byte a minute is left, and asked again when it is due.
const PULL_MAX: Duration = Duration::from_secs(3_600);
/// Markings of a collection that are remembered, since later pages refer to those of earlier pulls.
const MARKINGS_MAX: usize = 256;
const MARKING_BYTES_MAX: usize = 16 * 1024;
/// How often it is looked which source is due.
const LOOK: Duration = Duration::from_secs(5);

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        Self::bad(error)
    }
}

/// Which source, and whether anything is to be said.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullParameters {
    pub name: String,
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of a pull.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PullReply {
    pub name: String,
    /// Objects, events or files that were fetched.
    pub fetched: u64,
    pub pages: u64,
    /// Events of a feed that could not be read; they are asked for again.
    #[serde(default)]
    pub skipped: u64,
    /// From where the next pull goes on.
    pub cursor: Option<String>,
    /// Why not everything came, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    pub import: Option<PublishReply>,
}

/// A source as a person sees it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PullLine {
    pub name: String,
    pub url: String,
    pub every: Option<String>,
    pub last: Option<String>,
    pub cursor: Option<String>,
    pub error: Option<String>,
}

/// How far we are with a source.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    added_after: Option<String>,
    /// Of a MISP feed: when each event that we have was changed there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    events: BTreeMap<String, String>,
    /// Of a collection: its marking definitions, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    markings: BTreeMap<String, Box<serde_json::value::RawValue>>,
    #[serde(default)]
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn place(local: &Local, name: &str) -> PathBuf {
    local.data.join("pulls").join(format!("{name}.json"))
}

fn progress(local: &Local, name: &str) -> Progress {
    std::fs::read(place(local, name)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn keep(local: &Local, name: &str, progress: &Progress) -> Result<(), ApiError> {
    let path = place(local, name);
    let text = serde_json::to_vec(progress).map_err(ApiError::internal)?;
    let aside = path.with_extension("new");
    let write = || {
        std::fs::create_dir_all(path.parent().unwrap_or(&local.data))?;
        let mut file = File::create(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)
    };
    write().map_err(|error: std::io::Error| ApiError::internal(format!("{}: {error}", path.display())))
}

/// `GET /v1/pull`.
pub(super) async fn sources(State(local): State<Local>) -> Json<Vec<PullLine>> {
    Json(lines(&local))
}

fn lines(local: &Local) -> Vec<PullLine> {
    let line = |source: &SourceConfig| {
        let pull = source.pull.as_ref()?;
        let Progress { added_after, at, error, .. } = progress(local, &source.name);
        Some(PullLine {
            name: source.name.clone(),
            url: pull.url.clone(),
            every: pull.every.clone(),
            last: Timestamp::from_ms(at).filter(|_| at > 0).map(|at| at.to_string()),
            cursor: added_after,
            error,
        })
    };
    local.sources.iter().filter_map(line).collect()
}

/// What of pulling a person has to look at.
pub(super) fn alarms(local: &Local) -> Vec<String> {
    lines(local).into_iter().filter_map(|line| Some(format!("source `{}` could not be pulled: {}", line.name, line.error?))).collect()
}

/// `POST /v1/pull`.
pub(super) async fn pull(State(local): State<Local>, Json(parameters): Json<PullParameters>) -> Result<Acted<PullReply>, ApiError> {
    let deed = format!("pulls source `{}`", parameters.name);
    let reply = pull_source(&local, &parameters.name, parameters.dry_run).await?;
    Ok(Acted::deed(deed, reply))
}

/// Pulls what is due, each source by itself, as long as the node runs.
pub async fn pull_when_due(local: Local) {
    for source in local.sources.iter() {
        let Some(every) = source.pull.as_ref().and_then(PullConfig::every_ms) else { continue };
        tokio::spawn(pull_again_and_again(local.clone(), source.name.clone(), every));
    }
}

async fn pull_again_and_again(local: Local, name: String, every: u64) {
    loop {
        tokio::time::sleep(LOOK).await;
        if local.clock.now().ms().saturating_sub(progress(&local, &name).at) < every {
            continue;
        }
        match pull_source(&local, &name, false).await {
            Ok(reply) => tracing::info!(source = name, fetched = reply.fetched, "pulled"),
            Err(error) => {
                tracing::warn!(source = name, error = error.text, "a source could not be pulled; it is tried again when it is due")
            }
        }
    }
}

/// One pull of a source at a time.
struct Turn<'a> {
    local: &'a Local,
    name: &'a str,
}

impl<'a> Turn<'a> {
    fn of(local: &'a Local, name: &'a str) -> Result<Self, ApiError> {
        let mut pulling = local.pulling.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match pulling.insert(name.to_owned()) {
            true => Ok(Self { local, name }),
            false => Err(ApiError::bad(format!("source `{name}` is being pulled already"))),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.local.pulling.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(self.name);
    }
}

async fn pull_source(local: &Local, name: &str, dry_run: bool) -> Result<PullReply, ApiError> {
    let names = || local.sources.iter().filter(|source| source.pull.is_some()).map(|source| source.name.as_str());
    let found = local.sources.iter().find(|source| source.name == name);
    let source = found.ok_or_else(|| ApiError::bad(UnknownName::new("source with a `url`", name, names())))?.clone();
    let config = source.pull.clone().ok_or_else(|| ApiError::bad(format!("source `{name}` has no `url` to pull from")))?;
    let _turn = Turn::of(local, name)?;
    let before = progress(local, name);
    let outcome = tokio::time::timeout(PULL_MAX, fetch_and_say(local, &source, &config, &before, dry_run)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(ApiError::bad("the server took more than an hour; nothing of it was taken")));
    if dry_run {
        return outcome.map(|(reply, _)| reply);
    }
    let at = local.clock.now().ms();
    match outcome {
        Ok((reply, after)) => {
            keep(local, name, &Progress { at, error: None, ..after })?;
            Ok(reply)
        }
        Err(error) => {
            keep(local, name, &Progress { at, error: Some(error.text.clone()), ..before })?;
            Err(error)
        }
    }
}

async fn fetch_and_say(
    local: &Local,
    source: &SourceConfig,
    config: &PullConfig,
    before: &Progress,
    dry_run: bool,
) -> Result<(PullReply, Progress), ApiError> {
    let channel = config.channel.clone().unwrap_or_else(|| IMPORTED.to_owned());
    // What would only be queued could fail later, when we have gone on already.
    let named = channel.parse().map_err(ApiError::bad)?;
    if shared_channel(&local.current.get(), &local.identity.member, &named)? && !queue::lane_is_free(local).await {
        return Err(ApiError::bad("our lane waits for its own head; what is pulled into a shared channel waits with it"));
    }
    let place = |path: &PathBuf| local.data.join(path);
    let fetcher =
        Fetcher::new(&config.url, config.networks().map_err(ApiError::bad)?, local.proxy.clone(), config.ca_file.as_ref().map(place))?;
    let secret = |path: &PathBuf| secret(local, path);
    let mut headers: Vec<(HeaderName, String)> = Vec::new();
    match (&config.user, &config.password_file, &config.token_file) {
        (Some(user), Some(file), _) => headers.push((AUTHORIZATION, basic(user, &secret(file)?))),
        (_, _, Some(file)) => headers.push((AUTHORIZATION, secret(file)?)),
        _ => (),
    }
    let mut spool = {
        let directory = local.data.join("imports");
        std::fs::create_dir_all(&directory).map_err(ApiError::internal)?;
        tempfile::tempfile_in(directory).map_err(ApiError::internal)?
    };
    let mut reply = PullReply { name: source.name.clone(), ..PullReply::default() };
    let (after, format) = match config.kind.as_str() {
        "taxii" => (taxii(&fetcher, headers, before, &mut spool, &mut reply).await?, Some("stix")),
        "misp-feed" => (misp_feed(&fetcher, headers, before, &mut spool, &mut reply).await?, Some("misp")),
        _ => (file(&fetcher, headers, before, &mut spool, &mut reply).await?, None),
    };
    reply.cursor.clone_from(&after.added_after);
    if reply.fetched == 0 {
        return Ok((reply, after));
    }
    let parameters = PublishParameters {
        channel,
        title: source.name.clone(),
        name: fetcher.base().path().rsplit('/').next().map(str::to_owned),
        format: source.format.clone().or_else(|| format.map(str::to_owned)),
        as_source: Some(source.name.clone()),
        mode: Some(config.mode.clone().unwrap_or_else(|| "refresh".to_owned())),
        withdraw_max: config.withdraw_max,
        must_say: true,
        may_be_empty: true,
        dry_run,
        ..PublishParameters::default()
    };
    spool.rewind().map_err(ApiError::internal)?;
    let mut upload = Upload::of(Body::from_stream(pieces_of(spool, fetcher.base().path().ends_with(".gz"))));
    reply.import = Some(publish::publish(State(local.clone()), parameters, &mut upload).await?.0);
    Ok((reply, after))
}

/// What stands in a file of the data directory that the configuration names: a password, a header.
pub(super) fn secret(local: &Local, path: &PathBuf) -> Result<String, ApiError> {
    let path = local.data.join(path);
    let text = std::fs::read_to_string(&path).map_err(|error| ApiError::bad(format!("{}: {error}", path.display())))?;
    Ok(text.trim().to_owned())
}

fn basic(user: &str, password: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A file's bytes, unpacked if it is packed, read on a thread of its own.
fn pieces_of(file: File, packed: bool) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let (pieces, queue) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let mut reader: Box<dyn std::io::Read> = if packed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
                Err(error) => Err(error),
            };
            let over = piece.is_err();
            if pieces.blocking_send(piece).is_err() || over {
                return;
            }
        }
    });
    futures::stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|piece| (piece, queue)) })
}

/// What a page of a collection says of itself, and its objects.
struct Page<'a> {
    more: bool,
    next: Option<String>,
    objects: u64,
    spool: &'a mut File,
    markings: &'a mut BTreeMap<String, Box<serde_json::value::RawValue>>,
    first: bool,
    failed: Option<String>,
}

impl Visit for Page<'_> {
    fn begins(&mut self, path: &[Step], is: Is) -> Take {
        match (path, is) {
            ([], Is::Object) => Take::Descend,
            ([Step::Key(key)], Is::Array) if key == "objects" => Take::Descend,
            ([Step::Key(key)], Is::Scalar) if key == "more" || key == "next" => Take::Capture,
            ([Step::Key(key), Step::Index(_)], _) if key == "objects" => Take::Capture,
            _ => Take::Skip,
        }
    }

    fn element(&mut self, element: Element<'_>) {
        let Some(bytes) = element.bytes else {
            self.failed = Some("an object of the collection is longer than 16 MiB".to_owned());
            return;
        };
        match element.path {
            // Servers write them as texts, numbers and truths.
            [Step::Key(key)] if key == "more" => self.more = matches!(bytes, b"true" | b"\"true\"" | b"1"),
            [Step::Key(_)] => {
                self.next = match serde_json::from_slice::<serde_json::Value>(bytes) {
                    Ok(serde_json::Value::String(text)) => Some(text),
                    Ok(serde_json::Value::Number(number)) => Some(number.to_string()),
                    _ => None,
                }
            }
            _ => {
                self.objects += 1;
                self.remember(bytes);
                let comma: &[u8] = if std::mem::take(&mut self.first) { b"" } else { b",\n" };
                let written = self.spool.write_all(comma).and_then(|()| self.spool.write_all(bytes));
                self.failed = written.err().map(|error| error.to_string()).or(self.failed.take());
            }
        }
    }
}

impl Page<'_> {
    /// Keeps a marking definition for the pulls to come.
    fn remember(&mut self, bytes: &[u8]) {
        #[derive(Deserialize, JsonSchema)]
        struct Named {
            #[serde(rename = "type")]
            kind: String,
            id: String,
        }
        if bytes.len() > MARKING_BYTES_MAX || memchr::memmem::find(bytes, b"\"marking-definition\"").is_none() {
            return;
        }
        let named = serde_json::from_slice::<Named>(bytes).ok().filter(|named| named.kind == "marking-definition" && named.id.len() <= 128);
        let raw = serde_json::from_slice::<Box<serde_json::value::RawValue>>(bytes).ok();
        if let (Some(named), Some(raw)) = (named, raw)
            && (self.markings.len() < MARKINGS_MAX || self.markings.contains_key(&named.id))
        {
            self.markings.insert(named.id, raw);
        }
    }
}

async fn taxii(
    fetcher: &Fetcher,
    mut headers: Vec<(HeaderName, String)>,
    before: &Progress,
    spool: &mut File,
    reply: &mut PullReply,
) -> Result<Progress, ApiError> {
    headers.push((ACCEPT, "application/taxii+json;version=2.1".to_owned()));
    let mut after = before.clone();
    let mut base = fetcher.base().clone();
    let path = base.path().trim_end_matches('/').trim_end_matches("/objects").to_owned();
    base.set_path(&format!("{path}/objects/"));
    spool.write_all(b"{\"type\":\"bundle\",\"objects\":[").map_err(ApiError::internal)?;
    let (mut next, mut first): (Option<String>, bool) = (None, true);
    let (mut from, mut reached, mut empty) = (before.added_after.clone(), None::<String>, 0);
    for marking in before.markings.values() {
        let comma = if std::mem::take(&mut first) { "" } else { ",\n" };
        write!(spool, "{comma}{}", marking.get()).map_err(ApiError::internal)?;
    }
    let mut room = PULL_BYTES_MAX;
    loop {
        let mut url = base.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(time) = &from {
                query.append_pair("added_after", time);
            }
            if let Some(next) = &next {
                query.append_pair("next", next);
            }
            query.append_pair("limit", "1000");
        }
        let answer = fetcher.get(&url, &headers).await?;
        let last = answer.header("x-taxii-date-added-last").filter(|text| Timestamp::parse(text).is_some()).map(str::to_owned);
        let markings = &mut after.markings;
        let mut page = Page { more: false, next: None, objects: 0, spool: &mut *spool, markings, first, failed: None };
        let mut walker = Walker::default();
        let max = PAGE_BYTES_MAX.min(room);
        let feed = |piece: &[u8]| {
            room = room.saturating_sub(piece.len() as u64);
            walker.feed(piece, &mut page).map_err(|error| error.to_string())
        };
        answer.each(max, feed).await?;
        // A page without objects may be nothing at all.
        let whole = walker.finish(&mut page);
        if page.objects > 0 {
            whole.map_err(ApiError::bad)?;
        }
        if let Some(why) = page.failed {
            return Err(ApiError::bad(why));
        }
        (reply.fetched, reply.pages) = (reply.fetched + page.objects, reply.pages + 1);
        first &= page.objects == 0;
        reached = last.clone().or(reached);
        empty = if page.objects == 0 { empty + 1 } else { 0 };
        let turned = page.next.is_some() && page.next != next;
        // Without a `next` of its own, a server is asked for what it added after the last object.
        let moved = page.next.is_none() && last.is_some() && last != from && page.objects > 0;
        next = page.next.take();
        if !page.more {
            // Everything before it was taken.
            after.added_after = reached.or(after.added_after);
            break;
        }
        if empty > EMPTY_PAGES_MAX || !(turned || moved) {
            reply.incomplete = Some(
                "the server announces more objects and gives no cursor for them; the objects so far were taken, and the next pull begins at the same place"
                    .to_owned(),
            );
            break;
        }
        if moved {
            from = last;
        }
        if reply.pages >= PAGES_MAX {
            return Err(ApiError::bad("the collection has more than 10,000 pages; pull a narrower one"));
        }
    }
    spool.write_all(b"]}\n").map_err(ApiError::internal)?;
    Ok(after)
}

async fn misp_feed(
    fetcher: &Fetcher,
    headers: Vec<(HeaderName, String)>,
    before: &Progress,
    spool: &mut File,
    reply: &mut PullReply,
) -> Result<Progress, ApiError> {
    #[derive(Deserialize, JsonSchema)]
    struct Listed {
        timestamp: serde_json::Value,
    }
    let at = |name: &str| {
        let mut url = fetcher.base().clone();
        let path = url.path().trim_end_matches("manifest.json").trim_end_matches('/').to_owned();
        url.set_path(&format!("{path}/{name}"));
        url
    };
    let mut manifest = Vec::new();
    let answer = fetcher.get(&at("manifest.json"), &headers).await?;
    let mut take = |piece: &[u8]| {
        manifest.extend_from_slice(piece);
        Ok(())
    };
    answer.each(PAGE_BYTES_MAX, &mut take).await?;
    let manifest: BTreeMap<String, Listed> =
        serde_json::from_slice(&manifest).map_err(|error| ApiError::bad(format!("manifest.json: {error}")))?;
    let mut after = before.clone();
    let changed = |(uuid, listed): &(String, Listed)| before.events.get(uuid) != Some(&listed.timestamp.to_string());
    // A name of a file is an id and nothing else: no path leads out of the feed.
    let is_id = |uuid: &str| uuid.len() == 36 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    // One list, so that each event is told from the next.
    spool.write_all(b"[").map_err(ApiError::internal)?;
    let mut room = PULL_BYTES_MAX;
    for (uuid, listed) in manifest.into_iter().filter(|(uuid, _)| is_id(uuid)).filter(changed).take(EVENTS_MAX) {
        let mut event = Vec::new();
        let take = |piece: &[u8]| {
            event.extend_from_slice(piece);
            Ok(())
        };
        let fetched = match fetcher.get(&at(&format!("{uuid}.json")), &headers).await {
            Ok(answer) => answer.each(PAGE_BYTES_MAX.min(room), take).await,
            Err(error) => Err(error),
        };
        // One event that is broken or gone is asked for again; the others do not wait for it.
        if fetched.is_err() || !is_whole(&event) {
            reply.skipped += 1;
            continue;
        }
        room = room.saturating_sub(event.len() as u64);
        let comma: &[u8] = if reply.fetched > 0 { b",\n" } else { b"" };
        spool.write_all(comma).and_then(|()| spool.write_all(&event)).map_err(ApiError::internal)?;
        after.events.insert(uuid, listed.timestamp.to_string());
        (reply.fetched, reply.pages) = (reply.fetched + 1, reply.pages + 1);
    }
    spool.write_all(b"]\n").map_err(ApiError::internal)?;
    Ok(after)
}

/// Whether a text is one JSON value that closes.
fn is_whole(text: &[u8]) -> bool {
    struct Roots {
        several: bool,
    }
    impl Visit for Roots {
        fn begins(&mut self, path: &[Step], _: Is) -> Take {
            self.several |= matches!(path, [Step::Index(_)]);
            if path.is_empty() { Take::Descend } else { Take::Skip }
        }
        fn element(&mut self, _: Element<'_>) {}
    }
    let mut walker = Walker::default();
    let begins = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let mut roots = Roots { several: false };
    begins && walker.feed(text, &mut roots).is_ok() && walker.finish(&mut roots).is_ok() && !roots.several
}

async fn file(
    fetcher: &Fetcher,
    headers: Vec<(HeaderName, String)>,
    before: &Progress,
    spool: &mut File,
    reply: &mut PullReply,
) -> Result<Progress, ApiError> {
    let answer: Answer = fetcher.get(&fetcher.base().clone(), &headers).await?;
    answer.each(FILE_BYTES_MAX, |piece| spool.write_all(piece).map_err(|error| error.to_string())).await?;
    (reply.fetched, reply.pages) = (1, 1);
    Ok(before.clone())
}
