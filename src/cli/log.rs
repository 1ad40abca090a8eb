//! `huecry log`: who decided what at this node.

use super::{Context, Failure, client::Client, orders::ago, print::grouped};
use crate::{
    clock::Clock,
    http::{DecisionLine, LogParameters},
};

/// Show what people did here, by the socket or by a token: the newest first, at most a thousand lines.
#[derive(clap::Args)]
pub struct Arguments {
    /// From then on: 12h, 7d, a date.
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let since = arguments.since.map(|text| ago(&text, Clock::System.now()).map(|time| time.precise())).transpose()?;
    let parameters = LogParameters { since };
    let lines: Vec<DecisionLine> = Client::with(&context.data, async |client| client.get("/v1/log", &parameters).await)?;
    show(context, &lines);
    Ok(())
}

pub(super) fn show(context: &Context, lines: &[DecisionLine]) {
    lines.iter().for_each(|line| context.screen.line(&format!("{}  {}  {}", line.at, line.by, line.what)));
    context.screen.value(&lines);
    match lines.len() {
        0 => context.screen.note("nobody did anything here"),
        1_000 => context.screen.note(&format!("the newest {}; --since leaves out older ones", grouped(1_000))),
        _ => (),
    }
}
