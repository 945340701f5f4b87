//! Erasure reaches everyone: what was to be forgotten is said to all replicas, and stays written down for those that
//! were cut off or not started then.
//!
//! A tombstone is the workspace and id of what was erased, and when, by Redis's clock. It is kept for as long as any
//! copy may live (`lookup.final_ttl`). Each replica reads those that are new to it whenever it is told, on its return
//! and from time to time, and forgets what it was given before; what it fetched afterwards stays.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::timeout,
};

use super::{ERASED, Shared, digits, member, scripts};
use crate::{
    call::{CallId, WorkspaceIndex},
    clock::UnixMillis,
    replicas::{Gone, State},
    store::{Erasure, namespace::digest},
};

/// How often a replica looks by itself.
const LOOK: Duration = Duration::from_secs(10);

/// How many are read at a time.
const PAGE: usize = 500;

/// The most that are held in memory, to be put back into a Redis that lost them.
const MOST: usize = 100_000;

/// What is allowed for between the clocks, beyond what is known of their difference.
const MARGIN: Duration = Duration::from_secs(1);

/// Something was erased, and what was given before is to be forgotten here too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What.
    pub erasure: Erasure,
    /// What was given later is another matter.
    pub before: UnixMillis,
    /// When, in microseconds of Redis's clock.
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
    stones: BTreeMap<Vec<u8>, u64>,
    /// What could not be said to the others yet.
    unsaid: Vec<Erasure>,
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
            let mut known = self.stones.lock();
            if !known.unsaid.contains(erasure) {
                known.unsaid.push(erasure.clone());
            }
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
        let id_bytes = id.map(CallId::as_str).unwrap_or_default().as_bytes();
        let buried = member(workspace, id_bytes);
        let keys = [self.name("tombstones", b""), self.name("channel", ERASED.as_bytes())];
        let kept_for = super::lease::ms(self.stones.kept_for);
        // First, so that nothing is put back in between.
        self.again(&scripts::BURY, &keys, &[&buried, &kept_for]).await?;
        let [index, bytes] = ["index", "bytes"].map(|kind| self.name(kind, workspace.as_bytes()));
        let erase = async |id: &CallId, gone: &mut HashSet<u128>| {
            let id_bytes = id.as_str().as_bytes();
            let keys = [self.name("call", &member(workspace, id_bytes)), index.clone(), bytes.clone()];
            let fields = self.again(&scripts::ERASE, &keys, &[id_bytes]).await?;
            let keys = fields.iter().filter_map(|field| super::key_of(place, id, field));
            gone.extend(keys.filter_map(|key| self.namespace.key(&key)).map(|key| digest(&key)));
            Ok(())
        };
        if let Some(id) = id {
            return erase(id, gone).await;
        }
        loop {
            let ids = self.again(&scripts::SOME, std::slice::from_ref(&index), &[b"200"]).await?;
            if ids.is_empty() {
                return Ok(());
            }
            for id in ids {
                match CallId::parse(&id) {
                    Some(id) => erase(&id, gone).await?,
                    // Not ours.
                    None => drop(
                        self.again(&scripts::ERASE, &[id.to_vec(), index.clone(), bytes.clone()], &[&id])
                            .await?,
                    ),
                }
            }
        }
    }

    /// Runs a script that may be run again, as often as it takes while Redis is there: an answer that is a little late
    /// is no reason to leave an erasure undone.
    async fn again(
        &self,
        script: &crate::replicas::Script,
        keys: &[Vec<u8>],
        arguments: &[&[u8]],
    ) -> Result<crate::replicas::Reply, Gone> {
        loop {
            match self.link.run(script, keys, arguments).await {
                Ok(reply) => return Ok(reply),
                Err(Gone) if self.is_there() => tokio::task::yield_now().await,
                Err(Gone) => return Err(Gone),
            }
        }
    }

    /// What was erased since this was asked last, oldest first.
    ///
    /// # Errors
    /// Where Redis is gone.
    pub(in crate::store) async fn told(&self) -> Result<Vec<Told>, Gone> {
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
                Err(Gone) if !told.is_empty() => return Ok(told),
                Err(Gone) => return Err(Gone),
            };
            let (stones, _) = reply.as_chunks();
            for [member, at] in stones {
                let at = digits(at);
                told.extend(self.read_stone(member, at));
                let mut known = self.stones.lock();
                known.last = known.last.max(at);
                if known.stones.len() < MOST {
                    known.stones.insert(member.to_vec(), at);
                }
            }
            if stones.len() < PAGE {
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
        let now = self.clock.now();
        let ahead = self.link.redis_micros(now)? / 1_000 - now.0;
        let erased = i64::try_from(at / 1_000).ok()?;
        Some(Told { erasure, before: UnixMillis(erased - ahead).plus(MARGIN), at })
    }

    /// Says what could not be said while Redis was gone, and puts back what a Redis that came back empty should know.
    async fn speak(&self) -> Result<(), Gone> {
        let unsaid = std::mem::take(&mut self.stones.lock().unsaid);
        for (place, erasure) in unsaid.iter().enumerate() {
            if let Err(gone) = self.erase_now(erasure).await {
                self.stones.lock().unsaid.extend_from_slice(&unsaid[place..]);
                return Err(gone);
            }
            tracing::info!("an erasure that was made while redis was gone has reached it");
        }
        Ok(())
    }

    async fn put_back(&self) -> Result<(), Gone> {
        let stones: Vec<_> = self.stones.lock().stones.clone().into_iter().collect();
        let kept_for = super::lease::ms(self.stones.kept_for);
        for page in stones.chunks(PAGE) {
            let times: Vec<_> = page.iter().map(|(_, at)| at.to_string()).collect();
            let pairs = page.iter().zip(&times).flat_map(|((member, _), at)| [&member[..], at.as_bytes()]);
            let arguments: Vec<&[u8]> = std::iter::once(&kept_for[..]).chain(pairs).collect();
            let keys = [self.name("tombstones", b""), self.name("channel", ERASED.as_bytes())];
            self.link.run(&scripts::RECALL, &keys, &arguments).await?;
        }
        Ok(())
    }

    /// Follows what is erased elsewhere, for as long as somebody wants to be told, and keeps Redis tidy.
    pub(in crate::store) fn follow(self: &Arc<Self>) -> mpsc::Receiver<Vec<Told>> {
        let (tell, told) = mpsc::channel(1);
        tokio::spawn(Arc::clone(self).follow_on(tell));
        told
    }

    async fn follow_on(self: Arc<Self>, tell: mpsc::Sender<Vec<Told>>) {
        let (mut news, mut state) = (self.link.news(), self.link.state());
        let mut was_there = false;
        while !tell.is_closed() {
            let there = matches!(*state.borrow_and_update(), State::Together(_));
            let back = there && !was_there;
            was_there = there;
            if there {
                // Where it is gone in the middle of it, it is done when it is back.
                if let Ok(told) = self.told().await
                    && !told.is_empty()
                    && tell.send(told).await.is_err()
                {
                    return;
                }
                if back {
                    let _ = self.put_back().await;
                }
                let _ = self.sweep().await;
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
