//! Notifications: what nobody should have to look for is told to whom `[[notify]]` names.
//!
//! ```text
//! journal behind a position -each record-> our assets? taken back? searched for? \
//! connections, agreements, alarms -what is new-> silent? ending? wrong?          } -lines-> mail, syslog or webhook -> the next position
//! ```
//!
//! Each of those reads by itself, and goes on in its file only when its message was taken over: a server that is away gets it later, and after a
//! crash some lines come twice rather than never. Servers are those of the configuration; nothing that a record says is ever contacted.
//! Of what is marked above `tlp_max` only the record's name and marking are told. A message with words of what is noted is noted itself.

use super::{
    ApiError, Local, blocking,
    contract::Json,
    each_changed,
    pull::secret,
    status::{alarms, ending},
};
use crate::{
    access::Shown,
    config::{NotifyConfig, SearchConfig},
    ledger::Position,
    node::{
        delivery::replace,
        fetch::{FetchError, Fetcher},
    },
    policy::ListRole,
    query::{Found, Meant, Question, Reading, Standing, title_of},
    record::{HOUR_MS, MemberId, Record, RecordRef, Timestamp, Tlp, excerpt, visible},
};
use axum::extract::State;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Lines of one message; of more it is said how many.
const LINES_MAX: usize = 100;
/// How long a server may take.
const DELIVERY_MAX: Duration = Duration::from_secs(60);
/// How long one waits at most to try again.
const AGAIN_MAX: Duration = Duration::from_secs(900);
/// Things that are remembered as told: members and agreements of a charter, and alarms.
const TOLD_MAX: usize = 4_096;

/// One thing that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Notice {
    /// `assets`, `withdrawn`, `silent`, `ending`, `alarms` or `searches`.
    what: &'static str,
    /// One line, in words.
    text: String,
    /// The record, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    /// The same, if its value or title is told and that has to be noted.
    #[serde(skip)]
    shows: Option<RecordRef>,
}

/// How far one of those was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// The ledger that the position is one of, and the position.
    mark: String,
    position: Position,
    /// Members that are not connected, and since when.
    away: BTreeMap<String, u64>,
    /// What lasts and was told once.
    lasting: BTreeSet<String>,
}

/// What could not be delivered, by whom it was for: for the status.
#[derive(Clone, Default)]
pub struct Undelivered(Arc<Mutex<BTreeMap<String, String>>>);

impl Undelivered {
    /// A sentence each.
    pub(super) fn alarms(&self) -> Vec<String> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(name, why)| format!("`{name}` cannot be notified: {why}")).collect()
    }

    fn set(&self, name: &str, failure: Option<String>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(why) => drop(held.insert(name.to_owned(), why)),
            None => drop(held.remove(name)),
        }
    }
}

/// Tells everybody whom `[[notify]]` names, as long as the node runs.
pub fn notify(local: &Local, searches: &[SearchConfig]) {
    let searches: Vec<(String, Question)> =
        searches.iter().filter_map(|search| Some((search.name.clone(), search.question().ok()?))).collect();
    let searches = Arc::new(searches);
    for target in local.notified.iter() {
        let one = One { local: local.clone(), target: target.clone(), searches: Arc::clone(&searches) };
        tokio::spawn(one.run());
    }
}

/// One of those who are notified.
#[derive(Clone)]
struct One {
    local: Local,
    target: NotifyConfig,
    searches: Arc<Vec<(String, Question)>>,
}

