//! The spans of one request, out of what was counted and logged of it: the request itself, and within it the wait for a
//! turn and what was asked of the vendor. Pure.
//!
//! By OpenTelemetry's semantic conventions for HTTP, as far as these allow what the log does: the id of the call, and no
//! other part of a target, no query, no field, no body.

use http::{HeaderValue, Method, StatusCode, uri::Scheme};
use tokio::time::Instant;

use crate::{
    call::CacheKey,
    lookup::Timing,
    metrics::RouteLabel,
    otlp::{Kind, Span, Value},
    outcome::{CacheLabel, ErrorCode, Fetched, Outcome},
    trace::Sampled,
    upstream::Origin,
};

/// What is known of a request at its end.
pub(super) struct Seen<'a> {
    pub(super) sampled: Sampled,
    pub(super) vendor: &'a Origin,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) label: RouteLabel,
    pub(super) key: Option<&'a CacheKey>,
    pub(super) request_id: &'a HeaderValue,
    pub(super) started: Instant,
    pub(super) ended: Instant,
    pub(super) status: StatusCode,
    pub(super) outcome: &'a Outcome,
    pub(super) timing: Timing,
    pub(super) refused: Option<ErrorCode>,
    /// Whether it waited for the call to be over: then several fetches may have gone before, each a span of its own.
    pub(super) waited: bool,
}

/// The span of a request, and those within it.
pub(super) fn of_request(seen: &Seen<'_>) -> Vec<Span> {
    let sampled = seen.sampled;
    let id = fastrand::u64(1..);
    let route = route(seen);
    let method = method(seen.method);
    let mut attributes = vec![
        ("http.request.method", Value::Word(method)),
        ("http.response.status_code", Value::Number(seen.status.as_u16().into())),
        ("url.scheme", Value::Word("http")),
        ("callgate.cache", Value::Word(seen.outcome.label().as_str())),
        ("callgate.request_id", Value::Text(seen.request_id.to_str().unwrap_or_default().to_owned())),
    ];
    if let Some(route) = route {
        attributes.push(("http.route", Value::Word(route)));
    }
    if let Some(call) = seen.key.and_then(CacheKey::call_id) {
        attributes.push(("callgate.call.id", Value::Text(call.as_str().to_owned())));
    }
    if let Some(reason) = seen.refused.map(ErrorCode::as_str).or_else(|| seen.outcome.reason()) {
        attributes.push(("callgate.reason", Value::Word(reason)));
    }
    let failed = seen.status.is_server_error();
    if failed {
        attributes.push(error_type(seen.refused, seen.status));
    }
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let request = Span {
        trace: sampled.trace,
        id,
        parent: sampled.parent,
        name,
        kind: Kind::Server,
        start: seen.started,
        end: seen.ended,
        failed,
        attributes,
    };
    // What another caller's request took is in that one's trace.
    let own = seen.outcome.label() != CacheLabel::Collapsed && !seen.waited;
    let within = if own { fetch(seen, id) } else { Vec::new() };
    std::iter::once(request).chain(within).collect()
}

/// The wait for a turn, and what the vendor was asked. Their lengths are known, and that the answer came right after.
fn fetch(seen: &Seen<'_>, parent: u64) -> Vec<Span> {
    let back = |from: Instant, by| from.checked_sub(by).unwrap_or(seen.started).max(seen.started);
    let mut spans = Vec::new();
    let span = |id, name: &str, kind, start, end| Span {
        trace: seen.sampled.trace,
        id,
        parent,
        name: name.to_owned(),
        kind,
        start,
        end,
        failed: false,
        attributes: Vec::new(),
    };
    let sent = seen.timing.upstream.map_or(seen.ended, |took| back(seen.ended, took));
    if !seen.timing.queued.is_zero() {
        let start = back(sent, seen.timing.queued);
        spans.push(span(fastrand::u64(1..), "queue", Kind::Internal, start, sent));
    }
    if seen.timing.upstream.is_some() {
        let mut asked = span(seen.sampled.sent, "GET", Kind::Client, sent, seen.ended);
        asked.attributes = target(seen);
        match answered(seen.outcome) {
            Some(Ok(status)) => {
                asked.attributes.push(("http.response.status_code", Value::Number(status.as_u16().into())));
                asked.failed = status.is_client_error() || status.is_server_error();
                if asked.failed {
                    asked.attributes.push(error_type(None, status));
                }
            }
            Some(Err(code)) => {
                asked.attributes.push(("error.type", Value::Word(code.as_str())));
                asked.failed = true;
            }
            None => {}
        }
        spans.push(asked);
    }
    spans
}

/// What the vendor was asked, without a query: a search may be for a phone number.
fn target(seen: &Seen<'_>) -> Vec<(&'static str, Value)> {
    let Origin { scheme, authority } = seen.vendor;
    let usual = if *scheme == Scheme::HTTP { 80 } else { 443 };
    let mut attributes = vec![
        ("http.request.method", Value::Word("GET")),
        ("server.address", Value::Text(authority.host().to_owned())),
        ("server.port", Value::Number(authority.port_u16().unwrap_or(usual).into())),
    ];
    if let Some(key) = seen.key {
        let target = key.path_and_query();
        let path = target.split('?').next().unwrap_or_default();
        attributes.push(("url.full", Value::Text(format!("{}{path}", seen.vendor))));
    }
    attributes
}

/// What the vendor answered, or why there is no answer of its.
fn answered(outcome: &Outcome) -> Option<Result<StatusCode, ErrorCode>> {
    match outcome {
        Outcome::Forwarded { result: Fetched::Stored(status) | Fetched::NotStored(status, _), .. } => {
            Some(Ok(*status))
        }
        Outcome::Forwarded { result: Fetched::Failed(code), .. } => Some(Err(*code)),
        Outcome::Hit { .. } | Outcome::StaleIfError { .. } | Outcome::NotAsked => None,
    }
}

fn error_type(code: Option<ErrorCode>, status: StatusCode) -> (&'static str, Value) {
    let value = match code {
        Some(code) => Value::Word(code.as_str()),
        None => Value::Text(status.as_u16().to_string()),
    };
    ("error.type", value)
}

/// The path with a name in the place of what varies; `None` where it is none of ours, for then all of it varies.
fn route(seen: &Seen<'_>) -> Option<&'static str> {
    let v1 = seen.path.starts_with("/v1/");
    match seen.label {
        RouteLabel::Lookup if seen.path.starts_with("/calls/") => Some("/calls/{id}"),
        RouteLabel::Lookup if v1 => Some("/v1/api/call-history/{id}"),
        RouteLabel::Lookup => Some("/v2/api/call-history/{id}"),
        RouteLabel::List if v1 => Some("/v1/api/call-history"),
        RouteLabel::List => Some("/v2/api/call-history"),
        RouteLabel::Other => None,
    }
}

/// The method, or `_OTHER`: callers may make some up.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        _ => "_OTHER",
    }
}
