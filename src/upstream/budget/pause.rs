//! The pause that the vendor's 429 asks for, one a key. Pure: time and chance are passed in.
//!
//! While it lasts nothing is sent. Then one request goes ahead of the rest, and only when its answer is no 429 do
//! the others follow: whoever else uses the key may still be at it.

use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::retry_after::LONGEST;

/// The most that chance adds to a pause, so that many gateways do not come back at once.
const JITTER: Duration = Duration::from_secs(1);

/// Whether a key may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause(State);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    None,
    Until(Instant),
    /// It is over, and one request is on its way to find out whether that is so.
    Probing,
}

/// What a pause says to who wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Send.
    Go,
    /// Send as the one that goes ahead.
    Probe,
    /// Wait until then.
    Until(Instant),
    /// Wait for the answer to the one that went ahead.
    Probing,
}

impl Pause {
    /// What to do at `now`.
    #[must_use]
    pub fn say(&self, now: Instant) -> Say {
        match self.0 {
            State::None => Say::Go,
            State::Until(until) if now < until => Say::Until(until),
            State::Until(_) => Say::Probe,
            State::Probing => Say::Probing,
        }
    }

    /// The request that goes ahead is sent.
    pub fn probe(&mut self) {
        self.0 = State::Probing;
    }

    /// The vendor answered 429 and asked for `length`. `chance` is from 0 to 1: up to a tenth of the pause and a
    /// second is added, within the longest that is believed. A longer pause is not cut short by another answer.
    pub fn limited(&mut self, length: Duration, chance: f64, now: Instant) -> Instant {
        let jitter = (length / 10).min(JITTER).mul_f64(chance.clamp(0.0, 1.0));
        let until = now + (length + jitter).min(LONGEST);
        let until = match self.0 {
            State::Until(longer) if longer > until => longer,
            State::Until(_) | State::None | State::Probing => until,
        };
        self.0 = State::Until(until);
        until
    }

    /// Another replica was asked for a pause until then. A longer one is not cut short.
    pub fn hold(&mut self, until: Instant) {
        match self.0 {
            State::Until(longer) if longer > until => {}
            State::Until(_) | State::None | State::Probing => self.0 = State::Until(until),
        }
    }

    /// The one that went ahead ended: with an answer that is no 429, or without saying anything about the pause.
    pub fn probed(&mut self, answered: bool, now: Instant) {
        if self.0 == State::Probing {
            self.0 = if answered { State::None } else { State::Until(now) };
        }
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self, now: Instant) -> Duration {
        match self.0 {
            State::Until(until) => until.saturating_duration_since(now),
            State::None | State::Probing => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_one_goes_ahead_of_the_rest() {
        let start = Instant::now();
        let mut pause = Pause::default();
        assert_eq!(pause.say(start), Say::Go);
        let until = pause.limited(7 * SECOND, 0.0, start);
        assert_eq!(pause.say(start), Say::Until(start + 7 * SECOND));
        assert_eq!(pause.say(until), Say::Probe);
        pause.probe();
        assert_eq!(pause.say(until), Say::Probing);
        pause.probed(true, until);
        assert_eq!(pause.say(until), Say::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_limited_pauses_again_and_one_that_says_nothing_lets_another_go() {
        let start = Instant::now();
        let mut pause = Pause::default();
        pause.limited(SECOND, 0.0, start);
        pause.probe();
        pause.limited(2 * SECOND, 0.0, start + SECOND);
        assert_eq!(pause.say(start + SECOND), Say::Until(start + 3 * SECOND));
        pause.probe();
        pause.probed(false, start + 3 * SECOND);
        assert_eq!(pause.say(start + 3 * SECOND), Say::Probe);
    }

    #[tokio::test(start_paused = true)]
    async fn stragglers_neither_shorten_nor_end_a_pause() {
        let start = Instant::now();
        let mut pause = Pause::default();
        let until = pause.limited(30 * SECOND, 0.0, start);
        pause.limited(SECOND, 0.0, start);
        pause.probed(true, start);
        assert_eq!(pause.say(start), Say::Until(until));
    }

    #[tokio::test(start_paused = true)]
    async fn chance_adds_little_and_never_beyond_the_longest() {
        let start = Instant::now();
        let length = |asked: u64, chance| {
            let until = Pause::default().limited(Duration::from_secs(asked), chance, start);
            until.duration_since(start).as_millis()
        };
        assert_eq!(length(5, 1.0), 5_500);
        assert_eq!(length(60, 1.0), 61_000);
        assert_eq!(length(60, 0.5), 60_500);
        assert_eq!(length(300, 1.0), 300_000);
        assert_eq!(length(0, 1.0), 0);
    }
}
