//! What happens on a connection, seen from its socket and its requests: the notes that the
//! [watchdog](super::watchdog) decides by.
//!
//! [`Watched`] stands between hyper and the socket, an [`Exchange`] goes with each request until its response has
//! been handed over; both write into [`Activity`], in a few plain stores a request and without a look at the clock.
//! Nothing here decides when a connection has to end. Promises: an answer that says `connection: close` is not
//! destroyed by what its caller was still sending.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{heads::Heads, socket::Socket};

/// One exchange whose handler is at work, in [`Activity::exchanges`].
const WORKING: u64 = 1 << 32;

/// One exchange whose response waits for the caller to take it.
const SENDING: u64 = 1;

/// The most that is read and thrown away of what a caller still sends after our last answer, in bytes. Twice the largest
/// body that is read anywhere, so that whoever sends one of about that size hears why it was refused; a caller that
/// sends on and on is cut.
const MAX_DISCARDED: u64 = 32 << 20;

/// What has happened on one connection. Written by hyper's task, and with HTTP/2 by the tasks of its streams; no
/// field orders another, so all of it is relaxed.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// Since when the connection has been doing what it does, in microseconds after `opened`.
    since: AtomicU64,
    /// Requests begun.
    requests: AtomicU64,
    /// Exchanges that are not over: [`WORKING`] and [`SENDING`], in one number.
    exchanges: AtomicU64,
    /// Bytes came that have not become a request yet.
    received: AtomicBool,
    /// The socket takes no more for now.
    blocked: AtomicBool,
    /// Writes of which the socket took something.
    writes: AtomicU64,
    /// A request announced a body, and nobody reads those.
    body: AtomicBool,
    /// Our side has been shut down; what the caller still sends is thrown away.
    closing: AtomicBool,
    /// Bytes that were.
    discarded: AtomicU64,
    /// The connection is to be reset rather than closed.
    reset: AtomicBool,
    /// HTTP/2 is spoken.
    http2: AtomicBool,
    /// The gateway's end has begun: the next answer is the last one.
    leaving: AtomicBool,
    /// The number of the first HTTP/1 head that says more than hyper tells of it; 0 where there is none.
    untold: AtomicU64,
    /// Somebody else waits for this connection's place: `since` of the time in which it was told so, and 1; else 0.
    dismissed: AtomicU64,
    /// Wakes the connection's task, once that has run.
    waker: OnceLock<Waker>,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A head is awaited, or has begun.
    Head,
    /// A handler is at work. It has its own deadlines.
    Working,
    /// Something is to be sent, and the caller does not take it.
    Sending,
    /// Kept alive, and unused.
    Idle,
    /// Shut down on our side.
    Closing,
}

impl Activity {
    /// For a connection that was accepted just now.
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            since: AtomicU64::default(),
            requests: AtomicU64::default(),
            exchanges: AtomicU64::default(),
            received: AtomicBool::default(),
            blocked: AtomicBool::default(),
            writes: AtomicU64::default(),
            body: AtomicBool::default(),
            closing: AtomicBool::default(),
            discarded: AtomicU64::default(),
            reset: AtomicBool::default(),
            http2: AtomicBool::default(),
            leaving: AtomicBool::default(),
            untold: AtomicU64::default(),
            dismissed: AtomicU64::default(),
            waker: OnceLock::new(),
        }
    }

    /// What the connection is doing now.
    pub(super) fn phase(&self) -> Phase {
        let exchanges = self.exchanges.load(Relaxed);
        if self.closing.load(Relaxed) {
            Phase::Closing
        } else if self.blocked.load(Relaxed) {
            Phase::Sending
        } else if exchanges >= WORKING {
            Phase::Working
        } else if exchanges > 0 {
            Phase::Sending
        } else if self.requests() == 0 || (self.received.load(Relaxed) && !self.is_http2()) {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// How many requests have begun.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// A number that changes when the socket takes something.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Relaxed)
    }

    /// How many bytes have been thrown away since our side was shut down.
    pub(super) fn discarded(&self) -> u64 {
        self.discarded.load(Relaxed)
    }

    /// Whether a request came over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// Notes when the connection began to do what it does now.
    pub(super) fn note(&self, since: Instant) {
        self.since.store(self.micros(since), Relaxed);
    }

    fn micros(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.opened);
        after.as_secs() * 1_000_000 + u64::from(after.subsec_micros())
    }

    /// The task that runs the connection, which stays the same.
    pub(super) fn runs_on(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    /// Whether nothing is under way, no part of a request either: kept alive after an answer, or silent so far.
    pub(super) fn is_unused(&self) -> bool {
        match self.phase() {
            Phase::Idle => true,
            Phase::Head => self.is_untouched(),
            Phase::Working | Phase::Sending | Phase::Closing => false,
        }
    }

    /// Since when the connection has been unused. `None` while it is not, and where it is to leave anyway.
    pub(super) fn unused_since(&self) -> Option<Instant> {
        // One that has never run may have a request that nobody has looked for.
        let leaves = self.is_dismissed() || self.waker.get().is_none();
        (!leaves && self.is_unused()).then(|| self.opened + Duration::from_micros(self.since.load(Relaxed)))
    }

    /// Has the connection leave for somebody who waits, if it is still unused `since` then when it hears of it.
    pub(super) fn dismiss(&self, since: Instant) {
        self.dismissed.store(self.micros(since) + 1, Relaxed);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether the connection was told to leave.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Relaxed) != 0
    }

    /// Whether a connection that was told to leave does so. One that has been used since then stays.
    pub(super) fn gives_way(&self) -> bool {
        let unused = self.is_unused() && self.dismissed.load(Relaxed) == self.since.load(Relaxed) + 1;
        if !unused {
            self.dismissed.store(0, Relaxed);
        }
        unused
    }

    /// Has the next answer be the last one.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// Whether nothing has come yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.requests() == 0 && !self.received.load(Relaxed)
    }

    /// Has the connection reset when it is dropped.
    pub(super) fn reset(&self) {
        self.reset.store(true, Relaxed);
    }

    /// Whether the latest request says more than hyper tells of it, or comes after one that does.
    fn is_untold(&self) -> bool {
        let first = self.untold.load(Relaxed);
        first != 0 && self.requests() >= first && !self.is_http2()
    }

    /// Bytes came.
    fn received(&self) {
        self.received.store(true, Relaxed);
    }

    /// The socket took something, or is full.
    fn wrote<T>(&self, polled: &Poll<io::Result<T>>) {
        if polled.is_pending() {
            self.blocked.store(true, Relaxed);
        } else {
            self.blocked.store(false, Relaxed);
            // Only the connection's own task writes, so this needs no atomic addition.
            self.writes.store(self.writes() + 1, Relaxed);
        }
    }

    /// Whether the caller may still be sending what nobody will read: a body, or what the parser refused.
    fn expects_more(&self) -> bool {
        self.body.load(Relaxed) || (self.received.load(Relaxed) && !self.is_http2())
    }
}

