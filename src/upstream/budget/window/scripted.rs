//! A shared window for tests under paused time: it does what the scripts do in Redis, is gone and back when it is told,
//! and loses answers on demand.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep},
};

use super::{Ask, Known, LEFT, Left, Name, Slot, Taken, Window, Word};
use crate::{
    replicas::{Gone, News, State},
    upstream::budget::log::MINUTE,
};

/// How long a replica waits for an answer.
pub(in crate::upstream::budget) const TIMEOUT: Duration = Duration::from_millis(50);

/// What stands for Redis.
pub(in crate::upstream::budget) struct Server {
    book: Mutex<Book>,
    news: broadcast::Sender<News>,
}

#[derive(Default)]
struct Book {
    gone: bool,
    /// Whoever asks is told no.
    refuses: bool,
    /// So many answers get lost from now on.
    lost: usize,
    /// What was taken or pushed, in order.
    log: Vec<Slot>,
    budgets: HashMap<Name, Budget>,
}

#[derive(Default)]
struct Budget {
    limit: usize,
    slots: HashMap<Slot, Instant>,
    word: u64,
    pause: Option<Instant>,
    probe: Option<(Slot, Instant)>,
    /// Who has told all it knows.
    told: HashSet<u64>,
}

/// One replica's line to it.
pub(in crate::upstream::budget) struct Line {
    server: Arc<Server>,
    state: watch::Sender<State>,
    line: AtomicU64,
}

/// So many replicas share the window.
pub(in crate::upstream::budget) fn together(replicas: u32) -> State {
    State::Together { replicas, line: 0 }
}

impl Server {
    pub(in crate::upstream::budget) fn new() -> Arc<Self> {
        Arc::new(Self { book: Mutex::default(), news: broadcast::Sender::new(64) })
    }

    pub(in crate::upstream::budget) fn line(self: &Arc<Self>, state: State) -> Arc<Line> {
        Arc::new(Line { server: Arc::clone(self), state: watch::Sender::new(state), line: AtomicU64::new(0) })
    }

    /// Nobody is answered any more. The replicas' lines are to be told apart.
    pub(in crate::upstream::budget) fn vanish(&self) {
        self.book().gone = true;
    }

    pub(in crate::upstream::budget) fn come_back(&self, empty: bool) {
        let mut book = self.book();
        book.gone = false;
        if empty {
            book.budgets.clear();
        }
    }

    pub(in crate::upstream::budget) fn lose_answers(&self, count: usize) {
        self.book().lost = count;
    }

    /// From now on every script is answered with an error, or none is.
    pub(in crate::upstream::budget) fn refuse(&self, refuses: bool) {
        self.book().refuses = refuses;
    }

    /// Every slot that was taken or pushed so far, in order.
    pub(in crate::upstream::budget) fn log(&self) -> Vec<Slot> {
        self.book().log.clone()
    }

    /// How many slots are held.
    pub(in crate::upstream::budget) fn held(&self, budget: Name) -> usize {
        self.book().budget(budget).slots.len()
    }

    /// Whether anybody has told all it knows of this one.
    pub(in crate::upstream::budget) fn was_told_of(&self, budget: Name) -> bool {
        !self.book().budget(budget).told.is_empty()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("the lock")
    }

    fn say(&self, book: &mut Book, name: Name) -> Left {
        let budget = book.budget(name);
        budget.word += 1;
        let left = Left { at: budget.word, slots: budget.limit.saturating_sub(budget.slots.len()) };
        let payload = format!("{name} {} {}", left.at, left.slots).into();
        // Nobody may listen.
        let _ = self.news.send(News { channel: LEFT.to_owned(), payload });
        left
    }
}

impl Book {
    fn budget(&mut self, name: Name) -> &mut Budget {
        let budget = self.budgets.entry(name).or_default();
        let now = Instant::now();
        budget.slots.retain(|_, free| *free > now);
        budget
    }
}

impl Line {
    /// The replica is told this; after having been alone, of another line.
    pub(in crate::upstream::budget) fn say(&self, mut state: State) {
        let before = self.line.load(Ordering::Relaxed);
        if let State::Together { line, .. } = &mut state {
            let was_alone = matches!(*self.state.borrow(), State::Alone(_));
            *line = before + u64::from(was_alone);
            self.line.store(*line, Ordering::Relaxed);
        }
        self.state.send_replace(state);
    }

