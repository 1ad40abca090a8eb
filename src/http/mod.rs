//! What is asked of a node over HTTP, and answered. The command line is its first client; how requests get here is `window`'s.
//!
//! ```text
//! GET  /v1/status            POST /v1/publish     (body: the file itself)
//! GET  /v1/query, /v1/export POST /v1/withdraw
//! GET  /v1/explain           POST /v1/document    (body: a charter, stamp or card)
//! GET  /v1/roster            POST /v1/quarantine
//! GET  /v1/head, /v1/quarantine, /v1/agreements, /v1/log, /metrics
//! GET  /v1/policy            POST /v1/policy/try, /v1/policy/reload, /v1/policy/rejudge
//! GET  /v1/held              POST /v1/held
//! GET  /v1/disputes, /v1/outlets, /v1/hits             POST /v1/order
//! GET  /v1/sync, /v1/receipts, /v1/proof               POST /v1/verify
//! GET  /v1/follow            POST /v1/follow
//! GET  /v1/pull              POST /v1/pull
//! GET  /v1/bundle            POST /v1/bundle      (body: the file itself)
//! GET  /v1/documents         POST /v1/documents   (body: the content), /v1/documents/fetch, /v1/documents/drop
//! GET  /v1/documents/content
//! GET  /v1/questions         POST /v1/ask, /v1/sighting
//! GET  /v1/share             POST /v1/share
//! GET  /v1/match/keys        POST /v1/match
//!                            POST /v1/ledger/verify, /v1/ledger/backup, /v1/ledger/compact
//! GET  /v1/subject, /v1/retention                      POST /v1/erase/preview, /v1/erase, /v1/retention
//! GET  /v1/standby           POST /v1/standby
//! GET  /v1/me, /v1/members, /v1/events, /v1/news
//! GET  /v1/tokens            POST /v1/tokens, /v1/tokens/revoke
//! ```
//!
//! Every request says who asks ([`Caller`]): the account at the other end of the socket, or a token. What is changed is journaled with
//! that name. Without a running node the same router answers inside the command line's process.

mod access;
mod agreements;
mod bundle;
mod care;
mod changed;
mod documents;
mod enforce;
mod erase;
mod export;
mod held;
mod matching;
mod metrics;
mod news;
mod notify;
mod operators;
mod outgoing;
mod plan;
mod policy;
mod progress;
mod proofs;
mod publish;
mod pull;
mod queue;
mod renew;
mod roster;
mod share;
mod standby;
mod standing;
mod talk;
mod tokens;
mod travel;

use crate::{
    access::Access,
    charter::{AgreementLine, Freshness, Stage},
    clock::Clock,
    config::{NotifyConfig, Proxy, Role, SourceConfig},
    ledger::{Counts, DueLine, Ledger, LedgerError, Recovery},
    node::{
        Current, Identity, NetworkStatus, Watch,
        documents::Documents,
        door::{self, DoorError, Reply, Request, TakeBack, shared_channel},
        enforcer::{Enforcer, HitLine, OutletLine},
        own_heads::{OwnHeads, Waiting},
        reach::Reach,
        upkeep::Upkeep,
    },
    query::{self, QueryError, Question},
    record::{MemberId, Reason, RecordRef, Timestamp, Tlp},
};
use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, Query, State},
    http::StatusCode,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use operators::{Deed, NoDeed};

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
};

