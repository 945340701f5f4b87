//! The budget of requests toward the vendor: who may send one, when, and in which order.
//!
//! [`log`] counts what one key has sent in the last minute, [`pause`] and [`breaker`](super::breaker) say when nothing
//! may be sent at all, `queue` holds who waits, and [`gate`] puts them together into a [`Permit`](gate::Permit).
//! The first four are pure: the time is passed in.
//!
//! Where several replicas send with the same key, [`window`] is the log that they share, [`shared`] keeps it in Redis,
//! and `share` says how much one replica may send without it. [`journal`] keeps the last minute across a restart.

use std::{fmt, sync::Arc, time::Duration};

pub mod gate;
pub mod journal;
pub mod log;
pub mod pause;
mod queue;
mod share;
pub mod shared;
pub mod window;

/// What a gate is tied to beyond its own memory.
#[derive(Default)]
pub struct Ties {
    /// What the replicas share.
    pub window: Option<Arc<dyn window::Window>>,
    /// What outlives a restart.
    pub journal: Option<journal::Journal>,
}

impl fmt::Debug for Ties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, journal } = self;
        f.debug_struct("Ties").field("window", &window.is_some()).field("journal", journal).finish()
    }
}

/// The `budget.*` settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `budget.requests_per_minute`, 1 to 1,000,000, for keys that have none of their own.
    pub requests_per_minute: u32,
    /// `budget.replicas_fallback`
    pub replicas_fallback: Option<u32>,
    /// `budget.reserve`, a count; `None` is a third of the key's own budget.
    pub reserve: Option<u32>,
    /// `budget.queue_timeout`
    pub queue_timeout: Duration,
    /// `budget.queue_length`
    pub queue_length: usize,
}

/// What a request is for. The lanes go strictly in this order, and the lower ones leave `budget.reserve` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A caller waits for the answer.
    Lookup,
    /// A poll for callers who wait for a call to end.
    Wait,
    /// Filling the cache ahead of need.
    Warm,
}
