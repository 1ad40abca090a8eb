//! Renewing reports of ours: they hold longer, and nothing of them is sent again.

use super::{
    ApiError, Local, Operator, at_door, blocking,
    contract::{Acted, Json},
    queue,
};
use crate::{
    envelope::Class,
    ledger::View,
    node::door::{Publication, ReportOf, Request, shared_channel},
    query::{Reading, Standing},
    record::{ChannelName, DAY_MS, Kind, LIST_MAX, Record, RecordRef, Renewal, Timestamp, Tlp, WireRef},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most reports that one request renews.
const REPORTS_MAX: usize = 65_536;

/// What `renew` takes: names of reports, and until when they are to hold.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewParameters {
    pub what: Vec<String>,
    /// Days from now.
    #[serde(default)]
    pub valid_days: Option<u32>,
    /// Instead of days.
    #[serde(default)]
    pub valid_until: Option<String>,
    /// Do not wait for others to tell this node its own last head.
    #[serde(default)]
    pub alone: bool,
}

/// What was renewed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RenewReply {
    pub renewed: Vec<String>,
    /// Those that hold as long already: nothing is said of them.
    #[serde(default)]
    pub already: Vec<String>,
    pub until: String,
    pub by: Vec<String>,
    /// It waits, durable and unsigned, until the lane may publish; under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
}

/// As [`renew`], with a line for the journal.
pub(super) async fn renew_deed(
    state: State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<RenewParameters>,
) -> Result<Acted<RenewReply>, ApiError> {
    let what = parameters.what.join(", ");
    let Json(reply) = renew(state, operator.clearance, parameters).await?;
    let is_deed = !reply.renewed.is_empty() || reply.queued.is_some();
    Ok(if is_deed { Acted::deed(format!("renews {what} until {}", reply.until), reply) } else { Acted::nothing(reply) })
}

/// Renews our own reports that are marked up to a clearance.
pub(super) async fn renew(
    State(local): State<Local>,
    clearance: Tlp,
    mut parameters: RenewParameters,
) -> Result<Json<RenewReply>, ApiError> {
    let until = until(&parameters, local.clock.now())?;
    // What waits in the queue means the same day.
    (parameters.valid_days, parameters.valid_until) = (None, Some(until.to_string()));
    if parameters.alone {
        local.own.alone();
    }
    let (asked, view, what) = (local.clone(), local.ledger.view(clearance), parameters.what.clone());
    let Ours { reports, already } = blocking(move || own_reports(&asked, &view, &what, until)).await?;
    let (intake, me) = (local.current.get(), &local.identity.member);
    let shared = reports.keys().any(|(channel, _)| shared_channel(&intake, me, channel).unwrap_or(true));
    let mut reply = RenewReply { renewed: Vec::new(), already, until: until.to_string(), by: Vec::new(), queued: None };
    if shared && !queue::lane_is_free(&local).await {
        reply.queued = Some(queue::keep_renewal(&local, parameters).await?);
        return Ok(Json(reply));
    }
    for ((channel, tlp), reports) in reports {
        reply.renewed.extend(reports.iter().map(ToString::to_string));
        let records = renewals(&reports, until);
        let publication = Publication { channel, tlp, class: Class::Content, report: ReportOf::None, records };
        let done = at_door(&local, |reply| Request::Publish(Box::new(publication), reply)).await?;
        reply.by.extend(done.first.into_iter().chain(done.last).map(|one| one.to_string()));
    }
    reply.by.dedup();
    Ok(Json(reply))
}

/// The records that renew these reports, as many as it takes.
pub(super) fn renewals(reports: &[RecordRef], until: Timestamp) -> Vec<Record> {
    let whole = |report: &RecordRef| WireRef::Whole(report.clone());
    let renewal = |some: &[RecordRef]| {
        Record::Renewal(Renewal { kind: Kind::Renewal, valid_until: until, targets: some.iter().map(whole).collect() })
    };
    reports.chunks(LIST_MAX).map(renewal).collect()
}

fn until(parameters: &RenewParameters, now: Timestamp) -> Result<Timestamp, ApiError> {
    let until = match (&parameters.valid_until, parameters.valid_days) {
        (Some(text), None) => {
            Timestamp::parse(text).ok_or_else(|| ApiError::bad(format!("`{text}` is no time; write 2026-12-31 or 2026-12-31T00:00:00Z")))?
        }
        (None, Some(days)) => now.plus_ms(u64::from(days) * DAY_MS),
        _ => return Err(ApiError::bad("say until when they are to hold: either valid_days or valid_until")),
    };
    if until <= now {
        return Err(ApiError::bad(format!("{until} is over; to take something back there is `huecry withdraw`")));
    }
    Ok(until)
}

/// Reports of ours that were named.
#[derive(Default)]
struct Ours {
    /// Those that stand and would hold longer, by channel and marking.
    reports: BTreeMap<(ChannelName, Tlp), Vec<RecordRef>>,
    /// Those that hold as long already: a command that was cut off is given again.
    already: Vec<String>,
}

fn own_reports(local: &Local, view: &View, what: &[String], until: Timestamp) -> Result<Ours, ApiError> {
    if what.is_empty() || what.len() > REPORTS_MAX {
        return Err(ApiError::bad("name one report at least, and 65,536 at most"));
    }
    let mut reading = Reading::of(view, local.clock.now());
    let mut found = Ours::default();
    for text in what {
        let name: RecordRef = text.parse().map_err(ApiError::bad)?;
        let one = reading.named(&name)?;
        let Some(one) = one else { return Err(ApiError::nothing(format!("record `{name}` is not here"))) };
        if name.feed.member != local.identity.member {
            return Err(ApiError::bad(format!("`{name}` is another member's; only its author can renew it")));
        }
        match (&one.record, &one.report) {
            (Record::Report(_), _) => (),
            (Record::Indicator(_), Some(report)) => {
                return Err(ApiError::bad(format!("`{name}` is an indicator; what is renewed is its whole report, `{report}`")));
            }
            _ => return Err(ApiError::bad(format!("`{name}` is no report; a record that stands alone is published anew"))),
        }
        if let (Standing::Withdrawn | Standing::Quarantined, why) = reading.standing(&one) {
            return Err(ApiError::bad(format!("`{name}` does not stand: {why}")));
        }
        match one.lent().valid_until {
            None => return Err(ApiError::bad(format!("`{name}` names no end, so there is none to put off"))),
            Some(end) if end >= until => {
                found.already.push(name.to_string());
                continue;
            }
            Some(_) => (),
        }
        let reports = found.reports.entry((name.feed.channel.clone(), one.batch.head.tlp)).or_default();
        if !reports.contains(&name) {
            reports.push(name);
        }
    }
    Ok(found)
}
