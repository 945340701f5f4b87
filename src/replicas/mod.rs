//! What the replicas of one gateway share: a connection to Redis or Valkey, and whether it can be relied on.
//!
//! The only part that names the Redis client. It knows neither calls nor budgets: those who do bring their scripts and
//! the names of their keys, and read what comes back. Everything that is done there is a script, for each is one
//! step to the others and one round trip to us.
//!
//! Promised: nobody waits longer than `cache.shared.timeout` for it, and nobody at all while it is known to be gone;
//! that it is gone, and that it is back, is said once each.

mod address;
mod errands;
mod exchange;
mod heart;
mod line;
mod reason;
mod standing;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{broadcast, watch},
    task::{AbortHandle, JoinHandle},
    time::{Instant, timeout},
};

use crate::clock::{Clock, UnixMillis};
use address::Address;
use errands::Errands;
use exchange::Exchange;
use heart::{Heart, LEAVE, Tick};
use reason::Reason;

/// How long a start waits for Redis.
const START: Duration = Duration::from_millis(500);

/// As many news lie ready for one who is slow to hear them.
const NEWS: usize = 1024;

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

/// What a script returned: byte strings, numbers as their decimal digits, nil as the empty string. A single value is a
/// list of one, and nil alone an empty list.
pub type Reply = Vec<Bytes>;

/// Why there is no reply to a script. Either way it is not known whether the script ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// There was no answer in time, or nobody to give one: [`State`] says so before long, or the next answer comes.
    Silent,
    /// Redis answered, but with an error, or with what cannot be read: its rules forbid a command, its memory is full,
    /// a key is of another kind. It may say the same for as long as it is there, so there is no use in insisting.
    Refused,
}

/// Whether Redis can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Together {
        /// So many replicas, this one among them, said lately that they are there; at least 1.
        replicas: u32,
        /// Tells connections apart: where it is another than before, Redis was gone in between, even if nobody looked
        /// then, and may have come back empty.
        line: u64,
    },
    /// It does not. So many were last seen; 0 where it was never reached. Where it goes a moment after it came back, as
    /// many as were seen before, for not all may have come back with it.
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

/// The connection to Redis, kept up by a task of its own. Both end with the last who holds it.
pub struct Link {
    prefix: String,
    exchange: Arc<Exchange>,
    errands: Errands,
    errand: AbortHandle,
    heart: Mutex<Option<JoinHandle<()>>>,
    member: String,
    news: broadcast::Sender<News>,
    clock: Arc<Clock>,
    tick: Arc<Mutex<Option<Tick>>>,
}

impl Link {
    /// Connects, waits for half a second at the most until it succeeds, and goes on trying for as long as the link lives.
    /// `namespace` keeps apart the gateways that share a Redis and nothing else; `channels` are those whose news are
    /// wanted, by their bare names: a script publishes on [`Link::name`]`("channel", b"…")`.
    ///
    /// # Errors
    /// Where the settings can never work: a URL that is none, roots that cannot be read.
    pub async fn open(
        settings: &Settings,
        namespace: &str,
        channels: &'static [&'static str],
        clock: Arc<Clock>,
    ) -> io::Result<Arc<Self>> {
        let address = Address::read(settings)?;
        let member = random()?;
        let exchange = Arc::new(Exchange::new(settings.timeout));
        let (errands, waiting) = Errands::new();
        let (news, tick) = (broadcast::Sender::new(NEWS), Arc::default());
        let prefix = format!("callgate:1:{namespace}:");
        let heart = Heart {
            exchange: Arc::clone(&exchange),
            address,
            set: name(&prefix, "replicas", b""),
            member: member.clone(),
            channels: (name(&prefix, "channel", b""), channels),
            news: news.clone(),
            tick: Arc::clone(&tick),
        };
        let mut state = exchange.state.subscribe();
        let link = Self {
            prefix,
            errand: tokio::spawn(waiting.run(Arc::clone(&exchange))).abort_handle(),
            heart: Mutex::new(Some(tokio::spawn(heart.run()))),
            exchange,
            errands,
            member,
            news,
            clock,
            tick,
        };
        if timeout(START, state.changed()).await.is_err() {
            link.exchange.fall(None, &Reason::NoAnswer);
        }
        Ok(Arc::new(link))
    }

    /// The name of a key or channel: what it is, and which.
    #[must_use]
    pub fn name(&self, kind: &str, which: &[u8]) -> Vec<u8> {
        name(&self.prefix, kind, which)
    }

    /// Runs a script, and waits for its answer for `cache.shared.timeout` at the most. It may touch the keys that it is
    /// given the names of, and those whose names it makes from such a name or a prefix from [`name`](Self::name), and
    /// publish on channels of that kind; all of it lies under the prefix of this gateway. One Redis has all keys: a
    /// cluster, which would have to know them beforehand, is not supported.
    ///
    /// # Errors
    /// [`Gone::Silent`], at once where that is known; [`Gone::Refused`] where Redis answers with an error, which is
    /// logged now and then.
    pub async fn run(&self, script: &Script, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Result<Reply, Gone> {
        self.exchange.run(script, keys, arguments).await
    }

    /// Runs a script in its time, after those that were posted before (but where Redis forgot one of them and has to be
    /// told it again), and tells nobody what it said. Lost where Redis is gone, and where too many are waiting.
    pub fn post(&self, script: Script, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>>) {
        if !self.exchange.has_line() {
            return;
        }
        if !self.errands.put(script, keys, arguments) {
            let dropped = self.errands.dropped();
            self.exchange.complain(|| tracing::warn!(dropped, "redis is too slow for what is to be told it"));
        }
    }

    /// Whether Redis can be relied on, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.exchange.state.subscribe()
    }

    /// What is published from now on. News are lost while the link is down, and by who lags behind: what must not be
    /// missed is to be read again when [`State::Together`] comes back.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// What Redis's clock showed, or shows, at a time of day here: microseconds since 1970, right to within
    /// `cache.shared.timeout`. `None` until it was asked once.
    #[must_use]
    pub fn redis_micros(&self, at: UnixMillis) -> Option<i64> {
        let tick = (*self.tick.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = at.0.saturating_sub(self.clock.at(tick.here).0);
        Some(tick.there.saturating_add(since.saturating_mul(1_000)))
    }

    /// Tells the others that this replica is no longer there, and waits for what was posted; both within
    /// `cache.shared.timeout`. The link can be used on, but nobody counts it, and it does not come back where it goes.
    pub async fn leave(&self) {
        let deadline = Instant::now() + self.exchange.timeout();
        let heart = self.heart.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(heart) = heart {
            // A beat after the farewell would bring it back.
            heart.abort();
            drop(heart.await);
        }
        drop(self.exchange.run(&LEAVE, &[self.name("replicas", b"")], &[self.member.as_bytes()]).await);
        self.errands.done(deadline.saturating_duration_since(Instant::now())).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.errand.abort();
        if let Some(heart) = self.heart.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            heart.abort();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("state", &*self.exchange.state.borrow()).finish_non_exhaustive()
    }
}

fn name(prefix: &str, kind: &str, which: &[u8]) -> Vec<u8> {
    [prefix.as_bytes(), kind.as_bytes(), b":", which].concat()
}

/// A name for this replica that no other has: 128 bits in hexadecimal digits.
fn random() -> io::Result<String> {
    let mut bits = [0; 16];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut bits).map_err(|_| io::Error::other("no random numbers are to be had"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}
