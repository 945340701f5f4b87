//! Erasure reaches everyone: what was to be forgotten is said to all replicas, and stays written down for those that
//! were cut off or not started then.
//!
//! A tombstone is the workspace and id of what was erased, and when, by Redis's clock. It is kept for as long as any
//! copy may live (`lookup.final_ttl`). Each replica reads those that are new to it whenever it is told, on its return
//! and from time to time, and forgets what it was given before; what it fetched afterwards stays.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, sleep, timeout},
};

use super::{ERASED, Shared, digits, member, scripts};
use crate::{
    call::{CacheKey, CallId, WorkspaceIndex},
    clock::UnixMillis,
    replicas::{Gone, Reply, Script, State},
    store::{Erasure, namespace::digest},
};

/// How often a replica looks by itself.
const LOOK: Duration = Duration::from_secs(10);

/// How many are read at a time.
const PAGE: usize = 500;

/// How long an erasure is tried while Redis is there and does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

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
    kept_for: Duration,
    state: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The time of the last one that was read, in microseconds of Redis's clock.
    last: u64,
    stones: BTreeMap<Vec<u8>, Stone>,
    /// What could not be said to the others yet, and when it was to be forgotten here.
    unsaid: HashMap<Erasure, Instant>,
    /// The connection over which Redis was reached last, and whether it has been told all of them since.
    line: Option<u64>,
    restored: bool,
}

#[derive(Clone, Copy, Default)]
struct Stone {
    /// As Redis has it.
    at: u64,
    /// What was given up to then is to be forgotten.
    since: u64,
}

