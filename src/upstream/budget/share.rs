//! How much of a budget one replica may use by itself. Pure: the time is passed in.
//!
//! As long as the replicas count together, all of it: the shared window says no. When Redis is gone each keeps to its
//! share, the limit divided by the replicas. That alone would be too much at first, for one may just have sent far
//! more than its share; so at the loss each is held to what it had sent itself when Redis last said what is left, and
//! its part of that. And when Redis is back each keeps to its share a while longer: another may not have said yet what
//! it sent alone, and Redis may have come back empty.
//!
//! # Why that is never more than the limit
//!
//! Say that of a limit `L` Redis last left `l`, to `n` replicas, and that replica `i` had `own(i)` requests in its log
//! then. Each of those is counted by Redis, for a slot is free here before it is free there; so the sum of `own` and
//! `l` is at most `L`. Nothing is granted after the loss, and whatever `i` then sends, its log never holds more than
//! `own(i) + l / n`: over all that is `L` at the most. When `settling` has passed, which is a minute and as long as a
//! request may be under way, what was sent before the loss has left every log, and what was sent since was sent while
//! the log held less than `L / n`. So no log holds more than that any more, and that stays so until Redis is back and
//! all have told it what they sent. From then on Redis counts everything. A log holds what the vendor may have counted
//! in the last minute, so the same is true of the vendor.
//!
//! A key that comes meanwhile after another begins with the log of that, and keeps to its `own(i) + l / n`: the same sum.
//!
//! Assumed: that all have the same limit (one that is changed at run time has to be changed at each, and counts once it
//! is) and see the same number of replicas (or `budget.replicas_fallback` says it); that they had heard the same last
//! word; that Redis is gone for all of them or for none, and back for all within `settling` of the first. A Redis that
//! refuses the scripts is as good as gone, and refuses them for all alike; one that loses what it was told, while it is
//! there, grants nothing to a replica before that has told it again, which is a loss and a return to each; and that a
//! key with which some sent before the loss had come to all by then. A replica
//! that alone is cut off from Redis, while the others go on with it, may send its share on top of what they send.

use std::time::Duration;

use tokio::time::Instant;

use super::window::Left;
use crate::replicas::State;

/// Whether the replicas count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There are no others.
    Single,
    /// Redis is there, and has not said yet what is left: nothing may be sent.
    Arriving,
    /// Redis is gone, or has not been told yet what was sent without it.
    Alone,
    /// A slot has to be taken from the shared window, too.
    Together,
}

/// The share of one key.
#[derive(Clone, Debug)]
pub(super) struct Share {
    limit: usize,
    fallback: Option<u32>,
    replicas: u32,
    /// How long it takes until what is sent now is in nobody's log any more.
    settling: Duration,
    heard: Option<Heard>,
    hold: Option<Hold>,
    careful_until: Option<Instant>,
}

/// What Redis last said.
#[derive(Clone, Copy, Debug)]
struct Heard {
    left: Left,
    /// How many of those that Redis counts are in the own log.
    own: usize,
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    most: usize,
    until: Instant,
}

impl Share {
    pub(super) fn new(limit: usize, fallback: Option<u32>, settling: Duration) -> Self {
        Self { limit, fallback, replicas: 1, settling, heard: None, hold: None, careful_until: None }
    }

    /// The key came after this other one, whose log it begins with: it is held to no more than that. There are as many
    /// others for both, and those may not have said yet what they sent alone with either.
    pub(super) fn after(&mut self, before: &Self) {
        self.hold = before.hold;
        (self.replicas, self.careful_until) = (before.replicas, before.careful_until);
    }

    /// The most requests of this key in any minute, over all replicas.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Another limit, and another word on how many share it. What was heard was said of the limit before: it is taken
    /// for less where that is lower now, and not for more where it is higher.
    pub(super) fn change(&mut self, limit: usize, fallback: Option<u32>) {
        let lower_by = self.limit.saturating_sub(limit);
        if let Some(heard) = &mut self.heard {
            heard.left.slots = heard.left.slots.saturating_sub(lower_by);
        }
        (self.limit, self.fallback) = (limit, fallback);
    }

