//! The client of the local window: through the node's socket, or, with no node running, through the same router in this
//! process, after taking the directory's lock.

use super::Failure;
use crate::{
    clock::Clock,
    http::{self, Line, Local},
    ledger::LedgerError,
    node::{
        Watch,
        door::{self, Request},
        setup::{self, SetupError},
    },
};
use axum::{Router, body::Body, http::StatusCode};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};
use tower::ServiceExt as _;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How long a command waits for a directory that is held without a window.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often it looks again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Why the directory could not be opened here.
enum Opening {
    InUse(Failure),
    Failed(Failure),
}

/// Why this command asks, if it was said.
static REASON: OnceLock<String> = OnceLock::new();

/// Says once why this command asks; every request carries it.
pub fn give_reason(reason: String) {
    let _said_once = REASON.set(reason);
}

/// A way to a node.
pub struct Client {
    way: Way,
}

enum Way {
    /// A node that was there may be away for a moment, when it begins again under another key: how long it is waited for.
    Socket(PathBuf, Duration),
    Here {
        router: Router,
        door: door::Sender,
    },
}

/// Where one goes on who has read an answer to its end.
#[derive(Debug, Default)]
pub struct Onward {
    pub cursor: Option<String>,
    /// Records that were erased since the cursor that was named: nothing else tells of them.
    pub erased: bool,
}

impl Client {
    /// Opens a way, asks what `asking` asks over it, and leaves the ledger in order.
    pub fn with<T>(data: &Path, asking: impl AsyncFnOnce(&Self) -> Result<T, Failure>) -> Result<T, Failure> {
        super::runtime()?.block_on(async {
            let client = Self::open(data).await?;
            let answer = asking(&client).await;
            client.close().await?;
            answer
        })
    }

