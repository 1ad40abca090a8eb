//! Lists, tables and prose: what indicator files on the internet look like.
//!
//! ```text
//! bytes of a line -decode-> text -plain | csv | prose-> items and complaints, each with its line
//! ```
//!
//! One bad line never stops the rest: it is a [`Complaint`], the others go on. Read as published: comments, list bullets,
//! hosts files, filter lists (`||name^`), counts behind addresses, defanged spellings, CRLF, a byte order mark, ISO-8859-1.
//! A `*.` in front of a name means the name and all below it; any other pattern is refused.

use crate::record::{Observable, ObservableError, ObservableType, Scope, TypeName};
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

/// A value and where it stood.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// From 1.
    pub line: u64,
    pub value: Observable,
    /// `Subdomains` where the list says `*.`.
    pub scope: Option<Scope>,
}

/// A line that gave no value, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Complaint {
    pub line: u64,
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

/// What a CSV column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    /// Values of one type, whatever the row says.
    Typed(TypeName),
    /// Values of the type that the type column names, or of any.
    Value,
    /// The type of the row's value.
    Type,
    Other,
}

/// Reads one file, line by line.
pub struct TextReader {
    layout: Layout,
    given: Option<TypeName>,
    columns: Option<Vec<Column>>,
    line: u64,
    /// Lines that were not UTF-8 and were read as ISO-8859-1.
    pub latin1_lines: u64,
}

impl TextReader {
    /// For a file laid out so, whose values are all of type `given` if that is said.
    pub fn new(layout: Layout, given: Option<TypeName>) -> Self {
        Self { layout, given, columns: None, line: 0, latin1_lines: 0 }
    }

    /// Takes the next line, without its line feed, and adds what it gives to `items` and `complaints`.
    pub fn line(&mut self, raw: &[u8], items: &mut Vec<Item>, complaints: &mut Vec<Complaint>) {
        self.line += 1;
        if raw.len() > LINE_BYTES_MAX {
            complaints.push(Complaint { line: self.line, why: format!("the line has {} bytes, more than 65,536", raw.len()) });
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
            Layout::Csv => self.csv(text, items),
            Layout::Prose => {
                self.prose(text, items);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            complaints.push(Complaint { line: self.line, why: error.to_string() });
        }
    }

    fn push(&self, items: &mut Vec<Item>, (value, scope): (Observable, Option<Scope>)) {
        items.push(Item { line: self.line, value, scope });
    }

    fn plain(&self, text: &str, items: &mut Vec<Item>) -> Result<(), ObservableError> {
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
        self.push(items, found);
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

    fn csv(&mut self, text: &str, items: &mut Vec<Item>) -> Result<(), ObservableError> {
        let mut rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
        let mut row = csv::StringRecord::new();
        if !rows.read_record(&mut row).unwrap_or(false) {
            return Err(ObservableError::Unrecognised { text: crate::record::excerpt(text) });
        }
        let Some(columns) = self.columns.take() else {
            let columns: Vec<Column> = row.iter().map(column_of).collect();
            let is_header = columns.iter().any(|column| *column != Column::Other) && !row.iter().any(|cell| self.certain(cell).is_some());
            let useful = columns.iter().any(|column| matches!(column, Column::Typed(_) | Column::Value));
            // Without a header, or with one that says nothing, every cell speaks for itself.
            self.columns = Some(if is_header && useful { columns } else { Vec::new() });
            return if is_header { Ok(()) } else { self.cells(&row, items) };
        };
        let outcome = if columns.is_empty() { self.cells(&row, items) } else { self.row(&columns, &row, items) };
        self.columns = Some(columns);
        outcome
    }

    fn row(&self, columns: &[Column], row: &csv::StringRecord, items: &mut Vec<Item>) -> Result<(), ObservableError> {
        let named = columns.iter().zip(row).find(|(column, _)| **column == Column::Type).map(|(_, cell)| cell);
        let mut first_error = None;
        for (column, cell) in columns.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
            let read = match (column, named) {
                (Column::Typed(kind), _) => kind.read(cell).map(|value| (value, None)),
                (Column::Value, Some(name)) if self.given.is_none() => match name.parse::<TypeName>() {
                    Ok(kind) => kind.read(cell).map(|value| (value, None)),
                    // A type of theirs that is none of ours: the value may still speak for itself.
                    Err(unknown) => self.read(cell).map_err(|_| ObservableError::Type(unknown)),
                },
                (Column::Value, _) => self.read(cell),
                (Column::Type | Column::Other, _) => continue,
            };
            match read {
                Ok(found) => self.push(items, found),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn cells(&self, row: &csv::StringRecord, items: &mut Vec<Item>) -> Result<(), ObservableError> {
        let before = items.len();
        for found in row.iter().filter_map(|cell| self.certain(undecorated(cell))) {
            self.push(items, found);
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

    fn prose(&self, text: &str, items: &mut Vec<Item>) {
        let breaks = |char: char| char.is_whitespace() || "|,\"'`<>;".contains(char);
        for word in text.split(breaks) {
            let word = word.trim_matches(|char| "*_+()[]{}.:!".contains(char));
            if word.len() >= 4
                && let Some(found) = self.certain(word)
            {
                self.push(items, found);
            }
        }
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
        _ => name.parse().map_or(Column::Other, Column::Typed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(layout: Layout, text: &str) -> (Vec<String>, Vec<u64>) {
        let mut reader = TextReader::new(layout, None);
        let (mut items, mut complaints) = (Vec::new(), Vec::new());
        text.split('\n').for_each(|line| reader.line(line.as_bytes(), &mut items, &mut complaints));
        let shown = |item: &Item| format!("{} {}{}", item.value.kind(), if item.scope.is_some() { "*." } else { "" }, item.value);
        (items.iter().map(shown).collect(), complaints.iter().map(|one| one.line).collect())
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
    fn odd_encodings_are_read_or_refused_in_words() {
        let mut reader = TextReader::new(Layout::Plain, None);
        let (mut items, mut complaints) = (Vec::new(), Vec::new());
        reader.line(b"b\xfccher.example", &mut items, &mut complaints);
        assert_eq!((items[0].value.to_string().as_str(), reader.latin1_lines), ("xn--bcher-kva.example", 1));
        reader.line(&vec![b'a'; LINE_BYTES_MAX + 1], &mut items, &mut complaints);
        assert!(complaints[0].why.contains("65,536"));
        assert_eq!(sniff(b"MZ\x90\0\x03"), Err(FileError::Binary));
        assert_eq!(sniff(&[0xff, 0xfe, b'a', 0]), Err(FileError::Utf16));
    }
}
