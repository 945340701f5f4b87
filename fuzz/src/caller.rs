//! A whole connection on the callers' side: bytes in from a caller, one vendor that holds what it is asked for.
//!
//! What came out is compared with a plain reading of what went in: one answer for each request that there is, none after
//! the last, no request to the vendor for what has to be refused, and for what is served the vendor's own bytes.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use callgate::upstream::{
    error::UpstreamError,
    vendor::{Attempt, Vendor, VendorAnswer},
};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{
    gateway::{Before, Gateway, KEY, LONG, STILL, Variant, WORKSPACES, contains},
    route::{Known, is_id, known},
    wire::{self, Answer, Request},
};

/// The fields that an answer may have.
const FIELDS: [&str; 14] = [
    "age",
    "allow",
    "cache-control",
    "cache-status",
    "connection",
    "content-length",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "preference-applied",
    "retry-after",
    "x-content-type-options",
    "x-request-id",
];

/// The first byte says how the gateway is set and in what pieces the rest is sent, which is what a caller says.
pub fn caller(bytes: &[u8]) {
    let Some((how, said)) = bytes.split_first() else { return };
    let obliging = how & 1 != 0;
    let piece = [usize::MAX, 1, 7, 60][usize::from(how >> 1 & 3)];
    let vendor = Arc::new(Holder::default());
    let variant = Variant { obliging, forgetful: false };
    let gateway = Gateway::start(variant, Before::Vendor(Arc::clone(&vendor) as Arc<dyn Vendor>));
    let received = converse(&gateway, said, piece);
    // A caller that says it itself is told nothing new.
    if !contains(said, KEY.as_bytes()) {
        assert!(!contains(&received, KEY.as_bytes()) && !gateway.has_logged(KEY.as_bytes()));
    }
    vendor.has_been_asked_properly();
    if !(obliging && said.starts_with(b"PRI")) {
        judge(said, &received, &vendor.asked());
    }
}

/// What the gateway sends while it is told this, and then that it is all.
fn converse(gateway: &Gateway, mut said: &[u8], piece: usize) -> Vec<u8> {
    let mut line = gateway.connect();
    let (mut still, mut pieces) = (0, 0);
    while still < STILL && !line.ended {
        let left = said.len();
        if left > 0 {
            // So many that all of a head may come in pieces, and no more than that takes time.
            let length = if pieces < 200 { piece.min(left) } else { left };
            let mut next = &said[..length];
            line.send(&mut next);
            said = &said[length - next.len()..];
            pieces += 1;
        }
        gateway.turn();
        gateway.turn();
        still = if line.receive() || said.len() < left { 0 } else { still + 1 };
    }
    line.finish();
    let mut waited = 0;
    while !line.ended {
        gateway.turn();
        if !line.receive() {
            still += 1;
        }
        if still > 2 * STILL {
            gateway.pause();
            waited += 1;
            assert!(waited < LONG, "the connection is not closed");
        }
    }
    line.received
}

fn judge(said: &[u8], received: &[u8], asked: &[Asked]) {
    let (requests, more) = wire::requests(said);
    // They may still be waiting when their caller is through.
    let waiting = requests.iter().any(|request| request.head.all("prefer").next().is_some());
    let mut rest = received;
    let mut served = Vec::new();
    let mut open = true;
    for request in &requests {
        let Some(answer) = wire::answer(&mut rest, request.method) else {
            assert!(rest.is_empty() && waiting, "no answer to {:?}", String::from_utf8_lossy(request.target));
            open = false;
            break;
        };
        let refused = must_be_refused(request);
        about(&answer);
        assert!(refused.is_none() || answer.status >= 400, "{}: {refused:?}", answer.status);
        if request.method == b"GET" && answer.status == 200 {
            is_as_held(request, &answer);
        }
        if refused.is_none() {
            served.extend(answer.one("x-request-id").map(str::to_owned));
        }
        let closes = answer.one("connection").is_some_and(|option| option == "close");
        if closes || is_bare(&answer) {
            open = false;
            break;
        }
    }
    let ended = requests.last().is_some_and(|request| request.has_body() || request.is_last());
    if open && !ended && more && !rest.is_empty() {
        let answer = wire::answer(&mut rest, b"GET").expect("a whole answer");
        about(&answer);
        assert!(answer.status >= 400, "{} to what is no request", answer.status);
    }
    assert!(rest.is_empty(), "more than was asked for: {:?}", String::from_utf8_lossy(rest));
    for one in asked {
        assert!(
            waiting || served.contains(&one.request_id),
            "the vendor is asked for what is refused: {one:?}"
        );
    }
    assert!(waiting || asked.len() <= served.len(), "{asked:?}");
}

