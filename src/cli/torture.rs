//! `huecry torture`: a node is killed at random points of its work, again and again; what it had acknowledged has to be there.
//!
//! ```text
//! start -> publish, import, withdraw, erase, back up, rotate keys -SIGKILL-> (state or index removed) -> start -> is all as it was said?
//! ```
//!
//! What was acknowledged is remembered here, outside of the node. What was asked for and not acknowledged may be there or not; once seen
//! it has to stay so. In between the whole ledger is verified: state and index have to be what an uninterrupted replay of the journal makes,
//! and no file of the journal or of its backup holds what was erased.

use super::{Context, Failure, client::Client, print::grouped, runtime};
use crate::{
    http::{
        BackupParameters, EraseParameters, ImportReply, MATCH_VALUES_MAX, MatchParameters, MatchReply, PublishParameters, PublishReply,
        SeenValue, WithdrawParameters,
    },
    ledger::{BackedUp, Verified},
    node::{membership::INDICATORS, upkeep::Outcome},
    sim::Dice,
};
use axum::body::Body;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
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

/// Lists of another member that are taken in, one after the other.
const LISTS_MAX: u64 = 40;
/// Values of each.
const LIST_VALUES: usize = 300;
/// Keys that are rotated in one run: all of them stay on the member's card.
const ROTATIONS_MAX: u64 = 12;

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
    /// Gone, out of every file.
    Erased,
    /// Asked for: it may still count, or be dead with its bytes in the files.
    MaybeErased,
}

/// The last line of `--json`.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Tally {
    cycles: u64,
    acknowledged: u64,
    imported: u64,
    withdrawn: u64,
    erased: u64,
    rotated: u64,
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
    vendor: PathBuf,
    dice: Dice,
    values: Vec<Said>,
    /// Lists of the vendor's that there are, and how many of them were taken in.
    lists: u64,
    taken: u64,
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

