//! Later: what is decided after a record came. Verdicts by people, by time, under another policy; the policies themselves;
//! operators' orders. Each is a journal entry; nothing here is judged again at a rebuild. Also here: what all this touches,
//! for one who acts on it.

use super::{
    About, Counts, DocumentKey, Entry, JudgedEntry, LATER_VERDICTS_MAX, LaterVerdict, Ledger, LedgerError, OutcomeLine, Place, PolicyEntry,
    Position, StoredBatch, Writer, count, row, words::word_rows,
};
use crate::{
    enforce::{OrderEntry, Orders},
    envelope::Hash,
    intake::value_of,
    policy::Verdict,
    record::{FeedId, Indicator, Observable, Record, RecordRef},
};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Most touched values that are remembered one by one: some 10 MiB. More is cheaper looked at all together.
const TOUCHED_MAX: usize = 65_536;

/// What changed: values of which something was said, records that were taken back or disputed, feeds that were set aside.
#[derive(Debug, Default)]
pub struct Touched {
    pub values: Vec<Observable>,
    pub records: HashSet<RecordRef>,
    pub feeds: BTreeSet<FeedId>,
    /// So much that everything has to be looked at.
    pub everything: bool,
}

impl Touched {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.records.is_empty() && self.feeds.is_empty() && !self.everything
    }

    pub(super) fn value(&mut self, value: &Observable) {
        if self.values.len() < TOUCHED_MAX {
            self.values.push(value.clone());
        } else {
            self.everything = true;
        }
    }

    pub(super) fn record(&mut self, record: RecordRef) {
        if self.records.len() < TOUCHED_MAX {
            self.records.insert(record);
        } else {
            self.everything = true;
        }
    }

    pub(super) fn feed(&mut self, feed: &FeedId) {
        self.feeds.insert(feed.clone());
    }

    /// Adds what came later.
    pub fn add(&mut self, later: Self) {
        later.values.iter().for_each(|value| self.value(value));
        later.records.into_iter().for_each(|record| self.record(record));
        self.feeds.extend(later.feeds);
        self.everything |= later.everything;
    }
}

impl Ledger {
    /// The number that the next batch will have: all numbers below it are given.
    pub fn batches(&self) -> u64 {
        self.state(|state| state.next_batch)
    }

    /// Records that wait for a person, oldest first, from `from` on.
    pub fn held(&self, from: Place, limit: usize) -> Result<Vec<Place>, LedgerError> {
        self.state(|state| state.held(from, limit))
    }

    /// Batches of a feed of which records are withheld from us, at most `limit`.
    pub fn withheld(&self, feed: &FeedId, limit: usize) -> Result<Vec<u64>, LedgerError> {
        let partial = self.state(|state| state.partial(feed))?;
        Ok(partial.into_iter().filter(|(_, withheld)| *withheld > 0).map(|(seq, _)| seq).take(limit).collect())
    }

    /// How many records of a batch are withheld from us.
    pub fn withheld_of(&self, feed: &FeedId, seq: u64) -> Result<u16, LedgerError> {
        self.state(|state| state.withheld_of(feed, seq))
    }

    /// Removal batches of a feed, from `first` on, at most `limit`.
    pub fn removals(&self, feed: &FeedId, first: u64, limit: usize) -> Result<Vec<u64>, LedgerError> {
        self.state(|state| state.removals(feed, first, limit))
    }

    /// Indicators that wait for a report, at most `limit`.
    pub fn waiting_for(&self, report: &RecordRef, limit: usize) -> Result<Vec<Place>, LedgerError> {
        self.state(|state| state.waiting_for(report, limit))
    }

    /// A policy that judged once.
    pub fn policy(&self, hash: Hash) -> Result<Option<PolicyEntry>, LedgerError> {
        self.policy_at(DocumentKey::Policy(hash))
    }

    /// The newest policy that was in force.
    pub fn policy_in_force(&self) -> Result<Option<PolicyEntry>, LedgerError> {
        self.policy_at(DocumentKey::PolicyInForce)
    }

    fn policy_at(&self, key: DocumentKey<'_>) -> Result<Option<PolicyEntry>, LedgerError> {
        let Some(bytes) = self.document(key)? else { return Ok(None) };
        crate::cbor::decode_stored(&bytes).map(Some).map_err(|error| LedgerError::Damaged(format!("a policy: {error}")))
    }

    /// What operators ordered, all of it applied.
    pub fn orders(&self) -> Result<Orders, LedgerError> {
        let mut orders = Orders::default();
        for position in self.state(super::State::orders)? {
            if let Entry::Order(entry) = Entry::decode(&self.shared.journal.read(position)?)? {
                // As it was then: exceptions that were over made room for this one.
                orders.expire(entry.at);
                orders.apply(&entry);
            }
        }
        Ok(orders)
    }

    /// Every dispute that counts: the sighting's name and what it disputes.
    pub fn disputes(&self) -> Vec<(String, Vec<super::Subject>)> {
        self.state(|state| state.disputes.all().map(|(sighting, subjects)| (sighting.to_owned(), subjects.to_vec())).collect())
    }
}

impl Writer {
    /// From now on notes what changes.
    pub fn watch(&mut self) {
        self.touched.get_or_insert_default();
    }

