//! `huecry demo`: a federation on this machine, from nothing to a withdrawal, every step checked by asking the nodes.
//!
//! Separate processes with their own directories, keys and policies: a coordinator, two countries, two vendors, and a
//! third country that joins late. Loopback only; no name or address in the data is ever contacted.

use super::{Context, Failure, client::Client, print::grouped, runtime};
use crate::{
    http::{PublishParameters, PublishReply, QueryParameters, SOCKET, WithdrawParameters, WithdrawReply},
    node::membership::INDICATORS,
};
use axum::body::Body;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest that any one step may take before the demo says which it was.
const STEP_MAX: Duration = Duration::from_secs(40);
/// How often nodes are asked while something is awaited.
const POLL: Duration = Duration::from_millis(5);

/// Show a federation at work on this machine: six nodes, real lists, a mistake taken back everywhere.
#[derive(clap::Args)]
pub struct Arguments {
    /// Publish this list instead of the corpus or the bundled sample.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Leave the nodes running, and say how to talk to them.
    #[arg(long)]
    keep: bool,
    /// Where to put the nodes; a temporary directory unless said.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What a vendor may publish a day: its first list is some ten thousand values, at once.
const RECORDS_A_DAY: &str = "10000000";
/// Value both vendors assert, and that one of them takes back.
const SHARED: &str = "c2.shared.example";
/// Value on a warning list of the second country.
const WARNED: &str = "cdn.popular.example";
/// Value that nobody should have published.
const PRIVATE: &str = "10.20.30.40";

/// The last line of `--json`.
#[derive(Serialize, Default)]
struct Summary {
    nodes: usize,
    records_published: u64,
    records_delivered_everywhere: bool,
    announce_to_all_ms: u64,
    late_join_ms: u64,
    restart_lost: u64,
    withdrawal_to_all_ms: u64,
    held: u64,
    rejected: u64,
    wall_s: f64,
}

struct Node {
    member: &'static str,
    kind: &'static str,
    country: Option<&'static str>,
    title: &'static str,
    data: PathBuf,
    child: Option<Child>,
}

const MEMBERS: [(&str, &str, Option<&str>, &str); 6] = [
    ("hub", "coordinator", None, "the coordinating centre"),
    ("xa-police", "country", Some("XA"), "police of country XA"),
    ("xb-police", "country", Some("XB"), "police of country XB"),
    ("vendor-one", "vendor", None, "a vendor"),
    ("vendor-two", "vendor", None, "another vendor"),
    ("xc-police", "country", Some("XC"), "police of country XC, which joins late"),
];
const LATE: usize = 5;

struct Demo<'a> {
    context: &'a Context,
    root: PathBuf,
    nodes: Vec<Node>,
    begun: Instant,
    keep: bool,
    remove: bool,
    summary: Summary,
}

/// Whatever happens, no process is left behind.
impl Drop for Demo<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _already_gone = child.kill();
            let _already_reaped = child.wait();
        }
        if self.remove {
            let _left_behind = std::fs::remove_dir_all(&self.root);
        }
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut name = [0; 6];
    getrandom::fill(&mut name).map_err(Failure::environment)?;
    let remove = arguments.dir.is_none();
    let root = arguments.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("huecry-demo-{}", hex::encode(name))));
    let node = |(member, kind, country, title): (&'static str, &'static str, Option<&'static str>, &'static str)| Node {
        member,
        kind,
        country,
        title,
        data: root.join(member),
        child: None,
    };
    let mut demo = Demo {
        context,
        nodes: MEMBERS.into_iter().map(node).collect(),
        root,
        begun: Instant::now(),
        keep: false,
        remove,
        summary: Summary { nodes: MEMBERS.len(), ..Summary::default() },
    };
    std::fs::create_dir_all(&demo.root).map_err(|error| Failure::environment(format!("{}: {error}", demo.root.display())))?;
    let outcome = runtime()?.block_on(demo.play(arguments.from.as_deref()));
    demo.summary.wall_s = demo.begun.elapsed().as_secs_f64();
    if outcome.is_ok() {
        demo.keep = arguments.keep;
        demo.farewell();
    } else if remove {
        demo.show_logs();
    }
    let summary = &demo.summary;
    context.screen.value(summary);
    outcome
}

