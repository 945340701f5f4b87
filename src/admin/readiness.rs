//! Whether requests should be sent here: everything that only this gateway, or whoever runs it, can mend.
//!
//! The vendor's state is no part of it: every replica sees the same vendor, and taking them all out of service for
//! its sake would take the hits away as well.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Instant;

use crate::{lookup::Lookup, upstream::credentials::Credentials};

/// The readiness of one gateway.
#[derive(Debug)]
pub struct Readiness {
    draining: AtomicBool,
    credentials: Arc<Credentials>,
    lookup: Arc<Lookup>,
}

impl Readiness {
    /// Ready, as far as is known.
    #[must_use]
    pub fn new(credentials: Arc<Credentials>, lookup: Arc<Lookup>) -> Self {
        Self { draining: AtomicBool::new(false), credentials, lookup }
    }

    /// Says that the end has begun. There is no way back.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Why it is not ready; ready where there is nothing. The key files are looked at first; of one that hangs it says
    /// what was last known.
    pub async fn reasons(&self) -> Vec<String> {
        self.lookup.upstream().look_at_keys().await;
        let mut reasons = Vec::new();
        if self.is_draining() {
            reasons.push("draining".to_owned());
        }
        let missing = self.credentials.missing_key_files();
        reasons.extend(missing.iter().map(|name| format!("the key file of workspace {name} has vanished")));
        let rejected = self.lookup.upstream().rejected(Instant::now());
        reasons.extend(rejected.iter().map(|name| format!("the vendor rejects the key of workspace {name}")));
        reasons
    }
}
