//! What the status page shows, as a value that is written as JSON. It asks the parts, which settle what they count
//! lazily before they say, and changes none of them.
//!
//! Counts are running totals since the start; who wants a rate polls and subtracts. Never in it: a body, a query, an
//! address, a credential; what callers chose themselves are ids and user agents.

use std::{sync::atomic::Ordering, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use tokio::time::Instant;

use super::Parts;
use crate::{
    metrics::{
        Totals,
        latest::{self, millis},
    },
    outcome::{CacheLabel, Tier},
    replicas, store,
    upstream::{breaker::Circuit, budget::gate::KeyState},
};

/// Everything that is shown.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    /// In milliseconds since 1970.
    now: i64,
    uptime_seconds: f64,
    ready: bool,
    reasons: Vec<String>,
    draining: bool,
    requests: Requests,
    /// Of the lookups and lists that the cache had a part in, how many were answered from what was kept; null before
    /// the first.
    hit_ratio: Option<f64>,
    vendor: Vendor,
    workspaces: Vec<Workspace>,
    /// Open ones, of callers.
    connections: usize,
    tiers: Vec<TierStatus>,
    replicas: Replicas,
    /// The latest first. Of hits only a few a second are among them.
    latest: Vec<Request>,
}

#[derive(Debug, Serialize)]
struct Requests {
    total: u64,
    by_outcome: ByOutcome,
    by_class: ByClass,
}

/// Written with every label, in their order.
#[derive(Debug)]
struct ByOutcome([u64; CacheLabel::ALL.len()]);

impl Serialize for ByOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (label, n) in CacheLabel::ALL.iter().zip(self.0) {
            map.serialize_entry(label.as_str(), &n)?;
        }
        map.end()
    }
}

/// Written from `1xx` to `5xx`.
#[derive(Debug)]
struct ByClass([u64; 5]);

impl Serialize for ByClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(self.0))
    }
}

#[derive(Debug, Serialize)]
struct Vendor {
    /// Lookups and lists that callers got an answer of use to.
    answered: u64,
    /// Requests that this took.
    requests: u64,
    /// What is between the two; 0 where it took more.
    saved: u64,
    in_flight: u64,
    retries: u64,
    /// Lookups and lists that were turned away with 429 or 503: no budget in time, a pause, a full queue, an open
    /// circuit.
    refused: u64,
    circuit: &'static str,
    latency: Latency,
}

#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    sum_seconds: f64,
    /// Cumulative, as Prometheus has them; what took longer than the last is in `count` alone.
    buckets: Vec<Bucket>,
}

#[derive(Debug, Serialize)]
struct Bucket {
    /// In seconds.
    le: f64,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Workspace {
    name: String,
    /// Requests a minute, of all replicas together.
    limit: usize,
    remaining: usize,
    pause_seconds: f64,
}

#[derive(Debug, Serialize)]
struct TierStatus {
    tier: &'static str,
    entries: u64,
    bytes: u64,
    /// Null where it is not for us to say.
    capacity: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Replicas {
    state: &'static str,
    /// This one among them; as many as were last seen where Redis is gone.
    count: u32,
}

#[derive(Debug, Serialize)]
struct Request {
    /// In milliseconds since 1970.
    at: i64,
    route: &'static str,
    id: Option<String>,
    outcome: &'static str,
    reason: Option<&'static str>,
    status: u16,
    duration_ms: f64,
    agent: Option<String>,
}

impl Status {
    /// What there is to show now.
    pub(super) async fn read(parts: &Parts) -> Self {
        let tiers = parts.lookup.store().totals().await;
        let reasons = parts.readiness.reasons().await;
        let now = Instant::now();
        let totals = parts.metrics.totals();
        let upstream = parts.lookup.upstream();
        let budgets = upstream.budgets(now);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            now: parts.clock.at(now).0,
            uptime_seconds: seconds(parts.latest.began().elapsed()),
            ready: reasons.is_empty(),
            reasons,
            draining: parts.readiness.is_draining(),
            requests: Requests {
                total: totals.by_cache.iter().sum(),
                by_outcome: ByOutcome(totals.by_cache),
                by_class: ByClass(totals.by_class),
            },
            hit_ratio: hit_ratio(&totals),
            vendor: vendor(&totals, upstream.circuit(now)),
            workspaces: budgets.into_iter().map(workspace).collect(),
            connections: parts.connections.load(Ordering::Relaxed),
            tiers: tiers.into_iter().map(|(tier, totals)| tier_status(parts, tier, totals)).collect(),
            replicas: replicas(parts),
            latest: parts.latest.all().into_iter().map(|request| shown(parts, request)).collect(),
        }
    }

