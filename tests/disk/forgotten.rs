//! What was to be forgotten does not come back with a restart.

use serde_json::json;

use crate::gateway::{
    records::{ended, settled},
    vendor::{Play, answer, ok},
    world::ID,
};

use super::world::{Disk, lines};

/// Fresh for no time, so that each lookup asks the vendor.
const BRIEFLY: [(&str, &str); 2] =
    [("CALLGATE__LOOKUP__FINAL_TTL", "1ms"), ("CALLGATE__LOOKUP__FAILURE_TTL", "0s")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_gone_at_the_vendor_is_gone_on_disk() {
    for (status, not_found_ttl) in
        [("404 Not Found", "5s"), ("404 Not Found", "0s"), ("410 Gone", "5s"), ("410 Gone", "0s")]
    {
        let disk = Disk::before(move |seen| {
            Play::Send(if seen.number == 1 { ok(settled(ID)) } else { answer(status, "", "{}") })
        })
        .await;
        let more = [&BRIEFLY[..], &[("CALLGATE__LOOKUP__NOT_FOUND_TTL", not_found_ttl)]].concat();
        let mut gateway = disk.start_with(&disk.file(), &more).await;
        gateway.fetches(ID).await;
        gateway.holds(1).await;
        gateway.kill();
        // Found on disk, stale, and then gone.
        let mut gateway = disk.start_with(&disk.file(), &more).await;
        assert_eq!(gateway.call(ID).await.status, status[..3].parse::<u16>().expect("a status"));
        gateway.holds(0).await;
        gateway.kill();
        let mut gateway = disk.start().await;
        assert_eq!(gateway.counts().await["entries"], Some(0));
        assert_ne!(gateway.call(ID).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_call_that_changes_again_is_not_found_as_it_was() {
    let disk = Disk::before(move |seen| {
        Play::Send(if seen.number == 1 { ok(settled(ID)) } else { ok(ended(ID, 60)) })
    })
    .await;
    let mut gateway = disk.start_with(&disk.file(), &BRIEFLY).await;
    gateway.fetches(ID).await;
    gateway.holds(1).await;
    assert_eq!(gateway.call(ID).await.text(), ended(ID, 60));
    gateway.holds(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_forgets_does_not_come_back_with_a_restart() {
    let disk = Disk::new().await;
    let mut gateway = disk.start().await;
    for id in ["a", "b", "c"] {
        gateway.fetches(id).await;
    }
    gateway.get("/v1/api/call-history/a", &[]).await;
    gateway.holds(4).await;
    gateway.kill();
    let mut gateway = disk.start().await;
    gateway.finds_on_disk("a").await;
    let shown = gateway.operate("GET", "/cache/a").await.json();
    let tiers: Vec<_> = [0, 1].iter().map(|at| shown["entries"][at]["tiers"].clone()).collect();
    assert_eq!(tiers, [json!(["disk"]), json!(["memory", "disk"])]);
    assert_eq!(gateway.operate("GET", "/cache/b").await.json()["entries"][0]["tiers"], json!(["disk"]));
    assert_eq!(gateway.operate("DELETE", "/cache/a").await.json(), json!({"removed": 2}));
    // Killed in the moment of the answer: it was in the file by then.
    gateway.kill();
    let mut gateway = disk.start().await;
    assert_eq!(gateway.counts().await["entries"], Some(2));
    assert_eq!(gateway.operate("GET", "/cache/a").await.status, 404);
    gateway.fetches("a").await;
    gateway.finds_on_disk("b").await;
    // What was only just kept, and is not written yet, goes as well.
    gateway.fetches("d").await;
    assert_eq!(gateway.operate("DELETE", "/cache").await.json(), json!({"removed": 4}));
    gateway.kill();
    let mut gateway = disk.start().await;
    assert_eq!(gateway.counts().await["entries"], Some(0));
    for id in ["a", "b", "c", "d"] {
        gateway.fetches(id).await;
    }
    let log = gateway.end().await;
    assert_eq!(lines(&log, "calls are kept on disk"), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_that_of_this_vendor_and_these_workspaces() {
    let disk = Disk::new().await;
    let mut gateway = disk.start().await;
    gateway.fetches(ID).await;
    gateway.end().await;
    let other = Disk::new().await;
    let mut gateway = other.start_with(&disk.file(), &[]).await;
    gateway.fetches(ID).await;
    assert_eq!(gateway.operate("DELETE", "/cache").await.json(), json!({"removed": 1}));
    gateway.end().await;
    let mut gateway = disk.start().await;
    gateway.finds_on_disk(ID).await;
}
