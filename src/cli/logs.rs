//! `huecry match`: which lines of a log name something that is known here.
//!
//! ```text
//! file, gzip, stdin -pieces of whole lines-> threads with a sieve -candidates, in order-> the node -> lines that hit
//! ```
//!
//! The log stays in this process; the node is asked only about the values that the sieve lets through.

use super::{
    Context, Failure,
    client::Client,
    opened::opened,
    print::{confirm, grouped},
    runtime,
};
use crate::{
    http::{Cursor, KeysParameters, MATCH_VALUES_MAX, MatchParameters, MatchReply, Said, SeenValue, SightingParameters},
    matching::{KEYS_HEAD_BYTES, KeysHead, Matcher, Sieve},
    query::Hit,
    record::Observable,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, mpsc},
};

/// Bytes of log that a thread looks through at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// Longest line that is looked through as a whole; a longer one is looked through in parts.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Distinct values whose answers are remembered while a log is read: some 100 MiB.
const ANSWERS_MAX: usize = 200_000;
/// Indicators that one run may publish sightings of.
const SIGHTINGS_MAX: usize = 200;

/// Look through logs for what is known: addresses, domains, URLs, hashes, e-mail addresses, in any field of any format.
#[derive(clap::Args)]
#[command(
    after_help = "Text or JSON, a line an event, in UTF-8 or UTF-16, gzip too; `-` or nothing is standard input, read as it comes. Prints each line that hits, and under it \
                  who says what about which value. Exit code 1: nothing hit."
)]
pub struct Arguments {
    /// Log files.
    files: Vec<PathBuf>,
    /// Only what has become known since an earlier run, which named this cursor at its end: old logs against new knowledge.
    #[arg(long, value_name = "CURSOR")]
    new_since: Option<String>,
    /// Publish that the indicators were seen, after asking.
    #[arg(long)]
    sighting: bool,
    /// With --sighting: do not ask.
    #[arg(long, requires = "sighting")]
    yes: bool,
}

/// A piece of a log, of whole lines.
struct Piece {
    number: u64,
    bytes: Vec<u8>,
}

/// What was found in one.
struct Looked {
    piece: Piece,
    lines: u64,
    /// Line within the piece, from 0; where it stands; what in it may be known.
    found: Vec<(u64, std::ops::Range<usize>, Vec<Observable>)>,
}

/// What came of a log.
#[derive(Default)]
pub(super) struct Summary {
    pub lines: u64,
    pub bytes: u64,
    pub hits: u64,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut files = arguments.files.clone();
    if files.is_empty() {
        files.push(PathBuf::from("-"));
    }
    let runtime = runtime()?;
    let mut client = runtime.block_on(Client::open(&context.data))?;
    let outcome = look(context, &runtime, &mut client, &files, &arguments);
    runtime.block_on(client.close()).and(outcome)
}

fn look(
    context: &Context,
    runtime: &tokio::runtime::Runtime,
    client: &mut Client,
    files: &[PathBuf],
    arguments: &Arguments,
) -> Result<(), Failure> {
    let (sieve, cursor) = runtime.block_on(fetch(client, arguments.new_since.clone()))?;
    let mut asking = Asking { client, runtime, since: arguments.new_since.clone(), known: HashMap::new() };
    let mut seen: BTreeMap<String, (Hit, u64)> = BTreeMap::new();
    let mut all = Summary::default();
    for path in files {
        let name = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
        let (reader, length) = open(path)?;
        let bar = context.screen.bar(length, &name);
        let reader = bar.wrap_read(reader);
        let done = through(&sieve, reader, &mut asking, |line, text, hits| {
            show(context, &name, line, text, hits);
            for hit in hits {
                seen.entry(hit.reference.clone()).or_insert_with(|| (hit.clone(), 0)).1 += 1;
            }
        });
        bar.finish_and_clear();
        let done = done.map_err(|failure| Failure { text: format!("{name}: {}", failure.text), ..failure })?;
        (all.lines, all.bytes, all.hits) = (all.lines + done.lines, all.bytes + done.bytes, all.hits + done.hits);
    }
    let [lines, hits, values] = [all.lines, all.hits, sieve.len() as u64].map(grouped);
    context.screen.note(&format!("{hits} of {lines} lines hit; {values} values were looked for; next time: --new-since {cursor}"));
    if context.screen.json() {
        context.screen.value(&json!({ "lines": all.lines, "hits": all.hits, "values": sieve.len(), "cursor": cursor }));
    }
    if arguments.sighting && !seen.is_empty() {
        say(context, &mut asking, &seen, arguments.yes)?;
    }
    if all.hits == 0 { Err(Failure::nothing("")) } else { Ok(()) }
}

