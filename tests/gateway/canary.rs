//! A key of ours that a caller sends, wherever it can be put: it is asked of nobody, and stands in no answer, log, page
//! or metric.

use rustix::process::Signal;

use super::{
    program::{Process, serving},
    records::settled,
    vendor::{Play, Vendor, ok},
    world::{Answer, Caller, ID, KEY, request, within},
};

/// Every byte of it as `%XX`.
fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn ask(address: std::net::SocketAddr, bytes: String, method: &str) -> Answer {
    let mut caller = Caller::connect(address).await;
    within(caller.send(bytes)).await;
    caller.answer_to(method).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_a_caller_sends_is_repeated_nowhere() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let mut command = serving(vendor.address);
    command.env("CALLGATE__LOOKUP__QUERY_FORWARDED", "expand").env("RUST_LOG", "callgate=trace");
    let process = Process::start(command).await;
    let hidden = percent_encoded(KEY);
    // Refused without a word to the vendor, as ids, names and values.
    let refused = [
        ("GET", format!("/calls/{KEY}"), "invalid_call_id"),
        ("HEAD", format!("/calls/{KEY}"), ""),
        ("GET", format!("/v1/api/call-history/a-{KEY}-b"), "invalid_call_id"),
        ("GET", format!("/calls/{hidden}"), "invalid_call_id"),
        ("GET", format!("/calls/{ID}?{KEY}=1"), "unexpected_query"),
        ("GET", format!("/calls/{ID}?{hidden}=1"), "unexpected_query"),
        ("GET", format!("/calls/{ID}?x={KEY}"), "unexpected_query"),
        ("GET", format!("/calls/{ID}?expand={KEY}"), "invalid_request"),
        ("GET", format!("/calls/{ID}?expand={hidden}"), "invalid_request"),
        ("GET", format!("/v2/api/call-history?search={KEY}"), "invalid_request"),
        ("GET", format!("/{KEY}"), "route_not_found"),
        (KEY, format!("/calls/{ID}"), "method_not_allowed"),
    ];
    for (method, target, code) in &refused {
        let answer = ask(process.address, request(method, target, &[]), method).await;
        let text = format!("{:?}{}", answer.fields, answer.text());
        assert!(answer.status >= 400 && text.contains(code), "{method} {target}: {text}");
        assert!(!text.contains(KEY) && !text.contains(&hidden), "{method} {target}: {text}");
    }
    assert_eq!(vendor.requests(), 0);
    // Served, and not written down.
    let fields = [
        ("user-agent", KEY),
        ("x-request-id", KEY),
        ("x-api-key", KEY),
        ("prefer", KEY),
        ("if-none-match", KEY),
    ];
    for address in [process.address, process.admin] {
        for target in [format!("/calls/{ID}"), "/metrics".into(), format!("/cache/{ID}")] {
            let answer = ask(address, request("GET", &target, &fields), "GET").await;
            assert!(!format!("{:?}{}", answer.fields, answer.text()).contains(KEY), "{target}: {answer:?}");
        }
    }
    assert_eq!(vendor.requests(), 1);
    assert_eq!(vendor.seen()[0].head.matches(KEY).count(), 1, "ours alone: {}", vendor.seen()[0].head);

    // What operators send of it by mistake.
    for (method, target) in [("GET", format!("/cache/{KEY}")), ("DELETE", format!("/cache/{KEY}"))] {
        let answer = ask(process.admin, request(method, &target, &[]), method).await;
        assert_eq!(answer.problem(), (400, "invalid_call_id".into()), "{method} {target}");
        assert!(!answer.text().contains(KEY), "{}", answer.text());
    }
    let list = format!(r#"{{"ids":["{KEY}","no id but {KEY}","{ID}"]}}"#);
    let post =
        format!("POST /warm HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{list}", list.len());
    let mut caller = Caller::connect(process.admin).await;
    caller.send(post).await;
    let warmed = caller.rest().await;
    assert!(warmed.contains(r#""invalid":2"#) && !warmed.contains(KEY), "{warmed}");
    assert_eq!(vendor.requests(), 1);

    for target in ["/", "/status", "/metrics", "/config", "/readyz", &format!("/cache/{ID}")] {
        let shown = ask(process.admin, request("GET", target, &[]), "GET").await;
        assert!(!shown.text().contains(KEY) && !shown.text().contains(&hidden), "{target}: {}", shown.text());
    }
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success() && log.contains(ID), "{log}");
    for secret in [KEY, hidden.as_str(), &KEY[..16]] {
        assert_eq!(log.lines().find(|line| line.contains(secret)), None, "{secret}");
    }
}
