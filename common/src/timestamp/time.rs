//! `GeneralizedTime` as DER has it: `YYYYMMDDhhmmss[.fraction]Z`.

use alloc::format;

use crate::{answer::Moment, ids::WallNanos};

/// The instant; `None` for text that is no time, or one before 1970 or beyond what nanoseconds can count (2554).
pub(super) fn generalized(text: &[u8]) -> Option<WallNanos> {
    let text = core::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    // A fraction has digits and does not end in zero.
    if text.contains('.') && fraction.ends_with('0')
        || fraction.is_empty()
        || !digits(whole)
        || !digits(fraction)
    {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to);
    let (date, time) = (
        (part(0, 4)?, part(4, 6)?, part(6, 8)?),
        (part(8, 10)?, part(10, 12)?, part(12, 14)?),
    );
    // Finer digits than nanoseconds are cut off.
    let nanos = format!("{fraction:0<9}");
    let moment = format!(
        "{}-{}-{}T{}:{}:{}.{}Z",
        date.0,
        date.1,
        date.2,
        time.0,
        time.1,
        time.2,
        nanos.get(..9)?
    );
    let moment: Moment = moment.parse().ok().filter(|_| whole.len() == 14)?;
    Some(moment.0)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_of_the_calendar() {
        let check = |text: &str, seconds: u64| {
            let found = generalized(text.as_bytes()).map(|at| at.0);
            assert_eq!(found, Some(seconds * 1_000_000_000), "{text}");
        };
        check("19700101000000Z", 0);
        check("20000229120000Z", 951_825_600);
        check("20240101000000Z", 1_704_067_200);
        check("20991231235959Z", 4_102_444_799);
        check("21000301000000Z", 4_107_542_400);
        assert_eq!(generalized(b"19700101000000.25Z"), Some(WallNanos(250_000_000)));
        assert_eq!(
            generalized(b"19700101000000.1234567891Z"),
            Some(WallNanos(123_456_789))
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "Z",
            "20240101000000",
            "2024010100000Z",
            "20240101000000.Z",
            "20240101000000.10Z",
            "20240101000000+0100",
            "20240001000000Z",
            "20241301000000Z",
            "20230229000000Z",
            "21000229000000Z",
            "20240101240000Z",
            "20240101006000Z",
            "2024010100006aZ",
            "19691231235959Z",
            "29990101000000Z",
        ] {
            assert_eq!(generalized(bad.as_bytes()), None, "{bad}");
        }
    }
}
