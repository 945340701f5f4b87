//! Makes connections to the vendor: name, TCP and TLS within one timeout, each connection marked so that one knows
//! later whether it had served before.
//!
//! It knows nothing of requests. Names are resolved at each new connection; nothing is cached here.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{CaptureConnection, Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use pin_project_lite::pin_project;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tower_service::Service;

/// One connection, as far as a request over it has to know: whether it served before, whether anything of an answer
/// has come, and a way to let it serve no more. Travels with hyper's [`Connected`].
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<LineState>);

#[derive(Debug)]
struct LineState {
    id: u64,
    lines: Lines,
    gone: AtomicBool,
    /// Whether it came to stand in the list.
    listed: AtomicBool,
    /// Whether an answer was read to its end, which is said once all of it was looked at: over HTTP/1.1 the connection
    /// may be lent to the next request before.
    answered: AtomicBool,
    /// Requests that went out over HTTP/1.1, counted where their bytes pass.
    requests: AtomicU64,
    /// Whether anything has come since the last of them; noted there as well.
    received: AtomicBool,
}

impl Line {
    fn new(id: u64, lines: Lines) -> Self {
        let no = || AtomicBool::new(false);
        let (gone, listed, answered, received) = (no(), no(), no(), no());
        Self(Arc::new(LineState { id, lines, gone, listed, answered, requests: AtomicU64::new(0), received }))
    }

    /// One of no connection.
    #[cfg(test)]
    pub(super) fn detached() -> Self {
        Self::new(0, Lines::default())
    }

    /// The line of the connection that a request went over, where it came to that.
    pub(super) fn of(connection: &CaptureConnection) -> Option<Self> {
        let mut extras = http::Extensions::new();
        connection.connection_metadata().as_ref()?.get_extras(&mut extras);
        let line: Self = extras.remove()?;
        line.enlist(connection);
        Some(line)
    }

    /// The same where an answer began: it brings the line with it.
    pub(super) fn of_answer(answer: &http::Extensions, connection: &CaptureConnection) -> Option<Self> {
        let line: &Self = answer.get()?;
        line.enlist(connection);
        Some(line.clone())
    }

    /// Puts it into the list, once: the connection stays the same.
    fn enlist(&self, connection: &CaptureConnection) {
        if self.0.listed.load(Ordering::Relaxed) {
            return;
        }
        let mut lines = self.0.lines.lock();
        self.0.listed.store(true, Ordering::Relaxed);
        // One that has ended meanwhile would stay in the list for good.
        if !self.0.gone.load(Ordering::Relaxed) {
            lines.connections.insert(self.0.id, connection.clone());
        }
    }

    /// An answer was read to its end.
    pub(super) fn answered(&self) {
        self.0.answered.store(true, Ordering::Relaxed);
        if self.0.lines.are_distrusted(Instant::now()) {
            self.distrust();
        }
    }

    /// Whether there was an answer over it before: over HTTP/1.1 no request goes out until the last one has its answer.
    pub(super) fn is_reused(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed) || self.0.requests.load(Ordering::Relaxed) > 1
    }

    /// Whether anything has come since the last request went out. Not known of HTTP/2, where what comes may belong to any.
    pub(super) fn has_received(&self) -> bool {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Whether what is written now begins a request, which it does where something was read since the last one went out.
    /// If so it is counted.
    fn begins_request(&self) -> bool {
        let first = self.0.requests.load(Ordering::Relaxed) == 0;
        // Only the task that has the connection writes here.
        let begins = first || self.0.received.load(Ordering::Relaxed);
        if begins {
            self.0.received.store(false, Ordering::Relaxed);
            self.0.requests.fetch_add(1, Ordering::Relaxed);
        }
        begins
    }

    /// Lets it serve no further request.
    pub(super) fn distrust(&self) {
        self.0.lines.poison(|id| id == self.0.id);
    }

    /// Lets none of the connections that there are now serve a further request, and those that come within the next
    /// seconds only one each: a vendor that closes them under us, or sends what nobody asked for, goes on doing so.
    pub(super) fn distrust_all(&self) {
        self.0.lines.distrust_until(Instant::now() + WARY);
        self.0.lines.poison(|_| true);
    }
}

/// The connections that there are, to be told one by one or all together that they must not serve on.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    connections: HashMap<u64, CaptureConnection>,
    distrusted_until: Option<Instant>,
}

impl Lines {
    fn distrust_until(&self, until: Instant) {
        self.lock().distrusted_until = Some(until);
    }

    fn are_distrusted(&self, now: Instant) -> bool {
        self.lock().distrusted_until.is_some_and(|until| now < until)
    }

    fn poison(&self, which: impl Fn(u64) -> bool) {
        for (_, connection) in self.lock().connections.iter().filter(|(id, _)| which(**id)) {
            if let Some(connected) = connection.connection_metadata().as_ref() {
                connected.poison();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long each connection serves once only after they were all distrusted.
const WARY: Duration = Duration::from_secs(10);

/// Connects within `upstream.connect_timeout`.
#[derive(Clone)]
pub(super) struct Connector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
    lines: Lines,
    next: Arc<AtomicU64>,
}

impl Connector {
    /// A connector that trusts what `tls` trusts. Plain `http` is made possible here and allowed toward loopback
    /// alone by the check of the settings.
    pub(super) fn new(tls: ClientConfig, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        Self { inner, timeout, lines: Lines::default(), next: Arc::default() }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<TokioIo<Stream>, io::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.inner.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let (timeout, lines) = (self.timeout, self.lines.clone());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match tokio::time::timeout(timeout, connecting).await {
                Ok(stream) => Ok(TokioIo::new(Stream::new(stream.map_err(io::Error::other)?, id, lines))),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within the timeout")),
            }
        })
    }
}

pin_project! {
    /// A connection to the vendor.
    pub(super) struct Stream {
        #[pin]
        io: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
        http2: bool,
        entry: Entry,
    }
}

impl Stream {
    fn new(io: MaybeHttpsStream<TokioIo<TcpStream>>, id: u64, lines: Lines) -> Self {
        let http2 = io.connected().is_negotiated_h2();
        Self { io: TokioIo::new(io), http2, entry: Entry(Line::new(id, lines)) }
    }
}

/// A connection's line, which leaves the list when the connection ends.
struct Entry(Line);

impl Drop for Entry {
    fn drop(&mut self) {
        let line = &self.0.0;
        let mut lines = line.lines.lock();
        line.gone.store(true, Ordering::Relaxed);
        lines.connections.remove(&line.id);
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = self.io.inner().connected().extra(self.entry.0.clone());
        // At once where it is to serve once only: it may be lent again before it is known that it was answered on.
        if !self.http2 && self.entry.0.0.lines.are_distrusted(Instant::now()) {
            connected.poison();
        }
        connected
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let read = this.io.poll_read(cx, buf);
        if !*this.http2 && buf.filled().len() > before {
            this.entry.0.0.received.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl Stream {
    /// Before a request goes out: what has come since the last answer, or before the first request, is an answer that
    /// nobody asked for, and would be taken for this request's. HTTP/2 tells its answers apart.
    fn listen_first(self: Pin<&mut Self>, cx: &mut Context<'_>) -> io::Result<()> {
        let this = self.project();
        if *this.http2 || !this.entry.0.begins_request() {
            return Ok(());
        }
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        match this.io.poll_read(cx, &mut buf) {
            Poll::Pending => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Ready(Ok(())) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "an answer before its request"))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.as_mut().listen_first(cx)?;
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.as_mut().listen_first(cx)?;
        self.project().io.poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests;
