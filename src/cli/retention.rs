//! `huecry retention`: how long content stays, and what a person has to decide about.

use super::{Context, Failure, client::Client, print::grouped};
use crate::http::{RetentionParameters, RetentionReply};
use serde_json::{Value, json};

/// Show how long content stays and what is due; decide about what a rule asks.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// What the rule asks about stays.
    Keep {
        rule: String,
        /// So many days more; then it is asked about again.
        #[arg(long)]
        days: u32,
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Erase now what has come to its end; a running node does so every day.
    Apply,
    /// What the rule asks about is erased now, for good.
    Erase {
        rule: String,
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        None => show(context),
        Some(Verb::Apply) => apply(context),
        Some(Verb::Keep { rule, days, reason }) => decide(context, &RetentionParameters { rule, keep_days: Some(days), reason }),
        Some(Verb::Erase { rule, reason }) => decide(context, &RetentionParameters { rule, keep_days: None, reason }),
    }
}

fn show(context: &Context) -> Result<(), Failure> {
    let reply: RetentionReply = Client::with(&context.data, async |client| client.get("/v1/retention", &json!({})).await)?;
    let screen = &context.screen;
    screen.value(&reply);
    screen.line(&format!("content stays {}", reply.limits.join(", ")));
    reply.rules.iter().for_each(|rule| screen.line(&format!("rule      {rule}")));
    for (rule, count) in &reply.going {
        screen.line(&format!("going     {} records: {rule}", grouped(*count)));
    }
    for line in &reply.due {
        screen.line(&format!("review    {} records by `{}`, the oldest received {}", grouped(line.records), line.rule, line.oldest));
        for (what, count) in &line.of {
            screen.line(&format!("            {} {what}", grouped(*count)));
        }
    }
    screen.line(&format!("disk      {} MiB", reply.disk_bytes >> 20));
    Ok(())
}

fn decide(context: &Context, parameters: &RetentionParameters) -> Result<(), Failure> {
    let reply: Value = Client::with(&context.data, async |client| client.post("/v1/retention", parameters).await)?;
    context.screen.value(&reply);
    context.screen.line(reply.get("outcome").and_then(Value::as_str).unwrap_or_default());
    Ok(())
}

fn apply(context: &Context) -> Result<(), Failure> {
    let reply: Value = Client::with(&context.data, async |client| client.post("/v1/retention/apply", &json!({})).await)?;
    context.screen.value(&reply);
    let count = |name: &str| grouped(reply.get(name).and_then(Value::as_u64).unwrap_or_default());
    context.screen.line(&format!("{} records erased whose time is over, {} for which there is no room", count("over"), count("no_room")));
    Ok(())
}
