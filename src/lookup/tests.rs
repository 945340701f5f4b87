//! A lookup before a scripted vendor, under paused time, and what its callers can count on: who waits for whom, who
//! goes first, and what is given back.

use std::time::SystemTime;

use tokio::{
    task::JoinHandle,
    time::{advance, sleep},
};

use super::*;
use crate::{
    call::{ApiVersion, CallId, Resource, WorkspaceIndex},
    metrics::Metrics,
    upstream::{
        self, budget,
        credentials::{ApiKey, Credentials, KeySource, WorkspaceSettings},
        error::UpstreamError,
        scripted::{Script, scripted, settle},
    },
};

pub(in crate::lookup) const A: &str = "call-a";
pub(in crate::lookup) const B: &str = "call-b";
const C: &str = "call-c";

/// The time of day at the start of every test, in Unix seconds.
pub(in crate::lookup) const NOW: u64 = 1_775_000_000;

/// A lookup, and the script of the vendor behind it.
pub(in crate::lookup) struct World {
    pub(in crate::lookup) lookup: Arc<Lookup>,
    pub(in crate::lookup) vendor: Script,
}

/// What a test may want otherwise.
pub(in crate::lookup) struct Terms {
    pub(in crate::lookup) policy: Settings,
    pub(in crate::lookup) budget: budget::Settings,
    pub(in crate::lookup) upstream: upstream::Settings,
    pub(in crate::lookup) source: KeySource,
}

pub(in crate::lookup) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

impl Default for Terms {
    fn default() -> Self {
        let origin = upstream::Origin {
            scheme: http::uri::Scheme::HTTP,
            authority: http::uri::Authority::from_static("vendor.invalid"),
        };
        Self {
            policy: Settings {
                final_statuses: vec!["completed".into()],
                settle_after: seconds(600),
                settling_ttl: seconds(15),
                final_ttl: seconds(3_600),
                client_max_age: seconds(3_600),
                stale_if_error: seconds(86_400),
                ongoing_ttl: Duration::ZERO,
                not_found_ttl: seconds(5),
                failure_ttl: seconds(1),
                obey_no_cache: true,
                query_ignored: vec![],
                query_forwarded: vec![],
                max_wait: seconds(60),
                list_ttl: Duration::ZERO,
                empty_for_500: false,
            },
            budget: budget::Settings {
                requests_per_minute: 60,
                replicas_fallback: None,
                reserve: None,
                queue_timeout: seconds(2),
                queue_length: 1_000,
            },
            upstream: upstream::Settings {
                origin,
                connect_timeout: seconds(3),
                response_timeout: seconds(15),
                idle_timeout: seconds(30),
                max_concurrency: 16,
                max_body: 1 << 20,
                retries: 1,
                ca_file: None,
            },
            source: KeySource::Inline(Arc::new(ApiKey::parse(b"the-one-key").expect("a key"))),
        }
    }
}

impl World {
    /// Forgets all that is kept of a call; how many entries that was.
    async fn forget(&self, id: &str) -> usize {
        let id = CallId::parse(id.as_bytes()).expect("an id");
        self.lookup.erase(crate::store::Erasure::Call(None, id)).await.expect("forgotten").keys
    }

    pub(in crate::lookup) fn new(terms: Terms) -> Self {
        let workspace = WorkspaceSettings {
            name: "main".into(),
            workspace_id: "ws-1".into(),
            source: terms.source,
            requests_per_minute: None,
        };
        let credentials = Arc::new(Credentials::open(vec![workspace], vec![]).expect("a key"));
        let clock = Arc::new(Clock::starting_at(SystemTime::UNIX_EPOCH + seconds(NOW)));
        let (vendor, script) = scripted();
        let upstream = Upstream::new(
            terms.upstream,
            &terms.budget,
            credentials,
            vendor,
            Arc::clone(&clock),
            Arc::new(Metrics::new()),
            budget::Ties::default(),
        );
        let lookup = Lookup::new(terms.policy, Store::in_memory(1 << 20), upstream, clock);
        Self { lookup: Arc::new(lookup), vendor: script }
    }

    /// A caller who asks for a call, in a task of its own.
    pub(in crate::lookup) fn caller(&self, id: &str) -> JoinHandle<Answer> {
        self.asking(ask(id))
    }

    pub(in crate::lookup) fn asking(&self, ask: Ask) -> JoinHandle<Answer> {
        let lookup = Arc::clone(&self.lookup);
        tokio::spawn(async move { lookup.answer(ask).await })
    }

    /// A poll for a call, as those make it who wait for its end.
    pub(in crate::lookup) fn poll(&self, id: &str) -> JoinHandle<Answer> {
        let (lookup, ask) = (Arc::clone(&self.lookup), ask(id));
        tokio::spawn(async move { lookup.answer_in(Lane::Wait, ask).await })
    }

