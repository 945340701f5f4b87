//! Flights: callers that join and leave, leaders that fail, purges that come in between.

use std::sync::{Arc, Mutex, PoisonError};

use stage::{
    plain::{self, AtomicUsize},
    play::{Time, choose, panic_on_purpose, pause, play, spawn},
    sync::atomic::Ordering::SeqCst,
};

use crate::lookup::flight::{Flights, Leader, Wish};

const KEY: u8 = 7;
const URGENT: Wish = Wish { urgent: true, kept: true };
const PATIENT: Wish = Wish { urgent: false, kept: false };

/// What callers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landing {
    /// What the vendor said: the version of the record.
    Answer(usize),
    Crashed,
}

fn crashed() -> Landing {
    Landing::Crashed
}

/// What a leader does at last.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Lands,
    IsDropped,
    Panics,
}

struct Sky {
    flights: Flights<u8, Landing>,
    /// Places that flights have in the queue for a permit.
    places: AtomicUsize,
    /// Flights that have their permit.
    paid: AtomicUsize,
    /// The version of the vendor's record.
    vendor: AtomicUsize,
    /// What is kept.
    store: Mutex<Option<usize>>,
    /// What was given before this version is forgotten.
    purged: AtomicUsize,
}

impl Sky {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flights: Flights::new(),
            places: AtomicUsize::new(0),
            paid: AtomicUsize::new(0),
            vendor: AtomicUsize::new(0),
            store: Mutex::new(Some(0)),
            purged: AtomicUsize::new(0),
        })
    }

    fn kept(&self) -> Option<usize> {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, version: Option<usize>) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }
}

/// Counts itself for as long as it lives.
struct One(plain::Arc<Sky>, fn(&Sky) -> &AtomicUsize);

impl One {
    fn of(sky: &Arc<Sky>, count: fn(&Sky) -> &AtomicUsize) -> (Self, usize) {
        (Self(Arc::clone(sky), count), count(sky).fetch_add(1, SeqCst) + 1)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, SeqCst);
    }
}

/// A flight as `lookup::fetch` flies it: a place in the queue, a permit, an answer.
async fn fly(sky: Arc<Sky>, leader: Leader<u8, Landing>, ending: Ending) {
    let permit = async {
        let _place = One::of(&sky, |sky| &sky.places);
        pause().await;
    };
    let Some((leader, ())) = leader.unless_deserted(permit).await else { return };
    let (paid, at_once) = One::of(&sky, |sky| &sky.paid);
    assert_eq!(at_once, 1, "two flights for one key ask the vendor");
    pause().await;
    drop(paid);
    match ending {
        Ending::Lands => leader.land(Landing::Answer(0)),
        Ending::IsDropped => drop(leader),
        Ending::Panics => panic_on_purpose(),
    }
}

async fn call(sky: Arc<Sky>, ending: Ending) {
    let (waiter, _) =
        sky.flights.join_or_start(&KEY, URGENT, crashed, |leader| fly(Arc::clone(&sky), leader, ending));
    assert!(waiter.landing().await.is_some(), "a caller was left on a flight that never landed");
}

fn nothing_is_left(sky: &Sky) {
    assert!(sky.flights.is_empty(), "a flight stayed behind");
    assert_eq!((sky.places.load(SeqCst), sky.paid.load(SeqCst)), (0, 0), "a place or a permit was kept");
}

/// Callers come and go, and leaders come to all kinds of ends.
pub(crate) fn landings() {
    let begin = || {
        let sky = Sky::new();
        let endings = [Ending::Lands, Ending::IsDropped, Ending::Panics];
        let callers: Vec<_> = (0..4).map(|_| spawn(call(Arc::clone(&sky), endings[choose(3)]))).collect();
        spawn(async move {
            for caller in callers.into_iter().take(choose(4)) {
                for _ in 0..choose(4) {
                    pause().await;
                }
                caller.abort();
            }
        });
        sky
    };
    play(Time::Stands, begin, |sky| nothing_is_left(&sky));
}

/// The same of two callers, of whom the first leaves.
pub(crate) fn two_callers() {
    let begin = || {
        let sky = Sky::new();
        let first = spawn(call(Arc::clone(&sky), Ending::Lands));
        spawn(call(Arc::clone(&sky), Ending::IsDropped));
        first.abort();
        sky
    };
    play(Time::Stands, begin, |sky| nothing_is_left(&sky));
}

/// A flight as `lookup::turn` lets it wait for its permit, in a lane that no turn comes to. Only who is in a hurry gets it on.
async fn fly_slowly(leader: Leader<u8, Landing>) {
    let leader = if leader.is_urgent() {
        leader
    } else {
        let hurried = leader.hurried();
        let permit = async {
            tokio::select! {
                biased;
                () = std::future::pending() => {}
                () = hurried => {}
            }
        };
        let Some((leader, ())) = leader.unless_deserted(permit).await else { return };
        assert!(leader.is_urgent(), "it was hurried for nobody");
        leader
    };
    assert!(leader.is_wanted(), "who is in a hurry has nothing against its being kept");
    leader.land(Landing::Answer(0));
}

