//! `huecry bench exchange`: files in from others' formats, exports out for tools, and hostile values through every writer.
//!
//! Imports end with the last fsync, over the local window as for anybody. Exports are written aside, read back by the tool's
//! grammar, compared and renamed, as an outlet's are. Memory is the process's peak after each import.

use super::{Place, WIDE, new_node, rate};
use crate::{
    cli::{Context, Failure, client::Client, print::grouped, runtime},
    clock::Clock,
    exchange::{About, Entry, Format, Layout, Reader, Sheet, TextReader, Tool, nftables_delta},
    http::{PublishParameters, PublishReply},
    node::{
        delivery::{Delivery, Shelf},
        membership::{self, IMPORTED},
        setup,
    },
    record::{DAY_MS, Observable, ObservableType, Timestamp},
    sim::listed_value,
};
use axum::body::{Body, Bytes};
use serde_json::json;
use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

/// Measure what comes in from others' formats and goes out to tools.
#[derive(clap::Args)]
pub struct Arguments {
    /// Indicators of the STIX bundle.
    #[arg(long, default_value_t = 300_000)]
    stix: u64,
    /// Lines of the list.
    #[arg(long, default_value_t = 1_000_000)]
    lines: u64,
    /// Values of each export.
    #[arg(long, default_value_t = 1_000_000)]
    values: u64,
    /// Hostile texts that go through every exporter.
    #[arg(long, default_value_t = 1_000_000)]
    hostile: u64,
}

/// Pieces in which a file is made and sent: it is never in memory as a whole.
const PIECE: u64 = 2_000;

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { stix, lines, values, hostile } = *arguments;
    let list = import(lines, "list", |from, to| (from..to).map(|number| format!("{}\n", listed_value(number))).collect())?;
    let bundle = import(stix, "stix", move |from, to| stix_piece(from, to, stix))?;
    let read_per_s = read_alone(lines)?;
    let (rpz, _) = export(Tool::Rpz, values)?;
    let (nftables, delta) = export(Tool::Nftables, values)?;
    let (texts, through) = torment(hostile)?;
    let per_s = |figures: &Import| rate(figures.records, figures.took);
    for (what, figures) in [("list", &list), ("STIX", &bundle)] {
        context.screen.line(&format!(
            "{what} import: {} in {:.2} s: {}/s, {:.2} s of CPU, {} MiB at most",
            grouped(figures.records),
            figures.took.as_secs_f64(),
            grouped(per_s(figures)),
            figures.cpu_s,
            figures.peak_mib
        ));
    }
    context.screen.line(&format!("the list's lines read alone, on one core: {}/s", grouped(read_per_s)));
    context.screen.line(&format!(
        "export of {}: RPZ {:.2} s, nftables {:.2} s; a change of 1 000 in {:.1} ms",
        grouped(values),
        rpz.as_secs_f64(),
        nftables.as_secs_f64(),
        delta.as_secs_f64() * 1e3
    ));
    context.screen.line(&format!(
        "hostile: {} texts, {} values, through 6 exporters each: all read back, nothing else",
        grouped(texts),
        grouped(through)
    ));
    context.screen.value(&json!({
        "list_read_per_s": read_per_s, "list_import_per_s": per_s(&list), "list_import_peak_mib": list.peak_mib, "stix_import_per_s": per_s(&bundle), "stix_import_peak_mib": bundle.peak_mib,
        "rpz_export_s": rpz.as_secs_f64(), "nftables_export_s": nftables.as_secs_f64(), "delta_ms": delta.as_secs_f64() * 1e3,
        "hostile_texts": texts, "hostile_values": through,
    }));
    Ok(())
}

struct Import {
    records: u64,
    took: Duration,
    cpu_s: f64,
    peak_mib: u64,
}

