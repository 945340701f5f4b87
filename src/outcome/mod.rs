//! The words that the response header, the log line and the metric share: how an answer came about, why one was not
//! kept, why a request was refused.
//!
//! Pure: nothing here knows HTTP's messages, the clock or the store. A word is written down once, in an `as_str`.

use http::{HeaderValue, StatusCode};

mod refusal;

pub use refusal::{ErrorCode, Refusal};

use crate::line::Line;

/// Which tier of the store an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// This process's memory.
    Memory,
    /// The file on this machine.
    Disk,
    /// Redis or Valkey, shared by the replicas.
    Shared,
}

impl Tier {
    /// The word in metric labels; in `Cache-Status` memory goes without saying.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Shared => "shared",
        }
    }
}

/// What the body of an answer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A call that is over, and for long enough that its record no longer changes.
    Final,
    /// A call that is over, but so recently that the analysis may still be written into its record.
    Settling,
    /// A call under way, or whose status says nothing else.
    Ongoing,
    /// A 200 that is not the record which was asked for.
    Suspect,
    /// A list of calls; its records are not read.
    List,
    /// The vendor's 404 or 410.
    NotFound,
    /// Any other status that the vendor answers with.
    Failure,
}

impl Class {
    /// The word in the log and on the admin endpoint.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Settling => "settling",
            Self::Ongoing => "ongoing",
            Self::Suspect => "suspect",
            Self::List => "list",
            Self::NotFound => "not-found",
            Self::Failure => "failure",
        }
    }
}

/// Why a 200 for a lookup is served as it came but deserves no trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suspicion {
    /// Not one JSON object: HTML, an array, two documents, broken UTF-8.
    NotAnObject,
    /// Nested deeper than [`crate::lookup::record::MAX_DEPTH`].
    TooDeep,
    /// A member that counts is given twice.
    DuplicateMember,
    /// A member that counts has another type than the vendor documents.
    MemberType,
    /// No `_id` and no `callId` where a record may stand.
    NoId,
    /// The record of another call.
    OtherId,
}

impl Suspicion {
    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAnObject => "not-an-object",
            Self::TooDeep => "too-deep",
            Self::DuplicateMember => "duplicate-member",
            Self::MemberType => "member-type",
            Self::NoId => "no-id",
            Self::OtherId => "other-id",
        }
    }
}

/// Why an answer of the vendor was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotKept {
    /// The call is under way.
    Ongoing,
    /// The body is not what was asked for.
    Suspect(Suspicion),
    /// Lists are not kept, unless `lists.ttl` says so.
    List,
    /// An operator purged the call while it was being fetched.
    Purged,
    /// The caller asked for `no-store`, and `lookup.obey_no_cache` is on.
    NoStore,
    /// A lagging answer: the final record that is kept already is newer, and was served instead.
    Superseded,
    /// Heavier than the whole cache.
    TooLarge,
    /// The settings give this class no lifetime.
    NoLifetime,
    /// A status that says nothing lasting about the call; remembered for `failure_ttl` at most.
    Status,
}

impl NotKept {
    /// The word in `Cache-Status` and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ongoing => "ongoing",
            Self::Suspect(_) => "suspect",
            Self::List => "list",
            Self::Purged => "purged",
            Self::NoStore => "no-store",
            Self::Superseded => "superseded",
            Self::TooLarge => "too-large",
            Self::NoLifetime => "no-lifetime",
            Self::Status => "status",
        }
    }
}

/// Why a request went on to the vendor (RFC 9211 §2.2, the `fwd` parameter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Nothing was kept for the key.
    UriMiss,
    /// What was kept had expired.
    Stale,
    /// The caller's own `Cache-Control` asked for it.
    Request,
}

impl Forward {
    /// The token of RFC 9211.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::Stale => "stale",
            Self::Request => "request",
        }
    }
}

/// What a hit was a hit of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HitOf {
    /// A record, or a list where those are kept.
    Answer,
    /// A kept 404 or 410.
    NotFound,
    /// The failure of a fetch moments ago, remembered for `lookup.failure_ttl`.
    Failure,
}

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// From the store; `ttl` is what is left of the freshness lifetime, in seconds.
    Hit {
        /// Where it lay.
        tier: Tier,
        /// What it was.
        of: HitOf,
        /// Seconds of freshness left.
        ttl: i64,
    },
    /// From the store although expired, since the vendor fails; `ttl` is negative or 0.
    StaleIfError {
        /// Seconds of freshness left: none, so this counts downwards.
        ttl: i64,
    },
    /// The vendor was asked, or would have been.
    Forwarded {
        /// Why.
        why: Forward,
        /// Whether another caller's fetch was joined.
        collapsed: bool,
        /// What came of it.
        result: Fetched,
    },
    /// Refused before the cache was looked at.
    NotAsked,
}

