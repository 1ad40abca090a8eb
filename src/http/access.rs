//! Who is shown what: noted while an answer is made, written before it leaves; and what an auditor asks of it.

use super::{
    ApiError, Local, Operator, blocking,
    contract::{Json, Query},
    time,
    travel::ReceiptLine,
};
use crate::{
    access::{Access, AccessEntry, Reach, Shown, Verified},
    clock::Clock,
    config::AccessMode,
    ledger::Ledger,
    node::door::{self, Request},
    query::{Assertion, Found},
    record::{RecordRef, Timestamp, Tlp},
};
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, Request as HttpRequest},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// The header in which a request says why it asks, percent-encoded.
pub const REASON_HEADER: &str = "huecry-reason";
/// Longest reason, in characters.
const REASON_MAX: usize = 500;
/// Most lines of one answer to an auditor.
const LINES_MAX: usize = 10_000;
/// As whom the journal names what the log says of itself.
const LOG_NAME: &str = "access log";
/// How such a line of the journal begins.
const DAY_ENDED: &str = "a day ended at ";

/// Sees what one request shows.
#[derive(Clone)]
pub(crate) struct Witness {
    access: Access,
    ledger: Ledger,
    clock: Clock,
    who: Arc<str>,
    how: Arc<str>,
    why: Option<Arc<str>>,
    clearance: Tlp,
    /// Outlets are shown what a policy lets them have; that is their reason.
    is_outlet: bool,
    shown: Arc<Mutex<Shown>>,
}

impl Witness {
    /// For a request of `operator`.
    pub fn of<B>(local: &Local, operator: &Operator, request: &HttpRequest<B>) -> Result<Self, ApiError> {
        let path = request.uri().path();
        let how = path.strip_prefix("/v1/").unwrap_or_else(|| path.trim_start_matches('/').split('/').next().unwrap_or_default());
        let why = reason(request.headers())?.or_else(|| operator.because.clone());
        Ok(Self {
            access: local.access.clone(),
            ledger: local.ledger.clone(),
            clock: local.clock.clone(),
            who: operator.signature().into(),
            how: how.into(),
            why: why.map(Into::into),
            clearance: operator.clearance,
            is_outlet: operator.outlet.is_some(),
            shown: Arc::default(),
        })
    }

    fn lacks_reason(&self) -> bool {
        self.access.mode() == AccessMode::Require && self.why.is_none() && !self.is_outlet
    }

    /// Whether anything that this reader may see is noted at all.
    fn is_on(&self) -> bool {
        self.access.notes(self.clearance)
    }

    /// Before something is sent in pieces: nobody is asked for a reason in the middle.
    pub fn demand(&self) -> Result<(), ApiError> {
        if self.is_on() && self.lacks_reason() { Err(unsaid()) } else { Ok(()) }
    }

    /// A record is shown that is marked like this.
    pub fn saw(&self, record: &RecordRef, tlp: Tlp) {
        if self.access.notes(tlp) {
            self.shown.lock().unwrap_or_else(PoisonError::into_inner).add(record);
        }
    }

    /// Something is given from which everything can be learnt that this reader may see.
    pub fn saw_everything(&self) {
        if self.is_on() {
            self.shown.lock().unwrap_or_else(PoisonError::into_inner).add_everything(self.clearance);
        }
    }

    /// The same witness of what is done for a reason that was given with it.
    pub fn for_reason(mut self, reason: &str) -> Self {
        let reason = reason.trim();
        if self.why.is_none() && !reason.is_empty() {
            self.why = Some(reason.into());
        }
        self
    }

    /// A record is shown of which only the name is at hand.
    pub fn named(&self, record: &str) {
        if self.is_on()
            && let Ok(record) = record.parse::<RecordRef>()
            && let Ok(Some(tlp)) = self.ledger.marking(&record)
        {
            self.saw(&record, tlp);
        }
    }

    /// The same of one that was read.
    pub fn found(&self, found: &Found) {
        self.saw(&found.reference, found.batch.head.tlp);
    }

