//! What a lookup hands back: the answer itself, how it came about, and what it took.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::Directives;
use crate::{
    outcome::{Class, ErrorCode, Fetched, Forward, HitOf, NotKept, Outcome, Refusal, Tier},
    store::{Failure, FailureAnswer, Stored},
    upstream::budget::Lane,
};

/// The answer to one lookup. Cheap to clone: every waiter of a flight gets one.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it came about.
    pub outcome: Outcome,
    /// What it is.
    pub content: Content,
    /// What the fetch took, zero where there was none.
    pub timing: Timing,
    /// When asking again may bring something new: after a wait that was in vain.
    pub retry_after: Option<Duration>,
    /// The lane that had no permit in time, where the vendor was not asked for that reason.
    pub turned_away: Option<Lane>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Content {
    /// The vendor's answer.
    Stored(Arc<Stored>),
    /// An error of the gateway's own making.
    Refused(Arc<Refusal>),
}

/// What a fetch took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Waiting for a permit.
    pub queued: Duration,
    /// From sending to the answer's last byte, all tries together; `None` where nothing was sent.
    pub upstream: Option<Duration>,
}

impl Answer {
    fn new(outcome: Outcome, content: Content) -> Self {
        Self { outcome, content, timing: Timing::default(), retry_after: None, turned_away: None }
    }

    /// A fresh answer from this tier.
    pub(super) fn hit(tier: Tier, stored: Arc<Stored>, now: Instant) -> Self {
        let of = if stored.class == Class::NotFound { HitOf::NotFound } else { HitOf::Answer };
        let outcome = Outcome::Hit { tier, of, ttl: stored.ttl_seconds(now) };
        Self::new(outcome, Content::Stored(stored))
    }

    /// A stale answer, as the vendor fails.
    pub(super) fn stale(stored: Arc<Stored>, now: Instant) -> Self {
        let outcome = Outcome::StaleIfError { ttl: stored.ttl_seconds(now) };
        Self::new(outcome, Content::Stored(stored))
    }

