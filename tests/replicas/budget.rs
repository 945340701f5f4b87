//! The budget that replicas share, through a real Redis: gates with links of their own.

use std::{sync::Arc, time::Duration};

use callgate::{
    clock::Clock,
    replicas::{Link, State},
    upstream::{
        breaker::Health,
        budget::{
            Lane, Settings, Ties,
            gate::{Gate, Group, Permit, Report},
            window::{LEFT, Name, Window},
        },
    },
};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    redis::{Redis, available},
    world::{AMPLE, alone, becomes, settings, within},
};

const LIMIT: u32 = 9;
const BUDGET: Name = Name([7; 16]);

/// One replica, with the task that attends to its window.
struct Replica {
    gate: Arc<Gate>,
    link: Arc<Link>,
    attending: AbortHandle,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.attending.abort();
    }
}

impl Replica {
    async fn start(redis: &Redis) -> Self {
        Self::start_with(redis, BUDGET).await
    }

    /// With the key of this budget.
    async fn start_with(redis: &Redis, budget: Name) -> Self {
        let clock = Arc::new(Clock::system());
        let link = Link::open(&settings(&redis.url(), AMPLE), "test", &[LEFT], clock).await;
        let link = link.expect("settings that may work");
        let settings = Settings {
            requests_per_minute: LIMIT,
            replicas_fallback: None,
            reserve: Some(0),
            queue_timeout: Duration::from_secs(2),
            queue_length: 100,
        };
        let groups = [Group { name: budget, limit: None, after: None, held: true }];
        let window: Arc<dyn Window> = Arc::new(Arc::clone(&link));
        let ties = Ties { window: Some(window), journal: None };
        let gate = Arc::new(Gate::new(&settings, &groups, 16, Duration::from_secs(15), ties));
        let attended = Arc::clone(&gate);
        let attending = tokio::spawn(async move { attended.attend().await }).abort_handle();
        Self { gate, link, attending }
    }

    async fn permit(&self, patience: Duration) -> Option<Permit> {
        self.permit_of(0, patience).await
    }

    async fn permit_of(&self, key: usize, patience: Duration) -> Option<Permit> {
        self.gate.permit(key, Lane::Lookup, Instant::now() + patience).await.ok()
    }

    /// Sends one request, where there is budget for it.
    async fn sends(&self) -> bool {
        self.sends_and(None).await
    }

    async fn sends_and(&self, limited: Option<Duration>) -> bool {
        let permit = self.permit(Duration::from_millis(500)).await;
        Self::spent(permit, limited)
    }

    fn spent(permit: Option<Permit>, limited: Option<Duration>) -> bool {
        let Some(mut permit) = permit else { return false };
        permit.sent();
        permit.spend(Report {
            answered: Some(Instant::now()),
            health: Health::Alive,
            rejected: false,
            limited,
        });
        true
    }

    async fn send_all(&self) -> usize {
        let mut count = 0;
        while self.sends().await {
            count += 1;
        }
        count
    }

    fn remaining(&self) -> usize {
        self.gate.keys(Instant::now())[0].remaining
    }
}

#[tokio::test]
async fn three_replicas_send_as_much_as_one_may() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let replicas = [Replica::start(&redis).await, Replica::start(&redis).await, Replica::start(&redis).await];
    let sent = within(futures_util::future::join_all(replicas.iter().map(Replica::send_all))).await;
    assert_eq!(sent.iter().sum::<usize>(), LIMIT as usize, "{sent:?}");
    assert_eq!(replicas.each_ref().map(Replica::remaining), [0; 3]);
    assert_eq!(
        redis.command(&["DBSIZE"]).trim().parse::<u32>().map_err(drop),
        Ok(4),
        "slots, pause, who told, replicas"
    );
    // One that starts later finds what was sent.
    assert!(!Replica::start(&redis).await.sends().await);
}

#[tokio::test]
async fn a_replica_whose_key_has_changed_counts_with_those_that_began_with_it() {
    const NEW: Name = Name([8; 16]);
    if !available() {
        return;
    }
    let redis = Redis::start();
    let (rotated, begun) = (Replica::start(&redis).await, Replica::start_with(&redis, NEW).await);
    for _ in 0..3 {
        assert!(rotated.sends().await, "with the old key");
    }
    let old = Group { name: BUDGET, limit: None, after: None, held: true };
    rotated.gate.know(&[old, Group { name: NEW, limit: None, after: Some(0), held: true }]);
    // What it sent with the old key counts, and what either sends with the new one.
    let patience = Duration::from_secs(2);
    assert!(Replica::spent(rotated.permit_of(1, patience).await, None), "at once");
    let mut sent = 4;
    while Replica::spent(rotated.permit_of(1, patience).await, None) {
        sent += 1;
        sent += usize::from(begun.sends().await);
    }
    sent += within(begun.send_all()).await;
    assert_eq!(sent, LIMIT as usize);
    assert!(!Replica::start_with(&redis, NEW).await.sends().await);
}

#[tokio::test]
async fn what_is_given_back_is_another_replicas() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let (one, other) = (Replica::start(&redis).await, Replica::start(&redis).await);
    let held = one.permit(Duration::from_millis(500)).await.expect("free");
    assert_eq!(one.send_all().await, LIMIT as usize - 1);
    // It cannot come free in time, as far as anybody knows; who waits long enough has it as it does.
    assert!(!other.sends().await);
    let waiting = other.permit(Duration::from_secs(90));
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    drop(held);
    assert!(within(waiting).await.is_some());
}

