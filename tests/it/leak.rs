//! The proof of no leak: real nodes with random audiences, everything that reached each of them searched for what it may not have.

use crate::rehearsal::quota;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use huecry::{
    clock::Clock,
    envelope::{Audience, Class, Readers},
    http,
    intake::{Intake, Limits},
    node::{
        Links,
        door::{Publication, ReportOf, Request},
        streams::PROTOCOL,
        swarm::{self, Topics},
    },
    policy::{Lists, Piece, Policy, Starter},
    record::{FeedId, Indicator, MemberId, Observable, Record, Tlp},
    replica::{ChunkAsk, Message, Pull, Range, frame, number},
    sim::{
        Dice, crowd,
        crowd::{Running, Site, launch},
        federation::{self, CLOSED, Federation, OPEN},
        link::{LinkPlan, Tap, transport},
    },
};
use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tower::ServiceExt as _;

/// Nodes in the proof.
const NODES: usize = 50;
/// Records of each batch; a value is torn in two by a frame's border now and then, all of them never.
const CANARIES: usize = 6;
const NAMED: &str = "named";

/// What is logged while the proof runs, by this thread's subscriber.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Published {
    canary: String,
    feed: FeedId,
    readers: BTreeSet<MemberId>,
}

fn link(seed: u64) -> LinkPlan {
    LinkPlan { latency: Duration::from_millis(1), loss_per_mille: 0, seed }
}

fn address(number: usize) -> String {
    format!("/memory/{}", 0x1eaf_0000_u64 + number as u64)
}

fn contact(federation: &Federation, number: usize) -> String {
    let peer = swarm::peer_id(&federation.actors[number].node.public().to_bytes()).unwrap();
    format!("{}/p2p/{peer}", address(number))
}

async fn publish(node: &Running, canary: &str, channel: &str, tlp: Tlp) {
    let record =
        |index: usize| Record::Indicator(Indicator::of(Observable::recognise(&format!("{canary}.n{index}.example")).unwrap(), None));
    let publication = Publication {
        channel: channel.parse().unwrap(),
        tlp,
        class: Class::Content,
        report: ReportOf::None,
        records: (0..CANARIES).map(record).collect(),
    };
    let (reply, done) = tokio::sync::oneshot::channel();
    node.door.send(Request::Publish(Box::new(publication), reply)).unwrap();
    done.await.unwrap().unwrap();
}

/// Everything that a node has, through its own interfaces.
fn stored(node: &Running) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..node.ledger.batches() {
        let batch = node.ledger.batch(number).unwrap().unwrap();
        bytes.extend_from_slice(&batch.entry.head);
        bytes.extend_from_slice(&batch.entry.body);
    }
    for (feed, _) in node.ledger.feeds() {
        bytes.extend_from_slice(feed.to_string().as_bytes());
    }
    bytes
}

async fn told(node: &Running, path: &str) -> Vec<u8> {
    let caller = http::Caller::Account(nix::unistd::geteuid().as_raw());
    let request = axum::http::Request::get(path).extension(caller).body(axum::body::Body::empty()).unwrap();
    let answer = http::router(node.local.clone()).oneshot(request).await.unwrap();
    assert!(!["401", "403"].contains(&answer.status().as_str()), "{path}: {}, so nothing was looked for", answer.status());
    answer.into_body().collect().await.unwrap().to_bytes().to_vec()
}

fn holds(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

/// As [`holds`], for many canaries in one pass: each begins with the same letters.
fn canaries_in(bytes: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut from = 0;
    while let Some(at) = bytes[from..].windows(5).position(|window| window == b"cnry-") {
        let begin = from + at;
        found.insert(String::from_utf8_lossy(&bytes[begin..(begin + 18).min(bytes.len())]).into_owned());
        from = begin + 5;
    }
    found
}

#[test]
fn p_01_p_03_p_08_p_10_g_10_no_byte_of_a_restricted_record_reaches_one_who_may_not_have_it() {
    let logged = Logged::default();
    let sink = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || sink.clone()).finish();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Nodes speak on many threads; no other test of this process listens.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    runtime.block_on(proof(&logged));
}

