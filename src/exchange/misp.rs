//! MISP events: the core format, as files, feeds and API answers have it.
//!
//! ```text
//! event -first pass-> info, tags, organisation: a report   (they stand in front of the attributes, or behind them)
//!       -last pass-> attributes, alone and in objects: indicators, sightings, documents, withdrawals
//! ```
//!
//! An event is `{"Event": …}`, `{"response": [{"Event": …}]}`, a list of either, or the root itself; numbers and truths may
//! be texts. Attributes of one object share a tag `object:NAME:UUID`, by which they are found and exported together. What
//! has no indicator type is kept as `other` under its MISP type: searchable, never enforced.
//!
//! Source: MISP core format (draft-dulaunoy-misp-core-format), attribute types of MISP 2.5, MISP taxonomies.

use super::{
    At, Attached, Element, GROUPS_MAX, Group, Is, Notes, Reach, Said, Step, Take, Version, VersionKey, Versions, add_word, fit,
    is_technique, key_of_version, one_line, typed::parts, use_of_pap, versions::Counts,
};
use crate::record::{Indicator, Observable, Report, Sighted, Sighting, SightingKind, Source, TEXT_BYTES_MAX, Timestamp, Tlp, Use, excerpt};
use serde::Deserialize;

const SPLIT: &str = "a value of two parts becomes two indicators; what ties them is left out";
const NO_COMMENT: &str = "comments of single attributes are left out; those of events are kept";
const SAMPLE: &str = "a malware sample is not taken in, only its name and hashes";
const SHORTENED: &str = "an event's texts or lists are shortened to what a record holds";
const RULE: &str = "a rule is kept as a document";
const PROPOSAL: &str = "proposals that an event's owner has not accepted are left out";
const MANY_EVENTS: &str = "what stands beyond 50,000 events of one file is left out; import it in parts";
const BAD_TAGS: &str = "a tag that cannot be read may be a marking: what carries it is read as TLP:RED";
const NO_ID: &str = "a deleted attribute without a UUID is left out: nobody could say which record it was";
const TIMES: &str = "a time that cannot be is left out";

/// A truth or number that may be a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Bool(bool),
    Number(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Loose {
    fn truth(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            Self::Number(number) => Some(*number != 0.0),
            Self::Text(text) => match text.to_ascii_lowercase().as_str() {
                "1" | "true" => Some(true),
                "0" | "false" | "" => Some(false),
                _ => None,
            },
            Self::Other(_) => None,
        }
    }

    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) if *number >= 0.0 => Some(*number as u64),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct TagName {
    name: String,
}

#[derive(Deserialize)]
struct Organisation {
    name: Option<String>,
}

#[derive(Deserialize)]
struct EventReport {
    name: Option<String>,
    content: Option<String>,
    deleted: Option<Loose>,
}

#[derive(Deserialize)]
struct MispSighting {
    #[serde(rename = "type")]
    kind: Option<Loose>,
    date_sighting: Option<Loose>,
}

#[derive(Deserialize)]
struct Attribute {
    #[serde(rename = "type")]
    kind: String,
    value: Loose,
    to_ids: Option<Loose>,
    uuid: Option<String>,
    timestamp: Option<Loose>,
    distribution: Option<Loose>,
    deleted: Option<Loose>,
    comment: Option<String>,
    first_seen: Option<String>,
    data: Option<String>,
    #[serde(rename = "Tag", default)]
    tags: Vec<TagName>,
    #[serde(rename = "Sighting", default)]
    sightings: Vec<MispSighting>,
}

#[derive(Deserialize)]
struct Object {
    name: Option<String>,
    uuid: Option<String>,
    deleted: Option<Loose>,
    comment: Option<String>,
    /// Each read by itself, so that a bad one falls alone.
    #[serde(rename = "Attribute", default)]
    attributes: Vec<serde_json::Value>,
}

/// What tags say in words of ours.
#[derive(Default)]
struct Tagged {
    tlp: Option<Tlp>,
    /// A tag that claims to be a TLP marking and is none.
    unreadable: Option<String>,
    usage: Option<Use>,
    confidence: Option<u8>,
    actors: Vec<String>,
    malware: Vec<String>,
    techniques: Vec<String>,
    tags: Vec<String>,
}

