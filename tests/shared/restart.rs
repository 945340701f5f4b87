//! Ten thousand calls survive a kill: every one is a hit, no request is sent, and the program listens at once.

use futures_util::future::join_all;
use tempfile::tempdir;
use tokio::time::{Duration, Instant};

use crate::{
    disk::world::Gateway,
    gateway::{
        program::serving,
        records::{LONG_AGO, id, record},
        vendor::{Play, Vendor, ok},
        world::{Caller, request},
    },
};

const CALLS: usize = 10_000;
/// Connections that ask side by side.
const CALLERS: usize = 16;
/// Requests on one of them that are sent before the first is answered.
const AHEAD: usize = 25;

/// A call of two KB.
fn large(id: &str) -> String {
    record(id, "completed", &format!(r#","endTime":{LONG_AGO},"summary":"{}""#, "x".repeat(1_900)))
}

/// Looks all of them up, each of which is to be answered in such a way.
async fn all_are(gateway: &Gateway, way: &str) {
    let asking = (0..CALLERS).map(|caller| async move {
        let mut line = Caller::connect(gateway.process.address).await;
        let ids: Vec<_> = (caller..CALLS).step_by(CALLERS).map(id).collect();
        for ids in ids.chunks(AHEAD) {
            let requests = ids.iter().map(|id| request("GET", &format!("/calls/{id}"), &[]));
            line.send(requests.collect::<String>()).await;
            for id in ids {
                let answer = line.answer().await;
                assert!(answer.status == 200 && answer.cache().ends_with(way), "{id}: {}", answer.cache());
                assert_eq!(answer.body, large(id).as_bytes());
            }
        }
    });
    join_all(asking).await;
}

#[tokio::test]
async fn ten_thousand_calls_are_hits_right_after_a_kill() {
    let directory = tempdir().expect("a directory");
    let vendor = Vendor::start(|seen| Play::Send(ok(large(seen.id())))).await;
    let command = || {
        let mut command = serving(vendor.address);
        command
            .env("CALLGATE__CACHE__DISK__PATH", directory.path().join("state").join("calls"))
            .env("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "1000000")
            // The connections that a gateway comes with are silent while others fill it.
            .env("CALLGATE__LISTEN__HEADER_TIMEOUT", "2m")
            .env("CALLGATE__LOG__HITS", "0.0");
        command
    };
    let mut gateway = Gateway::start(command()).await;
    let began = Instant::now();
    all_are(&gateway, "; stored").await;
    gateway.holds(CALLS as u64).await;
    let filled = began.elapsed();
    gateway.kill();

    let began = Instant::now();
    let mut gateway = Gateway::start(command()).await;
    let listening = began.elapsed();
    all_are(&gateway, "; detail=disk").await;
    eprintln!("filled in {filled:?}, listening after {listening:?}, all found after {:?}", began.elapsed());
    assert!(listening < Duration::from_secs(5), "{listening:?}");
    assert_eq!(gateway.counts().await["entries"], Some(CALLS as u64));
    assert_eq!(vendor.requests(), CALLS, "the vendor was asked once for each");
}
