//! `huecry explain`: the whole story of a record or value.

use super::{Context, Failure, client::Client};
use serde_json::{Value, json};

/// Tell the whole story of a record (talos/c2#48213.17) or of everything about a value: who says so and on whose word, what
/// was decided and by which policy, how sure one may be, who has it, where it is enforced.
#[derive(clap::Args)]
pub struct Arguments {
    /// A record's name, or a value in any spelling.
    #[arg(value_name = "REF|VALUE")]
    what: String,
    /// Also print the policies that decided, as they read then.
    #[arg(long)]
    policies: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    tell(context, &arguments.what, arguments.policies)
}

/// Prints the whole story of a record, or of everything about a value.
pub fn tell(context: &Context, what: &str, policies: bool) -> Result<(), Failure> {
    let story: Value = Client::with(&context.data, async |client| client.get("/v1/explain", &json!({ "what": what })).await)?;
    context.screen.value(&story);
    let records = items(&story, "records");
    records.iter().for_each(|record| tell_record(context, record, policies));
    if let Some(value) = story.get("value").filter(|value| value.is_object()) {
        tell_value(context, value, &items(&story, "lines"));
    }
    match story.get("erased").and_then(Value::as_str) {
        Some(erased) => context.screen.line(erased),
        None if records.is_empty() => return Err(Failure::nothing("nothing is held about that")),
        None => (),
    }
    Ok(())
}

fn items(value: &Value, name: &str) -> Vec<Value> {
    value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn list(value: &Value, name: &str) -> String {
    items(value, name).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn line(context: &Context, label: &str, text: &str) {
    if !text.is_empty() {
        context.screen.line(&format!("  {label:<12}{text}"));
    }
}

fn tell_record(context: &Context, record: &Value, policies: bool) {
    let of = |name: &str| text(record, name);
    context.screen.line(&format!("{}  {}  {}", of("reference"), of("kind"), of("about")));
    line(context, "verdict", &of("reason"));
    line(context, "author", &format!("{} in channel {}, to {}, {}", of("origin"), of("channel"), of("audience"), of("tlp")));
    line(context, "report", [of("report"), of("title")].join("  ").trim());
    line(context, "source", &of("source"));
    let says = format!("role {}, use {}, confidence {}, until {}", of("role"), of("use"), of("confidence"), of("ends"));
    line(context, "says", &says);
    line(context, "tags", &list(record, "tags"));
    line(context, "signed", &format!("{} by key {}", of("signed"), of("signed_by")));
    line(context, "came", &format!("{} through {}", of("received"), of("through")));
    let path = list(record, "path");
    if !path.is_empty() {
        line(context, "passed on", &format!("by {path}, as each says of the one before"));
    }
    line(context, "proof", &format!("head {}", of("head_id")));
    for decision in items(record, "decisions") {
        let by = decision.get("by").and_then(Value::as_str).map(|by| format!(", by {by}")).unwrap_or_default();
        line(context, "decided", &format!("{}{by}: {}", text(&decision, "at"), text(&decision, "sentence")));
        let texts = decision.get("policies").and_then(Value::as_object).filter(|_| policies);
        for source in texts.into_iter().flat_map(|texts| texts.values()).filter_map(Value::as_str) {
            source.lines().for_each(|text| context.screen.line(&format!("      | {text}")));
        }
    }
    items(record, "sightings").iter().filter_map(Value::as_str).for_each(|sighting| line(context, "sighting", sighting));
    let shared = record.get("shared").cloned().unwrap_or_default();
    line(context, "shared", &list(&shared, "with"));
    for (why, members) in shared.get("not").and_then(Value::as_object).into_iter().flatten() {
        let members: Vec<&str> = members.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        line(context, "not shared", &format!("{}: {why}", members.join(", ")));
    }
}

fn tell_value(context: &Context, value: &Value, lines: &[Value]) {
    context.screen.line(&format!("{}  all in all", text(value, "defanged")));
    let confidence = value.get("confidence").cloned().unwrap_or_default();
    let steps = list(&confidence, "steps").replace(", ", "; ");
    line(context, "confidence", &format!("{}: {}", text(&confidence, "value"), if steps.is_empty() { "nothing counts" } else { &steps }));
    line(context, "sources", &format!("{} independent", text(value, "origins")));
    for source in items(value, "sources") {
        let disputed = if source.get("disputed") == Some(&Value::Bool(true)) { ", disputed" } else { "" };
        line(context, "", &format!("{}, {}{disputed}", text(&source, "member"), text(&source, "source")));
    }
    line(context, "disputed by", &list(value, "disputed_by"));
    line(context, "on lists", &list(value, "lists"));
    for outlet in items(value, "outlets") {
        let may = if outlet.get("permitted") == Some(&Value::Bool(true)) { "may act" } else { "does not act" };
        line(context, "outlet", &format!("{} {may}: {}", text(&outlet, "outlet"), text(&outlet, "why")));
    }
    for hit in lines {
        let place = match hit.get("line").and_then(Value::as_u64) {
            Some(number) => format!("line {number} of {}", text(hit, "file")),
            None => format!("{}, not in the export of {}", text(hit, "stage"), text(hit, "outlet")),
        };
        line(context, "enforced", &format!("{place}: {}, by {}, since {}", text(hit, "value"), text(hit, "record"), text(hit, "since")));
        if text(hit, "stage") == "kept" {
            line(context, "", &text(hit, "because"));
        }
    }
}
