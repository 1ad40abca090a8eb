//! Setting up: making a node's directory, founding a federation, joining one, opening what is there.
//!
//! ```text
//! init -> keys, node.toml, policy.cedar -> request file -> admit (steward) -> invitation file -> join
//! ```
//!
//! A data directory holds `node.toml`, `policy.cedar`, `keys/` (0700), `ledger/` and the socket; it is mode 0750.

use super::{
    Current, Identity,
    documents::{Documents, DocumentsError},
    door::{self, Door, shared_channel},
    enforcer::Enforcer,
    keys::{KeyFileError, KeyStore, Purpose},
    own_heads::OwnHeads,
    room::Room,
    rules::{self, Rules, RulesError},
    upkeep::Upkeep,
};
use crate::{
    access::{Access, AccessError},
    cbor::{self, CborError},
    charter::{CardError, CharterError, MemberKind, Roster},
    clock::Clock,
    config::{Config, ConfigError},
    envelope::{FederationId, PublicKey},
    intake::Intake,
    ledger::{CacheBudget, Ledger, LedgerError, PolicyEntry, Recovery},
    policy::Starter,
    record::{FeedId, MemberId, Timestamp},
};
use std::{
    collections::BTreeSet,
    fs::DirBuilder,
    io::Read as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Longest request or invitation, in bytes: a chain of charters and everyone's card.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Why a node could not be set up or opened.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Documents(#[from] DocumentsError),
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
    #[error("{}: there is no such file, and a {what} is wanted", path.display())]
    Missing { path: PathBuf, what: &'static str },
    #[error("{}: longer than 64 MiB; this is no {what}", path.display())]
    Long { path: PathBuf, what: &'static str },
    #[error("the invitation does not name `{member}`; ask the stewards to admit the request that `huecry init` made here")]
    NotInvited { member: MemberId },
    #[error("the card of `{member}` does not name this node's key; this directory was set up anew after the request was made")]
    OtherCard { member: MemberId },
    #[error("the request of `{member}` is for {}, and this is {}; let them run `huecry init` again", federation_text(.asked.as_ref()), federation_text(.ours.as_ref()))]
    OtherFederation { member: MemberId, asked: Option<FederationId>, ours: Option<FederationId> },
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
    Rules(#[from] RulesError),
    #[error(transparent)]
    Name(#[from] crate::record::NameError),
}

fn federation_text(federation: Option<&FederationId>) -> String {
    federation.map_or("a federation that is being founded".to_owned(), |id| format!("federation {id}"))
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
    /// The name of this machine, if it is a further one of its member; it has no root key then.
    pub node: Option<String>,
}

/// Reads a file of ours that somebody sent us.
pub fn read_file<T: serde::de::DeserializeOwned + serde::Serialize>(path: &Path, what: &'static str) -> Result<T, SetupError> {
    let mut bytes = Vec::new();
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(SetupError::Missing { path: path.to_owned(), what });
        }
        opened => opened.map_err(at(path))?,
    };
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(at(path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(SetupError::Long { path: path.to_owned(), what });
    }
    cbor::from_slice(&bytes, bytes.len()).map_err(|error| SetupError::Form { path: path.to_owned(), what, error })
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SetupError> {
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
        if !keys.has(purpose) && (purpose != Purpose::Root || new.node.is_none()) {
            keys.create(purpose, None)?;
        }
    }
    let config_path = data.join("node.toml");
    if !config_path.exists() {
        let mut config = Config::new(&new.member);
        if !new.listen.is_empty() {
            config.node.listen = new.listen.clone();
        }
        if let Some(name) = &new.node {
            config.node.name = name.clone();
        }
        write_config(data, &config)?;
    }
    let policy_path = data.join("policy.cedar");
    if !policy_path.exists() {
        write_file(&policy_path, Starter::of(new.kind).policy().as_bytes())?;
    }
    Ok(())
}

pub(super) fn write_config(data: &Path, config: &Config) -> Result<(), SetupError> {
    let path = data.join("node.toml");
    // INVARIANT: the configuration is plain strings and numbers, which TOML can hold.
    let text = toml::to_string(config).unwrap_or_default();
    write_file(&path, format!("# Every key, with its meaning, is in node-config/node.toml of huecry's source.\n{text}").as_bytes())
}

pub(super) fn check_card(roster: &Roster, member: &MemberId, node: &PublicKey) -> Result<(), SetupError> {
    roster.member(member).ok_or_else(|| SetupError::NotInvited { member: member.clone() })?;
    let card = roster.card(member).ok_or_else(|| SetupError::NotInvited { member: member.clone() })?;
    if card.nodes.iter().any(|one| one.key == *node) { Ok(()) } else { Err(SetupError::OtherCard { member: member.clone() }) }
}

pub(super) fn no_node(data: &Path, error: ConfigError) -> SetupError {
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
    /// The system's clock, compared with what is signed.
    pub clock: Clock,
    pub recovery: Recovery,
    pub keys: KeyStore,
    /// Whether our lane may publish yet.
    pub own: OwnHeads,
    /// What our outlets may act on.
    pub enforcer: Enforcer,
    pub documents: Documents,
    /// Who is shown what.
    pub access: Access,
    /// What a person should know: lists with odd entries and the like.
    pub notes: Vec<String>,
}

impl Opened {
    /// The care of its ledger, through the door that `requests` lead to.
    pub fn upkeep(&self, requests: &door::Sender, data: &Path) -> Upkeep {
        let Self { ledger, current, documents, identity, clock, .. } = self;
        Upkeep::new(
            ledger.clone(),
            requests.clone(),
            current.clone(),
            clock.clone(),
            documents.clone(),
            identity.member.clone(),
            data.to_owned(),
        )
    }
}

/// Opens a data directory alone: configuration, keys, ledger, roster, policy, lists. The system's clock is compared with the checkpoint
/// there and with the dates of charter and stamp.
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
        freshness: read(Purpose::Freshness)?,
    };
    let cache = CacheBudget::bytes(config.limits.cache_bytes);
    // Before anything is opened: stores of which nothing can be written do not open.
    let room = Room::of(data, config.limits.room_bytes);
    let (ledger, mut writer, recovery) = Ledger::open_with(&data.join("ledger"), cache)?;
    let more = room.clone();
    writer.when_full(move || more.release());
    let roster = ledger.roster()?.ok_or_else(|| SetupError::NoCharter(data.to_owned()))?;
    let clock = match clock {
        Clock::System => Clock::of_node(data, roster.time_floor()),
        clock => clock,
    };
    let in_force = ledger.policy_in_force()?;
    let Rules { policy, lists, alarms, notes } = rules::load(data, &config, in_force.as_ref())?;
    let changed = in_force.is_none_or(|entry| entry.hash != policy.hash());
    if changed {
        writer.keep_policy(PolicyEntry { at: clock.now(), hash: policy.hash(), pieces: policy.pieces().to_vec() })?;
        writer.commit()?;
    }
    check_card(&roster, &identity.member, &identity.node.public())?;
    if let Some(card) = roster.card(&identity.member) {
        // A rotation that was cut short by a stop is finished now.
        keys.promote(Purpose::Publishing, |key| card.publishing.iter().any(|one| one.key == *key && one.until.is_none()))?;
    }
    let publishing = read(Purpose::Publishing)?;
    if let (Some(key), Some(card)) = (&publishing, roster.card(&identity.member)) {
        let lane = card.publishing.iter().find(|one| one.key == key.public());
        identity.lane = lane.ok_or_else(|| SetupError::OtherCard { member: identity.member.clone() })?.lane;
    }
    let limits = config.limits();
    let current = Current::new(Intake { roster: Arc::new(roster), policy: Arc::new(policy), lists: Arc::new(lists), limits });
    current.set_alarms(alarms);
    let current = current.with_room(room);
    let identity = Arc::new(identity);
    let own = own_heads(&ledger, &current.get(), &identity, &keys, clock.now());
    let access = Access::open(data, &config.access, clock.moment())?;
    let enforcer = Enforcer::open(data, config.deliveries(), ledger.clone(), current.clone(), access.clone(), clock.clone())?;
    let documents = Documents::open(&data.join("documents"), config.limits.documents_bytes_max)?;
    let mut door = Door::new(writer, current.clone(), Arc::clone(&identity), keys.clone(), publishing, own.clone(), clock.clone());
    door.attend(enforcer.clone());
    door.follow(ledger.followed()?.map(super::wanted_of).unwrap_or_default());
    if changed {
        door.judge_held_again();
    }
    Ok(Opened { keys, own, clock, enforcer, documents, access, config, identity, current, ledger, door, recovery, notes })
}

/// A lane that has published to others before waits until they have told it its own head.
fn own_heads(ledger: &Ledger, intake: &Intake, identity: &Identity, keys: &KeyStore, now: Timestamp) -> OwnHeads {
    let shared = |(feed, _): &(FeedId, _)| {
        let ours = feed.member == identity.member && feed.lane == identity.lane;
        ours && shared_channel(intake, &identity.member, &feed.channel).unwrap_or(true)
    };
    if !keys.used() && !ledger.feeds().iter().any(shared) {
        return OwnHeads::default();
    }
    let others: BTreeSet<&MemberId> =
        intake.roster.admitted_nodes(now).map(|(_, node)| &node.member).filter(|one| **one != identity.member).collect();
    OwnHeads::wait_for(others.len())
}
