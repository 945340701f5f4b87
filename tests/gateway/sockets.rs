//! Where the gateway listens: TCP, Unix sockets, several at once, HTTP/2; and its operators' endpoints.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use super::{
    records::{ongoing, settled},
    vendor::{Play, answer, ok},
    world::{Answer, Caller, ID, World, request, within},
};

#[tokio::test]
async fn a_unix_socket_serves_callers_by_any_well_formed_host() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("callgate.sock");
    let settings = format!(
        "listen.unix_mode = \"0600\"\nlisten.internal = [\"127.0.0.1:0\", \"unix:{}\"]",
        path.display()
    );
    let world = World::with(&settings, |_| Play::Send(ok(settled(ID)))).await;
    let ask = async |host: &str| {
        let mut stream = within(UnixStream::connect(&path)).await.expect("connected");
        let head = format!("GET /calls/{ID} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        within(stream.write_all(head.as_bytes())).await.expect("sent");
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.expect("text");
        text
    };
    assert_eq!(std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o600);
    assert!(ask("localhost").await.contains("; stored"));
    assert!(ask("any.name.at.all").await.contains("cache-status: callgate; hit"));
    assert!(ask("%2Frun%2Fcallgate.sock").await.starts_with("HTTP/1.1 200 "));
    assert!(ask("a b").await.starts_with("HTTP/1.1 400 "));
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"), "one cache behind all of them");
    world.gateway.stop().await;
    world.gateway.ended().await;
    assert!(!path.exists(), "the file goes with the gateway");
}

#[tokio::test]
async fn http2_is_served_by_prior_knowledge_where_it_is_asked_for() {
    let world = World::with("listen.http2 = true", |_| Play::Send(ok(settled(ID)))).await;
    let stream = TokioIo::new(TcpStream::connect(world.gateway.address).await.expect("connected"));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("http/2");
    tokio::spawn(connection);
    for (method, cache) in [("GET", "; stored"), ("GET", "; hit"), ("HEAD", "; hit")] {
        let uri = format!("http://localhost/calls/{ID}");
        let request = Request::builder().method(method).uri(uri).body(Empty::<Bytes>::new());
        let response = within(sender.send_request(request.expect("a request"))).await.expect("answered");
        assert_eq!(response.status(), 200);
        assert!(response.headers()["cache-status"].to_str().expect("text").contains(cache));
        assert_eq!(response.headers()["content-length"], settled(ID).len().to_string());
        let body = within(response.into_body().collect()).await.expect("a body").to_bytes();
        assert_eq!(body, if method == "HEAD" { String::new() } else { settled(ID) });
    }
    for (uri, status) in [("http://evil.example/calls/a", 421), ("http://localhost/nowhere", 404)] {
        let request = Request::builder().uri(uri).body(Empty::<Bytes>::new()).expect("a request");
        assert_eq!(within(sender.send_request(request)).await.expect("answered").status(), status);
    }
    assert_eq!(world.call(ID).await.status, 200, "HTTP/1.1 beside it");
}

/// Asks the operators' endpoint.
async fn admin(world: &World, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let mut caller = Caller::connect(world.gateway.admin).await;
    caller.send(request(method, target, fields)).await;
    let answer = caller.answer_to(method).await;
    answer.keeps_the_promises();
    answer
}

#[tokio::test]
async fn operators_are_told_how_it_is_and_nobody_else_is() {
    let world = World::start(|_| Play::Send(ok(ongoing(ID)))).await;
    for (target, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let told = admin(&world, "GET", target, &[]).await;
        assert_eq!((told.status, told.text().as_str()), (200, text));
        assert_eq!(told.one("cache-control"), "no-store");
        assert_eq!(admin(&world, "HEAD", target, &[]).await.number("content-length"), text.len() as u64);
    }
    assert_eq!(admin(&world, "POST", "/readyz", &[]).await.problem(), (405, "method_not_allowed".into()));
    assert_eq!(admin(&world, "GET", &format!("/calls/{ID}"), &[]).await.status, 404);
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(
        admin(&world, "GET", "/metrics", &foreign).await.problem(),
        (403, "cross_site_request".into())
    );
    let mut caller = Caller::connect(world.gateway.admin).await;
    caller.send("GET /metrics HTTP/1.1\r\nhost: evil.example\r\n\r\n").await;
    assert_eq!(caller.answer().await.problem(), (421, "misdirected_request".into()));
    assert_eq!(world.vendor.requests(), 0);
}

