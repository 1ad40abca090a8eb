//! The first partnership, with a clock in our hand: two vendors on three-year terms, a third that joins as theirs end, one
//! extended, one purged. The ledger and the door are the real ones; only time is ours.

use crate::wire::key;
use huecry::{
    charter::*,
    clock::{Clock, Source},
    envelope::{Audience, PublicKey},
    intake::{Intake, Limits},
    ledger::{ErasedBy, ErasedPlaces, ErasureEntry, Ledger, QuarantineStep},
    node::{
        Current, Identity,
        door::{Arrived, Door, Publication, ReportOf, document},
        keys::KeyStore,
        own_heads::OwnHeads,
    },
    policy::{Lists, Policy, Starter, Way, may_send},
    query::{Question, Standing, answer},
    record::*,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const START: u64 = 1_760_000_000_000;
const YEAR: u64 = 365;

pub fn day(days: u64) -> Timestamp {
    Timestamp::from_ms(START + days * DAY_MS).unwrap()
}

fn member(id: &str, kind: MemberKind, root: u8) -> Member {
    let country = (kind == MemberKind::Country).then(|| "XA".to_owned());
    Member { id: id.parse().unwrap(), name: id.to_owned(), kind, country, root: key(root).public(), quota: None, revoked: None }
}

fn terms(id: &str, member: &str, from: u64, until: u64, after_end: AfterEnd) -> Agreement {
    Agreement {
        id: id.to_owned(),
        member: member.parse().unwrap(),
        audiences: vec!["federation".to_owned()],
        tlp_max: Tlp::Green,
        kinds: vec![Kind::Report, Kind::Indicator],
        purpose: "detection".to_owned(),
        quota: None,
        from: day(from),
        until: day(until),
        after_end,
        purge_after_days: (after_end == AfterEnd::Purge).then_some(30),
        revoked: None,
    }
}

/// The first charter: a hub, a country, and two vendors for three years; the second vendor's records are purged at the end.
pub fn first() -> Charter {
    Charter {
        format: 1,
        name: "Partnership".to_owned(),
        version: 1,
        prev: None,
        issued: day(0),
        expires: day(400),
        stewards: vec![Steward { name: "ana".to_owned(), key: key(1).public() }],
        threshold: 1,
        members: vec![
            member("hub", MemberKind::Coordinator, 11),
            member("xa-police", MemberKind::Country, 12),
            member("vendor-one", MemberKind::Vendor, 13),
            member("vendor-two", MemberKind::Vendor, 14),
        ],
        circles: Vec::new(),
        agreements: vec![
            terms("one-1", "vendor-one", 0, 3 * YEAR, AfterEnd::Keep),
            terms("two-1", "vendor-two", 0, 3 * YEAR, AfterEnd::Purge),
        ],
        quota: Quota { records_per_second: 10, burst_records: 1000, records_per_day: 50_000, bytes_per_day: 268_435_456 },
        freshness: vec![FreshnessKey { member: "hub".parse().unwrap(), key: key(21).public() }],
        floor: FormatFloor { format: 1, from: day(0) },
        resolves: None,
    }
}

fn card(id: &str, publishing: PublicKey, node: PublicKey, root: u8, charter: &SignedCharter) -> SignedCard {
    let channel = Channel { name: "c2".parse().unwrap(), audience: Audience::federation(), description: None, from: day(0), until: None };
    let card = Card {
        format: 1,
        member: id.parse().unwrap(),
        serial: 1,
        issued: day(0),
        publishing: vec![PublishingKey { key: publishing, node: "main".to_owned(), lane: 0, from: day(0), until: None }],
        nodes: vec![NodeKey { name: "main".to_owned(), key: node, from: day(0), until: None, receive_only: None }],
        channels: vec![channel],
        pins: Vec::new(),
        epochs: Vec::new(),
    };
    SignedCard::sign(&card, &key(root), &charter.federation()).unwrap()
}

/// One member's ledger and door.
pub struct Node {
    pub door: Door,
    pub ledger: Ledger,
    pub current: Current,
}

impl Node {
    pub fn new(place: &Path, id: &str, seeds: (u8, u8), roster: &Roster, clock: &Clock) -> Self {
        std::fs::create_dir_all(place).unwrap();
        let policy = Policy::parse("policy.cedar", Starter::National.policy()).unwrap();
        let intake = Intake {
            roster: Arc::new(roster.clone()),
            policy: Arc::new(policy),
            lists: Arc::new(Lists::default()),
            limits: Limits { life_days_max: 3_650, retention_days: 3_650, ..Limits::default() },
        };
        let current = Current::new(intake);
        let (ledger, writer, _) = Ledger::open(&place.join("ledger")).unwrap();
        let identity = Identity { member: id.parse().unwrap(), node_name: "main".to_owned(), lane: 0, node: key(seeds.1), freshness: None };
        let keys = KeyStore::in_data(place).unwrap();
        let door = Door::new(writer, current.clone(), Arc::new(identity), keys, Some(key(seeds.0)), OwnHeads::default(), clock.clone());
        Self { door, ledger, current }
    }

    pub fn publish(&mut self, value: &str) -> Result<(), String> {
        self.publish_all(&[value.to_owned()])
    }

    pub fn publish_all(&mut self, values: &[String]) -> Result<(), String> {
        let indicator = |value: &String| Record::Indicator(Indicator::of(Observable::recognise(value).unwrap(), None));
        let publication = Publication {
            channel: "c2".parse().unwrap(),
            class: huecry::envelope::Class::Content,
            tlp: Tlp::Green,
            report: ReportOf::None,
            records: values.iter().map(indicator).collect(),
        };
        let done = self.door.publish(publication, &mut Vec::new()).map(|_| ()).map_err(|error| error.to_string());
        self.door.commit().unwrap();
        done
    }

    /// Takes whatever `from` has of its own that this node may have.
    pub fn pull(&mut self, from: &Self, author: &str, now: Timestamp) {
        let feed: FeedId = format!("{author}/c2").parse().unwrap();
        let Some(state) = from.ledger.feed(&feed) else { return };
        let ours = self.ledger.feed(&feed).map_or(0, |state| state.last());
        for seq in ours + 1..=state.last() {
            let batch = from.ledger.batch_at(&feed, seq).unwrap().unwrap();
            let reader = "xa-police".parse().unwrap();
            if may_send(&from.current.get().roster, &batch.head, &reader, now, Way::Published).is_err() {
                return;
            }
            let intake = self.current.get();
            let Ok(huecry::intake::Placed::Next(head)) = self.door.place(&intake, &batch.entry.head) else { return };
            self.door.batch(*Arrived::in_turn(head, batch.entry.body.to_vec(), [7; 32])).unwrap();
        }
        self.door.commit().unwrap();
        self.door.write_index().unwrap();
    }

    /// Takes one batch of `from`, wherever it stands.
    pub fn take(&mut self, from: &Self, feed: &FeedId, seq: u64) {
        let (batch, intake) = (from.ledger.batch_at(feed, seq).unwrap().unwrap(), self.current.get());
        let (head, beyond) = match self.door.place(&intake, &batch.entry.head).unwrap() {
            huecry::intake::Placed::Next(head) | huecry::intake::Placed::Gap(head) => (head, false),
            huecry::intake::Placed::Ahead { head, .. } => (head, true),
            other => panic!("{other:?}"),
        };
        let served = huecry::replica::Served { body: batch.entry.body.to_vec(), withheld: 0, path: Vec::new(), from: [7; 32] };
        self.door.batch(*Arrived::of(Box::new(head), served, beyond)).unwrap();
        self.door.commit().unwrap();
        self.door.write_index().unwrap();
    }

    /// Takes what `from` has of a feed and is not here, wherever it stands.
    pub fn refill(&mut self, from: &Self, author: &str) {
        let feed: FeedId = format!("{author}/c2").parse().unwrap();
        for seq in from.ledger.feed(&feed).unwrap().spans.iter() {
            let batch = from.ledger.batch_at(&feed, seq).unwrap().unwrap();
            let intake = self.current.get();
            let (head, beyond) = match self.door.place(&intake, &batch.entry.head).unwrap() {
                huecry::intake::Placed::Next(head) | huecry::intake::Placed::Gap(head) => (head, false),
                huecry::intake::Placed::Ahead { head, .. } => (head, true),
                _ => continue,
            };
            let served = huecry::replica::Served { body: batch.entry.body.to_vec(), withheld: 0, path: Vec::new(), from: [7; 32] };
            self.door.batch(*Arrived::of(Box::new(head), served, beyond)).unwrap();
            self.door.commit().unwrap();
        }
        self.door.write_index().unwrap();
    }

    pub fn standing(&self, value: &str, now: Timestamp) -> Option<Standing> {
        let question = Question { text: Some(value.to_owned()), all: true, ..Question::default() };
        answer(&self.ledger, &question, now).unwrap().values.first().map(|value| value.assertions[0].standing)
    }

    pub fn charter(&mut self, bytes: &[u8]) {
        self.door.take_document(document::CHARTER, bytes, &mut Vec::new()).unwrap();
    }
}

/// The police unit and the first vendor on the second day, each with its ledger in a directory of its own, and the time.
pub fn founded_by_hand(place: &Path) -> (Node, Node, Timestamp) {
    let now = day(1);
    let (police, vendor) = founded_at(place, &Arc::new(AtomicU64::new(now.ms())));
    (police, vendor, now)
}

/// The police unit again, from its directory.
pub fn reopened(place: &Path) -> (Node, Timestamp) {
    let clock = Clock::Driven(Arc::new(AtomicU64::new(day(1).ms())));
    (Node::new(&place.join("police"), "xa-police", (32, 42), &roster_by_hand(), &clock), day(1))
}

/// The same with a clock in the caller's hand.
pub fn reopened_at(place: &Path, hand: &Arc<AtomicU64>) -> (Node, Timestamp) {
    let clock = Clock::Driven(Arc::clone(hand));
    (Node::new(&place.join("police"), "xa-police", (32, 42), &roster_by_hand(), &clock), clock.now())
}

/// The charter of the first day with the cards of the police unit and both vendors.
pub fn roster_by_hand() -> Roster {
    let charter = Charter { quota: Quota::of_day(1 << 40), ..first() };
    let charter = SignedCharter::found(charter, &[&key(1)]).unwrap();
    let mut roster = Roster::new(charter.clone());
    for (id, publishing, node, root) in [("xa-police", 32, 42, 12), ("vendor-one", 33, 43, 13), ("vendor-two", 34, 44, 14)] {
        roster.take_card(card(id, key(publishing).public(), key(node).public(), root, &charter).bytes()).unwrap();
    }
    roster
}

/// The same with a clock in the caller's hand.
pub fn founded_at(place: &Path, hand: &Arc<AtomicU64>) -> (Node, Node) {
    let (clock, roster) = (Clock::Driven(Arc::clone(hand)), roster_by_hand());
    let police = Node::new(&place.join("police"), "xa-police", (32, 42), &roster, &clock);
    let vendor = Node::new(&place.join("vendor"), "vendor-one", (33, 43), &roster, &clock);
    (police, vendor)
}

#[test]
fn the_first_partnership_over_its_years() {
    let place = tempfile::tempdir().unwrap();
    let hand = Arc::new(AtomicU64::new(day(1).ms()));
    let clock = Clock::Driven(Arc::clone(&hand));
    let to = |days: u64| {
        hand.store(day(days).ms(), Ordering::SeqCst);
        day(days)
    };
    let mut charter = SignedCharter::found(first(), &[&key(1)]).unwrap();
    let mut roster = Roster::new(charter.clone());
    for (id, publishing, node, root) in [("xa-police", 32, 42, 12), ("vendor-one", 33, 43, 13), ("vendor-two", 34, 44, 14)] {
        roster.take_card(card(id, key(publishing).public(), key(node).public(), root, &charter).bytes()).unwrap();
    }
    let mut police = Node::new(&place.path().join("police"), "xa-police", (32, 42), &roster, &clock);
    let mut one = Node::new(&place.path().join("one"), "vendor-one", (33, 43), &roster, &clock);
    let mut two = Node::new(&place.path().join("two"), "vendor-two", (34, 44), &roster, &clock);
    one.publish("one.first.example").unwrap();
    two.publish("two.first.example").unwrap();
    let now = day(1);
    police.pull(&one, "vendor-one", now);
    police.pull(&two, "vendor-two", now);
    assert_eq!(
        (police.standing("one.first.example", now), police.standing("two.first.example", now)),
        (Some(Standing::Accepted), Some(Standing::Accepted))
    );

    // Each year the stewards sign again. In the third, people are warned at each of the four days, of both.
    for year in [1, 2] {
        let now = to(year * YEAR);
        charter = next(&charter, now, |_| ());
        for node in [&mut police, &mut one, &mut two] {
            node.charter(charter.bytes());
        }
    }
    let warned = |node: &Node, now| {
        let roster = Arc::clone(&node.current.get().roster);
        let of = |stage: &Stage| if let Stage::Running { warned, .. } = stage { *warned } else { None };
        roster.agreement_lines(now).iter().map(|line| of(&line.stage)).collect::<Vec<_>>()
    };
    for (left, expected) in [(121, None), (120, None), (119, Some(120)), (59, Some(60)), (29, Some(30)), (6, Some(7))] {
        assert_eq!(warned(&police, to(3 * YEAR - left)), [expected, expected], "{left} days before");
    }

    // A month before: vendor one is extended, vendor three joins, vendor two is let go.
    let now = to(3 * YEAR - 30);
    charter = next(&charter, now, |one| {
        one.agreements.push(terms("one-2", "vendor-one", 3 * YEAR - 30, 6 * YEAR, AfterEnd::Keep));
        one.members.push(member("vendor-three", MemberKind::Vendor, 15));
        one.agreements.push(terms("three-1", "vendor-three", 3 * YEAR, 6 * YEAR, AfterEnd::Keep));
    });
    for node in [&mut police, &mut one, &mut two] {
        node.charter(charter.bytes());
    }
    assert_eq!(warned(&police, now)[..2], [None, Some(60)], "an agreement that is continued warns nobody");
    two.publish("two.last.example").unwrap();
    police.pull(&two, "vendor-two", now);

    // The day after: one goes on, two is over, its records stop counting at once and are still there.
    let now = to(3 * YEAR + 1);
    police.door.execute_agreements().unwrap();
    // T-06: without a stamp for weeks, what is new is held; the coordinator's next one ends that.
    one.publish("one.stale.example").unwrap();
    police.pull(&one, "vendor-one", now);
    assert_eq!(police.standing("one.stale.example", now), Some(Standing::Held));
    let stamp = SignedStamp::sign(&charter, &key(21), now).unwrap();
    police.door.take_document(document::STAMP, stamp.bytes(), &mut Vec::new()).unwrap();
    one.publish("one.second.example").unwrap();
    police.pull(&one, "vendor-one", now);
    assert_eq!(police.standing("one.second.example", now), Some(Standing::Accepted), "extended without loss");
    assert!(two.publish("two.late.example").unwrap_err().contains("standing is `ended`"));
    assert_eq!(police.standing("two.first.example", now), Some(Standing::Quarantined));

    // Had it been extended within the thirty days, everything would count again.
    let extended = next(&charter, now, |one| one.agreements.push(terms("two-2", "vendor-two", 3 * YEAR + 1, 4 * YEAR, AfterEnd::Purge)));
    let backup = place.path().join("backup");
    let before = std::process::Command::new("cp").arg("--archive").arg(place.path().join("police/ledger")).arg(&backup).status().unwrap();
    assert!(before.success());
    let kept = police.current.get().roster.as_ref().clone();
    police.charter(extended.bytes());
    police.door.execute_agreements().unwrap();
    assert_eq!(police.standing("two.first.example", now), Some(Standing::Accepted));
    police.current.set_roster(kept.clone());
    police.door.execute_agreements().unwrap();

    // It was not: after thirty days the records are rewritten out, of journal and index, with a receipt.
    let now = to(3 * YEAR + 31);
    police.door.execute_agreements().unwrap();
    police.door.end_compaction();
    assert_eq!(police.standing("two.first.example", now), None, "gone from the index");
    let journal = |place: &Path| {
        let files = std::fs::read_dir(place.join("journal")).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|end| end == "seg"))
            .flat_map(|path| std::fs::read(path).unwrap())
            .collect::<Vec<u8>>()
    };
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let bytes = journal(&place.path().join("police/ledger"));
    assert!(!holds(&bytes, "two.first.example") && !holds(&bytes, "two.last.example"), "gone from the journal");
    assert!(holds(&bytes, "one.first.example"));
    assert_eq!(police.standing("one.first.example", now), Some(Standing::Accepted));

    // A rebuild ends in the same place, and a restored backup, where the records still stand, purges them again by itself.
    drop(police);
    std::fs::remove_dir_all(place.path().join("police/ledger/state")).unwrap();
    std::fs::remove_dir_all(place.path().join("police/ledger/index")).unwrap();
    let police = Node::new(&place.path().join("police"), "xa-police", (32, 42), &kept, &clock);
    assert_eq!((police.standing("two.first.example", now), police.standing("one.first.example", now)), (None, Some(Standing::Accepted)));
    drop(police);
    let restored = place.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    std::fs::rename(&backup, restored.join("ledger")).unwrap();
    assert!(holds(&journal(&restored.join("ledger")), "two.first.example"));
    let mut police = Node::new(&restored, "xa-police", (32, 42), &kept, &clock);
    police.door.execute_agreements().unwrap();
    police.door.execute_agreements().unwrap();
    police.door.end_compaction();
    assert!(!holds(&journal(&restored.join("ledger")), "two.first.example"), "purged again after the restore");
    assert_eq!(police.standing("two.first.example", now), None);
}

