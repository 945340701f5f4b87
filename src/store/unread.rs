//! Says that a tier holds calls which cannot be read for want of their key, once each: there may be a million of them.
//!
//! They stay where they are. The key may come back, and each is overwritten when its call is fetched again.

use std::sync::Once;

use super::record::Unreadable;
use crate::outcome::Tier;

/// What one tier has said so far.
pub(super) struct Unread {
    other_key: Once,
    unsealed: Once,
}

impl Unread {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self { other_key: Once::new(), unsealed: Once::new() }
    }

    /// Says why a record of `tier` is passed over, where that is a matter of keys and was not said before.
    pub(super) fn say(&self, tier: Tier, why: Unreadable) {
        let tier = tier.as_str();
        match why {
            Unreadable::OtherKey => self.other_key.call_once(|| {
                tracing::warn!(
                    tier,
                    "kept calls are sealed with a key that is not in cache.encryption_key_file; they are fetched anew"
                );
            }),
            Unreadable::Unsealed => self.unsealed.call_once(|| {
                tracing::warn!(
                    tier,
                    "kept calls from before cache.encryption_key_file lie in the clear; they are fetched anew, and sealed"
                );
            }),
            Unreadable::OtherVersion | Unreadable::Damaged => {}
        }
    }
}
