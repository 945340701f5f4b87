//! Traces: what the vendor is told of them, and what a collector gets, from a real process.

use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use rustix::process::Signal;

use super::collector::{Collector, attribute};
use crate::gateway::{
    program::{Process, callgate, run, serving},
    records::{id, settled},
    vendor::{Play, Vendor, answer, ok},
    world::{Caller, KEY, PHONE, WORKSPACE, request},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn ask(process: &Process, target: &str, flags: &str) {
    let mut caller = Caller::connect(process.address).await;
    let parent = format!("00-{TRACE}-{PARENT}-{flags}");
    caller.send(request("GET", target, &[("traceparent", &parent), ("tracestate", "a=b")])).await;
    caller.answer().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sampled_request_is_a_span_with_its_wait_and_what_the_vendor_was_asked_within() {
    let vendor = Vendor::start(|seen| match seen.number {
        2 => Play::Send(answer("503 No", "", PHONE)),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    let mut collector = Collector::start().await;
    let mut command = serving(vendor.address);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address))
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=calls%20team")
        .env("OTEL_SERVICE_NAME", "calls")
        .env("CALLGATE__UPSTREAM__RETRIES", "0");
    let process = Process::start(command).await;
    ask(&process, &format!("/calls/{}", id(1)), "01").await;
    ask(&process, &format!("/calls/{}", id(2)), "01").await;
    ask(&process, &format!("/calls/{}", id(1)), "01").await;
    ask(&process, &format!("/nowhere/{PHONE}?k={PHONE}"), "01").await;
    ask(&process, &format!("/calls/{}", id(3)), "00").await;
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success() && !log.contains("are lost"), "{log}");

    let mut spans: Vec<Span> = Vec::new();
    while spans.iter().filter(|span| span.kind() == SpanKind::Server).count() < 4 {
        let export = collector.next().await;
        assert_eq!(export.path, "/v1/traces");
        assert_eq!(export.headers["content-type"], "application/x-protobuf");
        assert_eq!(export.headers["x-team"], "calls team");
        assert_eq!(export.resource("service.name").as_deref(), Some("calls"));
        spans.extend(export.spans());
    }
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && span.flags & 1 == 1));
    assert!(!format!("{spans:?}").contains(PHONE.trim_start_matches('+')));
    let requests: Vec<&Span> = spans.iter().filter(|span| span.kind() == SpanKind::Server).collect();
    let told = |span: &Span, key| attribute(span, key).unwrap_or_default();
    let story: Vec<_> = requests
        .iter()
        .map(|span| {
            assert_eq!(hex(&span.parent_span_id), PARENT);
            let status = told(span, "http.response.status_code");
            (span.name.as_str(), status, told(span, "callgate.cache"), told(span, "error.type"))
        })
        .collect();
    let row =
        |name, status: &str, cache: &str, error: &str| (name, status.into(), cache.into(), error.into());
    let route = "GET /calls/{id}";
    assert_eq!(
        story,
        [
            row(route, "200", "miss", ""),
            row(route, "502", "miss", "upstream_error"),
            row(route, "200", "hit", ""),
            row("GET", "404", "none", ""),
        ]
    );
    assert_eq!(told(requests[0], "callgate.call.id"), id(1));
    assert_eq!(told(requests[0], "http.route"), "/calls/{id}");
    let asked: Vec<&Span> = spans.iter().filter(|span| span.kind() == SpanKind::Client).collect();
    assert_eq!(asked.len(), 2, "hits ask nobody");
    let seen = vendor.seen();
    assert_eq!(seen.len(), 3);
    for ((asked, request), seen) in asked.iter().zip(&requests).zip(&seen) {
        assert_eq!(asked.parent_span_id, request.span_id);
        assert!(asked.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(asked.end_time_unix_nano <= request.end_time_unix_nano);
        assert_eq!(seen.one("traceparent"), format!("00-{TRACE}-{}-01", hex(&asked.span_id)));
        assert!(!seen.head.contains("tracestate"));
    }
    assert_eq!(told(asked[0], "http.response.status_code"), "200");
    assert_eq!(told(asked[0], "server.port"), vendor.address.port().to_string());
    let full = format!("http://{}/v2/api/call-history/{}", vendor.address, id(1));
    assert_eq!(told(asked[0], "url.full"), full);
    assert_eq!(told(asked[1], "error.type"), "upstream_error");
    let queued = spans.iter().filter(|span| span.name == "queue");
    assert!(queued.clone().count() >= 1);
    assert!(queued.clone().all(|span| requests.iter().any(|request| request.span_id == span.parent_span_id)));
    assert!(seen[2].one("traceparent").ends_with("-00"), "not sampled, and continued all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_costs_a_warning() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let mut command = serving(vendor.address);
    // The discard port: nobody listens.
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let mut process = Process::start(command).await;
    for n in 0..20 {
        ask(&process, &format!("/calls/{}", id(n % 3)), "01").await;
    }
    process.says("spans of requests are lost").await;
    ask(&process, &format!("/calls/{}", id(1)), "01").await;
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success());
    assert_eq!(log.matches("are lost").count(), 1, "once a minute at the most: {log}");
    assert_eq!(log.matches("\"status\":200").count(), 21, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variable_that_cannot_be_used_costs_the_traces_and_not_the_gateway() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "canary:4317"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "canary"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc-canary"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "canary"),
        ("OTEL_RESOURCE_ATTRIBUTES", "canary"),
    ] {
        let traced = |mut command: Command| {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9").env(name, value);
            command
        };
        let process = Process::start(traced(serving(vendor.address))).await;
        ask(&process, &format!("/calls/{}", id(1)), "01").await;
        process.signal(Signal::TERM);
        let (status, log) = process.ended().await;
        assert!(status.success() && log.contains("\"status\":200"), "{log}");
        let told: Vec<_> = log.lines().filter(|line| line.contains("no traces are exported")).collect();
        assert!(told.len() == 1 && told[0].contains(name) && told[0].contains("WARN"), "{log}");
        assert!(!log.contains("canary"), "{log}");

        let mut check = traced(callgate(&["check"]));
        check.env("TRILLET_API_KEY", KEY).env("TRILLET_WORKSPACE_ID", WORKSPACE);
        let check = run(check).await;
        assert_eq!(check.status, Some(0), "{}", check.stderr);
        assert!(check.stderr.starts_with(&format!("notice: {name}: ")), "{}", check.stderr);
        assert_eq!(check.stderr.lines().count(), 1, "{}", check.stderr);
        assert!(!check.stderr.contains("canary"), "{}", check.stderr);
    }
}
