//! Contents: how the contents of documents are fetched, chunk by chunk, from whoever may give them.
//!
//! In: which contents are wanted and how far they are here, messages, ticks, who has a record; the time. Out: messages to
//! send, and chunks in their order, each proved.
//!
//! ```text
//! wanted -> ask for the next chunks, some of each peer -> Chunk -proved-> waits for those before it -> Ready
//! ```
//!
//! Contents are the least urgent of all that travels: few chunks under way, and those of one peer bounded. Not here: files
//! (`node::documents`), whether a peer may have a chunk (asked by the shell for every one that it serves).

use super::{Chunk, ChunkAsk, End, Message, PeerKey, number};
use crate::{
    envelope::{chunk_count, chunk_proves},
    record::{ContentHash, MINUTE_MS, RecordRef, SECOND_MS, Timestamp},
};
use std::collections::{BTreeMap, btree_map::Entry};

/// Contents fetched at once; the others wait their turn.
pub const CONTENTS_MAX: usize = 4;
/// Chunks of one content that are under way or wait for those before them: 1 MiB.
pub const CHUNKS_MAX: u64 = 16;
/// Chunks that one peer is asked for at once: enough to keep a line of 10 MB/s and 50 ms busy.
pub const CHUNKS_PER_PEER_MAX: usize = 8;
/// A chunk that has not come for so long is asked for elsewhere.
pub const CHUNK_TIMEOUT_MS: u64 = 10 * SECOND_MS;
/// A peer that has not a content, or is silent, is asked for it again after this.
pub const CONTENT_RETRY_MS: u64 = MINUTE_MS;

/// A chunk whose turn has come: it continues what is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub hash: ContentHash,
    pub index: u64,
    pub bytes: Vec<u8>,
}

/// A chunk that does not prove itself: whoever sent it broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

struct Asked {
    peer: PeerKey,
    request: u64,
    since: Timestamp,
}

struct Fetch {
    /// The record that names the content.
    record: RecordRef,
    length: u64,
    /// The first chunk that is not here.
    next: u64,
    ahead: BTreeMap<u64, Vec<u8>>,
    asked: BTreeMap<u64, Asked>,
    /// Peers that did not give it, and until when they are not asked again.
    refused: BTreeMap<PeerKey, Timestamp>,
}

/// What is being fetched.
#[derive(Default)]
pub struct Contents {
    fetches: BTreeMap<ContentHash, Fetch>,
    /// Requests count down from the highest number, so that they are never mistaken for those for batches.
    requests: u64,
}

impl Contents {
    /// Fetches a content of which the first `have` chunks are here. `false` when enough are under way; ask again later.
    pub fn begin(&mut self, hash: ContentHash, record: &RecordRef, length: u64, have: u64) -> bool {
        let crowded = self.fetches.len() >= CONTENTS_MAX;
        match self.fetches.entry(hash) {
            Entry::Occupied(_) => true,
            Entry::Vacant(_) if crowded => false,
            Entry::Vacant(place) => {
                let (ahead, asked, refused) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
                place.insert(Fetch { record: record.clone(), length, next: have, ahead, asked, refused });
                true
            }
        }
    }

