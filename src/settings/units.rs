//! Durations, sizes and permission bits as text, both ways.
//!
//! Pure. It promises that what is rendered reads back as the same value, and that no text overflows.

use std::time::Duration;

use crate::lookup::FOREVER;

const DURATIONS: [(&str, u64); 5] =
    [("d", 24 * 3600 * 1000), ("h", 3600 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// How durations are written, for messages.
pub(super) const DURATION_FORM: &str = r#""250ms", "3s", "5m", "24h" or "30d""#;
/// How sizes are written, for messages.
pub(super) const SIZE_FORM: &str = r#""512B", "64KiB", "16MiB" or "4GiB""#;

/// Reads a duration in milliseconds or more; `None` where it is none, or longer than [`FOREVER`].
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATIONS).map(Duration::from_millis).filter(|duration| *duration <= FOREVER)
}

/// Writes a duration in the largest unit that holds it exactly. Below a millisecond it is cut off.
pub(super) fn render_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 { "0s".to_owned() } else { render(millis, &DURATIONS) }
}

/// Reads a size in bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// Writes a size in the largest unit that holds it exactly.
pub(super) fn render_size(bytes: u64) -> String {
    render(bytes, &SIZES)
}

/// Reads permission bits, `"0660"` or `"660"`.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    let digits = if text.len() == 4 { text.strip_prefix('0')? } else { text };
    let octal = digits.len() == 3 && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten()
}

/// Writes permission bits.
pub(super) fn render_mode(mode: u32) -> String {
    format!("{mode:04o}")
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn render(value: u64, units: &[(&str, u64)]) -> String {
    let exact = units.iter().find(|(_, factor)| value.is_multiple_of(*factor));
    exact.map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_one_number_and_one_unit() {
        let table = [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("3s", Some(3000)),
            ("5m", Some(300_000)),
            ("24h", Some(86_400_000)),
            ("30d", Some(2_592_000_000)),
            ("36500d", Some(3_153_600_000_000)),
            ("36501d", None),
            ("18446744073709551615d", None),
            ("18446744073709551616ms", None),
            ("", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("+5s", None),
            ("1.5s", None),
            ("5 s", None),
            (" 5s", None),
            ("5S", None),
            ("1h30m", None),
            ("5sec", None),
            ("٣s", None),
        ];
        for (text, millis) in table {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
        assert_eq!(render_duration(Duration::ZERO), "0s");
        assert_eq!(render_duration(Duration::from_secs(90)), "90s");
        assert_eq!(render_duration(Duration::from_secs(86_400)), "1d");
    }

    #[test]
    fn sizes_are_counted_in_powers_of_1024() {
        let table = [
            ("0B", Some(0)),
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("16MiB", Some(16_777_216)),
            ("4GiB", Some(4_294_967_296)),
            ("17179869184GiB", None),
            ("16MB", None),
            ("16", None),
            ("16mib", None),
            ("16 MiB", None),
            ("1.5GiB", None),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn permission_bits_are_three_octal_digits() {
        for (text, mode) in
            [("0660", Some(0o660)), ("660", Some(0o660)), ("0777", Some(0o777)), ("0o660", None)]
        {
            assert_eq!(parse_mode(text), mode, "{text:?}");
        }
        for text in ["", "66", "0668", "1660", "00660", "rw-rw----", "+660", "-660"] {
            assert_eq!(parse_mode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_rendered_reads_back(millis in 0..=3_153_600_000_000_u64, bytes: u64, mode in 0..=0o777_u32) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&render_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&render_size(bytes)), Some(bytes));
            prop_assert_eq!(parse_mode(&render_mode(mode)), Some(mode));
        }

        #[test]
        fn round_numbers_read_back_in_their_own_unit(n in 1..=36_500_u64, unit in 0..5_usize, size in 0..4_usize) {
            let duration = Duration::from_millis(n * DURATIONS[unit].1);
            prop_assert_eq!(parse_duration(&render_duration(duration)), Some(duration));
            let bytes = n * SIZES[size].1;
            prop_assert_eq!(parse_size(&render_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_is_too_odd_to_be_refused(text in ".*") {
            let _ = (parse_duration(&text), parse_size(&text), parse_mode(&text));
        }
    }
}
