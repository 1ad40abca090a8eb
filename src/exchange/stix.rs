//! STIX bundles: what 2.1 and 2.0 say, as reports, indicators, sightings and documents.
//!
//! ```text
//! bundle -first pass-> names, markings, relations, memberships (all of it small)
//!        -middle pass-> reports, if there are any
//!        -last pass-> indicators in the file's order, each with its report, marking and source
//! ```
//!
//! Objects of a bundle stand in any order, so the file is read more than once and only what links objects is kept. An indicator
//! belongs to the first report that names it; without one it is gathered with those that point at the same malware and
//! actors. A marking that the file neither carries nor anybody knows is read as TLP:RED: a gap never widens.
//!
//! Sources: STIX 2.1 sections 3, 4, 7, 9; STIX 2.0 parts 2 to 5; markings of TLP 2.0: the OASIS common object repository.

use super::{
    At, Attached, Element, End, GROUPS_MAX, Group, Inexpressible, Is, LINKS_MAX, Notes, Pattern, Reach, Said, Step, TERMS_MAX, Take, Term,
    TermError, Version, VersionKey, Versions, add_word, described, end_of, key_of_version, lines_of_text, moment_of, one_line, terms,
    value, versions::Counts,
};
use crate::record::{
    Indicator, Observable, ObservableType, Report, Role, Scope, Sighted, Sighting, SightingKind, Source, TEXT_BYTES_MAX, Timestamp, Tlp,
    Use, excerpt,
};
use memchr::memmem;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Media type of what is kept as it stood in a bundle.
pub const STIX_OBJECT: &str = "application/stix+json;version=2.1";
/// Most things that one object points at; the richest published indicator points at nine.
const RELATIONS_MAX: usize = 64;
/// Most statements of markings that are kept.
const STATEMENTS_MAX: usize = 1_000;
/// Most values that one sighting is said of.
const SIGHTED_VALUES_MAX: usize = 16;
/// Property extension of TLP 2.0 markings.
pub(super) const TLP_EXTENSION: &str = "extension-definition--60a3c5c5-0d10-413e-aab3-9e08dde9e88d";
/// Property extension of PAP markings.
const PAP_EXTENSION: &str = "extension-definition--f8d78575-edfd-406e-8e84-6162a8450f5b";

/// Markings that every reader knows by their ids: STIX 2.1 section 7.2.1.4, and TLP 2.0.
const KNOWN_MARKINGS: [(&str, Tlp); 9] = [
    ("marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9", Tlp::Clear),
    ("marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da", Tlp::Green),
    ("marking-definition--f88d31f6-486f-44da-b317-01333bde0b82", Tlp::Amber),
    ("marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed", Tlp::Red),
    ("marking-definition--94868c89-83c2-464b-929b-a1a8aa3c8487", Tlp::Clear),
    ("marking-definition--bab4a63c-aed9-4cf5-a766-dfca5abac2bb", Tlp::Green),
    ("marking-definition--55d920b0-5e8b-4f79-9ee9-91f868d9b421", Tlp::Amber),
    ("marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003", Tlp::AmberStrict),
    ("marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1", Tlp::Red),
];

const UNKNOWN_MARKING: &str = "a marking that the file does not carry is read as TLP:RED";
const PART_MARKED: &str = "a marking of single properties is taken for the whole object";
const NO_PROSE: &str = "names, descriptions and references of single indicators are left out; those of reports are kept";
const IN_TWO: &str = "an indicator that stands in several reports is kept in the first";
const AS_DOCUMENT: &str = "a pattern that is no list of values is kept as a document";
const AS_CONTEXT: &str = "an observable, which claims nothing, is kept as context";
const RULE: &str = "a rule in another language than STIX is kept as a document";
const SHORTENED: &str = "a report's texts or lists are shortened to what a record holds";
const SIGHTING_OF_OTHER: &str = "a sighting of something else than an indicator of this file is left out";
const TIMES: &str = "a time that cannot be is left out";
pub(super) const OLDER: &str = "a version older than one that is here or in the file changes nothing";
const ENDED: &str = "an object that its author revoked for good does not come back";
const ENDS_FIRST: &str = "an end before its beginning counts; the beginning is left out";
const MANY_REPORTS: &str = "beyond 50,000 reports of one file, indicators are gathered in one more";

/// `type--uuid`, as a number where it is one: most memory of a bundle goes into these.
fn key_of(id: &str) -> Option<u128> {
    let (_, uuid) = id.rsplit_once("--")?;
    let digits: String = uuid.chars().filter(|char| *char != '-').collect();
    (digits.len() == 32 && uuid.len() == 36).then(|| u128::from_str_radix(&digits, 16).ok()).flatten()
}

fn may_be_report(element: &[u8]) -> bool {
    memmem::find(element, b"\"report\"").or_else(|| memmem::find(element, b"\"grouping\"")).is_some()
}

/// The version of an object, for one that says when it was modified.
fn version_of(id: &str, author: Option<&str>, modified: Option<&str>, revoked: bool) -> Option<(VersionKey, Version)> {
    let version = Version { ms: moment_of(modified?)?.ms(), is_final: revoked };
    Some((key_of_version(author.unwrap_or_default(), key_of(id)?), version))
}

