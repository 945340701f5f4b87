//! One budget for all replicas, counted at the vendor: whoever is killed, started, or left without Redis.

use std::{net::SocketAddr, time::Duration};

use callgate::sandbox::{Config, Handle, Sandbox};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::world::{World, fetch, look, until};
use crate::{
    disk::world::Gateway as Program,
    gateway::{
        program::serving,
        records::{id, settled},
        vendor::{Play, answer, ok},
        world::{Answer, Caller, request},
    },
    replicas::redis::{Redis, available},
};

/// What the plan allows in a minute.
const PLAN: usize = 60;

/// A vendor that holds callers to its plan.
async fn vendor() -> (Handle, SocketAddr) {
    let config = Config { calls: 500, latency: Duration::ZERO, rate_limit: PLAN as u32, ..Config::default() };
    let sandbox = Sandbox::bind(config, ([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let (handle, address) = (sandbox.handle(), sandbox.local_addr());
    tokio::spawn(sandbox.run(std::future::pending()));
    (handle, address)
}

async fn replica(redis: &Redis, vendor: SocketAddr) -> Program {
    let mut command = serving(vendor);
    let plan = Config::default();
    command
        .env("TRILLET_API_KEY", plan.api_key)
        .env("TRILLET_WORKSPACE_ID", plan.workspace_id)
        .env("CALLGATE__CACHE__SHARED__URL", redis.url())
        .env("CALLGATE__CACHE__SHARED__TIMEOUT", "2s");
    Program::start(command).await
}

/// A vendor with its address, and three replicas before it.
async fn three() -> (Handle, SocketAddr, Redis, Vec<Program>) {
    let (vendor, address) = vendor().await;
    let redis = Redis::start();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(replica(&redis, address).await);
    }
    (vendor, address, redis, replicas)
}

/// Asks for all of these at once.
async fn ask_all(program: &Program, ids: &[String]) -> Vec<Answer> {
    let asking = ids.iter().map(|id| async move {
        let mut caller = Caller::connect(program.process.address).await;
        caller.send(request("GET", &format!("/calls/{id}"), &[])).await;
        caller.answer().await
    });
    join_all(asking).await
}

/// How many were answered by the vendor; the others are to be turned away by the gateway itself.
fn served(answers: &[Answer]) -> usize {
    let turned_away = answers.iter().filter(|answer| answer.status != 200);
    for answer in turned_away {
        assert_eq!(answer.problem(), (429, "rate_limit_exceeded".into()));
        let seconds = answer.number("retry-after");
        assert!((1..=61).contains(&seconds), "{seconds}");
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[tokio::test]
async fn three_replicas_never_send_more_than_the_plan_allows() {
    if !available() {
        return;
    }
    let (vendor, address, mut redis, mut replicas) = three().await;
    let ids = vendor.settled_ids();
    let mut fresh = ids.chunks(70);
    let mut take = || fresh.next().expect("enough").to_vec();
    let began = Instant::now();
    let wanted = [take(), take(), take()];
    let asking = replicas.iter().zip(&wanted).map(|(replica, ids)| ask_all(replica, ids));
    let answers = join_all(asking).await.concat();
    assert_eq!(answers.len(), 210);
    assert_eq!((served(&answers), vendor.requests(), vendor.rejected()), (PLAN, PLAN as u64, 0));

    // One dies, and another takes its place: what was sent is known to Redis.
    replicas.remove(0).kill();
    replicas.push(replica(&redis, address).await);
    let wanted = take();
    assert_eq!(served(&ask_all(&replicas[2], &wanted[..20]).await), 0);
    assert_eq!(vendor.requests(), PLAN as u64);

    // Left alone, each knows that nothing was left.
    redis.stop();
    for replica in &mut replicas {
        replica.process.says("redis is gone").await;
    }
    let asking = replicas.iter().zip(wanted[20..].chunks(16)).map(|(replica, ids)| ask_all(replica, ids));
    let answers = join_all(asking).await.concat();
    assert!(began.elapsed() < Duration::from_secs(55), "too slow to show anything: {:?}", began.elapsed());
    assert_eq!((answers.len(), served(&answers)), (48, 0));
    assert_eq!((vendor.requests(), vendor.rejected()), (PLAN as u64, 0));
    assert!(vendor.busiest_minute() <= PLAN);
}

#[tokio::test]
async fn a_429_at_one_replica_pauses_the_others() {
    if !available() {
        return;
    }
    let body = r#"{"error":{"code":"rate_limit_exceeded","message":"Too many requests."}}"#;
    let world = World::new(move |seen| {
        Play::Send(match seen.id() {
            "limited" => answer("429 Too Many Requests", "retry-after: 30\r\n", body),
            id => ok(settled(id)),
        })
    })
    .await;
    let (a, b) = (world.replica().await, world.replica().await);
    fetch(&a, "a").await;
    fetch(&b, "b").await;
    assert_eq!(look(&a, "limited").await.problem(), (429, "rate_limit_exceeded".into()));
    until(async || world.dump().lines().any(|line| line == "until")).await;
    let began = Instant::now();
    for id in ["c", "limited"] {
        let refused = look(&b, id).await;
        assert_eq!(refused.problem(), (429, "rate_limit_exceeded".into()));
        assert!((25..=35).contains(&refused.number("retry-after")), "{refused:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "its turn could not come in time");
    assert_eq!(world.vendor.requests(), 3);
    // Hits are as ever, and so is what others kept.
    assert!(look(&b, "a").await.cache().ends_with("; detail=shared"));
}

#[tokio::test]
async fn a_restart_without_redis_knows_the_last_minute_from_its_disk() {
    if !available() {
        return;
    }
    let mut world = World::settled().await;
    let file = world.path("state").join("calls");
    let more = [
        ("CALLGATE__CACHE__DISK__PATH", file.to_str().expect("text")),
        ("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "6"),
    ];
    let mut before = world.program(&more).await;
    for n in 0..4 {
        before.fetches(&id(n)).await;
    }
    before.kill();
    world.redis.stop();
    let mut after = world.program(&more).await;
    let mut sent = 0;
    for n in 10..14 {
        let answer = after.call(&id(n)).await;
        sent += usize::from(answer.status == 200);
    }
    assert_eq!((sent, world.vendor.requests()), (2, 6));
    assert!(file.with_extension("departures").exists());
}

#[tokio::test]
async fn a_redis_that_ends_and_comes_back_empty_in_the_middle_of_a_rush_lets_no_more_through() {
    if !available() {
        return;
    }
    let (vendor, _, mut redis, replicas) = three().await;
    let ids = vendor.settled_ids();
    let began = Instant::now();
    let rush = |from: usize| {
        let wanted = ids[from..from + 120].chunks(40);
        join_all(replicas.iter().zip(wanted).map(|(replica, ids)| ask_all(replica, ids)))
    };
    let torment = async {
        until(async || vendor.requests() >= 20).await;
        redis.stop();
        let stopped = vendor.requests();
        until(async || began.elapsed() > Duration::from_secs(4)).await;
        redis.restart();
        stopped
    };
    let (answers, stopped) = tokio::join!(rush(0), torment);
    served(&answers.concat());
    let alone = vendor.requests();
    for program in &replicas {
        assert!(program.process.said().contains("redis is gone"));
    }
    let answers = rush(120).await.concat();
    served(&answers);
    eprintln!("{stopped} before, {alone} without, {} in all", vendor.requests());
    assert!(began.elapsed() < Duration::from_secs(55), "too slow to show anything: {:?}", began.elapsed());
    assert_eq!(vendor.rejected(), 0);
    assert!(vendor.busiest_minute() <= PLAN);
}
