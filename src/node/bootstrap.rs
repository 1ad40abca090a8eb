//! Joining by one line: everything that an invitation file holds, fetched from a node that knows us by our card.
//!
//! In: our node key, the federation's id, addresses with peer ids. Out: an [`Invitation`], every part of which proves
//! itself against the federation's id. The other side sees an ordinary node that has no charter yet.

use super::{
    NodeError,
    door::document,
    membership::Invitation,
    streams::{self, Incoming},
    swarm::{self, Topics},
};
use crate::{
    charter::{CHARTER_BYTES_MAX, DOCUMENT_FORMAT},
    config::Proxy,
    envelope::{FederationId, Hash, SecretKey},
    replica::{Ask, Hello, Message, PROTOCOL_VERSION, PeerKey, number},
};
use futures::StreamExt as _;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::SwarmEvent, swarm::dial_opts::DialOpts};
use serde_bytes::ByteBuf;
use std::{collections::HashMap, time::Duration};

/// How long it may take until somebody answers.
const ANSWER_PATIENCE: Duration = Duration::from_secs(8);
/// How long the whole of it may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most documents that are taken: a charter a month for decades, and every member's card.
const DOCUMENTS_MAX: usize = 4_096;

/// What has come so far.
#[derive(Default)]
struct Haul {
    charters: Vec<ByteBuf>,
    stamp: Option<ByteBuf>,
    cards: Vec<ByteBuf>,
    partial: Vec<u8>,
    /// How many charters and cards the peer has, once it has said so.
    wanted: Option<(usize, usize)>,
}

impl Haul {
    fn complete(&self) -> bool {
        self.wanted.is_some_and(|(charters, cards)| self.charters.len() >= charters && self.cards.len() >= cards)
    }

    /// Takes a message; answers what to say to it.
    fn take(&mut self, message: Message) -> Option<Message> {
        match message {
            Message::Hello(hello) => {
                let cards: Vec<_> = hello.cards.into_iter().map(|one| one.member).collect();
                self.wanted = Some((usize::try_from(hello.charter_version).ok()?, cards.len()));
                Some(Message::Ask(Ask { kind: number::ASK, charters_from: Some(1), stamp: Some(true), cards }))
            }
            Message::Document(part) if self.charters.len() + self.cards.len() < DOCUMENTS_MAX => {
                self.partial.extend_from_slice(&part.part);
                if part.last || self.partial.len() > CHARTER_BYTES_MAX {
                    let whole = ByteBuf::from(std::mem::take(&mut self.partial));
                    match part.document {
                        document::CHARTER => self.charters.push(whole),
                        document::STAMP => self.stamp = Some(whole),
                        document::CARD => self.cards.push(whole),
                        _ => (),
                    }
                }
                None
            }
            _ => None,
        }
    }
}

/// Fetches charters, stamp and cards from whoever of `addresses` answers first.
pub async fn fetch(
    node: &SecretKey,
    federation: &FederationId,
    addresses: &[String],
    proxy: Option<&Proxy>,
) -> Result<Invitation, NodeError> {
    let attempt = tokio::time::timeout(PATIENCE, fetching(node, federation, addresses, proxy)).await;
    let nobody = || {
        NodeError::Fatal(format!(
            "nobody at {} let this node in; have the stewards published the charter with this member in it, and is the port open from here?",
            addresses.join(", ")
        ))
    };
    let haul = attempt.map_err(|_| nobody())??.ok_or_else(nobody)?;
    let addresses = addresses.to_vec();
    Ok(Invitation { format: DOCUMENT_FORMAT, charters: haul.charters, stamp: haul.stamp, cards: haul.cards, addresses })
}

async fn fetching(
    node: &SecretKey,
    federation: &FederationId,
    addresses: &[String],
    proxy: Option<&Proxy>,
) -> Result<Option<Haul>, NodeError> {
    let mut swarm = swarm::build(node, &Topics::of(federation), swarm::Links::of(proxy), swarm::Relaying::default())?;
    let me = node.public().to_bytes();
    let mut keys: HashMap<PeerId, PeerKey> = HashMap::new();
    for text in addresses {
        let address: Multiaddr = text.parse().map_err(|_| NodeError::Address(text.clone()))?;
        let peer = address.iter().find_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None });
        let (peer, key) = peer.and_then(|peer| Some((peer, swarm::node_key(&peer)?))).ok_or_else(|| NodeError::Address(text.clone()))?;
        keys.insert(peer, key);
        swarm.behaviour_mut().gate.allow_peer(peer);
        // One that cannot be dialled is one fewer to ask.
        let _tried = swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build());
    }
    let mut control = swarm.behaviour().stream.new_control();
    let mut accepted = control.accept(streams::PROTOCOL).map_err(|error| NodeError::Fatal(error.to_string()))?;
    let (incoming, mut frames) = tokio::sync::mpsc::channel(streams::IN_FRAMES_MAX);
    let (opened, mut ours) = tokio::sync::mpsc::channel(8);
    let mut outlets = HashMap::new();
    let mut haul = Haul::default();
    let answer = tokio::time::sleep(ANSWER_PATIENCE);
    tokio::pin!(answer);
    loop {
        let (peer, stream) = tokio::select! {
            event = swarm.select_next_some() => {
                if let SwarmEvent::ConnectionEstablished { peer_id, .. } = event
                    && keys.get(&peer_id).is_some_and(|key| me < *key)
                {
                    let (mut control, opened) = (control.clone(), opened.clone());
                    tokio::spawn(async move {
                        if let Ok(stream) = control.open_stream(peer_id, streams::PROTOCOL).await {
                            let _done_already = opened.send((peer_id, stream)).await;
                        }
                    });
                }
                continue;
            }
            () = &mut answer, if haul.wanted.is_none() => return Ok(None),
            Some(found) = ours.recv() => found,
            Some(found) = accepted.next() => found,
            Some(incoming) = frames.recv() => {
                if let Incoming::Frame { peer, bytes, .. } = incoming
                    && let Ok(Some(message)) = Message::decode(&bytes)
                    && let Some(answer) = haul.take(message)
                {
                    outlets.get(&peer).map(|outlet: &streams::Outlet| outlet.try_send(&answer));
                }
                if haul.complete() {
                    return Ok(Some(haul));
                }
                continue;
            }
        };
        // The first to answer is asked for everything.
        if let Some(key) = keys.get(&peer).filter(|_| outlets.is_empty()) {
            let outlet = streams::start(*key, None, 1, stream, incoming.clone());
            outlet.try_send(&Message::Hello(nothing_yet()));
            outlets.insert(*key, outlet);
        }
    }
}

/// The hello of a node that has no charter.
fn nothing_yet() -> Hello {
    Hello {
        kind: number::HELLO,
        protocol: PROTOCOL_VERSION,
        software: concat!("huecry ", env!("CARGO_PKG_VERSION")).to_owned(),
        charter_version: 0,
        charter_hash: Hash([0; 32]),
        stamp: None,
        cards: Vec::new(),
        rival_hash: None,
    }
}
