//! `huecry explain`: the whole story of a record or value.

use super::{Context, Failure, client::Client};
use serde_json::{Value, json};

/// Tell the whole story of a record (talos/c2#48213.17) or of every record about a value.
#[derive(clap::Args)]
pub struct Arguments {
    /// A record's name, or a value in any spelling.
    #[arg(value_name = "REF|VALUE")]
    what: String,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    tell(context, &arguments.what)
}

/// Prints the whole story of a record, or of every record about a value.
pub fn tell(context: &Context, what: &str) -> Result<(), Failure> {
    let stories: Value = Client::with(&context.data, async |client| client.get("/v1/explain", &json!({ "what": what })).await)?;
    context.screen.value(&stories);
    let stories = stories.as_array().map(Vec::as_slice).unwrap_or_default();
    for story in stories {
        let text = |name: &str| story.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = |name: &str| {
            let items = story.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            items.map(str::to_owned).collect::<Vec<_>>().join(", ")
        };
        let line = |label: &str, text: String| {
            if !text.is_empty() {
                context.screen.line(&format!("  {label:<12}{text}"));
            }
        };
        context.screen.line(&format!("{}  {}  {}", text("reference"), text("kind"), text("about")));
        line("verdict", text("reason"));
        line("author", format!("{} in channel {}, to {}, {}", text("origin"), text("channel"), text("audience"), text("tlp")));
        line("report", [text("report"), text("title")].join("  ").trim().to_owned());
        line(
            "says",
            format!(
                "role {}, use {}, confidence {}, until {}",
                text("role"),
                text("use"),
                story.get("confidence").and_then(Value::as_u64).unwrap_or_default(),
                text("ends")
            ),
        );
        line("tags", list("tags"));
        line("on lists", list("lists"));
        line("signed", format!("{} by key {}", text("signed"), text("signed_by")));
        line("came", format!("{} through {}", text("received"), text("through")));
        line("proof", format!("head {}", text("head_id")));
        line("policy", text("policy_hash"));
    }
    if stories.is_empty() { Err(Failure::nothing("nothing is held about that")) } else { Ok(()) }
}
