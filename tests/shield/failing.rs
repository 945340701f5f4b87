//! A vendor that fails: what is tried again, when it is left alone, and that nobody is held by it.

use std::time::Duration;

use callgate::sandbox::FaultKind;
use tokio::time::Instant;

use super::world::{World, field, quiet, start};

/// Far more than any deadline set here, far less than a vendor takes that hangs.
const SOON: Duration = Duration::from_secs(10);

/// Lets the vendor answer its next request with a status and all later ones well.
async fn fail_once(world: &World, status: u16) {
    let before = world.vendor.requests();
    world.answer_with(status);
    // The fault has struck by the time anybody else runs: one thread does all this.
    world.vendor.reached(before + 1).await;
    world.heal();
}

#[tokio::test]
async fn a_503_is_tried_once_more_and_each_try_counts() {
    let world = start(quiet(), "budget.requests_per_minute = 5").await;
    for (id, status) in world.settled(2).iter().zip([503, 502]) {
        let (reply, ()) = tokio::join!(world.call(id), fail_once(&world, status));
        assert_eq!(reply.status, 200);
        assert_eq!(field(&reply, "cache-status"), "callgate; fwd=uri-miss; fwd-status=200; stored");
    }
    for (series, value) in [
        ("callgate_upstream_retries_total", 2.0),
        ("callgate_upstream_requests_total{code=\"503\"}", 1.0),
        ("callgate_upstream_requests_total{code=\"502\"}", 1.0),
        ("callgate_upstream_requests_total{code=\"200\"}", 2.0),
        ("callgate_budget_remaining{workspace=\"main\"}", 1.0),
    ] {
        assert_eq!(world.metric(series).await, value, "{series}");
    }
    let ids = world.settled(4);
    assert_eq!((world.call(&ids[2]).await.status, world.call(&ids[3]).await.status), (200, 429));
    assert_eq!(world.vendor.requests(), 5);
}

#[tokio::test]
async fn a_500_and_a_429_are_answers_and_not_tried_again() {
    for status in [500, 429, 400, 404, 501] {
        let world = start(quiet(), "upstream.retries = 5").await;
        world.answer_with(status);
        assert_eq!(world.call(&world.settled(1)[0]).await.status, status);
        assert_eq!(world.vendor.requests(), 1, "{status}");
        assert_eq!(world.metric("callgate_upstream_retries_total").await, 0.0);
    }
}

