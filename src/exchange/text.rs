//! Lists, tables and prose: what indicator files on the internet look like.
//!
//! ```text
//! bytes of a line -decode-> text -list | table (rows of one line or more) | prose-> items and complaints, each with its line
//! ```
//!
//! A bad line is a [`Complaint`] and stops no other line. Read as published: defanged spellings, CRLF, a byte order
//! mark, ISO-8859-1, and the grammars of [`super::list`] and [`super::table`].

use super::{
    At, Notes,
    list::{self, Exceptions},
    prose,
    table::{self, ColumnError, Details, Row, Table},
    typed::Part,
};
use crate::record::{Indicator, ObservableType, TypeName, Use};
use std::borrow::Cow;

/// Longest line that is read, in bytes; longer ones are complained about and skipped. A CSV row of a sandbox has 30 KiB.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Bytes at the start of a file in which a NUL betrays that it is no text.
pub const SNIFF_BYTES: usize = 8 * 1024;

/// How a file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One value a line.
    Plain,
    /// Separated by commas, semicolons or tabs, with or without a header.
    Csv,
    /// Prose, Markdown, AsciiDoc: values stand anywhere.
    Prose,
}

impl std::str::FromStr for Layout {
    type Err = crate::record::UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "plain" => Ok(Self::Plain),
            "csv" => Ok(Self::Csv),
            "text" => Ok(Self::Prose),
            _ => Err(crate::record::UnknownName::new("layout", text, ["plain", "csv", "text"].into_iter())),
        }
    }
}

impl Layout {
    /// The layout that a file most likely has, by its name alone.
    pub fn of_name(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        let lower = lower.strip_suffix(".gz").unwrap_or(&lower);
        match lower.rsplit_once('.').map(|(_, ending)| ending) {
            Some("csv" | "tsv" | "tab") => Self::Csv,
            Some("md" | "adoc" | "rst" | "html") => Self::Prose,
            _ => Self::Plain,
        }
    }
}

/// Something that gave nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Complaint {
    /// From 1.
    pub line: u64,
    /// Where in a file of objects, such as `objects[17]`; empty for a line of text.
    pub path: String,
    pub why: String,
}

/// Why a whole file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("this is no text: there are zero bytes in it; unpack or convert it first")]
    Binary,
    #[error("this is UTF-16; convert it to UTF-8 first, for example with `iconv -f utf-16 -t utf-8`")]
    Utf16,
}

/// Looks at a file's first bytes.
pub fn sniff(start: &[u8]) -> Result<(), FileError> {
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Err(FileError::Utf16);
    }
    if start.iter().take(SNIFF_BYTES).any(|byte| *byte == 0) { Err(FileError::Binary) } else { Ok(()) }
}

/// Reads one file, line by line.
#[derive(Clone, Debug)]
pub struct TextReader {
    layout: Layout,
    given: Option<TypeName>,
    table: Table,
    exceptions: Exceptions,
    /// A row whose quoted cell is open, and the line where it began.
    open: Option<(u64, String)>,
    line: u64,
    /// Kept between lines for its room.
    parts: Vec<Part>,
    pub notes: Notes,
    /// Lines that were not UTF-8 and were read as ISO-8859-1.
    pub latin1_lines: u64,
}

impl TextReader {
    /// For a file laid out so, whose values are all of type `given` if that is said.
    pub fn new(layout: Layout, given: Option<TypeName>) -> Self {
        Self {
            layout,
            table: Table::new(given.clone(), None),
            given,
            exceptions: Exceptions::default(),
            open: None,
            line: 0,
            parts: Vec::new(),
            notes: Notes::default(),
            latin1_lines: 0,
        }
    }

    /// The type of all values, if there is one.
    pub fn given(&self) -> Option<TypeName> {
        self.given.clone()
    }

    /// Says what the columns of a table are, in order, separated by commas; for tables whose header does not.
    pub fn with_columns(mut self, mapping: &str) -> Result<Self, ColumnError> {
        self.table.map(mapping)?;
        Ok(self)
    }

    /// Returns true for a file whose later lines may take earlier ones back, by its first bytes: a filter list.
    pub fn needs_survey(&self, start: &[u8]) -> bool {
        self.layout == Layout::Plain && memchr::memmem::find(start, b"||").is_some()
    }

    /// Looks at a line ahead of the reading.
    pub fn survey(&mut self, raw: &[u8]) {
        if raw.starts_with(b"@@") || memchr::memmem::find(raw, b"badfilter").is_some() {
            self.exceptions.note(&decoded(raw).0);
        }
    }

