//! `bench match`: a DNS log of Zeek against what is known; and against grep, where few enough values are.

use super::{Place, cpu_seconds, rate};
use crate::{
    cli::{
        Context, Failure,
        client::Client,
        logs::{Asking, fetch, through},
        print::grouped,
        runtime,
    },
    sim::{Dice, listed_value},
};
use serde_json::json;
use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// Most values with which grep is tried: it takes minutes for more.
const GREP_VALUES_MAX: u64 = 200_000;
/// Lines of the log that grep is given: enough to time it.
const GREP_LINES_MAX: u64 = 1_000_000;

/// What is matched with what.
#[derive(clap::Args)]
pub struct Arguments {
    /// Indicators that are known.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Lines of the log.
    #[arg(long, default_value_t = 10_000_000)]
    lines: u64,
    /// The directory that `bench ingest --keep` has left, with as many records.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

/// A line of a Zeek dns.log, some 150 bytes; one in a thousand asks for a name that is known.
fn line(number: u64, records: u64, dice: &mut Dice) -> String {
    let name = if number.is_multiple_of(1_000) {
        // Of ten values five are names.
        listed_value(dice.below(records / 10) * 10 + dice.below(5))
    } else {
        format!("w{}.site-{}.example", dice.below(100), dice.below(1 << 20))
    };
    format!(
        "17{:08}.{:06}\tC{:012x}\t192.0.2.{}\t{}\t198.51.100.{}\t53\tudp\t{}\t0.00{}\t{name}\t1\tC_INTERNET\t1\tA\t0\tNOERROR\tF\tF\tT\tT\t0\t-\t-\tF",
        number / 1_000,
        number % 1_000_000,
        dice.below(1 << 48),
        dice.below(256),
        1_024 + dice.below(60_000),
        dice.below(256),
        dice.below(65_536),
        dice.below(9_999),
    )
}

fn write_log(path: &Path, lines: u64, records: u64) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut dice = Dice::new(7);
    (0..lines).try_for_each(|number| writeln!(file, "{}", line(number, records, &mut dice)))?;
    file.flush()
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { records, lines, from } = arguments;
    let place = Place::new(from.clone())?;
    if from.is_none() {
        super::ingest(context, &super::Values::made(*records), Some(place.path.clone()))?;
    }
    let log = Place::new(None)?;
    let path = log.path.join("dns.log");
    context.screen.note(&format!("writing a log of {} lines", grouped(*lines)));
    let at = |error: std::io::Error| Failure::environment(format!("{}: {error}", path.display()));
    write_log(&path, *lines, *records).map_err(at)?;
    let runtime = runtime()?;
    let client = runtime.block_on(Client::open(&place.path.join("node")))?;
    let begun = Instant::now();
    let (sieve, _) = runtime.block_on(fetch(&client, None))?;
    let load = begun.elapsed();
    let mut asking = Asking { client: &client, runtime: &runtime, since: None, known: HashMap::new() };
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut expected = 0;
    let done = through(&sieve, File::open(&path).map_err(at)?, &mut asking, |_, _, hits| expected += u64::from(!hits.is_empty()))?;
    let (took, cpu) = (begun.elapsed(), cpu_seconds() - cpu);
    if done.lines != *lines || done.hits != lines.div_ceil(1_000) {
        return Err(Failure::environment(format!("{} of {lines} lines were read and {} hit", done.lines, done.hits)));
    }
    let grep_ratio = if *records <= GREP_VALUES_MAX {
        Some(grep(&log.path, &path, *lines, *records)? / took.as_secs_f64() * *lines as f64)
    } else {
        None
    };
    let (per_s, mb) = (rate(*lines, took), done.bytes as f64 / 1e6 / took.as_secs_f64());
    let ratio = grep_ratio.map(|ratio| format!(", {ratio:.0} times as many as grep")).unwrap_or_default();
    context.screen.line(&format!(
        "match: {} lines ({:.0} bytes each) in {:.2} s against {} indicators: {} lines/s, {mb:.0} MB/s{ratio}; {cpu:.2} s of CPU; {} lines hit; keys fetched in {:.2} s",
        grouped(*lines),
        done.bytes as f64 / *lines as f64,
        took.as_secs_f64(),
        grouped(*records),
        grouped(per_s),
        grouped(expected),
        load.as_secs_f64(),
    ));
    context.screen.value(&json!({
        "lines": lines, "records": records, "lines_per_s": per_s, "mb_per_s": mb, "cpu_s": cpu, "hits": done.hits,
        "load_s": load.as_secs_f64(), "grep_ratio": grep_ratio, "rss_peak_bytes": super::rss_peak_bytes(),
    }));
    runtime.block_on(client.close())
}

/// Seconds that `grep -F -w -f` takes for a line of the same log.
fn grep(directory: &Path, log: &Path, lines: u64, records: u64) -> Result<f64, Failure> {
    let values = directory.join("values.txt");
    let failed = |error: std::io::Error| Failure::environment(format!("grep: {error}"));
    let mut file = BufWriter::new(File::create(&values).map_err(failed)?);
    (0..records).try_for_each(|number| writeln!(file, "{}", listed_value(number))).map_err(failed)?;
    file.flush().map_err(failed)?;
    drop(file);
    let lines = lines.min(GREP_LINES_MAX);
    let head = Command::new("head").arg("-n").arg(lines.to_string()).arg(log).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let begun = Instant::now();
    let input = head.stdout.ok_or_else(|| Failure::environment("head gave nothing"))?;
    let found = Command::new("grep").args(["-F", "-w", "-f"]).arg(&values).stdin(input).env("LC_ALL", "C").output().map_err(failed)?;
    let took = begun.elapsed().as_secs_f64();
    let hits = found.stdout.iter().filter(|byte| **byte == b'\n').count() as u64;
    // grep takes a name within a longer one for a word, so it may find more.
    if hits < lines.div_ceil(1_000) {
        return Err(Failure::environment(format!("grep found {hits} of {} lines", lines.div_ceil(1_000))));
    }
    Ok(took / lines as f64)
}
