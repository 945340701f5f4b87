//! A collector of spans of a test's own: takes OTLP over HTTP, and reads it with OpenTelemetry's own types.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message as _;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver},
};

use crate::gateway::world::within;

/// One export as it came.
pub(crate) struct Export {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) message: ExportTraceServiceRequest,
}

impl Export {
    pub(crate) fn spans(&self) -> Vec<Span> {
        let scopes = self.message.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// An attribute of the sender.
    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        let resource = self.message.resource_spans.first()?.resource.as_ref()?;
        resource.attributes.iter().find(|pair| pair.key == key).and_then(|pair| text(pair.value.as_ref()?))
    }
}

/// An attribute of a span, as text.
pub(crate) fn attribute(span: &Span, key: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key == key).and_then(|pair| text(pair.value.as_ref()?))
}

fn text(value: &opentelemetry_proto::tonic::common::v1::AnyValue) -> Option<String> {
    let value = value.value.as_ref()?;
    if let Value::StringValue(text) = value {
        return Some(text.clone());
    }
    let Value::IntValue(number) = value else { panic!("neither text nor number: {value:?}") };
    Some(number.to_string())
}

/// A collector that listens.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    exports: UnboundedReceiver<Export>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (took, exports) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let took = took.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let took = took.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.expect("a body").to_bytes();
                        let message = ExportTraceServiceRequest::decode(body).expect("OTLP");
                        let path = head.uri.path().to_owned();
                        let _ = took.send(Export { path, headers: head.headers, message });
                        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, exports }
    }

    /// The next export, searched for keys.
    pub(crate) async fn next(&mut self) -> Export {
        let export = within(self.exports.recv()).await.expect("it listens");
        crate::canary::search("spans", export.message.encode_to_vec());
        export
    }
}
