//! Durations as they are written on the command line: `250ms`, `3s`, `5m`, `24h`, `30d`.
//!
//! One whole number and one unit, nothing between them and nothing around; what a setting's file may say more is not
//! known here.

use std::time::Duration;

/// Reads a duration; the error says in words what was expected.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("`{text}` is not a duration such as 250ms, 3s, 5m, 24h or 30d");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => return Err(expected()),
    };
    let length = millis.map(Duration::from_millis).filter(|length| *length <= LONGEST);
    length.ok_or_else(|| format!("`{text}` is too long"))
}

/// A thousand years: beyond it, points in time could not be told any more.
const LONGEST: Duration = Duration::from_secs(365_000 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("0s", 0),
            ("3s", 3_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        for text in [
            "",
            "3",
            "s",
            "3 s",
            " 3s",
            "1.5s",
            "-1s",
            "+1s",
            "3S",
            "3y",
            "99999999999999999999s",
            "3s5m",
            "٣s",
        ] {
            assert!(parse_duration(text).expect_err(text).contains("is not a duration"), "{text}");
        }
        for text in ["365001d", "18446744073709551615h", "18446744073709551615ms"] {
            assert!(parse_duration(text).expect_err(text).contains("too long"), "{text}");
        }
    }
}
