//! Little room: a limit of memory as a container has it, a user without rights, a file system that is read-only.
//!
//! What the system does not let a test set up is left out, and said.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use rustix::process::{Signal, geteuid};

use crate::{
    disk::world::{Disk, Gateway},
    gateway::{
        program::serving,
        records::{id, record},
        vendor::{Play, Vendor, answer, ok},
    },
};

/// `callgate serve` before this vendor, by way of a shell that does something first; it finds the program as `$0` and
/// `argument` as `$1`.
fn by_way_of(first: &str, argument: &Path, vendor: &Vendor) -> Command {
    let usual = serving(vendor.address);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", first, env!("CARGO_BIN_EXE_callgate")])
        .arg(argument)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A control group of its own, removed when dropped.
struct Limited(PathBuf);

impl Limited {
    /// Of so many bytes, where the system lets us have one.
    fn to(bytes: u64) -> Option<Self> {
        let name = format!("callgate-test-{}", std::process::id());
        for (root, limit) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let group = Path::new(root).join(&name);
            if geteuid().is_root() && fs::create_dir(&group).is_ok() {
                let group = Self(group);
                if group.0.join(limit).exists() && fs::write(group.0.join(limit), bytes.to_string()).is_ok() {
                    // Where there is swap it must not help.
                    let _ = fs::write(group.0.join("memory.swap.max"), "0");
                    return Some(group);
                }
            }
        }
        println!("left out: no limit of memory may be set here");
        None
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // It is empty once those in it have ended, which takes a moment to be known.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_memory_is_kept_whatever_the_vendor_sends() {
    let Some(limited) = Limited::to(96 << 20) else { return };
    let (bomb, deep) = (gzip(&vec![0; 128 << 20]), "[".repeat(1 << 20));
    let long = "words ".repeat(80_000);
    let vendor = Vendor::start(move |seen| {
        let json = "content-type: application/json\r\n";
        match seen.number % 5 {
            0 => Play::Send(answer("200 OK", &format!("{json}content-encoding: gzip\r\n"), &bomb)),
            1 => Play::Send(ok(&deep)),
            2 => Play::ThenClose(format!("HTTP/1.1 200 OK\r\n{json}\r\n{}", long.repeat(9)).into()),
            _ => Play::Send(ok(record(
                seen.id(),
                "completed",
                &format!(r#","endTime":1680000300,"transcript":"{long}""#),
            ))),
        }
    })
    .await;
    let mut command = by_way_of("echo $$ >\"$1/cgroup.procs\" && exec \"$0\" serve", &limited.0, &vendor);
    command
        .env("CALLGATE__CACHE__CAPACITY", "24MiB")
        .env("CALLGATE__UPSTREAM__MAX_BODY", "2MiB")
        .env("CALLGATE__LOOKUP__FAILURE_TTL", "0s")
        .env("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "1000000");
    let mut gateway = Gateway::start(command).await;
    let mut kept = 0;
    // Several times of what is kept, some 480 KB each.
    for n in 0..200 {
        let answer = gateway.call(&id(n)).await;
        match answer.status {
            200 => kept += usize::from(answer.cache().ends_with("; stored")),
            502 => assert_eq!(answer.problem().1, "upstream_too_large", "{n}"),
            other => panic!("{n}: {other}"),
        }
    }
    assert_eq!(kept, 80);
    let last = gateway.call(&id(198)).await;
    assert!(last.cache().starts_with("callgate; hit"), "{last:?}");
    gateway.end().await;
    drop(limited);
}

/// Whether a user without rights can start the program where it lies.
fn anybody_can_start_it() -> bool {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|file| file.mode() & 0o001 != 0);
    geteuid().is_root() && Path::new(env!("CARGO_BIN_EXE_callgate")).ancestors().all(open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_on_a_file_system_that_is_read_only_is_enough() {
    let confined = "exec unshare --mount /bin/sh -c 'mount -o remount,bind,ro / && \
                    exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
                    --bounding-set=-all \"$0\" serve' \"$0\"";
    let allowed = Command::new("unshare")
        .args(["--mount", "/bin/sh", "-c", "mount -o remount,bind,ro /"])
        .status()
        .is_ok_and(|status| status.success());
    if !allowed || !anybody_can_start_it() {
        println!("left out: no other view of the file system, or no other user, may be had here");
        return;
    }
    let disk = Disk::new().await;
    let nothing = Path::new("");
    let mut gateway = Gateway::start(by_way_of(confined, nothing, &disk.vendor)).await;
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process.pid())).expect("it runs");
    for line in ["Uid:\t65534\t65534", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", gateway.process.pid())).expect("it runs");
    assert!(mounts.lines().any(|line| line.contains(" / ") && line.contains(" ro,")), "{mounts}");
    gateway.fetches(&id(1)).await;
    assert!(gateway.call(&id(1)).await.cache().starts_with("callgate; hit"));
    assert_eq!(gateway.operate("GET", "/readyz").await.text(), "ready\n");
    gateway.process.signal(Signal::HUP);
    gateway.process.says("reloaded").await;
    let log = gateway.end().await;
    assert!(log.contains("ended in order"), "{log}");

    // Where calls are to be kept on disk, and cannot be, that is said, and the rest goes on.
    let mut command = by_way_of(confined, nothing, &disk.vendor);
    command.env("CALLGATE__CACHE__DISK__PATH", "/var/lib/callgate-test-none/calls");
    let mut gateway = Gateway::start(command).await;
    gateway.fetches(&id(2)).await;
    let log = gateway.end().await;
    assert!(log.contains("calls are not kept on disk"), "{log}");
}
