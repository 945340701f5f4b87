//! Requests and answers on the wire: in order, in full, and not destroyed by what follows them.

use super::*;

#[tokio::test]
async fn the_last_request_of_a_connection_is_told_so() {
    let endpoint = Endpoint::start(Limits { max_requests: 2, ..roomy() }).await;
    let mut stream = endpoint.connect().await;
    assert!(!ask(&mut stream, GET).await.0.contains("connection: close"));
    // The third is sent, but too late.
    let (head, body) = ask(&mut stream, &[GET, GET].concat()).await;
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert_eq!(body, b"hello");
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_half_a_one_holds_nothing_back() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    stream.write_all(&[GET, GET_HELD, GET, &GET[..20]].concat()).await.expect("sent");
    assert_eq!(answer(&mut stream).await.1, b"hello");
    endpoint.held.released.notify_one();
    assert_eq!(answer(&mut stream).await.1, b"released");
    assert_eq!(answer(&mut stream).await.1, b"hello");
    assert_eq!(ask(&mut stream, &GET[20..]).await.1, b"hello");
}

#[tokio::test]
async fn the_answer_to_head_has_a_length_and_no_body() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    stream.write_all(b"HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let head = head(&mut stream).await;
    assert!(head.contains("content-length: 5\r\n"), "{head}");
    assert_eq!(ask(&mut stream, GET).await.1, b"hello");
}

#[tokio::test]
async fn a_refused_body_does_not_destroy_its_refusal() {
    let endpoint = Endpoint::start(roomy()).await;
    for (size, delay) in [(10, SHORT), (1 << 20, Duration::ZERO), (3 << 20, SHORT / 5), (24 << 20, SHORT)] {
        let mut stream = endpoint.connect().await;
        let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        tokio::time::sleep(delay).await;
        within(stream.write_all(&vec![b'b'; size])).await.expect("taken, if only to be thrown away");
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("refused"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_refused_body_has_the_time_that_it_takes_and_a_drip_has_not() {
    let endpoint = Endpoint::start(roomy()).await;
    let head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999\r\n\r\n";
    let mut slow = endpoint.connect().await;
    slow.write_all(head).await.expect("sent");
    let piece = vec![b'b'; 2 << 20];
    for _ in 0..8 {
        tokio::time::sleep(2 * SHORT).await;
        within(slow.write_all(&piece)).await.expect("taken, if only to be thrown away");
    }
    assert!(within(answer(&mut slow)).await.0.starts_with("HTTP/1.1 400 "));
    let mut drip = endpoint.connect().await;
    drip.write_all(head).await.expect("sent");
    let dripping = async {
        while drip.write_all(b"b").await.is_ok() {
            tokio::time::sleep(SHORT / 3).await;
        }
    };
    within(dripping).await;
}

#[tokio::test]
async fn a_caller_that_sends_on_without_end_is_cut() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999\r\n\r\n")
        .await
        .expect("sent");
    let piece = vec![b'b'; 64 << 10];
    within(async { while stream.write_all(&piece).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_head_beyond_the_parser_s_limit_gets_a_bare_431() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    within(stream.write_all(head.as_bytes())).await.expect("sent");
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_before_something_unreadable_is_not_lost() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    let (_, body) = ask(&mut stream, &[GET, b"\x16\x03\x01 nonsense\r\n\r\n"].concat()).await;
    assert_eq!(body, b"hello");
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 400 "));
}
