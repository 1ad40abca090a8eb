//! What stands in the journal.
//!
//! One byte of kind, then CBOR. Everything that was proved and decided, in the order in which it was; replaying it builds
//! the same state, and verdicts are replayed, never judged again.

use super::{LedgerError, Position};
use crate::{
    cbor,
    enforce::OrderEntry,
    envelope::{BATCH_RECORDS_MAX, Hash, part_of},
    intake::{Admitted, Outcome},
    policy::{Judgement, Piece, Verdict},
    record::{ChannelName, FeedId, MemberId, ObservableType, RecordRef, Timestamp},
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::{BTreeSet, HashMap};

/// One journal entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Charter(Vec<u8>),
    /// A second valid charter of the version in force: the proof of a fork.
    Rival(Vec<u8>),
    Stamp(Vec<u8>),
    Card(Vec<u8>),
    /// An equivocation proof.
    Proof(Vec<u8>),
    Batch(BatchEntry),
    /// A batch that is here already, with more of its records than before. The lines of those that were here stay.
    Filled(BatchEntry),
    /// What was set aside of a feed, or let back in.
    Quarantine(QuarantineEntry),
    /// What is left of a batch whose body was rewritten out.
    Erased(ErasedEntry),
    /// What a person did here.
    Decision(DecisionEntry),
    /// A policy that was put in force.
    Policy(PolicyEntry),
    /// Verdicts that were made after their records came: by a person, by time, or under another policy.
    Judged(JudgedEntry),
    /// What operators ordered about what is enforced.
    Order(OrderEntry),
    /// Which channels are followed from now on.
    Follow(FollowEntry),
    /// Which records are passed on beyond their audience, or no more.
    Share(ShareEntry),
    /// Records whose content goes.
    Erasure(ErasureEntry),
    /// What a person decided about records that were due for review.
    Review(ReviewEntry),
}

/// Records that a rule of retention asked about, and that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewEntry {
    pub at: Timestamp,
    pub by: String,
    pub rule: String,
    /// Why they stay.
    pub text: String,
    /// Of what was received until then.
    pub received_until: Timestamp,
    pub until: Timestamp,
}

/// Why content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErasedBy {
    /// An operator's order.
    Order,
    /// Its author took it back as `legal` or `over-shared`.
    Author,
    /// A rule of this node's retention.
    Retention,
    /// There was no room for it.
    Room,
    /// The agreement under which it was shared has ended.
    Agreement,
}

impl ErasedBy {
    /// Whether it stays out for good, whoever brings it again. What only made room, or grew old, would go again by itself.
    pub fn is_lasting(self) -> bool {
        matches!(self, Self::Order | Self::Author)
    }
}

/// Records whose content goes: what remains of each is its leaf's hash, so that its neighbours still prove themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureEntry {
    pub at: Timestamp,
    /// The operator who ordered it, where one did.
    pub by: Option<String>,
    pub because: ErasedBy,
    /// The order, the rule: what an auditor reads. It does not say what was erased.
    pub text: String,
    pub places: Vec<ErasedPlaces>,
    /// Where decisions of people stand whose words say what is erased.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Position>,
}

/// Runs of places in a batch: the first of each, and how many.
pub type Runs = Vec<(u16, u16)>;

/// Places of one batch, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedPlaces {
    pub feed: String,
    pub seq: u64,
    pub runs: Runs,
}

impl ErasedPlaces {
    /// Some places of a batch.
    pub fn of(feed: &FeedId, seq: u64, places: impl IntoIterator<Item = u16>) -> Self {
        Self { feed: feed.to_string(), seq, runs: runs_of(places) }
    }

    /// The records, by name; none if that is no feed.
    pub fn records(&self) -> impl Iterator<Item = RecordRef> + use<'_> {
        let feed: Option<FeedId> = self.feed.parse().ok();
        let places = places_of(&self.runs).into_iter();
        places.filter_map(move |index| Some(RecordRef { feed: feed.clone()?, seq: self.seq, index }))
    }
}