/// An event while it is read.
struct Event {
    report: Report,
    tlp: Option<Tlp>,
    /// Its tag that claims to be a TLP marking and is none.
    unreadable: Option<String>,
    reach: Reach,
    /// Seconds since 1970 of its last change.
    timestamp: Option<u64>,
    /// Another version of it counts.
    is_older: bool,
}

impl Event {
    fn author(&self) -> Option<&str> {
        self.report.source.as_ref()?.organisation.as_deref()
    }

    fn version(&self) -> Option<(VersionKey, Version)> {
        let id = uuid::Uuid::parse_str(self.report.source.as_ref()?.external_id.as_deref()?).ok()?;
        let version = Version { ms: self.timestamp?.checked_mul(1_000)?, is_final: false };
        Some((key_of_version(self.author().unwrap_or_default(), id.as_u128()), version))
    }
}

/// Reads events in two passes: [`Self::survey`] every element, then [`Self::read`] every element.
pub struct MispReader {
    title: String,
    events: Vec<Event>,
    /// Where the event that is read begins, to tell it from the next.
    place: Option<Vec<Step>>,
    current: usize,
    pub versions: Versions,
    pub notes: Notes,
}

impl MispReader {
    /// For a file called `title`.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            events: Vec::new(),
            place: None,
            current: 0,
            versions: Versions::default(),
            notes: Notes::default(),
        }
    }

    /// What of a file is taken: members of events one by one, attributes and objects each by itself.
    pub fn begins(path: &[Step], is: Is) -> Take {
        let wrapper = |step: &Step| matches!(step, Step::Index(_)) || matches!(step.key(), Some("Event" | "response"));
        let Some((last, before)) = path.split_last() else { return Take::Descend };
        if wrapper(last) && before.iter().all(wrapper) {
            return Take::Descend;
        }
        match (last, before.split_last()) {
            (Step::Key(key), _) if matches!(key.as_str(), "Attribute" | "Object" | "EventReport") && is == Is::Array => Take::Descend,
            (Step::Key(key), _) if matches!(key.as_str(), "Galaxy" | "RelatedEvent" | "ShadowAttribute" | "Org") => {
                if key == "ShadowAttribute" && is != Is::Scalar { Take::Capture } else { Take::Skip }
            }
            (Step::Key(_), _) => Take::Capture,
            (Step::Index(_), Some((Step::Key(key), _))) if matches!(key.as_str(), "Attribute" | "Object" | "EventReport") => Take::Capture,
            _ => Take::Skip,
        }
    }

    /// The event that a path is in, and what of it the path names.
    fn arrive<'a>(&mut self, path: &'a [Step]) -> Option<(usize, &'a str)> {
        let end = path.iter().rposition(|step| !matches!(step, Step::Index(_)))?;
        let (place, name) = (path.get(..end)?, path.get(end)?.key()?);
        if self.place.as_deref() != Some(place) {
            self.current = if self.place.is_none() { 0 } else { self.current + 1 };
            self.place = Some(place.to_owned());
        }
        if self.current >= GROUPS_MAX {
            return None;
        }
        while self.events.len() <= self.current {
            self.events.push(Event {
                report: Report::titled(self.title.clone()),
                tlp: None,
                unreadable: None,
                reach: Reach::AsMarked,
                timestamp: None,
                is_older: false,
            });
        }
        Some((self.current, name))
    }

    /// First pass: what events say of themselves. What cannot be read of it is left out and answered.
    pub fn survey(&mut self, element: &Element<'_>) -> Result<(), String> {
        let Some((number, name)) = self.arrive(element.path) else { return Ok(()) };
        let Some(bytes) = element.bytes else { return Ok(()) };
        let Some(event) = self.events.get_mut(number) else { return Ok(()) };
        let said = |error: serde_json::Error| format!("`{name}`: {error}");
        let text = || serde_json::from_slice::<Option<String>>(bytes).map_err(said);
        match name {
            "info" => {
                if let Some(info) = text()? {
                    let (title, cut) = one_line(&info, TEXT_BYTES_MAX);
                    if cut {
                        self.notes.changed(SHORTENED, &At::default());
                    }
                    if !title.is_empty() {
                        event.report.title = title;
                    }
                }
            }
            "uuid" => {
                let id = text()?.map(|id| one_line(&id, 256).0).filter(|id| !id.is_empty());
                source_of(&mut event.report).external_id = id;
            }
            "Orgc" => {
                let organisation: Option<Organisation> = serde_json::from_slice(bytes).map_err(said)?;
                let name = organisation.and_then(|one| one.name).map(|name| one_line(&name, 256).0).filter(|name| !name.is_empty());
                source_of(&mut event.report).organisation = name;
            }
            "date" => event.report.valid_from = text()?.and_then(|date| super::moment_of(&date)),
            "Tag" => {
                // Which of them cannot be read is not known, so it may be the marking.
                let (tags, unread) = match serde_json::from_slice::<Vec<serde_json::Value>>(bytes) {
                    Ok(values) => {
                        let tags: Vec<TagName> = values.iter().filter_map(|value| TagName::deserialize(value).ok()).collect();
                        let unread = tags.len() < values.len();
                        (tags, unread)
                    }
                    Err(_) => (Vec::new(), bytes != b"null"),
                };
                let tagged = read_tags(&tags);
                if unread {
                    self.notes.changed(BAD_TAGS, &At { line: element.line, path: String::new() });
                    event.tlp = Some(Tlp::Red);
                }
                event.tlp = event.tlp.max(tagged.tlp);
                event.unreadable = event.unreadable.take().or(tagged.unreadable);
                let report = &mut event.report;
                (report.usage, report.confidence) = (tagged.usage.or(report.usage), tagged.confidence.or(report.confidence));
                (report.actors, report.malware, report.techniques) = (tagged.actors, tagged.malware, tagged.techniques);
                tagged.tags.iter().for_each(|tag| add_word(&mut report.tags, tag));
            }
            "threat_level_id" => {
                let level: Loose = serde_json::from_slice(bytes).map_err(said)?;
                let word = match level.number() {
                    Some(1) => "high-risk",
                    Some(2) => "medium-risk",
                    Some(3) => "low-risk",
                    _ => return Ok(()),
                };
                add_word(&mut event.report.tags, &format!("misp:threat-level=\"{word}\""));
            }
            "distribution" => {
                let distribution: Loose = serde_json::from_slice(bytes).map_err(said)?;
                event.reach = reach_of(distribution.number());
            }
            "timestamp" => event.timestamp = serde_json::from_slice::<Loose>(bytes).map_err(said)?.number(),
            "ShadowAttribute" if bytes.len() > 2 => self.notes.changed(PROPOSAL, &At { line: element.line, path: String::new() }),
            _ => (),
        }
        Ok(())
    }

    /// An event's report in Markdown.
    fn page(&mut self, element: &Element<'_>, group: usize, at: &At, out: &mut Vec<Said>, bad: &mut Vec<(At, String)>) {
        let parsed = element.bytes.ok_or("it is longer than 16 MiB".to_owned());
        let page: EventReport = match parsed.and_then(|bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string())) {
            Ok(page) => page,
            Err(why) => {
                bad.push((at.clone(), why));
                return;
            }
        };
        let deleted = page.deleted.and_then(|truth| truth.truth()).unwrap_or(false);
        if let (false, Some(content)) = (deleted, page.content.filter(|content| !content.is_empty())) {
            let (name, _) = one_line(page.name.as_deref().unwrap_or("report"), 256);
            let title = if name.is_empty() { "report".to_owned() } else { name };
            let (media_type, content) = ("text/markdown".to_owned(), content.into_bytes());
            out.push(Said::Document(Attached { title, media_type, content, tlp: None, tags: Vec::new(), group: Some(group) }));
        }
    }

    /// Ends the first pass.
    pub fn surveyed(&mut self) {
        (self.place, self.current) = (None, 0);
        let versions: Vec<Option<(VersionKey, Version)>> = self.events.iter().map(Event::version).collect();
        versions.iter().flatten().for_each(|(key, version)| self.versions.note(*key, *version));
    }

    /// Tells events apart that count and that do not, once it is known what was taken before.
    pub fn begin(&mut self) {
        let versions: Vec<Option<(VersionKey, Version)>> = self.events.iter().map(Event::version).collect();
        for (event, version) in self.events.iter_mut().zip(versions) {
            event.is_older = version.is_some_and(|(key, version)| self.versions.judge(key, version) != Counts::Yes);
        }
        for event in &mut self.events {
            if event.report.source.as_ref().is_some_and(|source| *source == EMPTY_SOURCE) {
                event.report.source = None;
            }
            if fit(&mut event.report) {
                self.notes.changed(SHORTENED, &At::default());
            }
        }
    }

    /// The report with a number.
    pub fn group(&self, number: usize) -> Group {
        let event = self.events.get(number);
        Group {
            report: event.map_or_else(|| Report::titled(self.title.clone()), |event| event.report.clone()),
            tlp: event.and_then(|event| event.tlp),
            revoked: event.is_some_and(|event| event.is_older || event.unreadable.is_some()),
            reach: event.map_or(Reach::AsMarked, |event| event.reach),
        }
    }

    /// How many events there are.
    pub fn reports(&self) -> usize {
        self.events.len()
    }

    /// Last pass: what an attribute or object says. Answers for each part that says nothing why not.
    pub fn read(&mut self, element: &Element<'_>, at: &mut At, out: &mut Vec<Said>, bad: &mut Vec<(At, String)>) {
        let Some((group, name)) = self.arrive(element.path) else {
            if self.current >= GROUPS_MAX {
                self.notes.changed(MANY_EVENTS, at);
            }
            return;
        };
        if self.events.get(group).is_some_and(|event| event.is_older) {
            if matches!(name, "Attribute" | "Object" | "EventReport") {
                self.notes.changed(super::OLDER, at);
                let read = |bytes: &[u8]| serde_json::from_slice::<Attribute>(bytes).ok().and_then(|one| one.uuid);
                out.extend(element.bytes.filter(|_| name == "Attribute").and_then(read).map(|external_id| Said::Older { external_id }));
            }
            return;
        }
        if name == "EventReport" {
            self.page(element, group, at, out, bad);
            return;
        }
        if !matches!(name, "Attribute" | "Object") {
            return;
        }
        let Some(bytes) = element.bytes else {
            bad.push((at.clone(), "it is longer than 16 MiB".to_owned()));
            return;
        };
        if name == "Attribute" {
            match serde_json::from_slice::<Attribute>(bytes) {
                Ok(attribute) => self.attribute(attribute, group, None, at, out, bad),
                Err(error) => bad.push((at.clone(), error.to_string())),
            }
            return;
        }
        let object = match serde_json::from_slice::<Object>(bytes) {
            Ok(object) => object,
            Err(error) => {
                bad.push((at.clone(), error.to_string()));
                return;
            }
        };
        let deleted = object.deleted.as_ref().and_then(Loose::truth).unwrap_or(false);
        let (kind, uuid) = (object.name.as_deref().unwrap_or("object"), object.uuid.as_deref().unwrap_or_default());
        let tag = one_line(&format!("object:{}:{}", kind.replace(':', "-"), uuid.split('-').next().unwrap_or_default()), 256).0;
        if object.comment.is_some_and(|comment| !comment.is_empty()) {
            self.notes.changed(NO_COMMENT, at);
        }
        let outside = at.path.clone();
        for (index, attribute) in object.attributes.into_iter().enumerate() {
            let mut inside = At { line: at.line, path: format!("{outside}.Attribute[{index}]") };
            match Attribute::deserialize(attribute) {
                Ok(attribute) if deleted => self.withdrawn(&attribute, &inside, out),
                Ok(attribute) => self.attribute(attribute, group, Some(&tag), &mut inside, out, bad),
                Err(error) => bad.push((inside, error.to_string())),
            }
        }
    }

    /// Returns true for the version of an attribute that counts; MISP's own are by the second.
    fn counts(&mut self, attribute: &Attribute, group: usize, at: &At, bad: &mut Vec<(At, String)>) -> bool {
        let id = attribute.uuid.as_deref().and_then(|uuid| uuid::Uuid::parse_str(uuid).ok());
        let seconds = attribute.timestamp.as_ref().and_then(Loose::number);
        let (Some(id), Some(ms)) = (id, seconds.and_then(|seconds| seconds.checked_mul(1_000))) else { return true };
        let author = self.events.get(group).and_then(Event::author).unwrap_or_default();
        match self.versions.judge(key_of_version(author, id.as_u128()), Version { ms, is_final: false }) {
            Counts::Yes => return true,
            Counts::Older | Counts::Ended => self.notes.changed(super::OLDER, at),
            Counts::Future => bad.push((at.clone(), format!("its version is dated {}, in the future", ms / 1_000))),
        }
        false
    }

    fn withdrawn(&mut self, attribute: &Attribute, at: &At, out: &mut Vec<Said>) {
        match &attribute.uuid {
            Some(uuid) => out.push(Said::Withdrawn { external_id: uuid.clone() }),
            None => self.notes.changed(NO_ID, at),
        }
    }

    fn attribute(
        &mut self,
        attribute: Attribute,
        group: usize,
        tag: Option<&str>,
        at: &mut At,
        out: &mut Vec<Said>,
        bad: &mut Vec<(At, String)>,
    ) {
        if let Some(uuid) = &attribute.uuid {
            at.path = format!("{} {}", at.path, excerpt(uuid));
        }
        if !self.counts(&attribute, group, at, bad) {
            out.extend(attribute.uuid.map(|external_id| Said::Older { external_id }));
            return;
        }
        let event = self.events.get(group);
        let reach = match attribute.distribution.as_ref().map(|distribution| distribution.number()) {
            None | Some(Some(5)) => event.map_or(Reach::AsMarked, |event| event.reach),
            Some(distribution) => reach_of(distribution).max(event.map_or(Reach::AsMarked, |event| event.reach)),
        };
        let unreadable = event.and_then(|event| event.unreadable.clone()).or_else(|| read_tags(&attribute.tags).unreadable);
        if attribute.deleted.as_ref().and_then(Loose::truth) == Some(true) {
            self.withdrawn(&attribute, at, out);
            return;
        }
        if let Some(tag) = unreadable {
            let why = "claims to be a TLP marking and is none of the five, so its readers are unknown; ask its author";
            bad.push((at.clone(), format!("its tag `{}` {why}", excerpt(&tag))));
            return;
        }
        let text = match &attribute.value {
            Loose::Text(text) => text.clone(),
            Loose::Number(number) => number.to_string(),
            Loose::Bool(truth) => truth.to_string(),
            Loose::Other(_) => {
                bad.push((at.clone(), "its value is neither text nor number".to_owned()));
                return;
            }
        };
        let mut tagged = read_tags(&attribute.tags);
        let mut tags = std::mem::take(&mut tagged.tags);
        let named = [("actor", &tagged.actors), ("malware", &tagged.malware)];
        named.into_iter().for_each(|(what, names)| names.iter().for_each(|name| add_word(&mut tags, &format!("{what}:{name}"))));
        tagged.techniques.iter().for_each(|technique| add_word(&mut tags, technique));
        tag.into_iter().for_each(|tag| add_word(&mut tags, tag));
        let kind = attribute.kind.to_ascii_lowercase();
        if let Some(media_type) = rule_type(&kind) {
            self.notes.changed(RULE, at);
            let (title, _) = one_line(&text, 100);
            let (content, tlp) = (text.into_bytes(), tagged.tlp);
            out.push(Said::Document(Attached { title, media_type: media_type.to_owned(), content, tlp, tags, group: Some(group) }));
            return;
        }
        match (kind.as_str(), attribute.data.as_deref()) {
            ("malware-sample", Some(_)) => self.notes.changed(SAMPLE, at),
            (_, Some(data)) if !data.is_empty() => match super::base64(&data.split_ascii_whitespace().collect::<String>()) {
                Some(content) if !content.is_empty() => {
                    let (title, _) = one_line(&text, 256);
                    let title = if title.is_empty() { "attachment".to_owned() } else { title };
                    let (media_type, tlp) = ("application/octet-stream".to_owned(), tagged.tlp);
                    out.push(Said::Document(Attached { title, media_type, content, tlp, tags: tags.clone(), group: Some(group) }));
                }
                _ => bad.push((at.clone(), "its attachment is not base64".to_owned())),
            },
            _ => (),
        }
        if attribute.comment.is_some_and(|comment| !comment.is_empty()) {
            self.notes.changed(NO_COMMENT, at);
        }
        let parts = match parts(&kind, &text) {
            Ok(parts) => parts,
            Err(error) => {
                bad.push((at.clone(), error.to_string()));
                return;
            }
        };
        parts.iter().filter_map(|part| part.change).for_each(|how| self.notes.changed(how, at));
        if parts.len() > 1 {
            self.notes.changed(SPLIT, at);
        }
        let acts = attribute.to_ids.as_ref().and_then(Loose::truth).unwrap_or(false);
        let from = attribute.first_seen.as_ref().and_then(|text| {
            let time = super::moment_of(text);
            if time.is_none() {
                self.notes.changed(TIMES, at);
            }
            time
        });
        let external_id = attribute.uuid.as_deref().map(|uuid| one_line(uuid, 256).0).filter(|uuid| !uuid.is_empty());
        for part in parts {
            for one in &attribute.sightings {
                if let Some(sighting) = sighting_of(one, &part.value) {
                    out.push(Said::Sighting { sighting: Box::new(sighting), tlp: tagged.tlp, group });
                }
            }
            let mut indicator = Indicator::of(part.value, None);
            indicator.scope = part.scope;
            // What is not for detection is kept to be found, never acted on.
            indicator.usage = if acts && !part.aside { tagged.usage } else { Some(Use::Context) };
            indicator.role = part.role;
            indicator.confidence = tagged.confidence;
            indicator.valid_from = from;
            indicator.tags = tags.clone();
            indicator.source = external_id.clone().map(|id| Source { organisation: None, url: None, external_id: Some(id) });
            out.push(Said::Indicator { indicator: Box::new(indicator), group, tlp: tagged.tlp, reach });
        }
    }
}