    /// A failure that is remembered.
    pub(super) fn failed_recently(failure: &Failure, now: Instant) -> Self {
        let left = failure.until.saturating_duration_since(now);
        // Rounded up: a remembered failure with nothing left would not be one.
        let ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX) + i64::from(left.subsec_nanos() > 0);
        let outcome = Outcome::Hit { tier: Tier::Memory, of: HitOf::Failure, ttl };
        let content = match &failure.answer {
            FailureAnswer::Vendor(stored) => Content::Stored(Arc::clone(stored)),
            FailureAnswer::Refused(refusal) => Content::Refused(Arc::clone(refusal)),
        };
        Self::new(outcome, content)
    }

    /// An answer of the vendor, kept or not.
    pub(super) fn fetched(why: Forward, stored: Arc<Stored>, not_kept: Option<NotKept>) -> Self {
        let status = stored.status;
        let result = match not_kept {
            None => Fetched::Stored(status),
            Some(not_kept) => Fetched::NotStored(status, not_kept),
        };
        let outcome = Outcome::Forwarded { why, collapsed: false, result };
        Self::new(outcome, Content::Stored(stored))
    }

    /// An empty list, which the vendor says with a 500.
    pub(super) fn empty_list(why: Forward, list: Arc<Stored>) -> Self {
        let result = Fetched::NotStored(StatusCode::INTERNAL_SERVER_ERROR, NotKept::List);
        let outcome = Outcome::Forwarded { why, collapsed: false, result };
        Self::new(outcome, Content::Stored(list))
    }

    /// The kept record, served instead of an answer of the vendor that is worth less.
    pub(super) fn superseding(why: Forward, kept: Arc<Stored>) -> Self {
        let result = Fetched::NotStored(StatusCode::OK, NotKept::Superseded);
        let outcome = Outcome::Forwarded { why, collapsed: false, result };
        Self::new(outcome, Content::Stored(kept))
    }

    /// A fetch without an answer that could be passed on.
    pub(super) fn failed(why: Forward, refusal: Arc<Refusal>) -> Self {
        let outcome = Outcome::Forwarded { why, collapsed: false, result: Fetched::Failed(refusal.code) };
        Self::new(outcome, Content::Refused(refusal))
    }

    /// A lookup that the caller did not want to be forwarded.
    pub(super) fn not_forwarded(refusal: Refusal) -> Self {
        Self::failed(Forward::UriMiss, Arc::new(refusal))
    }

    /// A flight that never landed: a defect of ours, which the waiters hear of instead of hanging.
    pub(super) fn crashed() -> Self {
        let refusal = Refusal::new(ErrorCode::InternalError, "the fetch ended unexpectedly");
        Self::failed(Forward::UriMiss, Arc::new(refusal))
    }

    /// Whether it says no more than that a lower lane than that of lookups had no permit in time.
    pub(super) fn is_turned_away_below_lookups(&self) -> bool {
        self.turned_away.is_some_and(|lane| lane != Lane::Lookup)
    }

    /// Whether a call is said to be still under way, which is what some wait to be over.
    #[must_use]
    pub fn is_ongoing(&self) -> bool {
        matches!(&self.content, Content::Stored(stored) if stored.class == Class::Ongoing)
    }

    /// When the vendor gave it, where it did.
    pub(super) fn fetched_at(&self) -> Option<Instant> {
        match &self.content {
            Content::Stored(stored) => Some(stored.fetched),
            Content::Refused(_) => None,
        }
    }

    /// Whether a call is known to be over, or not to be.
    pub(super) fn is_over(&self) -> bool {
        matches!(&self.content, Content::Stored(stored) if stored.is_final() || stored.class == Class::NotFound)
    }

    /// The same, for a caller who joined another's flight, and who may have asked on other terms.
    pub(super) fn collapsed(mut self, own: &Directives) -> Self {
        if let Outcome::Forwarded { collapsed, why, .. } = &mut self.outcome {
            *collapsed = true;
            if *why == Forward::Request && !own.fetch_anew {
                *why = Forward::UriMiss;
            }
        }
        self
    }
}

/// Whether a stale record answers in the place of this failure. What says that the vendor's side has changed for
/// good, or must not be trusted, is told as it is: rejected credentials, another workspace's record, a leaked key,
/// and a request that the vendor calls wrong.
#[must_use]
pub fn is_masked_by_stale(failure: &FailureAnswer) -> bool {
    match failure {
        FailureAnswer::Vendor(stored) => {
            stored.status.is_server_error() || stored.status == StatusCode::TOO_MANY_REQUESTS
        }
        FailureAnswer::Refused(refusal) => match refusal.code {
            ErrorCode::RateLimitExceeded
            | ErrorCode::UpstreamUnreachable
            | ErrorCode::UpstreamError
            | ErrorCode::UpstreamIncomplete
            | ErrorCode::UpstreamTooLarge
            | ErrorCode::UpstreamInvalid
            | ErrorCode::UpstreamCircuitOpen
            | ErrorCode::Overloaded
            | ErrorCode::UpstreamTimeout
            | ErrorCode::InternalError => true,
            ErrorCode::UpstreamMismatch
            | ErrorCode::UpstreamCredentialsRejected
            | ErrorCode::UpstreamLeakedCredential
            | ErrorCode::InvalidCallId
            | ErrorCode::UnexpectedQuery
            | ErrorCode::UnexpectedBody
            | ErrorCode::InvalidHost
            | ErrorCode::InvalidRequest
            | ErrorCode::CrossSiteRequest
            | ErrorCode::UnknownWorkspace
            | ErrorCode::RouteNotFound
            | ErrorCode::EntryNotFound
            | ErrorCode::MethodNotAllowed
            | ErrorCode::MisdirectedRequest
            | ErrorCode::TargetTooLong
            | ErrorCode::HeadTooLarge
            | ErrorCode::BodyTooLarge
            | ErrorCode::NotCached
            | ErrorCode::InvalidConfiguration => false,
        },
    }
}
