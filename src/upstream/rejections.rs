//! Remembers which workspaces' keys the vendor rejected lately, for readiness: a 401 means that every miss will fail
//! until somebody changes the key. A 403 says less, and is not remembered.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::call::WorkspaceIndex;

/// How long a 401 counts where the key file stays as it is: so long, and a gateway that is not asked any more while
/// it is not ready gets another chance.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The rejections.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<BTreeMap<WorkspaceIndex, Instant>>);

impl Rejections {
    /// A 401, even after the key file was read again.
    pub(super) fn note(&self, workspace: WorkspaceIndex, now: Instant) {
        self.lock().insert(workspace, now + REMEMBERED);
    }

    /// The key works, or is another one now.
    pub(super) fn clear(&self, workspace: WorkspaceIndex) {
        self.lock().remove(&workspace);
    }

    /// The workspaces whose key was rejected and has not been changed.
    pub(super) fn current(&self, now: Instant) -> Vec<WorkspaceIndex> {
        let mut rejections = self.lock();
        rejections.retain(|_, until| now < *until);
        rejections.keys().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkspaceIndex, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rejection_counts_for_a_minute_or_until_the_key_changes() {
        let rejections = Rejections::default();
        let now = Instant::now();
        let (one, two) = (WorkspaceIndex(1), WorkspaceIndex(2));
        rejections.note(one, now);
        rejections.note(two, now + REMEMBERED / 2);
        assert_eq!(rejections.current(now), [one, two]);
        assert_eq!(rejections.current(now + REMEMBERED), [two]);
        rejections.clear(two);
        assert_eq!(rejections.current(now + REMEMBERED), []);
    }
}
