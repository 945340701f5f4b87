//! The link while all is well: scripts, posts, news, the count of replicas, Redis's clock.

use std::time::Duration;

use bytes::Bytes;
use callgate::{
    clock::Clock,
    replicas::{Gone, News, Script, State},
};

use super::{
    redis::{Redis, available},
    world::{AMPLE, Log, SHORT, becomes, echo, open, open_with, run, settings, together, within},
};

/// Publishes on the channel that it is given the name of.
const PUBLISH: &str = "return redis.call('PUBLISH', KEYS[1], ARGV[1])";

#[tokio::test]
async fn what_a_script_returns_comes_as_a_flat_list() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let link = open(&redis.url(), AMPLE).await;
    together(&link).await;
    let key = link.name("record", b"one");
    assert_eq!(key, b"callgate:1:test:record:one");
    let script =
        "redis.call('SET', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1]), 12, false, '', ARGV[2]}";
    for _ in 0..2 {
        let reply = run(&link, script, std::slice::from_ref(&key), &[b"value", b"\x00\xff\r\n"]).await;
        let expected = [&b"value"[..], b"12", b"", b"", b"\x00\xff\r\n"].map(Bytes::from_static);
        assert_eq!(reply, Ok(expected.to_vec()));
        // The second time around its text has to be sent again.
        redis.command(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(redis.command(&["GET", "callgate:1:test:record:one"]), "value");
}

#[tokio::test]
async fn a_script_that_fails_is_refused_and_redis_is_there() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let redis = Redis::start();
    let link = open(&redis.url(), AMPLE).await;
    together(&link).await;
    let key = link.name("canary", b"key");
    for _ in 0..3 {
        let failing =
            run(&link, "return redis.call('INCR', KEYS[1], 'x')", std::slice::from_ref(&key), &[b"canary"]);
        assert_eq!(failing.await, Err(Gone::Refused));
    }
    assert_eq!(echo(&link, "still there").await, Ok(vec!["still there".into()]));
    assert_eq!(log.said(), ["redis is there"]);
    assert_eq!(
        log.text().matches("a script for redis failed reason=it answers ERR").count(),
        1,
        "{}",
        log.text()
    );
    assert!(!log.text().contains("canary"), "{}", log.text());
}

#[tokio::test]
async fn what_is_posted_runs_in_its_order() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let link = open(&redis.url(), AMPLE).await;
    together(&link).await;
    let list = link.name("list", b"");
    for i in 0..200 {
        let push = Script::new("return redis.call('RPUSH', KEYS[1], ARGV[1])");
        link.post(push, vec![list.clone()], vec![i.to_string().into_bytes()]);
    }
    // A farewell waits for them.
    link.leave().await;
    let expected: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    assert_eq!(redis.command(&["LRANGE", "callgate:1:test:list:", "0", "-1"]), expected.join("\n"));
}

#[tokio::test]
async fn what_one_publishes_all_of_its_namespace_hear() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let one = open(&redis.url(), AMPLE).await;
    let two = open(&redis.url(), AMPLE).await;
    let other = open_with(&settings(&redis.url(), AMPLE), "other").await;
    for link in [&one, &two, &other] {
        together(link).await;
    }
    let (mut one_hears, mut two_hears, mut other_hears) = (one.news(), two.news(), other.news());
    let publish = async |link: &callgate::replicas::Link, channel: &[u8], payload: &[u8]| {
        run(link, PUBLISH, &[link.name("channel", channel)], &[payload]).await.expect("published")
    };
    publish(&one, b"erased", b"a\x00b").await;
    publish(&one, b"unheard of", b"nobody").await;
    publish(&two, b"noted", b"c").await;
    publish(&other, b"erased", b"its own").await;
    let news =
        |channel: &str, payload: &'static [u8]| Ok(News { channel: channel.into(), payload: payload.into() });
    for hears in [&mut one_hears, &mut two_hears] {
        assert_eq!(within(hears.recv()).await, news("erased", b"a\x00b"));
        assert_eq!(within(hears.recv()).await, news("noted", b"c"));
    }
    assert_eq!(within(other_hears.recv()).await, news("erased", b"its own"));
}

#[tokio::test]
async fn replicas_count_each_other_until_they_leave() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let one = open(&redis.url(), AMPLE).await;
    let two = open(&redis.url(), AMPLE).await;
    // Of a namespace of its own.
    let other = open_with(&settings(&redis.url(), AMPLE), "other").await;
    becomes(&one, |state| matches!(state, State::Together { replicas: 2, .. })).await;
    becomes(&two, |state| matches!(state, State::Together { replicas: 2, .. })).await;
    two.leave().await;
    assert_eq!(redis.command(&["ZCARD", "callgate:1:test:replicas:"]), "1", "at once");
    becomes(&one, |state| matches!(state, State::Together { replicas: 1, .. })).await;
    becomes(&other, |state| matches!(state, State::Together { replicas: 1, .. })).await;
    // One that ends without a word is counted until it was silent for a while.
    let three = open(&redis.url(), AMPLE).await;
    becomes(&one, |state| matches!(state, State::Together { replicas: 2, .. })).await;
    drop(three);
    becomes(&one, |state| matches!(state, State::Together { replicas: 1, .. })).await;
}

#[tokio::test]
async fn a_link_ends_with_the_last_who_holds_it() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let link = open(&redis.url(), AMPLE).await;
    together(&link).await;
    // The operator's own connection is one of them.
    let connected = || redis.command(&["CLIENT", "LIST"]).lines().count();
    assert_eq!(connected(), 3);
    drop(link);
    within(async {
        while connected() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_clock_of_redis_is_known() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let clock = std::sync::Arc::new(Clock::system());
    let settings = settings(&redis.url(), SHORT);
    let link = callgate::replicas::Link::open(&settings, "test", &[], clock.clone()).await.expect("opened");
    together(&link).await;
    let time = redis.command(&["TIME"]);
    let here = link.redis_micros(clock.now()).expect("it was asked");
    let (seconds, micros) = time.split_once('\n').expect("two numbers");
    let there = seconds.parse::<i64>().expect("seconds") * 1_000_000 + micros.parse::<i64>().expect("micros");
    assert!((here - there).abs() < 2_000_000, "{here} {there}");
    let now = clock.now();
    let later = now.plus(Duration::from_secs(60));
    let apart = link.redis_micros(later).zip(link.redis_micros(now)).map(|(later, now)| later - now);
    assert!(apart.is_some_and(|apart| (apart - 60_000_000).abs() < 2_000_000), "{apart:?}");
}
