//! Membership: how a federation begins, and how a member comes into one.
//!
//! ```text
//! init -> keys, node.toml, policy.cedar -> request file -> charter edit, sign, publish (stewards) -> invitation -> join
//! ```
//!
//! `found` and `admit` are the short way for a federation with one steward, whose key lies in the data directory.

use super::{
    keys::{KeyStore, Purpose},
    setup::{NewNode, SetupError, check_card, no_node, read_file, write_config, write_file},
    swarm,
};
use crate::{
    cbor::{self, int_map},
    charter::{
        AfterEnd, Agreement, BUILT_IN_CIRCLES, CHARTER_DAYS_MAX, Card, Channel, Charter, DOCUMENT_FORMAT, Draft, FormatFloor, FreshnessKey,
        Member, MemberKind, NodeKey, Proposal, PublishingKey, Quota, Roster, SignedCard, SignedCharter, SignedStamp, Steward,
    },
    config::Config,
    envelope::{Audience, FederationId, PublicKey, Readers},
    ledger::{Ledger, Writer},
    record::{ChannelName, DAY_MS, HOUR_MS, Kind, MemberId, Timestamp, Tlp},
};
use serde_bytes::ByteBuf;
use std::path::{Path, PathBuf};

/// The channel that what is imported goes to. Its only reader is its member, so it never leaves the node.
pub const IMPORTED: &str = "imported";
/// The channel to the whole federation that a member begins with.
pub const INDICATORS: &str = "indicators";
/// How long an agreement runs that is made by `admit` without saying.
const AGREEMENT_DAYS: u64 = 3 * 365;

int_map! {
    /// "We would like to join": what the stewards need to know.
    pub struct JoinRequest {
        req 0 format: u64,
        /// Absent while the federation is being founded.
        opt 1 federation: FederationId,
        req 2 member: Member,
        /// The member's first card, signed by its root key; absent while there is no federation that it could name.
        opt 3 card: ByteBuf,
        many 4 addresses: String,
        /// A coordinator's key for stamps.
        opt 5 freshness: PublicKey,
    }
}

int_map! {
    /// "This machine is to be one of our member's nodes": what the holder of the root key needs to know.
    pub struct NodeRequest {
        req 0 format: u64,
        req 1 member: MemberId,
        req 2 name: String,
        req 3 node: PublicKey,
        req 4 publishing: PublicKey,
    }
}

int_map! {
    /// Everything a new node needs to begin.
    pub struct Invitation {
        req 0 format: u64,
        /// Every version of the charter, oldest first.
        many 1 charters: ByteBuf,
        opt 2 stamp: ByteBuf,
        many 3 cards: ByteBuf,
        /// Where to connect first, with peer ids.
        many 4 addresses: String,
    }
}

/// The entry that the charter will have for this member.
fn member_entry(keys: &KeyStore, new: &NewNode) -> Result<Member, SetupError> {
    Ok(Member {
        id: new.member.clone(),
        name: new.display.clone(),
        kind: new.kind,
        country: new.country.clone(),
        root: keys.public(Purpose::Root)?,
        quota: None,
        revoked: None,
    })
}

/// The first card of a member, with this node on it, signed by the root key that lies here.
fn first_card(
    keys: &KeyStore,
    member: &MemberId,
    node: &str,
    channels: &[String],
    federation: &FederationId,
    now: Timestamp,
) -> Result<SignedCard, SetupError> {
    // Clocks differ; a key that begins an hour ago is valid everywhere at once.
    let from = now.minus_ms(HOUR_MS);
    let named = |name: &str, audience: Audience| -> Result<Channel, SetupError> {
        Ok(Channel { name: name.parse()?, audience, description: None, from, until: None })
    };
    let mut all = vec![named(INDICATORS, Audience::federation())?, named(IMPORTED, Audience::named(vec![member.clone()]))?];
    for text in channels {
        let (name, audience) = channel_of(text)?;
        all.retain(|channel| channel.name != name);
        all.push(Channel { name, audience, description: None, from, until: None });
    }
    let card = Card {
        format: DOCUMENT_FORMAT,
        member: member.clone(),
        serial: 1,
        issued: now,
        publishing: vec![PublishingKey { key: keys.public(Purpose::Publishing)?, node: node.to_owned(), lane: 0, from, until: None }],
        nodes: vec![NodeKey { name: node.to_owned(), key: keys.public(Purpose::Node)?, from, until: None, receive_only: None }],
        channels: all,
        pins: Vec::new(),
        epochs: Vec::new(),
    };
    Ok(SignedCard::sign(&card, &keys.read(Purpose::Root)?, federation)?)
}

