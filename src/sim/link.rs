//! Links for rehearsal: byte streams in memory that take their time.
//!
//! Loss on a byte stream is lateness: TCP sends again after a while, and what follows waits behind it.

use super::Dice;
use crate::node::frames::Watched;
use futures::{AsyncRead, AsyncWrite, FutureExt as _, TryFutureExt as _, future::BoxFuture, task::AtomicWaker};
use libp2p::{
    PeerId, Transport as _,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, MemoryTransport},
        upgrade::{self, InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    },
    identity, noise, yamux,
};
use std::{
    collections::{HashSet, VecDeque},
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// How long a lost segment takes more: about a retransmission timeout.
const LOSS_DELAY: Duration = Duration::from_millis(200);
/// Bytes under way on one link before its sender has to wait.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// What the links of a rehearsal are like.
#[derive(Clone, Copy, Debug)]
pub struct LinkPlan {
    /// One way.
    pub latency: Duration,
    /// Of a thousand segments, how many come late.
    pub loss_per_mille: u64,
    pub seed: u64,
}

/// A cut between two sides of a rehearsal, as TCP sees it: what is under way waits, and goes on when it heals.
#[derive(Default)]
pub struct Partition {
    active: AtomicBool,
    /// One for each stream across it.
    waiting: Mutex<Vec<Arc<AtomicWaker>>>,
}

impl Partition {
    /// Nothing gets across from now on.
    pub fn begin(&self) {
        self.active.store(true, Ordering::SeqCst);
    }

    /// What waited goes on.
    pub fn heal(&self) {
        self.active.store(false, Ordering::SeqCst);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|waker| waker.wake());
    }
}

/// The cut as one node sees it: which peers are beyond it.
#[derive(Clone)]
pub struct Cut {
    pub partition: Arc<Partition>,
    pub beyond: Arc<HashSet<PeerId>>,
}

impl Cut {
    /// For a stream to `peer`, what holds it up.
    fn of(cut: Option<&Self>, peer: &PeerId) -> Option<(Arc<Partition>, Arc<AtomicWaker>)> {
        let cut = cut.filter(|cut| cut.beyond.contains(peer))?;
        let waker = Arc::new(AtomicWaker::new());
        cut.partition.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&waker));
        Some((Arc::clone(&cut.partition), waker))
    }
}

/// Everything that a node has received, as it came out of the encryption.
pub type Tap = Arc<Mutex<Vec<u8>>>;

/// A transport of memory links for one node, which counts the bytes that the node receives, and with a tap keeps them.
pub fn transport(
    node: &identity::Keypair,
    plan: LinkPlan,
    received: Arc<AtomicU64>,
    tap: Option<Tap>,
    cut: Option<Cut>,
    streams_max: usize,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let noise = Tapped { noise: noise::Config::new(node)?, tap, cut };
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(streams_max);
    let made = Arc::new(AtomicU64::new(0));
    let slow = move |stream, _| {
        let number = made.fetch_add(1, Ordering::Relaxed);
        Late::new(stream, plan, number, Arc::clone(&received))
    };
    Ok(MemoryTransport::new().map(slow).upgrade(upgrade::Version::V1Lazy).authenticate(noise).multiplex(Watched(yamux)).boxed())
}

/// Noise, with a tap and a cut on its plaintext side, where it is known who the other one is.
struct Tapped {
    noise: noise::Config,
    tap: Option<Tap>,
    cut: Option<Cut>,
}

/// What comes out of it.
pub struct Listened<S> {
    inner: S,
    tap: Option<Tap>,
    /// What holds it up at times.
    across: Option<(Arc<Partition>, Arc<AtomicWaker>)>,
}

impl<S> Listened<S> {
    /// Whether nothing gets across now; then `context` is woken when it does again.
    fn is_cut(&self, context: &Context<'_>) -> bool {
        let Some((partition, waker)) = &self.across else { return false };
        waker.register(context.waker());
        partition.active.load(Ordering::SeqCst)
    }
}

