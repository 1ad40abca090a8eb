//! `huecry unblock`: take back, here and at once, what was wrong.

use super::{Context, Failure, orders};
use crate::{enforce::Order, http::OrderParameters};

/// Stop enforcing a value here, at every outlet, within a second; say which line of which export it was, and why.
#[derive(clap::Args)]
pub struct Arguments {
    /// The value in any spelling. Every line that hits it goes: itself, a network around it, a domain above it.
    value: String,
    /// Why; someone will ask.
    #[arg(long, required_unless_present = "undo")]
    reason: Option<String>,
    /// Until when: 12h, 7d, 2026-12-31. After it the policies decide again.
    #[arg(long, default_value = "7d", value_name = "WHEN")]
    until: String,
    /// Also publish that it is a false positive, to the readers of the record that said otherwise.
    #[arg(long)]
    tell_author: bool,
    /// Take the unblocking back.
    #[arg(long, conflicts_with_all = ["reason", "tell_author"])]
    undo: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let value = arguments.value;
    if arguments.undo {
        let order = Order::Reblock { value: value.clone() };
        return orders::give(context, &orders::plain(order), &format!("{value}: the policies decide again")).map(|_| ());
    }
    let until = orders::moment(&arguments.until)?;
    let order = Order::Unblock { value: value.clone(), reason: arguments.reason.unwrap_or_default(), until };
    let parameters = OrderParameters { tell_author: arguments.tell_author, ..orders::plain(order) };
    let reply = orders::give(context, &parameters, &format!("{value}: enforced nowhere here until {until}"))?;
    for hit in &reply.hits {
        let line = hit.line.map_or("not in the export".to_owned(), |line| format!("line {line} of {}", hit.file));
        let below = if hit.below { " and all below it" } else { "" };
        context.screen.line(&format!("  was {line}: {}{below}, {:?} since {}", hit.value, hit.stage, hit.since));
        context.screen.line(&format!("      by {} of {}: {}", hit.record, hit.origin, hit.because));
    }
    if reply.hits.is_empty() {
        context.screen.line("  no outlet had a line that hits it; from now on none will");
    }
    for told in &reply.told {
        context.screen.line(&format!("  told {told}"));
    }
    for why in &reply.not_told {
        context.screen.line(&format!("  not told: {why}"));
    }
    Ok(())
}
