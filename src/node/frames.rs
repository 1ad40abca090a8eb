//! Frames: a deadline for each frame of gossip. gossipsub waits for the end of a frame as long as the connection lives; our own streams
//! have their deadline in [`super::streams`].
//!
//! ```text
//! connection -yamux-> inbound stream -names agreed (multistream-select)-> gossip? -> each frame within ten seconds, or the stream fails
//! ```
//!
//! Both sides of the negotiation, and gossipsub, put an unsigned varint with the length before each frame, so one parser reads all of
//! them. Sources: multistream-select 1.0, libp2p pubsub specification ("RPC").

use super::streams::FRAME_TIMEOUT;
use futures::{AsyncRead, AsyncWrite, future::BoxFuture};
use libp2p::{
    core::{
        muxing::{StreamMuxer, StreamMuxerEvent},
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    },
    yamux,
};
use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Prefixes of the names of gossip protocols.
const GOSSIP: [&[u8]; 2] = [b"/meshsub/", b"/floodsub/"];
/// Bytes of a name to compare.
const NAME_BYTES: usize = 9;
/// Bits of the longest length: beyond it the stream is not what it claims to be, and gossipsub refuses it.
const LENGTH_BITS_MAX: u32 = 63;

/// yamux whose inbound streams are watched.
#[derive(Clone)]
pub struct Watched(pub yamux::Config);

impl UpgradeInfo for Watched {
    type Info = <yamux::Config as UpgradeInfo>::Info;
    type InfoIter = <yamux::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Watched {
    type Output = WatchedMuxer<yamux::Muxer<C>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        let muxer = self.0.upgrade_inbound(socket, info);
        Box::pin(async { Ok(WatchedMuxer(muxer.await?)) })
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Watched {
    type Output = WatchedMuxer<yamux::Muxer<C>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        let muxer = self.0.upgrade_outbound(socket, info);
        Box::pin(async { Ok(WatchedMuxer(muxer.await?)) })
    }
}

/// A multiplexer whose inbound streams are watched.
pub struct WatchedMuxer<M>(M);

impl<M: StreamMuxer + Unpin> StreamMuxer for WatchedMuxer<M>
where
    M::Substream: Unpin,
{
    type Substream = WatchedStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.0).poll_inbound(context).map_ok(|stream| WatchedStream::new(stream, Some(FRAME_TIMEOUT)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.0).poll_outbound(context).map_ok(|stream| WatchedStream::new(stream, None))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_close(context)
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Length-prefixed frames, as their bytes pass.
#[derive(Default)]
pub struct Frames {
    /// Bits of the length that have passed.
    length: u64,
    bits: u32,
    /// Bytes of the content that are still to come; none while the length is read.
    left: Option<u64>,
    /// How the content begins.
    begin: Vec<u8>,
}

impl Frames {
    /// Follows these bytes, and hands the beginning of each frame that ends among them to `ended`.
    pub fn pass(&mut self, mut bytes: &[u8], mut ended: impl FnMut(&[u8])) {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.left {
                None => {
                    bytes = rest;
                    if self.bits <= LENGTH_BITS_MAX {
                        self.length |= u64::from(first & 0x7f) << self.bits;
                    }
                    self.bits = self.bits.saturating_add(7);
                    if first & 0x80 == 0 {
                        self.left = Some(self.length);
                    }
                }
                Some(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let (content, after) = bytes.split_at(here);
                    let room = NAME_BYTES.saturating_sub(self.begin.len());
                    self.begin.extend(content.iter().take(room));
                    *left -= here as u64;
                    bytes = after;
                }
            }
            if self.left == Some(0) {
                ended(&self.begin);
                *self = Self::default();
            }
        }
    }

    /// Returns true between two frames.
    pub fn is_between(&self) -> bool {
        self.bits == 0
    }
}

/// The stage of a stream.
enum Stage {
    /// The two sides agree on a protocol: this side confirms a name, or writes `na`.
    Names {
        confirmed: Frames,
    },
    Gossip {
        frames: Frames,
        deadline: Option<Pin<Box<Sleep>>>,
    },
    /// Another protocol, with deadlines of its own.
    Other,
}

/// A stream that fails with `TimedOut` when a frame of gossip is not complete in time.
pub struct WatchedStream<S> {
    stream: S,
    stage: Stage,
    timeout: Duration,
}

impl<S> WatchedStream<S> {
    fn new(stream: S, timeout: Option<Duration>) -> Self {
        let stage = if timeout.is_some() { Stage::Names { confirmed: Frames::default() } } else { Stage::Other };
        Self { stream, stage, timeout: timeout.unwrap_or_default() }
    }

