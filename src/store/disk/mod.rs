//! The disk tier: final calls in one file, so that a restart costs the vendor nothing.
//!
//! Reads go to threads that may block, a few at a time, and are given up after a while; what is kept and removed waits in
//! a [`queue`] for the one thread that writes it. No lookup waits for that, but who erases does, and a note of what other
//! replicas erased is written, in its turn among the reads, once the thread is that far. None of it is ever on the path of
//! a hit in memory.
//!
//! Promised: what is answered from here is what was kept for that very key, and has not been removed since; a crash
//! costs what was kept within the last second; the file stays within its capacity, what was used longest ago going
//! first; whatever is wrong with the disk turns this tier off with one line in the log, and nothing else.
//!
//! *Used* is a cheap notion: when a call was fetched, or read back from here, to the hour. A call that memory answers
//! for is not used here.
//!
//! A tier that is off cannot forget a call any more, and the next start would bring it back. So the first removal that
//! comes too late deletes the file: rather a cold start than a call that was to be forgotten.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};

mod base;
mod place;
mod queue;
mod reach;
mod sweep;

use super::{
    DiskSettings, Namespace, Spans, Terms, Totals,
    record::{Head, Record, Unreadable},
    seal::Seal,
    stored::Stored,
    unread::Unread,
};
use crate::{
    call::CacheKey,
    clock::{Clock, UnixMillis},
    outcome::{Class, Tier},
};
use base::{Base, Contents, Edit, Fault};
use place::Place;
use queue::{Batch, Change, Pending, Pushed, Queue, Work};
use sweep::Sweep;

/// Reads under way at a time. More would not come sooner from one disk, and each has a thread of its own.
const READS: usize = 8;

/// After this a lookup goes on without the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the end waits for the last transaction.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// How often a thread without work looks for what is past its use.
const IDLE: Duration = Duration::from_secs(3_600);

/// The part of the capacity that one transaction may bring.
const SHARE: u64 = 16;

/// The part of the capacity that calls may weigh: the rest is for transactions, which write beside what is
/// there, and for what lies between pages in use. Measured; a test holds the file to its capacity.
const HALF: u64 = 2;

/// The disk tier, on or off.
pub(super) struct Disk {
    namespace: Namespace,
    shared: Arc<Shared>,
    reads: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

/// What the reads share with the thread that writes.
struct Shared {
    phase: Mutex<Phase>,
    queue: Queue,
    clock: Arc<Clock>,
    spans: Arc<ArcSwap<Spans>>,
    /// Where calls are sealed.
    seal: Option<Arc<Seal>>,
    unread: Unread,
    capacity: u64,
    totals: Mutex<Totals>,
}

/// What can be done with the file.
enum Phase {
    On(Arc<Base>, Place),
    /// Nothing, but the database holds its lock, so that the file may be deleted if it must.
    Off {
        _locked: Arc<Base>,
        place: Place,
    },
    Over,
}

impl Disk {
    /// Opens the file and starts the thread that writes to it. `None`, with a line in the log, where it cannot be used.
    /// Blocks.
    pub(super) fn open(settings: &DiskSettings, terms: Terms) -> Option<Self> {
        let Terms { namespace, spans, clock, seal } = terms;
        let path = settings.path.as_path();
        let without = |why: String| {
            tracing::warn!(path = %path.display(), why, "calls are not kept on disk");
        };
        let (place, base, contents) = place::open(path, clock.now()).map_err(without).ok()?;
        tracing::info!(path = %path.display(), entries = contents.entries, "calls are kept on disk");
        let shared = Arc::new(Shared {
            phase: Mutex::new(Phase::On(Arc::new(base), place)),
            queue: Queue::default(),
            clock,
            spans,
            seal,
            unread: Unread::new(),
            capacity: settings.capacity,
            totals: Mutex::new(Totals {
                entries: contents.entries,
                bytes: contents.bytes,
                ..Totals::default()
            }),
        });
        let (end, ended) = watch::channel(false);
        let writer = Arc::clone(&shared);
        let thread = thread::Builder::new().name("disk-writer".to_owned()).spawn(move || {
            writer.write();
            end.send_replace(true);
        });
        thread.map_err(|error| without(error.to_string())).ok()?;
        Some(Self { namespace, shared, reads: Arc::new(Semaphore::new(READS)), ended })
    }

