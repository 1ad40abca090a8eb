//! `huecry bench charter`: a federation of the size we aim at, and what its charter costs a node.
//!
//! Workload: 250 members with a card each, 60 circles of 40, 40 agreements, 5 of 9 stewards. `verify` is one next version
//! from bytes to "in order"; `apply` is what the door does with it on a running node: both thresholds, 250 cards looked at
//! again, journal with fsync, roster replaced. While it applies, nothing else passes the door: that is the stall.

use super::Place;
use crate::{
    charter::{
        AfterEnd, Agreement, CHARTER_DAYS_MAX, Card, Channel, Charter, Circle, CircleMember, DOCUMENT_FORMAT, FormatFloor, FreshnessKey,
        History, Member, MemberKind, NodeKey, PublishingKey, Quota, Roster, SignedCard, SignedCharter, Steward,
    },
    cli::{Context, Failure},
    clock::Clock,
    envelope::{Audience, Hash, SecretKey},
    intake::{Intake, Limits},
    ledger::Ledger,
    node::{
        Current, Identity,
        door::{Door, document},
        keys::KeyStore,
        own_heads::OwnHeads,
    },
    policy::{Lists, Policy, Starter},
    record::{DAY_MS, Kind, MemberId, Timestamp, Tlp},
};
use serde_json::json;
use std::{sync::Arc, time::Instant};

const MEMBERS: usize = 250;
const CIRCLES: usize = 60;
const CIRCLE_MEMBERS: usize = 40;
const AGREEMENTS: usize = 40;
const STEWARDS: usize = 9;
const THRESHOLD: u64 = 5;
/// Versions taken one after the other; the figures are their medians.
const VERSIONS: usize = 15;

fn key(class: &str, number: usize) -> Result<SecretKey, Failure> {
    let seed = Hash::of(format!("huecry bench {class} {number}").as_bytes()).0;
    SecretKey::from_seed(&seed).ok_or_else(|| Failure::environment("a key of the bench is all zeros"))
}

fn member_id(number: usize) -> Result<MemberId, Failure> {
    format!("member-{number}").parse().map_err(Failure::usage)
}

fn charter(now: Timestamp) -> Result<Charter, Failure> {
    let member = |number: usize| {
        let kind = match number {
            0 => MemberKind::Coordinator,
            number if number <= AGREEMENTS => MemberKind::Vendor,
            _ => MemberKind::Country,
        };
        Ok(Member {
            id: member_id(number)?,
            name: format!("Organisation number {number} of the bench"),
            kind,
            country: (kind == MemberKind::Country).then(|| "XA".to_owned()),
            root: key("root", number)?.public(),
            quota: None,
            revoked: None,
        })
    };
    let circle = |number: usize| {
        let in_it = |index: usize| Ok(CircleMember { id: member_id((number * 7 + index * 3) % MEMBERS)?, since: 1, until: None });
        Ok(Circle {
            name: format!("circle-{number}").parse().map_err(Failure::usage)?,
            generation: 1,
            history: History::Closed,
            members: (0..CIRCLE_MEMBERS).map(in_it).collect::<Result<_, Failure>>()?,
        })
    };
    let agreement = |number: usize| {
        Ok(Agreement {
            id: format!("agreement-{number}"),
            member: member_id(number)?,
            audiences: vec!["federation".to_owned(), "circle:countries".to_owned()],
            tlp_max: Tlp::Amber,
            kinds: Kind::ALL.to_vec(),
            purpose: "detection and prevention of cybercrime".to_owned(),
            quota: None,
            from: now,
            until: now.plus_ms(1_000 * DAY_MS),
            after_end: AfterEnd::Keep,
            purge_after_days: None,
            revoked: None,
        })
    };
    let steward = |number: usize| Ok(Steward { name: format!("steward {number}"), key: key("steward", number)?.public() });
    Ok(Charter {
        format: DOCUMENT_FORMAT,
        name: "bench".to_owned(),
        version: 1,
        prev: None,
        issued: now,
        expires: now.plus_ms(CHARTER_DAYS_MAX * DAY_MS),
        stewards: (0..STEWARDS).map(steward).collect::<Result<_, Failure>>()?,
        threshold: THRESHOLD,
        members: (0..MEMBERS).map(member).collect::<Result<_, Failure>>()?,
        circles: (0..CIRCLES).map(circle).collect::<Result<_, Failure>>()?,
        agreements: (1..=AGREEMENTS).map(agreement).collect::<Result<_, Failure>>()?,
        quota: Quota { records_per_second: 10, burst_records: 1_000, records_per_day: 50_000, bytes_per_day: 1 << 28 },
        freshness: vec![FreshnessKey { member: member_id(0)?, key: key("freshness", 0)?.public() }],
        floor: FormatFloor { format: 1, from: now },
        resolves: None,
    })
}

