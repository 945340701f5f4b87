//! The sliding log: at most so many requests of one key in *any* minute. Pure.
//!
//! A bucket that refills lets nearly twice its size through in one minute: all of it at the end of one, and all of it
//! again as it fills. So each request is written down. The vendor counts it at some moment between its departure and
//! the beginning of its answer, and nobody but the vendor knows when; so its slot is taken from the first until a
//! minute after the second.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::window::Slot;

/// What the vendor counts by.
pub const MINUTE: Duration = Duration::from_secs(60);

/// The requests of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Departed, or about to, and not answered.
    aloft: BTreeSet<Slot>,
    /// When the slots of answered requests are free again, the earliest first.
    frees: VecDeque<(Instant, Slot)>,
    /// Those of them that are no other key's business.
    private: BTreeSet<Slot>,
}

impl Log {
    /// How many requests count now.
    pub fn used(&mut self, now: Instant) -> usize {
        while self.frees.front().is_some_and(|(free, _)| *free <= now) {
            if let Some((_, slot)) = self.frees.pop_front() {
                self.private.remove(&slot);
            }
        }
        self.aloft.len() + self.frees.len()
    }

    /// How many more requests may leave now, of `most` in any minute.
    pub fn free(&mut self, most: usize, now: Instant) -> usize {
        most.saturating_sub(self.used(now))
    }

    /// When the `nth` slot of `most` from now (counted from 1) is free again, as far as is known: the slots of requests
    /// that have no answer yet are free a minute from now at the earliest.
    pub fn nth_free(&mut self, nth: usize, most: usize, now: Instant) -> Instant {
        // A limit that was lowered has to be grown into first.
        let over = self.used(now).saturating_sub(most);
        let place = (nth + over).saturating_sub(1);
        self.frees.get(place).map_or(now + MINUTE, |(free, _)| *free)
    }

    /// Takes a slot. To be called only where [`Self::free`] is not 0.
    pub fn take(&mut self, slot: Slot) {
        self.aloft.insert(slot);
    }

    /// The request never left: the slot is free again.
    pub fn give_back(&mut self, slot: Slot) {
        self.aloft.remove(&slot);
    }

    /// The answer began at `at`, or it is known since then that none will come.
    pub fn answered(&mut self, slot: Slot, at: Instant) {
        self.aloft.remove(&slot);
        self.held_until(slot, at + MINUTE);
    }

    /// The request ended: answered at some time, or without ever having left.
    pub fn ended(&mut self, slot: Slot, answered: Option<Instant>) {
        match answered {
            Some(at) => self.answered(slot, at),
            None => self.give_back(slot),
        }
    }

    /// Holds a slot until then, whatever it was taken for.
    pub fn held_until(&mut self, slot: Slot, free: Instant) {
        // Answers may be told out of order, by little: the later entries are the likelier place.
        let place = self.frees.iter().rposition(|(other, _)| *other <= free).map_or(0, |before| before + 1);
        self.frees.insert(place, (free, slot));
    }

    /// A slot that is held until some time counts for this key, and for none that comes after it.
    pub fn keep_private(&mut self, slot: Slot) {
        self.private.insert(slot);
    }

    /// Whether its request has no answer yet.
    pub fn is_aloft(&self, slot: Slot) -> bool {
        self.aloft.contains(&slot)
    }

    /// Takes over what counts for the key before as well.
    pub fn inherit(&mut self, before: &Self) {
        self.aloft.extend(&before.aloft);
        for (free, slot) in before.frees.iter().filter(|(_, slot)| !before.private.contains(slot)) {
            self.held_until(*slot, *free);
        }
    }

    /// Every slot that is held, and until when, where that is known.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Option<Instant>)> {
        let aloft = self.aloft.iter().map(|slot| (*slot, None));
        aloft.chain(self.frees.iter().map(|(free, slot)| (*slot, Some(*free))))
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
        let mut log = Log::default();
        log.take(Slot(1));
        assert_eq!(log.free(2, at(0)), 1);
        // However long the answer takes, the vendor may not have counted yet.
        assert_eq!(log.free(2, at(500)), 1);
        log.answered(Slot(1), at(500));
        assert_eq!(log.free(2, at(559)), 1);
        assert_eq!(log.free(2, at(560)), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_left_is_given_back() {
        let now = Instant::now();
        let mut log = Log::default();
        log.take(Slot(1));
        assert_eq!(log.free(1, now), 0);
        log.give_back(Slot(1));
        assert_eq!(log.free(1, now), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_slots_are_known_by_their_answers() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut log = Log::default();
        (0..3).for_each(|slot| log.take(Slot(slot)));
        log.answered(Slot(0), at(7));
        log.answered(Slot(1), at(5));
        assert_eq!(log.nth_free(1, 3, at(8)), at(65));
        assert_eq!(log.nth_free(2, 3, at(8)), at(67));
        assert_eq!(log.nth_free(3, 3, at(8)), at(68), "under way: a minute from now at the earliest");
        assert_eq!(log.nth_free(1, 2, at(8)), at(67), "one too many has to leave first");
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
            let (limit, mut log) = (limit as usize, Log::default());
            let mut now = 0u64;
            // Requests without an answer: when it begins, when the vendor counts.
            let mut aloft: Vec<(u64, Slot)> = Vec::new();
            let mut counted: Vec<u64> = Vec::new();
            for (number, (gap, takes, share, leaves)) in steps.into_iter().enumerate() {
                now += gap;
                aloft.sort_unstable();
                while aloft.first().is_some_and(|(end, _)| *end <= now) {
                    let (end, slot) = aloft.remove(0);
                    log.answered(slot, start + Duration::from_millis(end));
                }
                if log.free(limit, start + Duration::from_millis(now)) == 0 {
                    continue;
                }
                let slot = Slot(number as u128);
                log.take(slot);
                if leaves {
                    aloft.push((now + takes, slot));
                    counted.push(now + takes * share / 100);
                } else {
                    log.give_back(slot);
                }
            }
            counted.sort_unstable();
            for (first, begin) in counted.iter().enumerate() {
                let within = counted[first..].iter().take_while(|t| **t < begin + 60_000).count();
                prop_assert!(within <= limit, "{within} within a minute of {begin}: {counted:?}");
            }
        }
    }
}