    /// Takes the next line, without its line feed, and gives what it says to `take` and `complaints`.
    pub fn line(&mut self, raw: &[u8], complaints: &mut Vec<Complaint>, mut take: impl FnMut(Indicator, &Details)) {
        self.line += 1;
        let complain = |line: u64, why: String| Complaint { line, path: String::new(), why };
        if raw.len() > LINE_BYTES_MAX {
            complaints.push(complain(self.line, format!("the line has {} bytes, more than 65,536", raw.len())));
            return;
        }
        let (text, latin1) = decoded(raw);
        self.latin1_lines += u64::from(latin1);
        if self.layout == Layout::Csv {
            return self.row(&text, complaints, take);
        }
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() || (self.layout == Layout::Plain && list::is_comment(text)) {
            return;
        }
        let mut parts = std::mem::take(&mut self.parts);
        match self.layout {
            Layout::Prose => prose::values(text, self.given.as_ref(), &mut parts),
            _ => match list::values(text, self.given.as_ref(), &self.exceptions) {
                Ok(found) => parts.extend(found),
                Err(error) => complaints.push(complain(self.line, error.to_string())),
            },
        }
        let details = Details::default();
        parts.drain(..).for_each(|part| take(indicator_of(part).0, &details));
        self.parts = parts;
    }

    /// Takes what is left when the file ends.
    pub fn end(&mut self, complaints: &mut Vec<Complaint>, mut take: impl FnMut(Indicator, &Details)) {
        if let Some((line, _)) = self.open.take() {
            let why = "a quoted cell that begins here does not end; nothing behind it was read".to_owned();
            complaints.push(Complaint { line, path: String::new(), why });
        }
        let (mut notes, mut rows) = (Vec::new(), Vec::new());
        self.table.settle(&mut notes, &mut rows);
        self.rows(notes, rows, complaints, &mut take);
    }

    /// Takes a line of a table: a row, or a part of one.
    fn row(&mut self, text: &str, complaints: &mut Vec<Complaint>, mut take: impl FnMut(Indicator, &Details)) {
        let text = text.trim_start_matches('\u{feff}').trim_end_matches('\r');
        let (line, row, open) = match self.open.take() {
            Some((line, mut row)) => {
                let open = table::is_open(text, self.table.separator(), true);
                if row.len() + text.len() < LINE_BYTES_MAX {
                    row.push('\n');
                    row.push_str(text);
                } else if open {
                    // More of it is not kept: the row is refused when its cell ends.
                    row.extend(std::iter::repeat_n(' ', LINE_BYTES_MAX.saturating_sub(row.len())));
                } else {
                    complaints.push(Complaint { line, path: String::new(), why: "the row has more than 65,536 bytes".to_owned() });
                    return;
                }
                (line, row, open)
            }
            None => {
                let trimmed = text.trim();
                if trimmed.is_empty() {
                    return;
                }
                let numbered = !trimmed.starts_with(['#', '!']) && !trimmed.starts_with("//");
                if !numbered {
                    self.table.comment(trimmed);
                    return;
                }
                if self.table.begin(trimmed) {
                    return;
                }
                let open = table::is_open(text, self.table.separator(), false);
                (self.line, text.to_owned(), open)
            }
        };
        if open {
            self.open = Some((line, row));
            return;
        }
        let (mut notes, mut rows) = (Vec::new(), Vec::new());
        self.table.row(line, &row, &mut notes, &mut rows);
        self.rows(notes, rows, complaints, &mut take);
    }

    fn rows(
        &mut self,
        notes: Vec<&'static str>,
        rows: Vec<Row>,
        complaints: &mut Vec<Complaint>,
        take: &mut impl FnMut(Indicator, &Details),
    ) {
        notes.into_iter().for_each(|note| self.notes.changed(note, &At { line: self.line, path: String::new() }));
        for Row { line, parts, details, error } in rows {
            if let Some(error) = error {
                complaints.push(Complaint { line, path: String::new(), why: error.to_string() });
            }
            for part in parts {
                let (mut indicator, change) = indicator_of(part);
                change.into_iter().for_each(|how| self.notes.changed(how, &At { line, path: String::new() }));
                details.apply(&mut indicator);
                take(indicator, &details);
            }
        }
    }
}

/// A value as an indicator, and what of its meaning was lost.
pub(super) fn indicator_of(part: Part) -> (Indicator, Option<&'static str>) {
    let Part { value, scope, change, aside, role } = part;
    let mut indicator = Indicator::of(value, None);
    (indicator.scope, indicator.role) = (scope.filter(|_| indicator.value.kind() == ObservableType::Domain), role);
    if aside || indicator.value.kind() == ObservableType::Other {
        // It is searched for, never acted on.
        indicator.usage = Some(Use::Context);
    }
    (indicator, change)
}