/// What came of asking the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// An answer, kept from now on.
    Stored(StatusCode),
    /// An answer, passed on and not kept.
    NotStored(StatusCode, NotKept),
    /// No answer that could be passed on.
    Failed(ErrorCode),
}

/// The `cache` label of the request metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheLabel {
    /// From the store.
    Hit,
    /// The vendor was asked.
    Miss,
    /// Another caller's fetch was joined.
    Collapsed,
    /// The vendor's answer went past the cache: ongoing, suspect, a list.
    Bypass,
    /// From the store although expired.
    Stale,
    /// A kept 404, or a failure remembered.
    Negative,
    /// The cache had no part in it.
    None,
}

impl CacheLabel {
    /// Every label, in the order of their discriminants.
    pub const ALL: [Self; 7] =
        [Self::Hit, Self::Miss, Self::Collapsed, Self::Bypass, Self::Stale, Self::Negative, Self::None];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
            Self::Stale => "stale",
            Self::Negative => "negative",
            Self::None => "none",
        }
    }
}

impl Outcome {
    /// The word that the metric and the log use.
    #[must_use]
    pub fn label(&self) -> CacheLabel {
        match self {
            Self::Hit { of: HitOf::Answer, .. } => CacheLabel::Hit,
            Self::Hit { of: HitOf::NotFound | HitOf::Failure, .. } => CacheLabel::Negative,
            Self::StaleIfError { .. } => CacheLabel::Stale,
            Self::Forwarded { collapsed: true, .. } => CacheLabel::Collapsed,
            Self::Forwarded { result: Fetched::NotStored(_, why), .. } => match why {
                NotKept::Status => CacheLabel::Miss,
                NotKept::Superseded => CacheLabel::Stale,
                NotKept::Ongoing
                | NotKept::Suspect(_)
                | NotKept::List
                | NotKept::Purged
                | NotKept::NoStore
                | NotKept::TooLarge
                | NotKept::NoLifetime => CacheLabel::Bypass,
            },
            Self::Forwarded { result: Fetched::Stored(_) | Fetched::Failed(_), .. } => CacheLabel::Miss,
            Self::NotAsked => CacheLabel::None,
        }
    }

    /// Why the answer was not kept, or what refused it, in more words than the header has: for the log.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Forwarded { result: Fetched::NotStored(_, NotKept::Suspect(why)), .. } => {
                Some(why.as_str())
            }
            Self::Forwarded { result: Fetched::NotStored(_, why), .. } => Some(why.as_str()),
            Self::Forwarded { result: Fetched::Failed(code), .. } => Some(code.as_str()),
            Self::Hit { of: HitOf::NotFound, .. } => Some("not-found"),
            Self::Hit { of: HitOf::Failure, .. } => Some("failure"),
            Self::StaleIfError { .. } => Some("stale-if-error"),
            Self::Hit { of: HitOf::Answer, .. }
            | Self::Forwarded { result: Fetched::Stored(_), .. }
            | Self::NotAsked => None,
        }
    }

    /// The member of `Cache-Status` (RFC 9211) for this answer; `None` where the cache had no part in it.
    #[must_use]
    pub fn cache_status(&self) -> Option<HeaderValue> {
        // The longest has some hundred bytes.
        let mut line = Line::<128>::beginning("callgate");
        match self {
            Self::Hit { tier, of, ttl } => {
                line.put("; hit; ttl=").number(*ttl).put(match (of, tier) {
                    (HitOf::NotFound, _) => "; detail=not-found",
                    (HitOf::Failure, _) => "; detail=failure",
                    (HitOf::Answer, Tier::Disk) => "; detail=disk",
                    (HitOf::Answer, Tier::Shared) => "; detail=shared",
                    (HitOf::Answer, Tier::Memory) => "",
                });
            }
            Self::StaleIfError { ttl } => {
                line.put("; hit; ttl=").number(*ttl).put("; detail=stale-if-error");
            }
            Self::Forwarded { why, collapsed, result } => {
                line.put("; fwd=").put(why.as_str());
                if let Fetched::Stored(status) | Fetched::NotStored(status, _) = result {
                    line.put("; fwd-status=").put(status.as_str());
                }
                match result {
                    Fetched::Stored(_) => line.put("; stored"),
                    Fetched::NotStored(_, NotKept::Status) => &mut line,
                    Fetched::NotStored(_, not_kept) => line.put("; detail=").put(not_kept.as_str()),
                    Fetched::Failed(code) => line.put("; detail=").put(code.as_str()),
                };
                if *collapsed {
                    line.put("; collapsed");
                }
            }
            Self::NotAsked => return None,
        }
        line.value()
    }
}

#[cfg(test)]
mod tests;
