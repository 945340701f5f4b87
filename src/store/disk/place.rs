//! Finds the file its place: the directory, the mode, and what becomes of a file that cannot be used.
//!
//! The file is of mode 0600 whatever it was before. Its directory is made, 0700, where it is missing; in one that
//! somebody else may write to nothing is kept, for the file could be changed for another there; one that others may
//! only enter gets a warning, since the mode of the file keeps them out. A file that is damaged, another program's or
//! a later version's is never written to nor deleted: it is set aside under another name, and a new one begun.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::base::{Base, Contents, Fault};
use crate::clock::UnixMillis;

/// How often a file may turn out to be another between looking and locking before somebody must be at it.
const TRIES: usize = 3;

/// A file that is open, and known by more than its name.
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode: another process may have put another file in the place of this one.
    identity: (u64, u64),
}

/// Opens the database at `path`, a new one if need be.
///
/// # Errors
/// Why calls are not kept on disk, in words for the log.
pub(super) fn open(path: &Path, now: UnixMillis) -> Result<(Place, Base, Contents), String> {
    directory(path)?;
    for _ in 0..TRIES {
        let (place, file) = Place::open(path)?;
        let why = match Base::open(file) {
            // Between opening and locking it may have been set aside by another process.
            Ok(_) if !place.is_ours() => continue,
            Ok((base, contents)) => return Ok((place, base, contents)),
            Err(Fault::Busy) => return Err("another process keeps its calls in this file".to_owned()),
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Damaged(why)) => why,
            Err(Fault::Newer) => "a later version of callgate wrote it".to_owned(),
        };
        let aside = place.set_aside(now)?;
        tracing::warn!(aside = %aside.display(), why, "the file of kept calls is set aside, a new one is begun");
    }
    Err("the file is no sooner begun than it cannot be used".to_owned())
}

impl Place {
    fn open(path: &Path) -> Result<(Self, File), String> {
        // Asked before opening, for a FIFO would block.
        // A link would have us write to, and change the mode of, whatever it leads to.
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err("not a regular file".to_owned());
        }
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).mode(0o600);
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = how.custom_flags(no_link).open(path).map_err(said)?;
        let metadata = file.metadata().map_err(said)?;
        if metadata.mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(said)?;
        }
        Ok((Self { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) }, file))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the name still leads to this file.
    fn is_ours(&self) -> bool {
        self.path.metadata().is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// Gives the file another name, which nothing has yet. Returns that name.
    pub(super) fn set_aside(&self, now: UnixMillis) -> Result<PathBuf, String> {
        let mut seconds = now.0.div_euclid(1_000);
        let aside = loop {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".set-aside-{seconds}"));
            let aside = PathBuf::from(name);
            if aside.symlink_metadata().is_err() {
                break aside;
            }
            seconds += 1;
        };
        if self.is_ours() {
            fs::rename(&self.path, &aside).map_err(said)?;
        }
        Ok(aside)
    }

    /// Deletes the file. Whether it is gone for certain.
    pub(super) fn delete(&self) -> bool {
        self.is_ours() && fs::remove_file(&self.path).is_ok()
    }
}

/// Makes the directory of a file where it is missing, and looks at who may do what in it.
fn directory(path: &Path) -> Result<(), String> {
    let directory = match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        Some(_) | None => Path::new("."),
    };
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // On a file system that is read-only it may be there all the same.
        Err(error) if directory.is_dir() => drop(error),
        Err(error) => return Err(format!("its directory cannot be made: {}", said(error))),
    }
    let metadata = directory.metadata().map_err(said)?;
    let owner = metadata.uid();
    if metadata.mode() & 0o022 != 0 || (owner != 0 && owner != rustix::process::geteuid().as_raw()) {
        return Err("others may write to its directory; make it this user's own, of mode 0700".to_owned());
    }
    if metadata.mode() & 0o055 != 0 {
        tracing::warn!(
            directory = %directory.display(),
            "others may enter the directory of the kept calls; its mode should be 0700"
        );
    }
    Ok(())
}

/// What the system said, without the file's name, which the log line has.
fn said(error: io::Error) -> String {
    error.to_string()
}
