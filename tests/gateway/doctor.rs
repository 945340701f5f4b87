//! `callgate doctor`: one request to the vendor, a line for each finding, and never the key or the record.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, process::Command};

use callgate::sandbox::{Config, Sandbox};

use super::{
    program::{Outcome, callgate, run},
    records::{ongoing, record, settled},
    vendor::{Play, Vendor, answer, ok},
    world::{ID, KEY, PHONE, WORKSPACE},
};

/// `callgate doctor` before this vendor, with these further arguments.
fn doctor(vendor: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = callgate(&[&["doctor"], arguments].concat());
    command
        .env("TRILLET_API_KEY", KEY)
        .env("TRILLET_WORKSPACE_ID", WORKSPACE)
        .env("TRILLET_API_BASE_URL", format!("http://{vendor}"));
    command
}

/// What it says of a vendor that answers with these bytes, which it asks once.
async fn said_of(bytes: Vec<u8>, arguments: &[&str]) -> Outcome {
    let vendor = Vendor::start(move |_| Play::Send(bytes.clone())).await;
    let told = run(doctor(vendor.address, arguments)).await;
    assert_eq!(vendor.requests(), 1);
    for secret in [KEY, PHONE] {
        assert!(!told.stdout.contains(secret) && !told.stderr.contains(secret), "{}", told.stdout);
    }
    told
}

fn dated(body: &str, ahead: i64) -> Vec<u8> {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
    let date = httpdate::fmt_http_date(at.into());
    answer("200 OK", &format!("date: {date}\r\netag: \"a\"\r\n"), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_understood_is_all_well() {
    let told = said_of(dated(&settled(ID), 0), &["--call", ID]).await;
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""), "{}", told.stdout);
    for line in [
        "ok     credentials: key and workspace are accepted\n",
        "ok     status: `completed`, which is final: such calls are kept\n",
        "note   validators: etag is sent, last-modified is not\n",
        "note   retry-after: not sent, as nothing was limited\n",
        "ok     clock: ",
    ] {
        assert!(told.stdout.contains(line), "{line} in {}", told.stdout);
    }
    let told = said_of(dated(&ongoing(ID), 0), &["--call", ID]).await;
    assert!(told.status == Some(0) && told.stdout.contains("never kept"), "{}", told.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_has_a_line_and_status_1() {
    let unknown = record(ID, "archived", "");
    let foreign = settled(ID).replace(WORKSPACE, "ws-another");
    let leaking = record(ID, "completed", &format!(r#","note":"{KEY}""#));
    let error = |status| answer(status, "", "{}");
    let table = [
        (dated(&unknown, 0), "status: `archived` is not known"),
        (dated(&settled(ID), 3_600), "clock: 3600 s behind the vendor's"),
        (ok(settled("another-call")), "record: not understood (other-id)"),
        (ok(foreign), "record: of another workspace"),
        (ok(leaking), "answer: it holds the key"),
        (error("401 Unauthorized"), "credentials: 401, the key is not accepted"),
        (error("403 Forbidden"), "credentials: 403"),
        (error("404 Not Found"), "answer: 404, the vendor has no such call"),
        (error("429 Too Many Requests"), "answer: 429"),
        (error("503 Service Unavailable"), "answer: 503, the vendor cannot serve now"),
        (answer("302 Found", "location: /\r\n", ""), "answer: invalid: status 302"),
    ];
    for (bytes, line) in table {
        let told = said_of(bytes, &["--call", ID]).await;
        assert_eq!(told.status, Some(1), "{line}: {}", told.stdout);
        let says =
            |line: &str| told.stdout.lines().any(|said| said.starts_with("wrong  ") && said.contains(line));
        // A second may pass between the vendor's date and ours.
        let found = ["3599", "3600", "3601"].iter().any(|seconds| says(&line.replace("3600", seconds)));
        assert!(found, "{line} in {}", told.stdout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_call_a_list_of_one_is_asked_for() {
    let list = format!(r#"{{"calls":[{}]}}"#, settled(ID));
    let vendor = Vendor::start(move |_| Play::Send(ok(&list))).await;
    let told = run(doctor(vendor.address, &[])).await;
    assert_eq!(told.status, Some(0), "{}", told.stdout);
    assert!(told.stdout.contains("`completed`, which is final"), "{}", told.stdout);
    assert_eq!(vendor.seen()[0].target(), "/v2/api/call-history?limit=1");
    for (bytes, line, status) in [
        (ok("[]"), "note   list: empty", 0),
        (ok("{}"), "wrong  list: no array of calls", 1),
        (answer("500 Internal Server Error", "", "{}"), "note   answer: 500, as for a list without calls", 0),
    ] {
        let told = said_of(bytes, &[]).await;
        assert_eq!(
            (told.status, told.stdout.contains(line)),
            (Some(status), true),
            "{line}: {}",
            told.stdout
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sandbox_is_all_well_and_tells_a_wrong_key() {
    let sandbox = Sandbox::bind(Config::default(), ([127, 0, 0, 1], 0).into()).await.expect("bound");
    let (address, handle) = (sandbox.local_addr(), sandbox.handle());
    let running = tokio::spawn(sandbox.run(std::future::pending()));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    for (key, status, line) in [
        (Config::default().api_key, 0, "ok     credentials: key and workspace are accepted\n"),
        (KEY.to_owned(), 1, "wrong  credentials: 401"),
    ] {
        fs::write(&path, &key).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
        let call = handle.settled_ids().pop().expect("a call");
        let mut command = doctor(address, &["--call", &call]);
        command.env_remove("TRILLET_API_KEY").env("TRILLET_API_KEY_FILE", &path);
        command.env("TRILLET_WORKSPACE_ID", Config::default().workspace_id);
        let told = run(command).await;
        assert_eq!(told.status, Some(status), "{}{}", told.stdout, told.stderr);
        assert!(told.stdout.contains(line), "{}", told.stdout);
        assert!(told.stdout.contains("key file: mode 0640"), "{}", told.stdout);
        assert!(!told.stdout.contains(&key));
    }
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_are_no_good_are_2_and_nobody_there_is_1() {
    let no_settings = run(callgate(&["doctor"])).await;
    assert_eq!((no_settings.status, no_settings.stdout.as_str()), (Some(2), ""));
    assert_eq!(run(callgate(&["doctor", "--call", "no id"])).await.status, Some(2));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let free = taken.local_addr().expect("an address");
    drop(taken);
    let nobody = run(doctor(free, &[])).await;
    assert_eq!(nobody.status, Some(1));
    assert!(nobody.stdout.contains("wrong  connection: "), "{}", nobody.stdout);
    let another = run(doctor(free, &["--workspace-id", "another"])).await;
    assert_eq!((another.status, another.stdout.as_str()), (Some(2), ""), "{}", another.stderr);
}
