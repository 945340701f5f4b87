//! How much room the file takes, and what becomes of the gateway when there is none.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use rustix::process::geteuid;

use crate::gateway::{
    records::{id, record, settled},
    vendor::{Play, answer, ok},
    world::ID,
};

use super::world::{Disk, Gateway, lines};

const OFF: &str = "calls are no longer kept on disk";

/// A settled call of some 20 KiB.
fn large(id: &str) -> String {
    record(id, "completed", &format!(r#","endTime":1680000300,"transcript":"{}""#, "so ".repeat(7_000)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_make_room_and_the_file_stays_within_its_capacity() {
    const CALLS: usize = 200;
    let disk = Disk::before(|seen| Play::Send(ok(large(seen.id())))).await;
    let mut gateway = disk.start_with(&disk.file(), &[("CALLGATE__CACHE__DISK__CAPACITY", "1MiB")]).await;
    for n in 0..CALLS {
        gateway.fetches(&id(n)).await;
    }
    let counts = gateway.counts().await;
    gateway.end().await;
    assert!(counts["bytes"] <= Some(1 << 20), "{counts:?}");
    assert!(fs::metadata(disk.file()).expect("there").blocks() * 512 <= 2 << 20, "its own tables beside it");
    let mut gateway = disk.start().await;
    let counts = gateway.counts().await;
    assert!(counts["entries"] > Some(8) && counts["entries"] < Some(40), "{counts:?}");
    let newest = gateway.call(&id(CALLS - 1)).await;
    assert!(newest.cache().ends_with("detail=disk"), "{}", newest.cache());
    assert!(gateway.call(&id(0)).await.cache().contains("fwd=uri-miss"));
}

/// A file system of a few MiB, where the system lets us have one: unmounted when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        fs::create_dir(at).expect("made");
        let mounted = geteuid().is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "none"])
                .arg(at)
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            println!("left out: no small file system may be mounted here");
        }
        mounted.then_some(Self(at))
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.0).status();
        assert!(status.expect("run").success());
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Keeps [`ID`] and then calls from number 0 on, until the disk is full and the tier goes off. How many there were.
async fn fill(gateway: &mut Gateway) -> usize {
    gateway.fetches(ID).await;
    gateway.holds(1).await;
    let mut n = 0;
    while gateway.counts().await["entries"] != Some(0) {
        gateway.fetches(&id(n)).await;
        n += 1;
    }
    gateway.process.says(OFF).await;
    n
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_turns_the_tier_off_and_not_the_service() {
    let disk = Disk::before(|seen| Play::Send(ok(large(seen.id())))).await;
    let mounted = disk.file().parent().expect("a directory").to_owned();
    let Some(small) = Small::mount(&mounted) else { return };
    let mut gateway = disk.start().await;
    let n = fill(&mut gateway).await;
    for n in n..n + 50 {
        gateway.fetches(&id(n)).await;
    }
    assert!(gateway.call(&id(n)).await.cache().starts_with("callgate; hit"), "memory goes on");
    let log = gateway.end().await;
    assert_eq!(lines(&log, OFF), 1, "{log}");
    assert!(fs::metadata(disk.file()).expect("there").blocks() * 512 <= 4 << 20);
    // What was written before is there once there is room again.
    small.remount("size=64m");
    let mut gateway = disk.start().await;
    assert!(gateway.counts().await["entries"] > Some(0));
    let first = gateway.call(ID).await;
    assert!(first.cache().ends_with("detail=disk"), "{}", first.cache());
    gateway.end().await;
    assert!(disk.set_aside().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_while_the_tier_is_off_does_not_come_back() {
    let disk = Disk::before(|seen| {
        Play::Send(match seen.id() {
            ID if seen.number > 1 => answer("404 Not Found", "", "{}"),
            ID => ok(settled(ID)),
            id => ok(large(id)),
        })
    })
    .await;
    let mounted = disk.file().parent().expect("a directory").to_owned();
    let Some(_small) = Small::mount(&mounted) else { return };
    let mut gateway = disk.start_with(&disk.file(), &[("CALLGATE__LOOKUP__FINAL_TTL", "1ms")]).await;
    fill(&mut gateway).await;
    assert!(disk.file().exists());
    assert_eq!(gateway.call(ID).await.status, 404);
    gateway.process.says("the file of kept calls is deleted").await;
    assert!(!disk.file().exists());
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_while_the_tier_is_off_does_not_come_back() {
    let disk = Disk::before(|seen| Play::Send(ok(large(seen.id())))).await;
    let mounted = disk.file().parent().expect("a directory").to_owned();
    let Some(_small) = Small::mount(&mounted) else { return };
    let mut gateway = disk.start().await;
    fill(&mut gateway).await;
    assert!(disk.file().exists());
    assert_eq!(gateway.operate("DELETE", &format!("/cache/{ID}")).await.json()["removed"], 1);
    assert!(!disk.file().exists(), "before it is answered");
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_is_read_only_is_left_alone() {
    let disk = Disk::new().await;
    let mounted = disk.file().parent().expect("a directory").to_owned();
    let Some(small) = Small::mount(&mounted) else { return };
    let mut gateway = disk.start().await;
    gateway.fetches(ID).await;
    gateway.end().await;
    small.remount("ro");
    let mut gateway = disk.start().await;
    gateway.fetches(ID).await;
    let log = gateway.end().await;
    assert_eq!(lines(&log, "calls are not kept on disk"), 1, "{log}");
    small.remount("rw");
    disk.start().await.finds_on_disk(ID).await;
}
