//! `huecry stop-enforcing`: the red button.

use super::{Context, Failure, orders};
use crate::enforce::{Order, Scope};

/// Stop enforcing what one origin says, at one outlet, or everything, within a second. `--undo` goes on.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("scope").required(true))]
pub struct Arguments {
    /// What this member says, at every outlet.
    #[arg(long, group = "scope", value_name = "MEMBER")]
    origin: Option<String>,
    /// Everything at this outlet.
    #[arg(long, group = "scope")]
    outlet: Option<String>,
    /// Everything everywhere.
    #[arg(long, group = "scope")]
    all: bool,
    /// Why; someone will ask.
    #[arg(long, required_unless_present = "undo")]
    reason: Option<String>,
    /// Enforce it again.
    #[arg(long)]
    undo: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let scope = match (arguments.origin, arguments.outlet) {
        (Some(origin), _) => Scope::Origin(origin.parse().map_err(Failure::usage)?),
        (None, Some(outlet)) => Scope::Outlet(outlet),
        (None, None) => Scope::All,
    };
    let (order, done) = if arguments.undo {
        let done = format!("enforcing again: {scope}");
        (Order::Resume { scope }, done)
    } else {
        let done = format!("stopped: {scope}; take it back with the same command and --undo");
        (Order::Stop { scope, reason: arguments.reason.unwrap_or_default() }, done)
    };
    orders::give(context, &orders::plain(order), &done).map(|_| ())
}
