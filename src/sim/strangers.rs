//! Strangers: nodes of nobody, on no card, which dial honest nodes again and again.
//!
//! They have valid keys of their own and speak the protocol. What counts is what they get: no byte of any protocol above the
//! handshake, and no time that honest nodes would miss.

use super::hostile::counted;
use crate::{
    envelope::{FederationId, SecretKey},
    node::{
        streams::PROTOCOL,
        swarm::{BehaviourEvent, Links, Relaying, SwarmError, Topics, build, peer_id},
    },
    replica::PeerKey,
};
use futures::StreamExt as _;
use libp2p::{Multiaddr, gossipsub, swarm::SwarmEvent};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// A stranger dials one node in so long: as libp2p does at its most patient, and forty of them for each honest link.
pub const PAUSE: Duration = Duration::from_millis(500);

/// What a stranger is made of.
pub struct Stranger {
    pub key: SecretKey,
    pub federation: FederationId,
    pub links: Links,
    /// Whom it dials, in turn.
    pub dial: Vec<Multiaddr>,
    /// Those whom it would let in.
    pub honest: Vec<PeerKey>,
    /// Counts bytes of content, cursors or gossip that it was given.
    pub given: Arc<AtomicU64>,
    /// Counts its calls.
    pub calls: Arc<AtomicU64>,
}

/// Knocks until told to stop.
pub async fn knock(stranger: Stranger, mut stop: watch::Receiver<bool>) -> Result<(), SwarmError> {
    let Stranger { key, federation, links, dial, honest, given, calls } = stranger;
    let mut swarm = build(&key, &Topics::of(&federation), links, Relaying::default())?;
    for peer in honest.iter().filter_map(peer_id) {
        swarm.behaviour_mut().gate.allow_peer(peer);
    }
    let mut control = swarm.behaviour().stream.new_control();
    let Ok(mut accepted) = control.accept(PROTOCOL) else { return Ok(()) };
    let mut turn = dial.iter().cycle();
    let mut pause = tokio::time::interval(PAUSE);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            _ = pause.tick() => {
                if let Some(address) = turn.next() {
                    calls.fetch_add(1, Ordering::Relaxed);
                    let _refused = swarm.dial(address.clone());
                }
            }
            Some((_, stream)) = accepted.next() => drop(tokio::spawn(counted(stream, Arc::clone(&given)))),
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    // At this end the handshake is through before the other end has looked at the key.
                    let (mut control, given) = (control.clone(), Arc::clone(&given));
                    tokio::spawn(async move {
                        if let Ok(stream) = control.open_stream(peer_id, PROTOCOL).await {
                            counted(stream, given).await;
                        }
                    });
                }
                SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                    given.fetch_add(message.data.len() as u64, Ordering::Relaxed);
                }
                _ => (),
            },
        }
    }
}
