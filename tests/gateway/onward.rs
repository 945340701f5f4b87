//! What is sent to the vendor: a request built anew, its every field known.

use super::{
    records::{id, settled},
    vendor::{Play, Seen, ok},
    world::{ID, KEY, WORKSPACE, World, request},
};

async fn world() -> World {
    World::start(|seen| Play::Send(ok(settled(seen.id())))).await
}

/// Holds a request to the list of contract: these fields, once each, and no others.
fn is_ours(seen: &Seen, host: &str, target: &str) {
    assert!(seen.head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{}", seen.head);
    let mut names: Vec<_> = seen.fields().into_iter().map(|(name, _)| name).collect();
    names.sort();
    let expected = [
        "accept",
        "accept-encoding",
        "content-type",
        "host",
        "traceparent",
        "user-agent",
        "x-api-key",
        "x-request-id",
        "x-workspace-id",
    ];
    assert_eq!(names, expected, "{}", seen.head);
    for (name, value) in [
        ("host", host),
        ("x-api-key", KEY),
        ("x-workspace-id", WORKSPACE),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", concat!("callgate/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(seen.one(name), value);
    }
}

#[tokio::test]
async fn the_vendor_gets_our_fields_and_nothing_of_the_callers() {
    let world = world().await;
    let host = world.vendor.address.to_string();
    let theirs: [&[(&str, &str)]; 9] = [
        &[],
        &[("x-api-key", "theirs"), ("authorization", "Bearer theirs"), ("cookie", "theirs=1")],
        &[("x-api-key", "theirs"), ("x-api-key", "theirs-too"), ("x_api_key", "theirs")],
        &[("connection", "x-api-key, x-workspace-id"), ("x-api-key", "theirs")],
        &[
            ("connection", "host"),
            ("connection", "x-api-key"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
        ],
        &[("proxy-authorization", "Basic theirs"), ("proxy-connection", "keep-alive"), ("via", "1.1 theirs")],
        &[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-host", "theirs"), ("forwarded", "for=theirs")],
        &[
            ("user-agent", "theirs"),
            ("accept", "text/html"),
            ("accept-encoding", "br"),
            ("range", "bytes=0-1"),
        ],
        &[
            ("if-none-match", "\"theirs\""),
            ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
            ("baggage", "theirs=1"),
        ],
    ];
    for (n, fields) in theirs.into_iter().enumerate() {
        assert_eq!(world.get_with(&format!("/calls/{}", id(n)), fields).await.status, 200, "{fields:?}");
        let seen = world.vendor.seen().pop().expect("a request");
        is_ours(&seen, &host, &format!("/v2/api/call-history/{}", id(n)));
        assert!(!seen.head.contains("theirs"), "{}", seen.head);
    }
    let fields = [("x-api-key", "theirs")];
    assert_eq!(world.get_with("/v1/api/call-history?page=1", &fields).await.status, 200);
    is_ours(&world.vendor.seen().pop().expect("a request"), &host, "/v1/api/call-history?page=1");
}

#[tokio::test]
async fn a_thousand_names_of_fields_carry_nothing_on() {
    let world = world().await;
    let known = [
        "x-apikey",
        "api-key",
        "apikey",
        "x-auth-token",
        "x-api-key-",
        "x-workspace",
        "workspace-id",
        "tracestate",
        "x-b3-traceid",
        "x-amz-date",
        "x-original-url",
        "x-rewrite-url",
        "x-real-ip",
        "true-client-ip",
        "origin-",
        "referer",
        "from",
        "dnt",
        "early-data",
        "priority",
        "max-forwards",
        "x-http-method",
        "content-language",
        "content-location",
        "digest",
        "last-event-id",
        "nel",
        "save-data",
        "sec-gpc",
        "upgrade-insecure-requests",
    ];
    let made: Vec<String> = (0..970).map(|n| format!("x-made-{n}")).collect();
    let names: Vec<&str> = known.into_iter().chain(made.iter().map(String::as_str)).collect();
    for (n, some) in names.chunks(60).enumerate() {
        let fields: Vec<_> = some.iter().map(|name| (*name, "theirs")).collect();
        assert_eq!(world.get_with(&format!("/calls/{}", id(n)), &fields).await.status, 200);
    }
    let host = world.vendor.address.to_string();
    for (n, seen) in world.vendor.seen().iter().enumerate() {
        is_ours(seen, &host, &format!("/v2/api/call-history/{}", id(n)));
        assert!(!seen.head.contains("theirs"), "{}", seen.head);
    }
}

#[tokio::test]
async fn callers_credentials_change_neither_key_nor_answer() {
    let world = world().await;
    let fields = [("x-api-key", "theirs"), ("authorization", "Bearer theirs"), ("cookie", "a=b")];
    let target = format!("/calls/{ID}");
    let first = world.get_with(&target, &fields).await;
    let second = world.get(&target).await;
    let third = world.get_with(&target, &[("x-api-key", "others")]).await;
    assert_eq!((first.status, &first.body), (200, &second.body));
    assert!(second.cache().starts_with("callgate; hit") && third.cache().starts_with("callgate; hit"));
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn request_id_and_trace_are_carried_on() {
    let world = world().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = [("x-request-id", "mine-1"), ("traceparent", parent), ("tracestate", "a=b")];
    world.get_with(&format!("/calls/{ID}"), &fields).await;
    let seen = world.vendor.seen().pop().expect("a request");
    assert_eq!(seen.one("x-request-id"), "mine-1");
    let sent = seen.one("traceparent");
    assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && sent.ends_with("-01"), "{sent}");
    assert_ne!(sent, parent, "with a parent of our own");

    // Nonsense is not carried on.
    let fields = [("x-request-id", "a b"), ("traceparent", "00-zz-b7ad6b7169203331-01")];
    let answer = world.get_with(&format!("/calls/{}", id(1)), &fields).await;
    let seen = world.vendor.seen().pop().expect("a request");
    assert_eq!(seen.one("x-request-id"), answer.one("x-request-id"));
    let made = seen.one("traceparent");
    let parts: Vec<usize> = made.split('-').map(str::len).collect();
    assert_eq!(parts, [2, 32, 16, 2], "{made}");
}

#[tokio::test]
async fn a_caller_on_an_old_connection_is_served_alike() {
    let world = world().await;
    let mut caller = world.gateway.connect().await;
    for n in [1, 2, 1, 2, 3] {
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        assert_eq!(caller.answer().await.text(), settled(&id(n)));
    }
    // All at once, answered in order.
    let all: String = [4, 1, 5, 2].map(|n| request("GET", &format!("/calls/{}", id(n)), &[])).concat();
    caller.send(all).await;
    for n in [4, 1, 5, 2] {
        assert_eq!(caller.answer().await.text(), settled(&id(n)));
    }
    assert_eq!(world.vendor.requests(), 5);
}
