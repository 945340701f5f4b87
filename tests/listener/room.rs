//! Who leaves when an endpoint is full and one more comes.

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// Well below every timeout of `roomy`.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn answered_at_once(endpoint: &Endpoint) -> TcpStream {
    let mut probe = endpoint.connect().await;
    let (_, body) = timeout(AT_ONCE, ask(&mut probe, GET)).await.expect("room was made at once");
    assert_eq!(body, b"hello");
    probe
}

/// Opens a connection, and waits until it has been accepted as the `nth`.
async fn accepted(endpoint: &Endpoint, nth: usize) -> TcpStream {
    let stream = endpoint.connect().await;
    within(async {
        while endpoint.open() < nth {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stream
}

/// Whether the other side has closed, without waiting for it.
fn is_closed(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Ok(0))
}

#[tokio::test]
async fn connections_that_do_nothing_keep_nobody_out() {
    for http2 in [false, true] {
        for used in [false, true] {
            let endpoint = Endpoint::start(Limits { http2, ..roomy() }).await;
            let mut idle = Vec::new();
            for _ in 0..100 {
                let mut stream = endpoint.connect().await;
                if used {
                    assert_eq!(timeout(AT_ONCE, ask(&mut stream, GET)).await.expect("at once").1, b"hello");
                }
                idle.push(stream);
            }
            for _ in 0..3 {
                answered_at_once(&endpoint).await;
            }
            assert!(endpoint.open() <= 64);
        }
    }
}

#[tokio::test]
async fn the_connection_that_has_been_unused_longest_leaves_first() {
    let endpoint = Endpoint::start(Limits { max_connections: 3, ..roomy() }).await;
    let mut used_again = endpoint.connect().await;
    assert_eq!(ask(&mut used_again, GET).await.1, b"hello");
    let mut silent = accepted(&endpoint, 2).await;
    let mut used_once = endpoint.connect().await;
    assert_eq!(ask(&mut used_once, GET).await.1, b"hello");
    assert_eq!(ask(&mut used_again, GET).await.1, b"hello");
    let first = answered_at_once(&endpoint).await;
    assert_eq!(rest(&mut silent).await, "");
    assert!(!is_closed(&used_once) && !is_closed(&used_again));
    let second = answered_at_once(&endpoint).await;
    assert_eq!(rest(&mut used_once).await, "");
    assert!(!is_closed(&used_again) && !is_closed(&first) && !is_closed(&second));
}

#[tokio::test]
async fn a_connection_with_a_request_under_way_is_never_closed_for_another() {
    for http2 in [false, true] {
        let endpoint = Endpoint::start(Limits { max_connections: 4, http2, ..roomy() }).await;
        let mut held = endpoint.connect().await;
        held.write_all(GET_HELD).await.expect("sent");
        within(endpoint.held.arrived.notified()).await;
        let mut half = accepted(&endpoint, 2).await;
        half.write_all(&GET[..20]).await.expect("sent");
        let mut reading = endpoint.connect().await;
        reading.write_all(GET_LARGE).await.expect("sent");
        assert!(head(&mut reading).await.contains("200 OK"));
        // The fourth place changes hands.
        for _ in 0..8 {
            answered_at_once(&endpoint).await;
        }
        endpoint.held.released.notify_one();
        assert_eq!(answer(&mut held).await.1, b"released");
        assert_eq!(ask(&mut half, &GET[20..]).await.1, b"hello");
        within(reading.read_exact(&mut vec![0; LARGE])).await.expect("all of it");
    }
}

#[tokio::test]
async fn who_waits_is_let_in_as_soon_as_one_of_the_busy_has_its_answer() {
    let (endpoint, mut busy, mut waiting) = full().await;
    endpoint.held.released.notify_one();
    assert_eq!(answer(&mut busy).await.1, b"released");
    assert_eq!(timeout(AT_ONCE, answer(&mut waiting)).await.expect("at once").1, b"hello");
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn an_unused_http2_connection_is_told_by_goaway() {
    let endpoint = Endpoint::start(Limits { max_connections: 1, http2: true, ..roomy() }).await;
    let io = TokioIo::new(endpoint.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("http/2");
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri("http://localhost/").body(Empty::<Bytes>::new());
    let response = within(sender.send_request(request.expect("a request"))).await.expect("answered");
    assert_eq!(within(response.into_body().collect()).await.expect("a body").to_bytes(), "hello");
    answered_at_once(&endpoint).await;
    within(connection).await.expect("no panic").expect("ended in order");
}

#[tokio::test]
async fn who_waits_for_room_as_draining_begins_is_answered_when_there_is_some() {
    let (endpoint, mut busy, mut waiting) = full().await;
    endpoint.stage.send_replace(Stage::Draining);
    endpoint.held.released.notify_one();
    assert_eq!(answer(&mut busy).await.1, b"released");
    let (head, body) = answer(&mut waiting).await;
    assert_eq!(body, b"hello");
    assert!(head.contains("connection: close\r\n"), "{head}");
    endpoint.ended().await;
}
