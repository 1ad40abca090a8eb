//! `huecry disputes`: who says that we are wrong.

use super::{Context, Failure, client::Client, orders};
use crate::{
    enforce::Order,
    http::{DisputeLine, DisputesFilter},
};

/// List what others call false positives of ours; dismiss a dispute after looking into it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Also disputes about what others say, and those dismissed.
    #[arg(long)]
    all: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// We looked, and stand by what we said. (Where we were wrong: huecry withdraw VALUE --reason wrong.)
    Dismiss {
        /// The sighting that disputes, as `disputes` lists it.
        #[arg(value_name = "REF")]
        sighting: String,
        #[arg(long)]
        reason: String,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    if let Some(Verb::Dismiss { sighting, reason }) = arguments.verb {
        let done = format!("{sighting}: dismissed");
        return orders::give(context, &orders::plain(Order::Dismiss { sighting, reason }), &done).map(|_| ());
    }
    let filter = DisputesFilter { all: arguments.all };
    let lines: Vec<DisputeLine> = Client::with(&context.data, async |client| client.get("/v1/disputes", &filter).await)?;
    for line in &lines {
        let dismissed = if line.dismissed { "  dismissed" } else { "" };
        context.screen.line(&format!("{}  {}, by {} at {}{dismissed}", line.sighting, line.about, line.member, line.at));
        if let Some(note) = &line.note {
            context.screen.line(&format!("    says: {note}"));
        }
        if !line.ours.is_empty() {
            context.screen.line(&format!("    ours: {}", line.ours.join(", ")));
        }
    }
    context.screen.value(&lines);
    if lines.is_empty() { Err(Failure::nothing("nobody disputes what we say")) } else { Ok(()) }
}
