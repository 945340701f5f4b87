//! A scripted vendor on raw sockets: a test says which bytes answer which request, and is told what came.
//!
//! It speaks no HTTP beyond the end of a head, so that it can say what no library would. Every head is recorded as it
//! came. What happens is awaited by its event, never by the clock.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Duration, sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::world::within;

/// What the vendor does about a request.
pub(crate) enum Play {
    /// Sends this and keeps the connection.
    Send(Vec<u8>),
    /// Sends this once it is [released](Vendor::release), and keeps the connection.
    Held(Vec<u8>),
    /// Sends this and closes the connection.
    ThenClose(Vec<u8>),
    /// Sends this, and resets the connection once it is [released](Vendor::release): what is not read by then is lost.
    ThenReset(Vec<u8>),
    /// Sends this, and then nothing more until the other side closes.
    ThenNothing(Vec<u8>),
    /// Sends the first at once, and the second a byte at a time with this pause before each.
    Drip(Vec<u8>, Vec<u8>, Duration),
}

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which request this is, counted from 1.
    pub(crate) number: usize,
    /// Which connection it came over, counted from 1.
    pub(crate) connection: usize,
    /// Request line and fields, byte for byte.
    pub(crate) head: String,
}

impl Seen {
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).expect("a target")
    }

    /// The last segment of the path.
    pub(crate) fn id(&self) -> &str {
        let path = self.target().split('?').next().expect("a path");
        path.rsplit('/').next().expect("a segment")
    }

    /// Names in lower case, with their values, in the order in which they came.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let lines = self.head.trim_end().split("\r\n").skip(1);
        let fields = lines.map(|line| line.split_once(": ").expect("a field"));
        fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect()
    }

    /// The value of a field that is there exactly once.
    pub(crate) fn one(&self, name: &str) -> String {
        let mut values = self.fields().into_iter().filter(|(other, _)| other == name);
        let (_, value) = values.next().unwrap_or_else(|| panic!("{name} in {}", self.head));
        assert!(values.next().is_none(), "{name} once in {}", self.head);
        value
    }
}

type Script = dyn Fn(&Seen) -> Play + Send + Sync;

/// What was seen so far.
#[derive(Clone, Debug, Default)]
struct Log {
    seen: Vec<Seen>,
    connections: usize,
    closed: usize,
    /// TLS handshakes that failed.
    refused: usize,
}

/// The vendor, listening on a port of its own.
pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    stage: Arc<Stage>,
}

struct Stage {
    script: Box<Script>,
    log: watch::Sender<Log>,
    released: watch::Sender<bool>,
}

impl Vendor {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Play + Send + Sync + 'static) -> Self {
        Self::listen(script, None).await
    }

    /// The same behind TLS.
    pub(crate) async fn start_tls(
        tls: TlsAcceptor,
        script: impl Fn(&Seen) -> Play + Send + Sync + 'static,
    ) -> Self {
        Self::listen(script, Some(tls)).await
    }

    async fn listen(
        script: impl Fn(&Seen) -> Play + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stage = Arc::new(Stage {
            script: Box::new(script),
            log: watch::Sender::default(),
            released: watch::Sender::new(false),
        });
        tokio::spawn(accept(listener, Arc::clone(&stage), tls));
        Self { address, stage }
    }

    /// The requests that have arrived.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.stage.log.borrow().seen.clone()
    }

    /// How many requests have arrived.
    pub(crate) fn requests(&self) -> usize {
        self.stage.log.borrow().seen.len()
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.stage.log.borrow().connections
    }

    /// Waits until the `n`th request has arrived.
    pub(crate) async fn arrived(&self, n: usize) {
        self.until(|log| log.seen.len() >= n).await;
    }

    /// Waits until `n` connections have ended.
    pub(crate) async fn closed(&self, n: usize) {
        self.until(|log| log.closed >= n).await;
    }

    /// Waits until a TLS handshake has failed.
    pub(crate) async fn refused(&self) {
        self.until(|log| log.refused > 0).await;
    }

    /// Lets every answer go that is held, and those that would be.
    pub(crate) fn release(&self) {
        self.stage.released.send_replace(true);
    }

    async fn until(&self, holds: impl FnMut(&Log) -> bool) {
        let mut log = self.stage.log.subscribe();
        within(log.wait_for(holds)).await.expect("the vendor lives");
    }
}

async fn accept(listener: TcpListener, stage: Arc<Stage>, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        stage.log.send_modify(|log| log.connections += 1);
        let connection = stage.log.borrow().connections;
        let (stage, tls) = (Arc::clone(&stage), tls.clone());
        tokio::spawn(async move {
            serve(stream, tls, &stage, connection).await;
            stage.log.send_modify(|log| log.closed += 1);
        });
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, stage: &Stage, connection: usize) {
    stream.set_nodelay(true).expect("a socket");
    match tls {
        None => converse(stream, stage, connection).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => converse(stream, stage, connection).await,
            Err(_) => stage.log.send_modify(|log| log.refused += 1),
        },
    }
}

/// A connection of a caller's.
trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// What is below it.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Answers one request after another. An error is the other side's leaving.
async fn converse(mut stream: impl Wire, stage: &Stage, connection: usize) {
    let mut unread = Vec::new();
    while let Some(head) = head(&mut stream, &mut unread).await {
        let number = stage.log.borrow().seen.len() + 1;
        let seen = Seen { number, connection, head };
        stage.log.send_modify(|log| log.seen.push(seen.clone()));
        match (stage.script)(&seen) {
            Play::Send(bytes) => {
                let _ = stream.write_all(&bytes).await;
            }
            Play::Held(bytes) => {
                let mut released = stage.released.subscribe();
                tokio::select! {
                    _ = released.wait_for(|released| *released) => {}
                    // Nothing is sent meanwhile, so this is the other side's leaving.
                    _ = stream.read_u8() => return,
                }
                let _ = stream.write_all(&bytes).await;
            }
            Play::ThenClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Play::ThenReset(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
                let mut released = stage.released.subscribe();
                let _ = released.wait_for(|released| *released).await;
                stream.socket().set_zero_linger().expect("a socket");
                return;
            }
            Play::ThenNothing(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
                return;
            }
            Play::Drip(bytes, drops, pause) => {
                let _ = stream.write_all(&bytes).await;
                for drop in drops {
                    sleep(pause).await;
                    if stream.write_all(&[drop]).await.is_err() {
                        return;
                    }
                }
            }
        }
        let _ = stream.flush().await;
    }
}

/// The next head; `None` where the other side closes before its end.
async fn head(stream: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = unread.drain(..end + 4).collect();
            return Some(String::from_utf8(head).expect("a head of text"));
        }
        match stream.read_buf(unread).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// An answer with its length; `fields` are whole lines, each with its end.
pub(crate) fn answer(status: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A 200 of JSON.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", body)
}

/// A 200 of JSON in chunks.
pub(crate) fn chunked(chunks: &[&str]) -> Vec<u8> {
    let mut bytes = String::from("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
    bytes.push_str("transfer-encoding: chunked\r\n\r\n");
    for chunk in chunks {
        bytes.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    bytes.push_str("0\r\n\r\n");
    bytes.into_bytes()
}
