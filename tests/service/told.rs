//! What a service manager is told: that callers are answered, that the process lives, that it is about to end.

use std::{os::unix::net::UnixDatagram, time::Duration};

use rustix::process::Signal;

use crate::gateway::{
    program::{Process, serving},
    records::settled,
    vendor::{Play, Vendor, ok},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_hears_of_readiness_life_and_the_end() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let hear = || {
        let mut buffer = [0; 1024];
        let read = manager.recv(&mut buffer).expect("a word in time");
        String::from_utf8(buffer[..read].to_vec()).expect("text")
    };
    let mut command = serving(vendor.address);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        .env("CALLGATE__DRAIN__DELAY", "1h")
        .env("CALLGATE__DRAIN__TIMEOUT", "25s");
    let process = Process::start(command).await;
    assert_eq!(hear(), format!("READY=1\nSTATUS=answering on {}", process.address));
    for _ in 0..5 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    process.signal(Signal::TERM);
    let next = || loop {
        let heard = hear();
        if heard != "WATCHDOG=1" {
            return heard;
        }
    };
    let stopping =
        "STOPPING=1\nSTATUS=draining: what is under way is finished\nEXTEND_TIMEOUT_USEC=3635000000";
    assert_eq!(next(), stopping);
    assert_eq!(hear(), "WATCHDOG=1", "it lives as long as it drains");
    process.signal(Signal::TERM);
    assert_eq!(next(), "STATUS=draining, in a hurry");
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
}