/// Imports `count` values that `piece` writes, in a node of its own.
fn import(count: u64, format: &str, piece: impl Fn(u64, u64) -> String + Send + Sync + 'static) -> Result<Import, Failure> {
    let place = Place::new(None)?;
    let data = place.path.join("node");
    let new = new_node("bench-vendor")?;
    setup::init(&data, &new)?;
    membership::found(&data, &new, "bench", WIDE, Clock::System.now())?;
    let word = |text: &str| Some(text.to_owned());
    let parameters = PublishParameters {
        channel: IMPORTED.to_owned(),
        tlp: word("green"),
        title: "bench".to_owned(),
        format: word(format),
        confidence: Some(50),
        valid_days: Some(30),
        ..PublishParameters::default()
    };
    let pieces = (0..count.div_ceil(PIECE)).map(move |at| piece(at * PIECE, ((at + 1) * PIECE).min(count)));
    let body = Body::from_stream(futures::stream::iter(pieces.map(|text| Ok::<_, Infallible>(Bytes::from(text)))));
    runtime()?.block_on(async {
        let client = Client::open(&data).await?;
        let (begun, cpu) = (Instant::now(), super::cpu_seconds());
        let reply: PublishReply = client.stream("/v1/publish", &parameters, body).await?;
        let (took, cpu_s) = (begun.elapsed(), super::cpu_seconds() - cpu);
        client.close().await?;
        if reply.records != count || reply.complaints > 0 {
            return Err(Failure::environment(format!("{} of {count} were taken, {} complaints", reply.records, reply.complaints)));
        }
        Ok(Import { records: count, took, cpu_s, peak_mib: super::rss_peak_bytes() >> 20 })
    })
}

/// Lines of a list a second that become values, without a node behind them.
fn read_alone(count: u64) -> Result<u64, Failure> {
    let text = TextReader::new(Layout::Plain, None);
    let mut reader = Reader::new(&About { format: Format::Text(Layout::Plain), title: String::new(), text, subdomains: false }, &[]);
    let (mut took, mut found) = (Duration::ZERO, 0);
    for at in 0..count.div_ceil(PIECE) {
        let text: String = (at * PIECE..((at + 1) * PIECE).min(count)).map(|number| format!("{}\n", listed_value(number))).collect();
        let begun = Instant::now();
        reader.feed(text.as_bytes()).map_err(Failure::environment)?;
        found += reader.take().said.len() as u64;
        took += begun.elapsed();
    }
    if found == count { Ok(rate(count, took)) } else { Err(Failure::environment(format!("{found} of {count} lines were read"))) }
}

fn stix_piece(from: u64, to: u64, count: u64) -> String {
    let mut text = if from == 0 {
        "{\"type\":\"bundle\",\"id\":\"bundle--0a0a0a0a-0000-4000-8000-000000000000\",\"objects\":[".to_owned()
    } else {
        String::new()
    };
    for number in from..to {
        let value = listed_value(number);
        let path = match Observable::recognise(&value).map(|value| value.kind()) {
            Ok(ObservableType::Ipv4) => "ipv4-addr:value",
            Ok(ObservableType::Url) => "url:value",
            Ok(ObservableType::Sha256) => "file:hashes.'SHA-256'",
            _ => "domain-name:value",
        };
        let comma = if number + 1 < count { "," } else { "]}" };
        text.push_str(&format!(
            "\n{{\"type\":\"indicator\",\"spec_version\":\"2.1\",\"id\":\"indicator--0a0a0a0a-0000-4000-8000-{number:012}\",\"created\":\"2026-01-01T00:00:00.000Z\",\
             \"modified\":\"2026-01-01T00:00:00.000Z\",\"name\":\"Indicator {number}\",\"indicator_types\":[\"malicious-activity\"],\
             \"pattern\":\"[{path} = '{value}']\",\"pattern_type\":\"stix\",\"pattern_version\":\"2.1\",\"valid_from\":\"2026-01-01T00:00:00Z\"}}{comma}"
        ));
    }
    text
}

