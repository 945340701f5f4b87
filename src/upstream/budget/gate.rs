//! The gate: no request leaves for the vendor but through it, with a [`Permit`].
//!
//! It asks, in this order: is the circuit closed, is the key paused, is there budget in this lane, are others first,
//! is a connection free; and at last, where replicas share the budget, for a slot of the shared [`window`](super::window).
//! Who cannot go waits its turn, until its own deadline; who cannot go in time is told so at once, with the time at
//! which it is worth coming back.
//!
//! It promises that a place in the queue is given up when its future is dropped, that a permit that is never used
//! comes back, and that what was used is counted, whatever becomes of the request.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    Lane, Settings, Ties,
    journal::Journal,
    log::{Log, MINUTE},
    pause::{self, Pause},
    queue::{Queue, Ticket},
    share::{Share, Standing},
    window::{Left, Name, Slots, Window},
};
use crate::{
    outcome::{ErrorCode, Refusal},
    replicas,
    upstream::breaker::{self, Breaker, Circuit},
};

mod ask;
mod attend;
mod newcomers;
mod permit;
mod terms;
mod turn;

use ask::Asked;
pub use permit::{Permit, Report};
use turn::Turn;

/// When to come back, where nothing better is known.
const SOON: Duration = Duration::from_secs(1);

/// A request may take this much longer than it should until its end is known.
const SLACK: Duration = Duration::from_secs(5);

/// The gate before one vendor.
pub struct Gate {
    state: Mutex<State>,
    window: Option<Arc<dyn Window>>,
    /// Rings for who attends to the window: it was given up, though it is there, or has to be told of another key.
    given_up: Notify,
    journal: Option<Journal>,
    /// How long a request may be under way.
    aloft: Duration,
}

/// One API key.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// What its budget is called.
    pub name: Name,
    /// Its limit, where it has one of its own.
    pub limit: Option<u32>,
    /// The place of the key that it came after, which every key has that was not there at the start: what that one sent
    /// counts for it, too, but for what was rejected.
    pub after: Option<usize>,
    /// Whether anybody has it now. A key that nobody has may still be asked for, by who had it a moment ago.
    pub held: bool,
}

struct State {
    keys: Vec<Key>,
    /// What all keys are held to.
    settings: Settings,
    breaker: Breaker,
    /// Requests that may yet be under way to the vendor at once.
    slots: usize,
    /// How many places were taken, in all queues together.
    places: u64,
    numbers: Slots,
    standing: Standing,
    /// What the shared window says of itself, and what it said when it was last asked.
    link: Option<watch::Receiver<replicas::State>>,
    told: Option<replicas::State>,
    /// The shared window is there, and refuses what it is asked.
    refused: bool,
}

/// What is known of one API key.
struct Key {
    name: Name,
    /// Its limit, where it has one of its own.
    own_limit: Option<u32>,
    /// Whether anybody has it now.
    held: bool,
    log: Log,
    share: Share,
    /// Of the limit, what the lower lanes leave alone.
    reserve: usize,
    pause: Pause,
    queue: Queue,
    /// Whether the shared window has been told of it, where there is one: it is told of those that are wanted.
    introduced: bool,
    /// How many of those in the log ask the shared window, and have no answer yet.
    asking: usize,
    /// Until when the shared window has nothing for callers' lookups, and for the lower lanes.
    full: [Option<Instant>; 2],
    /// Another replica's request is ahead of the rest after a pause; ask again then.
    probing: Option<Instant>,
}

/// What the metrics show of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Requests that may leave now.
    pub remaining: usize,
    /// What is left of a pause.
    pub pause: Duration,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// Requests that may leave in any minute, from all replicas together.
    pub limit: usize,
}

impl Gate {
    /// A gate for these keys, and so many requests under way at once, each for `response_timeout` at the most. With a
    /// window in `ties`, somebody has to [`attend`](Self::attend) to it.
    #[must_use]
    pub fn new(
        settings: &Settings,
        groups: &[Group],
        max_concurrency: usize,
        response_timeout: Duration,
        ties: Ties,
    ) -> Self {
        let Ties { window, mut journal } = ties;
        let aloft = response_timeout + SLACK;
        let mut keys: Vec<Key> = groups.iter().map(|group| Key::new(settings, group, aloft)).collect();
        let departures = journal.as_mut().map(Journal::departures).unwrap_or_default();
        for (name, slot, free) in departures {
            if let Some(key) = keys.iter_mut().find(|key| key.name == name) {
                key.log.held_until(slot, free);
                key.log.keep_private(slot);
            }
        }
        let link = window.as_ref().map(|window| window.state());
        let standing = if window.is_some() { Standing::Arriving } else { Standing::Single };
        let (breaker, numbers) = (Breaker::default(), Slots::new());
        let state = State {
            keys,
            settings: settings.clone(),
            breaker,
            slots: max_concurrency,
            places: 0,
            numbers,
            standing,
            link,
            told: None,
            refused: false,
        };
        let (state, given_up) = (Mutex::new(state), Notify::new());
        Self { state, window, given_up, journal, aloft }
    }

