//! Standing streams: one for each pair of nodes, framed, with bounded queues each way.
//!
//! ```text
//! word > fresh > backfill > contents   -a queue of bytes each, the most urgent first->  stream
//! ```
//!
//! The node with the smaller key opens it, so that two do not cross. A peer whose queue of words stays full does not read: it
//! is cut off, and its connection with it; whoever has more than words to say waits for room. Not here: what the frames say
//! (`replica::message`).

use super::egress::Egress;
use crate::{
    envelope::Head,
    record::MemberId,
    replica::{FRAME_BYTES_MAX, Message, PeerKey},
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Stream, StreamProtocol};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
};

/// The protocol's name; the federation is told apart by the gate and by [`crate::replica::Hello`].
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/huecry/replica/1");
/// Bytes that wait to be written to one peer in each queue; a frame of 80 KiB has to fit, and all four together stay below
/// 4 MiB, however a hostile peer asks and does not read. A megabyte keeps a line of 20 MB/s and 50 ms busy.
pub const OUT_BYTES_MAX: [usize; 4] = [768 * 1024, 1024 * 1024, 1024 * 1024, 256 * 1024];
/// Frames that wait in each of them, since small ones cost more than their bytes.
pub const OUT_FRAMES_MAX: usize = 256;
/// Frames of all peers that wait for the event loop.
pub const IN_FRAMES_MAX: usize = 1_024;
/// Bytes of one peer's frames that wait for it: who sends much waits, and keeps no others waiting.
pub const IN_BYTES_MAX: usize = 512 * 1024;
/// A frame that was begun must end within this, and a write must move within it.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Which of what waits for one peer goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Charter and cards, proofs, heads, cursors, requests.
    Word,
    /// Bodies that were just announced, withdrawals among them.
    Fresh,
    /// Ranges for those who catch up.
    Backfill,
    /// Contents of documents.
    Contents,
}

/// What a stream's tasks tell the event loop. `stream` tells an old stream's last words from the new one's.
#[derive(Debug)]
pub enum Incoming {
    Frame {
        peer: PeerKey,
        stream: u64,
        bytes: Vec<u8>,
        /// Its share of what one peer may have waiting, given back when it was looked at.
        room: OwnedSemaphorePermit,
    },
    Closed {
        peer: PeerKey,
        stream: u64,
        why: String,
    },
}

/// A frame with its share of the queue, given back when it was written.
type Waiting = (Vec<u8>, OwnedSemaphorePermit);

/// One of a peer's queues.
#[derive(Clone)]
struct Queue {
    frames: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Queue {
    fn new(bytes_max: usize) -> (Self, mpsc::Receiver<Waiting>) {
        let (frames, queue) = mpsc::channel(OUT_FRAMES_MAX);
        (Self { frames, room: Arc::new(Semaphore::new(bytes_max)) }, queue)
    }

    async fn send(&self, frame: Vec<u8>) -> bool {
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(weight(&frame)).await else { return false };
        self.frames.send((frame, room)).await.is_ok()
    }

    fn try_send(&self, frame: Vec<u8>) -> bool {
        let room = Arc::clone(&self.room).try_acquire_many_owned(weight(&frame));
        room.is_ok_and(|room| self.frames.try_send((frame, room)).is_ok())
    }
}

fn weight(frame: &[u8]) -> u32 {
    u32::try_from(frame.len()).unwrap_or(u32::MAX)
}

/// The writing side of an open stream. Nothing gets into it but past the guard.
#[derive(Clone)]
pub struct Outlet {
    pub stream: u64,
    guard: Option<(Egress, MemberId)>,
    queues: [Queue; 4],
    tasks: AbortHandle,
}

impl Outlet {
    fn queue(&self, urgency: Urgency) -> &Queue {
        let [word, fresh, backfill, contents] = &self.queues;
        match urgency {
            Urgency::Word => word,
            Urgency::Fresh => fresh,
            Urgency::Backfill => backfill,
            Urgency::Contents => contents,
        }
    }

    /// Queues a word. `false` when the peer does not keep up.
    pub fn try_send(&self, message: &Message) -> bool {
        !self.lets_out(message, None) || self.queue(Urgency::Word).try_send(message.encode())
    }

