//! Spans: which batches of a feed are here, as intervals of seq.
//!
//! Mostly one. Holes come from batches that were served to nobody who served us, from removals that overtook content, and
//! from what was passed on alone.

use crate::envelope::SEQ_MAX;
use serde::{Deserialize, Serialize};

/// Most intervals of one feed: a node that has so many holes fills some before it makes new ones. 4 KiB.
pub const SPANS_MAX: usize = 256;

/// Inclusive, ascending intervals that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spans(Vec<(u64, u64)>);

impl Spans {
    /// One interval.
    pub fn one(first: u64, last: u64) -> Self {
        Self(if first <= last { vec![(first, last)] } else { Vec::new() })
    }

    /// What a stranger says are spans, if they are.
    pub fn of(intervals: Vec<(u64, u64)>) -> Option<Self> {
        // Within what a head may say, so that no arithmetic on them can overflow.
        let ordered = intervals.iter().all(|(first, last)| (1..=*last).contains(first) && *last <= SEQ_MAX);
        let apart = intervals.iter().zip(intervals.iter().skip(1)).all(|((_, last), (first, _))| last.saturating_add(1) < *first);
        (ordered && apart && intervals.len() <= SPANS_MAX).then_some(Self(intervals))
    }

    /// The intervals, in order.
    pub fn intervals(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of all.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|(first, _)| *first)
    }

    /// The last of all.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether this one is here.
    pub fn contains(&self, seq: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= seq);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, last)| seq <= *last)
    }

    /// Whether any of `first..=last` is here.
    pub fn touches(&self, first: u64, last: u64) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < first);
        self.0.get(at).is_some_and(|(begin, _)| *begin <= last)
    }

    /// Every one that is here, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Adds one.
    pub fn insert(&mut self, seq: u64) {
        self.insert_span(seq, seq);
    }

    /// Adds `first..=last`.
    pub fn insert_span(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // Everything that overlaps or touches becomes one.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        let joined = self.0.get(from..to).unwrap_or_default();
        let first = joined.first().map_or(first, |(begin, _)| first.min(*begin));
        let last = joined.last().map_or(last, |(_, end)| last.max(*end));
        self.0.splice(from..to.max(from), [(first, last)]);
    }

    /// Takes `first..=last` out.
    pub fn remove_span(&mut self, first: u64, last: u64) {
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for (begin, end) in self.0.drain(..) {
            if end < first || begin > last {
                left.push((begin, end));
                continue;
            }
            if begin < first {
                left.push((begin, first - 1));
            }
            if end > last {
                left.push((last + 1, end));
            }
        }
        self.0 = left;
    }

    /// The holes between the first and the last.
    pub fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().zip(self.0.iter().skip(1)).map(|((_, last), (first, _))| (last + 1, first - 1))
    }

    /// What `other` has and this has not.
    pub fn lacks(&self, other: &Self) -> Self {
        let mut lacking = other.clone();
        for (first, last) in &self.0 {
            if lacking.is_empty() {
                break;
            }
            lacking.remove_span(*first, *last);
        }
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    proptest::proptest! {
        #[test]
        fn spans_are_a_set_of_numbers(steps in proptest::collection::vec((0u8..4, 1u64..40, 0u64..6), 0..60)) {
            let (mut spans, mut set) = (Spans::default(), BTreeSet::new());
            for (what, first, length) in steps {
                let last = first + length;
                match what {
                    0 => { spans.insert(first); set.insert(first); }
                    1 | 2 => { spans.insert_span(first, last); set.extend(first..=last); }
                    _ => { spans.remove_span(first, last); set.retain(|seq| !(first..=last).contains(seq)); }
                }
                proptest::prop_assert_eq!(spans.iter().collect::<BTreeSet<_>>(), set.clone());
                proptest::prop_assert_eq!(Spans::of(spans.intervals().to_vec()), Some(spans.clone()));
                proptest::prop_assert_eq!(spans.contains(first), set.contains(&first));
                proptest::prop_assert_eq!(spans.touches(first, last), set.range(first..=last).next().is_some());
                let other = Spans::one(1, 30);
                let lacking: BTreeSet<u64> = (1..=30).filter(|seq| !set.contains(seq)).collect();
                proptest::prop_assert_eq!(spans.lacks(&other).iter().collect::<BTreeSet<_>>(), lacking);
            }
        }
    }

    #[test]
    fn a_stranger_cannot_claim_what_is_no_set() {
        assert_eq!(Spans::of(vec![(5, 4)]), None);
        assert_eq!(Spans::of(vec![(1, 2), (3, 4)]), None);
        assert_eq!(Spans::of(vec![(4, 5), (1, 2)]), None);
        assert_eq!(Spans::of(vec![(0, 5)]), None);
        assert_eq!(Spans::of(vec![(1, u64::MAX)]), None);
        assert!(Spans::of(vec![(1, SEQ_MAX)]).is_some_and(|spans| spans.contains(7) && spans.count() == SEQ_MAX));
    }
}
