//! One line of the access log, and what it says of its records.

use crate::record::{FeedId, RecordRef, Timestamp, Tlp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Batches that one line names; who was shown more of them has several lines.
const BATCHES_MAX: usize = 512;

/// Records that were shown, by batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    records: BTreeMap<(FeedId, u64), BTreeSet<u16>>,
    /// Everything up to this marking.
    everything: Option<Tlp>,
}

/// As what a line names everything.
const EVERYTHING: &str = "*";

impl Shown {
    /// Notes a record.
    pub fn add(&mut self, record: &RecordRef) {
        self.records.entry((record.feed.clone(), record.seq)).or_default().insert(record.index);
    }

    /// Notes that everything was shown, up to a marking.
    pub fn add_everything(&mut self, tlp_max: Tlp) {
        self.everything = self.everything.max(Some(tlp_max));
    }

    /// Up to which marking everything was shown, if it was.
    pub fn everything(&self) -> Option<Tlp> {
        self.everything
    }

    /// Whether nothing was shown.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.everything.is_none()
    }

    /// Each of them.
    pub fn records(&self) -> impl Iterator<Item = RecordRef> {
        self.records
            .iter()
            .flat_map(|((feed, seq), places)| places.iter().map(|index| RecordRef { feed: feed.clone(), seq: *seq, index: *index }))
    }

    /// As lines say it: `member/channel#batch` and its places, in pieces of so many batches as one line holds.
    pub(super) fn lines(&self) -> Vec<BTreeMap<String, String>> {
        let all: Vec<(String, String)> =
            self.records.iter().map(|((feed, seq), places)| (format!("{feed}#{seq}"), written(places.iter().copied()))).collect();
        let everything = self.everything.map(|tlp| BTreeMap::from([(EVERYTHING.to_owned(), tlp.label())]));
        all.chunks(BATCHES_MAX).map(|piece| piece.iter().cloned().collect()).chain(everything).collect()
    }
}

/// Places as `0-3,7`.
fn written(places: impl Iterator<Item = u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(place) => *last = place,
            _ => runs.push((place, place)),
        }
    }
    let run = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

/// Whether places written like that hold one. What is not written like that holds none.
fn holds(places: &str, index: u16) -> bool {
    places.split(',').any(|run| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&index))
    })
}

/// That somebody was shown something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessEntry {
    /// Its number, from 1.
    pub n: u64,
    pub at: String,
    /// An operator, with the token that they asked by, or `outlet NAME`.
    pub who: String,
    /// What it was shown by: `query`, `explain`, `export`, `taxii`, `outlet`, ...
    pub how: String,
    /// The reason that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Places of records, by batch.
    pub records: BTreeMap<String, String>,
    /// SHA-256 of the line before, in hexadecimal; zeros before the first.
    pub prev: String,
}

impl AccessEntry {
    /// Whether it tells of this record.
    pub fn tells_of(&self, record: &RecordRef) -> bool {
        let everything = self.records.contains_key(EVERYTHING);
        everything || self.records.get(&batch_of(record)).is_some_and(|places| holds(places, record.index))
    }

    /// How many records it tells of.
    pub fn count(&self) -> u64 {
        let run = |run: &str| {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            first.parse::<u64>().ok().zip(last.parse::<u64>().ok()).map_or(0, |(first, last)| (last + 1).saturating_sub(first))
        };
        self.records.values().flat_map(|places| places.split(',')).map(run).sum()
    }

    /// When it was.
    pub fn time(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.at)
    }
}

/// The batch of a record as lines name it.
pub(super) fn batch_of(record: &RecordRef) -> String {
    format!("{}#{}", record.feed, record.seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_that_are_written_hold_exactly_those(places in proptest::collection::btree_set(0u16..400, 0..60), extremes in any::<bool>()) {
            let mut places = places;
            if extremes {
                places.extend([0, u16::MAX - 1, u16::MAX]);
            }
            let text = written(places.iter().copied());
            for index in (0..400).chain([u16::MAX - 1, u16::MAX]) {
                prop_assert_eq!(holds(&text, index), places.contains(&index), "{} in {}", index, text);
            }
        }
    }

    #[test]
    fn a_line_counts_its_records() {
        let mut shown = Shown::default();
        for name in ["xa-police/main#3.0", "xa-police/main#3.1", "xa-police/main#3.9", "xb-cert/c2#8.4"] {
            shown.add(&name.parse().unwrap());
        }
        let records = shown.lines().remove(0);
        let entry = AccessEntry {
            n: 1,
            at: "2026-11-27T00:00:00Z".to_owned(),
            who: "dora".to_owned(),
            how: "query".to_owned(),
            why: None,
            records,
            prev: String::new(),
        };
        assert_eq!(entry.count(), 4);
        assert!(entry.tells_of(&"xa-police/main#3.1".parse().unwrap()) && !entry.tells_of(&"xa-police/main#3.2".parse().unwrap()));
        assert!(!entry.tells_of(&"xb-cert/c2#9.4".parse().unwrap()));
    }
}
