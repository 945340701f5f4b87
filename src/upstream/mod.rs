//! The vendor's side: credentials, permits, connections, and what comes back.
//!
//! [`budget::gate`] is what every request has to pass, [`retry`] says which are tried again, [`client`] sends one.
//!
//! [`Upstream::permit`] and [`Upstream::fetch`] are all that a lookup sees of it. What is kept and who waits is not
//! known here, and no request leaves without a [`Permit`].

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::{sync::watch, time::Instant};

mod account;
mod answer;
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
#[cfg(test)]
pub(crate) mod scripted;
mod sightings;
pub mod vendor;

use breaker::{Circuit, Health};
use budget::{
    Lane,
    gate::{Gate, KeyState, Permit, Report},
};
use credentials::{ApiKey, Credentials};
use error::{Unanswered, UpstreamError};
use rejections::Rejections;
use retry::Ledger;
use sightings::Sightings;
use vendor::{Attempt, Vendor, VendorAnswer};

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

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
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

/// What a fetch has tried already.
struct Tries {
    /// When it must all be over.
    deadline: Instant,
    /// By `upstream.retries`.
    retries: u32,
    /// Once more after the vendor closed a pooled connection under the request. All connections of that moment are left
    /// then, so the next one is new, unless another request has just used it.
    reconnected: bool,
    /// Once more with the key file's new key.
    reread: bool,
}

/// The vendor, with everything that stands before it.
pub struct Upstream {
    settings: Settings,
    /// `budget.queue_timeout`
    queue_timeout: ArcSwap<Duration>,
    budget_changes: watch::Sender<()>,
    credentials: Arc<Credentials>,
    vendor: Arc<dyn Vendor>,
    gate: Arc<Gate>,
    retries: Mutex<Ledger>,
    sightings: Sightings,
    rejections: Rejections,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
}

impl Upstream {
    /// An upstream that asks `vendor`. With a window in `ties`, somebody has to [`attend`](Self::attend).
    #[must_use]
    pub fn new(
        settings: Settings,
        budget: &budget::Settings,
        credentials: Arc<Credentials>,
        vendor: Arc<dyn Vendor>,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
        ties: budget::Ties,
    ) -> Self {
        let groups = account::groups(&credentials, &settings.origin);
        let (slots, timeout) = (settings.max_concurrency, settings.response_timeout);
        let gate = Gate::new(budget, &groups, slots, timeout, ties);
        Self {
            settings,
            queue_timeout: ArcSwap::from_pointee(budget.queue_timeout),
            budget_changes: watch::Sender::new(()),
            credentials,
            vendor,
            gate: Arc::new(gate),
            retries: Mutex::new(Ledger::new(Instant::now())),
            sightings: Sightings::default(),
            rejections: Rejections::default(),
            clock,
            metrics,
        }
    }

    /// Attends to what the replicas share, for as long as there is such a thing: one task has to.
    pub async fn attend(&self) {
        self.gate.attend().await;
    }

    /// The id of a workspace, as it is sent and as it stands in the records.
    #[must_use]
    pub fn workspace_id(&self, workspace: WorkspaceIndex) -> &str {
        self.credentials.workspace_id(workspace).to_str().unwrap_or_default()
    }

    /// Waits for the right to send one request, until `budget.queue_timeout` after `since` at the most.
    ///
    /// # Errors
    /// Where there is none in time, or the vendor is left alone for a while.
    pub async fn permit(
        &self,
        workspace: WorkspaceIndex,
        lane: Lane,
        since: Instant,
    ) -> Result<Permit, Refusal> {
        self.turn(workspace, lane, since + **self.queue_timeout.load()).await
    }

    /// How long an answer may take in all: the wait for a permit, and the vendor.
    pub fn patience(&self) -> Duration {
        **self.queue_timeout.load() + self.settings.response_timeout
    }

    /// Whether a request that is sent now has a chance of being answered by `latest`.
    #[must_use]
    pub fn is_worth_asking_before(&self, latest: Instant) -> bool {
        Instant::now() + self.least_time() < latest
    }

    /// What an answer takes at least, as far as it is worth waiting for one.
    fn least_time(&self) -> Duration {
        self.settings.response_timeout / 10
    }

