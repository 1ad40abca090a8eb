//! Quotas: how much of a member's content is taken in, by records and bytes.
//!
//! Counted in the author's time, by the dates of its signed heads, so that whoever catches up on a month is not held up by it,
//! and still nobody says more than its days allow. What is over is asked for again later: a flood is smoothed, nobody is blamed.
//!
//! ```text
//! records a day, bytes a day    by the day of the date, in whatever order batches come
//! a second, a burst             for what is dated within the last hour: a bucket that the dates fill
//! ```

use super::{Quota, Roster};
use crate::record::{DAY_MS, MemberId, Timestamp};
use std::collections::BTreeMap;

/// What is dated within this is smoothed; what is older has waited enough, and the day's count is left.
const LIVE_MS: u64 = DAY_MS / 24;
/// Days of a member that are remembered: more than a year of catch-up, 10 KB.
const DAYS_MAX: u32 = 400;
/// Who has been here for a day has caught up: what comes now under an older date than this counts as today's, so that years of
/// silence are no reserve for a flood. A week, since a partition may last that long.
const RESERVE_MS: u64 = 7 * DAY_MS;

/// What one member has used.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Thousandths of a record that were taken beyond what the rate allowed until `at`.
    debt: u64,
    at: Timestamp,
    /// Records and bytes by the day of their dates.
    days: BTreeMap<u32, (u64, u64)>,
}

impl Meter {
    /// Counts a batch of `records` and `bytes` dated `dated`, or says that it has to wait and counts nothing. `since` is when
    /// this node began to count.
    pub fn take(&mut self, quota: &Quota, records: u64, bytes: u64, dated: Timestamp, since: Timestamp, now: Timestamp) -> bool {
        let caught_up = now.ms_since(since) > DAY_MS;
        let first = if caught_up && now.ms_since(dated) > RESERVE_MS { now.day() } else { dated.day().min(now.day()) };
        let Some((day, used)) = self.room(quota, records, bytes, first.max(now.day().saturating_sub(DAYS_MAX)), now.day()) else {
            return false;
        };
        if now.ms_since(dated) <= LIVE_MS {
            // A record a second is a thousandth of one a millisecond.
            let paid = |from: Timestamp, to: Timestamp| to.ms_since(from).saturating_mul(quota.records_per_second);
            let (debt, at) = (self.debt.saturating_sub(paid(self.at, dated)), self.at.max(dated));
            let owed = debt.saturating_add(records.saturating_mul(1_000));
            // A batch larger than the burst passes when nothing is owed: it has to pass some time.
            if owed.saturating_sub(paid(at, now)) > quota.burst_records.max(records).saturating_mul(1_000) {
                return false;
            }
            (self.debt, self.at) = (owed, at);
        }
        self.days.insert(day, used);
        while self.days.len() > DAYS_MAX as usize {
            self.days.pop_first();
        }
        true
    }

    /// The earliest moment at which [`Self::take`] may count such a batch, after it has refused it at `now`.
    pub fn ready(&self, quota: &Quota, records: u64, bytes: u64, dated: Timestamp, now: Timestamp) -> Timestamp {
        let tomorrow = Timestamp::from_ms((u64::from(now.day()) + 1) * DAY_MS).unwrap_or(now);
        if self.room(quota, records, bytes, dated.day().min(now.day()), now.day()).is_none() {
            return tomorrow;
        }
        let paid = dated.ms_since(self.at).saturating_mul(quota.records_per_second);
        let owed = self.debt.saturating_sub(paid).saturating_add(records.saturating_mul(1_000));
        let over = owed.saturating_sub(quota.burst_records.max(records).saturating_mul(1_000));
        // An hour after its date a batch is counted by the day alone.
        let smoothed = self.at.max(dated).plus_ms(over.div_ceil(quota.records_per_second.max(1)));
        smoothed.min(dated.plus_ms(LIVE_MS + 1)).max(now.plus_ms(1)).min(tomorrow)
    }

    /// The first day from `first` to `last` that has room for it, and what it has used with it. A day that has used nothing has
    /// room for any batch: it has to pass some time.
    fn room(&self, quota: &Quota, records: u64, bytes: u64, first: u32, last: u32) -> Option<(u32, (u64, u64))> {
        (first..=last).find_map(|day| {
            let Some((used_records, used_bytes)) = self.days.get(&day) else { return Some((day, (records, bytes))) };
            let used = (used_records.saturating_add(records), used_bytes.saturating_add(bytes));
            (used.0 <= quota.records_per_day && used.1 <= quota.bytes_per_day).then_some((day, used))
        })
    }
}

impl Quota {
    /// What a member held to its quota may publish where neither charter nor agreement says otherwise: some lists a day by hand.
    pub const COMMON: Self =
        Self { records_per_second: 10, burst_records: 1_000, records_per_day: 50_000, bytes_per_day: 256 * 1024 * 1024 };

    /// As many times [`Self::COMMON`] as gives `records` a day, and no less of anything.
    pub fn of_day(records: u64) -> Self {
        let common = Self::COMMON;
        let share = |of: u64| {
            let scaled = u128::from(of) * u128::from(records) / u128::from(common.records_per_day);
            u64::try_from(scaled).unwrap_or(u64::MAX).max(of)
        };
        Self {
            records_per_second: share(common.records_per_second),
            burst_records: share(common.burst_records),
            records_per_day: records.max(common.records_per_day),
            bytes_per_day: share(common.bytes_per_day),
        }
    }

