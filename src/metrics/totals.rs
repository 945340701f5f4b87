//! Some of what is counted as plain numbers, for the status page: a scraper reads the text instead.
//!
//! Running totals since the start. Who wants a rate takes two and subtracts.

use std::sync::atomic::Ordering::Relaxed;

use super::{Metrics, RouteLabel, families::Families};
use crate::outcome::CacheLabel;

/// What was counted up to one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Answered requests of the internal endpoint by what the cache did, in the order of [`CacheLabel::ALL`].
    pub by_cache: [u64; CacheLabel::ALL.len()],
    /// The same by the first digit of the status, from 1xx to 5xx.
    pub by_class: [u64; 5],
    /// Of them the lookups and lists that were answered with something of use: neither a 429 nor a 5xx, nor refused at
    /// the door.
    pub answered: u64,
    /// Requests to the vendor that have ended, every try for itself.
    pub upstream: u64,
    /// Those that are under way.
    pub in_flight: u64,
    /// Tries beyond the first.
    pub retries: u64,
    /// Lookups and lists that were turned away, with a 429 or 503. What the gateway does in the background and puts off is
    /// none of them.
    pub refused: u64,
    /// What the vendor took: upper bounds in seconds, the last one infinite, and how many took so long or less.
    pub latency: Vec<(f64, u64)>,
    /// What all of them took together, in seconds.
    pub latency_sum: f64,
}

impl Metrics {
    /// What was counted up to now. The vendor's side is read last, so that no saving is shown that was none.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (route, cache, requests) in self.families.all_requests() {
            for (status, n) in requests.by_status.numbers() {
                add(&mut totals.by_cache, cache as usize, n);
                add(&mut totals.by_class, usize::from(status / 100).saturating_sub(1), n);
                let of_use = status < 500 && status != 429 && cache != CacheLabel::None;
                let asked_for = route != RouteLabel::Other;
                if asked_for && of_use {
                    totals.answered += n;
                }
                if asked_for && matches!(status, 429 | 503) {
                    totals.refused += n;
                }
            }
        }
        let Families { upstream_by_status, upstream_by_error, upstream_duration, .. } = &*self.families;
        totals.upstream = upstream_by_status.numbers().map(|(_, n)| n).sum::<u64>()
            + upstream_by_error.counted().iter().map(|(_, n)| n).sum::<u64>();
        totals.in_flight = u64::try_from(self.families.upstream_in_flight.load(Relaxed)).unwrap_or(0);
        totals.retries = self.families.upstream_retries.load(Relaxed);
        (totals.latency, totals.latency_sum) = upstream_duration.cumulative();
        totals
    }
}

fn add(counters: &mut [u64], place: usize, n: u64) {
    if let Some(counter) = counters.get_mut(place) {
        *counter += n;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;

    #[test]
    fn what_was_counted_is_added_up() {
        let metrics = Metrics::new();
        let ask = |route, cache, status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            metrics.request(route, cache, status, Duration::from_micros(20));
        };
        ask(RouteLabel::Lookup, CacheLabel::Hit, 200);
        ask(RouteLabel::Lookup, CacheLabel::Hit, 304);
        ask(RouteLabel::Lookup, CacheLabel::Miss, 404);
        ask(RouteLabel::List, CacheLabel::Bypass, 200);
        // Of no use to the caller, or nobody's lookup.
        ask(RouteLabel::Lookup, CacheLabel::Miss, 429);
        ask(RouteLabel::Lookup, CacheLabel::Miss, 502);
        ask(RouteLabel::List, CacheLabel::Miss, 503);
        ask(RouteLabel::Lookup, CacheLabel::None, 499);
        ask(RouteLabel::Other, CacheLabel::None, 404);
        // A poll or a list to be warmed, which tries again later.
        metrics.budget_rejected();
        metrics.upstream_started().ended(Duration::from_millis(30), Ok(StatusCode::OK));
        drop(metrics.upstream_started());
        let under_way = metrics.upstream_started();
        let totals = metrics.totals();
        assert_eq!(totals.by_cache, [2, 4, 0, 1, 0, 0, 2]);
        assert_eq!(totals.by_class, [0, 2, 1, 4, 2]);
        assert_eq!((totals.answered, totals.upstream, totals.in_flight), (4, 2, 1));
        assert_eq!(totals.refused, 2);
        assert_eq!(totals.latency.last(), Some(&(f64::INFINITY, 1)));
        assert!(totals.latency.contains(&(0.025, 0)) && totals.latency.contains(&(0.05, 1)));
        assert!((totals.latency_sum - 0.03).abs() < 1e-9);
        drop(under_way);
    }
}
