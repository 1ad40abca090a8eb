//! `huecry bench policy`: what a decision costs, on real values and with every published list loaded.
//!
//! Workload: every value of the corpus's lists, reports, tables, MISP events and STIX bundles, asserted by eight members in their channels with
//! confidences, uses, ages and tags as they come; the national starter set. One decision is list matching, accept and hold,
//! on one core. `uncached` is the same with Cedar asked every time. With `--table` each starter set decides over every
//! value once, as an importer would bring it, and a table says what became of it and why.

use super::{Place, cpu_seconds, rss_peak_bytes};
use crate::{
    charter::MemberKind,
    cli::{Context, Failure, print::grouped},
    config::{Config, ListConfig},
    exchange::{Layout, TextReader},
    node::rules,
    policy::{CONFIDENCE_UNSAID, Case, Lists, OutletKind, OutletName, Party, Policy, Starter, Verdict},
    record::{Kind, MemberId, Observable, Role, Tlp, Use},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::Read as _,
    path::{Path, PathBuf},
    time::Instant,
};

/// Decisions that are timed without the memo.
const UNCACHED: usize = 5_000;

/// Options of the bench.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, default_value_t = 2_000_000)]
    decisions: usize,
    /// Also decide once over everything with each starter set, and say what became of it.
    #[arg(long)]
    table: bool,
    /// Where the corpus of real data is.
    #[arg(long, env = "HUECRY_CORPUS", default_value = "../shared/corpus", value_name = "DIR")]
    corpus: PathBuf,
}

/// A folder of the corpus and its distinct values.
struct Source {
    name: String,
    values: Vec<Observable>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let corpus = &arguments.corpus;
    if !corpus.join("warninglists").is_dir() {
        let text = format!("{}: there is no corpus of real data; say where it is with --corpus DIR", corpus.display());
        return Err(Failure::usage(text));
    }
    let mut sources = Vec::new();
    for part in ["iocs", "misp", "stix"] {
        values(corpus, part, &mut sources)?;
    }
    let place = Place::new(None)?;
    let mut config = Config::new(&"bench".parse().map_err(Failure::usage)?);
    let warninglists = std::fs::canonicalize(corpus.join("warninglists")).map_err(Failure::environment)?;
    config.lists = vec![ListConfig { directory: Some(warninglists), ..ListConfig::default() }];
    let begun = Instant::now();
    let (lists, _notes) = rules::read_lists(&place.path, &config);
    let lists_ms = begun.elapsed().as_millis() as u64;
    if let Some(missing) = lists.missing().first() {
        return Err(Failure::environment(format!("list `{}`: {}", missing.name, missing.why)));
    }
    let entries: usize = lists.all().iter().map(|list| list.entries).sum();
    let figures = decide(&sources, &lists, arguments.decisions)?;
    let rss = rss_peak_bytes();
    context.screen.line(&format!(
        "policy: {} decisions/s on one core ({} us of Cedar without the memo, which answered {:.3} %), {} entries of {} lists read in \
         {lists_ms} ms, {} MiB at most",
        grouped(figures.per_s),
        figures.uncached_us,
        figures.hit_rate * 100.0,
        grouped(entries as u64),
        lists.all().len(),
        rss / 1_048_576,
    ));
    let table = if arguments.table { tables(context, &sources, &lists)? } else { Vec::new() };
    context.screen.value(&json!({
        "decisions": arguments.decisions, "decisions_per_s": figures.per_s, "memo_hit_rate": figures.hit_rate,
        "uncached_us": figures.uncached_us, "match_ns": figures.match_ns, "cpu_s": figures.cpu_s, "rss_peak_bytes": rss,
        "values": figures.values, "list_entries": entries, "lists": lists.all().len(), "lists_load_ms": lists_ms, "table": table,
    }));
    Ok(())
}

/// Distinct values by folder of the corpus, in no order, as records come, and fresh in memory, as a value is that was decoded
/// a moment ago.
fn values(corpus: &Path, part: &str, sources: &mut Vec<Source>) -> Result<(), Failure> {
    let place = corpus.join(part);
    let at = |path: &Path, error: std::io::Error| Failure::environment(format!("{}: {error}", path.display()));
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&place).map_err(|error| at(&place, error))?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    for folder in folders {
        let mut seen = HashSet::new();
        let mut waiting = vec![folder.clone()];
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(&path).map_err(|error| at(&path, error))?;
                waiting.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
            } else {
                read(&path, &mut seen).map_err(|error| at(&path, error))?;
            }
        }
        let name = folder.file_name().map(|name| format!("{part}/{}", name.to_string_lossy())).unwrap_or_default();
        // A copy in the set's own order: that is none.
        let values = seen.iter().cloned().collect();
        // Schemas and mapping tables have none.
        if !seen.is_empty() {
            sources.push(Source { name, values });
        }
    }
    Ok(())
}

