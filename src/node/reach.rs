//! Reach: how far others have applied what we published, as they tell us themselves.
//!
//! A receipt comes over the peer's own authenticated stream and goes to the author alone. It is an acknowledgement, not a
//! proof: what a peer says of itself. Kept in memory; on every new connection peers say it again.

use crate::{
    intake::Spans,
    record::{FeedId, MemberId, Timestamp},
    replica::{PeerKey, Receipt},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// Most feeds of which one peer's receipts are remembered: the author's own channels, lanes and epochs.
const FEEDS_MAX: usize = 1_024;
/// Steps remembered of one feed at one peer, to say since when a record is applied there.
const STEPS_MAX: usize = 32;
/// Intervals of one receipt that are remembered; who has more holes than that is not worth a finer answer. With the steps
/// 16 KiB a feed and peer.
const INTERVALS_MAX: usize = 32;

/// What one peer has said of one feed.
#[derive(Clone, Debug, Default)]
pub struct Word {
    pub judged: Spans,
    pub exported: Option<u64>,
    pub withheld: u64,
    /// When it said so first.
    pub at: Timestamp,
    /// How far it was judged, and exported, when; the newest last.
    steps: VecDeque<(Timestamp, Spans, Option<u64>)>,
}

impl Word {
    /// Since when a batch is judged there, as far as steps are remembered.
    pub fn judged_since(&self, seq: u64) -> Option<Timestamp> {
        self.judged.contains(seq).then(|| self.steps.iter().find(|(_, judged, _)| judged.contains(seq)).map_or(self.at, |step| step.0))
    }

    /// Since when exports are rebuilt with it.
    pub fn exported_since(&self, seq: u64) -> Option<Timestamp> {
        let through = |exported: Option<u64>| exported.is_some_and(|through| through >= seq);
        (through(self.exported) && self.judged.contains(seq))
            .then(|| self.steps.iter().find(|step| through(step.2) && step.1.contains(seq)).map_or(self.at, |step| step.0))
    }
}

/// What a node has said of all our feeds.
#[derive(Clone, Debug)]
pub struct Teller {
    pub member: MemberId,
    pub node: String,
    pub connected: bool,
    /// When it was last heard.
    pub heard: Timestamp,
    pub feeds: BTreeMap<FeedId, Word>,
}

/// What every node has said. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Reach(Arc<Mutex<BTreeMap<PeerKey, Teller>>>);

impl Reach {
    /// A node is connected.
    pub fn connected(&self, key: PeerKey, member: &MemberId, node: &str, now: Timestamp) {
        let mut tellers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let teller = tellers.entry(key).or_insert_with(|| Teller {
            member: member.clone(),
            node: node.to_owned(),
            connected: true,
            heard: now,
            feeds: BTreeMap::new(),
        });
        (teller.connected, teller.heard) = (true, now);
    }

    /// A node is gone.
    pub fn gone(&self, key: &PeerKey, now: Timestamp) {
        if let Some(teller) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key) {
            (teller.connected, teller.heard) = (false, now);
        }
    }

    /// A node says how far it is with a feed of ours.
    pub fn told(&self, key: &PeerKey, receipt: Receipt, now: Timestamp) {
        let mut tellers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = receipt.intervals.len().saturating_sub(INTERVALS_MAX);
        let intervals = receipt.intervals.into_iter().skip(newest).collect();
        let (Some(teller), Some(judged)) = (tellers.get_mut(key), Spans::of(intervals)) else { return };
        let feed = FeedId::from(receipt.feed);
        if teller.feeds.len() >= FEEDS_MAX && !teller.feeds.contains_key(&feed) {
            return;
        }
        teller.heard = now;
        let word = teller.feeds.entry(feed).or_insert_with(|| Word { at: now, ..Word::default() });
        word.steps.push_back((now, judged.clone(), receipt.exported));
        if word.steps.len() > STEPS_MAX {
            word.steps.pop_front();
        }
        (word.judged, word.exported, word.withheld) = (judged, receipt.exported, receipt.withheld.unwrap_or(0));
    }

    /// What was said, by node.
    pub fn tellers(&self) -> Vec<(PeerKey, Teller)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(key, teller)| (*key, teller.clone())).collect()
    }
}
