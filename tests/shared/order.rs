//! A record in Redis gives way to a newer one alone, whoever says something older, and however late.

use super::world::{World, fetch, look, until};
use crate::{
    gateway::{
        records::{ended, record, settled},
        vendor::{Play, ok},
        world::{Answer, Caller, Gateway, ID, request},
    },
    replicas::redis::available,
};

const TARGET: &str = "/calls/69cf4b468d2a8a6a8e39b684";

/// Asks the vendor, whatever is kept.
const ANEW: [(&str, &str); 1] = [("cache-control", "no-cache")];

/// For a replica that does as its callers wish.
const OBEYING: &str = "lookup.obey_no_cache = true\n";

/// A call that ended long ago, and was last changed so many seconds later.
fn changed(id: &str, later: i64) -> String {
    let time = 1_680_000_300;
    record(id, "completed", &format!(r#","endTime":{time},"updatedAt":{}"#, time + later))
}

/// Waits until all that a replica told Redis so far has reached it: it is told in order.
async fn has_told(world: &World, gateway: &Gateway, sign: &str) {
    fetch(gateway, sign).await;
    until(async || world.keys("call").iter().any(|key| key.ends_with(sign))).await;
}

/// What a replica that knows nothing is given by the others.
async fn shared(world: &World) -> Answer {
    let answer = look(&world.replica().await, ID).await;
    assert!(answer.cache().ends_with("; detail=shared"), "{}", answer.cache());
    answer
}

#[tokio::test]
async fn a_record_with_an_older_change_does_not_replace_a_newer_one() {
    if !available() {
        return;
    }
    let world = World::new(|seen| {
        Play::Send(ok(match (seen.id(), seen.number) {
            (ID, 1) => changed(ID, 20),
            (ID, 2) => changed(ID, 10),
            (ID, _) => changed(ID, 30),
            (id, _) => settled(id),
        }))
    })
    .await;
    let (a, b) = (world.replica().await, world.replica_with(OBEYING).await);
    fetch(&a, ID).await;
    until(async || world.keys("call").len() == 1).await;
    // The vendor's second word is older than its first, and this replica has nothing to compare it with.
    let older = b.ask("GET", TARGET, &ANEW).await;
    assert_eq!(older.text(), changed(ID, 10));
    has_told(&world, &b, "sign").await;
    assert_eq!(shared(&world).await.text(), changed(ID, 20));
    // A newer one does.
    let newer = b.ask("GET", TARGET, &ANEW).await;
    assert_eq!(newer.text(), changed(ID, 30));
    has_told(&world, &b, "other").await;
    assert_eq!(shared(&world).await.text(), changed(ID, 30));
}

#[tokio::test]
async fn an_answer_that_was_given_before_and_comes_late_does_not_remove_it() {
    if !available() {
        return;
    }
    let world = World::new(|seen| match (seen.id(), seen.number) {
        (ID, 1) => Play::Held(ok(ended(ID, 60))),
        (id, _) => Play::Send(ok(settled(id))),
    })
    .await;
    let (a, b) = (world.replica().await, world.replica().await);
    let mut late: Caller = b.connect().await;
    late.send(request("GET", TARGET, &[])).await;
    world.vendor.arrived(1).await;
    // As when the holder was not heard of for so long that its lease ran out.
    let lease = world.keys("lease").remove(0);
    world.redis.command(&["DEL", &lease]);
    fetch(&a, ID).await;
    until(async || world.keys("call").len() == 1).await;
    world.vendor.release();
    assert_eq!(late.answer().await.status, 200);
    has_told(&world, &b, "sign").await;
    assert_eq!(shared(&world).await.text(), settled(ID));
}

#[tokio::test]
async fn one_that_was_given_later_does_remove_it() {
    if !available() {
        return;
    }
    let world = World::new(|seen| match (seen.id(), seen.number) {
        (ID, 2) => Play::Send(ok(ended(ID, 60))),
        (id, _) => Play::Send(ok(settled(id))),
    })
    .await;
    let (a, b) = (world.replica().await, world.replica_with(OBEYING).await);
    fetch(&a, ID).await;
    until(async || world.keys("call").len() == 1).await;
    assert_eq!(b.ask("GET", TARGET, &ANEW).await.status, 200);
    has_told(&world, &b, "sign").await;
    assert!(!world.keys("call").iter().any(|key| key.ends_with(ID)));
}