fn type_of(id: &str) -> &str {
    id.split_once("--").map_or("", |(kind, _)| kind)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ExternalReference {
    source_name: Option<String>,
    url: Option<String>,
    external_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Definition {
    statement: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MarkingExtension {
    pap: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct KillChainPhase {
    kill_chain_name: String,
    phase_name: String,
}

#[derive(Deserialize)]
struct GranularMarking {
    marking_ref: Option<String>,
}

/// What links objects. Everything else of them is passed over in the first pass.
#[derive(Deserialize)]
struct Link {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    object_refs: Vec<String>,
    #[serde(default)]
    relationship_type: Option<String>,
    #[serde(default)]
    source_ref: Option<String>,
    #[serde(default)]
    target_ref: Option<String>,
    #[serde(default)]
    definition: Option<Definition>,
    #[serde(default)]
    extensions: serde_json::Value,
    #[serde(default)]
    external_references: Vec<ExternalReference>,
    #[serde(default)]
    sighting_of_ref: Option<String>,
    #[serde(default)]
    revoked: bool,
    #[serde(default)]
    created_by_ref: Option<String>,
    #[serde(default)]
    modified: Option<String>,
}

/// What our own exports say beyond STIX.
#[derive(Deserialize, Default)]
struct OurExtension {
    scope: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
}

/// An object as the second pass reads it.
#[derive(Deserialize)]
struct Object {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    revoked: bool,
    #[serde(default)]
    created_by_ref: Option<String>,
    #[serde(default)]
    modified: Option<String>,
    #[serde(default)]
    confidence: Option<i64>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    indicator_types: Vec<String>,
    #[serde(default)]
    report_types: Vec<String>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    lang: Option<String>,
    #[serde(default)]
    object_marking_refs: Vec<String>,
    #[serde(default)]
    granular_markings: Vec<GranularMarking>,
    #[serde(default)]
    external_references: Vec<ExternalReference>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    pattern_type: Option<String>,
    #[serde(default)]
    valid_from: Option<String>,
    #[serde(default)]
    valid_until: Option<String>,
    #[serde(default)]
    published: Option<String>,
    #[serde(default)]
    kill_chain_phases: Vec<KillChainPhase>,
    /// Whatever shape others give it.
    #[serde(default)]
    extensions: serde_json::Value,
    #[serde(default)]
    sighting_of_ref: Option<String>,
    #[serde(default)]
    first_seen: Option<String>,
    #[serde(default)]
    last_seen: Option<String>,
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    where_sighted_refs: Vec<String>,
}

/// What a name of the bundle is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Named {
    Actor,
    Malware,
    Technique,
    Tag,
    Identity,
    Country,
}

#[derive(Clone, Copy, Default)]
struct Marking {
    tlp: Option<Tlp>,
    /// It claims to be a TLP marking and is none.
    unreadable: bool,
    usage: Option<Use>,
    /// Place of its statement in `statements`, from 1.
    statement: usize,
}

/// Reads a bundle in passes over its elements: [`Self::survey`]; where there are reports [`Self::read_reports`]; then
/// [`Self::read`], and at the end [`Self::finish`].
pub struct StixReader {
    /// For indicators without a report of their own.
    title: String,
    names: HashMap<u128, (Named, String)>,
    markings: HashMap<u128, Marking>,
    statements: Vec<String>,
    /// From an object to those that it points at, and how.
    relations: HashMap<u128, Vec<u128>>,
    /// From an indicator to the first report that names it.
    members: HashMap<u128, u32>,
    reports: HashMap<u128, u32>,
    /// What each report of the file names beside its indicators.
    mentions: HashMap<u32, Vec<u128>>,
    /// Indicators that sightings are about, with their values, marking and report once they were read.
    sighted: HashMap<u128, Vec<(Observable, Option<Tlp>, usize)>>,
    sightings: Vec<(Option<Tlp>, u128, Sighting)>,
    links: usize,
    /// Something that may mark others could not be read or kept, so whatever is unmarked is read as TLP:RED.
    blind: bool,
    /// The group of what finds none.
    overflow: Option<usize>,
    groups: Vec<Option<Group>>,
    gathered: HashMap<Gathering, usize>,
    /// Reports whose marking cannot be read.
    unreadable_groups: BTreeSet<usize>,
    pub versions: Versions,
    pub notes: Notes,
}

/// What indicators without a report are gathered by: their author's name, and what they point at.
type Gathering = (Option<String>, Vec<(Named, String)>);

impl StixReader {
    /// For a file called `title`.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            names: HashMap::new(),
            markings: HashMap::new(),
            statements: Vec::new(),
            relations: HashMap::new(),
            members: HashMap::new(),
            reports: HashMap::new(),
            mentions: HashMap::new(),
            sighted: HashMap::new(),
            sightings: Vec::new(),
            links: 0,
            blind: false,
            overflow: None,
            groups: Vec::new(),
            gathered: HashMap::new(),
            unreadable_groups: BTreeSet::new(),
            versions: Versions::default(),
            notes: Notes::default(),
        }
    }

    /// Which values are objects: those of a bundle or TAXII page, of a list, or the only one.
    pub fn begins(path: &[Step], is: Is, single: bool) -> Take {
        match (path, is) {
            ([], Is::Object) if single => Take::Capture,
            ([], _) => Take::Descend,
            ([Step::Key(key)], Is::Array) if key == "objects" => Take::Descend,
            ([Step::Key(key), Step::Index(_)], _) if key == "objects" => Take::Capture,
            ([Step::Index(_)], _) => Take::Capture,
            _ => Take::Skip,
        }
    }

    /// First pass: keeps what links objects. What cannot be read is complained about in the last pass.
    pub fn survey(&mut self, element: Option<&[u8]>) -> Result<(), String> {
        // What is too long to be read may be a report that marks others.
        let Some(element) = element else {
            self.blind = true;
            return Ok(());
        };
        let Ok(link) = serde_json::from_slice::<Link>(element) else {
            self.blind |= may_be_report(element);
            return Ok(());
        };
        let Some(key) = key_of(&link.id) else {
            self.blind |= matches!(link.kind.as_str(), "report" | "grouping");
            return Ok(());
        };
        let revoked = link.revoked && link.kind == "indicator";
        if let Some((key, version)) = version_of(&link.id, link.created_by_ref.as_deref(), link.modified.as_deref(), revoked) {
            self.versions.note(key, version);
        }
        match link.kind.as_str() {
            "marking-definition" => self.survey_marking(key, &link, element)?,
            "report" | "grouping" => {
                // An id that stands twice in a file is one object; the first counts.
                let number = self.groups.len();
                if number >= GROUPS_MAX {
                    self.blind = true;
                    return Err("the file has more than 50,000 reports; this one is left out".to_owned());
                }
                if !self.reports.contains_key(&key) {
                    self.linked(1 + link.object_refs.len())?;
                    let number = number as u32;
                    self.groups.push(None);
                    self.reports.insert(key, number);
                    for member in link.object_refs.iter().filter_map(|id| Some((type_of(id), key_of(id)?))) {
                        match member {
                            ("indicator", id) => {
                                if *self.members.entry(id).or_insert(number) != number {
                                    self.notes.changed(IN_TWO, &At::default());
                                }
                            }
                            (_, id) => self.mentions.entry(number).or_default().push(id),
                        }
                    }
                }
            }
            "relationship" => {
                let (Some(from), Some(to)) = (link.source_ref.as_deref(), link.target_ref.as_deref()) else { return Ok(()) };
                let telling = match type_of(from) {
                    "indicator" => true,
                    "campaign" | "malware" | "intrusion-set" => link.relationship_type.as_deref() == Some("attributed-to"),
                    _ => false,
                };
                if let (true, false, Some(from), Some(to)) = (telling, link.revoked, key_of(from), key_of(to)) {
                    self.linked(1)?;
                    let of = self.relations.entry(from).or_default();
                    if of.len() < RELATIONS_MAX && !of.contains(&to) {
                        of.push(to);
                    }
                }
            }
            "sighting" => {
                if let Some(of) = link.sighting_of_ref.as_deref().and_then(key_of) {
                    self.linked(1)?;
                    self.sighted.entry(of).or_default();
                }
            }
            "indicator" => (),
            kind => {
                let named = match kind {
                    "threat-actor" | "intrusion-set" => Named::Actor,
                    "malware" => Named::Malware,
                    "attack-pattern" => Named::Technique,
                    "identity" => Named::Identity,
                    "location" => Named::Country,
                    "campaign" | "tool" | "vulnerability" | "infrastructure" => Named::Tag,
                    _ => return Ok(()),
                };
                let name = match named {
                    Named::Technique => technique(&link).or(link.name),
                    Named::Tag => link.name.map(|name| format!("{kind}:{name}")),
                    Named::Country => country(element),
                    _ => link.name,
                };
                if let Some(name) = name.map(|name| one_line(&name, 256).0) {
                    self.linked(1)?;
                    self.names.insert(key, (named, name));
                }
            }
        }
        Ok(())
    }

    fn linked(&mut self, count: usize) -> Result<(), String> {
        self.links += count;
        if self.links > LINKS_MAX {
            self.blind = true;
            return Err("the file links more than 1,000,000 objects; what this one links is left out".to_owned());
        }
        Ok(())
    }

    fn survey_marking(&mut self, key: u128, link: &Link, element: &[u8]) -> Result<(), String> {
        let extension = link.extensions.get(PAP_EXTENSION).and_then(|value| MarkingExtension::deserialize(value).ok());
        let usage = extension.and_then(|one| one.pap).map(|word| use_of_pap(&word));
        let (tlp, unreadable) = serde_json::from_slice::<serde_json::Value>(element).map_or((None, true), |value| claims_of(&value));
        let mut marking = Marking { tlp, unreadable, usage, statement: 0 };
        if let Some(text) = link.definition.as_ref().and_then(|one| one.statement.as_deref())
            && self.statements.len() < STATEMENTS_MAX
        {
            self.statements.push(lines_of_text(text, TEXT_BYTES_MAX).0);
            marking.statement = self.statements.len();
        }
        self.linked(1)?;
        // Of definitions that contradict one another the strictest counts.
        let known = self.markings.entry(key).or_insert(marking);
        known.tlp = known.tlp.max(marking.tlp);
        known.unreadable |= marking.unreadable;
        known.usage = least(known.usage, marking.usage);
        known.statement = known.statement.max(marking.statement);
        Ok(())
    }

    /// Whether there are reports, for which the file is read once more before its indicators.
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Middle pass: reports, whose names and markings may stand behind them.
    pub fn read_reports(&mut self, element: &[u8], at: &At) {
        if may_be_report(element)
            && let Ok(object) = serde_json::from_slice::<Object>(element)
            && matches!(object.kind.as_str(), "report" | "grouping")
            && self.counts(&object, at).unwrap_or(false)
        {
            self.report(object, at);
        }
    }

    /// Last pass: what an element says. Answers what is wrong with one that says nothing because of it.
    pub fn read(&mut self, element: &Element<'_>, at: &mut At, out: &mut Vec<Said>) -> Result<(), String> {
        let bytes = element.bytes.ok_or("it is longer than 16 MiB")?;
        let object: Object = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !object.id.is_empty() {
            at.path = format!("{} {}", at.path, excerpt(&object.id)).trim_start().to_owned();
        }
        let at = &*at;
        if !matches!(object.kind.as_str(), "report" | "grouping") && !self.counts(&object, at)? {
            out.push(Said::Older { external_id: object.id });
            return Ok(());
        }
        match object.kind.as_str() {
            "indicator" => self.indicator(object, bytes, at, out),
            "sighting" => self.sighting(&object, at),
            "observed-data" => self.observed(bytes, &object, at, out),
            "report"
            | "grouping"
            | "relationship"
            | "marking-definition"
            | "identity"
            | "location"
            | "extension-definition"
            | "malware"
            | "threat-actor"
            | "intrusion-set" => Ok(()),
            kind if is_observable(kind) => self.observable(bytes, &object, at, out),
            "bundle" => Err("a bundle inside a bundle; import it by itself".to_owned()),
            // Names of campaigns, tools and techniques stand with their indicators; the rest of them has no record.
            kind => {
                self.notes.without_record(kind);
                Ok(())
            }
        }
    }

    /// Returns true for the version of an id that counts.
    fn counts(&mut self, object: &Object, at: &At) -> Result<bool, String> {
        let revoked = object.revoked && object.kind == "indicator";
        let Some((key, version)) = version_of(&object.id, object.created_by_ref.as_deref(), object.modified.as_deref(), revoked) else {
            return Ok(true);
        };
        match self.versions.judge(key, version) {
            Counts::Yes => return Ok(true),
            Counts::Older => self.notes.changed(OLDER, at),
            Counts::Ended => self.notes.changed(ENDED, at),
            Counts::Future => {
                return Err(format!("its version is dated `{}`, in the future", object.modified.as_deref().unwrap_or_default()));
            }
        }
        Ok(false)
    }

    /// The report with a number; what is said of it in the file, or what its indicators have in common.
    pub fn group(&mut self, number: usize) -> Group {
        let known = self.groups.get(number).cloned().flatten();
        // A report of the file that could not be read may have been marked in any way.
        let known = known.map(|group| Group { tlp: group.tlp.or(self.blind.then_some(Tlp::Red)), ..group });
        known.unwrap_or_else(|| Group {
            report: Report::titled(self.title.clone()),
            tlp: Some(Tlp::Red),
            revoked: false,
            reach: Reach::AsMarked,
        })
    }

    /// How many reports the file has of its own; they come first and are said even without indicators.
    pub fn reports(&self) -> usize {
        self.reports.len()
    }

    /// The strictest of an object's markings, its PAP, and its statement.
    fn marking(&mut self, object: &Object, at: &At) -> Marking {
        let mut found = Marking::default();
        let parts = object.granular_markings.iter().filter_map(|one| one.marking_ref.as_ref());
        if object.granular_markings.iter().any(|one| one.marking_ref.is_some()) {
            self.notes.changed(PART_MARKED, at);
        }
        // A label may claim to be one too.
        for claim in object.labels.iter().filter_map(|label| Tlp::claimed(label)) {
            found.unreadable |= claim.is_err();
            found.tlp = found.tlp.max(claim.ok());
        }
        for id in object.object_marking_refs.iter().chain(parts) {
            let known =
                KNOWN_MARKINGS.iter().find(|(known, _)| known == id).map(|(_, tlp)| Marking { tlp: Some(*tlp), ..Marking::default() });
            let carried = || key_of(id).and_then(|key| self.markings.get(&key).copied());
            let one = known.or_else(carried).unwrap_or_else(|| {
                self.notes.changed(UNKNOWN_MARKING, at);
                Marking { tlp: Some(Tlp::Red), ..Marking::default() }
            });
            found.tlp = found.tlp.max(one.tlp);
            found.unreadable |= one.unreadable;
            found.usage = least(found.usage, one.usage);
            found.statement = found.statement.max(one.statement);
        }
        found
    }

    fn author(&self, object: &Object) -> Option<String> {
        let key = key_of(object.created_by_ref.as_deref()?)?;
        self.names.get(&key).filter(|(named, _)| *named == Named::Identity).map(|(_, name)| one_line(name, TEXT_BYTES_MAX).0)
    }

    fn time(&mut self, text: Option<&String>, at: &At) -> Option<Timestamp> {
        let text = text?;
        let time = moment_of(text);
        if time.is_none() {
            self.notes.changed(TIMES, at);
        }
        time
    }

    fn report(&mut self, object: Object, at: &At) {
        let Some(number) = key_of(&object.id).and_then(|key| self.reports.get(&key).copied()) else { return };
        if self.groups.get(number as usize).is_some_and(Option::is_some) {
            return;
        }
        let marking = self.marking(&object, at);
        let (title, mut lost) = one_line(object.name.as_deref().unwrap_or(&self.title), TEXT_BYTES_MAX);
        let mut report = Report::titled(if title.is_empty() { self.title.clone() } else { title });
        if let Some(text) = object.description.as_deref() {
            let (text, cut) = lines_of_text(text, TEXT_BYTES_MAX);
            lost |= cut;
            report.description = Some(text).filter(|text| !text.is_empty());
        }
        report.language = object
            .lang
            .clone()
            .filter(|tag| (2..=35).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        report.confidence = percent(object.confidence);
        report.valid_from = self.time(object.published.as_ref(), at);
        report.usage = marking.usage;
        object.labels.iter().chain(&object.report_types).chain(&object.context).for_each(|tag| add_word(&mut report.tags, tag));
        for reference in &object.external_references {
            match (&reference.url, &reference.external_id) {
                (_, Some(id)) if is_attack(reference) => add_word(&mut report.techniques, id),
                (Some(url), _) if url.len() <= TEXT_BYTES_MAX => add_reference(&mut report, url),
                (_, Some(id)) => add_word(&mut report.tags, id),
                _ => (),
            }
        }
        // A record's lists have 256 places each.
        for key in self.mentions.get(&number).into_iter().flatten().take(2_048) {
            self.mention(&mut report, *key);
        }
        report.source = Some(Source { organisation: self.author(&object), url: None, external_id: Some(one_line(&object.id, 256).0) });
        report.caveat = self.statements.get(marking.statement.wrapping_sub(1)).filter(|text| !text.is_empty()).cloned();
        if fit(&mut report) || lost {
            self.notes.changed(SHORTENED, at);
        }
        if marking.unreadable {
            // Its indicators inherit the marking, so they do not go either.
            self.notes.changed(UNREADABLE, at);
            self.unreadable_groups.insert(number as usize);
        }
        if let Some(place) = self.groups.get_mut(number as usize) {
            *place = Some(Group { report, tlp: marking.tlp, revoked: object.revoked || marking.unreadable, reach: Reach::AsMarked });
        }
    }

    fn mention(&self, report: &mut Report, key: u128) {
        let attributed = self.relations.get(&key).into_iter().flatten();
        for key in std::iter::once(&key).chain(attributed) {
            let Some((named, name)) = self.names.get(key) else { continue };
            match named {
                Named::Actor => add_word(&mut report.actors, name),
                Named::Malware => add_word(&mut report.malware, name),
                Named::Technique if is_technique(name) => add_word(&mut report.techniques, name),
                Named::Technique => add_word(&mut report.tags, &format!("attack-pattern:{name}")),
                Named::Tag => add_word(&mut report.tags, name),
                Named::Identity | Named::Country => (),
            }
        }
    }

    /// The report of an object: its file's, or one that it shares with what points at the same things.
    fn group_of(&mut self, object: &Object, at: &At) -> usize {
        let key = key_of(&object.id);
        if let Some(number) = key.and_then(|key| self.members.get(&key)) {
            return *number as usize;
        }
        let direct = key.and_then(|key| self.relations.get(&key)).into_iter().flatten();
        let through = direct.clone().filter_map(|key| self.relations.get(key)).flatten();
        let names = direct.chain(through).filter_map(|key| self.names.get(key));
        let mut names: Vec<(Named, String)> =
            names.filter(|(named, _)| !matches!(named, Named::Identity | Named::Country)).cloned().collect();
        names.sort();
        names.dedup();
        let gathering = (self.author(object), names);
        if let Some(number) = self.gathered.get(&gathering) {
            return *number;
        }
        if self.groups.len() >= GROUPS_MAX {
            self.notes.changed(MANY_REPORTS, at);
            return *self.overflow.get_or_insert_with(|| {
                self.groups.push(Some(Group {
                    report: Report::titled(self.title.clone()),
                    tlp: None,
                    revoked: false,
                    reach: Reach::AsMarked,
                }));
                self.groups.len() - 1
            });
        }
        let (author, names) = gathering.clone();
        let called = names.iter().filter(|(named, _)| matches!(named, Named::Actor | Named::Malware)).map(|(_, name)| name.as_str());
        let called: Vec<&str> = called.take(3).collect();
        let title = if called.is_empty() {
            self.title.clone()
        } else {
            one_line(&format!("{}: {}", self.title, called.join(", ")), TEXT_BYTES_MAX).0
        };
        let mut report = Report::titled(title);
        for (named, name) in &names {
            match named {
                Named::Actor => add_word(&mut report.actors, name),
                Named::Malware => add_word(&mut report.malware, name),
                Named::Technique if is_technique(name) => add_word(&mut report.techniques, name),
                Named::Technique => add_word(&mut report.tags, &format!("attack-pattern:{name}")),
                _ => add_word(&mut report.tags, name),
            }
        }
        report.source = author.map(|name| Source { organisation: Some(name), url: None, external_id: None });
        if fit(&mut report) {
            self.notes.changed(SHORTENED, at);
        }
        let number = self.groups.len();
        self.groups.push(Some(Group { report, tlp: None, revoked: false, reach: Reach::AsMarked }));
        self.gathered.insert(gathering, number);
        number
    }

    fn indicator(&mut self, object: Object, bytes: &[u8], at: &At, out: &mut Vec<Said>) -> Result<(), String> {
        if object.revoked {
            out.push(Said::Withdrawn { external_id: object.id });
            return Ok(());
        }
        let pattern = object.pattern.as_deref().ok_or("it has no pattern")?;
        let group = self.group_of(&object, at);
        let marking = self.marking(&object, at);
        if marking.unreadable || self.unreadable_groups.contains(&group) {
            return Err(UNREADABLE.to_owned());
        }
        match object.pattern_type.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("stix" | "stix2") => (),
            Some(language) => {
                self.notes.changed(RULE, at);
                let (ending, content) = (one_line(language, 64).0, pattern.as_bytes().to_vec());
                out.push(Said::Document(self.attached(&object, &format!("application/{ending}"), content, group, marking.tlp)));
                return Ok(());
            }
        }
        let parsed = Pattern::parse(pattern).map_err(|error| error.to_string())?;
        let found = parsed.alternatives().map_err(TermError::from).and_then(|alternatives| {
            let found = alternatives.iter().map(terms).collect::<Result<Vec<_>, _>>()?;
            let found: Vec<Term> = found.into_iter().flatten().collect();
            if found.len() > TERMS_MAX { Err(Inexpressible::Many.into()) } else { Ok(found) }
        });
        let found = match found {
            Ok(found) => found,
            Err(TermError::Inexpressible(_)) => {
                self.notes.changed(AS_DOCUMENT, at);
                let content = bytes.to_vec();
                out.push(Said::Document(self.attached(&object, STIX_OBJECT, content, group, marking.tlp)));
                return Ok(());
            }
            Err(TermError::Value(error)) => return Err(error.to_string()),
        };
        let mut from = self.time(object.valid_from.as_ref(), at);
        let until = match object.valid_until.as_deref().map(|text| end_of(text).ok_or_else(|| unreadable_end(text))).transpose()? {
            Some(End::At(end)) => Some(end),
            Some(End::Never) => Some(Timestamp::END),
            Some(End::Unsaid) | None => None,
        };
        if from.zip(until).is_some_and(|(from, until)| until < from) {
            // The end is what is certain.
            self.notes.changed(ENDS_FIRST, at);
            from = None;
        }
        // Our own exports have nothing in these that is not in the value and the record's name.
        let ours = object.extensions.get(super::EXTENSION).and_then(|ours| OurExtension::deserialize(ours).ok());
        let own_export = ours.is_some();
        if !own_export && (object.name.is_some() || object.description.is_some() || !object.external_references.is_empty()) {
            self.notes.changed(NO_PROSE, at);
        }
        let mut model = Indicator::of(Observable::of_address(std::net::Ipv4Addr::UNSPECIFIED.into()), None);
        model.confidence = percent(object.confidence);
        model.usage = marking.usage;
        (model.valid_from, model.valid_until) = (from, until);
        for word in object.indicator_types.iter().chain(&object.labels) {
            match word.as_str() {
                "malicious-activity" => model.role = model.role.or(Some(Role::Attacker)),
                "compromised" => model.role = Some(Role::Compromised),
                // What is said to be harmless is nothing to act on.
                "benign" => model.usage = Some(Use::Context),
                "unknown" => (),
                other => add_word(&mut model.tags, other),
            }
        }
        let ours = ours.unwrap_or_default();
        model.usage = model.usage.or_else(|| ours.usage.as_deref().and_then(|word| word.parse().ok()));
        let below = ours.scope.as_deref() == Some("subdomains");
        for phase in &object.kill_chain_phases {
            add_word(&mut model.tags, &format!("{}:{}", phase.kill_chain_name, phase.phase_name));
        }
        model.source = Some(Source { organisation: None, url: None, external_id: Some(one_line(&object.id, 256).0) })
            .filter(|_| !object.id.is_empty());
        let watched = key_of(&object.id).filter(|key| self.sighted.contains_key(key));
        for (value, change) in found {
            if let Some(how) = change {
                self.notes.changed(how, at);
            }
            if let Some(values) = watched.and_then(|key| self.sighted.get_mut(&key)).filter(|values| values.len() < SIGHTED_VALUES_MAX) {
                values.push((value.clone(), marking.tlp, group));
            }
            let scope = (below && value.kind() == ObservableType::Domain).then_some(Scope::Subdomains);
            let indicator = Indicator { value, scope, ..model.clone() };
            out.push(Said::Indicator { indicator: Box::new(indicator), group, tlp: marking.tlp, reach: Reach::AsMarked });
        }
        Ok(())
    }

    fn attached(&self, object: &Object, media_type: &str, content: Vec<u8>, group: usize, tlp: Option<Tlp>) -> Attached {
        let name = object.name.as_deref().or(object.description.as_deref()).unwrap_or(&object.id);
        let (title, _) = one_line(name, 256);
        let mut tags = Vec::new();
        object.labels.iter().chain(&object.indicator_types).for_each(|word| add_word(&mut tags, word));
        let title = if title.is_empty() { "indicator".to_owned() } else { title };
        Attached { title, media_type: media_type.to_owned(), content, tlp, tags, group: Some(group) }
    }

    fn sighting(&mut self, object: &Object, at: &At) -> Result<(), String> {
        let of = object.sighting_of_ref.as_deref().ok_or("it does not say what was seen")?;
        let marking = self.marking(object, at);
        if marking.unreadable {
            return Err(UNREADABLE.to_owned());
        }
        let (from, until) = (self.time(object.first_seen.as_ref(), at), self.time(object.last_seen.as_ref(), at));
        if from.zip(until).is_some_and(|(from, until)| until < from) {
            return Err("it was last seen before it was first seen".to_owned());
        }
        let country = object.where_sighted_refs.iter().filter_map(|id| self.names.get(&key_of(id)?));
        let country = country.filter(|(named, _)| *named == Named::Country).map(|(_, code)| code.clone()).next();
        let sighting = Sighting {
            of: Sighted::Value(Observable::of_address(std::net::Ipv4Addr::UNSPECIFIED.into())),
            sighting: SightingKind::Seen,
            count: object.count.filter(|count| *count > 0),
            from,
            until,
            country,
            description: object.description.as_deref().map(|text| lines_of_text(text, TEXT_BYTES_MAX).0).filter(|text| !text.is_empty()),
        };
        match key_of(of) {
            Some(key) if self.sightings.len() < LINKS_MAX / 10 => self.sightings.push((marking.tlp, key, sighting)),
            _ => self.notes.changed(SIGHTING_OF_OTHER, at),
        }
        Ok(())
    }

    /// The objects inside an observation: a map in 2.0; in 2.1 they stand for themselves.
    fn observed(&mut self, bytes: &[u8], object: &Object, at: &At, out: &mut Vec<Said>) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Observed {
            #[serde(default)]
            objects: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
        }
        let observed: Observed = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        for properties in observed.objects.into_values() {
            let kind = properties.get("type").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
            self.values_of(&kind, &properties, object, at, out);
        }
        Ok(())
    }

    fn observable(&mut self, bytes: &[u8], object: &Object, at: &At, out: &mut Vec<Said>) -> Result<(), String> {
        let properties: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        self.values_of(&object.kind, &properties, object, at, out);
        Ok(())
    }

    fn values_of(
        &mut self,
        kind: &str,
        properties: &serde_json::Map<String, serde_json::Value>,
        object: &Object,
        at: &At,
        out: &mut Vec<Said>,
    ) {
        let mut told: Vec<(String, String)> = Vec::new();
        for (name, given) in properties {
            match given {
                serde_json::Value::Object(hashes) if name == "hashes" => {
                    told.extend(hashes.iter().filter_map(|(name, text)| Some((format!("hashes.{name}"), text.as_str()?.to_owned()))));
                }
                serde_json::Value::String(text) if naming(kind) == name.as_str() => told.push((name.clone(), text.clone())),
                serde_json::Value::Number(number) if naming(kind) == name.as_str() => told.push((name.clone(), number.to_string())),
                _ => (),
            }
        }
        let found = match described(kind, &told) {
            Some(found) => found,
            None => told.iter().map(|(name, text)| value(kind, name, text)).collect(),
        };
        match found {
            Ok(found) if !found.is_empty() => {
                self.notes.changed(AS_CONTEXT, at);
                let group = self.group_of(object, at);
                let marking = self.marking(object, at);
                if marking.unreadable || self.unreadable_groups.contains(&group) {
                    self.notes.changed(UNREADABLE, at);
                    return;
                }
                let tlp = marking.tlp;
                for (value, _) in found {
                    let mut indicator = Indicator::of(value, None);
                    indicator.usage = Some(Use::Context);
                    out.push(Said::Indicator { indicator: Box::new(indicator), group, tlp, reach: Reach::AsMarked });
                }
            }
            _ => self.notes.without_record(kind),
        }
    }

    /// After the last element: the sightings, which may stand before what they are of.
    pub fn finish(&mut self, out: &mut Vec<Said>) {
        for (tlp, of, sighting) in std::mem::take(&mut self.sightings) {
            let values = self.sighted.get(&of).cloned().unwrap_or_default();
            if values.is_empty() {
                self.notes.changed(SIGHTING_OF_OTHER, &At::default());
            }
            for (value, marked, group) in values {
                let sighting = Box::new(Sighting { of: Sighted::Value(value), ..sighting.clone() });
                out.push(Said::Sighting { sighting, tlp: tlp.max(marked), group });
            }
        }
    }
}

