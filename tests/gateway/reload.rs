//! Settings that change while the gateway runs: by SIGHUP, by `POST /reload`, and as `GET /config` shows them.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use callgate::{
    app::{App, Sources, Surroundings},
    settings::{Loaded, Settings},
};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::Signal,
};
use serde_json::{Value, json};

use super::{
    program::{Process, callgate, serving},
    records::{id, ongoing, settled},
    vendor::{Play, Vendor, ok},
    world::{Answer, Caller, KEY, WORKSPACE, World, request, within},
};

/// A gateway in a process of its own with a configuration file.
struct Configured {
    vendor: Vendor,
    process: Process,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Configured {
    async fn with(settings: &str) -> Self {
        let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("callgate.toml");
        fs::write(&file, settings).expect("written");
        let mut command = serving(vendor.address);
        command.arg("--config").arg(&file);
        let process = Process::start(command).await;
        Self { vendor, process, file, _dir: dir }
    }

    /// At once, so that no reload finds half of it.
    fn write(&self, settings: &str) {
        let beside = self.file.with_extension("new");
        fs::write(&beside, settings).expect("written");
        fs::rename(&beside, &self.file).expect("renamed");
    }

    async fn get(&self, id: &str) -> Answer {
        ask(self.process.address, "GET", &format!("/calls/{id}"), &[]).await
    }

    async fn operate(&self, method: &str, target: &str) -> Answer {
        ask(self.process.admin, method, target, &[]).await
    }
}

async fn ask(address: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let mut caller = Caller::connect(address).await;
    caller.send(request(method, target, fields)).await;
    let answer = caller.answer_to(method).await;
    answer.keeps_the_promises();
    answer
}

/// The `ttl` of `cache-status`, of a call that is kept.
fn ttl(answer: &Answer) -> u64 {
    let ttl = answer.cache().split("; ").find_map(|part| part.strip_prefix("ttl="));
    ttl.expect("a ttl").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sighup_changes_what_can_change_and_names_what_cannot() {
    let mut gateway = Configured::with("lookup.final_ttl = '1h'").await;
    assert_eq!(gateway.get(&id(1)).await.status, 200);
    gateway.write(
        "lookup.final_ttl = '2h'\nbudget.requests_per_minute = 3\nbudget.queue_timeout = '0s'\n\
         log.level = 'debug'\ncache.capacity = '1MiB'",
    );
    gateway.process.signal(Signal::HUP);
    gateway.process.says("\"reloaded\"").await;
    let said = gateway.process.said();
    let restart = said.lines().find(|line| line.contains("until the gateway is started again"));
    assert!(restart.is_some_and(|line| line.contains("cache.capacity")), "{said}");

    assert!((7_190..=7_200).contains(&{
        gateway.get(&id(2)).await;
        ttl(&gateway.get(&id(2)).await)
    }));
    assert!(ttl(&gateway.get(&id(1)).await) <= 3_600, "what is kept keeps its lifetime");
    // One before and one after are counted: one is left.
    assert_eq!(gateway.get(&id(3)).await.status, 200);
    assert_eq!(gateway.get(&id(4)).await.problem(), (429, "rate_limit_exceeded".into()));
    assert_eq!(gateway.vendor.requests(), 3);
    gateway.operate("GET", "/nowhere").await;
    gateway.process.says("admin request refused").await;

    let shown = gateway.operate("GET", "/config").await.text();
    for line in ["final_ttl = \"2h\"", "requests_per_minute = 3", "capacity = \"256MiB\""] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_answered_with_what_it_came_to() {
    let gateway = Configured::with("").await;
    let nothing = gateway.operate("POST", "/reload").await;
    assert_eq!((nothing.status, nothing.one("content-type")), (200, "application/json"));
    assert_eq!(nothing.json(), json!({"changed": [], "unchanged_until_restart": []}));
    gateway.write("lists.ttl = '1s'\nlog.hits = 0.5\ndrain.delay = '1s'");
    let some = json!({"changed": ["lists.ttl", "log.hits"], "unchanged_until_restart": ["drain.delay"]});
    assert_eq!(gateway.operate("POST", "/reload").await.json(), some);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_changes_nothing_and_all_that_is_wrong_is_told() {
    let mut gateway = Configured::with("lookup.final_ttl = '1h'").await;
    let shown = gateway.operate("GET", "/config").await.text();
    gateway.write("lookup.final_ttl = '2h'\nlookup.nothing = '1s'\nlog.level = 'loud'");
    let refused = gateway.operate("POST", "/reload").await;
    assert_eq!(refused.problem(), (422, "invalid_configuration".into()));
    let problems = refused.json()["problems"].clone();
    let problems: Vec<&str> = problems.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("callgate.toml:2") && problems[1].starts_with("log.level"), "{problems:?}");
    // Not said before: only the signal can have had it read.
    gateway.write("lookup.final_ttl = '2h'\nlookup.settle_afer = '1s'");
    gateway.process.signal(Signal::HUP);
    gateway.process.says("did you mean lookup.settle_after").await;
    gateway.write("not = [toml");
    assert_eq!(gateway.operate("POST", "/reload").await.status, 422);
    fs::remove_file(&gateway.file).expect("removed");
    assert_eq!(gateway.operate("POST", "/reload").await.status, 422);
    mkfifoat(CWD, &gateway.file, Mode::RWXU).expect("a fifo");
    let refused = gateway.operate("POST", "/reload").await;
    assert!(refused.json()["problems"].to_string().contains("the file is a pipe"), "{}", refused.text());
    assert_eq!(gateway.operate("GET", "/config").await.text(), shown);
    gateway.get(&id(1)).await;
    assert!(ttl(&gateway.get(&id(1)).await) <= 3_600);
    // None of it is in the way of one that is good.
    gateway.write("lookup.final_ttl = '2h'");
    assert_eq!(gateway.operate("POST", "/reload").await.json()["changed"], json!(["lookup.final_ttl"]));
}

#[tokio::test]
async fn what_is_read_too_late_changes_nothing_as_was_said() {
    let read = |ttl: &str| -> Loaded {
        let text = format!(
            "listen.internal = '127.0.0.1:0'\nlisten.admin = '127.0.0.1:0'\nlookup.final_ttl = '{ttl}'\n\
             [[workspaces]]\nworkspace_id = '{WORKSPACE}'\napi_key = '{KEY}'"
        );
        Settings::load_str(&text, &BTreeMap::new()).expect("settings")
    };
    let app = App::bind(read("1h").settings, Surroundings::default()).await.expect("bound");
    let reloader = app.reloader();
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (end, ends) = mpsc::channel();
    let ends = Mutex::new(ends);
    let load = move || {
        begin.send(()).expect("the test is there");
        ends.lock().expect("sound").recv().expect("the test is there");
        Ok(read("2h"))
    };
    reloader.reads_from(Sources { load: Box::new(load), log: None });
    tokio::time::pause();
    let late = tokio::spawn(Arc::clone(&reloader).reload());
    begun.recv().await.expect("it reads");
    tokio::time::advance(Duration::from_secs(11)).await;
    let problems = late.await.expect("no panic").expect_err("given up on");
    assert_eq!(problems, ["the configuration cannot be read to its end in time"]);
    end.send(()).expect("it reads still");
    // The next one begins when that one has ended.
    end.send(()).expect("it will read");
    let next = reloader.reload().await.expect("good");
    assert_eq!(next.changed, ["lookup.final_ttl"], "it was as it had been");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sighup_ends_the_gateway_not_in_a_burst_and_not_while_it_drains() {
    let vendor = Vendor::start(|seen| Play::Held(ok(settled(seen.id())))).await;
    let mut process = Process::start(serving(vendor.address)).await;
    let mut under_way = Caller::connect(process.address).await;
    under_way.send(request("GET", &format!("/calls/{}", id(1)), &[])).await;
    vendor.arrived(1).await;
    for _ in 0..100 {
        process.signal(Signal::HUP);
    }
    process.says("\"reloaded\"").await;
    process.signal(Signal::TERM);
    process.says("closed to new connections").await;
    for _ in 0..100 {
        process.signal(Signal::HUP);
    }
    vendor.release();
    assert_eq!(under_way.answer().await.text(), settled(&id(1)));
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("ended in order"), "{log}");
}

#[tokio::test]
async fn no_web_page_reloads_or_reads_the_settings_and_no_scraper_either() {
    let settings = "listen.metrics = \"127.0.0.1:0\"\n";
    let world = World::with(settings, |seen| Play::Send(ok(ongoing(seen.id())))).await;
    let admin = world.gateway.admin;
    for (method, target) in [("POST", "/reload"), ("GET", "/config")] {
        let cross = ask(admin, method, target, &[("origin", "https://evil.example")]).await;
        assert_eq!(cross.problem(), (403, "cross_site_request".into()));
        let query = ask(admin, method, &format!("{target}?a=b"), &[]).await;
        assert_eq!(query.problem(), (400, "unexpected_query".into()));
        let scraped = ask(world.gateway.scraping.expect("an address"), method, target, &[]).await;
        assert!(matches!(scraped.status, 404 | 405), "{scraped:?}");
    }
    assert_eq!(ask(admin, "GET", "/reload", &[]).await.one("allow"), "POST");
    assert_eq!(ask(admin, "POST", "/config", &[]).await.one("allow"), "GET, HEAD");
}

#[tokio::test]
async fn the_settings_in_force_are_shown_as_check_prints_them_and_without_secrets() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let process = Process::start(serving(vendor.address)).await;
    let shown = ask(process.admin, "GET", "/config", &[]).await;
    assert_eq!((shown.status, shown.one("content-type")), (200, "application/toml"));
    assert!(shown.text().contains("api_key = \"[redacted]\"") && !shown.text().contains(KEY));
    let mut check = callgate(&["check"]);
    for (name, value) in serving(vendor.address).get_envs() {
        check.env(name, value.expect("a value"));
    }
    assert_eq!(super::program::run(check).await.stdout, shown.text());
    let head = ask(process.admin, "HEAD", "/config", &[]).await;
    assert_eq!((head.status, head.one("content-length")), (200, shown.text().len().to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_that_changed_is_read_by_a_reload() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("key");
    super::rotation::put(&key, "canary-before-rotation");
    let mut command = serving(vendor.address);
    command.env_remove("TRILLET_API_KEY").env("TRILLET_API_KEY_FILE", &key);
    let process = Process::start(command).await;
    let reload = async || ask(process.admin, "POST", "/reload", &[]).await;
    super::rotation::put(&key, "canary-after-rotation");
    assert_eq!(reload().await.json()["changed"], json!(["workspaces[0].api_key_file"]));
    assert_eq!(reload().await.json()["changed"], json!([]));
    super::rotation::put(&key, "");
    assert_eq!(reload().await.problem(), (422, "invalid_configuration".into()));
    ask(process.address, "GET", &format!("/calls/{}", id(1)), &[]).await;
    assert_eq!(vendor.seen()[0].one("x-api-key"), "canary-after-rotation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_up_that_waits_for_the_budget_goes_on_as_soon_as_there_is_more() {
    let gateway = Configured::with("budget.requests_per_minute = 1\nbudget.reserve = 0").await;
    assert_eq!(gateway.get(&id(1)).await.status, 200);
    let mut reader = Caller::connect(gateway.process.admin).await;
    let list = json!({ "ids": [id(2)] }).to_string();
    let length = list.len();
    let head = format!("POST /warm HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    reader.send(head + &list).await;
    // It was told when the next turn comes, and waits for that.
    let refused = "callgate_budget_rejected_total 1\n";
    within(async { while !gateway.operate("GET", "/metrics").await.text().contains(refused) {} }).await;
    gateway.write("budget.requests_per_minute = 2\nbudget.reserve = 0");
    assert_eq!(gateway.operate("POST", "/reload").await.status, 200);
    assert!(reader.rest().await.contains("\"result\":\"kept\""));
    assert_eq!(gateway.vendor.requests(), 2);
}
