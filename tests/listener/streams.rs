//! Answers that come as they are made: they take as long as they take, and end with either side.

use std::io;

use super::*;

const GET_STREAM: &[u8] = b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Asks for a stream; where its pieces go in.
async fn begin(endpoint: &Endpoint, stream: &mut TcpStream) -> mpsc::Sender<Bytes> {
    within(stream.write_all(GET_STREAM)).await.expect("sent");
    within(endpoint.held.arrived.notified()).await;
    let pieces = endpoint.held.pieces.lock().expect("sound").take();
    assert!(head(stream).await.contains("transfer-encoding: chunked\r\n"));
    pieces.expect("a stream")
}

/// Reads what must come next.
async fn comes(stream: &mut TcpStream, expected: &str) {
    let mut piece = vec![0; expected.len()];
    within(stream.read_exact(&mut piece)).await.expect("a piece");
    assert_eq!(String::from_utf8(piece).expect("text"), expected);
}

#[tokio::test]
async fn every_piece_goes_out_as_it_is_made_however_long_the_next_one_takes() {
    let limits = Limits { header_timeout: SHORT, idle_timeout: SHORT, write_timeout: SHORT, ..roomy() };
    let endpoint = Endpoint::start(limits).await;
    let mut stream = endpoint.connect().await;
    let pieces = begin(&endpoint, &mut stream).await;
    for piece in ["one\n", "two\n"] {
        tokio::time::sleep(3 * SHORT).await;
        pieces.send(Bytes::from_static(piece.as_bytes())).await.expect("taken");
        comes(&mut stream, &format!("4\r\n{piece}\r\n")).await;
    }
    drop(pieces);
    comes(&mut stream, "0\r\n\r\n").await;
    // And the connection serves on.
    assert_eq!(ask(&mut stream, GET).await.1, b"hello");
}

#[tokio::test]
async fn draining_waits_for_the_last_piece_and_the_cut_does_not() {
    for cut in [false, true] {
        let endpoint = Endpoint::start(roomy()).await;
        let mut stream = endpoint.connect().await;
        let pieces = begin(&endpoint, &mut stream).await;
        endpoint.stage.send_replace(Stage::Draining);
        pieces.send(Bytes::from_static(b"one\n")).await.expect("taken");
        comes(&mut stream, "4\r\none\n\r\n").await;
        assert!(!endpoint.served.is_finished());
        if cut {
            endpoint.stage.send_replace(Stage::Cut);
            within(pieces.closed()).await;
            let error = within(stream.read_u8()).await.expect_err("cut");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        } else {
            drop(pieces);
            assert_eq!(rest(&mut stream).await, "0\r\n\r\n");
        }
        endpoint.ended().await;
    }
}

#[tokio::test]
async fn whoever_makes_a_stream_learns_that_its_reader_left() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    let pieces = begin(&endpoint, &mut stream).await;
    drop(stream);
    within(pieces.closed()).await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_of_a_stream_is_cut() {
    let endpoint = Endpoint::start(Limits { write_timeout: SHORT, ..roomy() }).await;
    let mut stream = endpoint.connect().await;
    let pieces = begin(&endpoint, &mut stream).await;
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    // More and more of it, until the other side is full and stays so.
    within(async { while pieces.send(piece.clone()).await.is_ok() {} }).await;
    while endpoint.open() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_answer_to_head_streams_nothing() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    let request = b"HEAD /stream HTTP/1.1\r\nhost: localhost\r\n\r\n";
    within(stream.write_all(request)).await.expect("sent");
    within(endpoint.held.arrived.notified()).await;
    let pieces = endpoint.held.pieces.lock().expect("sound").take().expect("a stream");
    within(pieces.closed()).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(ask(&mut stream, GET).await.1, b"hello");
}
