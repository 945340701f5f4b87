//! Heads of which hyper would tell but a part: what it cuts, merges or drops is refused before anybody is asked.

use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// Heads that say more than hyper tells, whole.
const UNTOLD: [&str; 7] = [
    "GET /#part HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "GET /# HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "GET /?search=a#b HTTP/1.0\r\n\r\n",
    "GET http://localhost/#part HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
];

fn asked(endpoint: &Endpoint) -> usize {
    endpoint.held.peers.lock().expect("sound").len()
}

#[tokio::test]
async fn a_head_of_which_a_part_would_be_lost_is_refused_and_ends_the_connection() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut answered = 0;
    for head in UNTOLD {
        for before in [0, 1, 3] {
            let mut stream = endpoint.connect().await;
            let all = [GET.repeat(before).as_slice(), head.as_bytes(), GET].concat();
            within(stream.write_all(&all)).await.expect("sent");
            let text = rest(&mut stream).await;
            answered += before;
            assert_eq!(text.matches("HTTP/1.").count(), before + 1, "{head}: {text}");
            assert_eq!(text.matches("hello").count(), before, "{head}: {text}");
            let refused = text.rsplit("HTTP/1.").next().expect("an answer");
            assert!(refused[2..].starts_with("400 Bad Request\r\n"), "{head}: {text}");
            assert!(refused.contains("connection: close\r\n") && refused.ends_with("\r\n\r\n"), "{text}");
        }
    }
    assert_eq!(asked(&endpoint), answered, "only what was told whole");
}

#[tokio::test]
async fn it_is_refused_in_however_many_pieces_it_comes() {
    let endpoint = Endpoint::start(roomy()).await;
    for head in UNTOLD {
        let mut stream = endpoint.connect().await;
        stream.set_nodelay(true).expect("a socket");
        for piece in head.as_bytes().chunks(3) {
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let text = rest(&mut stream).await;
        assert!(text.starts_with("HTTP/1.") && text[8..].starts_with(" 400 "), "{head}: {text}");
        assert_eq!(text.matches("HTTP/1.").count(), 1, "{head}: {text}");
    }
    assert_eq!(asked(&endpoint), 0);
}

#[tokio::test]
async fn what_only_looks_like_it_is_answered() {
    let endpoint = Endpoint::start(roomy()).await;
    let mut stream = endpoint.connect().await;
    for head in [
        "GE#T / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: a#b\r\n#: c\r\n\r\n",
        "GET /%23part HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nx-content-length: 0\r\n\r\n",
        "GET / HTTP/1.1\nhost: localhost\ncontent-length: 0\n\n",
    ] {
        assert_eq!(ask(&mut stream, head.as_bytes()).await.1, b"hello", "{head}");
    }
}

#[tokio::test]
async fn the_frames_of_http2_are_not_taken_for_heads() {
    let endpoint = Endpoint::start(Limits { http2: true, ..roomy() }).await;
    let io = TokioIo::new(endpoint.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("http/2");
    let connection = tokio::spawn(connection);
    for n in 0..20 {
        // Never the same, so that it is sent each time; longer in Huffman's code, so that it is sent as it is.
        let value = format!("\\#\\ # {n}");
        let request = Request::builder().uri("http://localhost/").header("x", value);
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        assert_eq!(within(sender.send_request(request)).await.expect("answered").status(), 200);
    }
    drop(sender);
    within(connection).await.expect("no panic").expect("ended in order");
}
