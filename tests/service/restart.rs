//! A restart under load: the socket stays with the service manager, and no caller's request fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::sleep;

use super::world::{handing, tcp};
use crate::gateway::{
    program::Process,
    records::{id, settled},
    vendor::{Play, Vendor, ok},
    world::{Caller, request},
};

/// How often the program is ended and started again.
const RESTARTS: usize = 4;

/// What callers have seen so far.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answers: AtomicUsize,
    /// Connections that were told to close by an answer.
    told: AtomicUsize,
}

impl Load {
    /// Asks again and again on one connection, with a `pause` between, and opens another one only where an answer says
    /// `connection: close`. Anything else than an answer is a panic.
    async fn kept_alive(self: Arc<Self>, address: SocketAddr, pause: Duration) {
        let mut caller = Caller::connect(address).await;
        while !self.over.load(Relaxed) {
            caller.send(request("GET", &format!("/calls/{}", id(0)), &[])).await;
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.text()), (200, settled(&id(0))));
            self.answers.fetch_add(1, Relaxed);
            if answer.field("connection") == Some("close") {
                self.told.fetch_add(1, Relaxed);
                caller = Caller::connect(address).await;
            }
            sleep(pause).await;
        }
    }

    /// Asks again and again, each time on a connection of its own.
    async fn newly_connected(self: Arc<Self>, address: SocketAddr) {
        while !self.over.load(Relaxed) {
            let mut caller = Caller::connect(address).await;
            caller.send(request("GET", &format!("/calls/{}", id(0)), &[("connection", "close")])).await;
            assert_eq!(caller.answer().await.status, 200);
            self.answers.fetch_add(1, Relaxed);
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn grows(&self, by: usize) {
        let before = self.answers.load(Relaxed);
        while self.answers.load(Relaxed) < before + by {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_fails_no_request() {
    let (socket, address) = tcp();
    // The calls that are asked for once are held back, so that each restart finds one under way.
    let start = async || {
        let vendor = Vendor::start(|seen| {
            let record = ok(settled(seen.id()));
            if seen.id() == id(0) { Play::Send(record) } else { Play::Held(record) }
        })
        .await;
        let socket = socket.try_clone().expect("another descriptor");
        let process = Process::start(handing(vendor.address, vec![socket.into()], Some("internal"))).await;
        (vendor, process)
    };
    let (mut vendor, mut process) = start().await;
    let load = Arc::new(Load::default());
    let mut callers = Vec::new();
    for n in 0..8 {
        callers.push(tokio::spawn(Arc::clone(&load).kept_alive(address, Duration::from_millis(n * 5))));
        callers.push(tokio::spawn(Arc::clone(&load).newly_connected(address)));
    }
    for n in 1..=RESTARTS {
        load.grows(100).await;
        let mut under_way = Caller::connect(address).await;
        let asked = vendor.requests();
        under_way.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        vendor.arrived(asked + 1).await;
        process.signal(Signal::TERM);
        process.says("closed to new connections").await;
        vendor.release();
        let answer = under_way.answer().await;
        assert_eq!((answer.status, answer.text()), (200, settled(&id(n))));
        assert_eq!(answer.field("connection"), Some("close"));
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("ended in order"), "{log}");
        (vendor, process) = start().await;
    }
    load.grows(100).await;
    load.over.store(true, Relaxed);
    for caller in callers {
        caller.await.expect("no request failed");
    }
    let told = load.told.load(Relaxed);
    assert!(told >= RESTARTS, "{told} connections were told to close");
}
