//! What is kept answers in the vendor's place while it fails, and what is gone is gone.

use std::time::Duration;

use callgate::sandbox::FaultKind;
use tokio::time::{Instant, sleep, timeout};

use super::world::{LONG, World, field, quiet, start};

/// A call that is kept and stale; what is kept is so for a millisecond.
async fn stale(world: &World) -> String {
    let id = world.settled(1).remove(0);
    let reply = world.call(&id).await;
    assert_eq!(field(&reply, "cache-status"), "callgate; fwd=uri-miss; fwd-status=200; stored");
    sleep(Duration::from_millis(1)).await;
    id
}

const SHORT_LIVED: &str = "lookup.final_ttl = \"1ms\"\nlookup.not_found_ttl = \"1ms\"\nlookup.failure_ttl = \"0s\"\nupstream.retries = 0\n";

#[tokio::test]
async fn a_stale_call_answers_whatever_keeps_the_vendor_from_it() {
    for fault in [
        FaultKind::Status(http::StatusCode::SERVICE_UNAVAILABLE),
        FaultKind::Status(http::StatusCode::INTERNAL_SERVER_ERROR),
        FaultKind::Status(http::StatusCode::TOO_MANY_REQUESTS),
        FaultKind::Hang,
        FaultKind::Reset,
        FaultKind::Cut,
        FaultKind::Garbage,
        FaultKind::Redirect,
    ] {
        let world = start(quiet(), &format!("{SHORT_LIVED}upstream.response_timeout = \"200ms\"")).await;
        let id = stale(&world).await;
        let fresh = world.call(&id).await;
        assert_eq!(field(&fresh, "cache-status"), "callgate; fwd=stale; fwd-status=200; stored");
        sleep(Duration::from_millis(1)).await;
        world.befall(fault.clone());
        let reply = world.call(&id).await;
        assert_eq!((reply.status, &reply.body), (200, &fresh.body), "{fault:?}");
        let words = field(&reply, "cache-status");
        let ttl =
            words.strip_prefix("callgate; hit; ttl=").and_then(|w| w.strip_suffix("; detail=stale-if-error"));
        assert!(
            ttl.and_then(|ttl| ttl.parse::<i64>().ok()).is_some_and(|ttl| ttl <= 0),
            "{fault:?}: {words}"
        );
        assert!(!field(&reply, "age").is_empty() && field(&reply, "etag") == field(&fresh, "etag"));
        let keep = field(&reply, "cache-control");
        assert!(keep.starts_with("private, max-age=") && !keep.contains("immutable"), "{keep}");
        let series = "callgate_requests_total{route=\"lookup\",cache=\"stale\",code=\"200\"}";
        assert_eq!(world.metric(series).await, 1.0, "{fault:?}");
    }
}

#[tokio::test]
async fn what_says_that_something_is_wrong_for_good_is_not_hidden() {
    for (fault, code) in [
        (FaultKind::Status(http::StatusCode::UNAUTHORIZED), "upstream_credentials_rejected"),
        (FaultKind::ForeignWorkspace, "upstream_mismatch"),
        (FaultKind::EchoKey, "upstream_leaked_credential"),
    ] {
        let world = start(quiet(), SHORT_LIVED).await;
        let id = stale(&world).await;
        world.befall(fault);
        assert_eq!(world.call(&id).await.error(), (502, code.into()));
    }
}

#[tokio::test]
async fn a_404_is_kept() {
    let world = start(quiet(), "lookup.not_found_ttl = \"1h\"").await;
    let first = world.call("nobodys-call").await;
    assert_eq!(
        (first.status, field(&first, "cache-status")),
        (404, "callgate; fwd=uri-miss; fwd-status=404; stored")
    );
    let second = world.call("nobodys-call").await;
    assert_eq!((second.status, &second.body), (404, &first.body), "the vendor's own words");
    let words = field(&second, "cache-status");
    assert!(words.starts_with("callgate; hit; ttl=3") && words.ends_with("; detail=not-found"), "{words}");
    assert_eq!(field(&second, "cache-control"), "no-store");
    assert_eq!(world.vendor.requests(), 1);
    let series = "callgate_requests_total{route=\"lookup\",cache=\"negative\",code=\"404\"}";
    assert_eq!(world.metric(series).await, 1.0);
}

#[tokio::test]
async fn the_404_of_a_call_that_may_be_about_to_appear_is_kept_for_a_second() {
    let world = start(quiet(), "lookup.not_found_ttl = \"1h\"").await;
    // An id made now, that of another call.
    let mut young = world.vendor.start_call();
    let last = if young.pop() == Some('f') { '0' } else { 'f' };
    young.push(last);
    let began = Instant::now();
    let first = world.call(&young).await;
    assert_eq!(
        (first.status, field(&first, "cache-status")),
        (404, "callgate; fwd=uri-miss; fwd-status=404; stored")
    );
    let asked_again = async {
        while world.vendor.requests() == 1 {
            let reply = world.call(&young).await;
            let words = field(&reply, "cache-status");
            assert!(
                words == "callgate; hit; ttl=1; detail=not-found" || words.contains("fwd=stale"),
                "{words}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, asked_again).await.expect("soon");
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_404_removes_a_stale_call() {
    for status in [404, 410] {
        let world = start(quiet(), SHORT_LIVED).await;
        let id = stale(&world).await;
        world.answer_with(503);
        assert_eq!(world.call(&id).await.status, 200);
        world.answer_with(status);
        assert_eq!(world.call(&id).await.status, status, "it hides no erasure");
        sleep(Duration::from_millis(1)).await;
        world.answer_with(503);
        assert_eq!(world.call(&id).await.error(), (502, "upstream_error".into()));
    }
}
