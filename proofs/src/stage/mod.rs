//! The stage on which the gateway's own sources are played: in its binary this crate stands in for `std`, `tokio` and
//! `ring`, so that `src/lookup/flight.rs` and `src/upstream/budget/` run as they are, word for word.
//!
//! What two tasks can get in each other's way with is replaced: locks and atomics by shuttle's, which hand over to any
//! other task at each step; time by one that passes when it is told to; `spawn` by tasks that shuttle steps. Channels and
//! bells are tokio's own: each call to them is one step. Everything else is the standard library.
//!
//! It knows nothing of the gateway.

pub use std::*;

#[doc(hidden)]
pub use tokio::select as tokio_select;

pub mod digest;
pub mod play;
pub mod rand;
pub mod sync;
pub mod time;

pub use play::spawn;

/// tokio's, always in the order in which it is written: tokio draws by itself who is asked first, and no seed would bring
/// that back.
#[macro_export]
macro_rules! select {
    (biased; $($branches:tt)*) => { $crate::tokio_select! { biased; $($branches)* } };
    ($($branches:tt)*) => { $crate::tokio_select! { biased; $($branches)* } };
}

/// What the plays themselves keep count with: no other task comes between two uses of it.
pub mod plain {
    pub use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};
}
