//! The body of a response on its way out: one that is there already, or one that comes as it is made.
//!
//! Knows bytes and the exchange that they end; the rest of a response is the handler's. Promises: a full body's length is
//! known from the start, a streamed one comes in chunks; nothing fails on the way; the exchange is over when hyper lets go
//! of the body, and whoever makes a stream learns it by his end of the channel.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::watch::Exchange;

/// The most that is handed over at a time. hyper copies a piece into its write buffer, and keeps the buffer for the
/// life of the connection: the largest record (50 KB) still goes out in one write, and a list of megabytes is not
/// copied whole.
const PIECE: usize = 64 << 10;

/// What a handler answers with.
#[derive(Debug)]
pub enum Content {
    /// All of it.
    Full(Bytes),
    /// Piece by piece, until the sender is dropped. None of them larger than a line or two: each goes out whole. The
    /// sender is closed when the caller leaves.
    Stream(mpsc::Receiver<Bytes>),
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

/// A body, and the exchange whose answer it is.
#[derive(Debug)]
pub(super) struct ReplyBody {
    left: Content,
    exchange: Exchange,
}

impl ReplyBody {
    /// The body of the answer that ends `exchange`.
    pub(super) fn new(content: Content, mut exchange: Exchange) -> Self {
        // A stream is at work until it has ended, but for the pieces that wait to be taken.
        if matches!(content, Content::Full(_)) {
            exchange.answered();
        }
        Self { left: content, exchange }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { left, exchange } = &mut *self;
        let piece = match left {
            Content::Full(left) if left.is_empty() => None,
            Content::Full(left) => Some(left.split_to(left.len().min(PIECE))),
            Content::Stream(pieces) => match pieces.poll_recv(cx) {
                Poll::Pending => {
                    exchange.at_work();
                    return Poll::Pending;
                }
                Poll::Ready(piece) => {
                    exchange.answered();
                    piece
                }
            },
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.left, Content::Full(left) if left.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.left {
            Content::Full(left) => SizeHint::with_exact(left.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
