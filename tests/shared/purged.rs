//! Nothing of before an erasure comes back: not with a fetch that was in the air, not from a Redis that still has it or
//! has it again, not in a list; and an erasure in one workspace is none in another.

use serde_json::json;

use super::world::{World, fetch, is_known, look, until};
use crate::{
    gateway::{
        records::settled,
        vendor::{Play, Seen, ok},
        world::{Answer, Gateway, ID, request},
    },
    replicas::{redis::available, world::Log},
};

const OTHER: &str = "another";
const TARGET: &str = "/calls/69cf4b468d2a8a6a8e39b684";

/// A call of long ago that shows with which request it came.
fn numbered(seen: &Seen) -> String {
    said(seen.id(), seen.number)
}

fn said(id: &str, number: usize) -> String {
    settled(id).replace('}', &format!(r#","n":{number}}}"#))
}

async fn erase(gateway: &Gateway, target: &str, fields: &[(&str, &str)]) -> serde_json::Value {
    let answer = gateway.operate("DELETE", target, fields).await;
    assert_eq!(answer.status, 200);
    answer.json()
}

async fn erase_call(gateway: &Gateway) {
    erase(gateway, &format!("/cache/{ID}"), &[]).await;
}

/// The name of what Redis has of the call.
fn call(world: &World) -> Option<String> {
    world.keys("call").into_iter().find(|key| key.ends_with(ID))
}

fn is_hit(answer: &Answer) -> bool {
    answer.cache().starts_with("callgate; hit")
}

/// A caller at each of two replicas asks after an erasure at the first, while a fetch of before hangs at the one that
/// is named.
async fn asks_after(holder: usize) {
    let world = World::new(|seen| match seen.number {
        1 => Play::Held(ok(numbered(seen))),
        _ => Play::Send(ok(numbered(seen))),
    })
    .await;
    let replicas = [world.replica().await, world.replica().await];
    let [a, b] = &replicas;
    let mut before = replicas[holder].connect().await;
    before.send(request("GET", TARGET, &[])).await;
    world.vendor.arrived(1).await;
    fetch(a, OTHER).await;
    until(async || world.keys("call").len() == 1).await;
    look(b, OTHER).await;
    erase_call(a).await;
    // The other one goes with it as a sign that it has been heard of: what was erased is read in its order.
    erase(a, &format!("/cache/{OTHER}"), &[]).await;
    until(async || !is_known(b, OTHER).await).await;
    for replica in &replicas {
        replica.settle().await;
    }
    let mut after = Vec::new();
    for replica in &replicas {
        let mut caller = replica.connect().await;
        caller.send(request("GET", TARGET, &[])).await;
        after.push(caller);
        replica.settle().await;
    }
    world.vendor.release();
    assert_eq!(before.answer().await.text(), said(ID, 1));
    for caller in &mut after {
        assert_eq!(caller.answer().await.text(), said(ID, 3), "holder {holder}");
    }
    assert_eq!(world.vendor.requests(), 3);
    for replica in &replicas {
        let kept = look(replica, ID).await;
        assert_eq!((is_hit(&kept), kept.text()), (true, said(ID, 3)), "{}", kept.cache());
    }
    until(async || call(&world).is_some()).await;
    assert_eq!(look(&world.replica().await, ID).await.text(), said(ID, 3));
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn a_purged_flight_hands_nothing_to_who_asks_after_at_its_own_replica_or_another() {
    if !available() {
        return;
    }
    asks_after(0).await;
    asks_after(1).await;
}

#[tokio::test]
async fn what_redis_still_has_or_has_again_is_neither_served_nor_kept() {
    if !available() {
        return;
    }
    let world = World::new(|seen| Play::Send(ok(numbered(seen)))).await;
    let (a, b) = (world.replica().await, world.replica().await);
    fetch(&a, ID).await;
    until(async || call(&world).is_some()).await;
    let name = call(&world).expect("kept");
    world.redis.command(&["COPY", &name, "of-before"]);
    let plant = || world.redis.command(&["COPY", "of-before", &name, "REPLACE"]);
    assert!(look(&b, ID).await.cache().ends_with("; detail=shared"));
    erase_call(&a).await;
    plant();
    until(async || !is_known(&b, ID).await).await;
    // One that starts now reads what was erased before it listens.
    let c = world.replica().await;
    for (replica, number) in [(&a, 2), (&b, 3), (&c, 4)] {
        plant();
        assert!(!is_known(replica, ID).await);
        let answer = look(replica, ID).await;
        assert!(!is_hit(&answer) && answer.text() == said(ID, number), "{}", answer.cache());
        // What is planted next stays there.
        until(async || world.dump().contains(&format!(r#""n":{number}}}"#))).await;
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_as_it_was_before_brings_nothing_back() {
    if !available() {
        return;
    }
    for target in [format!("/cache/{ID}"), "/cache".to_owned()] {
        let log = Log::listen();
        let mut world = World::new(|seen| Play::Send(ok(numbered(seen)))).await;
        let (a, b) = (world.replica().await, world.replica().await);
        fetch(&a, ID).await;
        until(async || call(&world).is_some()).await;
        assert!(look(&b, ID).await.cache().ends_with("; detail=shared"));
        assert_eq!(world.redis.command(&["SAVE"]), "OK");
        assert_eq!(erase(&a, &target, &[]).await, json!({"removed": 1}));
        until(async || !is_known(&b, ID).await).await;
        // It reads the file again.
        world.redis.restart();
        assert!(call(&world).is_some());
        until(async || log.said().iter().filter(|line| line.starts_with("redis is back")).count() == 2).await;
        for replica in [&a, &b] {
            assert!(!is_known(replica, ID).await);
        }
        for replica in [&b, &a] {
            assert_ne!(look(replica, ID).await.text(), said(ID, 1));
        }
        // Nor does one that did not know of it get it, from now on.
        let c = world.replica().await;
        assert_ne!(look(&c, ID).await.text(), said(ID, 1));
    }
}

#[tokio::test]
async fn a_state_of_before_is_emptied_even_where_nobody_asks() {
    if !available() {
        return;
    }
    let mut world = World::new(|seen| Play::Send(ok(numbered(seen)))).await;
    let (a, b) = (world.replica().await, world.replica().await);
    fetch(&a, ID).await;
    fetch(&a, OTHER).await;
    until(async || world.keys("call").len() == 2).await;
    assert_eq!(world.redis.command(&["SAVE"]), "OK");
    erase_call(&a).await;
    world.redis.restart();
    until(async || call(&world).is_none()).await;
    assert_eq!(world.keys("call").len(), 1, "the other one stays");
    until(async || look(&b, OTHER).await.cache().starts_with("callgate; hit")).await;
}

#[tokio::test]
async fn a_list_goes_with_a_call_that_was_erased_elsewhere_and_its_query_is_never_in_redis() {
    if !available() {
        return;
    }
    const LIST: &str = "/v2/api/call-history?search=%2B15550999";
    let world = World::new(|seen| match seen.number {
        1 => Play::Held(ok(format!("[{}]", settled(ID)))),
        _ => Play::Send(ok(format!("[{}]", settled(OTHER)))),
    })
    .await;
    let keeping = "lists.ttl = \"1h\"\n";
    let (a, b) = (world.replica_with(keeping).await, world.replica_with(keeping).await);
    let unnamed = |when: &str| assert!(!world.dump().contains("15550999"), "{when}");
    let mut callers = Vec::new();
    for replica in [&b, &a] {
        let mut caller = replica.connect().await;
        caller.send(request("GET", LIST, &[])).await;
        replica.settle().await;
        callers.push(caller);
    }
    world.vendor.arrived(1).await;
    until(async || world.keys("waited").len() == 1).await;
    unnamed("under way");
    world.vendor.release();
    for caller in &mut callers {
        assert_eq!(caller.answer().await.text(), format!("[{}]", settled(ID)));
    }
    assert_eq!(world.vendor.requests(), 1);
    unnamed("landed");
    assert!(is_hit(&b.ask("GET", LIST, &[]).await));
    erase_call(&a).await;
    unnamed("erased");
    until(async || b.ask("GET", LIST, &[]).await.text() == format!("[{}]", settled(OTHER))).await;
    assert_eq!(a.ask("GET", LIST, &[]).await.text(), format!("[{}]", settled(OTHER)));
    unnamed("afterwards");
}

#[tokio::test]
async fn one_workspace_is_forgotten_alone_in_every_tier() {
    if !available() {
        return;
    }
    let world = World::new(|seen| {
        let workspace = seen.one("x-workspace-id");
        Play::Send(ok(numbered(seen).replace("ws-main", &workspace)))
    })
    .await;
    let settings = |name: &str| {
        let disk = world.path(name).join("calls");
        let url = world.redis.url();
        let tables = ["ws-main", "ws-other"].map(|workspace| {
            format!("[[workspaces]]\nworkspace_id = \"{workspace}\"\napi_key = \"canary-of-{workspace}\"\n")
        });
        format!(
            "cache.disk.path = \"{}\"\ncache.shared.url = \"{url}\"\ncache.shared.timeout = \"2s\"\n{}",
            disk.display(),
            tables.concat()
        )
    };
    let (a, b) = (world.replica_with(&settings("a")).await, world.replica_with(&settings("b")).await);
    let ask = async |gateway: &Gateway, workspace| {
        gateway.ask("GET", TARGET, &[("x-workspace-id", workspace)]).await
    };
    let tiers = async |gateway: &Gateway, workspace| {
        let selected = [("x-workspace-id", workspace)];
        let shown = gateway.operate("GET", &format!("/cache/{ID}"), &selected).await;
        if shown.status == 404 { json!([]) } else { shown.json()["entries"][0]["tiers"].clone() }
    };
    let all = json!(["memory", "disk", "shared"]);
    for workspace in ["ws-main", "ws-other"] {
        ask(&a, workspace).await;
        until(async || tiers(&a, workspace).await == all).await;
        assert!(ask(&b, workspace).await.cache().ends_with("; detail=shared"));
        until(async || tiers(&b, workspace).await == all).await;
    }
    assert_eq!(erase(&a, "/cache", &[("x-workspace-id", "ws-other")]).await, json!({"removed": 1}));
    assert_eq!(tiers(&a, "ws-other").await, json!([]));
    until(async || tiers(&b, "ws-other").await == json!([])).await;
    for gateway in [&a, &b] {
        assert_eq!(tiers(gateway, "ws-main").await, all);
        assert!(is_hit(&ask(gateway, "ws-main").await));
        for tier in ["memory", "disk", "shared"] {
            let line = format!("callgate_cache_entries{{tier=\"{tier}\"}} 1\n");
            until(async || gateway.metrics().await.contains(&line)).await;
        }
    }
    assert!(!is_hit(&ask(&b, "ws-other").await));
    assert_eq!(world.vendor.requests(), 3);
}
