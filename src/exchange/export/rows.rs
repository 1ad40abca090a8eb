//! Lists and hosts files for tools; tables and JSON lines for people, spreadsheets and search engines.
//!
//! A cell of a table that a spreadsheet would take for a formula has a `'` in front, which is what spreadsheets themselves
//! write for a text, and our own reader takes it off again.

use super::{Entry, Sheet, Written};
use crate::record::{Observable, ObservableType, Scope, Timestamp, acts_on_a_screen};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// What ends a line, to one reader or another.
const LINE_ENDS: [char; 7] = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
const WATCHED: &str = "what is only watched has no place in a plain list";

pub(super) fn list(entries: &[Entry], _: &Sheet<'_>) -> Written {
    let mut written = Written::default();
    let (mut text, mut meant) = (String::new(), Vec::new());
    for entry in entries {
        let value = entry.value.to_string();
        if entry.watched {
            written.left(WATCHED);
        } else if value.contains(LINE_ENDS) {
            written.left("its text is more than one line to some readers");
        } else {
            let _infallible = writeln!(text, "{value}");
            meant.push((value, false));
        }
    }
    written.file(".list", text, meant);
    written
}

pub(super) fn read_list(text: &str) -> Result<Vec<(String, bool)>, String> {
    Ok(lines(text).map(|line| (line.to_owned(), false)).collect())
}

/// Lines as every convention would cut them: a value with any of these signs in it would read back as two.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.strip_suffix('\n').unwrap_or(text).split(LINE_ENDS).filter(move |_| !text.is_empty())
}

pub(super) fn hosts(entries: &[Entry], about: &Sheet<'_>) -> Written {
    let mut written = Written::default();
    let (mut text, mut meant) = (format!("# {} of huecry, serial {}\n", about.name, about.serial), Vec::new());
    for entry in entries {
        match entry.value.kind() {
            _ if entry.watched => written.left(WATCHED),
            ObservableType::Domain => {
                if entry.below {
                    written.left("names below it are not stopped: a hosts file knows whole names");
                }
                let _infallible = writeln!(text, "0.0.0.0 {}", entry.value);
                meant.push((entry.value.to_string(), false));
            }
            _ => written.left("a hosts file knows names only"),
        }
    }
    written.file(".hosts", text, meant);
    written
}

pub(super) fn read_hosts(text: &str) -> Result<Vec<(String, bool)>, String> {
    let row = |line: &str| match line.split([' ', '\t']).collect::<Vec<_>>().as_slice() {
        ["0.0.0.0", name] if !name.is_empty() => Ok(((*name).to_owned(), false)),
        _ => Err("a line is not an address and a name".to_owned()),
    };
    lines(text).filter(|line| !line.starts_with('#')).map(row).collect()
}

/// A record's statement with what has to be known of it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub value: Observable,
    pub scope: Option<Scope>,
    pub role: String,
    pub usage: String,
    pub confidence: u8,
    pub valid_from: Option<Timestamp>,
    pub until: Timestamp,
    pub tlp: String,
    pub origin: String,
    pub record: String,
    pub title: String,
    pub tags: Vec<String>,
    /// `accepted`, or `withdrawn` where what is new is asked for.
    pub standing: String,
}

/// The columns of a table, in order. Our own reader understands each of them.
pub const COLUMNS: [&str; 14] = [
    "type",
    "value",
    "scope",
    "role",
    "use",
    "confidence",
    "valid_from",
    "valid_until",
    "tlp",
    "origin",
    "record",
    "title",
    "tags",
    "standing",
];

impl Row {
    /// The type's name, with that of an `other`.
    pub fn kind(&self) -> String {
        match self.value.other() {
            Some(name) => format!("other:{name}"),
            None => self.value.kind().name().to_owned(),
        }
    }

    fn cells(&self) -> [String; 14] {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        [
            self.kind(),
            self.value.to_string(),
            self.scope.map(|scope| scope.name().to_owned()).unwrap_or_default(),
            self.role.clone(),
            self.usage.clone(),
            self.confidence.to_string(),
            time(self.valid_from),
            time(Some(self.until)),
            self.tlp.clone(),
            self.origin.clone(),
            self.record.clone(),
            self.title.clone(),
            self.tags.join(";"),
            self.standing.clone(),
        ]
    }

    /// The value alone, with the line's end; nothing if some readers would take it for two lines.
    pub fn line(&self) -> String {
        let value = self.value.to_string();
        if value.contains(LINE_ENDS) { String::new() } else { value + "\n" }
    }

    /// One line of a table, with its end.
    pub fn csv(&self) -> String {
        csv_line(&self.cells())
    }

    /// One line of JSON, with its end: the same names as the table has.
    pub fn json(&self) -> String {
        let mut object: Map<String, Value> = COLUMNS
            .iter()
            .zip(self.cells())
            .filter(|(_, cell)| !cell.is_empty())
            .map(|(name, cell)| ((*name).to_owned(), json!(cell)))
            .collect();
        object.insert("confidence".to_owned(), json!(self.confidence));
        object.insert("tags".to_owned(), json!(self.tags));
        json_line(&Value::Object(object))
    }

