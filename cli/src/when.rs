//! Times as people type them. All of them end as one instant in UTC, which the answer echoes.

use common::{answer::Moment, ids::WallNanos};
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use crate::Failure;

/// The instant that `text` names: RFC 3339, a date or a date and time (UTC), `now`, or `5m ago`.
pub(crate) fn instant(text: &str, now: Timestamp) -> Result<Moment, Failure> {
    let bad = || Failure::Usage {
        cause: format!("`{}` is no time", text.chars().take(80).collect::<String>()),
        remedy: "write 2026-01-02T03:04:05.678Z, a date (midnight UTC), `now`, or `5m ago`".into(),
    };
    let found = parse(text.trim(), now).ok_or_else(bad)?;
    let ns = u64::try_from(found.as_nanosecond()).map_err(|_| bad())?;
    Ok(Moment(WallNanos(ns)))
}

fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text == "now" {
        return Some(now);
    }
    if let Some(span) = text.strip_suffix("ago") {
        let span: SignedDuration = span.trim().parse().ok()?;
        return now.checked_sub(span.abs()).ok();
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    let civil: civil::DateTime = text.parse().ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &str) {
        let now = "2026-01-02T03:04:05.5Z".parse().unwrap();
        assert_eq!(instant(text, now).unwrap().to_string(), expected, "{text}");
    }

    #[test]
    fn every_way_to_write_a_time() {
        check("now", "2026-01-02T03:04:05.500000000Z");
        check("5m ago", "2026-01-02T02:59:05.500000000Z");
        check("1h30m ago", "2026-01-02T01:34:05.500000000Z");
        check("2 hours ago", "2026-01-02T01:04:05.500000000Z");
        check("2026-01-01", "2026-01-01T00:00:00.000000000Z");
        check("2026-01-01 12:30:00", "2026-01-01T12:30:00.000000000Z");
        check(
            "2026-01-02T05:04:05.000000006+02:00",
            "2026-01-02T03:04:05.000000006Z",
        );
        let now = Timestamp::UNIX_EPOCH;
        for bad in ["", "ago", "yesterday", "5m", "1969-01-01", "2026-13-01"] {
            assert_eq!(instant(bad, now).unwrap_err().exit(), crate::Exit::Usage, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn prop_garbage_never_panics(text: String) {
            let _ = instant(&text, Timestamp::UNIX_EPOCH);
        }
    }
}
