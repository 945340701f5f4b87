//! Vendors to which there is no way: names that nobody resolves, addresses that swallow what is sent, handshakes that
//! never end, resets at every point. Each is a 502 or 504 in time, and hits go on.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rustix::process::geteuid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Duration, Instant, sleep, timeout},
};

use super::{
    program::{Process, serving},
    records::{id, settled},
    vendor::{Play, ok},
    world::{Caller, Gateway, ID, World, request},
};

/// Far more than any deadline set here, far less than a vendor takes that never answers.
const SOON: Duration = Duration::from_secs(8);

/// An address that answers nothing to who connects to it: a queue that is full and that nobody takes from. With it what
/// keeps it so.
async fn black_hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let listener = socket.listen(1).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream.expect("queued"));
        assert!(queued.len() < 100, "the queue never fills");
    }
    (address, listener, queued)
}

#[tokio::test]
async fn an_address_that_swallows_everything_is_given_up_at_the_connect_timeout() {
    let (address, _listener, _queued) = black_hole().await;
    for scheme in ["http", "https"] {
        let settings = "upstream.connect_timeout = \"300ms\"\nupstream.retries = 1";
        let gateway = Gateway::start(&format!("{scheme}://{address}"), settings).await;
        let began = Instant::now();
        let answer = gateway.ask("GET", &format!("/calls/{ID}"), &[]).await;
        assert_eq!(answer.problem(), (502, "upstream_unreachable".into()), "{scheme}");
        assert!(began.elapsed() >= Duration::from_millis(600), "two tries");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        // The time for all is the shorter one.
        let settings = "upstream.connect_timeout = \"1m\"\nupstream.response_timeout = \"300ms\"";
        let gateway = Gateway::start(&format!("{scheme}://{address}"), settings).await;
        let began = Instant::now();
        let answer = gateway.ask("GET", &format!("/calls/{ID}"), &[]).await;
        assert_eq!(answer.problem(), (504, "upstream_timeout".into()), "{scheme}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_or_drips_is_given_up_at_the_connect_timeout() {
    for drips in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut heard = Vec::new();
            while drips && stream.write_all(&[22]).await.is_ok() {
                sleep(Duration::from_millis(20)).await;
                let _ = stream.try_read_buf(&mut heard);
            }
            let _ = stream.read_to_end(&mut heard).await;
            heard
        });
        let settings = "upstream.connect_timeout = \"300ms\"";
        let gateway = Gateway::start(&format!("https://localhost:{}", address.port()), settings).await;
        let began = Instant::now();
        let answer = gateway.ask("GET", &format!("/calls/{ID}"), &[]).await;
        assert_eq!(answer.problem(), (502, "upstream_unreachable".into()), "{drips}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let heard = heard.await.expect("no panic");
        crate::canary::search("a handshake", &heard);
        assert!(!heard.windows(4).any(|window| window == b"HTTP"), "{drips}");
    }
}

#[tokio::test]
async fn a_reset_in_the_head_or_after_it_is_an_answer_that_broke_off() {
    let full = ok(settled(ID));
    let head = full.len() - settled(ID).len();
    for (cut, used) in [0, 9, 30, head, head + 9].into_iter().flat_map(|cut| [(cut, false), (cut, true)]) {
        let (part, struck) = (full[..cut].to_vec(), AtomicBool::new(false));
        let settings = "lookup.failure_ttl = \"0s\"\nupstream.retries = 1";
        let world = World::with(settings, move |seen| match seen.id() {
            ID if !struck.swap(true, Relaxed) => Play::ThenReset(part.clone()),
            other => Play::Send(ok(settled(other))),
        })
        .await;
        let mut first = 1;
        if used {
            assert_eq!(world.call(&id(1)).await.status, 200);
            first += 1;
        }
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
        world.vendor.arrived(first).await;
        world.gateway.settle().await;
        world.vendor.release();
        let answer = caller.answer().await;
        if cut == 0 {
            // Nothing was received: once more, of its own where the connection was used before.
            assert_eq!((answer.status, answer.text()), (200, settled(ID)), "{used}");
        } else {
            assert_eq!(answer.problem(), (502, "upstream_incomplete".into()), "{cut} {used}");
            assert_eq!(world.vendor.requests(), first, "{cut} {used}: the vendor had the request");
        }
        assert_eq!(world.call(&id(2)).await.text(), settled(&id(2)));
        assert!(world.call(&id(2)).await.cache().starts_with("callgate; hit"));
    }
}

/// A process that sees another `/etc/resolv.conf`, where the system lets us have one: the names of its vendor are asked
/// for at `server`.
fn resolving_at(server: &str, dir: &std::path::Path) -> Option<Command> {
    let conf = dir.join("resolv.conf");
    fs::write(&conf, format!("nameserver {server}\n")).expect("written");
    let script = "mount --bind \"$1\" /etc/resolv.conf && exec \"$0\" serve";
    let allowed = geteuid().is_root()
        && Command::new("unshare")
            .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf"])
            .arg(&conf)
            .status()
            .is_ok_and(|status| status.success());
    if !allowed {
        println!("left out: no other /etc/resolv.conf may be mounted here");
        return None;
    }
    let usual = serving(([127, 0, 0, 1], 9).into());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_callgate")])
        .arg(&conf)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("TRILLET_API_BASE_URL", "https://vendor.example")
        .env("CALLGATE__UPSTREAM__CONNECT_TIMEOUT", "400ms")
        .env("CALLGATE__UPSTREAM__RETRIES", "0")
        .env("CALLGATE__LOOKUP__FAILURE_TTL", "0s")
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    Some(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_resolved_slowly_or_not_hold_nobody_past_the_connect_timeout() {
    let dir = tempfile::tempdir().expect("a directory");
    // One that never answers, on an address of its own so that nobody else's is taken.
    let server = format!("127.83.{}.7", std::process::id() % 250 + 1);
    let Ok(_silent) = UdpSocket::bind((server.as_str(), 53)) else {
        println!("left out: no name server may be had here");
        return;
    };
    let Some(command) = resolving_at(&server, dir.path()) else { return };
    let process = Process::start(command).await;
    let began = Instant::now();
    for n in 0..4 {
        let mut caller = Caller::connect(process.address).await;
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        assert_eq!(caller.answer().await.problem(), (502, "upstream_unreachable".into()));
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // Nobody waits at the end for the threads that still ask.
    let ending = Instant::now();
    process.signal(rustix::process::Signal::TERM);
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(ending.elapsed() < SOON, "{:?}", ending.elapsed());
}
