//! The operators' endpoint:
//!
//! - `GET /`, `GET /status`: the status page, and what it shows, as JSON.
//! - `GET /healthz`: 200 while the process serves at all.
//! - `GET /readyz`: 200, or 503 with a line for each reason.
//! - `GET /metrics`: all counters, as Prometheus text or OpenMetrics.
//! - `GET /cache/{id}`, `DELETE /cache/{id}`, `DELETE /cache`: what is kept of a call, and to forget it, or
//!   everything.
//! - `POST /warm`: fetches calls ahead of need, and tells line by line how it goes.
//! - `GET /config`, `POST /reload`: the settings in force, and to read them and the key files again.
//! - `GET /openapi.json`: this endpoint and that of callers, described.
//!
//! Beside it a read-only one for scraping over a network, with the probes and counters and a type of its own: there is no way
//! from there to anything that changes something. The same guard stands before both as before the internal endpoint: a
//! web page must not read the counters either.

use std::sync::{Arc, atomic::AtomicUsize};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

mod cache;
mod openapi;
mod page;
mod probes;
pub mod readiness;
pub mod reload;
mod status;
mod warm;

use readiness::Readiness;

use crate::{
    clock::Clock,
    downstream::{
        AllowedHosts, body::Content, connection::Handler, fields::Fields, guard, problem, socket::Peer,
    },
    lookup::Lookup,
    metrics::{Latest, Metrics},
    outcome::{ErrorCode, Refusal, Tier},
    replicas,
    trace::{Trace, X_REQUEST_ID},
    upstream::credentials::Credentials,
};

const JSON: &str = "application/json";

/// The operators' endpoint. A clone is the same endpoint.
#[derive(Clone)]
pub struct Admin {
    parts: Arc<Parts>,
    hosts: Arc<AllowedHosts>,
    warming: warm::Warming,
}

/// The read-only endpoint for scraping. A clone is the same endpoint.
#[derive(Clone)]
pub struct Scraping(Arc<Parts>);

/// What the endpoints look at.
pub struct Parts {
    /// Whether requests should be sent here.
    pub readiness: Arc<Readiness>,
    /// What is kept.
    pub lookup: Arc<Lookup>,
    /// Which workspaces there are.
    pub credentials: Arc<Credentials>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// The time of day, for what callers are told.
    pub clock: Arc<Clock>,
    /// The settings.
    pub configuration: Arc<dyn reload::Configuration>,
    /// Open connections of the internal endpoint.
    pub connections: Arc<AtomicUsize>,
    /// The latest requests.
    pub latest: Arc<Latest>,
    /// What each tier may hold, in bytes, where that is known.
    pub capacities: Vec<(Tier, u64)>,
    /// Whether the replicas' Redis can be relied on, where there is one.
    pub replicas: Option<watch::Receiver<replicas::State>>,
}

impl Admin {
    /// An endpoint of these parts, which answers to `hosts`.
    #[must_use]
    pub fn new(parts: Arc<Parts>, hosts: AllowedHosts) -> Self {
        Self { parts, hosts: Arc::new(hosts), warming: warm::Warming::default() }
    }
}

impl Scraping {
    /// An endpoint of these parts. It answers to every host: scrapers on a network come by whatever name they were given,
    /// and there is nothing to change here.
    #[must_use]
    pub fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }
}

impl Handler for Admin {
    type Content = Content;

    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Content>> + Send + use<> {
        let fields = Fields::read(request.headers());
        let trace = self.parts.trace(&fields);
        let check = if warm::has_body(&request) { guard::check_with_body } else { guard::check };
        let checked = check(&request, &fields, &self.hosts, peer.is_unix()).map_err(Refused::from);
        let (parts, warming) = (Arc::clone(&self.parts), self.warming.clone());
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, ());
        async move {
            let asked = match checked {
                Ok(()) => parts.understand(&request).await,
                Err(refused) => Err(refused),
            };
            let answer = match asked {
                Ok(Asked::Answered(response)) => Ok(response.map(Content::Full)),
                Ok(Asked::Cache(asked)) => {
                    cache::answer(&parts, asked, peer).await.map(|response| response.map(Content::Full))
                }
                Ok(Asked::Warm(asked)) => warming.begin(&parts, asked, body, peer).await,
                Ok(Asked::Configuration(asked)) => {
                    Ok(reload::answer(&parts, asked, peer).await.map(Content::Full))
                }
                Err(refused) => Err(refused),
            };
            parts.finish(answer, peer, trace)
        }
    }
}