/// Writes, reads back and puts in place an export of so many values. For nftables, also what it takes to write a change of 1,000.
fn export(tool: Tool, count: u64) -> Result<(Duration, Duration), Failure> {
    let place = Place::new(None)?;
    let now = Clock::System.now();
    let until = now.plus_ms(30 * DAY_MS);
    let entry = |number: u64| {
        let value = match tool {
            Tool::Rpz => Observable::from_text(ObservableType::Domain, &format!("n{number}.evil.example")),
            // Documentation holds no million addresses; what is written is never loaded.
            _ => Ok(Observable::of_address(
                std::net::Ipv4Addr::from(0xc000_0200_u32.wrapping_add(u32::try_from(number).unwrap_or(u32::MAX))).into(),
            )),
        };
        value.map(|value| Entry { value, below: false, until, watched: false }).map_err(Failure::environment)
    };
    let mut entries = (0..count + 500).map(entry).collect::<Result<Vec<_>, _>>()?;
    let (after, mut before) = (entries.clone(), entries);
    before.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    entries = after.get(500..).unwrap_or_default().to_vec();
    before.sort();
    entries.sort();
    let mut shelf = Shelf::new(&place.path, "bench", true, Delivery { tool, ..Delivery::default() });
    let begun = Instant::now();
    shelf.write(before.clone(), now.ms() / 1_000, now).and_then(|tell| tell.run()).map_err(Failure::environment)?;
    let took = begun.elapsed();
    let sheet = Sheet { name: "bench", serial: now.ms() / 1_000 + 1, now, blocks: true, sid: 1 };
    let begun = Instant::now();
    let delta = if tool == Tool::Nftables { nftables_delta(&before, &entries, &sheet) } else { String::new() };
    let delta_took = begun.elapsed();
    let changed = delta.lines().filter(|line| line.starts_with("    ")).count();
    // 500 come; 500 go, each put there first, in case it has ended by itself.
    if tool == Tool::Nftables && changed != 1_500 {
        return Err(Failure::environment(format!("{changed} lines change 1,000 elements, and not 1,500")));
    }
    Ok((took, delta_took))
}

/// Texts made to break out of a file, as values of every type that takes them, through every exporter.
fn torment(count: u64) -> Result<(u64, u64), Failure> {
    const PARTS: [&str; 32] = [
        "evil.example",
        "192.0.2.7",
        "2001:db8::7",
        "http://",
        "/",
        "\n",
        "\r",
        "\u{85}",
        "\u{2028}",
        "\"; sid:1; ) alert ip any any",
        "$INCLUDE /etc/passwd",
        " } ; flush ruleset #",
        "$(id)",
        "../../x",
        "*.",
        "'",
        "`",
        "\\",
        "\t",
        " ",
        "%0a",
        ":443",
        "@",
        "\u{202e}",
        "xn--",
        "#",
        "?a=b&c",
        ".rpz-ip",
        "=",
        "|",
        "ü",
        "a",
    ];
    let (now, mut through, mut state) = (Timestamp::default().plus_ms(1_790_000_000_000), 0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut next = || {
        // xorshift64: the same texts in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let sheet = Sheet { name: "bench", serial: 1, now, blocks: true, sid: 1 };
    let mut done = 0;
    while done < count {
        let mut entries = Vec::new();
        for _ in 0..10_000.min(count - done) {
            let parts = 1 + next() % 5;
            let text: String = (0..parts).map(|_| PARTS.get((next() % PARTS.len() as u64) as usize).copied().unwrap_or_default()).collect();
            let read = [Observable::recognise(&text), Observable::other_from_text("text", &text)];
            entries.extend(read.into_iter().flatten().map(|value| {
                let below = next() % 2 == 0 && value.kind() == ObservableType::Domain;
                Entry { value, below, until: now.plus_ms(DAY_MS), watched: next() % 4 == 0 }
            }));
            done += 1;
        }
        entries.sort();
        entries.dedup_by(|left, right| left.value == right.value);
        through += entries.len() as u64;
        for tool in Tool::ALL {
            tool.write(&entries, &sheet).reads_back(tool).map_err(|why| Failure::environment(format!("{}: {why}", tool.name())))?;
        }
    }
    Ok((done, through))
}
