//! Which budgets there are: one for each key that was held since the start, for the vendor counts by key.
//!
//! A key is known by a digest, so that none is kept longer than it is used. Groups are only ever added: a key that comes
//! back finds its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ApiKey;

/// What the digests are for.
const PURPOSE: &[u8] = b"callgate budget group 1";

/// One key's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyGroup {
    /// What stands for the key.
    pub key: [u8; 16],
    /// The limit that a workspace states which came to hold the key, in requests per minute.
    pub limit: Option<u32>,
    /// The group of the key in whose place this one was put, if it was: what was sent with that a moment ago may be counted
    /// for the customer that both belong to.
    pub after: Option<usize>,
}

/// The groups, in the order in which their keys were first held.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<Vec<KeyGroup>>);

impl Groups {
    /// The group of a key that is there from the start. A limit that was not stated yet is.
    pub(super) fn begin(&self, key: &ApiKey, limit: Option<u32>) -> usize {
        let mut groups = self.lock();
        let place = find_or_add(&mut groups, key, limit, None);
        groups[place].limit = groups[place].limit.or(limit);
        place
    }

    /// The group of a key that takes the place of another one's.
    pub(super) fn take_over(&self, key: &ApiKey, from: usize) -> usize {
        let mut groups = self.lock();
        let limit = groups.get(from).and_then(|group| group.limit);
        find_or_add(&mut groups, key, limit, Some(from))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<KeyGroup> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<KeyGroup>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find_or_add(groups: &mut Vec<KeyGroup>, key: &ApiKey, limit: Option<u32>, after: Option<usize>) -> usize {
    let key = key.digest(PURPOSE);
    groups.iter().position(|group| group.key == key).unwrap_or_else(|| {
        groups.push(KeyGroup { key, limit, after });
        groups.len() - 1
    })
}
