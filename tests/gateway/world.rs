//! A gateway on ports of its own before a scripted vendor, and callers who read what comes over the wire.
//!
//! The gateway runs in the test's own thread, so one test is one deterministic world. Whatever an answer is about, the
//! convenient caller holds it to what is promised of every answer, and every caller searches it for keys.

use std::{collections::BTreeMap, net::SocketAddr};

use callgate::{
    app::{App, Surroundings},
    downstream::listener::LocalAddress,
    drain::{Ended, Signals},
    settings::Settings,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::{Duration, timeout},
};

use super::vendor::{Play, Seen, Vendor};
use crate::canary;

/// The key of the default workspace: never to be seen but by the vendor.
pub(crate) const KEY: &str = "canary-0071e5-4f3c9a77d2b8";
/// The default workspace.
pub(crate) const WORKSPACE: &str = "ws-main";
/// An id as the vendor makes them.
pub(crate) const ID: &str = "69cf4b468d2a8a6a8e39b684";
/// A number in every record: personal, and so never to be logged.
pub(crate) const PHONE: &str = "+15550100200";

/// The fields that an answer may have, and no others.
const FIELDS: [&str; 13] = [
    "age",
    "allow",
    "cache-control",
    "cache-status",
    "connection",
    "content-length",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "retry-after",
    "x-content-type-options",
    "x-request-id",
];

/// Longer than anything here takes, unless it hangs.
const LONG: Duration = Duration::from_secs(120);

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("in time")
}

/// A gateway and its vendor.
pub(crate) struct World {
    pub(crate) vendor: Vendor,
    pub(crate) gateway: Gateway,
}

/// A gateway that runs.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where it may only be looked at, if the settings have such a place.
    pub(crate) scraping: Option<SocketAddr>,
    stop: mpsc::Sender<()>,
    ended: JoinHandle<Ended>,
}

/// Asks for the end when the test does.
struct Stop(mpsc::Receiver<()>);

impl Signals for Stop {
    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

impl World {
    /// With the default settings.
    pub(crate) async fn start(script: impl Fn(&Seen) -> Play + Send + Sync + 'static) -> Self {
        Self::with("", script).await
    }

    /// With these settings as well: dotted keys, and `[[workspaces]]` if they are not to be the usual one.
    pub(crate) async fn with(settings: &str, script: impl Fn(&Seen) -> Play + Send + Sync + 'static) -> Self {
        let vendor = Vendor::start(script).await;
        let gateway = Gateway::start(&format!("http://{}", vendor.address), settings).await;
        Self { vendor, gateway }
    }

    /// Before a vendor that answers every request with the same bytes.
    pub(crate) async fn saying(bytes: Vec<u8>) -> Self {
        Self::start(move |_| Play::Send(bytes.clone())).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.gateway.ask("GET", target, &[]).await
    }

    /// `GET` with these fields.
    pub(crate) async fn get_with(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.gateway.ask("GET", target, fields).await
    }

    /// `GET` of a call by the gateway's own name for it.
    pub(crate) async fn call(&self, id: &str) -> Answer {
        self.get(&format!("/calls/{id}")).await
    }
}

impl Gateway {
    /// A gateway before the vendor at `origin`. What later parts do on their own (tries, the budget) stays out of
    /// the way unless a test sets it.
    pub(crate) async fn start(origin: &str, settings: &str) -> Self {
        canary::listen();
        let mut text = format!(
            "listen.admin = \"127.0.0.1:0\"\nupstream.base_url = \"{origin}\"\ndrain.timeout = \"5s\"\n"
        );
        for (setting, value) in [
            ("listen.internal", "\"127.0.0.1:0\""),
            ("upstream.retries", "0"),
            ("budget.requests_per_minute", "100000"),
        ] {
            if !settings.contains(setting) {
                text.push_str(&format!("{setting} = {value}\n"));
            }
        }
        text.push_str(settings);
        if !settings.contains("[[workspaces]]") {
            text.push_str(&format!(
                "\n[[workspaces]]\nworkspace_id = \"{WORKSPACE}\"\napi_key = \"{KEY}\"\n"
            ));
        }
        let loaded = Settings::load_str(&text, &BTreeMap::new()).unwrap_or_else(|p| panic!("{p:?}\n{text}"));
        let app = App::bind(loaded.settings, Surroundings::default()).await.expect("bound");
        let (address, admin) = (first(app.internal_addresses()), first(app.admin_addresses()));
        let scraping = app.metrics_addresses().next().map(|_| first(app.metrics_addresses()));
        let (stop, stopped) = mpsc::channel(2);
        let ended = tokio::spawn(async move { app.run(&mut Stop(stopped)).await });
        Self { address, admin, scraping, stop, ended }
    }

    /// Asks for the end, as a signal would.
    pub(crate) async fn stop(&self) {
        self.stop.send(()).await.expect("running");
    }

    /// How it ended.
    pub(crate) async fn ended(self) -> Ended {
        within(self.ended).await.expect("no panic")
    }

