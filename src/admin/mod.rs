//! The operators' endpoint, and the read-only one for scraping over a network:
//!
//! - `GET /healthz`: 200 while the process serves at all.
//! - `GET /readyz`: 200, or 503 with a line for each reason.
//! - `GET /metrics`: all counters, as Prometheus text or OpenMetrics.
//!
//! It reads other parts' state and changes none of it. The same guard stands before it as before the internal
//! endpoint: a web page must not read the counters either.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::ready;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::Instant;

pub mod readiness;

use readiness::Readiness;

use crate::{
    clock::Clock,
    downstream::{AllowedHosts, connection::Handler, guard, problem, socket::Peer},
    lookup::Lookup,
    metrics::{EvictionReason, Metrics, Snapshot, TierUse},
    outcome::{ErrorCode, Refusal},
    trace::{Trace, X_REQUEST_ID},
    upstream::breaker::Circuit,
};

const PLAIN: &str = "text/plain; charset=utf-8";

/// The operators' endpoint. A clone is the same endpoint.
#[derive(Clone)]
pub struct Admin {
    parts: Arc<Parts>,
    hosts: Arc<AllowedHosts>,
}

/// What the admin endpoint looks at.
pub struct Parts {
    /// Whether requests should be sent here.
    pub readiness: Arc<Readiness>,
    /// What is kept.
    pub lookup: Arc<Lookup>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// The time of day, for what callers are told.
    pub clock: Arc<Clock>,
    /// Open connections of the internal endpoint.
    pub connections: Arc<AtomicUsize>,
}

impl Admin {
    /// An endpoint of these parts, which answers to `hosts`.
    #[must_use]
    pub fn new(parts: Arc<Parts>, hosts: AllowedHosts) -> Self {
        Self { parts, hosts: Arc::new(hosts) }
    }
}

impl Handler for Admin {
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Bytes>> + Send + use<> {
        let trace = Trace::from_headers(request.headers());
        let answer =
            guard::check(&request, &self.hosts, peer.is_unix()).and_then(|()| self.parts.answer(&request));
        let mut response = answer.unwrap_or_else(|refusal| {
            tracing::debug!(%peer, reason = refusal.code.as_str(), "admin request refused");
            problem::problem(&refusal, "GET, HEAD", Instant::now(), &self.parts.clock)
        });
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, trace.request_id);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        ready(response)
    }
}

impl Parts {
    fn answer<B>(&self, request: &Request<B>) -> Result<Response<Bytes>, Refusal> {
        let path = request.uri().path();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            return Err(Refusal::new(ErrorCode::RouteNotFound, "there are /healthz, /readyz and /metrics"));
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err(Refusal::new(ErrorCode::MethodNotAllowed, "this is read with GET or HEAD"));
        }
        Ok(match path {
            "/healthz" => text(StatusCode::OK, PLAIN, "ok\n".to_owned()),
            "/readyz" => self.readyz(),
            _metrics => self.metrics(request),
        })
    }

    fn readyz(&self) -> Response<Bytes> {
        let reasons = self.readiness.reasons(Instant::now());
        if reasons.is_empty() {
            return text(StatusCode::OK, PLAIN, "ready\n".to_owned());
        }
        let lines = reasons.iter().fold(String::new(), |mut lines, reason| {
            // Writing to a `String` cannot fail.
            let _ = writeln!(lines, "{reason}");
            lines
        });
        text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines)
    }

    fn metrics<B>(&self, request: &Request<B>) -> Response<Bytes> {
        let totals = self.lookup.store().totals();
        let evicted = totals.iter().map(|(_, totals)| totals.evicted).sum();
        let expired = totals.iter().map(|(_, totals)| totals.expired).sum();
        let tiers = totals.into_iter().map(|(tier, t)| TierUse { tier, entries: t.entries, bytes: t.bytes });
        let now = Instant::now();
        let upstream = self.lookup.upstream();
        let budgets = upstream.budgets(now);
        let snapshot = Snapshot {
            connections: self.connections.load(Ordering::Relaxed) as u64,
            tiers: tiers.collect(),
            evictions: vec![(EvictionReason::Size, evicted), (EvictionReason::Expired, expired)],
            cooldown: budgets.iter().map(|(_, key)| key.pause).max().unwrap_or_default(),
            budgets: budgets.iter().map(|(name, key)| ((*name).to_owned(), key.remaining as u64)).collect(),
            circuit: match upstream.circuit(now) {
                Circuit::Closed => 0,
                Circuit::HalfOpen => 1,
                Circuit::Open => 2,
            },
        };
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let (content_type, body) = self.metrics.render(accept, snapshot);
        text(StatusCode::OK, content_type, body)
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
