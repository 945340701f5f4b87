//! Keeps the log short while many requests are turned away: so many lines a second, and then one that says how many more
//! there would have been.
//!
//! Pure: it is told the time, and writes nothing itself. Whoever is turned away costs nobody anything, so it can come
//! a hundred thousand times a second; what was answered costs the vendor or is kept, and has its line. The metrics count
//! all of them. Promises: from one line on there are no more than [`A_SECOND`] until a second is over, and every one that was
//! left out is told of.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// So many lines a second.
pub const A_SECOND: u32 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// The lines of one kind.
#[derive(Debug, Default)]
pub struct LineLimit {
    lately: Mutex<Lately>,
    /// Whether any were left out that have not been told of: what all requests look at.
    owing: AtomicBool,
}

/// The second under way.
#[derive(Debug, Default)]
struct Lately {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    /// Nothing so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a line may be written `now`. One that may not counts as left out.
    #[must_use]
    pub fn admits(&self, now: Instant) -> bool {
        let mut lately = self.lock();
        if lately.is_over(now) {
            (lately.since, lately.lines) = (Some(now), 0);
        }
        if lately.lines < A_SECOND {
            lately.lines += 1;
            return true;
        }
        lately.left_out += 1;
        self.owing.store(true, Relaxed);
        false
    }

    /// How many were left out, where that is to be told `now`: once, and when their second is over.
    #[must_use]
    pub fn left_out(&self, now: Instant) -> Option<u64> {
        if !self.owing.load(Relaxed) {
            return None;
        }
        let mut lately = self.lock();
        if lately.is_over(now) { self.settle(&mut lately) } else { None }
    }

    /// The same at the end, when there is no later time.
    #[must_use]
    pub fn left_out_at_last(&self) -> Option<u64> {
        self.settle(&mut self.lock())
    }

    fn settle(&self, lately: &mut Lately) -> Option<u64> {
        self.owing.store(false, Relaxed);
        Some(std::mem::take(&mut lately.left_out)).filter(|left_out| *left_out > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lately {
    fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_has_so_many_lines_a_second_and_one_for_all_others() {
        let (limit, began) = (LineLimit::new(), Instant::now());
        let admitted = |at| (0..1_000).filter(|_| limit.admits(at)).count();
        assert_eq!(admitted(began), A_SECOND as usize);
        assert_eq!(limit.left_out(began + SECOND / 2), None, "their second is not over");
        assert_eq!(admitted(began + SECOND / 2), 0);
        let later = began + SECOND;
        assert_eq!(limit.left_out(later), Some(1_980));
        assert_eq!(limit.left_out(later), None, "told once");
        assert_eq!(admitted(later), A_SECOND as usize);
        assert_eq!(limit.left_out_at_last(), Some(980));
        assert_eq!(limit.left_out_at_last(), None);
    }

    #[test]
    fn what_comes_now_and_then_has_its_line_each_time() {
        let (limit, began) = (LineLimit::new(), Instant::now());
        for n in 0..1_000 {
            let now = began + SECOND / A_SECOND * n;
            assert!(limit.admits(now));
            assert_eq!(limit.left_out(now), None);
        }
        assert_eq!(limit.left_out_at_last(), None);
    }

    proptest! {
        #[test]
        fn every_line_is_written_or_told_of(pauses in proptest::collection::vec(0..400u64, 0..200)) {
            let (limit, mut now) = (LineLimit::new(), Instant::now());
            let (mut written, mut told) = (0, 0);
            for pause in &pauses {
                now += Duration::from_millis(*pause / 7);
                told += limit.left_out(now).unwrap_or(0);
                written += u64::from(limit.admits(now));
            }
            told += limit.left_out_at_last().unwrap_or(0);
            prop_assert_eq!(written + told, pauses.len() as u64);
        }
    }
}
