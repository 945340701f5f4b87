//! What is kept, and in which tiers: memory first, then the disk, then what the replicas share. The one seam that `lookup`
//! sees; it does not know which tiers are there.
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

use arc_swap::ArcSwap;
use tokio::time::Instant;

mod disk;
mod erasure;
mod kept;
mod memory;
mod namespace;
pub mod record;
mod seal;
mod shared;
pub mod stored;
mod unread;

pub use erasure::Erasure;
pub use kept::{Erased, Erasures, Found, Kept};
pub use namespace::Namespace;
pub use seal::{Seal, SealError};
pub use shared::{
    Boarding, ERASED, LANDED,
    landing::{LandedAnswer, Landing},
    lease::{Elsewhere, Lease},
    tombstones::Told,
};
pub use stored::{Failure, FailureAnswer, Stored};

use crate::{call::CacheKey, clock::Clock, outcome::Tier, replicas::Link};

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

/// How long calls are kept beyond memory, as the `lookup.*` settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// How long past its lifetime a call may still serve: `lookup.stale_if_error`.
    pub keep_stale: Duration,
    /// How long the longest-lived copy may last: `lookup.final_ttl` and `lookup.stale_if_error`.
    pub longest: Duration,
}

/// What calls are kept for and how, in every tier beyond memory.
#[derive(Clone)]
pub struct Terms {
    /// Whose calls they are.
    pub namespace: Namespace,
    /// For how long.
    pub spans: Arc<ArcSwap<Spans>>,
    /// The time of day.
    pub clock: Arc<Clock>,
    /// What seals them, where they are to be sealed.
    pub seal: Option<Arc<Seal>>,
}

/// What one tier holds. The one that the replicas share counts calls, however many versions and queries are kept of each,
/// by the bytes of their values alone; and of what expired what this replica threw out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries, or calls.
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
    /// Whether there was to be a disk.
    disk_is_set: bool,
    shared: Option<Arc<shared::Shared>>,
    namespace: Namespace,
    spans: Arc<ArcSwap<Spans>>,
    /// How often something was forgotten: what is read from afar meanwhile may be what was to be forgotten.
    removals: AtomicU64,
    /// Entries forgotten since the start because an operator said so.
    purged: AtomicU64,
}

impl Store {
    /// An empty store in memory alone, of `capacity` bytes.
    #[must_use]
    pub fn in_memory(capacity: u64) -> Self {
        Self {
            memory: memory::Memory::new(capacity),
            disk: None,
            disk_is_set: false,
            shared: None,
            namespace: Namespace::default(),
            spans: Arc::default(),
            removals: AtomicU64::new(0),
            purged: AtomicU64::new(0),
        }
    }

    /// The store of these settings. A tier that cannot be had is left out, with a line in the log. What was erased by
    /// other replicas while this one was not there is forgotten before it returns; what they erase from then on is
    /// handed out beside the store.
    pub async fn open(settings: &Settings, terms: Terms, link: Option<Arc<Link>>) -> (Self, Erasures) {
        let namespace = terms.namespace.clone();
        let spans = Arc::clone(&terms.spans);
        let store = Self { namespace, spans, ..Self::in_memory(settings.capacity) };
        let sealed = terms.seal.is_some();
        let disk = match settings.disk.clone() {
            Some(disk) => {
                let terms = terms.clone();
                let open = move || disk::Disk::open(&disk, terms);
                tokio::task::spawn_blocking(open).await.ok().flatten()
            }
            None => None,
        };
        for (there, place) in [(disk.is_some(), "on disk"), (link.is_some(), "in redis")] {
            if there && sealed {
                tracing::info!("calls are sealed {place}");
            } else if there {
                tracing::info!("calls lie {place} in the clear: cache.encryption_key_file is not set");
            }
        }
        let shared = link.map(|link| Arc::new(shared::Shared::new(link, terms)));
        let store = Self { disk, disk_is_set: settings.disk.is_some(), shared, ..store };
        let mut erasures = Erasures::none();
        if let Some(shared) = &store.shared {
            if let Some(disk) = &store.disk {
                shared.knows_until(disk.noted_erasures().await);
            }
            // Where it is gone, they are told when it is back.
            let told = shared.told().await.unwrap_or_default();
            store.obey(&told).await;
            store.note_obeyed(&told).await;
            erasures = Erasures::told(shared.follow());
        }
        (store, erasures)
    }

    /// What is kept in memory for `key`, fresh or stale. Never waits and never allocates: the path of every hit.
    #[must_use]
    pub fn get(&self, key: &CacheKey) -> Option<Arc<Stored>> {
        self.memory.get(key)
    }

    /// What is kept for `key` on disk, fresh or stale; it lies in memory from now on. `None` where memory has something,
    /// which is never older. May wait, up to the limit of the tier.
    pub async fn recall(&self, key: &CacheKey) -> Option<(Tier, Arc<Stored>)> {
        let disk = self.disk.as_ref()?;
        if self.memory.get(key).is_some() {
            return None;
        }
        let removals = self.removals.load(Ordering::SeqCst);
        let stored = disk.get(key).await?;
        self.remember(key, &stored, removals);
        Some((Tier::Disk, stored))
    }