    /// Whether anything is being fetched.
    pub fn is_busy(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Keeps only what is still wanted.
    pub fn retain(&mut self, wanted: impl Fn(&ContentHash) -> bool) {
        self.fetches.retain(|hash, _| wanted(hash));
    }

    /// Gives up a fetch that is not where the disk is: it begins again from there.
    pub fn agree(&mut self, hash: &ContentHash, have: u64) {
        if self.fetches.get(hash).is_some_and(|fetch| fetch.next != have) {
            self.fetches.remove(hash);
        }
    }

    /// A peer is gone: its chunks are asked for elsewhere.
    pub fn gone(&mut self, peer: &PeerKey) {
        for fetch in self.fetches.values_mut() {
            fetch.asked.retain(|_, asked| asked.peer != *peer);
            fetch.refused.remove(peer);
        }
    }

    /// Asks for what is next. `holders` says who may have a record, the likeliest first; `room` is how many chunks may wait to
    /// be written.
    pub fn ask(&mut self, holders: impl Fn(&RecordRef) -> Vec<PeerKey>, room: usize, now: Timestamp) -> Vec<(PeerKey, Message)> {
        let mut messages = Vec::new();
        let mut load: BTreeMap<PeerKey, usize> = BTreeMap::new();
        for asked in self.fetches.values().flat_map(|fetch| fetch.asked.values()) {
            *load.entry(asked.peer).or_default() += 1;
        }
        let mut room = room.saturating_sub(load.values().sum());
        for fetch in self.fetches.values_mut() {
            let late = |asked: &Asked| now.ms_since(asked.since) > CHUNK_TIMEOUT_MS;
            for asked in fetch.asked.values().filter(|asked| late(asked)) {
                fetch.refused.insert(asked.peer, now.plus_ms(CONTENT_RETRY_MS));
            }
            fetch.asked.retain(|_, asked| !late(asked));
            fetch.refused.retain(|_, until| *until > now);
            let mut peers = holders(&fetch.record);
            peers.retain(|peer| !fetch.refused.contains_key(peer));
            let last = chunk_count(fetch.length).min(fetch.next + CHUNKS_MAX);
            for index in fetch.next..last {
                if fetch.asked.contains_key(&index) || fetch.ahead.contains_key(&index) {
                    continue;
                }
                let free = |peer: &&PeerKey| load.get(*peer).is_none_or(|count| *count < CHUNKS_PER_PEER_MAX);
                let least = peers.iter().filter(free).min_by_key(|peer| load.get(*peer).copied().unwrap_or(0));
                let Some(peer) = least.copied().filter(|_| room > 0) else { break };
                room -= 1;
                *load.entry(peer).or_default() += 1;
                self.requests += 1;
                let request = u64::MAX - self.requests;
                fetch.asked.insert(index, Asked { peer, request, since: now });
                let RecordRef { feed, seq, index: place } = &fetch.record;
                let ask = ChunkAsk { kind: number::CHUNK_ASK, request, feed: feed.into(), seq: *seq, index: *place, chunk: index };
                messages.push((peer, Message::ChunkAsk(ask)));
            }
        }
        messages
    }

    /// A chunk came. Answers what may now be written, in order.
    pub fn chunk(&mut self, from: PeerKey, chunk: Chunk) -> Result<Vec<Ready>, BadChunk> {
        let Chunk { request, bytes, path, .. } = chunk;
        let Some((hash, index)) = self.request(&from, request) else { return Ok(Vec::new()) };
        let Some(fetch) = self.fetches.get_mut(&hash) else { return Ok(Vec::new()) };
        fetch.asked.remove(&index);
        if !chunk_proves(&hash, fetch.length, index, &bytes, &path) {
            return Err(BadChunk);
        }
        fetch.ahead.insert(index, bytes.into_vec());
        let mut ready = Vec::new();
        while let Some(bytes) = fetch.ahead.remove(&fetch.next) {
            ready.push(Ready { hash, index: fetch.next, bytes });
            fetch.next += 1;
        }
        if fetch.next >= chunk_count(fetch.length) {
            self.fetches.remove(&hash);
        }
        Ok(ready)
    }

    /// A peer has not what it was asked for, or not for us: others are asked, and it again later.
    pub fn ended(&mut self, from: PeerKey, end: &End, now: Timestamp) {
        if let Some((hash, index)) = self.request(&from, end.request)
            && let Some(fetch) = self.fetches.get_mut(&hash)
        {
            fetch.asked.remove(&index);
            fetch.refused.insert(from, now.plus_ms(CONTENT_RETRY_MS));
        }
    }

    fn request(&self, from: &PeerKey, request: u64) -> Option<(ContentHash, u64)> {
        let asked = self.fetches.iter().flat_map(|(hash, fetch)| fetch.asked.iter().map(move |(index, asked)| (hash, index, asked)));
        let mut mine = asked.filter(|(_, _, asked)| asked.peer == *from && asked.request == request);
        mine.next().map(|(hash, index, _)| (*hash, *index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{CHUNK_BYTES, ContentTree, chunk_leaf};

    const LENGTH: usize = 40 * CHUNK_BYTES + 9;

    fn content() -> (Vec<Vec<u8>>, ContentTree) {
        let chunks: Vec<Vec<u8>> =
            (0..LENGTH).map(|at| (at / 7) as u8).collect::<Vec<_>>().chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
        let tree = ContentTree::of(chunks.iter().map(|chunk| chunk_leaf(chunk)).collect());
        (chunks, tree)
    }

    fn answer(message: &Message, chunks: &[Vec<u8>], tree: &ContentTree) -> Chunk {
        let Message::ChunkAsk(ask) = message else { unreachable!() };
        let ChunkAsk { request, feed, seq, index, chunk, .. } = ask.clone();
        let bytes = chunks[chunk as usize].clone().into();
        Chunk { kind: number::CHUNK, request, feed, seq, index, chunk, bytes, path: tree.path(chunk).unwrap() }
    }

    fn record() -> RecordRef {
        "talos/files#7.0".parse().unwrap()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_760_000_000_000 + ms).unwrap()
    }

    #[test]
    fn chunks_come_from_several_peers_and_leave_in_order_even_after_a_break() {
        let (chunks, tree) = content();
        let mut contents = Contents::default();
        assert!(contents.begin(tree.root(), &record(), LENGTH as u64, 3));
        let mut written = 3;
        let mut from: BTreeMap<PeerKey, usize> = BTreeMap::new();
        while written < 41 {
            let mut messages = contents.ask(|_| vec![[1; 32], [2; 32]], 64, at(0));
            assert!(messages.len() <= CHUNKS_MAX as usize);
            messages.reverse();
            for (peer, message) in messages {
                *from.entry(peer).or_default() += 1;
                for ready in contents.chunk(peer, answer(&message, &chunks, &tree)).unwrap() {
                    assert_eq!((ready.index, &ready.bytes), (written, &chunks[written as usize]));
                    written += 1;
                }
            }
        }
        assert!(from.values().all(|count| *count > 10), "{from:?}");
        assert!(contents.ask(|_| vec![[1; 32]], 64, at(0)).is_empty());
    }

    #[test]
    fn a_chunk_that_does_not_prove_is_blamed_and_asked_for_again() {
        let (chunks, tree) = content();
        let mut contents = Contents::default();
        contents.begin(tree.root(), &record(), LENGTH as u64, 0);
        let messages = contents.ask(|_| vec![[1; 32]], 64, at(0));
        let mut bad = answer(&messages[0].1, &chunks, &tree);
        bad.bytes[0] ^= 1;
        assert_eq!(contents.chunk([1; 32], bad.clone()), Err(BadChunk));
        // Nobody else can answer in its place.
        assert_eq!(contents.chunk([2; 32], answer(&messages[1].1, &chunks, &tree)), Ok(Vec::new()));
        let again = contents.ask(|_| vec![[2; 32]], 64, at(0));
        assert!(matches!(&again[0].1, Message::ChunkAsk(ask) if ask.chunk == 0));
    }

    #[test]
    fn who_has_nothing_or_is_silent_is_left_for_a_minute() {
        let (_, tree) = content();
        let mut contents = Contents::default();
        contents.begin(tree.root(), &record(), LENGTH as u64, 0);
        let messages = contents.ask(|_| vec![[1; 32]], 64, at(0));
        let Message::ChunkAsk(ask) = &messages[0].1 else { unreachable!() };
        contents.ended([1; 32], &End { kind: number::END, request: ask.request, more: false }, at(0));
        assert!(contents.ask(|_| vec![[1; 32]], 64, at(1)).is_empty());
        // The rest of what it was asked for is given up in time, and others are asked.
        let others = contents.ask(|_| vec![[2; 32]], 64, at(CHUNK_TIMEOUT_MS + 2));
        assert_eq!(others.len(), CHUNKS_PER_PEER_MAX);
        assert!(!contents.ask(|_| vec![[1; 32]], 64, at(CONTENT_RETRY_MS + CHUNK_TIMEOUT_MS + 10)).is_empty());
    }

    #[test]
    fn room_and_turns_are_bounded() {
        let (_, tree) = content();
        let mut contents = Contents::default();
        for number in 0..CONTENTS_MAX as u8 {
            assert!(contents.begin(ContentHash([number; 32]), &record(), LENGTH as u64, 0));
        }
        assert!(!contents.begin(tree.root(), &record(), LENGTH as u64, 0));
        assert!(contents.begin(ContentHash([0; 32]), &record(), LENGTH as u64, 0), "it is under way already");
        assert_eq!(contents.ask(|_| vec![[1; 32], [2; 32]], 5, at(0)).len(), 5);
    }
}
