//! The wire, byte for byte. `tests/vectors/` holds one directory a case: `bytes.hex`, and `expect.txt` with what any
//! implementation must make of them. Keys are Ed25519 seeds of one repeated byte, so another implementation can make them
//! all; `HUECRY_BLESS=1` writes them anew, and the diff is then somebody's to approve.

use huecry::{
    cbor,
    charter::*,
    envelope::{merkle::Seed, *},
    record::*,
    replica::{self, Message, number},
};
use std::path::Path;

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32]).unwrap()
}

pub fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_760_000_000_000 + ms).unwrap()
}

pub fn federation() -> FederationId {
    charter(|_| ()).unwrap().federation()
}

fn member(id: &str, kind: MemberKind, country: Option<&str>, root: u8) -> Member {
    Member {
        id: id.parse().unwrap(),
        name: id.to_owned(),
        kind,
        country: country.map(str::to_owned),
        root: key(root).public(),
        quota: None,
        revoked: None,
    }
}

/// A charter with three stewards (seeds 1 to 3, two must sign) and three members (roots 11 to 13).
pub fn plain_charter() -> Charter {
    Charter {
        format: 1,
        name: "Vectors".to_owned(),
        version: 1,
        prev: None,
        issued: at(0),
        expires: at(400 * DAY_MS),
        stewards: (1..=3).map(|seed| Steward { name: format!("steward {seed}"), key: key(seed).public() }).collect(),
        threshold: 2,
        members: vec![
            member("hub", MemberKind::Coordinator, None, 11),
            member("xa-police", MemberKind::Country, Some("XA"), 12),
            member("vendor-one", MemberKind::Vendor, None, 13),
        ],
        circles: vec![Circle {
            name: "finance".parse().unwrap(),
            generation: 2,
            history: History::Closed,
            members: vec![CircleMember { id: "xa-police".parse().unwrap(), since: 1, until: None }],
        }],
        agreements: vec![Agreement {
            id: "vendor-one-1".to_owned(),
            member: "vendor-one".parse().unwrap(),
            audiences: vec!["federation".to_owned()],
            tlp_max: Tlp::Green,
            kinds: vec![Kind::Report, Kind::Indicator],
            purpose: "detection".to_owned(),
            quota: None,
            from: at(0),
            until: at(300 * DAY_MS),
            after_end: AfterEnd::Purge,
            purge_after_days: Some(30),
            revoked: None,
        }],
        quota: Quota { records_per_second: 10, burst_records: 1000, records_per_day: 50_000, bytes_per_day: 268_435_456 },
        freshness: vec![FreshnessKey { member: "hub".parse().unwrap(), key: key(21).public() }],
        floor: FormatFloor { format: 1, from: at(0) },
        resolves: None,
    }
}

pub fn charter(change: impl FnOnce(&mut Charter)) -> Result<SignedCharter, CharterError> {
    let mut charter = plain_charter();
    change(&mut charter);
    SignedCharter::found(charter, &[&key(1), &key(2)])
}

pub fn plain_card() -> Card {
    let member: MemberId = "vendor-one".parse().unwrap();
    Card {
        format: 1,
        member: member.clone(),
        serial: 1,
        issued: at(0),
        publishing: vec![PublishingKey {
            key: key(31).public(),
            node: "main".to_owned(),
            lane: 0,
            from: at(0),
            until: Some(at(200 * DAY_MS)),
        }],
        nodes: vec![NodeKey { name: "main".to_owned(), key: key(41).public(), from: at(0), until: None, receive_only: None }],
        channels: vec![
            Channel { name: "c2".parse().unwrap(), audience: Audience::federation(), description: None, from: at(0), until: None },
            Channel { name: "own".parse().unwrap(), audience: Audience::named(vec![member]), description: None, from: at(0), until: None },
        ],
        pins: Vec::new(),
        epochs: Vec::new(),
    }
}

pub fn card(change: impl FnOnce(&mut Card)) -> Result<SignedCard, CardError> {
    let mut card = plain_card();
    change(&mut card);
    SignedCard::sign(&card, &key(13), &federation())
}

pub fn roster() -> Roster {
    let mut roster = Roster::new(charter(|_| ()).unwrap());
    let stamp = SignedStamp::sign(roster.charter(), &key(21), at(0)).unwrap();
    roster.take_stamp(stamp.bytes()).unwrap();
    roster.take_card(card(|_| ()).unwrap().bytes()).unwrap();
    roster
}

fn report() -> Record {
    Record::Report(Report {
        kind: Kind::Report,
        role: Some(Role::Attacker),
        usage: Some(Use::Block),
        confidence: Some(85),
        valid_from: Some(at(0)),
        valid_until: Some(at(90 * DAY_MS)),
        tags: vec!["malware:loader".to_owned()],
        title: "Loader, autumn".to_owned(),
        description: Some("What it talks to.".to_owned()),
        language: Some("en".to_owned()),
        actors: vec!["none known".to_owned()],
        malware: vec!["loader".to_owned()],
        techniques: vec!["T1071".to_owned()],
        references: vec!["https://vendor.example/blog".to_owned()],
        source: Some(Source { organisation: Some("Another Vendor".to_owned()), url: None, external_id: Some("AV-7".to_owned()) }),
        caveat: Some("not for court".to_owned()),
        replaces: None,
    })
}

