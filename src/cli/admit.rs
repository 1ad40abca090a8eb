//! `huecry admit`: the founding steward takes members into the charter.

use super::{Context, Failure};
use crate::{
    clock::Clock,
    node::membership::{self, Terms},
    record::{Timestamp, Tlp},
};
use std::path::PathBuf;

/// As steward: sign a next version of the charter with these members, and write the invitation for them.
#[derive(clap::Args)]
pub struct Arguments {
    /// The members' request.huecry files.
    #[arg(required = true, value_name = "REQUEST")]
    requests: Vec<PathBuf>,
    /// Until when vendors and observers among them may take part; three years unless said.
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
    /// The highest TLP marking for vendors and observers among them.
    #[arg(long, value_name = "TLP", default_value = "amber")]
    tlp_max: String,
    /// How many records a day each vendor and observer among them may publish; what the charter sets for all unless said.
    #[arg(long, value_name = "NUMBER")]
    records_a_day: Option<u64>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let wrong = |text: &String| Failure::usage(format!("`{text}` is no time; write 2026-12-31"));
    let until = arguments.until.as_ref().map(|text| Timestamp::parse(text).ok_or_else(|| wrong(text))).transpose()?;
    let tlp_max = Tlp::parse(&arguments.tlp_max).map_err(Failure::usage)?;
    let terms = Terms { until, tlp_max, records_a_day: arguments.records_a_day };
    let (path, members) = membership::admit(&context.data, &arguments.requests, terms, Clock::System.now())?;
    for member in &members {
        context.screen.line(&format!("admitted {member}"));
    }
    let members: Vec<String> = members.iter().map(ToString::to_string).collect();
    context.screen.value(&serde_json::json!({ "admitted": members, "invitation": path }));
    context.screen.note(&format!("next: send {} to them; each runs `huecry join` with it", path.display()));
    Ok(())
}
