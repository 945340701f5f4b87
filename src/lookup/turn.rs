//! Until a flight's turn has come: another replica brings what it wants, or it has the lease and the permit to ask the
//! vendor itself.
//!
//! The lease comes before the permit, so that replicas which want the same do not queue for it side by side. In the
//! lanes below that of lookups it comes after: what may wait long must not hold up another replica's callers.

use std::pin::{Pin, pin};

use tokio::time::{Instant, sleep_until};

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
    Kept(Leader, std::sync::Arc<Stored>),
    /// Nobody waits any more.
    Deserted,
}

/// How a wait ended.
enum Waited<T> {
    Over(T),
    /// Somebody joined who is to be served before the lane that was waited in.
    Hurried,
    /// Nobody waits any more.
    Deserted,
}

/// Waits for the turn of a flight that began at `started`.
pub(super) async fn come(
    lookup: &Lookup,
    mut leader: Leader,
    ask: &Ask,
    lane: Lane,
    started: Instant,
) -> Turn {
    let (store, upstream) = (lookup.store(), lookup.upstream());
    let latest = started + upstream.patience();
    let mut lane = lane;
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
            Boarding::Elsewhere(elsewhere) => match others(leader, &elsewhere, latest).await {
                Others::Landed(leader, landing) => return Turn::Landed(leader, landing),
                Others::Deserted => return Turn::Deserted,
                // A request that cannot end well would only be counted.
                Others::Nothing(back) if upstream.is_worth_asking_before(latest) => {
                    leader = back;
                    continue;
                }
                Others::Nothing(leader) | Others::Late(leader) => {
                    let detail = "another replica asked for it, and nothing came of that in time";
                    let refusal = Refusal::new(ErrorCode::UpstreamTimeout, detail);
                    return Turn::Ours(leader, Lease::none(), lane, Err(refusal));
                }
            },
        };
        let (back, reached, permit) = match permit(lookup, leader, ask, lane, started).await {
            Some(permit) => permit,
            None => return Turn::Deserted,
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

/// What became of waiting for another replica.
enum Others {
    Landed(Leader, Box<Landing>),
    /// It ended without bringing anything.
    Nothing(Leader),
    /// It takes longer than callers may be kept waiting.
    Late(Leader),
    Deserted,
}

async fn others(mut leader: Leader, elsewhere: &Elsewhere, latest: Instant) -> Others {
    let mut landing = pin!(elsewhere.landing());
    loop {
        tokio::select! {
            biased;
            landed = landing.as_mut() => return match landed {
                Some(landed) => Others::Landed(leader, Box::new(landed)),
                None => Others::Nothing(leader),
            },
            () = sleep_until(latest) => return Others::Late(leader),
            () = leader.deserted() => match leader.give_up() {
                Ok(()) => return Others::Deserted,
                Err(wanted) => leader = wanted,
            },
        }
    }
}

/// Waits for the permit of a flight that began at `since`, in the lane of lookups once somebody is in a hurry. `None` where nobody waits any more.
async fn permit(
    lookup: &Lookup,
    mut leader: Leader,
    ask: &Ask,
    lane: Lane,
    mut since: Instant,
) -> Option<(Leader, Lane, Result<Permit, Refusal>)> {
    let mut lane = if leader.is_urgent() { Lane::Lookup } else { lane };
    loop {
        let mut permit = pin!(lookup.upstream().permit(ask.key.workspace, lane, since));
        loop {
            match wait_for_permit(permit.as_mut(), &leader, lane).await {
                // Somebody in a hurry came in the very moment: what was refused to a lower lane is not refused to them.
                Waited::Over(Err(_)) if lane != Lane::Lookup && leader.is_urgent() => break,
                Waited::Over(permit) => return Some((leader, lane, permit)),
                Waited::Hurried => break,
                // Who joins a deserted flight finds its place in the queue still taken.
                Waited::Deserted => match leader.give_up() {
                    Ok(()) => return None,
                    Err(wanted) => leader = wanted,
                },
            }
        }
        // Who came in a hurry waits as long as anybody.
        (lane, since) = (Lane::Lookup, Instant::now());
    }
}

async fn wait_for_permit(
    permit: Pin<&mut impl Future<Output = Result<Permit, Refusal>>>,
    leader: &Leader,
    lane: Lane,
) -> Waited<Result<Permit, Refusal>> {
    tokio::select! {
        biased;
        permit = permit => Waited::Over(permit),
        () = leader.hurried(), if lane != Lane::Lookup => Waited::Hurried,
        () = leader.deserted() => Waited::Deserted,
    }
}
