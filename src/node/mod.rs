//! Node: the shell around the quiet rooms. One event loop, one door thread, one local window.
//!
//! ```text
//! swarm events, frames, door's events, ticks -> loop -> Replica -> effects -> streams, gossip, door
//! ```
//!
//! | task | in | out |
//! |---|---|---|
//! | event loop (`Shell::run`) | swarm, frames, `door::Event`, tick | gossip, frames, `door::Request` |
//! | door (thread) | `door::Request` | journal, state, index, `door::Event` |
//! | a reader and a writer for each stream | frames | frames |
//! | serving (blocking threads) | ledger | frames, each after `may_send` |
//! | local window (`window`, on a runtime of its own) | requests | `door::Request`, ledger |

pub mod bootstrap;
mod clones;
mod contents;
pub mod delivery;
pub mod documents;
pub mod door;
pub mod egress;
pub mod enforcer;
pub mod fetch;
pub mod frames;
pub mod keys;
mod links;
pub mod membership;
pub mod own_heads;
pub mod proxy;
pub mod reach;
pub mod room;
pub mod rules;
pub mod serving;
pub mod setup;
pub mod streams;
pub mod swarm;
pub mod upkeep;
mod verification;

use crate::{
    charter::{ADDRESSES_MAX, Card, MemberKind, Roster, SignedStamp, Stage, WHEREABOUTS_DAYS_MAX, Whereabouts, sign_whereabouts},
    clock::Clock,
    envelope::{Class, Hash, Head, KeyId, PublicKey, SecretKey, SignedHead},
    intake::{Blame, Intake, Known as _, Placed, Spans, WRONG_PREV},
    ledger::{FollowEntry, FollowLine, Ledger},
    policy::{Lists, Policy, Way, may_gossip, may_send},
    record::{DAY_MS, FeedId, HOUR_MS, MINUTE_MS, MemberId, Timestamp},
    replica::{
        Announce, Ask, CURSORS_PER_MESSAGE_MAX, CardSerial, Contents, Cursor, Cursors, Digest, Effect, End, Filter, Hello, Message, Order,
        PROTOCOL_VERSION, PeerKey, Range, Receipt, Receipts, Refused, Replica, Wanted, digest_of, document_messages, number,
    },
    timekeeping::is_ahead,
};
use clones::Clones;
use contents::Given;
use documents::Documents;
use door::{Arrived, Event, NotSent, Request, document};
use egress::Egress;
use enforcer::Enforcer;
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    gossipsub::{self, MessageAcceptance},
    swarm::{ConnectionId, SwarmEvent},
};
use links::{Audiences, RelayPlace, Unreached};
use reach::Reach;
use room::Room;
use serving::{Reader, Serving, Wish};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};
use streams::{Incoming, Outlet};
pub use swarm::Links;
use swarm::{Behaviour, BehaviourEvent, Topics};
use verification::Verification;

/// How often the loop looks after slow answers, as long as something is under way.
const TICK: Duration = Duration::from_millis(100);
/// The same when nothing is: what is due then is due within seconds.
const IDLE_TICK: Duration = Duration::from_millis(500);
/// How often lost connections are dialled again.
const DIAL_INTERVAL_MS: u64 = 2_000;
/// How often expired keys leave the gate, and what is stated is stated anew where it has changed.
const HOUSEKEEPING_INTERVAL_MS: u64 = HOUR_MS / 60;
/// How often ended agreements are looked for.
const AGREEMENTS_INTERVAL_MS: u64 = 5_000;
/// How often what is lacking in batches that are here is asked for.
const RECOVER_INTERVAL_MS: u64 = 2_000;
/// How often authors are told how far we are, if anything has changed.
const RECEIPTS_INTERVAL_MS: u64 = 1_000;
/// Batches of one feed whose rest is asked for in one go.
const RECOVER_BATCHES_MAX: usize = 32;
/// A stamp is renewed when it is older than this.
const STAMP_RENEW_MS: u64 = 6 * HOUR_MS;
/// After days away, exports wait so long for somebody to be heard.
const NOBODY_HEARD: Duration = Duration::from_secs(60);
/// And so long for what those who are heard have to give.
const CATCHING_UP_MAX: Duration = Duration::from_secs(600);
/// All cursors are shown again after this, not only what has changed.
const WHOLE_INTERVAL_MS: u64 = MINUTE_MS;
/// Longest document put together from pieces.
const DOCUMENT_BYTES_MAX: usize = crate::charter::CHARTER_BYTES_MAX;
/// Receipts in one message: with 256 intervals each it stays within a frame.
const RECEIPTS_PER_MESSAGE_MAX: usize = 16;
/// Wishes of one peer that are served at a time: what it asks for by range, and some bodies.
const TURNS_MAX: usize = 8;
/// Documents dated in the future that are named in `status`: enough to see who makes them.
const AHEAD_MAX: usize = 32;
/// Node keys that are remembered as used: four of each of 1,024 members, renewed a few times.
const CONNECTED_KEYS_MAX: usize = 16_384;
/// Wishes of one peer that wait; what it asks for beyond is answered as if it were not there, and asked for again.
const WISHES_MAX: usize = 256;
/// What one peer may send within a minute that it had to know is wrong; then it is not let in for a while. An honest peer that
/// holds another charter than we sends some.
const REJECTS_MAX: u32 = 20;
/// The minute within which that is counted.
const REJECTS_MS: u64 = MINUTE_MS;
/// How long a peer that sent more is not let in.
const BARRED_MS: u64 = 10 * MINUTE_MS;
/// Refusals remembered for `status`, by code.
const REFUSAL_CODES_MAX: usize = 64;

/// Who this node is. Its keys live here and in their files.
pub struct Identity {
    pub member: MemberId,
    pub node_name: String,
    pub lane: u32,
    pub node: SecretKey,
    /// Coordinators only.
    pub freshness: Option<SecretKey>,
}

/// The intake as it is now: replaced as a whole when roster or policy change.
#[derive(Clone)]
pub struct Current {
    intake: Arc<RwLock<Arc<Intake>>>,
    /// What is wrong with the files that policies and lists come from.
    alarms: Arc<RwLock<Vec<String>>>,
    room: Room,
    /// Node keys whose holders have connected or signed their addresses.
    connected: Arc<Mutex<HashSet<PeerKey>>>,
    /// Documents that are dated in the future, by description.
    ahead: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

impl Current {
    /// Begins with this intake, where there is room enough.
    pub fn new(intake: Intake) -> Self {
        let intake = Arc::new(RwLock::new(Arc::new(intake)));
        Self { intake, alarms: Arc::default(), room: Room::default(), connected: Arc::default(), ahead: Arc::default() }
    }

    /// The same on a disk that may become full.
    pub fn with_room(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// Notes that the holder of a node key has used it.
    pub fn note_connected(&self, key: PeerKey) {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if connected.len() < CONNECTED_KEYS_MAX {
            connected.insert(key);
        }
    }

    /// Returns true if the holder of a node key has used it.
    pub fn has_connected(&self, key: &PeerKey) -> bool {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Notes a document that was refused because of its date.
    pub fn note_ahead(&self, what: String, date: Timestamp) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead.len() < AHEAD_MAX || ahead.contains_key(&what) {
            ahead.insert(what, date);
        }
    }

    /// Sentences about documents that are refused because of their dates.
    pub fn set_aside(&self, now: Timestamp) -> Vec<String> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.retain(|_, date| is_ahead(*date, now));
        ahead.iter().map(|(what, date)| format!("{what} is dated {date}, in the future, and refused until then")).collect()
    }

