//! A directory with a file of kept calls, a vendor that counts, and gateways that come and go between the two.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    canary,
    gateway::{
        program::{Process, serving},
        records::settled,
        vendor::{Play, Seen, Vendor, ok},
        world::{Answer, Caller, request, within},
    },
};

/// The world of a disk. What the gateways have written is searched for keys in the end.
pub(crate) struct Disk {
    directory: TempDir,
    pub(crate) vendor: Vendor,
}

impl Disk {
    /// Before a vendor that says of each call that it ended long ago.
    pub(crate) async fn new() -> Self {
        Self::before(|seen| Play::Send(ok(settled(seen.id())))).await
    }

    pub(crate) async fn before(script: impl Fn(&Seen) -> Play + Send + Sync + 'static) -> Self {
        Self { directory: tempfile::tempdir().expect("a directory"), vendor: Vendor::start(script).await }
    }

    /// The directory that is the world's own.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file, in a directory that the gateway makes.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("state").join("calls")
    }

    /// The file with the requests of the last minute.
    pub(crate) fn departures(&self) -> PathBuf {
        self.file().with_extension("departures")
    }

    /// What else lies beside the file.
    pub(crate) fn set_aside(&self) -> Vec<PathBuf> {
        let entries = self.file().parent().expect("a directory").read_dir().expect("readable");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let known = [self.file(), self.departures()];
        paths.filter(|path| !known.contains(path)).collect()
    }

    /// Starts a gateway on the file.
    pub(crate) async fn start(&self) -> Gateway {
        self.start_with(&self.file(), &[]).await
    }

    /// Starts a gateway on this file, with these variables as well.
    pub(crate) async fn start_with(&self, file: &Path, more: &[(&str, &str)]) -> Gateway {
        let mut command = serving(self.vendor.address);
        command
            .env("CALLGATE__CACHE__DISK__PATH", file)
            .env("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "1000000")
            .env("CALLGATE__LISTEN__MAX_REQUESTS", "1000000")
            .envs(more.iter().copied());
        Gateway::start(command).await
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let written = self.file();
        if let Some(written) = written.parent().filter(|_| !std::thread::panicking()) {
            canary::search_below(written);
        }
    }
}

/// A gateway in a process of its own, and a connection to each of its endpoints. Dropped, it is killed.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    caller: Caller,
    admin: Caller,
}

impl Gateway {
    /// Starts it, and connects to it once it listens.
    pub(crate) async fn start(command: Command) -> Self {
        let process = Process::start(command).await;
        let (caller, admin) = (Caller::connect(process.address).await, Caller::connect(process.admin).await);
        Self { process, caller, admin }
    }

    pub(crate) async fn get(&mut self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.caller.send(request("GET", target, fields)).await;
        let answer = self.caller.answer().await;
        answer.keeps_the_promises();
        answer
    }

    pub(crate) async fn call(&mut self, id: &str) -> Answer {
        self.get(&format!("/calls/{id}"), &[]).await
    }

    /// Looks a call up that is to come from the disk.
    pub(crate) async fn finds_on_disk(&mut self, id: &str) {
        let answer = self.call(id).await;
        assert_eq!((answer.status, answer.text()), (200, settled(id)));
        let status = answer.cache();
        assert!(status.starts_with("callgate; hit; ttl=25"), "{status}");
        assert!(status.ends_with("; detail=disk"), "{status}");
    }

    /// Looks a call up that is to be fetched and kept.
    pub(crate) async fn fetches(&mut self, id: &str) {
        let answer = self.call(id).await;
        assert_eq!((answer.status, answer.cache()), (200, "callgate; fwd=uri-miss; fwd-status=200; stored"));
    }

    /// Asks the operators' endpoint.
    pub(crate) async fn operate(&mut self, method: &str, target: &str) -> Answer {
        self.admin.send(request(method, target, &[])).await;
        let answer = self.admin.answer().await;
        answer.keeps_the_promises();
        answer
    }

    /// What is counted of the disk: the samples without their names.
    pub(crate) async fn counts(&mut self) -> BTreeMap<&'static str, Option<u64>> {
        self.admin.send(request("GET", "/metrics", &[])).await;
        let text = self.admin.answer().await.text();
        let sample = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().parse().expect("a number"))
        };
        BTreeMap::from([
            ("entries", sample("callgate_cache_entries{tier=\"disk\"}")),
            ("bytes", sample("callgate_cache_bytes{tier=\"disk\"}")),
            ("evicted", sample("callgate_cache_evictions_total{reason=\"size\"}")),
        ])
    }

    /// Waits until so many calls are on disk, where a crash cannot reach them.
    pub(crate) async fn holds(&mut self, calls: u64) {
        let held = async { while self.counts().await["entries"] != Some(calls) {} };
        within(held).await;
    }

    /// Ends it without warning.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Ends it in order; what it said.
    pub(crate) async fn end(self) -> String {
        let Self { process, caller, admin } = self;
        drop((caller, admin));
        process.signal(rustix::process::Signal::TERM);
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }
}

/// The bits that say who may do what.
pub(crate) fn mode(path: &Path) -> u32 {
    path.metadata().expect("there").permissions().mode() & 0o7777
}

/// How many lines hold these words.
pub(crate) fn lines(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}