async fn call_as(sky: Arc<Sky>, wish: Wish) {
    let (waiter, _) = sky.flights.join_or_start(&KEY, wish, crashed, fly_slowly);
    assert!(waiter.landing().await.is_some(), "a caller was left on a flight that never landed");
}

/// Patient callers and urgent ones.
pub(crate) fn hurry() {
    let begin = || {
        let sky = Sky::new();
        let patient: Vec<_> = (0..2).map(|_| spawn(call_as(Arc::clone(&sky), PATIENT))).collect();
        let urgent = Arc::clone(&sky);
        spawn(async move {
            for _ in 0..2 {
                call_as(Arc::clone(&urgent), URGENT).await;
            }
            // Who came after them waits in vain.
            patient.iter().for_each(stage::play::Task::abort);
        });
        spawn(call_as(Arc::clone(&sky), URGENT));
        sky
    };
    play(Time::Stands, begin, |sky| nothing_is_left(&sky));
}

/// The same of one each.
pub(crate) fn two_lanes() {
    let begin = || {
        let sky = Sky::new();
        let patient = spawn(call_as(Arc::clone(&sky), PATIENT));
        let urgent = Arc::clone(&sky);
        spawn(async move {
            call_as(urgent, URGENT).await;
            patient.abort();
        });
        sky
    };
    play(Time::Stands, begin, |sky| nothing_is_left(&sky));
}

/// A flight that looks into the further tiers, asks, keeps and lands, as `lookup::fetch` does.
async fn fetch(sky: Arc<Sky>, leader: Leader<u8, Landing>) {
    let found = sky.kept();
    let Some((leader, ())) = leader.unless_deserted(pause()).await else { return };
    let version = found.unwrap_or_else(|| sky.vendor.load(SeqCst));
    pause().await;
    let _ = leader.unless_purged(|| sky.keep(Some(version)));
    leader.land(Landing::Answer(version));
}

/// A lookup that finds what is kept, or one for which that lies too far away to be seen at once.
async fn look_up(sky: Arc<Sky>, near: bool) {
    let least = sky.purged.load(SeqCst);
    let version = match sky.kept().filter(|_| near) {
        Some(version) => version,
        None => {
            let (waiter, _) =
                sky.flights.join_or_start(&KEY, URGENT, crashed, |leader| fetch(Arc::clone(&sky), leader));
            match waiter.landing().await {
                Some(Landing::Answer(version)) => version,
                crashed => panic!("a caller got {crashed:?}"),
            }
        }
    };
    assert!(version >= least, "version {version} was seen after all before {least} were forgotten");
}

/// Forgets as `lookup::erase` does.
async fn purge(sky: Arc<Sky>) {
    let version = sky.vendor.fetch_add(1, SeqCst) + 1;
    let purge = sky.flights.purge(|key| *key == KEY);
    pause().await;
    sky.keep(None);
    pause().await;
    drop(purge);
    sky.purged.fetch_max(version, SeqCst);
}

fn nothing_old_is_kept(sky: &Sky) {
    let least = sky.purged.load(SeqCst);
    assert!(sky.kept().is_none_or(|version| version >= least), "what was forgotten is kept");
    nothing_is_left(sky);
}

/// Lookups, some of which leave, and two purges.
pub(crate) fn purges() {
    let begin = || {
        let sky = Sky::new();
        for _ in 0..2 {
            let sky = Arc::clone(&sky);
            spawn(async move {
                for _ in 0..3 {
                    look_up(Arc::clone(&sky), choose(2) == 0).await;
                }
            });
        }
        let leaves = spawn(look_up(Arc::clone(&sky), false));
        spawn(async move {
            pause().await;
            leaves.abort();
        });
        let first = Arc::clone(&sky);
        spawn(async move {
            purge(Arc::clone(&first)).await;
            look_up(first, choose(2) == 0).await;
        });
        spawn(purge(Arc::clone(&sky)));
        sky
    };
    play(Time::Stands, begin, |sky| nothing_old_is_kept(&sky));
}

/// One lookup beside one purge, and one right after that.
pub(crate) fn one_purge() {
    let begin = || {
        let sky = Sky::new();
        spawn(look_up(Arc::clone(&sky), false));
        let purging = Arc::clone(&sky);
        spawn(async move {
            purge(Arc::clone(&purging)).await;
            look_up(purging, true).await;
        });
        sky
    };
    play(Time::Stands, begin, |sky| nothing_old_is_kept(&sky));
}
