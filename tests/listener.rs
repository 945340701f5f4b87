//! Sockets, limits and timers of an endpoint, by raw bytes against a handler that answers what is asked of it.

mod ending;
mod framing;
mod http2;
mod room;
mod streams;
mod timers;
mod untold;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use callgate::downstream::{
    BindAddress, Limits,
    accept::serve,
    body::Content,
    connection::Handler,
    listener::{Listener, LocalAddress},
    socket::Peer,
    stage::Stage,
};
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything here takes, unless it hangs.
const LONG: Duration = Duration::from_secs(20);

/// A limit short enough to wait for.
const SHORT: Duration = Duration::from_millis(150);

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const GET_HELD: &[u8] = b"GET /held HTTP/1.1\r\nhost: localhost\r\n\r\n";
const GET_LARGE: &[u8] = b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// More than the kernel's buffers take on both sides together.
const LARGE: usize = 32 << 20;

/// Answers at once, after a release, or at length.
#[derive(Clone, Default)]
struct Trial(Arc<Held>);

#[derive(Default)]
struct Held {
    arrived: Notify,
    released: Notify,
    dropped: Notify,
    peers: std::sync::Mutex<Vec<Peer>>,
    /// Of the latest stream.
    pieces: std::sync::Mutex<Option<mpsc::Sender<Bytes>>>,
}

/// Says when the future that it is part of goes away.
struct Dropped(Arc<Held>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

impl Handler for Trial {
    type Content = Content;

    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Content>> + Send + use<> {
        let held = Arc::clone(&self.0);
        held.peers.lock().expect("sound").push(peer);
        async move {
            if !request.body().is_end_stream() {
                let refusal = Response::builder().status(400).body(Bytes::from_static(b"refused").into());
                return refusal.expect("a response");
            }
            Response::new(match request.uri().path() {
                "/held" => {
                    let dropped = Dropped(Arc::clone(&held));
                    held.arrived.notify_one();
                    held.released.notified().await;
                    drop(dropped);
                    Bytes::from_static(b"released").into()
                }
                "/large" => Bytes::from(vec![b'x'; LARGE]).into(),
                "/stream" => {
                    let (pieces, content) = mpsc::channel(1);
                    *held.pieces.lock().expect("sound") = Some(pieces);
                    held.arrived.notify_one();
                    Content::Stream(content)
                }
                _ => Bytes::from_static(b"hello").into(),
            })
        }
    }
}

/// Limits that no test meets by accident.
fn roomy() -> Limits {
    Limits {
        max_connections: 64,
        max_requests: 1000,
        header_timeout: LONG,
        idle_timeout: LONG,
        write_timeout: LONG,
        grace: Duration::from_secs(1),
        http2: false,
    }
}

/// An endpoint under test.
struct Endpoint {
    address: SocketAddr,
    held: Arc<Held>,
    open: Arc<AtomicUsize>,
    stage: watch::Sender<Stage>,
    served: JoinHandle<()>,
}

impl Endpoint {
    async fn start(limits: Limits) -> Self {
        let listener =
            Listener::bind(&BindAddress::Tcp(([127, 0, 0, 1], 0).into()), 0o600).await.expect("bound");
        let LocalAddress::Tcp(address) = *listener.local_address() else { panic!("tcp") };
        Self::serve(vec![listener], address, limits)
    }

    fn serve(listeners: Vec<Listener>, address: SocketAddr, limits: Limits) -> Self {
        let handler = Trial::default();
        let held = Arc::clone(&handler.0);
        let open = Arc::new(AtomicUsize::new(0));
        let (stage, stages) = watch::channel(Stage::Open);
        let served = tokio::spawn(serve(listeners, handler, limits, Arc::clone(&open), stages));
        Self { address, held, open, stage, served }
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address)).await.expect("connected")
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    async fn ended(self) {
        within(self.served).await.expect("no panic");
        assert_eq!(self.open.load(Ordering::Relaxed), 0);
    }
}

/// An endpoint for one connection, that one, whose request is held, and the one that waits for it with a request of its
/// own.
async fn full() -> (Endpoint, TcpStream, TcpStream) {
    let endpoint = Endpoint::start(Limits { max_connections: 1, ..roomy() }).await;
    let mut busy = endpoint.connect().await;
    busy.write_all(GET_HELD).await.expect("sent");
    within(endpoint.held.arrived.notified()).await;
    let mut waiting = endpoint.connect().await;
    waiting.write_all(GET).await.expect("sent");
    assert!(timeout(SHORT, waiting.read_u8()).await.is_err(), "answered beyond the limit");
    assert_eq!(endpoint.open(), 1);
    (endpoint, busy, waiting)
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("in time")
}

/// Sends `bytes` and reads the one answer, by its length.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> (String, Vec<u8>) {
    within(stream.write_all(bytes)).await.expect("sent");
    answer(stream).await
}

async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> (String, Vec<u8>) {
    let head = head(stream).await;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    within(stream.read_exact(&mut body)).await.expect("a body");
    (head, body)
}

async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.expect("more of a head"));
    }
    String::from_utf8(head).expect("text")
}

/// Everything that comes until the other side closes in order.
async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.expect("closed in order");
    String::from_utf8(rest).expect("text")
}
