//! `huecry bench`: the figures, each with its workload, on data it makes from reserved names.

mod attack;
mod catchup;
mod charter;
mod clearance;
mod exchange;
mod http;
mod lookup;
mod matching;
mod peers;
mod policy;
mod yardstick;

use super::{Context, Failure, client::Client, print::grouped, runtime};
use crate::{
    charter::{MemberKind, Quota},
    clock::Clock,
    envelope::SecretKey,
    http::{PublishParameters, PublishReply},
    node::{
        door::{self, Arrived, Event, Request},
        keys::{KeyStore, Purpose},
        membership::{self, INDICATORS},
        setup::{self, NewNode},
    },
    publish::{Lane, Publisher},
    record::{FeedId, Indicator, Observable, Record, Report, Tlp, WireRef},
    sim::listed_value,
};
use axum::body::Body;
use clap::Subcommand;
use serde_json::json;
use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A quota that no bench reaches: they publish in seconds what is meant for days.
const WIDE: Quota = Quota { records_per_second: 1 << 30, burst_records: 1 << 40, records_per_day: 1 << 40, bytes_per_day: 1 << 50 };
/// Seconds that the disk may take to settle.
const SETTLING_S: u32 = 60;
/// How soon what is durable has to be found by its value.
const FINDABLE_WITHIN: Duration = Duration::from_secs(5);