/// One request and its response; over when dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    activity: Arc<Activity>,
    share: u64,
}

impl Exchange {
    /// A request has come, `with_body` or without.
    pub(super) fn begin(activity: &Arc<Activity>, http2: bool, with_body: bool) -> Self {
        // Requests are handed over by the connection's own task, with HTTP/2 too; they end anywhere.
        activity.requests.store(activity.requests() + 1, Relaxed);
        activity.received.store(false, Relaxed);
        if http2 {
            activity.http2.store(true, Relaxed);
        }
        if with_body {
            activity.body.store(true, Relaxed);
        }
        activity.exchanges.fetch_add(WORKING, Relaxed);
        Self { activity: Arc::clone(activity), share: WORKING }
    }

    /// Whether it says more than hyper tells of it: then what is told must not be answered.
    pub(super) fn is_untold(&self) -> bool {
        self.activity.is_untold()
    }

    /// Whether its answer has to say that it is the last one, since the gateway's end has begun.
    pub(super) fn is_last(&self) -> bool {
        self.activity.leaving.load(Relaxed) && !self.activity.is_http2()
    }

    /// What there is of the response only waits to be taken. With HTTP/1 a full socket says as much; HTTP/2's flow
    /// control is seen by nothing else.
    pub(super) fn answered(&mut self) {
        if self.activity.is_http2() && self.share == WORKING {
            self.activity.exchanges.fetch_sub(WORKING - SENDING, Relaxed);
            self.share = SENDING;
        }
    }

    /// More of the response is being made.
    pub(super) fn at_work(&mut self) {
        if self.share == SENDING {
            self.activity.exchanges.fetch_add(WORKING - SENDING, Relaxed);
            self.share = WORKING;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.exchanges.fetch_sub(self.share, Relaxed);
    }
}

/// A socket whose traffic is noted, and which closes without destroying the last answer.
///
/// A close with bytes unread makes the kernel send a reset, and a caller that sees it may lose an answer that it has
/// not read yet (RFC 9112 §9.6). So after our end what comes is thrown away: what is there already, and if there was
/// any, or more is announced, then until the caller's own end. The watchdog bounds the time.
#[derive(Debug)]
pub(super) struct Watched {
    socket: Socket,
    activity: Arc<Activity>,
    heads: Heads,
}

impl Watched {
    pub(super) fn new(socket: Socket, activity: Arc<Activity>) -> Self {
        Self { socket, activity, heads: Heads::default() }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.activity.reset.load(Relaxed) {
            self.socket.reset_on_close();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let watched = &mut *self;
        ready!(Pin::new(&mut watched.socket).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            watched.activity.received();
            // Of HTTP/2 it would understand nothing.
            let untold = if watched.activity.is_http2() { None } else { watched.heads.read(came) };
            watched.activity.untold.store(untold.unwrap_or(0), Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.activity.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.activity.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.activity.closing.load(Relaxed) {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.activity.closing.store(true, Relaxed);
        }
        let mut sink = [0; 8 << 10];
        let mut discarded = self.activity.discarded();
        while discarded < MAX_DISCARDED {
            let mut sink = ReadBuf::new(&mut sink);
            match Pin::new(&mut self.socket).poll_read(cx, &mut sink) {
                Poll::Ready(Ok(())) if sink.filled().is_empty() => break,
                Poll::Ready(Ok(())) => {
                    discarded += sink.filled().len() as u64;
                    self.activity.discarded.store(discarded, Relaxed);
                }
                // The caller is gone, one way or the other.
                Poll::Ready(Err(_)) => break,
                Poll::Pending if discarded > 0 || self.activity.expects_more() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
