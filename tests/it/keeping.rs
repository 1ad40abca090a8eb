//! What the ledger promises, through the door, with a clock in our hand.

use crate::{
    support::founded,
    wire::{at, batch, key, roster, sealed},
};
use huecry::{
    clock::Clock,
    enforce::Orders,
    envelope::{Class, Domain, Head, SignedHead},
    intake::{Blame, Intake, Known, Limits, Placed, ReadBatch},
    ledger::{Brought, Ledger, Writer},
    policy::{Lists, Policy, Starter, Way, may_send},
    query::{Question, answer, explain},
    record::*,
};
use std::sync::Arc;

fn intake() -> Intake {
    let policy = Policy::parse("policy.cedar", Starter::National.policy()).unwrap();
    Intake { roster: Arc::new(roster()), policy: Arc::new(policy), lists: Arc::new(Lists::default()), limits: Limits::default() }
}

fn open(path: &std::path::Path) -> (Ledger, Writer) {
    let (ledger, writer, _) = Ledger::open(path).unwrap();
    (ledger, writer)
}

fn take(intake: &Intake, writer: &mut Writer, head: &[u8], body: Vec<u8>, now: Timestamp) {
    let Ok(Placed::Next(head)) = intake.place(head, now, writer) else { panic!("the head is not next") };
    let admitted = intake.admit(ReadBatch::open(head, body).unwrap(), now, writer, false).unwrap();
    writer.keep(&admitted, now, &Brought { from: &[9; 32], ..Brought::default() }).unwrap();
}

fn filled(path: &std::path::Path) -> (Ledger, Writer) {
    let (ledger, mut writer) = open(path);
    let (head, body) = batch(|_| ());
    take(&intake(), &mut writer, &sealed(&head, 31, Domain::Head), body, at(20_000));
    writer.commit().unwrap();
    writer.write_index().unwrap();
    (ledger, writer)
}

fn found(ledger: &Ledger, text: &str) -> usize {
    let question = Question { text: Some(text.to_owned()), ..Question::default() };
    answer(ledger, &question, at(30_000)).unwrap().values.len()
}

#[test]
fn what_was_committed_is_answered_after_state_and_index_are_lost() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, writer) = filled(data.path());
    // The last value stands on a documentation name: let in by the starter policy, and found under its domain.
    assert_eq!((found(&ledger, "192.0.2.7"), found(&ledger, "*.evil.example"), found(&ledger, "192.0.2.0/28")), (1, 2, 1));
    drop((ledger, writer));
    for lost in [&["state"][..], &["index"], &["state", "index"]] {
        for name in lost {
            std::fs::remove_dir_all(data.path().join(name)).unwrap();
        }
        let (ledger, _writer, recovery) = Ledger::open(data.path()).unwrap();
        assert_eq!((recovery.state_rebuilt, recovery.index_rebuilt), (lost.contains(&"state"), lost.contains(&"index")));
        assert_eq!((found(&ledger, "192.0.2.7"), found(&ledger, "*.evil.example")), (1, 2), "{lost:?}");
        assert_eq!(ledger.feeds()[0].1.counts.accepted, 4);
    }
}

#[test]
fn r_04_a_garbage_state_file_is_noticed_and_rebuilt() {
    let data = tempfile::tempdir().unwrap();
    drop(filled(data.path()));
    std::fs::write(data.path().join("state/db"), vec![0xa5; 4096]).unwrap();
    let (ledger, _writer, recovery) = Ledger::open(data.path()).unwrap();
    assert!(recovery.state_rebuilt);
    assert_eq!(found(&ledger, "evil.example"), 2, "the domain, and the URL on it");
}

#[test]
fn r_05_a_second_writer_is_refused_in_words() {
    let data = tempfile::tempdir().unwrap();
    let _first = open(data.path());
    let error = Ledger::open(data.path()).err().unwrap().to_string();
    assert!(error.contains("in use by another huecry"), "{error}");
}

#[test]
fn c_01_a_head_seen_before_is_known_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    drop(filled(data.path()));
    let (ledger, _writer) = open(data.path());
    let head = sealed(&batch(|_| ()).0, 31, Domain::Head);
    assert!(matches!(intake().place(&head, at(20_000), &ledger), Ok(Placed::Known)));
    assert!(matches!(intake().place(&head, at(20_000 + 30 * DAY_MS), &ledger), Ok(Placed::Known)));
}

#[test]
fn c_03_c_06_a_second_head_is_a_fork_and_a_wrong_prev_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, _writer) = filled(data.path());
    let place = |change: fn(&mut Head)| intake().place(&sealed(&batch(change).0, 31, Domain::Head), at(20_000), &ledger);
    assert!(matches!(place(|head| head.time = at(10_001)), Ok(Placed::Fork(_))));
    let wrong = place(|head| (head.seq, head.prev) = (2, Some(huecry::envelope::Hash([1; 32])))).unwrap_err();
    assert_eq!((wrong.blame, wrong.code), (Blame::Reject, "wrong-prev"));
}

