//! `huecry subject`: all that is held about one value.

use super::{Context, Failure, client::Client, print::grouped};
use crate::http::SubjectReply;
use serde_json::json;

/// List all that this node holds about a value, and since when: for a person's or a court's question.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_name = "VALUE")]
    what: String,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let parameters = json!({ "what": arguments.what });
    let reply: SubjectReply = Client::with(&context.data, async |client| client.get("/v1/subject", &parameters).await)?;
    let screen = &context.screen;
    screen.value(&reply);
    match &reply.since {
        Some(since) => screen.line(&format!("{}: {} records, the first since {since}", reply.value, grouped(reply.records.len() as u64))),
        None => screen.line(&format!("{}: no records", reply.value)),
    }
    for line in &reply.records {
        screen.line(&format!("  {}  {}  {}  {}  received {}", line.reference, line.kind, line.tlp, line.standing, line.received));
    }
    if reply.above_clearance > 0 {
        screen.line(&format!("  {} more are above your clearance", grouped(reply.above_clearance)));
    }
    for (what, lines) in [("export", &reply.exports), ("list", &reply.lists), ("order", &reply.orders)] {
        lines.iter().for_each(|line| screen.line(&format!("  {what}  {line}")));
    }
    let is_empty = reply.records.is_empty() && reply.above_clearance == 0 && reply.exports.is_empty() && reply.orders.is_empty();
    if is_empty { Err(Failure::nothing("")) } else { Ok(()) }
}