    /// The same of a line of an answer, with its own words for both.
    pub fn line(&self, record: &str, tlp: &str) {
        if self.is_on()
            && let (Ok(record), Ok(tlp)) = (record.parse::<RecordRef>(), Tlp::parse(tlp))
        {
            self.saw(&record, tlp);
        }
    }

    /// The same of what an answer says of a record, and of the report whose title it shows.
    pub fn said(&self, said: &Assertion) {
        self.line(&said.reference, &said.tlp);
        if self.is_on()
            && let Some(report) = said.report.as_ref().and_then(|report| report.parse::<RecordRef>().ok())
            && let Ok(Some(tlp)) = self.ledger.marking(&report)
        {
            self.saw(&report, tlp);
        }
    }

    /// Writes what was seen since the last time. Nothing leaves before this has returned.
    pub fn write(&self) -> Result<(), ApiError> {
        let shown = std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        if shown.is_empty() {
            return Ok(());
        }
        if self.lacks_reason() {
            return Err(unsaid());
        }
        let written = self.access.note(self.clock.moment(), &self.who, &self.how, self.why.as_deref(), &shown);
        written.map_err(|error| ApiError::internal(format!("it cannot be noted who sees this, so nothing is shown: {error}")))
    }

    /// The same where nothing may wait.
    pub async fn close(&self, local: &Local) -> Result<(), ApiError> {
        if !self.shown.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            let witness = self.clone();
            blocking(move || witness.write()).await?;
        }
        if let Some(reach) = self.access.day_ended() {
            let (by, what) = (LOG_NAME.to_owned(), format!("{DAY_ENDED}{reach}"));
            if let Err(error) = door::ask(&local.door, |reply| Request::Decision { by, what, reply }).await {
                tracing::error!(%error, "the end of a day of the access log could not be journaled");
            }
        }
        Ok(())
    }
}

fn unsaid() -> ApiError {
    ApiError::forbidden("this node asks why: say it with --because TEXT, in the page's field, or in the header Huecry-Reason")
}

