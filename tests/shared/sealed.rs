//! With `cache.encryption_key_file` Redis shows nothing of a call, and only replicas with the same key share it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::world::{Crowd, STORED, World, look, until};
use crate::{
    disk::world::lines,
    gateway::{
        records::{LONG_AGO, ongoing, record},
        vendor::{Play, ok},
        world::{Gateway, ID, PHONE, request},
    },
    replicas::{redis::available, world::Log},
};

const SUMMARY: &str = "asked about an invoice";
const OTHER_KEY: &str = "sealed with a key that is not in cache.encryption_key_file";

/// Keys as `openssl rand` writes them.
const ONE: &str = "5d0f6a4f4b8ce4d55d6b1c5a3a2f1f62ad4a5a1c0a7f0f7df3a8a2b9e3a1c4d6\n";
const TWO: &str = "q83vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq80=\n";

fn settled(id: &str) -> String {
    record(id, "completed", &format!(r#","endTime":{LONG_AGO},"summary":"{SUMMARY}""#))
}

/// The setting that names a file with these keys.
fn keyed(world: &World, name: &str, keys: &str) -> String {
    let path = world.path(name);
    fs::write(&path, keys).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    format!("cache.encryption_key_file = \"{}\"\n", path.display())
}

async fn with_key(world: &World, name: &str, keys: &str) -> Gateway {
    world.replica_with(&keyed(world, name, keys)).await
}

/// Whether Redis shows what is personal in a call.
fn shows(world: &World) -> bool {
    let all = world.dump();
    [PHONE, SUMMARY, "completed", "ongoing", "toPhoneNumber"].iter().any(|text| all.contains(text))
}

#[tokio::test]
async fn redis_shows_nothing_of_a_call_that_is_kept_or_has_just_landed() {
    if !available() {
        return;
    }
    for sealed in [true, false] {
        let world = World::new(|seen| {
            Play::Held(match (seen.id(), seen.target().contains('?')) {
                (_, true) => ok(format!("[{}]", settled("a"))),
                ("under-way", _) => ok(ongoing("under-way")),
                (id, _) => ok(settled(id)),
            })
        })
        .await;
        let (a, b) = match sealed {
            true => (with_key(&world, "a", ONE).await, with_key(&world, "b", ONE).await),
            false => (world.replica().await, world.replica().await),
        };
        let targets = [&format!("/calls/{ID}"), "/calls/under-way", "/v2/api/call-history?page=1"];
        let mut crowds = Vec::new();
        for target in targets {
            crowds.extend([Crowd::at(&a, 2, target).await, Crowd::at(&b, 2, target).await]);
        }
        a.settle().await;
        b.settle().await;
        world.vendor.release();
        for crowd in crowds {
            for answer in crowd.answers().await {
                assert_eq!(answer.status, 200);
            }
        }
        assert_eq!(world.vendor.requests(), 3, "they could read what landed");
        until(async || world.keys("call").len() == 1).await;
        assert_eq!(world.keys("landed").len(), 3, "they are held ready still");
        assert_eq!(shows(&world), !sealed);
    }
}

#[tokio::test]
async fn replicas_with_the_same_key_share_and_one_with_another_fetches_by_itself() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let world = World::new(|seen| Play::Send(ok(settled(seen.id())))).await;
    let (a, b) = (with_key(&world, "a", ONE).await, with_key(&world, "b", &format!("{ONE}{TWO}")).await);
    for id in ["one", "two"] {
        assert_eq!(look(&a, id).await.cache(), STORED);
    }
    until(async || world.keys("call").len() == 2).await;
    for id in ["one", "two"] {
        assert!(look(&b, id).await.cache().ends_with("; detail=shared"));
    }
    assert_eq!((world.vendor.requests(), lines(&log.text(), OTHER_KEY)), (2, 0));
    let other = with_key(&world, "other", TWO).await;
    for id in ["one", "two"] {
        let answer = look(&other, id).await;
        assert_eq!((answer.text(), answer.cache()), (settled(id), STORED));
    }
    assert_eq!((world.vendor.requests(), lines(&log.text(), OTHER_KEY)), (4, 1), "{}", log.text());
    assert!(!log.text().contains(&ONE[..16]) && !log.text().contains(&TWO[..16]));
    assert!(!shows(&world));
}

#[tokio::test]
async fn who_cannot_read_what_landed_asks_in_turn() {
    if !available() {
        return;
    }
    let world = World::new(|seen| Play::Held(ok(settled(seen.id())))).await;
    let (a, other) = (with_key(&world, "a", ONE).await, with_key(&world, "other", TWO).await);
    let mut first = a.connect().await;
    first.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    world.vendor.arrived(1).await;
    let crowd = Crowd::at(&other, 10, &format!("/calls/{ID}")).await;
    other.settle().await;
    assert_eq!(world.vendor.requests(), 1);
    world.vendor.release();
    assert_eq!(first.answer().await.cache(), STORED);
    for answer in crowd.answers().await {
        assert_eq!((answer.status, answer.text()), (200, settled(ID)));
    }
    assert_eq!(world.vendor.requests(), 2);
}
