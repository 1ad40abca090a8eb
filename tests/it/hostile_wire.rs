//! Raw bytes at every layer under our own messages: what a member's node, or a stranger, may throw at the port. The node stays, and
//! goes on serving others. N-12 has no test: QUIC is not built in.

use crate::hostile_peers::{Place, linked, publish, until};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use huecry::{
    node::{
        streams::PROTOCOL,
        swarm::{self, Relaying, Topics},
    },
    record::Tlp,
    sim::{crowd, federation::OPEN},
};
use libp2p::{Multiaddr, PeerId, StreamProtocol, core::upgrade::OutboundConnectionUpgrade as _, noise, swarm::SwarmEvent};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Streams that the node opened, held open until they are dropped.
type Accepted = tokio::sync::mpsc::Receiver<libp2p::Stream>;

/// A protobuf field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn rpc(fields: &[u8]) -> Vec<u8> {
    [&varint(fields.len() as u64), fields].concat()
}

/// Member `attacker` of the place connects to member 0 and hands over a way to open raw streams to it, and those that it opens.
async fn connected(place: &Place, attacker: usize) -> (libp2p_stream::Control, PeerId, Accepted, tokio::task::JoinHandle<()>) {
    let topics = Topics::of(&place.federation.roster.federation());
    let key = crowd::again(&place.federation.actors[attacker].node).unwrap();
    let mut swarm = swarm::build(&key, &topics, place.links(attacker), Relaying::default()).unwrap();
    let peer = swarm::peer_id(&place.federation.actors[0].node.public().to_bytes()).unwrap();
    swarm.behaviour_mut().gate.allow_peer(peer);
    swarm.dial(place.contact(0).parse::<Multiaddr>().unwrap()).unwrap();
    let mut control = swarm.behaviour().stream.new_control();
    // Without a standing stream a connection is ended.
    let mut incoming = control.accept(PROTOCOL).unwrap();
    // Taken as they come: libp2p-stream drops what nobody waits for.
    let (taken, accepted) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            let _kept = taken.try_send(stream);
        }
    });
    tokio::task::yield_now().await;
    let wait = async { while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {} };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    let driving = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (control, peer, accepted, driving)
}

/// Throws bytes at the node in a stream of gossipsub, over a connection of their own. Whether all of them went out.
async fn thrown(place: &Place, bytes: &[u8]) -> bool {
    let (mut control, peer, accepted, driving) = connected(place, 2).await;
    let throwing = async {
        let mut stream = control.open_stream(peer, StreamProtocol::new("/meshsub/1.1.0")).await.ok()?;
        stream.write_all(bytes).await.ok()?;
        stream.flush().await.ok()
    };
    let written = tokio::time::timeout(Duration::from_secs(5), throwing).await.ok().flatten().is_some();
    tokio::time::sleep(Duration::from_millis(300)).await;
    driving.abort();
    drop(accepted);
    written
}

