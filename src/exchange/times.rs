//! Times as others write them. An end is never later than its author said.
//!
//! | Written | Read as |
//! |---|---|
//! | `2027-12-31T23:59:59Z`, with an offset, with ` UTC` | that moment |
//! | `2027-12-31T23:59:59`, `2027-12-31 23:59:59` | that moment in UTC |
//! | `2027-12-31` | the day's first moment in UTC |
//! | `31/12/2027`, `31.12.2027` | that day; where day and month may be either, the earlier one |
//! | `1798761600`, `1798761600000` | seconds, or milliseconds, since 1970 |
//! | `9999-…`, `never`, `unlimited`, `permanent` | never: as long as is allowed here |
//! | years before 1970 | 1970: over |
//! | `none`, `null`, `n/a`, `-` | nothing said |

use crate::record::Timestamp;
use jiff::{civil, tz::TimeZone};

/// When something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    At(Timestamp),
    Never,
    /// No end is stated.
    Unsaid,
}

/// The end that a text says; `None` if it cannot be read, and then nothing is certain.
pub fn end_of(text: &str) -> Option<End> {
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "" | "none" | "null" | "n/a" | "na" | "-" | "nan" => return Some(End::Unsaid),
        "never" | "unlimited" | "permanent" | "forever" | "infinite" | "no expiration" => return Some(End::Never),
        _ => (),
    }
    let (moment, year) = read(text)?;
    Some(if year >= 9_999 { End::Never } else { End::At(moment) })
}

/// The moment that a text says.
pub fn moment_of(text: &str) -> Option<Timestamp> {
    read(text.trim()).map(|(moment, _)| moment)
}

/// The moment, cut to what a record can hold, and its year.
fn read(text: &str) -> Option<(Timestamp, i16)> {
    if (9..=13).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        let ms = if text.len() > 11 { number } else { number * 1_000 };
        return Some(cut(jiff::Timestamp::from_millisecond(ms).ok()?));
    }
    // The calendar of moments ends some hours before the year does.
    if text.starts_with("9999-") && text.get(..10)?.parse::<civil::Date>().is_ok() {
        return Some((Timestamp::END, 9_999));
    }
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(cut(moment));
    }
    let utc = |text: &str| text.strip_suffix("UTC").or_else(|| text.strip_suffix("GMT")).map(|text| text.trim_end().to_owned());
    let plain = utc(text).unwrap_or_else(|| text.to_owned());
    if let Ok(time) = plain.parse::<civil::DateTime>() {
        return time.to_zoned(TimeZone::UTC).ok().map(|zoned| cut(zoned.timestamp()));
    }
    day(&plain).and_then(|day| day.to_zoned(TimeZone::UTC).ok()).map(|zoned| cut(zoned.timestamp()))
}

/// A day written with its year last. The earlier one, where it may be two.
fn day(text: &str) -> Option<civil::Date> {
    let sign = text.chars().find(|char| matches!(char, '/' | '.'))?;
    let numbers: Vec<i16> = text.split(sign).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let of = |year: i16, month: i16, day: i16| civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok();
    match *numbers.as_slice() {
        [year, month, day] if year > 999 => of(year, month, day),
        [first, second, year] if year > 999 => match (of(year, second, first), of(year, first, second)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        },
        _ => None,
    }
}

fn cut(moment: jiff::Timestamp) -> (Timestamp, i16) {
    let year = moment.to_zoned(TimeZone::UTC).year();
    let ms = u64::try_from(moment.as_millisecond()).unwrap_or(0);
    (Timestamp::from_ms(ms).unwrap_or(Timestamp::END), year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_written_or_earlier_and_never_later() {
        let at = |text: &str| Some(End::At(Timestamp::parse(text).unwrap()));
        for (text, expected) in [
            ("2027-12-31T23:59:59Z", at("2027-12-31T23:59:59Z")),
            ("2027-12-31 23:59:59", at("2027-12-31T23:59:59Z")),
            ("2027-12-31T23:59:59", at("2027-12-31T23:59:59Z")),
            ("2027-12-31 23:59:59 UTC", at("2027-12-31T23:59:59Z")),
            ("2027-12-31T23:59:59+02:00", at("2027-12-31T21:59:59Z")),
            ("2026-01-01 00:00:00+00:00", at("2026-01-01T00:00:00Z")),
            ("2027-12-31", at("2027-12-31")),
            ("31/12/2027", at("2027-12-31")),
            ("12/31/2027", at("2027-12-31")),
            ("05/06/2027", at("2027-05-06")),
            ("06.05.2027", at("2027-05-06")),
            ("1830297599", at("2027-12-31T23:59:59Z")),
            ("1830297599000", at("2027-12-31T23:59:59Z")),
            ("2027-12-31T23:59:60Z", at("2027-12-31T23:59:59Z")),
            ("0001-01-01T00:00:00Z", Some(End::At(Timestamp::START))),
            ("1969-12-31T23:59:59Z", Some(End::At(Timestamp::START))),
            ("9999-12-31", Some(End::Never)),
            ("9999-12-31T23:59:59Z", Some(End::Never)),
            ("9999-12-30T00:00:00Z", Some(End::Never)),
            ("never", Some(End::Never)),
            ("", Some(End::Unsaid)),
            ("None", Some(End::Unsaid)),
            ("soon", None),
            ("2027-13-01", None),
            ("32/12/2027", None),
        ] {
            assert_eq!(end_of(text), expected, "{text}");
        }
    }
}
