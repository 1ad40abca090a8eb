//! Questions: what may be asked, how it is looked for, and how much of it is answered at once.
//!
//! ```text
//! value -> ranges of the index \
//! words, tag, actor -> rows of the rarest, and what stands under those reports } -records-> filter -> by value -> sort -> a page
//! nothing of these -> everything, in the order of values; or batch by batch, newest first, for what has no value /
//! ```
//!
//! Whatever way leads to a record, the same filter decides about it ([`Meant::is_meant`]), so a way can only be slower or faster.

use super::{Assertion, Meant, Reading, Standing, ValueAnswer, title_of};
use crate::{
    envelope::Hash,
    intake::{Intake, value_of},
    ledger::{self, KeyRange, Ledger, LedgerError, Lengths, Place, Row, SCAN_ROWS_MAX, Said, name_of, saying, value_key, words_of},
    record::{
        ChannelName, Kind, MemberId, Observable, ObservableError, ObservableType, Record, RecordRef, Scope, Source, Timestamp, Tlp,
        UnknownName,
    },
};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most values in one answer unless less is asked for.
pub const VALUES_DEFAULT: usize = 100;
/// Most values in one answer.
pub const VALUES_MAX: usize = 10_000;
/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 1_024;
/// Rows that an answer at once may cost: at ten microseconds each, others wait less than a millisecond for it.
const LOOK_UP_ROWS_MAX: usize = 64;
/// Rows of a word that are counted to find the rarest.
const COUNTED_MAX: usize = 10_000;
/// Most words of one question.
pub const QUESTION_WORDS_MAX: usize = 32;

/// A question. What is left open does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// A value in any spelling, a network, or `*.domain` for all below a domain.
    pub text: Option<String>,
    /// Words, all of which the record or its report says.
    pub words: Option<String>,
    pub tag: Option<String>,
    pub actor: Option<String>,
    pub origin: Option<MemberId>,
    pub channel: Option<ChannelName>,
    /// Whose finding it is: an organisation, a site or an outside id, whole.
    pub source: Option<String>,
    pub kind: Option<ObservableType>,
    pub record: Option<Kind>,
    /// When it was received here: from, and before.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub tlp_max: Option<Tlp>,
    /// Also what is held, refused, withdrawn or over.
    pub all: bool,
    pub sort: Sort,
    /// Most values, and most records without one; 0 for [`VALUES_DEFAULT`].
    pub limit: usize,
    /// Where an answer before this one ended.
    pub cursor: Option<String>,
}

/// In which order values are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As they stand in the index: names by their labels from the right, addresses by number.
    #[default]
    Value,
    /// What was received last, first.
    Newest,
    /// What authors are surest of, first.
    Confidence,
}

impl std::str::FromStr for Sort {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let all = [("value", Self::Value), ("newest", Self::Newest), ("confidence", Self::Confidence)];
        let found = all.iter().find(|(name, _)| *name == text).map(|(_, sort)| *sort);
        found.ok_or_else(|| UnknownName::new("order", text, all.iter().map(|(name, _)| *name)))
    }
}

/// Why a question cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{0}; ask for a value in any spelling, a network, `*.domain`, or by --text, --tag, --actor, --origin, --type and others")]
    Unreadable(String),
    #[error("--text holds no word, or more than 32")]
    Words,
    #[error("`{0}` is no cursor of an answer to this question in this order")]
    Cursor(String),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Name(#[from] UnknownName),
}

/// A record that is about no value: a report, a document, a question.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RecordAnswer {
    pub about: String,
    #[serde(flatten)]
    pub assertion: Assertion,
}

/// An answer.
#[derive(Clone, Debug, Default, Serialize, schemars::JsonSchema)]
pub struct Answer {
    pub values: Vec<ValueAnswer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RecordAnswer>,
    /// How many records were not shown, by the rule that hid them.
    pub not_shown: BTreeMap<String, u64>,
    /// There is more than was asked for or looked at.
    pub cut: bool,
    /// Where to go on, if that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What a question's text means as ranges of the index, and whether a found record must speak for its subdomains.
#[derive(Default)]
pub(super) struct Plan {
    ranges: Vec<KeyRange>,
    /// Hosts that the value names, for what else stands there.
    beside: Vec<KeyRange>,
    /// Parents of the name asked for: only indicators with scope `subdomains` count there.
    parents: Vec<KeyRange>,
}

impl Plan {
    /// Whether what stands under this key is found; `speaks_below` if it means the names below it too.
    pub fn finds(&self, key: &[u8], speaks_below: bool) -> bool {
        let mut found = self.ranges.iter().chain(&self.beside).chain(self.parents.iter().filter(|_| speaks_below));
        found.any(|range| range.holds(key))
    }

