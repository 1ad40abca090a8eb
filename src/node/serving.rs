//! Serving: what of the ledger a peer is given. Each batch is asked about at the moment of sending: charter and audience
//! (`may_send`), then our own `share` policies record by record, then what the reader follows.
//!
//! What may not be sent and what does not exist look the same. What a policy or a filter leaves out of a batch travels as
//! hashes, so that the rest still proves itself.

use super::{Current, streams::Outlet};
use crate::{
    clock::Clock,
    envelope::{Class, Head, Slot, part_of},
    intake::{Defaults, Known as _, Matter, SPANS_MAX, Spans, value_of},
    ledger::{FeedState, Ledger, LedgerError, StoredBatch, stored_head},
    policy::{Party, Way, may_send},
    record::{FeedId, MemberId, Record, Timestamp, Tlp},
    replica::{Body, Cursor, End, Filter, Message, RANGE_BATCHES_MAX, RangeHead, Wanted, lent_confidence, number},
};
use serde_bytes::ByteBuf;
use std::{collections::HashMap, sync::Arc};

/// Most removals of a feed that are shown to one who may have nothing else of it.
const REMOVALS_SHOWN_MAX: usize = 65_536;

/// What serving needs at hand. Cheap to clone.
#[derive(Clone)]
pub struct Serving {
    pub ledger: Ledger,
    pub current: Current,
    pub clock: Clock,
}

/// A peer that is served.
#[derive(Clone)]
pub struct Reader {
    pub member: MemberId,
    pub wanted: Wanted,
    pub outlet: Outlet,
}

/// What a peer asked for.
pub struct Wish {
    pub request: u64,
    pub feed: FeedId,
    pub first: u64,
    pub last: u64,
    pub bytes_max: u64,
    /// Only removals.
    pub removals: bool,
    /// Heads go before their bodies; who pulls one batch has its head.
    pub with_heads: bool,
}

impl Serving {
    /// Which batches of a feed a member may know of: all, only removals, or none.
    pub fn visible(&self, feed: &FeedId, state: &FeedState, reader: &MemberId) -> Spans {
        let Ok(head) = stored_head(&state.head) else { return Spans::default() };
        if state.aside.is_some() {
            return Spans::default();
        }
        let (roster, now) = (Arc::clone(&self.current.get().roster), self.clock.now());
        let as_if = |class| may_send(&roster, &Head { class, ..head.clone() }, reader, now, Way::Published).is_ok();
        if as_if(Class::Content) {
            return state.spans.clone();
        }
        let mut spans = Spans::default();
        if as_if(Class::Removal) {
            let removals = self.ledger.removals(feed, 0, REMOVALS_SHOWN_MAX).unwrap_or_default();
            // The newest: the older ones were shown while they were that.
            removals.into_iter().rev().take(SPANS_MAX).for_each(|seq| spans.insert(seq));
        }
        spans
    }

    /// The cursors that a peer may know of, of feeds that both sides want.
    pub fn cursors(&self, reader: &MemberId, theirs: &Wanted, ours: &Wanted) -> Vec<Cursor> {
        let wanted = |feed: &FeedId| theirs.of(feed).is_some() && ours.of(feed).is_some();
        let cursor = |(feed, state): (FeedId, FeedState)| {
            let spans = self.visible(&feed, &state, reader);
            // Who may have only some of it learns nothing of the rest, not even that it grows.
            let whole = spans == state.spans;
            let incomplete = Some(state.withheld).filter(|count| *count > 0 && whole);
            let head = if whole { state.id } else { self.ledger.head_at(&feed, spans.last()?)? };
            Some(Cursor { feed: (&feed).into(), intervals: spans.intervals().to_vec(), head, incomplete })
        };
        self.ledger.feeds().into_iter().filter(|(feed, _)| wanted(feed)).filter_map(cursor).collect()
    }

    /// What a member may have of a batch: a body, and how many records it lacks that the reader would want.
    pub fn part(&self, batch: &StoredBatch, reader: &MemberId, filter: &Filter) -> Option<(ByteBuf, u16)> {
        let (intake, now) = (self.current.get(), self.clock.now());
        let head = &batch.head;
        if batch.aside.is_some() || batch.entry.body.is_empty() || may_send(&intake.roster, head, reader, now, Way::Published).is_err() {
            return None;
        }
        let absent = batch.slots.iter().filter(|slot| **slot == Slot::Absent).count();
        let whole = || (batch.entry.body.clone(), u16::try_from(absent).unwrap_or(u16::MAX));
        if head.class == Class::Removal || head.is_newer() || *reader == head.member {
            return Some(whole());
        }
        let member = intake.roster.member(reader)?;
        let standing = intake.roster.standing(reader, now);
        let party = Party { id: &member.id, kind: member.kind, country: member.country.as_deref(), standing: standing.name() };
        let matter = Matter::new(&intake, head, now);
        let mut reports: HashMap<u16, Arc<Defaults>> = HashMap::new();
        let (mut keep, mut denied) = (vec![false; batch.slots.len()], 0usize);
        for ((index, slot), keep) in (0u16..).zip(&batch.slots).zip(&mut keep) {
            if *slot == Slot::Absent {
                continue;
            }
            // What this version cannot read is passed on as it is.
            let Some(record) = batch.record(index) else {
                *keep = true;
                continue;
            };
            let defaults = self.defaults(batch, index, &record, &mut reports);
            let disputed = self.ledger.disputed_by(value_of(&record), &batch.reference(index), now);
            let ends = matter.ends(&record, &defaults);
            let permitted = matter.case(&record, &defaults, ends, &disputed, 0, |case| intake.policy.shares(case, &party).permitted);
            if permitted != Some(true) {
                denied += 1;
            } else if filter.wants(&record, || lent_confidence(&defaults)) {
                *keep = true;
            }
        }
        if keep.iter().zip(&batch.slots).all(|(keep, slot)| *keep || *slot == Slot::Absent) {
            return Some(whole());
        }
        let kept = |index: u16| keep.get(usize::from(index)).copied().unwrap_or(false);
        let body = part_of(&batch.entry.body, head.count, kept).ok()?;
        Some((body.into(), u16::try_from(absent + denied).unwrap_or(u16::MAX)))
    }

