//! The six traps of gossipsub 0.50 that were reproduced, each held by our configuration over real TCP on loopback.

use crate::wire::{federation, key};
use futures::StreamExt;
use huecry::node::swarm::{Behaviour, BehaviourEvent, GOSSIP_BYTES_MAX, Links, Relaying, Topics, build, gossip_config, peer_id};
use libp2p::{
    Swarm,
    gossipsub::{self, MessageAcceptance, PublishError},
    swarm::SwarmEvent,
};
use std::time::Duration;

fn swarm(seed: u8) -> Swarm<Behaviour> {
    let mut swarm = build(&key(seed), &Topics::of(&federation()), Links::Tcp, Relaying::default()).unwrap();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    swarm
}

async fn address(swarm: &mut Swarm<Behaviour>) -> libp2p::Multiaddr {
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

fn admit(swarm: &mut Swarm<Behaviour>, seed: u8) {
    swarm.behaviour_mut().gate.allow_peer(peer_id(&key(seed).public().to_bytes()).unwrap());
}

/// Two swarms that let each other in and are in each other's mesh.
async fn pair() -> (Swarm<Behaviour>, Swarm<Behaviour>) {
    let (mut one, mut two) = (swarm(51), swarm(52));
    admit(&mut one, 52);
    admit(&mut two, 51);
    let place = address(&mut two).await;
    one.dial(place).unwrap();
    let topic = Topics::of(&federation()).heads.hash();
    let meshed = |swarm: &Swarm<Behaviour>| swarm.behaviour().gossip.mesh_peers(&topic).count() == 1;
    let wait = async {
        while !(meshed(&one) && meshed(&two)) {
            tokio::select! { _ = one.select_next_some() => (), _ = two.select_next_some() => () }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the mesh forms");
    (one, two)
}

/// Drives both until `two` has got `count` messages, or 20 s are over.
async fn received(one: &mut Swarm<Behaviour>, two: &mut Swarm<Behaviour>, count: usize) -> usize {
    let mut got = 0;
    let wait = async {
        while got < count {
            tokio::select! {
                _ = one.select_next_some() => (),
                event = two.select_next_some() => {
                    if let SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message_id, propagation_source, .. })) = event {
                        two.behaviour_mut().gossip.report_message_validation_result(&message_id, &propagation_source, MessageAcceptance::Accept);
                        got += 1;
                    }
                }
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(20), wait).await;
    got
}

#[tokio::test]
async fn t1_a_burst_of_messages_near_the_largest_arrives_whole() {
    let (mut one, mut two) = pair().await;
    let topic = Topics::of(&federation()).heads;
    for number in 0..60u8 {
        let mut message = vec![number; 60_000];
        message[0] = number;
        one.behaviour_mut().gossip.publish(topic.clone(), message).unwrap();
    }
    assert_eq!(received(&mut one, &mut two, 60).await, 60);
}

#[tokio::test]
async fn t2_a_message_of_our_largest_size_arrives() {
    let (mut one, mut two) = pair().await;
    let topic = Topics::of(&federation()).documents;
    for number in 0..5u8 {
        one.behaviour_mut().gossip.publish(topic.clone(), vec![number; GOSSIP_BYTES_MAX]).unwrap();
    }
    assert_eq!(received(&mut one, &mut two, 5).await, 5);
    assert!(gossip_config().unwrap().max_transmit_size() >= GOSSIP_BYTES_MAX + 16 * 1024);
}

#[test]
fn t3_a_full_ihave_fits_what_its_receiver_takes() {
    let config = gossip_config().unwrap();
    // 20 bytes of id and 2 of framing each; the receiver drops the whole control message above its limit.
    let ids = config.max_control_messages_sent();
    assert!(ids * 22 + 1024 < config.max_control_message_size(), "{ids} ids");
    let message = gossipsub::Message { source: None, data: vec![1], sequence_number: None, topic: Topics::of(&federation()).heads.hash() };
    assert_eq!(config.message_id(&message).0.len(), 20);
}

#[tokio::test]
async fn t4_a_second_publish_is_a_duplicate_so_cursors_heal_and_not_retries() {
    let (mut one, _two) = pair().await;
    let topic = Topics::of(&federation()).heads;
    one.behaviour_mut().gossip.publish(topic.clone(), b"once".to_vec()).unwrap();
    let again = one.behaviour_mut().gossip.publish(topic, b"once".to_vec());
    assert!(matches!(again, Err(PublishError::Duplicate)), "{again:?}");
}

#[tokio::test]
async fn t5_peers_speak_a_version_with_idontwant() {
    let (one, two) = pair().await;
    for (swarm, other) in [(&one, &two), (&two, &one)] {
        let kinds: Vec<String> = swarm.behaviour().gossip.peer_protocol().map(|(peer, kind)| format!("{peer} {kind}")).collect();
        assert_eq!(kinds.len(), 1);
        assert!(
            kinds[0].starts_with(&other.local_peer_id().to_string()) && (kinds[0].contains("v1.2") || kinds[0].contains("v1.3")),
            "{kinds:?}"
        );
    }
}

#[tokio::test]
async fn t6_strangers_at_the_gate_leave_nothing_behind() {
    let mut guarded = swarm(61);
    let place = address(&mut guarded).await;
    for seed in 70..80 {
        let mut stranger = swarm(seed);
        admit(&mut stranger, 61);
        stranger.dial(place.clone()).unwrap();
        let met = async {
            loop {
                tokio::select! {
                    _ = guarded.select_next_some() => (),
                    event = stranger.select_next_some() => {
                        if matches!(event, SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. }) { break }
                    }
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), met).await.expect("the stranger is turned away");
    }
    assert_eq!(guarded.behaviour().gossip.all_peers().count(), 0);
    assert_eq!(guarded.connected_peers().count(), 0);
}
