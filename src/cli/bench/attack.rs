//! `bench attack`: latency of `unblock` and of queries during an attack: half-open connections, uploads of a byte a second, clients that do
//! not read, expensive queries, uploads without an end.

use super::{
    Place,
    http::{Node, free_port, let_act, prepare, until},
};
use crate::{
    cli::{Context, Failure, client::Client, runtime},
    enforce::Order,
    http::{OrderParameters, SOCKET, TokenParameters, TokenReply},
    sim::listed_value,
};
use serde_json::{Map, Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

/// The attack.
#[derive(clap::Args)]
pub struct Arguments {
    /// Indicators that are known.
    #[arg(long, default_value_t = 200_000)]
    records: u64,
    /// Hostile connections at once, of every kind the same number.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Duration of the attack.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// Interval between the bytes of a slow attacker.
const SLOW: Duration = Duration::from_secs(1);
/// Tokens of each role that the attackers share.
const TOKENS: usize = 3;
/// Rounds without an attack, for comparison.
const QUIET_ROUNDS: usize = 10;
/// Time before the first measurement, so that the attack can take up whatever it can.
const BEFORE: Duration = Duration::from_secs(5);
/// Timeout of a request that is measured.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The behaviour of a hostile connection.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Connects, and sends a part of a header.
    HalfOpen,
    /// Uploads a byte a second, by each way there is.
    SlowBody,
    /// Asks for everything and reads a byte a second.
    SlowReader,
    /// Asks what costs most, again and again.
    Expensive,
    /// Uploads as fast as it can and never ends.
    Endless,
    /// Half-open connections and uploads at the node's own socket: forgotten commands.
    Forgotten,
}

const KINDS: [Kind; 6] = [Kind::HalfOpen, Kind::SlowBody, Kind::SlowReader, Kind::Expensive, Kind::Endless, Kind::Forgotten];

/// Uploads, by what a token needs for them.
const UPLOADS: [&str; 5] = [
    "/v1/publish?channel=indicators&title=slow&tlp=green&alone=true",
    "/v1/verify/bundle?",
    "/v1/bundle?",
    "/v1/documents?channel=indicators&tlp=green&title=slow&media_type=text/plain&alone=true",
    "/v1/match?",
];
const QUESTIONS: [&str; 4] = ["/v1/query?text=host&limit=10000", "/v1/query?value=2001:db8::/32&limit=10000", "/v1/news", "/v1/sync"];

/// The node under attack, and the attackers' tokens.
#[derive(Clone)]
struct Target {
    port: u16,
    socket: PathBuf,
    tokens: Arc<Vec<String>>,
    begun: Arc<AtomicU64>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let place = Place::new(None)?;
    let (data, port) = (place.path.join("node"), free_port()?);
    let decisions = (0..arguments.records).filter(|number| is_decided(*number)).count() as u64;
    prepare(&data, port, arguments.records, decisions)?;
    let _node = Node::start(&data)?;
    runtime()?.block_on(measure(context, &data, (port, decisions), arguments))
}

/// Returns true for IPv6 addresses, the type that the outlet takes.
fn is_decided(number: u64) -> bool {
    (5..=7).contains(&(number % 10))
}

async fn measure(context: &Context, data: &Path, (port, decisions): (u16, u64), arguments: &Arguments) -> Result<(), Failure> {
    let client = Client::open(data).await?;
    let token = async |name: String| {
        let parameters = TokenParameters { name, days: 1, ..TokenParameters::default() };
        client.post::<TokenReply>("/v1/tokens", &parameters).await.map(|reply| reply.token)
    };
    let own = token("own".to_owned()).await?;
    let mut tokens = Vec::new();
    for number in 0..TOKENS {
        tokens.push(token(format!("attacker-{number}")).await?);
    }
    // Values that an outlet knows before it enforces do not count as a flood.
    until(&client, "monitored", decisions).await?;
    let_act(&client, decisions).await?;
    let mut values = (0..arguments.records).filter(|number| is_decided(*number)).map(listed_value);
    let asked = Asked { port, data: data.to_owned(), token: own };
    let mut quiet = Took::default();
    for _round in 0..QUIET_ROUNDS {
        asked.round(&mut quiet, &mut values).await?;
    }
    let target = Target { port, socket: data.join(SOCKET), tokens: Arc::new(tokens), begun: Arc::default() };
    let attackers: Vec<_> = (0..arguments.connections)
        .zip(KINDS.iter().cycle())
        .map(|(number, kind)| tokio::spawn(attack(target.clone(), *kind, number)))
        .collect();
    tokio::time::sleep(BEFORE).await;
    let (mut under, begun) = (Took::default(), Instant::now());
    while begun.elapsed() < Duration::from_secs(arguments.seconds) {
        asked.round(&mut under, &mut values).await?;
    }
    attackers.iter().for_each(|attacker| attacker.abort());
    let screen = &context.screen;
    let connections = target.begun.load(Ordering::Relaxed);
    screen.line(&format!("{} hostile connections at once, {connections} in all", arguments.connections));
    screen.line("milliseconds without them, median | with them: median, longest");
    for (name, took) in &under.0 {
        let before = quiet.0.iter().find(|(known, _)| known == name).map_or(0.0, |(_, took)| middle(took));
        screen.line(&format!("{name:26} {before:8.1} | {:8.1} {:8.1}", middle(took), longest(took)));
    }
    let figures = under.0.iter().flat_map(|(name, took)| {
        let word = name.replace(' ', "_");
        [(format!("{word}_ms"), json!(middle(took))), (format!("{word}_max_ms"), json!(longest(took)))]
    });
    let mut answer: Map<String, Value> = figures.collect();
    answer.insert("connections".to_owned(), json!(arguments.connections));
    answer.insert("connections_in_all".to_owned(), json!(connections));
    screen.value(&Value::Object(answer));
    Ok(())
}

fn middle(took: &[f64]) -> f64 {
    let mut sorted = took.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn longest(took: &[f64]) -> f64 {
    took.iter().copied().fold(0.0, f64::max)
}

/// Milliseconds, by what was asked.
#[derive(Default)]
struct Took(Vec<(&'static str, Vec<f64>)>);

impl Took {
    fn note(&mut self, name: &'static str, begun: Instant) {
        let took_ms = begun.elapsed().as_secs_f64() * 1e3;
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, took)) => took.push(took_ms),
            None => self.0.push((name, vec![took_ms])),
        }
    }
}

/// An honest client.
struct Asked {
    port: u16,
    data: PathBuf,
    token: String,
}

impl Asked {
    /// Unblocks one value in each way, and asks for what an operator needs to see.
    async fn round(&self, took: &mut Took, values: &mut impl Iterator<Item = String>) -> Result<(), Failure> {
        let mut next = || values.next().ok_or_else(|| Failure::environment("all values are unblocked; take more --records"));
        let (first, second) = (next()?, next()?);
        let begun = Instant::now();
        let binary = std::env::current_exe().map_err(Failure::environment)?;
        let mut command = tokio::process::Command::from(Command::new(binary));
        command.arg("--data").arg(&self.data).args(["unblock", &first, "--reason", "a mistake"]).stdout(Stdio::null());
        let done = command.output().await.map_err(Failure::environment)?;
        if !done.status.success() {
            return Err(Failure::environment(format!("unblock: {}", String::from_utf8_lossy(&done.stderr))));
        }
        took.note("unblock by command", begun);
        let until = crate::clock::Clock::System.now().plus_ms(crate::record::DAY_MS);
        let order = Order::Unblock { value: second.clone(), reason: "a mistake".to_owned(), until };
        let parameters = OrderParameters { order, tell_author: false, operator: None, signature: None };
        let body = serde_json::to_string(&parameters).map_err(Failure::usage)?;
        self.ask(took, "unblock by token", "POST", "/v1/order", &body).await?;
        self.ask(took, "explain", "GET", &format!("/v1/explain?what={second}"), "").await?;
        self.ask(took, "held", "GET", "/v1/held", "").await?;
        self.ask(took, "ready", "GET", "/ready", "").await?;
        self.ask(took, "query", "GET", &format!("/v1/query?value={first}"), "").await
    }

    async fn ask(&self, took: &mut Took, name: &'static str, method: &str, path: &str, body: &str) -> Result<(), Failure> {
        let begun = Instant::now();
        let answer = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let head = head(self.port, Some(&self.token), method, path);
            let length = body.len();
            let text = format!("{head}Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = tokio::time::timeout(ANSWER_MAX, answer).await.map_err(|_| Failure::environment(format!("{name}: no answer")))?;
        let answer = answer.map_err(Failure::environment)?;
        // An overloaded node may refuse a lookup, never an unblock.
        if !answer.starts_with("HTTP/1.1 200") && (method == "POST" || !answer.starts_with("HTTP/1.1 503")) {
            return Err(Failure::environment(format!("{name}: {}", answer.chars().take(400).collect::<String>())));
        }
        took.note(name, begun);
        Ok(())
    }
}

fn head(port: u16, token: Option<&str>, method: &str, path: &str) -> String {
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{token}")
}

/// Attacks in one way until it is aborted. It opens a new connection when the node closes one.
async fn attack(target: Target, kind: Kind, number: usize) {
    loop {
        target.begun.fetch_add(1, Ordering::Relaxed);
        let _closed = match kind {
            Kind::Forgotten => match UnixStream::connect(&target.socket).await {
                Ok(stream) => harm(&target, stream, kind, number, None).await,
                Err(error) => Err(error),
            },
            _ => match TcpStream::connect(("127.0.0.1", target.port)).await {
                Ok(stream) => {
                    let token = target.tokens.get(number % target.tokens.len()).map(String::as_str);
                    harm(&target, stream, kind, number, token).await
                }
                Err(error) => Err(error),
            },
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn harm(
    target: &Target,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    kind: Kind,
    number: usize,
    token: Option<&str>,
) -> std::io::Result<()> {
    let turn = number / KINDS.len();
    let upload = UPLOADS.get(turn % UPLOADS.len()).copied().unwrap_or_default();
    let begins = |method: &str, path: &str| head(target.port, token, method, path);
    let chunked = "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    match kind {
        Kind::HalfOpen => {
            let text = begins("GET", "/v1/status");
            stream.write_all(text.get(..turn % text.len()).unwrap_or_default().as_bytes()).await?;
            to_the_end(&mut stream).await
        }
        Kind::Forgotten if turn.is_multiple_of(2) => to_the_end(&mut stream).await,
        Kind::SlowBody | Kind::Forgotten => {
            stream.write_all((begins("POST", upload) + chunked).as_bytes()).await?;
            loop {
                stream.write_all(b"1\r\n{\r\n").await?;
                tokio::time::sleep(SLOW).await;
            }
        }
        Kind::SlowReader => {
            stream.write_all((begins("GET", "/v1/export?format=json") + "\r\n").as_bytes()).await?;
            loop {
                if stream.read(&mut [0; 1]).await? == 0 {
                    return Ok(());
                }
                tokio::time::sleep(SLOW).await;
            }
        }
        Kind::Expensive => loop {
            let question = QUESTIONS.get(turn % QUESTIONS.len()).copied().unwrap_or_default();
            stream.write_all((begins("GET", question) + "\r\n").as_bytes()).await?;
            // Enough of the answer to know that it has been made.
            if stream.read(&mut [0; 65_536]).await? == 0 {
                return Ok(());
            }
        },
        Kind::Endless => {
            stream.write_all((begins("POST", upload) + chunked).as_bytes()).await?;
            let piece = format!("10000\r\n{}\r\n", "192.0.2.1\n".repeat(6_554).get(..0x10000).unwrap_or_default());
            loop {
                stream.write_all(piece.as_bytes()).await?;
            }
        }
    }
}

/// Waits until the other end closes.
async fn to_the_end(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    while stream.read(&mut [0; 256]).await? > 0 {}
    Ok(())
}
