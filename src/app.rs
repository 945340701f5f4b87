//! The composition root: settings in, a bound gateway out, which runs until it is told to end.
//!
//! The only file that sees all parts. It decides nothing about requests.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::join;
use tokio::{sync::watch, time::timeout};

use crate::{
    admin::{self, Admin, Scraping, readiness::Readiness},
    clock::Clock,
    downstream::{
        BindAddress, Limits, accept,
        handler::{self, Internal},
        line_limit::LineLimit,
        listener::{Handed, Listener, LocalAddress},
        sampler::Sampler,
        stage::Stage,
    },
    drain::{self, Ended, Gate, Signals},
    lookup::Lookup,
    metrics::{Latest, Metrics},
    otlp::{self, Exporter},
    outcome::Tier,
    replicas::{self, Link},
    settings::Settings,
    store::{self, DiskSettings, Erasures, Namespace, Seal, Store, Terms},
    upstream::{
        Upstream,
        budget::{
            Ties,
            journal::Journal,
            window::{self, Window},
        },
        client::HttpVendor,
        credentials::Credentials,
        vendor::Vendor,
    },
};

mod error;
mod limits;
mod reload;

pub use error::BindError;
pub use reload::{Reloader, Sources};

/// How long the operators' endpoints may take to finish what is under way, at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is published among the replicas, and listened to.
const CHANNELS: &[&str] = &[store::ERASED, store::LANDED, window::LEFT];

/// What the gateway finds around it.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// How many descriptors this process may open, where that is known.
    pub descriptors: Option<u64>,
    /// Sockets that were handed to this process.
    pub sockets: Sockets,
    /// The collector of spans that the environment names.
    pub collector: Option<otlp::Settings>,
}

/// Sockets that were handed to this process, by endpoint: where there are any, none is bound for it.
#[derive(Debug, Default)]
pub struct Sockets {
    /// In place of `listen.internal`.
    pub internal: Vec<Handed>,
    /// In place of `listen.admin`.
    pub admin: Vec<Handed>,
    /// In place of `listen.metrics`.
    pub metrics: Vec<Handed>,
}

/// A gateway whose sockets are bound. Callers may connect; they are answered once it runs.
pub struct App {
    internal: Endpoint<Internal>,
    admin: Endpoint<Admin>,
    scraping: Endpoint<Scraping>,
    readiness: Arc<Readiness>,
    lookup: Arc<Lookup>,
    erasures: Erasures,
    drain: drain::Settings,
    reloader: Arc<Reloader>,
    link: Option<Arc<Link>>,
    exporter: Option<Exporter>,
}

/// Listeners, and what answers on them.
struct Endpoint<H> {
    listeners: Vec<Listener>,
    handler: H,
    limits: Limits,
    open: Arc<AtomicUsize>,
}

impl App {
    /// Binds the gateway in front of the vendor that the settings name.
    ///
    /// # Errors
    /// [`BindError`]; nothing is left bound.
    pub async fn bind(settings: Settings, surroundings: Surroundings) -> Result<Self, BindError> {
        let vendor = HttpVendor::new(&settings.upstream).map_err(BindError::Vendor)?;
        Self::bind_before(settings, surroundings, Arc::new(vendor)).await
    }

