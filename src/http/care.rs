//! The ledger's care: whether it is whole, and a copy of its journal in another place.

use super::{
    ApiError, Local, blocking,
    contract::{Acted, Json, Lines},
    progress::{self, Line},
};
use crate::ledger::{BackedUp, Compacted, Verified};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where a backup goes: a directory of this machine.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupParameters {
    pub to: PathBuf,
}

/// Reads everything again. The answer is lines of JSON: progress, and at the end what was found.
pub(super) async fn verify(State(local): State<Local>) -> Lines<Line<Verified>> {
    progress::lines(move |progress| local.ledger.verify(progress))
}

/// Copies the journal, while everything goes on.
pub(super) async fn backup(
    State(local): State<Local>,
    Json(BackupParameters { to }): Json<BackupParameters>,
) -> Result<Acted<BackedUp>, ApiError> {
    let deed = format!("backs the ledger up to {}", to.display());
    let done: BackedUp = blocking(move || Ok(local.upkeep.backup(&to)?)).await?;
    Ok(Acted::deed(deed, done))
}

/// Rewrites what is erased and still there, and waits for it.
pub(super) async fn compact(State(local): State<Local>) -> Result<Json<Compacted>, ApiError> {
    Ok(Json(local.upkeep.compact().await?))
}
