//! `huecry export`: what is known, in the formats of others.

use super::{
    Context, Failure,
    client::{Client, Onward},
    query::Filter,
};
use crate::{
    clock::Clock,
    exchange::{About, DETECT_BYTES, Entry, Format, Layout, MispLine, Reader, TextReader, Tool, misp_event},
    http::{EntryLine, QueryParameters},
    node::delivery::{Delivery, SID_FIRST, Shelf},
    record::{Timestamp, TypeName},
};
use std::{
    collections::BTreeMap,
    io::{BufWriter, Read as _, Write},
    path::{Path, PathBuf},
};

/// Most attributes of a feed: they are gathered by event, some 600 MB of them.
const FEED_ATTRIBUTES_MAX: u64 = 2_000_000;

/// Write what is known as csv, json (a record a line), ecs (Elastic Common Schema), stix (a bundle), list (a value a line), or misp
/// (a directory that is a feed); with --outlet what that one may act on, also as rpz, nftables, suricata, zeek or hosts.
#[derive(clap::Args)]
#[command(after_help = "Without a filter: every indicator that stands here and that you may see. What tools act on comes through \
                        outlets, which policies decide about and a running node keeps fresh; see `huecry outlets`.\n\
                        --since takes 7d, 12h, a date, or the cursor that an export names at its end: then what came, was judged anew or \
                        renewed since is told, and, in csv, json and stix, what does not stand any more.")]
pub struct Arguments {
    /// csv, json, ecs, stix, list or misp; with --outlet also rpz, nftables, suricata, zeek or hosts.
    format: String,
    /// What this outlet enforces now, by policy and orders, instead of all that is known.
    #[arg(long, value_name = "NAME")]
    outlet: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// With stix: each record's signed head and proof, so that its author's word can be checked wherever the bundle goes.
    #[arg(long)]
    proofs: bool,
    /// Write to this file, or for misp and tools this directory, once it is complete and has been read back; standard output unless said, where
    /// what acts on a screen is made visible.
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { format, outlet, mut filter, proofs, output } = arguments;
    let after = filter.since.take_if(|since| is_cursor(since));
    let mut parameters = filter.parameters()?;
    (parameters.format, parameters.proofs) = (Some(format.clone()), proofs);
    (parameters.outlet, parameters.after) = (outlet, after);
    if format == "misp" {
        let directory = output.ok_or_else(|| Failure::usage("a MISP feed is a directory; name it with --output"))?;
        return feed(context, &parameters, &directory);
    }
    if let Some(tool) = Tool::ALL.iter().find(|tool| **tool != Tool::List && tool.name() == format) {
        let directory = output.ok_or_else(|| Failure::usage("what a tool reads are files; name a directory for them with --output"))?;
        return for_tool(context, parameters, *tool, &directory);
    }
    let aside = output.as_ref().map(|path| {
        let mut name = path.clone().into_os_string();
        name.push(".new");
        PathBuf::from(name)
    });
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match &aside {
        Some(path) => Box::new(std::fs::File::create(path).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?),
        None => Box::new(std::io::stdout()),
    });
    let Onward { cursor, erased } = Client::with(&context.data, async |client| {
        let mut shown = Shown::default();
        let write = |piece: &[u8]| {
            // A file is for programs; what goes to standard output may come before eyes.
            let written = if output.is_some() { out.write_all(piece) } else { out.write_all(shown.take(piece).as_bytes()) };
            written.map_err(Failure::environment)
        };
        client.pieces("/v1/export", &parameters, write).await
    })?;
    out.flush().map_err(Failure::environment)?;
    drop(out);
    if let (Some(aside), Some(path)) = (&aside, &output) {
        let count = read_back(&format, aside)?;
        let done = std::fs::File::open(aside).and_then(|file| file.sync_all()).and_then(|()| std::fs::rename(aside, path));
        done.map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
        context.screen.line(&format!("{}: {} records, read back", path.display(), super::print::grouped(count)));
        context.screen.value(&serde_json::json!({ "file": path, "records": count, "cursor": cursor }));
    }
    if erased {
        context.screen.note("records were erased since, of which nothing is left to be told: take everything once more");
    }
    if parameters.after.is_some() && !matches!(format.as_str(), "csv" | "json" | "stix") {
        context.screen.note(&format!("{format} has no word for what was taken back since; csv, json and stix have"));
    }
    if let Some(cursor) = cursor.filter(|_| parameters.outlet.is_none()) {
        context.screen.note(&format!("what comes after this: the same with --since {cursor}"));
    }
    Ok(())
}

/// Whether a text is the cursor of an export, and no time.
fn is_cursor(text: &str) -> bool {
    let counts = |rest: &str| rest.split_once('-').is_some_and(|(counts, _)| counts.split('.').all(|count| count.parse::<u64>().is_ok()));
    text.strip_prefix(['c', 'v']).is_some_and(counts)
}

