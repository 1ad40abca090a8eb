//! One way to read every format: detect it, and pass over the file as often as it needs.
//!
//! ```text
//! first bytes -detect-> Format;   pieces -Reader, pass by pass-> what the file says, and complaints
//! ```

use super::json::JsonReader;
use super::{
    At, Complaint, Details, Element, FileError, Group, Is, LINE_BYTES_MAX, Layout, MispReader, Notes, Reach, Said, Step, StixReader, Take,
    TextReader, Version, VersionKey, Versions, Visit, WalkError, Walker, path_text, sniff,
};
use crate::record::{Indicator, ObservableType, Report, Scope, Timestamp, UnknownName};
use std::{collections::HashMap, sync::Arc};

/// Bytes from the start of a file by which its format is told.
pub const DETECT_BYTES: usize = 64 * 1024;

/// How a file is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lists, tables, prose: line by line.
    Text(Layout),
    Stix,
    Misp,
    /// Objects of another JSON.
    Json,
}

impl Format {
    const NAMES: [&str; 6] = ["list", "csv", "text", "stix", "misp", "json"];

    /// As it is written in options and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text(Layout::Plain) => "list",
            Self::Text(Layout::Csv) => "csv",
            Self::Text(Layout::Prose) => "text",
            Self::Stix => "stix",
            Self::Misp => "misp",
            Self::Json => "json",
        }
    }
}

impl std::str::FromStr for Format {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "list" | "plain" => Ok(Self::Text(Layout::Plain)),
            "csv" => Ok(Self::Text(Layout::Csv)),
            "text" | "prose" => Ok(Self::Text(Layout::Prose)),
            "stix" => Ok(Self::Stix),
            "misp" => Ok(Self::Misp),
            "json" => Ok(Self::Json),
            _ => Err(UnknownName::new("format", text, Self::NAMES.into_iter())),
        }
    }
}

/// Keys on the way to the first objects of a JSON text.
#[derive(Default)]
struct Keys {
    seen: Vec<String>,
    list: bool,
}

impl Visit for Keys {
    fn begins(&mut self, path: &[Step], is: Is) -> Take {
        self.list |= path.is_empty() && is == Is::Array;
        if let Some(Step::Key(key)) = path.last() {
            self.seen.push(key.clone());
        }
        let root = path.is_empty() || (path.len() == 1 && self.list && matches!(path, [Step::Index(0)]));
        if root { Take::Descend } else { Take::Skip }
    }

    fn element(&mut self, _: Element<'_>) {}
}

/// The format of a file, by its first bytes and its name. JSON that is neither STIX nor MISP is refused by name.
pub fn detect(start: &[u8], name: &str) -> Result<Format, FormatError> {
    sniff(start)?;
    let plain = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let first = plain.iter().find(|byte| !byte.is_ascii_whitespace());
    // Defanged lists may begin with a bracket too; an array of JSON goes on with one of these.
    let second = plain.iter().filter(|byte| !byte.is_ascii_whitespace()).nth(1);
    let json = first == Some(&b'{') || (first == Some(&b'[') && matches!(second, Some(b'{' | b'[' | b']' | b'"')));
    if !json {
        let layout = Layout::of_name(name);
        return if is_web_page(start, layout) { Err(FormatError::Page) } else { Ok(Format::Text(layout)) };
    }
    let mut keys = Keys::default();
    // The text is cut off somewhere: what stands before that is enough, and what is wrong with it is said when it is read.
    let _cut = Walker::default().feed(plain, &mut keys);
    let has = |key: &str| keys.seen.iter().any(|seen| seen == key);
    if ["Event", "response", "Attribute", "Object", "info", "event_id", "Orgc"].iter().any(|key| has(key)) {
        return Ok(Format::Misp);
    }
    // Our own exports and others' objects have a `type` too; STIX has its ids.
    let stix = has("objects") || has("spec_version") || (has("type") && has("id") && contains(plain, b"--"));
    Ok(if stix { Format::Stix } else { Format::Json })
}

/// Returns true for a web page where a list or table was expected: what a portal or a broken server answers.
pub fn is_web_page(start: &[u8], layout: Layout) -> bool {
    let plain = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let begins = |text: &[u8]| plain.get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text));
    layout != Layout::Prose && (begins(b"<!doctype html") || begins(b"<html"))
}

