//! The tiers together: what is recalled lies in memory again, and what is removed is gone from all of them.

use std::path::Path;

use super::*;
use crate::{
    call::{ApiVersion, CallId, Resource, WorkspaceIndex},
    outcome::Class,
};

async fn open(path: &Path) -> Store {
    open_of(path, 1 << 20).await
}

async fn open_of(path: &Path, capacity: u64) -> Store {
    let disk = DiskSettings { path: path.join("calls"), capacity };
    let settings = Settings { capacity, disk: Some(disk), encryption_key_file: None };
    let namespace = Namespace { origin: "https://vendor".into(), workspaces: vec!["ws".into()] };
    let terms = Terms {
        namespace,
        spans: Arc::new(ArcSwap::from_pointee(Spans {
            keep_stale: Duration::from_secs(60),
            longest: Duration::from_secs(60),
        })),
        clock: Arc::new(Clock::system()),
        seal: None,
    };
    Store::open(&settings, terms, None).await.0
}

fn key(id: &str) -> CacheKey {
    let id = CallId::parse(id.as_bytes()).expect("an id");
    CacheKey {
        workspace: WorkspaceIndex(0),
        version: ApiVersion::V2,
        resource: Resource::Call(id, Some("a=1".into())),
    }
}

/// Another entry of the same call.
fn v1(id: &str) -> CacheKey {
    let id = CallId::parse(id.as_bytes()).expect("an id");
    CacheKey { workspace: WorkspaceIndex(0), version: ApiVersion::V1, resource: Resource::Call(id, None) }
}

fn call(id: &str) -> Erasure {
    Erasure::Call(None, CallId::parse(id.as_bytes()).expect("an id"))
}

fn stored(class: Class) -> Arc<Stored> {
    Arc::new(Stored::sample(class, Instant::now(), Duration::from_secs(1_000)))
}

async fn recalled(store: &Store, id: &str) -> bool {
    store.recall(&key(id)).await.is_some()
}

/// A store that was closed after these calls were kept in it, and is open again.
async fn reopened(path: &Path, ids: &[&str]) -> Store {
    let store = open(path).await;
    for id in ids {
        assert!(store.put(&key(id), stored(Class::Final)));
    }
    store.close().await;
    open(path).await
}

#[tokio::test]
async fn what_is_recalled_lies_in_memory_from_then_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = reopened(directory.path(), &["a"]).await;
    assert!(store.get(&key("a")).is_none());
    let (tier, kept) = store.recall(&key("a")).await.expect("kept");
    assert_eq!((tier, &kept.body[..], kept.class), (Tier::Disk, &b"{}"[..], Class::Final));
    assert!(store.get(&key("a")).is_some());
    assert!(!recalled(&store, "a").await, "memory has it");
    assert!(!recalled(&store, "b").await);
    let (_, disk) = store.totals().await[1];
    assert_eq!(disk.entries, 1);
}

#[tokio::test]
async fn what_is_purged_is_gone_at_once_and_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = reopened(directory.path(), &["a", "b"]).await;
    // Both before it is written and after it was read.
    assert!(!store.remove(&key("a")), "not in memory");
    assert!(!recalled(&store, "a").await);
    assert!(recalled(&store, "b").await);
    assert!(store.remove(&key("b")));
    assert!(store.get(&key("b")).is_none() && !recalled(&store, "b").await);
    assert!(store.put(&key("c"), stored(Class::Final)));
    store.remove(&key("c"));
    store.close().await;
    let store = open(directory.path()).await;
    for id in ["a", "b", "c"] {
        assert!(!recalled(&store, id).await, "{id}");
    }
}

#[tokio::test]
async fn what_is_no_longer_settled_is_not_found_as_it_was() {
    for class in [Class::Settling, Class::NotFound] {
        let directory = tempfile::tempdir().expect("a directory");
        let store = reopened(directory.path(), &["a"]).await;
        assert!(store.put(&key("a"), stored(class)));
        store.close().await;
        assert!(!recalled(&open(directory.path()).await, "a").await, "{class:?}");
    }
}

#[tokio::test]
async fn what_waits_to_be_written_can_be_recalled() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).await;
    assert!(store.put(&key("a"), stored(Class::Final)));
    store.memory.remove(&key("a"));
    assert!(recalled(&store, "a").await);
}

#[tokio::test]
async fn without_a_disk_nothing_is_recalled() {
    let store = Store::in_memory(1 << 20);
    assert!(!recalled(&store, "a").await);
    assert_eq!(store.totals().await.len(), 1);
    store.close().await;
}

