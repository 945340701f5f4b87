//! What is posted: a burst of it arrives whole and in order, and nothing waits for the answer to what was before.

use std::net::SocketAddr;

use callgate::replicas::{Link, Script};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    redis::{Redis, available},
    world::{AMPLE, open, run, together, within},
};

/// Appends a number to a list; the rest is ballast.
const APPEND: Script = Script::new("return redis.call('RPUSH', KEYS[1], ARGV[1])");

/// Where the list is, by its bare name.
const LIST: &str = "callgate:1:test:list:";

fn append(link: &Link, number: usize, ballast: usize) {
    link.post(APPEND, vec![link.name("list", b"")], vec![number.to_string().into_bytes(), vec![0; ballast]]);
}

/// As `LRANGE` shows the numbers from 0 on.
fn numbers(many: usize) -> String {
    (0..many).map(|number| number.to_string()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_burst_of_ten_thousand_arrives_whole_and_in_order() {
    const BURST: usize = 10_000;
    if !available() {
        return;
    }
    let redis = Redis::start();
    let link = open(&redis.url(), AMPLE).await;
    together(&link).await;
    for number in 0..BURST {
        append(&link, number, 2_000);
    }
    // Questions are answered in between.
    let list = [link.name("list", b"")];
    let length = || run(&link, "return redis.call('LLEN', KEYS[1])", &list, &[]);
    within(async {
        loop {
            let length = length().await.expect("an answer, however much is posted");
            if length == [BURST.to_string().as_bytes()] {
                break;
            }
        }
    })
    .await;
    assert_eq!(redis.command(&["LRANGE", LIST, "0", "-1"]), numbers(BURST));
}

#[tokio::test]
async fn nothing_that_is_posted_waits_for_the_answer_to_what_was_before() {
    const SOME: usize = 20;
    if !available() {
        return;
    }
    let redis = Redis::start();
    let (url, answers) = held_back(&redis).await;
    let link = open(&url, AMPLE).await;
    together(&link).await;
    answers.send_replace(false);
    for number in 0..SOME {
        append(&link, number, 0);
    }
    within(async {
        while redis.command(&["LLEN", LIST]) != SOME.to_string() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    answers.send_replace(true);
    link.leave().await;
    assert_eq!(redis.command(&["LRANGE", LIST, "0", "-1"]), numbers(SOME));
}

/// A way to this Redis on which answers are held back while the switch says so.
async fn held_back(redis: &Redis) -> (String, watch::Sender<bool>) {
    let there: SocketAddr = redis.url()["redis://".len()..].parse().expect("an address");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("an address"));
    let answers = watch::Sender::new(true);
    let switch = answers.subscribe();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(pass(near, there, switch.clone()));
        }
    });
    (url, answers)
}

async fn pass(near: TcpStream, there: SocketAddr, mut answers: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(there).await else { return };
    let ((mut asked, mut told), (mut answered, mut asks)) = (near.into_split(), far.into_split());
    let back = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = answered.read(&mut buffer).await {
            if answers.wait_for(|pass| *pass).await.is_err()
                || told.write_all(&buffer[..length]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        _ = copy(&mut asked, &mut asks) => {}
        () = back => {}
    }
}
