//! Contents of documents, as the event loop fetches and serves them. The plan is `replica::Contents`, the files are
//! `node::documents`; here they meet the streams.

use super::{Connected, Shell, documents::BACKLOG_MAX, serving::Reader};
use crate::{
    record::{DAY_MS, MemberId, Timestamp},
    replica::{Chunk, ChunkAsk, End, Message, PeerKey, number},
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes of contents that the nodes of one member are given in a day: sixteen of the largest. Who wants more has a bundle made.
pub const SERVED_BYTES_PER_DAY: u64 = 4 * 1024 * 1024 * 1024;

/// What a member was given today.
#[derive(Clone, Default)]
pub(super) struct Given {
    day: u64,
    bytes: Arc<AtomicU64>,
}

impl Given {
    /// Whether there is something left for today; counts what is sent into what it returns.
    fn today(&mut self, now: Timestamp) -> Option<Arc<AtomicU64>> {
        if self.day != now.ms() / DAY_MS {
            *self = Self { day: now.ms() / DAY_MS, bytes: Arc::default() };
        }
        (self.bytes.load(Ordering::Relaxed) < SERVED_BYTES_PER_DAY).then(|| Arc::clone(&self.bytes))
    }
}

impl Shell {
    /// Asks for the next chunks of what is wanted. What is under way and what is on the disk are compared whenever nothing waits
    /// to be written: after a failure it begins again from the disk.
    pub(super) fn fetch_contents(&mut self, now: Timestamp) {
        let wanted = self.documents.wanted();
        self.contents.retain(|hash| wanted.iter().any(|(one, _)| one == hash));
        if wanted.is_empty() {
            return;
        }
        if self.documents.backlog_room() == BACKLOG_MAX {
            for (hash, want) in &wanted {
                self.contents.agree(hash, want.have);
                self.contents.begin(*hash, &want.record, want.length, want.have);
            }
        }
        let room = self.documents.backlog_room();
        let replica = &self.replica;
        let asks = self.contents.ask(|record| replica.holders(&record.feed, record.seq), room, now);
        for (peer, message) in asks {
            self.send(&peer, &message);
        }
    }

    pub(super) fn on_chunk(&mut self, from: PeerKey, chunk: Chunk, now: Timestamp) {
        match self.contents.chunk(from, chunk) {
            Err(_bad) => self.cut(&from, "bad-chunk"),
            Ok(ready) => {
                for one in ready {
                    let hash = one.hash;
                    if !self.documents.append(one) {
                        self.contents.retain(|other| *other != hash);
                        return;
                    }
                }
                self.fetch_contents(now);
            }
        }
    }

    /// Gives a chunk, on a blocking thread, in the peer's turn, as long as its member has not had enough for today.
    pub(super) fn serve_chunk(&mut self, to: &PeerKey, ask: ChunkAsk, now: Timestamp) {
        let Some(connected) = self.connected.get(to) else { return };
        let member: MemberId = connected.member.clone();
        let given = self.given.entry(member).or_default().today(now);
        let Some(given) = given.filter(|_| connected.may_wait()) else {
            return self.send(to, &Message::End(End { kind: number::END, request: ask.request, more: false }));
        };
        let documents = self.documents.clone();
        self.in_its_turn(to, move |serving, reader: &Reader| {
            given.fetch_add(serving.serve_chunk(&documents, reader, &ask), Ordering::Relaxed);
        });
    }
}

impl Connected {
    /// Whether one wish more of this peer may wait its turn.
    pub(super) fn may_wait(&self) -> bool {
        Arc::strong_count(&self.turns) <= super::WISHES_MAX
    }
}