    /// How many replicas there are said to be. What is said soon after a loss may leave out those who are not back.
    pub(super) fn seen(&mut self, state: State, standing: Standing, now: Instant) {
        let (State::Together { replicas, .. } | State::Alone(replicas)) = state;
        let steady = standing == Standing::Together && self.careful(now).is_none();
        self.replicas = if steady { replicas.max(1) } else { replicas.max(self.replicas) };
    }

    /// Redis said what is left; of those that it counts, `own` are in the own log.
    pub(super) fn heard(&mut self, left: Left, own: usize, now: Instant) {
        // Replies and news come by different ways. What is old says nothing, not even of the order.
        let later = |heard: &Heard| heard.left.at > left.at && now < heard.at + self.settling;
        if !self.heard.as_ref().is_some_and(later) {
            self.heard = Some(Heard { left, own, at: now });
        }
    }

    /// What Redis last said is left, where it said so after this.
    pub(super) fn left_after(&self, word: Left) -> Option<usize> {
        self.heard.filter(|heard| heard.left.at > word.at).map(|heard| heard.left.slots)
    }

    /// Something that Redis said was not heard: until it says more, nothing is left.
    pub(super) fn missed(&mut self, now: Instant) {
        if let Some(heard) = &mut self.heard {
            heard.left.slots = 0;
            heard.at = now;
        }
    }

    /// Nothing that was heard counts any more: Redis counts its words anew where it has come back empty.
    pub(super) fn forget(&mut self) {
        self.heard = None;
    }

    /// Redis is gone.
    pub(super) fn lost(&mut self, now: Instant) {
        let fair = self.fair();
        let most = match self.heard.take() {
            Some(Heard { left, own, at }) if now < at + self.settling => own + left.slots / self.replicas(),
            // Nobody has sent anything for so long that all is left.
            Some(_) => fair,
            None => 0,
        };
        // Of the loss before, where that is not over: the others may have heard other words since, and we had.
        let most = self.held(now).map_or(most, |hold| hold.most.min(most));
        self.hold = Some(Hold { most, until: now + self.settling });
    }

    /// Redis is back, and knows what was sent without it.
    pub(super) fn back(&mut self, now: Instant) {
        self.careful_until = Some(now + self.settling);
    }

    /// The most that the own log may hold now.
    pub(super) fn most(&self, standing: Standing, now: Instant) -> usize {
        match standing {
            Standing::Single => self.limit,
            Standing::Arriving => 0,
            Standing::Together if self.careful(now).is_none() => self.limit,
            Standing::Together | Standing::Alone => {
                self.held(now).map_or(self.fair(), |hold| hold.most.min(self.fair()))
            }
        }
    }

    /// When that may next be more, where it is known.
    pub(super) fn rises(&self, standing: Standing, now: Instant) -> Option<Instant> {
        let held = self.held(now).map(|hold| hold.until);
        match standing {
            Standing::Single | Standing::Arriving => None,
            Standing::Alone => held,
            Standing::Together => {
                let careful = self.careful(now)?;
                Some(held.map_or(careful, |held| held.min(careful)))
            }
        }
    }

    /// What the shared window has left, as far as is known here; `own` are in the own log now.
    pub(super) fn left(&self, own: usize, now: Instant) -> usize {
        match self.heard {
            // Nobody has sent anything for so long.
            Some(heard) if now >= heard.at + self.settling => self.limit,
            Some(heard) => (heard.left.slots + heard.own.saturating_sub(own)).min(self.limit),
            None => 0,
        }
    }

    /// What is everybody's when each has the same. Where replicas outnumber the limit, nothing.
    fn fair(&self) -> usize {
        self.limit / self.replicas()
    }