fn indicator(text: &str) -> Indicator {
    Indicator::of(Observable::recognise(text).unwrap(), Some(WireRef::Batch(0)))
}

/// A record of every kind and every type of value, under names.
pub fn records() -> Vec<(String, Vec<u8>)> {
    let reference: RecordRef = "xa-police/leads#7.3".parse().unwrap();
    let mut all = vec![("report".to_owned(), report())];
    for text in [
        "192.0.2.7",
        "2001:db8::7",
        "192.0.2.0/24",
        "c2.evil.example",
        "192.0.2.7:8443",
        "http://evil.example/gate.php",
        "x@evil.example",
        "d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "AS64496",
        "t13d1516h2_8daaf6152771_e5627efa2ab1",
    ] {
        let one = indicator(text);
        all.push((format!("indicator_{}", one.value.kind().name().replace('-', "_")), Record::Indicator(one)));
    }
    let other = Observable::other_from_text("mutex", "Global\\loader").unwrap();
    all.push(("indicator_other".to_owned(), Record::Indicator(Indicator::of(other, None))));
    all.push((
        "indicator_with_every_field".to_owned(),
        Record::Indicator(Indicator {
            scope: Some(Scope::Subdomains),
            role: Some(Role::Compromised),
            usage: Some(Use::Hunt),
            confidence: Some(40),
            valid_from: Some(at(0)),
            valid_until: Some(at(1)),
            tags: vec!["shop".to_owned()],
            source: Some(Source {
                organisation: Some("Shop CERT".to_owned()),
                url: Some("https://cert.example/1".to_owned()),
                external_id: None,
            }),
            replaces: Some(WireRef::Feed(3, 1)),
            ..indicator("shop.example")
        }),
    ));
    all.push((
        "sighting_of_a_value".to_owned(),
        Record::Sighting(Sighting {
            of: Sighted::Value(Observable::recognise("evil.example").unwrap()),
            sighting: SightingKind::Seen,
            count: Some(12),
            from: Some(at(0)),
            until: Some(at(1000)),
            country: Some("XA".to_owned()),
            description: None,
        }),
    ));
    all.push((
        "dispute_of_a_record".to_owned(),
        Record::Sighting(Sighting {
            of: Sighted::Records(vec![WireRef::Whole(reference)]),
            sighting: SightingKind::FalsePositive,
            count: None,
            from: None,
            until: None,
            country: None,
            description: Some("our own scanner".to_owned()),
        }),
    ));
    all.push((
        "withdrawal".to_owned(),
        Record::Withdrawal(Withdrawal {
            kind: Kind::Withdrawal,
            description: Some("misread".to_owned()),
            targets: vec![WireRef::Feed(1, 2), WireRef::Member("malware".parse().unwrap(), 1, 2, 9, 0)],
            reason: Reason::OverShared,
        }),
    ));
    all.push((
        "renewal".to_owned(),
        Record::Renewal(Renewal { kind: Kind::Renewal, valid_until: at(9), targets: vec![WireRef::Feed(1, 0)] }),
    ));
    all.push((
        "question".to_owned(),
        Record::Question(Question {
            value: None,
            text: "Who has seen this loader?".to_owned(),
            language: Some("en".to_owned()),
            until: Some(at(5)),
        }),
    ));
    let document = |content| {
        Record::Document(Document {
            title: "Rule".to_owned(),
            media_type: "text/x-yara".to_owned(),
            content,
            description: None,
            language: None,
            tags: vec!["yara".to_owned()],
            targets: vec![WireRef::Batch(0)],
            replaces: None,
        })
    };
    all.push(("document_inline".to_owned(), document(Content::Inline("rule x { condition: false }".to_owned()))));
    all.push(("document_by_hash".to_owned(), document(Content::Hash { hash: ContentHash([7; 32]), length: 1_000_000 })));
    all.into_iter().map(|(name, record)| (name, record.encode().unwrap())).collect()
}

/// A batch of vendor-one: a report and three indicators.
pub fn batch(change: impl FnOnce(&mut Head)) -> (Head, Vec<u8>) {
    let mut bodies = vec![report().encode().unwrap()];
    bodies.extend(["192.0.2.7", "evil.example", "http://evil.example/a"].map(|text| Record::Indicator(indicator(text)).encode().unwrap()));
    let seed = Seed([5; 16]);
    let body = encode_full(&seed, &bodies);
    let mut head = Head {
        format: 1,
        member: "vendor-one".parse().unwrap(),
        channel: "c2".parse().unwrap(),
        lane: 0,
        epoch: 1,
        audience: Audience::federation(),
        seq: 1,
        prev: None,
        floor_seq: 1,
        time: at(10_000),
        tlp: Tlp::Green,
        class: Class::Content,
        count: bodies.len() as u16,
        body_length: body.len() as u32,
        root: root_of(&seed, &bodies),
    };
    change(&mut head);
    (head, body)
}

