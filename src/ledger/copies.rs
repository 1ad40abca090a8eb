//! Copies: text of a publication that repeats, word for word, a record with a stricter marking.
//!
//! A person who turns a restricted report into a public one tends to copy a sentence. The index of words finds records that share a rare
//! word with it; those that are marked above the publication are then read and compared.

use super::{Ledger, LedgerError, Said, prose, saying, words_of};
use crate::record::{RecordRef, Tlp};
use std::collections::HashSet;

/// Words in a row that are a copy: fewer are a common phrase.
pub const COPY_WORDS: usize = 6;
/// Places of a text that are looked up: a text of 10,000 words is examined at every 40th, and any copied paragraph covers one.
const PLACES_MAX: usize = 256;
/// Rows of one word that are read. Of each place the longest word is asked, which few records share.
const ROWS_MAX: usize = 256;

/// A text that copies a record above its own marking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamePassage {
    pub record: RecordRef,
    pub marking: Tlp,
    /// The words that are the same.
    pub words: String,
}

impl Ledger {
    /// Finds words in a row that a report, document or question marked above `tlp` has too.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn copied_above<'t>(&self, texts: impl IntoIterator<Item = &'t str>, tlp: Tlp) -> Result<Option<SamePassage>, LedgerError> {
        if tlp == Tlp::Red || !self.any_above(tlp) {
            return Ok(None);
        }
        for text in texts {
            let words: Vec<String> = words_of(text).collect();
            let last = words.len().saturating_sub(COPY_WORDS);
            // Aligned places suffice: a copy of twice as many words covers one, whatever its beginning. Short texts are examined everywhere.
            let step = if words.len() <= PLACES_MAX { 1 } else { COPY_WORDS.max(words.len().div_ceil(PLACES_MAX)) };
            let mut asked: HashSet<&str> = HashSet::new();
            for begin in (0..=last).step_by(step) {
                let Some(row) = words.get(begin..begin + COPY_WORDS) else { break };
                let Some(rare) = row.iter().max_by_key(|word| word.len()) else { break };
                if asked.insert(rare)
                    && let Some(found) = self.copy_of(&words, rare, tlp)?
                {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Compares a text with the restricted records that say one of its words.
    fn copy_of(&self, words: &[String], rare: &str, tlp: Tlp) -> Result<Option<SamePassage>, LedgerError> {
        let (rows, _more) = self.scan(&saying(Said::Word, rare), ROWS_MAX)?;
        for row in rows {
            let Some(batch) = self.batch(row.place.batch)?.filter(|batch| batch.head.tlp > tlp) else { continue };
            let Some(record) = batch.record(row.place.index) else { continue };
            for restricted in prose(&record) {
                let theirs: Vec<String> = words_of(restricted).collect();
                let rows: HashSet<&[String]> = theirs.windows(COPY_WORDS).collect();
                if let Some(same) = words.windows(COPY_WORDS).find(|row| rows.contains(row)) {
                    let (record, marking) = (batch.reference(row.place.index), batch.head.tlp);
                    return Ok(Some(SamePassage { record, marking, words: same.join(" ") }));
                }
            }
        }
        Ok(None)
    }

    /// Returns true if anything here is marked above `tlp`.
    fn any_above(&self, tlp: Tlp) -> bool {
        let above = usize::from(super::level_of(tlp)) + 1;
        self.state(|state| state.changes.iter().skip(above).any(|count| *count > 0))
    }
}