fn next(before: &SignedCharter, now: Timestamp, change: impl FnOnce(&mut Charter)) -> SignedCharter {
    let mut charter = before.charter().clone();
    (charter.version, charter.prev, charter.issued) = (charter.version + 1, Some(before.hash()), now);
    charter.expires = now.plus_ms(400 * DAY_MS);
    change(&mut charter);
    before.succeed(charter, &[&key(1)]).unwrap()
}

#[test]
fn a_step_of_quarantine_survives_a_rebuild() {
    let place = tempfile::tempdir().unwrap();
    let clock = Clock::Driven(Arc::new(AtomicU64::new(day(1).ms())));
    let charter = SignedCharter::found(first(), &[&key(1)]).unwrap();
    let mut roster = Roster::new(charter.clone());
    roster.take_card(card("vendor-one", key(33).public(), key(43).public(), 13, &charter).bytes()).unwrap();
    let feed: FeedId = "vendor-one/c2".parse().unwrap();
    let mut node = Node::new(place.path(), "vendor-one", (33, 43), &roster, &clock);
    ["a.example", "b.example", "c.example"].iter().for_each(|value| node.publish(value).unwrap());
    node.door.quarantine(&feed, QuarantineStep::Detach { from: 2 }).unwrap();
    node.door.commit().unwrap();
    node.door.write_index().unwrap();
    let seen = |node: &Node| ["a.example", "b.example", "c.example"].map(|value| node.standing(value, day(1)));
    let expected = [Some(Standing::Accepted), Some(Standing::Quarantined), Some(Standing::Quarantined)];
    assert_eq!((seen(&node), node.ledger.feed(&feed).unwrap().last()), (expected, 1));
    drop(node);
    std::fs::remove_dir_all(place.path().join("ledger/state")).unwrap();
    let node = Node::new(place.path(), "vendor-one", (33, 43), &roster, &clock);
    assert_eq!((seen(&node), node.ledger.feed(&feed).unwrap().last()), (expected, 1));
    assert_eq!(node.ledger.quarantine().unwrap()[0].records, 2);
}

