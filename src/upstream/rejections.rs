//! Remembers which keys the vendor rejected lately, for readiness: a 401 means that every miss will fail until somebody
//! changes the key. A 403 says less, and is not remembered.
//!
//! It keeps no key: a rejection is gone with the last that uses its key.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::credentials::ApiKey;
use crate::call::WorkspaceIndex;

/// How long a 401 counts where the key stays as it is: so long, and a gateway that is not asked any more while it is
/// not ready gets another chance.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The rejections.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<BTreeMap<WorkspaceIndex, Rejection>>);

#[derive(Debug)]
struct Rejection {
    key: Weak<ApiKey>,
    until: Instant,
}

impl Rejections {
    /// A 401 for the key that this workspace has now.
    pub(super) fn note(&self, workspace: WorkspaceIndex, key: &Arc<ApiKey>, now: Instant) {
        let rejection = Rejection { key: Arc::downgrade(key), until: now + REMEMBERED };
        self.lock().insert(workspace, rejection);
    }

    /// This key works after all.
    pub(super) fn clear(&self, workspace: WorkspaceIndex, key: &ApiKey) {
        let mut rejections = self.lock();
        let rejected = rejections.get(&workspace).and_then(|rejection| rejection.key.upgrade());
        if rejected.is_some_and(|rejected| rejected.same(key)) {
            rejections.remove(&workspace);
        }
    }

    /// The workspaces whose key was rejected lately, with that key.
    pub(super) fn current(&self, now: Instant) -> Vec<(WorkspaceIndex, Arc<ApiKey>)> {
        let mut rejections = self.lock();
        rejections.retain(|_, rejection| now < rejection.until);
        let kept = rejections.iter();
        kept.filter_map(|(workspace, rejection)| Some((*workspace, rejection.key.upgrade()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkspaceIndex, Rejection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rejection_counts_for_a_minute_or_until_that_key_works() {
        let key = |text: &str| Arc::new(ApiKey::parse(text.as_bytes()).expect("a key"));
        let rejections = Rejections::default();
        let now = Instant::now();
        let (one, two) = (WorkspaceIndex(1), WorkspaceIndex(2));
        let current =
            |at| rejections.current(at).into_iter().map(|(workspace, _)| workspace).collect::<Vec<_>>();
        let (old, older) = (key("old"), key("old"));
        rejections.note(one, &older, now);
        rejections.note(two, &old, now + REMEMBERED / 2);
        assert_eq!(current(now), [one, two]);
        assert_eq!(current(now + REMEMBERED), [two]);
        rejections.clear(two, &key("another"));
        assert_eq!(current(now + REMEMBERED), [two]);
        rejections.clear(two, &key("old"));
        assert_eq!(current(now + REMEMBERED), []);
    }
}