    /// What the disk has left.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// What a person must mend in the files of policies and lists.
    pub fn alarms(&self) -> Vec<String> {
        self.alarms.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what a person must mend.
    pub fn set_alarms(&self, alarms: Vec<String>) {
        *self.alarms.write().unwrap_or_else(PoisonError::into_inner) = alarms;
    }

    /// Puts new policies and lists in force.
    pub fn set_rules(&self, policy: Policy, lists: Lists) {
        let mut intake = self.intake.write().unwrap_or_else(PoisonError::into_inner);
        *intake = Arc::new(Intake { policy: Arc::new(policy), lists: Arc::new(lists), ..(**intake).clone() });
    }

    /// The intake in force.
    pub fn get(&self) -> Arc<Intake> {
        Arc::clone(&self.intake.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new roster in force.
    pub fn set_roster(&self, roster: Roster) {
        let mut intake = self.intake.write().unwrap_or_else(PoisonError::into_inner);
        *intake = Arc::new(Intake { roster: Arc::new(roster), ..(**intake).clone() });
    }
}

/// What the loop shows the local window.
#[derive(Clone, Debug, Default, serde::Serialize, schemars::JsonSchema)]
pub struct NetworkStatus {
    pub listening: Vec<String>,
    pub peers: Vec<PeerStatus>,
    /// Feeds for which something is under way.
    pub feeds_under_way: usize,
    /// What was not let in, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// What is wrong with the local clock, if something is.
    pub clock_alarm: Option<String>,
    /// Nodes whose key two machines seem to use.
    pub cloned: Vec<String>,
    /// Nodes on current cards that were dialled and not reached.
    pub unreachable: Vec<UnreachableStatus>,
    /// Addresses through relays at which this node, which has no inbound port, can be reached.
    pub relayed: Vec<String>,
    /// What the egress guard had to stop, if it ever had to.
    pub egress_alarm: Option<String>,
    pub egress_refused: u64,
    /// How many batches connected peers have and this node lacks, by feed.
    pub behind: BTreeMap<String, u64>,
    /// Who was asked for what is lacking of a feed, by feed.
    pub asked: BTreeMap<String, Vec<String>>,
}

/// One connected node.
#[derive(Clone, Debug, serde::Serialize, schemars::JsonSchema)]
pub struct PeerStatus {
    pub member: String,
    pub node: String,
    pub software: String,
}

/// One node that was not reached.
#[derive(Clone, Debug, serde::Serialize, schemars::JsonSchema)]
pub struct UnreachableStatus {
    pub member: String,
    pub node: String,
    pub since: String,
    pub why: String,
}

/// The loop's handle for the local window.
#[derive(Clone, Default)]
pub struct Watch {
    status: Arc<Mutex<NetworkStatus>>,
}

impl Watch {
    /// The newest status.
    pub fn get(&self) -> NetworkStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, status: NetworkStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// Why a node stopped or could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Swarm(#[from] swarm::SwarmError),
    #[error("cannot listen on {address}: {error}; is another program using the port?")]
    Listen { address: String, error: String },
    #[error("`{0}` is none of TCP, and nodes speak TCP only; write it as /ip4/192.0.2.1/tcp/4100")]
    Transport(String),
    #[error("`{0}` is not a multiaddress; it looks like /ip4/192.0.2.1/tcp/4100")]
    Address(String),
    /// Not a failure: the member's card gave this node another key, and it begins again under that.
    #[error("the node has a new key")]
    Rekeyed,
    #[error("{0}")]
    Fatal(String),
}

struct Connected {
    member: MemberId,
    node: String,
    outlet: Outlet,
    /// Wishes of it that are served at a time.
    turns: Arc<tokio::sync::Semaphore>,
    /// What it follows.
    wanted: Wanted,
    /// What it was told of our progress with its own feeds.
    receipted: BTreeMap<FeedId, Receipt>,
    software: String,
    /// A document that is being put together.
    partial: Option<(u64, Vec<u8>)>,
    /// What it was shown of our cursors.
    shown: Shown,
}

/// What a peer was shown of our cursors over its stream: where much happens, no two nodes are ever alike, and what has not changed
/// need not be said again. There are as many as feeds.
#[derive(Default)]
struct Shown {
    cursors: BTreeMap<FeedId, Cursor>,
    /// Its digest when it was shown something last; none if it was like ours since.
    theirs: Option<Hash>,
    whole_at: Timestamp,
}

impl Shown {
    /// Of our cursors those that it has not been shown as they are now. `theirs` is its digest, if that differs from ours. All, if it
    /// was shown what it lacks and has not moved since, or when the last time was long ago: it may have ceased to believe us.
    fn news(&mut self, mut ours: Vec<Cursor>, theirs: Option<Hash>, now: Timestamp) -> Vec<Cursor> {
        let still = theirs.is_some() && self.theirs == theirs;
        let whole = still || now.ms_since(self.whole_at) >= WHOLE_INTERVAL_MS;
        self.theirs = theirs;
        if whole || theirs.is_none() {
            self.whole_at = now;
        }
        ours.retain(|cursor| {
            let before = self.cursors.insert(cursor.feed.clone().into(), cursor.clone());
            whole || before.as_ref() != Some(cursor)
        });
        ours
    }
}

/// The event loop and all it holds.
pub struct Shell {
    identity: Arc<Identity>,
    current: Current,
    ledger: Ledger,
    door: door::Sender,
    clock: Clock,
    swarm: Swarm<Behaviour>,
    topics: Topics,
    streams: libp2p_stream::Control,
    replica: Replica,
    connected: BTreeMap<PeerKey, Connected>,
    /// Node keys by peer id, for those that the gate lets in.
    admitted: HashMap<PeerId, PeerKey>,
    /// The same keys, by their ids in signatures.
    node_ids: HashMap<KeyId, PeerKey>,
    whereabouts: HashMap<PeerKey, (Whereabouts, Vec<u8>)>,
    /// How often whereabouts were passed on.
    passed_on: usize,
    /// Whereabouts that came since the last tick, with whose they are; as many as there are nodes.
    news: Vec<(PeerKey, Vec<u8>)>,
    dial: Vec<Multiaddr>,
    announce: Vec<String>,
    incoming: tokio::sync::mpsc::Sender<Incoming>,
    opened: tokio::sync::mpsc::Sender<(PeerKey, libp2p::Stream)>,
    opening: BTreeSet<PeerKey>,
    streams_opened: u64,
    dialled_at: Timestamp,
    housekept_at: Timestamp,
    agreements_at: Timestamp,
    /// The last warning logged for each agreement.
    warned: BTreeMap<String, u64>,
    refusals: BTreeMap<String, u64>,
    /// What peers sent that they had to know is wrong: how often, since when. As many as the gate lets in.
    rejected: BTreeMap<PeerKey, (u32, Timestamp)>,
    /// Documents of peers that wait for the door.
    verification: Verification,
    /// Connections by node key: two machines may have one.
    clones: Clones,
    /// Peers that are not let in, until when.
    barred: BTreeMap<PeerKey, Timestamp>,
    watch: Watch,
    keys: keys::KeyStore,
    /// A new node key is known to another member: time to begin again under it.
    rekeyed: bool,
    own: own_heads::OwnHeads,
    /// Peers that have said, since this start, what they have.
    told: BTreeSet<PeerKey>,
    /// Where nodes' whereabouts are remembered over a restart, and whether there are newer ones.
    places: PathBuf,
    places_changed: bool,
    serving: Serving,
    egress: Egress,
    reach: Reach,
    /// When the loop began, and whether exports that waited since then may go on.
    started: Instant,
    catching_up_ended: bool,
    /// What we follow.
    wanted: Wanted,
    /// Rises when something may be servable that was not before.
    revision: u64,
    recovered_at: Timestamp,
    receipted_at: Timestamp,
    /// How far exports were rebuilt when authors were told last, and whether anything else has changed since.
    receipted_through: u64,
    receipts_due: Due,
    enforcer: Enforcer,
    observer: Option<Observer>,
    /// Contents of documents: the files, what is being fetched, and what members were given today.
    documents: Documents,
    contents: Contents,
    given: BTreeMap<MemberId, Given>,
    /// Whether others can dial this node; if not, it keeps places at relays.
    inbound: bool,
    relays: BTreeMap<PeerKey, RelayPlace>,
    /// Links that we chose ourselves.
    dialled: BTreeSet<PeerKey>,
    /// Nodes that were dialled and not reached; as many as the gate lets in.
    unreached: BTreeMap<PeerKey, Unreached>,
    audiences: Audiences,
}

/// Feeds of which authors have to be told how far we are.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    All,
    Of(BTreeSet<FeedId>),
}

impl Default for Due {
    fn default() -> Self {
        Self::Of(BTreeSet::new())
    }
}

impl Due {
    fn add(&mut self, feed: &FeedId) {
        if let Self::Of(feeds) = self {
            feeds.insert(feed.clone());
        }
    }
}

/// Told of everything that becomes durable: a rehearsal measures by it.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// What a shell is made of.
pub struct Parts {
    pub identity: Arc<Identity>,
    pub current: Current,
    pub ledger: Ledger,
    pub door: door::Sender,
    pub clock: Clock,
    pub listen: Vec<String>,
    pub announce: Vec<String>,
    pub dial: Vec<String>,
    pub watch: Watch,
    pub keys: keys::KeyStore,
    pub links: Links,
    pub own: own_heads::OwnHeads,
    /// The file in which nodes' whereabouts are remembered.
    pub places: PathBuf,
    pub reach: Reach,
    pub enforcer: Enforcer,
    pub documents: Documents,
    /// Whether others can dial this node.
    pub inbound: bool,
    /// Which end of what is missing is fetched first.
    pub order: Order,
    pub observer: Option<Observer>,
}

/// What operators follow, as replication takes it.
pub fn wanted_of(entry: FollowEntry) -> Wanted {
    let line = |one: FollowLine| {
        let filter = Filter { types: one.types.into_iter().collect(), confidence_min: one.confidence_min };
        ((one.member, one.channel), filter)
    };
    Wanted { everything: entry.everything, channels: entry.channels.into_iter().map(line).collect() }
}

fn multiaddress(text: &str) -> Result<Multiaddr, NodeError> {
    text.parse().map_err(|_| NodeError::Address(text.to_owned()))
}

/// Runs a node until `stop` completes or the door fails.
pub async fn run(
    parts: Parts,
    mut events: tokio::sync::mpsc::Receiver<Event>,
    ready: impl FnOnce(Vec<String>),
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let topics = Topics::of(&parts.current.get().roster.federation());
    let roster = Arc::clone(&parts.current.get().roster);
    let coordinates = roster.member(&parts.identity.member).is_some_and(|one| one.kind == MemberKind::Coordinator);
    let relaying = swarm::Relaying { serves: coordinates && parts.inbound, uses: !parts.inbound };
    let mut swarm = swarm::build(&parts.identity.node, &topics, parts.links, relaying)?;
    let mut waiting = Vec::new();
    for text in &parts.listen {
        let listener = swarm.listen_on(multiaddress(text)?);
        let failed = |error: libp2p::TransportError<std::io::Error>| match error {
            libp2p::TransportError::MultiaddrNotSupported(_) => NodeError::Transport(text.clone()),
            libp2p::TransportError::Other(error) => NodeError::Listen { address: text.clone(), error: error.to_string() },
        };
        waiting.push((listener.map_err(failed)?, text.clone()));
    }
    // A port in use shows at once, before anything else is said to be running.
    for (id, address) in waiting {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } if listener_id == id => break,
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } if listener_id == id => {
                    return Err(NodeError::Listen { address, error: error.to_string() });
                }
                SwarmEvent::ListenerError { listener_id, error } if listener_id == id => {
                    return Err(NodeError::Listen { address, error: error.to_string() });
                }
                _ => (),
            }
        }
    }
    let dial = parts.dial.iter().map(|text| multiaddress(text)).collect::<Result<_, _>>()?;
    let mut streams = swarm.behaviour().stream.new_control();
    let accepted = streams.accept(streams::PROTOCOL).map_err(|error| NodeError::Fatal(error.to_string()))?;
    let (incoming, mut frames) = tokio::sync::mpsc::channel(streams::IN_FRAMES_MAX);
    let (opened, mut ours) = tokio::sync::mpsc::channel(64);
    let started = parts.clock.now();
    let me = parts.identity.member.clone();
    let serving = Serving { me, ledger: parts.ledger.clone(), current: parts.current.clone(), clock: parts.clock.clone() };
    let egress = Egress::new(parts.current.clone(), parts.ledger.clone(), parts.clock.clone());
    let mut shell = Shell {
        identity: parts.identity,
        current: parts.current,
        ledger: parts.ledger,
        door: parts.door,
        clock: parts.clock,
        swarm,
        topics,
        streams,
        replica: Replica::default(),
        connected: BTreeMap::new(),
        admitted: HashMap::new(),
        node_ids: HashMap::new(),
        whereabouts: HashMap::new(),
        passed_on: 0,
        news: Vec::new(),
        dial,
        announce: parts.announce,
        incoming,
        opened,
        opening: BTreeSet::new(),
        streams_opened: 0,
        dialled_at: Timestamp::default(),
        housekept_at: Timestamp::default(),
        agreements_at: Timestamp::default(),
        warned: BTreeMap::new(),
        refusals: BTreeMap::new(),
        rejected: BTreeMap::new(),
        verification: Verification::default(),
        clones: Clones::default(),
        barred: BTreeMap::new(),
        watch: parts.watch,
        keys: parts.keys,
        rekeyed: false,
        own: parts.own,
        told: BTreeSet::new(),
        places: parts.places,
        places_changed: false,
        serving,
        egress,
        reach: parts.reach,
        started: Instant::now(),
        catching_up_ended: false,
        wanted: Wanted::default(),
        revision: started.ms(),
        recovered_at: Timestamp::default(),
        receipted_at: Timestamp::default(),
        receipted_through: 0,
        receipts_due: Due::All,
        enforcer: parts.enforcer,
        observer: parts.observer,
        documents: parts.documents,
        contents: Contents::default(),
        given: BTreeMap::new(),
        inbound: parts.inbound,
        relays: BTreeMap::new(),
        dialled: BTreeSet::new(),
        unreached: BTreeMap::new(),
        audiences: Audiences::default(),
    };
    shell.replica.set_order(parts.order);
    shell.wanted = shell.read_wanted();
    shell.open_gate();
    shell.recall_places();
    shell.housekeeping();
    shell.publish_status();
    ready(shell.swarm.listeners().map(ToString::to_string).collect());
    shell.on_tick();
    let mut accepted = accepted;
    let mut ticked = tokio::time::Instant::now();
    tokio::pin!(stop);
    while !shell.rekeyed {
        let next_tick = ticked + if shell.is_busy() { TICK } else { IDLE_TICK };
        // Local work first: what is durable is passed on before more is taken in.
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            event = events.recv() => match event {
                Some(event) => shell.on_door(event)?,
                None => return Err(NodeError::Fatal("the door's thread ended; see the log".to_owned())),
            },
            () = tokio::time::sleep_until(next_tick) => {
                shell.on_tick();
                ticked = tokio::time::Instant::now();
            }
            Some((peer, stream)) = ours.recv() => shell.on_stream(peer, stream),
            Some((peer, stream)) = accepted.next() => shell.on_accepted(peer, stream),
            Some(incoming) = frames.recv() => shell.on_incoming(incoming),
            event = shell.swarm.select_next_some() => shell.on_swarm(event),
        }
    }
    Err(NodeError::Rekeyed)
}