/// Fetches what is to be looked for.
pub(super) async fn fetch(client: &Client, since: Option<String>) -> Result<(Sieve, String), Failure> {
    let mut bytes = Vec::new();
    let take = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    client.pieces("/v1/match/keys", &KeysParameters { since: since.map(Cursor::Text) }, take).await?;
    let cut = || Failure::environment("the node ended in the middle of what is to be looked for; see its log");
    let (keys, head) = bytes.len().checked_sub(KEYS_HEAD_BYTES).and_then(|at| bytes.split_at_checked(at)).ok_or_else(cut)?;
    let head = KeysHead::read(head).ok_or_else(cut)?;
    let keys = keys.chunks_exact(8).filter_map(|key| key.try_into().ok().map(u64::from_le_bytes)).collect();
    let cursor: Vec<String> = head.cursor.iter().map(u64::to_string).collect();
    Ok((Sieve::new(keys, head.lengths), cursor.join(".")))
}

/// Asks the node about values, each once.
pub(super) struct Asking<'a> {
    pub client: &'a Client,
    pub runtime: &'a tokio::runtime::Runtime,
    pub since: Option<String>,
    pub known: HashMap<Observable, Option<Hit>>,
}

impl Asking<'_> {
    fn learn(&mut self, looked: &Looked) -> Result<(), Failure> {
        if self.known.len() > ANSWERS_MAX {
            self.known.clear();
        }
        let mut new: Vec<Observable> = looked.found.iter().flat_map(|(_, _, values)| values).cloned().collect();
        new.sort_unstable();
        new.dedup();
        new.retain(|value| !self.known.contains_key(value));
        for values in new.chunks(MATCH_VALUES_MAX) {
            let seen = |value: &Observable| SeenValue { kind: value.kind().to_string(), value: value.to_string() };
            let parameters = MatchParameters { values: values.iter().map(seen).collect(), since: self.since.clone().map(Cursor::Text) };
            let reply: MatchReply = self.runtime.block_on(self.client.post("/v1/match", &parameters))?;
            self.known.extend(values.iter().cloned().zip(reply.hits));
        }
        Ok(())
    }
}

