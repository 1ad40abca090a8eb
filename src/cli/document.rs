//! `huecry document`: rule packs, reports, training material, with contents of up to 256 MiB.

use super::{Context, Failure, client::Client, print::grouped};
use crate::{
    http::{DocumentLine, DocumentNamed, DocumentPublished, DocumentsFilter, DocumentsReply, NewDocument},
    node::membership::INDICATORS,
};
use axum::body::Body;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a fetch is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Publish a document, see which there are, fetch the content of one when it is wanted.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Publish a file: short text in its record, anything else as a content that readers fetch.
    Publish {
        file: PathBuf,
        /// The file's name unless said.
        #[arg(long)]
        title: Option<String>,
        /// Such as application/yara; by the file's ending unless said.
        #[arg(long, value_name = "TYPE")]
        media_type: Option<String>,
        #[arg(long)]
        description: Option<String>,
        /// Tags, separated by commas.
        #[arg(long)]
        tags: Option<String>,
        /// Records that it belongs to, separated by commas.
        #[arg(long, value_name = "REF")]
        about: Option<String>,
        #[arg(long, default_value = INDICATORS)]
        channel: String,
        /// clear, green, amber, amber+strict or red.
        #[arg(long, default_value = "green")]
        tlp: String,
        /// Publish although no other member has told this node its own last head since the start.
        #[arg(long)]
        alone: bool,
        /// Publish text copied word for word from a record with a stricter marking.
        #[arg(long)]
        anyway: bool,
    },
    /// Documents that are here, the newest first.
    List {
        /// Also what is held, refused, withdrawn or over.
        #[arg(long)]
        all: bool,
    },
    /// Fetch the content of a document from whoever may give it.
    Fetch {
        #[arg(value_name = "REF")]
        what: String,
        /// Write it to this file when it is here.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Do not wait for it.
        #[arg(long, conflicts_with = "to")]
        no_wait: bool,
    },
    /// Write the content of a document that is here to a file.
    Save {
        #[arg(value_name = "REF")]
        what: String,
        file: PathBuf,
    },
    /// Remove a content here, or fetch it no more. The document itself stays.
    Drop {
        #[arg(value_name = "REF")]
        what: String,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        None => list(context, false),
        Some(Verb::List { all }) => list(context, all),
        Some(Verb::Publish { file, title, media_type, description, tags, about, channel, tlp, alone, anyway }) => {
            let name = file.file_name().map_or_else(|| "document".to_owned(), |name| name.to_string_lossy().into_owned());
            let media_type = media_type.unwrap_or_else(|| by_ending(&name).to_owned());
            let title = title.unwrap_or(name);
            let about = NewDocument { channel, tlp, title, media_type, description, language: None, tags, targets: about, alone, anyway };
            publish(context, &file, &about)
        }
        Some(Verb::Fetch { what, to, no_wait }) => fetch(context, &what, to.as_deref(), no_wait),
        Some(Verb::Save { what, file }) => Client::with(&context.data, async |client| save(context, client, &what, &file).await),
        Some(Verb::Drop { what }) => {
            let named = DocumentNamed { what };
            let done: DocumentNamed = Client::with(&context.data, async |client| client.post("/v1/documents/drop", &named).await)?;
            context.screen.value(&done);
            context.screen.line(&format!("the content of {} is not kept here any more", done.what));
            Ok(())
        }
    }
}

fn by_ending(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("yar" | "yara") => "application/yara",
        Some("yml" | "yaml") => "application/yaml",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("md") => "text/markdown",
        Some("txt" | "rules" | "log") => "text/plain",
        Some("zip") => "application/zip",
        _ => "application/octet-stream",
    }
}

fn publish(context: &Context, path: &Path, about: &NewDocument) -> Result<(), Failure> {
    let at = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(at)?.len();
    let file = File::open(path).map_err(at)?;
    let bar = context.screen.bar(length, &path.display().to_string());
    let reply: DocumentPublished = Client::with(&context.data, async |client| {
        let body = Body::from_stream(super::publish::pieces_of(Box::new(file), bar.clone()));
        client.stream("/v1/documents", about, body).await
    })?;
    bar.finish_and_clear();
    let screen = &context.screen;
    screen.value(&reply);
    match (&reply.reference, &reply.content) {
        (None, _) => screen.line("queued; nothing is signed yet"),
        (Some(reference), None) => screen.line(&format!("{reference}  {} bytes, in the record itself", grouped(reply.length))),
        (Some(reference), Some(root)) => {
            screen.line(&format!("{reference}  {} bytes, fetched on demand", grouped(reply.length)));
            screen.note(&format!("root of its chunks: {root}"));
        }
    }
    Ok(())
}

