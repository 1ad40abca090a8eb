//! The ledger's care: whether it is whole, and a copy of its journal in another place.

use super::{ApiError, Deed, Local, blocking};
use crate::ledger::{BackedUp, Verified};
use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::State,
    response::IntoResponse,
};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, path::PathBuf};

/// Lines of progress that wait for the reader.
const PROGRESS_MAX: usize = 128;

/// One line of what `verify` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyLine {
    /// Bytes read, of how many.
    Progress(u64, u64),
    Verified(Verified),
    Error(String),
}

/// Where a backup goes: a directory of this machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupParameters {
    pub to: PathBuf,
}

/// Reads everything again. The answer is lines of JSON: progress, and at the end what was found.
pub(super) async fn verify(State(local): State<Local>) -> impl IntoResponse {
    let (lines, mut waiting) = tokio::sync::mpsc::channel::<VerifyLine>(PROGRESS_MAX);
    tokio::task::spawn_blocking(move || {
        let mut told = 0;
        let progress = |done: u64, all: u64| {
            if done * 100 / all.max(1) > told {
                told = done * 100 / all.max(1);
                // A reader that does not keep up misses a line of progress, never the end.
                let _reader_is_slow = lines.try_send(VerifyLine::Progress(done, all));
            }
        };
        let last = match local.ledger.verify(progress) {
            Ok(verified) => VerifyLine::Verified(verified),
            Err(error) => VerifyLine::Error(error.to_string()),
        };
        let _reader_gone = lines.blocking_send(last);
    });
    let line = |line: VerifyLine| {
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(bytes))
    };
    Body::from_stream(futures::stream::poll_fn(move |context| waiting.poll_recv(context)).map(line))
}

/// Copies the journal, while everything goes on.
pub(super) async fn backup(
    State(local): State<Local>,
    Json(BackupParameters { to }): Json<BackupParameters>,
) -> Result<impl IntoResponse, ApiError> {
    let deed = Deed(format!("backs the ledger up to {}", to.display()));
    let done: BackedUp = blocking(move || Ok(local.ledger.backup(&to)?)).await?;
    Ok((Extension(deed), Json(done)))
}
