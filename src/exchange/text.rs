//! Lists, tables and prose: what indicator files on the internet look like.
//!
//! ```text
//! bytes of a line -decode-> text -plain | csv | prose-> items and complaints, each with its line
//! ```
//!
//! One bad line never stops the rest: it is a [`Complaint`], the others go on. Read as published: comments, list bullets,
//! hosts files, filter lists (`||name^`), counts behind addresses, defanged spellings, CRLF, a byte order mark, ISO-8859-1.
//! A `*.` in front of a name means the name and all below it; any other pattern is refused.

use super::{add_word, from_cell, one_line};
use crate::record::{
    Indicator, Observable, ObservableError, ObservableType, Role, Scope, Source, Timestamp, Tlp, TypeName, UnknownName, Use,
};
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
    /// Comma-separated, with or without a header.
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
            Some("csv") => Self::Csv,
            Some("md" | "adoc" | "rst" | "html") => Self::Prose,
            _ => Self::Plain,
        }
    }
}

/// What a row of a table says of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub confidence: Option<u8>,
    pub valid_from: Option<Timestamp>,
    pub valid_until: Option<Timestamp>,
    pub role: Option<Role>,
    pub usage: Option<Use>,
    pub tags: Vec<String>,
    /// The row's id at its author.
    pub external_id: Option<String>,
    pub tlp: Option<Tlp>,
    /// A domain means also what is below it.
    pub below: bool,
    /// The row says that it is taken back.
    pub gone: bool,
}

impl Details {
    /// Says them of an indicator.
    pub fn apply(&self, indicator: &mut Indicator) {
        let Self { confidence, valid_from, valid_until, role, usage, tags, external_id, below, tlp: _, gone: _ } = self;
        (indicator.confidence, indicator.role, indicator.usage) = (*confidence, *role, *usage);
        (indicator.valid_from, indicator.valid_until) = (*valid_from, *valid_until);
        if *below && indicator.value.kind() == ObservableType::Domain {
            indicator.scope = Some(Scope::Subdomains);
        }
        indicator.tags.clone_from(tags);
        indicator.source = external_id.clone().map(|id| Source { organisation: None, url: None, external_id: Some(id) });
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

/// A value, and `Subdomains` where the list says `*.`.
type Found = (Observable, Option<Scope>);

/// What a CSV column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    /// Values of one type, whatever the row says.
    Typed(TypeName),
    /// Values of the type that the type column names, or of any.
    Value,
    /// The type of the row's value.
    Type,
    Detail(Detail),
    Other,
}

/// What a column says of a row's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    Confidence,
    ValidFrom,
    ValidUntil,
    Role,
    Use,
    Tags,
    Id,
    Tlp,
    Scope,
    Standing,
}

impl Detail {
    const ALL: [(&str, Self); 10] = [
        ("confidence", Self::Confidence),
        ("valid_from", Self::ValidFrom),
        ("valid_until", Self::ValidUntil),
        ("role", Self::Role),
        ("use", Self::Use),
        ("tags", Self::Tags),
        ("id", Self::Id),
        ("tlp", Self::Tlp),
        ("scope", Self::Scope),
        ("standing", Self::Standing),
    ];
}

/// A column of a mapping that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "column {number}: {what}; a column is `-`, `value`, `type`, a type such as `domain`, or one of confidence, valid_from, valid_until, role, use, tags, id, tlp"
)]
pub struct ColumnError {
    number: usize,
    what: UnknownName,
}

/// Reads one file, line by line.
#[derive(Clone, Debug)]
pub struct TextReader {
    layout: Layout,
    given: Option<TypeName>,
    columns: Option<Vec<Column>>,
    /// The columns were said; a header in the file says nothing more.
    mapped: bool,
    rows: u64,
    line: u64,
    /// Kept between lines for its room.
    found: Vec<Found>,
    /// Lines that were not UTF-8 and were read as ISO-8859-1.
    pub latin1_lines: u64,
}

impl TextReader {
    /// For a file laid out so, whose values are all of type `given` if that is said.
    pub fn new(layout: Layout, given: Option<TypeName>) -> Self {
        Self { layout, given, columns: None, mapped: false, rows: 0, line: 0, found: Vec::new(), latin1_lines: 0 }
    }

