//! Which endpoint a socket is for that was handed over, and whose its file is.

use std::{
    fs,
    net::TcpListener,
    os::unix::net::{UnixDatagram, UnixListener},
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::world::{handing, tcp};
use crate::gateway::{
    program::{Process, Running, run},
    records::settled,
    vendor::{Play, Vendor, ok},
    world::{Caller, ID, KEY, request, within},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_without_a_name_are_the_internal_and_then_the_admin_endpoint() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let ((internal, callers), (admin, operators)) = (tcp(), tcp());
    let mut command = handing(vendor.address, vec![internal.into(), admin.into()], None);
    // A credential as systemd gives it: readable by everybody, in a directory that nobody else enters.
    let credentials = tempfile::tempdir().expect("a folder");
    let key = credentials.path().join("api_key");
    fs::write(&key, format!("{KEY}\n")).expect("written");
    command
        .env_remove("TRILLET_API_KEY")
        .env("TRILLET_API_KEY_FILE", &key)
        .env("CREDENTIALS_DIRECTORY", credentials.path());
    let process = Process::start_as_is(command).await;
    assert_eq!((process.address, process.admin), (callers, operators));
    let mut caller = Caller::connect(callers).await;
    caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    assert_eq!(caller.answer().await.status, 200);
    assert_eq!(vendor.seen()[0].one("x-api-key"), KEY);
    let mut operator = Caller::connect(operators).await;
    operator.send(request("GET", "/readyz", &[])).await;
    assert_eq!(operator.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_a_socket_that_was_handed_over_stays_and_is_served_again() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gate.sock");
    let internal = UnixListener::bind(&path).expect("bound");
    for _ in 0..2 {
        let (admin, operators) = tcp();
        let internal = internal.try_clone().expect("another descriptor");
        let mut command =
            handing(vendor.address, vec![admin.into(), internal.into()], Some("admin:internal"));
        command.stderr(std::process::Stdio::null());
        let gateway = Running::start(command);
        let mut caller = within(UnixStream::connect(&path)).await.expect("connected");
        let asked = request("GET", &format!("/calls/{ID}"), &[("connection", "close")]);
        within(caller.write_all(asked.as_bytes())).await.expect("sent");
        let mut answer = String::new();
        within(caller.read_to_string(&mut answer)).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let mut operator = Caller::connect(operators).await;
        operator.send(request("GET", "/healthz", &[])).await;
        assert_eq!(operator.answer().await.status, 200);
        drop(operator);
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.ended().await.status.code(), Some(0));
        assert!(path.exists(), "it is the manager's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_no_endpoint_is_meant_to_have_is_refused_at_start() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let wild = TcpListener::bind(("0.0.0.0", 0)).expect("bound");
    let address = wild.local_addr().expect("an address");
    let datagrams = std::net::UdpSocket::bind(("127.0.0.1", 0)).expect("bound");
    let local_datagrams = UnixDatagram::unbound().expect("a socket");
    let (listening, at) = tcp();
    let connected = std::net::TcpStream::connect(at).expect("connected");
    let (one_end, _other_end) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let file = tempfile::tempfile().expect("a file");
    let no_stream = "callgate: LISTEN_FDS: socket 0 is no stream socket over TCP or Unix; ";
    let not_listening = "callgate: LISTEN_FDS: socket 0 does not listen: ";
    let beyond = format!("callgate: LISTEN_FDS: {address} is an address beyond the loopback; ");
    let table = [
        (tcp().0.into(), "callers", "callgate: LISTEN_FDNAMES: \"callers\" is no endpoint; expected "),
        (tcp().0.into(), "internal:admin", "callgate: LISTEN_FDNAMES: 2 names for 1 sockets"),
        (datagrams.into(), "internal", no_stream),
        (local_datagrams.into(), "internal", no_stream),
        (file.into(), "internal", no_stream),
        (connected.into(), "internal", not_listening),
        (one_end.into(), "admin", not_listening),
        (wild.into(), "internal", beyond.as_str()),
    ];
    for (socket, names, expected) in table {
        let outcome = run(handing(vendor.address, vec![socket], Some(names))).await;
        assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
        assert!(outcome.stderr.starts_with(expected), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    }
    drop(listening);
}