/// Rising numbers as runs.
pub(super) fn runs_of(places: impl IntoIterator<Item = u16>) -> Runs {
    let mut runs: Runs = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(place) => *count += 1,
            _ => runs.push((place, 1)),
        }
    }
    runs
}

/// Runs as numbers; those past the end of a batch are no places.
pub(super) fn places_of(runs: &[(u16, u16)]) -> BTreeSet<u16> {
    let run = |(first, count): &(u16, u16)| *first..first.saturating_add(*count).min(BATCH_RECORDS_MAX as u16);
    runs.iter().flat_map(run).collect()
}

/// Records that an operator passes on to a further audience, which their authors named, or takes that back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareEntry {
    pub at: Timestamp,
    pub by: String,
    pub records: Vec<String>,
    /// `federation`, `circle:NAME` or `member:ID`.
    pub with: String,
    /// They are passed on no more. What was passed on stays where it is.
    pub ends: bool,
}

/// Which channels are followed, and who said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowEntry {
    pub at: Timestamp,
    pub by: String,
    pub everything: bool,
    pub channels: Vec<FollowLine>,
}

/// One channel that is followed, and what of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowLine {
    pub member: MemberId,
    pub channel: ChannelName,
    pub types: Vec<ObservableType>,
    pub confidence_min: u8,
}

/// A policy that was put in force, whole, so that a later reader can see what decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEntry {
    pub at: Timestamp,
    pub hash: Hash,
    pub pieces: Vec<Piece>,
}

/// Later verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedEntry {
    pub at: Timestamp,
    /// The operator who decided, where one did.
    pub by: Option<String>,
    pub policy: Hash,
    pub table: Vec<OutcomeLine>,
    pub places: Vec<JudgedPlace>,
    /// Batch by batch, where a report was renewed and its indicators are judged again together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<JudgedRuns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<RenewedReport>,
}

/// The report whose renewal has its indicators judged again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedReport {
    pub report: String,
    /// With this all of them are.
    pub done: bool,
}

/// Verdicts on one batch: runs of places, the first of each, how many, and their line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedRuns {
    pub feed: String,
    pub seq: u64,
    pub runs: Vec<(u16, u16, u16)>,
}

/// Verdicts on many places of a batch that were made together after it came: runs of places, the first of each and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaterRuns {
    /// Where they stand in the journal.
    pub position: Position,
    pub at: Timestamp,
    pub policy: Hash,
    pub lines: Vec<(u16, u16, OutcomeLine)>,
}

impl LaterRuns {
    /// What was decided about one place.
    pub fn line(&self, index: u16) -> Option<&OutcomeLine> {
        let found = self.lines.iter().find(|(first, count, _)| index.checked_sub(*first).is_some_and(|behind| behind < *count));
        found.map(|(_, _, line)| line)
    }
}

/// A verdict that was made after its record came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaterVerdict {
    /// Where it stands in the journal.
    pub position: Position,
    pub at: Timestamp,
    pub by: Option<String>,
    pub policy: Hash,
    pub line: OutcomeLine,
}

/// Later verdicts kept of one record: the newest ones. All of them stand in the journal.
pub const LATER_VERDICTS_MAX: usize = 8;

/// One record's place and its line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedPlace {
    pub record: String,
    pub line: u16,
}

/// What a person did here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionEntry {
    pub at: Timestamp,
    pub by: String,
    pub what: String,
}

impl DecisionEntry {
    /// What is left when what it says has to go: that somebody decided something, and when.
    pub fn without_words(self) -> Self {
        Self { what: "(what it was about is erased)".to_owned(), ..self }
    }
}

/// A batch without its body, as formats up to 1 kept what was erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedEntry {
    pub received: Timestamp,
    pub from: ByteBuf,
    pub id: Hash,
    pub head: ByteBuf,
    pub records: u16,
}

impl ErasedEntry {
    /// As a batch all of whose records are absent.
    pub fn as_batch(&self) -> BatchEntry {
        BatchEntry {
            received: self.received,
            from: self.from.clone(),
            id: self.id,
            head: self.head.clone(),
            body: ByteBuf::new(),
            policy: Hash([0; 32]),
            table: vec![OutcomeLine::Gone],
            runs: vec![(0, self.records)],
            withheld: 0,
            path: Vec::new(),
        }
    }
}

