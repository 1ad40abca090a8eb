//! The node's time, its certainty, and its confirmation by operators.

use super::{
    ApiError, Local,
    contract::{Acted, Json},
    operators::{self, Operator},
};
use crate::{record::Timestamp, timekeeping::Now};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The time here. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ClockReply {
    /// The clock of the machine.
    pub wall: String,
    /// The time by this node.
    pub now: String,
    /// It is surely not earlier.
    pub earliest: String,
    /// It is surely not later.
    pub latest: String,
    /// The contradiction of the clock of the machine, if there is one.
    pub doubt: Option<String>,
    /// The reason to erase nothing by age yet.
    pub unsettled: Option<String>,
}

impl ClockReply {
    fn of(local: &Local) -> Self {
        let (clock, Now { best, earliest, latest, .. }) = (&local.clock, local.clock.moment());
        Self {
            wall: clock.wall().to_string(),
            now: best.to_string(),
            earliest: earliest.to_string(),
            latest: latest.to_string(),
            doubt: clock.doubt().map(|doubt| doubt.to_string()),
            unsettled: clock.unsettled(),
        }
    }
}

pub(super) async fn clock(State(local): State<Local>) -> Json<ClockReply> {
    Json(ClockReply::of(&local))
}

/// The signature of an operator who says that the clock is right, where two people are needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockParameters {
    /// Name of the operator who signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// In hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The outcome, with the operators who have signed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ClockConfirmed {
    /// With two people it is when the second has signed.
    pub done: bool,
    pub signed: Vec<String>,
    pub clock: ClockReply,
}

/// The text under which operators sign that the clock of a node is right, on the day that it shows.
pub fn clock_text(day: Timestamp) -> String {
    format!("the clock is right on {}", day.to_string().get(..10).unwrap_or_default())
}

pub(super) async fn confirm(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<ClockParameters>,
) -> Result<Acted<ClockConfirmed>, ApiError> {
    // Signed by the clock that is in question, which both sides read.
    let wall = local.clock.wall();
    let signed = if local.operators.two_needed() {
        let unsigned = "confirming the clock takes two operators: run it with --operator NAME --key FILE, each of you";
        operators::signed_at(&local, &clock_text(wall), parameters.operator.as_deref(), parameters.signature.as_deref(), unsigned, wall)?
    } else {
        vec![operator.signature()]
    };
    let names = signed.join(" and ");
    if local.operators.two_needed() && signed.len() < 2 {
        let deed = format!("says that the clock is right, at {wall}, signed by {names}");
        return Ok(Acted::deed(deed, ClockConfirmed { done: false, signed, clock: ClockReply::of(&local) }));
    }
    local.clock.confirm().map_err(ApiError::bad)?;
    let deed = format!("confirms for {names} that the clock is right, at {wall}");
    Ok(Acted::deed(deed, ClockConfirmed { done: true, signed, clock: ClockReply::of(&local) }))
}
