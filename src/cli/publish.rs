//! `huecry import` and `huecry publish`: read indicator files, keep them to ourselves or sign them to others.

use super::{Context, Failure, client::Client, opened::opened, print::grouped};
use crate::{
    http::{AssumedLine, PublishParameters, PublishReply},
    node::membership::{IMPORTED, INDICATORS},
};
use axum::body::{Body, Bytes};
use std::{
    fs::File,
    io::{IsTerminal as _, Read},
    path::{Path, PathBuf},
};

/// Bytes read from a file at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Complaints printed for a person; `--json` has fifty.
const COMPLAINTS_SHOWN: usize = 10;

/// What is said once about everything in the files.
#[derive(clap::Args, Clone)]
struct About {
    /// The title of the report that the indicators belong to; the file's name unless said.
    #[arg(long)]
    title: Option<String>,
    #[arg(long)]
    description: Option<String>,
    /// list (a value a line), csv, text (prose), stix or misp. By the file itself and its name unless said.
    #[arg(long, alias = "layout")]
    format: Option<String>,
    /// What the columns of a table are, as in -,value,confidence,tags; `-` means nothing. By its header unless said.
    #[arg(long, value_name = "COLUMNS")]
    columns: Option<String>,
    /// What an entry of `sources` in node.toml says of the files.
    #[arg(long = "as", value_name = "NAME")]
    as_source: Option<String>,
    /// The type of every value, such as domain or other:filename. Recognised unless said.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// 0 to 100.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    confidence: Option<u8>,
    /// How long it stays valid.
    #[arg(long, value_name = "DAYS", conflicts_with = "valid_until")]
    valid_days: Option<u32>,
    #[arg(long, value_name = "DATE")]
    valid_until: Option<String>,
    /// attacker, compromised, victim or unknown.
    #[arg(long)]
    role: Option<String>,
    /// The most a receiver should do: block, alert, hunt or context.
    #[arg(long = "use", value_name = "USE")]
    usage: Option<String>,
    /// Tags, separated by commas.
    #[arg(long)]
    tags: Option<String>,
    /// Whose finding it is: `own`, or the organisation that found it. Unsaid, it corroborates nothing.
    #[arg(long, value_name = "ORGANISATION")]
    source: Option<String>,
    /// Every domain means also what is below it.
    #[arg(long)]
    subdomains: bool,
    /// Do not say again what stands in the channel already; replace what has changed. Found by the file's ids, or by value.
    #[arg(long, conflicts_with = "mirror")]
    refresh: bool,
    /// Make what stands in the channel equal to the file: add, replace what has changed or is nearly over, take back the rest.
    #[arg(long)]
    mirror: bool,
    /// How many percent of what stands a mirror may take back; 20 unless said.
    #[arg(long, value_name = "PERCENT", requires = "mirror", value_parser = clap::value_parser!(u8).range(0..=100))]
    withdraw_max: Option<u8>,
}

/// Read indicator files into this node alone. Nothing of it leaves; `publish` does that. What a file does not say of who may
/// read it, how sure it is and how long it holds has to be said with --tlp, --confidence and --valid-days, or is asked for.
#[derive(clap::Args)]
pub struct ImportArguments {
    /// Files (STIX, MISP, lists, csv, prose; gzip too), or - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How it is marked where the file does not say: clear, green, amber, amber+strict or red.
    #[arg(long)]
    tlp: Option<String>,
    /// Take what a file does not say as unsaid: TLP:RED, no confidence, the longest life that is allowed here.
    #[arg(long)]
    as_is: bool,
    /// Keep nothing; say what would be taken.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    about: About,
}

