//! The keys that come to the gate while the gateway runs, and what counts for them from before.

use tokio::time::Instant;

use super::{Gate, Group, Key, State};
use crate::upstream::budget::share::Standing;

impl Gate {
    /// Whether it was told that somebody has this key, and that this is its own limit.
    #[must_use]
    pub fn knows(&self, key: usize, limit: Option<u32>) -> bool {
        self.lock().keys.get(key).is_some_and(|key| key.held && key.own_limit == limit)
    }

    /// Holds the keys that it knows to the limits that they have now, notes which of them anybody has, and takes up those
    /// that are new since this was last told of all, in their order.
    ///
    /// What is under way with the key that a new one came after, and what it sent in the last minute, counts for the new
    /// one as well, should the vendor count for both together. Nothing of that is owed to a vendor that rejected the key,
    /// and the right one is not to wait for what a wrong one spent. That is done once, when the new key comes: one that
    /// is come back to has its own log, and knows nothing of what others sent meanwhile. What was sent before a restart
    /// counts for its own key alone. A pause is not taken over, for the vendor asks for it by key.
    pub fn know(&self, groups: &[Group]) {
        let mut state = self.lock();
        state.notice(Instant::now());
        let State { keys, settings, .. } = &mut *state;
        for (key, group) in keys.iter_mut().zip(groups) {
            key.held = group.held;
            if key.own_limit != group.limit {
                key.own_limit = group.limit;
                key.change(settings);
            }
            if key.held && !key.introduced {
                self.given_up.notify_one();
            }
        }
        for group in groups.iter().skip(state.keys.len()) {
            let mut key = Key::new(&state.settings, group, self.aloft);
            if let Some(before) = group.after.and_then(|before| state.keys.get(before)) {
                key.log.inherit(&before.log);
                key.share.after(&before.share);
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

#[cfg(test)]
mod tests;
