//! An instant as people and JSON see it: RFC 3339 in UTC with nanoseconds, never a rounded number.

use alloc::string::{String, ToString};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::WallNanos;

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// A wall-clock instant, shown as `2026-01-02T03:04:05.000000006Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub WallNanos);

/// A text that is not an instant in the one form used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no instant; write it as 2026-01-02T03:04:05.000000006Z")]
pub struct BadMoment(String);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.0 / NANOS;
        let (year, month, day) = civil(seconds / DAY);
        let clock = seconds % DAY;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
            clock / 3600,
            clock / 60 % 60,
            clock % 60,
            self.0.0 % NANOS
        )
    }
}

/// The Gregorian date `days` after 1970-01-01: years are counted from March, so that the leap day comes last
/// and every month's first day is a linear function of its number.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01; one cycle of the calendar is 400 years or 146,097 days.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (cycle * 400 + year + carry, month, date)
}

/// Days from 1970-01-01 to a date; the inverse of [`civil`] for dates that exist.
fn days(year: u64, month: u64, date: u64) -> Option<u64> {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let in_cycle = year % 400;
    let day = (153 * month + 2) / 5 + date.checked_sub(1)?;
    let days = year / 400 * 146_097 + 365 * in_cycle + in_cycle / 4 - in_cycle / 100 + day;
    days.checked_sub(719_468)
}

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        let read = || {
            let field = |range: core::ops::Range<usize>| {
                let digits = text.get(range)?;
                digits
                    .bytes()
                    .all(|b| b.is_ascii_digit())
                    .then_some(digits)?
                    .parse::<u64>()
                    .ok()
            };
            let seconds = days(field(0..4)?, field(5..7)?, field(8..10)?)?.checked_mul(DAY)?
                + field(11..13)? * 3600
                + field(14..16)? * 60
                + field(17..19)?;
            seconds.checked_mul(NANOS)?.checked_add(field(20..29)?)
        };
        // What is written back differently (a 31st of February, another separator) was not that form.
        read()
            .map(|ns| Self(WallNanos(ns)))
            .filter(|moment| moment.to_string() == text)
            .ok_or_else(|| BadMoment(text.chars().take(80).collect()))
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
