//! `POST /warm`: what is asked of it, what it tells, what it costs, and how it ends.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::{
    records::{id, ongoing, settled},
    vendor::{Play, answer, ok},
    world::{Answer, Caller, Gateway, ID, KEY, World, within},
};

/// A list, as it is sent.
fn list(ids: &[&str]) -> String {
    json!({ "ids": ids }).to_string()
}

fn post(fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /warm HTTP/1.1\r\nhost: localhost\r\n{fields}content-length: {length}\r\n\r\n{body}")
}

/// A warm-up under way.
struct Reader {
    stream: TcpStream,
    unread: Vec<u8>,
    /// The head of the answer.
    head: String,
}

impl Reader {
    async fn begin(gateway: &Gateway, request: &str) -> Self {
        let mut stream = within(TcpStream::connect(gateway.admin)).await.expect("connected");
        within(stream.write_all(request.as_bytes())).await.expect("sent");
        let mut reader = Self { stream, unread: Vec::new(), head: String::new() };
        reader.head = reader.until("\r\n\r\n").await.expect("a head");
        assert!(reader.head.starts_with("HTTP/1.1 200 "), "{}", reader.head);
        for field in ["content-type: application/x-ndjson\r\n", "cache-control: no-store\r\n", "nosniff\r\n"]
        {
            assert!(reader.head.contains(field), "{}", reader.head);
        }
        reader
    }

    async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.unread.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let text = self.unread.drain(..at + end.len()).collect();
                return Some(String::from_utf8(text).expect("text"));
            }
            if within(self.stream.read_buf(&mut self.unread)).await.expect("readable") == 0 {
                return None;
            }
        }
    }

    /// The next line; `None` after the last, which ends the body in order. A chunk is a line.
    async fn line(&mut self) -> Option<Value> {
        let size = self.until("\r\n").await.expect("a size");
        if size == "0\r\n" {
            assert_eq!(self.until("\r\n").await.as_deref(), Some("\r\n"));
            return None;
        }
        let line = self.until("\n").await.expect("a line");
        assert_eq!(self.until("\r\n").await.as_deref(), Some("\r\n"));
        assert!(!line.contains(KEY));
        Some(serde_json::from_str(&line).expect("JSON"))
    }

    async fn all(mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }
}

/// Warms a list to its end; the lines of the calls by their ids, and the last one.
async fn warm(world: &World, ids: &[&str]) -> (Vec<Value>, Value) {
    let mut lines = Reader::begin(&world.gateway, &post("", &list(ids))).await.all().await;
    let (first, last) = (lines.remove(0), lines.pop().expect("a last line"));
    assert_eq!(first, json!({ "total": lines.len(), "workspace": "ws-main", "version": "v2" }));
    for (n, line) in lines.iter().enumerate() {
        assert_eq!((&line["done"], &line["total"]), (&json!(n + 1), &first["total"]));
        assert!(line["eta_seconds"].is_u64());
    }
    lines.sort_by_key(|line| line["id"].to_string());
    (lines, last)
}

