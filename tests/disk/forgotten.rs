//! What was to be forgotten does not come back with a restart.

use crate::gateway::{
    records::{ended, settled},
    vendor::{Play, answer, ok},
    world::ID,
};

use super::world::Disk;

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
