//! Answers of the vendor that go no further: each is a 502 with its code, and leaves nothing behind.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use super::{
    records::{id, ongoing, record, settled},
    vendor::{Play, answer, chunked, ok},
    world::{ID, KEY, World},
};

const JSON: &str = "content-type: application/json\r\n";

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

/// Asks for a call that is answered with `bytes`, whereafter the vendor closes, and then for another one that is
/// answered well: a bad answer must not reach into the next.
async fn refused(what: &str, bytes: Vec<u8>, code: &str) {
    let settings = "lookup.failure_ttl = \"0s\"\nupstream.max_body = \"64KiB\"";
    let world = World::with(settings, move |seen| match seen.id() {
        ID => Play::ThenClose(bytes.clone()),
        other => Play::Send(ok(settled(other))),
    })
    .await;
    for _ in 0..2 {
        let answer = world.call(ID).await;
        assert_eq!(answer.problem(), (502, code.into()), "{what}: {answer:?}");
        assert_eq!(answer.cache(), format!("callgate; fwd=uri-miss; detail={code}"), "{what}");
        assert!(
            ["etag", "age", "last-modified", "www-authenticate"].iter().all(|f| answer.field(f).is_none())
        );
    }
    assert_eq!(world.vendor.requests(), 2, "{what}: not kept, and asked once for each");
    let next = world.call(&id(1)).await;
    assert_eq!((next.status, next.text()), (200, settled(&id(1))), "{what}");
}

