//! How long the vendor's 429 asks for a pause. Pure: the time of day is passed in.
//!
//! `retry-after` comes in seconds or as a date (RFC 9110 §10.2.3), `error.reset_at` in the body in ISO 8601; either,
//! both or neither may be there, and none of it is trusted further than [`LONGEST`].

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;

use super::vendor::VendorAnswer;
use crate::clock::UnixMillis;

/// The shortest pause: what names none, or one that is over, must not cost a request each time.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause that is believed.
pub const LONGEST: Duration = Duration::from_secs(300);
/// The pause where none is named that can be read: the vendor counts by the minute.
pub const UNSAID: Duration = Duration::from_secs(60);

/// The pause that an answer asks for, between a second and [`LONGEST`]. The vendor's own `date` is what its times are
/// compared with, where it sends one.
#[must_use]
pub fn read(answer: &VendorAnswer, now: UnixMillis) -> Duration {
    let now = answer.date.unwrap_or(now);
    let field = answer.retry_after.as_ref().and_then(|field| from_field(field, now));
    // A time that has passed says little: the vendor would not have refused.
    let named = field.filter(|pause| !pause.is_zero()).or_else(|| from_body(&answer.body, now)).or(field);
    named.unwrap_or(UNSAID).clamp(SHORTEST, LONGEST)
}

fn from_field(field: &HeaderValue, now: UnixMillis) -> Option<Duration> {
    let text = field.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are still a number of seconds, and a large one.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(until(UnixMillis::from(date), now))
}

fn from_body(body: &[u8], now: UnixMillis) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Body {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        reset_at: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let reset: jiff::Timestamp = body.error.reset_at.trim().parse().ok()?;
    Some(until(UnixMillis(reset.as_millisecond()), now))
}

/// A time that has passed asks for no pause.
fn until(then: UnixMillis, now: UnixMillis) -> Duration {
    now.elapsed_at(then)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    /// 2024-01-22T15:29:00Z
    const NOW: UnixMillis = UnixMillis(1_705_937_340_000);

    fn check(field: Option<&[u8]>, body: &str, date: Option<UnixMillis>) -> u64 {
        let answer = VendorAnswer {
            status: StatusCode::TOO_MANY_REQUESTS,
            body: Bytes::copy_from_slice(body.as_bytes()),
            content_type: None,
            etag: None,
            last_modified: None,
            retry_after: field.map(|f| HeaderValue::from_bytes(f).expect("a value")),
            date,
            source: None,
            sent: tokio::time::Instant::now(),
            began: tokio::time::Instant::now(),
        };
        read(&answer, NOW).as_secs()
    }

    #[test]
    fn either_both_or_neither_may_name_the_pause() {
        let reset = r#"{"error":{"code":"rate_limit_exceeded","reset_at":"2024-01-22T15:29:30Z"}}"#;
        let table = [
            (Some("7"), "", 7),
            (Some(" 7 "), "", 7),
            (Some("0"), "", 1),
            (Some("0"), reset, 30),
            (Some("Mon, 22 Jan 2024 15:29:20 GMT"), "", 20),
            (Some("Mon, 22 Jan 2024 15:00:00 GMT"), "", 1),
            (None, reset, 30),
            (Some("7"), reset, 7),
            // Nonsense in the field leaves the body.
            (Some("-1"), reset, 30),
            (Some("abc"), reset, 30),
            (Some(""), reset, 30),
            (Some("1.5"), reset, 30),
            (Some("+5"), reset, 30),
            // Nonsense in both, or nothing.
            (None, "", 60),
            (Some("abc"), r#"{"error":{"reset_at":7}}"#, 60),
            (None, r#"{"error":{"reset_at":"soon"}}"#, 60),
            (None, "<html>", 60),
            // Never more than is believed.
            (Some("1000000000"), "", 300),
            (Some("99999999999999999999999999"), "", 300),
            (None, r#"{"error":{"reset_at":"2099-01-22T15:29:30Z"}}"#, 300),
            (None, r#"{"error":{"reset_at":"1999-01-22T15:29:30Z"}}"#, 1),
        ];
        for (field, body, expected) in table {
            assert_eq!(check(field.map(str::as_bytes), body, None), expected, "{field:?} {body}");
        }
        assert_eq!(check(Some(b"\xff"), reset, None), 30);
    }

    #[test]
    fn the_vendors_own_clock_is_what_its_times_are_compared_with() {
        let an_hour_ahead = Some(UnixMillis(NOW.0 + 3_600_000));
        assert_eq!(check(Some(b"Mon, 22 Jan 2024 16:29:20 GMT"), "", an_hour_ahead), 20);
    }

    proptest! {
        #[test]
        fn whatever_is_said_the_pause_is_bounded(
            field in proptest::option::of(proptest::collection::vec(0x20u8..0x7f, 0..40)),
            body in ".{0,80}",
        ) {
            prop_assert!(check(field.as_deref(), &body, None) <= LONGEST.as_secs());
        }
    }
}