async fn proof(logged: &Logged) {
    let mut dice = Dice::new(2026);
    let mut audiences = Dice::new(7);
    let place = tempfile::tempdir().unwrap();
    let named = |_: usize, ids: &[MemberId]| {
        let readers = ids.iter().filter(|_| audiences.percent(15)).cloned().collect();
        vec![(NAMED.parse().unwrap(), Audience::named(readers))]
    };
    let federation = federation::found(NODES, quota(), Clock::System.now(), &mut dice, named).unwrap();
    let intake = Intake {
        roster: Arc::new(federation.roster.clone()),
        policy: Arc::new(Policy::of(vec![Piece::new("starter", Starter::Vendor.policy().to_owned())]).unwrap()),
        lists: Arc::new(Lists::default()),
        limits: Limits::default(),
    };
    // The last member is there by hand only, to ask for what it may not have.
    let last = NODES - 1;
    let taps: Vec<Tap> = (0..last).map(|_| Tap::default()).collect();
    let mut crowd = Vec::new();
    for (number, tap) in taps.iter().enumerate() {
        let actor = &federation.actors[number];
        let keypair = swarm::keypair(&actor.node).unwrap();
        let links = transport(&keypair, link(number as u64), Arc::default(), Some(Arc::clone(tap)), None, swarm::STREAMS_MAX).unwrap();
        let site = Site {
            data: place.path().join(number.to_string()),
            links: Links::Given(links),
            listen: address(number),
            dial: [1, 5, 17].map(|step| contact(&federation, (number + step) % last)).to_vec(),
            observer: None,
            rehearsal: true,
            follows: true,
        };
        crowd.push(launch(site, actor, &federation, &intake).unwrap());
    }
    until("everyone to have met", || crowd.iter().all(|node| node.watch.get().peers.len() >= 12)).await;

    let mut all = Vec::new();
    for (number, node) in crowd.iter().enumerate() {
        let actor = &federation.actors[number];
        let card = federation.roster.card(&actor.id).unwrap();
        for (channel, tlp) in [(OPEN, Tlp::Green), (CLOSED, Tlp::Amber), (NAMED, Tlp::Red)] {
            let audience = &card.channels.iter().find(|one| one.name.as_str() == channel).unwrap().audience;
            // By the words of the design, not by the program: everyone, the first half, those named; and the author.
            let readers = federation.actors.iter().enumerate().filter(|(at, one)| match &audience.readers {
                Readers::Federation => true,
                Readers::Circle { .. } => *at < NODES.div_ceil(2),
                Readers::Named(named) => named.contains(&one.id),
            });
            let mut readers: BTreeSet<MemberId> = readers.map(|(_, one)| one.id.clone()).collect();
            readers.insert(actor.id.clone());
            let canary = format!("cnry-{number:03}-{}-{:07}", &channel[..1], dice.below(10_000_000));
            let feed = FeedId { member: actor.id.clone(), channel: channel.parse().unwrap(), lane: 0, epoch: 1 };
            publish(node, &canary, channel, tlp).await;
            all.push(Published { canary, feed, readers });
        }
    }
    let complete = || {
        crowd.iter().enumerate().all(|(number, node)| {
            let me = &federation.actors[number].id;
            all.iter().filter(|one| one.readers.contains(me)).all(|one| node.ledger.feed(&one.feed).is_some())
        })
    };
    until("everyone to have what is theirs", complete).await;
    // And what is not theirs has had time to come too.
    tokio::time::sleep(Duration::from_secs(12)).await;

    let (mut hits, mut found) = (Vec::new(), 0);
    for (number, node) in crowd.iter().enumerate() {
        let me = &federation.actors[number].id;
        let (wire, store) = (canaries_in(&taps[number].lock().unwrap()), canaries_in(&stored(node)));
        let mut said = told(node, "/metrics").await;
        for path in ["/v1/status", "/v1/sync", "/v1/quarantine", "/v1/query?value=cnry.example&all=true", "/v1/query?value=%00"] {
            said.extend(told(node, path).await);
        }
        for one in &all {
            let entitled = one.readers.contains(me);
            let author = one.feed.member == *me;
            assert!(entitled || !holds(&said, &one.canary), "{me} is told of {}", one.feed);
            // A feed that is not for me does not even have a name here.
            assert!(entitled || node.ledger.feed(&one.feed).is_none(), "{me} knows of {}", one.feed);
            match (entitled, wire.contains(&one.canary), store.contains(&one.canary)) {
                (true, seen, stored) => found += usize::from((author || seen) && stored),
                (false, false, false) => (),
                (false, ..) => hits.push(format!("{me} saw {}", one.canary)),
            }
        }
    }
    assert!(hits.is_empty(), "{hits:#?}");
    // The search itself works: what is theirs it finds with nearly all of them (a value may lie across two frames).
    let entitled: usize = all.iter().map(|one| one.readers.iter().filter(|id| **id != federation.actors[last].id).count()).sum();
    assert!(found * 100 >= entitled * 97, "found {found} of {entitled}");
    let log = logged.0.lock().unwrap().clone();
    assert!(!log.is_empty() && canaries_in(&log).is_empty(), "no value is logged");
    asks_like_a_stranger(&federation, &all, last).await;
    for node in crowd {
        node.end().await;
    }
}

