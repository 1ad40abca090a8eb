//! Ahead: the body of a batch is asked for before there is one, of whoever gave the last.
//!
//! ```text
//! #7 kept, from P -> Pull #8, ahead, to P -> P parks it -> P keeps #8 -> Body #8, about when its head is heard
//! ```
//!
//! So bodies run down the tree along which the last batch came, and no hop waits for an answer. A parent that says nothing costs one
//! hedge; whoever gives the body instead is the next parent. What comes before its head waits for it, and proves nothing until then.

use super::{Effect, FEEDS_MAX, Message, PARKED_PER_PEER_MAX, PENDING_MS_MAX, PeerKey, Pull, Replica, Served, fetch::Pending, number};
use crate::{
    envelope::ProvedHead,
    intake::Spans,
    record::{FeedId, SECOND_MS, Timestamp},
};
use std::collections::BTreeMap;

/// Feeds of which one peer may have the next batch kept for it: every channel of a large federation.
pub const AHEAD_PER_PEER_MAX: usize = 512;
/// How long what somebody has already may take on its usual way, before it is asked for by range.
pub const EXPECTED_MS: u64 = SECOND_MS;
/// Bytes of bodies that wait for their heads, which come within a second of them.
pub const EARLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What one peer waits for here.
#[derive(Default)]
pub(super) struct Parked {
    /// Requests for bodies that we are fetching ourselves.
    fetched: BTreeMap<(FeedId, u64), u64>,
    /// Of each feed the batch that it wants when there is one, and its request.
    ahead: BTreeMap<FeedId, (u64, u64)>,
}

impl Parked {
    /// Keeps a request until the body is here. Who asks again waits once. `false` when the peer waits for too much.
    pub fn park(&mut self, feed: FeedId, seq: u64, request: u64) -> bool {
        let place = (feed, seq);
        let room = self.fetched.len() < PARKED_PER_PEER_MAX || self.fetched.contains_key(&place);
        room && {
            self.fetched.insert(place, request);
            true
        }
    }

    /// Keeps a request for a batch that may come one day: the newest of each feed. `false` when there are too many.
    pub fn park_ahead(&mut self, feed: FeedId, seq: u64, request: u64) -> bool {
        let room = self.ahead.len() < AHEAD_PER_PEER_MAX || self.ahead.contains_key(&feed);
        room && {
            self.ahead.insert(feed, (seq, request));
            true
        }
    }

    /// The requests that can be answered now that `seq` is here, each with its place.
    pub fn due(&mut self, feed: &FeedId, seq: u64, held: &Spans) -> Vec<(u64, u64)> {
        let fetched = self.fetched.remove(&(feed.clone(), seq)).map(|request| (seq, request));
        let here = |(wanted, _): &(u64, u64)| *wanted == seq || held.contains(*wanted);
        let ahead = self.ahead.get(feed).copied().filter(here);
        if ahead.is_some() {
            self.ahead.remove(feed);
        }
        fetched.into_iter().chain(ahead).collect()
    }

    /// A feed begins again.
    pub fn forget(&mut self, feed: &FeedId) {
        self.fetched.retain(|(of, _), _| of != feed);
        self.ahead.remove(feed);
    }
}

/// A body that was asked for before its batch existed.
pub(super) struct Ahead {
    pub peer: PeerKey,
    request: u64,
    pub seq: u64,
    /// It came before its head.
    early: Option<(Served, Timestamp)>,
    /// When somebody's cursors showed the batch first.
    seen: Option<Timestamp>,
}

impl Ahead {
    fn early_bytes(&self) -> usize {
        self.early.as_ref().map_or(0, |(served, _)| served.body.len())
    }
}

impl Replica {
    /// Asks whoever gave the newest batch of a feed for the next, unless something of the feed is under way still.
    pub(super) fn ask_ahead(&mut self, feed: &FeedId, seq: u64, from: PeerKey, held: &Spans, now: Timestamp) -> Option<Effect> {
        let under_way = self.feeds.get(feed).is_some_and(|fetching| !fetching.pending.is_empty())
            || self.ranges.values().any(|range| range.feed == *feed)
            || self.ahead.get(feed).is_some_and(|ahead| !held.contains(ahead.seq));
        let room = self.ahead.len() < FEEDS_MAX || self.ahead.contains_key(feed);
        if self.deferrals.holds(&feed.member, now) || under_way || !room || held.last() != Some(seq) || !self.peers.contains_key(&from) {
            return None;
        }
        let (request, seq) = (self.request(), seq + 1);
        self.ahead.insert(feed.clone(), Ahead { peer: from, request, seq, early: None, seen: None });
        let pull = Pull { kind: number::PULL, request, feed: feed.into(), seq, ahead: Some(true) };
        Some(Effect::Send { to: from, message: Message::Pull(pull) })
    }

    /// The head of a batch whose body was asked for already: what waits for it, with the body if that is here.
    pub(super) fn asked_ahead(&mut self, head: &ProvedHead, now: Timestamp) -> Option<Pending> {
        let (feed, seq) = (head.head().feed(), head.head().seq);
        // Where another is heard of first, this one was missed, and comes by range.
        let Ahead { peer, request, early, .. } = self.ahead.remove(&feed).filter(|ahead| ahead.seq == seq)?;
        let mut pending = Pending::asking(head.clone(), peer, request, now);
        if let Some((served, _)) = early {
            pending.take(served);
        }
        Some(pending)
    }

    /// A body that came before its head, if that is what it is.
    pub(super) fn came_early(&mut self, request: u64, served: Served, now: Timestamp) {
        let waiting: usize = self.ahead.values().map(Ahead::early_bytes).sum();
        let mine = |ahead: &&mut Ahead| ahead.request == request && ahead.peer == served.from && ahead.early.is_none();
        if waiting + served.body.len() <= EARLY_BYTES_MAX
            && let Some(ahead) = self.ahead.values_mut().find(mine)
        {
            ahead.early = Some((served, now));
        }
    }

    /// A peer will not give what it was asked for ahead.
    pub(super) fn not_ahead(&mut self, from: &PeerKey, request: u64) {
        self.ahead.retain(|_, ahead| ahead.peer != *from || ahead.request != request || ahead.early.is_some());
    }

    /// Whether what a peer's cursors show and we lack is only what was asked for ahead: head and body are on their way, and a range
    /// would bring them twice.
    pub(super) fn expected(&mut self, feed: &FeedId, lacks: &Spans, now: Timestamp) -> bool {
        let Some(ahead) = self.ahead.get_mut(feed).filter(|ahead| lacks.intervals() == [(ahead.seq, ahead.seq)]) else { return false };
        now.ms_since(*ahead.seen.get_or_insert(now)) < EXPECTED_MS
    }

    /// Forgets what was expected and did not come, and bodies whose heads never came. Answers the feeds: ranges bring them.
    pub(super) fn given_up(&mut self, now: Timestamp) -> Vec<FeedId> {
        let since = |at: Option<Timestamp>, ms: u64| at.is_some_and(|at| now.ms_since(at) >= ms);
        let came = |ahead: &Ahead| ahead.early.as_ref().map(|(_, came)| *came);
        let over = |ahead: &Ahead| since(ahead.seen, EXPECTED_MS) || since(came(ahead), PENDING_MS_MAX);
        let feeds: Vec<FeedId> = self.ahead.iter().filter(|(_, ahead)| over(ahead)).map(|(feed, _)| feed.clone()).collect();
        feeds.iter().for_each(|feed| drop(self.ahead.remove(feed)));
        feeds
    }
}
