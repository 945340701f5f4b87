//! Framing, sizes, hosts and web pages at the gateway's door: one answer for each request, and nobody asked for what
//! is refused. The guard has the whole table; here are its rows as they look from outside.

use super::{
    records::settled,
    vendor::{Play, ok},
    world::{ID, World, request},
};

async fn world(settings: &str) -> World {
    World::with(settings, |seen| Play::Send(ok(settled(seen.id())))).await
}

#[tokio::test]
async fn a_request_with_a_body_gets_one_answer_and_the_connection_ends() {
    let world = world("").await;
    let inner = request("GET", &format!("/calls/{ID}"), &[]);
    let length = inner.len();
    let framings = [
        format!("content-length: {length}\r\n"),
        "transfer-encoding: chunked\r\n".to_owned(),
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}\r\ncontent-length: {length}\r\n"),
        format!("content-length: +{length}\r\n"),
        "content-length: 0x10\r\n".to_owned(),
        "content-length: 0, 0\r\n".to_owned(),
        "content-length: 18446744073709551617\r\n".to_owned(),
        "transfer-encoding: identity\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding : chunked\r\n".to_owned(),
        "content-length: 1\r\n 0\r\n".to_owned(),
    ];
    // On a miss, and then on a hit.
    for round in 0..2 {
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            for framing in &framings {
                let head = format!("{method} /calls/{ID} HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n");
                let text = world.gateway.raw(format!("{head}{inner}")).await;
                assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}: {text}");
                assert_eq!(text.matches("HTTP/1.").count(), 1, "{head}: {text}");
            }
        }
        assert_eq!(world.vendor.requests(), round);
        world.call(ID).await;
    }
}

#[tokio::test]
async fn a_content_length_of_nothing_upgrade_and_expect_are_no_body() {
    let world = world("").await;
    for fields in [
        "content-length: 0\r\n",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "upgrade: websocket\r\nconnection: upgrade\r\n",
        "expect: 100-continue\r\n",
    ] {
        let first = format!("GET /calls/{ID} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
        let second = request("GET", "/nowhere", &[("connection", "close")]);
        let text = world.gateway.raw(format!("{first}{second}")).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{fields}: {text}");
        assert!(
            text.contains("HTTP/1.1 404 Not Found\r\n"),
            "{fields}: what follows is a request of its own"
        );
        assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{fields}: {text}");
    }
}

#[tokio::test]
async fn a_host_must_be_one_of_ours_and_there_once() {
    let world = world("listen.allowed_hosts = [\"calls.internal\"]").await;
    let table = [
        ("host: localhost\r\n", 200),
        ("Host: LOCALHOST:1234\r\n", 200),
        ("host: 127.0.0.1\r\n", 200),
        ("host: [::1]:8080\r\n", 200),
        ("host: calls.internal:99\r\n", 200),
        ("", 400),
        ("host: localhost\r\nhost: localhost\r\n", 400),
        ("host: localhost, evil.example\r\n", 400),
        ("host: user@localhost\r\n", 400),
        ("host: localhost:port\r\n", 400),
        ("host:\r\n", 400),
        ("host: evil.example\r\n", 421),
        ("host: api.trillet.ai\r\n", 421),
        ("host: localhost.evil.example\r\n", 421),
    ];
    for (host, status) in table {
        let text =
            world.gateway.raw(format!("GET /calls/{ID} HTTP/1.1\r\n{host}connection: close\r\n\r\n")).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{host:?}: {text}");
        match status {
            400 => assert!(text.contains("urn:callgate:problem:invalid_host"), "{host:?}: {text}"),
            421 => assert!(text.contains("urn:callgate:problem:misdirected_request"), "{host:?}: {text}"),
            _ => assert!(text.contains("cache-status: callgate;"), "{host:?}: {text}"),
        }
    }
    let old = world.gateway.raw(format!("GET /calls/{ID} HTTP/1.0\r\n\r\n")).await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n"), "HTTP/1.0 has no host: {old}");
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn web_pages_of_others_are_turned_away() {
    let world = world("").await;
    world.call(ID).await;
    let table = [
        (vec![("origin", "http://localhost")], 200),
        (vec![("sec-fetch-site", "same-origin")], 200),
        (vec![("sec-fetch-site", "none")], 200),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("origin", "http://localhost:3000")], 403),
        (vec![("origin", "http://localhost"), ("origin", "http://localhost")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("sec-fetch-site", "same-site")], 403),
    ];
    for (fields, status) in table {
        // That there is no `access-control-*` is held for every answer.
        let answer = world.get_with(&format!("/calls/{ID}"), &fields).await;
        assert_eq!(answer.status, status, "{fields:?}");
        if status == 403 {
            assert_eq!(answer.problem().1, "cross_site_request");
        }
    }
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "GET")];
    let answer = world.gateway.ask("OPTIONS", &format!("/calls/{ID}"), &preflight).await;
    assert_eq!(answer.status, 403);
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn heads_and_targets_have_their_limits() {
    let world = world("").await;
    let fill = |size: usize| vec![("x-fill", "v".repeat(size))];
    let ask = async |target: &str, fields: Vec<(&str, String)>| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", target, &fields)).await;
        caller.rest().await
    };
    let many = |n: usize| (0..n).map(|_| ("x-a", String::from("1"))).collect::<Vec<_>>();
    let target = format!("/calls/{ID}");
    let long = format!("/v2/api/call-history?search={}", "a".repeat(9_000));
    for (target, fields, status) in [
        (target.as_str(), fill(15_000), 200),
        (&target, many(63), 200),
        (&target, many(64), 431),
        (&target, many(300), 431),
        (&target, fill(17_000), 431),
        (&target, fill(200_000), 431),
        (&long, vec![], 414),
        (&format!("/calls/{}", "a".repeat(70_000)), vec![], 431),
    ] {
        let mut fields = fields;
        if status == 200 {
            fields.pop();
            fields.push(("connection", "close".into()));
        }
        let text = ask(target, fields).await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{status}: {}",
            &text[..text.len().min(200)]
        );
        assert_eq!(text.matches("HTTP/1.").count(), 1);
    }
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn what_is_no_http_gets_a_bare_400_or_nothing() {
    let world = world("").await;
    for bytes in [
        "hello\r\n\r\n",
        "GET /calls/a\r\n\r\n",
        "GET /calls/a HTTP/1.9\r\nhost: localhost\r\n\r\n",
        "GET /calls/a b HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /calls/a HTTP/1.1\r\nhost: localhost\r\nx\0y: 1\r\n\r\n",
        "GET /calls/a HTTP/1.1\r\nhost: localhost\r\n: 1\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let text =
            world.gateway.raw(format!("{bytes}GET /calls/{ID} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 400 ") || text.starts_with("HTTP/1.1 505 "),
            "{bytes:?}: {text}"
        );
        assert!(text.matches("HTTP/1.").count() <= 1, "{bytes:?}: {text}");
    }
    assert_eq!(world.vendor.connections(), 0);
}
