//! The circuit breaker: a vendor that fails is left alone for a while. Pure: the time is passed in.
//!
//! Five failures in a row open the circuit for five seconds. Then one request at a time may try; its success closes
//! the circuit, its failure opens it again for twice as long, up to a minute.

use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row open the circuit.
const THRESHOLD: u32 = 5;
/// How long it stays open the first time.
const FIRST: Duration = Duration::from_secs(5);
/// How long at the most.
const LONGEST: Duration = Duration::from_secs(60);
/// What is told to those who come while one tries.
const WHILE_TRYING: Duration = Duration::from_secs(1);

/// What a request to the vendor says about its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answered, whatever it said: 500, 404, 400, 401 and 429 are answers.
    Alive,
    /// No connection, no answer in time, or its own 502 to 504.
    Failing,
    /// Neither: the request never left, or its answer broke off.
    Unknown,
}

/// The state for the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Requests go through.
    Closed,
    /// One at a time may try.
    HalfOpen,
    /// None goes through.
    Open,
}

/// The breaker of one origin.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    failures: u32,
    length: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Trying,
}

/// What the breaker says to who wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Send.
    Go,
    /// Send as the one that tries.
    Try,
    /// Do not; it is worth asking again then.
    Refused(Instant),
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, failures: 0, length: FIRST }
    }
}

impl Breaker {
    /// What to do at `now`.
    #[must_use]
    pub fn say(&self, now: Instant) -> Say {
        match self.state {
            State::Closed => Say::Go,
            State::Open { until } if now < until => Say::Refused(until),
            State::Open { .. } => Say::Try,
            State::Trying => Say::Refused(now + WHILE_TRYING),
        }
    }

    /// The one that tries is sent.
    pub fn trying(&mut self) {
        self.state = State::Trying;
    }

    /// A request ended; `tried` says that it was the one that tries. Whether the circuit has just opened.
    pub fn ended(&mut self, health: Health, tried: bool, now: Instant) -> bool {
        match (health, self.state) {
            (Health::Alive, State::Closed) => self.failures = 0,
            (Health::Failing, State::Closed) => {
                self.failures += 1;
                if self.failures >= THRESHOLD {
                    self.length = FIRST;
                    return self.open(now);
                }
            }
            (Health::Alive, State::Trying) if tried => *self = Self::default(),
            (Health::Failing, State::Trying) if tried => {
                self.length = (self.length * 2).min(LONGEST);
                return self.open(now);
            }
            // The next one may try at once.
            (Health::Unknown, State::Trying) if tried => self.state = State::Open { until: now },
            // What left before the circuit opened says nothing new.
            (Health::Alive | Health::Failing, State::Open { .. } | State::Trying) | (Health::Unknown, _) => {}
        }
        false
    }

    fn open(&mut self, now: Instant) -> bool {
        self.state = State::Open { until: now + self.length };
        self.failures = 0;
        true
    }

    /// The state for the metric.
    #[must_use]
    pub fn circuit(&self, now: Instant) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open { until } if now < until => Circuit::Open,
            State::Open { .. } | State::Trying => Circuit::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for failure in 1..=THRESHOLD {
            assert_eq!(breaker.say(now), Say::Go);
            assert_eq!(breaker.ended(Health::Failing, false, now), failure == THRESHOLD);
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_it_and_an_answer_between_begins_anew() {
        let now = Instant::now();
        assert_eq!(opened(now).say(now), Say::Refused(now + seconds(5)));
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            (0..4).for_each(|_| assert!(!breaker.ended(Health::Failing, false, now)));
            breaker.ended(Health::Unknown, false, now);
            breaker.ended(Health::Alive, false, now);
        }
        assert_eq!(breaker.circuit(now), Circuit::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_tries_and_each_failure_doubles_the_wait_to_a_minute() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for wait in [5, 10, 20, 40, 60, 60] {
            assert_eq!(breaker.say(now + seconds(wait) - seconds(1)), Say::Refused(now + seconds(wait)));
            now += seconds(wait);
            assert_eq!(breaker.say(now), Say::Try);
            breaker.trying();
            assert!(matches!(breaker.say(now), Say::Refused(_)));
            assert_eq!(breaker.circuit(now), Circuit::HalfOpen);
            assert!(breaker.ended(Health::Failing, true, now));
            assert_eq!(breaker.circuit(now), Circuit::Open);
        }
        now += seconds(60);
        breaker.trying();
        breaker.ended(Health::Alive, true, now);
        assert_eq!(breaker.say(now), Say::Go);
        // And from the start the next time.
        (0..THRESHOLD).for_each(|_| _ = breaker.ended(Health::Failing, false, now));
        assert_eq!(breaker.say(now), Say::Refused(now + seconds(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_left_before_it_opened_changes_nothing() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.ended(Health::Alive, false, now);
        breaker.ended(Health::Failing, false, now);
        assert_eq!(breaker.say(now), Say::Refused(now + seconds(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_says_nothing_lets_the_next_one_try() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let now = now + seconds(5);
        breaker.trying();
        breaker.ended(Health::Unknown, true, now);
        assert_eq!(breaker.say(now), Say::Try);
    }
}
