//! `huecry token`: by which programs and browsers say who they are where no socket says it.

use super::{Context, Failure, client::Client};
use crate::http::{RevokeParameters, TokenLine, TokenParameters, TokenReply};
use serde_json::{Value, json};

/// Make, list and take back tokens: with one a program, or a browser, reaches this node at the addresses under `window` in node.toml.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a token for yourself, with some or all of what you may, or for one of our outlets. It is shown once.
    New {
        /// What it is called: the machine or program that gets it.
        name: String,
        /// For this outlet: it may take what that is given, and nothing else.
        #[arg(long, value_name = "NAME")]
        outlet: Option<String>,
        /// What it lends of what you may: reads, decides, publishes, administers, audits.
        #[arg(long, value_delimiter = ',', conflicts_with = "outlet")]
        roles: Vec<String>,
        /// The highest marking that it shows.
        #[arg(long, value_name = "TLP", conflicts_with = "outlet")]
        tlp_max: Option<String>,
        /// For how many days it counts.
        #[arg(long, default_value_t = 90)]
        days: u32,
        /// What it is for: the reason of whatever is looked at with it.
        #[arg(long, value_name = "TEXT")]
        purpose: Option<String>,
    },
    /// Show the tokens, without what they are.
    List,
    /// Take a token back: it lets nobody in any more.
    Revoke { name: String },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let screen = &context.screen;
    match arguments.verb {
        Verb::New { name, outlet, roles, tlp_max, days, purpose } => {
            let parameters = TokenParameters { name, outlet, roles, tlp_max, days, because: purpose };
            let reply: TokenReply = Client::with(&context.data, async |client| client.post("/v1/tokens", &parameters).await)?;
            screen.value(&reply);
            screen.line(&reply.token);
            screen
                .note(&format!("`{}`, for {}, until {}; it is shown this once", reply.line.name, reply.line.stands_for, reply.line.until));
        }
        Verb::List => {
            let lines: Vec<TokenLine> = Client::with(&context.data, async |client| client.get("/v1/tokens", &json!({})).await)?;
            screen.value(&lines);
            for line in &lines {
                let counts = if line.counts { "" } else { "  COUNTS NO MORE" };
                let roles = if line.roles.is_empty() { String::new() } else { format!(", {}", line.roles.join(" ")) };
                let tlp = line.tlp_max.as_ref().map(|tlp| format!(", up to {tlp}")).unwrap_or_default();
                screen.line(&format!("{}  {}{roles}{tlp}  until {}{counts}", line.name, line.stands_for, line.until));
            }
            if lines.is_empty() {
                screen.note("no tokens; `huecry token new NAME` makes one");
            }
        }
        Verb::Revoke { name } => {
            let parameters = RevokeParameters { name };
            let _done: Value = Client::with(&context.data, async |client| client.post("/v1/tokens/revoke", &parameters).await)?;
            screen.line(&format!("`{}` lets nobody in any more", parameters.name));
        }
    }
    Ok(())
}
