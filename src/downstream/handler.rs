//! The internal endpoint: one request in, one answer out, one line in the log, one count in the metrics.
//!
//! The order is guard, route, workspace, lookup, reply. What is refused before the lookup reaches neither cache nor
//! vendor. What is fresh in memory is answered within the call, without a task and without a wait.

use std::{mem, sync::Arc};

use bytes::Bytes;
use futures_util::future::{Either, ready};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    AllowedHosts,
    access::{self, Over, Visit, What},
    connection::Handler,
    directives,
    fields::Fields,
    guard,
    line_limit::LineLimit,
    prefer, problem,
    reply::{self, Conditions},
    route::{self, QueryRules, Route},
    sampler::Sampler,
    socket::Peer,
    span,
};
use crate::{
    call::{CacheKey, CallId, Resource},
    clock::Clock,
    lookup::{Answer, Ask, Content, Directives, Lookup, Settings, Timing},
    metrics::{Latest, Metrics, RouteLabel},
    otlp::Spans,
    outcome::{CacheLabel, ErrorCode, Outcome, Refusal},
    trace::{Trace, X_REQUEST_ID},
    upstream::{Origin, credentials::Credentials},
};

/// What nginx writes for a caller who left before the answer.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// In the place of a request id that has moved into its response.
static UNKNOWN: HeaderValue = HeaderValue::from_static("-");

/// The internal endpoint. A clone is the same endpoint.
#[derive(Clone)]
pub struct Internal(Arc<Parts>);

/// What the internal endpoint is made of.
pub struct Parts {
    /// Answers what is asked.
    pub lookup: Arc<Lookup>,
    /// Knows the workspaces.
    pub credentials: Arc<Credentials>,
    /// `listen.allowed_hosts`
    pub hosts: AllowedHosts,
    /// The time of day, for what callers are told.
    pub clock: Arc<Clock>,
    /// Where every request is counted.
    pub metrics: Arc<Metrics>,
    /// The latest requests, for the status page.
    pub latest: Arc<Latest>,
    /// `log.hits`: the share of hits that get a line.
    pub hits: Arc<Sampler>,
    /// How many of those that are turned away get one.
    pub turned_away: LineLimit,
    /// Where spans go, if anywhere.
    pub spans: Option<Spans>,
    /// Where the vendor is, as spans say it.
    pub vendor: Origin,
}

impl Internal {
    /// An endpoint of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Handler for Internal {
    type Content = Bytes;

    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Bytes>> + Send + use<> {
        let started = Instant::now();
        let fields = Fields::read(request.headers());
        let trace =
            Trace::continuing(self.0.credentials.free_of(fields.request_id), fields.traceparent.once());
        let policy = self.0.lookup.policy();
        let (label, asked) = self.0.understand(&request, &fields, peer, &policy);
        let (conditional, preferring) = (fields.conditional, fields.preferring);
        // Only borrowed until it is known that there is something to wait for: it is large.
        let head = request.into_parts().0;
        let mut visit = Visit {
            peer,
            label,
            started,
            sampled: self.0.spans.as_ref().and_then(|_| trace.sampled()),
            trace,
            conditional,
            client_max_age: policy.client_max_age,
            asked: None,
            patience: None,
        };
        let (key, directives) = match asked {
            Ok(asked) => asked,
            Err(refusal) => return Either::Left(ready(self.0.refuse(&head, &visit, &refusal))),
        };
        if preferring && label == RouteLabel::Lookup {
            visit.patience = prefer::wait(&head.headers).map(|wait| wait.min(policy.max_wait));
        }
        let hit = self.0.lookup.answer_at_once(&key, &directives, started);
        match hit.filter(|hit| visit.patience.is_none() || !hit.is_ongoing()) {
            Some(hit) => {
                visit.asked = Some(key);
                Either::Left(ready(self.0.answer(&head, visit, &hit, started)))
            }
            None => {
                let ask = Ask { key, directives, trace: visit.trace.clone() };
                // In a box: hyper moves the future of every request, and a hit's should not carry room for this one.
                Either::Right(Box::pin(self.clone().wait(head, visit, ask)))
            }
        }
    }
}