    /// Everything that a member may have, as for its bundle: `each` takes a head and its body, feed by feed in order, until it
    /// says that it is enough. Batches older than `since` are left out, removals never.
    pub fn everything(
        &self,
        reader: &MemberId,
        since: Timestamp,
        tlp_max: Tlp,
        mut each: impl FnMut(&StoredBatch, Message, Message) -> bool,
    ) -> Result<(), LedgerError> {
        for (feed, state) in self.ledger.feeds() {
            for seq in state.spans.iter() {
                let Some(batch) = self.ledger.batch_at(&feed, seq)? else { continue };
                let removal = batch.head.class == Class::Removal;
                if batch.head.tlp > tlp_max || (batch.head.time < since && !removal) {
                    continue;
                }
                let Some((body, withheld)) = self.part(&batch, reader, &Filter::default()) else { continue };
                let head = Message::RangeHead(RangeHead { kind: number::RANGE_HEAD, request: 0, head: batch.entry.head.clone() });
                let withheld = Some(u64::from(withheld)).filter(|count| *count > 0);
                if !each(&batch, head, Message::Body(Body { kind: number::BODY, request: 0, body, withheld })) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn defaults(&self, batch: &StoredBatch, index: u16, record: &Record, reports: &mut HashMap<u16, Arc<Defaults>>) -> Arc<Defaults> {
        match record {
            Record::Report(report) => {
                let defaults = Arc::new(Defaults::of(report));
                reports.insert(index, Arc::clone(&defaults));
                defaults
            }
            Record::Indicator(one) => {
                let report = one.report.as_ref().and_then(|report| report.resolve(&batch.head.feed(), batch.head.seq));
                let Some(report) = report else { return Arc::default() };
                let here = report.seq == batch.head.seq && report.feed == batch.head.feed();
                let near = reports.get(&report.index).filter(|_| here).cloned();
                near.or_else(|| self.ledger.defaults(&report)).unwrap_or_default()
            }
            _ => Arc::default(),
        }
    }

    /// Sends what a peer wishes, batch by batch, as far as it may have it. On a blocking thread: the peer may read slowly.
    pub fn serve(&self, reader: &Reader, wish: &Wish) {
        let Wish { request, feed, first, last, bytes_max, removals, with_heads } = wish;
        let (mut sent, mut more) = (0u64, false);
        let spans = self.ledger.feed(feed).map(|state| state.spans).unwrap_or_default();
        let seqs: Vec<u64> = if *removals {
            let limit = usize::try_from(RANGE_BATCHES_MAX).unwrap_or(usize::MAX);
            self.ledger.removals(feed, *first, limit).unwrap_or_default().into_iter().filter(|seq| seq <= last).collect()
        } else {
            let from = spans.intervals().iter().filter(|(_, end)| end >= first && first <= last);
            let clipped = from.flat_map(|(begin, end)| (*begin).max(*first)..=(*end).min(*last));
            clipped.take(usize::try_from(RANGE_BATCHES_MAX).unwrap_or(usize::MAX)).collect()
        };
        let filter = reader.wanted.of(feed).unwrap_or_default();
        for (at, seq) in seqs.iter().enumerate() {
            let Ok(Some(batch)) = self.ledger.batch_at(feed, *seq) else { continue };
            // Asked anew for each batch: who was let in a second ago may be out by now.
            let Some((body, withheld)) = self.part(&batch, &reader.member, &filter) else { continue };
            sent += body.len() as u64;
            let head = Message::RangeHead(RangeHead { kind: number::RANGE_HEAD, request: *request, head: batch.entry.head.clone() });
            let withheld = Some(u64::from(withheld)).filter(|count| *count > 0);
            let body = Message::Body(Body { kind: number::BODY, request: *request, body, withheld });
            let gone = *with_heads && !reader.outlet.blocking_send(&head, None);
            if gone || !reader.outlet.blocking_send(&body, Some(&batch.head)) {
                return;
            }
            if sent >= *bytes_max && at + 1 < seqs.len() {
                more = true;
                break;
            }
        }
        if *with_heads || sent == 0 {
            reader.outlet.blocking_send(&Message::End(End { kind: number::END, request: *request, more }), None);
        }
    }
}
