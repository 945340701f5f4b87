//! The program itself as a process: its arguments and environment, what it prints, how it ends. Whatever it prints is
//! searched for keys.

use std::{
    io::Read,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::world::{KEY, WORKSPACE, within};
use crate::canary;

/// `callgate` with these arguments and nothing of this process's environment.
pub(crate) fn callgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// With the key of the tests, before this vendor, on ports of the system's choice.
pub(crate) fn serving(vendor: SocketAddr) -> Command {
    let mut command = callgate(&["serve"]);
    command
        .env("TRILLET_API_KEY", KEY)
        .env("TRILLET_WORKSPACE_ID", WORKSPACE)
        .env("TRILLET_API_BASE_URL", format!("http://{vendor}/v2"))
        .env("CALLGATE__LISTEN__INTERNAL", "127.0.0.1:0")
        .env("CALLGATE__LISTEN__ADMIN", "127.0.0.1:0")
        .env("CALLGATE__LOG__FORMAT", "json");
    command
}

/// What a command that ends by itself left behind.
pub(crate) struct Outcome {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command) -> Outcome {
    let output = tokio::task::spawn_blocking(move || command.output().expect("run"));
    let output = searched(within(output).await.expect("no panic"));
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// What a command has printed, once it was looked through.
fn searched(output: Output) -> Output {
    canary::search("standard output", &output.stdout);
    canary::search("standard error", &output.stderr);
    output
}

/// A command that runs; killed when dropped.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        Self(Some(command.spawn().expect("started")))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.0.as_ref().expect("it runs"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signalled");
    }

    /// What it writes to standard error, for who reads that itself.
    pub(crate) fn stderr(&mut self) -> ChildStderr {
        self.0.as_mut().and_then(|child| child.stderr.take()).expect("standard error")
    }

    /// Waits for its end: how it ended, and what it wrote that nobody has read.
    pub(crate) async fn ended(mut self) -> Output {
        let child = self.0.take().expect("it runs");
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().expect("its end"));
        searched(within(output).await.expect("no panic"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a process has said on standard error, which is searched in the end.
struct Said(watch::Receiver<String>);

impl Drop for Said {
    fn drop(&mut self) {
        if !thread::panicking() {
            canary::search("the log", self.0.borrow().as_str());
        }
    }
}

/// A gateway in a process of its own; killed when dropped.
pub(crate) struct Process {
    child: Running,
    stderr: Said,
    reader: JoinHandle<()>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    /// Starts it, and waits until it listens.
    pub(crate) async fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null());
        Self::start_as_is(command).await
    }

    /// The same with its own standard output.
    pub(crate) async fn start_as_is(command: Command) -> Self {
        let mut child = Running::start(command);
        let mut pipe = child.stderr();
        let (said, mut stderr) = watch::channel(String::new());
        let reader = thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                said.send_modify(|text| text.push_str(&String::from_utf8_lossy(&buffer[..read])));
            }
        });
        let (address, admin) = {
            let both =
                |text: &String| address(text, "internal").is_some() && address(text, "admin").is_some();
            let text = within(stderr.wait_for(both)).await.expect("it lives");
            (address(&text, "internal").expect("an address"), address(&text, "admin").expect("an address"))
        };
        Self { child, stderr: Said(stderr), reader, address, admin }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.child.pid()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits until it has said this.
    pub(crate) async fn says(&mut self, words: &str) {
        within(self.stderr.0.wait_for(|text| text.contains(words))).await.expect("it lives");
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.stderr.0.borrow().clone()
    }

    /// Waits for its end: how it ended, and all that it said.
    pub(crate) async fn ended(self) -> (ExitStatus, String) {
        let (status, log) = self.over().await;
        assert_eq!(status.signal(), None);
        (status, log)
    }

    /// The same for one that may have been killed.
    pub(crate) async fn over(self) -> (ExitStatus, String) {
        let status = self.child.ended().await.status;
        let reader = tokio::task::spawn_blocking(move || self.reader.join().expect("no panic"));
        within(reader).await.expect("no panic");
        (status, self.stderr.0.borrow().clone())
    }
}

/// The address in the line that says where an endpoint listens.
pub(crate) fn address(log: &str, endpoint: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains(&format!("{endpoint} endpoint listening")))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let found = [&line["address"], &line["fields"]["address"]].into_iter().find_map(|v| v.as_str())?;
    found.parse().ok()
}