#[tokio::test]
async fn a_429_pauses_every_replica() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let (one, other) = (Replica::start(&redis).await, Replica::start(&redis).await);
    assert!(one.sends_and(Some(Duration::from_millis(1_500))).await);
    // It is told to Redis in the background.
    let pause = String::from_utf8(one.link.name("budget", format!("{BUDGET}:pause").as_bytes()));
    let pause = pause.expect("a name");
    within(async {
        while redis.command(&["HEXISTS", &pause, "until"]).trim() != "1" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!other.sends().await);
    let began = Instant::now();
    let ahead = other.permit(Duration::from_secs(5)).await.expect("after the pause");
    assert!(began.elapsed() > Duration::from_millis(700));
    assert!(!one.sends().await, "one goes ahead");
    drop(ahead);
    assert!(within(one.permit(Duration::from_secs(5))).await.is_some());
}

#[tokio::test]
async fn a_clock_of_redis_that_was_ahead_stops_nobody_for_longer_than_may_be() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let replica = Replica::start(&redis).await;
    assert!(replica.sends().await);
    let named = |kind: &str| redis.command(&["KEYS", &format!("*{kind}")]).trim().to_owned();
    let (pause, slots) = (named(":pause"), named(":slots"));
    let day_ahead = "local t = redis.call('TIME') return string.format('%.0f', t[1] * 1000 + 86400000)";
    let day_ahead = redis.command(&["EVAL", day_ahead, "0"]);
    redis.command(&["HSET", &pause, "until", &day_ahead]);
    redis.command(&["ZADD", &slots, &day_ahead, "of-another"]);
    assert!(!replica.sends().await, "it is paused");
    let paused = replica.gate.keys(Instant::now())[0].pause;
    assert!(paused > Duration::from_secs(290) && paused <= Duration::from_secs(300), "{paused:?}");
    let left = |time: String| {
        time.parse::<i64>().expect("ms") - (day_ahead.parse::<i64>().expect("ms") - 86_400_000)
    };
    let until = left(redis.command(&["HGET", &pause, "until"]));
    assert!((295_000..320_000).contains(&until), "{until}");
    let frees = left(redis.command(&["ZSCORE", &slots, "of-another"]));
    assert!(frees < 150_000, "{frees}");
}

#[tokio::test]
async fn where_redis_refuses_to_count_each_keeps_to_its_share() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let replicas = [Replica::start(&redis).await, Replica::start(&redis).await, Replica::start(&redis).await];
    for replica in &replicas {
        becomes(&replica.link, |state| matches!(state, State::Together { replicas: 3, .. })).await;
    }
    assert!(replicas[0].sends().await);
    for replica in &replicas {
        within(async {
            while replica.remaining() != 8 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // The slots are of another kind now, whoever did that.
    let slots = String::from_utf8(replicas[0].link.name("budget", format!("{BUDGET}:slots").as_bytes()));
    redis.command(&["SET", &slots.expect("a name"), "somebody else's"]);
    let mut sent = Vec::new();
    for replica in &replicas {
        sent.push(replica.send_all().await);
    }
    // The end of what the first one sent may have been told Redis before its slots were gone, or not.
    let each_its_part = matches!(sent[..], [1 | 2, 2, 2]);
    assert!(each_its_part, "each its part of the eight that were left, and its share at the most: {sent:?}");
}

#[tokio::test]
async fn what_redis_loses_while_it_is_there_is_told_again() {
    if !available() {
        return;
    }
    for lost in ["FLUSHALL", "slots", "pause", "told"] {
        let redis = Redis::start();
        let replicas = [Replica::start(&redis).await, Replica::start(&redis).await];
        for replica in &replicas {
            becomes(&replica.link, |state| matches!(state, State::Together { replicas: 2, .. })).await;
        }
        for _ in 0..7 {
            assert!(replicas[0].sends().await);
        }
        within(async {
            while replicas[1].remaining() != 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let name = replicas[0].link.name("budget", format!("{BUDGET}:{lost}").as_bytes());
        let name = String::from_utf8(name).expect("a name");
        let command = if lost == "FLUSHALL" { vec!["FLUSHALL"] } else { vec!["DEL", &name] };
        redis.command(&command);
        let sent = [replicas[1].send_all().await, replicas[0].send_all().await];
        assert_eq!(sent, [1, 0], "{lost}: half of the two that were left");
    }
}

#[tokio::test]
async fn alone_and_back_no_more_is_sent_than_was_left() {
    if !available() {
        return;
    }
    let mut redis = Redis::start();
    let replicas = [Replica::start(&redis).await, Replica::start(&redis).await, Replica::start(&redis).await];
    for replica in &replicas {
        becomes(&replica.link, |state| matches!(state, State::Together { replicas: 3, .. })).await;
    }
    assert!(replicas[0].sends().await && replicas[0].sends().await && replicas[1].sends().await);
    // Each has heard that six are left.
    for replica in &replicas {
        within(async {
            while replica.remaining() != 6 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    redis.stop();
    for replica in &replicas {
        alone(&replica.link).await;
    }
    let mut sent = Vec::new();
    for replica in &replicas {
        sent.push(replica.send_all().await);
    }
    assert_eq!(sent, [1, 2, 2], "two of six for each, and no more than three in all");
    // It comes back empty, and is told.
    redis.restart();
    for replica in &replicas {
        becomes(&replica.link, |state| matches!(state, State::Together { .. })).await;
    }
    let mut later = 0;
    for replica in &replicas {
        later += replica.send_all().await;
    }
    assert!(later <= 1, "one was left: {later}");
}
