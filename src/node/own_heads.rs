//! Own heads first: a lane that has published before waits, after a start, until others have told it its own head.
//!
//! A node restored from yesterday's backup would otherwise sign a second head for a place that its members know already,
//! and prove itself an equivocator. Two other members are asked (or all, if fewer); what they have that we lack is fetched,
//! like any feed. Private channels need no wait: nobody else could know them. Design section 8, `threats.md` C-09.

use crate::record::MemberId;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Members that must have told a lane its own head: one may be the thief, or behind like us.
pub const TELLERS: usize = 2;

#[derive(Debug, Default)]
struct Inner {
    needed: usize,
    heard: BTreeSet<MemberId>,
    alone: bool,
}

/// Whether this node's lane may publish yet. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct OwnHeads(Arc<Mutex<Inner>>);

/// What a lane still waits for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Waiting {
    pub needed: usize,
    pub heard: Vec<String>,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let heard = if self.heard.is_empty() { "nobody" } else { &self.heard.join(", ") };
        write!(out, "{} other members must first tell this node its own last head, {heard} has so far", self.needed)
    }
}

impl OwnHeads {
    /// A lane that has published before, in a federation with `others` other members that have nodes.
    pub fn wait_for(others: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { needed: others.min(TELLERS), ..Inner::default() })))
    }

    /// What it waits for; `None` when it may publish.
    pub fn waiting(&self) -> Option<Waiting> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = !inner.alone && inner.heard.len() < inner.needed;
        waits.then(|| Waiting { needed: inner.needed, heard: inner.heard.iter().map(ToString::to_string).collect() })
    }

    /// A member has told what it has of our lane, and we have all of it.
    pub fn heard(&self, member: &MemberId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).heard.insert(member.clone());
    }

    /// An operator answers for it: nobody else will be heard.
    pub fn alone(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).alone = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_waits_for_two_members_or_for_all_if_there_are_fewer() {
        let (one, two): (MemberId, MemberId) = ("xa-police".parse().unwrap(), "xb-police".parse().unwrap());
        assert_eq!(OwnHeads::default().waiting(), None, "a lane that never published");
        assert_eq!(OwnHeads::wait_for(0).waiting(), None, "a federation of one");
        let lane = OwnHeads::wait_for(195);
        lane.heard(&one);
        lane.heard(&one);
        assert_eq!(lane.waiting().unwrap().heard, ["xa-police"], "one member counts once");
        lane.heard(&two);
        assert_eq!(lane.waiting(), None);
        let lane = OwnHeads::wait_for(1);
        lane.heard(&two);
        assert_eq!(lane.waiting(), None);
        let lane = OwnHeads::wait_for(5);
        lane.alone();
        assert_eq!(lane.waiting(), None);
    }
}
