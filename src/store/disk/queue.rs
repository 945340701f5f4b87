//! What is still to be written, between the answers and the thread that writes: the last word on each key, bounded.
//!
//! Nobody who answers a caller ever waits here. Writes that find no room are dropped and counted: the call is fetched
//! again some day. Removals always find room, since a call that was to be forgotten must not come back; each is a key
//! and no body. They come no faster than the vendor's answers, or, where others erased many calls at once, so many at a
//! time that are waited for ([`Disk::remove_all`](super::Disk::remove_all)). What waits, and what is being written, can
//! be asked for, so that the file may lag behind without anybody's noticing.
//!
//! A [`Sweep`] removes all that begins alike, whatever there is of it. What waits is swept at once; of what is being
//! written and what is in the file nothing is to be found from then on, and the thread that writes takes it out next,
//! before what has come since. It is done once all that was handed over before it is in the file, too.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::sweep::{Prefixes, Sweep, Swept};
use crate::store::stored::Stored;

/// The keys beyond which no more writes are taken.
const MOST: usize = 8_192;

/// The keys beyond which nothing is taken: removals alone come this far, while the disk stands still.
const TOO_MANY: usize = 8 * MOST;

/// The most bytes of bodies that may wait; as much again may be on its way into the file.
const MOST_BYTES: usize = 32 << 20;

/// How long the first change waits for others to share its transaction: little of the second that a crash may cost, for
/// the disk may need the rest.
const WINDOW: Duration = Duration::from_millis(100);

/// How often drops are told.
const TOLD: Duration = Duration::from_secs(60);

/// The last word on a key.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// To be written.
    Write(Arc<Stored>),
    /// To be forgotten.
    Remove,
    /// Its use is to be noted.
    Touch,
}

/// What is known of a key without a look into the file.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// This is about to be written.
    Kept(Arc<Stored>),
    /// It is about to be forgotten.
    Gone,
}

/// What became of a change that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is written in time, or was dropped without harm.
    Taken,
    /// Nothing is written any more.
    Closed,
    /// So much waits that the disk must be given up.
    Overrun,
}

/// Changes by key.
pub(super) type Batch = HashMap<Vec<u8>, Change>;

/// What the thread that writes is to do next: the sweeps, then the changes.
pub(super) struct Work {
    pub(super) sweeps: Vec<Sweep>,
    pub(super) changes: Arc<Batch>,
}

/// What was dropped because the file was given up.
pub(super) struct Abandoned {
    /// Whether there was anything to be forgotten.
    pub(super) removals: bool,
    /// Whoever waits for these is not to hear of it before the file is dealt with.
    _sweeps: Vec<Sweep>,
}

/// What is to be written.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    /// Older than all that waits.
    sweeps: Vec<Sweep>,
    waiting: Batch,
    bytes: usize,
    /// Older than all that is being written.
    sweeping: Vec<Prefixes>,
    writing: Arc<Batch>,
    closed: bool,
    dropped: u64,
    told: Option<Instant>,
}

impl Queue {
    /// Puts a change in the place of what waits for its key.
    pub(super) fn push(&self, key: Vec<u8>, change: Change) -> Pushed {
        let mut state = self.lock();
        if state.closed {
            return Pushed::Closed;
        }
        if state.waiting.len() >= TOO_MANY {
            return Pushed::Overrun;
        }
        let room = state.waiting.len() < MOST && state.bytes < MOST_BYTES;
        let (change, told) = match change {
            Change::Touch if !room || state.waiting.contains_key(&key) => return Pushed::Taken,
            // What is older may not be written in its place, nor stay in the file.
            Change::Write(_) if !room => (Change::Remove, state.drop_one()),
            change @ (Change::Write(_) | Change::Remove | Change::Touch) => (change, None),
        };
        state.put(key, change);
        let ring = state.waiting.len() == 1 || state.is_half_full();
        drop(state);
        if ring {
            self.bell.notify_one();
        }
        if let Some(dropped) = told {
            tracing::warn!(dropped, "the disk does not keep up: calls are not kept on it");
        }
        Pushed::Taken
    }

