//! Replicas that share a budget, while the shared window is there.

use std::sync::Arc;

use super::*;
use crate::{
    outcome::ErrorCode,
    replicas::State::Alone,
    upstream::{
        budget::{
            gate::{
                Report,
                tests::{BUDGET, answered, ask, replica, seconds, spend},
            },
            window::scripted::{Server, together},
        },
        scripted::settle,
    },
};

/// Two replicas of a budget.
async fn two(limit: u32) -> (Arc<Server>, [Arc<Gate>; 2]) {
    let server = Server::new();
    let gates = [(); 2].map(|()| replica(&server, limit, None, together(2)).0);
    settle().await;
    (server, gates)
}

fn remaining(gate: &Gate) -> usize {
    gate.keys(Instant::now())[0].remaining
}

#[tokio::test(start_paused = true)]
async fn replicas_send_no_more_together_than_one_would() {
    let (_server, [a, b]) = two(3).await;
    spend(&a, 2).await;
    spend(&b, 1).await;
    let sent = Instant::now();
    settle().await;
    assert_eq!([&a, &b].map(|gate| remaining(gate)), [0, 0], "each knows what the others took");
    tokio::time::advance(seconds(10)).await;
    for gate in [&a, &b] {
        let began = Instant::now();
        let refusal = ask(gate, Lane::Lookup, 2).await.expect_err("used up");
        assert_eq!(refusal.code, ErrorCode::RateLimitExceeded);
        let at = refusal.retry_at.expect("a time");
        assert!((sent + seconds(59)..=sent + seconds(60)).contains(&at), "{:?}", at - sent);
        assert_eq!(Instant::now(), began, "nobody waits for what cannot come");
    }
    tokio::time::advance(seconds(50)).await;
    spend(&b, 3).await;
    ask(&a, Lane::Lookup, 2).await.expect_err("used up again");
}

