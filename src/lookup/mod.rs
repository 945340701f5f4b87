//! Lookups: what is fresh is answered, what is not is fetched once, what may be kept is kept.

use std::time::Duration;

pub mod record;

/// The `lookup.*` settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `lookup.final_statuses`, trimmed and in lower case.
    pub final_statuses: Vec<String>,
    /// `lookup.settle_after`
    pub settle_after: Duration,
    /// `lookup.settling_ttl`
    pub settling_ttl: Duration,
    /// `lookup.final_ttl`; `forever` is [`FOREVER`].
    pub final_ttl: Duration,
    /// `lookup.client_max_age`
    pub client_max_age: Duration,
    /// `lookup.stale_if_error`
    pub stale_if_error: Duration,
    /// `lookup.ongoing_ttl`
    pub ongoing_ttl: Duration,
    /// `lookup.not_found_ttl`
    pub not_found_ttl: Duration,
    /// `lookup.failure_ttl`
    pub failure_ttl: Duration,
    /// `lookup.obey_no_cache`
    pub obey_no_cache: bool,
    /// `lookup.query_ignored`
    pub query_ignored: Vec<String>,
    /// `lookup.query_forwarded`
    pub query_forwarded: Vec<String>,
    /// `lookup.max_wait`
    pub max_wait: Duration,
    /// `lists.ttl`
    pub list_ttl: Duration,
    /// `lists.empty_for_500`
    pub empty_for_500: bool,
}

/// What `forever` is counted as: a hundred years, which no `Instant` overflows on.
pub const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
