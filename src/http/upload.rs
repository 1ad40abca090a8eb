//! Uploads: request bodies that are files. They are received asynchronously, within time limits.
//!
//! ```text
//! body -pace-> pieces of 256 KiB -> one step on a thread for each (bundle, document, proofs)
//!                               \-> unnamed file -> read on a thread (publish)
//! ```

use super::{
    ApiError, Caller, Local,
    admission::Threads,
    contract::{BYTES, media},
};
use crate::node::room::Room;
use aide::{
    OperationInput,
    generate::GenContext,
    openapi::{Operation, ReferenceOr, RequestBody},
};
use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::FromRequest,
    http::Request,
};
use futures::{StreamExt as _, stream::Fuse};
use schemars::json_schema;
use std::{io::Write as _, path::Path, time::Duration};
use tempfile::SpooledTempFile;
use tokio::time::Instant;

/// Bytes of one piece: large enough to make the switch to a thread negligible.
const PIECE_BYTES: usize = 256 * 1024;
/// A body up to this length stays in memory.
const MEMORY_BYTES_MAX: usize = 256 * 1024;
/// Bytes to read from a rejected upload, so that its client gets to the answer: seconds at a local socket.
const DRAIN_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Minimum speed of a body.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Each window must bring at least `bytes_min`.
    window: Duration,
    bytes_min: usize,
    /// Limit for the whole body.
    total: Duration,
}

/// Over a network. 6.4 KiB/s is a bad line.
const REMOTE: Pace = Pace { window: Duration::from_secs(10), bytes_min: 64 * 1024, total: Duration::from_secs(3_600) };
/// At the socket: input may come from a person or a slow pipe.
const HERE: Pace = Pace { window: Duration::from_secs(600), bytes_min: 1, total: Duration::from_secs(6 * 3_600) };

/// A request body that is a file, read piece by piece.
pub(super) struct Upload {
    pieces: Fuse<BodyDataStream>,
    /// None for bodies that this node makes itself.
    limits: Option<(Pace, Room)>,
    begun: Instant,
}

impl FromRequest<Local> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, local: &Local) -> Result<Self, ApiError> {
        let pace = match request.extensions().get::<Caller>() {
            Some(Caller::Account(_)) => HERE,
            _ => REMOTE,
        };
        Ok(Self { limits: Some((pace, local.current.room().clone())), ..Self::of(request.into_body()) })
    }
}

impl OperationInput for Upload {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        let media = media(BYTES, json_schema!({}));
        let description = Some("The file as it is.".to_owned());
        let body = RequestBody { description, content: [media].into_iter().collect(), required: true, ..RequestBody::default() };
        operation.request_body = Some(ReferenceOr::Item(body));
    }
}

impl Upload {
    /// A body that this node makes, without limits.
    pub fn of(body: Body) -> Self {
        Self { pieces: body.into_data_stream().fuse(), limits: None, begun: Instant::now() }
    }

    /// Returns the next 256 KiB or the rest; `None` after the end.
    ///
    /// # Errors
    /// If the body breaks off or comes too slowly.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some((pace, _)) = &self.limits else { return gathered(&mut self.pieces).await };
        let end = self.begun + pace.total;
        let mut piece = Vec::new();
        let (mut window_ends, mut in_window) = (Instant::now() + pace.window, 0);
        while piece.len() < PIECE_BYTES {
            let Ok(next) = tokio::time::timeout_at(window_ends.min(end), self.pieces.next()).await else {
                if in_window < pace.bytes_min || Instant::now() >= end {
                    return Err(late(pace));
                }
                (window_ends, in_window) = (Instant::now() + pace.window, 0);
                continue;
            };
            let Some(bytes) = next else { break };
            let bytes = bytes.map_err(broken_off)?;
            in_window += bytes.len();
            piece.extend_from_slice(&bytes);
        }
        Ok((!piece.is_empty()).then(|| piece.into()))
    }

    /// Runs `step` for each piece, on a thread of this request's class, and returns the final state. It holds no thread in between.
    ///
    /// # Errors
    /// Those of [`Self::piece`], and the first error of `step`.
    pub async fn each<T: Send + 'static>(
        &mut self,
        mut state: T,
        step: impl Fn(&mut T, &Bytes) -> Result<(), ApiError> + Clone + Send + 'static,
    ) -> Result<T, ApiError> {
        let threads = Threads::here();
        while let Some(piece) = self.piece().await? {
            let step = step.clone();
            state = threads.run(move || step(&mut state, &piece).map(|()| state)).await??;
        }
        Ok(state)
    }

    /// Like [`Self::each`], for steps that write to the disk.
    ///
    /// # Errors
    /// Those of [`Self::each`], and 507 if the disk is nearly full.
    pub async fn each_to_disk<T: Send + 'static>(
        &mut self,
        state: T,
        step: impl Fn(&mut T, &Bytes) -> Result<(), ApiError> + Clone + Send + 'static,
    ) -> Result<T, ApiError> {
        let room = self.limits.as_ref().map(|(_, room)| room.clone());
        let step = move |state: &mut T, piece: &Bytes| match room.as_ref().and_then(Room::low) {
            Some(text) => Err(ApiError::no_room(text)),
            None => step(state, piece),
        };
        self.each(state, step).await
    }

    /// Returns the whole body as an unnamed file, and its length. A short one stays in memory.
    ///
    /// # Errors
    /// If the body is longer than `longest` bytes, and those of [`Self::piece`].
    pub async fn spool(&mut self, directory: &Path, longest: u64) -> Result<(SpooledTempFile, u64), ApiError> {
        let place = directory.to_owned();
        let made = move || {
            std::fs::create_dir_all(&place)?;
            Ok::<_, std::io::Error>(tempfile::spooled_tempfile_in(MEMORY_BYTES_MAX, place))
        };
        let threads = Threads::here();
        let file = threads.run(made).await?.map_err(ApiError::internal)?;
        let ticket = threads.clone();
        let taken = move |(file, length): &mut (SpooledTempFile, u64), piece: &Bytes| {
            *length += piece.len() as u64;
            if *length > longest {
                return Err(ApiError::bad(format!("the file has more than {} GiB; send it in parts", longest >> 30)));
            }
            ticket.ticket().map_or(Ok(()), |ticket| ticket.take_disk(piece.len() as u64))?;
            file.write_all(piece).map_err(ApiError::internal)
        };
        self.each_to_disk((file, 0), taken).await
    }

    /// Reads the rest of a rejected upload: a client that is still sending ignores the answer.
    pub async fn drain(&mut self) {
        let mut room = DRAIN_BYTES_MAX;
        while let Ok(Some(piece)) = self.piece().await {
            room = room.saturating_sub(piece.len() as u64);
            if room == 0 {
                return;
            }
        }
    }
}

async fn gathered(pieces: &mut Fuse<BodyDataStream>) -> Result<Option<Bytes>, ApiError> {
    let mut piece = Vec::new();
    while piece.len() < PIECE_BYTES {
        let Some(bytes) = pieces.next().await else { break };
        piece.extend_from_slice(&bytes.map_err(broken_off)?);
    }
    Ok((!piece.is_empty()).then(|| piece.into()))
}

fn broken_off(error: axum::Error) -> ApiError {
    ApiError::bad(format!("the file broke off before its end, and nothing more of it was taken: {error}"))
}

fn late(pace: &Pace) -> ApiError {
    let Pace { window, bytes_min, total } = pace;
    ApiError::late(format!(
        "the upload came too slowly and was ended: at least {bytes_min} bytes in {} seconds, and all of it within {} minutes",
        window.as_secs(),
        total.as_secs() / 60
    ))
}
