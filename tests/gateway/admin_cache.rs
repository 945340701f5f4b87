//! What operators see of the cache, and what is forgotten when they say so.

use serde_json::{Value, json};

use super::{
    records::{ended, settled},
    vendor::{Play, answer, ok},
    world::{ID, PHONE, World},
};

const SEVERAL: &str = "[[workspaces]]\nname = \"main\"\nworkspace_id = \"ws-main\"\napi_key = \"canary-of-main-000001\"\n\
     [[workspaces]]\nname = \"other\"\nworkspace_id = \"ws-other\"\napi_key = \"canary-of-other-00002\"\n";

/// Two workspaces, one forwarded parameter, and a vendor that has every call.
async fn several() -> World {
    let settings =
        format!("lookup.query_forwarded = [\"expand\"]\nlisten.metrics = \"127.0.0.1:0\"\n{SEVERAL}");
    World::with(&settings, |seen| {
        let workspace = seen.one("x-workspace-id");
        Play::Send(ok(settled(seen.id()).replace("ws-main", &workspace)))
    })
    .await
}

fn of_call(id: &str) -> String {
    format!("/cache/{id}")
}

/// How many entries are forgotten.
async fn removed(world: &World, target: &str, fields: &[(&str, &str)]) -> Value {
    let answer = world.gateway.operate("DELETE", target, fields).await;
    assert_eq!((answer.status, answer.one("content-type")), (200, "application/json"), "{}", answer.text());
    answer.json()
}

fn is_hit(answer: &super::world::Answer) -> bool {
    answer.cache().starts_with("callgate; hit")
}

