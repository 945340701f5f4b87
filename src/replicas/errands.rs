//! What is posted to Redis: scripts whose answer nobody waits for, sent in the order of posting.
//!
//! They are sent without waiting for the answers to those before, or a Redis that is a millisecond away would be told a
//! thousand things a second. All go over one connection, so Redis runs them in that order all the same: what is kept of
//! a call is there before its lease is free. Only where Redis forgot a script (`SCRIPT FLUSH`) is that one sent again
//! behind others, and nothing relies on order alone: what is kept, removed and erased carries stamps that Redis compares,
//! for the words of several replicas come in no order either.
//!
//! Promised: posting never waits, and no more than [`ROOM`] of them lie ready, of [`ROOM_BYTES`] in all with those that
//! are under way. What is too much, and what is posted while Redis is gone, is dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Script, exchange::Exchange};

/// As many may lie ready: half a second of what a busy Redis takes. Each is a kilobyte with its names, beside its value.
const ROOM: usize = 16 << 10;

/// Keys and arguments may be so long together.
const ROOM_BYTES: usize = 64 << 20;

/// As many may be under way: enough to keep a Redis busy that is a millisecond away. More would bring nothing, and where
/// many replicas do so at once, the last of all these answers must come within the limit of a call.
const UNDER_WAY: usize = 32;

/// No further one sets out while those under way are so long together: a lookup's question waits behind them, for two
/// milliseconds at a gigabit.
const UNDER_WAY_BYTES: usize = 256 << 10;

/// The way in.
pub(super) struct Errands {
    queue: mpsc::Sender<Errand>,
    /// Of what is not done yet.
    bytes: Arc<AtomicUsize>,
    dropped: AtomicU64,
}

/// The way out, for the task that runs them.
pub(super) struct Waiting {
    queue: mpsc::Receiver<Errand>,
    bytes: Arc<AtomicUsize>,
}

enum Errand {
    Run {
        script: Script,
        keys: Vec<Vec<u8>>,
        arguments: Vec<Vec<u8>>,
    },
    /// Says when all before it are done.
    Mark(oneshot::Sender<()>),
}

impl Errands {
    pub(super) fn new() -> (Self, Waiting) {
        let (queue, waiting) = mpsc::channel(ROOM);
        let bytes = Arc::<AtomicUsize>::default();
        let waiting = Waiting { queue: waiting, bytes: Arc::clone(&bytes) };
        (Self { queue, bytes, dropped: AtomicU64::new(0) }, waiting)
    }

    /// Puts one at the end. Whether there was room for it.
    pub(super) fn put(&self, script: Script, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>>) -> bool {
        let length = length(&keys, &arguments);
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        let put = before.saturating_add(length) <= ROOM_BYTES
            && self.queue.try_send(Errand::Run { script, keys, arguments }).is_ok();
        if !put {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        put
    }

    /// As many found no room since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all that were put before are done, but not longer than this.
    pub(super) async fn done(&self, limit: Duration) {
        let (mark, done) = oneshot::channel();
        let wait = async {
            if self.queue.send(Errand::Mark(mark)).await.is_ok() {
                drop(done.await);
            }
        };
        drop(timeout(limit, wait).await);
    }
}

impl Waiting {
    /// Runs them as they come, until the way in is gone.
    pub(super) async fn run(mut self, exchange: Arc<Exchange>) {
        // In order, so that a mark comes up when all before it are done.
        let mut under_way = FuturesOrdered::new();
        let (mut bytes, mut open) = (0, true);
        loop {
            let room = under_way.len() < UNDER_WAY && bytes < UNDER_WAY_BYTES;
            // Those under way first, so that each is sent before the next one is taken up.
            tokio::select! {
                biased;
                Some(done) = under_way.next(), if !under_way.is_empty() => match done {
                    Done::Ran(length) => {
                        bytes -= length;
                        self.bytes.fetch_sub(length, Ordering::Relaxed);
                    }
                    Done::Reached(mark) => drop(mark.send(())),
                },
                errand = self.queue.recv(), if open && room => match errand {
                    Some(errand) => {
                        bytes += errand.length();
                        under_way.push_back(errand.run(&exchange));
                    }
                    None => open = false,
                },
                else => return,
            }
        }
    }
}

/// What became of one that was under way.
enum Done {
    /// It took up so much room.
    Ran(usize),
    Reached(oneshot::Sender<()>),
}

impl Errand {
    async fn run(self, exchange: &Exchange) -> Done {
        let taken = self.length();
        match self {
            Self::Run { script, keys, arguments } => {
                // Nobody waits for what it says, and the exchange has heard of a failure.
                drop(exchange.run(&script, &keys, &arguments).await);
                Done::Ran(taken)
            }
            Self::Mark(mark) => Done::Reached(mark),
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Run { keys, arguments, .. } => length(keys, arguments),
            Self::Mark(_) => 0,
        }
    }
}

fn length(keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> usize {
    keys.iter().chain(arguments).map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_is_dropped_and_counted() {
        let (errands, waiting) = Errands::new();
        let put = |_| errands.put(Script::new("return 1"), Vec::new(), Vec::new());
        assert!((0..ROOM).all(put));
        assert!(!put(0) && !put(0));
        assert_eq!(errands.dropped(), 2);
        // With Redis gone they are dropped without waiting for anything.
        let task = tokio::spawn(waiting.run(Arc::new(Exchange::new(Duration::from_millis(50)))));
        errands.done(Duration::from_secs(1)).await;
        assert!(errands.put(Script::new("return 1"), Vec::new(), Vec::new()));
        drop(errands);
        task.await.expect("the task ends with the way in");
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_a_matter_of_length_too() {
        let (errands, waiting) = Errands::new();
        let put = |length| errands.put(Script::new("return 1"), Vec::new(), vec![vec![0; length]]);
        assert!((0..16).all(|_| put(4 << 20)), "as much as there is room for");
        assert!(!put(1) && put(0));
        assert_eq!(errands.dropped(), 1);
        let task = tokio::spawn(waiting.run(Arc::new(Exchange::new(Duration::from_millis(50)))));
        errands.done(Duration::from_secs(1)).await;
        assert!(put(ROOM_BYTES), "what is done takes up no room");
        drop(errands);
        task.await.expect("the task ends with the way in");
    }
}
