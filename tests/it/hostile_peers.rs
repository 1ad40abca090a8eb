//! Members with a card and valid keys that do harm to one node: what it costs the node, and what it costs the others.

use futures::{AsyncWriteExt as _, StreamExt as _};
use huecry::{
    charter::{Quota, SignedCard},
    clock::Clock,
    envelope::{Class, SecretKey, SignedHead},
    intake::{Intake, Limits},
    node::{
        Links,
        door::{Publication, ReportOf, Request, TakeBack, document},
        swarm::{self, BehaviourEvent, Relaying, Topics},
    },
    policy::{Lists, Piece, Policy, Starter},
    record::{FeedId, Indicator, Observable, Record, Tlp},
    sim::{
        Dice,
        crowd::{self, Running, Site, launch},
        federation::{self, CLOSED, Federation, OPEN},
        hostile::{self, Hostile, Malice},
        link::{LinkPlan, transport},
        listed_value,
        strangers::{self, Stranger},
    },
};
use libp2p::{Multiaddr, StreamProtocol, gossipsub, swarm::SwarmEvent};
use sha2::{Digest as _, Sha256};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Some nodes of one federation in this process, at addresses that begin with `base`.
pub struct Place {
    base: u64,
    directory: tempfile::TempDir,
    pub federation: Federation,
    intake: Intake,
}

impl Place {
    pub fn new(base: u64, members: usize) -> Self {
        Self::with_quota(
            base,
            members,
            Quota { records_per_second: 1 << 30, burst_records: 1 << 30, records_per_day: 1 << 40, bytes_per_day: 1 << 50 },
        )
    }

    fn with_quota(base: u64, members: usize, quota: Quota) -> Self {
        let federation = federation::found(members, quota, Clock::System.now(), &mut Dice::new(base), |_, _| Vec::new()).unwrap();
        let policy = Policy::of(vec![Piece::new("starter", Starter::Vendor.policy().to_owned())]).unwrap();
        let (roster, policy, lists) = (Arc::new(federation.roster.clone()), Arc::new(policy), Arc::new(Lists::default()));
        let intake = Intake { roster, policy, lists, limits: Limits::default() };
        Self { base, directory: tempfile::tempdir().unwrap(), federation, intake }
    }

    pub fn links(&self, number: usize) -> Links {
        self.links_of(number, number)
    }

    /// Links of node `number` with the node key of member `keys_of`.
    fn links_of(&self, number: usize, keys_of: usize) -> Links {
        let link = LinkPlan { latency: Duration::from_millis(1), loss_per_mille: 0, seed: number as u64 };
        let key = swarm::keypair(&self.federation.actors[keys_of].node).unwrap();
        Links::Given(transport(&key, link, Arc::default(), None, None, swarm::STREAMS_MAX).unwrap())
    }

    fn address(&self, number: usize) -> String {
        format!("/memory/{}", self.base + number as u64)
    }

    pub fn contact(&self, number: usize) -> String {
        let key = self.federation.actors[number].node.public().to_bytes();
        format!("{}/p2p/{}", self.address(number), swarm::peer_id(&key).unwrap())
    }

    pub fn start(&self, number: usize, dial: &[usize]) -> Running {
        let site = Site {
            data: self.directory.path().join(number.to_string()),
            links: self.links(number),
            listen: self.address(number),
            dial: dial.iter().map(|other| self.contact(*other)).collect(),
            observer: None,
            rehearsal: true,
            follows: true,
        };
        launch(site, &self.federation.actors[number], &self.federation, &self.intake).unwrap()
    }

    /// As [`Self::start`], over TCP on loopback.
    pub fn start_on_tcp(&self, number: usize, port: u16, dial: Option<(usize, u16)>) -> Running {
        let contact = |(other, port): (usize, u16)| {
            let key = self.federation.actors[other].node.public().to_bytes();
            format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", swarm::peer_id(&key).unwrap())
        };
        let site = Site {
            data: self.directory.path().join(number.to_string()),
            links: Links::Tcp,
            listen: format!("/ip4/127.0.0.1/tcp/{port}"),
            dial: dial.map(contact).into_iter().collect(),
            observer: None,
            rehearsal: true,
            follows: true,
        };
        launch(site, &self.federation.actors[number], &self.federation, &self.intake).unwrap()
    }

    pub fn feed(&self, number: usize, channel: &str) -> FeedId {
        FeedId { member: self.federation.actors[number].id.clone(), channel: channel.parse().unwrap(), lane: 0, epoch: 1 }
    }

    fn harm(&self, number: usize, malice: Malice, victim: usize, stop: tokio::sync::watch::Receiver<bool>) {
        self.harm_as((number, number), malice, &[victim], stop);
    }