fn list(context: &Context, all: bool) -> Result<(), Failure> {
    let filter = DocumentsFilter { what: None, all };
    let reply: DocumentsReply = Client::with(&context.data, async |client| client.get("/v1/documents", &filter).await)?;
    let screen = &context.screen;
    screen.value(&reply);
    for line in &reply.documents {
        let standing = if line.standing == "accepted" { String::new() } else { format!("  {}: {}", line.standing, line.reason) };
        screen.line(&format!(
            "{}  {}  {}  {}  {} bytes, {}{standing}",
            line.reference,
            line.title,
            line.media_type,
            line.tlp,
            grouped(line.length),
            state(line)
        ));
    }
    if reply.not_shown > 0 {
        screen.note(&format!("not shown: {} that are held, refused, withdrawn or over; --all shows them", reply.not_shown));
    }
    screen.note(&format!("contents take {} of {} bytes", grouped(reply.room_used), grouped(reply.room)));
    if reply.documents.is_empty() { Err(Failure::nothing("no document is here")) } else { Ok(()) }
}

fn state(line: &DocumentLine) -> String {
    match line.state.as_str() {
        "fetching" => format!("fetching, {} % here", line.here * 100 / line.length.max(1)),
        other => other.to_owned(),
    }
}

fn fetch(context: &Context, what: &str, to: Option<&Path>, no_wait: bool) -> Result<(), Failure> {
    let screen = &context.screen;
    let line: DocumentLine = Client::with(&context.data, async |client| {
        let named = DocumentNamed { what: what.to_owned() };
        let mut line: DocumentLine = client.post("/v1/documents/fetch", &named).await?;
        let status: Value = client.get("/v1/status", &json!({})).await?;
        let running = status.get("running").and_then(Value::as_bool).unwrap_or(false);
        let bar = screen.bar(line.length, what);
        while running && !no_wait && line.state == "fetching" {
            tokio::time::sleep(POLL).await;
            let filter = DocumentsFilter { what: Some(what.to_owned()), all: false };
            let reply: DocumentsReply = client.get("/v1/documents", &filter).await?;
            line = reply.documents.into_iter().next().ok_or_else(|| Failure::nothing(format!("{what} is gone")))?;
            bar.set_position(line.here);
        }
        bar.finish_and_clear();
        if let Some(file) = to.filter(|_| line.state != "fetching") {
            save(context, client, what, file).await?;
        }
        if line.state == "not fetched" {
            return Err(Failure::environment(format!("the fetch of {what} was given up meanwhile; see `huecry document list`")));
        }
        Ok(line)
    })?;
    screen.value(&line);
    screen.line(&format!("{}  {}  {} bytes, {}", line.reference, line.title, grouped(line.length), state(&line)));
    if line.state == "fetching" {
        screen.note("it goes on while the node runs, over restarts too");
    }
    Ok(())
}

async fn save(context: &Context, client: &Client, what: &str, path: &Path) -> Result<(), Failure> {
    let at = |error: std::io::Error| Failure::environment(format!("{}: {error}", path.display()));
    let aside = PathBuf::from(format!("{}.new", path.display()));
    let mut file = File::create(&aside).map_err(at)?;
    let mut bytes = 0;
    let written = client
        .pieces("/v1/documents/content", &DocumentNamed { what: what.to_owned() }, |piece| {
            bytes += piece.len() as u64;
            file.write_all(piece).map_err(at)
        })
        .await;
    if let Err(error) = written {
        let _nothing_of_use = std::fs::remove_file(&aside);
        return Err(error);
    }
    file.sync_all().and_then(|()| std::fs::rename(&aside, path)).map_err(at)?;
    context.screen.line(&format!("{}  {} bytes", path.display(), grouped(bytes)));
    Ok(())
}
