//! The gate: who asks, waits, leaves, sends, is answered or not, beside each other.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use stage::{
    plain::{AtomicUsize, Mutex},
    play::{Time, choose, pause, play, spawn, spawn_for_ever},
    sync::atomic::Ordering::SeqCst,
    time::{Instant, leap},
};

use super::{
    Lane, Settings, Ties,
    gate::{Gate, Group, Permit, Report},
    log::MINUTE,
    rehearsal::scripted::{Server, together},
    window::{Name, Window},
};
use crate::upstream::breaker::Health;

const LANES: [Lane; 3] = [Lane::Lookup, Lane::Wait, Lane::Warm];

const fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// What is set up.
#[derive(Clone, Copy, Debug)]
struct Terms {
    limit: u32,
    reserve: u32,
    connections: usize,
    queue: usize,
}

impl Terms {
    fn settings(self) -> Settings {
        Settings {
            requests_per_minute: self.limit,
            replicas_fallback: None,
            reserve: Some(self.reserve),
            queue_timeout: seconds(2),
            queue_length: self.queue,
        }
    }
}

/// Nobody is so late that a request takes longer.
const LONGEST: Duration = seconds(36_000);

/// A gate, and the vendor behind it.
struct World {
    gate: Arc<Gate>,
    terms: Terms,
    vendor: Arc<Vendor>,
}

/// When the vendor counted requests.
#[derive(Default)]
struct Vendor {
    counted: Mutex<Vec<Instant>>,
}

impl World {
    fn new(terms: Terms, ties: Ties, vendor: &Arc<Vendor>) -> Arc<Self> {
        let groups = [Group { name: Name([7; 16]), limit: None, after: None, held: true }];
        let gate = Arc::new(Gate::new(&terms.settings(), &groups, terms.connections, LONGEST, ties));
        Arc::new(Self { gate, terms, vendor: Arc::clone(vendor) })
    }

    fn alone(terms: Terms) -> Arc<Self> {
        Self::new(terms, Ties::default(), &Arc::default())
    }

    async fn ask(&self, lane: Lane, patience: Duration) -> Option<Permit> {
        self.gate.permit(0, lane, Instant::now() + patience).await.ok()
    }

    /// A permit that is there at once.
    fn ask_now(&self) -> Option<Permit> {
        self.ask(Lane::Lookup, Duration::ZERO).now_or_never().flatten()
    }

    /// Nobody waits, and what counts is what the vendor may have counted; each connection is free.
    fn all_is_given_back(&self, counts: usize) {
        let key = self.gate.keys(Instant::now())[0];
        assert_eq!(key.waiting, 0, "a place in the queue was kept");
        assert_eq!(key.remaining, self.terms.limit as usize - counts, "a slot was kept");
        let free = self.terms.connections.min(key.remaining);
        let permits: Vec<_> = (0..free).map_while(|_| self.ask_now()).collect();
        assert_eq!(permits.len(), free, "a connection was kept");
    }
}

/// A request from its permit to its end. The vendor counts it somewhere in between.
struct UnderWay {
    vendor: Arc<Vendor>,
    departed: Instant,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let at = if choose(2) == 0 { self.departed } else { Instant::now() };
        self.vendor.counted.lock().expect("nobody panics with it").push(at);
    }
}

/// What becomes of a permit.
#[derive(Clone, Copy, Debug)]
enum Fate {
    NeverSent,
    /// Sent by a task that then ended.
    Lost,
    Answered(Health, Option<Duration>),
    Rejected,
}

fn answered(health: Health, limited: Option<Duration>, rejected: bool) -> Report {
    Report { answered: Some(Instant::now()), health, rejected, limited }
}

async fn request(vendor: Arc<Vendor>, mut permit: Permit, fate: Fate) {
    pause().await;
    if let Fate::NeverSent = fate {
        return drop(permit);
    }
    permit.sent();
    let under_way = UnderWay { vendor, departed: Instant::now() };
    pause().await;
    if choose(2) == 0 {
        tokio::time::sleep(seconds(choose(8) as u64)).await;
    }
    let report = match fate {
        Fate::NeverSent | Fate::Lost => None,
        Fate::Answered(health, limited) => Some(answered(health, limited, false)),
        Fate::Rejected => Some(answered(Health::Alive, None, true)),
    };
    // It was counted before the answer began.
    drop(under_way);
    match report {
        Some(report) => permit.spend(report),
        None => drop(permit),
    }
}

