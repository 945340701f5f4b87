//! The vendor's rate limit: at most N accepted in any 60 seconds, counted when a request arrives.
//!
//! Pure but for its own memory; the time is passed in. It also remembers the busiest minute that it has seen, which
//! is what a test of a caller's budget wants to know.

use std::{collections::VecDeque, time::Duration};

use super::clock::SinceEpoch;

/// What the limit is counted over.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// When the accepted requests of the last 60 seconds arrived, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    accepted: VecDeque<SinceEpoch>,
    peak: usize,
}

impl Window {
    /// Counts an arrival; 0 is no limit. The error is when the next request will be accepted.
    pub(super) fn arrive(&mut self, now: SinceEpoch, limit: u32) -> Result<(), SinceEpoch> {
        while self.accepted.front().is_some_and(|oldest| now.saturating_sub(*oldest) >= MINUTE) {
            self.accepted.pop_front();
        }
        if limit > 0
            && self.accepted.len() >= limit as usize
            && let Some(oldest) = self.accepted.front()
        {
            return Err(*oldest + MINUTE);
        }
        self.accepted.push_back(now);
        self.peak = self.peak.max(self.accepted.len());
        Ok(())
    }

    /// The most that were accepted in any 60 seconds so far.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_slot_is_free_again_60_seconds_after_its_request_arrived() {
        let mut window = Window::default();
        assert_eq!(window.arrive(ms(1_000), 2), Ok(()));
        assert_eq!(window.arrive(ms(31_000), 2), Ok(()));
        assert_eq!(window.arrive(ms(60_999), 2), Err(ms(61_000)));
        assert_eq!(window.arrive(ms(61_000), 2), Ok(()));
        assert_eq!(window.arrive(ms(61_001), 2), Err(ms(91_000)));
        assert_eq!(window.peak(), 2);
    }

    #[test]
    fn without_a_limit_all_are_accepted_and_the_busiest_minute_is_known() {
        let mut window = Window::default();
        for n in [0, 1, 2, 90_000, 90_001] {
            assert_eq!(window.arrive(ms(n), 0), Ok(()));
        }
        assert_eq!(window.peak(), 3);
    }
}
