//! `huecry quarantine`: what does not count, and what an operator decides about it.

use super::{Context, Failure, client::Client, key, print::grouped};
use crate::{clock::Clock, http::decision_text, ledger::AsideLine};
use serde_json::{Value, json};
use std::path::PathBuf;

/// List what a pin or a contradiction has set aside; release it, or drop it for good.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Let count again, here, what was set aside of a feed.
    Release {
        feed: String,
        /// Your name among the operators, where two of them have keys: both run this.
        #[arg(long, requires = "key")]
        operator: Option<String>,
        /// Your operator key's file.
        #[arg(long, value_name = "FILE", requires = "operator")]
        key: Option<PathBuf>,
    },
    /// Decide that it stays out.
    Drop { feed: String },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        None => list(context),
        Some(Verb::Release { feed, operator, key }) => release(context, &feed, operator, key),
        Some(Verb::Drop { feed }) => {
            let _done: Value = ask(context, json!({ "feed": feed, "decision": "drop" }))?;
            context.screen.line(&format!("{feed}: stays out"));
            context.screen.value(&json!({ "feed": feed, "decision": "drop" }));
            Ok(())
        }
    }
}

fn ask(context: &Context, parameters: Value) -> Result<Value, Failure> {
    Client::with(&context.data, async |client| client.post("/v1/quarantine", &parameters).await)
}

fn release(context: &Context, feed: &str, operator: Option<String>, key: Option<PathBuf>) -> Result<(), Failure> {
    let parameters = match (operator, key) {
        (Some(name), Some(path)) => {
            let signature = key::signed_decision(context, &path, &decision_text(feed), Clock::System.now())?;
            json!({ "feed": feed, "decision": "release", "operator": name, "signature": signature })
        }
        _ => json!({ "feed": feed, "decision": "release" }),
    };
    let done = ask(context, parameters)?;
    if done.get("decided") == Some(&json!(true)) {
        context.screen.line(&format!("{feed}: counts again here"));
    } else {
        context.screen.line(&format!("{feed}: signed; a second operator must run the same today"));
    }
    context.screen.value(&done);
    Ok(())
}

fn list(context: &Context) -> Result<(), Failure> {
    let lines: Vec<AsideLine> = Client::with(&context.data, async |client| client.get("/v1/quarantine", &json!({})).await)?;
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