    /// What is kept for `key`, fresh or stale.
    pub(super) async fn get(&self, key: &CacheKey) -> Option<Arc<Stored>> {
        let key = self.namespace.key(key)?;
        match self.shared.queue.peek(&key) {
            Some(Pending::Kept(stored)) => return Some(stored),
            Some(Pending::Gone) => return None,
            None => {}
        }
        self.read(PATIENCE, move |shared, base| shared.read(base, key)).await?.map(Arc::new)
    }

    /// Reads on a thread that may block, in its turn, for so long. `None` where the tier is off, or that is not enough.
    async fn read<T: Send + 'static>(
        &self,
        patience: Duration,
        read: impl FnOnce(&Shared, &Base) -> T + Send + 'static,
    ) -> Option<T> {
        let base = self.shared.on()?;
        let (shared, reads) = (Arc::clone(&self.shared), Arc::clone(&self.reads));
        let read = async move {
            let turn = reads.acquire_owned().await.ok()?;
            let read = tokio::task::spawn_blocking(move || {
                let found = read(&shared, &base);
                // Held by the thread and not by who waits for it, who may give up.
                drop((base, turn));
                found
            });
            read.await.ok()
        };
        timeout(patience, read).await.ok()?
    }

    /// Keeps a final call, and forgets what was kept of one that is anything else by now.
    pub(super) fn put(&self, key: &CacheKey, stored: &Arc<Stored>) {
        let change =
            if stored.class == Class::Final { Change::Write(Arc::clone(stored)) } else { Change::Remove };
        self.push(key, change);
    }

    /// Forgets what is kept for `key`.
    pub(super) fn remove(&self, key: &CacheKey) {
        self.push(key, Change::Remove);
    }

    fn push(&self, key: &CacheKey, change: Change) {
        if let Some(key) = self.namespace.key(key) {
            self.shared.push(key, change);
        }
    }

    /// Whether the file is in use.
    pub(super) fn is_on(&self) -> bool {
        matches!(*lock(&self.shared.phase), Phase::On(..))
    }

    /// What is in the file.
    pub(super) fn totals(&self) -> Totals {
        *lock(&self.shared.totals)
    }

    /// Writes what waits, and gives the file up.
    pub(super) async fn close(&self) {
        self.shared.queue.close();
        let mut ended = self.ended.clone();
        let over = timeout(LAST_PATIENCE, ended.wait_for(|ended| *ended)).await;
        if over.is_err() {
            tracing::warn!("the last calls are not on disk yet, and are not waited for");
        }
    }
}

