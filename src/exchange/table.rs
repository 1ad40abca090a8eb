//! Tables: comma, semicolon or tab separated, with or without a header, with quoted cells over several lines.
//!
//! ```text
//! lines -is_open-> a whole row -separator-> cells -columns (by name, then by content)-> values and details
//! ```
//!
//! A row's own type holds. A column that may mean two things is not read. A marking, an end or a confidence that cannot be read refuses its
//! row. Columns that describe a value (its AS, reverse name, report, detail page) give no indicators. The crate `csv` takes a quote behind a
//! space for text, which ThreatFox's exports do not mean, so cells are split here.
//!
//! Source: RFC 4180; the exports of MISP 2.5, ThreatFox, URLhaus, MalwareBazaar, OTX, CrowdSec, OpenCTI, and our own.

use super::{
    add_word, from_cell, list, one_line,
    scale::confidence,
    times::{End, end_of, moment_of},
    typed::{Part, parts, type_of},
};
use crate::record::{Indicator, ObservableError, ObservableType, Role, Scope, Source, Timestamp, Tlp, TypeName, UnknownName, Use, excerpt};

/// Rows by which a table's columns are understood before the first of them is read.
const SAMPLE_ROWS: usize = 64;
/// Values of one cell: a cell with more is a list of its own.
const CELL_VALUES_MAX: usize = 64;

/// Details of a row, for each of its values.
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
    /// The row is marked as withdrawn.
    pub gone: bool,
}

impl Details {
    /// Says them of an indicator.
    pub fn apply(&self, indicator: &mut Indicator) {
        let Self { confidence, valid_from, valid_until, role, usage, tags, external_id, below, tlp: _, gone: _ } = self;
        (indicator.confidence, indicator.usage) = (*confidence, indicator.usage.or(*usage));
        indicator.role = role.or(indicator.role);
        (indicator.valid_from, indicator.valid_until) = (*valid_from, *valid_until);
        if *below && indicator.value.kind() == ObservableType::Domain {
            indicator.scope = Some(Scope::Subdomains);
        }
        indicator.tags.clone_from(tags);
        indicator.source = external_id.clone().map(|id| Source { organisation: None, url: None, external_id: Some(id) });
    }

    /// Reads the cell of a column of details.
    fn take(&mut self, detail: Detail, cell: &str) -> Result<(), ObservableError> {
        let wrong = || ObservableError::Cell { text: excerpt(cell) };
        match detail {
            Detail::Confidence => self.confidence = confidence(cell).map_err(|_| wrong())?,
            Detail::ValidFrom => self.valid_from = Some(moment_of(cell).ok_or_else(wrong)?),
            Detail::ValidUntil => match end_of(cell).ok_or_else(wrong)? {
                End::At(end) => self.valid_until = Some(end),
                End::Never => self.valid_until = Some(Timestamp::END),
                End::Unsaid => (),
            },
            Detail::Role => self.role = Some(cell.parse().map_err(|_| wrong())?),
            Detail::Use => self.usage = Some(cell.parse().map_err(|_| wrong())?),
            Detail::ToIds => match cell.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" => (),
                "0" | "false" | "no" => self.usage = Some(Use::Context),
                _ => return Err(wrong()),
            },
            Detail::Tags => {
                for tag in cell.split([';', '|', ',']) {
                    match Tlp::claimed(tag) {
                        Some(tlp) => self.tlp = self.tlp.max(Some(tlp.map_err(|_| wrong())?)),
                        None => add_word(&mut self.tags, tag),
                    }
                }
            }
            Detail::Tag => add_word(&mut self.tags, cell),
            Detail::Id => self.external_id = Some(one_line(cell, crate::record::WORD_BYTES_MAX).0).filter(|id| !id.is_empty()),
            Detail::Tlp => {
                let tlp = Tlp::claimed(cell).unwrap_or_else(|| Tlp::parse(cell)).map_err(|_| wrong())?;
                self.tlp = self.tlp.max(Some(tlp));
            }
            Detail::Scope => self.below = cell == Scope::Subdomains.name(),
            Detail::Standing => self.gone = cell == "withdrawn",
        }
        Ok(())
    }
}

