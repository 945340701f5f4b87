//! What a configuration means, and what is said about a bad one: defaults, layers and workspaces here, bad settings in
//! `refused` and `any`, `callgate check` and what it shows in `shown`.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use callgate::{
    downstream::{AllowedHosts, BindAddress},
    lookup::FOREVER,
    settings::{Loaded, Settings},
    telemetry::Format,
    upstream::credentials::{Credentials, KeySource},
};

use rustix::fs::{CWD, Mode, mkfifoat};

mod any;
mod refused;
mod shown;

/// Never to be seen in any output.
const CANARY: &str = "canary-0071e5";

type Env = BTreeMap<String, String>;

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// An environment with credentials, and more.
fn with_key(pairs: &[(&str, &str)]) -> Env {
    let mut all = env(&[("TRILLET_API_KEY", CANARY), ("TRILLET_WORKSPACE_ID", "w-1")]);
    all.extend(env(pairs));
    all
}

fn load(toml: &str, env: &Env) -> Loaded {
    Settings::load_str(toml, env).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn lines(problems: &[callgate::settings::Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The lines about a configuration that is no good.
fn refused(toml: &str, env: &Env) -> Vec<String> {
    let problems = Settings::load_str(toml, env).expect_err(toml);
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(lines.iter().all(|line| !line.contains(CANARY) && !line.contains('\n')), "{lines:?}");
    lines
}

fn write(dir: &Path, name: &str, contents: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, contents).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
    path
}

#[test]
fn an_address_beyond_the_loopback_is_accepted_where_it_is_meant() {
    let toml = "listen.internal = '0.0.0.0:8080'\nlisten.admin = '[::]:9090'\n";
    let meant = "listen.allow_non_loopback = true";
    assert_eq!(refused(toml, &with_key(&[])).len(), 2);
    let variable = with_key(&[("CALLGATE__LISTEN__ALLOW_NON_LOOPBACK", "true")]);
    for loaded in [load(&format!("{toml}{meant}"), &with_key(&[])), load(toml, &variable)] {
        let listen = loaded.settings.listen;
        let beyond = vec![BindAddress::Tcp("0.0.0.0:8080".parse().expect("an address"))];
        assert_eq!((listen.internal, listen.allow_non_loopback), (beyond, true));
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let Loaded { settings, notices, .. } = load("", &with_key(&[]));
    let Settings { listen, upstream, workspaces, lookup, store, budget, drain, log, .. } = settings;
    let secs = Duration::from_secs;
    let tcp = |text: &str| vec![BindAddress::Tcp(text.parse().expect("an address"))];
    assert_eq!((listen.internal, listen.admin), (tcp("127.0.0.1:8080"), tcp("127.0.0.1:9090")));
    assert_eq!((listen.metrics, listen.unix_mode, listen.limits.http2), (None, 0o660, false));
    assert_eq!(listen.allowed_hosts, AllowedHosts::Names(Vec::new()));
    assert_eq!((listen.limits.max_connections, listen.limits.max_requests), (4096, 100_000));
    assert_eq!(
        (listen.limits.header_timeout, listen.limits.idle_timeout, listen.limits.write_timeout),
        (secs(10), secs(75), secs(10))
    );
    assert_eq!(upstream.origin.authority, "api.trillet.ai");
    assert_eq!(
        (upstream.connect_timeout, upstream.response_timeout, upstream.idle_timeout),
        (secs(3), secs(15), secs(30))
    );
    assert_eq!((upstream.max_concurrency, upstream.max_body, upstream.retries), (16, 16 << 20, 1));
    assert_eq!(upstream.ca_file, None);
    assert_eq!(workspaces.len(), 1);
    assert_eq!((workspaces[0].name.as_str(), workspaces[0].workspace_id.as_str()), ("default", "w-1"));
    assert_eq!(lookup.final_statuses, ["completed", "failed"]);
    assert_eq!(
        (lookup.settle_after, lookup.settling_ttl, lookup.final_ttl),
        (secs(600), secs(15), secs(30 * 86_400))
    );
    assert_eq!((lookup.client_max_age, lookup.stale_if_error), (secs(3600), secs(7 * 86_400)));
    assert_eq!((lookup.ongoing_ttl, lookup.not_found_ttl, lookup.failure_ttl), (secs(0), secs(5), secs(1)));
    assert_eq!((lookup.query_ignored, lookup.query_forwarded), (vec!["_".to_owned()], Vec::new()));
    assert_eq!((lookup.obey_no_cache, lookup.max_wait), (false, secs(60)));
    assert_eq!((lookup.list_ttl, lookup.empty_for_500), (secs(0), false));
    assert_eq!(
        (store.capacity, store.disk, settings.replicas, store.encryption_key_file),
        (256 << 20, None, None, None)
    );
    assert_eq!((budget.requests_per_minute, budget.replicas_fallback, budget.reserve), (60, None, None));
    assert_eq!((budget.queue_timeout, budget.queue_length), (secs(2), 1000));
    assert_eq!((drain.delay, drain.timeout), (secs(0), secs(25)));
    assert_eq!((log.format, log.level.as_str(), log.hits), (Format::Auto, "info", 1.0));
    assert_eq!(notices, [] as [String; 0]);
}

#[test]
fn a_pipe_is_read_once_where_it_was_handed_over_and_never_waited_for_by_name() {
    let (read, mut written) = std::io::pipe().expect("a pipe");
    let handed = [PathBuf::from(format!("/dev/fd/{}", read.as_raw_fd()))];
    written.write_all(b"lookup.final_ttl = '2h'").expect("written");
    drop(written);
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = [dir.path().join("fifo")];
    mkfifoat(CWD, &fifo[0], Mode::RWXU).expect("a fifo");
    let env = with_key(&[]);
    let (done, result) = std::sync::mpsc::channel();
    // Apart, so that one that waits fails here instead of for ever.
    std::thread::spawn(move || {
        let wrong = |loaded: Result<Loaded, Vec<_>>| lines(&loaded.expect_err("a pipe"));
        let first = Settings::load(&handed, &env).expect("read to its end").settings;
        let again = wrong(Settings::load_again(&handed, &env));
        let named = wrong(Settings::load(&fifo, &env));
        let named_again = wrong(Settings::load_again(&fifo, &env));
        let nothing = &["/dev/null".into()];
        let empty = Settings::load(nothing, &env).is_ok() && Settings::load_again(nothing, &env).is_ok();
        done.send((first.lookup.final_ttl, again, named, named_again, empty)).expect("awaited");
    });
    let (ttl, again, named, named_again, empty) =
        result.recv_timeout(Duration::from_secs(10)).expect("nothing is waited for");
    assert_eq!(ttl, Duration::from_secs(7200));
    assert!(again.ends_with("): the file is a pipe, which can be read at the start only\n"), "{again}");
    assert!(named.ends_with("): the file is a named pipe, not a regular file\n"), "{named}");
    assert!(
        named_again.ends_with("): the file is a pipe, which can be read at the start only\n"),
        "{named_again}"
    );
    assert!(empty, "a device without anything is an empty file");
}

#[test]
fn later_layers_win() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = write(
        dir.path(),
        "1.toml",
        "lists.ttl = '1s'\nlog.level = 'warn'\n[lookup]\nsettle_after = '1m'\nmax_wait = '1s'",
        0o600,
    );
    let second = write(
        dir.path(),
        "2.toml",
        "lists.ttl = '2s'\n[lookup]\nsettle_after = '2m'\nfinal_statuses = ['over']",
        0o600,
    );
    let env = with_key(&[
        ("CALLGATE__LOOKUP__SETTLE_AFTER", "3m"),
        ("CALLGATE__UPSTREAM__BASE_URL", "https://three.test"),
        ("TRILLET_API_BASE_URL", "https://four.test"),
        ("RUST_LOG", "callgate=debug"),
    ]);
    let settings = Settings::load(&[first, second], &env).expect("good").settings;
    assert_eq!(settings.lookup.settle_after, Duration::from_secs(180));
    assert_eq!(settings.lookup.max_wait, Duration::from_secs(1));
    assert_eq!(settings.lookup.list_ttl, Duration::from_secs(2));
    assert_eq!(settings.lookup.final_statuses, ["over"]);
    assert_eq!(settings.upstream.origin.authority, "four.test");
    assert_eq!(settings.log.level, "callgate=debug");
}

#[test]
fn the_environment_is_read_as_what_each_setting_is() {
    let env = with_key(&[
        ("CALLGATE__LISTEN__HTTP2", "true"),
        ("CALLGATE__LISTEN__INTERNAL", "127.0.0.1:1, unix:/run/callgate.sock"),
        ("CALLGATE__LISTEN__ALLOWED_HOSTS", "calls.internal,Calls.Test"),
        ("CALLGATE__LOOKUP__QUERY_IGNORED", ""),
        ("CALLGATE__CACHE__DISK__PATH", "/var/lib/callgate/calls"),
        ("CALLGATE__BUDGET__RESERVE", "0"),
        ("CALLGATE__LOG__HITS", "0.25"),
        ("CALLGATE_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ]);
    let settings = load("", &env).settings;
    assert!(settings.listen.limits.http2);
    assert_eq!(settings.listen.internal[1], BindAddress::Unix("/run/callgate.sock".into()));
    let hosts = ["calls.internal", "calls.test"].map(str::to_owned).to_vec();
    assert_eq!(settings.listen.allowed_hosts, AllowedHosts::Names(hosts));
    assert_eq!(settings.lookup.query_ignored, [] as [String; 0]);
    assert_eq!(settings.store.disk.map(|disk| disk.path), Some("/var/lib/callgate/calls".into()));
    assert_eq!((settings.budget.reserve, settings.log.hits), (Some(0), 0.25));
}

#[test]
fn the_state_directory_of_systemd_holds_the_kept_calls_unless_another_file_is_named() {
    let of = |toml: &str, directory: &str| {
        load(toml, &with_key(&[("STATE_DIRECTORY", directory)])).settings.store.disk.map(|disk| disk.path)
    };
    let calls = |directory: &str| Some(std::path::PathBuf::from(directory).join("calls"));
    assert_eq!(of("", "/var/lib/callgate"), calls("/var/lib/callgate"));
    assert_eq!(of("", "/var/lib/callgate/:/var/lib/other"), calls("/var/lib/callgate"));
    assert_eq!(of("cache.disk.path = '/srv/calls'", "/var/lib/callgate"), calls("/srv"));
    assert_eq!(of("", "somewhere"), None, "systemd gives whole paths");
    assert_eq!(of("", ""), None);
}

#[test]
fn every_setting_is_accepted_from_the_first_day() {
    let directory = tempfile::tempdir().expect("a directory");
    let keys = write(directory.path(), "cache_key", &"0f".repeat(32), 0o600);
    let settings = load(
        r#"
        listen = { internal = ["127.0.0.1:0", "127.0.0.1:0"], metrics = "0.0.0.0:9091", unix_mode = "600" }
        lookup = { final_ttl = "forever", max_wait = "5m", query_ignored = [], query_forwarded = ["_"], ongoing_ttl = "2s" }
        lists = { ttl = "3s", empty_for_500 = true }
        budget = { requests_per_minute = 600, reserve = 599, replicas_fallback = 3 }
        log = { format = "json", level = "warn,callgate=debug", hits = 0 }
        "#,
        &with_key(&[
            ("CALLGATE__LISTEN__ALLOWED_HOSTS", "*"),
            ("CALLGATE__CACHE__SHARED__URL", "rediss://u:p@redis.test"),
            ("CALLGATE__CACHE__SHARED__TIMEOUT", "80ms"),
            ("CALLGATE__CACHE__DISK__CAPACITY", "1GiB"),
            ("CALLGATE__CACHE__ENCRYPTION_KEY_FILE", keys.to_str().expect("text")),
        ]),
    )
    .settings;
    assert_eq!(settings.store.encryption_key_file, Some(keys));
    assert_eq!(settings.lookup.final_ttl, FOREVER);
    assert_eq!(settings.listen.metrics, Some("0.0.0.0:9091".parse().expect("an address")));
    assert_eq!(settings.listen.allowed_hosts, AllowedHosts::Any);
    assert_eq!(settings.store.disk, None, "without a path there is no disk tier");
    let shared = settings.replicas.expect("a shared tier");
    assert_eq!((shared.url.as_str(), shared.timeout), ("rediss://u:p@redis.test", Duration::from_millis(80)));
    assert_eq!((settings.log.format, settings.log.hits), (Format::Json, 0.0));
}

#[test]
fn an_api_version_is_dropped_from_the_callers_base_url_with_a_notice() {
    for (given, notices) in
        [("https://api.trillet.ai/v1", 1), ("https://api.trillet.ai/v2/", 1), ("https://api.trillet.ai", 0)]
    {
        let loaded = load("", &with_key(&[("TRILLET_API_BASE_URL", given)]));
        assert_eq!(loaded.settings.upstream.origin.authority, "api.trillet.ai");
        assert_eq!(loaded.notices.len(), notices, "{given}");
    }
    // Set and empty is not set.
    assert_eq!(
        load("", &with_key(&[("TRILLET_API_BASE_URL", "")])).settings.upstream.origin.authority,
        "api.trillet.ai"
    );
}

#[test]
fn a_key_that_looks_like_a_number_stays_what_it_is() {
    let settings =
        load("", &env(&[("TRILLET_API_KEY", " 0071e5\r\n"), ("TRILLET_WORKSPACE_ID", "007")])).settings;
    assert_eq!(settings.workspaces[0].workspace_id, "007");
    let KeySource::Inline(key) = &settings.workspaces[0].source else { panic!("an inline key") };
    assert_eq!(key.header_value().as_bytes(), b"0071e5");
}

#[test]
fn checked_workspaces_can_be_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = write(dir.path(), "key", &format!("{CANARY}\n"), 0o640);
    let toml = format!("[[workspaces]]\nworkspace_id = 'w-1'\napi_key_file = '{}'", key.display());
    let settings = load(&toml, &env(&[])).settings;
    let credentials = Credentials::open(settings.workspaces, settings.trusted_key_dirs).expect("opened");
    let workspace = credentials.select(Some(b"w-1")).expect("a workspace");
    assert_eq!(credentials.name(workspace), "w-1", "named by its id where it has no name");
    assert_eq!(credentials.key(workspace).header_value().as_bytes(), CANARY.as_bytes());
}

#[test]
fn a_world_readable_file_with_a_key_in_it_is_pointed_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = format!("[[workspaces]]\nworkspace_id = 'w-1'\napi_key = '{CANARY}'");
    for (mode, notices) in [(0o644, 1), (0o640, 0)] {
        let path = write(dir.path(), &format!("{mode:o}.toml"), &toml, mode);
        let loaded = Settings::load(&[path], &env(&[])).expect("good");
        assert_eq!(loaded.notices.len(), notices);
    }
}
