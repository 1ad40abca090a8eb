//! `bench lookup`: is this value known? Hits and misses, one after another, on one core.

use super::Place;
use crate::{
    cli::{Context, Failure, print::grouped},
    clock::Clock,
    ledger::{KeyRange, exactly},
    node::setup,
    query::{self, Question},
    record::{Observable, Tlp},
    sim::{Dice, listed_value},
};
use serde_json::json;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Look-ups of each kind that are timed.
const LOOKUPS: usize = 500_000;

/// Answers that are timed.
const ANSWERS: usize = 200_000;

/// What is looked up in.
#[derive(clap::Args)]
pub struct Arguments {
    /// Indicators that are known.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// The directory that `bench ingest --keep` has left, with as many records.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let place = Place::new(arguments.from.clone())?;
    if arguments.from.is_none() {
        super::ingest(context, &super::Values::made(arguments.records), Some(place.path.clone()))?;
    }
    let begun = Instant::now();
    let opened = setup::open(&place.path.join("node"), Clock::System)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    opened.ledger.remember_known().join().map_err(|_| Failure::environment("the thread that walks through the index ended"))?;
    let walk = begun.elapsed();
    // As a node does every day.
    let begun = Instant::now();
    opened.ledger.settle_index().map_err(Failure::environment)?;
    let settle = begun.elapsed();
    let mut dice = Dice::new(11);
    let range = |text: String| Observable::recognise(&text).map(|value| exactly(&value)).map_err(Failure::environment);
    let hits: Vec<KeyRange> = (0..LOOKUPS).map(|_| range(listed_value(dice.below(arguments.records)))).collect::<Result<_, _>>()?;
    let misses: Vec<KeyRange> =
        (0..LOOKUPS).map(|_| range(listed_value(arguments.records + dice.below(1 << 40)))).collect::<Result<_, _>>()?;
    let look = |ranges: &[KeyRange], known: bool| -> Result<(Vec<Duration>, Duration), Failure> {
        let (mut took, begun) = (Vec::with_capacity(ranges.len()), Instant::now());
        for range in ranges {
            let at = Instant::now();
            let (rows, _) = opened.ledger.scan(range, 1).map_err(Failure::environment)?;
            took.push(at.elapsed());
            if rows.is_empty() == known {
                return Err(Failure::environment(if known {
                    "a value that is here was not found"
                } else {
                    "a value was found that is not here"
                }));
            }
        }
        Ok((took, begun.elapsed()))
    };
    // Once to warm the caches, as in a node that runs.
    look(hits.get(..LOOKUPS / 10).unwrap_or_default(), true)?;
    let ((hit, hits_took), (miss, _)) = (look(&hits, true)?, look(&misses, false)?);
    let micros = |mut took: Vec<Duration>, percent: usize| {
        took.sort_unstable();
        took.get(took.len() * percent / 100).map_or(0.0, |took| took.as_nanos() as f64 / 1_000.0)
    };
    let per_s = super::rate(LOOKUPS as u64, hits_took);
    let (answers_per_s, answer_bytes) = answers(&opened, arguments.records)?;
    let (hit_p50, hit_p99, miss_p50, miss_p99) = (micros(hit.clone(), 50), micros(hit, 99), micros(miss.clone(), 50), micros(miss, 99));
    let rss = super::rss_peak_bytes();
    context.screen.line(&format!(
        "lookup: of {} indicators: hit p50 {hit_p50:.2} us, p99 {hit_p99:.2} us, {} a second on one core; miss p50 {miss_p50:.2} us, p99 {miss_p99:.2} us; \
         whole answers as JSON: {} a second; opened in {:.2} s, {:.2} s more until misses are in memory; {} MiB resident at most",
        grouped(arguments.records),
        grouped(per_s),
        grouped(answers_per_s),
        open.as_secs_f64(),
        walk.as_secs_f64(),
        rss / 1_048_576,
    ));
    context.screen.value(&json!({
        "records": arguments.records, "hit_p50_us": hit_p50, "hit_p99_us": hit_p99, "miss_p50_us": miss_p50, "miss_p99_us": miss_p99,
        "hits_per_s": per_s, "answers_per_s": answers_per_s, "answer_bytes": answer_bytes, "open_s": open.as_secs_f64(), "settle_s": settle.as_secs_f64(), "walk_s": walk.as_secs_f64(), "rss_peak_bytes": rss,
    }));
    opened.door.close().map_err(Failure::environment)
}

/// Answers to the question about a known value, as they are sent to whoever asks; how many a second on one core, and how long one is.
fn answers(opened: &setup::Opened, records: u64) -> Result<(u64, u64), Failure> {
    let mut dice = Dice::new(12);
    let ask = |dice: &mut Dice| -> Result<u64, Failure> {
        let question = Question { text: Some(listed_value(dice.below(records))), ..Question::default() };
        let answer = query::answer_at_once(&opened.ledger, &opened.current.get(), &question, Tlp::Red, Clock::System.now());
        let answer = answer.map_err(Failure::environment)?.filter(|answer| !answer.values.is_empty());
        let answer = answer.ok_or_else(|| Failure::environment("a value that is here was not answered at once"))?;
        Ok(serde_json::to_vec(&answer).map_err(Failure::environment)?.len() as u64)
    };
    (0..ANSWERS / 10).try_for_each(|_| ask(&mut dice).map(drop))?;
    let (mut bytes, begun) = (0, Instant::now());
    for _ in 0..ANSWERS {
        bytes += ask(&mut dice)?;
    }
    Ok((super::rate(ANSWERS as u64, begun.elapsed()), bytes / ANSWERS as u64))
}
