//! The vendor's other answers: passed on with status and body, remembered for moments, and nothing of theirs beside.

use tokio::time::{Duration, sleep};

use super::{
    records::{id, settled},
    vendor::{Play, answer, ok},
    world::{ID, World},
};

const JSON: &str = "content-type: application/json\r\n";
const ERROR: &str = r#"{"error":{"code":"some_code","message":"some words"}}"#;

#[tokio::test]
async fn the_vendors_own_errors_pass_with_status_and_body() {
    for status in
        ["400 Bad Request", "405 No", "409 Conflict", "422 No", "451 No", "500 Oops", "501 No", "505 No"]
    {
        let fields = "content-type: application/json; charset=utf-8\r\n";
        let world = World::saying(answer(status, fields, ERROR)).await;
        let first = world.call(ID).await;
        let number = status[..3].parse().expect("a status");
        assert_eq!((first.status, first.text()), (number, ERROR.into()));
        assert_eq!(first.one("content-type"), "application/json; charset=utf-8");
        assert_eq!(first.cache(), format!("callgate; fwd=uri-miss; fwd-status={number}"));
        assert_eq!((first.one("cache-control"), first.field("etag")), ("no-store", None));
        // For a second it answers for everyone.
        let second = world.call(ID).await;
        assert_eq!((second.status, second.text()), (number, ERROR.into()));
        assert_eq!(second.cache(), "callgate; hit; ttl=1; detail=failure");
        assert_eq!(second.one("cache-control"), "no-store");
        assert_eq!(world.vendor.requests(), 1);
    }
}

