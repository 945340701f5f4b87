//! Twenty ends without warning, each under load: what callers got was right, what was kept is there again, and the vendor
//! was not asked more than it allows, though each start knows of the last minute only what is on disk.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    canary,
    disk::world::Disk,
    gateway::{
        records::{id, settled},
        vendor::{Play, ok},
        world::{request, within},
    },
    sandbox::world::parse,
};

const KILLS: usize = 20;

/// Fewer than the callers would have, so that it is met.
const BUDGET: usize = 100;

/// Calls that new ones are asked for in each round.
const NEW: usize = 12;

/// What a load has met.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answers: AtomicUsize,
    limited: AtomicUsize,
}

impl Load {
    /// Asks for calls of this round and of all before it until the gateway is gone.
    async fn ask(self: Arc<Self>, address: SocketAddr, round: usize, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        while !self.over.load(Relaxed) {
            let call = id(random.usize(..(round + 1) * NEW));
            // None where the gateway was killed under it.
            let Some((status, body)) = answer(address, &call).await else { return };
            match status {
                200 => assert_eq!(body, settled(&call).as_bytes()),
                429 => drop(self.limited.fetch_add(1, Relaxed)),
                _ => panic!("{status}: {}", String::from_utf8_lossy(&body)),
            }
            self.answers.fetch_add(1, Relaxed);
        }
    }
}

/// The answer to a lookup, if it came whole.
async fn answer(address: SocketAddr, call: &str) -> Option<(u16, Vec<u8>)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = request("GET", &format!("/calls/{call}"), &[("connection", "close")]);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        let whole = stream.read_to_end(&mut bytes).await;
        canary::search("an answer", &bytes);
        whole.ok().filter(|_| bytes.windows(4).any(|window| window == b"\r\n\r\n"))?;
        let reply = parse(&bytes);
        let length = reply.headers.get("content-length").map(|length| length.parse());
        (length == Some(Ok(reply.body.len()))).then_some((reply.status, reply.body))
    };
    timeout(Duration::from_secs(20), asked).await.expect("an answer or an end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing_show_nothing_wrong_and_overspend_nothing() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&asked);
    let disk = Disk::before(move |seen| {
        noting.lock().expect("sound").push(Instant::now());
        Play::Send(ok(settled(seen.id())))
    })
    .await;
    let (budget, mut known, mut limited) = (BUDGET.to_string(), 0, 0);
    let settings = [
        ("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", budget.as_str()),
        ("CALLGATE__BUDGET__QUEUE_TIMEOUT", "0s"),
        ("CALLGATE__LOOKUP__FAILURE_TTL", "0s"),
    ];
    for round in 0..KILLS {
        let mut gateway = disk.start_with(&disk.file(), &settings).await;
        let held = gateway.counts().await["entries"].expect("the tier is on");
        assert!(held >= known, "{held} of {known} that were on disk");
        let load = Arc::new(Load::default());
        let address = gateway.process.address;
        let seeds = (0..8).map(|n| (round * 8 + n) as u64);
        let callers: Vec<_> =
            seeds.map(|seed| tokio::spawn(Arc::clone(&load).ask(address, round, seed))).collect();
        // Another moment each time.
        within(async {
            while load.answers.load(Relaxed) < 100 + 7 * round {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        // Every other time only when something new is on disk, which is written within a second.
        within(async {
            while round % 2 == 0 && load.limited.load(Relaxed) == 0 {
                if gateway.counts().await["entries"].is_some_and(|entries| entries > held) {
                    break;
                }
            }
        })
        .await;
        known = gateway.counts().await["entries"].expect("the tier is on");
        gateway.kill();
        load.over.store(true, Relaxed);
        for caller in callers {
            caller.await.expect("every answer was right");
        }
        limited += load.limited.load(Relaxed);
        assert_eq!(disk.set_aside(), Vec::<std::path::PathBuf>::new());
    }
    let asked = asked.lock().expect("sound");
    let within_a_minute = |from: Instant| {
        asked.iter().filter(|at| **at >= from && **at < from + Duration::from_secs(60)).count()
    };
    let most = asked.iter().map(|at| within_a_minute(*at)).max();
    assert!(most.is_some_and(|most| most <= BUDGET && most > BUDGET / 2), "{most:?} in a minute");
    assert!(limited > 0 && known as usize >= NEW, "{limited} were turned away, {known} kept");
}
