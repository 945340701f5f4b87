//! What the vendor answers: the story of one request.
//!
//! Headers are checked, the request is counted and let in or not, a fault may strike, the latency passes, and the
//! record is read as it stands then. A request that is turned away is told so at once.

use std::{borrow::Cow, fmt::Write as _};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Response, StatusCode,
    header::{ACCEPT_ENCODING, HeaderName},
    request::Parts,
};
use serde_json::json;

use super::{
    body::Body,
    bomb::gzip_bomb,
    fault::FaultKind,
    journal::Entry,
    limit::MINUTE,
    list::Query,
    record::{Call, Phase},
    render::{self, Page, Slant},
    reply,
    vendor::Vendor,
    wire::Trap,
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const WORKSPACE_ID: HeaderName = HeaderName::from_static("x-workspace-id");

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    /// One call.
    Lookup(&'a str),
    /// Many; v2 wraps the array.
    List { wrapped: bool },
    /// The recording of a call.
    Recording(&'a str),
    /// All calls as CSV.
    Export,
    /// The sandbox's own: begin a call.
    Begin,
    /// Anything else.
    Unknown,
}

impl<'a> Route<'a> {
    fn of(method: &Method, path: &'a str) -> Self {
        let get = matches!(*method, Method::GET | Method::HEAD);
        let post = *method == Method::POST;
        if path == "/sandbox/calls" && post {
            return Self::Begin;
        }
        let (wrapped, rest) = match (path.strip_prefix("/v2/api/"), path.strip_prefix("/v1/api/")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Self::Unknown,
        };
        match rest.split_once('/') {
            None if get && rest == "call-history" => Self::List { wrapped },
            Some(("call-history", "export-csv")) if post => Self::Export,
            Some(("call-history", id)) if get => Self::Lookup(id),
            Some(("recordings", id)) if get => Self::Recording(id),
            None | Some(_) => Self::Unknown,
        }
    }

    fn id(self) -> Option<&'a str> {
        match self {
            Self::Lookup(id) => Some(id),
            Self::List { .. } | Self::Recording(_) | Self::Export | Self::Begin | Self::Unknown => None,
        }
    }
}

/// Answers one request; `trap` is that of its connection.
pub(super) async fn answer(vendor: &Vendor, head: &Parts, trap: &Trap) -> Response<Body> {
    let route = Route::of(&head.method, head.uri.path());
    let refusal = refusal(vendor, &head.headers);
    if route == Route::Begin {
        return refusal.unwrap_or_else(|| begin(vendor)).map(Body::Whole);
    }
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let entry = Entry { target, id: route.id(), welcome: refusal.is_none() };
    let admission =
        vendor.journal.enter(entry, || vendor.now(), vendor.config.rate_limit, vendor.config.journal);
    if let Some(refusal) = refusal {
        return refusal.map(Body::Whole);
    }
    if let Err(reset) = admission {
        vendor.journal.reject();
        return reply::too_many(vendor.now(), reset, vendor.config.pause_hint).map(Body::Whole);
    }
    let fault = vendor.fault();
    if !vendor.config.latency.is_zero() {
        tokio::time::sleep(vendor.config.latency).await;
    }
    match fault {
        None => honest(vendor, head, route, vendor.truth(), vendor.config.gzip).map(Body::Whole),
        Some(kind) => broken(vendor, head, route, kind, trap).await,
    }
}

/// What is wrong with the two headers. Each must be there once: two of one would be a gateway's mistake.
fn refusal(vendor: &Vendor, headers: &HeaderMap) -> Option<Response<Bytes>> {
    let is = |name: &HeaderName, wanted: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().is_some_and(|value| value == wanted) && values.next().is_none()
    };
    if !is(&API_KEY, &vendor.config.api_key) {
        return Some(reply::error(StatusCode::UNAUTHORIZED, "Invalid or missing API key."));
    }
    if !is(&WORKSPACE_ID, &vendor.config.workspace_id) {
        return Some(reply::error(StatusCode::FORBIDDEN, "No access to this workspace."));
    }
    None
}

fn begin(vendor: &Vendor) -> Response<Bytes> {
    let call = vendor.begin();
    reply::created(render::json(&json!({ "_id": *call.id, "callId": *call.call_id })))
}

/// The answer of a vendor in good health.
fn honest(
    vendor: &Vendor,
    head: &Parts,
    route: Route<'_>,
    slant: Slant<'_>,
    may_compress: bool,
) -> Response<Bytes> {
    let compress = may_compress && accepts_gzip(&head.headers);
    match route {
        Route::Lookup(id) => lookup(vendor, id, slant, compress),
        Route::List { wrapped } => {
            let response = list(vendor, head.uri.query().unwrap_or_default(), slant, wrapped);
            if compress {
                let body = render::gzip(response.body());
                return reply::compressed(response, body);
            }
            response
        }
        Route::Recording(id) => recording(vendor, id),
        Route::Export => export(vendor),
        Route::Begin | Route::Unknown => reply::error(StatusCode::NOT_FOUND, "Not found."),
    }
}

fn lookup(vendor: &Vendor, id: &str, slant: Slant<'_>, compress: bool) -> Response<Bytes> {
    if !plausible(id) {
        return reply::error(StatusCode::BAD_REQUEST, "Invalid call history id.");
    }
    let found = vendor.book().find(id);
    let Some(call) = found else {
        return reply::error(StatusCode::NOT_FOUND, "Call history not found.");
    };
    let now = vendor.now();
    let body = if slant == vendor.truth() {
        render::lookup_settled_once(&call, now, slant)
    } else {
        render::lookup(&call, now, slant)
    };
    if !compress {
        return reply::ok(body);
    }
    let gzipped = if slant == vendor.truth() && call.phase(now) == Phase::Settled {
        call.gzipped.get_or_init(|| render::gzip(&body)).clone()
    } else {
        render::gzip(&body)
    };
    reply::compressed(reply::ok(body), gzipped)
}