/// Looks through a log. `each` is told the number of every line that hits, from 1, its text, and what is known about it; in order.
pub(super) fn through(
    sieve: &Sieve,
    reader: impl Read + Send,
    asking: &mut Asking<'_>,
    mut each: impl FnMut(u64, &[u8], &[Hit]),
) -> Result<Summary, Failure> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    // A piece for each thread, and one that waits for it.
    let (pieces, queue) = mpsc::sync_channel::<Piece>(threads);
    let (looked, results) = mpsc::sync_channel::<Looked>(threads);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || cut_up(reader, &pieces));
        for _ in 0..threads {
            let (queue, looked) = (&queue, looked.clone());
            scope.spawn(move || {
                let mut matcher = Matcher::new(sieve);
                loop {
                    let piece = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(piece) = piece else { return };
                    if looked.send(look_at(&mut matcher, piece)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(looked);
        let (mut summary, mut waiting, mut next) = (Summary::default(), BTreeMap::new(), 0u64);
        // Pieces come as threads are done with them, and are shown in their order.
        for one in results {
            waiting.insert(one.piece.number, one);
            while let Some(one) = waiting.remove(&next) {
                next += 1;
                asking.learn(&one)?;
                for (line, range, values) in &one.found {
                    let hits: Vec<Hit> = values.iter().filter_map(|value| asking.known.get(value).cloned().flatten()).collect();
                    if !hits.is_empty() {
                        summary.hits += 1;
                        each(summary.lines + line + 1, one.piece.bytes.get(range.clone()).unwrap_or_default(), &hits);
                    }
                }
                summary.lines += one.lines;
                summary.bytes += one.piece.bytes.len() as u64;
            }
        }
        reading.join().map_err(|_| Failure::environment("the thread that reads the log ended"))??;
        Ok(summary)
    })
}

/// Reads whole lines and hands them on, as soon as there are any: a log that is being written is followed.
fn cut_up(mut reader: impl Read, pieces: &mpsc::SyncSender<Piece>) -> Result<(), Failure> {
    let (mut buffer, mut number) = (Vec::with_capacity(2 * PIECE_BYTES), 0);
    loop {
        let had = buffer.len();
        buffer.resize(had + PIECE_BYTES, 0);
        let read = loop {
            match reader.read(buffer.get_mut(had..).unwrap_or_default()) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
                other => break other.map_err(Failure::environment)?,
            }
        };
        buffer.truncate(had + read);
        let end = match memchr::memrchr(b'\n', buffer.get(had..).unwrap_or_default()) {
            Some(end) => had + end + 1,
            // The last line has no end, or a line is longer than anything that is one.
            None if read == 0 || buffer.len() > LINE_BYTES_MAX => buffer.len(),
            None => continue,
        };
        if end > 0 {
            let rest = buffer.split_off(end);
            let piece = Piece { number, bytes: std::mem::replace(&mut buffer, rest) };
            number += 1;
            if pieces.send(piece).is_err() {
                return Ok(());
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

fn look_at(matcher: &mut Matcher<'_>, piece: Piece) -> Looked {
    let (mut found, mut lines, mut start) = (Vec::new(), 0, 0);
    let mut values = Vec::new();
    while let Some(rest) = piece.bytes.get(start..).filter(|rest| !rest.is_empty()) {
        let line = rest.get(..memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1)).unwrap_or_default();
        matcher.candidates(line, &mut values);
        if !values.is_empty() {
            values.sort_unstable();
            values.dedup();
            found.push((lines, start..start + line.len(), std::mem::take(&mut values)));
        }
        lines += 1;
        start += line.len();
    }
    Looked { piece, lines, found }
}

/// Opens a log. Its length is 0 where it is not known.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, u64), Failure> {
    let (reader, length): (Box<dyn Read + Send>, u64) = if path.as_os_str() == "-" {
        (Box::new(std::io::stdin()), 0)
    } else {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::usage(format!("{}: there is no such file", path.display())),
            _ => Failure::environment(format!("{}: {error}", path.display())),
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!("{0} is a directory; name the files in it, as in {0}/*", path.display())));
        }
        (Box::new(file), metadata.len())
    };
    let (reader, changes) = opened(reader, &path.display().to_string())?;
    Ok((reader, if changes { 0 } else { length }))
}

fn show(context: &Context, name: &str, line: u64, text: &[u8], hits: &[Hit]) {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_end_matches(['\n', '\r']);
    let screen = &context.screen;
    screen.value(&json!({ "file": name, "line": line, "text": text, "hits": hits }));
    screen.line(&format!("{name}:{line}: {text}"));
    for hit in hits {
        let how = if hit.indicator == hit.seen { String::new() } else { format!("  as {}", hit.seen) };
        let title = if hit.title.is_empty() { String::new() } else { format!("  \"{}\"", hit.title) };
        screen.line(&format!(
            "    {}  {}{how}  by {}{title}  confidence {}  {}  {}",
            hit.indicator,
            hit.kind,
            hit.origins.join(", "),
            hit.confidence,
            hit.tlp,
            hit.reference
        ));
    }
}

/// Publishes one sighting for each indicator that was seen, with how often.
fn say(context: &Context, asking: &mut Asking<'_>, seen: &BTreeMap<String, (Hit, u64)>, yes: bool) -> Result<(), Failure> {
    if seen.len() > SIGHTINGS_MAX {
        let text = format!("{} indicators were seen; sightings of more than {SIGHTINGS_MAX} at once are not published", seen.len());
        return Err(Failure::usage(text));
    }
    for (hit, count) in seen.values() {
        context.screen.note(&format!("seen {}x: {} ({})", grouped(*count), hit.indicator, hit.reference));
    }
    let question = format!("publish these {} sightings to those who may have the indicators?", seen.len());
    if !yes && !confirm(&question, "nobody is here to ask; --yes publishes the sightings without asking")? {
        context.screen.note("nothing was published");
        return Ok(());
    }
    for (reference, (_, count)) in seen {
        let parameters =
            SightingParameters { of: reference.clone(), sighting: "seen".to_owned(), count: Some(*count), ..Default::default() };
        let said: Said = asking.runtime.block_on(asking.client.post("/v1/sighting", &parameters))?;
        let reference = said.reference.unwrap_or_else(|| "queued".to_owned());
        context.screen.note(&format!("said {reference}, {}, to {} members", said.tlp, said.reaches));
    }
    Ok(())
}
