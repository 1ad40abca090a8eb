//! Fetch: what is under way for one feed, what of it may go to the door, what is asked for next.

use super::{
    Effect, FAILURES_MAX, FEEDS_MAX, Message, Order, Peer, PeerKey, RANGE_BATCHES_MAX, RANGE_BYTES_MAX, RANGE_MS_MAX, RANGE_TIMEOUT_MS,
    RANGES_MAX, RANGES_PER_FEED_MAX, RANGES_PER_PEER_MAX, Range, Replica, SUBMITTED_MAX, Served, WAITING_BYTES_MAX, WAITING_PER_FEED_MAX,
    number, shown_in,
};
use crate::{
    envelope::{Class, ProvedHead},
    intake::Spans,
    record::{FeedId, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet};

/// A head whose body is on its way, or here and waiting for its turn.
pub(super) struct Pending {
    pub head: ProvedHead,
    pub body: Option<Served>,
    /// A body that shows nothing: taken if nobody gives a better one.
    pub fallback: Option<Served>,
    pub announcers: Vec<PeerKey>,
    /// Peers that were asked, each with the round in which it was last: an answer counts whenever it comes.
    pub asked: BTreeMap<PeerKey, u32>,
    pub round: u32,
    pub request: u64,
    pub asked_at: Timestamp,
    pub since: Timestamp,
}

/// Peers that are asked for the removals of a feed that we are far behind with.
const REMOVALS_ASKED_MAX: usize = 3;
/// Most announcers remembered of one head.
const ANNOUNCERS_MAX: usize = 16;

impl Pending {
    pub fn asking(head: ProvedHead, from: PeerKey, request: u64, now: Timestamp) -> Self {
        let (announcers, asked) = (vec![from], BTreeMap::from([(from, 0)]));
        Self { head, body: None, fallback: None, announcers, asked, round: 0, request, asked_at: now, since: now }
    }

    pub fn announced(&mut self, from: PeerKey) {
        if !self.announcers.contains(&from) && self.announcers.len() < ANNOUNCERS_MAX {
            self.announcers.push(from);
        }
    }

    pub fn forget(&mut self, peer: &PeerKey) {
        self.announcers.retain(|one| one != peer);
        if self.asked.remove(peer).is_some() {
            self.asked_at = Timestamp::default();
        }
    }

    /// Whether this peer is the only one from which its body may come.
    pub fn waits_only_for(&self, peer: &PeerKey) -> bool {
        self.body.is_none() && self.asked.len() == 1 && self.asked.contains_key(peer)
    }

    /// Peers asked in this round.
    pub fn asked_now(&self) -> usize {
        self.asked.values().filter(|round| **round == self.round).count()
    }

    /// Takes a body that came for it; of one that shows nothing, only note.
    pub fn take(&mut self, served: Served) {
        let shows_nothing = self.head.head().class == Class::Content && shown_in(&served.body) == Some(0);
        *(if shows_nothing { &mut self.fallback } else { &mut self.body }) = Some(served);
    }
}

/// A range that a peer was asked for.
pub(super) struct RangeUnderWay {
    pub peer: PeerKey,
    pub feed: FeedId,
    pub first: u64,
    pub last: u64,
    /// The lowest seq that it may still bring.
    pub next: u64,
    /// A head whose body comes next.
    pub head: Option<ProvedHead>,
    pub brought: bool,
    /// When it was asked for, and when it last brought something.
    pub begun: Timestamp,
    pub since: Timestamp,
    /// What it has brought.
    pub bytes: u64,
    /// Only removals were asked for.
    pub removals: bool,
}

/// What is under way for one feed.
#[derive(Default)]
pub(super) struct Fetching {
    pub pending: BTreeMap<u64, Pending>,
    /// With the door, not answered yet.
    pub submitted: BTreeSet<u64>,
    /// Who was asked for its removals, ahead of everything else.
    pub removals_of: BTreeSet<PeerKey>,
}

impl Fetching {
    /// Drops content that has not come.
    pub fn drop_content_on_its_way(&mut self) {
        self.pending.retain(|_, one| one.body.is_some() || one.head.head().class == Class::Removal);
    }

    /// Heads whose bodies are on their way.
    pub fn bodiless(&self) -> usize {
        self.pending.values().filter(|pending| pending.body.is_none()).count()
    }
}

impl Replica {
    /// Hands to the door what may go: what continues the feed or fills a hole, removals at once, and what stands behind a
    /// hole that nobody connected can fill.
    pub(super) fn submit(&mut self, feed: &FeedId, held: &Spans) -> Vec<Effect> {
        let Some(fetching) = self.feeds.get(feed) else { return Vec::new() };
        let ready: Vec<(u64, Class)> =
            fetching.pending.iter().filter(|(_, one)| one.body.is_some()).map(|(seq, one)| (*seq, one.head.head().class)).collect();
        let mut here = held.clone();
        fetching.submitted.iter().for_each(|seq| here.insert(*seq));
        let mut effects = Vec::new();
        for (seq, class) in ready {
            let front = here.last().unwrap_or(0);
            let overtakes = class == Class::Removal || self.order == Order::NewestFirst;
            let in_turn = seq <= front + 1 || overtakes || !self.obtainable(feed, front + 1, seq - 1);
            if !in_turn || self.submitted >= SUBMITTED_MAX {
                continue;
            }
            let Some(fetching) = self.feeds.get_mut(feed) else { break };
            let Some(Pending { head, body: Some(served), request, .. }) = fetching.pending.remove(&seq) else { continue };
            self.pulls.remove(&request);
            self.waiting_bytes = self.waiting_bytes.saturating_sub(served.body.len());
            if here.contains(seq) {
                continue;
            }
            fetching.submitted.insert(seq);
            self.submitted += 1;
            here.insert(seq);
            effects.push(Effect::Submit { head: Box::new(head), served, beyond: seq != front + 1 });
        }
        effects
    }

    /// Whether any of `first..=last` may still come: it is asked for, or somebody connected says that it has it.
    fn obtainable(&self, feed: &FeedId, first: u64, last: u64) -> bool {
        let awaited = |fetching: &Fetching| fetching.pending.range(first..=last).next().is_some();
        self.feeds.get(feed).is_some_and(awaited)
            || self.ranges.values().any(|range| range.feed == *feed && !range.removals && range.next <= last && range.last >= first)
            || self.peers.values().any(|peer| peer.cursors.get(feed).is_some_and(|has| has.touches(first, last)))
    }

    /// Asks for what peers have and we lack, as long as there is room for more.
    pub(super) fn want(&mut self, feed: &FeedId, held: &Spans, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.deferrals.holds(&feed.member, now) {
            for (peer, first, last) in self.removals_to_ask(feed, held) {
                effects.push(self.ask_range(feed, peer, first, last, true, now));
            }
            return effects;
        }
        while let Some((peer, first, last)) = self.next_range(feed, held) {
            let far = self.peers.get(&peer).and_then(|one| one.cursors.get(feed)?.last()).unwrap_or(last);
            let fetching = self.feeds.entry(feed.clone()).or_default();
            if far - first >= RANGE_BATCHES_MAX && fetching.removals_of.len() < REMOVALS_ASKED_MAX && fetching.removals_of.insert(peer) {
                // Far behind: what was taken back since comes before all that was said. Of several, since one may lie.
                effects.push(self.ask_range(feed, peer, first, far, true, now));
            }
            effects.push(self.ask_range(feed, peer, first, last, false, now));
        }
        effects
    }

    fn ask_range(&mut self, feed: &FeedId, peer: PeerKey, first: u64, last: u64, removals: bool, now: Timestamp) -> Effect {
        let request = self.request();
        let range = RangeUnderWay {
            peer,
            feed: feed.clone(),
            first,
            last,
            next: first,
            head: None,
            brought: false,
            begun: now,
            since: now,
            bytes: 0,
            removals,
        };
        self.ranges.insert(request, range);
        self.feeds.entry(feed.clone()).or_default();
        let removals = removals.then_some(true);
        let wire = Range { kind: number::RANGE, request, feed: feed.into(), first, last, bytes_max: RANGE_BYTES_MAX, removals };
        Effect::Send { to: peer, message: Message::Range(wire) }
    }

    /// The next piece to ask for, and of whom: of several who have it, the one who has least to do for us.
    fn next_range(&self, feed: &FeedId, held: &Spans) -> Option<(PeerKey, u64, u64)> {
        let fetching = self.feeds.get(feed);
        let of_feed = self.ranges.values().filter(|range| range.feed == *feed && !range.removals).count();
        let waiting = fetching.map_or(0, |fetching| fetching.pending.len());
        let crowded = self.feeds.len() >= FEEDS_MAX && fetching.is_none();
        if crowded || self.ranges.len() >= RANGES_MAX || of_feed >= RANGES_PER_FEED_MAX {
            return None;
        }
        // When much waits already, only what it waits for is asked for.
        let full = waiting >= WAITING_PER_FEED_MAX || self.waiting_bytes >= WAITING_BYTES_MAX;
        let front = fetching.and_then(|fetching| fetching.pending.keys().next().copied()).filter(|_| full);
        let mut have = held.clone();
        if let Some(fetching) = fetching {
            fetching.submitted.iter().chain(fetching.pending.keys()).for_each(|seq| have.insert(*seq));
        }
        for range in self.ranges.values().filter(|range| range.feed == *feed && !range.removals) {
            have.insert_span(range.next, range.last);
        }
        let piece = |lacking: Spans| match self.order {
            Order::OldestFirst => lacking.intervals().first().map(|(first, last)| (*first, (*last).min(first + RANGE_BATCHES_MAX - 1))),
            Order::NewestFirst => {
                lacking.intervals().last().map(|(first, last)| (last.saturating_sub(RANGE_BATCHES_MAX - 1).max(*first), *last))
            }
        };
        let load = |key: &PeerKey| self.ranges.values().filter(|range| range.peer == *key).count();
        let free = |key: &PeerKey, peer: &Peer| load(key) < if peer.failures >= FAILURES_MAX { 1 } else { RANGES_PER_PEER_MAX };
        let offers = self.peers.iter().filter(|(key, peer)| free(key, peer)).filter_map(|(key, peer)| {
            let (first, last) = piece(have.lacks(peer.cursors.get(feed)?))?;
            let wanted = !full || front.is_some_and(|front| first < front);
            wanted.then_some((*key, first, last))
        });
        offers.min_by_key(|(key, first, last)| match self.order {
            Order::OldestFirst => (*first, load(key), u64::MAX - last),
            Order::NewestFirst => (u64::MAX - last, load(key), *first),
        })
    }

    /// A range that stands still is asked for elsewhere, if there is an elsewhere; in the end it is given up.
    pub(super) fn give_up_slow_ranges(&mut self, now: Timestamp, patience_ms: u64) {
        let peers = &self.peers;
        let elsewhere = |range: &RangeUnderWay| {
            let has = |spans: &Spans| spans.touches(range.next, range.last);
            peers.iter().any(|(key, peer)| *key != range.peer && peer.cursors.get(&range.feed).is_some_and(has))
        };
        let slow = |range: &RangeUnderWay| {
            let still = now.ms_since(range.since);
            let long = now.ms_since(range.begun) > RANGE_MS_MAX;
            still > RANGE_TIMEOUT_MS || ((long || still > patience_ms) && elsewhere(range))
        };
        let slow: Vec<u64> = self.ranges.iter().filter(|(_, range)| slow(range)).map(|(request, _)| *request).collect();
        for request in slow {
            if let Some(range) = self.ranges.remove(&request) {
                self.failed(&range.peer, range.brought);
                self.disclaim(&range.peer, &range.feed, range.next, range.last);
            }
        }
    }
}
