//! What was to be published or withdrawn while the lane had to wait: kept as it came, durable and unsigned, and done in
//! order as soon as the lane may publish.
//!
//! A file each in `queue/`: one line of JSON that says what it is, then the body. Done means published and then deleted, so
//! a crash between the two publishes twice rather than never.

use super::{
    ApiError, AskParameters, Local, PublishParameters, RenewParameters, SightingParameters, WithdrawParameters, documents, publish, renew,
    talk, upload::Upload, withdraw,
};
use crate::record::Tlp;
use axum::{
    body::{Body, Bytes},
    extract::State,
};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::io::AsyncWriteExt as _;

/// The queue's directory in the data directory.
const QUEUE: &str = "queue";
/// Files that may wait: an afternoon without a network, in a busy office.
const FILES_MAX: usize = 1_000;
/// Longest body that is kept.
const BODY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long a request waits for the lane itself before it is queued: after a start others answer within a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the lane is looked at.
const POLL: Duration = Duration::from_millis(20);

#[derive(Serialize, Deserialize)]
enum Job {
    Publish(PublishParameters),
    Withdraw(WithdrawParameters),
    Renew(RenewParameters),
    Document(documents::Ready),
    Question(AskParameters),
    Sighting(SightingParameters),
}

/// Waits a moment for the lane; `true` when it may publish.
pub(super) async fn lane_is_free(local: &Local) -> bool {
    let begun = tokio::time::Instant::now();
    while local.own.waiting().is_some() {
        if !local.running || begun.elapsed() > PATIENCE {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

pub(super) async fn keep_publication(local: &Local, parameters: PublishParameters, upload: &mut Upload) -> Result<String, ApiError> {
    keep(local, &Job::Publish(parameters), upload).await
}

pub(super) async fn keep_withdrawal(local: &Local, parameters: WithdrawParameters) -> Result<String, ApiError> {
    keep(local, &Job::Withdraw(parameters), &mut Upload::of(Body::empty())).await
}

pub(super) async fn keep_renewal(local: &Local, parameters: RenewParameters) -> Result<String, ApiError> {
    keep(local, &Job::Renew(parameters), &mut Upload::of(Body::empty())).await
}

pub(super) async fn keep_document(local: &Local, ready: documents::Ready) -> Result<String, ApiError> {
    keep(local, &Job::Document(ready), &mut Upload::of(Body::empty())).await
}

pub(super) async fn keep_question(local: &Local, parameters: AskParameters) -> Result<String, ApiError> {
    keep(local, &Job::Question(parameters), &mut Upload::of(Body::empty())).await
}

pub(super) async fn keep_sighting(local: &Local, parameters: SightingParameters) -> Result<String, ApiError> {
    keep(local, &Job::Sighting(parameters), &mut Upload::of(Body::empty())).await
}

async fn keep(local: &Local, job: &Job, upload: &mut Upload) -> Result<String, ApiError> {
    let directory = local.data.join(QUEUE);
    tokio::fs::create_dir_all(&directory).await.map_err(ApiError::internal)?;
    if waiting(&directory).len() >= FILES_MAX {
        return Err(ApiError::bad(format!("{FILES_MAX} publications wait already; see `huecry doctor`")));
    }
    let name = format!("{:016}.job", local.clock.now().ms());
    let (aside, path) = (directory.join(format!("{name}.new")), directory.join(&name));
    let mut file = tokio::fs::File::create_new(&aside).await.map_err(ApiError::internal)?;
    let mut line = serde_json::to_vec(job).map_err(ApiError::internal)?;
    line.push(b'\n');
    file.write_all(&line).await.map_err(ApiError::internal)?;
    let mut length = 0u64;
    loop {
        // A partial file is useless.
        let piece = match upload.piece().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                let _removed = tokio::fs::remove_file(&aside).await;
                return Err(error);
            }
        };
        length += piece.len() as u64;
        if length > BODY_BYTES_MAX {
            let _removed = tokio::fs::remove_file(&aside).await;
            return Err(ApiError::bad("longer than 1 GiB; publish it in parts"));
        }
        file.write_all(&piece).await.map_err(ApiError::internal)?;
    }
    file.sync_all().await.map_err(ApiError::internal)?;
    tokio::fs::rename(&aside, &path).await.map_err(ApiError::internal)?;
    tokio::fs::File::open(&directory).await.map_err(ApiError::internal)?.sync_all().await.map_err(ApiError::internal)?;
    Ok(name)
}

fn waiting(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "job")).collect();
    paths.sort();
    paths
}

/// How many jobs wait.
pub fn queued(data: &Path) -> usize {
    waiting(&data.join(QUEUE)).len()
}

/// Does what waits, in order, whenever the lane may publish; runs as long as the node does.
pub async fn drain(local: Local) {
    let directory = local.data.join(QUEUE);
    loop {
        if local.own.waiting().is_none() {
            for path in waiting(&directory) {
                let done = perform(&local, &path).await;
                let moved = match &done {
                    Ok(()) => {
                        tracing::info!(job = %path.display(), "published what had waited");
                        tokio::fs::remove_file(&path).await
                    }
                    Err(error) => {
                        tracing::error!(job = %path.display(), error = error.text, "what had waited could not be published; its file is kept as .failed");
                        tokio::fs::rename(&path, path.with_extension("failed")).await
                    }
                };
                if let Err(error) = moved {
                    tracing::error!(%error, "the queue cannot be changed; it is left alone until the next start");
                    return;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn perform(local: &Local, path: &Path) -> Result<(), ApiError> {
    let bytes = Bytes::from(tokio::fs::read(path).await.map_err(ApiError::internal)?);
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| ApiError::bad("no line says what it is"))?;
    let job: Job = serde_json::from_slice(&bytes.slice(..end)).map_err(ApiError::bad)?;
    match job {
        Job::Publish(parameters) => {
            let mut upload = Upload::of(Body::from(bytes.slice(end + 1..)));
            publish::publish(State(local.clone()), parameters, &mut upload).await.map(|_| ())
        }
        Job::Withdraw(parameters) => withdraw::withdraw(State(local.clone()), Tlp::Red, parameters).await.map(|_| ()),
        Job::Renew(parameters) => renew::renew(State(local.clone()), Tlp::Red, parameters).await.map(|_| ()),
        Job::Document(ready) => documents::send(local, ready).await.map(|_| ()),
        Job::Question(parameters) => talk::put_question(local, parameters).await.map(|_| ()),
        Job::Sighting(parameters) => talk::put_sighting(local, Tlp::Red, parameters).await.map(|_| ()),
    }
}
