//! What is written and not read: a log whose reader has stopped or left, a standard output that is closed, a scraper
//! that only asks.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep},
};

use crate::gateway::{
    program::{Process, Running, address, serving},
    records::{id, settled},
    vendor::{Play, Vendor, ok},
    world::{Caller, World, request, within},
};

/// Asks for so many calls, with an agent that makes long lines of them.
async fn ask(gateway: SocketAddr, calls: usize) {
    let agent = "a".repeat(4_000);
    let mut caller = Caller::connect(gateway).await;
    for n in 0..calls {
        caller.send(request("GET", &format!("/calls/{}", id(n % 50)), &[("user-agent", &agent)])).await;
        assert_eq!(caller.answer().await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_reader_stops_or_leaves_holds_nobody_up_and_not_the_end_either() {
    for leaves in [false, true] {
        let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
        let mut command = serving(vendor.address);
        command.env("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "1000");
        let mut child = Running::start(command);
        let mut log = child.stderr();
        // It is read until it is known where the gateway listens, and no further.
        let listening = tokio::task::spawn_blocking(move || {
            let (mut said, mut buffer) = (String::new(), [0; 512]);
            loop {
                let read = log.read(&mut buffer).expect("readable");
                said.push_str(&String::from_utf8_lossy(&buffer[..read]));
                if let (Some(internal), Some(_)) = (address(&said, "internal"), address(&said, "admin")) {
                    return (internal, log);
                }
            }
        });
        let (gateway, log) = within(listening).await.expect("no panic");
        let log = if leaves { None } else { Some(log) };
        // Some ten times of what a pipe takes.
        let began = Instant::now();
        ask(gateway, 300).await;
        child.signal(Signal::TERM);
        assert_eq!(child.ended().await.status.code(), Some(0), "{leaves}");
        assert!(began.elapsed() < Duration::from_secs(15), "{leaves}: {:?}", began.elapsed());
        drop(log);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standard_output_that_is_closed_or_full_is_no_matter() {
    for closed in [false, true] {
        let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
        let usual = serving(vendor.address);
        let mut command = Command::new("/bin/sh");
        // What is opened first must not take the place of what was closed.
        let script = if closed { "exec \"$0\" serve <&- >&-" } else { "exec \"$0\" serve >/dev/full" };
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_callgate")])
            .env_clear()
            .envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let process = Process::start(command).await;
        ask(process.address, 60).await;
        process.signal(Signal::TERM);
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[tokio::test]
async fn a_scraper_that_never_reads_is_cut_and_costs_the_others_nothing() {
    let settings = "listen.metrics = \"127.0.0.1:0\"\nlisten.write_timeout = \"400ms\"";
    let world = World::with(settings, |seen| Play::Send(ok(settled(seen.id())))).await;
    assert_eq!(world.call(&id(0)).await.status, 200);
    for endpoint in [world.gateway.scraping.expect("an address"), world.gateway.admin] {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("set");
        let mut deaf = within(socket.connect(endpoint)).await.expect("connected");
        // Far more answers than the buffers of both sides take.
        let asked = send_on(&mut deaf, request("GET", "/metrics", &[]).repeat(5_000)).await;
        // Until it is reset, and by then a write to it is refused.
        let others = async {
            while !deaf.try_write(b"\r\n").is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                assert!(world.gateway.metrics().await.contains("callgate_build_info"));
                assert!(world.call(&id(0)).await.cache().starts_with("callgate; hit"));
                sleep(Duration::from_millis(20)).await;
            }
        };
        within(others).await;
        let mut taken = Vec::new();
        let cut = within(deaf.read_to_end(&mut taken)).await;
        let answers = taken.windows(15).filter(|window| window == b"HTTP/1.1 200 OK").count();
        assert!(cut.is_err() || answers < asked, "{answers} of {asked} answers");
        crate::canary::search("the metrics", &taken);
    }
}

/// Writes for as long as the other side takes it, a second at the most; how many requests that came to.
async fn send_on(stream: &mut TcpStream, requests: String) -> usize {
    let mut sent = 0;
    let all = async {
        while let Some(rest) = requests.as_bytes().get(sent..).filter(|rest| !rest.is_empty()) {
            sent += stream.write(rest).await.expect("taken");
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
    sent / request("GET", "/metrics", &[]).len()
}
