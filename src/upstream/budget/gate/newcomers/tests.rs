//! Keys that come after others, alone and where replicas share the budget.

use tokio::time::{Instant, advance};

use super::*;
use crate::upstream::{
    budget::{
        Lane, Settings,
        gate::{
            Report,
            tests::{BUDGET, alone, answered, ask, replica, seconds, spend},
        },
        window::{
            Name,
            scripted::{Server, together},
        },
    },
    scripted::settle,
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
    let old = Group { name: Name([0; 16]), limit: None, after: None };
    let new = Group { name: Name([8; 16]), limit: None, after: Some(0) };
    assert!(!gate.knows(1));
    gate.know(&[old, new]);
    gate.know(&[old, new]);
    assert!(gate.knows(1) && !gate.knows(2));
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
    let group = |name, after| Group { name: Name([name; 16]), limit: None, after };
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