/// The entries of a call: version, and where each lies.
async fn found(store: &Store, erasure: &Erasure) -> Vec<(ApiVersion, Vec<Tier>)> {
    store.find(erasure).await.into_iter().map(|found| (found.key.version, found.tiers)).collect()
}

#[tokio::test]
async fn every_entry_of_a_call_is_found_in_every_tier_that_has_it() {
    use ApiVersion::{V1, V2};
    let directory = tempfile::tempdir().expect("a directory");
    let store = reopened(directory.path(), &["a", "b"]).await;
    assert_eq!(found(&store, &call("a")).await, [(V2, vec![Tier::Disk])]);
    assert!(recalled(&store, "a").await);
    // Not written yet, and not to be written at all.
    assert!(store.put(&v1("a"), stored(Class::Final)) && store.put(&v1("b"), stored(Class::Settling)));
    let both = vec![Tier::Memory, Tier::Disk];
    assert_eq!(found(&store, &call("a")).await, [(V1, both.clone()), (V2, both)]);
    assert_eq!(found(&store, &call("b")).await, [(V1, vec![Tier::Memory]), (V2, vec![Tier::Disk])]);
    assert_eq!(found(&store, &Erasure::All(None)).await.len(), 4);
    assert_eq!(found(&store, &call("c")).await, []);
    let kept = &store.find(&call("a")).await[1].kept;
    assert_eq!((kept.class, kept.bytes, kept.status), (Class::Final, 2, http::StatusCode::OK));
    assert!(kept.ttl > 990 && kept.etag.is_some());
}

#[tokio::test]
async fn what_is_erased_is_counted_once_and_does_not_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = reopened(directory.path(), &["a", "b", "c"]).await;
    assert!(recalled(&store, "a").await);
    assert!(store.put(&v1("a"), stored(Class::Final)) && store.put(&v1("b"), stored(Class::NotFound)));
    let list =
        CacheKey { workspace: WorkspaceIndex(0), version: ApiVersion::V2, resource: Resource::List(None) };
    assert!(store.put(&list, stored(Class::List)));
    assert_eq!(store.erase(&call("unknown")).await, Erased { keys: 0, pending: false });
    assert!(store.get(&list).is_none(), "nobody knows which calls stand in it");
    assert_eq!(store.erase(&call("a")).await, Erased { keys: 2, pending: false }, "both versions, each once");
    assert!(store.get(&key("a")).is_none() && store.get(&v1("a")).is_none() && !recalled(&store, "a").await);
    // What is kept afterwards stays.
    assert!(store.put(&v1("a"), stored(Class::Final)));
    store.close().await;
    let store = open(directory.path()).await;
    assert_eq!(found(&store, &call("a")).await, [(ApiVersion::V1, vec![Tier::Disk])]);
    assert_eq!(store.erase(&Erasure::All(None)).await, Erased { keys: 3, pending: false });
    assert_eq!(
        (store.erase(&Erasure::All(None)).await, store.purged()),
        (Erased { keys: 0, pending: false }, 3)
    );
    store.close().await;
    let store = open(directory.path()).await;
    assert_eq!(store.totals().await.len(), 2, "the tier is on");
    assert!(found(&store, &Erasure::All(None)).await.is_empty());
}

#[tokio::test]
async fn more_than_one_transaction_takes_is_erased_too() {
    const MANY: usize = 5_000;
    let directory = tempfile::tempdir().expect("a directory");
    let store = open_of(directory.path(), 64 << 20).await;
    for n in 0..MANY {
        assert!(store.put(&key(&format!("{n}")), stored(Class::Final)));
    }
    // Closing waits only so long for what is still to be written; what is erased, for as long as it takes.
    assert_eq!(store.erase(&call("unknown")).await, Erased { keys: 0, pending: false });
    store.close().await;
    let store = open_of(directory.path(), 64 << 20).await;
    assert_eq!(store.totals().await[1].1.entries, MANY as u64);
    assert_eq!(store.erase(&Erasure::All(None)).await, Erased { keys: MANY, pending: false });
    assert_eq!(store.totals().await[1].1.entries, 0);
}

#[test]
fn an_erasure_is_remembered_for_as_long_as_anything_was_ever_kept() {
    let store = Store::in_memory(1 << 20);
    let spans = |longest| {
        let seconds = Duration::from_secs(longest);
        store.change_spans(Spans { keep_stale: seconds / 2, longest: seconds });
        *store.spans.load_full()
    };
    assert_eq!(spans(60).longest, Duration::from_secs(60));
    let shorter = spans(10);
    assert_eq!((shorter.keep_stale, shorter.longest), (Duration::from_secs(5), Duration::from_secs(60)));
    assert_eq!(spans(90).longest, Duration::from_secs(90));
}
