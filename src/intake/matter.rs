//! Matter: what policies are told of a record, at the door and at every later look.

use super::{Defaults, Intake};
use crate::{
    charter::{Freshness, Standing},
    envelope::Head,
    policy::{CONFIDENCE_UNSAID, Case, Judgement, Listed, Party, Verdict},
    record::{DAY_MS, HOUR_MS, Kind, MemberId, Observable, Record, Role, Sighted, Timestamp, Use},
    timekeeping::Now,
};
use std::{collections::BTreeSet, sync::Arc};

/// What policies are told of every record of one batch, as of a moment.
pub struct Matter<'a> {
    pub(super) intake: &'a Intake,
    pub(super) head: &'a Head,
    audience: String,
    standing: Standing,
    stale: bool,
    doubted: bool,
    pub(super) now: Timestamp,
}

/// What a record says by itself and by its report.
struct Said<'a> {
    value: Option<&'a Observable>,
    role: Option<Role>,
    usage: Option<Use>,
    confidence: Option<u8>,
    until: Option<Timestamp>,
    tags: &'a [String],
}

/// What a record speaks about, if it is a value.
pub fn value_of(record: &Record) -> Option<&Observable> {
    said(record, &Defaults::default()).value
}

fn said<'a>(record: &'a Record, defaults: &Defaults) -> Said<'a> {
    let nothing = Said { value: None, role: None, usage: None, confidence: None, until: None, tags: &[] };
    match record {
        Record::Indicator(one) => Said {
            value: Some(&one.value),
            role: one.role.or(defaults.role),
            usage: one.usage.or(defaults.usage),
            confidence: one.confidence.or(defaults.confidence),
            until: one.valid_until.or(defaults.valid_until),
            tags: &one.tags,
        },
        // A renewal is judged as the report that it renews, and by its own end.
        Record::Renewal(one) => {
            Said { role: defaults.role, usage: defaults.usage, confidence: defaults.confidence, until: Some(one.valid_until), ..nothing }
        }
        Record::Report(_) => {
            Said { role: defaults.role, usage: defaults.usage, confidence: defaults.confidence, until: defaults.valid_until, ..nothing }
        }
        Record::Sighting(one) => match &one.of {
            Sighted::Value(value) => Said { value: Some(value), until: one.until, ..nothing },
            Sighted::Records(_) => Said { until: one.until, ..nothing },
        },
        Record::Question(one) => Said { value: one.value.as_ref(), until: one.until, ..nothing },
        Record::Withdrawal(_) | Record::Document(_) => nothing,
    }
}

impl<'a> Matter<'a> {
    /// The records under `head`, as `intake` sees them at `now`.
    pub fn new(intake: &'a Intake, head: &'a Head, now: impl Into<Now>) -> Self {
        let Now { best: now, latest, doubted, .. } = now.into();
        let standing = intake.roster.standing(&head.member, latest);
        let stale = matches!(intake.roster.freshness(latest), Freshness::Stale { .. });
        Self { intake, head, audience: head.audience.name(), standing, stale, doubted, now }
    }

    /// When a record ends here: at its own end, its report's, or our limit, whichever is first.
    pub fn ends(&self, record: &Record, defaults: &Defaults) -> Timestamp {
        // Our own limit counts from when its author last stood by it.
        let said_at = defaults.renewed.map_or(self.head.time, |renewed| renewed.max(self.head.time));
        let life_ends = said_at.plus_ms(u64::from(self.intake.limits.life_days_max) * DAY_MS);
        said(record, defaults).until.unwrap_or(life_ends).min(life_ends)
    }

    /// Tells `ask` what a policy may know of a record; `None` if its author is no member any more.
    pub fn case<T>(
        &self,
        record: &Record,
        defaults: &Defaults,
        ends: Timestamp,
        disputed_by: &BTreeSet<MemberId>,
        origins: u32,
        ask: impl FnOnce(&Case<'_>) -> T,
    ) -> Option<T> {
        let origin = self.intake.roster.member(&self.head.member)?;
        let said = said(record, defaults);
        let listed = said.value.map_or_else(|| Listed::nowhere(&self.intake.lists), |value| self.intake.lists.of(value));
        let age_hours = u32::try_from(self.now.ms_since(self.head.time) / HOUR_MS).unwrap_or(u32::MAX);
        let country = origin.country.as_deref();
        Some(ask(&Case {
            origin: Party { id: &origin.id, kind: origin.kind, country, standing: self.standing.name() },
            channel: self.head.channel.as_str(),
            kind: record.kind(),
            value_type: said.value.map(Observable::kind),
            role: said.role.unwrap_or(Role::Unknown),
            usage: said.usage.unwrap_or(Use::Context),
            tlp: self.head.tlp,
            audience: &self.audience,
            confidence: said.confidence.unwrap_or(CONFIDENCE_UNSAID),
            tags: [said.tags, &defaults.tags],
            age_hours,
            expired: ends <= self.now,
            listed: &listed,
            disputed_by,
            origins,
        }))
    }

    /// The verdict on a renewal of reports that lend all these: what the kindest verdict on any of them is. Under the others everything
    /// is judged by itself, so none of it is let in by this.
    pub fn judge_renewal(&self, record: &Record, lent: &[Arc<Defaults>], disputed_by: &BTreeSet<MemberId>) -> (Arc<Judgement>, Timestamp) {
        let kindness = |judgement: &Judgement| match judgement.verdict {
            Verdict::Accept => 0,
            Verdict::Hold => 1,
            Verdict::Refuse => 2,
        };
        let judged = lent.iter().map(|defaults| self.judge(record, defaults, disputed_by));
        judged.min_by_key(|(judgement, _)| kindness(judgement)).unwrap_or_else(|| self.judge(record, &Defaults::default(), disputed_by))
    }

    /// The verdict on what would be accepted while the clock is doubted.
    pub fn unsure_time() -> Judgement {
        Judgement::by_rule(Verdict::Hold, "unsure-time", "the clock of this node is not believed, so what is new waits")
    }

    /// The verdict on a record, and when it ends here.
    pub fn judge(&self, record: &Record, defaults: &Defaults, disputed_by: &BTreeSet<MemberId>) -> (Arc<Judgement>, Timestamp) {
        if record.kind() == Kind::Withdrawal {
            // Removals always work: no policy, no staleness, no end.
            let judgement = Judgement::by_rule(Verdict::Accept, "removal", "its author takes back what is its own");
            return (Arc::new(judgement), self.ends(record, &Defaults::default()));
        }
        let ends = self.ends(record, defaults);
        let judged = self.case(record, defaults, ends, disputed_by, 0, |case| self.intake.policy.judge(case));
        let Some(judgement) = judged else {
            return (Arc::new(Judgement::by_rule(Verdict::Refuse, "stranger", "its author is no member any more")), ends);
        };
        if self.stale && judgement.verdict == Verdict::Accept {
            let text = "our charter is not known to be current, so what is new waits";
            return (Arc::new(Judgement::by_rule(Verdict::Hold, "stale-charter", text)), ends);
        }
        if self.doubted && judgement.verdict == Verdict::Accept {
            return (Arc::new(Self::unsure_time()), ends);
        }
        let said_at = defaults.renewed.map_or(self.now, |renewed| renewed.max(self.now));
        let clipped = judgement.expires_in_days.map(|days| said_at.plus_ms(u64::from(days) * DAY_MS));
        (judgement, clipped.map_or(ends, |clip| clip.min(ends)))
    }
}
