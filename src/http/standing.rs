//! What we assert in a channel now, so that a file which is imported again adds what is new, replaces what has changed and,
//! as a mirror, takes back what it does not have any more.
//!
//! A record is found again by the id that its file gives it, or by its value where there is none. It is the same as long as
//! it means the same: value, marking, role, use, confidence, tags, an end of its own. One that is nearly over is renewed with its report where
//! all that stands under that is in the file or taken back, which is so in a mirror; elsewhere it is said anew.

use super::{
    ApiError, Local,
    plan::{Mode, Plan, is_of},
};
use crate::{
    query::{Reading, Standing as Stands},
    record::{Document, Indicator, Record, RecordRef, Role, Scope, Source, Timestamp, Tlp, Use},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
};

/// Most records of a channel that can be mirrored: some 200 MB of what is kept of each.
const RECORDS_MAX: usize = 2_000_000;
/// Removals that need no leave, however small the channel: a list of four that loses one is a list of three.
const FREE_REMOVALS: usize = 1;
/// Removals in percent of what stands that need no leave: more is more often a broken file than a decision.
pub const REMOVALS_PERCENT: u8 = 20;

/// What an indicator means once its report has lent what it leaves open.
#[derive(Hash)]
pub(super) struct Meaning<'a> {
    pub indicator_value: &'a crate::record::Observable,
    pub scope: Option<Scope>,
    pub tlp: Tlp,
    pub role: Option<Role>,
    pub usage: Option<Use>,
    pub confidence: Option<u8>,
    pub tags: &'a [String],
    /// An end of its own; what it has from its report is renewed.
    pub until: Option<Timestamp>,
}

struct One {
    feed: u32,
    seq: u64,
    index: u16,
    meaning: u64,
    ends: Timestamp,
    /// The report that it has its end from, if that can be renewed.
    report: Option<u32>,
}

/// Records that are found under one id or value.
#[derive(Default)]
struct Subject {
    ones: Vec<One>,
    seen: bool,
}

/// What is to be done with an indicator of a file.
pub(super) enum Step {
    /// It stands already.
    Nothing,
    /// It stands, and holds longer with its report.
    Renew,
    Say,
    /// It stands, and means something else or is nearly over.
    SayInPlaceOf(RecordRef),
}

/// Our records of one channel.
pub(super) struct Standing {
    feeds: Vec<crate::record::FeedId>,
    subjects: HashMap<(u64, u64), Subject>,
    /// Subjects under one id of the file, and the ids that the file has: a value that is gone from under its id was changed.
    by_id: HashMap<u64, Vec<(u64, u64)>>,
    ids: HashSet<u64>,
    /// Subjects by the outside id alone, of every author.
    by_outside_id: HashMap<u64, Vec<(u64, u64)>>,
    /// Documents and sightings, by all that they say.
    beside: HashSet<u64>,
    hashers: (RandomState, RandomState),
    count: usize,
    /// Reports that can be renewed, their marking, and until when they are to be.
    reports: Vec<(RecordRef, Tlp, Option<Timestamp>)>,
    /// What is taken back once the rest is said.
    replaced: Vec<RecordRef>,
}

/// Whose finding an indicator is, by itself or by its report.
pub(super) fn organisation_of<'a>(indicator: &'a Indicator, lent: Option<&'a Source>) -> Option<&'a str> {
    let own = indicator.source.as_ref().and_then(|source| source.organisation.as_deref());
    own.or_else(|| lent.and_then(|source| source.organisation.as_deref()))
}

