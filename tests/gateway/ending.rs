//! The end: what is under way is finished, nothing new is accepted, the status is 0.

use callgate::drain::Ended;
use rustix::process::Signal;
use tokio::net::TcpStream;

use super::{
    program::{Process, serving},
    records::{ongoing, settled},
    vendor::{Play, Vendor, ok},
    world::{Caller, ID, World, request, within},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sigterm_lets_what_is_under_way_finish_and_ends_with_status_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let vendor = Vendor::start(|_| Play::Held(ok(settled(ID)))).await;
        let mut process = Process::start(serving(vendor.address)).await;
        let mut under_way = Caller::connect(process.address).await;
        under_way.send(request("GET", &format!("/calls/{ID}"), &[])).await;
        let mut idle = Caller::connect(process.address).await;
        idle.send(request("GET", "/nowhere", &[])).await;
        assert_eq!(idle.answer().await.status, 404);
        vendor.arrived(1).await;
        process.signal(signal);
        process.says("closed to new connections").await;
        assert_eq!(idle.rest().await, "", "an idle connection ends soon");
        // The line comes as the sockets are told to close.
        let refused = async { while TcpStream::connect(process.address).await.is_ok() {} };
        within(refused).await;
        // The operators' endpoint stays for as long as a caller is served.
        let mut operator = Caller::connect(process.admin).await;
        operator.send(request("GET", "/readyz", &[])).await;
        let ready = operator.answer().await;
        assert_eq!((ready.status, ready.text()), (503, "draining\n".into()));
        vendor.release();
        let answer = under_way.answer().await;
        assert_eq!((answer.status, answer.text()), (200, settled(ID)));
        assert_eq!(under_way.rest().await, "", "nothing follows");
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("ended in order"), "{log}");
    }
}

#[tokio::test]
async fn readiness_says_that_the_end_has_begun_while_callers_are_still_served() {
    let settings = "drain.delay = \"900ms\"";
    let world = World::with(settings, |_| Play::Send(ok(ongoing(ID)))).await;
    let ready = async || {
        let mut caller = Caller::connect(world.gateway.admin).await;
        caller.send(request("GET", "/readyz", &[])).await;
        caller.answer().await
    };
    assert_eq!((ready().await.status, ready().await.text()), (200, "ready\n".into()));
    world.gateway.stop().await;
    let refusal = loop {
        let answer = ready().await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((refusal.status, refusal.text()), (503, "draining\n".into()));
    assert_eq!(world.call(ID).await.status, 200);
    assert_eq!(world.gateway.ended().await, Ended::InOrder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_call_is_told_to_close_with_the_answer_that_the_end_brings() {
    for _ in 0..3 {
        let vendor = Vendor::start(|_| Play::Send(ok(ongoing(ID)))).await;
        let process = Process::start(serving(vendor.address)).await;
        let mut waiting = Caller::connect(process.address).await;
        waiting.send(request("GET", &format!("/calls/{ID}"), &[("prefer", "wait=50")])).await;
        let known = async || {
            let mut operator = Caller::connect(process.admin).await;
            operator.send(request("GET", "/metrics", &[])).await;
            operator.answer().await.text().contains("callgate_upstream_requests_total{code=\"200\"} 1\n")
        };
        within(async { while !known().await {} }).await;
        process.signal(Signal::TERM);
        let answer = waiting.answer().await;
        assert_eq!((answer.status, answer.text()), (200, ongoing(ID)));
        assert_eq!(answer.one("connection"), "close");
        assert_eq!(waiting.rest().await, "");
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_used_just_now_does_not_make_a_short_end_a_cut() {
    let vendor = Vendor::start(|_| Play::Send(ok(settled(ID)))).await;
    let mut command = serving(vendor.address);
    command.env("CALLGATE__DRAIN__TIMEOUT", "900ms");
    let process = Process::start(command).await;
    let mut caller = Caller::connect(process.address).await;
    caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    assert_eq!(caller.answer().await.status, 200);
    process.signal(Signal::TERM);
    assert_eq!(caller.rest().await, "");
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("ended in order"), "{log}");
}

#[tokio::test]
async fn what_takes_longer_than_the_drain_is_cut() {
    let world = World::with("drain.delay = \"0s\"\n", |_| Play::Held(ok(ongoing(ID)))).await;
    let mut caller = world.gateway.connect().await;
    caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    world.vendor.arrived(1).await;
    world.gateway.stop().await;
    // A second signal is impatience.
    world.gateway.stop().await;
    assert_eq!(world.gateway.ended().await, Ended::Cut);
}
