//! Plays: tasks that shuttle steps through one interleaving after another, from the beginning each time.
//!
//! A play is over when all its tasks have ended. Where one never does, shuttle says *deadlock*, which is how a caller that
//! hangs, or a bell that was not heard, comes to light.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use futures_util::FutureExt as _;
use shuttle::{
    future::{JoinHandle, block_on, yield_now},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{rand, time};

thread_local! {
    /// Tasks that have not ended.
    static LIVE: Cell<usize> = const { Cell::new(0) };
    /// Rings when the last of them has, or when somebody goes to sleep.
    static STIRRED: RefCell<Arc<tokio::sync::Notify>> = RefCell::default();
}

/// Whether time passes in a play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Nobody who sleeps ever wakes: whoever gets on does so because another woke it.
    Stands,
    /// It may be late at any moment.
    Passes,
}

/// What a task panics with that is to panic.
struct OnPurpose;

/// One of the tasks of a play.
struct Live;

impl Live {
    fn new() -> Self {
        LIVE.set(LIVE.get() + 1);
        Self
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
        stir();
    }
}

/// A task that may be ended before it is done.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Ends it where it waits next, unless it is over before.
    pub fn abort(&self) {
        self.0.abort();
    }
}

/// Lets any other task come first.
pub fn point() {
    let here = AtomicBool::new(false);
    let _ = here.load(Ordering::SeqCst);
}

/// Lets other tasks run.
pub async fn pause() {
    yield_now().await;
}

/// A number below `most` that is another in each schedule.
#[must_use]
pub fn choose(most: usize) -> usize {
    use shuttle::rand::Rng as _;
    shuttle::rand::thread_rng().gen_range(0..most)
}

/// `tokio::spawn`. A panic that is on purpose ends the task and no more.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Task {
    let live = Live::new();
    Task(shuttle::future::spawn(async move {
        let _live = live;
        match AssertUnwindSafe(task).catch_unwind().await {
            Ok(()) => {}
            Err(panic) if panic.is::<OnPurpose>() => {}
            Err(panic) => resume_unwind(panic),
        }
    }))
}

/// A task that goes on for ever, and is not waited for.
pub fn spawn_for_ever(task: impl Future<Output = ()> + Send + 'static) {
    drop(shuttle::future::spawn(task));
}

/// Panics.
pub fn panic_on_purpose() {
    resume_unwind(Box::new(OnPurpose));
}

/// Plays: `begin` spawns the tasks, and `end` looks at what they left behind.
pub fn play<W>(time: Time, begin: impl FnOnce() -> W, end: impl FnOnce(W)) {
    LIVE.set(0);
    STIRRED.set(Arc::default());
    time::reset();
    rand::reset();
    fastrand::seed(1);
    let world = begin();
    block_on(async {
        while LIVE.get() > 0 {
            let stirred = STIRRED.with_borrow(Arc::clone);
            if time == Time::Stands || !time::pass() {
                stirred.notified().await;
            }
            yield_now().await;
        }
    });
    end(world);
}

/// Something happened that whoever lets time pass wants to know.
pub(crate) fn stir() {
    STIRRED.with_borrow(Arc::clone).notify_one();
}
