//! Clones: two machines with one node key, because a node was copied or stolen.
//!
//! Others cannot tell which of the two is the owner's; only a card signed by the root key can. So neither may keep the other out: the
//! newest connection of a key replaces an older one, and each of the two gets its turn, in which it can hand over its documents.

use crate::replica::PeerKey;
use libp2p::swarm::ConnectionId;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

/// A connection keeps its place for so long: two nodes that dial each other at once have two connections, and need no replacement.
const TURN: Duration = Duration::from_secs(10);
/// Replacements within [`SIGHT`] that are a sign of a clone: a node that restarts causes one.
const SIGNS_MIN: usize = 4;
/// Time over which replacements are counted.
const SIGHT: Duration = Duration::from_secs(300);

/// The connections of every node key.
#[derive(Default)]
pub struct Clones {
    /// The oldest first; as many as the connection limits allow.
    connections: HashMap<PeerKey, Vec<(ConnectionId, Instant)>>,
    /// Times of replacements, for keys that had one; [`SIGNS_MIN`] each.
    replaced: BTreeMap<PeerKey, VecDeque<Instant>>,
    /// Keys whose stream ended with a replaced connection, and whose newer one has none yet.
    without_stream: BTreeSet<PeerKey>,
}

impl Clones {
    /// Notes a new connection. Returns older ones that have had their turn.
    pub fn established(&mut self, key: PeerKey, id: ConnectionId, now: Instant) -> Vec<ConnectionId> {
        let connections = self.connections.entry(key).or_default();
        connections.push((id, now));
        self.replace(&key, now)
    }

    /// Notes the end of a connection.
    pub fn closed(&mut self, key: &PeerKey, id: ConnectionId) {
        if let Some(connections) = self.connections.get_mut(key) {
            connections.retain(|(one, _)| *one != id);
            if connections.is_empty() {
                self.connections.remove(key);
                self.without_stream.remove(key);
            }
        }
    }

    /// Returns true, once after each replacement, if the stream of a key ended with it: the newer connection needs one.
    pub fn needs_stream(&mut self, key: &PeerKey) -> bool {
        self.without_stream.remove(key) && self.connections.contains_key(key)
    }

    /// Older connections of a key that have had their turn.
    pub fn over(&mut self, now: Instant) -> Vec<ConnectionId> {
        let keys: Vec<PeerKey> = self.connections.iter().filter(|(_, all)| all.len() > 1).map(|(key, _)| *key).collect();
        keys.iter().flat_map(|key| self.replace(key, now)).collect()
    }

    fn replace(&mut self, key: &PeerKey, now: Instant) -> Vec<ConnectionId> {
        let Some(connections) = self.connections.get_mut(key) else { return Vec::new() };
        let newest = connections.len().saturating_sub(1);
        let over = connections.iter().take(newest).filter(|(_, since)| now.saturating_duration_since(*since) >= TURN);
        let over: Vec<ConnectionId> = over.map(|(id, _)| *id).collect();
        connections.retain(|(id, _)| !over.contains(id));
        if !over.is_empty() {
            let times = self.replaced.entry(*key).or_default();
            times.push_back(now);
            times.drain(..times.len().saturating_sub(SIGNS_MIN));
            self.without_stream.insert(*key);
        }
        over
    }

    /// Keys that two machines seem to use.
    pub fn seen(&mut self, now: Instant) -> Vec<PeerKey> {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < SIGHT;
        self.replaced.retain(|_, times| times.back().is_some_and(lately));
        let often = |times: &VecDeque<Instant>| times.len() >= SIGNS_MIN && times.iter().all(lately);
        self.replaced.iter().filter(|(_, times)| often(times)).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PeerKey = [7; 32];

    #[test]
    fn x8_neither_of_two_machines_with_one_key_keeps_the_other_out() {
        let (mut clones, start) = (Clones::default(), Instant::now());
        let [thief, owner, again] = [1, 2, 3].map(ConnectionId::new_unchecked);
        assert!(clones.established(KEY, thief, start).is_empty());
        assert_eq!(clones.established(KEY, owner, start + TURN), [thief]);
        // The thief comes back at once, and the owner keeps its turn.
        assert!(clones.established(KEY, again, start + TURN + Duration::from_secs(1)).is_empty());
        assert!(clones.over(start + TURN + Duration::from_secs(9)).is_empty());
        assert_eq!(clones.over(start + TURN * 2), [owner]);
        assert!(clones.needs_stream(&KEY) && !clones.needs_stream(&KEY), "once, or a stream that fails would be opened for ever");
        clones.closed(&KEY, again);
    }

    #[test]
    fn x8_a_key_that_two_machines_use_is_seen_and_a_restart_is_not() {
        let (mut clones, start) = (Clones::default(), Instant::now());
        for number in 0..SIGNS_MIN + 1 {
            let now = start + TURN * u32::try_from(number).unwrap();
            assert!(clones.seen(now).is_empty());
            clones.established(KEY, ConnectionId::new_unchecked(number), now);
        }
        assert_eq!(clones.seen(start + TURN * 5), [KEY]);
        assert!(clones.seen(start + TURN * 5 + SIGHT).is_empty());
    }

    #[test]
    fn two_nodes_that_dial_each_other_at_once_keep_what_they_have() {
        let (mut clones, start) = (Clones::default(), Instant::now());
        let [one, other] = [1, 2].map(ConnectionId::new_unchecked);
        clones.established(KEY, one, start);
        assert!(clones.established(KEY, other, start + Duration::from_millis(5)).is_empty());
        assert_eq!(clones.over(start + TURN), [one], "one is enough");
    }
}