impl One {
    async fn run(self) {
        let every = Duration::from_secs(u64::from(self.target.gather_s.max(1)));
        let mut pause = every;
        loop {
            tokio::time::sleep(pause).await;
            match self.round().await {
                Ok(more) => {
                    // After a large import there is more to look through than one round reads.
                    pause = if more { Duration::ZERO } else { every };
                    self.local.undelivered.set(&self.target.name, None);
                }
                Err(error) => {
                    let (_, why) = error.parts();
                    tracing::error!(error = why, to = self.target.name, "a notification could not be delivered; it is tried again");
                    self.local.undelivered.set(&self.target.name, Some(why));
                    pause = (pause * 2).clamp(every, AGAIN_MAX.max(every));
                }
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.local.data.join("notify").join(format!("{}.json", self.target.name))
    }

    /// Tells what is new, and notes that it was told.
    async fn round(&self) -> Result<bool, ApiError> {
        let one = self.clone();
        let (before, after, notices, more) = blocking(move || {
            let before = one.told()?;
            let (mut after, mut notices) = (before.clone(), Vec::new());
            let more = one.gather(&mut after, &mut notices)?;
            one.note(&notices)?;
            Ok((before, after, notices, more))
        })
        .await?;
        if !notices.is_empty() {
            deliver(&self.local, &self.target, &notices).await?;
        }
        if before != after {
            let path = self.path();
            blocking(move || keep(&path, &after)).await?;
        }
        Ok(more)
    }

    /// Notes which records they are told of in words, before they are.
    fn note(&self, notices: &[Notice]) -> Result<(), ApiError> {
        let mut shown = Shown::default();
        notices.iter().filter_map(|notice| notice.shows.as_ref()).for_each(|record| shown.add(record));
        let (access, who) = (&self.local.access, format!("notify {}", self.target.name));
        access.note(self.local.clock.moment(), &who, "notify", None, &shown).map_err(ApiError::internal)
    }

    /// How far they were told; one who is new hears of what happens from now on.
    fn told(&self) -> Result<Told, ApiError> {
        let (ledger, path) = (&self.local.ledger, self.path());
        let kept: Option<Told> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(ApiError::internal(format!("{}: {error}", path.display()))),
        };
        match kept.filter(|told| told.mark == ledger.mark() && ledger.is_place(told.position)) {
            Some(told) => Ok(told),
            None => {
                let told = Told { mark: ledger.mark().to_owned(), position: ledger.here()?, ..Told::default() };
                keep(&path, &told)?;
                Ok(told)
            }
        }
    }

    fn gather(&self, told: &mut Told, notices: &mut Vec<Notice>) -> Result<bool, ApiError> {
        let (entries, (onward, more)) = self.local.ledger.changes_from(told.position)?;
        let mut reading = Reading::whole(&self.local.ledger, self.local.clock.now());
        let mut seen = BTreeSet::new();
        for entry in entries {
            for change in &entry.changes {
                each_changed(&mut reading, &self.local, change, &mut |reading, record, _| {
                    if seen.insert(record.clone()) {
                        self.about(reading, &record, notices)?;
                    }
                    Ok(true)
                })?;
            }
        }
        told.position = onward;
        self.lasting(told, notices);
        Ok(more)
    }

    /// What one record is a reason for.
    fn about(&self, reading: &mut Reading<'_>, record: &RecordRef, notices: &mut Vec<Notice>) -> Result<(), ApiError> {
        let Some(found) = reading.named(record)? else { return Ok(()) };
        let standing = reading.standing(&found).0;
        let (name, is_told) = self.name_of(&found);
        let shows = Some(record.clone()).filter(|_| is_told && self.local.access.notes(found.batch.head.tlp));
        let mut say = |what: &'static str, text: String| {
            if self.target.hears_of(what) {
                // Of what may not be told neither who says it nor what found it: both say what it is about.
                let text = if is_told { text } else { format!("{name}: {record}") };
                notices.push(Notice { what, text: visible(&text), record: Some(record.to_string()), shows: shows.clone() });
            }
        };
        let member = &found.batch.head.member;
        if standing == Standing::Withdrawn {
            let outlets = self.local.enforcer.held_lately(record);
            if !outlets.is_empty() {
                say("withdrawn", format!("{member} took back {name}, which was enforced at {}: {record}", outlets.join(", ")));
            }
            return Ok(());
        }
        if *member != self.local.identity.member
            && matches!(found.record, Record::Indicator(_))
            && let Some(value) = crate::intake::value_of(&found.record)
        {
            let intake = self.local.current.get();
            let own: BTreeSet<&str> =
                intake.lists.of(value).lists().filter(|list| list.role == ListRole::Own).map(|list| list.name.as_str()).collect();
            if !own.is_empty() {
                let lists = own.into_iter().collect::<Vec<_>>().join("`, `");
                say("assets", format!("{member} names what is ours, {name} (list `{lists}`), {standing} here: {record}"));
            }
        }
        if self.target.hears_of("searches") {
            for (search, question) in self.searches.iter() {
                if Meant::of(question)?.is_meant_by_value(reading, &found)? {
                    say("searches", format!("search `{search}` finds {name} by {member}, {standing} here: {record}"));
                }
            }
        }
        Ok(())
    }

    /// The value or title of a record, if it may be told, and whether it is.
    fn name_of(&self, found: &Found) -> (String, bool) {
        let (tlp, tlp_max) = (found.batch.head.tlp, Tlp::parse(&self.target.tlp_max).unwrap_or(Tlp::Clear));
        match tlp <= tlp_max {
            true => (format!("{} ({})", excerpt(&title_of(&found.record)), tlp.label()), true),
            false => (format!("a record marked {}", tlp.label()), false),
        }
    }

