//! The vendor's 429, in whatever state it comes: its head is enough to leave the vendor alone, and nothing else of it
//! goes any further.

use super::{
    records::{id, settled},
    vendor::{Play, answer, ok},
    world::{KEY, World},
};

/// Something of a body that no caller is to see.
const MARK: &str = "internals-of-the-vendor";

/// The vendor answers every request with a 429 that asks for thirty seconds; it has fields and body of this kind.
async fn paused(what: &str, play: impl Fn(String) -> Play + Send + Sync + 'static) {
    let head = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\ncontent-type: application/json\r\n";
    let world = World::start(move |_| play(head.to_owned())).await;
    for n in 0..5 {
        let limited = world.call(&id(n)).await;
        assert_eq!(limited.problem(), (429, "rate_limit_exceeded".into()), "{what}");
        assert!((28..=34).contains(&limited.number("retry-after")), "{what}: {limited:?}");
        assert!(!format!("{limited:?}{}", limited.text()).contains(MARK), "{what}: {limited:?}");
    }
    assert_eq!(world.vendor.requests(), 1, "{what}");
    let metrics = world.gateway.metrics().await;
    assert!(metrics.contains("callgate_upstream_requests_total{code=\"429\"} 1\n"), "{what}: {metrics}");
}

#[tokio::test]
async fn a_429_pauses_the_key_whatever_becomes_of_its_body() {
    let whole = format!(r#"{{"error":{{"code":"rate_limit_exceeded","message":"{MARK}"}}}}"#);
    let length = whole.len();
    let body = whole.clone();
    paused("sound", move |head| Play::Send(format!("{head}content-length: {length}\r\n\r\n{body}").into()))
        .await;
    paused("cut short", |head| Play::ThenClose(format!("{head}content-length: 999\r\n\r\n{MARK}").into()))
        .await;
    paused("chunks cut short", |head| {
        Play::ThenClose(format!("{head}transfer-encoding: chunked\r\n\r\n17\r\n{MARK}\r\n").into())
    })
    .await;
    paused("silent", |head| Play::ThenNothing(format!("{head}content-length: 999\r\n\r\n{MARK}").into()))
        .await;
    paused("too large", |head| {
        Play::ThenClose(format!("{head}content-length: 99999999999\r\n\r\n{MARK}").into())
    })
    .await;
    for encoding in ["br", "gzip", "deflate", "gzip, gzip"] {
        let body = whole.clone();
        paused(encoding, move |head| {
            Play::Send(
                format!("{head}content-encoding: {encoding}\r\ncontent-length: {length}\r\n\r\n{body}")
                    .into(),
            )
        })
        .await;
    }
    paused("two lengths", |head| {
        Play::ThenClose(format!("{head}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n{MARK}").into())
    })
    .await;
}

#[tokio::test]
async fn a_429_with_the_key_in_it_pauses_the_key_and_tells_nobody() {
    let escaped = KEY.replace('-', "\\u002d");
    for (what, field, body) in [
        ("body", String::new(), format!("{MARK} {KEY}")),
        ("escapes", String::new(), format!(r#"{{"{MARK}":"{escaped}"}}"#)),
        ("field", format!("x-echo: {MARK}{KEY}\r\n"), String::new()),
        ("content type", format!("content-type: text/{KEY}\r\n"), MARK.to_owned()),
    ] {
        paused(what, move |head| {
            Play::Send(format!("{head}{field}content-length: {}\r\n\r\n{body}", body.len()).into())
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_whose_429_could_not_be_read_is_left_and_one_that_could_serves_on() {
    for (sound, connections) in [(true, 1), (false, 2)] {
        // A pause of a second, which callers wait out.
        let world = World::with("budget.queue_timeout = \"9s\"", move |seen| match seen.number {
            1 if sound => Play::Send(answer("429 Slow", "retry-after: 1\r\n", "{}")),
            1 => Play::Send(answer("429 Slow", "retry-after: 1\r\ncontent-encoding: br\r\n", "{}")),
            _ => Play::Send(ok(settled(seen.id()))),
        })
        .await;
        assert_eq!(world.call(&id(1)).await.status, 429);
        assert_eq!(world.call(&id(2)).await.text(), settled(&id(2)));
        assert_eq!((world.vendor.requests(), world.vendor.connections()), (2, connections));
    }
}
