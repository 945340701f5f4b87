//! What probes and scrapers ask for: whether the process lives, whether it is ready, and what was counted. It reads other
//! parts' state and changes none of it.

use std::{fmt::Write as _, sync::atomic::Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use tokio::time::Instant;

use super::{Parts, READ, Refused, body};
use crate::{
    metrics::{EvictionReason, Snapshot, TierUse, WorkspaceBudget},
    upstream::{breaker::Circuit, budget::gate::KeyState},
};

const PLAIN: &str = "text/plain; charset=utf-8";

/// Answers a probe; `None` where the path is none of theirs.
pub(super) async fn answer(parts: &Parts, request: &Request<()>) -> Option<Result<Response<Bytes>, Refused>> {
    let path = request.uri().path();
    if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
        return None;
    }
    if let Err(refused) = READ.check(request.method()) {
        return Some(Err(refused));
    }
    Some(Ok(match path {
        "/healthz" => body(StatusCode::OK, PLAIN, "ok\n"),
        "/readyz" => readyz(parts).await,
        _metrics => metrics(parts, request).await,
    }))
}

async fn readyz(parts: &Parts) -> Response<Bytes> {
    let reasons = parts.readiness.reasons().await;
    if reasons.is_empty() {
        return body(StatusCode::OK, PLAIN, "ready\n");
    }
    let lines = reasons.iter().fold(String::new(), |mut lines, reason| {
        // Writing to a `String` cannot fail.
        let _ = writeln!(lines, "{reason}");
        lines
    });
    body(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines)
}

async fn metrics(parts: &Parts, request: &Request<()>) -> Response<Bytes> {
    let store = parts.lookup.store();
    let totals = store.totals().await;
    let evicted = totals.iter().map(|(_, totals)| totals.evicted).sum();
    let expired = totals.iter().map(|(_, totals)| totals.expired).sum();
    let tiers = totals.into_iter().map(|(tier, t)| TierUse { tier, entries: t.entries, bytes: t.bytes });
    let ready = parts.readiness.reasons().await.is_empty();
    let now = Instant::now();
    let upstream = parts.lookup.upstream();
    let budgets = upstream.budgets(now);
    let rejected = upstream.rejected(now);
    let budget = |(name, key): &(&str, KeyState)| WorkspaceBudget {
        workspace: (*name).to_owned(),
        remaining: key.remaining as u64,
        limit: key.limit as u64,
        waiting: key.waiting as u64,
        rejected: rejected.contains(name),
    };
    let snapshot = Snapshot {
        connections: parts.connections.load(Ordering::Relaxed) as u64,
        tiers: tiers.collect(),
        evictions: vec![
            (EvictionReason::Size, evicted),
            (EvictionReason::Expired, expired),
            (EvictionReason::Purged, store.purged()),
        ],
        cooldown: budgets.iter().map(|(_, key)| key.pause).max().unwrap_or_default(),
        budgets: budgets.iter().map(budget).collect(),
        circuit: match upstream.circuit(now) {
            Circuit::Closed => 0,
            Circuit::HalfOpen => 1,
            Circuit::Open => 2,
        },
        ready,
        beyond: store.beyond_memory(),
        replicas: store.replicas(),
    };
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (content_type, text) = parts.metrics.render(accept, snapshot);
    body(StatusCode::OK, content_type, text)
}
