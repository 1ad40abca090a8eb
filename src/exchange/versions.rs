//! Versions: of what an author said under one id, the newest counts, in whatever order and file it comes.
//!
//! ```text
//! (author, id) -key_of_version-> key;   versions of this file, versions taken before -> counts | is older | is final
//! ```
//!
//! A version counts from its own author alone: whoever else uses the id says something of their own. STIX calls a revocation final; MISP's
//! `deleted` is not. A version dated in the future does not count, or it would silence its id for good.
//!
//! Source: STIX 2.1 section 3.6; `timestamp` of the MISP core format.

use crate::record::Timestamp;
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, sync::Arc};

/// Ids whose versions are compared within one file, some 100 MB of them; of more, each counts as it comes.
pub const VERSIONS_MAX: usize = 2_000_000;

/// An author and an id of that author.
pub type VersionKey = u128;

/// One version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Nothing comes after it.
    pub is_final: bool,
}

impl Version {
    /// The later of two; final if one of them is.
    pub fn max(self, other: Self) -> Self {
        Self { ms: self.ms.max(other.ms), is_final: self.is_final || other.is_final }
    }
}

/// The key of an id that an author uses; the id itself where no author is named.
pub fn key_of_version(author: &str, id: u128) -> VersionKey {
    if author.is_empty() {
        return id;
    }
    let digest = Sha256::new().chain_update(id.to_be_bytes()).chain_update(author.as_bytes()).finalize();
    digest.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

/// The judgement of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    /// A newer one is here or in the file.
    Older,
    /// Its author took it back for good.
    Ended,
    /// It is dated after the present.
    Future,
}

/// Compares the versions of a file with each other, and with those that were taken before.
#[derive(Clone, Default)]
pub struct Versions {
    here: HashMap<VersionKey, Version>,
    known: Arc<HashMap<VersionKey, Version>>,
    latest: Option<Timestamp>,
}

impl Versions {
    /// Says what was taken before, and how late a version may be dated.
    pub fn begin(&mut self, known: Arc<HashMap<VersionKey, Version>>, latest: Timestamp) {
        (self.known, self.latest) = (known, Some(latest));
    }

    /// Notes a version of the file, ahead of its reading.
    pub(super) fn note(&mut self, key: VersionKey, version: Version) {
        if self.is_future(version) || (self.here.len() >= VERSIONS_MAX && !self.here.contains_key(&key)) {
            return;
        }
        let best = self.here.entry(key).or_default();
        *best = best.max(version);
    }

    /// Returns true if an id of the file was taken before.
    pub fn any_known(&self) -> bool {
        !self.known.is_empty() && self.here.keys().any(|key| self.known.contains_key(key))
    }

    fn is_future(&self, version: Version) -> bool {
        self.latest.is_some_and(|latest| version.ms > latest.ms())
    }

    /// Judges a version that is being read.
    pub(super) fn judge(&mut self, key: VersionKey, version: Version) -> Counts {
        if self.is_future(version) {
            return Counts::Future;
        }
        let against = |best: &Version| match () {
            () if best.is_final && !version.is_final => Counts::Ended,
            () if version.ms < best.ms => Counts::Older,
            () => Counts::Yes,
        };
        let known = if self.known.is_empty() { None } else { self.known.get(&key) };
        if let Some(counts) = known.map(against).filter(|counts| *counts != Counts::Yes) {
            return counts;
        }
        let counts = self.here.get(&key).map_or(Counts::Yes, against);
        if counts == Counts::Yes {
            self.note(key, version);
        }
        counts
    }

    /// The newest version of each id of the file.
    pub fn take(&mut self) -> HashMap<VersionKey, Version> {
        std::mem::take(&mut self.here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_an_author_counts_and_what_is_final_stays() {
        let at = |ms| Version { ms, is_final: false };
        let (one, other) = (key_of_version("one", 7), key_of_version("other", 7));
        assert_ne!(one, other);
        let mut versions = Versions::default();
        versions.begin(Arc::new(HashMap::from([(one, at(20))])), Timestamp::from_ms(100).unwrap());
        [at(30), at(10), at(500)].into_iter().for_each(|version| versions.note(one, version));
        assert!(versions.any_known());
        assert_eq!(
            [at(10), at(25), at(30), at(500)].map(|version| versions.judge(one, version)),
            [Counts::Older, Counts::Older, Counts::Yes, Counts::Future]
        );
        assert_eq!(versions.judge(other, at(5)), Counts::Yes, "another author's is another thing");
        let ended = Version { ms: 40, is_final: true };
        versions.note(one, ended);
        assert_eq!((versions.judge(one, ended), versions.judge(one, at(90))), (Counts::Yes, Counts::Ended));
        assert_eq!(versions.take()[&one], ended);
    }
}