    /// Follows bytes that were written, until the protocol is agreed on.
    fn follow_written(&mut self, bytes: &[u8]) {
        let Stage::Names { confirmed } = &mut self.stage else { return };
        let mut agreed = None;
        confirmed.pass(bytes, |name| {
            if !name.starts_with(b"/multis") && !name.starts_with(b"na") && agreed.is_none() {
                agreed = Some(GOSSIP.iter().any(|gossip| name.starts_with(gossip.get(..NAME_BYTES.min(gossip.len())).unwrap_or_default())));
            }
        });
        match agreed {
            None => (),
            Some(true) => self.stage = Stage::Gossip { frames: Frames::default(), deadline: None },
            Some(false) => self.stage = Stage::Other,
        }
    }

    /// Follows bytes that were read. A frame that has begun has its deadline.
    fn follow_read(&mut self, bytes: &[u8]) {
        let Stage::Gossip { frames, deadline } = &mut self.stage else { return };
        let mut ended = false;
        frames.pass(bytes, |_| ended = true);
        if frames.is_between() {
            *deadline = None;
        } else if ended || deadline.is_none() {
            *deadline = Some(Box::pin(sleep_until(Instant::now() + self.timeout)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(count)) = &read {
            self.follow_read(buffer.get(..*count).unwrap_or_default());
        }
        if let Stage::Gossip { deadline: Some(deadline), .. } = &mut self.stage
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a frame of gossip was not complete within ten seconds")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &wrote {
            self.follow_written(bytes.get(..*count).unwrap_or_default());
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{AsyncReadExt as _, AsyncWriteExt as _};
    use proptest::prelude::*;
    use tokio_util::compat::TokioAsyncReadCompatExt as _;

    fn framed(contents: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for content in contents {
            let mut length = content.len();
            while length >= 0x80 {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            bytes.extend_from_slice(content);
        }
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_followed_however_their_bytes_are_cut(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1usize..64,
        ) {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in framed(&contents).chunks(cut) {
                frames.pass(piece, |begin| found.push(begin.to_vec()));
            }
            let expected: Vec<Vec<u8>> = contents.iter().map(|one| one.iter().take(NAME_BYTES).copied().collect()).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(frames.is_between());
        }

        #[test]
        fn any_bytes_are_followed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Frames::default().pass(&bytes, |_| ());
        }
    }

    /// The stage after this side has written these names.
    fn after(names: &[&str]) -> WatchedStream<tokio_util::compat::Compat<tokio::io::DuplexStream>> {
        let (ours, theirs) = tokio::io::duplex(65_536);
        std::mem::forget(theirs);
        let mut stream = WatchedStream::new(ours.compat(), Some(Duration::from_millis(100)));
        let lines: Vec<Vec<u8>> = names.iter().map(|name| format!("{name}\n").into_bytes()).collect();
        framed(&lines).chunks(3).for_each(|piece| stream.follow_written(piece));
        stream
    }

    #[test]
    fn only_gossip_is_watched_also_when_another_name_was_refused_before() {
        let is_gossip = |names: &[&str]| matches!(after(names).stage, Stage::Gossip { .. });
        assert!(is_gossip(&["/multistream/1.0.0", "/meshsub/1.1.0"]));
        assert!(is_gossip(&["/multistream/1.0.0", "na", "na", "/meshsub/1.2.0"]));
        assert!(!is_gossip(&["/multistream/1.0.0", "/ipfs/ping/1.0.0"]));
        assert!(!is_gossip(&["/multistream/1.0.0", "na"]));
        assert!(matches!(after(&["/multistream/1.0.0", "/huecry/1"]).stage, Stage::Other));
    }

    #[tokio::test]
    async fn x10_a_frame_that_never_ends_fails_and_a_quiet_stream_does_not() {
        let (ours, theirs) = tokio::io::duplex(65_536);
        let mut theirs = theirs.compat();
        let mut stream = WatchedStream::new(ours.compat(), Some(Duration::from_millis(200)));
        stream.write_all(&framed(&[b"/multistream/1.0.0\n".to_vec(), b"/meshsub/1.1.0\n".to_vec()])).await.unwrap();
        let mut buffer = [0; 1_024];
        theirs.write_all(&framed(&[vec![1; 40]])).await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 41);
        // Nothing for longer than a frame may take.
        let quiet = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut buffer)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        // A frame of 1,000 bytes that comes a byte at a time.
        let trickling = tokio::spawn(async move {
            theirs.write_all(&[0xe8, 0x07]).await.unwrap();
            while theirs.write_all(&[7]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let error = loop {
            match stream.read(&mut buffer).await {
                Ok(count) => assert!(count > 0),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        trickling.abort();
    }
}
