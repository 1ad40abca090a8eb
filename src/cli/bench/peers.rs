//! `huecry bench peers`: one node with very many peers, and what it costs it.
//!
//! The node runs in this process; its peers, real nodes that follow nothing, in another. Only the first one's memory is measured.

use super::{Place, rate};
use crate::{
    charter::Quota,
    cli::{Context, Failure, print::grouped, runtime},
    clock::Clock,
    envelope::Class,
    intake::{Intake, Limits},
    node::{
        Links,
        door::{Publication, ReportOf, Request},
    },
    policy::{Lists, Piece, Policy, Starter},
    record::{Indicator, Observable, Record, Timestamp, Tlp},
    sim::{
        Dice,
        crowd::{Failed, Running, Site, launch, rss_now, rss_peak},
        federation::{self, Federation},
        listed_value,
    },
};
use serde_json::json;
use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long the peers may take to come.
const PATIENCE: Duration = Duration::from_secs(300);
/// Records handed to the door at once.
const CHUNK: u64 = 4_096;
/// How long the node is watched once all are there.
const WATCHED: Duration = Duration::from_secs(30);

/// One node with many peers: its memory, and how long a peer that follows it would wait.
#[derive(clap::Args, Clone)]
pub struct Arguments {
    #[arg(long, default_value_t = 250)]
    peers: usize,
    /// Records that the node holds.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// For the other process: where the node listens, and when the federation was founded.
    #[arg(long, hide = true, num_args = 2)]
    crowd: Option<Vec<String>>,
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn failed(error: Failed) -> Failure {
    Failure::environment(error.to_string())
}

fn found(peers: usize, now: Timestamp) -> Result<(Federation, Intake), Failed> {
    let quota = Quota { records_per_second: 1 << 30, burst_records: 1 << 30, records_per_day: 1 << 40, bytes_per_day: 1 << 50 };
    let federation = federation::found(peers + 1, quota, now, &mut Dice::new(250), |_, _| Vec::new())?;
    let policy = Policy::of(vec![Piece::new("starter", Starter::Vendor.policy().to_owned())])?;
    let (roster, policy, lists) = (Arc::new(federation.roster.clone()), Arc::new(policy), Arc::new(Lists::default()));
    Ok((federation, Intake { roster, policy, lists, limits: Limits::default() }))
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { peers, records, crowd, keep } = arguments;
    let runtime = runtime()?;
    if let Some([address, founded]) = crowd.as_deref() {
        let founded = founded.parse().ok().and_then(Timestamp::from_ms).ok_or_else(|| Failure::usage("no time"))?;
        return runtime.block_on(be_the_crowd(peers, address, founded)).map_err(failed);
    }
    let place = Place::new(keep)?;
    runtime.block_on(measure(context, &place, peers, records)).map_err(failed)
}

/// Runs the peers until the parent is gone.
async fn be_the_crowd(peers: usize, address: &str, founded: Timestamp) -> Result<(), Failed> {
    let (federation, intake) = found(peers, founded)?;
    let directory = if std::path::Path::new("/dev/shm").is_dir() { tempfile::tempdir_in("/dev/shm")? } else { tempfile::tempdir()? };
    let mut crowd: Vec<Running> = Vec::new();
    for number in 1..=peers {
        let site = Site {
            data: directory.path().join(number.to_string()),
            links: Links::Tcp,
            listen: "/ip4/127.0.0.1/tcp/0".to_owned(),
            dial: vec![address.to_owned()],
            observer: None,
            rehearsal: true,
            follows: false,
        };
        crowd.push(launch(site, federation.actors.get(number).ok_or("no such member")?, &federation, &intake)?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Standard input ends with the parent.
    let ended = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let _parent_gone = ended.await;
    drop(crowd);
    Ok(())
}

async fn measure(context: &Context, place: &Place, peers: usize, records: u64) -> Result<(), Failed> {
    let screen = &context.screen;
    let founded = Clock::System.now();
    let (federation, intake) = found(peers, founded)?;
    let actor = federation.actors.first().ok_or("no member")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let data = place.path.join("node");
    let (links, dial, observer) = (Links::Tcp, Vec::new(), None);
    let node =
        launch(Site { data, links, listen: listen.clone(), dial, observer, rehearsal: false, follows: true }, actor, &federation, &intake)?;
    screen.note("publishing what it holds");
    let begun = Instant::now();
    for from in (0..records).step_by(CHUNK as usize) {
        let record = |number| -> Result<Record, Failed> {
            Ok(Record::Indicator(Indicator::of(Observable::recognise(&listed_value(number))?, None)))
        };
        let publication = Publication {
            channel: federation::OPEN.parse()?,
            tlp: Tlp::Green,
            class: Class::Content,
            report: ReportOf::None,
            records: (from..records.min(from + CHUNK)).map(record).collect::<Result<_, _>>()?,
        };
        let (reply, done) = tokio::sync::oneshot::channel();
        node.door.send(Request::Publish(Box::new(publication), reply)).map_err(|_| "the door is closed")?;
        done.await??;
    }
    screen.note(&format!("{} records a second; {} MiB resident", grouped(rate(records, begun.elapsed())), rss_now() >> 20));
    let alone = rss_now();
    let peer = crate::node::swarm::peer_id(&actor.node.public().to_bytes()).ok_or("no peer id")?;
    let address = format!("{listen}/p2p/{peer}");
    let mut crowd = Command::new(std::env::current_exe()?)
        .args(["bench", "peers", "--peers", &peers.to_string(), "--crowd", &address, &founded.ms().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    screen.note(&format!("{peers} peers begin in another process"));
    let begun = Instant::now();
    while node.watch.get().peers.len() < peers && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let met = begun.elapsed();
    tokio::time::sleep(WATCHED).await;
    let (linked, now, peak) = (node.watch.get().peers.len(), rss_now(), rss_peak());
    drop(crowd.stdin.take());
    let _killed = (crowd.kill(), crowd.wait());
    node.end().await;
    screen.line(&format!(
        "{linked} peers, {} records: {} MiB resident, {} at most, of which {} before they came; all were there after {:.0} s",
        grouped(records),
        now >> 20,
        peak >> 20,
        alone >> 20,
        met.as_secs_f64()
    ));
    screen.value(&json!({ "peers": linked, "records": records, "rss_bytes": now, "rss_peak_bytes": peak, "rss_alone_bytes": alone }));
    if linked < peers { Err(format!("only {linked} of {peers} peers came").into()) } else { Ok(()) }
}
