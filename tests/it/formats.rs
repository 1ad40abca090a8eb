//! Others' formats: what is read of real STIX and MISP files, and of the standards' own cases. Each is accounted for:
//! taken, kept as a document, or refused with a reason.

use crate::support::{corpus, read};
use huecry::{
    exchange::{About, Attached, Format, Given, Layout, Pattern, Reader, Said, TextReader, detect},
    record::{Content, ContentHash, Document, Record},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What a file gave, in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outline {
    indicators: BTreeMap<String, u64>,
    documents: u64,
    sightings: u64,
    withdrawn: u64,
    reports: u64,
    complaints: Vec<String>,
    changed: BTreeMap<&'static str, u64>,
    without: BTreeMap<String, u64>,
}

fn feed(reader: &mut Reader, bytes: &[u8]) -> Result<Given, String> {
    let mut given = Given::default();
    loop {
        bytes.chunks(7_001).try_for_each(|piece| reader.feed(piece)).map_err(|error| error.to_string())?;
        let again = reader.end_pass().map_err(|error| error.to_string())?;
        let more = reader.take();
        given.said.extend(more.said);
        given.complaints.extend(more.complaints);
        if !again {
            return Ok(given);
        }
    }
}

fn read_as(format: Format, bytes: &[u8]) -> Result<(Given, Reader), String> {
    let text = TextReader::new(Layout::Plain, None);
    let mut reader = Reader::new(&About { format, title: "title".to_owned(), text, subdomains: false }, bytes);
    let given = feed(&mut reader, bytes)?;
    Ok((given, reader))
}

fn outline(bytes: &[u8]) -> Result<Outline, String> {
    let format = detect(&bytes[..bytes.len().min(65_536)], "x.json").map_err(|error| error.to_string())?;
    if let Format::Text(_) = format {
        return Err("read as text".to_owned());
    }
    let (given, reader) = read_as(format, bytes)?;
    let mut found = Outline { reports: reader.reports() as u64, ..Outline::default() };
    for said in &given.said {
        match said {
            Said::Indicator { indicator, .. } => {
                let value = &indicator.value;
                let name = value.other().map_or(value.kind().name().to_owned(), |other| format!("other:{other}"));
                *found.indicators.entry(name).or_default() += 1;
            }
            Said::Document(_) => found.documents += 1,
            Said::Sighting { .. } => found.sightings += 1,
            Said::Withdrawn { .. } => found.withdrawn += 1,
            Said::Older { .. } => (),
        }
    }
    found.complaints = given.complaints.iter().map(|one| format!("{} {}: {}", one.line, one.path, one.why)).collect();
    found.changed = reader.notes().changed.iter().map(|(how, tally)| (*how, tally.count)).collect();
    found.without = reader.notes().without_record.clone();
    Ok(found)
}

fn files_of(root: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { files_of(&path, found) } else { found.push(path) }
    }
    found.sort();
}

