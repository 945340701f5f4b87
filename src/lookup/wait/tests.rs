//! Waiting for calls to end, under paused time: one poll for all, its pace, and who is told when.

use std::collections::HashSet;

use http::HeaderValue;
use tokio::{
    task::JoinHandle,
    time::{advance, sleep},
};

use super::*;
use crate::{
    lookup::{
        Directives,
        tests::{A, B, Terms, World, ask, cache_status, no_store, ongoing, said, seconds, settled, status},
    },
    trace::Trace,
    upstream::{error::UpstreamError, scripted::settle},
};

fn waiting(world: &World, ask: Ask, patience: u64) -> JoinHandle<Answer> {
    let lookup = Arc::clone(&world.lookup);
    tokio::spawn(async move { lookup.answer_when_over(ask, seconds(patience)).await })
}

/// So many who wait for a call of which they have just heard that it is under way.
async fn crowd(world: &mut World, size: usize, patience: u64) -> Vec<JoinHandle<Answer>> {
    let crowd: Vec<_> = (0..size).map(|_| waiting(world, ask(A), patience)).collect();
    world.vendor.next().await.answer(200, ongoing(A));
    settle().await;
    crowd
}

#[test]
fn the_pace_grows_with_the_age_of_the_call() {
    let table = [(0, 2), (30, 2), (60, 2), (90, 3), (240, 8), (300, 10), (7_200, 10)];
    for (age, expected) in table {
        assert_eq!(pace(Duration::from_secs(age)), Duration::from_secs(expected), "{age}");
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_wait_one_poll_asks_and_all_hear_at_once() {
    let mut world = World::new(Terms::default());
    let began = Instant::now();
    let waiters = crowd(&mut world, 100, 30).await;
    for _ in 0..4 {
        world.vendor.next().await.answer(200, ongoing(A));
    }
    let last = world.vendor.next().await;
    assert_eq!(began.elapsed().as_secs(), 10, "five polls, two seconds apart");
    last.answer(200, settled(A));
    let heard = Instant::now();
    for waiter in waiters {
        let answer = waiter.await.expect("no panic");
        assert!(answer.is_over());
        assert_eq!(answer.retry_after, None);
    }
    assert_eq!(Instant::now(), heard);
    assert_eq!(world.vendor.unanswered().await, 0);
    assert!(world.lookup.vigils.is_empty());
    assert!(said(world.caller(A)).await.1.starts_with("callgate; hit"));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_the_wait_the_latest_is_answered() {
    let mut world = World::new(Terms::default());
    let waiters = crowd(&mut world, 3, 5).await;
    let began = Instant::now();
    let newer = format!(r#"{{"_id":"{A}","status":"ongoing","updatedAt":1775000002}}"#);
    world.vendor.next().await.answer(200, newer.clone());
    // This one takes too long for those who wait.
    let slow = world.vendor.next().await;
    for waiter in waiters {
        let answer = waiter.await.expect("no panic");
        let Content::Stored(stored) = &answer.content else { panic!("an answer") };
        assert_eq!(stored.body, newer.as_bytes());
        assert_eq!(answer.retry_after, Some(seconds(2)));
    }
    assert_eq!(began.elapsed().as_secs(), 4);
    slow.answer(200, ongoing(A));
    settle().await;
    assert!(world.lookup.vigils.is_empty() && world.lookup.flights.is_empty());
    sleep(seconds(20)).await;
    assert_eq!(world.vendor.unanswered().await, 0, "nobody waits, so nobody asks");
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_what_another_caller_reads() {
    let mut world = World::new(Terms::default());
    let waiters = crowd(&mut world, 3, 30).await;
    sleep(seconds(1)).await;
    let other = world.caller(A);
    world.vendor.next().await.answer(200, settled(A));
    assert_eq!(said(other).await.0, 200);
    let heard = Instant::now();
    for waiter in waiters {
        assert!(waiter.await.expect("no panic").is_over());
    }
    assert_eq!(Instant::now(), heard);
    assert_eq!((world.vendor.unanswered().await, world.vendor.seen), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn each_poll_is_a_span_of_its_own_in_the_trace_of_who_waits() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
    let parent = HeaderValue::from_str(&format!("{TRACE}00f067aa0ba902b7-01")).expect("a value");
    let mut world = World::new(Terms::default());
    let _waiter = waiting(&world, Ask { trace: Trace::continuing(None, Some(&parent)), ..ask(A) }, 30);
    let mut spans = HashSet::from([parent]);
    for polls in 0..4 {
        let request = world.vendor.next().await;
        let span = request.traceparent.clone().expect("one");
        assert!(span.to_str().expect("ascii").starts_with(TRACE));
        assert!(spans.insert(span), "after {polls} others");
        request.answer(200, ongoing(A));
    }
}

#[tokio::test(start_paused = true)]
async fn polls_that_fail_are_passed_over() {
    let mut world = World::new(Terms::default());
    let waiters = crowd(&mut world, 2, 30).await;
    world.vendor.next().await.answer(500, "");
    world.vendor.next().await.fail(UpstreamError::Invalid("html".into()));
    world.vendor.next().await.panic();
    world.vendor.next().await.limit(5);
    let after_the_pause = world.vendor.next().await;
    after_the_pause.answer(200, settled(A));
    for waiter in waiters {
        assert!(waiter.await.expect("no panic").is_over());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_gone_is_over() {
    let mut world = World::new(Terms::default());
    let waiters = crowd(&mut world, 2, 30).await;
    world.vendor.next().await.answer(404, "");
    for waiter in waiters {
        assert_eq!(status(&waiter.await.expect("no panic")), 404);
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_waits_for_its_turn_ends_with_those_who_wait_for_it() {
    let mut terms = Terms::default();
    terms.upstream.max_concurrency = 1;
    terms.budget.queue_timeout = seconds(10);
    let mut world = World::new(terms);
    let waiters = crowd(&mut world, 2, 30).await;
    let busy = world.caller(B);
    let first = world.vendor.next().await;
    sleep(seconds(3)).await;
    assert_eq!(world.lookup.flights.len(), 2, "the poll has its place in the queue");
    waiters.iter().for_each(JoinHandle::abort);
    settle().await;
    assert_eq!((world.lookup.flights.len(), world.lookup.vigils.len()), (1, 0));
    first.answer(200, settled(B));
    assert_eq!(said(busy).await.0, 200);
    assert_eq!((world.vendor.unanswered().await, world.remaining()), (0, 58));
}

#[tokio::test(start_paused = true)]
async fn a_poll_goes_on_for_those_who_come_while_others_leave() {
    let mut terms = Terms::default();
    terms.policy.ongoing_ttl = seconds(3);
    let mut world = World::new(terms);
    let early = crowd(&mut world, 1, 30).await;
    sleep(seconds(1)).await;
    let late = waiting(&world, ask(A), 30);
    settle().await;
    early.iter().for_each(JoinHandle::abort);
    settle().await;
    assert_eq!(world.lookup.vigils.len(), 1);
    world.vendor.next().await.answer(200, settled(A));
    assert!(late.await.expect("no panic").is_over());
    assert_eq!(world.vendor.seen, 2);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_every_wait_with_what_is_known() {
    let mut world = World::new(Terms::default());
    let waiters = crowd(&mut world, 3, 30).await;
    let began = Instant::now();
    world.lookup.drain();
    for waiter in waiters {
        let answer = waiter.await.expect("no panic");
        assert!(answer.is_ongoing() && answer.retry_after.is_some());
    }
    let late = waiting(&world, ask(A), 30);
    world.vendor.next().await.answer(200, ongoing(A));
    assert!(late.await.expect("no panic").is_ongoing());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_wants_only_what_is_kept_does_not_make_anybody_ask() {
    let mut terms = Terms::default();
    terms.policy.ongoing_ttl = seconds(10);
    let mut world = World::new(terms);
    let caller = world.caller(A);
    world.vendor.next().await.answer(200, ongoing(A));
    assert_eq!(said(caller).await.0, 200);
    let directives = Directives { only_if_cached: true, ..Directives::default() };
    let answer = waiting(&world, Ask { directives, ..ask(A) }, 30).await.expect("no panic");
    assert!(answer.is_ongoing());
    advance(seconds(60)).await;
    assert_eq!(world.vendor.unanswered().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_poll_reads_is_kept_if_one_of_those_who_wait_has_nothing_against_it() {
    for (second, kept) in [(ask(A), true), (no_store(A), false)] {
        let mut world = World::new(Terms::default());
        let first = waiting(&world, no_store(A), 30);
        world.vendor.next().await.answer(200, ongoing(A));
        settle().await;
        let second = waiting(&world, second, 30);
        world.vendor.next().await.answer(200, ongoing(A));
        world.vendor.next().await.answer(200, settled(A));
        assert!(first.await.expect("no panic").is_over() && second.await.expect("no panic").is_over());
        assert_eq!(
            world.lookup.answer_at_once(&ask(A).key, &Directives::default(), Instant::now()).is_some(),
            kept
        );
    }
}

/// The body of an answer, and what it says of how it came about.
async fn told(waiter: JoinHandle<Answer>) -> (String, String) {
    let answer = waiter.await.expect("no panic");
    let Content::Stored(stored) = &answer.content else { panic!("an answer") };
    let body = String::from_utf8_lossy(&stored.body).into_owned();
    (body, cache_status(&answer))
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_less_at_the_end_than_was_read_for_it_and_who_joined_says_so() {
    let version = |n: u32| format!(r#"{{"_id":"{A}","status":"ongoing","updatedAt":177500000{n}}}"#);
    let fetched = "callgate; fwd=uri-miss; fwd-status=200; detail=ongoing";
    let mut world = World::new(Terms::default());
    let first = waiting(&world, ask(A), 8);
    world.vendor.next().await.answer(200, version(1));
    // The vigil reads the second version, two seconds later.
    world.vendor.next().await.answer(200, version(2));
    settle().await;
    sleep(seconds(1)).await;
    let own = waiting(&world, ask(A), 0);
    world.vendor.next().await.answer(200, version(3));
    assert_eq!(told(own).await, (version(3), fetched.into()), "newer than what the vigil read");
    let patient = waiting(&world, ask(A), 4);
    world.vendor.next().await.answer(200, version(4));
    world.vendor.next().await.answer(200, version(5));
    assert_eq!(told(patient).await, (version(5), format!("{fetched}; collapsed")));
    assert_eq!(told(first).await, (version(5), fetched.into()));
}
