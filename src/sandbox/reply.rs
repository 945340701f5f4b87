//! The vendor's answers as messages: status, headers, and the error body of its reference.
//!
//! It decides nothing; `answer` does.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER, VARY},
};
use serde::Serialize;

use super::{
    PauseHint,
    clock::{SinceEpoch, ceil_seconds, iso_seconds},
    render::json,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");
const ELSEWHERE: HeaderValue = HeaderValue::from_static("https://elsewhere.invalid/");

#[derive(Serialize)]
struct Problem<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_at: Option<String>,
}

/// A 200 of JSON.
pub(super) fn ok(body: Bytes) -> Response<Bytes> {
    typed(StatusCode::OK, JSON, body)
}

/// A 201 of JSON.
pub(super) fn created(body: Bytes) -> Response<Bytes> {
    typed(StatusCode::CREATED, JSON, body)
}

/// A 200 of CSV.
pub(super) fn csv(body: String) -> Response<Bytes> {
    typed(StatusCode::OK, CSV, body.into())
}

/// A 200 of HTML, as from something in between.
pub(super) fn html() -> Response<Bytes> {
    let page = "<!doctype html><title>Welcome</title><p>Please sign in to the network.</p>";
    typed(StatusCode::OK, HTML, Bytes::from_static(page.as_bytes()))
}

/// A 302 to a host that does not exist.
pub(super) fn redirect() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, ELSEWHERE);
    response
}

/// Nothing that will be seen: the connection breaks under it.
pub(super) fn unseen() -> Response<Bytes> {
    Response::new(Bytes::new())
}

/// The vendor's error of a status.
pub(super) fn error(status: StatusCode, message: &str) -> Response<Bytes> {
    let code = match status {
        StatusCode::BAD_REQUEST => "bad_request",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::INTERNAL_SERVER_ERROR => "internal_error",
        StatusCode::BAD_GATEWAY => "bad_gateway",
        StatusCode::SERVICE_UNAVAILABLE => "service_unavailable",
        StatusCode::GATEWAY_TIMEOUT => "gateway_timeout",
        _ => "error",
    };
    let body = if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        Bytes::new()
    } else {
        json(&Problem { error: Error { code, message, reset_at: None } })
    };
    typed(status, JSON, body)
}

/// The 429 of the rate limit: the next request is accepted at `reset`.
pub(super) fn too_many(now: SinceEpoch, reset: SinceEpoch, hint: PauseHint) -> Response<Bytes> {
    let seconds = ceil_seconds(reset.saturating_sub(now));
    let message = format!("Too many requests. Please try again in {seconds} seconds.");
    let reset_at = matches!(hint, PauseHint::Both | PauseHint::ResetAt).then(|| iso_seconds(reset));
    let body = json(&Problem { error: Error { code: "rate_limit_exceeded", message: &message, reset_at } });
    let mut response = typed(StatusCode::TOO_MANY_REQUESTS, JSON, body);
    if matches!(hint, PauseHint::Both | PauseHint::RetryAfter) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The same answer with a body that is compressed already.
pub(super) fn compressed(response: Response<Bytes>, body: Bytes) -> Response<Bytes> {
    let mut response = response.map(|_| body);
    response.headers_mut().insert(CONTENT_ENCODING, GZIP);
    response.headers_mut().insert(VARY, ACCEPT_ENCODING);
    response
}

fn typed(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn body(response: &Response<Bytes>) -> Value {
        serde_json::from_slice(response.body()).expect("JSON")
    }

    #[test]
    fn the_429_is_the_documented_one() {
        let reset = Duration::from_secs(1_705_937_400);
        let response = too_many(reset - Duration::from_millis(59_500), reset, PauseHint::Both);
        let documented = json!({"error": {
            "code": "rate_limit_exceeded",
            "message": "Too many requests. Please try again in 60 seconds.",
            "reset_at": "2024-01-22T15:30:00Z",
        }});
        assert_eq!(body(&response), documented);
        assert_eq!(response.headers()[RETRY_AFTER], "60");
    }

    #[test]
    fn the_429_says_when_to_come_back_in_either_way_both_or_neither() {
        for (hint, header, member) in [
            (PauseHint::Both, true, true),
            (PauseHint::RetryAfter, true, false),
            (PauseHint::ResetAt, false, true),
            (PauseHint::Neither, false, false),
        ] {
            let response = too_many(Duration::ZERO, Duration::from_secs(1), hint);
            let found = (
                response.headers().contains_key(RETRY_AFTER),
                body(&response)["error"].get("reset_at").is_some(),
            );
            assert_eq!(found, (header, member), "{hint:?}");
        }
    }
}
