//! Erasure reaches everyone: what was to be forgotten is said to all replicas, and stays written down for those that
//! were cut off or not started then.
//!
//! A tombstone is the workspace and id of what was erased, and when, by Redis's clock. It is kept for as long as any
//! copy may live (`lookup.final_ttl` and `lookup.stale_if_error`). Each replica reads those that are new to it whenever it
//! is told, on its return and from time to time, and forgets what it was given before; what it fetched afterwards stays.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{ERASED, Shared, digits, member, scripts};
use crate::{
    call::{CacheKey, CallId, WorkspaceIndex},
    clock::UnixMillis,
    replicas::{Gone, Reply, Script},
    store::{Erasure, Spans, namespace::digest},
};

/// How many are read at a time.
pub(super) const PAGE: usize = 500;

/// How long an erasure is tried while Redis is there and does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long before it is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// The most that are held in memory, to be put back into a Redis that lost them.
const MOST: usize = 100_000;

/// What is allowed for between the clocks, beyond what is known of their difference.
const MARGIN: Duration = Duration::from_secs(1);

/// Something was erased, and what was given before is to be forgotten here too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What.
    pub erasure: Erasure,
    /// When, in microseconds of Redis's clock. What was given later is another matter.
    pub at: u64,
}

/// What is known of erasures.
pub(super) struct Tombstones {
    spans: Arc<ArcSwap<Spans>>,
    state: Mutex<Known>,
}

#[derive(Default)]
pub(super) struct Known {
    /// The time of the last one that was read, in microseconds of Redis's clock.
    pub(super) last: u64,
    pub(super) stones: BTreeMap<Vec<u8>, Stone>,
    /// What could not be said to the others yet, and when it was to be forgotten here.
    pub(super) unsaid: HashMap<Erasure, Instant>,
    /// The connection over which Redis was reached last, and whether it has been told all of them since.
    pub(super) line: Option<u64>,
    pub(super) restored: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Stone {
    /// As Redis has it.
    pub(super) at: u64,
    /// What was given up to then is to be forgotten.
    since: u64,
}

impl Tombstones {
    pub(super) fn new(spans: Arc<ArcSwap<Spans>>) -> Self {
        Self { spans, state: Mutex::default() }
    }

