//! Words: what is said in prose, found by its words; tags and names of actors, found whole.
//!
//! A thousandth of what is kept: reports, documents, questions, and the few indicators with tags of their own. Rows stand in the index
//! beside those of values, under classes of their own.

use super::{KeyRange, NewRow, Place, under};
use crate::record::Record;
use std::collections::BTreeSet;

/// Distinct words of one record that it is found by: the longest report text has some hundreds; more is filler.
pub const WORDS_MAX: usize = 1_024;
/// Longest word, in bytes; what is longer is found by its beginning.
const WORD_BYTES_MAX: usize = 64;

/// Where a word may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// In a title, a text, or a name in it.
    Word,
    Tag,
    Actor,
}

impl Said {
    fn class(self) -> [u8; 2] {
        match self {
            Self::Word => *b"Ww",
            Self::Tag => *b"Wt",
            Self::Actor => *b"Wa",
        }
    }
}

/// The words of a text as they are compared: letters and digits, in lower case.
pub fn words_of(text: &str) -> impl Iterator<Item = String> + use<'_> {
    text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty()).map(|word| cut(word.to_lowercase()))
}

/// A tag or a name as it is compared: in lower case, whole.
pub fn name_of(text: &str) -> String {
    cut(text.trim().to_lowercase())
}

fn cut(mut word: String) -> String {
    let end = (0..=WORD_BYTES_MAX.min(word.len())).rev().find(|end| word.is_char_boundary(*end)).unwrap_or(0);
    word.truncate(end);
    word
}

/// All that a record says in prose.
pub fn prose(record: &Record) -> Vec<&str> {
    match record {
        Record::Report(report) => {
            let texts = [Some(&report.title), report.description.as_ref(), report.caveat.as_ref()].into_iter().flatten();
            let lists = [&report.tags, &report.actors, &report.malware, &report.techniques, &report.references];
            texts.chain(lists.into_iter().flatten()).map(String::as_str).collect()
        }
        Record::Document(document) => {
            let texts = [Some(&document.title), document.description.as_ref()].into_iter().flatten();
            texts.chain(&document.tags).map(String::as_str).collect()
        }
        Record::Question(question) => vec![&question.text],
        Record::Indicator(indicator) => indicator.tags.iter().map(String::as_str).collect(),
        Record::Sighting(_) | Record::Withdrawal(_) | Record::Renewal(_) => Vec::new(),
    }
}

/// Tags of a record's own.
pub fn tags(record: &Record) -> &[String] {
    match record {
        Record::Report(report) => &report.tags,
        Record::Document(document) => &document.tags,
        Record::Indicator(indicator) => &indicator.tags,
        _ => &[],
    }
}

/// Actors that a record names.
pub fn actors(record: &Record) -> &[String] {
    match record {
        Record::Report(report) => &report.actors,
        _ => &[],
    }
}

/// What a record is found by, beside its value.
fn said(record: &Record) -> BTreeSet<(Said, String)> {
    let words = prose(record).into_iter().flat_map(words_of).map(|word| (Said::Word, word));
    let tags = tags(record).iter().map(|tag| (Said::Tag, name_of(tag)));
    let actors = actors(record).iter().map(|actor| (Said::Actor, name_of(actor)));
    tags.chain(actors).chain(words).take(WORDS_MAX).collect()
}

/// Whether a record itself says this, by what it is found by.
pub fn says(record: &Record, what: Said, word: &str) -> bool {
    said(record).contains(&(what, word.to_owned()))
}

fn key(what: Said, word: &str, place: Place) -> Vec<u8> {
    [&what.class(), word.as_bytes(), &[0], &place.batch.to_be_bytes(), &place.index.to_be_bytes()].concat()
}

/// Keys of the rows by which a record is found, beside its value.
pub fn word_keys(record: &Record, place: Place) -> impl Iterator<Item = Vec<u8>> {
    said(record).into_iter().map(move |(what, word)| key(what, &word, place))
}

/// Those rows. What they say about the record is not used: who finds one reads it.
pub(super) fn word_rows(record: &Record, place: Place) -> impl Iterator<Item = NewRow> {
    word_keys(record, place).map(|key| (key, [0; 3]))
}

/// Rows of records that say a word, a tag or an actor.
pub fn saying(what: Said, word: &str) -> KeyRange {
    under([&what.class(), word.as_bytes(), &[0]].concat())
}
