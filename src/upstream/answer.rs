//! What the vendor said: the few parts of an answer that may travel on, and the rules by which the rest is refused.
//!
//! The decisions are pure; only `read` touches the network, and it reads no more than it may hold. Nothing that is
//! kept here pins a connection's read buffer: header values are copied into their own allocations.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body as _, Incoming},
    ext::ReasonPhrase,
};
use tokio::time::{Instant, timeout};

use super::{
    credentials::ApiKey,
    decode,
    error::UpstreamError,
    vendor::{Attempt, VendorAnswer},
};
use crate::{causes::chain, clock::UnixMillis};

/// How long the body of a 429 may take to come.
const LIMITED_PATIENCE: Duration = Duration::from_secs(1);

/// So much of a body is decoded in one go.
const YIELD_AFTER: usize = 64 << 10;

/// Whether a status may travel on at all. What is no 200 and no error is an answer to nothing that was asked:
/// no range, no condition and no upgrade were, and redirects are not followed.
fn admissible(status: StatusCode) -> Result<(), UpstreamError> {
    match status.as_u16() {
        200 => Ok(()),
        401 | 403 => Err(UpstreamError::CredentialsRejected(status.as_u16())),
        502..=504 => Err(UpstreamError::Failing(status.as_u16())),
        400..=599 => Ok(()),
        other => Err(UpstreamError::Invalid(format!("status {other}").into())),
    }
}

/// Whether the framing can be read in one way only (RFC 9112 §6.3). hyper takes `transfer-encoding` over
/// `content-length`, a list of equal lengths for one, and reads on until the end for codings that it does not know; an
/// attacker between may have meant the other reading.
fn framing(headers: &HeaderMap) -> Result<(), UpstreamError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (None, _, None, _) => Ok(()),
        (None, _, Some(length), None) if length.as_bytes().iter().all(u8::is_ascii_digit) => Ok(()),
        (Some(coding), None, None, _) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(UpstreamError::Invalid("ambiguous framing".into())),
    }
}

/// The single value of `content-encoding`.
fn encoding(headers: &HeaderMap) -> Result<Option<&HeaderValue>, UpstreamError> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(UpstreamError::Invalid("several content-encodings".into())),
    }
}

/// Whether the key stands in the head: a field, or the reason phrase.
fn leaks_in_head(head: &response::Parts, key: &ApiKey) -> bool {
    head.headers.values().any(|value| key.occurs_in(value.as_bytes()))
        || head.headers.keys().any(|name| key.occurs_in(name.as_str().as_bytes()))
        || head.extensions.get::<ReasonPhrase>().is_some_and(|reason| key.occurs_in(reason.as_bytes()))
}

/// An answer, or why it goes no further, and whether its connection may serve on.
pub(super) struct Read {
    /// What may travel on.
    pub(super) answer: Result<VendorAnswer, UpstreamError>,
    /// Whether the whole of the answer was read and could be read in one way only: if not, what follows on the
    /// connection cannot be told from the rest of it.
    pub(super) sound: bool,
}

/// Reads an answer to its end, or refuses it. Where several refusals fit the order is: leaked, credentials, invalid;
/// so what is refused for its status is read all the same.
///
/// The caller bounds the time; `sent` is when the request was sent.
pub(super) async fn read(
    response: http::Response<Incoming>,
    attempt: &Attempt<'_>,
    max_body: usize,
    sent: Instant,
) -> Read {
    let began = Instant::now();
    let (head, mut incoming) = response.into_parts();
    if head.status == StatusCode::TOO_MANY_REQUESTS {
        return limited(&head, incoming, attempt, max_body, sent).await;
    }
    if attempt.secrets.iter().any(|key| leaks_in_head(&head, key)) {
        return Read { answer: Err(UpstreamError::LeakedCredential), sound: false };
    }
    let collected = collect(&head.headers, &mut incoming, attempt.secrets, max_body).await;
    // The body was read to its end, whatever stood in it.
    let sound = matches!(collected, Ok(_) | Err(UpstreamError::LeakedCredential)) && incoming.is_end_stream();
    let answer = match (collected, admissible(head.status)) {
        (Err(UpstreamError::LeakedCredential), _) => Err(UpstreamError::LeakedCredential),
        (_, Err(refused)) => Err(refused),
        (Err(error), Ok(())) => Err(error),
        (Ok(body), Ok(())) => Ok(passed_on(&head, body, sent, began)),
    };
    Read { answer, sound }
}

