//! `huecry agreements`: the terms under which vendors and observers take part, and how long they run.

use super::{Context, Failure, client::Client, print::grouped};
use crate::http::AgreementReply;
use serde_json::json;

/// Show the agreements: where each is in its life, what it covers, what happens at its end.
#[derive(clap::Args)]
pub struct Arguments {}

pub(super) fn run(context: &Context, _: Arguments) -> Result<(), Failure> {
    let lines: Vec<AgreementReply> = Client::with(&context.data, async |client| client.get("/v1/agreements", &json!({})).await)?;
    let screen = &context.screen;
    for line in &lines {
        let stage = match (line.days_left, line.warned) {
            (Some(days), Some(_)) => format!("{}, ENDS IN {days} DAYS", line.stage),
            (Some(days), None) => format!("{}, {days} days left", line.stage),
            _ => line.stage.clone(),
        };
        screen.line(&format!("{}  {}  {stage}", line.id, line.member));
        screen.line(&format!("  from {} until {}, up to {}", line.from, line.until, line.tlp_max));
        screen.line(&format!("  for {}: {}; {}", line.audiences.join(", "), line.kinds.join(", "), line.purpose));
        let erase = line.erase_from.as_ref().map(|at| format!(", rewritten out from {at} on")).unwrap_or_default();
        screen.line(&format!("  then {}{erase}", line.after_end));
        if line.purged_feeds > 0 {
            let records = grouped(line.purged_records);
            screen.line(&format!(
                "  purged here: {records} records in {} feeds, {} of them gone for good",
                line.purged_feeds, line.erased_feeds
            ));
        }
    }
    screen.value(&lines);
    if lines.is_empty() {
        screen.note("no agreements: countries and coordinators take part by their membership");
    }
    Ok(())
}
