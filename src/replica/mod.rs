//! Replica: how batches travel between nodes.
//!
//! In: heads that were proved and placed, messages, ticks, word from the ledger; the time. Out: [`Effect`]s for the shell.
//!
//! ```text
//! head heard -> ask its announcer for the body -250 ms-> ask another, the author, ... -> Submit
//! cursors -> what peers have and we lack -> Ranges from several peers at once -> Submit
//! kept -> serve whoever parked a request; announce it where gossip may not; ask whoever gave it for the next, ahead
//! part of a batch kept -> ask others for the rest, and again whose revision has risen -> Fill
//! ```
//!
//! Gossip is lossy by nature, and here nothing depends on it: cursors are compared on every new connection and every ten
//! seconds. Submitted is in order of seq, but removals overtake, and what nobody connected can give is stepped over and
//! filled later. Not here: proofs (`intake`), entitlement (`policy::may_send`, asked by the shell for every byte it serves).

mod ahead;
mod bundle;
mod contents;
mod deferral;
mod fetch;
mod follow;
mod message;

pub use ahead::{AHEAD_PER_PEER_MAX, EARLY_BYTES_MAX, EXPECTED_MS};
pub use bundle::*;
pub use contents::*;
pub use follow::*;
pub use message::*;

use crate::{
    envelope::{Class, ProvedHead, shown_in},
    intake::Spans,
    record::{FeedId, MemberId, SECOND_MS, Timestamp},
};
use ahead::{Ahead, Parked};
use deferral::Deferrals;
use fetch::{Fetching, Pending, RangeUnderWay};
use std::collections::{BTreeMap, BTreeSet};

/// A node, by its public key.
pub type PeerKey = [u8; 32];

/// After this long without an answer another peer is asked for a body; where answers are slow, after twice what they take,
/// or asking twice would make them slower still.
pub const HEDGE_MS: u64 = 250;
/// However slow answers are, after this long another peer is asked.
pub const HEDGE_MS_MAX: u64 = 5 * SECOND_MS;
/// Peers asked for one body before one that shows nothing of it is taken, and before a pause.
pub const ASKED_MAX: usize = 8;
/// After a round of asking that brought nothing, the next begins after this.
pub const ROUND_MS: u64 = 2 * SECOND_MS;
/// A head whose body nobody gave for so long is forgotten; cursors bring it again.
pub const PENDING_MS_MAX: u64 = 60 * SECOND_MS;
/// A range that has brought nothing for this long is asked for elsewhere, if anybody else has it.
pub const RANGE_HEDGE_MS: u64 = SECOND_MS;
/// A range that has brought nothing for this long is given up.
pub const RANGE_TIMEOUT_MS: u64 = 10 * SECOND_MS;
/// However steadily a range trickles, after this long what it has not brought is asked for elsewhere.
pub const RANGE_MS_MAX: u64 = 60 * SECOND_MS;
/// How often cursors are compared with every peer.
pub const CURSOR_INTERVAL_MS: u64 = 10 * SECOND_MS;
/// Most batches asked for in one range; with small batches their number, not their bytes, is what fills queues.
pub const RANGE_BATCHES_MAX: u64 = 256;
/// About how many bytes one range may take.
pub const RANGE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most ranges under way at once: 96 MiB of bodies that wait for their turn, at worst.
pub const RANGES_MAX: usize = 24;
/// Most ranges of one feed under way at once, each from another peer if there are several.
pub const RANGES_PER_FEED_MAX: usize = 3;
/// Most ranges that one peer is asked for at once, so that a liar cannot take up all of them.
pub const RANGES_PER_PEER_MAX: usize = 3;
/// A peer that so many times in a row brought nothing is asked for one range at a time.
pub const FAILURES_MAX: u32 = 3;
/// Most intervals that are remembered of one peer's cursors: 256 KiB. Whole feeds have one.
pub const INTERVALS_PER_PEER_MAX: usize = 16 * 1024;
/// Most heads without bodies that are remembered of one feed; what is beyond comes by range.
pub const PENDING_PER_FEED_MAX: usize = 64;
/// Most bodies of one feed that wait for those before them: what its ranges may bring.
pub const WAITING_PER_FEED_MAX: usize = RANGES_PER_FEED_MAX * 256;
/// Most bytes of bodies, of all feeds, that wait for those before them.
pub const WAITING_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most batches that are with the door at once: less than its queue takes.
pub const SUBMITTED_MAX: usize = 512;
/// Most feeds for which anything is under way, and most that a peer's cursors are remembered of.
pub const FEEDS_MAX: usize = 4_096;
/// Most requests that one peer may park here.
pub const PARKED_PER_PEER_MAX: usize = 64;
/// Most members on the path of a re-shared batch that are believed and kept.
pub const PATH_MAX: usize = 16;
/// Most requests under way for what is lacking in batches that are here.
pub const RECOVERIES_MAX: usize = 64;