/// The content of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    /// Values of one type, by MISP's name.
    Typed(String),
    /// Values of a type that `--columns` names.
    Given(TypeName),
    /// Values of the type that the type column names, or of any.
    Value,
    /// The type of the row's value.
    Type,
    Detail(Detail),
    /// Not read.
    Other,
}

/// A detail of a row's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    Confidence,
    ValidFrom,
    ValidUntil,
    Role,
    Use,
    ToIds,
    Tags,
    /// One tag, whatever signs are in it.
    Tag,
    Id,
    Tlp,
    Scope,
    Standing,
}

impl Detail {
    const ALL: [(&str, Self); 12] = [
        ("confidence", Self::Confidence),
        ("valid_from", Self::ValidFrom),
        ("valid_until", Self::ValidUntil),
        ("role", Self::Role),
        ("use", Self::Use),
        ("to_ids", Self::ToIds),
        ("tags", Self::Tags),
        ("tag", Self::Tag),
        ("id", Self::Id),
        ("tlp", Self::Tlp),
        ("scope", Self::Scope),
        ("standing", Self::Standing),
    ];
}

/// A column of a mapping that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "column {number}: {what}; a column is `-`, `value`, `type`, a type such as `domain`, or one of confidence, valid_from, valid_until, role, use, to_ids, tags, tag, id, tlp"
)]
pub struct ColumnError {
    number: usize,
    what: UnknownName,
}

/// A remark about a whole column.
pub(super) type ColumnNote = &'static str;

pub(super) const AMBIGUOUS_CONFIDENCE: ColumnNote =
    "a confidence column of 0 and 1 alone is not read: it may be a yes and no, or a scale; map it with --columns";
pub(super) const DESCRIBING: ColumnNote = "columns that describe a value (its AS, reverse name, report, detail page) are left out";

/// How a table separates and what its columns mean, once that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    separator: Option<u8>,
    columns: Option<Vec<Column>>,
    /// `--columns` named them; a header in the file is passed over.
    mapped: bool,
    /// The last comment before the rows: many exports have their header in one.
    comment: Option<String>,
    /// Rows that wait until the columns are understood, each with its line.
    sample: Vec<(u64, Vec<String>)>,
    begun: bool,
    given: Option<TypeName>,
}

/// The values of a row.
pub(super) struct Row {
    pub line: u64,
    pub parts: Vec<Part>,
    pub details: Details,
    pub error: Option<ObservableError>,
}

impl Table {
    pub fn new(given: Option<TypeName>, separator: Option<u8>) -> Self {
        Self { given, separator, ..Self::default() }
    }

