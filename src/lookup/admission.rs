//! Decides what becomes of an answer of the vendor: may it be served, may it be kept, for how long. Pure: the time is
//! passed in, and nothing is stored here. This is the only place where a [`Stored`] is made from an answer.
//!
//! The vendor's own `cache-control` plays no part: this is its customer's private cache, and the record says more.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{
    Settings,
    record::{self, Facts, Reading},
};
use crate::{
    call::{CacheKey, CallId, Resource},
    clock::UnixMillis,
    outcome::{Class, ErrorCode, NotKept, Refusal, Suspicion},
    store::{
        Stored,
        stored::{EntityTag, Rare, shared_type},
    },
    upstream::vendor::VendorAnswer,
};

/// The record of a call this young may not have been written yet.
const YOUNG: Duration = Duration::from_secs(60);
/// How long the 404 for such a call is remembered.
const YOUNG_NOT_FOUND: Duration = Duration::from_secs(1);

/// What is known beside the answer itself.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// What was asked for.
    pub key: &'a CacheKey,
    /// The workspace whose key was sent.
    pub workspace_id: &'a str,
    /// The time of day, for the times in the record.
    pub now: UnixMillis,
    /// The same on the clock that ages are counted with: when the request was sent, since what the answer says may be as
    /// old as that (RFC 9111 §4.2.3).
    pub instant: Instant,
    /// What is kept for the key, fresh or stale.
    pub kept: Option<&'a Stored>,
    /// Whether the vendor has lately answered for something else without failing.
    pub vendor_is_alive: bool,
}

/// What becomes of an answer.
#[derive(Debug)]
pub enum Verdict {
    /// Serve it and keep it for its lifetime.
    Keep(Stored),
    /// Serve it this once.
    Pass(Stored, NotKept),
    /// The vendor's 500 for an empty list, made into the list that it means.
    EmptyList(Stored),
    /// It would replace a final record by less: serve the kept one.
    Superseded {
        /// After which time to ask again.
        lifetime: Duration,
        /// Whether it is not even a record of this call.
        anothers: bool,
    },
    /// It may not be served.
    Refuse(Refusal),
}

impl Verdict {
    /// Whether the answer belongs to another request: it holds another call's record, or another workspace's.
    #[must_use]
    pub fn is_anothers(&self) -> bool {
        match self {
            Self::Superseded { anothers, .. } => *anothers,
            Self::Pass(_, why) => *why == NotKept::Suspect(Suspicion::OtherId),
            Self::Refuse(refusal) => refusal.code == ErrorCode::UpstreamMismatch,
            Self::Keep(_) | Self::EmptyList(_) => false,
        }
    }
}

/// Judges an answer.
#[must_use]
pub fn judge(policy: &Settings, about: &Circumstances<'_>, answer: VendorAnswer) -> Verdict {
    match (answer.status, &about.key.resource) {
        (StatusCode::OK, Resource::Call(id, _)) => record(policy, about, id, answer),
        (StatusCode::OK, Resource::List(_)) => {
            keep(store(about, answer, Class::List, policy.list_ttl), NotKept::List)
        }
        // A call that is gone is gone, even if a final record of it is kept: an erasure at the vendor must get through.
        (StatusCode::NOT_FOUND | StatusCode::GONE, Resource::Call(..)) => {
            let lifetime = not_found_lifetime(policy, about);
            keep(store(about, answer, Class::NotFound, lifetime), NotKept::NoLifetime)
        }
        (StatusCode::INTERNAL_SERVER_ERROR, Resource::List(_))
            if policy.empty_for_500 && about.vendor_is_alive =>
        {
            let list = VendorAnswer {
                status: StatusCode::OK,
                body: Bytes::from_static(b"[]"),
                content_type: Some(HeaderValue::from_static("application/json")),
                last_modified: None,
                ..answer
            };
            Verdict::EmptyList(store(about, list, Class::List, Duration::ZERO))
        }
        _ => Verdict::Pass(store(about, answer, Class::Failure, Duration::ZERO), NotKept::Status),
    }
}

/// How long a 404 is believed: for a call that has only just begun no longer than [`YOUNG_NOT_FOUND`], since its
/// record may be about to appear.
fn not_found_lifetime(policy: &Settings, about: &Circumstances<'_>) -> Duration {
    let created = about.key.call_id().and_then(CallId::created);
    // By a clock that may be ahead of ours; an id from the far future was not made by a clock.
    let young = created.is_some_and(|at| (at * 1_000).abs_diff(about.now.0) < YOUNG.as_millis() as u64);
    if young { policy.not_found_ttl.min(YOUNG_NOT_FOUND) } else { policy.not_found_ttl }
}