fn unreadable_end(text: &str) -> String {
    format!("its end `{}` cannot be read, so it may be over; ask its author", excerpt(text))
}

fn least(one: Option<Use>, other: Option<Use>) -> Option<Use> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The strictest TLP marking that a definition claims in any of its fields, and whether it claims one that cannot be read.
fn claims_of(definition: &serde_json::Value) -> (Option<Tlp>, bool) {
    let (mut found, mut claimed, mut unreadable) = (None, false, false);
    let mut left = vec![("", definition)];
    while let Some((key, value)) = left.pop() {
        match value {
            serde_json::Value::Object(fields) => left.extend(fields.iter().map(|(key, value)| (key.as_str(), value))),
            serde_json::Value::Array(items) => left.extend(items.iter().map(|value| (key, value))),
            serde_json::Value::String(text) => {
                let lower = key.to_ascii_lowercase();
                let claim = match lower.as_str() {
                    "definition_type" | "x_opencti_definition_type" => {
                        claimed |= text.eq_ignore_ascii_case("tlp");
                        continue;
                    }
                    "tlp" | "tlp_2_0" => Tlp::claimed(text).or_else(|| Tlp::claimed(&format!("tlp:{text}"))),
                    _ => Tlp::claimed(text),
                };
                match claim {
                    Some(Ok(tlp)) => found = found.max(Some(tlp)),
                    Some(Err(_)) => unreadable = true,
                    None => (),
                }
            }
            _ => (),
        }
    }
    // A definition that says it is one, and nowhere which.
    (found, unreadable || (claimed && found.is_none()))
}

