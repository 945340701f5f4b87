//! The gate: no request leaves for the vendor but through it, with a [`Permit`].
//!
//! It asks, in this order: is the circuit closed, is the key paused, is there budget in this lane, are others first,
//! is a connection free. Who cannot go waits its turn, until its own deadline; who cannot go in time is told so at
//! once, with the time at which it is worth coming back.
//!
//! It promises that a place in the queue is given up when its future is dropped, that a permit that is never used
//! comes back, and that what was used is counted, whatever becomes of the request.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Lane, Settings,
    log::Log,
    pause::{self, Pause},
    queue::{Queue, Ticket},
};
use crate::{
    outcome::{ErrorCode, Refusal},
    upstream::breaker::{self, Breaker, Circuit, Health},
};

/// When to come back, where nothing better is known.
const SOON: Duration = Duration::from_secs(1);

/// The gate before one vendor.
pub struct Gate {
    state: Mutex<State>,
    queue_length: usize,
}

struct State {
    keys: Vec<Key>,
    breaker: Breaker,
    /// Requests that may yet be under way to the vendor at once.
    slots: usize,
    /// How many places were taken, in all queues together.
    places: u64,
}

/// What is known of one API key.
struct Key {
    log: Log,
    /// Of the limit, what the lower lanes leave alone.
    reserve: usize,
    pause: Pause,
    queue: Queue,
}

/// Whether a place may go.
enum Turn {
    Go {
        ahead_after_pause: bool,
        tries_circuit: bool,
    },
    /// Until then, where it is known, or until the bell rings.
    Wait(Option<Instant>),
    Refused(Refusal),
}

/// The right to send one request. Comes back when dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    key: usize,
    ahead_after_pause: bool,
    tries_circuit: bool,
    fate: Fate,
}

/// How far a permit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Held,
    Sent,
    Settled,
}

/// What became of a request, as far as the gate has to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// When its answer began, or when it was known that none would come; `None` where it never left.
    pub answered: Option<Instant>,
    /// What it says about the vendor.
    pub health: Health,
    /// The pause that a 429 asks for.
    pub limited: Option<Duration>,
}

/// What the metrics show of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Requests that may leave now.
    pub remaining: usize,
    /// What is left of a pause.
    pub pause: Duration,
}

