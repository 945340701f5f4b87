//! Who waits for one key: in order of lanes, and first come first served within one. Pure but for the bell that wakes
//! a waiter.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Notify;

use super::Lane;

/// A place in the queue. Smaller is earlier.
pub(super) type Ticket = (Lane, u64);

/// The queue of one key.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Ticket, Arc<Notify>>,
}

impl Queue {
    /// Takes a place at the end of a lane, with the bell that is rung when it is worth looking again. Numbers only grow.
    pub(super) fn enter(&mut self, lane: Lane, number: u64) -> (Ticket, Arc<Notify>) {
        let ticket = (lane, number);
        let bell = Arc::new(Notify::new());
        self.waiting.insert(ticket, Arc::clone(&bell));
        (ticket, bell)
    }

    /// Leaves the queue, served or not.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// How many are before this place; all of a lane's, for who has none yet.
    pub(super) fn ahead_of(&self, lane: Lane, ticket: Option<Ticket>) -> usize {
        self.waiting.range(..ticket.unwrap_or((lane, u64::MAX))).count()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Who is first, with the bell.
    pub(super) fn first(&self) -> Option<(Ticket, &Notify)> {
        self.waiting.first_key_value().map(|(ticket, bell)| (*ticket, &**bell))
    }

    /// Wakes everybody: something has changed for all.
    pub(super) fn wake_all(&self) {
        self.waiting.values().for_each(|bell| bell.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_go_before_time_and_time_before_nothing() {
        let mut queue = Queue::default();
        let warm = queue.enter(Lane::Warm, 1).0;
        let wait = queue.enter(Lane::Wait, 2).0;
        let first = queue.enter(Lane::Lookup, 3).0;
        let second = queue.enter(Lane::Lookup, 4).0;
        let ahead = |queue: &Queue, ticket: Ticket| queue.ahead_of(ticket.0, Some(ticket));
        assert_eq!([first, second, wait, warm].map(|t| ahead(&queue, t)), [0, 1, 2, 3]);
        assert_eq!(queue.ahead_of(Lane::Lookup, None), 2);
        assert_eq!(queue.ahead_of(Lane::Wait, None), 3);
        queue.leave(first);
        assert_eq!([second, wait, warm].map(|t| ahead(&queue, t)), [0, 1, 2]);
        assert_eq!(queue.len(), 3);
    }
}
