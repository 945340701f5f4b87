//! Coalescing: however many callers want one key at one time, one flight goes to the vendor, and all of them get its
//! landing, whether that may be kept or not.
//!
//! The leader is a task of its own, so that a caller who leaves takes nothing from the others. A flight that nobody
//! waits for any more may end early, but only in [`Leader::unless_deserted`], under the same lock under which callers
//! join: a caller joins a flight that lands, or none. A leader that panics or is dropped lands as an error.
//!
//! It knows neither what is fetched nor what an answer is: `L` is whatever lands.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};

/// The flights under way.
pub struct Flights<K, L> {
    // Only misses come here, a few a second at the vendor's pace, and the lock is held for a look into the map; by a
    // purge also while those that it marks finish what they are just keeping, which with Redis is a copy of each body.
    aloft: Arc<Mutex<Aloft<K, L>>>,
}

struct Aloft<K, L> {
    flights: HashMap<K, Arc<Flight<L>>>,
    /// The purges under way, by their numbers.
    purges: Vec<(u64, Box<Matches<K>>)>,
    next: u64,
}

type Matches<K> = dyn Fn(&K) -> bool + Send + Sync;

/// A purge under way: as long as this lives, flights for its keys are purged as they begin.
#[must_use = "flights that begin before the store is purged may bring back what they find there"]
pub struct Purge<K: Eq + Hash, L> {
    number: u64,
    aloft: Arc<Mutex<Aloft<K, L>>>,
}

struct Flight<L> {
    /// The latest news; the last of them is the landing.
    news: watch::Sender<Option<L>>,
    /// Whether a purge came since it began. Held while what it brings is being kept: see [`Leader::unless_purged`].
    purged: Mutex<bool>,
    /// Whether somebody waits who is to be served before those who only poll or warm.
    urgent: AtomicBool,
    /// Rings once when that comes to be so.
    hurry: Notify,
    /// Whether somebody waits who has nothing against the landing's being kept.
    wanted: AtomicBool,
}

/// What a caller wishes of a flight. The flight that it joins takes both over: it hurries if anybody is in a hurry,
/// and may be kept if anybody has nothing against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// To be served before those who only poll or warm.
    pub urgent: bool,
    /// That what lands may be kept.
    pub kept: bool,
}

/// Whose flight a caller is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// One that was started for it.
    Own,
    /// Another caller's.
    Another,
    /// Another's that was not urgent until this caller came.
    AndHurried,
}

/// A caller's place on a flight.
pub struct Waiter<L>(watch::Receiver<Option<L>>);

/// The flight's own end, held by the task that flies it.
pub struct Leader<K: Eq + Hash, L> {
    key: K,
    flight: Arc<Flight<L>>,
    aloft: Arc<Mutex<Aloft<K, L>>>,
    /// What lands if this is dropped in the air.
    crashed: fn() -> L,
    landed: bool,
}

impl<K: Eq + Hash + Clone, L: Clone> Flights<K, L> {
    /// No flights.
    #[must_use]
    pub fn new() -> Self {
        let aloft = Aloft { flights: HashMap::new(), purges: Vec::new(), next: 0 };
        Self { aloft: Arc::new(Mutex::new(aloft)) }
    }

    /// Joins the flight for `key`, or starts it and lets `fly` fly it in a task of its own.
    pub fn join_or_start<F>(
        &self,
        key: &K,
        wish: Wish,
        crashed: fn() -> L,
        fly: impl FnOnce(Leader<K, L>) -> F,
    ) -> (Waiter<L>, Joined)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (waiter, leader, joined) = self.join(key, wish, crashed);
        if let Some(leader) = leader {
            // In a box: the runtime moves a task several times until it lies where it runs, and once more at its end.
            tokio::spawn(Box::pin(fly(leader)));
        }
        (waiter, joined)
    }

    /// Joins the flight for `key`, or starts it. With the place comes the leader where the flight is new: whoever
    /// gets it must fly it. `crashed` is what lands if the leader never does.
    fn join(&self, key: &K, wish: Wish, crashed: fn() -> L) -> (Waiter<L>, Option<Leader<K, L>>, Joined) {
        let mut aloft = lock(&self.aloft);
        if let Some(flight) = aloft.flights.get(key) {
            flight.wanted.fetch_or(wish.kept, Ordering::SeqCst);
            let hurried = wish.urgent && !flight.urgent.swap(true, Ordering::SeqCst);
            if hurried {
                flight.hurry.notify_waiters();
            }
            let joined = if hurried { Joined::AndHurried } else { Joined::Another };
            return (Waiter(flight.news.subscribe()), None, joined);
        }
        let (news, place) = watch::channel(None);
        let flight = Arc::new(Flight {
            news,
            purged: Mutex::new(aloft.purges.iter().any(|(_, matches)| matches(key))),
            urgent: AtomicBool::new(wish.urgent),
            hurry: Notify::new(),
            wanted: AtomicBool::new(wish.kept),
        });
        aloft.flights.insert(key.clone(), Arc::clone(&flight));
        let (key, aloft) = (key.clone(), Arc::clone(&self.aloft));
        (Waiter(place), Some(Leader { key, flight, aloft, crashed, landed: false }), Joined::Own)
    }

    /// Gives news to those who wait for `key`, from another source than its flight.
    pub fn tell(&self, key: &K, news: L) {
        if let Some(flight) = lock(&self.aloft).flights.get(key) {
            flight.news.send_replace(Some(news));
        }
    }

    /// Marks the flights whose keys match as purged, those that begin until the purge ends too, and lets nobody join
    /// them when it has ended: whoever asks after a purge gets an answer from after it. To be called before the store is
    /// purged, and held until that is done. Waits for those that are just keeping what they brought.
    pub fn purge(&self, matches: impl Fn(&K) -> bool + Send + Sync + 'static) -> Purge<K, L> {
        let mut aloft = lock(&self.aloft);
        aloft.retire(&matches);
        let number = aloft.next;
        aloft.next += 1;
        aloft.purges.push((number, Box::new(matches)));
        Purge { number, aloft: Arc::clone(&self.aloft) }
    }

    /// How many flights are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.aloft).flights.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash + Clone, L: Clone> Default for Flights<K, L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: Clone> Waiter<L> {
    /// Waits for news of which `enough` says that they are; `None` only where the runtime ends before.
    pub async fn news(&mut self, enough: impl Fn(&L) -> bool) -> Option<L> {
        self.0.wait_for(|news| news.as_ref().is_some_and(&enough)).await.ok()?.clone()
    }

    /// Waits for any news: for the landing, where nothing is told before it.
    pub async fn landing(mut self) -> Option<L> {
        self.news(|_| true).await
    }

    /// The latest news.
    #[must_use]
    pub fn latest(&self) -> Option<L> {
        self.0.borrow().clone()
    }
}

