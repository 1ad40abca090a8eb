//! Questions: whatever way the planner takes, it finds what a slow look at every record finds; and pages tell everything once.

use crate::partnership::{day, founded_at};
use huecry::{
    envelope::Class,
    intake::value_of,
    ledger::{ErasedBy, ErasureEntry, Ledger, Place, grouped},
    node::door::{Publication, ReportOf, TakeBack},
    query::{Answer, Question, Reading, Sort, Standing, answer},
    record::{
        Indicator, Kind, Observable, ObservableType, Reason, Record, RecordRef, Report, Scope, Sighted, Sighting, SightingKind, Source,
        Timestamp, Tlp,
    },
    sim::Dice,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
};

const WORDS: [&str; 10] = ["emotet", "botnet", "Loader", "campaign", "against", "banks", "phishing", "Täter", "c2", "wave"];
const TAGS: [&str; 4] = ["apt", "tlp:test", "Crimeware", "spam"];
const ACTORS: [&str; 3] = ["Lazy Bear", "TA-0", "night owl"];
const SOURCES: [&str; 3] = ["Lab One", "lab two", "own"];
const VALUES: [&str; 22] = [
    "evil.example",
    "www.evil.example",
    "a.www.evil.example",
    "notevil.example",
    "evil.example.org",
    "http://evil.example/x",
    "http://www.evil.example/y",
    "evil.example:8080",
    "boss@evil.example",
    "192.0.2.1",
    "192.0.2.77",
    "192.0.2.0/24",
    "192.0.2.64/26",
    "198.51.100.7",
    "http://192.0.2.1/login",
    "2001:db8::1",
    "2001:db8::/32",
    "d41d8cd98f00b204e9800998ecf8427e",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "mail.example",
    "x.mail.example",
    "someone@mail.example",
];

fn pick<'a>(dice: &mut Dice, from: &[&'a str]) -> &'a str {
    from[dice.below(from.len() as u64) as usize]
}

fn value(text: &str) -> Observable {
    Observable::recognise(text).unwrap()
}

fn report(dice: &mut Dice) -> Report {
    let words: Vec<&str> = (0..1 + dice.below(4)).map(|_| pick(dice, &WORDS)).collect();
    Report {
        kind: Kind::Report,
        role: None,
        usage: None,
        confidence: dice.percent(70).then(|| dice.below(101) as u8),
        valid_from: None,
        valid_until: None,
        tags: if dice.percent(50) { vec![pick(dice, &TAGS).to_owned()] } else { Vec::new() },
        title: words.join(" "),
        description: dice.percent(40).then(|| format!("{}, {}!", pick(dice, &WORDS), pick(dice, &WORDS))),
        language: None,
        actors: if dice.percent(40) { vec![pick(dice, &ACTORS).to_owned()] } else { Vec::new() },
        malware: Vec::new(),
        techniques: Vec::new(),
        references: Vec::new(),
        source: dice.percent(60).then(|| Source { organisation: Some(pick(dice, &SOURCES).to_owned()), url: None, external_id: None }),
        caveat: None,
        replaces: None,
    }
}

fn records(dice: &mut Dice, sightings: u64) -> Vec<Record> {
    let one = |dice: &mut Dice| {
        let text = pick(dice, &VALUES);
        if dice.percent(sightings) {
            let of = Sighted::Value(value(text));
            return Record::Sighting(Sighting {
                of,
                sighting: SightingKind::Seen,
                count: None,
                from: None,
                until: None,
                country: None,
                description: None,
            });
        }
        let mut indicator = Indicator::of(value(text), None);
        if indicator.value.kind() == ObservableType::Domain && dice.percent(30) {
            indicator.scope = Some(Scope::Subdomains);
        }
        indicator.tags = if dice.percent(15) { vec![pick(dice, &TAGS).to_owned()] } else { Vec::new() };
        indicator.confidence = dice.percent(20).then(|| dice.below(101) as u8);
        Record::Indicator(indicator)
    };
    (0..1 + dice.below(9)).map(|_| one(dice)).collect()
}

