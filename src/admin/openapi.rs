//! `GET /openapi.json`: both endpoints as OpenAPI 3.1, written by hand and held to what is answered by
//! `tests/watch/described.rs` and `tests/openapi`.

use http::{Request, Response, StatusCode};

use bytes::Bytes;

use super::{JSON, READ, Refused, body};

const PATH: &str = "/openapi.json";

const DOCUMENT: &str = include_str!("openapi.json");

/// Answers with the description; `None` where the path is another's.
pub(super) fn answer<B>(request: &Request<B>) -> Option<Result<Response<Bytes>, Refused>> {
    if request.uri().path() != PATH {
        return None;
    }
    Some(READ.check(request.method()).map(|()| body(StatusCode::OK, JSON, DOCUMENT)))
}