    /// Says what the columns of a table are, in order, separated by commas; for tables whose header does not.
    pub fn with_columns(mut self, mapping: &str) -> Result<Self, ColumnError> {
        let column = |(index, name): (usize, &str)| match name.trim() {
            "-" | "" => Ok(Column::Other),
            "value" => Ok(Column::Value),
            "type" => Ok(Column::Type),
            name => match Detail::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, detail)) => Ok(Column::Detail(*detail)),
                None => name.parse().map(Column::Typed).map_err(|what| ColumnError { number: index + 1, what }),
            },
        };
        self.columns = Some(mapping.split(',').enumerate().map(column).collect::<Result<_, _>>()?);
        self.mapped = true;
        Ok(self)
    }

    /// Takes the next line, without its line feed, and gives what it says to `take` and `complaints`.
    pub fn line(&mut self, raw: &[u8], complaints: &mut Vec<Complaint>, mut take: impl FnMut(Observable, Option<Scope>, &Details)) {
        let (mut found, mut details) = (std::mem::take(&mut self.found), Details::default());
        self.read_line(raw, &mut found, &mut details, complaints);
        found.drain(..).for_each(|(value, scope)| take(value, scope, &details));
        self.found = found;
    }

    fn read_line(&mut self, raw: &[u8], items: &mut Vec<Found>, details: &mut Details, complaints: &mut Vec<Complaint>) {
        self.line += 1;
        if raw.len() > LINE_BYTES_MAX {
            complaints.push(Complaint {
                line: self.line,
                path: String::new(),
                why: format!("the line has {} bytes, more than 65,536", raw.len()),
            });
            return;
        }
        let decoded = match std::str::from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => {
                self.latin1_lines += 1;
                Cow::Owned(raw.iter().map(|byte| char::from(*byte)).collect())
            }
        };
        let text = decoded.trim_start_matches('\u{feff}').trim();
        if text.is_empty() || is_comment(text) {
            return;
        }
        let outcome = match self.layout {
            Layout::Plain => self.plain(text, items),
            Layout::Csv => self.csv(text, items, details),
            Layout::Prose => {
                self.prose(text, items);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            complaints.push(Complaint { line: self.line, path: String::new(), why: error.to_string() });
        }
    }

    fn plain(&self, text: &str, items: &mut Vec<Found>) -> Result<(), ObservableError> {
        let text = undecorated(text);
        let found = match self.read(text) {
            Ok(found) => found,
            Err(error) => {
                // `0.0.0.0 name`, `address<TAB>count`: the first word, or the one behind a hosts file's sink.
                let mut words = text.split_whitespace();
                match (words.next(), words.next(), words.next()) {
                    (Some("0.0.0.0" | "127.0.0.1" | "::" | "::1"), Some(name), None) => self.read(name)?,
                    (Some(word), Some(count), None) if count.bytes().all(|byte| byte.is_ascii_digit()) => self.read(word)?,
                    // Taking the values out of a sentence would publish the links to a report as its indicators.
                    (Some(_), Some(_), _) => return Err(ObservableError::Words { text: crate::record::excerpt(text) }),
                    _ => return Err(error),
                }
            }
        };
        items.push(found);
        Ok(())
    }

    fn read(&self, text: &str) -> Result<(Observable, Option<Scope>), ObservableError> {
        if let Some(name) = text.strip_prefix("*.") {
            let value = Observable::from_text(ObservableType::Domain, name)?;
            return Ok((value, Some(Scope::Subdomains)));
        }
        if text.contains('*') && self.given.is_none() {
            return Err(ObservableError::Unrecognised { text: crate::record::excerpt(text) });
        }
        let value = match &self.given {
            Some(given) => given.read(text),
            None => Observable::recognise(text),
        };
        value.map(|value| (value, None))
    }

    fn csv(&mut self, text: &str, items: &mut Vec<Found>, details: &mut Details) -> Result<(), ObservableError> {
        let mut rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
        let mut row = csv::StringRecord::new();
        if !rows.read_record(&mut row).unwrap_or(false) {
            return Err(ObservableError::Unrecognised { text: crate::record::excerpt(text) });
        }
        self.rows += 1;
        if self.mapped && self.rows == 1 && !row.iter().any(|cell| self.certain(cell).is_some()) {
            // A header that the mapping stands in for.
            return Ok(());
        }
        let Some(columns) = self.columns.take() else {
            let columns: Vec<Column> = row.iter().map(column_of).collect();
            let is_header = columns.iter().any(|column| *column != Column::Other) && !row.iter().any(|cell| self.certain(cell).is_some());
            let useful = columns.iter().any(|column| matches!(column, Column::Typed(_) | Column::Value));
            // Without a header, or with one that says nothing, every cell speaks for itself.
            self.columns = Some(if is_header && useful { columns } else { Vec::new() });
            return if is_header { Ok(()) } else { self.cells(&row, items) };
        };
        let outcome = if columns.is_empty() { self.cells(&row, items) } else { self.row(&columns, &row, items, details) };
        self.columns = Some(columns);
        outcome
    }

    fn row(
        &self,
        columns: &[Column],
        row: &csv::StringRecord,
        items: &mut Vec<Found>,
        details: &mut Details,
    ) -> Result<(), ObservableError> {
        let named = columns.iter().zip(row).find(|(column, _)| **column == Column::Type).map(|(_, cell)| cell);
        let mut first_error = None;
        for (column, cell) in columns.iter().zip(row.iter().map(from_cell)).filter(|(_, cell)| !cell.is_empty()) {
            let cell = cell.as_ref();
            let read = match (column, named) {
                (Column::Typed(kind), _) => kind.read(cell).map(|value| (value, None)),
                (Column::Value, Some(name)) if self.given.is_none() => match name.parse::<TypeName>() {
                    Ok(kind) => kind.read(cell).map(|value| (value, None)),
                    // A type of theirs that is none of ours: the value may still speak for itself.
                    Err(unknown) => self.read(cell).map_err(|_| ObservableError::Type(unknown)),
                },
                (Column::Value, _) => self.read(cell),
                (Column::Detail(detail), _) => {
                    // A header may mean something else by the word; what would widen or lengthen is not guessed at.
                    let strict = self.mapped || matches!(detail, Detail::Tlp | Detail::ValidUntil);
                    if let (Err(why), true) = (details.take(*detail, cell), strict) {
                        first_error = first_error.or(Some(why));
                    }
                    continue;
                }
                (Column::Type | Column::Other, _) => continue,
            };
            match read {
                Ok(found) => items.push(found),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if details.gone {
            items.clear();
            return Ok(());
        }
        if matches!(first_error, Some(ObservableError::Cell { .. })) {
            items.clear();
        }
        first_error.map_or(Ok(()), Err)
    }

    fn cells(&self, row: &csv::StringRecord, items: &mut Vec<Found>) -> Result<(), ObservableError> {
        let before = items.len();
        for found in row.iter().filter_map(|cell| self.certain(undecorated(cell))) {
            items.push(found);
        }
        if items.len() > before {
            return Ok(());
        }
        Err(ObservableError::Unrecognised { text: crate::record::excerpt(&row.iter().collect::<Vec<_>>().join(",")) })
    }

    /// A value that a cell or word of prose is beyond doubt: a bare name only if its ending exists.
    fn certain(&self, text: &str) -> Option<(Observable, Option<Scope>)> {
        let found = self.read(text).ok()?;
        if self.given.is_some() || !matches!(found.0.kind(), ObservableType::Domain | ObservableType::Endpoint) {
            return Some(found);
        }
        let host = found.0.host()?.into_owned();
        let address = found.0.kind() == ObservableType::Endpoint && host.parse::<std::net::IpAddr>().is_ok();
        let listed = psl::suffix(host.as_bytes()).is_some_and(|suffix| suffix.is_known());
        (address || listed || host.ends_with(".onion") || host.ends_with(".example")).then_some(found)
    }

    fn prose(&self, text: &str, items: &mut Vec<Found>) {
        let breaks = |char: char| char.is_whitespace() || "|,\"'`<>;".contains(char);
        for word in text.split(breaks) {
            let word = word.trim_matches(|char| "*_+()[]{}.:!".contains(char));
            if word.len() >= 4
                && let Some(found) = self.certain(word)
            {
                items.push(found);
            }
        }
    }
}

impl Details {
    /// What a cell says.
    fn take(&mut self, detail: Detail, cell: &str) -> Result<(), ObservableError> {
        let wrong = || ObservableError::Cell { text: crate::record::excerpt(cell) };
        let time = || Timestamp::parse(cell).map(Some).ok_or_else(wrong);
        match detail {
            Detail::Confidence => self.confidence = Some(cell.parse().ok().filter(|value| *value <= 100).ok_or_else(wrong)?),
            Detail::ValidFrom => self.valid_from = time()?,
            Detail::ValidUntil => self.valid_until = time()?,
            Detail::Role => self.role = Some(cell.parse().map_err(|_| wrong())?),
            Detail::Use => self.usage = Some(cell.parse().map_err(|_| wrong())?),
            Detail::Tags => cell.split([';', '|']).for_each(|tag| add_word(&mut self.tags, tag)),
            Detail::Id => self.external_id = Some(one_line(cell, crate::record::WORD_BYTES_MAX).0).filter(|id| !id.is_empty()),
            Detail::Tlp => self.tlp = Some(Tlp::parse(cell).map_err(|_| wrong())?),
            Detail::Scope => self.below = cell == Scope::Subdomains.name(),
            Detail::Standing => self.gone = cell == "withdrawn",
        }
        Ok(())
    }
}

fn is_comment(text: &str) -> bool {
    text.starts_with('#') || text.starts_with("//") || text.starts_with(';') || text.starts_with('!')
}

/// A line of a list without what the list's own syntax adds.
fn undecorated(text: &str) -> &str {
    // A comment behind the value; a `#` without a space before it belongs to a URL.
    let text = text.find(" #").or_else(|| text.find("\t#")).and_then(|at| text.get(..at)).unwrap_or(text);
    let text = text.trim().trim_start_matches("- ").trim_start_matches("* ");
    let text = match text.strip_prefix("||") {
        Some(rule) => rule.split(['^', '$']).next().unwrap_or(rule),
        None => text,
    };
    let text = text.trim().trim_matches(['"', '\'', '`', ',']);
    // AsciiDoc's `++` passthrough around URLs.
    text.trim_start_matches("++").trim_end_matches("++").trim()
}

fn column_of(header: &str) -> Column {
    let name = header.trim_start_matches('\u{feff}').trim().trim_matches('"').to_ascii_lowercase();
    match name.as_str() {
        "type" | "indicator type" | "indicator_type" | "ioc type" | "ioc_type" => Column::Type,
        "value" | "indicator" | "indicators" | "ioc" | "iocs" | "observable" | "hash" | "hashes" | "c2" | "address" => Column::Value,
        "other" => Column::Other,
        "confidence" => Column::Detail(Detail::Confidence),
        "valid_until" | "valid until" | "expires" | "expiration" => Column::Detail(Detail::ValidUntil),
        "valid_from" | "valid from" => Column::Detail(Detail::ValidFrom),
        "tags" => Column::Detail(Detail::Tags),
        "id" | "uuid" | "external_id" => Column::Detail(Detail::Id),
        "tlp" => Column::Detail(Detail::Tlp),
        "scope" => Column::Detail(Detail::Scope),
        "standing" => Column::Detail(Detail::Standing),
        "record" => Column::Detail(Detail::Id),
        "role" => Column::Detail(Detail::Role),
        "use" => Column::Detail(Detail::Use),
        _ => name.parse().map_or(Column::Other, Column::Typed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(layout: Layout, text: &str) -> (Vec<String>, Vec<u64>) {
        let mut reader = TextReader::new(layout, None);
        let (mut items, mut complaints) = (Vec::new(), Vec::new());
        let shown =
            |value: Observable, scope: Option<Scope>| format!("{} {}{value}", value.kind(), if scope.is_some() { "*." } else { "" });
        text.split('\n').for_each(|line| {
            reader.line(line.as_bytes(), &mut complaints, |value, scope, _| items.push(shown(value, scope)));
        });
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
                "domain ads.example",
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
            for line in text.lines() {
                reader.line(line.as_bytes(), &mut complaints, |value, _, details| {
                    items.push(format!("{value} {:?} {:?} {:?} {:?}", details.confidence, details.tlp, details.tags, details.external_id));
                });
            }
            (items, complaints.into_iter().map(|one| one.why).collect::<Vec<_>>())
        };
        let header = "indicator,confidence,tlp,tags,id\na.example,80,amber,x;y,7\nb.example,high,,,\nc.example,1,purple,,\n";
        let (items, complaints) = rows(TextReader::new(Layout::Csv, None), header);
        assert_eq!(items, ["a.example Some(80) Some(Amber) [\"x\", \"y\"] Some(\"7\")", "b.example None None [] None"]);
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
        reader.line(b"b\xfccher.example", &mut complaints, |value, _, _| items.push(value.to_string()));
        assert_eq!((items[0].as_str(), reader.latin1_lines), ("xn--bcher-kva.example", 1));
        reader.line(&vec![b'a'; LINE_BYTES_MAX + 1], &mut complaints, |_, _, _| ());
        assert!(complaints[0].why.contains("65,536"));
        assert_eq!(sniff(b"MZ\x90\0\x03"), Err(FileError::Binary));
        assert_eq!(sniff(&[0xff, 0xfe, b'a', 0]), Err(FileError::Utf16));
    }
}
