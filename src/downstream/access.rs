//! What is written down of a request at its end: a line in the log, and a row of the status page.
//!
//! It names the call and the caller, so that one sees who spends the vendor's requests. It never holds a body, a query (a
//! search may be for a phone number) or a credential. It decides neither what becomes of a request nor which of them are
//! written down.

use std::time::Duration;

use http::{HeaderValue, header, request};
use tokio::time::Instant;

use super::socket::Peer;
use crate::{
    call::{CacheKey, CallId},
    lookup::Timing,
    metrics::{
        RouteLabel,
        latest::{self, millis},
    },
    outcome::{Fetched, Outcome, Refusal},
    trace::{Sampled, Trace},
    upstream::credentials::Credentials,
};

/// The longest user agent in a log line, in bytes.
const MAX_AGENT: usize = 120;

/// In the place of what holds a key.
const REDACTED: &str = "[redacted]";

/// One request beside its head.
pub(super) struct Visit {
    pub(super) peer: Peer,
    pub(super) label: RouteLabel,
    pub(super) started: Instant,
    pub(super) trace: Trace,
    /// It has an `if-none-match`.
    pub(super) conditional: bool,
    /// `lookup.client_max_age`, as it was when the request came.
    pub(super) client_max_age: Duration,
    /// Its trace, where a span is to be exported.
    pub(super) sampled: Option<Sampled>,
    /// What was asked for, once that is understood.
    pub(super) asked: Option<CacheKey>,
    /// How long the caller is ready to wait for a call to be over.
    pub(super) patience: Option<Duration>,
}

impl Visit {
    /// The call's id, where one was asked for.
    fn call_id(&self) -> Option<&str> {
        self.asked.as_ref().and_then(CacheKey::call_id).map(CallId::as_str)
    }
}

/// What became of a request.
pub(super) struct What<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) timing: Timing,
    pub(super) refusal: Option<&'a Refusal>,
}

impl What<'_> {
    /// Nothing, since its caller left.
    pub(super) const LEFT: What<'static> = What {
        outcome: &Outcome::NotAsked,
        timing: Timing { queued: Duration::ZERO, upstream: None },
        refusal: None,
    };

    /// Why, where that is worth a word.
    fn reason(&self) -> Option<&'static str> {
        self.refusal.map(|refusal| refusal.code.as_str()).or_else(|| self.outcome.reason())
    }
}

/// Writes the line for those that were left out.
pub(super) fn log_left_out(requests: u64) {
    tracing::warn!(
        target: "callgate::access",
        left_out = requests,
        "requests that were turned away have no line of their own: they were too many"
    );
}

/// A request that is over.
pub(super) struct Over<'a> {
    pub(super) head: &'a request::Parts,
    pub(super) visit: &'a Visit,
    pub(super) what: &'a What<'a>,
    pub(super) status: u16,
    pub(super) took: Duration,
    /// Whose keys are not to be written down, whoever sent them.
    pub(super) credentials: &'a Credentials,
}

impl Over<'_> {
    /// Whether it cost the vendor nothing and its caller next to nothing: refused before the lookup, left before the
    /// answer, or told that the vendor is not to be asked. Such can come in any number.
    pub(super) fn is_cheap(&self) -> bool {
        let unanswered = match self.what.outcome {
            Outcome::NotAsked | Outcome::Forwarded { result: Fetched::Failed(_), .. } => true,
            Outcome::Hit { .. } | Outcome::StaleIfError { .. } | Outcome::Forwarded { .. } => false,
        };
        unanswered && self.what.timing.upstream.is_none()
    }

    /// As the status page shows it.
    #[cold]
    pub(super) fn noted(&self) -> latest::Request {
        latest::Request {
            at: self.visit.started,
            route: self.visit.label,
            id: self.visit.call_id().map(str::to_owned),
            cache: self.what.outcome.label(),
            reason: self.what.reason(),
            status: self.status,
            took: self.took,
            agent: self.agent().map(latest::shortened),
        }
    }

    /// Writes its line; `bytes` are those of the body.
    pub(super) fn log(&self, bytes: usize, request_id: &HeaderValue) {
        let (visit, what) = (self.visit, self.what);
        let agent = self.agent().map(|agent| agent.get(..MAX_AGENT).unwrap_or(agent));
        let asked = what.timing != Timing::default();
        tracing::info!(
            target: "callgate::access",
            peer = %visit.peer,
            agent,
            method = self.without_keys(self.head.method.as_str()),
            route = visit.label.as_str(),
            id = visit.call_id(),
            cache = what.outcome.label().as_str(),
            reason = what.reason(),
            cause = what.refusal.and_then(|r| r.cause.as_deref()),
            status = self.status,
            duration_ms = millis(self.took),
            upstream_ms = what.timing.upstream.map(millis),
            queue_ms = asked.then(|| millis(what.timing.queued)),
            bytes,
            request_id = request_id.to_str().unwrap_or_default(),
            "request"
        );
    }

    /// Who asks, as the caller says itself.
    fn agent(&self) -> Option<&str> {
        self.head.headers.get(header::USER_AGENT)?.to_str().ok().map(|agent| self.without_keys(agent))
    }

    fn without_keys<'b>(&self, text: &'b str) -> &'b str {
        if self.credentials.occur_in(text.as_bytes()) { REDACTED } else { text }
    }
}