    /// As JSON.
    pub(super) fn json(&self) -> String {
        // Serializing strings and numbers cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The share that a kept call answered, of what asked the cache: as the recording rule of the same name has it. A failure
/// that is answered again is no hit, or the ratio would rise while the vendor is away.
fn hit_ratio(totals: &Totals) -> Option<f64> {
    let (mut kept, mut all) = (0, 0);
    for (label, n) in CacheLabel::ALL.into_iter().zip(totals.by_cache) {
        let (is_kept, counts) = match label {
            CacheLabel::Hit | CacheLabel::Stale => (true, true),
            CacheLabel::Negative | CacheLabel::Miss | CacheLabel::Collapsed | CacheLabel::Bypass => {
                (false, true)
            }
            CacheLabel::None => (false, false),
        };
        kept += if is_kept { n } else { 0 };
        all += if counts { n } else { 0 };
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people to look at")]
    (all > 0).then(|| kept as f64 / all as f64)
}

fn vendor(totals: &Totals, circuit: Circuit) -> Vendor {
    let count = totals.latency.last().map_or(0, |(_, count)| *count);
    let finite = totals.latency.iter().filter(|(bound, _)| bound.is_finite());
    Vendor {
        answered: totals.answered,
        requests: totals.upstream,
        saved: totals.answered.saturating_sub(totals.upstream),
        in_flight: totals.in_flight,
        retries: totals.retries,
        refused: totals.refused,
        circuit: match circuit {
            Circuit::Closed => "closed",
            Circuit::HalfOpen => "half-open",
            Circuit::Open => "open",
        },
        latency: Latency {
            count,
            sum_seconds: totals.latency_sum,
            buckets: finite.map(|(le, count)| Bucket { le: *le, count: *count }).collect(),
        },
    }
}

fn workspace((name, key): (&str, KeyState)) -> Workspace {
    Workspace {
        name: name.to_owned(),
        limit: key.limit,
        remaining: key.remaining,
        pause_seconds: seconds(key.pause),
    }
}

fn tier_status(parts: &Parts, tier: Tier, totals: store::Totals) -> TierStatus {
    TierStatus {
        tier: tier.as_str(),
        entries: totals.entries,
        bytes: totals.bytes,
        capacity: parts.capacities.iter().find(|(other, _)| *other == tier).map(|(_, capacity)| *capacity),
    }
}

fn replicas(parts: &Parts) -> Replicas {
    let (state, count) = match parts.replicas.as_ref().map(|state| *state.borrow()) {
        None => ("none", 1),
        Some(replicas::State::Together { replicas, .. }) => ("together", replicas),
        Some(replicas::State::Alone(replicas)) => ("alone", replicas),
    };
    Replicas { state, count }
}

fn shown(parts: &Parts, request: latest::Request) -> Request {
    Request {
        at: parts.clock.at(request.at).0,
        route: request.route.as_str(),
        id: request.id,
        outcome: request.cache.as_str(),
        reason: request.reason,
        status: request.status,
        duration_ms: millis(request.took),
        agent: request.agent,
    }
}

/// In seconds, to the millisecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_shown_to_the_millisecond() {
        for (nanos, shown) in [(0, "0.0"), (499_999, "0.0"), (1_100_000, "0.001"), (60_000_000_000, "60.0")] {
            assert_eq!(format!("{:?}", seconds(Duration::from_nanos(nanos))), shown, "{nanos}");
        }
    }
}
