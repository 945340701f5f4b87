//! Writes the journal anew without what no longer counts, while more is appended to it.
//!
//! The new file is filled beside the old one from what stands in that, by a thread of its own: there may be tens of
//! megabytes. What was appended meanwhile is carried over while nobody can append, and that is little. Promised: at
//! any moment the file in the place of the journal has all that was written down.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use super::{
    Pages, Writing, options,
    record::{HEADER, RECORD, Record, live},
};
use crate::clock::UnixMillis;

/// The file is written anew when it holds so many records and half of them are dead.
pub(super) const COMPACT_AT: usize = 4_096;

/// A file that is to take the place of the journal.
pub(super) struct Fresh {
    path: PathBuf,
    /// Locked.
    file: File,
    /// What counted when it was begun.
    live: usize,
    /// Records carried over from behind those.
    carried: usize,
    /// The old file, read up to where nothing is missing here.
    old: File,
}

/// Puts a new file with these records in the place of the old one, and locks it first. Blocks.
pub(super) fn begin(path: &Path, live: &[Record]) -> io::Result<Writing> {
    let (fresh, file) = create(path, live)?;
    std::fs::rename(fresh, path)?;
    Ok(writing(file, live.len(), 0))
}

/// Has the file written anew; who asks does not wait. Of what stands in it, what counts at `now` is kept; a request may
/// be under way for `aloft`.
pub(super) fn start(pages: &Arc<Pages>, now: UnixMillis, aloft: Duration) -> io::Result<()> {
    let pages = Arc::clone(pages);
    let write = move || {
        if let Err(error) = Fresh::fill(&pages.path, now, aloft).and_then(|fresh| fresh.replace(&pages)) {
            let mut writing = pages.lock();
            // Off already where nobody wants it any more.
            if writing.is_some() {
                pages.turn_off(&mut writing, &error);
            }
        }
    };
    thread::Builder::new().name("journal".to_owned()).spawn(write).map(drop)
}

impl Fresh {
    /// Fills a new file with what counts in the one at `path`. Blocks.
    pub(super) fn fill(path: &Path, now: UnixMillis, aloft: Duration) -> io::Result<Self> {
        let mut old = File::open(path)?;
        let mut bytes = Vec::new();
        old.read_to_end(&mut bytes)?;
        // The last record may be on its way still.
        let torn = bytes.len().saturating_sub(HEADER.len()) % RECORD;
        bytes.truncate(bytes.len() - torn);
        old.seek(SeekFrom::Start(bytes.len() as u64))?;
        let live = live(&bytes, now, aloft);
        let (path, file) = create(path, &live)?;
        let mut fresh = Self { path, file, live: live.len(), carried: 0, old };
        // Most of what came meanwhile, so that little is left for when others wait.
        fresh.carry_over()?;
        Ok(fresh)
    }

    /// Puts it in the place of the old one, if that is wanted still. Nobody appends meanwhile.
    pub(super) fn replace(mut self, pages: &Pages) -> io::Result<()> {
        let mut writing_now = pages.lock();
        let Some(open) = &mut *writing_now else { return Ok(()) };
        self.carry_over()?;
        std::fs::rename(&self.path, &pages.path)?;
        // The old file is let go of, and with it its lock, only when the new one is in its place and locked.
        *open = writing(self.file, self.live, self.carried);
        Ok(())
    }

    /// Carries over what was appended since.
    fn carry_over(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.old.read_to_end(&mut bytes)?;
        let torn = bytes.len() % RECORD;
        if torn > 0 {
            self.old.seek_relative(-i64::try_from(torn).map_err(io::Error::other)?)?;
            bytes.truncate(bytes.len() - torn);
        }
        self.carried += bytes.len() / RECORD;
        self.file.write_all(&bytes)
    }
}

/// A new file with these records beside the one at `path`, locked.
fn create(path: &Path, live: &[Record]) -> io::Result<(PathBuf, File)> {
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
    Ok((fresh, file))
}

fn writing(file: File, live: usize, carried: usize) -> Writing {
    Writing { file, records: live + carried, compact_at: Some(COMPACT_AT.max(2 * live)) }
}
