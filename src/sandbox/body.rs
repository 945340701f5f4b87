//! Response bodies: whole, cut short, or a byte at a time.
//!
//! hyper's `Body` is all that this file knows. A body always tells its full length beforehand, whatever becomes of it.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// A response body.
pub(super) enum Body {
    /// All at once.
    Whole(Bytes),
    /// The first half, then a failure, which makes hyper close the connection.
    Cut {
        /// What is still to be sent.
        half: Bytes,
        /// What is promised.
        length: u64,
        /// The half has had its chance to reach the socket.
        flushed: bool,
    },
    /// A byte at a time.
    Drip {
        /// What is still to be sent.
        left: Bytes,
        /// From one byte to the next.
        pause: Duration,
        /// Until the next one.
        timer: Pin<Box<Sleep>>,
    },
}

impl Body {
    /// `bytes`, of which half will arrive.
    pub(super) fn cut(bytes: &Bytes) -> Self {
        Self::Cut { half: bytes.slice(..bytes.len() / 2), length: bytes.len() as u64, flushed: false }
    }

    /// `bytes`, one by one.
    pub(super) fn drip(bytes: Bytes, pause: Duration) -> Self {
        Self::Drip { left: bytes, pause, timer: Box::pin(sleep(pause)) }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Whole(_) => "Whole",
            Self::Cut { .. } => "Cut",
            Self::Drip { .. } => "Drip",
        };
        f.write_str(word)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Cut { half, .. } if !half.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(half)))))
            }
            Self::Cut { flushed, .. } if !*flushed => {
                // hyper flushes what it has when a body is not ready, but not when it fails.
                *flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Cut { .. } => Poll::Ready(Some(Err(io::Error::other("cut short on purpose")))),
            Self::Drip { left, .. } if left.is_empty() => Poll::Ready(None),
            Self::Drip { left, pause, timer } => {
                std::task::ready!(timer.as_mut().poll(cx));
                *timer = Box::pin(sleep(*pause));
                Poll::Ready(Some(Ok(Frame::data(left.split_to(1)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(left) | Self::Drip { left, .. } => left.is_empty(),
            Self::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(left) | Self::Drip { left, .. } => left.len() as u64,
            Self::Cut { length, .. } => *length,
        })
    }
}