    /// Says what the columns are, in order, separated by commas.
    pub fn map(&mut self, mapping: &str) -> Result<(), ColumnError> {
        let column = |(index, name): (usize, &str)| match name.trim() {
            "-" | "" => Ok(Column::Other),
            "value" => Ok(Column::Value),
            "type" => Ok(Column::Type),
            name => match Detail::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, detail)) => Ok(Column::Detail(*detail)),
                None => name.parse().map(Column::Given).map_err(|what| ColumnError { number: index + 1, what }),
            },
        };
        self.columns = Some(mapping.split(',').enumerate().map(column).collect::<Result<_, _>>()?);
        self.mapped = true;
        Ok(())
    }

    /// Notes a comment line in front of the rows.
    pub fn comment(&mut self, text: &str) {
        if !self.begun {
            let text = text.trim_start_matches(['#', ';', '/', '!']).trim();
            if !text.is_empty() && text.chars().any(|char| char.is_alphanumeric()) {
                self.comment = Some(text.to_owned());
            }
        }
    }

    /// The sign that separates cells; told by the first row.
    pub fn separator(&self) -> u8 {
        self.separator.unwrap_or(b',')
    }

    /// Looks at the text of the first row. Returns true if it only says how cells are separated (`sep=;`).
    pub fn begin(&mut self, text: &str) -> bool {
        if self.begun {
            return false;
        }
        if let Some(sign) = text.strip_prefix("sep=").filter(|sign| sign.len() == 1) {
            self.separator = sign.bytes().next();
            return true;
        }
        self.begun = true;
        if self.separator.is_none() {
            let counted = |sign: u8| (outside_quotes(text, sign), sign);
            let (count, sign) = [b',', b'\t', b';'].map(counted).into_iter().rev().max_by_key(|(count, _)| *count).unwrap_or((0, b','));
            self.separator = Some(if count > 0 { sign } else { b',' });
        }
        false
    }

    /// Takes a whole row. Gives rows that are understood by now.
    pub fn row(&mut self, line: u64, text: &str, notes: &mut Vec<ColumnNote>, out: &mut Vec<Row>) {
        let cells = cells_of(text, self.separator());
        if self.mapped && self.sample.is_empty() && line_is_header(&cells, self.given.as_ref()) {
            // `--columns` replaces the header.
            self.mapped = false;
            return;
        }
        match &self.columns {
            Some(_) if self.sample.is_empty() => out.extend(self.read(line, &cells)),
            _ => {
                self.sample.push((line, cells));
                if self.sample.len() > SAMPLE_ROWS {
                    self.settle(notes, out);
                }
            }
        }
    }

    /// Says the names of the columns, as those of a header.
    pub fn name(&mut self, names: &[String]) {
        let mut columns = columns_of(names);
        self.judge(&mut columns, &[], &mut Vec::new());
        self.columns = Some(columns);
    }

    /// Takes the cells of a row whose columns are named.
    pub fn cells(&mut self, line: u64, cells: Vec<String>, notes: &mut Vec<ColumnNote>, out: &mut Vec<Row>) {
        // The scale of a lone 0 or 1 is unknown.
        let lone = |(column, cell): (&Column, &String)| *column == Column::Detail(Detail::Confidence) && (cell == "0" || cell == "1");
        let columns = self.columns.as_deref().unwrap_or_default();
        let useful = columns.iter().any(|column| matches!(column, Column::Typed(_) | Column::Value));
        if columns.iter().zip(&cells).any(lone) {
            notes.push(AMBIGUOUS_CONFIDENCE);
        }
        let cells: Vec<String> =
            columns.iter().zip(cells).map(|(column, cell)| if lone((column, &cell)) { String::new() } else { cell }).collect();
        out.extend(self.read(line, &cells).filter(|_| useful));
    }

    /// Understands the columns by the rows so far, and gives these.
    pub fn settle(&mut self, notes: &mut Vec<ColumnNote>, out: &mut Vec<Row>) {
        let mut rows = std::mem::take(&mut self.sample);
        if self.columns.is_none() {
            let Some((_, first)) = rows.first() else { return };
            let header = if line_is_header(first, self.given.as_ref()) {
                let header = columns_of(first);
                rows.remove(0);
                Some(header)
            } else {
                let comment = self.comment.take().map(|text| cells_of(&text, self.separator()));
                comment.filter(|cells| cells.len() == first.len() && cells.len() > 1).map(|cells| columns_of(&cells))
            };
            let useful = |columns: &Vec<Column>| columns.iter().any(|column| matches!(column, Column::Typed(_) | Column::Value));
            // Without a known name, each cell is read by itself.
            let mut columns = header.filter(useful).unwrap_or_default();
            self.judge(&mut columns, &rows, notes);
            self.columns = Some(columns);
        }
        for (line, cells) in rows {
            out.extend(self.read(line, &cells));
        }
    }

    /// Takes back what names promised and cells do not hold.
    fn judge(&self, columns: &mut [Column], rows: &[(u64, Vec<String>)], notes: &mut Vec<ColumnNote>) {
        let cells =
            |at: usize| rows.iter().filter_map(move |(_, cells)| cells.get(at)).map(|cell| cell.trim()).filter(|cell| !cell.is_empty());
        let addresses = columns.iter().any(|column| matches!(column, Column::Typed(kind) if kind.starts_with("ip-")));
        let subjects = columns.iter().filter(|column| matches!(column, Column::Typed(_) | Column::Value)).count();
        let typed = columns.contains(&Column::Type);
        for (at, column) in columns.iter_mut().enumerate() {
            let describes = match column {
                // An address's AS and reverse name say where it is, not that they are bad.
                Column::Typed(kind) if kind == "as" => subjects > 1,
                Column::Typed(kind) if kind == "hostname" => addresses,
                Column::Typed(kind) if matches!(kind.as_str(), "link" | "filename" | "mac-address" | "regkey" | "user-agent") => {
                    subjects > 1
                }
                _ => false,
            };
            if describes {
                notes.push(DESCRIBING);
                *column = Column::Other;
            } else if *column == Column::Value
                && !typed
                && subjects > 1
                && !rows.is_empty()
                && !cells(at).any(|cell| self.value(cell).is_ok())
            {
                // A column whose name promises values and that holds words.
                *column = Column::Other;
            } else if *column == Column::Detail(Detail::Confidence)
                && cells(at).next().is_some()
                && cells(at).all(|cell| cell == "0" || cell == "1")
            {
                notes.push(AMBIGUOUS_CONFIDENCE);
                *column = Column::Other;
            }
        }
    }

    fn value(&self, cell: &str) -> Result<Vec<Part>, ObservableError> {
        list::read(cell, self.given.as_ref())
    }

    fn read(&self, line: u64, cells: &[String]) -> Option<Row> {
        let mut row = Row { line, parts: Vec::new(), details: Details::default(), error: None };
        match self.columns.as_deref() {
            Some(columns) if !columns.is_empty() => self.by_columns(columns, cells, &mut row),
            _ => self.by_cell(cells, &mut row),
        }
        (!row.parts.is_empty() || row.error.is_some()).then_some(row)
    }

    fn by_columns(&self, columns: &[Column], cells: &[String], row: &mut Row) {
        let named = columns.iter().zip(cells).find(|(column, _)| **column == Column::Type).map(|(_, cell)| cell.trim());
        for (column, cell) in columns.iter().zip(cells.iter().map(|cell| from_cell(cell.trim()))).filter(|(_, cell)| !cell.is_empty()) {
            let cell = cell.as_ref();
            let found = match (column, named) {
                (Column::Typed(kind), _) => each(cell, |cell| parts(kind, cell)),
                (Column::Given(kind), _) => each(cell, |cell| list::read_as(kind, cell)),
                (Column::Value, Some(name)) if self.given.is_none() && !name.is_empty() => self.of_type(name, cell),
                (Column::Value, _) => each(cell, |cell| self.value(cell)),
                (Column::Detail(detail), _) => {
                    // Nothing is guessed at that would widen, lengthen or enforce.
                    let strict = self.mapped
                        || matches!(detail, Detail::Tlp | Detail::Tags | Detail::ValidUntil | Detail::Confidence | Detail::ToIds);
                    if let (Err(why), true) = (row.details.take(*detail, cell), strict) {
                        row.error.get_or_insert(why);
                    }
                    continue;
                }
                (Column::Type | Column::Other, _) => continue,
            };
            match found {
                Ok(found) => row.parts.extend(found),
                Err(error) => drop(row.error.get_or_insert(error)),
            }
        }
        if row.details.gone {
            row.parts.clear();
            row.error = None;
        }
        if matches!(row.error, Some(ObservableError::Cell { .. })) {
            row.parts.clear();
        }
    }

    /// A value of the type that its row names.
    fn of_type(&self, name: &str, cell: &str) -> Result<Vec<Part>, ObservableError> {
        if let Ok(kind @ TypeName::Typed(_)) = name.parse::<TypeName>()
            && !matches!(name.to_ascii_lowercase().as_str(), "link" | "uri")
        {
            return each(cell, |cell| match type_of(name) {
                Some(misp) => parts(&misp, cell),
                None => list::read_as(&kind, cell),
            });
        }
        match type_of(name) {
            Some(kind) => parts(&kind, cell),
            // An unknown type: the value is recognised by its form, unless that is only a length.
            None => match self.value(cell) {
                Ok(found) if found.iter().all(|part| part.value.text().is_some() || part.value.network().is_some()) => Ok(found),
                _ => {
                    let names = ObservableType::ALL.iter().map(|one| one.name());
                    Err(ObservableError::Type(UnknownName::new("indicator type", name, names)))
                }
            },
        }
    }

    fn by_cell(&self, cells: &[String], row: &mut Row) {
        for cell in cells {
            if let Some(found) = list::certain(cell, self.given.as_ref()) {
                row.parts.extend(found);
            }
        }
        if row.parts.is_empty() {
            row.error = Some(ObservableError::Unrecognised { text: excerpt(&cells.join(",")) });
        }
    }
}