/// The police unit's ledger after some months: two authors, reports and what hangs on them, some of it taken back, over or erased.
fn filled(place: &std::path::Path) -> (Ledger, Timestamp) {
    let mut dice = Dice::new(7);
    let hand = Arc::new(AtomicU64::new(day(1).ms()));
    let (mut police, mut vendor) = founded_at(place, &hand);
    for days in 1..=90 {
        hand.store(day(days).ms(), Ordering::SeqCst);
        let ours = dice.percent(40);
        let alone = dice.percent(15);
        let publication = Publication {
            channel: "c2".parse().unwrap(),
            class: Class::Content,
            tlp: if dice.percent(40) { Tlp::Clear } else { Tlp::Green },
            report: if alone { ReportOf::None } else { ReportOf::New(Box::new(report(&mut dice))) },
            records: records(&mut dice, if ours { 12 } else { 0 }),
        };
        let node = if ours { &mut police } else { &mut vendor };
        let done = node.door.publish(publication, &mut Vec::new()).unwrap();
        node.door.commit().unwrap();
        if dice.percent(15) {
            let targets = vec![if dice.percent(50) { done.first } else { done.report.or(done.last) }.unwrap()];
            node.door.withdraw(TakeBack { targets, reason: Reason::Wrong, note: None }, &mut Vec::new()).unwrap();
            node.door.commit().unwrap();
        }
        police.pull(&vendor, "vendor-one", day(days));
        if days == 45 {
            // Half of it is known when what is known begins to be remembered, and half comes then.
            police.door.write_index().unwrap();
            police.ledger.remember_known().join().unwrap();
        }
    }
    let erased: Vec<RecordRef> =
        ["vendor-one/c2#3.1", "vendor-one/c2#9.0", "xa-police/c2#2.1"].iter().map(|name| name.parse().unwrap()).collect();
    let entry = ErasureEntry {
        at: day(90),
        by: None,
        because: ErasedBy::Order,
        text: "test".to_owned(),
        places: grouped(erased),
        decisions: Vec::new(),
    };
    police.door.erase(&entry).unwrap();
    police.door.write_index().unwrap();
    (police.ledger.clone(), day(91))
}

