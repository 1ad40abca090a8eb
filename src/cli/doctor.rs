//! `huecry doctor`: what is wrong with this node, and what to do about it.
//!
//! Looks at files, keys, configuration, charter, card, agreements, clock, disk and network, each by itself, and goes on
//! after a failure: the first thing that is wrong is seldom the only one.

use super::{Context, Failure, client::Client, print::grouped};
use crate::{
    charter::{Freshness, Roster},
    clock::Clock,
    config::Config,
    http::{AgreementReply, ClockReply, RosterReply, SOCKET},
    node::keys::{self, KeyStore, Purpose},
    record::{DAY_MS, MemberId, Timestamp},
};
use serde_json::{Value, json};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

/// How long a connection attempt may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Free disk below which a person should know.
const DISK_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// Days before the end of a charter or key at which a person should know.
const SOON_DAYS: u64 = 30;

/// Say what is wrong with this node, if something is, and what to do about it.
#[derive(clap::Args)]
pub struct Arguments {}

#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Ok,
    Warn,
    Fail,
}

#[derive(serde::Serialize)]
struct Finding {
    mark: Mark,
    about: &'static str,
    text: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, mark: Mark, about: &'static str, text: impl std::fmt::Display) {
        self.0.push(Finding { mark, about, text: text.to_string() });
    }

    fn ok(&mut self, about: &'static str, text: impl std::fmt::Display) {
        self.add(Mark::Ok, about, text);
    }

    fn warn(&mut self, about: &'static str, text: impl std::fmt::Display) {
        self.add(Mark::Warn, about, text);
    }

    fn fail(&mut self, about: &'static str, text: impl std::fmt::Display) {
        self.add(Mark::Fail, about, text);
    }
}

pub(super) fn run(context: &Context, _: Arguments) -> Result<(), Failure> {
    let mut findings = Findings::default();
    let data = context.data.as_path();
    let running = std::os::unix::net::UnixStream::connect(data.join(SOCKET)).is_ok();
    look_at_keys(data, &mut findings);
    look_at_disk(data, &mut findings);
    let config = match Config::read(&data.join("node.toml")) {
        Ok(config) => {
            findings.ok("config", "node.toml reads");
            Some(config)
        }
        Err(error) => {
            findings.fail("config", error);
            None
        }
    };
    match asked(data) {
        Ok((reply, status, agreements, clock)) => {
            look_at_roster(data, &reply, &mut findings);
            look_at_status(&status, running, &mut findings);
            clock.iter().for_each(|clock| look_at_clock(clock, &mut findings));
            look_at_agreements(&reply.member, &agreements, &mut findings);
        }
        Err(failure) => findings.fail("node", failure.text),
    }
    if let Some(config) = &config {
        look_at_network(config, running, &mut findings);
    }
    let screen = &context.screen;
    for finding in &findings.0 {
        let mark = match finding.mark {
            Mark::Ok => "ok  ",
            Mark::Warn => "warn",
            Mark::Fail => "FAIL",
        };
        screen.line(&format!("{mark}  {:<10} {}", finding.about, finding.text));
    }
    screen.value(&findings.0);
    let failed = findings.0.iter().filter(|finding| finding.mark == Mark::Fail).count();
    if failed == 0 { Ok(()) } else { Err(Failure::nothing(format!("{failed} things are wrong"))) }
}

fn asked(data: &Path) -> Result<(RosterReply, Value, Vec<AgreementReply>, Option<ClockReply>), Failure> {
    Client::with(data, async |client| {
        let roster = client.get("/v1/roster", &json!({})).await?;
        let status = client.get("/v1/status", &json!({})).await?;
        let agreements = client.get("/v1/agreements", &json!({})).await?;
        Ok((roster, status, agreements, client.get("/v1/clock", &json!({})).await.ok()))
    })
}

fn look_at_keys(data: &Path, findings: &mut Findings) {
    if !data.join("keys").exists() {
        return findings.fail("keys", format!("{} is no huecry directory; make one with `huecry init`", data.display()));
    }
    let store = match KeyStore::in_data(data) {
        Ok(store) => store,
        Err(error) => return findings.fail("keys", error),
    };
    for purpose in [Purpose::Node, Purpose::Publishing] {
        match keys::public(&store.path(purpose), purpose) {
            Ok(key) => findings.ok("keys", format!("{purpose} key {}", key.id())),
            Err(error) => findings.fail("keys", error),
        }
    }
    for purpose in [Purpose::Root, Purpose::Steward] {
        if store.has(purpose) {
            let path = store.path(purpose);
            findings
                .warn("keys", format!("the {purpose} key lies here; it belongs offline: move {} to where no network is", path.display()));
        }
    }
}

fn look_at_disk(data: &Path, findings: &mut Findings) {
    if let Ok(stat) = nix::sys::statvfs::statvfs(data) {
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        let text = format!("{} MiB free", grouped(free / (1024 * 1024)));
        if free < DISK_BYTES_MIN { findings.warn("disk", text) } else { findings.ok("disk", text) }
    }
}