pub fn sealed(head: &Head, seed: u8, domain: Domain) -> Vec<u8> {
    Sealed::seal(cbor::to_vec(head), &key(seed), domain, &federation()).unwrap().bytes().to_vec()
}

/// What an implementation that knows the vectors' charter and card makes of a head.
fn judge_head(bytes: &[u8]) -> String {
    let signed = match SignedHead::open(bytes, &federation()) {
        Ok(signed) => signed,
        Err(error) => return format!("refused: {error}"),
    };
    let roster = roster();
    match roster.speaker(&signed, at(20_000)) {
        Err(error) => format!("refused: {error}"),
        Ok(key) => match signed.prove(key) {
            Ok(proved) => format!("accepted: {}", proved.id()),
            Err(error) => format!("refused: {error}"),
        },
    }
}

fn judge_record(bytes: &[u8]) -> String {
    match Record::decode(bytes) {
        Ok(Decoded::Record(record)) => format!("accepted: {}", record.kind()),
        Ok(Decoded::Newer(what)) => format!("kept unread: {what}"),
        Err(error) => format!("refused: {error}"),
    }
}

fn judge_charter(bytes: &[u8]) -> String {
    SignedCharter::first(bytes, None)
        .map_or_else(|error| format!("refused: {error}"), |charter| format!("accepted: federation {}", charter.federation()))
}

/// As version 2, after `charter/good`.
fn judge_next(bytes: &[u8]) -> String {
    let mut roster = Roster::new(charter(|_| ()).unwrap());
    roster
        .take_charter(bytes)
        .map_or_else(|error| format!("refused: {error}"), |_| format!("accepted: version {}", roster.charter().charter().version))
}

/// As [`judge_next`], where this node has seen every key of `card/good` in use.
fn judge_next_in_use(bytes: &[u8]) -> String {
    let mut roster = roster();
    let taken = roster.take_charter_unless(bytes, |_| true);
    taken.map_or_else(|error| format!("refused: {error}"), |_| format!("accepted: version {}", roster.charter().charter().version))
}

/// As version 3, after a version 2 without circles, with a new root key of `xa-police` and another third steward.
fn judge_third(bytes: &[u8]) -> String {
    let mut roster = Roster::new(charter(|_| ()).unwrap());
    roster.take_charter(&second_charter()).unwrap();
    roster
        .take_charter(bytes)
        .map_or_else(|error| format!("refused: {error}"), |_| format!("accepted: version {}", roster.charter().charter().version))
}

fn without_circles(one: &mut Charter) {
    one.circles.clear();
    one.members[1].root = key(62).public();
    one.stewards[2].key = key(4).public();
}

fn second_charter() -> Vec<u8> {
    next_charter(without_circles, &[1, 2])
}

/// A version 3 after that one, changed.
fn third_charter(change: impl FnOnce(&mut Charter)) -> Vec<u8> {
    let before = charter(|_| ()).unwrap().next(&second_charter()).unwrap();
    let mut one = plain_charter();
    without_circles(&mut one);
    (one.version, one.prev, one.issued) = (3, Some(before.hash()), at(2 * DAY_MS));
    change(&mut one);
    Cosigned::seal(cbor::to_vec(&one), &[&key(1), &key(2)], Domain::Charter, &before.federation()).unwrap().bytes().to_vec()
}

/// A card at a node that has seen version 2 as above, and `card/good`.
fn judge_card_later(bytes: &[u8]) -> String {
    let mut roster = roster();
    roster.take_charter(&second_charter()).unwrap();
    roster.take_card(bytes).map_or_else(|error| format!("refused: {error}"), |card| format!("accepted: serial {}", card.serial))
}

/// As a second version 2, after `charter/next_good`.
fn judge_rival(bytes: &[u8]) -> String {
    let mut roster = Roster::new(charter(|_| ()).unwrap());
    roster.take_charter(&next_charter(|_| (), &[1, 2])).unwrap();
    match roster.take_charter(bytes) {
        Ok(CharterTaken::Rival) => "accepted: a proof of two charters of one version".to_owned(),
        Ok(CharterTaken::Next) => "accepted: in force".to_owned(),
        Err(error) => format!("refused: {error}"),
    }
}

/// Version 2 after `charter/good`, changed, signed by these seeds.
pub fn next_charter(change: impl FnOnce(&mut Charter), seeds: &[u8]) -> Vec<u8> {
    let before = charter(|_| ()).unwrap();
    let mut one = plain_charter();
    (one.version, one.prev, one.issued) = (2, Some(before.hash()), at(DAY_MS));
    change(&mut one);
    let keys: Vec<SecretKey> = seeds.iter().map(|seed| key(*seed)).collect();
    let signed = Cosigned::seal(cbor::to_vec(&one), &keys.iter().collect::<Vec<_>>(), Domain::Charter, &before.federation());
    signed.unwrap().bytes().to_vec()
}

