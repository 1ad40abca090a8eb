//! Wrong clocks: what a node does while its own contradicts what is signed, what it saw before, or other members.

use crate::{
    partnership::{Node, day, roster_by_hand},
    wire::key,
};
use huecry::{
    charter::SignedStamp,
    clock::{Clock, Source},
    envelope::Class,
    node::door::{DoorError, TakeBack, document},
    query::Standing,
    record::*,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Both clocks of a machine, in the hand of a test.
struct Hands {
    wall: Arc<AtomicU64>,
    steady: Arc<AtomicU64>,
}

impl Hands {
    fn at(now: Timestamp) -> Self {
        Self { wall: Arc::new(now.ms().into()), steady: Arc::new(1_000.into()) }
    }

    fn clock(&self, floor: Timestamp) -> Clock {
        let source = Source::Hands { wall: Arc::clone(&self.wall), steady: Arc::clone(&self.steady) };
        Clock::kept(source, "this boot", None, floor)
    }

    /// Both clocks go on.
    fn pass(&self, ms: u64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.steady.fetch_add(ms, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock.
    fn set(&self, wall: Timestamp) {
        self.wall.store(wall.ms(), Ordering::SeqCst);
    }
}

fn node(place: &Path, id: &str, seeds: (u8, u8), clock: &Clock) -> Node {
    Node::new(&place.join(id), id, seeds, &roster_by_hand(), clock)
}

fn named(text: &str) -> RecordRef {
    text.parse().unwrap()
}

#[test]
fn x3_a_clock_that_was_set_ahead_publishes_nothing_and_takes_back_all_the_same() {
    let place = tempfile::tempdir().unwrap();
    let (now, hands) = (day(1), Hands::at(day(1)));
    let clock = hands.clock(day(0));
    let mut police = node(place.path(), "xa-police", (32, 42), &clock);
    police.publish("one.example").unwrap();
    hands.pass(HOUR_MS);
    hands.set(now.plus_ms(400 * DAY_MS));
    clock.look(day(0));
    let refused = police.publish("two.example").unwrap_err();
    assert!(refused.contains("set forward by 399 days") && refused.contains("huecry clock confirm"), "{refused}");
    let take_back = TakeBack { targets: vec![named("xa-police/c2#1.0")], reason: Reason::Wrong, note: None };
    police.door.withdraw(take_back, &mut Vec::new()).unwrap();
    police.door.commit().unwrap();
    let removal = police.ledger.batch_at(&"xa-police/c2".parse().unwrap(), 2).unwrap().unwrap();
    assert_eq!(removal.head.class, Class::Removal);
    assert!(removal.head.time <= now.plus_ms(2 * HOUR_MS), "others would not take a removal of the year after next: {}", removal.head.time);
    // The clock is right again, and so is everything else.
    hands.set(now.plus_ms(HOUR_MS));
    clock.look(day(0));
    police.publish("two.example").unwrap();
}

#[test]
fn x3_what_comes_while_the_clock_is_doubted_waits_and_is_let_in_by_itself_afterwards() {
    let place = tempfile::tempdir().unwrap();
    let (now, hands) = (day(1), Hands::at(day(1)));
    let (clock, right) = (hands.clock(day(0)), Clock::Driven(Arc::new(AtomicU64::new(now.ms()))));
    let mut police = node(place.path(), "xa-police", (32, 42), &clock);
    let mut vendor = node(place.path(), "vendor-one", (33, 43), &right);
    vendor.publish("one.example").unwrap();
    hands.set(now.plus_ms(2 * DAY_MS));
    clock.look(day(0));
    police.pull(&vendor, "vendor-one", now);
    assert_eq!(police.standing("one.example", now), Some(Standing::Held));
    assert_eq!(
        police.ledger.batch_at(&"vendor-one/c2".parse().unwrap(), 1).unwrap().unwrap().entry.received,
        now,
        "its journal is dated right"
    );
    // Policies that are read anew meanwhile let nothing in.
    police.door.judge_held_again();
    police.door.rejudge_held().unwrap();
    assert_eq!(police.standing("one.example", now), Some(Standing::Held));
    hands.set(now.plus_ms(MINUTE_MS));
    clock.look(day(0));
    police.door.execute_agreements().unwrap();
    police.door.rejudge_held().unwrap();
    assert_eq!(police.standing("one.example", now), Some(Standing::Accepted));
}

#[test]
fn x3_a_node_whose_clock_jumps_ahead_purges_nothing_and_refuses_nothing_for_good() {
    let place = tempfile::tempdir().unwrap();
    let (now, hands) = (day(1), Hands::at(day(1)));
    let clock = hands.clock(day(0));
    let mut police = node(place.path(), "xa-police", (32, 42), &clock);
    let mut vendor = node(place.path(), "vendor-two", (34, 44), &Clock::Driven(Arc::clone(&hands.wall)));
    // Two days with a clock that is right, so that what destroys may run.
    for _ in 0..48 {
        hands.pass(HOUR_MS);
        clock.look(day(0));
    }
    assert!(clock.moment().may_destroy);
    vendor.publish("purged.example").unwrap();
    police.pull(&vendor, "vendor-two", clock.now());
    let before = police.ledger.feed(&"vendor-two/c2".parse().unwrap()).unwrap();
    // Far past the end of the agreement, which says that its records are purged.
    hands.set(now.plus_ms(9 * 365 * DAY_MS));
    for _ in 0..48 {
        hands.pass(HOUR_MS);
        clock.look(day(0));
        police.door.execute_agreements().unwrap();
    }
    let after = police.ledger.feed(&"vendor-two/c2".parse().unwrap()).unwrap();
    assert_eq!((before.aside, before.counts), (after.aside, after.counts));
}

#[test]
fn x3_documents_dated_in_the_future_move_nothing_and_are_named() {
    let place = tempfile::tempdir().unwrap();
    let (now, hands) = (day(1), Hands::at(day(1)));
    let clock = hands.clock(day(0));
    let mut police = node(place.path(), "xa-police", (32, 42), &clock);
    let charter = police.current.get().roster.charter().clone();
    let far = Timestamp::parse("2099-01-01").unwrap();
    let stamp = SignedStamp::sign(&charter, &key(21), far).unwrap();
    let refused = police.door.take_document(document::STAMP, stamp.bytes(), &mut Vec::new());
    assert!(matches!(refused, Err(DoorError::Ahead { date, .. }) if date == far), "{refused:?}");
    let next = huecry::charter::Charter {
        version: 2,
        prev: Some(charter.hash()),
        issued: far,
        expires: far.plus_ms(300 * DAY_MS),
        ..charter.charter().clone()
    };
    let next = charter.succeed(next, &[&key(1)]).unwrap();
    assert!(matches!(police.door.take_document(document::CHARTER, next.bytes(), &mut Vec::new()), Err(DoorError::Ahead { .. })));
    let named = police.current.set_aside(clock.now());
    assert!(named.iter().any(|line| line.contains("a stamp over the charter is dated 2099-01-01")), "{named:?}");
    assert!(named.iter().any(|line| line.contains("version 2 of the charter is dated 2099-01-01")), "{named:?}");
    police.publish("one.example").unwrap();
    // An honest stamp counts.
    let honest = SignedStamp::sign(&charter, &key(21), now).unwrap();
    assert!(police.door.take_document(document::STAMP, honest.bytes(), &mut Vec::new()).unwrap());
    // One in an older ledger does not count, and gives way.
    let mut roster = roster_by_hand();
    roster.take_stamp(stamp.bytes()).unwrap();
    assert_eq!(roster.time_floor(), day(0).plus_ms(7 * DAY_MS), "a stamp's key alone moves time by a week beyond what the stewards signed");
    assert!(roster.take_stamp_by(honest.bytes(), now).unwrap());
}

#[test]
fn x4_a_node_that_starts_two_years_behind_enforces_and_accepts_nothing_new() {
    let place = tempfile::tempdir().unwrap();
    let now = day(1);
    let hands = Hands::at(now.minus_ms(2 * 365 * DAY_MS));
    let clock = hands.clock(now);
    let mut police = node(place.path(), "xa-police", (32, 42), &clock);
    let mut vendor = node(place.path(), "vendor-one", (33, 43), &Clock::Driven(Arc::new(AtomicU64::new(now.plus_ms(DAY_MS).ms()))));
    assert!(clock.doubt().unwrap().to_string().contains("a signed document or this node's last run is of"));
    assert_eq!(clock.now(), now);
    vendor.publish("one.example").unwrap();
    police.pull(&vendor, "vendor-one", now);
    assert_ne!(police.standing("one.example", now), Some(Standing::Accepted));
    // What takes back comes in, though it seems to be of tomorrow.
    vendor
        .door
        .withdraw(TakeBack { targets: vec![named("vendor-one/c2#1.0")], reason: Reason::Wrong, note: None }, &mut Vec::new())
        .unwrap();
    vendor.door.commit().unwrap();
    let removal = vendor.ledger.batch_at(&"vendor-one/c2".parse().unwrap(), 2).unwrap().unwrap();
    let intake = police.current.get();
    assert!(police.door.place(&intake, &removal.entry.head).is_ok());
    assert!(police.publish("two.example").unwrap_err().contains("clock"));
}
