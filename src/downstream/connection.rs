//! Serves one connection: hyper between the socket and a [`Handler`], the watchdog beside it.
//!
//! Knows HTTP's framing and its versions, not what is asked. Promises: every request that is understood gets the
//! handler's answer, also one that comes as the gateway is about to end; one of which hyper tells but a part gets a bare
//! 400, as what it does not understand; a request with a body ends the connection; a caller that hangs up ends what its
//! request started; a connection whose time is up ends without a word, as nginx does it.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH},
};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use pin_project_lite::pin_project;
use tokio::{sync::watch, task::coop::unconstrained};

use super::{
    Limits,
    body::{Content, ReplyBody},
    socket::{Peer, Socket},
    stage::{Stage, reached},
    watch::{Activity, Exchange, Watched},
    watchdog::{Finding, Watchdog},
};

/// The largest head that hyper reads, in bytes; a larger one gets its bare 431.
const MAX_HEAD: usize = 16 << 10;

/// Streams that a caller may have open on one HTTP/2 connection: one task each.
const MAX_STREAMS: u32 = 128;

/// What answers the requests of an endpoint. Cloned once a connection.
pub trait Handler: Clone + Send + Sync + 'static {
    /// What it answers with: `Bytes`, or [`Content`] where some answers come as they are made.
    type Content: Into<Content>;

    /// Answers a request.
    ///
    /// What needs no waiting is best done before the future is made: it may not borrow from `self`, so an
    /// implementation that can answer at once returns a future that is ready and clones nothing. To a `HEAD` the body
    /// may be given as for `GET`, it is counted and left out; or left out, with `content-length` set. The future is
    /// dropped when the caller hangs up, and so is the receiver of a stream.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Content>> + Send + use<Self>;
}

/// The protocols of an endpoint, set up once for all its connections.
pub(super) struct Protocol {
    limits: Limits,
    http1: http1::Builder,
    /// Where HTTP/2 is spoken, too.
    either: Option<auto::Builder<TokioExecutor>>,
}

impl Protocol {
    pub(super) fn new(limits: Limits) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // The watchdog's work, which sets no timer for each request.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD)
            // Head and body in one buffer and one `write`. With `writev` a hit costs, as a ratio to bare hyper on one core,
            // 1.39 and not 1.29 at 1 KB, 1.23 and not 1.17 at 4 KB, 1.13 and not 1.17 at 16 KB, 1.02 and not 1.27 at 50
            // KB, where a connection keeps 64 KB rather than 15 (see `body`): most records are small.
            // `pipeline_flush` would save a little more, but then hyper
            // holds an answer back while anything unparsed is in its buffer, be it half a head, and forgets it when
            // the connection ends there.
            .writev(false);
        let either = limits.http2.then(|| {
            let mut either = auto::Builder::new(TokioExecutor::new());
            either.http1().header_read_timeout(None).max_buf_size(MAX_HEAD).writev(false);
            // Left as hyper and h2 have them: 20 resets that we have not seen yet and 1,024 that we caused end the
            // connection (CVE-2023-44487, RUSTSEC-2024-0003). No pings: the watchdog ends what is silent.
            either.http2().max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEAD as u32);
            either
        });
        Self { limits, http1, either }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In order, by either side.
    Closed,
    /// The caller broke it off, or spoke no HTTP.
    Failed,
    /// No complete head in time.
    HeaderTimeout,
    /// A reader that takes nothing.
    WriteTimeout,
    /// The caller did not close its side in time after we had closed ours.
    Lingering,
    /// It was unused, and somebody else waited for its place.
    Full,
    /// Draining took too long.
    Cut,
}

impl End {
    /// The word in the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::HeaderTimeout => "header-timeout",
            Self::WriteTimeout => "write-timeout",
            Self::Lingering => "lingering",
            Self::Full => "full",
            Self::Cut => "cut",
        }
    }
}

/// Serves one connection to its end. What happens on it is noted in `activity`, which says when it has to make room.
pub(super) async fn serve<H: Handler>(
    socket: Socket,
    peer: Peer,
    activity: Arc<Activity>,
    handler: H,
    protocol: &Protocol,
    stage: watch::Receiver<Stage>,
) -> End {
    let limits = protocol.limits;
    let io = TokioIo::new(Watched::new(socket, Arc::clone(&activity)));
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request: Request<Incoming>| {
            let with_body = !request.body().is_end_stream();
            let exchange = Exchange::begin(&activity, request.version() == Version::HTTP_2, with_body);
            let last = activity.requests() >= limits.max_requests;
            let untold = exchange.is_untold();
            Respond {
                head: request.method() == Method::HEAD,
                http10: request.version() == Version::HTTP_10,
                close: last || with_body || untold,
                exchange: Some(exchange),
                answer: (!untold).then(|| handler.handle(request, peer)),
            }
        })
    };
    let driver = Driver { watchdog: Watchdog::new(Arc::clone(&activity), limits), activity, limits, stage };
    match &protocol.either {
        None => driver.run(protocol.http1.serve_connection(io, service)).await,
        Some(either) => driver.run(either.serve_connection(io, service)).await,
    }
}

pin_project! {
    /// The handler's answer, or where it is not asked a bare 400, as hyper wants it.
    struct Respond<F> {
        #[pin]
        answer: Option<F>,
        exchange: Option<Exchange>,
        head: bool,
        http10: bool,
        close: bool,
    }
}

