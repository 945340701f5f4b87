//! What is erased at one replica is forgotten by all: at once, on their return, or at their next start; and nothing else
//! is.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{
    relay::Relay,
    world::{Crowd, GONE, World, fetch, is_known, look, says, until},
};
use crate::{
    disk::world::Gateway as Program,
    gateway::{
        records::settled,
        vendor::{Play, ok},
        world::{Answer, Gateway, ID, request},
    },
    replicas::{redis::available, world::Log},
};

const OTHER: &str = "another";

/// As far as replicas allow for between their clocks: what was fetched within it of an erasure may be forgotten too.
const MARGIN: Duration = Duration::from_millis(1_200);

/// Forgets at an operator's wish; what the operator is told.
async fn erase(gateway: &Gateway, target: &str) -> serde_json::Value {
    let answer = gateway.operate("DELETE", target, &[]).await;
    assert_eq!(answer.status, 200);
    answer.json()
}

async fn erase_call(gateway: &Gateway) -> serde_json::Value {
    erase(gateway, &format!("/cache/{ID}")).await
}

/// Lets the first fetch both calls, and the others know them.
async fn know_both(world: &World, replicas: &[&Gateway]) {
    for id in [ID, OTHER] {
        fetch(replicas[0], id).await;
        let named = || world.keys("call").iter().any(|key| key.ends_with(id));
        until(async || named()).await;
        for replica in &replicas[1..] {
            let answer = look(replica, id).await;
            assert!(answer.cache().ends_with("; detail=shared"), "{}", answer.cache());
        }
    }
}

/// A hit in memory.
async fn has(gateway: &Gateway, id: &str) {
    let answer = look(gateway, id).await;
    assert!(answer.cache().starts_with("callgate; hit; ttl=2"), "{}", answer.cache());
    assert!(!answer.cache().contains("detail"), "{}", answer.cache());
}

/// The vendor was asked. As an erasure is being carried out nothing of the call is kept, so that may be said as well.
fn asked_anew(answer: &Answer) {
    let asked = answer.cache().starts_with("callgate; fwd=uri-miss; fwd-status=200; ");
    assert!(answer.status == 200 && asked, "{}", answer.cache());
}

