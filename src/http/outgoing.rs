//! What a publication hands to the door: reports before what belongs to them, a chunk at a time, by class and marking.
//!
//! ```text
//! records, each with the number of its report -> chunks of 4,096 per marking -door-> batches   (the next is read meanwhile)
//! ```

use super::{ApiError, Local};
use crate::{
    envelope::Class,
    ledger::Counts,
    node::door::{DoorError, Publication, Published, ReportOf, Request},
    record::{ChannelName, Record, RecordRef, Report, Tlp, WireRef},
};
use std::collections::{BTreeMap, HashMap};
use tokio::sync::oneshot;

/// Records handed to the door at once: sixteen full batches, some 10 ms of its time.
const CHUNK_RECORDS: usize = 4_096;

/// A record, and the number of its report.
type Piece = (Record, Option<usize>);

/// What the door will say.
type Answer = oneshot::Receiver<Result<Published, DoorError>>;

/// What was published so far.
#[derive(Default)]
pub(super) struct Done {
    pub report: Option<RecordRef>,
    pub reports: u64,
    pub first: Option<RecordRef>,
    pub last: Option<RecordRef>,
    pub batches: u64,
    pub counts: Counts,
}

/// A publication under way.
pub(super) struct Outgoing {
    local: Local,
    channel: ChannelName,
    chunks: BTreeMap<(bool, Tlp), Vec<Piece>>,
    /// Reports that have a number and no place yet.
    fresh: BTreeMap<usize, (Report, Tlp)>,
    places: HashMap<usize, RecordRef>,
    /// The chunk that the door is working on while the next is read, and the report that it begins with.
    at_door: Option<(Answer, Option<usize>)>,
    pub done: Done,
}

impl Outgoing {
    pub(super) fn new(local: Local, channel: ChannelName) -> Self {
        let (chunks, fresh, places) = (BTreeMap::new(), BTreeMap::new(), HashMap::new());
        Self { local, channel, chunks, fresh, places, at_door: None, done: Done::default() }
    }

    /// Whether the report with this number was given.
    pub(super) fn knows(&self, number: usize) -> bool {
        self.places.contains_key(&number) || self.fresh.contains_key(&number)
    }

    /// Gives the report with a number; it is published before the first record that belongs to it.
    pub(super) fn report(&mut self, number: usize, report: Report, tlp: Tlp) {
        self.fresh.insert(number, (report, tlp));
    }

    /// Takes a record, within the report with this number if there is one. What takes back goes by itself.
    pub(super) fn take(&mut self, record: Record, report: Option<usize>, tlp: Tlp, class: Class) -> Result<(), ApiError> {
        let key = (class == Class::Removal, tlp);
        let chunk = self.chunks.entry(key).or_default();
        chunk.push((record, report));
        // The report takes the first place of the first chunk.
        let full = if self.places.is_empty() { CHUNK_RECORDS - 1 } else { CHUNK_RECORDS };
        if chunk.len() >= full { self.send(key) } else { Ok(()) }
    }

    /// Gives a chunk to the door, and what it belongs to before it.
    fn send(&mut self, key: (bool, Tlp)) -> Result<(), ApiError> {
        self.settle()?;
        let (class, tlp) = (if key.0 { Class::Removal } else { Class::Content }, key.1);
        let pieces = self.chunks.remove(&key).unwrap_or_default();
        // A chunk of one new report begins with it; of several, they go before it.
        let first = pieces.first().and_then(|(_, report)| *report);
        let alone = first.filter(|number| {
            pieces.iter().all(|(record, report)| *report == Some(*number) && matches!(record, Record::Indicator(_)))
                && self.fresh.get(number).is_some_and(|(_, marking)| *marking == tlp)
        });
        let report = match alone.and_then(|number| self.fresh.remove(&number)) {
            Some((report, _)) => ReportOf::New(Box::new(report)),
            None => {
                let wanted = pieces.iter().filter_map(|(_, report)| *report).filter(|number| self.fresh.contains_key(number)).collect();
                self.send_reports(wanted)?;
                ReportOf::None
            }
        };
        let records = pieces.into_iter().map(|(record, report)| self.placed(record, report)).collect();
        let publication = Publication { channel: self.channel.clone(), tlp, class, report, records };
        self.at_door = Some((self.ask(publication)?, alone));
        // Until the place of the report is known nothing else that belongs to it can be sent.
        if alone.is_some() { self.settle() } else { Ok(()) }
    }

    fn ask(&self, publication: Publication) -> Result<Answer, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.local.door.send(Request::Publish(Box::new(publication), reply)).map_err(|_| DoorError::Stopping)?;
        Ok(answer)
    }

    fn send_reports(&mut self, mut wanted: Vec<usize>) -> Result<(), ApiError> {
        wanted.sort_unstable();
        wanted.dedup();
        let mut by_marking: BTreeMap<Tlp, Vec<(usize, Report)>> = BTreeMap::new();
        for number in wanted {
            if let Some((report, tlp)) = self.fresh.remove(&number) {
                by_marking.entry(tlp).or_default().push((number, report));
            }
        }
        for (tlp, reports) in by_marking {
            for some in reports.chunks(CHUNK_RECORDS) {
                let records = some.iter().map(|(_, report)| Record::Report(report.clone())).collect();
                let (channel, class, report) = (self.channel.clone(), Class::Content, ReportOf::None);
                let answer = self.ask(Publication { channel, tlp, class, report, records })?;
                let done = answer.blocking_recv().map_err(|_| DoorError::Stopping)??;
                self.places.extend(some.iter().map(|(number, _)| *number).zip(done.reports.iter().cloned()));
                self.note(Published { first: None, last: None, ..done });
            }
        }
        Ok(())
    }

    /// The record with the name of its report; the publisher writes the shortest form.
    fn placed(&self, mut record: Record, report: Option<usize>) -> Record {
        if let Some(place) = report.and_then(|number| self.places.get(&number)) {
            match &mut record {
                Record::Indicator(indicator) => indicator.report = Some(WireRef::Whole(place.clone())),
                Record::Document(document) => document.targets.push(WireRef::Whole(place.clone())),
                _ => (),
            }
        }
        record
    }

    fn settle(&mut self) -> Result<(), ApiError> {
        let Some((answer, number)) = self.at_door.take() else { return Ok(()) };
        let done = answer.blocking_recv().map_err(|_| DoorError::Stopping)??;
        self.places.extend(number.zip(done.report.clone()));
        self.note(done);
        Ok(())
    }

    fn note(&mut self, done: Published) {
        let Done { report, reports, first, last, batches, counts } = &mut self.done;
        *reports += done.reports.len() as u64 + u64::from(done.report.is_some());
        *report = report.take().or(done.report).or(done.reports.into_iter().next());
        *first = first.take().or(done.first);
        *last = done.last.or(last.take());
        *batches += done.batches;
        counts.add(&done.counts);
    }

    /// Sends what is left, and the reports that nothing belonged to.
    pub(super) fn finish(&mut self) -> Result<(), ApiError> {
        // Content before what takes back: keys are in that order.
        for key in self.chunks.keys().copied().collect::<Vec<_>>() {
            self.send(key)?;
        }
        self.settle()?;
        let left = self.fresh.keys().copied().collect();
        self.send_reports(left)
    }
}
