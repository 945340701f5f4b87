//! A Chromium without a screen, driven by `chromedriver` over the WebDriver protocol (W3C), of which this is as much as
//! the tests need. It knows nothing of the page.
//!
//! Both processes end with the test: the browser with its session, and the driver by its handle.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::tools::is_here;

/// Longer than a browser takes to start on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// For one browser: nothing that reaches out of the machine, and a profile of its own.
const FLAGS: [&str; 8] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// The driver, which ends when this does.
struct Driver(Child);

impl Driver {
    /// Starts one, and says on which port it listens.
    fn start() -> (Self, u16) {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let said = BufReader::new(child.stdout.take().expect("its output"));
        let driver = Self(child);
        let port = said.lines().find_map(|line| {
            let line = line.expect("text");
            line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        (driver, port.expect("it listens before it ends"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A browser with one page.
pub(super) struct Browser {
    driver: Driver,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser, or `None` with a line that says what is missing.
    pub(super) async fn open() -> Option<Self> {
        if !["chromium", "chromedriver"].into_iter().all(is_here) {
            return None;
        }
        let profile = tempfile::tempdir().expect("a directory");
        let (driver, port) = Driver::start();
        let profile_flag = format!("--user-data-dir={}", profile.path().display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([profile_flag.as_str()]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": flags},
        }}});
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let session = browser.ask("POST", "/session", Some(wanted)).await;
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    /// Goes to a page, and waits until it is loaded.
    pub(super) async fn go(&self, url: &str) {
        self.command("url", json!({"url": url})).await;
    }

    /// Makes the window as wide as this, as a phone is where it is narrow.
    pub(super) async fn resize(&self, width: u32) {
        let metrics = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// A command of the DevTools protocol.
    pub(super) async fn devtools(&self, command: &str, parameters: Value) {
        self.command("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await;
    }

    /// What a script returns.
    pub(super) async fn run(&self, script: &str) -> Value {
        self.command("execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true, which the browser looks at every 20 ms until the driver gives up.
    pub(super) async fn until(&self, expression: &str) {
        let script = format!(
            "const done = arguments[0], look = () => ({expression}) ? done(true) : setTimeout(look, 20); look();"
        );
        self.command("execute/async", json!({"script": script, "args": []})).await;
    }

    /// Clicks, as a mouse does, on what a selector finds.
    pub(super) async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.command(&format!("element/{element}/click"), json!({})).await;
    }

    /// Types into what a selector finds.
    pub(super) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.command(&format!("element/{element}/value"), json!({"text": text})).await;
    }

    /// What the console and the browser itself have complained about since the last time.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", json!({"type": "browser"})).await;
        let entries = log.as_array().expect("a list").iter();
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Ends the browser, and then its driver.
    pub(super) async fn close(self) {
        self.ask("DELETE", &format!("/session/{}", self.session), None).await;
        drop(self.driver);
    }

    async fn find(&self, selector: &str) -> String {
        let found = self.command("element", json!({"using": "css selector", "value": selector})).await;
        let id = found.as_object().and_then(|element| element.values().next()?.as_str());
        id.expect("an element").to_owned()
    }

    async fn command(&self, command: &str, parameters: Value) -> Value {
        self.ask("POST", &format!("/session/{}/{command}", self.session), Some(parameters)).await
    }

    /// One request to the driver: what it answers, without the shell around it.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.expect("connected");
            stream.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
            // It does not close by itself, whatever it is told.
            let mut answer = Vec::new();
            while !is_whole(&answer) {
                assert_ne!(stream.read_buf(&mut answer).await.expect("readable"), 0, "cut short");
            }
            String::from_utf8(answer).expect("text")
        };
        let answer = timeout(LONG, exchange).await.expect("in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        serde_json::from_str::<Value>(body).expect("json")["value"].take()
    }
}

/// Whether an answer is there with all of its body.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).expect("a length");
    answer.len() >= end + 4 + length
}