fn list(vendor: &Vendor, query: &str, slant: Slant<'_>, wrapped: bool) -> Response<Bytes> {
    let book = vendor.book();
    if book.calls().is_empty() {
        return reply::error(StatusCode::INTERNAL_SERVER_ERROR, "Failed to fetch call history.");
    }
    let query = match Query::read(query) {
        Ok(query) => query,
        Err(message) => return reply::error(StatusCode::BAD_REQUEST, &message),
    };
    let now = vendor.now();
    let (calls, total) = query.select(book.calls(), now);
    drop(book);
    let page = wrapped.then_some(Page { total, page: query.page, limit: query.limit });
    reply::ok(render::list(&calls, page, now, slant))
}

fn recording(vendor: &Vendor, id: &str) -> Response<Bytes> {
    let now = vendor.now();
    let settled = vendor.book().find(id).filter(|call| call.phase(now) == Phase::Settled);
    match settled {
        Some(call) => {
            reply::ok(render::json(&json!({ "url": format!("https://recordings.invalid/{}.wav", call.id) })))
        }
        None => reply::error(StatusCode::NOT_FOUND, "Recording not found."),
    }
}

/// Every call in a line, the oldest first; what the body of the request asks for is not looked at.
fn export(vendor: &Vendor) -> Response<Bytes> {
    let now = vendor.now();
    let mut lines = String::from("_id,status,direction,startTime,endTime\n");
    for call in vendor.book().calls() {
        let Call { id, start, end, direction, .. } = &**call;
        let end = if now < *end { Cow::Borrowed("") } else { Cow::Owned(end.as_secs().to_string()) };
        // A string takes all that it is given.
        let _ = writeln!(lines, "{id},{},{direction},{},{end}", call.status(now), start.as_secs());
    }
    reply::csv(lines)
}

/// The answer of a vendor that `kind` has befallen.
async fn broken(
    vendor: &Vendor,
    head: &Parts,
    route: Route<'_>,
    kind: FaultKind,
    trap: &Trap,
) -> Response<Body> {
    let truth = vendor.truth();
    let told = |slant| honest(vendor, head, route, slant, vendor.config.gzip);
    let response = match kind {
        FaultKind::Status(StatusCode::TOO_MANY_REQUESTS) => {
            vendor.journal.reject();
            let now = vendor.now();
            reply::too_many(now, now + MINUTE, vendor.config.pause_hint)
        }
        FaultKind::Status(status) => reply::error(status, "This fault was asked for."),
        FaultKind::Delay(by) => {
            tokio::time::sleep(by).await;
            told(truth)
        }
        FaultKind::Reset => {
            trap.reset();
            reply::unseen()
        }
        FaultKind::Garbage => {
            trap.garbage();
            reply::unseen()
        }
        FaultKind::Cut => return told(truth).map(|body| Body::cut(&body)),
        FaultKind::Drip(pause) => return told(truth).map(|body| Body::drip(body, pause)),
        FaultKind::EchoKey => told(Slant { echo: Some(&vendor.config.api_key), ..truth }),
        FaultKind::Hang => std::future::pending().await,
        FaultKind::GzipBomb(blanks) => {
            let response = honest(vendor, head, route, truth, false);
            let bomb = gzip_bomb(blanks, response.body());
            reply::compressed(response, bomb)
        }
        FaultKind::Html => reply::html(),
        FaultKind::Redirect => reply::redirect(),
        FaultKind::ForeignWorkspace => told(Slant { workspace_id: "ws-elsewhere", ..truth }),
        FaultKind::WrongId => told(Slant { wrong_id: true, ..truth }),
    };
    response.map(Body::Whole)
}

/// Whether this could be an id of either kind.
fn plausible(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether `accept-encoding` names gzip (RFC 9110 §12.5.3); any other way to allow it is not understood.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn routes_are_those_of_the_vendor_in_both_versions() {
        let get = |path| Route::of(&Method::GET, path);
        let post = |path| Route::of(&Method::POST, path);
        assert_eq!(get("/v1/api/call-history/abc"), Route::Lookup("abc"));
        assert_eq!(get("/v2/api/call-history/abc"), Route::Lookup("abc"));
        assert_eq!(Route::of(&Method::HEAD, "/v2/api/call-history/abc"), Route::Lookup("abc"));
        assert_eq!(get("/v1/api/call-history"), Route::List { wrapped: false });
        assert_eq!(get("/v2/api/call-history"), Route::List { wrapped: true });
        assert_eq!(get("/v2/api/recordings/abc"), Route::Recording("abc"));
        assert_eq!(post("/v2/api/call-history/export-csv"), Route::Export);
        assert_eq!(post("/sandbox/calls"), Route::Begin);
        for path in
            ["/", "/v3/api/call-history", "/v2/api/calls", "/v2/api/call-historyabc", "/v2", "/sandbox/calls"]
        {
            assert_eq!(get(path), Route::Unknown, "{path}");
        }
        assert_eq!(post("/v2/api/call-history"), Route::Unknown);
    }

    #[test]
    fn gzip_is_accepted_where_it_is_named_and_not_refused() {
        for (value, accepted) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip; q=0", false),
            ("gzip;q=0.000", false),
            ("identity", false),
            ("*", false),
            ("xgzip", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(accepts_gzip(&headers), accepted, "{value}");
        }
    }
}
