//! A tombstone from the future, written while Redis's clock was ahead: it makes no replica deaf to what is erased after
//! it, and forbids nothing for ever.

use std::time::Duration;

use tokio::time::sleep;

use super::world::{World, fetch, is_known, look, until};
use crate::{
    gateway::{
        records::settled,
        vendor::{Play, ok},
        world::{Gateway, ID, WORKSPACE},
    },
    replicas::{redis::available, world::Log},
};

const HOUR: i64 = 3_600 * 1_000_000;

/// What is erased by a clock that is ahead.
const AHEAD: &str = "ahead";

async fn world() -> World {
    World::new(|seen| Play::Send(ok(settled(seen.id())))).await
}

/// Erases a call as a replica would at a time so far from now, in microseconds, and lets everybody know.
fn bury(world: &World, id: &str, ahead: i64) {
    let at = (world.micros() + ahead).to_string();
    world.redis.command(&["ZADD", &world.name("tombstones", ""), &at, &format!("{WORKSPACE}\0{id}")]);
    world.redis.command(&["PUBLISH", &world.name("channel", "erased"), "erased"]);
}

fn unbury(world: &World, id: &str) {
    world.redis.command(&["ZREM", &world.name("tombstones", ""), &format!("{WORKSPACE}\0{id}")]);
}

async fn share(world: &World, replicas: [&Gateway; 2], id: &str) {
    fetch(replicas[0], id).await;
    until(async || world.keys("call").iter().any(|key| key.ends_with(id))).await;
    assert!(look(replicas[1], id).await.cache().ends_with("; detail=shared"));
}

async fn hears_of(world: &World, [a, b]: [&Gateway; 2], id: &str) {
    share(world, [a, b], id).await;
    assert_eq!(a.operate("DELETE", &format!("/cache/{id}"), &[]).await.status, 200);
    until(async || !is_known(b, id).await).await;
}

/// Both have heard of an erasure that lies an hour ahead.
async fn misled(world: &World, [a, b]: [&Gateway; 2]) {
    share(world, [a, b], AHEAD).await;
    // Gone in Redis, as with an erasure; what remains to be forgotten is in memory.
    let call = world.keys("call").into_iter().find(|key| key.ends_with(AHEAD)).expect("kept");
    world.redis.command(&["DEL", &call]);
    bury(world, AHEAD, HOUR);
    until(async || !is_known(a, AHEAD).await && !is_known(b, AHEAD).await).await;
}

#[tokio::test]
async fn later_erasures_are_heard_beside_one_from_the_future_and_after_it() {
    if !available() {
        return;
    }
    let world = world().await;
    let (a, b) = (world.replica().await, world.replica().await);
    misled(&world, [&a, &b]).await;
    hears_of(&world, [&a, &b], "beside").await;
    for stone in [AHEAD, "beside"] {
        unbury(&world, stone);
    }
    hears_of(&world, [&a, &b], "after").await;
}

#[tokio::test]
async fn later_erasures_are_heard_by_way_of_a_redis_that_forgot_it() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut world = world().await;
    let (a, b) = (world.replica().await, world.replica().await);
    misled(&world, [&a, &b]).await;
    world.redis.restart();
    until(async || log.said().iter().filter(|line| line.starts_with("redis is back")).count() == 2).await;
    hears_of(&world, [&a, &b], "after").await;
}

#[tokio::test]
async fn what_is_fetched_after_one_from_the_future_is_kept_here_and_in_time_by_all() {
    if !available() {
        return;
    }
    let world = world().await;
    let (a, b) = (world.replica().await, world.replica().await);
    misled(&world, [&a, &b]).await;
    // As far as the clocks may differ.
    sleep(Duration::from_millis(100)).await;
    for replica in [&a, &b] {
        fetch(replica, AHEAD).await;
        assert!(is_known(replica, AHEAD).await);
        let hit = look(replica, AHEAD).await;
        assert!(hit.cache().starts_with("callgate; hit"), "{}", hit.cache());
    }
    // Nor is it lost with the next erasure, at which each looks through what it has.
    hears_of(&world, [&a, &b], "beside").await;
    assert!(is_known(&a, AHEAD).await && is_known(&b, AHEAD).await);
    // As when its time has come, or its clock was set right: nobody holds on to it.
    unbury(&world, AHEAD);
    let c = world.replica_with("lookup.obey_no_cache = true\n").await;
    let target = format!("/calls/{AHEAD}");
    c.ask("GET", &target, &[("cache-control", "no-cache")]).await;
    until(async || world.keys("call").iter().any(|key| key.ends_with(AHEAD))).await;
    assert!(look(&world.replica().await, AHEAD).await.cache().ends_with("; detail=shared"));
}

#[tokio::test]
async fn a_disk_that_noted_one_from_the_future_is_told_of_later_ones_at_the_next_start() {
    if !available() {
        return;
    }
    let world = world().await;
    let file = world.path("state").join("calls");
    let disk = [("CALLGATE__CACHE__DISK__PATH", file.to_str().expect("text"))];
    let (a, mut d) = (world.replica().await, world.program(&disk).await);
    for id in [ID, AHEAD, "sign"] {
        fetch(&a, id).await;
        until(async || world.keys("call").iter().any(|key| key.ends_with(id))).await;
        assert_eq!(d.call(id).await.status, 200);
    }
    d.holds(3).await;
    let kept = world.redis.command(&["KEYS", "callgate:1:*:call:*"]);
    kept.lines().filter(|key| !key.ends_with(ID)).for_each(|key| drop(world.redis.command(&["DEL", key])));
    // The second is heard once the first is noted.
    for (id, ahead, left) in [(AHEAD, HOUR, 2), ("sign", HOUR + 1_000_000, 1)] {
        bury(&world, id, ahead);
        d.holds(left).await;
    }
    d.kill();
    for id in [AHEAD, "sign"] {
        unbury(&world, id);
    }
    // A Redis whose clock is right again, and one who has never heard of the others.
    let b = world.replica().await;
    assert_eq!(b.operate("DELETE", &format!("/cache/{ID}"), &[]).await.status, 200);
    let mut d = world.program(&disk).await;
    assert_eq!(d.operate("GET", &format!("/cache/{ID}")).await.status, 404);
    d.fetches(ID).await;
}
