//! Whether Redis is there, as judged from its answers and its silence. Pure: `now` is passed in.
//!
//! Promised: a single slow answer changes nothing, and each change is named once.

use std::time::Duration;

use tokio::time::Instant;

use super::State;

/// So many calls in a row without an answer, and it is gone.
const MISSES: u32 = 3;

/// How long a replica counts that said nothing more.
pub(super) const LIFE: Duration = Duration::from_secs(5);

/// What is to be said of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It was reached for the first time.
    There,
    /// It was gone, and no longer is.
    Back,
    /// It is gone.
    Gone,
}

/// Whether Redis is there, and how many others are.
#[derive(Debug, Default)]
pub(super) struct Standing {
    now: Now,
    /// Whether it ever was there.
    ever: bool,
    /// Calls without an answer since the last answer, those under way at the same time counted as one.
    misses: u32,
    last_miss: Option<Instant>,
    /// As many replicas as were counted last, and the number of the line over which.
    counted: u32,
    line: u64,
    /// As many as counted for when it went, and when it came back.
    before: u32,
    risen: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Now {
    #[default]
    Unknown,
    There,
    Gone,
}

impl Standing {
    /// A beat over this line was answered, and so many replicas counted.
    pub(super) fn beat(&mut self, replicas: u32, line: u64, now: Instant) -> Option<Word> {
        (self.counted, self.line) = (replicas.max(1), line);
        self.answered();
        if self.risen.is_some_and(|risen| now.duration_since(risen) >= LIFE) {
            self.before = 0;
        }
        if self.now == Now::There {
            return None;
        }
        self.now = Now::There;
        self.risen = Some(now);
        Some(if std::mem::replace(&mut self.ever, true) { Word::Back } else { Word::There })
    }

    /// A new replica said that with it there are so many. Only the own beat counts fewer: what is said may be old.
    pub(super) fn joined(&mut self, replicas: u32) {
        if self.now == Now::There {
            self.counted = self.counted.max(replicas);
        }
    }

    /// A call was answered.
    pub(super) fn answered(&mut self) {
        self.misses = 0;
        self.last_miss = None;
    }

    /// A call that began at `began` was not answered in time. Whether it is enough now.
    #[must_use]
    pub(super) fn missed(&mut self, began: Instant, now: Instant) -> bool {
        // Three hundred that wait for one slow answer are one miss.
        if self.last_miss.is_none_or(|last| began >= last) {
            self.misses += 1;
            self.last_miss = Some(now);
        }
        self.misses >= MISSES
    }

    /// It cannot be relied on any more.
    pub(super) fn gone(&mut self) -> Option<Word> {
        self.before = self.before.max(self.counted);
        self.counted = 0;
        self.answered();
        (std::mem::replace(&mut self.now, Now::Gone) != Now::Gone).then_some(Word::Gone)
    }

    /// What the others are told. Shortly after a return not all replicas have said again that they are there: if it
    /// goes then, as many count as before.
    pub(super) fn state(&self) -> State {
        match self.now {
            Now::There => State::Together { replicas: self.counted, line: self.line },
            Now::Unknown | Now::Gone => State::Alone(self.before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(50);

    #[test]
    fn three_misses_in_a_row_are_enough_and_fewer_are_not() {
        let mut standing = Standing::default();
        let start = Instant::now();
        assert!(!standing.missed(start, start + STEP));
        assert!(!standing.missed(start + STEP, start + STEP * 2));
        standing.answered();
        assert!(!standing.missed(start + STEP * 2, start + STEP * 3));
        assert!(!standing.missed(start + STEP * 3, start + STEP * 4));
        assert!(standing.missed(start + STEP * 4, start + STEP * 5));
    }

    #[test]
    fn calls_that_wait_at_the_same_time_are_one_miss() {
        let mut standing = Standing::default();
        let start = Instant::now();
        for i in 0..300 {
            let later = Duration::from_micros(i);
            assert!(!standing.missed(start + later, start + STEP + later));
        }
    }

    #[test]
    fn each_change_is_named_once() {
        let mut standing = Standing::default();
        let now = Instant::now();
        assert_eq!(standing.gone(), Some(Word::Gone), "from the start");
        assert_eq!(standing.gone(), None);
        assert_eq!(standing.beat(1, 0, now), Some(Word::There));
        assert_eq!(standing.beat(2, 0, now), None);
        assert_eq!(standing.gone(), Some(Word::Gone));
        assert_eq!(standing.gone(), None);
        assert_eq!(standing.beat(1, 0, now), Some(Word::Back));
    }

    #[test]
    fn alone_one_knows_how_many_were_last_seen() {
        let mut standing = Standing::default();
        let start = Instant::now();
        assert_eq!(standing.state(), State::Alone(0));
        standing.beat(1, 0, start);
        standing.beat(3, 0, start + STEP);
        assert_eq!(standing.state(), State::Together { replicas: 3, line: 0 });
        standing.gone();
        assert_eq!(standing.state(), State::Alone(3));
        // It comes back empty and goes before the others were heard of.
        standing.beat(1, 1, start + STEP * 2);
        assert_eq!(standing.state(), State::Together { replicas: 1, line: 1 });
        standing.gone();
        assert_eq!(standing.state(), State::Alone(3));
        // It comes back and stays: what is counted then is true.
        standing.beat(1, 2, start + STEP * 3);
        standing.beat(2, 2, start + STEP * 3 + LIFE);
        standing.gone();
        assert_eq!(standing.state(), State::Alone(2));
    }

    #[test]
    fn a_new_replica_counts_at_once_and_what_is_old_takes_none_away() {
        let mut standing = Standing::default();
        let now = Instant::now();
        standing.joined(3);
        assert_eq!(standing.state(), State::Alone(0), "it was never reached");
        standing.beat(1, 0, now);
        standing.joined(3);
        standing.joined(2);
        assert_eq!(standing.state(), State::Together { replicas: 3, line: 0 });
        assert_eq!(standing.gone(), Some(Word::Gone));
        standing.joined(4);
        assert_eq!(standing.state(), State::Alone(3));
        standing.beat(2, 1, now);
        assert_eq!(standing.state(), State::Together { replicas: 2, line: 1 });
    }
}