/// Why something of a feed does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aside {
    /// Its author was caught saying two things; the whole feed waits for a card that pins a branch.
    Forked,
    /// Its card pins a later head, and what is here may be another branch until that head is reached.
    AwaitsPin,
    /// It does not chain to what the author's card pins: written with a stolen key, or after it was retired.
    PinnedAway,
    /// An operator decided that it stays out.
    Dropped,
    /// The agreement under which it was shared has ended, and says that it is purged.
    Purged,
    /// As above, and its bytes are gone.
    Erased,
}

impl Aside {
    /// The reason, for a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Forked => "its author signed two different heads for one place; a card of the author will say which stands",
            Self::AwaitsPin => "its author's card pins a later head, which is not here yet",
            Self::PinnedAway => "it does not chain to what its author's card pins: a stolen or retired key wrote it",
            Self::Dropped => "an operator dropped it from quarantine",
            Self::Purged => "the agreement under which it was shared has ended, and says that it is purged",
            Self::Erased => "it was purged after the agreement under which it was shared had ended; its bytes are gone",
        }
    }
}

/// One step of a feed's quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineEntry {
    pub feed: String,
    pub step: QuarantineStep,
    pub at: Timestamp,
    /// The operator who decided, where one did.
    pub by: Option<String>,
}

/// What is done with a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuarantineStep {
    /// Batches from this seq on are set aside, and the feed goes on before them.
    Detach { from: u64 },
    /// The whole feed counts only when it has reached its pin.
    Await,
    /// It has; or a pin has settled a fork.
    Clear,
    /// An operator lets back in what was set aside.
    Release,
    /// An operator decides that it stays out.
    Drop,
    /// The agreement under which it was shared has ended, and says so.
    Purge,
    /// Its bytes have been rewritten out: the receipt.
    Erase { batches: u64, records: u64 },
}

/// A batch as received, with what was decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchEntry {
    pub received: Timestamp,
    /// Node key of the peer that brought it; empty for our own.
    pub from: ByteBuf,
    /// The head's id, which its signature's context makes and its bytes alone do not tell.
    pub id: Hash,
    pub head: ByteBuf,
    pub body: ByteBuf,
    /// Hash of the policy that judged.
    pub policy: Hash,
    /// Distinct outcomes; most batches have one or two.
    pub table: Vec<OutcomeLine>,
    /// Runs of (line of the table, how many places).
    pub runs: Vec<(u16, u16)>,
    /// Records that whoever served it kept from us.
    #[serde(default)]
    pub withheld: u16,
    /// Through which members a re-shared batch came before, as whoever served it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<MemberId>,
}

/// How a batch came here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Brought<'a> {
    /// Node key of the peer that served it; empty for our own.
    pub from: &'a [u8],
    /// Through which members it came before, as that peer says.
    pub path: &'a [MemberId],
    /// Records that are withheld from us.
    pub withheld: u16,
    /// Places that were erased here, and were left out.
    pub gone: &'a [u16],
}

/// What became of a record, without the record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutcomeLine {
    Absent,
    Bad(String),
    Newer(String),
    Waiting(String),
    Judged {
        judgement: Judgement,
        ends: Timestamp,
    },
    /// Its content was erased here; nobody is asked for it again.
    Gone,
}

impl OutcomeLine {
    /// The verdict, where one was made.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Judged { judgement, .. } => Some(judgement.verdict),
            _ => None,
        }
    }
}

