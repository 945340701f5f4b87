//! What was kept is there again after any end, and costs the vendor nothing.

use crate::gateway::{
    records::{ended, id, ongoing, settled},
    vendor::{Play, answer, ok},
    world::ID,
};

use super::world::{Disk, lines};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kept_call_is_a_hit_after_a_kill() {
    const CALLS: usize = 1_000;
    let disk = Disk::new().await;
    let mut gateway = disk.start().await;
    for n in 0..CALLS {
        gateway.fetches(&id(n)).await;
    }
    gateway.holds(CALLS as u64).await;
    gateway.kill();
    let mut gateway = disk.start().await;
    assert_eq!(gateway.counts().await["entries"], Some(CALLS as u64));
    for n in 0..CALLS {
        gateway.finds_on_disk(&id(n)).await;
    }
    assert_eq!(disk.vendor.requests(), CALLS, "the vendor was asked once for each");
    // From then on memory has it.
    let again = gateway.call(&id(0)).await;
    assert!(again.cache().starts_with("callgate; hit; ttl=25") && !again.cache().contains("detail"));
    assert_eq!(again.text(), settled(&id(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_order_loses_nothing_and_waits_for_no_window() {
    let disk = Disk::new().await;
    let mut gateway = disk.start().await;
    gateway.fetches(ID).await;
    let log = gateway.end().await;
    assert_eq!(lines(&log, "calls are kept on disk"), 1, "{log}");
    assert_eq!(lines(&log, "calls lie on disk in the clear"), 1, "{log}");
    let mut gateway = disk.start().await;
    gateway.finds_on_disk(ID).await;
    assert_eq!(disk.vendor.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_the_same_after_a_restart() {
    let fields =
        "content-type: application/json; charset=utf-8\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let disk = Disk::before(move |seen| Play::Send(answer("200 OK", fields, settled(seen.id())))).await;
    let mut gateway = disk.start().await;
    let target = format!("/v1/api/call-history/{ID}");
    let before = gateway.get(&target, &[]).await;
    gateway.holds(1).await;
    gateway.kill();
    let mut gateway = disk.start().await;
    let after = gateway.get(&target, &[("cache-control", "only-if-cached")]).await;
    assert!(after.cache().ends_with("; detail=disk"), "{}", after.cache());
    for name in ["content-type", "last-modified", "etag"] {
        assert_eq!(after.one(name), before.one(name));
    }
    assert!(after.one("cache-control").ends_with("immutable"));
    assert_eq!(after.body, before.body);
    let etag = before.one("etag").to_owned();
    assert_eq!(gateway.get(&target, &[("if-none-match", &etag)]).await.status, 304);
    // The other version of the API is another entry.
    gateway.fetches(ID).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_still_change_is_not_written_down() {
    let disk = Disk::before(|seen| {
        Play::Send(match seen.id() {
            "settling" => ok(ended("settling", 60)),
            "ongoing" => ok(ongoing("ongoing")),
            "gone" => answer("404 Not Found", "", "{}"),
            "suspect" => ok("[]"),
            id => ok(settled(id)),
        })
    })
    .await;
    let more = [("CALLGATE__LOOKUP__ONGOING_TTL", "1h"), ("CALLGATE__LISTS__TTL", "1h")];
    let mut gateway = disk.start_with(&disk.file(), &more).await;
    for id in ["settling", "ongoing", "gone", "suspect"] {
        gateway.call(id).await;
    }
    gateway.get("/v2/api/call-history", &[]).await;
    gateway.fetches(ID).await;
    gateway.end().await;
    let mut gateway = disk.start().await;
    assert_eq!(gateway.counts().await["entries"], Some(1));
    gateway.finds_on_disk(ID).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_writing_costs_no_more_than_what_was_just_written() {
    let disk = Disk::new().await;
    let mut known = 0;
    for round in 0..8 {
        let mut gateway = disk.start().await;
        let held = gateway.counts().await["entries"].expect("the tier is on");
        assert!(held >= known, "{held} of {known} that were on disk");
        // Killed at another moment of the writing each time: so many calls after some were seen on disk.
        let mut n = 0;
        while gateway.counts().await["entries"] == Some(held) || n < 40 * round {
            gateway.fetches(&format!("{round}-{n}")).await;
            n += 1;
        }
        known = gateway.counts().await["entries"].expect("the tier is on");
        gateway.kill();
        assert_eq!(disk.set_aside(), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_stale_on_disk_still_answers_while_the_vendor_fails() {
    let disk = Disk::before(|seen| {
        Play::Send(if seen.number == 1 { ok(settled(ID)) } else { answer("503 Down", "", "") })
    })
    .await;
    let more = [("CALLGATE__LOOKUP__FINAL_TTL", "1ms"), ("CALLGATE__UPSTREAM__RETRIES", "0")];
    let mut gateway = disk.start_with(&disk.file(), &more).await;
    gateway.fetches(ID).await;
    gateway.end().await;
    let mut gateway = disk.start_with(&disk.file(), &more).await;
    let stale = gateway.call(ID).await;
    assert_eq!((stale.status, stale.text()), (200, settled(ID)));
    assert!(stale.cache().ends_with("detail=stale-if-error"), "{}", stale.cache());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_vendor_is_another_cache() {
    let disk = Disk::new().await;
    let mut gateway = disk.start().await;
    gateway.fetches(ID).await;
    gateway.end().await;
    let other = Disk::new().await;
    let mut gateway = other.start_with(&disk.file(), &[]).await;
    gateway.fetches(ID).await;
    gateway.end().await;
    let mut gateway = disk.start_with(&disk.file(), &[("TRILLET_WORKSPACE_ID", "ws-other")]).await;
    assert_eq!(gateway.call(ID).await.status, 502, "a record of the workspace that it is not");
    assert_eq!(disk.vendor.requests(), 2);
    assert_eq!(gateway.counts().await["entries"], Some(2));
}
