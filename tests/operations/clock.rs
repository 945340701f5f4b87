//! A wall clock that is set a day ahead and a day back, while the gateway runs and between its runs: what is kept stays
//! as old as it is, what may still change is not taken for settled, and the budget is no larger for it.
//!
//! The clock of the machine is left alone: a library that is loaded before all others stands between the gateway and the
//! system, and adds to the time of day what a file says.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    disk::world::{Disk, Gateway},
    gateway::{
        program::serving,
        records::{ended, id, settled},
        vendor::{Play, Seen, Vendor, answer},
        world::ID,
    },
};

const DAY: i64 = 86_400;

/// What stands between.
const SHIFTING: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
    shift = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += *shift;
    return result;
}
"#;

/// A clock of the gateway's own.
struct Shifted {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Shifted {
    /// One that is right so far, if there is a compiler to be had.
    fn new(dir: &Path) -> Option<Self> {
        if !crate::tools::is_here("cc") {
            return None;
        }
        let (source, library, path) = (dir.join("clock.c"), dir.join("clock.so"), dir.join("shift"));
        fs::write(&source, SHIFTING).expect("written");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        assert!(cc.status().expect("run").success());
        let file = OpenOptions::new().create_new(true).write(true).open(&path).expect("made");
        let clock = Self { library, path, file };
        clock.set(0);
        Some(clock)
    }

    /// Sets it so many seconds off.
    fn set(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).expect("written");
    }

    fn variables(&self) -> [(&str, &str); 2] {
        let [library, path] = [&self.library, &self.path].map(|path| path.to_str().expect("text"));
        [("LD_PRELOAD", library), ("CLOCK_SHIFT", path)]
    }
}

/// A vendor whose clock is right, and one of whose calls ended long ago: the others, a minute ago.
fn telling(seen: &Seen) -> Play {
    let now = httpdate::fmt_http_date(jiff::Timestamp::now().into());
    let body = if seen.id() == ID { settled(ID) } else { ended(seen.id(), 60) };
    Play::Send(answer("200 OK", &format!("content-type: application/json\r\ndate: {now}\r\n"), body))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_while_it_runs_ages_nothing_settles_nothing_and_spends_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(clock) = Shifted::new(dir.path()) else { return };
    let vendor = Vendor::start(telling).await;
    let mut command = serving(vendor.address);
    command
        .envs(clock.variables())
        .env("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "6")
        .env("CALLGATE__BUDGET__QUEUE_TIMEOUT", "0s");
    let mut gateway = Gateway::start(command).await;
    gateway.fetches(ID).await;
    for (n, days) in [1, 0, -1, 1, -400].into_iter().enumerate() {
        clock.set(days * DAY);
        let kept = gateway.call(ID).await;
        assert!(kept.cache().starts_with("callgate; hit; ttl=25"), "{days}: {kept:?}");
        assert!(kept.number("age") < 60, "{days}: {kept:?}");
        assert!(kept.one("cache-control").ends_with("immutable"), "{days}: {kept:?}");
        let young = gateway.call(&id(n)).await;
        assert_eq!(young.one("cache-control"), "private, max-age=15", "{days}: {young:?}");
    }
    for days in [0, 1, -1] {
        clock.set(days * DAY);
        let limited = gateway.call(&id(100)).await;
        assert_eq!(limited.problem(), (429, "rate_limit_exceeded".into()), "{days}");
        assert!((30..=60).contains(&limited.number("retry-after")), "{days}: {limited:?}");
    }
    assert_eq!(vendor.requests(), 6);
    clock.set(0);
    let log = gateway.end().await;
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_between_two_runs_loses_no_call_and_adds_nothing_to_the_budget() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(clock) = Shifted::new(dir.path()) else { return };
    let disk = Disk::before(telling).await;
    let [preload, shift] = clock.variables();
    let settings = [
        preload,
        shift,
        ("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "2"),
        ("CALLGATE__BUDGET__RESERVE", "0"),
        ("CALLGATE__BUDGET__QUEUE_TIMEOUT", "0s"),
    ];
    let mut gateway = disk.start_with(&disk.file(), &settings).await;
    gateway.fetches(ID).await;
    gateway.holds(1).await;
    assert_eq!(gateway.call(&id(1)).await.status, 200);
    gateway.kill();
    for days in [-1, -400] {
        clock.set(days * DAY);
        let mut gateway = disk.start_with(&disk.file(), &settings).await;
        let kept = gateway.call(ID).await;
        assert_eq!((kept.status, kept.text()), (200, settled(ID)), "{days}");
        assert!(kept.cache().ends_with("; detail=disk"), "{days}: {kept:?}");
        // It knows when the last minute's requests left, and that they cannot have left in the future.
        assert_eq!(gateway.call(&id(2)).await.problem(), (429, "rate_limit_exceeded".into()), "{days}");
        gateway.kill();
    }
    assert_eq!(disk.vendor.requests(), 2);
    // A day ahead it is a day older, and what left a day ago leaves room.
    clock.set(DAY);
    let mut gateway = disk.start_with(&disk.file(), &settings).await;
    let kept = gateway.call(ID).await;
    assert!(kept.cache().starts_with("callgate; hit; ttl=250") && kept.number("age") >= 86_400, "{kept:?}");
    assert_eq!(gateway.call(&id(2)).await.status, 200);
    gateway.end().await;
}
