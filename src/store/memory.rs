//! The memory tier: moka, bounded by weight.
//!
//! moka decides what is evicted and nothing else. It does not know when an answer goes stale, since its own clock
//! follows the system's and not the one that tests can pause; callers of this module look at the answer's own
//! lifetime. It does not coalesce either: that is [`crate::lookup::flight`].
//!
//! The least recently used goes first. A policy that keeps out what has been seen once would make the vendor pay for
//! it: at 60 requests a minute a scan cannot flush much, but a new call that is refused a place costs a request again.
//!
//! Failures are remembered in a cache of their own, so that they never stand in the way of the record which
//! is served in their place. Both shares together are `cache.capacity`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};
use tokio::time::Instant;

use super::{
    erasure::Erasure,
    stored::{Failure, Stored},
};
use crate::call::CacheKey;

/// What moka needs beside an entry's own bytes: the nodes of its map and its deque, and the counts of what is shared.
/// Measured, as what memory grew by for records of 1 to 50 KB (`benches/compare --only memory`).
const OVERHEAD: usize = 384;

/// The most that failures may take of the capacity.
const FAILURES_AT_MOST: u64 = 8 << 20;

/// The memory tier. A clone is the same tier.
#[derive(Clone)]
pub(super) struct Memory {
    answers: Cache<CacheKey, Arc<Stored>>,
    failures: Cache<CacheKey, Arc<Failure>>,
    /// The share of the capacity that answers may take.
    capacity: u64,
    evicted: Arc<AtomicU64>,
    /// When the last of the failures is over, in milliseconds after `began`: as a rule that was long ago, and there is
    /// none to be looked for.
    failing_until: Arc<AtomicU64>,
    began: Instant,
}

impl Memory {
    /// An empty tier of `capacity` bytes.
    pub(super) fn new(capacity: u64) -> Self {
        let for_failures = (capacity / 16).min(FAILURES_AT_MOST);
        let for_answers = capacity - for_failures;
        let evicted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evicted);
        let answers = Cache::builder()
            .name("answers")
            .max_capacity(for_answers)
            .weigher(|key: &CacheKey, stored: &Arc<Stored>| saturate(weigh(key, stored)))
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        let failures = Cache::builder()
            .name("failures")
            .max_capacity(for_failures)
            .weigher(|key: &CacheKey, failure: &Arc<Failure>| {
                saturate(OVERHEAD + size_of::<CacheKey>() + key.heap_bytes() + failure.heap_bytes())
            })
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let (failing_until, began) = (Arc::default(), Instant::now());
        Self { answers, failures, capacity: for_answers, evicted, failing_until, began }
    }

    /// What is kept for `key`, fresh or stale.
    pub(super) fn get(&self, key: &CacheKey) -> Option<Arc<Stored>> {
        self.answers.get(key)
    }

    /// Keeps `stored`; false where it is heavier than the whole tier.
    pub(super) fn put(&self, key: CacheKey, stored: Arc<Stored>) -> bool {
        let fits = weigh(&key, &stored) as u64 <= self.capacity;
        if fits {
            self.answers.insert(key, stored);
        }
        fits
    }

    /// The failure that answers for `key` at `now`.
    pub(super) fn failure(&self, key: &CacheKey, now: Instant) -> Option<Arc<Failure>> {
        if self.millis(now) >= self.failing_until.load(Ordering::SeqCst) {
            return None;
        }
        self.failures.get(key).filter(|failure| now < failure.until)
    }

    /// Milliseconds from `began`, rounded down.
    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// Remembers a failure.
    pub(super) fn put_failure(&self, key: CacheKey, failure: Arc<Failure>) {
        // Rounded up, and first: who finds it must not have been told that there is none.
        self.failing_until.fetch_max(self.millis(failure.until).saturating_add(1), Ordering::SeqCst);
        self.failures.insert(key, failure);
    }

    /// Forgets what is kept for `key`; whether there was anything.
    pub(super) fn remove(&self, key: &CacheKey) -> bool {
        self.failures.invalidate(key);
        self.answers.remove(key).is_some()
    }

    /// What is kept of what an erasure is about. Looks at every entry, so async code calls it from a thread that may take
    /// its time.
    pub(super) fn find(&self, erasure: &Erasure) -> Vec<(CacheKey, Arc<Stored>)> {
        let found = self.answers.iter().filter(|(key, _)| erasure.matches(key));
        found.map(|(key, stored)| ((*key).clone(), stored)).collect()
    }

    /// The keys of what is kept and is as `wanted` says. As slow as [`Self::find`].
    pub(super) fn find_where(&self, wanted: impl Fn(&CacheKey, &Stored) -> bool) -> Vec<CacheKey> {
        let found = self.answers.iter().filter(|(key, stored)| wanted(key, stored));
        found.map(|(key, _)| (*key).clone()).collect()
    }

    /// Forgets what an erasure is about, failures too; the keys of what was kept. As slow as [`Self::find`].
    pub(super) fn erase(&self, erasure: &Erasure) -> Vec<CacheKey> {
        for (key, _) in self.failures.iter().filter(|(key, _)| erasure.matches(key)) {
            self.failures.invalidate(&*key);
        }
        let keys = self.answers.iter().map(|(key, _)| key).filter(|key| erasure.matches(key));
        let gone = keys.filter(|key| self.answers.remove(&**key).is_some());
        gone.map(|key| (*key).clone()).collect()
    }

    /// Entries, their weight in bytes, and how many were evicted for room since the start: settled before counted.
    pub(super) fn totals(&self) -> super::Totals {
        self.answers.run_pending_tasks();
        self.failures.run_pending_tasks();
        super::Totals {
            // A failure is remembered rather than kept, and lies here for a while after it is over.
            entries: self.answers.entry_count(),
            bytes: self.answers.weighted_size() + self.failures.weighted_size(),
            evicted: self.evicted.load(Ordering::Relaxed),
            expired: 0,
        }
    }
}

fn weigh(key: &CacheKey, stored: &Stored) -> usize {
    OVERHEAD + size_of::<CacheKey>() + key.heap_bytes() + size_of::<Stored>() + allocated(stored.heap_bytes())
}

/// What so many bytes take of memory, nearly all of them the body's. jemalloc has four sizes a doubling; what is larger
/// than the small ones has pages of its own, and begins anywhere in the first one.
fn allocated(bytes: usize) -> usize {
    const LARGEST_SMALL: usize = 14 << 10;
    const PAGE: usize = 4 << 10;
    const SMALLEST_STEP: usize = 16;
    if bytes > LARGEST_SMALL {
        return bytes.next_multiple_of(PAGE) + PAGE;
    }
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(SMALLEST_STEP))
}

fn saturate(weight: usize) -> u32 {
    u32::try_from(weight).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_comes_in_four_sizes_a_doubling_and_then_in_pages() {
        let table = [
            (0, 0),
            (1, 16),
            (33, 48),
            (100, 112),
            (129, 160),
            (2_048, 2_048),
            (2_049, 2_560),
            (14_336, 14_336),
            (14_337, 20_480),
            (16_384, 20_480),
            (51_200, 57_344),
        ];
        for (bytes, given) in table {
            assert_eq!(allocated(bytes), given, "{bytes}");
        }
    }
}