    /// What is said of the value itself or of all around it, and whether it stands above.
    pub fn speaking(&self) -> impl Iterator<Item = (&KeyRange, bool)> {
        self.ranges.iter().map(|range| (range, false)).chain(self.parents.iter().map(|range| (range, true)))
    }
}

/// Where to look for what is said of a text: among networks only for those that are as wide as some that are named.
pub(super) fn plan(text: Option<&str>, lengths: Lengths) -> Result<Plan, QueryError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(Plan { ranges: vec![KeyRange::everything()], ..Plan::default() });
    };
    let unreadable = |error: ObservableError| QueryError::Unreadable(error.to_string());
    if let Some(name) = text.strip_prefix("*.") {
        let name = Observable::from_text(ObservableType::Domain, name).map_err(unreadable)?;
        return Ok(Plan { ranges: ledger::below_domain(&name.to_string()), ..Plan::default() });
    }
    if let Ok(net) = text.parse::<IpNet>() {
        let mut ranges = ledger::inside(net.trunc());
        ranges.extend(ledger::covering(net.trunc(), lengths).map(|wider| ledger::exactly(&wider)));
        return Ok(Plan { ranges, ..Plan::default() });
    }
    let value = Observable::recognise(text).map_err(unreadable)?;
    let mut ranges = vec![ledger::exactly(&value)];
    let (mut parents, mut beside) = (Vec::new(), Vec::new());
    if let Some(net) = value.network() {
        ranges.extend(ledger::covering(net, lengths).map(|wider| ledger::exactly(&wider)));
        beside.extend(ledger::on_host(&net.addr().to_string()));
    }
    if value.kind() == ObservableType::Domain {
        let mut name = value.to_string();
        beside.extend(ledger::on_host(&name));
        while let Some((_, parent)) = name.split_once('.') {
            let Ok(above) = Observable::from_text(ObservableType::Domain, parent) else { break };
            parents.push(ledger::exactly(&above));
            name = parent.to_owned();
        }
    }
    Ok(Plan { ranges, beside, parents })
}

/// Answers a question as of `now`.
pub fn answer(ledger: &Ledger, question: &Question, now: Timestamp) -> Result<Answer, QueryError> {
    answer_within(&mut Reading::up_to(question.tlp_max.unwrap_or(Tlp::Red), ledger, now), ledger, question, SCAN_ROWS_MAX)
}

/// The same in a few microseconds, weighed; `None` of a question that takes longer, because there is much about its value or it names none.
pub fn answer_at_once(
    ledger: &Ledger,
    intake: &Intake,
    question: &Question,
    tlp_max: Tlp,
    now: Timestamp,
) -> Result<Option<Answer>, QueryError> {
    // One reading serves the question and the weighing, so it has one clearance.
    let narrower = question.tlp_max.is_some_and(|tlp| tlp < tlp_max);
    if narrower || question.text.is_none() || !question.said()?.is_empty() {
        return Ok(None);
    }
    let mut reading = Reading::up_to(tlp_max, ledger, now);
    let mut answer = answer_within(&mut reading, ledger, question, LOOK_UP_ROWS_MAX)?;
    let weighed = !answer.cut && reading.weigh(&mut answer, intake, tlp_max, LOOK_UP_ROWS_MAX)?;
    Ok(weighed.then_some(answer))
}