#[test]
fn c_02_c_05_a_gap_is_filled_and_an_absurd_jump_waits() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, _writer) = filled(data.path());
    let some = huecry::envelope::Hash([1; 32]);
    let place = |seq: u64| {
        intake().place(&sealed(&batch(|head| (head.seq, head.prev) = (seq, Some(some))).0, 31, Domain::Head), at(20_000), &ledger)
    };
    assert!(matches!(place(7), Ok(Placed::Ahead { from: 2, .. })));
    let jump = place(1 << 40).unwrap_err();
    assert_eq!((jump.blame, jump.code), (Blame::Later, "jump"));
}

#[test]
fn t_01_t_02_heads_from_another_time_blame_nobody() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, _writer) = open(data.path());
    let (head, _) = batch(|head| head.time = at(2 * DAY_MS));
    let bytes = sealed(&head, 31, Domain::Head);
    // Ours is so much behind the head's time, or ahead of it.
    let when = |now: Timestamp| intake().place(&bytes, now, &ledger).map_err(|refusal| (refusal.blame, refusal.code));
    assert!(matches!(when(head.time.minus_ms(4 * MINUTE_MS)), Ok(Placed::Next(_))));
    assert_eq!(when(head.time.minus_ms(6 * MINUTE_MS)).unwrap_err(), (Blame::Later, "future"));
    assert_eq!(when(head.time.minus_ms(25 * HOUR_MS)).unwrap_err(), (Blame::Ignore, "far-future"));
    assert_eq!(when(head.time.minus_ms(3650 * DAY_MS)).unwrap_err().0, Blame::Ignore);
    let old = intake().place(&bytes, head.time.plus_ms(3651 * DAY_MS), &ledger).unwrap_err();
    // By then its author's agreement is over too; either way nobody is blamed.
    assert_eq!(old.blame, Blame::Ignore);
}

#[test]
fn t_03_t_04_an_over_long_life_is_clipped_and_an_ended_one_refused() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, mut writer) = open(data.path());
    let mut short = intake();
    short.limits.life_days_max = 1;
    let (head, body) = batch(|_| ());
    take(&short, &mut writer, &sealed(&head, 31, Domain::Head), body, at(20_000));
    writer.commit().unwrap();
    writer.write_index().unwrap();
    let question = Question { text: Some("evil.example".to_owned()), ..Question::default() };
    let value = |now| answer(&ledger, &question, now).unwrap();
    assert_eq!(value(at(30_000)).values[0].assertions[0].ends, head.time.plus_ms(DAY_MS).to_string());
    let over = value(at(10_000 + 2 * DAY_MS));
    assert_eq!((over.values.len(), over.not_shown.get("over")), (0, Some(&2)));
}

#[test]
fn a_withdrawal_works_from_the_next_commit_on_and_names_its_reason() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, mut writer) = filled(data.path());
    let withdrawal = Record::Withdrawal(Withdrawal {
        kind: Kind::Withdrawal,
        description: Some("misread".to_owned()),
        // The report: its indicators go with it.
        targets: vec![WireRef::Feed(1, 0)],
        reason: Reason::Wrong,
    });
    let seed = huecry::envelope::merkle::Seed([6; 16]);
    let records = vec![withdrawal.encode().unwrap()];
    let body = huecry::envelope::encode_full(&seed, &records);
    let feed: FeedId = "vendor-one/c2".parse().unwrap();
    let prev = ledger.position(&feed).unwrap().1;
    let (head, _) = batch(|head| {
        (head.seq, head.prev, head.class, head.count) = (2, Some(prev), Class::Removal, 1);
        (head.body_length, head.root) = (body.len() as u32, huecry::envelope::root_of(&seed, &records));
    });
    // Long after the agreement's end, with a stale charter: removals always work.
    take(&intake(), &mut writer, &sealed(&head, 31, Domain::Head), body, at(310 * DAY_MS));
    writer.commit().unwrap();
    assert_eq!(found(&ledger, "evil.example"), 0);
    let stories = explain(&ledger, &intake(), &[], &Orders::default(), "evil.example", Tlp::Red, at(30_000)).unwrap().records;
    assert!(stories[0].assertion.reason.contains("withdrawn by its author as wrong: misread"), "{}", stories[0].assertion.reason);
    drop((ledger, writer));
    std::fs::remove_dir_all(data.path().join("state")).unwrap();
    let (ledger, _writer) = open(data.path());
    assert_eq!(found(&ledger, "evil.example"), 0, "C-08: stays dead after a rebuild");
}

