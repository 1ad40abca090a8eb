//! Egress: the guard at the door outwards. Everything that leaves by a standing stream passes here, in the moment of
//! sending, whoever decided to send it.
//!
//! It trusts nothing that the sending side has found out: it reads the bytes that are about to leave, asks
//! [`releases`], which is written apart from `may_send`, and checks that a body belongs to the head
//! under which it is sent. Where it disagrees nothing leaves, the count rises, and a person is told.

use super::{Current, door::document};
use crate::{
    clock::Clock,
    envelope::{Class, Head, chunk_proves, fits},
    ledger::{Ledger, stored_head},
    policy::releases,
    record::{Content, Document, FeedId, MemberId, Record},
    replica::{Chunk, Message, WireFeed},
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

struct Shared {
    current: Current,
    ledger: Ledger,
    clock: Clock,
    refused: AtomicU64,
    last: Mutex<Option<String>>,
}

/// The guard. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Egress {
    shared: Arc<Shared>,
}

impl Egress {
    /// A guard over what this node may give away.
    pub fn new(current: Current, ledger: Ledger, clock: Clock) -> Self {
        let shared = Shared { current, ledger, clock, refused: AtomicU64::new(0), last: Mutex::new(None) };
        Self { shared: Arc::new(shared) }
    }

    /// How often it had to stop something. Anything but 0 is a fault of this program.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The sentence for a person, if it ever had to.
    pub fn alarm(&self) -> Option<String> {
        self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether `message` may leave for `reader`; a body leaves under the head that it belongs to.
    pub fn lets_out(&self, reader: &MemberId, message: &Message, under: Option<&Head>) -> bool {
        let fine = match message {
            Message::Hello(_) | Message::Ask(_) | Message::Digest(_) | Message::End(_) | Message::Follow(_) => true,
            Message::Announce(one) => self.head_may(reader, &one.head),
            Message::RangeHead(one) => self.head_may(reader, &one.head),
            Message::Body(one) => under.is_some_and(|head| self.may(reader, head) && fits(head, &one.body)),
            Message::Cursors(many) => many.cursors.iter().all(|one| self.feed_may(reader, &one.feed)),
            // Asking for a feed tells that it exists.
            Message::Pull(one) => self.feed_may(reader, &one.feed),
            Message::Range(one) => self.feed_may(reader, &one.feed),
            Message::Receipts(many) => many.receipts.iter().all(|one| one.feed.member == *reader),
            Message::ChunkAsk(one) => self.feed_may(reader, &one.feed),
            Message::Chunk(one) => self.chunk_may(reader, one),
            Message::Document(one) if one.document == document::PROOF => self.proof_may(reader, &one.part),
            Message::Document(_) => true,
        };
        if !fine {
            self.refuse(reader, message);
        }
        fine
    }

    fn refuse(&self, reader: &MemberId, message: &Message) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        // What it was about stays out of the text: alarms are read by more people than records are.
        let text = format!(
            "something that may not leave was about to be sent to `{reader}` ({}) and was stopped; report this fault",
            message.name()
        );
        tracing::error!(reader = reader.as_str(), message = message.name(), "the egress guard stopped a message");
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn may(&self, reader: &MemberId, head: &Head) -> bool {
        let roster = Arc::clone(&self.shared.current.get().roster);
        releases(roster.charter().charter(), head, reader, self.shared.clock.moment().latest, true)
    }

    fn head_may(&self, reader: &MemberId, bytes: &[u8]) -> bool {
        stored_head(bytes).is_ok_and(|head| self.may(reader, &head))
    }

    /// Whether a chunk is of the content that the record names under which it leaves, and that record may leave.
    fn chunk_may(&self, reader: &MemberId, chunk: &Chunk) -> bool {
        let batch = self.shared.ledger.batch_at(&FeedId::from(chunk.feed.clone()), chunk.seq).ok().flatten();
        batch.is_some_and(|batch| match batch.record(chunk.index) {
            Some(Record::Document(Document { content: Content::Hash { hash, length }, .. })) => {
                self.may(reader, &batch.head) && chunk_proves(&hash, length, chunk.chunk, &chunk.bytes, &chunk.path)
            }
            _ => false,
        })
    }

    /// Whether the reader may know that a feed exists: whether it may have its removals.
    fn feed_may(&self, reader: &MemberId, feed: &WireFeed) -> bool {
        let Some(state) = self.shared.ledger.feed(&FeedId::from(feed.clone())) else { return true };
        stored_head(&state.head).is_ok_and(|head| self.may(reader, &Head { class: Class::Removal, ..head }))
    }

    fn proof_may(&self, reader: &MemberId, bytes: &[u8]) -> bool {
        let heads = crate::charter::equivocation_heads(bytes);
        heads.is_some_and(|heads| heads.into_iter().all(|head| self.may(reader, &Head { class: Class::Removal, ..head })))
    }
}