    /// When an answer has to be complete to a request that is sent now: all tries together have
    /// `upstream.response_timeout`.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.settings.response_timeout
    }

    /// The same for a further request of a fetch, which has to be answered by `deadline`: it waits as long from now as
    /// a first one may, and not until there is no time left to answer it.
    ///
    /// # Errors
    /// As [`Self::permit`].
    pub async fn permit_before(
        &self,
        workspace: WorkspaceIndex,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Permit, Refusal> {
        let latest = Instant::now() + **self.queue_timeout.load();
        let still_in_time = deadline.checked_sub(self.least_time()).unwrap_or(deadline);
        self.turn(workspace, lane, latest.min(still_in_time)).await
    }

    /// Asks the vendor, until `deadline`. Each further try has a permit of its own, in the lane that `lane` then says;
    /// where there is none, the answer to the try before it stands.
    ///
    /// # Errors
    /// Where no answer came that may be passed on; a 429 of the vendor's is among them. It says whether the vendor was
    /// asked at all.
    pub async fn fetch(
        &self,
        key: &CacheKey,
        trace: &Trace,
        lane: impl Fn() -> Lane,
        deadline: Instant,
        permit: Permit,
    ) -> Result<VendorAnswer, Unanswered> {
        let path_and_query = key.path_and_query();
        let mut tries = Tries { deadline, retries: 0, reconnected: false, reread: false };
        let (mut permit, mut known) = (permit, None);
        let answer = loop {
            let on_account = self.on_account(key.workspace, permit, &lane, deadline).await;
            let (api_key, on_account) = match (on_account, known.take()) {
                (Ok(on_account), None) => {
                    self.retries().request(Instant::now());
                    on_account
                }
                (Ok(on_account), Some(_)) => {
                    self.metrics.upstream_retry();
                    on_account
                }
                (Err(_), Some(answer)) => break answer,
                (Err((lane, refusal)), None) => return Err(Unanswered::NotSent(lane, refusal)),
            };
            let secrets = self.credentials.keys();
            let attempt = Attempt {
                path_and_query: &path_and_query,
                key: &api_key,
                workspace_id: self.credentials.workspace_id(key.workspace),
                trace,
                secrets: &secrets,
                deadline,
            };
            let answer = self.attempt(attempt, key, on_account).await;
            let Err(error) = &answer else { break answer };
            let Some(backoff) = self.again(key, error, &api_key, &mut tries).await else { break answer };
            tokio::time::sleep(backoff).await;
            permit = match self.permit_before(key.workspace, lane(), deadline).await {
                Ok(permit) => permit,
                Err(_) => break answer,
            };
            known = Some(answer);
        };
        match answer {
            Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Unanswered::Failed(self.limited(&answer)))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(Unanswered::Failed(error.into())),
        }
    }

    /// Whether to try again, and after which backoff.
    async fn again(
        &self,
        key: &CacheKey,
        error: &UpstreamError,
        sent: &ApiKey,
        tries: &mut Tries,
    ) -> Option<Duration> {
        let now = Instant::now();
        // A try that cannot end well would only be counted.
        let enough = |backoff: Duration| now + backoff + self.least_time() < tries.deadline;
        if *error == UpstreamError::CredentialsRejected(401) {
            let again = enough(Duration::ZERO) && !std::mem::replace(&mut tries.reread, true);
            return (again && self.has_another_key(key.workspace, sent).await).then_some(Duration::ZERO);
        }
        let reused = matches!(error, UpstreamError::Reset { reused: true, .. });
        if reused && !std::mem::replace(&mut tries.reconnected, true) {
            // The vendor closed an idle connection just as the request went out: no sign of failure.
            return enough(Duration::ZERO).then_some(Duration::ZERO);
        }
        if tries.retries >= self.settings.retries || !retry::may_retry(error) {
            return None;
        }
        let backoff = retry::backoff(tries.retries, fastrand::f64());
        tries.retries += 1;
        (enough(backoff) && self.retries().retry(now)).then_some(backoff)
    }

    async fn attempt(
        &self,
        attempt: Attempt<'_>,
        key: &CacheKey,
        mut permit: Permit,
    ) -> Result<VendorAnswer, UpstreamError> {
        let started = Instant::now();
        let api_key = Arc::clone(attempt.key);
        let in_flight = self.metrics.upstream_started();
        permit.sent();
        let answer = self.vendor.send(attempt).await;
        permit.spend(self.report(&answer));
        match &answer {
            Ok(answer) if !answer.status.is_server_error() => {
                self.sightings.note(key, Instant::now());
                // A 429 may come before anybody has looked at the key.
                if answer.status != StatusCode::TOO_MANY_REQUESTS {
                    self.rejections.clear(key.workspace, &api_key);
                }
            }
            Err(UpstreamError::CredentialsRejected(401)) => {
                // That of a key which was replaced meanwhile says nothing of the one that is there.
                let held = self.credentials.key(key.workspace);
                if held.same(&api_key) {
                    self.rejections.note(key.workspace, &held, Instant::now());
                }
            }
            Ok(_) | Err(_) => {}
        }
        let result = match &answer {
            Ok(answer) => Ok(answer.status),
            Err(error) => error.status().ok_or(error.code()),
        };
        in_flight.ended(started.elapsed(), result);
        answer
    }

    /// What the gate has to know of an answer.
    fn report(&self, answer: &Result<VendorAnswer, UpstreamError>) -> Report {
        let now = Instant::now();
        match answer {
            Ok(answer) => Report {
                answered: Some(answer.began),
                health: Health::Alive,
                rejected: false,
                limited: (answer.status == StatusCode::TOO_MANY_REQUESTS)
                    .then(|| retry_after::read(answer, self.clock.now())),
            },
            Err(error) => Report {
                answered: (!matches!(error, UpstreamError::Connect(_))).then_some(now),
                health: error.health(),
                rejected: *error == UpstreamError::CredentialsRejected(401),
                limited: None,
            },
        }
    }

    fn retries(&self) -> MutexGuard<'_, Ledger> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the vendor has lately answered for another resource than `key`, with anything but a failure.
    #[must_use]
    pub fn alive_beside(&self, key: &CacheKey) -> bool {
        self.sightings.beside(key, Instant::now())
    }

    /// What each workspace may still send, by its name, and what is left of its pause.
    #[must_use]
    pub fn budgets(&self, now: Instant) -> Vec<(&str, KeyState)> {
        let accounts = self.credentials.workspaces().map(|w| (w, self.account(w)));
        let accounts: Vec<_> = accounts.collect();
        let keys = self.gate.keys(now);
        let state =
            |(w, account): (WorkspaceIndex, usize)| Some((self.credentials.name(w), *keys.get(account)?));
        accounts.into_iter().filter_map(state).collect()
    }

    /// The state of the circuit.
    #[must_use]
    pub fn circuit(&self, now: Instant) -> Circuit {
        self.gate.circuit(now)
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
