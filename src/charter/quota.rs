//! Quotas: how much of a member's content is taken in, by records and bytes.
//!
//! A token bucket for the second and the burst, a count for the day. What is over is asked for again later, so a flood is
//! smoothed and nobody is blamed. What is older than a day is catch-up, and not counted.

use super::{Quota, Roster};
use crate::record::{DAY_MS, MemberId, Timestamp};

/// Content older than this is caught up on, not published now.
const LIVE_MS: u64 = DAY_MS;

/// What one member has used.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Thousandths of a record that may still come at once.
    bucket: u64,
    at: Timestamp,
    day: u32,
    records: u64,
    bytes: u64,
}

impl Meter {
    /// Counts a batch of `records` and `bytes` dated `dated`, or says that it has to wait and counts nothing.
    pub fn take(&mut self, quota: &Quota, records: u64, bytes: u64, dated: Timestamp, now: Timestamp) -> bool {
        if now.ms_since(dated) > LIVE_MS {
            return true;
        }
        let full = quota.burst_records.max(records).saturating_mul(1_000);
        let fresh = self.at == Timestamp::default();
        // A record a second is a thousandth of one a millisecond.
        let refill = now.ms_since(self.at).saturating_mul(quota.records_per_second);
        let bucket = if fresh { full } else { self.bucket.saturating_add(refill).min(full) };
        let (used_records, used_bytes) = if self.day == now.day() { (self.records, self.bytes) } else { (0, 0) };
        let need = records.saturating_mul(1_000);
        let over = used_records + records > quota.records_per_day || used_bytes + bytes > quota.bytes_per_day;
        if need > bucket || over {
            (self.bucket, self.at) = (bucket, now);
            return false;
        }
        *self = Self { bucket: bucket - need, at: now, day: now.day(), records: used_records + records, bytes: used_bytes + bytes };
        true
    }
}

impl Roster {
    /// The quota that the charter sets for this member in particular: by its own entry, or by an agreement that runs.
    pub fn quota<'a>(&'a self, member: &'a MemberId, now: Timestamp) -> Option<&'a Quota> {
        let of_agreement = self.agreements(member, now).filter_map(|one| one.quota.as_ref()).max_by_key(|quota| quota.records_per_day);
        of_agreement.or_else(|| self.member(member)?.quota.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { records_per_second: 10, burst_records: 100, records_per_day: 500, bytes_per_day: 10_000 };

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_760_000_000_000 + ms).unwrap()
    }

    #[test]
    fn g_22_a_member_is_held_to_its_quota_and_what_is_over_comes_later() {
        let mut meter = Meter::default();
        assert!(meter.take(&QUOTA, 100, 10, at(0), at(0)), "a burst");
        assert!(!meter.take(&QUOTA, 50, 10, at(0), at(1_000)), "ten a second");
        assert!(meter.take(&QUOTA, 50, 10, at(0), at(5_000)));
        assert!(!meter.take(&QUOTA, 10, 9_990, at(60_000), at(60_000)), "bytes of the day");
        for minute in 2..5 {
            assert!(meter.take(&QUOTA, 100, 10, at(minute * 60_000), at(minute * 60_000)));
        }
        assert!(!meter.take(&QUOTA, 100, 10, at(600_000), at(600_000)), "450 of 500 a day");
        assert!(meter.take(&QUOTA, 100, 10, at(DAY_MS), at(DAY_MS)), "the next day");
        assert!(meter.take(&QUOTA, 10_000, 10, at(0), at(2 * DAY_MS)), "what is caught up on is not counted");
    }
}
