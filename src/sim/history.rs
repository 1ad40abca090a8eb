//! A history: the quiet core of a few nodes, driven by a seed through loss, cuts, late joiners and hostile peers.
//!
//! Time is a number and every message an event in one queue, so a seed always makes the same history, and a failure replays
//! bit for bit. Real are replication, intake, audiences, signatures and parts; made up are links, gossip and the ledger.
//!
//! Promise tested: when the network has healed and some time has passed, every honest node holds every batch that honest
//! members published to it, whole, and nobody holds what it may not have.

use super::{Dice, federation, federation::Federation};
use crate::{
    charter::Quota,
    envelope::{Audience, Class, Hash, Head, ProvedBatch, ProvedHead, SignedHead, encode_full, merkle::Seed, part_of, root_of},
    intake::{Defaults, Intake, Known, Limits, Placed, ReadBatch, Spans},
    policy::{Lists, Policy, Starter, Way, may_gossip, may_send},
    record::{DAY_MS, FeedId, HOUR_MS, Indicator, MINUTE_MS, MemberId, Observable, Record, RecordRef, Timestamp, Tlp},
    replica::{
        Announce, Body, Cursor, Cursors, Digest, Effect, End, Message, Order, PeerKey, RANGE_BATCHES_MAX, RangeHead, Refused, Replica,
        Served, digest_of, number,
    },
    timekeeping::{CLOCK_SKEW_MS, Now, Reading, Timekeeper},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

/// What a history is like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// How many of them are hostile: the last ones.
    pub hostile: usize,
    pub batches: usize,
    /// Of gossiped heads, how many of a hundred are lost on each link.
    pub gossip_loss: u64,
    /// How often links are cut and mended.
    pub cuts: usize,
    /// Nodes that are not there in the first half.
    pub late: usize,
    /// Withhold single records by policy, each from some readers.
    pub withholding: bool,
    /// Rate at which the clock of an honest node is set wrong, in any direction, for a while.
    pub wrong_clocks: usize,
    /// The way of all hostile nodes; otherwise each draws its own.
    pub malice: Option<Malice>,
    /// Time that the history continues after everything has settled, in milliseconds; traffic in it is waste.
    pub idle_ms: u64,
    pub order: Order,
}

/// How a history ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What went wrong; nothing, if all is well.
    pub faults: Vec<String>,
    /// SHA-256 over everything that happened, in order.
    pub trace: Hash,
    /// Messages that were delivered.
    pub messages: u64,
    /// When the last honest node had the last batch, after the last publication, in ms.
    pub settled_ms: u64,
    /// Bytes that honest nodes sent while nothing new was to be had ([`Plan::idle_ms`]).
    pub idle_bytes: u64,
}

/// What a hostile node does with what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malice {
    /// Answers nothing.
    Silent,
    /// Says that there is nothing.
    Denies,
    /// Claims everything and sends rubbish.
    Lies,
    /// Answers after three seconds.
    Delays,
    /// Sends batches without any record.
    Empties,
}

impl Malice {
    /// Every way of being hostile.
    pub const ALL: [Self; 5] = [Self::Silent, Self::Denies, Self::Lies, Self::Delays, Self::Empties];
}

struct Stored {
    head: ProvedHead,
    body: Vec<u8>,
    withheld: u16,
}

/// A ledger in memory.
#[derive(Default)]
struct Store {
    feeds: BTreeMap<FeedId, BTreeMap<u64, Stored>>,
}

impl Known for Store {
    fn position(&self, feed: &FeedId) -> Option<(u64, Hash)> {
        self.feeds.get(feed)?.last_key_value().map(|(seq, one)| (*seq, one.head.id()))
    }
    fn spans(&self, feed: &FeedId) -> Spans {
        let mut spans = Spans::default();
        self.feeds.get(feed).into_iter().flat_map(BTreeMap::keys).for_each(|seq| spans.insert(*seq));
        spans
    }
    fn head_at(&self, feed: &FeedId, seq: u64) -> Option<Hash> {
        self.feeds.get(feed)?.get(&seq).map(|one| one.head.id())
    }
    fn names_before(&self, feed: &FeedId, seq: u64) -> Option<Hash> {
        self.feeds.get(feed)?.get(&seq)?.head.head().prev
    }
    fn quarantined(&self, _: &FeedId) -> bool {
        false
    }
    fn defaults(&self, _: &RecordRef) -> Option<Arc<Defaults>> {
        None
    }
    fn disputed_by(&self, _: Option<&Observable>, _: &RecordRef, _: Tlp, _: Timestamp) -> BTreeSet<MemberId> {
        BTreeSet::new()
    }
}

