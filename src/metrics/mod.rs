//! What the gateway counts about itself, and the text in which a scraper reads it.
//!
//! It knows the words of [`crate::outcome`], and neither HTTP messages nor the parts that it counts for: those call
//! [`Metrics::request`] and its neighbours, or, where they keep the number themselves (connections, the weight of the
//! cache), have it read into a [`Snapshot`] at the moment of a scrape.
//!
//! Promised: counting is a few relaxed additions, without a lock, an allocation or a hash, so that it may stand on the
//! path of every hit; no id, address or name of a caller's choosing is ever a label, so that the number of series is
//! bounded by this file.
//!
//! A family comes in one of two ways. What is counted here is a field of `families::Families` and a line in its
//! `encode`; what is mirrored is a field of [`Snapshot`] and a line in its own.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use http::StatusCode;
use prometheus_client::{encoding::text, registry::Registry};

use crate::outcome::{CacheLabel, ErrorCode};

mod exposition;
mod families;
mod histogram;
pub mod latest;
mod snapshot;
mod totals;

pub use latest::Latest;
pub use snapshot::{EvictionReason, Snapshot, TierUse, WorkspaceBudget};
pub use totals::Totals;

use families::Families;

/// The `route` label of the request metrics: what was asked for, never the path itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteLabel {
    /// One call, by any of its three paths.
    Lookup,
    /// A list of calls.
    List,
    /// What is served nowhere.
    Other,
}

impl RouteLabel {
    /// Every label, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Lookup, Self::List, Self::Other];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::List => "list",
            Self::Other => "other",
        }
    }
}

/// All counters of one gateway; a clone counts into the same ones.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    families: Arc<Families>,
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts an answered request of the internal endpoint; `took` runs from its head to the answer's.
    pub fn request(&self, route: RouteLabel, cache: CacheLabel, status: StatusCode, took: Duration) {
        let requests = self.families.requests(route, cache);
        requests.by_status.count(status);
        requests.duration.observe(took);
    }

    /// Counts a request to the vendor as under way until what is returned is ended or dropped. Every try is one.
    #[must_use = "the request counts as ended when this is dropped"]
    pub fn upstream_started(&self) -> InFlight {
        self.families.upstream_in_flight.fetch_add(1, Relaxed);
        // What a panic or an abort leaves behind.
        InFlight { families: Arc::clone(&self.families), result: Err(ErrorCode::InternalError) }
    }

    /// Counts another try of a request to the vendor.
    pub fn upstream_retry(&self) {
        self.families.upstream_retries.fetch_add(1, Relaxed);
    }

    /// Counts a request to the vendor that got its turn after so long.
    pub fn budget_waited(&self, waited: Duration) {
        self.families.budget_wait.observe(waited);
    }

    /// Counts one that got none.
    pub fn budget_rejected(&self) {
        self.families.budget_rejected.fetch_add(1, Relaxed);
    }

    /// All families as text, with `now` for what other parts count: content type and body.
    ///
    /// OpenMetrics 1.0 where `accept` prefers it, else the older Prometheus text format 0.0.4, which everything reads.
    #[must_use]
    pub fn render(&self, accept: Option<&str>, now: Snapshot) -> (&'static str, String) {
        let mut registry = Registry::with_prefix("callgate");
        registry.register_collector(Box::new(Arc::clone(&self.families)));
        registry.register_collector(Box::new(now));
        let mut body = String::with_capacity(16 * 1024);
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut body, &registry);
        if exposition::prefers_openmetrics(accept) {
            (exposition::OPENMETRICS, body)
        } else {
            (exposition::PROMETHEUS, exposition::to_prometheus(&body))
        }
    }
}

/// A request to the vendor that is under way. Dropped without an end it is counted as `internal_error`, and its
/// duration nowhere.
#[derive(Debug)]
pub struct InFlight {
    families: Arc<Families>,
    result: Result<StatusCode, ErrorCode>,
}

impl InFlight {
    /// Ends it: how long it took from sending to the body's last byte, and the vendor's status or what went wrong.
    pub fn ended(mut self, took: Duration, result: Result<StatusCode, ErrorCode>) {
        self.result = result;
        self.families.upstream_duration.observe(took);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.families.upstream_in_flight.fetch_sub(1, Relaxed);
        match self.result {
            Ok(status) => self.families.upstream_by_status.count(status),
            Err(code) => self.families.upstream_by_error.count(code),
        }
    }
}

#[cfg(test)]
mod tests;
