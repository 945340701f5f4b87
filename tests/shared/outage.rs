//! A Redis that goes, hangs, comes back empty or with another password: lookups go on, and it is said once.

use std::time::Duration;

use tokio::time::Instant;

use super::world::{GONE, STORED, World, fetch, look, says, until};
use crate::{
    gateway::{
        records::id,
        world::{Gateway, ID},
    },
    replicas::{
        redis::available,
        world::{Log, gone},
    },
};

/// As long as a lookup may be held up by a Redis that is gone: what a miss waits for its turn.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks up a call that nobody has yet; how long it took.
async fn cold(gateway: &Gateway, id: &str) -> Duration {
    let began = Instant::now();
    fetch(gateway, id).await;
    began.elapsed()
}

/// Waits until what one fetches another finds.
async fn share(world: &World, [a, b]: [&Gateway; 2], id: &str) {
    let keys = world.keys("call").len();
    fetch(a, id).await;
    until(async || world.keys("call").len() > keys).await;
    let shared = look(b, id).await;
    assert!(shared.cache().ends_with("; detail=shared"), "{}", shared.cache());
}

#[tokio::test]
async fn lookups_go_on_without_redis_and_are_shared_again_once_it_is_back() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut world = World::settled().await;
    let (a, b) = (world.replica().await, world.replica().await);
    share(&world, [&a, &b], ID).await;
    world.redis.stop();
    says(&log, GONE, 2).await;
    for n in 0..20 {
        let took = cold(if n % 2 == 0 { &a } else { &b }, &id(n)).await;
        assert!(took < QUEUE_TIMEOUT, "{took:?}");
    }
    for gateway in [&a, &b] {
        assert!(!look(gateway, ID).await.cache().contains("detail"), "hits are as ever");
    }
    // It comes back empty; nothing is lost to those who know it.
    world.redis.restart();
    says(&log, "redis is back", 2).await;
    share(&world, [&b, &a], "after").await;
    assert!(!look(&a, ID).await.cache().contains("detail"));
    assert_eq!(world.vendor.requests(), 22);
    let mut said = log.said();
    said.sort();
    let closed = gone("connection closed");
    assert_eq!(
        said,
        ["redis is back", "redis is back", &closed, &closed, "redis is there", "redis is there"]
    );
}

#[tokio::test]
async fn one_that_hangs_holds_no_lookup_up() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let world = World::settled().await;
    let settings = "cache.shared.timeout = \"50ms\"";
    let (a, b) = (world.replica_with(settings).await, world.replica_with(settings).await);
    fetch(&a, ID).await;
    world.redis.pause();
    let mut longest = Duration::ZERO;
    for n in 0..20 {
        longest = longest.max(cold(if n % 2 == 0 { &a } else { &b }, &id(n)).await);
        assert!(!look(&a, ID).await.cache().contains("detail"));
    }
    eprintln!("a cold lookup took {longest:?} at the most");
    assert!(longest < QUEUE_TIMEOUT, "{longest:?}");
    says(&log, GONE, 2).await;
    world.redis.go_on();
    says(&log, "redis is back", 2).await;
    // At 50 ms on a busy machine an answer may be late: then it is fetched, and the next one is shared.
    let mut n = 100;
    until(async || {
        n += 1;
        let id = id(n);
        assert_eq!(look(&a, &id).await.status, 200);
        let answer = look(&b, &id).await;
        assert_eq!(answer.status, 200);
        answer.cache().ends_with("; detail=shared")
    })
    .await;
}

#[tokio::test]
async fn another_password_is_as_good_as_no_redis() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut world = World::settled().await;
    let (a, b) = (world.replica().await, world.replica().await);
    share(&world, [&a, &b], ID).await;
    world.redis.restart_with(&["--requirepass", "canary-of-another"]);
    says(&log, GONE, 2).await;
    for n in 0..4 {
        assert!(cold(if n % 2 == 0 { &a } else { &b }, &id(n)).await < QUEUE_TIMEOUT);
    }
    assert!(!look(&b, ID).await.cache().contains("detail"));
    world.redis.restart_with(&[]);
    says(&log, "redis is back", 2).await;
    share(&world, [&a, &b], "after").await;
    let left = log.said().iter().filter(|line| line.contains(GONE)).count();
    assert_eq!((left, log.said().len()), (2, 6), "{:?}", log.said());
    assert!(!log.text().contains("canary-of-another"));
}

#[tokio::test]
async fn one_that_is_not_there_at_the_start_is_used_once_it_is() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut world = World::settled().await;
    world.redis.stop();
    let (a, b) = (world.replica().await, world.replica().await);
    for gateway in [&a, &b] {
        let answer = look(gateway, ID).await;
        assert_eq!((answer.status, answer.cache()), (200, STORED));
    }
    assert_eq!(world.vendor.requests(), 2, "each by itself");
    world.redis.restart();
    says(&log, "redis is there", 2).await;
    share(&world, [&a, &b], "after").await;
    assert_eq!(world.vendor.requests(), 3);
}
