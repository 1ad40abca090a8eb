//! Explain: the whole story of one record, or of every record about a value.

use super::{Assertion, QueryError, Question, Reading, answer, title_of};
use crate::{
    charter::Roster,
    ledger::Ledger,
    policy::Lists,
    record::{Observable, RecordRef, Timestamp},
};
use serde::Serialize;

/// The story of one record.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// The value, or what the record is about in a few words.
    pub about: String,
    #[serde(flatten)]
    pub assertion: Assertion,
    /// The node that brought it, `this node` for our own, or the key if no card names it any more.
    pub through: String,
    pub head_id: String,
    pub signed_by: String,
    /// Hash of the policy that judged, as it was then.
    pub policy_hash: String,
    /// Lists of ours that its value is on now.
    pub lists: Vec<String>,
}

/// Explains a record by its name, or all records about a value. Empty when nothing is held about it.
pub fn explain(ledger: &Ledger, roster: &Roster, lists: &Lists, text: &str, now: Timestamp) -> Result<Vec<Story>, QueryError> {
    let mut reading = Reading::new(ledger, now);
    if let Ok(reference) = text.parse::<RecordRef>() {
        let found = reading.named(&reference)?;
        return Ok(found.iter().map(|found| story(&reading, roster, lists, found)).collect());
    }
    let question = Question { text: Some(text.to_owned()), all: true, limit: super::VALUES_DEFAULT, ..Question::default() };
    let mut stories = Vec::new();
    for value in answer(ledger, &question, now)?.values {
        for reference in value.assertions.iter().filter_map(|one| one.reference.parse().ok()) {
            stories.extend(reading.named(&reference)?.iter().map(|found| story(&reading, roster, lists, found)));
        }
    }
    Ok(stories)
}

fn story(reading: &Reading<'_>, roster: &Roster, lists: &Lists, found: &super::Found) -> Story {
    let entry = &found.batch.entry;
    let through = match <[u8; 32]>::try_from(entry.from.as_slice()) {
        Err(_) => "this node".to_owned(),
        Ok(key) => roster
            .node(&key, entry.received)
            .map_or_else(|| format!("node {}", hex::encode(key)), |node| format!("{}'s node `{}`", node.member, node.node)),
    };
    let signed_by = crate::envelope::SignedHead::open(&entry.head, &roster.federation());
    let on = |value: &Observable| lists.of(value).names().map(str::to_owned).collect();
    Story {
        about: title_of(&found.record),
        assertion: reading.assertion(found),
        through,
        head_id: entry.id.to_string(),
        signed_by: signed_by.map(|head| head.key().to_string()).unwrap_or_default(),
        policy_hash: entry.policy.to_string(),
        lists: crate::intake::value_of(&found.record).map(on).unwrap_or_default(),
    }
}
