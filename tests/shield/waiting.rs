//! `Prefer: wait`: the answer is held until the call is over, and however many wait, one poll asks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use callgate::{
    drain::Ended,
    sandbox::{Clock, Config},
};
use tokio::time::Instant;

use super::world::{World, answers, field, quiet, start};
use crate::sandbox::world::Reply;

/// How long a call takes here, and its analysis. The vendor's clock stands, and is moved by hand.
const CALL: Duration = Duration::from_secs(65);

fn now() -> SystemTime {
    UNIX_EPOCH + Clock::wall().now()
}

/// A vendor whose clock stands, a call under way there, and a gateway before it.
async fn with_a_call(settings: &str) -> (World, Clock, String) {
    let clock = Clock::standing_at(now());
    let vendor = Config { clock: clock.clone(), latency: Duration::from_millis(100), ..quiet() };
    let world = start(vendor, settings).await;
    let id = world.vendor.start_call();
    (world, clock, id)
}

/// Waits until every one of so many callers has heard that the call is under way, by one request.
async fn heard(world: &World, count: usize) {
    world.metric_reaches("callgate_upstream_requests_total{code=\"200\"}", 1.0).await;
    world.metric_reaches("callgate_connections", count as f64).await;
}

fn is_final(reply: &Reply) -> bool {
    reply.status == 200 && matches!(reply.json()["status"].as_str(), Some("completed" | "failed"))
}

#[tokio::test]
async fn twenty_who_wait_for_one_call_cost_its_beginning_and_one_poll() {
    let (world, clock, id) = with_a_call("").await;
    let waiters = world.at_once(20, &format!("GET /calls/{id}"), "prefer: wait=15\r\n").await;
    heard(&world, 20).await;
    clock.advance(CALL);
    let over = Instant::now();
    let replies = answers(waiters).await;
    assert!(over.elapsed() < Duration::from_secs(10), "about a pace, and long before the wait is over");
    for reply in &replies {
        assert!(is_final(reply) && reply.body == replies[0].body);
        assert_eq!(field(reply, "preference-applied"), "wait=15");
        assert_eq!(field(reply, "retry-after"), "");
        assert!(field(reply, "cache-status").starts_with("callgate; fwd=uri-miss; fwd-status=200; stored"));
    }
    assert_eq!(world.vendor.requests_for(&id), 2);
    assert!(field(&world.call(&id).await, "cache-status").starts_with("callgate; hit"), "and it is kept");
}

#[tokio::test]
async fn who_waits_hears_what_another_caller_finds_out() {
    let (world, clock, id) = with_a_call("").await;
    let waiters = world.at_once(3, &format!("GET /calls/{id}"), "prefer: wait=15\r\n").await;
    heard(&world, 3).await;
    clock.advance(CALL);
    assert!(is_final(&world.call(&id).await));
    let replies = answers(waiters).await;
    assert!(replies.iter().all(is_final));
    assert_eq!(world.vendor.requests_for(&id), 2, "no poll was needed");
}

#[tokio::test]
async fn at_the_end_of_the_wait_the_call_is_said_to_be_under_way() {
    let (world, _clock, id) = with_a_call("").await;
    let began = Instant::now();
    let line = |method: &str| format!("{method} /v2/api/call-history/{id}");
    let (get, head) = (line("GET"), line("HEAD"));
    let (get, head) = tokio::join!(
        world.ask(&get, "prefer: respond-async, wait=1\r\n"),
        world.ask(&head, "prefer: wait=1\r\n"),
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(get.json()["status"], "ongoing");
    for reply in [&get, &head] {
        assert_eq!((reply.status, field(reply, "retry-after")), (200, "2"));
        assert_eq!(field(reply, "preference-applied"), "wait=1");
        assert_eq!(field(reply, "cache-control"), "no-store");
        assert!(
            field(reply, "cache-status")
                .starts_with("callgate; fwd=uri-miss; fwd-status=200; detail=ongoing")
        );
        assert_eq!(field(reply, "content-length"), get.body.len().to_string());
    }
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn a_wait_is_no_longer_than_the_settings_allow_and_the_caller_is_told() {
    let (world, _clock, id) = with_a_call("lookup.max_wait = \"1s\"").await;
    let began = Instant::now();
    let reply = world.ask(&format!("GET /calls/{id}"), "prefer: wait=3600\r\n").await;
    assert!((1..10).contains(&began.elapsed().as_secs()));
    assert_eq!((reply.status, field(&reply, "preference-applied")), (200, "wait=1"));
    assert_eq!(reply.json()["status"], "ongoing");
}

#[tokio::test]
async fn what_is_known_to_be_over_or_not_to_be_is_answered_at_once() {
    let (world, _clock, _) = with_a_call("").await;
    let settled = world.settled(1).remove(0);
    let began = Instant::now();
    for (id, status, words) in [
        (settled.as_str(), 200, "callgate; fwd=uri-miss; fwd-status=200; stored"),
        (settled.as_str(), 200, "callgate; hit; ttl="),
        ("nobodys-call", 404, "callgate; fwd=uri-miss; fwd-status=404; stored"),
        ("nobodys-call", 404, "callgate; hit; ttl="),
    ] {
        let reply = world.ask(&format!("GET /calls/{id}"), "prefer: wait=60\r\n").await;
        assert_eq!(reply.status, status);
        assert!(field(&reply, "cache-status").starts_with(words), "{reply:?}");
        assert_eq!(field(&reply, "preference-applied"), "wait=60");
    }
    // So is an error, and a list is nothing that is ever over.
    world.answer_with(500);
    let failed = world.ask("GET /calls/a-call", "prefer: wait=60\r\n").await;
    assert_eq!(failed.status, 500);
    let list = world.ask("GET /v2/api/call-history", "prefer: wait=60\r\n").await;
    assert_eq!((list.status, field(&list, "preference-applied")), (500, ""));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn nobody_is_held_by_a_gateway_that_drains() {
    let (world, _clock, id) = with_a_call("drain.delay = \"60s\"\ndrain.timeout = \"5s\"").await;
    let began = Instant::now();
    let line = format!("GET /calls/{id}");
    let waiters = world.at_once(5, &line, "prefer: wait=50\r\n").await;
    heard(&world, 5).await;
    assert!(world.ready().await && waiters.iter().all(|waiter| !waiter.is_finished()));
    world.signal().await;
    let late = world.ask(&line, "prefer: wait=50\r\n").await;
    for reply in answers(waiters).await.iter().chain([&late]) {
        assert_eq!((reply.status, reply.json()["status"].as_str()), (200, Some("ongoing")));
        assert!(!field(reply, "retry-after").is_empty());
    }
    assert!(!world.ready().await);
    assert!(began.elapsed() < Duration::from_secs(20));
    // A second signal makes an end.
    world.signal().await;
    assert!(matches!(world.end().await, Ended::InOrder | Ended::Cut));
}