const UNREADABLE: &str = "its marking claims to be a TLP marking and is none of the five, so its readers are unknown; ask its author";

/// What people do with a value under a PAP marking (MISP's PAP taxonomy): RED is only looked for in what is at hand.
pub(super) fn use_of_pap(word: &str) -> Use {
    match word.to_ascii_lowercase().as_str() {
        "clear" | "white" | "green" => Use::Block,
        "amber" => Use::Alert,
        _ => Use::Hunt,
    }
}

pub(super) fn percent(confidence: Option<i64>) -> Option<u8> {
    confidence.and_then(|value| u8::try_from(value).ok()).filter(|value| *value <= 100)
}

fn add_reference(report: &mut Report, url: &str) {
    let (url, _) = one_line(url, TEXT_BYTES_MAX);
    if !url.is_empty() && report.references.len() < crate::record::LIST_MAX && !report.references.contains(&url) {
        report.references.push(url);
    }
}

/// Shortens a report's lists until it is a record. Answers whether that was necessary.
pub fn fit(report: &mut Report) -> bool {
    let mut shortened = false;
    while crate::record::Record::Report(report.clone()).encode().is_err() {
        shortened = true;
        let lists = [&mut report.tags, &mut report.references, &mut report.techniques, &mut report.malware, &mut report.actors];
        match lists.into_iter().max_by_key(|list| list.iter().map(String::len).sum::<usize>()) {
            Some(list) if !list.is_empty() => list.truncate(list.len() / 2),
            _ if report.description.take().is_some() => (),
            _ => {
                // Nothing but a title is a report always.
                report.caveat = None;
                report.language = None;
                report.valid_from = None;
                report.title = "imported".to_owned();
                break;
            }
        }
    }
    shortened
}

