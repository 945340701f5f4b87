//! What is kept, and in which tiers: memory first. The one seam that `lookup` sees; it does not know which tiers are
//! there.
//!
//! The store never decides whether an answer may be kept or for how long: a [`Stored`] comes with its lifetime from
//! [`crate::lookup::admission`].

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::Instant;

mod memory;
pub mod stored;

pub use stored::{Failure, FailureAnswer, Stored};

use crate::{call::CacheKey, outcome::Tier};

/// The `cache.*` settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `cache.capacity`, in bytes.
    pub capacity: u64,
    /// `cache.disk.*`
    pub disk: Option<DiskSettings>,
    /// `cache.shared.*`
    pub shared: Option<SharedSettings>,
    /// `cache.encryption_key_file`
    pub encryption_key_file: Option<PathBuf>,
}

/// `cache.disk.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSettings {
    /// The file.
    pub path: PathBuf,
    /// In bytes.
    pub capacity: u64,
}

/// `cache.shared.*`
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSettings {
    /// `redis://`, `rediss://` or `unix://`; may hold a password, so this type has no derived `Debug`.
    pub url: String,
    /// After this the lookup goes on without it.
    pub timeout: Duration,
}

impl fmt::Debug for SharedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSettings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What one tier holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Entries.
    pub entries: u64,
    /// Their weight: bodies, headers, keys and overhead, in bytes.
    pub bytes: u64,
    /// Entries evicted for room since the start.
    pub evicted: u64,
}

/// The tiers, in their order.
pub struct Store {
    memory: memory::Memory,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { memory: memory::Memory::new(settings.capacity) }
    }

    /// What is kept in memory for `key`, fresh or stale. Never waits and never allocates: the path of every hit.
    #[must_use]
    pub fn get(&self, key: &CacheKey) -> Option<Arc<Stored>> {
        self.memory.get(key)
    }

    /// Keeps an answer; false where it finds no room even in an empty store.
    #[must_use]
    pub fn put(&self, key: &CacheKey, stored: Arc<Stored>) -> bool {
        self.memory.put(key.clone(), stored)
    }

    /// The failure that answers for `key` at `now`.
    #[must_use]
    pub fn failure(&self, key: &CacheKey, now: Instant) -> Option<Arc<Failure>> {
        self.memory.failure(key).filter(|failure| now < failure.until)
    }

    /// Remembers a failure until its time is over.
    pub fn put_failure(&self, key: &CacheKey, failure: Failure) {
        self.memory.put_failure(key.clone(), Arc::new(failure));
    }

    /// Forgets what is kept for `key`; whether there was anything.
    pub fn remove(&self, key: &CacheKey) -> bool {
        self.memory.remove(key)
    }

    /// What each tier holds.
    #[must_use]
    pub fn totals(&self) -> Vec<(Tier, Totals)> {
        vec![(Tier::Memory, self.memory.totals())]
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