/// A cell's value, or all of its values where each part is one.
fn each(cell: &str, read: impl Fn(&str) -> Result<Vec<Part>, ObservableError>) -> Result<Vec<Part>, ObservableError> {
    let whole = read(cell);
    if whole.is_ok() || !cell.contains([' ', ',', ';', '|', '\n']) {
        return whole;
    }
    let parts: Vec<&str> = cell.split([' ', ',', ';', '|', '\n', '\r']).filter(|part| !part.is_empty()).collect();
    if parts.len() < 2 || parts.len() > CELL_VALUES_MAX {
        return whole;
    }
    let all: Result<Vec<Vec<Part>>, ObservableError> = parts.into_iter().map(read).collect();
    all.map(|all| all.into_iter().flatten().collect()).or(whole)
}

fn outside_quotes(text: &str, sign: u8) -> usize {
    let mut inside = false;
    text.bytes()
        .filter(|byte| {
            inside ^= *byte == b'"';
            !inside && *byte == sign
        })
        .count()
}

/// Returns true if a quoted cell continues behind this line of a row; `inside` if it began before the line.
pub(super) fn is_open(text: &str, separator: u8, mut inside: bool) -> bool {
    let (mut begins, mut bytes) = (!inside, text.bytes().peekable());
    while let Some(byte) = bytes.next() {
        match (inside, byte) {
            (true, b'"') if bytes.peek() == Some(&b'"') => drop(bytes.next()),
            (true, b'"') => inside = false,
            (false, b'"') if begins => inside = true,
            _ => (),
        }
        begins = !inside && (byte == separator || (begins && byte == b' '));
    }
    inside
}