/// Heads and bodies of a lane, one value each, at these times; signed by `seed`.
fn branch(seed: u8, federation: huecry::envelope::FederationId, values: &[(&str, u64)]) -> Vec<(huecry::envelope::ProvedHead, Vec<u8>)> {
    let key = key(seed);
    let mut last = None;
    let mut out = Vec::new();
    for (value, at) in values {
        let feed: FeedId = "vendor-one/c2".parse().unwrap();
        let class = huecry::envelope::Class::Content;
        let lane = huecry::publish::Lane {
            feed,
            audience: Audience::federation(),
            tlp: Tlp::Green,
            class,
            last,
            floor_seq: 1,
            key: &key,
            federation,
        };
        let time = Timestamp::from_ms(START + at).unwrap();
        let mut publisher = huecry::publish::Publisher::new(lane, time, |buffer: &mut [u8]| {
            buffer.fill(9);
            Ok(())
        });
        publisher.push(Record::Indicator(Indicator::of(Observable::recognise(value).unwrap(), None)), None).unwrap();
        let draft = publisher.finish().unwrap().unwrap();
        last = Some((draft.head.head().seq, draft.head.id()));
        out.push((draft.head, draft.body));
    }
    out
}

#[test]
fn k_05_s_08_a_late_joiner_that_hears_the_thief_first_ends_with_the_true_branch() {
    let place = tempfile::tempdir().unwrap();
    let clock = Clock::Driven(Arc::new(AtomicU64::new(day(2).ms())));
    let charter = SignedCharter::found(first(), &[&key(1)]).unwrap();
    let federation = charter.federation();
    let honest = branch(33, federation, &[("true.first.example", 1_000), ("true.second.example", 2_000)]);
    // The thief has the key, and dates everything before it was pinned.
    let forged = branch(33, federation, &[("forged.first.example", 500), ("forged.second.example", 600), ("forged.third.example", 700)]);
    let mut roster = Roster::new(charter.clone());
    let first_card = card("vendor-one", key(33).public(), key(43).public(), 13, &charter);
    let (last, _) = honest.last().unwrap();
    let feed: FeedId = "vendor-one/c2".parse().unwrap();
    let heads = [(feed.clone(), 2, last.id())];
    let pinned = first_card.card().with_stolen_key(key(33).public().id(), key(53).public(), &heads, day(1)).unwrap();
    roster.take_card(SignedCard::sign(&pinned, &key(13), &federation).unwrap().bytes()).unwrap();
    let mut node = Node::new(place.path(), "xa-police", (32, 42), &roster, &clock);
    let offer = |node: &mut Node, (head, body): &(huecry::envelope::ProvedHead, Vec<u8>)| {
        let intake = node.current.get();
        let said = match node.door.place(&intake, head.bytes()) {
            Ok(huecry::intake::Placed::Next(head)) => {
                node.door.batch(*Arrived::in_turn(head, body.clone(), [7; 32])).unwrap();
                "taken"
            }
            Ok(huecry::intake::Placed::OtherBranch(_)) => {
                node.door.other_branch(&feed, &mut Vec::new()).unwrap();
                "other branch"
            }
            Ok(huecry::intake::Placed::Ahead { .. }) => "ahead",
            Ok(_) => "known or a fork",
            Err(refusal) => refusal.code,
        };
        node.door.commit().unwrap();
        node.door.write_index().unwrap();
        said
    };
    // The thief is heard first: kept apart, shown to nobody as true, and not beyond the pin.
    assert_eq!(offer(&mut node, &forged[0]), "taken");
    assert_eq!(node.standing("forged.first.example", day(2)), Some(Standing::Quarantined));
    assert_eq!(offer(&mut node, &forged[1]), "beyond-pin", "the pinned place is the true head's");
    assert_eq!(offer(&mut node, &forged[2]), "beyond-pin");
    // The true second head contradicts what is here: all of it is set aside and fetched again.
    assert_eq!(offer(&mut node, &honest[1]), "other branch");
    assert_eq!(offer(&mut node, &honest[0]), "taken");
    assert_eq!(node.standing("true.first.example", day(2)), Some(Standing::Quarantined), "not before its pin is reached");
    assert_eq!(offer(&mut node, &honest[1]), "taken");
    let now = day(2);
    assert_eq!(
        ["true.first.example", "true.second.example", "forged.first.example"].map(|value| node.standing(value, now)),
        [Some(Standing::Accepted), Some(Standing::Accepted), Some(Standing::Quarantined)]
    );
    // The thief tries again, now that the pin is reached: nothing, not even a proof that would quarantine the feed.
    assert_eq!(offer(&mut node, &forged[0]), "beyond-pin");
    assert!(node.ledger.feed(&feed).unwrap().aside.is_none());
    assert_eq!(node.ledger.quarantine().unwrap().len(), 1, "listed for an operator");
}

