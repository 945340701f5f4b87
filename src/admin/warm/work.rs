//! Warms a list: a few calls at a time, each through its lookup in the lowest lane.
//!
//! Where the vendor is not to be asked for now, it waits and asks for the same call again: a full budget, a pause, an open
//! circuit are no failures of a call. Everything else is the call's own line. It ends when nobody reads the lines any
//! more; a flight that is in the air by then lands all the same.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    ids::{List, Listed},
    lines::{self, Done, End, First, Last, Sums},
};
use crate::{
    admin::Parts,
    call::{CacheKey, Resource, WorkspaceIndex},
    downstream::socket::Peer,
    lookup::{Answer, Ask, Content, Directives, Lookup},
    outcome::{ErrorCode, Outcome},
    trace::Trace,
    upstream::credentials::Credentials,
};

/// Calls that are asked for at once. More would only wait side by side: it is the budget that sets the pace.
const TOGETHER: usize = 4;

/// After which time to ask again, where nobody says.
const SOON: Duration = Duration::from_secs(1);

/// A list to be warmed.
pub(super) struct Work {
    lookup: Arc<Lookup>,
    credentials: Arc<Credentials>,
    workspace: WorkspaceIndex,
    /// The workspace's.
    name: String,
    list: List,
    peer: Peer,
}

impl Work {
    pub(super) fn new(parts: &Parts, workspace: WorkspaceIndex, list: List, peer: Peer) -> Self {
        let name = parts.credentials.name(workspace).to_owned();
        let (lookup, credentials) = (Arc::clone(&parts.lookup), Arc::clone(&parts.credentials));
        Self { lookup, credentials, workspace, name, list, peer }
    }

    /// Does it, and tells how it goes.
    pub(super) async fn run(self, lines: mpsc::Sender<Bytes>) {
        let Self { lookup, credentials, workspace, name, list, peer } = self;
        let (total, version) = (list.len(), list.version);
        tracing::info!(%peer, workspace = name, total, "warming a list of calls");
        let began = Instant::now();
        let mut last = Last { ended: "complete", total, ..Last::default() };
        let first = First { total, workspace: &name, version: version.as_str() };
        let mut reader = lines.send(lines::line(&first)).await.is_ok();
        let one = |listed: Listed| {
            let lookup = &lookup;
            async move {
                let end = match &listed {
                    Listed::Bad(_) => End::invalid(),
                    Listed::Call(id) => {
                        let resource = Resource::Call(id.clone(), None);
                        fetch(lookup, CacheKey { workspace, version, resource }).await
                    }
                };
                (listed, end)
            }
        };
        // A key is asked for as little as what is no id, and repeated not even in part.
        let without_keys = |listed: Listed| match credentials.occur_in(listed.as_str().as_bytes()) {
            true => Listed::Bad(Box::default()),
            false => listed,
        };
        let mut under_way = stream::iter(list.iter()).map(without_keys).map(one).buffer_unordered(TOGETHER);
        while reader {
            let next = tokio::select! {
                biased;
                () = lines.closed() => {
                    reader = false;
                    break;
                }
                () = lookup.drained() => {
                    last.ended = "draining";
                    break;
                }
                next = under_way.next() => next,
            };
            let Some((listed, end)) = next else { break };
            last.done += 1;
            last.sums.count(end.result);
            let id = listed.as_str();
            let eta_seconds = eta(began.elapsed(), last.done, total);
            let done = Done { id, end, done: last.done, total, eta_seconds };
            reader = lines.send(lines::line(&done)).await.is_ok();
        }
        let Sums { kept, hit, ongoing, not_found, failed, invalid } = last.sums;
        let ended = if reader { last.ended } else { "reader left" };
        tracing::info!(
            %peer, workspace = name, ended, total, done = last.done, kept, hit, ongoing, not_found, failed, invalid,
            "warming has ended"
        );
        // Whoever has left hears nothing of it.
        let _ = lines.send(lines::line(&last)).await;
    }
}

/// Fetches one call, however long the vendor has to be left alone before. Another budget is tried at once.
async fn fetch(lookup: &Arc<Lookup>, key: CacheKey) -> End {
    let mut stale = false;
    let mut budget = lookup.upstream().budget_changes();
    loop {
        budget.mark_unchanged();
        let ask = Ask { key: key.clone(), directives: Directives::default(), trace: Trace::new() };
        let answer = lookup.warm(ask).await;
        let now = Instant::now();
        match again(&answer, now, stale) {
            Some(at) => {
                stale =
                    matches!(answer.outcome, Outcome::StaleIfError { .. }) && answer.turned_away.is_none();
                // A time that is over already is no reason to ask in a circle.
                // The sender lives as long as the lookup.
                let _ = timeout_at(at.max(now + Duration::from_millis(10)), budget.changed()).await;
            }
            None => return End::of(&answer),
        }
    }
}

/// When to ask for the same call again, where this answer only says that the vendor cannot be asked for now. A stale
/// record does not tell whether the vendor fails or asks for a pause, so it is asked `once_more`, by when the pause is
/// known.
fn again(answer: &Answer, now: Instant, once_more: bool) -> Option<Instant> {
    let refused = match &answer.content {
        Content::Refused(refusal) => refusal,
        Content::Stored(_) => {
            let stale = matches!(answer.outcome, Outcome::StaleIfError { .. });
            return (stale && (answer.turned_away.is_some() || !once_more)).then_some(now + SOON);
        }
    };
    let later = matches!(
        refused.code,
        ErrorCode::RateLimitExceeded | ErrorCode::Overloaded | ErrorCode::UpstreamCircuitOpen
    );
    later.then(|| refused.retry_at.unwrap_or(now + SOON))
}

/// What the rest takes at the pace so far, in seconds, rounded up.
fn eta(elapsed: Duration, done: usize, total: usize) -> u64 {
    let left = (total.saturating_sub(done)) as f64;
    (elapsed.as_secs_f64() * left / done.max(1) as f64).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_expected_to_take_as_long_as_what_is_done() {
        let table = [(0, 1, 10, 0), (10, 5, 10, 10), (10, 10, 10, 0), (1, 3, 4, 1), (60, 60, 6_000, 5_940)];
        for (elapsed, done, total, expected) in table {
            assert_eq!(eta(Duration::from_secs(elapsed), done, total), expected);
        }
    }
}
