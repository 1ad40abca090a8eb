//! Carried: what a STIX bundle says of each indicator beside its author's signed word, if it carries that along.
//!
//! ```text
//! bundle -Walker-> indicators that carry a head and a proof -> Carried, to be held against the signature by whoever has the cards
//! ```

use super::{EXTENSION, Element, Is, Step, Take, Visit, WalkError, Walker, id_of, indicator_type_of, marking_of, pattern_of, record_id};
use crate::{
    envelope::Head,
    intake::Defaults,
    policy::CONFIDENCE_UNSAID,
    record::{Indicator, Scope, Timestamp},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a bundle says of one indicator, and what it carries as proof.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Line on which the object begins.
    pub line: u64,
    pub id: String,
    /// The name under which the bundle quotes the record.
    pub name: String,
    object: Value,
    /// The signed head, and the record with the proof of its place; `None` if they do not read.
    pub proof: Option<(Vec<u8>, Vec<u8>)>,
}

impl Carried {
    /// Holds the object against the record that its author signed under `head`, and against what its report lends it, where that is known;
    /// where it is not, what only the report says is not looked at. The sentence says what differs.
    ///
    /// A node that exported it may have lowered confidence and end by its own policies, and may have revoked it: never the other way.
    pub fn says(&self, indicator: &Indicator, head: &Head, report: Option<&Defaults>) -> Result<(), String> {
        let differs = |what: &str, signed: &str, said: &str| {
            Err(format!(
                "its author signed {what} {}, and the bundle says {}",
                crate::record::excerpt(signed),
                crate::record::excerpt(said)
            ))
        };
        let (marking, _) = marking_of(head.tlp);
        let scope = if indicator.scope == Some(Scope::Subdomains) { "subdomains" } else { "" };
        let valid_from = indicator.valid_from.unwrap_or(head.time).precise();
        let said_scope = self.extension("scope");
        let fixed = [
            ("the pattern", pattern_of(&indicator.value), self.text("pattern")),
            ("the type of pattern", "stix".to_owned(), self.text("pattern_type")),
            ("the name", indicator.value.defanged(), self.text("name")),
            ("the id", self.name.parse().map(|name| record_id("indicator", &name)).unwrap_or_default(), self.text("id")),
            ("as", id_of("identity", head.member.as_str()), self.text("created_by_ref")),
            ("the scope", scope.to_owned(), said_scope),
            ("the beginning", valid_from, self.text("valid_from")),
            ("the time", head.time.precise(), self.text("created")),
        ];
        if let Some((what, signed, said)) = fixed.iter().find(|(_, signed, said)| signed != said) {
            return differs(what, signed, said);
        }
        if self.texts("object_marking_refs") != [marking] {
            return Err(format!("its author marked it {}, and the bundle marks it otherwise", head.tlp.label()));
        }
        let usage = indicator.usage.map(Some).or_else(|| Some(report?.usage));
        if let Some(signed) = usage.map(|usage| usage.map_or("context", |usage| usage.name())) {
            let said = self.extension("use");
            if signed != said {
                return differs("the use", signed, &said);
            }
        }
        let role = indicator.role.map(Some).or_else(|| Some(report?.role));
        if let Some(signed) = role.map(|role| indicator_type_of(role.map_or("unknown", |role| role.name())))
            && self.texts("indicator_types") != [signed]
        {
            return differs("the type", signed, &self.texts("indicator_types").join(", "));
        }
        let confidence = indicator.confidence.or_else(|| Some(report?.confidence.unwrap_or(CONFIDENCE_UNSAID)));
        let said = self.object.get("confidence").and_then(Value::as_u64);
        if let Some(signed) = confidence.filter(|signed| said.is_none_or(|said| said > u64::from(*signed))) {
            return differs("the confidence", &signed.to_string(), &said.map_or_else(String::new, |said| said.to_string()));
        }
        let end = indicator.valid_until.or_else(|| report?.valid_until);
        let said = Timestamp::parse(&self.text("valid_until"));
        if let Some(signed) = end.filter(|signed| said.is_none_or(|said| said > *signed)) {
            return differs("the end", &signed.precise(), &self.text("valid_until"));
        }
        let said = self.texts("labels");
        let lacks = indicator.tags.iter().find(|tag| !said.contains(tag));
        let lent = report.map(|report| report.tags.as_slice());
        let adds = said.iter().find(|tag| !indicator.tags.contains(tag) && lent.is_some_and(|lent| !lent.contains(tag)));
        match (lacks, adds) {
            (Some(tag), _) => differs("the label", tag, "nothing of it"),
            (None, Some(tag)) => differs("other labels", "", tag),
            (None, None) => Ok(()),
        }
    }

