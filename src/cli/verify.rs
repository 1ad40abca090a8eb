//! `huecry verify`: check a proof that a feed's author said two things, or the signatures that a bundle carries.

use super::{Context, Failure, client::Client, print::grouped, publish::pieces_of};
use crate::http::ProofsReply;
use axum::body::Body;
use serde_json::{Value, json};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// Check signatures against the charter and cards that are here: those that a STIX bundle carries (`huecry export stix --proofs`), or a proof
/// of equivocation; or write such a proof out for others to check.
#[derive(clap::Args)]
pub struct Arguments {
    /// The bundle, or the proof.
    #[arg(value_name = "FILE", required_unless_present = "export")]
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
    if is_json(&path).map_err(at)? {
        return bundle(context, &path);
    }
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

/// Whether a file begins as a bundle does.
fn is_json(path: &Path) -> std::io::Result<bool> {
    let mut start = [0; 64];
    let length = std::fs::File::open(path)?.read(&mut start)?;
    let start = start.get(..length).unwrap_or_default();
    Ok(start.trim_ascii_start().strip_prefix(b"\xef\xbb\xbf").unwrap_or(start.trim_ascii_start()).starts_with(b"{"))
}

fn bundle(context: &Context, path: &Path) -> Result<(), Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
    let length = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let found: ProofsReply = Client::with(&context.data, async |client| {
        let bar = context.screen.bar(length, &path.display().to_string());
        let stream = pieces_of(Box::new(file), bar.clone());
        let reply = client.stream("/v1/verify/bundle", &json!({}), Body::from_stream(stream)).await;
        bar.finish_and_clear();
        reply
    })?;
    let screen = &context.screen;
    screen.value(&found);
    let ProofsReply { indicators, carrying, proved, by, without_report, withdrawn, wrong, first_wrong } = found;
    screen.line(&format!("{} of {} indicators are proved to be their authors' word", grouped(proved), grouped(indicators)));
    for (member, count) in by {
        screen.line(&format!("  {} signed by {member}", grouped(count)));
    }
    if without_report > 0 {
        screen.line(&format!(
            "  {} of them stand under reports that are not here: what only those say (mostly use, confidence, end) is not looked at",
            grouped(without_report)
        ));
    }
    if withdrawn > 0 {
        screen.line(&format!("  {} of them have been taken back since", grouped(withdrawn)));
    }
    for line in &first_wrong {
        screen.line(&format!("  line {}, {}: {}", line.line, line.id, line.why));
    }
    if wrong > 0 {
        return Err(Failure::nothing(format!("{} are not what they say, or say it in a way that readers differ about", grouped(wrong))));
    }
    if carrying == 0 {
        return Err(Failure::nothing(
            "no indicator in it carries its author's signature; `huecry export stix --proofs` writes such bundles",
        ));
    }
    if carrying < indicators {
        screen.note(&format!("{} carry no signature; whoever made the bundle says them", grouped(indicators - carrying)));
    }
    Ok(())
}
