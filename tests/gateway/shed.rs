//! More than can be served: what is kept goes on being answered, and the rest hears at once.

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, timeout},
};

use super::{
    records::{id, settled},
    vendor::{Play, answer, ok},
    world::{Caller, ID, World, request, within},
};

/// Well below every time that anybody could be made to wait here.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A gateway with one request under way at a time, which the vendor holds, and with a queue of this length. The call with
/// [`ID`] is kept.
async fn with_queue(length: usize) -> (World, Caller) {
    let settings = format!(
        "upstream.max_concurrency = 1\nupstream.response_timeout = \"1h\"\nbudget.queue_timeout = \"1h\"\n\
         budget.queue_length = {length}"
    );
    let world = World::with(&settings, |seen| match seen.id() {
        ID => Play::Send(ok(settled(ID))),
        other => Play::Held(ok(settled(other))),
    })
    .await;
    assert_eq!(world.call(ID).await.status, 200);
    let mut held = world.gateway.connect().await;
    held.send(request("GET", "/calls/held", &[])).await;
    world.vendor.arrived(2).await;
    (world, held)
}

/// So many callers, each of a call of its own, who have all been heard.
async fn queued(world: &World, callers: usize) -> Vec<Caller> {
    let mut all = Vec::with_capacity(callers);
    for n in 0..callers {
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        all.push(caller);
    }
    waiting(world, callers).await;
    all
}

/// Waits until so many lookups are in the queue.
async fn waiting(world: &World, lookups: usize) {
    let is_so = async {
        loop {
            let metrics = world.gateway.metrics().await;
            let line = metrics.lines().find(|line| line.starts_with("callgate_budget_waiting{"));
            if line.expect("such a metric").ends_with(&format!("}} {lookups}")) {
                return;
            }
        }
    };
    within(is_so).await;
}

#[tokio::test]
async fn misses_are_shed_at_once_and_hits_go_on_while_the_queue_is_full() {
    let (world, mut held) = with_queue(5).await;
    let patient = queued(&world, 5).await;
    let began = Instant::now();
    for n in 100..300 {
        let shed = world.call(&id(n)).await;
        assert_eq!(shed.problem(), (503, "overloaded".into()));
        assert!(shed.number("retry-after") >= 1);
        assert_eq!(shed.cache(), "callgate; fwd=uri-miss; detail=overloaded");
        let hit = world.call(ID).await;
        assert!(hit.status == 200 && hit.cache().starts_with("callgate; hit"), "{hit:?}");
    }
    assert!(began.elapsed() < 10 * AT_ONCE, "400 answers took {:?}", began.elapsed());
    assert_eq!(world.vendor.requests(), 2, "nothing was sent for any of them");
    world.vendor.release();
    assert_eq!(held.answer().await.status, 200);
    for mut caller in patient {
        assert_eq!(caller.answer().await.status, 200);
    }
}

#[tokio::test]
async fn three_hundred_cold_lookups_that_are_left_give_their_places_up() {
    const CALLERS: usize = 300;
    let (world, mut held) = with_queue(CALLERS).await;
    for _ in 0..2 {
        let all = queued(&world, CALLERS).await;
        assert_eq!(world.call("one-more").await.problem(), (503, "overloaded".into()));
        drop(all);
        waiting(&world, 0).await;
    }
    world.gateway.left(2 * CALLERS).await;
    let mut late = world.gateway.connect().await;
    late.send(request("GET", "/calls/late", &[])).await;
    waiting(&world, 1).await;
    world.vendor.release();
    for caller in [&mut held, &mut late] {
        assert_eq!(caller.answer().await.status, 200);
    }
    assert_eq!(world.vendor.requests(), 3, "the kept, the held and the late one");
}

#[tokio::test]
async fn ten_thousand_who_wait_for_one_call_are_one_request() {
    const CONNECTIONS: usize = 80;
    const STREAMS: usize = 125;
    let settings = "listen.http2 = true\nupstream.response_timeout = \"1h\"";
    let world = World::with(settings, |seen| Play::Held(ok(settled(seen.id())))).await;
    let mut answers = Vec::with_capacity(CONNECTIONS * STREAMS);
    for _ in 0..CONNECTIONS {
        let stream = TokioIo::new(TcpStream::connect(world.gateway.address).await.expect("connected"));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("http/2");
        tokio::spawn(connection);
        for _ in 0..STREAMS {
            let uri = format!("http://localhost/calls/{ID}");
            let request = Request::builder().uri(uri).body(Empty::<bytes::Bytes>::new()).expect("a request");
            answers.push(tokio::spawn(sender.send_request(request)));
        }
    }
    world.vendor.arrived(1).await;
    // A hit of the operators' is answered meanwhile, and what was sent before it has been read.
    world.gateway.settle().await;
    world.vendor.release();
    let mut collapsed = 0;
    for answer in answers {
        // Ten thousand are worth some patience with a machine that has other work.
        let response = timeout(Duration::from_secs(180), answer).await.expect("in time");
        let response = response.expect("no panic").expect("answered");
        assert_eq!(response.status(), 200);
        let cache = response.headers()["cache-status"].to_str().expect("text").to_owned();
        collapsed += usize::from(cache.ends_with("; collapsed"));
        let body = within(response.into_body().collect()).await.expect("a body").to_bytes();
        assert_eq!(body, settled(ID));
    }
    assert!(collapsed > 5_000, "{collapsed} waited");
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn a_scan_of_unknown_ids_costs_the_budget_and_no_more_and_hits_go_on() {
    let settings = "budget.requests_per_minute = 12\nbudget.reserve = 0";
    let world = World::with(settings, |seen| match seen.id() {
        ID => Play::Send(ok(settled(ID))),
        _ => Play::Send(answer("404 Not Found", "", "{}")),
    })
    .await;
    world.call(ID).await;
    let mut scanner = world.gateway.connect().await;
    let (mut unknown, mut limited) = (0, 0);
    let began = Instant::now();
    for n in 0..500 {
        scanner.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        let told = scanner.answer().await;
        match told.status {
            404 => unknown += 1,
            429 => {
                assert!(told.number("retry-after") >= 1);
                limited += 1;
            }
            other => panic!("{other}"),
        }
        if n % 10 == 0 {
            assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
        }
    }
    assert_eq!((unknown, limited), (11, 489));
    assert!(began.elapsed() < 10 * AT_ONCE, "each was told at once, in {:?}", began.elapsed());
    assert_eq!(world.vendor.requests(), 12);
}