    fn text(&self, name: &str) -> String {
        self.object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let list = self.object.get(name).and_then(Value::as_array);
        list.into_iter().flatten().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    }

    fn extension(&self, name: &str) -> String {
        let ours = self.object.get("extensions").and_then(|all| all.get(EXTENSION));
        ours.and_then(|ours| ours.get(name)).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// An object of which nobody can say what it says: readers would differ about it.
#[derive(Clone, Debug)]
pub struct Unclear {
    pub line: u64,
    pub why: String,
}

/// Reads a bundle for what it carries.
#[derive(Default)]
pub struct CarriedReader {
    walker: Walker,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    carried: Vec<Result<Carried, Unclear>>,
    /// Indicators, with a proof or without.
    indicators: u64,
}

impl Seen {
    fn unclear(&mut self, line: u64, why: String) {
        self.carried.push(Err(Unclear { line, why }));
    }
}

impl CarriedReader {
    /// Takes the next piece; answers what has been read of it.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Result<Carried, Unclear>>, WalkError> {
        self.walker.feed(piece, &mut self.seen)?;
        Ok(std::mem::take(&mut self.seen.carried))
    }

    /// Says that the bundle is over; answers the rest, and how many indicators it has in all.
    pub fn finish(mut self) -> Result<(Vec<Result<Carried, Unclear>>, u64), WalkError> {
        self.walker.finish(&mut self.seen)?;
        Ok((self.seen.carried, self.seen.indicators))
    }
}

impl Visit for Seen {
    fn begins(&mut self, path: &[Step], is: Is) -> Take {
        match (path, is) {
            ([], Is::Object) => Take::Descend,
            // What stands behind the bundle, some readers take for it.
            ([Step::Index(_)], _) => Take::Capture,
            ([Step::Key(key)], Is::Array) if key == "objects" => Take::Descend,
            ([_, Step::Index(_)], Is::Object) => Take::Capture,
            _ => Take::Skip,
        }
    }

    fn element(&mut self, element: Element<'_>) {
        if let [Step::Index(_)] = element.path {
            return self.unclear(element.line, "it stands behind the bundle, where some would read it".to_owned());
        }
        let Some(bytes) = element.bytes else { return self.unclear(element.line, "it is longer than is read".to_owned()) };
        if let Err(error) = serde_json::from_slice::<Unique>(bytes) {
            return self.unclear(element.line, format!("it does not read: {error}"));
        }
        let Ok(object) = serde_json::from_slice::<Value>(bytes) else { return };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let field = |name: &str| object.get(name).map(text).unwrap_or_default();
        if field("type") != "indicator" {
            return;
        }
        self.indicators += 1;
        let ours = object.get("extensions").and_then(|all| all.get(EXTENSION));
        let Some((head, proof)) = ours.and_then(|ours| ours.get("head").zip(ours.get("proof"))) else { return };
        let quotes = object.get("external_references").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let quoted = quotes.iter().find(|one| one.get("source_name").is_some_and(|name| name == "huecry"));
        self.carried.push(Ok(Carried {
            line: element.line,
            id: field("id"),
            name: quoted.and_then(|one| one.get("external_id")).map(text).unwrap_or_default(),
            proof: STANDARD.decode(text(head)).ok().zip(STANDARD.decode(text(proof)).ok()),
            object,
        }));
    }
}

/// JSON in which no key stands twice in one object: of two, readers take different ones (RFC 8259 section 4).
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((key, Unique)) = map.next_entry::<String, Unique>()? {
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format!("the key `{}` stands twice in it", crate::record::excerpt(&twice))));
            }
        }
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Unique, A::Error> {
        while let Some(Unique) = list.next_element()? {}
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }
}
