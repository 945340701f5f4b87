//! An end with much under way, and starts that come to nothing for the sake of a key file.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::Signal,
};

use crate::gateway::{
    program::{Process, run, serving},
    records::{id, settled},
    vendor::{Play, Vendor, ok},
    world::{Caller, KEY, request},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sigterm_with_fifty_slow_lookups_under_way_cuts_none_of_them() {
    const CALLERS: usize = 50;
    let vendor = Vendor::start(|seen| Play::Held(ok(settled(seen.id())))).await;
    let mut command = serving(vendor.address);
    command
        .env("CALLGATE__UPSTREAM__MAX_CONCURRENCY", "50")
        .env("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "1000");
    let mut process = Process::start(command).await;
    let mut callers = Vec::new();
    for n in 0..CALLERS {
        let mut caller = Caller::connect(process.address).await;
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        callers.push(caller);
    }
    vendor.arrived(CALLERS).await;
    process.signal(Signal::TERM);
    process.says("closed to new connections").await;
    vendor.release();
    for (n, mut caller) in callers.into_iter().enumerate() {
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.text()), (200, settled(&id(n))));
        assert_eq!(answer.one("connection"), "close");
        assert_eq!(caller.rest().await, "", "nothing follows");
    }
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("ended in order"), "{log}");
    assert_eq!(vendor.requests(), CALLERS, "and none is asked twice");
}

#[tokio::test]
async fn a_key_file_that_is_none_ends_the_start_at_once_and_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        path
    };
    // One that somebody could write to keeps nobody waiting either.
    let pipe = dir.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    let table = [
        (file("open", KEY, 0o644), "is readable by everybody"),
        (file("empty", "", 0o600), "is empty"),
        (file("blank", "\r\n", 0o600), "is empty"),
        (file("two lines", &format!("{KEY}\r\nx-evil: 1"), 0o600), "holds no key"),
        (file("bare cr", &format!("{KEY}\rmore"), 0o600), "holds no key"),
        (file("nul", &format!("{KEY}\0"), 0o600), "holds no key"),
        (file("endless", &KEY.repeat(1_000), 0o600), "is over 8 KiB"),
        (dir.path().to_owned(), "is a directory"),
        (pipe, "is not a regular file"),
        ("/dev/zero".into(), "is not a regular file"),
        (dir.path().join("none"), "does not exist"),
    ];
    for (path, why) in table {
        let mut command = serving(([127, 0, 0, 1], 9).into());
        command.env_remove("TRILLET_API_KEY").env("TRILLET_API_KEY_FILE", &path);
        let refused = run(command).await;
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""), "{path:?}: {}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "{path:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(why), "{path:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("TRILLET_API_KEY_FILE"), "{path:?}: {}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_crash_nor_the_command_line_shows_the_key() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = serving(vendor.address);
    command.current_dir(dir.path());
    let process = Process::start(command).await;
    let mut caller = Caller::connect(process.address).await;
    caller.send(request("GET", &format!("/calls/{}", id(0)), &[])).await;
    assert_eq!(caller.answer().await.status, 200);
    // Everybody may read these.
    for name in ["cmdline", "comm", "status", "stat"] {
        let path = format!("/proc/{}/{name}", process.pid());
        crate::canary::search(&path, fs::read(Path::new(&path)).expect("it runs"));
    }
    process.signal(Signal::ABORT);
    let (status, _) = process.over().await;
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
    let left: Vec<_> = fs::read_dir(dir.path()).expect("there").collect();
    assert!(left.is_empty(), "{left:?}");
}