    /// One line of JSON by the Elastic Common Schema 8, fields of `threat.indicator`.
    pub fn ecs(&self) -> String {
        use ObservableType as T;
        let text = self.value.to_string();
        let confidence = match self.confidence {
            0 => "None",
            1..=29 => "Low",
            30..=69 => "Medium",
            _ => "High",
        };
        let mut indicator = json!({
            "name": text, "provider": self.origin, "reference": self.record, "description": self.title, "confidence": confidence,
            "marking": { "tlp": self.tlp.trim_start_matches("TLP:") }, "last_seen": self.until.to_string(),
        });
        let part = match self.value.kind() {
            T::Ipv4 => json!({ "type": "ipv4-addr", "ip": text }),
            T::Ipv6 => json!({ "type": "ipv6-addr", "ip": text }),
            T::Domain => json!({ "type": "domain-name", "url": { "domain": text } }),
            T::Url => json!({ "type": "url", "url": { "full": text } }),
            T::Email => json!({ "type": "email-addr", "email": { "address": text } }),
            T::Asn => {
                json!({ "type": "autonomous-system", "as": { "number": text.trim_start_matches("AS").parse::<u64>().unwrap_or_default() } })
            }
            T::Md5 | T::Sha1 | T::Sha256 | T::Sha512 => json!({ "type": "file", "file": { "hash": { self.value.kind().name(): text } } }),
            T::CertSha256 => json!({ "type": "x509-certificate", "file": { "hash": { "sha256": text } } }),
            T::Endpoint => match text.rsplit_once(':') {
                Some((host, port)) if host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() => {
                    json!({ "type": "network-traffic", "ip": host.trim_matches(['[', ']']), "port": port.parse::<u16>().unwrap_or_default() })
                }
                Some((host, port)) => {
                    json!({ "type": "network-traffic", "url": { "domain": host }, "port": port.parse::<u16>().unwrap_or_default() })
                }
                None => json!({}),
            },
            _ => json!({ "type": self.kind() }),
        };
        if let (Value::Object(indicator), Value::Object(part)) = (&mut indicator, part) {
            indicator.extend(part);
        }
        let event = json!({ "kind": "enrichment", "category": ["threat"], "type": ["indicator"], "module": "huecry" });
        let line = json!({ "@timestamp": self.valid_from.unwrap_or(self.until).to_string(), "event": event, "threat": { "indicator": indicator }, "tags": self.tags });
        json_line(&line)
    }
}

/// One line of JSON, with its end: what some readers take for the end of a line, and what acts on a screen, is escaped, as JSON
/// may always be.
pub(super) fn json_line(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(acts_on_a_screen) {
        return text + "\n";
    }
    let mut units = [0; 2];
    let mut line = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if acts_on_a_screen(char) {
            char.encode_utf16(&mut units).iter().for_each(|unit| line.push_str(&format!("\\u{unit:04x}")));
        } else {
            line.push(char);
        }
    }
    line + "\n"
}

/// The line of names.
pub fn csv_header() -> String {
    csv_line(&COLUMNS)
}

fn csv_line(cells: &[impl AsRef<str>]) -> String {
    let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Necessary).from_writer(Vec::new());
    let cells = cells.iter().map(|cell| as_text(cell.as_ref()));
    // Writing to memory cannot fail.
    let _infallible = writer.write_record(cells);
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// A cell that no spreadsheet computes, on one line: not as a whole, and in no part of it that another locale would take for a
/// cell of its own, because its tables are separated by `;`.
fn as_text(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    let mut begins = true;
    for char in cell.chars() {
        let char = if char.is_control() || LINE_ENDS.contains(&char) { ' ' } else { char };
        if begins && is_formula(char) {
            text.push('\'');
        }
        text.push(char);
        begins = matches!(char, ';' | ',' | '"' | '|');
    }
    text
}

/// What begins a formula, or the mark that keeps a text from being one.
fn is_formula(char: char) -> bool {
    matches!(char, '=' | '+' | '-' | '@' | '\t' | '\r' | '\'' | '%')
}

/// A cell as it was meant, without the marks that keep a spreadsheet from computing it.
pub fn from_cell(cell: &str) -> std::borrow::Cow<'_, str> {
    if !cell.contains('\'') {
        return std::borrow::Cow::Borrowed(cell);
    }
    let mut text = String::with_capacity(cell.len());
    let (mut begins, mut chars) = (true, cell.chars().peekable());
    while let Some(char) = chars.next() {
        if begins && char == '\'' && chars.peek().is_some_and(|next| is_formula(*next)) {
            begins = false;
            continue;
        }
        text.push(char);
        begins = matches!(char, ';' | ',' | '"' | '|');
    }
    // The character behind a mark was taken as it stands.
    std::borrow::Cow::Owned(text)
}