fn answer_within(reading: &mut Reading<'_>, ledger: &Ledger, question: &Question, rows_max: usize) -> Result<Answer, QueryError> {
    let meant = Meant::of(question)?;
    let limit = match question.limit {
        0 => VALUES_DEFAULT,
        limit => limit.min(VALUES_MAX),
    };
    let cursor = question.cursor.as_deref().map(|text| question.read_cursor(text)).transpose()?;
    let asking =
        Asking { ledger, question, meant, limit, cursor, reading, left: rows_max, groups: BTreeMap::new(), answer: Answer::default() };
    let valueless = question.record.is_some_and(|kind| !matches!(kind, Kind::Indicator | Kind::Sighting));
    match (question.text.is_some(), valueless, asking.meant.said.is_empty()) {
        (false, _, false) => asking.by_words(),
        (false, true, true) => asking.by_batch(),
        _ => asking.by_value(),
    }
}

impl Question {
    /// Whether it can be asked at all.
    pub fn check(&self) -> Result<(), QueryError> {
        let _understood = (self.said()?, plan(self.text.as_deref(), Lengths::default())?);
        Ok(())
    }

    /// What the record or its report has to say.
    pub(super) fn said(&self) -> Result<BTreeSet<(Said, String)>, QueryError> {
        let mut said: BTreeSet<(Said, String)> = BTreeSet::new();
        if let Some(words) = &self.words {
            said.extend(words_of(words).map(|word| (Said::Word, word)));
            if said.is_empty() || said.len() > QUESTION_WORDS_MAX {
                return Err(QueryError::Words);
            }
        }
        said.extend(self.tag.iter().map(|tag| (Said::Tag, name_of(tag))));
        said.extend(self.actor.iter().map(|actor| (Said::Actor, name_of(actor))));
        Ok(said)
    }

    /// A hash over all but the place, the limit and the time, which moves on while one reads: a cursor of one question is none of another's.
    fn mark(&self) -> String {
        let same = Self { cursor: None, limit: 0, since: None, until: None, ..self.clone() };
        Hash::of(format!("{same:?}").as_bytes()).short()
    }

    fn read_cursor(&self, text: &str) -> Result<(u64, Vec<u8>), QueryError> {
        let wrong = || QueryError::Cursor(crate::record::excerpt(text));
        let mut parts = text.splitn(3, '.');
        let (mark, rank, key) =
            (parts.next(), parts.next().and_then(|rank| rank.parse().ok()), parts.next().and_then(|key| hex::decode(key).ok()));
        match (mark, rank, key) {
            (Some(mark), Some(rank), Some(key)) if mark == self.mark() => Ok((rank, key)),
            _ => Err(wrong()),
        }
    }

    fn cursor(&self, rank: u64, key: &[u8]) -> String {
        format!("{}.{rank}.{}", self.mark(), hex::encode(key))
    }
}

/// One question while it is answered.
struct Asking<'a, 'r> {
    ledger: &'a Ledger,
    question: &'a Question,
    meant: Meant<'a>,
    limit: usize,
    /// Rank and key of the last value of the answer before.
    cursor: Option<(u64, Vec<u8>)>,
    reading: &'a mut Reading<'r>,
    /// Records that may still be looked at.
    left: usize,
    /// What was found, by the key of its value.
    groups: BTreeMap<Vec<u8>, (Observable, Vec<Assertion>, Timestamp)>,
    answer: Answer,
}

impl Asking<'_, '_> {
    /// Looks at one record; `below` if it stands above the name asked for, and has to speak for what is below it.
    fn look(&mut self, place: Place, below: bool) -> Result<(), LedgerError> {
        self.left = self.left.saturating_sub(1);
        let Some(found) = self.reading.found(place)? else { return Ok(()) };
        let speaks_below = matches!(&found.record, Record::Indicator(one) if one.scope == Some(Scope::Subdomains));
        if (below && !speaks_below) || !self.meant.is_meant(self.reading, &found)? {
            return Ok(());
        }
        let assertion = self.reading.assertion(&found)?;
        if assertion.standing != Standing::Accepted && !self.question.all {
            *self.answer.not_shown.entry(rule_of(&assertion)).or_default() += 1;
            return Ok(());
        }
        let received = found.batch.entry.received;
        match value_of(&found.record) {
            Some(value) => {
                let group = || (value.clone(), Vec::new(), received);
                let (_, assertions, newest) = self.groups.entry(value_key(value)).or_insert_with(group);
                assertions.push(assertion);
                *newest = received.max(*newest);
            }
            None if self.answer.records.len() < self.limit => {
                self.answer.records.push(RecordAnswer { about: title_of(&found.record), assertion });
            }
            None => self.answer.cut = true,
        }
        Ok(())
    }

