//! How many connections there may be, and how they end.

use std::io;

use tokio::net::UnixStream;

use super::*;

#[tokio::test]
async fn the_connection_beyond_the_limit_waits_while_the_others_are_busy() {
    let (_endpoint, busy, mut waiting) = full().await;
    drop(busy);
    assert_eq!(answer(&mut waiting).await.1, b"hello");
}

#[tokio::test]
async fn several_sockets_share_one_limit_and_the_peer_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gate.sock");
    let tcp = Listener::bind(&BindAddress::Tcp(([127, 0, 0, 1], 0).into()), 0o600).await.expect("bound");
    let LocalAddress::Tcp(address) = *tcp.local_address() else { panic!("tcp") };
    let unix = Listener::bind(&BindAddress::Unix(path.clone()), 0o600).await.expect("bound");
    let endpoint = Endpoint::serve(vec![tcp, unix], address, Limits { max_connections: 1, ..roomy() });
    let mut local = within(UnixStream::connect(&path)).await.expect("connected");
    assert_eq!(ask(&mut local, GET).await.1, b"hello");
    let mut remote = endpoint.connect().await;
    assert_eq!(ask(&mut remote, GET).await.1, b"hello");
    let from = Peer::Tcp(remote.local_addr().expect("an address"));
    assert_eq!(*endpoint.held.peers.lock().expect("sound"), [Peer::Unix, from]);
    assert_eq!(rest(&mut local).await, "");
    drop(remote);
    endpoint.stage.send_replace(Stage::Draining);
    endpoint.ended().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn draining_ends_idle_connections_soon_and_lets_the_others_finish() {
    for http2 in [false, true] {
        let endpoint = Endpoint::start(Limits { http2, ..roomy() }).await;
        let mut silent = endpoint.connect().await;
        let mut idle = endpoint.connect().await;
        assert_eq!(ask(&mut idle, GET).await.1, b"hello");
        let mut busy = endpoint.connect().await;
        busy.write_all(GET_HELD).await.expect("sent");
        within(endpoint.held.arrived.notified()).await;
        // So that all three have been accepted, in this order.
        assert_eq!(endpoint.open(), 3);
        endpoint.stage.send_replace(Stage::Draining);
        assert_eq!(rest(&mut silent).await, "");
        assert_eq!(rest(&mut idle).await, "");
        assert!(TcpStream::connect(endpoint.address).await.is_err(), "still listening");
        assert!(!endpoint.served.is_finished());
        endpoint.held.released.notify_one();
        let (head, body) = answer(&mut busy).await;
        assert_eq!(body, b"released");
        assert!(head.contains("connection: close\r\n"), "{head}");
        endpoint.ended().await;
    }
}

#[tokio::test]
async fn a_request_that_comes_as_draining_begins_is_answered_and_told_to_close() {
    for http2 in [false, true] {
        let endpoint = Endpoint::start(Limits { http2, ..roomy() }).await;
        let mut silent = endpoint.connect().await;
        let mut idle = endpoint.connect().await;
        assert_eq!(ask(&mut idle, GET).await.1, b"hello");
        assert_eq!(endpoint.open(), 2);
        // Both come before the connections' tasks have run again.
        endpoint.stage.send_replace(Stage::Draining);
        for stream in [&mut idle, &mut silent] {
            let (head, body) = ask(stream, GET).await;
            assert_eq!(body, b"hello");
            assert!(head.contains("connection: close\r\n"), "{head}");
            assert_eq!(within(stream.read(&mut [0])).await.expect("closed in order"), 0);
        }
        endpoint.ended().await;
    }
}

#[tokio::test]
async fn what_is_still_open_at_the_last_stage_is_cut() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut busy = endpoint.connect().await;
    busy.write_all(GET_HELD).await.expect("sent");
    within(endpoint.held.arrived.notified()).await;
    endpoint.stage.send_replace(Stage::Draining);
    endpoint.stage.send_replace(Stage::Cut);
    within(endpoint.held.dropped.notified()).await;
    let error = within(busy.read_u8()).await.expect_err("cut");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    endpoint.ended().await;
}
