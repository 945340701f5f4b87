//! What a web page of somebody else can send to the operators' endpoint from an operator's own browser: forms, images,
//! scripts without CORS, and names that were rebound. Nothing is done, and nothing can be read.

use super::{
    records::settled,
    vendor::{Play, ok},
    world::{Caller, ID, World},
};

/// What a browser says about a page of another origin, or cannot be kept from saying.
const FOREIGN: [&str; 8] = [
    "origin: http://evil.example\r\n",
    "origin: null\r\n",
    "origin: http://localhost:3000\r\n",
    "origin: https://localhost\r\norigin: http://localhost\r\n",
    "sec-fetch-site: cross-site\r\n",
    "sec-fetch-site: same-site\r\n",
    "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: iframe\r\n",
    "origin: http://evil.example\r\nsec-fetch-site: same-origin\r\n",
];

/// What a form or a script without a preflight sends as a body, and what may be sent without one.
const SENT: [(&str, &str, &str); 9] = [
    ("POST /warm", "content-type: application/x-www-form-urlencoded\r\n", "ids=a"),
    ("POST /warm", "content-type: text/plain\r\n", "{\"ids\":[\"a\"]}"),
    ("POST /warm", "content-type: multipart/form-data; boundary=x\r\n", "--x--"),
    ("POST /warm", "content-type: application/json\r\n", "{\"ids\":[\"a\"]}"),
    ("POST /reload", "", ""),
    ("DELETE /cache", "", ""),
    ("GET /status", "", ""),
    ("GET /config", "", ""),
    ("GET /", "", ""),
];

async fn send(world: &World, line: &str, host: &str, fields: &str, body: &str) -> (u16, String) {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let mut caller = Caller::connect(world.gateway.admin).await;
    caller
        .send(format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{fields}{length}\r\n{body}"))
        .await;
    let text = caller.rest().await;
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{line}: {text}");
    assert!(!text.contains("access-control-"), "{line}: {text}");
    (text.split(' ').nth(1).expect("a status").parse().expect("a number"), text)
}

async fn world() -> World {
    let world = World::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    world.call(ID).await;
    world
}

#[tokio::test]
async fn a_page_of_another_origin_does_nothing_to_the_operators_endpoint() {
    let world = world().await;
    for foreign in FOREIGN {
        for (line, fields, body) in SENT {
            let (status, text) = send(&world, line, "localhost", &format!("{foreign}{fields}"), body).await;
            assert_eq!(status, 403, "{foreign} {line}: {text}");
            assert!(text.contains("urn:callgate:problem:cross_site_request"), "{foreign} {line}: {text}");
        }
        let preflight = format!(
            "{foreign}access-control-request-method: DELETE\r\naccess-control-request-private-network: true\r\n"
        );
        for path in ["/cache", "/warm", "/reload", "/status"] {
            let (status, text) = send(&world, &format!("OPTIONS {path}"), "localhost", &preflight, "").await;
            assert_eq!(status, 403, "{foreign} {path}: {text}");
        }
    }
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"), "nothing was forgotten");
    assert_eq!(world.vendor.requests(), 1, "and nothing fetched");
}

#[tokio::test]
async fn a_name_that_was_rebound_reaches_nothing() {
    let world = world().await;
    for host in [
        "evil.example",
        "evil.example:9090",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "api.trillet.ai",
        "127.1",
        "2130706433",
        "0x7f.1",
    ] {
        // A page that came by that name is of the same origin, as far as the browser knows.
        let own = format!("origin: http://{host}\r\nsec-fetch-site: same-origin\r\n");
        for (line, fields, body) in SENT {
            let (status, text) = send(&world, line, host, &format!("{own}{fields}"), body).await;
            assert_eq!(status, 421, "{host} {line}: {text}");
        }
        let call = format!("GET /calls/{ID} HTTP/1.1\r\nhost: {host}\r\n{own}connection: close\r\n\r\n");
        let text = world.gateway.raw(call).await;
        assert!(text.starts_with("HTTP/1.1 421 ") && !text.contains("completed"), "{host}: {text}");
    }
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_form_is_no_list_even_where_its_browser_says_nothing_of_its_origin() {
    let world = world().await;
    for (line, fields, body) in &SENT[..3] {
        let (status, text) = send(&world, line, "localhost", fields, body).await;
        assert_eq!(status, 400, "{line}: {text}");
    }
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_page_cannot_read_a_call_in_any_way_that_needs_no_permission() {
    let world = world().await;
    for foreign in FOREIGN {
        for line in [
            format!("GET /calls/{ID}"),
            format!("HEAD /v1/api/call-history/{ID}"),
            "GET /v2/api/call-history".into(),
            format!("OPTIONS /calls/{ID}"),
        ] {
            let text = world
                .gateway
                .raw(format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{foreign}\r\n"))
                .await;
            assert!(text.starts_with("HTTP/1.1 403 "), "{foreign} {line}: {text}");
            assert!(!text.contains("access-control-") && !text.contains("completed"), "{line}: {text}");
        }
    }
    assert_eq!(world.vendor.requests(), 1);
}
