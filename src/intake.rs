//! Intake: the one door. Local publish, gossip, catch-up, bundle and import all pass here.
//!
//! In: bytes, the time, facts about what we hold ([`Known`]). Out: what to keep, with a verdict on each record, or a
//! [`Refusal`] with a code to count, a sentence to show, and whether anyone is to blame.
//!
//! ```text
//! head bytes -open-> -speaker, prove-> -place-> Placed (forward it, fetch its body)
//! Placed + body -root-> records -decode-> -resolve report-> -judge-> Admitted (journal it)
//! ```
//!
//! Not here: sockets, disk, clock. Order within a feed is by seq, so that a report comes before its indicators; what may
//! overtake (a removal, what was passed on alone, what follows batches that nobody may give us) leaves a hole, which is
//! filled later ([`Spans`]). An indicator whose report is not here waits for it, unjudged.

mod matter;
mod spans;

pub use matter::{Matter, value_of};
pub use spans::{SPANS_MAX, Spans};

use crate::{
    charter::{Roster, SpeakError},
    envelope::{BodyError, Class, CoseError, Hash, Head, ProvedBatch, ProvedHead, SignedHead, Slot, record_spans},
    policy::{Judgement, Lists, Policy},
    record::{
        DAY_MS, Decoded, FeedId, HOUR_MS, Indicator, MemberId, Observable, Record, RecordRef, Report, Role, SightingKind, Source,
        Timestamp, Tlp, Use, WireRef,
    },
    timekeeping::{CLOCK_SKEW_MS, Now},
};
use std::{collections::BTreeSet, sync::Arc};

/// How far ahead a head may be to be asked for again later; beyond it is refused without blame.
pub const CLOCK_LATER_MS: u64 = 24 * HOUR_MS;
/// Largest jump of seq beyond what we hold that is worth filling: more is a feed that wants to be believed on its word.
pub const GAP_BATCHES_MAX: u64 = 1 << 32;

/// The code of a head that names another one before it than the one that is here: one of two branches.
pub const WRONG_PREV: &str = "wrong-prev";

/// What the receiver sets for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest life of a record from its head's time on; a longer one is clipped.
    pub life_days_max: u32,
    /// Heads older than this are not taken in any more.
    pub retention_days: u32,
    /// What was held so long, and nobody decided, is refused.
    pub hold_days: u32,
}

impl Default for Limits {
    fn default() -> Self {
        // A month for people to decide, as long as what was refused is kept for a second thought.
        // Two years: hashes stay true, addresses get their own, shorter validity from their authors. Ten years: a case file.
        Self { life_days_max: 730, retention_days: 3_650, hold_days: 30 }
    }
}

/// What to think of whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It had to know better: dropped, counted against it.
    Reject,
    /// Nobody's fault: dropped.
    Ignore,
    /// Nobody's fault and perhaps right tomorrow: dropped, and asked for again.
    Later,
}

/// Why something was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    pub blame: Blame,
    /// Short, stable, for counters and `--json`.
    pub code: &'static str,
    pub text: String,
    /// No content of the same member is taken before this, if that is known.
    pub until: Option<Timestamp>,
}

impl Refusal {
    /// A refusal that may end at any time, if it ends.
    pub fn new(blame: Blame, code: &'static str, text: impl Into<String>) -> Self {
        Self { blame, code, text: text.into(), until: None }
    }

    /// A refusal of all content of a member until some moment.
    pub fn until(until: Timestamp, code: &'static str, text: impl Into<String>) -> Self {
        Self { until: Some(until), ..Self::new(Blame::Later, code, text) }
    }
}

impl From<CoseError> for Refusal {
    fn from(error: CoseError) -> Self {
        let code = match error {
            CoseError::Cbor(_) => "noncanonical",
            CoseError::Structure(_) => "malformed",
            CoseError::Signature(_) => "bad-signature",
            CoseError::OtherKey { .. } => "wrong-key",
            CoseError::Signer(_) => "no-signature",
        };
        Self::new(Blame::Reject, code, error.to_string())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::new(Blame::Reject, "wrong-body", error.to_string())
    }
}