    /// What lasts: told when it begins, and again when it has ended and begins anew.
    fn lasting(&self, told: &mut Told, notices: &mut Vec<Notice>) {
        let (local, now) = (&self.local, self.local.clock.now());
        let (intake, network) = (local.current.get(), local.watch.get());
        let connected: BTreeSet<&str> = network.peers.iter().map(|peer| peer.member.as_str()).collect();
        let others = intake.roster.charter().charter().members.iter().map(|member| member.id.clone());
        // Who has no card has no node yet.
        let others: Vec<MemberId> = others.filter(|id| *id != local.identity.member && intake.roster.card(id).is_some()).collect();
        told.away.retain(|member, _| others.iter().any(|other| other.as_str() == member) && !connected.contains(member.as_str()));
        let mut lasting: Vec<(&'static str, String)> = Vec::new();
        for member in others.iter().map(MemberId::as_str).filter(|member| !connected.contains(member)) {
            let since = *told.away.entry(member.to_owned()).or_insert(now.ms());
            if now.ms().saturating_sub(since) >= u64::from(self.target.silent_hours) * HOUR_MS {
                let since = Timestamp::from_ms(since).unwrap_or_default();
                lasting.push(("silent", format!("no node of {member} is connected since {since}")));
            }
        }
        // The day counts down and would be told every day; the threshold that was passed is told once in each term.
        let mut terms = BTreeSet::new();
        for line in intake.roster.agreement_lines(now) {
            if let (Some(text), crate::charter::Stage::Running { warned: Some(warned), .. }) = (ending(&line), &line.stage) {
                let key = format!(
                    "agreement {} of {} until {} within {warned:?}",
                    line.agreement.id,
                    line.agreement.member,
                    line.agreement.end()
                );
                terms.insert(key.clone());
                if told.lasting.len() < TOLD_MAX && self.target.hears_of("ending") && told.lasting.insert(key) {
                    notices.push(Notice { what: "ending", text: visible(&text), record: None, shows: None });
                }
            }
        }
        // That this very message could not be delivered is no news in it.
        let own = format!("`{}` cannot be notified", self.target.name);
        lasting.extend(alarms(local).into_iter().filter(|alarm| !alarm.starts_with(&own)).map(|alarm| ("alarms", alarm)));
        // What counts down or up in a sentence is no other thing each time.
        let key_of = |what: &str, text: &str| format!("{what} {}", text.chars().filter(|char| !char.is_ascii_digit()).collect::<String>());
        let keys: BTreeSet<String> = lasting.iter().map(|(what, text)| key_of(what, text)).collect();
        told.lasting.retain(|key| terms.contains(key) || keys.contains(key));
        for (what, text) in lasting {
            if told.lasting.len() < TOLD_MAX && self.target.hears_of(what) && told.lasting.insert(key_of(what, &text)) {
                notices.push(Notice { what, text: visible(&text), record: None, shows: None });
            }
        }
    }
}

fn keep(path: &std::path::Path, told: &Told) -> Result<(), ApiError> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(ApiError::internal)?;
    }
    replace(path, |out| out.write_all(&serde_json::to_vec(told)?)).map_err(ApiError::internal)
}

/// Hands a message over; what was not taken over is said.
async fn deliver(local: &Local, target: &NotifyConfig, notices: &[Notice]) -> Result<(), ApiError> {
    let handing = async {
        match (&target.webhook, &target.syslog) {
            (Some(url), _) => by_webhook(local, target, url, notices).await,
            (None, Some(place)) => by_syslog(local, place.clone(), notices).await,
            (None, None) => by_mail(local, target, notices).await,
        }
    };
    tokio::time::timeout(DELIVERY_MAX, handing).await.map_err(|_| ApiError::internal("its server did not answer in time"))?
}

async fn by_webhook(local: &Local, target: &NotifyConfig, url: &str, notices: &[Notice]) -> Result<(), ApiError> {
    let authority = target.ca_file.as_ref().map(|path| local.data.join(path));
    let fetcher = Fetcher::new(url, target.networks().map_err(ApiError::bad)?, local.proxy.clone(), authority)?;
    let mut headers = vec![(CONTENT_TYPE, "application/json".to_owned())];
    if let Some(path) = &target.token_file {
        headers.push((AUTHORIZATION, secret(local, path)?));
    }
    let shown: Vec<&Notice> = notices.iter().take(LINES_MAX).collect();
    let body = json!({
        "member": local.identity.member.as_str(), "node": local.identity.node_name, "at": local.clock.now().to_string(),
        "notices": shown, "more": notices.len() - shown.len(),
    });
    let body = serde_json::to_vec(&body).map_err(ApiError::internal)?;
    match fetcher.post(&headers, body).await {
        Ok(_taken) => Ok(()),
        Err(FetchError::Status { host, status, .. }) => Err(ApiError::internal(format!("{host} answers {status}"))),
        Err(error) => Err(ApiError::internal(error)),
    }
}