    /// Through the index, in the order of values.
    fn by_value(mut self) -> Result<Answer, QueryError> {
        let plan = plan(self.question.text.as_deref(), self.ledger.lengths())?;
        let speaking = plan.speaking().map(|(range, below)| (range.clone(), below));
        let mut ranges: Vec<(KeyRange, bool)> = speaking.chain(plan.beside.iter().map(|range| (range.clone(), false))).collect();
        ranges.sort_by(|(one, _), (other, _)| one.first().cmp(other.first()));
        let by_value = self.question.sort == Sort::Value;
        let from = self.cursor.as_ref().filter(|_| by_value).map(|(_, key)| key.clone());
        // The value before the one that is being read, and that one.
        let (mut before, mut current): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        for (range, below) in ranges {
            let mut range = from.as_ref().map_or(range.clone(), |key| range.past(key));
            loop {
                let most = ROWS_AT_ONCE.min(self.left + 1);
                let rows = self.rows(&range, most)?;
                if rows.len() < most && from.is_none() && range.is_of_value() {
                    self.reading.remember_rows(range.first(), rows.iter().map(|(_, row)| *row).collect());
                }
                for (key, row) in &rows {
                    if current.as_ref() != Some(key) {
                        let full = by_value && self.groups.len() >= self.limit;
                        if full || self.left == 0 {
                            return Ok(self.ended_at(current.as_deref()));
                        }
                        before = current.replace(key.clone());
                    } else if self.left == 0 {
                        // In the middle of a value: it is told from its beginning next time, unless it is all there is.
                        if before.is_some() {
                            self.groups.remove(key);
                        }
                        return Ok(self.ended_at(before.as_deref().or(current.as_deref())));
                    }
                    self.look(row.place, below)?;
                }
                match rows.last() {
                    Some((key, row)) if rows.len() == most => range = range.after(key, row.place),
                    _ => break,
                }
            }
        }
        Ok(self.page())
    }

    fn rows(&self, range: &KeyRange, most: usize) -> Result<Vec<(Vec<u8>, Row)>, LedgerError> {
        let mut rows = Vec::new();
        self.ledger.each_row_in(range, self.question.tlp_max.unwrap_or(Tlp::Red), |key, row| {
            rows.push((key.to_vec(), row));
            rows.len() < most
        })?;
        Ok(rows)
    }

    /// By the rows of the rarest word, and what stands under the reports that say it.
    fn by_words(mut self) -> Result<Answer, QueryError> {
        let mut rarest: Option<(usize, KeyRange)> = None;
        for (what, word) in &self.meant.said {
            let range = saying(*what, word);
            let mut count = 0;
            self.ledger.each_row_in(&range, self.question.tlp_max.unwrap_or(Tlp::Red), |_, _| {
                count += 1;
                count < COUNTED_MAX
            })?;
            if rarest.as_ref().is_none_or(|(fewest, _)| count < *fewest) {
                rarest = Some((count, range));
            }
        }
        let Some((_, range)) = rarest else { return Ok(self.page()) };
        let places: Vec<Place> = self.rows(&range, SCAN_ROWS_MAX)?.into_iter().map(|(_, row)| row.place).collect();
        let mut seen = BTreeSet::new();
        for place in places {
            if self.left == 0 {
                self.answer.cut = true;
                break;
            }
            if seen.insert(place) {
                self.look(place, false)?;
            }
            let Some(report) = self.report_at(place)? else { continue };
            let (mut under, most) = (Vec::new(), self.left);
            self.ledger.each_indicator_of(&report, |batch, index| {
                under.push(Place { batch: batch.number, index });
                under.len() < most
            })?;
            self.answer.cut |= under.len() >= most;
            for place in under {
                if seen.insert(place) {
                    self.look(place, false)?;
                }
            }
        }
        Ok(self.page())
    }