fn listed(list: u64, number: usize) -> String {
    format!("v{list}-{number}.torture.example")
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let temporary = tempfile::tempdir().map_err(Failure::environment)?;
    let place = arguments.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mut torture = Torture {
        data: place.join("node"),
        backup: place.join("backup"),
        vendor: place.join("vendor"),
        lists: (arguments.cycles / 5).clamp(1, LISTS_MAX),
        taken: 0,
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
    let [acknowledged, imported, withdrawn, erased] = [tally.acknowledged, tally.imported, tally.withdrawn, tally.erased].map(grouped);
    context.screen.line(&format!(
        "{} cycles, {} of them killed while starting, {} begun without state or index: {acknowledged} records acknowledged and {imported} taken in, {} lost; \
         {withdrawn} withdrawn, {erased} erased, {} risen again; {} keys rotated; the whole ledger verified {} times; slowest start {} ms",
        tally.cycles, tally.killed_starting, tally.rebuilt, tally.lost, tally.risen, tally.rotated, tally.verified, tally.slowest_start_ms
    ));
    Ok(())
}

impl Torture {
    fn huecry(&self, data: &Path, words: &[&str]) -> Result<Command, Failure> {
        let mut command = Command::new(std::env::current_exe().map_err(Failure::environment)?);
        command.arg("--data").arg(data).args(words).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    /// Runs a command that has to succeed.
    fn done(&self, data: &Path, words: &[&str]) -> Result<(), Failure> {
        let made = self.huecry(data, words)?.output().map_err(Failure::environment)?;
        match made.status.success() {
            true => Ok(()),
            false => Err(Failure::environment(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&made.stderr)))),
        }
    }

    fn bundle(&self, list: u64) -> PathBuf {
        self.vendor.join(format!("{list}.bundle"))
    }

    /// A federation of two: the node that is tortured, and a vendor whose lists come in bundles.
    fn found(&self) -> Result<(), Failure> {
        let (data, vendor) = (self.data.as_path(), self.vendor.as_path());
        let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
        self.done(data, &[&["init", "--member", "xx-torture", "--found", "torture"][..], &listen].concat())?;
        let status = self.huecry(data, &["--json", "status"])?.stdout(Stdio::piped()).output().map_err(Failure::environment)?;
        let status: Value = serde_json::from_slice(&status.stdout).map_err(Failure::environment)?;
        let federation = status.get("federation").and_then(Value::as_str).unwrap_or_default();
        self.done(vendor, &[&["init", "--member", "some-vendor", "--kind", "vendor", "--federation", federation][..], &listen].concat())?;
        let (request, invitation) = (vendor.join("request.huecry"), data.join("invitation.huecry"));
        self.done(data, &["admit", &request.display().to_string()])?;
        self.done(vendor, &["join", &invitation.display().to_string()])?;
        for list in 0..self.lists {
            let path = vendor.join("list.txt");
            let values: String = (0..LIST_VALUES).map(|number| listed(list, number) + "\n").collect();
            std::fs::write(&path, values).map_err(Failure::environment)?;
            let (path, bundle) = (path.display().to_string(), self.bundle(list).display().to_string());
            self.done(vendor, &["publish", &path, "--alone", "--title", "list", "--format", "list", "--valid-days", "90"])?;
            self.done(vendor, &["bundle", "export", &bundle, "--to", "xx-torture"])?;
        }
        let path = data.join("ledger/journal/manifest");
        let text = std::fs::read_to_string(&path).map_err(Failure::environment)?;
        // Without its checksum, which is one over what it said before.
        let text: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, format!("segment_bytes = {SEGMENT_BYTES}\n{text}")).map_err(Failure::environment)
    }

    fn start(&self) -> Result<Node, Failure> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.data.join("log")).map_err(Failure::environment)?;
        Ok(Node(self.huecry(&self.data, &["run"])?.stderr(log).spawn().map_err(Failure::environment)?))
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
            let outcome = match self.dice.below(20) {
                0..=8 => self.publish(client).await,
                9..=12 => self.withdraw(client).await,
                13..=15 => self.erase(client).await,
                16 | 17 => self.import(client).await,
                18 => self.rotate().await,
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
            tlp: Some("green".to_owned()),
            title: format!("list {from}"),
            format: Some("list".to_owned()),
            valid_days: Some(90),
            alone: true,
            ..PublishParameters::default()
        };
        let _: PublishReply = client.stream("/v1/publish", &parameters, Body::from(list)).await?;
        self.values.iter_mut().skip(from).for_each(|said| *said = Said::Published);
        self.tally.acknowledged += count as u64;
        Ok(())
    }

    /// Some values that count, from a random one on.
    fn some(&mut self, most: usize) -> Vec<usize> {
        let from = self.dice.below(self.values.len() as u64 + 1) as usize;
        let counting = self.values.iter().enumerate().skip(from).filter(|(_, said)| **said == Said::Published);
        counting.map(|(number, _)| number).take(most).collect()
    }

    /// Takes in the vendor's next list; the bundle holds those before it too.
    async fn import(&mut self, client: &Client) -> Result<(), Failure> {
        if self.taken >= self.lists {
            return Ok(());
        }
        let bytes = tokio::fs::read(self.bundle(self.taken)).await.map_err(Failure::environment)?;
        let _: ImportReply = client.stream("/v1/bundle", &json!({}), Body::from(bytes)).await?;
        self.taken += 1;
        self.tally.imported += LIST_VALUES as u64;
        Ok(())
    }

    /// Gives the node another publishing key.
    async fn rotate(&mut self) -> Result<(), Failure> {
        if self.tally.rotated >= ROTATIONS_MAX {
            return Ok(());
        }
        let mut command = tokio::process::Command::from(self.huecry(&self.data, &["card", "rotate", "publishing"])?);
        let ended = command.stderr(Stdio::null()).kill_on_drop(true).status().await.map_err(Failure::environment)?;
        self.tally.rotated += u64::from(ended.success());
        Ok(())
    }

    async fn erase(&mut self, client: &Client) -> Result<(), Failure> {
        let chosen = self.some(4);
        if chosen.is_empty() {
            return Ok(());
        }
        self.mark(&chosen, Said::MaybeErased);
        let parameters = EraseParameters { what: chosen.iter().map(|number| value(*number)).collect(), order: "torture".to_owned() };
        let outcome: Outcome = client.post("/v1/erase", &parameters).await?;
        if let Some(why) = outcome.backups.iter().find_map(|backup| backup.stale.as_ref()) {
            return Err(Failure::environment(format!("the backup still holds what was erased: {why}")));
        }
        self.mark(&chosen, Said::Erased);
        self.tally.erased += chosen.len() as u64;
        Ok(())
    }

    async fn withdraw(&mut self, client: &Client) -> Result<(), Failure> {
        let chosen = self.some(8);
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
        let lists = if all { 0..self.taken } else { self.taken.saturating_sub(1)..self.taken };
        for list in lists {
            let seen = |number| SeenValue { kind: "domain".to_owned(), value: listed(list, number) };
            let parameters = MatchParameters { values: (0..LIST_VALUES).map(seen).collect(), since: None };
            let reply: MatchReply = client.post("/v1/match", &parameters).await?;
            if let Some(number) = reply.hits.iter().position(Option::is_none) {
                self.tally.lost += 1;
                return Err(Failure::environment(format!("{} was taken in and is lost", listed(list, number))));
            }
        }
        let numbers: Vec<usize> = (first..self.values.len()).collect();
        for chunk in numbers.chunks(MATCH_VALUES_MAX) {
            let seen = |number: &usize| SeenValue { kind: "domain".to_owned(), value: value(*number) };
            let parameters = MatchParameters { values: chunk.iter().map(seen).collect(), since: None };
            let reply: MatchReply = client.post("/v1/match", &parameters).await?;
            for (number, hit) in chunk.iter().zip(&reply.hits) {
                let Some(said) = self.values.get_mut(*number) else { continue };
                *said = match (*said, hit.is_some()) {
                    (Said::Published | Said::MaybePublished | Said::MaybeWithdrawn | Said::MaybeErased, true) => Said::Published,
                    (Said::Withdrawn | Said::MaybeWithdrawn | Said::MaybeErased, false) => Said::Withdrawn,
                    (Said::Erased, false) => Said::Erased,
                    // Never there: it may not rise later either.
                    (Said::MaybePublished, false) => Said::Withdrawn,
                    (Said::Published, false) => {
                        self.tally.lost += 1;
                        return Err(Failure::environment(format!("{} was acknowledged and is lost", value(*number))));
                    }
                    (Said::Withdrawn | Said::Erased, true) => {
                        self.tally.risen += 1;
                        return Err(Failure::environment(format!("{} was taken back, or never there, and is there", value(*number))));
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
        for directory in [self.data.join("ledger/journal"), self.backup.clone()] {
            self.look_for_erased(&directory)?;
        }
        Ok(())
    }

    /// No file holds a value that was erased.
    fn look_for_erased(&mut self, directory: &Path) -> Result<(), Failure> {
        const END: &[u8] = b".torture.example";
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let bytes = std::fs::read(entry.path()).map_err(Failure::environment)?;
            for at in memchr::memmem::find_iter(&bytes, END) {
                let before = bytes.get(..at).unwrap_or_default();
                let digits = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
                let (name, digits) = before.split_at(at - digits);
                let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<usize>().ok());
                let erased = number.filter(|number| name.ends_with(b"t") && self.values.get(*number) == Some(&Said::Erased));
                if let Some(number) = erased {
                    self.tally.risen += 1;
                    let text = format!("{} was erased, and {} holds it", value(number), entry.path().display());
                    return Err(Failure::environment(text));
                }
            }
        }
        Ok(())
    }
}
