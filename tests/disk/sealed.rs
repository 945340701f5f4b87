//! With `cache.encryption_key_file` nobody reads calls from the file, and a key can be changed without losing them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use crate::gateway::{
    program::{callgate, run},
    records::{LONG_AGO, id, record},
    vendor::{Play, ok},
    world::{ID, PHONE},
};

use super::world::{Disk, Gateway, lines};

const SUMMARY: &str = "asked about an invoice";
const CLEAR: &str = "calls lie on disk in the clear";
const SEALED: &str = "calls are sealed on disk";
const OTHER_KEY: &str = "sealed with a key that is not in cache.encryption_key_file";
const UNSEALED: &str = "kept calls from before cache.encryption_key_file lie in the clear";

/// Keys as `openssl rand` writes them.
const ONE: &str = "5d0f6a4f4b8ce4d55d6b1c5a3a2f1f62ad4a5a1c0a7f0f7df3a8a2b9e3a1c4d6\n";
const TWO: &str = "q83vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq80=\n";

fn settled(id: &str) -> String {
    record(id, "completed", &format!(r#","endTime":{LONG_AGO},"summary":"{SUMMARY} {id}""#))
}

struct Sealed {
    disk: Disk,
    keys: PathBuf,
}

impl Sealed {
    async fn new() -> Self {
        let disk = Disk::before(|seen| Play::Send(ok(settled(seen.id())))).await;
        let keys = disk.directory().join("cache_key");
        Self { disk, keys }
    }

    /// Starts with these keys in the file.
    async fn with(&self, keys: &str) -> Gateway {
        fs::write(&self.keys, keys).expect("written");
        fs::set_permissions(&self.keys, Permissions::from_mode(0o600)).expect("changed");
        let path = self.keys.to_str().expect("text");
        self.disk.start_with(&self.disk.file(), &[("CALLGATE__CACHE__ENCRYPTION_KEY_FILE", path)]).await
    }

    /// Whether the file shows what is personal in a call.
    fn shows(&self) -> bool {
        let bytes = fs::read(self.disk.file()).expect("readable");
        let shows = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        // The head of the key shows that the file holds the call at all.
        assert!(shows(ID));
        shows(PHONE) || shows(SUMMARY) || shows("completed")
    }
}

/// Whether a call comes from the disk; else it is fetched and kept.
async fn finds(gateway: &mut Gateway, id: &str) -> bool {
    let answer = gateway.call(id).await;
    assert_eq!((answer.status, answer.text()), (200, settled(id)));
    let found = answer.cache().ends_with("; detail=disk");
    assert!(found || answer.cache().ends_with("; stored"), "{}", answer.cache());
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_shows_nothing_of_a_call_after_a_kill_or_an_end() {
    let world = Sealed::new().await;
    let mut gateway = world.with(ONE).await;
    assert!(!finds(&mut gateway, ID).await);
    gateway.holds(1).await;
    gateway.kill();
    assert!(!world.shows());
    let mut gateway = world.with(ONE).await;
    assert!(finds(&mut gateway, ID).await);
    assert!(!finds(&mut gateway, "another").await);
    let log = gateway.end().await;
    assert_eq!((lines(&log, SEALED), lines(&log, CLEAR)), (1, 0), "{log}");
    assert!(!log.contains(&ONE[..16]), "{log}");
    assert!(!world.shows());
    // For comparison.
    let clear = Sealed::new().await;
    let mut gateway = clear.disk.start().await;
    assert!(!finds(&mut gateway, ID).await);
    let log = gateway.end().await;
    assert_eq!((lines(&log, SEALED), lines(&log, CLEAR)), (0, 1), "{log}");
    assert!(clear.shows());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_on_top_opens_what_the_old_one_sealed() {
    let world = Sealed::new().await;
    let mut gateway = world.with(ONE).await;
    assert!(!finds(&mut gateway, "old").await);
    gateway.end().await;
    let mut gateway = world.with(&format!("# since today\n{TWO}\n{ONE}")).await;
    assert!(finds(&mut gateway, "old").await);
    assert!(!finds(&mut gateway, "new").await);
    gateway.end().await;
    // The old key goes, and with it what it sealed.
    let mut gateway = world.with(TWO).await;
    assert!(finds(&mut gateway, "new").await && !finds(&mut gateway, "old").await);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_key_a_call_is_fetched_anew_and_comes_back_with_the_key_unless_overwritten() {
    let world = Sealed::new().await;
    let ids: Vec<_> = (0..6).map(id).collect();
    let mut gateway = world.with(ONE).await;
    for id in &ids {
        assert!(!finds(&mut gateway, id).await);
    }
    gateway.end().await;
    let mut gateway = world.with(TWO).await;
    for id in &ids[..2] {
        assert!(!finds(&mut gateway, id).await, "sealed with another key");
    }
    let log = gateway.end().await;
    assert_eq!((lines(&log, OTHER_KEY), lines(&log, "damaged")), (1, 0), "{log}");
    let mut gateway = world.disk.start().await;
    for id in &ids[2..4] {
        assert!(!finds(&mut gateway, id).await, "sealed, and no key at all");
    }
    let log = gateway.end().await;
    assert_eq!((lines(&log, OTHER_KEY), lines(&log, CLEAR)), (1, 1), "{log}");
    let mut gateway = world.with(ONE).await;
    assert_eq!(gateway.counts().await["entries"], Some(6), "none was thrown out");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(finds(&mut gateway, id).await, n >= 4, "{n}");
    }
    let log = gateway.end().await;
    assert_eq!((lines(&log, OTHER_KEY), lines(&log, UNSEALED)), (1, 1), "{log}");
    assert_eq!(world.disk.set_aside(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_everybody_may_read_or_that_is_none_is_refused_before_anything_opens() {
    let world = Sealed::new().await;
    let table = [
        (ONE, 0o644, "the key file is readable by everybody (mode 0644); chmod o-r"),
        ("# mine\ncanary-0071e5", 0o600, "the key file holds no key in line 2; expected a key a line"),
    ];
    for (keys, mode, wrong) in table {
        fs::write(&world.keys, keys).expect("written");
        fs::set_permissions(&world.keys, Permissions::from_mode(mode)).expect("changed");
        for command in ["serve", "check"] {
            let mut command = callgate(&[command]);
            command
                .env("TRILLET_API_KEY", "key-1")
                .env("TRILLET_WORKSPACE_ID", "ws-1")
                .env("CALLGATE__LISTEN__INTERNAL", "127.0.0.1:99999")
                .env("CALLGATE__CACHE__ENCRYPTION_KEY_FILE", &world.keys);
            let refused = run(command).await;
            let said = refused.stderr;
            assert_eq!(refused.status, Some(2), "{said}");
            let layer = "environment variable CALLGATE__CACHE__ENCRYPTION_KEY_FILE";
            assert_eq!(lines(&said, &format!("cache.encryption_key_file ({layer}): {wrong}")), 1, "{said}");
            assert_eq!(lines(&said, "listen.internal"), 1, "all at once: {said}");
            assert!(!said.contains(&ONE[..16]) && !said.contains("canary"), "{said}");
        }
    }
}
