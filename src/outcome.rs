//! The words that the response header, the log line and the metric share: how an answer came about, why one was not
//! kept, why a request was refused.
//!
//! Pure: nothing here knows HTTP's messages, the clock or the store. A word is written down once, in an `as_str`.

use std::{borrow::Cow, fmt::Write as _};

use http::StatusCode;
use tokio::time::Instant;

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
    pub fn cache_status(&self) -> Option<String> {
        let mut out = String::with_capacity(64);
        out.push_str("callgate");
        // Writing to a `String` cannot fail.
        let _ = match self {
            Self::Hit { tier, of, ttl } => {
                let detail = match (of, tier) {
                    (HitOf::NotFound, _) => "; detail=not-found",
                    (HitOf::Failure, _) => "; detail=failure",
                    (HitOf::Answer, Tier::Disk) => "; detail=disk",
                    (HitOf::Answer, Tier::Shared) => "; detail=shared",
                    (HitOf::Answer, Tier::Memory) => "",
                };
                write!(out, "; hit; ttl={ttl}{detail}")
            }
            Self::StaleIfError { ttl } => write!(out, "; hit; ttl={ttl}; detail=stale-if-error"),
            Self::Forwarded { why, collapsed, result } => {
                let why = why.as_str();
                let end = if *collapsed { "; collapsed" } else { "" };
                match result {
                    Fetched::Stored(status) => {
                        write!(out, "; fwd={why}; fwd-status={}; stored{end}", status.as_u16())
                    }
                    Fetched::NotStored(status, NotKept::Status) => {
                        write!(out, "; fwd={why}; fwd-status={}{end}", status.as_u16())
                    }
                    Fetched::NotStored(status, not_kept) => {
                        let detail = not_kept.as_str();
                        write!(out, "; fwd={why}; fwd-status={}; detail={detail}{end}", status.as_u16())
                    }
                    Fetched::Failed(code) => write!(out, "; fwd={why}; detail={}{end}", code.as_str()),
                }
            }
            Self::NotAsked => return None,
        };
        Some(out)
    }
}

/// Every error that the gateway itself answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the documentation; `title` says each in words")]
pub enum ErrorCode {
    InvalidCallId,
    UnexpectedQuery,
    UnexpectedBody,
    InvalidHost,
    InvalidRequest,
    CrossSiteRequest,
    UnknownWorkspace,
    RouteNotFound,
    MethodNotAllowed,
    MisdirectedRequest,
    TargetTooLong,
    HeadTooLarge,
    RateLimitExceeded,
    UpstreamUnreachable,
    UpstreamError,
    UpstreamIncomplete,
    UpstreamTooLarge,
    UpstreamInvalid,
    UpstreamMismatch,
    UpstreamCredentialsRejected,
    UpstreamLeakedCredential,
    UpstreamCircuitOpen,
    Overloaded,
    UpstreamTimeout,
    NotCached,
    /// A defect of the gateway: a fetch that panicked. Nothing of the vendor's or the caller's making.
    InternalError,
}

