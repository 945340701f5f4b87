//! What is posted to Redis: scripts whose answer nobody waits for, run one after the other in the order of posting.
//!
//! Promised: posting never waits, and no more than [`ROOM`] of them lie ready, of [`ROOM_BYTES`] in all with the one
//! that is being run. What is too much, and what is posted while Redis is gone, is dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Script, exchange::Exchange};

/// As many may lie ready.
const ROOM: usize = 1024;

/// Keys and arguments may be so long together.
const ROOM_BYTES: usize = 64 << 20;

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
        while let Some(errand) = self.queue.recv().await {
            match errand {
                Errand::Run { script, keys, arguments } => {
                    // Nobody waits for what it says, and the exchange has heard of a failure.
                    drop(exchange.run(&script, &keys, &arguments).await);
                    self.bytes.fetch_sub(length(&keys, &arguments), Ordering::Relaxed);
                }
                Errand::Mark(done) => drop(done.send(())),
            }
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