#[test]
fn c_04_a_feed_that_begins_again_under_the_same_epoch_is_a_proof_and_nothing_more() {
    let place = tempfile::tempdir().unwrap();
    let clock = Clock::Driven(Arc::new(AtomicU64::new(day(1).ms())));
    let charter = SignedCharter::found(first(), &[&key(1)]).unwrap();
    let mut roster = Roster::new(charter.clone());
    roster.take_card(card("vendor-one", key(33).public(), key(43).public(), 13, &charter).bytes()).unwrap();
    let mut node = Node::new(place.path(), "vendor-one", (33, 43), &roster, &clock);
    ["a.example", "b.example"].iter().for_each(|value| node.publish(value).unwrap());
    let again = branch(33, charter.federation(), &[("again.example", 5_000)]);
    let intake = node.current.get();
    assert!(matches!(node.door.place(&intake, again[0].0.bytes()), Ok(huecry::intake::Placed::Fork(_))));
    assert_eq!(node.standing("again.example", day(1)), None);
}

#[test]
fn t_05_a_node_whose_clock_is_behind_what_was_signed_publishes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let hand = Arc::new(AtomicU64::new(day(1).ms()));
    let charter = SignedCharter::found(first(), &[&key(1)]).unwrap();
    let mut roster = Roster::new(charter.clone());
    roster.take_card(card("vendor-one", key(33).public(), key(43).public(), 13, &charter).bytes()).unwrap();
    roster.take_stamp(SignedStamp::sign(&charter, &key(21), day(1)).unwrap().bytes()).unwrap();
    let source = Source::Hands { wall: Arc::clone(&hand), steady: Arc::default() };
    let clock = Clock::kept(source, "this boot", None, roster.time_floor());
    let mut node = Node::new(place.path(), "vendor-one", (33, 43), &roster, &clock);
    node.publish("a.example").unwrap();
    hand.store(day(0).ms(), Ordering::SeqCst);
    clock.look(roster.time_floor());
    assert!(node.publish("b.example").unwrap_err().contains("until it is set right"));
    hand.store(day(1).ms(), Ordering::SeqCst);
    clock.look(roster.time_floor());
    node.publish("b.example").unwrap();
}

