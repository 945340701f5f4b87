//! One call asked for in every way that might make it two entries, or one entry of what belongs to somebody else.

use super::{
    records::{id, settled},
    vendor::{Play, ok},
    world::{Caller, World, request},
};

/// Fields that a cache might take for part of what is asked, or a server for another request.
const FIELDS: &[(&str, &str)] = &[
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "9090"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-prefix", "/metrics"),
    ("forwarded", "for=127.0.0.1;host=evil.example"),
    ("x-original-url", "/metrics"),
    ("x-rewrite-url", "/metrics"),
    ("x-http-method-override", "DELETE"),
    ("x-http-method", "POST"),
    ("x-method-override", "PURGE"),
    ("range", "bytes=0-3"),
    ("range", "bytes=0-0,2-2,4-4"),
    ("if-range", "\"x\""),
    ("if-match", "\"x\""),
    ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
    ("accept", "text/html"),
    ("accept-encoding", "br, gzip;q=0"),
    ("accept-language", "xx"),
    ("accept-charset", "utf-16"),
    ("cookie", "session=theirs"),
    ("authorization", "Bearer theirs"),
    ("x-api-key", "theirs"),
    ("pragma", "no-cache"),
    ("cache-control", "no-cache, no-store, max-age=0"),
    ("te", "trailers, gzip"),
    ("prefer", "return=minimal"),
    ("save-data", "on"),
    ("origin", "http://localhost"),
    ("user-agent", "x"),
    ("content-type", "text/css"),
    ("connection", "x-workspace-id, host, cache-control"),
];

async fn world() -> World {
    World::start(|seen| Play::Send(ok(settled(seen.id())))).await
}

#[tokio::test]
async fn whoever_asks_first_and_however_all_get_the_same_bytes() {
    let world = world().await;
    for (n, field) in FIELDS.iter().enumerate() {
        let (target, record) = (format!("/calls/{}", id(n)), settled(&id(n)));
        let first = world.get_with(&target, &[*field]).await;
        let plain = world.get(&target).await;
        let again = world.get_with(&target, &[*field]).await;
        assert_eq!((first.status, first.text()), (200, record.clone()), "{field:?}");
        for (kept, whose) in [(&plain, "of the next"), (&again, "of the same")] {
            assert_eq!((kept.status, kept.text()), (200, record.clone()), "{whose} {field:?}");
            assert_eq!(kept.one("etag"), first.one("etag"));
            assert!(kept.cache().starts_with("callgate; hit"), "{whose} {field:?}: {}", kept.cache());
        }
        assert_eq!(world.vendor.requests(), n + 1, "{field:?}");
    }
}

#[tokio::test]
async fn hosts_versions_methods_and_ignored_parameters_are_one_entry() {
    let world = world().await;
    for (n, first) in
        ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080", "192.168.0.9"].iter().enumerate()
    {
        let mut asked = 0;
        for host in [*first, "localhost", "127.0.0.1:80", "[::1]"] {
            for line in [
                "GET /calls/{} HTTP/1.1",
                "GET /calls/{} HTTP/1.0",
                "HEAD /v2/api/call-history/{} HTTP/1.1",
                "GET /calls/{}?_=17 HTTP/1.1",
            ] {
                let line = line.replace("{}", &id(n));
                let text =
                    world.gateway.raw(format!("{line}\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
                let expected = if asked == 0 { "; stored\r\n" } else { "cache-status: callgate; hit" };
                assert!(text.contains(" 200 OK\r\n") && text.contains(expected), "{line} at {host}: {text}");
                assert_eq!(
                    text.ends_with(&settled(&id(n))),
                    line.starts_with("GET"),
                    "{line} at {host}: {text}"
                );
                asked += 1;
            }
        }
        assert_eq!(world.vendor.requests(), n + 1, "{first}");
    }
}

#[tokio::test]
async fn head_first_keeps_the_whole_record_for_get() {
    let world = world().await;
    let target = format!("/calls/{}", id(1));
    let head = world.gateway.ask("HEAD", &target, &[("range", "bytes=0-0")]).await;
    assert_eq!(head.number("content-length"), settled(&id(1)).len() as u64);
    let get = world.get(&target).await;
    assert!(get.cache().starts_with("callgate; hit"));
    assert_eq!((get.text(), get.one("etag")), (settled(&id(1)), head.one("etag")));
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_suffix_or_an_unknown_parameter_makes_no_entry_of_its_own() {
    let world = world().await;
    world.call(&id(1)).await;
    for suffix in [
        ".css",
        ".js",
        "/x.css",
        ";x.css",
        "%2fx.css",
        "%00.css",
        "%0a.css",
        "?x.css",
        "?utm_source=a",
        "?callback=b",
        "?v=1&_=2",
        "#.css",
    ] {
        let target = format!("/calls/{}{suffix}", id(1));
        let mut caller = Caller::connect(world.gateway.address).await;
        caller.send(request("GET", &target, &[("connection", "close")])).await;
        let text = caller.rest().await;
        assert!(text.starts_with("HTTP/1.1 400 ") && !text.contains("completed"), "{target}: {text}");
    }
    assert_eq!(world.vendor.requests(), 1);
}