    pub(crate) async fn connect(&self) -> Caller {
        Caller::connect(self.address).await
    }

    /// Asks on a connection of its own, and holds the answer to what is promised of all.
    pub(crate) async fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
        let mut caller = self.connect().await;
        caller.send(request(method, target, fields)).await;
        let answer = caller.answer_to(method).await;
        answer.keeps_the_promises();
        answer
    }

    /// Asks the operators' endpoint, and holds the answer to what is promised of all.
    pub(crate) async fn operate(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
        let mut caller = Caller::connect(self.admin).await;
        caller.send(request(method, target, fields)).await;
        let answer = caller.answer_to(method).await;
        answer.keeps_the_promises();
        answer
    }

    /// Sends what a test has to say, and returns whatever comes until the gateway closes.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut caller = self.connect().await;
        caller.send(bytes).await;
        caller.rest().await
    }

    /// Everything that is counted.
    pub(crate) async fn metrics(&self) -> String {
        let mut caller = Caller::connect(self.admin).await;
        caller.send(request("GET", "/metrics", &[])).await;
        let answer = caller.answer().await;
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// Waits until the gateway has taken up all that was sent to it before.
    ///
    /// One thread runs gateway and test in turns, and a turn takes up everything that there is to read. So what was
    /// there before a round trip is dealt with after it; more than one is for what takes several turns, such as
    /// accepting and then reading.
    pub(crate) async fn settle(&self) {
        for _ in 0..4 {
            self.metrics().await;
        }
    }

    /// Waits until so many callers are known to have left before their answer.
    pub(crate) async fn left(&self, callers: usize) {
        let line =
            format!("callgate_requests_total{{route=\"lookup\",cache=\"none\",code=\"499\"}} {callers}\n");
        let known = async { while !self.metrics().await.contains(&line) {} };
        within(known).await;
        // What their leaving sets off is done after another round trip.
        self.metrics().await;
    }
}

fn first<'a>(mut addresses: impl Iterator<Item = &'a LocalAddress>) -> SocketAddr {
    match addresses.next() {
        Some(LocalAddress::Tcp(address)) => *address,
        other => panic!("a TCP address, not {other:?}"),
    }
}

/// A request for a caller who connects to `localhost`.
pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n")
}

/// One connection to the gateway.
pub(crate) struct Caller {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Caller {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(address)).await.expect("connected");
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.expect("sent");
    }

    /// The next answer, to anything but `HEAD`.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await;
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).expect("a head of text");
        let mut answer = Answer::parse(&head);
        if method != "HEAD" && answer.status != 304 {
            let length = answer.one("content-length").parse().expect("a length");
            while self.unread.len() < length {
                self.read().await;
            }
            answer.body = self.unread.drain(..length).collect();
        }
        answer
    }

    /// All that comes until the gateway closes in order.
    pub(crate) async fn rest(mut self) -> String {
        while self.more().await {}
        String::from_utf8(self.unread).expect("text")
    }

    async fn read(&mut self) {
        assert!(self.more().await, "closed after {:?}", String::from_utf8_lossy(&self.unread));
    }

    /// Reads what there is, and searches it. False where the gateway has closed in order.
    async fn more(&mut self) -> bool {
        // With so much of what was there before that no key is missed for coming in two parts.
        let before = self.unread.len().saturating_sub(64);
        let read = within(self.stream.read_buf(&mut self.unread)).await.expect("closed in order");
        canary::search("an answer", &self.unread[before..]);
        read > 0
    }
}

/// An answer as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().expect("a status line");
        let status = status.split(' ').nth(1).expect("a status").parse().expect("a number");
        let fields = lines.map(|line| line.split_once(": ").expect("a field"));
        let fields = fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Self { status, fields, body: Vec::new() }
    }

    /// The value of a field, and `None` where it is absent; it may not be there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} once in {:?}", self.fields);
        value
    }

    /// The value of a field that must be there.
    pub(crate) fn one(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("{name} in {self:?}"))
    }

    /// `cache-status`, which has to be there.
    pub(crate) fn cache(&self) -> &str {
        self.one("cache-status")
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.one(name).parse().expect("a number")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }

    /// The status and code of a problem, which must be one in every member.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.one("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.one("cache-control"), "no-store");
        let body = self.json();
        let code = body["error"]["code"].as_str().expect("a code").to_owned();
        assert_eq!(body["type"], format!("urn:callgate:problem:{code}"));
        assert_eq!(body["status"], self.status);
        assert_eq!(body["error"]["message"], body["detail"]);
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        (self.status, code)
    }

    /// What holds for every answer, whatever it is about.
    pub(crate) fn keeps_the_promises(&self) {
        assert_eq!(self.one("x-content-type-options"), "nosniff");
        assert!(!self.one("x-request-id").is_empty() && !self.one("date").is_empty());
        for (name, _) in &self.fields {
            assert!(FIELDS.contains(&name.as_str()), "{name} in {self:?}");
        }
    }
}