async fn by_mail(local: &Local, target: &NotifyConfig, notices: &[Notice]) -> Result<(), ApiError> {
    let server = target.server.clone().unwrap_or_default();
    let url = url::Url::parse(&server).map_err(|_| ApiError::bad(format!("`{}` is no server of mail", excerpt(&server))))?;
    let is_private = url.scheme() == "smtps" || url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !is_private && !is_here {
        return Err(ApiError::bad("mail leaves this machine only with TLS: write smtps://HOST:465 or smtp://HOST:587?tls=required"));
    }
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&server).map_err(ApiError::bad)?.timeout(Some(DELIVERY_MAX));
    if let (Some(path), true) = (&target.ca_file, is_private) {
        let path = local.data.join(path);
        let bytes = std::fs::read(&path).map_err(|error| ApiError::bad(format!("{}: {error}", path.display())))?;
        let trusted = TlsParameters::builder(host).add_root_certificate(Certificate::from_pem(&bytes).map_err(ApiError::bad)?);
        let trusted = trusted.build_rustls().map_err(ApiError::bad)?;
        builder = builder.tls(if url.scheme() == "smtps" { Tls::Wrapper(trusted) } else { Tls::Required(trusted) });
    }
    if let (Some(user), Some(path)) = (&target.user, &target.password_file) {
        builder = builder.credentials(Credentials::new(user.clone(), secret(local, path)?));
    }
    let address = |text: &String| text.parse::<Mailbox>().map_err(|error| ApiError::bad(format!("`{}`: {error}", excerpt(text))));
    let mut message = Message::builder().from(address(&target.from.clone().unwrap_or_default())?);
    for to in &target.mail {
        message = message.to(address(to)?);
    }
    let first = notices.first().map(|notice| notice.text.clone()).unwrap_or_default();
    let subject = match notices.len() {
        1 => format!("huecry {}: {first}", local.identity.member),
        number => format!("huecry {}: {number} things to know", local.identity.member),
    };
    let mut text: String = notices.iter().take(LINES_MAX).map(|notice| format!("{}: {}\n", notice.what, notice.text)).collect();
    if notices.len() > LINES_MAX {
        text.push_str(&format!("and {} more\n", notices.len() - LINES_MAX));
    }
    text.push_str(&format!("\n-- \nnode `{}` of {}; `huecry explain RECORD` says more\n", local.identity.node_name, local.identity.member));
    let message = message.subject(subject).header(ContentType::TEXT_PLAIN).body(text).map_err(ApiError::internal)?;
    builder.build().send(message).await.map_err(ApiError::internal)?;
    Ok(())
}

/// RFC 5424, a message a notice; facility local0, severity warning.
async fn by_syslog(local: &Local, place: String, notices: &[Notice]) -> Result<(), ApiError> {
    let lines: Vec<String> = notices.iter().take(LINES_MAX).map(|notice| format!("{}: {}", notice.what, notice.text)).collect();
    let more = notices.len() - lines.len();
    let (member, host) = (local.identity.member.to_string(), local.identity.node_name.clone());
    blocking(move || {
        let formatter = syslog::Formatter5424 {
            facility: syslog::Facility::LOG_LOCAL0,
            hostname: Some(host),
            process: "huecry".to_owned(),
            pid: std::process::id(),
        };
        let failed = |error: syslog::Error| ApiError::internal(format!("{}: {error}", excerpt(&place)));
        let mut logger = match place.strip_prefix("udp://") {
            Some(server) => {
                let ours = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
                syslog::udp(formatter, ours, server).map_err(failed)?
            }
            None => syslog::unix(formatter).map_err(failed)?,
        };
        let last = (more > 0).then(|| format!("and {more} more"));
        for line in lines.into_iter().chain(last) {
            logger.warning((0, BTreeMap::new(), format!("{member} {line}"))).map_err(failed)?;
        }
        Ok(())
    })
    .await
}

/// Whom to try.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyTest {
    pub name: String,
}

/// `POST /v1/notify/test`: tells one of them that it can be told.
pub(super) async fn attempt(State(local): State<Local>, Json(asked): Json<NotifyTest>) -> Result<Json<NotifyTest>, ApiError> {
    let targets = Arc::clone(&local.notified);
    let names = || targets.iter().map(|target| target.name.as_str());
    let target = targets.iter().find(|target| target.name == asked.name);
    let target = target.ok_or_else(|| ApiError::bad(crate::record::UnknownName::new("notify", &asked.name, names())))?;
    let notice = Notice { what: "alarms", text: "this is a test; nothing has happened".to_owned(), record: None, shows: None };
    deliver(&local, target, &[notice]).await.map_err(|error| ApiError::bad(error.parts().1))?;
    Ok(Json(asked))
}