#[tokio::test(start_paused = true)]
async fn who_is_denied_keeps_its_place_and_those_behind_are_told_at_once() {
    let (_server, [a, b]) = two(2).await;
    spend(&a, 1).await;
    tokio::time::advance(seconds(10)).await;
    spend(&a, 1).await;
    tokio::time::advance(seconds(30)).await;
    let began = Instant::now();
    let come = |name: &'static str, patience| {
        let b = Arc::clone(&b);
        tokio::spawn(async move {
            let permit = ask(&b, Lane::Lookup, patience).await;
            let after = began.elapsed().as_secs();
            permit.map(|permit| permit.spend(answered())).map(|()| (name, after)).map_err(|_| (name, after))
        })
    };
    let first = come("first", 40);
    settle().await;
    let hasty = come("hasty", 5);
    let second = come("second", 40);
    settle().await;
    assert_eq!(hasty.await.expect("no panic"), Err(("hasty", 0)));
    assert_eq!(first.await.expect("no panic"), Ok(("first", 20)));
    assert_eq!(second.await.expect("no panic"), Ok(("second", 30)));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_everybodys_at_once() {
    let (server, [a, b]) = two(1).await;
    let permit = ask(&a, Lane::Lookup, 0).await.expect("free");
    let began = Instant::now();
    let (waited, ()) = tokio::join!(ask(&b, Lane::Lookup, 70), async {
        tokio::time::sleep(seconds(1)).await;
        drop(permit);
    });
    waited.expect("the slot that came back").spend(answered());
    assert_eq!(began.elapsed(), seconds(1));
    assert_eq!(server.held(BUDGET), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_asked_for_again_and_costs_nothing() {
    let (server, [a, _b]) = two(3).await;
    server.lose_answers(3);
    ask(&a, Lane::Lookup, 1).await.expect("at last").spend(answered());
    assert_eq!(server.log().len(), 1, "one slot, asked for four times");
    // Who leaves while it is asked gives the slot back.
    server.lose_answers(100);
    let leaving = tokio::time::timeout(seconds(1), ask(&a, Lane::Lookup, 60)).await;
    assert!(leaving.is_err(), "it left");
    assert_eq!(server.held(BUDGET), 1);
    settle().await;
    assert_eq!(remaining(&a), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_until_it_is_known_that_nobody_answers() {
    let server = Server::new();
    let (gate, line) = replica(&server, 60, None, together(2));
    settle().await;
    server.vanish();
    let began = Instant::now();
    let refusal = ask(&gate, Lane::Lookup, 2).await.expect_err("no answer");
    assert_eq!(refusal.code, ErrorCode::RateLimitExceeded);
    assert!(began.elapsed() >= seconds(2), "it may have come any moment");
    let (permit, ()) = tokio::join!(ask(&gate, Lane::Lookup, 2), async {
        tokio::time::sleep(seconds(1)).await;
        line.say(Alone(2));
    });
    permit.expect("alone").spend(answered());
    assert!(began.elapsed() < seconds(4));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_refuses_is_as_good_as_gone() {
    let (server, [a, b]) = two(12).await;
    spend(&a, 2).await;
    settle().await;
    server.refuse(true);
    let began = Instant::now();
    let mut sent = [0; 2];
    for (gate, sent) in [&a, &b].into_iter().zip(&mut sent) {
        while let Ok(permit) = ask(gate, Lane::Lookup, 0).await {
            permit.spend(answered());
            *sent += 1;
        }
    }
    assert_eq!(sent, [4, 5], "half of what was left, and half of all at the most");
    assert_eq!(Instant::now(), began, "nobody waits for it");
    // One that starts now knows of no share but its own.
    let (late, _line) = replica(&server, 12, None, together(3));
    settle().await;
    assert_eq!(remaining(&late), 4);
    server.refuse(false);
    tokio::time::advance(seconds(1)).await;
    settle().await;
    assert_eq!(server.held(BUDGET), 11, "it is told what it missed");
}

#[tokio::test(start_paused = true)]
async fn a_429_pauses_all_replicas_and_one_request_of_all_goes_ahead() {
    let (_server, [a, b]) = two(60).await;
    let limited = |s| Report { limited: Some(seconds(s)), ..answered() };
    ask(&a, Lane::Lookup, 0).await.expect("free").spend(limited(30));
    let refusal = ask(&b, Lane::Lookup, 2).await.expect_err("paused");
    assert!(refusal.retry_at.expect("a time") >= Instant::now() + seconds(30));
    assert!(b.keys(Instant::now())[0].pause >= seconds(30));

    tokio::time::advance(seconds(31)).await;
    let ahead = ask(&b, Lane::Lookup, 0).await.expect("one goes ahead");
    let began = Instant::now();
    let (rest, ()) = tokio::join!(ask(&a, Lane::Lookup, 20), async {
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        assert_eq!(a.waiting(), 1, "the rest waits for its answer");
        ahead.spend(answered());
    });
    rest.expect("and follows").spend(answered());
    assert!(began.elapsed() < seconds(6), "at once: {:?}", began.elapsed());
    spend(&a, 5).await;
    spend(&b, 5).await;

    // A probe that says nothing of the pause lets another go; one that is limited pauses all again.
    ask(&a, Lane::Lookup, 0).await.expect("free").spend(limited(10));
    ask(&b, Lane::Lookup, 2).await.expect_err("paused");
    tokio::time::advance(seconds(12)).await;
    drop(ask(&a, Lane::Lookup, 0).await.expect("one"));
    ask(&b, Lane::Lookup, 2).await.expect("another").spend(limited(10));
    ask(&a, Lane::Lookup, 2).await.expect_err("paused again");
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_holder_died_holds_nobody_back_for_good() {
    let (_server, [a, b]) = two(60).await;
    let limited = Report { limited: Some(seconds(5)), ..answered() };
    ask(&a, Lane::Lookup, 0).await.expect("free").spend(limited);
    tokio::time::advance(seconds(6)).await;
    // It is neither sent nor dropped: nothing more is heard of it.
    std::mem::forget(ask(&a, Lane::Lookup, 0).await.expect("one goes ahead"));
    let began = Instant::now();
    ask(&b, Lane::Lookup, 60).await.expect("another").spend(answered());
    assert_eq!(began.elapsed().as_secs(), 20, "as long as a request may be under way");
}

#[tokio::test(start_paused = true)]
async fn the_lower_lanes_leave_the_reserve_of_all_alone() {
    let (_server, [a, b]) = two(9).await;
    spend(&a, 6).await;
    ask(&b, Lane::Warm, 2).await.expect_err("a third is reserved");
    spend(&b, 2).await;
    ask(&b, Lane::Wait, 2).await.expect_err("still");
    spend(&a, 1).await;
    ask(&b, Lane::Lookup, 2).await.expect_err("all is used up");
}

#[tokio::test(start_paused = true)]
async fn the_place_is_taken_before_the_window_is_asked() {
    let (server, [a, _b]) = two(60).await;
    server.lose_answers(2);
    let come = |lane| {
        let a = Arc::clone(&a);
        tokio::spawn(async move { ask(&a, lane, 5).await.map(|permit| permit.slot) })
    };
    let first = come(Lane::Lookup);
    settle().await;
    let second = come(Lane::Lookup);
    let slots = [first, second].map(|caller| async { caller.await.expect("no panic").expect("its turn") });
    let slots = futures_util::future::join_all(slots).await;
    assert_eq!(server.log(), slots, "in the order in which they came");
}
