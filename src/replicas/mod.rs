//! What the replicas of one gateway share: a connection to Redis or Valkey, and whether it can be relied on.
//!
//! The only part that names the Redis client. It knows neither calls nor budgets: those who do bring their scripts and
//! the names of their keys, and read what comes back. Everything that is done there is a script, for each is one
//! step to the others and one round trip to us.
//!
//! Promised: nobody waits longer than `cache.shared.timeout` for it, and nobody at all while it is known to be gone;
//! that it is gone, and that it is back, is said once each.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

/// Where Redis is, and how long to wait for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `cache.shared.url`: may hold a password, so this type has no derived `Debug`.
    pub url: String,
    /// `cache.shared.timeout`
    pub timeout: Duration,
    /// Extra trust roots for `rediss:`, PEM: `upstream.ca_file`.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A script in Redis's Lua. It returns a list of strings and numbers, and nothing nested.
#[derive(Clone, Copy, Debug)]
pub struct Script(&'static str);

impl Script {
    /// A script by its text.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }
}

/// What a script returned: byte strings, numbers as their decimal digits.
pub type Reply = Vec<Bytes>;

/// There was no answer in time, or nobody to give one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Whether Redis can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers. So many replicas, this one among them, said lately that they are there; at least 1.
    Together(u32),
    /// It does not. So many were last seen; 0 where it was never reached.
    Alone(u32),
}

/// What was published to all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The channel, without the prefix of [`Link::name`].
    pub channel: String,
    /// What was said.
    pub payload: Bytes,
}

/// The connection to Redis, kept up by a task of its own.
pub struct Link {
    prefix: String,
    state: watch::Sender<State>,
    news: broadcast::Sender<News>,
}

impl Link {
    /// Connects, waits a moment for that, and goes on trying for as long as the link lives. `namespace` keeps apart the
    /// gateways that share a Redis and nothing else; `channels` are those whose news are wanted.
    ///
    /// # Errors
    /// Where the settings can never work: a URL that is none, roots that cannot be read.
    pub async fn open(
        settings: &Settings,
        namespace: &str,
        channels: &'static [&'static str],
    ) -> std::io::Result<Arc<Self>> {
        let _ = (settings, channels);
        Ok(Arc::new(Self {
            prefix: format!("callgate:1:{namespace}:"),
            state: watch::Sender::new(State::Alone(0)),
            news: broadcast::Sender::new(64),
        }))
    }

    /// The name of a key or channel: what it is, and which.
    #[must_use]
    pub fn name(&self, kind: &str, which: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), kind.as_bytes(), b":", which].concat()
    }

    /// Runs a script, and waits for its answer for `cache.shared.timeout` at the most.
    ///
    /// # Errors
    /// [`Gone`], at once where that is known. Whether the script ran is not known then.
    pub async fn run(&self, script: &Script, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Result<Reply, Gone> {
        let _ = (script.0, keys, arguments);
        Err(Gone)
    }

    /// Runs a script in its time, after those that were posted before, and tells nobody what it said. Lost where Redis
    /// is gone.
    pub fn post(&self, script: Script, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>>) {
        let _ = (script.0, keys, arguments);
    }

    /// Whether Redis can be relied on, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// What is published from now on. News are lost while the link is down, and by who lags behind: what must not be
    /// missed is to be read again when [`State::Together`] comes back.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}