/// Why a file is in no format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("this is a web page and no list; if values are to be taken out of its text, say --format text")]
    Page,
}

/// How often a file is gone through, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Survey,
    Reports,
    Last,
}

enum Kind {
    Text { reader: Box<TextReader>, line: Vec<u8> },
    Stix { reader: Box<StixReader>, single: bool },
    Misp(Box<MispReader>),
    Json(Box<JsonReader>),
}

/// What is to be known of a file beside its bytes.
#[derive(Clone, Debug)]
pub struct About {
    pub format: Format,
    /// Title of what has none of its own.
    pub title: String,
    /// Of lists and tables: reads their lines.
    pub text: TextReader,
    /// Every domain means also what is below it.
    pub subdomains: bool,
}

/// What the passes gave.
#[derive(Default)]
pub struct Given {
    pub said: Vec<Said>,
    pub complaints: Vec<Complaint>,
}

struct Visitor {
    kind: Kind,
    pass: Pass,
    given: Given,
    elements: u64,
    subdomains: bool,
}

/// Reads a file in any format. Feed it the whole file in pieces; while [`Self::end_pass`] says so, feed it again.
pub struct Reader {
    walker: Walker,
    visitor: Visitor,
    title: String,
}

impl Reader {
    /// For a file that begins with `start`, which tells a lone STIX object from a bundle.
    pub fn new(about: &About, start: &[u8]) -> Self {
        let About { format, title, text, subdomains } = about.clone();
        let (kind, pass) = match format {
            Format::Text(_) => {
                let pass = if text.needs_survey(start) { Pass::Survey } else { Pass::Last };
                (Kind::Text { reader: Box::new(text), line: Vec::new() }, pass)
            }
            Format::Misp => (Kind::Misp(Box::new(MispReader::new(&title))), Pass::Survey),
            Format::Json => (Kind::Json(Box::new(JsonReader::new(text.given(), start))), Pass::Survey),
            Format::Stix => {
                let mut keys = Keys::default();
                let _cut = Walker::default().feed(start, &mut keys);
                let bundle = keys.list || keys.seen.iter().any(|key| key == "objects") || contains(start, b"\"bundle\"");
                (Kind::Stix { reader: Box::new(StixReader::new(&title)), single: !bundle }, Pass::Survey)
            }
        };
        let visitor = Visitor { kind, pass, given: Given::default(), elements: 0, subdomains };
        Self { walker: Walker::default(), visitor, title }
    }

