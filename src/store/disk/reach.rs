//! What operators do to the file: look at all that is kept of a call, and forget it.
//!
//! Both act on what waits to be written as on what is in the file: nobody can tell the two apart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Base, Disk, Edit, Fault, HALF, Pending, Shared,
    sweep::{Prefixes, Sweep, Swept},
};
use crate::{
    call::CacheKey,
    clock::UnixMillis,
    store::{Erasure, kept::Kept, record::Record},
};

/// How long an operator waits for what is found: longer than a lookup.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to find what others were told to forget: what is not found is not forgotten.
const LONG_PATIENCE: Duration = Duration::from_secs(600);

/// Calls that one transaction takes out.
const SWEPT_AT_ONCE: usize = 4_096;

impl Disk {
    /// What is kept of what an erasure is about, as far as it can be read.
    pub(in crate::store) async fn find(&self, erasure: &Erasure) -> Vec<(CacheKey, Kept)> {
        let prefixes = Prefixes::new(self.namespace.prefixes(erasure));
        // What waits is looked at first: from there things only move to the file.
        let waiting = self.shared.queue.kept_under(&prefixes);
        let in_file = self.read(PATIENCE, move |shared, base| shared.find(base, &prefixes)).await;
        let mut found: BTreeMap<Vec<u8>, Kept> = in_file.unwrap_or_default();
        found.extend(waiting.into_iter().map(|(key, stored)| (key, Kept::of(&stored))));
        let named = |(key, kept): (Vec<u8>, Kept)| Some((self.namespace.parse(&key)?, kept));
        found.into_iter().filter_map(named).collect()
    }

    /// The keys of what an erasure is about and was given up to `before`. What cannot be read is among them: it does not
    /// say when it was given.
    pub(in crate::store) async fn keys_before(&self, erasure: &Erasure, before: UnixMillis) -> Vec<CacheKey> {
        let prefixes = Prefixes::new(self.namespace.prefixes(erasure));
        let waiting = self.shared.queue.kept_under(&prefixes);
        let waiting =
            waiting.into_iter().filter(|(_, stored)| self.shared.clock.at(stored.fetched) <= before);
        let mut keys: Vec<_> = waiting.map(|(key, _)| key).collect();
        let in_file = move |shared: &Shared, base: &Base| shared.keys_before(base, &prefixes, before);
        keys.extend(self.read(LONG_PATIENCE, in_file).await.unwrap_or_default());
        keys.into_iter().filter_map(|key| self.namespace.parse(&key)).collect()
    }

    /// Up to when the erasures of other replicas have been carried out here, by their clock.
    pub(in crate::store) async fn noted_erasures(&self) -> u64 {
        let noted = self.read(LONG_PATIENCE, |shared, base| {
            base.erasures().map_err(|fault| shared.fail(fault)).unwrap_or_default()
        });
        noted.await.unwrap_or_default()
    }

    /// Notes that they have been, up to then. To be called when they are on their way into the file: where they do not
    /// get there, nothing is noted.
    pub(in crate::store) async fn note_erasures(&self, until: u64) {
        if !self.settled().await {
            return;
        }
        let note = self.read(LONG_PATIENCE, move |shared, base| {
            if let Err(fault) = base.note_erasures(until) {
                shared.fail(fault);
            }
        });
        note.await;
    }

    /// Forgets what is kept for each of these keys, however many there are: nothing of it is found any more, though the
    /// last of them may still be in the file. They go in bounded numbers, each waited for, so that they alone never come
    /// to more than the queue takes.
    pub(in crate::store) async fn remove_all(&self, keys: &[CacheKey]) {
        let mut some = keys.chunks(SWEPT_AT_ONCE).peekable();
        while let Some(these) = some.next() {
            these.iter().for_each(|key| self.remove(key));
            if some.peek().is_some() {
                // Where it fails, the file has been dealt with for them, too.
                let _ = self.settled().await;
            }
        }
    }

    /// Waits until what was handed over so far is in the file. False where it is not known to be.
    async fn settled(&self) -> bool {
        match self.shared.queue.sweep(Prefixes::new(Vec::new())) {
            Some(settled) => settled.await.is_ok(),
            None => false,
        }
    }

    /// Forgets what an erasure is about: nothing of it is found from the return of this on, and nothing of it comes back
    /// once the future ends, whatever happens then. What there was, by the digests of the keys.
    #[must_use = "it is not in the file before it ends"]
    pub(in crate::store) fn erase(&self, erasure: &Erasure) -> impl Future<Output = Swept> + Send + use<> {
        let prefixes = Prefixes::new(self.namespace.prefixes(erasure));
        let swept = self.shared.queue.sweep(prefixes);
        let shared = Arc::clone(&self.shared);
        async move {
            let swept = match swept {
                Some(swept) => swept.await.ok(),
                None => None,
            };
            swept.unwrap_or_else(|| {
                // The tier is off, and the file may hold it still.
                shared.forgotten_too_late();
                Swept::new()
            })
        }
    }
}

impl Shared {
    /// What the file holds under keys that begin so. Blocks.
    fn find(&self, base: &Base, prefixes: &Prefixes) -> BTreeMap<Vec<u8>, Kept> {
        let (now, instant) = (self.clock.now(), Instant::now());
        let kept = |key: &[u8], value: &[u8]| {
            match self.queue.peek(key) {
                Some(Pending::Kept(stored)) => return Some((key.to_vec(), Kept::of(&stored))),
                Some(Pending::Gone) => return None,
                None => {}
            }
            let record = Record::decode(key, value, self.seal.as_deref()).ok()?;
            Some((key.to_vec(), Kept::of(&record.into_stored(now, instant)?)))
        };
        self.under(base, prefixes, kept).into_iter().collect()
    }

    /// The keys in the file that begin so, of what was given up to `before` or cannot be read. Blocks.
    fn keys_before(&self, base: &Base, prefixes: &Prefixes, before: UnixMillis) -> Vec<Vec<u8>> {
        let now = self.clock.now();
        let old = |key: &[u8], value: &[u8]| {
            let record = Record::decode(key, value, self.seal.as_deref());
            // What was given in the future was given by a clock that was wrong, and says nothing.
            let old = |record: Record| record.fetched <= before || record.fetched > now;
            record.map_or(true, old).then(|| key.to_vec())
        };
        self.under(base, prefixes, old)
    }

    /// What `read` makes of what the file holds under keys that begin so, as far as it can be read. Blocks.
    fn under<T>(&self, base: &Base, prefixes: &Prefixes, read: impl Fn(&[u8], &[u8]) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        for prefix in prefixes.iter() {
            match base.under(prefix, usize::MAX, &read) {
                Ok(entries) => found.extend(entries.into_iter().flatten()),
                Err(fault) => {
                    self.fail(fault);
                    break;
                }
            }
        }
        found
    }

    /// Makes sweeps one after another, each durably. Who waits for one is not told here. Blocks.
    pub(super) fn sweep(&self, base: &Base, sweeps: &mut [Sweep]) -> Result<(), Fault> {
        for sweep in sweeps {
            for prefix in sweep.prefixes().iter() {
                loop {
                    let keys = base.under(prefix, SWEPT_AT_ONCE, |key, _| key.to_vec())?;
                    if keys.is_empty() {
                        break;
                    }
                    let edits = keys.iter().map(|key| (key.as_slice(), Edit::Remove));
                    self.count(base.apply(edits, self.clock.now(), self.capacity / HALF)?);
                    sweep.took_out(&keys);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