/// What the parser itself refuses has no more than a status.
fn is_bare(answer: &Answer) -> bool {
    answer.one("x-request-id").is_none()
}

/// Holds an answer to what is promised of all.
fn about(answer: &Answer) {
    for (name, _) in &answer.fields {
        assert!(FIELDS.contains(&name.as_str()), "{name}");
    }
    assert!(answer.one("date").is_some());
    if is_bare(answer) {
        assert!([400, 414, 431].contains(&answer.status) && answer.body.is_empty(), "{}", answer.status);
        return;
    }
    assert_eq!(answer.one("x-content-type-options"), Some("nosniff"));
    assert!(!contains(&answer.body, b"internal_error"));
    let statuses = [200, 304, 400, 403, 404, 405, 414, 421, 429, 431, 500, 502, 504];
    assert!(statuses.contains(&answer.status), "{}", answer.status);
}

/// Why no request to the vendor may come of this one, where that is plain.
fn must_be_refused(request: &Request<'_>) -> Option<&'static str> {
    let head = &request.head;
    if request.has_body() {
        return Some("a body");
    }
    if ![&b"GET"[..], b"HEAD"].contains(&request.method) {
        return Some("the method");
    }
    // Lengths of `0` are one by the time that fields are counted.
    let lengths = head.all("content-length").count().saturating_sub(1);
    if head.fields.len() - lengths > 64 {
        return Some("too many fields");
    }
    let hosts: Vec<_> = head.all("host").collect();
    match hosts.as_slice() {
        [] if request.old => {}
        [host] if is_foreign(host) => return Some("a foreign host"),
        [_] => {}
        _ => return Some("not one host"),
    }
    let workspaces: Vec<_> = head.all("x-workspace-id").collect();
    let ours = |id: &[u8]| WORKSPACES.iter().any(|own| own.as_bytes() == id);
    if workspaces.len() > 1 || workspaces.iter().any(|id| !ours(id)) {
        return Some("the workspace");
    }
    let crossing =
        |site: &[u8]| [&b"cross-site"[..], b"same-site"].contains(&site.to_ascii_lowercase().as_slice());
    if head.all("sec-fetch-site").any(crossing) || head.all("origin").any(|origin| origin == b"null") {
        return Some("another site");
    }
    let target = std::str::from_utf8(request.target).ok()?;
    if !target.starts_with('/') {
        return (!target.contains("://")).then_some("no path");
    }
    // What stands behind a number sign never was part of a target, and is cut off before anybody sees it.
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let unknown = |part: &str| !part.is_empty() && part.split('=').next() != Some("_");
    match known(path) {
        None => Some("the path"),
        Some(Known::Call(_, id)) if !is_id(id.as_bytes()) => Some("the id"),
        Some(Known::Call(..)) if !query.contains(['%', '+']) && query.split('&').any(unknown) => {
            Some("the query")
        }
        Some(Known::Call(..) | Known::List(_)) => None,
    }
}

/// A name with a dot in it, which is no address and is not said to be allowed.
fn is_foreign(host: &[u8]) -> bool {
    let name = host.split(|byte| *byte == b':').next().unwrap_or_default();
    let name = name.strip_suffix(b".").unwrap_or(name);
    name.contains(&b'.') && name.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'.')
}

