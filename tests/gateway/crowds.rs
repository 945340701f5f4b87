//! Many callers at once: one request to the vendor, one landing for all, and nothing changed by those who leave.

use super::{
    records::{id, ongoing, settled},
    vendor::{Play, answer, ok},
    world::{Answer, Caller, ID, World, request},
};

const CROWD: usize = 100;

/// Callers who have all asked for the call, and are known to the gateway.
async fn crowd(world: &World, target: &str, size: usize) -> Vec<Caller> {
    let mut callers = Vec::with_capacity(size);
    for _ in 0..size {
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", target, &[])).await;
        callers.push(caller);
    }
    world.gateway.settle().await;
    callers
}

async fn answers(callers: Vec<Caller>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(callers.len());
    for mut caller in callers {
        answers.push(caller.answer().await);
    }
    answers
}

/// A hundred callers of one call, before a vendor that takes its time to say `bytes`: one of them caused the request,
/// the others joined it, and all are told alike.
async fn all_get(bytes: Vec<u8>, status: u16, cache: &str) -> World {
    let world = World::start(move |_| Play::Held(bytes.clone())).await;
    let callers = crowd(&world, &format!("/calls/{ID}"), CROWD).await;
    world.vendor.arrived(1).await;
    world.vendor.release();
    let answers = answers(callers).await;
    assert!(answers.iter().all(|answer| answer.status == status && answer.body == answers[0].body));
    let count = |text: String| answers.iter().filter(|answer| answer.cache() == text).count();
    assert_eq!(
        (count(cache.to_owned()), count(format!("{cache}; collapsed"))),
        (1, CROWD - 1),
        "{:?}",
        answers[0]
    );
    assert_eq!(world.vendor.requests(), 1);
    world
}

