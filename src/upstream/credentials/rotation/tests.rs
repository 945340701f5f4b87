//! Key files on a file system that does not answer: who is held up by one, and for how long.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::FutureExt as _;
use tokio::{sync::watch, time::advance};

use super::*;
use crate::upstream::credentials::{
    WorkspaceSettings,
    files::{Files, Mounted, Stamp},
    looks::MOST_AT_ONCE,
};

const ONLY: WorkspaceIndex = WorkspaceIndex(0);

/// A file system that answers when it is let: with what was so when it was asked.
#[derive(Debug, Default)]
struct Far {
    hangs: Mutex<bool>,
    /// Whether files cannot be read, though they can be looked at.
    fails: AtomicBool,
    turned: Condvar,
    /// How often files were looked at, and read.
    looks: watch::Sender<usize>,
    reads: watch::Sender<usize>,
}

#[derive(Debug)]
struct Mount(Arc<Far>);

impl Files for Mount {
    fn stamp(&self, path: &Path) -> Option<Stamp> {
        let stamp = Mounted.stamp(path);
        self.0.looks.send_modify(|looks| *looks += 1);
        let hangs = self.0.hangs.lock().expect("no panic");
        drop(self.0.turned.wait_while(hangs, |hangs| *hangs).expect("no panic"));
        stamp
    }

    fn read(&self, path: &Path, trusted_dirs: &[PathBuf]) -> Result<ApiKey, KeyFileError> {
        self.0.reads.send_modify(|reads| *reads += 1);
        let fails = self.0.fails.load(Ordering::SeqCst);
        Mounted.read(if fails { Path::new("no such file") } else { path }, trusted_dirs)
    }
}

/// Workspaces, each with its key file.
struct World {
    far: Arc<Far>,
    credentials: Arc<Credentials>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::of(1)
    }

    /// With so many workspaces, of which the first is called `main`. One file will do for all of them: it is looked at
    /// for each.
    fn of(workspaces: usize) -> Self {
        let (far, dir) = (Arc::new(Far::default()), tempfile::tempdir().expect("a directory"));
        put(dir.path(), "key-before-rotation");
        let workspace = |n| WorkspaceSettings {
            name: if n == 0 { "main".into() } else { format!("ws-{n}") },
            workspace_id: format!("ws-{n}"),
            source: KeySource::File(dir.path().join("key")),
            requests_per_minute: None,
        };
        let mount = Box::new(Mount(Arc::clone(&far)));
        let all = (0..workspaces).map(workspace).collect();
        let opened = Credentials::open_in(mount, all, Vec::new()).expect("opened");
        far.looks.send_replace(0);
        far.reads.send_replace(0);
        Self { far, credentials: Arc::new(opened), dir }
    }

    fn rotate(&self) {
        put(self.dir.path(), "key-after-rotation");
    }

    fn hang(&self, hangs: bool) {
        *self.far.hangs.lock().expect("no panic") = hangs;
        self.far.turned.notify_all();
    }

    fn looks(&self) -> usize {
        *self.far.looks.borrow()
    }

    /// Waits until so many looks have begun.
    async fn looked(&self, looks: usize) {
        self.far.looks.subscribe().wait_for(|n| *n >= looks).await.expect("a file system");
    }

    fn holds(&self, key: &str) -> bool {
        self.credentials.key(ONLY).occurs_in(key.as_bytes())
    }
}

impl Drop for World {
    /// Or the runtime would wait for its threads.
    fn drop(&mut self) {
        self.hang(false);
    }
}

/// Another file with this key takes the place of the one that is there, at once.
fn put(dir: &Path, key: &str) {
    let beside = dir.join("new");
    fs::write(&beside, key).expect("written");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::rename(&beside, dir.join("key")).expect("renamed");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_hangs_takes_one_thread_and_holds_up_nobody_for_long() {
    let world = World::new();
    world.hang(true);
    let began = Instant::now();
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let credentials = Arc::clone(&world.credentials);
            tokio::spawn(async move { credentials.refresh(ONLY).await })
        })
        .collect();
    world.looked(1).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "a clock that stands still while a file is looked at");
    advance(PATIENCE).await;
    for asking in asking {
        asking.await.expect("no panic");
    }
    assert_eq!(began.elapsed(), PATIENCE);
    assert!(world.holds("key-before-rotation"));

    // By now it is known to hang.
    let credentials = &world.credentials;
    assert!(credentials.refresh(ONLY).now_or_never().is_some());
    assert!(credentials.look_at_all(&[ONLY]).now_or_never().is_some());
    let rejected = credentials.key(ONLY);
    assert!(matches!(credentials.reread(ONLY, &rejected).now_or_never(), Some(Reread::Late)));
    assert!(credentials.missing_key_files().is_empty(), "what was last known");
    assert_eq!(world.looks(), 1);

    world.rotate();
    world.hang(false);
    world.looked(2).await;
    credentials.refresh(ONLY).await;
    assert!(world.holds("key-after-rotation"));
    assert!(world.looks() <= 3, "one for all who were not told");
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_a_look_is_under_way_is_told_of_the_next() {
    let world = World::new();
    world.hang(true);
    let mut early = Box::pin(world.credentials.refresh(ONLY));
    assert!((&mut early).now_or_never().is_none());
    world.looked(1).await;
    world.rotate();
    let mut late: Vec<_> = (0..5).map(|_| Box::pin(world.credentials.refresh(ONLY))).collect();
    assert!(late.iter_mut().all(|late| late.now_or_never().is_none()));
    world.hang(false);
    early.await;
    for late in late {
        late.await;
    }
    assert!(world.holds("key-after-rotation"), "though the look that was under way had missed it");
    assert_eq!(world.looks(), 2, "for all of them together");
}