impl Internal {
    /// Answers what has to be waited for; a caller who leaves meanwhile is written down as well.
    async fn wait(self, head: request::Parts, mut visit: Visit, ask: Ask) -> Response<Bytes> {
        visit.asked = Some(ask.key.clone());
        let patience = visit.patience;
        let mut departure = Departure { endpoint: &self.0, head: &head, visit: Some(visit) };
        let answer = match patience {
            Some(patience) => self.0.lookup.answer_when_over(ask, patience).await,
            None => self.0.lookup.answer_by_flight(ask).await,
        };
        match departure.visit.take() {
            Some(visit) => self.0.answer(&head, visit, &answer, Instant::now()),
            None => Response::new(Bytes::new()),
        }
    }
}

impl Parts {
    /// What the request asks for and on what terms, or why it is refused, and the name under which it is counted.
    fn understand(
        &self,
        request: &Request<Incoming>,
        fields: &Fields<'_>,
        peer: Peer,
        policy: &Settings,
    ) -> (RouteLabel, Result<(CacheKey, Directives), Refusal>) {
        if let Err(refusal) = guard::check(request, fields, &self.hosts, peer.is_unix()) {
            return (RouteLabel::Other, Err(refusal));
        }
        let rules = QueryRules { ignored: &policy.query_ignored, forwarded: &policy.query_forwarded };
        let (label, route) =
            route::route(request.method(), request.uri().path(), request.uri().query(), rules);
        let key = route.map_err(|refusal| self.unsaid(refusal)).and_then(|route| self.key(route, fields));
        let directives = || match fields.directed {
            true => directives::read(request.headers(), policy.obey_no_cache),
            false => Directives::default(),
        };
        (label, key.map(|key| (key, directives())))
    }

    /// A refusal that repeats nothing with a key in it.
    fn unsaid(&self, refusal: Refusal) -> Refusal {
        match self.credentials.occur_in(refusal.detail.as_bytes()) {
            true => Refusal { detail: refusal.code.title().into(), ..refusal },
            false => refusal,
        }
    }

    fn key(&self, route: Route, fields: &Fields<'_>) -> Result<CacheKey, Refusal> {
        // It would be logged, shown, and kept under its name.
        if let Resource::Call(id, _) = &route.resource
            && self.credentials.occur_in(id.as_str().as_bytes())
        {
            return Err(Refusal::new(ErrorCode::InvalidCallId, CallId::NO_KEY));
        }
        if let Resource::Call(_, Some(query)) | Resource::List(Some(query)) = &route.resource
            && self.credentials.occur_in(query.as_bytes())
        {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "the query holds a key of the gateway's own",
            ));
        }
        let workspace = self.credentials.select(fields.workspace.map(HeaderValue::as_bytes));
        let Some(workspace) = workspace else {
            let detail =
                "x-workspace-id names none of the gateway's workspaces; leave it out for the default";
            return Err(Refusal::new(ErrorCode::UnknownWorkspace, detail));
        };
        Ok(CacheKey { workspace, version: route.version, resource: route.resource })
    }

    /// Answers what was refused before the lookup.
    fn refuse(&self, head: &request::Parts, visit: &Visit, refusal: &Refusal) -> Response<Bytes> {
        let mut response = problem::problem(refusal, route::ALLOW, Instant::now(), &self.clock);
        response.headers_mut().insert(X_REQUEST_ID, visit.trace.request_id.clone());
        let what = What { outcome: &Outcome::NotAsked, timing: Timing::default(), refusal: Some(refusal) };
        self.finish(head, visit, response, &what)
    }

    /// Answers a lookup.
    fn answer(
        &self,
        head: &request::Parts,
        mut visit: Visit,
        answer: &Answer,
        now: Instant,
    ) -> Response<Bytes> {
        let headers = visit.conditional.then_some(&head.headers);
        let conditions = Conditions { headers, client_max_age: visit.client_max_age, now };
        let request_id = mem::replace(&mut visit.trace.request_id, UNKNOWN.clone());
        let mut response = reply::reply(answer, &conditions, &self.clock, request_id);
        if let Some(patience) = visit.patience
            && let Ok(applied) = HeaderValue::try_from(format!("wait={}", patience.as_secs()))
        {
            response.headers_mut().insert(prefer::PREFERENCE_APPLIED, applied);
        }
        let refusal = match &answer.content {
            Content::Refused(refusal) => Some(&**refusal),
            Content::Stored(_) => None,
        };
        let what = What { outcome: &answer.outcome, timing: answer.timing, refusal };
        self.finish(head, &visit, response, &what)
    }

    /// Counts what is answered, and writes it down. The response has its `x-request-id` by now.
    fn finish(
        &self,
        head: &request::Parts,
        visit: &Visit,
        response: Response<Bytes>,
        what: &What<'_>,
    ) -> Response<Bytes> {
        let took = visit.started.elapsed();
        let (label, status) = (what.outcome.label(), response.status());
        self.metrics.request(visit.label, label, status, took);
        let over = Over { head, visit, what, status: status.as_u16(), took, credentials: &self.credentials };
        if self.latest.wants(label, visit.started) {
            self.latest.note(over.noted());
        }
        if label != CacheLabel::Hit || self.hits.picks() {
            let bytes = if head.method == Method::HEAD { 0 } else { response.body().len() };
            self.log(&over, bytes, request_id(&response));
        }
        if visit.sampled.is_some() {
            self.export(head, visit, status, what, request_id(&response));
        }
        response
    }
}

