//! As much of `ring::rand` as a gate needs: a number that no other gate of the play has, and the same each time it is
//! played.

use std::cell::Cell;

thread_local! {
    static DRAWN: Cell<u8> = const { Cell::new(0) };
}

/// Stands for the error that never comes.
#[derive(Debug)]
pub struct Unspecified;

/// What can be drawn from.
pub trait SecureRandom {
    /// Fills it.
    ///
    /// # Errors
    /// None.
    fn fill(&self, dest: &mut [u8]) -> Result<(), Unspecified>;
}

/// Counts.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl SystemRandom {
    /// The one there is.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl SecureRandom for SystemRandom {
    fn fill(&self, dest: &mut [u8]) -> Result<(), Unspecified> {
        DRAWN.set(DRAWN.get().wrapping_add(1));
        dest.fill(DRAWN.get());
        Ok(())
    }
}

/// Begins anew, for another play.
pub(crate) fn reset() {
    DRAWN.set(0);
}