impl From<SpeakError> for Refusal {
    fn from(error: SpeakError) -> Self {
        let (blame, code) = match error {
            SpeakError::Stranger(_) => (Blame::Ignore, "unknown-member"),
            SpeakError::UnknownKey { .. } => (Blame::Later, "unknown-key"),
            SpeakError::RetiredKey { .. } => (Blame::Ignore, "retired-key"),
            SpeakError::BeyondPin { .. } => (Blame::Ignore, "beyond-pin"),
            SpeakError::UnknownChannel { .. } => (Blame::Later, "unknown-channel"),
            SpeakError::UnknownEpoch { .. } => (Blame::Later, "unknown-epoch"),
            SpeakError::Standing { .. } => (Blame::Ignore, "standing"),
            SpeakError::Terms { .. } => (Blame::Reject, "terms"),
            SpeakError::Format { .. } => (Blame::Ignore, "old-format"),
        };
        Self::new(blame, code, error.to_string())
    }
}

/// What an indicator inherits from its report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    pub title: String,
    pub role: Option<Role>,
    pub usage: Option<Use>,
    pub confidence: Option<u8>,
    pub valid_until: Option<Timestamp>,
    pub tags: Vec<String>,
    /// Whose finding it is.
    pub source: Option<Source>,
    /// When its author last renewed it.
    pub renewed: Option<Timestamp>,
}

impl Defaults {
    /// The defaults that a report sets.
    pub fn of(report: &Report) -> Self {
        Self {
            title: report.title.clone(),
            role: report.role,
            usage: report.usage,
            confidence: report.confidence,
            valid_until: report.valid_until,
            tags: report.tags.clone(),
            source: report.source.clone(),
            renewed: None,
        }
    }

    /// The same of a report that its author has renewed at `at`, until `until`. One that names no end has none to be put off.
    pub fn renewed(self, until: Timestamp, at: Timestamp) -> Self {
        let later = |one: Option<Timestamp>, other: Timestamp| one.map_or(other, |one| one.max(other));
        Self { valid_until: self.valid_until.map(|own| own.max(until)), renewed: Some(later(self.renewed, at)), ..self }
    }
}

/// What the door asks about what is held already. The ledger answers; in rehearsal a map does.
pub trait Known {
    /// Seq and id of the last head admitted of a feed.
    fn position(&self, feed: &FeedId) -> Option<(u64, Hash)>;
    /// Which batches of a feed were admitted.
    fn spans(&self, feed: &FeedId) -> Spans;
    /// Id of the head admitted at a place.
    fn head_at(&self, feed: &FeedId, seq: u64) -> Option<Hash>;
    /// What the head admitted at a place names as the one before it.
    fn names_before(&self, feed: &FeedId, seq: u64) -> Option<Hash>;
    /// Whether a feed's author was caught saying two things, or its key was.
    fn quarantined(&self, feed: &FeedId) -> bool;
    /// What a report that we hold lends to its indicators.
    fn defaults(&self, report: &RecordRef) -> Option<Arc<Defaults>>;
    /// Who calls a value, or this very record about it, a false positive, now.
    ///
    /// Only sightings marked up to `tlp` count: every reader of the record may know of these.
    fn disputed_by(&self, value: Option<&Observable>, record: &RecordRef, tlp: Tlp, now: Timestamp) -> BTreeSet<MemberId>;
}

/// Where a proved head stands in its feed.
#[derive(Clone, Debug)]
pub enum Placed {
    /// It continues what we hold.
    Next(ProvedHead),
    /// Batches before it are missing; fetch from `from` on.
    Ahead { head: ProvedHead, from: u64 },
    /// It belongs into a hole of what we hold, or before it.
    Gap(ProvedHead),
    /// We have it.
    Known,
    /// The author signed another head for this place: proof of equivocation, together with the one we hold.
    Fork(ProvedHead),
    /// It contradicts what we hold of a feed that has not reached its pin: one of the two branches is a thief's, and ours
    /// is not proved. It has to be fetched again.
    OtherBranch(ProvedHead),
}