/// Values of MISP attributes that are meant for detection, and of STIX patterns: every text in quotes that is a value. No
/// importer; what a line of a table needs to be about the right values.
fn read_json(json: &serde_json::Value, seen: &mut HashSet<Observable>) {
    match json {
        serde_json::Value::Object(map) => {
            let text = |name: &str| map.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            if map.get("to_ids") == Some(&json!(true)) {
                seen.extend(text("value").split('|').filter_map(|part| Observable::recognise(part).ok()));
            }
            seen.extend(text("pattern").split('\'').skip(1).step_by(2).filter_map(|part| Observable::recognise(part).ok()));
            map.values().for_each(|value| read_json(value, seen));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| read_json(item, seen)),
        _ => (),
    }
}

fn read(path: &Path, seen: &mut HashSet<Observable>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    if path.extension().is_some_and(|ending| ending == "gz") {
        flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes)?;
    } else {
        (&file).read_to_end(&mut bytes)?;
    }
    let name = path.to_string_lossy();
    let plain = name.trim_end_matches(".gz");
    if plain.ends_with(".json") || plain.ends_with(".stix2") {
        // Some are broken on purpose.
        if let Ok(json) = serde_json::from_slice(&bytes) {
            read_json(&json, seen);
        }
        return Ok(());
    }
    let mut reader = TextReader::new(Layout::of_name(&path.to_string_lossy()), None);
    let mut complaints = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        reader.line(line, &mut complaints, |one, _| seen.extend([one.value]));
        complaints.clear();
    }
    Ok(())
}

struct Figures {
    per_s: u64,
    hit_rate: f64,
    uncached_us: u64,
    match_ns: u64,
    cpu_s: f64,
    values: usize,
}

/// What varies from record to record of a feed.
struct Feeds {
    members: Vec<MemberId>,
    tags: Vec<Vec<String>>,
}

impl Feeds {
    fn new() -> Result<Self, Failure> {
        let members = (0..8).map(|number| format!("member-{number}").parse()).collect::<Result<_, _>>().map_err(Failure::usage)?;
        let tags = (0..50).map(|number| vec![format!("family-{number}"), format!("campaign-{}", number % 7)]).collect();
        Ok(Self { members, tags })
    }

