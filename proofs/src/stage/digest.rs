//! As much of `ring::digest` as it takes to compile who asks for it. No play names a budget by its key.

/// Stands for the algorithm.
#[derive(Debug)]
pub struct Algorithm;

/// Stands for SHA-256.
pub static SHA256: Algorithm = Algorithm;

/// Stands for a digest under way.
#[derive(Debug)]
pub struct Context;

impl Context {
    /// Begins one.
    #[must_use]
    pub fn new(_: &Algorithm) -> Self {
        Self
    }

    /// Takes in nothing.
    pub fn update(&mut self, _: &[u8]) {}

    /// Always the same.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        [0; 32]
    }
}