/// Reads `NAME` or `NAME=AUDIENCE`.
pub fn channel_of(text: &str) -> Result<(ChannelName, Audience), SetupError> {
    let wrong = || SetupError::Channel(text.to_owned());
    let (name, audience) = text.split_once('=').unwrap_or((text, "federation"));
    let audience = match audience.split_once(':') {
        None if audience == "federation" => Audience::federation(),
        Some(("circle", circle)) => Audience {
            readers: Readers::Circle { name: circle.parse().map_err(|_| wrong())?, generation: 1, excluded: Vec::new() },
            onward: Vec::new(),
        },
        Some(("named", members)) => Audience::named(members.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?),
        _ => return Err(wrong()),
    };
    Ok((name.parse().map_err(|_| wrong())?, audience))
}

/// Where others can dial this node: what it announces or listens on, with its peer id.
pub fn addresses(keys: &KeyStore, config: &Config) -> Result<Vec<String>, SetupError> {
    let Some(peer) = swarm::peer_id(&keys.public(Purpose::Node)?.to_bytes()) else { return Ok(Vec::new()) };
    let given = if config.node.announce.is_empty() { &config.node.listen } else { &config.node.announce };
    Ok(given.iter().filter(|text| !text.contains("/0.0.0.0/")).map(|text| format!("{text}/p2p/{peer}")).collect())
}

/// Writes the request with which the stewards of `federation` can take this member in; without one, of the federation
/// that is being founded.
pub fn write_request(data: &Path, new: &NewNode, federation: Option<FederationId>, now: Timestamp) -> Result<PathBuf, SetupError> {
    let keys = KeyStore::in_data(data)?;
    let config = Config::read(&data.join("node.toml"))?;
    if new.kind == MemberKind::Coordinator && !keys.has(Purpose::Freshness) {
        keys.create(Purpose::Freshness, None)?;
    }
    let card = match &federation {
        Some(federation) => {
            Some(first_card(&keys, &new.member, &config.node.name, &new.channels, federation, now)?.bytes().to_vec().into())
        }
        None => None,
    };
    let freshness = (new.kind == MemberKind::Coordinator).then(|| keys.public(Purpose::Freshness)).transpose()?;
    let (member, addresses) = (member_entry(&keys, new)?, addresses(&keys, &config)?);
    let request = JoinRequest { format: DOCUMENT_FORMAT, federation, member, card, addresses, freshness };
    let path = data.join("request.huecry");
    write_file(&path, &cbor::to_vec(&request))?;
    Ok(path)
}

/// Writes the request with which the stewards can replace a member's lost root key: its entry with the new key, and its
/// card signed by that.
pub fn write_renewal(data: &Path, federation: FederationId, member: Member, card: &SignedCard) -> Result<PathBuf, SetupError> {
    let (federation, card) = (Some(federation), Some(card.bytes().to_vec().into()));
    let request = JoinRequest { format: DOCUMENT_FORMAT, federation, member, card, addresses: Vec::new(), freshness: None };
    let path = data.join("request.huecry");
    write_file(&path, &cbor::to_vec(&request))?;
    Ok(path)
}

/// Writes the request with which the holder of the member's root key can put this machine on the card.
pub fn write_node_request(data: &Path, member: &MemberId, name: &str) -> Result<PathBuf, SetupError> {
    let keys = KeyStore::in_data(data)?;
    let (node, publishing) = (keys.public(Purpose::Node)?, keys.public(Purpose::Publishing)?);
    let request = NodeRequest { format: DOCUMENT_FORMAT, member: member.clone(), name: name.to_owned(), node, publishing };
    let path = data.join("node-request.huecry");
    write_file(&path, &cbor::to_vec(&request))?;
    Ok(path)
}

