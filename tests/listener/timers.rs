//! What ends a connection that takes its time, and what does not.

use std::io;

use tokio::{net::TcpSocket, time::Instant};

use super::*;

#[tokio::test]
async fn a_silent_connection_is_closed_at_the_header_timeout() {
    let endpoint = Endpoint::start(Limits { header_timeout: SHORT, ..roomy() }).await;
    let before = Instant::now();
    let mut stream = endpoint.connect().await;
    assert_eq!(rest(&mut stream).await, "");
    assert!(before.elapsed() >= SHORT);
}

#[tokio::test]
async fn half_a_head_is_closed_at_the_header_timeout_first_or_not() {
    let endpoint = Endpoint::start(Limits { header_timeout: SHORT, ..roomy() }).await;
    let mut first = endpoint.connect().await;
    first.write_all(&GET[..20]).await.expect("sent");
    assert_eq!(rest(&mut first).await, "");
    let mut second = endpoint.connect().await;
    assert_eq!(ask(&mut second, GET).await.1, b"hello");
    second.write_all(&GET[..20]).await.expect("sent");
    assert_eq!(rest(&mut second).await, "");
}

#[tokio::test]
async fn a_head_that_drips_is_closed_as_well() {
    let endpoint = Endpoint::start(Limits { header_timeout: SHORT, ..roomy() }).await;
    let (mut read, mut write) = endpoint.connect().await.into_split();
    let drip = tokio::spawn(async move {
        let mut byte = b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'a'));
        while write.write_all(&[*byte.next().expect("endless")]).await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let before = Instant::now();
    // In order or by a reset, as the last drop was quicker or not, and without a word.
    let mut answer = Vec::new();
    let _ = within(read.read_to_end(&mut answer)).await;
    assert!(answer.is_empty());
    assert!(before.elapsed() >= SHORT);
    within(drip).await.expect("no panic");
}

#[tokio::test]
async fn an_unused_connection_is_closed_at_the_idle_timeout_and_not_before() {
    let endpoint =
        Endpoint::start(Limits { header_timeout: SHORT, idle_timeout: 8 * SHORT, ..roomy() }).await;
    let mut stream = endpoint.connect().await;
    for _ in 0..2 {
        assert_eq!(ask(&mut stream, GET).await.1, b"hello");
        // Longer than the header timeout, which does not count here.
        tokio::time::sleep(2 * SHORT).await;
    }
    let before = Instant::now();
    assert_eq!(ask(&mut stream, GET).await.1, b"hello");
    assert_eq!(rest(&mut stream).await, "");
    assert!(before.elapsed() >= 8 * SHORT);
}

#[tokio::test]
async fn a_handler_may_take_longer_than_every_timeout() {
    let limits = Limits { header_timeout: SHORT, idle_timeout: SHORT, write_timeout: SHORT, ..roomy() };
    let endpoint = Endpoint::start(limits).await;
    let mut stream = endpoint.connect().await;
    stream.write_all(GET_HELD).await.expect("sent");
    within(endpoint.held.arrived.notified()).await;
    tokio::time::sleep(4 * SHORT).await;
    endpoint.held.released.notify_one();
    assert_eq!(answer(&mut stream).await.1, b"released");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_and_one_that_takes_little_is_not() {
    let endpoint = Endpoint::start(Limits { write_timeout: 5 * SHORT, ..roomy() }).await;
    let mut stalled = endpoint.connect().await;
    stalled.write_all(GET_LARGE).await.expect("sent");
    let mut slow = endpoint.connect().await;
    slow.write_all(GET_LARGE).await.expect("sent");
    assert!(head(&mut slow).await.contains("content-length: 33554432\r\n"));
    let mut taken = 0;
    let mut piece = vec![0; LARGE / 16];
    while taken < LARGE {
        tokio::time::sleep(SHORT / 2).await;
        let size = piece.len().min(LARGE - taken);
        taken += within(slow.read_exact(&mut piece[..size])).await.expect("taken slowly");
    }
    // The other one has been cut meanwhile, and the connections of others go on.
    while endpoint.open() > 1 {
        tokio::time::sleep(SHORT / 10).await;
    }
    assert_eq!(ask(&mut slow, GET).await.1, b"hello");
    let cut = within(stalled.read_to_end(&mut Vec::new())).await;
    assert_eq!(cut.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_caller_that_asks_on_and_on_and_reads_nothing_is_cut() {
    let endpoint =
        Endpoint::start(Limits { write_timeout: 5 * SHORT, max_requests: 1 << 30, ..roomy() }).await;
    let mut stream = endpoint.connect().await;
    let many = GET.repeat(1_000);
    within(async { while stream.write_all(&many).await.is_ok() {} }).await;
    while endpoint.open() > 0 {
        tokio::time::sleep(SHORT / 10).await;
    }
    assert_eq!(ask(&mut endpoint.connect().await, GET).await.1, b"hello");
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_what_it_asked_for() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    stream.write_all(GET_HELD).await.expect("sent");
    within(endpoint.held.arrived.notified()).await;
    drop(stream);
    within(endpoint.held.dropped.notified()).await;
}

#[tokio::test]
async fn a_reader_with_a_tiny_window_gets_all_of_it() {
    let endpoint = Endpoint::start(roomy()).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let mut stream = within(socket.connect(endpoint.address)).await.expect("connected");
    assert_eq!(ask(&mut stream, GET_LARGE).await.1.len(), LARGE);
    assert_eq!(ask(&mut stream, GET).await.1, b"hello");
}