#[test]
fn a_batch_is_sent_only_to_those_it_is_addressed_to() {
    let roster = roster();
    let may = |change: fn(&mut Head), reader: &str, now| {
        may_send(&roster, &batch(change).0, &reader.parse().unwrap(), now, Way::Published).is_ok()
    };
    let to_own: fn(&mut Head) = |head| head.audience = huecry::envelope::Audience::named(vec!["vendor-one".parse().unwrap()]);
    assert!(may(|_| (), "xa-police", at(20_000)) && may(|_| (), "hub", at(20_000)));
    assert!(!may(|_| (), "nobody", at(20_000)));
    assert!(!may(to_own, "xa-police", at(20_000)) && may(to_own, "vendor-one", at(20_000)));
    // The author's agreement ends after 300 days: content stops, removals do not.
    assert!(!may(|_| (), "xa-police", at(301 * DAY_MS)));
    assert!(may(|head| head.class = Class::Removal, "xa-police", at(301 * DAY_MS)));
    // A circle's newcomers read from their generation on; a generation unknown to us is nobody's.
    let circle = |generation: u64| huecry::envelope::Audience {
        readers: huecry::envelope::Readers::Circle { name: "finance".parse().unwrap(), generation, excluded: Vec::new() },
        onward: Vec::new(),
    };
    let reads = |generation| roster.addresses(&circle(generation), &"vendor-one".parse().unwrap(), &"xa-police".parse().unwrap());
    assert!(reads(1) && reads(2) && !reads(3));
}

#[test]
fn a_stale_charter_holds_what_is_new() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, mut writer) = open(data.path());
    let late = at(100 * DAY_MS);
    let (head, body) = batch(|head| head.time = at(100 * DAY_MS));
    // Valid until day 90 by its report; the limit of this test is the stamp of day 0.
    take(&intake(), &mut writer, &sealed(&head, 31, Domain::Head), body, late);
    writer.commit().unwrap();
    let counts = ledger.feeds()[0].1.counts;
    assert_eq!((counts.accepted, counts.held + counts.refused), (0, 4), "{counts:?}");
}

#[test]
fn a_head_signed_by_another_federations_key_never_gets_in() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, _writer) = open(data.path());
    let (head, _) = batch(|_| ());
    let foreign = SignedHead::sign(&head, &key(31), &huecry::envelope::FederationId([7; 32])).unwrap();
    let refusal = intake().place(foreign.bytes(), at(20_000), &ledger).unwrap_err();
    assert_eq!((refusal.blame, refusal.code), (Blame::Reject, "bad-signature"));
}

#[test]
fn a_driven_clock_is_the_only_clock() {
    let hand = Arc::new(std::sync::atomic::AtomicU64::new(at(5).ms()));
    assert_eq!(Clock::Driven(hand).now(), at(5));
    drop(founded());
}

/// The next batch of the same feed, with these records.
fn add(ledger: &Ledger, writer: &mut Writer, class: Class, records: &[Record]) {
    let (feed, state) = ledger.feeds().remove(0);
    let records: Vec<Vec<u8>> = records.iter().map(|record| record.encode().unwrap()).collect();
    let seed = huecry::envelope::merkle::Seed([5; 16]);
    let body = huecry::envelope::encode_full(&seed, &records);
    let (head, _) = batch(|head| {
        assert_eq!(head.feed(), feed);
        (head.seq, head.prev, head.class, head.count) = (state.last() + 1, Some(state.id), class, records.len() as u16);
        (head.body_length, head.root) = (body.len() as u32, huecry::envelope::root_of(&seed, &records));
    });
    take(&intake(), writer, &sealed(&head, 31, Domain::Head), body, at(20_000));
    writer.commit().unwrap();
    writer.write_index().unwrap();
}

#[test]
fn a_sighting_before_an_indicator_does_not_hide_it_and_a_withdrawn_dispute_is_none() {
    let data = tempfile::tempdir().unwrap();
    let (ledger, mut writer) = filled(data.path());
    let value = Observable::recognise("late.example").unwrap();
    let dispute = Record::Sighting(Sighting {
        of: Sighted::Value(value.clone()),
        sighting: SightingKind::FalsePositive,
        count: None,
        from: None,
        until: None,
        country: None,
        description: None,
    });
    add(&ledger, &mut writer, Class::Removal, &[dispute]);
    add(&ledger, &mut writer, Class::Content, &[Record::Indicator(Indicator::of(value.clone(), None))]);
    let mut reading = huecry::query::Reading::whole(&ledger, at(30_000));
    let places = reading.places(&value).unwrap();
    assert_eq!(places.len(), 2, "the sighting stands in the index too");
    assert!(reading.is_first(&value, places[1], &places).unwrap(), "it is no assertion, so a sweep looks at the indicator");
    let assessed = |ledger: &Ledger| huecry::query::Reading::whole(ledger, at(30_000)).assess(&intake(), &value, Tlp::Red).unwrap();
    let one = assessed(&ledger);
    assert_eq!((one.supports.len(), one.origins, one.disputed_by.len()), (0, 0, 0), "what is disputed when it comes is held");
    // The author takes the dispute back: nothing is disputed any more, neither live nor after a rebuild.
    let sighting = ledger.disputes()[0].0.parse::<RecordRef>().unwrap();
    let target = WireRef::shortest(&sighting, &sighting.feed, 4);
    let back = Withdrawal { kind: Kind::Withdrawal, description: None, targets: vec![target], reason: Reason::Wrong };
    add(&ledger, &mut writer, Class::Removal, &[Record::Withdrawal(back)]);
    assert!(ledger.disputes().is_empty());
    drop((ledger, writer));
    std::fs::remove_dir_all(data.path().join("state")).unwrap();
    assert!(open(data.path()).0.disputes().is_empty());
}
