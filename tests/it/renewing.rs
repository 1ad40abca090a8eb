//! Renewals: reports that hold longer, here and wherever they are, whatever comes first, and over restarts.

use crate::{
    partnership::{Node, founded_at, reopened_at},
    support::{code, founded, huecry, json_of, stderr, stdout},
};
use huecry::{
    envelope::Class,
    ledger::Ledger,
    node::door::{Publication, ReportOf, TakeBack},
    query::{Question, Standing, answer},
    record::*,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::partnership::day;

fn publish(node: &mut Node, report: ReportOf, records: Vec<Record>) -> RecordRef {
    let (channel, class) = ("c2".parse().unwrap(), Class::Content);
    let publication = Publication { channel, class, tlp: Tlp::Green, report, records };
    let done = node.door.publish(publication, &mut Vec::new()).unwrap();
    node.door.commit().unwrap();
    done.report.or(done.first).unwrap()
}

fn indicator(value: &str) -> Indicator {
    Indicator::of(Observable::recognise(value).unwrap(), None)
}

/// A report that holds until `until`, with these values, and one that has an end of its own a day later.
fn report(node: &mut Node, values: &[String], until: Timestamp) -> RecordRef {
    let report = Report { confidence: Some(80), valid_until: Some(until), ..Report::titled("Holds for a while".to_owned()) };
    let own = Indicator { valid_until: Some(until.plus_ms(DAY_MS)), ..indicator("own-end.example") };
    let records = values.iter().map(|value| indicator(value)).chain([own]).map(Record::Indicator).collect();
    publish(node, ReportOf::New(Box::new(report)), records)
}

fn renew(node: &mut Node, report: &RecordRef, until: Timestamp) -> RecordRef {
    let renewal = Renewal { kind: Kind::Renewal, valid_until: until, targets: vec![WireRef::Whole(report.clone())] };
    let record = publish(node, ReportOf::None, vec![Record::Renewal(renewal)]);
    carry_out(node);
    record
}

/// Answers in how many goes.
fn carry_out(node: &mut Node) -> usize {
    let mut goes = 1;
    while node.door.carry_out_renewals().unwrap() {
        goes += 1;
    }
    node.door.write_index().unwrap();
    goes
}

fn found(ledger: &Ledger, value: &str, now: Timestamp) -> (Standing, String) {
    let question = Question { text: Some(value.to_owned()), all: true, ..Question::default() };
    let answer = answer(ledger, &question, now).unwrap();
    let one = &answer.values[0].assertions[0];
    (one.standing, one.ends.clone())
}

/// Whether a value is found by the rows of the index alone, which say by themselves when something ends.
fn in_index(ledger: &Ledger, value: &str, now: Timestamp) -> bool {
    let value = Observable::recognise(value).unwrap();
    !huecry::query::Reading::whole(ledger, now).places(&value).unwrap().is_empty()
}

#[test]
fn what_is_renewed_holds_longer_everywhere_and_what_has_an_end_of_its_own_does_not() {
    let (place, hand) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(day(1).ms())));
    let (mut police, mut vendor) = founded_at(place.path(), &hand);
    let values: Vec<String> = (0..600).map(|number| format!("n{number}.example")).collect();
    let report = report(&mut vendor, &values, day(3));
    police.pull(&vendor, "vendor-one", day(1));
    assert_eq!(found(&police.ledger, "n7.example", day(4)).0, Standing::Over);
    hand.store(day(2).ms(), Ordering::SeqCst);
    let renewal = renew(&mut vendor, &report, day(60));
    police.pull(&vendor, "vendor-one", day(2));
    carry_out(&mut police);
    for ledger in [&vendor.ledger, &police.ledger] {
        for value in ["n0.example", "n7.example", "n599.example"] {
            assert_eq!(found(ledger, value, day(30)), (Standing::Accepted, day(60).to_string()), "{value}");
            assert!(in_index(ledger, value, day(30)) && !in_index(ledger, value, day(62)), "{value}");
        }
        assert_eq!(found(ledger, "own-end.example", day(30)), (Standing::Over, day(4).to_string()));
    }
    // What comes after inherits the new end at once.
    publish(&mut vendor, ReportOf::Known(report.clone()), vec![Record::Indicator(indicator("late.example"))]);
    police.pull(&vendor, "vendor-one", day(2));
    assert_eq!(found(&police.ledger, "late.example", day(30)), (Standing::Accepted, day(60).to_string()));
    // A shorter one changes nothing; whose renewal is taken back, ends when it did.
    renew(&mut vendor, &report, day(20));
    police.pull(&vendor, "vendor-one", day(2));
    carry_out(&mut police);
    assert_eq!(found(&police.ledger, "n7.example", day(30)), (Standing::Accepted, day(60).to_string()));
    vendor.door.withdraw(TakeBack { targets: vec![renewal], reason: Reason::Wrong, note: None }, &mut Vec::new()).unwrap();
    vendor.door.commit().unwrap();
    police.pull(&vendor, "vendor-one", day(2));
    carry_out(&mut police);
    assert_eq!(found(&police.ledger, "n7.example", day(19)), (Standing::Accepted, day(20).to_string()), "the shorter one is left");
    assert_eq!(found(&police.ledger, "late.example", day(30)).0, Standing::Over);
    assert_eq!(found(&police.ledger, "n7.example", day(30)).0, Standing::Over);
    // The journal alone says the same.
    let counts = |node: &Node| node.ledger.feed(&report.feed).unwrap().counts;
    let before = counts(&police);
    drop(police);
    for derived in ["state", "index"] {
        std::fs::remove_dir_all(place.path().join("police/ledger").join(derived)).unwrap();
    }
    let (mut police, _) = reopened_at(place.path(), &hand);
    assert_eq!(found(&police.ledger, "n7.example", day(19)), (Standing::Accepted, day(20).to_string()));
    assert_eq!((found(&police.ledger, "n7.example", day(30)).0, counts(&police)), (Standing::Over, before));
    assert!(!police.door.carry_out_renewals().unwrap(), "nothing is left to do");
}

