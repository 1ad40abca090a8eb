//! Disputes: who calls what a false positive, held in memory because every record that comes is asked about.
//!
//! A dispute is a false-positive sighting that was accepted here and is neither withdrawn nor over. It speaks of a value,
//! or of records; it ends with the sighting that made it.

use super::value_key;
use crate::envelope::Hash;
use crate::record::{MemberId, Observable, RecordRef, Timestamp, Tlp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most sightings that are held as disputes: a hundred bytes each, and two people read them. What comes beyond is kept in
/// the journal like everything, and does not count.
pub const DISPUTES_MAX: usize = 1_000_000;

/// What is disputed: a value, or one record about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// The hash of its key: the value itself may have to go, and sled keeps old pages.
    Value(Hash),
    Record(String),
}

impl Subject {
    /// A value, in whatever record.
    pub fn value(value: &Observable) -> Self {
        Self::Value(Hash(Sha256::digest(value_key(value)).into()))
    }

    /// One record.
    pub fn record(record: &RecordRef) -> Self {
        Self::Record(record.to_string())
    }
}

/// One sighting that disputes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The sighting's own name.
    pub sighting: String,
    pub member: MemberId,
    /// The sighting's marking.
    pub tlp: Tlp,
    pub until: Timestamp,
    pub subjects: Vec<Subject>,
}

/// All disputes that count.
#[derive(Default)]
pub struct Disputes {
    of_subject: HashMap<Subject, BTreeMap<String, (MemberId, Tlp, Timestamp)>>,
    of_sighting: BTreeMap<String, Vec<Subject>>,
}

impl Disputes {
    /// Whether nothing is disputed, which spares most look-ups.
    pub fn is_empty(&self) -> bool {
        self.of_sighting.is_empty()
    }

    /// Counts a dispute.
    pub fn add(&mut self, dispute: Dispute) {
        if self.of_sighting.len() >= DISPUTES_MAX {
            return;
        }
        let Dispute { sighting, member, tlp, until, subjects } = dispute;
        for subject in &subjects {
            self.of_subject.entry(subject.clone()).or_default().insert(sighting.clone(), (member.clone(), tlp, until));
        }
        self.of_sighting.insert(sighting, subjects);
    }

    /// The sighting does not count any more. Answers whether it did.
    pub fn remove(&mut self, sighting: &str) -> bool {
        let Some(subjects) = self.of_sighting.remove(sighting) else { return false };
        for subject in subjects {
            if let Some(sightings) = self.of_subject.get_mut(&subject) {
                sightings.remove(sighting);
                if sightings.is_empty() {
                    self.of_subject.remove(&subject);
                }
            }
        }
        true
    }

    /// Who disputes one of these, as of `now`, in sightings up to a marking.
    pub fn by<'a>(&self, subjects: impl Iterator<Item = &'a Subject>, tlp_max: Tlp, now: Timestamp) -> BTreeSet<MemberId> {
        let found = subjects.filter_map(|subject| self.of_subject.get(subject)).flat_map(BTreeMap::values);
        found.filter(|(_, tlp, until)| *until > now && *tlp <= tlp_max).map(|(member, _, _)| member.clone()).collect()
    }

    /// Every sighting that disputes, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &[Subject])> {
        self.of_sighting.iter().map(|(sighting, subjects)| (sighting.as_str(), subjects.as_slice()))
    }
}
