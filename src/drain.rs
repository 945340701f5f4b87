//! Ends the gateway in order.

use std::time::Duration;

/// The `drain.*` settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `drain.delay`: not ready, but still accepting.
    pub delay: Duration,
    /// `drain.timeout`: how long what is under way may take once the listeners are closed.
    pub timeout: Duration,
}