/// Time stands, so nobody can be told to come later: all who stay get their turn from those before them.
pub(crate) fn woken() {
    let begin = || {
        let many = Terms { limit: 60, reserve: 20, connections: 1 + choose(2), queue: 100 };
        let few =
            Terms { limit: 2 + choose(2) as u32, reserve: choose(2) as u32, connections: 16, queue: 100 };
        let (terms, fates) = if choose(2) == 0 { (many, 2) } else { (few, 1) };
        let (world, spent) = (World::alone(terms), Arc::new(AtomicUsize::new(0)));
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let (world, spent) = (Arc::clone(&world), Arc::clone(&spent));
                let (lane, fate) = (LANES[choose(3)], choose(fates));
                spawn(async move {
                    let permit = world.ask(lane, 10 * MINUTE).await.expect("nothing stands in the way");
                    pause().await;
                    if fate == 1 {
                        spent.fetch_add(1, SeqCst);
                        permit.spend(answered(Health::Alive, None, false));
                    }
                })
            })
            .collect();
        spawn(async move {
            for asker in askers.into_iter().take(choose(3)) {
                for _ in 0..choose(4) {
                    pause().await;
                }
                asker.abort();
            }
        });
        (world, spent)
    };
    play(Time::Stands, begin, |(world, spent)| world.all_is_given_back(spent.load(SeqCst)));
}

/// The same of two, one of whom leaves, and of one connection.
pub(crate) fn one_connection() {
    let begin = || {
        let world = World::alone(Terms { limit: 60, reserve: 0, connections: 1, queue: 100 });
        let ask = |world: &Arc<World>| {
            let world = Arc::clone(world);
            spawn(async move {
                let permit = world.ask(Lane::Lookup, 10 * MINUTE).await.expect("nothing stands in the way");
                pause().await;
                drop(permit);
            })
        };
        let leaves = ask(&world);
        ask(&world);
        leaves.abort();
        world
    };
    play(Time::Stands, begin, |world| world.all_is_given_back(0));
}

/// A pause has just ended. One goes ahead, and by what becomes of it the others follow, or the next goes ahead.
pub(crate) fn probes() {
    let begin = || {
        let world = World::alone(Terms { limit: 60, reserve: 0, connections: 16, queue: 100 });
        let limited = world.ask_now().expect("the first");
        limited.spend(answered(Health::Alive, Some(seconds(5)), false));
        leap(seconds(7));
        let ahead = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(AtomicUsize::new(0));
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let (world, ahead, answers) = (Arc::clone(&world), Arc::clone(&ahead), Arc::clone(&answers));
                let (lane, is_answered) = (LANES[choose(3)], choose(2) == 0);
                spawn(async move {
                    let permit = world.ask(lane, 10 * MINUTE).await.expect("nothing stands in the way");
                    if answers.load(SeqCst) == 0 {
                        assert_eq!(ahead.fetch_add(1, SeqCst), 0, "two went ahead");
                        let _ahead = Leaves(Arc::clone(&ahead));
                        pause().await;
                    }
                    if is_answered {
                        answers.fetch_add(1, SeqCst);
                        permit.spend(answered(Health::Alive, None, false));
                    }
                })
            })
            .collect();
        spawn(async move {
            pause().await;
            for asker in askers.iter().take(choose(3)) {
                asker.abort();
                pause().await;
            }
        });
        world
    };
    play(Time::Stands, begin, |world| {
        assert_eq!(world.gate.keys(Instant::now())[0].waiting, 0, "a place in the queue was kept");
    });
}

