//! The simulated vendor over real sockets: headers, lifecycle, limits, lists and every fault.
//!
//! Its clock stands, and is moved by hand; nothing waits for time to pass but what is itself about a delay.

mod faults;
pub(crate) mod world;

use std::{io::Read as _, time::Duration};

use callgate::sandbox::{Config, PauseHint};
use flate2::read::GzDecoder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use self::world::{CREDENTIALS, quiet, start};

#[tokio::test]
async fn both_headers_are_needed_once_and_right() {
    let world = start(quiet()).await;
    let target = format!("GET /v2/api/call-history/{}", world.settled());
    let (key, workspace) = ("x-api-key: sandbox-key-0123456789abcdef\r\n", "x-workspace-id: ws-sandbox\r\n");
    for (headers, expected) in [
        (format!("{key}{workspace}"), None),
        (workspace.into(), Some((401, "unauthorized"))),
        (format!("x-api-key: wrong\r\n{workspace}"), Some((401, "unauthorized"))),
        (format!("{key}{key}{workspace}"), Some((401, "unauthorized"))),
        (key.into(), Some((403, "forbidden"))),
        (format!("{key}x-workspace-id: ws-other\r\n"), Some((403, "forbidden"))),
        (format!("{key}{workspace}{workspace}"), Some((403, "forbidden"))),
        (String::new(), Some((401, "unauthorized"))),
    ] {
        let reply = world.ask(&target, &headers).await;
        match expected {
            None => assert_eq!(reply.status, 200),
            Some((status, code)) => {
                assert_eq!(reply.error(), (status, code.into()), "{headers}");
                assert!(reply.json()["error"]["message"].is_string());
            }
        }
    }
}

