//! All that the simulated vendor is: its configuration, its calls, what goes wrong with it, and what it has seen.
//!
//! Shared by every connection and every [`Handle`]. No lock is held for longer than a look into a map.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicU64, Ordering},
};

use super::{
    Config,
    book::{Book, Plan},
    clock::SinceEpoch,
    fault::{Fault, FaultKind, strike},
    journal::{Arrival, Journal},
    record::{Call, Phase},
    render::Slant,
};

/// The vendor.
#[derive(Debug)]
pub(super) struct Vendor {
    pub(super) config: Config,
    pub(super) journal: Journal,
    book: RwLock<Book>,
    faults: Mutex<Arc<[Fault]>>,
    /// Requests that a fault could have befallen.
    exposed: AtomicU64,
}

impl Vendor {
    pub(super) fn new(config: Config) -> Self {
        let plan = Plan {
            seed: config.seed,
            call_length: config.call_length,
            analysis_delay: config.analysis_delay,
            body_size: config.body_size.clone(),
        };
        let book = RwLock::new(Book::open(plan, config.calls, config.clock.now()));
        let faults = Mutex::new(config.faults.clone().into());
        Self { config, journal: Journal::default(), book, faults, exposed: AtomicU64::new(0) }
    }

    /// The time at the vendor.
    pub(super) fn now(&self) -> SinceEpoch {
        self.config.clock.now()
    }

    /// The calls, to look at for a moment.
    pub(super) fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call.
    pub(super) fn begin(&self) -> Arc<Call> {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        book.begin(self.now())
    }

    /// What befalls the request that was let in just now.
    pub(super) fn fault(&self) -> Option<FaultKind> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if faults.is_empty() {
            return None;
        }
        strike(&faults, self.config.seed, self.exposed.fetch_add(1, Ordering::Relaxed))
    }

    /// Records as they are.
    pub(super) fn truth(&self) -> Slant<'_> {
        Slant { workspace_id: &self.config.workspace_id, wrong_id: false, echo: None }
    }
}

/// Looks into a sandbox, and steers it, from outside; also after it has ended.
#[derive(Clone, Debug)]
pub struct Handle(pub(super) Arc<Vendor>);

impl Handle {
    /// Requests that arrived, whatever became of them.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.journal.requests()
    }

    /// Waits until [`requests`](Self::requests) is at least `count`.
    pub async fn reached(&self, count: u64) {
        self.0.journal.reached(count).await;
    }

    /// Requests for the call of this id, by the id that they named. 0 without [`Config::journal`].
    #[must_use]
    pub fn requests_for(&self, id: &str) -> u64 {
        self.0.journal.requests_for(id)
    }

    /// Answers of 429, from the rate limit or as a fault.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.0.journal.rejected()
    }

    /// The most requests that were let in during any 60 seconds. 0 with neither [`Config::journal`] nor a rate limit.
    #[must_use]
    pub fn busiest_minute(&self) -> usize {
        self.0.journal.peak()
    }

    /// The last 100,000 requests, the oldest first. None without [`Config::journal`].
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.0.journal.arrivals()
    }

    /// The `_id`s of all calls by their start, the oldest first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.ids_where(|_| true)
    }

    /// The `_id`s of calls whose records change no more, the oldest first.
    #[must_use]
    pub fn settled_ids(&self) -> Vec<String> {
        self.ids_where(|phase| phase == Phase::Settled)
    }

    /// The `_id`s of calls under way, the oldest first.
    #[must_use]
    pub fn ongoing_ids(&self) -> Vec<String> {
        self.ids_where(|phase| phase == Phase::Ongoing)
    }

    /// The `callId` of a call, by either id.
    #[must_use]
    pub fn call_id(&self, id: &str) -> Option<String> {
        self.0.book().find(id).map(|call| String::from(&*call.call_id))
    }

    /// Begins a call right now, and returns its `_id`.
    #[must_use]
    pub fn start_call(&self) -> String {
        String::from(&*self.0.begin().id)
    }

    /// Replaces the faults; an empty list makes the vendor well again. The choice of requests goes on where it was.
    pub fn set_faults(&self, faults: &[Fault]) {
        *self.0.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults.into();
    }

    fn ids_where(&self, wanted: impl Fn(Phase) -> bool) -> Vec<String> {
        let now = self.0.now();
        let book = self.0.book();
        book.calls()
            .iter()
            .filter(|call| wanted(call.phase(now)))
            .map(|call| String::from(&*call.id))
            .collect()
    }
}
