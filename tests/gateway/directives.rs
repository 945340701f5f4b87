//! A caller's own `Cache-Control`: advisory, unless `lookup.obey_no_cache` says otherwise.

use super::{
    records::{ongoing, settled},
    vendor::{Play, ok},
    world::{ID, World},
};

fn target() -> String {
    format!("/calls/{ID}")
}

const OBEY: &str = "lookup.obey_no_cache = true";

#[tokio::test]
async fn only_if_cached_asks_nobody() {
    let world = World::saying(ok(settled(ID))).await;
    let wanted = [("cache-control", "only-if-cached")];
    let miss = world.get_with(&target(), &wanted).await;
    assert_eq!(miss.problem(), (504, "not_cached".into()));
    assert_eq!(miss.cache(), "callgate; fwd=uri-miss; detail=not_cached");
    assert_eq!(world.vendor.requests(), 0);
    world.call(ID).await;
    let hit = world.get_with(&target(), &wanted).await;
    assert!(hit.status == 200 && hit.cache().starts_with("callgate; hit"));
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn no_cache_is_not_obeyed_unless_the_settings_say_so() {
    let world = World::saying(ok(settled(ID))).await;
    world.call(ID).await;
    for field in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "no-store"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
    ] {
        let hit = world.get_with(&target(), &[field]).await;
        assert!(hit.cache().starts_with("callgate; hit"), "{field:?}");
    }
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn no_cache_fetches_anew_and_keeps_what_came_where_it_is_obeyed() {
    let world = World::with(OBEY, |_| Play::Send(ok(settled(ID)))).await;
    world.call(ID).await;
    for (n, field) in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "x, No-Cache"),
        ("pragma", "no-cache"),
    ]
    .into_iter()
    .enumerate()
    {
        let anew = world.get_with(&target(), &[field]).await;
        assert_eq!(anew.cache(), "callgate; fwd=request; fwd-status=200; stored", "{field:?}");
        assert_eq!(anew.number("age"), 0);
        assert_eq!(world.vendor.requests(), n + 2);
    }
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
    assert!(world.get_with(&target(), &[("cache-control", "max-age=10")]).await.cache().contains("; hit"));
}

#[tokio::test]
async fn no_store_keeps_nothing_where_it_is_obeyed() {
    let world = World::with(OBEY, |_| Play::Send(ok(settled(ID)))).await;
    for _ in 0..2 {
        let passed = world.get_with(&target(), &[("cache-control", "no-store")]).await;
        assert_eq!(passed.cache(), "callgate; fwd=request; fwd-status=200; detail=no-store");
        assert_eq!(passed.one("cache-control"), "no-store");
    }
    assert_eq!(world.call(ID).await.cache(), "callgate; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn what_is_fetched_anew_replaces_no_final_record_by_less() {
    let world = World::with(OBEY, |seen| match seen.number {
        1 => Play::Send(ok(settled(ID))),
        _ => Play::Send(ok(ongoing(ID))),
    })
    .await;
    world.call(ID).await;
    let anew = world.get_with(&target(), &[("cache-control", "no-cache")]).await;
    assert_eq!(anew.text(), settled(ID), "the kept one is served");
    assert_eq!(world.call(ID).await.text(), settled(ID));
}

#[tokio::test]
async fn only_if_cached_and_no_cache_together_find_nothing() {
    let world = World::with(OBEY, |_| Play::Send(ok(settled(ID)))).await;
    world.call(ID).await;
    let both = [("cache-control", "no-cache, only-if-cached")];
    assert_eq!(world.get_with(&target(), &both).await.problem(), (504, "not_cached".into()));
    assert_eq!(world.vendor.requests(), 1);
}
