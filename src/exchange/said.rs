//! What files of others say, in our words, and what became of each of their sentences.

use crate::record::{Indicator, Report, Sighting, Tlp};
use std::collections::BTreeMap;

/// Most reports that one file gives; a larger feed is imported in parts.
pub const GROUPS_MAX: usize = 50_000;
/// Most names, relations and memberships that are kept of a file while it is read, some 150 MB of the longest.
pub const LINKS_MAX: usize = 1_000_000;

/// One thing that a file says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A claim about a value, within the report with this number.
    Indicator { indicator: Box<Indicator>, group: usize, tlp: Option<Tlp>, reach: Reach },
    /// Of a value of the report with this number, with the marking of what it is of if that is narrower.
    Sighting { sighting: Box<Sighting>, tlp: Option<Tlp>, group: usize },
    /// What is kept as it is: a rule, a pattern that is no list of values, an attached file.
    Document(Attached),
    /// Its author has taken back what has this outside id.
    Withdrawn { external_id: String },
    /// An older version of what has this outside id: it changes nothing, and is not gone from the file.
    Older { external_id: String },
}

/// A limit on the readers of something, in addition to its marking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// As its marking says.
    #[default]
    AsMarked,
    /// A named audience: its author names a group that does not exist here.
    Some,
    /// This node alone.
    Here,
}

/// Content that travels as a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    pub title: String,
    pub media_type: String,
    pub content: Vec<u8>,
    pub tlp: Option<Tlp>,
    pub tags: Vec<String>,
    /// The report that it belongs to.
    pub group: Option<usize>,
}

/// A report, and what its file says about who may read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub report: Report,
    pub tlp: Option<Tlp>,
    /// It is not published: its author revoked it, or its readers are unknown.
    pub revoked: bool,
    pub reach: Reach,
}

/// Where in a file something stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// From 1.
    pub line: u64,
    /// Such as `objects[17] indicator--…`; empty for a line of text.
    pub path: String,
}

/// A count, and where the first one stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    pub count: u64,
    pub line: u64,
    pub path: String,
}

/// What is to be known about an import beyond what it gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Taken, but not with all that it meant: how, and how often.
    pub changed: BTreeMap<&'static str, Tally>,
    /// Objects of kinds that have no record here, by kind.
    pub without_record: BTreeMap<String, u64>,
}

/// Kinds of objects that are told apart in [`Notes::without_record`]; more are one.
const KINDS_MAX: usize = 64;

impl Notes {
    /// Notes that something lost some of its meaning.
    pub fn changed(&mut self, how: &'static str, at: &At) {
        let tally = self.changed.entry(how).or_insert_with(|| Tally { count: 0, line: at.line, path: at.path.clone() });
        tally.count += 1;
    }

    /// Notes an object for which there is no record.
    pub fn without_record(&mut self, kind: &str) {
        let kind = crate::record::excerpt(kind);
        let known = self.without_record.contains_key(&kind) || self.without_record.len() < KINDS_MAX;
        *self.without_record.entry(if known { kind } else { "others".to_owned() }).or_default() += 1;
    }
}

/// Text as a record may hold it: one line, at most `bytes` long, in Unicode NFC. Answers whether something was lost.
pub(super) fn one_line(text: &str, bytes: usize) -> (String, bool) {
    use unicode_normalization::UnicodeNormalization as _;
    let flat: String = text.nfc().map(|char| if char.is_control() { ' ' } else { char }).collect();
    cut(flat.trim(), bytes)
}

/// Text as a record may hold it, with its line breaks, at most `bytes` long.
pub(super) fn lines_of_text(text: &str, bytes: usize) -> (String, bool) {
    use unicode_normalization::UnicodeNormalization as _;
    let kept: String = text.nfc().filter(|char| !char.is_control() || matches!(char, '\n' | '\t')).collect();
    cut(kept.trim(), bytes)
}

fn cut(text: &str, bytes: usize) -> (String, bool) {
    if text.len() <= bytes {
        return (text.to_owned(), false);
    }
    let end = (0..=bytes.saturating_sub('…'.len_utf8())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    (format!("{}…", text.get(..end).unwrap_or_default()), true)
}

/// Adds a word to a list of a record, once, if there is room and it fits.
pub(super) fn add_word(words: &mut Vec<String>, word: &str) {
    let (word, long) = one_line(word, crate::record::WORD_BYTES_MAX);
    if !long && !word.is_empty() && words.len() < crate::record::LIST_MAX && !words.contains(&word) {
        words.push(word);
    }
}
