//! Errors of the gateway's own making as `application/problem+json` (RFC 9457), with the vendor's `error` member
//! beside the standard ones, so that existing callers go on parsing.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    clock::Clock,
    outcome::{ErrorCode, Refusal},
};

/// The media type of RFC 9457 §6.1.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    error: VendorError<'a>,
}

#[derive(Serialize)]
struct VendorError<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_at: Option<String>,
}

/// The answer to a request that is refused; `allow` is what a 405 names (RFC 9110 §15.5.6).
#[must_use]
pub fn problem(refusal: &Refusal, allow: &'static str, now: Instant, clock: &Clock) -> Response<Bytes> {
    let code = refusal.code;
    let limited = code == ErrorCode::RateLimitExceeded;
    let reset_at = refusal.retry_at.filter(|_| limited).and_then(|at| iso_8601(clock, at));
    let problem = Problem {
        r#type: format!("urn:callgate:problem:{}", code.as_str()),
        title: code.title(),
        status: code.status().as_u16(),
        detail: &refusal.detail,
        error: VendorError { code: code.as_str(), message: &refusal.detail, reset_at },
    };
    // Serializing strings and a number cannot fail; an empty body would still carry the status.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(at) = refusal.retry_at {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after(at, now)));
    }
    if code == ErrorCode::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if code.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Seconds until `at`, rounded up, and at least one: zero would invite everybody back at once.
fn retry_after(at: Instant, now: Instant) -> u64 {
    let left = at.saturating_duration_since(now);
    (left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1)
}

/// The time of day at `at`, in whole seconds, rounded up as `retry-after` is.
fn iso_8601(clock: &Clock, at: Instant) -> Option<String> {
    let seconds = clock.at(at).0.div_euclid(1_000) + i64::from(clock.at(at).0.rem_euclid(1_000) > 0);
    jiff::Timestamp::from_second(seconds).ok().map(|t| t.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn check(refusal: &Refusal, now: Instant, clock: &Clock) -> (Response<Bytes>, serde_json::Value) {
        let response = problem(refusal, "GET, HEAD", now, clock);
        let body = serde_json::from_slice(response.body()).expect("json");
        (response, body)
    }

    #[tokio::test(start_paused = true)]
    async fn a_problem_has_the_members_of_rfc_9457_and_the_vendors() {
        let clock = Clock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_705_937_340));
        let now = Instant::now();
        let refusal =
            Refusal::new(ErrorCode::RateLimitExceeded, "why").retry_at(now + Duration::from_millis(29_100));
        let (response, body) = check(&refusal, now, &clock);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "30");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:callgate:problem:rate_limit_exceeded",
                "title": "the vendor's rate limit is used up",
                "status": 429,
                "detail": "why",
                "error": { "code": "rate_limit_exceeded", "message": "why", "reset_at": "2024-01-22T15:29:30Z" }
            })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_405_has_allow_and_only_broken_framing_closes() {
        let clock = Clock::starting_at(SystemTime::UNIX_EPOCH);
        let header = |code, name: &str| {
            let (response, body) = check(&Refusal::new(code, ""), Instant::now(), &clock);
            assert!(body["error"].get("reset_at").is_none());
            response.headers().get(name).map(|v| v.to_str().expect("ascii").to_owned())
        };
        assert_eq!(header(ErrorCode::MethodNotAllowed, "allow").as_deref(), Some("GET, HEAD"));
        assert_eq!(header(ErrorCode::RouteNotFound, "allow"), None);
        assert_eq!(header(ErrorCode::UnexpectedBody, "connection").as_deref(), Some("close"));
        assert_eq!(header(ErrorCode::RouteNotFound, "connection"), None);
    }
}
