//! One flight, from its start to its landing: look once more, wait for the permit, fetch, judge, keep, land.
//!
//! Until the permit is had a flight that nobody waits for any more ends and gives its place back; from then on it
//! goes on to the end, since the request is paid for.

use std::{pin::pin, sync::Arc};

use tokio::time::Instant;

use super::{
    Answer, Ask, Lookup, Timing,
    admission::{self, Circumstances, Verdict},
    answer, flight,
};
use crate::{
    call::CacheKey,
    outcome::{Forward, NotKept, Refusal},
    store::{Failure, FailureAnswer, Stored},
    upstream::{Denied, answer::VendorAnswer},
};

type Leader = flight::Leader<CacheKey, Answer>;

/// Flies. Lands in every case but one: where nobody waits and nothing was spent.
pub(super) async fn fly(lookup: Arc<Lookup>, mut leader: Leader, ask: Ask) {
    let started = Instant::now();
    // Another flight may have landed between this caller's look into memory and its joining.
    if !ask.directives.fetch_anew
        && let Some(hit) = lookup.fresh(&ask.key, started)
    {
        return leader.land(hit);
    }
    if let Some(failed) = lookup.failed_recently(&ask.key, started) {
        return leader.land(failed);
    }
    let mut permit = pin!(lookup.upstream.permit(ask.key.workspace));
    let permit = loop {
        tokio::select! {
            biased;
            permit = &mut permit => break permit,
            () = leader.deserted() => match leader.give_up() {
                Ok(()) => return,
                Err(wanted) => leader = wanted,
            },
        }
    };
    let sent = Instant::now();
    let fetched = match permit {
        Ok(permit) => lookup.upstream.fetch(&ask.key, &ask.trace, permit).await,
        Err(denied) => Err(Denied::Unasked(denied)),
    };
    let timing = Timing { queued: sent - started, upstream: sent.elapsed() };
    let answer = Landing { lookup: &lookup, leader: &leader, ask: &ask }.decide(fetched);
    leader.land(Answer { timing, ..answer });
}

/// What a landing is decided by.
struct Landing<'a> {
    lookup: &'a Lookup,
    leader: &'a Leader,
    ask: &'a Ask,
}

impl Landing<'_> {
    /// What the waiters get, and what stays behind in the store.
    fn decide(&self, fetched: Result<VendorAnswer, Denied>) -> Answer {
        let now = Instant::now();
        let kept = self.lookup.store.get(&self.ask.key);
        let why = match &kept {
            _ if self.ask.directives.fetch_anew => Forward::Request,
            Some(_) => Forward::Stale,
            None => Forward::UriMiss,
        };
        let answer = match fetched {
            Ok(answer) => answer,
            Err(Denied::Asked(refusal)) => return self.refused(why, kept, refusal, now, true),
            Err(Denied::Unasked(refusal)) => return self.refused(why, kept, refusal, now, false),
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
            now: self.lookup.clock.at(now),
            instant: now,
            kept: kept.as_deref(),
        };
        match (admission::judge(&self.lookup.policy, &about, answer), kept) {
            (Verdict::Keep(stored), _) => {
                let stored = Arc::new(stored);
                let not_kept = self.keep(&stored);
                Answer::fetched(why, stored, not_kept)
            }
            (Verdict::Pass(stored, NotKept::Status), kept) => self.failed(why, kept, Arc::new(stored), now),
            (Verdict::Pass(stored, not_kept), _) => {
                if stored.status != http::StatusCode::OK {
                    // There is no such call any more, and no lifetime in which to remember that.
                    self.lookup.store.remove(&self.ask.key);
                }
                Answer::fetched(why, Arc::new(stored), Some(not_kept))
            }
            (Verdict::Superseded(lifetime), Some(kept)) => {
                let kept = Arc::new(kept.extended(now, lifetime));
                let _ = self.keep(&kept);
                Answer::superseding(why, kept)
            }
            (Verdict::Superseded(_), None) => Answer::crashed(),
            (Verdict::Refuse(refusal), kept) => self.refused(why, kept, refusal, now, true),
        }
    }

    /// Keeps an answer, unless a purge came in between or the caller asked for nothing to be kept; says why not.
    fn keep(&self, stored: &Arc<Stored>) -> Option<NotKept> {
        if self.leader.is_purged() {
            return Some(NotKept::Purged);
        }
        if self.ask.directives.keep_nothing {
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
        let ttl = self.lookup.policy.failure_ttl;
        if asked && !ttl.is_zero() && !self.leader.is_purged() {
            let failure = Failure { answer: failure.clone(), until: now + ttl };
            self.lookup.store.put_failure(&self.ask.key, failure);
        }
        if !answer::is_masked_by_stale(failure) {
            return None;
        }
        kept.and_then(|kept| self.lookup.stale_if_error(kept, now))
    }
}
