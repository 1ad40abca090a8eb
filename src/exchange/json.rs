//! JSON that is neither STIX nor MISP: objects with an indicator each, in a list, by id, or a line each.
//!
//! ```text
//! objects whose fields are scalars -names of fields as columns-> Table -> values and what the object says of them
//! ```
//!
//! Read are Spamhaus' lists, OTX pulses, exports of abuse.ch, and our own `json` and `ecs`. A marking of the whole file (`TLP`) narrows
//! all of it. Objects without a field that is understood are named.

use super::{
    At, Element, Is, Notes, Said, Step, Take, Visit, Walker,
    table::{ColumnNote, Row, Table},
};
use crate::record::{Tlp, TypeName, excerpt};
use serde_json::Value;

/// How deep a file's objects may lie: `{"id": [{…}]}`, `{"indicators": [{…}]}`.
const DEPTH_MAX: usize = 3;

/// Reads objects, one after another.
#[derive(Clone, Debug, Default)]
pub(super) struct JsonReader {
    given: Option<TypeName>,
    /// Names of the fields of the last object, with its columns; most objects of a file are alike.
    names: Vec<String>,
    table: Table,
    /// The marking of the whole file.
    tlp: Option<Tlp>,
    /// The outermost object is one of those that are read: a line each.
    lines: bool,
    pub unreadable: Option<String>,
    pub notes: Notes,
}

impl JsonReader {
    /// For a file that begins with `start`.
    pub fn new(given: Option<TypeName>, start: &[u8]) -> Self {
        let mut shape = Shape::default();
        let _cut = Walker::default().feed(start, &mut shape);
        Self { table: Table::new(given.clone(), None), given, lines: shape.is_record(), ..Self::default() }
    }

    /// Which values are taken: objects that hold no list of objects, and a marking in front of all.
    pub fn begins(&self, path: &[Step], is: Is) -> Take {
        let wrapper = |step: &Step| matches!(step, Step::Index(_)) || step.key().is_some();
        match is {
            Is::Object if path.is_empty() && self.lines => Take::Capture,
            _ if path.is_empty() => Take::Descend,
            Is::Array if path.len() < DEPTH_MAX && path.iter().all(wrapper) => Take::Descend,
            Is::Object if matches!(path.last(), Some(Step::Index(_))) => Take::Capture,
            Is::Object if path.len() == 1 => Take::Descend,
            Is::Scalar if path.len() == 1 && path.last().and_then(Step::key).is_some_and(|key| key.eq_ignore_ascii_case("tlp")) => {
                Take::Capture
            }
            _ => Take::Skip,
        }
    }

    /// Ahead of the reading: what marks the whole file.
    pub fn survey(&mut self, element: &Element<'_>) {
        let [Step::Key(_)] = element.path else { return };
        let text = element.bytes.and_then(|bytes| serde_json::from_slice::<String>(bytes).ok()).unwrap_or_default();
        match Tlp::claimed(&text).unwrap_or_else(|| Tlp::parse(&text)) {
            Ok(tlp) => self.tlp = self.tlp.max(Some(tlp)),
            Err(_) => self.unreadable = Some(text),
        }
    }

    /// Reads one object.
    pub fn read(&mut self, element: &Element<'_>, at: &At, out: &mut Vec<Said>) -> Result<(), String> {
        if matches!(element.path, [Step::Key(_)]) {
            return Ok(());
        }
        if let Some(text) = &self.unreadable {
            return Err(format!("the file's marking `{}` cannot be read, so its readers are unknown", excerpt(text)));
        }
        let bytes = element.bytes.ok_or("it is longer than 16 MiB")?;
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let Value::Object(fields) = &value else { return Ok(()) };
        let cells = match fields.get("threat").and_then(|threat| threat.get("indicator")) {
            Some(Value::Object(indicator)) => of_ecs(indicator),
            _ => of_fields(fields),
        };
        if cells.iter().any(|(name, text)| name == "type" && text == "metadata") {
            return Ok(());
        }
        let (names, cells): (Vec<String>, Vec<String>) = cells.into_iter().unzip();
        if names != self.names {
            self.table = Table::new(self.given.clone(), None);
            self.table.name(&names);
            self.names = names;
        }
        let (mut notes, mut rows): (Vec<ColumnNote>, Vec<Row>) = (Vec::new(), Vec::new());
        self.table.cells(at.line, cells, &mut notes, &mut rows);
        notes.into_iter().for_each(|note| self.notes.changed(note, at));
        if rows.is_empty() {
            return Err(format!("no field of it is understood; it has {}", excerpt(&self.names.join(", "))));
        }
        for Row { parts, details, error, .. } in rows {
            // A value without a type here may be a name in a taxonomy.
            for part in parts.into_iter().filter(|part| part.value.other().is_none()) {
                let (mut indicator, change) = super::text::indicator_of(part);
                change.into_iter().for_each(|how| self.notes.changed(how, at));
                details.apply(&mut indicator);
                let (tlp, reach) = (details.tlp.max(self.tlp), super::Reach::AsMarked);
                out.push(Said::Indicator { indicator: Box::new(indicator), group: 0, tlp, reach });
            }
            if let Some(error) = error {
                return Err(error.to_string());
            }
        }
        Ok(())
    }
}

/// The fields of a file's first object.
#[derive(Default)]
struct Shape {
    names: Vec<String>,
    nested: bool,
}

impl Shape {
    /// Returns true for an object that has an indicator itself, and no list of others.
    fn is_record(&self) -> bool {
        let ecs = self.names.iter().any(|name| name == "threat") && self.names.iter().any(|name| name == "@timestamp");
        ecs || (!self.nested && super::table::has_values(&self.names))
    }
}

impl Visit for Shape {
    fn begins(&mut self, path: &[Step], is: Is) -> Take {
        if let [Step::Key(key)] = path {
            self.nested |= is == Is::Object || (is == Is::Array && !matches!(key.as_str(), "tags" | "labels"));
            self.names.push(key.clone());
        }
        if path.is_empty() && is == Is::Object { Take::Descend } else { Take::Skip }
    }

    fn element(&mut self, _: Element<'_>) {}
}

/// Names and texts of the fields that are scalars, or lists of them.
fn of_fields(fields: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    let text = |value: &Value| match value {
        Value::Array(items) => items.iter().map(scalar).collect::<Option<Vec<_>>>().map(|items| items.join(";")),
        value => scalar(value),
    };
    fields.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// The fields of the Elastic Common Schema, under the names that our tables have.
fn of_ecs(indicator: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
    let text = |name: &str| indicator.get(name).and_then(Value::as_str).map(str::to_owned);
    let marking = indicator.get("marking").and_then(|marking| marking.get("tlp")).and_then(Value::as_str);
    let pairs = [
        ("value", text("name")),
        ("confidence", text("confidence")),
        ("tlp", marking.map(str::to_owned)),
        // Our exports write the end of a record as `last_seen`.
        ("valid_until", text("last_seen")),
        ("id", text("reference")),
    ];
    pairs.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?))).collect()
}
