//! `huecry join`: take an invitation, from a file or from a line.

use super::{Context, Failure, runtime};
use crate::{
    clock::Clock,
    config::Config,
    node::{
        bootstrap,
        keys::{KeyStore, Purpose},
        membership,
    },
};
use std::path::Path;

/// Take an invitation: the charter from its first version on, everyone's cards, and where to connect.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file that the stewards sent, or their line: FEDERATION@ADDRESS,ADDRESS.
    #[arg(value_name = "INVITATION")]
    invitation: String,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (data, now) = (&context.data, Clock::System.now());
    let federation = match membership::invitation_of_line(&arguments.invitation) {
        None => membership::join(data, Path::new(&arguments.invitation), now)?,
        Some((federation, addresses)) => {
            let keys = KeyStore::in_data(data).map_err(Failure::environment)?;
            let node = keys.read(Purpose::Node).map_err(Failure::environment)?;
            context.screen.note("asking for the charter and everyone's cards");
            let config = Config::read(&data.join("node.toml")).map_err(Failure::usage)?;
            // INVARIANT: Config::read has checked the proxy.
            let proxy = config.node.proxy.and_then(|text| text.parse().ok());
            let fetching = bootstrap::fetch(&node, &federation, &addresses, proxy.as_ref());
            let invitation = runtime()?.block_on(fetching).map_err(Failure::environment)?;
            membership::take_invitation(data, invitation, Some(&federation), now)?
        }
    };
    context.screen.line(&format!("joined federation {federation}"));
    context.screen.value(&serde_json::json!({ "federation": federation.to_string() }));
    context.screen.note(&format!("compare this id with the one on your signed agreement; then: huecry --data {} run", data.display()));
    Ok(())
}