/// Gathers the lines of what comes in pieces.
fn lines(mut take: impl FnMut(&[u8]) -> Result<(), Failure>) -> impl FnMut(&[u8]) -> Result<(), Failure> {
    let mut rest = Vec::new();
    move |mut piece| {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, tail) = piece.split_at(end);
            rest.extend_from_slice(line);
            take(&std::mem::take(&mut rest))?;
            piece = tail.get(1..).unwrap_or_default();
        }
        rest.extend_from_slice(piece);
        Ok(())
    }
}

/// Writes what an outlet holds for a tool, under the outlet's name, as the node writes its own: aside, read back, renamed.
fn for_tool(context: &Context, mut parameters: QueryParameters, tool: Tool, directory: &Path) -> Result<(), Failure> {
    let name = parameters.outlet.clone().ok_or_else(|| {
        Failure::usage(format!("{} is for a tool that acts on it, so it is an outlet's; name it with --outlet", tool.name()))
    })?;
    parameters.format = Some("entries".to_owned());
    let mut entries: Vec<Entry> = Vec::new();
    let take = |line: &[u8]| {
        let line: EntryLine = serde_json::from_slice(line).map_err(Failure::environment)?;
        let value = line.kind.parse::<TypeName>().map_err(Failure::environment)?.read(&line.value).map_err(Failure::environment)?;
        let until = Timestamp::from_ms(line.until).ok_or_else(|| Failure::environment("an entry ends at no time"))?;
        entries.push(Entry { value, below: line.below, until, watched: line.watched });
        Ok(())
    };
    let outlets = Client::with(&context.data, async |client| {
        client.pieces("/v1/export", &parameters, lines(take)).await?;
        client.get::<Vec<crate::node::enforcer::OutletLine>>("/v1/outlets", &()).await
    })?;
    let blocks = outlets.iter().find(|outlet| outlet.name == name).is_some_and(|outlet| outlet.usage == "block");
    let watches = matches!(tool, Tool::Rpz | Tool::Nftables | Tool::Suricata);
    entries.retain(|entry| watches || !entry.watched);
    entries.sort();
    let (count, watched) = (entries.len() as u64, entries.iter().filter(|entry| entry.watched).count() as u64);
    let now = Clock::System.now();
    let mut shelf = Shelf::new(directory, &name, blocks, Delivery { tool, reload: Vec::new(), sid: SID_FIRST });
    // Seconds since 1970: it never goes back.
    shelf.write(entries, now.ms() / 1_000, now).map_err(Failure::environment)?;
    let (count_text, file) = (super::print::grouped(count - watched), shelf.file());
    context.screen.line(&format!("{}: {count_text} lines enforced, {} watched, read back", file.display(), super::print::grouped(watched)));
    for (why, count) in &shelf.left {
        context.screen.line(&format!("  {count} left out: {why}"));
    }
    context.screen.value(&serde_json::json!({ "file": file, "records": count - watched, "watched": watched, "left": shelf.left }));
    Ok(())
}

/// Text as it may be shown, cut anywhere: a character that stands on two pieces is shown with the second.
#[derive(Default)]
struct Shown {
    rest: Vec<u8>,
}

impl Shown {
    fn take(&mut self, piece: &[u8]) -> String {
        self.rest.extend_from_slice(piece);
        let end = match std::str::from_utf8(&self.rest) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let text = String::from_utf8(whole).unwrap_or_default();
        text.split_inclusive('\n').fold(String::with_capacity(text.len()), |mut shown, line| {
            match line.strip_suffix('\n') {
                Some(line) => {
                    shown.push_str(&super::print::visible(line));
                    shown.push('\n');
                }
                None => shown.push_str(&super::print::visible(line)),
            }
            shown
        })
    }
}

