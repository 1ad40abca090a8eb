//! `huecry ledger`: is it whole, make it anew, keep a copy, come back from one.

use super::{Context, Failure, client::Client, print::grouped};
use crate::{
    clock::Clock,
    http::BackupParameters,
    ledger::{BackedUp, Compacted, Ledger, Verified},
    node::upkeep::{ERASED_FILE, known_backups, read_erased},
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Look after what is kept: verify, rebuild, back up, restore.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Read all of the journal again, prove every record, and compare state and index with ones built from it.
    Verify,
    /// Build state and index anew from the journal. The node must not run.
    Rebuild,
    /// Copy what the last backup into DIR did not have, while the node goes on.
    Backup {
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Make the ledger of a backup, where there is none: after a disaster. Keys and configuration are not in it. What was erased since
    /// the backup stays out.
    Restore {
        #[arg(value_name = "DIR")]
        from: PathBuf,
        /// The file `erased.json` of the data directory that was, if this is another one.
        #[arg(long, value_name = "FILE")]
        erased: Option<PathBuf>,
    },
    /// Keep what is whole of a journal that is damaged, with what backups have of the rest; say what is lost. The node must not run.
    Repair {
        /// A backup of this ledger, beside those that it knows.
        #[arg(long, value_name = "DIR")]
        from: Vec<PathBuf>,
    },
    /// Rewrite what was erased out of the journal's files now; a running node does so by itself.
    Compact,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Verify => verify(context),
        Verb::Rebuild => rebuild(context),
        Verb::Backup { to } => backup(context, &to),
        Verb::Restore { from, erased } => restore(context, &from, erased),
        Verb::Repair { from } => repair(context, from),
        Verb::Compact => compact(context),
    }
}

fn verify(context: &Context) -> Result<(), Failure> {
    let bar = context.screen.bar(0, "read");
    let progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let found: Verified = Client::with(&context.data, async |client| client.watch("/v1/ledger/verify", &json!({}), progress).await)?;
    bar.finish_and_clear();
    let screen = &context.screen;
    screen.value(&found);
    let [frames, batches, records] = [found.frames, found.batches, found.records].map(grouped);
    screen.line(&format!("journal     {frames} entries, {} MiB; {records} records in {batches} batches proved again", found.bytes >> 20));
    if found.damage.is_empty() {
        screen.line("state       as the journal makes it");
        let index = if found.index.is_some() { "as the journal makes it" } else { "was being written, and not compared; ask again" };
        screen.line(&format!("index       {index}"));
        return Ok(());
    }
    found.damage.iter().for_each(|damage| screen.line(&format!("DAMAGED     {damage}")));
    Err(Failure::environment("the ledger is damaged"))
}

fn rebuild(context: &Context) -> Result<(), Failure> {
    let begun = std::time::Instant::now();
    context.screen.note("building state and index from the journal; ten million records take under a minute");
    let recovery = Ledger::rebuild(&context.data.join("ledger")).map_err(Failure::environment)?;
    context.screen.value(&recovery);
    context.screen.line(&format!("built from {} entries in {:.1} s", grouped(recovery.replayed), begun.elapsed().as_secs_f64()));
    Ok(())
}

fn backup(context: &Context, to: &Path) -> Result<(), Failure> {
    // The node may stand in another directory than this command.
    let to = std::path::absolute(to).map_err(|error| Failure::usage(format!("{}: {error}", to.display())))?;
    let parameters = BackupParameters { to: to.clone() };
    let done: BackedUp = Client::with(&context.data, async |client| client.post("/v1/ledger/backup", &parameters).await)?;
    context.screen.value(&done);
    let files = if done.files == 1 { "one file".to_owned() } else { format!("{} files", grouped(done.files)) };
    context.screen.line(&format!("{files}, {} MiB, to {}", done.bytes >> 20, to.display()));
    Ok(())
}

fn restore(context: &Context, from: &Path, erased: Option<PathBuf>) -> Result<(), Failure> {
    let path = erased.clone().unwrap_or_else(|| context.data.join(ERASED_FILE));
    if erased.is_some() && !path.is_file() {
        return Err(Failure::usage(format!("{}: there is no such file", path.display())));
    }
    let stays_out = read_erased(&path).map_err(Failure::usage)?;
    let recovery = Ledger::restore(from, &context.data.join("ledger"), &stays_out, Clock::System.now()).map_err(Failure::environment)?;
    context.screen.value(&recovery);
    context.screen.line(&format!("restored: {} entries", grouped(recovery.replayed)));
    if stays_out.is_empty() {
        context.screen.note("nothing is known to have been erased since; if something was, --erased FILE names the old node's erased.json");
    }
    context.screen.note(
        "what came since the backup comes from the others; own publications wait until two of them have told this node its last head",
    );
    Ok(())
}

fn repair(context: &Context, mut copies: Vec<PathBuf>) -> Result<(), Failure> {
    copies.extend(known_backups(&context.data));
    let stays_out = read_erased(&context.data.join(ERASED_FILE)).map_err(Failure::usage)?;
    let ledger = context.data.join("ledger");
    let (repaired, holes) = Ledger::repair(&ledger, &copies, &stays_out, Clock::System.now()).map_err(Failure::environment)?;
    let screen = &context.screen;
    screen.value(&json!({ "repaired": repaired, "holes": holes }));
    if repaired.segments == 0 {
        screen.line("the journal is whole; state and index were built anew");
        return Ok(());
    }
    screen.line(&format!("{} segments were damaged; {} entries came from backups", repaired.segments, grouped(repaired.recovered as u64)));
    if repaired.lost.is_empty() {
        screen.line("nothing is lost");
        return Ok(());
    }
    screen.line(&format!("{} stretches of the journal are lost; the damaged files are in ledger/journal/damaged", repaired.lost.len()));
    holes
        .iter()
        .for_each(|hole| screen.line(&format!("{} lacks #{} to #{}, which come again from peers", hole.feed, hole.first, hole.last)));
    screen.note("what people decided here may be among what is lost: look at `huecry held`, `huecry outlets` and `huecry decisions`");
    Ok(())
}

fn compact(context: &Context) -> Result<(), Failure> {
    let done: Compacted = Client::with(&context.data, async |client| client.post("/v1/ledger/compact", &json!({})).await)?;
    context.screen.value(&done);
    context.screen.line(&match done.segments {
        0 => "nothing waits to be rewritten".to_owned(),
        segments => format!("{segments} segments rewritten: {} KiB before, {} KiB now", done.before >> 10, done.after >> 10),
    });
    Ok(())
}
