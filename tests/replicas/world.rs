//! A link, what is waited for of it, and what was logged meanwhile.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use callgate::{
    clock::Clock,
    replicas::{Gone, Link, Script, Settings, State},
};
use tokio::time::timeout;
use tracing::subscriber::DefaultGuard;

/// Long enough for anything here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A limit of a call that only a Redis that hangs will meet.
pub(crate) const AMPLE: Duration = Duration::from_secs(2);

/// Long enough for an answer, and short enough to wait for three times.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// The channels of the tests.
pub(crate) const CHANNELS: &[&str] = &["erased", "noted"];

pub(crate) fn settings(url: &str, timeout: Duration) -> Settings {
    Settings { url: url.to_owned(), timeout, ca_file: None }
}

/// Opens a link in the namespace `test`.
pub(crate) async fn open(url: &str, timeout: Duration) -> Arc<Link> {
    open_with(&settings(url, timeout), "test").await
}

pub(crate) async fn open_with(settings: &Settings, namespace: &str) -> Arc<Link> {
    let clock = Arc::new(Clock::system());
    Link::open(settings, namespace, CHANNELS, clock).await.expect("settings that may work")
}

/// Waits until the state is one of these.
pub(crate) async fn becomes(link: &Link, these: impl Fn(State) -> bool) -> State {
    let mut states = link.state();
    let became = timeout(PATIENCE, states.wait_for(|state| these(*state))).await;
    *became.expect("in time").expect("the link is there")
}

pub(crate) async fn together(link: &Link) {
    becomes(link, |state| matches!(state, State::Together { .. })).await;
}

pub(crate) async fn alone(link: &Link) {
    becomes(link, |state| matches!(state, State::Alone(_))).await;
}

/// A future that ends, or the test fails.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

pub(crate) async fn run(
    link: &Link,
    script: &'static str,
    keys: &[Vec<u8>],
    arguments: &[&[u8]],
) -> Result<Vec<Bytes>, Gone> {
    link.run(&Script::new(script), keys, arguments).await
}

/// Says back what it is told.
pub(crate) async fn echo(link: &Link, word: &str) -> Result<Vec<Bytes>, Gone> {
    run(link, "return {ARGV[1]}", &[], &[word.as_bytes()]).await
}

/// What is said once of a Redis that is gone, for this reason.
pub(crate) fn gone(reason: &str) -> String {
    format!("redis is gone: this gateway works on alone reason={reason}")
}

/// All that is logged on this thread, where a test's tasks run too.
pub(crate) struct Log {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let _ = crate::canary::Line.write(buffer);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Begins to listen, to everything.
    pub(crate) fn listen() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.0.lock().expect("not poisoned")).into_owned()
    }

    /// What was said of comings and goings, without level and target.
    pub(crate) fn said(&self) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("DEBUG"));
        lines.filter_map(|line| line.find("redis is ").map(|at| line[at..].to_owned())).collect()
    }
}