    /// The same before a given vendor.
    ///
    /// # Errors
    /// [`BindError`]; nothing is left bound.
    pub async fn bind_before(
        settings: Settings,
        surroundings: Surroundings,
        vendor: Arc<dyn Vendor>,
    ) -> Result<Self, BindError> {
        let in_force = settings.clone();
        let (limits, admin_limits) = limits::limits(&settings, surroundings.descriptors)?;
        let sockets = surroundings.sockets;
        let workspaces = settings.workspaces.iter().map(|one| one.workspace_id.clone()).collect();
        let seal = settings.store.encryption_key_file.as_deref();
        let seal = seal.map(|path| Seal::open_file(path, &settings.trusted_key_dirs)).transpose();
        let seal = seal.map_err(BindError::Seal)?.map(Arc::new);
        let opened = Credentials::open(settings.workspaces, settings.trusted_key_dirs);
        let credentials = Arc::new(opened.map_err(BindError::Credentials)?);
        let clock = Arc::new(Clock::system());
        let vendors_origin = settings.upstream.origin.clone();
        let origin = settings.upstream.origin.to_string().to_ascii_lowercase();
        let link = match &settings.replicas {
            Some(replicas) => Some(link(replicas, &origin, &clock).await?),
            None => None,
        };
        let namespace = Namespace { origin, workspaces };
        let metrics = Arc::new(Metrics::new());
        let latest = Arc::new(Latest::new());
        let capacities = capacities(&settings.store);
        let ties = Ties {
            window: link.clone().map(|link| Arc::new(link) as Arc<dyn Window>),
            journal: journal(settings.store.disk.as_ref(), settings.upstream.response_timeout, &clock).await,
        };
        let upstream = Upstream::new(
            settings.upstream,
            &settings.budget,
            Arc::clone(&credentials),
            vendor,
            Arc::clone(&clock),
            Arc::clone(&metrics),
            ties,
        );
        let terms = Terms {
            namespace,
            spans: Arc::new(ArcSwap::from_pointee(settings.lookup.spans())),
            clock: Arc::clone(&clock),
            seal,
        };
        let (store, erasures) = Store::open(&settings.store, terms, link.clone()).await;
        let lookup = Arc::new(Lookup::new(settings.lookup, store, upstream, Arc::clone(&clock)));
        let readiness = Arc::new(Readiness::new(Arc::clone(&credentials), Arc::clone(&lookup)));

        let hits = Arc::new(Sampler::new(settings.log.hits));
        let reloader = {
            let (lookup, credentials) = (Arc::clone(&lookup), Arc::clone(&credentials));
            Arc::new(Reloader::new(in_force, lookup, credentials, Arc::clone(&hits)))
        };

        let (spans, exporter) = match surroundings.collector {
            Some(collector) => match otlp::open(collector, Arc::clone(&clock)) {
                Ok((spans, exporter)) => (Some(spans), Some(exporter)),
                // Not worth a gateway that does not start.
                Err(error) => {
                    tracing::warn!(%error, "TLS toward the collector cannot be set up; no traces are exported");
                    (None, None)
                }
            },
            None => (None, None),
        };
        let mode = settings.listen.unix_mode;
        let connections = Arc::new(AtomicUsize::new(0));
        let operators = Arc::new(admin::Parts {
            readiness: Arc::clone(&readiness),
            lookup: Arc::clone(&lookup),
            credentials: Arc::clone(&credentials),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            configuration: Arc::clone(&reloader) as Arc<dyn admin::reload::Configuration>,
            connections: Arc::clone(&connections),
            latest: Arc::clone(&latest),
            capacities,
            replicas: link.as_ref().map(|link| link.state()),
        });
        let hosts = settings.listen.allowed_hosts;
        let internal = Internal::new(handler::Parts {
            lookup: Arc::clone(&lookup),
            credentials,
            hosts: hosts.clone(),
            clock,
            metrics,
            latest,
            hits,
            turned_away: LineLimit::new(),
            spans,
            vendor: vendors_origin,
        });
        let beside = || Arc::new(AtomicUsize::new(0));
        let scraped: Vec<_> = settings.listen.metrics.map(BindAddress::Tcp).into_iter().collect();
        Ok(Self {
            internal: Endpoint {
                listeners: bind(sockets.internal, &settings.listen.internal, mode).await?,
                handler: internal,
                limits,
                open: connections,
            },
            admin: Endpoint {
                listeners: bind(sockets.admin, &settings.listen.admin, mode).await?,
                handler: Admin::new(Arc::clone(&operators), hosts),
                limits: admin_limits,
                open: beside(),
            },
            scraping: Endpoint {
                listeners: bind(sockets.metrics, &scraped, mode).await?,
                handler: Scraping::new(operators),
                limits: admin_limits,
                open: beside(),
            },
            readiness,
            lookup,
            erasures,
            drain: settings.drain,
            reloader,
            link,
            exporter,
        })
    }

    /// What reloads it.
    #[must_use]
    pub fn reloader(&self) -> Arc<Reloader> {
        Arc::clone(&self.reloader)
    }

    /// Where the internal endpoint came to listen.
    pub fn internal_addresses(&self) -> impl Iterator<Item = &LocalAddress> {
        self.internal.listeners.iter().map(Listener::local_address)
    }

    /// Where the admin endpoint came to listen.
    pub fn admin_addresses(&self) -> impl Iterator<Item = &LocalAddress> {
        self.admin.listeners.iter().map(Listener::local_address)
    }

    /// Where the read-only endpoint for scraping came to listen.
    pub fn metrics_addresses(&self) -> impl Iterator<Item = &LocalAddress> {
        self.scraping.listeners.iter().map(Listener::local_address)
    }

