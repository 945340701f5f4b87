//! The other commands, and what exit statuses say: 0 a clean end, 1 it could not run, 2 bad usage or configuration.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, process::Stdio, time::Duration};

use super::{
    program::{Process, callgate, run, serving},
    records::settled,
    vendor::{Play, Vendor, ok},
    world::{KEY, WORKSPACE, within},
};

#[tokio::test]
async fn the_demo_shows_what_each_lookup_cost_and_ends() {
    let demo = run(callgate(&["demo", "--once"])).await;
    assert_eq!(demo.status, Some(0), "{}", demo.stderr);
    let line = |start: &str| {
        let line = demo.stdout.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("{start} in {}", demo.stdout)).to_owned()
    };
    let table = [
        ("a call that is over, first asked", "callgate; fwd=uri-miss; fwd-status=200; stored"),
        ("the same again: hit", "callgate; hit; ttl="),
        ("a call under way", "callgate; fwd=uri-miss; fwd-status=200; detail=ongoing"),
        ("100 callers at once, a call nobody had", "; collapsed"),
        ("other calls, until the minute is used up: 429", "detail=rate_limit_exceeded"),
    ];
    for (start, word) in table {
        assert!(line(start).contains(word), "{}", line(start));
    }
    let crowd = line("100 callers at once, a call nobody had");
    let columns: Vec<_> = crowd.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    assert_eq!(columns[1..3], ["100", "1"], "{crowd}");
    assert!(demo.stdout.contains("lookups cost the vendor"), "{}", demo.stdout);
}

#[tokio::test]
async fn bad_usage_is_2_and_help_is_0() {
    for arguments in [
        &["--unknown"][..],
        &["serve", "--unknown"],
        &["nothing"],
        &["serve", "surplus"],
        &["--config"],
        &["health", "--admin", "nowhere"],
        &["sandbox", "--fault", "often"],
    ] {
        let refused = run(callgate(arguments)).await;
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(refused.stderr.contains("error:"), "{arguments:?}: {}", refused.stderr);
    }
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["demo", "--version"]] {
        let told = run(callgate(arguments)).await;
        assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(told.stdout.contains("callgate"), "{arguments:?}: {}", told.stdout);
    }
}

#[tokio::test]
async fn shells_and_man_are_told_of_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(callgate(&["completions", shell])).await;
        assert_eq!((script.status, script.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["callgate", "doctor", "warm", "admin", "fault"] {
            assert!(script.stdout.contains(word), "{word} for {shell}");
        }
    }
    let page = run(callgate(&["man"])).await;
    assert_eq!((page.status, page.stderr.as_str()), (Some(0), ""));
    assert!(page.stdout.contains(".TH callgate 1") && page.stdout.contains("doctor"), "{}", page.stdout);
    let page = run(callgate(&["man", "warm"])).await;
    assert_eq!(page.status, Some(0));
    assert!(page.stdout.contains(".TH callgate-warm 1"), "{}", page.stdout);
    assert!(page.stdout.contains("standard input"), "{}", page.stdout);
    for arguments in [&["man", "nothing"][..], &["completions", "tcsh"]] {
        assert_eq!(run(callgate(arguments)).await.status, Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_key_that_everybody_may_read_is_refused_before_a_port_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    fs::write(&path, KEY).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
    for command in ["serve", "check"] {
        let mut refused = callgate(&[command]);
        refused.env("TRILLET_API_KEY_FILE", &path).env("TRILLET_WORKSPACE_ID", WORKSPACE);
        let refused = run(refused).await;
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""));
        assert!(refused.stderr.contains("readable by everybody"), "{}", refused.stderr);
        assert!(refused.stderr.contains("TRILLET_API_KEY_FILE"), "{}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1);
        assert!(!refused.stderr.contains(KEY) && !refused.stderr.contains("listening"));
    }
}

#[tokio::test]
async fn all_problems_are_told_at_once_with_setting_and_layer() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("callgate.toml");
    fs::write(&file, "[listen]\ninternal = \"0.0.0.0:1\"\n[lookup]\nsettle_afer = \"1m\"\n")
        .expect("written");
    let file = file.to_str().expect("text");
    for command in ["serve", "check"] {
        let mut refused = callgate(&[command, "--config", file]);
        refused.env("CALLGATE__UPSTREAM__RETRIES", "many");
        let refused = run(refused).await;
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""));
        for words in [
            "listen.internal",
            "lookup.settle_afer",
            "callgate.toml:2",
            "callgate.toml:4",
            "upstream.retries",
            "CALLGATE__UPSTREAM__RETRIES",
            "workspaces",
        ] {
            assert!(refused.stderr.contains(words), "{words} in {}", refused.stderr);
        }
        assert_eq!(refused.stderr.lines().count(), 4, "{}", refused.stderr);
    }
}

