//! `huecry pull`: what a source on a server has that is new.

use super::{Context, Failure, client::Client, print::grouped, publish};
use crate::http::{PullLine, PullParameters, PullReply};
use serde_json::json;

/// Fetch what is new from one of the `sources` in node.toml that has a `pull`; without a name, show them.
#[derive(clap::Args)]
pub struct Arguments {
    name: Option<String>,
    /// Fetch and read, and say nothing.
    #[arg(long, requires = "name")]
    dry_run: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Some(name) = arguments.name else { return list(context) };
    let parameters = PullParameters { name, dry_run: arguments.dry_run };
    let reply: PullReply = Client::with(&context.data, async |client| client.post("/v1/pull", &parameters).await)?;
    let cursor = reply.cursor.as_ref().map(|cursor| format!(", up to {cursor}")).unwrap_or_default();
    context.screen.line(&format!("{}: {} fetched in {} requests{cursor}", reply.name, grouped(reply.fetched), grouped(reply.pages)));
    if let Some(why) = &reply.incomplete {
        context.screen.note(&format!("{}: not everything came: {why}", reply.name));
    }
    if reply.skipped > 0 {
        context.screen.note(&format!("{}: {} events could not be read; they are asked for again", reply.name, grouped(reply.skipped)));
    }
    match &reply.import {
        Some(import) => publish::show(context, &reply.name, import),
        None => context.screen.value(&reply),
    }
    Ok(())
}

fn list(context: &Context) -> Result<(), Failure> {
    let lines: Vec<PullLine> = Client::with(&context.data, async |client| client.get("/v1/pull", &json!({})).await)?;
    for line in &lines {
        let every = line.every.as_ref().map_or("when asked".to_owned(), |every| format!("every {every}"));
        let last = line.last.as_deref().unwrap_or("never");
        context.screen.line(&format!("{}  {}  {every}, last {last}", line.name, line.url));
        if let Some(error) = &line.error {
            context.screen.line(&format!("  ALARM   {error}"));
        }
    }
    context.screen.value(&lines);
    if lines.is_empty() {
        context.screen.note("no source has a [sources.pull] in node.toml");
    }
    Ok(())
}