/// Founds a federation whose first member and only steward is this node, and whose members have `quota` unless it says otherwise
/// of one. Answers its id.
pub fn found(data: &Path, new: &NewNode, name: &str, quota: Quota, now: Timestamp) -> Result<FederationId, SetupError> {
    let keys = KeyStore::in_data(data)?;
    for purpose in [Purpose::Steward, Purpose::Freshness] {
        if !keys.has(purpose) {
            keys.create(purpose, None)?;
        }
    }
    let mut charter = blank_charter(name, vec![Steward { name: new.display.clone(), key: keys.public(Purpose::Steward)? }], 1, now);
    charter.quota = quota;
    charter.members.push(member_entry(&keys, new)?);
    charter.freshness.push(FreshnessKey { member: new.member.clone(), key: keys.public(Purpose::Freshness)? });
    let signed = SignedCharter::found(charter, &[&keys.read(Purpose::Steward)?])?;
    enter(data, &signed, &new.channels, now)?;
    Ok(signed.federation())
}

/// The last midnight at which a charter that is issued now may end.
fn last_day(now: Timestamp) -> Timestamp {
    let last = now.plus_ms(CHARTER_DAYS_MAX * DAY_MS);
    last.minus_ms(last.ms() % DAY_MS)
}

/// Reads an invitation in one line; `None` if it is none.
pub fn invitation_of_line(line: &str) -> Option<(FederationId, Vec<String>)> {
    let (federation, addresses) = line.trim().split_once('@')?;
    let addresses: Vec<String> = addresses.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    Some((federation.parse().ok()?, addresses)).filter(|(_, addresses)| !addresses.is_empty())
}

/// A first charter without members.
fn blank_charter(name: &str, stewards: Vec<Steward>, threshold: u64, now: Timestamp) -> Charter {
    Charter {
        format: DOCUMENT_FORMAT,
        name: name.to_owned(),
        version: 1,
        prev: None,
        issued: now,
        expires: last_day(now),
        stewards,
        threshold,
        members: Vec::new(),
        circles: Vec::new(),
        agreements: Vec::new(),
        quota: Quota::COMMON,
        freshness: Vec::new(),
        floor: FormatFloor { format: 1, from: Timestamp::default() },
        resolves: None,
    }
}

/// Begins with a first charter that names this node's member: takes it, makes the member's first card and, at a
/// coordinator, the first stamp.
pub fn enter(data: &Path, charter: &SignedCharter, channels: &[String], now: Timestamp) -> Result<(), SetupError> {
    let keys = KeyStore::in_data(data)?;
    let config = Config::read(&data.join("node.toml")).map_err(|error| no_node(data, error))?;
    let member: MemberId = config.node.member.parse()?;
    let root = keys.public(Purpose::Root)?;
    if !charter.charter().members.iter().any(|one| one.id == member && one.root == root) {
        return Err(SetupError::NotInvited { member });
    }
    let (_ledger, mut writer, _) = Ledger::open(&data.join("ledger"))?;
    if writer.ledger().roster()?.is_some() {
        return Err(SetupError::HasCharter(data.to_owned()));
    }
    let card = first_card(&keys, &member, &config.node.name, channels, &charter.federation(), now)?;
    writer.keep_charter(1, charter.bytes())?;
    if keys.has(Purpose::Freshness) {
        writer.keep_stamp(SignedStamp::sign(charter, &keys.read(Purpose::Freshness)?, now)?.bytes())?;
    }
    writer.keep_card(card.card(), card.bytes())?;
    writer.close()?;
    Ok(())
}

/// Terms for vendors and observers, where nobody says others.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub until: Option<Timestamp>,
    pub tlp_max: Tlp,
    /// Records a day; the charter's common quota if none are said.
    pub records_a_day: Option<u64>,
}

/// A first charter for `requests`, to be edited and signed.
pub fn first_draft(
    name: &str,
    stewards: Vec<Steward>,
    threshold: u64,
    requests: &[PathBuf],
    terms: Terms,
    now: Timestamp,
) -> Result<Draft, SetupError> {
    let mut draft = Draft { charter: blank_charter(name, stewards, threshold, now), cards: Vec::new() };
    add_requests(&mut draft, None, requests, terms, now)?;
    Ok(draft)
}

