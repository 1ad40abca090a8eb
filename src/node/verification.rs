//! Verification queue: documents of peers on their way to the door. Each peer has a budget, so that a member that sends forged documents
//! cannot hold up what others send.
//!
//! ```text
//! document -known already? -> budget of the peer -> queue of the peer -two at a time-> door -> done -> the next
//!                                 '- dropped, counted: it is offered again when peers compare what they have
//! ```

use crate::{
    record::{MINUTE_MS, Timestamp},
    replica::PeerKey,
};
use std::collections::{BTreeMap, VecDeque};

/// Documents of one peer that are with the door at once.
const WITH_DOOR_MAX: usize = 2;
/// Documents of all peers that are with the door at once: a fraction of its queue.
const ALL_WITH_DOOR_MAX: usize = 64;
/// Bytes of one peer that wait: the whole roster of a large federation.
const PEER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of all peers that wait.
const ALL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that one peer may send within a minute, whatever becomes of them: twice such a roster.
const MINUTE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A document by its number, see [`crate::node::door::document`].
type Waiting = (u64, Vec<u8>);

#[derive(Default)]
struct Budget {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    with_door: usize,
    /// Bytes since a moment.
    minute: (usize, Timestamp),
}

/// The queues of all peers.
#[derive(Default)]
pub(super) struct Verification {
    peers: BTreeMap<PeerKey, Budget>,
    bytes: usize,
    with_door: usize,
}

impl Verification {
    /// Queues a document. Returns false if the peer, or all peers together, have sent too much.
    pub fn push(&mut self, from: PeerKey, document: u64, bytes: Vec<u8>, now: Timestamp) -> bool {
        let budget = self.peers.entry(from).or_default();
        if now.ms_since(budget.minute.1) > MINUTE_MS {
            budget.minute = (0, now);
        }
        budget.minute.0 = budget.minute.0.saturating_add(bytes.len());
        let fits = budget.minute.0 <= MINUTE_BYTES_MAX
            && budget.bytes + bytes.len() <= PEER_BYTES_MAX
            && self.bytes + bytes.len() <= ALL_BYTES_MAX;
        if fits {
            budget.bytes += bytes.len();
            self.bytes += bytes.len();
            budget.waiting.push_back((document, bytes));
        }
        fits
    }

    /// The next document for the door, of the peer that has the fewest there.
    pub fn next(&mut self) -> Option<(PeerKey, Waiting)> {
        if self.with_door >= ALL_WITH_DOOR_MAX {
            return None;
        }
        let ready = |budget: &Budget| budget.with_door < WITH_DOOR_MAX && !budget.waiting.is_empty();
        let (from, budget) = self.peers.iter_mut().filter(|(_, budget)| ready(budget)).min_by_key(|(_, budget)| budget.with_door)?;
        let (document, bytes) = budget.waiting.pop_front()?;
        budget.with_door += 1;
        budget.bytes -= bytes.len();
        self.bytes -= bytes.len();
        self.with_door += 1;
        Some((*from, (document, bytes)))
    }

    /// The door had no room for a document: it is the next again.
    pub fn put_back(&mut self, from: PeerKey, waiting: Waiting) {
        let budget = self.peers.entry(from).or_default();
        budget.bytes += waiting.1.len();
        self.bytes += waiting.1.len();
        budget.waiting.push_front(waiting);
        self.done(&from);
    }

    /// The door has answered for a document of this peer.
    pub fn done(&mut self, from: &PeerKey) {
        self.with_door = self.with_door.saturating_sub(1);
        if let Some(budget) = self.peers.get_mut(from) {
            budget.with_door = budget.with_door.saturating_sub(1);
        }
    }

    /// Drops the waiting documents of a peer that has disconnected. Its budget of the minute stays used.
    pub fn drop_waiting(&mut self, from: &PeerKey) {
        if let Some(budget) = self.peers.get_mut(from) {
            self.bytes -= std::mem::take(&mut budget.bytes);
            budget.waiting.clear();
        }
    }

    /// Forgets peers that have nothing here and have sent nothing for a minute.
    pub fn forget_idle(&mut self, now: Timestamp) {
        self.peers.retain(|_, budget| budget.with_door > 0 || !budget.waiting.is_empty() || now.ms_since(budget.minute.1) <= MINUTE_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_760_000_000_000 + ms).unwrap()
    }

    #[test]
    fn x11_a_peer_that_floods_has_two_documents_at_the_door_and_others_pass() {
        let (flooder, honest) = ([1; 32], [2; 32]);
        let mut queue = Verification::default();
        let sent = (0..100).filter(|_| queue.push(flooder, 1, vec![0; 566_000], at(0))).count();
        assert_eq!(sent, PEER_BYTES_MAX / 566_000, "as many as fit");
        let first: Vec<PeerKey> = std::iter::from_fn(|| queue.next()).map(|(from, _)| from).collect();
        assert_eq!(first, [flooder; 2]);
        assert!(queue.push(honest, 3, vec![0; 2_000], at(0)));
        assert_eq!(queue.next().unwrap().0, honest, "not behind the flood");
        queue.done(&flooder);
        let (from, waiting) = queue.next().unwrap();
        assert_eq!(from, flooder);
        let bytes = queue.bytes;
        queue.put_back(from, waiting);
        assert_eq!((queue.next().unwrap().0, queue.bytes), (flooder, bytes), "what the door has no room for is not lost");
        // The minute counts what was dropped, too, and also over a new connection.
        queue.drop_waiting(&flooder);
        assert!(!queue.push(flooder, 1, vec![0; 566_000], at(1_000)));
        assert!(queue.push(flooder, 1, vec![0; 566_000], at(MINUTE_MS + 1)));
        assert_eq!(queue.bytes, 566_000);
    }

    #[test]
    fn x11_all_peers_together_have_a_limit_and_idle_ones_are_forgotten() {
        let mut queue = Verification::default();
        let peers: Vec<PeerKey> = (0..10).map(|number| [number; 32]).collect();
        let sent = peers.iter().filter(|peer| queue.push(**peer, 1, vec![0; 15 << 20], at(0))).count();
        assert_eq!(sent, ALL_BYTES_MAX / (15 << 20));
        while let Some((from, _)) = queue.next() {
            queue.done(&from);
        }
        assert_eq!((queue.bytes, queue.with_door), (0, 0));
        queue.forget_idle(at(2 * MINUTE_MS));
        assert!(queue.peers.is_empty());
    }
}