fn look_at_roster(data: &Path, reply: &RosterReply, findings: &mut Findings) {
    let now = Clock::System.now();
    let (roster, member): (Roster, MemberId) = match (reply.roster(), reply.member.parse()) {
        (Ok(roster), Ok(member)) => (roster, member),
        (Err(error), _) => return findings.fail("charter", error),
        (_, Err(error)) => return findings.fail("charter", error),
    };
    let charter = roster.charter().charter();
    let left = charter.expires.ms_since(now) / DAY_MS;
    let text = format!("version {} of `{}`, {left} days left", charter.version, charter.name);
    match left {
        0 => findings.fail("charter", format!("{text}: the stewards must sign a new version")),
        left if left < SOON_DAYS => findings.warn("charter", format!("{text}: remind the stewards")),
        _ => findings.ok("charter", text),
    }
    if let Some(rival) = roster.rival() {
        findings.fail("charter", format!("a second valid charter of this version exists, {}; the stewards must resolve it", rival.hash()));
    }
    match roster.freshness(now) {
        Freshness::Current => findings.ok("stamp", "the charter is known to be current"),
        Freshness::Stale { since } => findings.fail(
            "stamp",
            format!("nobody has said since {since} that the charter is current, so new content is held: can a coordinator be reached?"),
        ),
    }
    look_at_card(data, &roster, &member, now, findings);
}

fn look_at_card(data: &Path, roster: &Roster, member: &MemberId, now: Timestamp, findings: &mut Findings) {
    let Some(card) = roster.card(member) else {
        return findings.fail("card", format!("no card of {member} is known; make one where its root key is"));
    };
    let store = KeyStore::in_data(data).ok();
    let public = |purpose| store.as_ref().and_then(|store| store.public(purpose).ok());
    match public(Purpose::Node).and_then(|key| card.nodes.iter().find(|one| one.key == key)) {
        Some(node) => findings.ok("card", format!("card {} names this node `{}`", card.serial, node.name)),
        None => findings.fail("card", "the card does not name this node's key; others refuse its connections"),
    }
    let publishing = public(Purpose::Publishing).and_then(|key| card.publishing.iter().find(|one| one.key == key));
    match publishing.map(|one| one.until.map(|until| until.ms_since(now) / DAY_MS)) {
        Some(None) => findings.ok("card", "the publishing key is in force"),
        Some(Some(0)) => findings.fail("card", "the publishing key has ended; `huecry card rotate publishing` makes a new one"),
        Some(Some(days)) if days < SOON_DAYS => findings.warn("card", format!("the publishing key ends in {days} days; rotate it")),
        Some(Some(days)) => findings.ok("card", format!("the publishing key is in force for {days} days")),
        None => findings.warn("card", "the card does not name this node's publishing key; it can receive, not publish"),
    }
}

fn look_at_status(status: &Value, running: bool, findings: &mut Findings) {
    let number = |path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let peers = status.pointer("/network/peers").and_then(Value::as_array).map_or(0, Vec::len);
    let others = number("/members").saturating_sub(1);
    match (running, peers) {
        (false, _) => findings.warn("node", "not running; `huecry run` starts it"),
        (true, 0) if others > 0 => findings.fail("peers", "connected to nobody; see the network lines below"),
        (true, peers) => findings.ok("peers", format!("connected to {peers} nodes, {others} other members")),
    }
    if status.get("lane_waits").is_some_and(|waits| !waits.is_null()) {
        let queued = number("/queued");
        findings
            .warn("publishing", format!("waits for other members to tell this node its own last head; {queued} publications are queued"));
    }
    for (code, count) in status.pointer("/network/refusals").and_then(Value::as_object).into_iter().flatten() {
        findings.warn("refused", format!("{count} times `{code}`"));
    }
}

fn look_at_clock(clock: &ClockReply, findings: &mut Findings) {
    match &clock.doubt {
        Some(doubt) => findings.fail("clock", doubt),
        None => findings.ok("clock", format!("{}, and nothing contradicts it", clock.now)),
    }
    if let Some(why) = &clock.unsettled {
        findings.warn("clock", why);
    }
}

fn look_at_agreements(member: &str, agreements: &[AgreementReply], findings: &mut Findings) {
    for one in agreements.iter().filter(|one| one.member == member) {
        match (one.stage.as_str(), one.days_left, one.warned) {
            ("running", Some(days), Some(_)) => findings.warn("agreement", format!("`{}` ends in {days} days", one.id)),
            ("running", Some(days), None) => findings.ok("agreement", format!("`{}` runs for {days} days", one.id)),
            ("run-off" | "revoked", ..) => {
                findings.fail("agreement", format!("`{}` is over since {}; nothing new passes", one.id, one.until))
            }
            _ => (),
        }
    }
}

fn look_at_network(config: &Config, running: bool, findings: &mut Findings) {
    if !running {
        for text in &config.node.listen {
            if let Some(address) = socket_address(text) {
                match TcpListener::bind(address) {
                    Ok(_) => findings.ok("listen", format!("{text} is free")),
                    Err(error) => findings.fail("listen", format!("{text}: {error}; is another program using the port?")),
                }
            }
        }
    }
    for text in &config.node.dial {
        let Some(address) = socket_address(text) else { continue };
        if let Some(proxy) = &config.node.proxy {
            findings.ok("dial", format!("{address} is dialled through {proxy}"));
            continue;
        }
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(_) => findings.ok("dial", format!("{address} answers")),
            Err(error) => findings.fail("dial", format!("{address}: {error}; is the node there running, and may packets pass?")),
        }
    }
    if config.node.listen.iter().any(|text| text.contains("/0.0.0.0/")) && config.node.announce.is_empty() {
        findings.warn("announce", "nothing is announced and the node listens on every address; others learn the ones it sees itself");
    }
}

/// The address of `/ip4/192.0.2.1/tcp/4100`; `None` for names, which are not looked up here.
fn socket_address(multiaddress: &str) -> Option<SocketAddr> {
    let mut parts = multiaddress.split('/').skip(1);
    let (_family, address, _tcp, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}