    /// To the node that runs on `data`, or to `data` itself.
    pub async fn open(data: &Path) -> Result<Self, Failure> {
        let socket = data.join(http::SOCKET);
        let begun = tokio::time::Instant::now();
        loop {
            match tokio::net::UnixStream::connect(&socket).await {
                Ok(_probe) => return Ok(Self { way: Way::Socket(socket, LOCK_WAIT) }),
                Err(error) if is_away(&error) => (),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Err(Failure::nothing(format!("{}: {error}; the node's group may ask it", socket.display())));
                }
                Err(error) => return Err(Failure::environment(format!("{}: {error}", socket.display()))),
            }
            match Self::here(data).await {
                // A node that starts, stops or begins again holds the directory for a moment without a window.
                Err(Opening::InUse(_)) if begun.elapsed() < LOCK_WAIT => tokio::time::sleep(LOCK_POLL).await,
                Err(Opening::InUse(error) | Opening::Failed(error)) => return Err(error),
                Ok(client) => return Ok(client),
            }
        }
    }

    /// To a running node only, and if it runs now.
    pub fn to_socket(data: &Path) -> Self {
        Self { way: Way::Socket(data.join(http::SOCKET), Duration::ZERO) }
    }

    async fn here(data: &Path) -> Result<Self, Opening> {
        let place = data.to_owned();
        let opened = tokio::task::spawn_blocking(move || setup::open(&place, Clock::System)).await;
        let opened = match opened {
            Err(error) => return Err(Opening::Failed(Failure::environment(error))),
            Ok(Err(SetupError::Ledger(LedgerError::InUse(path)))) => {
                return Err(Opening::InUse(Failure::environment(LedgerError::InUse(path))));
            }
            Ok(other) => other.map_err(|error| Opening::Failed(error.into()))?,
        };
        let (requests, queue) = door::queue(false);
        let (events, mut ignored) = tokio::sync::mpsc::channel(door::QUEUE_MAX);
        tokio::spawn(async move { while ignored.recv().await.is_some() {} });
        let upkeep = opened.upkeep(&requests, data);
        let local = Local::from(http::LocalParts {
            upkeep,
            reach: crate::node::reach::Reach::default(),
            identity: opened.identity,
            current: opened.current,
            ledger: opened.ledger,
            door: requests.clone(),
            clock: opened.clock.clone(),
            watch: Watch::default(),
            recovery: opened.recovery,
            running: false,
            started: opened.clock.now(),
            data: data.to_owned(),
            own: opened.own,
            operators: http::Operators::of(&opened.config.operators),
            tokens: http::Tokens::open(data).map_err(|error| Opening::Failed(Failure::environment(error)))?,
            addresses: Default::default(),
            sources: opened.config.sources.clone().into(),
            proxy: opened.config.proxy(),
            pulling: Default::default(),
            enforcer: opened.enforcer,
            ends: Default::default(),
            access: opened.access,
            notified: opened.config.notify.clone().into(),
            undelivered: http::Undelivered::default(),
            admission: http::Admission::default(),
            documents: opened.documents,
        });
        let keeper = opened.door;
        std::thread::spawn(move || door::run(keeper, queue, events));
        // Requests of this very process come from its own user.
        let caller = http::Caller::Account(nix::unistd::geteuid().as_raw());
        let router = http::router(local).layer(axum::Extension(caller));
        Ok(Self { way: Way::Here { router, door: requests } })
    }

    /// Asks for JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, parameters: &impl Serialize) -> Result<T, Failure> {
        self.call("GET", &with_query(path, parameters), Body::empty(), None).await
    }

    /// Sends JSON, gets JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, value: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(value).map_err(Failure::usage)?;
        self.call("POST", path, Body::from(body), Some("application/json")).await
    }

    /// Sends a stream of bytes, gets JSON.
    pub async fn stream<T: DeserializeOwned>(&self, path: &str, parameters: &impl Serialize, body: Body) -> Result<T, Failure> {
        self.call("POST", &with_query(path, parameters), body, Some("application/octet-stream")).await
    }

    /// Asks for bytes.
    pub async fn bytes(&self, path: &str, parameters: &impl Serialize) -> Result<Vec<u8>, Failure> {
        let (status, body) = self.send("GET", &with_query(path, parameters), Body::empty(), None).await?;
        if !status.is_success() {
            return self.answer::<serde_json::Value>(status, body).await.map(|_| Vec::new());
        }
        let limited = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
        Ok(limited.collect().await.map_err(Failure::environment)?.to_bytes().to_vec())
    }

    /// Asks for bytes of any length, piece by piece. Answers the cursor that came with them, if one did.
    pub async fn pieces(
        &self,
        path: &str,
        parameters: &impl Serialize,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Onward, Failure> {
        let answer = self.respond("GET", &with_query(path, parameters), Body::empty(), None).await?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let erased = header(http::ERASED_HEADER).is_some_and(|said| said == "true");
        let onward = Onward { cursor: header(http::CURSOR_HEADER), erased };
        let (status, body) = (answer.status(), answer.into_body());
        if !status.is_success() {
            return self.answer::<serde_json::Value>(status, body).await.map(|_| Onward::default());
        }
        let mut frames = http_body_util::BodyStream::new(body);
        while let Some(frame) = frames.next().await {
            if let Ok(data) = frame.map_err(Failure::environment)?.into_data() {
                each(&data)?;
            }
        }
        Ok(onward)
    }

    /// Sends JSON to something that takes a while, and hears how far it is until it is done.
    pub async fn watch<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(value).map_err(Failure::usage)?;
        let (status, body) = self.send("POST", path, Body::from(body), Some("application/json")).await?;
        if !status.is_success() {
            return self.answer(status, body).await;
        }
        let (mut frames, mut rest) = (http_body_util::BodyStream::new(body), Vec::new());
        while let Some(frame) = frames.next().await {
            let Ok(data) = frame.map_err(Failure::environment)?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                match serde_json::from_slice(&line).map_err(Failure::environment)? {
                    Line::Progress(done, all) => progress(done, all),
                    Line::Done(value) => return Ok(value),
                    Line::Error(error) => return Err(Failure::environment(error)),
                }
            }
            if rest.len() > ANSWER_BYTES_MAX {
                return Err(Failure::environment("an answer without an end"));
            }
        }
        Err(Failure::environment("the node stopped before it was done"))
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, path: &str, body: Body, kind: Option<&str>) -> Result<T, Failure> {
        let (status, body) = self.send(method, path, body, kind).await?;
        self.answer(status, body).await
    }

    async fn send(&self, method: &str, path: &str, body: Body, kind: Option<&str>) -> Result<(StatusCode, Body), Failure> {
        let answer = self.respond(method, path, body, kind).await?;
        Ok((answer.status(), answer.into_body()))
    }

    async fn respond(&self, method: &str, path: &str, body: Body, kind: Option<&str>) -> Result<hyper::Response<Body>, Failure> {
        let mut request = hyper::Request::builder().method(method).uri(path).header("host", "huecry");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        if let Some(reason) = REASON.get() {
            let encoded = percent_encoding::utf8_percent_encode(reason, percent_encoding::NON_ALPHANUMERIC).to_string();
            request = request.header(http::REASON_HEADER, encoded);
        }
        let request = request.body(body).map_err(Failure::usage)?;
        match &self.way {
            Way::Here { router, .. } => router.clone().oneshot(request).await.map_err(Failure::environment),
            Way::Socket(socket, patience) => {
                let gone = |error: &dyn std::fmt::Display| Failure::environment(format!("{}: {error}", socket.display()));
                let begun = tokio::time::Instant::now();
                let stream = loop {
                    // Nothing was sent yet, so trying again does nothing twice.
                    match tokio::net::UnixStream::connect(socket).await {
                        Err(error) if is_away(&error) && begun.elapsed() < *patience => tokio::time::sleep(LOCK_POLL).await,
                        outcome => break outcome.map_err(|error| gone(&error))?,
                    }
                };
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| gone(&error))?;
                tokio::spawn(connection);
                let answer = sender.send_request(request).await.map_err(|error| gone(&error))?;
                Ok(answer.map(Body::new))
            }
        }
    }

    async fn answer<T: DeserializeOwned>(&self, status: StatusCode, body: Body) -> Result<T, Failure> {
        let limited = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
        let bytes = limited.collect().await.map_err(Failure::environment)?.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(Failure::environment);
        }
        let error: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = error.get("error").and_then(|text| text.as_str()).map(str::to_owned);
        let text = text.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Failure::nothing(text),
            status if status.is_server_error() => Failure::environment(text),
            _ => Failure::usage(text),
        })
    }

    /// Leaves the directory in order, if this process had opened it.
    pub async fn close(self) -> Result<(), Failure> {
        let Way::Here { door, router } = self.way else { return Ok(()) };
        drop(router);
        let (reply, done) = tokio::sync::oneshot::channel();
        let asked = tokio::task::spawn_blocking(move || door.send(Request::Stop(reply)).is_ok()).await.unwrap_or(false);
        if !asked {
            return Err(Failure::environment("the ledger stopped; see the messages above"));
        }
        done.await.map_err(Failure::environment)?.map_err(Failure::environment)
    }
}

/// Nobody listens there just now.
fn is_away(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

fn with_query(path: &str, parameters: &impl Serialize) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(parameters) {
        for (name, value) in fields {
            match value {
                serde_json::Value::Null => (),
                serde_json::Value::String(text) => drop(query.append_pair(&name, &text)),
                other => drop(query.append_pair(&name, &other.to_string())),
            }
        }
    }
    format!("{path}?{}", query.finish())
}
