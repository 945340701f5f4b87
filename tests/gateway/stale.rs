//! What is kept past its time: it answers while the vendor fails, and gives way only to what is worth more.

use tokio::time::{Duration, sleep};

use super::{
    records::{LONG_AGO, ongoing, record, settled},
    vendor::{Play, answer, ok},
    world::{ID, KEY, World},
};

const JSON: &str = "content-type: application/json\r\n";

/// Kept for moments, and nothing remembered of failures.
const BRIEFLY: &str =
    "lookup.final_ttl = \"20ms\"\nlookup.failure_ttl = \"0s\"\nlookup.settling_ttl = \"20ms\"\n";

/// A settled call is kept and goes stale; the second answer of the vendor is `then`.
async fn gone_stale(settings: &str, then: fn() -> Play) -> World {
    let world = World::with(&format!("{BRIEFLY}{settings}"), move |seen| match seen.number {
        1 => Play::Send(ok(settled(ID))),
        _ => then(),
    })
    .await;
    assert_eq!(world.call(ID).await.status, 200);
    sleep(Duration::from_millis(30)).await;
    world
}

#[tokio::test]
async fn a_stale_call_is_fetched_anew() {
    let world = gone_stale("", || Play::Send(ok(settled(ID)))).await;
    let anew = world.call(ID).await;
    assert_eq!(anew.cache(), "callgate; fwd=stale; fwd-status=200; stored");
    assert_eq!(anew.number("age"), 0);
}

#[tokio::test]
async fn a_stale_call_still_answers_while_the_vendor_fails() {
    let failures: [fn() -> Play; 8] = [
        || Play::Send(answer("500 Oops", JSON, "{}")),
        || Play::Send(answer("503 Down", JSON, "{}")),
        || Play::Send(answer("429 Slow", JSON, "{}")),
        || Play::ThenClose(Vec::new()),
        || Play::ThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
        || Play::Send(answer("302 Found", "location: /\r\n", "")),
        || Play::Send(b"garbage\r\n\r\n".to_vec()),
        || Play::ThenNothing(Vec::new()),
    ];
    for fails in failures {
        let world = gone_stale("upstream.response_timeout = \"500ms\"", fails).await;
        let stale = world.call(ID).await;
        assert_eq!((stale.status, stale.text()), (200, settled(ID)));
        assert_eq!(stale.cache(), "callgate; hit; ttl=0; detail=stale-if-error");
        assert_eq!(stale.one("cache-control"), "private, max-age=0", "nobody is to hold on to it");
        assert!(stale.field("age").is_some() && stale.field("retry-after").is_none());
    }
}

#[tokio::test]
async fn how_stale_it_is_is_said() {
    let world = gone_stale("", || Play::Send(answer("500 Oops", JSON, "{}"))).await;
    sleep(Duration::from_millis(1_050)).await;
    let stale = world.call(ID).await;
    let age = stale.number("age");
    assert!(age >= 1);
    assert_eq!(stale.cache(), format!("callgate; hit; ttl=-{age}; detail=stale-if-error"));
    assert_eq!(stale.one("cache-control"), format!("private, max-age={age}"));
}

#[tokio::test]
async fn a_failure_that_is_remembered_does_not_hide_the_stale_call() {
    let settings = "lookup.final_ttl = \"20ms\"\nlookup.failure_ttl = \"5s\"";
    let world = World::with(settings, |seen| match seen.number {
        1 => Play::Send(ok(settled(ID))),
        _ => Play::Send(answer("500 Oops", JSON, "{}")),
    })
    .await;
    world.call(ID).await;
    sleep(Duration::from_millis(30)).await;
    for _ in 0..3 {
        let stale = world.call(ID).await;
        assert_eq!(stale.cache(), "callgate; hit; ttl=0; detail=stale-if-error");
    }
    assert_eq!(world.vendor.requests(), 2, "the vendor is left alone meanwhile");
}

#[tokio::test]
async fn what_staleness_must_not_hide_is_told_as_it_is() {
    let told: [(fn() -> Play, u16); 5] = [
        (|| Play::Send(answer("401 No", JSON, "{}")), 502),
        (|| Play::Send(answer("400 No", JSON, "{}")), 400),
        (|| Play::Send(answer("404 No", JSON, "{}")), 404),
        (|| Play::Send(ok(settled(ID).replace("ws-main", "ws-other"))), 502),
        (|| Play::Send(ok(format!(r#"{{"_id":"{ID}","k":"{KEY}"}}"#))), 502),
    ];
    for (then, status) in told {
        assert_eq!(gone_stale("", then).await.call(ID).await.status, status);
    }
}

#[tokio::test]
async fn a_call_that_is_gone_is_forgotten() {
    let world = gone_stale("", || Play::Send(answer("404 No", JSON, "{}"))).await;
    assert_eq!(world.call(ID).await.cache(), "callgate; fwd=stale; fwd-status=404; stored");
    assert!(world.call(ID).await.cache().ends_with("detail=not-found"));
}

#[tokio::test]
async fn what_is_too_stale_answers_no_more() {
    let world =
        gone_stale("lookup.stale_if_error = \"0s\"", || Play::Send(answer("500 Oops", JSON, "{}"))).await;
    assert_eq!(world.call(ID).await.status, 500);
}

#[tokio::test]
async fn a_final_record_is_not_replaced_by_one_that_is_not_final_or_older() {
    let old = r#","endTime":1680000000,"updatedAt":"2023-03-28T10:40:00Z""#;
    let kept = record(ID, "completed", r#","endTime":1680000000,"updatedAt":"2023-03-28T10:45:00Z""#);
    let new = record(ID, "failed", r#","endTime":1680000000,"updatedAt":"2023-03-28T10:50:00Z""#);
    let table = [
        (ongoing(ID), false),
        (record(ID, "ongoing", r#","updatedAt":"2030-01-01T00:00:00Z""#), false),
        (record(ID, "completed", old), false),
        (String::from("<html>"), false),
        (kept.clone(), true),
        (new, true),
    ];
    for (then, replaces) in table {
        let (first, second) = (ok(&kept), ok(&then));
        let world = World::with(BRIEFLY, move |seen| match seen.number {
            1 => Play::Send(first.clone()),
            _ => Play::Send(second.clone()),
        })
        .await;
        world.call(ID).await;
        sleep(Duration::from_millis(30)).await;
        let answer = world.call(ID).await;
        let expected = if replaces { &then } else { &kept };
        assert_eq!((answer.status, &answer.text()), (200, expected), "{then}");
        assert_eq!(answer.cache().contains("stored"), replaces, "{then}: {answer:?}");
        assert_eq!(world.vendor.requests(), 2);
    }
}

#[tokio::test]
async fn an_ongoing_record_is_replaced_by_the_final_one_at_once() {
    let world = World::start(|seen| match seen.number {
        1 => Play::Send(ok(ongoing(ID))),
        _ => Play::Send(ok(record(ID, "completed", &format!(r#","endTime":{LONG_AGO}"#)))),
    })
    .await;
    assert_eq!(world.call(ID).await.text(), ongoing(ID));
    assert_eq!(world.call(ID).await.text(), settled(ID));
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
}