impl ErrorCode {
    /// The code as it stands in `error.code` and at the end of `type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidCallId => "invalid_call_id",
            Self::UnexpectedQuery => "unexpected_query",
            Self::UnexpectedBody => "unexpected_body",
            Self::InvalidHost => "invalid_host",
            Self::InvalidRequest => "invalid_request",
            Self::CrossSiteRequest => "cross_site_request",
            Self::UnknownWorkspace => "unknown_workspace",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::MisdirectedRequest => "misdirected_request",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamIncomplete => "upstream_incomplete",
            Self::UpstreamTooLarge => "upstream_too_large",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::UpstreamMismatch => "upstream_mismatch",
            Self::UpstreamCredentialsRejected => "upstream_credentials_rejected",
            Self::UpstreamLeakedCredential => "upstream_leaked_credential",
            Self::UpstreamCircuitOpen => "upstream_circuit_open",
            Self::Overloaded => "overloaded",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::NotCached => "not_cached",
            Self::InternalError => "internal_error",
        }
    }

    /// The status that it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidCallId
            | Self::UnexpectedQuery
            | Self::UnexpectedBody
            | Self::InvalidHost
            | Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::CrossSiteRequest | Self::UnknownWorkspace => StatusCode::FORBIDDEN,
            Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamUnreachable
            | Self::UpstreamError
            | Self::UpstreamIncomplete
            | Self::UpstreamTooLarge
            | Self::UpstreamInvalid
            | Self::UpstreamMismatch
            | Self::UpstreamCredentialsRejected
            | Self::UpstreamLeakedCredential => StatusCode::BAD_GATEWAY,
            Self::UpstreamCircuitOpen | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamTimeout | Self::NotCached => StatusCode::GATEWAY_TIMEOUT,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The problem in a few words, the same for every occurrence (RFC 9457 §3.1.3).
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::InvalidCallId => "not a call id",
            Self::UnexpectedQuery => "a query parameter that is not understood",
            Self::UnexpectedBody => "no request here has a body",
            Self::InvalidHost => "the host field is missing, doubled or malformed",
            Self::InvalidRequest => "the request is not valid",
            Self::CrossSiteRequest => "cross-site requests are refused",
            Self::UnknownWorkspace => "no such workspace is configured",
            Self::RouteNotFound => "no such path",
            Self::MethodNotAllowed => "the method is not allowed here",
            Self::MisdirectedRequest => "this host name is not served here",
            Self::TargetTooLong => "the request target is too long",
            Self::HeadTooLarge => "the request head is too large",
            Self::RateLimitExceeded => "the vendor's rate limit is used up",
            Self::UpstreamUnreachable => "the vendor cannot be reached",
            Self::UpstreamError => "the vendor is failing",
            Self::UpstreamIncomplete => "the vendor's answer was cut short",
            Self::UpstreamTooLarge => "the vendor's answer is too large",
            Self::UpstreamInvalid => "the vendor's answer is not valid",
            Self::UpstreamMismatch => "the vendor answered with another workspace's record",
            Self::UpstreamCredentialsRejected => "the vendor rejected the gateway's credentials",
            Self::UpstreamLeakedCredential => "the vendor's answer held a credential",
            Self::UpstreamCircuitOpen => "the vendor is failing and is left alone for a while",
            Self::Overloaded => "too many lookups are waiting",
            Self::UpstreamTimeout => "the vendor did not answer in time",
            Self::NotCached => "not in the cache",
            Self::InternalError => "the gateway failed",
        }
    }

    /// Whether the connection ends with this answer: what follows on it cannot be trusted to be a request.
    #[must_use]
    pub fn closes(self) -> bool {
        matches!(self, Self::UnexpectedBody | Self::InvalidHost | Self::TargetTooLong | Self::HeadTooLarge)
    }
}

/// A request that is answered by the gateway instead of the vendor. Two messages: what the caller is told, and what
/// only the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which error.
    pub code: ErrorCode,
    /// What the caller is told beside the title.
    pub detail: Cow<'static, str>,
    /// What is known of the cause; for the log alone, and never with a credential or a body in it.
    pub cause: Option<String>,
    /// When it is worth asking again: `retry-after`, and `error.reset_at`.
    pub retry_at: Option<Instant>,
}