const EMPTY_SOURCE: Source = Source { organisation: None, url: None, external_id: None };

fn source_of(report: &mut Report) -> &mut Source {
    report.source.get_or_insert(EMPTY_SOURCE)
}

/// A rule's media type, for attribute types whose value is one.
fn rule_type(kind: &str) -> Option<&'static str> {
    match kind {
        "yara" => Some("application/yara"),
        "sigma" => Some("application/sigma"),
        "snort" => Some("application/snort"),
        "suricata" => Some("application/suricata"),
        "bro" | "zeek" => Some("application/zeek"),
        "stix2-pattern" => Some("application/stix"),
        _ => None,
    }
}

fn sighting_of(one: &MispSighting, value: &Observable) -> Option<Sighting> {
    let sighting = match one.kind.as_ref().and_then(Loose::number).unwrap_or(0) {
        0 => SightingKind::Seen,
        1 => SightingKind::FalsePositive,
        2 => SightingKind::Expired,
        _ => return None,
    };
    let seen = one.date_sighting.as_ref().and_then(Loose::number).and_then(|seconds| Timestamp::from_ms(seconds.checked_mul(1_000)?));
    Some(Sighting { of: Sighted::Value(value.clone()), sighting, count: None, from: seen, until: seen, country: None, description: None })
}

