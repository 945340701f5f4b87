//! The gate under paused time: limits, order, places that are given up, pauses and the circuit.

use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::time::{advance, timeout};

use super::*;
use crate::upstream::{
    breaker::Health,
    budget::window::scripted::{Line, Server},
    scripted::settle,
};

/// The budget of the replicas.
pub(super) const BUDGET: Name = Name([7; 16]);

pub(super) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// One replica of several that share a budget, and its line to what they share.
pub(super) fn replica(
    server: &Arc<Server>,
    limit: u32,
    fallback: Option<u32>,
    state: replicas::State,
) -> (Arc<Gate>, Arc<Line>) {
    let line = server.line(state);
    let ties = Ties { window: Some(Arc::clone(&line) as Arc<dyn Window>), journal: None };
    (attended(limit, fallback, ties), line)
}

/// A gate with somebody who attends to it.
pub(super) fn attended(limit: u32, fallback: Option<u32>, ties: Ties) -> Arc<Gate> {
    let settings = Settings {
        requests_per_minute: limit,
        replicas_fallback: fallback,
        reserve: None,
        queue_timeout: seconds(2),
        queue_length: 100,
    };
    let groups = [Group { name: BUDGET, limit: None, after: None, held: true }];
    let gate = Arc::new(Gate::new(&settings, &groups, 16, seconds(15), ties));
    let attending = Arc::clone(&gate);
    tokio::spawn(async move { attending.attend().await });
    gate
}

/// A gate that shares nothing.
pub(super) fn alone(settings: &Settings, limits: &[Option<u32>], slots: usize) -> Arc<Gate> {
    let groups: Vec<_> = (0..)
        .zip(limits)
        .map(|(n, limit)| Group { name: Name([n; 16]), limit: *limit, after: None, held: true })
        .collect();
    Arc::new(Gate::new(settings, &groups, slots, seconds(15), Ties::default()))
}

fn gate(limit: u32, slots: usize) -> Arc<Gate> {
    let settings = Settings {
        requests_per_minute: limit,
        replicas_fallback: None,
        reserve: None,
        queue_timeout: seconds(2),
        queue_length: 100,
    };
    alone(&settings, &[None, Some(2)], slots)
}

pub(super) async fn ask(gate: &Arc<Gate>, lane: Lane, patience: u64) -> Result<Permit, Refusal> {
    gate.permit(0, lane, Instant::now() + seconds(patience)).await
}

pub(super) fn answered() -> Report {
    Report { answered: Some(Instant::now()), health: Health::Alive, rejected: false, limited: None }
}

