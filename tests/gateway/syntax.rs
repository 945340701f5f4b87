//! What is no HTTP, or too much of it, by raw bytes: at most one answer, which ends the connection, and nobody is asked.

use tokio::io::AsyncWriteExt as _;

use super::{
    records::settled,
    vendor::{Play, ok},
    world::{ID, World, request},
};

async fn world() -> World {
    World::start(|seen| Play::Send(ok(settled(seen.id())))).await
}

/// Sends this and a request behind it: nothing comes, or one answer with one of these statuses.
async fn refused(world: &World, bytes: &[u8], statuses: &[u16]) {
    let behind = request("GET", &format!("/calls/{ID}"), &[]);
    let text = world.gateway.raw([bytes, behind.as_bytes()].concat()).await;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    if text.is_empty() {
        return;
    }
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    assert!(statuses.contains(&status), "{shown:?}: {text}");
    assert_eq!(text.matches("HTTP/1.").count(), 1, "{shown:?}: {text}");
}

#[tokio::test]
async fn lines_that_can_be_read_in_two_ways_are_not_read() {
    let world = world().await;
    let fields: [&[u8]; 18] = [
        b"x: a\r\n b",
        b"x: a\r\n\tb",
        b" x: a",
        b"\tx: a",
        b"x : a",
        b"x\t: a",
        b"x: a\rb",
        b"x: a\rcontent-length: 5",
        b"x: a\0b",
        b"x\0: a",
        b"x: a\x7fb",
        b"x: \x01",
        b": a",
        b"",
        b"x",
        b"x y: a",
        b"x\xc3\xa9: a",
        b"(x): a",
    ];
    for field in fields {
        if field.is_empty() {
            // The end of a head that has no host.
            refused(&world, format!("GET /calls/{ID} HTTP/1.1\r\n\r\n").as_bytes(), &[400]).await;
            continue;
        }
        let head = format!("GET /calls/{ID} HTTP/1.1\r\nhost: localhost\r\n");
        refused(&world, &[head.as_bytes(), field, b"\r\n\r\n"].concat(), &[400]).await;
    }
    assert_eq!(world.vendor.connections(), 0);
}

#[tokio::test]
async fn other_versions_and_other_protocols_are_no_requests() {
    let world = world().await;
    let lines = [
        "GET /calls/a",
        "GET /calls/a ",
        "GET /calls/a HTTP/0.9",
        "GET /calls/a HTTP/1.2",
        "GET /calls/a HTTP/1.9",
        "GET /calls/a HTTP/2.0",
        "GET /calls/a HTTP/1.10",
        "GET /calls/a HTTP/1.1.1",
        "GET /calls/a HTTP/11",
        "GET /calls/a http/1.1",
        "GET /calls/a HTTP/1.1 HTTP/1.1",
        "GET /calls/a ICY/1.1",
        "GET  /calls/a HTTP/1.1",
        "GET\t/calls/a\tHTTP/1.1",
        "GET /calls/a\tHTTP/1.1",
        " GET /calls/a HTTP/1.1",
        "GET/calls/a HTTP/1.1",
        "G\u{e9}T /calls/a HTTP/1.1",
        "GET /calls/a\0 HTTP/1.1",
        "GET calls/a HTTP/1.1",
    ];
    for line in lines {
        refused(&world, format!("{line}\r\nhost: localhost\r\n\r\n").as_bytes(), &[400, 505]).await;
    }
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
    for bytes in [
        hello.as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"EHLO x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        refused(&world, bytes, &[400, 505]).await;
    }
    assert_eq!(world.vendor.connections(), 0);
}

#[tokio::test]
async fn a_head_has_an_end_in_every_direction() {
    let world = world().await;
    let head =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
    let (call, list) = (format!("/calls/{ID}"), "/v2/api/call-history");
    let many = |fields: usize| "x: y\r\n".repeat(fields);
    let large = |bytes: usize| format!("x: {}\r\n", "v".repeat(bytes));
    let table = [
        (head(&call, &many(64)), 431),
        (head(&call, &many(99)), 431),
        (head(&call, &many(1_000)), 431),
        (head(&call, &many(20_000)), 431),
        (head(&call, &large(16 << 10)), 431),
        (head(&call, &large(2 << 20)), 431),
        (head(&call, &format!("{}: y\r\n", "n".repeat(70_000))), 431),
        (head(&format!("{list}?search={}", "a".repeat(8 << 10)), ""), 414),
        // The head is too large as well, and that is all that is read of it.
        (head(&format!("{list}?search={}", "a".repeat(70_000)), ""), 431),
        (head(&format!("/{}", "a/".repeat(4_090)), ""), 404),
        (format!("{} {call} HTTP/1.1\r\nhost: localhost\r\n\r\n", "M".repeat(17_000)), 431),
    ];
    for (bytes, status) in table {
        let bytes =
            if status == 404 { bytes.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n") } else { bytes };
        refused(&world, bytes.as_bytes(), &[status]).await;
    }
    assert_eq!(world.vendor.connections(), 0);
    assert_eq!(world.get(&call).await.status, 200);
}

#[tokio::test]
async fn whoever_sends_on_after_an_unreadable_head_is_not_read_for_ever() {
    let world = world().await;
    let mut stream = tokio::net::TcpStream::connect(world.gateway.address).await.expect("connected");
    let piece = vec![b'x'; 64 << 10];
    let sending = async { while stream.write_all(&piece).await.is_ok() {} };
    super::world::within(sending).await;
    assert_eq!(world.call(ID).await.status, 200);
}

#[tokio::test]
async fn odd_methods_are_told_which_there_are() {
    let world = world().await;
    for method in [
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "PURGE",
        "PROPFIND",
        "get",
        "GE#T",
        "M".repeat(500).as_str(),
    ] {
        for target in [format!("/calls/{ID}"), "/v1/api/call-history".to_owned()] {
            let refused = world.gateway.ask(method, &target, &[]).await;
            assert_eq!(refused.problem(), (405, "method_not_allowed".into()), "{method} {target}");
            assert_eq!(refused.one("allow"), "GET, HEAD");
        }
    }
    assert_eq!(world.vendor.connections(), 0);
}
