//! `huecry sync`: how complete this node is, and how long it will take.

use super::{Context, Failure, client::Client, print::grouped};
use crate::http::{CompletenessLine, SyncReply};
use serde_json::json;
use std::time::Duration;

/// Show how complete this node is of each member, and, while it catches up, how far that is.
#[derive(clap::Args)]
pub struct Arguments {
    /// Show once, without waiting.
    #[arg(long)]
    once: bool,
}

/// How often the node is asked while it catches up.
const POLL: Duration = Duration::from_millis(500);

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let reply = Client::with(&context.data, async |client| {
        let mut reply: SyncReply = client.get("/v1/sync", &json!({})).await?;
        if arguments.once || reply.behind == 0 {
            return Ok(reply);
        }
        let bar = context.screen.counter("catching up");
        let begun = reply.batches;
        while reply.behind > 0 {
            bar.set_length((reply.batches - begun.min(reply.batches)) + reply.behind);
            bar.set_position(reply.batches - begun.min(reply.batches));
            tokio::time::sleep(POLL).await;
            reply = client.get("/v1/sync", &json!({})).await?;
        }
        bar.finish_and_clear();
        Ok(reply)
    })?;
    context.screen.value(&reply);
    for line in &reply.lines {
        context.screen.line(&sentence(line));
        line.followed.iter().for_each(|followed| context.screen.line(&format!("    follows only {followed}")));
    }
    if reply.lines.is_empty() {
        context.screen.note("nothing has come yet");
    }
    if reply.peers == 0 {
        context.screen.note("no other node is connected, so this is only what was known before");
    } else if reply.behind > 0 {
        context.screen.note(&format!("catching up: {} batches are still to come", grouped(reply.behind)));
    }
    Ok(())
}

/// "holds all of DE; lacks 37 of FR, withheld by GB, asked CH".
fn sentence(line: &CompletenessLine) -> String {
    let names = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut lacks = Vec::new();
    if line.behind > 0 {
        lacks.push(format!("{} batches that are on their way", grouped(line.behind)));
    }
    if line.withheld > 0 {
        let by = if line.withheld_by.is_empty() { String::new() } else { format!(", withheld by {}", names(&line.withheld_by)) };
        let asked = if line.asked.is_empty() { String::new() } else { format!(", asked {}", names(&line.asked)) };
        lacks.push(format!("{} records{by}{asked}", grouped(line.withheld)));
    }
    if line.holes > 0 && line.behind == 0 {
        lacks.push(format!("{} batches that nobody connected may or can give us", grouped(line.holes)));
    }
    if line.records == line.passed_on && line.passed_on > 0 {
        return format!("{}  {} records that others passed on to us", line.member, grouped(line.passed_on));
    }
    let records = grouped(line.records);
    match lacks.is_empty() {
        true => format!("{}  all of {records} records", line.member),
        false => format!("{}  {records} records; lacks {}", line.member, lacks.join("; ")),
    }
}
