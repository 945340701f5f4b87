//! Whether a failed request is tried again, and when. Pure: time and chance are passed in.
//!
//! Only what the vendor has not answered is tried again, or what it answered with 502, 503 or 504. A 500 is an answer
//! of this vendor's (that of an empty list), and a 429 asks for the opposite. Retries are kept to a fifth of the
//! recent requests and three besides, as Envoy's retry budget does it: when everything fails, retries only add to it.

use std::time::Duration;

use tokio::time::Instant;

use super::error::UpstreamError;

/// The backoff before the first retry; it doubles with each one.
const FIRST: Duration = Duration::from_millis(100);
/// The longest backoff.
const LONGEST: Duration = Duration::from_secs(2);
/// Seconds of traffic that the budget looks back on.
const WINDOW: usize = 60;
/// Retries that are always allowed within the window.
const BESIDES: u32 = 3;

/// Whether an error may be tried again at all.
#[must_use]
pub fn may_retry(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Connect(_) | UpstreamError::Reset { .. } => true,
        UpstreamError::Failing(status) => matches!(status, 502..=504),
        UpstreamError::Timeout
        | UpstreamError::Incomplete(_)
        | UpstreamError::TooLarge
        | UpstreamError::Invalid(_)
        | UpstreamError::CredentialsRejected(_)
        | UpstreamError::LeakedCredential => false,
    }
}

/// How long to wait before retry number `retry` (from 0): at least half of the step, the rest by `chance` (0 to 1).
#[must_use]
pub fn backoff(retry: u32, chance: f64) -> Duration {
    let step = FIRST.saturating_mul(1 << retry.min(10)).min(LONGEST);
    step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// What was sent in the last minute, by the second.
#[derive(Clone, Debug)]
pub struct Ledger {
    began: Instant,
    /// The second that was last written to, since `began`.
    second: u64,
    requests: [u32; WINDOW],
    retries: [u32; WINDOW],
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(began: Instant) -> Self {
        Self { began, second: 0, requests: [0; WINDOW], retries: [0; WINDOW] }
    }

    /// Writes a first try down.
    pub fn request(&mut self, now: Instant) {
        let place = self.turn_to(now);
        self.requests[place] = self.requests[place].saturating_add(1);
    }

    /// Whether another retry is within the budget; it is written down if so.
    pub fn retry(&mut self, now: Instant) -> bool {
        let place = self.turn_to(now);
        let sum = |seconds: &[u32]| seconds.iter().fold(0u32, |sum, n| sum.saturating_add(*n));
        let allowed = sum(&self.retries) < sum(&self.requests) / 5 + BESIDES;
        if allowed {
            self.retries[place] = self.retries[place].saturating_add(1);
        }
        allowed
    }

    /// Forgets the seconds that have passed out of the window, and says where the current one stands.
    fn turn_to(&mut self, now: Instant) -> usize {
        let second = now.saturating_duration_since(self.began).as_secs().max(self.second);
        let passed = (second - self.second).min(WINDOW as u64);
        let place = |second: u64| usize::try_from(second % WINDOW as u64).unwrap_or(0);
        for gone in 0..passed {
            let place = place(second - gone);
            (self.requests[place], self.retries[place]) = (0, 0);
        }
        self.second = second;
        place(second)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_was_not_answered_or_answered_with_502_to_504_is_tried_again() {
        let text = String::new;
        for error in [
            UpstreamError::Connect(text()),
            UpstreamError::Reset { reused: false, cause: text() },
            UpstreamError::Reset { reused: true, cause: text() },
            UpstreamError::Failing(502),
            UpstreamError::Failing(503),
            UpstreamError::Failing(504),
        ] {
            assert!(may_retry(&error), "{error}");
        }
        for error in [
            UpstreamError::Timeout,
            UpstreamError::Incomplete(text()),
            UpstreamError::TooLarge,
            UpstreamError::Invalid("".into()),
            UpstreamError::CredentialsRejected(401),
            UpstreamError::LeakedCredential,
        ] {
            assert!(!may_retry(&error), "{error}");
        }
    }

    #[test]
    fn the_backoff_doubles_within_bounds() {
        let millis = |retry, chance| backoff(retry, chance).as_millis();
        assert_eq!([0, 1, 2, 3].map(|retry| millis(retry, 1.0)), [100, 200, 400, 800]);
        assert_eq!([0, 1, 2, 3].map(|retry| millis(retry, 0.0)), [50, 100, 200, 400]);
        assert_eq!((millis(5, 1.0), millis(1_000, 1.0)), (2_000, 2_000));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_fifth_of_the_last_minute_and_three_besides() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut ledger = Ledger::new(start);
        let allowed = |ledger: &mut Ledger, now| (0..100).take_while(|_| ledger.retry(now)).count();
        assert_eq!(allowed(&mut ledger, at(0)), 3);
        (0..50).for_each(|_| ledger.request(at(10)));
        assert_eq!(allowed(&mut ledger, at(20)), 10, "thirteen, of which three are spent");
        assert_eq!(allowed(&mut ledger, at(60)), 3, "the first three are forgotten, the fifty count still");
        assert_eq!(allowed(&mut ledger, at(200)), 3);
    }

    proptest! {
        #[test]
        fn in_no_minute_are_there_more(steps in proptest::collection::vec((0u64..5_000, any::<bool>()), 1..300)) {
            let start = Instant::now();
            let mut ledger = Ledger::new(start);
            let mut now = 0;
            let (mut requests, mut retries): (Vec<u64>, Vec<u64>) = (vec![], vec![]);
            for (gap, retry) in steps {
                now += gap;
                let at = start + Duration::from_millis(now);
                if !retry {
                    ledger.request(at);
                    requests.push(now);
                } else if ledger.retry(at) {
                    retries.push(now);
                    // It counts by whole seconds.
                    let recent = |all: &[u64]| all.iter().filter(|t| **t / 1_000 + 60 > now / 1_000).count();
                    prop_assert!(recent(&retries) <= recent(&requests) / 5 + 3);
                }
            }
        }
    }
}
