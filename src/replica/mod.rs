//! Replica: how batches travel between nodes.
//!
//! In: heads that were proved and placed, messages, ticks, word from the ledger; the time. Out: [`Effect`]s for the shell.
//!
//! ```text
//! head heard -> ask its announcer for the body -250 ms-> ask another -> ... -> Submit in order of seq
//! cursors -> what a peer has and we lack -> Range -> heads and bodies -> Submit in order of seq
//! kept -> serve whoever parked a request; announce it where gossip may not
//! ```
//!
//! Gossip is lossy by nature, and here nothing depends on it: cursors are compared on every new connection and every ten
//! seconds. Not here: proofs (`intake`), entitlement (`policy::may_send`, asked by the shell for every byte it serves).

mod message;

pub use message::*;

use crate::{
    envelope::{Hash, ProvedHead},
    record::{FeedId, SECOND_MS, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A node, by its public key.
pub type PeerKey = [u8; 32];

/// After this long without an answer another peer is asked for a body.
pub const HEDGE_MS: u64 = 250;
/// After this long a range request is given up, and another peer asked.
pub const RANGE_TIMEOUT_MS: u64 = 10 * SECOND_MS;
/// How often cursors are compared with every peer.
pub const CURSOR_INTERVAL_MS: u64 = 10 * SECOND_MS;
/// Most batches asked for in one range; with small batches their number, not their bytes, is what fills queues.
pub const RANGE_BATCHES_MAX: u64 = 256;
/// About how many bytes one range may take.
pub const RANGE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most ranges under way at once, each of another feed.
pub const RANGES_MAX: usize = 4;
/// Most heads without bodies that are remembered of one feed; what is beyond comes by range.
pub const PENDING_PER_FEED_MAX: usize = 64;
/// Most feeds for which anything is under way.
pub const FEEDS_MAX: usize = 4_096;
/// Most requests that one peer may park here.
pub const PARKED_PER_PEER_MAX: usize = 64;

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
        body: Vec<u8>,
        from: PeerKey,
        begins: bool,
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

struct Pending {
    head: ProvedHead,
    body: Option<Vec<u8>>,
    from: PeerKey,
    announcers: Vec<PeerKey>,
    asked: BTreeSet<PeerKey>,
    request: u64,
    asked_at: Timestamp,
}

struct RangeUnderWay {
    peer: PeerKey,
    request: u64,
    since: Timestamp,
    /// A head whose body comes next.
    head: Option<ProvedHead>,
    got: u64,
    over: Option<bool>,
}

#[derive(Default)]
struct Fetching {
    pending: BTreeMap<u64, Pending>,
    range: Option<RangeUnderWay>,
    /// Highest seq handed to the door and not answered yet.
    submitted: Option<u64>,
}

#[derive(Default)]
struct Peer {
    /// First and last batch of each feed that it has judged.
    cursors: HashMap<FeedId, (u64, u64, Hash)>,
    digest_at: Timestamp,
}

/// What waits for a body that we are fetching ourselves.
struct Parked {
    peer: PeerKey,
    request: u64,
    feed: FeedId,
    seq: u64,
}

/// The state of replication. `position` below is always the ledger's: the last batch of a feed that is durable.
#[derive(Default)]
pub struct Replica {
    peers: BTreeMap<PeerKey, Peer>,
    feeds: HashMap<FeedId, Fetching>,
    parked: Vec<Parked>,
    next_request: u64,
}

impl Replica {
    /// A peer's stream is open.
    pub fn connected(&mut self, peer: PeerKey, now: Timestamp) -> Vec<Effect> {
        self.peers.insert(peer, Peer { digest_at: now, ..Peer::default() });
        vec![Effect::SendDigest { to: peer }]
    }

    /// A peer's stream is gone: what it was asked for is asked elsewhere at the next tick.
    pub fn gone(&mut self, peer: &PeerKey) {
        self.peers.remove(peer);
        self.parked.retain(|parked| parked.peer != *peer);
        for fetching in self.feeds.values_mut() {
            fetching.range.take_if(|range| range.peer == *peer);
            for pending in fetching.pending.values_mut() {
                pending.announcers.retain(|one| one != peer);
                if pending.asked.remove(peer) {
                    pending.asked_at = Timestamp::default();
                }
            }
        }
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
    pub fn heard(&mut self, head: ProvedHead, from: PeerKey, position: Option<u64>, now: Timestamp) -> Vec<Effect> {
        let (feed, seq) = (head.head().feed(), head.head().seq);
        if position.is_some_and(|last| seq <= last) || (self.feeds.len() >= FEEDS_MAX && !self.feeds.contains_key(&feed)) {
            return Vec::new();
        }
        let request = self.request();
        let fetching = self.feeds.entry(feed.clone()).or_default();
        if fetching.submitted.is_some_and(|submitted| seq <= submitted) {
            return Vec::new();
        }
        if let Some(pending) = fetching.pending.get_mut(&seq) {
            if !pending.announcers.contains(&from) {
                pending.announcers.push(from);
            }
            return Vec::new();
        }
        if fetching.pending.len() >= PENDING_PER_FEED_MAX {
            return Vec::new();
        }
        let asked = BTreeSet::from([from]);
        let pending = Pending { head, body: None, from, announcers: vec![from], asked, request, asked_at: now };
        fetching.pending.insert(seq, pending);
        let message = Message::Pull(Pull { kind: number::PULL, request, feed: (&feed).into(), seq });
        let mut effects = vec![Effect::Send { to: from, message }];
        effects.extend(self.fill_gap(&feed, position, now));
        effects
    }

    /// A peer wants a body: now, parked until we have it, or never.
    pub fn pulled(&mut self, from: PeerKey, pull: Pull, held: bool) -> Vec<Effect> {
        let feed = FeedId::from(pull.feed);
        let fetching = self.feeds.get(&feed).is_some_and(|fetching| {
            fetching.pending.contains_key(&pull.seq) || fetching.submitted.is_some_and(|submitted| pull.seq <= submitted)
        });
        let parked = self.parked.iter().filter(|parked| parked.peer == from).count();
        if !held && fetching && parked < PARKED_PER_PEER_MAX {
            self.parked.push(Parked { peer: from, request: pull.request, feed, seq: pull.seq });
            return Vec::new();
        }
        vec![Effect::ServeBody { to: from, request: pull.request, feed, seq: pull.seq }]
    }

    /// A peer wants a range.
    pub fn ranged(&mut self, from: PeerKey, range: Range) -> Vec<Effect> {
        let last = range.last.min(range.first.saturating_add(RANGE_BATCHES_MAX - 1));
        let bytes_max = range.bytes_max.min(RANGE_BYTES_MAX);
        let (request, feed) = (range.request, FeedId::from(range.feed));
        vec![Effect::ServeRange { to: from, request, feed, first: range.first, last, bytes_max }]
    }

    /// A proved head that a peer sent as part of a range.
    pub fn range_head(&mut self, from: PeerKey, request: u64, head: ProvedHead) {
        let feed = head.head().feed();
        if let Some(range) = self.range_of(&feed, from, request) {
            range.head = Some(head);
        }
    }

    fn range_of(&mut self, feed: &FeedId, peer: PeerKey, request: u64) -> Option<&mut RangeUnderWay> {
        self.feeds.get_mut(feed)?.range.as_mut().filter(|range| range.peer == peer && range.request == request)
    }

    /// A range is of no use: its peer sent something that did not prove.
    pub fn range_failed(&mut self, from: PeerKey, request: u64) {
        for fetching in self.feeds.values_mut() {
            fetching.range.take_if(|range| range.peer == from && range.request == request);
        }
        // What its cursors promised is not believed until it says it again.
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.cursors.clear();
        }
    }

    /// A body came, for a pull or as part of a range.
    pub fn body(&mut self, from: PeerKey, answer: Body, position: impl Fn(&FeedId) -> Option<u64>) -> Vec<Effect> {
        let mut ready = None;
        for (feed, fetching) in &mut self.feeds {
            if let Some(range) = fetching.range.as_mut().filter(|range| range.peer == from && range.request == answer.request) {
                let Some(head) = range.head.take() else { break };
                range.got += 1;
                let seq = head.head().seq;
                let fresh = position(feed).is_none_or(|last| seq > last) && fetching.submitted.is_none_or(|last| seq > last);
                if fresh {
                    let (announcers, asked) = (vec![from], BTreeSet::from([from]));
                    let body = Some(answer.body.to_vec());
                    let asked_at = Timestamp::default();
                    let pending = Pending { head, body, from, announcers, asked, request: answer.request, asked_at };
                    fetching.pending.insert(seq, pending);
                }
                ready = Some(feed.clone());
                break;
            }
            let mine =
                |pending: &&mut Pending| pending.request == answer.request && pending.asked.contains(&from) && pending.body.is_none();
            if let Some(pending) = fetching.pending.values_mut().find(mine) {
                pending.body = Some(answer.body.to_vec());
                pending.from = from;
                ready = Some(feed.clone());
                break;
            }
        }
        match ready {
            Some(feed) => self.submit(&feed, position(&feed)),
            None => Vec::new(),
        }
    }

    /// Hands to the door whatever continues the feed without a gap.
    fn submit(&mut self, feed: &FeedId, position: Option<u64>) -> Vec<Effect> {
        let Some(fetching) = self.feeds.get_mut(feed) else { return Vec::new() };
        let mut effects = Vec::new();
        let mut next = fetching.submitted.or(position).map(|last| last + 1);
        while let Some(entry) = fetching.pending.first_entry() {
            let seq = *entry.key();
            if next.is_some_and(|next| seq < next) {
                entry.remove();
                continue;
            }
            // A feed of which we hold nothing begins at 1, or where a range from its beginning began.
            let begins = next.is_none() && fetching.range.is_some();
            if entry.get().body.is_none() || !(next == Some(seq) || (next.is_none() && (seq == 1 || begins))) {
                break;
            }
            let pending = entry.remove();
            fetching.submitted = Some(seq);
            next = Some(seq + 1);
            let body = pending.body.unwrap_or_default();
            effects.push(Effect::Submit { head: Box::new(pending.head), body, from: pending.from, begins });
        }
        effects
    }

    /// A request is over.
    pub fn ended(&mut self, from: PeerKey, end: &End, position: impl Fn(&FeedId) -> Option<u64>, now: Timestamp) -> Vec<Effect> {
        let mut of = None;
        for (feed, fetching) in &mut self.feeds {
            if let Some(range) = fetching.range.as_mut().filter(|range| range.peer == from && range.request == end.request) {
                range.over = Some(end.more);
                of = Some((feed.clone(), range.got == 0));
                break;
            }
            // A pull that ended without a body: a miss, ask another at once.
            if let Some(pending) = fetching.pending.values_mut().find(|one| one.request == end.request && one.body.is_none()) {
                pending.asked_at = Timestamp::default();
                break;
            }
        }
        let Some((feed, empty)) = of else { return Vec::new() };
        if empty && let Some(peer) = self.peers.get_mut(&from) {
            peer.cursors.remove(&feed);
        }
        self.go_on(&feed, position(&feed), now)
    }

    /// A batch is durable here. Whoever waits for it is served, whoever may know is told, the next range is asked for.
    pub fn kept(&mut self, feed: &FeedId, seq: u64, from: Option<PeerKey>, announce: bool, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let (due, rest): (Vec<_>, Vec<_>) = self.parked.drain(..).partition(|parked| parked.feed == *feed && parked.seq <= seq);
        self.parked = rest;
        for Parked { peer, request, feed, seq } in due {
            effects.push(Effect::ServeBody { to: peer, request, feed, seq });
        }
        if announce {
            effects.push(Effect::Announce { feed: feed.clone(), seq, except: from });
        }
        if let Some(fetching) = self.feeds.get_mut(feed) {
            fetching.submitted.take_if(|submitted| *submitted <= seq);
        }
        effects.extend(self.go_on(feed, Some(seq), now));
        effects
    }

    /// Whether a peer has said that it has something which `lacking`, given a feed and its last seq there, says we lack.
    pub fn ahead(&self, peer: &PeerKey, lacking: impl Fn(&FeedId, u64) -> bool) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.cursors.iter().any(|(feed, (_, last, _))| lacking(feed, *last)))
    }

    /// A feed begins again from where the ledger now is.
    pub fn restart(&mut self, feed: &FeedId) {
        self.feeds.remove(feed);
    }

    /// The door refused a batch. Everything under way for its feed starts again from the ledger's position; a peer that
    /// is to blame has its cursors forgotten.
    pub fn refused(&mut self, feed: &FeedId, from: PeerKey, blame: bool) {
        self.feeds.remove(feed);
        if blame && let Some(peer) = self.peers.get_mut(&from) {
            peer.cursors.clear();
        }
    }

    /// When a range has been worked off: the next one, or the end of it.
    fn go_on(&mut self, feed: &FeedId, position: Option<u64>, now: Timestamp) -> Vec<Effect> {
        let mut effects = self.submit(feed, position);
        let Some(fetching) = self.feeds.get_mut(feed) else { return effects };
        if fetching.submitted.is_none() {
            fetching.range.take_if(|range| range.over.is_some());
            effects.extend(self.fill_gap(feed, position, now));
        }
        self.feeds.retain(|_, fetching| !fetching.pending.is_empty() || fetching.range.is_some() || fetching.submitted.is_some());
        effects
    }

    /// What a peer says it has. Whatever we lack is asked for.
    pub fn cursors(
        &mut self,
        from: PeerKey,
        cursors: Vec<Cursor>,
        position: impl Fn(&FeedId) -> Option<u64>,
        now: Timestamp,
    ) -> Vec<Effect> {
        let Some(peer) = self.peers.get_mut(&from) else { return Vec::new() };
        let mut lacking = Vec::new();
        for cursor in cursors {
            let feed = FeedId::from(cursor.feed);
            let (Some((first, _)), Some((_, last))) = (cursor.intervals.first(), cursor.intervals.last()) else { continue };
            if peer.cursors.len() < FEEDS_MAX || peer.cursors.contains_key(&feed) {
                peer.cursors.insert(feed.clone(), (*first, *last, cursor.head));
            }
            if position(&feed).is_none_or(|ours| ours < *last) {
                lacking.push(feed);
            }
        }
        lacking.into_iter().flat_map(|feed| self.fill_gap(&feed, position(&feed), now)).collect()
    }

    /// Asks for the batches right behind our position, if a peer has them and nothing else brings them.
    fn fill_gap(&mut self, feed: &FeedId, position: Option<u64>, now: Timestamp) -> Vec<Effect> {
        let under_way = self.feeds.values().filter(|fetching| fetching.range.is_some()).count();
        let next = position.map_or(1, |last| last + 1);
        let fetching = self.feeds.get(feed);
        let blocked = fetching.is_some_and(|fetching| fetching.range.is_some() || fetching.submitted.is_some());
        // The next batch is already on its way as a pull.
        let coming = fetching.is_some_and(|fetching| fetching.pending.contains_key(&next));
        if blocked || coming || under_way >= RANGES_MAX || (self.feeds.len() >= FEEDS_MAX && fetching.is_none()) {
            return Vec::new();
        }
        let first_pending = fetching.and_then(|fetching| fetching.pending.keys().next().copied());
        let has =
            |(key, peer): (&PeerKey, &Peer)| peer.cursors.get(feed).filter(|(_, last, _)| *last >= next).map(|(_, last, _)| (*last, *key));
        let by_cursor = self.peers.iter().filter_map(has).max();
        let by_head = || {
            let pending = fetching?.pending.values().next()?;
            pending.announcers.iter().find(|key| self.peers.contains_key(*key)).map(|key| (pending.head.head().seq - 1, *key))
        };
        let Some((last, peer)) = by_cursor.or_else(by_head) else { return Vec::new() };
        let last = first_pending.map_or(last, |pending| last.min(pending - 1)).min(next.saturating_add(RANGE_BATCHES_MAX - 1));
        if last < next {
            return Vec::new();
        }
        let request = self.request();
        let range = RangeUnderWay { peer, request, since: now, head: None, got: 0, over: None };
        self.feeds.entry(feed.clone()).or_default().range = Some(range);
        let wire = Range { kind: number::RANGE, request, feed: feed.into(), first: next, last, bytes_max: RANGE_BYTES_MAX };
        vec![Effect::Send { to: peer, message: Message::Range(wire) }]
    }

    /// Time passes: slow answers are asked for elsewhere, cursors compared.
    pub fn tick(&mut self, position: impl Fn(&FeedId) -> Option<u64>, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (key, peer) in &mut self.peers {
            if now.ms_since(peer.digest_at) >= CURSOR_INTERVAL_MS {
                peer.digest_at = now;
                effects.push(Effect::SendDigest { to: *key });
            }
        }
        let connected: Vec<PeerKey> = self.peers.keys().copied().collect();
        let feeds: Vec<FeedId> = self.feeds.keys().cloned().collect();
        for feed in &feeds {
            let Some(fetching) = self.feeds.get_mut(feed) else { continue };
            let slow = |range: &mut RangeUnderWay| range.over.is_none() && now.ms_since(range.since) > RANGE_TIMEOUT_MS;
            if let Some(range) = fetching.range.take_if(slow)
                && let Some(peer) = self.peers.get_mut(&range.peer)
            {
                peer.cursors.remove(feed);
            }
            for (seq, pending) in &mut fetching.pending {
                if pending.body.is_some() || now.ms_since(pending.asked_at) < HEDGE_MS {
                    continue;
                }
                let unasked = |key: &&PeerKey| !pending.asked.contains(*key) && connected.contains(key);
                let other = pending.announcers.iter().find(unasked).or_else(|| connected.iter().find(unasked)).copied();
                pending.asked_at = now;
                match other {
                    Some(to) => {
                        pending.asked.insert(to);
                        let pull = Pull { kind: number::PULL, request: pending.request, feed: feed.into(), seq: *seq };
                        effects.push(Effect::Send { to, message: Message::Pull(pull) });
                    }
                    // Everyone was asked: begin again.
                    None => pending.asked.clear(),
                }
            }
            effects.extend(self.go_on(feed, position(feed), now));
        }
        effects
    }

    /// Feeds for which something is under way, for `status`.
    pub fn feeds_under_way(&self) -> usize {
        self.feeds.len()
    }
}
