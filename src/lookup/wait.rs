//! `Prefer: wait` (RFC 7240 §4.3): holds the answer to a lookup until the call is over.
//!
//! However many wait for one call, one vigil asks the vendor, at a pace of its own and in a lane below that of plain
//! lookups. All of them get the record in the moment in which it is read, by the vigil or by anybody else. A vigil
//! that nobody waits for ends.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Answer, Ask, Content, Lookup, flight};
use crate::{call::CacheKey, clock::UnixMillis, upstream::budget::Lane};

type Leader = flight::Leader<CacheKey, Answer>;

/// The shortest time between two polls, and the longest.
const PACE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

/// The pace grows by the length of the call so far: the longer a call lasts, the longer it is likely to last still,
/// and the less a late answer matters.
const SHARE_OF_AGE: u32 = 30;

/// How long to wait before the next poll for a call of this age.
fn pace(age: Duration) -> Duration {
    (age / SHARE_OF_AGE).clamp(PACE.0, PACE.1)
}

/// How old the call of an answer is, by its record; as long as it was watched, where the record does not say.
fn age(answer: &Answer, now: UnixMillis, watched: Duration) -> Duration {
    let started = match &answer.content {
        Content::Stored(stored) => stored.started,
        Content::Refused(_) => None,
    };
    started.map_or(watched, |at| at.elapsed_at(now))
}

/// Answers a lookup, after up to `patience` where the call is under way.
pub(super) async fn answer(lookup: &Arc<Lookup>, ask: Ask, patience: Duration) -> Answer {
    let began = Instant::now();
    let first = lookup.answer(ask.clone()).await;
    // A wait is a row of requests to the vendor, and who wants only what is kept asks for none.
    if !first.is_ongoing() || ask.directives.only_if_cached {
        return first;
    }
    let watch = |leader| keep_vigil(Arc::clone(lookup), leader, ask.clone(), first.clone());
    // A vigil is never in a hurry.
    let wish = flight::Wish { urgent: false, kept: !ask.directives.keep_nothing };
    let (mut place, joined) = lookup.vigils.join_or_start(&ask.key, wish, Answer::crashed, watch);
    tokio::select! {
        biased;
        over = place.news(Answer::is_over) => match over {
            Some(over) if joined == flight::Joined::Own => over,
            Some(over) => over.collapsed(&ask.directives),
            None => first,
        },
        () = sleep_until(began + patience) => latest(lookup, &place, joined, &ask, first, began),
        () = lookup.drained() => latest(lookup, &place, joined, &ask, first, began),
    }
}

/// The latest that is known of a call that is still under way, and when to ask again: what the vigil read, or what was
/// read for this caller itself.
fn latest(
    lookup: &Lookup,
    place: &flight::Waiter<Answer>,
    joined: flight::Joined,
    ask: &Ask,
    first: Answer,
    began: Instant,
) -> Answer {
    let newer = |read: &Answer| read.is_ongoing() && read.fetched_at() >= first.fetched_at();
    let answer = match place.latest().filter(newer) {
        Some(read) if joined == flight::Joined::Own => read,
        Some(read) => read.collapsed(&ask.directives),
        None => first,
    };
    let retry_after = Some(pace(age(&answer, lookup.clock.now(), began.elapsed())));
    Answer { retry_after, ..answer }
}

/// Asks again and again until the call is over or nobody waits. What fails is passed over: those who wait have an
/// answer already, and their own time to wait.
async fn keep_vigil(lookup: Arc<Lookup>, mut leader: Leader, mut ask: Ask, first: Answer) {
    let began = Instant::now();
    let mut latest = first;
    loop {
        let next = Instant::now() + pace(age(&latest, lookup.clock.now(), began.elapsed()));
        let Some((back, ())) = leader.unless_deserted(sleep_until(next)).await else { return };
        leader = back;
        // Others may have come since, who have nothing against the record's being kept.
        ask.directives.keep_nothing = !leader.is_wanted();
        // What is sent with one parent id is one span.
        ask.trace.renew();
        // A poll that waits for its turn leaves the queue with those who wait for it.
        let Some((back, answer)) = leader.unless_deserted(poll(&lookup, &ask)).await else { return };
        leader = back;
        if answer.is_over() {
            return leader.land(answer);
        }
        if answer.is_ongoing() {
            leader.tell(answer.clone());
            latest = answer;
        }
    }
}

async fn poll(lookup: &Arc<Lookup>, ask: &Ask) -> Answer {
    match lookup.answer_at_once(&ask.key, &ask.directives, Instant::now()) {
        Some(hit) => hit,
        None => lookup.answer_in(Lane::Wait, ask.clone()).await,
    }
}

#[cfg(test)]
mod tests;
