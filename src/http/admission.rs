//! Admission control: limits on requests and threads, by class of request and by caller. A revocation never waits for another request.
//!
//! ```text
//! request -class of its route-> Ticket -> handler -> blocking work, on the threads of the class
//!                  '- 429: this caller's limit; 503: the class's limit
//! ```
//!
//! Each class has its own threads, open requests, memory and priority, so that one class cannot starve another. Each caller may use a part of a
//! class, so that one token cannot starve others. No thread waits for a client's bytes ([`super::upload`]).

use super::{ApiError, Caller};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::Response,
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http_body::{Frame, SizeHint};
use std::{
    collections::HashMap,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, sync::Semaphore};

/// A request that gets no thread within this is answered with 503.
const THREAD_WAIT: Duration = Duration::from_secs(10);
/// Timeout of [`Admission::busy`]: a load balancer expects a prompt answer.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Callers with counters. When there are more, those without a request in the last minute are dropped.
const CALLERS_MAX: usize = 4_096;
const CALLER_REMEMBERED: Duration = Duration::from_secs(60);
/// Bytes of all spooled uploads: two files of the maximum length.
const SPOOLED_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// The purpose of a request, which decides the resources that it can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Withdraws, unblocks, stops or revokes.
    Revoke,
    /// Serves a person who decides: status, review queue, outlets, explanations.
    Review,
    /// Looks something up.
    Query,
    /// Waits for events.
    Stream,
    /// Exports, uploads, and work on the whole ledger.
    Bulk,
}

/// The limits of a class.
struct Limits {
    name: &'static str,
    threads: usize,
    /// Threads of one caller.
    threads_of_one: usize,
    /// Open requests, from the header to the last byte of the answer.
    requests: usize,
    requests_of_one: usize,
    /// Requests of one caller per second, on average and in a burst.
    rate: u32,
    burst: u32,
    /// Bytes of all bodies that are read whole.
    body_bytes: usize,
    /// Niceness of its threads, so that they yield to others when all cores are busy.
    niceness: i32,
}

impl Class {
    const ALL: [Self; 5] = [Self::Revoke, Self::Review, Self::Query, Self::Stream, Self::Bulk];

    fn limits(self) -> Limits {
        const MIB: usize = 1024 * 1024;
        match self {
            // A script may withdraw a list value by value.
            Self::Revoke => Limits {
                name: "revocations",
                threads: 8,
                threads_of_one: 4,
                requests: 128,
                requests_of_one: 64,
                rate: 1_000,
                burst: 10_000,
                body_bytes: 32 * MIB,
                niceness: 0,
            },
            Self::Review => Limits {
                name: "review",
                threads: 8,
                threads_of_one: 4,
                requests: 256,
                requests_of_one: 64,
                rate: 200,
                burst: 2_000,
                body_bytes: 32 * MIB,
                niceness: 2,
            },
            // More than two cores can serve, so the rate limits only clients that do not wait for answers.
            Self::Query => Limits {
                name: "queries",
                threads: 16,
                threads_of_one: 8,
                requests: 1_024,
                requests_of_one: 256,
                rate: 50_000,
                burst: 100_000,
                body_bytes: 128 * MIB,
                niceness: 5,
            },
            Self::Stream => Limits {
                name: "streams",
                threads: 4,
                threads_of_one: 2,
                requests: 512,
                requests_of_one: 32,
                rate: 5,
                burst: 60,
                body_bytes: MIB,
                niceness: 5,
            },
            // A client may read a TAXII collection with one object a page.
            Self::Bulk => Limits {
                name: "exports and uploads",
                threads: 16,
                threads_of_one: 6,
                requests: 96,
                requests_of_one: 24,
                rate: 500,
                burst: 5_000,
                body_bytes: 32 * MIB,
                niceness: 10,
            },
        }
    }
}

/// The caller whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Account(u32),
    Token(String),
}

impl From<&Caller> for Holder {
    fn from(caller: &Caller) -> Self {
        match caller {
            Caller::Account(uid) => Self::Account(*uid),
            Caller::Token(entry) => Self::Token(entry.name.clone()),
        }
    }
}

/// The part of a class that one caller uses.
struct Share {
    open: AtomicUsize,
    threads: Arc<Semaphore>,
    rate: DefaultDirectRateLimiter,
    used: Mutex<Instant>,
}