#[tokio::test]
async fn a_sound_configuration_is_shown_without_its_secrets() {
    let mut check = callgate(&["check"]);
    check.env("TRILLET_API_KEY", KEY).env("TRILLET_WORKSPACE_ID", WORKSPACE);
    let shown = run(check).await;
    assert_eq!(shown.status, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.contains("[listen]") && shown.stdout.contains(WORKSPACE), "{}", shown.stdout);
    assert!(!format!("{}{}", shown.stdout, shown.stderr).contains(KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_asks_a_running_gateway() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let process = Process::start(serving(vendor.address)).await;
    let admin = process.admin.to_string();
    let healthy = run(callgate(&["health", "--admin", &admin])).await;
    assert_eq!(healthy.status, Some(0), "{}", healthy.stderr);
    drop(process);
    let gone = run(callgate(&["health", "--admin", &admin])).await;
    assert_eq!(gone.status, Some(1));
    assert!(gone.stderr.starts_with("callgate: no answer"), "{}", gone.stderr);
    assert_eq!(vendor.requests(), 0, "the vendor is never asked of the gateway's own accord");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_a_running_gateway_needs_neither_its_key_nor_sound_settings_beside_its_address() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let process = Process::start(serving(vendor.address)).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("callgate.toml");
    let key = dir.path().join("nobody-s");
    let text = format!(
        "listen.admin = \"{}\"\nnothing = 1\n[[workspaces]]\nworkspace_id = \"w\"\napi_key_file = {key:?}\n",
        process.admin
    );
    fs::write(&file, text).expect("written");
    let ids = dir.path().join("ids");
    fs::write(&ids, "abc\n").expect("written");
    let (file, ids) = (file.to_str().expect("text"), ids.to_str().expect("text"));
    for arguments in [&["health", "--config", file][..], &["warm", ids, "--config", file]] {
        let outcome = run(callgate(arguments)).await;
        assert_eq!(outcome.status, Some(0), "{arguments:?}: {}", outcome.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_key_is_gone_or_rejected_is_not_healthy() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    fs::write(&path, KEY).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let mut command = serving(vendor.address);
    command.env_remove("TRILLET_API_KEY").env("TRILLET_API_KEY_FILE", &path);
    let process = Process::start(command).await;
    let admin = process.admin.to_string();
    assert_eq!(run(callgate(&["health", "--admin", &admin])).await.status, Some(0));
    fs::remove_file(&path).expect("removed");
    let vanished = run(callgate(&["health", "--admin", &admin])).await;
    assert_eq!(vanished.status, Some(1));
    assert!(vanished.stderr.contains("vanished"), "{}", vanished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_1_and_names_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for setting in ["CALLGATE__LISTEN__INTERNAL", "CALLGATE__LISTEN__ADMIN"] {
        let mut command = serving(([127, 0, 0, 1], 9).into());
        command.env(setting, &address);
        let refused = run(command).await;
        assert_eq!(refused.status, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains(&address) && !refused.stderr.contains(KEY), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_read_before_core_dumps_are_off() {
    for command in ["serve", "doctor"] {
        // It waits for the rest of its settings, in which the key may stand.
        let mut command = callgate(&[command, "--config", "/dev/stdin"]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("started");
        let mut settings = child.stdin.take().expect("piped");
        settings.write_all(b"nonsense = '").expect("written");
        let limits = format!("/proc/{}/limits", child.id());
        let off = async {
            loop {
                let limits = fs::read_to_string(&limits).expect("it waits");
                let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
                if core.expect("a limit").split_whitespace().take(2).eq(["0", "0"]) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(off).await;
        assert!(child.try_wait().expect("a child").is_none());
        settings.write_all(b"'").expect("written");
        drop(settings);
        assert_eq!(child.wait().expect("ended").code(), Some(2), "its settings were read");
    }
}