struct Node {
    member: MemberId,
    key: PeerKey,
    replica: Replica,
    store: Store,
    malice: Option<Malice>,
    /// Open streams, and which opening of them this is.
    open: BTreeMap<usize, u64>,
    present: bool,
    /// Heads that it has passed on.
    gossiped: BTreeSet<Hash>,
    revision: u64,
    keeper: Timekeeper,
    /// Error of its wall clock, in milliseconds.
    clock_error: i64,
}

enum Happening {
    Frame {
        from: usize,
        to: usize,
        opening: u64,
        message: Box<Message>,
    },
    Gossip {
        from: usize,
        to: usize,
        head: Vec<u8>,
    },
    Publish {
        author: usize,
        removal: bool,
    },
    Link {
        one: usize,
        other: usize,
        up: bool,
    },
    Join {
        node: usize,
    },
    Tick {
        node: usize,
    },
    Clock {
        node: usize,
        error: i64,
    },
    /// The door has taken a batch.
    Door {
        node: usize,
        effect: Box<Effect>,
    },
}

/// How long a history goes on after its last publication and mending.
const SETTLE_MS: u64 = 90_000;
/// How often a node's replication is given the time.
const TICK_MS: u64 = 50;

/// Errors of wall clocks: by minutes, hours, and more than a year, both ways.
const CLOCK_ERRORS_MS: [i64; 6] = [
    400 * DAY_MS as i64,
    -400 * (DAY_MS as i64),
    2 * HOUR_MS as i64,
    -2 * (HOUR_MS as i64),
    20 * MINUTE_MS as i64,
    -20 * (MINUTE_MS as i64),
];

struct World {
    plan: Plan,
    dice: Dice,
    federation: Federation,
    intake: Intake,
    nodes: Vec<Node>,
    now: u64,
    begun: u64,
    idle_from: u64,
    idle_bytes: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    serial: u64,
    openings: u64,
    trace: Hash,
    messages: u64,
    settled: u64,
    published_at: u64,
    /// Frames in one direction of a link arrive in order.
    arrives: BTreeMap<(usize, usize), u64>,
    faults: Vec<String>,
}

/// Plays one history.
pub fn play(plan: &Plan) -> Result<Ending, String> {
    let mut world = World::new(plan.clone())?;
    world.script();
    while let Some(Reverse((at, serial))) = world.queue.pop() {
        world.now = at;
        if let Some(happening) = world.happenings.remove(&serial) {
            world.note(at, serial);
            world.happen(happening)?;
        }
    }
    world.look();
    let World { faults, trace, messages, settled, published_at, idle_bytes, .. } = world;
    Ok(Ending { faults, trace, messages, settled_ms: settled.saturating_sub(published_at), idle_bytes })
}

