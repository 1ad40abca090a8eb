//! `huecry torture`: a node is killed at random points of its work, again and again; what it had acknowledged has to be there.
//!
//! ```text
//! start -> publish, withdraw, back up, ... -SIGKILL-> (state or index removed) -> start -> is every acknowledged thing as it was said?
//! ```
//!
//! What was acknowledged is remembered here, outside of the node. What was asked for and not acknowledged may be there or not; once seen
//! it has to stay so. In between the whole ledger is verified: state and index have to be what an uninterrupted replay of the journal makes.

use super::{Context, Failure, client::Client, print::grouped, runtime};
use crate::{
    http::{
        BackupParameters, MATCH_VALUES_MAX, MatchParameters, MatchReply, PublishParameters, PublishReply, SeenValue, WithdrawParameters,
    },
    ledger::{BackedUp, Verified},
    node::membership::INDICATORS,
    sim::Dice,
};
use axum::body::Body;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Segments are closed at this length, so that every run crosses many ends of segments.
const SEGMENT_BYTES: u64 = 64 * 1024;
/// A node answers within this, whatever it has to replay.
const START: Duration = Duration::from_secs(60);
/// The longest that a node lives, in milliseconds.
const LIFE_MS: u64 = 400;
/// From so many values on, lists are short: all of them are asked about again and again, and a long run is to be one of many kills.
const VALUES_LARGE: usize = 50_000;
/// The whole ledger is verified every so many cycles, and at the end.
const VERIFY_EVERY: u64 = 50;

/// Kill a node at random points of its work, and see that nothing acknowledged is lost.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often.
    #[arg(long, default_value_t = 100)]
    cycles: u64,
    /// Makes the moments and the work.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave everything in this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What the outside knows of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Acknowledged, or seen.
    Published,
    /// Asked for, and the node was killed before it answered.
    MaybePublished,
    Withdrawn,
    MaybeWithdrawn,
}

/// The last line of `--json`.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Tally {
    cycles: u64,
    acknowledged: u64,
    withdrawn: u64,
    lost: u64,
    risen: u64,
    verified: u64,
    killed_starting: u64,
    rebuilt: u64,
    slowest_start_ms: u64,
}