    /// The name of the report that stands at a place.
    fn report_at(&mut self, place: Place) -> Result<Option<RecordRef>, LedgerError> {
        let batch = self.reading.batch(place.batch)?.filter(|batch| batch.aside.is_none());
        Ok(batch.and_then(|batch| matches!(batch.record(place.index), Some(Record::Report(_))).then(|| batch.reference(place.index))))
    }

    /// Batch by batch, the newest first: for records that are about no value.
    fn by_batch(mut self) -> Result<Answer, QueryError> {
        let view = self.ledger.view(self.question.tlp_max.unwrap_or(Tlp::Red));
        let cursor = self.cursor.take().map(|(number, seen)| (number, String::from_utf8_lossy(&seen).into_owned()));
        let last = match cursor {
            None => self.ledger.batches(),
            // As older versions wrote it.
            Some((number, seen)) if seen.is_empty() => number,
            Some((_, seen)) => view.batch_after(view.unspell(&seen).ok_or_else(|| QueryError::Cursor(crate::record::excerpt(&seen)))?)?,
        };
        for number in (0..last).rev() {
            if self.answer.records.len() >= self.limit || self.left == 0 {
                self.answer.cut = true;
                // A number would count hidden batches too.
                self.answer.cursor = Some(self.question.cursor(0, view.spell(view.at_batch(number + 1)?).as_bytes()));
                break;
            }
            let Some(count) = self.reading.batch(number)?.map(|batch| batch.head.count) else { continue };
            // A batch is told whole, so that the next answer begins with another one.
            let limit = std::mem::replace(&mut self.limit, usize::MAX);
            for index in (0..count).rev() {
                self.look(Place { batch: number, index }, false)?;
            }
            self.limit = limit;
        }
        Ok(self.page())
    }

    /// An answer that ends behind this value because there is more.
    fn ended_at(mut self, key: Option<&[u8]>) -> Answer {
        self.answer.cut = true;
        if let (Sort::Value, Some(key)) = (self.question.sort, key) {
            self.answer.cursor = Some(self.question.cursor(0, key));
        }
        self.page()
    }

    /// Sorts what was found, and takes what comes behind the cursor.
    fn page(self) -> Answer {
        let Self { question, limit, cursor, groups, mut answer, .. } = self;
        let ranked = |(key, (value, assertions, newest)): (Vec<u8>, (Observable, Vec<Assertion>, Timestamp))| {
            let value = super::grouped(&value, assertions);
            let rank = match question.sort {
                Sort::Value => 0,
                Sort::Newest => newest.ms(),
                Sort::Confidence => u64::from(value.confidence),
            };
            (std::cmp::Reverse(rank), key, value)
        };
        let mut found: Vec<_> = groups.into_iter().map(ranked).collect();
        found.sort_by(|(rank, key, _), (other_rank, other_key, _)| (rank, key).cmp(&(other_rank, other_key)));
        // What has no value was told with the first page, unless it is what is paged through.
        if cursor.as_ref().is_some_and(|(_, key)| !key.is_empty()) {
            answer.records.clear();
        }
        if let Some((rank, last)) = cursor.map(|(rank, key)| (std::cmp::Reverse(rank), key)) {
            found.retain(|(its, key, _)| (*its, key) > (rank, &last));
        }
        if found.len() > limit {
            found.truncate(limit);
            answer.cut = true;
            answer.cursor = found.last().map(|(rank, key, _)| question.cursor(rank.0, key));
        }
        answer.values = found.into_iter().map(|(_, _, value)| value).collect();
        answer
    }
}

pub(super) fn is_source(source: &Source, asked: &str) -> bool {
    let parts = [&source.organisation, &source.url, &source.external_id];
    parts.into_iter().flatten().any(|part| name_of(part) == name_of(asked))
}

/// The few words under which a record that is not shown is counted.
fn rule_of(assertion: &Assertion) -> String {
    match assertion.standing {
        Standing::Held | Standing::Refused if assertion.policies.is_empty() => format!("{}, no policy permits it", assertion.standing),
        Standing::Held | Standing::Refused => format!("{} by `{}`", assertion.standing, assertion.policies.join("`, `")),
        Standing::Withdrawn => format!("withdrawn by {}", assertion.origin),
        other => other.to_string(),
    }
}
