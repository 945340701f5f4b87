//! The vendor of `benches/compare`: any id is a call, and every answer comes after the same pause. It stands behind all
//! gateways alike, so it does no more than it must; the sandbox, which behaves as the real vendor does, would be the
//! slowest part of any measurement.
//!
//! `cargo run --release --example vendor -- ADDRESS BYTES PAUSE_MS`. An id that begins with `0` is of a call under way,
//! all others of one that ended long ago. `GET /requests` says how many lookups came so far. It checks nothing, least of
//! all the key.

use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, time::sleep};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, bytes, pause] = arguments.as_slice() else {
        return Err("usage: vendor ADDRESS BYTES PAUSE_MS".into());
    };
    let (bytes, pause) = (bytes.parse()?, Duration::from_millis(pause.parse()?));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(address, bytes, pause))
}

async fn serve(address: &str, bytes: usize, pause: Duration) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    let padding: Arc<str> = Arc::from(words(bytes));
    let lookups = Arc::new(AtomicU64::new(0));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (padding, lookups) = (Arc::clone(&padding), Arc::clone(&lookups));
        let service = service_fn(move |request: Request<Incoming>| {
            let (padding, lookups) = (Arc::clone(&padding), Arc::clone(&lookups));
            async move {
                let path = request.uri().path();
                let body = if path == "/requests" {
                    lookups.load(Relaxed).to_string()
                } else {
                    lookups.fetch_add(1, Relaxed);
                    let id = path.rsplit('/').next().unwrap_or_default();
                    let body = record(id, &padding, bytes);
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                    body
                };
                let mut response = Response::new(Full::new(Bytes::from(body)));
                let json = HeaderValue::from_static("application/json; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                // Peers that know nothing of records have to be told.
                let keep = HeaderValue::from_static("max-age=86400");
                response.headers_mut().insert(header::CACHE_CONTROL, keep);
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            // A gateway that hangs up is no news to anybody.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// A record of that call, of `bytes` bytes if it need not be longer.
fn record(id: &str, padding: &str, bytes: usize) -> String {
    let (status, ended) = if id.starts_with('0') {
        ("ongoing", "\"endTime\":null")
    } else {
        ("completed", "\"endTime\":1737062994.9")
    };
    let mut text = format!(
        "{{\"_id\":\"{id}\",\"workspaceId\":\"ws-bench\",\"status\":\"{status}\",\"direction\":\"outbound\",\
         \"startTime\":1737062894.9754236,{ended},\"createdAt\":\"2025-01-16T21:28:14.975Z\",\
         \"updatedAt\":\"2025-01-16T21:30:14.975Z\",\"cost\":{{\"customer_charge\":0.12}},\
         \"summary\":\"The customer asked for an appointment.\",\"analyzedData\":{{\"resolved\":true}},\
         \"transcript\":[{{\"role\":\"user\",\"text\":\""
    );
    let left = bytes.saturating_sub(text.len() + 4);
    text.push_str(padding.get(..left).unwrap_or(padding));
    text.push_str("\"}]}");
    text
}

/// So many bytes of speech: words in an order that does not repeat within a record, as a compressor would see it.
fn words(bytes: usize) -> String {
    const WORDS: [&str; 24] = [
        "yes",
        "no",
        "tomorrow",
        "appointment",
        "please",
        "invoice",
        "could",
        "number",
        "thanks",
        "morning",
        "address",
        "order",
        "I",
        "you",
        "the",
        "we",
        "delivery",
        "about",
        "would",
        "name",
        "again",
        "call",
        "problem",
        "o'clock",
    ];
    let mut rng = fastrand::Rng::with_seed(1);
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(WORDS.get(rng.usize(..WORDS.len())).copied().unwrap_or_default());
        text.push(' ');
    }
    text
}