impl BatchEntry {
    /// The entry of a batch that passed the door.
    pub fn of(admitted: &Admitted, received: Timestamp, brought: &Brought<'_>) -> Self {
        let mut table: Vec<OutcomeLine> = Vec::new();
        let mut numbers: HashMap<OutcomeLine, u16> = HashMap::new();
        let mut runs: Vec<(u16, u16)> = Vec::new();
        let mut last: Option<(*const Judgement, Timestamp, u16)> = None;
        for outcome in admitted.outcomes() {
            // Neighbours mostly share one remembered judgement; comparing its address spares the hash.
            let same = match (outcome, last) {
                (Outcome::Judged(one), Some((judgement, ends, number)))
                    if std::sync::Arc::as_ptr(&one.judgement) == judgement && one.ends == ends =>
                {
                    Some(number)
                }
                _ => None,
            };
            let number = same.unwrap_or_else(|| {
                let line = line_of(outcome);
                let next = u16::try_from(table.len()).unwrap_or(u16::MAX);
                *numbers.entry(line.clone()).or_insert_with(|| {
                    table.push(line);
                    next
                })
            });
            last = match outcome {
                Outcome::Judged(one) => Some((std::sync::Arc::as_ptr(&one.judgement), one.ends, number)),
                _ => None,
            };
            match runs.last_mut() {
                Some((before, count)) if *before == number => *count += 1,
                _ => runs.push((number, 1)),
            }
        }
        let batch = admitted.batch();
        Self {
            received,
            from: brought.from.to_vec().into(),
            id: batch.head().id(),
            head: batch.head().bytes().to_vec().into(),
            body: batch.body().to_vec().into(),
            policy: admitted.policy(),
            table,
            runs,
            withheld: brought.withheld,
            path: brought.path.to_vec(),
        }
    }

    /// The same with the line of each place as `line_at` says; what it leaves alone stays.
    pub fn with_lines(mut self, line_at: impl Fn(u16) -> Option<OutcomeLine>) -> Self {
        let lines: Vec<OutcomeLine> = self.outcomes().cloned().collect();
        (self.table, self.runs) = (Vec::new(), Vec::new());
        for (index, line) in (0u16..).zip(lines) {
            let line = line_at(index).unwrap_or(line);
            let known = self.table.iter().position(|one| *one == line);
            let number = known.unwrap_or_else(|| {
                self.table.push(line);
                self.table.len() - 1
            });
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            match self.runs.last_mut() {
                Some((before, count)) if *before == number => *count += 1,
                _ => self.runs.push((number, 1)),
            }
        }
        self
    }

    /// What is left when these places are gone: their leaves' hashes, and the seed of the rest as nonces.
    pub fn without(self, gone: &BTreeSet<u16>) -> Result<Self, LedgerError> {
        let count = u16::try_from(self.outcomes().count()).unwrap_or(u16::MAX);
        let body = part_of(&self.body, count, |index| !gone.contains(&index));
        let body = body.map_err(|error| LedgerError::Damaged(format!("a batch that loses records: {error}")))?;
        Ok(Self { body: body.into(), ..self.with_lines(|index| gone.contains(&index).then_some(OutcomeLine::Gone)) })
    }

    /// How many places nobody has given us, and nobody has erased.
    pub fn absent(&self) -> u16 {
        let absent = self.outcomes().filter(|line| **line == OutcomeLine::Absent).count();
        u16::try_from(absent).unwrap_or(u16::MAX)
    }

    /// The outcome of each place, in order.
    pub fn outcomes(&self) -> impl Iterator<Item = &OutcomeLine> {
        self.runs.iter().flat_map(|(line, count)| {
            let line = self.table.get(usize::from(*line)).unwrap_or(&OutcomeLine::Absent);
            std::iter::repeat_n(line, usize::from(*count))
        })
    }
}

fn line_of(outcome: &Outcome) -> OutcomeLine {
    match outcome {
        Outcome::Absent => OutcomeLine::Absent,
        Outcome::Bad(why) => OutcomeLine::Bad(why.clone()),
        Outcome::Newer(what) => OutcomeLine::Newer(what.clone()),
        Outcome::Waiting(report) => OutcomeLine::Waiting(report.to_string()),
        Outcome::Judged(one) => OutcomeLine::Judged { judgement: (*one.judgement).clone(), ends: one.ends },
    }
}

impl OutcomeLine {
    /// The report that a waiting indicator waits for.
    pub fn waits_for(&self) -> Option<RecordRef> {
        match self {
            Self::Waiting(report) => report.parse().ok(),
            _ => None,
        }
    }
}