pub(crate) use access::Witness;
pub use access::{AccessLine, AccessParameters, AccessReply, AccessVerified, AccessVerifyParameters, REASON_HEADER};
pub use agreements::AgreementReply;
pub use bundle::{BundleParameters, ImportReply};
pub use care::BackupParameters;
pub(crate) use changed::{Since, each_changed};
pub use documents::{DocumentLine, DocumentNamed, DocumentPublished, DocumentsFilter, DocumentsReply, NewDocument};
pub use enforce::{OrderParameters, OrderReply, force_text};
pub use erase::{EraseParameters, ErasePreview, RetentionParameters, RetentionReply, SubjectReply};
pub use export::{CURSOR_HEADER, ERASED_HEADER, EntryLine};
pub(crate) use export::{has_stood, stated};
pub use held::{DisputeLine, DisputesFilter, HeldDecided, HeldDecision, HeldFilter, HeldLine, HeldReply};
pub use matching::{KeysParameters, MATCH_VALUES_MAX, MatchParameters, MatchReply, SeenValue};
pub use news::{EventLine, MemberLine, Myself, NewsLine, NewsParameters, NewsReply};
pub use notify::{NotifyTest, Undelivered, notify};
pub(crate) use operators::identify;
pub use operators::{Caller, Operator, Operators, sign_decision};
pub use plan::PublishParameters;
pub use policy::{ListLine, PolicyReply, RejudgeParameters, TryParameters, reload_rules};
pub use progress::Line;
pub use proofs::{ProofsReply, WrongLine};
pub use publish::{AssumedLine, ChangedLine, ListHit, PublishReply, ReachLine};
pub use pull::{PullLine, PullParameters, PullReply, pull_when_due};
pub use queue::{drain, queued};
pub use renew::{RenewParameters, RenewReply};
pub use roster::{DocumentParameters, RosterReply, decision_text};
pub use share::{ShareLine, ShareParameters, ShareReply};
pub use standby::{DecisionOut, StreamParameters, TakeParameters, TakenReply, taken_up_to};
pub use talk::{AnswerLine, AskParameters, QuestionLine, QuestionsFilter, Said, SightingParameters};
pub use tokens::{Bearer, RevokeParameters, TokenEntry, TokenLine, TokenParameters, TokenReply, Tokens, TokensError};
pub use travel::{CompletenessLine, FollowParameters, FollowReply, FollowedChannel, ReceiptLine, ReceiptsReply, SyncReply};

/// The socket's name in the data directory.
pub const SOCKET: &str = "huecry.sock";
/// Most lines of what people did in one answer.
const DECISIONS_MAX: usize = 1_000;
/// Longest JSON body.
const JSON_BYTES_MAX: usize = 1024 * 1024;

/// What the window looks at.
#[derive(Clone)]
pub struct Local {
    pub identity: Arc<Identity>,
    pub current: Current,
    pub ledger: Ledger,
    pub door: mpsc::SyncSender<Request>,
    pub clock: Clock,
    pub watch: Watch,
    pub recovery: Recovery,
    /// Whether this is a running node, or a command that opened the directory itself.
    pub running: bool,
    pub started: Timestamp,
    /// The data directory.
    pub data: PathBuf,
    /// Whether our lane may publish yet.
    pub own: OwnHeads,
    pub operators: Operators,
    /// By which programs and browsers say who they are.
    pub tokens: Tokens,
    /// Where the window listens beside its socket, once it does.
    pub addresses: Arc<std::sync::OnceLock<Vec<String>>>,
    /// What is said once of files from outside.
    pub sources: Arc<[SourceConfig]>,
    /// Through which every outgoing connection goes.
    pub proxy: Option<Proxy>,
    /// Sources that are being pulled.
    pub pulling: Arc<std::sync::Mutex<std::collections::BTreeSet<String>>>,
    /// What our outlets may act on.
    pub enforcer: Enforcer,
    /// Who is shown what.
    pub access: Access,
    /// How far others have applied what is ours.
    pub reach: Reach,
    /// Contents that are too long for a record.
    pub documents: Documents,
    /// What the ledger needs from time to time.
    pub upkeep: Upkeep,
    /// Who hears of what nobody should have to look for.
    pub notified: Arc<[NotifyConfig]>,
    pub undelivered: Undelivered,
}

/// An answer that is no success.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    /// Its status and its text, for those who say it in a form of their own.
    pub(crate) fn parts(self) -> (StatusCode, String) {
        (self.status, self.text)
    }

    pub(crate) fn bad(error: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: error.to_string() }
    }

    pub(crate) fn unknown(text: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, text: text.to_string() }
    }

    pub(crate) fn forbidden(text: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::FORBIDDEN, text: text.to_string() }
    }

    pub(crate) fn nothing(text: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::NOT_FOUND, text: text.to_string() }
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a local request failed");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, text: error.to_string() }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.text)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.text }))).into_response()
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        Self::internal(error)
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Ledger(error) => Self::internal(error),
            other => Self::bad(other),
        }
    }
}

impl From<DoorError> for ApiError {
    fn from(error: DoorError) -> Self {
        match error {
            DoorError::Ledger(_) | DoorError::Compaction(_) | DoorError::NoRoom(_) | DoorError::Stopping => Self::internal(error),
            DoorError::NoSuchRecord(_) => Self { status: StatusCode::NOT_FOUND, text: error.to_string() },
            DoorError::NotOurs(_) => Self { status: StatusCode::FORBIDDEN, text: error.to_string() },
            other => Self::bad(other),
        }
    }
}