/// What a peer served of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub body: Vec<u8>,
    /// Records that it says it lacks or keeps back.
    pub withheld: u16,
    /// Through which members it came before, as the peer says: of what was re-shared.
    pub path: Vec<MemberId>,
    pub from: PeerKey,
}

impl Served {
    /// What `from` served in this message.
    pub fn of(from: PeerKey, body: Body) -> Self {
        let withheld = u16::try_from(body.withheld.unwrap_or(0)).unwrap_or(u16::MAX);
        let mut path = body.path;
        path.truncate(PATH_MAX);
        Self { body: body.body.into_vec(), withheld, path, from }
    }
}

/// How the door refused a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refused {
    /// Whoever served it had to know better.
    pub blame: bool,
    /// No content of its member is taken before this.
    pub until: Option<Timestamp>,
}

/// What the shell is to do.
#[derive(Clone, Debug)]
pub enum Effect {
    Send {
        to: PeerKey,
        message: Message,
    },
    /// Through the one door.
    Submit {
        head: Box<ProvedHead>,
        served: Served,
        beyond: bool,
    },
    /// More of a batch that is here, through the same door.
    Fill {
        feed: FeedId,
        seq: u64,
        served: Served,
    },
    /// Answer with this body, if the peer may have it.
    ServeBody {
        to: PeerKey,
        request: u64,
        feed: FeedId,
        seq: u64,
    },
    /// Answer with these batches, as far as the peer may have them.
    ServeRange {
        to: PeerKey,
        request: u64,
        feed: FeedId,
        first: u64,
        last: u64,
        bytes_max: u64,
        removals: bool,
    },
    /// Tell every connected peer that may know.
    Announce {
        feed: FeedId,
        seq: u64,
        except: Option<PeerKey>,
    },
    /// Compare cursors with this peer.
    SendDigest {
        to: PeerKey,
    },
}

/// Which end of what we lack comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Nothing waits for its report.
    #[default]
    OldestFirst,
    /// What attacks now, before what attacked last month.
    NewestFirst,
}

struct Peer {
    member: MemberId,
    /// What it says it has and may give us.
    cursors: BTreeMap<FeedId, Spans>,
    digest_at: Timestamp,
    /// Rises when it can give something that it could not before.
    revision: u64,
    /// Ranges in a row that brought nothing.
    failures: u32,
    /// What it waits for here.
    parked: Parked,
}

impl Peer {
    fn cursor(&mut self, feed: &FeedId) -> Option<&mut Spans> {
        if self.cursors.len() >= FEEDS_MAX && !self.cursors.contains_key(feed) {
            return None;
        }
        Some(self.cursors.entry(feed.clone()).or_default())
    }
}

/// A request for what is lacking in a batch that is here.
struct Recovery {
    peer: PeerKey,
    feed: FeedId,
    seq: u64,
    since: Timestamp,
}

/// The state of replication. `held` below is always the ledger's answer: the batches of a feed that are durable.
#[derive(Default)]
pub struct Replica {
    peers: BTreeMap<PeerKey, Peer>,
    feeds: BTreeMap<FeedId, Fetching>,
    ranges: BTreeMap<u64, RangeUnderWay>,
    pulls: BTreeMap<u64, (FeedId, u64)>,
    recoveries: BTreeMap<u64, Recovery>,
    /// Who was asked, at which revision, for what is lacking of a batch. As many as the shell names as lacking.
    asked_for_rest: BTreeMap<(FeedId, u64), BTreeMap<PeerKey, u64>>,
    /// What was asked for before it exists, one batch a feed.
    ahead: BTreeMap<FeedId, Ahead>,
    next_request: u64,
    submitted: usize,
    order: Order,
    /// Members whose content is not fetched now.
    deferrals: Deferrals,
    /// Bytes of bodies that wait for their turn.
    waiting_bytes: usize,
    /// How long bodies take to come since their head was heard, smoothed.
    answer_ms: u64,
}

