//! What one replica's flight brought, as the others read it: the vendor's answer, so that each judges it by itself, or
//! the refusal that came of a request.
//!
//! Times cross by Redis's clock, since the replicas' own may differ. What takes no part in an answer is left out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    clock::UnixMillis,
    outcome::{ErrorCode, Refusal},
};

/// The largest body that is handed on, in bytes. Who waits for a larger one asks the vendor in turn.
const MOST: usize = 4 << 20;

/// What a flight brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The vendor's answer.
    Answer(LandedAnswer),
    /// There was none that could be passed on, and a request was spent on it.
    Refused(Refusal),
}

/// An answer of the vendor, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedAnswer {
    /// The status.
    pub status: StatusCode,
    /// The body, decoded.
    pub body: Bytes,
    /// `content-type`
    pub content_type: Option<HeaderValue>,
    /// `last-modified`
    pub last_modified: Option<HeaderValue>,
    /// `retry-after`
    pub retry_after: Option<HeaderValue>,
    /// `date`
    pub date: Option<UnixMillis>,
    /// When the request was sent.
    pub sent: Instant,
    /// When the answer began.
    pub began: Instant,
}

/// What stands before the body, on a line of its own.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    Answer(AnswerHead),
    Refused(RefusalHead),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerHead {
    status: u16,
    content_type: Option<String>,
    last_modified: Option<String>,
    retry_after: Option<String>,
    date: Option<i64>,
    sent: i64,
    began: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusalHead {
    code: String,
    detail: String,
    retry_in_ms: Option<u64>,
}

impl Landing {
    /// Written down at `now`, when the shared clock shows `time`; `None` for what is too large to be handed on.
    pub(super) fn encode(&self, now: Instant, time: UnixMillis) -> Option<Vec<u8>> {
        let at = |at: Instant| time.0.saturating_sub_unsigned(millis(now.saturating_duration_since(at)));
        let text = |value: &Option<HeaderValue>| value.as_ref()?.to_str().ok().map(str::to_owned);
        let (head, body) = match self {
            Self::Answer(answer) => {
                let head = AnswerHead {
                    status: answer.status.as_u16(),
                    content_type: text(&answer.content_type),
                    last_modified: text(&answer.last_modified),
                    retry_after: text(&answer.retry_after),
                    date: answer.date.map(|date| date.0),
                    sent: at(answer.sent),
                    began: at(answer.began),
                };
                (Head::Answer(head), &answer.body[..])
            }
            Self::Refused(refusal) => {
                let head = RefusalHead {
                    code: refusal.code.as_str().to_owned(),
                    detail: refusal.detail.clone().into_owned(),
                    retry_in_ms: refusal.retry_at.map(|at| millis(at.saturating_duration_since(now))),
                };
                (Head::Refused(head), &[][..])
            }
        };
        let mut bytes = serde_json::to_vec(&head).ok().filter(|_| body.len() <= MOST)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
        Some(bytes)
    }

    /// Read at `now`, when the shared clock shows `time`; `None` for what is none of this version's.
    pub(super) fn decode(bytes: &[u8], now: Instant, time: UnixMillis) -> Option<Self> {
        let end = memchr::memchr(b'\n', bytes)?;
        let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
        let body = Bytes::copy_from_slice(&bytes[end + 1..]);
        let ago = |at: i64| now.checked_sub(UnixMillis(at).elapsed_at(time));
        let value = |text: Option<String>| text.and_then(|text| HeaderValue::from_str(&text).ok());
        match head {
            Head::Answer(head) => Some(Self::Answer(LandedAnswer {
                status: StatusCode::from_u16(head.status).ok().filter(|status| travels(*status))?,
                body,
                content_type: value(head.content_type),
                last_modified: value(head.last_modified),
                retry_after: value(head.retry_after),
                date: head.date.map(UnixMillis),
                sent: ago(head.sent)?,
                began: ago(head.began)?,
            })),
            Head::Refused(head) => {
                let refusal = Refusal::new(handed_on(&head.code)?, head.detail);
                let retry_at = head.retry_in_ms.map(|ms| now + Duration::from_millis(ms));
                Some(Self::Refused(match retry_at {
                    Some(at) => refusal.retry_at(at),
                    None => refusal,
                }))
            }
        }
    }
}

/// What an answer that may travel on has for a status.
fn travels(status: StatusCode) -> bool {
    status == StatusCode::OK || status.is_client_error() || status.is_server_error()
}

/// The errors that cost a request, or a part of one: the others are each replica's own.
const HANDED_ON: [ErrorCode; 11] = [
    ErrorCode::RateLimitExceeded,
    ErrorCode::UpstreamUnreachable,
    ErrorCode::UpstreamError,
    ErrorCode::UpstreamIncomplete,
    ErrorCode::UpstreamTooLarge,
    ErrorCode::UpstreamInvalid,
    ErrorCode::UpstreamMismatch,
    ErrorCode::UpstreamCredentialsRejected,
    ErrorCode::UpstreamLeakedCredential,
    ErrorCode::UpstreamTimeout,
    ErrorCode::InternalError,
];

fn handed_on(code: &str) -> Option<ErrorCode> {
    HANDED_ON.into_iter().find(|known| known.as_str() == code)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_handed_on_is_what_came_by_the_readers_own_clock() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let time = |seconds: i64| UnixMillis(1_800_000_000_000 + seconds * 1_000);
        let written = start + 10 * second;
        let answer = LandedAnswer {
            status: StatusCode::OK,
            body: Bytes::from_static(b"{\"a\":\n\"\xff\"}"),
            content_type: Some(HeaderValue::from_static("application/json")),
            last_modified: None,
            retry_after: Some(HeaderValue::from_static("7")),
            date: Some(UnixMillis(1_700_000_000_000)),
            sent: start + 8 * second,
            began: start + 9 * second,
        };
        let bytes = Landing::Answer(answer.clone()).encode(written, time(10)).expect("small");
        // Three seconds later, at a reader whose own clock began elsewhere.
        let read = Landing::decode(&bytes, start + 40 * second, time(13));
        let moved = LandedAnswer { sent: start + 35 * second, began: start + 36 * second, ..answer };
        assert_eq!(read, Some(Landing::Answer(moved)));

        let refusal = Refusal::new(ErrorCode::UpstreamTimeout, "nothing came").retry_at(written + 3 * second);
        let bytes = Landing::Refused(refusal.clone()).encode(written, time(10)).expect("small");
        let read = Landing::decode(&bytes, start + 40 * second, time(13));
        assert_eq!(read, Some(Landing::Refused(refusal.retry_at(start + 43 * second))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_none_is_not_read_and_what_is_too_large_not_written() {
        let now = Instant::now();
        for bytes in [
            &b""[..],
            b"\n",
            b"{}\n",
            b"{\"answer\":{}}\n",
            b"{\"refused\":{\"code\":\"overloaded\",\"detail\":\"\",\"retry_in_ms\":null}}\n",
            b"[]\n",
            b"{\"answer\":{\"status\":301,\"content_type\":null,\"last_modified\":null,\"retry_after\":null,\"date\":null,\"sent\":0,\"began\":0}}\n",
            b"{\"answer\":null,\"refused\":null,\"more\":1}\n",
            b"{\"refused\":{\"code\":\"upstream_timeout\",\"detail\":\"\",\"retry_in_ms\":null},\"more\":1}\n",
        ] {
            assert_eq!(Landing::decode(bytes, now, UnixMillis(0)), None, "{bytes:?}");
        }
        let large = LandedAnswer {
            status: StatusCode::OK,
            body: vec![b' '; MOST + 1].into(),
            content_type: None,
            last_modified: None,
            retry_after: None,
            date: None,
            sent: now,
            began: now,
        };
        assert_eq!(Landing::Answer(large).encode(now, UnixMillis(0)), None);
    }
}
