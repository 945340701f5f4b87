//! The pause that a 429 asks for, against what its field and its body plainly say.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use callgate::{
    clock::UnixMillis,
    upstream::{
        retry_after::{LONGEST, UNSAID, read},
        vendor::VendorAnswer,
    },
};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{
    json::{self, Json},
    route::split,
};

/// 2024-01-22T15:29:00Z
const NOW: i64 = 1_705_937_340_000;

/// The first line is `retry-after`, absent where it is empty; the second `date`; the rest is the body. The pause is
/// bounded, and where both say plainly what they want it is that.
pub fn retry_after(bytes: &[u8]) {
    let (field, rest) = split(bytes);
    let (date, body) = split(rest);
    let field = Some(field).filter(|field| !field.is_empty());
    let Ok(value) = field.map(HeaderValue::from_bytes).transpose() else { return };
    let date = std::str::from_utf8(date).ok().and_then(http_date);
    let now = Instant::now();
    let answer = VendorAnswer {
        status: StatusCode::TOO_MANY_REQUESTS,
        body: Bytes::copy_from_slice(body),
        content_type: None,
        etag: None,
        last_modified: None,
        retry_after: value,
        date: date.map(UnixMillis),
        source: None,
        sent: now,
        began: now,
    };
    let pause = read(&answer, UnixMillis(NOW));
    assert!((Duration::from_secs(1)..=LONGEST).contains(&pause), "{pause:?}");

    let now = date.unwrap_or(NOW);
    let Said::Plainly(reset) = reset_at(body, now) else { return };
    let field = field.and_then(|field| asked(field, now));
    // Milliseconds. A field that asks for nothing leaves it to the body.
    let wanted = field.filter(|pause| *pause > 0).or(reset).or(field);
    let wanted = wanted.map_or(UNSAID, Duration::from_millis);
    assert_eq!(pause, wanted.clamp(Duration::from_secs(1), LONGEST));
}

/// What a body says of the end of the pause.
enum Said {
    /// The milliseconds until then, or nothing.
    Plainly(Option<u64>),
    /// In two ways, or in a form that is neither that of the vendor nor plainly another.
    Unclear,
}

fn reset_at(body: &[u8], now: i64) -> Said {
    let Some(text) = std::str::from_utf8(body).ok().filter(|text| json::depth(text) < 100) else {
        return Said::Unclear;
    };
    let Some(top) = json::parse(text) else { return Said::Plainly(None) };
    if top.is_odd() || matches!(top, Json::Array(_)) {
        return Said::Unclear;
    }
    let errors: Vec<_> = top.all("error").collect();
    let resets: Vec<_> = errors.iter().flat_map(|error| error.all("reset_at")).collect();
    match (errors.as_slice(), resets.as_slice()) {
        ([Json::Array(_)], _) => Said::Unclear,
        ([_], [Json::Text(Some(time))]) => {
            let time = time.trim().parse::<jiff::Timestamp>();
            Said::Plainly(time.ok().map(|time| until(time.as_millisecond(), now)))
        }
        ([] | [_], [] | [_]) => Said::Plainly(None),
        _ => Said::Unclear,
    }
}

/// The milliseconds that the field asks for.
fn asked(field: &[u8], now: i64) -> Option<u64> {
    let text = std::str::from_utf8(field).ok().filter(|text| text.is_ascii())?.trim();
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        // With more digits it is longer than is believed in any case.
        let digits = text.trim_start_matches('0');
        let seconds = if digits.len() > 6 { 999_999 } else { digits.parse().unwrap_or(0) };
        return Some(seconds * 1_000);
    }
    Some(until(http_date(text)?, now))
}

fn http_date(text: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

fn until(then: i64, now: i64) -> u64 {
    u64::try_from(then.saturating_sub(now)).unwrap_or(0)
}
