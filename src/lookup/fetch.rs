//! One flight, from its start to its landing: look once more and further away, wait for the permit, fetch, judge, keep,
//! land.
//!
//! Until the permit is had a flight that nobody waits for any more ends and gives its place back; from then on it
//! goes on to the end, since the request is paid for.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Answer, Ask, Lookup, Settings, Timing,
    admission::{self, Circumstances, Verdict},
    answer, flight, handed_on,
    turn::{self, Turn},
};
use crate::{
    call::CacheKey,
    outcome::{Class, ErrorCode, Forward, NotKept, Refusal, Tier},
    store::{Failure, FailureAnswer, Landing, Store, Stored},
    upstream::{
        budget::{Lane, gate::Permit},
        error::Unanswered,
        vendor::VendorAnswer,
    },
};

pub(super) type Leader = flight::Leader<CacheKey, Answer>;

/// Flies. Lands in every case but one: where nobody waits and nothing was spent. `lane` is where it waits for its
/// permit unless somebody in a hurry joins.
pub(super) async fn fly(lookup: Arc<Lookup>, mut leader: Leader, ask: Ask, lane: Lane) {
    let started = Instant::now();
    // Another flight may have landed between this caller's look into memory and its joining.
    if let Some(answer) = lookup
        .answer_at_once(&ask.key, &ask.directives, started)
        .or_else(|| lookup.failed_recently(&ask.key, started))
    {
        return leader.land(answer);
    }
    let recalled = lookup.store.recall(&ask.key).await;
    if let Some(answer) = Lookup::recalled(&ask, recalled) {
        return leader.land(answer);
    }
    // What the settings are now holds for this flight to its end.
    let latest = started + lookup.upstream.patience();
    let policy = lookup.policy.load_full();
    let (back, answer, upstream) = match turn::come(&lookup, leader, &ask, lane, started, latest).await {
        Turn::Deserted => return,
        Turn::Kept(leader, stored) => {
            return leader.land(Answer::hit(Tier::Shared, stored, Instant::now()));
        }
        Turn::Landed(leader, landing) => {
            let fetch =
                Fetch { lookup: &lookup, policy: &policy, leader: &leader, ask: &ask, handed_on: true };
            let answer = fetch.decide(handed_on::read(*landing), true).answer;
            (leader, answer.collapsed(&ask.directives), None)
        }
        Turn::Ours(leader, lease, lane, Ok(permit)) => {
            let sent = Instant::now();
            let fetch =
                Fetch { lookup: &lookup, policy: &policy, leader: &leader, ask: &ask, handed_on: false };
            let (answer, landing) = fetch.fly(lane, permit, latest).await;
            let upstream = landing.is_some().then(|| sent.elapsed());
            // Whoever waits for it elsewhere may have begun after the purge.
            match landing.filter(|_| !leader.is_purged()) {
                // Those at other replicas find what may be kept where they look first.
                Some(landing) => lease.land(&landing),
                None => drop(lease),
            }
            (leader, answer, upstream)
        }
        Turn::Ours(leader, lease, lane, Err(refusal)) => {
            drop(lease);
            let fetch =
                Fetch { lookup: &lookup, policy: &policy, leader: &leader, ask: &ask, handed_on: false };
            let answer = fetch.turned_away(lane, refusal);
            (leader, answer, None)
        }
    };
    leader = back;
    let queued = started.elapsed().saturating_sub(upstream.unwrap_or_default());
    let answer = Answer { timing: Timing { queued, upstream }, ..answer };
    if answer.is_over() {
        // Whoever watches this call need not wait for the next poll.
        lookup.vigils.tell(&ask.key, answer.clone());
    }
    leader.land(answer);
}

/// Keeps here what was found kept by another replica, unless there is something newer, or it was purged meanwhile.
pub(super) fn keep_here(lookup: &Lookup, leader: &Leader, key: &CacheKey, stored: &Arc<Stored>) {
    let newer = |known: &Arc<Stored>| known.fetched >= stored.fetched;
    let kept = leader.unless_purged(|| {
        if lookup.store.get(key).as_ref().is_some_and(newer) {
            return false;
        }
        lookup.store.put_here(key, Arc::clone(stored))
    });
    // An erasure elsewhere may have been heard of since it was read.
    if kept == Some(true) && lookup.store.forbids(key, stored.fetched) {
        lookup.store.remove_here(key);
    }
}