/// The window's routes.
pub fn router(local: Local) -> Router {
    let of = |role: Role| from_fn_with_state((local.clone(), role), operators::check);
    let json = || DefaultBodyLimit::max(JSON_BYTES_MAX);
    let reads = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/query", get(ask))
        .route("/v1/explain", get(explain))
        .route("/v1/export", get(export::export))
        .route("/v1/pull", get(pull::sources))
        .route("/v1/roster", get(roster::roster))
        .route("/v1/agreements", get(agreements::agreements))
        .route("/v1/head", get(roster::head))
        .route("/v1/quarantine", get(roster::quarantine))
        .route("/v1/policy", get(policy::policy))
        .route("/v1/policy/try", post(policy::attempt).layer(DefaultBodyLimit::max(4 * JSON_BYTES_MAX)))
        .route("/v1/held", get(held::held))
        .route("/v1/disputes", get(held::disputes))
        .route("/v1/outlets", get(enforce::outlets))
        .route("/v1/hits", get(enforce::hits))
        .route("/v1/me", get(news::me))
        .route("/v1/members", get(news::members))
        .route("/v1/events", get(news::events))
        .route("/v1/news", get(news::news))
        .route("/v1/sync", get(travel::sync))
        .route("/v1/follow", get(travel::follows))
        .route("/v1/receipts", get(travel::receipts))
        .route("/v1/documents", get(documents::documents))
        .route("/v1/documents/content", get(documents::content))
        .route("/v1/questions", get(talk::questions))
        .route("/v1/share", get(share::shares))
        .route("/v1/proof", get(travel::proof))
        .route("/v1/subject", get(erase::subject))
        .route("/v1/retention", get(erase::retention))
        .route("/v1/match/keys", get(matching::keys))
        .route("/v1/match", post(matching::ask).layer(json()))
        .route("/v1/verify", post(travel::verify).layer(json()))
        .route("/v1/verify/bundle", post(proofs::verify).layer(DefaultBodyLimit::disable()))
        .route("/v1/tokens", get(tokens::tokens).post(tokens::make).layer(json()))
        .route("/v1/tokens/revoke", post(tokens::revoke).layer(json()))
        .route("/metrics", get(metrics::metrics))
        .route_layer(of(Role::Reads));
    let decides = Router::new()
        .route("/v1/quarantine", post(roster::decide).layer(json()))
        .route("/v1/held", post(held::decide).layer(json()))
        .route("/v1/order", post(enforce::order).layer(json()))
        .route("/v1/follow", post(travel::follow).layer(json()))
        .route("/v1/share", post(share::share).layer(json()))
        .route("/v1/documents/fetch", post(documents::fetch).layer(json()))
        .route("/v1/documents/drop", post(documents::drop_content).layer(json()))
        .route("/v1/policy/rejudge", post(policy::rejudge).layer(json()))
        .route_layer(of(Role::Decides));
    let publishes = Router::new()
        .route("/v1/withdraw", post(withdraw_deed).layer(json()))
        .route("/v1/renew", post(renew::renew_deed).layer(json()))
        .route("/v1/documents", post(documents::publish).layer(DefaultBodyLimit::disable()))
        .route("/v1/ask", post(talk::ask).layer(json()))
        .route("/v1/pull", post(pull::pull).layer(json()))
        .route("/v1/sighting", post(talk::sight).layer(json()))
        .route("/v1/publish", post(publish::publish_deed).layer(DefaultBodyLimit::disable()))
        .route_layer(of(Role::Publishes));
    let administers = Router::new()
        .route("/v1/bundle", get(bundle::export).post(bundle::import_deed).layer(DefaultBodyLimit::disable()))
        .route("/v1/ledger/verify", post(care::verify).layer(json()))
        .route("/v1/ledger/backup", post(care::backup).layer(json()))
        .route("/v1/ledger/compact", post(care::compact).layer(json()))
        .route("/v1/erase/preview", post(erase::preview).layer(json()))
        .route("/v1/erase", post(erase::erase).layer(json()))
        .route("/v1/retention", post(erase::decide).layer(json()))
        .route("/v1/retention/apply", post(erase::apply).layer(json()))
        .route("/v1/standby", post(standby::take).layer(json()))
        .route("/v1/notify/test", post(notify::attempt).layer(json()))
        .route("/v1/policy/reload", post(policy::reload).layer(json()))
        .route("/v1/document", post(roster::document).layer(DefaultBodyLimit::max(roster::DOCUMENT_BYTES_MAX)))
        .route_layer(of(Role::Administers));
    let audits = Router::new()
        .route("/v1/log", get(log))
        .route("/v1/access", get(access::access))
        .route("/v1/access/verify", get(access::verify))
        .route("/v1/standby", get(standby::stream))
        .route_layer(of(Role::Audits));
    reads.merge(decides).merge(publishes).merge(administers).merge(audits).with_state(local)
}