/// Measure: publishing a list, ingest of signed batches, a large charter.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Import, sign and publish a list of so many lines: lines a second, from the first byte read to the last fsync.
    Publish {
        #[arg(long, default_value_t = 500_000)]
        lines: u64,
        /// Keep the ledger here instead of in a directory that is removed.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Take in signed batches of a member: verified, judged, journaled with fsync, in state and index.
    Ingest {
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
        /// Values to take in place of made-up ones, one a line, as many as there are and --records allows.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Ask whether values are known, some of them are: hits a second, and how long hits and misses take.
    Lookup(lookup::Arguments),
    /// Ask for hidden and for absent values as a reader with a lower clearance: whether the time of an answer tells them apart.
    Clearance(clearance::Arguments),
    /// Look through a DNS log of Zeek for what is known: lines a second.
    Match(matching::Arguments),
    /// A node that has nothing meets one that has everything: two processes on loopback, everything verified and durable.
    Catchup {
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// One node with many peers, which run in another process: its memory.
    Peers(peers::Arguments),
    /// Verify and apply a charter of 250 members, 60 circles, 5 of 9 stewards.
    Charter,
    /// Decide over real values with every published list loaded: decisions a second, with and without the memo.
    Policy(policy::Arguments),
    Exchange(exchange::Arguments),
    /// Ask a running node over HTTP: look-ups by value a second (by wrk), a TAXII collection to its end, a bouncer's decisions.
    Http(http::Arguments),
    /// Attack a running node with slow, endless and expensive requests: how long `unblock` takes meanwhile.
    Attack(attack::Arguments),
}

/// A directory that goes when the bench ends, unless it is to be kept.
struct Place {
    path: PathBuf,
    keep: bool,
}

impl Place {
    fn new(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(Failure::environment)?;
        let path = keep.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("huecry-bench-{}", hex::encode(name))));
        std::fs::create_dir_all(&path).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
        Ok(Self { path, keep: keep.is_some() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep {
            // What stays behind lies in the system's temporary directory.
            let _left_behind = std::fs::remove_dir_all(&self.path);
        }
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.bench {
        Bench::Publish { lines, keep } => publish(context, lines, keep),
        Bench::Ingest { records, keep, from } => ingest_and_compare(context, &Values { most: records, from }, keep),
        Bench::Lookup(arguments) => lookup::run(context, &arguments),
        Bench::Clearance(arguments) => clearance::run(context, &arguments),
        Bench::Match(arguments) => matching::run(context, &arguments),
        Bench::Catchup { records, keep } => catchup::run(context, records, keep),
        Bench::Peers(arguments) => peers::run(context, arguments),
        Bench::Charter => charter::run(context),
        Bench::Policy(arguments) => policy::run(context, &arguments),
        Bench::Exchange(arguments) => exchange::run(context, &arguments),
        Bench::Http(arguments) => http::run(context, &arguments),
        Bench::Attack(arguments) => attack::run(context, &arguments),
    }
}

fn new_node(member: &str) -> Result<NewNode, Failure> {
    Ok(NewNode {
        member: member.parse().map_err(Failure::usage)?,
        display: member.to_owned(),
        kind: MemberKind::Coordinator,
        country: None,
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        channels: Vec::new(),
        node: None,
    })
}

fn publish(context: &Context, lines: u64, keep: Option<PathBuf>) -> Result<(), Failure> {
    let place = Place::new(keep)?;
    let data = place.path.join("node");
    let new = new_node("bench-vendor")?;
    setup::init(&data, &new)?;
    membership::found(&data, &new, "bench", WIDE, Clock::System.now())?;
    let list = place.path.join("list.txt");
    let written = (|| {
        let mut file = BufWriter::new(File::create(&list)?);
        (0..lines).try_for_each(|number| writeln!(file, "{}", listed_value(number)))?;
        file.flush()
    })();
    written.map_err(|error| Failure::environment(format!("{}: {error}", list.display())))?;
    let bytes = std::fs::read(&list).map_err(Failure::environment)?;
    let parameters = PublishParameters {
        channel: INDICATORS.to_owned(),
        tlp: Some("green".to_owned()),
        title: "bench".to_owned(),
        ..PublishParameters::default()
    };
    let (reply, took, cpu) = runtime()?.block_on(async {
        let client = Client::open(&data).await?;
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        let reply: PublishReply = client.stream("/v1/publish", &parameters, Body::from(bytes)).await?;
        let took = begun.elapsed();
        client.close().await?;
        Ok::<_, Failure>((reply, took, cpu_seconds() - cpu))
    })?;
    // The report is a record too.
    if reply.records != lines || reply.accepted != lines + 1 {
        return Err(Failure::environment(format!("{} of {lines} lines were published, {} accepted", reply.records, reply.accepted)));
    }
    let per_s = rate(lines, took);
    context.screen.line(&format!(
        "publish: {} lines read, signed and durable in {:.2} s: {} lines/s, {cpu:.2} s of CPU",
        grouped(lines),
        took.as_secs_f64(),
        grouped(per_s)
    ));
    context.screen.value(&json!({ "lines": lines, "lines_per_s": per_s, "wall_s": took.as_secs_f64(), "cpu_s": cpu }));
    Ok(())
}

fn rate(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64().max(1e-9)) as u64
}

/// What is taken in: values that are made up, or the lines of a file.
struct Values {
    most: u64,
    from: Option<PathBuf>,
}

impl Values {
    fn made(most: u64) -> Self {
        Self { most, from: None }
    }

    fn each(&self) -> Result<Box<dyn Iterator<Item = Result<Observable, Failure>>>, Failure> {
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let read = |text: String| Observable::recognise(&text).map_err(|error| Failure::usage(format!("`{text}`: {error}")));
        Ok(match &self.from {
            None => Box::new((0..self.most).map(move |number| read(listed_value(number)))),
            Some(path) => {
                let file = File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
                let lines = std::io::BufRead::lines(BufReader::new(file));
                Box::new(lines.map(move |line| read(line.map_err(Failure::environment)?)).take(most))
            }
        })
    }
}

/// Ingest, and in the same run what sled does with the same values laid out at first.
fn ingest_and_compare(context: &Context, values: &Values, keep: Option<PathBuf>) -> Result<(), Failure> {
    let mut figures = ingest(context, values, keep)?;
    let place = Place::new(None)?;
    let few = Values { most: values.most.min(yardstick::RECORDS), from: values.from.clone() };
    let per_s = yardstick::run(&place.path.join("sled"), few.each()?)?;
    context.screen.line(&format!(
        "yardstick: {} of them as four keys each in sled, nothing signed or verified: {} records/s",
        grouped(few.most),
        grouped(per_s)
    ));
    if let Some(figures) = figures.as_object_mut() {
        figures.insert("yardstick_sled_records_per_s".to_owned(), per_s.into());
    }
    context.screen.value(&figures);
    Ok(())
}

/// Writes values as signed batches of the node's own lane, framed, to a file. Answers how many batches and records, and the last value.
fn make_batches(data: &Path, path: &Path, values: &Values) -> Result<(u64, u64, Option<Observable>), Failure> {
    let opened = setup::open(data, Clock::System)?;
    let intake = opened.current.get();
    let keys = KeyStore::in_data(data).map_err(Failure::environment)?;
    let key: SecretKey = keys.read(Purpose::Publishing).map_err(Failure::environment)?;
    let feed = FeedId { member: opened.identity.member.clone(), channel: INDICATORS.parse().map_err(Failure::usage)?, lane: 0, epoch: 1 };
    let audience = crate::envelope::Audience::federation();
    let federation = intake.roster.federation();
    let class = crate::envelope::Class::Content;
    let lane = Lane { feed: feed.clone(), audience, tlp: Tlp::Green, class, last: None, floor_seq: 1, key: &key, federation };
    let random = |buffer: &mut [u8]| getrandom::fill(buffer).map_err(|error| error.to_string());
    let mut publisher = Publisher::new(lane, Clock::System.now(), random);
    let mut file = BufWriter::new(File::create(path).map_err(Failure::environment)?);
    let mut batches = 0;
    let mut put = |draft: crate::publish::Draft| {
        batches += 1;
        let (head, body) = (draft.head.bytes(), &draft.body);
        let lengths = [(head.len() as u32).to_le_bytes(), (body.len() as u32).to_le_bytes()].concat();
        [&lengths, head, body].into_iter().try_for_each(|part| file.write_all(part)).map_err(Failure::environment)
    };
    let (mut report, mut records, mut last) = (None, 0u64, None);
    for (number, value) in (0u64..).zip(values.each()?) {
        // As publishers do: a report for every ten thousand indicators.
        if number % 10_000 == 0 {
            let record = Record::Report(Report {
                confidence: Some(80),
                tags: vec!["bench".to_owned()],
                ..Report::titled(format!("bench {number}"))
            });
            let (reference, full) = publisher.push(record, None).map_err(Failure::environment)?;
            report = Some(reference);
            full.map_or(Ok(()), &mut put)?;
        }
        let value = value?;
        (records, last) = (number + 1, Some(value.clone()));
        let record = Record::Indicator(Indicator::of(value, None::<WireRef>));
        let (_, full) = publisher.push(record, report.as_ref()).map_err(Failure::environment)?;
        full.map_or(Ok(()), &mut put)?;
    }
    if let Some(last) = publisher.finish().map_err(Failure::environment)? {
        put(last)?;
    }
    file.flush().map_err(Failure::environment)?;
    Ok((batches, records, last))
}

/// Takes values in, signed, as from a peer. Answers the figures.
fn ingest(context: &Context, values: &Values, keep: Option<PathBuf>) -> Result<serde_json::Value, Failure> {
    let place = Place::new(keep)?;
    let data = place.path.join("node");
    let new = new_node("bench-vendor")?;
    setup::init(&data, &new)?;
    membership::found(&data, &new, "bench", WIDE, Clock::System.now())?;
    let path = place.path.join("batches");
    context.screen.note(&format!("making {} signed records", grouped(values.most)));
    let (batches, records, last_value) = make_batches(&data, &path, values)?;
    let opened = setup::open(&data, Clock::System)?;
    let (door, ledger, current) = (opened.door, opened.ledger, opened.current);
    // As in a node: bodies are read ahead on one thread, the door is another; what comes is the network's part, here this thread.
    let (requests, queue) = door::queue(true);
    let (events, mut kept) = tokio::sync::mpsc::channel(door::QUEUE_MAX);
    let keeper = std::thread::spawn(move || door::run(door, queue, events));
    let counting = std::thread::spawn(move || {
        let mut tenth = None;
        for number in 1..=batches {
            match kept.blocking_recv() {
                Some(Event::Kept { .. }) => (),
                other => return Err(format!("the door said {} in place of taking batch {number} in", describe(other))),
            }
            if number == batches - batches / 10 {
                tenth = Some(Instant::now());
            }
        }
        Ok((tenth.unwrap_or_else(Instant::now), Instant::now()))
    });
    let mut file = BufReader::new(File::open(&path).map_err(Failure::environment)?);
    let length = std::fs::metadata(&path).map_err(Failure::environment)?.len();
    let bar = context.screen.bar(length, "ingest");
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    for _ in 0..batches {
        let (head, body) = read_batch(&mut file).map_err(Failure::environment)?;
        bar.inc((head.len() + body.len() + 8) as u64);
        // As from a peer: the head is proved when it is heard of.
        let head = current.get().prove(&head, Clock::System.now()).map_err(Failure::environment)?;
        let arrived = Arrived::in_turn(head, body, [7; 32]);
        requests.send(Request::Batch(arrived)).map_err(|_| Failure::environment("the door is closed"))?;
    }
    let counted = counting.join().map_err(|_| Failure::environment("the counting thread ended"))?;
    let (tenth_begun, all_kept) = counted.map_err(Failure::environment)?;
    let (took, last_tenth) = (all_kept - begun, all_kept - tenth_begun);
    bar.finish_and_clear();
    let known: u64 = ledger.feeds().iter().map(|(_, state)| state.counts.accepted).sum();
    let reports = records.div_ceil(10_000);
    if known != records + reports {
        return Err(Failure::environment(format!("{known} records were accepted, {} were sent", records + reports)));
    }
    // Queryable: the last value is found, soon.
    let question = crate::query::Question { text: last_value.map(|value| value.to_string()), ..Default::default() };
    while crate::query::answer(&ledger, &question, Clock::System.now()).map_err(Failure::environment)?.values.is_empty() {
        if all_kept.elapsed() > FINDABLE_WITHIN {
            return Err(Failure::environment("the last record is not found by its value"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let findable_ms = all_kept.elapsed().as_millis() as u64;
    let cpu = cpu_seconds() - cpu;
    let (reply, closed) = tokio::sync::oneshot::channel();
    requests.send(Request::Stop(reply)).map_err(|_| Failure::environment("the door is closed"))?;
    closed.blocking_recv().map_err(Failure::environment)?.map_err(Failure::environment)?;
    keeper.join().map_err(|_| Failure::environment("the door's thread ended"))?;
    drop((ledger, current, opened.enforcer));
    let disk = settled_bytes(&data.join("ledger")) as f64 / records as f64;
    let (per_s, last) = (rate(records, took), rate(records / 10, last_tenth));
    let rss = rss_peak_bytes();
    context.screen.line(&format!(
        "ingest: {} records in {:.2} s: {} records/s, {} in the last tenth; {cpu:.2} s of CPU, {} MiB at most, {disk:.0} bytes of disk a record",
        grouped(records),
        took.as_secs_f64(),
        grouped(per_s),
        grouped(last),
        rss / 1_048_576,
    ));
    Ok(json!({
        "records": records, "records_per_s": per_s, "records_per_s_last_tenth": last, "cpu_s": cpu,
        "findable_ms": findable_ms, "rss_peak_bytes": rss, "disk_bytes_per_record": disk,
    }))
}

fn describe(event: Option<Event>) -> String {
    match event {
        Some(Event::Refused { refusal, .. }) => format!("`{refusal}`"),
        Some(Event::Fatal(error)) => format!("`{error}`"),
        Some(_) => "something else".to_owned(),
        None => "nothing more".to_owned(),
    }
}

fn read_batch(file: &mut impl std::io::Read) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut lengths = [0; 8];
    file.read_exact(&mut lengths)?;
    let [a, b, c, d, e, f, g, h] = lengths;
    let mut part = |length: [u8; 4]| {
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        file.read_exact(&mut bytes).map(|()| bytes)
    };
    Ok((part([a, b, c, d])?, part([e, f, g, h])?))
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}

fn rss_peak_bytes() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(0, |usage| u64::try_from(usage.max_rss()).unwrap_or(0) * 1024)
}

/// Bytes on the disk once they change no more: what compaction has replaced is gone only when nobody reads it.
fn settled_bytes(path: &Path) -> u64 {
    let mut bytes = disk_bytes(path);
    for _ in 0..SETTLING_S {
        std::thread::sleep(Duration::from_secs(1));
        let now = disk_bytes(path);
        if now == bytes {
            break;
        }
        bytes = now;
    }
    bytes
}

fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
