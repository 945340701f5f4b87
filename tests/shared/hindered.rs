//! What stands in Redis that nobody of ours wrote, and what it does not allow: it costs seconds at the most.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::world::{Crowd, World, fetch, is_known, look, until};
use crate::{
    gateway::{
        records::settled,
        vendor::{Play, ok},
        world::{Answer, ID, WORKSPACE},
    },
    replicas::redis::available,
};

const TARGET: &str = "/calls/69cf4b468d2a8a6a8e39b684";

/// The most that an operator waits for a Redis that will not.
const SECONDS: Duration = Duration::from_secs(9);

async fn world() -> World {
    World::new(|seen| Play::Send(ok(settled(seen.id())))).await
}

/// What the lease for the call is called.
fn lease(world: &World) -> String {
    let subject = format!("{WORKSPACE}\0/v2/api/call-history/{ID}");
    let digest = ring::digest::digest(&ring::digest::SHA256, subject.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    world.name("lease", &hex)
}

/// How many scripts were run so far.
fn scripts(world: &World) -> u64 {
    let stats = world.redis.command(&["INFO", "commandstats"]);
    let calls = |line: &str| line.split_once("calls=")?.1.split_once(',')?.0.parse::<u64>().ok();
    stats.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(calls).sum()
}

/// Forgets a call where Redis will not: in seconds, and then it is not asked all the time.
async fn is_told_that_it_waits(world: &World, settings: &str, hinder: impl Fn(), mend: impl Fn()) {
    let a = world.replica_with(settings).await;
    fetch(&a, ID).await;
    until(async || world.keys("call").len() == 1).await;
    hinder();
    let began = Instant::now();
    let answer = a.operate("DELETE", &format!("/cache/{ID}"), &[]).await;
    assert!(began.elapsed() < SECONDS, "{:?}", began.elapsed());
    assert_eq!((answer.status, answer.json()), (200, json!({"removed": 1, "pending": ["shared"]})));
    // What Redis still has is not served.
    assert!(!is_known(&a, ID).await);
    let anew = look(&a, ID).await;
    assert!(anew.cache().starts_with("callgate; fwd=uri-miss; fwd-status=200"), "{}", anew.cache());
    let before = scripts(world);
    sleep(Duration::from_millis(500)).await;
    let after = scripts(world);
    assert!(after - before < 10, "{before} {after}");
    // It is done once it can be.
    mend();
    let stones = world.name("tombstones", "");
    let said = async || {
        world.redis.command(&["PUBLISH", &world.name("channel", "erased"), "erased"]);
        sleep(Duration::from_millis(50)).await;
        world.redis.command(&["ZCARD", &stones]) == "1"
    };
    until(said).await;
}

#[tokio::test]
async fn an_erasure_that_redis_does_not_take_is_answered_in_seconds_and_is_pending() {
    if !available() {
        return;
    }
    let spoilt = async {
        let world = world().await;
        // The name is known once a replica is there, which is before the first call.
        let stones = || world.name("tombstones", "");
        let hinder = || drop(world.redis.command(&["SET", &stones(), "of another type"]));
        let mend = || drop(world.redis.command(&["DEL", &stones()]));
        is_told_that_it_waits(&world, "", hinder, mend).await;
    };
    let forbidden = async {
        let world = world().await;
        let user = |rules: &[&str]| {
            drop(world.redis.command(&[&["ACL", "SETUSER", "gateway"], rules].concat()));
        };
        user(&["on", ">secret", "~*", "&*", "+@all"]);
        let url = format!("cache.shared.url = \"{}\"\n", world.redis.url_as("gateway:secret"));
        let hinder = || user(&["-unlink"]);
        // A stone was written by the first part of what was refused.
        let mend = || user(&["+unlink"]);
        is_told_that_it_waits(&world, &url, hinder, mend).await;
    };
    tokio::join!(spoilt, forbidden);
}

/// Asks for a call as something is in its way; how long it took.
async fn takes(world: &World, hinder: impl FnOnce(&World)) -> (Answer, Duration) {
    let gateway = world.replica().await;
    hinder(world);
    let began = Instant::now();
    (look(&gateway, ID).await, began.elapsed())
}

#[tokio::test]
async fn a_lease_that_never_ends_is_nobodys() {
    if !available() {
        return;
    }
    for lasts in [&[][..], &["PX", "3600000"]] {
        let world = world().await;
        let (answer, took) = takes(&world, |world| {
            world.redis.command(&[&["SET", &lease(world), "of nobody"], lasts].concat());
        })
        .await;
        assert_eq!((answer.status, answer.text()), (200, settled(ID)));
        assert!(took < Duration::from_secs(1), "{took:?}");
        until(async || world.keys("lease").is_empty()).await;
    }
}

#[tokio::test]
async fn what_landed_and_cannot_be_read_costs_seconds_and_few_questions() {
    if !available() {
        return;
    }
    let world = world().await;
    let (answer, took) = takes(&world, |world| {
        world.redis.command(&["SET", &world.name("landed", "of-another"), "\u{fffd}{no such thing}\n"]);
        world.redis.command(&["SET", &lease(world), "of-another", "PX", "3000"]);
    })
    .await;
    assert_eq!((answer.status, answer.text()), (200, settled(ID)));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(scripts(&world) < 150, "{}", scripts(&world));
}

/// Short, so that their sum is waited for: a second and a half.
const SHORT: &str = "budget.queue_timeout = \"500ms\"\nupstream.response_timeout = \"1s\"\n";

/// The sum of [`SHORT`], and what a busy machine takes.
const PROMISED: Duration = Duration::from_millis(1_500 + 700);

#[tokio::test]
async fn waiters_are_told_in_time_however_many_holders_fail() {
    if !available() {
        return;
    }
    let world = world().await;
    let gateway = world.replica_with(SHORT).await;
    let name = lease(&world);
    let hold = |token: &str| drop(world.redis.command(&["SET", &name, token, "PX", "3000"]));
    hold("0");
    let began = Instant::now();
    let mut answers = std::pin::pin!(async { Crowd::at(&gateway, 5, TARGET).await.answers().await });
    let mut holder = 1;
    let answers = loop {
        tokio::select! {
            answers = answers.as_mut() => break answers,
            () = sleep(Duration::from_millis(200)) => hold(&holder.to_string()),
        }
        holder += 1;
        assert!(began.elapsed() < 2 * PROMISED, "holder {holder}");
    };
    assert!(began.elapsed() < PROMISED, "{:?}", began.elapsed());
    for answer in answers {
        assert_eq!(answer.problem(), (504, "upstream_timeout".into()));
    }
    assert_eq!(world.vendor.requests(), 0);
}

#[tokio::test]
async fn who_takes_over_from_a_holder_that_failed_has_what_is_left_of_the_time() {
    if !available() {
        return;
    }
    let world = World::new(|_| Play::ThenNothing(Vec::new())).await;
    let gateway = world.replica_with(SHORT).await;
    let name = lease(&world);
    world.redis.command(&["SET", &name, "of-another", "PX", "3000"]);
    let began = Instant::now();
    let crowd = Crowd::at(&gateway, 5, TARGET).await;
    sleep(Duration::from_millis(1_000)).await;
    world.redis.command(&["DEL", &name]);
    world.redis.command(&["PUBLISH", &world.name("channel", "landed"), "of-another"]);
    for answer in crowd.answers().await {
        assert_eq!(answer.problem(), (504, "upstream_timeout".into()));
    }
    // Less than a whole response_timeout after it took over.
    assert!(began.elapsed() < Duration::from_millis(1_950), "{:?}", began.elapsed());
    assert_eq!(world.vendor.requests(), 1);
}
