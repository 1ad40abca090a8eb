//! Carried: what a STIX bundle says of each indicator beside its author's signed word, if it carries that along.
//!
//! ```text
//! bundle -Walker-> indicators that carry a head and a proof -> Carried, to be held against the signature by whoever has the cards
//! ```

use super::{EXTENSION, Element, Is, Step, Take, Visit, WalkError, Walker, marking_of, pattern_of};
use crate::record::{Indicator, Tlp};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// What a bundle says of one indicator, and what it carries as proof.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Line on which the object begins.
    pub line: u64,
    pub id: String,
    /// The name under which the bundle quotes the record.
    pub name: String,
    pattern: String,
    markings: Vec<String>,
    /// The signed head, and the record with the proof of its place; `None` if they do not read.
    pub proof: Option<(Vec<u8>, Vec<u8>)>,
}

impl Carried {
    /// Holds the object against the record that its author signed. The sentence says what differs.
    pub fn says(&self, indicator: &Indicator, tlp: Tlp) -> Result<(), String> {
        let signed = pattern_of(&indicator.value);
        if self.pattern != signed {
            let said = crate::record::excerpt(&self.pattern);
            return Err(format!("its author signed {signed}, and the bundle says {said}"));
        }
        let (marking, _) = marking_of(tlp);
        if self.markings != [marking] {
            return Err(format!("its author marked it {}, and the bundle marks it otherwise", tlp.label()));
        }
        Ok(())
    }
}

/// Reads a bundle for what it carries.
#[derive(Default)]
pub struct CarriedReader {
    walker: Walker,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    carried: Vec<Carried>,
    /// Indicators, with a proof or without.
    indicators: u64,
}

impl CarriedReader {
    /// Takes the next piece; answers what has been read of it.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Carried>, WalkError> {
        self.walker.feed(piece, &mut self.seen)?;
        Ok(std::mem::take(&mut self.seen.carried))
    }

    /// Says that the bundle is over; answers the rest, and how many indicators it has in all.
    pub fn finish(mut self) -> Result<(Vec<Carried>, u64), WalkError> {
        self.walker.finish(&mut self.seen)?;
        Ok((self.seen.carried, self.seen.indicators))
    }
}

impl Visit for Seen {
    fn begins(&mut self, path: &[Step], is: Is) -> Take {
        match (path, is) {
            ([], Is::Object) => Take::Descend,
            ([Step::Key(key)], Is::Array) if key == "objects" => Take::Descend,
            ([_, Step::Index(_)], Is::Object) => Take::Capture,
            _ => Take::Skip,
        }
    }

    fn element(&mut self, element: Element<'_>) {
        let Some(object) = element.bytes.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok()) else { return };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let field = |name: &str| object.get(name).map(text).unwrap_or_default();
        if field("type") != "indicator" {
            return;
        }
        self.indicators += 1;
        let ours = object.get("extensions").and_then(|all| all.get(EXTENSION));
        let Some((head, proof)) = ours.and_then(|ours| ours.get("head").zip(ours.get("proof"))) else { return };
        let list = |name: &str| object.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let quoted = list("external_references").iter().find(|one| one.get("source_name").is_some_and(|name| name == "huecry"));
        self.carried.push(Carried {
            line: element.line,
            id: field("id"),
            name: quoted.and_then(|one| one.get("external_id")).map(text).unwrap_or_default(),
            pattern: field("pattern"),
            markings: list("object_marking_refs").iter().map(text).collect(),
            proof: STANDARD.decode(text(head)).ok().zip(STANDARD.decode(text(proof)).ok()),
        });
    }
}
