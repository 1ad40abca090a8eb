//! `huecry policy`: read, check, test, try and put in force what decides here.

use super::{Context, Failure, client::Client, print::grouped};
use crate::{
    config::Config,
    http::{PolicyReply, RejudgeParameters, TryParameters},
    node::rules::{self, Draft},
    policy::{Piece, Policy, compile, run_table},
    query::{Change, Trial},
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Show, check, test, try, reload the policies of this node.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// The policies in force, trust.toml as the Cedar that it compiles to, and the lists.
    Show,
    /// Check the files that node.toml names, or one file, without putting anything in force.
    Check { file: Option<PathBuf> },
    /// Run a table of cases against the policies in the files.
    Test {
        /// The table, such as tests.toml of a starter set.
        table: PathBuf,
        /// These policies instead of those that node.toml names.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Show what would change if a draft stood in place of policy.cedar (or, with the ending .toml, of trust.toml).
    Try {
        draft: PathBuf,
        /// How far back: 30d. Left out: everything.
        #[arg(long, value_name = "DAYS")]
        since: Option<String>,
    },
    /// Read policies and lists anew. What does not read leaves the last good one in force.
    Reload,
    /// Judge again what was judged before, by the policies in force, as `try` has shown it.
    Rejudge {
        #[arg(long, value_name = "DAYS")]
        since: Option<String>,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Show => show(context),
        Verb::Check { file } => check(context, file.as_deref()),
        Verb::Test { table, policy } => test(context, &table, policy.as_deref()),
        Verb::Try { draft, since } => attempt(context, &draft, since.as_deref()),
        Verb::Reload => reload(context),
        Verb::Rejudge { since } => rejudge(context, since.as_deref()),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn draft(path: &Path) -> Result<Draft, Failure> {
    Ok(Draft { file: path.display().to_string(), text: read(path)? })
}

fn days(since: Option<&str>) -> Result<Option<u32>, Failure> {
    let number = |text: &str| {
        text.trim_end_matches('d').parse::<u32>().map_err(|_| Failure::usage(format!("`{text}` is no number of days, as in 30d")))
    };
    since.map(number).transpose()
}

fn show(context: &Context) -> Result<(), Failure> {
    let reply: PolicyReply = Client::with(&context.data, async |client| client.get("/v1/policy", &json!({})).await)?;
    for piece in &reply.pieces {
        context.screen.line(&format!("// ==== {}", piece.file));
        piece.text.lines().for_each(|line| context.screen.line(line));
    }
    context.screen.line("");
    say(context, &reply);
    context.screen.value(&reply);
    Ok(())
}

fn say(context: &Context, reply: &PolicyReply) {
    context.screen.line(&format!("// {} policies in force, hash {}", reply.policies, reply.hash));
    for list in &reply.lists {
        let missing = list.missing.as_ref().map(|why| format!("  NOT READ: {why}")).unwrap_or_default();
        context.screen.line(&format!("// list {} {}, {} entries{missing}", list.name, list.role, grouped(list.entries as u64)));
    }
    for alarm in &reply.alarms {
        context.screen.line(&format!("// ALARM {alarm}"));
    }
}

fn config(context: &Context) -> Result<Config, Failure> {
    Config::read(&context.data.join("node.toml")).map_err(Failure::usage)
}

/// Policies out of one file.
fn of_file(path: &Path) -> Result<Policy, Failure> {
    let Draft { file, text } = draft(path)?;
    let piece = match file.ends_with(".toml") {
        true => compile(&file, &text).map_err(Failure::usage)?.ok_or_else(|| Failure::usage(format!("{file}: it has no entries")))?,
        false => Piece::new(file, text),
    };
    Policy::of(vec![piece]).map_err(Failure::usage)
}

fn of_config(context: &Context) -> Result<Policy, Failure> {
    Policy::of(rules::read_pieces(&context.data, &config(context)?, None).map_err(Failure::usage)?).map_err(Failure::usage)
}

fn check(context: &Context, file: Option<&Path>) -> Result<(), Failure> {
    let (policy, missing, notes) = match file {
        Some(path) => (of_file(path)?, Vec::new(), Vec::new()),
        None => {
            let (lists, notes) = rules::read_lists(&context.data, &config(context)?);
            (of_config(context)?, lists.missing().to_vec(), notes)
        }
    };
    notes.iter().for_each(|note| context.screen.note(note));
    context.screen.line(&format!("{} policies are in order", policy.count()));
    let missing: Vec<String> = missing.iter().map(|list| format!("list `{}`: {}", list.name, list.why)).collect();
    context.screen.value(&json!({ "policies": policy.count(), "hash": policy.hash().to_string(), "missing_lists": missing }));
    if missing.is_empty() { Ok(()) } else { Err(Failure::usage(missing.join("\n"))) }
}

fn test(context: &Context, table: &Path, policy: Option<&Path>) -> Result<(), Failure> {
    let policy = match policy {
        Some(path) => of_file(path)?,
        None => of_config(context)?,
    };
    let results = run_table(&policy, &table.display().to_string(), &read(table)?).map_err(Failure::usage)?;
    for result in &results {
        context.screen.line(&format!("{}  {}: {}", if result.passed { "ok    " } else { "FAILED" }, result.name, result.text));
    }
    let failed = results.iter().filter(|result| !result.passed).count();
    context.screen.line(&format!("{} of {} cases came out as they should", results.len() - failed, results.len()));
    context.screen.value(&results);
    if failed == 0 { Ok(()) } else { Err(Failure::nothing("")) }
}

fn attempt(context: &Context, path: &Path, since: Option<&str>) -> Result<(), Failure> {
    let parameters = TryParameters { draft: draft(path)?, since_days: days(since)? };
    let bar = context.screen.counter("records read");
    let progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let trial: Trial = Client::with(&context.data, async |client| client.watch("/v1/policy/try", &parameters, progress).await)?;
    bar.finish_and_clear();
    for line in &trial.changes {
        let Change { origin, kind, action, from, to } = &line.change;
        context.screen.line(&format!("{:>9}  {origin}  {kind}  {action}: {from} -> {to}", grouped(line.count)));
        for example in &line.examples {
            let because = if example.because.is_empty() { String::new() } else { format!("  {}", example.because) };
            context.screen.line(&format!("           e.g. {}  {}{because}", example.record, example.about));
        }
    }
    context.screen.line(&format!(
        "{} records looked at, {} would be judged otherwise. Nothing was changed.",
        grouped(trial.records),
        grouped(trial.changed)
    ));
    context.screen.value(&trial);
    Ok(())
}

fn reload(context: &Context) -> Result<(), Failure> {
    let reply: PolicyReply = Client::with(&context.data, async |client| client.post("/v1/policy/reload", &json!({})).await)?;
    say(context, &reply);
    context.screen.value(&reply);
    // Something did not read: the last good state is in force, and a script must see that.
    if reply.alarms.is_empty() { Ok(()) } else { Err(Failure::usage(reply.alarms.join("\n"))) }
}

fn rejudge(context: &Context, since: Option<&str>) -> Result<(), Failure> {
    let parameters = RejudgeParameters { since_days: days(since)? };
    let done: serde_json::Value = Client::with(&context.data, async |client| client.post("/v1/policy/rejudge", &parameters).await)?;
    let number = |name: &str| grouped(done.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default());
    context.screen.line(&format!("{} records looked at, {} judged otherwise now", number("records"), number("changed")));
    context.screen.value(&done);
    Ok(())
}
