//! `huecry notify`: whether those who are to hear of things can be told.

use super::{Context, Failure, client::Client};
use crate::http::NotifyTest;

/// Send a test to one of those whom `[[notify]]` in node.toml names.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Send a message that says that nothing has happened.
    Test { name: String },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Verb::Test { name } = arguments.verb;
    let sent: NotifyTest = Client::with(&context.data, async |client| client.post("/v1/notify/test", &NotifyTest { name }).await)?;
    context.screen.value(&sent);
    context.screen.line(&format!("`{}` has taken the message", sent.name));
    Ok(())
}
