//! A vendor for tests under paused time: it tells of every request that arrives, and answers when and as it is told.
//!
//! It knows no sockets. A request that is never answered times out at its own deadline, as it would over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, StatusCode};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant, sleep, timeout, timeout_at},
};

use super::{
    credentials::ApiKey,
    error::UpstreamError,
    vendor::{Attempt, Source, Vendor, VendorAnswer},
};

/// The vendor's side of the seam.
pub(crate) struct Scripted(mpsc::UnboundedSender<Arrived>);

/// The test's side of it.
pub(crate) struct Script {
    arrivals: mpsc::UnboundedReceiver<Arrived>,
    /// Requests that were taken from the line so far.
    pub(crate) seen: usize,
}

/// A request that waits for its answer.
pub(crate) struct Arrived {
    /// Path and query.
    pub(crate) path: String,
    /// The key that it came with.
    pub(crate) key: Arc<ApiKey>,
    /// Its `traceparent`.
    pub(crate) traceparent: Option<HeaderValue>,
    sent: Instant,
    reply: oneshot::Sender<Said>,
}

enum Said {
    Answer(Box<Result<VendorAnswer, UpstreamError>>),
    Panic,
}

/// A vendor, and the script that it follows.
pub(crate) fn scripted() -> (Arc<Scripted>, Script) {
    let (line, arrivals) = mpsc::unbounded_channel();
    (Arc::new(Scripted(line)), Script { arrivals, seen: 0 })
}

impl Vendor for Scripted {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<VendorAnswer, UpstreamError>> {
        Box::pin(async move {
            let (reply, said) = oneshot::channel();
            let (path, key) = (attempt.path_and_query.to_owned(), Arc::clone(attempt.key));
            let traceparent = attempt.trace.traceparent();
            // Fails only where the test is over.
            let _ = self.0.send(Arrived { path, key, traceparent, sent: Instant::now(), reply });
            match timeout_at(attempt.deadline, said).await {
                Ok(Ok(Said::Answer(answer))) => *answer,
                Ok(Ok(Said::Panic)) => panic!("on purpose"),
                Ok(Err(_)) => Err(UpstreamError::Reset { reused: false, cause: "on purpose".into() }),
                Err(_) => Err(UpstreamError::Timeout),
            }
        })
    }
}

impl Script {
    /// The next request, when it comes; time passes until then.
    pub(crate) async fn next(&mut self) -> Arrived {
        let next = timeout(Duration::from_secs(3_600), self.arrivals.recv()).await;
        self.seen += 1;
        next.expect("a request within the hour").expect("a gateway")
    }

    /// How many requests have come that nobody took, once everybody has gone as far as there is no waiting.
    pub(crate) async fn unanswered(&mut self) -> usize {
        settle().await;
        self.arrivals.len()
    }
}

impl Arrived {
    /// Answers it.
    pub(crate) fn answer(self, status: u16, body: impl Into<Bytes>) {
        let answer = self.made(status, body.into());
        self.say(Said::Answer(Box::new(Ok(answer))));
    }

    /// Answers it over a connection that has served before.
    pub(crate) fn answer_over_a_used_connection(self, body: impl Into<Bytes>) {
        let source = Some(Source::scripted(true));
        let answer = VendorAnswer { source, ..self.made(200, body.into()) };
        self.say(Said::Answer(Box::new(Ok(answer))));
    }

    /// Answers with a 429 that asks for a pause.
    pub(crate) fn limit(self, seconds: u64) {
        let retry_after = Some(HeaderValue::from(seconds));
        let answer = VendorAnswer { retry_after, ..self.made(429, Bytes::new()) };
        self.say(Said::Answer(Box::new(Ok(answer))));
    }

    /// Fails it.
    pub(crate) fn fail(self, error: UpstreamError) {
        self.say(Said::Answer(Box::new(Err(error))));
    }

    /// Lets the gateway panic in the middle of it.
    pub(crate) fn panic(self) {
        self.say(Said::Panic);
    }

    fn made(&self, status: u16, body: Bytes) -> VendorAnswer {
        VendorAnswer {
            status: StatusCode::from_u16(status).expect("a status"),
            body,
            content_type: None,
            etag: None,
            last_modified: None,
            retry_after: None,
            date: None,
            source: None,
            sent: self.sent,
            began: Instant::now(),
        }
    }

    fn say(self, said: Said) {
        assert!(self.reply.send(said).is_ok(), "the request is still under way");
    }
}

/// Lets everybody go as far as they come without waiting: paused time moves on only when nobody can.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}
