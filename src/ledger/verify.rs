//! Verify: whether what is kept is whole, and whether state and index say what the journal says.
//!
//! ```text
//! journal -each frame-> checksum, proof of each body
//!         '-copy-> a ledger built from nothing -digest-> the same as ours?
//! ```
//!
//! The second ledger is made by the same code as the first, but by replay alone: so it also finds where taking a batch in and
//! replaying it differ.

use super::{Copied, Entry, Ledger, LedgerError, Position, stored_head};
use crate::envelope::{Hash, fits};
use sha2::{Digest as _, Sha256};
use std::{
    path::Path,
    sync::PoisonError,
    time::{Duration, Instant},
};

/// Where the second ledger is built, within the first one's directory: hard links need the same file system.
pub(super) const SHADOW: &str = "verify.tmp";
/// How long to wait for the index: twice the longest lag.
const INDEX_WAIT: Duration = Duration::from_millis(600);
/// Interval between looks at it.
const INDEX_POLL: Duration = Duration::from_millis(20);

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Verified {
    pub frames: u64,
    pub batches: u64,
    /// Records whose proofs were computed again.
    pub records: u64,
    pub bytes: u64,
    /// Whether the state is what the journal makes of it.
    pub state: bool,
    /// The same of the index; `None` where it was being written meanwhile.
    pub index: Option<bool>,
    /// What is wrong, a sentence each.
    pub damage: Vec<String>,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Hashes over all that state and index say, as of one position of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    pub position: Position,
    pub state: Hash,
    /// `None` where the index is behind or being written.
    pub index: Option<Hash>,
}

impl Ledger {
    /// Hashes over all that state and index say. Nothing is taken in while it runs: a second for a million records.
    pub fn digests(&self) -> Result<Digests, LedgerError> {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let (position, rows) = state.rows()?;
        let mut hasher = Sha256::new();
        for (key, value) in rows {
            for part in [key, value] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        let state_hash = Hash(hasher.finalize().into());
        let index = &self.shared.index;
        let mut hasher = Sha256::new();
        let current = index.position()? == Some(position);
        if current {
            index.each(|key, row| {
                hasher.update(key);
                hasher.update(row.place.batch.to_le_bytes());
                hasher.update(row.place.index.to_le_bytes());
                hasher.update(row.about.bytes());
                true
            })?;
        }
        let index_hash = (current && index.position()? == Some(position)).then(|| Hash(hasher.finalize().into()));
        Ok(Digests { position, state: state_hash, index: index_hash })
    }

    /// Reads all of the journal again, proves every body against its head, and compares state and index with ones built from the
    /// journal. `progress` hears how many bytes of how many are read.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<Verified, LedgerError> {
        let ours = self.settled_digests()?;
        let mut found = Verified::default();
        let begin = self.shared.journal.begin();
        let total = ours.position.saturating_sub(begin);
        let scanned = self.shared.journal.scan(begin, ours.position, |position, payload| {
            found.frames += 1;
            found.bytes += payload.len() as u64;
            if let Err(error) = look_at(payload, &mut found) {
                found.damage.push(format!("journal position {position}: {error}"));
            }
            progress(position - begin, total);
            Ok(())
        });
        if let Err(error) = scanned {
            found.damage.push(error.to_string());
            return Ok(found);
        }
        let shadow = self.shared.directory.join(SHADOW);
        let mut ours = ours;
        let theirs = loop {
            let built = self.built_anew(&shadow, ours.position);
            // Whatever came of it, it is of no more use.
            let _left_behind = std::fs::remove_dir_all(&shadow);
            match built? {
                Some(theirs) => break theirs,
                // Something was rewritten meanwhile, of which the older digests do not know.
                None => ours = self.digests()?,
            }
        };
        found.state = theirs.state == ours.state;
        found.index = ours.index.map(|index| theirs.index == Some(index));
        for (name, same) in [("state", found.state), ("index", found.index != Some(false))] {
            if !same {
                let text = format!("the {name} is not what the journal makes of it; `huecry ledger rebuild` makes it anew");
                found.damage.push(text);
            }
        }
        Ok(found)
    }

    /// Digests with the index, if it catches up within a moment: it is written shortly after the journal, to which `verify` itself adds a
    /// note of who asked for it.
    fn settled_digests(&self) -> Result<Digests, LedgerError> {
        let begun = Instant::now();
        loop {
            let digests = self.digests()?;
            if digests.index.is_some() || begun.elapsed() > INDEX_WAIT {
                return Ok(digests);
            }
            std::thread::sleep(INDEX_POLL);
        }
    }

    /// Builds a ledger from the journal up to `position`, and takes its digests; `None` if the journal was rewritten by what came later.
    fn built_anew(&self, directory: &Path, position: Position) -> Result<Option<Digests>, LedgerError> {
        super::start_anew(directory)?;
        let copied = self.copy_journal(&directory.join("journal"), Some(position))?;
        if copied.rewritten > position {
            return Ok(None);
        }
        let (ledger, writer, _) = Ledger::open(directory)?;
        writer.close()?;
        ledger.digests().map(Some)
    }

    /// Copies the journal, or links what does not change any more, into `directory`; up to a position or as far as it goes. What is there
    /// already and as long is left. Answers the files that were copied.
    pub(super) fn copy_journal(&self, directory: &Path, up_to: Option<Position>) -> Result<Copied, LedgerError> {
        std::fs::create_dir_all(directory).map_err(|error| LedgerError::io(directory, error))?;
        super::copy_journal(&self.shared.directory.join("journal"), directory, up_to)
    }
}

/// Proves what an entry claims.
fn look_at(payload: &[u8], found: &mut Verified) -> Result<(), LedgerError> {
    if let Entry::Batch(batch) | Entry::Filled(batch) = Entry::decode(payload)? {
        let head = stored_head(&batch.head)?;
        if !fits(&head, &batch.body) {
            return Err(LedgerError::Damaged(format!("the body of {}#{} is not the one that its head signs", head.feed(), head.seq)));
        }
        found.batches += 1;
        found.records += u64::from(head.count);
    }
    Ok(())
}