/// One line of what people did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionLine {
    pub at: String,
    pub by: String,
    pub what: String,
}

/// Which of what people did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogParameters {
    /// From then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// `GET /v1/log`, the newest first.
async fn log(State(local): State<Local>, Query(parameters): Query<LogParameters>) -> Result<Json<Vec<DecisionLine>>, ApiError> {
    let since = time(&parameters.since)?.unwrap_or_default();
    let found = blocking(move || Ok(local.ledger.decisions(DECISIONS_MAX)?)).await?;
    let line = |one: crate::ledger::DecisionEntry| DecisionLine { at: one.at.to_string(), by: one.by, what: one.what };
    Ok(Json(found.into_iter().filter(|one| one.at >= since).map(line).collect()))
}

fn time(text: &Option<String>) -> Result<Option<Timestamp>, ApiError> {
    match text.as_deref().map(|text| (text, Timestamp::parse(text))) {
        Some((text, None)) => Err(ApiError::bad(format!("`{text}` is no time; write 2026-12-31 or 2026-12-31T18:00:00Z"))),
        parsed => Ok(parsed.and_then(|(_, time)| time)),
    }
}

/// What `status` says.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub member: String,
    pub node: String,
    pub federation: String,
    pub federation_name: String,
    pub running: bool,
    /// Where the window listens beside its socket.
    pub window: Vec<String>,
    pub since: String,
    pub charter_version: u64,
    pub charter_expires: String,
    /// `current`, or `stale since ...`.
    pub charter: String,
    pub members: usize,
    pub cards: usize,
    pub policy: String,
    /// What a person must mend in the files of policies and lists.
    pub alarms: Vec<String>,
    pub lists: Vec<String>,
    pub outlets: Vec<OutletLine>,

    pub counts: Counts,
    pub records: u64,
    pub feeds: Vec<FeedLine>,
    pub recovery: Recovery,
    pub network: NetworkStatus,
    /// Agreements that end within 120 days.
    pub ending: Vec<String>,
    /// What our lane waits for before it publishes, if it does.
    pub lane_waits: Option<Waiting>,
    /// Publications and withdrawals that wait for it.
    pub queued: usize,
}

/// One feed in `status`.
#[derive(Clone, Debug, Serialize)]
pub struct FeedLine {
    pub feed: String,
    pub last: u64,
    pub head: String,
    pub time: String,
    pub quarantined: bool,
    #[serde(flatten)]
    pub counts: Counts,
}

async fn status(State(local): State<Local>) -> Json<Status> {
    let intake = local.current.get();
    let now = local.clock.now();
    let charter = intake.roster.charter().charter();
    let feeds = local.ledger.feeds();
    let mut counts = Counts::default();
    feeds.iter().for_each(|(_, state)| counts.add(&state.counts));
    let line = |(feed, state): (crate::record::FeedId, crate::ledger::FeedState)| FeedLine {
        feed: feed.to_string(),
        last: state.last(),
        head: state.id.to_string(),
        time: state.time.to_string(),
        quarantined: state.aside.is_some(),
        counts: state.counts,
    };
    Json(Status {
        member: local.identity.member.to_string(),
        node: local.identity.node_name.clone(),
        federation: intake.roster.federation().to_string(),
        federation_name: charter.name.clone(),
        running: local.running,
        window: local.addresses.get().cloned().unwrap_or_default(),
        since: local.started.to_string(),
        charter_version: charter.version,
        charter_expires: charter.expires.to_string(),
        charter: match intake.roster.freshness(now) {
            Freshness::Current => "current".to_owned(),
            Freshness::Stale { since } => format!("stale since {since}: new content is held"),
        },
        members: charter.members.len(),
        cards: intake.roster.cards().count(),
        policy: intake.policy.hash().to_string(),
        alarms: alarms(&local),
        outlets: local.enforcer.outlets(),
        lists: intake.lists.all().iter().map(|list| format!("{} ({})", list.name, list.role)).collect(),
        records: counts.total(),
        counts,
        feeds: feeds.into_iter().map(line).collect(),
        recovery: local.recovery,
        network: local.watch.get(),
        ending: intake.roster.agreement_lines(now).iter().filter_map(ending).collect(),
        lane_waits: local.own.waiting(),
        queued: queued(&local.data),
    })
}

