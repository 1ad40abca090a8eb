//! Changed: which records stand otherwise by what an entry of the journal says, for whoever was told of them before.
//!
//! ```text
//! Change -> a batch: its records, and those that it takes back -> (record, whether it came or was judged)
//!        -> a record; a feed: all of its batches, those too that were set aside
//! ```

use super::{ApiError, Local};
use crate::{
    ledger::Change,
    query::Reading,
    record::{Record, RecordRef},
};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Came,
    Judged,
}

/// Visits the records that a change is about, in an order that stays, for as long as `visit` says to go on; answers whether it did to the end.
///
/// What a renewal changes is told by the verdicts that carry it out, which are entries of their own.
pub(crate) fn each_changed<'a>(
    reading: &mut Reading<'a>,
    local: &Local,
    change: &Change,
    visit: &mut impl FnMut(&mut Reading<'a>, RecordRef, Since) -> Result<bool, ApiError>,
) -> Result<bool, ApiError> {
    let numbers = match change {
        Change::Record(record) => return visit(reading, record.clone(), Since::Judged),
        Change::Erased => Vec::new(),
        Change::Batch(number) => vec![*number],
        Change::Feed(feed) => {
            let mut numbers = local.ledger.aside_batches(feed)?;
            let spans = local.ledger.feed(feed).map(|state| state.spans).unwrap_or_default();
            for seq in spans.iter() {
                numbers.extend(local.ledger.batch_number(feed, seq)?);
            }
            numbers
        }
    };
    for number in numbers {
        let Some(batch) = reading.batch(number)? else { continue };
        for index in 0..batch.head.count {
            let by = batch.reference(index);
            let targets = match batch.record(index) {
                Some(Record::Withdrawal(withdrawal)) => withdrawal.targets,
                Some(Record::Renewal(_)) | None => continue,
                Some(_) => {
                    if !visit(reading, by, Since::Came)? {
                        return Ok(false);
                    }
                    continue;
                }
            };
            for target in targets.iter().filter_map(|target| target.resolve(&by.feed, by.seq)) {
                for record in under(reading, local, &target)? {
                    if !visit(reading, record, Since::Judged)? {
                        return Ok(false);
                    }
                }
            }
        }
    }
    Ok(true)
}

/// A record, or what stands under it if it is a report.
fn under(reading: &mut Reading<'_>, local: &Local, target: &RecordRef) -> Result<Vec<RecordRef>, ApiError> {
    let is_report = reading.named(target)?.is_some_and(|found| matches!(found.record, Record::Report(_)));
    if !is_report {
        return Ok(vec![target.clone()]);
    }
    let mut members = Vec::new();
    local.ledger.each_indicator_of(target, |batch, index| {
        members.push(batch.reference(index));
        true
    })?;
    Ok(members)
}
