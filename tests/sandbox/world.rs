//! A sandbox on a port of its own, and the plainest of clients: what it reads is what came over the wire.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use callgate::sandbox::{Clock, Config, Fault, FaultKind, Handle, Sandbox};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

pub(crate) const KEY: &str = "sandbox-key-0123456789abcdef";
pub(crate) const CREDENTIALS: &str =
    "x-api-key: sandbox-key-0123456789abcdef\r\nx-workspace-id: ws-sandbox\r\n";

/// A sandbox that runs, without latency or limit unless a test wants them.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<()>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }

    pub(crate) fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().expect("a code").to_owned())
    }
}

pub(crate) fn quiet() -> Config {
    let clock = Clock::standing_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_775_000_000));
    Config { latency: Duration::ZERO, rate_limit: 0, clock, ..Config::default() }
}

pub(crate) async fn start(config: Config) -> World {
    let clock = config.clock.clone();
    let sandbox = Sandbox::bind(config, ([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let (address, handle) = (sandbox.local_addr(), sandbox.handle());
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(sandbox.run(async {
        let _ = stopped.await;
    }));
    World { address, handle, clock, stop, ended }
}

pub(crate) async fn start_with(kind: FaultKind) -> World {
    start(Config { faults: vec![Fault::always(kind)], ..quiet() }).await
}

impl World {
    /// All bytes until the connection ends.
    pub(crate) async fn exchange(&self, request: &str) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map(|_| answer)
    }

    pub(crate) async fn ask(&self, line: &str, headers: &str) -> Reply {
        let request = format!("{line} HTTP/1.1\r\nhost: vendor\r\nconnection: close\r\n{headers}\r\n");
        parse(&self.exchange(&request).await.expect("an answer"))
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.ask(&format!("GET {target}"), CREDENTIALS).await
    }

    pub(crate) async fn call(&self, id: &str) -> Reply {
        self.get(&format!("/v2/api/call-history/{id}")).await
    }

    pub(crate) fn settled(&self) -> String {
        self.handle.settled_ids().swap_remove(0)
    }

    /// Asks for a settled call and returns the bytes as they came.
    pub(crate) async fn raw_call(&self) -> std::io::Result<Vec<u8>> {
        let id = self.settled();
        let head = "HTTP/1.1\r\nhost: vendor\r\nconnection: close\r\n";
        self.exchange(&format!("GET /v2/api/call-history/{id} {head}{CREDENTIALS}\r\n")).await
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("the end of a head");
    let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
    let mut lines = head.split("\r\n");
    let status = lines.next().expect("a status line")[9..12].parse().expect("a status");
    let headers = lines
        .map(|line| line.split_once(": ").expect("a field"))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Reply { status, headers, body: bytes[end + 4..].to_vec() }
}
