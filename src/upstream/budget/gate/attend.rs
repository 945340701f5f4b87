//! Attends to the shared window: hears what it says, and tells it on its return what was sent without it.

use std::{collections::HashSet, time::Duration};

use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{Instant, sleep},
};

use super::{Gate, Key, MINUTE, State};
use crate::{
    replicas::{self, Gone},
    upstream::budget::{
        share::Standing,
        window::{Departure, Known, Left, Slot, Window},
    },
};

/// Where the window did not take what it was told, it is told again after this.
const AGAIN: Duration = Duration::from_millis(100);

impl Gate {
    /// Attends to the shared window for as long as there is one; returns at once where there is none. One task has to
    /// do this: without it nothing leaves while Redis is there.
    pub async fn attend(&self) {
        let Some(window) = self.window.as_deref() else { return };
        let (mut link, mut news) = (window.state(), window.news());
        loop {
            link.mark_unchanged();
            let apart = self.apart();
            if apart {
                // What was said before says nothing any more.
                news = window.news();
            }
            let joined = if apart { self.join(window, &link).await } else { self.introduce(window).await };
            if !joined {
                tokio::select! {
                    changed = changed(&link) => if changed.is_err() { return },
                    () = sleep(AGAIN) => {}
                }
                continue;
            }
            tokio::select! {
                changed = changed(&link) => if changed.is_err() { return },
                () = self.given_up.notified() => {}
                said = news.recv() => match said {
                    Ok(news) => if let Some((name, left)) = Left::said(&news) {
                        let mut state = self.lock();
                        if let Some(key) = state.keys.iter_mut().find(|key| key.name == name) {
                            key.told(left, Instant::now());
                        }
                    },
                    Err(RecvError::Lagged(_)) => {
                        // From now on: what is asked is said to all, and would be too much for who still lags behind.
                        news = window.news();
                        self.ask_anew(window).await;
                    }
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    /// Whether the window is there and has not been told yet what is known here.
    fn apart(&self) -> bool {
        let mut state = self.lock();
        state.notice(Instant::now());
        matches!(state.standing, Standing::Arriving | Standing::Alone)
            && matches!(state.told, Some(replicas::State::Together { .. }))
    }

    /// Tells the window of what counts, until it knows everything, and relies on it from then on. False where it was
    /// gone meanwhile. Of keys that were replaced long ago, which may be many, it is told when they are asked for.
    async fn join(&self, window: &dyn Window, link: &watch::Receiver<replicas::State>) -> bool {
        // Of each key, since two may hold the same slot; `None` where it was not told of it.
        let mut known: Vec<Option<HashSet<Slot>>> = Vec::new();
        loop {
            let unknown: Vec<(usize, Known)> = {
                let mut state = self.lock();
                let now = Instant::now();
                state.notice(now);
                if link.has_changed().unwrap_or(true) {
                    // It may have been gone, and have come back empty.
                    return false;
                }
                let mut unknown = Vec::new();
                let State { keys, numbers, .. } = &mut *state;
                for (place, key) in keys.iter_mut().enumerate() {
                    // Also where it came after the others were told of.
                    if place == known.len() {
                        key.share.forget();
                        known.push(None);
                    }
                    let known = &mut known[place];
                    let first = known.is_none();
                    if first && !key.is_wanted() && key.log.used(now) == 0 {
                        continue;
                    }
                    let known = known.get_or_insert_default();
                    let departures = key.departures(known, now);
                    if first || !departures.is_empty() {
                        known.extend(departures.iter().map(|departure| departure.slot));
                        let replica = first.then(|| numbers.replica());
                        unknown.push((place, Known { replica, ..self.known(key, departures, now) }));
                    }
                }
                if unknown.is_empty() {
                    let was = std::mem::replace(&mut state.standing, Standing::Together);
                    for (key, known) in state.keys.iter_mut().zip(&known) {
                        if was == Standing::Alone {
                            key.share.back(now);
                        }
                        key.introduced = known.is_some();
                        key.queue.wake_all();
                    }
                    return true;
                }
                unknown
            };
            for (place, known) in unknown {
                match window.push(known).await {
                    Ok(left) => self.lock().keys[place].heard(left, Instant::now()),
                    Err(Gone::Silent) => return false,
                    Err(Gone::Refused) => {
                        self.lock().refused(Instant::now());
                        return false;
                    }
                }
            }
        }
    }

    /// Tells the window of the keys that came while it was relied on, or are wanted again, with what counts for them.
    /// False where it did not hear.
    async fn introduce(&self, window: &dyn Window) -> bool {
        loop {
            let next = {
                let mut state = self.lock();
                let now = Instant::now();
                let State { keys, numbers, .. } = &mut *state;
                let mut keys = keys.iter_mut().enumerate();
                keys.find(|(_, key)| !key.introduced && key.is_wanted()).map(|(place, key)| {
                    let departures = key.departures(&HashSet::new(), now);
                    let replica = Some(numbers.replica());
                    (place, Known { replica, ..self.known(key, departures, now) })
                })
            };
            let Some((place, known)) = next else { return true };
            match window.push(known).await {
                Ok(left) => {
                    let mut state = self.lock();
                    let key = &mut state.keys[place];
                    key.heard(left, Instant::now());
                    key.introduced = true;
                    key.queue.wake_all();
                }
                Err(Gone::Silent) => return false,
                Err(Gone::Refused) => {
                    self.lock().refused(Instant::now());
                    return false;
                }
            }
        }
    }

    /// Asks what is left, since something that was said was not heard.
    async fn ask_anew(&self, window: &dyn Window) {
        let asks: Vec<(usize, Known)> = {
            let mut state = self.lock();
            let now = Instant::now();
            state.keys.iter_mut().for_each(|key| key.share.missed(now));
            let introduced = state.keys.iter().enumerate().filter(|(_, key)| key.introduced);
            introduced.map(|(place, key)| (place, self.known(key, Vec::new(), now))).collect()
        };
        for (place, ask) in asks {
            // Where there is no answer, nothing is left until more is said.
            if let Ok(left) = window.push(ask).await {
                self.lock().keys[place].told(left, Instant::now());
            }
        }
    }

    fn known(&self, key: &Key, departures: Vec<Departure>, now: Instant) -> Known {
        let (limit, pause) = (key.share.limit(), key.pause.left(now));
        Known { budget: key.name, limit, aloft: self.aloft, pause, replica: None, departures }
    }
}

/// Waits for a change, and leaves it to be seen.
async fn changed(link: &watch::Receiver<replicas::State>) -> Result<(), watch::error::RecvError> {
    let mut link = link.clone();
    link.changed().await
}

impl Key {
    /// Whether anybody has it, or waits for a turn with it.
    fn is_wanted(&self) -> bool {
        self.held || self.queue.len() > 0
    }

    /// What counts and is not known to the window.
    fn departures(&mut self, known: &HashSet<Slot>, now: Instant) -> Vec<Departure> {
        self.log.used(now);
        let unknown = self.log.slots().filter(|(slot, _)| !known.contains(slot));
        let departure = |(slot, free): (Slot, Option<Instant>)| {
            let frees = free.map(|free| free.saturating_duration_since(now).min(MINUTE));
            Departure { slot, frees }
        };
        unknown.map(departure).collect()
    }

    /// All replicas were told what is left.
    fn told(&mut self, left: Left, now: Instant) {
        self.heard(left, now);
        let waited = self.full != [None; 2] || self.probing.is_some();
        self.probing = None;
        for (lane, reserve) in [0, self.reserve].into_iter().enumerate() {
            if left.slots > reserve {
                self.full[lane] = None;
            }
        }
        if let Some((_, bell)) = self.queue.first().filter(|_| waited) {
            bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
