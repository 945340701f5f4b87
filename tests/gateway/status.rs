//! The status page and the numbers that it polls: what is in them, what never is, and what the page may do.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    records::{ongoing, settled},
    vendor::{Play, answer, ok},
    world::{Answer, Caller, ID, KEY, PHONE, World, request},
};

/// Before a vendor that has one call under way, one that fails, and all others.
async fn world() -> World {
    World::with("listen.metrics = \"127.0.0.1:0\"\nlookup.failure_ttl = \"0s\"\n", |seen| {
        if seen.target().contains('?') {
            return Play::Send(ok("[]"));
        }
        Play::Send(match seen.id() {
            "under-way" => ok(ongoing("under-way")),
            "failing" => answer("502 Bad Gateway", "", "{}"),
            id => ok(settled(id)),
        })
    })
    .await
}

async fn status(world: &World) -> Value {
    let answer = world.gateway.operate("GET", "/status", &[]).await;
    assert_eq!((answer.status, answer.one("content-type")), (200, "application/json"));
    assert_eq!(answer.one("cache-control"), "no-store");
    answer.json()
}

async fn page(world: &World) -> Answer {
    let mut caller = Caller::connect(world.gateway.admin).await;
    caller.send(request("GET", "/", &[])).await;
    caller.answer().await
}

/// The members of an object, by name.
fn names(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// What stands between two tags.
fn inside<'a>(page: &'a str, open: &str, close: &str) -> &'a str {
    page.split_once(open).expect("an element").1.split_once(close).expect("its end").0
}