fn judge_card(bytes: &[u8]) -> String {
    let roster = Roster::new(charter(|_| ()).unwrap());
    SignedCard::open(bytes, &federation(), |id| roster.member(id))
        .map_or_else(|error| format!("refused: {error}"), |card| format!("accepted: serial {}", card.card().serial))
}

fn judge_stamp(bytes: &[u8]) -> String {
    SignedStamp::open(bytes, roster().charter())
        .map_or_else(|error| format!("refused: {error}"), |stamp| format!("accepted: version {}", stamp.stamp().version))
}

fn judge_body(bytes: &[u8]) -> String {
    let head = SignedHead::sign(&batch(|_| ()).0, &key(31), &federation()).unwrap();
    match ProvedBatch::open(head, bytes.to_vec()) {
        Ok(batch) => {
            format!("accepted: {} of {} records", batch.slots().iter().filter(|slot| **slot != Slot::Absent).count(), batch.slots().len())
        }
        Err(error) => format!("refused: {error}"),
    }
}

fn judge_message(bytes: &[u8]) -> String {
    match Message::decode(bytes) {
        Ok(Some(_)) => "accepted".to_owned(),
        Ok(None) => "skipped: a newer kind".to_owned(),
        Err(error) => format!("refused: {error}"),
    }
}

type Judge = fn(&[u8]) -> String;