/// Compares `lines` with a file of this repository; `HUECRY_BLESS=1` writes it anew.
fn as_decided(name: &str, lines: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
    if std::env::var_os("HUECRY_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let decided = std::fs::read_to_string(&path).unwrap_or_default();
    for (here, there) in text.lines().zip(decided.lines()) {
        assert_eq!(here, there, "{name}: decided otherwise before");
    }
    assert_eq!(text.lines().count(), decided.lines().count(), "{name}");
}

fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = String::from_utf8(read(path)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A complaint without what it is about: values of the corpus are live.
fn reason(complaint: &str) -> String {
    let parts: Vec<&str> = complaint.split('`').collect();
    let quoted = |(at, part): (usize, &&str)| if at % 2 == 1 { "…".to_owned() } else { (*part).to_owned() };
    let text: String = parts.iter().enumerate().map(quoted).collect();
    let place = text.find(": ").map_or(0, |at| at + 2);
    let text = &text[place..];
    // Columns and offsets of serde are the file's.
    text.split(" at line ").next().unwrap().to_owned()
}

#[test]
fn every_stix_and_misp_file_of_the_corpus_is_accounted_for() {
    let Some(corpus) = corpus() else { return };
    let mut files = Vec::new();
    for folder in ["stix", "misp", "taxii"] {
        files_of(&corpus.join(folder), &mut files);
    }
    let apart = ["oasis-schemas", "misp/schema", "mapping", "taxonomies", "templates", "taxii/"];
    let mut lines = Vec::new();
    let (mut taken, mut documents, mut refused) = (0, 0, 0);
    for file in files {
        let name = file.strip_prefix(&corpus).unwrap().display().to_string();
        let is_json = name.contains(".json") || name.contains(".stix2");
        if !is_json || apart.iter().any(|word| name.contains(word)) {
            continue;
        }
        let found = match outline(&read(&file)) {
            Ok(found) => found,
            Err(why) => {
                lines.push(format!("{name}\trefused: {}", reason(&format!("x: {why}"))));
                continue;
            }
        };
        let count: u64 = found.indicators.values().sum();
        (taken, documents, refused) = (taken + count, documents + found.documents, refused + found.complaints.len());
        let parts = [
            ("reports", found.reports),
            ("indicators", count),
            ("documents", found.documents),
            ("sightings", found.sightings),
            ("withdrawn", found.withdrawn),
        ];
        let parts = parts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
        let changed = found.changed.iter().map(|(how, count)| format!("changed {count}: {how}"));
        let without = found.without.iter().map(|(kind, count)| format!("no record for {count} {kind}"));
        let complaints = found.complaints.iter().map(|one| format!("not taken: {}", reason(one)));
        lines.push(format!("{name}\t{}", parts.chain(changed).chain(without).chain(complaints).collect::<Vec<_>>().join("; ")));
    }
    println!("{taken} taken, {documents} as documents, {refused} not taken");
    as_decided("formats.tsv", &lines);
}

#[test]
fn the_pattern_grammar_takes_and_refuses_what_the_reference_validator_does() {
    let Some(corpus) = corpus() else { return };
    let cases = json_lines(&corpus.join("vectors/stix-patterns/grammar-cases.jsonl"));
    assert_eq!(cases.len(), 127);
    for case in cases {
        let text = case["pattern"].as_str().unwrap();
        let found = Pattern::parse(text);
        assert_eq!(found.is_ok(), case["valid"].as_bool().unwrap(), "{text}: {found:?}");
    }
    let examples = String::from_utf8(read(&corpus.join("vectors/stix-patterns/spec_examples-v21.txt"))).unwrap();
    for text in examples.lines().filter(|line| !line.trim().is_empty()) {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    // Cases of the matcher: what it cannot parse we refuse too; errors of matching are beyond a grammar.
    for case in json_lines(&corpus.join("vectors/stix-patterns/match-cases.jsonl")) {
        let text = case["pattern"].as_str().unwrap();
        let parsed = Pattern::parse(text);
        match case["error"].as_str() {
            // RFC 3339 section 5.6 lets no fraction of a minute be left out; the matcher's own rules are on our side.
            Some("ParseException") => assert!(parsed.is_err(), "{text}"),
            // A qualifier that stands twice is an error to the validator alone; so it is here.
            _ => assert!(parsed.as_ref().map_or_else(|error| error.why.contains("stands twice"), |_| true), "{text}: {parsed:?}"),
        }
    }
}

#[test]
fn every_case_of_the_stix_validator_is_accounted_for() {
    let Some(corpus) = corpus() else { return };
    let cases = json_lines(&corpus.join("vectors/stix-validator/cases-v21.jsonl"));
    assert_eq!(cases.len(), 476);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for case in cases {
        let bytes = match case.get("object") {
            Some(object) if !object.is_null() => serde_json::to_vec(object).unwrap(),
            _ => case["text"].as_str().unwrap().as_bytes().to_vec(),
        };
        let kind = case["object"]["type"].as_str().unwrap_or("text").to_owned();
        let sound = case["valid"] == true || case["valid_without_strict"] == true;
        let outcome = match outline(&bytes) {
            Err(why) => format!("refused: {}", reason(&format!("x: {why}"))),
            Ok(found) if !found.complaints.is_empty() => format!("refused: {}", reason(&found.complaints[0])),
            Ok(found) if !found.indicators.is_empty() => "taken".to_owned(),
            Ok(found) if found.documents > 0 => "as document".to_owned(),
            Ok(found) if found.reports + found.sightings + found.withdrawn > 0 => "taken".to_owned(),
            Ok(found) if !found.without.is_empty() => "no record is made of it".to_owned(),
            Ok(_) => "says nothing by itself".to_owned(),
        };
        *counts.entry(format!("{kind}\t{}\t{outcome}", if sound { "valid" } else { "not valid" })).or_default() += 1;
    }
    let lines: Vec<String> = counts.iter().map(|(what, count)| format!("{what}\t{count}")).collect();
    as_decided("stix-validator.tsv", &lines);
}

/// Values of a text in either format, with their types.
fn values(format: Format, text: &serde_json::Value) -> Result<Vec<(String, String)>, String> {
    let (given, _) = read_as(format, &serde_json::to_vec(text).unwrap())?;
    if let Some(complaint) = given.complaints.first() {
        return Err(format!("refused: {}", reason(&format!("x: {}", complaint.why))));
    }
    let value = |said: &Said| match said {
        Said::Indicator { indicator, .. } => {
            let value = &indicator.value;
            Some((value.other().unwrap_or(value.kind().name()).to_owned(), value.to_string()))
        }
        _ => None,
    };
    let mut values: Vec<_> = given.said.iter().filter_map(value).collect();
    values.sort();
    values.dedup();
    if values.is_empty() && given.said.iter().any(|said| matches!(said, Said::Document(_))) {
        return Err("as document".to_owned());
    }
    Ok(values)
}

#[test]
fn both_sides_of_the_reference_mapping_between_misp_and_stix_say_the_same() {
    let Some(corpus) = corpus() else { return };
    let mut lines = Vec::new();
    for file in [
        "misp_attributes_to_stix21.json",
        "misp_attributes_to_stix20.json",
        "stix21_to_misp_attributes.json",
        "external_stix21_to_misp_attributes.json",
        "misp_objects_to_stix21.json",
    ] {
        let mapping: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&read(&corpus.join("misp/misp-stix-mapping").join(file))).unwrap();
        for (name, entry) in mapping {
            let sides: Vec<(String, &serde_json::Value)> = if entry.get("MISP").is_some() {
                vec![(String::new(), &entry)]
            } else {
                entry.as_object().unwrap().iter().map(|(way, one)| (format!(" ({way})"), one)).collect()
            };
            for (way, side) in sides {
                let first = if side["MISP"].is_array() { &side["MISP"][0] } else { &side["MISP"] };
                let key = if first.get("Attribute").is_some() { "Object" } else { "Attribute" };
                let list = |value: &serde_json::Value| if value.is_array() { value.clone() } else { serde_json::json!([value]) };
                let event = serde_json::json!({ "Event": { "info": "i", key: list(&side["MISP"]) } });
                let objects = list(&side["STIX"]);
                let bundle = serde_json::json!({ "type": "bundle", "objects": objects });
                let outcome = match (values(Format::Misp, &event), values(Format::Stix, &bundle)) {
                    (Err(left), Err(right)) if left == right => left,
                    (Err(left), Err(right)) => format!("MISP {left}; STIX {right}"),
                    (Err(left), Ok(_)) => format!("MISP {left}; STIX taken"),
                    (Ok(_), Err(right)) => format!("MISP taken; STIX {right}"),
                    (Ok(left), Ok(right)) if left == right && !left.is_empty() => "the same".to_owned(),
                    (Ok(_), Ok(right)) if right.is_empty() => "MISP taken; STIX has no record for it".to_owned(),
                    (Ok(left), Ok(right)) => {
                        let types =
                            |values: &[(String, String)]| values.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>().join(" ");
                        let shared = right.iter().filter(|value| left.contains(value)).count();
                        format!("MISP {}; STIX {}; {shared} shared", types(&left), types(&right))
                    }
                };
                lines.push(format!("{file}\t{name}{way}\t{outcome}"));
            }
        }
    }
    let same = lines.iter().filter(|line| line.ends_with("\tthe same")).count();
    println!("{same} of {} say the same", lines.len());
    as_decided("misp-stix-mapping.tsv", &lines);
}

/// Everything that a file says can be said: a record that its readers would refuse would stop all of the file.
fn can_be_said(format: Format, bytes: &[u8]) {
    let text = TextReader::new(Layout::Plain, None);
    let mut reader = Reader::new(&About { format, title: "title".to_owned(), text, subdomains: false }, bytes);
    let Ok(given) = feed(&mut reader, bytes) else { return };
    for said in given.said {
        match said {
            Said::Indicator { indicator, group, .. } => {
                Record::Indicator(*indicator).encode().unwrap();
                Record::Report(reader.group(group).report).encode().unwrap();
            }
            Said::Sighting { sighting, .. } => drop(Record::Sighting(*sighting).encode().unwrap()),
            Said::Document(attached) => {
                let hash = ContentHash([7; 32]);
                let Attached { title, media_type, tags, .. } = attached;
                let content = Content::Hash { hash, length: 1 };
                let (description, language, targets, replaces) = (None, None, Vec::new(), None);
                let document = Document { title, media_type, content, description, language, tags, targets, replaces };
                Record::Document(document).encode().unwrap();
            }
            Said::Withdrawn { .. } | Said::Older { .. } => (),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_a_changed_file_says_can_be_said_and_nothing_panics(
        misp in any::<bool>(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..40), 1..4),
        put in prop_oneof![
            Just("\u{0}"), Just("\\u0000"), Just("\""), Just(""), Just("9999999999999999999999"), Just("-1"), Just("null"), Just("{}"), Just("[]"),
            Just("2026-99-99"), Just("\\ud800"), Just("e\u{301}"), Just("true"), Just("\\n"), Just("'"), Just("]"), Just("0001-01-01T00:00:00Z"),
        ],
    ) {
        let text = if misp { crate::importing::EVENT } else { crate::importing::BUNDLE };
        let mut bytes = text.as_bytes().to_vec();
        for (from, to, length) in cuts {
            // A piece of the file again somewhere else, or what hurts.
            let at = from.index(bytes.len());
            let start = to.index(bytes.len());
            let piece: Vec<u8> = if length < 20 { put.as_bytes().to_vec() } else { bytes[start..(start + length).min(bytes.len())].to_vec() };
            let end = (at + length / 2).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        can_be_said(if misp { Format::Misp } else { Format::Stix }, &bytes);
    }
}
