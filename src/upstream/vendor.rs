//! The vendor, as far as the gateway sees it: one try, one answer. The seam at which tests put a scripted vendor in the
//! place of the one over HTTP, and the values that cross it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{connect::Line, credentials::ApiKey, error::UpstreamError};
use crate::{clock::UnixMillis, trace::Trace};

/// What one try sends.
pub struct Attempt<'a> {
    /// Path and query, from [`crate::call::CacheKey::path_and_query`].
    pub path_and_query: &'a str,
    /// The key.
    pub key: &'a Arc<ApiKey>,
    /// The workspace's id.
    pub workspace_id: &'a HeaderValue,
    /// Request id and trace.
    pub trace: &'a Trace,
    /// Every key there is: none of them may stand in an answer.
    pub secrets: &'a [Arc<ApiKey>],
    /// When the answer must be complete.
    pub deadline: Instant,
}

/// Where an answer came from. What follows on the same connection cannot be told from an answer that nobody asked for,
/// so one that turns out not to belong to its request is reason to leave the connection.
#[derive(Clone, Debug)]
pub struct Source {
    /// The connection.
    pub(super) line: Line,
    /// Whether another request had gone over it before.
    pub(super) reused: bool,
}

impl Source {
    /// Lets neither this connection nor the others that there are serve a further request: what one of them brought
    /// unasked may wait on the others as well.
    pub fn distrust(&self) {
        self.line.distrust_all();
    }

    /// Whether another request had gone over the connection before.
    #[must_use]
    pub fn was_reused(&self) -> bool {
        self.reused
    }
}

#[cfg(test)]
impl Source {
    /// A connection that is none, for a vendor without sockets.
    pub(crate) fn scripted(reused: bool) -> Self {
        Self { line: Line::detached(), reused }
    }
}

/// One try, one answer.
pub trait Vendor: Send + Sync {
    /// Sends one request and reads the answer to its end.
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<VendorAnswer, UpstreamError>>;
}

/// An answer of the vendor that may travel on: 200, or a 4xx or 5xx that says something about the call.
#[derive(Clone, Debug)]
pub struct VendorAnswer {
    /// The status.
    pub status: StatusCode,
    /// The body, decoded.
    pub body: Bytes,
    /// `content-type`
    pub content_type: Option<HeaderValue>,
    /// `etag`, which nothing but a diagnosis asks for: what callers get is made of the body.
    pub etag: Option<HeaderValue>,
    /// `last-modified`
    pub last_modified: Option<HeaderValue>,
    /// `retry-after`
    pub retry_after: Option<HeaderValue>,
    /// The vendor's clock: its `date`.
    pub date: Option<UnixMillis>,
    /// The connection that it came over, where it came over one.
    pub source: Option<Source>,
    /// When the request was sent: what the record says it says as of then, or later.
    pub sent: Instant,
    /// When the head of the answer had come.
    pub began: Instant,
}