impl Standing {
    /// Reads what stands in the channel of `plan` now and came from its source, or, without one, from none. `permits` are the markings that
    /// the channel may carry now.
    pub(super) fn of(local: &Local, plan: &Plan, permits: &[Tlp]) -> Result<Self, ApiError> {
        let (channel, origin) = (&plan.channel, plan.origin.as_deref());
        let me = &local.identity.member;
        let mut found = Self {
            feeds: Vec::new(),
            subjects: HashMap::new(),
            by_id: HashMap::new(),
            ids: HashSet::new(),
            by_outside_id: HashMap::new(),
            beside: HashSet::new(),
            hashers: Default::default(),
            count: 0,
            reports: Vec::new(),
            replaced: Vec::new(),
        };
        let feeds = local.ledger.feeds().into_iter().filter(|(feed, _)| feed.member == *me && feed.channel == *channel);
        let mut reading = Reading::whole(&local.ledger, local.clock.now());
        let mut renewable: HashMap<RecordRef, Option<u32>> = HashMap::new();
        for (feed, state) in feeds {
            let number = u32::try_from(found.feeds.len()).unwrap_or(u32::MAX);
            found.feeds.push(feed.clone());
            for seq in state.first()..=state.last() {
                let Some(batch) = local.ledger.batch_number(&feed, seq)? else { continue };
                let Some(head) = reading.batch(batch)?.map(|batch| batch.head.clone()) else { continue };
                for index in 0..head.count {
                    let Some(record) = reading.found(crate::ledger::Place { batch, index })? else { continue };
                    let Record::Indicator(indicator) = &record.record else {
                        found.beside.extend(found.mark(&record.record).filter(|_| record.withdrawn.is_none()));
                        continue;
                    };
                    let lent = record.lent();
                    let ours = is_of(&lent.tags, origin);
                    // What is over here only, by a limit of ours, stands elsewhere, and would come back here with its report.
                    let said_end = indicator.valid_until.or(lent.valid_until);
                    let is_over = reading.standing(&record).0 == Stands::Over && said_end.is_none_or(|end| end <= reading.now());
                    if !ours || record.withdrawn.is_some() || is_over {
                        continue;
                    }
                    found.count += 1;
                    if found.count > RECORDS_MAX {
                        return Err(ApiError::bad("the channel has more than 2,000,000 records that stand; mirror it in several channels"));
                    }
                    let meaning = found.hashers.0.hash_one(Meaning {
                        indicator_value: &indicator.value,
                        scope: indicator.scope,
                        tlp: head.tlp,
                        role: indicator.role.or(lent.role),
                        usage: indicator.usage.or(lent.usage),
                        confidence: indicator.confidence.or(lent.confidence),
                        tags: &indicator.tags,
                        until: indicator.valid_until,
                    });
                    let ends = said_end.unwrap_or(Timestamp::from_ms(u64::MAX >> 20).unwrap_or_default());
                    let report = record
                        .report
                        .as_ref()
                        .filter(|_| matches!(plan.mode, Mode::Mirror(_)) && indicator.valid_until.is_none() && lent.valid_until.is_some());
                    let report = match report {
                        None => None,
                        Some(report) => match renewable.get(report) {
                            Some(number) => *number,
                            None => {
                                let tlp = reading.named(report)?.map(|one| one.batch.head.tlp).filter(|tlp| permits.contains(tlp));
                                let number = tlp.map(|tlp| found.report(report, tlp));
                                renewable.insert(report.clone(), number);
                                number
                            }
                        },
                    };
                    let organisation = organisation_of(indicator, lent.source.as_ref());
                    let key = found.key(indicator, organisation);
                    if let Some(id) = found.id(indicator, organisation) {
                        found.by_id.entry(id).or_default().push(key);
                        let outside = indicator.source.as_ref().and_then(|source| source.external_id.as_deref()).unwrap_or_default();
                        let outside = found.hashers.0.hash_one(outside);
                        found.by_outside_id.entry(outside).or_default().push(key);
                    }
                    found.subjects.entry(key).or_default().ones.push(One { feed: number, seq, index, meaning, ends, report });
                }
            }
        }
        Ok(found)
    }

    fn report(&mut self, report: &RecordRef, tlp: Tlp) -> u32 {
        self.reports.push((report.clone(), tlp, None));
        u32::try_from(self.reports.len() - 1).unwrap_or(u32::MAX)
    }

    /// Whether a report will hold until then; one that is to hold until another moment will not.
    fn renew(reports: &mut [(RecordRef, Tlp, Option<Timestamp>)], report: u32, until: Timestamp) -> bool {
        reports.get_mut(report as usize).is_some_and(|(_, _, wanted)| *wanted.get_or_insert(until) == until)
    }

    /// Reports to be renewed: until when, their marking, and their names.
    pub(super) fn take_renewals(&mut self) -> Vec<(Timestamp, Tlp, Vec<RecordRef>)> {
        let mut found: BTreeMap<(Timestamp, Tlp), Vec<RecordRef>> = BTreeMap::new();
        for (report, tlp, wanted) in std::mem::take(&mut self.reports) {
            if let Some(until) = wanted {
                found.entry((until, tlp)).or_default().push(report);
            }
        }
        found.into_iter().map(|((until, tlp), reports)| (until, tlp, reports)).collect()
    }

    /// An id is its author's: two organisations that use one id say two things.
    fn id(&self, indicator: &Indicator, organisation: Option<&str>) -> Option<u64> {
        let id = indicator.source.as_ref()?.external_id.as_deref()?;
        Some(self.hashers.0.hash_one((id, organisation)))
    }

    fn key(&self, indicator: &Indicator, organisation: Option<&str>) -> (u64, u64) {
        let id = indicator.source.as_ref().and_then(|source| source.external_id.as_deref());
        // Two values of one pattern share its id.
        let subject = (id, organisation.filter(|_| id.is_some()), &indicator.value);
        (self.hashers.0.hash_one(subject), self.hashers.1.hash_one(subject))
    }

