//! The ledger's care: whether it is whole, and a copy of its journal in another place.

use super::{ApiError, Deed, Local, blocking, progress};
use crate::ledger::{BackedUp, Compacted};
use axum::{Extension, Json, body::Body, extract::State, response::IntoResponse};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where a backup goes: a directory of this machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupParameters {
    pub to: PathBuf,
}

/// Reads everything again. The answer is lines of JSON: progress, and at the end what was found.
pub(super) async fn verify(State(local): State<Local>) -> Body {
    progress::lines(move |progress| local.ledger.verify(progress))
}

/// Copies the journal, while everything goes on.
pub(super) async fn backup(
    State(local): State<Local>,
    Json(BackupParameters { to }): Json<BackupParameters>,
) -> Result<impl IntoResponse, ApiError> {
    let deed = Deed(format!("backs the ledger up to {}", to.display()));
    let done: BackedUp = blocking(move || Ok(local.upkeep.backup(&to)?)).await?;
    Ok((Extension(deed), Json(done)))
}

/// Rewrites what is erased and still there, and waits for it.
pub(super) async fn compact(State(local): State<Local>) -> Result<Json<Compacted>, ApiError> {
    Ok(Json(local.upkeep.compact().await?))
}