/// The cells of a row (RFC 4180); spaces around a quoted cell do not count.
fn cells_of(text: &str, separator: u8) -> Vec<String> {
    let (mut cells, mut cell, mut quoted, mut inside) = (Vec::new(), String::new(), false, false);
    let mut chars = text.chars().peekable();
    let sign = char::from(separator);
    while let Some(char) = chars.next() {
        match char {
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if inside => inside = false,
            '"' if !quoted && cell.trim().is_empty() => {
                cell.clear();
                (quoted, inside) = (true, true);
            }
            char if char == sign && !inside => {
                cells.push(std::mem::take(&mut cell).trim().to_owned());
                quoted = false;
            }
            char => cell.push(char),
        }
    }
    cells.push(cell.trim().to_owned());
    cells
}

/// Returns true for a row of names: no cell is a value beyond doubt, and one at least is a name that we know.
fn line_is_header(cells: &[String], given: Option<&TypeName>) -> bool {
    let names = cells.iter().any(|cell| column_of(cell) != Column::Other || cell.eq_ignore_ascii_case("other"));
    let values = cells.iter().any(|cell| list::certain(cell, given).is_some());
    // A header whose names mean nothing is one all the same, if it looks like names.
    let plain =
        |cell: &String| !cell.is_empty() && cell.chars().all(|char| char.is_alphanumeric() || matches!(char, ' ' | '_' | '-' | '#'));
    !values && (names || (cells.len() > 1 && cells.iter().all(plain)))
}