/// The reach of a MISP distribution: 3 is for all communities; 2 for connected ones, which here is an audience that is named; 0,
/// 1, 4 (a sharing group of its own instance) and what is not known stay.
fn reach_of(distribution: Option<u64>) -> Reach {
    match distribution {
        Some(3) => Reach::AsMarked,
        Some(2) => Reach::Some,
        _ => Reach::Here,
    }
}

/// `namespace:predicate="value"` in its parts; plain tags have no value.
fn machine_tag(tag: &str) -> (&str, &str) {
    match tag.split_once('=') {
        Some((name, value)) => (name, value.trim_matches('"')),
        None => (tag, ""),
    }
}

fn read_tags(tags: &[TagName]) -> Tagged {
    let mut found = Tagged::default();
    for TagName { name } in tags {
        let lower = name.to_ascii_lowercase();
        let (predicate, value) = machine_tag(name);
        match Tlp::claimed(name) {
            Some(Ok(tlp)) => {
                found.tlp = found.tlp.max(Some(tlp));
                continue;
            }
            // Such as `tlp:ex:chr` and `tlp:unclear`.
            Some(Err(_)) => {
                found.unreadable.get_or_insert_with(|| name.clone());
                continue;
            }
            None => (),
        }
        if let Some(word) = lower.strip_prefix("pap:") {
            let usage = use_of_pap(word);
            found.usage = Some(found.usage.map_or(usage, |known| known.min(usage)));
            continue;
        }
        if let Some(confidence) = confidence_of(&predicate.to_ascii_lowercase(), value) {
            // Of several the least: a doubt is not outvoted.
            found.confidence = Some(found.confidence.map_or(confidence, |known| known.min(confidence)));
            // As our own feeds say it, it is no tag.
            if predicate == "huecry:confidence" {
                continue;
            }
        }
        match predicate.to_ascii_lowercase().strip_prefix("misp-galaxy:") {
            Some("threat-actor" | "mitre-intrusion-set" | "mitre-enterprise-attack-intrusion-set" | "microsoft-activity-group") => {
                add_word(&mut found.actors, value);
            }
            Some(
                "malpedia"
                | "mitre-malware"
                | "mitre-enterprise-attack-malware"
                | "ransomware"
                | "rat"
                | "banker"
                | "botnet"
                | "stealer"
                | "backdoor"
                | "android"
                | "cryptominers"
                | "tool",
            ) => add_word(&mut found.malware, value),
            Some("mitre-attack-pattern" | "mitre-enterprise-attack-attack-pattern") => {
                match value.rsplit_once(" - ").map(|(_, id)| id).filter(|id| is_technique(id)) {
                    Some(id) => add_word(&mut found.techniques, id),
                    None => add_word(&mut found.tags, name),
                }
            }
            _ => add_word(&mut found.tags, name),
        }
    }
    found
}

