//! `huecry outlets`: what is protecting us, and how it came there.

use super::{Context, Failure, client::Client, orders, print::grouped};
use crate::{
    enforce::{Mode, Order},
    node::enforcer::OutletLine,
    record::Timestamp,
};
use serde_json::json;

/// Show the outlets, or let one act: each, and each origin at it, begins in monitor mode.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Let an outlet act, or an origin at an outlet: what it has now is its approved baseline.
    Promote {
        outlet: String,
        #[arg(long, value_name = "MEMBER")]
        origin: Option<String>,
    },
    /// Only count again what would be enforced.
    Monitor {
        outlet: String,
        #[arg(long, value_name = "MEMBER")]
        origin: Option<String>,
    },
    /// Go back to the export before the last, or to that of a serial: what entered later waits until --undo. What was taken back
    /// meanwhile stays out.
    Rollback {
        outlet: String,
        #[arg(long, value_name = "SERIAL", default_value_t = 0, hide_default_value = true)]
        to: u64,
        #[arg(long, required_unless_present = "undo")]
        reason: Option<String>,
        /// Go on with all that is permitted.
        #[arg(long)]
        undo: bool,
    },
    /// Keep in force the lines that a member has withdrawn within the last hour, until an end or --undo. Later withdrawals take effect.
    Keep {
        /// The outlet; all of them, if none is named.
        outlet: Option<String>,
        #[arg(long, value_name = "MEMBER")]
        origin: String,
        /// Duration, such as 24h or 2d.
        #[arg(long = "for", value_name = "TIME", default_value = "24h")]
        period: String,
        #[arg(long, default_value = "a mass withdrawal, until a person has looked")]
        reason: String,
        /// Let the withdrawals take effect.
        #[arg(long)]
        undo: bool,
    },
    /// Enforce at once what is staged of an origin, beyond the hour's room.
    Admit {
        outlet: String,
        #[arg(long, value_name = "MEMBER")]
        origin: String,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let member = |text: Option<String>| text.map(|text| text.parse().map_err(Failure::usage)).transpose();
    let mode = |outlet: String, origin: Option<String>, mode: Mode, word: &str| {
        let done = format!("outlet {outlet}{}: {word}", origin.as_ref().map(|origin| format!(" for {origin}")).unwrap_or_default());
        orders::give(context, &orders::plain(Order::Mode { outlet, origin: member(origin)?, mode }), &done).map(|_| ())
    };
    match arguments.verb {
        None => list(context),
        Some(Verb::Promote { outlet, origin }) => mode(outlet, origin, Mode::Enforce, "enforces"),
        Some(Verb::Monitor { outlet, origin }) => mode(outlet, origin, Mode::Monitor, "only counts"),
        Some(Verb::Rollback { outlet, undo: true, .. }) => {
            let done = format!("outlet {outlet}: goes on");
            orders::give(context, &orders::plain(Order::Forward { outlet }), &done).map(|_| ())
        }
        Some(Verb::Rollback { outlet, to, reason, undo: false }) => {
            let done = format!("outlet {outlet}: went back; go on with --undo");
            let order = Order::Rollback { outlet, serial: to, written: Timestamp::default(), reason: reason.unwrap_or_default() };
            orders::give(context, &orders::plain(order), &done).map(|_| ())
        }
        Some(Verb::Keep { outlet, origin, undo: true, .. }) => {
            let done = format!("withdrawals by {origin} take effect");
            let order = Order::Unkeep { origin: origin.parse().map_err(Failure::usage)?, outlet };
            orders::give(context, &orders::plain(order), &done).map(|_| ())
        }
        Some(Verb::Keep { outlet, origin, period, reason, undo: false }) => {
            let until = orders::moment(&period)?;
            let done = format!("lines withdrawn by {origin} stay in force until {until}");
            let order = Order::Keep { origin: origin.parse().map_err(Failure::usage)?, outlet, reason, until };
            orders::give(context, &orders::plain(order), &done).map(|_| ())
        }
        Some(Verb::Admit { outlet, origin }) => {
            let done = format!("outlet {outlet}: what was staged of {origin} is enforced");
            let order = Order::Admit { outlet, origin: origin.parse().map_err(Failure::usage)? };
            orders::give(context, &orders::plain(order), &done).map(|_| ())
        }
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let outlets: Vec<OutletLine> = Client::with(&context.data, async |client| client.get("/v1/outlets", &json!({})).await)?;
    let count = |number: usize| grouped(number as u64);
    for outlet in &outlets {
        let OutletLine { name, kind, usage, types, tlp_max, mode, lines, serial, file, .. } = outlet;
        let stopped = outlet.stopped.as_ref().map(|scope| format!(", STOPPED with {scope}")).unwrap_or_default();
        context.screen.line(&format!(
            "{name}  {kind}, {usage}, {mode} mode{stopped}; {} as {}; up to {tlp_max}",
            types.join(" "),
            outlet.format
        ));
        let written = outlet.written.as_deref().unwrap_or("not yet");
        context.screen.line(&format!("  export  {} lines, serial {serial}, written {written}: {file}", count(*lines)));
        if let Some(serial) = outlet.rolled_back {
            context.screen.line(&format!(
                "  BACK    at the export of serial {serial}; what entered later waits for `huecry outlets rollback {name} --undo`"
            ));
        }
        for (why, count) in &outlet.left {
            context.screen.line(&format!("  left    {}: {why}", grouped(*count)));
        }
        if let Some(failure) = &outlet.failure {
            context.screen.line(&format!("  ALARM   {failure}"));
        }
        if outlet.awaits {
            context.screen.line("  WAITS   the node was away; the export changes when it has heard what was taken back meanwhile");
        }
        if outlet.beyond > 0 {
            context.screen.line(&format!("  ALARM   {} values had no room", grouped(outlet.beyond)));
        }
        for one in &outlet.origins {
            let throttled = one.throttled.map(|limit| format!(", throttled to {limit} an hour")).unwrap_or_default();
            let stopped = if one.stopped { ", STOPPED" } else { "" };
            let cap = if one.at_cap { "; ALARM: the hour's additions are used up" } else { "" };
            if one.counts.withdrawn + one.counts.kept > 0 {
                let (withdrawn, kept) = (count(one.counts.withdrawn), count(one.counts.kept));
                context.screen.line(&format!("  {:<16}withdrew {withdrawn} within an hour; {kept} kept in force by order", one.origin));
            }
            context.screen.line(&format!(
                "  {:<16}{} mode: {} enforced, {} staged, {} would have been enforced{throttled}{stopped}{cap}",
                one.origin,
                one.mode,
                count(one.counts.enforced),
                count(one.counts.staged),
                count(one.counts.monitored)
            ));
        }
    }
    context.screen.value(&outlets);
    if outlets.is_empty() {
        context.screen.note("there are no outlets; name one under [[outlets]] in node.toml");
    }
    Ok(())
}
