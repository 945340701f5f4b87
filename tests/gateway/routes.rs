//! Which paths there are, which of them are one entry, and what a query may say.

use super::{
    records::{id, settled},
    vendor::{Play, ok},
    world::{Answer, ID, World},
};

async fn world(settings: &str) -> World {
    World::with(settings, |seen| Play::Send(ok(settled(seen.id())))).await
}

fn is_hit(answer: &Answer) -> bool {
    answer.cache().starts_with("callgate; hit")
}

#[tokio::test]
async fn the_gateways_own_name_shares_the_entries_of_v2_and_v1_has_its_own() {
    let world = world("").await;
    assert!(!is_hit(&world.get(&format!("/calls/{ID}")).await));
    assert!(is_hit(&world.get(&format!("/v2/api/call-history/{ID}")).await));
    assert!(!is_hit(&world.get(&format!("/v1/api/call-history/{ID}")).await));
    assert!(is_hit(&world.get(&format!("/v1/api/call-history/{ID}")).await));
    let targets: Vec<_> = world.vendor.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, [format!("/v2/api/call-history/{ID}"), format!("/v1/api/call-history/{ID}")]);
}

#[tokio::test]
async fn ids_differ_by_every_byte_and_both_kinds_are_served() {
    let world = world("").await;
    let ids =
        [ID, "69CF4B468D2A8A6A8E39B684", "00000000013bd867b55ca000-00t00imaqj", "_", "-", &"a".repeat(128)];
    for id in ids {
        let answer = world.call(id).await;
        assert_eq!((answer.status, is_hit(&answer)), (200, false), "{id}");
        assert_eq!(answer.text(), settled(id));
        assert!(is_hit(&world.call(id).await), "{id}");
    }
    assert_eq!(world.vendor.requests(), ids.len());
}

#[tokio::test]
async fn what_is_no_path_here_reaches_nobody() {
    let world = world("").await;
    let table = [
        ("GET", "/", 404, "route_not_found"),
        ("GET", "/calls", 404, "route_not_found"),
        ("GET", "/v3/api/call-history/a", 404, "route_not_found"),
        ("GET", "/V2/api/call-history/a", 404, "route_not_found"),
        ("GET", "/v2/api/recordings/a", 404, "route_not_found"),
        ("POST", "/v2/api/call-history/export-csv", 405, "method_not_allowed"),
        ("GET", "/metrics", 404, "route_not_found"),
        ("GET", "/healthz", 404, "route_not_found"),
        ("DELETE", "/cache", 404, "route_not_found"),
        ("GET", "//calls/a", 404, "route_not_found"),
        ("GET", "/calls/../metrics", 400, "invalid_call_id"),
        ("GET", "/calls/%2e%2e", 400, "invalid_call_id"),
        ("GET", "/calls/a%2fb", 400, "invalid_call_id"),
        ("GET", "/calls/a.css", 400, "invalid_call_id"),
        ("GET", "/calls/a;b", 400, "invalid_call_id"),
        ("GET", "/calls/a%00", 400, "invalid_call_id"),
        ("GET", "/calls/a%0d%0ax-api-key:b", 400, "invalid_call_id"),
        ("GET", "/calls/", 400, "invalid_call_id"),
        ("GET", "/calls/a/", 400, "invalid_call_id"),
        ("GET", &format!("/calls/{}", "a".repeat(129)), 400, "invalid_call_id"),
        ("POST", "/calls/a", 405, "method_not_allowed"),
        ("PUT", "/calls/a", 405, "method_not_allowed"),
        ("DELETE", "/calls/a", 405, "method_not_allowed"),
        ("TRACE", "/calls/a", 405, "method_not_allowed"),
        ("OPTIONS", "/calls/a", 405, "method_not_allowed"),
        ("OPTIONS", "*", 405, "method_not_allowed"),
        ("get", "/calls/a", 405, "method_not_allowed"),
        ("PATCH", "/v1/api/call-history", 405, "method_not_allowed"),
    ];
    for (method, target, status, code) in table {
        let answer = world.gateway.ask(method, target, &[]).await;
        assert_eq!(answer.problem(), (status, code.into()), "{method} {target}");
        assert_eq!(answer.field("allow"), (status == 405).then_some("GET, HEAD"), "{method} {target}");
        assert_eq!(answer.field("cache-status"), None, "the cache had no part in it");
    }
    assert_eq!(world.vendor.connections(), 0);
}

#[tokio::test]
async fn absolute_targets_are_served_for_our_own_host_alone() {
    let world = world("").await;
    let own = world.get(&format!("http://localhost/calls/{ID}")).await;
    assert_eq!(own.status, 200);
    let elsewhere = world.get(&format!("http://api.trillet.ai/calls/{ID}")).await;
    assert_eq!(elsewhere.problem(), (400, "invalid_host".into()));
    let tunnel = world.gateway.ask("CONNECT", "api.trillet.ai:443", &[]).await;
    assert_eq!(tunnel.status, 405);
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_query_that_may_change_the_answer_is_refused_unless_it_is_known() {
    let world = world("lookup.query_forwarded = [\"expand\"]").await;
    let target = |query: &str| format!("/calls/{ID}?{query}");
    for query in ["", "_=1700000000", "_=2&_=3", "%5f=1", "&"] {
        assert_eq!(world.get(&target(query)).await.status, 200, "{query}");
    }
    assert_eq!(world.vendor.requests(), 1, "all of them one entry");
    for query in ["x=1", "x", "Expand=1", "=1", "_=1&apiKey=b"] {
        let refused = world.get(&target(query)).await;
        assert_eq!(refused.problem(), (400, "unexpected_query".into()), "{query}");
        assert!(!refused.text().contains("=b"), "no value comes back");
    }
    assert_eq!(world.get(&target("%ff=1")).await.problem(), (400, "invalid_request".into()));
    assert_eq!(world.vendor.requests(), 1);

    for (query, hit) in [("expand=a%20b", false), ("expand=a+b&_=1", true), ("expand=c", false)] {
        assert_eq!(is_hit(&world.get(&target(query)).await), hit, "{query}");
    }
    let sent: Vec<_> = world.vendor.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert!(sent[1].ends_with("?expand=a+b") && sent[2].ends_with("?expand=c"), "{sent:?}");
}

#[tokio::test]
async fn purging_is_no_matter_of_callers() {
    let world = world("").await;
    world.call(ID).await;
    for (method, target) in [
        ("DELETE", format!("/calls/{ID}")),
        ("DELETE", format!("/cache/{ID}")),
        ("PURGE", format!("/calls/{ID}")),
    ] {
        assert!(world.gateway.ask(method, &target, &[]).await.status >= 404);
    }
    assert!(is_hit(&world.call(ID).await));
    assert_eq!(world.call(&id(1)).await.status, 200);
}
