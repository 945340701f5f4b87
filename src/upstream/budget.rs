//! The budget of requests toward the vendor.

use std::time::Duration;

/// The `budget.*` settings.
#[derive(Clone, Debug, PartialEq)]
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
