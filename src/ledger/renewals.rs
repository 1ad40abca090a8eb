//! Renewals: that reports hold longer than they say.
//!
//! ```text
//! renewal, accepted -> what the report lends: counts at once for whatever comes and is asked
//!                   -> its indicators that are here: another end, in runs, a few batches at a time (`Writer::keep_judged`)
//! ```
//!
//! An end stands beside each verdict and in each row of the index, so a renewal is carried out for every indicator. That is
//! one journal entry for thousands, and goes on behind a restart.

use super::{JudgedEntry, LaterRuns, Ledger, LedgerError, OutcomeLine, Position, Renewed, Writer};
use crate::{
    envelope::Head,
    intake::Defaults,
    record::{FeedId, Record, RecordRef, Report},
};
use std::{collections::BTreeSet, sync::Arc};

/// Renewals of one report that are kept: the longest. What is left when one of them is taken back are the others.
const RENEWALS_MAX: usize = 8;

/// What a report lends to its indicators, renewed as it was.
pub(super) fn lent(report: &Report, renewed: &[Renewed]) -> Defaults {
    let defaults = Defaults::of(report);
    match renewed.last() {
        Some(renewed) => defaults.renewed(renewed.until, renewed.at),
        None => defaults,
    }
}

impl Ledger {
    /// Reports whose indicators have not got their new end yet, at most `limit`.
    pub fn renewing(&self, limit: usize) -> Result<Vec<RecordRef>, LedgerError> {
        self.state(|state| state.renewing(limit))
    }

    /// Reads anew what a report lends when it is next asked for.
    pub fn forget_report(&self, report: &RecordRef) {
        self.shared.reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(report);
    }
}

impl Writer {
    /// Reports that were renewed, or are so no more, since this was last asked.
    pub fn take_renewed(&mut self) -> BTreeSet<RecordRef> {
        std::mem::take(&mut self.renewed)
    }

    pub(super) fn note_report(&mut self, report: &Report, this: &RecordRef) {
        let renewed = self.renewals_of(this);
        self.ledger.remember(this.clone(), Arc::new(lent(report, &renewed)));
        if !renewed.is_empty() {
            self.carry_out(this);
        }
    }

    /// An accepted renewal counts until its author takes it back.
    pub(super) fn note_renewal(&mut self, record: &Record, reference: &impl Fn() -> RecordRef, head: &Head) {
        let Record::Renewal(renewal) = record else { return };
        let by = reference();
        if self.changes.withdrawn.contains(&by) || self.ledger.withdrawn(&by).ok().flatten().is_some() {
            return;
        }
        let reports: Vec<RecordRef> = renewal.targets.iter().filter_map(|target| target.resolve(&by.feed, by.seq)).collect();
        for report in &reports {
            let mut renewals = self.renewals_of(report);
            renewals.retain(|one| one.by != by.to_string());
            renewals.push(Renewed { until: renewal.valid_until, at: head.time, by: by.to_string() });
            renewals.sort_by(|one, other| (one.until, one.at, &one.by).cmp(&(other.until, other.at, &other.by)));
            renewals.drain(..renewals.len().saturating_sub(RENEWALS_MAX));
            self.set_renewals(report, renewals);
        }
        self.changes.renews(&by, Some(reports));
    }

    /// Undoes a renewal that does not count any more; of any other record it changes nothing.
    pub(super) fn unrenew(&mut self, by: &RecordRef) {
        let reports = match self.changes.renews.get(by) {
            Some(reports) => reports.clone(),
            None if self.ledger.state(|state| state.renews(by)).unwrap_or(false) => {
                let record = self.ledger.batch_at(&by.feed, by.seq).ok().flatten().and_then(|batch| batch.record(by.index));
                let targets = if let Some(Record::Renewal(renewal)) = record { renewal.targets } else { Vec::new() };
                targets.iter().filter_map(|target| target.resolve(&by.feed, by.seq)).collect()
            }
            None => return,
        };
        for report in &reports {
            let mut renewals = self.renewals_of(report);
            renewals.retain(|one| one.by != by.to_string());
            self.set_renewals(report, renewals);
        }
        self.changes.renews(by, None);
    }

    fn renewals_of(&self, report: &RecordRef) -> Vec<Renewed> {
        let pending = self.changes.renewed.get(report).cloned();
        pending.unwrap_or_else(|| self.ledger.state(|state| state.renewed(report)).unwrap_or_default())
    }

    fn set_renewals(&mut self, report: &RecordRef, renewals: Vec<Renewed>) {
        use crate::intake::Known as _;
        if let (Some(longest), Some(held)) = (renewals.last(), self.ledger.defaults(report)) {
            self.ledger.remember(report.clone(), Arc::new((*held).clone().renewed(longest.until, longest.at)));
        }
        self.changes.renewals(report, renewals);
        self.carry_out(report);
    }

    fn carry_out(&mut self, report: &RecordRef) {
        self.changes.renewing(report, true);
        self.renewed.insert(report.clone());
    }

    /// What verdicts in runs change, and whether with them a renewal is carried out.
    pub(super) fn note_runs(&mut self, entry: &JudgedEntry, position: Position) -> Result<(), LedgerError> {
        let Some(renewed) = &entry.renewed else { return Ok(()) };
        let damaged = || LedgerError::Damaged(format!("a later verdict names `{}`, which is no report", renewed.report));
        let report: RecordRef = renewed.report.parse().map_err(|_| damaged())?;
        for batch in &entry.runs {
            let feed: FeedId = batch.feed.parse().map_err(|_| damaged())?;
            let Some(stored) = self.ledger.batch_at(&feed, batch.seq)? else { continue };
            let mut lines = Vec::new();
            for (first, count, line) in &batch.runs {
                lines.push((*first, *count, entry.table.get(usize::from(*line)).cloned().ok_or_else(damaged)?));
            }
            let mut places: Vec<(u16, &OutcomeLine)> = Vec::new();
            for (first, count, line) in &lines {
                places.extend((*first..first.saturating_add(*count)).map(|index| (index, line)));
            }
            self.changes.changed(stored.head.tlp, position, format!("{feed}#{} {}", batch.seq, entry.at).as_bytes());
            self.note_places(&stored, &places);
            // With what is erased since: the row is the same at a replay, and counts for nothing there.
            let (at, policy) = (entry.at, entry.policy);
            self.changes.runs(stored.number, &report, &LaterRuns { position, at, policy, lines });
        }
        if renewed.done {
            self.changes.renewing(&report, false);
        }
        Ok(())
    }
}