#[test]
fn a_key_that_wrote_nothing_is_pinned_at_nothing_and_the_next_one_writes_the_same_feed() {
    let place = tempfile::tempdir().unwrap();
    let clock = Clock::Driven(Arc::new(AtomicU64::new(day(2).ms())));
    let charter = SignedCharter::found(first(), &[&key(1)]).unwrap();
    let federation = charter.federation();
    let sign = |card: &Card| SignedCard::sign(card, &key(13), &federation).unwrap();
    let unused = card("vendor-one", key(33).public(), key(43).public(), 13, &charter);
    let rotated = unused.card().with_new_publishing_key(key(33).public().id(), key(53).public(), &[], day(1)).unwrap();
    let mut roster = Roster::new(charter.clone());
    roster.take_card(sign(&rotated).bytes()).unwrap();
    let mut node = Node::new(place.path(), "vendor-one", (53, 43), &roster, &clock);
    node.publish("a.example").unwrap();
    node.door.write_index().unwrap();
    let again = rotated.with_channel("more".parse().unwrap(), Audience::federation(), None, day(2));
    node.door.take_document(document::CARD, sign(&again).bytes(), &mut Vec::new()).unwrap();
    assert_eq!(node.standing("a.example", day(2)), Some(Standing::Accepted));
    // S-08: whoever holds the unused key can begin nothing with it, however it is dated.
    let forged = branch(33, federation, &[("forged.example", 1_000)]);
    let intake = node.current.get();
    assert_eq!(node.door.place(&intake, forged[0].0.bytes()).unwrap_err().code, "beyond-pin");
}

