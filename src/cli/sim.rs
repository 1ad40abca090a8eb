//! `huecry sim`: rehearse a federation in one process.

use super::{Context, Failure, print::grouped};
use crate::sim::{
    crowd::{PartitionPlan, Plan, rehearse},
    hostile::Malice,
};
use std::{io::Write as _, path::PathBuf, time::Duration};

/// Rehearse a federation of real nodes in this process, over links that take their time, and measure it.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// One way, on each link.
    #[arg(long, default_value_t = 50)]
    latency_ms: u64,
    /// Of the segments on a link, how many come late, such as 1%.
    #[arg(long, default_value = "0%", value_parser = per_mille)]
    loss: u64,
    /// How many records are published in all.
    #[arg(long, default_value_t = 10_000)]
    records: u64,
    /// Records in a batch, 1 to 256.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=256))]
    batch: u64,
    /// Batches published in a second, by all authors together.
    #[arg(long, default_value_t = 2.0)]
    batches_per_s: f64,
    /// How many members publish, each in a channel of its own.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    authors: u64,
    /// Nodes that begin when everything has been published.
    #[arg(long, default_value_t = 0)]
    late: usize,
    /// Of all members, how many do harm: drop, delay, withhold, lie, equivocate. Such as 20%.
    #[arg(long, default_value = "0%", value_parser = per_mille)]
    hostile: u64,
    /// What all of them do, in place of five things in turn.
    #[arg(long, value_enum)]
    malice: Option<Malice>,
    /// Nodes on no card that dial honest ones, twice a second each.
    #[arg(long, default_value_t = 0)]
    strangers: usize,
    /// Cut so many of the nodes off from the rest for a while, from when a third is published: such as 40%:15s.
    #[arg(long, value_parser = partition)]
    partition: Option<PartitionPlan>,
    /// Makes keys, links and losses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write every batch's arrival at every node to this file, as JSON lines.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Leave the nodes' ledgers in this directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn per_mille(text: &str) -> Result<u64, String> {
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| format!("`{text}` is no share; one looks like 1%"))?;
    if (0.0..=50.0).contains(&percent) { Ok((percent * 10.0) as u64) } else { Err("a share of 0% to 50%".to_owned()) }
}

fn partition(text: &str) -> Result<PartitionPlan, String> {
    let wrong = || format!("`{text}` is no partition; one looks like 40%:15s");
    let (share, seconds) = text.split_once(':').ok_or_else(wrong)?;
    let seconds: u64 = seconds.trim_end_matches('s').parse().map_err(|_| wrong())?;
    Ok(PartitionPlan { share_per_mille: per_mille(share)?, lasts: Duration::from_secs(seconds) })
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        nodes,
        latency_ms,
        loss,
        records,
        batch,
        batches_per_s,
        authors,
        late,
        hostile,
        malice,
        strangers,
        partition,
        seed,
        trace,
        keep,
    } = arguments;
    let hostile = nodes * usize::try_from(hostile).unwrap_or(0) / 1_000;
    if nodes < late + hostile + 3 {
        return Err(Failure::usage("a rehearsal needs three nodes at least that are there from the beginning"));
    }
    // In memory, if there is such a place: hundreds of ledgers on one disk would measure the disk.
    let memory = PathBuf::from("/dev/shm");
    let temporary = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.map_err(Failure::environment)?;
    let directory = keep.unwrap_or_else(|| temporary.path().to_owned());
    let latency = Duration::from_millis(latency_ms);
    let authors = usize::try_from(authors).unwrap_or(usize::MAX);
    let plan = Plan {
        nodes,
        latency,
        loss_per_mille: loss,
        records,
        batch_records: batch,
        batches_per_s,
        authors,
        late,
        hostile,
        malice,
        strangers,
        partition,
        seed,
        directory,
    };
    let screen = &context.screen;
    let (outcome, events) =
        super::runtime()?.block_on(rehearse(&plan, |what| screen.note(what))).map_err(|error| Failure::environment(error.to_string()))?;
    if let Some(path) = trace {
        let at = |error: std::io::Error| Failure::environment(format!("{}: {error}", path.display()));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).map_err(at)?);
        for event in &events {
            serde_json::to_writer(&mut file, event).map_err(Failure::environment)?;
            file.write_all(b"\n").map_err(at)?;
        }
        file.flush().map_err(at)?;
    }
    screen.line(&format!("delivered         {:.4} of {} batches at {} nodes", outcome.delivered, outcome.batches, nodes - late - hostile));
    let [p50, p99, last] = [outcome.announce_p50_ms, outcome.announce_p99_ms, outcome.announce_last_ms].map(grouped);
    screen.line(&format!("body held         p50 {p50} ms, p99 {p99} ms, last {last} ms"));
    screen.line(&format!("withdrawal        99 % in {} ms", grouped(outcome.withdrawal_p99_ms)));
    let [notice, after] = [outcome.notice_p99_ms, outcome.notice_taken_after].map(grouped);
    screen.line(&format!("key given up      known to 99 % in {notice} ms; {after} nodes take what it signs after that"));
    if strangers > 0 {
        let [calls, bytes] = [outcome.strangers_calls, outcome.strangers_bytes].map(grouped);
        screen.line(&format!("strangers         knocked {calls} times and were given {bytes} bytes"));
    }
    screen.line(&format!("received          {:.2} bytes a node for each byte of content", outcome.received_ratio));
    if late > 0 {
        screen.line(&format!(
            "catching up       {:.2} bytes for each byte of content, in {} ms",
            outcome.catchup_ratio,
            grouped(outcome.catchup_ms)
        ));
    }
    if hostile > 0 {
        screen.line(&format!("equivocation      proved at {:.3} of the nodes, p99 {} ms", outcome.proved, grouped(outcome.proved_p99_ms)));
    }
    if partition.is_some() {
        screen.line(&format!("healed            everyone had everything {} ms after the cut was over", grouped(outcome.healed_ms)));
    }
    screen.line(&format!(
        "idle              {} bytes for a comparison of {} channels with one peer",
        grouped(outcome.idle_exchange_bytes),
        outcome.channels
    ));
    screen.line(&format!("memory            {} MiB for all of them", grouped(outcome.rss_peak_bytes >> 20)));
    screen.line(&format!(
        "lag               p50 {} ms, at worst {} ms behind real time",
        grouped(outcome.lag_p50_ms),
        grouped(outcome.lag_ms)
    ));
    screen.value(&outcome);
    if outcome.delivered < 1.0 {
        return Err(Failure::nothing("not everything was delivered"));
    }
    Ok(())
}
