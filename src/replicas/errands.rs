//! What is posted to Redis: scripts whose answer nobody waits for, run one after the other in the order of posting.
//!
//! Promised: posting never waits, and no more than [`ROOM`] of them lie ready. What is too much, and what is posted
//! while Redis is gone, is dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Script, exchange::Exchange};

/// As many may lie ready.
pub(super) const ROOM: usize = 1024;

/// The way in.
pub(super) struct Errands {
    queue: mpsc::Sender<Errand>,
    dropped: AtomicU64,
}

/// The way out, for the task that runs them.
pub(super) struct Waiting(mpsc::Receiver<Errand>);

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
        (Self { queue, dropped: AtomicU64::new(0) }, Waiting(waiting))
    }

    /// Puts one at the end. Whether there was room for it.
    pub(super) fn put(&self, script: Script, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>>) -> bool {
        let put = self.queue.try_send(Errand::Run { script, keys, arguments }).is_ok();
        if !put {
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
        while let Some(errand) = self.0.recv().await {
            match errand {
                Errand::Run { script, keys, arguments } => {
                    // Nobody waits for what it says, and the exchange has heard of a failure.
                    drop(exchange.run(&script, &keys, &arguments).await);
                }
                Errand::Mark(done) => drop(done.send(())),
            }
        }
    }
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
}