#[tokio::test]
async fn each_call_has_its_line_and_what_is_kept_is_a_hit_the_next_time() {
    let world = World::start(|seen| {
        Play::Send(match seen.id() {
            "a-under-way" => ok(ongoing(seen.id())),
            "b-unknown" => answer("404 Not Found", "", r#"{"error":{"code":"not_found","message":""}}"#),
            "c-odd" => ok("[]"),
            "d-broken" => answer("500 Internal Server Error", "", "{}"),
            "e-failing" => answer("502 Bad Gateway", "", ""),
            _ => ok(settled(seen.id())),
        })
    })
    .await;
    let ids = ["d-broken", ID, "no id", ID, "b-unknown", "e-failing", "c-odd", "a-under-way"];
    let (lines, last) = warm(&world, &ids).await;
    let told: Vec<_> = lines.iter().map(|l| [&l["id"], &l["result"], &l["status"], &l["error"]]).collect();
    let expected = [
        json!([ID, "kept", null, null]),
        json!(["a-under-way", "ongoing", null, null]),
        json!(["b-unknown", "not_found", null, null]),
        json!(["c-odd", "failed", 200, "suspect"]),
        json!(["d-broken", "failed", 500, "status"]),
        json!(["e-failing", "failed", 502, "upstream_error"]),
        json!(["no id", "invalid", null, "invalid_call_id"]),
    ];
    assert_eq!(json!(told), json!(expected));
    let sums = json!({
        "ended": "complete", "done": 7, "total": 7,
        "kept": 1, "hit": 0, "ongoing": 1, "not_found": 1, "failed": 3, "invalid": 1
    });
    assert_eq!(last, sums);
    assert_eq!(world.vendor.requests(), 6);
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
    let (again, last) = warm(&world, &[ID]).await;
    assert_eq!((&again[0]["result"], &last["hit"]), (&json!("hit"), &json!(1)));
    assert_eq!(world.vendor.requests(), 6);
}

#[tokio::test]
async fn the_workspace_and_the_version_are_those_that_are_named() {
    let settings = "[[workspaces]]\nname = \"main\"\nworkspace_id = \"ws-main\"\napi_key = \"canary-of-main-000001\"\n\
         [[workspaces]]\nname = \"other\"\nworkspace_id = \"ws-other\"\napi_key = \"canary-of-other-00002\"\n";
    let world = World::with(settings, |seen| {
        Play::Send(ok(settled(seen.id()).replace("ws-main", &seen.one("x-workspace-id"))))
    })
    .await;
    let body = json!({ "ids": [ID], "version": "v1" }).to_string();
    let fields = "x-workspace-id: ws-other\r\ncontent-type: application/json; charset=utf-8\r\n";
    let lines = Reader::begin(&world.gateway, &post(fields, &body)).await.all().await;
    assert_eq!(lines[0], json!({ "total": 1, "workspace": "other", "version": "v1" }));
    assert_eq!(lines[1]["result"], "kept");
    let seen = world.vendor.seen();
    assert_eq!((seen.len(), seen[0].target()), (1, format!("/v1/api/call-history/{ID}").as_str()));
    assert_eq!(seen[0].one("x-workspace-id"), "ws-other");
}

/// What a request that is refused is answered with; the connection ends after it.
async fn refused(world: &World, request: impl AsRef<[u8]>) -> Answer {
    let mut caller = Caller::connect(world.gateway.admin).await;
    caller.send(request).await;
    let answer = caller.answer().await;
    answer.keeps_the_promises();
    answer
}

#[tokio::test]
async fn what_is_no_list_is_refused_and_never_repeated() {
    let world = World::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let sound = list(&[ID]);
    let table = [
        (post("", "canary"), 400, "invalid_request"),
        (post("", "[]"), 400, "invalid_request"),
        (post("", r#"{"ids":[1]}"#), 400, "invalid_request"),
        (post("", r#"{"ids":[],"canary":1}"#), 400, "invalid_request"),
        (post("", ""), 400, "invalid_request"),
        (post("content-type: text/plain\r\n", &sound), 400, "invalid_request"),
        (post("x-workspace-id: canary\r\n", &sound), 403, "unknown_workspace"),
        (post("origin: http://canary.example\r\n", &sound), 403, "cross_site_request"),
        (post("sec-fetch-site: same-site\r\n", &sound), 403, "cross_site_request"),
        (post("", &sound).replace("localhost", "canary.example"), 421, "misdirected_request"),
        (post("", &sound).replace("/warm", "/warm?canary=1"), 400, "unexpected_query"),
        (post("", &sound).replace("POST", "PUT"), 400, "unexpected_body"),
        (post("", &sound).replace("/warm", "/cache"), 400, "unexpected_body"),
        (
            post("content-length: 16777217\r\nx: ", "").replace("x: content-length: 0\r\n", ""),
            413,
            "body_too_large",
        ),
    ];
    for (request, status, code) in table {
        let answer = refused(&world, &request).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{request}");
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    let method = world.gateway.operate("GET", "/warm", &[]).await;
    assert_eq!((method.problem(), method.one("allow")), ((405, "method_not_allowed".to_owned()), "POST"));
    assert_eq!(world.vendor.requests(), 0);
}

#[tokio::test]
async fn whoever_sends_a_list_of_any_size_hears_why_it_is_refused() {
    let world = World::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let (most, more) = (" ".repeat(16 << 20), " ".repeat((16 << 20) + 1));
    let table = [
        (post("origin: http://canary.example\r\n", &most), 403, "cross_site_request"),
        (post("content-type: text/plain\r\n", &most), 400, "invalid_request"),
        (post("", &more), 413, "body_too_large"),
    ];
    for (request, status, code) in table {
        // The whole of it is sent before the answer is read.
        assert_eq!(refused(&world, &request).await.problem(), (status, code.to_owned()));
    }
}

#[tokio::test]
async fn a_body_that_never_says_how_long_it_is_is_cut_off_at_the_limit() {
    let world = World::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let head = "POST /warm HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut caller = Caller::connect(world.gateway.admin).await;
    caller.send(head).await;
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    for _ in 0..16 {
        caller.send(&chunk).await;
    }
    caller.send("1\r\n \r\n").await;
    assert_eq!(caller.answer().await.problem(), (413, "body_too_large".to_owned()));
    // In chunks, and within the limit.
    let body = list(&[ID]);
    let request = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let lines = Reader::begin(&world.gateway, &request).await.all().await;
    assert_eq!(lines[1]["result"], "kept");
}

#[tokio::test]
async fn a_pause_that_the_vendor_asks_for_is_waited_for_and_no_failure() {
    let world = World::start(|seen| {
        Play::Send(match seen.number {
            1 => answer("429 Too Many Requests", "retry-after: 1\r\n", "{}"),
            _ => ok(settled(seen.id())),
        })
    })
    .await;
    let began = Instant::now();
    let (lines, last) = warm(&world, &[ID]).await;
    assert_eq!((&lines[0]["result"], &last["kept"]), (&json!("kept"), &json!(1)));
    assert!(began.elapsed().as_millis() >= 900, "{:?}", began.elapsed());
    assert_eq!(world.vendor.requests(), 2);
}

#[tokio::test]
async fn callers_find_their_share_of_the_budget_left() {
    let settings = "budget.requests_per_minute = 6\nbudget.reserve = 2\n";
    let world = World::with(settings, |seen| Play::Send(ok(settled(seen.id())))).await;
    let ids: Vec<_> = (0..6).map(id).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let mut reader = Reader::begin(&world.gateway, &post("", &list(&ids))).await;
    for _ in 0..5 {
        assert!(reader.line().await.is_some());
    }
    assert_eq!(world.vendor.requests(), 4);
    for n in 10..12 {
        assert_eq!(world.call(&id(n)).await.status, 200);
    }
    assert_eq!(world.call(&id(12)).await.status, 429);
    assert_eq!(world.vendor.requests(), 6);
}

#[tokio::test]
async fn a_reader_who_leaves_ends_the_work() {
    let world = World::start(|seen| Play::Held(ok(settled(seen.id())))).await;
    let ids: Vec<_> = (0..50).map(id).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let reader = Reader::begin(&world.gateway, &post("", &list(&ids))).await;
    world.vendor.arrived(4).await;
    drop(reader);
    world.gateway.settle().await;
    world.vendor.release();
    world.gateway.settle().await;
    // What was paid for landed, and nothing more was asked.
    for n in 0..4 {
        assert!(world.call(&id(n)).await.cache().starts_with("callgate; hit"));
    }
    assert_eq!(world.vendor.requests(), 4);
}

#[tokio::test]
async fn draining_ends_it_with_a_last_line() {
    let world = World::start(|seen| Play::Held(ok(settled(seen.id())))).await;
    let mut reader = Reader::begin(&world.gateway, &post("", &list(&["no id", ID]))).await;
    world.vendor.arrived(1).await;
    assert_eq!(reader.line().await.expect("the first")["total"], 2);
    assert_eq!(reader.line().await.expect("the bad one")["result"], "invalid");
    world.gateway.stop().await;
    let last = reader.line().await.expect("the last");
    assert_eq!((&last["ended"], &last["done"], &last["total"]), (&json!("draining"), &json!(1), &json!(2)));
    assert_eq!(reader.line().await, None);
    within(world.gateway.ended()).await;
}

#[tokio::test]
async fn more_lists_than_may_be_under_way_are_put_off() {
    let world = World::start(|seen| Play::Held(ok(settled(seen.id())))).await;
    let mut readers = Vec::new();
    for n in 0..4 {
        readers.push(Reader::begin(&world.gateway, &post("", &list(&[&id(n)]))).await);
    }
    let put_off = refused(&world, post("", &list(&[ID]))).await;
    assert_eq!((put_off.problem(), put_off.number("retry-after")), ((503, "overloaded".to_owned()), 60));
    world.vendor.release();
    for reader in readers {
        assert_eq!(reader.all().await.len(), 3);
    }
    // Their places are free.
    let lines = Reader::begin(&world.gateway, &post("", &list(&[ID]))).await.all().await;
    assert_eq!(lines[1]["result"], "kept");
}

#[tokio::test]
async fn lists_that_are_large_together_are_put_off_and_a_short_one_is_not() {
    let world = World::start(|seen| Play::Held(ok(settled(seen.id())))).await;
    let large = |n: usize, length: usize| {
        let body = list(&[&id(n)]);
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    let in_chunks = |body: &str| {
        let head = "POST /warm HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let largest = Reader::begin(&world.gateway, &post("", &large(0, 16 << 20))).await;
    for request in [post("", &large(1, 9 << 20)), in_chunks(&large(1, 9 << 20))] {
        let put_off = refused(&world, &request).await;
        assert_eq!((put_off.problem(), put_off.number("retry-after")), ((503, "overloaded".to_owned()), 60));
        assert!(put_off.text().contains("leave no room"), "{}", put_off.text());
    }
    let short = Reader::begin(&world.gateway, &in_chunks(&large(2, 8 << 20))).await;
    world.vendor.release();
    assert_eq!((largest.all().await.len(), short.all().await.len()), (3, 3));
    let again = Reader::begin(&world.gateway, &post("", &large(1, 16 << 20))).await;
    assert_eq!(again.all().await[1]["result"], "kept");
}
