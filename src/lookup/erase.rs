//! Forgetting at an operator's wish, one's own or that of another replica's.
//!
//! Flights that are in the air keep nothing of what they bring, and neither do those that begin before it is done, for
//! they may have found in the store what is to be forgotten. Whoever asks once it is done gets an answer from after it.

use std::sync::Arc;

use super::Lookup;
use crate::{
    call::CacheKey,
    store::{Erased, Erasure, Erasures},
};

/// Forgets. It goes on to its end when who asked for it leaves. `None` where it broke off, which is logged.
pub(super) async fn erase(lookup: &Arc<Lookup>, erasure: Erasure) -> Option<Erased> {
    let lookup = Arc::clone(lookup);
    let task = tokio::spawn(async move {
        let about = || {
            let erasure = erasure.clone();
            move |key: &CacheKey| erasure.matches(key)
        };
        // Held until the store has forgotten.
        let _purges = (lookup.flights.purge(about()), lookup.vigils.purge(about()));
        lookup.store.erase(&erasure).await
    });
    match task.await {
        Ok(erased) => Some(erased),
        Err(error) => {
            tracing::error!(%error, "what was to be forgotten may still be kept");
            None
        }
    }
}

/// Forgets what other replicas were told to forget, for ever.
pub(super) async fn follow(lookup: &Lookup, mut erasures: Erasures) {
    loop {
        let told = erasures.next().await;
        let about = || {
            let erasures: Vec<Erasure> = told.iter().map(|told| told.erasure.clone()).collect();
            move |key: &CacheKey| erasures.iter().any(|erasure| erasure.matches(key))
        };
        let purges = (lookup.flights.purge(about()), lookup.vigils.purge(about()));
        lookup.store.obey(&told).await;
        drop(purges);
        lookup.store.note_obeyed(&told).await;
    }
}
