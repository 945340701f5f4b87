//! Keys that come after others, alone and where replicas share the budget.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;

use tokio::{
    sync::{broadcast, watch},
    time::{Instant, advance},
};

use super::*;
use crate::{
    replicas::{self, Gone, News},
    upstream::{
        budget::{
            Lane, Settings, Ties,
            gate::{
                Report,
                tests::{BUDGET, alone, answered, ask, attended, replica, seconds, spend},
            },
            window::{
                Ask, Known, Left, Name, Taken, Window, Word,
                scripted::{Line, Server, together},
            },
        },
        scripted::settle,
    },
};

fn settings(requests_per_minute: u32) -> Settings {
    Settings {
        requests_per_minute,
        replicas_fallback: None,
        reserve: Some(0),
        queue_timeout: seconds(2),
        queue_length: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_after_another_is_held_to_what_that_one_sent() {
    let gate = alone(&settings(4), &[None], 16);
    spend(&gate, 3).await;
    let old = Group { name: Name([0; 16]), limit: None, after: None, held: true };
    let new = Group { name: Name([8; 16]), limit: None, after: Some(0), held: true };
    assert!(!gate.knows(1, None));
    gate.know(&[old, new]);
    gate.know(&[old, new]);
    assert!(gate.knows(1, None) && !gate.knows(2, None));
    let remaining = || gate.keys(Instant::now()).iter().map(|key| key.remaining).collect::<Vec<_>>();
    assert_eq!(remaining(), [1, 1]);
    let permit = gate.permit(1, Lane::Lookup, Instant::now()).await.expect("one is left");
    permit.spend(answered());
    assert_eq!(remaining(), [1, 0], "what the new key sends is its own");
    advance(seconds(60)).await;
    assert_eq!(remaining(), [4, 4]);
}

/// The first key of `alone`, and the one that comes after it.
fn after_the_first() -> [Group; 2] {
    let group = |name, after| Group { name: Name([name; 16]), limit: None, after, held: true };
    [group(0, None), group(8, Some(0))]
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_after_a_rejected_one_does_not_wait_for_what_was_rejected() {
    let gate = alone(&settings(4), &[None], 16);
    let remaining = || gate.keys(Instant::now()).iter().map(|key| key.remaining).collect::<Vec<_>>();
    spend(&gate, 1).await;
    let rejected = || Report { rejected: true, ..answered() };
    ask(&gate, Lane::Lookup, 0).await.expect("a permit").spend(rejected());
    let late = ask(&gate, Lane::Lookup, 0).await.expect("a permit");
    let good = ask(&gate, Lane::Lookup, 0).await.expect("a permit");
    let [first, mut second] = after_the_first();
    gate.know(&[first, second]);
    assert_eq!(remaining(), [0, 1], "one that was answered, and two under way");
    late.spend(rejected());
    assert_eq!(remaining(), [0, 2]);
    advance(seconds(30)).await;
    good.spend(answered());
    assert_eq!(remaining(), [0, 2]);
    // And so on, to the key after that.
    (second.name, second.after) = (Name([9; 16]), Some(1));
    gate.permit(1, Lane::Lookup, Instant::now()).await.expect("two are left").spend(rejected());
    gate.know(&[first, first, second]);
    assert_eq!(remaining(), [0, 1, 2]);
    advance(seconds(30)).await;
    assert_eq!(
        remaining(),
        [3, 2, 3],
        "what was answered last counts for all, and what was rejected for one"
    );
    advance(seconds(30)).await;
    assert_eq!(remaining(), [4, 4, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_never_left_with_a_key_does_not_count_for_the_next() {
    let gate = alone(&settings(2), &[None], 16);
    let held = ask(&gate, Lane::Lookup, 0).await.expect("a permit");
    gate.know(&after_the_first());
    drop(held);
    assert_eq!(gate.keys(Instant::now())[1].remaining, 2);
}

#[tokio::test(start_paused = true)]
async fn the_replicas_hear_as_well_what_does_not_count_for_the_next_key() {
    let server = Server::new();
    let gate = replica(&server, 6, None, together(1)).0;
    settle().await;
    spend(&gate, 1).await;
    let [rejected, dropped, good] = [(); 3].map(|()| ask(&gate, Lane::Lookup, 0));
    let (rejected, dropped) = (rejected.await.expect("a permit"), dropped.await.expect("a permit"));
    let good = good.await.expect("a permit");
    let [mut first, second] = after_the_first();
    first.name = BUDGET;
    gate.know(&[first, second]);
    settle().await;
    assert_eq!([server.held(BUDGET), server.held(second.name)], [4, 4]);
    rejected.spend(Report { rejected: true, ..answered() });
    drop(dropped);
    good.spend(answered());
    settle().await;
    assert_eq!([server.held(BUDGET), server.held(second.name)], [3, 2]);
    for _ in 0..4 {
        let permit = gate.permit(1, Lane::Lookup, Instant::now()).await;
        permit.expect("four are left").spend(answered());
    }
    gate.permit(1, Lane::Lookup, Instant::now()).await.expect_err("six were sent");
}

/// As long as a request may be under way, and a minute.
const SETTLING: u64 = 80;

/// Another key comes to every replica, after the first.
fn come(gates: &[Arc<Gate>]) {
    let [mut first, second] = after_the_first();
    first.name = BUDGET;
    gates.iter().for_each(|gate| gate.know(&[first, second]));
}

/// How many lookups may leave at once with it, from each.
async fn may_leave(gates: &[Arc<Gate>]) -> Vec<usize> {
    let mut counts = Vec::new();
    for gate in gates {
        let mut count = 0;
        while let Ok(permit) = gate.permit(1, Lane::Lookup, Instant::now()).await {
            permit.spend(answered());
            count += 1;
        }
        counts.push(count);
    }
    counts
}

fn tell(lines: &[Arc<Line>], state: replicas::State) {
    lines.iter().for_each(|line| line.say(state));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_while_redis_is_gone_is_shared_from_the_start() {
    let server = Server::new();
    let (gates, lines): (Vec<_>, Vec<_>) = (0..3).map(|_| replica(&server, 60, None, together(3))).unzip();
    settle().await;
    spend(&gates[0], 30).await;
    spend(&gates[1], 6).await;
    settle().await;
    server.vanish();
    tell(&lines, replicas::State::Alone(3));
    settle().await;
    come(&gates);
    assert_eq!(may_leave(&gates).await, [0, 8, 8]);
    advance(seconds(SETTLING)).await;
    assert_eq!(may_leave(&gates).await, [20, 20, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_came_before_a_loss_is_shared_however_that_is_noticed() {
    type Loss = fn(&Server, &[Arc<Line>]);
    let losses: [Loss; 3] = [
        |server, _| server.refuse(true),
        |server, _| server.come_back(true),
        |_, lines| {
            tell(lines, replicas::State::Alone(3));
            tell(lines, together(1));
        },
    ];
    for (which, lose) in losses.into_iter().enumerate() {
        let server = Server::new();
        let (gates, lines): (Vec<_>, Vec<_>) =
            (0..3).map(|_| replica(&server, 60, None, together(3))).unzip();
        settle().await;
        come(&gates);
        settle().await;
        lose(&server, &lines);
        assert_eq!(may_leave(&gates).await, [20, 20, 20], "loss {which}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_soon_after_the_return_keeps_to_the_share_as_the_others_do() {
    let server = Server::new();
    let (gates, lines): (Vec<_>, Vec<_>) = (0..2).map(|_| replica(&server, 60, None, together(2))).unzip();
    settle().await;
    server.vanish();
    tell(&lines, replicas::State::Alone(2));
    settle().await;
    advance(seconds(SETTLING)).await;
    server.come_back(true);
    // The other one is not seen again yet.
    tell(&lines, together(1));
    settle().await;
    come(&gates);
    settle().await;
    assert_eq!(may_leave(&gates).await, [30, 30]);
    advance(seconds(SETTLING)).await;
    assert_eq!(may_leave(&gates).await, [60, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_window_hears_on_its_return_what_counts_for_two_keys() {
    let server = Server::new();
    let (gate, line) = replica(&server, 60, None, together(1));
    settle().await;
    server.vanish();
    line.say(replicas::State::Alone(1));
    spend(&gate, 5).await;
    let aloft = ask(&gate, Lane::Lookup, 0).await.expect("alone");
    come(&[Arc::clone(&gate)]);
    let permit = gate.permit(1, Lane::Lookup, Instant::now()).await;
    permit.expect("alone").spend(answered());
    let held = || [BUDGET, after_the_first()[1].name].map(|name| server.held(name));
    server.come_back(true);
    line.say(together(1));
    settle().await;
    assert_eq!(held(), [6, 7]);
    drop(aloft);
    settle().await;
    assert_eq!(held(), [5, 6]);
}

/// A line on which a key comes while the window is told of the first one.
struct Interrupted {
    line: Arc<Line>,
    gate: Mutex<Option<Arc<Gate>>>,
}

impl Window for Interrupted {
    fn take(&self, ask: Ask) -> BoxFuture<'_, Result<Taken, Gone>> {
        self.line.take(ask)
    }

    fn push(&self, known: Known) -> BoxFuture<'_, Result<Left, Gone>> {
        if let Some(gate) = self.gate.lock().expect("the lock").take() {
            come(&[gate]);
        }
        self.line.push(known)
    }

    fn tell(&self, budget: Name, word: Word, aloft: Duration) {
        self.line.tell(budget, word, aloft);
    }

    fn state(&self) -> watch::Receiver<replicas::State> {
        self.line.state()
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.line.news()
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_while_the_window_is_told_of_the_others_is_told_as_well() {
    let server = Server::new();
    let window = Arc::new(Interrupted { line: server.line(together(1)), gate: Mutex::default() });
    let ties = Ties { window: Some(Arc::clone(&window) as Arc<dyn Window>), journal: None };
    let gate = attended(6, None, ties);
    *window.gate.lock().expect("the lock") = Some(Arc::clone(&gate));
    settle().await;
    assert!(gate.knows(1, None));
    assert_eq!(may_leave(&[gate]).await, [6]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_known_is_held_to_another_limit_of_its_own() {
    let gate = alone(&settings(4), &[None, None], 16);
    spend(&gate, 2).await;
    let [first, second] = [0, 1].map(|n| Group { name: Name([n; 16]), limit: None, after: None, held: true });
    let limited = Group { limit: Some(3), ..first };
    assert!(gate.knows(0, None) && !gate.knows(0, Some(3)));
    let remaining = || gate.keys(Instant::now()).iter().map(|key| key.remaining).collect::<Vec<_>>();
    assert_eq!(remaining(), [2, 4]);
    gate.know(&[limited, second]);
    assert!(gate.knows(0, Some(3)));
    assert_eq!(remaining(), [1, 4]);
    gate.change(&settings(9));
    assert_eq!(remaining(), [1, 9]);
    gate.know(&[first, second]);
    assert_eq!(remaining(), [7, 9]);
}

#[tokio::test(start_paused = true)]
async fn of_a_key_that_was_replaced_long_ago_the_window_hears_when_it_is_asked_for() {
    let server = Server::new();
    let (gate, line) = replica(&server, 6, None, together(1));
    settle().await;
    let [mut first, second] = after_the_first();
    (first.name, first.held) = (BUDGET, false);
    let told = || [BUDGET, second.name].map(|name| server.was_told_of(name));
    let lose = async || {
        server.come_back(true);
        line.say(replicas::State::Alone(1));
        settle().await;
        line.say(together(1));
        settle().await;
    };
    spend(&gate, 2).await;
    gate.know(&[first, second]);
    lose().await;
    assert_eq!((told(), server.held(BUDGET)), ([true, true], 2), "what it sent still counts");
    advance(seconds(SETTLING)).await;
    lose().await;
    assert_eq!(told(), [false, true]);
    gate.know(&[first, second]);
    settle().await;
    assert_eq!(told(), [false, true]);
    advance(seconds(SETTLING)).await;

    // By who had it a moment ago.
    let permit = ask(&gate, Lane::Lookup, 2).await.expect("it was told of at once");
    permit.spend(answered());
    settle().await;
    assert_eq!((told(), server.held(BUDGET)), ([true, true], 1));

    // Or because it is in use again.
    advance(seconds(SETTLING)).await;
    lose().await;
    assert_eq!(told(), [false, true]);
    first.held = true;
    assert!(!gate.knows(0, None) && gate.knows(1, None));
    gate.know(&[first, second]);
    settle().await;
    assert!(gate.knows(0, None));
    assert_eq!(told(), [true, true]);
    assert_eq!(gate.keys(Instant::now())[0].remaining, 6);
}

#[tokio::test(start_paused = true)]
async fn what_a_key_sends_that_nobody_has_any_more_is_told_of_on_the_windows_return() {
    let server = Server::new();
    let (gate, line) = replica(&server, 6, None, together(1));
    settle().await;
    let [mut first, second] = after_the_first();
    (first.name, first.held) = (BUDGET, false);
    gate.know(&[first, second]);
    server.vanish();
    line.say(replicas::State::Alone(1));
    settle().await;
    advance(seconds(SETTLING)).await;
    let aloft = ask(&gate, Lane::Lookup, 0).await.expect("alone");
    server.come_back(true);
    line.say(together(1));
    settle().await;
    assert_eq!(server.held(BUDGET), 1);
    drop(aloft);
    settle().await;
    assert_eq!(server.held(BUDGET), 0);
}
