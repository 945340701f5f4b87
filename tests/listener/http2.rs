//! HTTP/2 by prior knowledge.

use http::Method;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge_where_it_is_asked_for() {
    let endpoint = Endpoint::start(Limits { http2: true, max_requests: 3, ..roomy() }).await;
    let io = TokioIo::new(endpoint.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("http/2");
    let connection = tokio::spawn(connection);
    for method in [Method::GET, Method::HEAD] {
        let request = Request::builder().method(&method).uri("http://localhost/").body(Empty::<Bytes>::new());
        let response = within(sender.send_request(request.expect("a request"))).await.expect("answered");
        assert_eq!(response.headers()["content-length"], "5");
        let body = within(response.into_body().collect()).await.expect("a body").to_bytes();
        assert_eq!(body, if method == Method::HEAD { "" } else { "hello" });
    }
    // Beside it HTTP/1.1, by whatever starts otherwise.
    assert_eq!(ask(&mut endpoint.connect().await, GET).await.1, b"hello");
    // The last one ends the connection, in order.
    let request = Request::builder().uri("http://localhost/large").body(Empty::<Bytes>::new());
    let response = within(sender.send_request(request.expect("a request"))).await.expect("answered");
    let body = within(response.into_body().collect()).await.expect("a body").to_bytes();
    assert_eq!(body.len(), LARGE);
    within(connection).await.expect("no panic").expect("ended in order");
}

#[tokio::test]
async fn http2_is_refused_where_it_is_not() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    within(stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).await.expect("sent");
    let _ = within(stream.read_to_end(&mut Vec::new())).await;
    while endpoint.open() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn http2_ends_when_it_is_silent_unused_or_takes_nothing() {
    let limits = Limits {
        http2: true,
        header_timeout: SHORT,
        idle_timeout: 2 * SHORT,
        write_timeout: SHORT,
        ..roomy()
    };
    let endpoint = Endpoint::start(limits).await;
    // The preface alone.
    let mut silent = endpoint.connect().await;
    within(silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")).await.expect("sent");
    let _ = within(silent.read_to_end(&mut Vec::new())).await;
    // A request, and then nothing.
    let io = TokioIo::new(endpoint.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("http/2");
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri("http://localhost/").body(Empty::<Bytes>::new());
    within(sender.send_request(request.expect("a request"))).await.expect("answered");
    within(connection).await.expect("no panic").expect("ended in order");
    // A large answer, and a window that never opens.
    let io = TokioIo::new(endpoint.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("http/2");
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri("http://localhost/large").body(Empty::<Bytes>::new());
    let response = within(sender.send_request(request.expect("a request"))).await.expect("answered");
    let _ = within(connection).await.expect("no panic");
    drop(response);
    while endpoint.open() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn draining_sends_goaway_and_lets_a_stream_finish() {
    let endpoint = Endpoint::start(Limits { http2: true, ..roomy() }).await;
    let io = TokioIo::new(endpoint.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("http/2");
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri("http://localhost/held").body(Empty::<Bytes>::new());
    let answer = tokio::spawn(sender.send_request(request.expect("a request")));
    within(endpoint.held.arrived.notified()).await;
    endpoint.stage.send_replace(Stage::Draining);
    // What GOAWAY does to a client: no further stream is begun.
    let another =
        || Request::builder().uri("http://localhost/").body(Empty::<Bytes>::new()).expect("a request");
    while within(sender.send_request(another())).await.is_ok() {}
    endpoint.held.released.notify_one();
    let response = within(answer).await.expect("no panic").expect("answered");
    assert!(!response.headers().contains_key("connection"), "HTTP/2 has no such field");
    let body = within(response.into_body().collect()).await.expect("a body").to_bytes();
    assert_eq!(body, "released");
    let _ = within(connection).await.expect("no panic");
    endpoint.ended().await;
}

#[tokio::test]
async fn frames_that_ask_for_nothing_do_not_keep_a_connection_open() {
    let endpoint = Endpoint::start(Limits { http2: true, header_timeout: 2 * SHORT, ..roomy() }).await;
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0callgate";
    let (mut read, mut write) = endpoint.connect().await.into_split();
    within(write.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat())).await.expect("sent");
    // Every one of them is answered, and the answers are taken.
    let taking = tokio::spawn(async move { while read.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {} });
    let flood = [SETTINGS, PING].concat().repeat(10);
    let sending = async {
        while write.write_all(&flood).await.is_ok() {
            tokio::time::sleep(SHORT / 30).await;
        }
    };
    within(sending).await;
    within(taking).await.expect("no panic");
    while endpoint.open() > 0 {
        tokio::task::yield_now().await;
    }
}
