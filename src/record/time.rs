//! Time as it travels: whole milliseconds since 1970 UTC, never negative, never past the year 9999.

use std::fmt;

/// One second, in the unit of [`Timestamp`].
pub const SECOND_MS: u64 = 1_000;
/// One minute, in the unit of [`Timestamp`].
pub const MINUTE_MS: u64 = 60 * SECOND_MS;
/// One hour, in the unit of [`Timestamp`].
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
/// One day, in the unit of [`Timestamp`].
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// Last millisecond of the year 9999: later values are typing errors or attacks, and calendars stop there too.
const TIMESTAMP_MS_MAX: u64 = 253_402_207_200_000;

/// A moment: milliseconds since 1970-01-01T00:00:00Z, at most in the year 9999. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
pub struct Timestamp(#[schemars(range(max = 253_402_207_200_000_u64))] u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const START: Self = Self(0);

    /// The last moment that there is.
    pub const END: Self = Self(TIMESTAMP_MS_MAX);

    /// The moment `ms` milliseconds after 1970; `None` past the year 9999.
    pub fn from_ms(ms: u64) -> Option<Self> {
        (ms <= TIMESTAMP_MS_MAX).then_some(Self(ms))
    }

    /// Milliseconds since 1970.
    pub fn ms(self) -> u64 {
        self.0
    }

    /// This moment and `ms` later, or the last one there is.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms).min(TIMESTAMP_MS_MAX))
    }

    /// This moment and `ms` earlier, or 1970.
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 when it is not earlier.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole days since 1970, for keys that need no finer grain.
    pub fn day(self) -> u32 {
        u32::try_from(self.0 / DAY_MS).unwrap_or(u32::MAX)
    }

    fn civil(self) -> jiff::Timestamp {
        i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
    }

    /// Reads `2026-11-22`, `2026-11-22T10:00:00Z` or an offset form; a bare day is its first moment in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let day = text.parse::<jiff::civil::Date>().ok()?;
            day.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
        })?;
        u64::try_from(moment.as_millisecond()).ok().and_then(Self::from_ms)
    }
}

impl Timestamp {
    /// RFC 3339 in UTC, to the millisecond: the same moment again when it is parsed.
    pub fn precise(self) -> String {
        self.civil().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }
}

/// RFC 3339 in UTC with the zone printed, to the second.
impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.civil().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ms = <u64 as serde::Deserialize>::deserialize(deserializer)?;
        Self::from_ms(ms).ok_or_else(|| serde::de::Error::custom("a time past the year 9999"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_10_times_at_the_edges_of_the_integer_are_refused_without_overflow() {
        for ms in [TIMESTAMP_MS_MAX + 1, i64::MAX as u64, 1 << 63, u64::MAX] {
            assert_eq!(Timestamp::from_ms(ms), None);
        }
        let last = Timestamp::from_ms(TIMESTAMP_MS_MAX).unwrap();
        assert_eq!(last.plus_ms(u64::MAX), last);
        assert!(last.to_string().starts_with("9999-12-30"), "{last}");
    }

    #[test]
    fn a_day_and_a_moment_are_read_and_printed_in_utc() {
        assert_eq!(Timestamp::parse("2026-11-22").unwrap().to_string(), "2026-11-22T00:00:00Z");
        assert_eq!(Timestamp::parse("2026-11-22T01:00:00+01:00").unwrap().to_string(), "2026-11-22T00:00:00Z");
        assert_eq!(Timestamp::parse("yesterday"), None);
        let moment = Timestamp::from_ms(1_795_000_000_007).unwrap();
        assert_eq!((moment.precise().as_str(), Timestamp::parse(&moment.precise())), ("2026-11-18T11:06:40.007Z", Some(moment)));
    }
}