impl UpgradeInfo for Tapped {
    type Info = <noise::Config as UpgradeInfo>::Info;
    type InfoIter = <noise::Config as UpgradeInfo>::InfoIter;
    fn protocol_info(&self) -> Self::InfoIter {
        self.noise.protocol_info()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<S> for Tapped {
    type Output = (PeerId, Listened<noise::Output<S>>);
    type Error = noise::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;
    fn upgrade_inbound(self, socket: S, info: Self::Info) -> Self::Future {
        let Self { noise, tap, cut } = self;
        let listened = move |(peer, inner)| (peer, Listened { inner, tap, across: Cut::of(cut.as_ref(), &peer) });
        noise.upgrade_inbound(socket, info).map_ok(listened).boxed()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<S> for Tapped {
    type Output = (PeerId, Listened<noise::Output<S>>);
    type Error = noise::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;
    fn upgrade_outbound(self, socket: S, info: Self::Info) -> Self::Future {
        let Self { noise, tap, cut } = self;
        let listened = move |(peer, inner)| (peer, Listened { inner, tap, across: Cut::of(cut.as_ref(), &peer) });
        noise.upgrade_outbound(socket, info).map_ok(listened).boxed()
    }
}

impl Clone for Tapped {
    fn clone(&self) -> Self {
        Self { noise: self.noise.clone(), tap: self.tap.clone(), cut: self.cut.clone() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.is_cut(context) {
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.inner).poll_read(context, out);
        if let (Poll::Ready(Ok(count)), Some(tap)) = (&read, &self.tap) {
            tap.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(out.get(..*count).unwrap_or_default());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut(context) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

/// A stream whose reader sees everything later than it was written.
pub struct Late<S> {
    inner: S,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    buffer: Vec<u8>,
    bytes: usize,
    ended: bool,
    plan: LinkPlan,
    dice: Dice,
    received: Arc<AtomicU64>,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Late<S> {
    fn new(inner: S, plan: LinkPlan, number: u64, received: Arc<AtomicU64>) -> Self {
        let alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
        let dice = Dice::new(plan.seed ^ number.wrapping_mul(0x9e37_79b9));
        Self { inner, under_way: VecDeque::new(), buffer: vec![0; 4 * 1024], bytes: 0, ended: false, plan, dice, received, alarm }
    }
}

impl<S: AsyncRead + Unpin> Late<S> {
    /// Takes in whatever has been written, with the moment at which it may be seen.
    fn take_in(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while !self.ended && self.bytes < WINDOW_BYTES {
            let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, &mut self.buffer) else { break };
            let count = read?;
            self.ended = count == 0;
            if let Some(part) = self.buffer.get(..count).filter(|part| !part.is_empty()) {
                let lost = if self.dice.below(1_000) < self.plan.loss_per_mille { LOSS_DELAY } else { Duration::ZERO };
                let due = Instant::now() + self.plan.latency + lost;
                let due = self.under_way.back().map_or(due, |(before, _)| due.max(*before));
                self.received.fetch_add(count as u64, Ordering::Relaxed);
                self.bytes += count;
                self.under_way.push_back((due, part.to_vec()));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Late<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.take_in(context)?;
        let now = Instant::now();
        let mut filled = 0;
        while let Some((due, part)) = this.under_way.front_mut() {
            if *due > now || filled == out.len() {
                break;
            }
            let room = out.get_mut(filled..).unwrap_or_default();
            let count = room.len().min(part.len());
            room.iter_mut().zip(part.drain(..count)).for_each(|(to, from)| *to = from);
            filled += count;
            this.bytes -= count;
            if part.is_empty() {
                this.under_way.pop_front();
            }
        }
        if filled > 0 || (this.ended && this.under_way.is_empty()) {
            return Poll::Ready(Ok(filled));
        }
        if let Some((due, _)) = this.under_way.front() {
            let due = *due;
            this.alarm.as_mut().reset(due);
            if this.alarm.as_mut().poll(context).is_ready() {
                // It fell due in this moment.
                context.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Late<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}