/// What became of one place of an admitted batch.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Withheld by whoever served it.
    Absent,
    /// Falls alone; the sentence says why.
    Bad(String),
    /// From a newer version: kept, passed on, judged after an upgrade.
    Newer(String),
    /// Its report is not here: kept, not judged.
    Waiting(RecordRef),
    Judged(Judged),
}

/// One place of a batch as its bytes read.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
#[derive(Clone, Debug)]
enum Legible {
    Absent,
    Bad(String),
    Newer(String),
    Record(Record),
}

/// A proved batch whose records have been read. Made by [`ReadBatch::open`] alone, from the bytes and nothing else: it may be
/// made anywhere, ahead of its turn at the door.
#[derive(Clone, Debug)]
pub struct ReadBatch {
    batch: ProvedBatch,
    places: Vec<Legible>,
}

impl ReadBatch {
    /// Opens a body under its head and reads every record in it. One that does not read falls alone, later, at the door.
    pub fn open(head: ProvedHead, body: Vec<u8>) -> Result<Self, Refusal> {
        Ok(Self::of(ProvedBatch::open(head, body)?))
    }

    fn of(batch: ProvedBatch) -> Self {
        let head = batch.head().head();
        let read = |slot: &Slot| match slot {
            _ if head.is_newer() => Legible::Newer(format!("head format {}", head.format)),
            Slot::Absent => Legible::Absent,
            Slot::Present(bytes) => match Record::decode(bytes) {
                Ok(Decoded::Record(record)) => Legible::Record(record),
                Ok(Decoded::Newer(what)) => Legible::Newer(what),
                Err(error) => Legible::Bad(error.to_string()),
            },
        };
        let places = batch.slots().iter().map(read).collect();
        Self { batch, places }
    }

    /// The batch as received.
    pub fn batch(&self) -> &ProvedBatch {
        &self.batch
    }

    /// Its indicators that name a report: their places and its name.
    pub fn naming(&self) -> impl Iterator<Item = (u16, RecordRef)> {
        let head = self.batch.head().head();
        (0u16..).zip(&self.places).filter_map(|(index, place)| match place {
            Legible::Record(Record::Indicator(Indicator { report: Some(report), .. })) => {
                Some((index, report.resolve(&head.feed(), head.seq)?))
            }
            _ => None,
        })
    }

    /// The same without what stands at some places.
    pub fn without(self, gone: &[u16]) -> Result<Self, Refusal> {
        let part = self.batch.part(|index| !gone.contains(&index))?;
        Self::open(self.batch.head().clone(), part)
    }
}

/// A record with what was decided about it.
#[derive(Clone, Debug)]
pub struct Judged {
    pub record: Record,
    pub judgement: Arc<Judgement>,
    /// When it ends here: its own end, its report's, our limit or a policy's, whichever is first.
    pub ends: Timestamp,
}

/// A proved batch with a verdict on each record. Made by [`Intake::admit`] alone; what the ledger keeps.
#[derive(Clone, Debug)]
pub struct Admitted {
    batch: ProvedBatch,
    outcomes: Vec<Outcome>,
    policy: Hash,
}

impl Admitted {
    /// The batch as received.
    pub fn batch(&self) -> &ProvedBatch {
        &self.batch
    }
    /// One for each place, in order.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }
    /// The policy that judged.
    pub fn policy(&self) -> Hash {
        self.policy
    }
}

/// The door, with everything it decides by.
#[derive(Clone)]
pub struct Intake {
    pub roster: Arc<Roster>,
    pub policy: Arc<Policy>,
    pub lists: Arc<Lists>,
    pub limits: Limits,
}

