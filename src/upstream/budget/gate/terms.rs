//! The terms that a key is held to, and how they change while the gateway runs.
//!
//! What was sent stays counted. A limit that was lowered has to be grown into: until enough of what was sent is a minute
//! old, nothing leaves. A permit that was granted before keeps its slot, and so is counted as well. Where replicas share
//! the budget, the shared window hears of the new limit with the next slot that is asked for.

use super::{Gate, Key};
use crate::upstream::budget::Settings;

/// The limit of a key, and what the lower lanes leave alone of it: never all, whatever the settings say, for they would
/// wait for good.
pub(super) fn of(own_limit: Option<u32>, settings: &Settings) -> (usize, usize) {
    let limit = own_limit.unwrap_or(settings.requests_per_minute);
    let reserve = settings.reserve.unwrap_or(limit / 3).min(limit.saturating_sub(1));
    (limit as usize, reserve as usize)
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

impl Key {
    pub(super) fn change(&mut self, settings: &Settings) {
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
                gate::tests::{ask, attended, replica, seconds, spend},
                window::scripted::{Server, together},
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

    #[test]
    fn of_any_limit_something_is_left_for_the_lower_lanes() {
        // the key's own limit, everybody's, the reserve; what the key is held to
        let table = [
            (None, 60, None, (60, 20)),
            (None, 60, Some(0), (60, 0)),
            (None, 60, Some(59), (60, 59)),
            (Some(10), 60, None, (10, 3)),
            (Some(10), 60, Some(9), (10, 9)),
            (Some(10), 60, Some(10), (10, 9)),
            (Some(10), 60, Some(40), (10, 9)),
            (Some(1), 60, Some(40), (1, 0)),
            (Some(1), 60, None, (1, 0)),
        ];
        for (own_limit, everybodys, reserve, expected) in table {
            assert_eq!(of(own_limit, &settings(everybodys, reserve)), expected, "{own_limit:?} {reserve:?}");
        }
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
}
