//! The vendor's 429: one request a pause, and everybody else is answered without the vendor.

use std::time::{Duration, UNIX_EPOCH};

use callgate::sandbox::{Clock, Config, PauseHint};
use tokio::time::{Instant, sleep, timeout};

use super::world::{LONG, World, field, quiet, start};

/// How far ahead the vendor's 429s say that it may be asked again, about: they name whole seconds.
const PAUSE: Duration = Duration::from_millis(1_500);

/// A vendor whose clock is behind by so much that a minute from its now is a short pause.
struct Behind {
    clock: Clock,
    set: Instant,
}

impl Behind {
    fn new() -> Self {
        let now = Clock::wall().now() + PAUSE - Duration::from_secs(60);
        Self { clock: Clock::standing_at(UNIX_EPOCH + now), set: Instant::now() }
    }

    /// The clock stands between requests; this brings it up.
    fn catch_up(&mut self) {
        let now = Instant::now();
        self.clock.advance(now - self.set);
        self.set = now;
    }
}

/// Twenty callers of twenty calls that are not kept.
async fn crowd(world: &World) {
    for reply in world.calls(&world.settled(30)[10..]).await {
        assert_eq!(reply.error(), (429, "rate_limit_exceeded".into()));
        let pause: u64 = field(&reply, "retry-after").parse().expect("seconds");
        assert!((1..=5).contains(&pause), "{pause}");
        assert!(reply.json()["error"]["reset_at"].is_string());
    }
}

#[tokio::test]
async fn a_storm_of_429s_costs_the_vendor_one_request_a_pause() {
    let mut vendor = Behind::new();
    let config = Config { pause_hint: PauseHint::ResetAt, clock: vendor.clock.clone(), ..quiet() };
    // A call under way that is kept for an hour is a hit; a call that is over is stale at once.
    let settings = "budget.queue_timeout = \"0s\"\nlookup.ongoing_ttl = \"1h\"\nlookup.final_ttl = \"1ms\"\nlookup.failure_ttl = \"0s\"";
    let world = start(config, settings).await;
    let (hit, stale) = (world.vendor.start_call(), world.settled(1).remove(0));
    assert_eq!((world.call(&hit).await.status, world.call(&stale).await.status), (200, 200));
    assert_eq!(world.vendor.requests(), 2);
    sleep(Duration::from_millis(1)).await;

    world.answer_with(429);
    let mut spent = 2;
    for _ in 0..2 {
        // Whoever comes first after the pause finds out that there is another.
        let asked = async {
            while world.vendor.requests() == spent {
                vendor.catch_up();
                assert_eq!(world.call("nobodys-call").await.status, 429);
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONG, asked).await.expect("the pause ends");
        spent += 1;
        assert!(world.metric("callgate_upstream_cooldown_seconds").await > 0.0);
        crowd(&world).await;
        let hit = world.call(&hit).await;
        assert!(field(&hit, "cache-status").starts_with("callgate; hit; ttl=3"), "{hit:?}");
        let stale = world.call(&stale).await;
        assert_eq!(stale.status, 200);
        assert!(field(&stale, "cache-status").ends_with("; detail=stale-if-error"), "{stale:?}");
        assert_eq!(world.vendor.requests(), spent, "not one in the pause");
    }
    assert_eq!(world.vendor.rejected(), 2);
    assert_eq!(world.metric("callgate_upstream_requests_total{code=\"429\"}").await, 2.0);
    assert_eq!(world.metric("callgate_upstream_retries_total").await, 0.0);

    // And when the vendor is well again the one that goes ahead opens the way for all.
    world.heal();
    let well = async {
        while world.call(&world.settled(2)[1]).await.status != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, well).await.expect("the pause ends");
    assert!(world.calls(&world.settled(12)[2..]).await.iter().all(|reply| reply.status == 200));
    assert_eq!(world.metric("callgate_upstream_cooldown_seconds").await, 0.0);
}

#[tokio::test]
async fn a_vendor_that_counts_more_than_we_do_is_believed() {
    // Somebody else uses the key: the vendor's limit is met long before the budget is.
    for pause_hint in [PauseHint::Both, PauseHint::RetryAfter, PauseHint::ResetAt, PauseHint::Neither] {
        let world = start(Config { rate_limit: 3, pause_hint, ..quiet() }, "").await;
        for id in world.settled(3) {
            assert_eq!(world.call(&id).await.status, 200);
        }
        let ids = world.settled(30);
        let first = world.call(&ids[4]).await;
        assert_eq!(first.error(), (429, "rate_limit_exceeded".into()));
        let pause: u64 = field(&first, "retry-after").parse().expect("seconds");
        assert!((30..=62).contains(&pause), "{pause_hint:?}: {pause}");
        for reply in world.calls(&ids[5..]).await {
            assert_eq!(reply.status, 429);
        }
        assert_eq!((world.vendor.requests(), world.vendor.rejected()), (4, 1), "{pause_hint:?}");
        let cooldown = world.metric("callgate_upstream_cooldown_seconds").await;
        assert!((30.0..=62.5).contains(&cooldown), "{pause_hint:?}: {cooldown}");
        assert!(world.ready().await, "the vendor's state is no reason not to be asked");
    }
}
