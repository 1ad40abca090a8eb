//! `huecry follow`: what of others' channels this node wants. The senders filter.

use super::{Context, Failure, client::Client};
use crate::http::{FollowParameters, FollowReply, FollowedChannel};
use serde_json::json;

/// Follow a channel, or part of it; without one, show what is followed.
#[derive(clap::Args)]
pub struct Arguments {
    /// The channel, such as talos/c2.
    channel: Option<String>,
    /// Only indicators of these types.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', requires = "channel")]
    types: Vec<String>,
    /// Only indicators of at least this confidence, 0 to 100.
    #[arg(long, value_name = "CONFIDENCE", default_value_t = 0, requires = "channel")]
    min_confidence: u8,
    /// Follow it no more by name.
    #[arg(long, requires = "channel", conflicts_with_all = ["types", "min_confidence"])]
    stop: bool,
    /// Of all that is not named, follow nothing.
    #[arg(long, conflicts_with = "everything")]
    only: bool,
    /// Of all that is not named, follow everything (as a new node does).
    #[arg(long)]
    everything: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let changes = arguments.channel.is_some() || arguments.only || arguments.everything;
    let reply: FollowReply = Client::with(&context.data, async |client| {
        if !changes {
            return client.get("/v1/follow", &json!({})).await;
        }
        let named = arguments.channel.clone().filter(|_| !arguments.stop);
        let follow =
            named.map(|channel| FollowedChannel { channel, types: arguments.types.clone(), confidence_min: arguments.min_confidence });
        let unfollow = arguments.channel.clone().filter(|_| arguments.stop);
        let everything = if arguments.only { Some(false) } else { arguments.everything.then_some(true) };
        client.post("/v1/follow", &FollowParameters { everything, follow, unfollow }).await
    })?;
    let screen = &context.screen;
    screen.value(&reply);
    let named = |channel: &str| reply.channels.iter().find(|one| one.channel == channel);
    for one in &reply.channels {
        screen.line(&format!("{}  {}", one.channel, what(one)));
    }
    for channel in reply.offered.iter().filter(|channel| named(channel).is_none()) {
        screen.line(&format!("{channel}  {}", if reply.everything { "all" } else { "not followed" }));
    }
    if !reply.everything && reply.channels.is_empty() {
        screen.note("nothing is followed, so nothing new comes; name a channel, or --everything");
    }
    Ok(())
}

fn what(one: &FollowedChannel) -> String {
    let types = if one.types.is_empty() { "all types".to_owned() } else { one.types.join(", ") };
    if one.confidence_min > 0 { format!("{types}, confidence {} and above", one.confidence_min) } else { types }
}
