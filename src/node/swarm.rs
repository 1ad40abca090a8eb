//! The swarm: libp2p behaviours, the gate first, and gossipsub set as our messages need it.
//!
//! Only nodes on current cards get past the gate. gossipsub carries heads of federation channels, stamps and
//! cards; never a body, and nothing that not everyone may read, because gossipsub answers IWANT to anyone.
//! Not here: what a message means (`node::mod`), standing streams (`node::streams`).

use super::{frames::Watched, proxy::ProxyTransport};
use crate::{
    config::Proxy,
    envelope::{FederationId, SecretKey},
    replica::PeerKey,
};
use libp2p::{
    PeerId, Swarm, SwarmBuilder, Transport as _, allow_block_list, connection_limits,
    core::{muxing::StreamMuxerBox, transport::Boxed},
    gossipsub::{
        self, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId, PeerScoreParams,
        PeerScoreThresholds, TopicHash, ValidationMode, WhitelistSubscriptionFilter,
    },
    identity, memory_connection_limits, noise, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    tcp, yamux,
};
use sha2::{Digest as _, Sha256};
use std::{collections::HashSet, time::Duration};

/// Longest message that we gossip: a card. Heads have 300 bytes.
pub const GOSSIP_BYTES_MAX: usize = 64 * 1024;
/// gossipsub compares its whole read buffer with its limit, so back-to-back messages near it break the stream (trap T1);
/// a payload equal to the limit is accepted here and refused there (T2). Twice the largest message keeps clear of both.
const TRANSMIT_BYTES_MAX: usize = 2 * GOSSIP_BYTES_MAX;
/// How often a connection is asked whether it is alive; a dead one is noticed at the latest after this and 20 s.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Process memory at which new connections are refused.
const MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;
/// A connection without open streams is kept this long; gossipsub keeps only its mesh alive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Streams one connection may have: gossip both ways, ping, one standing stream, and room to renew them.
pub const STREAMS_MAX: usize = 16;
/// The same between a relay and a node that is reached through it: each circuit is a stream.
const RELAY_STREAMS_MAX: usize = 64;
/// Nodes that a relay keeps a place for: every node of a federation whose members have one each.
const RELAY_RESERVATIONS_MAX: usize = 256;
/// Circuits through one relay: each takes two streams and a buffer of 8 KiB.
const RELAY_CIRCUITS_MAX: usize = 2_048;

/// Everything a connection can do, the gate first: behaviours before it would remember peers that it refuses (T6).
#[derive(NetworkBehaviour)]
pub struct Behaviour {
    pub gate: allow_block_list::Behaviour<allow_block_list::AllowedPeers>,
    pub limits: connection_limits::Behaviour,
    pub memory: memory_connection_limits::Behaviour,
    pub ping: ping::Behaviour,
    pub gossip: gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>>,
    pub stream: libp2p_stream::Behaviour,
    /// At a coordinator: passes connections on to members that nobody can dial.
    pub relay: Toggle<relay::Behaviour>,
    /// Everywhere, since whoever is to be dialled may be behind one.
    pub relayed: Toggle<relay::client::Behaviour>,
}

/// What a node has to do with relays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relaying {
    /// It passes connections on.
    pub serves: bool,
    /// It is reached through others.
    pub uses: bool,
}

/// The two topics of a federation, under names that tell nothing.
#[derive(Clone, Debug)]
pub struct Topics {
    pub heads: IdentTopic,
    pub documents: IdentTopic,
}

impl Topics {
    /// The topics of `federation`.
    pub fn of(federation: &FederationId) -> Self {
        let name = |class: &str| {
            let hash = Sha256::new().chain_update(b"huecry/v1/topic/").chain_update(class).chain_update(federation.0).finalize();
            // It stands in every message.
            IdentTopic::new(hex::encode(hash.get(..8).unwrap_or_default()))
        };
        Self { heads: name("heads"), documents: name("documents") }
    }

    fn hashes(&self) -> HashSet<TopicHash> {
        HashSet::from([self.heads.hash(), self.documents.hash()])
    }
}

