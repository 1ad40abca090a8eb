//! Links: whom this node is connected to, and how it gets there.
//!
//! ```text
//! whereabouts (signed, short-lived) -> whom to dial -> connection, or why there is none
//! no inbound port -> a place at two coordinators' relays -> whereabouts that go through them
//! ```
//!
//! A node keeps links to some members, and to those without whom records would not come. A relay carries bytes that it cannot
//! read: the two ends prove themselves to each other inside. Not here: who may connect (the gate, from current cards).

use super::{PeerKey, Shell, UnreachableStatus, door::document, swarm};
use crate::{
    charter::{MemberKind, Roster, SignedCard, open_whereabouts, whereabouts_claim},
    envelope::{PublicKey, Readers},
    record::{ChannelName, FeedId, MINUTE_MS, MemberId, Timestamp},
    replica::{Message, document_messages},
};
use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    multiaddr::Protocol,
    swarm::{DialError, dial_opts::DialOpts},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Links that a node keeps, each to another node, whoever began them.
const LINKS_MIN: usize = 16;
/// Of them, those that it chose itself: who lets others choose all of its links sees what they want it to see.
const DIALLED_MIN: usize = 6;
/// Nodes that are dialled in one round for that: when many begin at once, they also dial each other.
const DIALS_MAX: usize = 4;
/// Links that a reader of a restricted channel keeps into its audience, so that one of them may be away or hostile.
const AUDIENCE_LINKS: usize = 3;
/// Nodes that are dialled in one round because of an audience.
const AUDIENCE_DIALS: usize = 8;
/// Longest file of remembered whereabouts: some thousands of nodes.
const PLACES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Others' whereabouts that a new peer is told: to tell it all 250 would be half of what a whole federation says at its start.
const PLACES_AT_MEETING: usize = 32;
/// Peers that whereabouts are passed on to; as in a mesh, six would do.
const PASS_ON_TO: usize = 8;
/// Relays at which a node without an inbound port keeps a place, each at another coordinator.
const RELAYS: usize = 2;
/// A relay that did not give a place is asked again after this.
const RELAY_RETRY_MS: u64 = MINUTE_MS / 4;
/// Longest reason of a failed dial that is shown.
const WHY_CHARS_MAX: usize = 160;

/// A node that was dialled and not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreached {
    pub since: Timestamp,
    pub why: String,
}

/// A place at a relay: asked for, and given once its addresses are known.
pub(super) struct RelayPlace {
    listener: ListenerId,
    asked_at: Timestamp,
    addresses: BTreeSet<Multiaddr>,
}

/// The audiences of all restricted channels, worked out once for each roster: many channels have the same few.
#[derive(Default)]
pub(super) struct Audiences {
    of: Option<Arc<Roster>>,
    known: BTreeMap<Readers, Restricted>,
}

struct Restricted {
    /// Everyone else who reads.
    others: Vec<MemberId>,
    /// Others' channels of this audience that we read, by author.
    authors: BTreeSet<MemberId>,
    /// Our own.
    ours: Vec<ChannelName>,
}

impl Audiences {
    fn refresh(&mut self, roster: &Arc<Roster>, me: &MemberId) {
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, roster)) {
            return;
        }
        self.known.clear();
        for card in roster.cards().map(SignedCard::card) {
            for channel in card.channels.iter().filter(|channel| channel.audience.readers != Readers::Federation) {
                let audience = roster.audience_now(&channel.audience);
                let known = self.known.entry(audience.readers.clone()).or_insert_with(|| {
                    let all = roster.charter().charter().members.iter().map(|member| &member.id);
                    let others = all.filter(|id| *id != me && roster.addresses(&audience, me, id)).cloned().collect();
                    Restricted { others, authors: BTreeSet::new(), ours: Vec::new() }
                });
                if card.member == *me {
                    known.ours.push(channel.name.clone());
                } else if roster.addresses(&audience, &card.member, me) {
                    known.authors.insert(card.member.clone());
                }
            }
        }
        self.of = Some(Arc::clone(roster));
    }
}

/// Whether an address goes through a relay.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