/// Writes a MISP feed: an event a file, a manifest, and hashes of the values. Events that are no more are removed; the manifest comes
/// last, so that it never names a file that is not there.
fn feed(context: &Context, parameters: &QueryParameters, directory: &Path) -> Result<(), Failure> {
    let (mut events, mut count) = (BTreeMap::<String, (MispLine, Vec<serde_json::Value>)>::new(), 0u64);
    let take = |line: &[u8]| {
        let mut line: MispLine = serde_json::from_slice(line).map_err(Failure::environment)?;
        let attribute = line.attribute.take();
        count += 1;
        if count > FEED_ATTRIBUTES_MAX {
            return Err(Failure::usage("the feed would have more than 2,000,000 attributes; ask more narrowly, or for several feeds"));
        }
        // The newest record of a report dates its event, and the narrowest marks it.
        let (first, attributes) = events.entry(line.event.clone()).or_insert_with(|| (line.clone(), Vec::new()));
        (first.signed, first.tlp) = (first.signed.max(line.signed), first.tlp.max(line.tlp));
        attributes.push(attribute);
        Ok(())
    };
    Client::with(&context.data, async |client| client.pieces("/v1/export", parameters, lines(take)).await)?;
    let failed = |error: std::io::Error| Failure::environment(format!("{}: {error}", directory.display()));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let put = |name: &str, text: &str| {
        let (aside, path) = (directory.join(format!("{name}.new")), directory.join(name));
        let write = || {
            let mut file = std::fs::File::create(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&aside, &path)
        };
        write().map_err(failed)
    };
    let (mut manifest, mut hashes) = (serde_json::Map::new(), String::new());
    for (uuid, (first, attributes)) in &events {
        let (event, listed) = misp_event(first, attributes);
        put(&format!("{uuid}.json"), &event.to_string())?;
        if read_back("misp", &directory.join(format!("{uuid}.json")))? < attributes.len() as u64 {
            return Err(Failure::environment(format!("{uuid}.json does not read back as it was meant; the manifest was not replaced")));
        }
        manifest.insert(uuid.clone(), listed);
        for attribute in attributes.iter().filter(|attribute| attribute.get("deleted") != Some(&serde_json::json!(true))) {
            let text = |name: &str| attribute.get(name).and_then(|value| value.as_str()).unwrap_or_default();
            // Each part of a value of two parts is found by itself.
            let parts: Vec<&str> = if text("type").contains('|') { text("value").split('|').collect() } else { vec![text("value")] };
            parts.iter().for_each(|part| hashes.push_str(&format!("{},{uuid}\n", md5_of(part))));
        }
    }
    put("hashes.csv", &hashes)?;
    put("manifest.json", &serde_json::Value::Object(manifest).to_string())?;
    for entry in std::fs::read_dir(directory).map_err(failed)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let uuid = name.strip_suffix(".json").filter(|uuid| uuid.len() == 36);
        if uuid.is_some_and(|uuid| !events.contains_key(uuid)) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    context.screen.line(&format!(
        "{}: {} events, {} attributes, read back",
        directory.display(),
        events.len(),
        super::print::grouped(count)
    ));
    context.screen.value(&serde_json::json!({ "file": directory, "records": count, "events": events.len() }));
    Ok(())
}

fn md5_of(text: &str) -> String {
    use md5::Digest as _;
    hex::encode(md5::Md5::digest(text.as_bytes()))
}

/// Reads an export as whoever receives it would. Answers how many records it holds.
fn read_back(format: &str, path: &Path) -> Result<u64, Failure> {
    let failed = |why: String| Failure::environment(format!("{}: {why}; nothing was replaced", path.display()));
    let mut file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    if format == "list" {
        let mut text = std::io::BufRead::lines(std::io::BufReader::new(file));
        return text.try_fold(0, |count, line| line.map(|_| count + 1).map_err(|error| failed(error.to_string())));
    }
    if matches!(format, "json" | "ecs") {
        let lines = std::io::BufRead::lines(std::io::BufReader::new(file));
        return lines.zip(1..).try_fold(0, |count, (line, number)| {
            let line = line.map_err(|error| failed(error.to_string()))?;
            serde_json::from_str::<serde::de::IgnoredAny>(&line).map_err(|error| failed(format!("line {number}: {error}")))?;
            Ok(count + 1)
        });
    }
    let (format, layout) = match format {
        "stix" => (Format::Stix, Layout::Plain),
        "misp" => (Format::Misp, Layout::Plain),
        "csv" => (Format::Text(Layout::Csv), Layout::Csv),
        _ => (Format::Text(Layout::Plain), Layout::Plain),
    };
    let about = About { format, title: String::new(), text: TextReader::new(layout, None), subdomains: false };
    let mut start = vec![0; DETECT_BYTES];
    let length = file.read(&mut start).map_err(|error| failed(error.to_string()))?;
    start.truncate(length);
    let mut reader = Reader::new(&about, &start);
    let mut count = 0;
    let mut buffer = vec![0; DETECT_BYTES];
    loop {
        std::io::Seek::rewind(&mut file).map_err(|error| failed(error.to_string()))?;
        loop {
            let length = file.read(&mut buffer).map_err(|error| failed(error.to_string()))?;
            reader.feed(buffer.get(..length).unwrap_or_default()).map_err(|error| failed(error.to_string()))?;
            let given = reader.take();
            count += given.said.len() as u64;
            if let Some(complaint) = given.complaints.first() {
                return Err(failed(format!("line {}: {}", complaint.line, complaint.why)));
            }
            if length == 0 {
                break;
            }
        }
        let again = reader.end_pass().map_err(|error| failed(error.to_string()))?;
        count += reader.take().said.len() as u64;
        if !again {
            return Ok(count);
        }
    }
}
