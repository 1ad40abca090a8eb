//! `huecry erase`: content that has to go, for good.

use super::{
    Context, Failure,
    client::Client,
    print::{confirm, grouped},
};
use crate::{
    http::{EraseParameters, ErasePreview},
    node::upkeep::Outcome,
};

/// Records shown before it asks.
const SHOWN_MAX: usize = 20;

/// Erase records by order: here, for good, out of exports and backups too. Hashes remain, so that their neighbours still prove themselves.
#[derive(clap::Args)]
#[command(after_help = "It cannot be undone. What we published ourselves stays with others until `huecry withdraw --reason legal`, which \
                        erases it wherever it arrives.")]
pub struct Arguments {
    /// Records (a report with all that stands under it), or values: every record about exactly that value.
    #[arg(value_name = "REF|VALUE", required = true)]
    what: Vec<String>,
    /// Under which order: what an auditor will read. Not what is erased.
    #[arg(long, value_name = "TEXT")]
    order: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { what, order, yes } = arguments;
    let parameters = EraseParameters { what, order };
    let screen = &context.screen;
    Client::with(&context.data, async |client| {
        let preview: ErasePreview = client.post("/v1/erase/preview", &parameters).await?;
        for line in preview.records.iter().take(SHOWN_MAX) {
            screen.note(&format!("  {}  {}  {}  {}", line.reference, line.kind, line.tlp, line.about));
        }
        let more = preview.all - preview.records.len().min(SHOWN_MAX);
        if more > 0 {
            screen.note(&format!("  and {} more", grouped(more as u64)));
        }
        let question = format!("erase {} records for good?", grouped(preview.all as u64));
        if !yes && !confirm(&question, "nobody is here to ask; --yes erases without asking")? {
            return Err(Failure::nothing("nothing was erased"));
        }
        let outcome: Outcome = client.post("/v1/erase", &parameters).await?;
        screen.value(&outcome);
        let Outcome { erased, compacted, contents, backups } = &outcome;
        screen.line(&format!(
            "{} records erased, in {} batches; {} segments of the journal rewritten, {contents} contents of documents removed",
            grouped(erased.records),
            grouped(erased.batches),
            compacted.segments
        ));
        for backup in backups {
            let what = backup.stale.as_ref().map_or("brought up to date".to_owned(), |why| format!("STILL HOLDS IT: {why}"));
            screen.line(&format!("backup {}: {what}", backup.directory.display()));
        }
        if preview.ours > 0 {
            let ours = grouped(preview.ours as u64);
            screen.note(&format!("{ours} of them we have published; others keep them until `huecry withdraw --reason legal`"));
        }
        Ok(())
    })
}
