//! Why a request is refused: every error that the gateway itself answers with, and what goes with one.
//!
//! Pure. How an error looks on the wire is known to `downstream::problem` alone.

use std::borrow::Cow;

use http::StatusCode;
use tokio::time::Instant;

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
    EntryNotFound,
    MethodNotAllowed,
    MisdirectedRequest,
    TargetTooLong,
    HeadTooLarge,
    BodyTooLarge,
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
    /// What an operator asked to be reloaded is no good.
    InvalidConfiguration,
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
            Self::EntryNotFound => "entry_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::MisdirectedRequest => "misdirected_request",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::BodyTooLarge => "body_too_large",
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
            Self::InvalidConfiguration => "invalid_configuration",
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
            Self::RouteNotFound | Self::EntryNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
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
            Self::InvalidConfiguration => StatusCode::UNPROCESSABLE_ENTITY,
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
            Self::EntryNotFound => "nothing is kept of this call",
            Self::MethodNotAllowed => "the method is not allowed here",
            Self::MisdirectedRequest => "this host name is not served here",
            Self::TargetTooLong => "the request target is too long",
            Self::HeadTooLarge => "the request head is too large",
            Self::BodyTooLarge => "the request body is too large",
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
            Self::InvalidConfiguration => "the configuration is not valid",
            Self::InternalError => "the gateway failed",
        }
    }

    /// Whether the connection ends with this answer: what follows on it cannot be trusted to be a request.
    #[must_use]
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::UnexpectedBody
                | Self::InvalidHost
                | Self::TargetTooLong
                | Self::HeadTooLarge
                | Self::BodyTooLarge
        )
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
