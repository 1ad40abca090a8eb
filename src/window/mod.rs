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

mod connections;
mod decisions;
mod gate;
mod paced;
mod page;
mod taxii;
mod tls;

use crate::{
    config::WindowConfig,
    http::{self, Caller, Local, SOCKET, Served},
};
use axum::{Extension, Router};
use connections::Connections;
use futures::FutureExt as _;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use paced::{Pace, Paced};
use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, UnixListener},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

/// A request's header, and a TLS handshake, must be complete within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted. With the 128 of std a thousand that come at once make each other, and everyone else, wait for
/// repeated packets: a second or two.
const BACKLOG: u32 = 4_096;
/// How long requests under way may take when the node stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Open connections to the socket, and to one address: twice the requests that all classes admit (`http::admission`), so that some are
/// always idle and can make room (G-20).
const CONNECTIONS_MAX: usize = 4_096;
/// How fast a client has to read over a network.
const REMOTE_PACE: Pace = Pace { window: Duration::from_secs(10), bytes_min: 32 * 1024 };
/// At the socket, where an operator may page through an export.
const LOCAL_PACE: Pace = Pace { window: Duration::from_secs(600), bytes_min: 1 };
/// Threads that answer. Two, because a slow answer must not stop a quick one; what reads the ledger has threads of its own.
const THREADS: usize = 2;
/// Threads for short blocking work: files and the door's queue. Work on the ledger has other threads (`http::admission`).
const SHORT_WORK_MAX: usize = 16;

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
            .max_blocking_threads(SHORT_WORK_MAX)
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
                let listener = listen_on(address).map_err(failed)?;
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

/// Serves one connection, as long as the client reads the answers.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, served: Served) {
    let router = router.layer(Extension(served));
    // `axum::serve` has no header timeout; hyper's needs a timer to be one.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the window ended");
    }
}

/// Serves a connection to the socket, if its peer's credentials are known.
fn answer_locally(stream: tokio::net::UnixStream, router: &Router, connections: &Connections) {
    // Without credentials there is nobody to answer to.
    let Ok(credentials) = stream.peer_cred() else { return };
    let router = router.clone().layer(Extension(Caller::Account(credentials.uid())));
    connections.begin(|served| answer(Paced::new(stream, LOCAL_PACE), router, served));
}

/// Answers on the socket until `closing` says so; then what has been asked is still answered, for a moment.
async fn serve_local(listener: UnixListener, router: Router, mut closing: watch::Receiver<bool>) {
    let connections = Connections::new(CONNECTIONS_MAX);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _closed = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, _)) => answer_locally(stream, &router, &connections),
            Err(error) => not_accepted(&error).await,
        }
    }
    // Whoever comes from now on finds no socket and waits for the next node; whoever has connected already is answered.
    if let Some(path) = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned)) {
        let _gone = std::fs::remove_file(path);
    }
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        answer_locally(stream, &router, &connections);
    }
    connections.all_ended(LAST_ANSWERS).await;
}

/// Listens on an address, with room for a burst of new connections.
fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As std does it: a node that restarts takes its address again at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The same on an address.
async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, mut closing: watch::Receiver<bool>) {
    let connections = Connections::new(CONNECTIONS_MAX);
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
        let (tls, router) = (tls.clone(), router.clone().layer(Extension(from)));
        connections.begin(|served| async move {
            let _small_answers_at_once = stream.set_nodelay(true);
            let stream = Paced::new(stream, REMOTE_PACE);
            match tls {
                None => answer(stream, router, served).await,
                Some(tls) => match tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => answer(stream, router, served).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the window failed"),
                    Err(_late) => tracing::debug!("a TLS handshake with the window took too long"),
                },
            }
        });
    }
    connections.all_ended(LAST_ANSWERS).await;
}

async fn not_accepted(error: &std::io::Error) {
    tracing::warn!(%error, "a connection to the window could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
