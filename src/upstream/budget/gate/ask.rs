//! Asks the shared window for the slot of a permit that the own log allows.

use std::time::Duration;

use tokio::time::Instant;

use super::{Gate, Lane, Permit, SOON};
use crate::{
    replicas::Gone,
    upstream::budget::{
        share::Standing,
        window::{Ask, Taken},
    },
};

/// Where there was no answer, it is asked again after this.
const RETRY: Duration = Duration::from_millis(20);

/// What came of asking.
pub(super) enum Asked {
    Granted,
    /// Not now; the state of the key says until when, or that there is nobody to ask any more.
    Denied,
    /// There was no answer before the deadline.
    TooLate,
}

impl Gate {
    /// Asks until there is an answer, the window is known to be gone, or the deadline has passed. Nothing leaves
    /// meanwhile, for nobody knows whether the slot is taken. A window that refuses is gone: it may do so for long.
    pub(super) async fn ask(&self, permit: &mut Permit, lane: Lane, deadline: Instant) -> Asked {
        let Some(window) = &self.window else { return Asked::Granted };
        loop {
            // Each time: the limit may have been changed since it was asked before.
            let ask = {
                let state = self.lock();
                let key = &state.keys[permit.key];
                let limit = key.share.limit();
                let reserve = key.reserve_of(lane, limit);
                Ask { budget: permit.budget, slot: permit.slot, limit, reserve, aloft: self.aloft }
            };
            let taken = window.take(ask).await;
            let now = Instant::now();
            match taken {
                Ok(Taken::Unknown) => {
                    self.lock().forgotten(now);
                    self.given_up.notify_one();
                    return Asked::Denied;
                }
                Ok(taken) => return self.taken(permit, lane, taken),
                Err(Gone::Refused) => {
                    self.lock().refused(now);
                    self.given_up.notify_one();
                    return Asked::Denied;
                }
                Err(Gone::Silent) => {}
            }
            {
                let mut state = self.lock();
                state.notice(now);
                if state.standing != Standing::Together {
                    return Asked::Denied;
                }
            }
            if now >= deadline {
                return Asked::TooLate;
            }
            tokio::time::sleep_until(deadline.min(now + RETRY)).await;
        }
    }

    fn taken(&self, permit: &mut Permit, lane: Lane, taken: Taken) -> Asked {
        let mut state = self.lock();
        state.obliged();
        let now = Instant::now();
        // A word from before the loss says nothing after it.
        let together = state.standing == Standing::Together;
        let key = &mut state.keys[permit.key];
        permit.asking = false;
        key.asking -= 1;
        match taken {
            Taken::Granted { left, probe } => {
                permit.probe = probe;
                if together {
                    key.heard(left, now);
                }
                return Asked::Granted;
            }
            Taken::Full(wait, left) => {
                if together {
                    key.share.heard(left, key.log.used(now).saturating_sub(key.asking + 1), now);
                    let reserve = if lane == Lane::Lookup { 0 } else { key.reserve };
                    // What came free since may have been said before this was: nobody would say it again.
                    if key.share.left_after(left).is_none_or(|slots| slots <= reserve) {
                        key.full[usize::from(lane != Lane::Lookup)] = Some(now + wait);
                    }
                }
            }
            Taken::Paused(wait) => key.pause.hold(now + wait),
            Taken::Probing => key.probing = Some(now + SOON),
            Taken::Unknown => {}
        }
        permit.shared = false;
        // Those behind may know by now that they cannot go in time.
        key.queue.wake_all();
        Asked::Denied
    }
}

#[cfg(test)]
mod tests;