#[test]
fn who_comes_late_finds_what_was_renewed_before_whatever_comes_first() {
    let (place, hand) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(day(1).ms())));
    let (mut police, mut vendor) = founded_at(place.path(), &hand);
    let values: Vec<String> = (0..300).map(|number| format!("n{number}.example")).collect();
    let report = report(&mut vendor, &values, day(3));
    let renewal = renew(&mut vendor, &report, day(60));
    hand.store(day(5).ms(), Ordering::SeqCst);
    // The report is over when it comes, and refused for that; then its renewal comes.
    police.pull(&vendor, "vendor-one", day(5));
    carry_out(&mut police);
    assert_eq!(found(&police.ledger, "n7.example", day(5)), (Standing::Accepted, day(60).to_string()));
    assert_eq!(found(&police.ledger, "own-end.example", day(5)).0, Standing::Refused);
    let explained = huecry::query::Reading::whole(&police.ledger, day(5)).named(&report).unwrap().unwrap();
    assert_eq!(explained.outcome.verdict(), Some(huecry::policy::Verdict::Accept), "the report itself too");

    // The renewal first, the batches that it is about afterwards.
    let (mut other, _) = founded_at(&place.path().join("other"), &hand);
    // By what its report says, which is not here yet: unsaid, it would be unsure.
    judge_by(&other, "@id(\"sure\") permit (principal, action == Action::\"accept\", resource) when { resource.confidence >= 60 };");
    let from: Vec<u64> = vendor.ledger.feed(&report.feed).unwrap().spans.iter().collect();
    for seq in from.into_iter().rev() {
        other.take(&vendor, &report.feed, seq);
    }
    other.door.judge_waiting().unwrap();
    carry_out(&mut other);
    assert_eq!(renewal.seq, vendor.ledger.feed(&report.feed).unwrap().last());
    assert_eq!(found(&other.ledger, "n7.example", day(5)), (Standing::Accepted, day(60).to_string()));
    assert!(in_index(&other.ledger, "n299.example", day(5)));
}

