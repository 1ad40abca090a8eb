//! `huecry verify`: check a proof that a feed's author said two things.

use super::{Context, Failure, client::Client};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Check a proof of equivocation against the charter and cards that are here, or write one out for others to check.
#[derive(clap::Args)]
pub struct Arguments {
    /// The proof's file.
    #[arg(required_unless_present = "export")]
    proof: Option<PathBuf>,
    /// Write the proof about this quarantined feed to --out.
    #[arg(long, value_name = "FEED", requires = "out", conflicts_with = "proof")]
    export: Option<String>,
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Longest proof that is read.
const PROOF_BYTES_MAX: u64 = crate::charter::EQUIVOCATION_BYTES_MAX as u64;

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    if let (Some(feed), Some(out)) = (&arguments.export, &arguments.out) {
        let bytes = Client::with(&context.data, async |client| client.bytes("/v1/proof", &json!({ "feed": feed })).await)?;
        std::fs::write(out, &bytes).map_err(|error| Failure::environment(format!("{}: {error}", out.display())))?;
        context.screen.line(&format!(
            "{}: the proof about {feed}, {} bytes; anyone with the federation's charter can verify it",
            out.display(),
            bytes.len()
        ));
        context.screen.value(&json!({ "feed": feed, "bytes": bytes.len() }));
        return Ok(());
    }
    let path = arguments.proof.unwrap_or_default();
    let at = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    if std::fs::metadata(&path).map_err(at)?.len() > PROOF_BYTES_MAX {
        return Err(Failure::usage(format!("{}: longer than any proof", path.display())));
    }
    let bytes = std::fs::read(&path).map_err(at)?;
    let found: Value = Client::with(&context.data, async |client| client.stream("/v1/verify", &json!({}), bytes.into()).await)?;
    let text =
        |name: &str| found.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap_or_default();
    let screen = &context.screen;
    screen.value(&found);
    screen.line(&format!("proved: the author of {} signed two heads for #{}", text("feed"), text("seq")));
    for head in found.get("heads").and_then(Value::as_array).into_iter().flatten() {
        let part =
            |name: &str| head.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap_or_default();
        screen.line(&format!("  {} records at {}, root {}", part("records"), part("time"), part("root")));
    }
    screen.line(match (found.get("settled_by_card"), found.get("quarantined_here")) {
        (Some(Value::Bool(true)), _) => "a card of the author has settled since which branch stands",
        (_, Some(Value::Bool(true))) => "the feed is quarantined here",
        _ => "the feed is not quarantined here: this node has nothing of it, or has not been told",
    });
    Ok(())
}