#[test]
fn x12_a_publication_says_who_sees_a_gap_in_the_channels_numbers() {
    let three = crate::support::Three::new();
    let agency = three.of("agency");
    crate::support::run(&agency, &["card", "channel", "leads=named:xx-agency,some-vendor,xa-police"]);
    let publish = |value: &str, tlp: &str| {
        let words = ["--json", "publish", "--value", value, "--channel", "leads", "--tlp", tlp, "--alone"];
        crate::support::json_of(&crate::support::run(&agency, &words))
    };
    // The vendor's agreement ends at AMBER.
    assert_eq!(publish("one.example", "green")["see_gap"], serde_json::Value::Null);
    assert_eq!(publish("two.example", "red")["see_gap"], serde_json::json!(["some-vendor"]));
}

#[test]
fn x13_indicators_that_arrive_after_their_report_was_erased_stay_out() {
    let place = tempfile::tempdir().unwrap();
    let (mut police, mut vendor, now) = founded_by_hand(place.path());
    let feed: FeedId = "vendor-one/c2".parse().unwrap();
    let values: Vec<String> = (0..300).map(|number| format!("host-{number}.example")).collect();
    let indicator = |value: &String| Record::Indicator(Indicator::of(Observable::recognise(value).unwrap(), None));
    let publication = Publication {
        channel: "c2".parse().unwrap(),
        class: huecry::envelope::Class::Content,
        tlp: Tlp::Green,
        report: ReportOf::New(Box::new(Report::titled("Operation Teapot".to_owned()))),
        records: values.iter().map(indicator).collect(),
    };
    vendor.door.publish(publication, &mut Vec::new()).unwrap();
    vendor.door.commit().unwrap();
    police.take(&vendor, &feed, 1);
    assert!(police.standing("host-0.example", now).is_some());
    let places = vec![ErasedPlaces::of(&feed, 1, [0])];
    let (by, text) = (Some("ana".to_owned()), "Test Court 4".to_owned());
    police.door.erase(&ErasureEntry { at: now, by, because: ErasedBy::Order, text, places, decisions: Vec::new() }).unwrap();
    police.door.commit().unwrap();
    police.take(&vendor, &feed, 2);
    assert_eq!(police.standing("host-299.example", now), None, "it names a report that was erased");
    let batch = police.ledger.batch_at(&feed, 2).unwrap().unwrap();
    let body = batch.entry.body.to_vec();
    assert!(!body.windows(8).any(|bytes| bytes == b"host-299"), "and nothing of it is in the journal");
}
