//! `huecry bundle`: what would travel on streams, as a file.

use super::{Context, Failure, client::Client, print::grouped};
use crate::{
    http::{BundleParameters, ImportReply},
    replica::{BUNDLE_MAGIC, FRAME_BYTES_MAX, bundle_end},
};
use axum::body::Body;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Write what a member may have into a file, or take such a file in: for a diode, a USB stick, a first fill, a disaster.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Write charter, cards and batches into a file.
    Export {
        file: PathBuf,
        /// For this member: what it may have. Left out, all that is here, for ourselves.
        #[arg(long, value_name = "MEMBER")]
        to: Option<String>,
        /// Only batches since then; removals go in whatever their age.
        #[arg(long, value_name = "DATE")]
        since: Option<String>,
        /// Nothing above this marking.
        #[arg(long, value_name = "TLP")]
        max_tlp: Option<String>,
        /// Parts of at most so many MiB: FILE.1, FILE.2, ...
        #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
        split: Option<u64>,
    },
    /// Take bundles in, in any order; twice does no harm.
    Import {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Export { file, to, since, max_tlp, split } => export(context, &file, to, since, max_tlp, split),
        Verb::Import { files } => files.iter().try_for_each(|file| import(context, file)),
    }
}

fn export(
    context: &Context,
    file: &Path,
    to: Option<String>,
    since: Option<String>,
    tlp_max: Option<String>,
    split: Option<u64>,
) -> Result<(), Failure> {
    let parts = Client::with(&context.data, async |client| {
        let to = match to {
            Some(to) => to,
            None => {
                let status: Value = client.get("/v1/status", &json!({})).await?;
                status.get("member").and_then(Value::as_str).unwrap_or_default().to_owned()
            }
        };
        let mut parts = Parts::new(file, split)?;
        client.pieces("/v1/bundle", &BundleParameters { to, since, tlp_max }, |bytes| parts.push(bytes)).await?;
        parts.finish()
    })?;
    for (path, bytes) in &parts {
        context.screen.line(&format!("{}  {} bytes", path.display(), grouped(*bytes)));
    }
    context.screen.value(&parts.iter().map(|(path, bytes)| json!({ "file": path, "bytes": bytes })).collect::<Vec<_>>());
    context.screen.note("next: carry it over and run `huecry bundle import` there");
    Ok(())
}

/// Files that are being written; each is put in its place when it is whole.
struct Parts {
    file: PathBuf,
    bytes_max: Option<u64>,
    /// What came and is no whole frame yet.
    buffer: Vec<u8>,
    begun: bool,
    ended: bool,
    writing: Option<(BufWriter<File>, PathBuf, u64)>,
    done: Vec<(PathBuf, u64)>,
}

impl Parts {
    fn new(file: &Path, split_mib: Option<u64>) -> Result<Self, Failure> {
        let bytes_max = split_mib.map(|mib| mib.saturating_mul(1024 * 1024));
        let mut parts =
            Self { file: file.to_owned(), bytes_max, buffer: Vec::new(), begun: false, ended: false, writing: None, done: Vec::new() };
        parts.begin()?;
        Ok(parts)
    }

    fn begin(&mut self) -> Result<(), Failure> {
        let path = match self.bytes_max {
            Some(_) => PathBuf::from(format!("{}.{}", self.file.display(), self.done.len() + 1)),
            None => self.file.clone(),
        };
        let aside = PathBuf::from(format!("{}.new", path.display()));
        let file = File::create(&aside).map_err(|error| Failure::environment(format!("{}: {error}", aside.display())))?;
        self.writing = Some((BufWriter::new(file), path, 0));
        self.put(BUNDLE_MAGIC)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some((file, path, count)) = &mut self.writing else { return Ok(()) };
        *count += bytes.len() as u64;
        file.write_all(bytes).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))
    }

    fn end(&mut self, more: bool) -> Result<(), Failure> {
        self.put(&bundle_end(more))?;
        let Some((file, path, count)) = self.writing.take() else { return Ok(()) };
        let at = |error: std::io::Error| Failure::environment(format!("{}: {error}", path.display()));
        let file = file.into_inner().map_err(|error| at(error.into_error()))?;
        file.sync_all().map_err(at)?;
        std::fs::rename(format!("{}.new", path.display()), &path).map_err(at)?;
        self.done.push((path, count));
        Ok(())
    }

    /// Takes bytes of the whole bundle, and cuts between frames: a head and its body stay together, since a part begins with
    /// the frame that did not fit any more.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.buffer.extend_from_slice(bytes);
        if !self.begun && self.buffer.len() >= BUNDLE_MAGIC.len() {
            self.buffer.drain(..BUNDLE_MAGIC.len());
            self.begun = true;
        }
        let last = bundle_end(false);
        while self.begun {
            let Some(length) = self.buffer.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize + 4) else { break };
            if length > FRAME_BYTES_MAX + 4 {
                return Err(Failure::environment("the node sent something else than a bundle"));
            }
            if self.buffer.len() < length {
                break;
            }
            let frame: Vec<u8> = self.buffer.drain(..length).collect();
            if frame == last {
                self.ended = true;
                continue;
            }
            let is_body = frame.get(6) == Some(&(crate::replica::number::BODY as u8));
            let count = self.writing.as_ref().map_or(0, |(_, _, count)| *count);
            let full = self.bytes_max.is_some_and(|max| count + length as u64 + last.len() as u64 > max);
            if full && !is_body && count > BUNDLE_MAGIC.len() as u64 {
                self.end(true)?;
                self.begin()?;
            }
            self.put(&frame)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<(PathBuf, u64)>, Failure> {
        if !self.ended {
            return Err(Failure::environment("the node broke off before the end; nothing was put in place"));
        }
        self.end(false)?;
        Ok(self.done)
    }
}

fn import(context: &Context, path: &Path) -> Result<(), Failure> {
    let at = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(at)?.len();
    let file = File::open(path).map_err(at)?;
    let bar = context.screen.bar(length, &path.display().to_string());
    let reply: ImportReply = Client::with(&context.data, async |client| {
        let body = Body::from_stream(super::publish::pieces_of(Box::new(file), bar.clone()));
        client.stream("/v1/bundle", &json!({}), body).await
    })
    .map_err(|error| Failure { text: format!("{}: {}", path.display(), error.text), ..error })?;
    bar.finish_and_clear();
    let screen = &context.screen;
    screen.value(&reply);
    screen.line(&format!(
        "{}: {} batches, {} of them new here; {} documents",
        path.display(),
        grouped(reply.batches),
        grouped(reply.new),
        grouped(reply.documents)
    ));
    for (code, (count, first)) in &reply.refused {
        screen.line(&format!("  not let in: {} ({code}): {first}", grouped(*count)));
    }
    if reply.more {
        screen.note("more parts of it follow");
    }
    match reply.broken {
        Some(why) => Err(Failure::usage(format!("{}: {why}", path.display()))),
        None => Ok(()),
    }
}
