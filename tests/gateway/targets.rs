//! Targets that try to lead elsewhere, by raw bytes: one answer, nobody asked, and the vendor is where the settings say.

use super::{
    records::settled,
    vendor::{Play, ok},
    world::{Caller, ID, World, within},
};

async fn world() -> World {
    World::start(|seen| Play::Send(ok(settled(seen.id())))).await
}

/// The one answer to a head with this request line and these hosts.
async fn answered(world: &World, line: &[u8], host: &str) -> (u16, String) {
    let fields = format!(" HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let text = world.gateway.raw([line, fields.as_bytes()].concat()).await;
    let shown = String::from_utf8_lossy(line);
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{shown}: {text}");
    (text.split(' ').nth(1).expect("a status").parse().expect("a number"), text)
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_around_the_routes() {
    let world = world().await;
    let paths: [(&[u8], u16); 38] = [
        (b"/calls/../metrics", 400),
        (b"/calls/./a", 400),
        (b"/calls/..", 400),
        (b"/calls/%2e%2e/metrics", 400),
        (b"/calls/%252e%252e", 400),
        (b"/calls/a%2fb", 400),
        (b"/calls/a%252fb", 400),
        (b"/calls/a%5cb", 400),
        (b"/calls/a\\b", 400),
        (b"/calls/a;b=c", 400),
        (b"/calls/a,b", 400),
        (b"/calls/a:b", 400),
        (b"/calls/a@b", 400),
        (b"/calls/a|b", 400),
        (b"/calls/a{b}", 400),
        (b"/calls/a\"b", 400),
        (b"/calls/a%00", 400),
        (b"/calls/a%0d%0ahost:%20evil.example", 400),
        (b"/calls/a%20b", 400),
        (b"/calls/%61", 400),
        (b"/calls/%c0%af", 400),
        (b"/calls/%c0%ae%c0%ae", 400),
        (b"/calls/\xc0\xaf", 400),
        (b"/calls/\xff", 400),
        (b"/calls/\xc3\xa9", 400),
        (b"/calls/\xef\xbc\x8e", 400),
        (b"/calls/a#b", 400),
        (b"/calls/a?#b", 400),
        (b"/calls/a?x=1", 400),
        (b"/calls/a?../../metrics", 400),
        (b"//calls/a", 404),
        (b"/./calls/a", 404),
        (b"/x/../calls/a", 404),
        (b"/\\evil.example/calls/a", 404),
        (b"//evil.example/calls/a", 404),
        (b"/CALLS/a", 404),
        (b"/V2/api/call-history/a", 404),
        (b"/v2%2fapi/call-history/a", 404),
    ];
    for (path, status) in paths {
        let (found, text) = answered(&world, &[b"GET ", path].concat(), "localhost").await;
        assert_eq!(found, status, "{}: {text}", String::from_utf8_lossy(path));
    }
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/status",
        "/config",
        "/cache",
        "/cache/a",
        "/warm",
        "/reload",
        "/openapi.json",
        "/",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let (found, text) = answered(&world, format!("{method} {path}").as_bytes(), "localhost").await;
            assert_eq!(found, 404, "the operators' {method} {path}: {text}");
        }
    }
    assert_eq!(world.vendor.connections(), 0);
    assert_eq!(world.call(ID).await.status, 200);
}

#[tokio::test]
async fn a_target_with_an_authority_leads_nowhere_but_here() {
    let world = world().await;
    let vendor = world.vendor.address.to_string();
    let at_vendor = format!("GET http://{vendor}/calls/{ID}");
    let tunnel = format!("CONNECT {vendor}");
    let table = [
        ("GET http://evil.example/calls/a", "localhost", 400),
        ("GET http://evil.example/calls/a", "evil.example", 421),
        ("GET http://api.trillet.ai/calls/a", "api.trillet.ai", 421),
        ("GET https://evil.example/calls/a", "localhost", 400),
        ("GET http://user@localhost/calls/a", "localhost", 400),
        ("GET http://user:pw@localhost/calls/a", "localhost", 400),
        ("GET http://localhost@evil.example/calls/a", "localhost", 400),
        ("GET http://localhost:1/calls/a", "localhost", 400),
        ("GET http://127.0.0.1/calls/a", "localhost", 400),
        ("GET http:///calls/a", "localhost", 400),
        ("GET http:/calls/a", "localhost", 400),
        ("GET ftp://localhost/calls/a", "localhost", 400),
        ("GET file:///etc/passwd", "localhost", 400),
        ("GET unix:/run/x", "localhost", 400),
        (&at_vendor, "localhost", 400),
        ("GET evil.example:443", "localhost", 405),
        ("GET localhost", "localhost", 405),
        ("GET *", "localhost", 405),
        ("OPTIONS *", "localhost", 405),
        ("OPTIONS http://localhost", "localhost", 404),
        ("CONNECT evil.example:443", "localhost", 405),
        ("CONNECT evil.example:443", "evil.example:443", 421),
        (&tunnel, &vendor, 405),
        ("CONNECT /calls/a", "localhost", 405),
    ];
    for (line, host, status) in table {
        let (found, text) = answered(&world, line.as_bytes(), host).await;
        assert_eq!(found, status, "{line} at {host}: {text}");
    }
    assert_eq!(world.vendor.connections(), 0);
}

#[tokio::test]
async fn whatever_a_caller_names_the_vendor_is_asked_by_its_own_name() {
    let world = world().await;
    let vendor = world.vendor.address.to_string();
    let ways = [
        ("http://localhost/calls/a", "localhost", ""),
        ("HTTP://LOCALHOST:80/calls/b", "localhost", ""),
        ("/calls/c", "127.0.0.1:1", "x-forwarded-host: evil.example\r\nforwarded: host=evil.example\r\n"),
        ("/calls/d", "[::1]", "x-original-url: http://evil.example/\r\nx-rewrite-url: /metrics\r\n"),
        ("/calls/e", "localhost.", "x-host: evil.example\r\nx-forwarded-server: evil.example\r\n"),
    ];
    for (target, host, fields) in ways {
        let mut caller = Caller::connect(world.gateway.address).await;
        within(caller.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n"))).await;
        let answer = caller.answer().await;
        assert_eq!(answer.status, 200, "{target} at {host}: {answer:?}");
        let seen = world.vendor.seen().pop().expect("a request");
        assert_eq!(seen.one("host"), vendor, "{}", seen.head);
        assert!(
            !seen.head.contains("evil") && seen.target().starts_with("/v2/api/call-history/"),
            "{}",
            seen.head
        );
    }
    assert_eq!(world.vendor.requests(), ways.len());
}

#[tokio::test]
async fn an_id_has_a_length_and_an_alphabet() {
    let world = world().await;
    for (id, status) in [("a".repeat(128), 200), ("a".repeat(129), 400), ("a".repeat(8_000), 400)] {
        assert_eq!(world.call(&id).await.status, status, "{} bytes", id.len());
    }
    for byte in 0x21..0x7f_u8 {
        let id = char::from(byte);
        // What ends a path is no part of an id, and the empty one is none.
        let expected = if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) { 200 } else { 400 };
        let (found, text) = answered(&world, format!("GET /calls/{id}").as_bytes(), "localhost").await;
        assert_eq!(found, expected, "{id:?}: {text}");
    }
    assert_eq!(world.vendor.requests(), 1 + 64);
}
