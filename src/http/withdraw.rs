//! Takes back what we said.

use super::{
    ApiError, Local, Operator, at_door, blocking,
    contract::{Acted, Json},
    queue,
};
use crate::{
    ledger::Ledger,
    node::door::{DoorError, Request, TakeBack, shared_channel},
    query::{self, Question},
    record::{MemberId, Reason, RecordRef, Timestamp, Tlp},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `withdraw` takes: names of records, or values.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WithdrawReply {
    pub withdrawn: Vec<String>,
    pub by: Vec<String>,
    /// It waits, durable and unsigned, until the lane may publish; under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
}

/// As [`withdraw`], with a line for the journal.
pub(super) async fn withdraw_deed(
    state: State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<WithdrawParameters>,
) -> Result<Acted<WithdrawReply>, ApiError> {
    let deed = format!("withdraws {} as {}", parameters.what.join(", "), parameters.reason);
    let Json(reply) = withdraw(state, operator.clearance, parameters).await?;
    Ok(Acted::deed(deed, reply))
}

/// Withdraws our own records that are marked up to a clearance.
pub(super) async fn withdraw(
    State(local): State<Local>,
    clearance: Tlp,
    mut parameters: WithdrawParameters,
) -> Result<Json<WithdrawReply>, ApiError> {
    let reason: Reason = parameters.reason.parse().map_err(ApiError::bad)?;
    if parameters.alone {
        local.own.alone();
    }
    let (ledger, me, now) = (local.ledger.clone(), local.identity.member.clone(), local.clock.now());
    let what = parameters.what.clone();
    let targets = blocking(move || own_targets(&ledger, &me, (&what, clearance), now)).await?;
    let (intake, me) = (local.current.get(), &local.identity.member);
    let shared = targets.iter().any(|target| shared_channel(&intake, me, &target.feed.channel).unwrap_or(true));
    if shared && !queue::lane_is_free(&local).await {
        // By name: a value may stand in records that the caller may not see.
        parameters.what = targets.iter().map(ToString::to_string).collect();
        let queued = Some(queue::keep_withdrawal(&local, parameters).await?);
        return Ok(Json(WithdrawReply { withdrawn: Vec::new(), by: Vec::new(), queued }));
    }
    let withdrawn = targets.iter().map(ToString::to_string).collect();
    let take_back = TakeBack { targets, reason, note: parameters.note };
    let done = at_door(&local, |reply| Request::Withdraw(Box::new(take_back), reply)).await?;
    let by = done.first.into_iter().chain(done.last).map(|one| one.to_string());
    let by: std::collections::BTreeSet<String> = by.collect();
    Ok(Json(WithdrawReply { withdrawn, by: by.into_iter().collect(), queued: None }))
}

/// Records of ours: those named, and those about the values named.
fn own_targets(ledger: &Ledger, me: &MemberId, (what, clearance): (&[String], Tlp), now: Timestamp) -> Result<Vec<RecordRef>, ApiError> {
    let mut targets = Vec::new();
    for text in what {
        if let Ok(reference) = text.parse::<RecordRef>() {
            if ledger.marking(&reference)?.is_some_and(|tlp| tlp > clearance) && reference.feed.member == *me {
                return Err(DoorError::NoSuchRecord(reference).into());
            }
            targets.push(reference);
            continue;
        }
        let question =
            Question { text: Some(text.clone()), origin: Some(me.clone()), all: true, tlp_max: Some(clearance), ..Question::default() };
        let answer = query::answer(ledger, &question, now)?;
        let exact = crate::record::Observable::recognise(text).map_err(ApiError::bad)?.to_string();
        let ours = answer.values.iter().filter(|value| value.value == exact).flat_map(|value| &value.assertions);
        let live = ours.filter(|one| one.kind == "indicator" && one.standing != query::Standing::Withdrawn);
        let before = targets.len();
        targets.extend(live.filter_map(|one| one.reference.parse::<RecordRef>().ok()));
        if targets.len() == before {
            let text = format!("we assert nothing about `{}` that could be withdrawn", crate::record::excerpt(text));
            return Err(ApiError::nothing(text));
        }
    }
    Ok(targets)
}
