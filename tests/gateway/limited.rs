//! The vendor's 429, in whatever state it comes: its head is enough to leave the vendor alone, and nothing else of it
//! goes any further.

use super::{
    records::{id, settled},
    vendor::{Play, answer, ok},
    world::{KEY, World, request},
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

#[tokio::test]
async fn however_the_pause_is_named_it_is_within_bounds_and_nothing_is_sent_in_it() {
    let table = [
        ("retry-after: 30\r\n", 28..=34),
        ("retry-after: 30\r\nretry-after: 90\r\n", 28..=34),
        ("retry-after: 30, 90\r\n", 58..=67),
        ("retry-after: -1\r\n", 58..=67),
        ("retry-after: 1e9\r\n", 58..=67),
        ("retry-after: 1000000000\r\n", 298..=300),
        ("retry-after: abc\r\n", 58..=67),
        ("retry-after: \r\n", 58..=67),
        ("", 58..=67),
        ("date: Mon, 22 Jan 2024 15:29:00 GMT\r\nretry-after: Mon, 22 Jan 2024 15:29:40 GMT\r\n", 38..=45),
        // In the past is now, and not at once all the same.
        ("retry-after: Mon, 22 Jan 2024 15:29:40 GMT\r\n", 1..=2),
        ("retry-after: 0\r\n", 1..=2),
    ];
    for (fields, expected) in table {
        let settings = "budget.queue_timeout = \"0s\"";
        let world = World::with(settings, move |_| Play::Send(answer("429 Slow", fields, "{}"))).await;
        for n in 0..5 {
            let limited = world.call(&id(n)).await;
            assert_eq!(limited.problem(), (429, "rate_limit_exceeded".into()), "{fields}");
            let pause = limited.number("retry-after");
            assert!(expected.contains(&pause), "{fields}: {pause}");
        }
        assert_eq!(world.vendor.requests(), 1, "{fields}");
    }
}

#[tokio::test]
async fn who_waits_out_a_pause_does_not_come_in_one_burst() {
    // Whoever goes first finds out whether the pause is over, and the others wait for that.
    let settings = "budget.queue_timeout = \"15s\"";
    let world = World::with(settings, |seen| match seen.number {
        1 | 2 => Play::Send(answer("429 Slow", "retry-after: 1\r\n", "{}")),
        3 => Play::Held(ok(settled(seen.id()))),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    assert_eq!(world.call(&id(0)).await.status, 429);
    let mut callers = Vec::new();
    for n in 1..=20 {
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        callers.push(caller);
    }
    world.vendor.arrived(3).await;
    world.gateway.settle().await;
    assert_eq!(world.vendor.requests(), 3, "one alone went ahead after each pause");
    world.vendor.release();
    let mut told = Vec::new();
    for caller in &mut callers {
        told.push(caller.answer().await.status);
    }
    assert_eq!(told.iter().filter(|status| **status == 200).count(), 19, "{told:?}");
    assert_eq!(world.vendor.requests(), 21);
}