pub(super) async fn spend(gate: &Arc<Gate>, times: usize) {
    for _ in 0..times {
        ask(gate, Lane::Lookup, 0).await.expect("a permit").spend(answered());
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_go_in_time_is_told_at_once_and_honestly() {
    let gate = gate(3, 16);
    spend(&gate, 3).await;
    advance(seconds(10)).await;
    let began = Instant::now();
    let refusal = ask(&gate, Lane::Lookup, 2).await.expect_err("used up");
    assert_eq!(refusal.code, ErrorCode::RateLimitExceeded);
    assert_eq!(refusal.retry_at, Some(began + seconds(50)));
    assert_eq!(Instant::now(), began, "nobody waits for what cannot come");
    // Nine seconds later it can.
    advance(seconds(49)).await;
    ask(&gate, Lane::Lookup, 2).await.expect("within two seconds");
    assert_eq!(Instant::now(), began + seconds(50));
}

#[tokio::test(start_paused = true)]
async fn turns_come_in_the_order_of_arrival_and_callers_before_the_rest() {
    let gate = gate(9, 1);
    let busy = ask(&gate, Lane::Lookup, 0).await.expect("free");
    let order = Arc::new(Mutex::new(Vec::new()));
    let come = |lane, name: &'static str| {
        let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
        async move {
            let permit = ask(&gate, lane, 20).await.expect(name);
            order.lock().expect("the lock").push(name);
            tokio::time::sleep(seconds(1)).await;
            permit.spend(answered());
        }
    };
    let everybody = join_all([
        tokio::spawn(come(Lane::Warm, "warm")),
        tokio::spawn(come(Lane::Wait, "wait")),
        tokio::spawn(come(Lane::Lookup, "first")),
        tokio::spawn(come(Lane::Lookup, "second")),
        tokio::spawn(come(Lane::Lookup, "third")),
    ]);
    advance(seconds(1)).await;
    assert_eq!(gate.waiting(), 5);
    busy.spend(answered());
    everybody.await.into_iter().for_each(|done| done.expect("no panic"));
    let order = order.lock().expect("the lock").clone();
    assert_eq!(order, ["first", "second", "third", "wait", "warm"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_goes_to_who_came_first_whichever_the_key() {
    let settings = Settings {
        requests_per_minute: 60,
        replicas_fallback: None,
        reserve: None,
        queue_timeout: seconds(60),
        queue_length: 100,
    };
    for keys in [[1, 0, 1, 0, 0, 1], [0, 1, 1, 1, 0, 0]] {
        let gate = alone(&settings, &[None, None], 1);
        let busy = ask(&gate, Lane::Lookup, 0).await.expect("free");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut callers = Vec::new();
        for (number, key) in keys.into_iter().enumerate() {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            callers.push(tokio::spawn(async move {
                let permit = gate.permit(key, Lane::Lookup, Instant::now() + seconds(60)).await;
                order.lock().expect("the lock").push(number);
                tokio::time::sleep(seconds(1)).await;
                permit.expect("its turn").spend(answered());
            }));
            settle().await;
        }
        busy.spend(answered());
        join_all(callers).await.into_iter().for_each(|done| done.expect("no panic"));
        assert_eq!(*order.lock().expect("the lock"), [0, 1, 2, 3, 4, 5], "{keys:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lower_lanes_leave_the_reserve_alone() {
    let gate = gate(9, 16);
    spend(&gate, 6).await;
    for lane in [Lane::Wait, Lane::Warm] {
        assert_eq!(
            ask(&gate, lane, 2).await.expect_err("a third is reserved").code,
            ErrorCode::RateLimitExceeded
        );
    }
    spend(&gate, 3).await;
    advance(MINUTE).await;
    for _ in 0..6 {
        ask(&gate, Lane::Warm, 2).await.expect("two thirds are for everybody").spend(answered());
    }
    ask(&gate, Lane::Warm, 2).await.expect_err("and no more");
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_budget_of_its_own() {
    let gate = gate(1, 16);
    spend(&gate, 1).await;
    ask(&gate, Lane::Lookup, 0).await.expect_err("used up");
    gate.permit(1, Lane::Lookup, Instant::now()).await.expect("another key").spend(answered());
    gate.permit(1, Lane::Lookup, Instant::now()).await.expect("whose limit is two").spend(answered());
    gate.permit(1, Lane::Lookup, Instant::now()).await.expect_err("used up");
    let remaining: Vec<_> = gate.keys(Instant::now()).iter().map(|key| key.remaining).collect();
    assert_eq!(remaining, [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_gives_the_place_up() {
    let gate = gate(60, 1);
    let busy = ask(&gate, Lane::Lookup, 0).await.expect("free");
    let gone = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { timeout(seconds(1), ask(&gate, Lane::Lookup, 60)).await.is_err() }
    });
    tokio::task::yield_now().await;
    let stays = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { ask(&gate, Lane::Lookup, 60).await.map(|permit| permit.spend(answered())) }
    });
    tokio::task::yield_now().await;
    assert_eq!(gate.waiting(), 2);
    assert!(gone.await.expect("no panic"), "it left while it waited");
    assert_eq!(gate.waiting(), 1);
    busy.spend(answered());
    stays.await.expect("no panic").expect("its turn");
    assert_eq!(gate.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_comes_back_and_wakes_the_next() {
    let gate = gate(1, 1);
    let permit = ask(&gate, Lane::Lookup, 0).await.expect("free");
    let (next, ()) = tokio::join!(ask(&gate, Lane::Lookup, 120), async {
        tokio::time::sleep(seconds(1)).await;
        drop(permit);
    });
    next.expect("the slot that came back");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_overload() {
    let gate = gate(1_000, 1);
    let _busy = ask(&gate, Lane::Lookup, 0).await.expect("free");
    let crowd: Vec<_> = (0..101)
        .map(|_| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { ask(&gate, Lane::Lookup, 2).await.map(drop).map_err(|r| r.code) })
        })
        .collect();
    let mut full = 0;
    for caller in crowd {
        match caller.await.expect("no panic") {
            Err(ErrorCode::Overloaded) => full += 1,
            // A hundred waited, and the one connection did not come free.
            other => assert_eq!(other, Err(ErrorCode::RateLimitExceeded)),
        }
    }
    assert_eq!(full, 1);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_as_long_as_the_places_ahead() {
    let settings = Settings {
        requests_per_minute: 1_000,
        replicas_fallback: None,
        reserve: None,
        queue_timeout: seconds(2),
        queue_length: 10,
    };
    let gate = alone(&settings, &[None], 1);
    let _busy = ask(&gate, Lane::Lookup, 0).await.expect("free");
    let come = |lane| {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move { ask(&gate, lane, 2).await.map(drop).map_err(|refusal| refusal.code) })
    };
    let mut crowd: Vec<_> = (0..10).map(|_| come(Lane::Wait)).collect();
    settle().await;
    assert_eq!(come(Lane::Wait).await.expect("no panic"), Err(ErrorCode::Overloaded), "ten polls are ahead");
    // None of them is ahead of a lookup.
    crowd.extend((0..10).map(|_| come(Lane::Lookup)));
    settle().await;
    assert_eq!(gate.waiting(), 20);
    assert_eq!(come(Lane::Lookup).await.expect("no panic"), Err(ErrorCode::Overloaded), "ten lookups are");
    for waiting in crowd {
        assert_eq!(waiting.await.expect("no panic"), Err(ErrorCode::RateLimitExceeded), "they had a place");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_pauses_the_key_and_one_goes_ahead_afterwards() {
    let gate = gate(60, 16);
    let limited = Report { limited: Some(seconds(30)), ..answered() };
    ask(&gate, Lane::Lookup, 0).await.expect("free").spend(limited);
    let refusal = ask(&gate, Lane::Lookup, 2).await.expect_err("paused");
    assert_eq!(refusal.code, ErrorCode::RateLimitExceeded);
    assert!(refusal.retry_at.expect("a time") >= Instant::now() + seconds(30));
    gate.permit(1, Lane::Lookup, Instant::now()).await.expect("the other key is not");

    advance(seconds(31)).await;
    let ahead = ask(&gate, Lane::Lookup, 0).await.expect("one goes ahead");
    let (rest, ()) = tokio::join!(ask(&gate, Lane::Lookup, 20), async {
        tokio::time::sleep(seconds(5)).await;
        assert_eq!(gate.waiting(), 1, "the rest waits for its answer");
        ahead.spend(answered());
    });
    rest.expect("and follows").spend(answered());

    // A storm: every answer is a 429, and each pause costs one request.
    for _ in 0..3 {
        ask(&gate, Lane::Lookup, 0)
            .await
            .expect("one")
            .spend(Report { limited: Some(seconds(9)), ..answered() });
        for _ in 0..10 {
            ask(&gate, Lane::Lookup, 2).await.expect_err("paused");
        }
        advance(seconds(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_at_once_also_those_who_wait() {
    let gate = gate(60, 5);
    let failing = Report { health: Health::Failing, ..answered() };
    let permits = join_all((0..5).map(|_| ask(&gate, Lane::Lookup, 0))).await;
    let (waited, ()) = tokio::join!(ask(&gate, Lane::Lookup, 20), async {
        for permit in permits {
            permit.expect("free").spend(failing);
        }
    });
    // The first slot that came free was its own, or the circuit was open by then.
    assert_eq!(waited.map(drop).map_err(|r| r.code), Err(ErrorCode::UpstreamCircuitOpen));
    let began = Instant::now();
    let refusal = ask(&gate, Lane::Lookup, 20).await.expect_err("open");
    assert_eq!((refusal.code, refusal.retry_at), (ErrorCode::UpstreamCircuitOpen, Some(began + seconds(5))));
    assert_eq!(Instant::now(), began);

    advance(seconds(5)).await;
    let tries = ask(&gate, Lane::Lookup, 0).await.expect("one tries");
    ask(&gate, Lane::Lookup, 20).await.expect_err("one at a time");
    tries.spend(answered());
    ask(&gate, Lane::Lookup, 0).await.expect("closed").spend(answered());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Callers come and go as they like, answers take what they take: in no minute do more leave than the limit, and
    /// callers of one lane are served in the order in which they came.
    #[test]
    fn whoever_comes_no_minute_holds_more_than_the_limit_and_turns_are_fair(
        limit in 1u32..8,
        slots in 1usize..5,
        callers in proptest::collection::vec((0u64..20_000, 0u64..70_000, 0u64..3_000, 0u8..10), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (departures, served) = runtime.expect("a runtime").block_on(async {
            let gate = gate(limit, slots);
            let departures = Arc::new(Mutex::new(Vec::new()));
            let served = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for (number, (gap, patience, takes, fate)) in callers.into_iter().enumerate() {
                tokio::time::sleep(Duration::from_millis(gap)).await;
                let (gate, departures, served) = (Arc::clone(&gate), Arc::clone(&departures), Arc::clone(&served));
                tasks.push(tokio::spawn(async move {
                    let deadline = Instant::now() + Duration::from_millis(patience);
                    let Ok(permit) = gate.permit(0, Lane::Lookup, deadline).await else { return };
                    served.lock().expect("the lock").push(number);
                    if fate == 0 {
                        // It never leaves.
                        return drop(permit);
                    }
                    departures.lock().expect("the lock").push(Instant::now());
                    tokio::time::sleep(Duration::from_millis(takes)).await;
                    permit.spend(answered());
                }));
            }
            join_all(tasks).await.into_iter().for_each(|done| done.expect("no panic"));
            assert_eq!(gate.waiting(), 0);
            let all = departures.lock().expect("the lock").clone();
            let served = served.lock().expect("the lock").clone();
            (all, served)
        });
        for (first, begin) in departures.iter().enumerate() {
            let within = departures[first..].iter().take_while(|t| **t < *begin + MINUTE).count();
            prop_assert!(within <= limit as usize);
        }
        prop_assert!(served.is_sorted(), "{served:?}");
    }
}