/// What a person has to mend or to decide.
fn alarms(local: &Local) -> Vec<String> {
    let review = |line: &DueLine| format!("{} records are due for review by retention `{}`: huecry retention", line.records, line.rule);
    let mut alarms = local.current.alarms();
    alarms.extend(local.watch.get().egress_alarm);
    alarms.extend(local.upkeep.due().iter().map(review));
    alarms.extend(local.ledger.damage().into_iter().map(|what| format!("{what}: stop the node and run `huecry ledger repair`")));
    alarms.extend(local.current.room().low());
    alarms.extend(pull::alarms(local));
    alarms.extend(local.undelivered.alarms());
    alarms
}

/// The sentence about an agreement that comes to its end.
fn ending(line: &AgreementLine<'_>) -> Option<String> {
    let Stage::Running { days_left, warned: Some(_) } = line.stage else { return None };
    Some(format!("agreement `{}` of {} ends in {days_left} days, on {}", line.agreement.id, line.agreement.member, line.agreement.end()))
}

/// What `query` may be asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryParameters {
    /// A value, a network, or `*.domain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Words of a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `indicator`, `sighting`, `report`, `document`, `question`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// When it was received: from and before, RFC 3339 or a date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlp_max: Option<String>,
    pub all: bool,
    /// `value`, `newest` or `confidence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    pub limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How an export writes what is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// A bundle carries the signed heads and proofs of its records.
    pub proofs: bool,
    /// An export of what this outlet holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlet: Option<String>,
    /// An export of what is other than when this cursor was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl QueryParameters {
    fn question(&self) -> Result<Question, ApiError> {
        fn read<T: std::str::FromStr<Err: std::fmt::Display>>(text: &Option<String>) -> Result<Option<T>, ApiError> {
            text.as_ref().map(|text| text.parse()).transpose().map_err(ApiError::bad)
        }
        let kind = |name: &String| match name.parse::<crate::record::TypeName>() {
            Ok(crate::record::TypeName::Typed(kind)) => Ok(kind),
            Ok(crate::record::TypeName::Other(_)) => Ok(crate::record::ObservableType::Other),
            Err(error) => Err(ApiError::bad(error)),
        };
        Ok(Question {
            text: self.value.clone(),
            words: self.text.clone(),
            tag: self.tag.clone(),
            actor: self.actor.clone(),
            origin: read(&self.origin)?,
            channel: read(&self.channel)?,
            source: self.source.clone(),
            kind: self.kind.as_ref().map(kind).transpose()?,
            record: read(&self.record)?,
            since: time(&self.since)?,
            until: time(&self.until)?,
            tlp_max: self.tlp_max.as_deref().map(Tlp::parse).transpose().map_err(ApiError::bad)?,
            all: self.all,
            sort: read(&self.sort)?.unwrap_or_default(),
            limit: self.limit,
            cursor: self.cursor.clone(),
        })
    }
}

async fn ask(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<QueryParameters>,
) -> Result<Json<query::Answer>, ApiError> {
    let mut question = parameters.question()?;
    question.tlp_max = Some(question.tlp_max.map_or(operator.clearance, |tlp| tlp.min(operator.clearance)));
    let now = local.clock.now();
    // Most are about one value, and done before another thread would have heard of them.
    if let Some(answer) = query::answer_at_once(&local.ledger, &local.current.get(), &question, operator.clearance, now)? {
        saw(&witness, &answer);
        return Ok(Json(answer));
    }
    blocking(move || {
        let mut answer = query::answer(&local.ledger, &question, now)?;
        query::weigh(&mut answer, &local.ledger, &local.current.get(), operator.clearance, now)?;
        saw(&witness, &answer);
        Ok(Json(answer))
    })
    .await
}

fn saw(witness: &Witness, answer: &query::Answer) {
    let of_values = answer.values.iter().flat_map(|value| &value.assertions);
    of_values.chain(answer.records.iter().map(|record| &record.assertion)).for_each(|said| witness.said(said));
}

#[derive(Deserialize)]
struct ExplainParameters {
    what: String,
}

/// The whole story, and the lines of exports that hit the value.
#[derive(Serialize)]
struct ExplainReply {
    #[serde(flatten)]
    story: query::Explanation,
    lines: Vec<HitLine>,
}

