//! What an answer says about itself: validator, age, request id; and `HEAD`, which says it without the body.

use tokio::time::{Duration, sleep};

use super::{
    records::{id, ongoing, settled},
    vendor::{Play, answer, ok},
    world::{ID, World, request},
};

/// Answers every call as settled, but ids of zeros as ongoing.
async fn world() -> World {
    World::start(|seen| match seen.id() {
        ID => Play::Send(ok(settled(ID))),
        other => Play::Send(ok(ongoing(other))),
    })
    .await
}

#[tokio::test]
async fn the_entity_tag_is_strong_and_follows_the_body_alone() {
    let world = world().await;
    let (miss, hit) = (world.call(ID).await, world.call(ID).await);
    let other = world.call(&id(1)).await;
    let v1 = world.get(&format!("/v1/api/call-history/{ID}")).await;
    let tag = miss.one("etag");
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 20, "{tag}");
    assert_eq!(hit.one("etag"), tag);
    assert_eq!(v1.one("etag"), tag, "equal bytes");
    assert_ne!(other.one("etag"), tag);
}

#[tokio::test]
async fn a_caller_that_has_it_gets_a_304_and_no_body_hit_or_not() {
    let world = world().await;
    for call in [ID.to_owned(), id(1)] {
        let first = world.call(&call).await;
        let tag = first.one("etag");
        let list = format!("\"x\" , W/{tag}");
        for value in [tag, "*", &list] {
            let mut caller = world.gateway.connect().await;
            let fields = [("if-none-match", value)];
            caller.send(request("GET", &format!("/calls/{call}"), &fields)).await;
            let unchanged = caller.answer().await;
            assert_eq!(unchanged.status, 304, "{value}");
            assert_eq!(unchanged.one("etag"), tag);
            assert_eq!(unchanged.one("cache-control"), first.one("cache-control"));
            assert_eq!(unchanged.field("age").is_some(), call == ID);
            for absent in ["content-type", "content-length", "transfer-encoding"] {
                assert_eq!(unchanged.field(absent), None);
            }
            // There was no body: the next answer comes right behind.
            caller.send(request("GET", &format!("/calls/{call}"), &[])).await;
            assert_eq!(caller.answer().await.status, 200);
        }
        let changed = world.get_with(&format!("/calls/{call}"), &[("if-none-match", "\"x\"")]).await;
        assert_eq!(changed.status, 200);
    }
}

#[tokio::test]
async fn conditions_that_no_answer_here_knows_are_not_applied() {
    let world = world().await;
    world.call(ID).await;
    let fields = [
        ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("range", "bytes=0-3"),
        ("if-range", "\"x\""),
        ("if-match", "\"x\""),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
        ("x-http-method-override", "DELETE"),
        ("x-forwarded-host", "elsewhere"),
    ];
    for field in fields {
        let answer = world.get_with(&format!("/calls/{ID}"), &[field]).await;
        assert_eq!((answer.status, answer.text()), (200, settled(ID)), "{field:?}");
    }
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn age_counts_up_as_what_is_left_counts_down() {
    let world = World::with("lookup.final_ttl = \"100s\"", |s| Play::Send(ok(settled(s.id())))).await;
    let miss = world.call(ID).await;
    assert_eq!((miss.number("age"), miss.one("cache-control")), (0, "private, max-age=100, immutable"));
    sleep(Duration::from_millis(1_100)).await;
    let hit = world.call(ID).await;
    let age = hit.number("age");
    assert!(age >= 1);
    assert_eq!(hit.cache(), format!("callgate; hit; ttl={}", 100 - age));
    // A caller subtracts the age again, and is left with what is left.
    assert_eq!(hit.one("cache-control"), "private, max-age=100, immutable");
}

#[tokio::test]
async fn callers_are_told_no_more_than_an_hour_unless_the_settings_say_so() {
    let settings = "lookup.client_max_age = \"90s\"\nlookup.final_ttl = \"forever\"";
    let world = World::with(settings, |seen| Play::Send(ok(settled(seen.id())))).await;
    for _ in 0..2 {
        assert_eq!(world.call(ID).await.one("cache-control"), "private, max-age=90, immutable");
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_made_anew() {
    let world = world().await;
    let target = format!("/calls/{ID}");
    for sane in ["a", "3f2c-9_.Z", &"a".repeat(128)] {
        assert_eq!(world.get_with(&target, &[("x-request-id", sane)]).await.one("x-request-id"), sane);
    }
    for other in ["", "a b", "a;b", "\"a\"", "<script>", &"a".repeat(129)] {
        let made = world.get_with(&target, &[("x-request-id", other)]).await.one("x-request-id").to_owned();
        assert!(made != other && made.len() == 32 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{made}");
    }
    let (one, two) = (world.call(ID).await, world.call(ID).await);
    assert_ne!(one.one("x-request-id"), two.one("x-request-id"));
    let refused = world.get_with("/nowhere", &[("x-request-id", "mine")]).await;
    assert_eq!(refused.one("x-request-id"), "mine", "in errors, too");
}

#[tokio::test]
async fn head_is_get_without_the_body_and_shares_its_entry() {
    let world = world().await;
    let target = format!("/v2/api/call-history/{ID}");
    let head = world.gateway.ask("HEAD", &target, &[]).await;
    assert_eq!(head.cache(), "callgate; fwd=uri-miss; fwd-status=200; stored");
    let get = world.get(&target).await;
    assert!(get.cache().starts_with("callgate; hit"));
    let again = world.gateway.ask("HEAD", &target, &[]).await;
    for answer in [&head, &again] {
        assert_eq!(answer.status, 200);
        for same in ["content-length", "content-type", "etag", "cache-control"] {
            assert_eq!(answer.one(same), get.one(same), "{same}");
        }
    }
    assert_eq!(world.vendor.requests(), 1);
    assert!(world.vendor.seen()[0].head.starts_with("GET "), "the whole record is fetched");

    let ongoing = world.gateway.ask("HEAD", &format!("/calls/{}", id(1)), &[]).await;
    assert_eq!(ongoing.number("content-length"), super::records::ongoing(&id(1)).len() as u64);
    let missing = world.gateway.ask("HEAD", "/nowhere", &[]).await;
    assert!(missing.status == 404 && missing.number("content-length") > 100);
    let tag = get.one("etag");
    let unchanged = world.gateway.ask("HEAD", &target, &[("if-none-match", tag)]).await;
    assert_eq!((unchanged.status, unchanged.field("content-length")), (304, None));
}

#[tokio::test]
async fn no_body_ever_follows_a_head() {
    let world = world().await;
    let head = request("HEAD", &format!("/calls/{ID}"), &[]);
    let close = request("HEAD", "/nowhere", &[("connection", "close")]);
    let text = world.gateway.raw(format!("{head}{head}{close}")).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{text}");
    assert!(text.ends_with("\r\n\r\n") && !text.contains('{'), "{text}");
}

#[tokio::test]
async fn an_empty_body_is_a_body_too() {
    let world = World::saying(answer("404 Not Found", "", "")).await;
    for _ in 0..2 {
        let answer = world.call(ID).await;
        assert_eq!(
            (answer.status, answer.number("content-length"), answer.field("content-type")),
            (404, 0, None)
        );
    }
}
