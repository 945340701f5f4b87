//! A gateway before a sandbox, both on ports of their own, and the plainest of callers.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use callgate::{
    app::{App, Surroundings},
    downstream::listener::LocalAddress,
    drain::{Ended, Signals},
    sandbox::{Config, Fault, FaultKind, Handle, Sandbox},
    settings::Settings,
};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    canary,
    sandbox::world::{KEY, Reply, parse},
};

/// Longer than anything here takes, unless it hangs.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// A gateway that runs before a sandbox that runs.
pub(super) struct World {
    pub(super) vendor: Handle,
    stop_vendor: Option<oneshot::Sender<()>>,
    vendor_ended: Option<JoinHandle<()>>,
    callers: SocketAddr,
    operators: SocketAddr,
    signals: mpsc::Sender<()>,
    ended: JoinHandle<Ended>,
}

struct Told(mpsc::Receiver<()>);

impl Signals for Told {
    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// A vendor without latency or limit, unless a test wants them.
pub(super) fn quiet() -> Config {
    Config { latency: Duration::ZERO, rate_limit: 0, ..Config::default() }
}

/// A gateway with these settings, a line each, before this vendor. Its one workspace is `main`, unless the settings
/// end with others.
pub(super) async fn start(vendor: Config, settings: &str) -> World {
    canary::listen();
    let workspace = vendor.workspace_id.clone();
    let sandbox = Sandbox::bind(vendor, ([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let (origin, vendor) = (sandbox.local_addr(), sandbox.handle());
    let (stop_vendor, stopped) = oneshot::channel();
    let vendor_ended = tokio::spawn(sandbox.run(async {
        let _ = stopped.await;
    }));

    let mut text = format!(
        "listen.internal = \"127.0.0.1:0\"\nlisten.admin = \"127.0.0.1:0\"\n\
         upstream.base_url = \"http://{origin}\"\n{settings}\n"
    );
    if !settings.contains("[[workspaces]]") {
        text += &super::world::workspace("main", &workspace, KEY);
    }
    let loaded = Settings::load_str(&text, &BTreeMap::new()).expect("settings");
    let app = App::bind(loaded.settings, Surroundings::default()).await.expect("free ports");
    let (callers, operators) = (tcp(app.internal_addresses()), tcp(app.admin_addresses()));
    let (signals, told) = mpsc::channel(2);
    let ended = tokio::spawn(async move { app.run(&mut Told(told)).await });
    World {
        vendor,
        stop_vendor: Some(stop_vendor),
        vendor_ended: Some(vendor_ended),
        callers,
        operators,
        signals,
        ended,
    }
}

/// The settings of a workspace.
pub(super) fn workspace(name: &str, id: &str, key: &str) -> String {
    format!("[[workspaces]]\nname = \"{name}\"\nworkspace_id = \"{id}\"\napi_key = \"{key}\"\n")
}

fn tcp<'a>(mut addresses: impl Iterator<Item = &'a LocalAddress>) -> SocketAddr {
    match addresses.next() {
        Some(LocalAddress::Tcp(address)) => *address,
        other => panic!("no address: {other:?}"),
    }
}

/// A request whose answer is awaited elsewhere.
pub(super) type Asking = JoinHandle<Reply>;

impl World {
    /// Answers one request of a caller.
    pub(super) async fn ask(&self, line: &str, fields: &str) -> Reply {
        exchange(self.callers, line, fields).await
    }

    /// The same in a task of its own.
    pub(super) fn asking(&self, line: &str, fields: &str) -> Asking {
        let (callers, line, fields) = (self.callers, line.to_owned(), fields.to_owned());
        tokio::spawn(async move { exchange(callers, &line, &fields).await })
    }

    pub(super) async fn call(&self, id: &str) -> Reply {
        self.ask(&format!("GET /v2/api/call-history/{id}"), "").await
    }

    pub(super) fn calling(&self, id: &str) -> Asking {
        self.asking(&format!("GET /v2/api/call-history/{id}"), "")
    }

    /// Asks for all of these at once, and returns the answers in their order.
    pub(super) async fn calls(&self, ids: &[String]) -> Vec<Reply> {
        let asking = ids.iter().map(|id| self.calling(id)).collect();
        answers(asking).await
    }

    /// So many callers whose requests are all sent before the first can be answered: connected first, then written
    /// without a pause.
    pub(super) async fn at_once(&self, count: usize, line: &str, fields: &str) -> Vec<Asking> {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(TcpStream::connect(self.callers).await.expect("a connection"));
        }
        self.metric_reaches("callgate_connections", count as f64).await;
        let request = request(line, fields);
        for stream in &streams {
            assert_eq!(stream.try_write(request.as_bytes()).expect("room"), request.len());
        }
        streams.into_iter().map(|stream| tokio::spawn(read(stream))).collect()
    }

    pub(super) fn settled(&self, count: usize) -> Vec<String> {
        let mut ids = self.vendor.settled_ids();
        assert!(ids.len() >= count);
        ids.truncate(count);
        ids
    }

    /// From now on this befalls every request to the vendor.
    pub(super) fn befall(&self, kind: FaultKind) {
        self.vendor.set_faults(&[Fault::always(kind)]);
    }

    pub(super) fn answer_with(&self, status: u16) {
        self.befall(FaultKind::Status(http::StatusCode::from_u16(status).expect("a status")));
    }

    /// The vendor is well again.
    pub(super) fn heal(&self) {
        self.vendor.set_faults(&[]);
    }

    /// The vendor dies, and its port with it.
    pub(super) async fn kill_vendor(&mut self) {
        drop(self.stop_vendor.take());
        if let Some(ended) = self.vendor_ended.take() {
            ended.await.expect("no panic");
        }
    }

    pub(super) async fn ready(&self) -> bool {
        exchange(self.operators, "GET /readyz", "").await.status == 200
    }

    /// The value of a series by its full name, labels included; 0 where it is not shown yet.
    pub(super) async fn metric(&self, series: &str) -> f64 {
        let reply = exchange(self.operators, "GET /metrics", "").await;
        assert_eq!(reply.status, 200);
        let text = String::from_utf8(reply.body).expect("text");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        lines.next().map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until a series has this value.
    pub(super) async fn metric_reaches(&self, series: &str, value: f64) {
        let reached = async {
            while self.metric(series).await != value {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, reached).await.unwrap_or_else(|_| panic!("{series} never was {value}"));
    }

    /// Sends the gateway a signal to end.
    pub(super) async fn signal(&self) {
        self.signals.send(()).await.expect("it runs");
    }

    pub(super) async fn end(self) -> Ended {
        timeout(LONG, self.ended).await.expect("an end").expect("no panic")
    }
}

/// What all of these are answered.
pub(super) async fn answers(asking: Vec<Asking>) -> Vec<Reply> {
    join_all(asking).await.into_iter().map(|reply| reply.expect("no panic")).collect()
}

/// One of an answer's fields; empty where it is not there.
pub(super) fn field<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.get(name).map_or("", String::as_str)
}

fn request(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n")
}

async fn exchange(address: SocketAddr, line: &str, fields: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request(line, fields).as_bytes()).await.expect("sent");
    read(stream).await
}

async fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("an answer in time").expect("a clean end");
    canary::search("an answer", &bytes);
    parse(&bytes)
}
