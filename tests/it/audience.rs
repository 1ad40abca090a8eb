//! Who may receive: two implementations against each other, the guard at the door outwards, and what members see.

use huecry::{
    charter::{
        AfterEnd, Agreement, Charter, Circle, CircleMember, DOCUMENT_FORMAT, FormatFloor, History, Member, MemberKind, Quota, Roster,
        SignedCharter, Steward,
    },
    envelope::{Audience, Class, Hash, Head, Readers, SecretKey},
    policy::{Way, may_gossip, may_send, releases},
    record::{CircleName, DAY_MS, Kind, MemberId, Timestamp, Tlp},
    sim::Dice,
};

/// Random cases in the ordinary tests; `HUECRY_CASES=10000000` is what was asked for, and takes some minutes.
const CASES: u64 = 300_000;
/// Cases under each random charter.
const CASES_PER_CHARTER: u64 = 5_000;

const TLPS: [Tlp; 5] = [Tlp::Clear, Tlp::Green, Tlp::Amber, Tlp::AmberStrict, Tlp::Red];

fn pick<T: Clone>(dice: &mut Dice, of: &[T]) -> T {
    of[dice.below(of.len() as u64) as usize].clone()
}

fn day(day: u64) -> Timestamp {
    Timestamp::from_ms(1_790_000_000_000 + day * DAY_MS).unwrap()
}

fn circles() -> Vec<CircleName> {
    ["finance", "energy", "countries", "vendors", "nobody-knows"].iter().map(|name| name.parse().unwrap()).collect()
}

fn random_charter(dice: &mut Dice) -> (SignedCharter, Vec<MemberId>) {
    let kinds =
        [MemberKind::Country, MemberKind::Country, MemberKind::Vendor, MemberKind::Vendor, MemberKind::Coordinator, MemberKind::Observer];
    let steward = SecretKey::from_seed(&dice.seed()).unwrap();
    let ids: Vec<MemberId> = (0..8).map(|number| format!("member-{number}").parse().unwrap()).collect();
    let members = ids.iter().map(|id| Member {
        id: id.clone(),
        name: id.to_string(),
        kind: pick(dice, &kinds),
        country: Some("XA".to_owned()),
        root: SecretKey::from_seed(&dice.seed()).unwrap().public(),
        quota: None,
        revoked: dice.percent(15).then(|| day(dice.below(20))),
    });
    let members: Vec<Member> = members.collect();
    let circle = |dice: &mut Dice, name: &str| {
        let generation = 1 + dice.below(5);
        let mut inside = Vec::new();
        for id in &ids {
            if dice.percent(60) {
                let since = 1 + dice.below(generation);
                let until = (since < generation && dice.percent(40)).then(|| since + dice.below(generation - since));
                inside.push(CircleMember { id: id.clone(), since, until });
            }
        }
        let history = if dice.percent(30) { History::Open } else { History::Closed };
        Circle { name: name.parse().unwrap(), generation, history, members: inside }
    };
    let names = ["federation", "circle:finance", "circle:energy", "circle:countries", "named"];
    let mut agreements = Vec::new();
    for number in 0..6 {
        let from = dice.below(15);
        agreements.push(Agreement {
            id: format!("a{number}"),
            member: pick(dice, &ids),
            audiences: names.iter().filter(|_| dice.percent(60)).map(|name| (*name).to_owned()).collect(),
            tlp_max: pick(dice, &TLPS),
            kinds: Kind::ALL.to_vec(),
            purpose: "test".to_owned(),
            quota: None,
            from: day(from),
            until: day(from + 1 + dice.below(20)),
            after_end: AfterEnd::Keep,
            purge_after_days: None,
            revoked: dice.percent(15).then(|| day(dice.below(25))),
        });
    }
    let charter = Charter {
        format: DOCUMENT_FORMAT,
        name: "Random".to_owned(),
        version: 1,
        prev: None,
        issued: day(0),
        expires: day(300),
        stewards: vec![Steward { name: "S".to_owned(), key: steward.public() }],
        threshold: 1,
        members,
        circles: vec![circle(dice, "finance"), circle(dice, "energy")],
        agreements,
        quota: Quota { records_per_second: 10, burst_records: 1_000, records_per_day: 50_000, bytes_per_day: 1 << 28 },
        freshness: Vec::new(),
        floor: FormatFloor { format: 1, from: day(0) },
        resolves: None,
    };
    (SignedCharter::found(charter, &[&steward]).unwrap(), ids)
}

fn some(dice: &mut Dice, of: &[MemberId], percent: u64) -> Vec<MemberId> {
    of.iter().filter(|_| dice.percent(percent)).cloned().collect()
}

