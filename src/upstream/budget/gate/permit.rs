//! The right to send one request, from the turn to the end of the request.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Gate, Name, State, turn::Go};
use crate::upstream::{
    breaker::Health,
    budget::{
        share::Standing,
        window::{Slot, Word},
    },
};

/// The right to send one request. Comes back when dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    pub(super) key: usize,
    pub(super) budget: Name,
    pub(super) slot: Slot,
    ahead_after_pause: bool,
    tries_circuit: bool,
    /// The shared window is being asked for the slot.
    pub(super) asking: bool,
    /// The shared window may hold the slot.
    pub(super) shared: bool,
    /// It goes ahead of all replicas' after a pause.
    pub(super) probe: bool,
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
    /// The vendor rejected the key.
    pub rejected: bool,
    /// The pause that a 429 asks for.
    pub limited: Option<Duration>,
}

impl Report {
    /// What counts for the key that comes after: nothing that was rejected.
    fn inherited(&self) -> Option<Instant> {
        self.answered.filter(|_| !self.rejected)
    }
}

impl Permit {
    /// Takes a connection and a slot of the own log.
    pub(super) fn new(gate: &Arc<Gate>, state: &mut State, key: usize, go: Go) -> Self {
        let Go { ahead_after_pause, tries_circuit } = go;
        let asking = state.standing == Standing::Together;
        let slot = state.numbers.next();
        state.slots -= 1;
        let of = &mut state.keys[key];
        of.log.take(slot);
        of.asking += usize::from(asking);
        if ahead_after_pause {
            of.pause.probe();
        }
        let budget = of.name;
        if tries_circuit {
            state.breaker.trying();
        }
        let (gate, shared) = (Arc::clone(gate), state.standing != Standing::Single);
        let (probe, fate) = (false, Fate::Held);
        Self { gate, key, budget, slot, ahead_after_pause, tries_circuit, asking, shared, probe, fate }
    }

    /// Whose budget it is of: the place of the group that it was asked for with.
    #[must_use]
    pub fn group(&self) -> usize {
        self.key
    }

    /// The request leaves now. From here on it counts, even if nothing more is ever heard of it.
    pub fn sent(&mut self) {
        self.fate = Fate::Sent;
        if let Some(journal) = &self.gate.journal {
            journal.departed(self.budget, self.slot);
        }
    }

    /// Uses the permit up: says what became of the request that was sent with it.
    pub fn spend(mut self, report: Report) {
        let left = self.fate == Fate::Sent;
        self.fate = Fate::Settled;
        self.settle(report, left);
    }

    fn settle(&self, report: Report, left: bool) {
        let now = Instant::now();
        let (pause, heirs) = self.settle_here(report, now);
        if let Some(journal) = self.gate.journal.as_ref().filter(|_| left) {
            match report.answered {
                Some(at) => journal.answered(self.budget, self.slot, at),
                None => journal.given_back(self.budget, self.slot),
            }
        }
        let Some(window) = &self.gate.window else { return };
        let word = |answered: Option<Instant>| match answered {
            Some(at) => Word::Answered(self.slot, now.saturating_duration_since(at)),
            None => Word::GivenBack(self.slot),
        };
        for heir in heirs {
            window.tell(heir, word(report.inherited()), self.gate.aloft);
        }
        if !self.shared {
            return;
        }
        let alive = report.health == Health::Alive;
        let word_of_pause = pause.map(Word::Limited).or(self.probe.then_some(Word::Probed(self.slot, alive)));
        // The pause first: when others hear that a slot is free they must not take it.
        for word in word_of_pause.into_iter().chain([word(report.answered)]) {
            window.tell(self.budget, word, self.gate.aloft);
        }
    }

    /// Settles what is this gate's own. Returns what is left of a pause that was asked for, and the keys that came
    /// after this one meanwhile, for which the request counted, too.
    fn settle_here(&self, report: Report, now: Instant) -> (Option<Duration>, Vec<Name>) {
        let mut state = self.gate.lock();
        let opened = state.breaker.ended(report.health, self.tries_circuit, now);
        state.slots += 1;
        let key = &mut state.keys[self.key];
        key.asking -= usize::from(self.asking);
        key.log.ended(self.slot, report.answered);
        if report.rejected {
            key.log.keep_private(self.slot);
        }
        let mut pause = None;
        if let Some(length) = report.limited {
            pause = Some(key.pause.limited(length, fastrand::f64(), now).saturating_duration_since(now));
        } else if self.ahead_after_pause {
            key.pause.probed(report.health == Health::Alive, now);
        }
        let mut heirs = Vec::new();
        for heir in state.keys.iter_mut().filter(|key| key.log.is_aloft(self.slot)) {
            heir.log.ended(self.slot, report.inherited());
            heirs.push(heir.name);
        }
        if opened || report.limited.is_some() || self.ahead_after_pause || self.tries_circuit {
            // It may now be known of many that they cannot go in time, or that they can.
            state.keys.iter().for_each(|key| key.queue.wake_all());
        } else {
            state.wake_first();
        }
        (pause, heirs)
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
        let report = Report { answered, health: Health::Unknown, rejected: false, limited: None };
        self.settle(report, self.fate == Fate::Sent);
    }
}
