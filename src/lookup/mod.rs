//! Lookups: what is fresh is answered, what is not is fetched once for all who want it, what may be kept is kept.
//!
//! [`Lookup::answer`] is the story, [`admission`] the decision to keep, [`flight`] the coalescing, [`record`] the
//! reading of a record. This part knows neither sockets nor tiers nor the vendor's HTTP: it is given a [`CacheKey`]
//! and hands back an [`Answer`].

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use tokio::{sync::watch, time::Instant};

pub mod admission;
pub mod answer;
mod erase;
mod fetch;
pub mod flight;
mod handed_on;
pub mod record;
mod turn;
mod wait;

pub use answer::{Answer, Content, Timing};
use flight::{Joined, Wish};

use crate::{
    call::CacheKey,
    clock::Clock,
    outcome::{ErrorCode, Refusal, Tier},
    store::{Erased, Erasure, Erasures, Spans, Store, Stored},
    trace::Trace,
    upstream::{Upstream, budget::Lane},
};

/// The `lookup.*` and `lists.*` settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `lookup.final_statuses`, trimmed and in lower case.
    pub final_statuses: Vec<String>,
    /// `lookup.settle_after`
    pub settle_after: Duration,
    /// `lookup.settling_ttl`
    pub settling_ttl: Duration,
    /// `lookup.final_ttl`; `forever` is [`FOREVER`].
    pub final_ttl: Duration,
    /// `lookup.client_max_age`
    pub client_max_age: Duration,
    /// `lookup.stale_if_error`
    pub stale_if_error: Duration,
    /// `lookup.ongoing_ttl`
    pub ongoing_ttl: Duration,
    /// `lookup.not_found_ttl`
    pub not_found_ttl: Duration,
    /// `lookup.failure_ttl`
    pub failure_ttl: Duration,
    /// `lookup.obey_no_cache`
    pub obey_no_cache: bool,
    /// `lookup.query_ignored`
    pub query_ignored: Vec<String>,
    /// `lookup.query_forwarded`
    pub query_forwarded: Vec<String>,
    /// `lookup.max_wait`
    pub max_wait: Duration,
    /// `lists.ttl`
    pub list_ttl: Duration,
    /// `lists.empty_for_500`
    pub empty_for_500: bool,
}

impl Settings {
    /// What the tiers beyond memory have to know of it.
    #[must_use]
    pub fn spans(&self) -> Spans {
        let longest = self.final_ttl.saturating_add(self.stale_if_error);
        Spans { keep_stale: self.stale_if_error, longest }
    }

    /// The answer that a stale record may still give when the vendor fails.
    fn stale_if_error(&self, kept: Arc<Stored>, now: Instant) -> Option<Answer> {
        let until = kept.lifetime.saturating_add(self.stale_if_error);
        if kept.fresh_for(now).is_some() {
            // Passed by at a caller's wish, and no staler for that.
            return Some(Answer::hit(Tier::Memory, kept, now));
        }
        (kept.is_final() && kept.age(now) < until).then(|| Answer::stale(kept, now))
    }
}

/// What `forever` is counted as: a hundred years.
pub const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a caller's `Cache-Control` asks for, as far as it is heard (RFC 9111 §5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-cache` or `max-age=0`, where `lookup.obey_no_cache` is on.
    pub fetch_anew: bool,
    /// `no-store`, where `lookup.obey_no_cache` is on.
    pub keep_nothing: bool,
    /// `only-if-cached`
    pub only_if_cached: bool,
}

/// What a caller wants.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which call or list.
    pub key: CacheKey,
    /// On what terms.
    pub directives: Directives,
    /// Who asks, for the vendor's log.
    pub trace: Trace,
}

/// Answers lookups.
pub struct Lookup {
    policy: ArcSwap<Settings>,
    store: Store,
    flights: flight::Flights<CacheKey, Answer>,
    vigils: flight::Flights<CacheKey, Answer>,
    upstream: Upstream,
    clock: Arc<Clock>,
    draining: watch::Sender<bool>,
}

impl Lookup {
    /// A lookup over `store` and `upstream`.
    #[must_use]
    pub fn new(policy: Settings, store: Store, upstream: Upstream, clock: Arc<Clock>) -> Self {
        let (flights, vigils) = (flight::Flights::new(), flight::Flights::new());
        let (policy, draining) = (ArcSwap::from_pointee(policy), watch::Sender::new(false));
        Self { policy, store, flights, vigils, upstream, clock, draining }
    }

    /// The policy it works by now. Taken without a lock, and without a count that cores would hand to and fro; to be
    /// taken once for a request, and not to be held across a wait.
    #[must_use]
    pub fn policy(&self) -> Guard<Arc<Settings>> {
        self.policy.load()
    }

    /// Works by another policy from now on. What is kept keeps the lifetime that it was given, and a flight under way
    /// ends as it began.
    pub fn change_policy(&self, policy: Settings) {
        self.store.change_spans(policy.spans());
        self.policy.store(Arc::new(policy));
    }