#[test]
fn a_renewal_is_carried_out_to_its_end_although_the_node_stops_in_the_middle() {
    let (place, hand) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(day(1).ms())));
    let (mut police, mut vendor) = founded_at(place.path(), &hand);
    // More batches than one go looks at.
    let values: Vec<String> = (0..256 * 40).map(|number| format!("n{number}.example")).collect();
    let report = report(&mut vendor, &values, day(3));
    police.pull(&vendor, "vendor-one", day(1));
    assert!(renew(&mut vendor, &report, day(60)).seq > 40);
    police.pull(&vendor, "vendor-one", day(1));
    assert!(police.door.carry_out_renewals().unwrap(), "there is more");
    drop(police);
    // What is asked meanwhile knows by the state what is not carried out yet.
    let (mut police, _) = reopened_at(place.path(), &hand);
    assert_eq!(police.ledger.renewing(10).unwrap(), std::slice::from_ref(&report));
    assert!(carry_out(&mut police) >= 3);
    assert!(police.ledger.renewing(10).unwrap().is_empty());
    for number in [0, 255, 256, 9_000, 256 * 40 - 1] {
        assert_eq!(found(&police.ledger, &format!("n{number}.example"), day(30)).0, Standing::Accepted, "{number}");
    }
    assert_eq!(carry_out(&mut police), 1, "done is done");
}

#[test]
fn a_renewal_that_a_policy_refuses_puts_nothing_off() {
    let (place, hand) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(day(1).ms())));
    let (mut police, mut vendor) = founded_at(place.path(), &hand);
    let report = report(&mut vendor, &["one.example".to_owned()], day(3));
    police.pull(&vendor, "vendor-one", day(1));
    let text = "@id(\"no-more-of-them\") @reason(\"not from them\") forbid (principal, action, resource);";
    let policy = huecry::policy::Policy::parse("policy.cedar", text).unwrap();
    police.current.set_rules(policy, huecry::policy::Lists::default());
    renew(&mut vendor, &report, day(60));
    police.pull(&vendor, "vendor-one", day(1));
    carry_out(&mut police);
    assert_eq!(found(&police.ledger, "one.example", day(2)), (Standing::Accepted, day(3).to_string()), "what was let in stands to its end");
    assert_eq!(found(&police.ledger, "one.example", day(30)).0, Standing::Over);
    // Nobody renews another member's reports.
    let text = huecry::policy::Starter::National.policy();
    police.current.set_rules(huecry::policy::Policy::parse("policy.cedar", text).unwrap(), huecry::policy::Lists::default());
    let foreign = Renewal { kind: Kind::Renewal, valid_until: day(90), targets: vec![WireRef::Whole(report)] };
    let publication = Publication {
        channel: "c2".parse().unwrap(),
        class: Class::Content,
        tlp: Tlp::Green,
        report: ReportOf::None,
        records: vec![Record::Renewal(foreign)],
    };
    let refused = police.door.publish(publication, &mut Vec::new()).unwrap_err();
    assert!(refused.to_string().contains("a record of another member"), "{refused}");
}

fn judge_by(node: &Node, text: &str) {
    let policy = huecry::policy::Policy::parse("policy.cedar", text).unwrap();
    node.current.set_rules(policy, huecry::policy::Lists::default());
}