fn cases() -> Vec<(String, Vec<u8>, Judge)> {
    let mut all: Vec<(String, Vec<u8>, Judge)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, judge: Judge| all.push((name.to_owned(), bytes, judge));
    for (name, bytes) in records() {
        add(&format!("record/{name}"), bytes, judge_record);
    }
    let hex = |text: &str| hex::decode(text).unwrap();
    add("record/bad_long_integer", hex("a4001802010244c00002070300"), judge_record);
    add("record/bad_key_order", hex("a4010100020244c00002070300"), judge_record);
    add("record/bad_duplicate_key", hex("a5000200020101 0244c00002070300".replace(' ', "").as_str()), judge_record);
    add("record/bad_indefinite_map", hex("bf000201010244c0000207ff"), judge_record);
    add("record/bad_trailing_byte", hex("a4000201010244c0000207030000"), judge_record);
    add("record/bad_unknown_key", hex("a5000201010244c00002070300183f01"), judge_record);
    add("record/bad_float", hex("a3000201010 2f97e00".replace(' ', "").as_str()), judge_record);
    add("record/bad_upper_case_domain", hex("a300020104026c4556494c2e6578616d706c65"), judge_record);
    add("record/bad_value_of_wrong_length", hex("a3000201010243c00002"), judge_record);
    add("record/newer_kind", hex("a100182a"), judge_record);
    // A report whose source has key 64: not in the outermost map, and no less unread.
    add("record/newer_extension_key_inside", hex("a300010c617813a20061731840 01".replace(' ', "").as_str()), judge_record);
    // Found by fuzzing: tags (an array) as a byte string.
    add("record/bad_bytes_for_an_array", hex("a300010941610c6178"), judge_record);
    add("record/newer_extension_key", hex("a5000201010244c00002070300184001"), judge_record);

    add("head/good", sealed(&batch(|_| ()).0, 31, Domain::Head), judge_head);
    add("head/bad_domain_tag", sealed(&batch(|_| ()).0, 31, Domain::Stamp), judge_head);
    add("head/bad_key", sealed(&batch(|_| ()).0, 32, Domain::Head), judge_head);
    let mut flipped = sealed(&batch(|_| ()).0, 31, Domain::Head);
    *flipped.last_mut().unwrap() ^= 1;
    add("head/bad_signature", flipped, judge_head);
    add("head/bad_amber_to_the_federation", sealed(&batch(|head| head.tlp = Tlp::Amber).0, 31, Domain::Head), judge_head);
    add("head/bad_seq_zero", sealed(&batch(|head| head.seq = 0).0, 31, Domain::Head), judge_head);
    add("head/bad_prev_missing", sealed(&batch(|head| head.seq = 2).0, 31, Domain::Head), judge_head);
    add("head/bad_count_zero", sealed(&batch(|head| head.count = 0).0, 31, Domain::Head), judge_head);
    add("head/bad_unknown_channel", sealed(&batch(|head| head.channel = "leads".parse().unwrap()).0, 31, Domain::Head), judge_head);
    add("head/bad_other_member", sealed(&batch(|head| head.member = "xa-police".parse().unwrap()).0, 31, Domain::Head), judge_head);
    add("head/bad_epoch_without_card", sealed(&batch(|head| head.epoch = 2).0, 31, Domain::Head), judge_head);
    add("head/bad_retired_key", sealed(&batch(|head| head.time = at(201 * DAY_MS)).0, 31, Domain::Head), judge_head);
    add("head/newer_format", sealed(&batch(|head| head.format = 2).0, 31, Domain::Head), judge_head);
    add("head/bad_tagged", [&[0xd2][..], &sealed(&batch(|_| ()).0, 31, Domain::Head)].concat(), judge_head);

    let (head, body) = batch(|_| ());
    let whole = ProvedBatch::open(SignedHead::sign(&head, &key(31), &federation()).unwrap(), body.clone()).unwrap();
    add("body/full", body.clone(), judge_body);
    add("body/part_one_record", whole.part(|index| index == 2).unwrap(), judge_body);
    add("body/part_nothing", whole.part(|_| false).unwrap(), judge_body);
    let mut wrong = body.clone();
    *wrong.last_mut().unwrap() ^= 1;
    add("body/bad_root", wrong, judge_body);
    add("body/bad_length", [&body[..], &[0]].concat(), judge_body);

    add("charter/good", charter(|_| ()).unwrap().bytes().to_vec(), judge_charter);
    let signed = |change: fn(&mut Charter), seeds: &[u8]| {
        let mut one = plain_charter();
        change(&mut one);
        let payload = cbor::to_vec(&one);
        let id = FederationId(Hash::of(&payload).0);
        let keys: Vec<SecretKey> = seeds.iter().map(|seed| key(*seed)).collect();
        Cosigned::seal(payload, &keys.iter().collect::<Vec<_>>(), Domain::Charter, &id).unwrap().bytes().to_vec()
    };
    add("charter/bad_one_signature_of_two", signed(|_| (), &[1]), judge_charter);
    add("charter/bad_stranger_signed", signed(|_| (), &[1, 9]), judge_charter);
    add("charter/bad_same_key_twice", signed(|one| one.stewards[1].key = key(1).public(), &[1]), judge_charter);
    add("charter/bad_threshold_of_half", signed(|one| one.threshold = 1, &[1, 2]), judge_charter);
    add("charter/bad_life_too_long", signed(|one| one.expires = at(401 * DAY_MS), &[1, 2]), judge_charter);
    add("charter/bad_two_members_one_id", signed(|one| one.members[1].id = one.members[0].id.clone(), &[1, 2]), judge_charter);
    add("charter/bad_two_members_one_key", signed(|one| one.members[1].root = one.members[0].root, &[1, 2]), judge_charter);
    add("charter/bad_members_root_is_a_stewards_key", signed(|one| one.members[1].root = key(1).public(), &[1, 2]), judge_charter);
    add("charter/bad_country_without_code", signed(|one| one.members[1].country = None, &[1, 2]), judge_charter);
    add(
        "charter/bad_freshness_key_of_a_vendor",
        signed(|one| one.freshness[0].member = "vendor-one".parse().unwrap(), &[1, 2]),
        judge_charter,
    );
    add("charter/bad_version_two_first", signed(|one| (one.version, one.prev) = (2, Some(Hash([0; 32]))), &[1, 2]), judge_charter);
    add("charter/next_good", next_charter(|_| (), &[1, 2]), judge_next);
    add(
        "charter/next_new_steward_signs_too",
        next_charter(|one| (one.stewards[2].key, one.threshold) = (key(4).public(), 2), &[1, 2, 4]),
        judge_next,
    );
    add("charter/bad_next_jump", next_charter(|one| one.version = 3, &[1, 2]), judge_next);
    add("charter/bad_next_old", next_charter(|one| (one.version, one.prev) = (1, None), &[1, 2]), judge_next);
    add("charter/bad_next_prev", next_charter(|one| one.prev = Some(Hash([9; 32])), &[1, 2]), judge_next);
    add("charter/bad_next_one_signature", next_charter(|_| (), &[1]), judge_next);
    // Both new stewards sign, and only one of those before.
    let taken_over = |one: &mut Charter| (1..3).for_each(|index| one.stewards[index].key = key(4 + index as u8).public());
    add("charter/bad_next_threshold_of_the_version_before", next_charter(taken_over, &[1, 5, 6]), judge_next);
    let replaced = |one: &mut Charter| (0..3).for_each(|index| one.stewards[index].key = key(4 + index as u8).public());
    add("charter/bad_next_threshold_of_its_own", next_charter(replaced, &[1, 2]), judge_next);
    add("charter/bad_next_generation_falls", next_charter(|one| one.circles[0].generation = 1, &[1, 2]), judge_next);
    let sneaks_in = |one: &mut Charter| {
        one.circles[0].generation = 3;
        one.circles[0].members.push(CircleMember { id: "hub".parse().unwrap(), since: 2, until: None });
    };
    add("charter/bad_next_joins_a_circle_in_the_past", next_charter(sneaks_in, &[1, 2]), judge_next);
    add("charter/bad_next_resolves_another", next_charter(|one| one.resolves = Some(Hash([9; 32])), &[1, 2]), judge_next);
    // X5: one key, one holder, one purpose, also over cards and over time.
    let with_root = |seed: u8| next_charter(move |one| one.members[1].root = key(seed).public(), &[1, 2]);
    add("charter/bad_next_root_is_a_node_key_in_use", with_root(41), judge_next_in_use);
    add("charter/bad_next_root_is_a_publishing_key_in_use", with_root(31), judge_next_in_use);
    add("charter/next_root_is_a_key_that_a_card_only_claims", with_root(41), |bytes| {
        let mut roster = roster();
        let taken = roster.take_charter(bytes);
        let card = roster.card(&"vendor-one".parse().unwrap()).is_some();
        taken.map_or_else(|error| format!("refused: {error}"), |_| format!("accepted: version 2, the card counts: {card}"))
    });
    let steward_in_use = next_charter(|one| one.stewards[2].key = key(31).public(), &[1, 2]);
    add("charter/bad_next_steward_has_a_publishing_key_in_use", steward_in_use, judge_next_in_use);
    let freshness_in_use = next_charter(|one| one.freshness[0].key = key(41).public(), &[1, 2]);
    add("charter/bad_next_freshness_key_is_a_node_key_in_use", freshness_in_use, judge_next_in_use);
    let changes_hands = |one: &mut Charter| {
        one.members[1].root = one.members[2].root;
        one.members[2].root = key(63).public();
    };
    add("charter/bad_next_root_changes_hands", next_charter(changes_hands, &[1, 2]), judge_next);
    let becomes_steward = |one: &mut Charter| {
        one.stewards[2].key = one.members[2].root;
        one.members[2].root = key(63).public();
    };
    add("charter/bad_next_root_becomes_a_stewards_key", next_charter(becomes_steward, &[1, 2]), judge_next);
    add("charter/third_good", third_charter(|_| ()), judge_third);
    let former_steward = third_charter(|one| one.members[2].root = key(3).public());
    add("charter/bad_third_root_is_a_former_stewards_key", former_steward, judge_third);
    let former_root = third_charter(|one| one.members[2].root = key(12).public());
    add("charter/bad_third_root_is_another_members_former_root", former_root, judge_third);
    add("charter/third_root_returns", third_charter(|one| one.members[1].root = key(12).public()), judge_third);
    // X6: generations never fall.
    let circle = |generation: u64, since: u64| {
        let hub = CircleMember { id: "hub".parse().unwrap(), since, until: None };
        let again = Circle { name: "finance".parse().unwrap(), generation, history: History::Closed, members: vec![hub] };
        third_charter(move |one| one.circles.push(again))
    };
    add("charter/third_circle_continues", circle(3, 3), judge_third);
    add("charter/bad_third_circle_begins_at_one", circle(1, 1), judge_third);
    add("charter/bad_third_circle_begins_at_its_last_generation", circle(2, 2), judge_third);
    add("charter/bad_third_circle_reaches_back", circle(3, 2), judge_third);
    add("charter/rival", next_charter(|one| one.name = "Rival".to_owned(), &[1, 3]), judge_rival);
    add("charter/bad_rival_one_signature", next_charter(|one| one.name = "Rival".to_owned(), &[3]), judge_rival);
    add("charter/bad_rival_same_charter", next_charter(|_| (), &[2, 3]), judge_rival);
    // S-02: a small-order point where a steward's key stands.
    let mut weak = charter(|_| ()).unwrap().bytes().to_vec();
    let place = weak.windows(32).position(|window| window == key(3).public().to_bytes()).unwrap();
    weak[place..place + 32].copy_from_slice(&hex("0100000000000000000000000000000000000000000000000000000000000000"));
    add("charter/bad_small_order_key", weak, judge_charter);

    add("stamp/good", SignedStamp::sign(roster().charter(), &key(21), at(0)).unwrap().bytes().to_vec(), judge_stamp);
    let stamp = |change: fn(&mut Stamp), seed: u8| {
        let mut one = Stamp { format: 1, version: 1, hash: roster().charter().hash(), time: at(0), until: at(DAY_MS) };
        change(&mut one);
        Sealed::seal(cbor::to_vec(&one), &key(seed), Domain::Stamp, &federation()).unwrap().bytes().to_vec()
    };
    add("stamp/bad_key", stamp(|_| (), 22), judge_stamp);
    add("stamp/bad_other_charter", stamp(|one| one.hash = Hash([0; 32]), 21), judge_stamp);
    add("stamp/bad_life_of_eight_days", stamp(|one| one.until = at(8 * DAY_MS), 21), judge_stamp);

    add("card/good", card(|_| ()).unwrap().bytes().to_vec(), judge_card);
    let raw_card = |change: fn(&mut Card), seed: u8| {
        let mut one = plain_card();
        change(&mut one);
        Sealed::seal(cbor::to_vec(&one), &key(seed), Domain::Card, &federation()).unwrap().bytes().to_vec()
    };
    add("card/bad_signed_by_publishing_key", raw_card(|_| (), 31), judge_card);
    let of_hub = |seed: u8| {
        let mut one = plain_card();
        one.member = "hub".parse().unwrap();
        (one.publishing[0].key, one.nodes[0].key) = (key(32).public(), key(seed).public());
        one.channels.truncate(1);
        SignedCard::sign(&one, &key(11), &federation()).unwrap().bytes().to_vec()
    };
    add("card/later_good", of_hub(42), judge_card_later);
    add("card/bad_later_claims_another_members_node_key", of_hub(41), judge_card_later);
    add("card/bad_later_claims_a_former_root", of_hub(12), judge_card_later);
    add("card/bad_later_claims_a_former_stewards_key", of_hub(3), judge_card_later);
    add("card/bad_later_claims_its_own_root", of_hub(11), judge_card_later);
    let other_purpose = raw_card(|one| (one.serial, one.publishing[0].key, one.nodes[0].key) = (2, key(33).public(), key(31).public()), 13);
    add("card/bad_later_uses_a_publishing_key_for_a_node", other_purpose, judge_card_later);
    add(
        "card/bad_two_keys_on_one_lane",
        raw_card(|one| one.publishing.push(PublishingKey { key: key(32).public(), ..one.publishing[0].clone() }), 13),
        judge_card,
    );
    add("card/bad_one_key_for_two_purposes", raw_card(|one| one.nodes[0].key = one.publishing[0].key, 13), judge_card);
    add("card/bad_stranger", raw_card(|one| one.member = "nobody".parse().unwrap(), 13), judge_card);

    let whereabouts =
        Whereabouts { format: 1, serial: 1, time: at(0), until: at(DAY_MS), addresses: vec!["/ip4/192.0.2.1/tcp/4100".to_owned()] };
    add("whereabouts/good", sign_whereabouts(&whereabouts, &key(41), &federation()).unwrap(), |bytes| {
        open_whereabouts(bytes, &key(41).public(), &federation())
            .map_or_else(|error| format!("refused: {error}"), |_| "accepted".to_owned())
    });
    let statement = Statement {
        format: 1,
        member: "vendor-one".parse().unwrap(),
        serial: 1,
        issued: at(0),
        audience: Audience::named(vec!["xa-police".parse().unwrap()]),
        channels: Vec::new(),
        pins: Vec::new(),
        epochs: vec![Epoch { channel: "own".parse().unwrap(), lane: 0, epoch: 2 }],
    };
    add("statement/good", sign_statement(&statement, &key(13), &federation()).unwrap(), |bytes| {
        let roster = roster();
        let member = roster.member(&"vendor-one".parse().unwrap()).unwrap();
        open_statement(bytes, member, &federation()).map_or_else(|error| format!("refused: {error}"), |_| "accepted".to_owned())
    });
    let one = SignedHead::sign(&batch(|_| ()).0, &key(31), &federation()).unwrap();
    let other = SignedHead::sign(&batch(|head| head.time = at(10_001)).0, &key(31), &federation()).unwrap();
    add("proof/equivocation", cbor::to_vec(&equivocation(&one, &other).unwrap()), |bytes| {
        let proof: Equivocation = cbor::from_slice(bytes, 100_000).unwrap();
        format!("first {}, second {}", judge_head(&proof.one), judge_head(&proof.other))
    });

    let feed: FeedId = "vendor-one/c2".parse().unwrap();
    let pull = Message::Pull(replica::Pull { kind: number::PULL, request: 1, feed: (&feed).into(), seq: 1, ahead: Some(true) });
    add("message/pull", pull.encode(), judge_message);
    let cursor = replica::Cursor { feed: (&feed).into(), intervals: vec![(1, 9)], head: Hash([3; 32]), incomplete: Some(2) };
    add(
        "message/cursors",
        Message::Cursors(replica::Cursors { kind: number::CURSORS, cursors: vec![cursor], more: false }).encode(),
        judge_message,
    );
    let body = replica::Body { kind: number::BODY, request: 1, body: batch(|_| ()).1.into(), withheld: Some(3), path: Vec::new() };
    add("message/body", Message::Body(body.clone()).encode(), judge_message);
    let path = vec!["xa-police".parse().unwrap(), "xb-police".parse().unwrap()];
    add("message/body_passed_on", Message::Body(replica::Body { path, ..body }).encode(), judge_message);
    let ask = replica::ChunkAsk { kind: number::CHUNK_ASK, request: 4, feed: (&feed).into(), seq: 2, index: 1, chunk: 3 };
    add("message/chunk_ask", Message::ChunkAsk(ask).encode(), judge_message);
    let chunk = replica::Chunk {
        kind: number::CHUNK,
        request: 4,
        feed: (&feed).into(),
        seq: 2,
        index: 1,
        chunk: 3,
        bytes: vec![9; 40].into(),
        path: vec![Hash([1; 32]), Hash([2; 32])],
    };
    add("message/chunk", Message::Chunk(chunk).encode(), judge_message);
    let range =
        replica::Range { kind: number::RANGE, request: 2, feed: (&feed).into(), first: 3, last: 9, bytes_max: 4096, removals: Some(true) };
    add("message/range", Message::Range(range).encode(), judge_message);
    add(
        "message/digest",
        Message::Digest(replica::Digest { kind: number::DIGEST, hash: Hash([5; 32]), revision: Some(7), time: Some(at(9)) }).encode(),
        judge_message,
    );
    let followed = replica::Followed {
        member: "vendor-one".parse().unwrap(),
        channel: "c2".parse().unwrap(),
        types: vec![huecry::record::ObservableType::Ipv4],
        confidence_min: Some(60),
    };
    let follow = replica::Follow { kind: number::FOLLOW, everything: false, channels: vec![followed] };
    add("message/follow", Message::Follow(follow).encode(), judge_message);
    let receipt = replica::Receipt { feed: (&feed).into(), intervals: vec![(1, 4), (6, 9)], exported: Some(9), withheld: Some(37) };
    let receipts = replica::Receipts { kind: number::RECEIPTS, receipts: vec![receipt] };
    add("message/receipts", Message::Receipts(receipts).encode(), judge_message);
    add("message/newer_kind", vec![0xa1, 0, 0x18, 99], judge_message);
    all
}

