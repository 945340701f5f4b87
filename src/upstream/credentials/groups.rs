//! Which budgets there are: one for each key that was held since the start, for the vendor counts by key.
//!
//! A key is known by a digest, so that none is kept longer than it is used. Groups are only ever added, for a key that
//! comes back finds its own: that is a few hundred bytes for each key that was ever held, here and at the gate.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ApiKey;

/// What the digests are for.
const PURPOSE: &[u8] = b"callgate budget group 1";

/// One key's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyGroup {
    /// What stands for the key.
    pub key: [u8; 16],
    /// Its limit in requests per minute, where one is stated: the least of those that it began with, and that
    /// workspaces state which hold the key now.
    pub limit: Option<u32>,
    /// The group of the key in whose place this one was put, if it was: what was sent with that a moment ago may be counted
    /// for the customer that both belong to.
    pub after: Option<usize>,
    /// Whether any workspace holds the key now.
    pub held: bool,
}

/// The groups, in the order in which their keys were first held.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    groups: Vec<KeyGroup>,
    /// The limit that each group began with.
    begun: Vec<Option<u32>>,
    /// The workspaces, in their order.
    holders: Vec<Holder>,
}

/// A workspace.
#[derive(Clone, Copy, Debug)]
struct Holder {
    /// The limit that it states for its key, whichever that is.
    states: Option<u32>,
    group: usize,
}

impl Groups {
    /// The group of a key that the next workspace has from the start. A limit that was not stated yet is.
    pub(super) fn begin(&self, key: &ApiKey, states: Option<u32>) -> usize {
        let mut book = self.lock();
        let group = book.find_or_add(key, states, None);
        book.begun[group] = book.begun[group].or(states);
        book.holders.push(Holder { states, group });
        book.look(group);
        group
    }

    /// The group of a key that takes the place of the one that this workspace has had. Where the workspace states no
    /// limit, a key that is new begins with that of the one before: who else has that may have stated it for both.
    pub(super) fn take_over(&self, key: &ApiKey, workspace: usize) -> usize {
        let mut book = self.lock();
        let Holder { states, group: from } = book.holders[workspace];
        let limit = states.or(book.groups[from].limit);
        let group = book.find_or_add(key, limit, Some(from));
        book.holders[workspace].group = group;
        book.look(from);
        book.look(group);
        group
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<KeyGroup> {
        self.lock().groups.clone()
    }

    /// The limit of one of them.
    pub(super) fn limit(&self, group: usize) -> Option<u32> {
        self.lock().groups.get(group).and_then(|group| group.limit)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn find_or_add(&mut self, key: &ApiKey, limit: Option<u32>, after: Option<usize>) -> usize {
        let key = key.digest(PURPOSE);
        self.groups.iter().position(|group| group.key == key).unwrap_or_else(|| {
            self.groups.push(KeyGroup { key, limit, after, held: false });
            self.begun.push(limit);
            self.groups.len() - 1
        })
    }

    /// Looks who holds a group's key now. Two files may come to hold one key for which their workspaces state different
    /// limits. Nobody knows which of them holds, and the lesser does no harm.
    fn look(&mut self, group: usize) {
        let holders = || self.holders.iter().filter(|holder| holder.group == group);
        let (held, stated) = (holders().next().is_some(), holders().filter_map(|holder| holder.states));
        let limit = stated.chain(self.begun[group]).min();
        (self.groups[group].held, self.groups[group].limit) = (held, limit);
    }
}
