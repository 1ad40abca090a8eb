//! Shares: which records of others are passed on beyond their audience, by an operator's order. And the records that are looked
//! for by what they are instead of by a value: documents, questions, and what answers something.

use super::{Entry, Ledger, LedgerError, Place, ShareEntry, Writer};
use crate::record::{FeedId, Kind, RecordRef};
use std::collections::{BTreeMap, BTreeSet};

/// Records passed on at most: an operator names them, whole reports at a time. Some 20 MiB in memory.
pub const SHARES_MAX: usize = 262_144;
/// Further audiences of one record at most: as many as a head names.
const WITH_MAX: usize = 64;

/// What is passed on, by place.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    feeds: BTreeMap<FeedId, BTreeMap<u64, BTreeMap<u16, BTreeSet<String>>>>,
    count: usize,
}

impl Shares {
    /// Puts an order in force.
    pub fn apply(&mut self, entry: &ShareEntry) {
        for record in entry.records.iter().filter_map(|text| text.parse::<RecordRef>().ok()) {
            let here = self.count < SHARES_MAX;
            let seqs = self.feeds.entry(record.feed.clone()).or_default();
            let places = seqs.entry(record.seq).or_default();
            let with = places.entry(record.index).or_default();
            if entry.ends {
                self.count -= usize::from(with.remove(&entry.with));
            } else if here && with.len() < WITH_MAX {
                self.count += usize::from(with.insert(entry.with.clone()));
            }
            places.retain(|_, with| !with.is_empty());
            seqs.retain(|_, places| !places.is_empty());
            if seqs.is_empty() {
                self.feeds.remove(&record.feed);
            }
        }
    }

    /// Whether nothing is passed on.
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// How many (record, audience) pairs there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// What is passed on of one batch: the place, and with which audience.
    pub fn at(&self, feed: &FeedId, seq: u64) -> impl Iterator<Item = (u16, &str)> {
        let places = self.feeds.get(feed).and_then(|seqs| seqs.get(&seq)).into_iter().flatten();
        places.flat_map(|(index, with)| with.iter().map(|name| (*index, name.as_str())))
    }

    /// The batches of a feed of which something is passed on.
    pub fn seqs(&self, feed: &FeedId) -> impl Iterator<Item = u64> {
        self.feeds.get(feed).into_iter().flatten().map(|(seq, _)| *seq)
    }

    /// Everything that is passed on.
    pub fn all(&self) -> impl Iterator<Item = (RecordRef, &BTreeSet<String>)> {
        self.feeds.iter().flat_map(|(feed, seqs)| {
            let places = seqs.iter().flat_map(|(seq, places)| places.iter().map(move |(index, with)| (*seq, *index, with)));
            places.map(|(seq, index, with)| (RecordRef { feed: feed.clone(), seq, index }, with))
        })
    }

    /// Everything of one member that is passed on.
    pub fn of_member<'a>(&'a self, feed: &'a FeedId) -> impl Iterator<Item = (RecordRef, &'a BTreeSet<String>)> {
        self.all().filter(|(record, _)| record.feed.member == feed.member)
    }
}

impl Ledger {
    /// Looks at what is passed on.
    pub fn with_shares<T>(&self, look: impl FnOnce(&Shares) -> T) -> T {
        self.state(|state| look(&state.shares))
    }

    /// Records of a kind, the newest first, at most `limit`: documents and questions.
    pub fn listed(&self, kind: Kind, limit: usize) -> Result<Vec<Place>, LedgerError> {
        self.state(|state| state.listed(kind, limit))
    }

    /// Sightings that name a record, the oldest first, at most `limit`.
    pub fn answers(&self, record: &RecordRef, limit: usize) -> Result<Vec<Place>, LedgerError> {
        self.state(|state| state.answers(record, limit))
    }

    /// The records that take back a record: where they stand.
    pub fn withdrawn_by(&self, record: &RecordRef) -> Result<Vec<RecordRef>, LedgerError> {
        self.state(|state| state.withdrawn_by(record))
    }
}

impl Writer {
    /// Takes in an operator's order to pass records on, or to do so no more.
    pub fn keep_shares(&mut self, entry: ShareEntry) -> Result<(), LedgerError> {
        self.journal.append(&Entry::Share(entry.clone()).encode())?;
        self.changes.share(&entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timestamp;

    fn order(records: &[&str], with: &str, ends: bool) -> ShareEntry {
        let records = records.iter().map(|text| (*text).to_owned()).collect();
        ShareEntry { at: Timestamp::default(), by: "ana".to_owned(), records, with: with.to_owned(), ends }
    }

    #[test]
    fn an_order_counts_once_and_its_end_leaves_nothing() {
        let mut shares = Shares::default();
        shares.apply(&order(&["talos/c2#3.1", "talos/c2#3.0"], "circle:north", false));
        shares.apply(&order(&["talos/c2#3.1"], "circle:north", false));
        shares.apply(&order(&["talos/c2#3.1", "talos/c2#9.0"], "federation", false));
        let feed: FeedId = "talos/c2".parse().unwrap();
        assert_eq!(shares.len(), 4);
        assert_eq!(shares.at(&feed, 3).collect::<Vec<_>>(), [(0, "circle:north"), (1, "circle:north"), (1, "federation")]);
        assert_eq!(shares.seqs(&feed).collect::<Vec<_>>(), [3, 9]);
        shares.apply(&order(&["talos/c2#3.1", "talos/c2#3.0", "talos/c2#5.0"], "circle:north", true));
        shares.apply(&order(&["talos/c2#3.1", "talos/c2#9.0"], "federation", true));
        assert!(shares.is_empty());
    }
}
