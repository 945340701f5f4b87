//! When the vendor was last seen to work, and by which resource: what tells its 500 for an empty list from a 500.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::budget::log::MINUTE;
use crate::call::CacheKey;

/// The last two sightings of different resources, the latest first: one of them is another than any that is asked
/// about.
#[derive(Debug, Default)]
pub(super) struct Sightings(Mutex<[Option<(CacheKey, Instant)>; 2]>);

impl Sightings {
    /// The vendor answered for `key` with anything but a failure.
    pub(super) fn note(&self, key: &CacheKey, now: Instant) {
        let mut seen = self.lock();
        if !matches!(&seen[0], Some((latest, _)) if latest == key) {
            seen.swap(0, 1);
        }
        seen[0] = Some((key.clone(), now));
    }

    /// Whether it did so for another resource than `key` within the last minute.
    pub(super) fn beside(&self, key: &CacheKey, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < MINUTE;
        self.lock().iter().flatten().any(|(other, at)| other != key && recent(*at))
    }

    fn lock(&self) -> MutexGuard<'_, [Option<(CacheKey, Instant)>; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::{ApiVersion, Resource, WorkspaceIndex};

    fn key(query: &str) -> CacheKey {
        let resource = Resource::List(Some(query.into()));
        CacheKey { workspace: WorkspaceIndex(0), version: ApiVersion::V2, resource }
    }

    #[tokio::test(start_paused = true)]
    async fn only_another_resource_of_the_last_minute_counts() {
        let (sightings, now) = (Sightings::default(), Instant::now());
        assert!(!sightings.beside(&key("a"), now));
        sightings.note(&key("a"), now);
        assert!(!sightings.beside(&key("a"), now));
        assert!(sightings.beside(&key("b"), now));
        // However often it is seen again, the other is not forgotten.
        sightings.note(&key("b"), now);
        (0..3).for_each(|_| sightings.note(&key("b"), now));
        assert!(sightings.beside(&key("a"), now) && sightings.beside(&key("b"), now));
        assert!(!sightings.beside(&key("a"), now + Duration::from_secs(60)));
    }
}
