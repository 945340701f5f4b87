//! The key and what callers said on the phone: nowhere but where they belong, whatever is logged.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use super::{
    program::{Process, Running, callgate, serving},
    records::{id, ongoing, record, settled},
    vendor::{Play, Vendor, answer, ok},
    world::{Caller, ID, KEY, PHONE, request, within},
};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Pid, Signal, geteuid},
};

/// What a caller of its own sends, and must not be seen in the log either.
const THEIRS: &str = "secret-of-a-caller-55aa";

/// Something of a summary.
const SUMMARY: &str = "caller asked about her diagnosis";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_key_nor_phone_number_is_in_log_metrics_or_answers() {
    let vendor = Vendor::start(|seen| {
        let id = seen.id();
        let telling = record(id, "completed", &format!(r#","endTime":1680000300,"summary":"{SUMMARY}""#));
        match seen.number % 9 {
            1 => Play::Send(ok(telling)),
            2 => Play::Send(ok(ongoing(id))),
            3 => Play::Send(ok(telling.replace(PHONE, KEY))),
            4 => Play::Send(answer("401 No", &format!("www-authenticate: {KEY}\r\n"), PHONE)),
            5 => Play::Send(answer(&format!("500 {KEY}"), &format!("x-echo: {KEY}\r\n"), PHONE)),
            6 => Play::ThenClose(format!("HTTP/1.1 200 OK\r\nx: {KEY}\r\n{KEY}\r\n\r\n{PHONE}").into()),
            7 => Play::ThenClose(format!("{KEY} {PHONE}\r\n\r\n").into()),
            8 => Play::Send(ok(format!("<html>{PHONE}</html>"))),
            _ => Play::Send(answer("302 Found", &format!("location: http://h/{KEY}\r\n"), SUMMARY)),
        }
    })
    .await;
    let mut command = serving(vendor.address);
    command.env("RUST_LOG", "trace");
    let process = Process::start(command).await;
    let theirs = [
        ("x-api-key", THEIRS),
        ("authorization", THEIRS),
        ("cookie", THEIRS),
        ("x-made-up", THEIRS),
        ("connection", "x-api-key"),
    ];
    let search = format!("/v2/api/call-history?search={}", PHONE.replace('+', "%2B"));
    let mut targets: Vec<String> = (0..27).map(|n| format!("/calls/{}", id(n))).collect();
    targets.extend([search.clone(), search, format!("/calls/{ID}?k={PHONE}"), format!("/calls/{PHONE}")]);
    let (mut answered, mut withheld) = (0, 0);
    for target in targets {
        let mut caller = Caller::connect(process.address).await;
        caller.send(request("GET", &target, &theirs)).await;
        let answer = caller.answer().await;
        assert!(!format!("{answer:?}{}", answer.text()).contains(KEY), "{answer:?}");
        answered += usize::from(answer.status == 200);
        withheld += usize::from(answer.text().contains("upstream_leaked_credential"));
    }
    assert!(answered >= 9 && withheld >= 9, "{answered} {withheld}");
    for target in ["/metrics", "/readyz", "/healthz"] {
        let mut caller = Caller::connect(process.admin).await;
        caller.send(request("GET", target, &theirs)).await;
        let text = caller.answer().await.text();
        assert!([KEY, PHONE, ID, THEIRS].iter().all(|secret| !text.contains(secret)), "{text}");
    }
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success());
    assert!(log.len() > 10_000, "it was told to say everything: {log}");
    let digits = PHONE.trim_start_matches('+');
    for secret in [KEY, digits, SUMMARY, THEIRS, &KEY[..16]] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    assert!(log.contains(&id(3)), "ids are logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_who_asked_for_what_and_what_it_cost() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let process = Process::start(serving(vendor.address)).await;
    for _ in 0..2 {
        let mut caller = Caller::connect(process.address).await;
        let fields = [("user-agent", "billing/7"), ("x-request-id", "req-1")];
        caller.send(request("GET", &format!("/calls/{ID}"), &fields)).await;
        assert_eq!(caller.answer().await.status, 200);
    }
    process.signal(Signal::TERM);
    let (_, log) = process.ended().await;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(ID)).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for (line, cache) in lines.iter().zip(["miss", "hit"]) {
        for word in ["billing/7", "req-1", "127.0.0.1", &format!("\"{cache}\"")] {
            assert!(line.contains(word), "{word} in {line}");
        }
    }
}

/// The user that has no rights, and no files.
const NOBODY: u32 = 65534;

/// For root, whose processes look alike in `/proc` whether or not they can be dumped: as a user without rights, if such
/// a one can start the program where it lies.
fn unprivileged(mut command: Command) -> Command {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|file| file.mode() & 0o001 != 0);
    if geteuid().is_root() && Path::new(env!("CARGO_BIN_EXE_callgate")).ancestors().all(open) {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Whether neither a core dump nor another process of its user gets at the memory of this one. The files in `/proc` of
/// what cannot be dumped are root's.
fn keeps_its_memory_to_itself(process: Pid) -> bool {
    let read = |name| fs::read_to_string(format!("/proc/{process}/{name}")).expect("it runs");
    let (limits, status) = (read("limits"), read("status"));
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
    let core: Vec<_> = core.split_whitespace().take(2).collect();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its users");
    let user: u32 = uids.split_whitespace().next().expect("a user").parse().expect("a number");
    let owner = fs::metadata(format!("/proc/{process}/environ")).expect("it runs").uid();
    core == ["0", "0"] && (owner != user || user == 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_core_dump_and_no_other_process_of_the_user_has_the_key() {
    let vendor = Vendor::start(|_| Play::Held(ok(settled(ID)))).await;
    let like_serve = |arguments: &[&str]| {
        let mut command = callgate(arguments);
        command.envs(serving(vendor.address).get_envs().filter_map(|(name, value)| Some((name, value?))));
        unprivileged(command)
    };
    let serve = Process::start(like_serve(&["serve"])).await;
    assert!(keeps_its_memory_to_itself(serve.pid()));

    let doctor = Running::start(like_serve(&["doctor", "--call", ID]));
    vendor.arrived(1).await;
    assert!(keeps_its_memory_to_itself(doctor.pid()));

    // It waits for a configuration that has no end.
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = dir.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RWXU).expect("a pipe");
    fs::set_permissions(&pipe, fs::Permissions::from_mode(0o644)).expect("mode");
    let writer = fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("opened");
    let mut command = like_serve(&["check", "--config", "/dev/stdin"]);
    command.stdin(fs::File::open(&pipe).expect("opened"));
    let check = Running::start(command);
    let kept = async {
        while !keeps_its_memory_to_itself(check.pid()) {
            tokio::task::yield_now().await;
        }
    };
    within(kept).await;
    drop((check, writer));
}
