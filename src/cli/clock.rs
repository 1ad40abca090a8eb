//! `huecry clock`: the node's time, and its confirmation by operators.

use super::{Context, Failure, client::Client, key};
use crate::{
    clock::Clock,
    http::{ClockConfirmed, ClockParameters, ClockReply, clock_text},
};
use serde_json::json;
use std::path::PathBuf;

/// Show the time by this node, and any contradiction.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Say that the clock of this machine is right. Look at another clock first: expired records are erased by it.
    Confirm {
        /// Your name among the operators, where two of them have keys: both run this, on the same day.
        #[arg(long, requires = "key")]
        operator: Option<String>,
        /// Your operator key's file.
        #[arg(long, value_name = "FILE", requires = "operator")]
        key: Option<PathBuf>,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        None => {
            let reply = Client::with(&context.data, async |client| client.get("/v1/clock", &json!({})).await)?;
            show(context, &reply);
            context.screen.value(&reply);
            Ok(())
        }
        Some(Verb::Confirm { operator, key }) => confirm(context, operator, key),
    }
}

fn show(context: &Context, clock: &ClockReply) {
    let screen = &context.screen;
    screen.line(&format!("now         {}", clock.now));
    screen.line(&format!("machine     {}", clock.wall));
    screen.line(&format!("between     {} and {}", clock.earliest, clock.latest));
    for (word, text) in [("ALARM", &clock.doubt), ("waits", &clock.unsettled)] {
        if let Some(text) = text {
            screen.line(&format!("{word:<11} {text}"));
        }
    }
}

fn confirm(context: &Context, operator: Option<String>, path: Option<PathBuf>) -> Result<(), Failure> {
    let signature = match path {
        Some(path) => {
            let now = Clock::System.now();
            Some(key::signed_decision(context, &path, &clock_text(now), now)?)
        }
        None => None,
    };
    let parameters = ClockParameters { operator, signature };
    let reply: ClockConfirmed = Client::with(&context.data, async |client| client.post("/v1/clock", &parameters).await)?;
    if !reply.done {
        context.screen.line("signed; a second operator must run the same today");
    }
    show(context, &reply.clock);
    context.screen.value(&reply);
    Ok(())
}