    /// What is kept.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The vendor's side.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Answers one lookup: from memory where it is fresh, else by the flight for its key.
    pub async fn answer(self: &Arc<Self>, ask: Ask) -> Answer {
        match self.answer_at_once(&ask.key, &ask.directives, Instant::now()) {
            Some(hit) => hit,
            None => self.answer_by_flight(ask).await,
        }
    }

    /// Answers what is not fresh in memory: by the flight for its key.
    pub async fn answer_by_flight(self: &Arc<Self>, ask: Ask) -> Answer {
        if ask.directives.only_if_cached {
            let recalled = self.store.recall_from_all(&ask.key).await;
            if let Some(hit) = Self::recalled(&ask, recalled) {
                return hit;
            }
            let refusal =
                Refusal::new(ErrorCode::NotCached, "only-if-cached was asked for, and nothing fresh is kept");
            return Answer::not_forwarded(refusal);
        }
        self.answer_in(Lane::Lookup, ask).await
    }

    /// Answers one lookup, and holds the answer for up to `patience` while the call is under way.
    pub async fn answer_when_over(self: &Arc<Self>, ask: Ask, patience: Duration) -> Answer {
        let longest = self.policy().max_wait;
        wait::answer(self, ask, patience.min(longest)).await
    }

    /// Answers one lookup ahead of need: from what is kept where it is fresh, else by a flight that leaves
    /// `budget.reserve` to callers and lets them go first.
    pub async fn warm(self: &Arc<Self>, ask: Ask) -> Answer {
        match self.answer_at_once(&ask.key, &ask.directives, Instant::now()) {
            Some(hit) => hit,
            None => self.answer_in(Lane::Warm, ask).await,
        }
    }

    /// Those who wait for calls to end get what is known now, from now on, and warming ends.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits until [`drain`](Self::drain) is called.
    pub async fn drained(&self) {
        // The sender lives as long as the lookup.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Answers by the flight for the key, which waits for its permit in this lane unless somebody in a hurry joins.
    async fn answer_in(self: &Arc<Self>, lane: Lane, ask: Ask) -> Answer {
        if let Some(failed) = self.failed_recently(&ask.key, Instant::now()) {
            return failed;
        }
        let wish = Wish { urgent: lane == Lane::Lookup, kept: !ask.directives.keep_nothing };
        loop {
            let fly = |leader| fetch::fly(Arc::clone(self), leader, ask.clone(), lane);
            let (place, joined) = self.flights.join_or_start(&ask.key, wish, Answer::crashed, fly);
            let answer = place.landing().await.unwrap_or_else(Answer::crashed);
            match joined {
                Joined::Own => return answer,
                // The flight was turned away in a lower lane before it heard that it was in a hurry.
                Joined::AndHurried if answer.is_turned_away_below_lookups() => {}
                Joined::Another | Joined::AndHurried => return answer.collapsed(&ask.directives),
            }
        }
    }

    /// The answer that needs no waiting: what is fresh in memory. All that most requests ever see.
    #[must_use]
    pub fn answer_at_once(&self, key: &CacheKey, directives: &Directives, now: Instant) -> Option<Answer> {
        if directives.fetch_anew { None } else { self.fresh(key, now) }
    }

    /// No task, no lock, no allocation.
    fn fresh(&self, key: &CacheKey, now: Instant) -> Option<Answer> {
        let stored = self.store.get(key)?;
        stored.fresh_for(now)?;
        Some(Answer::hit(Tier::Memory, stored, now))
    }

    /// The answer from beyond memory, where it is fresh there. What is stale lies in memory afterwards, to serve if the
    /// vendor fails.
    fn recalled(ask: &Ask, recalled: Option<(Tier, Arc<Stored>)>) -> Option<Answer> {
        let (tier, stored) = recalled?;
        let now = Instant::now();
        stored.fresh_for(now).filter(|_| !ask.directives.fetch_anew)?;
        Some(Answer::hit(tier, stored, now))
    }

    /// What answers for a key whose last fetch has just failed: the stale record where there is one, else the failure.
    fn failed_recently(&self, key: &CacheKey, now: Instant) -> Option<Answer> {
        let failure = self.store.failure(key, now)?;
        if answer::is_masked_by_stale(&failure.answer)
            && let Some(stale) = self.store.get(key).and_then(|kept| self.policy().stale_if_error(kept, now))
        {
            return Some(stale);
        }
        Some(Answer::failed_recently(&failure, now))
    }

    /// Forgets what other replicas were told to forget, for ever.
    pub async fn follow_erasures(&self, erasures: Erasures) {
        erase::follow(self, erasures).await
    }

    /// Forgets what an erasure is about, in every tier, and keeps nothing of it that is under way. What was kept, once it
    /// will not come back; `None` where that cannot be said, which is logged. It goes on when who asked for it leaves.
    pub async fn erase(self: &Arc<Self>, erasure: Erasure) -> Option<Erased> {
        erase::erase(self, erasure).await
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
