//! Window: how people and programs of this place reach the node.
//!
//! ```text
//! Unix socket -account of the other end-> Caller::Account \
//!                                                          } -> http::router, and what stands beside it here
//! TCP, TLS -Host, Origin, token (gate)--> Caller::Token   /
//! ```
//!
//! | task | in | out |
//! |---|---|---|
//! | its own runtime, on a thread of its own | connections | answers; nothing here can take a thread from the node |
//! | one accept loop for each address | connections | a task for each |
//!
//! Not here: what is answered ([`crate::http`]).

mod decisions;
mod gate;
mod page;
mod taxii;
mod tls;

use crate::{
    config::WindowConfig,
    http::{self, Caller, Local, SOCKET},
};
use axum::{Extension, Router};
use futures::FutureExt as _;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

/// A request's header, and a TLS handshake, must be complete within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests under way may take when the node stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Connections to the socket at once; each is a local process.
const LOCAL_CONNECTIONS_MAX: usize = 256;
/// Connections to one address at once: four times the half-open ones that an attacker is thought to hold (G-20).
const CONNECTIONS_MAX: usize = 4_096;
/// Threads that answer. Two, because a slow answer must not stop a quick one; what reads the ledger has threads of its own.
const THREADS: usize = 2;
/// Threads that read the ledger for answers.
const READERS_MAX: usize = 64;

/// Why the window could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    #[error("the socket {} could not be made: {error}", path.display())]
    Socket { path: PathBuf, error: std::io::Error },
    #[error("window.listen: {address} could not be listened on: {error}")]
    Address { address: SocketAddr, error: std::io::Error },
    #[error("window.{key}: {}: {why}", path.display())]
    Tls { key: &'static str, path: PathBuf, why: String },
    #[error("the window's threads could not be started: {0}")]
    Runtime(std::io::Error),
}

/// A window that is open.
pub struct Window {
    close: watch::Sender<bool>,
    closed: mpsc::Receiver<()>,
    addresses: Vec<String>,
}

impl Window {
    /// Opens the socket in the data directory, and what the configuration asks for beside it. The ledger's lock is held by then, so
    /// a socket that is there is a dead node's.
    pub fn open(local: Local, config: &WindowConfig) -> Result<Self, WindowError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(READERS_MAX)
            .thread_name("window")
            .enable_all()
            .build()
            .map_err(WindowError::Runtime)?;
        let (close, closing) = watch::channel(false);
        let tls = tls::acceptor(config, &local.data)?;
        let (mut doors, mut addresses) = (Vec::new(), Vec::new());
        {
            let _within = runtime.enter();
            let socket = listen(&local.data)?;
            let beside = decisions::router(local.clone()).merge(taxii::router(local.clone()));
            let router = http::router(local.clone()).merge(beside).merge(page::router(local.clone()));
            for address in config.addresses() {
                let failed = |error| WindowError::Address { address, error };
                let listener = std::net::TcpListener::bind(address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let listener = TcpListener::from_std(listener).map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                addresses.push(url_of(config, bound));
                let gate = gate::Gate::new(local.clone(), config, bound);
                let router = gate::behind(router.clone(), gate);
                doors.push(runtime.spawn(serve(listener, tls.clone(), router, closing.clone())));
            }
            // The last of all: whoever hears at the socket that the node runs finds the other doors open.
            doors.push(runtime.spawn(serve_local(socket, router, closing.clone())));
        }
        let (done, closed) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            runtime.block_on(async { drop(futures::future::join_all(doors).await) });
            runtime.shutdown_timeout(Duration::from_millis(200));
            let _nobody_waits = done.send(());
        });
        Ok(Self { close, closed, addresses })
    }

    /// Where it is reached beside the socket, as a browser is told.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Takes no more requests, answers those under way, for a moment.
    pub fn close(self) {
        if self.close.send(true).is_ok() {
            let _gave_up = self.closed.recv_timeout(LAST_ANSWERS + Duration::from_secs(1));
        }
    }
}

fn url_of(config: &WindowConfig, address: SocketAddr) -> String {
    let scheme = if config.certificate.is_some() { "https" } else { "http" };
    match config.hosts.first().filter(|_| !address.ip().is_loopback()) {
        Some(host) => format!("{scheme}://{host}:{}", address.port()),
        None => format!("{scheme}://{address}"),
    }
}

fn listen(data: &Path) -> Result<UnixListener, WindowError> {
    let path = data.join(SOCKET);
    let failed = |error| WindowError::Socket { path: path.clone(), error };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => (),
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Answers what is asked on one connection.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    // `axum::serve` has no header timeout; hyper's needs a timer to be one.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the window ended");
    }
}

/// The same on the socket, if there is a place for it and somebody at the other end.
fn answer_locally(stream: tokio::net::UnixStream, router: &Router, places: &Arc<Semaphore>) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
    // Without credentials there is nobody to answer to.
    let Ok(credentials) = stream.peer_cred() else { return };
    let router = router.clone().layer(Extension(Caller::Account(credentials.uid())));
    tokio::spawn(async move {
        answer(stream, router).await;
        drop(place);
    });
}

/// Answers on the socket until `closing` says so; then what has been asked is still answered, for a moment.
async fn serve_local(listener: UnixListener, router: Router, mut closing: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(LOCAL_CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _closed = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, _)) => answer_locally(stream, &router, &places),
            Err(error) => not_accepted(&error).await,
        }
    }
    // Whoever comes from now on finds no socket and waits for the next node; whoever has connected already is answered.
    if let Some(path) = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned)) {
        let _gone = std::fs::remove_file(path);
    }
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        answer_locally(stream, &router, &places);
    }
    all_answered(&places, LOCAL_CONNECTIONS_MAX).await;
}

/// The same on an address.
async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, mut closing: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _closed = closing.wait_for(|closing| *closing) => break,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                not_accepted(&error).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (tls, router) = (tls.clone(), router.clone().layer(Extension(from)));
        tokio::spawn(async move {
            let _small_answers_at_once = stream.set_nodelay(true);
            match tls {
                None => answer(stream, router).await,
                Some(tls) => match tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => answer(stream, router).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the window failed"),
                    Err(_late) => tracing::debug!("a TLS handshake with the window took too long"),
                },
            }
            drop(place);
        });
    }
    all_answered(&places, CONNECTIONS_MAX).await;
}

async fn not_accepted(error: &std::io::Error) {
    tracing::warn!(%error, "a connection to the window could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Every place free again means that everyone has been answered.
async fn all_answered(places: &Semaphore, all: usize) {
    let all = u32::try_from(all).unwrap_or(u32::MAX);
    let _answered_or_given_up = tokio::time::timeout(LAST_ANSWERS, places.acquire_many(all)).await;
}