    fn replicas(&self) -> usize {
        self.fallback.unwrap_or(self.replicas).max(1) as usize
    }

    fn held(&self, now: Instant) -> Option<Hold> {
        self.hold.filter(|hold| now < hold.until)
    }

    fn careful(&self, now: Instant) -> Option<Instant> {
        self.careful_until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLING: Duration = Duration::from_secs(80);
    const LIMIT: usize = 60;

    fn together(replicas: u32) -> State {
        State::Together { replicas, line: 0 }
    }

    fn left(at: u64, slots: usize) -> Left {
        Left { at, slots }
    }

    #[tokio::test(start_paused = true)]
    async fn alone_one_keeps_to_the_share_and_to_what_was_left() {
        let now = Instant::now();
        let later = now + SETTLING;
        // replicas, fallback, own, left, and the most: at once, and when it has settled
        let table = [
            (3, None, 0, 60, 20, 20),
            (3, None, 0, 30, 10, 20),
            (3, None, 0, 0, 0, 20),
            (3, None, 5, 30, 15, 20),
            (3, None, 60, 0, 20, 20),
            (1, None, 60, 0, 60, 60),
            (0, None, 10, 50, 60, 60),
            (2, Some(4), 0, 40, 10, 15),
            (7, None, 0, 60, 8, 8),
            (61, None, 0, 60, 0, 0),
        ];
        for (replicas, fallback, own, slots, first, then) in table {
            let mut share = Share::new(LIMIT, fallback, SETTLING);
            share.seen(together(replicas), Standing::Together, now);
            share.heard(left(1, slots), own, now);
            assert_eq!(share.most(Standing::Together, now), LIMIT);
            share.lost(now);
            let found = (share.most(Standing::Alone, now), share.most(Standing::Alone, later));
            assert_eq!(found, (first, then), "{replicas} {fallback:?} {own} {slots}");
            assert_eq!(share.rises(Standing::Alone, now), Some(later));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn back_together_one_keeps_to_the_share_a_while() {
        let start = Instant::now();
        let mut share = Share::new(LIMIT, None, SETTLING);
        share.seen(together(3), Standing::Together, start);
        share.heard(left(9, 0), 0, start);
        share.lost(start);
        let back = start + SETTLING / 2;
        // The others are not seen again yet.
        share.seen(together(1), Standing::Alone, back);
        share.back(back);
        share.seen(together(2), Standing::Together, back);
        assert_eq!(share.most(Standing::Together, back), 0, "the loss has not settled");
        assert_eq!(share.rises(Standing::Together, back), Some(start + SETTLING));
        assert_eq!(share.most(Standing::Together, start + SETTLING), 20);
        assert_eq!(share.rises(Standing::Together, start + SETTLING), Some(back + SETTLING));
        assert_eq!(share.most(Standing::Together, back + SETTLING), LIMIT);
        share.seen(together(2), Standing::Together, back + SETTLING);
        share.heard(left(1, 60), 0, back + SETTLING);
        share.lost(back + SETTLING);
        assert_eq!(share.most(Standing::Alone, back + SETTLING), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn the_later_word_counts_whichever_comes_first() {
        let now = Instant::now();
        let mut share = Share::new(LIMIT, None, SETTLING);
        share.heard(left(5, 10), 2, now);
        share.heard(left(4, 11), 2, now);
        assert_eq!(share.left(2, now), 10);
        // Two of one's own have come free since.
        assert_eq!(share.left(0, now), 12);
        share.missed(now);
        assert_eq!(share.left(2, now), 0);
        share.heard(left(6, 9), 2, now);
        assert_eq!(share.left(2, now), 9);
        assert_eq!(share.left(0, now + SETTLING), LIMIT, "nobody has sent anything since");
        share.heard(left(1, 59), 1, now + SETTLING);
        assert_eq!(share.left(1, now + SETTLING), 59, "it counts anew");
    }
}
