//! What is kept, and in which tiers: memory first, then the disk. The one seam that `lookup` sees; it does not know
//! which tiers are there.
//!
//! Every hit comes from memory. What lies further away is recalled into it once, by the flight for its key.
//!
//! The store never decides whether an answer may be kept or for how long: a [`Stored`] comes with its lifetime from
//! [`crate::lookup::admission`].

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

mod disk;
mod erasure;
mod memory;
mod record;
mod seal;
pub mod stored;
mod unread;

pub use erasure::Erasure;
pub use record::Namespace;
pub use seal::{Seal, SealError};
pub use stored::{Failure, FailureAnswer, Stored};

use crate::{call::CacheKey, clock::Clock, outcome::Tier};

/// The `cache.*` settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `cache.capacity`, in bytes.
    pub capacity: u64,
    /// `cache.disk.*`
    pub disk: Option<DiskSettings>,
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

/// What one tier holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries.
    pub entries: u64,
    /// Their weight: bodies, headers, keys and overhead, in bytes.
    pub bytes: u64,
    /// Entries evicted for room since the start.
    pub evicted: u64,
    /// Entries thrown out since the start because they were past their use.
    pub expired: u64,
}

/// The tiers, in their order.
pub struct Store {
    memory: memory::Memory,
    disk: Option<disk::Disk>,
    /// How often something was forgotten: what is read from afar meanwhile may be what was to be forgotten.
    removals: AtomicU64,
}

impl Store {
    /// An empty store in memory alone, of `capacity` bytes.
    #[must_use]
    pub fn in_memory(capacity: u64) -> Self {
        Self { memory: memory::Memory::new(capacity), disk: None, removals: AtomicU64::new(0) }
    }

    /// The store of these settings, for the calls of `namespace`. `keep_stale` is how long past its lifetime a call may
    /// still serve. `seal` is made of `cache.encryption_key_file`, where that is set. A tier that cannot be had is left
    /// out, with a line in the log.
    pub async fn open(
        settings: &Settings,
        namespace: Namespace,
        keep_stale: Duration,
        clock: Arc<Clock>,
        seal: Option<Arc<Seal>>,
    ) -> Self {
        let store = Self::in_memory(settings.capacity);
        let Some(disk) = settings.disk.clone() else { return store };
        let sealed = seal.is_some();
        let open = move || disk::Disk::open(&disk, namespace, keep_stale, clock, seal);
        let disk = tokio::task::spawn_blocking(open).await.ok().flatten();
        match (&disk, sealed) {
            (None, _) => {}
            (Some(_), true) => tracing::info!("calls are sealed on disk"),
            (Some(_), false) => {
                tracing::info!("calls lie on disk in the clear: cache.encryption_key_file is not set");
            }
        }
        Self { disk, ..store }
    }

    /// What is kept in memory for `key`, fresh or stale. Never waits and never allocates: the path of every hit.
    #[must_use]
    pub fn get(&self, key: &CacheKey) -> Option<Arc<Stored>> {
        self.memory.get(key)
    }

    /// What is kept for `key` beyond memory, fresh or stale, and where it lay; it lies in memory from now on. `None`
    /// where memory has something, which is never older. May wait, up to the limits of the tiers.
    pub async fn recall(&self, key: &CacheKey) -> Option<(Tier, Arc<Stored>)> {
        let disk = self.disk.as_ref()?;
        if self.memory.get(key).is_some() {
            return None;
        }
        let removals = self.removals.load(Ordering::SeqCst);
        let stored = disk.get(key).await?;
        let _ = self.memory.put(key.clone(), Arc::clone(&stored));
        if self.removals.load(Ordering::SeqCst) != removals {
            // It may have been this one. If it was not, it is read again.
            self.memory.remove(key);
        }
        Some((Tier::Disk, stored))
    }

    /// Keeps an answer; false where it finds no room even in an empty store.
    #[must_use]
    pub fn put(&self, key: &CacheKey, stored: Arc<Stored>) -> bool {
        let kept = self.memory.put(key.clone(), Arc::clone(&stored));
        if kept && let Some(disk) = &self.disk {
            disk.put(key, &stored);
        }
        kept
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

    /// Forgets what is kept for `key`, in every tier; whether there was anything in memory.
    pub fn remove(&self, key: &CacheKey) -> bool {
        // Further tiers first, and memory last: who recalls meanwhile sees either that this has begun, or nothing.
        self.removals.fetch_add(1, Ordering::SeqCst);
        if let Some(disk) = &self.disk {
            disk.remove(key);
        }
        self.memory.remove(key)
    }

    /// What each tier holds.
    #[must_use]
    pub fn totals(&self) -> Vec<(Tier, Totals)> {
        let disk = self.disk.as_ref().map(|disk| (Tier::Disk, disk.totals()));
        std::iter::once((Tier::Memory, self.memory.totals())).chain(disk).collect()
    }

    /// Writes down what is still to be written, and lets go of files. Nothing is kept beyond memory afterwards.
    pub async fn close(&self) {
        if let Some(disk) = &self.disk {
            disk.close().await;
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