#[test]
fn what_one_renewal_changed_stands_although_the_next_one_changes_less() {
    let (place, hand) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(day(1).ms())));
    let (mut police, mut vendor) = founded_at(place.path(), &hand);
    let report = report(&mut vendor, &["a.example", "b.example", "192.0.2.7"].map(str::to_owned), day(3));
    let shorter = renew(&mut vendor, &report, day(60));
    police.pull(&vendor, "vendor-one", day(1));
    carry_out(&mut police);
    let permit = "@id(\"all\") permit (principal, action == Action::\"accept\", resource);";
    let no_addresses = format!("{permit} @id(\"no-addresses\") forbid (principal, action, resource) when {{ resource.type == \"ipv4\" }};");
    judge_by(&police, &no_addresses);
    renew(&mut vendor, &report, day(90));
    police.pull(&vendor, "vendor-one", day(1));
    carry_out(&mut police);
    assert_eq!(found(&police.ledger, "192.0.2.7", day(30)).0, Standing::Refused);
    judge_by(
        &police,
        &format!("{no_addresses} @id(\"no-a\") forbid (principal, action, resource) when {{ resource.type == \"domain\" }};"),
    );
    vendor.door.withdraw(TakeBack { targets: vec![shorter], reason: Reason::Wrong, note: None }, &mut Vec::new()).unwrap();
    vendor.door.commit().unwrap();
    police.pull(&vendor, "vendor-one", day(1));
    carry_out(&mut police);
    for value in ["a.example", "b.example", "192.0.2.7"] {
        assert_eq!(found(&police.ledger, value, day(30)).0, Standing::Refused, "{value}");
    }
    // With everything permitted again, all of it holds as long as the renewal that is left.
    judge_by(&police, permit);
    renew(&mut vendor, &report, day(91));
    police.pull(&vendor, "vendor-one", day(1));
    carry_out(&mut police);
    for value in ["a.example", "b.example", "192.0.2.7"] {
        assert_eq!(found(&police.ledger, value, day(30)), (Standing::Accepted, day(91).to_string()), "{value}");
    }
}

#[test]
fn a_renewal_of_several_reports_renews_those_that_are_let_in() {
    let (place, hand) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(day(1).ms())));
    let (mut police, mut vendor) = founded_at(place.path(), &hand);
    judge_by(&police, "@id(\"sure\") permit (principal, action == Action::\"accept\", resource) when { resource.confidence >= 60 };");
    let said = |node: &mut Node, value: &str, confidence: u8| {
        let report = Report { confidence: Some(confidence), valid_until: Some(day(3)), ..Report::titled(value.to_owned()) };
        publish(node, ReportOf::New(Box::new(report)), vec![Record::Indicator(indicator(value))])
    };
    let reports = [said(&mut vendor, "unsure.example", 30), said(&mut vendor, "sure.example", 80)];
    let targets = reports.iter().cloned().map(WireRef::Whole).collect();
    publish(&mut vendor, ReportOf::None, vec![Record::Renewal(Renewal { kind: Kind::Renewal, valid_until: day(60), targets })]);
    police.pull(&vendor, "vendor-one", day(1));
    carry_out(&mut police);
    assert_eq!(found(&police.ledger, "sure.example", day(30)), (Standing::Accepted, day(60).to_string()));
    assert_eq!(found(&police.ledger, "unsure.example", day(2)).0, Standing::Refused);
}