#[tokio::test]
async fn a_call_is_found_by_either_id_in_either_version() {
    let world = start(quiet()).await;
    let id = world.settled();
    let call_id = world.handle.call_id(&id).expect("its second id");
    let record = world.call(&id).await;
    assert_eq!(record.status, 200);
    assert_eq!(record.headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(
        (&record.json()["_id"], &record.json()["callId"]),
        (&id.clone().into(), &call_id.clone().into())
    );
    assert_eq!(record.json()["workspaceId"], "ws-sandbox");
    for target in [
        format!("/v1/api/call-history/{id}"),
        format!("/v2/api/call-history/{call_id}"),
        format!("/v1/api/call-history/{call_id}"),
    ] {
        assert_eq!(world.get(&target).await.body, record.body, "{target}");
    }
}

#[tokio::test]
async fn unknown_ids_are_404_and_what_cannot_be_an_id_400() {
    let world = start(quiet()).await;
    for id in ["69cf4b468d2a8a6a8e39b684", "1234567890abcdef", "00000000013bd867b55ca000-00t00imaqj", "x"] {
        assert_eq!(world.call(id).await.error(), (404, "not_found".into()), "{id}");
    }
    for id in ["a%20b", "a.b", "a/b", "", &"a".repeat(129)] {
        assert_eq!(world.call(id).await.error(), (400, "bad_request".into()), "{id}");
    }
    assert_eq!(world.get("/v3/api/call-history").await.error(), (404, "not_found".into()));
}

#[tokio::test]
async fn a_call_is_ongoing_then_completed_and_analysed_later() {
    let world = start(quiet()).await;
    let id = world.handle.start_call();
    let record = async || world.call(&id).await.json();
    let ongoing = record().await;
    assert_eq!(ongoing["status"], "ongoing");
    assert!(ongoing.get("endTime").is_none() && ongoing.get("summary").is_none());
    assert!(world.handle.ongoing_ids().contains(&id));

    world.clock.advance(Duration::from_secs(45));
    let ended = record().await;
    assert!(matches!(ended["status"].as_str(), Some("completed" | "failed")));
    assert!(ended["endTime"].is_number() && ended.get("summary").is_none() && ended.get("cost").is_none());

    world.clock.advance(Duration::from_secs(20));
    let settled = record().await;
    assert_eq!(settled["status"], ended["status"]);
    assert!(settled["summary"].is_string() && settled["cost"]["customer_charge"].is_number());
    assert!(settled["analyzedData"].is_object());
    assert!(settled["updatedAt"].as_str() > ended["updatedAt"].as_str());

    world.clock.advance(Duration::from_secs(86_400));
    assert_eq!(record().await, settled);
}

#[tokio::test]
async fn calls_that_are_under_way_at_start_all_end_a_few_of_them_failed() {
    let world = start(Config { calls: 1_000, ..quiet() }).await;
    assert_eq!((world.handle.ids().len(), world.handle.ongoing_ids().len()), (1_000, 100));
    world.clock.advance(Duration::from_secs(65));
    assert_eq!((world.handle.ongoing_ids().len(), world.handle.settled_ids().len()), (0, 1_000));
    let failed = world.get("/v2/api/call-history?status=failed").await.json()["total"].as_u64();
    assert!(failed.is_some_and(|failed| (20..200).contains(&failed)), "{failed:?}");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes() {
    let (one, two) = (start(quiet()).await, start(quiet()).await);
    assert_eq!(one.handle.ids(), two.handle.ids());
    assert_eq!(one.call(&one.settled()).await.body, two.call(&two.settled()).await.body);
    let other = start(Config { seed: 2, ..quiet() }).await;
    assert_ne!(one.handle.ids(), other.handle.ids());
}

#[tokio::test]
async fn a_call_can_be_begun_over_http() {
    let world = start(Config { calls: 0, rate_limit: 1, ..quiet() }).await;
    let begun = world.ask("POST /sandbox/calls", CREDENTIALS).await;
    assert_eq!(begun.status, 201);
    assert_eq!(world.handle.requests(), 0, "it is not the vendor's, and not counted");
    let id = begun.json()["_id"].as_str().expect("an id").to_owned();
    assert_eq!(world.call(&id).await.json()["status"], "ongoing");
    assert_eq!(world.ask("POST /sandbox/calls", "").await.status, 401);
}

#[tokio::test]
async fn the_list_is_bare_in_v1_and_wrapped_in_v2() {
    let world = start(quiet()).await;
    let bare = world.get("/v1/api/call-history").await.json();
    let wrapped = world.get("/v2/api/call-history").await.json();
    assert_eq!(bare.as_array().map(Vec::len), Some(10));
    assert_eq!(wrapped["calls"], bare);
    assert_eq!(
        (&wrapped["total"], &wrapped["page"], &wrapped["limit"]),
        (&200.into(), &1.into(), &10.into())
    );
    let page = world.get("/v2/api/call-history?page=2&limit=4&_=17").await.json();
    assert_eq!(page["calls"].as_array().expect("an array")[..], bare.as_array().expect("an array")[4..8]);
}

#[tokio::test]
async fn list_filters_are_applied_as_they_come_over_the_wire() {
    let world = start(quiet()).await;
    let total = async |query: &str| {
        world.get(&format!("/v2/api/call-history?{query}")).await.json()["total"].as_u64()
    };
    let ids = world.handle.ids();
    let agent = world.call(&ids[0]).await.json()["agentId"].as_str().expect("an agent").to_owned();
    let of_agent = total(&format!("agentId={agent}")).await;
    assert!(of_agent.is_some_and(|n| 0 < n && n < 200));
    assert_eq!(total(&format!("callAgentId={agent}")).await, of_agent);
    assert_eq!(total("status=ongoing").await, Some(20));
    assert_eq!(total(&format!("callIds=%5B%22{}%22%2C%22{}%22%5D", ids[1], ids[2])).await, Some(2));
    assert_eq!(total("dateRange=%7B%22endDate%22%3A%222020-01-01%22%7D").await, Some(0));
    let positive = total("postAnalysis=%7B%22sentiment%22%3A%22positive%22%7D").await;
    assert!(positive.is_some_and(|n| 0 < n && n < 180));
    assert_eq!(world.get("/v2/api/call-history?page=none").await.error(), (400, "bad_request".into()));
}

#[tokio::test]
async fn a_list_is_500_while_there_are_no_calls_and_empty_where_none_matches() {
    let world = start(Config { calls: 0, ..quiet() }).await;
    for version in ["v1", "v2"] {
        let reply = world.get(&format!("/{version}/api/call-history")).await;
        assert_eq!(reply.error(), (500, "internal_error".into()));
    }
    let _ = world.handle.start_call();
    assert_eq!(world.get("/v1/api/call-history").await.json().as_array().map(Vec::len), Some(1));
    let none = world.get("/v1/api/call-history?status=failed").await;
    assert_eq!((none.status, none.body.as_slice()), (200, &b"[]"[..]));
}

#[tokio::test]
async fn neighbours_of_the_lookup_are_there() {
    let world = start(quiet()).await;
    let recording = |id: &str| format!("/v2/api/recordings/{id}");
    assert!(world.get(&recording(&world.settled())).await.json()["url"].is_string());
    assert_eq!(world.get(&recording(&world.handle.ongoing_ids()[0])).await.status, 404);
    let export = world.ask("POST /v2/api/call-history/export-csv", CREDENTIALS).await;
    assert_eq!(export.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(String::from_utf8(export.body).expect("text").lines().count(), 201);
}

#[tokio::test]
async fn more_than_the_limit_in_any_minute_are_429_as_documented() {
    let world = start(Config { rate_limit: 3, ..quiet() }).await;
    let id = world.settled();
    assert_eq!(world.call(&id).await.status, 200);
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.call("unknown").await.status, 404);
    assert_eq!(world.ask("GET /v2/api/call-history", "").await.status, 401);
    assert_eq!(world.call(&id).await.status, 200);

    let rejected = world.call(&id).await;
    assert_eq!(rejected.error(), (429, "rate_limit_exceeded".into()));
    assert_eq!(rejected.headers["retry-after"], "30");
    let error = &rejected.json()["error"];
    assert_eq!(error["message"], "Too many requests. Please try again in 30 seconds.");
    assert_eq!(error["reset_at"], "2026-03-31T23:34:20Z");

    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.call(&id).await.status, 200);
    assert_eq!(world.call(&id).await.status, 429, "only the first slot is free again");

    let handle = &world.handle;
    assert_eq!((handle.requests(), handle.rejected(), handle.busiest_minute()), (7, 2, 3));
    assert_eq!((handle.requests_for(&id), handle.requests_for("unknown")), (5, 1));
    let accepted: Vec<_> = handle.arrivals().iter().map(|arrival| arrival.accepted).collect();
    assert_eq!(accepted, [true, true, false, true, false, true, false]);
    assert_eq!(handle.arrivals()[6].at - handle.arrivals()[0].at, Duration::from_secs(60));
}

#[tokio::test]
async fn a_429_may_come_without_any_hint() {
    let world = start(Config { rate_limit: 1, pause_hint: PauseHint::Neither, ..quiet() }).await;
    assert_eq!(world.call("a").await.status, 404);
    let rejected = world.call("a").await;
    assert_eq!(rejected.status, 429);
    assert!(!rejected.headers.contains_key("retry-after"));
    assert!(rejected.json()["error"].get("reset_at").is_none());
}

#[tokio::test]
async fn answers_are_compressed_only_where_both_sides_want_it() {
    let gzip = format!("{CREDENTIALS}accept-encoding: gzip\r\n");
    let plain = start(quiet()).await;
    let target = format!("GET /v2/api/call-history/{}", plain.settled());
    let truth = plain.ask(&target, &gzip).await;
    assert!(!truth.headers.contains_key("content-encoding"));

    let world = start(Config { gzip: true, ..quiet() }).await;
    assert_eq!(world.ask(&target, CREDENTIALS).await.body, truth.body);
    for (line, expected) in [(target, truth.body), ("GET /v1/api/call-history".into(), Vec::new())] {
        let reply = world.ask(&line, &gzip).await;
        assert_eq!(reply.headers["content-encoding"], "gzip");
        let mut decoded = Vec::new();
        GzDecoder::new(&reply.body[..]).read_to_end(&mut decoded).expect("sound");
        assert!(expected.is_empty() || decoded == expected);
    }
}

#[tokio::test]
async fn a_connection_is_kept_alive_and_requests_may_be_pipelined() {
    let world = start(quiet()).await;
    let one = |close| format!("GET /v2/api/call-history/x HTTP/1.1\r\nhost: v\r\n{close}{CREDENTIALS}\r\n");
    let answers = world.exchange(&format!("{}{}{}", one(""), one(""), one("connection: close\r\n"))).await;
    let text = String::from_utf8(answers.expect("answers")).expect("text");
    assert_eq!(text.matches("HTTP/1.1 404").count(), 3);
}

#[tokio::test]
async fn latency_is_paid_by_answers_and_not_by_refusals() {
    let world = start(Config { latency: Duration::from_millis(80), ..quiet() }).await;
    let before = Instant::now();
    assert_eq!(world.call("x").await.status, 404);
    assert!(before.elapsed() >= Duration::from_millis(80));
    assert_eq!(world.ask("GET /v2/api/call-history", "").await.status, 401);
}

#[tokio::test]
async fn the_end_closes_idle_connections_at_once() {
    let world = start(quiet()).await;
    let mut idle = TcpStream::connect(world.address).await.expect("a connection");
    let request = format!("GET /v2/api/call-history/x HTTP/1.1\r\nhost: v\r\n{CREDENTIALS}\r\n");
    idle.write_all(request.as_bytes()).await.expect("sent");
    assert!(idle.read(&mut [0; 4_096]).await.expect("an answer") > 0);
    world.stop.send(()).expect("it runs");
    world.ended.await.expect("a clean end");
    assert_eq!(idle.read(&mut [0; 16]).await.expect("a clean end"), 0);
}
