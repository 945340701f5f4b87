//! How a flight ends, under paused time: who wants what kept, what a 404 removes, keys that change, tries and pauses.

use std::io::{Seek as _, Write as _};

use futures_util::future::join_all;
use tokio::time::{Duration, advance, sleep};

use super::*;
use crate::{
    lookup::{
        Content,
        tests::{A, B, Terms, World, ask, no_store, ongoing, said, seconds, settled, status},
    },
    upstream::{
        breaker::Circuit,
        credentials::{ApiKey, KeySource},
        error::UpstreamError,
        scripted::settle,
    },
};

fn call(n: usize) -> String {
    format!("call-{n}")
}

#[tokio::test(start_paused = true)]
async fn what_only_those_wait_for_who_want_nothing_kept_is_not_kept() {
    let mut world = World::new(Terms::default());
    let shy = world.asking(no_store(A));
    world.vendor.next().await.answer(200, settled(A));
    assert_eq!(said(shy).await, (200, "callgate; fwd=uri-miss; fwd-status=200; detail=no-store".into()));
    // One who has nothing against it is enough.
    let shy = world.asking(no_store(A));
    let request = world.vendor.next().await;
    let ordinary = world.caller(A);
    settle().await;
    request.answer(200, settled(A));
    assert_eq!(said(shy).await.1, "callgate; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(said(ordinary).await.1, "callgate; fwd=uri-miss; fwd-status=200; stored; collapsed");
    assert!(said(world.caller(A)).await.1.starts_with("callgate; hit"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_gone_is_forgotten_whoever_asked() {
    for status in [404, 410] {
        for asked in [ask(A), no_store(A)] {
            let mut world = World::new(Terms::default());
            world.keep(A).await;
            advance(seconds(3_601)).await;
            let caller = world.asking(asked);
            world.vendor.next().await.answer(status, "");
            assert_eq!(said(caller).await.0, status);
            advance(seconds(6)).await;
            let caller = world.caller(A);
            world.vendor.next().await.fail(UpstreamError::Invalid("html".into()));
            assert_eq!(said(caller).await.0, 502, "nothing is left that could answer");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_404_without_a_lifetime_is_forgotten_and_so_is_the_call() {
    let mut terms = Terms::default();
    terms.policy.not_found_ttl = Duration::ZERO;
    let mut world = World::new(terms);
    world.keep(A).await;
    advance(seconds(3_601)).await;
    let caller = world.caller(A);
    world.vendor.next().await.answer(404, "");
    assert_eq!(said(caller).await, (404, "callgate; fwd=stale; fwd-status=404; detail=no-lifetime".into()));
    let caller = world.caller(A);
    world.vendor.next().await.answer(500, "");
    assert_eq!(said(caller).await.0, 500);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_replaced_under_load_costs_each_miss_one_more_try() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"the-old-key").expect("written");
    let source = KeySource::File(file.path().to_owned());
    let mut world = World::new(Terms { source, ..Terms::default() });
    let callers: Vec<_> = (0..10).map(|n| world.caller(&call(n))).collect();
    let old = ApiKey::parse(b"the-old-key").expect("a key");
    let mut first = Vec::new();
    for _ in 0..10 {
        first.push(world.vendor.next().await);
    }
    assert!(first.iter().all(|request| request.key.same(&old)));
    file.rewind().expect("a file");
    file.write_all(b"the-new-key").expect("written");
    first.into_iter().for_each(|request| request.fail(UpstreamError::CredentialsRejected(401)));
    for _ in 0..10 {
        let request = world.vendor.next().await;
        assert!(!request.key.same(&old));
        let id = request.path.rsplit('/').next().expect("an id").to_owned();
        request.answer(200, settled(&id));
    }
    for caller in callers {
        assert_eq!(said(caller).await.0, 200);
    }
    // What was rejected counts for the old key alone.
    assert_eq!((world.vendor.unanswered().await, world.remaining()), (0, 50));
    assert!(world.lookup.upstream().rejected(Instant::now()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_stays_rejected_is_tried_once_and_said_to_be() {
    let mut world = World::new(Terms::default());
    let caller = world.caller(A);
    world.vendor.next().await.fail(UpstreamError::CredentialsRejected(401));
    assert_eq!(said(caller).await.0, 502);
    assert_eq!(world.vendor.unanswered().await, 0);
    assert_eq!(world.lookup.upstream().rejected(Instant::now()), ["main"]);
    advance(seconds(60)).await;
    assert!(world.lookup.upstream().rejected(Instant::now()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_tries_share_one_deadline_and_each_has_a_permit() {
    let mut terms = Terms::default();
    terms.upstream.retries = 10;
    let mut world = World::new(terms);
    let began = Instant::now();
    let caller = world.caller(A);
    world.vendor.next().await.fail(UpstreamError::Failing(503));
    let second = world.vendor.next().await;
    sleep(seconds(10)).await;
    second.fail(UpstreamError::Failing(502));
    let _hangs = world.vendor.next().await;
    assert_eq!(said(caller).await.0, 504);
    assert_eq!(began.elapsed(), seconds(15));
    assert_eq!((world.vendor.seen, world.remaining()), (3, 57));
}

#[tokio::test(start_paused = true)]
async fn a_try_for_which_there_is_no_permit_left_is_not_made() {
    let mut terms = Terms::default();
    terms.budget.requests_per_minute = 1;
    let mut world = World::new(terms);
    let caller = world.caller(A);
    world.vendor.next().await.fail(UpstreamError::Failing(503));
    assert_eq!(said(caller).await, (502, "callgate; fwd=uri-miss; detail=upstream_error".into()));
    assert_eq!(world.vendor.unanswered().await, 0);
}

#[tokio::test(start_paused = true)]
async fn when_much_fails_only_few_are_tried_again() {
    let mut terms = Terms::default();
    terms.upstream.retries = 5;
    let mut world = World::new(terms);
    for n in 0..20 {
        let caller = world.caller(&call(n));
        // Every other call would need four tries; more failures in a row would open the circuit.
        for nth in 0..4 {
            let request = world.vendor.next().await;
            if n % 2 == 0 || nth == 3 {
                request.answer(200, ongoing(&call(n)));
                break;
            }
            request.fail(UpstreamError::Failing(503));
            sleep(seconds(1)).await;
            if world.vendor.unanswered().await == 0 {
                break;
            }
        }
        let _ = said(caller).await;
    }
    let retries = world.vendor.seen - 20;
    assert!((4..=20 / 5 + 3).contains(&retries), "{retries}");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_lets_one_try_at_a_time_and_waits_twice_as_long_after_each_failure() {
    let mut terms = Terms::default();
    terms.upstream.retries = 0;
    let mut world = World::new(terms);
    for n in 0..5 {
        let caller = world.caller(&call(n));
        world.vendor.next().await.fail(UpstreamError::Connect("refused".into()));
        assert_eq!(said(caller).await.0, 502);
    }
    let circuit = |world: &World| world.lookup.upstream().circuit(Instant::now());
    for length in [5, 10, 20, 40, 60, 60] {
        assert_eq!(circuit(&world), Circuit::Open);
        advance(seconds(length) - Duration::from_millis(2)).await;
        let answer = world.caller(B).await.expect("no panic");
        assert_eq!(status(&answer), 503, "{length}");
        sleep(Duration::from_millis(2)).await;
        assert_eq!(circuit(&world), Circuit::HalfOpen);
        let tries = world.caller(A);
        let request = world.vendor.next().await;
        let rest = join_all((0..5).map(|n| said(world.caller(&call(n))))).await;
        assert!(rest.iter().all(|(status, _)| *status == 503), "one at a time");
        request.fail(UpstreamError::Timeout);
        assert_eq!(said(tries).await.0, 504);
    }
    advance(seconds(60)).await;
    world.keep(A).await;
    assert_eq!(circuit(&world), Circuit::Closed);
    world.keep(B).await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_429s_costs_one_request_a_pause() {
    let mut world = World::new(Terms::default());
    for pause in 0..5 {
        let crowd: Vec<_> = (0..20).map(|n| world.caller(&call(n))).collect();
        if pause == 0 {
            // All of them left before anybody knew.
            for _ in 0..16 {
                world.vendor.next().await.limit(30);
            }
        } else {
            let ahead = world.vendor.next().await;
            assert_eq!(world.vendor.unanswered().await, 0, "one goes ahead of the rest");
            ahead.limit(30);
        }
        for caller in crowd {
            assert_eq!(said(caller).await.0, 429);
        }
        sleep(seconds(2)).await;
        let later = world.caller(B).await.expect("no panic");
        let Content::Refused(refusal) = &later.content else { panic!("an error") };
        let left = refusal.retry_at.expect("a time") - Instant::now();
        assert!((27..=29).contains(&left.as_secs()), "{left:?}");
        assert_eq!(world.vendor.unanswered().await, 0);
        advance(seconds(29)).await;
    }
    assert_eq!(world.vendor.seen, 16 + 4);
}

#[tokio::test(start_paused = true)]
async fn a_429_that_asks_for_no_pause_is_still_given_a_second() {
    let mut terms = Terms::default();
    terms.budget.queue_timeout = Duration::ZERO;
    let mut world = World::new(terms);
    for second in 0..3 {
        let caller = world.caller("call-first");
        assert_eq!(world.vendor.unanswered().await, 1, "{second}");
        world.vendor.next().await.limit(0);
        assert_eq!(said(caller).await.0, 429);
        for n in 0..20 {
            assert_eq!(said(world.caller(&call(n))).await.0, 429);
        }
        assert_eq!(world.vendor.unanswered().await, 0);
        advance(Duration::from_millis(990)).await;
        assert_eq!(said(world.caller(B)).await.0, 429, "the second is not over");
        // And up to a tenth of it by chance.
        advance(Duration::from_millis(120)).await;
    }
    assert_eq!(world.vendor.seen, 3);
}

#[tokio::test(start_paused = true)]
async fn another_calls_record_on_a_used_connection_leaves_no_more_time_than_there_was() {
    let mut world = World::new(Terms::default());
    let began = Instant::now();
    let caller = world.caller(A);
    let first = world.vendor.next().await;
    sleep(seconds(10)).await;
    first.answer_over_a_used_connection(settled(B));
    let _hangs = world.vendor.next().await;
    assert_eq!(said(caller).await, (504, "callgate; fwd=uri-miss; detail=upstream_timeout".into()));
    assert_eq!((began.elapsed(), world.vendor.seen), (seconds(15), 2));
    // Twice in a row is no accident of one connection.
    let caller = world.caller(B);
    for _ in 0..2 {
        world.vendor.next().await.answer_over_a_used_connection(settled(A));
    }
    assert_eq!(said(caller).await.1, "callgate; fwd=uri-miss; fwd-status=200; detail=suspect");
    assert_eq!(world.vendor.unanswered().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_joins_a_poll_waits_no_longer_than_one_that_comes_alone() {
    let mut terms = Terms::default();
    terms.upstream.max_concurrency = 1;
    let mut world = World::new(terms);
    let busy = world.caller(A);
    let first = world.vendor.next().await;
    let poll = world.poll(B);
    sleep(seconds(1)).await;
    let came = Instant::now();
    let lookup = world.caller(B);
    let (status, why) = said(lookup).await;
    assert_eq!((status, came.elapsed()), (429, seconds(2)));
    assert_eq!(why, "callgate; fwd=uri-miss; detail=rate_limit_exceeded; collapsed");
    assert_eq!(said(poll).await.0, 429);
    first.answer(200, settled(A));
    assert_eq!((said(busy).await.0, world.vendor.unanswered().await), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flight_under_way_ends_by_the_settings_that_it_began_with() {
    let mut world = World::new(Terms::default());
    world.keep(A).await;
    advance(seconds(3_601)).await;
    let caller = world.caller(A);
    let request = world.vendor.next().await;
    let mut policy = world.lookup.policy().as_ref().clone();
    policy.stale_if_error = Duration::ZERO;
    world.lookup.change_policy(policy);
    request.fail(UpstreamError::Timeout);
    assert_eq!(said(caller).await, (200, "callgate; hit; ttl=-1; detail=stale-if-error".into()));
    // The next one begins anew.
    advance(seconds(2)).await;
    let caller = world.caller(A);
    world.vendor.next().await.fail(UpstreamError::Timeout);
    assert_eq!(said(caller).await.0, 504);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_refused_on_another_account_is_remembered_as_no_failure() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    let rotate = |key: &[u8]| {
        let mut new = tempfile::NamedTempFile::new_in(dir.path()).expect("a file");
        new.write_all(key).expect("written");
        new.persist(&path).expect("in its place");
    };
    rotate(b"the-other-key");
    let mut terms = Terms { source: KeySource::File(path.clone()), ..Terms::default() };
    terms.budget.requests_per_minute = 1;
    let mut world = World::new(terms);
    rotate(b"the-spent-key");
    world.lookup.upstream().look_at_keys().await;
    world.keep(A).await;
    rotate(b"the-other-key");
    world.lookup.upstream().look_at_keys().await;
    // The turn is had with one key, and the other is there before the request leaves.
    rotate(b"the-spent-key");
    let answer = world.poll(B).await.expect("no panic");
    assert_eq!(status(&answer), 429);
    assert_eq!((answer.turned_away, answer.timing.upstream), (Some(Lane::Wait), None));
    rotate(b"the-other-key");
    world.lookup.upstream().look_at_keys().await;
    let caller = world.caller(B);
    world.vendor.next().await.answer(200, settled(B));
    assert_eq!(said(caller).await, (200, "callgate; fwd=uri-miss; fwd-status=200; stored".into()));
}

#[tokio::test(start_paused = true)]
async fn another_calls_record_stands_where_there_is_no_turn_to_ask_once_more() {
    let mut terms = Terms::default();
    terms.budget.requests_per_minute = 1;
    let mut world = World::new(terms);
    let caller = world.caller(A);
    let of_another = r#"{"_id":"call-a","workspaceId":"ws-2","status":"completed"}"#;
    world.vendor.next().await.answer_over_a_used_connection(of_another);
    assert_eq!(said(caller).await, (502, "callgate; fwd=uri-miss; detail=upstream_mismatch".into()));
    assert_eq!(world.vendor.unanswered().await, 0);
}
