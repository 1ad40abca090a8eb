//! Hostile members of a crowd: they have a card and valid keys, take part in the mesh, and do harm from there.

use super::Dice;
use crate::{
    envelope::{FederationId, Hash, SecretKey},
    node::{
        streams::PROTOCOL,
        swarm::{BehaviourEvent, Links, Relaying, SwarmError, Topics, build, node_key, peer_id},
    },
    record::FeedId,
    replica::{
        Announce, Body, Cursor, Cursors, Digest, End, FRAME_BYTES_MAX, Hello, Message, PROTOCOL_VERSION, PeerKey, RANGE_BATCHES_MAX, Range,
        document_messages, frame, number,
    },
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Stream, gossipsub,
    gossipsub::MessageAcceptance,
    swarm::{SwarmEvent, dial_opts::DialOpts},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// What a hostile node does with what it is asked for. None of them forwards anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Malice {
    /// Answers nothing.
    Drops,
    /// Answers after three seconds, that there is nothing.
    Delays,
    /// Says that there is nothing.
    Withholds,
    /// Claims everything and sends rubbish.
    Lies,
    /// Signs two heads for one place of its own feed, and shows one to some and the other to the others.
    Equivocates,
    /// Gossips heads with bad signatures, as fast as it can.
    Floods,
    /// Asks for everything and reads nothing.
    Hoards,
    /// Sends forged charters, cards and whereabouts, as fast as it can.
    Forges,
    /// Runs with the node key of an honest member, connects again whenever it is disconnected, and answers nothing.
    Clones,
}

/// The kinds that a simulation uses in turn by default; the others are for load tests.
pub const MALICE: [Malice; 5] = [Malice::Drops, Malice::Delays, Malice::Withholds, Malice::Lies, Malice::Equivocates];

/// Requests that one who hoards sends and never reads the answers of.
const HOARDED: u64 = 4_096;

/// Time between two rounds of dialling by a clone.
const REDIAL: Duration = Duration::from_secs(2);

/// Two batches for one place, each with its head: what no honest author signs.
pub type Twice = [(Vec<u8>, Vec<u8>); 2];

/// What a hostile node is made of.
pub struct Hostile {
    pub key: SecretKey,
    pub malice: Malice,
    pub federation: FederationId,
    pub links: Links,
    pub listen: Multiaddr,
    pub dial: Vec<Multiaddr>,
    /// Nodes of other members, which it lets in.
    pub others: Vec<PeerKey>,
    /// Feeds that a liar claims to have.
    pub feeds: Vec<FeedId>,
    /// Documents with bad signatures, by number.
    pub forged: Vec<(u64, Vec<u8>)>,
    /// What one who equivocates says and says otherwise: head and body, twice.
    pub twice: Option<Twice>,
    /// When it says so: so long after this, since at once would be while nodes still meet.
    pub begin: watch::Receiver<bool>,
    pub delay: Duration,
    pub seed: u64,
}

/// Does harm until told to stop.
pub async fn run(hostile: Hostile, mut stop: watch::Receiver<bool>) -> Result<(), SwarmError> {
    let topics = Topics::of(&hostile.federation);
    let mut swarm = build(&hostile.key, &topics, hostile.links, Relaying::default())?;
    for peer in hostile.others.iter().filter_map(peer_id) {
        swarm.behaviour_mut().gate.allow_peer(peer);
    }
    let _listening = swarm.listen_on(hostile.listen);
    for address in &hostile.dial {
        let _dialling = swarm.dial(address.clone());
    }
    let mut control = swarm.behaviour().stream.new_control();
    let Ok(mut accepted) = control.accept(PROTOCOL) else { return Ok(()) };
    let me = hostile.key.public().to_bytes();
    let Hostile { malice, dial, feeds, forged, twice, begin, delay, seed, .. } = hostile;
    let conduct = Conduct { malice, feeds, forged: forged.into(), twice, begin, delay, dice: Dice::new(seed) };
    let mut rubbish = Dice::new(seed);
    let mut flood = tokio::time::interval(Duration::from_millis(10));
    let floods = malice == Malice::Floods;
    let mut redial = tokio::time::interval(REDIAL);
    let clones = malice == Malice::Clones;
    loop {
        tokio::select! {
            _ = flood.tick(), if floods => {
                for _ in 0..100 {
                    // The mesh may not be there yet, or not any more.
                    let _not_now = swarm.behaviour_mut().gossip.publish(topics.heads.clone(), conduct.forged(&mut rubbish));
                }
            }
            _ = redial.tick(), if clones => {
                for address in &dial {
                    // Connected peers are not dialled.
                    let _dialling = swarm.dial(DialOpts::from(address.clone()));
                }
            }
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            Some((peer, stream)) = accepted.next() => drop(tokio::spawn(conduct.clone().serve(peer, stream))),
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } if node_key(&peer_id).is_some_and(|key| me < key) => {
                    let (mut control, conduct) = (control.clone(), conduct.clone());
                    tokio::spawn(async move {
                        if let Ok(stream) = control.open_stream(peer_id, PROTOCOL).await {
                            let _closed = conduct.serve(peer_id, stream).await;
                        }
                    });
                }
                SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, .. })) => {
                    let gossip = &mut swarm.behaviour_mut().gossip;
                    gossip.report_message_validation_result(&message_id, &propagation_source, MessageAcceptance::Ignore);
                }
                _ => (),
            },
        }
    }
}

