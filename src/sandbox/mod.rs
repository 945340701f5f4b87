//! The simulated vendor: what `callgate sandbox` and `callgate demo` talk to, and tests and benchmarks as well.
//!
//! It behaves as the vendor's reference and the code of its callers say: two headers, records that become final and
//! change once more, lists, a rate limit, and, on demand, everything that can go wrong. It imports nothing of the
//! gateway, so that an error in one is not repeated in the other.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v2/api/call-history/{id}`, `/v1/…` | the record, by `_id` or `callId`; 404; 400 for what cannot be an id |
//! | `GET /v2/api/call-history` | `{"calls":[…],"total":…,"page":…,"limit":…}`; on `/v1/…` the bare array. Parameters: see `list` |
//! | `GET /v2/api/recordings/{id}` | `{"url":…}` once the call is settled; 404 |
//! | `POST /v2/api/call-history/export-csv` | all calls |
//! | `POST /sandbox/calls` | not the vendor's: begins a call, 201 with its ids; neither limited nor counted |
//!
//! Without the right `x-api-key` (once) the answer is 401, without the right `x-workspace-id` 403. A list is 500 while
//! the sandbox holds no call at all; a filter that nothing passes is an empty list. Requests that pass both headers
//! count toward the rate limit, faulty ones and unknown ids included. Latency is that of answers that were let in:
//! what is turned away is turned away at once.
//!
//! Reading order: `clock`, `record` (a call and its phases), `prose` (its words), `book` (all calls), `render`
//! (JSON), `list` (filters), `limit`, `journal` (what was seen), `fault`, `answer` (the story of a request), `reply`,
//! `body`, `bomb` and `wire` (how answers break), `vendor` (all of it, and the handle).

mod answer;
mod body;
mod bomb;
mod book;
mod clock;
mod fault;
mod journal;
mod limit;
mod list;
mod prose;
mod record;
mod render;
mod reply;
mod vendor;
mod wire;

use std::{
    convert::Infallible, io, net::SocketAddr, ops::RangeInclusive, pin::pin, sync::Arc, time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

pub use self::{
    clock::{Clock, SinceEpoch},
    fault::{Fault, FaultKind},
    journal::Arrival,
    vendor::Handle,
};
use self::{vendor::Vendor, wire::Trap};

/// How long a connection may say nothing, or take for a head.
const IDLE: Duration = Duration::from_secs(75);
/// How long what is under way may take once the sandbox is told to end.
const GRACE: Duration = Duration::from_secs(2);
/// How long to leave the listener alone when no connection can be accepted, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the vendor shall be.
#[derive(Clone, Debug)]
pub struct Config {
    /// The one key that is accepted.
    pub api_key: String,
    /// The one workspace, and that of every record.
    pub workspace_id: String,
    /// How many calls there are at start. A tenth of them, rounded down, is under way.
    pub calls: usize,
    /// Ids, records and the choice of faults follow from it. `callId`s and what is said are the same for ever, `_id`s
    /// and times of settled calls for a day (UTC).
    pub seed: u64,
    /// How long a call takes that is under way at start, or begins later.
    pub call_length: Duration,
    /// How long after its end summary, analysis and cost are there.
    pub analysis_delay: Duration,
    /// How long an answer takes.
    pub latency: Duration,
    /// Requests accepted in any 60 seconds; 0 for no limit.
    pub rate_limit: u32,
    /// How a 429 says when to come back.
    pub pause_hint: PauseHint,
    /// What goes wrong, in the order of precedence.
    pub faults: Vec<Fault>,
    /// Compress where `accept-encoding` names gzip.
    pub gzip: bool,
    /// From the smallest to the largest settled record, in bytes, about; most are small. Below a KB there is no going:
    /// a record has two turns at least.
    pub body_size: RangeInclusive<usize>,
    /// Remember single requests, for [`Handle::arrivals`], [`Handle::requests_for`] and [`Handle::busiest_minute`].
    /// To be turned off under a benchmark.
    pub journal: bool,
    /// What time it is.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_key: "sandbox-key-0123456789abcdef".into(),
            workspace_id: "ws-sandbox".into(),
            calls: 200,
            seed: 1,
            call_length: Duration::from_secs(45),
            analysis_delay: Duration::from_secs(20),
            latency: Duration::from_millis(120),
            rate_limit: 60,
            pause_hint: PauseHint::Both,
            faults: Vec::new(),
            gzip: false,
            body_size: 1_100..=49_000,
            journal: true,
            clock: Clock::wall(),
        }
    }
}

/// How a 429 says when to come back. The vendor documents `reset_at`, and nothing of `retry-after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseHint {
    /// By `retry-after` and by `error.reset_at`.
    Both,
    /// By the header alone.
    RetryAfter,
    /// By the member of the body alone.
    ResetAt,
    /// Not at all.
    Neither,
}

/// A vendor that listens, but does not answer before it [`run`](Self::run)s.
#[derive(Debug)]
pub struct Sandbox {
    listener: TcpListener,
    address: SocketAddr,
    vendor: Arc<Vendor>,
}

impl Sandbox {
    /// Makes the calls and opens the port; 0 lets the system choose.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub async fn bind(config: Config, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, vendor: Arc::new(Vendor::new(config)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// To look into it and to steer it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(self.vendor.clone())
    }

    /// Answers until `shutdown` is ready; then the port closes, and what is under way has two seconds.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, vendor, .. } = self;
        let mut shutdown = pin!(shutdown);
        let (stop, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(serve(vendor.clone(), stream, stopped.clone()))),
                    Err(error) => {
                        tracing::warn!(%error, "sandbox cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        // Nobody listens only where no connection is left.
        let _ = stop.send(());
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(GRACE, all).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// Serves one connection to its end.
async fn serve(vendor: Arc<Vendor>, stream: TcpStream, mut stopped: watch::Receiver<()>) {
    // Fails only where the peer has left already.
    let _ = stream.set_nodelay(true);
    let trap = Trap::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (vendor, trap) = (&vendor, &trap);
        async move {
            let (head, _body) = request.into_parts();
            Ok::<_, Infallible>(answer::answer(vendor, &head, trap).await)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .pipeline_flush(true)
            .serve_connection(wire::Wire::new(stream, &trap), service)
    );
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "sandbox connection ended");
    }
}
