//! `huecry audit`: who was shown what, when, by what way and why; and whether anybody has altered the log of it.

use super::{Context, Failure, client::Client, orders::ago, print::grouped};
use crate::{
    clock::Clock,
    http::{AccessParameters, AccessReply, AccessVerified, AccessVerifyParameters},
};

/// Show who saw a record, or what somebody looked at: for operators who audit.
#[derive(clap::Args)]
#[command(after_help = "The log holds names of records and no values; one line an hour for the same person, way and reason.")]
pub struct Arguments {
    /// A record (talos/c2#48213.17).
    record: Option<String>,
    /// Only this operator, or `outlet NAME`.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// From then on: 12h, 7d, a date.
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Check that nothing in the log was altered, taken out or put in, and show its head, to be written down elsewhere.
    #[arg(long, conflicts_with_all = ["record", "who", "since"])]
    verify: bool,
    /// Check also against a head that was written down.
    #[arg(long, value_name = "HEAD", requires = "verify")]
    against: Option<String>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    if arguments.verify {
        return verify(context, arguments.against);
    }
    let since = arguments.since.map(|text| ago(&text, Clock::System.now()).map(|time| time.precise())).transpose()?;
    let parameters = AccessParameters { record: arguments.record, who: arguments.who, since };
    let reply: AccessReply = Client::with(&context.data, async |client| client.get("/v1/access", &parameters).await)?;
    let screen = &context.screen;
    screen.value(&reply);
    for line in &reply.lines {
        let why = line.why.as_ref().map_or_else(|| "no reason given".to_owned(), |why| format!("because {why}"));
        let beside = if line.records > 1 { format!("  ({} records)", grouped(line.records)) } else { String::new() };
        screen.line(&format!("{}  {}  {}  {why}{beside}", line.at, line.who, line.how));
    }
    if !reply.passed_on.is_empty() {
        screen.line(&format!("passed on by order of this node to {}", reply.passed_on.join(", ")));
    }
    reply.outlets.iter().for_each(|outlet| screen.line(&format!("outlet {outlet}")));
    for line in &reply.receipts {
        screen.line(&format!("{} says: {} ({})", line.member, line.state, line.since.as_deref().unwrap_or("never heard")));
    }
    match (reply.noted.as_str(), reply.lines.len()) {
        ("off", _) => screen.note("looks are not noted: `log = \"off\"` under [access] in node.toml"),
        (from, 0) => screen.note(&format!("no look is noted; {from} and above are")),
        (from, _) => screen.note(&format!("{from} and above are noted{}", if reply.cut { "; there are older lines" } else { "" })),
    }
    Ok(())
}

fn verify(context: &Context, against: Option<String>) -> Result<(), Failure> {
    let parameters = AccessVerifyParameters { against };
    let reply: AccessVerified = Client::with(&context.data, async |client| client.get("/v1/access/verify", &parameters).await)?;
    let screen = &context.screen;
    screen.value(&reply);
    let since = reply.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    screen.line(&format!("{} entries{since}, and the ends of {} days in the journal", grouped(reply.entries), reply.days));
    if let Some(head) = &reply.head {
        screen.line(&format!("head {head}"));
    }
    if reply.broken.is_empty() {
        screen.note("nothing was altered, taken out or put in; write the head down where nobody of this node can change it");
        return Ok(());
    }
    reply.broken.iter().for_each(|broken| screen.line(&format!("BROKEN {broken}")));
    Err(Failure::nothing("the access log is not what was written"))
}