#[tokio::test]
async fn a_failure_answers_for_its_own_call_and_for_no_longer_than_it_is_told_to() {
    let world = World::with("lookup.failure_ttl = \"40ms\"", |seen| match seen.number {
        1 => Play::Send(answer("500 Oops", JSON, ERROR)),
        2 => Play::Send(answer("503 Down", JSON, ERROR)),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    assert_eq!(world.call(ID).await.status, 500);
    assert_eq!(world.call(&id(1)).await.problem().1, "upstream_error", "another call asks for itself");
    assert_eq!(world.get(&format!("/v1/api/call-history/{ID}")).await.status, 200, "as does another version");
    sleep(Duration::from_millis(50)).await;
    assert_eq!(world.call(ID).await.status, 200);
    assert_eq!(world.call(&id(1)).await.status, 200);
}

#[tokio::test]
async fn a_refusal_is_remembered_for_a_second_as_well() {
    let world = World::start(|seen| match seen.number {
        1 => Play::ThenClose(Vec::new()),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    let (first, second) = (world.call(ID).await, world.call(ID).await);
    assert_eq!(first.cache(), "callgate; fwd=uri-miss; detail=upstream_incomplete");
    assert_eq!(second.problem(), (502, "upstream_incomplete".into()));
    assert_eq!(second.cache(), "callgate; hit; ttl=1; detail=failure");
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_failure_of_a_list_is_remembered_too() {
    let world = World::saying(answer("500 Oops", JSON, ERROR)).await;
    let first = world.get("/v2/api/call-history").await;
    assert_eq!((first.status, first.text()), (500, ERROR.into()), "callers read it as an empty list");
    assert_eq!(world.get("/v2/api/call-history").await.cache(), "callgate; hit; ttl=1; detail=failure");
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_missing_call_is_remembered_for_five_seconds() {
    for status in ["404 Not Found", "410 Gone"] {
        let world = World::saying(answer(status, JSON, ERROR)).await;
        let number = status[..3].parse().expect("a status");
        let first = world.call(ID).await;
        assert_eq!((first.status, first.text()), (number, ERROR.into()));
        assert_eq!(first.cache(), format!("callgate; fwd=uri-miss; fwd-status={number}; stored"));
        let second = world.call(ID).await;
        assert_eq!((second.status, second.text()), (number, ERROR.into()));
        let ttl = second.cache().strip_prefix("callgate; hit; ttl=").expect("a hit");
        assert!(["4; detail=not-found", "5; detail=not-found"].contains(&ttl), "{ttl}");
        assert_eq!((second.one("cache-control"), second.field("etag")), ("no-store", None));
        assert_eq!(world.vendor.requests(), 1);
    }
}

#[tokio::test]
async fn a_missing_call_is_looked_for_again_when_its_time_is_over() {
    let world = World::with("lookup.not_found_ttl = \"30ms\"", |seen| match seen.number {
        1 => Play::Send(answer("404 Not Found", JSON, ERROR)),
        _ => Play::Send(ok(settled(ID))),
    })
    .await;
    assert_eq!(world.call(ID).await.status, 404);
    sleep(Duration::from_millis(40)).await;
    let found = world.call(ID).await;
    assert_eq!((found.status, found.cache()), (200, "callgate; fwd=stale; fwd-status=200; stored"));
}

#[tokio::test]
async fn a_missing_call_is_not_remembered_where_that_is_turned_off() {
    let world =
        World::with("lookup.not_found_ttl = \"0s\"", |_| Play::Send(answer("404 Not Found", JSON, ERROR)))
            .await;
    for _ in 0..2 {
        assert_eq!(world.call(ID).await.status, 404);
    }
    assert_eq!(world.vendor.requests(), 2);
}

#[tokio::test]
async fn of_the_vendors_fields_three_are_passed_on() {
    let fields = "content-type: application/json\r\nlast-modified: Tue, 28 Mar 2023 10:45:00 GMT\r\n\
                  etag: \"theirs\"\r\nset-cookie: a=b\r\nserver: vendor\r\nx-powered-by: x\r\nvia: 1.1 v\r\n\
                  access-control-allow-origin: *\r\nstrict-transport-security: max-age=1\r\nlink: </a>\r\n\
                  x-request-id: theirs\r\nx-ratelimit-remaining: 3\r\ncontent-language: en\r\nrefresh: 0\r\n\
                  content-disposition: attachment\r\ndate: Tue, 28 Mar 2023 10:45:00 GMT\r\nalt-svc: h3=\":1\"\r\nretry-after: 7\r\n";
    let world = World::start(move |seen| match seen.id() {
        ID => Play::Send(answer("200 OK", fields, settled(ID))),
        _ => Play::Send(answer("500 Oops", fields, ERROR)),
    })
    .await;
    // That no other field is there is held for every answer by the caller itself.
    for _ in 0..2 {
        let answer = world.call(ID).await;
        assert_eq!(answer.one("last-modified"), "Tue, 28 Mar 2023 10:45:00 GMT");
        assert_ne!(answer.one("etag"), "\"theirs\"");
        assert_ne!(answer.one("x-request-id"), "theirs");
        assert!(!answer.one("date").contains("2023"));
        assert_eq!(answer.field("retry-after"), None, "a record that is there is not to be asked for later");
    }
    for _ in 0..2 {
        let failed = world.call(&id(1)).await;
        assert_eq!((failed.status, failed.one("retry-after")), (500, "7"));
        assert_eq!(failed.field("etag"), None);
    }
}

#[tokio::test]
async fn the_vendors_429_is_told_as_the_budgets_would_be() {
    let body = |with: bool| {
        let at = jiff::Timestamp::now().as_second() + 40;
        let reset_at = jiff::Timestamp::from_second(at).expect("a time");
        match with {
            true => format!(r#"{{"error":{{"code":"rate_limit_exceeded","reset_at":"{reset_at}"}}}}"#),
            false => r#"{"error":{"code":"rate_limit_exceeded"}}"#.to_owned(),
        }
    };
    // retry-after, reset_at in the body, and what callers are told in seconds; jitter may add a second.
    let table = [
        ("retry-after: 30\r\n", false, 30),
        ("retry-after: 30\r\n", true, 30),
        ("", true, 40),
        ("", false, 60),
        ("retry-after: soon\r\n", true, 40),
        ("retry-after: 1000000\r\n", false, 300),
    ];
    for (field, with, expected) in table {
        let bytes = answer("429 Slow", &format!("{JSON}{field}"), body(with));
        let limited = World::saying(bytes).await.call(ID).await;
        assert_eq!(limited.problem(), (429, "rate_limit_exceeded".into()), "{field}{with}");
        assert_eq!(limited.cache(), "callgate; fwd=uri-miss; detail=rate_limit_exceeded");
        let seconds = limited.number("retry-after");
        assert!((expected - 2..=expected + 1).contains(&seconds), "{field}{with}: {seconds}");
        let json = limited.json();
        let reset: jiff::Timestamp =
            json["error"]["reset_at"].as_str().expect("a time").parse().expect("a time");
        let left = reset.as_second() - jiff::Timestamp::now().as_second();
        assert!((expected.cast_signed() - 2..=expected.cast_signed() + 2).contains(&left), "{left}");
    }
}
