//! The vendor's 500 for an empty list: a 500 as a rule, an empty list for those who want it read so.

use callgate::sandbox::Config;

use super::world::{field, quiet, start};

const LIST: &str = "GET /v2/api/call-history?limit=5";

fn empty() -> Config {
    Config { calls: 0, ..quiet() }
}

#[tokio::test]
async fn the_500_of_an_empty_list_is_passed_on_as_it_is() {
    let world = start(empty(), "lookup.failure_ttl = \"0s\"").await;
    assert_eq!(world.call("nobodys-call").await.status, 404);
    let reply = world.ask(LIST, "").await;
    assert_eq!(
        (reply.status, field(&reply, "cache-status")),
        (500, "callgate; fwd=uri-miss; fwd-status=500")
    );
    assert_eq!(reply.error().1, "internal_error", "the vendor's own words");
}

#[tokio::test]
async fn it_is_an_empty_list_only_where_other_requests_show_the_vendor_alive() {
    let world = start(empty(), "lists.empty_for_500 = true\nlookup.failure_ttl = \"0s\"").await;
    // Nothing else has been asked: this may be any 500.
    for _ in 0..2 {
        assert_eq!(world.ask(LIST, "").await.status, 500);
    }
    assert_eq!(world.call("nobodys-call").await.status, 404);
    for line in [LIST, "HEAD /v1/api/call-history"] {
        let reply = world.ask(line, "").await;
        assert_eq!(reply.status, 200);
        assert_eq!(field(&reply, "cache-status"), "callgate; fwd=uri-miss; fwd-status=500; detail=list");
        assert_eq!(field(&reply, "content-type"), "application/json");
        assert_eq!(field(&reply, "content-length"), "2");
        assert_eq!(reply.body, if line == LIST { &b"[]"[..] } else { b"" });
    }
    // A lookup's 500 is one whatever the setting says.
    world.answer_with(500);
    assert_eq!(world.call("another-call").await.status, 500);
}
