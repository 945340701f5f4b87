//! Keys that change while the gateway runs: how a changed key file is noticed, and what becomes of the old key.
//!
//! A file is looked at by its metadata before each request to the vendor, and read where they have changed. It may be
//! written in place, renamed into place, or be reached by a symbolic link that comes to lead elsewhere, as Kubernetes
//! mounts secrets: the link is followed each time. What is read half written, or changes twice within a tick of the
//! file system's clock, is set right by the look after it, or by the 401 that the wrong key earns.
//!
//! It promises that a file which is no good leaves the last good key in place, and that this is said once.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use super::{ApiKey, Credentials, Held, KeyFileError, KeySource, Slot, read_key_file};
use crate::call::WorkspaceIndex;

/// How long a look at a file may take. Beyond that its disk is gone, and the key that is there has to do.
const PATIENCE: Duration = Duration::from_millis(250);

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

impl Stamp {
    /// Of what `path` leads to now; `None` where it cannot be looked at. Blocks as a look at a small local file does.
    pub(super) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::from(&metadata))
    }
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

/// What came of reading a key file again.
#[derive(Debug)]
pub enum Reread {
    /// The same key, or one that comes from no file.
    Unchanged,
    /// Another key, in use from now on.
    Changed,
    /// No key; the last one stays.
    Unreadable(KeyFileError),
}

impl Credentials {
    /// Reads the key file again where it has changed since it was last read. To be called before a request is sent; it
    /// blocks nobody, and waits a moment at the most.
    pub async fn refresh(&self, workspace: WorkspaceIndex) {
        let slot = self.slot(workspace);
        let KeySource::File(path) = &slot.source else { return };
        let Ok(found) = timeout(PATIENCE, tokio::fs::metadata(path)).await else { return };
        if *slot.seen() == found.ok().as_ref().map(Stamp::from) {
            return;
        }
        let workspace_name = slot.name.as_str();
        match self.read_again(workspace) {
            Reread::Unchanged => {}
            Reread::Changed => tracing::info!(
                workspace = workspace_name,
                "the key file has changed: its new key is used from now on"
            ),
            Reread::Unreadable(error) => tracing::warn!(
                workspace = workspace_name,
                %error,
                "the key file has changed and gives no key: the last one is used on"
            ),
        }
    }

    /// Looks for another key than the one that the vendor rejected: one that has been read since, else the key file's.
    /// An unreadable file leaves the key as it was. Blocks for as long as a small local file takes, so async code
    /// calls it rarely: once for a 401, and for readiness while one is remembered.
    pub fn reread(&self, workspace: WorkspaceIndex, rejected: &ApiKey) -> Reread {
        if !self.key(workspace).same(rejected) {
            return Reread::Changed;
        }
        self.read_again(workspace)
    }

    /// Reads the key file, whether it seems to have changed or not. Blocks for as long as a small local file takes.
    pub fn read_again(&self, workspace: WorkspaceIndex) -> Reread {
        let slot = self.slot(workspace);
        let KeySource::File(path) = &slot.source else { return Reread::Unchanged };
        let mut seen = slot.seen();
        // Before it is read: a change in between is noticed next time.
        *seen = Stamp::of(path);
        match read_key_file(path, &self.trusted_dirs) {
            Err(error) => Reread::Unreadable(error),
            Ok(new) => match self.replace(workspace, new) {
                true => Reread::Changed,
                false => Reread::Unchanged,
            },
        }
    }

    /// Puts another key in place, with its own budget; false where it is the same.
    fn replace(&self, workspace: WorkspaceIndex, new: ApiKey) -> bool {
        let mut held = self.slot(workspace).held.write().unwrap_or_else(PoisonError::into_inner);
        if held.key.same(&new) {
            return false;
        }
        {
            let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
            retired.retain(|key| key.strong_count() > 0);
            retired.push(Arc::downgrade(&held.key));
        }
        let group = self.groups.take_over(&new, held.group);
        *held = Held { key: Arc::new(new), group };
        true
    }
}

impl Slot {
    fn seen(&self) -> MutexGuard<'_, Option<Stamp>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
