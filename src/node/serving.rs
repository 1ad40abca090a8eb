//! Serving: what of the ledger a peer is given. Each batch is asked about at the moment of sending: charter and audience
//! (`may_send`), then our own `share` policies record by record, then what the reader follows.
//!
//! ```text
//! batch -may_send as published-> all its places \
//!      '-passed on by an operator, may_send onward-> those places } -share, follow-> a body, whole or in part
//! ```
//!
//! What may not be sent and what does not exist look the same. What a policy or a filter leaves out of a batch travels as
//! hashes, so that the rest still proves itself. What was passed on keeps its author's head and proof, and the removals that
//! aim at it follow by themselves.

use super::{
    Current,
    documents::Documents,
    streams::{Outlet, Urgency},
};
use crate::{
    clock::Clock,
    envelope::{Class, Head, part_of},
    intake::{Defaults, Known as _, Matter, SPANS_MAX, Spans, value_of},
    ledger::{FeedState, Ledger, LedgerError, Shares, StoredBatch},
    policy::{Party, Way, may_send},
    record::{Content, ContentHash, Document, FeedId, MemberId, Record, RecordRef, Timestamp, Tlp},
    replica::{Body, Chunk, ChunkAsk, Cursor, End, Filter, Message, PATH_MAX, RANGE_BATCHES_MAX, RangeHead, Wanted, number},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Most removals of a feed that are shown to one who may have nothing else of it.
const REMOVALS_SHOWN_MAX: usize = 65_536;

/// Which places of a batch somebody may have.
struct Places {
    keep: Vec<bool>,
    /// How many of the others our policies keep back.
    denied: usize,
    /// It is passed on, beyond its audience.
    onward: bool,
}

/// What serving needs at hand. Cheap to clone.
#[derive(Clone)]
pub struct Serving {
    /// Who we are: the last on the path of what we pass on.
    pub me: MemberId,
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
#[derive(Clone, Debug)]
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
        let Ok(head) = self.ledger.last_head(state) else { return Spans::default() };
        if state.aside.is_some() {
            return Spans::default();
        }
        let (roster, now) = (Arc::clone(&self.current.get().roster), self.clock.moment().latest);
        let as_if = |class| may_send(&roster, &Head { class, ..(*head).clone() }, reader, now, Way::Published).is_ok();
        if as_if(Class::Content) {
            return state.spans.clone();
        }
        let mut spans = Spans::default();
        if as_if(Class::Removal) {
            let removals = self.ledger.removals(feed, 0, REMOVALS_SHOWN_MAX).unwrap_or_default();
            // The newest: the older ones were shown while they were that.
            removals.into_iter().rev().take(SPANS_MAX).for_each(|seq| spans.insert(seq));
        }
        for seq in self.passed_on_seqs(feed) {
            let passed_on = |batch: StoredBatch| !self.passed_on(&batch, reader).is_empty();
            if self.ledger.batch_at(feed, seq).ok().flatten().is_some_and(passed_on) {
                spans.insert(seq);
            }
        }
        spans
    }

    /// Batches of a feed of which something may be passed on: by an order, or because they take back what was.
    fn passed_on_seqs(&self, feed: &FeedId) -> BTreeSet<u64> {
        let (mut seqs, records) = self.ledger.with_shares(|shares| {
            let seqs: BTreeSet<u64> = shares.seqs(feed).take(SPANS_MAX).collect();
            let records: Vec<RecordRef> = shares.of_member(feed).map(|(record, _)| record).collect();
            (seqs, records)
        });
        for record in records {
            let by = self.ledger.withdrawn_by(&record).unwrap_or_default();
            seqs.extend(by.into_iter().filter(|by| by.feed == *feed).map(|by| by.seq));
        }
        seqs
    }

    /// The places of a batch that an operator passes on to `reader`, as far as its author lets anybody: of a removal that
    /// takes back something which was passed on to it, all.
    fn passed_on(&self, batch: &StoredBatch, reader: &MemberId) -> Vec<u16> {
        if self.ledger.with_shares(Shares::is_empty) {
            return Vec::new();
        }
        let (roster, now) = (Arc::clone(&self.current.get().roster), self.clock.moment().latest);
        let removal = batch.head.class == Class::Removal;
        let through = |name: &str| {
            let narrowed = batch.head.onward_only(name).filter(|_| roster.names(name, reader, removal));
            narrowed.is_some_and(|head| may_send(&roster, &head, reader, now, Way::Onward).is_ok())
        };
        let (feed, seq) = (batch.head.feed(), batch.head.seq);
        if !removal {
            let ordered: Vec<(u16, String)> =
                self.ledger.with_shares(|shares| shares.at(&feed, seq).map(|(index, name)| (index, name.to_owned())).collect());
            let mut places: Vec<u16> = ordered.into_iter().filter(|(_, name)| through(name)).map(|(index, _)| index).collect();
            places.dedup();
            return places;
        }
        let aims_at = |record: Record| match record {
            Record::Withdrawal(withdrawal) => withdrawal.targets.iter().filter_map(|target| target.resolve(&feed, seq)).collect(),
            _ => Vec::new(),
        };
        let places = 0..batch.places();
        let mut targets = places.clone().filter_map(|index| batch.record(index)).flat_map(aims_at);
        let names = |target: &RecordRef| -> Vec<String> {
            self.ledger.with_shares(|shares| {
                let here = shares.at(&target.feed, target.seq).filter(|(index, _)| *index == target.index);
                here.map(|(_, name)| name.to_owned()).collect()
            })
        };
        if targets.any(|target| names(&target).iter().any(|name| through(name))) { places.collect() } else { Vec::new() }
    }

    /// Whether a member may have anything of a batch, as published or because it is passed on.
    pub fn may_have(&self, batch: &StoredBatch, reader: &MemberId) -> bool {
        let (roster, now) = (Arc::clone(&self.current.get().roster), self.clock.moment().latest);
        may_send(&roster, &batch.head, reader, now, Way::Published).is_ok() || !self.passed_on(batch, reader).is_empty()
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

    /// Which places of a batch a member may have, and how many our policies keep from it. `None` of what is not for it.
    fn places(&self, batch: &StoredBatch, reader: &MemberId, filter: &Filter) -> Option<Places> {
        let (intake, now) = (self.current.get(), self.clock.moment().latest);
        let head = &batch.head;
        if batch.aside.is_some() || batch.entry.body.is_empty() {
            return None;
        }
        // A removal travels whole; one of which something was erased here has to come from others.
        if head.class == Class::Removal && !batch.is_whole() {
            return None;
        }
        let published = may_send(&intake.roster, head, reader, now, Way::Published).is_ok();
        let passed_on = if published { Vec::new() } else { self.passed_on(batch, reader) };
        if !published && passed_on.is_empty() {
            return None;
        }
        if head.class == Class::Removal || *reader == head.member || (published && head.is_newer()) {
            return Some(Places { keep: batch.spans.iter().map(|span| span.is_present()).collect(), denied: 0, onward: !published });
        }
        let member = intake.roster.member(reader)?;
        let standing = intake.roster.standing(reader, now);
        let party = Party { id: &member.id, kind: member.kind, country: member.country.as_deref(), standing: standing.name() };
        let matter = Matter::new(&intake, head, now);
        let mut reports: HashMap<u16, Arc<Defaults>> = HashMap::new();
        let mut places = Places { keep: vec![false; batch.spans.len()], denied: 0, onward: !published };
        let decide = |record: &Record, defaults: &Defaults, index: u16| {
            let disputed = self.ledger.disputed_by(value_of(record), &batch.reference(index), head.tlp, now);
            let ends = matter.ends(record, defaults);
            matter.case(record, defaults, ends, &disputed, 0, |case| intake.policy.shares(case, &party).permitted) == Some(true)
        };
        // Mostly no policy asks for anything that differs within a batch: then one answer is that of all.
        if filter.is_open() && intake.policy.shares_by_batch() {
            let first = (0..batch.places()).find_map(|index| Some((index, batch.record(index)?)));
            let permitted = first.is_none_or(|(index, record)| decide(&record, &Defaults::default(), index));
            for ((index, span), keep) in (0u16..).zip(&batch.spans).zip(&mut places.keep) {
                let theirs = span.is_present() && (published || passed_on.contains(&index));
                *keep = theirs && permitted;
                places.denied += usize::from(theirs && !permitted);
            }
            return Some(places);
        }
        for ((index, span), keep) in (0u16..).zip(&batch.spans).zip(&mut places.keep) {
            if !span.is_present() || !(published || passed_on.contains(&index)) {
                continue;
            }
            // What this version cannot read is passed on as it is.
            let Some(record) = batch.record(index) else {
                *keep = true;
                continue;
            };
            let defaults = self.defaults(batch, index, &record, &mut reports);
            if !decide(&record, &defaults, index) {
                places.denied += 1;
            } else if filter.wants(&record, || defaults.confidence) {
                *keep = true;
            }
        }
        Some(places)
    }

    /// What a member may have of a batch: a body, with how many records it lacks that the reader would want.
    pub fn part(&self, batch: &StoredBatch, reader: &MemberId, filter: &Filter) -> Option<Body> {
        let Places { keep, denied, onward } = self.places(batch, reader, filter)?;
        let absent = batch.spans.iter().filter(|span| !span.is_present()).count();
        let whole = keep.iter().zip(&batch.spans).all(|(keep, span)| *keep || !span.is_present());
        let kept = |index: u16| keep.get(usize::from(index)).copied().unwrap_or(false);
        let body = if whole { batch.entry.body.clone() } else { part_of(&batch.entry.body, batch.head.count, kept).ok()?.into() };
        let withheld = Some((absent + denied) as u64).filter(|count| *count > 0);
        let mut path = batch.entry.path.clone();
        if onward || !path.is_empty() {
            path.push(self.me.clone());
            path.truncate(PATH_MAX);
        }
        Some(Body { kind: number::BODY, request: 0, body, withheld, path })
    }

    /// The record that names a content, if a member may have it: its root and length.
    pub fn content(&self, record: &RecordRef, reader: &MemberId) -> Option<(ContentHash, u64)> {
        let batch = self.ledger.batch_at(&record.feed, record.seq).ok()??;
        let places = self.places(&batch, reader, &Filter::default())?;
        let kept = places.keep.get(usize::from(record.index)).copied().unwrap_or(false);
        // What was taken back is not given any more.
        if !kept || self.ledger.withdrawn(record).ok()?.is_some() {
            return None;
        }
        match batch.record(record.index)? {
            Record::Document(Document { content: Content::Hash { hash, length }, .. }) => Some((hash, length)),
            _ => None,
        }
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
                let Some(body) = self.part(&batch, reader, &Filter::default()) else { continue };
                let head = Message::RangeHead(RangeHead { kind: number::RANGE_HEAD, request: 0, head: batch.entry.head.clone() });
                if !each(&batch, head, Message::Body(body)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn defaults(&self, batch: &StoredBatch, index: u16, record: &Record, reports: &mut HashMap<u16, Arc<Defaults>>) -> Arc<Defaults> {
        match record {
            Record::Report(report) => {
                let defaults = self.ledger.defaults(&batch.reference(index)).unwrap_or_else(|| Arc::new(Defaults::of(report)));
                reports.insert(index, Arc::clone(&defaults));
                defaults
            }
            Record::Indicator(_) | Record::Renewal(_) => {
                let report = match record {
                    Record::Indicator(one) => one.report.as_ref(),
                    Record::Renewal(one) => one.targets.first(),
                    _ => None,
                };
                let Some(report) = report.and_then(|report| report.resolve(&batch.head.feed(), batch.head.seq)) else {
                    return Arc::default();
                };
                let here = report.seq == batch.head.seq && report.feed == batch.head.feed();
                let near = reports.get(&report.index).filter(|_| here).cloned();
                near.or_else(|| self.ledger.defaults(&report)).unwrap_or_default()
            }
            _ => Arc::default(),
        }
    }

    /// Answers a pull from memory, if what it asks for was kept a moment ago; `false` if it has to be read, or there is no room.
    pub fn serve_recent(&self, reader: &Reader, wish: &Wish) -> bool {
        let Some(batch) = self.ledger.recent(&wish.feed, wish.first) else { return false };
        let filter = reader.wanted.of(&wish.feed).unwrap_or_default();
        match self.part(&batch, &reader.member, &filter) {
            Some(body) => {
                let body = Message::Body(Body { request: wish.request, ..body });
                reader.outlet.try_send_body(&body, &batch.head)
            }
            None => reader.outlet.try_send(&Message::End(End { kind: number::END, request: wish.request, more: false })),
        }
    }

    /// Sends what a peer wishes, batch by batch, as far as it may have it. On a blocking thread: the peer may read slowly.
    pub fn serve(&self, reader: &Reader, wish: &Wish) {
        let Wish { request, feed, first, last, bytes_max, removals, with_heads } = wish;
        let (mut sent, mut more) = (0u64, false);
        let urgency = if *with_heads { Urgency::Backfill } else { Urgency::Fresh };
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
            let Some(body) = self.part(&batch, &reader.member, &filter) else { continue };
            sent += body.body.len() as u64;
            let head = Message::RangeHead(RangeHead { kind: number::RANGE_HEAD, request: *request, head: batch.entry.head.clone() });
            let body = Message::Body(Body { request: *request, ..body });
            let gone = *with_heads && !reader.outlet.blocking_send(&head, None, urgency);
            if gone || !reader.outlet.blocking_send(&body, Some(&batch.head), urgency) {
                return;
            }
            if sent >= *bytes_max && at + 1 < seqs.len() {
                more = true;
                break;
            }
        }
        if *with_heads || sent == 0 {
            reader.outlet.blocking_send(&Message::End(End { kind: number::END, request: *request, more }), None, urgency);
        }
    }

    /// Sends a chunk of a content that a peer asked for, if it may have the record that names it; on a blocking thread.
    /// Answers how many bytes were sent.
    pub fn serve_chunk(&self, documents: &Documents, reader: &Reader, ask: &ChunkAsk) -> u64 {
        let record = RecordRef { feed: ask.feed.clone().into(), seq: ask.seq, index: ask.index };
        let found = self.content(&record, &reader.member).and_then(|(hash, _)| documents.chunk(&hash, ask.chunk));
        let message = match found {
            Some((bytes, path)) => {
                let ChunkAsk { request, feed, seq, index, chunk, .. } = ask.clone();
                Message::Chunk(Chunk { kind: number::CHUNK, request, feed, seq, index, chunk, bytes: bytes.into(), path })
            }
            None => Message::End(End { kind: number::END, request: ask.request, more: false }),
        };
        reader.outlet.blocking_send(&message, None, Urgency::Contents);
        if let Message::Chunk(chunk) = message { chunk.bytes.len() as u64 } else { 0 }
    }
}
