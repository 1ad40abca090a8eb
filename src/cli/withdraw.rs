//! `huecry withdraw`: take back what is ours, everywhere.

use super::{Context, Failure, client::Client};
use crate::http::{WithdrawParameters, WithdrawReply};

/// Take back records of ours, everywhere they went.
#[derive(clap::Args)]
pub struct Arguments {
    /// Names of records or reports, or values that we assert.
    #[arg(required = true, value_name = "REF|VALUE")]
    what: Vec<String>,
    /// wrong, superseded, over-shared or legal.
    #[arg(long, default_value = "wrong")]
    reason: String,
    /// A sentence for those who relied on it.
    #[arg(long)]
    note: Option<String>,
    /// Withdraw although no other member has told this node its own last head since the start.
    #[arg(long)]
    alone: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { what, reason, note, alone } = arguments;
    let reply: WithdrawReply =
        Client::with(&context.data, async |client| client.post("/v1/withdraw", &WithdrawParameters { what, reason, note, alone }).await)?;
    context.screen.value(&reply);
    if reply.queued.is_some() {
        context.screen.line("queued; nothing is signed yet");
        context.screen.note("this node has published before and first learns its own last head from other members");
        return Ok(());
    }
    for reference in &reply.withdrawn {
        context.screen.line(&format!("withdrew {reference}"));
    }
    context.screen.note(&format!("by {}; it travels to everyone who may have had them", reply.by.join(", ")));
    Ok(())
}
