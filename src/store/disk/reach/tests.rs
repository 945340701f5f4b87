//! What is out of the file once it was waited for.

use std::path::Path;

use arc_swap::ArcSwap;

use super::*;
use crate::{
    call::{ApiVersion, CallId, Resource, WorkspaceIndex},
    clock::Clock,
    outcome::Class,
    store::{DiskSettings, Namespace, Spans, Terms, stored::Stored},
};

fn open(path: &Path) -> Disk {
    let settings = DiskSettings { path: path.join("calls"), capacity: 64 << 20 };
    let namespace = Namespace { origin: "https://vendor".into(), workspaces: vec!["ws".into()] };
    let spans = Spans { keep_stale: Duration::from_secs(60), longest: Duration::from_secs(60) };
    let spans = Arc::new(ArcSwap::from_pointee(spans));
    let terms = Terms { namespace, spans, clock: Arc::new(Clock::system()), seal: None };
    Disk::open(&settings, terms).expect("a file")
}

fn keys(count: usize) -> Vec<CacheKey> {
    let key = |n: usize| {
        let id = CallId::parse(format!("call-{n}").as_bytes()).expect("an id");
        CacheKey { workspace: WorkspaceIndex(0), version: ApiVersion::V2, resource: Resource::Call(id, None) }
    };
    (0..count).map(key).collect()
}

/// Keeps something under each of these, in the file.
async fn fill(disk: &Disk, keys: &[CacheKey]) {
    let stored = Arc::new(Stored::sample(Class::Final, Instant::now(), Duration::from_secs(1_000)));
    for some in keys.chunks(2_048) {
        some.iter().for_each(|key| disk.put(key, &stored));
        assert!(disk.settled().await);
    }
}

/// How many of these the file holds, whatever waits to be written.
fn in_file(disk: &Disk, keys: &[CacheKey]) -> usize {
    let base = disk.shared.on().expect("the tier is on");
    let there = |key: &&CacheKey| {
        base.get(&disk.namespace.key(key).expect("a key")).expect("it can be read").is_some()
    };
    keys.iter().filter(there).count()
}

#[tokio::test]
async fn what_was_handed_over_before_a_sweep_is_in_the_file_when_the_sweep_is_done() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = open(directory.path());
    let keys = keys(200);
    fill(&disk, &keys).await;
    assert_eq!(in_file(&disk, &keys), 200);
    keys.iter().for_each(|key| disk.remove(key));
    assert!(disk.settled().await);
    assert_eq!(in_file(&disk, &keys), 0, "who notes now that they are gone is right");
}

#[tokio::test]
async fn nothing_is_noted_that_did_not_reach_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = open(directory.path());
    disk.note_erasures(7).await;
    assert_eq!(disk.noted_erasures().await, 7);
    // It takes nothing more, and the file is open still.
    let base = disk.shared.on().expect("the tier is on");
    disk.shared.queue.close();
    disk.note_erasures(8).await;
    assert_eq!(base.erasures().expect("it can be read"), 7);
}

#[tokio::test]
async fn more_keys_than_the_queue_takes_are_forgotten_and_the_tier_stays_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = open(directory.path());
    // Beyond what may wait at once.
    let keys = keys(70_000);
    fill(&disk, &keys[69_000..]).await;
    disk.remove_all(&keys).await;
    assert!(disk.shared.on().is_some(), "the tier is on");
    assert_eq!(in_file(&disk, &keys), 0);
}
