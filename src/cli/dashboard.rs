//! `huecry dashboard`: the address of the page, with a token for a day behind it.

use super::{Context, Failure, client::Client};
use crate::{
    clock::Clock,
    http::{TokenParameters, TokenReply},
};
use serde_json::{Value, json};

/// Show the address at which a browser on this machine opens this node's page: with a token of your own behind it, for a day.
#[derive(clap::Args)]
#[command(
    after_help = "The token stands behind a `#`, so a browser keeps it to itself; the page takes it out of sight at once. Take it back with \
                        `huecry token revoke NAME`."
)]
pub struct Arguments {
    /// What the token lends of what you may: reads, decides, publishes, administers, audits. Everything unless said.
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let name = format!("dashboard-{}", Clock::System.now().ms());
    let parameters = TokenParameters { name, roles: arguments.roles, days: 1, ..TokenParameters::default() };
    let (place, reply) = Client::with(&context.data, async |client| {
        let status: Value = client.get("/v1/status", &json!({})).await?;
        let place = status.get("window").and_then(|window| window.get(0)).and_then(Value::as_str).map(str::to_owned);
        let place = place.ok_or_else(|| {
            let why = if status.get("running") == Some(&json!(true)) { "listens at no address" } else { "does not run" };
            Failure::usage(format!("this node {why}: set `listen = [\"127.0.0.1:7575\"]` under `window` in node.toml, and start it"))
        })?;
        let reply: TokenReply = client.post("/v1/tokens", &parameters).await?;
        Ok((place, reply))
    })?;
    let address = format!("{place}/#token={}", reply.token);
    context.screen.line(&address);
    context.screen.value(&json!({ "address": address, "token": reply.line }));
    context
        .screen
        .note(&format!("for {}, until {}; `huecry token revoke {}` ends it", reply.line.stands_for, reply.line.until, reply.line.name));
    Ok(())
}
