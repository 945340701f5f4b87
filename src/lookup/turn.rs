//! Until a flight's turn has come: another replica brings what it wants, or it has the lease and the permit to ask the
//! vendor itself.
//!
//! The lease comes before the permit, so that replicas which want the same do not queue for it side by side. In the
//! lanes below that of lookups it comes after: what may wait long must not hold up another replica's callers.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{
    Ask, Lookup,
    fetch::{self, Leader},
};
use crate::{
    outcome::{ErrorCode, Refusal},
    store::{Boarding, Elsewhere, Landing, Lease, Stored},
    upstream::budget::{Lane, gate::Permit},
};

/// What a flight's turn came to.
pub(super) enum Turn {
    /// It may ask the vendor, or was refused that.
    Ours(Leader, Lease, Lane, Result<Permit, Refusal>),
    /// Another replica's flight brought what it wants.
    Landed(Leader, Box<Landing>),
    /// It was kept meanwhile, by another replica.
    Kept(Leader, Arc<Stored>),
    /// Nobody waits any more.
    Deserted,
}

/// Waits for the turn of a flight that began at `started`, and is to end by `latest`.
pub(super) async fn come(
    lookup: &Lookup,
    mut leader: Leader,
    ask: &Ask,
    mut lane: Lane,
    started: Instant,
    latest: Instant,
) -> Turn {
    let (store, upstream) = (lookup.store(), lookup.upstream());
    let mut anew = ask.directives.fetch_anew;
    loop {
        if leader.is_urgent() {
            lane = Lane::Lookup;
        }
        let first = lane == Lane::Lookup;
        let lease = match store.board(&ask.key, first, anew).await {
            Boarding::Free(lease) => lease,
            Boarding::Kept(stored) => {
                fetch::keep_here(lookup, &leader, &ask.key, &stored);
                if stored.fresh_for(Instant::now()).is_some() {
                    return Turn::Kept(leader, stored);
                }
                // There to serve if the vendor fails.
                anew = true;
                continue;
            }
            Boarding::Elsewhere(elsewhere) => {
                let Some((back, others)) = others(leader, &elsewhere, latest).await else {
                    return Turn::Deserted;
                };
                leader = back;
                match others {
                    Others::Landed(landing) => return Turn::Landed(leader, landing),
                    // A request that cannot end well would only be counted.
                    Others::Nothing if upstream.is_worth_asking_before(latest) => continue,
                    Others::Nothing | Others::Late => {
                        let detail = "another replica asked for it, and nothing came of that in time";
                        let refusal = Refusal::new(ErrorCode::UpstreamTimeout, detail);
                        return Turn::Ours(leader, Lease::none(), lane, Err(refusal));
                    }
                }
            }
        };
        let Some((back, reached, permit)) = permit(lookup, leader, ask, lane, started).await else {
            return Turn::Deserted;
        };
        (leader, lane) = (back, reached);
        if first || permit.is_err() {
            return Turn::Ours(leader, lease, lane, permit);
        }
        match store.board(&ask.key, true, anew).await {
            Boarding::Free(lease) => return Turn::Ours(leader, lease, lane, permit),
            // The permit goes back unused.
            Boarding::Kept(_) | Boarding::Elsewhere(_) => {}
        }
    }
}

/// Waits for what another replica brings, until `latest`. `None` where nobody waits any more.
async fn others(leader: Leader, elsewhere: &Elsewhere, latest: Instant) -> Option<(Leader, Others)> {
    let landing = async {
        match timeout_at(latest, elsewhere.landing()).await {
            Ok(Some(landing)) => Others::Landed(Box::new(landing)),
            Ok(None) => Others::Nothing,
            Err(_) => Others::Late,
        }
    };
    leader.unless_deserted(landing).await
}

/// What became of waiting for another replica.
enum Others {
    Landed(Box<Landing>),
    /// It ended without bringing anything.
    Nothing,
    /// It takes longer than callers may be kept waiting.
    Late,
}

/// Waits for the permit of a flight that began at `since`, in the lane of lookups once somebody is in a hurry. `None`
/// where nobody waits any more.
async fn permit(
    lookup: &Lookup,
    mut leader: Leader,
    ask: &Ask,
    lane: Lane,
    mut since: Instant,
) -> Option<(Leader, Lane, Result<Permit, Refusal>)> {
    let mut lane = if leader.is_urgent() { Lane::Lookup } else { lane };
    loop {
        let (permit, hurried) = (lookup.upstream().permit(ask.key.workspace, lane, since), leader.hurried());
        let waited = async {
            tokio::select! {
                biased;
                permit = permit => Some(permit),
                () = hurried, if lane != Lane::Lookup => None,
            }
        };
        // Who joins a deserted flight finds its place in the queue still taken.
        let (back, waited) = leader.unless_deserted(waited).await?;
        leader = back;
        match waited {
            // Somebody in a hurry came in the very moment: what was refused to a lower lane is not refused to them.
            Some(Err(_)) if lane != Lane::Lookup && leader.is_urgent() => {}
            Some(permit) => return Some((leader, lane, permit)),
            None => {}
        }
        // Who came in a hurry waits as long as anybody.
        (lane, since) = (Lane::Lookup, Instant::now());
    }
}
