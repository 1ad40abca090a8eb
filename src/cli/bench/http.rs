//! `bench http`: the window of a running node, another process, over loopback: look-ups by `wrk`, a collection read to its end, decisions.

use super::{Place, WIDE, new_node, rate};
use crate::{
    cli::{Context, Failure, client::Client, print::grouped, runtime},
    clock::Clock,
    enforce::{Mode, Order},
    http::{OrderParameters, PublishParameters, PublishReply, SOCKET, TokenParameters, TokenReply},
    node::{membership, setup},
    sim::{Dice, listed_value},
};
use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    convert::Infallible,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What is asked of the window.
#[derive(clap::Args)]
pub struct Arguments {
    /// Indicators that are known.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Seconds of look-ups.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Decisions of the outlet; with 0 they are not measured.
    #[arg(long, default_value_t = 200_000)]
    decisions: u64,
}

/// Values that the load generator asks for, one in eight of them unknown.
const ASKED: u64 = 50_000;
/// How long a step may take.
const STEP_MAX: Duration = Duration::from_secs(300);

/// A node of its own process, ended with this.
pub(super) struct Node(Child);

impl Node {
    /// Starts a node and waits until it is there: before that, a client would open the directory in its place.
    pub fn start(data: &Path) -> Result<Self, Failure> {
        let node = Command::new(std::env::current_exe().map_err(Failure::environment)?)
            .arg("--data")
            .arg(data)
            .arg("run")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let (node, begun) = (Self(node.map_err(Failure::environment)?), Instant::now());
        while std::os::unix::net::UnixStream::connect(data.join(SOCKET)).is_err() {
            if begun.elapsed() > STEP_MAX {
                return Err(Failure::environment("the node did not start"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let place = Place::new(None)?;
    let (data, port) = (place.path.join("node"), free_port()?);
    prepare(&data, port, arguments.records, arguments.decisions)?;
    let node = Node::start(&data)?;
    runtime()?.block_on(measure(context, &place, &data, (&node, port), arguments))
}

pub(super) fn free_port() -> Result<u16, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Failure::environment)?;
    Ok(listener.local_addr().map_err(Failure::environment)?.port())
}

/// Creates a node with `records` indicators, an open port and an outlet that takes up to `decisions` values.
pub(super) fn prepare(data: &Path, port: u16, records: u64, decisions: u64) -> Result<(), Failure> {
    let new = new_node("bench-agency")?;
    setup::init(data, &new)?;
    membership::found(data, &new, "bench", WIDE, Clock::System.now())?;
    let path = data.join("node.toml");
    let config = std::fs::read_to_string(&path).map_err(Failure::environment)?;
    let config = config.replacen("listen = []\nhosts = []", &format!("listen = [\"127.0.0.1:{port}\"]\nhosts = []"), 1);
    let outlet = format!("\n[[outlets]]\nname = \"edge\"\ntypes = [\"ipv6\"]\nlines_max = {}\n", decisions.max(1));
    std::fs::write(&path, config + &outlet).map_err(Failure::environment)?;
    let word = |text: &str| Some(text.to_owned());
    let parameters = PublishParameters {
        channel: membership::IMPORTED.to_owned(),
        tlp: word("green"),
        title: "bench".to_owned(),
        format: word("list"),
        confidence: Some(95),
        usage: word("block"),
        valid_days: Some(30),
        ..PublishParameters::default()
    };
    let (count, piece) = (records, 2_000);
    let pieces = (0..count.div_ceil(piece)).map(move |at| {
        let text: String = (at * piece..((at + 1) * piece).min(count)).map(|number| format!("{}\n", listed_value(number))).collect();
        Ok::<_, Infallible>(Bytes::from(text))
    });
    let body = Body::from_stream(futures::stream::iter(pieces));
    runtime()?.block_on(async {
        let client = Client::open(data).await?;
        let reply: PublishReply = client.stream("/v1/publish", &parameters, body).await?;
        client.close().await?;
        if reply.records == count { Ok(()) } else { Err(Failure::environment(format!("{} of {count} were taken", reply.records))) }
    })
}

/// A connection to the window that stays open.
struct Asker {
    sender: hyper::client::conn::http1::SendRequest<Body>,
    host: String,
    shown: (&'static str, String),
}

impl Asker {
    async fn new(port: u16, shown: (&'static str, String)) -> Result<Self, Failure> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map_err(Failure::environment)?;
        stream.set_nodelay(true).map_err(Failure::environment)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::environment)?;
        tokio::spawn(connection);
        Ok(Self { sender, host: format!("127.0.0.1:{port}"), shown })
    }

    /// The body of an answer, as it was sent.
    async fn get(&mut self, path: &str) -> Result<Bytes, Failure> {
        let (name, value) = &self.shown;
        let request = hyper::Request::get(path).header("host", &self.host).header(*name, value).header("accept-encoding", "gzip");
        let request = request.body(Body::empty()).map_err(Failure::usage)?;
        self.sender.ready().await.map_err(Failure::environment)?;
        let answer = self.sender.send_request(request).await.map_err(Failure::environment)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(Failure::environment)?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(Failure::environment(format!("{path}: {status} {}", String::from_utf8_lossy(&body))))
        }
    }
}

async fn measure(context: &Context, place: &Place, data: &Path, (node, port): (&Node, u16), arguments: &Arguments) -> Result<(), Failure> {
    let client = Client::open(data).await?;
    let token = async |outlet: Option<&str>| {
        let (name, outlet) = (outlet.unwrap_or("bench").to_owned(), outlet.map(str::to_owned));
        let parameters = TokenParameters { name, outlet, days: 1, ..TokenParameters::default() };
        client.post::<TokenReply>("/v1/tokens", &parameters).await.map(|reply| reply.token)
    };
    let (person, edge) = (token(None).await?, token(Some("edge")).await?);
    // A node that has just started weighs for its outlets whatever it knows, and look-ups would share the machine with that.
    until(&client, "monitored", arguments.decisions).await?;
    at_rest(node).await?;
    let screen = &context.screen;
    let looked_up = if has_wrk() {
        let script = script(&place.path, arguments.records, &person)?;
        Some(lookups(&script, port, arguments.seconds)?)
    } else {
        screen.note("look-ups are not measured: they need `wrk`, which asks from outside (apt-get install wrk)");
        None
    };
    let mut asker = Asker::new(port, ("authorization", format!("Bearer {person}"))).await?;
    let (objects, pages, taxii_s) = crawl(&mut asker, arguments.records).await?;
    let taxii_per_s = rate(objects, Duration::from_secs_f64(taxii_s));
    if let Some((per_s, p99_ms)) = looked_up {
        let per_s = grouped(per_s);
        screen.line(&format!("look-ups by value, by wrk over loopback on the same cores: {per_s}/s, 99th percentile {p99_ms:.2} ms"));
    }
    screen.line(&format!("TAXII: {} objects in {pages} pages, {}/s, none twice", grouped(objects), grouped(taxii_per_s)));
    let decided = match arguments.decisions {
        0 => None,
        count => Some(decisions(&client, port, edge, count).await?),
    };
    if let Some(Decided { first_s, again_s, bytes, empty_ms }) = &decided {
        let (count, bytes) = (grouped(arguments.decisions), grouped(*bytes));
        screen.line(&format!(
            "decisions: {count} first in {first_s:.3} s, then in {again_s:.4} s ({bytes} bytes); an empty change in {empty_ms:.3} ms, median of 1 000"
        ));
    }
    screen.value(&json!({
        "records": arguments.records, "lookups_per_s": looked_up.map(|(per_s, _)| per_s), "p99_ms": looked_up.map(|(_, p99_ms)| p99_ms),
        "taxii_objects": objects, "taxii_pages": pages, "taxii_objects_per_s": taxii_per_s, "decisions": arguments.decisions,
        "decisions_first_s": decided.as_ref().map(|one| one.first_s), "decisions_again_s": decided.as_ref().map(|one| one.again_s),
        "decisions_bytes": decided.as_ref().map(|one| one.bytes), "decisions_empty_ms": decided.as_ref().map(|one| one.empty_ms),
    }));
    Ok(())
}

fn has_wrk() -> bool {
    // Without arguments it prints its usage and exits with 1.
    Command::new("wrk").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// What the load generator asks: a value in each request, from a list that it goes through.
fn script(place: &Path, records: u64, token: &str) -> Result<PathBuf, Failure> {
    let mut dice = Dice::new(7);
    let known = |dice: &mut Dice| listed_value(dice.throw() % records);
    let value = |number: u64, dice: &mut Dice| if number % 8 == 7 { format!("unknown-{number}.example") } else { known(dice) };
    let encode = |text: String| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let lines: Vec<String> = (0..ASKED).map(|number| format!("\"{}\"", encode(value(number, &mut dice)))).collect();
    let text = format!(
        "local asked = {{{}}}\nlocal at = math.random(#asked)\nwrk.headers[\"Authorization\"] = \"Bearer {token}\"\n\
         request = function()\n  at = at % #asked + 1\n  return wrk.format(\"GET\", \"/v1/query?value=\" .. asked[at])\nend\n",
        lines.join(",")
    );
    let path = place.join("ask.lua");
    std::fs::write(&path, text).map_err(Failure::environment)?;
    Ok(path)
}

/// Look-ups a second, and how many milliseconds one in a hundred takes at least.
fn lookups(script: &Path, port: u16, seconds: u64) -> Result<(u64, f64), Failure> {
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--connections", "16", "--latency", "--duration", &format!("{seconds}s"), "--script"]).arg(script);
    let output = wrk.arg(format!("http://127.0.0.1:{port}")).output().map_err(Failure::environment)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let unread = || Failure::environment(format!("wrk said: {said}{}", String::from_utf8_lossy(&output.stderr)));
    if said.contains("Non-2xx") {
        return Err(unread());
    }
    let after = |word: &str| said.lines().find_map(|line| line.trim().strip_prefix(word)).map(|rest| rest.trim().to_owned());
    let per_s = after("Requests/sec:").and_then(|text| text.parse::<f64>().ok()).ok_or_else(unread)?;
    let p99 = after("99%").ok_or_else(unread)?;
    let number = p99.trim_end_matches(|c: char| c.is_alphabetic()).parse::<f64>().map_err(|_| unread())?;
    let scale = if p99.ends_with("us") {
        1e-3
    } else if p99.ends_with("ms") {
        1.0
    } else {
        1e3
    };
    Ok((per_s as u64, number * scale))
}

/// Reads the collection to its end. Fails if an indicator comes twice or not at all.
async fn crawl(asker: &mut Asker, records: u64) -> Result<(u64, u64, f64), Failure> {
    let all: Value = serde_json::from_slice(&asker.get("/taxii2/api/collections/").await?).map_err(Failure::environment)?;
    let id = all.pointer("/collections/0/id").and_then(Value::as_str).ok_or_else(|| Failure::environment("there is no collection"))?;
    let (place, mut next, mut pages) = (format!("/taxii2/api/collections/{id}/objects/?limit=10000"), String::new(), 0);
    let (mut seen, mut took) = (HashSet::new(), Duration::ZERO);
    loop {
        let begun = Instant::now();
        let bytes = asker.get(&format!("{place}{next}")).await?;
        took += begun.elapsed();
        pages += 1;
        let page: Value = serde_json::from_slice(&bytes).map_err(Failure::environment)?;
        for object in page.get("objects").and_then(Value::as_array).into_iter().flatten() {
            let id = object.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            if !seen.insert(id.clone()) {
                return Err(Failure::environment(format!("{id} came twice")));
            }
        }
        match page.get("next").and_then(Value::as_str) {
            Some(text) => next = format!("&next={text}"),
            None => break,
        }
    }
    let indicators = seen.iter().filter(|id| id.starts_with("indicator--")).count() as u64;
    if indicators != records {
        return Err(Failure::environment(format!("{indicators} of {records} indicators came")));
    }
    Ok((seen.len() as u64, pages, took.as_secs_f64()))
}

struct Decided {
    first_s: f64,
    again_s: f64,
    bytes: u64,
    empty_ms: f64,
}

/// Waits until the node has had next to nothing to do for a second.
async fn at_rest(node: &Node) -> Result<(), Failure> {
    // User and system time, in hundredths of a second (proc(5)); the name before them may hold anything but the last parenthesis.
    let spent = || {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", node.0.id())).map_err(Failure::environment)?;
        let after = text.rsplit_once(')').map_or("", |(_, after)| after);
        Ok::<u64, Failure>(after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
    };
    let begun = Instant::now();
    loop {
        let before = spent()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if spent()? <= before + 3 {
            return Ok(());
        }
        if begun.elapsed() > STEP_MAX {
            return Err(Failure::environment("the node does not come to rest"));
        }
    }
}

/// Waits until the outlet has so many lines: `lines` of those it acts on, or `monitored`.
pub(super) async fn until(client: &Client, what: &str, lines: u64) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let all: Value = client.get("/v1/outlets", &json!({})).await?;
        let one = all.get(0).cloned().unwrap_or_default();
        let found = if what == "lines" { one.get("lines") } else { one.pointer(&format!("/origins/0/{what}")) };
        if found.and_then(Value::as_u64).is_some_and(|found| found >= lines) {
            return Ok(());
        }
        if begun.elapsed() > STEP_MAX {
            return Err(Failure::environment(format!("the outlet did not reach {lines} lines {what}: {one}")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Lets the outlet act, and waits until it does.
pub(super) async fn let_act(client: &Client, decisions: u64) -> Result<(), Failure> {
    let member = "bench-agency".parse().map_err(Failure::usage)?;
    for origin in [None, Some(member)] {
        let order = Order::Mode { outlet: "edge".to_owned(), origin, mode: Mode::Enforce };
        let parameters = OrderParameters { order, tell_author: false, operator: None, signature: None };
        let _reply: Value = client.post("/v1/order", &parameters).await?;
    }
    until(client, "lines", decisions).await
}

/// Lets the outlet act, and takes what it decides as a bouncer does.
async fn decisions(client: &Client, port: u16, key: String, decisions: u64) -> Result<Decided, Failure> {
    let_act(client, decisions).await?;
    let mut bouncer = Asker::new(port, ("x-api-key", key.clone())).await?;
    let path = "/v1/decisions/stream";
    let whole = format!("{path}?startup=true");
    let begun = Instant::now();
    let first = bouncer.get(&whole).await?;
    let first_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let again = bouncer.get(&whole).await?;
    let again_s = begun.elapsed().as_secs_f64();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&again[..]), &mut text).map_err(Failure::environment)?;
    let body: Value = serde_json::from_str(&text).map_err(Failure::environment)?;
    let count = body.get("new").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    if count != decisions || first.is_empty() {
        return Err(Failure::environment(format!("{count} of {decisions} decisions came")));
    }
    // What began a moment ago is told again for two minutes; another client has nothing to be told of after that.
    tokio::time::sleep(Duration::from_secs(122)).await;
    // A connection that says nothing for so long is closed.
    bouncer = Asker::new(port, ("x-api-key", key)).await?;
    let _settled = bouncer.get(path).await?;
    let mut took = Vec::new();
    for _ in 0..1_000 {
        let begun = Instant::now();
        let empty = bouncer.get(path).await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        if &empty[..] != b"{\"new\":[],\"deleted\":[]}" {
            return Err(Failure::environment("a change is told where there is none"));
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(Decided { first_s, again_s, bytes: again.len() as u64, empty_ms: took.get(500).copied().unwrap_or(0.0) })
}