/// Whoever forgets to close it loses nothing that there is time for.
impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Shared {
    fn on(&self) -> Option<Arc<Base>> {
        match &*lock(&self.phase) {
            Phase::On(base, _) => Some(Arc::clone(base)),
            Phase::Off { .. } | Phase::Over => None,
        }
    }

    fn push(&self, key: Vec<u8>, change: Change) {
        let removal = matches!(change, Change::Remove);
        match self.queue.push(key, change) {
            Pushed::Taken => {}
            Pushed::Closed if removal => self.forgotten_too_late(),
            Pushed::Closed => {}
            Pushed::Overrun => {
                self.fail(Fault::Io("it does not keep up with what is to be forgotten".to_owned()));
                self.forgotten_too_late();
            }
        }
    }

    /// Reads one key. Blocks.
    fn read(&self, base: &Base, key: Vec<u8>) -> Option<Stored> {
        let value = match base.get(&key) {
            Ok(value) => value?,
            Err(fault) => {
                self.fail(fault);
                return None;
            }
        };
        match Record::decode(&key, &value, self.seal.as_deref()) {
            Ok(record) => {
                let (now, instant) = (self.clock.now(), Instant::now());
                if Head::read(&value).is_ok_and(|head| base::is_another_use(head.used, now)) {
                    self.push(key, Change::Touch);
                }
                record.into_stored(now, instant)
            }
            // Another version of callgate keeps it in this file, and may come back.
            Err(Unreadable::OtherVersion) => None,
            Err(why @ (Unreadable::OtherKey | Unreadable::Unsealed)) => {
                self.unread.say(Tier::Disk, why);
                None
            }
            Err(Unreadable::Damaged) => {
                tracing::warn!("a call on disk is damaged, and is fetched anew");
                self.push(key, Change::Remove);
                None
            }
        }
    }

    /// Writes until the queue is closed or the file fails. Blocks: a thread of its own.
    fn write(&self) {
        while let Some(Work { mut sweeps, changes }) = self.queue.take(IDLE) {
            let Some(base) = self.on() else { break };
            let written = self.sweep(&base, &mut sweeps).and_then(|()| self.write_down(&base, &changes));
            if let Err(fault) = written {
                drop(base);
                // Before the sweeps that are left are dropped: who waits for one is to find the file dealt with.
                self.fail(fault);
                break;
            }
            self.queue.written();
            // Only now: who waits for a sweep relies on the changes that were handed over before it, too.
            sweeps.into_iter().for_each(Sweep::done);
        }
        let mut phase = lock(&self.phase);
        if matches!(*phase, Phase::On(..)) {
            *phase = Phase::Over;
        }
    }

    /// Writes a batch, in transactions that are small beside the capacity, for each takes room of its own.
    fn write_down(&self, base: &Base, batch: &Batch) -> Result<(), Fault> {
        let now = self.clock.now();
        let most = self.capacity / HALF;
        let share = usize::try_from(self.capacity / SHARE).unwrap_or(usize::MAX);
        let mut changes = batch.iter().peekable();
        loop {
            let mut bytes = 0;
            let mut edits = Vec::new();
            while bytes < share
                && let Some((key, change)) = changes.next()
            {
                let edit = self.edit(key, change, now);
                bytes += if let Edit::Write(value) = &edit { value.len() } else { 0 };
                edits.push((key.as_slice(), edit));
            }
            self.count(base.apply(edits, now, most)?);
            if changes.peek().is_none() {
                return Ok(());
            }
        }
    }

    fn edit(&self, key: &[u8], change: &Change, now: UnixMillis) -> Edit {
        match change {
            Change::Write(stored) => {
                let record = Record::of(stored, |instant| self.clock.at(instant));
                let value = record.encode(key, now, self.spans.load().keep_stale, self.seal.as_deref());
                value.map_or(Edit::Remove, Edit::Write)
            }
            Change::Remove => Edit::Remove,
            Change::Touch => Edit::Touch,
        }
    }

    fn count(&self, contents: Contents) {
        let mut totals = lock(&self.totals);
        totals.entries = contents.entries;
        totals.bytes = contents.bytes;
        totals.evicted += contents.evicted;
        totals.expired += contents.expired;
    }

    /// Turns the tier off, and says so once.
    fn fail(&self, fault: Fault) {
        let mut phase = lock(&self.phase);
        let Phase::On(base, place) = std::mem::replace(&mut *phase, Phase::Over) else { return };
        let (why, aside) = match fault {
            Fault::Damaged(why) => (why, place.set_aside(self.clock.now()).ok()),
            Fault::Io(why) => (why, None),
            Fault::Busy | Fault::Newer => ("another process changed the file".to_owned(), None),
        };
        tracing::error!(
            path = %place.path().display(),
            why,
            set_aside = aside.as_deref().map(|aside| tracing::field::display(aside.display())),
            "calls are no longer kept on disk, until the next start"
        );
        if aside.is_none() {
            *phase = Phase::Off { _locked: base, place };
        }
        drop(phase);
        let mut totals = lock(&self.totals);
        (totals.entries, totals.bytes) = (0, 0);
        drop(totals);
        let abandoned = self.queue.abandon();
        if abandoned.removals {
            self.forgotten_too_late();
        }
    }

    /// A call is to be forgotten that the file may still hold, and nothing can be written to it.
    fn forgotten_too_late(&self) {
        let mut phase = lock(&self.phase);
        let Phase::Off { place, .. } = &*phase else { return };
        if place.delete() {
            tracing::warn!("the file of kept calls is deleted: one in it could not be forgotten otherwise");
        } else {
            tracing::error!(
                "the file of kept calls may hold one that was to be forgotten, and cannot be deleted"
            );
        }
        *phase = Phase::Over;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
