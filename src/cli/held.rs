//! `huecry held`: what waits for a person.

use super::{Context, Failure, client::Client, print::grouped};
use crate::http::{HeldDecided, HeldDecision, HeldFilter, HeldReply};

/// List what policies hold for a person; release or reject it, one by one or in bulk.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// What waits, the oldest first.
    List(Which),
    /// The whole story of what waits about a value, or of one record.
    Show {
        #[arg(value_name = "REF|VALUE")]
        what: String,
    },
    /// Accept it, in spite of the policy that holds it.
    Release(Decision),
    /// Refuse it.
    Reject(Decision),
}

#[derive(clap::Args)]
struct Which {
    /// One record by its name, or all records about a value.
    #[arg(value_name = "REF|VALUE")]
    what: Option<String>,
    #[arg(long, value_name = "MEMBER")]
    origin: Option<String>,
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Held by this policy.
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// How many to show.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    limit: usize,
}

#[derive(clap::Args)]
struct Decision {
    #[command(flatten)]
    which: Which,
    /// Everything that is held.
    #[arg(long)]
    all: bool,
    /// Why; it stands in the journal with your name.
    #[arg(long)]
    reason: String,
}

impl Which {
    fn filter(self, all: bool) -> HeldFilter {
        let Self { what, origin, kind, policy, limit } = self;
        HeldFilter { what, origin, kind, policy, all, limit }
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        None => list(context, &HeldFilter::default()),
        Some(Verb::List(which)) => list(context, &which.filter(false)),
        Some(Verb::Show { what }) => super::explain::tell(context, &what, false),
        Some(Verb::Release(decision)) => decide(context, decision, "release"),
        Some(Verb::Reject(decision)) => decide(context, decision, "reject"),
    }
}

fn list(context: &Context, filter: &HeldFilter) -> Result<(), Failure> {
    let reply: HeldReply = Client::with(&context.data, async |client| client.get("/v1/held", filter).await)?;
    for line in &reply.held {
        context.screen.line(&format!("{}  {}  {}  {}", line.record, line.about, line.tlp, line.reason));
        context.screen.line(&format!("    came {}; refused on {} if nobody decides", line.received, line.until));
    }
    context.screen.value(&reply);
    let more = reply.matching.saturating_sub(reply.held.len() as u64);
    if more > 0 {
        context.screen.note(&format!("and {} more; --limit shows them", grouped(more)));
    }
    if reply.held.is_empty() { Err(Failure::nothing("nothing is held that matches")) } else { Ok(()) }
}

fn decide(context: &Context, decision: Decision, word: &str) -> Result<(), Failure> {
    let Decision { which, all, reason } = decision;
    let decision = HeldDecision { decision: word.to_owned(), reason, filter: which.filter(all) };
    let done: HeldDecided = Client::with(&context.data, async |client| client.post("/v1/held", &decision).await)?;
    let past = if word == "release" { "released" } else { "rejected" };
    context.screen.line(&format!("{} records {past}", grouped(done.decided as u64)));
    context.screen.value(&done);
    Ok(())
}
