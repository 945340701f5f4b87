//! Connections to the vendor: kept, lost, refused, silent; and hits, whatever becomes of them.

use tokio::{
    net::TcpSocket,
    time::{Duration, Instant, sleep},
};

use super::{
    records::{id, settled},
    rotation::{key_file, put},
    vendor::{Play, answer, ok},
    world::{Gateway, ID, World, request},
};

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let world = World::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    for n in 0..5 {
        assert_eq!(world.call(&id(n)).await.status, 200);
    }
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (5, 1));
}

#[tokio::test]
async fn a_pooled_connection_that_the_vendor_closes_under_us_costs_one_more_try() {
    // The second request of a connection is met by its end.
    let world = World::start(|seen| match seen.number {
        2 => Play::ThenClose(Vec::new()),
        _ => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    assert_eq!(world.call(&id(1)).await.status, 200);
    let answer = world.call(&id(2)).await;
    assert_eq!((answer.status, answer.text()), (200, settled(&id(2))));
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (3, 2));
    let metrics = world.gateway.metrics().await;
    assert!(metrics.contains("callgate_upstream_retries_total 1"), "{metrics}");
    // Both tries were the same request.
    let seen = world.vendor.seen();
    assert_eq!(seen[1].one("x-request-id"), seen[2].one("x-request-id"));
}

#[tokio::test]
async fn a_connection_that_the_vendor_closed_long_since_is_not_used() {
    let world = World::start(|seen| Play::ThenClose(ok(settled(seen.id())))).await;
    for n in 1..=4 {
        assert_eq!(world.call(&id(n)).await.status, 200);
        world.vendor.closed(n).await;
        world.gateway.settle().await;
    }
    assert_eq!((world.vendor.requests(), world.vendor.connections()), (4, 4));
}

#[tokio::test]
async fn a_new_connection_that_ends_without_an_answer_is_not_tried_again_for_nothing() {
    let world = World::start(|_| Play::ThenClose(Vec::new())).await;
    assert_eq!(world.call(ID).await.problem(), (502, "upstream_incomplete".into()));
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_vendor_that_is_not_there_is_unreachable() {
    // Bound, so that nobody else gets the port, and not listening.
    let deaf = TcpSocket::new_v4().expect("a socket");
    deaf.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let nobody = deaf.local_addr().expect("an address");
    for origin in [format!("http://{nobody}"), "https://vendor.invalid".into(), format!("https://{nobody}")] {
        let gateway = Gateway::start(&origin, "").await;
        let answer = gateway.ask("GET", &format!("/calls/{ID}"), &[]).await;
        assert_eq!(answer.problem(), (502, "upstream_unreachable".into()), "{origin}");
        assert!(!answer.text().contains("refused"), "the cause is for the log");
    }
}

#[tokio::test]
async fn a_vendor_that_says_nothing_is_given_up_in_time_and_hits_go_on() {
    let world = World::with("upstream.response_timeout = \"400ms\"", |seen| match seen.id() {
        ID => Play::Send(ok(settled(ID))),
        _ => Play::ThenNothing(Vec::new()),
    })
    .await;
    assert_eq!(world.call(ID).await.status, 200);
    let began = Instant::now();
    let mut stuck = world.gateway.connect().await;
    stuck.send(request("GET", &format!("/calls/{}", id(1)), &[])).await;
    world.vendor.arrived(2).await;
    for _ in 0..20 {
        assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
    }
    let answer = stuck.answer().await;
    assert_eq!(answer.problem(), (504, "upstream_timeout".into()));
    assert!((400..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    // What hung is not used again.
    world.vendor.closed(1).await;
}

#[tokio::test]
async fn a_vendor_that_drips_is_bounded_as_a_whole() {
    let pause = Duration::from_millis(30);
    let body = settled(ID);
    let full = ok(&body);
    let (head, drops) = full.split_at(full.len() - body.len());
    let (head, drops) = (head.to_vec(), drops.to_vec());
    for in_head in [false, true] {
        let (head, drops) = match in_head {
            true => (Vec::new(), [head.clone(), drops.clone()].concat()),
            false => (head.clone(), drops.clone()),
        };
        let world = World::with("upstream.response_timeout = \"300ms\"", move |_| {
            Play::Drip(head.clone(), drops.clone(), pause)
        })
        .await;
        let began = Instant::now();
        assert_eq!(world.call(ID).await.problem(), (504, "upstream_timeout".into()));
        assert!(began.elapsed() < Duration::from_secs(5));
        world.vendor.closed(1).await;
    }
}

#[tokio::test]
async fn a_slow_answer_within_the_time_is_an_answer() {
    let body = settled(ID);
    let full = ok(&body);
    let (most, last) = full.split_at(full.len() - 3);
    let (most, last) = (most.to_vec(), last.to_vec());
    let world =
        World::start(move |_| Play::Drip(most.clone(), last.clone(), Duration::from_millis(20))).await;
    assert_eq!(world.call(ID).await.text(), body);
}

#[tokio::test]
async fn a_401_reads_the_key_file_again_and_tries_once_more_if_it_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "canary-before-rotation\n");
    let settings = format!("lookup.failure_ttl = \"0s\"\n{}", key_file(&path));
    let world = World::with(&settings, |seen| match seen.one("x-api-key").as_str() {
        "canary-after-rotation" => Play::Send(ok(settled(seen.id()))),
        _ if seen.id() == id(2) => Play::Held(answer("401 Unauthorized", "", "{}")),
        _ => Play::Send(answer("401 Unauthorized", "", "{}")),
    })
    .await;
    let refused = (502, "upstream_credentials_rejected".to_owned());
    assert_eq!(world.call(ID).await.problem(), refused);
    assert_eq!(world.vendor.requests(), 1, "nothing had changed");
    let mut caller = world.gateway.connect().await;
    caller.send(request("GET", &format!("/calls/{}", id(2)), &[])).await;
    world.vendor.arrived(2).await;
    put(&path, "canary-after-rotation\r\n");
    world.vendor.release();
    assert_eq!(caller.answer().await.status, 200);
    assert_eq!(world.vendor.requests(), 3);
    assert_eq!(world.call(&id(1)).await.status, 200);
    assert_eq!(world.vendor.requests(), 4, "the new key is the key from now on");
}

#[tokio::test]
async fn a_403_is_not_tried_again_whatever_the_file_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "canary-before-rotation");
    let world = World::with(&key_file(&path), |_| Play::Held(answer("403 Forbidden", "", "{}"))).await;
    let mut caller = world.gateway.connect().await;
    caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    world.vendor.arrived(1).await;
    put(&path, "canary-after-rotation");
    world.vendor.release();
    assert_eq!(caller.answer().await.problem().1, "upstream_credentials_rejected");
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_pooled_connection_is_let_go_when_it_is_unused() {
    let world = World::with("upstream.idle_timeout = \"60ms\"", |s| Play::Send(ok(settled(s.id())))).await;
    assert_eq!(world.call(&id(1)).await.status, 200);
    sleep(Duration::from_millis(90)).await;
    assert_eq!(world.call(&id(2)).await.status, 200);
    assert_eq!(world.vendor.connections(), 2);
}