/// How sure a tag says that one may be, 0 to 100: the numbers that MISP's own taxonomies give to their words.
fn confidence_of(predicate: &str, value: &str) -> Option<u8> {
    match (predicate, value.to_ascii_lowercase().as_str()) {
        ("misp:confidence-level", "completely-confident") => Some(100),
        ("misp:confidence-level", "usually-confident") => Some(75),
        ("misp:confidence-level", "fairly-confident") => Some(50),
        ("misp:confidence-level", "rarely-confident") => Some(25),
        ("misp:confidence-level", "unconfident") => Some(0),
        ("estimative-language:confidence-in-analytic-judgment", "low") => Some(0),
        ("estimative-language:confidence-in-analytic-judgment", "moderate") => Some(55),
        ("estimative-language:confidence-in-analytic-judgment", "high") => Some(95),
        ("estimative-language:likelihood-probability", "almost-no-chance") => Some(0),
        ("estimative-language:likelihood-probability", "very-unlikely") => Some(5),
        ("estimative-language:likelihood-probability", "unlikely") => Some(20),
        ("estimative-language:likelihood-probability", "roughly-even-chance") => Some(45),
        ("estimative-language:likelihood-probability", "likely") => Some(55),
        ("estimative-language:likelihood-probability", "very-likely") => Some(80),
        ("estimative-language:likelihood-probability", "almost-certain") => Some(95),
        ("admiralty-scale:information-credibility", "1") => Some(100),
        ("admiralty-scale:information-credibility", "2") => Some(75),
        ("admiralty-scale:information-credibility", "3") => Some(50),
        ("admiralty-scale:information-credibility", "4") => Some(25),
        ("admiralty-scale:information-credibility", "5") => Some(0),
        ("osint:certainty" | "huecry:confidence", percent) => percent.parse().ok().filter(|value| *value <= 100),
        _ => None,
    }
}