#[tokio::test]
async fn a_record_of_another_workspace_is_refused_wherever_it_says_so() {
    let foreign = |id: &str| settled(id).replace("ws-main", "ws-other");
    for body in [
        foreign(ID),
        foreign(ID).replace("completed", "ongoing"),
        foreign(&id(9)),
        format!(r#"{{"call":{}}}"#, foreign(ID)),
        format!(r#"{{"workspaceId":"ws-other","data":{}}}"#, settled(ID)),
    ] {
        refused(&body, ok(&body), "upstream_mismatch").await;
    }
}

#[tokio::test]
async fn an_answer_with_the_key_in_it_goes_nowhere() {
    let (half, rest) = KEY.split_at(9);
    let leaky = record(ID, "completed", &format!(r#","headers":{{"x-api-key":"{KEY}"}}"#));
    let zipped = format!("{JSON}content-encoding: gzip\r\n");
    let cut = leaky.find(KEY).expect("the key") + 9;
    let table = [
        ("body", ok(&leaky)),
        ("ongoing", ok(leaky.replace("completed", "ongoing"))),
        ("in escapes", ok(leaky.replace('-', "\\u002D"))),
        ("half in escapes", ok(leaky.replace("-0071e5", "\\u002d\\u00300\\u00371e5"))),
        ("across chunks", chunked(&[&leaky[..cut], &leaky[cut..]])),
        ("compressed", answer("200 OK", &zipped, gzip(leaky.as_bytes()))),
        ("field", answer("200 OK", &format!("{JSON}x-echo: a{KEY}b\r\n"), settled(ID))),
        ("content type", answer("200 OK", &format!("content-type: text/{KEY}\r\n"), settled(ID))),
        ("field name", answer("200 OK", &format!("{JSON}x-{KEY}: 1\r\n"), settled(ID))),
        ("cookie", answer("200 OK", &format!("{JSON}set-cookie: k={KEY}\r\n"), settled(ID))),
        ("reason", answer(&format!("200 {KEY}"), JSON, settled(ID))),
        ("error", answer("500 Oops", JSON, format!(r#"{{"error":"{half}{rest}"}}"#))),
        ("404", answer("404 Not Found", JSON, format!(r#"{{"error":"{KEY}"}}"#))),
        ("rejected", answer("401 Unauthorized", JSON, format!(r#"{{"error":"{KEY}"}}"#))),
        ("another's record", ok(leaky.replace("ws-main", "ws-other"))),
        ("redirect", answer("302 Found", &format!("location: http://localhost/?k={KEY}\r\n"), "")),
        ("trailer", {
            let body = settled(ID);
            let head =
                format!("HTTP/1.1 200 OK\r\n{JSON}transfer-encoding: chunked\r\ntrailer: x-echo\r\n\r\n");
            format!("{head}{:x}\r\n{body}\r\n0\r\nx-echo: {KEY}\r\n\r\n", body.len()).into_bytes()
        }),
    ];
    for (where_, bytes) in table {
        refused(where_, bytes, "upstream_leaked_credential").await;
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_as_it_came_and_decoded() {
    let large = "x".repeat((64 << 10) + 1);
    let zipped = format!("{JSON}content-encoding: gzip\r\n");
    refused("length", ok(&large), "upstream_too_large").await;
    refused("chunks", chunked(&[&large[..40_000], &large[40_000..]]), "upstream_too_large").await;
    let bomb = answer("200 OK", &zipped, gzip(&vec![0; 64 << 20]));
    assert!(bomb.len() < 70 << 10);
    refused("bomb", bomb, "upstream_too_large").await;
    let announced = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: 99999999999\r\n\r\n{{").into_bytes();
    refused("announced", announced, "upstream_too_large").await;
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_no_answer() {
    let body = settled(ID);
    let zipped = gzip(body.as_bytes());
    let cut = |bytes: Vec<u8>, by: usize| bytes[..bytes.len() - by].to_vec();
    let table = [
        ("length", cut(ok(&body), 5)),
        ("chunk", cut(chunked(&[&body]), 12)),
        ("last chunk", cut(chunked(&[&body]), 5)),
        ("last line", cut(chunked(&[&body]), 2)),
        ("head", b"HTTP/1.1 200 OK\r\ncontent-type: appl".to_vec()),
        ("nothing", Vec::new()),
        ("gzip", answer("200 OK", &format!("{JSON}content-encoding: gzip\r\n"), &zipped[..zipped.len() - 6])),
    ];
    for (what, bytes) in table {
        refused(what, bytes, "upstream_incomplete").await;
    }
}

#[tokio::test]
async fn framing_that_two_could_read_in_two_ways_is_refused() {
    let body = settled(ID);
    let length = body.len();
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{JSON}{fields}\r\n");
    let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let table = [
        head(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n")) + &chunks,
        head(&format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n")) + &chunks,
        head(&format!("content-length: {length}\r\ncontent-length: {length}\r\n")) + &body,
        head(&format!("content-length: {length}\r\ncontent-length: 7\r\n")) + &body,
        head("content-length: +7\r\n") + &body,
        head("content-length: seven\r\n") + &body,
        head("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n") + &chunks,
        head("transfer-encoding: gzip, chunked\r\n") + &chunks,
        head("transfer-encoding: chunked, identity\r\n") + &chunks,
        head("transfer-encoding: chunked\r\n") + "zz\r\n" + &body,
        head(&format!("x-a: {}\r\n", "v".repeat(200_000))) + &body,
        "HTTP/9.9 200 OK\r\n\r\n".into(),
        "garbage all the way down\r\n\r\n".into(),
        "\0\u{1}\u{2}\u{3}".into(),
    ];
    for text in table {
        refused(&text.clone(), text.into_bytes(), "upstream_invalid").await;
    }
}

#[tokio::test]
async fn a_body_of_many_gzip_members_is_no_answer() {
    let empty = gzip(b"");
    let fields = format!("{JSON}content-encoding: gzip\r\n");
    for many in [1, 1_000] {
        let body = [empty.repeat(many), gzip(settled(ID).as_bytes())].concat();
        refused(&format!("{many} empty ones ahead"), answer("200 OK", &fields, body), "upstream_invalid")
            .await;
    }
    let behind = [gzip(settled(ID).as_bytes()), empty].concat();
    refused("an empty one behind", answer("200 OK", &fields, behind), "upstream_invalid").await;
}

#[tokio::test]
async fn what_follows_an_answer_is_not_taken_for_the_next() {
    let smuggled = [ok(ongoing(ID)), ok(settled(&id(1)).replace("completed", "failed"))].concat();
    let world = World::start(move |seen| match seen.id() {
        ID => Play::Send(smuggled.clone()),
        other => Play::Send(ok(settled(other))),
    })
    .await;
    assert_eq!(world.call(ID).await.text(), ongoing(ID));
    assert_eq!(world.call(&id(1)).await.text(), settled(&id(1)));
    assert_eq!(world.vendor.connections(), 2, "the connection is not used again");
}

#[tokio::test]
async fn a_status_that_answers_nothing_that_was_asked_is_invalid() {
    let to = "location: http://127.0.0.1:1/elsewhere\r\n";
    for status in
        ["201 Created", "202 Accepted", "203 Changed", "206 Partial Content", "226 IM Used", "600 What"]
    {
        refused(status, answer(status, JSON, settled(ID)), "upstream_invalid").await;
    }
    for status in ["204 No Content", "205 Reset Content", "304 Not Modified", "999 Denied"] {
        refused(status, answer(status, "", ""), "upstream_invalid").await;
    }
    for status in ["300 Choices", "301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
    {
        refused(status, answer(status, to, ""), "upstream_invalid").await;
    }
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n";
    refused("101", switching.to_vec(), "upstream_invalid").await;
    for encoding in ["br", "deflate", "gzip, gzip"] {
        let fields = format!("{JSON}content-encoding: {encoding}\r\n");
        refused(encoding, answer("200 OK", &fields, settled(ID)), "upstream_invalid").await;
    }
}

#[tokio::test]
async fn a_length_that_is_too_short_reaches_into_no_other_answer() {
    let body = settled(ID);
    // What is beyond the length looks like the next answer, and like nothing.
    for rest in [String::from_utf8(ok(settled(&id(9)))).expect("text"), "}} and more".into()] {
        let head = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {}\r\n\r\n", body.len());
        let bytes = format!("{head}{body}{rest}").into_bytes();
        let world = World::start(move |seen| match seen.id() {
            ID => Play::Send(bytes.clone()),
            other => Play::Send(ok(settled(other))),
        })
        .await;
        assert_eq!(world.call(ID).await.text(), body, "as long as it was said to be");
        for n in 1..4 {
            assert_eq!(world.call(&id(n)).await.text(), settled(&id(n)));
        }
        assert_eq!(world.vendor.connections(), 2, "the connection is not used again");
        world.vendor.closed(1).await;
    }
    let short = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {}\r\n\r\n{body}", body.len() - 9);
    let world = World::start(move |seen| match seen.id() {
        ID => Play::Send(short.clone().into_bytes()),
        other => Play::Send(ok(settled(other))),
    })
    .await;
    let cut = world.call(ID).await;
    assert_eq!(cut.cache(), "callgate; fwd=uri-miss; fwd-status=200; detail=suspect", "{cut:?}");
    assert_eq!(world.call(&id(1)).await.text(), settled(&id(1)));
    assert_eq!(world.vendor.connections(), 2);
}

#[tokio::test]
async fn a_head_of_any_size_is_refused_at_its_limit() {
    let body = settled(ID);
    let head =
        |fields: String| format!("HTTP/1.1 200 OK\r\n{JSON}{fields}content-length: {}\r\n\r\n", body.len());
    let many = |count: usize| (0..count).map(|n| format!("x{n}: {n}\r\n")).collect::<String>();
    for fields in
        [many(5_000), many(101), format!("x: {}\r\n", "v".repeat(2 << 20)), "x\r\n".into(), ": x\r\n".into()]
    {
        let what = format!("{} bytes", fields.len());
        refused(&what, (head(fields) + &body).into_bytes(), "upstream_invalid").await;
    }
    // No end is in sight, and none is waited for.
    let endless = format!("HTTP/1.1 200 OK\r\n{}", many(200_000));
    let world = World::start(move |_| Play::ThenNothing(endless.clone().into_bytes())).await;
    assert_eq!(world.call(ID).await.problem(), (502, "upstream_invalid".into()));
    world.vendor.closed(1).await;
}

#[tokio::test]
async fn interim_answers_are_passed_over_unless_there_is_no_end_to_them() {
    let passed = [b"HTTP/1.1 100 Continue\r\n\r\n".repeat(16), ok(settled(ID))].concat();
    assert_eq!(World::saying(passed).await.call(ID).await.text(), settled(ID));
    let interim: [&[u8]; 2] =
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"];
    for (one, times) in interim.into_iter().flat_map(|one| [17, 100, 100_000].map(|times| (one, times))) {
        let world = World::start(move |seen| match seen.id() {
            ID => Play::Send([one.repeat(times), ok(settled(ID))].concat()),
            other => Play::Send(ok(settled(other))),
        })
        .await;
        assert_eq!(world.call(ID).await.problem(), (502, "upstream_invalid".into()), "{times}");
        assert_eq!(world.call(&id(1)).await.text(), settled(&id(1)), "{times}");
        assert_eq!(world.vendor.connections(), 2, "{times}: the connection is left");
        world.vendor.closed(1).await;
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let world = World::saying([interim.as_slice(), &ok(settled(ID))].concat()).await;
    let answer = world.call(ID).await;
    assert_eq!((answer.status, answer.text()), (200, settled(ID)));
}

#[tokio::test]
async fn a_rejection_of_the_credentials_is_not_the_callers_fault() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let fields = format!("{JSON}www-authenticate: Bearer realm=\"vendor\"\r\n");
        let body = r#"{"error":{"code":"unauthorized","message":"bad key"}}"#;
        refused(status, answer(status, &fields, body), "upstream_credentials_rejected").await;
    }
}

#[tokio::test]
async fn a_vendor_that_fails_is_said_to_and_its_body_is_dropped() {
    for status in ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"] {
        refused(status, answer(status, JSON, "<html>internals</html>"), "upstream_error").await;
    }
    // Where several fit: leaked, credentials, invalid, mismatch.
    let leaked = answer("502 Bad Gateway", JSON, format!("<html>{KEY}</html>"));
    refused("502 with the key", leaked, "upstream_leaked_credential").await;
    let both = format!("{JSON}transfer-encoding: chunked\r\n");
    refused("401, ambiguous", answer("401 No", &both, "0\r\n\r\n"), "upstream_credentials_rejected").await;
}