    /// Queues a body that was just announced, with the head that it belongs to. `false` when there is no room for it now.
    pub fn try_send_body(&self, body: &Message, under: &Head) -> bool {
        !self.lets_out(body, Some(under)) || self.queue(Urgency::Fresh).try_send(body.encode())
    }

    /// Who is only joining has nothing to give, and needs no guard to say so.
    fn lets_out(&self, message: &Message, under: Option<&Head>) -> bool {
        match &self.guard {
            Some((egress, reader)) => egress.lets_out(reader, message, under),
            None => matches!(message, Message::Hello(_) | Message::Ask(_)),
        }
    }

    /// As [`Self::try_send`], waiting for room; `false` when the stream is gone.
    pub async fn send(&self, message: &Message) -> bool {
        !self.lets_out(message, None) || self.queue(Urgency::Word).send(message.encode()).await
    }

    /// Ends the stream at once; frames that wait are never sent.
    pub fn cut(&self) {
        self.tasks.abort();
    }

    /// Queues a message from a blocking thread, waiting for room; a body with the head that it belongs to. `false` when the
    /// stream is gone.
    pub fn blocking_send(&self, message: &Message, under: Option<&Head>, urgency: Urgency) -> bool {
        !self.lets_out(message, under) || tokio::runtime::Handle::current().block_on(self.queue(urgency).send(message.encode()))
    }
}

/// Starts reading and writing an open stream.
///
/// `guard` looks at everything that leaves for this member; without one nothing but a greeting does.
pub fn start(peer: PeerKey, guard: Option<(Egress, MemberId)>, number: u64, stream: Stream, incoming: mpsc::Sender<Incoming>) -> Outlet {
    let [(word, words), (fresh, freshes), (backfill, backfills), (content, contents)] = OUT_BYTES_MAX.map(Queue::new);
    let (read, write) = stream.split();
    let closed = incoming.clone();
    let tasks = tokio::spawn(async move {
        let why = tokio::select! {
            ended = reading(peer, number, read, incoming) => ended,
            ended = writing(write, [words, freshes, backfills, contents]) => ended,
        };
        let why = why.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
        let _loop_gone = closed.send(Incoming::Closed { peer, stream: number, why }).await;
    })
    .abort_handle();
    Outlet { stream: number, guard, queues: [word, fresh, backfill, content], tasks }
}

async fn reading(
    peer: PeerKey,
    stream: u64,
    mut read: impl futures::AsyncRead + Unpin,
    incoming: mpsc::Sender<Incoming>,
) -> io::Result<()> {
    let waiting = Arc::new(Semaphore::new(IN_BYTES_MAX));
    loop {
        // A stream may be silent for long; a frame, once begun, may not.
        let mut first = [0; 1];
        read.read_exact(&mut first).await?;
        let whole = async {
            let mut rest = [0; 3];
            read.read_exact(&mut rest).await?;
            let ([a], [b, c, d]) = (first, rest);
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            if length > FRAME_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
            }
            let mut bytes = vec![0; length];
            read.read_exact(&mut bytes).await?;
            Ok(bytes)
        };
        let bytes = tokio::time::timeout(FRAME_TIMEOUT, whole).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let Ok(room) = Arc::clone(&waiting).acquire_many_owned(weight(&bytes)).await else { return Ok(()) };
        if incoming.send(Incoming::Frame { peer, stream, bytes, room }).await.is_err() {
            return Ok(());
        }
    }
}

async fn writing(mut write: impl futures::AsyncWrite + Unpin, queues: [mpsc::Receiver<Waiting>; 4]) -> io::Result<()> {
    let [mut words, mut freshes, mut backfills, mut contents] = queues;
    loop {
        let frame = tokio::select! {
            biased;
            frame = words.recv() => frame,
            frame = freshes.recv() => frame,
            frame = backfills.recv() => frame,
            frame = contents.recv() => frame,
        };
        // All four end together, with the last handle.
        let Some((frame, room)) = frame else { break };
        let length = weight(&frame).to_be_bytes();
        let more = !(words.is_empty() && freshes.is_empty() && backfills.is_empty() && contents.is_empty());
        let whole = async {
            write.write_all(&length).await?;
            write.write_all(&frame).await?;
            // Frames that follow at once travel together.
            if more { Ok(()) } else { write.flush().await }
        };
        tokio::time::timeout(FRAME_TIMEOUT, whole).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        drop(room);
    }
    write.close().await
}