/// The id that a response tells its caller.
fn request_id(response: &Response<Bytes>) -> &HeaderValue {
    response.headers().get(X_REQUEST_ID).unwrap_or(&UNKNOWN)
}

impl Parts {
    /// Writes the line of a request that gets one.
    fn log(&self, over: &Over<'_>, bytes: usize, request_id: &HeaderValue) {
        let now = over.visit.started + over.took;
        if let Some(left_out) = self.turned_away.left_out(now) {
            access::log_left_out(left_out);
        }
        if !over.is_cheap() || self.turned_away.admits(now) {
            over.log(bytes, request_id);
        }
    }

    /// Hands the spans of a request to the collector, where there is one and the caller samples the trace.
    fn export(
        &self,
        head: &request::Parts,
        visit: &Visit,
        status: StatusCode,
        what: &What<'_>,
        request_id: &HeaderValue,
    ) {
        let (Some(spans), Some(sampled)) = (&self.spans, visit.sampled) else { return };
        spans.hand_over(span::of_request(&span::Seen {
            sampled,
            vendor: &self.vendor,
            method: &head.method,
            path: head.uri.path(),
            label: visit.label,
            key: visit.asked.as_ref(),
            request_id,
            started: visit.started,
            ended: Instant::now(),
            status,
            outcome: what.outcome,
            timing: what.timing,
            refused: what.refusal.map(|refusal| refusal.code),
            waited: visit.patience.is_some(),
        }));
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(left_out) = self.turned_away.left_out_at_last() {
            access::log_left_out(left_out);
        }
    }
}

/// Writes a caller down who leaves before the answer.
struct Departure<'a> {
    endpoint: &'a Parts,
    head: &'a request::Parts,
    visit: Option<Visit>,
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        let Some(visit) = self.visit.take() else { return };
        let took = visit.started.elapsed();
        let what = What::LEFT;
        if let Ok(status) = StatusCode::from_u16(CLIENT_CLOSED_REQUEST) {
            self.endpoint.metrics.request(visit.label, CacheLabel::None, status, took);
            self.endpoint.export(self.head, &visit, status, &what, &visit.trace.request_id);
        }
        let over = Over {
            head: self.head,
            visit: &visit,
            what: &what,
            status: CLIENT_CLOSED_REQUEST,
            took,
            credentials: &self.endpoint.credentials,
        };
        self.endpoint.latest.note(over.noted());
        self.endpoint.log(&over, 0, &visit.trace.request_id);
    }
}
