//! What the vendor has seen: counters for everybody, and the single requests for tests.
//!
//! Counters cost a few nanoseconds and are always kept. Single requests (what, when, how often each id, the busiest
//! minute) are kept only where `Config::journal` asks for it, and of them only the last 100,000.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::{clock::SinceEpoch, limit::Window};

/// How many requests, and how many ids, are remembered singly.
const REMEMBERED: usize = 100_000;

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When, by the sandbox's clock.
    pub at: SinceEpoch,
    /// Path and query.
    pub target: String,
    /// Whether it was let in: both headers right, and within the rate limit.
    pub accepted: bool,
}

/// What has been seen.
#[derive(Debug, Default)]
pub(super) struct Journal {
    requests: AtomicU64,
    rejected: AtomicU64,
    arrived: Notify,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    window: Window,
    arrivals: VecDeque<Arrival>,
    by_id: HashMap<String, u64>,
}

/// What a request is, as far as the journal cares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Path and query.
    pub(super) target: &'a str,
    /// The id, where one call is asked for.
    pub(super) id: Option<&'a str>,
    /// Whether both headers are right.
    pub(super) welcome: bool,
}

impl Journal {
    /// Counts a request, and says whether it may come in; the error is when the next one may.
    ///
    /// `limit` is a number of requests a minute, 0 for none. `clock` is read under the lock, so that times are in order.
    pub(super) fn enter(
        &self,
        entry: Entry<'_>,
        clock: impl FnOnce() -> SinceEpoch,
        limit: u32,
        remember: bool,
    ) -> Result<(), SinceEpoch> {
        let admission = if remember || (limit > 0 && entry.welcome) {
            let mut pages = self.pages();
            let now = clock();
            let admission = if entry.welcome { pages.window.arrive(now, limit) } else { Ok(()) };
            if remember {
                pages.note(entry, now, entry.welcome && admission.is_ok());
            }
            admission
        } else {
            Ok(())
        };
        self.requests.fetch_add(1, Ordering::Release);
        self.arrived.notify_waiters();
        admission
    }

    /// Counts an answer of 429.
    pub(super) fn reject(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Acquire)
    }

    /// Answers of 429 so far.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Waits until there have been `count` requests.
    pub(super) async fn reached(&self, count: u64) {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            if self.requests() >= count {
                return;
            }
            arrived.await;
        }
    }

    /// Requests for a call, by the id that was asked with.
    pub(super) fn requests_for(&self, id: &str) -> u64 {
        self.pages().by_id.get(id).copied().unwrap_or_default()
    }

    /// The most that were let in in any 60 seconds.
    pub(super) fn peak(&self) -> usize {
        self.pages().window.peak()
    }

    /// The single requests, the oldest first.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.pages().arrivals.iter().cloned().collect()
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn note(&mut self, entry: Entry<'_>, at: SinceEpoch, accepted: bool) {
        if self.arrivals.len() >= REMEMBERED {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(Arrival { at, target: entry.target.into(), accepted });
        if let Some(id) = entry.id {
            if let Some(count) = self.by_id.get_mut(id) {
                *count += 1;
            } else if self.by_id.len() < REMEMBERED {
                self.by_id.insert(id.into(), 1);
            }
        }
    }
}
