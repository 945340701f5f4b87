//! What one replica was told the others know, for as long as it is of use, and a restart does too.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::world::{STORED, World, fetch, look, until};
use crate::{
    gateway::{
        records::{ended, ongoing, settled},
        vendor::{Play, answer, ok},
        world::{Answer, Gateway, ID},
    },
    replicas::redis::available,
};

/// A month and a week: how long a call is of use.
const OF_USE: i64 = 37 * 24 * 3_600 * 1_000;

fn ttl(answer: &Answer) -> u64 {
    let rest = answer.cache().strip_prefix("callgate; hit; ttl=").expect("a hit");
    rest.split(';').next().expect("digits").parse().expect("a number")
}

async fn shared_entries(gateway: &Gateway) -> String {
    let metrics = gateway.metrics().await;
    let name = "callgate_cache_entries{tier=\"shared\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).expect("the tier").to_owned()
}

#[tokio::test]
async fn a_call_that_one_fetched_is_a_hit_at_the_others() {
    if !available() {
        return;
    }
    let fields = "content-type: application/json; charset=utf-8\r\n\
                  last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let world = World::new(move |seen| Play::Send(answer("200 OK", fields, settled(seen.id())))).await;
    let [a, b, c] = world.replicas().await;
    let first = look(&a, ID).await;
    assert_eq!((first.status, first.cache()), (200, STORED));
    until(async || world.keys("call").len() == 1).await;
    // So that an age that began anew would show.
    sleep(Duration::from_millis(1_100)).await;
    for other in [&b, &c] {
        let shared = look(other, ID).await;
        assert_eq!((shared.status, shared.text()), (200, settled(ID)));
        assert!(shared.cache().ends_with("; detail=shared"), "{}", shared.cache());
        assert!(shared.number("age") >= 1 && ttl(&shared) < 30 * 24 * 3_600, "{shared:?}");
        for name in ["etag", "content-type", "last-modified"] {
            assert_eq!(shared.one(name), first.one(name));
        }
        assert!(shared.one("cache-control").ends_with("immutable"));
        let again = look(other, ID).await;
        assert!(!again.cache().contains("detail"), "{}", again.cache());
        assert!(again.number("age") >= shared.number("age") && ttl(&again) <= ttl(&shared));
    }
    assert_eq!(world.vendor.requests(), 1);
    let left = world.left(&world.keys("call")[0]);
    assert!(left > OF_USE - 60_000 && left <= OF_USE + 3_600_000, "{left}");
}

#[tokio::test]
async fn operators_see_which_tiers_have_a_call() {
    if !available() {
        return;
    }
    let world = World::new(|seen| Play::Send(ok(settled(seen.id())))).await;
    let (a, b) = (world.replica().await, world.replica().await);
    assert_eq!(shared_entries(&b).await, "0");
    fetch(&a, ID).await;
    until(async || shared_entries(&b).await == "1").await;
    for (gateway, tiers) in [(&a, json!(["memory", "shared"])), (&b, json!(["shared"]))] {
        let shown = gateway.operate("GET", &format!("/cache/{ID}"), &[]).await.json();
        assert_eq!(shown["entries"][0]["tiers"], tiers);
        assert_eq!(shown["entries"][0]["class"], "final");
        assert_eq!(shown["entries"].as_array().map(Vec::len), Some(1));
    }
    let metrics = b.metrics().await;
    let bytes = metrics.lines().find_map(|line| line.strip_prefix("callgate_cache_bytes{tier=\"shared\"} "));
    assert!(bytes.is_some_and(|bytes| bytes.parse::<u64>().expect("a number") > settled(ID).len() as u64));
}

#[tokio::test]
async fn what_may_still_change_is_not_shared() {
    if !available() {
        return;
    }
    let world = World::new(|seen| {
        Play::Send(match seen.id() {
            "settling" => ok(ended("settling", 60)),
            "ongoing" => ok(ongoing("ongoing")),
            "gone" => answer("404 Not Found", "", "{}"),
            "failing" => answer("500 Internal Server Error", "", "{}"),
            "suspect" => ok("[]"),
            id => ok(settled(id)),
        })
    })
    .await;
    let settings = "lookup.ongoing_ttl = \"1h\"\nlists.ttl = \"1h\"\n";
    let gateway = world.replica_with(settings).await;
    for id in ["settling", "ongoing", "gone", "failing", "suspect"] {
        look(&gateway, id).await;
    }
    gateway.ask("GET", "/v2/api/call-history", &[]).await;
    // Each is told to Redis in the order in which it was kept.
    fetch(&gateway, ID).await;
    until(async || !world.keys("call").is_empty()).await;
    let keys = world.keys("call");
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].ends_with(ID), "{keys:?}");
    assert_eq!(world.keys("lease").len(), 0);
}

#[tokio::test]
async fn a_restart_costs_nothing_where_redis_has_it() {
    if !available() {
        return;
    }
    let world = World::new(|seen| Play::Send(ok(settled(seen.id())))).await;
    let mut before = world.program(&[]).await;
    before.fetches(ID).await;
    until(async || world.keys("call").len() == 1).await;
    before.kill();
    let mut after = world.program(&[]).await;
    let answer = after.call(ID).await;
    assert!(answer.cache().ends_with("; detail=shared"), "{}", answer.cache());
    assert!(!after.call(ID).await.cache().contains("detail"));
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn what_comes_from_others_lies_on_ones_own_disk_afterwards() {
    if !available() {
        return;
    }
    let mut world = World::new(|seen| Play::Send(ok(settled(seen.id())))).await;
    let file = world.path("state").join("calls");
    let disk = [("CALLGATE__CACHE__DISK__PATH", file.to_str().expect("text"))];
    let a = world.replica().await;
    fetch(&a, ID).await;
    until(async || world.keys("call").len() == 1).await;
    let mut b = world.program(&disk).await;
    let answer = b.call(ID).await;
    assert!(answer.cache().ends_with("; detail=shared"), "{}", answer.cache());
    b.holds(1).await;
    let tiers = b.operate("GET", &format!("/cache/{ID}")).await.json()["entries"][0]["tiers"].clone();
    assert_eq!(tiers, json!(["memory", "disk", "shared"]));
    b.kill();
    world.redis.stop();
    let mut b = world.program(&disk).await;
    b.finds_on_disk(ID).await;
    assert_eq!(world.vendor.requests(), 1);
}