impl Tombstones {
    pub(super) fn new(kept_for: Duration) -> Self {
        Self { kept_for, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
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
        let erased = self.erase_now(erasure).await;
        if erased.is_err() {
            self.stones.lock().unsaid.insert(erasure.clone(), Instant::now());
        }
        erased
    }

    async fn erase_now(&self, erasure: &Erasure) -> Result<HashSet<u128>, Gone> {
        let (one, id) = match erasure {
            Erasure::Call(workspace, id) => (*workspace, Some(id)),
            Erasure::All(workspace) => (*workspace, None),
        };
        let mut gone = HashSet::new();
        for place in 0..u16::try_from(self.namespace.workspaces.len()).unwrap_or(u16::MAX) {
            if one.is_none_or(|one| one.0 == place) {
                self.erase_in(WorkspaceIndex(place), id, &mut gone).await?;
            }
        }
        Ok(gone)
    }

    async fn erase_in(
        &self,
        place: WorkspaceIndex,
        id: Option<&CallId>,
        gone: &mut HashSet<u128>,
    ) -> Result<(), Gone> {
        let workspace = self.namespace.workspaces[usize::from(place.0)].as_str();
        let buried = member(workspace, id.map(CallId::as_str).unwrap_or_default().as_bytes());
        let [tombstones, channel] = [self.name("tombstones", b""), self.name("channel", ERASED.as_bytes())];
        let kept_for = super::lease::ms(self.stones.kept_for);
        if let Some(id) = id {
            let [call, index, bytes] = self.of_call(workspace, id.as_str().as_bytes());
            let keys = [tombstones, channel, call, index, bytes];
            let arguments: [&[u8]; 3] = [&buried, &kept_for, id.as_str().as_bytes()];
            let reply = self.again(&scripts::BURY_CALL, &keys, &arguments).await?;
            if let [at, fields @ ..] = &reply[..] {
                self.learn(&buried, digits(at));
                self.count_gone(place, id, fields, gone);
            }
            return Ok(());
        }
        // First, so that nothing is put back in between, or read by who knows of it.
        let at = self.again(&scripts::BURY, &[tombstones, channel], &[&buried, &kept_for]).await?;
        self.learn(&buried, at.first().map(|at| digits(at)).unwrap_or_default());
        self.erase_all(place, gone).await
    }

    /// Forgets all calls of a workspace in Redis.
    async fn erase_all(&self, place: WorkspaceIndex, gone: &mut HashSet<u128>) -> Result<(), Gone> {
        let workspace = self.namespace.workspaces[usize::from(place.0)].as_str();
        let index = [self.name("index", workspace.as_bytes())];
        loop {
            let ids = self.again(&scripts::SOME, &index, &[b"200"]).await?;
            if ids.is_empty() {
                return Ok(());
            }
            for raw in ids {
                let fields = self.again(&scripts::ERASE, &self.of_call(workspace, &raw), &[&raw]).await?;
                if let Some(id) = CallId::parse(&raw) {
                    self.count_gone(place, &id, &fields, gone);
                }
            }
        }
    }

    fn of_call(&self, workspace: &str, id: &[u8]) -> [Vec<u8>; 3] {
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
        let (Some(workspace), Some(given)) =
            (self.namespace.workspaces.get(usize::from(key.workspace.0)), self.redis_micros(given))
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
    /// is no reason to leave an erasure undone. Not where Redis answers that it will not.
    async fn again(&self, script: &Script, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Result<Reply, Gone> {
        let patience = Instant::now() + PATIENCE;
        loop {
            match self.link.run(script, keys, arguments).await {
                Ok(reply) => return Ok(reply),
                Err(Gone::Silent) if self.is_there() && Instant::now() < patience => sleep(AGAIN).await,
                Err(gone) => return Err(gone),
            }
        }
    }

    /// What was erased since this was asked last, oldest first.
    ///
    /// # Errors
    /// Where Redis is gone.
    pub(in crate::store) async fn told(&self) -> Result<Vec<Told>, Gone> {
        if !self.stones.lock().restored {
            self.put_back().await?;
            self.stones.lock().restored = true;
        }
        self.speak().await?;
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

    fn read_stone(&self, member: &[u8], at: u64) -> Option<Told> {
        let split = memchr::memchr(0, member)?;
        let (workspace, id) = (&member[..split], &member[split + 1..]);
        let mut workspaces = self.namespace.workspaces.iter();
        let place = workspaces.position(|own| own.as_bytes() == workspace)?;
        let workspace = Some(WorkspaceIndex(u16::try_from(place).ok()?));
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

    /// Says what could not be said while Redis was gone.
    async fn speak(&self) -> Result<(), Gone> {
        loop {
            let next = self.stones.lock().unsaid.iter().next().map(|(erasure, at)| (erasure.clone(), *at));
            let Some((erasure, at)) = next else { return Ok(()) };
            self.erase_now(&erasure).await?;
            // Not before: it forbids until the others know. One that was said again meanwhile stays.
            self.stones.lock().unsaid.retain(|unsaid, since| *unsaid != erasure || *since != at);
            tracing::info!("an erasure that was made while redis was gone has reached it");
        }
    }

    /// Puts back what a Redis that came back without it, or with an older state, should know, and forgets what that state
    /// had brought back.
    async fn put_back(&self) -> Result<(), Gone> {
        let stones: Vec<_> = self.stones.lock().stones.clone().into_iter().collect();
        let kept_for = super::lease::ms(self.stones.kept_for);
        let keys = [self.name("tombstones", b""), self.name("channel", ERASED.as_bytes())];
        for page in stones.chunks(PAGE) {
            let times: Vec<_> = page.iter().map(|(_, stone)| stone.at.to_string()).collect();
            let pairs = page.iter().zip(&times).flat_map(|((member, _), at)| [&member[..], at.as_bytes()]);
            let arguments: Vec<&[u8]> = std::iter::once(&kept_for[..]).chain(pairs).collect();
            for lost in self.again(&scripts::RECALL, &keys, &arguments).await? {
                match self.read_stone(&lost, 0).map(|told| told.erasure) {
                    Some(Erasure::Call(Some(place), id)) => {
                        let workspace = self.namespace.workspaces[usize::from(place.0)].as_str();
                        let id = id.as_str().as_bytes();
                        self.again(&scripts::ERASE, &self.of_call(workspace, id), &[id]).await?;
                    }
                    Some(Erasure::All(Some(place))) => self.erase_all(place, &mut HashSet::new()).await?,
                    Some(Erasure::Call(None, _) | Erasure::All(None)) | None => {}
                }
            }
        }
        Ok(())
    }

    /// Follows what is erased elsewhere, for as long as somebody wants to be told, and keeps Redis tidy.
    pub(in crate::store) fn follow(self: &Arc<Self>) -> mpsc::Receiver<Vec<Told>> {
        let (tell, told) = mpsc::channel(1);
        let over = tell.clone();
        tokio::spawn(Arc::clone(self).keep_tidy(async move { over.closed().await }));
        tokio::spawn(Arc::clone(self).follow_on(tell));
        told
    }

    async fn follow_on(self: Arc<Self>, tell: mpsc::Sender<Vec<Told>>) {
        let (mut news, mut state) = (self.link.news(), self.link.state());
        while !tell.is_closed() {
            let line = match *state.borrow_and_update() {
                State::Together { line, .. } => Some(line),
                State::Alone(_) => None,
            };
            self.stones.lock().reached_by(line);
            if line.is_some()
                && let Ok(told) = self.told().await
                && !told.is_empty()
                && tell.send(told).await.is_err()
            {
                return;
            }
            let erased = async {
                loop {
                    match news.recv().await {
                        Ok(said) if said.channel == ERASED => return,
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                _ = timeout(LOOK, erased) => {}
                changed = state.changed() => if changed.is_err() { return },
                () = tell.closed() => return,
            }
        }
    }
}

impl Known {
    /// Redis is reached by this connection. Behind another it may be another, or have forgotten.
    fn reached_by(&mut self, line: Option<u64>) {
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