/// The text of a line, and whether it was not UTF-8.
fn decoded(raw: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(raw) {
        Ok(text) => (Cow::Borrowed(text), false),
        Err(_) => (Cow::Owned(raw.iter().map(|byte| char::from(*byte)).collect()), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Observable, Scope};

    fn read(layout: Layout, text: &str) -> (Vec<String>, Vec<u64>) {
        let mut reader = TextReader::new(layout, None);
        let (mut items, mut complaints) = (Vec::new(), Vec::new());
        let shown =
            |value: Observable, scope: Option<Scope>| format!("{} {}{value}", value.kind(), if scope.is_some() { "*." } else { "" });
        text.split('\n').for_each(|line| {
            reader.line(line.as_bytes(), &mut complaints, |one, _| items.push(shown(one.value, one.scope)));
        });
        reader.end(&mut complaints, |one, _| items.push(shown(one.value, one.scope)));
        (items, complaints.iter().map(|one| one.line).collect())
    }

    #[test]
    fn a_plain_list_is_read_as_published() {
        let text = "\u{feff}# comment\r\nevil[.]example\r\n\r\n||ads.example^$all\n0.0.0.0 hosts.example\n192.0.2.1\t9\n- c2.example:443\n*.wild.example\nold.example # was: older.example\nhttp://x.example/a#b\n! filter";
        let (items, complaints) = read(Layout::Plain, text);
        assert_eq!(
            items,
            [
                "domain evil.example",
                "domain *.ads.example",
                "domain hosts.example",
                "ipv4 192.0.2.1",
                "endpoint c2.example:443",
                "domain *.wild.example",
                "domain old.example",
                "url http://x.example/a#b"
            ]
        );
        assert!(complaints.is_empty());
    }

    #[test]
    fn one_bad_line_is_named_and_the_rest_goes_on() {
        let (items, complaints) =
            read(Layout::Plain, "a.example\nnot an indicator\n\\b(x|y)\\.example\ntin.exe\nhttp://e.example/*.jpg\nb.example");
        assert_eq!(items, ["domain a.example", "domain b.example"]);
        assert_eq!(complaints, [2, 3, 4, 5]);
    }

    #[test]
    fn a_table_is_read_by_its_header_or_cell_by_cell() {
        let (items, _) = read(Layout::Csv, "Type,Indicator,App\nhostname,a.example,X\nip-dst,192.0.2.2,\"Y, Z\"\n");
        assert_eq!(items, ["domain a.example", "ipv4 192.0.2.2"]);
        let (items, _) = read(Layout::Csv, "MD5,Domain,Notes\nd41d8cd98f00b204e9800998ecf8427e,b.example,see c.example\n");
        assert_eq!(items, ["md5 d41d8cd98f00b204e9800998ecf8427e", "domain b.example"]);
        let (items, complaints) = read(Layout::Csv, "x,192.0.2.3,y\nnothing,here\n");
        assert_eq!((items, complaints), (vec!["ipv4 192.0.2.3".to_owned()], vec![2]));
    }

    #[test]
    fn prose_gives_what_is_beyond_doubt() {
        let (items, _) = read(Layout::Prose, "It calls `hxxp://c2[.]example/a`, then 192.0.2[.]9 (see e.g. fig.1). Drops x.dll.");
        assert_eq!(items, ["url http://c2.example/a", "ipv4 192.0.2.9"]);
    }

    #[test]
    fn columns_say_more_of_a_value_and_a_mapping_stands_in_for_a_header() {
        let rows = |reader: TextReader, text: &str| {
            let (mut reader, mut items, mut complaints) = (reader, Vec::new(), Vec::new());
            let mut shown = |one: Indicator, details: &Details| {
                items
                    .push(format!("{} {:?} {:?} {:?} {:?}", one.value, details.confidence, details.tlp, details.tags, details.external_id));
            };
            text.lines().for_each(|line| reader.line(line.as_bytes(), &mut complaints, &mut shown));
            reader.end(&mut complaints, &mut shown);
            (items, complaints.into_iter().map(|one| one.why).collect::<Vec<_>>())
        };
        let header = "indicator,confidence,tlp,tags,id\na.example,80,amber,x;y,7\nb.example,high,,,\nc.example,1,purple,,\n";
        let (items, complaints) = rows(TextReader::new(Layout::Csv, None), header);
        assert_eq!(items, ["a.example Some(80) Some(Amber) [\"x\", \"y\"] Some(\"7\")", "b.example Some(85) None [] None"]);
        assert_eq!(complaints, ["`purple` is not what its column says it is"]);
        let mapped = TextReader::new(Layout::Csv, None).with_columns("-, confidence ,value,other:mutex").unwrap();
        let (items, complaints) = rows(mapped, "nr,sure,host,m\n1,70,a.example,Global\\x\n2,often,b.example,\n");
        assert_eq!(items, ["a.example Some(70) None [] None", "Global\\x Some(70) None [] None"]);
        assert_eq!(complaints.len(), 1);
        assert!(TextReader::new(Layout::Csv, None).with_columns("value,confidense").unwrap_err().to_string().starts_with("column 2:"));
    }

    #[test]
    fn odd_encodings_are_read_or_refused_in_words() {
        let mut reader = TextReader::new(Layout::Plain, None);
        let (mut items, mut complaints) = (Vec::new(), Vec::new());
        reader.line(b"b\xfccher.example", &mut complaints, |one, _| items.push(one.value.to_string()));
        assert_eq!((items[0].as_str(), reader.latin1_lines), ("xn--bcher-kva.example", 1));
        reader.line(&vec![b'a'; LINE_BYTES_MAX + 1], &mut complaints, |_, _| ());
        assert!(complaints[0].why.contains("65,536"));
        assert_eq!(sniff(b"MZ\x90\0\x03"), Err(FileError::Binary));
        assert_eq!(sniff(&[0xff, 0xfe, b'a', 0]), Err(FileError::Utf16));
    }
}
