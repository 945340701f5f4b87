//! Whether a place may go now: everything that is asked before the shared window is.

use tokio::time::Instant;

use super::{Key, Lane, State, Ticket, breaker, pause};
use crate::{
    outcome::{ErrorCode, Refusal},
    replicas,
    upstream::budget::share::Standing,
};

/// Whether a place may go.
pub(super) enum Turn {
    Go(Go),
    /// Until then, where it is known, or until the bell rings.
    Wait(Option<Instant>),
    Refused(Refusal),
}

/// As what it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Go {
    pub(super) ahead_after_pause: bool,
    pub(super) tries_circuit: bool,
}

impl State {
    /// Whether a place of this key may go at `now`; `ticket` is `None` for who has no place yet.
    pub(super) fn turn(
        &mut self,
        key: usize,
        lane: Lane,
        ticket: Option<Ticket>,
        now: Instant,
        deadline: Instant,
    ) -> Turn {
        self.notice(now);
        let tries_circuit = match self.breaker.say(now) {
            breaker::Say::Go => false,
            breaker::Say::Try => true,
            breaker::Say::Refused(until) => {
                let detail = "the vendor has failed several times in a row and is left alone for a while";
                return Turn::Refused(Refusal::new(ErrorCode::UpstreamCircuitOpen, detail).retry_at(until));
            }
        };
        let (slots, standing) = (self.slots, self.standing);
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
        if standing == Standing::Together && !key.introduced {
            return Turn::Wait(None);
        }
        if let Some(waiting) = key.budget(standing, lane, ahead, now) {
            return match waiting {
                Some(at) if at > deadline => {
                    let detail = "the requests that the vendor allows in a minute are used up";
                    Turn::Refused(Refusal::new(ErrorCode::RateLimitExceeded, detail).retry_at(at))
                }
                waiting => Turn::Wait(waiting),
            };
        }
        if let Some(look) = key.probing.filter(|look| now < *look && standing == Standing::Together) {
            return Turn::Wait(Some(look));
        }
        if ahead > 0 || slots == 0 {
            return Turn::Wait(None);
        }
        Turn::Go(Go { ahead_after_pause, tries_circuit })
    }

    /// Looks whether the shared window came or went.
    pub(super) fn notice(&mut self, now: Instant) {
        let Some(told) = self.link.as_ref().map(|link| *link.borrow()) else { return };
        let before = self.told.replace(told);
        if before == Some(told) {
            return;
        }
        if self.standing == Standing::Together && before.is_some_and(|before| is_another(before, told)) {
            // It was gone while nobody looked, and may have come back empty; and not all may be seen again yet.
            self.lost(now);
        }
        self.keys.iter_mut().for_each(|key| key.share.seen(told, self.standing, now));
        match (self.standing, told) {
            (Standing::Arriving | Standing::Together, replicas::State::Alone(_)) => self.lost(now),
            (Standing::Arriving | Standing::Together, replicas::State::Together { .. }) => {}
            // What was sent alone has to be told first.
            (Standing::Single | Standing::Alone, _) => {}
        }
    }

    /// The shared window is there, and refuses what it is asked: it is as good as gone.
    pub(super) fn refused(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!("redis refuses to count requests: this gateway keeps to its share of the budget");
        }
        match self.standing {
            Standing::Arriving | Standing::Together => self.lost(now),
            Standing::Single | Standing::Alone => {}
        }
    }

    /// The shared window does not know any more what it was told: it was gone, in a way.
    pub(super) fn forgotten(&mut self, now: Instant) {
        if self.standing == Standing::Together {
            tracing::warn!("redis has lost count of requests: it is told of those that this gateway knows");
            self.lost(now);
        }
    }

    /// It did what it was asked.
    pub(super) fn obliged(&mut self) {
        if std::mem::take(&mut self.refused) {
            tracing::info!("redis counts requests again");
        }
    }

    /// The shared window is gone.
    pub(super) fn lost(&mut self, now: Instant) {
        let was = std::mem::replace(&mut self.standing, Standing::Alone);
        for key in &mut self.keys {
            if was == Standing::Together {
                key.share.lost(now);
            }
            (key.full, key.probing) = ([None; 2], None);
            // It is told of all that are wanted when it is back.
            key.introduced = true;
            // It may now be known of many that they cannot go in time.
            key.queue.wake_all();
        }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.places += 1;
        self.places
    }

    /// Wakes those of each key who may go now that something is free, who came first of them first: connections are
    /// everybody's, and no key is to hold the others back.
    pub(super) fn wake_first(&self) {
        let mut first: Vec<_> = self.keys.iter().filter_map(|key| key.queue.first()).collect();
        first.sort_unstable_by_key(|((_, number), _)| *number);
        first.iter().for_each(|(_, bell)| bell.notify_one());
    }
}

/// Whether these are two connections.
fn is_another(before: replicas::State, now: replicas::State) -> bool {
    match (before, now) {
        (replicas::State::Together { line: before, .. }, replicas::State::Together { line, .. }) => {
            before != line
        }
        (replicas::State::Alone(_), _) | (_, replicas::State::Alone(_)) => false,
    }
}

impl Key {
    /// Whether there is no budget for who has so many ahead, and until when, where that is known.
    fn budget(
        &mut self,
        standing: Standing,
        lane: Lane,
        ahead: usize,
        now: Instant,
    ) -> Option<Option<Instant>> {
        if standing == Standing::Arriving {
            return Some(None);
        }
        let most = self.share.most(standing, now);
        let needed = ahead + 1 + self.reserve_of(lane, most);
        let free = self.log.free(most, now);
        if needed > free {
            let at = self.log.nth_free(needed - free, most, now);
            return Some(Some(self.share.rises(standing, now).map_or(at, |rises| rises.min(at))));
        }
        let full = self.full[usize::from(lane != Lane::Lookup)].filter(|until| now < *until);
        full.filter(|_| standing == Standing::Together).map(Some)
    }

    /// Of so many, what this lane leaves alone.
    pub(super) fn reserve_of(&self, lane: Lane, most: usize) -> usize {
        if lane == Lane::Lookup { 0 } else { self.reserve * most / self.share.limit().max(1) }
    }
}
