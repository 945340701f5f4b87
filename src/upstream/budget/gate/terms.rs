//! The terms that a key is held to, how they change while the gateway runs, and the keys that come to it meanwhile.
//!
//! What was sent stays counted. A limit that was lowered has to be grown into: until enough of what was sent is a minute
//! old, nothing leaves. A permit that was granted before keeps its slot, and so is counted as well. Where replicas share
//! the budget, the shared window hears of the new limit with the next slot that is asked for.

use super::{Gate, Group, Key};
use crate::upstream::budget::{Settings, share::Standing};

/// The limit of a key, and what the lower lanes leave alone of it.
pub(super) fn of(own_limit: Option<u32>, settings: &Settings) -> (usize, usize) {
    let limit = own_limit.unwrap_or(settings.requests_per_minute);
    (limit as usize, settings.reserve.unwrap_or(limit / 3) as usize)
}

impl Gate {
    /// Holds every key to these settings from now on. Those who wait look again whether they can go, and in time; a
    /// queue that was shortened keeps who is in it.
    pub fn change(&self, settings: &Settings) {
        let mut state = self.lock();
        state.settings = settings.clone();
        state.keys.iter_mut().for_each(|key| key.change(settings));
    }
}

impl Gate {
    /// Whether it was told of this key.
    #[must_use]
    pub fn knows(&self, key: usize) -> bool {
        key < self.lock().keys.len()
    }

    /// Takes up the keys that are new since this was last told of all, in their order. What was sent with the key that
    /// one came after counts for it as well: who changes a key while the gateway runs does not get a second minute by
    /// it, should the vendor count for both together. Nothing of that is owed to a vendor that rejected the key, and the
    /// right one is not to wait for what a wrong one spent. What was sent before a restart counts for its own key alone.
    pub fn know(&self, groups: &[Group]) {
        let mut state = self.lock();
        for group in groups.iter().skip(state.keys.len()) {
            let mut key = Key::new(&state.settings, group, self.aloft);
            if let Some(before) = group.after.and_then(|before| state.keys.get(before)) {
                key.log.inherit(&before.log);
            }
            // Where the window is not relied on now, it is told of all keys before it is.
            key.introduced = state.standing != Standing::Together;
            if !key.introduced {
                self.given_up.notify_one();
            }
            state.keys.push(key);
        }
    }
}

impl Key {
    fn change(&mut self, settings: &Settings) {
        let (limit, reserve) = of(self.own_limit, settings);
        self.share.change(limit, settings.replicas_fallback);
        self.reserve = reserve;
        // It was said of the limit before.
        self.full = [None; 2];
        self.queue.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Duration, Instant, advance};

    use super::*;
    use crate::{
        outcome::ErrorCode,
        upstream::{
            budget::{
                Lane, Ties,
                gate::{
                    Report,
                    tests::{BUDGET, alone, answered, ask, attended, replica, seconds, spend},
                },
                window::{
                    Name,
                    scripted::{Server, together},
                },
            },
            scripted::settle,
        },
    };

    fn settings(requests_per_minute: u32, reserve: Option<u32>) -> Settings {
        Settings {
            requests_per_minute,
            replicas_fallback: None,
            reserve,
            queue_timeout: seconds(2),
            queue_length: 1,
        }
    }

    fn remaining(gate: &Gate) -> usize {
        gate.keys(Instant::now())[0].remaining
    }

    #[tokio::test(start_paused = true)]
    async fn a_lowered_limit_counts_what_was_sent_under_the_one_before() {
        let gate = attended(60, None, Ties::default());
        spend(&gate, 5).await;
        advance(seconds(30)).await;
        spend(&gate, 5).await;
        gate.change(&settings(7, None));
        assert_eq!(remaining(&gate), 0);
        let refusal = ask(&gate, Lane::Lookup, 2).await.expect_err("ten were sent");
        assert_eq!(refusal.code, ErrorCode::RateLimitExceeded);
        // When five of the ten are a minute old, two more fit in.
        advance(seconds(31)).await;
        spend(&gate, 2).await;
        ask(&gate, Lane::Lookup, 2).await.expect_err("seven in the last minute");
        gate.change(&settings(8, None));
        spend(&gate, 1).await;
        assert_eq!(remaining(&gate), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_at_once_when_the_limit_is_raised() {
        let gate = attended(1, None, Ties::default());
        spend(&gate, 1).await;
        let waiting = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { ask(&gate, Lane::Lookup, 90).await.map(|_| Instant::now()) })
        };
        settle().await;
        assert_eq!(gate.waiting(), 1);
        let raised = Instant::now();
        gate.change(&settings(2, None));
        let went = waiting.await.expect("no panic").expect("granted");
        assert!(went - raised < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_reserve_and_the_length_of_the_queue_change_as_well() {
        let gate = attended(3, None, Ties::default());
        gate.change(&settings(3, Some(2)));
        spend(&gate, 1).await;
        ask(&gate, Lane::Warm, 2).await.expect_err("two are kept for lookups");
        spend(&gate, 2).await;
        let first = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { ask(&gate, Lane::Lookup, 90).await.map(drop) })
        };
        settle().await;
        let refusal = ask(&gate, Lane::Lookup, 90).await.expect_err("a queue of one");
        assert_eq!(refusal.code, ErrorCode::Overloaded);
        first.await.expect("no panic").expect("its turn came");
    }

    #[tokio::test(start_paused = true)]
    async fn the_shared_window_keeps_to_a_new_limit_from_the_next_slot_on() {
        let server = Server::new();
        let gates = [(); 2].map(|()| replica(&server, 6, None, together(2)).0);
        settle().await;
        spend(&gates[0], 2).await;
        spend(&gates[1], 2).await;
        settle().await;
        for gate in &gates {
            gate.change(&settings(5, None));
        }
        spend(&gates[0], 1).await;
        settle().await;
        for gate in &gates {
            ask(gate, Lane::Lookup, 2).await.expect_err("five were sent");
        }
        assert_eq!(gates.each_ref().map(|gate| remaining(gate)), [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_comes_after_another_is_held_to_what_that_one_sent() {
        let gate = alone(&settings(4, Some(0)), &[None], 16);
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
        let gate = alone(&settings(4, Some(0)), &[None], 16);
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
        let gate = alone(&settings(2, Some(0)), &[None], 16);
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
}