impl Gate {
    /// A gate for these keys' limits (`None` is the settings' own), and so many requests under way at once.
    #[must_use]
    pub fn new(settings: &Settings, limits: &[Option<u32>], max_concurrency: usize) -> Self {
        let key = |limit: &Option<u32>| {
            let limit = limit.unwrap_or(settings.requests_per_minute);
            let reserve = settings.reserve.unwrap_or(limit / 3) as usize;
            Key { log: Log::new(limit), reserve, pause: Pause::default(), queue: Queue::default() }
        };
        let keys = limits.iter().map(key).collect();
        let state = State { keys, breaker: Breaker::default(), slots: max_concurrency, places: 0 };
        Self { state: Mutex::new(state), queue_length: settings.queue_length }
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
        let (place, mut waiting) = {
            let mut state = self.lock();
            match state.turn(key, lane, None, Instant::now(), deadline) {
                Turn::Go { ahead_after_pause, tries_circuit } => {
                    return Ok(self.go(&mut state, key, ahead_after_pause, tries_circuit));
                }
                Turn::Refused(refusal) => return Err(refusal),
                Turn::Wait(_) if state.keys[key].queue.ahead_of(lane, None) >= self.queue_length => {
                    let refusal = Refusal::new(ErrorCode::Overloaded, "the queue for the vendor is full");
                    return Err(refusal.retry_at(Instant::now() + SOON));
                }
                Turn::Wait(waiting) => {
                    let number = state.next_number();
                    let (ticket, bell) = state.keys[key].queue.enter(lane, number);
                    (Place { gate: self, key, ticket, bell }, waiting)
                }
            }
        };
        loop {
            let wake = waiting.map_or(deadline, |until| until.min(deadline));
            tokio::select! {
                () = place.bell.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            let mut state = self.lock();
            let now = Instant::now();
            waiting = match state.turn(key, lane, Some(place.ticket), now, deadline) {
                Turn::Go { ahead_after_pause, tries_circuit } => {
                    return Ok(self.go(&mut state, key, ahead_after_pause, tries_circuit));
                }
                Turn::Refused(refusal) => return Err(refusal),
                Turn::Wait(waiting) if now >= deadline => return Err(too_late(waiting, now)),
                Turn::Wait(waiting) => waiting,
            };
        }
    }

    fn go(
        self: &Arc<Self>,
        state: &mut State,
        key: usize,
        ahead_after_pause: bool,
        tries_circuit: bool,
    ) -> Permit {
        state.slots -= 1;
        state.keys[key].log.take();
        if ahead_after_pause {
            state.keys[key].pause.probe();
        }
        if tries_circuit {
            state.breaker.trying();
        }
        Permit { gate: Arc::clone(self), key, ahead_after_pause, tries_circuit, fate: Fate::Held }
    }

    /// What each key may still send, in the order of the keys.
    #[must_use]
    pub fn keys(&self, now: Instant) -> Vec<KeyState> {
        let look = |key: &mut Key| KeyState { remaining: key.log.free(now), pause: key.pause.left(now) };
        self.lock().keys.iter_mut().map(look).collect()
    }

    /// The state of the circuit.
    #[must_use]
    pub fn circuit(&self, now: Instant) -> Circuit {
        self.lock().breaker.circuit(now)
    }

    /// How many wait, for any key.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().keys.iter().map(|key| key.queue.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half way, so a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a place of this key may go at `now`; `ticket` is `None` for who has no place yet.
    fn turn(
        &mut self,
        key: usize,
        lane: Lane,
        ticket: Option<Ticket>,
        now: Instant,
        deadline: Instant,
    ) -> Turn {
        let tries_circuit = match self.breaker.say(now) {
            breaker::Say::Go => false,
            breaker::Say::Try => true,
            breaker::Say::Refused(until) => {
                let detail = "the vendor has failed several times in a row and is left alone for a while";
                return Turn::Refused(Refusal::new(ErrorCode::UpstreamCircuitOpen, detail).retry_at(until));
            }
        };
        let slots = self.slots;
        let key = &mut self.keys[key];
        let ahead = key.queue.ahead_of(lane, ticket);
        let ahead_after_pause = match key.pause.say(now) {
            pause::Say::Go => false,
            pause::Say::Probe => true,
            pause::Say::Probing => return Turn::Wait(None),
            pause::Say::Until(until) if until > deadline => {
                let refusal = Refusal::new(ErrorCode::RateLimitExceeded, "the vendor asks for a pause");
                return Turn::Refused(refusal.retry_at(until));
            }
            pause::Say::Until(until) => return Turn::Wait(Some(until)),
        };
        let reserve = if lane == Lane::Lookup { 0 } else { key.reserve };
        let needed = ahead + 1 + reserve;
        let free = key.log.free(now);
        if needed > free {
            let at = key.log.nth_free(needed - free, now);
            if at > deadline {
                let detail = "the requests that the vendor allows in a minute are used up";
                return Turn::Refused(Refusal::new(ErrorCode::RateLimitExceeded, detail).retry_at(at));
            }
            return Turn::Wait(Some(at));
        }
        if ahead > 0 || slots == 0 {
            return Turn::Wait(None);
        }
        Turn::Go { ahead_after_pause, tries_circuit }
    }

    fn next_number(&mut self) -> u64 {
        self.places += 1;
        self.places
    }

    /// Wakes those of each key who may go now that something is free, who came first of them first: connections are
    /// everybody's, and no key is to hold the others back.
    fn wake_first(&self) {
        let mut first: Vec<_> = self.keys.iter().filter_map(|key| key.queue.first()).collect();
        first.sort_unstable_by_key(|((_, number), _)| *number);
        first.iter().for_each(|(_, bell)| bell.notify_one());
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
    bell: Arc<tokio::sync::Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.keys[self.key].queue.leave(self.ticket);
        // Whoever was behind may be first now, and a bell that rang for this place rings on.
        state.wake_first();
    }
}

impl Permit {
    /// The request leaves now. From here on it counts, even if nothing more is ever heard of it.
    pub fn sent(&mut self) {
        self.fate = Fate::Sent;
    }

    /// Uses the permit up: says what became of the request that was sent with it.
    pub fn spend(mut self, report: Report) {
        self.fate = Fate::Settled;
        self.settle(report);
    }

    fn settle(&self, report: Report) {
        let now = Instant::now();
        let mut state = self.gate.lock();
        let opened = state.breaker.ended(report.health, self.tries_circuit, now);
        state.slots += 1;
        let key = &mut state.keys[self.key];
        match report.answered {
            Some(at) => key.log.answered(at),
            None => key.log.give_back(),
        }
        if let Some(length) = report.limited {
            key.pause.limited(length, fastrand::f64(), now);
        } else if self.ahead_after_pause {
            key.pause.probed(report.health == Health::Alive, now);
        }
        if opened || report.limited.is_some() || self.ahead_after_pause || self.tries_circuit {
            // It may now be known of many that they cannot go in time, or that they can.
            state.keys.iter().for_each(|key| key.queue.wake_all());
        } else {
            state.wake_first();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let answered = match self.fate {
            Fate::Settled => return,
            Fate::Held => None,
            // The task that sent it is gone; the vendor may count it up to now.
            Fate::Sent => Some(Instant::now()),
        };
        self.settle(Report { answered, health: Health::Unknown, limited: None });
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
