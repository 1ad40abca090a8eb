//! `huecry renew`: what is ours holds longer, everywhere, without being sent again.

use super::{Context, Failure, client::Client};
use crate::http::{RenewParameters, RenewReply};

/// Let reports of ours, and every indicator that has its end from them, hold longer.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("until").required(true))]
pub struct Arguments {
    /// Names of reports.
    #[arg(required = true, value_name = "REF")]
    what: Vec<String>,
    /// So many days from now.
    #[arg(long, value_name = "DAYS", group = "until")]
    valid_days: Option<u32>,
    /// Until this day, or moment: 2026-12-31, 2026-12-31T00:00:00Z.
    #[arg(long, value_name = "TIME", group = "until")]
    valid_until: Option<String>,
    /// Renew although no other member has told this node its own last head since the start.
    #[arg(long)]
    alone: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { what, valid_days, valid_until, alone } = arguments;
    let parameters = RenewParameters { what, valid_days, valid_until, alone };
    let reply: RenewReply = Client::with(&context.data, async |client| client.post("/v1/renew", &parameters).await)?;
    context.screen.value(&reply);
    if reply.queued.is_some() {
        context.screen.line("queued; nothing is signed yet");
        context.screen.note("this node has published before and first learns its own last head from other members");
        return Ok(());
    }
    for report in &reply.renewed {
        context.screen.line(&format!("renewed {report} until {}", reply.until));
    }
    for report in &reply.already {
        context.screen.line(&format!("{report} holds as long already"));
    }
    if !reply.by.is_empty() {
        context.screen.note(&format!("by {}", reply.by.join(", ")));
    }
    Ok(())
}