/// A defect of ours, which is logged where it happens. It is remembered like any failure that cost a request.
fn panicked() -> Refusal {
    Refusal::new(ErrorCode::InternalError, "the fetch ended unexpectedly")
}

/// What a landing was decided to be.
struct Decision {
    answer: Answer,
    /// Whether what the vendor answered belongs to another request.
    anothers: bool,
}

/// What an answer is decided by.
struct Fetch<'a> {
    lookup: &'a Lookup,
    policy: &'a Settings,
    leader: &'a Leader,
    ask: &'a Ask,
    /// Whether another replica fetched it, and has seen to what the replicas share.
    handed_on: bool,
}

impl Fetch<'_> {
    /// Asks the vendor, and once more where what came over a used connection is another call's record: an answer that
    /// nobody asked for shifts all that follow on its connection by one, and would give callers each other's calls.
    /// Says also what other replicas are to be told, which is nothing where the vendor was not asked.
    async fn fly(&self, lane: Lane, permit: Permit, latest: Instant) -> (Answer, Option<Landing>) {
        let deadline = self.lookup.upstream.deadline().min(latest);
        let lane = || if self.leader.is_urgent() { Lane::Lookup } else { lane };
        let fetched = match self.ask_vendor(lane, deadline, permit).await {
            Ok(answer) => Ok(answer),
            Err(Unanswered::Failed(refusal)) => Err(refusal),
            Err(Unanswered::NotSent(lane, refusal)) => return (self.turned_away(lane, refusal), None),
        };
        let source = fetched.as_ref().ok().and_then(|answer| answer.source.clone());
        let landing = Some(handed_on::write(&fetched));
        let Decision { answer, anothers } = self.decide(fetched, true);
        let Some(source) = source.filter(|_| anothers) else { return (answer, landing) };
        source.distrust();
        let reused = source.was_reused();
        tracing::warn!(reused, "an answer that does not belong to its request; its connection is left");
        if !reused {
            return (answer, landing);
        }
        // Where there is no turn for that, what is known stands, here and at other replicas.
        let permit = self.lookup.upstream.permit_before(self.ask.key.workspace, lane(), deadline).await;
        let Ok(permit) = permit else { return (answer, landing) };
        let fetched = match self.ask_vendor(lane, deadline, permit).await {
            Ok(answer) => Ok(answer),
            Err(Unanswered::Failed(refusal)) => Err(refusal),
            Err(Unanswered::NotSent(..)) => return (answer, landing),
        };
        let landing = Some(handed_on::write(&fetched));
        (self.decide(fetched, true).answer, landing)
    }

    /// The vendor was not asked: nothing of that is remembered, and it is known in which lane there was no turn.
    fn turned_away(&self, lane: Lane, refusal: Refusal) -> Answer {
        let answer = self.decide(Err(refusal), false).answer;
        Answer { turned_away: Some(lane), ..answer }
    }

    /// Asks the vendor; a panic on the way is an error like any other.
    async fn ask_vendor(
        &self,
        lane: impl Fn() -> Lane,
        deadline: Instant,
        permit: Permit,
    ) -> Result<VendorAnswer, Unanswered> {
        let fetch = self.lookup.upstream.fetch(&self.ask.key, &self.ask.trace, lane, deadline, permit);
        AssertUnwindSafe(fetch).catch_unwind().await.unwrap_or_else(|_| Err(Unanswered::Failed(panicked())))
    }

    /// What the waiters get, and what stays behind in the store.
    fn decide(&self, fetched: Result<VendorAnswer, Refusal>, asked: bool) -> Decision {
        let now = Instant::now();
        let kept = self.lookup.store.get(&self.ask.key);
        let why = match &kept {
            _ if self.ask.directives.fetch_anew => Forward::Request,
            Some(_) => Forward::Stale,
            None => Forward::UriMiss,
        };
        let answer = match fetched {
            Ok(answer) => answer,
            Err(refusal) => {
                let answer = self.refused(why, kept, refusal, now, asked);
                return Decision { answer, anothers: false };
            }
        };
        if let Some(moved) = answer.date.and_then(|date| self.lookup.clock.hear(date)) {
            tracing::warn!(
                moved_ms = moved,
                "the clock was corrected: the vendor's and the system's agree on another time"
            );
        }
        let about = Circumstances {
            key: &self.ask.key,
            workspace_id: self.lookup.upstream.workspace_id(self.ask.key.workspace),
            now: self.lookup.clock.at(answer.sent),
            instant: answer.sent,
            kept: kept.as_deref(),
            vendor_is_alive: self.lookup.upstream.alive_beside(&self.ask.key),
        };
        let verdict = admission::judge(self.policy, &about, answer);
        let anothers = verdict.is_anothers();
        let answer = match (verdict, kept) {
            (Verdict::Keep(stored), _) => {
                let stored = Arc::new(stored);
                let not_kept = self.keep(&stored);
                if not_kept.is_some() && stored.class == Class::NotFound {
                    // Whatever hinders the keeping of the 404, the call that stood there is gone.
                    self.lookup.store.remove(&self.ask.key);
                }
                Answer::fetched(why, stored, not_kept)
            }
            (Verdict::Pass(stored, NotKept::Status), kept) => self.failed(why, kept, Arc::new(stored), now),
            (Verdict::EmptyList(stored), _) => {
                let stored = Arc::new(stored);
                self.remember(&FailureAnswer::Vendor(Arc::clone(&stored)), now);
                Answer::empty_list(why, stored)
            }
            (Verdict::Pass(stored, not_kept), _) => {
                if stored.status != http::StatusCode::OK {
                    // There is no such call any more, and no lifetime in which to remember that.
                    self.lookup.store.remove(&self.ask.key);
                }
                Answer::fetched(why, Arc::new(stored), Some(not_kept))
            }
            (Verdict::Superseded { lifetime, .. }, Some(kept)) => {
                // What is fresh, and was passed by at a caller's wish, needs no longer life.
                let kept =
                    if kept.fresh_for(now).is_some() { kept } else { Arc::new(kept.extended(now, lifetime)) };
                let _ = self.keep(&kept);
                Answer::superseding(why, kept)
            }
            (Verdict::Superseded { .. }, None) => Answer::crashed(),
            (Verdict::Refuse(refusal), kept) => self.refused(why, kept, refusal, now, true),
        };
        Decision { answer, anothers }
    }

    /// Keeps an answer, unless a purge came in between or the caller asked for nothing to be kept; says why not.
    fn keep(&self, stored: &Arc<Stored>) -> Option<NotKept> {
        let kept = self.leader.unless_purged(|| {
            if !self.leader.is_wanted() {
                return Some(NotKept::NoStore);
            }
            let put = if self.handed_on { Store::put_here } else { Store::put };
            let fits = put(&self.lookup.store, &self.ask.key, Arc::clone(stored));
            (!fits).then_some(NotKept::TooLarge)
        });
        kept.unwrap_or(Some(NotKept::Purged))
    }

    /// The vendor answered with a status that says nothing lasting.
    fn failed(&self, why: Forward, kept: Option<Arc<Stored>>, stored: Arc<Stored>, now: Instant) -> Answer {
        let failure = FailureAnswer::Vendor(Arc::clone(&stored));
        self.masked(kept, &failure, now, true)
            .unwrap_or_else(|| Answer::fetched(why, stored, Some(NotKept::Status)))
    }

    /// There is no answer that could be passed on.
    fn refused(
        &self,
        why: Forward,
        kept: Option<Arc<Stored>>,
        refusal: Refusal,
        now: Instant,
        asked: bool,
    ) -> Answer {
        let refusal = Arc::new(refusal);
        let failure = FailureAnswer::Refused(Arc::clone(&refusal));
        self.masked(kept, &failure, now, asked).unwrap_or_else(|| Answer::failed(why, refusal))
    }

    /// Remembers a failure that cost the vendor a request, and gives the stale record that hides it, if any.
    fn masked(
        &self,
        kept: Option<Arc<Stored>>,
        failure: &FailureAnswer,
        now: Instant,
        asked: bool,
    ) -> Option<Answer> {
        if asked {
            self.remember(failure, now);
        }
        if !answer::is_masked_by_stale(failure) {
            return None;
        }
        kept.and_then(|kept| self.policy.stale_if_error(kept, now))
    }

    /// Lets a failure answer for its key for `failure_ttl`.
    fn remember(&self, failure: &FailureAnswer, now: Instant) {
        let ttl = self.policy.failure_ttl;
        if !ttl.is_zero() {
            let failure = Failure { answer: failure.clone(), until: now + ttl };
            // A purge leaves nothing of that either.
            let _ = self.leader.unless_purged(|| self.lookup.store.put_failure(&self.ask.key, failure));
        }
    }
}

#[cfg(test)]
mod tests;
