//! No more leaves than the budget allows, whoever asks for it, and no more at once than there are connections.

use std::time::Duration;

use callgate::sandbox::{Config, FaultKind};
use jiff::Timestamp;

use super::world::{World, answers, field, quiet, start, workspace};
use crate::sandbox::world::{KEY, Reply};

/// What the budget of a workspace has left, as the metrics have it.
async fn remaining(world: &World, workspace: &str) -> f64 {
    world.metric(&format!("callgate_budget_remaining{{workspace=\"{workspace}\"}}")).await
}

#[tokio::test]
async fn forty_callers_of_forty_calls_cost_a_budget_of_twelve_twelve_requests() {
    let vendor = Config { rate_limit: 12, latency: Duration::from_millis(20), ..quiet() };
    let world = start(vendor, "budget.requests_per_minute = 12").await;
    let ids = world.settled(40);
    let before = Timestamp::now();
    let replies = world.calls(&ids).await;
    assert_eq!((world.vendor.requests(), world.vendor.rejected()), (12, 0));
    let (served, limited): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((served.len(), limited.len()), (12, 28));
    limited.into_iter().for_each(|reply| is_a_429(reply, before));

    // What was paid for costs nothing more, and is had however empty the budget is.
    let paid: Vec<_> =
        ids.iter().zip(&replies).filter(|(_, reply)| reply.status == 200).map(|(id, _)| id.clone()).collect();
    for reply in world.calls(&paid).await {
        assert!(field(&reply, "cache-status").starts_with("callgate; hit; ttl="));
    }
    assert_eq!(world.vendor.requests(), 12);

    assert_eq!(remaining(&world, "main").await, 0.0);
    for (series, value) in [
        ("callgate_budget_rejected_total", 28.0),
        ("callgate_budget_wait_seconds_count", 12.0),
        ("callgate_upstream_requests_total{code=\"200\"}", 12.0),
        ("callgate_upstream_request_duration_seconds_count", 12.0),
        ("callgate_upstream_in_flight", 0.0),
        ("callgate_upstream_retries_total", 0.0),
        ("callgate_requests_total{route=\"lookup\",cache=\"miss\",code=\"200\"}", 12.0),
        ("callgate_requests_total{route=\"lookup\",cache=\"miss\",code=\"429\"}", 28.0),
        ("callgate_requests_total{route=\"lookup\",cache=\"hit\",code=\"200\"}", 12.0),
        ("callgate_cache_entries{tier=\"memory\"}", 12.0),
        ("callgate_circuit_state", 0.0),
        ("callgate_upstream_cooldown_seconds", 0.0),
    ] {
        assert_eq!(world.metric(series).await, value, "{series}");
    }
}

/// A problem that says when to come back, in the vendor's words and in those of RFC 9457.
fn is_a_429(reply: &Reply, before: Timestamp) {
    assert_eq!(reply.error(), (429, "rate_limit_exceeded".into()));
    assert_eq!(field(reply, "content-type"), "application/problem+json");
    assert_eq!(field(reply, "cache-control"), "no-store");
    assert_eq!(field(reply, "cache-status"), "callgate; fwd=uri-miss; detail=rate_limit_exceeded");
    let retry_after: i64 = field(reply, "retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    let body = reply.json();
    assert_eq!(body["type"], "urn:callgate:problem:rate_limit_exceeded");
    assert_eq!(body["status"], 429);
    let reset: Timestamp = body["error"]["reset_at"].as_str().expect("a time").parse().expect("ISO 8601");
    let from_now = reset.duration_since(before).as_secs();
    assert!((retry_after - 1..=retry_after + 20).contains(&from_now), "{from_now} after {retry_after}");
}

#[tokio::test]
async fn forty_callers_of_one_call_cost_one_request() {
    let world = start(Config { latency: Duration::from_millis(100), ..quiet() }, "").await;
    let line = format!("GET /calls/{}", world.settled(1)[0]);
    let replies = answers(world.at_once(40, &line, "").await).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body == replies[0].body));
    assert_eq!(world.vendor.requests(), 1);
    let joined = |reply: &&Reply| field(reply, "cache-status").ends_with("; stored; collapsed");
    assert_eq!(replies.iter().filter(joined).count(), 39);
    let series = "callgate_requests_total{route=\"lookup\",cache=\"collapsed\",code=\"200\"}";
    assert_eq!(world.metric(series).await, 39.0);
}

