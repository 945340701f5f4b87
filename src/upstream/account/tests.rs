//! Keys that come to draw on another budget while a request is on its way: how long it waits there, and what is told
//! where it waits in vain.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{
    task::JoinHandle,
    time::{advance, sleep},
};

use super::*;
use crate::{
    call::{ApiVersion, CacheKey, CallId, Resource},
    clock::Clock,
    metrics::{Metrics, Snapshot},
    trace::Trace,
    upstream::{
        Settings,
        credentials::{KeySource, WorkspaceSettings},
        error::{Unanswered, UpstreamError},
        scripted::{Script, scripted},
        vendor::VendorAnswer,
    },
};

/// Has its key in a file.
const FILED: WorkspaceIndex = WorkspaceIndex(0);
/// May send one request a minute.
const SCANT: WorkspaceIndex = WorkspaceIndex(1);

const MINUTE: Duration = Duration::from_secs(60);
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

struct World {
    upstream: Arc<Upstream>,
    vendor: Script,
    metrics: Arc<Metrics>,
    dir: tempfile::TempDir,
}

fn put(dir: &Path, key: &str) -> PathBuf {
    let (beside, path) = (dir.join("new"), dir.join("key"));
    fs::write(&beside, key).expect("written");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::rename(&beside, &path).expect("renamed");
    path
}

impl World {
    fn new() -> Self {
        Self::stating([None, Some(1)])
    }

    /// The workspaces state these limits.
    fn stating([filed_states, scant_states]: [Option<u32>; 2]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let inline = KeySource::Inline(Arc::new(ApiKey::parse(b"key-of-scant").expect("a key")));
        let workspace = |name: &str, source, limit| WorkspaceSettings {
            name: name.into(),
            workspace_id: name.into(),
            source,
            requests_per_minute: limit,
        };
        let filed = KeySource::File(put(dir.path(), "key-of-filed"));
        let all = vec![workspace("filed", filed, filed_states), workspace("scant", inline, scant_states)];
        let credentials = Arc::new(Credentials::open(all, Vec::new()).expect("opened"));
        let settings = Settings {
            origin: Origin {
                scheme: http::uri::Scheme::HTTPS,
                authority: http::uri::Authority::from_static("vendor.test"),
            },
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            max_concurrency: 16,
            max_body: 1 << 20,
            retries: 1,
            ca_file: None,
        };
        let budget = budget::Settings {
            requests_per_minute: 60,
            replicas_fallback: None,
            reserve: None,
            queue_timeout: QUEUE_TIMEOUT,
            queue_length: 1_000,
        };
        let (vendor, script) = scripted();
        let (clock, metrics) =
            (Arc::new(Clock::starting_at(SystemTime::UNIX_EPOCH)), Arc::new(Metrics::new()));
        let counted = Arc::clone(&metrics);
        let ties = budget::Ties::default();
        let upstream = Upstream::new(settings, &budget, credentials, vendor, clock, counted, ties);
        Self { upstream: Arc::new(upstream), vendor: script, metrics, dir }
    }

    async fn permit(&self, workspace: WorkspaceIndex) -> Permit {
        self.upstream.permit(workspace, Lane::Lookup, Instant::now()).await.expect("a turn")
    }

    fn fetch(
        &self,
        workspace: WorkspaceIndex,
        permit: Permit,
    ) -> JoinHandle<Result<VendorAnswer, Unanswered>> {
        self.fetch_before(self.upstream.deadline(), workspace, permit)
    }

    fn fetch_before(
        &self,
        deadline: Instant,
        workspace: WorkspaceIndex,
        permit: Permit,
    ) -> JoinHandle<Result<VendorAnswer, Unanswered>> {
        let upstream = Arc::clone(&self.upstream);
        let id = CallId::parse(b"a-call").expect("an id");
        let key = CacheKey { workspace, version: ApiVersion::V2, resource: Resource::Call(id, None) };
        tokio::spawn(
            async move { upstream.fetch(&key, &Trace::new(), || Lane::Lookup, deadline, permit).await },
        )
    }