fn question(dice: &mut Dice) -> Question {
    let mut question = Question { all: dice.percent(60), limit: 10_000, ..Question::default() };
    if dice.percent(55) {
        question.text = Some(match dice.below(10) {
            0 => "*.evil.example".to_owned(),
            1 => "*.mail.example".to_owned(),
            2 => "192.0.2.0/25".to_owned(),
            3 => "192.0.0.0/8".to_owned(),
            4 => "2001:db8:1::/48".to_owned(),
            5 => "deep.below.evil.example".to_owned(),
            _ => pick(dice, &VALUES).to_owned(),
        });
    }
    question.words =
        dice.percent(30).then(|| (0..1 + dice.below(2)).map(|_| pick(dice, &WORDS).to_uppercase()).collect::<Vec<_>>().join(" "));
    question.tag = dice.percent(15).then(|| pick(dice, &TAGS).to_lowercase());
    question.actor = dice.percent(12).then(|| pick(dice, &ACTORS).to_uppercase());
    question.source = dice.percent(15).then(|| pick(dice, &SOURCES).to_uppercase());
    question.origin = dice.percent(20).then(|| pick(dice, &["vendor-one", "xa-police", "vendor-two"]).parse().unwrap());
    question.channel = dice.percent(10).then(|| pick(dice, &["c2", "other"]).parse().unwrap());
    question.kind = dice.percent(15).then_some([ObservableType::Domain, ObservableType::Ipv4, ObservableType::Url][dice.below(3) as usize]);
    question.record = dice.percent(15).then_some([Kind::Indicator, Kind::Sighting, Kind::Report][dice.below(3) as usize]);
    question.since = dice.percent(15).then(|| day(1 + dice.below(90)));
    question.until = dice.percent(15).then(|| day(1 + dice.below(90)));
    question.tlp_max = dice.percent(20).then_some(Tlp::Clear);
    question.sort = [Sort::Value, Sort::Newest, Sort::Confidence][dice.below(3) as usize];
    question
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.to_lowercase().split(|char: char| !char.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// All text, tags and actors of one record, in lower case.
fn prose(record: &Record) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) {
    let lower = |texts: &[String]| texts.iter().map(|text| text.to_lowercase()).collect::<BTreeSet<_>>();
    match record {
        Record::Report(report) => {
            let all =
                [report.title.clone(), report.description.clone().unwrap_or_default(), report.tags.join(" "), report.actors.join(" ")];
            (words(&all.join(" ")).collect(), lower(&report.tags), lower(&report.actors))
        }
        Record::Indicator(indicator) => (words(&indicator.tags.join(" ")).collect(), lower(&indicator.tags), BTreeSet::new()),
        _ => Default::default(),
    }
}

/// Whether what is said of `about` belongs to an answer about `text`, by the rules of the help text and nothing else.
fn concerns(text: &str, about: &Observable, scope: Option<Scope>) -> bool {
    let host = about.host().map(|host| host.into_owned());
    if let Some(name) = text.strip_prefix("*.") {
        let below = |host: &str| host == name || host.ends_with(&format!(".{name}"));
        return host.as_deref().or(about.text().filter(|_| about.kind() == ObservableType::Domain)).is_some_and(below);
    }
    let (theirs, asked_net) = (about.network(), text.parse::<ipnet::IpNet>().ok());
    if let Some(net) = asked_net {
        return theirs.is_some_and(|theirs| net.contains(&theirs) || theirs.contains(&net));
    }
    let asked = value(text);
    if *about == asked {
        return true;
    }
    let stands_on = |name: &str| about.kind() != ObservableType::Domain && host.as_deref() == Some(name);
    if let Some(net) = asked.network() {
        return theirs.is_some_and(|theirs| theirs.contains(&net) && theirs != net)
            || (theirs.is_none() && stands_on(&net.addr().to_string()));
    }
    if asked.kind() == ObservableType::Domain {
        let name = asked.to_string();
        let above = about.kind() == ObservableType::Domain && name.ends_with(&format!(".{about}")) && scope == Some(Scope::Subdomains);
        return above || stands_on(&name);
    }
    false
}

/// What a look at every single record finds: value or nothing, and name.
fn slowly(ledger: &Ledger, question: &Question, now: Timestamp) -> BTreeSet<(String, String)> {
    let (mut reading, mut found) = (Reading::whole(ledger, now), BTreeSet::new());
    for number in 0..ledger.batches() {
        let count = reading.batch(number).unwrap().unwrap().head.count;
        for index in 0..count {
            let Some(one) = reading.found(Place { batch: number, index }).unwrap() else { continue };
            let report = one.report.as_ref().and_then(|report| reading.named(report).unwrap());
            let (mut text, mut tags, mut actors) = prose(&one.record);
            if let Some(report) = report.as_ref().filter(|report| question.tlp_max.is_none_or(|tlp| report.batch.head.tlp <= tlp)) {
                let (more_text, more_tags, more_actors) = prose(&report.record);
                text.extend(more_text);
                tags.extend(more_tags);
                actors.extend(more_actors);
            }
            let source = match &one.record {
                Record::Report(report) => report.source.clone(),
                _ => report
                    .as_ref()
                    .and_then(|report| if let Record::Report(report) = &report.record { report.source.clone() } else { None }),
            };
            let about = value_of(&one.record);
            let prosaic = question.words.is_some() || question.tag.is_some() || question.actor.is_some();
            let valueless = question.record.is_some_and(|kind| !matches!(kind, Kind::Indicator | Kind::Sighting));
            let scope = if let Record::Indicator(indicator) = &one.record { indicator.scope } else { None };
            let (head, received) = (&one.batch.head, one.batch.entry.received);
            let meant = match (&question.text, about) {
                (Some(text), Some(about)) => concerns(text, about, scope),
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (None, None) => prosaic || valueless,
            };
            let standing = reading.standing(&one).0;
            let fits = meant
                && question.words.as_ref().is_none_or(|asked| words(asked).all(|word| text.contains(&word)))
                && question.tag.as_ref().is_none_or(|tag| tags.contains(&tag.to_lowercase()))
                && question.actor.as_ref().is_none_or(|actor| actors.contains(&actor.to_lowercase()))
                && question.source.as_ref().is_none_or(|asked| {
                    source
                        .as_ref()
                        .and_then(|source| source.organisation.as_ref())
                        .is_some_and(|its| its.to_lowercase() == asked.to_lowercase())
                })
                && question.origin.as_ref().is_none_or(|origin| head.member == *origin)
                && question.channel.as_ref().is_none_or(|channel| head.channel == *channel)
                && question.kind.is_none_or(|kind| about.is_some_and(|about| about.kind() == kind))
                && question.record.is_none_or(|kind| one.record.kind() == kind)
                && question.since.is_none_or(|since| received >= since)
                && question.until.is_none_or(|until| received < until)
                && question.tlp_max.is_none_or(|tlp| head.tlp <= tlp)
                && (question.all || standing == Standing::Accepted);
            if fits {
                found.insert((about.map(ToString::to_string).unwrap_or_default(), one.reference.to_string()));
            }
        }
    }
    found
}

fn pairs(answer: &Answer) -> BTreeSet<(String, String)> {
    let of_values = answer.values.iter().flat_map(|one| one.assertions.iter().map(|said| (one.value.clone(), said.reference.clone())));
    of_values.chain(answer.records.iter().map(|one| (String::new(), one.assertion.reference.clone()))).collect()
}

#[test]
fn whatever_is_asked_the_planner_finds_what_a_slow_look_at_every_record_finds() {
    let place = tempfile::tempdir().unwrap();
    let (ledger, now) = filled(place.path());
    let (mut dice, mut answered) = (Dice::new(11), 0);
    for round in 0..400 {
        let question = question(&mut dice);
        let whole = answer(&ledger, &question, now).unwrap_or_else(|error| panic!("{round}: {question:?}: {error}"));
        let slow = slowly(&ledger, &question, now);
        assert_eq!(pairs(&whole), slow, "round {round}: {question:?}");
        assert!(!whole.cut, "round {round}");
        answered += usize::from(!slow.is_empty());
        // Page by page, three at a time, it is the same in the same order, each value once.
        let (mut paged, mut records, mut cursor) = (Vec::new(), Vec::new(), None);
        loop {
            let page = answer(&ledger, &Question { limit: 3, cursor: cursor.clone(), ..question.clone() }, now).unwrap();
            paged.extend(page.values.iter().map(|one| one.value.clone()));
            records.extend(page.records.iter().map(|one| one.assertion.reference.clone()));
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(paged, whole.values.iter().map(|one| one.value.clone()).collect::<Vec<_>>(), "round {round}: {question:?}");
        if question.record == Some(Kind::Report)
            && question.text.is_none()
            && question.words.is_none()
            && question.tag.is_none()
            && question.actor.is_none()
        {
            assert_eq!(records, whole.records.iter().map(|one| one.assertion.reference.clone()).collect::<Vec<_>>(), "round {round}");
        }
    }
    assert!(answered > 150, "{answered} questions had an answer");
}

#[test]
fn a_cursor_is_of_one_question_in_one_order() {
    let place = tempfile::tempdir().unwrap();
    let (ledger, now) = filled(place.path());
    let first = answer(&ledger, &Question { limit: 2, ..Question::default() }, now).unwrap();
    for (cursor, sort) in [(first.cursor.clone().unwrap(), Sort::Newest), ("rubbish".to_owned(), Sort::Value), (String::new(), Sort::Value)]
    {
        let error = answer(&ledger, &Question { cursor: Some(cursor), sort, ..Question::default() }, now).unwrap_err().to_string();
        assert!(error.contains("is no cursor"), "{error}");
    }
}
