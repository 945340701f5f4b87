//! The last minute of departures, kept across a restart: a small file in which each is written down before it leaves.
//!
//! Every line of it is one write of a record of fixed size at the end of the file, so that a process that is killed at
//! any moment leaves all that it wrote. Nothing is synced to the disk: who loses the power has forgotten the last
//! minute, and by the time that the machine is back it is mostly over. One process writes; a second one says so and
//! goes without. What is damaged or another program's is begun anew; what cannot be written turns the journal off, and
//! not the gate. What was read before counts all the same. A file that has grown is written anew by a thread of its
//! own: requests do not wait for that.
//!
//! It is read at the start: what was answered less than a minute ago holds its slot until a minute after that, and what
//! had no answer yet until a minute after the start. However the clock jumped, that is a minute at the most.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::time::Instant;

use super::{
    log::MINUTE,
    window::{Name, Slot},
};
use crate::clock::{Clock, UnixMillis};

mod anew;
mod record;

use record::{Kind, Record};

/// How often the file may turn out to be another between opening and locking before somebody must be at it.
const TRIES: usize = 3;

/// The journal of departures of one process. Dropped, it lets go of its file at once.
pub struct Journal {
    pages: Arc<Pages>,
    clock: Arc<Clock>,
    /// How long a request may be under way.
    aloft: Duration,
    /// What was read at the start.
    departures: Vec<(Name, Slot, Instant)>,
}

/// The file, which is written anew on a thread of its own.
struct Pages {
    path: PathBuf,
    /// `None` once it is off.
    writing: Mutex<Option<Writing>>,
}

struct Writing {
    /// Locked as long as it is open.
    file: File,
    records: usize,
    /// At so many it is written anew; `None` while that is under way.
    compact_at: Option<usize>,
}

impl Journal {
    /// Opens the journal at `path` and reads what it says; `None` where it cannot be read, which is said in a line of
    /// the log. Where it can be read and not written, that is said too, and what was read counts all the same. A request
    /// may be under way for `response_timeout`. Blocks for as long as a small local file takes.
    #[must_use]
    pub fn open(path: &Path, clock: Arc<Clock>, response_timeout: Duration) -> Option<Self> {
        let (now, instant) = (clock.now(), Instant::now());
        let warn = |error: io::Error| {
            let path = path.display();
            tracing::warn!(%path, %error, "the last minute of requests is not kept: a restart will forget it");
        };
        let (file, only_read) = match directory(path).and_then(|()| locked(path, &options())) {
            Ok(file) => (file, None),
            // Nothing may be written there, perhaps, but something read.
            Err(error) => match locked(path, OpenOptions::new().read(true).custom_flags(flags())) {
                Ok(file) => (file, Some(error)),
                Err(_) => {
                    warn(error);
                    return None;
                }
            },
        };
        let mut live = read(&file, now, response_timeout).map_err(warn).ok()?;
        for record in &mut live {
            // Nobody waits for it any more. The vendor may have counted it up to now.
            if record.kind == Kind::Departed {
                (record.kind, record.at) = (Kind::Answered, now);
            }
        }
        let left = |at: UnixMillis| MINUTE.saturating_sub(at.elapsed_at(now));
        let departures = live.iter().map(|one| (one.budget, one.slot, instant + left(one.at))).collect();
        let begun = only_read.map_or_else(|| anew::begin(path, &live), Err);
        let writing = Mutex::new(begun.map_err(warn).ok());
        let pages = Arc::new(Pages { path: path.to_owned(), writing });
        Some(Self { pages, clock, aloft: response_timeout, departures })
    }

    /// What was read at the start: whose slots are held, and until when.
    pub(super) fn departures(&mut self) -> Vec<(Name, Slot, Instant)> {
        std::mem::take(&mut self.departures)
    }

    /// A request leaves now.
    pub(super) fn departed(&self, budget: Name, slot: Slot) {
        self.write(Record { kind: Kind::Departed, budget, slot, at: self.clock.now() });
    }

    /// Its answer began at `at`.
    pub(super) fn answered(&self, budget: Name, slot: Slot, at: Instant) {
        self.write(Record { kind: Kind::Answered, budget, slot, at: self.clock.at(at) });
    }

    /// It never left after all.
    pub(super) fn given_back(&self, budget: Name, slot: Slot) {
        self.write(Record { kind: Kind::GivenBack, budget, slot, at: self.clock.now() });
    }

    fn write(&self, record: Record) {
        let mut writing = self.pages.lock();
        let Some(open) = &mut *writing else { return };
        if let Err(error) = self.append(open, &record) {
            self.pages.turn_off(&mut writing, &error);
        }
    }

    fn append(&self, open: &mut Writing, record: &Record) -> io::Result<()> {
        once(&open.file, &record.encode())?;
        open.records += 1;
        if open.compact_at.is_some_and(|most| open.records >= most) {
            open.compact_at = None;
            anew::start(&self.pages, self.clock.now(), self.aloft)?;
        }
        Ok(())
    }
}

/// A thread that writes the file anew finds that nobody wants it any more.
impl Drop for Journal {
    fn drop(&mut self) {
        *self.pages.lock() = None;
    }
}

impl Pages {
    fn lock(&self) -> MutexGuard<'_, Option<Writing>> {
        // Nothing that is done under the lock can panic half way, so a poisoned one is as good as any.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn_off(&self, writing: &mut Option<Writing>, error: &io::Error) {
        *writing = None;
        let path = self.path.display();
        tracing::warn!(%path, %error, "the journal of requests is turned off: a restart will forget the last minute");
    }
}

/// Writes all of it with one call: half a record is none.
fn once(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    match file.write(bytes)? {
        all if all == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Makes the directory of the file where it is missing.
fn directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|directory| *directory != Path::new("")) else {
        return Ok(());
    };
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if !directory.is_dir() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags());
    options
}

/// A FIFO would block, and a link leads to somebody else's file.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// Opens the file, and keeps all other processes away from it.
fn locked(path: &Path, options: &OpenOptions) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process keeps it")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between opening and locking its owner may have written it anew, and ended.
        if path.metadata().is_ok_and(|found| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino())) {
            if metadata.mode() & 0o077 != 0 {
                file.set_permissions(Permissions::from_mode(0o600))?;
            }
            return Ok(file);
        }
    }
    Err(io::Error::other("somebody else puts other files in its place"))
}

/// What still counts of what stands in the file.
fn read(mut file: &File, now: UnixMillis, aloft: Duration) -> io::Result<Vec<Record>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(record::live(&bytes, now, aloft))
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.pages.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
