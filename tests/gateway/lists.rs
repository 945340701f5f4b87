//! Lists of calls: one spelling, one request, nothing kept.

use super::{
    records::settled,
    vendor::{Play, answer, ok},
    world::{ID, World, request},
};

const LIST: &str = "/v2/api/call-history";

#[tokio::test]
async fn a_list_is_passed_on_and_never_kept() {
    let body = format!(r#"{{"calls":[{}],"total":1}}"#, settled(ID));
    let world = World::saying(ok(&body)).await;
    for path in [LIST, LIST, "/v1/api/call-history"] {
        let list = world.get(path).await;
        assert_eq!((list.status, list.text()), (200, body.clone()));
        assert_eq!(list.cache(), "callgate; fwd=uri-miss; fwd-status=200; detail=list");
        assert_eq!(list.one("cache-control"), "no-store");
        assert_eq!(list.field("age"), None);
        assert!(list.field("etag").is_some());
    }
    assert_eq!(world.vendor.requests(), 3);
    let sent: Vec<_> = world.vendor.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(sent, [LIST, LIST, "/v1/api/call-history"]);
}

#[tokio::test]
async fn equal_lists_are_sent_in_one_spelling() {
    let world = World::saying(ok("[]")).await;
    let table = [
        ("limit=10&page=2", "?limit=10&page=2"),
        ("page=2&_=17&limit=1%30", "?limit=10&page=2"),
        ("b=2&a=3&b=1", "?a=3&b=2&b=1"),
        ("callIds=[%22x%22]&search=a%20b", "?callIds=%5B%22x%22%5D&search=a+b"),
        ("_=17", ""),
        ("apiKey=x%0d%0ay:z%23", "?apiKey=x%0D%0Ay%3Az%23"),
    ];
    for (query, _) in table {
        assert_eq!(world.get(&format!("{LIST}?{query}")).await.status, 200, "{query}");
    }
    for (seen, (query, expected)) in world.vendor.seen().iter().zip(table) {
        assert_eq!(seen.target(), format!("{LIST}{expected}"), "{query}");
    }
}

#[tokio::test]
async fn equal_lists_at_one_time_are_one_request() {
    let world = World::start(|_| Play::Held(ok("[]"))).await;
    let mut callers = Vec::new();
    for n in 0..20 {
        let mut caller = world.gateway.connect().await;
        let query = ["page=2&limit=10", "limit=10&page=2", "limit=10&_=9&p%61ge=2"][n % 3];
        let method = if n % 5 == 0 { "HEAD" } else { "GET" };
        caller.send(request(method, &format!("{LIST}?{query}"), &[])).await;
        callers.push((method, caller));
    }
    world.gateway.settle().await;
    world.vendor.release();
    let mut collapsed = 0;
    for (method, mut caller) in callers {
        let answer = caller.answer_to(method).await;
        assert_eq!(answer.status, 200);
        let status = answer.cache().strip_prefix("callgate; fwd=uri-miss; fwd-status=200; detail=list");
        collapsed += usize::from(status.expect("a list") == "; collapsed");
    }
    assert_eq!((world.vendor.requests(), collapsed), (1, 19));
}

#[tokio::test]
async fn lists_are_kept_where_the_settings_say_so() {
    let world = World::with("lists.ttl = \"9s\"", |_| Play::Send(ok("[]"))).await;
    let first = world.get(&format!("{LIST}?page=1")).await;
    assert_eq!(first.cache(), "callgate; fwd=uri-miss; fwd-status=200; stored");
    assert!(world.get(&format!("{LIST}?page=1&_=3")).await.cache().starts_with("callgate; hit; ttl="));
    assert!(!world.get(&format!("{LIST}?page=2")).await.cache().contains("hit"));
    assert_eq!(world.vendor.requests(), 2);
}

#[tokio::test]
async fn a_list_holds_other_workspaces_keys_as_little_as_a_record_does() {
    let world = World::saying(ok(format!(r#"[{{"k":"{}"}}]"#, super::world::KEY))).await;
    assert_eq!(world.get(LIST).await.problem(), (502, "upstream_leaked_credential".into()));
    let missing = World::saying(answer("404 Not Found", "", "")).await;
    assert_eq!(missing.get(LIST).await.status, 404);
    assert!(missing.get(LIST).await.cache().ends_with("detail=failure"), "no list is no missing call");
}