/// Why no swarm could be made.
#[derive(Debug, thiserror::Error)]
#[error("the network layer could not be set up: {0}")]
pub struct SwarmError(String);

fn broken(error: impl std::fmt::Display) -> SwarmError {
    SwarmError(error.to_string())
}

/// gossipsub's configuration; each value stands against a trap or a flood, see `tests/` and `stack.md` section 1.
pub fn gossip_config() -> Result<gossipsub::Config, SwarmError> {
    ConfigBuilder::default()
        // Records carry signatures; an author in the clear would only tell who is awake.
        .validation_mode(ValidationMode::Anonymous)
        // Required in anonymous mode, and short ids keep IHAVE small (T3).
        .message_id_fn(|message| {
            let hash = Sha256::new().chain_update(message.topic.as_str()).chain_update(&message.data).finalize();
            MessageId::from(hash.get(..20).unwrap_or_default().to_vec())
        })
        // Nothing is forwarded before the head is proved and entitled.
        .validate_messages()
        .max_transmit_size(TRANSMIT_BYTES_MAX)
        .max_control_message_size(TRANSMIT_BYTES_MAX)
        .max_control_messages_sent(2_000)
        .max_publish_messages(64)
        // The default sends every own message to everyone.
        .flood_publish(false)
        .mesh_n(6)
        .mesh_n_low(5)
        .mesh_n_high(8)
        .mesh_outbound_min(2)
        // Cursors bring what the mesh lost; ids offered to more peers and for longer cost a hundredth of the content's bytes.
        .gossip_lazy(3)
        .gossip_factor(0.1)
        .history_length(12)
        .history_gossip(2)
        .duplicate_cache_time(Duration::from_secs(600))
        .connection_handler_queue_len(256)
        .publish_queue_duration(Duration::from_secs(20))
        .forward_queue_duration(Duration::from_secs(10))
        .idontwant_message_size_threshold(2_048)
        .idontwant_on_publish(true)
        .heartbeat_interval(Duration::from_secs(1))
        .build()
        .map_err(broken)
}

fn gossip(
    topics: &Topics,
) -> Result<gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>>, SwarmError> {
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(topics.hashes()),
        max_subscribed_topics: 4,
        max_subscriptions_per_request: 8,
    };
    let mut gossip =
        gossipsub::Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, gossip_config()?, filter).map_err(broken)?;
    // Agencies sit behind one gateway; the default punishes more than ten peers at one address.
    let score = PeerScoreParams { ip_colocation_factor_weight: 0.0, ..PeerScoreParams::default() };
    gossip.with_peer_score(score, PeerScoreThresholds::default()).map_err(broken)?;
    gossip.subscribe(&topics.heads).map_err(broken)?;
    gossip.subscribe(&topics.documents).map_err(broken)?;
    Ok(gossip)
}

/// How a node reaches others.
pub enum Links {
    Tcp,
    /// Outgoing connections go through a proxy.
    Through(Proxy),
    /// A rehearsal's own.
    Given(Boxed<(PeerId, StreamMuxerBox)>),
}

/// A node's key as libp2p wants it.
pub fn keypair(node: &SecretKey) -> Result<identity::Keypair, SwarmError> {
    let mut seed = *node.seed();
    identity::Keypair::ed25519_from_bytes(&mut seed).map_err(broken)
}