fn is_attack(reference: &ExternalReference) -> bool {
    reference.source_name.as_deref().is_some_and(|name| name.starts_with("mitre-"))
        && reference.external_id.as_deref().is_some_and(is_technique)
}

/// `T1059` or `T1059.001`, as ATT&CK numbers its techniques.
pub(super) fn is_technique(text: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = text.strip_prefix('T') else { return false };
    match rest.split_once('.') {
        Some((main, sub)) => digits(main, 4) && digits(sub, 3),
        None => digits(rest, 4),
    }
}

fn technique(link: &Link) -> Option<String> {
    link.external_references.iter().find(|one| is_attack(one)).and_then(|one| one.external_id.clone())
}

fn country(element: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Location {
        country: Option<String>,
    }
    let code = serde_json::from_slice::<Location>(element).ok()?.country?;
    (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic())).then(|| code.to_ascii_uppercase())
}

fn is_observable(kind: &str) -> bool {
    !naming(kind).is_empty()
        || matches!(kind, "artifact" | "x509-certificate" | "network-traffic" | "email-message" | "software" | "user-account")
}

/// The property that names an observable of this type.
fn naming(kind: &str) -> &'static str {
    match kind {
        "domain-name" | "ipv4-addr" | "ipv6-addr" | "url" | "email-addr" | "mac-addr" => "value",
        "file" | "mutex" => "name",
        "autonomous-system" => "number",
        "windows-registry-key" => "key",
        "process" => "command_line",
        "directory" => "path",
        _ => "",
    }
}