impl Shell {
    pub(super) fn dial_more(&mut self, now: Timestamp) {
        for address in self.dial.clone() {
            let peer = address.iter().find_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None });
            if let Some(peer) = peer {
                self.dial_peer(peer, vec![address]);
            }
        }
        self.seek_relays(now);
        let roster = Arc::clone(&self.current.get().roster);
        let mut wanted = self.needed_for_audiences(&roster, now);
        let lacking = LINKS_MIN.saturating_sub(self.connected.len()).max(DIALLED_MIN.saturating_sub(self.dialled.len()));
        if lacking > 0 {
            let free = |key: &&PeerKey| !self.connected.contains_key(*key) && roster.node(key, now).is_some();
            wanted.extend(self.whereabouts.keys().filter(free).take(lacking.min(DIALS_MAX)));
        }
        for key in wanted {
            let place = self.whereabouts.get(&key).filter(|(place, _)| place.until > now).map(|(place, _)| place.addresses.clone());
            if let (Some(addresses), Some(peer)) = (place, swarm::peer_id(&key)) {
                self.dial_peer(peer, addresses.iter().filter_map(|text| text.parse().ok()).collect());
            }
        }
    }

    /// Nodes to be linked to because records go no other way: what is not for the whole federation travels only among its
    /// readers. An author meets every reader of what it has published; a reader meets some of those who may have it.
    fn needed_for_audiences(&mut self, roster: &Arc<Roster>, now: Timestamp) -> Vec<PeerKey> {
        self.audiences.refresh(roster, &self.identity.member);
        let linked: BTreeSet<&MemberId> = self.connected.values().map(|one| &one.member).collect();
        let me = &self.identity.member;
        let mut members: BTreeSet<&MemberId> = BTreeSet::new();
        for audience in self.audiences.known.values() {
            let missing: Vec<&MemberId> = audience.others.iter().filter(|id| !linked.contains(*id)).collect();
            let published = |feed: &FeedId| feed.member == *me && audience.ours.contains(&feed.channel);
            if !audience.ours.is_empty() && self.ledger.any_feed(published) {
                members.extend(&missing);
            }
            // A reader of this author's channel, and of that one's: whoever of the audience is linked may have it, or the author.
            let links = audience.others.len() - missing.len();
            let far =
                |author: &&MemberId| links + usize::from(linked.contains(*author) && !audience.others.contains(*author)) < AUDIENCE_LINKS;
            let authors = audience.authors.iter().filter(|_| links < AUDIENCE_LINKS).filter(far);
            for author in authors {
                members.extend(missing.iter().take(AUDIENCE_LINKS));
                members.insert(author);
            }
        }
        if members.is_empty() {
            return Vec::new();
        }
        let nodes = self.whereabouts.keys().filter(|key| roster.node(key, now).is_some_and(|node| members.contains(&node.member)));
        // Some at a time, other ones each time: who does not answer must not keep the others waiting.
        let skip = usize::try_from(now.ms() / super::DIAL_INTERVAL_MS).unwrap_or(0);
        let nodes: Vec<PeerKey> = nodes.filter(|key| !self.connected.contains_key(*key)).copied().collect();
        nodes.iter().cycle().skip(skip % nodes.len().max(1)).take(AUDIENCE_DIALS.min(nodes.len())).copied().collect()
    }

    fn dial_peer(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.admitted.contains_key(&peer) && !self.swarm.is_connected(&peer) && !addresses.is_empty() {
            // The default condition refuses a second dial while one is under way.
            let _under_way = self.swarm.dial(DialOpts::peer_id(peer).addresses(addresses).build());
        }
    }

    /// A dial came to nothing: remembered for `status` until there is a connection.
    pub(super) fn not_reached(&mut self, peer: &PeerId, error: &DialError) {
        let Some(key) = self.admitted.get(peer).copied().filter(|key| !self.connected.contains_key(key)) else { return };
        let why = match error {
            DialError::Transport(tried) => {
                tried.iter().map(|(address, error)| format!("{address}: {}", innermost(error))).collect::<Vec<_>>().join("; ")
            }
            // One dial at a time is what was asked for.
            DialError::DialPeerConditionFalse(_) => return,
            other => other.to_string(),
        };
        let now = self.clock.now();
        let unreached = self.unreached.entry(key).or_insert_with(|| Unreached { since: now, why: String::new() });
        unreached.why = why.chars().take(WHY_CHARS_MAX).collect();
    }

    /// What `status` says about nodes that were not reached.
    pub(super) fn unreachable(&self) -> Vec<UnreachableStatus> {
        let (roster, now) = (Arc::clone(&self.current.get().roster), self.clock.now());
        let line = |(key, one): (&PeerKey, &Unreached)| {
            let node = roster.node(key, now)?;
            let (member, node) = (node.member.to_string(), node.node.clone());
            Some(UnreachableStatus { member, node, since: one.since.to_string(), why: one.why.clone() })
        };
        self.unreached.iter().filter_map(line).collect()
    }

    /// Keeps a place at some coordinators' relays, where nobody can dial this node.
    fn seek_relays(&mut self, now: Timestamp) {
        if self.inbound {
            return;
        }
        let roster = Arc::clone(&self.current.get().roster);
        let gone: Vec<PeerKey> = self.relays.keys().filter(|key| !self.connected.contains_key(*key)).copied().collect();
        for key in gone {
            if let Some(place) = self.relays.remove(&key) {
                self.swarm.remove_listener(place.listener);
            }
        }
        self.relays.retain(|_, place| !place.addresses.is_empty() || now.ms_since(place.asked_at) < RELAY_RETRY_MS);
        let coordinator = |id: &MemberId| roster.member(id).is_some_and(|member| member.kind == MemberKind::Coordinator);
        let candidates: Vec<PeerKey> = self
            .connected
            .iter()
            .filter(|(key, one)| coordinator(&one.member) && !self.relays.contains_key(*key))
            .map(|(key, _)| *key)
            .take(RELAYS.saturating_sub(self.relays.len()))
            .collect();
        for key in candidates {
            let Some(peer) = swarm::peer_id(&key) else { continue };
            let place =
                self.whereabouts.get(&key).and_then(|(place, _)| place.addresses.iter().find_map(|text| text.parse::<Multiaddr>().ok()));
            let given = || self.dial.iter().find(|address| address.iter().any(|part| part == Protocol::P2p(peer))).cloned();
            let Some(mut address) = place.or_else(given) else { continue };
            if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
                address.push(Protocol::P2p(peer));
            }
            address.push(Protocol::P2pCircuit);
            match self.swarm.listen_on(address) {
                Ok(listener) => drop(self.relays.insert(key, RelayPlace { listener, asked_at: now, addresses: BTreeSet::new() })),
                Err(error) => tracing::debug!(%error, "a relay was not asked for a place"),
            }
        }
    }

    /// We can be reached at a new address: of a relay's, others are told at once.
    pub(super) fn listens(&mut self, listener: ListenerId, address: &Multiaddr) {
        if let Some(place) = self.relays.values_mut().find(|place| place.listener == listener)
            && place.addresses.insert(address.clone())
        {
            tracing::info!(%address, "a coordinator passes connections on to this node");
            self.housekeeping();
            if let Some((_, bytes)) = self.whereabouts.get(&self.me()) {
                self.news.push((self.me(), bytes.clone()));
            }
        }
    }

    /// A place at a relay is lost; another one is sought.
    pub(super) fn listens_no_more(&mut self, listener: ListenerId) {
        self.relays.retain(|_, place| place.listener != listener);
    }

    /// Where others can dial this node.
    pub(super) fn own_addresses(&self) -> Vec<String> {
        if !self.inbound {
            return self.relays.values().flat_map(|place| &place.addresses).map(ToString::to_string).collect();
        }
        match self.announce.as_slice() {
            [] => self.swarm.listeners().map(ToString::to_string).filter(|text| !text.contains("/0.0.0.0/")).collect(),
            given => given.to_vec(),
        }
    }

    /// A relay has to know its own addresses, or the places it gives lead nowhere.
    pub(super) fn tell_relay_where_it_is(&mut self) {
        let addresses: Vec<Multiaddr> = self.own_addresses().iter().filter_map(|text| text.parse().ok()).collect();
        let known: BTreeSet<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        for address in addresses.into_iter().filter(|address| !known.contains(address)) {
            self.swarm.add_external_address(address);
        }
    }

    /// Whereabouts of the last run, each proved again: with them a node whose first contacts are gone finds the others.
    pub(super) fn recall_places(&mut self) {
        let Ok(bytes) = std::fs::read(&self.places) else { return };
        let known: Vec<serde_bytes::ByteBuf> = crate::cbor::from_slice(&bytes, PLACES_BYTES_MAX).unwrap_or_default();
        for bytes in &known {
            let _one_that_is_damaged_is_skipped = self.on_whereabouts(bytes);
        }
    }

    /// Only a help for the next start, so a failure to write it is no failure of the node.
    pub(super) fn remember_places(&self) {
        let known: Vec<serde_bytes::ByteBuf> = self.whereabouts.values().map(|(_, bytes)| bytes.clone().into()).collect();
        let aside = self.places.with_extension("new");
        let written = std::fs::write(&aside, crate::cbor::to_vec(&known)).and_then(|()| std::fs::rename(&aside, &self.places));
        if let Err(error) = written {
            tracing::debug!(%error, "whereabouts were not remembered");
        }
    }

    /// Takes whereabouts that are news. Returns false if their signature is wrong: their sender has forged them, or passed them on unchecked.
    pub(super) fn on_whereabouts(&mut self, bytes: &[u8]) -> bool {
        let now = self.clock.now();
        let intake = self.current.get();
        let federation = intake.roster.federation();
        // Most are old news, and a look at the serial is cheaper than a signature.
        let Some((id, serial)) = whereabouts_claim(bytes, &federation) else { return true };
        let Some(key) = self.node_ids.get(&id).copied() else { return true };
        if self.whereabouts.get(&key).is_some_and(|(ours, _)| ours.serial >= serial) {
            return true;
        }
        let opened = PublicKey::from_bytes(&key).ok().and_then(|public| open_whereabouts(bytes, &public, &federation).ok());
        let Some(place) = opened else { return false };
        self.current.note_connected(key);
        let newer = self.whereabouts.get(&key).is_none_or(|(ours, _)| ours.serial < place.serial);
        if newer && key != self.me() && place.until > now {
            self.whereabouts.insert(key, (place, bytes.to_vec()));
            self.places_changed = true;
            self.news.push((key, bytes.to_vec()));
        }
        true
    }

    /// Our own whereabouts and some others', other ones each time: enough to find links; what is new comes by itself.
    pub(super) fn some_places(&self) -> Vec<Message> {
        let own = self.whereabouts.get(&self.me()).into_iter();
        let skip = usize::try_from(self.streams_opened).unwrap_or(0).wrapping_mul(PLACES_AT_MEETING) % self.whereabouts.len().max(1);
        let others = self.whereabouts.values().cycle().skip(skip).take(PLACES_AT_MEETING.min(self.whereabouts.len()));
        own.chain(others).flat_map(|(_, bytes)| document_messages(document::WHEREABOUTS, bytes)).collect()
    }

    /// Passes on the whereabouts that came since the last tick, to some peers, other ones each time: they reach all that way.
    pub(super) fn pass_on_whereabouts(&mut self) {
        if self.news.is_empty() || self.connected.is_empty() {
            return;
        }
        let news = std::mem::take(&mut self.news);
        self.passed_on = self.passed_on.wrapping_add(1);
        let skip = self.passed_on.wrapping_mul(PASS_ON_TO) % self.connected.len();
        for peer in self.connected.keys().cycle().skip(skip).take(PASS_ON_TO.min(self.connected.len())) {
            let others = news.iter().filter(|(key, _)| key != peer);
            self.send_in_time(peer, others.flat_map(|(_, bytes)| document_messages(document::WHEREABOUTS, bytes)).collect());
        }
    }
}

/// The reason under all the layers that only say that a layer failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