impl Replica {
    /// From now on fetches from this end.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// A peer's stream is open.
    pub fn connected(&mut self, peer: PeerKey, member: MemberId, now: Timestamp) -> Vec<Effect> {
        self.peers
            .insert(peer, Peer { member, cursors: BTreeMap::new(), digest_at: now, revision: 0, failures: 0, parked: Parked::default() });
        vec![Effect::SendDigest { to: peer }]
    }

    /// A peer's stream is gone: what it was asked for is asked elsewhere.
    pub fn gone(&mut self, peer: &PeerKey) {
        self.peers.remove(peer);
        self.ahead.retain(|_, ahead| ahead.peer != *peer);
        self.recoveries.retain(|_, recovery| recovery.peer != *peer);
        self.asked_for_rest.values_mut().for_each(|asked| asked.retain(|one, _| one != peer));
        self.ranges.retain(|_, range| range.peer != *peer);
        for fetching in self.feeds.values_mut() {
            for pending in fetching.pending.values_mut() {
                pending.forget(peer);
            }
        }
    }

    /// Whether anything is under way that time may have to move.
    pub fn is_busy(&self) -> bool {
        !self.feeds.is_empty() || !self.ranges.is_empty()
    }

    /// Peers with an open stream.
    pub fn peers(&self) -> impl Iterator<Item = &PeerKey> {
        self.peers.keys()
    }

    fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// A head was proved that we do not hold. Its announcer is asked for the body at once.
    pub fn heard(&mut self, head: ProvedHead, from: PeerKey, held: &Spans, now: Timestamp) -> Vec<Effect> {
        let (feed, seq) = (head.head().feed(), head.head().seq);
        if held.contains(seq) || (self.feeds.len() >= FEEDS_MAX && !self.feeds.contains_key(&feed)) {
            return Vec::new();
        }
        // Whoever announces a batch has those before it, or soon will.
        if let Some(cursor) = self.peers.get_mut(&from).and_then(|peer| peer.cursor(&feed)) {
            cursor.insert_span(held.last().map_or(1, |last| last + 1).min(seq), seq);
        }
        // It comes when there is room for it.
        if head.head().class == Class::Content && self.deferrals.holds(&feed.member, now) {
            return Vec::new();
        }
        let fetching = self.feeds.entry(feed.clone()).or_default();
        if let Some(pending) = fetching.pending.get_mut(&seq) {
            pending.announced(from);
            return Vec::new();
        }
        let next = seq == held.last().unwrap_or(0) + 1;
        let crowded = fetching.bodiless() >= PENDING_PER_FEED_MAX || fetching.pending.len() >= WAITING_PER_FEED_MAX;
        if fetching.submitted.contains(&seq) || (crowded && !next) {
            return Vec::new();
        }
        let mut effects = self.pull(head, from, now);
        effects.extend(self.go_on(&feed, held, now));
        effects
    }

    /// Remembers a head and asks for its body.
    fn pull(&mut self, head: ProvedHead, from: PeerKey, now: Timestamp) -> Vec<Effect> {
        let (feed, seq) = (head.head().feed(), head.head().seq);
        let (pending, effects) = match self.asked_ahead(&head, now) {
            Some(mut pending) => {
                pending.announced(from);
                self.waiting_bytes += pending.body.as_ref().map_or(0, |served| served.body.len());
                (pending, Vec::new())
            }
            None => {
                let request = self.request();
                let pull = Pull { kind: number::PULL, request, feed: (&feed).into(), seq, ahead: None };
                (Pending::asking(head, from, request, now), vec![Effect::Send { to: from, message: Message::Pull(pull) }])
            }
        };
        self.pulls.insert(pending.request, (feed.clone(), seq));
        self.feeds.entry(feed).or_default().pending.insert(seq, pending);
        effects
    }

