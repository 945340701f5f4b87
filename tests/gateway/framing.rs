//! Where a request ends, by raw bytes: whoever says it in two ways, or in one that somebody else might read otherwise, is
//! refused, and what follows is never answered.

use super::{
    records::settled,
    vendor::{Play, ok},
    world::{ID, World, request},
};

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];

/// Fields that say that there is a body, or that make it doubtful.
const FRAMINGS: [&str; 35] = [
    "content-length: 5\r\n",
    "content-length: 5\r\ncontent-length: 5\r\n",
    "content-length: 5\r\ncontent-length: 6\r\n",
    "content-length: 0\r\ncontent-length: 5\r\n",
    "content-length: 5\r\ncontent-length: 0\r\n",
    "content-length: 0\r\ncontent-length: 0\r\n",
    "content-length: 5, 5\r\n",
    "content-length: 5 5\r\n",
    "content-length: +5\r\n",
    "content-length: -1\r\n",
    "content-length: 0x5\r\n",
    "content-length: 00\r\n",
    "content-length: 000000000000000000000005\r\n",
    "content-length: 5;a=b\r\n",
    "content-length: \"5\"\r\n",
    "content-length: \u{ff15}\r\n",
    "content-length: \r\n",
    "content-length: 18446744073709551616\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding:\tCHUNKED\t\r\n",
    "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    "content-length: 5\r\ntransfer-encoding: chunked\r\n",
    "content-length: 0\r\nx: y\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding: chunked, identity\r\n",
    "transfer-encoding: chunked, chunked\r\n",
    "transfer-encoding: chunked;q=1\r\n",
    "transfer-encoding: \"chunked\"\r\n",
    "transfer-encoding: ,chunked\r\n",
    "transfer-encoding:\r\n",
    "transfer-encoding: \u{b}chunked\r\n",
    "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n",
];

async fn world() -> World {
    World::start(|seen| Play::Send(ok(settled(seen.id())))).await
}

/// Sends this, and a request behind it: there is one answer, a 400, and then the connection is over.
async fn one_refusal(world: &World, bytes: &str) {
    let text = world.gateway.raw(format!("{bytes}{}", request("GET", &format!("/calls/{ID}"), &[]))).await;
    assert_eq!(text.matches("HTTP/1.").count(), 1, "{bytes:?}: {text}");
    let (version, rest) = text.split_once(' ').expect("a status line");
    assert!(version.starts_with("HTTP/1.") && rest.starts_with("400 Bad Request\r\n"), "{bytes:?}: {text}");
    assert!(text.contains("connection: close\r\n"), "{bytes:?}: {text}");
}

#[tokio::test]
async fn whatever_says_that_there_is_a_body_is_refused_by_every_method_hit_or_miss() {
    let world = world().await;
    for requests in 0..2 {
        for framing in FRAMINGS {
            for method in METHODS {
                let head = format!("{method} /calls/{ID} HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n");
                one_refusal(&world, &head).await;
            }
        }
        assert_eq!(world.vendor.requests(), requests);
        assert_eq!(world.call(ID).await.status, 200, "and it serves on");
    }
}

#[tokio::test]
async fn however_the_chunks_look_nothing_behind_them_is_answered() {
    let world = world().await;
    for chunks in [
        "0\r\n\r\n",
        "0\r\nx-api-key: theirs\r\nhost: elsewhere\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;ext=\"\r\n\r\n\"\r\nhello\r\n0\r\n\r\n",
        "5;\n\r\nhello\r\n0\r\n\r\n",
        "5;\rGET / HTTP/1.1\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "2\r\nhello\r\n0\r\n\r\n",
        "0;\r\n\r\n",
        "00000000000000000000\r\n\r\n",
        "\r\n0\r\n\r\n",
        "",
    ] {
        for method in ["GET", "POST"] {
            let head = format!(
                "{method} /calls/{ID} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            one_refusal(&world, &format!("{head}{chunks}")).await;
        }
    }
    assert_eq!(world.vendor.connections(), 0);
}

#[tokio::test]
async fn an_old_version_changes_nothing_about_that() {
    let world = world().await;
    for framing in FRAMINGS {
        for more in ["", "connection: keep-alive\r\nhost: localhost\r\n"] {
            one_refusal(&world, &format!("GET /calls/{ID} HTTP/1.0\r\n{more}{framing}\r\n")).await;
        }
    }
    assert_eq!(world.vendor.connections(), 0);
}

#[tokio::test]
async fn nobody_is_asked_to_continue_with_a_body_that_is_refused() {
    let world = world().await;
    for framing in ["content-length: 5\r\n", "transfer-encoding: chunked\r\n"] {
        let head =
            format!("POST /calls/{ID} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n{framing}\r\n");
        one_refusal(&world, &head).await;
    }
    assert_eq!(world.vendor.connections(), 0);
}

#[tokio::test]
async fn no_upgrade_is_made_and_what_is_behind_one_is_read_as_http1() {
    let world = world().await;
    let upgrades = [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "upgrade: tls/1.2\r\n",
    ];
    for upgrade in upgrades {
        let first = format!("GET /calls/{ID} HTTP/1.1\r\nhost: localhost\r\n{upgrade}\r\n");
        let refused = request("GET", "/calls/no.id", &[("connection", "close")]);
        let text = world.gateway.raw(format!("{first}{refused}")).await;
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("HTTP/1.1 400 "),
            "{upgrade}: {text}"
        );
        assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{upgrade}: {text}");
        let preface = world.gateway.raw(format!("{first}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).await;
        assert!(preface.starts_with("HTTP/1.1 200 OK\r\n"), "{preface}");
        assert!(!preface.contains(" 101 ") && preface.matches("HTTP/1.1 ").count() <= 2, "{preface}");
    }
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_length_that_fits_but_is_reserved_by_the_parser_is_refused_in_its_words() {
    let world = world().await;
    for length in [u64::MAX, u64::MAX - 1] {
        let head = format!("GET /calls/{ID} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        let text = world.gateway.raw(format!("{head}{}", request("GET", "/calls/a", &[]))).await;
        assert!(text.starts_with("HTTP/1.1 431 ") && text.matches("HTTP/1.").count() == 1, "{text}");
    }
    assert_eq!(world.vendor.connections(), 0);
}
