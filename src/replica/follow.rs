//! Follow: what of others' channels a node wants. The sender filters, so that what nobody wants is not sent.
//!
//! Only indicators are filtered within a channel: reports, sightings, questions and documents are few and carry the sense,
//! and removals are never filtered.

use super::{Follow, Followed, number};
use crate::{
    policy::CONFIDENCE_UNSAID,
    record::{ChannelName, FeedId, MemberId, ObservableType, Record},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most channels that a node can follow one by one: more than a federation has members.
pub const FOLLOWED_MAX: usize = 512;

/// What of one channel is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Only indicators of these types; of all, if none is named.
    pub types: BTreeSet<ObservableType>,
    /// Only indicators of at least this confidence.
    pub confidence_min: u8,
}

impl Filter {
    /// Whether anything is left out.
    pub fn is_open(&self) -> bool {
        self.types.is_empty() && self.confidence_min == 0
    }

    /// Whether a record is wanted that inherits these defaults.
    pub fn wants(&self, record: &Record, defaults: impl FnOnce() -> Option<u8>) -> bool {
        let Record::Indicator(indicator) = record else { return true };
        let typed = self.types.is_empty() || self.types.contains(&indicator.value.kind());
        typed && (self.confidence_min == 0 || indicator.confidence.or_else(defaults).unwrap_or(CONFIDENCE_UNSAID) >= self.confidence_min)
    }
}

/// What a node wants of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Every channel, those named below with their filter.
    pub everything: bool,
    pub channels: BTreeMap<(MemberId, ChannelName), Filter>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { everything: true, channels: BTreeMap::new() }
    }
}

impl Wanted {
    /// What is wanted of a feed; `None` if nothing is.
    pub fn of(&self, feed: &FeedId) -> Option<Filter> {
        let named = self.channels.get(&(feed.member.clone(), feed.channel.clone())).cloned();
        named.or_else(|| self.everything.then(Filter::default))
    }

    /// As a message. A node's own channels are always wanted: others may know of what it has forgotten.
    pub fn message(&self, own: &MemberId) -> Follow {
        let line = |((member, channel), filter): (&(MemberId, ChannelName), &Filter)| Followed {
            member: member.clone(),
            channel: channel.clone(),
            types: filter.types.iter().copied().collect(),
            confidence_min: Some(filter.confidence_min).filter(|least| *least > 0),
        };
        let channels = self.channels.iter().filter(|((member, _), _)| member != own).map(line).collect();
        Follow { kind: number::FOLLOW, everything: self.everything, channels }
    }

    /// What a peer said that it wants; what is beyond the bound counts as everything, which costs it only its own line.
    pub fn from_message(follow: Follow) -> Self {
        if follow.channels.len() > FOLLOWED_MAX {
            return Self::default();
        }
        let line = |one: Followed| {
            let filter = Filter { types: one.types.into_iter().collect(), confidence_min: one.confidence_min.unwrap_or(0) };
            ((one.member, one.channel), filter)
        };
        Self { everything: follow.everything, channels: follow.channels.into_iter().map(line).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Indicator, Observable};

    #[test]
    fn a_filter_looks_at_indicators_and_lets_everything_else_pass() {
        let filter = Filter { types: BTreeSet::from([ObservableType::Ipv4]), confidence_min: 60 };
        let indicator = |value: &str, confidence| {
            let mut one = Indicator::of(Observable::recognise(value).unwrap(), None);
            one.confidence = confidence;
            Record::Indicator(one)
        };
        assert!(filter.wants(&indicator("192.0.2.1", Some(60)), || None));
        assert!(!filter.wants(&indicator("192.0.2.1", Some(59)), || None));
        assert!(filter.wants(&indicator("192.0.2.1", None), || Some(80)), "its report's confidence counts");
        assert!(!filter.wants(&indicator("192.0.2.1", None), || None), "unsaid is 50");
        assert!(!filter.wants(&indicator("evil.example", Some(90)), || None));
    }

    #[test]
    fn what_is_wanted_travels_and_comes_back() {
        let mut wanted = Wanted { everything: false, ..Wanted::default() };
        let (member, channel): (MemberId, ChannelName) = ("talos".parse().unwrap(), "c2".parse().unwrap());
        wanted.channels.insert((member, channel), Filter { types: BTreeSet::from([ObservableType::Domain]), confidence_min: 30 });
        assert_eq!(Wanted::from_message(wanted.message(&"xa-police".parse().unwrap())), wanted);
        assert_eq!(wanted.of(&"talos/spam".parse().unwrap()), None);
    }
}
