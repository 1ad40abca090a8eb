//! Publish: how records of ours become signed batches of a lane.
//!
//! In: records, one after another; the lane's last head; its key; the time. Out: batches, each full or the last.
//!
//! ```text
//! report, indicator, indicator, ... -> [head 1, body 1], [head 2, body 2], ...
//! ```
//!
//! An indicator names its report by the shortest reference that its batch allows, so it is encoded when its batch is
//! known. Not here: the checks that every batch passes (`intake`), the disk, the network.

use crate::{
    envelope::{
        Audience, BATCH_RECORDS_MAX, BODY_BYTES_MAX, Class, CoseError, FederationId, HEAD_FORMAT, Hash, Head, ProvedHead, SignedHead,
        Signer, encode_full, merkle::Seed, root_of,
    },
    record::{FeedId, Indicator, Record, RecordError, RecordRef, Timestamp, Tlp, WireRef},
};

/// What a batch's body spends beside its records: the outer array, the seed, and the longest array head.
const BODY_OVERHEAD_BYTES: usize = 32;
/// What each record's own length head may take.
const RECORD_OVERHEAD_BYTES: usize = 3;

/// Why records could not be made into a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Head(#[from] CoseError),
    #[error("the system's random generator gave no seed: {0}")]
    Random(String),
}

/// A batch ready to pass the one door.
#[derive(Clone, Debug)]
pub struct Draft {
    pub head: ProvedHead,
    pub body: Vec<u8>,
}

/// Everything about the lane that the records do not say.
pub struct Lane<'a> {
    pub feed: FeedId,
    pub audience: Audience,
    pub tlp: Tlp,
    pub class: Class,
    /// Seq and id of the lane's last head; `None` before its first.
    pub last: Option<(u64, Hash)>,
    pub floor_seq: u64,
    pub key: &'a dyn Signer,
    pub federation: FederationId,
}

/// Fills batches. Call [`Self::push`] for every record, then [`Self::finish`].
pub struct Publisher<'a> {
    lane: Lane<'a>,
    now: Timestamp,
    random: fn(&mut [u8]) -> Result<(), String>,
    records: Vec<Vec<u8>>,
    bytes: usize,
}

impl<'a> Publisher<'a> {
    /// Begins behind the lane's last head. `random` fills a buffer from the system's generator.
    pub fn new(lane: Lane<'a>, now: Timestamp, random: fn(&mut [u8]) -> Result<(), String>) -> Self {
        Self { lane, now, random, records: Vec::new(), bytes: BODY_OVERHEAD_BYTES }
    }

    fn seq(&self) -> u64 {
        self.lane.last.map_or(1, |(seq, _)| seq + 1)
    }

    /// The place that the next record takes, unless it is so long that it begins a new batch.
    fn place(&self) -> RecordRef {
        let index = u16::try_from(self.records.len()).unwrap_or(u16::MAX);
        RecordRef { feed: self.lane.feed.clone(), seq: self.seq(), index }
    }

    /// Adds a record, as part of `report`, or of the one that it names, if it is an indicator. Answers its place, and the batch before it if that
    /// became full.
    pub fn push(&mut self, mut record: Record, report: Option<&RecordRef>) -> Result<(RecordRef, Option<Draft>), PublishError> {
        // What it is about is named in the shortest form that its place allows, and the place is only known here.
        let named: Vec<WireRef> = record.targets_mut().map(|targets| targets.clone()).unwrap_or_default();
        let replaces = match &record {
            Record::Indicator(indicator) => indicator.replaces.clone(),
            _ => None,
        };
        let own = match &record {
            Record::Indicator(Indicator { report: Some(WireRef::Whole(report)), .. }) => Some(report.clone()),
            _ => None,
        };
        let shortest = |one: &WireRef, seq: u64| match one {
            WireRef::Whole(target) => WireRef::shortest(target, &self.lane.feed, seq),
            other => other.clone(),
        };
        let mut encode = |seq: u64| {
            if let Some(targets) = record.targets_mut() {
                *targets = named.iter().map(|one| shortest(one, seq)).collect();
            }
            if let Record::Indicator(indicator) = &mut record {
                indicator.replaces = replaces.as_ref().map(|one| shortest(one, seq));
                let of = report.or(own.as_ref());
                indicator.report = of.map(|report| WireRef::shortest(report, &self.lane.feed, seq)).or(indicator.report.take());
            }
            record.encode()
        };
        let mut bytes = encode(self.seq())?;
        let full = self.records.len() >= BATCH_RECORDS_MAX || self.bytes + bytes.len() + RECORD_OVERHEAD_BYTES > BODY_BYTES_MAX;
        let mut done = None;
        if full {
            bytes = encode(self.seq() + 1)?;
            done = Some(self.seal()?);
        }
        self.bytes += bytes.len() + RECORD_OVERHEAD_BYTES;
        let place = self.place();
        self.records.push(bytes);
        Ok((place, done))
    }

    /// The last batch, if any record waits for it.
    pub fn finish(mut self) -> Result<Option<Draft>, PublishError> {
        if self.records.is_empty() { Ok(None) } else { self.seal().map(Some) }
    }

    fn seal(&mut self) -> Result<Draft, PublishError> {
        let records = std::mem::take(&mut self.records);
        self.bytes = BODY_OVERHEAD_BYTES;
        let mut seed = [0; 16];
        (self.random)(&mut seed).map_err(PublishError::Random)?;
        let seed = Seed(seed);
        let body = encode_full(&seed, &records);
        let FeedId { member, channel, lane, epoch } = self.lane.feed.clone();
        let head = Head {
            format: HEAD_FORMAT,
            member,
            channel,
            lane,
            epoch,
            audience: self.lane.audience.clone(),
            seq: self.seq(),
            prev: self.lane.last.map(|(_, id)| id),
            floor_seq: self.lane.floor_seq,
            time: self.now,
            tlp: self.lane.tlp,
            class: self.lane.class,
            count: u16::try_from(records.len()).unwrap_or(u16::MAX),
            body_length: u32::try_from(body.len()).unwrap_or(u32::MAX),
            root: root_of(&seed, &records),
        };
        let head = SignedHead::sign(&head, self.lane.key, &self.lane.federation)?;
        self.lane.last = Some((head.head().seq, head.id()));
        Ok(Draft { head, body })
    }
}