impl Shell {
    /// Whether anything is under way that may need another look soon.
    fn is_busy(&self) -> bool {
        self.replica.is_busy() || !self.news.is_empty() || self.contents.is_busy() || self.own.waiting().is_some()
    }

    fn me(&self) -> PeerKey {
        self.identity.node.public().to_bytes()
    }

    fn held(&self) -> impl Fn(&FeedId) -> Spans + use<> {
        let ledger = self.ledger.clone();
        move |feed| ledger.spans(feed)
    }

    fn read_wanted(&self) -> Wanted {
        match self.ledger.followed() {
            Ok(entry) => entry.map(wanted_of).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "what is followed does not read; everything is");
                Wanted::default()
            }
        }
    }

    /// Lets in exactly the nodes on current cards; connections of others close at once.
    fn open_gate(&mut self) {
        let now = self.clock.now();
        let roster = Arc::clone(&self.current.get().roster);
        let me = self.me();
        self.barred.retain(|_, until| *until > now);
        let barred = &self.barred;
        let keys = roster.admitted_nodes(now).map(|(key, _)| key).filter(|key| *key != me && !barred.contains_key(key));
        let keys: BTreeSet<PeerKey> = keys.collect();
        // Asked every minute, and it seldom changes.
        if keys.len() == self.admitted.len() && self.admitted.values().all(|key| keys.contains(key)) {
            return;
        }
        let admitted: HashMap<PeerId, PeerKey> = keys.iter().filter_map(|key| Some((swarm::peer_id(key)?, *key))).collect();
        let gate = &mut self.swarm.behaviour_mut().gate;
        for peer in admitted.keys() {
            gate.allow_peer(*peer);
        }
        for (peer, key) in &self.admitted {
            if !admitted.contains_key(peer) {
                self.swarm.behaviour_mut().gate.disallow_peer(*peer);
                if let Some(gone) = self.connected.remove(key) {
                    // What waits for it is dropped with its stream.
                    gone.outlet.cut();
                }
                self.replica.gone(key);
            }
        }
        self.unreached.retain(|key, _| keys.contains(key));
        self.rejected.retain(|key, _| keys.contains(key));
        self.node_ids = admitted.values().filter_map(|key| Some((PublicKey::from_bytes(key).ok()?.id(), *key))).collect();
        self.admitted = admitted;
    }

    fn on_door(&mut self, event: Event) -> Result<(), NodeError> {
        let now = self.clock.now();
        if let Some(observer) = &self.observer {
            observer(&event);
        }
        match event {
            Event::Kept { feed, seq, head, from } => {
                self.receipts_due.add(&feed);
                let own = from.is_none();
                let parsed = SignedHead::open(&head, &self.current.get().roster.federation()).ok();
                let gossiped = parsed.is_some_and(|parsed| may_gossip(parsed.head()));
                if own && gossiped {
                    self.gossip(head);
                }
                // Gossip forwards what it brought; our own and what it may not carry goes by stream.
                let effects = self.replica.kept(&feed, seq, from, own || !gossiped, &self.ledger.spans(&feed), now);
                self.carry_out(effects);
            }
            Event::Filled { feed, seq, from } => {
                self.receipts_due.add(&feed);
                tracing::debug!(%feed, seq, peer = %hex::encode(from.get(..4).unwrap_or_default()), "more of a batch came");
                self.revision = self.revision.max(now.ms());
            }
            Event::Rules => self.revision = self.revision.max(now.ms()),
            // Those whom it concerns see it in our cursors, and they shall see it now.
            Event::Shared => {
                self.revision = self.revision.max(now.ms());
                let peers: Vec<PeerKey> = self.connected.keys().copied().collect();
                for peer in peers {
                    let cursors = self.cursors_for(&peer);
                    self.send_cursors(&peer, cursors);
                }
            }
            Event::Followed => self.follow_anew(now),
            Event::Refused { feed, seq, from, refusal } => {
                self.count_refusal(refusal.code);
                tracing::debug!(%feed, seq, code = refusal.code, text = %refusal.text, "batch refused");
                let held = self.ledger.spans(&feed);
                let why = Refused { blame: refusal.blame == Blame::Reject, until: refusal.until };
                let effects = self.replica.refused(&feed, seq, from, why, &held, now);
                self.carry_out(effects);
            }
            Event::Detached { feed } => {
                self.count_refusal("detached");
                self.replica.restart(&feed);
            }
            Event::DocumentJudged { from, refused } => {
                self.verification.done(&from);
                if let Some((code, blame)) = refused {
                    self.count_refusal(code);
                    if blame {
                        self.blame(&from);
                    }
                }
                self.verify_documents();
            }
            Event::Document { document: document::PROOF, bytes } => self.spread_proof(&bytes),
            Event::Document { document, bytes } => {
                self.open_gate();
                self.revision = self.revision.max(now.ms());
                if document == document::CHARTER {
                    self.agreements_at = Timestamp::default();
                    self.renew_stamp();
                }
                if document != document::CHARTER && bytes.len() < swarm::GOSSIP_BYTES_MAX {
                    self.gossip_document(document, &bytes);
                }
                // Everyone we know hears what we have now; what they lack they ask for.
                let peers: Vec<PeerKey> = self.connected.keys().copied().collect();
                peers.into_iter().for_each(|peer| self.send(&peer, &Message::Hello(self.hello())));
            }
            Event::Fatal(why) => return Err(NodeError::Fatal(why)),
        }
        Ok(())
    }

    /// A proof goes to everyone connected who may know of its feed, ahead of everything else, and from them on: over streams
    /// only, since a mesh that hostile members sit in may lose it.
    fn spread_proof(&mut self, bytes: &[u8]) {
        let Some(heads) = crate::charter::equivocation_heads(bytes) else { return };
        let [head, _] = &heads;
        self.replica.restart(&head.feed());
        let messages = document_messages(document::PROOF, bytes);
        for (peer, _) in self.connected.iter().filter(|(_, one)| self.may_have_proof(&one.member, &heads)) {
            self.send_in_time(peer, messages.clone());
        }
    }

    /// Whether a member may know of both heads of a proof.
    fn may_have_proof(&self, reader: &MemberId, heads: &[Head; 2]) -> bool {
        let (roster, now) = (Arc::clone(&self.current.get().roster), self.clock.now());
        let may = |head: &Head| may_send(&roster, &Head { class: Class::Removal, ..head.clone() }, reader, now, Way::Published).is_ok();
        heads.iter().all(may)
    }

    /// Operators follow other channels than before: peers are told, and cursors compared anew.
    fn follow_anew(&mut self, now: Timestamp) {
        self.wanted = self.read_wanted();
        let message = Message::Follow(self.wanted.message(&self.identity.member));
        let peers: Vec<PeerKey> = self.connected.keys().copied().collect();
        for peer in peers {
            self.send(&peer, &message);
            self.compare_cursors(&peer);
        }
        tracing::info!(at = %now, "what is followed has changed");
    }

    fn gossip(&mut self, head: Vec<u8>) {
        // Too few peers or full queues: cursors bring it (gossipsub T4: publishing again would be a duplicate).
        if let Err(error) = self.swarm.behaviour_mut().gossip.publish(self.topics.heads.clone(), head) {
            tracing::debug!(%error, "head not gossiped; cursors will bring it");
        }
    }

    fn gossip_document(&mut self, document: u64, bytes: &[u8]) {
        let tagged = [&[u8::try_from(document).unwrap_or(0)], bytes].concat();
        if let Err(error) = self.swarm.behaviour_mut().gossip.publish(self.topics.documents.clone(), tagged) {
            tracing::debug!(%error, "document not gossiped; hellos will bring it");
        }
    }

    fn on_tick(&mut self) {
        let now = self.clock.now();
        self.verify_documents();
        self.replica.set_full(self.current.room().low().is_some());
        let effects = self.replica.tick(self.held(), now);
        self.carry_out(effects);
        self.pass_on_whereabouts();
        if now.ms_since(self.recovered_at) >= RECOVER_INTERVAL_MS {
            self.recovered_at = now;
            self.recover(now);
        }
        let through = self.enforcer.through();
        if through != self.receipted_through {
            (self.receipted_through, self.receipts_due) = (through, Due::All);
        }
        if self.receipts_due != Due::default() && now.ms_since(self.receipted_at) >= RECEIPTS_INTERVAL_MS {
            self.receipted_at = now;
            self.send_receipts(through);
        }
        self.fetch_contents(now);
        self.let_exports_go_on(now);
        self.learn_own_heads();
        self.watch_clock();
        let over = self.clones.over(Instant::now());
        self.close_connections(over);
        if now.ms_since(self.dialled_at) >= DIAL_INTERVAL_MS {
            self.dialled_at = now;
            self.dial_more(now);
            self.publish_status();
        }
        if now.ms_since(self.agreements_at) >= AGREEMENTS_INTERVAL_MS {
            self.agreements_at = now;
            self.ask_door(Request::Agreements);
            // A stolen key ends half a minute after its owner said so.
            self.open_gate();
            self.leave_ended_key(now);
        }
        if now.ms_since(self.housekept_at) >= HOUSEKEEPING_INTERVAL_MS {
            self.housekeeping();
        }
    }

    /// After days away: what was taken back comes before the first export. Two members have to have said what they have, since one
    /// may lie, or the only other one; who reaches nobody goes on with what it has.
    fn let_exports_go_on(&mut self, now: Timestamp) {
        if !self.enforcer.awaits() || self.catching_up_ended {
            return;
        }
        let roster = Arc::clone(&self.current.get().roster);
        let me = &self.identity.member;
        let others: BTreeSet<&MemberId> =
            self.admitted.values().filter_map(|key| Some(&roster.node(key, now)?.member)).filter(|one| *one != me).collect();
        let told: BTreeSet<&MemberId> =
            self.told.iter().filter_map(|key| Some(&self.connected.get(key)?.member)).filter(|one| *one != me).collect();
        let heard = told.len() >= others.len().clamp(1, 2) && !self.replica.lacks_removals(self.held());
        let waited = self.started.elapsed();
        let given_up = waited > if told.is_empty() { NOBODY_HEARD } else { CATCHING_UP_MAX };
        if given_up && !heard {
            tracing::warn!("what was taken back while this node was away could not be had in time; exports go on with what is here");
        }
        if heard || given_up {
            self.catching_up_ended = self.ask_door(Request::CaughtUp);
        }
    }

    /// Compares the clocks. The door judges again what it held when it is next asked for agreements.
    fn watch_clock(&self) {
        if self.clock.look(self.current.get().roster.time_floor()) {
            match self.clock.doubt() {
                Some(doubt) => tracing::error!("{doubt}"),
                None => tracing::info!("nothing contradicts the clock of this machine any more"),
            }
        }
    }

    /// While our lane waits: who has told us what it has of it, and has nothing that we lack, is heard.
    fn learn_own_heads(&mut self) {
        if self.own.waiting().is_none() {
            return;
        }
        let held = self.held();
        let position = |feed: &FeedId| held(feed).last();
        let ours = |feed: &FeedId| feed.member == self.identity.member && feed.lane == self.identity.lane;
        for (key, connected) in self.connected.iter().filter(|(key, _)| self.told.contains(*key)) {
            if connected.member != self.identity.member && !self.replica.ahead(key, |feed, last| ours(feed) && position(feed) < Some(last))
            {
                self.own.heard(&connected.member);
            }
        }
        if self.own.waiting().is_none() {
            tracing::info!("others have told this node its own last head; it publishes from now on");
        }
    }

    /// Every minute: expired keys leave the gate; our whereabouts and, at a coordinator, the stamp are renewed.
    fn housekeeping(&mut self) {
        let now = self.clock.now();
        self.housekept_at = now;
        self.verification.forget_idle(now);
        self.open_gate();
        let mut addresses = self.own_addresses();
        addresses.truncate(ADDRESSES_MAX);
        self.tell_relay_where_it_is();
        let intake = self.current.get();
        let federation = intake.roster.federation();
        let until = now.plus_ms(WHEREABOUTS_DAYS_MAX * DAY_MS / 2);
        let stated = self.whereabouts.get(&self.me());
        let same =
            stated.is_some_and(|(place, _)| place.addresses == addresses && place.until > now.plus_ms(WHEREABOUTS_DAYS_MAX * DAY_MS / 4));
        let whereabouts = Whereabouts { format: 1, serial: now.ms(), time: now, until, addresses };
        if !same && !whereabouts.addresses.is_empty() {
            match sign_whereabouts(&whereabouts, &self.identity.node, &federation) {
                Ok(bytes) => drop(self.whereabouts.insert(self.me(), (whereabouts, bytes))),
                Err(error) => tracing::error!(%error, "this node's whereabouts could not be signed"),
            }
        }
        if std::mem::take(&mut self.places_changed) {
            self.remember_places();
        }
        self.renew_stamp();
        self.warn_of_ends();
    }

    /// Says once, at each of the days, that an agreement comes to its end.
    fn warn_of_ends(&mut self) {
        let intake = self.current.get();
        for line in intake.roster.agreement_lines(self.clock.now()) {
            let Stage::Running { days_left, warned: Some(at) } = line.stage else { continue };
            let agreement = &line.agreement.id;
            if self.warned.insert(agreement.clone(), at) != Some(at) {
                tracing::warn!(agreement, member = %line.agreement.member, days_left, "an agreement comes to its end");
            }
        }
    }

    /// A coordinator says again, every few hours and after each new version, that the charter is current. While two
    /// charters of one version exist it says nothing.
    fn renew_stamp(&mut self) {
        let (now, intake) = (self.clock.now(), self.current.get());
        let Some(key) = self.identity.freshness.as_ref().filter(|_| intake.roster.rival().is_none()) else { return };
        let young = |stamp: &SignedStamp| !is_ahead(stamp.stamp().time, now) && now.ms_since(stamp.stamp().time) < STAMP_RENEW_MS;
        if !self.clock.moment().doubted
            && !intake.roster.stamp().is_some_and(young)
            && let Ok(stamp) = SignedStamp::sign(intake.roster.charter(), key, now)
        {
            self.offer(None, document::STAMP, stamp.bytes().to_vec());
        }
    }

    /// Hands a document to the door; what it is worth, the door finds out. What is here already comes from every neighbour.
    fn offer(&mut self, from: Option<PeerKey>, document: u64, bytes: Vec<u8>) {
        let known = match crate::charter::equivocation_heads(&bytes).filter(|_| document == document::PROOF) {
            Some([head, _]) => self.is_proved(&head.feed()),
            None => self.current.get().roster.holds(&bytes),
        };
        if known {
            return;
        }
        let Some(from) = from else {
            self.ask_door(Request::Document { document, bytes, from, reply: None });
            return;
        };
        if !self.verification.push(from, document, bytes, self.clock.now()) {
            self.count_refusal("document-budget");
        }
        self.verify_documents();
    }

    /// Hands documents of peers to the door, as far as their budgets go.
    fn verify_documents(&mut self) {
        while let Some((from, (document, bytes))) = self.verification.next() {
            let request = Request::Document { document, bytes, from: Some(from), reply: None };
            if let Err(NotSent::Full(request)) = self.door.try_send(request) {
                // It is tried again with the next tick.
                if let Request::Document { document, bytes, .. } = *request {
                    self.verification.put_back(from, (document, bytes));
                }
                return;
            }
        }
    }

    /// Whether a proof about a feed is here that no card has settled.
    fn is_proved(&self, feed: &FeedId) -> bool {
        let settled = self.current.get().roster.pin(feed).map_or(0, |pin| pin.seq);
        self.ledger.has_proof(feed, settled).is_ok_and(|proved| proved)
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                if let Some(key) = self.admitted.get(&peer_id).copied() {
                    let over = self.clones.established(key, connection_id, Instant::now());
                    self.close_connections(over);
                    if endpoint.is_dialer() {
                        self.dialled.insert(key);
                    }
                    self.unreached.remove(&key);
                    self.open_stream(key, peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer_id), error, .. } => self.not_reached(&peer_id, &error),
            SwarmEvent::NewListenAddr { listener_id, address } => self.listens(listener_id, &address),
            SwarmEvent::ListenerClosed { listener_id, .. } => self.listens_no_more(listener_id),
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                if let Some(key) = swarm::node_key(&peer_id) {
                    self.clones.closed(&key, connection_id);
                }
                if let Some(key) = self.admitted.get(&peer_id).copied().filter(|_| num_established == 0) {
                    self.lose(&key);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message })) => {
                let acceptance = self.on_gossip(propagation_source, &message);
                if acceptance == MessageAcceptance::Reject
                    && let Some(key) = self.admitted.get(&propagation_source).copied()
                {
                    self.blame(&key);
                }
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(&message_id, &propagation_source, acceptance);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::SlowPeer { peer_id, .. })) => {
                tracing::debug!(%peer_id, "gossip to a slow peer was dropped; cursors will bring it");
            }
            _ => (),
        }
    }

    fn close_connections(&mut self, over: Vec<ConnectionId>) {
        for id in over {
            self.count_refusal("replaced-connection");
            self.swarm.close_connection(id);
        }
    }

    fn on_gossip(&mut self, source: PeerId, message: &gossipsub::Message) -> MessageAcceptance {
        let Some(from) = self.admitted.get(&source).copied() else { return MessageAcceptance::Ignore };
        if message.topic == self.topics.heads.hash() {
            return self.on_head(from, &message.data, true);
        }
        let Some((kind, bytes)) = message.data.split_first() else { return MessageAcceptance::Reject };
        let document = u64::from(*kind);
        if matches!(document, document::STAMP | document::CARD) {
            self.offer(Some(from), document, bytes.to_vec());
        }
        // The door passes on what it took, in its own name; forwarding before that would spread what nobody checked.
        MessageAcceptance::Ignore
    }

    /// A head from gossip or by stream. Proved and entitled it may be forwarded; its body is asked for.
    fn on_head(&mut self, from: PeerKey, bytes: &[u8], gossiped: bool) -> MessageAcceptance {
        let now = self.clock.now();
        let placed = self.current.get().place(bytes, self.clock.moment(), &self.ledger);
        match placed {
            Ok(Placed::Next(head) | Placed::Ahead { head, .. } | Placed::Gap(head)) => {
                if gossiped && !may_gossip(head.head()) {
                    self.count_refusal("restricted-gossip");
                    return MessageAcceptance::Reject;
                }
                if !self.addressed_to_us(head.head()) {
                    return MessageAcceptance::Ignore;
                }
                let feed = head.head().feed();
                // What we do not follow is passed on, for the mesh's sake, and not fetched.
                if self.wanted.of(&feed).is_some() || feed.member == self.identity.member {
                    let held = self.ledger.spans(&feed);
                    let effects = self.replica.heard(head, from, &held, now);
                    self.carry_out(effects);
                }
                MessageAcceptance::Accept
            }
            Ok(Placed::Known) if gossiped => self.on_known(bytes),
            Ok(Placed::Known) => MessageAcceptance::Ignore,
            Ok(Placed::Fork(head)) => {
                self.count_refusal("fork");
                self.ask_door(Request::Fork { head: Box::new(head) });
                MessageAcceptance::Accept
            }
            Ok(Placed::OtherBranch(head)) => {
                self.count_refusal("other-branch");
                self.ask_door(Request::OtherBranch { feed: head.head().feed() });
                MessageAcceptance::Ignore
            }
            Err(refusal) => {
                self.count_refusal(refusal.code);
                tracing::debug!(code = refusal.code, text = %refusal.text, "head refused");
                if refusal.code == WRONG_PREV {
                    self.suspect_fork(&from, bytes);
                    // Who has the other branch is as honest as we are: what it sent by stream is the first half of a proof.
                    return if gossiped { MessageAcceptance::Reject } else { MessageAcceptance::Ignore };
                }
                match refusal.blame {
                    Blame::Reject => MessageAcceptance::Reject,
                    Blame::Ignore | Blame::Later => MessageAcceptance::Ignore,
                }
            }
        }
    }

    /// A head of what is here already, because a range or a bundle was faster than gossip: others wait for it, so it is forwarded.
    /// Only the newest of a feed: whoever gossips all that ever was is not helped.
    fn on_known(&self, bytes: &[u8]) -> MessageAcceptance {
        let Ok(signed) = SignedHead::open(bytes, &self.current.get().roster.federation()) else { return MessageAcceptance::Reject };
        if !may_gossip(signed.head()) {
            return MessageAcceptance::Reject;
        }
        let newest = self.ledger.position(&signed.head().feed()).is_some_and(|(_, id)| id == signed.id());
        if newest { MessageAcceptance::Accept } else { MessageAcceptance::Ignore }
    }

    /// Whether a head is for us: as published, or because its author lets it be passed on to an audience that we are in.
    fn addressed_to_us(&self, head: &Head) -> bool {
        let (roster, me) = (Arc::clone(&self.current.get().roster), &self.identity.member);
        roster.addresses(&head.audience, &head.member, me) || head.audience.onward.iter().any(|name| roster.names(name, me, true))
    }

    fn count_refusal(&mut self, code: &str) {
        if self.refusals.len() < REFUSAL_CODES_MAX || self.refusals.contains_key(code) {
            *self.refusals.entry(code.to_owned()).or_default() += 1;
        }
    }

    /// Gives a request to the door without waiting; `false` if its queue is full, and then it comes again by cursor.
    fn ask_door(&mut self, request: Request) -> bool {
        let taken = self.door.try_send(request).is_ok();
        if !taken {
            self.count_refusal("door-full");
        }
        taken
    }

    fn open_stream(&mut self, key: PeerKey, peer: PeerId) {
        if self.me() > key || self.connected.contains_key(&key) || !self.opening.insert(key) {
            return;
        }
        let (mut control, opened) = (self.streams.clone(), self.opened.clone());
        let closed = self.incoming.clone();
        tokio::spawn(async move {
            match control.open_stream(peer, streams::PROTOCOL).await {
                Ok(stream) => drop(opened.send((key, stream)).await),
                Err(error) => drop(closed.send(Incoming::Closed { peer: key, stream: 0, why: error.to_string() }).await),
            }
        });
    }

    fn on_accepted(&mut self, peer: PeerId, stream: libp2p::Stream) {
        // The smaller key opens; whatever the larger opens is not ours to serve.
        if let Some(key) = self.admitted.get(&peer).copied()
            && key < self.me()
        {
            self.on_stream(key, stream);
        }
    }

    fn on_stream(&mut self, key: PeerKey, stream: libp2p::Stream) {
        self.opening.remove(&key);
        let now = self.clock.now();
        let Some(identity) = self.current.get().roster.node(&key, now).cloned() else { return };
        self.streams_opened += 1;
        let member = identity.member.clone();
        let outlet = streams::start(key, Some((self.egress.clone(), member.clone())), self.streams_opened, stream, self.incoming.clone());
        self.reach.connected(key, &member, &identity.node, now);
        self.current.note_connected(key);
        let connected = Connected {
            member: identity.member,
            node: identity.node,
            outlet,
            turns: Arc::new(tokio::sync::Semaphore::new(TURNS_MAX)),
            wanted: Wanted::default(),
            receipted: BTreeMap::new(),
            software: String::new(),
            partial: None,
            shown: Shown::default(),
        };
        self.connected.insert(key, connected);
        self.receipts_due = Due::All;
        self.send(&key, &Message::Hello(self.hello()));
        if self.wanted != Wanted::default() {
            self.send(&key, &Message::Follow(self.wanted.message(&self.identity.member)));
        }
        let proofs = self.ledger.proofs().unwrap_or_default().into_iter().map(|(_, bytes)| bytes);
        let may = |bytes: &Vec<u8>| crate::charter::equivocation_heads(bytes).is_some_and(|heads| self.may_have_proof(&member, &heads));
        self.send_in_time(&key, proofs.filter(may).flat_map(|bytes| document_messages(document::PROOF, &bytes)).collect());
        // A greeting may have been too much for it already.
        if !self.connected.contains_key(&key) {
            return;
        }
        self.send_in_time(&key, self.some_places());
        let effects = self.replica.connected(key, member, now);
        self.carry_out(effects);
        self.publish_status();
    }

    fn lose(&mut self, key: &PeerKey) {
        self.opening.remove(key);
        self.told.remove(key);
        self.dialled.remove(key);
        if self.connected.remove(key).is_some() {
            self.verification.drop_waiting(key);
            self.contents.gone(key);
            self.replica.gone(key);
            self.reach.gone(key, self.clock.now());
            self.publish_status();
        }
    }

    /// Ends a connection whose peer broke the protocol or does not read.
    fn cut(&mut self, key: &PeerKey, code: &str) {
        self.count_refusal(code);
        self.lose(key);
        if let Some(peer) = swarm::peer_id(key) {
            let _not_connected = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// A peer sent what it had to know is wrong. Verdicts alone cost it nothing: gossipsub scores nobody for silence or rubbish
    /// where topics are sparse.
    fn blame(&mut self, key: &PeerKey) {
        let now = self.clock.now();
        let (count, since) = self.rejected.entry(*key).or_insert((0, now));
        if now.ms_since(*since) > REJECTS_MS {
            (*count, *since) = (0, now);
        }
        *count += 1;
        if *count >= REJECTS_MAX {
            self.rejected.remove(key);
            self.barred.insert(*key, now.plus_ms(BARRED_MS));
            self.cut(key, "barred");
            self.open_gate();
        }
    }

    fn send(&mut self, to: &PeerKey, message: &Message) {
        let sent = self.connected.get(to).is_none_or(|connected| connected.outlet.try_send(message));
        if !sent {
            self.cut(to, "does-not-read");
        }
    }

    /// Sends what is no hurry and may be more than a queue takes: one after another, as the peer reads.
    fn send_in_time(&self, to: &PeerKey, messages: Vec<Message>) {
        let Some(outlet) = self.connected.get(to).map(|connected| connected.outlet.clone()) else { return };
        tokio::spawn(async move {
            for message in messages {
                if !outlet.send(&message).await {
                    break;
                }
            }
        });
    }

    fn hello(&self) -> Hello {
        let intake = self.current.get();
        let charter = intake.roster.charter();
        let serial = |card: &crate::charter::SignedCard| CardSerial { member: card.card().member.clone(), serial: card.card().serial };
        Hello {
            kind: number::HELLO,
            protocol: PROTOCOL_VERSION,
            software: concat!("huecry ", env!("CARGO_PKG_VERSION")).to_owned(),
            charter_version: charter.charter().version,
            charter_hash: charter.hash(),
            stamp: intake.roster.stamp().map(|stamp| stamp.stamp().time),
            cards: intake.roster.cards().map(serial).collect(),
            rival_hash: intake.roster.rival().map(crate::charter::SignedCharter::hash),
        }
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Closed { peer, stream, why } => {
                let current = self.connected.get(&peer).map_or(0, |connected| connected.outlet.stream);
                if current == stream {
                    tracing::debug!(why, "stream closed");
                    self.lose(&peer);
                    self.opening.remove(&peer);
                    if let Some(id) = swarm::peer_id(&peer) {
                        if self.clones.needs_stream(&peer) && self.admitted.contains_key(&id) {
                            // The stream went with a connection that was replaced; the newer one has none yet.
                            self.open_stream(peer, id);
                        } else {
                            // A connection without its stream is of no use; dialling again makes both.
                            let _not_connected = self.swarm.disconnect_peer_id(id);
                        }
                    }
                }
            }
            Incoming::Frame { peer, stream, bytes, room: _room } => {
                if self.connected.get(&peer).is_some_and(|connected| connected.outlet.stream == stream) {
                    match Message::decode(&bytes) {
                        Ok(Some(message)) => self.on_message(peer, message),
                        Ok(None) => (),
                        Err(error) => {
                            tracing::warn!(%error, "a peer sent a frame that does not read");
                            self.cut(&peer, "bad-frame");
                        }
                    }
                }
            }
        }
    }

    fn on_message(&mut self, from: PeerKey, message: Message) {
        let now = self.clock.now();
        let held = self.held();
        let effects = match message {
            Message::Hello(hello) => return self.on_hello(from, hello),
            Message::Ask(ask) => return self.on_ask(&from, &ask),
            Message::Document(part) => return self.on_document(from, part),
            Message::Digest(theirs) => {
                let ours = self.cursors_for(&from);
                self.replica.digest(from, theirs.revision.unwrap_or(0));
                if let (Some(time), Some(peer)) =
                    (theirs.time, self.connected.get(&from).filter(|peer| peer.member != self.identity.member))
                {
                    self.clock.hear(&peer.member, time);
                }
                let same = digest_of(&ours) == theirs.hash;
                if same {
                    self.told.insert(from);
                    self.replica.same(from, &ours);
                }
                let Some(connected) = self.connected.get_mut(&from) else { return };
                let news = connected.shown.news(ours, (!same).then_some(theirs.hash), now);
                if !same {
                    self.send_cursors(&from, news);
                }
                return;
            }
            Message::Cursors(theirs) => {
                if !theirs.more {
                    self.told.insert(from);
                }
                let theirs = self.of_interest(&from, theirs.cursors);
                theirs.iter().for_each(|cursor| self.compare_heads(&from, cursor));
                self.replica.cursors(from, theirs, held, now)
            }
            Message::Announce(announce) => {
                if self.on_head(from, &announce.head, false) == MessageAcceptance::Reject {
                    self.blame(&from);
                }
                return;
            }
            Message::Pull(pull) => {
                let feed = FeedId::from(pull.feed.clone());
                // What is not for the peer is answered at once, like what does not exist.
                let held = held(&feed).contains(pull.seq) || !self.may_know(&from, &feed);
                self.replica.pulled(from, pull, held)
            }
            Message::Range(range) => self.replica.ranged(from, range),
            Message::RangeHead(part) => {
                match self.current.get().place(&part.head, self.clock.moment(), &self.ledger) {
                    Ok(Placed::Next(head) | Placed::Ahead { head, .. } | Placed::Gap(head)) => {
                        self.replica.range_head(from, part.request, head);
                    }
                    Ok(Placed::Fork(head)) => {
                        self.count_refusal("fork");
                        self.ask_door(Request::Fork { head: Box::new(head) });
                        self.replica.range_failed(from, part.request);
                    }
                    Ok(Placed::OtherBranch(head)) => {
                        self.ask_door(Request::OtherBranch { feed: head.head().feed() });
                        self.replica.range_failed(from, part.request);
                    }
                    // Known: it came another way meanwhile, and its body is dropped.
                    Ok(_) => (),
                    Err(refusal) => {
                        self.count_refusal(refusal.code);
                        if refusal.code == WRONG_PREV {
                            self.suspect_fork(&from, &part.head);
                        }
                        self.replica.range_failed(from, part.request);
                    }
                }
                return;
            }
            Message::Body(body) => self.replica.body(from, body, held, now),
            Message::ChunkAsk(ask) => return self.serve_chunk(&from, ask, now),
            Message::Chunk(chunk) => return self.on_chunk(from, chunk, now),
            Message::End(end) => {
                self.contents.ended(from, &end, now);
                self.replica.ended(from, &end, held, now)
            }
            Message::Follow(follow) => {
                if let Some(connected) = self.connected.get_mut(&from) {
                    connected.wanted = Wanted::from_message(follow);
                }
                return;
            }
            Message::Receipts(receipts) => {
                let ours = |feed: FeedId| feed.member == self.identity.member && self.ledger.feed(&feed).is_some();
                for receipt in receipts.receipts.into_iter().filter(|one| ours(one.feed.clone().into())) {
                    self.reach.told(&from, receipt, now);
                }
                return;
            }
        };
        self.carry_out(effects);
    }

    /// Takes up the next node key when the card has ended this one: no holder of the card lets it in any more.
    fn leave_ended_key(&mut self, now: Timestamp) {
        let roster = Arc::clone(&self.current.get().roster);
        let (me, Some(card)) = (self.identity.node.public(), roster.card(&self.identity.member)) else { return };
        if card.nodes.iter().any(|one| one.key == me && one.until.is_some_and(|until| until <= now)) {
            self.take_up_node_key(card);
        }
    }

    fn take_up_node_key(&mut self, card: &Card) {
        let on_card = |key: &PublicKey| card.nodes.iter().any(|one| one.key == *key);
        match self.keys.promote(keys::Purpose::Node, on_card) {
            Ok(promoted) => self.rekeyed |= promoted,
            Err(error) => tracing::error!(%error, "the new node key could not be taken up"),
        }
    }

    /// What a peer has that we lack of the documents, we ask for.
    fn on_hello(&mut self, from: PeerKey, hello: Hello) {
        let intake = self.current.get();
        let roster = &intake.roster;
        if let Some(connected) = self.connected.get_mut(&from) {
            connected.software = hello.software.chars().filter(|char| !char.is_control()).take(64).collect();
        }
        // Somebody holds the card with our next node key, so that we will be let in under it.
        if let Some(card) = roster.card(&self.identity.member)
            && hello.cards.iter().any(|one| one.member == card.member && one.serial >= card.serial)
        {
            self.take_up_node_key(card);
        }
        let ours = roster.charter().charter().version;
        let same_charter = hello.charter_hash == roster.charter().hash();
        let other = |hash| hash != roster.charter().hash() && roster.rival().is_none();
        let forked = hello.charter_version == ours && (other(hello.charter_hash) || hello.rival_hash.is_some_and(other));
        // From our own version on, so that a second charter of it shows itself.
        let charters_from = (hello.charter_version > ours || forked).then_some(ours);
        let stamp = (same_charter && hello.stamp > roster.stamp().map(|stamp| stamp.stamp().time)).then_some(true);
        let newer = |card: &&CardSerial| roster.card(&card.member).map_or(0, |ours| ours.serial) < card.serial;
        let cards: Vec<MemberId> = hello.cards.iter().filter(newer).map(|card| card.member.clone()).collect();
        if charters_from.is_some() || stamp.is_some() || !cards.is_empty() {
            self.send(&from, &Message::Ask(Ask { kind: number::ASK, charters_from, stamp, cards }));
        }
    }

    fn on_ask(&mut self, from: &PeerKey, ask: &Ask) {
        let intake = self.current.get();
        let mut messages = Vec::new();
        if let Some(first) = ask.charters_from {
            let skip = usize::try_from(first.saturating_sub(1)).unwrap_or(usize::MAX);
            let chain = intake.roster.chain().iter().skip(skip).map(Vec::as_slice);
            let rival = intake.roster.rival().map(crate::charter::SignedCharter::bytes);
            messages.extend(chain.chain(rival).flat_map(|bytes| document_messages(document::CHARTER, bytes)));
        }
        if ask.stamp == Some(true) {
            messages.extend(intake.roster.stamp().into_iter().flat_map(|stamp| document_messages(document::STAMP, stamp.bytes())));
        }
        let wanted = intake.roster.cards().filter(|card| ask.cards.contains(&card.card().member));
        messages.extend(wanted.flat_map(|card| document_messages(document::CARD, card.bytes())));
        self.send_in_time(from, messages);
    }

    fn on_document(&mut self, from: PeerKey, part: crate::replica::Document) {
        let Some(connected) = self.connected.get_mut(&from) else { return };
        let mut whole = match connected.partial.take() {
            Some((document, bytes)) if document == part.document => bytes,
            _ => Vec::new(),
        };
        whole.extend_from_slice(&part.part);
        if whole.len() > DOCUMENT_BYTES_MAX {
            return self.cut(&from, "long-document");
        }
        if !part.last {
            connected.partial = Some((part.document, whole));
            return;
        }
        match part.document {
            document::CHARTER | document::STAMP | document::CARD | document::PROOF => self.offer(Some(from), part.document, whole),
            document::WHEREABOUTS if !self.on_whereabouts(&whole) => {
                self.count_refusal("forged-document");
                self.blame(&from);
            }
            _ => (),
        }
    }

    /// The cursors that a peer may know of: feeds whose readers it is among.
    fn cursors_for(&self, peer: &PeerKey) -> Vec<Cursor> {
        let Some(connected) = self.connected.get(peer) else { return Vec::new() };
        self.serving.cursors(&connected.member, &connected.wanted, &self.wanted)
    }

    /// Of what a peer says that it has, what we follow, and all that it says of our own lane.
    fn of_interest(&self, from: &PeerKey, mut cursors: Vec<Cursor>) -> Vec<Cursor> {
        let ours = |feed: &FeedId| feed.member == self.identity.member || self.wanted.of(feed).is_some();
        cursors.retain(|cursor| {
            let feed = FeedId::from(cursor.feed.clone());
            ours(&feed) && self.may_know(from, &feed)
        });
        cursors
    }

    /// A peer whose head differs from ours at the same place has the other half of a proof: it is asked for it.
    fn compare_heads(&mut self, peer: &PeerKey, cursor: &Cursor) {
        let feed = FeedId::from(cursor.feed.clone());
        let last = cursor.intervals.last().map_or(0, |(_, last)| *last);
        if self.ledger.head_at(&feed, last).is_some_and(|ours| ours != cursor.head) && !self.is_proved(&feed) {
            self.ask_for_head(peer, &feed, last);
        }
    }

    /// Asks for what a peer has at one place; what comes is only looked at as the other half of a proof.
    fn ask_for_head(&mut self, peer: &PeerKey, feed: &FeedId, seq: u64) {
        let range = Range { kind: number::RANGE, request: 0, feed: feed.into(), first: seq, last: seq, bytes_max: 1, removals: None };
        self.send(peer, &Message::Range(range));
    }

    /// A head that does not continue what we hold is of another branch: at our own last place that shows.
    fn suspect_fork(&mut self, from: &PeerKey, bytes: &[u8]) {
        let Ok(signed) = SignedHead::open(bytes, &self.current.get().roster.federation()) else { return };
        let feed = signed.head().feed();
        if let Some((last, _)) = self.ledger.position(&feed).filter(|_| !self.is_proved(&feed)) {
            self.ask_for_head(from, &feed, last);
        }
    }

    /// Whether a peer may know that a feed exists: whether the author's card has such a channel that it reads, or once did.
    /// To ask it about any other would tell it.
    fn may_know(&self, peer: &PeerKey, feed: &FeedId) -> bool {
        let roster = Arc::clone(&self.current.get().roster);
        let Some(reader) = self.connected.get(peer).map(|one| &one.member) else { return false };
        let channel = roster.card(&feed.member).and_then(|card| card.channels.iter().find(|channel| channel.name == feed.channel));
        channel.is_some_and(|channel| {
            let audience = roster.audience_now(&channel.audience);
            let onward = || audience.onward.iter().any(|name| roster.names(name, reader, true));
            roster.addressed_once(&audience, &feed.member, reader) || onward()
        })
    }

    fn compare_cursors(&mut self, with: &PeerKey) {
        let hash = digest_of(&self.cursors_for(with));
        let moment = self.clock.moment();
        let time = (!moment.doubted).then_some(moment.best);
        self.send(with, &Message::Digest(Digest { kind: number::DIGEST, hash, revision: Some(self.revision), time }));
    }

    /// Asks for the rest of batches that are here in part.
    fn recover(&mut self, now: Timestamp) {
        let feeds = self.ledger.feeds().into_iter().filter(|(feed, state)| state.withheld > 0 && self.wanted.of(feed).is_some());
        let seqs = |feed: FeedId| {
            let seqs = self.ledger.withheld(&feed, RECOVER_BATCHES_MAX).unwrap_or_default();
            (feed, seqs)
        };
        let lacking: Vec<(FeedId, Vec<u64>)> = feeds.map(|(feed, _)| seqs(feed)).collect();
        let effects = self.replica.recover(lacking, now);
        self.carry_out(effects);
    }

    /// Tells authors how far we are with what is theirs, where that has changed.
    fn send_receipts(&mut self, through: u64) {
        let mut due: Vec<(PeerKey, Vec<Receipt>)> = Vec::new();
        let feeds = match std::mem::take(&mut self.receipts_due) {
            Due::All => self.ledger.feeds(),
            Due::Of(feeds) => feeds.into_iter().filter_map(|feed| self.ledger.feed(&feed).map(|state| (feed, state))).collect(),
        };
        for (feed, state) in feeds {
            let rebuilt = self.ledger.batch_number(&feed, state.last()).ok().flatten().is_some_and(|number| number < through);
            for (key, author) in self.connected.iter_mut().filter(|(_, one)| one.member == feed.member) {
                let before = author.receipted.get(&feed);
                let exported = rebuilt.then(|| state.last()).or_else(|| before.and_then(|one| one.exported));
                let receipt = Receipt {
                    feed: (&feed).into(),
                    intervals: state.spans.intervals().to_vec(),
                    exported: exported.filter(|_| !self.enforcer.is_idle()),
                    withheld: Some(state.withheld).filter(|count| *count > 0),
                };
                if before == Some(&receipt) || author.receipted.len() >= crate::replica::FEEDS_MAX {
                    continue;
                }
                author.receipted.insert(feed.clone(), receipt.clone());
                match due.iter_mut().find(|(one, _)| one == key) {
                    Some((_, receipts)) => receipts.push(receipt),
                    None => due.push((*key, vec![receipt])),
                }
            }
        }
        for (key, receipts) in due {
            for receipts in receipts.chunks(RECEIPTS_PER_MESSAGE_MAX) {
                self.send(&key, &Message::Receipts(Receipts { kind: number::RECEIPTS, receipts: receipts.to_vec() }));
            }
        }
    }

    /// Sends cursors; none at all say that there is no news.
    fn send_cursors(&mut self, to: &PeerKey, cursors: Vec<Cursor>) {
        if cursors.is_empty() {
            return self.send(to, &Message::Cursors(Cursors { kind: number::CURSORS, cursors, more: false }));
        }
        let chunks: Vec<Vec<Cursor>> = cursors.chunks(CURSORS_PER_MESSAGE_MAX).map(<[Cursor]>::to_vec).collect();
        let count = chunks.len();
        for (index, cursors) in chunks.into_iter().enumerate() {
            self.send(to, &Message::Cursors(Cursors { kind: number::CURSORS, cursors, more: index + 1 < count }));
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(&to, &message),
                Effect::Submit { head, served, beyond } => {
                    let (feed, seq, from) = (head.head().feed(), head.head().seq, served.from);
                    if !self.ask_door(Request::Batch(Arrived::of(head, served, beyond))) {
                        let (held, now) = (self.ledger.spans(&feed), self.clock.now());
                        // What it asks for instead comes with the next tick: the door is full now.
                        let _later = self.replica.refused(&feed, seq, from, Refused::default(), &held, now);
                    }
                }
                Effect::Fill { feed, seq, served } => {
                    self.ask_door(Request::Fill { feed, seq, served: Box::new(served) });
                }
                Effect::ServeBody { to, request, feed, seq } => {
                    self.serve(&to, Wish { request, feed, first: seq, last: seq, bytes_max: u64::MAX, removals: false, with_heads: false });
                }
                Effect::ServeRange { to, request, feed, first, last, bytes_max, removals } => {
                    self.serve(&to, Wish { request, feed, first, last, bytes_max, removals, with_heads: true });
                }
                Effect::Announce { feed, seq, except } => self.announce(&feed, seq, except),
                Effect::SendDigest { to } => self.compare_cursors(&to),
            }
        }
    }

    /// Tells every connected peer that may know of a batch.
    fn announce(&mut self, feed: &FeedId, seq: u64, except: Option<PeerKey>) {
        let Ok(Some(batch)) = self.ledger.batch_at(feed, seq) else { return };
        let message = Message::Announce(Announce { kind: number::ANNOUNCE, head: batch.entry.head.clone() });
        let may = |member: &MemberId| self.serving.may_have(&batch, member);
        let wants = |one: &Connected| one.wanted.of(feed).is_some();
        let peers = self.connected.iter().filter(|(key, one)| Some(**key) != except && wants(one) && may(&one.member));
        let peers: Vec<PeerKey> = peers.map(|(key, _)| *key).collect();
        peers.iter().for_each(|peer| self.send(peer, &message));
    }

    fn serve(&mut self, to: &PeerKey, wish: Wish) {
        let Some(connected) = self.connected.get(to) else { return };
        if !connected.may_wait() {
            return self.send(to, &Message::End(End { kind: number::END, request: wish.request, more: false }));
        }
        let reader = Reader { member: connected.member.clone(), wanted: connected.wanted.clone(), outlet: connected.outlet.clone() };
        // Most pulls are for what has just been kept, and need neither disk nor thread.
        if !wish.with_heads && self.serving.serve_recent(&reader, &wish) {
            return;
        }
        self.in_its_turn(to, move |serving, reader| serving.serve(reader, &wish));
    }

    /// Serves on a blocking thread, some wishes of one peer at a time: one that reads slowly must not take up all threads.
    fn in_its_turn(&self, to: &PeerKey, work: impl FnOnce(&Serving, &Reader) + Send + 'static) {
        let Some(connected) = self.connected.get(to) else { return };
        let reader = Reader { member: connected.member.clone(), wanted: connected.wanted.clone(), outlet: connected.outlet.clone() };
        let (serving, turns) = (self.serving.clone(), Arc::clone(&connected.turns));
        tokio::spawn(async move {
            if let Ok(_turn) = turns.acquire().await {
                let _served = tokio::task::spawn_blocking(move || work(&serving, &reader)).await;
            }
        });
    }

    /// Which members were asked for what is lacking, by feed.
    fn asked(&self) -> BTreeMap<String, Vec<String>> {
        let lacking = self.ledger.feeds().into_iter().filter(|(_, state)| state.withheld > 0);
        let members = |feed: &FeedId| {
            let keys = self.replica.asked_for_rest(feed).into_iter();
            let members: BTreeSet<String> = keys.filter_map(|key| Some(self.connected.get(&key)?.member.to_string())).collect();
            members.into_iter().collect()
        };
        lacking.map(|(feed, _)| (feed.to_string(), members(&feed))).collect()
    }

    fn publish_status(&mut self) {
        let cloned = self.clones.seen(Instant::now());
        let (roster, now) = (Arc::clone(&self.current.get().roster), self.clock.now());
        let cloned = cloned.iter().filter_map(|key| roster.node(key, now)).map(|node| format!("{} ({})", node.member, node.node)).collect();
        let peer = |one: &Connected| PeerStatus { member: one.member.to_string(), node: one.node.clone(), software: one.software.clone() };
        self.watch.set(NetworkStatus {
            listening: self.swarm.listeners().map(ToString::to_string).collect(),
            peers: self.connected.values().map(peer).collect(),
            feeds_under_way: self.replica.feeds_under_way(),
            refusals: self.refusals.clone(),
            clock_alarm: self.clock.doubt().map(|doubt| doubt.to_string()),
            cloned,
            unreachable: self.unreachable(),
            relayed: self.swarm.listeners().filter(|address| links::is_relayed(address)).map(ToString::to_string).collect(),
            egress_alarm: self.egress.alarm(),
            egress_refused: self.egress.refused(),
            behind: self.replica.behind(self.held()).into_iter().map(|(feed, count)| (feed.to_string(), count)).collect(),
            asked: self.asked(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cursors_that_have_changed_are_shown_again_unless_the_peer_stands_still() {
        let (now, mut shown) = (Timestamp::from_ms(1_760_000_000_000).unwrap(), Shown::default());
        let cursor = |channel: &str, last| {
            let feed: FeedId = format!("vendor-one/{channel}").parse().unwrap();
            Cursor { feed: (&feed).into(), intervals: vec![(1, last)], head: Hash([1; 32]), incomplete: None }
        };
        let (before, after) = (vec![cursor("a", 1), cursor("b", 1)], vec![cursor("a", 2), cursor("b", 1)]);
        assert_eq!(shown.news(before.clone(), Some(Hash([2; 32])), now), before);
        assert_eq!(shown.news(after.clone(), Some(Hash([3; 32])), now.plus_ms(10_000)), [cursor("a", 2)]);
        assert_eq!(shown.news(after.clone(), Some(Hash([3; 32])), now.plus_ms(20_000)), after, "it has not moved: it may have forgotten");
        assert!(shown.news(after.clone(), Some(Hash([4; 32])), now.plus_ms(30_000)).is_empty());
        assert_eq!(shown.news(after.clone(), Some(Hash([5; 32])), now.plus_ms(20_000 + WHOLE_INTERVAL_MS)), after);
        // It was like us, and has not moved since: it was not shown yet what it lacks now.
        let (then, next) = (now.plus_ms(100_000), vec![cursor("a", 3), cursor("b", 1)]);
        shown.news(after, None, then);
        assert_eq!(shown.news(next, Some(Hash([5; 32])), then.plus_ms(10_000)), [cursor("a", 3)]);
    }
}
