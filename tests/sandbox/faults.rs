//! Every fault of the simulated vendor, as a client meets it.

use std::{io::Read as _, time::Duration};

use callgate::sandbox::{Config, Fault, FaultKind};
use flate2::read::GzDecoder;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::world::{CREDENTIALS, KEY, parse, quiet, start, start_with};

#[tokio::test]
async fn a_status_fault_has_the_vendors_error_body() {
    for status in [400, 401, 403, 500, 502, 503, 504, 999] {
        let world =
            start_with(FaultKind::Status(http::StatusCode::from_u16(status).expect("a status"))).await;
        let reply = world.call(&world.settled()).await;
        assert_eq!(reply.status, status);
        assert!(reply.json()["error"]["message"].is_string(), "{status}");
    }
    let world = start_with(FaultKind::Status(http::StatusCode::NO_CONTENT)).await;
    let reply = world.call("x").await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
}

#[tokio::test]
async fn a_429_as_a_fault_is_that_of_the_rate_limit() {
    let world = start_with(FaultKind::Status(http::StatusCode::TOO_MANY_REQUESTS)).await;
    let reply = world.call("x").await;
    assert_eq!(reply.error(), (429, "rate_limit_exceeded".into()));
    assert_eq!(reply.headers["retry-after"], "60");
    assert_eq!(world.handle.rejected(), 1);
}

#[tokio::test]
async fn a_delay_is_the_true_answer_later() {
    let world = start_with(FaultKind::Delay(Duration::from_millis(80))).await;
    let before = Instant::now();
    assert_eq!(world.call(&world.settled()).await.status, 200);
    assert!(before.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_reset_is_a_reset_before_any_byte() {
    let world = start_with(FaultKind::Reset).await;
    let error = world.raw_call().await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_body_ends_halfway_to_its_content_length() {
    let world = start_with(FaultKind::Cut).await;
    let reply = parse(&world.raw_call().await.expect("a clean end"));
    let promised: usize = reply.headers["content-length"].parse().expect("a length");
    assert_eq!((reply.status, reply.body.len()), (200, promised / 2));
}

#[tokio::test]
async fn a_dripping_body_comes_whole_but_a_byte_at_a_time() {
    let world = start_with(FaultKind::Drip(Duration::from_millis(1))).await;
    let before = Instant::now();
    let reply = world.call("x").await;
    assert_eq!(reply.error(), (404, "not_found".into()));
    assert!(before.elapsed() >= Duration::from_millis(reply.body.len() as u64));
}

#[tokio::test]
async fn garbage_is_no_http() {
    let world = start_with(FaultKind::Garbage).await;
    let bytes = world.raw_call().await.expect("bytes and a clean end");
    assert!(!bytes.is_empty() && !bytes.windows(4).any(|w| w == b"HTTP"));
}

#[tokio::test]
async fn an_echo_has_the_key_within_a_record_and_in_lists() {
    let world = start_with(FaultKind::EchoKey).await;
    assert_eq!(world.call(&world.settled()).await.json()["metadata"]["echo"], KEY);
    assert_eq!(world.get("/v1/api/call-history").await.json()[0]["metadata"]["echo"], KEY);
}

#[tokio::test]
async fn foreign_workspaces_and_wrong_ids_are_another_record_in_every_other_way_the_same() {
    let truth = start(quiet()).await;
    let id = truth.settled();
    let record = truth.call(&id).await.json();
    for (kind, members) in
        [(FaultKind::ForeignWorkspace, &["workspaceId"][..]), (FaultKind::WrongId, &["_id", "callId"])]
    {
        let world = start_with(kind).await;
        let other = world.call(&id).await.json();
        for (name, value) in record.as_object().expect("an object") {
            assert_eq!(other[name] != *value, members.contains(&name.as_str()), "{name}");
        }
        world.handle.set_faults(&[]);
        assert_eq!(world.call(&id).await.json(), record, "the settled body is not spoilt for good");
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_the_record_behind_its_blanks() {
    let world = start_with(FaultKind::GzipBomb(4 << 20)).await;
    let id = world.settled();
    let reply = world.call(&id).await;
    assert_eq!(reply.headers["content-encoding"], "gzip");
    assert!(reply.body.len() < 64 * 1_024);
    let mut decoded = Vec::new();
    GzDecoder::new(&reply.body[..]).read_to_end(&mut decoded).expect("sound");
    assert!(decoded.len() > 4 << 20);
    assert_eq!(serde_json::from_slice::<Value>(&decoded).expect("JSON")["_id"], *id);
}

#[tokio::test]
async fn html_and_redirects_come_as_such() {
    let html = start_with(FaultKind::Html).await.call("x").await;
    assert_eq!((html.status, html.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    assert!(html.body.starts_with(b"<!doctype html>"));
    let redirect = start_with(FaultKind::Redirect).await.call("x").await;
    assert_eq!((redirect.status, redirect.headers["location"].as_str()), (302, "https://elsewhere.invalid/"));
}

#[tokio::test]
async fn faults_befall_only_what_was_let_in_and_end_when_told() {
    let world =
        start(Config { rate_limit: 1, faults: vec![Fault::always(FaultKind::Html)], ..quiet() }).await;
    assert_eq!(world.ask("GET /v2/api/call-history/x", "").await.status, 401);
    assert_eq!(world.call("x").await.status, 200);
    assert_eq!(world.call("x").await.status, 429);
    world.handle.set_faults(&[]);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.call("x").await.status, 404);
}

#[tokio::test]
async fn a_request_that_hangs_has_no_answer_and_does_not_hold_the_end_up_for_long() {
    let world = start_with(FaultKind::Hang).await;
    let mut stream = TcpStream::connect(world.address).await.expect("a connection");
    let request = format!("GET /v2/api/call-history/x HTTP/1.1\r\nhost: v\r\n{CREDENTIALS}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    world.handle.reached(1).await;
    world.stop.send(()).expect("it runs");
    world.ended.await.expect("a clean end");
    assert_eq!(stream.read(&mut [0; 16]).await.expect("closed"), 0, "not a byte was sent");
}