    /// Sweeps all that begins so. What there was comes once it is out of the file for good; nothing comes if the file is
    /// given up before. `None` where nothing is written any more.
    pub(super) fn sweep(&self, prefixes: Prefixes) -> Option<oneshot::Receiver<Swept>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let (mut sweep, swept) = Sweep::new(prefixes);
        let State { waiting, bytes, .. } = &mut *state;
        waiting.retain(|key, change| {
            let swept = sweep.is_about(key);
            if swept {
                *bytes -= weight(change);
                sweep.takes_over(key, change);
            }
            !swept
        });
        state.sweeps.push(sweep);
        drop(state);
        self.bell.notify_one();
        Some(swept)
    }

    /// What is known of a key beside the file.
    pub(super) fn peek(&self, key: &[u8]) -> Option<Pending> {
        self.lock().known(key)
    }

    /// What is about to be written under keys that begin so.
    pub(super) fn kept_under(&self, prefixes: &Prefixes) -> Vec<(Vec<u8>, Arc<Stored>)> {
        let state = self.lock();
        let keys =
            state.waiting.keys().chain(state.writing.keys().filter(|key| !state.waiting.contains_key(*key)));
        let about = keys.filter(|key| prefixes.are_about(key));
        let kept = about.filter_map(|key| match state.known(key)? {
            Pending::Kept(stored) => Some((key.clone(), stored)),
            Pending::Gone => None,
        });
        kept.collect()
    }

    /// Waits for changes, and a little longer for others to go with them; sweeps are not kept waiting. Nothing to do
    /// comes after `idle` without any, `None` once it is closed and all is taken. Blocks: for the thread that writes.
    pub(super) fn take(&self, idle: Duration) -> Option<Work> {
        let state = self.lock();
        let quiet = |state: &mut State| state.is_empty() && !state.closed;
        let (state, _) =
            self.bell.wait_timeout_while(state, idle, quiet).unwrap_or_else(PoisonError::into_inner);
        if state.is_empty() && !state.closed {
            return Some(Work { sweeps: Vec::new(), changes: Arc::default() });
        }
        let open = |state: &mut State| !state.closed && !state.is_half_full() && state.sweeps.is_empty();
        let (mut state, _) =
            self.bell.wait_timeout_while(state, WINDOW, open).unwrap_or_else(PoisonError::into_inner);
        if state.is_empty() && state.closed {
            return None;
        }
        let sweeps = std::mem::take(&mut state.sweeps);
        state.sweeping = sweeps.iter().map(Sweep::prefixes).collect();
        state.writing = Arc::new(std::mem::take(&mut state.waiting));
        state.bytes = 0;
        Some(Work { sweeps, changes: Arc::clone(&state.writing) })
    }

    /// What was taken last is in the file, or out of it.
    pub(super) fn written(&self) {
        let mut state = self.lock();
        state.writing = Arc::default();
        state.sweeping = Vec::new();
    }

    /// Takes no more changes. What waits is still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
    }

    /// Takes no more changes, and drops what waits.
    pub(super) fn abandon(&self) -> Abandoned {
        let mut state = self.lock();
        state.closed = true;
        let (waiting, writing) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.writing));
        let (sweeps, sweeping) = (std::mem::take(&mut state.sweeps), std::mem::take(&mut state.sweeping));
        drop(state);
        self.bell.notify_all();
        let mut changes = waiting.values().chain(writing.values());
        let removals = changes.any(|change| matches!(change, Change::Remove));
        Abandoned { removals: removals || !(sweeps.is_empty() && sweeping.is_empty()), _sweeps: sweeps }
    }

    /// Nothing that is done under the lock can panic half way, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sweeps.is_empty()
    }

    /// The last word on a key: from the latest to the earliest.
    fn known(&self, key: &[u8]) -> Option<Pending> {
        let told = |batch: &Batch| match batch.get(key)? {
            Change::Write(stored) => Some(Pending::Kept(Arc::clone(stored))),
            Change::Remove => Some(Pending::Gone),
            Change::Touch => None,
        };
        let swept = |swept: bool| swept.then_some(Pending::Gone);
        told(&self.waiting)
            .or_else(|| swept(self.sweeps.iter().any(|sweep| sweep.is_about(key))))
            .or_else(|| told(&self.writing))
            .or_else(|| swept(self.sweeping.iter().any(|prefixes| prefixes.are_about(key))))
    }

    fn is_half_full(&self) -> bool {
        self.waiting.len() >= MOST / 2 || self.bytes >= MOST_BYTES / 2
    }

    fn put(&mut self, key: Vec<u8>, change: Change) {
        self.bytes += weight(&change);
        if let Some(replaced) = self.waiting.insert(key, change) {
            self.bytes -= weight(&replaced);
        }
    }

    /// Counts a write that is dropped: how many they are by now, where it is time to say so.
    fn drop_one(&mut self) -> Option<u64> {
        self.dropped += 1;
        let now = Instant::now();
        let silent = self.told.is_some_and(|told| now.saturating_duration_since(told) < TOLD);
        if silent {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.dropped))
    }
}

fn weight(change: &Change) -> usize {
    match change {
        Change::Write(stored) => stored.body.len(),
        Change::Remove | Change::Touch => 0,
    }
}

#[cfg(test)]
mod tests;
