//! The line that each request leaves in the log of a running gateway, and which hits leave none.

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Duration, sleep};

use super::{
    program::{Process, serving},
    records::{id, ongoing, settled},
    vendor::{Play, Vendor, answer, ok},
    world::{Answer, Caller, request, within},
};

/// How long the vendor holds an answer back, at least.
const HELD: Duration = Duration::from_millis(30);

async fn ask(process: &Process, method: &str, target: &str) -> Answer {
    let mut caller = Caller::connect(process.address).await;
    caller.send(request(method, target, &[])).await;
    caller.answer_to(method).await
}

/// The lines of requests, when the gateway has ended.
async fn lines(process: Process) -> Vec<Value> {
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success(), "{log}");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
    lines.filter(|line| line["target"] == "callgate::access").collect()
}

/// A gateway that has one request under way at a time.
async fn one_at_a_time(vendor: &Vendor) -> Process {
    let mut command = serving(vendor.address);
    command.env("CALLGATE__UPSTREAM__MAX_CONCURRENCY", "1").env("CALLGATE__UPSTREAM__RETRIES", "0");
    Process::start(command).await
}

/// Waits until so many lookups are in the queue.
async fn queued(process: &Process, lookups: usize) {
    let line = format!("}} {lookups}");
    let known = async {
        loop {
            let mut caller = Caller::connect(process.admin).await;
            caller.send(request("GET", "/metrics", &[])).await;
            let text = caller.answer().await.text();
            let waiting = text.lines().find(|line| line.starts_with("callgate_budget_waiting{"));
            if waiting.expect("such a metric").ends_with(&line) {
                return;
            }
        }
    };
    within(known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_a_request_says_what_became_of_it_and_why_and_what_took_how_long() {
    let vendor = Vendor::start(|seen| match seen.id() {
        of if of == id(1) => Play::Held(ok(settled(of))),
        of if of == id(2) => Play::Send(ok(ongoing(of))),
        of if of == id(3) => Play::Send(ok(settled(&id(9)))),
        of if of == id(4) => Play::Send(answer("503 No", "", "")),
        of => Play::Send(answer("404 No", "", of)),
    })
    .await;
    let process = one_at_a_time(&vendor).await;
    let target = |n| format!("/calls/{}", id(n));
    let mut first = Caller::connect(process.address).await;
    first.send(request("GET", &target(1), &[])).await;
    vendor.arrived(1).await;
    let mut second = Caller::connect(process.address).await;
    second.send(request("GET", &target(2), &[])).await;
    queued(&process, 1).await;
    sleep(HELD).await;
    vendor.release();
    let mut answers = vec![first.answer().await, second.answer().await];
    for (method, target) in [
        ("GET", target(1)),
        ("HEAD", target(1)),
        ("GET", target(3)),
        ("GET", target(4)),
        ("GET", target(5)),
        ("GET", target(5)),
        ("GET", "/calls/not%20an%20id".to_owned()),
        ("GET", "/elsewhere".to_owned()),
    ] {
        answers.push(ask(&process, method, &target).await);
    }
    let mut lines = lines(process).await;
    // Which of the two that were under way together is written first is nobody's business.
    lines[..2].sort_by_key(|line| line["id"].to_string());
    // Route, cache, reason, status, and whether the vendor was asked.
    let expected = [
        ("lookup", "miss", None, 200, true),
        ("lookup", "bypass", Some("ongoing"), 200, true),
        ("lookup", "hit", None, 200, false),
        ("lookup", "hit", None, 200, false),
        ("lookup", "bypass", Some("other-id"), 200, true),
        ("lookup", "miss", Some("upstream_error"), 502, true),
        ("lookup", "miss", None, 404, true),
        ("lookup", "negative", Some("not-found"), 404, false),
        ("lookup", "none", Some("invalid_call_id"), 400, false),
        ("other", "none", Some("route_not_found"), 404, false),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for ((line, answer), (route, cache, reason, status, asked)) in lines.iter().zip(&answers).zip(expected) {
        let said = (&line["route"], &line["cache"], line["reason"].as_str(), line["status"].as_u64());
        assert_eq!(said, (&route.into(), &cache.into(), reason, Some(status)), "{line}");
        assert_eq!(u64::from(answer.status), status, "{line}");
        assert_eq!(line["bytes"].as_u64(), Some(answer.body.len() as u64), "{line}");
        let times = [&line["duration_ms"], &line["upstream_ms"], &line["queue_ms"]].map(Value::as_f64);
        assert!(times[0].is_some_and(|took| took > 0.0), "{line}");
        assert_eq!((times[1].is_some(), times[2].is_some()), (asked, asked), "{line}");
        let parts = times[1].unwrap_or_default() + times[2].unwrap_or_default();
        // Each is rounded by itself.
        assert!(parts <= times[0].unwrap_or_default() + 1.0, "{line}");
    }
    let held = HELD.as_secs_f64() * 1e3;
    assert!(lines[0]["upstream_ms"].as_f64().is_some_and(|took| took >= held), "{}", lines[0]);
    assert!(lines[1]["queue_ms"].as_f64().is_some_and(|took| took >= held), "{}", lines[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_hits_are_left_out_of_the_log_and_as_many_as_was_said() {
    const HITS: usize = 200;
    for (share, expected) in [("0", 0..=0), ("0.5", 50..=150), ("1.0", HITS..=HITS)] {
        let vendor = Vendor::start(|seen| match seen.id() {
            of if of == id(1) => Play::Send(ok(settled(of))),
            of if of == id(2) => Play::Send(ok(ongoing(of))),
            of => Play::Send(answer("404 No", "", of)),
        })
        .await;
        let mut command = serving(vendor.address);
        command.env("CALLGATE__LOG__HITS", share);
        let process = Process::start(command).await;
        let mut caller = Caller::connect(process.address).await;
        for n in std::iter::once(1).chain(std::iter::repeat_n(1, HITS)).chain([2, 2, 3, 3]) {
            caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
            caller.answer().await;
        }
        caller.send(request("GET", "/elsewhere", &[])).await;
        caller.answer().await;
        drop(caller);
        let lines = lines(process).await;
        let (hits, others): (Vec<_>, Vec<_>) =
            lines.iter().map(|line| &line["cache"]).partition(|cache| *cache == "hit");
        assert!(expected.contains(&hits.len()), "{} at {share}", hits.len());
        assert_eq!(others, ["miss", "bypass", "bypass", "miss", "negative", "none"], "at {share}");
    }
}