const CHARTER: u8 = 1;
const STAMP: u8 = 2;
const CARD: u8 = 3;
const PROOF: u8 = 4;
const BATCH: u8 = 5;
const RIVAL: u8 = 6;
const QUARANTINE: u8 = 7;
const ERASED: u8 = 8;
const DECISION: u8 = 9;
const POLICY: u8 = 10;
const JUDGED: u8 = 11;
const ORDER: u8 = 12;
const FILLED: u8 = 13;
const FOLLOW: u8 = 14;
const SHARE: u8 = 15;
const ERASURE: u8 = 16;
const REVIEW: u8 = 17;

impl Entry {
    /// The entry as it stands in a frame.
    pub fn encode(&self) -> Vec<u8> {
        let tagged = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
        match self {
            Self::Charter(bytes) => tagged(CHARTER, bytes),
            Self::Rival(bytes) => tagged(RIVAL, bytes),
            Self::Stamp(bytes) => tagged(STAMP, bytes),
            Self::Card(bytes) => tagged(CARD, bytes),
            Self::Proof(bytes) => tagged(PROOF, bytes),
            Self::Batch(batch) => tagged(BATCH, &cbor::to_vec(batch)),
            Self::Filled(batch) => tagged(FILLED, &cbor::to_vec(batch)),
            Self::Quarantine(entry) => tagged(QUARANTINE, &cbor::to_vec(entry)),
            Self::Erased(entry) => tagged(ERASED, &cbor::to_vec(entry)),
            Self::Decision(entry) => tagged(DECISION, &cbor::to_vec(entry)),
            Self::Policy(entry) => tagged(POLICY, &cbor::to_vec(entry)),
            Self::Judged(entry) => tagged(JUDGED, &cbor::to_vec(entry)),
            Self::Order(entry) => tagged(ORDER, &cbor::to_vec(entry)),
            Self::Follow(entry) => tagged(FOLLOW, &cbor::to_vec(entry)),
            Self::Share(entry) => tagged(SHARE, &cbor::to_vec(entry)),
            Self::Erasure(entry) => tagged(ERASURE, &cbor::to_vec(entry)),
            Self::Review(entry) => tagged(REVIEW, &cbor::to_vec(entry)),
        }
    }

    /// Whether a frame holds a batch, which is nearly all of them.
    pub fn is_batch(payload: &[u8]) -> bool {
        matches!(payload.first(), Some(&(BATCH | FILLED)))
    }

    /// Reads a frame whose checksum was right.
    pub fn decode(payload: &[u8]) -> Result<Self, LedgerError> {
        let (kind, bytes) = payload.split_first().ok_or_else(|| LedgerError::Damaged("an empty journal entry".to_owned()))?;
        fn read<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, LedgerError> {
            cbor::decode_stored(bytes).map_err(|error| LedgerError::Damaged(format!("{what} in the journal: {error}")))
        }
        match *kind {
            CHARTER => Ok(Self::Charter(bytes.to_vec())),
            RIVAL => Ok(Self::Rival(bytes.to_vec())),
            STAMP => Ok(Self::Stamp(bytes.to_vec())),
            CARD => Ok(Self::Card(bytes.to_vec())),
            PROOF => Ok(Self::Proof(bytes.to_vec())),
            BATCH => read(bytes, "a batch entry").map(Self::Batch),
            FILLED => read(bytes, "a filled batch entry").map(Self::Filled),
            QUARANTINE => read(bytes, "a quarantine entry").map(Self::Quarantine),
            ERASED => read(bytes, "an erased entry").map(Self::Erased),
            DECISION => read(bytes, "a decision").map(Self::Decision),
            POLICY => read(bytes, "a policy").map(Self::Policy),
            JUDGED => read(bytes, "a later verdict").map(Self::Judged),
            ORDER => read(bytes, "an order").map(Self::Order),
            FOLLOW => read(bytes, "what is followed").map(Self::Follow),
            SHARE => read(bytes, "what is passed on").map(Self::Share),
            ERASURE => read(bytes, "an erasure").map(Self::Erasure),
            REVIEW => read(bytes, "a review").map(Self::Review),
            other => Err(LedgerError::Damaged(format!("journal entry kind {other} needs a newer huecry"))),
        }
    }
}