fn random_head(dice: &mut Dice, ids: &[MemberId]) -> Head {
    let readers = match dice.below(4) {
        0 => Readers::Federation,
        1 => Readers::Named(some(dice, ids, 40)),
        _ => Readers::Circle { name: pick(dice, &circles()), generation: 1 + dice.below(7), excluded: some(dice, ids, 20) },
    };
    let mut onward = Vec::new();
    for name in ["circle:countries", "circle:energy", "circle:finance", "circle:nobody-knows", "federation"] {
        if dice.percent(20) {
            onward.push(name.to_owned());
        }
    }
    onward.extend(some(dice, ids, 15).iter().map(|id| format!("member:{id}")));
    onward.sort();
    Head {
        format: 1,
        member: pick(dice, ids),
        channel: "c".parse().unwrap(),
        lane: 0,
        epoch: 1,
        audience: Audience { readers, onward },
        seq: 1,
        prev: None,
        floor_seq: 1,
        time: day(5),
        tlp: pick(dice, &TLPS),
        class: if dice.percent(25) { Class::Removal } else { Class::Content },
        count: 1,
        body_length: 1,
        root: Hash([0; 32]),
    }
}

#[test]
fn g_11_may_send_and_the_egress_guard_agree_in_every_random_case() {
    let cases = std::env::var("HUECRY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let seed = std::env::var("HUECRY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(11);
    let mut dice = Dice::new(seed);
    let (mut tried, mut sent, mut onward_only) = (0u64, 0u64, 0u64);
    while tried < cases {
        let (charter, mut ids) = random_charter(&mut dice);
        let roster = Roster::new(charter.clone());
        ids.push("stranger".parse().unwrap());
        for _ in 0..CASES_PER_CHARTER {
            let head = random_head(&mut dice, &ids[..8]);
            let reader = pick(&mut dice, &ids);
            let now = day(dice.below(30));
            for way in [Way::Published, Way::Onward] {
                let one = may_send(&roster, &head, &reader, now, way);
                let other = releases(charter.charter(), &head, &reader, now, way == Way::Onward);
                assert_eq!(one.is_ok(), other, "{one:?} to {reader} {way:?} at {now}: {head:#?}\n{:#?}", charter.charter());
                sent += u64::from(other);
            }
            let passed_on =
                releases(charter.charter(), &head, &reader, now, true) && !releases(charter.charter(), &head, &reader, now, false);
            onward_only += u64::from(passed_on);
            if passed_on && head.class == Class::Content {
                assert!(head.tlp <= Tlp::Amber, "AMBER+STRICT and RED are never passed on");
            }
            if may_gossip(&head) && head.class == Class::Content {
                // What is gossiped everyone in good standing without terms of their own may read.
                let country = charter.charter().members.iter().find(|one| one.id == reader && one.kind == MemberKind::Country);
                let sender = roster.standing(&head.member, now) == huecry::charter::Standing::Good;
                if country.is_some_and(|one| one.revoked.is_none()) && sender {
                    assert!(may_send(&roster, &head, &reader, now, Way::Published).is_ok());
                }
            }
            tried += 1;
        }
    }
    // Neither half of the question is empty.
    assert!(sent * 20 > tried && sent < tried, "{sent} of {tried}");
    assert!(onward_only * 200 > tried, "{onward_only} of {tried}");
}

#[test]
fn a_removal_reaches_those_who_left_the_circle_and_no_content_does() {
    let mut dice = Dice::new(3);
    let mut seen = 0;
    while seen < 50 {
        let (charter, ids) = random_charter(&mut dice);
        let roster = Roster::new(charter.clone());
        for circle in &charter.charter().circles {
            for left in circle.members.iter().filter(|one| one.until.is_some()) {
                let readers = Readers::Circle { name: circle.name.clone(), generation: circle.generation, excluded: Vec::new() };
                let content = Head {
                    audience: Audience { readers, onward: Vec::new() },
                    member: ids[0].clone(),
                    tlp: Tlp::Amber,
                    class: Class::Content,
                    ..random_head(&mut dice, &ids)
                };
                let removal = Head { class: Class::Removal, ..content.clone() };
                let revoked = charter.charter().members.iter().any(|one| one.id == left.id && one.revoked.is_some());
                if left.id == ids[0] || revoked {
                    continue;
                }
                assert!(may_send(&roster, &content, &left.id, day(2), Way::Published).is_err());
                assert!(may_send(&roster, &removal, &left.id, day(2), Way::Published).is_ok());
                seen += 1;
            }
        }
    }
}

#[test]
fn what_the_whole_federation_may_read_is_gossiped_and_nothing_else() {
    let mut dice = Dice::new(5);
    let (_, ids) = random_charter(&mut dice);
    let mut gossiped = 0;
    for _ in 0..2_000 {
        let head = random_head(&mut dice, &ids);
        let for_all = head.audience.readers == Readers::Federation && [Tlp::Clear, Tlp::Green].contains(&head.tlp);
        assert_eq!(may_gossip(&head), for_all, "{head:#?}");
        gossiped += u64::from(for_all);
    }
    assert!(gossiped > 50);
}
