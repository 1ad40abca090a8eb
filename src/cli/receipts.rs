//! `huecry receipts`: how far what we published, or its withdrawal, has got.

use super::{Context, Failure, client::Client, print::grouped};
use crate::http::ReceiptsReply;
use serde_json::json;

/// Show which members have applied a record of ours, or the newest of a channel.
#[derive(clap::Args)]
pub struct Arguments {
    /// A record (talos/c2#48213.17) or a channel of ours.
    of: String,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let of = arguments.of;
    let reply: ReceiptsReply = Client::with(&context.data, async |client| client.get("/v1/receipts", &json!({ "of": of })).await)?;
    let screen = &context.screen;
    screen.value(&reply);
    let applied = ["applied", "exported"].iter().filter_map(|state| reply.counts.get(*state)).sum::<usize>();
    let mut summary = format!("{}#{}: applied by {applied} of {}", reply.feed, reply.seq, reply.lines.len());
    for state in ["not yet", "silent", "unreachable", "offline by design"] {
        if let Some(count) = reply.counts.get(state) {
            summary.push_str(&format!("; {state}: {count}"));
        }
    }
    if let Some(by) = &reply.withdrawn_by {
        screen.line(&format!("{of} was withdrawn by {by}; this is how far that has got:"));
    }
    screen.line(&summary);
    for line in &reply.lines {
        let word = match line.state.as_str() {
            "exported" => "applied, exports rebuilt",
            other => other,
        };
        let since = line.since.as_deref().unwrap_or("never heard");
        let withheld =
            if line.withheld > 0 { format!(", lacks {} records that others withhold", grouped(line.withheld)) } else { String::new() };
        screen.line(&format!("{}  {word}  {since}{withheld}", line.member));
    }
    screen.note("what others say of themselves: an acknowledgement, no proof");
    Ok(())
}