    /// For how long they are kept.
    pub(super) fn kept_for(&self) -> Duration {
        self.spans.load().longest
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// What was erased up to then is known, and was forgotten, before this process began.
    pub(in crate::store) fn knows_until(&self, last: u64) {
        self.stones.lock().last = last;
    }

    /// Forgets this in Redis, and tells every replica. What there was, by the digests of the keys.
    ///
    /// # Errors
    /// Where Redis is gone: it is done when it comes back, if this process lives until then.
    pub(in crate::store) async fn erase(&self, erasure: &Erasure) -> Result<HashSet<u128>, Gone> {
        let erased = self.erase_now(erasure, PATIENCE).await;
        if erased.is_err() {
            self.stones.lock().unsaid.insert(erasure.clone(), Instant::now());
        }
        erased
    }

    pub(super) async fn erase_now(
        &self,
        erasure: &Erasure,
        patience: Duration,
    ) -> Result<HashSet<u128>, Gone> {
        let (one, id) = match erasure {
            Erasure::Call(workspace, id) => (*workspace, Some(id)),
            Erasure::All(workspace) => (*workspace, None),
        };
        let mut gone = HashSet::new();
        for (place, workspace) in self.namespace.selected(one) {
            self.erase_in((place, workspace), id, &mut gone, patience).await?;
        }
        Ok(gone)
    }

    async fn erase_in(
        &self,
        (place, workspace): (WorkspaceIndex, &str),
        id: Option<&CallId>,
        gone: &mut HashSet<u128>,
        patience: Duration,
    ) -> Result<(), Gone> {
        let buried = member(workspace, id.map(CallId::as_str).unwrap_or_default().as_bytes());
        let [tombstones, channel] = [self.name("tombstones", b""), self.name("channel", ERASED.as_bytes())];
        let kept_for = super::lease::ms(self.stones.kept_for());
        if let Some(id) = id {
            let [call, index, bytes] = self.of_call(workspace, id.as_str().as_bytes());
            let keys = [tombstones, channel, call, index, bytes];
            let arguments: [&[u8]; 3] = [&buried, &kept_for, id.as_str().as_bytes()];
            let reply = self.again(patience, &scripts::BURY_CALL, &keys, &arguments).await?;
            if let [at, fields @ ..] = &reply[..] {
                self.learn(&buried, digits(at));
                self.count_gone(place, id, fields, gone);
            }
            return Ok(());
        }
        // First, so that nothing is put back in between, or read by who knows of it.
        let at = self.again(patience, &scripts::BURY, &[tombstones, channel], &[&buried, &kept_for]).await?;
        self.learn(&buried, at.first().map(|at| digits(at)).unwrap_or_default());
        self.erase_all((place, workspace), gone, patience).await
    }

    /// Forgets all calls of a workspace in Redis.
    pub(super) async fn erase_all(
        &self,
        (place, workspace): (WorkspaceIndex, &str),
        gone: &mut HashSet<u128>,
        patience: Duration,
    ) -> Result<(), Gone> {
        let index = [self.name("index", workspace.as_bytes())];
        loop {
            let ids = self.again(patience, &scripts::SOME, &index, &[b"200"]).await?;
            if ids.is_empty() {
                return Ok(());
            }
            for raw in ids {
                let fields =
                    self.again(patience, &scripts::ERASE, &self.of_call(workspace, &raw), &[&raw]).await?;
                if let Some(id) = CallId::parse(&raw) {
                    self.count_gone(place, &id, &fields, gone);
                }
            }
        }
    }

    pub(super) fn of_call(&self, workspace: &str, id: &[u8]) -> [Vec<u8>; 3] {
        let [index, bytes] = ["index", "bytes"].map(|kind| self.name(kind, workspace.as_bytes()));
        [self.name("call", &member(workspace, id)), index, bytes]
    }

    fn count_gone(&self, place: WorkspaceIndex, id: &CallId, fields: &[Bytes], gone: &mut HashSet<u128>) {
        let keys = fields.iter().filter_map(|field| super::key_of(place, id, field));
        gone.extend(keys.filter_map(|key| self.namespace.key(&key)).map(|key| digest(&key)));
    }

    /// Whether an erasure that is known here came after what was given for this key then.
    pub(in crate::store) fn forbids(&self, key: &CacheKey, given: Instant) -> bool {
        let known = self.stones.lock();
        if known.unsaid_since(key).is_some_and(|at| given <= at) {
            return true;
        }
        let (Some(workspace), Some(given)) = (self.namespace.name(key.workspace), self.redis_micros(given))
        else {
            return false;
        };
        let given = u64::try_from(given).unwrap_or_default();
        let since = |member: &[u8]| known.stones.get(member).is_some_and(|stone| stone.since >= given);
        let all = member(workspace, b"");
        match key.call_id() {
            Some(id) => since(&all) || since(&member(workspace, id.as_str().as_bytes())),
            // A list may hold any of them.
            None => {
                let mut own =
                    known.stones.range(all.clone()..).take_while(|(stone, _)| stone.starts_with(&all));
                own.any(|(_, stone)| stone.since >= given)
            }
        }
    }

    /// Learns of a tombstone. One from the future was written by a clock that was ahead, and forbids what was given up to
    /// now.
    fn learn(&self, member: &[u8], at: u64) {
        let now = self.redis_micros(Instant::now()).and_then(|now| u64::try_from(now).ok());
        let since = now.map_or(at, |now| at.min(now));
        let stones = &mut self.stones.lock().stones;
        if stones.len() < MOST || stones.contains_key(member) {
            let known = stones.entry(member.to_vec()).or_default();
            *known = Stone { at: at.max(known.at), since: since.max(known.since) };
        }
    }

    /// Runs a script that may be run again, as often as it takes while Redis is there: an answer that is a little late
    /// is no reason to leave an erasure undone. Once where there is no patience.
    pub(super) async fn again(
        &self,
        patience: Duration,
        script: &Script,
        keys: &[Vec<u8>],
        arguments: &[&[u8]],
    ) -> Result<Reply, Gone> {
        let latest = Instant::now() + patience;
        loop {
            match self.link.run(script, keys, arguments).await {
                Ok(reply) => return Ok(reply),
                Err(Gone::Silent) if self.is_there() && Instant::now() < latest => sleep(AGAIN).await,
                Err(gone) => return Err(gone),
            }
        }
    }

    /// What was erased since this was asked last, oldest first.
    ///
    /// # Errors
    /// Where Redis is gone.
    pub(in crate::store) async fn told(&self) -> Result<Vec<Told>, Gone> {
        let tombstones = [self.name("tombstones", b"")];
        let mut told = Vec::new();
        loop {
            let last = self.stones.lock().last;
            let (last, page) = (last.to_string(), PAGE.to_string());
            let arguments = [last.as_bytes(), page.as_bytes()];
            let reply = match self.link.run(&scripts::SINCE, &tombstones, &arguments).await {
                Ok(reply) => reply,
                // The rest comes when it is asked for the next time.
                Err(_) if !told.is_empty() => return Ok(told),
                Err(gone) => return Err(gone),
            };
            let Some((beyond, stones)) = reply.split_first() else { return Ok(told) };
            let (stones, _) = stones.as_chunks();
            let before = if beyond.is_empty() { self.stones.lock().last } else { 0 };
            let mut newest = before;
            for [member, at] in stones {
                let at = digits(at);
                told.extend(self.read_stone(member, at));
                newest = newest.max(at);
                self.learn(member, at);
            }
            self.stones.lock().last = newest;
            if stones.len() < PAGE || newest == before {
                return Ok(told);
            }
        }
    }

    pub(super) fn read_stone(&self, member: &[u8], at: u64) -> Option<Told> {
        let split = memchr::memchr(0, member)?;
        let (workspace, id) = (&member[..split], &member[split + 1..]);
        let workspace = Some(self.namespace.index(workspace)?);
        let erasure = if id.is_empty() {
            Erasure::All(workspace)
        } else {
            Erasure::Call(workspace, CallId::parse(id)?)
        };
        Some(Told { erasure, at })
    }

    /// The time of day here at which something was erased, and what is allowed for between the clocks.
    pub(in crate::store) fn time_of(&self, told: &Told) -> Option<UnixMillis> {
        let now = self.clock.now();
        let ahead = self.link.redis_micros(now)? / 1_000 - now.0;
        let erased = i64::try_from(told.at / 1_000).ok()?;
        Some(UnixMillis(erased - ahead).plus(MARGIN))
    }
}

impl Known {
    /// Redis is reached by this connection. Behind another it may be another, or have forgotten.
    pub(super) fn reached_by(&mut self, line: Option<u64>) {
        self.restored &= self.line == line;
        self.line = line;
    }

    /// When the last erasure was made that is about this key and could not be said yet.
    fn unsaid_since(&self, key: &CacheKey) -> Option<Instant> {
        if self.unsaid.is_empty() {
            return None;
        }
        let workspace = Some(key.workspace);
        let Some(id) = key.call_id() else {
            return self.unsaid.iter().filter(|(unsaid, _)| unsaid.matches(key)).map(|(_, at)| *at).max();
        };
        let about = [
            Erasure::All(None),
            Erasure::All(workspace),
            Erasure::Call(None, id.clone()),
            Erasure::Call(workspace, id.clone()),
        ];
        about.iter().filter_map(|erasure| self.unsaid.get(erasure)).max().copied()
    }
}
