//! Keys that change while the gateway runs: how a changed key file is noticed, and what becomes of the old key.
//!
//! A file is looked at by its metadata before each request to the vendor, and read where they have changed, or where it
//! gave no key when it was last read. It may be written in place, renamed into place, or be reached by a symbolic link
//! that comes to lead elsewhere, as Kubernetes mounts secrets: the link is followed each time. What is read half
//! written, or changes twice within a tick of the file system's clock, is set right by the look after it, or by the 401
//! that the wrong key earns.
//!
//! It promises that a file which is no good leaves the last good key in place, and that this is said once; that files
//! are touched on threads of their own, one for a workspace at the most; and that nobody waits for one that hangs.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    ApiKey, Credentials, Held, KeyFileError, KeySource,
    looks::{Asked, Look, PATIENCE},
};
use crate::call::WorkspaceIndex;

/// How many files are looked at at once where all of them are.
const AT_ONCE: usize = 16;

/// How long that may take: who probes waits a second, as a rule. Two rounds of those that hang, and what they come late
/// by: cut off before, the second would not get to say so.
const PATIENCE_WITH_ALL: Duration = PATIENCE.saturating_mul(2).saturating_add(Duration::from_millis(50));

/// What came of reading a key file again.
#[derive(Debug)]
pub enum Reread {
    /// The same key, or one that comes from no file.
    Unchanged,
    /// Another key, in use from now on.
    Changed,
    /// No key; the last one stays.
    Unreadable(Arc<KeyFileError>),
    /// It was not read in time; the last key stays until it is.
    Late,
}

impl Credentials {
    /// Reads the key file again where it has changed since it was last read. To be called before a request is sent; it
    /// blocks nobody, and waits a quarter of a second at the most.
    pub async fn refresh(self: &Arc<Self>, workspace: WorkspaceIndex) {
        self.look(workspace, false).await;
    }

    /// Looks for another key than the one that the vendor rejected: one that has been read since, else the key file's.
    /// An unreadable file leaves the key as it was. Waits as [`Self::refresh`] does.
    pub async fn reread(self: &Arc<Self>, workspace: WorkspaceIndex, rejected: &ApiKey) -> Reread {
        if !self.key(workspace).same(rejected) {
            return Reread::Changed;
        }
        let in_time = self.look(workspace, true).await;
        if !self.key(workspace).same(rejected) {
            return Reread::Changed;
        }
        match self.file(workspace).and_then(|looks| looks.error()) {
            _ if !in_time => Reread::Late,
            Some(error) => Reread::Unreadable(error),
            None => Reread::Unchanged,
        }
    }

    /// Reads the key file, whether it seems to have changed or not. Waits as [`Self::refresh`] does.
    pub async fn read_again(self: &Arc<Self>, workspace: WorkspaceIndex) -> Reread {
        let before = self.key(workspace);
        self.reread(workspace, &before).await
    }

    /// The same for all key files, so many at once that those which hang do not take the threads of the others. What came
    /// of it, in the order of the workspaces.
    pub async fn read_all_again(self: &Arc<Self>) -> Vec<(WorkspaceIndex, Reread)> {
        let of_files = self.workspaces().filter(|workspace| self.file(*workspace).is_some());
        let reads = of_files.map(async |workspace| (workspace, self.read_again(workspace).await));
        stream::iter(reads).buffered(AT_ONCE).collect().await
    }

    /// Looks at all key files, and reads those of `doubted` workspaces in any case. What is known of them afterwards is
    /// what was known before where one hangs. Waits little more than half a second at the most.
    pub async fn look_at_all(self: &Arc<Self>, doubted: &[WorkspaceIndex]) {
        let of_files = self.workspaces().filter(|workspace| self.file(*workspace).is_some());
        let looks = of_files.map(|workspace| self.look(workspace, doubted.contains(&workspace)));
        let looks = stream::iter(looks).buffer_unordered(AT_ONCE).count();
        // Each that is late says so itself; those that are left are looked at the next time.
        let _ = timeout(PATIENCE_WITH_ALL, looks).await;
    }

    /// Has the key file looked at, and waits for the end of that; whether it came in time.
    async fn look(self: &Arc<Self>, workspace: WorkspaceIndex, reading: bool) -> bool {
        let Some(looks) = self.file(workspace) else { return true };
        let now = Instant::now();
        let in_time = match looks.ask(reading, &self.places, now) {
            Asked::Wait(number) => looks.ended(number, now).await,
            Asked::Look(number, place) => {
                let credentials = Arc::clone(self);
                // Nobody waits for the thread: who asked may leave.
                drop(spawn_blocking(move || {
                    let _place = place;
                    if let Some(looks) = credentials.file(workspace) {
                        looks.run(|look| credentials.look_now(workspace, look));
                    }
                }));
                looks.ended(number, now).await
            }
            Asked::Hangs => false,
            Asked::NoThread => {
                if looks.speaks(now) {
                    tracing::warn!(
                        workspace = self.name(workspace),
                        "so many key files are being looked at that no thread is left for this one: the key that is \
                         there is used on"
                    );
                }
                return false;
            }
        };
        if !in_time && looks.speaks(Instant::now()) {
            tracing::warn!(
                workspace = self.name(workspace),
                "the key file cannot be looked at in time: the key that is there is used on"
            );
        }
        in_time
    }

    /// Looks at the file, and reads it where it has changed. Blocks for as long as the file system does.
    fn look_now(&self, workspace: WorkspaceIndex, look: Look) {
        let slot = self.slot(workspace);
        let (KeySource::File(path), Some(looks)) = (&slot.source, &slot.looks) else { return };
        // Before it is read: a change in between is noticed next time.
        let changed = looks.saw(self.files.stamp(path));
        // What gave no key may give one by now, and look the same: a disk fails for a moment, permissions of a directory
        // are put right.
        if !changed && !look.reading && looks.error().is_none() {
            return;
        }
        let workspace_name = slot.name.as_str();
        match self.files.read(path, &self.trusted_dirs) {
            Ok(new) => {
                looks.read(None);
                if self.replace(workspace, new) {
                    tracing::info!(
                        workspace = workspace_name,
                        "the key file has changed: its new key is used from now on"
                    );
                }
            }
            Err(error) => {
                if changed {
                    tracing::warn!(
                        workspace = workspace_name,
                        %error,
                        "the key file has changed and gives no key: the last one is used on"
                    );
                }
                looks.read(Some(Arc::new(error)));
            }
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
        self.searched_from.fetch_min(new.searched_from(), Relaxed);
        let group = self.groups.take_over(&new, usize::from(workspace.0));
        *held = Held { key: Arc::new(new), group };
        true
    }
}

#[cfg(test)]
mod tests;