/// The node goes on: what is published now reaches another.
async fn goes_on(victim: &crowd::Running, other: &crowd::Running, place: &Place) {
    let before = other.ledger.feed(&place.feed(0, OPEN)).map_or(0, |state| state.last());
    publish(victim, OPEN, Tlp::Green, before * 10, 3).await;
    until("another to be served", || other.ledger.feed(&place.feed(0, OPEN)).is_some_and(|state| state.last() > before)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_01_n_04_n_05_control_messages_of_gossip_without_measure_change_nothing() {
    let place = Place::new(0x0f40_0000, 3);
    let (victim, other) = (place.start(0, &[]), place.start(1, &[0]));
    until("the two to meet", || linked(&victim, &place, 1)).await;
    let topic = Topics::of(&place.federation.roster.federation()).heads.hash().to_string();
    // PRUNE with the longest backoff there is, and with one near the largest signed number.
    let prune = |backoff| rpc(&field(3, &field(4, &[field(1, topic.as_bytes()), vec![3 << 3], varint(backoff)].concat())));
    let prunes = [prune(u64::MAX), prune(i64::MAX as u64 - 60)].concat();
    // On a busy machine twenty connections in a row were ended within six seconds; a node that ends all of them does so for a minute too.
    let begun = std::time::Instant::now();
    while !thrown(&place, &prunes).await {
        assert!(begun.elapsed() < Duration::from_secs(60), "the node ends every connection before it is told anything");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // GRAFT for topics that nobody has joined, in frames of the largest size; ten thousand subscriptions; ids without number. Whether
    // the node cuts these off or passes over them is its own affair.
    let graft = |topic: String| field(3, &field(1, topic.as_bytes()));
    for round in 0..5 {
        let many: Vec<u8> = (0..1_500).flat_map(|number| graft(format!("topic-{round}-{number}"))).collect();
        thrown(&place, &rpc(&field(3, &many)).repeat(4)).await;
    }
    let subscribe = |topic: String| field(1, &[&[1 << 3, 1][..], &field(2, topic.as_bytes())].concat());
    thrown(&place, &rpc(&(0..10_000).flat_map(|number| subscribe(format!("t{number}"))).collect::<Vec<u8>>())).await;
    thrown(&place, &rpc(&field(3, &field(1, &[0x0a, 0x00].repeat(477_000))))).await;
    goes_on(&victim, &other, &place).await;
    // The panic of old came when the backoff was looked at, 43 to 74 s later.
    tokio::time::sleep(Duration::from_secs(76)).await;
    goes_on(&victim, &other, &place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_07_n_09_streams_are_capped_and_a_frame_that_trickles_is_cut_off() {
    let place = Place::new(0x0f50_0000, 3);
    let (victim, other) = (place.start(0, &[]), place.start(1, &[0]));
    until("the two to meet", || linked(&victim, &place, 1)).await;
    let mut streams = Vec::new();
    // A connection on which nothing could be opened tells nothing.
    for _ in 0..10 {
        let (mut control, peer, _accepted, driving) = connected(&place, 2).await;
        for _ in 0..600 {
            let opening = control.open_stream(peer, StreamProtocol::new("/meshsub/1.1.0"));
            match tokio::time::timeout(Duration::from_millis(100), opening).await {
                Ok(Ok(stream)) => streams.push(stream),
                _ => break,
            }
        }
        driving.abort();
        if !streams.is_empty() {
            break;
        }
    }
    assert!((1..=swarm::STREAMS_MAX).contains(&streams.len()), "{} streams", streams.len());
    goes_on(&victim, &other, &place).await;
    drop(streams);

    // One byte a second of a frame that says it is long. A connection that ended at once tells nothing.
    let mut cut = Duration::ZERO;
    for _ in 0..10 {
        cut = trickled(&place).await;
        if cut > Duration::from_secs(2) {
            break;
        }
    }
    assert!((8..25).contains(&cut.as_secs()), "{cut:?}");
    goes_on(&victim, &other, &place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x10_a_frame_of_gossip_that_never_ends_is_cut_off() {
    let place = Place::new(0x0f60_0000, 3);
    let (victim, other) = (place.start(0, &[]), place.start(1, &[0]));
    until("the two to meet", || linked(&victim, &place, 1)).await;
    let mut cut = Duration::ZERO;
    // A connection that ended at once tells nothing.
    for _ in 0..10 {
        let (mut control, peer, _accepted, driving) = connected(&place, 2).await;
        // gossipsub of this side opens one too, and the node reads the newer one alone.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let opening = control.open_stream(peer, StreamProtocol::new("/meshsub/1.1.0"));
        let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(5), opening).await else { continue };
        let begun = Instant::now();
        let _ = stream.write_all(&varint(1_000)).await;
        let ended = loop {
            let _gone = stream.write_all(&[7]).await;
            let _gone = stream.flush().await;
            let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0; 64])).await;
            if matches!(read, Ok(Ok(0) | Err(_))) || begun.elapsed() > Duration::from_secs(40) {
                break begun.elapsed();
            }
        };
        driving.abort();
        cut = ended;
        if cut > Duration::from_secs(2) {
            break;
        }
    }
    assert!((8..25).contains(&cut.as_secs()), "{cut:?}");
    goes_on(&victim, &other, &place).await;
}

/// How long the node lets member 2 trickle a frame.
async fn trickled(place: &Place) -> Duration {
    let (mut control, peer, mut accepted, driving) = connected(place, 2).await;
    let key = |number: usize| place.federation.actors[number].node.public().to_bytes();
    // The smaller key opens the standing stream.
    let opening = async { if key(2) < key(0) { control.open_stream(peer, PROTOCOL).await.ok() } else { accepted.recv().await } };
    let Ok(Some(mut stream)) = tokio::time::timeout(Duration::from_secs(5), opening).await else { return Duration::ZERO };
    let begun = Instant::now();
    let _ = stream.write_all(&[0, 0, 0x40, 0]).await;
    let mut bytes = [0; 4096];
    let cut = loop {
        let _gone = stream.write_all(&[1]).await;
        let _gone = stream.flush().await;
        let second = tokio::time::sleep(Duration::from_secs(1));
        tokio::pin!(second);
        let ended = loop {
            tokio::select! {
                () = &mut second => break false,
                read = stream.read(&mut bytes) => if matches!(read, Ok(0) | Err(_)) { break true },
            }
        };
        if ended || begun.elapsed() > Duration::from_secs(30) {
            break begun.elapsed();
        }
    };
    driving.abort();
    cut
}

/// A connection to a node over TCP, proved by noise as member `attacker`, with yamux agreed on and nothing said in it.
async fn muxed(place: &Place, attacker: usize, port: u16) -> impl futures::AsyncRead + futures::AsyncWrite + Unpin {
    let keypair = swarm::keypair(&place.federation.actors[attacker].node).unwrap();
    let tcp = libp2p::tcp::tokio::TcpStream(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let (_, stream) = multistream_select::dialer_select_proto(tcp, ["/noise"], multistream_select::Version::V1).await.unwrap();
    let (_, stream) = noise::Config::new(&keypair).unwrap().upgrade_outbound(stream, "/noise").await.unwrap();
    let (_, stream) = multistream_select::dialer_select_proto(stream, ["/yamux/1.0.0"], multistream_select::Version::V1).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_02_n_03_frames_of_the_multiplexer_beyond_its_windows_end_that_connection_alone() {
    let place = Place::new(0x0f60_0000, 3);
    let port = crate::support::port();
    let victim = place.start_on_tcp(0, port, None);
    let other = place.start_on_tcp(1, crate::support::port(), Some((0, port)));
    until("the two to meet", || linked(&victim, &place, 1)).await;
    // Version, type, flags, stream, length: data with SYN of one byte more than a window; a window of almost 4 GiB, twice.
    let header = |kind: u8, flags: u16, stream: u32, length: u32| {
        [&[0, kind][..], &flags.to_be_bytes(), &stream.to_be_bytes(), &length.to_be_bytes()].concat()
    };
    let data = [header(0, 1, 1, 262_145), vec![7; 262_145]].concat();
    let window = [header(1, 1, 1, 0), header(1, 0, 1, 0xffff_0000), header(1, 0, 1, 0xffff_0000)].concat();
    for bytes in [data, window, header(9, 0xffff, 1, u32::MAX)] {
        let mut stream = muxed(&place, 2, port).await;
        let mut said = vec![0; 4096];
        let ended = async {
            let _cut = stream.write_all(&bytes).await;
            let _cut = stream.flush().await;
            while !matches!(stream.read(&mut said).await, Ok(0) | Err(_)) {}
        };
        // Some of it is only ignored; what counts is that nobody else notices.
        let _ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
        goes_on(&victim, &other, &place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_09_g_20_a_handshake_that_trickles_is_over_within_seconds() {
    let place = Place::new(0x0f70_0000, 3);
    let port = crate::support::port();
    let victim = place.start_on_tcp(0, port, None);
    until("it to listen", || !victim.watch.get().listening.is_empty()).await;
    let begun = Instant::now();
    let mut half_open = Vec::new();
    for _ in 0..40 {
        half_open.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let greeting = b"\x13/multistream/1.0.0\n";
    let mut at = 0;
    while !half_open.is_empty() && begun.elapsed() < Duration::from_secs(30) {
        let mut open = Vec::new();
        for mut stream in half_open {
            let written = stream.write_all(&[greeting[at % greeting.len()]]).await;
            let mut bytes = [0; 64];
            let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut bytes)).await;
            if written.is_ok() && !matches!(read, Ok(Ok(0) | Err(_))) {
                open.push(stream);
            }
        }
        half_open = open;
        at += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "{} are still open after {:?}", half_open.len(), begun.elapsed());
    let other = place.start_on_tcp(1, crate::support::port(), Some((0, port)));
    until("the two to meet", || linked(&victim, &place, 1)).await;
    goes_on(&victim, &other, &place).await;
}