fn card(number: usize, charter: &SignedCharter, now: Timestamp) -> Result<SignedCard, Failure> {
    let channel = |name: &str| {
        let name = name.parse().map_err(Failure::usage)?;
        Ok(Channel { name, audience: Audience::federation(), description: None, from: now, until: None })
    };
    let publishing = key("publishing", number)?.public();
    let card = Card {
        format: DOCUMENT_FORMAT,
        member: member_id(number)?,
        serial: 1,
        issued: now,
        publishing: vec![PublishingKey { key: publishing, node: "main".to_owned(), lane: 0, from: now, until: None }],
        nodes: vec![NodeKey { name: "main".to_owned(), key: key("node", number)?.public(), from: now, until: None, receive_only: None }],
        channels: ["indicators", "reports", "c2"].into_iter().map(channel).collect::<Result<_, Failure>>()?,
        pins: Vec::new(),
        epochs: Vec::new(),
    };
    SignedCard::sign(&card, &key("root", number)?, &charter.federation()).map_err(Failure::usage)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let (place, now) = (Place::new(None)?, Clock::System.now());
    let stewards: Vec<SecretKey> = (0..THRESHOLD as usize).map(|number| key("steward", number)).collect::<Result<_, _>>()?;
    let signers: Vec<&SecretKey> = stewards.iter().collect();
    let mut current = SignedCharter::found(charter(now)?, &signers).map_err(Failure::usage)?;
    let bytes = current.bytes().len();
    let mut roster = Roster::new(current.clone());
    for number in 0..MEMBERS {
        roster.take_card(card(number, &current, now)?.bytes()).map_err(Failure::usage)?;
    }
    let policy = Policy::parse("policy.cedar", Starter::National.policy()).map_err(Failure::environment)?;
    let intake =
        Intake { roster: Arc::new(roster), policy: Arc::new(policy), lists: Arc::new(Lists::default()), limits: Limits::default() };
    let (_ledger, writer, _) = Ledger::open(&place.path.join("ledger")).map_err(Failure::environment)?;
    let identity = Identity { member: member_id(1)?, node_name: "main".to_owned(), lane: 0, node: key("node", 1)?, freshness: None };
    let keys = KeyStore::in_data(&place.path).map_err(Failure::environment)?;
    let mut door = Door::new(writer, Current::new(intake), Arc::new(identity), keys, None, OwnHeads::default(), Clock::System);
    let (mut verify, mut apply) = (Vec::new(), Vec::new());
    for version in 0..VERSIONS {
        let mut next = current.charter().clone();
        (next.version, next.prev) = (next.version + 1, Some(current.hash()));
        next.members.iter_mut().for_each(|member| member.name = format!("{} v{version}", member.id));
        let signed = current.succeed(next, &signers).map_err(Failure::usage)?;
        let begun = Instant::now();
        let verified = current.next(signed.bytes()).map_err(Failure::usage)?;
        verify.push(begun.elapsed().as_secs_f64() * 1_000.0);
        let begun = Instant::now();
        door.take_document(document::CHARTER, signed.bytes(), &mut Vec::new()).map_err(Failure::environment)?;
        apply.push(begun.elapsed().as_secs_f64() * 1_000.0);
        current = verified;
    }
    let (verify_ms, apply_ms) = (median(verify), median(apply));
    let screen = &context.screen;
    screen.line(&format!(
        "charter: {MEMBERS} members with cards, {CIRCLES} circles of {CIRCLE_MEMBERS}, {AGREEMENTS} agreements, {THRESHOLD} of {STEWARDS} stewards, {bytes} bytes"
    ));
    screen.line(&format!("  verify  {verify_ms:.1} ms, median of {VERSIONS} versions (asked: 20)"));
    screen.line(&format!("  apply   {apply_ms:.1} ms, journal with fsync and {MEMBERS} cards included (asked: 100)"));
    screen.value(&json!({ "verify_ms": verify_ms, "apply_ms": apply_ms, "bytes": bytes, "members": MEMBERS, "circles": CIRCLES }));
    Ok(())
}
