//! `huecry decisions`: what people did at this node.

use super::{Context, Failure, client::Client};
use crate::http::DecisionLine;
use serde_json::json;

/// Show what operators did here, the newest first.
#[derive(clap::Args)]
pub struct Arguments {}

pub(super) fn run(context: &Context, _: Arguments) -> Result<(), Failure> {
    let lines: Vec<DecisionLine> = Client::with(&context.data, async |client| client.get("/v1/decisions", &json!({})).await)?;
    lines.iter().for_each(|line| context.screen.line(&format!("{}  {}  {}", line.at, line.by, line.what)));
    context.screen.value(&lines);
    Ok(())
}