/// On disk in a process of its own: the file and the variables.
fn on_disk(world: &World) -> [(&'static str, String); 1] {
    [("CALLGATE__CACHE__DISK__PATH", world.path("state").join("calls").to_str().expect("text").to_owned())]
}

async fn program(world: &World) -> Program {
    let [(name, value)] = on_disk(world);
    world.program(&[(name, &value)]).await
}

/// Waits until a program has nothing of the call any more, in memory or on disk.
async fn forgets(program: &mut Program, id: &str) {
    let target = format!("/cache/{id}");
    until(async || program.operate("GET", &target).await.status == 404).await;
}

#[tokio::test]
async fn an_erasure_empties_every_tier_of_every_replica() {
    if !available() {
        return;
    }
    let world = World::settled().await;
    let (a, mut b) = (world.replica().await, program(&world).await);
    know_both(&world, &[&a]).await;
    for id in [ID, OTHER] {
        assert!(b.call(id).await.cache().ends_with("; detail=shared"));
    }
    b.holds(2).await;
    assert_eq!(erase_call(&a).await, json!({"removed": 1}));
    assert_eq!(world.keys("call").len(), 1);
    assert!(!is_known(&a, ID).await, "at once");
    forgets(&mut b, ID).await;
    b.holds(1).await;
    assert_eq!(world.vendor.requests(), 2);
    asked_anew(&b.call(ID).await);
    assert_eq!(world.vendor.requests(), 3);
    assert!(!b.call(OTHER).await.cache().contains("detail"), "it stayed in memory");
    has(&a, OTHER).await;
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn one_that_was_cut_off_forgets_it_on_its_return_and_nothing_else() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let world = World::settled().await;
    let relay = Relay::to(&world.redis.url()).await;
    let a = world.replica().await;
    let c = world.replica_with(&format!("cache.shared.url = \"{}\"", relay.url())).await;
    know_both(&world, &[&a, &c]).await;
    relay.cut();
    says(&log, GONE, 1).await;
    assert_eq!(erase_call(&a).await, json!({"removed": 1}));
    // It cannot know.
    has(&c, ID).await;
    // And keeps one that it fetches meanwhile, which Redis is not told of.
    fetch(&c, "meanwhile").await;
    relay.mend();
    until(async || !is_known(&c, ID).await).await;
    for id in [OTHER, "meanwhile"] {
        has(&c, id).await;
    }
    assert_eq!(world.vendor.requests(), 3);
    assert_eq!(world.keys("call").len(), 1);
    asked_anew(&look(&c, ID).await);
    assert_eq!(world.vendor.requests(), 4);
}

#[tokio::test]
async fn one_that_was_not_running_does_not_bring_it_back() {
    if !available() {
        return;
    }
    let world = World::settled().await;
    let (a, mut d) = (world.replica().await, program(&world).await);
    know_both(&world, &[&a]).await;
    for id in [ID, OTHER] {
        assert_eq!(d.call(id).await.status, 200);
    }
    d.holds(2).await;
    d.kill();
    assert_eq!(erase_call(&a).await, json!({"removed": 1}));
    let mut d = program(&world).await;
    // From the moment in which it listens.
    d.fetches(ID).await;
    d.finds_on_disk(OTHER).await;
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn an_erasure_without_redis_reaches_the_others_when_it_is_back() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut world = World::settled().await;
    let (a, b) = (world.replica().await, world.replica().await);
    know_both(&world, &[&a, &b]).await;
    world.redis.stop();
    says(&log, GONE, 2).await;
    assert_eq!(erase_call(&a).await, json!({"removed": 1, "pending": ["shared"]}));
    assert!(!is_known(&a, ID).await);
    has(&b, ID).await;
    world.redis.restart();
    until(async || !is_known(&b, ID).await).await;
    has(&a, OTHER).await;
    has(&b, OTHER).await;
    assert!(log.text().contains("an erasure that was made while redis was gone has reached it"));
    asked_anew(&look(&b, ID).await);
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn one_that_hears_of_it_only_through_a_redis_that_lost_it_forgets_it_too() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut world = World::settled().await;
    let relay = Relay::to(&world.redis.url()).await;
    let (a, b) = (world.replica().await, world.replica().await);
    let c = world.replica_with(&format!("cache.shared.url = \"{}\"", relay.url())).await;
    know_both(&world, &[&a, &b, &c]).await;
    relay.cut();
    says(&log, GONE, 1).await;
    erase_call(&a).await;
    // One that has read of it puts it back.
    until(async || !is_known(&b, ID).await).await;
    world.redis.restart();
    relay.mend();
    until(async || !is_known(&c, ID).await).await;
    has(&c, OTHER).await;
    has(&a, OTHER).await;
}

#[tokio::test]
async fn everything_is_forgotten_by_everybody() {
    if !available() {
        return;
    }
    let world = World::settled().await;
    let (a, b, mut c) = (world.replica().await, world.replica().await, program(&world).await);
    know_both(&world, &[&a, &b]).await;
    c.call(ID).await;
    c.holds(1).await;
    assert_eq!(erase(&a, "/cache").await, json!({"removed": 2}));
    for kind in ["call", "index"] {
        assert_eq!(world.keys(kind), Vec::<String>::new());
    }
    assert!(!world.dump().contains("toPhoneNumber"));
    until(async || !is_known(&b, ID).await && !is_known(&b, OTHER).await).await;
    forgets(&mut c, ID).await;
    c.holds(0).await;
    asked_anew(&look(&b, ID).await);
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn what_is_fetched_after_an_erasure_stays() {
    if !available() {
        return;
    }
    let world = World::settled().await;
    let (a, b, mut d) = (world.replica().await, world.replica().await, program(&world).await);
    know_both(&world, &[&a, &b]).await;
    d.call(ID).await;
    d.holds(1).await;
    erase_call(&a).await;
    until(async || !is_known(&b, ID).await).await;
    forgets(&mut d, ID).await;
    sleep(MARGIN).await;
    fetch(&b, ID).await;
    until(async || world.keys("call").iter().any(|key| key.ends_with(ID))).await;
    assert!(look(&a, ID).await.cache().ends_with("; detail=shared"));
    assert!(d.call(ID).await.cache().ends_with("; detail=shared"));
    d.holds(1).await;
    // Another erasure makes everybody read what was erased.
    erase(&a, &format!("/cache/{OTHER}")).await;
    until(async || !is_known(&b, OTHER).await).await;
    has(&a, ID).await;
    has(&b, ID).await;
    d.kill();
    // And one that starts reads all of it: one that knows up to where, and one that does not.
    let mut d = program(&world).await;
    d.finds_on_disk(ID).await;
    let mut e = world.program(&[]).await;
    assert!(e.call(ID).await.cache().ends_with("; detail=shared"));
    assert!(!e.call(ID).await.cache().contains("detail"));
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn what_is_in_the_air_at_another_replica_is_not_kept() {
    if !available() {
        return;
    }
    let world = World::new(|seen| match seen.id() {
        ID => Play::Held(ok(settled(ID))),
        id => Play::Send(ok(settled(id))),
    })
    .await;
    let (a, b, c) = (world.replica().await, world.replica().await, world.replica().await);
    fetch(&a, OTHER).await;
    until(async || world.keys("call").len() == 1).await;
    for other in [&b, &c] {
        assert_eq!(look(other, OTHER).await.status, 200);
    }
    let target = format!("/calls/{ID}");
    let mut first = b.connect().await;
    first.send(request("GET", &target, &[])).await;
    world.vendor.arrived(2).await;
    let waiting = Crowd::at(&c, 5, &target).await;
    c.settle().await;
    assert_eq!(erase_call(&a).await, json!({"removed": 0}));
    // The other one goes with it as a sign that they have heard: what was erased is read in its order.
    erase(&a, &format!("/cache/{OTHER}")).await;
    until(async || !is_known(&b, OTHER).await && !is_known(&c, OTHER).await).await;
    world.vendor.release();
    assert_eq!(first.answer().await.text(), settled(ID));
    for answer in waiting.answers().await {
        assert_eq!((answer.status, answer.text()), (200, settled(ID)));
    }
    for gateway in [&a, &b, &c] {
        assert!(!is_known(gateway, ID).await);
    }
    assert_eq!(world.keys("call"), Vec::<String>::new());
    assert!(!look(&a, ID).await.cache().contains("hit"));
}

#[tokio::test]
async fn what_was_in_the_air_where_nobody_could_be_told_is_forgotten_on_the_return() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let world = World::new(|seen| match seen.id() {
        ID => Play::Held(ok(settled(ID))),
        id => Play::Send(ok(settled(id))),
    })
    .await;
    let relay = Relay::to(&world.redis.url()).await;
    let a = world.replica().await;
    let c = world.replica_with(&format!("cache.shared.url = \"{}\"", relay.url())).await;
    fetch(&c, OTHER).await;
    let mut caller = c.connect().await;
    caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    world.vendor.arrived(2).await;
    relay.cut();
    says(&log, GONE, 1).await;
    assert_eq!(erase_call(&a).await, json!({"removed": 0}));
    world.vendor.release();
    assert_eq!(caller.answer().await.text(), settled(ID));
    relay.mend();
    until(async || !is_known(&c, ID).await).await;
    has(&c, OTHER).await;
    assert!(!world.keys("call").iter().any(|key| key.ends_with(ID)));
}
