//! The wall clock, as far as the gateway trusts one.
//!
//! Ages and lifetimes are counted with [`Instant`], which never jumps. Only two things need the time of day: how long
//! ago the vendor says that a call ended, and the times that callers are told. For those the wall clock is read once
//! and carried forward by the monotonic one, so that a clock which is set an hour ahead does not turn a call that
//! ended a minute ago into one that is settled.
//!
//! A clock that was wrong at start, or a machine that slept, would leave it wrong for good. So the vendor's own `Date`
//! is a witness: where it contradicts the clock that is carried forward and agrees with the system's, the latter is
//! taken over.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// A point in time: milliseconds since 1970 (UTC), the precision of the vendor's own records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// How long ago this was at `now`; zero where it lies in the future.
    #[must_use]
    pub fn elapsed_at(self, now: Self) -> Duration {
        Duration::from_millis(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// This point moved by `by`, as far as the type reaches.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(before) => Self(millis(before.duration()).saturating_neg()),
        }
    }
}

/// How far two clocks may differ and still be said to agree, in milliseconds. Answers take a while, and `Date` has
/// whole seconds.
const AGREEMENT: i64 = 60_000;

/// The time of day, carried forward from one reading by the monotonic clock.
pub struct Clock {
    started: Instant,
    /// Unix milliseconds at `started`.
    origin: AtomicI64,
    system: fn() -> Option<SystemTime>,
}

impl Clock {
    /// The clock of this machine.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        let system = || Some(SystemTime::now());
        let now = system().unwrap_or(UNIX_EPOCH);
        Self { started: Instant::now(), origin: AtomicI64::new(UnixMillis::from(now).0), system }
    }

    /// A clock that shows `time` now and follows tokio's, which a test may pause; it never asks the system.
    #[must_use]
    pub fn starting_at(time: SystemTime) -> Self {
        Self { started: Instant::now(), origin: AtomicI64::new(UnixMillis::from(time).0), system: || None }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.at(Instant::now())
    }

    /// The time of day at a point of the monotonic clock.
    #[must_use]
    pub fn at(&self, instant: Instant) -> UnixMillis {
        let origin = UnixMillis(self.origin.load(Ordering::Relaxed));
        match instant.checked_duration_since(self.started) {
            Some(since) => origin.plus(since),
            None => UnixMillis(origin.0 - UnixMillis(0).plus(self.started - instant).0),
        }
    }

    /// Hears a witness: the `Date` of an answer that the vendor has just given. Returns how far the clock was moved,
    /// in milliseconds, where it was.
    pub fn hear(&self, vendor: UnixMillis) -> Option<i64> {
        let system = UnixMillis::from((self.system)()?);
        let origin = self.origin.load(Ordering::Relaxed);
        let own = UnixMillis(origin).plus(self.started.elapsed());
        let shift = correction(own, system, vendor)?;
        // Of several who hear the same at once only one moves it.
        let moved =
            self.origin.compare_exchange(origin, origin + shift, Ordering::Relaxed, Ordering::Relaxed);
        moved.is_ok().then_some(shift)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// How far to move our own clock, given what it, the system's and the vendor's say: two witnesses outvote it.
fn correction(own: UnixMillis, system: UnixMillis, vendor: UnixMillis) -> Option<i64> {
    let agree = |a: UnixMillis, b: UnixMillis| a.0.abs_diff(b.0) <= AGREEMENT.unsigned_abs();
    (!agree(own, vendor) && agree(system, vendor)).then(|| system.0 - own.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_witnesses_move_the_clock() {
        const HOUR: i64 = 3_600_000;
        // own, system, vendor: hours, and what follows
        let table = [
            (0, 0, 0, None),
            // The system's clock jumps, and the vendor does not follow: nothing changes.
            (0, 24, 0, None),
            (0, -24, 0, None),
            // A vendor whose clock is wrong convinces nobody.
            (0, 0, 24, None),
            (0, 5, 24, None),
            // The machine slept, or started with a wrong clock.
            (0, 8, 8, Some(8 * HOUR)),
            (30, 0, 0, Some(-30 * HOUR)),
        ];
        for (own, system, vendor, expected) in table {
            let at = |h: i64| UnixMillis(1_700_000_000_000 + h * HOUR);
            assert_eq!(correction(at(own), at(system), at(vendor)), expected, "{own} {system} {vendor}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_the_monotonic_one() {
        let clock = Clock::starting_at(UNIX_EPOCH + Duration::from_secs(1_000));
        assert_eq!(clock.now(), UnixMillis(1_000_000));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), UnixMillis(1_005_000));
        assert_eq!(clock.hear(UnixMillis(9_000_000)), None);
    }

    #[test]
    fn the_future_has_not_elapsed() {
        assert_eq!(UnixMillis(10).elapsed_at(UnixMillis(5)), Duration::ZERO);
        assert_eq!(UnixMillis(5).elapsed_at(UnixMillis(10)), Duration::from_millis(5));
    }
}