impl Intake {
    /// Proves a head and finds its place. What is [`Placed::Next`] or [`Placed::Ahead`] may be passed on: it is proved
    /// and entitled; local policy has no say in that.
    pub fn place(&self, bytes: &[u8], now: impl Into<Now>, known: &impl Known) -> Result<Placed, Refusal> {
        let now = now.into();
        let signed = SignedHead::open(bytes, &self.roster.federation())?;
        let feed = signed.head().feed();
        let seq = signed.head().seq;
        let ours = known.head_at(&feed, seq);
        if ours == Some(signed.id()) {
            return Ok(Placed::Known);
        }
        let key = *self.roster.speaker(&signed, now.latest)?;
        check_time(signed.head(), now, self.limits)?;
        let head = signed.prove(&key)?;
        let pin = self.roster.pin(&feed);
        // A card that pins the feed has settled which branch stands.
        if pin.is_none() && known.quarantined(&feed) {
            return Err(Refusal::new(Blame::Ignore, "quarantined", format!("feed {feed} is quarantined")));
        }
        let position = known.position(&feed);
        let unproved = pin.is_some_and(|pin| position.is_some_and(|(last, _)| last < pin.seq));
        if ours.is_some() {
            return match pin {
                Some(_) if unproved => Ok(Placed::OtherBranch(head)),
                // The pin has settled that ours stands; what a thief signs beside it proves nothing new.
                Some(pin) if seq <= pin.seq => {
                    Err(Refusal::new(Blame::Ignore, "beyond-pin", format!("{feed}#{seq} is another than the one its card pins")))
                }
                _ => Ok(Placed::Fork(head)),
            };
        }
        match position {
            Some((last, id)) if seq == last + 1 && head.head().prev == Some(id) => Ok(Placed::Next(head)),
            Some((last, _)) if seq == last + 1 && unproved => Ok(Placed::OtherBranch(head)),
            Some((last, _)) if seq == last + 1 => {
                Err(Refusal::new(Blame::Reject, WRONG_PREV, format!("{feed}#{seq} does not continue {feed}#{last}")))
            }
            Some((last, _)) if seq <= last && !self.unreached(&feed, known) => match continues(&head, known) {
                true => Ok(Placed::Gap(head)),
                false => Err(Refusal::new(Blame::Reject, WRONG_PREV, format!("{feed}#{seq} does not fit between what is here"))),
            },
            Some((last, _)) if seq <= last => Err(Refusal::new(Blame::Ignore, "below-floor", format!("{feed}#{seq} was forgotten here"))),
            None if seq == 1 => Ok(Placed::Next(head)),
            position => {
                let last = position.map_or(0, |(last, _)| last);
                if seq - last > GAP_BATCHES_MAX {
                    let text = format!("{feed} jumps from {last} to {seq}");
                    return Err(Refusal::new(Blame::Later, "jump", text));
                }
                Ok(Placed::Ahead { head, from: last + 1 })
            }
        }
    }

    /// Proves a head by what its author's card says now, wherever its place is.
    pub fn prove(&self, bytes: &[u8], now: impl Into<Now>) -> Result<ProvedHead, Refusal> {
        let signed = SignedHead::open(bytes, &self.roster.federation())?;
        let key = *self.roster.speaker(&signed, now.into().latest)?;
        Ok(signed.prove(&key)?)
    }

    /// Whether a card pins a head of this feed that is not here: until it is, nothing of the feed is proved to be its branch.
    fn unreached(&self, feed: &FeedId, known: &impl Known) -> bool {
        self.roster.pin(feed).is_some_and(|pin| known.head_at(feed, pin.seq) != Some(pin.head))
    }

    /// Judges every record of a batch whose turn it is.
    ///
    /// The head must be the next of its feed, or fill a hole. `beyond` lets it come behind a hole that it makes: a removal
    /// overtakes, a feed begins where a newcomer to its circle may read, what nobody can give us is stepped over.
    pub fn admit(&self, read: ReadBatch, now: impl Into<Now>, known: &impl Known, beyond: bool) -> Result<Admitted, Refusal> {
        let head = read.batch.head();
        let (feed, seq) = (head.head().feed(), head.head().seq);
        let last = known.position(&feed).map_or(0, |(last, _)| last);
        let order = |why: &str| Refusal::new(Blame::Later, "out-of-order", format!("{feed}#{seq} came, {feed}#{} is next{why}", last + 1));
        let next = seq == last + 1;
        if (seq <= last || (beyond && !next)) && self.unreached(&feed, known) {
            return Err(order(", up to the head that its author's card pins"));
        }
        if seq > last && !next && !beyond {
            return Err(order(""));
        }
        if !continues(head, known) {
            return Err(Refusal::new(Blame::Later, "out-of-order", format!("{feed}#{seq} does not fit to what is here")));
        }
        let mut spans = known.spans(&feed);
        spans.insert(seq);
        if spans.intervals().len() > SPANS_MAX {
            return Err(order("; there are too many holes in it already"));
        }
        if head.head().class == Class::Removal && !read.batch.is_whole() {
            // Nobody may keep a removal from anybody, so an honest server never sends a part of one.
            return Err(Refusal::new(Blame::Reject, "partial-removal", format!("{feed}#{seq} is a removal, and came in part")));
        }
        Ok(self.judged(read, now.into(), known))
    }

