//! A histogram of durations that is fed without a lock.
//!
//! The one of `prometheus-client` holds a mutex, which every hit on every core would take. Here an observation is two
//! relaxed additions. The count is not kept apart: it is the sum of the buckets, so that the two always agree; the sum
//! of the durations may be ahead or behind by what is being added while it is read.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;

/// The upper bounds for callers' requests, in nanoseconds, each included: from a hit, some microseconds, to the longest
/// wait.
pub(super) static REQUEST: [u64; 22] = [
    2_500,
    5 * US,
    10 * US,
    25 * US,
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2_500 * MS,
    5 * S,
    15 * S,
    60 * S,
];

/// Those for the vendor and for the wait before it: from milliseconds to a timeout.
pub(super) static UPSTREAM: [u64; 16] = [
    MS,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    750 * MS,
    S,
    2 * S,
    3 * S,
    5 * S,
    10 * S,
    15 * S,
    60 * S,
];

/// Durations, by size.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    buckets: Box<[AtomicU64]>,
    /// What is longer than the last bound.
    beyond: AtomicU64,
    /// In nanoseconds: 584 years until it wraps.
    sum: AtomicU64,
}

impl Default for Histogram {
    /// For callers' requests.
    fn default() -> Self {
        Self::of(&REQUEST)
    }
}

impl Histogram {
    /// An empty one with these bounds, which ascend.
    pub(super) fn of(bounds: &'static [u64]) -> Self {
        let buckets = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, beyond: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Adds one.
    pub(super) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < nanos);
        self.buckets.get(bucket).unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
    }

    /// Whether nothing was ever observed.
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.iter().chain([&self.beyond]).all(|bucket| bucket.load(Relaxed) == 0)
    }

    /// The upper bounds in seconds, the last one infinite, with how many were so long or shorter; and the sum in seconds.
    pub(super) fn cumulative(&self) -> (Vec<(f64, u64)>, f64) {
        let mut count = 0;
        let up_to = self.counted().map(|(bound, n)| {
            count += n;
            (bound, count)
        });
        (up_to.collect(), self.sum())
    }

    /// Writes the classic buckets, in seconds.
    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let buckets: Vec<_> = self.counted().collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum(), count, &buckets, None)
    }

    /// The upper bounds in seconds, the last one infinite, with what is in their own buckets.
    fn counted(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().chain([&self.beyond]).map(|bucket| bucket.load(Relaxed)))
    }

    /// The sum in seconds.
    fn sum(&self) -> f64 {
        seconds(self.sum.load(Relaxed))
    }
}

/// Nanoseconds in seconds. Divided, not multiplied: 10 µs is to read `0.00001`, and not its neighbour.
fn seconds(nanos: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a sum of months is still exact to a microsecond")]
    let nanos = nanos as f64;
    nanos / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (index, bound) in REQUEST.iter().enumerate() {
            let histogram = Histogram::default();
            assert!(histogram.is_empty());
            histogram.observe(Duration::from_nanos(*bound));
            assert_eq!(histogram.buckets[index].load(Relaxed), 1);
            histogram.observe(Duration::from_nanos(*bound + 1));
            assert_eq!(histogram.buckets[index].load(Relaxed), 1);
            assert!(!histogram.is_empty());
        }
    }

    #[test]
    fn the_bounds_ascend() {
        assert!(REQUEST.is_sorted_by(|a, b| a < b) && UPSTREAM.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn what_is_longer_than_a_minute_is_counted_beyond() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_secs(61));
        histogram.observe(Duration::MAX);
        assert_eq!(histogram.beyond.load(Relaxed), 2);
    }
}