    /// How long it takes others to take in so many records of now, in milliseconds: 0 within the burst. What is over the day's
    /// count comes with the next days.
    pub fn ms_to_take(&self, records: u64) -> u64 {
        let smoothed = records.saturating_sub(self.burst_records).saturating_mul(1_000) / self.records_per_second.max(1);
        // After an hour the bucket no longer holds up what is within the day.
        let days = records.saturating_sub(1) / self.records_per_day.max(1);
        smoothed.min(LIVE_MS).saturating_add(days.saturating_mul(DAY_MS))
    }
}

impl Roster {
    /// The quota of this member: that of an agreement that runs, that of its own entry, or what the charter sets for all.
    pub fn quota<'a>(&'a self, member: &'a MemberId, now: Timestamp) -> &'a Quota {
        let of_agreement = self.agreements(member, now).filter_map(|one| one.quota.as_ref()).max_by_key(|quota| quota.records_per_day);
        of_agreement.or_else(|| self.member(member)?.quota.as_ref()).unwrap_or(&self.charter().charter().quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { records_per_second: 10, burst_records: 100, records_per_day: 500, bytes_per_day: 10_000 };
    const MINUTE: u64 = 60_000;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_760_000_000_000 + ms).unwrap()
    }

    /// As `take`, at a node that began to count at 0.
    fn take(meter: &mut Meter, records: u64, bytes: u64, dated: u64, now: u64) -> bool {
        meter.take(&QUOTA, records, bytes, at(dated), at(0), at(now))
    }

    #[test]
    fn g_22_a_member_is_held_to_its_quota_and_what_is_over_comes_later() {
        let mut meter = Meter::default();
        assert!(take(&mut meter, 100, 10, 0, 0), "a burst");
        assert!(!take(&mut meter, 50, 10, 0, 1_000), "ten a second");
        assert!(take(&mut meter, 50, 10, 0, 5_000));
        assert!(!take(&mut meter, 10, 9_990, MINUTE, MINUTE), "bytes of the day");
        for minute in 2..5 {
            assert!(take(&mut meter, 100, 10, minute * MINUTE, minute * MINUTE));
        }
        assert!(!take(&mut meter, 100, 10, 10 * MINUTE, 10 * MINUTE), "450 of 500 a day");
        assert!(take(&mut meter, 100, 10, 10 * MINUTE, DAY_MS), "it comes the next day");
        assert!(!take(&mut meter, 450, 10, DAY_MS, DAY_MS + 3 * 60 * MINUTE), "and counts there");
    }

    #[test]
    fn g_22_who_catches_up_on_a_month_within_quota_is_held_up_by_nothing() {
        let mut meter = Meter::default();
        // Two feeds, one after the other, 200 records a day each; it is the thirtieth day.
        for _feed in 0..2 {
            for day in 0..30 {
                let taken = meter.take(&QUOTA, 200, 10, at(day * DAY_MS), at(30 * DAY_MS), at(30 * DAY_MS));
                assert!(taken, "day {day}");
            }
        }
        let more = (0..30).filter(|day| meter.take(&QUOTA, 500, 10, at(day * DAY_MS), at(30 * DAY_MS), at(30 * DAY_MS)));
        assert_eq!(more.count(), 1, "but no day says more than a day's; today has room");
    }

    #[test]
    fn g_22_what_was_published_within_the_last_hour_at_the_rate_comes_at_once_to_a_newcomer() {
        let mut meter = Meter::default();
        let quota = Quota { records_per_day: 50_000, ..QUOTA };
        for minute in 0..60 {
            assert!(meter.take(&quota, 600, 10, at(minute * MINUTE), at(0), at(60 * MINUTE)), "minute {minute}");
        }
        assert!(meter.take(&quota, 600, 10, at(60 * MINUTE), at(0), at(60 * MINUTE)));
        assert!(!meter.take(&quota, 600, 10, at(60 * MINUTE), at(0), at(60 * MINUTE)), "the burst of now is used");
    }

    #[test]
    fn g_22_old_dates_are_no_reserve_for_a_flood_of_today() {
        let mut meter = Meter::default();
        let now = 100 * DAY_MS;
        let taken = (0..90).filter(|day| take(&mut meter, 500, 10, day * DAY_MS, now)).count();
        assert_eq!(taken, 1, "all of them count as today's");
        assert!(take(&mut meter, 500, 10, 95 * DAY_MS, now), "a partition of a week is caught up on");
    }

    #[test]
    fn g_22_a_partner_with_the_headline_quota_is_not_held() {
        let quota = Quota::of_day(19_700_000_000);
        let mut meter = Meter::default();
        // A minute at 228,000 a second, by batches of 256 records and 30 KB.
        for batch in 0..60 * 228_000 / 256 {
            let dated = at(batch * 256 / 228);
            assert!(meter.take(&quota, 256, 30_000, dated, at(0), dated));
        }
        assert_eq!(Quota::of_day(1), Quota::COMMON);
    }

    #[test]
    fn a_publisher_can_be_told_how_long_others_take() {
        assert_eq!(QUOTA.ms_to_take(100), 0);
        assert_eq!(QUOTA.ms_to_take(200), 10_000);
        assert_eq!(QUOTA.ms_to_take(1_001), 90_100 + 2 * DAY_MS);
    }
}