    /// Takes the next piece of the pass.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), WalkError> {
        if let Kind::Text { .. } = self.visitor.kind {
            self.visitor.lines(piece);
            return Ok(());
        }
        self.walker.feed(piece, &mut self.visitor)
    }

    /// Ends a pass. Answers whether the file is to be fed again.
    pub fn end_pass(&mut self) -> Result<bool, WalkError> {
        if let Kind::Text { line, .. } = &mut self.visitor.kind {
            let last = std::mem::take(line);
            if !last.is_empty() {
                self.visitor.line(&last);
            }
            if self.visitor.pass == Pass::Survey {
                self.visitor.pass = Pass::Last;
                return Ok(true);
            }
            self.visitor.end();
            return Ok(false);
        }
        let commas = std::mem::take(&mut self.walker).finish(&mut self.visitor)?;
        let Visitor { kind, pass, given, .. } = &mut self.visitor;
        let notes = match kind {
            Kind::Stix { reader, .. } => &mut reader.notes,
            Kind::Misp(reader) => &mut reader.notes,
            Kind::Json(reader) => &mut reader.notes,
            Kind::Text { reader, .. } => &mut reader.notes,
        };
        if commas > 0 && *pass == Pass::Survey {
            notes.changed(COMMAS, &At::default());
        }
        *pass = match (kind, *pass) {
            (Kind::Stix { reader, .. }, Pass::Survey) if reader.has_reports() => Pass::Reports,
            (Kind::Stix { .. }, Pass::Survey | Pass::Reports) => Pass::Last,
            (Kind::Misp(reader), Pass::Survey | Pass::Reports) => {
                reader.surveyed();
                reader.begin();
                Pass::Last
            }
            (Kind::Stix { reader, .. }, Pass::Last) => {
                reader.finish(&mut given.said);
                return Ok(false);
            }
            (Kind::Json(_), Pass::Survey | Pass::Reports) => Pass::Last,
            (Kind::Misp(_) | Kind::Json(_) | Kind::Text { .. }, _) => return Ok(false),
        };
        Ok(true)
    }

    /// Sets the versions that were taken before, and the latest date of a version. Call it before the first pass.
    pub fn compare(&mut self, known: Arc<HashMap<VersionKey, Version>>, latest: Timestamp) {
        if let Some(versions) = self.versions() {
            versions.begin(known, latest);
        }
    }

    /// Versions of the file, where its format has some.
    pub fn versions(&mut self) -> Option<&mut Versions> {
        match &mut self.visitor.kind {
            Kind::Stix { reader, .. } => Some(&mut reader.versions),
            Kind::Misp(reader) => Some(&mut reader.versions),
            Kind::Text { .. } | Kind::Json(_) => None,
        }
    }

    /// Whether this is the pass that gives what the file says.
    pub fn is_last_pass(&self) -> bool {
        self.visitor.pass == Pass::Last
    }

    /// What was given since the last time.
    pub fn take(&mut self) -> Given {
        std::mem::take(&mut self.visitor.given)
    }

    /// The report with a number.
    pub fn group(&mut self, number: usize) -> Group {
        match &mut self.visitor.kind {
            Kind::Stix { reader, .. } => reader.group(number),
            Kind::Misp(reader) => reader.group(number),
            Kind::Text { .. } | Kind::Json(_) => {
                Group { report: Report::titled(self.title.clone()), tlp: None, revoked: false, reach: Reach::AsMarked }
            }
        }
    }

    /// Reports of the file itself: they are said even if no indicator belongs to them.
    pub fn reports(&self) -> usize {
        match &self.visitor.kind {
            Kind::Stix { reader, .. } => reader.reports(),
            Kind::Misp(reader) => reader.reports(),
            Kind::Text { .. } | Kind::Json(_) => 0,
        }
    }

    /// What is to be known beyond what was given.
    pub fn notes(&self) -> &Notes {
        match &self.visitor.kind {
            Kind::Stix { reader, .. } => &reader.notes,
            Kind::Misp(reader) => &reader.notes,
            Kind::Json(reader) => &reader.notes,
            Kind::Text { reader, .. } => &reader.notes,
        }
    }

    /// Lines, objects, or attributes and objects, of the last pass.
    pub fn elements(&self) -> u64 {
        self.visitor.elements
    }

    /// Lines that were not UTF-8 and were read as ISO-8859-1.
    pub fn latin1_lines(&self) -> u64 {
        match &self.visitor.kind {
            Kind::Text { reader, .. } => reader.latin1_lines,
            _ => 0,
        }
    }
}

const COMMAS: &str = "commas before a closing bracket, which JSON does not have, are passed over";

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    memchr::memmem::find(text, wanted).is_some()
}