impl World {
    fn new(plan: Plan) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let mut dice = Dice::new(plan.seed);
        let start = Timestamp::from_ms(1_790_000_000_000).unwrap_or_default();
        let quota = Quota { records_per_second: 1_000_000, burst_records: 1_000_000, records_per_day: 1 << 40, bytes_per_day: 1 << 40 };
        let federation = federation::found(plan.nodes, quota, start, &mut dice, |_, _| Vec::new()).map_err(|error| said(&error))?;
        let policy =
            Policy::of(vec![crate::policy::Piece::new("starter", Starter::Vendor.policy().to_owned())]).map_err(|error| said(&error))?;
        let intake = Intake {
            roster: Arc::new(federation.roster.clone()),
            policy: Arc::new(policy),
            lists: Arc::new(Lists::default()),
            limits: Limits::default(),
        };
        let all = Malice::ALL;
        let honest = plan.nodes - plan.hostile;
        let mut nodes = Vec::new();
        for (number, actor) in federation.actors.iter().enumerate() {
            let kind = usize::try_from(dice.below(all.len() as u64)).unwrap_or(0);
            let mut replica = Replica::default();
            replica.set_order(plan.order);
            nodes.push(Node {
                member: actor.id.clone(),
                key: actor.node.public().to_bytes(),
                replica,
                store: Store::default(),
                malice: plan.malice.or(all.get(kind).copied()).filter(|_| number >= honest),
                open: BTreeMap::new(),
                present: true,
                gossiped: BTreeSet::new(),
                revision: 0,
                keeper: Timekeeper::start(Reading { wall: start, steady_ms: 0 }, "first", None, start),
                clock_error: 0,
            });
        }
        Ok(Self {
            plan,
            dice,
            federation,
            intake,
            nodes,
            now: start.ms(),
            begun: start.ms(),
            idle_from: u64::MAX,
            idle_bytes: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            serial: 0,
            openings: 0,
            trace: Hash([0; 32]),
            messages: 0,
            settled: 0,
            published_at: 0,
            arrives: BTreeMap::new(),
            faults: Vec::new(),
        })
    }

    fn note(&mut self, at: u64, what: u64) {
        self.trace = Hash::of(&[&self.trace.0[..], &at.to_be_bytes(), &what.to_be_bytes()].concat());
    }

    fn later(&mut self, ms: u64, happening: Happening) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + ms, self.serial)));
        self.happenings.insert(self.serial, happening);
    }

    /// Decides beforehand what will happen by itself: links, publications, cuts.
    fn script(&mut self) {
        let count = self.nodes.len();
        let late: BTreeSet<usize> = (0..self.plan.late.min(count)).collect();
        let span = 400 * self.plan.batches as u64;
        for node in 0..count {
            let at = if late.contains(&node) { span / 2 + self.dice.below(span / 2 + 1) } else { self.dice.below(200) };
            if let Some(node) = self.nodes.get_mut(node) {
                node.present = false;
            }
            self.later(at, Happening::Join { node });
        }
        for _batch in 0..self.plan.batches {
            let at = 300 + self.dice.below(span);
            // Hostile ones publish nothing: what they owe to whom is nobody's promise.
            let author = usize::try_from(self.dice.below((count - self.plan.hostile) as u64)).unwrap_or(0);
            let removal = self.dice.percent(15);
            self.later(at, Happening::Publish { author, removal });
        }
        for _cut in 0..self.plan.cuts {
            let one = usize::try_from(self.dice.below(count as u64)).unwrap_or(0);
            let other = usize::try_from(self.dice.below(count as u64)).unwrap_or(0);
            let (at, length) = (self.dice.below(span), self.dice.below(span));
            self.later(at, Happening::Link { one, other, up: false });
            self.later(at + length, Happening::Link { one, other, up: true });
        }
        let end = 2 * span + 300;
        for number in 0..self.plan.wrong_clocks {
            let node = usize::try_from(self.dice.below((count - self.plan.hostile) as u64)).unwrap_or(0);
            let error = CLOCK_ERRORS_MS.get(number % CLOCK_ERRORS_MS.len()).copied().unwrap_or(0);
            let (at, length) = (self.dice.below(span), 1 + self.dice.below(span));
            self.later(at, Happening::Clock { node, error });
            self.later((at + length).min(end), Happening::Clock { node, error: 0 });
        }
        for one in 0..count {
            for other in one + 1..count {
                self.later(end, Happening::Link { one, other, up: true });
            }
        }
        let mut at = 0;
        self.idle_from = self.now + end + SETTLE_MS;
        while at < end + SETTLE_MS + self.plan.idle_ms {
            for node in 0..count {
                self.later(at + node as u64, Happening::Tick { node });
            }
            // In the end there is time enough: a look every half second will do.
            at += if at < end + 20_000 { TICK_MS } else { 500 };
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_ms(self.now).unwrap_or_default()
    }

    /// The time by a node's clock.
    fn moment(&self, node: usize) -> Now {
        self.nodes.get(node).map_or_else(|| self.time().into(), |one| one.keeper.now(self.reading(one.clock_error)))
    }

    /// The clocks of a machine whose wall clock is wrong by so much.
    fn reading(&self, error: i64) -> Reading {
        let wall = Timestamp::from_ms(self.now.saturating_add_signed(error)).unwrap_or_default();
        Reading { wall, steady_ms: self.now.saturating_sub(self.begun) }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Join { node } => {
                if let Some(one) = self.nodes.get_mut(node) {
                    one.present = true;
                }
                for other in 0..self.nodes.len() {
                    self.link(node, other, true);
                }
            }
            Happening::Link { one, other, up } => self.link(one, other, up),
            Happening::Clock { node, error } => {
                if let Some(one) = self.nodes.get_mut(node) {
                    one.clock_error = error;
                }
            }
            Happening::Tick { node } => {
                let reading = self.reading(self.nodes.get(node).map_or(0, |one| one.clock_error));
                let _changed = self.nodes.get_mut(node).map(|one| one.keeper.look(reading));
                let now = self.moment(node).best;
                let Some(one) = self.nodes.get_mut(node).filter(|one| one.present) else { return Ok(()) };
                let store = &one.store;
                let mut effects = one.replica.tick(|feed| store.spans(feed), now);
                if (self.now / TICK_MS).is_multiple_of(20) {
                    let lacking = |(feed, batches): (&FeedId, &BTreeMap<u64, Stored>)| {
                        let seqs: Vec<u64> = batches.iter().filter(|(_, one)| one.withheld > 0).map(|(seq, _)| *seq).collect();
                        (!seqs.is_empty()).then(|| (feed.clone(), seqs))
                    };
                    let lacking = store.feeds.iter().filter_map(lacking).collect();
                    effects.extend(one.replica.recover(lacking, now));
                }
                self.carry_out(node, effects);
            }
            Happening::Publish { author, removal } => self.publish(author, removal)?,
            Happening::Gossip { from, to, head } => self.gossiped(from, to, &head),
            Happening::Frame { from, to, opening, message } => {
                let open = self.nodes.get(to).and_then(|node| node.open.get(&from));
                if open == Some(&opening) {
                    self.messages += 1;
                    self.frame(from, to, *message);
                }
            }
            Happening::Door { node, effect } => self.door(node, *effect),
        }
        Ok(())
    }

    fn link(&mut self, one: usize, other: usize, up: bool) {
        let now = self.time();
        let there = |node: usize| self.nodes.get(node).is_some_and(|node| node.present);
        if one == other || !there(one) || !there(other) {
            return;
        }
        self.openings += 1;
        let opening = self.openings;
        for (a, b) in [(one, other), (other, one)] {
            let Some((key, member)) = self.nodes.get(b).map(|node| (node.key, node.member.clone())) else { continue };
            let Some(node) = self.nodes.get_mut(a) else { continue };
            if up && !node.open.contains_key(&b) {
                node.open.insert(b, opening);
                let effects = node.replica.connected(key, member, now);
                self.carry_out(a, effects);
            } else if !up && node.open.remove(&b).is_some() {
                node.replica.gone(&key);
            }
        }
    }

    fn publish(&mut self, author: usize, removal: bool) -> Result<(), String> {
        let moment = self.moment(author);
        if moment.doubted && !removal {
            // As the door does; its operator tries again.
            self.later(1_000, Happening::Publish { author, removal });
            return Ok(());
        }
        let now = if moment.doubted { moment.earliest } else { moment.best };
        if now > self.time().plus_ms(CLOCK_SKEW_MS) || (!removal && now.plus_ms(CLOCK_SKEW_MS) < self.time()) {
            self.faults.push(format!("node {author} publishes with the date {now} at {}", self.time()));
        }
        let closed = self.dice.percent(40) && author * 2 < self.nodes.len();
        let (seed, count) = (self.dice.seed(), 1 + self.dice.below(6));
        let Some((node, actor)) = self.nodes.get_mut(author).zip(self.federation.actors.get(author)).filter(|(node, _)| node.present)
        else {
            return Ok(());
        };
        let name = if closed { federation::CLOSED } else { federation::OPEN };
        let channel = name.parse().map_err(|_| "a channel's name".to_owned())?;
        let feed = FeedId { member: actor.id.clone(), channel, lane: 0, epoch: 1 };
        let last = node.store.position(&feed);
        let seq = last.map_or(1, |(seq, _)| seq + 1);
        let record = |at: u64| -> Result<Vec<u8>, String> {
            let value = Observable::recognise(&format!("{}-{seq}-{at}.example", actor.id)).map_err(|error| error.to_string())?;
            Record::Indicator(Indicator::of(value, None)).encode().map_err(|error| error.to_string())
        };
        let records = (0..count).map(record).collect::<Result<Vec<_>, _>>()?;
        let mut short = [0; 16];
        short.iter_mut().zip(seed).for_each(|(to, from)| *to = from);
        let seed = Seed(short);
        let body = encode_full(&seed, &records);
        let audience = if closed { federation::circle().map_err(|error| error.to_string())? } else { Audience::federation() };
        let head = Head {
            format: 1,
            member: feed.member.clone(),
            channel: feed.channel.clone(),
            lane: 0,
            epoch: 1,
            audience,
            seq,
            prev: last.map(|(_, id)| id),
            floor_seq: 1,
            time: now,
            tlp: if closed { Tlp::Amber } else { Tlp::Green },
            // What a removal holds is not looked at here; that it overtakes is.
            class: if removal { Class::Removal } else { Class::Content },
            count: u16::try_from(records.len()).unwrap_or(u16::MAX),
            body_length: u32::try_from(body.len()).unwrap_or(u32::MAX),
            root: root_of(&seed, &records),
        };
        let head = SignedHead::sign(&head, &actor.publishing, &self.intake.roster.federation()).map_err(|error| error.to_string())?;
        let bytes = head.bytes().to_vec();
        let gossiped = may_gossip(head.head());
        node.store.feeds.entry(feed.clone()).or_default().insert(seq, Stored { head, body, withheld: 0 });
        self.published_at = self.now;
        if gossiped {
            self.forward(author, None, &bytes);
        }
        self.kept(author, &feed, seq, None, true);
        Ok(())
    }

    /// Gossips a head to everyone linked, over lossy links.
    fn forward(&mut self, node: usize, except: Option<usize>, head: &[u8]) {
        let peers: Vec<usize> = self.nodes.get(node).map(|node| node.open.keys().copied().collect()).unwrap_or_default();
        for to in peers.into_iter().filter(|to| Some(*to) != except) {
            if !self.dice.percent(self.plan.gossip_loss) {
                let delay = 20 + self.dice.below(80);
                self.later(delay, Happening::Gossip { from: node, to, head: head.to_vec() });
            }
        }
    }

    fn gossiped(&mut self, from: usize, to: usize, head: &[u8]) {
        let silent = self.nodes.get(to).is_none_or(|node| !node.open.contains_key(&from));
        if silent || !self.heard(from, to, head) {
            return;
        }
        let hostile = self.nodes.get(to).is_some_and(|node| node.malice.is_some());
        let first = self.nodes.get_mut(to).is_some_and(|node| node.gossiped.insert(Hash::of(head)));
        // A hostile node passes nothing on.
        if first && !hostile {
            self.forward(to, Some(from), head);
        }
    }

    /// A head, by gossip or by stream: proved, placed, and its body asked for. Answers whether it may be passed on.
    fn heard(&mut self, from: usize, to: usize, bytes: &[u8]) -> bool {
        let moment = self.moment(to);
        let now = moment.best;
        let Some(peer) = self.nodes.get(from).map(|node| node.key) else { return false };
        let Some(node) = self.nodes.get_mut(to) else { return false };
        match self.intake.place(bytes, moment, &node.store) {
            Ok(Placed::Next(head) | Placed::Ahead { head, .. } | Placed::Gap(head)) => {
                if !self.intake.roster.addresses(&head.head().audience, &head.head().member, &node.member) {
                    self.faults.push(format!("{} was told of a feed that is not for it", node.member));
                    return false;
                }
                let held = node.store.spans(&head.head().feed());
                let effects = node.replica.heard(head, peer, &held, now);
                self.carry_out(to, effects);
                true
            }
            _ => false,
        }
    }

    fn send(&mut self, from: usize, to: &PeerKey, message: Message) {
        let Some(at) = self.nodes.iter().position(|node| node.key == *to) else { return };
        let Some(opening) = self.nodes.get(from).and_then(|node| node.open.get(&at)).copied() else { return };
        if self.now >= self.idle_from && self.nodes.get(from).is_some_and(|one| one.malice.is_none()) {
            self.idle_bytes += message.encode().len() as u64;
        }
        // A frame is one unit of a byte stream: lost means late, and what follows waits behind it.
        let lost = if self.dice.percent(2) { 300 } else { 0 };
        let delay = 20 + self.dice.below(60) + lost;
        let slot = self.arrives.entry((from, at)).or_default();
        *slot = (*slot).max(self.now + delay);
        let delay = *slot - self.now;
        self.later(delay, Happening::Frame { from, to: at, opening, message: Box::new(message) });
    }

    fn cursors_for(&self, node: usize, reader: usize) -> Vec<Cursor> {
        let (Some(one), Some(reader)) = (self.nodes.get(node), self.nodes.get(reader)) else { return Vec::new() };
        let now = self.time();
        let mut cursors = Vec::new();
        for (feed, batches) in &one.store.feeds {
            let Some((_, last)) = batches.last_key_value() else { continue };
            let as_content = Head { class: Class::Content, ..last.head.head().clone() };
            if may_send(&self.intake.roster, &as_content, &reader.member, now, Way::Published).is_err() {
                continue;
            }
            let mut intervals = one.store.spans(feed).intervals().to_vec();
            if one.malice == Some(Malice::Lies) {
                intervals = vec![(1, batches.len() as u64 * 3 + 10)];
            }
            cursors.push(Cursor { feed: feed.into(), intervals, head: last.head.id(), incomplete: None });
        }
        cursors
    }

    fn frame(&mut self, from: usize, to: usize, message: Message) {
        let moment = self.moment(to);
        let (now, steady_ms) = (moment.best, self.now.saturating_sub(self.begun));
        let Some(peer) = self.nodes.get(from).map(|node| node.key) else { return };
        if let Message::Announce(announce) = &message {
            self.heard(from, to, &announce.head);
            return;
        }
        if let Message::Digest(theirs) = &message {
            let ours = self.cursors_for(to, from);
            let same = digest_of(&ours) == theirs.hash;
            let teller = self.nodes.get(from).map(|one| one.member.clone());
            let Some(node) = self.nodes.get_mut(to) else { return };
            if let (Some(time), Some(teller)) = (theirs.time, &teller) {
                node.keeper.hear(teller, time, steady_ms);
            }
            node.replica.digest(peer, theirs.revision.unwrap_or(0));
            if same {
                node.replica.same(peer, &ours);
            } else {
                self.send(to, &peer, Message::Cursors(Cursors { kind: number::CURSORS, cursors: ours, more: false }));
            }
            return;
        }
        let Some(node) = self.nodes.get_mut(to) else { return };
        let Node { replica, store, .. } = node;
        let held = |feed: &FeedId| store.spans(feed);
        let effects = match message {
            Message::Cursors(theirs) => replica.cursors(peer, theirs.cursors, held, now),
            Message::Pull(pull) => {
                let held = store.spans(&pull.feed.clone().into()).contains(pull.seq);
                replica.pulled(peer, pull, held)
            }
            Message::Range(range) => replica.ranged(peer, range),
            Message::RangeHead(part) => {
                match self.intake.place(&part.head, moment, store) {
                    Ok(Placed::Next(head) | Placed::Ahead { head, .. } | Placed::Gap(head)) => replica.range_head(peer, part.request, head),
                    Ok(_) => (),
                    Err(_) => replica.range_failed(peer, part.request),
                }
                Vec::new()
            }
            Message::Body(body) => replica.body(peer, body, held, now),
            Message::End(end) => replica.ended(peer, &end, held, now),
            _ => Vec::new(),
        };
        self.carry_out(to, effects);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(node, &to, message),
                Effect::Submit { .. } | Effect::Fill { .. } => {
                    let delay = 1 + self.dice.below(5);
                    self.later(delay, Happening::Door { node, effect: Box::new(effect) });
                }
                Effect::ServeBody { to, request, feed, seq } => self.serve(node, &to, request, &feed, (seq, seq), false, false),
                Effect::ServeRange { to, request, feed, first, last, removals, .. } => {
                    self.serve(node, &to, request, &feed, (first, last), removals, true);
                }
                Effect::Announce { feed, seq, except } => self.announce(node, &feed, seq, except),
                Effect::SendDigest { to } => {
                    let Some(reader) = self.nodes.iter().position(|one| one.key == to) else { continue };
                    let hash = digest_of(&self.cursors_for(node, reader));
                    let revision = self.nodes.get(node).map(|node| node.revision);
                    let moment = self.moment(node);
                    let lies = self.nodes.get(node).is_some_and(|one| one.malice == Some(Malice::Lies));
                    let time = if lies { moment.best.plus_ms(400 * DAY_MS) } else { moment.best };
                    let time = (!moment.doubted).then_some(time);
                    self.send(node, &to, Message::Digest(Digest { kind: number::DIGEST, hash, revision, time }));
                }
            }
        }
    }

    fn announce(&mut self, node: usize, feed: &FeedId, seq: u64, except: Option<PeerKey>) {
        let now = self.time();
        let Some(one) = self.nodes.get(node).filter(|one| one.malice.is_none()) else { return };
        let Some(stored) = one.store.feeds.get(feed).and_then(|batches| batches.get(&seq)) else { return };
        let head = stored.head.clone();
        let readers = one.open.keys().filter_map(|peer| self.nodes.get(*peer));
        let may = |reader: &&Node| may_send(&self.intake.roster, head.head(), &reader.member, now, Way::Published).is_ok();
        let keys: Vec<PeerKey> = readers.filter(may).map(|reader| reader.key).filter(|key| Some(*key) != except).collect();
        for key in keys {
            let announce = Announce { kind: number::ANNOUNCE, head: head.bytes().to_vec().into() };
            self.send(node, &key, Message::Announce(announce));
        }
    }

    /// Whether a node's policy keeps a record from a reader: some records from some readers, never all from all.
    fn withholds(&self, node: usize, reader: &MemberId, feed: &FeedId, seq: u64, index: u16) -> bool {
        let Some(one) = self.nodes.get(node).filter(|one| self.plan.withholding && one.member != feed.member) else { return false };
        let hash = Hash::of(format!("{}{reader}{feed}{seq}{index}", one.member).as_bytes());
        hash.0.first().is_some_and(|byte| byte % 3 == 0)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the request's own fields")]
    fn serve(&mut self, node: usize, to: &PeerKey, request: u64, feed: &FeedId, span: (u64, u64), removals: bool, with_heads: bool) {
        let now = self.time();
        let Some(reader) = self.nodes.iter().find(|one| one.key == *to).map(|one| one.member.clone()) else { return };
        let Some(one) = self.nodes.get(node) else { return };
        let malice = one.malice;
        let mut out = Vec::new();
        let batches = one.store.feeds.get(feed).into_iter().flat_map(|batches| batches.range(span.0..=span.1.max(span.0)));
        for (seq, stored) in batches.take(usize::try_from(RANGE_BATCHES_MAX).unwrap_or(usize::MAX)) {
            let head = stored.head.head();
            let may = may_send(&self.intake.roster, head, &reader, now, Way::Published).is_ok();
            if !may || (removals && head.class != Class::Removal) {
                continue;
            }
            let keep = |index: u16| malice != Some(Malice::Empties) && !self.withholds(node, &reader, feed, *seq, index);
            let all = head.class == Class::Removal || (0..head.count).all(keep);
            let Ok(part) = part_of(&stored.body, head.count, keep) else { continue };
            let mut body = if all { stored.body.clone() } else { part };
            let held_back = (0..head.count).filter(|index| !keep(*index)).count() as u64;
            if malice == Some(Malice::Lies) {
                body.iter_mut().for_each(|byte| *byte ^= 0x55);
            }
            let withheld = Some(u64::from(stored.withheld) + if all { 0 } else { held_back }).filter(|count| *count > 0);
            if with_heads {
                out.push(Message::RangeHead(RangeHead { kind: number::RANGE_HEAD, request, head: stored.head.bytes().to_vec().into() }));
            }
            out.push(Message::Body(Body { kind: number::BODY, request, body: body.into(), withheld, path: Vec::new() }));
        }
        match malice {
            Some(Malice::Silent) => return,
            Some(Malice::Denies) => out.clear(),
            Some(Malice::Delays) => {
                if let Some(at) = self.nodes.iter().position(|one| one.key == *to) {
                    let slot = self.arrives.entry((node, at)).or_default();
                    *slot = (*slot).max(self.now + 3_000);
                }
            }
            _ => (),
        }
        if with_heads || out.is_empty() {
            out.push(Message::End(End { kind: number::END, request, more: false }));
        }
        out.into_iter().for_each(|message| self.send(node, to, message));
    }

    fn door(&mut self, node: usize, effect: Effect) {
        let moment = self.moment(node);
        let now = moment.best;
        let Some(one) = self.nodes.get_mut(node) else { return };
        match effect {
            Effect::Submit { head, served: Served { body, withheld, from, .. }, beyond } => {
                let (feed, seq) = (head.head().feed(), head.head().seq);
                let read = ReadBatch::open((*head).clone(), body.clone());
                match read.and_then(|read| self.intake.admit(read, moment, &one.store, beyond)) {
                    Ok(_) => {
                        let stored = Stored { head: *head, body, withheld };
                        one.store.feeds.entry(feed.clone()).or_default().insert(seq, stored);
                        self.settled = self.now;
                        let restricted = self.nodes.get(node).is_some_and(|one| {
                            one.store.feeds.get(&feed).and_then(|batches| batches.get(&seq)).is_some_and(|one| !may_gossip(one.head.head()))
                        });
                        self.kept(node, &feed, seq, Some(from), restricted);
                    }
                    Err(refusal) => {
                        let held = one.store.spans(&feed);
                        let why = Refused { blame: refusal.blame == crate::intake::Blame::Reject, until: refusal.until };
                        let effects = one.replica.refused(&feed, seq, from, why, &held, now);
                        self.carry_out(node, effects);
                    }
                }
            }
            Effect::Fill { feed, seq, served: Served { body, withheld, .. } } => {
                let Some(stored) = one.store.feeds.get_mut(&feed).and_then(|batches| batches.get_mut(&seq)) else { return };
                let Ok(given) = ProvedBatch::open(stored.head.clone(), body) else { return };
                let Ok(merged) = given.with(&stored.body) else { return };
                stored.withheld = if merged.is_whole() { 0 } else { stored.withheld.min(withheld.max(1)) };
                stored.body = merged.body().to_vec();
                one.revision += 1;
                self.settled = self.now;
            }
            _ => (),
        }
    }

    fn kept(&mut self, node: usize, feed: &FeedId, seq: u64, from: Option<PeerKey>, announce: bool) {
        let now = self.moment(node).best;
        let Some(one) = self.nodes.get_mut(node) else { return };
        let held = one.store.spans(feed);
        let effects = one.replica.kept(feed, seq, from, announce, &held, now);
        self.carry_out(node, effects);
    }

    /// Compares what everyone holds with what everyone should.
    fn look(&mut self) {
        let now = self.time();
        let mut faults = std::mem::take(&mut self.faults);
        for node in self.nodes.iter().filter(|node| node.malice.is_none()) {
            if let Some(doubt) = node.keeper.doubt() {
                faults.push(format!("{} still doubts its clock, which is right: {doubt}", node.member));
            }
            for author in self.nodes.iter().filter(|author| author.malice.is_none()) {
                for (feed, batches) in author.store.feeds.iter().filter(|(feed, _)| feed.member == author.member) {
                    for (seq, stored) in batches {
                        let may = may_send(&self.intake.roster, stored.head.head(), &node.member, now, Way::Published).is_ok();
                        let has = node.store.feeds.get(feed).and_then(|batches| batches.get(seq));
                        match has {
                            None if may => faults.push(format!("{} lacks {feed}#{seq}", node.member)),
                            Some(_) if !may => faults.push(format!("{} holds {feed}#{seq}, which is not for it", node.member)),
                            Some(one) if one.withheld > 0 => faults.push(format!("{} holds only part of {feed}#{seq}", node.member)),
                            _ => (),
                        }
                    }
                }
            }
        }
        self.faults = faults;
    }
}
