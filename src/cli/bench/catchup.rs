//! `huecry bench catchup`: a node that has nothing meets one that has everything, two processes on loopback.

use super::{Place, rate};
use crate::sim::listed_value;
use crate::{
    cli::{Context, Failure, client::Client, print::grouped, runtime},
    http::{PublishParameters, PublishReply},
    node::membership::INDICATORS,
};
use axum::body::Body;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How often the newcomer is asked how far it is.
const POLL: Duration = Duration::from_millis(20);
/// After so long it is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A node of its own process, which ends with the bench.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(super) fn run(context: &Context, records: u64, keep: Option<PathBuf>) -> Result<(), Failure> {
    let place = Place::new(keep)?;
    let (full, empty) = (place.path.join("full"), place.path.join("empty"));
    context.screen.note("founding a federation of two, and publishing");
    huecry(&full, &["init", "--member", "bench-full", "--found", "bench", "--records-a-day", "1000000000", "--listen", &listen()?])?;
    let federation = text(&huecry(&full, &["status"])?, "/federation");
    let newcomer = ["init", "--member", "bench-empty", "--kind", "country", "--country", "XA", "--name", "Empty"];
    huecry(&empty, &[&newcomer[..], &["--federation", &federation, "--listen", &listen()?]].concat())?;
    huecry(&full, &["admit", &empty.join("request.huecry").display().to_string()])?;
    huecry(&empty, &["join", &full.join("invitation.huecry").display().to_string()])?;
    let parameters = PublishParameters {
        channel: INDICATORS.to_owned(),
        tlp: Some("green".to_owned()),
        title: "bench".to_owned(),
        alone: true,
        ..PublishParameters::default()
    };
    let lines: String = (0..records).map(|number| listed_value(number) + "\n").collect();
    let reply: PublishReply = runtime()?.block_on(async {
        let client = Client::open(&full).await?;
        let reply = client.stream("/v1/publish", &parameters, Body::from(lines)).await;
        client.close().await?;
        reply
    })?;
    // The report is a record too.
    let all = reply.records + 1;
    let _full = start(&full)?;
    let (took, begun_at, rss) = runtime()?.block_on(async {
        let source = Client::to_socket(&full);
        until(async || source.get::<Value>("/v1/status", &json!({})).await.is_ok()).await?;
        let process = start(&empty)?;
        let newcomer = Client::to_socket(&empty);
        let known = async || newcomer.get::<Value>("/v1/status", &json!({})).await.ok().and_then(|status| status.get("records")?.as_u64());
        let begun = Instant::now();
        until(async || known().await.is_some_and(|count| count > 0)).await?;
        let first = Instant::now();
        until(async || known().await == Some(all)).await?;
        Ok::<_, Failure>((first.elapsed(), first - begun, rss_peak(process.0.id())))
    })?;
    let per_s = rate(all, took);
    context.screen.line(&format!(
        "catch-up: {} records between two processes in {:.2} s, from the first to the last: {} records/s; {:.2} s from the start of the process to the first; {} MiB resident",
        grouped(all),
        took.as_secs_f64(),
        grouped(per_s),
        begun_at.as_secs_f64(),
        grouped(rss >> 20)
    ));
    context.screen.value(&json!({
        "records": all,
        "records_per_s": per_s,
        "wall_s": took.as_secs_f64(),
        "first_s": begun_at.as_secs_f64(),
        "rss_peak_bytes": rss,
    }));
    Ok(())
}

fn listen() -> Result<String, Failure> {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(Failure::environment)?;
    Ok(format!("/ip4/127.0.0.1/tcp/{}", socket.port()))
}

fn command(data: &Path, words: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe().map_err(Failure::environment)?);
    command.arg("--data").arg(data).args(words).stdin(Stdio::null());
    Ok(command)
}

fn huecry(data: &Path, words: &[&str]) -> Result<Value, Failure> {
    let output = command(data, &[&["--json"], words].concat())?.output().map_err(Failure::environment)?;
    if !output.status.success() {
        return Err(Failure::environment(format!("`huecry {}` failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr))));
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn start(data: &Path) -> Result<Process, Failure> {
    let log = std::fs::File::create(data.join("log")).map_err(Failure::environment)?;
    Ok(Process(command(data, &["run"])?.stdout(Stdio::null()).stderr(log).spawn().map_err(Failure::environment)?))
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

async fn until(mut done: impl AsyncFnMut() -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !done().await {
        if begun.elapsed() > PATIENCE {
            return Err(Failure::environment("it took too long"));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The most memory that a process has had, in bytes.
fn rss_peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