#[tokio::test(start_paused = true)]
async fn a_file_is_looked_at_once_for_who_asks_and_read_only_where_it_has_changed_or_is_doubted() {
    let world = World::new();
    let done = || (world.looks(), *world.far.reads.borrow());
    for _ in 0..3 {
        world.credentials.refresh(ONLY).await;
    }
    assert_eq!(done(), (3, 0));
    world.credentials.look_at_all(&[]).await;
    assert_eq!(done(), (4, 0));
    world.credentials.look_at_all(&[ONLY]).await;
    assert_eq!(done(), (5, 1));
    world.rotate();
    world.credentials.refresh(ONLY).await;
    assert_eq!(done(), (6, 2));
    let held = world.credentials.key(ONLY);
    assert!(matches!(world.credentials.reread(ONLY, &held).await, Reread::Unchanged));
    assert_eq!(done(), (7, 3));
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_that_could_not_be_read_is_read_by_the_next_look() {
    let world = World::new();
    world.rotate();
    world.far.fails.store(true, Ordering::SeqCst);
    for reads in 1..=2 {
        world.credentials.refresh(ONLY).await;
        assert_eq!(*world.far.reads.borrow(), reads);
    }
    assert!(world.holds("key-before-rotation"));
    world.far.fails.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        world.credentials.refresh(ONLY).await;
        assert!(world.holds("key-after-rotation"));
    }
    assert_eq!(*world.far.reads.borrow(), 3, "a file that gave its key is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_key_file_that_has_vanished_is_told_of_when_all_are_looked_at() {
    let world = World::new();
    fs::remove_file(world.dir.path().join("key")).expect("removed");
    world.credentials.look_at_all(&[]).await;
    assert_eq!(world.credentials.missing_key_files(), ["main"]);
    world.rotate();
    world.credentials.look_at_all(&[]).await;
    assert!(world.credentials.missing_key_files().is_empty() && world.holds("key-after-rotation"));
}

#[tokio::test(start_paused = true)]
async fn more_files_than_there_are_threads_are_read_again_and_none_is_said_to_hang() {
    let world = World::of(MOST_AT_ONCE + 50);
    world.hang(true);
    let credentials = Arc::clone(&world.credentials);
    let reading = tokio::spawn(async move { credentials.read_all_again().await });
    world.looked(AT_ONCE).await;
    world.hang(false);
    let reread = reading.await.expect("no panic");
    assert_eq!(reread.len(), MOST_AT_ONCE + 50);
    assert!(reread.iter().all(|(_, reread)| matches!(reread, Reread::Unchanged)), "{reread:?}");
    world.rotate();
    let reread = world.credentials.read_all_again().await;
    assert!(reread.iter().all(|(_, reread)| matches!(reread, Reread::Changed)), "{reread:?}");
}

#[tokio::test(start_paused = true)]
async fn of_files_that_hang_the_second_round_is_spoken_of_too() {
    let world = World::of(2 * AT_ONCE);
    world.hang(true);
    let credentials = Arc::clone(&world.credentials);
    let looking = tokio::spawn(async move { credentials.look_at_all(&[]).await });
    for round in 1..=2 {
        world.looked(round * AT_ONCE).await;
        // Timers are up to a millisecond late.
        for _ in 0..=PATIENCE.as_millis() {
            advance(Duration::from_millis(1)).await;
        }
    }
    looking.await.expect("no panic");
    let now = Instant::now();
    let spoken = |workspace: &WorkspaceIndex| {
        world.credentials.file(*workspace).is_some_and(|looks| !looks.speaks(now))
    };
    assert_eq!(world.credentials.workspaces().filter(spoken).count(), 2 * AT_ONCE);
}