/// The version after `before` with the members of `requests` in it, to be edited and signed.
pub fn next_draft(before: &SignedCharter, requests: &[PathBuf], terms: Terms, now: Timestamp) -> Result<Draft, SetupError> {
    let mut charter = before.charter().clone();
    charter.version += 1;
    charter.prev = Some(before.hash());
    charter.resolves = None;
    charter.issued = now;
    charter.expires = last_day(now);
    let mut draft = Draft { charter, cards: Vec::new() };
    add_requests(&mut draft, Some(before.federation()), requests, terms, now)?;
    Ok(draft)
}

fn add_requests(
    draft: &mut Draft,
    ours: Option<FederationId>,
    requests: &[PathBuf],
    terms: Terms,
    now: Timestamp,
) -> Result<(), SetupError> {
    for path in requests {
        let request: JoinRequest = read_file(path, "request")?;
        let member = request.member;
        if request.federation != ours {
            return Err(SetupError::OtherFederation { member: member.id, asked: request.federation, ours });
        }
        if let Some(known) = draft.charter.members.iter_mut().find(|one| one.id == member.id) {
            // The same organisation with another root key: it has lost the old one.
            if known.root == member.root || known.kind != member.kind || known.country != member.country {
                return Err(SetupError::Member(member.id));
            }
            known.root = member.root;
            draft.cards.extend(request.card.map(ByteBuf::into_vec));
            continue;
        }
        if matches!(member.kind, MemberKind::Vendor | MemberKind::Observer) {
            draft.charter.agreements.push(agreement(&member, terms, now));
        }
        draft.charter.freshness.extend(request.freshness.map(|key| FreshnessKey { member: member.id.clone(), key }));
        draft.charter.members.push(member);
        draft.cards.extend(request.card.map(ByteBuf::into_vec));
    }
    Ok(())
}

/// Signs a next version of the charter with the members of `requests` in it, and writes the invitation for them: the short
/// way, where one steward is enough and the key lies here.
pub fn admit(data: &Path, requests: &[PathBuf], terms: Terms, now: Timestamp) -> Result<(PathBuf, Vec<MemberId>), SetupError> {
    let keys = KeyStore::in_data(data)?;
    let (ledger, mut writer, _) = Ledger::open(&data.join("ledger"))?;
    let mut roster = ledger.roster()?.ok_or_else(|| SetupError::NoCharter(data.to_owned()))?;
    let known: Vec<MemberId> = roster.charter().charter().members.iter().map(|member| member.id.clone()).collect();
    let Draft { charter, cards } = next_draft(roster.charter(), requests, terms, now)?;
    let mut proposal = Proposal::new(charter, Some(roster.charter()), cards, roster.past())?;
    let signature = proposal.sign(&keys.read(Purpose::Steward)?)?;
    proposal.add(&signature)?;
    let signed = proposal.complete()?;
    roster.take_charter(signed.bytes())?;
    writer.keep_charter(signed.charter().version, signed.bytes())?;
    let stamp = SignedStamp::sign(&signed, &keys.read(Purpose::Freshness)?, now)?;
    roster.take_stamp(stamp.bytes())?;
    writer.keep_stamp(stamp.bytes())?;
    for bytes in proposal.cards() {
        let card = roster.take_card(bytes)?.clone();
        writer.keep_card(&card, bytes)?;
    }
    writer.close()?;
    let addresses = addresses(&keys, &Config::read(&data.join("node.toml"))?)?;
    let path = write_invitation(data, &roster, addresses)?;
    let admitted = signed.charter().members.iter().map(|member| member.id.clone()).filter(|id| !known.contains(id));
    Ok((path, admitted.collect()))
}

/// Writes everything that a new member needs to begin into `invitation.huecry`.
pub fn write_invitation(data: &Path, roster: &Roster, addresses: Vec<String>) -> Result<PathBuf, SetupError> {
    let bytes = |bytes: &[u8]| ByteBuf::from(bytes.to_vec());
    let invitation = Invitation {
        format: DOCUMENT_FORMAT,
        charters: roster.chain().iter().map(|one| bytes(one)).collect(),
        stamp: roster.stamp().map(|stamp| bytes(stamp.bytes())),
        cards: roster.cards().map(|card| bytes(card.bytes())).collect(),
        addresses,
    };
    let path = data.join("invitation.huecry");
    write_file(&path, &cbor::to_vec(&invitation))?;
    Ok(path)
}

