//! Agreements over their life: coming, running, warned of, in run-off, to be purged.
//!
//! Everything follows from the charter and the time; nothing has to be switched. Ended is not revoked: removals, disputes
//! and documents go on passing, and an extension resumes where it stopped.

use super::{AfterEnd, Agreement, Member, MemberKind, Roster, Standing};
use crate::record::{DAY_MS, MemberId, Timestamp};

/// Days before the end at which people are warned.
pub const WARN_DAYS: [u64; 4] = [120, 60, 30, 7];

/// Where an agreement is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It begins later.
    Coming,
    Running {
        days_left: u64,
        /// The narrowest of [`WARN_DAYS`] that has been passed.
        warned: Option<u64>,
    },
    /// It is over, and another one of the same member runs.
    Continued,
    /// It is over: no new content in or out, removals still pass.
    RunOff,
    /// It was ended before its time.
    Revoked,
}

/// One agreement, as it stands.
#[derive(Clone, Debug)]
pub struct AgreementLine<'a> {
    pub agreement: &'a Agreement,
    pub stage: Stage,
    /// From when purged records are rewritten out, if they are to be purged.
    pub erase_from: Option<Timestamp>,
}

impl Agreement {
    /// When it ends or ended: at its term, or when it was revoked.
    pub fn end(&self) -> Timestamp {
        self.revoked.map_or(self.until, |revoked| revoked.min(self.until))
    }

    /// From when what was shared under it is rewritten out; `None` where it is kept.
    pub fn erase_from(&self) -> Option<Timestamp> {
        let days = self.purge_after_days.filter(|_| self.after_end == AfterEnd::Purge)?;
        Some(self.end().plus_ms(days.saturating_mul(DAY_MS)))
    }
}

impl Roster {
    /// Every agreement of the charter, as it stands at `now`.
    pub fn agreement_lines(&self, now: Timestamp) -> Vec<AgreementLine<'_>> {
        let stage = |one: &Agreement| {
            if now < one.from {
                return Stage::Coming;
            }
            if now < one.end() {
                let days_left = one.end().ms_since(now) / DAY_MS;
                // Once the member has a later one, nobody need be warned of this end.
                let follows = |other: &&Agreement| other.member == one.member && other.from <= one.end() && other.end() > one.end();
                let followed = self.charter().charter().agreements.iter().any(|other| follows(&other));
                let warned = WARN_DAYS.into_iter().rev().find(|days| days_left < *days).filter(|_| !followed);
                return Stage::Running { days_left, warned };
            }
            if self.standing(&one.member, now) == Standing::Good {
                Stage::Continued
            } else if one.revoked.is_some_and(|revoked| revoked < one.until) {
                Stage::Revoked
            } else {
                Stage::RunOff
            }
        };
        let line = |one| AgreementLine { agreement: one, stage: stage(one), erase_from: one.erase_from() };
        self.charter().charter().agreements.iter().map(line).collect()
    }

    /// The ended agreement that says that what `author` published is to be purged at `here`: the author's own, or, where we
    /// are the partner whose agreement ended, ours.
    pub fn to_purge(&self, author: &MemberId, here: &MemberId, now: Timestamp) -> Option<&Agreement> {
        if author == here {
            return None;
        }
        [author, here].into_iter().find_map(|id| {
            let partner = |member: &&Member| matches!(member.kind, MemberKind::Vendor | MemberKind::Observer);
            self.member(id).filter(partner)?;
            if self.agreements(id, now).next().is_some() {
                return None;
            }
            let over = |one: &&Agreement| one.member == *id && one.from <= now && one.end() <= now;
            let last = self.charter().charter().agreements.iter().filter(over).max_by_key(|one| one.end());
            last.filter(|one| one.after_end == AfterEnd::Purge)
        })
    }
}