/// Names and bytes of every vector, for whoever wants near misses of good bytes.
pub fn all() -> Vec<(String, Vec<u8>)> {
    static ALL: std::sync::OnceLock<Vec<(String, Vec<u8>)>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| cases().into_iter().map(|(name, bytes, _)| (name, bytes)).collect()).clone()
}

#[test]
fn the_wire_is_what_the_vectors_say_byte_for_byte() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let bless = std::env::var_os("HUECRY_BLESS").is_some();
    let mut expected = std::collections::BTreeSet::new();
    for (name, bytes, judge) in cases() {
        let verdict = judge(&bytes);
        let bad = name.split('/').nth(1).unwrap().starts_with("bad_");
        assert_eq!(bad, verdict.starts_with("refused"), "{name}: {verdict}");
        let directory = root.join(&name);
        expected.insert(directory.clone());
        if bless {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("bytes.hex"), hex::encode(&bytes) + "\n").unwrap();
            std::fs::write(directory.join("expect.txt"), verdict.clone() + "\n").unwrap();
        }
        let kept = std::fs::read_to_string(directory.join("bytes.hex"))
            .unwrap_or_else(|error| panic!("{name}: {error}; HUECRY_BLESS=1 writes it"));
        assert_eq!(kept.trim(), hex::encode(&bytes), "{name}: the bytes changed");
        assert_eq!(std::fs::read_to_string(directory.join("expect.txt")).unwrap().trim(), verdict, "{name}: the verdict changed");
    }
    for group in std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for directory in std::fs::read_dir(&group).unwrap().map(|entry| entry.unwrap().path()) {
            assert!(expected.contains(&directory), "{} is tested by nothing", directory.display());
        }
    }
}

