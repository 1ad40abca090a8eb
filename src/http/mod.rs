//! What is asked of a node over HTTP, and answered. The command line is its first client; how requests get here is `window`'s.
//!
//! ```text
//! request -operators::check: who asks, by which role-> a handler of `routes` -> Json, Acted, Lines, Events or Raw
//!                        \-> what was done, journaled         \-> Witness: what was shown, noted before it leaves
//! ```
//!
//! Every request says who asks ([`Caller`]): the account at the other end of the socket, or a token. What is changed is journaled with
//! that name. Without a running node the same router answers inside the command line's process.

mod access;
mod admission;
mod agreements;
mod bundle;
mod care;
mod changed;
mod clock;
mod contract;
mod documents;
mod enforce;
mod erase;
mod export;
mod held;
mod journal;
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
mod routes;
mod search;
mod share;
mod standby;
mod standing;
mod status;
mod talk;
mod tokens;
mod travel;
mod upload;
mod versions;
mod withdraw;

use crate::{
    access::Access,
    clock::Clock,
    config::{NotifyConfig, Proxy, SourceConfig},
    ledger::{Ledger, LedgerError, Recovery, View},
    node::{
        Current, Identity, Watch,
        documents::Documents,
        door::{self, DoorError, Reply, Request},
        enforcer::Enforcer,
        own_heads::OwnHeads,
        reach::Reach,
        upkeep::Upkeep,
    },
    query::QueryError,
    record::Timestamp,
};
use admission::Threads;
use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use operators::{Deed, NoDeed};
use std::{path::PathBuf, sync::Arc};

pub(crate) use access::Witness;
pub use access::{AccessLine, AccessParameters, AccessReply, AccessVerified, AccessVerifyParameters, REASON_HEADER};
pub use admission::{Admission, Class, Served};
pub use agreements::AgreementReply;
pub use bundle::{BundleParameters, ImportReply};
pub use care::BackupParameters;
pub(crate) use changed::{Since, each_changed};
pub use clock::{ClockConfirmed, ClockParameters, ClockReply, clock_text};
pub use documents::{DocumentLine, DocumentNamed, DocumentPublished, DocumentsFilter, DocumentsReply, NewDocument};
pub use enforce::{OrderParameters, OrderReply, force_text};
pub use erase::{EraseParameters, ErasePreview, RetentionParameters, RetentionReply, SubjectReply};
pub use export::{CURSOR_HEADER, ERASED_HEADER, EntryLine};
pub(crate) use export::{has_stood, stated};
pub use held::{DisputeLine, DisputesFilter, HeldDecided, HeldDecision, HeldFilter, HeldLine, HeldReply};
pub use journal::{DecisionLine, LogParameters};
pub use matching::{Cursor, KeysParameters, MATCH_VALUES_MAX, MatchParameters, MatchReply, SeenValue};
pub use news::{EventLine, MemberLine, Myself, NewsLine, NewsParameters, NewsReply, Upcoming};
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
pub use roster::{DocumentParameters, HeadLine, RosterReply, decision_text};
pub use routes::{openapi, router};
pub use search::QueryParameters;
pub use share::{ShareLine, ShareParameters, ShareReply};
pub use standby::{DecisionOut, StreamParameters, TakeParameters, TakenReply, taken_up_to};
pub use status::{FeedLine, Status};
pub use talk::{AnswerLine, AskParameters, QuestionLine, QuestionsFilter, Said, SightingParameters};
pub use tokens::{Bearer, RevokeParameters, TokenEntry, TokenLine, TokenParameters, TokenReply, Tokens, TokensError};
pub use travel::{CompletenessLine, FollowParameters, FollowReply, FollowedChannel, ReceiptLine, ReceiptsReply, SyncReply};
pub use withdraw::{WithdrawParameters, WithdrawReply};

/// The socket's name in the data directory.
pub const SOCKET: &str = "huecry.sock";
/// After how many seconds it is worth asking again where too much is asked at once.
const RETRY_AFTER_S: u32 = 1;

/// What the window looks at. A request is handed it many times on its way, so all share one.
#[derive(Clone)]
pub struct Local(Arc<LocalParts>);

impl From<LocalParts> for Local {
    fn from(parts: LocalParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for Local {
    type Target = LocalParts;

    fn deref(&self) -> &LocalParts {
        &self.0
    }
}

impl LocalParts {
    /// The ledger as an operator may know it. Answers read this; code that decides, publishes or counts for the machine reads `ledger`.
    pub fn view(&self, operator: &Operator) -> View {
        self.ledger.view(operator.clearance)
    }
}

/// The parts of a node by which it answers.
pub struct LocalParts {
    pub identity: Arc<Identity>,
    pub current: Current,
    /// All of it, whatever its marking: see [`LocalParts::view`].
    pub ledger: Ledger,
    pub door: door::Sender,
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
    /// What runs out next, for those who follow events.
    pub ends: Arc<Upcoming>,
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
    /// Which requests are answered now, and by which threads.
    pub admission: Admission,
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

    /// This caller has its share already.
    pub(crate) fn too_many(text: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, text: text.to_string() }
    }

    /// Nobody can have more now.
    pub(crate) fn busy(text: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, text: text.to_string() }
    }

    /// The client sent too slowly.
    pub(crate) fn late(text: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::REQUEST_TIMEOUT, text: text.to_string() }
    }

    pub(crate) fn no_room(text: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::INSUFFICIENT_STORAGE, text: text.to_string() }
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
        let again_s = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_S);
        let mut response = (self.status, contract::Json(contract::Refusal { error: self.text })).into_response();
        response.headers_mut().extend(again_s.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
        response
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

/// Asks the door for something and waits for its answer.
async fn at_door<T: Send + 'static>(local: &Local, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, DoorError> {
    door::ask(&local.door, request).await
}

/// Does `work` on a thread of the class whose request is being answered.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    Threads::here().run(work).await?
}

fn time(text: &Option<String>) -> Result<Option<Timestamp>, ApiError> {
    match text.as_deref().map(|text| (text, Timestamp::parse(text))) {
        Some((text, None)) => Err(ApiError::bad(format!("`{text}` is no time; write 2026-12-31 or 2026-12-31T18:00:00Z"))),
        parsed => Ok(parsed.and_then(|(_, time)| time)),
    }
}