/// An invitation in one line: the federation's id, which proves all the rest, and where to fetch it.
pub fn invitation_line(federation: &FederationId, addresses: &[String]) -> String {
    format!("{federation}@{}", addresses.join(","))
}

fn agreement(member: &Member, terms: Terms, now: Timestamp) -> Agreement {
    let circles = BUILT_IN_CIRCLES.iter().map(|(name, _)| format!("circle:{name}"));
    Agreement {
        id: format!("{}-1", member.id),
        member: member.id.clone(),
        audiences: ["federation".to_owned(), "named".to_owned()].into_iter().chain(circles).collect(),
        tlp_max: terms.tlp_max,
        kinds: Kind::ALL.to_vec(),
        purpose: "detection and prevention of cybercrime".to_owned(),
        quota: terms.records_a_day.map(Quota::of_day),
        from: now.minus_ms(HOUR_MS),
        until: terms.until.unwrap_or_else(|| now.plus_ms(AGREEMENT_DAYS * DAY_MS)),
        after_end: AfterEnd::Keep,
        purge_after_days: None,
        revoked: None,
    }
}

/// Takes an invitation: everything in it proves itself, from the first charter on, or nothing is taken.
pub fn join(data: &Path, path: &Path, now: Timestamp) -> Result<FederationId, SetupError> {
    take_invitation(data, read_file(path, "invitation")?, None, now)
}

/// As [`join`], with the invitation in memory. A member of a first charter, who could make no card before there was one,
/// makes it now.
pub fn take_invitation(
    data: &Path,
    invitation: Invitation,
    expected: Option<&FederationId>,
    now: Timestamp,
) -> Result<FederationId, SetupError> {
    let keys = KeyStore::in_data(data)?;
    let mut config = Config::read(&data.join("node.toml")).map_err(|error| no_node(data, error))?;
    let member: MemberId = config.node.member.parse()?;
    let (first, later) = invitation.charters.split_first().ok_or_else(|| SetupError::NotInvited { member: member.clone() })?;
    let mut roster = Roster::new(SignedCharter::first(first, expected)?);
    for bytes in later {
        roster.take_charter(bytes)?;
    }
    if let Some(stamp) = &invitation.stamp {
        roster.take_stamp(stamp)?;
    }
    for card in &invitation.cards {
        roster.take_card(card)?;
    }
    let ours = roster.member(&member).ok_or_else(|| SetupError::NotInvited { member: member.clone() })?;
    if roster.card(&member).is_none() && keys.has(Purpose::Root) && keys.public(Purpose::Root)? == ours.root {
        let card = first_card(&keys, &member, &config.node.name, &[], &roster.federation(), now)?;
        roster.take_card(card.bytes())?;
    }
    let node = keys.public(Purpose::Node)?;
    check_card(&roster, &member, &node)?;
    let (ledger, mut writer, _) = Ledger::open(&data.join("ledger"))?;
    if ledger.roster()?.is_some() {
        return Err(SetupError::HasCharter(data.to_owned()));
    }
    keep_roster(&mut writer, &roster)?;
    writer.close()?;
    let own = swarm::peer_id(&node.to_bytes()).map(|peer| peer.to_string()).unwrap_or_default();
    config.node.dial = invitation.addresses.into_iter().filter(|text| !text.ends_with(&own)).collect();
    write_config(data, &config)?;
    Ok(roster.federation())
}

fn keep_roster(writer: &mut Writer, roster: &Roster) -> Result<(), SetupError> {
    for (version, bytes) in (1..).zip(roster.chain()) {
        writer.keep_charter(version, bytes)?;
    }
    if let Some(stamp) = roster.stamp() {
        writer.keep_stamp(stamp.bytes())?;
    }
    for card in roster.cards() {
        writer.keep_card(card.card(), card.bytes())?;
    }
    Ok(())
}