    /// Tells `ask` the case that the `number`-th record makes: reports of a thousand records share what a report lends.
    fn case<T>(&self, number: usize, value: &Observable, lists: &Lists, ask: impl FnOnce(&Case<'_>) -> T) -> Option<T> {
        let report = number / 1_000;
        let member = number % 8;
        let listed = lists.of(value);
        let nobody = BTreeSet::new();
        let kind = if member < 4 { MemberKind::Vendor } else { MemberKind::Country };
        Some(ask(&Case {
            origin: Party { id: self.members.get(member)?, kind, country: None, standing: "good" },
            channel: ["c2", "phish", "malware"].get(report % 3)?,
            kind: Kind::Indicator,
            value_type: Some(value.kind()),
            role: Role::Attacker,
            usage: *[Use::Block, Use::Context].get(report % 2)?,
            tlp: Tlp::Green,
            audience: "federation",
            confidence: *[50, 60, 75, 80, 90].get(report % 5)?,
            tags: [&[], self.tags.get(report % 50)?],
            age_hours: (report % 72) as u32,
            expired: false,
            listed: &listed,
            disputed_by: &nobody,
            origins: 0,
        }))
    }
}

fn decide(sources: &[Source], lists: &Lists, decisions: usize) -> Result<Figures, Failure> {
    let all: Vec<&Observable> = sources.iter().flat_map(|source| &source.values).collect();
    let policy = Policy::parse("policy.cedar", Starter::National.policy()).map_err(Failure::environment)?;
    let feeds = Feeds::new()?;
    let value = |number: usize| all.get(number % all.len().max(1)).copied();
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut accepted = 0usize;
    for number in 0..decisions {
        let Some(value) = value(number) else { break };
        let verdict = feeds.case(number, value, lists, |case| policy.judge(case).verdict);
        accepted += usize::from(verdict == Some(Verdict::Accept));
    }
    let (took, cpu_s) = (begun.elapsed(), cpu_seconds() - cpu);
    if accepted == 0 || accepted == decisions {
        return Err(Failure::environment("the policies did not tell the values apart, so this measured nothing"));
    }
    let (hits, misses) = policy.memo_counts();
    let begun = Instant::now();
    let mut listed = 0usize;
    for number in 0..decisions.min(all.len()) {
        listed += value(number).map_or(0, |value| usize::from(!lists.of(value).is_empty()));
    }
    let match_ns = begun.elapsed().as_nanos() as u64 / decisions.min(all.len()).max(1) as u64;
    if listed == 0 {
        return Err(Failure::environment("no value is on any list"));
    }
    let begun = Instant::now();
    for number in 0..UNCACHED {
        let Some(value) = value(number) else { break };
        let cedar = feeds.case(number, value, lists, |case| policy.evaluate(case));
        let memo = feeds.case(number, value, lists, |case| policy.judge(case));
        if cedar.as_ref() != memo.as_deref() {
            return Err(Failure::environment("the memo and Cedar disagree"));
        }
    }
    let uncached_us = begun.elapsed().as_micros() as u64 / UNCACHED as u64;
    Ok(Figures {
        per_s: (decisions as f64 / took.as_secs_f64()) as u64,
        hit_rate: hits as f64 / (hits + misses) as f64,
        uncached_us,
        match_ns,
        cpu_s,
        values: all.len(),
    })
}

/// What became of one folder's values under one starter set.
#[derive(serde::Serialize)]
struct TableLine {
    starter: String,
    source: String,
    values: usize,
    /// Verdict and deciding policies, with how many values met them.
    outcomes: BTreeMap<String, usize>,
    /// May block at an own outlet, on the word of one sure source.
    enforceable: usize,
    /// On a list that keeps them from being enforced.
    protected: usize,
}

/// As an importer brings it: a country imports the folder, sure (80) and to be blocked.
fn tables(context: &Context, sources: &[Source], lists: &Lists) -> Result<Vec<TableLine>, Failure> {
    let member: MemberId = "xa-agency".parse().map_err(Failure::usage)?;
    let (nobody, outlet) = (BTreeSet::new(), OutletName { name: "firewall", kind: OutletKind::Own });
    let mut lines = Vec::new();
    for starter in Starter::ALL {
        let policy = Policy::parse("policy.cedar", starter.policy()).map_err(Failure::environment)?;
        for source in sources {
            let mut line = TableLine {
                starter: starter.to_string(),
                source: source.name.clone(),
                values: source.values.len(),
                outcomes: BTreeMap::new(),
                enforceable: 0,
                protected: 0,
            };
            for value in &source.values {
                let listed = lists.of(value);
                let case = Case {
                    origin: Party { id: &member, kind: MemberKind::Country, country: Some("XA"), standing: "good" },
                    channel: "indicators",
                    kind: Kind::Indicator,
                    value_type: Some(value.kind()),
                    role: Role::Attacker,
                    usage: Use::Block,
                    tlp: Tlp::Green,
                    audience: "federation",
                    confidence: CONFIDENCE_UNSAID,
                    tags: [&[], &[]],
                    age_hours: 0,
                    expired: false,
                    listed: &listed,
                    disputed_by: &nobody,
                    origins: 1,
                };
                let judged = policy.judge(&case);
                *line.outcomes.entry(format!("{} by {}", judged.verdict, judged.policies.join(", "))).or_default() += 1;
                let protected = lists.protecting(value, false).next().is_some() || crate::enforce::shape(value).is_err();
                line.protected += usize::from(protected);
                let sure = policy.enforces(&Case { confidence: 80, ..case }, outlet).permitted;
                line.enforceable += usize::from(sure && !protected && judged.verdict == Verdict::Accept);
            }
            let outcomes: Vec<String> = line.outcomes.iter().map(|(what, count)| format!("{} {what}", grouped(*count as u64))).collect();
            context.screen.line(&format!(
                "{starter:<9} {:<22} {:>8} values: {}; {} may be enforced when their author is sure, {} are protected",
                line.source,
                grouped(line.values as u64),
                outcomes.join(", "),
                grouped(line.enforceable as u64),
                grouped(line.protected as u64)
            ));
            lines.push(line);
        }
    }
    Ok(lines)
}
