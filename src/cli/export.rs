//! `huecry export`: what is known, in the formats of others.

use super::{Context, Failure, client::Client, query::Filter};
use crate::exchange::{About, DETECT_BYTES, Format, Layout, Reader, TextReader};
use std::{
    io::{BufWriter, Read as _, Write},
    path::{Path, PathBuf},
};

/// Write what is known as csv, json (a record a line), ecs (Elastic Common Schema), stix (a bundle) or list (a value a line).
#[derive(clap::Args)]
#[command(after_help = "Without a filter: every indicator that stands here and that you may see. What tools act on comes through \
                        outlets, which policies decide about; see `huecry outlets`.")]
pub struct Arguments {
    /// csv, json, ecs, stix or list.
    format: String,
    #[command(flatten)]
    filter: Filter,
    /// Write to this file, once it is complete and has been read back; standard output unless said.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { format, filter, output } = arguments;
    let mut parameters = filter.parameters()?;
    parameters.format = Some(format.clone());
    let aside = output.as_ref().map(|path| {
        let mut name = path.clone().into_os_string();
        name.push(".new");
        PathBuf::from(name)
    });
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match &aside {
        Some(path) => Box::new(std::fs::File::create(path).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?),
        None => Box::new(std::io::stdout()),
    });
    let cursor = Client::with(&context.data, async |client| {
        client.pieces("/v1/export", &parameters, |piece| out.write_all(piece).map_err(Failure::environment)).await
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
    if let Some(cursor) = cursor {
        context.screen.note(&format!("what comes after this: the same with --since {cursor}"));
    }
    Ok(())
}

/// Reads an export as whoever receives it would. Answers how many records it holds.
fn read_back(format: &str, path: &Path) -> Result<u64, Failure> {
    let failed = |why: String| Failure::environment(format!("{}: {why}; nothing was replaced", path.display()));
    let mut file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
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
