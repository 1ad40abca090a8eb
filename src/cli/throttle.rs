//! `huecry throttle`: let an origin add less, or nothing, to what is enforced.

use super::{Context, Failure, orders};
use crate::{enforce::Order, record::MemberId};

/// Let a member add nothing more to what is enforced here, or little; what it has stays. `--undo` lets it add as before.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_name = "MEMBER")]
    origin: String,
    /// Additions an hour at each outlet.
    #[arg(long, default_value_t = 0)]
    per_hour: u32,
    /// Why; someone will ask.
    #[arg(long, required_unless_present = "undo")]
    reason: Option<String>,
    #[arg(long)]
    undo: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let origin: MemberId = arguments.origin.parse().map_err(Failure::usage)?;
    let (order, done) = if arguments.undo {
        let done = format!("{origin} may add as before");
        (Order::Unthrottle { origin }, done)
    } else {
        let per_hour = arguments.per_hour;
        let done = format!("{origin} may add {per_hour} lines an hour at each outlet; what is beyond waits, staged");
        (Order::Throttle { origin, per_hour, reason: arguments.reason.unwrap_or_default() }, done)
    };
    orders::give(context, &orders::plain(order), &done).map(|_| ())
}
