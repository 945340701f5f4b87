//! What becomes of a 200: the classes of a record, each with its lifetime and the words for it.

use flate2::{Compression, write::GzEncoder};
use std::io::Write as _;

use super::{
    records::{LONG_AGO, ended, id, ongoing, record, settled},
    vendor::{Play, answer, chunked, ok},
    world::{Answer, ID, World},
};

const STORED: &str = "callgate; fwd=uri-miss; fwd-status=200; stored";
const ONGOING: &str = "callgate; fwd=uri-miss; fwd-status=200; detail=ongoing";
const SUSPECT: &str = "callgate; fwd=uri-miss; fwd-status=200; detail=suspect";

/// Asks twice for a call whose record is `body`: both answers, and what the vendor was asked.
async fn twice(body: impl AsRef<[u8]>) -> (Answer, Answer, usize) {
    let world = World::saying(ok(&body)).await;
    let (first, second) = (world.call(ID).await, world.call(ID).await);
    for answer in [&first, &second] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body, body.as_ref(), "byte for byte");
        assert_eq!(answer.one("content-type"), "application/json");
    }
    (first, second, world.vendor.requests())
}

#[tokio::test]
async fn a_call_that_is_over_for_long_is_kept_for_a_month() {
    let bodies = [
        settled(ID),
        record(ID, "failed", &format!(r#","endTime":{LONG_AGO}"#)),
        record(ID, " Completed ", &format!(r#","endTime":{LONG_AGO}.25"#)),
        record(ID, "completed", r#","updatedAt":"2025-01-01T10:05:00.000Z""#),
        format!(r#"{{"call":{}}}"#, settled(ID)),
        format!(r#"{{"data":{}}}"#, settled(ID)),
        // By its other id, and without a workspace of its own.
        format!(r#"{{"_id":"other","callId":"{ID}","status":"completed","endTime":{LONG_AGO}}}"#),
        // 600 s are as long as it takes.
        ended(ID, 601),
    ];
    for body in bodies {
        let (first, second, requests) = twice(&body).await;
        assert_eq!(first.cache(), STORED, "{body}");
        assert_eq!(first.one("cache-control"), "private, max-age=3600, immutable");
        let ttl = second.cache().strip_prefix("callgate; hit; ttl=").expect(&body);
        assert!((2_591_990..=2_592_000).contains(&ttl.parse().expect("a number")), "{ttl}");
        assert_eq!(second.one("cache-control"), "private, max-age=3600, immutable");
        assert_eq!(requests, 1, "{body}");
    }
}

#[tokio::test]
async fn a_call_that_has_just_ended_is_kept_for_moments_and_longer_the_older_it_is() {
    for (ago, lifetime) in [(0, 15), (30, 15), (200, 50), (560, 140)] {
        let (first, second, requests) = twice(ended(ID, ago)).await;
        assert_eq!((first.cache(), requests), (STORED, 1));
        let max_age = first.one("cache-control").strip_prefix("private, max-age=").expect("not immutable");
        let max_age: u64 = max_age.parse().expect("a number");
        assert!((lifetime - 1..=lifetime + 1).contains(&max_age), "{ago} s ago: {max_age}");
        assert!(second.cache().starts_with("callgate; hit; ttl="), "{second:?}");
        assert!(!second.one("cache-control").contains("immutable"));
    }
}

#[tokio::test]
async fn a_final_call_without_a_readable_time_or_with_one_to_come_is_settling() {
    let tomorrow = jiff::Timestamp::now().as_second() + 86_400;
    for more in [String::new(), r#","endTime":"soon""#.into(), format!(r#","endTime":{tomorrow}"#)] {
        let (first, _, requests) = twice(record(ID, "completed", &more)).await;
        assert_eq!((first.cache(), requests), (STORED, 1), "{more}");
        // Of 15 s none is over yet, in whole seconds.
        assert_eq!(first.one("cache-control"), "private, max-age=15", "{more}");
    }
}

#[tokio::test]
async fn an_ongoing_call_is_never_kept() {
    let bodies = [
        ongoing(ID),
        record(ID, "active", ""),
        record(ID, "in-progress", ""),
        record(ID, "finished", &format!(r#","endTime":{LONG_AGO}"#)),
        record(ID, "", &format!(r#","endTime":{LONG_AGO}"#)),
        // Not one of the words that are final, however near to one.
        record(ID, r#"\"completed\""#, &format!(r#","endTime":{LONG_AGO}"#)),
        record(ID, r"\\u0063ompleted", &format!(r#","endTime":{LONG_AGO}"#)),
        record(ID, "completed\\u0000", &format!(r#","endTime":{LONG_AGO}"#)),
        format!(r#"{{"_id":"{ID}","STATUS":"completed","Status":"completed","endTime":{LONG_AGO}}}"#),
        format!(r#"{{"_id":"{ID}","nested":{{"status":"completed"}},"endTime":{LONG_AGO}}}"#),
        format!(r#"{{"_id":"{ID}","status":null}}"#),
        format!(r#"{{"_id":"{ID}"}}"#),
        format!(r#"{{"call":{}}}"#, ongoing(ID)),
    ];
    for body in bodies {
        let (first, second, requests) = twice(&body).await;
        for answer in [first, second] {
            assert_eq!(answer.cache(), ONGOING, "{body}");
            assert_eq!(answer.one("cache-control"), "no-store");
            assert_eq!(answer.field("age"), None);
        }
        assert_eq!(requests, 2, "{body}");
    }
}

#[tokio::test]
async fn an_ongoing_call_is_kept_for_moments_where_somebody_asked_for_that() {
    let world = World::with("lookup.ongoing_ttl = \"9s\"", |s| Play::Send(ok(ongoing(s.id())))).await;
    assert_eq!(world.call(ID).await.cache(), STORED);
    let second = world.call(ID).await;
    assert!(second.cache().starts_with("callgate; hit; ttl="), "{second:?}");
    assert_eq!(second.one("cache-control"), "no-store", "callers are to ask again");
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn what_is_no_record_of_the_call_is_served_as_it_came_and_never_kept() {
    let other = id(7);
    let final_ = format!(r#""status":"completed","endTime":{LONG_AGO}"#);
    let bodies: [Vec<u8>; 27] = [
        b"".to_vec(),
        b"<html>busy</html>".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        format!("[{}]", settled(ID)).into(),
        format!("{}{}", settled(ID), settled(ID)).into(),
        format!("\u{feff}{}", settled(ID)).into(),
        settled(ID).encode_utf16().flat_map(u16::to_le_bytes).collect(),
        settled(ID)[..40].into(),
        b"{\"_id\":\"\xff\"}".to_vec(),
        format!(r#"{{"_id":"{ID}",{final_},"cost":NaN}}"#).into(),
        format!(r#"{{{final_}}}"#).into(),
        format!(r#"{{"_id":null,{final_}}}"#).into(),
        settled(&other).into(),
        settled(&ID.to_uppercase()).into(),
        format!(r#"{{"_id":"{ID}","status":7,"endTime":{LONG_AGO}}}"#).into(),
        format!(r#"{{"_id":"{ID}","status":["completed"]}}"#).into(),
        format!(r#"{{"_id":"{ID}","status":{{"status":"completed"}},"endTime":{LONG_AGO}}}"#).into(),
        format!(r#"{{"_id":"{ID}","status":true,"endTime":{LONG_AGO}}}"#).into(),
        // The record as a string of JSON, once more escaped.
        serde_json::Value::String(settled(ID)).to_string().into(),
        format!("{}\0", settled(ID)).into(),
        settled(ID).encode_utf16().flat_map(u16::to_be_bytes).collect(),
        format!(r#"{{"_id":"{ID}","status":"ongoing",{final_}}}"#).into(),
        format!(r#"{{"_id":"{other}","_id":"{ID}",{final_}}}"#).into(),
        format!(r#"{{"_id":"{ID}",{final_},"deep":{}{}}}"#, "[".repeat(200), "]".repeat(200)).into(),
        "[".repeat(100_000).into(),
        "{\"data\":".repeat(100_000).into(),
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let (first, second, requests) = twice(&body).await;
        assert_eq!((first.cache(), second.cache()), (SUSPECT, SUSPECT), "{shown}");
        assert_eq!(first.one("cache-control"), "no-store", "{shown}");
        assert_eq!(requests, 2, "{shown}");
    }
}

#[tokio::test]
async fn the_vendors_own_cache_control_says_nothing() {
    let fields = "content-type: application/json\r\ncache-control: no-store, max-age=0\r\nexpires: 0\r\nvary: *\r\n\
                  pragma: no-cache\r\nage: 500\r\n";
    let world = World::saying(answer("200 OK", fields, settled(ID))).await;
    assert_eq!(world.call(ID).await.cache(), STORED);
    let hit = world.call(ID).await;
    assert!(hit.cache().starts_with("callgate; hit"));
    assert_eq!(hit.one("cache-control"), "private, max-age=3600, immutable");
    assert!(hit.number("age") < 500);

    let eternal = "content-type: application/json\r\ncache-control: max-age=31536000, immutable\r\n";
    let world = World::saying(answer("200 OK", eternal, ongoing(ID))).await;
    assert_eq!(world.call(ID).await.cache(), ONGOING);
    assert_eq!(world.call(ID).await.one("cache-control"), "no-store");
    assert_eq!(world.vendor.requests(), 2);
}

#[tokio::test]
async fn a_compressed_or_chunked_record_goes_out_whole_and_plain() {
    let body = settled(ID);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body.as_bytes()).expect("memory");
    let gzip = encoder.finish().expect("memory");
    let fields = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    for bytes in [answer("200 OK", fields, gzip), chunked(&[&body[..9], &body[9..10], &body[10..]])] {
        let world = World::saying(bytes).await;
        for expected in [STORED, "callgate; hit; ttl=25"] {
            let answer = world.call(ID).await;
            assert!(answer.cache().starts_with(expected), "{answer:?}");
            assert_eq!(answer.text(), body);
            assert_eq!(answer.field("content-encoding"), None);
            assert_eq!(answer.number("content-length"), body.len() as u64);
        }
    }
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_served_and_kept() {
    let fill = |size: usize| {
        let bare = record(ID, "completed", &format!(r#","endTime":{LONG_AGO},"t":"""#)).len();
        record(ID, "completed", &format!(r#","endTime":{LONG_AGO},"t":"{}""#, "x".repeat(size - bare)))
    };
    let world = World::with("upstream.max_body = \"64KiB\"", move |seen| {
        Play::Send(ok(fill(if seen.id() == ID { 64 << 10 } else { (64 << 10) + 1 })))
    })
    .await;
    let answer = world.call(ID).await;
    assert_eq!((answer.status, answer.body.len(), answer.cache()), (200, 64 << 10, STORED));
    assert_eq!(world.call(&id(1)).await.problem(), (502, "upstream_too_large".into()));
}
