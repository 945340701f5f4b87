//! A Redis that is not there, goes, hangs, and comes back empty; and that each change is said once.

use std::{sync::Arc, time::Duration};

use callgate::replicas::{Gone, News, State};
use tokio::time::Instant;

use super::{
    redis::{Redis, available},
    world::{AMPLE, Log, SHORT, alone, becomes, echo, gone, open, run, together, within},
};

#[tokio::test]
async fn one_that_is_not_there_at_the_start_is_found_later() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut redis = Redis::start();
    redis.stop();
    let link = open(&redis.url(), AMPLE).await;
    assert_eq!(*link.state().borrow(), State::Alone(0));
    assert_eq!(link.redis_micros(callgate::clock::UnixMillis(0)), None);
    assert_eq!(echo(&link, "anybody").await, Err(Gone::Silent));
    let refused = gone("connection refused");
    assert_eq!(log.said(), [refused.as_str()]);
    redis.restart();
    together(&link).await;
    assert_eq!(log.said(), [refused.as_str(), "redis is there"]);
}

#[tokio::test]
async fn one_that_ends_is_gone_at_once_and_comes_back_empty() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut redis = Redis::start();
    let link = open(&redis.url(), AMPLE).await;
    let other = open(&redis.url(), AMPLE).await;
    becomes(&link, |state| matches!(state, State::Together { replicas: 2, .. })).await;
    becomes(&other, |state| matches!(state, State::Together { replicas: 2, .. })).await;
    assert_eq!(echo(&link, "before").await, Ok(vec!["before".into()]));
    let mut news = link.news();

    redis.stop();
    assert_eq!(becomes(&link, |state| matches!(state, State::Alone(_))).await, State::Alone(2));
    assert_eq!(echo(&link, "meanwhile").await, Err(Gone::Silent));
    redis.restart();
    becomes(&link, |state| matches!(state, State::Together { replicas: 2, .. })).await;
    becomes(&other, |state| matches!(state, State::Together { replicas: 2, .. })).await;

    // It knows neither scripts nor who listened.
    assert_eq!(echo(&link, "after").await, Ok(vec!["after".into()]));
    let channel = other.name("channel", b"erased");
    run(&other, "return redis.call('PUBLISH', KEYS[1], 'one')", &[channel], &[]).await.expect("published");
    assert_eq!(within(news.recv()).await, Ok(News { channel: "erased".into(), payload: "one".into() }));

    let mut said = log.said();
    said.sort();
    let closed = gone("connection closed");
    let closed = closed.as_str();
    assert_eq!(said, ["redis is back", "redis is back", closed, closed, "redis is there", "redis is there"]);
}

#[tokio::test]
async fn one_that_hangs_is_asked_no_more_until_it_goes_on() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let redis = Redis::start();
    let link = open(&redis.url(), SHORT).await;
    together(&link).await;

    redis.pause();
    let began = Instant::now();
    within(async {
        while *link.state().borrow() != State::Alone(1) && echo(&link, "anybody").await.is_err() {}
    })
    .await;
    assert!(began.elapsed() >= SHORT * 2, "not for less than three");
    alone(&link).await;
    // From now on nobody waits.
    let began = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(echo(&link, "anybody").await, Err(Gone::Silent));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    redis.go_on();
    together(&link).await;
    for i in 0..100 {
        let word = i.to_string();
        assert_eq!(echo(&link, &word).await, Ok(vec![word.into()]));
    }
    let silent = gone("no answer in time");
    assert_eq!(log.said(), ["redis is there", &silent, "redis is back"]);
}

#[tokio::test]
async fn one_that_hangs_while_nobody_asks_is_missed_too() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let link = open(&redis.url(), SHORT).await;
    together(&link).await;
    redis.pause();
    alone(&link).await;
    redis.go_on();
    together(&link).await;
}

#[tokio::test]
async fn one_that_hangs_at_the_start_does_not_hold_it_up() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let redis = Redis::start();
    redis.pause();
    let began = Instant::now();
    let link = open(&redis.url(), SHORT).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let silent = gone("no answer in time");
    assert_eq!(log.said(), [silent.as_str()]);
    redis.go_on();
    together(&link).await;
    assert_eq!(log.said(), [silent.as_str(), "redis is there"]);
}

#[tokio::test]
async fn one_slow_answer_changes_nothing_for_however_many_wait() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let redis = Redis::start();
    let link = open(&redis.url(), SHORT).await;
    together(&link).await;
    // Busy for half as long again as the limit.
    let slow = "local t = redis.call('TIME') local till = t[1] * 1000000 + t[2] + 150000 repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > till return {'slow'}";
    let mut callers = Vec::new();
    for i in 0..300 {
        let link = Arc::clone(&link);
        callers.push(tokio::spawn(async move {
            if i == 0 { run(&link, slow, &[], &[]).await } else { echo(&link, &i.to_string()).await }
        }));
    }
    for (i, caller) in callers.into_iter().enumerate() {
        let answer = caller.await.expect("ran");
        // Each has its own answer, or none.
        assert!(answer == Err(Gone::Silent) || answer == Ok(vec![i.to_string().into()]), "{i}: {answer:?}");
    }
    // Late answers are nobody else's.
    within(async { while echo(&link, "mine").await != Ok(vec!["mine".into()]) {} }).await;
    for i in 0..100 {
        let word = i.to_string();
        assert_eq!(echo(&link, &word).await, Ok(vec![word.into()]));
    }
    assert_eq!(log.said(), ["redis is there"]);
}

#[tokio::test]
async fn a_line_that_is_cut_is_replaced_whichever_it_is() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let link = open(&redis.url(), AMPLE).await;
    together(&link).await;
    for kind in ["normal", "pubsub"] {
        let mut states = link.state();
        states.mark_unchanged();
        redis.command(&["CLIENT", "KILL", "TYPE", kind]);
        within(states.wait_for(|state| matches!(state, State::Alone(1)))).await.expect("the link is there");
        together(&link).await;
        assert_eq!(echo(&link, kind).await, Ok(vec![kind.into()]));
    }
}

#[tokio::test]
async fn one_that_takes_no_writes_is_as_good_as_gone() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let redis = Redis::start();
    let link = open(&redis.url(), AMPLE).await;
    together(&link).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    alone(&link).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    together(&link).await;
    let full = gone("it answers OOM");
    assert_eq!(log.said(), ["redis is there", &full, "redis is back"]);
}