/// Sign indicators and send them to a channel's readers.
#[derive(clap::Args)]
pub struct PublishArguments {
    /// Files (STIX, MISP, lists, csv, prose; gzip too), or - for standard input.
    #[arg(value_name = "FILE", required_unless_present = "value")]
    files: Vec<PathBuf>,
    /// A value to publish, beside or instead of files.
    #[arg(long, value_name = "VALUE")]
    value: Vec<String>,
    /// The channel.
    #[arg(long, default_value = INDICATORS)]
    channel: String,
    /// How it is marked where the file does not say: clear, green, amber, amber+strict or red. Lists are green unless said;
    /// a STIX or MISP file that leaves it open is refused.
    #[arg(long)]
    tlp: Option<String>,
    /// Sign nothing; say whom it would reach and which lists its values are on.
    #[arg(long)]
    dry_run: bool,
    /// Publish although no other member has told this node its own last head since the start. Only if nothing was
    /// published from elsewhere with its key: two heads for one place quarantine the channel everywhere.
    #[arg(long)]
    alone: bool,
    /// Publish text copied word for word from a record with a stricter marking.
    #[arg(long)]
    anyway: bool,
    #[command(flatten)]
    about: About,
}

/// How a publication goes out.
#[derive(Clone, Copy)]
struct Way<'a> {
    channel: &'a str,
    tlp: Option<&'a str>,
    /// The file or its reader has to say everything.
    must_say: bool,
    dry_run: bool,
    alone: bool,
    anyway: bool,
}

/// Where bytes come from.
enum Input {
    File(PathBuf),
    Values(Vec<String>),
}

pub(super) fn import(context: &Context, arguments: ImportArguments) -> Result<(), Failure> {
    let ImportArguments { files, tlp, as_is, dry_run, about } = arguments;
    let inputs = expanded(files)?;
    let tlp = tlp.as_deref().or(as_is.then_some("red"));
    send_all(context, inputs, &about, Way { channel: IMPORTED, tlp, must_say: !as_is, dry_run, alone: false, anyway: false })
}

pub(super) fn publish(context: &Context, arguments: PublishArguments) -> Result<(), Failure> {
    let mut inputs = expanded(arguments.files)?;
    if !arguments.value.is_empty() {
        inputs.push(Input::Values(arguments.value));
    }
    let PublishArguments { channel, tlp, dry_run, alone, anyway, about, .. } = arguments;
    send_all(context, inputs, &about, Way { channel: &channel, tlp: tlp.as_deref(), must_say: false, dry_run, alone, anyway })
}

/// The files themselves, and in place of a directory that is a MISP feed the events of its manifest.
fn expanded(files: Vec<PathBuf>) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for path in files {
        let manifest = path.join("manifest.json");
        if !manifest.is_file() {
            inputs.push(Input::File(path));
            continue;
        }
        let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", manifest.display()));
        let text = std::fs::read(&manifest).map_err(|error| failed(&error))?;
        let listed: std::collections::BTreeMap<String, serde::de::IgnoredAny> =
            serde_json::from_slice(&text).map_err(|error| failed(&error))?;
        // An id and nothing else: no name leads out of the directory.
        let is_id = |name: &String| name.len() == 36 && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        inputs.extend(listed.into_keys().filter(is_id).map(|uuid| Input::File(path.join(format!("{uuid}.json")))));
    }
    Ok(inputs)
}

fn send_all(context: &Context, inputs: Vec<Input>, about: &About, way: Way<'_>) -> Result<(), Failure> {
    if about.mirror && inputs.len() != 1 {
        return Err(Failure::usage("--mirror takes one file: each further one would take back what the one before it says"));
    }
    // Every file is opened before the first is sent, so that a misspelt name stops all of it.
    let opened = inputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    Client::with(&context.data, async |client| {
        let mut failure = None;
        for (input, (reader, length)) in inputs.iter().zip(opened) {
            let name = name_of(input);
            let sent = async {
                let mut parameters = parameters(about, input, way);
                if way.must_say && !way.dry_run && may_ask(input) {
                    let tried = PublishParameters { dry_run: true, ..parameters.clone() };
                    let (again, length) = open(input)?;
                    let unsaid = send(context, client, &tried, again, length, &name).await?.unsaid;
                    ask(&name, &unsaid, &mut parameters)?;
                }
                send(context, client, &parameters, reader, length, &name).await
            };
            match sent.await {
                Ok(reply) => show(context, &name, &reply),
                Err(error) => {
                    failure = Some(Failure { text: format!("{name}: {}", error.text), ..error });
                    break;
                }
            }
        }
        failure.map_or(Ok(()), Err)
    })
}