impl<K: Eq + Hash, L> Leader<K, L> {
    /// Whether a purge came since the flight began: what it brings must not be kept.
    pub fn is_purged(&self) -> bool {
        *lock(&self.flight.purged)
    }

    /// Lets `keep` keep what the flight brings, unless a purge came since the flight began; `None` where one did. A purge
    /// that comes meanwhile waits, and empties the store afterwards: nothing from before it is found after it, not even
    /// for a moment. `keep` must not come back to the flights.
    pub fn unless_purged<T>(&self, keep: impl FnOnce() -> T) -> Option<T> {
        let purged = lock(&self.flight.purged);
        (!*purged).then(keep)
    }

    /// Waits for something for as long as anybody waits for the flight, which ends with `None` where nobody does any more.
    /// Until then whoever joins finds it where it is: what was waited for is not dropped before the flight has ended.
    pub async fn unless_deserted<T>(mut self, what: impl Future<Output = T>) -> Option<(Self, T)> {
        let mut what = pin!(what);
        loop {
            tokio::select! {
                biased;
                () = self.deserted() => match self.give_up() {
                    Ok(()) => return None,
                    Err(wanted) => self = wanted,
                },
                done = what.as_mut() => return Some((self, done)),
            }
        }
    }

    /// Waits until nobody waits for the flight. Somebody may join again right after.
    async fn deserted(&self) {
        self.flight.news.closed().await;
    }

    /// Whether somebody waits who is to be served before those who only poll or warm.
    pub fn is_urgent(&self) -> bool {
        self.flight.urgent.load(Ordering::SeqCst)
    }

    /// Whether what lands may be kept, as far as those who joined are concerned.
    pub fn is_wanted(&self) -> bool {
        self.flight.wanted.load(Ordering::SeqCst)
    }

    /// Waits until the flight is urgent; for ever, once it is over.
    pub fn hurried(&self) -> impl Future<Output = ()> + Send + use<K, L>
    where
        L: Send + Sync,
    {
        let flight = Arc::clone(&self.flight);
        async move {
            // Before the look: who is told in between is told all the same.
            let rung = flight.hurry.notified();
            if !flight.urgent.load(Ordering::SeqCst) {
                rung.await;
            }
        }
    }

    /// Tells those who wait, and flies on.
    pub fn tell(&self, news: L) {
        self.flight.news.send_replace(Some(news));
    }

    /// Ends the flight unless somebody waits for it, who then gets it back.
    ///
    /// # Errors
    /// The leader itself, where the flight must go on.
    fn give_up(mut self) -> Result<(), Self> {
        let mut aloft = lock(&self.aloft);
        if self.flight.news.receiver_count() > 0 {
            drop(aloft);
            return Err(self);
        }
        aloft.remove(&self.key, &self.flight);
        drop(aloft);
        self.landed = true;
        Ok(())
    }

    /// Lands: every waiter gets `landing`, and the next caller starts anew. What is to be found in the store must be
    /// there before.
    pub fn land(mut self, landing: L) {
        self.touch_down(landing);
    }

    fn touch_down(&mut self, landing: L) {
        self.landed = true;
        lock(&self.aloft).remove(&self.key, &self.flight);
        self.flight.news.send_replace(Some(landing));
    }
}

impl<K: Eq + Hash, L> Drop for Leader<K, L> {
    fn drop(&mut self) {
        if !self.landed {
            self.touch_down((self.crashed)());
        }
    }
}

impl<K: Eq + Hash, L> Aloft<K, L> {
    /// Takes this flight out of the map; one that has taken its place after a purge stays.
    fn remove(&mut self, key: &K, flight: &Arc<Flight<L>>) {
        if self.flights.get(key).is_some_and(|other| Arc::ptr_eq(other, flight)) {
            self.flights.remove(key);
        }
    }

    /// Marks the flights whose keys match as purged, and takes them out of the map.
    fn retire(&mut self, matches: &Matches<K>) {
        self.flights.retain(|key, flight| {
            let purge = matches(key);
            if purge {
                *lock(&flight.purged) = true;
            }
            !purge
        });
    }
}

impl<K: Eq + Hash, L> Drop for Purge<K, L> {
    fn drop(&mut self) {
        let mut aloft = lock(&self.aloft);
        if let Some(place) = aloft.purges.iter().position(|(number, _)| *number == self.number) {
            let (_, matches) = aloft.purges.swap_remove(place);
            aloft.retire(&*matches);
        }
    }
}

impl<K: Eq + Hash, L> fmt::Debug for Purge<K, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purge").finish_non_exhaustive()
    }
}

/// Nothing that is done under these locks leaves anything half done where it panics, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, L> fmt::Debug for Flights<K, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
