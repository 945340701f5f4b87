//! The latest requests, for whoever looks at the status page.
//!
//! It knows what a request was about and what became of it: never a body, a query or an address.
//!
//! Promised: it costs hits nothing that they would notice. Of hits it takes [`HITS_A_SECOND`] at the most, and for all
//! others a hit pays one relaxed load. Nobody waits for it: a request that finds it busy is left out.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::RouteLabel;
use crate::outcome::CacheLabel;

/// So many are remembered.
pub const REMEMBERED: usize = 50;

/// So many hits are written down in a second, at the most.
pub const HITS_A_SECOND: u64 = 4;

/// The longest user agent that is remembered, in characters.
const MAX_AGENT: usize = 60;

/// One request, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When its head had been read.
    pub at: Instant,
    /// What was asked for.
    pub route: RouteLabel,
    /// The call's id, where it was for one.
    pub id: Option<String>,
    /// What the cache did.
    pub cache: CacheLabel,
    /// Why, where that is worth a word.
    pub reason: Option<&'static str>,
    /// The answer's status.
    pub status: u16,
    /// From its head to the answer's.
    pub took: Duration,
    /// Who asked, as the caller says itself.
    pub agent: Option<String>,
}

/// A duration as log and page show it: in milliseconds, to the microsecond, without the noise of a binary fraction. The
/// division comes last: what is multiplied after it is noisy again.
#[must_use]
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The latest requests of one gateway.
#[derive(Debug)]
pub struct Latest {
    began: Instant,
    /// Milliseconds after `began` before which no hit is wanted.
    next_hit: AtomicU64,
    ring: Mutex<VecDeque<Request>>,
}

impl Latest {
    /// Empty, from now on.
    #[must_use]
    pub fn new() -> Self {
        let ring = Mutex::new(VecDeque::with_capacity(REMEMBERED));
        Self { began: Instant::now(), next_hit: AtomicU64::new(0), ring }
    }

    /// Since when requests are remembered: the start of the gateway.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether a request with this label that came in `at` is to be written down. To be asked before a [`Request`] is
    /// made: it takes its turn among the hits.
    #[must_use]
    pub fn wants(&self, cache: CacheLabel, at: Instant) -> bool {
        if cache != CacheLabel::Hit {
            return true;
        }
        let at = u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        let next = self.next_hit.load(Relaxed);
        at >= next
            && self
                .next_hit
                .compare_exchange(next, at.saturating_add(1_000 / HITS_A_SECOND), Relaxed, Relaxed)
                .is_ok()
    }

    /// Writes one down, unless somebody else is at it.
    pub fn note(&self, request: Request) {
        let Ok(mut ring) = self.ring.try_lock() else { return };
        if ring.len() == REMEMBERED {
            ring.pop_front();
        }
        ring.push_back(request);
    }

    /// What is remembered, the latest first.
    #[must_use]
    pub fn all(&self) -> Vec<Request> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

impl Default for Latest {
    fn default() -> Self {
        Self::new()
    }
}

/// A user agent as far as it is remembered.
#[must_use]
pub fn shortened(agent: &str) -> String {
    match agent.char_indices().nth(MAX_AGENT) {
        Some((end, _)) => format!("{}…", agent.get(..end).unwrap_or_default()),
        None => agent.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at: Instant, status: u16) -> Request {
        Request {
            at,
            route: RouteLabel::Lookup,
            id: None,
            cache: CacheLabel::Miss,
            reason: None,
            status,
            took: Duration::ZERO,
            agent: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_hits_a_second_are_written_down_and_everything_else_always() {
        let latest = Latest::new();
        let start = Instant::now();
        let hits = (0..2_000).filter(|ms| latest.wants(CacheLabel::Hit, start + Duration::from_millis(*ms)));
        assert_eq!(hits.count() as u64, 2 * HITS_A_SECOND);
        for label in CacheLabel::ALL.into_iter().filter(|label| *label != CacheLabel::Hit) {
            assert!((0..9).all(|_| latest.wants(label, start)), "{label:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_come_first_and_the_oldest_is_forgotten() {
        let latest = Latest::new();
        let now = Instant::now();
        (0..REMEMBERED as u16 + 7).for_each(|n| latest.note(request(now, n)));
        let statuses: Vec<_> = latest.all().iter().map(|request| request.status).collect();
        assert_eq!(statuses, (7..REMEMBERED as u16 + 7).rev().collect::<Vec<_>>());
    }

    #[test]
    fn milliseconds_are_shown_without_the_noise_of_a_binary_fraction() {
        let table = [
            (0, "0.0"),
            (499, "0.0"),
            (500, "0.001"),
            (9_000, "0.009"),
            (35_000, "0.035"),
            (123_456, "0.123"),
            (1_100_000, "1.1"),
            (60_000_000_000, "60000.0"),
        ];
        for (nanos, shown) in table {
            assert_eq!(format!("{:?}", millis(Duration::from_nanos(nanos))), shown, "{nanos}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_it() {
        let latest = Latest::new();
        let held = latest.ring.lock().expect("the lock");
        latest.note(request(Instant::now(), 200));
        drop(held);
        assert!(latest.all().is_empty());
    }

    #[test]
    fn a_long_user_agent_is_cut_between_characters() {
        assert_eq!(shortened("curl/8"), "curl/8");
        assert_eq!(shortened(&"é".repeat(60)), "é".repeat(60));
        assert_eq!(shortened(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
    }
}
