//! The removal of all that begins alike: which keys it is about, and what there was.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::oneshot;

use super::queue::Change;
use crate::store::namespace::digest;

/// How keys begin.
#[derive(Clone, Debug)]
pub(super) struct Prefixes(Arc<[Vec<u8>]>);

/// The [digests](digest) of the keys of what was there.
pub(super) type Swept = HashSet<u128>;

/// A removal of all that begins alike.
#[derive(Debug)]
pub(super) struct Sweep {
    prefixes: Prefixes,
    /// What waited to be written, and never will be.
    swept: Swept,
    /// What waited to be removed: it may be in the file, and was there for nobody.
    gone: HashSet<Vec<u8>>,
    done: oneshot::Sender<Swept>,
}

impl Prefixes {
    /// These.
    pub(super) fn new(prefixes: Vec<Vec<u8>>) -> Self {
        Self(prefixes.into())
    }

    /// Whether a key begins like one of them.
    pub(super) fn are_about(&self, key: &[u8]) -> bool {
        self.0.iter().any(|prefix| key.starts_with(prefix))
    }

    /// One after another.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl Sweep {
    /// A sweep, and where to hear that it is done.
    pub(super) fn new(prefixes: Prefixes) -> (Self, oneshot::Receiver<Swept>) {
        let (done, swept) = oneshot::channel();
        (Self { prefixes, swept: Swept::new(), gone: HashSet::new(), done }, swept)
    }

    /// Whether a key is to be swept.
    pub(super) fn is_about(&self, key: &[u8]) -> bool {
        self.prefixes.are_about(key)
    }

    /// How the keys begin that are to be swept.
    pub(super) fn prefixes(&self) -> Prefixes {
        self.prefixes.clone()
    }

    /// Stands for a change that waited.
    pub(super) fn takes_over(&mut self, key: &[u8], change: &Change) {
        match change {
            Change::Write(_) => drop(self.swept.insert(digest(key))),
            Change::Remove => drop(self.gone.insert(key.to_vec())),
            Change::Touch => {}
        }
    }

    /// Notes what was taken out of the file.
    pub(super) fn took_out(&mut self, keys: &[Vec<u8>]) {
        let there = keys.iter().filter(|key| !self.gone.contains(*key));
        self.swept.extend(there.map(|key| digest(key)));
    }

    /// Tells who waits what there was.
    pub(super) fn done(self) {
        // Who asked may have left.
        let _ = self.done.send(self.swept);
    }
}
