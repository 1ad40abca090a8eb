//! `huecry share`: pass records of others on to a further audience that their author named.

use super::{Context, Failure, client::Client, print::grouped};
use crate::http::{ShareLine, ShareParameters, ShareReply};
use serde_json::json;

/// Pass records on beyond their audience, where their author lets us; without a record, show what is passed on.
///
/// They keep their author's signature and proof, and their withdrawals follow by themselves.
#[derive(clap::Args)]
pub struct Arguments {
    /// Records, such as talos/c2#48213.17; a report means all of it.
    #[arg(value_name = "REF", requires = "with")]
    records: Vec<String>,
    /// federation, circle:NAME or member:ID: one that the author named.
    #[arg(long, value_name = "AUDIENCE")]
    with: Option<String>,
    /// Pass them on no more. What was passed on stays where it is.
    #[arg(long, requires = "records")]
    undo: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let screen = &context.screen;
    let Arguments { records, with: Some(with), undo } = arguments else {
        let lines: Vec<ShareLine> = Client::with(&context.data, async |client| client.get("/v1/share", &json!({})).await)?;
        screen.value(&lines);
        for line in &lines {
            let standing = if line.standing == "accepted" { String::new() } else { format!("  {}", line.standing) };
            screen.line(&format!("{}  {}  with {}{standing}", line.record, line.about, line.with.join(", ")));
        }
        return if lines.is_empty() { Err(Failure::nothing("nothing is passed on")) } else { Ok(()) };
    };
    let parameters = ShareParameters { records, with, undo };
    let reply: ShareReply = Client::with(&context.data, async |client| client.post("/v1/share", &parameters).await)?;
    screen.value(&reply);
    if undo {
        screen.line(&format!("{} records are passed on to {} no more", grouped(reply.records as u64), reply.with));
        screen.note("what was passed on stays where it is; only its author can take it back");
        return Ok(());
    }
    screen.line(&format!("{} records are passed on to {}", grouped(reply.records as u64), reply.with));
    match reply.reaches.as_slice() {
        [] => screen.note("that reaches nobody new now"),
        some => screen.line(&format!("  reaches {}", some.join(", "))),
    }
    Ok(())
}
