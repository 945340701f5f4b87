//! The tiers together: what is recalled lies in memory again, and what is removed is gone from all of them.

use std::path::Path;

use super::*;
use crate::{
    call::{ApiVersion, CallId, Resource, WorkspaceIndex},
    outcome::Class,
};

async fn open(path: &Path) -> Store {
    let disk = DiskSettings { path: path.join("calls"), capacity: 1 << 20 };
    let settings = Settings { capacity: 1 << 20, disk: Some(disk), encryption_key_file: None };
    let namespace = Namespace { origin: "https://vendor".into(), workspaces: vec!["ws".into()] };
    Store::open(&settings, namespace, Duration::from_secs(60), Arc::new(Clock::system()), None).await
}

fn key(id: &str) -> CacheKey {
    let id = CallId::parse(id.as_bytes()).expect("an id");
    CacheKey {
        workspace: WorkspaceIndex(0),
        version: ApiVersion::V2,
        resource: Resource::Call(id, Some("a=1".into())),
    }
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
    let (_, disk) = store.totals()[1];
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
    assert_eq!(store.totals().len(), 1);
    store.close().await;
}