/// The swarm of a node.
pub fn build(node: &SecretKey, topics: &Topics, links: Links, relaying: Relaying) -> Result<Swarm<Behaviour>, SwarmError> {
    let streams_max = if relaying.serves || relaying.uses { RELAY_STREAMS_MAX } else { STREAMS_MAX };
    let yamux = move || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(streams_max);
        Watched(config)
    };
    // A rehearsal has many nodes in one process; each would refuse links because of the others' memory.
    let memory = if matches!(links, Links::Given(_)) { usize::MAX } else { MEMORY_BYTES_MAX };
    let behaviour = behaviour(topics, memory)?;
    let tcp = tcp::Config::default().nodelay(true);
    let builder = SwarmBuilder::with_existing_identity(keypair(node)?).with_tokio();
    let idle = |config: libp2p::swarm::Config| config.with_idle_connection_timeout(IDLE_TIMEOUT);
    match links {
        Links::Tcp => {
            let builder = builder.with_tcp(tcp, noise::Config::new, yamux).map_err(broken)?;
            let builder = builder.with_relay_client(noise::Config::new, yamux).map_err(broken)?;
            Ok(builder
                .with_behaviour(|keypair, client| with_relays(behaviour, relaying, keypair, client))
                .map_err(broken)?
                .with_swarm_config(idle)
                .build())
        }
        Links::Through(proxy) => {
            let transport = |keypair: &identity::Keypair| -> Result<_, noise::Error> {
                let tcp = ProxyTransport::new(tcp, proxy.clone());
                let noise = noise::Config::new(keypair)?;
                Ok(tcp.upgrade(libp2p::core::upgrade::Version::V1Lazy).authenticate(noise).multiplex(yamux()))
            };
            let builder = builder.with_other_transport(|keypair| transport(keypair).map_err(Box::from)).map_err(broken)?;
            let builder = builder.with_relay_client(noise::Config::new, yamux).map_err(broken)?;
            Ok(builder
                .with_behaviour(|keypair, client| with_relays(behaviour, relaying, keypair, client))
                .map_err(broken)?
                .with_swarm_config(idle)
                .build())
        }
        Links::Given(transport) => {
            let builder = builder.with_other_transport(|_| transport).map_err(broken)?;
            Ok(builder.with_behaviour(|_| behaviour).map_err(broken)?.with_swarm_config(idle).build())
        }
    }
}

fn with_relays(behaviour: Behaviour, relaying: Relaying, keypair: &identity::Keypair, client: relay::client::Behaviour) -> Behaviour {
    let relay = relaying.serves.then(|| relay::Behaviour::new(keypair.public().to_peer_id(), relay_config()));
    Behaviour { relay: relay.into(), relayed: Some(client).into(), ..behaviour }
}

/// A relay for members, who are known and few: its limits are against mistakes, not against the public, for whom libp2p's
/// defaults (two minutes, 128 KiB, so many a minute and address) are meant.
fn relay_config() -> relay::Config {
    relay::Config {
        max_reservations: RELAY_RESERVATIONS_MAX,
        max_reservations_per_peer: 2,
        reservation_duration: Duration::from_secs(3_600),
        reservation_rate_limiters: Vec::new(),
        max_circuits: RELAY_CIRCUITS_MAX,
        max_circuits_per_peer: RELAY_STREAMS_MAX / 2,
        // The two ends make a new one when a day is over.
        max_circuit_duration: Duration::from_secs(24 * 3_600),
        max_circuit_bytes: 0,
        circuit_src_rate_limiters: Vec::new(),
    }
}

impl Links {
    /// Through the proxy, if there is one.
    pub fn of(proxy: Option<&Proxy>) -> Self {
        proxy.cloned().map_or(Self::Tcp, Self::Through)
    }
}

fn behaviour(topics: &Topics, memory: usize) -> Result<Behaviour, SwarmError> {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(32))
        // Two machines may have one key: one connection each, and one that is about to replace another.
        .with_max_established_per_peer(Some(4))
        .with_max_established(Some(512));
    Ok(Behaviour {
        gate: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(limits),
        memory: memory_connection_limits::Behaviour::with_max_bytes(memory),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
        gossip: gossip(topics)?,
        stream: libp2p_stream::Behaviour::new(),
        relay: None.into(),
        relayed: None.into(),
    })
}

/// The peer id of a node key.
pub fn peer_id(key: &PeerKey) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(PeerId::from_public_key(&identity::PublicKey::from(key)))
}

/// The node key of a peer id; ours hold it in themselves.
pub fn node_key(peer: &PeerId) -> Option<PeerKey> {
    let hash = libp2p::multihash::Multihash::<64>::from(*peer);
    let key = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}