    /// What changed since this was last asked.
    pub fn take_touched(&mut self) -> Touched {
        self.touched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn touch(&mut self, note: impl FnOnce(&mut Touched)) {
        if let Some(touched) = &mut self.touched {
            note(touched);
        }
    }

    /// Notes the policy that is in force from now on.
    pub fn keep_policy(&mut self, entry: PolicyEntry) -> Result<(), LedgerError> {
        let position = self.journal.append(&Entry::Policy(entry.clone()).encode())?;
        self.note_policy(&entry, position);
        Ok(())
    }

    pub(super) fn note_policy(&mut self, entry: &PolicyEntry, position: Position) {
        self.changes.document(DocumentKey::Policy(entry.hash), position);
        self.changes.document(DocumentKey::PolicyInForce, position);
    }

    /// Notes what operators ordered.
    pub fn keep_order(&mut self, entry: OrderEntry) -> Result<(), LedgerError> {
        let position = self.journal.append(&Entry::Order(entry).encode())?;
        self.changes.order(position);
        Ok(())
    }

    /// Takes in verdicts on records that are here already. What was taken in before is committed first.
    pub fn keep_judged(&mut self, entry: JudgedEntry) -> Result<(), LedgerError> {
        self.commit()?;
        let position = self.journal.append(&Entry::Judged(entry.clone()).encode())?;
        self.note_judged(&entry, position)
    }

    pub(super) fn note_judged(&mut self, entry: &JudgedEntry, position: Position) -> Result<(), LedgerError> {
        let mut by_batch: BTreeMap<(FeedId, u64), Vec<(u16, &OutcomeLine)>> = BTreeMap::new();
        for place in &entry.places {
            let name = || LedgerError::Damaged(format!("a later verdict names `{}`, which is no record", place.record));
            let record: RecordRef = place.record.parse().map_err(|_| name())?;
            let line = entry.table.get(usize::from(place.line)).ok_or_else(name)?;
            by_batch.entry((record.feed, record.seq)).or_default().push((record.index, line));
        }
        for ((feed, seq), places) in by_batch {
            // What was set aside or rewritten out since is not judged any more.
            if let Some(batch) = self.ledger.batch_at(&feed, seq)? {
                for (index, line) in &places {
                    self.note_single(entry, position, &batch, *index, line);
                }
                self.changes.changed(batch.head.tlp, position, format!("{feed}#{seq} {}", entry.at).as_bytes());
                self.note_places(&batch, &places);
            }
        }
        self.note_runs(entry, position)
    }

    /// A verdict on one record, beside those before it.
    fn note_single(&mut self, entry: &JudgedEntry, position: Position, batch: &StoredBatch, index: u16, line: &OutcomeLine) {
        if batch.record(index).is_none() {
            return;
        }
        let mut verdicts = batch.later.get(&index).cloned().unwrap_or_default();
        let (at, by, policy) = (entry.at, entry.by.clone(), entry.policy);
        verdicts.push(LaterVerdict { position, at, by, policy, line: line.clone() });
        verdicts.drain(..verdicts.len().saturating_sub(LATER_VERDICTS_MAX));
        self.changes.verdicts(Place { batch: batch.number, index }, &verdicts);
    }

    /// What other verdicts on places of a batch change in counts, queues and the index.
    pub(super) fn note_places(&mut self, batch: &StoredBatch, places: &[(u16, &OutcomeLine)]) {
        let (mut before, mut after) = (Counts::default(), Counts::default());
        for (index, line) in places {
            let Some(record) = batch.record(*index) else { continue };
            let (place, was) = (Place { batch: batch.number, index: *index }, batch.outcome(*index));
            count(&mut before, &was);
            count(&mut after, line);
            if let Some(report) = was.waits_for() {
                self.changes.wait(&report, place, false);
            }
            self.changes.held(place, line.verdict() == Some(Verdict::Hold));
            let OutcomeLine::Judged { ends, judgement } = line else { continue };
            let reference = || batch.reference(*index);
            match judgement.verdict {
                Verdict::Accept => {
                    self.note_dispute(&record, &reference, &batch.head, *ends);
                    self.note_renewal(&record, &reference, &batch.head);
                }
                Verdict::Hold | Verdict::Refuse => {
                    self.changes.undispute(&reference());
                    self.unrenew(&reference());
                    // Looked at before what is merely new.
                    self.touch(|touched| touched.record(reference()));
                }
            }
            if batch.first_outcome(*index).waits_for().is_some() {
                if let Record::Indicator(Indicator { report: Some(report), .. }) = &record {
                    self.note_naming(report, &batch.head);
                }
                self.rows.extend(word_rows(&record, place));
            }
            if let Some(value) = value_of(&record) {
                self.rows.push(row(value, place, About::of(&record, &batch.head, *ends, line.verdict())));
                self.touch(|touched| touched.value(value));
            }
        }
        let feed = batch.head.feed();
        let state = self.changes.feeds.get(&feed).cloned().or_else(|| self.ledger.feed(&feed));
        if let Some(mut state) = state {
            state.recount(batch.head.tlp, &before, &after);
            self.changes.feeds.insert(feed, state);
        }
    }
}