impl Handler for Scraping {
    type Content = Bytes;

    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Bytes>> + Send + use<> {
        let fields = Fields::read(request.headers());
        let trace = self.0.trace(&fields);
        let checked =
            guard::check(&request, &fields, &AllowedHosts::Any, peer.is_unix()).map_err(Refused::from);
        let (parts, request) = (Arc::clone(&self.0), request.map(drop));
        async move {
            let answer = match checked {
                Ok(()) => match probes::answer(&parts, &request).await {
                    Some(answer) => answer,
                    None => Err(no_route("there are /healthz, /readyz and /metrics")),
                },
                Err(refused) => Err(refused),
            };
            parts.finish(answer, peer, trace)
        }
    }
}

/// What is asked of the operators' endpoint.
enum Asked {
    /// Something that takes no time.
    Answered(Response<Bytes>),
    Cache(cache::Asked),
    Warm(warm::Asked),
    Configuration(reload::Asked),
}

impl Parts {
    fn trace(&self, fields: &Fields<'_>) -> Trace {
        Trace::continuing(self.credentials.free_of(fields.request_id), fields.traceparent.once())
    }

    async fn understand(&self, request: &Request<()>) -> Result<Asked, Refused> {
        if let Some(answer) = probes::answer(self, request).await {
            return answer.map(Asked::Answered);
        }
        if let Some(answer) = openapi::answer(request) {
            return answer.map(Asked::Answered);
        }
        if let Some(answer) = page::answer(self, request).await {
            return answer.map(Asked::Answered);
        }
        if let Some(asked) = reload::understand(request) {
            return asked.map(Asked::Configuration);
        }
        if let Some(asked) = warm::understand(self, request) {
            return asked.map(Asked::Warm);
        }
        match cache::understand(self, request) {
            Some(asked) => asked.map(Asked::Cache),
            None => Err(no_route("all paths of this endpoint are described at /openapi.json")),
        }
    }

    fn finish<C: From<Bytes>>(
        &self,
        answer: Result<Response<C>, Refused>,
        peer: Peer,
        trace: Trace,
    ) -> Response<C> {
        let mut response = answer.unwrap_or_else(|Refused { refusal, allowed }| {
            tracing::debug!(%peer, reason = refusal.code.as_str(), "admin request refused");
            problem::problem(&refusal, allowed.0, Instant::now(), &self.clock).map(C::from)
        });
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, trace.request_id);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// The methods of a path, as `allow` has them.
#[derive(Clone, Copy)]
struct Allowed(&'static str);

/// Those of what is only read.
const READ: Allowed = Allowed("GET, HEAD");

impl Allowed {
    fn check(self, method: &Method) -> Result<(), Refused> {
        if self.0.split(", ").any(|allowed| allowed == method.as_str()) {
            return Ok(());
        }
        let refusal = Refusal::new(ErrorCode::MethodNotAllowed, format!("the methods here are {}", self.0));
        Err(Refused { refusal, allowed: self })
    }
}

/// A request that is refused, and the methods of its path.
struct Refused {
    refusal: Refusal,
    allowed: Allowed,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, allowed: READ }
    }
}

fn no_route(detail: &'static str) -> Refused {
    Refusal::new(ErrorCode::RouteNotFound, detail).into()
}

/// Refuses a query: nothing here understands one, and who takes `DELETE /cache?id=…` for that of a call would lose
/// everything.
fn without_query<B>(request: &Request<B>) -> Result<(), Refused> {
    match request.uri().query() {
        None => Ok(()),
        Some(_) => Err(Refusal::new(ErrorCode::UnexpectedQuery, "no query is understood here").into()),
    }
}

fn json(value: &impl Serialize) -> Response<Bytes> {
    // Serializing strings and numbers cannot fail; an empty body would still carry the status.
    body(StatusCode::OK, JSON, serde_json::to_vec(value).unwrap_or_default())
}

fn body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
