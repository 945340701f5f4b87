//! The body of a response on its way out.
//!
//! Knows bytes and the exchange that they end; the rest of a response is the handler's. Promises: the length is known
//! from the start, nothing fails on the way, and the exchange is over when hyper lets go of the body.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::watch::Exchange;

/// The most that is handed over at a time. hyper copies a piece into its write buffer, and keeps the buffer for the
/// life of the connection: the largest record (50 KB) still goes out in one write, and a list of megabytes is not
/// copied whole.
const PIECE: usize = 64 << 10;

/// A body that is there already, and the exchange whose answer it is.
#[derive(Debug)]
pub(super) struct ReplyBody {
    left: Bytes,
    _exchange: Exchange,
}

impl ReplyBody {
    /// The body of the answer that ends `exchange`.
    pub(super) fn full(content: Bytes, mut exchange: Exchange) -> Self {
        exchange.answered();
        Self { left: content, _exchange: exchange }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let size = self.left.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
