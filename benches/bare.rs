//! The reference of `benches/compare`: hyper as callgate builds it, and nothing else. Every request gets one constant
//! answer of as many bytes as was asked for, with the fields that hyper sets and a `content-type`; what it costs is the
//! least that a service on this stack can cost. No timer is set, so nothing bounds a caller either.
//!
//! `cargo run --release --example bare -- ADDRESS BYTES [WORKERS [http2|apart]]`. An address with a slash is a Unix
//! socket. With `apart` each worker is a runtime of its own, with a socket of its own at the same address
//! (`SO_REUSEPORT`). It knows no cache, no routes and no limits, and must never be reachable from elsewhere.

use std::{convert::Infallible, error::Error, net::SocketAddr, path::Path};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, UnixListener},
    runtime::Builder,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, bytes, workers, how) = match arguments.as_slice() {
        [address, bytes] => (address, bytes, "1", ""),
        [address, bytes, workers] => (address, bytes, workers.as_str(), ""),
        [address, bytes, workers, how] if how == "http2" || how == "apart" => {
            (address, bytes, workers.as_str(), how.as_str())
        }
        _ => return Err("usage: bare ADDRESS BYTES [WORKERS [http2|apart]]".into()),
    };
    let body = Bytes::from(record(bytes.parse()?));
    if how == "apart" {
        return apart(address.parse()?, &body, workers.parse()?);
    }
    let http2 = how == "http2";
    let mut runtime = match workers.parse()? {
        1 => Builder::new_current_thread(),
        workers => {
            let mut threads = Builder::new_multi_thread();
            threads.worker_threads(workers);
            threads
        }
    };
    runtime.enable_all().build()?.block_on(serve(address, body, http2))
}

/// Serves from so many threads that share nothing but the address.
fn apart(address: SocketAddr, body: &Bytes, workers: usize) -> Result<(), Box<dyn Error>> {
    let serving: Vec<_> = (0..workers)
        .map(|_| {
            let body = body.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let socket = TcpSocket::new_v4()?;
                    socket.set_reuseport(true)?;
                    socket.bind(address)?;
                    accept(&socket.listen(4096)?, &body, false).await
                })
            })
        })
        .collect();
    for thread in serving {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}

/// A JSON text of that length.
fn record(bytes: usize) -> String {
    format!("{{\"text\":\"{}\"}}", "x".repeat(bytes.saturating_sub(11)))
}

async fn serve(address: &str, body: Bytes, http2: bool) -> Result<(), Box<dyn Error>> {
    if address.contains('/') {
        let listener = UnixListener::bind(Path::new(address))?;
        loop {
            let (socket, _) = listener.accept().await?;
            answer(socket, body.clone(), http2);
        }
    }
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    Ok(accept(&listener, &body, http2).await?)
}

async fn accept(listener: &TcpListener, body: &Bytes, http2: bool) -> std::io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        answer(socket, body.clone(), http2);
    }
}

/// Serves one connection, on a task of its own.
fn answer(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, body: Bytes, http2: bool) {
    let service = service_fn(move |_: Request<Incoming>| {
        let mut response = Response::new(Full::new(body.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    tokio::spawn(async move {
        let io = TokioIo::new(socket);
        // A caller that hangs up is no news to anybody.
        let _ = if http2 {
            http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        } else {
            http1::Builder::new().serve_connection(io, service).await
        };
    });
}