    /// Puts together what is here of a batch and what somebody else gave of it; `None` if that is nothing new. The second
    /// part of the answer are the places that are new.
    pub fn fill(
        &self,
        head: ProvedHead,
        held: &[u8],
        more: Vec<u8>,
        now: impl Into<Now>,
        known: &impl Known,
    ) -> Result<Option<(Admitted, Vec<u16>)>, Refusal> {
        let given = ProvedBatch::open(head.clone(), more)?;
        let merged = given.with(held)?;
        let had = record_spans(held)?;
        let new = (0u16..).zip(had.iter().zip(merged.slots())).filter(|(_, (had, has))| !had.is_present() && **has != Slot::Absent);
        let new: Vec<u16> = new.map(|(index, _)| index).collect();
        if new.is_empty() {
            return Ok(None);
        }
        Ok(Some((self.judged(ReadBatch::of(merged), now.into(), known), new)))
    }

    /// With the verdicts on each record, as of `now`.
    fn judged(&self, read: ReadBatch, now: Now, known: &impl Known) -> Admitted {
        let ReadBatch { batch, places } = read;
        let head = batch.head().head();
        let mut bench = Bench { matter: Matter::new(self, head, now), feed: head.feed(), reports: Vec::new() };
        let outcome = |(index, place): (u16, Legible)| match place {
            Legible::Absent => Outcome::Absent,
            Legible::Bad(why) => Outcome::Bad(why),
            Legible::Newer(what) => Outcome::Newer(what),
            Legible::Record(record) => bench.outcome(index, record, known),
        };
        let outcomes = (0u16..).zip(places).map(outcome).collect();
        Admitted { batch, outcomes, policy: self.policy.hash() }
    }
}

/// Whether a head fits between its neighbours, as far as they are here, and into an empty place.
fn continues(head: &ProvedHead, known: &impl Known) -> bool {
    let (feed, seq) = (head.head().feed(), head.head().seq);
    let before = seq.checked_sub(1).filter(|before| *before > 0).and_then(|before| known.head_at(&feed, before));
    let after = known.names_before(&feed, seq + 1);
    known.head_at(&feed, seq).is_none()
        && before.is_none_or(|id| head.head().prev == Some(id))
        && after.is_none_or(|named| named == head.id())
}

fn check_time(head: &Head, now: Now, limits: Limits) -> Result<(), Refusal> {
    if now.doubted && head.class == Class::Removal {
        // Removals do not depend on a clock that may be years behind.
        return Ok(());
    }
    let ahead = head.time.ms_since(now.latest);
    if ahead > CLOCK_LATER_MS {
        let text = format!("its time, {}, is more than a day ahead of ours", head.time);
        return Err(Refusal::new(Blame::Ignore, "far-future", text));
    }
    if ahead > CLOCK_SKEW_MS {
        let text = format!("its time, {}, is ahead of ours", head.time);
        return Err(Refusal::new(Blame::Later, "future", text));
    }
    if now.earliest.ms_since(head.time) > u64::from(limits.retention_days) * DAY_MS && head.class == Class::Content {
        return Err(Refusal::new(Blame::Ignore, "too-old", format!("its time, {}, is before what this node keeps", head.time)));
    }
    Ok(())
}

