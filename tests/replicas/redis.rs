//! A Redis of a test's own: started on a free port or a socket, paused, stopped, started anew, and looked into.
//!
//! It keeps nothing on disk, so that it is empty each time it starts, and ends with its owner.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

/// Whether there is a `redis-server` here. Says so where there is none.
pub(crate) fn available() -> bool {
    crate::tools::is_here("redis-server")
}

/// A port that nobody listens on, outside those that the system hands out by itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 120) as u16 * 100;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running Redis, or one that was stopped.
pub(crate) struct Redis {
    directory: TempDir,
    /// None: on a socket.
    port: Option<u16>,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// On a port of the loopback.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with these arguments as well.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        for _ in 0..20 {
            let mut redis = Self::new(Some(free_port()), arguments);
            if redis.launch() {
                return redis;
            }
        }
        panic!("redis-server does not start with {arguments:?}");
    }

    /// On a Unix socket.
    pub(crate) fn on_socket() -> Self {
        let mut redis = Self::new(None, &[]);
        assert!(redis.launch(), "redis-server does not start on a socket");
        redis
    }

    fn new(port: Option<u16>, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { directory, port, arguments, child: None }
    }

    /// Starts it and waits until it listens. False where it ended instead.
    fn launch(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(self.directory.path());
        command.arg("--port").arg(self.port.unwrap_or(0).to_string());
        match self.port {
            Some(_) => command.args(["--bind", "127.0.0.1"]),
            None => command.arg("--unixsocket").arg(self.socket()),
        };
        command.args(&self.arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("redis-server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let ready =
            lines.by_ref().map_while(Result::ok).any(|line| line.contains("eady to accept connections"));
        // What it says later is read, so that it does not wait for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        if !ready {
            drop(child.wait());
            return false;
        }
        self.child = Some(child);
        true
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// Where it is, without user and password.
    pub(crate) fn url(&self) -> String {
        self.url_as("")
    }

    /// Where it is, with `user:password` or `:password`, percent-encoded. On a port only.
    pub(crate) fn url_as(&self, login: &str) -> String {
        let at = if login.is_empty() { "" } else { "@" };
        match self.port {
            Some(port) => format!("redis://{login}{at}127.0.0.1:{port}"),
            None => format!("unix://{}", self.socket().display()),
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Halts it: connections stay, and nobody answers.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("halted");
        waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("it says that it is");
    }

    /// Lets it go on where it was.
    pub(crate) fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).expect("continued");
    }

    /// Ends it, as a crash would.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts it anew in the same place, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.stop();
        assert!(self.launch(), "redis-server does not start again");
    }

    /// The same, with other arguments.
    pub(crate) fn restart_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.restart();
    }

    /// Asks it something, as an operator: the answer's items, one a line.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        self.try_command(words, Duration::from_secs(5)).expect("an answer")
    }

    /// The same of one that may be gone or halted: it has this long for it.
    pub(crate) fn try_command(&self, words: &[&str], patience: Duration) -> ::redis::RedisResult<String> {
        let password = self.arguments.iter().skip_while(|argument| *argument != "--requirepass").nth(1);
        let url = self.url_as(&password.map(|password| format!(":{password}")).unwrap_or_default());
        let client = ::redis::Client::open(url)?;
        let mut connection = client.get_connection_with_timeout(patience)?;
        connection.set_read_timeout(Some(patience))?;
        let mut command = ::redis::Cmd::new();
        command.arg(words);
        command.query(&mut connection).map(|answer| text(&answer))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the client's; what a test asks for is among these")]
fn text(value: &::redis::Value) -> String {
    match value {
        ::redis::Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join("\n"),
        ::redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ::redis::Value::SimpleString(text) => text.clone(),
        ::redis::Value::Int(number) => number.to_string(),
        ::redis::Value::Nil => String::new(),
        ::redis::Value::Okay => "OK".into(),
        other => panic!("not read: {other:?}"),
    }
}
