//! The vendor's clock: wall time that never jumps, and that a test may stop and move by hand.
//!
//! The wall clock is read once, when the clock is made; from then on time is what `tokio::time::Instant` says has
//! passed, so that tokio's paused time works here too. It knows nothing of calls. Times within the sandbox are
//! [`SinceEpoch`], and never go back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use tokio::time::Instant;

/// A point in time: how long after 1970-01-01T00:00:00Z.
pub type SinceEpoch = Duration;

/// A clock, shared by its clones.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Face>);

#[derive(Debug)]
struct Face {
    /// What it showed when it was made.
    base: SinceEpoch,
    /// When it was made; `None` for one that stands.
    started: Option<Instant>,
    /// Nanoseconds that it has been moved forward by hand.
    advanced: AtomicU64,
}

impl Clock {
    /// Shows the machine's time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "read once, as the anchor of a clock that does not jump")]
    pub fn wall() -> Self {
        Self::made(SystemTime::now(), Some(Instant::now()))
    }

    /// Shows `at` until it is advanced: for tests.
    #[must_use]
    pub fn standing_at(at: SystemTime) -> Self {
        Self::made(at, None)
    }

    fn made(at: SystemTime, started: Option<Instant>) -> Self {
        let base = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Arc::new(Face { base, started, advanced: AtomicU64::new(0) }))
    }

    /// Moves the clock forward, for all its clones. What sleeps (latency, delays) does not notice.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.advanced.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SinceEpoch {
        let run = self.0.started.map_or(Duration::ZERO, |started| started.elapsed());
        self.0.base + run + Duration::from_nanos(self.0.advanced.load(Ordering::Relaxed))
    }
}

/// `2025-01-01T10:00:00.000Z`, as the vendor's records have it.
pub(super) fn iso(at: SinceEpoch) -> String {
    format!("{:.3}", timestamp(at))
}

/// `2025-01-01T10:00:00Z`, as `reset_at` has it; a fraction is rounded up.
pub(super) fn iso_seconds(at: SinceEpoch) -> String {
    timestamp(Duration::from_secs(ceil_seconds(at))).to_string()
}

/// Whole seconds, rounded up.
pub(super) fn ceil_seconds(length: Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}

fn timestamp(at: SinceEpoch) -> Timestamp {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    // Out of range only beyond the year 9999, where the epoch is as good an answer as any.
    Timestamp::new(seconds, at.subsec_nanos().cast_signed()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_clock_moves_by_hand_alone_and_for_every_clone() {
        let clock = Clock::standing_at(UNIX_EPOCH + Duration::from_secs(1_735_725_600));
        let clone = clock.clone();
        assert_eq!(clock.now(), Duration::from_secs(1_735_725_600));
        clone.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now(), Duration::from_millis(1_735_725_601_500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_follows_the_time_of_the_runtime() {
        let clock = Clock::wall();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now() - before, Duration::from_secs(90));
    }

    #[test]
    fn times_are_written_as_the_vendor_writes_them() {
        assert_eq!(iso(Duration::from_millis(1_735_725_600_120)), "2025-01-01T10:00:00.120Z");
        assert_eq!(iso_seconds(Duration::from_secs(1_735_725_600)), "2025-01-01T10:00:00Z");
        assert_eq!(iso_seconds(Duration::from_millis(1_735_725_600_001)), "2025-01-01T10:00:01Z");
    }
}
