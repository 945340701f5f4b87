//! Reads a caller's `Prefer` (RFC 7240), of which `wait` is heard. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::list::elements;

/// The field by which a caller says what it would like.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The field by which it is told what was done.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How long a caller is ready to wait: the first `wait` of its `Prefer` fields, in whole seconds. One that cannot be
/// read is no preference, and later ones do not count (§2).
#[must_use]
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(PREFER).iter().filter_map(|field| field.to_str().ok());
    let preferences = fields.flat_map(|field| elements(field.as_bytes()));
    let mut preferences = preferences.filter_map(|preference| std::str::from_utf8(preference).ok());
    let value = preferences.find_map(|preference| {
        // Parameters behind the semicolon are for preferences that have some.
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim())
    })?;
    let digits = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More digits than fit are still a number of seconds, and a large one.
    Some(Duration::from_secs(digits.parse::<u32>().unwrap_or(u32::MAX).into()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn check(fields: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(PREFER, HeaderValue::from_str(field).expect("a value"));
        }
        wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_first_wait_counts_wherever_it_stands() {
        let table: &[(&[&str], Option<u64>)] = &[
            (&[], None),
            (&["wait=10"], Some(10)),
            (&["WAIT = 10"], Some(10)),
            (&["wait=\"10\""], Some(10)),
            (&["respond-async, wait=10"], Some(10)),
            (&["return=minimal; x=\"y\", wait=10; z"], Some(10)),
            (&["handling=lenient", "wait=10"], Some(10)),
            (&["wait=5, wait=10"], Some(5)),
            (&["wait=5", "wait=10"], Some(5)),
            (&["wait=0"], Some(0)),
            (&["wait=99999999999999999999"], Some(u64::from(u32::MAX))),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=-1"], None),
            (&["wait=+1"], None),
            (&["wait=1.5"], None),
            (&["wait=x, wait=10"], None),
            (&["await=10"], None),
            (&["x=\"a, wait=10\""], None),
            (&["x=\"a, wait=10\", wait=5"], Some(5)),
        ];
        for (fields, expected) in table {
            assert_eq!(check(fields), *expected, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_survived(field in "[ -~]{0,60}") {
            let _ = check(&[&field]);
        }
    }
}
