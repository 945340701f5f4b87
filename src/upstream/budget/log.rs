//! The sliding log: at most so many requests of one key in *any* minute. Pure.
//!
//! A bucket that refills lets nearly twice its size through in one minute: all of it at the end of one, and all of it
//! again as it fills. So each request is written down. The vendor counts it at some moment between its departure and
//! the beginning of its answer, and nobody but the vendor knows when; so its slot is taken from the first until a
//! minute after the second.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// What the vendor counts by.
pub const MINUTE: Duration = Duration::from_secs(60);

/// The requests of the last minute.
#[derive(Clone, Debug)]
pub struct Log {
    limit: usize,
    /// Departed, or about to, and not answered.
    aloft: usize,
    /// When the slots of answered requests are free again, the earliest first.
    frees: VecDeque<Instant>,
}

impl Log {
    /// An empty log of at most `limit` requests in any minute.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit: limit as usize, aloft: 0, frees: VecDeque::new() }
    }

    /// How many more requests may leave now.
    pub fn free(&mut self, now: Instant) -> usize {
        while self.frees.front().is_some_and(|free| *free <= now) {
            self.frees.pop_front();
        }
        self.limit.saturating_sub(self.aloft + self.frees.len())
    }

    /// When the `nth` slot from now (counted from 1) is free again, as far as is known: the slots of requests that
    /// have no answer yet are free a minute from now at the earliest.
    pub fn nth_free(&mut self, nth: usize, now: Instant) -> Instant {
        // A limit that was lowered has to be grown into first.
        let over = (self.aloft + self.frees.len()).saturating_sub(self.limit);
        let place = (nth + over).saturating_sub(1);
        self.frees.get(place).copied().unwrap_or(now + MINUTE)
    }

    /// Takes a slot. To be called only where [`Self::free`] is not 0.
    pub fn take(&mut self) {
        self.aloft += 1;
    }

    /// The request never left: the slot is free again.
    pub fn give_back(&mut self) {
        self.aloft = self.aloft.saturating_sub(1);
    }

    /// The answer began at `at`, or it is known since then that none will come.
    pub fn answered(&mut self, at: Instant) {
        self.aloft = self.aloft.saturating_sub(1);
        let free = at + MINUTE;
        // Answers may be told out of order, by little: the later entries are the likelier place.
        let place = self.frees.iter().rposition(|other| *other <= free).map_or(0, |before| before + 1);
        self.frees.insert(place, free);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_taken_from_departure_until_a_minute_after_the_answer_began() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut log = Log::new(2);
        log.take();
        assert_eq!(log.free(at(0)), 1);
        // However long the answer takes, the vendor may not have counted yet.
        assert_eq!(log.free(at(500)), 1);
        log.answered(at(500));
        assert_eq!(log.free(at(559)), 1);
        assert_eq!(log.free(at(560)), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_left_is_given_back() {
        let now = Instant::now();
        let mut log = Log::new(1);
        log.take();
        assert_eq!(log.free(now), 0);
        log.give_back();
        assert_eq!(log.free(now), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_slots_are_known_by_their_answers() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut log = Log::new(3);
        (0..3).for_each(|_| log.take());
        log.answered(at(7));
        log.answered(at(5));
        assert_eq!(log.nth_free(1, at(8)), at(65));
        assert_eq!(log.nth_free(2, at(8)), at(67));
        assert_eq!(log.nth_free(3, at(8)), at(68), "under way: a minute from now at the earliest");
    }

    proptest! {
        /// The vendor counts each request at any moment from its departure to its answer. Whatever the pattern of
        /// arrivals, of answers and of requests that never leave, no minute holds more than the limit.
        #[test]
        fn no_minute_holds_more_than_the_limit(
            limit in 1u32..6,
            steps in proptest::collection::vec((0u64..20_000, 0u64..8_000, 0u64..=100, any::<bool>()), 1..120),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let start = runtime.expect("a runtime").block_on(async { Instant::now() });
            let mut log = Log::new(limit);
            let mut now = 0u64;
            // Requests without an answer: when it begins, when the vendor counts.
            let mut aloft: Vec<u64> = Vec::new();
            let mut counted: Vec<u64> = Vec::new();
            for (gap, takes, share, leaves) in steps {
                now += gap;
                aloft.sort_unstable();
                while aloft.first().is_some_and(|end| *end <= now) {
                    log.answered(start + Duration::from_millis(aloft.remove(0)));
                }
                if log.free(start + Duration::from_millis(now)) == 0 {
                    continue;
                }
                log.take();
                if leaves {
                    aloft.push(now + takes);
                    counted.push(now + takes * share / 100);
                } else {
                    log.give_back();
                }
            }
            counted.sort_unstable();
            for (first, begin) in counted.iter().enumerate() {
                let within = counted[first..].iter().take_while(|t| **t < begin + 60_000).count();
                prop_assert!(within <= limit as usize, "{within} within a minute of {begin}: {counted:?}");
            }
        }
    }
}
