//! What the settings say about keeping: room, statuses, times. And answers that end in unusual, sound ways.

use super::{
    records::{ended, id, record, settled},
    vendor::{Play, ok},
    world::{ID, World},
};

/// A settled record of about this size.
fn large(id: &str, size: usize) -> String {
    record(id, "completed", &format!(r#","endTime":1680000300,"transcript":"{}""#, "x".repeat(size)))
}

#[tokio::test]
async fn what_is_larger_than_the_whole_cache_is_passed_on() {
    let world = World::with("cache.capacity = \"64KiB\"", |s| Play::Send(ok(large(s.id(), 80_000)))).await;
    for _ in 0..2 {
        let answer = world.call(ID).await;
        assert_eq!(answer.body.len(), large(ID, 80_000).len());
        assert_eq!(answer.cache(), "callgate; fwd=uri-miss; fwd-status=200; detail=too-large");
        assert_eq!(answer.one("cache-control"), "no-store");
    }
    assert_eq!(world.vendor.requests(), 2);
}

#[tokio::test]
async fn the_capacity_holds_whatever_is_asked_for() {
    let world = World::with("cache.capacity = \"64KiB\"", |s| Play::Send(ok(large(s.id(), 5_000)))).await;
    for n in 0..40 {
        assert_eq!(world.call(&id(n)).await.status, 200);
    }
    let metrics = world.gateway.metrics().await;
    let number = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).expect("a line");
        line.rsplit(' ').next().expect("a number").parse().expect("a number")
    };
    let (entries, bytes) =
        (number("callgate_cache_entries{tier=\"memory\"}"), number("callgate_cache_bytes{tier=\"memory\"}"));
    assert!((1..=12).contains(&entries) && (5_000..=65_536).contains(&bytes), "{entries} {bytes}");
    assert_eq!(number("callgate_cache_evictions_total{reason=\"size\"}"), 40 - entries);
    assert!(world.call(&id(39)).await.cache().starts_with("callgate; hit"), "the last one is there");
    assert!(!world.call(&id(0)).await.cache().contains("hit"), "the first one had to go");
}

#[tokio::test]
async fn which_statuses_are_final_is_for_the_settings_to_say() {
    let settings = "lookup.final_statuses = [\"Archived\"]";
    let world = World::with(settings, |seen| {
        let status = if seen.id() == ID { "archived" } else { "completed" };
        Play::Send(ok(record(seen.id(), status, r#","endTime":1680000300"#)))
    })
    .await;
    assert!(world.call(ID).await.cache().ends_with("; stored"));
    assert!(world.call(&id(1)).await.cache().ends_with("; detail=ongoing"));
}

#[tokio::test]
async fn when_a_call_has_settled_is_for_the_settings_to_say() {
    for (settle_after, ago, settled) in [("5m", 400, true), ("10m", 400, false), ("0s", 1, true)] {
        let settings = format!("lookup.settle_after = \"{settle_after}\"");
        let world = World::with(&settings, move |seen| Play::Send(ok(ended(seen.id(), ago)))).await;
        let control = world.call(ID).await.one("cache-control").to_owned();
        assert_eq!(control.contains("immutable"), settled, "{settle_after}, {ago} s ago: {control}");
    }
}

#[tokio::test]
async fn nothing_is_kept_where_the_settings_give_it_no_time() {
    let world = World::with("lookup.final_ttl = \"0s\"", |seen| Play::Send(ok(settled(seen.id())))).await;
    for _ in 0..2 {
        let answer = world.call(ID).await;
        assert_eq!(answer.cache(), "callgate; fwd=uri-miss; fwd-status=200; detail=no-lifetime");
        assert_eq!(answer.one("cache-control"), "no-store");
    }
    assert_eq!(world.vendor.requests(), 2);
}

#[tokio::test]
async fn an_answer_may_end_with_its_connection() {
    let world = World::start(|seen| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
        Play::ThenClose(format!("{head}{}", settled(seen.id())).into())
    })
    .await;
    assert_eq!(world.call(ID).await.text(), settled(ID));
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
}

#[tokio::test]
async fn half_an_answer_that_ends_with_its_connection_is_not_kept() {
    let world = World::start(|seen| {
        let body = settled(seen.id());
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
        Play::ThenClose(format!("{head}{}", &body[..body.len() - 4]).into())
    })
    .await;
    for _ in 0..2 {
        // HTTP cannot tell that it was cut, and the record can.
        assert!(world.call(ID).await.cache().ends_with("; detail=suspect"));
    }
    assert_eq!(world.vendor.requests(), 2);
}
