//! The last minute of departures, kept across a restart: a small file in which each is written down before it leaves.
//!
//! Every line of it is one write of a record of fixed size at the end of the file, so that a process that is killed at
//! any moment leaves all that it wrote. Nothing is synced to the disk: who loses the power has forgotten the last
//! minute, and by the time that the machine is back it is mostly over. One process writes; a second one says so and
//! goes without. What is damaged or another program's is begun anew; what cannot be written turns the journal off, and
//! not the gate.
//!
//! It is read at the start: what was answered less than a minute ago holds its slot until a minute after that, and what
//! had no answer yet until a minute after the start. However the clock jumped, that is a minute at the most.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::time::Instant;

use super::{
    log::MINUTE,
    window::{Name, Slot},
};
use crate::clock::{Clock, UnixMillis};

mod record;

use record::{HEADER, Kind, RECORD, Record};

/// The file is written anew when it holds so many records and half of them are dead.
const COMPACT_AT: usize = 4_096;

/// How often the file may turn out to be another between opening and locking before somebody must be at it.
const TRIES: usize = 3;

/// The journal of departures of one process.
pub struct Journal {
    path: PathBuf,
    clock: Arc<Clock>,
    /// How long a request may be under way.
    aloft: Duration,
    /// `None` once it is off.
    file: Mutex<Option<Writing>>,
    /// What was read at the start.
    departures: Vec<(Name, Slot, Instant)>,
}

struct Writing {
    /// Locked as long as it is open.
    file: File,
    records: usize,
    compact_at: usize,
}

impl Journal {
    /// Opens the journal at `path` and reads what it says; `None` where it cannot be used, which is said in a line of
    /// the log. A request may be under way for `response_timeout`. Blocks for as long as a small local file takes.
    #[must_use]
    pub fn open(path: &Path, clock: Arc<Clock>, response_timeout: Duration) -> Option<Self> {
        let opened = directory(path).and_then(|()| locked(path)).and_then(|file| {
            let (now, instant) = (clock.now(), Instant::now());
            let mut live = read(&file, now, response_timeout)?;
            for record in &mut live {
                // Nobody waits for it any more. The vendor may have counted it up to now.
                if record.kind == Kind::Departed {
                    (record.kind, record.at) = (Kind::Answered, now);
                }
            }
            let left = |at: UnixMillis| MINUTE.saturating_sub(at.elapsed_at(now));
            let departures = live.iter().map(|one| (one.budget, one.slot, instant + left(one.at))).collect();
            Ok((begin(path, &live)?, departures))
        });
        match opened {
            Ok((file, departures)) => Some(Self {
                path: path.to_owned(),
                clock,
                aloft: response_timeout,
                file: Mutex::new(Some(file)),
                departures,
            }),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the last minute of requests is not kept: a restart will forget it");
                None
            }
        }
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
        let mut writing = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut *writing else { return };
        if let Err(error) = self.append(open, &record) {
            *writing = None;
            let path = self.path.display();
            tracing::warn!(%path, %error, "the journal of requests is turned off: a restart will forget the last minute");
        }
    }

    fn append(&self, open: &mut Writing, record: &Record) -> io::Result<()> {
        once(&open.file, &record.encode())?;
        open.records += 1;
        if open.records >= open.compact_at {
            let live = read(&File::open(&self.path)?, self.clock.now(), self.aloft)?;
            // The old file is let go of, and with it its lock, only when the new one is in its place and locked.
            *open = begin(&self.path, &live)?;
        }
        Ok(())
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
    // A FIFO would block, and a link leads to somebody else's file.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}

/// Opens the file, and keeps all other processes away from it.
fn locked(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = options().open(path)?;
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
                file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
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

/// Puts a new file with these records in the place of the old one, and locks it first.
fn begin(path: &Path, live: &[Record]) -> io::Result<Writing> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = options().create_new(true).open(&fresh)?;
    file.try_lock()?;
    let mut bytes = Vec::with_capacity(HEADER.len() + live.len() * RECORD);
    bytes.extend_from_slice(HEADER);
    live.iter().for_each(|record| bytes.extend_from_slice(&record.encode()));
    file.write_all(&bytes)?;
    std::fs::rename(&fresh, path)?;
    Ok(Writing { file, records: live.len(), compact_at: COMPACT_AT.max(2 * live.len()) })
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