/// Counts what comes on a stream until it ends.
pub(super) async fn counted(mut stream: Stream, given: Arc<AtomicU64>) {
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        given.fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Conduct {
    malice: Malice,
    feeds: Vec<FeedId>,
    forged: Arc<[(u64, Vec<u8>)]>,
    twice: Option<Twice>,
    begin: watch::Receiver<bool>,
    delay: Duration,
    dice: Dice,
}

impl Conduct {
    /// A head that reads, and whose signature is none.
    fn forged(&self, dice: &mut Dice) -> Vec<u8> {
        let mut head = self.twice.as_ref().map(|[(head, _), _]| head.clone()).unwrap_or_default();
        let signature = head.len().saturating_sub(64);
        let noise = [dice.seed(), dice.seed()].concat();
        head.iter_mut().skip(signature).zip(noise).for_each(|(to, from)| *to = from);
        head
    }

    /// What a peer is shown: some see one branch, the others the other.
    fn branch(&self, peer: &PeerId) -> Option<&(Vec<u8>, Vec<u8>)> {
        let odd = node_key(peer).is_some_and(|key| key.iter().fold(0, |all, byte| all ^ byte) & 1 == 1);
        self.twice.as_ref().filter(|_| self.malice == Malice::Equivocates).map(|[one, other]| if odd { one } else { other })
    }

    async fn serve(mut self, peer: PeerId, mut stream: Stream) -> io::Result<()> {
        let hello = Hello {
            kind: number::HELLO,
            protocol: PROTOCOL_VERSION,
            software: "huecry rehearsal".to_owned(),
            charter_version: 1,
            charter_hash: Hash([0; 32]),
            stamp: None,
            cards: Vec::new(),
            rival_hash: None,
        };
        stream.write_all(&frame(&Message::Hello(hello))).await?;
        stream.flush().await?;
        if matches!(self.malice, Malice::Equivocates | Malice::Hoards) {
            drop(self.begin.wait_for(|begin| *begin).await);
            tokio::time::sleep(self.delay).await;
        }
        if self.malice == Malice::Hoards {
            return self.hoard(stream).await;
        }
        if self.malice == Malice::Forges {
            return self.forge(stream).await;
        }
        if let Some((head, _)) = self.branch(&peer) {
            let announce = Message::Announce(Announce { kind: number::ANNOUNCE, head: head.clone().into() });
            stream.write_all(&frame(&announce)).await?;
            stream.flush().await?;
        }
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length).await?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > FRAME_BYTES_MAX {
                return Ok(());
            }
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).await?;
            let Ok(Some(message)) = Message::decode(&bytes) else { continue };
            let told = match (&message, self.branch(&peer)) {
                (Message::Pull(pull), Some((_, body))) if self.feeds.first() == Some(&pull.feed.clone().into()) => {
                    let (request, body) = (pull.request, body.clone().into());
                    vec![Message::Body(Body { kind: number::BODY, request, body, withheld: None, path: Vec::new() })]
                }
                _ => self.answer(message).await,
            };
            for answer in told {
                stream.write_all(&frame(&answer)).await?;
            }
            stream.flush().await?;
        }
    }

    /// Asks for all of every feed, again and again, and leaves the answers where they are until it is cut off.
    async fn hoard(self, mut stream: Stream) -> io::Result<()> {
        for (request, feed) in (1..HOARDED).zip(self.feeds.iter().cycle()) {
            let (first, bytes_max) = (1, u64::MAX);
            let range =
                Range { kind: number::RANGE, request, feed: feed.into(), first, last: RANGE_BATCHES_MAX, bytes_max, removals: None };
            stream.write_all(&frame(&Message::Range(range))).await?;
            stream.flush().await?;
        }
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        Ok(())
    }

    /// Sends forged documents until the connection ends, and discards what arrives.
    async fn forge(self, stream: Stream) -> io::Result<()> {
        let (reading, mut writing) = stream.split();
        tokio::spawn(async move {
            let mut reading = reading;
            while let Ok(1..) = reading.read(&mut [0; 4_096]).await {}
        });
        let frames: Vec<Vec<u8>> =
            self.forged.iter().flat_map(|(document, bytes)| document_messages(*document, bytes)).map(|message| frame(&message)).collect();
        loop {
            for frame in &frames {
                writing.write_all(frame).await?;
            }
            writing.flush().await?;
        }
    }

    async fn answer(&mut self, message: Message) -> Vec<Message> {
        let request = match message {
            Message::Digest(_) if self.malice == Malice::Lies => {
                let head = Hash(self.dice.seed());
                let claim = |feed: &FeedId| Cursor { feed: feed.into(), intervals: vec![(1, 100_000)], head, incomplete: None };
                let cursors = self.feeds.iter().map(claim).collect();
                return vec![Message::Cursors(Cursors { kind: number::CURSORS, cursors, more: false })];
            }
            Message::Digest(Digest { .. }) => {
                return vec![Message::Cursors(Cursors { kind: number::CURSORS, cursors: Vec::new(), more: false })];
            }
            Message::Pull(pull) => pull.request,
            Message::Range(range) => range.request,
            _ => return Vec::new(),
        };
        let end = Message::End(End { kind: number::END, request, more: self.dice.percent(50) });
        match self.malice {
            Malice::Drops | Malice::Equivocates | Malice::Floods | Malice::Hoards | Malice::Forges | Malice::Clones => Vec::new(),
            Malice::Delays => {
                tokio::time::sleep(Duration::from_secs(3)).await;
                vec![end]
            }
            Malice::Withholds => vec![end],
            Malice::Lies => {
                let rubbish = self.dice.seed().to_vec().into();
                vec![Message::Body(Body { kind: number::BODY, request, body: rubbish, withheld: None, path: Vec::new() }), end]
            }
        }
    }
}
