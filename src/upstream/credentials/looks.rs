//! Who waits for a look at a key file, and whether one is under way: at most one for each file, whoever asks.
//!
//! It touches no file, and its lock is held for a few instructions. It promises that who asks is told of a look that
//! began after it asked, for one that began before may have missed a change; those who ask while one is under way share
//! the next. A file whose look has been under way for longer than [`PATIENCE`] hangs: nobody waits for it any more.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout_at},
};

use super::{KeyFileError, files::Stamp};

/// How long is waited for a look at a file. Beyond that its disk is gone, and the key that is there has to do.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// Of the threads that block, which tokio has 512 of, so many may come to hang in looks.
pub(super) const MOST_AT_ONCE: usize = 256;

/// A file that cannot be looked at is spoken of this often.
const SPEAK_EVERY: Duration = Duration::from_secs(60);

/// The looks at one file.
#[derive(Debug)]
pub(super) struct Looks {
    state: Mutex<State>,
    /// The last number of which the look has ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// What the file was like at the last look; `None` where it could not be looked at.
    seen: Option<Stamp>,
    /// Why it gave no key when it was last read, if it did not.
    error: Option<Arc<KeyFileError>>,
    /// Everybody who asks has a number.
    asked: u64,
    /// Whether any of those who wait for the next look wants the file to be read in any case.
    reading: bool,
    /// When the look that is under way began, if one is.
    since: Option<Instant>,
    /// When it was last said that the file cannot be looked at.
    spoken: Option<Instant>,
}

/// What somebody who asks has to do.
#[derive(Debug)]
pub(super) enum Asked {
    /// Begin to look, in a place of one's own, then wait for this number.
    Look(u64, OwnedSemaphorePermit),
    /// Wait for this number: somebody looks.
    Wait(u64),
    /// Nothing: the file hangs.
    Hangs,
    /// Nothing: so many looks are under way, most of which must hang, that there is no thread left for this one.
    NoThread,
}

/// A look that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Everybody with this number, or a lower one, waits for it.
    number: u64,
    /// Whether the file is read even if it seems to be the same.
    pub(super) reading: bool,
}

impl Looks {
    /// None yet, of a file that was like this when it was first read.
    pub(super) fn new(seen: Option<Stamp>) -> Self {
        let state = State { seen, error: None, asked: 0, reading: false, since: None, spoken: None };
        Self { state: Mutex::new(state), ended: watch::Sender::new(0) }
    }

    /// Asks for a look.
    pub(super) fn ask(&self, reading: bool, places: &Arc<Semaphore>, now: Instant) -> Asked {
        let mut state = self.lock();
        // Also who does not wait: the look after one that hung is for all of them.
        state.asked += 1;
        state.reading |= reading;
        match state.since {
            Some(since) if now >= since + PATIENCE => Asked::Hangs,
            Some(_) => Asked::Wait(state.asked),
            None => match Arc::clone(places).try_acquire_owned() {
                Ok(place) => {
                    state.since = Some(now);
                    Asked::Look(state.asked, place)
                }
                Err(_) => Asked::NoThread,
            },
        }
    }

    /// Waits for the look of a number, for [`PATIENCE`] at the most; whether it has ended.
    pub(super) async fn ended(&self, number: u64, now: Instant) -> bool {
        let mut ended = self.ended.subscribe();
        timeout_at(now + PATIENCE, ended.wait_for(|ended| *ended >= number)).await.is_ok_and(|r| r.is_ok())
    }

    /// Makes looks until nobody waits for one. Blocks as `look` does.
    pub(super) fn run(&self, mut look: impl FnMut(Look)) {
        let _open = Open(self);
        while let Some(next) = self.next() {
            look(next);
            self.ended.send_replace(next.number);
        }
    }

    fn next(&self) -> Option<Look> {
        let mut state = self.lock();
        let next = Look { number: state.asked, reading: state.reading };
        let wanted = *self.ended.borrow() < next.number;
        state.since = wanted.then(Instant::now);
        state.reading = false;
        wanted.then_some(next)
    }

    /// Notes what the file is like; whether it was different.
    pub(super) fn saw(&self, found: Option<Stamp>) -> bool {
        let mut state = self.lock();
        std::mem::replace(&mut state.seen, found) != found
    }

    /// Notes whether the file gave a key.
    pub(super) fn read(&self, error: Option<Arc<KeyFileError>>) {
        self.lock().error = error;
    }

    /// Why the file gave no key when it was last read.
    pub(super) fn error(&self) -> Option<Arc<KeyFileError>> {
        self.lock().error.clone()
    }

    /// Whether there was no file at the last look.
    pub(super) fn is_missing(&self) -> bool {
        self.lock().seen.is_none()
    }

    /// Whether it is time to say that the file cannot be looked at; it counts as said.
    pub(super) fn speaks(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let speaks = state.spoken.is_none_or(|spoken| now >= spoken + SPEAK_EVERY);
        if speaks {
            state.spoken = Some(now);
        }
        speaks
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets another begin where a look panics.
struct Open<'a>(&'a Looks);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().since = None;
        }
    }
}
