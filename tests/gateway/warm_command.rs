//! `callgate warm`: a list in a file, a gateway that runs, and what the command says and ends with.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use rustix::process::Signal;

use super::{
    program::{Process, Running, callgate, run, serving},
    records::{id, ongoing, settled},
    vendor::{Play, Vendor, answer, ok},
    world::{ID, WORKSPACE},
};

/// `callgate warm` with this list, toward this admin endpoint.
fn warm(list: &tempfile::NamedTempFile, admin: &str) -> Command {
    callgate(&["warm", list.path().to_str().expect("text"), "--admin", admin])
}

fn listed(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_warmed_and_what_failed_is_named() {
    let vendor = Vendor::start(|seen| {
        Play::Send(match seen.id() {
            "under-way" => ok(ongoing(seen.id())),
            "unknown" => answer("404 Not Found", "", "{}"),
            "broken" => answer("500 Internal Server Error", "", "{}"),
            _ => ok(settled(seen.id())),
        })
    })
    .await;
    let process = Process::start(serving(vendor.address)).await;
    let admin = process.admin.to_string();
    let sound = listed(&format!("# of May\n{ID}\n\nunder-way # still\n{ID}\nunknown\n"));
    let done = run(warm(&sound, &admin)).await;
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert_eq!(done.stdout, "1 kept, 0 hit, 1 ongoing, 1 not found, 0 failed, 0 invalid\n");
    assert!(done.stderr.contains("3 of 3\n") && !done.stderr.contains('\r'), "{}", done.stderr);
    // Again, and from standard input.
    let mut again = callgate(&["warm", "-", "--admin", &admin, "--workspace-id", WORKSPACE]);
    again.stdin(Stdio::from(fs::File::open(sound.path()).expect("opened")));
    let again = run(again).await;
    assert_eq!((again.status, again.stdout.contains("0 kept, 1 hit")), (Some(0), true), "{}", again.stderr);

    let failing = run(warm(&listed("broken\nno id\n"), &admin)).await;
    assert_eq!(failing.status, Some(1));
    assert_eq!(failing.stdout, "0 kept, 0 hit, 0 ongoing, 0 not found, 1 failed, 1 invalid\n");
    for words in ["broken: failed 500 status\n", "no id: invalid invalid_call_id\n"] {
        assert!(failing.stderr.contains(words), "{}", failing.stderr);
    }
    let mut stranger = warm(&sound, &admin);
    stranger.args(["--workspace-id", "another"]);
    let stranger = run(stranger).await;
    assert_eq!(stranger.status, Some(1));
    assert!(stranger.stderr.contains("refused with 403"), "{}", stranger.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_behind_a_unix_socket_is_reached_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let admin = format!("unix:{}", dir.path().join("admin.sock").display());
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let mut command = serving(vendor.address);
    // `Process` waits for an address over TCP too.
    command.env("CALLGATE__LISTEN__ADMIN", format!("127.0.0.1:0,{admin}"));
    let process = Process::start(command).await;
    let done = run(warm(&listed(ID), &admin)).await;
    assert_eq!((done.status, done.stdout.starts_with("1 kept")), (Some(0), true), "{}", done.stderr);
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_it_and_the_work_with_it() {
    let vendor = Vendor::start(|seen| Play::Held(ok(settled(seen.id())))).await;
    let mut process = Process::start(serving(vendor.address)).await;
    let list: String = (0..30).map(|n| format!("{}\n", id(n))).collect();
    let list = listed(&list);
    let warming = Running::start(warm(&list, &process.admin.to_string()));
    vendor.arrived(4).await;
    warming.signal(Signal::INT);
    let ended = warming.ended().await;
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).expect("text");
    assert!(said.contains("stopped after 0 of 30 calls; send the list again"), "{said}");
    process.says("reader left").await;
    vendor.release();
    assert_eq!(vendor.requests(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_1_and_no_list_is_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let free = taken.local_addr().expect("an address").to_string();
    drop(taken);
    let nobody = run(warm(&listed(ID), &free)).await;
    assert_eq!((nobody.status, nobody.stderr.starts_with("callgate: no answer")), (Some(1), true));
    let empty = run(warm(&listed("# nothing\n"), &free)).await;
    assert_eq!(empty.status, Some(2));
    let absent = run(callgate(&["warm", "/nonexistent/list", "--admin", &free])).await;
    assert_eq!(absent.status, Some(2), "{}", absent.stderr);
}
