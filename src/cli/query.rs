//! `huecry query`: ask the ledger.

use super::{Context, Failure, client::Client, print::grouped};
use crate::http::QueryParameters;
use serde_json::Value;

/// Ask what is known about a value, a network, or everything below a domain.
#[derive(clap::Args)]
#[command(
    after_help = "A value in any spelling (evil[.]example, hxxp://...), a network (192.0.2.0/24: all inside and around it), *.evil.example for all below a domain."
)]
pub struct Arguments {
    /// What to ask about; with --origin or --type it may be left out.
    #[arg(value_name = "VALUE", required_unless_present_any = ["origin", "kind"])]
    text: Option<String>,
    /// Only what this member asserts.
    #[arg(long, value_name = "MEMBER")]
    origin: Option<String>,
    /// Only values of this type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only records with this TLP marking or a wider one.
    #[arg(long, value_name = "TLP")]
    tlp_max: Option<String>,
    /// Also what is held, refused, withdrawn or over.
    #[arg(long)]
    all: bool,
    /// Most values to show.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { text, origin, kind, tlp_max, all, limit } = arguments;
    let parameters = QueryParameters { text, origin, kind, tlp_max, all, limit };
    let answer: Value = Client::with(&context.data, async |client| client.get("/v1/query", &parameters).await)?;
    context.screen.value(&answer);
    let values = answer.get("values").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for value in values {
        show(context, value);
    }
    let hidden: Vec<String> = answer
        .get("not_shown")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(rule, count)| format!("{} {rule}", grouped(count.as_u64().unwrap_or_default())))
        .collect();
    if !hidden.is_empty() {
        context.screen.line(&format!("not shown: {} (--all shows them)", hidden.join("; ")));
    }
    if answer.get("cut") == Some(&Value::Bool(true)) {
        context.screen.note("there is more; ask more narrowly, or raise --limit");
    }
    if !values.is_empty() {
        return Ok(());
    }
    Err(Failure::nothing(if hidden.is_empty() { "nothing is known about that" } else { "" }))
}

fn show(context: &Context, value: &Value) {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let origins: Vec<&str> = value.get("origins").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let confidence = value.get("confidence").and_then(Value::as_u64).unwrap_or_default();
    let number = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or_default();
    let independent = if origins.len() > 1 { format!(" ({} independent)", number("independent")) } else { String::new() };
    let disputed: Vec<&str> = value.get("disputed_by").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let disputed = if disputed.is_empty() { String::new() } else { format!("  called a false positive by {}", disputed.join(", ")) };
    context.screen.line(&format!(
        "{}  {}  {}  confidence {confidence}  asserted by {}{independent}{disputed}",
        text(value, "defanged"),
        text(value, "type"),
        text(value, "tlp"),
        if origins.is_empty() { "nobody now".to_owned() } else { origins.join(", ") },
    ));
    for one in value.get("assertions").and_then(Value::as_array).into_iter().flatten() {
        let title = one.get("title").and_then(Value::as_str).map(|title| format!("  \"{title}\"")).unwrap_or_default();
        let standing = text(one, "standing");
        context.screen.line(&format!("  {}  {standing}  until {}{title}", text(one, "reference"), text(one, "ends")));
        if standing != "accepted" {
            context.screen.line(&format!("    {}", text(one, "reason")));
        }
    }
}