/// A class with its threads and counters.
struct Pool {
    class: Class,
    limits: Limits,
    /// Only the runtime's threads for blocking work are used. They start on demand and end after ten idle seconds.
    runtime: OnceLock<Option<Runtime>>,
    free: Arc<Semaphore>,
    open: AtomicUsize,
    body_bytes: Arc<Semaphore>,
    shares: Mutex<HashMap<Holder, Arc<Share>>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take().flatten() {
            // Unlike a plain drop, this is allowed on an async thread.
            runtime.shutdown_background();
        }
    }
}

/// Admission to one node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Admission(Arc<Shared>);

struct Shared {
    pools: Vec<Arc<Pool>>,
    spooled: Arc<AtomicU64>,
}

impl Default for Admission {
    fn default() -> Self {
        let pools = Class::ALL.iter().map(|class| Arc::new(Pool::new(*class))).collect();
        Self(Arc::new(Shared { pools, spooled: Arc::default() }))
    }
}

impl Admission {
    fn pool(&self, class: Class) -> Option<&Arc<Pool>> {
        self.0.pools.iter().find(|pool| pool.class == class)
    }

    /// Admits a request until its ticket is dropped.
    ///
    /// # Errors
    /// 429 if this caller has reached its limit, 503 if the class has.
    pub fn enter(&self, class: Class, caller: &Caller) -> Result<Ticket, ApiError> {
        let pool = self.pool(class).ok_or_else(|| ApiError::internal("a class without threads"))?;
        let share = pool.share(Holder::from(caller));
        let Limits { name, requests, requests_of_one, .. } = pool.limits;
        if share.rate.check().is_err() {
            return Err(ApiError::too_many(format!("you have sent too many requests ({name}); try again in a second")));
        }
        if share.open.fetch_add(1, Ordering::Relaxed) >= requests_of_one {
            share.open.fetch_sub(1, Ordering::Relaxed);
            return Err(ApiError::too_many(format!("you have {requests_of_one} open requests ({name}); close one, or try again later")));
        }
        if pool.open.fetch_add(1, Ordering::Relaxed) >= requests {
            pool.open.fetch_sub(1, Ordering::Relaxed);
            share.open.fetch_sub(1, Ordering::Relaxed);
            return Err(ApiError::busy(format!("the node has {requests} open requests ({name}); try again in a moment")));
        }
        Ok(Ticket {
            pool: Arc::clone(pool),
            share,
            memory: Mutex::default(),
            spooled: Spooled { all: Arc::clone(&self.0.spooled), own: 0.into() },
        })
    }

    /// Returns the first class without a free thread within a second, as text; `None` if the node is responsive.
    pub async fn busy(&self) -> Option<String> {
        for class in [Class::Revoke, Class::Review, Class::Query] {
            let Some(pool) = self.pool(class) else { continue };
            if tokio::time::timeout(PROBE_WAIT, pool.free.acquire()).await.is_err() {
                return Some(format!("all threads are busy ({})", pool.limits.name));
            }
        }
        None
    }
}

impl Pool {
    fn new(class: Class) -> Self {
        let limits = class.limits();
        let (free, body_bytes) = (Arc::new(Semaphore::new(limits.threads)), Arc::new(Semaphore::new(limits.body_bytes)));
        Self { class, limits, runtime: OnceLock::new(), free, open: AtomicUsize::new(0), body_bytes, shares: Mutex::default() }
    }

    fn runtime(&self) -> Option<&Runtime> {
        let (threads, niceness) = (self.limits.threads, self.limits.niceness);
        let built = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.max_blocking_threads(threads).thread_name(self.limits.name).on_thread_start(move || lower_priority(niceness));
            builder.build().inspect_err(|error| tracing::error!(%error, "no threads can be had for requests")).ok()
        };
        self.runtime.get_or_init(built).as_ref()
    }

    fn share(&self, holder: Holder) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if shares.len() >= CALLERS_MAX && !shares.contains_key(&holder) {
            shares.retain(|_, share| share.open.load(Ordering::Relaxed) > 0 || share.used() > now - CALLER_REMEMBERED);
        }
        let share = shares.entry(holder).or_insert_with(|| Arc::new(Share::new(&self.limits)));
        *share.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Arc::clone(share)
    }

    /// Does `work` on a thread of this class.
    async fn run<T: Send + 'static>(&self, share: &Share, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let thread = async {
            let own = Arc::clone(&share.threads).acquire_owned().await;
            (own, Arc::clone(&self.free).acquire_owned().await)
        };
        let late = || ApiError::busy(format!("no thread was free within ten seconds ({}); try again later", self.limits.name));
        let thread = tokio::time::timeout(THREAD_WAIT, thread).await.map_err(|_| late())?;
        let runtime = self.runtime().ok_or_else(|| ApiError::internal("no threads can be had for requests"))?;
        let done = runtime.handle().spawn_blocking(move || {
            let done = work();
            drop(thread);
            done
        });
        done.await.map_err(ApiError::internal)
    }
}