/// The reason that a request gives, if it does.
fn reason(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(REASON_HEADER) else { return Ok(None) };
    let wrong = || ApiError::bad(format!("{REASON_HEADER} is a text of up to {REASON_MAX} characters, percent-encoded"));
    let text = percent_encoding::percent_decode(value.as_bytes()).decode_utf8().map_err(|_| wrong())?;
    let text = text.trim();
    if text.chars().count() > REASON_MAX || text.chars().any(char::is_control) {
        return Err(wrong());
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Which looks.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessParameters {
    /// At this record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Of whoever is called like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// From then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// One look.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AccessLine {
    pub at: String,
    pub who: String,
    /// `query`, `explain`, `export`, `outlet`, ...
    pub how: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many records it was together with this one.
    pub records: u64,
}

/// What an auditor is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AccessReply {
    /// The oldest first.
    pub lines: Vec<AccessLine>,
    /// There are older ones.
    pub cut: bool,
    /// Members that it was passed on to by an order of ours.
    pub passed_on: Vec<String>,
    /// Outlets that hold it now, each with since when.
    pub outlets: Vec<String>,
    /// Of our own records: what others say of having them.
    pub receipts: Vec<ReceiptLine>,
    /// `off`, or from which marking on looks are noted.
    pub noted: String,
}

/// `GET /v1/access`.
pub(super) async fn access(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Query(parameters): Query<AccessParameters>,
) -> Result<Json<AccessReply>, ApiError> {
    let since = time(&parameters.since)?;
    let record = parameters.record.as_ref().map(|text| text.parse::<RecordRef>()).transpose().map_err(ApiError::bad)?;
    blocking(move || {
        let mut reply = AccessReply { noted: noted(&local.access), ..AccessReply::default() };
        let mut lines = std::collections::VecDeque::new();
        local
            .access
            .each(record.as_ref(), |entry| {
                if is_meant(&entry, parameters.who.as_deref(), since) {
                    if lines.len() >= LINES_MAX {
                        lines.pop_front();
                        reply.cut = true;
                    }
                    let records = entry.count();
                    lines.push_back(AccessLine { at: entry.at, who: entry.who, how: entry.how, why: entry.why, records });
                }
                true
            })
            .map_err(ApiError::internal)?;
        reply.lines = lines.into();
        if let Some(record) = record {
            beside(&local, &operator, &record, &mut reply)?;
        }
        Ok(Json(reply))
    })
    .await
}

fn is_meant(entry: &AccessEntry, who: Option<&str>, since: Option<Timestamp>) -> bool {
    // By a token a person is still that person.
    let is_who = |who: &str| entry.who == who || entry.who.strip_prefix(who).is_some_and(|rest| rest.starts_with(" (token "));
    who.is_none_or(is_who) && since.is_none_or(|since| entry.time().is_none_or(|at| at >= since))
}

fn noted(access: &Access) -> String {
    let from = [Tlp::Clear, Tlp::Green, Tlp::Amber, Tlp::AmberStrict, Tlp::Red].into_iter().find(|tlp| access.notes(*tlp));
    from.map_or_else(|| "off".to_owned(), Tlp::label)
}

/// What else carried a record out.
fn beside(local: &Local, operator: &Operator, record: &RecordRef, reply: &mut AccessReply) -> Result<(), ApiError> {
    let view = local.view(operator);
    let found = crate::query::Reading::of(&view, local.clock.now()).named_or_aside(record)?;
    // A caller who may not see a record learns who saw it, and nothing of its content.
    let Some(found) = found else { return Ok(()) };
    reply.passed_on = local.ledger.with_shares(|shares| {
        let orders = shares.all().filter(|(shared, _)| *shared == *record);
        orders.flat_map(|(_, with)| with.iter().cloned()).collect()
    });
    if let Some(value) = crate::intake::value_of(&found.record) {
        let stage = |line: &crate::node::enforcer::HitLine| {
            serde_json::to_value(line.stage).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let holding = local.enforcer.hitting(value).into_iter().filter(|line| line.record == record.to_string());
        reply.outlets =
            holding.map(|line| format!("{}, {} since {} until {}", line.outlet, stage(&line), line.since, line.until)).collect();
    }
    if record.feed.member == local.identity.member {
        reply.receipts = super::travel::reach_of(local, &record.to_string(), Tlp::Red)?.lines;
    }
    Ok(())
}

/// Against what the log is held.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessVerifyParameters {
    /// A head that an auditor wrote down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
}

/// Whether the log is what was written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AccessVerified {
    pub entries: u64,
    /// The oldest day that is kept.
    pub since: Option<String>,
    /// To be written down elsewhere: whatever is altered up to here is told from then on.
    pub head: Option<String>,
    /// Ends of days that stand in the journal.
    pub days: usize,
    /// What is wrong, a sentence each.
    pub broken: Vec<String>,
}

/// `GET /v1/access/verify`.
pub(super) async fn verify(
    State(local): State<Local>,
    Query(parameters): Query<AccessVerifyParameters>,
) -> Result<Json<AccessVerified>, ApiError> {
    let against = parameters.against.as_ref().map(|text| text.parse::<Reach>()).transpose().map_err(ApiError::bad)?;
    blocking(move || {
        let days = local.ledger.decisions(usize::MAX)?.into_iter().filter(|one| one.by == LOG_NAME);
        let days = days.filter_map(|one| Some((format!("the journal at {}", one.at), one.what.strip_prefix(DAY_ENDED)?.parse().ok()?)));
        let mut heads: Vec<(String, Reach)> = days.collect();
        let days = heads.len();
        heads.extend(against.map(|head| ("the head that was written down".to_owned(), head)));
        let Verified { entries, since, reach, broken } = local.access.verify(&heads).map_err(ApiError::internal)?;
        Ok(Json(AccessVerified { entries, since, head: reach.map(|reach| reach.to_string()), days, broken }))
    })
    .await
}
