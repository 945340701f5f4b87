//! However many ask at however many replicas: one request, whatever it brings, and whatever becomes of who sent it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::{Crowd, STORED, World, until};
use crate::{
    gateway::{
        records::{ongoing, settled},
        vendor::{Play, answer, ok},
        world::{Answer, Caller, Gateway, ID, request, within},
    },
    replicas::redis::available,
};

/// Each of three replicas is asked the same by a hundred callers, who all wait before the vendor says this. One request,
/// the same bytes for all, and all but one of them collapsed; the answers.
async fn asked_by_300(world: &World, target: &str, said: &str) -> Vec<Answer> {
    let replicas = world.replicas().await;
    let before = world.vendor.requests();
    let mut crowds = Vec::new();
    for replica in &replicas {
        crowds.push(Crowd::at(replica, 100, target).await);
    }
    settle(&replicas).await;
    world.vendor.arrived(before + 1).await;
    world.vendor.release();
    let mut answers = Vec::new();
    let mut led = Vec::new();
    for crowd in crowds {
        let crowd = crowd.answers().await;
        led.push(crowd.iter().filter(|answer| !answer.cache().contains("; collapsed")).count());
        answers.extend(crowd);
    }
    led.sort_unstable();
    assert_eq!(led, [0, 0, 1], "one caller of all led");
    for answer in &answers {
        assert_eq!((answer.status, answer.text()), (answers[0].status, said.to_owned()));
    }
    assert_eq!((world.vendor.requests() - before, answers.len()), (1, 300));
    answers
}

/// What was counted of Redis comes from behind what was asked of it before: all who ask the vendor or wait are known.
async fn settle(replicas: &[Gateway]) {
    for replica in replicas {
        replica.settle().await;
    }
}

/// Nothing of a flight is left but what lies ready for a moment, and nothing is kept.
fn leaves_nothing(world: &World) {
    for kind in ["lease", "waited", "call", "index", "bytes"] {
        assert_eq!(world.keys(kind), Vec::<String>::new(), "{kind}");
    }
    for landed in world.keys("landed") {
        let left = world.left(&landed);
        assert!(left <= 10_000 && left != -1, "{left}");
    }
}

#[tokio::test]
async fn three_hundred_callers_of_three_replicas_are_one_request() {
    if !available() {
        return;
    }
    let world = World::new(|seen| Play::Held(ok(settled(seen.id())))).await;
    let answers = asked_by_300(&world, &format!("/calls/{ID}"), &settled(ID)).await;
    let stored = answers.iter().filter(|answer| answer.cache().contains("fwd-status=200; stored"));
    assert_eq!(stored.count(), 300);
    assert_eq!(world.keys("call").len(), 1);
    assert_eq!(world.keys("lease"), Vec::<String>::new());
    assert_eq!(world.keys("waited"), Vec::<String>::new());
}

#[tokio::test]
async fn an_ongoing_call_is_one_request_and_leaves_nothing() {
    if !available() {
        return;
    }
    let world = World::new(|seen| Play::Held(ok(ongoing(seen.id())))).await;
    for answer in asked_by_300(&world, &format!("/calls/{ID}"), &ongoing(ID)).await {
        assert!(answer.cache().contains("; detail=ongoing"), "{}", answer.cache());
        assert_eq!(answer.one("cache-control"), "no-store");
    }
    leaves_nothing(&world);
    // What had landed is gone by itself.
    let landed = world.keys("landed");
    until(async || world.keys("landed").is_empty()).await;
    assert_eq!(landed.len(), 1);
}

#[tokio::test]
async fn a_failure_is_every_replicas() {
    if !available() {
        return;
    }
    for status in ["500 Internal Server Error", "404 Not Found", "400 Bad Request"] {
        let said = r#"{"error":{"code":"so","message":"so"}}"#;
        let world = World::new(move |_| Play::Held(answer(status, "", said))).await;
        let answers = asked_by_300(&world, &format!("/calls/{ID}"), said).await;
        assert_eq!(answers[0].status.to_string(), status[..3]);
        leaves_nothing(&world);
    }
}

#[tokio::test]
async fn what_the_vendor_did_not_answer_well_is_refused_everywhere() {
    if !available() {
        return;
    }
    // Another workspace's record, which no replica passes on, and each judges by itself.
    let foreign = format!(r#"{{"_id":"{ID}","workspaceId":"ws-foreign","status":"completed"}}"#);
    let world = World::new(move |_| Play::Held(ok(&foreign))).await;
    let replicas = world.replicas().await;
    let mut crowds = Vec::new();
    for replica in &replicas {
        crowds.push(Crowd::at(replica, 10, &format!("/calls/{ID}")).await);
    }
    settle(&replicas).await;
    world.vendor.release();
    for crowd in crowds {
        for answer in crowd.answers().await {
            assert_eq!(answer.problem(), (502, "upstream_mismatch".into()));
        }
    }
    assert_eq!(world.vendor.requests(), 1);
    leaves_nothing(&world);
}

#[tokio::test]
async fn equal_lists_are_one_request_and_leave_nothing() {
    if !available() {
        return;
    }
    let list = format!("[{},{}]", settled("a"), ongoing("b"));
    let said = list.clone();
    let world = World::new(move |_| Play::Held(ok(&list))).await;
    for answer in asked_by_300(&world, "/v2/api/call-history?page=1&limit=20", &said).await {
        assert!(answer.cache().contains("; detail=list"), "{}", answer.cache());
    }
    leaves_nothing(&world);
}

#[tokio::test]
async fn a_holder_that_is_killed_makes_way_within_seconds() {
    if !available() {
        return;
    }
    let world = World::new(|seen| match seen.number {
        1 => Play::ThenNothing(Vec::new()),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    let (holder, other) = (world.program(&[]).await, world.replica().await);
    let mut caller = Caller::connect(holder.process.address).await;
    caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    world.vendor.arrived(1).await;
    let crowd = Crowd::at(&other, 100, &format!("/calls/{ID}")).await;
    other.settle().await;
    assert_eq!((world.vendor.requests(), world.keys("lease").len()), (1, 1));
    let killed = Instant::now();
    holder.kill();
    let answers = crowd.answers().await;
    assert!(killed.elapsed() < Duration::from_secs(8), "{:?}", killed.elapsed());
    let led = answers.iter().filter(|answer| answer.cache() == STORED).count();
    assert_eq!((led, world.vendor.requests()), (1, 2));
    assert!(answers.iter().all(|answer| (answer.status, answer.text()) == (200, settled(ID))));
}

#[tokio::test]
async fn a_vendor_slower_than_a_lease_is_asked_once() {
    if !available() {
        return;
    }
    let world = World::new(|seen| Play::Held(ok(settled(seen.id())))).await;
    let [a, b, c] = world.replicas().await;
    let (one, two) =
        (Crowd::at(&a, 50, &format!("/calls/{ID}")).await, Crowd::at(&b, 50, &format!("/calls/{ID}")).await);
    settle(&[a, b]).await;
    world.vendor.arrived(1).await;
    // A lease that is not renewed is over by now, and was looked at often since.
    sleep(Duration::from_millis(4_500)).await;
    let late = Crowd::at(&c, 50, &format!("/calls/{ID}")).await;
    c.settle().await;
    assert_eq!(world.vendor.requests(), 1);
    world.vendor.release();
    for crowd in [one, two, late] {
        for answer in within(crowd.answers()).await {
            assert_eq!((answer.status, answer.text()), (200, settled(ID)));
        }
    }
    assert_eq!(world.vendor.requests(), 1);
}