    /// Serves until a signal comes, and ends in order. The operators' endpoints stay until callers' are done, so that
    /// one can watch the end.
    pub async fn run(self, signals: &mut impl Signals) -> Ended {
        let (callers, operators) = (watch::Sender::new(Stage::Open), watch::Sender::new(Stage::Open));
        let served = self.internal.serve(callers.subscribe());
        let mut watched = tokio::spawn(join(
            self.admin.serve(operators.subscribe()),
            self.scraping.serve(operators.subscribe()),
        ));
        let lookup = Arc::clone(&self.lookup);
        // What the other replicas say, of the budget and of what is to be forgotten.
        let attending = Arc::clone(&self.lookup);
        let others = tokio::spawn(async move {
            let (budget, erasures) =
                (attending.upstream().attend(), attending.follow_erasures(self.erasures));
            tokio::join!(budget, erasures);
        });
        let gate = Stages { readiness: self.readiness, lookup: self.lookup, callers };
        let ended = drain::conduct(&self.drain, &gate, signals, served).await;
        // Who warms calls up is to read the last line, and who reads an answer the rest of it; neither takes long. A
        // connection that somebody merely holds open is not waited for.
        operators.send_replace(Stage::Draining);
        if ended == Ended::Cut || timeout(LAST_WORDS, &mut watched).await.is_err() {
            operators.send_replace(Stage::Cut);
            let _ = watched.await;
        }
        others.abort();
        lookup.store().close().await;
        if let Some(exporter) = self.exporter {
            exporter.close().await;
        }
        if let Some(link) = &self.link {
            link.leave().await;
        }
        ended
    }
}

impl<H: crate::downstream::connection::Handler> Endpoint<H> {
    async fn serve(self, stage: watch::Receiver<Stage>) {
        if !self.listeners.is_empty() {
            accept::serve(self.listeners, self.handler, self.limits, self.open, stage).await;
        }
    }
}

/// What the steps of the end do to the endpoints.
struct Stages {
    readiness: Arc<Readiness>,
    lookup: Arc<Lookup>,
    callers: watch::Sender<Stage>,
}

impl Gate for Stages {
    fn not_ready(&self) {
        self.readiness.drain();
        tracing::info!("draining: not ready any more");
    }

    fn release(&self) {
        self.lookup.drain();
    }

    fn close(&self) {
        self.callers.send_replace(Stage::Draining);
        tracing::info!("draining: closed to new connections");
    }

    fn cut(&self) {
        self.callers.send_replace(Stage::Cut);
        tracing::warn!("draining: what was still under way is cut");
    }
}

/// What each tier of the store may hold, in bytes, where that is for us to say.
fn capacities(store: &store::Settings) -> Vec<(Tier, u64)> {
    let disk = store.disk.as_ref().map(|disk| (Tier::Disk, disk.capacity));
    std::iter::once((Tier::Memory, store.capacity)).chain(disk).collect()
}

/// The link to the other replicas of gateways before the same vendor.
async fn link(
    replicas: &replicas::Settings,
    origin: &str,
    clock: &Arc<Clock>,
) -> Result<Arc<Link>, BindError> {
    let namespace = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(origin.as_bytes()));
    Link::open(replicas, &namespace, CHANNELS, Arc::clone(clock)).await.map_err(BindError::Replicas)
}

/// Where the last minute of requests is written down, beside the calls that are kept on disk.
async fn journal(
    disk: Option<&DiskSettings>,
    response_timeout: Duration,
    clock: &Arc<Clock>,
) -> Option<Journal> {
    let mut path = disk?.path.clone().into_os_string();
    path.push(".departures");
    let clock = Arc::clone(clock);
    let open = move || Journal::open(path.as_ref(), clock, response_timeout);
    tokio::task::spawn_blocking(open).await.ok().flatten()
}

/// The listeners of an endpoint: the sockets that were handed to it, or else ones at its addresses.
async fn bind(handed: Vec<Handed>, addresses: &[BindAddress], mode: u32) -> Result<Vec<Listener>, BindError> {
    if !handed.is_empty() {
        return handed.into_iter().map(|one| Listener::take(one).map_err(BindError::Listen)).collect();
    }
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        listeners.push(Listener::bind(address, mode).await.map_err(BindError::Listen)?);
    }
    Ok(listeners)
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}
