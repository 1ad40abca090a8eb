//! Work that takes a while: its answer is lines of JSON, how far it is, and at the end what came of it.

use super::{admission::Threads, contract::Lines};
use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
};

/// Lines of progress that wait for the reader.
const PROGRESS_MAX: usize = 128;

/// One line of such an answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Line<T> {
    /// So much is done, of so much.
    Progress(u64, u64),
    Done(T),
    Error(String),
}

/// Does `work` on a thread that may block, and streams how it goes. A reader that does not keep up misses lines of progress, never
/// the end.
pub(super) fn lines<T: Serialize + Send + 'static, E: std::fmt::Display>(
    work: impl FnOnce(&(dyn Fn(u64, u64) + Sync)) -> Result<T, E> + Send + 'static,
) -> Lines<Line<T>> {
    let (lines, waiting) = tokio::sync::mpsc::channel::<Line<T>>(PROGRESS_MAX);
    let (threads, unheard) = (Threads::here(), lines.clone());
    let work = move || {
        let told = AtomicU64::new(0);
        let progress = |done: u64, all: u64| {
            let percent = done.saturating_mul(100) / all.max(1);
            if told.fetch_max(percent, Ordering::Relaxed) < percent {
                let _reader_is_slow = lines.try_send(Line::Progress(done, all));
            }
        };
        let last = match work(&progress) {
            Ok(done) => Line::Done(done),
            Err(error) => Line::Error(error.to_string()),
        };
        let _reader_gone = lines.blocking_send(last);
    };
    threads.spawn(work, move |error| drop(unheard.try_send(Line::Error(error.to_string()))));
    json_lines(waiting)
}

/// A body of what comes through a channel, a line of JSON each.
pub(super) fn json_lines<T: Serialize + Send + 'static>(mut waiting: tokio::sync::mpsc::Receiver<T>) -> Lines<T> {
    let line = |line: T| {
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(bytes))
    };
    Lines::of(Body::from_stream(futures::stream::poll_fn(move |context| waiting.poll_recv(context)).map(line)))
}
