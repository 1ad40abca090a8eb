//! Assess: all that stands behind one value now, and what outlets may do with it.
//!
//! ```text
//! value -index-> records -accepted, not over, not withdrawn-> claims -independent-> origins
//!                                                         \-> case -policy-> permitted at an outlet, or why not
//! ```
//!
//! The enforcer acts on this and `explain` tells it, so that they never differ.

use super::{Answer, Found, Reading, Standing};
use crate::{
    enforce::{Behind, Orders, Outlet, Proposal, Unfit, rank},
    intake::{Intake, Known as _, Matter},
    ledger::{Ledger, LedgerError, OutcomeLine, Place, exactly, value_key},
    policy::{CLAIMS_MAX, CONFIDENCE_UNSAID, Claim, Confidence, OutletName, Permission, Standpoint, effective_confidence, independent},
    record::{Indicator, MemberId, Observable, ObservableType, Record, RecordRef, Scope, Timestamp, Tlp, Use},
};
use std::{collections::BTreeSet, sync::Arc};

/// Rows of one value that are looked through for those that are not over.
const ROWS_MAX: usize = 16_384;
/// Records of one value that are read: sightings and questions about it stand in the same place of the index.
const READ_MAX: usize = 4_096;

/// One indicator that counts now.
pub struct Support {
    pub found: Arc<Found>,
    pub ends: Timestamp,
    pub below: bool,
    /// As its author says and our policies cap it.
    pub confidence: u8,
}

/// All that stands behind one value.
pub struct Assessment {
    pub value: Observable,
    /// Records above this marking are left out of everything below.
    pub tlp_max: Tlp,
    pub supports: Vec<Support>,
    pub claims: Vec<Claim>,
    /// Independent sources.
    pub origins: u32,
    pub disputed_by: BTreeSet<MemberId>,
    /// Every record about the value that may come to count or cease to.
    pub behind: Vec<Behind>,
}

impl Assessment {
    /// How sure one may be of the value.
    pub fn confidence(&self, now: Timestamp) -> Confidence {
        effective_confidence(&self.claims, self.disputed_by.len(), now)
    }
}

/// What becomes of a value at one outlet.
pub enum Prospect {
    /// By these records.
    Permitted(Vec<Proposal>),
    /// It stands on lists that protect it, or above something that does.
    Protected(Vec<String>),
    /// Its shape, type, marking or use is nothing for this outlet.
    Unfit(Unfit),
    /// No policy permits it, or one forbids it.
    Denied(Arc<Permission>),
    /// Nothing that counts asserts it.
    Nothing,
}

