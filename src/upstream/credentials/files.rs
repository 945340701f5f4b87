//! Touches key files: what one is like, and the key in it. Nothing else here does, once the keys have been opened.
//!
//! Both may take as long as the file system likes, which with one on a network is for ever; so no worker calls them, and
//! nobody holds a lock meanwhile.

use std::{
    fmt,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{ApiKey, KeyFileError, read_key_file};

/// Where key files are.
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// What `path` leads to now; `None` where it cannot be looked at. Blocks.
    fn stamp(&self, path: &Path) -> Option<Stamp>;

    /// The key in it, under the rules of [`read_key_file`]. Blocks.
    ///
    /// # Errors
    /// As there.
    fn read(&self, path: &Path, trusted_dirs: &[PathBuf]) -> Result<ApiKey, KeyFileError>;
}

/// The file system of this machine.
#[derive(Debug)]
pub(super) struct Mounted;

impl Files for Mounted {
    fn stamp(&self, path: &Path) -> Option<Stamp> {
        fs::metadata(path).ok().map(|metadata| Stamp::from(&metadata))
    }

    fn read(&self, path: &Path, trusted_dirs: &[PathBuf]) -> Result<ApiKey, KeyFileError> {
        read_key_file(path, trusted_dirs)
    }
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    written: (i64, i64),
    /// Also when its mode was changed: a file that could not be read may be readable now.
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