#[test]
fn reports_are_renewed_by_hand_and_what_cannot_be_says_why() {
    let data = founded();
    let about = ["--confidence", "80", "--valid-days", "3", "--title", "Three days"];
    let list = data.path().join("list.txt");
    std::fs::write(&list, "one.example\ntwo.example\n").unwrap();
    let published = json_of(&huecry(data.path(), &[&["--json", "publish", list.to_str().unwrap()][..], &about].concat()));
    let (report, first) = (published["report"].as_str().unwrap(), published["first"].as_str().unwrap());
    let renew = |words: &[&str]| huecry(data.path(), &[&["renew"][..], words].concat());
    for (words, why) in [
        (&[first, "--valid-days", "30"][..], "what is renewed is its whole report"),
        (&[report, "--valid-until", "2001-01-01"], "is over"),
        (&[report, "--valid-until", "soon"], "is no time"),
        (&[report], "--valid-days"),
        (&["xa-police/c2#99.0", "--valid-days", "30"], "is not here"),
        (&["rubbish", "--valid-days", "30"], "does not name a record"),
    ] {
        let output = renew(words);
        assert!(code(&output) != 0 && stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
    }
    // A command that was cut off is given again: what holds as long already is passed over.
    let output = renew(&[report, "--valid-days", "1"]);
    assert!(code(&output) == 0 && stdout(&output).contains("holds as long already"), "{}", stderr(&output));
    assert_eq!(code(&renew(&[report, "--valid-days", "90"])), 0);
    let other = data.path().join("other.txt");
    std::fs::write(&other, "three.example\n").unwrap();
    let second = json_of(&huecry(data.path(), &[&["--json", "publish", other.to_str().unwrap()][..], &about].concat()));
    let both = stdout(&renew(&[report, second["report"].as_str().unwrap(), "--valid-days", "60"]));
    assert!(both.contains("holds as long already") && both.contains("renewed "), "{both}");
    for value in ["one.example", "two.example"] {
        let answer = json_of(&huecry(data.path(), &["--json", "query", value]));
        let end = Timestamp::parse(answer["values"][0]["assertions"][0]["ends"].as_str().unwrap()).unwrap();
        assert!(end.ms_since(huecry::clock::Clock::System.now()) > 89 * DAY_MS, "{answer}");
    }
    let whole = huecry(data.path(), &["ledger", "verify"]);
    assert_eq!(code(&whole), 0, "{}", stderr(&whole));
    // What is erased after it was renewed is gone, however often it is looked at, and a rebuild agrees.
    assert_eq!(code(&huecry(data.path(), &["erase", "two.example", "--order", "Test Court 1", "--yes"])), 0);
    let whole = huecry(data.path(), &["ledger", "verify"]);
    assert_eq!(code(&whole), 0, "{}", stderr(&whole));
    assert_eq!(code(&huecry(data.path(), &["query", "two.example", "--all"])), 1);
    for derived in ["state", "index"] {
        std::fs::remove_dir_all(data.path().join("ledger").join(derived)).unwrap();
    }
    assert_eq!(code(&huecry(data.path(), &["query", "two.example", "--all"])), 1);
    let answer = json_of(&huecry(data.path(), &["--json", "query", "one.example"]));
    let end = Timestamp::parse(answer["values"][0]["assertions"][0]["ends"].as_str().unwrap()).unwrap();
    assert!(end.ms_since(huecry::clock::Clock::System.now()) > 89 * DAY_MS, "{answer}");
    assert_eq!(code(&huecry(data.path(), &["withdraw", report])), 0);
    let output = renew(&[report, "--valid-days", "120"]);
    assert!(code(&output) != 0 && stderr(&output).contains("does not stand"), "{}", stderr(&output));
}

#[test]
fn what_is_renewed_stands_longer_in_a_tool_that_counts_down_by_itself() {
    let data = founded();
    let outlet = "\n[[outlets]]\nname = \"edge\"\nformat = \"nftables\"\ntypes = [\"ipv4\"]\n";
    let mut config = std::fs::read_to_string(data.path().join("node.toml")).unwrap();
    config.push_str(outlet);
    std::fs::write(data.path().join("node.toml"), config).unwrap();
    let _node = crate::support::start(data.path());
    let list = data.path().join("list.txt");
    std::fs::write(&list, "192.0.2.7\n").unwrap();
    let about = ["--confidence", "90", "--use", "block", "--valid-days", "3", "--title", "Three days"];
    let published = json_of(&huecry(data.path(), &[&["--json", "publish", list.to_str().unwrap()][..], &about].concat()));
    // Seconds for which the address stands in its set.
    let stands = || {
        let text = std::fs::read_to_string(data.path().join("outlets/edge.nft")).unwrap_or_default();
        let (_, rest) = text.split_once("192.0.2.7 timeout ")?;
        rest.split_once('s')?.0.parse::<u64>().ok()
    };
    crate::support::until("it to stand in the set", || stands().is_some_and(|seconds| seconds <= 3 * 86_400));
    assert_eq!(code(&huecry(data.path(), &["renew", published["report"].as_str().unwrap(), "--valid-days", "90"])), 0);
    crate::support::until("it to stand longer", || stands().is_some_and(|seconds| seconds > 89 * 86_400));
}