impl Reading<'_> {
    /// Where records about exactly this value stand that are not over, in the order of the ledger.
    pub fn places(&self, value: &Observable) -> Result<Vec<Place>, LedgerError> {
        Ok(self.places_among(value, ROWS_MAX)?.0)
    }

    /// The same among so many rows, and whether there are more.
    fn places_among(&self, value: &Observable, rows_max: usize) -> Result<(Vec<Place>, bool), LedgerError> {
        let (rows, more) = self.rows_of(value, rows_max)?;
        let today = self.now.day();
        Ok((rows.into_iter().filter(|row| u32::from(row.about.end_day) >= today).map(|row| row.place).collect(), more))
    }

    /// Every record about exactly this value, whatever it counts for, what was set aside too.
    pub fn everything_about(&mut self, value: &Observable) -> Result<BTreeSet<RecordRef>, LedgerError> {
        let mut range = exactly(value);
        let mut records = BTreeSet::new();
        loop {
            let (rows, more) = self.ledger.scan_up_to(&range, self.clearance, ROWS_MAX)?;
            for row in &rows {
                if let Some(batch) = self.batch(row.place.batch)? {
                    records.insert(batch.reference(row.place.index));
                }
            }
            match rows.last().filter(|_| more) {
                Some(last) => range = range.after(&value_key(value), last.place),
                None => return Ok(records),
            }
        }
    }

    /// Whether `place` is the first of `places` at which an indicator of `value` stands that may count.
    pub fn is_first(&mut self, value: &Observable, place: Place, places: &[Place]) -> Result<bool, LedgerError> {
        for earlier in places.iter().take_while(|one| **one < place) {
            let found = self.found(*earlier)?;
            let speaks = |found: &Found| matches!(&found.record, Record::Indicator(indicator) if indicator.value == *value);
            if found.is_some_and(|found| found.batch.aside.is_none() && speaks(&found)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Weighs everything that is asserted about exactly `value`, up to a marking: what somebody may not see must not show
    /// in a sum either.
    pub fn assess(&mut self, intake: &Intake, value: &Observable, tlp_max: Tlp) -> Result<Assessment, LedgerError> {
        let places = self.places(value)?;
        self.assess_at(intake, value, &places, tlp_max)
    }

    /// As [`Self::assess`], for one who knows the places already.
    pub fn assess_at(&mut self, intake: &Intake, value: &Observable, places: &[Place], tlp_max: Tlp) -> Result<Assessment, LedgerError> {
        let mut all = Assessment {
            value: value.clone(),
            tlp_max,
            supports: Vec::new(),
            claims: Vec::new(),
            origins: 0,
            disputed_by: BTreeSet::new(),
            behind: Vec::new(),
        };
        // The newest first: what somebody said a hundred times before must not crowd out what is said now.
        let mut read = 0;
        for place in places.iter().rev() {
            if all.claims.len() >= CLAIMS_MAX || read >= READ_MAX {
                break;
            }
            let Some(found) = self.found(*place)? else { continue };
            let Record::Indicator(indicator) = &found.record else { continue };
            // Names that reverse alike share a prefix; the record says which value it is about.
            if indicator.value != *value || found.batch.head.tlp > tlp_max {
                continue;
            }
            // Hidden records crowd out nothing.
            read += 1;
            all.behind.push(Behind { record: found.reference.clone(), report: found.report.clone() });
            let (standing, _) = self.standing(&found);
            let OutcomeLine::Judged { ends, judgement } = &found.outcome else { continue };
            if standing != Standing::Accepted {
                continue;
            }
            let disputed = self.ledger.disputed_up_to(Some(value), &found.reference, tlp_max, self.now);
            let (ends, below) = (*ends, indicator.scope == Some(Scope::Subdomains));
            let said = indicator.confidence.or(found.defaults.as_ref().and_then(|defaults| defaults.confidence));
            let confidence = said.unwrap_or(CONFIDENCE_UNSAID);
            let confidence = judgement.confidence_cap.map_or(confidence, |cap| cap.min(confidence));
            // The report's, whatever the record says of itself: an id of its own in a file is no second source.
            let source = self.lent_source(&found, tlp_max)?;
            all.claims.push(Claim {
                member: found.batch.head.member.clone(),
                standpoint: Standpoint::of(source, |name| intake.roster.member_called(name)),
                confidence,
                signed: found.batch.head.time,
                ends,
                disputed: !disputed.is_empty(),
            });
            all.disputed_by.extend(disputed);
            all.supports.push(Support { found, ends, below, confidence });
        }
        all.origins = independent(&all.claims);
        Ok(all)
    }

    /// What `outlet` may do with a value.
    pub fn prospect(&self, intake: &Intake, assessed: &Assessment, outlet: &Outlet, orders: &Orders) -> Prospect {
        let value = &assessed.value;
        let below = value.kind() == ObservableType::Domain && assessed.supports.iter().any(|one| one.below);
        let protected: Vec<String> = intake.lists.protecting(value, below).map(|list| list.name.clone()).collect();
        if !protected.is_empty() && !orders.is_forced(value, self.now) {
            return Prospect::Protected(protected);
        }
        let (mut permitted, mut denied, mut unfit) = (Vec::new(), None, None);
        for support in &assessed.supports {
            let found = &support.found;
            if let Err(why) = outlet.takes(value, found.batch.head.tlp, usage_of(found)) {
                unfit = Some(why);
                continue;
            }
            let permission = self.permission(intake, assessed, support, outlet);
            if permission.permitted {
                permitted.push(Proposal {
                    origin: found.batch.head.member.clone(),
                    record: found.reference.clone(),
                    below: support.below,
                    until: support.ends,
                    rank: rank(assessed.origins, support.confidence),
                    permission,
                });
            } else {
                denied = Some(permission);
            }
        }
        match (permitted.is_empty(), denied, unfit) {
            (false, _, _) => Prospect::Permitted(permitted),
            (true, Some(permission), _) => Prospect::Denied(permission),
            (true, None, Some(why)) => Prospect::Unfit(why),
            (true, None, None) => Prospect::Nothing,
        }
    }

    fn permission(&self, intake: &Intake, assessed: &Assessment, support: &Support, outlet: &Outlet) -> Arc<Permission> {
        let found = &support.found;
        let defaults = found.lent();
        let name = OutletName { name: &outlet.name, kind: outlet.kind };
        let matter = Matter::new(intake, &found.batch.head, self.now);
        let disputed = self.ledger.disputed_up_to(Some(&assessed.value), &found.reference, assessed.tlp_max, self.now);
        let asked =
            matter.case(&found.record, &defaults, support.ends, &disputed, assessed.origins, |case| intake.policy.enforces(case, name));
        asked.unwrap_or_else(|| Arc::new(Permission::refused("stranger", "its author is no member any more")))
    }
}

fn usage_of(found: &Found) -> Use {
    let own = match &found.record {
        Record::Indicator(Indicator { usage, .. }) => *usage,
        _ => None,
    };
    own.or(found.defaults.as_ref().and_then(|defaults| defaults.usage)).unwrap_or(Use::Context)
}

/// Weighs every value of an answer: independent sources, disputes, effective confidence. Only what is marked up to `tlp_max`
/// counts.
pub fn weigh(answer: &mut Answer, ledger: &Ledger, intake: &Intake, tlp_max: Tlp, now: Timestamp) -> Result<(), LedgerError> {
    let _all_that_is_looked_at = Reading::up_to(tlp_max, ledger, now).weigh(answer, intake, tlp_max, ROWS_MAX)?;
    Ok(())
}

impl Reading<'_> {
    /// The same; answers whether no value has more rows than may be looked at.
    pub(super) fn weigh(&mut self, answer: &mut Answer, intake: &Intake, tlp_max: Tlp, rows_max: usize) -> Result<bool, LedgerError> {
        let mut whole = true;
        for line in &mut answer.values {
            let Some(value) = line.observable() else { continue };
            let (places, more) = self.places_among(&value, rows_max)?;
            whole &= !more;
            let assessed = self.assess_at(intake, &value, &places, tlp_max)?;
            line.independent = assessed.origins;
            line.disputed_by = assessed.disputed_by.iter().map(ToString::to_string).collect();
            line.confidence = assessed.confidence(self.now).value;
        }
        Ok(whole)
    }
}

impl Reading<'_> {
    /// What the policies in force make of a record that was judged before, if that is another judgement. `None` also for
    /// what was withdrawn, set aside, never judged, or decided by a person.
    pub fn judged_again(&mut self, intake: &Intake, record: &RecordRef, at: As) -> Result<Option<OutcomeLine>, LedgerError> {
        let Some(found) = self.named(record)? else { return Ok(None) };
        let again = self.judge_again(intake, &found, at);
        let judgement = |line: &OutcomeLine| match line {
            OutcomeLine::Judged { judgement, .. } => Some(judgement.clone()),
            _ => None,
        };
        Ok(again.filter(|now| judgement(now) != judgement(&found.outcome)))
    }

    /// What becomes of the indicators of a report that was renewed, or is so no more, and of itself, from batch `from` of its feed on, and
    /// the batch to go on with. Looks at `batches` of them. Of a batch in which anything changes every verdict is answered, because
    /// they stand in place of those of the renewal before.
    ///
    /// What a person let in stays let in; everything else is judged again by the policies in force.
    pub fn renewed(&mut self, intake: &Intake, report: &RecordRef, from: u64, batches: usize) -> Result<Renewal, LedgerError> {
        let (mut renewal, mut own) = (Renewal::default(), None);
        if from <= report.seq {
            let found = self.named(report)?;
            own = found
                .and_then(|found| Some((self.renewed_verdict(intake, &found)?, found.outcome.clone())))
                .map(|(line, was)| (report.index, line, was));
        }
        if self.ledger.naming(report)?.is_none_or(|(first, _)| first > report.seq) {
            renewal.verdicts.extend(own.take_if(|(_, line, was)| line != was).map(|(index, line, _)| (report.seq, index, line)));
        }
        let Some((first, last)) = self.ledger.naming(report)? else { return Ok(renewal) };
        let spans = self.ledger.feed(&report.feed).map(|state| state.spans).unwrap_or_default();
        let mut seqs = spans.iter().skip_while(|seq| *seq < first.max(from)).take_while(|seq| *seq <= last);
        for seq in seqs.by_ref().take(batches) {
            let Some(batch) = self.ledger.batch_number(&report.feed, seq)? else { continue };
            let Some(count) = self.batch(batch)?.map(|batch| batch.head.count) else { continue };
            let mut verdicts: Vec<(u16, OutcomeLine, OutcomeLine)> = Vec::new();
            if seq == report.seq {
                verdicts.extend(own.take());
            }
            for index in 0..count {
                let Some(found) = self.found(Place { batch, index })? else { continue };
                // An end of its own is not put off.
                let inherits = matches!(&found.record, Record::Indicator(Indicator { valid_until: None, .. }));
                if inherits && found.report.as_ref() == Some(report) {
                    verdicts.extend(self.renewed_verdict(intake, &found).map(|line| (index, line, found.outcome.clone())));
                }
            }
            if verdicts.iter().any(|(_, line, was)| line != was) {
                verdicts.sort_by_key(|(index, _, _)| *index);
                renewal.verdicts.extend(verdicts.into_iter().map(|(index, line, _)| (seq, index, line)));
            }
        }
        renewal.next = seqs.next();
        Ok(renewal)
    }

    /// The verdict on one of them now, which may be the one that it has.
    fn renewed_verdict(&self, intake: &Intake, found: &Found) -> Option<OutcomeLine> {
        let again = match &found.outcome {
            OutcomeLine::Judged { judgement, .. } if judgement.by_operator() => {
                let counts = found.withdrawn.is_none() && found.batch.aside.is_none();
                let ends = Matter::new(intake, &found.batch.head, self.now).ends(&found.record, &found.lent());
                counts.then(|| OutcomeLine::Judged { judgement: judgement.clone(), ends })
            }
            _ => self.judge_again(intake, found, As::Then),
        };
        again.or_else(|| matches!(found.outcome, OutcomeLine::Judged { .. }).then(|| found.outcome.clone()))
    }

    /// The verdict that the policies of `intake` make of a record that was judged before.
    pub fn judge_again(&self, intake: &Intake, found: &Found, at: As) -> Option<OutcomeLine> {
        // What a person decided about a record is not undone by a policy.
        let judged = matches!(&found.outcome, OutcomeLine::Judged { judgement, .. } if !judgement.by_operator());
        // An indicator that waited for its report is judged when that is here.
        let waited = found.outcome.waits_for().is_some_and(|report| crate::intake::Known::defaults(self.ledger, &report).is_some());
        if !(judged || waited) || found.withdrawn.is_some() || found.batch.aside.is_some() {
            return None;
        }
        let defaults = found.lent();
        let disputed = self.ledger.disputed_by(crate::intake::value_of(&found.record), &found.reference, found.batch.head.tlp, self.now);
        let at = match at {
            As::Now => self.now,
            As::Then => found.batch.entry.received,
        };
        let matter = Matter::new(intake, &found.batch.head, at);
        let (judgement, ends) = match &found.record {
            Record::Renewal(renewal) => {
                let (feed, seq) = (&found.reference.feed, found.reference.seq);
                let reports = renewal.targets.iter().filter_map(|target| target.resolve(feed, seq));
                let lent = reports.filter_map(|report| crate::intake::Known::defaults(self.ledger, &report)).collect::<Vec<_>>();
                matter.judge_renewal(&found.record, &lent, &disputed)
            }
            record => matter.judge(record, &defaults, &disputed),
        };
        Some(OutcomeLine::Judged { judgement: (*judgement).clone(), ends })
    }
}

/// What a renewal changes.
#[derive(Debug, Default)]
pub struct Renewal {
    /// By batch and place, rising.
    pub verdicts: Vec<(u64, u16, OutcomeLine)>,
    /// The batch to go on with, if there are more.
    pub next: Option<u64>,
}

/// As of when a record is judged again: its age and its end depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// For what waits.
    Now,
    /// When it came, for what was decided: that it is over by now is no change of mind.
    Then,
}

/// The record and its report, for one who looks at a withdrawal's targets.
pub fn value_behind(reading: &mut Reading<'_>, record: &RecordRef) -> Result<Option<Observable>, LedgerError> {
    Ok(reading.named(record)?.and_then(|found| crate::intake::value_of(&found.record).cloned()))
}