#[tokio::test]
async fn nothing_is_tried_again_where_the_settings_say_so() {
    let world = start(quiet(), "upstream.retries = 0").await;
    world.answer_with(503);
    let id = &world.settled(1)[0];
    let reply = world.call(id).await;
    assert_eq!(reply.error(), (502, "upstream_error".into()));
    assert_eq!(field(&reply, "cache-status"), "callgate; fwd=uri-miss; detail=upstream_error");
    assert!(!String::from_utf8_lossy(&reply.body).contains("asked for"), "the vendor's body is dropped");
    assert_eq!(world.vendor.requests(), 1);
    // The failure is remembered, so that the next caller of this call does not pay for it again.
    let again = world.call(id).await;
    assert_eq!(again.error(), (502, "upstream_error".into()));
    assert_eq!(field(&again, "cache-status"), "callgate; hit; ttl=1; detail=failure");
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn five_failures_open_the_circuit_and_nothing_is_sent_while_it_is_open() {
    let settings = "upstream.retries = 0\nlookup.final_ttl = \"1ms\"\nlookup.ongoing_ttl = \"1h\"";
    let world = start(quiet(), settings).await;
    let ids = world.settled(20);
    let hit = world.vendor.start_call();
    assert_eq!((world.call(&ids[0]).await.status, world.call(&hit).await.status), (200, 200));
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.answer_with(503);
    for id in &ids[1..6] {
        assert_eq!(world.metric("callgate_circuit_state").await, 0.0);
        assert_eq!(world.call(id).await.error(), (502, "upstream_error".into()));
    }
    assert_eq!(world.metric("callgate_circuit_state").await, 2.0);
    // However well the vendor is by now.
    world.heal();
    for reply in world.calls(&ids[6..]).await {
        assert_eq!(reply.error(), (503, "upstream_circuit_open".into()));
        assert!(matches!(field(&reply, "retry-after"), "1" | "2" | "3" | "4" | "5"), "{reply:?}");
        assert_eq!(field(&reply, "cache-status"), "callgate; fwd=uri-miss; detail=upstream_circuit_open");
    }
    let stale = world.call(&ids[0]).await;
    assert_eq!(stale.status, 200);
    assert!(field(&stale, "cache-status").ends_with("; detail=stale-if-error"));
    assert!(field(&world.call(&hit).await, "cache-status").starts_with("callgate; hit"));
    assert_eq!(world.vendor.requests(), 7);
    assert!(world.ready().await);
}

#[tokio::test]
async fn answers_of_whatever_kind_do_not_open_the_circuit() {
    let world = start(quiet(), "upstream.retries = 0").await;
    let mut ids = world.settled(32).into_iter();
    for status in [500, 404, 400, 403] {
        world.answer_with(status);
        for id in ids.by_ref().take(8) {
            assert_ne!(world.call(&id).await.status, 503);
        }
    }
    assert_eq!((world.vendor.requests(), world.metric("callgate_circuit_state").await), (32, 0.0));
}

#[tokio::test]
async fn a_vendor_that_hangs_resets_drips_or_dies_holds_nobody_past_the_deadline() {
    let faults = [
        (Some(FaultKind::Hang), 504, "upstream_timeout"),
        (Some(FaultKind::Drip(Duration::from_millis(100))), 504, "upstream_timeout"),
        (Some(FaultKind::Delay(Duration::from_secs(60))), 504, "upstream_timeout"),
        (Some(FaultKind::Reset), 502, "upstream_incomplete"),
        (Some(FaultKind::Cut), 502, "upstream_incomplete"),
        (Some(FaultKind::Garbage), 502, "upstream_invalid"),
        (None, 502, "upstream_unreachable"),
    ];
    for (fault, status, code) in faults {
        let mut world = start(quiet(), "upstream.response_timeout = \"300ms\"").await;
        let ids = world.settled(2);
        assert_eq!(world.call(&ids[0]).await.status, 200);
        match &fault {
            Some(kind) => world.befall(kind.clone()),
            None => world.kill_vendor().await,
        }
        let began = Instant::now();
        let reply = world.call(&ids[1]).await;
        assert!(began.elapsed() < SOON, "{fault:?}");
        assert_eq!(reply.error(), (status, code.into()), "{fault:?}");
        assert!(field(&world.call(&ids[0]).await, "cache-status").starts_with("callgate; hit"));
        let series = format!("callgate_upstream_requests_total{{code=\"{code}\"}}");
        assert!(world.metric(&series).await >= 1.0, "{fault:?}");
        assert_eq!(world.metric("callgate_upstream_in_flight").await, 0.0);
    }
}

#[tokio::test]
async fn a_hit_is_not_held_by_a_vendor_that_holds_everybody_else() {
    for fault in [FaultKind::Hang, FaultKind::Drip(Duration::from_millis(500))] {
        let settings =
            "upstream.response_timeout = \"1h\"\nupstream.max_concurrency = 4\nbudget.queue_timeout = \"1h\"";
        let world = start(quiet(), settings).await;
        let ids = world.settled(31);
        assert_eq!(world.call(&ids[30]).await.status, 200);
        world.befall(fault);
        // Some wait for the vendor, the others for their turn.
        let held: Vec<_> = ids[..30].iter().map(|id| world.calling(id)).collect();
        world.vendor.reached(5).await;
        for _ in 0..50 {
            let hit = world.call(&ids[30]).await;
            assert!(hit.status == 200 && field(&hit, "cache-status").starts_with("callgate; hit"));
        }
        assert!(held.iter().all(|asking| !asking.is_finished()));
        assert_eq!(world.vendor.requests(), 5);
    }
}

#[tokio::test]
async fn callers_who_leave_the_queue_cost_no_request() {
    let settings = "upstream.max_concurrency = 1\nbudget.queue_timeout = \"1h\"";
    let world = start(quiet(), settings).await;
    let ids = world.settled(22);
    // Long enough for all others to come and to go.
    world.befall(FaultKind::Delay(Duration::from_secs(2)));
    let first = world.calling(&ids[0]);
    world.vendor.reached(1).await;
    world.heal();
    let queued: Vec<_> = ids[1..21].iter().map(|id| world.calling(id)).collect();
    world.metric_reaches("callgate_connections", 21.0).await;
    let stays = world.calling(&ids[21]);
    queued.iter().for_each(|asking| asking.abort());
    world.metric_reaches("callgate_connections", 2.0).await;
    assert!(!first.is_finished());
    for asking in [first, stays] {
        assert_eq!(asking.await.expect("no panic").status, 200);
    }
    assert_eq!(world.vendor.requests(), 2);
    assert_eq!(world.metric("callgate_budget_remaining{workspace=\"main\"}").await, 58.0);
    assert!(world.metric("callgate_budget_wait_seconds_sum").await > 1.0);
}
