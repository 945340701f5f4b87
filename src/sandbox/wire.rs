//! The connection under hyper, which can be told to misbehave in ways that hyper cannot express.
//!
//! The service arms the trap while it makes its (meaningless) response; it springs when hyper writes. HTTP/1 has one
//! request at a time on a connection, so it cannot spring on another's response.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::atomic::{AtomicU8, Ordering},
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const HARMLESS: u8 = 0;
const RESET: u8 = 1;
const GARBAGE: u8 = 2;

/// No status line, and bytes that are no text.
const JUNK: &[u8] = b"\x16\x03\x01\x00\xff\xfe no http here\r\n\x00\r\n\r\n";

/// What the next write shall do.
#[derive(Debug, Default)]
pub(super) struct Trap(AtomicU8);

impl Trap {
    /// The connection is reset.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::Relaxed);
    }

    /// Junk is sent, and the connection ends.
    pub(super) fn garbage(&self) {
        self.0.store(GARBAGE, Ordering::Relaxed);
    }
}

/// A TCP connection with a trap.
#[derive(Debug)]
pub(super) struct Wire<'a> {
    stream: TokioIo<TcpStream>,
    trap: &'a Trap,
}

impl<'a> Wire<'a> {
    /// Wraps a connection.
    pub(super) fn new(stream: TcpStream, trap: &'a Trap) -> Self {
        Self { stream: TokioIo::new(stream), trap }
    }

    /// Springs the trap, if it is armed: the error makes hyper drop the connection.
    fn spring(&self) -> io::Result<()> {
        match self.trap.0.load(Ordering::Relaxed) {
            HARMLESS => return Ok(()),
            // A zero linger makes the close a reset.
            RESET => self.stream.inner().set_zero_linger()?,
            // A few bytes always fit into the buffer of a socket that has nothing to send.
            _ => drop(self.stream.inner().try_write(JUNK)?),
        }
        Err(io::Error::other("broken on purpose"))
    }
}

impl Read for Wire<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl Write for Wire<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.spring()?;
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.spring()?;
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
