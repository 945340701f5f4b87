//! Which hits get a line in the log: a share of them, which may be changed while the gateway runs.
//!
//! It is read with every hit and written next to never, so that each core has a copy of its own.

use std::sync::atomic::{AtomicU64, Ordering};

/// A share of what happens, picked by chance.
#[derive(Debug)]
pub struct Sampler(AtomicU64);

impl Sampler {
    /// A share from 0.0 to 1.0.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self(AtomicU64::new(share.to_bits()))
    }

    /// Another share from now on.
    pub fn change(&self, share: f64) {
        self.0.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Whether this one is picked.
    #[must_use]
    pub fn picks(&self) -> bool {
        let share = f64::from_bits(self.0.load(Ordering::Relaxed));
        share >= 1.0 || fastrand::f64() < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_none_is_picked_without_chance_and_a_change_counts_at_once() {
        let sampler = Sampler::new(1.0);
        assert!((0..1_000).all(|_| sampler.picks()));
        sampler.change(0.0);
        assert!(!(0..1_000).any(|_| sampler.picks()));
    }
}
