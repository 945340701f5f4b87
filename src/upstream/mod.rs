//! The vendor's side: credentials, permits, connections, and what comes back.
//!
//! [`Upstream::permit`] and [`Upstream::fetch`] are all that a lookup sees of it. What is kept and who waits is not
//! known here, and no request leaves without a [`Permit`].

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

pub mod answer;
pub mod breaker;
pub mod budget;
pub mod client;
mod connect;
pub mod credentials;
mod decode;
pub mod error;
mod rejections;
pub mod retry;
pub mod retry_after;
mod tls;

use answer::VendorAnswer;
use client::{Attempt, Vendor};
use credentials::{Credentials, Reread};
use error::UpstreamError;

use crate::{
    call::{CacheKey, WorkspaceIndex},
    clock::Clock,
    metrics::Metrics,
    outcome::{ErrorCode, Refusal},
    trace::Trace,
};

/// Where the vendor is: scheme and authority, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`
    pub scheme: http::uri::Scheme,
    /// Host and, where it is not the scheme's own, port.
    pub authority: http::uri::Authority,
}

/// The `upstream.*` settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `upstream.base_url`
    pub origin: Origin,
    /// `upstream.connect_timeout`, above 0.
    pub connect_timeout: Duration,
    /// `upstream.response_timeout`, above 0, shared by all tries.
    pub response_timeout: Duration,
    /// `upstream.idle_timeout`
    pub idle_timeout: Duration,
    /// `upstream.max_concurrency`, at least 1.
    pub max_concurrency: usize,
    /// `upstream.max_body`, in bytes, decoded.
    pub max_body: usize,
    /// `upstream.retries`
    pub retries: u32,
    /// `upstream.ca_file`
    pub ca_file: Option<PathBuf>,
}

/// The right to send one request. Given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
}

/// Why a fetch brought nothing that may be passed on.
#[derive(Debug)]
pub enum Denied {
    /// The vendor was asked.
    Asked(Refusal),
    /// The vendor was not asked, so nothing was spent.
    Unasked(Refusal),
}

/// The vendor, with everything that stands before it.
pub struct Upstream {
    settings: Settings,
    budget: budget::Settings,
    credentials: Arc<Credentials>,
    vendor: Arc<dyn Vendor>,
    slots: Arc<Semaphore>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    rejections: rejections::Rejections,
}

impl Upstream {
    /// An upstream that asks `vendor`.
    #[must_use]
    pub fn new(
        settings: Settings,
        budget: budget::Settings,
        credentials: Arc<Credentials>,
        vendor: Arc<dyn Vendor>,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(settings.max_concurrency));
        Self { settings, budget, credentials, vendor, slots, clock, metrics, rejections: Default::default() }
    }

    /// The names of the workspaces whose key the vendor rejected with a 401, until the key file changes or a minute
    /// has passed.
    #[must_use]
    pub fn rejected(&self, now: Instant) -> Vec<&str> {
        // The file may have been changed since, and nobody has asked with the new key yet.
        let unchanged = |workspace: &WorkspaceIndex| !self.reread(*workspace);
        let rejected = self.rejections.current(now).into_iter().filter(unchanged);
        rejected.map(|workspace| self.credentials.name(workspace)).collect()
    }

    /// The id of a workspace, as it is sent and as it stands in the records.
    #[must_use]
    pub fn workspace_id(&self, workspace: WorkspaceIndex) -> &str {
        self.credentials.workspace_id(workspace).to_str().unwrap_or_default()
    }

    /// Waits for the right to send one request.
    ///
    /// # Errors
    /// Where there is none within `budget.queue_timeout`.
    pub async fn permit(&self, _workspace: WorkspaceIndex) -> Result<Permit, Refusal> {
        let slot = tokio::time::timeout(self.budget.queue_timeout, Arc::clone(&self.slots).acquire_owned());
        match slot.await {
            Ok(Ok(slot)) => Ok(Permit { _slot: slot }),
            Ok(Err(_)) | Err(_) => {
                let retry = Instant::now() + Duration::from_secs(1);
                Err(Refusal::new(ErrorCode::Overloaded, "every connection to the vendor is busy")
                    .retry_at(retry))
            }
        }
    }

    /// Asks the vendor, within `upstream.response_timeout` for all tries together.
    ///
    /// # Errors
    /// Where no answer came that may be passed on; a 429 of the vendor's is among them.
    pub async fn fetch(&self, key: &CacheKey, trace: &Trace, permit: Permit) -> Result<VendorAnswer, Denied> {
        let fetched = self.tries(key, trace).await;
        drop(permit);
        match fetched {
            Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Denied::Asked(self.limited(&answer)))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(Denied::Asked(error.into())),
        }
    }

    /// One try, and another where the first says that a second may do better at no risk: the vendor closed an idle
    /// connection under us, or the key file holds another key by now.
    async fn tries(&self, key: &CacheKey, trace: &Trace) -> Result<VendorAnswer, UpstreamError> {
        let deadline = Instant::now() + self.settings.response_timeout;
        let path_and_query = key.path_and_query();
        let answer = self.attempt(key, &path_and_query, trace, deadline).await;
        let again = match &answer {
            Err(UpstreamError::Reset { reused, .. }) => *reused,
            Err(UpstreamError::CredentialsRejected(401)) => self.reread(key.workspace),
            Ok(_) | Err(_) => false,
        };
        if again {
            self.metrics.upstream_retry();
            self.attempt(key, &path_and_query, trace, deadline).await
        } else {
            answer
        }
    }

    async fn attempt(
        &self,
        key: &CacheKey,
        path_and_query: &str,
        trace: &Trace,
        deadline: Instant,
    ) -> Result<VendorAnswer, UpstreamError> {
        let started = Instant::now();
        let api_key = self.credentials.key(key.workspace);
        let in_flight = self.metrics.upstream_started();
        let workspace_id = self.credentials.workspace_id(key.workspace);
        let attempt = Attempt { path_and_query, key: &api_key, workspace_id, trace, deadline };
        let answer = self.vendor.send(attempt).await;
        match &answer {
            Ok(_) => self.rejections.clear(key.workspace),
            Err(UpstreamError::CredentialsRejected(401)) => {
                self.rejections.note(key.workspace, Instant::now())
            }
            Err(_) => {}
        }
        in_flight.ended(started.elapsed(), answer.as_ref().map(|a| a.status).map_err(UpstreamError::code));
        answer
    }

    /// Whether the key file holds another key than the one that was rejected.
    fn reread(&self, workspace: WorkspaceIndex) -> bool {
        let name = self.credentials.name(workspace);
        match self.credentials.reread(workspace) {
            Reread::Changed => {
                self.rejections.clear(workspace);
                tracing::info!(
                    workspace = name,
                    "the key was rejected and its file has changed; the new one is used"
                );
                true
            }
            Reread::Unchanged => false,
            Reread::Unreadable(error) => {
                tracing::warn!(workspace = name, %error, "the key was rejected and its file cannot be read again");
                false
            }
        }
    }

    /// What callers are told of the vendor's 429.
    fn limited(&self, answer: &VendorAnswer) -> Refusal {
        let pause = retry_after::read(answer, self.clock.now());
        Refusal::new(ErrorCode::RateLimitExceeded, "the vendor asks for a pause")
            .retry_at(Instant::now() + pause)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("settings", &self.settings).finish_non_exhaustive()
    }
}