    /// A peer wants a body: now, parked until we have it, or never.
    pub fn pulled(&mut self, from: PeerKey, pull: Pull, held: bool) -> Vec<Effect> {
        let feed = FeedId::from(pull.feed);
        // Two that wait for each other would wait for long.
        let coming = |fetching: &Fetching| {
            fetching.pending.get(&pull.seq).is_some_and(|pending| !pending.waits_only_for(&from)) || fetching.submitted.contains(&pull.seq)
        };
        let fetching = self.feeds.get(&feed).is_some_and(coming);
        if let Some(peer) = self.peers.get_mut(&from).filter(|_| !held) {
            let (feed, ahead) = (feed.clone(), pull.ahead == Some(true));
            if (ahead && peer.parked.park_ahead(feed.clone(), pull.seq, pull.request))
                || (!ahead && fetching && peer.parked.park(feed, pull.seq, pull.request))
            {
                return Vec::new();
            }
        }
        vec![Effect::ServeBody { to: from, request: pull.request, feed, seq: pull.seq }]
    }

    /// A peer wants a range.
    pub fn ranged(&mut self, from: PeerKey, range: Range) -> Vec<Effect> {
        let removals = range.removals == Some(true);
        // Removals are few, so their range may be long.
        let last = if removals { range.last } else { range.last.min(range.first.saturating_add(RANGE_BATCHES_MAX - 1)) };
        let bytes_max = range.bytes_max.min(RANGE_BYTES_MAX);
        let (request, feed) = (range.request, FeedId::from(range.feed));
        vec![Effect::ServeRange { to: from, request, feed, first: range.first, last, bytes_max, removals }]
    }

    /// A proved head that a peer sent as part of a range.
    pub fn range_head(&mut self, from: PeerKey, request: u64, head: ProvedHead) {
        let (feed, seq) = (head.head().feed(), head.head().seq);
        let mine = |range: &&mut RangeUnderWay| range.peer == from && range.feed == feed && (range.next..=range.last).contains(&seq);
        if let Some(range) = self.ranges.get_mut(&request).filter(mine) {
            range.head = Some(head);
        }
    }