#[tokio::test]
async fn the_numbers_say_what_was_answered_and_what_it_cost() {
    let world = world().await;
    let before = status(&world).await;
    assert_eq!((&before["hit_ratio"], &before["latest"]), (&Value::Null, &json!([])));
    for _ in 0..4 {
        world.call(ID).await;
    }
    world.call("under-way").await;
    world.call("failing").await;
    world.get("/nowhere").await;
    let now = status(&world).await;
    let members = "connections draining hit_ratio latest now ready reasons replicas requests tiers uptime_seconds \
                   vendor version workspaces";
    assert_eq!(names(&now), members.split_whitespace().collect());
    assert_eq!(now["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&now["ready"], &now["reasons"], &now["draining"]), (&json!(true), &json!([]), &json!(false)));
    assert_eq!(
        now["requests"],
        json!({
            "total": 7,
            "by_outcome":
                {"hit": 3, "miss": 2, "collapsed": 0, "bypass": 1, "stale": 0, "negative": 0, "none": 1},
            "by_class": {"1xx": 0, "2xx": 5, "3xx": 0, "4xx": 1, "5xx": 1},
        })
    );
    assert_eq!(now["hit_ratio"], json!(0.5));
    let vendor = &now["vendor"];
    assert_eq!(
        (&vendor["answered"], &vendor["requests"], &vendor["saved"]),
        (&json!(5), &json!(3), &json!(2))
    );
    assert_eq!((&vendor["in_flight"], &vendor["circuit"]), (&json!(0), &json!("closed")));
    assert_eq!(vendor["latency"]["count"], json!(3));
    let counts = vendor["latency"]["buckets"].as_array().expect("buckets").iter();
    assert!(counts.map(|bucket| bucket["count"].as_u64()).is_sorted());
    let workspace = &now["workspaces"][0];
    assert_eq!((&workspace["limit"], &workspace["remaining"]), (&json!(100_000), &json!(99_997)));
    assert_eq!(workspace["pause_seconds"], json!(0.0));
    let memory = &now["tiers"][0];
    assert_eq!((&memory["tier"], &memory["entries"]), (&json!("memory"), &json!(1)));
    assert_eq!(memory["capacity"], json!(256 << 20));
    assert_eq!(now["replicas"], json!({"state": "none", "count": 1}));
}

#[tokio::test]
async fn the_latest_requests_say_who_asked_and_what_came_of_it() {
    let world = world().await;
    let agent = format!("{}{}", "a".repeat(60), "never seen");
    world.get_with(&format!("/calls/{ID}"), &[("user-agent", &agent)]).await;
    world.call("under-way").await;
    world.call("failing").await;
    world.get("/calls/no.id").await;
    world.get("/v2/api/call-history?search=secret").await;
    let latest = status(&world).await["latest"].clone();
    let shown = |at: usize| {
        let one = &latest[at];
        (
            one["route"].clone(),
            one["id"].clone(),
            one["outcome"].clone(),
            one["reason"].clone(),
            one["status"].clone(),
        )
    };
    let table = [
        ("list", json!(null), "bypass", json!("list"), 200),
        ("lookup", json!(null), "none", json!("invalid_call_id"), 400),
        ("lookup", json!("failing"), "miss", json!("upstream_error"), 502),
        ("lookup", json!("under-way"), "bypass", json!("ongoing"), 200),
        ("lookup", json!(ID), "miss", json!(null), 200),
    ];
    assert_eq!(latest.as_array().map(Vec::len), Some(table.len()));
    for (at, (route, id, outcome, reason, status)) in table.into_iter().enumerate() {
        assert_eq!(shown(at), (json!(route), id, json!(outcome), reason, json!(status)));
        assert!(latest[at]["duration_ms"].as_f64() > Some(0.0) && latest[at]["at"].as_i64() > Some(0));
    }
    assert_eq!(latest[4]["agent"], json!(format!("{}…", "a".repeat(60))));
}

#[tokio::test]
async fn neither_key_nor_number_nor_query_nor_body_is_shown() {
    let world = world().await;
    let number = PHONE.replace('+', "%2B");
    world.call(ID).await;
    world.call(ID).await;
    world.get(&format!("/v2/api/call-history?search={number}")).await;
    world.get(&format!("/calls/{ID}?phone={number}")).await;
    let texts = [status(&world).await.to_string(), page(&world).await.text()];
    for text in texts {
        for secret in [KEY, PHONE, &PHONE[1..], &number, "search", "transcript"] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
}

#[tokio::test]
async fn the_page_may_run_its_own_script_and_nothing_else() {
    let world = world().await;
    world.get_with("/calls/none", &[("user-agent", "</script><script>alert(1)</script>&<!--")]).await;
    let answer = page(&world).await;
    assert_eq!((answer.status, answer.one("content-type")), (200, "text/html; charset=utf-8"));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(answer.one(name), value);
    }
    let page = answer.text();
    let hash = |open, close| {
        let digest = ring::digest::digest(&ring::digest::SHA256, inside(&page, open, close).as_bytes());
        let mut letters = [0; 44];
        assert_eq!(STANDARD.encode_slice(digest, &mut letters), Ok(44));
        format!("'sha256-{}'", String::from_utf8_lossy(&letters))
    };
    let policy = answer.one("content-security-policy");
    let directives: Vec<_> = policy.split("; ").collect();
    let style = format!("style-src {}", hash("<style>", "</style>"));
    let script = format!("script-src {}", hash("<script>", "</script>"));
    let rest = ["img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"];
    let expected = [&["default-src 'none'", &style, &script, "connect-src 'self'"], &rest[..]].concat();
    assert_eq!(directives, expected);
    // What a caller chose stands in it as text that ends no element.
    assert!(!page.contains("alert(1)</script>") && page.contains("alert(1)\\u003c/script\\u003e"));
    let numbers = inside(&page, "id=\"first\">", "</script>");
    let numbers: Value = serde_json::from_str(numbers).expect("json");
    assert_eq!(numbers["requests"]["by_outcome"]["miss"], json!(1));
}

#[tokio::test]
async fn the_page_is_for_the_operators_own_browser_alone() {
    let world = world().await;
    let none: &[(&str, &str)] = &[];
    let table = [
        ("POST", "/", none, 405, "method_not_allowed"),
        ("DELETE", "/status", none, 405, "method_not_allowed"),
        ("GET", "/status?x=1", none, 400, "unexpected_query"),
        ("GET", "/status/", none, 404, "route_not_found"),
        ("GET", "/status", &[("origin", "http://evil.test")], 403, "cross_site_request"),
        ("GET", "/", &[("sec-fetch-site", "cross-site")], 403, "cross_site_request"),
    ];
    for (method, target, fields, status, code) in table {
        let refused = world.gateway.operate(method, target, fields).await;
        assert_eq!(refused.problem(), (status, code.into()), "{method} {target} {fields:?}");
    }
    let (operators, scraping) = (world.gateway.admin, world.gateway.scraping.expect("an address"));
    for target in ["/", "/status"] {
        let mut caller = Caller::connect(operators).await;
        caller.send(format!("GET {target} HTTP/1.1\r\nhost: evil.test\r\n\r\n")).await;
        assert_eq!(caller.answer().await.problem(), (421, "misdirected_request".into()));
        for elsewhere in [scraping, world.gateway.address] {
            let mut caller = Caller::connect(elsewhere).await;
            caller.send(request("GET", target, &[])).await;
            assert_eq!(caller.answer().await.problem(), (404, "route_not_found".into()), "{target}");
        }
        let mut caller = Caller::connect(operators).await;
        caller.send(request("HEAD", target, &[])).await;
        assert_eq!(caller.answer_to("HEAD").await.status, 200);
    }
}
