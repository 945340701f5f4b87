//! One flight, from its start to its landing: look once more and further away, wait for the permit, fetch, judge, keep,
//! land.
//!
//! Until the permit is had a flight that nobody waits for any more ends and gives its place back; from then on it
//! goes on to the end, since the request is paid for.

use std::{
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Answer, Ask, Lookup, Timing,
    admission::{self, Circumstances, Verdict},
    answer, flight,
};
use crate::{
    call::CacheKey,
    outcome::{Class, ErrorCode, Forward, NotKept, Refusal},
    store::{Failure, FailureAnswer, Stored},
    upstream::{
        budget::{Lane, gate::Permit},
        vendor::VendorAnswer,
    },
};

type Leader = flight::Leader<CacheKey, Answer>;

/// Flies. Lands in every case but one: where nobody waits and nothing was spent. `lane` is where it waits for its
/// permit unless somebody in a hurry joins.
pub(super) async fn fly(lookup: Arc<Lookup>, mut leader: Leader, ask: Ask, lane: Lane) {
    let started = Instant::now();
    // Another flight may have landed between this caller's look into memory and its joining.
    if let Some(answer) =
        lookup.answer_at_once(&ask, started).or_else(|| lookup.failed_recently(&ask.key, started))
    {
        return leader.land(answer);
    }
    if let Some(answer) = lookup.recalled(&ask).await {
        return leader.land(answer);
    }
    let mut lane = if leader.is_urgent() { Lane::Lookup } else { lane };
    let permit = 'lane: loop {
        let mut permit = pin!(lookup.upstream.permit(ask.key.workspace, lane));
        loop {
            match wait_for_permit(permit.as_mut(), &leader, lane).await {
                // Somebody in a hurry came in the very moment: what was refused to a lower lane is not refused to them.
                Waited::Over(Err(_)) if lane != Lane::Lookup && leader.is_urgent() => break,
                Waited::Over(permit) => break 'lane permit,
                Waited::Hurried => break,
                // Who joins a deserted flight finds its place in the queue still taken.
                Waited::Deserted => match leader.give_up() {
                    Ok(()) => return,
                    Err(wanted) => leader = wanted,
                },
            }
        }
        lane = Lane::Lookup;
    };
    let sent = Instant::now();
    let landing = Landing { lookup: &lookup, leader: &leader, ask: &ask };
    let (answer, upstream) = match permit {
        Ok(permit) => (landing.fetch(lane, permit).await, Some(sent.elapsed())),
        Err(refusal) => {
            let answer = landing.decide(Err(refusal), false).answer;
            (Answer { turned_away: Some(lane), ..answer }, None)
        }
    };
    let answer = Answer { timing: Timing { queued: sent - started, upstream }, ..answer };
    if answer.is_over() {
        // Whoever watches this call need not wait for the next poll.
        lookup.vigils.tell(&ask.key, answer.clone());
    }
    leader.land(answer);
}

/// A defect of ours, which is logged where it happens. It is remembered like any failure that cost a request.
fn panicked() -> Refusal {
    Refusal::new(ErrorCode::InternalError, "the fetch ended unexpectedly")
}

/// How the wait for a permit ended.
enum Waited {
    Over(Result<Permit, Refusal>),
    /// Somebody joined who is to be served before the lane that was waited in.
    Hurried,
    /// Nobody waits any more.
    Deserted,
}

async fn wait_for_permit(
    permit: Pin<&mut impl Future<Output = Result<Permit, Refusal>>>,
    leader: &Leader,
    lane: Lane,
) -> Waited {
    tokio::select! {
        biased;
        permit = permit => Waited::Over(permit),
        () = leader.hurried(), if lane != Lane::Lookup => Waited::Hurried,
        () = leader.deserted() => Waited::Deserted,
    }
}

/// What a landing was decided to be.
struct Decision {
    answer: Answer,
    /// Whether what the vendor answered belongs to another request.
    anothers: bool,
}

/// What a landing is decided by.
struct Landing<'a> {
    lookup: &'a Lookup,
    leader: &'a Leader,
    ask: &'a Ask,
}

impl Landing<'_> {
    /// Asks the vendor, and once more where what came over a used connection is another call's record: an answer that
    /// nobody asked for shifts all that follow on its connection by one, and would give callers each other's calls.
    async fn fetch(&self, lane: Lane, permit: Permit) -> Answer {
        let deadline = self.lookup.upstream.deadline();
        let lane = || if self.leader.is_urgent() { Lane::Lookup } else { lane };
        let fetched = self.ask_vendor(lane, deadline, permit).await;
        let source = fetched.as_ref().ok().and_then(|answer| answer.source.clone());
        let Decision { answer, anothers } = self.decide(fetched, true);
        let Some(source) = source.filter(|_| anothers) else { return answer };
        source.distrust();
        let reused = source.was_reused();
        tracing::warn!(reused, "an answer that does not belong to its request; its connection is left");
        if !reused {
            return answer;
        }
        let permit = self.lookup.upstream.permit_before(self.ask.key.workspace, lane(), deadline).await;
        let fetched = match permit {
            Ok(permit) => self.ask_vendor(lane, deadline, permit).await,
            Err(refusal) => Err(refusal),
        };
        self.decide(fetched, true).answer
    }

    /// Asks the vendor; a panic on the way is an error like any other.
    async fn ask_vendor(
        &self,
        lane: impl Fn() -> Lane,
        deadline: Instant,
        permit: Permit,
    ) -> Result<VendorAnswer, Refusal> {
        let fetch = self.lookup.upstream.fetch(&self.ask.key, &self.ask.trace, lane, deadline, permit);
        AssertUnwindSafe(fetch).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
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
        let verdict = admission::judge(&self.lookup.policy, &about, answer);
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
        if self.leader.is_purged() {
            return Some(NotKept::Purged);
        }
        if !self.leader.is_wanted() {
            return Some(NotKept::NoStore);
        }
        if !self.lookup.store.put(&self.ask.key, Arc::clone(stored)) {
            return Some(NotKept::TooLarge);
        }
        // A purge marks the flight first and empties the store second. One that came between our look at the mark
        // and our putting has emptied too early; this undoes it.
        self.leader.is_purged().then(|| {
            self.lookup.store.remove(&self.ask.key);
            NotKept::Purged
        })
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
        kept.and_then(|kept| self.lookup.stale_if_error(kept, now))
    }

    /// Lets a failure answer for its key for `failure_ttl`.
    fn remember(&self, failure: &FailureAnswer, now: Instant) {
        let ttl = self.lookup.policy.failure_ttl;
        if !ttl.is_zero() && !self.leader.is_purged() {
            let failure = Failure { answer: failure.clone(), until: now + ttl };
            self.lookup.store.put_failure(&self.ask.key, failure);
            if self.leader.is_purged() {
                // As in `keep`.
                self.lookup.store.remove(&self.ask.key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