impl Share {
    fn new(limits: &Limits) -> Self {
        let some = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let rate = RateLimiter::direct(Quota::per_second(some(limits.rate)).allow_burst(some(limits.burst)));
        Self { open: AtomicUsize::new(0), threads: Arc::new(Semaphore::new(limits.threads_of_one)), rate, used: Mutex::new(Instant::now()) }
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lowers the priority of the calling thread. A failure is ignored: the limits do not depend on it.
fn lower_priority(by: i32) {
    if by > 0 {
        let _not_permitted = rustix::process::setpriority_process(None, by);
    }
}

/// An admitted request. It counts for its class and caller until it is dropped.
pub struct Ticket {
    pool: Arc<Pool>,
    share: Arc<Share>,
    memory: Mutex<Vec<tokio::sync::OwnedSemaphorePermit>>,
    spooled: Spooled,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.open.fetch_sub(1, Ordering::Relaxed);
        self.share.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes that this request has spooled, of the total.
struct Spooled {
    all: Arc<AtomicU64>,
    own: AtomicU64,
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Ticket {
    /// Reserves `bytes` of memory for a body, until the request ends.
    ///
    /// # Errors
    /// 503 if the class's memory is used up.
    pub(super) fn take_memory(&self, bytes: usize) -> Result<(), ApiError> {
        let full = || ApiError::busy(format!("too many long request bodies at once ({}); try again in a moment", self.pool.limits.name));
        let bytes = u32::try_from(bytes).map_err(|_| full())?;
        let permit = Arc::clone(&self.pool.body_bytes).try_acquire_many_owned(bytes).map_err(|_| full())?;
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(permit);
        Ok(())
    }

    /// Counts `bytes` that an upload adds on the disk, until the request ends.
    ///
    /// # Errors
    /// 503 if all uploads together are too long.
    pub(super) fn take_disk(&self, bytes: u64) -> Result<(), ApiError> {
        self.spooled.own.fetch_add(bytes, Ordering::Relaxed);
        match self.spooled.all.fetch_add(bytes, Ordering::Relaxed) + bytes > SPOOLED_BYTES_MAX {
            true => Err(ApiError::busy("the pending uploads exceed 16 GiB; try again later")),
            false => Ok(()),
        }
    }
}

tokio::task_local! {
    /// The ticket of the request whose handler runs.
    static TICKET: Arc<Ticket>;
}

/// Runs a handler under a ticket, which is held until the last byte of the answer is sent.
pub(super) async fn under(ticket: Ticket, served: Option<Served>, handler: impl Future<Output = Response<Body>>) -> Response<Body> {
    let ticket = Arc::new(ticket);
    let serving = served.map(Serving::begin);
    let response = TICKET.scope(Arc::clone(&ticket), handler).await;
    response.map(|body| Body::new(Kept { body, _ticket: ticket, _serving: serving }))
}

/// Threads for blocking work: those of the current request's class, or of the runtime outside of a request.
#[derive(Clone)]
pub(crate) struct Threads(Option<Arc<Ticket>>);

impl Threads {
    /// The threads of the current request.
    pub fn here() -> Self {
        Self(TICKET.try_with(Arc::clone).ok())
    }

    /// Runs `work`, and waits for it asynchronously.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        match &self.0 {
            Some(ticket) => ticket.pool.run(&ticket.share, work).await,
            None => tokio::task::spawn_blocking(work).await.map_err(ApiError::internal),
        }
    }

    /// Runs `work` in the background while the answer is sent, or `late` if no thread becomes free.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static, late: impl FnOnce(ApiError) + Send + 'static) {
        let threads = self.clone();
        tokio::spawn(async move {
            if let Err(error) = threads.run(work).await {
                late(error);
            }
        });
    }

    /// The ticket of the current request.
    pub fn ticket(&self) -> Option<&Ticket> {
        self.0.as_deref()
    }
}

/// Shows whether a connection has an admitted request. A connection without one may be closed to make room. Whoever accepts the connection
/// adds this to each request.
#[derive(Clone, Default)]
pub struct Served(Arc<AtomicBool>);

impl Served {
    pub fn is_served(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Marks the connection as active until dropped.
struct Serving(Served);

impl Serving {
    fn begin(served: Served) -> Self {
        served.0.store(true, Ordering::Relaxed);
        Self(served)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// A response body that holds the ticket of its request.
struct Kept {
    body: Body,
    _ticket: Arc<Ticket>,
    _serving: Option<Serving>,
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
