//! A clock that stands still until it is told to go on, and then goes to the next time at which somebody wants to wake.
//!
//! A task may be late by any number of such steps, as it may be on a machine that is busy.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::{Add, AddAssign, Sub},
    pin::Pin,
    task::{Context, Poll, Waker},
};

pub use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `tokio::time::Instant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

#[derive(Default)]
struct Clock {
    now: Duration,
    /// Who sleeps until when; the number tells those apart who wake at once.
    sleepers: BTreeMap<(Duration, u64), Option<Waker>>,
    numbers: u64,
}

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::default();
}

impl Instant {
    /// What the clock shows.
    #[must_use]
    pub fn now() -> Self {
        Self(CLOCK.with_borrow(|clock| clock.now))
    }

    /// How long after `earlier`; zero where it was before.
    #[must_use]
    pub fn duration_since(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }

    /// How long after `earlier`; zero where it was before.
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long ago.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0 + by)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        self.0 += by;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0 - by)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// Waits until then.
#[must_use]
pub fn sleep_until(until: Instant) -> Sleep {
    Sleep { until: until.0, number: None }
}

/// Waits so long.
#[must_use]
pub fn sleep(length: Duration) -> Sleep {
    sleep_until(Instant::now() + length)
}

/// Somebody's sleep.
#[derive(Debug)]
pub struct Sleep {
    until: Duration,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let asleep = CLOCK.with_borrow_mut(|clock| {
            if clock.now >= self.until {
                return false;
            }
            let number = *self.number.get_or_insert_with(|| {
                clock.numbers += 1;
                clock.numbers
            });
            clock.sleepers.insert((self.until, number), Some(cx.waker().clone()));
            true
        });
        if !asleep {
            return Poll::Ready(());
        }
        super::play::stir();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let _ = CLOCK.with_borrow_mut(|clock| clock.sleepers.remove(&(self.until, number)));
        }
    }
}

/// Goes on to the next time at which somebody wants to wake, and wakes them; false where nobody does.
pub(crate) fn pass() -> bool {
    let woken: Vec<Waker> = CLOCK.with_borrow_mut(|clock| {
        let Some((&(next, _), _)) = clock.sleepers.first_key_value() else { return Vec::new() };
        clock.now = clock.now.max(next);
        let later = clock.sleepers.split_off(&(clock.now, u64::MAX));
        std::mem::replace(&mut clock.sleepers, later).into_values().flatten().collect()
    });
    let passed = !woken.is_empty();
    woken.into_iter().for_each(Waker::wake);
    passed
}

/// Goes on by so much at once; whoever wanted to wake within that is late.
pub fn leap(by: Duration) {
    let until = CLOCK.with_borrow(|clock| clock.now) + by;
    while CLOCK.with_borrow(|clock| clock.sleepers.keys().next().is_some_and(|(next, _)| *next <= until)) {
        pass();
    }
    CLOCK.with_borrow_mut(|clock| clock.now = until);
}

/// Begins anew, for another play.
pub(crate) fn reset() {
    let sleepers = CLOCK.with_borrow_mut(std::mem::take);
    drop(sleepers);
}
