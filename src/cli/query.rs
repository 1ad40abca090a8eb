//! `huecry query`: ask the ledger.

use super::{Context, Failure, client::Client, orders::ago, print::grouped};
use crate::{clock::Clock, http::QueryParameters};
use serde_json::Value;

/// Ask what is known about a value, a network, or everything below a domain; or by what is said about it.
#[derive(clap::Args)]
#[command(after_help = "A value in any spelling (evil[.]example, hxxp://...), a network (192.0.2.0/24: all inside and around it), \
                        *.evil.example for all below a domain. What is asked for in several ways has to be all of it.")]
pub struct Arguments {
    #[command(flatten)]
    filter: Filter,
    /// Also what is held, refused, withdrawn or over.
    #[arg(long)]
    all: bool,
    /// In which order: value, newest, confidence.
    #[arg(long, value_name = "ORDER")]
    sort: Option<String>,
    /// Most values to show.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Go on where an answer ended.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Which records are meant.
#[derive(clap::Args)]
pub(super) struct Filter {
    /// What to ask about; with any of the others it may be left out.
    #[arg(value_name = "VALUE")]
    value: Option<String>,
    /// Words, all of which the record or its report says.
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
    /// A tag of the record or its report, whole.
    #[arg(long)]
    tag: Option<String>,
    /// An actor that the report names, whole.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only what this member asserts.
    #[arg(long, value_name = "MEMBER")]
    origin: Option<String>,
    /// Only what came in channels of this name.
    #[arg(long)]
    channel: Option<String>,
    /// Only findings of this organisation, or under this outside id.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only values of this type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only records of this kind: indicator, sighting, report, document, question, withdrawal, renewal.
    #[arg(long, value_name = "KIND")]
    record: Option<String>,
    /// Only what was received since: 7d, 12h, a date.
    #[arg(long, value_name = "WHEN")]
    pub(super) since: Option<String>,
    /// Only what was received before.
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Only records with this TLP marking or a wider one.
    #[arg(long, value_name = "TLP")]
    tlp_max: Option<String>,
}

impl Filter {
    /// The question as the window takes it.
    pub(super) fn parameters(self) -> Result<QueryParameters, Failure> {
        let Self { value, text, tag, actor, origin, channel, source, kind, record, since, until, tlp_max } = self;
        let now = Clock::System.now();
        let back = |text: String| ago(&text, now).map(|time| time.precise());
        let (since, until) = (since.map(back).transpose()?, until.map(back).transpose()?);
        Ok(QueryParameters {
            value,
            text,
            tag,
            actor,
            origin,
            channel,
            source,
            kind,
            record,
            since,
            until,
            tlp_max,
            ..QueryParameters::default()
        })
    }

    /// Whether nothing is said at all.
    fn is_open(&self) -> bool {
        let Self { value, text, tag, actor, origin, channel, source, kind, record, since, until, tlp_max: _ } = self;
        [value, text, tag, actor, origin, channel, source, kind, record, since, until].iter().all(|part| part.is_none())
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { filter, all, sort, limit, cursor } = arguments;
    if filter.is_open() {
        return Err(Failure::usage("say what to ask about: a value, or one of --text, --tag, --actor, --origin and others (--help)"));
    }
    let parameters = QueryParameters { all, sort, limit, cursor, ..filter.parameters()? };
    let answer: Value = Client::with(&context.data, async |client| client.get("/v1/query", &parameters).await)?;
    context.screen.value(&answer);
    let values = answer.get("values").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for value in values {
        show(context, value);
    }
    let records = answer.get("records").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for record in records {
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let tags: Vec<&str> = record.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let tags = if tags.is_empty() { String::new() } else { format!("  {}", tags.join(", ")) };
        context.screen.line(&format!(
            "{}  {}  {}  {}  \"{}\"{tags}",
            text("reference"),
            text("kind"),
            text("tlp"),
            text("standing"),
            text("about")
        ));
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
        match answer.get("cursor").and_then(Value::as_str) {
            Some(cursor) => context.screen.note(&format!("there is more: the same with --cursor {cursor}")),
            None => context.screen.note("there is more; ask more narrowly, or raise --limit"),
        }
    }
    if !values.is_empty() || !records.is_empty() {
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
