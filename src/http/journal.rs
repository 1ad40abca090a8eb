//! What people did here, for whoever audits it.

use super::{
    ApiError, Local, blocking,
    contract::{Json, Query},
    time,
};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most lines of what people did in one answer.
const DECISIONS_MAX: usize = 1_000;

/// One line of what people did.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecisionLine {
    pub at: String,
    pub by: String,
    pub what: String,
}

/// Which of what people did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogParameters {
    /// From then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// `GET /v1/log`, the newest first.
pub(super) async fn log(State(local): State<Local>, Query(parameters): Query<LogParameters>) -> Result<Json<Vec<DecisionLine>>, ApiError> {
    let since = time(&parameters.since)?.unwrap_or_default();
    let found = blocking(move || Ok(local.ledger.decisions(DECISIONS_MAX)?)).await?;
    let line = |one: crate::ledger::DecisionEntry| DecisionLine { at: one.at.to_string(), by: one.by, what: one.what };
    Ok(Json(found.into_iter().filter(|one| one.at >= since).map(line).collect()))
}
