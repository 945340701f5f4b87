//! Where the body of `POST /warm` ends, by raw bytes: one reading, one answer, and nothing is read after it.

use serde_json::json;

use super::{
    records::settled,
    vendor::{Play, ok},
    world::{Caller, ID, World, request},
};

/// What becomes of a request.
enum Outcome {
    /// The list is warmed.
    Warmed,
    /// The gateway's own refusal.
    Refused,
    /// The HTTP parser's.
    Bare,
}

#[tokio::test]
async fn however_a_body_says_where_it_ends_there_is_one_answer_and_the_connection_ends() {
    use Outcome::{Bare, Refused, Warmed};
    let world = World::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let body = json!({ "ids": [ID] }).to_string();
    let length = body.len();
    let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let inner = request("GET", "/healthz", &[]);
    let whole = chunks.len() + inner.len();
    let table = [
        (format!("content-length: {length}\r\n"), &body, Warmed),
        ("transfer-encoding: chunked\r\n".to_owned(), &chunks, Warmed),
        // Both, wherever they stand: hyper would read the chunks and not tell of the length.
        (format!("content-length: {whole}\r\ntransfer-encoding: chunked\r\n"), &chunks, Bare),
        (format!("transfer-encoding: chunked\r\ncontent-length: {whole}\r\n"), &chunks, Bare),
        ("content-length: 3\r\ntransfer-encoding: chunked\r\n".to_owned(), &chunks, Bare),
        ("content-length: 0\r\ntransfer-encoding: chunked\r\n".to_owned(), &chunks, Bare),
        ("transfer-encoding: chunked\r\ncontent-length: 0\r\n".to_owned(), &chunks, Bare),
        (format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), &body, Bare),
        // Equal lengths would be one.
        (format!("content-length: {length}\r\ncontent-length: {length}\r\n"), &body, Bare),
        (format!("content-length: {length}\r\ncontent-length: {whole}\r\n"), &body, Bare),
        (format!("content-length: {length}, {length}\r\n"), &body, Bare),
        (format!("content-length: +{length}\r\n"), &body, Bare),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n".to_owned(), &chunks, Refused),
        ("transfer-encoding: gzip, chunked\r\n".to_owned(), &chunks, Refused),
        ("transfer-encoding: identity\r\n".to_owned(), &body, Bare),
        (format!("content-length: {length}\r\ntransfer-encoding: identity\r\n"), &body, Bare),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(), &chunks, Bare),
    ];
    for (fields, body, outcome) in table {
        let mut caller = Caller::connect(world.gateway.admin).await;
        caller.send(format!("POST /warm HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n{body}{inner}")).await;
        // To the connection's end.
        let text = caller.rest().await;
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{fields}: {text}");
        match outcome {
            Warmed => {
                assert!(
                    text.starts_with("HTTP/1.1 200 ") && text.contains("connection: close\r\n"),
                    "{text}"
                );
                assert!(text.contains(r#""ended":"complete","done":1,"total":1"#), "{fields}: {text}");
            }
            Refused => {
                assert!(
                    text.starts_with("HTTP/1.1 400 ") && text.contains("connection: close\r\n"),
                    "{text}"
                );
                assert!(text.contains("urn:callgate:problem:invalid_request"), "{fields}: {text}");
            }
            Bare => {
                assert!(text.starts_with("HTTP/1.1 400 ") && text.ends_with("\r\n\r\n"), "{fields}: {text}")
            }
        }
    }
    assert_eq!(world.vendor.requests(), 1);
}
