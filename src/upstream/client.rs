//! One try at the vendor over HTTP: with `connect` the only file on the vendor's side that knows hyper's client. Spans
//! go to their collector, and the commands talk to a gateway, over clients of their own.
//!
//! The request is built anew from the key of the cache; nothing of a caller's is copied into it but the request id
//! and the trace. It does not know budgets, retries or what becomes of an answer.
//!
//! A connection from which an answer was not read to its end, or could be read in two ways, is not used again: what
//! follows on it cannot be told from the rest of that answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Uri, header, uri::PathAndQuery};
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{Client, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{sync::Notify, time::Instant};

use super::{
    Settings, answer,
    connect::{Connector, Line},
    error::UpstreamError,
    vendor::{Attempt, Source, Vendor, VendorAnswer},
};
use crate::{
    call::X_WORKSPACE_ID,
    causes::chain,
    trace::{TRACEPARENT, X_REQUEST_ID},
    trust::{self, Roots},
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("callgate/", env!("CARGO_PKG_VERSION")));

/// The largest head of an answer, in bytes. The vendor's are a tenth of it.
const MAX_HEAD: usize = 64 << 10;

/// The interim answers (1xx) that may come before an answer. hyper passes over any number of them, and who sends nothing
/// else would keep us busy until the deadline. No vendor has use for more than one or two.
const MAX_INTERIM: u32 = 16;

/// A connection that ends so soon after the request went out was closed for idleness, and not over the request.
const JUST: Duration = Duration::from_secs(1);

/// The vendor over HTTP/1.1 or 2, pooled.
pub struct HttpVendor {
    client: Client<Connector, Empty<Bytes>>,
    origin: super::Origin,
    max_body: usize,
}

impl HttpVendor {
    /// A client for the settings' origin.
    ///
    /// # Errors
    /// Where `upstream.ca_file` cannot be used.
    pub fn new(settings: &Settings) -> std::io::Result<Self> {
        // Over plain http, toward this machine alone, nobody is to be trusted.
        let secured = settings.origin.scheme == http::uri::Scheme::HTTPS;
        let roots = if secured { Roots::Platform } else { Roots::None };
        let tls = trust::client_config(roots, settings.ca_file.as_deref())?;
        let connector = Connector::new(tls, settings.connect_timeout);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(settings.max_concurrency)
            .http1_max_buf_size(MAX_HEAD)
            .http2_max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            // A dead connection that many requests share would fail them all.
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(5))
            // Only where not a byte of the request was written: the vendor has not seen it.
            .retry_canceled_requests(true)
            .build(connector);
        Ok(Self { client, origin: settings.origin.clone(), max_body: settings.max_body })
    }

    fn request(&self, attempt: &Attempt<'_>) -> Result<Request<Empty<Bytes>>, UpstreamError> {
        let unsound = |e: http::Error| UpstreamError::Invalid(format!("request: {e}").into());
        let path = PathAndQuery::try_from(attempt.path_and_query).map_err(|e| unsound(e.into()))?;
        let uri = Uri::builder()
            .scheme(self.origin.scheme.clone())
            .authority(self.origin.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(unsound)?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        // These and `host`: it need not grow.
        headers.reserve(9);
        headers.insert(X_API_KEY, attempt.key.header_value());
        headers.insert(X_WORKSPACE_ID, attempt.workspace_id.clone());
        headers.insert(header::ACCEPT, JSON);
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(X_REQUEST_ID, attempt.trace.request_id.clone());
        if let Some(traceparent) = attempt.trace.traceparent() {
            headers.insert(TRACEPARENT, traceparent);
        }
        Ok(request)
    }

    async fn exchange(&self, attempt: Attempt<'_>) -> Result<VendorAnswer, UpstreamError> {
        let mut request = self.request(&attempt)?;
        let connection = capture_connection(&mut request);
        let too_many = too_many_interim(&mut request);
        let sent = Instant::now();
        let response = tokio::select! {
            biased;
            () = too_many.notified() => None,
            response = self.client.request(request) => Some(response),
        };
        let Some(response) = response else {
            if let Some(line) = Line::of(&connection) {
                line.distrust();
            }
            return Err(UpstreamError::Invalid("too many interim answers".into()));
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => return Err(classify(&error, Line::of(&connection).as_ref(), sent)),
        };
        let line = Line::of_answer(response.extensions(), &connection);
        let reused = line.as_ref().is_some_and(Line::is_reused);
        let read = answer::read(response, &attempt, self.max_body, sent).await;
        match &line {
            Some(line) if read.sound => line.answered(),
            Some(line) => line.distrust(),
            None => {}
        }
        read.answer.map(|answer| VendorAnswer { source: line.map(|line| Source { line, reused }), ..answer })
    }
}

impl Vendor for HttpVendor {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<VendorAnswer, UpstreamError>> {
        Box::pin(async move {
            let deadline = attempt.deadline;
            tokio::time::timeout_at(deadline, self.exchange(attempt))
                .await
                .unwrap_or(Err(UpstreamError::Timeout))
        })
    }
}

/// Rings when there are more interim answers to a request than there may be.
fn too_many_interim(request: &mut Request<Empty<Bytes>>) -> Arc<Notify> {
    let (seen, too_many) = (AtomicU32::new(0), Arc::new(Notify::new()));
    let bell = Arc::clone(&too_many);
    hyper::ext::on_informational(request, move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
            bell.notify_one();
        }
    });
    too_many
}

/// Says at which point a request failed that got no answer.
fn classify(error: &hyper_util::client::legacy::Error, line: Option<&Line>, sent: Instant) -> UpstreamError {
    let cause = chain(error);
    if error.is_connect() {
        return UpstreamError::Connect(cause);
    }
    let hyper = std::error::Error::source(error).and_then(|e| e.downcast_ref::<hyper::Error>());
    match (hyper, line) {
        (Some(e), _) if e.is_parse() => UpstreamError::Invalid(cause.into()),
        // However it ended, by a close or a reset. One that was never written is not answered by what came before it.
        (Some(e), Some(line)) if !e.is_canceled() && line.has_received() => UpstreamError::Incomplete(cause),
        (_, Some(line)) if line.is_reused() && sent.elapsed() < JUST => {
            // The others in the pool may have gone the same way, as when a load balancer forgets its connections.
            line.distrust_all();
            UpstreamError::Reset { reused: true, cause }
        }
        _ => UpstreamError::Reset { reused: false, cause },
    }
}