    /// The same with what other replicas have kept, which [`Self::board`] looks for as well.
    pub async fn recall_from_all(&self, key: &CacheKey) -> Option<(Tier, Arc<Stored>)> {
        let near = self.recall(key).await;
        let fresh = |stored: &Stored| stored.fresh_for(Instant::now()).is_some();
        let Some(shared) = &self.shared else { return near };
        if near.as_ref().is_some_and(|(_, stored)| fresh(stored)) {
            return near;
        }
        let removals = self.removals.load(Ordering::SeqCst);
        let Some(stored) = shared.get(key).await else { return near };
        self.remember(key, &stored, removals);
        Some((Tier::Shared, stored))
    }

    /// Sets out to fetch `key`: finds out whether another replica has kept it, or asks for it already. Takes the lease to
    /// do so for all of them where nobody has it and `claim` says so. Passes by what is kept where `anew` does. What is
    /// found kept is the flight's to [keep here](Self::put_here).
    pub async fn board(&self, key: &CacheKey, claim: bool, anew: bool) -> Boarding {
        match &self.shared {
            Some(shared) => shared.board(key, claim, anew).await,
            None => Boarding::Free(Lease::none()),
        }
    }

    /// Lets memory have what was read from afar, unless it has something newer, or something was forgotten meanwhile.
    fn remember(&self, key: &CacheKey, stored: &Arc<Stored>, removals: u64) {
        if self.memory.get(key).is_some_and(|known| known.fetched >= stored.fetched) {
            return;
        }
        let _ = self.memory.put(key.clone(), Arc::clone(stored));
        let forbidden = self.shared.as_ref().is_some_and(|shared| shared.forbids(key, stored.fetched));
        if forbidden || self.removals.load(Ordering::SeqCst) != removals {
            // It may have been this one. If it was not, it is read again.
            self.memory.remove(key);
        }
    }

    /// Keeps an answer, in every tier; false where it finds no room even in an empty store.
    #[must_use]
    pub fn put(&self, key: &CacheKey, stored: Arc<Stored>) -> bool {
        let kept = self.put_here(key, Arc::clone(&stored));
        if kept && let Some(shared) = &self.shared {
            shared.put(key, &stored);
        }
        kept
    }

    /// Keeps an answer in memory and on disk: one that the other replicas have already.
    #[must_use]
    pub fn put_here(&self, key: &CacheKey, stored: Arc<Stored>) -> bool {
        let kept = self.memory.put(key.clone(), Arc::clone(&stored));
        if kept && let Some(disk) = &self.disk {
            disk.put(key, &stored);
        }
        kept
    }

    /// Whether something was erased, here or elsewhere, that was given for `key` then.
    #[must_use]
    pub fn forbids(&self, key: &CacheKey, given: Instant) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.forbids(key, given))
    }

    /// The failure that answers for `key` at `now`.
    #[must_use]
    pub fn failure(&self, key: &CacheKey, now: Instant) -> Option<Arc<Failure>> {
        self.memory.failure(key, now)
    }

    /// Remembers a failure until its time is over.
    pub fn put_failure(&self, key: &CacheKey, failure: Failure) {
        self.memory.put_failure(key.clone(), Arc::new(failure));
    }

    /// Forgets what is kept for `key`, in every tier; whether there was anything in memory.
    pub fn remove(&self, key: &CacheKey) -> bool {
        if let Some(shared) = &self.shared {
            shared.remove(key);
        }
        self.remove_here(key)
    }

    /// Forgets what is kept for `key` in this process and on its disk: the others have been told by themselves.
    pub fn remove_here(&self, key: &CacheKey) -> bool {
        // Further tiers first, then the count, and memory last: who recalls meanwhile finds nothing there, or sees that
        // the count has moved, or has put it into memory already.
        if let Some(disk) = &self.disk {
            disk.remove(key);
        }
        self.removals.fetch_add(1, Ordering::SeqCst);
        self.memory.remove(key)
    }

    /// Keeps for these spans from now on. What was kept for longer is still there, so an erasure is remembered for the
    /// longest span that there ever was.
    pub fn change_spans(&self, spans: Spans) {
        let longest = self.spans.load().longest.max(spans.longest);
        self.spans.store(Arc::new(Spans { longest, ..spans }));
    }

    /// Entries forgotten since the start because an operator said so.
    #[must_use]
    pub fn purged(&self) -> u64 {
        self.purged.load(Ordering::Relaxed)
    }

    /// What each tier holds. Waits for the one that the replicas share to be counted, where it is there.
    pub async fn totals(&self) -> Vec<(Tier, Totals)> {
        let disk = self.disk.as_ref().map(|disk| (Tier::Disk, disk.totals()));
        let shared = match &self.shared {
            Some(shared) => Some((Tier::Shared, shared.totals().await)),
            None => None,
        };
        std::iter::once((Tier::Memory, self.memory.totals())).chain(disk).chain(shared).collect()
    }

    /// The tiers that are set up beyond memory, and whether each is in use.
    #[must_use]
    pub fn beyond_memory(&self) -> Vec<(Tier, bool)> {
        let disk_is_on = self.disk.as_ref().is_some_and(disk::Disk::is_on);
        let disk = self.disk_is_set.then_some((Tier::Disk, disk_is_on));
        let shared = self.shared.as_ref().map(|shared| (Tier::Shared, shared.replicas().is_some()));
        disk.into_iter().chain(shared).collect()
    }

    /// How many replicas share what is kept, this one among them: 1 while Redis is gone, `None` where there is none.
    #[must_use]
    pub fn replicas(&self) -> Option<u32> {
        self.shared.as_ref().map(|shared| shared.replicas().unwrap_or(1))
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