/// Judges a 200 for a call by its record.
fn record(policy: &Settings, about: &Circumstances<'_>, id: &CallId, answer: VendorAnswer) -> Verdict {
    let (class, lifetime, facts, not_kept) = match record::read(&answer.body, id, about.workspace_id) {
        Reading::ForeignWorkspace => {
            let detail = "the record that came back belongs to another workspace";
            return Verdict::Refuse(Refusal::new(ErrorCode::UpstreamMismatch, detail));
        }
        Reading::Suspect(why) => (Class::Suspect, Duration::ZERO, None, NotKept::Suspect(why)),
        Reading::Record(facts) => {
            let over = facts.status.as_ref().is_some_and(|s| policy.final_statuses.contains(s));
            let (class, lifetime) = match over {
                true => settle(policy, &facts, about.now, first_final(about).elapsed_at(about.instant)),
                false => (Class::Ongoing, policy.ongoing_ttl),
            };
            let why = if over { NotKept::NoLifetime } else { NotKept::Ongoing };
            (class, lifetime, Some(facts), why)
        }
    };
    let (updated, started) = facts.map_or((None, None), |facts| (facts.updated, facts.started));
    if about.kept.is_some_and(|kept| supersedes(kept, class, updated)) {
        let anothers = not_kept == NotKept::Suspect(Suspicion::OtherId);
        return Verdict::Superseded { lifetime: policy.settling_ttl, anothers };
    }
    keep(Stored { updated, started, ..store(about, answer, class, lifetime) }, not_kept)
}

/// Whether what is kept is worth more than what came: a final record is not replaced by one that is not final or
/// that was updated earlier, which a lagging replica of the vendor or a late answer may say.
fn supersedes(kept: &Stored, class: Class, updated: Option<UnixMillis>) -> bool {
    let older = matches!((kept.updated, updated), (Some(kept), Some(new)) if new < kept);
    kept.is_final() && (older || !matches!(class, Class::Final | Class::Settling))
}

/// Whether a call that is over has settled, and how long its record may be kept.
///
/// The analysis that runs after a call still writes into its record. The younger the call the likelier that is, so
/// the lifetime grows with the time since the last sign of change.
fn settle(
    policy: &Settings,
    facts: &Facts,
    now: UnixMillis,
    since_first_sight: Duration,
) -> (Class, Duration) {
    let settling = |since: Duration| (Class::Settling, policy.settling_ttl.max(since / 4));
    match facts.ended.max(facts.updated) {
        // Nothing can be read: what is known is how long it has been seen to be over.
        None if since_first_sight >= policy.settle_after => (Class::Final, policy.final_ttl),
        None => settling(Duration::ZERO),
        // A time that has not come is no sign of rest, whoever's clock is wrong.
        Some(last) if last > now => settling(Duration::ZERO),
        Some(last) => match last.elapsed_at(now) {
            since if since >= policy.settle_after => (Class::Final, policy.final_ttl),
            since => settling(since),
        },
    }
}

/// When the call was first seen to be over: now, unless what is kept says earlier.
fn first_final(about: &Circumstances<'_>) -> FirstFinal {
    FirstFinal(about.kept.filter(|kept| kept.is_final()).map_or(about.instant, |kept| kept.first_final))
}

/// A point on the clock that ages are counted with.
struct FirstFinal(Instant);

impl FirstFinal {
    fn elapsed_at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0)
    }
}

fn keep(stored: Stored, otherwise: NotKept) -> Verdict {
    if stored.lifetime.is_zero() { Verdict::Pass(stored, otherwise) } else { Verdict::Keep(stored) }
}

fn store(about: &Circumstances<'_>, answer: VendorAnswer, class: Class, lifetime: Duration) -> Stored {
    let ok = answer.status == StatusCode::OK;
    Stored {
        status: answer.status,
        class,
        etag: ok.then(|| EntityTag::of(&answer.body)),
        body: answer.body,
        content_type: answer.content_type.map(shared_type),
        rare: Rare::of(answer.last_modified, answer.retry_after.filter(|_| !ok)),
        updated: None,
        started: None,
        first_final: first_final(about).0,
        fetched: about.instant,
        lifetime,
    }
}

#[cfg(test)]
mod tests;