/// Whether somebody is there to be asked, and the file can be read twice.
fn may_ask(input: &Input) -> bool {
    let can_read_twice = matches!(input, Input::File(path) if path.as_os_str() != "-");
    can_read_twice && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for what the file does not say, until each answer can be used.
fn ask(name: &str, unsaid: &[AssumedLine], parameters: &mut PublishParameters) -> Result<(), Failure> {
    for AssumedLine { what, .. } in unsaid {
        let taken = |answer: &str, parameters: &mut PublishParameters| match what.as_str() {
            "tlp" => crate::record::Tlp::parse(answer).map(|_| parameters.tlp = Some(answer.to_owned())).map_err(|error| error.to_string()),
            "confidence" => match answer.parse::<u8>() {
                Ok(value @ 0..=100) => {
                    parameters.confidence = Some(value);
                    Ok(())
                }
                _ => Err("a number from 0 to 100".to_owned()),
            },
            _ => answer.parse().map(|days| parameters.valid_days = Some(days)).map_err(|_| "a number of days".to_owned()),
        };
        let question = match what.as_str() {
            "tlp" => "who may read it (clear, green, amber, amber+strict, red)?",
            "confidence" => "how sure is it (0 to 100)?",
            _ => "how many days does it hold?",
        };
        let mut question = format!("{name} does not say: {question} ");
        while let Err(why) = taken(&super::print::ask(&question)?, parameters) {
            question = format!("{why}: ");
        }
    }
    Ok(())
}

fn name_of(input: &Input) -> String {
    match input {
        Input::File(path) if path.as_os_str() == "-" => "standard input".to_owned(),
        Input::File(path) => path.display().to_string(),
        Input::Values(_) => "--value".to_owned(),
    }
}

fn parameters(about: &About, input: &Input, way: Way<'_>) -> PublishParameters {
    let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let default_title = match input {
        Input::File(path) => file_name(path).filter(|name| name != "-").unwrap_or_else(|| "imported list".to_owned()),
        Input::Values(values) => format!("{} values", values.len()),
    };
    let name = match input {
        Input::File(path) => file_name(path),
        Input::Values(_) => None,
    };
    let About {
        title, description, format, columns, as_source, kind, confidence, valid_days, valid_until, role, usage, tags, source, ..
    } = about.clone();
    PublishParameters {
        channel: way.channel.to_owned(),
        tlp: way.tlp.map(str::to_owned),
        title: title.unwrap_or(default_title),
        name,
        // A value on the command line is a value, whatever it looks like.
        format: format.or(matches!(input, Input::Values(_)).then(|| "list".to_owned())),
        columns,
        as_source,
        kind,
        description,
        confidence,
        valid_days,
        valid_until,
        role,
        usage,
        tags,
        source,
        subdomains: about.subdomains,
        must_say: way.must_say,
        may_be_empty: false,
        mode: if about.mirror { Some("mirror".to_owned()) } else { about.refresh.then(|| "refresh".to_owned()) },
        withdraw_max: about.withdraw_max,
        dry_run: way.dry_run,
        alone: way.alone,
        anyway: way.anyway,
    }
}

type Opened = (Box<dyn Read + Send>, u64);

fn open(input: &Input) -> Result<Opened, Failure> {
    let path = match input {
        Input::Values(values) => {
            let text = values.join("\n").into_bytes();
            return Ok((Box::new(std::io::Cursor::new(text)), 0));
        }
        Input::File(path) if path.as_os_str() == "-" => return Ok((Box::new(std::io::stdin()), 0)),
        Input::File(path) => path,
    };
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::usage(format!("{}: there is no such file", path.display())),
        _ => Failure::environment(format!("{}: {error}", path.display())),
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{} is a directory; name the files in it, as in {}/*", path.display(), path.display())));
    }
    let (reader, changes) = opened(Box::new(file), &path.display().to_string())?;
    Ok((reader, if changes { 0 } else { metadata.len() }))
}

async fn send(
    context: &Context,
    client: &Client,
    parameters: &PublishParameters,
    mut reader: Box<dyn Read + Send>,
    length: u64,
    name: &str,
) -> Result<PublishReply, Failure> {
    let bar = context.screen.bar(length, name);
    let failed = std::sync::Arc::new(std::sync::Mutex::new(None));
    let watched = Watched { reader, failed: std::sync::Arc::clone(&failed) };
    reader = Box::new(watched);
    let stream = pieces_of(reader, bar.clone());
    let reply = client.stream("/v1/publish", parameters, Body::from_stream(stream)).await;
    bar.finish_and_clear();
    // A file that cannot be read to its end is the reason that matters more.
    let failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    failed.map_or(reply, |error| Err(Failure::environment(error)))
}

/// Notes why a reader failed.
struct Watched {
    reader: Box<dyn Read + Send>,
    failed: std::sync::Arc<std::sync::Mutex<Option<String>>>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buffer).inspect_err(|error| {
            if error.kind() != std::io::ErrorKind::Interrupted {
                *self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error.to_string());
            }
        })
    }
}

/// What a reader gives, piece by piece, read on a thread of its own; the bar counts it.
pub(super) fn pieces_of(
    mut reader: Box<dyn Read + Send>,
    bar: indicatif::ProgressBar,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let (pieces, queue) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(8);
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            bar.inc(piece.as_ref().map_or(0, |piece| piece.len() as u64));
            let over = piece.is_err();
            if pieces.blocking_send(piece).is_err() || over {
                return;
            }
        }
    });
    futures::stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|piece| (piece, queue)) })
}

pub(super) fn show(context: &Context, name: &str, reply: &PublishReply) {
    let screen = &context.screen;
    screen.value(reply);
    if reply.queued.is_some() {
        screen.line(&format!("{name}: queued for {}, {}; nothing is signed yet", reply.channel, reply.tlp));
        screen.note("this node has published before and first learns its own last head from other members; `huecry status` shows how far");
        return;
    }
    let types = reply.by_type.iter().map(|(kind, count)| format!("{} {kind}", grouped(*count)));
    let types = types.collect::<Vec<_>>().join(", ");
    let types = if types.is_empty() { String::new() } else { format!(" ({types})") };
    if reply.dry_run {
        screen.line(&format!("{name}: {} indicators{types} would go to {}, {}", grouped(reply.records), reply.channel, reply.tlp));
        for list in &reply.lists {
            screen.line(&format!("  on list `{}`: {} values, the first is {}", list.list, grouped(list.values), list.first));
        }
        let reached: Vec<&str> = reply.reach.iter().filter(|line| line.reached).map(|line| line.member.as_str()).collect();
        let names = if reached.is_empty() { String::new() } else { format!(": {}", reached.join(", ")) };
        screen.line(&format!("  reaches {} of {} other members{names}", reached.len(), reply.reach.len()));
        for line in reply.reach.iter().filter(|line| !line.reached) {
            screen.line(&format!("  not {}: {}", line.member, line.why_not.as_deref().unwrap_or_default()));
        }
    } else {
        screen.line(&format!(
            "{name}: {} indicators{types} in {} to {}, {}",
            grouped(reply.records),
            if reply.batches == 1 { "one batch".to_owned() } else { format!("{} batches", grouped(reply.batches)) },
            reply.channel,
            reply.tlp
        ));
        if let (1, Some(report), Some(first), Some(last)) = (reply.reports, &reply.report, &reply.first, &reply.last) {
            screen.line(&format!("  report {report}, indicators {first} to {last}"));
        }
        if reply.held + reply.refused > 0 {
            screen.line(&format!("  our own policy holds {} and refuses {} of them", grouped(reply.held), grouped(reply.refused)));
        }
    }
    let counted = [("reports", reply.reports), ("documents", reply.documents), ("sightings", reply.sightings)];
    let beside = counted.iter().filter(|(what, count)| *count > 1 || (*count == 1 && *what != "reports"));
    let beside = beside.map(|(what, count)| format!("{} {what}", grouped(*count))).collect::<Vec<_>>().join(", ");
    if !beside.is_empty() {
        screen.line(&format!("  {beside}"));
    }
    if reply.renewed > 0 {
        screen.line(&format!("  {} hold longer, with their reports", grouped(reply.renewed)));
    }
    if reply.unchanged + reply.replaced > 0 {
        screen.line(&format!("  {} stood already, {} are said in place of what stood", grouped(reply.unchanged), grouped(reply.replaced)));
    }
    if reply.withdrawn > 0 {
        let verb = if reply.dry_run { "would be" } else { "were" };
        screen.line(&format!("  {} of our records {verb} taken back, as their source has", grouped(reply.withdrawn)));
    }
    for AssumedLine { what, value, records } in &reply.assumed {
        screen.line(&format!("  assumed {what} {value}: {} records do not say", grouped(*records)));
    }
    for AssumedLine { what, records, .. } in &reply.unsaid {
        screen.line(&format!("  unsaid  {what}: {} records, and nothing says it for them", grouped(*records)));
    }
    for changed in &reply.changed {
        let path = if changed.path.is_empty() { String::new() } else { format!(", {}", changed.path) };
        let place = if changed.line == 0 { String::new() } else { format!(" (first: line {}{path})", changed.line) };
        screen.line(&format!("  changed {:>7}: {}{place}", grouped(changed.count), changed.how));
    }
    if !reply.without_record.is_empty() {
        let kinds = reply.without_record.iter().map(|(kind, count)| format!("{} {kind}", grouped(*count)));
        screen.line(&format!("  left    no record is made of {}", kinds.collect::<Vec<_>>().join(", ")));
    }
    if reply.quota_ms > 0 {
        screen.note(&format!(
            "{name}: that is more than this member may say at once; others take about {} to take it in. A member's quota stands in the charter \
             or in its agreement (`huecry charter edit`)",
            indicatif::HumanDuration(std::time::Duration::from_millis(reply.quota_ms))
        ));
    }
    if !reply.see_gap.is_empty() {
        screen.note(&format!(
            "{name}: {} may read this channel and not all of this publication, and can tell from the channel's numbers that there is more; \
             a channel for each marking avoids that (`huecry card channel`)",
            reply.see_gap.join(", ")
        ));
    }
    if reply.duplicates > 0 {
        screen.note(&format!("{name}: {} values stood there more than once", grouped(reply.duplicates)));
    }
    if reply.latin1_lines > 0 {
        screen.note(&format!("{name}: {} lines were not UTF-8 and were read as ISO-8859-1", grouped(reply.latin1_lines)));
    }
    for complaint in reply.first_complaints.iter().take(COMPLAINTS_SHOWN) {
        let path = if complaint.path.is_empty() { String::new() } else { format!(" {}:", complaint.path) };
        let line = if complaint.line == 0 { String::new() } else { format!("{}:", complaint.line) };
        screen.note(&format!("{name}:{line}{path} {}", complaint.why));
    }
    if reply.complaints > 0 {
        let more = if reply.complaints as usize > COMPLAINTS_SHOWN { "; --json shows the first fifty" } else { "" };
        let what = if matches!(reply.format.as_str(), "stix" | "misp") { "objects" } else { "lines" };
        screen.note(&format!("{name}: {} of {} {what} gave nothing{more}", grouped(reply.complaints), grouped(reply.lines)));
    }
}