    /// Spends what the scant key has, so that it has something again after `left`.
    async fn spend(&mut self, left: Duration) {
        let fetch = self.fetch(SCANT, self.permit(SCANT).await);
        self.vendor.next().await.answer(200, "{}");
        assert!(fetch.await.expect("no panic").is_ok());
        advance(MINUTE - left).await;
    }

    /// The file comes to hold the scant key.
    fn rotate(&self) {
        self.rotate_to("key-of-scant");
    }

    fn rotate_to(&self, key: &str) {
        put(self.dir.path(), key);
    }

    /// Requests that waited for their turn and got it, and those that got none.
    fn turns(&self) -> [String; 2] {
        let (_, text) = self.metrics.render(None, Snapshot::default());
        ["callgate_budget_wait_seconds_count ", "callgate_budget_rejected_total "].map(|name| {
            text.lines().find_map(|line| line.strip_prefix(name)).expect("such a metric").to_owned()
        })
    }
}

/// What came of the request that was sent.
async fn failed(fetch: JoinHandle<Result<VendorAnswer, Unanswered>>) -> ErrorCode {
    match fetch.await.expect("no panic").expect_err("no other try") {
        Unanswered::Failed(refusal) => refusal.code,
        unanswered @ Unanswered::NotSent(..) => panic!("sent: {unanswered:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_on_another_account_is_waited_for_like_any_other_and_counted() {
    let mut world = World::new();
    world.spend(Duration::from_secs(1)).await;
    let permit = world.permit(FILED).await;
    world.rotate();
    let began = Instant::now();
    let fetch = world.fetch(FILED, permit);
    let request = world.vendor.next().await;
    assert!(request.key.same(&ApiKey::parse(b"key-of-scant").expect("a key")));
    assert!((Duration::from_millis(900)..QUEUE_TIMEOUT).contains(&began.elapsed()));
    request.answer(200, "{}");
    assert!(fetch.await.expect("no panic").is_ok());
    assert_eq!(world.turns(), ["3", "0"], "two that came, and the one that moved");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_on_another_account_beyond_the_queue_timeout() {
    let mut world = World::new();
    // In time for the answer, and too late for the queue.
    world.spend(Duration::from_secs(5)).await;
    let permit = world.permit(FILED).await;
    world.rotate();
    let unanswered = world.fetch(FILED, permit).await.expect("no panic").expect_err("no turn");
    let Unanswered::NotSent(Lane::Lookup, refusal) = unanswered else { panic!("not sent: {unanswered:?}") };
    assert_eq!(refusal.code, ErrorCode::RateLimitExceeded);
    assert_eq!(world.turns(), ["2", "1"]);
    assert_eq!(world.vendor.unanswered().await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_known_stands_where_there_is_no_turn_for_another_try() {
    for (error, code) in [
        (UpstreamError::CredentialsRejected(401), ErrorCode::UpstreamCredentialsRejected),
        // Here the key changes after the turn for the other try was had.
        (UpstreamError::Failing(503), ErrorCode::UpstreamError),
    ] {
        let mut world = World::new();
        world.spend(Duration::from_secs(30)).await;
        let fetch = world.fetch(FILED, world.permit(FILED).await);
        let request = world.vendor.next().await;
        world.rotate();
        request.fail(error);
        assert_eq!(failed(fetch).await, code);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.vendor.unanswered().await, 0);
        let (_, text) = world.metrics.render(None, Snapshot::default());
        assert!(text.contains("callgate_upstream_retries_total 0\n"), "a try that was not made");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_turn_that_leaves_no_time_for_an_answer() {
    let mut world = World::new();
    let second = Duration::from_secs(1);
    // The other key's turn comes a tenth of a second before all has to be over.
    world.spend(15 * second - second / 10).await;
    let permit = world.permit(FILED).await;
    let fetch = world.fetch(FILED, permit);
    let request = world.vendor.next().await;
    advance(13 * second).await;
    world.rotate();
    request.fail(UpstreamError::Failing(503));
    assert_eq!(failed(fetch).await, ErrorCode::UpstreamError);
    sleep(3 * second).await;
    assert_eq!(world.vendor.unanswered().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_end_well_any_more_is_not_sent_and_costs_nothing() {
    let mut world = World::new();
    let remaining = |world: &World| world.upstream.budgets(Instant::now())[0].1.remaining;
    let permit = world.permit(FILED).await;
    let soon = Instant::now() + Duration::from_secs(1);
    let unanswered = world.fetch_before(soon, FILED, permit).await.expect("no panic").expect_err("too late");
    let Unanswered::NotSent(Lane::Lookup, refusal) = unanswered else { panic!("not sent: {unanswered:?}") };
    assert_eq!(refusal.code, ErrorCode::UpstreamTimeout);
    assert_eq!((world.vendor.unanswered().await, remaining(&world)), (0, 60));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_a_workspace_states_goes_with_it_to_a_key_that_is_known() {
    let world = World::stating([Some(1), None]);
    let _one = world.permit(SCANT).await;
    world.rotate();
    world.upstream.credentials.refresh(FILED).await;
    for workspace in [FILED, SCANT] {
        let refused = world.upstream.permit(workspace, Lane::Lookup, Instant::now()).await;
        assert_eq!(refused.expect_err("one has left").code, ErrorCode::RateLimitExceeded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_401_of_the_key_before_leaves_that_of_the_key_in_use_known() {
    let mut world = World::new();
    let rejected = |world: &World| world.upstream.rejected(Instant::now()).join(" ");
    let _early = world.fetch(FILED, world.permit(FILED).await);
    let early = world.vendor.next().await;
    world.rotate_to("key-that-is-wrong-too");
    let fetch = world.fetch(FILED, world.permit(FILED).await);
    world.vendor.next().await.fail(UpstreamError::CredentialsRejected(401));
    assert_eq!(failed(fetch).await, ErrorCode::UpstreamCredentialsRejected);
    assert_eq!(rejected(&world), "filed");
    early.fail(UpstreamError::CredentialsRejected(401));
    // It is tried again with the key that is there, of which nothing more is known yet.
    let _again = world.vendor.next().await;
    assert_eq!(rejected(&world), "filed");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_key_is_gone_once_it_was_replaced_and_nobody_uses_it() {
    let mut world = World::new();
    let key = Arc::downgrade(&world.upstream.credentials.key(FILED));
    let fetch = world.fetch(FILED, world.permit(FILED).await);
    world.vendor.next().await.fail(UpstreamError::CredentialsRejected(401));
    assert_eq!(failed(fetch).await, ErrorCode::UpstreamCredentialsRejected);
    assert!(key.strong_count() > 0);
    world.rotate();
    world.upstream.credentials.refresh(FILED).await;
    assert_eq!(key.strong_count(), 0);
    assert!(world.upstream.rejected(Instant::now()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_allows_no_further_retry() {
    let mut world = World::new();
    let permit = world.permit(FILED).await;
    let soon = Instant::now() + Duration::from_secs(1);
    let unsent = world.fetch_before(soon, FILED, permit).await.expect("no panic").expect_err("too late");
    assert!(matches!(unsent, Unanswered::NotSent(..)));
    // With a fifth request there would be one retry more.
    for retried in [true, true, true, false] {
        let fetch = world.fetch(FILED, world.permit(FILED).await);
        world.vendor.next().await.fail(UpstreamError::Failing(503));
        if retried {
            world.vendor.next().await.answer(200, "{}");
            assert!(fetch.await.expect("no panic").is_ok());
        } else {
            assert_eq!(failed(fetch).await, ErrorCode::UpstreamError);
        }
    }
}