impl Refusal {
    /// A refusal that says `detail` to the caller.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), cause: None, retry_at: None }
    }

    /// The same, with what only the log is to say.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same, with the time at which asking again is worth it.
    #[must_use]
    pub fn retry_at(mut self, at: Instant) -> Self {
        self.retry_at = Some(at);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forwarded(why: Forward, collapsed: bool, result: Fetched) -> Outcome {
        Outcome::Forwarded { why, collapsed, result }
    }

    #[test]
    fn cache_status_reads_as_rfc_9211_has_it() {
        let ok = StatusCode::OK;
        let hit = |tier, of, ttl| Outcome::Hit { tier, of, ttl };
        let table = [
            (hit(Tier::Memory, HitOf::Answer, 2_591_990), "callgate; hit; ttl=2591990", "hit"),
            (hit(Tier::Disk, HitOf::Answer, 5), "callgate; hit; ttl=5; detail=disk", "hit"),
            (hit(Tier::Shared, HitOf::Answer, 5), "callgate; hit; ttl=5; detail=shared", "hit"),
            (hit(Tier::Memory, HitOf::NotFound, 4), "callgate; hit; ttl=4; detail=not-found", "negative"),
            (hit(Tier::Memory, HitOf::Failure, 1), "callgate; hit; ttl=1; detail=failure", "negative"),
            (Outcome::StaleIfError { ttl: -30 }, "callgate; hit; ttl=-30; detail=stale-if-error", "stale"),
            (
                forwarded(Forward::UriMiss, false, Fetched::Stored(ok)),
                "callgate; fwd=uri-miss; fwd-status=200; stored",
                "miss",
            ),
            (
                forwarded(Forward::Stale, false, Fetched::Stored(ok)),
                "callgate; fwd=stale; fwd-status=200; stored",
                "miss",
            ),
            (
                forwarded(Forward::Request, false, Fetched::Stored(ok)),
                "callgate; fwd=request; fwd-status=200; stored",
                "miss",
            ),
            (
                forwarded(Forward::UriMiss, false, Fetched::Stored(StatusCode::NOT_FOUND)),
                "callgate; fwd=uri-miss; fwd-status=404; stored",
                "miss",
            ),
            (
                forwarded(Forward::UriMiss, false, Fetched::NotStored(ok, NotKept::Ongoing)),
                "callgate; fwd=uri-miss; fwd-status=200; detail=ongoing",
                "bypass",
            ),
            (
                forwarded(Forward::UriMiss, true, Fetched::NotStored(ok, NotKept::Ongoing)),
                "callgate; fwd=uri-miss; fwd-status=200; detail=ongoing; collapsed",
                "collapsed",
            ),
            (
                forwarded(Forward::UriMiss, false, Fetched::NotStored(ok, NotKept::List)),
                "callgate; fwd=uri-miss; fwd-status=200; detail=list",
                "bypass",
            ),
            (
                forwarded(Forward::UriMiss, false, Fetched::NotStored(ok, NotKept::Suspect(Suspicion::NoId))),
                "callgate; fwd=uri-miss; fwd-status=200; detail=suspect",
                "bypass",
            ),
            (
                forwarded(
                    Forward::UriMiss,
                    false,
                    Fetched::NotStored(StatusCode::INTERNAL_SERVER_ERROR, NotKept::Status),
                ),
                "callgate; fwd=uri-miss; fwd-status=500",
                "miss",
            ),
            (
                forwarded(Forward::UriMiss, true, Fetched::Failed(ErrorCode::UpstreamTimeout)),
                "callgate; fwd=uri-miss; detail=upstream_timeout; collapsed",
                "collapsed",
            ),
        ];
        for (outcome, header, label) in table {
            assert_eq!(outcome.cache_status().as_deref(), Some(header));
            assert_eq!(outcome.label().as_str(), label, "{header}");
        }
        assert_eq!(Outcome::NotAsked.cache_status(), None);
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        let why = prop_oneof![Just(Forward::UriMiss), Just(Forward::Stale), Just(Forward::Request)];
        let status = (200u16..600).prop_map(|s| StatusCode::from_u16(s).expect("in range"));
        let not_kept = prop_oneof![
            Just(NotKept::Ongoing),
            Just(NotKept::List),
            Just(NotKept::Status),
            Just(NotKept::Suspect(Suspicion::TooDeep)),
            Just(NotKept::TooLarge),
            Just(NotKept::Superseded),
        ];
        let result = prop_oneof![
            status.clone().prop_map(Fetched::Stored),
            (status, not_kept).prop_map(|(s, n)| Fetched::NotStored(s, n)),
            Just(Fetched::Failed(ErrorCode::Overloaded)),
        ];
        prop_oneof![
            (any::<i64>()).prop_map(|ttl| Outcome::Hit { tier: Tier::Disk, of: HitOf::Answer, ttl }),
            any::<i64>().prop_map(|ttl| Outcome::StaleIfError { ttl }),
            (why, any::<bool>(), result).prop_map(|(why, collapsed, result)| Outcome::Forwarded {
                why,
                collapsed,
                result
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_outcome_is_one_member_of_a_structured_list(outcome in any_outcome()) {
            let header = outcome.cache_status().expect("the cache had a part in it");
            let mut parts = header.split("; ");
            prop_assert_eq!(parts.next(), Some("callgate"));
            let names: Vec<_> = parts
                .map(|p| p.split_once('=').map_or((p, None), |(name, value)| (name, Some(value))))
                .collect();
            for (name, value) in &names {
                prop_assert!(["hit", "ttl", "fwd", "fwd-status", "stored", "collapsed", "detail"].contains(name));
                if let Some(value) = value {
                    prop_assert!(!value.is_empty());
                    prop_assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
                }
            }
            // RFC 9211 §2: `hit` and `fwd` exclude each other, and one of them is there.
            let has = |n: &str| names.iter().filter(|(name, _)| *name == n).count();
            prop_assert_eq!(has("hit") + has("fwd"), 1);
        }
    }
}
