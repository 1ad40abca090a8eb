//! Standing streams: one for each pair of nodes, framed, with a bounded queue each way.
//!
//! The node with the smaller key opens it, so that two do not cross. A peer whose queue stays full does not read: it is
//! cut off, and its connection with it. Not here: what the frames say (`replica::message`).

use super::egress::Egress;
use crate::{
    envelope::Head,
    record::MemberId,
    replica::{FRAME_BYTES_MAX, Message, PeerKey},
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Stream, StreamProtocol};
use std::{io, time::Duration};
use tokio::{sync::mpsc, task::AbortHandle};

/// The protocol's name; the federation is told apart by the gate and by [`crate::replica::Hello`].
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/huecry/replica/1");
/// Frames that wait to be written to one peer: with bodies of 13 KiB, 3 MiB.
pub const OUT_FRAMES_MAX: usize = 256;
/// Frames of all peers that wait for the event loop.
pub const IN_FRAMES_MAX: usize = 1_024;
/// A frame that was begun must end within this, and a write must move within it.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// What a stream's tasks tell the event loop. `stream` tells an old stream's last words from the new one's.
#[derive(Debug)]
pub enum Incoming {
    Frame { peer: PeerKey, stream: u64, bytes: Vec<u8> },
    Closed { peer: PeerKey, stream: u64, why: String },
}

/// The writing side of an open stream. Nothing gets into it but past the guard.
#[derive(Clone)]
pub struct Outlet {
    pub stream: u64,
    guard: Option<(Egress, MemberId)>,
    frames: mpsc::Sender<Vec<u8>>,
    tasks: AbortHandle,
}

impl Outlet {
    /// Queues a message; a body with the head that it belongs to. `false` when the peer does not keep up.
    pub fn try_send(&self, message: &Message, under: Option<&Head>) -> bool {
        !self.lets_out(message, under) || self.frames.try_send(message.encode()).is_ok()
    }

    /// Who is only joining has nothing to give, and needs no guard to say so.
    fn lets_out(&self, message: &Message, under: Option<&Head>) -> bool {
        match &self.guard {
            Some((egress, reader)) => egress.lets_out(reader, message, under),
            None => matches!(message, Message::Hello(_) | Message::Ask(_)),
        }
    }

    /// As [`Self::try_send`], waiting for room; `false` when the stream is gone.
    pub async fn send(&self, message: &Message, under: Option<&Head>) -> bool {
        !self.lets_out(message, under) || self.frames.send(message.encode()).await.is_ok()
    }

    /// Ends the stream at once; frames that wait are never sent.
    pub fn cut(&self) {
        self.tasks.abort();
    }

    /// As [`Self::try_send`] from a blocking thread, waiting for room; `false` when the stream is gone.
    pub fn blocking_send(&self, message: &Message, under: Option<&Head>) -> bool {
        !self.lets_out(message, under) || self.frames.blocking_send(message.encode()).is_ok()
    }
}

/// Starts reading and writing an open stream.
///
/// `guard` looks at everything that leaves for this member; without one nothing but a greeting does.
pub fn start(peer: PeerKey, guard: Option<(Egress, MemberId)>, number: u64, stream: Stream, incoming: mpsc::Sender<Incoming>) -> Outlet {
    let (frames, queue) = mpsc::channel(OUT_FRAMES_MAX);
    let (read, write) = stream.split();
    let closed = incoming.clone();
    let tasks = tokio::spawn(async move {
        let why = tokio::select! {
            ended = reading(peer, number, read, incoming) => ended,
            ended = writing(write, queue) => ended,
        };
        let why = why.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
        let _loop_gone = closed.send(Incoming::Closed { peer, stream: number, why }).await;
    })
    .abort_handle();
    Outlet { stream: number, guard, frames, tasks }
}

async fn reading(
    peer: PeerKey,
    stream: u64,
    mut read: impl futures::AsyncRead + Unpin,
    incoming: mpsc::Sender<Incoming>,
) -> io::Result<()> {
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
        if incoming.send(Incoming::Frame { peer, stream, bytes }).await.is_err() {
            return Ok(());
        }
    }
}

async fn writing(mut write: impl futures::AsyncWrite + Unpin, mut queue: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(frame) = queue.recv().await {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
        let more = !queue.is_empty();
        let whole = async {
            write.write_all(&length).await?;
            write.write_all(&frame).await?;
            // Frames that follow at once travel together.
            if more { Ok(()) } else { write.flush().await }
        };
        tokio::time::timeout(FRAME_TIMEOUT, whole).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
    write.close().await
}