    /// Waits for the right to send one request with this key, until `deadline` at the latest.
    ///
    /// # Errors
    /// Where there is none in time: the refusal says why, and when to come back.
    pub async fn permit(
        self: &Arc<Self>,
        key: usize,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Permit, Refusal> {
        let mut place: Option<Place<'_>> = None;
        loop {
            let next = {
                let mut state = self.lock();
                let now = Instant::now();
                let ticket = place.as_ref().map(|place| place.ticket);
                let next = match state.turn(key, lane, ticket, now, deadline) {
                    Turn::Refused(refusal) => return Err(refusal),
                    Turn::Wait(waiting) if place.is_some() && now >= deadline => {
                        return Err(too_late(waiting, now));
                    }
                    Turn::Wait(_)
                        if place.is_none()
                            && state.keys[key].queue.ahead_of(lane, None) >= state.settings.queue_length =>
                    {
                        let refusal = Refusal::new(ErrorCode::Overloaded, "the queue for the vendor is full");
                        return Err(refusal.retry_at(now + SOON));
                    }
                    Turn::Wait(waiting) => Next::Wait(waiting),
                    Turn::Go(turn) => {
                        let permit = Permit::new(self, &mut state, key, turn);
                        if state.standing != Standing::Together {
                            return Ok(permit);
                        }
                        Next::Ask(permit)
                    }
                };
                // Also before asking: whoever comes meanwhile comes later.
                if place.is_none() {
                    let number = state.next_number();
                    let (ticket, bell) = state.keys[key].queue.enter(lane, number);
                    place = Some(Place { gate: self, key, ticket, bell });
                    if !state.keys[key].introduced {
                        self.given_up.notify_one();
                    }
                }
                next
            };
            match next {
                Next::Ask(mut permit) => match self.ask(&mut permit, lane, deadline).await {
                    Asked::Granted => return Ok(permit),
                    // It comes back before the turn is asked for again.
                    Asked::Denied => drop(permit),
                    Asked::TooLate => return Err(too_late(None, Instant::now())),
                },
                Next::Wait(waiting) => {
                    let wake = waiting.map_or(deadline, |until| until.min(deadline));
                    let rung = async {
                        match &place {
                            Some(place) => place.bell.notified().await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = rung => {}
                        () = tokio::time::sleep_until(wake) => {}
                    }
                }
            }
        }
    }

    /// What each key may still send, in the order of the keys: as much as both its own log and the shared one allow, as
    /// far as is known here.
    #[must_use]
    pub fn keys(&self, now: Instant) -> Vec<KeyState> {
        let mut state = self.lock();
        state.notice(now);
        let standing = state.standing;
        let look = |key: &mut Key| KeyState {
            remaining: key.remaining(standing, now),
            pause: key.pause.left(now),
            waiting: key.queue.len(),
            limit: key.share.limit(),
        };
        state.keys.iter_mut().map(look).collect()
    }

    /// The state of the circuit.
    #[must_use]
    pub fn circuit(&self, now: Instant) -> Circuit {
        self.lock().breaker.circuit(now)
    }

    /// How many wait, for any key.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.lock().keys.iter().map(|key| key.queue.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half way, so a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a place does next.
enum Next {
    /// Asks the shared window.
    Ask(Permit),
    /// Until then, where it is known, or until the bell rings.
    Wait(Option<Instant>),
}

impl Key {
    fn new(settings: &Settings, group: &Group, aloft: Duration) -> Self {
        let (limit, reserve) = terms::of(group.limit, settings);
        Self {
            name: group.name,
            own_limit: group.limit,
            held: group.held,
            log: Log::default(),
            share: Share::new(limit, settings.replicas_fallback, MINUTE + aloft),
            reserve,
            pause: Pause::default(),
            queue: Queue::default(),
            introduced: true,
            asking: 0,
            full: [None; 2],
            probing: None,
        }
    }

    fn remaining(&mut self, standing: Standing, now: Instant) -> usize {
        let own = self.log.free(self.share.most(standing, now), now);
        let counted = self.counted(now);
        match standing {
            Standing::Together => own.min(self.share.left(counted, now)),
            Standing::Single | Standing::Arriving | Standing::Alone => own,
        }
    }

    /// How many of the own log the shared one counts, too.
    fn counted(&mut self, now: Instant) -> usize {
        self.log.used(now).saturating_sub(self.asking)
    }

    /// It was said what the shared window has left.
    fn heard(&mut self, left: Left, now: Instant) {
        let own = self.counted(now);
        self.share.heard(left, own, now);
    }
}

/// What is told to who has waited in vain, for whatever: the wait for a connection is part of the queue, too.
fn too_late(until: Option<Instant>, now: Instant) -> Refusal {
    let refusal = Refusal::new(ErrorCode::RateLimitExceeded, "the turn of this lookup did not come in time");
    refusal.retry_at(until.unwrap_or(now + SOON))
}

/// A place in the queue, given up when dropped.
struct Place<'a> {
    gate: &'a Gate,
    key: usize,
    ticket: Ticket,
    bell: Arc<Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.keys[self.key].queue.leave(self.ticket);
        // Whoever was behind may be first now, and a bell that rang for this place rings on.
        state.wake_first();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
