//! `std::sync` and `tokio::sync`: the same names, with shuttle's locks and atomics, and a point before each use of a bell
//! at which any other task may come first.

pub use std::sync::*;

pub use shuttle::sync::{Mutex, MutexGuard};
pub use tokio::sync::{broadcast, watch};

use super::play::point;

/// `std::sync::atomic`, as far as it can be told from shuttle's.
pub mod atomic {
    pub use shuttle::sync::atomic::{AtomicBool, AtomicU64};
    pub use std::sync::atomic::Ordering;
}

/// tokio's bell.
#[derive(Debug, Default)]
pub struct Notify(tokio::sync::Notify);

impl Notify {
    /// A bell that has not rung.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for it. Who holds this hears `notify_waiters` from now on.
    pub fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        point();
        self.0.notified()
    }

    /// Wakes one who waits, or the next who does.
    pub fn notify_one(&self) {
        point();
        self.0.notify_one();
    }

    /// Wakes those who wait.
    pub fn notify_waiters(&self) {
        point();
        self.0.notify_waiters();
    }
}