#[tokio::test]
async fn workspaces_with_one_key_share_its_budget() {
    let workspaces = workspace("one", "ws-sandbox", KEY) + &workspace("two", "ws-other", KEY);
    let world = start(quiet(), &format!("budget.requests_per_minute = 3\n{workspaces}")).await;
    let ids = world.settled(5);
    assert_eq!(world.call(&ids[0]).await.status, 200);
    assert_eq!((remaining(&world, "one").await, remaining(&world, "two").await), (2.0, 2.0));
    let other = "x-workspace-id: ws-other\r\n";
    let of_the_other = world.ask(&format!("GET /calls/{}", ids[0]), other).await;
    assert_eq!(of_the_other.error(), (502, "upstream_credentials_rejected".into()), "but it was asked");
    assert_eq!(world.call(&ids[1]).await.status, 200);
    assert_eq!(world.call(&ids[2]).await.status, 429);
    assert_eq!(world.ask(&format!("GET /calls/{}", ids[3]), other).await.status, 429);
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn workspaces_with_keys_of_their_own_have_budgets_of_their_own() {
    let one = workspace("one", "ws-sandbox", KEY) + "requests_per_minute = 2\n";
    let workspaces = one + &workspace("two", "ws-other", "another-key-of-the-vendor");
    let world = start(quiet(), &format!("budget.requests_per_minute = 3\n{workspaces}")).await;
    let ids = world.settled(5);
    let statuses: Vec<_> = world.calls(&ids).await.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2);
    assert_eq!((remaining(&world, "one").await, remaining(&world, "two").await), (0.0, 3.0));
    let other = world.ask(&format!("GET /calls/{}", ids[0]), "x-workspace-id: ws-other\r\n").await;
    assert_eq!(other.error(), (502, "upstream_credentials_rejected".into()));
    assert_eq!((remaining(&world, "one").await, remaining(&world, "two").await), (0.0, 2.0));
    assert_eq!(world.vendor.requests(), 3);
    // Hits need none.
    let kept = statuses.iter().position(|status| *status == 200).expect("one of them");
    assert_eq!(world.call(&ids[kept]).await.status, 200);
}

#[tokio::test]
async fn no_more_are_under_way_at_once_than_there_may_be() {
    let settings =
        "upstream.max_concurrency = 3\nbudget.queue_timeout = \"300ms\"\nupstream.response_timeout = \"60s\"";
    let world = start(quiet(), settings).await;
    let hit = world.settled(11).pop().expect("an id");
    assert_eq!(world.call(&hit).await.status, 200);
    world.befall(FaultKind::Hang);
    let first: Vec<_> = world.settled(3).iter().map(|id| world.calling(id)).collect();
    world.vendor.reached(4).await;
    assert_eq!(world.metric("callgate_upstream_in_flight").await, 3.0);
    for reply in world.calls(&world.settled(10)[3..]).await {
        assert_eq!(reply.error(), (429, "rate_limit_exceeded".into()));
        assert_eq!(field(&reply, "retry-after"), "1");
    }
    assert_eq!(world.vendor.requests(), 4);
    assert!(field(&world.call(&hit).await, "cache-status").starts_with("callgate; hit"));
    assert!(first.iter().all(|asking| !asking.is_finished()));
}

#[tokio::test]
async fn a_queue_that_is_full_turns_away_at_once() {
    let settings = "upstream.max_concurrency = 1\nbudget.queue_length = 2\nbudget.queue_timeout = \"60s\"\n\
                    upstream.response_timeout = \"60s\"";
    let world = start(quiet(), settings).await;
    world.befall(FaultKind::Hang);
    let ids = world.settled(5);
    let held = world.calling(&ids[0]);
    world.vendor.reached(1).await;
    // Of these two wait, and the others are told at once.
    let mut rest: Vec<_> = ids[1..].iter().map(|id| world.calling(id)).collect();
    for _ in 0..2 {
        let (reply, _, others) = futures_util::future::select_all(rest).await;
        assert_eq!(reply.expect("no panic").error(), (503, "overloaded".into()));
        rest = others;
    }
    assert!(!held.is_finished() && rest.iter().all(|asking| !asking.is_finished()));
    assert_eq!(world.vendor.requests(), 1);
}