    /// A range is of no use: its peer sent something that did not prove. What its cursors promised is not believed until
    /// it says it again.
    pub fn range_failed(&mut self, from: PeerKey, request: u64) {
        if self.ranges.get(&request).is_some_and(|range| range.peer == from) {
            self.ranges.remove(&request);
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.cursors.clear();
            }
        }
    }

    /// A body came: for a pull, as part of a range, or with what was lacking.
    pub fn body(&mut self, from: PeerKey, answer: Body, held: impl Fn(&FeedId) -> Spans, now: Timestamp) -> Vec<Effect> {
        let request = answer.request;
        let served = Served::of(from, answer);
        let length = served.body.len();
        if self.recoveries.get(&request).is_some_and(|recovery| recovery.peer == from)
            && let Some(Recovery { feed, seq, .. }) = self.recoveries.remove(&request)
        {
            return vec![Effect::Fill { feed, seq, served }];
        }
        if let Some((feed, seq)) = self.pulls.get(&request).cloned() {
            let pending = self.feeds.get_mut(&feed).and_then(|fetching| fetching.pending.get_mut(&seq));
            let Some(pending) = pending.filter(|pending| pending.body.is_none() && pending.asked.contains_key(&from)) else {
                return Vec::new();
            };
            pending.take(served);
            self.waiting_bytes += if pending.body.is_some() { length } else { 0 };
            self.answer_ms = (7 * self.answer_ms + now.ms_since(pending.since)) / 8;
            return self.took(&feed, seq, &held(&feed), now);
        }
        let Some(range) = self.ranges.get_mut(&request).filter(|range| range.peer == from) else {
            self.came_early(request, served, now);
            return Vec::new();
        };
        let Some(head) = range.head.take() else { return Vec::new() };
        (range.since, range.bytes) = (now, range.bytes + length as u64);
        if range.bytes > 2 * RANGE_BYTES_MAX {
            self.range_failed(from, request);
            return Vec::new();
        }
        let (feed, seq) = (range.feed.clone(), head.head().seq);
        range.next = seq + 1;
        range.brought = true;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.failures = 0;
        }
        let spans = held(&feed);
        let fetching = self.feeds.entry(feed.clone()).or_default();
        let known = fetching.submitted.contains(&seq) || fetching.pending.get(&seq).is_some_and(|pending| pending.body.is_some());
        if known || spans.contains(seq) {
            return Vec::new();
        }
        let pending = match fetching.pending.remove(&seq) {
            Some(pending) => pending,
            None => {
                let request = self.request();
                self.pulls.insert(request, (feed.clone(), seq));
                Pending::asking(head, from, request, now)
            }
        };
        let fetching = self.feeds.entry(feed.clone()).or_default();
        let pending = fetching.pending.entry(seq).or_insert(pending);
        pending.take(served);
        self.waiting_bytes += if pending.body.is_some() { length } else { 0 };
        self.took(&feed, seq, &spans, now)
    }

    /// After a body: one that shows nothing is a miss, as long as somebody else may be asked.
    fn took(&mut self, feed: &FeedId, seq: u64, held: &Spans, now: Timestamp) -> Vec<Effect> {
        let bodiless = self.feeds.get(feed).and_then(|fetching| fetching.pending.get(&seq)).is_some_and(|pending| pending.body.is_none());
        let mut effects = Vec::new();
        if bodiless {
            effects.extend(self.ask_next(feed, seq, now));
        }
        effects.extend(self.go_on(feed, held, now));
        effects
    }

    /// Asks the next peer for a body: another announcer, the author, whoever says that it has the batch. When there is
    /// none, an answer that showed nothing is taken for what it is.
    fn ask_next(&mut self, feed: &FeedId, seq: u64, now: Timestamp) -> Option<Effect> {
        let peers = &self.peers;
        let pending = self.feeds.get_mut(feed)?.pending.get_mut(&seq)?;
        let unasked = |key: &&PeerKey| pending.asked.get(*key) != Some(&pending.round) && peers.contains_key(*key);
        let author = || peers.iter().filter(|(_, peer)| peer.member == feed.member).map(|(key, _)| key);
        let having =
            |seq| peers.iter().filter(move |(_, peer)| peer.cursors.get(feed).is_some_and(|has| has.contains(seq))).map(|(key, _)| key);
        // Who has the one before may have this one by now; not everyone begins with the same.
        let level: Vec<&PeerKey> = having(seq.saturating_sub(1)).collect();
        let first = usize::try_from(pending.request).unwrap_or(0) % level.len().max(1);
        let level = level.iter().skip(first).chain(level.iter().take(first)).copied();
        let next = pending.announcers.iter().chain(author()).chain(having(seq)).chain(level).find(unasked).copied();
        match next.filter(|_| pending.asked_now() < ASKED_MAX) {
            Some(to) => {
                pending.asked.insert(to, pending.round);
                pending.asked_at = now;
                let pull = Pull { kind: number::PULL, request: pending.request, feed: feed.into(), seq, ahead: None };
                Some(Effect::Send { to, message: Message::Pull(pull) })
            }
            None => {
                if let Some(served) = pending.fallback.take() {
                    self.waiting_bytes += served.body.len();
                    pending.body = Some(served);
                } else {
                    // Everyone was asked: begin again after a pause. Whoever was asked may still answer.
                    pending.round += 1;
                    pending.asked_at = now.plus_ms(ROUND_MS - HEDGE_MS);
                }
                None
            }
        }
    }

    /// A request is over.
    pub fn ended(&mut self, from: PeerKey, end: &End, held: impl Fn(&FeedId) -> Spans, now: Timestamp) -> Vec<Effect> {
        if self.recoveries.get(&end.request).is_some_and(|recovery| recovery.peer == from) {
            self.recoveries.remove(&end.request);
        }
        self.not_ahead(&from, end.request);
        if let Some((feed, seq)) = self.pulls.get(&end.request).cloned() {
            // A pull that ended without a body: a miss.
            let waits = |pending: &&Pending| pending.body.is_none() && pending.asked.contains_key(&from);
            let pending = self.feeds.get(&feed).and_then(|fetching| fetching.pending.get(&seq));
            return if pending.filter(waits).is_some() { self.took(&feed, seq, &held(&feed), now) } else { Vec::new() };
        }
        let Some(range) = self.ranges.get(&end.request).filter(|range| range.peer == from) else { return Vec::new() };
        // What it did not bring up to here, it has not for us. One that brought nothing and says there is more, lies.
        let last = if end.more && range.brought { range.next - 1 } else { range.last };
        let (feed, first, removals, brought) = (range.feed.clone(), range.first, range.removals, range.brought);
        self.ranges.remove(&end.request);
        if !removals {
            self.failed(&from, brought);
            self.disclaim(&from, &feed, first, last);
        }
        let held = held(&feed);
        let mut effects = self.go_on(&feed, &held, now);
        effects.extend(held.last().filter(|_| brought).and_then(|seq| self.ask_ahead(&feed, seq, from, &held, now)));
        effects
    }

    /// Notes whether a range brought anything.
    fn failed(&mut self, peer: &PeerKey, brought: bool) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.failures = if brought { 0 } else { peer.failures.saturating_add(1) };
        }
    }

    /// A peer does not have these after all, or not for us; cursors may say otherwise later.
    fn disclaim(&mut self, peer: &PeerKey, feed: &FeedId, first: u64, last: u64) {
        if let Some(cursor) = self.peers.get_mut(peer).and_then(|peer| peer.cursors.get_mut(feed)) {
            cursor.remove_span(first, last);
        }
    }

    /// A batch is durable here. Whoever waits for it is served, whoever may know is told, the next range is asked for.
    pub fn kept(&mut self, feed: &FeedId, seq: u64, from: Option<PeerKey>, announce: bool, held: &Spans, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (key, peer) in &mut self.peers {
            let due = peer.parked.due(feed, seq, held).into_iter();
            effects.extend(due.map(|(seq, request)| Effect::ServeBody { to: *key, request, feed: feed.clone(), seq }));
        }
        if announce {
            effects.push(Effect::Announce { feed: feed.clone(), seq, except: from });
        }
        self.answered(feed, seq);
        effects.extend(self.go_on(feed, held, now));
        effects.extend(from.and_then(|from| self.ask_ahead(feed, seq, from, held, now)));
        effects
    }

    /// The door has answered for a batch.
    fn answered(&mut self, feed: &FeedId, seq: u64) {
        if self.feeds.get_mut(feed).is_some_and(|fetching| fetching.submitted.remove(&seq)) {
            self.submitted = self.submitted.saturating_sub(1);
        }
    }

    /// Whether a peer has said that it has something which `lacking`, given a feed and its last seq there, says we lack.
    pub fn ahead(&self, peer: &PeerKey, lacking: impl Fn(&FeedId, u64) -> bool) -> bool {
        let lacks = |(feed, spans): (&FeedId, &Spans)| spans.last().is_some_and(|last| lacking(feed, last));
        self.peers.get(peer).is_some_and(|peer| peer.cursors.iter().any(lacks))
    }

    /// A feed begins again from where the ledger now is.
    pub fn restart(&mut self, feed: &FeedId) {
        if let Some(fetching) = self.feeds.remove(feed) {
            self.submitted = self.submitted.saturating_sub(fetching.submitted.len());
            let bytes: usize = fetching.pending.values().filter_map(|pending| Some(pending.body.as_ref()?.body.len())).sum();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
            fetching.pending.values().for_each(|pending| drop(self.pulls.remove(&pending.request)));
        }
        self.ranges.retain(|_, range| range.feed != *feed);
        self.peers.values_mut().for_each(|peer| peer.parked.forget(feed));
        self.ahead.remove(feed);
    }

    /// The door refused a batch: it is asked for elsewhere, or again when cursors are compared; before the moment that the
    /// refusal names, no peer is asked. A peer that is to blame is not believed until then.
    pub fn refused(&mut self, feed: &FeedId, seq: u64, from: PeerKey, why: Refused, held: &Spans, now: Timestamp) -> Vec<Effect> {
        let Refused { blame, until } = why;
        self.answered(feed, seq);
        self.ahead.remove(feed);
        match until {
            Some(until) => self.defer(feed, until, now),
            None => self.disclaim(&from, feed, seq, seq),
        }
        if blame && let Some(peer) = self.peers.get_mut(&from) {
            peer.cursors.clear();
        }
        self.go_on(feed, held, now)
    }

    /// When something of a feed has been worked off: what is ready goes to the door, what is lacking is asked for.
    fn go_on(&mut self, feed: &FeedId, held: &Spans, now: Timestamp) -> Vec<Effect> {
        let mut effects = self.submit(feed, held);
        effects.extend(self.want(feed, held, now));
        // A hole that no range fills any more may now be stepped over.
        effects.extend(self.submit(feed, held));
        let idle = |fetching: &Fetching| fetching.pending.is_empty() && fetching.submitted.is_empty();
        if self.feeds.get(feed).is_some_and(idle) && !self.ranges.values().any(|range| range.feed == *feed) {
            self.feeds.remove(feed);
        }
        effects
    }

    /// What a peer says it has. Whatever we lack is asked for.
    pub fn cursors(&mut self, from: PeerKey, cursors: Vec<Cursor>, held: impl Fn(&FeedId) -> Spans, now: Timestamp) -> Vec<Effect> {
        let Some(peer) = self.peers.get_mut(&from) else { return Vec::new() };
        let mut lacking = Vec::new();
        let mut room = INTERVALS_PER_PEER_MAX.saturating_sub(peer.cursors.values().map(|spans| spans.intervals().len()).sum());
        for cursor in cursors {
            if cursor.intervals.len() > room {
                continue;
            }
            room -= cursor.intervals.len();
            let feed = FeedId::from(cursor.feed);
            let Some(spans) = Spans::of(cursor.intervals) else { continue };
            let Some(known) = peer.cursor(&feed) else { continue };
            let spans_held = held(&feed);
            let lacks = spans_held.lacks(&spans);
            *known = spans;
            if !lacks.is_empty() {
                lacking.push((feed, spans_held, lacks));
            }
        }
        lacking.retain(|(feed, _, lacks)| !self.expected(feed, lacks, now));
        lacking.into_iter().flat_map(|(feed, spans, _)| self.go_on(&feed, &spans, now)).collect()
    }

    /// A peer's digest came. Its revision has risen when it can give what it could not before.
    pub fn digest(&mut self, from: PeerKey, revision: u64) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.revision = revision;
        }
    }

    /// A peer's digest equals ours: it has exactly what our cursors for it say.
    pub fn same(&mut self, from: PeerKey, ours: &[Cursor]) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        for cursor in ours {
            if let (Some(known), Some(spans)) = (peer.cursor(&FeedId::from(cursor.feed.clone())), Spans::of(cursor.intervals.clone())) {
                *known = spans;
            }
        }
    }

    /// Asks for the rest of batches that are here in part: one peer after another, the author first, each once as long as
    /// its revision stays.
    pub fn recover(&mut self, lacking: Vec<(FeedId, Vec<u64>)>, now: Timestamp) -> Vec<Effect> {
        self.recoveries.retain(|_, recovery| now.ms_since(recovery.since) < RANGE_TIMEOUT_MS);
        let named: BTreeSet<(FeedId, u64)> = lacking.iter().flat_map(|(feed, seqs)| seqs.iter().map(|seq| (feed.clone(), *seq))).collect();
        self.asked_for_rest.retain(|place, _| named.contains(place));
        let mut effects = Vec::new();
        for (feed, seq) in named {
            let under_way = self.recoveries.values().any(|recovery| recovery.feed == feed && recovery.seq == seq);
            if under_way || self.recoveries.len() >= RECOVERIES_MAX {
                continue;
            }
            let asked = self.asked_for_rest.entry((feed.clone(), seq)).or_default();
            let fresh = |(key, peer): &(&PeerKey, &Peer)| asked.get(*key).is_none_or(|at| *at < peer.revision);
            let knows = |peer: &Peer| peer.member == feed.member || peer.cursors.get(&feed).is_some_and(|has| has.contains(seq));
            let candidates = self.peers.iter().filter(|(_, peer)| knows(peer)).filter(fresh);
            // Who was never asked comes before who says that it has changed its mind.
            let rank = |(key, peer): &(&PeerKey, &Peer)| (asked.contains_key(*key), peer.member != feed.member);
            let Some((to, peer)) = candidates.min_by_key(rank) else { continue };
            let to = *to;
            asked.insert(to, peer.revision);
            let request = self.request();
            let pull = Pull { kind: number::PULL, request, feed: (&feed).into(), seq, ahead: None };
            self.recoveries.insert(request, Recovery { peer: to, feed, seq, since: now });
            effects.push(Effect::Send { to, message: Message::Pull(pull) });
        }
        effects
    }

    /// Who may have a batch: its author's nodes, then whoever says that it has it.
    pub fn holders(&self, feed: &FeedId, seq: u64) -> Vec<PeerKey> {
        let has = |peer: &Peer| peer.cursors.get(feed).is_some_and(|has| has.contains(seq));
        let (authors, others): (Vec<_>, Vec<_>) = self.peers.iter().partition(|(_, peer)| peer.member == feed.member);
        let others = others.into_iter().filter(|(_, peer)| has(peer));
        authors.into_iter().chain(others).map(|(key, _)| *key).collect()
    }

    /// Which peers were asked for what is lacking of a feed.
    pub fn asked_for_rest(&self, feed: &FeedId) -> BTreeSet<PeerKey> {
        self.asked_for_rest.iter().filter(|((of, _), _)| of == feed).flat_map(|(_, asked)| asked.keys().copied()).collect()
    }

    /// Time passes: slow answers are asked for elsewhere, cursors compared.
    pub fn tick(&mut self, held: impl Fn(&FeedId) -> Spans, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (key, peer) in &mut self.peers {
            if now.ms_since(peer.digest_at) >= CURSOR_INTERVAL_MS {
                peer.digest_at = now;
                effects.push(Effect::SendDigest { to: *key });
            }
        }
        for feed in self.given_up(now) {
            effects.extend(self.go_on(&feed, &held(&feed), now));
        }
        let hedge_ms = (2 * self.answer_ms).clamp(HEDGE_MS, HEDGE_MS_MAX);
        self.give_up_slow_ranges(now, RANGE_HEDGE_MS.max(4 * hedge_ms));
        let feeds: Vec<FeedId> = self.feeds.keys().cloned().collect();
        for feed in &feeds {
            let Some(fetching) = self.feeds.get_mut(feed) else { continue };
            let over = |pending: &Pending| pending.body.is_none() && now.ms_since(pending.since) > PENDING_MS_MAX;
            fetching.pending.retain(|_, pending| !over(pending));
            let slow = |(_, pending): &(&u64, &Pending)| pending.body.is_none() && now.ms_since(pending.asked_at) >= hedge_ms;
            let slow: Vec<u64> = fetching.pending.iter().filter(slow).map(|(seq, _)| *seq).collect();
            for seq in slow {
                effects.extend(self.ask_next(feed, seq, now));
            }
            effects.extend(self.go_on(feed, &held(feed), now));
        }
        let feeds = &self.feeds;
        self.pulls.retain(|_, (feed, seq)| feeds.get(feed).is_some_and(|fetching| fetching.pending.contains_key(seq)));
        effects
    }

    /// Whether peers have said that they have removals that we may lack: those of feeds that we are far behind with are asked for
    /// first, of others everything has to be here.
    pub fn lacks_removals(&self, held: impl Fn(&FeedId) -> Spans) -> bool {
        let behind = self.behind(held);
        behind.keys().any(|feed| {
            let ahead_of_all = self.feeds.get(feed).is_some_and(|fetching| !fetching.removals_of.is_empty());
            let awaited = |pending: &Pending| pending.head.head().class == crate::envelope::Class::Removal;
            !ahead_of_all
                || self.ranges.values().any(|range| range.feed == *feed && range.removals)
                || self.feeds.get(feed).is_some_and(|fetching| fetching.pending.values().any(awaited))
        })
    }

    /// Feeds for which something is under way, for `status`.
    pub fn feeds_under_way(&self) -> usize {
        self.feeds.len()
    }

    /// How many batches peers have said they have and we lack, feed by feed.
    pub fn behind(&self, held: impl Fn(&FeedId) -> Spans) -> BTreeMap<FeedId, u64> {
        let mut claimed: BTreeMap<&FeedId, Spans> = BTreeMap::new();
        for (feed, spans) in self.peers.values().flat_map(|peer| &peer.cursors) {
            let all = claimed.entry(feed).or_default();
            spans.intervals().iter().for_each(|(first, last)| all.insert_span(*first, *last));
        }
        let lacking = claimed.into_iter().map(|(feed, spans)| (feed.clone(), held(feed).lacks(&spans).count()));
        lacking.filter(|(_, count)| *count > 0).collect()
    }
}
