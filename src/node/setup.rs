//! Setting up: making a node's directory, founding a federation, joining one, opening what is there.
//!
//! ```text
//! init -> keys, node.toml, policy.cedar -> request file -> admit (steward) -> invitation file -> join
//! ```
//!
//! A data directory holds `node.toml`, `policy.cedar`, `keys/` (0700), `ledger/` and the socket; it is mode 0750.

use super::{
    Current, Identity,
    door::Door,
    keys::{KeyFileError, KeyStore, Purpose},
    swarm,
};
use crate::{
    cbor::{self, CborError, int_map},
    charter::{
        AfterEnd, Agreement, CHARTER_DAYS_MAX, Card, CardError, Channel, Charter, CharterError, DOCUMENT_FORMAT, FormatFloor, FreshnessKey,
        Member, MemberKind, NodeKey, PublishingKey, Quota, Roster, SignedCard, SignedCharter, SignedStamp, Steward,
    },
    clock::Clock,
    config::{Config, ConfigError},
    envelope::{Audience, FederationId, PublicKey, Readers},
    intake::Intake,
    ledger::{Ledger, LedgerError, Recovery},
    policy::{LIST_FILE_BYTES_MAX, ListError, Lists, Policy, PolicyError, STARTER_POLICY},
    record::{ChannelName, DAY_MS, Kind, MemberId, Timestamp, Tlp},
};
use serde_bytes::ByteBuf;
use std::{
    fs::DirBuilder,
    io::Read as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Longest request or invitation, in bytes: a chain of charters and everyone's card.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The channel that what is imported goes to. Its only reader is its member, so it never leaves the node.
pub const IMPORTED: &str = "imported";
/// The channel to the whole federation that a member begins with.
pub const INDICATORS: &str = "indicators";
/// How long an agreement runs that is made by `admit` without saying.
const AGREEMENT_DAYS: u64 = 3 * 365;

/// What a member held to its quota may publish, unless the charter says otherwise.
const QUOTA: Quota = Quota { records_per_second: 10, burst_records: 1_000, records_per_day: 50_000, bytes_per_day: 256 * 1024 * 1024 };

int_map! {
    /// "We would like to join": what the stewards need to know.
    pub struct JoinRequest {
        req 0 format: u64,
        req 1 federation: FederationId,
        req 2 member: Member,
        /// The member's first card, signed by its root key.
        req 3 card: ByteBuf,
        many 4 addresses: String,
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

/// Why a node could not be set up or opened.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{} is no huecry directory; make one with `huecry init`", .0.display())]
    NoNode(PathBuf),
    #[error("{} belongs to no federation yet; found one with `huecry init --found NAME`, or join one with `huecry join INVITATION`", .0.display())]
    NoCharter(PathBuf),
    #[error("{} belongs to a federation already", .0.display())]
    HasCharter(PathBuf),
    #[error("{}: not a {what} of huecry: {error}", path.display())]
    Form { path: PathBuf, what: &'static str, error: CborError },
    #[error("{}: longer than 64 MiB; this is no {what}", path.display())]
    Long { path: PathBuf, what: &'static str },
    #[error("the invitation does not name `{member}`; ask the stewards to admit the request that `huecry init` made here")]
    NotInvited { member: MemberId },
    #[error("the card of `{member}` does not name this node's key; this directory was set up anew after the request was made")]
    OtherCard { member: MemberId },
    #[error("the request of `{member}` is for federation {asked}, and this is {ours}")]
    OtherFederation { member: MemberId, asked: FederationId, ours: FederationId },
    #[error("`{0}` is a member already")]
    Member(MemberId),
    #[error("channel `{0}` is not NAME, NAME=federation, NAME=circle:CIRCLE or NAME=named:MEMBER,MEMBER")]
    Channel(String),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Charter(#[from] CharterError),
    #[error(transparent)]
    Card(#[from] CardError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("{}: {error}", path.display())]
    List { path: PathBuf, error: ListError },
    #[error(transparent)]
    Name(#[from] crate::record::NameError),
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> SetupError + '_ {
    move |error| SetupError::Io { path: path.to_owned(), error }
}

/// What a new node is to be.
#[derive(Clone, Debug)]
pub struct NewNode {
    pub member: MemberId,
    pub display: String,
    pub kind: MemberKind,
    pub country: Option<String>,
    pub listen: Vec<String>,
    /// `NAME` or `NAME=AUDIENCE`, beside the two that every member begins with.
    pub channels: Vec<String>,
}

/// Reads a file of ours that somebody sent us.
pub fn read_file<T: serde::de::DeserializeOwned + serde::Serialize>(path: &Path, what: &'static str) -> Result<T, SetupError> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(at(path))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(at(path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(SetupError::Long { path: path.to_owned(), what });
    }
    cbor::from_slice(&bytes, bytes.len()).map_err(|error| SetupError::Form { path: path.to_owned(), what, error })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SetupError> {
    std::fs::write(path, bytes).map_err(at(path))
}

/// Makes the directory, the member's three keys and the configuration. What is there already is kept.
pub fn init(data: &Path, new: &NewNode) -> Result<(), SetupError> {
    match DirBuilder::new().recursive(true).mode(0o750).create(data) {
        Err(error) => return Err(at(data)(error)),
        Ok(()) => std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o750)).map_err(at(data))?,
    }
    let keys = KeyStore::in_data(data)?;
    for purpose in [Purpose::Root, Purpose::Node, Purpose::Publishing] {
        if !keys.has(purpose) {
            keys.create(purpose)?;
        }
    }
    let config_path = data.join("node.toml");
    if !config_path.exists() {
        let mut config = Config::new(&new.member);
        if !new.listen.is_empty() {
            config.node.listen = new.listen.clone();
        }
        write_config(data, &config)?;
    }
    let policy_path = data.join("policy.cedar");
    if !policy_path.exists() {
        write_file(&policy_path, STARTER_POLICY.as_bytes())?;
    }
    Ok(())
}

fn write_config(data: &Path, config: &Config) -> Result<(), SetupError> {
    let path = data.join("node.toml");
    // INVARIANT: the configuration is plain strings and numbers, which TOML can hold.
    let text = toml::to_string(config).unwrap_or_default();
    write_file(&path, format!("# Every key, with its meaning, is in node-config/node.toml of huecry's source.\n{text}").as_bytes())
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

/// The first card of this node's member, signed by its root key.
fn first_card(keys: &KeyStore, new: &NewNode, federation: &FederationId, now: Timestamp) -> Result<SignedCard, SetupError> {
    // Clocks differ; a key that begins an hour ago is valid everywhere at once.
    let from = now.minus_ms(crate::record::HOUR_MS);
    let named = |name: &str, audience: Audience| -> Result<Channel, SetupError> {
        Ok(Channel { name: name.parse()?, audience, description: None, from, until: None })
    };
    let mut channels = vec![named(INDICATORS, Audience::federation())?, named(IMPORTED, Audience::named(vec![new.member.clone()]))?];
    for text in &new.channels {
        let (name, audience) = channel_of(text)?;
        channels.retain(|channel| channel.name != name);
        channels.push(Channel { name, audience, description: None, from, until: None });
    }
    let node = "main".to_owned();
    let card = Card {
        format: DOCUMENT_FORMAT,
        member: new.member.clone(),
        serial: 1,
        issued: now,
        publishing: vec![PublishingKey { key: keys.public(Purpose::Publishing)?, node: node.clone(), lane: 0, from, until: None }],
        nodes: vec![NodeKey { name: node, key: keys.public(Purpose::Node)?, from, until: None }],
        channels,
        pins: Vec::new(),
        epochs: Vec::new(),
    };
    Ok(SignedCard::sign(&card, &keys.read(Purpose::Root)?, federation)?)
}

fn channel_of(text: &str) -> Result<(ChannelName, Audience), SetupError> {
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
fn addresses(keys: &KeyStore, config: &Config) -> Result<Vec<String>, SetupError> {
    let Some(peer) = swarm::peer_id(&keys.public(Purpose::Node)?.to_bytes()) else { return Ok(Vec::new()) };
    let given = if config.node.announce.is_empty() { &config.node.listen } else { &config.node.announce };
    Ok(given.iter().filter(|text| !text.contains("/0.0.0.0/")).map(|text| format!("{text}/p2p/{peer}")).collect())
}

/// Writes the request with which the stewards of `federation` can admit this member.
pub fn write_request(data: &Path, new: &NewNode, federation: FederationId, now: Timestamp) -> Result<PathBuf, SetupError> {
    let keys = KeyStore::in_data(data)?;
    let config = Config::read(&data.join("node.toml"))?;
    let card = first_card(&keys, new, &federation, now)?;
    let request = JoinRequest {
        format: DOCUMENT_FORMAT,
        federation,
        member: member_entry(&keys, new)?,
        card: card.bytes().to_vec().into(),
        addresses: addresses(&keys, &config)?,
    };
    let path = data.join("request.huecry");
    write_file(&path, &cbor::to_vec(&request))?;
    Ok(path)
}

/// Founds a federation whose first member and only steward is this node. Answers its id.
pub fn found(data: &Path, new: &NewNode, name: &str, now: Timestamp) -> Result<FederationId, SetupError> {
    let keys = KeyStore::in_data(data)?;
    for purpose in [Purpose::Steward, Purpose::Freshness] {
        if !keys.has(purpose) {
            keys.create(purpose)?;
        }
    }
    let (_ledger, mut writer, _) = Ledger::open(&data.join("ledger"))?;
    if writer.ledger().roster()?.is_some() {
        return Err(SetupError::HasCharter(data.to_owned()));
    }
    let charter = Charter {
        format: DOCUMENT_FORMAT,
        name: name.to_owned(),
        version: 1,
        prev: None,
        issued: now,
        expires: now.plus_ms(CHARTER_DAYS_MAX * DAY_MS),
        stewards: vec![Steward { name: new.display.clone(), key: keys.public(Purpose::Steward)? }],
        threshold: 1,
        members: vec![member_entry(&keys, new)?],
        circles: Vec::new(),
        agreements: Vec::new(),
        quota: QUOTA,
        freshness: vec![FreshnessKey { member: new.member.clone(), key: keys.public(Purpose::Freshness)? }],
        floor: FormatFloor { format: 1, from: now },
        resolves: None,
    };
    let signed = SignedCharter::found(charter, &[&keys.read(Purpose::Steward)?])?;
    let stamp = SignedStamp::sign(&signed, &keys.read(Purpose::Freshness)?, now)?;
    let card = first_card(&keys, new, &signed.federation(), now)?;
    writer.keep_charter(1, signed.bytes())?;
    writer.keep_stamp(stamp.bytes())?;
    writer.keep_card(card.card(), card.bytes())?;
    writer.close()?;
    Ok(signed.federation())
}

/// Terms for vendors and observers that `admit` lets in.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub until: Option<Timestamp>,
    pub tlp_max: Tlp,
}

/// Signs a next version of the charter with the members of `requests` in it, and writes the invitation for them.
pub fn admit(data: &Path, requests: &[PathBuf], terms: Terms, now: Timestamp) -> Result<(PathBuf, Vec<MemberId>), SetupError> {
    let keys = KeyStore::in_data(data)?;
    let config = Config::read(&data.join("node.toml"))?;
    let (ledger, mut writer, _) = Ledger::open(&data.join("ledger"))?;
    let mut roster = ledger.roster()?.ok_or_else(|| SetupError::NoCharter(data.to_owned()))?;
    let requests: Vec<JoinRequest> = requests.iter().map(|path| read_file(path, "request")).collect::<Result<_, _>>()?;
    let mut charter = roster.charter().charter().clone();
    charter.version += 1;
    charter.prev = Some(roster.charter().hash());
    charter.issued = now;
    charter.expires = now.plus_ms(CHARTER_DAYS_MAX * DAY_MS);
    for request in &requests {
        let member = &request.member;
        if request.federation != roster.federation() {
            let (asked, ours) = (request.federation, roster.federation());
            return Err(SetupError::OtherFederation { member: member.id.clone(), asked, ours });
        }
        if charter.members.iter().any(|one| one.id == member.id) {
            return Err(SetupError::Member(member.id.clone()));
        }
        charter.members.push(member.clone());
        if matches!(member.kind, MemberKind::Vendor | MemberKind::Observer) {
            charter.agreements.push(agreement(member, terms, now));
        }
    }
    let signed = roster.charter().succeed(charter, &[&keys.read(Purpose::Steward)?])?;
    roster.take_charter(signed.bytes())?;
    let stamp = SignedStamp::sign(&signed, &keys.read(Purpose::Freshness)?, now)?;
    roster.take_stamp(stamp.bytes())?;
    writer.keep_charter(signed.charter().version, signed.bytes())?;
    writer.keep_stamp(stamp.bytes())?;
    for request in &requests {
        let card = roster.take_card(&request.card)?.clone();
        writer.keep_card(&card, &request.card)?;
    }
    writer.close()?;
    let bytes = |bytes: &[u8]| ByteBuf::from(bytes.to_vec());
    let invitation = Invitation {
        format: DOCUMENT_FORMAT,
        charters: roster.chain().iter().map(|one| bytes(one)).collect(),
        stamp: Some(bytes(stamp.bytes())),
        cards: roster.cards().map(|card| bytes(card.bytes())).collect(),
        addresses: addresses(&keys, &config)?,
    };
    let path = data.join("invitation.huecry");
    write_file(&path, &cbor::to_vec(&invitation))?;
    Ok((path, requests.into_iter().map(|request| request.member.id).collect()))
}

fn agreement(member: &Member, terms: Terms, now: Timestamp) -> Agreement {
    let circles = crate::charter::BUILT_IN_CIRCLES.iter().map(|(name, _)| format!("circle:{name}"));
    Agreement {
        id: format!("{}-1", member.id),
        member: member.id.clone(),
        audiences: ["federation".to_owned(), "named".to_owned()].into_iter().chain(circles).collect(),
        tlp_max: terms.tlp_max,
        kinds: Kind::ALL.to_vec(),
        purpose: "detection and prevention of cybercrime".to_owned(),
        quota: None,
        from: now.minus_ms(crate::record::HOUR_MS),
        until: terms.until.unwrap_or_else(|| now.plus_ms(AGREEMENT_DAYS * DAY_MS)),
        after_end: AfterEnd::Keep,
        purge_after_days: None,
        revoked: None,
    }
}

/// Takes an invitation: everything in it proves itself, from the first charter on, or nothing is taken.
pub fn join(data: &Path, invitation: &Path) -> Result<FederationId, SetupError> {
    let keys = KeyStore::in_data(data)?;
    let mut config = Config::read(&data.join("node.toml")).map_err(|error| no_node(data, error))?;
    let invitation: Invitation = read_file(invitation, "invitation")?;
    let member: MemberId = config.node.member.parse()?;
    let (first, later) = invitation.charters.split_first().ok_or_else(|| SetupError::NotInvited { member: member.clone() })?;
    let mut roster = Roster::new(SignedCharter::first(first, None)?);
    for bytes in later {
        roster.take_charter(bytes)?;
    }
    if let Some(stamp) = &invitation.stamp {
        roster.take_stamp(stamp)?;
    }
    for card in &invitation.cards {
        roster.take_card(card)?;
    }
    let node = keys.public(Purpose::Node)?;
    check_card(&roster, &member, &node)?;
    let (ledger, mut writer, _) = Ledger::open(&data.join("ledger"))?;
    if ledger.roster()?.is_some() {
        return Err(SetupError::HasCharter(data.to_owned()));
    }
    for (version, bytes) in (1..).zip(roster.chain()) {
        writer.keep_charter(version, bytes)?;
    }
    if let Some(stamp) = roster.stamp() {
        writer.keep_stamp(stamp.bytes())?;
    }
    for card in roster.cards() {
        writer.keep_card(card.card(), card.bytes())?;
    }
    writer.close()?;
    let own = swarm::peer_id(&node.to_bytes()).map(|peer| peer.to_string()).unwrap_or_default();
    config.node.dial = invitation.addresses.into_iter().filter(|text| !text.ends_with(&own)).collect();
    write_config(data, &config)?;
    Ok(roster.federation())
}

fn check_card(roster: &Roster, member: &MemberId, node: &PublicKey) -> Result<(), SetupError> {
    roster.member(member).ok_or_else(|| SetupError::NotInvited { member: member.clone() })?;
    let card = roster.card(member).ok_or_else(|| SetupError::NotInvited { member: member.clone() })?;
    if card.nodes.iter().any(|one| one.key == *node) { Ok(()) } else { Err(SetupError::OtherCard { member: member.clone() }) }
}

fn no_node(data: &Path, error: ConfigError) -> SetupError {
    match error {
        ConfigError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => SetupError::NoNode(data.to_owned()),
        other => other.into(),
    }
}

/// A node's parts, opened and checked, nothing running yet.
pub struct Opened {
    pub config: Config,
    pub identity: Arc<Identity>,
    pub current: Current,
    pub ledger: Ledger,
    pub door: Door,
    pub recovery: Recovery,
    /// What a person should know: lists with odd entries and the like.
    pub notes: Vec<String>,
}

/// Opens a data directory alone: configuration, keys, ledger, roster, policy, lists.
pub fn open(data: &Path, clock: Clock) -> Result<Opened, SetupError> {
    let config = Config::read(&data.join("node.toml")).map_err(|error| no_node(data, error))?;
    let keys = KeyStore::in_data(data)?;
    let member: MemberId = config.node.member.parse()?;
    let read = |purpose| if keys.has(purpose) { keys.read(purpose).map(Some) } else { Ok(None) };
    let mut identity = Identity {
        member,
        node_name: config.node.name.clone(),
        lane: 0,
        node: keys.read(Purpose::Node)?,
        publishing: read(Purpose::Publishing)?,
        freshness: read(Purpose::Freshness)?,
    };
    let (policy, lists, notes) = rules(data, &config)?;
    let (ledger, writer, recovery) = Ledger::open(&data.join("ledger"))?;
    let roster = ledger.roster()?.ok_or_else(|| SetupError::NoCharter(data.to_owned()))?;
    check_card(&roster, &identity.member, &identity.node.public())?;
    if let (Some(key), Some(card)) = (&identity.publishing, roster.card(&identity.member)) {
        let lane = card.publishing.iter().find(|one| one.key == key.public());
        identity.lane = lane.ok_or_else(|| SetupError::OtherCard { member: identity.member.clone() })?.lane;
    }
    let limits = (&config.limits).into();
    let current = Current::new(Intake { roster: Arc::new(roster), policy: Arc::new(policy), lists: Arc::new(lists), limits });
    let identity = Arc::new(identity);
    let door = Door::new(writer, current.clone(), Arc::clone(&identity), clock);
    Ok(Opened { config, identity, current, ledger, door, recovery, notes })
}

/// Policy and lists as the configuration names them. A list that does not load stops the start: what it clears or warns
/// of would otherwise be enforced unseen.
fn rules(data: &Path, config: &Config) -> Result<(Policy, Lists, Vec<String>), SetupError> {
    let path = data.join(&config.policy.file);
    let text = std::fs::read_to_string(&path).map_err(at(&path))?;
    let policy = Policy::parse(&path.display().to_string(), &text)?;
    let mut lists = Lists::default();
    let mut notes = Vec::new();
    for list in &config.lists {
        let path = data.join(&list.file);
        let text = read_list(&path)?;
        let failed = |error| SetupError::List { path: path.clone(), error };
        // INVARIANT: Config::parse has checked the role.
        let role = list.role().unwrap_or(crate::policy::ListRole::Warns);
        let report = lists.load(&list.name, role, &text).map_err(failed)?;
        if let Some(first) = report.first_skipped {
            notes.push(format!("list `{}`: {} entries are no values and were left out, the first is `{first}`", list.name, report.skipped));
        }
    }
    Ok((policy, lists, notes))
}

fn read_list(path: &Path) -> Result<String, SetupError> {
    let file = std::fs::File::open(path).map_err(at(path))?;
    let mut text = String::new();
    let bytes_max = LIST_FILE_BYTES_MAX as u64;
    let read = if path.extension().is_some_and(|ending| ending == "gz") {
        flate2::read::MultiGzDecoder::new(file).take(bytes_max).read_to_string(&mut text)
    } else {
        file.take(bytes_max).read_to_string(&mut text)
    };
    read.map(|_| text).map_err(at(path))
}