/// A head made by another implementation of COSE (`tests/interop/cose.py`), when the test script has made one.
#[test]
fn a_head_signed_by_another_cose_implementation_verifies() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop/head.hex");
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("HUECRY_INTEROP").is_none(), "scripts/test must have made {}", path.display());
        println!("skipped: run scripts/test, which makes {}", path.display());
        return;
    };
    let verdict = judge_head(&hex::decode(text.trim()).unwrap());
    assert!(verdict.starts_with("accepted"), "{verdict}");
}

#[test]
fn the_rules_of_speaking_hold_over_time() {
    let mut roster = roster();
    // T-06: a stamp runs out, and a fresh one mends it.
    assert_eq!(roster.freshness(at(6 * DAY_MS)), Freshness::Current);
    assert!(matches!(roster.freshness(at(8 * DAY_MS)), Freshness::Stale { .. }));
    let stamp = SignedStamp::sign(roster.charter(), &key(21), at(8 * DAY_MS)).unwrap();
    assert!(roster.take_stamp(stamp.bytes()).unwrap());
    assert_eq!(roster.freshness(at(8 * DAY_MS)), Freshness::Current);
    // S-07: a jump, an old version and a fork of the charter are refused, and nothing changes.
    let next = |version: u64, prev: Hash| {
        let mut one = plain_charter();
        (one.version, one.prev) = (version, Some(prev));
        Cosigned::seal(cbor::to_vec(&one), &[&key(1), &key(2)], Domain::Charter, &federation()).unwrap().bytes().to_vec()
    };
    let hash = roster.charter().hash();
    assert!(matches!(roster.take_charter(&next(3, hash)), Err(CharterError::Jump { ours: 1, found: 3 })));
    assert!(matches!(roster.take_charter(&next(2, Hash([9; 32]))), Err(CharterError::Fork { version: 2 })));
    assert!(roster.take_charter(&next(2, hash)).is_ok());
    assert!(matches!(roster.take_charter(&next(2, hash)), Err(CharterError::Old { ours: 2, found: 2 })));
    // An agreement that has ended ends content, not removals.
    let head = |class| sealed(&batch(|head| (head.class, head.time) = (class, at(199 * DAY_MS))).0, 31, Domain::Head);
    let speaks = |class, now| {
        let signed = SignedHead::open(&head(class), &federation()).unwrap();
        roster.speaker(&signed, now).map(|_| ())
    };
    assert!(speaks(Class::Content, at(299 * DAY_MS)).is_ok());
    assert!(matches!(speaks(Class::Content, at(301 * DAY_MS)), Err(SpeakError::Standing { .. })));
    assert!(speaks(Class::Removal, at(301 * DAY_MS)).is_ok());
}

#[test]
fn s_05_a_founding_charter_of_another_federation_is_refused() {
    let bytes = charter(|one| one.name = "Impostors".to_owned()).unwrap().bytes().to_vec();
    assert!(matches!(SignedCharter::first(&bytes, Some(&federation())), Err(CharterError::OtherFederation { .. })));
}