impl<F: Future<Output = Response<C>>, C: Into<Content>> Future for Respond<F> {
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.answer.as_pin_mut() {
            Some(answer) => ready!(answer.poll(cx)).map(Into::into),
            None => bad_request(),
        };
        let Some(exchange) = this.exchange.take() else { return Poll::Pending };
        if *this.head {
            strip_body(&mut response);
        }
        // Read now: the end may have come while the handler was at work.
        if *this.close || exchange.is_last() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if *this.http10 && response.headers().contains_key(CONNECTION) {
            // Or hyper adds to it that the connection is kept alive, where the caller asked for that.
            *response.version_mut() = Version::HTTP_10;
        }
        Poll::Ready(Ok(response.map(|content| ReplyBody::new(content, exchange))))
    }
}

/// What hyper answers itself to what it does not understand.
fn bad_request() -> Response<Content> {
    let mut response = Response::new(Content::Full(Bytes::new()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// Leaves the length that `GET` would have, and not the body: over HTTP/2 hyper would send it.
fn strip_body(response: &mut Response<Content>) {
    let body = std::mem::replace(response.body_mut(), Content::Full(Bytes::new()));
    // A stream has no length to tell of.
    let Content::Full(body) = body else { return };
    let length = body.len();
    let lengthless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if length > 0 && !lengthless {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}

/// A connection of hyper's that can be told to end after what is under way.
trait Retire: Future<Output: Ended> {
    fn retire(self: Pin<&mut Self>);
}

impl<I, S> Retire for http1::Connection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = ReplyBody, Error = Infallible>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn retire(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Retire for auto::Connection<'_, I, S, TokioExecutor>
where
    Self: Future<Output: Ended>,
    S: HttpService<Incoming, ResBody = ReplyBody, Error = Infallible, Future: Send + 'static>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn retire(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// What is left of a connection of hyper's.
trait Ended {
    fn end(self) -> End;
}

impl<E: std::fmt::Display> Ended for Result<(), E> {
    fn end(self) -> End {
        match self {
            Ok(()) => End::Closed,
            Err(error) => {
                tracing::debug!(%error, "connection failed");
                End::Failed
            }
        }
    }
}

/// What a connection is held against while it is served.
struct Driver {
    activity: Arc<Activity>,
    watchdog: Watchdog,
    limits: Limits,
    stage: watch::Receiver<Stage>,
}

impl Driver {
    /// Runs `connection` until it ends by itself, its time is up or the gateway's end has come.
    async fn run(mut self, connection: impl Retire) -> End {
        let mut connection = pin!(connection);
        // Without the budget of the task: what did not get to ask would never wake it.
        let mut draining = pin!(unconstrained(reached(self.stage.clone(), Stage::Draining)));
        let mut cut = pin!(unconstrained(reached(self.stage.clone(), Stage::Cut)));
        let (mut started, mut drained, mut full) = (false, false, false);
        let end = poll_fn(|cx| {
            loop {
                // Before what is answered now. Both have to be asked once, to be woken, and then only when something
                // has changed.
                if !started || !matches!(self.stage.has_changed(), Ok(false)) {
                    started = true;
                    self.activity.runs_on(cx.waker());
                    if cut.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(End::Cut);
                    }
                    if !drained && draining.as_mut().poll(cx).is_ready() {
                        drained = true;
                        self.activity.leave();
                        self.watchdog.leave();
                    }
                }
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    let end = ended.end();
                    return Poll::Ready(if full { End::Full } else { end });
                }
                // HTTP/1's last answer said so already; in HTTP/2 there is no such word in an answer.
                let last = drained || self.activity.requests() >= self.limits.max_requests;
                if !full && self.activity.is_dismissed() {
                    // What has just been answered counts.
                    self.watchdog.observe();
                    full = self.activity.gives_way();
                }
                let retire = full || (last && self.activity.is_http2());
                if !retire || !self.watchdog.retire() {
                    match ready!(self.watchdog.poll(cx)) {
                        Finding::Unused => _ = self.watchdog.retire(),
                        Finding::HeaderTimeout => return Poll::Ready(End::HeaderTimeout),
                        Finding::WriteTimeout => return Poll::Ready(End::WriteTimeout),
                        Finding::Lingering if full => return Poll::Ready(End::Full),
                        Finding::Lingering => return Poll::Ready(End::Lingering),
                    }
                }
                connection.as_mut().retire();
            }
        })
        .await;
        if matches!(end, End::WriteTimeout | End::Cut) {
            // The rest is not worth the kernel's memory either.
            self.activity.reset();
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_head_has_the_length_of_its_body_and_no_body() {
        let table = [
            (200, "abc", None, Some("3")),
            (200, "", Some("17"), Some("17")),
            (200, "abc", Some("3"), Some("3")),
            (200, "", None, None),
            (304, "abc", None, None),
        ];
        for (status, body, given, expected) in table {
            let mut response = Response::builder().status(status);
            if let Some(given) = given {
                response = response.header(CONTENT_LENGTH, given);
            }
            let content = Content::Full(Bytes::from_static(body.as_bytes()));
            let mut response = response.body(content).expect("a response");
            strip_body(&mut response);
            assert!(matches!(response.body(), Content::Full(body) if body.is_empty()));
            let length = response.headers().get(CONTENT_LENGTH).map(|v| v.to_str().expect("digits"));
            assert_eq!(length, expected, "{status} {body:?} {given:?}");
        }
    }
}