#[tokio::test]
async fn a_crowd_at_a_final_call_is_one_request() {
    let world = all_get(ok(settled(ID)), 200, "callgate; fwd=uri-miss; fwd-status=200; stored").await;
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
    let metrics = world.gateway.metrics().await;
    for line in [
        r#"callgate_requests_total{route="lookup",cache="miss",code="200"} 1"#,
        r#"callgate_requests_total{route="lookup",cache="collapsed",code="200"} 99"#,
        r#"callgate_requests_total{route="lookup",cache="hit",code="200"} 1"#,
        r#"callgate_upstream_requests_total{code="200"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_crowd_at_an_ongoing_call_is_one_request_and_the_next_caller_another() {
    let world = all_get(ok(ongoing(ID)), 200, "callgate; fwd=uri-miss; fwd-status=200; detail=ongoing").await;
    assert_eq!(world.call(ID).await.status, 200);
    assert_eq!(world.vendor.requests(), 2);
}

#[tokio::test]
async fn a_crowd_shares_a_failure_of_every_kind() {
    all_get(answer("500 Oops", "", "{}"), 500, "callgate; fwd=uri-miss; fwd-status=500").await;
    all_get(answer("404 No", "", "{}"), 404, "callgate; fwd=uri-miss; fwd-status=404; stored").await;
    all_get(answer("503 No", "", "{}"), 502, "callgate; fwd=uri-miss; detail=upstream_error").await;
    all_get(answer("429 No", "", "{}"), 429, "callgate; fwd=uri-miss; detail=rate_limit_exceeded").await;
    all_get(b"garbage\r\n\r\n".to_vec(), 502, "callgate; fwd=uri-miss; detail=upstream_invalid").await;
    let foreign = ok(settled(ID).replace("ws-main", "ws-other"));
    all_get(foreign, 502, "callgate; fwd=uri-miss; detail=upstream_mismatch").await;
}

#[tokio::test]
async fn a_crowd_shares_a_timeout_and_the_id_is_not_wedged() {
    let settings = "upstream.response_timeout = \"1500ms\"\nlookup.failure_ttl = \"0s\"";
    let world = World::with(settings, |seen| match seen.number {
        1 => Play::ThenNothing(Vec::new()),
        _ => Play::Send(ok(settled(ID))),
    })
    .await;
    let callers = crowd(&world, &format!("/calls/{ID}"), 20).await;
    for answer in answers(callers).await {
        assert_eq!(answer.problem(), (504, "upstream_timeout".into()));
    }
    assert_eq!(world.vendor.requests(), 1);
    assert_eq!(world.call(ID).await.status, 200);
}

#[tokio::test]
async fn a_crowd_shares_an_answer_that_was_cut_and_a_connection_that_was_reset() {
    let half = ok(settled(ID)).split_at(70).0.to_vec();
    let plays: [fn(Vec<u8>) -> Play; 2] = [Play::ThenClose, Play::ThenReset];
    for (play, said) in plays.into_iter().flat_map(|play| [half.clone(), Vec::new()].map(|said| (play, said)))
    {
        let world = World::with(
            "budget.queue_timeout = \"20s\"\nupstream.max_concurrency = 1",
            move |seen| match seen.id() {
                ID => play(said.clone()),
                other => Play::Held(ok(settled(other))),
            },
        )
        .await;
        // The crowd gathers while another call has the only place.
        let mut first = crowd(&world, &format!("/calls/{}", id(1)), 1).await;
        world.vendor.arrived(1).await;
        let callers = crowd(&world, &format!("/calls/{ID}"), 20).await;
        world.vendor.release();
        assert_eq!(first[0].answer().await.status, 200);
        for answer in answers(callers).await {
            assert_eq!(answer.problem(), (502, "upstream_incomplete".into()));
        }
        // Where nothing came over a used connection, or nothing was read before the reset, it is asked once more.
        assert!(world.vendor.requests() <= 3, "{}", world.vendor.requests());
    }
}

#[tokio::test]
async fn callers_of_a_call_that_fails_fast_cost_one_request_while_it_is_remembered() {
    let oops = || Play::Send(answer("500 Oops", "", "{}"));
    let world = World::with("lookup.failure_ttl = \"20s\"", move |_| oops()).await;
    for caller in crowd(&world, &format!("/calls/{ID}"), CROWD).await.iter_mut() {
        assert_eq!(caller.answer().await.status, 500);
    }
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn the_one_who_caused_the_request_may_leave_and_the_others_are_served() {
    let world = World::start(|seen| Play::Held(ok(ongoing(seen.id())))).await;
    let target = format!("/calls/{ID}");
    let first = crowd(&world, &target, 1).await;
    world.vendor.arrived(1).await;
    let mut others = crowd(&world, &target, 9).await;
    drop(first);
    others.truncate(5);
    world.gateway.left(5).await;
    world.vendor.release();
    for answer in answers(others).await {
        assert_eq!((answer.status, answer.text()), (200, ongoing(ID)));
        assert!(answer.cache().ends_with("; collapsed"));
    }
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (1, 1));
}

#[tokio::test]
async fn a_request_that_is_paid_for_goes_on_when_everybody_has_left() {
    let world = World::start(|seen| Play::Held(ok(settled(seen.id())))).await;
    let callers = crowd(&world, &format!("/calls/{ID}"), 3).await;
    world.vendor.arrived(1).await;
    drop(callers);
    world.gateway.left(3).await;
    world.vendor.release();
    let answer = world.call(ID).await;
    assert_eq!((answer.status, answer.text()), (200, settled(ID)));
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (1, 1));
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_never_sent() {
    let settings = "upstream.max_concurrency = 1\nbudget.queue_timeout = \"20s\"";
    let world = World::with(settings, |seen| Play::Held(ok(settled(seen.id())))).await;
    let mut first = crowd(&world, &format!("/calls/{}", id(1)), 1).await;
    world.vendor.arrived(1).await;
    // They wait for their turn, in this order.
    let second = crowd(&world, &format!("/calls/{}", id(2)), 3).await;
    let mut third = crowd(&world, &format!("/calls/{}", id(3)), 1).await;
    drop(second);
    world.gateway.left(3).await;
    world.vendor.release();
    for caller in first.iter_mut().chain(&mut third) {
        assert_eq!(caller.answer().await.status, 200);
    }
    let ids: Vec<_> = world.vendor.seen().iter().map(|seen| seen.id().to_owned()).collect();
    assert_eq!(ids, [id(1), id(3)]);
}

#[tokio::test]
async fn different_calls_do_not_wait_for_each_other() {
    let world = World::start(|seen| match seen.id() {
        ID => Play::Held(ok(settled(ID))),
        other => Play::Send(ok(settled(other))),
    })
    .await;
    let slow = crowd(&world, &format!("/calls/{ID}"), 1).await;
    for n in 0..10 {
        assert_eq!(world.call(&id(n)).await.status, 200);
    }
    world.vendor.release();
    assert_eq!(answers(slow).await[0].status, 200);
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_the_settings_allow() {
    let settings = "upstream.max_concurrency = 3\nbudget.queue_timeout = \"20s\"";
    let world = World::with(settings, |seen| Play::Held(ok(settled(seen.id())))).await;
    let mut callers = Vec::new();
    for n in 0..9 {
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        callers.push(caller);
    }
    world.vendor.arrived(3).await;
    world.gateway.settle().await;
    assert_eq!(world.vendor.requests(), 3);
    world.vendor.release();
    for answer in answers(callers).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (9, 3));
}