async fn explain(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<ExplainParameters>,
) -> Result<Json<ExplainReply>, ApiError> {
    blocking(move || {
        let (intake, orders, outlets) = (local.current.get(), local.enforcer.orders(), local.enforcer.specs());
        let (what, now) = (&parameters.what, local.clock.now());
        let story = query::explain(&local.ledger, &intake, &outlets, &orders, what, operator.clearance, now)?;
        story.records.iter().for_each(|one| witness.said(&one.assertion));
        let value = story.value.as_ref().and_then(|value| crate::record::Observable::recognise(&value.value).ok());
        let lines = value.map(|value| enforce::hitting(&local, &value, operator.clearance, &witness)).unwrap_or_default();
        Ok(ExplainReply { story, lines })
    })
    .await
    .map(Json)
}

/// What `withdraw` takes: names of records, or values.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithdrawParameters {
    pub what: Vec<String>,
    pub reason: String,
    #[serde(default)]
    pub note: Option<String>,
    /// Do not wait for others to tell this node its own last head.
    #[serde(default)]
    pub alone: bool,
}

/// What was taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WithdrawReply {
    pub withdrawn: Vec<String>,
    pub by: Vec<String>,
    /// It waits, durable and unsigned, until the lane may publish; under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
}

/// As [`withdraw`], with a line for the journal.
async fn withdraw_deed(state: State<Local>, Json(parameters): Json<WithdrawParameters>) -> Result<impl IntoResponse, ApiError> {
    let deed = format!("withdraws {} as {}", parameters.what.join(", "), parameters.reason);
    let reply = withdraw(state, Json(parameters)).await?;
    Ok((Extension(Deed(deed)), reply))
}

async fn withdraw(State(local): State<Local>, Json(parameters): Json<WithdrawParameters>) -> Result<Json<WithdrawReply>, ApiError> {
    let reason: Reason = parameters.reason.parse().map_err(ApiError::bad)?;
    if parameters.alone {
        local.own.alone();
    }
    let (ledger, me, now) = (local.ledger.clone(), local.identity.member.clone(), local.clock.now());
    let what = parameters.what.clone();
    let targets = blocking(move || own_targets(&ledger, &me, &what, now)).await?;
    let (intake, me) = (local.current.get(), &local.identity.member);
    let shared = targets.iter().any(|target| shared_channel(&intake, me, &target.feed.channel).unwrap_or(true));
    if shared && !queue::lane_is_free(&local).await {
        let queued = Some(queue::keep_withdrawal(&local, parameters).await?);
        return Ok(Json(WithdrawReply { withdrawn: Vec::new(), by: Vec::new(), queued }));
    }
    let withdrawn = targets.iter().map(ToString::to_string).collect();
    let take_back = TakeBack { targets, reason, note: parameters.note };
    let done = at_door(&local, |reply| Request::Withdraw(take_back, reply)).await?;
    let by = done.first.into_iter().chain(done.last).map(|one| one.to_string());
    let by: std::collections::BTreeSet<String> = by.collect();
    Ok(Json(WithdrawReply { withdrawn, by: by.into_iter().collect(), queued: None }))
}

/// Records of ours: those named, and those about the values named.
fn own_targets(ledger: &Ledger, me: &MemberId, what: &[String], now: Timestamp) -> Result<Vec<RecordRef>, ApiError> {
    let mut targets = Vec::new();
    for text in what {
        if let Ok(reference) = text.parse::<RecordRef>() {
            targets.push(reference);
            continue;
        }
        let question = Question { text: Some(text.clone()), origin: Some(me.clone()), all: true, ..Question::default() };
        let answer = query::answer(ledger, &question, now)?;
        let exact = crate::record::Observable::recognise(text).map_err(ApiError::bad)?.to_string();
        let ours = answer.values.iter().filter(|value| value.value == exact).flat_map(|value| &value.assertions);
        let live = ours.filter(|one| one.kind == "indicator" && one.standing != query::Standing::Withdrawn);
        let before = targets.len();
        targets.extend(live.filter_map(|one| one.reference.parse::<RecordRef>().ok()));
        if targets.len() == before {
            let text = format!("we assert nothing about `{}` that could be withdrawn", crate::record::excerpt(text));
            return Err(ApiError { status: StatusCode::NOT_FOUND, text });
        }
    }
    Ok(targets)
}

/// Asks the door for something and waits for its answer.
async fn at_door<T: Send + 'static>(local: &Local, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, DoorError> {
    door::ask(&local.door, request).await
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}
