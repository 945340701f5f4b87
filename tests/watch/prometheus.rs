//! A Prometheus of a test's own: on a free port, in a folder that goes with it, scraping each second.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};

use crate::replicas::redis::free_port;

/// Long enough for a start and some scrapes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file below `deploy`.
pub(crate) fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// A Prometheus that runs; killed when dropped.
pub(crate) struct Prometheus {
    _child: Ended,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one with the configuration and rules of `deploy/prometheus`, but for where it scrapes and how often.
    pub(crate) async fn scraping(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |name| fs::read_to_string(deployed(name)).expect("there");
        let hurried = |text: String| text.replace(": 15s", ": 1s");
        let config =
            hurried(read("prometheus/prometheus.yml")).replace("127.0.0.1:9090", &target.to_string());
        assert!(config.contains("scrape_interval: 1s") && config.contains(&target.to_string()), "{config}");
        fs::write(folder.path().join("prometheus.yml"), config).expect("written");
        fs::write(folder.path().join("rules.yml"), hurried(read("prometheus/rules.yml"))).expect("written");
        loop {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let child = Command::new("prometheus")
                .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("started");
            let mut child = Ended(child);
            if is_ready(&mut child.0, address).await {
                return Self { _child: child, address, _folder: folder };
            }
            // Somebody else has just taken the port.
        }
    }

    /// What a query gives now; an error of it is the test's.
    pub(crate) async fn query(&self, query: &str) -> Vec<Value> {
        let encoded = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let answer = self.api(&format!("query?{encoded}")).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("a vector").clone()
    }

    /// Asks until a query gives something.
    pub(crate) async fn until(&self, query: &str) -> Vec<Value> {
        let asked = async {
            loop {
                let found = self.query(query).await;
                if !found.is_empty() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("nothing in time for {query}"))
    }

    /// What its API answers.
    pub(crate) async fn api(&self, call: &str) -> Value {
        let (_, body) = get(self.address, &format!("/api/v1/{call}")).await.expect("an answer");
        serde_json::from_slice(&body).expect("json")
    }
}

/// A process that is killed when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether it came up; not where it has ended, and another one may be on its port.
async fn is_ready(child: &mut Child, address: SocketAddr) -> bool {
    let came_up = async {
        loop {
            if child.try_wait().expect("its status").is_some() {
                return false;
            }
            if get(address, "/-/ready").await.is_some_and(|(status, _)| status == 200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, came_up).await.expect("ready in time")
}

/// `GET`; `None` where nobody answers.
async fn get(address: SocketAddr, target: &str) -> Option<(u16, Bytes)> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = http::Request::get(target).header("host", "localhost").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.expect("a request")).await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.into_body().collect().await.ok()?.to_bytes()))
}
