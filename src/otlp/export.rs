//! The task that sends spans to the collector, some at a time. One request is under way at a time; while the collector
//! is slow or gone the queue fills, and what comes then is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message as _;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Settings, Span,
    message::{self, Any, ExportRequest, Resource, ResourceSpans, Scope, ScopeSpans, key_value},
};
use crate::{
    causes::chain,
    clock::Clock,
    trust::{self, Roots},
};

/// The most requests whose spans go out together.
const BATCH: usize = 512;

/// How long a span waits for others to go with.
const DELAY: Duration = Duration::from_secs(1);

/// How often at most the log says that spans are lost.
const SAID: Duration = Duration::from_secs(60);

/// The most that is read of a collector's answer.
const MAX_ANSWER: usize = 64 << 10;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("callgate/", env!("CARGO_PKG_VERSION")));

/// Sends spans.
pub(super) struct Export {
    settings: Settings,
    clock: Arc<Clock>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Requests whose spans were lost.
    lost: Arc<AtomicU64>,
    said: Option<Instant>,
}

impl Export {
    pub(super) fn new(settings: Settings, clock: Arc<Clock>, lost: Arc<AtomicU64>) -> std::io::Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(settings.timeout));
        // Over plain http nobody is to be trusted.
        let secured = settings.endpoint.scheme() == Some(&http::uri::Scheme::HTTPS);
        let roots = if secured { Roots::Platform } else { Roots::None };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust::client_config(roots, None)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
        Ok(Self { settings, clock, client, lost, said: None })
    }

    /// Sends what is handed over until `closing` rings, and then what still waits.
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Vec<Span>>, closing: Arc<Notify>) {
        tracing::info!(host = self.settings.endpoint.host(), "spans are exported");
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let mut until = None;
            while batch.len() < BATCH {
                tokio::select! {
                    biased;
                    spans = waiting.recv() => match spans {
                        Some(spans) => {
                            until = until.or_else(|| Some(Instant::now() + DELAY));
                            batch.push(spans);
                        }
                        None => break,
                    },
                    // What waits is still received; then there is no more.
                    () = closing.notified(), if !waiting.is_closed() => waiting.close(),
                    () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
                }
            }
            if batch.is_empty() {
                return;
            }
            self.export(batch.drain(..)).await;
        }
    }

    async fn export(&mut self, batch: impl ExactSizeIterator<Item = Vec<Span>>) {
        let requests = batch.len() as u64;
        let spans = batch.flat_map(|of_one| message::spans(of_one, &self.clock)).collect();
        let failed = match timeout(self.settings.timeout, self.send(spans)).await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if failed.is_some() {
            self.lost.fetch_add(requests, Relaxed);
        }
        let now = Instant::now();
        if self.lost.load(Relaxed) > 0 && self.said.is_none_or(|said| now.duration_since(said) >= SAID) {
            self.said = Some(now);
            let lost = self.lost.swap(0, Relaxed);
            tracing::warn!(lost, why = failed.as_deref().unwrap_or("too many"), "spans of requests are lost");
        }
    }

    async fn send(&self, spans: Vec<message::WireSpan>) -> Result<(), String> {
        let resource = self.settings.resource.iter();
        let attributes = resource.map(|(key, value)| key_value(key, Any::Text(value.clone()))).collect();
        let scope = Scope { name: "callgate".into(), version: env!("CARGO_PKG_VERSION").into() };
        let message = ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
            }],
        };
        let mut request = Request::post(&self.settings.endpoint)
            .body(Full::new(Bytes::from(message.encode_to_vec())))
            .map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROTOBUF);
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.extend(self.settings.headers.clone());
        let answer = self.client.request(request).await.map_err(|error| chain(&error))?;
        let status = answer.status();
        // Read to its end, so that the connection can serve again.
        let _ = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
    }
}