/// Reads a 429. Its head says enough, whatever becomes of its body: the pause has to be kept, and nothing of the answer
/// goes any further, so what is cut, encoded in vain, slow or holds the key is only left out.
async fn limited(
    head: &response::Parts,
    mut incoming: Incoming,
    attempt: &Attempt<'_>,
    max_body: usize,
    sent: Instant,
) -> Read {
    let began = Instant::now();
    let body =
        timeout(LIMITED_PATIENCE, collect(&head.headers, &mut incoming, attempt.secrets, max_body)).await;
    let sound = matches!(body, Ok(Ok(_))) && incoming.is_end_stream();
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    let answer =
        VendorAnswer { content_type: None, last_modified: None, ..passed_on(head, body, sent, began) };
    Read { answer: Ok(answer), sound }
}

/// What travels on of an answer.
fn passed_on(head: &response::Parts, body: Bytes, sent: Instant, began: Instant) -> VendorAnswer {
    VendorAnswer {
        status: head.status,
        content_type: copied(&head.headers, header::CONTENT_TYPE),
        etag: copied(&head.headers, header::ETAG),
        last_modified: copied(&head.headers, header::LAST_MODIFIED),
        retry_after: copied(&head.headers, header::RETRY_AFTER),
        date: head
            .headers
            .get(header::DATE)
            .and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok())
            .map(UnixMillis::from),
        source: None,
        sent,
        began,
        body,
    }
}

/// The body, whole and decoded.
async fn collect(
    headers: &HeaderMap,
    incoming: &mut Incoming,
    secrets: &[Arc<ApiKey>],
    max_body: usize,
) -> Result<Bytes, UpstreamError> {
    framing(headers)?;
    let mut body = decode::Body::new(encoding(headers)?.map(HeaderValue::as_bytes), max_body)?;
    if incoming.size_hint().lower() > max_body as u64 {
        return Err(UpstreamError::TooLarge);
    }
    let leaks = |bytes: &[u8]| secrets.iter().any(|key| key.occurs_in(bytes));
    let mut unyielded = 0;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| match is_malformed(&e) {
            true => UpstreamError::Invalid(chain(&e).into()),
            false => UpstreamError::Incomplete(chain(&e)),
        })?;
        if let Some(data) = frame.data_ref() {
            body.push(data)?;
            // Decoding is work; others, and the deadline, must have their turn between two pieces of it.
            unyielded += data.len();
            if unyielded >= YIELD_AFTER {
                unyielded = 0;
                tokio::task::yield_now().await;
            }
        } else if frame.trailers_ref().is_some_and(|t| t.values().any(|v| leaks(v.as_bytes()))) {
            return Err(UpstreamError::LeakedCredential);
        }
    }
    let body = body.finish()?;
    if secrets.iter().any(|key| key.occurs_in_json(&body)) {
        Err(UpstreamError::LeakedCredential)
    } else {
        Ok(body)
    }
}

/// Whether a body broke off because its framing cannot be read, rather than because nothing more came. hyper tells of
/// chunks that are none by the kind of an I/O error.
fn is_malformed(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    let unreadable = |e: &std::io::Error| {
        matches!(e.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
    };
    error.is_parse() || io.is_some_and(unreadable)
}

/// A field's first value in an allocation of its own.
fn copied(headers: &HeaderMap, name: HeaderName) -> Option<HeaderValue> {
    headers.get(name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_200_and_no_error_goes_no_further() {
        let code = |status: u16| admissible(StatusCode::from_u16(status).expect("a status"));
        for status in [200, 400, 404, 405, 410, 418, 422, 429, 451, 499, 500, 501, 505, 599] {
            assert_eq!(code(status), Ok(()), "{status}");
        }
        for status in [401, 403] {
            assert_eq!(code(status), Err(UpstreamError::CredentialsRejected(status)));
        }
        for status in [502, 503, 504] {
            assert_eq!(code(status), Err(UpstreamError::Failing(status)));
        }
        for status in [101, 201, 202, 203, 204, 205, 206, 226, 300, 301, 302, 303, 304, 307, 308, 600, 999] {
            assert!(matches!(code(status), Err(UpstreamError::Invalid(_))), "{status}");
        }
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_refused() {
        let check = |fields: &[(&'static str, &'static str)]| {
            let fields =
                fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
            let mut headers = HeaderMap::new();
            fields.for_each(|(name, value)| {
                headers.append(name, value);
            });
            framing(&headers).is_ok()
        };
        let (te, cl) = ("transfer-encoding", "content-length");
        assert!(check(&[]));
        assert!(check(&[(cl, "5")]));
        assert!(check(&[(te, "chunked")]) && check(&[(te, "Chunked")]));
        assert!(!check(&[(cl, "5"), (cl, "5")]));
        assert!(!check(&[(cl, "5, 5")]) && !check(&[(cl, "+5")]));
        assert!(!check(&[(te, "chunked"), (cl, "5")]));
        assert!(!check(&[(te, "chunked"), (te, "chunked")]));
        assert!(!check(&[(te, "gzip, chunked")]) && !check(&[(te, "gzip")]) && !check(&[(te, "")]));
    }
}
