//! Deferral: members whose content the door does not take now, because their quota is used up or the disk is full. Their content is not
//! fetched until then, from anybody; their removals are.

use super::{PeerKey, Replica};
use crate::record::{FeedId, MINUTE_MS, MemberId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Members that may be deferred at once: all of a charter.
const DEFERRED_MAX: usize = crate::charter::CHARTER_LIST_MAX;
/// Longest deferral.
const DEFERRAL_MS_MAX: u64 = 10 * MINUTE_MS;

/// One member's.
#[derive(Default)]
struct Deferral {
    until: Timestamp,
    /// Peers that were asked for the removals of a feed since it began.
    removals_of: BTreeSet<(FeedId, PeerKey)>,
}

/// The members that are deferred.
#[derive(Default)]
pub(super) struct Deferrals {
    members: BTreeMap<MemberId, Deferral>,
    /// Nobody's content is fetched.
    all: bool,
}

impl Deferrals {
    /// Defers a member's content.
    pub fn begin(&mut self, member: &MemberId, until: Timestamp, now: Timestamp) {
        if !self.all {
            self.members.retain(|_, one| one.until > now);
        }
        if let Some(one) = self.entry(member) {
            // Batches of another date may have room sooner, so it is tried again now and then.
            one.until = until.min(now.plus_ms(DEFERRAL_MS_MAX)).max(one.until);
        }
    }

    /// Returns true while a member's content is not fetched.
    pub fn holds(&self, member: &MemberId, now: Timestamp) -> bool {
        self.all || self.members.get(member).is_some_and(|one| one.until > now)
    }

    /// Returns true the first time that a peer is to be asked for the removals of a feed.
    fn asks_removals(&mut self, feed: &FeedId, peer: PeerKey) -> bool {
        self.entry(&feed.member).is_some_and(|one| one.removals_of.insert((feed.clone(), peer)))
    }

    fn entry(&mut self, member: &MemberId) -> Option<&mut Deferral> {
        let room = self.members.len() < DEFERRED_MAX || self.members.contains_key(member);
        room.then(|| self.members.entry(member.clone()).or_default())
    }
}

impl Replica {
    /// Starts or ends the deferral of all content: the door takes none while the disk is full.
    pub fn set_full(&mut self, full: bool) {
        self.deferrals.all = full;
    }

    /// Defers a member's content until the door takes it again, and drops requests for it that are under way.
    pub(super) fn defer(&mut self, feed: &FeedId, until: Timestamp, now: Timestamp) {
        self.deferrals.begin(&feed.member, until, now);
        let of_member = |other: &FeedId| other.member == feed.member;
        for (_, fetching) in self.feeds.iter_mut().filter(|(other, _)| of_member(other)) {
            fetching.drop_content_on_its_way();
        }
        self.ranges.retain(|_, range| range.removals || !of_member(&range.feed));
        self.ahead.retain(|other, _| !of_member(other));
    }

    /// Of peers that have more of a deferred feed than we hold: each is asked once for the removals in it.
    pub(super) fn removals_to_ask(&mut self, feed: &FeedId, held: &crate::intake::Spans) -> Vec<(PeerKey, u64, u64)> {
        let lacking = |(key, peer): (&PeerKey, &super::Peer)| {
            let lacks = held.lacks(peer.cursors.get(feed)?);
            let (first, last) = (lacks.intervals().first()?.0, lacks.last()?);
            Some((*key, first, last))
        };
        let peers: Vec<(PeerKey, u64, u64)> = self.peers.iter().filter_map(lacking).collect();
        peers.into_iter().filter(|(peer, ..)| self.deferrals.asks_removals(feed, *peer)).collect()
    }
}