    /// Looks a call up that the vendor says is over, so that it is kept.
    pub(in crate::lookup) async fn keep(&mut self, id: &str) {
        let caller = self.caller(id);
        self.vendor.next().await.answer(200, settled(id));
        assert_eq!(said(caller).await, (200, "callgate; fwd=uri-miss; fwd-status=200; stored".into()));
    }

    /// What the budget has left.
    pub(in crate::lookup) fn remaining(&self) -> usize {
        self.lookup.upstream().budgets(Instant::now())[0].1.remaining
    }
}

pub(in crate::lookup) fn ask(id: &str) -> Ask {
    let id = CallId::parse(id.as_bytes()).expect("an id");
    let resource = Resource::Call(id, None);
    let key = CacheKey { workspace: WorkspaceIndex(0), version: ApiVersion::V2, resource };
    Ask { key, directives: Directives::default(), trace: Trace::new() }
}

/// The same by a caller who wants nothing to be kept.
pub(in crate::lookup) fn no_store(id: &str) -> Ask {
    Ask { directives: Directives { keep_nothing: true, ..Directives::default() }, ..ask(id) }
}

pub(in crate::lookup) fn ongoing(id: &str) -> String {
    format!(r#"{{"_id":"{id}","status":"ongoing","startTime":{NOW}}}"#)
}

/// The record of a call that was over yesterday.
pub(in crate::lookup) fn settled(id: &str) -> String {
    format!(r#"{{"_id":"{id}","status":"completed","endTime":{}}}"#, NOW - 86_400)
}

/// Status and `Cache-Status` of what a caller gets.
pub(in crate::lookup) async fn said(caller: JoinHandle<Answer>) -> (u16, String) {
    let answer = caller.await.expect("no panic");
    (status(&answer), cache_status(&answer))
}

pub(in crate::lookup) fn cache_status(answer: &Answer) -> String {
    answer.outcome.cache_status().expect("a lookup").to_str().expect("ascii").to_owned()
}

pub(in crate::lookup) fn status(answer: &Answer) -> u16 {
    match &answer.content {
        Content::Stored(stored) => stored.status.as_u16(),
        Content::Refused(refusal) => refusal.code.status().as_u16(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_flight_whose_callers_have_all_left_gives_its_place_back() {
    let mut terms = Terms::default();
    terms.upstream.max_concurrency = 1;
    let mut world = World::new(terms);
    let busy = world.caller(A);
    let first = world.vendor.next().await;
    let (one, two) = (world.caller(B), world.caller(B));
    let stays = world.caller(C);
    settle().await;
    assert_eq!(world.lookup.flights.len(), 3);
    one.abort();
    settle().await;
    assert_eq!(world.lookup.flights.len(), 3, "somebody still waits");
    two.abort();
    settle().await;
    assert_eq!(world.lookup.flights.len(), 2);
    first.answer(200, ongoing(A));
    let next = world.vendor.next().await;
    assert!(next.path.ends_with(C), "who stays goes next, and nothing is sent for those who left");
    next.answer(200, settled(C));
    assert_eq!((said(busy).await.0, said(stays).await.0), (200, 200));
    assert_eq!((world.vendor.unanswered().await, world.remaining()), (0, 58));
}

#[tokio::test(start_paused = true)]
async fn what_is_paid_for_goes_on_when_its_callers_leave_and_is_kept() {
    let mut world = World::new(Terms::default());
    let caller = world.caller(A);
    let request = world.vendor.next().await;
    caller.abort();
    settle().await;
    assert_eq!(world.lookup.flights.len(), 1);
    // Whoever comes now joins it.
    let late = world.caller(A);
    settle().await;
    late.abort();
    settle().await;
    request.answer(200, settled(A));
    settle().await;
    assert_eq!(said(world.caller(A)).await, (200, "callgate; hit; ttl=3600".into()));
    assert_eq!(world.vendor.seen, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_joins_a_polls_flight_takes_it_along_into_its_own_lane() {
    let mut terms = Terms::default();
    terms.upstream.max_concurrency = 1;
    let mut world = World::new(terms);
    let busy = world.caller(A);
    let first = world.vendor.next().await;
    let (poll_b, poll_c) = (world.poll(B), world.poll(C));
    settle().await;
    let caller = world.caller(C);
    settle().await;
    first.answer(200, settled(A));
    let second = world.vendor.next().await;
    assert!(second.path.ends_with(C), "a caller waits for it: {}", second.path);
    second.answer(200, settled(C));
    let third = world.vendor.next().await;
    assert!(third.path.ends_with(B));
    third.answer(200, settled(B));
    for task in [busy, poll_b, poll_c, caller] {
        assert_eq!(said(task).await.0, 200);
    }
    assert_eq!(world.vendor.seen, 3);
}

#[tokio::test(start_paused = true)]
async fn polls_leave_the_reserve_alone_and_lookups_use_it() {
    let mut terms = Terms::default();
    terms.budget.requests_per_minute = 3;
    terms.budget.reserve = Some(1);
    let mut world = World::new(terms);
    world.keep(A).await;
    world.keep(B).await;
    let (status, why) = said(world.poll(C)).await;
    assert_eq!((status, why.as_str()), (429, "callgate; fwd=uri-miss; detail=rate_limit_exceeded"));
    assert_eq!(world.vendor.unanswered().await, 0);
    // What cost no request is not remembered.
    let caller = world.caller(C);
    world.vendor.next().await.answer(200, settled(C));
    assert_eq!(said(caller).await.0, 200);
    assert_eq!(said(world.caller("call-d")).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn lookups_that_join_a_poll_in_the_moment_it_is_turned_away_are_not_turned_away_with_it() {
    // However the tasks of that moment come to be run.
    for early in [false, true] {
        let mut terms = Terms::default();
        terms.upstream.max_concurrency = 1;
        let mut world = World::new(terms);
        let busy = world.caller(A);
        let first = world.vendor.next().await;
        let end_of_patience = Instant::now() + seconds(2);
        let come = |lookup: Arc<Lookup>| async move {
            tokio::time::sleep_until(end_of_patience).await;
            lookup.answer(ask(B)).await
        };
        let callers = || [(); 3].map(|()| tokio::spawn(come(Arc::clone(&world.lookup))));
        let before = early.then(callers);
        let poll = world.poll(B);
        tokio::task::yield_now().await;
        let callers = before.unwrap_or_else(callers);
        sleep(seconds(3)).await;
        first.answer(200, ongoing(A));
        world.vendor.next().await.answer(200, settled(B));
        for caller in callers {
            assert_eq!(said(caller).await.0, 200, "{early}");
        }
        assert_eq!(said(busy).await.0, 200);
        let _ = poll.await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_while_it_is_fetched_is_answered_and_not_kept() {
    let mut world = World::new(Terms::default());
    let before = world.caller(A);
    let old = world.vendor.next().await;
    assert_eq!(world.forget(A).await, 0, "nothing is kept yet");
    let after = world.caller(A);
    let new = world.vendor.next().await;
    old.answer(200, settled(A));
    assert_eq!(said(before).await, (200, "callgate; fwd=uri-miss; fwd-status=200; detail=purged".into()));
    new.answer(200, settled(A));
    assert_eq!(said(after).await.1, "callgate; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(world.forget(A).await, 1);

    // A failure is not remembered either.
    let before = world.caller(A);
    let request = world.vendor.next().await;
    world.forget(A).await;
    request.answer(500, "");
    assert_eq!(said(before).await.0, 500);
    let after = world.caller(A);
    world.vendor.next().await.answer(200, settled(A));
    assert_eq!(said(after).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_for_all_who_wait_is_remembered_and_wedges_nothing() {
    let mut world = World::new(Terms::default());
    let callers = [(); 9].map(|()| world.caller(A));
    world.vendor.next().await.panic();
    for caller in callers {
        let (status, why) = said(caller).await;
        assert_eq!(status, 500);
        assert!(why.starts_with("callgate; fwd=uri-miss; detail=internal_error"), "{why}");
    }
    assert_eq!(said(world.caller(A)).await, (500, "callgate; hit; ttl=1; detail=failure".into()));
    assert_eq!(world.vendor.unanswered().await, 0);
    advance(seconds(1)).await;
    world.keep(A).await;
    assert_eq!(world.remaining(), 58, "the vendor may have counted the first one");
}

#[tokio::test(start_paused = true)]
async fn a_record_is_as_old_as_the_request_that_brought_it() {
    let mut world = World::new(Terms::default());
    let caller = world.caller(A);
    let request = world.vendor.next().await;
    sleep(seconds(10)).await;
    request.answer(200, settled(A));
    let answer = caller.await.expect("no panic");
    let Content::Stored(stored) = &answer.content else { panic!("an answer") };
    assert_eq!(stored.age(Instant::now()), seconds(10));
    assert_eq!(answer.timing.upstream, Some(seconds(10)));
    let (status, why) = said(world.caller(A)).await;
    assert_eq!((status, why.as_str()), (200, "callgate; hit; ttl=3590"));
}

#[tokio::test(start_paused = true)]
async fn a_stale_record_answers_for_a_failing_vendor_until_its_time_is_over() {
    let mut world = World::new(Terms::default());
    world.keep(A).await;
    advance(seconds(3_600 + 100)).await;
    let caller = world.caller(A);
    world.vendor.next().await.fail(UpstreamError::Incomplete("cut".into()));
    assert_eq!(said(caller).await, (200, "callgate; hit; ttl=-100; detail=stale-if-error".into()));
    // And so it does for those who come while the failure is remembered.
    assert_eq!(said(world.caller(A)).await.1, "callgate; hit; ttl=-100; detail=stale-if-error");
    assert_eq!(world.vendor.unanswered().await, 0);
    advance(seconds(86_400)).await;
    let caller = world.caller(A);
    world.vendor.next().await.fail(UpstreamError::Incomplete("cut".into()));
    assert_eq!(said(caller).await, (502, "callgate; fwd=stale; detail=upstream_incomplete".into()));
}
