//! Connections on which answers and requests have come apart: no caller gets another call's record, and a broken
//! connection costs no more than it must.

use tokio::time::{Duration, sleep};

use super::{
    records::{id, settled},
    vendor::{Play, Seen, ok},
    world::{ID, World, request},
};

#[tokio::test]
async fn one_answer_too_many_does_not_shift_those_that_follow() {
    // It comes late, when the next request is already under way, and so do all that follow on the first connection.
    let world = World::start(|seen| match (seen.connection, seen.number) {
        (1, 1) => Play::Send(ok(settled(seen.id()))),
        (1, n) => Play::Send(ok(settled(&id(n - 1)))),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    for n in 1..=6 {
        let answer = world.call(&id(n)).await;
        assert_eq!((answer.status, answer.text()), (200, settled(&id(n))), "{n}");
        assert_eq!(answer.cache(), "callgate; fwd=uri-miss; fwd-status=200; stored");
    }
    assert_eq!(
        (world.vendor.requests(), world.vendor.connections()),
        (7, 6),
        "one more, and from then on each connection serves once for a while"
    );
    world.vendor.closed(1).await;
}

#[tokio::test]
async fn an_answer_of_another_call_is_no_reason_to_go_on_with_the_kept_one() {
    let settings = "lookup.final_ttl = \"20ms\"\nlookup.settling_ttl = \"20ms\"";
    let world = World::with(settings, |seen| match (seen.connection, seen.number) {
        (1, 2) => Play::Send(ok(settled(&id(9)))),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    assert_eq!(world.call(ID).await.status, 200);
    sleep(Duration::from_millis(30)).await;
    let anew = world.call(ID).await;
    assert_eq!((anew.status, anew.text()), (200, settled(ID)));
    assert!(anew.cache().contains("; fwd-status=200; stored"), "{anew:?}");
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (3, 2));
    world.vendor.closed(1).await;
}

#[tokio::test]
async fn a_new_connection_whose_answer_is_of_another_call_is_left_and_no_more_is_asked() {
    let settings = "lookup.final_ttl = \"20ms\"\nlookup.settling_ttl = \"20ms\"";
    let world = World::with(settings, |seen| match seen.number {
        // The first connection ends, so that the second request has one of its own.
        1 => Play::ThenClose(ok(settled(seen.id()))),
        2 => Play::Send(ok(settled(&id(9)))),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    assert_eq!(world.call(ID).await.status, 200);
    world.vendor.closed(1).await;
    world.gateway.settle().await;
    sleep(Duration::from_millis(30)).await;
    let kept = world.call(ID).await;
    assert_eq!((kept.status, kept.text()), (200, settled(ID)), "the kept one is worth more");
    assert!(kept.cache().contains("detail=superseded"), "{kept:?}");
    assert_eq!(world.vendor.requests(), 2);
    assert_eq!(world.call(&id(1)).await.text(), settled(&id(1)));
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (3, 3));
    world.vendor.closed(2).await;
}

#[tokio::test]
async fn half_a_head_is_an_answer_that_broke_off_also_on_a_used_connection() {
    for retries in [0, 1] {
        let settings = format!("upstream.retries = {retries}");
        let world = World::with(&settings, |seen| match seen.number {
            2 => Play::ThenClose(b"HTTP/1.1 200 OK\r\ncontent-ty".to_vec()),
            _ => Play::Send(ok(settled(seen.id()))),
        })
        .await;
        assert_eq!(world.call(&id(1)).await.status, 200);
        assert_eq!(world.call(&id(2)).await.problem(), (502, "upstream_incomplete".into()));
        assert_eq!(
            (world.vendor.requests(), world.vendor.connections()),
            (2, 1),
            "the vendor had the request"
        );
    }
}

/// So many connections in the pool, none of which the vendor will answer on again.
async fn dead_pool(size: usize) -> World {
    let world =
        World::with("upstream.retries = 1", move |seen| match (seen.connection <= size, seen.number) {
            (true, number) if number <= size => Play::Held(ok(settled(seen.id()))),
            (true, _) => Play::ThenClose(Vec::new()),
            (false, _) => Play::Send(ok(settled(seen.id()))),
        })
        .await;
    let mut callers = Vec::new();
    for n in 0..size {
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        callers.push(caller);
    }
    world.vendor.arrived(size).await;
    world.vendor.release();
    for caller in &mut callers {
        assert_eq!(caller.answer().await.status, 200);
    }
    assert_eq!(world.vendor.connections(), size);
    world
}

#[tokio::test]
async fn a_pool_of_dead_connections_is_found_out_once() {
    let world = dead_pool(8).await;
    for n in 100..110 {
        let answer = world.call(&id(n)).await;
        assert_eq!((answer.status, answer.text()), (200, settled(&id(n))), "{n}");
    }
    // The first of them met a dead one; from then on each connection serves once for a while.
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (8 + 10 + 1, 8 + 10));
}

#[tokio::test]
async fn a_crowd_that_meets_a_pool_of_dead_connections_is_answered() {
    let world = dead_pool(10).await;
    let mut callers = Vec::new();
    for n in 100..103 {
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        callers.push(caller);
    }
    for (caller, n) in callers.iter_mut().zip(100..) {
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.text()), (200, settled(&id(n))), "{n}");
    }
    // Each of them may have met one of its own before it was known of all.
    assert!((14..=16).contains(&world.vendor.requests()), "{}", world.vendor.requests());
}

/// Eight callers who ask for two hundred calls one after another, on all cores, before a vendor that does this about the
/// requests. Each is answered, with its own call.
async fn on_all_cores(script: impl Fn(&Seen) -> Play + Send + Sync + 'static) -> World {
    let world = World::start(script).await;
    let mut callers = Vec::new();
    for caller in 0..8 {
        let mut connection = world.gateway.connect().await;
        callers.push(tokio::spawn(async move {
            for n in 0..25 {
                let id = id(caller * 1_000 + n);
                connection.send(request("GET", &format!("/calls/{id}"), &[])).await;
                let answer = connection.answer().await;
                assert_eq!((answer.status, answer.text()), (200, settled(&id)), "{answer:?}");
            }
        }));
    }
    for caller in callers {
        caller.await.expect("answered");
    }
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_asked_for_reach_no_caller_of_a_crowd() {
    let unasked = |seen: &Seen| {
        let own = ok(settled(seen.id()));
        match seen.number % 3 {
            0 => Play::Send([own, ok(settled(&id(9_999)))].concat()),
            1 => Play::Drip(own, ok(settled(&id(9_999))), Duration::ZERO),
            _ => Play::Send(own),
        }
    };
    let world = on_all_cores(unasked).await;
    // Another call's record is never kept for the one that was asked for.
    assert!(world.vendor.requests() >= 200, "{}", world.vendor.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_as_they_are_lent_again_cost_no_caller_an_answer() {
    let world = on_all_cores(|seen| Play::ThenClose(ok(settled(seen.id())))).await;
    assert!(world.vendor.requests() >= 200, "{}", world.vendor.requests());
}
