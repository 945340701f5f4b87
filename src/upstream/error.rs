//! How asking the vendor fails: whose fault it is, whether it may be tried again, and what the caller is told.
//!
//! The cause is kept for the log and never reaches a caller; no cause holds a body, a header value or a credential.

use std::{borrow::Cow, fmt};

use http::StatusCode;

use super::{breaker::Health, budget::Lane};
use crate::outcome::{ErrorCode, Refusal};

/// Why there is no answer of the vendor that could be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// No connection: refused, no route, no such name, no trusted certificate, too slow.
    Connect(String),
    /// The connection ended before anything of an answer came. `reused` says whether it had served a request before,
    /// in which case the vendor may just have closed it for idleness.
    Reset {
        /// Whether an earlier request had gone over the connection.
        reused: bool,
        /// What is known, for the log.
        cause: String,
    },
    /// No complete answer within `upstream.response_timeout`.
    Timeout,
    /// The answer ended before its end.
    Incomplete(String),
    /// The answer is larger than `upstream.max_body`, as it came or decoded.
    TooLarge,
    /// The answer is not one that HTTP, or this API, has: ambiguous framing, a redirect, an unknown encoding.
    Invalid(Cow<'static, str>),
    /// The vendor's own 502, 503 or 504.
    Failing(u16),
    /// The vendor's 401 or 403.
    CredentialsRejected(u16),
    /// The key stands in the answer.
    LeakedCredential,
}

impl UpstreamError {
    /// The code that callers, log and metric see.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Connect(_) => ErrorCode::UpstreamUnreachable,
            Self::Reset { .. } | Self::Incomplete(_) => ErrorCode::UpstreamIncomplete,
            Self::Timeout => ErrorCode::UpstreamTimeout,
            Self::TooLarge => ErrorCode::UpstreamTooLarge,
            Self::Invalid(_) => ErrorCode::UpstreamInvalid,
            Self::Failing(_) => ErrorCode::UpstreamError,
            Self::CredentialsRejected(_) => ErrorCode::UpstreamCredentialsRejected,
            Self::LeakedCredential => ErrorCode::UpstreamLeakedCredential,
        }
    }

    /// The status that the vendor answered with, where that is what is wrong.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Failing(status) | Self::CredentialsRejected(status) => StatusCode::from_u16(*status).ok(),
            Self::Connect(_)
            | Self::Reset { .. }
            | Self::Timeout
            | Self::Incomplete(_)
            | Self::TooLarge
            | Self::Invalid(_)
            | Self::LeakedCredential => None,
        }
    }

    /// What it says about the vendor's health. A broken-off or unsound answer comes from a vendor that is there.
    #[must_use]
    pub fn health(&self) -> Health {
        match self {
            Self::Connect(_) | Self::Reset { reused: false, .. } | Self::Timeout | Self::Failing(_) => {
                Health::Failing
            }
            Self::Reset { reused: true, .. } | Self::Incomplete(_) => Health::Unknown,
            Self::TooLarge | Self::Invalid(_) | Self::CredentialsRejected(_) | Self::LeakedCredential => {
                Health::Alive
            }
        }
    }

    /// What the caller is told.
    fn detail(&self) -> &'static str {
        match self {
            Self::Connect(_) => "no connection to the vendor could be made",
            Self::Reset { .. } => "the vendor closed the connection without an answer",
            Self::Timeout => "the vendor took too long",
            Self::Incomplete(_) => "the vendor's answer ended too early",
            Self::TooLarge => "the vendor's answer exceeds the configured limit",
            Self::Invalid(_) => "the vendor's answer is not one that may be passed on",
            Self::Failing(_) => "the vendor answers that it cannot serve",
            Self::CredentialsRejected(_) => {
                "the gateway's key or workspace was rejected; callers cannot mend this"
            }
            Self::LeakedCredential => "the vendor's answer was withheld",
        }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(cause) => write!(f, "connect: {cause}"),
            Self::Reset { reused: true, cause } => write!(f, "reset on a reused connection: {cause}"),
            Self::Reset { reused: false, cause } => write!(f, "reset: {cause}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Incomplete(cause) => write!(f, "incomplete: {cause}"),
            Self::TooLarge => f.write_str("too large"),
            Self::Invalid(why) => write!(f, "invalid: {why}"),
            Self::Failing(status) | Self::CredentialsRejected(status) => write!(f, "status {status}"),
            Self::LeakedCredential => f.write_str("the key stands in the answer"),
        }
    }
}

impl std::error::Error for UpstreamError {}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        Self::new(error.code(), error.detail()).because(error.to_string())
    }
}

/// Why a fetch has no answer that may be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No request left: its turn, in this lane, did not come in time. It says nothing of the vendor.
    NotSent(Lane, Refusal),
    /// At least one was sent, and this came of it.
    Failed(Refusal),
}