/// What judging one batch needs at hand.
struct Bench<'a> {
    matter: Matter<'a>,
    feed: FeedId,
    /// Reports of this batch, by index.
    reports: Vec<(u16, Arc<Defaults>)>,
}

impl Bench<'_> {
    fn outcome(&mut self, index: u16, record: Record, known: &impl Known) -> Outcome {
        if let Err(why) = self.check_place(&record, index) {
            return Outcome::Bad(why.to_owned());
        }
        let kind = record.kind();
        let (head, roster) = (self.matter.head, &self.matter.intake.roster);
        if head.class == Class::Content && !roster.kind_covered(&head.member, kind, self.matter.now) {
            return Outcome::Bad(format!("the agreement of `{}` does not cover a {kind}", head.member));
        }
        let defaults = match &record {
            Record::Report(report) => {
                let defaults = Arc::new(Defaults::of(report));
                self.reports.push((index, Arc::clone(&defaults)));
                Some(defaults)
            }
            Record::Indicator(Indicator { report: Some(report), .. }) => match self.inherited(report, known) {
                Ok(defaults) => Some(defaults),
                Err(missing) => return Outcome::Waiting(missing),
            },
            _ => None,
        };
        let renewed = match &record {
            Record::Renewal(renewal) => {
                let (mut lent, mut missing) = (Vec::new(), None);
                for report in &renewal.targets {
                    match self.inherited(report, known) {
                        Ok(defaults) => lent.push(defaults),
                        Err(report) => missing = Some(report),
                    }
                }
                match missing {
                    Some(missing) if lent.is_empty() => return Outcome::Waiting(missing),
                    _ => Some(lent),
                }
            }
            _ => None,
        };
        let this = RecordRef { feed: self.feed.clone(), seq: self.matter.head.seq, index };
        let disputed_by = known.disputed_by(value_of(&record), &this, self.matter.head.tlp, self.matter.now);
        let (judgement, ends) = match &renewed {
            // What renews reports is judged as they are.
            Some(lent) => self.matter.judge_renewal(&record, lent, &disputed_by),
            None => self.matter.judge(&record, &defaults.unwrap_or_default(), &disputed_by),
        };
        Outcome::Judged(Judged { record, judgement, ends })
    }

    /// Rules of place: references in their shortest form, backwards, to one's own where it matters.
    fn check_place(&self, record: &Record, index: u16) -> Result<(), &'static str> {
        for reference in record.references() {
            let target = reference.resolve(&self.feed, self.matter.head.seq).ok_or("a reference is not in its shortest form")?;
            let here = target.feed == self.feed && (target.seq, target.index) >= (self.matter.head.seq, index);
            if here {
                return Err("a reference points forward");
            }
            let own = target.feed.member == self.matter.head.member;
            if !own && matches!(record, Record::Withdrawal(_) | Record::Renewal(_) | Record::Report(_) | Record::Indicator(_)) {
                return Err("it changes or inherits from a record of another member");
            }
            if target.feed != self.feed && matches!(record, Record::Indicator(one) if one.report.as_ref() == Some(reference)) {
                return Err("its report stands in another feed");
            }
        }
        let removal = match record {
            Record::Withdrawal(_) => true,
            Record::Sighting(sighting) => sighting.sighting == SightingKind::FalsePositive,
            _ => false,
        };
        if self.matter.head.class == Class::Removal && !removal {
            return Err("a removal batch holds withdrawals and disputes only");
        }
        Ok(())
    }

    fn inherited(&self, report: &WireRef, known: &impl Known) -> Result<Arc<Defaults>, RecordRef> {
        if let WireRef::Batch(index) = report
            && let Some((_, defaults)) = self.reports.iter().find(|(at, _)| at == index)
        {
            return Ok(Arc::clone(defaults));
        }
        // INVARIANT: check_place has resolved this reference already.
        let whole = report.resolve(&self.feed, self.matter.head.seq);
        let whole = whole.unwrap_or(RecordRef { feed: self.feed.clone(), seq: 0, index: 0 });
        known.defaults(&whole).ok_or(whole)
    }
}