impl Demo<'_> {
    fn say(&self, text: &str) {
        let line = format!("{:>6.2} s  {text}", self.begun.elapsed().as_secs_f64());
        if self.context.screen.json() { self.context.screen.note(&line) } else { self.context.screen.line(&line) }
    }

    async fn play(&mut self, from: Option<&Path>) -> Result<(), Failure> {
        self.found()?;
        for index in 0..LATE {
            self.start(index)?;
        }
        for index in 0..LATE {
            self.ready(index, LATE - 1).await?;
        }
        self.say(&format!("{LATE} nodes are running and connected to each other"));
        self.publish_lists(from).await?;
        self.announce().await?;
        self.verdicts().await?;
        self.two_origins().await?;
        self.late_joiner().await?;
        self.killed_and_restarted().await?;
        self.take_back().await
    }

    /// Charter, keys, cards, invitation: by the commands that people type.
    fn found(&mut self) -> Result<(), Failure> {
        let hub = self.nodes.first().map(|node| node.data.clone()).unwrap_or_default();
        let listen = |_: &Node| free_port().map(|port| format!("/ip4/127.0.0.1/tcp/{port}"));
        let mut federation = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let address = listen(node)?;
            let mut words = vec!["init", "--member", node.member, "--kind", node.kind, "--name", node.title, "--listen", &address];
            words.extend(node.country.into_iter().flat_map(|country| ["--country", country]));
            if index == 0 {
                words.extend(["--found", "Demo federation"]);
            } else {
                words.extend(["--federation", &federation]);
            }
            let answer = huecry(&node.data, &words)?;
            if index == 0 {
                federation = answer.pointer("/federation").and_then(Value::as_str).unwrap_or_default().to_owned();
            }
        }
        let requests: Vec<String> = self.nodes.iter().skip(1).map(|node| node.data.join("request.huecry").display().to_string()).collect();
        let words: Vec<&str> = ["admit", "--records-a-day", RECORDS_A_DAY].into_iter().chain(requests.iter().map(String::as_str)).collect();
        huecry(&hub, &words)?;
        let invitation = hub.join("invitation.huecry").display().to_string();
        for node in self.nodes.iter().skip(1) {
            huecry(&node.data, &["join", &invitation])?;
        }
        // One country has a list of its own of what is often reported by mistake.
        if let Some(node) = self.nodes.get(2) {
            self.add_lists(&node.data).map_err(Failure::environment)?;
        }
        self.say(&format!(
            "`{}` founded federation {}… and admitted five members, two of them under agreements",
            MEMBERS[0].0,
            federation.get(..8).unwrap_or_default()
        ));
        Ok(())
    }

    fn add_lists(&self, data: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(data.join("lists"))?;
        std::fs::write(data.join("lists/often-reported.txt"), format!("# popular, and often reported by mistake\n{WARNED}\n"))?;
        let mut text = std::fs::read_to_string(data.join("node.toml"))?;
        text.push_str("\n[[lists]]\nname = \"often-reported\"\nfile = \"lists/often-reported.txt\"\nrole = \"warns\"\n");
        if let Some(top) = corpus().map(|corpus| corpus.join("warninglists/cisco_top1000.json")).filter(|path| path.is_file()) {
            std::fs::copy(top, data.join("lists/cisco_top1000.json"))?;
            text.push_str("\n[[lists]]\nname = \"cisco-top1000\"\nfile = \"lists/cisco_top1000.json\"\nrole = \"warns\"\n");
        }
        std::fs::write(data.join("node.toml"), text)
    }

    fn start(&mut self, index: usize) -> Result<(), Failure> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(node.data.join("log"));
        let log = log.map_err(|error| Failure::environment(format!("{}: {error}", node.data.display())))?;
        let program = std::env::current_exe().map_err(Failure::environment)?;
        let child = Command::new(program)
            .args(["--data".as_ref(), node.data.as_os_str(), "run".as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        node.child = Some(child.map_err(Failure::environment)?);
        Ok(())
    }

    fn client(&self, index: usize) -> Client {
        Client::to_socket(&self.nodes.get(index).map(|node| node.data.clone()).unwrap_or_default())
    }

    fn name(&self, index: usize) -> &'static str {
        self.nodes.get(index).map_or("", |node| node.member)
    }

    async fn status(&self, index: usize) -> Result<Value, Failure> {
        self.client(index).get("/v1/status", &json!({})).await
    }

    /// Waits until the node answers and has `peers` streams.
    async fn ready(&mut self, index: usize, peers: usize) -> Result<(), Failure> {
        let socket = self.nodes.get(index).map(|node| node.data.join(SOCKET)).unwrap_or_default();
        let what = format!("`{}` to start and connect to {peers} nodes", self.name(index));
        let begun = Instant::now();
        loop {
            if let Some(child) = self.nodes.get_mut(index).and_then(|node| node.child.as_mut())
                && let Ok(Some(status)) = child.try_wait()
            {
                return Err(Failure::environment(format!("`{}` stopped by itself ({status}); see its log", self.name(index))));
            }
            if socket.exists()
                && let Ok(status) = self.status(index).await
                && status.pointer("/network/peers").and_then(Value::as_array).map_or(0, Vec::len) >= peers
            {
                return Ok(());
            }
            overdue(begun, &what)?;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn send_list(&self, index: usize, name: &str, bytes: Vec<u8>, layout: &str) -> Result<PublishReply, Failure> {
        let parameters = PublishParameters {
            channel: INDICATORS.to_owned(),
            tlp: Some("green".to_owned()),
            title: name.to_owned(),
            format: Some(layout.to_owned()),
            confidence: Some(80),
            valid_days: Some(90),
            role: Some("attacker".to_owned()),
            usage: Some("block".to_owned()),
            ..PublishParameters::default()
        };
        self.client(index).stream("/v1/publish", &parameters, Body::from(bytes)).await
    }

    async fn publish_lists(&mut self, from: Option<&Path>) -> Result<(), Failure> {
        let lists = lists(from)?;
        for (index, path, layout, bytes) in lists {
            let reply = self.send_list(index, &path, bytes, layout).await?;
            self.summary.records_published += reply.records;
            self.say(&format!("{:<11} published {:>7} indicators from {path}", self.name(index), grouped(reply.records)));
        }
        let both = format!("{SHARED}\n{WARNED}\n{PRIVATE}\n");
        let first = self.send_list(3, "seen by vendor one", both.into_bytes(), "plain").await?;
        let second = self.send_list(4, "seen by vendor two", format!("{SHARED}\n").into_bytes(), "plain").await?;
        self.summary.records_published += first.records + second.records;
        let begun = Instant::now();
        let nodes: Vec<usize> = (0..LATE).collect();
        self.everywhere(&nodes).await?;
        self.summary.records_delivered_everywhere = true;
        self.say(&format!(
            "all {} records are on all {LATE} nodes, by the same signed heads, {:.0} ms after the last was published",
            grouped(self.summary.records_published),
            begun.elapsed().as_secs_f64() * 1000.0
        ));
        Ok(())
    }

    /// Waits until every one of `nodes` has judged the same heads of every feed, and nothing is missing in any.
    async fn everywhere(&self, nodes: &[usize]) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut expected: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for index in nodes {
            // What each says of its own feeds is what the others must come to.
            let own = format!("{}/", self.name(*index));
            expected.extend(feeds(&self.status(*index).await?).into_iter().filter(|(feed, _)| feed.starts_with(&own)));
        }
        for index in nodes {
            loop {
                let found = feeds(&self.status(*index).await?);
                if expected.iter().all(|(feed, state)| found.get(feed) == Some(state)) {
                    break;
                }
                overdue(begun, &format!("`{}` to hold all that was published", self.name(*index)))?;
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// One value, from the publisher's word that it is durable to the answers of all other nodes.
    async fn announce(&mut self) -> Result<(), Failure> {
        let value = "fresh.demo.example";
        self.send_list(1, "one fresh lead", format!("{value}\n").into_bytes(), "plain").await?;
        self.summary.records_published += 1;
        let begun = Instant::now();
        for index in (0..LATE).filter(|index| *index != 1) {
            self.await_answer(index, value, |origins| origins == ["xa-police"]).await?;
        }
        self.summary.announce_to_all_ms = ms(begun);
        self.say(&format!("xa-police published {value}: every node answers with it after {} ms", self.summary.announce_to_all_ms));
        Ok(())
    }

    async fn origins(&self, index: usize, value: &str) -> Result<Vec<String>, Failure> {
        let parameters = QueryParameters { value: Some(value.to_owned()), ..QueryParameters::default() };
        let answer: Value = self.client(index).get("/v1/query", &parameters).await?;
        let origins = answer.pointer("/values/0/origins").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(origins.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    async fn await_answer(&self, index: usize, value: &str, right: impl Fn(&[String]) -> bool) -> Result<(), Failure> {
        let begun = Instant::now();
        while !right(&self.origins(index, value).await?) {
            overdue(begun, &format!("`{}` to answer rightly about {value}", self.name(index)))?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until the node explains a value so: what is durable is findable within a second, not at once.
    async fn explain(&self, index: usize, value: &str, verdict: &str, policy: &str) -> Result<String, Failure> {
        let begun = Instant::now();
        loop {
            let stories: Value = self.client(index).get("/v1/explain", &json!({ "what": value })).await?;
            let text = |path: &str| stories.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let (standing, by) = (text("/records/0/standing"), text("/records/0/policies/0"));
            if standing == verdict && by == policy {
                return Ok(text("/records/0/reason").to_owned());
            }
            let what = format!("`{}` to explain {value} as {verdict} by `{policy}`; it says `{standing}` by `{by}`", self.name(index));
            overdue(begun, &what)?;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn verdicts(&mut self) -> Result<(), Failure> {
        let held = self.explain(2, WARNED, "held", "on-a-warning-list").await?;
        self.say(&format!("on xb-police {WARNED} is {held}"));
        for index in 0..LATE {
            self.explain(index, PRIVATE, "refused", "private-or-reserved").await?;
        }
        let refused = self.explain(1, PRIVATE, "refused", "private-or-reserved").await?;
        self.say(&format!("on every node {PRIVATE} is {refused}"));
        for index in 0..LATE {
            let status = self.status(index).await?;
            self.summary.held += status.pointer("/counts/held").and_then(Value::as_u64).unwrap_or_default();
            self.summary.rejected += status.pointer("/counts/refused").and_then(Value::as_u64).unwrap_or_default();
        }
        Ok(())
    }

    async fn two_origins(&self) -> Result<(), Failure> {
        for index in 0..LATE {
            self.await_answer(index, SHARED, |origins| origins == ["vendor-one", "vendor-two"]).await?;
        }
        self.say(&format!("{SHARED} is asserted by vendor-one and vendor-two, on every node"));
        Ok(())
    }

    async fn late_joiner(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        self.start(LATE)?;
        self.ready(LATE, 1).await?;
        self.everywhere(&(0..=LATE).collect::<Vec<_>>()).await?;
        self.await_answer(LATE, SHARED, |origins| origins.len() == 2).await?;
        self.summary.late_join_ms = ms(begun);
        self.say(&format!(
            "xc-police joined late and has caught up with everything after {} ms, from its start",
            self.summary.late_join_ms
        ));
        Ok(())
    }

    async fn killed_and_restarted(&mut self) -> Result<(), Failure> {
        let before = feeds(&self.status(2).await?);
        let Some(mut child) = self.nodes.get_mut(2).and_then(|node| node.child.take()) else { return Ok(()) };
        // SIGKILL: no handler, no flush.
        child.kill().and_then(|()| child.wait()).map_err(Failure::environment)?;
        self.send_list(3, "while xb-police was down", b"later.demo.example\n".to_vec(), "plain").await?;
        self.summary.records_published += 1;
        self.start(2)?;
        self.ready(2, 0).await?;
        let after = feeds(&self.status(2).await?);
        let lost =
            |(feed, (_, records)): (&String, &(String, u64))| records.saturating_sub(after.get(feed).map_or(0, |(_, records)| *records));
        self.summary.restart_lost = before.iter().map(lost).sum();
        if self.summary.restart_lost > 0 {
            return Err(Failure::environment(format!("{} records were lost by kill -9", self.summary.restart_lost)));
        }
        self.await_answer(2, "later.demo.example", |origins| origins == ["vendor-one"]).await?;
        self.say("xb-police was stopped with kill -9 and started again: nothing lost, and what it missed has come");
        self.ready(2, 1).await
    }

    async fn take_back(&mut self) -> Result<(), Failure> {
        let parameters = WithdrawParameters {
            what: vec![SHARED.to_owned()],
            alone: false,
            reason: "wrong".to_owned(),
            note: Some("our sandbox misread it".to_owned()),
        };
        let reply: WithdrawReply = self.client(3).post("/v1/withdraw", &parameters).await?;
        let begun = Instant::now();
        for index in 0..=LATE {
            self.await_answer(index, SHARED, |origins| origins == ["vendor-two"]).await?;
        }
        self.summary.withdrawal_to_all_ms = ms(begun);
        let reference = reply.withdrawn.first().cloned().unwrap_or_default();
        self.say(&format!(
            "vendor-one took {SHARED} back ({reference}): gone on all six nodes after {} ms; vendor-two still asserts it",
            self.summary.withdrawal_to_all_ms
        ));
        Ok(())
    }

    fn farewell(&self) {
        let screen = &self.context.screen;
        let Summary { records_published, held, rejected, wall_s, .. } = &self.summary;
        screen.line("");
        screen.line(&format!(
            "Six organisations shared {} indicators in {wall_s:.1} s, and every step above was checked by asking the nodes.",
            grouped(*records_published)
        ));
        screen.line(&format!(
            "Each decided by its own policy: {} records were held for a person, {} refused, counted over the nodes.",
            grouped(*held),
            grouped(*rejected)
        ));
        screen.line("");
        if self.keep {
            screen.line("The nodes are still running. Try:");
            let data = |index: usize| self.nodes.get(index).map(|node| node.data.display().to_string()).unwrap_or_default();
            screen.line(&format!("  huecry --data {} query {SHARED} --all", data(1)));
            screen.line(&format!("  huecry --data {} explain {WARNED}", data(2)));
            screen.line(&format!("  huecry --data {} publish --value evil.demo.example", data(3)));
            screen.line(&format!("  huecry --data {} status", data(0)));
            let pids: Vec<String> = self.nodes.iter().filter_map(|node| node.child.as_ref()).map(|child| child.id().to_string()).collect();
            screen.line(&format!("Stop them with: kill {}", pids.join(" ")));
        } else {
            screen.line("Next: run it with --keep and talk to the nodes, with --from FILE on a list of your own, or");
            screen.line("make a node of your own: huecry init --member my-team --found \"My federation\"");
        }
    }

    fn show_logs(&self) {
        for node in &self.nodes {
            let log = std::fs::read_to_string(node.data.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            for line in tail.into_iter().rev() {
                self.context.screen.note(&format!("{}: {line}", node.member));
            }
        }
    }
}

fn ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn overdue(begun: Instant, what: &str) -> Result<(), Failure> {
    if begun.elapsed() < STEP_MAX {
        return Ok(());
    }
    Err(Failure::environment(format!("waited {} s for {what}", STEP_MAX.as_secs())))
}

/// Id of the last head and number of records of each feed, from a status.
fn feeds(status: &Value) -> BTreeMap<String, (String, u64)> {
    let number = |feed: &Value, name: &str| feed.get(name).and_then(Value::as_u64).unwrap_or_default();
    let line = |feed: &Value| {
        let name = feed.get("feed").and_then(Value::as_str)?.to_owned();
        let head = feed.get("head").and_then(Value::as_str)?.to_owned();
        let records = ["accepted", "held", "refused"].iter().map(|count| number(feed, count)).sum();
        Some((name, (head, records)))
    };
    status.pointer("/feeds").and_then(Value::as_array).into_iter().flatten().filter_map(line).collect()
}

/// Runs this same program as a person would, and reads its JSON answer.
fn huecry(data: &Path, words: &[&str]) -> Result<Value, Failure> {
    let program = std::env::current_exe().map_err(Failure::environment)?;
    let output = Command::new(program).arg("--data").arg(data).arg("--json").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(Failure::environment)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::environment(format!("`huecry {}`: {}", words.join(" "), said.trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(Failure::environment)
}

fn free_port() -> Result<u16, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Failure::environment)?;
    listener.local_addr().map(|address| address.port()).map_err(Failure::environment)
}

/// The corpus of real indicators, when it lies beside the project.
fn corpus() -> Option<PathBuf> {
    let given = std::env::var_os("HUECRY_CORPUS").map(PathBuf::from);
    given.into_iter().chain([PathBuf::from("../shared/corpus"), PathBuf::from("shared/corpus")]).find(|path| path.join("iocs").is_dir())
}

type List = (usize, String, &'static str, Vec<u8>);

/// What is published: who, the file's name, its layout, its bytes.
fn lists(from: Option<&Path>) -> Result<Vec<List>, Failure> {
    let read = |path: &Path| {
        let file = std::fs::File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let mut bytes = Vec::new();
        let unpacked = path.extension().is_some_and(|ending| ending == "gz");
        let done = if unpacked { flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes) } else { (&file).read_to_end(&mut bytes) };
        done.map(|_| bytes).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))
    };
    let layout = |path: &Path| match crate::exchange::Layout::of_name(&path.to_string_lossy()) {
        crate::exchange::Layout::Plain => "plain",
        crate::exchange::Layout::Csv => "csv",
        crate::exchange::Layout::Prose => "text",
    };
    if let Some(path) = from {
        return Ok(vec![(3, path.display().to_string(), layout(path), read(path)?)]);
    }
    let Some(corpus) = corpus() else {
        let sample = include_bytes!("../../node-config/sample/indicators.txt");
        let (one, two) =
            sample.split_at(sample.iter().skip(sample.len() / 2).position(|byte| *byte == b'\n').map_or(0, |at| sample.len() / 2 + at + 1));
        return Ok(vec![
            (3, "the bundled sample (reserved names)".to_owned(), "plain", one.to_vec()),
            (4, "the bundled sample (reserved names)".to_owned(), "plain", two.to_vec()),
        ]);
    };
    // A large plain list, a table, a defanged report and a country's own short list.
    let files = [
        (3, "iocs/blackbook/blackbook.csv.gz"),
        (4, "iocs/stalkerware/network.csv"),
        (4, "iocs/maltrail/malware/agenttesla.txt"),
        (1, "iocs/amnesty/2021-12-16_cytrox/domains.txt"),
        (2, "iocs/eset/numando/README.adoc"),
    ];
    let mut lists = Vec::new();
    for (index, name) in files {
        let path = corpus.join(name);
        let packed = PathBuf::from(format!("{}.gz", path.display()));
        if let Some(path) = [path, packed].into_iter().find(|path| path.is_file()) {
            lists.push((index, name.to_owned(), layout(&path), read(&path)?));
        }
    }
    Ok(lists)
}
