//! Room for one more: which connection leaves when an endpoint is full and somebody waits.
//!
//! The one that has been unused longest, as nginx does it: a silent one since its accept, one that was used since its
//! last answer. Knows when each was last used, and nothing of sockets. Promises: a connection with a request under way,
//! or with a part of one, is never told to leave; one that was used a moment ago is not either; as long as there is
//! room, all this costs is a few words a connection.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

use super::watch::Activity;

/// How long a connection has to be unused before it is told to leave: who has just connected is about to send its
/// request, and who has just been answered may be about to send the next one. Short, since whoever keeps all connections
/// busy with nothing makes everybody wait for this long.
const MOMENT: Duration = Duration::from_millis(20);

/// The connections of one endpoint. Belongs to the task that accepts them.
pub(super) struct Room {
    slots: Arc<Semaphore>,
    /// Those that may be open, and some that have ended since.
    open: Vec<Weak<Activity>>,
    /// Connections that were unused at the last look, and since when: the last one for longest.
    unused: Vec<(Instant, Weak<Activity>)>,
}

impl Room {
    /// For an endpoint with as many connections as there are `slots`.
    pub(super) fn new(slots: Arc<Semaphore>) -> Self {
        Self { slots, open: Vec::new(), unused: Vec::new() }
    }

    /// A connection was accepted.
    pub(super) fn add(&mut self, activity: &Arc<Activity>) {
        // As seldom as it is worth it: a connection that ends tells nobody.
        if self.open.len() == self.open.capacity() {
            self.open.retain(|open| open.strong_count() > 0);
            self.open.reserve(self.open.len().max(32));
        }
        self.open.push(Arc::downgrade(activity));
    }

    /// Waits for a slot, and tells those that can be done without to leave until there is one. `None` where there will
    /// never be one.
    pub(super) async fn make(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        let slots = Arc::clone(&self.slots);
        let mut freed = std::pin::pin!(slots.acquire_owned());
        loop {
            let pause = self.dismiss(Instant::now());
            tokio::select! {
                biased;
                slot = &mut freed => return slot.ok(),
                // One that was told may have got a request meanwhile, or be slow to leave.
                () = sleep(pause) => {}
            }
        }
    }

    /// Tells the connection that has been unused longest to leave, if there is one; when to look again.
    fn dismiss(&mut self, now: Instant) -> Duration {
        let mut looked = false;
        loop {
            while let Some((since, unused)) = self.unused.pop() {
                // What has been used since the look is younger than all that have not.
                let Some(activity) = unused.upgrade().filter(|a| a.unused_since() == Some(since)) else {
                    continue;
                };
                let young = (since + MOMENT).saturating_duration_since(now);
                if young > Duration::ZERO {
                    self.unused.push((since, unused));
                    return young;
                }
                activity.dismiss(since);
                return MOMENT;
            }
            if looked {
                // All are busy. A look takes well below a microsecond for each.
                return MOMENT + Duration::from_micros(self.open.len() as u64);
            }
            self.look();
            looked = true;
        }
    }

    /// Notes who is unused. Each look serves as many dismissals as there are.
    fn look(&mut self) {
        self.open.retain(|open| open.strong_count() > 0);
        let unused =
            self.open.iter().filter_map(|open| Some((open.upgrade()?.unused_since()?, open.clone())));
        self.unused = unused.collect();
        self.unused.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
    }
}