#[tokio::test]
async fn what_is_kept_is_shown_without_its_body() {
    let world = several().await;
    let kept = world.call(ID).await;
    world.get(&format!("/v1/api/call-history/{ID}?expand=a")).await;
    world.get_with(&format!("/calls/{ID}"), &[("x-workspace-id", "ws-other")]).await;
    let shown = world.gateway.operate("GET", &of_call(ID), &[]).await;
    assert_eq!((shown.status, shown.one("cache-control")), (200, "no-store"));
    assert!(!shown.text().contains(PHONE) && !shown.text().contains("ws-main"), "{}", shown.text());
    let shown = shown.json();
    let entry = |at: usize, name: &str| shown["entries"][at][name].clone();
    assert_eq!((&shown["id"], shown["entries"].as_array().map(Vec::len)), (&json!(ID), Some(3)));
    let table =
        [("main", "v1", json!("expand=a")), ("main", "v2", json!(null)), ("other", "v2", json!(null))];
    for (at, (workspace, version, query)) in table.into_iter().enumerate() {
        assert_eq!((entry(at, "workspace"), entry(at, "version")), (json!(workspace), json!(version)));
        assert_eq!((entry(at, "query"), entry(at, "tiers")), (query, json!(["memory"])));
        assert_eq!((entry(at, "class"), entry(at, "status")), (json!("final"), json!(200)));
    }
    assert_eq!(entry(1, "bytes"), json!(kept.body.len()));
    assert_eq!(entry(1, "etag"), json!(kept.one("etag")));
    assert!(entry(1, "ttl").as_i64() > Some(2_500_000) && entry(1, "age").as_i64() < Some(60));
    let fetched = entry(1, "fetched");
    let fetched: jiff::Timestamp = fetched.as_str().expect("a time").parse().expect("a time");
    assert!((jiff::Timestamp::now().as_second() - fetched.as_second()).abs() < 60);
    // One workspace's alone, and what is none.
    let other = world.gateway.operate("GET", &of_call(ID), &[("x-workspace-id", "ws-other")]).await.json();
    assert_eq!(other["entries"], json!([shown["entries"][2]]));
    let head = world.gateway.operate("HEAD", &of_call(ID), &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let unknown = world.gateway.operate("GET", &of_call("unknown"), &[]).await;
    assert_eq!(unknown.problem(), (404, "entry_not_found".into()));
    assert_eq!(world.vendor.requests(), 3, "looking asks nobody");
}

#[tokio::test]
async fn a_404_and_a_settling_call_are_shown_for_what_they_are() {
    let world = World::start(|seen| {
        Play::Send(if seen.id() == "gone" {
            answer("404 Not Found", "", "{}")
        } else {
            ok(ended(seen.id(), 60))
        })
    })
    .await;
    for (id, class, status) in [("gone", "not-found", 404), ("settling", "settling", 200)] {
        world.call(id).await;
        let shown = world.gateway.operate("GET", &of_call(id), &[]).await.json();
        assert_eq!(
            (&shown["entries"][0]["class"], &shown["entries"][0]["status"]),
            (&json!(class), &json!(status))
        );
        assert_eq!(removed(&world, &of_call(id), &[]).await, json!({"removed": 1}));
        assert!(!is_hit(&world.call(id).await), "{id}");
    }
}

#[tokio::test]
async fn what_is_forgotten_is_counted_and_asked_for_anew() {
    let world = several().await;
    let targets =
        [format!("/calls/{ID}"), format!("/v1/api/call-history/{ID}"), format!("/calls/{ID}?expand=a")];
    let other = [("x-workspace-id", "ws-other")];
    for target in &targets {
        world.get(target).await;
        world.get_with(target, &other).await;
    }
    world.call("another").await;
    assert_eq!(removed(&world, &of_call("unknown"), &[]).await, json!({"removed": 0}));
    assert_eq!(
        removed(&world, &of_call(ID), &other).await,
        json!({"removed": 3}),
        "versions and queries together"
    );
    for target in &targets {
        assert!(is_hit(&world.get(target).await), "of the workspace that was not selected");
        assert!(!is_hit(&world.get_with(target, &other).await), "{target}");
    }
    assert_eq!(
        removed(&world, &of_call(ID), &[]).await,
        json!({"removed": 6}),
        "without a selection all of them"
    );
    for target in &targets {
        assert!(!is_hit(&world.get(target).await), "{target}");
    }
    assert!(is_hit(&world.call("another").await));
    assert_eq!(removed(&world, "/cache", &[]).await, json!({"removed": 4}));
    assert_eq!(removed(&world, "/cache", &[]).await, json!({"removed": 0}));
    assert!(!is_hit(&world.call("another").await));
    let purged = "callgate_cache_evictions_total{reason=\"purged\"} 13\n";
    assert!(world.gateway.metrics().await.contains(purged));
}

#[tokio::test]
async fn a_failure_that_is_remembered_is_forgotten_too() {
    let world = World::with("lookup.failure_ttl = \"1h\"", |seen| {
        Play::Send(if seen.number == 1 { answer("500 Oh", "", "{}") } else { ok(settled(seen.id())) })
    })
    .await;
    assert_eq!((world.call(ID).await.status, world.call(ID).await.status), (500, 500));
    assert_eq!(removed(&world, &of_call(ID), &[]).await, json!({"removed": 0}), "it is no entry");
    assert_eq!(world.call(ID).await.status, 200);
    assert_eq!(world.vendor.requests(), 2);
}

#[tokio::test]
async fn what_is_forgotten_while_it_is_fetched_is_answered_and_not_kept() {
    for target in [of_call(ID), "/cache".to_owned()] {
        let world = World::start(|seen| {
            Play::Held(ok(settled(seen.id()).replace('}', &format!(r#","n":{}}}"#, seen.number))))
        })
        .await;
        let mut before = world.gateway.connect().await;
        before.send(super::world::request("GET", &format!("/calls/{ID}"), &[])).await;
        world.vendor.arrived(1).await;
        assert_eq!(removed(&world, &target, &[]).await, json!({"removed": 0}));
        // Who comes afterwards does not join what began before.
        let mut after = world.gateway.connect().await;
        after.send(super::world::request("GET", &format!("/calls/{ID}"), &[])).await;
        world.vendor.arrived(2).await;
        world.vendor.release();
        let (before, after) = (before.answer().await, after.answer().await);
        // Either may land first.
        assert!(before.cache().ends_with("; fwd-status=200; detail=purged"), "{}", before.cache());
        assert!(after.cache().ends_with("; fwd-status=200; stored"), "{}", after.cache());
        let kept = world.call(ID).await;
        assert_eq!((is_hit(&kept), kept.text()), (true, after.text()), "that of the second alone");
        assert_ne!(before.text(), after.text());
    }
}

#[tokio::test]
async fn what_makes_no_sense_or_comes_from_elsewhere_removes_nothing() {
    let world = several().await;
    world.call(ID).await;
    let none: &[(&str, &str)] = &[];
    let by_id = of_call(ID);
    let long = of_call(&"a".repeat(129));
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let table: [Row<'_>; 23] = [
        ("DELETE", "/cache/", none, 400, "invalid_call_id"),
        ("DELETE", "/cache/a.b", none, 400, "invalid_call_id"),
        ("DELETE", "/cache/a/b", none, 400, "invalid_call_id"),
        ("DELETE", "/cache//", none, 400, "invalid_call_id"),
        ("DELETE", "/cache/%2e%2e", none, 400, "invalid_call_id"),
        ("GET", &long, none, 400, "invalid_call_id"),
        ("DELETE", "/cache?id=a", none, 400, "unexpected_query"),
        ("DELETE", &format!("{by_id}?expand=a"), none, 400, "unexpected_query"),
        ("DELETE", "/cache", &[("x-workspace-id", "ws-none")], 403, "unknown_workspace"),
        ("DELETE", &by_id, &[("x-workspace-id", "ws-none")], 403, "unknown_workspace"),
        ("GET", &by_id, &[("x-workspace-id", "main")], 403, "unknown_workspace"),
        (
            "DELETE",
            &by_id,
            &[("x-workspace-id", "ws-main"), ("x-workspace-id", "ws-other")],
            400,
            "invalid_request",
        ),
        ("DELETE", "/cached", none, 404, "route_not_found"),
        ("DELETE", "/Cache", none, 404, "route_not_found"),
        ("GET", "/cache", none, 405, "method_not_allowed"),
        ("POST", "/cache", none, 405, "method_not_allowed"),
        ("PURGE", &by_id, none, 405, "method_not_allowed"),
        ("DELETE", "/metrics", none, 405, "method_not_allowed"),
        ("DELETE", "/cache", &[("origin", "http://evil.test")], 403, "cross_site_request"),
        ("DELETE", "/cache", &[("origin", "null")], 403, "cross_site_request"),
        ("DELETE", &by_id, &[("sec-fetch-site", "cross-site")], 403, "cross_site_request"),
        ("DELETE", &by_id, &[("sec-fetch-site", "same-site")], 403, "cross_site_request"),
        ("OPTIONS", "/cache", &[("origin", "http://evil.test")], 403, "cross_site_request"),
    ];
    for (method, target, fields, status, code) in table {
        let refused = world.gateway.operate(method, target, fields).await;
        assert_eq!(refused.problem(), (status, code.into()), "{method} {target} {fields:?}");
        let allow = match target {
            "/cache" => "DELETE",
            "/metrics" => "GET, HEAD",
            _ => "DELETE, GET, HEAD",
        };
        assert_eq!(refused.field("allow"), (status == 405).then_some(allow), "{method} {target}");
    }
    let mut caller = super::world::Caller::connect(world.gateway.admin).await;
    caller.send(format!("DELETE {by_id} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{{}}")).await;
    let refused = caller.rest().await;
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("unexpected_body"), "{refused}");
    let mut caller = super::world::Caller::connect(world.gateway.admin).await;
    caller.send(format!("DELETE {by_id} HTTP/1.1\r\nhost: evil.test\r\n\r\n")).await;
    assert_eq!(caller.answer().await.problem(), (421, "misdirected_request".into()));
    assert!(is_hit(&world.call(ID).await), "nothing was removed");
    // The page of the endpoint itself may.
    let own = [("origin", "http://localhost"), ("sec-fetch-site", "same-origin"), ("content-length", "0")];
    assert_eq!(removed(&world, &by_id, &own).await, json!({"removed": 1}));
}

#[tokio::test]
async fn who_may_only_look_reaches_none_of_it() {
    let mut world = several().await;
    world.call(ID).await;
    let operators = world.gateway.admin;
    world.gateway.admin = world.gateway.scraping.expect("an address");
    for (method, target) in [
        ("GET", of_call(ID)),
        ("DELETE", of_call(ID)),
        ("DELETE", "/cache".to_owned()),
        ("GET", "/cache".to_owned()),
    ] {
        let refused = world.gateway.operate(method, &target, &[]).await;
        assert_eq!(refused.problem(), (404, "route_not_found".into()), "{method} {target}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(world.gateway.operate("GET", path, &[]).await.status, 200);
        let refused = world.gateway.operate("DELETE", path, &[]).await;
        assert_eq!((refused.problem().0, refused.one("allow")), (405, "GET, HEAD"));
    }
    assert!(is_hit(&world.call(ID).await));
    world.gateway.admin = operators;
    assert_eq!(world.gateway.operate("GET", &of_call(ID), &[]).await.status, 200);
}
