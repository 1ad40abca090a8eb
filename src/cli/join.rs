//! `huecry join`: take an invitation.

use super::{Context, Failure};
use crate::{clock::Clock, node::membership};
use std::path::PathBuf;

/// Take an invitation: the charter from its first version on, everyone's cards, and where to connect.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file that the stewards sent.
    #[arg(value_name = "INVITATION")]
    invitation: PathBuf,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let federation = membership::join(&context.data, &arguments.invitation, Clock::System.now())?;
    context.screen.line(&format!("joined federation {federation}"));
    context.screen.value(&serde_json::json!({ "federation": federation.to_string() }));
    context
        .screen
        .note(&format!("compare this id with the one on your signed agreement; then: huecry --data {} run", context.data.display()));
    Ok(())
}
