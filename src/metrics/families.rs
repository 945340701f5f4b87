//! The families that are counted here, and how each is written out.
//!
//! Every counter has its fixed place, found by the discriminants of its labels, so counting never looks anything up.
//! A series is shown from its first count on: most of the combinations never occur, and a screenful of zeros hides
//! those that do.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use http::StatusCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{
    RouteLabel,
    histogram::{Histogram, UPSTREAM},
};
use crate::outcome::{CacheLabel, ErrorCode};

/// Everything that is counted here.
#[derive(Debug)]
pub(super) struct Families {
    requests: [[Requests; CacheLabel::ALL.len()]; RouteLabel::ALL.len()],
    pub(super) upstream_by_status: ByStatus,
    pub(super) upstream_by_error: ByError,
    pub(super) upstream_duration: Histogram,
    pub(super) upstream_in_flight: AtomicI64,
    pub(super) upstream_retries: AtomicU64,
    pub(super) budget_wait: Histogram,
    pub(super) budget_rejected: AtomicU64,
}

/// The requests that share their route and cache labels.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) by_status: ByStatus,
    pub(super) duration: Histogram,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            upstream_by_status: ByStatus::default(),
            upstream_by_error: ByError::default(),
            upstream_duration: Histogram::of(&UPSTREAM),
            upstream_in_flight: AtomicI64::new(0),
            upstream_retries: AtomicU64::new(0),
            budget_wait: Histogram::of(&UPSTREAM),
            budget_rejected: AtomicU64::new(0),
        }
    }
}

impl Families {
    /// The place of two labels.
    pub(super) fn requests(&self, route: RouteLabel, cache: CacheLabel) -> &Requests {
        &self.requests[route as usize][cache as usize]
    }

    /// Every pair of labels with its place.
    pub(super) fn all_requests(&self) -> impl Iterator<Item = (RouteLabel, CacheLabel, &Requests)> {
        RouteLabel::ALL.into_iter().flat_map(move |route| {
            CacheLabel::ALL.into_iter().map(move |cache| (route, cache, self.requests(route, cache)))
        })
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let seconds = Unit::Seconds;

        let mut family = encoder.encode_descriptor(
            "requests",
            "answered requests of the internal endpoint, by what was asked for and what the cache did",
            None,
            MetricType::Counter,
        )?;
        for (route, cache, requests) in self.all_requests() {
            for (code, n) in requests.by_status.counted() {
                let labels = [("route", route.as_str()), ("cache", cache.as_str()), ("code", &code)];
                counter(&mut family, &labels, n)?;
            }
        }

        let mut family = encoder.encode_descriptor(
            "request_duration",
            "from a request's head to its answer's",
            Some(&seconds),
            MetricType::Histogram,
        )?;
        for (route, cache, requests) in self.all_requests().filter(|(_, _, r)| !r.duration.is_empty()) {
            let labels = [("route", route.as_str()), ("cache", cache.as_str())];
            requests.duration.encode(family.encode_family(&labels)?)?;
        }

        let mut family = encoder.encode_descriptor(
            "upstream_requests",
            "requests sent to the vendor, every try for itself, by its status or by what went wrong",
            None,
            MetricType::Counter,
        )?;
        for (code, n) in self.upstream_by_status.counted() {
            counter(&mut family, &[("code", code.as_str())], n)?;
        }
        for (code, n) in self.upstream_by_error.counted() {
            counter(&mut family, &[("code", code)], n)?;
        }

        let family = encoder.encode_descriptor(
            "upstream_request_duration",
            "from sending a request to the vendor to the last byte of its answer",
            Some(&seconds),
            MetricType::Histogram,
        )?;
        self.upstream_duration.encode(family)?;

        encoder
            .encode_descriptor(
                "upstream_in_flight",
                "requests to the vendor that are under way",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&self.upstream_in_flight.load(Relaxed))?;

        encoder
            .encode_descriptor(
                "upstream_retries",
                "tries beyond the first of a request to the vendor",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, u64, f64>(&self.upstream_retries.load(Relaxed), None)?;

        let family = encoder.encode_descriptor(
            "budget_wait",
            "what requests to the vendor waited for their turn",
            Some(&seconds),
            MetricType::Histogram,
        )?;
        self.budget_wait.encode(family)?;

        encoder
            .encode_descriptor(
                "budget_rejected",
                "requests to the vendor that got no turn, those in the background too: no budget in time, a pause, a full queue, \
                 an open circuit",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, u64, f64>(&self.budget_rejected.load(Relaxed), None)?;

        encoder
            .encode_descriptor("build", "the version that runs", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

/// Writes one sample of a counter.
fn counter(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, n: u64) -> std::fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, u64, f64>(&n, None)
}

/// One counter for each status that is ever sent or let in.
#[derive(Debug)]
pub(super) struct ByStatus([AtomicU64; Self::LAST - Self::FIRST + 1]);

impl ByStatus {
    const FIRST: usize = 100;
    const LAST: usize = 599;

    /// Counts one. The vendor may say 999, which is refused, but counted all the same: under the last of the statuses.
    pub(super) fn count(&self, status: StatusCode) {
        let place = usize::from(status.as_u16()).clamp(Self::FIRST, Self::LAST) - Self::FIRST;
        self.0[place].fetch_add(1, Relaxed);
    }

    /// What was counted, by the status as text.
    fn counted(&self) -> impl Iterator<Item = (String, u64)> {
        self.numbers().map(|(status, n)| (status.to_string(), n))
    }

    /// What was counted, by the status.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (u16, u64)> {
        (Self::FIRST as u16..).zip(&self.0).filter_map(|(status, counter)| {
            let n = counter.load(Relaxed);
            (n > 0).then_some((status, n))
        })
    }
}

impl Default for ByStatus {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; _])
    }
}

/// Counters for what went wrong. Behind a lock: each goes with a failed request to the vendor, which takes far longer.
#[derive(Debug, Default)]
pub(super) struct ByError(Mutex<BTreeMap<&'static str, u64>>);

impl ByError {
    /// Counts one.
    pub(super) fn count(&self, code: ErrorCode) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(code.as_str()).or_default() += 1;
    }

    /// What was counted, by the error's word.
    pub(super) fn counted(&self) -> Vec<(&'static str, u64)> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.iter().map(|(code, n)| (*code, *n)).collect()
    }
}
