//! What is still to be written, between the answers and the thread that writes: the last word on each key, bounded.
//!
//! Nobody who answers a caller ever waits here. Writes that find no room are dropped and counted: the call is fetched
//! again some day. Removals always find room, since a call that was to be forgotten must not come back; each is a key
//! and no body, and they come no faster than the vendor's answers. What waits, and what is being written, can be asked
//! for, so that the file may lag behind without anybody's noticing.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::store::stored::Stored;

/// The keys beyond which no more writes are taken.
const MOST: usize = 8_192;

/// The keys beyond which nothing is taken: removals alone come this far, while the disk stands still.
const TOO_MANY: usize = 8 * MOST;

/// The most bytes of bodies that may wait; as much again may be on its way into the file.
const MOST_BYTES: usize = 32 << 20;

/// How long the first change waits for others to share its transaction: half of what a crash may cost is for this, the
/// other half for the disk.
const WINDOW: Duration = Duration::from_millis(250);

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

/// What is to be written.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Batch,
    bytes: usize,
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

    /// What is known of a key beside the file.
    pub(super) fn peek(&self, key: &[u8]) -> Option<Pending> {
        let state = self.lock();
        let known = |batch: &Batch| match batch.get(key)? {
            Change::Write(stored) => Some(Pending::Kept(Arc::clone(stored))),
            Change::Remove => Some(Pending::Gone),
            Change::Touch => None,
        };
        known(&state.waiting).or_else(|| known(&state.writing))
    }

    /// Waits for changes, and a little longer for others to go with them. An empty batch comes after `idle` without
    /// any, `None` once it is closed and all is taken. Blocks: for the thread that writes.
    pub(super) fn take(&self, idle: Duration) -> Option<Arc<Batch>> {
        let state = self.lock();
        let quiet = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let (state, _) =
            self.bell.wait_timeout_while(state, idle, quiet).unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() && !state.closed {
            return Some(Arc::default());
        }
        let open = |state: &mut State| !state.closed && !state.is_half_full();
        let (mut state, _) =
            self.bell.wait_timeout_while(state, WINDOW, open).unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() && state.closed {
            return None;
        }
        state.writing = Arc::new(std::mem::take(&mut state.waiting));
        state.bytes = 0;
        Some(Arc::clone(&state.writing))
    }

    /// What was taken last is in the file.
    pub(super) fn written(&self) {
        self.lock().writing = Arc::default();
    }

    /// Takes no more changes. What waits is still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
    }

    /// Takes no more changes, and drops what waits: whether a removal was among them.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.lock();
        state.closed = true;
        let (waiting, writing) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.writing));
        drop(state);
        self.bell.notify_all();
        waiting.values().chain(writing.values()).any(|change| matches!(change, Change::Remove))
    }

    /// Nothing that is done under the lock can panic half way, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_half_full(&self) -> bool {
        self.waiting.len() >= MOST / 2 || self.bytes >= MOST_BYTES / 2
    }

    fn put(&mut self, key: Vec<u8>, change: Change) {
        let weight = |change: &Change| match change {
            Change::Write(stored) => stored.body.len(),
            Change::Remove | Change::Touch => 0,
        };
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::outcome::Class;

    fn write(length: usize) -> Change {
        let now = Instant::now();
        Change::Write(Arc::new(Stored {
            status: StatusCode::OK,
            class: Class::Final,
            body: Bytes::from(vec![b'x'; length]),
            content_type: None,
            last_modified: None,
            retry_after: None,
            etag: None,
            updated: None,
            started: None,
            first_final: now,
            fetched: now,
            lifetime: Duration::from_secs(1),
        }))
    }

    fn known(queue: &Queue, key: &[u8]) -> Option<usize> {
        match queue.peek(key)? {
            Pending::Kept(stored) => Some(stored.body.len()),
            Pending::Gone => Some(0),
        }
    }

    fn key(n: usize) -> Vec<u8> {
        n.to_be_bytes().to_vec()
    }

    #[test]
    fn the_last_word_on_a_key_is_known_until_it_is_written() {
        let queue = Queue::default();
        queue.push(key(1), write(7));
        queue.push(key(1), Change::Touch);
        assert_eq!(known(&queue, &key(1)), Some(7), "a use takes nothing's place");
        queue.push(key(1), write(8));
        assert_eq!(queue.take(Duration::ZERO).expect("a batch").len(), 1);
        assert_eq!(known(&queue, &key(1)), Some(8), "while it is being written");
        queue.push(key(1), Change::Remove);
        assert_eq!(known(&queue, &key(1)), Some(0), "what waits is later than what is being written");
        queue.written();
        assert_eq!(queue.take(Duration::ZERO).expect("a batch").len(), 1);
        queue.written();
        assert_eq!(known(&queue, &key(1)), None);
    }

    #[test]
    fn writes_find_no_room_in_a_full_queue_and_removals_do() {
        let queue = Queue::default();
        for n in 0..MOST {
            assert_eq!(queue.push(key(n), write(1)), Pushed::Taken);
        }
        queue.push(key(MOST), write(1));
        assert_eq!(known(&queue, &key(MOST)), Some(0), "what may be in the file is not to be found either");
        queue.push(key(1), Change::Remove);
        assert_eq!(known(&queue, &key(1)), Some(0));
        let state = queue.lock();
        assert!(state.told.is_some() && state.dropped == 0, "one drop, which was told");
        drop(state);
        for n in MOST..TOO_MANY {
            queue.push(key(n), Change::Remove);
        }
        assert_eq!(queue.push(key(0), Change::Remove), Pushed::Overrun);

        let queue = Queue::default();
        queue.push(key(1), write(MOST_BYTES));
        queue.push(key(2), write(1));
        assert_eq!(known(&queue, &key(2)), Some(0));
        // Room is given back with what takes it up.
        queue.push(key(1), Change::Remove);
        queue.push(key(2), write(1));
        assert_eq!(known(&queue, &key(2)), Some(1));
    }

    #[test]
    fn what_waits_is_taken_after_the_end_and_nothing_else() {
        let queue = Queue::default();
        queue.push(key(1), write(1));
        queue.close();
        assert_eq!(queue.push(key(2), write(1)), Pushed::Closed);
        assert_eq!(queue.take(Duration::ZERO).expect("the last batch").len(), 1);
        assert!(queue.take(Duration::ZERO).is_none());
        assert!(!queue.abandon());
        let queue = Queue::default();
        queue.push(key(1), Change::Remove);
        assert!(queue.abandon(), "a removal was lost");
        assert!(queue.take(Duration::ZERO).is_none());
    }
}