    fn take_now(&self, ask: Ask) -> Result<Taken, Gone> {
        let mut book = self.server.book();
        if book.gone {
            return Err(Gone::Silent);
        }
        if book.refuses {
            return Err(Gone::Refused);
        }
        let now = Instant::now();
        let budget = book.budget(ask.budget);
        if !budget.told.contains(&ask.slot.replica()) {
            return Ok(Taken::Unknown);
        }
        budget.limit = ask.limit;
        if !budget.slots.contains_key(&ask.slot) {
            if let Some(until) = budget.pause.filter(|until| now < *until) {
                return Ok(Taken::Paused(until - now));
            }
            if budget.probe.is_some_and(|(_, until)| now < until) {
                return Ok(Taken::Probing);
            }
            let free = ask.limit.saturating_sub(budget.slots.len());
            if free < 1 + ask.reserve {
                let mut frees: Vec<_> = budget.slots.values().copied().collect();
                frees.sort_unstable();
                let at = frees.get(ask.reserve - free).map_or(MINUTE, |free| *free - now).min(MINUTE);
                return Ok(Taken::Full(at, Left { at: budget.word, slots: free }));
            }
            if budget.pause.is_some() {
                budget.probe = Some((ask.slot, now + ask.aloft));
            }
            budget.slots.insert(ask.slot, now + ask.aloft + MINUTE);
            book.log.push(ask.slot);
        }
        let probe = book.budget(ask.budget).probe.is_some_and(|(slot, _)| slot == ask.slot);
        let left = self.server.say(&mut book, ask.budget);
        if book.lost > 0 {
            book.lost -= 1;
            return Err(Gone::Silent);
        }
        Ok(Taken::Granted { left, probe })
    }
}

impl Budget {
    fn pause_for(&mut self, length: Duration) {
        let until = Instant::now() + length;
        self.pause = Some(self.pause.map_or(until, |before| before.max(until)));
        self.probe = None;
    }
}

impl Window for Line {
    fn take(&self, ask: Ask) -> BoxFuture<'_, Result<Taken, Gone>> {
        Box::pin(async move {
            if let State::Alone(_) = *self.state.borrow() {
                return Err(Gone::Silent);
            }
            let taken = self.take_now(ask);
            if taken == Err(Gone::Silent) {
                sleep(TIMEOUT).await;
            }
            taken
        })
    }

    fn push(&self, known: Known) -> BoxFuture<'_, Result<Left, Gone>> {
        Box::pin(async move {
            let mut book = self.server.book();
            if book.gone {
                return Err(Gone::Silent);
            }
            if book.refuses {
                return Err(Gone::Refused);
            }
            let now = Instant::now();
            let budget = book.budget(known.budget);
            budget.limit = known.limit;
            budget.told.extend(known.replica);
            if known.pause > Duration::ZERO {
                budget.pause_for(known.pause);
            }
            for one in &known.departures {
                let free = now + one.frees.unwrap_or(known.aloft + MINUTE);
                budget.slots.insert(one.slot, free);
            }
            book.log.extend(known.departures.iter().map(|one| one.slot));
            Ok(self.server.say(&mut book, known.budget))
        })
    }

    fn tell(&self, name: Name, word: Word, _: Duration) {
        let mut book = self.server.book();
        if book.gone || book.refuses {
            return;
        }
        let now = Instant::now();
        let budget = book.budget(name);
        match word {
            Word::Answered(slot, ago) => {
                budget.slots.insert(slot, now + MINUTE.saturating_sub(ago));
                return;
            }
            Word::GivenBack(slot) => drop(budget.slots.remove(&slot)),
            Word::Limited(length) => budget.pause_for(length),
            Word::Probed(slot, answered) => {
                if budget.probe.is_none_or(|(probe, _)| probe != slot) {
                    return;
                }
                budget.probe = None;
                if answered {
                    budget.pause = None;
                }
            }
        }
        self.server.say(&mut book, name);
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.server.news.subscribe()
    }
}