/// Returns true if one of these names is of a column with values.
pub(super) fn has_values(names: &[String]) -> bool {
    names.iter().any(|name| matches!(column_of(name), Column::Typed(_) | Column::Value))
}

fn columns_of(cells: &[String]) -> Vec<Column> {
    let mut columns: Vec<Column> = cells.iter().map(|cell| column_of(cell)).collect();
    let name = |at: usize| cells.get(at).map(|cell| cell.trim().to_ascii_lowercase()).unwrap_or_default();
    let has = |wanted: &str| (0..cells.len()).any(|at| name(at) == wanted);
    // CrowdSec calls its decision `type`, and the type of the value `scope`.
    if has("scope") && has("duration") && has("value") {
        for (at, column) in columns.iter_mut().enumerate() {
            match name(at).as_str() {
                "scope" => *column = Column::Type,
                "type" => *column = Column::Other,
                _ => (),
            }
        }
    }
    columns
}

fn column_of(header: &str) -> Column {
    let name = header.trim_start_matches(['\u{feff}', '#']).trim().trim_matches('"').trim().to_ascii_lowercase();
    let plain = name.replace([' ', '-', '.'], "_");
    match plain.as_str() {
        "type" | "indicator_type" | "ioc_type" | "entity_type" | "observable_type" | "attribute_type" | "type_of_indicator" => Column::Type,
        "value" | "indicator" | "indicators" | "ioc" | "iocs" | "observable" | "observables" | "hash" | "hashes" | "c2" | "address"
        | "ioc_value" | "indicator_value" | "observable_value" => Column::Value,
        "confidence" | "confidence_level" | "confidence_score" => Column::Detail(Detail::Confidence),
        "valid_until" | "expires" | "expiration" | "expiry" | "expiration_date" | "valid_to" => Column::Detail(Detail::ValidUntil),
        "valid_from" => Column::Detail(Detail::ValidFrom),
        "to_ids" | "ids" => Column::Detail(Detail::ToIds),
        "tags" | "labels" => Column::Detail(Detail::Tags),
        "signature" | "malware" | "malware_printable" | "threat" | "threat_type" => Column::Detail(Detail::Tag),
        "id" | "uuid" | "external_id" | "record" | "ioc_id" => Column::Detail(Detail::Id),
        "tlp" => Column::Detail(Detail::Tlp),
        "scope" => Column::Detail(Detail::Scope),
        "standing" => Column::Detail(Detail::Standing),
        "role" => Column::Detail(Detail::Role),
        "use" => Column::Detail(Detail::Use),
        // Descriptions of a value, and scores on scales of their own.
        "reverse" | "rdns" | "ptr" | "reference" | "references" | "permalink" | "urlhaus_link" | "report" | "source" | "source_url"
        | "imphash" | "authentihash" | "ssdeep" | "tlsh" | "reporter" | "score" => Column::Other,
        _ => type_of(&name).filter(|kind| !matches!(kind.as_str(), "ip-src|port")).map_or(Column::Other, Column::Typed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_as_rfc_4180_and_spreadsheets_write_them() {
        assert_eq!(cells_of("a, \"b, c\" ,\"say \"\"x\"\"\"", b','), ["a", "b, c", "say \"x\""]);
        assert_eq!(cells_of("1;\"two\nlines\";3", b';'), ["1", "two\nlines", "3"]);
        let open = |text: &str| is_open(text, b',', false);
        assert!(open("a,\"b") && !open("a,\"b\"") && !open("5\" disk,x") && open("a, \"b") && !open("a;\"b"));
        assert!(is_open("more \"\"words\"\" of it", b',', true) && !is_open("the end\",x", b',', true));
    }
}