impl Visitor {
    /// Takes the lines that a piece ends, and keeps the rest for the next.
    fn lines(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (head, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            let Kind::Text { line, .. } = &mut self.kind else { return };
            if line.is_empty() {
                self.line(head);
            } else {
                push_bounded(line, head);
                let whole = std::mem::take(line);
                self.line(&whole);
            }
        }
        if let Kind::Text { line, .. } = &mut self.kind {
            push_bounded(line, rest);
        }
    }

    fn line(&mut self, raw: &[u8]) {
        let Kind::Text { reader, .. } = &mut self.kind else { return };
        if self.pass == Pass::Survey {
            return reader.survey(raw);
        }
        self.elements += 1;
        let Given { said, complaints } = &mut self.given;
        reader.line(raw, complaints, said_of(self.subdomains, said));
    }

    fn end(&mut self) {
        let Kind::Text { reader, .. } = &mut self.kind else { return };
        let Given { said, complaints } = &mut self.given;
        reader.end(complaints, said_of(self.subdomains, said));
    }
}

/// Takes what lines say; with `below`, every domain means also what is below it.
fn said_of(below: bool, said: &mut Vec<Said>) -> impl FnMut(Indicator, &Details) {
    move |mut indicator, details| {
        if below && indicator.value.kind() == ObservableType::Domain {
            indicator.scope = Some(Scope::Subdomains);
        }
        said.push(Said::Indicator { indicator: Box::new(indicator), group: 0, tlp: details.tlp, reach: Reach::AsMarked });
    }
}

/// Keeps at most one byte more of a line than is read, so that a line of a gibibyte costs 64 KiB and is still too long.
fn push_bounded(line: &mut Vec<u8>, more: &[u8]) {
    let room = (LINE_BYTES_MAX + 1).saturating_sub(line.len());
    line.extend_from_slice(more.get(..room.min(more.len())).unwrap_or_default());
}

impl Visit for Visitor {
    fn begins(&mut self, path: &[Step], is: Is) -> Take {
        match &self.kind {
            Kind::Stix { single, .. } => StixReader::begins(path, is, *single),
            Kind::Misp(_) => MispReader::begins(path, is),
            Kind::Json(reader) => reader.begins(path, is),
            Kind::Text { .. } => Take::Skip,
        }
    }

    fn element(&mut self, element: Element<'_>) {
        let Given { said, complaints } = &mut self.given;
        let at = |element: &Element<'_>| At { line: element.line, path: path_text(element.path) };
        let complain = |at: At, why: String| Complaint { line: at.line, path: at.path, why };
        match (&mut self.kind, self.pass) {
            (Kind::Text { .. }, _) => (),
            (Kind::Json(reader), Pass::Survey) => reader.survey(&element),
            (Kind::Json(reader), _) => {
                self.elements += 1;
                let at = at(&element);
                if let Err(why) = reader.read(&element, &at, said) {
                    complaints.push(complain(at, why));
                }
            }
            (Kind::Stix { reader, .. }, Pass::Survey) => {
                if let Err(why) = reader.survey(element.bytes) {
                    complaints.push(complain(at(&element), why));
                }
            }
            (Kind::Stix { reader, .. }, Pass::Reports) => reader.read_reports(element.bytes.unwrap_or_default(), &at(&element)),
            (Kind::Stix { reader, .. }, Pass::Last) => {
                self.elements += 1;
                let mut at = at(&element);
                if let Err(why) = reader.read(&element, &mut at, said) {
                    complaints.push(complain(at, why));
                }
            }
            (Kind::Misp(reader), Pass::Survey) => {
                if let Err(why) = reader.survey(&element) {
                    complaints.push(complain(at(&element), why));
                }
            }
            (Kind::Misp(reader), _) => {
                let mut bad = Vec::new();
                let before = said.len();
                reader.read(&element, &mut at(&element), said, &mut bad);
                self.elements += u64::from(said.len() > before || !bad.is_empty());
                complaints.extend(bad.into_iter().map(|(at, why)| complain(at, why)));
            }
        }
    }
}