/// P-02, P-08, P-11: one who is connected and asks by name for what is not for it hears what it hears about what does not exist.
async fn asks_like_a_stranger(federation: &Federation, all: &[Published], me: usize) {
    let actor = &federation.actors[me];
    let secret = all.iter().find(|one| one.feed.channel.as_str() == NAMED && !one.readers.contains(&actor.id)).unwrap();
    let holder = federation.actors.iter().position(|one| one.id == secret.feed.member).unwrap();
    let open = all.iter().find(|one| one.feed.channel.as_str() == OPEN && one.feed.member == secret.feed.member).unwrap();
    let links = transport(&swarm::keypair(&actor.node).unwrap(), link(99), Arc::default(), None, None, swarm::STREAMS_MAX).unwrap();
    let topics = Topics::of(&federation.roster.federation());
    let mut swarm = swarm::build(&crowd::again(&actor.node).unwrap(), &topics, Links::Given(links), swarm::Relaying::default()).unwrap();
    let them = federation.actors[holder].node.public().to_bytes();
    let peer = swarm::peer_id(&them).unwrap();
    swarm.behaviour_mut().gate.allow_peer(peer);
    swarm.dial(contact(federation, holder).parse::<libp2p::Multiaddr>().unwrap()).unwrap();
    let mut control = swarm.behaviour().stream.new_control();
    let mut accepted = control.accept(PROTOCOL).unwrap();
    let i_open = actor.node.public().to_bytes() < them;
    let connected = async {
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    if let (true, libp2p::swarm::SwarmEvent::ConnectionEstablished { .. }) = (i_open, event) {
                        return None;
                    }
                }
                Some((_, stream)) = accepted.next() => return Some(stream),
            }
        }
    };
    let stream = tokio::time::timeout(Duration::from_secs(20), connected).await.unwrap();
    let driving = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let mut stream = match stream {
        Some(stream) => stream,
        None => control.open_stream(peer, PROTOCOL).await.unwrap(),
    };
    let nowhere = FeedId { channel: "no-such-channel".parse().unwrap(), ..secret.feed.clone() };
    let mut answers = Vec::new();
    for (request, feed) in [(1, &secret.feed), (2, &nowhere), (3, &open.feed)] {
        let pull = Message::Pull(Pull { kind: number::PULL, request, feed: feed.into(), seq: 1, ahead: None });
        let range =
            Range { kind: number::RANGE, request: request + 10, feed: feed.into(), first: 1, last: 9, bytes_max: 1 << 20, removals: None };
        stream.write_all(&frame(&pull)).await.unwrap();
        stream.write_all(&frame(&Message::Range(range))).await.unwrap();
        stream.flush().await.unwrap();
        answers.push(answers_to(&mut stream, [request, request + 10]).await);
    }
    // Contents are named by their records, and are no way around.
    for (request, feed) in [(21, &secret.feed), (22, &nowhere)] {
        let ask = ChunkAsk { kind: number::CHUNK_ASK, request, feed: feed.into(), seq: 1, index: 0, chunk: 0 };
        stream.write_all(&frame(&Message::ChunkAsk(ask))).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(answers_to(&mut stream, [request, request]).await, ["end false"]);
    }
    assert_eq!(answers[0], answers[1], "what is not for us and what does not exist look the same");
    assert_eq!(answers[0], ["end false", "end false"]);
    assert_eq!(answers[2], ["body", "body", "end false", "range head"], "what is for us comes");
    driving.abort();
}

/// What came for these requests, without their numbers, sorted.
async fn answers_to(stream: &mut libp2p::Stream, requests: [u64; 2]) -> Vec<String> {
    let mut answers = Vec::new();
    let (mut pulled, mut ranged) = (false, false);
    let begun = Instant::now();
    // Until both are answered; a busy machine takes its time.
    while !(pulled && ranged) && begun.elapsed() < Duration::from_secs(30) {
        let read = async {
            let mut length = [0; 4];
            stream.read_exact(&mut length).await.unwrap();
            let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut bytes).await.unwrap();
            Message::decode(&bytes).unwrap()
        };
        let Ok(message) = tokio::time::timeout(Duration::from_secs(30), read).await else { break };
        match message {
            Some(Message::End(end)) if requests.contains(&end.request) => {
                (pulled, ranged) = (pulled || end.request == requests[0], ranged || end.request == requests[1]);
                answers.push(format!("end {}", end.more));
            }
            Some(Message::Body(body)) if requests.contains(&body.request) => {
                pulled |= body.request == requests[0];
                answers.push("body".to_owned());
            }
            Some(Message::RangeHead(head)) if requests.contains(&head.request) => answers.push("range head".to_owned()),
            _ => (),
        }
    }
    answers.sort();
    answers
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(300), "waited five minutes for {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