struct Torture {
    data: PathBuf,
    backup: PathBuf,
    dice: Dice,
    values: Vec<Said>,
    tally: Tally,
}

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ended_before = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn value(number: usize) -> String {
    format!("t{number}.torture.example")
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let temporary = tempfile::tempdir().map_err(Failure::environment)?;
    let place = arguments.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mut torture = Torture {
        data: place.join("node"),
        backup: place.join("backup"),
        dice: Dice::new(arguments.seed),
        values: Vec::new(),
        tally: Tally::default(),
    };
    torture.found()?;
    let bar = context.screen.bar(arguments.cycles, "kill and restart");
    let runtime = runtime()?;
    for cycle in 1..=arguments.cycles {
        let last = cycle == arguments.cycles;
        runtime
            .block_on(torture.cycle(last || cycle % VERIFY_EVERY == 0))
            .map_err(|failure| Failure { text: format!("cycle {cycle} of seed {}: {}", arguments.seed, failure.text), ..failure })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let tally = &torture.tally;
    context.screen.value(tally);
    let [acknowledged, withdrawn] = [tally.acknowledged, tally.withdrawn].map(grouped);
    context.screen.line(&format!(
        "{} cycles, {} of them killed while starting, {} begun without state or index: {acknowledged} records acknowledged, {} lost; {withdrawn} \
         withdrawn, {} risen again; the whole ledger verified {} times; slowest start {} ms",
        tally.cycles, tally.killed_starting, tally.rebuilt, tally.lost, tally.risen, tally.verified, tally.slowest_start_ms
    ));
    Ok(())
}

impl Torture {
    fn huecry(&self, words: &[&str]) -> Result<Command, Failure> {
        let mut command = Command::new(std::env::current_exe().map_err(Failure::environment)?);
        command.arg("--data").arg(&self.data).args(words).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    fn found(&self) -> Result<(), Failure> {
        let words = ["init", "--member", "xx-torture", "--found", "torture", "--listen", "/ip4/127.0.0.1/tcp/0"];
        let made = self.huecry(&words)?.output().map_err(Failure::environment)?;
        if !made.status.success() {
            return Err(Failure::environment(String::from_utf8_lossy(&made.stderr)));
        }
        let path = self.data.join("ledger/journal/manifest");
        let text = std::fs::read_to_string(&path).map_err(Failure::environment)?;
        std::fs::write(&path, format!("segment_bytes = {SEGMENT_BYTES}\n{text}")).map_err(Failure::environment)
    }

    fn start(&self) -> Result<Node, Failure> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.data.join("log")).map_err(Failure::environment)?;
        Ok(Node(self.huecry(&["run"])?.stderr(log).spawn().map_err(Failure::environment)?))
    }

    /// One life of the node.
    async fn cycle(&mut self, verify: bool) -> Result<(), Failure> {
        self.tally.cycles += 1;
        if self.dice.percent(10) {
            self.tally.rebuilt += 1;
            let derived: &[&str] =
                [&["state"][..], &["index"], &["state", "index"]].get(self.dice.below(3) as usize).copied().unwrap_or(&[]);
            for name in derived {
                let _not_there = std::fs::remove_dir_all(self.data.join("ledger").join(name));
            }
        }
        let begun = Instant::now();
        let mut node = self.start()?;
        if !verify && self.dice.percent(20) {
            // While it opens, replays, rebuilds.
            self.tally.killed_starting += 1;
            tokio::time::sleep(Duration::from_millis(self.dice.below(150))).await;
            return Ok(());
        }
        let client = Client::to_socket(&self.data);
        while client.get::<Value>("/v1/status", &json!({})).await.is_err() {
            if let Ok(Some(status)) = node.0.try_wait() {
                return Err(Failure::environment(format!("the node did not start: {status}; see {}", self.data.join("log").display())));
            }
            if begun.elapsed() > START {
                return Err(Failure::environment("the node did not answer within a minute"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.tally.slowest_start_ms = self.tally.slowest_start_ms.max(begun.elapsed().as_millis() as u64);
        self.compare(&client, verify).await?;
        if verify {
            self.verify(&client).await?;
        }
        let life = Duration::from_millis(self.dice.below(LIFE_MS));
        let _killed_in_the_middle = tokio::time::timeout(life, self.work(&client)).await;
        drop(node);
        Ok(())
    }

    /// Publishes and takes back until it is cut off.
    async fn work(&mut self, client: &Client) {
        loop {
            let outcome = match self.dice.below(10) {
                0..=5 => self.publish(client).await,
                6..=8 => self.withdraw(client).await,
                _ => {
                    let parameters = BackupParameters { to: self.backup.clone() };
                    client.post::<BackedUp>("/v1/ledger/backup", &parameters).await.map(drop)
                }
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    async fn publish(&mut self, client: &Client) -> Result<(), Failure> {
        let most = if self.values.len() < VALUES_LARGE { 600 } else { 20 };
        let count = 1 + self.dice.below(most) as usize;
        let from = self.values.len();
        let list: String = (from..from + count).map(|number| value(number) + "\n").collect();
        self.values.resize(from + count, Said::MaybePublished);
        let parameters = PublishParameters {
            channel: INDICATORS.to_owned(),
            tlp: "green".to_owned(),
            title: format!("list {from}"),
            layout: Some("plain".to_owned()),
            valid_days: Some(90),
            alone: true,
            ..PublishParameters::default()
        };
        let _: PublishReply = client.stream("/v1/publish", &parameters, Body::from(list)).await?;
        self.values.iter_mut().skip(from).for_each(|said| *said = Said::Published);
        self.tally.acknowledged += count as u64;
        Ok(())
    }

    async fn withdraw(&mut self, client: &Client) -> Result<(), Failure> {
        let from = self.dice.below(self.values.len() as u64 + 1) as usize;
        let chosen: Vec<usize> = self
            .values
            .iter()
            .enumerate()
            .skip(from)
            .filter(|(_, said)| **said == Said::Published)
            .map(|(number, _)| number)
            .take(8)
            .collect();
        if chosen.is_empty() {
            return Ok(());
        }
        self.mark(&chosen, Said::MaybeWithdrawn);
        let what = chosen.iter().map(|number| value(*number)).collect();
        let parameters = WithdrawParameters { what, reason: "wrong".to_owned(), note: None, alone: true };
        let _: Value = client.post("/v1/withdraw", &parameters).await?;
        self.mark(&chosen, Said::Withdrawn);
        self.tally.withdrawn += chosen.len() as u64;
        Ok(())
    }

    fn mark(&mut self, numbers: &[usize], as_said: Said) {
        for number in numbers {
            if let Some(said) = self.values.get_mut(*number) {
                *said = as_said;
            }
        }
    }

    /// Asks about the newest values, or about all, and compares with what is known outside.
    async fn compare(&mut self, client: &Client, all: bool) -> Result<(), Failure> {
        let first = if all { 0 } else { self.values.len().saturating_sub(2 * MATCH_VALUES_MAX) };
        let numbers: Vec<usize> = (first..self.values.len()).collect();
        for chunk in numbers.chunks(MATCH_VALUES_MAX) {
            let seen = |number: &usize| SeenValue { kind: "domain".to_owned(), value: value(*number) };
            let parameters = MatchParameters { values: chunk.iter().map(seen).collect(), since: 0 };
            let reply: MatchReply = client.post("/v1/match", &parameters).await?;
            for (number, hit) in chunk.iter().zip(&reply.hits) {
                let Some(said) = self.values.get_mut(*number) else { continue };
                *said = match (*said, hit.is_some()) {
                    (Said::Published, true) | (Said::MaybePublished | Said::MaybeWithdrawn, true) => Said::Published,
                    (Said::Withdrawn | Said::MaybeWithdrawn, false) => Said::Withdrawn,
                    // Never there: it may not rise later either.
                    (Said::MaybePublished, false) => Said::Withdrawn,
                    (Said::Published, false) => {
                        self.tally.lost += 1;
                        return Err(Failure::environment(format!("{} was acknowledged and is lost", value(*number))));
                    }
                    (Said::Withdrawn, true) => {
                        self.tally.risen += 1;
                        return Err(Failure::environment(format!("{} was withdrawn, or never there, and is there", value(*number))));
                    }
                };
            }
        }
        Ok(())
    }

    async fn verify(&mut self, client: &Client) -> Result<(), Failure> {
        let found: Verified = client.watch("/v1/ledger/verify", &json!({}), |_, _| ()).await?;
        if !found.is_whole() {
            return Err(Failure::environment(found.damage.join("; ")));
        }
        self.tally.verified += 1;
        Ok(())
    }
}
