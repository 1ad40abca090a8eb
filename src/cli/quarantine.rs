//! `huecry quarantine`: what does not count, and what an operator decides about it.

use super::{Context, Failure, client::Client, print::grouped, runtime};
use crate::ledger::AsideLine;
use serde_json::{Value, json};

/// List what a pin or a contradiction has set aside; release it, or drop it for good.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Let count again, here, what was set aside of a feed.
    Release { feed: String },
    /// Decide that it stays out.
    Drop { feed: String },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let screen = &context.screen;
    let (verb, feed) = match arguments.verb {
        None => return list(context),
        Some(Verb::Release { feed }) => ("release", feed),
        Some(Verb::Drop { feed }) => ("drop", feed),
    };
    let _done: Value = runtime()?.block_on(async {
        let client = Client::open(&context.data).await?;
        let answer = client.post("/v1/quarantine", &json!({ "feed": feed, "decision": verb })).await;
        client.close().await?;
        answer
    })?;
    screen.line(&format!("{feed}: {}", if verb == "release" { "counts again here" } else { "stays out" }));
    screen.value(&json!({ "feed": feed, "decision": verb }));
    Ok(())
}

fn list(context: &Context) -> Result<(), Failure> {
    let lines: Vec<AsideLine> = runtime()?.block_on(async {
        let client = Client::open(&context.data).await?;
        let answer = client.get("/v1/quarantine", &json!({})).await;
        client.close().await?;
        answer
    })?;
    for line in &lines {
        let (batches, records) = (grouped(line.batches), grouped(line.records));
        context
            .screen
            .line(&format!("{}  #{} to #{}, {batches} batches, {records} records: {}", line.feed, line.first, line.last, line.why));
    }
    context.screen.value(&lines);
    if lines.is_empty() {
        context.screen.note("nothing is in quarantine");
    }
    Ok(())
}
