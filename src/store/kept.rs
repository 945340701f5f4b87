//! What operators see of what is kept, and how it is forgotten, in all tiers.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::StatusCode;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Erasure, Store, Told,
    namespace::digest,
    stored::{EntityTag, Stored},
};
use crate::{
    call::CacheKey,
    clock::UnixMillis,
    outcome::{Class, Tier},
};

/// What is known of an entry beside its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What the body turned out to be.
    pub class: Class,
    /// The vendor's status.
    pub status: StatusCode,
    /// The length of the body.
    pub bytes: usize,
    /// The entity tag of the body.
    pub etag: Option<EntityTag>,
    /// The record's `updatedAt`.
    pub updated: Option<UnixMillis>,
    /// When the vendor gave it.
    pub fetched: Instant,
    /// How old it is.
    pub age: Duration,
    /// What is left of its freshness lifetime in seconds; below zero once it is stale.
    pub ttl: i64,
}

impl Kept {
    /// What is known of an answer, now.
    pub(super) fn of(stored: &Stored) -> Self {
        let now = Instant::now();
        Self {
            class: stored.class,
            status: stored.status,
            bytes: stored.body.len(),
            etag: stored.etag,
            updated: stored.updated,
            fetched: stored.fetched,
            age: stored.age(now),
            ttl: stored.ttl_seconds(now),
        }
    }
}

/// An entry, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: CacheKey,
    /// The tiers that have it, the nearest first.
    pub tiers: Vec<Tier>,
    /// As the nearest tier has it.
    pub kept: Kept,
}

/// What other replicas erase from now on, to be forgotten here too.
#[derive(Debug)]
pub struct Erasures(Option<mpsc::Receiver<Vec<Told>>>);

impl Erasures {
    /// There are no others.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// What is told so.
    pub(super) fn told(told: mpsc::Receiver<Vec<Told>>) -> Self {
        Self(Some(told))
    }

    /// Waits for the next ones; for ever where there are no others. What came is to be forgotten before this is asked
    /// again. Nothing is lost where it is given up.
    pub async fn next(&mut self) -> Vec<Told> {
        let told = match &mut self.0 {
            Some(told) => told.recv().await,
            None => None,
        };
        match told {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Entries, each counted once however many tiers had it. Lists that go with a call are not counted, nor are failures.
    pub keys: usize,
    /// Redis is gone, so that other replicas have not been told. They are when it is back, if this process lives.
    pub pending: bool,
}

impl Store {
    /// The entries that an erasure is about, in the order of workspace, version and query. Lists go with every call that
    /// may stand in them, but are none of its entries. What the replicas share is looked into for a single call only.
    pub async fn find(&self, erasure: &Erasure) -> Vec<Found> {
        let (memory, which) = (self.memory.clone(), erasure.clone());
        let in_memory = tokio::task::spawn_blocking(move || memory.find(&which)).await.unwrap_or_default();
        let in_memory = in_memory.into_iter().filter(|(key, _)| counts(erasure, key));
        let mut tiers: Vec<(Tier, Vec<(CacheKey, Kept)>)> =
            vec![(Tier::Memory, in_memory.map(|(key, stored)| (key, Kept::of(&stored))).collect())];
        if let Some(disk) = &self.disk {
            tiers.push((Tier::Disk, disk.find(erasure).await));
        }
        if let (Some(shared), Erasure::Call(workspace, id)) = (&self.shared, erasure) {
            tiers.push((Tier::Shared, shared.find(*workspace, id).await.unwrap_or_default()));
        }
        let mut found: HashMap<CacheKey, Found> = HashMap::new();
        for (tier, entries) in tiers {
            for (key, kept) in entries {
                let new = || Found { key: key.clone(), tiers: Vec::new(), kept };
                found.entry(key.clone()).or_insert_with(new).tiers.push(tier);
            }
        }
        let mut found: Vec<Found> = found.into_values().collect();
        found.sort_by_cached_key(|found| (found.key.workspace, found.key.path_and_query()));
        found
    }

    /// Forgets what an erasure is about, in every tier. Once it is done nothing of it comes back, but what is kept later.
    /// To be awaited to its end, or part of it may stay.
    pub async fn erase(&self, erasure: &Erasure) -> Erased {
        // In the order of `remove`. Each further tier finds nothing from here on; that it is done for good is awaited at
        // the end. Memory comes before the one that is shared as well: this replica hears of its own erasure too, and
        // what it then forgets by itself would not be counted.
        let on_disk = self.disk.as_ref().map(|disk| disk.erase(erasure));
        let mut in_memory = self.erase_memory(erasure).await;
        let shared = match &self.shared {
            Some(shared) => shared.erase(erasure).await,
            None => Ok(HashSet::new()),
        };
        self.removals.fetch_add(1, Ordering::SeqCst);
        in_memory.extend(self.erase_memory(erasure).await);
        let mut digests: HashSet<u128> = match on_disk {
            Some(on_disk) => on_disk.await,
            None => HashSet::new(),
        };
        let pending = shared.is_err();
        digests.extend(shared.unwrap_or_default());
        let mut keys = 0;
        for key in in_memory.iter().filter(|key| counts(erasure, key)) {
            match self.namespace.key(key) {
                Some(key) => drop(digests.insert(digest(&key))),
                // Kept in memory alone.
                None => keys += 1,
            }
        }
        let keys = keys + digests.len();
        self.purged.fetch_add(keys as u64, Ordering::Relaxed);
        Erased { keys, pending }
    }

    /// Forgets it in memory; what there was.
    async fn erase_memory(&self, erasure: &Erasure) -> HashSet<CacheKey> {
        let (memory, which) = (self.memory.clone(), erasure.clone());
        let erased = tokio::task::spawn_blocking(move || memory.erase(&which)).await;
        let erased = erased.unwrap_or_else(|error| {
            tracing::error!(%error, "memory was not searched to its end for what is to be forgotten");
            Vec::new()
        });
        erased.into_iter().collect()
    }

    /// Forgets here what other replicas were told to forget, as far as it was given before.
    pub async fn obey(&self, told: &[Told]) {
        let Some(shared) = self.shared.as_ref().filter(|_| !told.is_empty()) else { return };
        // What is told is known to `shared` by now: whatever is read from there or put into memory from here on is held
        // to it, and what lies in memory is looked through once for all.
        let (memory, judge) = (self.memory.clone(), Arc::clone(shared));
        let old = move |key: &CacheKey, stored: &Stored| judge.forbids(key, stored.fetched);
        let in_memory = tokio::task::spawn_blocking(move || memory.find_where(old)).await.unwrap_or_default();
        if let Some(disk) = &self.disk {
            let mut on_disk = Vec::new();
            for told in told {
                if let Some(before) = shared.time_of(told) {
                    on_disk.extend(disk.keys_before(&told.erasure, before).await);
                }
            }
            disk.remove_all(&on_disk).await;
        }
        self.removals.fetch_add(1, Ordering::SeqCst);
        for key in in_memory {
            self.memory.remove(&key);
        }
    }

    /// Notes for the next start that this was obeyed, once it is so for good.
    pub async fn note_obeyed(&self, told: &[Told]) {
        if let (Some(disk), Some(last)) = (&self.disk, told.iter().map(|told| told.at).max()) {
            disk.note_erasures(last).await;
        }
    }
}

/// Whether a key that an erasure is about is one of its entries.
fn counts(erasure: &Erasure, key: &CacheKey) -> bool {
    match erasure {
        Erasure::All(_) => true,
        Erasure::Call(..) => key.call_id().is_some(),
    }
}