/// Counts down when it goes.
struct Leaves(Arc<AtomicUsize>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn fate() -> Fate {
    match choose(8) {
        0 => Fate::NeverSent,
        1 => Fate::Lost,
        2 => Fate::Answered(Health::Alive, Some(seconds(1 + choose(90) as u64))),
        3 => Fate::Answered(Health::Failing, None),
        4 => Fate::Rejected,
        _ => Fate::Answered(Health::Alive, None),
    }
}

/// Asks a few times in a row, as patient as it happens.
async fn caller(world: Arc<World>) {
    for _ in 0..3 {
        let patience = [0, 30, 70, 200][choose(4)];
        if let Some(permit) = world.ask(LANES[choose(3)], seconds(patience)).await {
            request(Arc::clone(&world.vendor), permit, fate()).await;
        }
    }
}

/// No minute holds more than so many of what the vendor counted.
fn within(vendor: &Vendor, limit: usize) {
    let mut counted = vendor.counted.lock().expect("nobody panics with it").clone();
    counted.sort_unstable();
    for (first, begin) in counted.iter().enumerate() {
        let minute = counted[first..].iter().take_while(|at| **at - *begin < MINUTE).count();
        assert!(minute <= limit, "{minute} in the minute from {begin:?}, of {limit}: {counted:?}");
    }
}

/// Time passes, requests end in all ways, callers leave, and the settings change back and forth.
pub(crate) fn minutes() {
    let begin = || {
        let connections = 1 + choose(3);
        let world =
            World::alone(Terms { limit: 3, reserve: choose(2) as u32, connections, queue: 1 + choose(3) });
        let callers: Vec<_> = (0..4).map(|_| spawn(caller(Arc::clone(&world)))).collect();
        let changing = Arc::clone(&world);
        spawn(async move {
            for caller in callers.into_iter().take(choose(3)) {
                for _ in 0..choose(8) {
                    pause().await;
                }
                caller.abort();
            }
            for limit in [2, 3] {
                let settings = Terms { limit, ..changing.terms }.settings();
                changing.gate.change(&settings);
                pause().await;
            }
        });
        world
    };
    play(Time::Passes, begin, |world| {
        within(&world.vendor, 3);
        leap(10 * MINUTE);
        // What pauses or tries the circuit goes ahead.
        world.ask_now().expect("all is over").spend(answered(Health::Alive, None, false));
        world.all_is_given_back(1);
    });
}

/// Two gates that have just met at one window. Time stands, so what one gives back has to reach those who wait at the other.
pub(crate) fn window() {
    let begin = || {
        let (server, vendor) = (Server::new(), Arc::<Vendor>::default());
        let terms = Terms { limit: 1 + choose(2) as u32, reserve: 0, connections: 4, queue: 100 };
        let both = [(); 2].map(|()| {
            let line: Arc<dyn Window> = server.line(together(2));
            World::new(terms, Ties { window: Some(line), journal: None }, &vendor)
        });
        for world in &both {
            let attending = Arc::clone(&world.gate);
            spawn_for_ever(async move { attending.attend().await });
            let askers = [(); 2].map(|()| {
                let world = Arc::clone(world);
                spawn(async move {
                    let permit =
                        world.ask(Lane::Lookup, 10 * MINUTE).await.expect("nothing stands in the way");
                    pause().await;
                    drop(permit);
                })
            });
            if choose(2) == 0 {
                spawn(async move {
                    pause().await;
                    askers[0].abort();
                });
            }
        }
        both
    };
    play(Time::Stands, begin, |both| {
        for world in both {
            assert_eq!(world.gate.keys(Instant::now())[0].waiting, 0, "a place in the queue was kept");
        }
    });
}

/// Two gates and one window that says no.
pub(crate) fn replicas() {
    let begin = || {
        let (server, vendor) = (Server::new(), Arc::<Vendor>::default());
        let terms = Terms { limit: 3, reserve: 0, connections: 4, queue: 100 };
        for _ in 0..2 {
            let line: Arc<dyn Window> = server.line(together(2));
            let world = World::new(terms, Ties { window: Some(line), journal: None }, &vendor);
            let attending = Arc::clone(&world.gate);
            spawn_for_ever(async move { attending.attend().await });
            let callers: Vec<_> = (0..2).map(|_| spawn(caller(Arc::clone(&world)))).collect();
            spawn(async move {
                if choose(2) == 0 {
                    pause().await;
                    callers[0].abort();
                }
            });
        }
        if choose(3) == 0 {
            server.lose_answers(1);
        }
        vendor
    };
    play(Time::Passes, begin, |vendor| within(&vendor, 3));
}