#[tokio::test]
async fn a_rejected_key_is_not_ready_and_a_forbidden_call_or_a_failing_vendor_is() {
    for (status, ready) in
        [("401 No", 503), ("403 No", 200), ("500 No", 200), ("503 No", 200), ("429 No", 200)]
    {
        let world = World::saying(answer(status, "", "{}")).await;
        assert!(world.call(ID).await.status >= 400);
        let told = admin(&world, "GET", "/readyz", &[]).await;
        assert_eq!(told.status, ready, "{status}: {}", told.text());
        assert_eq!(told.text().contains("rejects the key"), ready == 503, "{status}");
    }
}

#[tokio::test]
async fn what_happened_is_counted_by_route_cache_and_code() {
    let world = World::start(|seen| match seen.id() {
        ID => Play::Send(ok(settled(ID))),
        "a" => Play::Send(ok(ongoing("a"))),
        "b" => Play::Send(answer("404 No", "", "")),
        "c" => Play::ThenClose(b"garbage\r\n\r\n".to_vec()),
        _ => Play::Send(ok("[]")),
    })
    .await;
    for id in [ID, ID, ID, "a", "a", "b", "b", "c"] {
        world.call(id).await;
    }
    world.get("/v1/api/call-history").await;
    world.get("/nowhere").await;
    let metrics = world.gateway.metrics().await;
    for line in [
        r#"callgate_requests_total{route="lookup",cache="miss",code="200"} 1"#,
        r#"callgate_requests_total{route="lookup",cache="hit",code="200"} 2"#,
        r#"callgate_requests_total{route="lookup",cache="bypass",code="200"} 2"#,
        r#"callgate_requests_total{route="lookup",cache="miss",code="404"} 1"#,
        r#"callgate_requests_total{route="lookup",cache="negative",code="404"} 1"#,
        r#"callgate_requests_total{route="lookup",cache="miss",code="502"} 1"#,
        r#"callgate_requests_total{route="list",cache="bypass",code="200"} 1"#,
        r#"callgate_requests_total{route="other",cache="none",code="404"} 1"#,
        r#"callgate_upstream_requests_total{code="200"} 4"#,
        r#"callgate_upstream_requests_total{code="404"} 1"#,
        r#"callgate_upstream_requests_total{code="upstream_invalid"} 1"#,
        "callgate_upstream_in_flight 0",
        "callgate_upstream_retries_total 0",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }
    for family in [
        "callgate_request_duration_seconds_count{route=\"lookup\",cache=\"hit\"}",
        "callgate_upstream_request_duration_seconds_count",
        "callgate_cache_entries{tier=\"memory\"}",
        "callgate_cache_bytes{tier=\"memory\"}",
        "callgate_cache_evictions_total{reason=",
        "callgate_connections ",
        "callgate_build_info{version=",
    ] {
        assert!(metrics.contains(family), "{family} in {metrics}");
    }
    assert!(!metrics.contains(ID));
}

#[tokio::test]
async fn what_finds_no_turn_is_told_to_come_back() {
    let settings = "upstream.max_concurrency = 1\nbudget.queue_timeout = \"60ms\"";
    let world = World::with(settings, |seen| Play::Held(ok(ongoing(seen.id())))).await;
    let mut first = world.gateway.connect().await;
    first.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    world.vendor.arrived(1).await;
    let shed = world.call("a").await;
    assert_eq!(shed.problem(), (429, "rate_limit_exceeded".into()));
    assert!(shed.number("retry-after") >= 1);
    world.vendor.release();
    assert_eq!(first.answer().await.status, 200);
    // Nothing was spent on it, so nothing of it is remembered.
    assert_eq!(world.call("a").await.status, 200);
}

#[tokio::test]
async fn connections_that_are_merely_held_open_keep_no_probe_out() {
    let world = World::with("listen.metrics = \"127.0.0.1:0\"", |_| Play::Send(ok(settled(ID)))).await;
    let scraping = world.gateway.scraping.expect("an address");
    for address in [world.gateway.admin, scraping] {
        let mut held = Vec::new();
        for at in 0..200 {
            let mut caller = Caller::connect(address).await;
            if at % 2 == 0 {
                caller.send(request("GET", "/healthz", &[])).await;
            }
            held.push(caller);
        }
        let mut probe = Caller::connect(address).await;
        probe.send(request("GET", "/readyz", &[])).await;
        // A kubelet waits for a second, and the timers of the others are ten times that.
        let ready = tokio::time::timeout(Duration::from_secs(5), probe.answer()).await;
        assert_eq!(ready.expect("at once").status, 200);
    }
}
