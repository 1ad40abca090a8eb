//! `huecry status`: how the node is.

use super::{Context, Failure, client::Client, print::grouped};
use serde_json::{Value, json};

/// Show how the node is: federation, peers, feeds, verdicts.
#[derive(clap::Args)]
pub struct Arguments {}

pub(super) fn run(context: &Context, _: Arguments) -> Result<(), Failure> {
    let status: Value = Client::with(&context.data, async |client| client.get("/v1/status", &json!({})).await)?;
    let screen = &context.screen;
    screen.value(&status);
    let at = |path: &str| status.pointer(path).cloned().unwrap_or_default();
    let text = |path: &str| at(path).as_str().unwrap_or_default().to_owned();
    let number = |path: &str| grouped(at(path).as_u64().unwrap_or_default());
    let running = if at("/running") == Value::Bool(true) { format!("running since {}", text("/since")) } else { "not running".to_owned() };
    screen.line(&format!("{} (node {}), {running}", text("/member"), text("/node")));
    screen.line(&format!("federation  {}  {}", text("/federation_name"), text("/federation")));
    screen.line(&format!(
        "charter     version {}, {}, until {}; {} members, {} cards",
        number("/charter_version"),
        text("/charter"),
        text("/charter_expires"),
        number("/members"),
        number("/cards")
    ));
    let peers = at("/network/peers").as_array().cloned().unwrap_or_default();
    let peer = |peer: &Value| {
        format!(
            "{} ({})",
            peer.pointer("/member").and_then(Value::as_str).unwrap_or_default(),
            peer.pointer("/software").and_then(Value::as_str).unwrap_or_default()
        )
    };
    for address in status.get("window").and_then(Value::as_array).into_iter().flatten() {
        screen.line(&format!("window      {}", address.as_str().unwrap_or_default()));
    }
    screen.line(&format!("peers       {}{}", peers.len(), peers.iter().map(peer).map(|peer| format!(", {peer}")).collect::<String>()));
    screen.line(&format!(
        "records     {} accepted, {} held, {} refused, {} waiting, {} malformed",
        number("/counts/accepted"),
        number("/counts/held"),
        number("/counts/refused"),
        number("/counts/waiting"),
        number("/counts/bad")
    ));
    for feed in at("/feeds").as_array().into_iter().flatten() {
        let count = |name: &str| grouped(feed.get(name).and_then(Value::as_u64).unwrap_or_default());
        let quarantined = if feed.get("quarantined") == Some(&Value::Bool(true)) { "  QUARANTINED" } else { "" };
        screen.line(&format!(
            "feed        {}  {} batches, {} accepted, {} held, {} refused{quarantined}",
            feed.get("feed").and_then(Value::as_str).unwrap_or_default(),
            count("last"),
            count("accepted"),
            count("held"),
            count("refused")
        ));
    }
    for outlet in at("/outlets").as_array().into_iter().flatten() {
        let text = |name: &str| outlet.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let stopped = outlet.get("stopped").and_then(Value::as_str).map(|scope| format!(", STOPPED with {scope}")).unwrap_or_default();
        let lines = grouped(outlet.get("lines").and_then(Value::as_u64).unwrap_or_default());
        screen.line(&format!("outlet      {}  {lines} lines, {} mode{stopped}", text("name"), text("mode")));
        for origin in outlet.get("origins").and_then(Value::as_array).into_iter().flatten() {
            if origin.get("at_cap") == Some(&Value::Bool(true)) {
                let member = origin.get("origin").and_then(Value::as_str).unwrap_or_default();
                screen.line(&format!("ALARM       {member} has used up the hour's additions at {}; see `huecry outlets`", text("name")));
            }
        }
    }
    for alarm in at("/alarms").as_array().into_iter().flatten() {
        screen.line(&format!("ALARM       {}", alarm.as_str().unwrap_or_default()));
    }
    for line in at("/ending").as_array().into_iter().flatten() {
        screen.line(&format!("ending      {}", line.as_str().unwrap_or_default()));
    }
    if let Some(why) = at("/erasure_waits").as_str() {
        screen.line(&format!("erasure     {why}"));
    }
    if let Some(heard) = at("/lane_waits/heard").as_array() {
        screen.line(&format!(
            "waits       {} of {} other members have told this node its own last head; {} publications are queued until then",
            heard.len(),
            number("/lane_waits/needed"),
            number("/queued")
        ));
    }
    for line in at("/network/relayed").as_array().into_iter().flatten() {
        screen.line(&format!("relayed     {}", line.as_str().unwrap_or_default()));
    }
    for line in at("/network/unreachable").as_array().into_iter().flatten() {
        let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
        screen.line(&format!("unreachable {} ({})  since {}: {}", text("member"), text("node"), text("since"), text("why")));
    }
    let refusals = at("/network/refusals");
    let refusals: Vec<String> = refusals.as_object().into_iter().flatten().map(|(code, count)| format!("{count} {code}")).collect();
    if !refusals.is_empty() {
        screen.line(&format!("not let in  {}", refusals.join(", ")));
    }
    Ok(())
}
