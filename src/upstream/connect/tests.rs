//! What a connection knows of the requests that go over it, whenever it is told that their answers were read.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 204 No\r\n\r\n";

/// A connection to a vendor, that vendor's end of it, and what is known of it.
async fn connected() -> (Stream, TcpStream, Line) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let ours = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
    let (theirs, _) = listener.accept().await.expect("accepted");
    let stream = Stream::new(MaybeHttpsStream::Http(TokioIo::new(ours)), 1, Lines::default());
    let line = stream.entry.0.clone();
    (stream, theirs, line)
}

/// A request and its answer, of which the line is not told yet.
async fn exchange(stream: &mut Stream, theirs: &mut TcpStream) {
    stream.write_all(REQUEST).await.expect("sent");
    theirs.read_exact(&mut [0; REQUEST.len()]).await.expect("received");
    theirs.write_all(ANSWER).await.expect("sent");
    stream.read_exact(&mut [0; ANSWER.len()]).await.expect("received");
}

/// Waits until there is something to read, or the other end is gone.
async fn arrival(stream: &Stream) {
    let MaybeHttpsStream::Http(tcp) = stream.io.inner() else { panic!("plain") };
    tcp.inner().readable().await.expect("a socket");
}

#[tokio::test]
async fn an_unasked_answer_is_found_though_nobody_has_said_yet_that_the_last_one_was_read() {
    let (mut stream, mut theirs, line) = connected().await;
    exchange(&mut stream, &mut theirs).await;
    theirs.write_all(ANSWER).await.expect("sent");
    arrival(&stream).await;
    let refused = stream.write_all(REQUEST).await.expect_err("taken for its answer");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    assert!(line.is_reused() && !line.has_received());
}

#[tokio::test]
async fn a_request_that_nobody_answered_has_received_nothing_whatever_came_before_it() {
    let (mut stream, mut theirs, line) = connected().await;
    assert!(!line.is_reused() && !line.has_received());
    exchange(&mut stream, &mut theirs).await;
    assert!(line.has_received() && !line.is_reused());
    stream.write_all(REQUEST).await.expect("sent");
    assert!(line.is_reused() && !line.has_received());
    // What is said late of the first answer changes nothing of that.
    line.answered();
    assert!(line.is_reused() && !line.has_received());
    theirs.read_exact(&mut [0; REQUEST.len()]).await.expect("received");
    theirs.write_all(&ANSWER[..9]).await.expect("sent");
    stream.read_exact(&mut [0; 9]).await.expect("received");
    assert!(line.has_received(), "the answer has begun");
}

#[tokio::test]
async fn a_request_that_is_written_in_parts_is_one() {
    let (mut stream, mut theirs, line) = connected().await;
    for part in REQUEST.chunks(5) {
        stream.write_all(part).await.expect("sent");
        stream.flush().await.expect("sent");
    }
    theirs.read_exact(&mut [0; REQUEST.len()]).await.expect("received");
    assert!(!line.is_reused());
    theirs.write_all(ANSWER).await.expect("sent");
    stream.read_exact(&mut [0; ANSWER.len()]).await.expect("received");
    assert!(line.has_received());
}

#[tokio::test]
async fn what_comes_before_the_first_request_is_an_answer_that_nobody_asked_for() {
    let (mut stream, mut theirs, _) = connected().await;
    theirs.write_all(ANSWER).await.expect("sent");
    arrival(&stream).await;
    assert_eq!(stream.write_all(REQUEST).await.expect_err("taken").kind(), io::ErrorKind::InvalidData);
    let (mut stream, theirs, line) = connected().await;
    drop(theirs);
    arrival(&stream).await;
    assert_eq!(stream.write_all(REQUEST).await.expect_err("gone").kind(), io::ErrorKind::ConnectionReset);
    assert!(!line.is_reused());
}