    /// Runs hostile node `number` with the keys of member `keys_of`.
    fn harm_as(&self, (number, keys_of): (usize, usize), malice: Malice, victims: &[usize], stop: tokio::sync::watch::Receiver<bool>) {
        let actor = &self.federation.actors[keys_of];
        let hostile = Hostile {
            key: crowd::again(&actor.node).unwrap(),
            malice,
            federation: self.federation.roster.federation(),
            links: self.links_of(number, keys_of),
            listen: self.address(number).parse().unwrap(),
            dial: victims.iter().map(|victim| self.contact(*victim).parse().unwrap()).collect(),
            others: self.federation.actors.iter().filter(|one| one.id != actor.id).map(|one| one.node.public().to_bytes()).collect(),
            feeds: victims.iter().map(|victim| self.feed(*victim, OPEN)).collect(),
            forged: crowd::forged(actor, &self.federation).unwrap(),
            twice: Some(crowd::twice(actor, &self.federation).unwrap()),
            begin: tokio::sync::watch::channel(true).1,
            delay: Duration::ZERO,
            seed: 5,
        };
        tokio::spawn(hostile::run(hostile, stop));
    }
}

pub async fn publish(node: &Running, channel: &str, tlp: Tlp, from: u64, count: u64) {
    let record = |number: u64| Record::Indicator(Indicator::of(Observable::recognise(&listed_value(number)).unwrap(), None));
    let publication = Publication {
        channel: channel.parse().unwrap(),
        tlp,
        class: Class::Content,
        report: ReportOf::None,
        records: (from..from + count).map(record).collect(),
    };
    let (reply, done) = tokio::sync::oneshot::channel();
    node.door.send(Request::Publish(Box::new(publication), reply)).unwrap();
    done.await.unwrap().unwrap();
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

fn refusals(node: &Running, code: &str) -> u64 {
    node.watch.get().refusals.get(code).copied().unwrap_or(0)
}

pub fn linked(node: &Running, place: &Place, other: usize) -> bool {
    node.watch.get().peers.iter().any(|peer| peer.member == place.federation.actors[other].id.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_10_g_19_who_floods_with_bad_signatures_is_not_let_in_any_more_and_others_are_served() {
    let place = Place::new(0x0f10_0000, 3);
    let (victim, honest) = (place.start(0, &[1]), place.start(1, &[0]));
    until("the two to meet", || linked(&victim, &place, 1)).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    place.harm(2, Malice::Floods, 0, stopped);
    until("the flood to be stopped", || refusals(&victim, "barred") > 0).await;
    // Ten thousand came a second, and each costs a signature; what gossip had queued by then comes on top of the twenty.
    let bad = refusals(&victim, "bad-signature");
    assert!((20..2_000).contains(&bad), "{bad} bad signatures were looked at");
    publish(&honest, OPEN, Tlp::Green, 0, 256).await;
    until("an honest record to come", || victim.ledger.feed(&place.feed(1, OPEN)).is_some()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!linked(&victim, &place, 2) && linked(&victim, &place, 1));
    assert!(refusals(&victim, "bad-signature") < bad + 20, "it stays outside");
    let _over = stop.send(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x11_who_forges_documents_is_counted_blamed_and_barred_and_honest_records_arrive_meanwhile() {
    let place = Place::new(0x0f70_0000, 3);
    let (victim, honest) = (place.start(0, &[1]), place.start(1, &[0]));
    until("the two to meet", || linked(&victim, &place, 1)).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    place.harm(2, Malice::Forges, 0, stopped);
    let held = |node: &Running| node.ledger.feed(&place.feed(1, OPEN)).map_or(0, |state| state.spans.count());
    let mut batches = 0;
    while refusals(&victim, "barred") == 0 {
        assert!(batches < 200, "the forger is not barred: {:?}", victim.watch.get().refusals);
        publish(&honest, OPEN, Tlp::Green, batches * 10, 10).await;
        batches += 1;
        let took = until("an honest record to come", || held(&victim) >= batches).await;
        assert!(took < Duration::from_secs(3), "an honest record took {took:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (forged, unsigned) = (refusals(&victim, "forged-document"), refusals(&victim, "unsigned-charter"));
    assert!(forged + unsigned >= 20 && forged > 0 && unsigned > 0, "{forged} forged, {unsigned} unsigned");
    assert!(forged + unsigned < 60, "few are verified before: {forged} forged, {unsigned} unsigned");
    assert!(!linked(&victim, &place, 2) && linked(&victim, &place, 1));
    assert_eq!(victim.ledger.roster().unwrap().unwrap().charter().charter().version, place.federation.roster.charter().charter().version);
    let _over = stop.send(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x8_a_clone_keeps_neither_its_owner_nor_others_silent_and_a_card_signed_by_the_root_puts_it_out() {
    let place = Place::new(0x0f90_0000, 4);
    let (owner, one, other) = (place.start(0, &[]), place.start(1, &[0]), place.start(2, &[0, 1]));
    until("all to meet", || linked(&one, &place, 0) && linked(&other, &place, 0) && linked(&other, &place, 1)).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    place.harm_as((3, 0), Malice::Clones, &[1, 2], stopped);
    let held = |node: &Running, of: usize| node.ledger.feed(&place.feed(of, OPEN)).map_or(0, |state| state.spans.count());
    // Two turns of each, and what the clone holds up comes with the owner's next turn.
    for batch in 0..8 {
        publish(&owner, OPEN, Tlp::Green, batch * 10, 10).await;
        publish(&one, OPEN, Tlp::Green, 1_000 + batch * 10, 10).await;
        let took = until("a record of another member", || held(&other, 1) > batch).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    until("all that the owner published", || held(&one, 0) == 8 && held(&other, 0) == 8).await;
    let clones = || one.watch.get().cloned.iter().chain(&other.watch.get().cloned).next().is_some();
    until("the clone to be noticed", clones).await;
    // The root key signs a card without the stolen node key. Any member that the owner reaches passes it on.
    let actor = &place.federation.actors[0];
    let mut card = place.federation.roster.card(&actor.id).unwrap().clone();
    card.serial += 1;
    card.nodes.iter_mut().for_each(|node| node.key = SecretKey::from_seed(&Dice::new(77).seed()).unwrap().public());
    let card = SignedCard::sign(&card, &actor.root, &place.federation.roster.federation()).unwrap();
    let (reply, taken) = tokio::sync::oneshot::channel();
    one.door.send(Request::Document { document: document::CARD, bytes: card.bytes().to_vec(), from: None, reply: Some(reply) }).unwrap();
    taken.await.unwrap().unwrap();
    let took = until("the clone to be out", || !linked(&one, &place, 0) && !linked(&other, &place, 0)).await;
    assert!(took < Duration::from_secs(30), "{took:?}");
    for _look in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!linked(&one, &place, 0) && !linked(&other, &place, 0), "it stays out");
    }
    assert!(linked(&one, &place, 2));
    let _over = stop.send(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x7_what_is_over_a_quota_is_not_fetched_again_and_removals_are() {
    let quota = Quota { records_per_second: 1_000, burst_records: 4_000, records_per_day: 4_096, bytes_per_day: 1 << 30 };
    let place = Place::with_quota(0x0f80_0000, 3, quota);
    let (author, honest, reader) = (place.start(0, &[]), place.start(1, &[0]), place.start(2, &[0, 1]));
    until("all to meet", || linked(&reader, &place, 0) && linked(&reader, &place, 1) && linked(&honest, &place, 0)).await;
    // Four times what a day takes.
    for batch in 0..64 {
        publish(&author, OPEN, Tlp::Green, batch * 256, 256).await;
    }
    let held = |node: &Running| node.ledger.feed(&place.feed(0, OPEN)).map_or(0, |state| state.spans.count());
    until("the quota to be used up", || refusals(&reader, "quota") > 0 && refusals(&honest, "quota") > 0).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let refused = || refusals(&reader, "quota") + refusals(&honest, "quota");
    let before = (refused(), held(&reader));
    // Cursors are compared every ten seconds.
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!((refused(), held(&reader)), before, "nothing of it was fetched again");
    assert!((14..=17).contains(&before.1), "{} batches of 16 that fit into the day", before.1);
    // Others are served meanwhile, and what the same author takes back comes.
    publish(&honest, OPEN, Tlp::Green, 1_000_000, 16).await;
    until("a record of another member", || reader.ledger.feed(&place.feed(1, OPEN)).is_some()).await;
    let target = huecry::record::RecordRef { feed: place.feed(0, OPEN), seq: 2, index: 7 };
    let take_back = TakeBack { targets: vec![target.clone()], reason: huecry::record::Reason::Wrong, note: None };
    let (reply, done) = tokio::sync::oneshot::channel();
    author.door.send(Request::Withdraw(Box::new(take_back), reply)).unwrap();
    done.await.unwrap().unwrap();
    until("the withdrawal to come", || reader.ledger.withdrawn(&target).unwrap().is_some()).await;
    assert_eq!(refused(), before.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_08_who_asks_for_everything_and_reads_nothing_is_cut_off_and_others_are_served() {
    let place = Place::new(0x0f20_0000, 3);
    let victim = place.start(0, &[]);
    publish(&victim, OPEN, Tlp::Green, 0, 100 * 256).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    place.harm(2, Malice::Hoards, 0, stopped);
    let took = until("it to be cut off", || refusals(&victim, "does-not-read") > 0).await;
    assert!(took < Duration::from_secs(25), "{took:?}");
    let honest = place.start(1, &[0]);
    until("another to have everything", || honest.ledger.feed(&place.feed(0, OPEN)).is_some_and(|state| state.spans.count() == 100)).await;
    let _over = stop.send(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g_02_strangers_who_knock_again_and_again_get_no_byte_and_members_are_served() {
    let place = Place::new(0x0f40_0000, 2);
    let author = place.start(0, &[]);
    let (given, calls) = (Arc::default(), Arc::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for number in 0..8u64 {
        let key = huecry::envelope::SecretKey::from_seed(&Dice::new(number + 1).seed()).unwrap();
        let link = LinkPlan { latency: Duration::from_millis(1), loss_per_mille: 0, seed: number };
        let links = transport(&swarm::keypair(&key).unwrap(), link, Arc::default(), None, None, swarm::STREAMS_MAX).unwrap();
        let stranger = Stranger {
            key,
            federation: place.federation.roster.federation(),
            links: Links::Given(links),
            dial: vec![place.contact(0).parse().unwrap()],
            honest: vec![place.federation.actors[0].node.public().to_bytes()],
            given: Arc::clone(&given),
            calls: Arc::clone(&calls),
        };
        tokio::spawn(strangers::knock(stranger, stopped.clone()));
    }
    publish(&author, OPEN, Tlp::Green, 0, 8 * 256).await;
    let reader = place.start(1, &[0]);
    until("the member to have everything", || reader.ledger.feed(&place.feed(0, OPEN)).is_some_and(|state| state.spans.count() == 8)).await;
    until("them to have knocked a while", || calls.load(Ordering::Relaxed) >= 64).await;
    let _over = stop.send(true);
    assert_eq!(given.load(Ordering::Relaxed), 0);
    assert!(linked(&author, &place, 1));
}

/// A gossipsub RPC that asks for one message by its id: field 3 of the RPC, field 2 of control, field 1 of IWANT.
fn iwant(id: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let rpc = field(3, &field(2, &field(1, id)));
    [&[rpc.len() as u8], &rpc[..]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_02_a_raw_iwant_for_a_restricted_head_brings_nothing() {
    // The first half of four is in the circle; the fourth member asks.
    let place = Place::new(0x0f30_0000, 4);
    let (holder, reader) = (place.start(0, &[]), place.start(1, &[0]));
    until("the two to meet", || linked(&holder, &place, 1)).await;
    // gossipsub keeps nothing that it had nobody to tell.
    tokio::time::sleep(Duration::from_secs(2)).await;
    publish(&holder, CLOSED, Tlp::Amber, 0, 3).await;
    publish(&holder, OPEN, Tlp::Green, 3, 3).await;
    until("its reader to have both", || reader.ledger.feeds().len() == 2).await;
    let topics = Topics::of(&place.federation.roster.federation());
    let id = |channel: &str| {
        let head = holder.ledger.batch_at(&place.feed(0, channel), 1).unwrap().unwrap().entry.head.to_vec();
        let hash = Sha256::new().chain_update(topics.heads.hash().as_str()).chain_update(&head).finalize();
        (hash[..20].to_vec(), head)
    };
    let ((open_id, open), (closed_id, closed)) = (id(OPEN), id(CLOSED));
    assert!(SignedHead::open(&closed, &place.federation.roster.federation()).is_ok());

    let mut asker =
        swarm::build(&crowd::again(&place.federation.actors[3].node).unwrap(), &topics, place.links(3), Relaying::default()).unwrap();
    let peer = swarm::peer_id(&place.federation.actors[0].node.public().to_bytes()).unwrap();
    asker.behaviour_mut().gate.allow_peer(peer);
    asker.dial(place.contact(0).parse::<Multiaddr>().unwrap()).unwrap();
    let mut control = asker.behaviour().stream.new_control();
    let mut told = Vec::new();
    let begun = Instant::now();
    let mut asked = false;
    while begun.elapsed() < Duration::from_secs(6) {
        let event = tokio::time::timeout(Duration::from_millis(200), asker.select_next_some()).await;
        if let Ok(SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. }))) = event {
            told.push(message.data);
        }
        if !asked && begun.elapsed() > Duration::from_secs(1) {
            asked = true;
            let (mut control, wants) = (control.clone(), [iwant(&closed_id), iwant(&open_id)].concat());
            tokio::spawn(async move {
                let mut stream = control.open_stream(peer, StreamProtocol::new("/meshsub/1.1.0")).await.unwrap();
                stream.write_all(&wants).await.unwrap();
                stream.flush().await.unwrap();
                tokio::time::sleep(Duration::from_secs(10)).await;
            });
        }
    }
    let _used = &mut control;
    assert!(!told.contains(&closed), "the restricted head never was in the cache of gossip");
    assert!(told.contains(&open), "the same question about an open one is answered");
}