/// A record is served as the vendor has it.
fn is_as_held(request: &Request<'_>, answer: &Answer) {
    let workspace = request.head.all("x-workspace-id").next().unwrap_or(WORKSPACES[0].as_bytes());
    let workspace = String::from_utf8_lossy(workspace);
    let target = String::from_utf8_lossy(request.target);
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if let Some(Known::Call(_, id)) = known(path) {
        let (_, body) = held(Some(id), &workspace);
        assert_eq!(answer.body, body.as_bytes());
    }
}

/// What the vendor answers: the first letter of an id says what it is.
fn held(id: Option<&str>, workspace: &str) -> (u16, String) {
    let Some(id) = id else { return (200, "[]".to_owned()) };
    let record = |rest: &str| format!(r#"{{"_id":"{id}","workspaceId":"{workspace}",{rest}}}"#);
    match id.as_bytes().first() {
        Some(b'o') => (200, record(r#""status":"ongoing""#)),
        Some(b's') => (200, record(r#""status":"completed""#)),
        Some(b'n') => (404, r#"{"error":{"code":"not_found","message":"no such call"}}"#.to_owned()),
        Some(b'f') => (500, r#"{"error":{"code":"internal","message":"failed"}}"#.to_owned()),
        Some(b'l') => (429, r#"{"error":{"code":"rate_limit_exceeded","message":"too many"}}"#.to_owned()),
        Some(b'h') => (200, "<html></html>".to_owned()),
        _ => (200, record(r#""status":"completed","endTime":1680000300,"summary":"a summary""#)),
    }
}

/// A vendor that holds calls, and writes down who asks for what.
#[derive(Default)]
struct Holder(Mutex<Vec<Asked>>);

/// One request, as it came to the vendor.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    request_id: String,
    workspace: String,
    has_key: bool,
}

impl Holder {
    fn log(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> Vec<Asked> {
        self.log().clone()
    }

    /// Every request was one of the two that there are, with our key, for one of our workspaces.
    fn has_been_asked_properly(&self) {
        for one in self.log().iter() {
            assert!(one.has_key && WORKSPACES.contains(&one.workspace.as_str()), "{one:?}");
            assert!(one.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{one:?}");
            let path = one.path.split('?').next().unwrap_or_default();
            assert!(!path.starts_with("/calls"), "{one:?}");
            match known(path) {
                Some(Known::Call(_, id)) => assert!(is_id(id.as_bytes()), "{one:?}"),
                Some(Known::List(_)) => {}
                None => panic!("{one:?}"),
            }
        }
    }
}

impl Vendor for Holder {
    fn send<'a>(
        &'a self,
        attempt: Attempt<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<VendorAnswer, UpstreamError>> + Send + 'a>> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let asked = Asked {
            path: attempt.path_and_query.to_owned(),
            request_id: text(&attempt.trace.request_id),
            workspace: text(attempt.workspace_id),
            has_key: attempt.key.header_value() == KEY,
        };
        let path = asked.path.split('?').next().unwrap_or_default();
        let id = match known(path) {
            Some(Known::Call(_, id)) => Some(id),
            Some(Known::List(_)) | None => None,
        };
        let (status, body) = held(id, &asked.workspace);
        let broken = id.is_some_and(|id| id.starts_with('e'));
        self.log().push(asked);
        Box::pin(async move {
            if broken {
                return Err(UpstreamError::Incomplete("on purpose".to_owned()));
            }
            let now = Instant::now();
            Ok(VendorAnswer {
                status: StatusCode::from_u16(status).expect("a status"),
                body: Bytes::from(body),
                content_type: Some(HeaderValue::from_static("application/json")),
                etag: None,
                last_modified: None,
                retry_after: None,
                date: None,
                source: None,
                sent: now,
                began: now,
            })
        })
    }
}