    /// What a document or sighting says, whatever it belongs to.
    fn mark(&self, record: &Record) -> Option<u64> {
        match record {
            Record::Document(document) => {
                let bare = Document { targets: Vec::new(), ..document.clone() };
                Record::Document(bare).encode().ok().map(|bytes| self.hashers.0.hash_one(bytes))
            }
            Record::Sighting(_) => record.encode().ok().map(|bytes| self.hashers.0.hash_one(bytes)),
            _ => None,
        }
    }

    /// Whether a document or sighting stands already; from now on it does.
    pub(super) fn stands(&mut self, record: &Record) -> bool {
        self.mark(record).is_some_and(|mark| !self.beside.insert(mark))
    }

    fn place(&self, one: &One) -> Option<RecordRef> {
        let feed = self.feeds.get(one.feed as usize)?.clone();
        Some(RecordRef { feed, seq: one.seq, index: one.index })
    }

    /// What to do with an indicator that means `meaning` and is wanted until `until`.
    pub(super) fn step(
        &mut self,
        (indicator, organisation): (&Indicator, Option<&str>),
        meaning: &Meaning<'_>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Step {
        let meaning = self.hashers.0.hash_one(meaning);
        let key = self.key(indicator, organisation);
        self.ids.extend(self.id(indicator, organisation));
        let Some(subject) = self.subjects.get_mut(&key) else { return Step::Say };
        subject.seen = true;
        // Said anew when less than half of what is wanted is left: a file that is read every hour renews nothing every hour.
        let enough = |one: &One| until.is_none_or(|until| one.ends.ms_since(now) >= until.ms_since(now) / 2);
        if subject.ones.iter().any(|one| one.meaning == meaning && enough(one)) {
            return Step::Nothing;
        }
        let reports = &mut self.reports;
        let mut same = subject.ones.iter().filter(|one| one.meaning == meaning).filter_map(|one| one.report);
        if let Some(until) = until
            && same.any(|report| Self::renew(reports, report, until))
        {
            return Step::Renew;
        }
        let ones = std::mem::take(&mut subject.ones);
        let places: Vec<RecordRef> = ones.iter().filter_map(|one| self.place(one)).collect();
        let first = places.first().cloned();
        self.replaced.extend(places);
        first.map_or(Step::Say, Step::SayInPlaceOf)
    }

    /// Notes that a file has this, and nothing else.
    pub(super) fn see(&mut self, indicator: &Indicator, organisation: Option<&str>) {
        let key = self.key(indicator, organisation);
        if let Some(subject) = self.subjects.get_mut(&key) {
            subject.seen = true;
        }
    }

    /// Notes that a file has an older version of an id.
    pub(super) fn see_older(&mut self, id: &str) {
        let keys = self.by_outside_id.get(&self.hashers.0.hash_one(id)).cloned().unwrap_or_default();
        keys.iter().for_each(|key| self.subjects.get_mut(key).into_iter().for_each(|subject| subject.seen = true));
    }

    /// How many records the file does not have.
    pub(super) fn unseen(&self) -> usize {
        self.subjects.values().filter(|subject| !subject.seen).map(|subject| subject.ones.len()).sum()
    }

    /// Refuses a file that lacks more than `percent` of what stands; then forgets what was seen.
    pub(super) fn check(&mut self, percent: u8) -> Result<(), ApiError> {
        let unseen = self.unseen();
        if unseen > FREE_REMOVALS && unseen * 100 > self.count * usize::from(percent) {
            return Err(ApiError::bad(format!(
                "the file lacks {unseen} of the {} records that stand in the channel, more than {percent} %: if that is meant, say --withdraw-max 100. Nothing was changed",
                self.count
            )));
        }
        self.subjects.values_mut().for_each(|subject| subject.seen = false);
        Ok(())
    }

    /// Records that are taken back: those that were replaced, those whose id the file has with another value, and, as a mirror, those that
    /// the file does not have.
    pub(super) fn take_leftovers(&mut self, mirror: bool) -> Vec<RecordRef> {
        let mut targets = std::mem::take(&mut self.replaced);
        let unseen = |subject: &&Subject| !subject.seen;
        if mirror {
            let gone = self.subjects.values().filter(unseen).flat_map(|subject| &subject.ones);
            targets.extend(gone.filter_map(|one| self.place(one)));
        } else {
            let under_ids = self.ids.iter().filter_map(|id| self.by_id.get(id)).flatten();
            let gone = under_ids.filter_map(|key| self.subjects.get(key)).filter(unseen).flat_map(|subject| &subject.ones);
            targets.extend(gone.filter_map(|one| self.place(one)));
        }
        targets.sort();
        targets.dedup();
        targets
    }
}
