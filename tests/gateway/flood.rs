//! The program itself under callers who mean harm: connections without end, descriptors that run out, garbage, ids
//! without end. It lives, goes on answering what is kept, and neither its memory nor its log grows with them.
//!
//! Seconds stand here for minutes, and tens of thousands of ids for a million; what is measured is a level, which does
//! not depend on how long they go on.

use std::{fs, process::Command};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, Instant, timeout},
};

use super::{
    program::{Process, serving},
    records::{id, record, settled},
    vendor::{Play, Vendor, ok},
    world::{Answer, Caller, ID, request, within},
};

/// Longer than an answer takes on a busy machine, and well below every timeout that might end what is in its way.
const SOON: Duration = Duration::from_secs(5);

async fn ask(process: &Process, target: &str) -> Answer {
    let asked = async {
        let mut caller = Caller::connect(process.address).await;
        caller.send(request("GET", target, &[])).await;
        caller.answer().await
    };
    timeout(SOON, asked).await.expect("soon")
}

async fn metric(process: &Process, series: &str) -> f64 {
    let mut caller = Caller::connect(process.admin).await;
    caller.send(request("GET", "/metrics", &[])).await;
    let text = caller.answer().await.text();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// What a process has in memory, in bytes.
fn resident(process: Pid) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().expect("a number") << 10
}

/// Whether this process may have so many descriptors open.
fn has_descriptors(wanted: u64) -> bool {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("no more than there may be");
    let enough = maximum.is_none_or(|maximum| maximum >= wanted);
    if !enough {
        eprintln!("this takes {wanted} descriptors, which there may not be");
    }
    enough
}

/// A vendor that has every call.
async fn vendor() -> Vendor {
    Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await
}

/// The lines of requests, and how many more were left out, when it has ended well.
async fn logged(process: Process) -> (Vec<Value>, u64) {
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success() && !log.contains("panicked"), "{log}");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
    let lines = lines.filter(|line| line["target"] == "callgate::access");
    let (told, lines): (Vec<_>, Vec<_>) = lines.partition(|line| line["left_out"].is_u64());
    (lines, told.iter().filter_map(|line| line["left_out"].as_u64()).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_keep_nobody_out() {
    const CONNECTIONS: usize = 2_000;
    if !has_descriptors(2 * CONNECTIONS as u64) {
        return;
    }
    // All of them find a place, or only a few.
    const ROOM: &str = "4096";
    for most in [ROOM, "200"] {
        let vendor = vendor().await;
        let mut command = serving(vendor.address);
        command.env("CALLGATE__LISTEN__MAX_CONNECTIONS", most).env("CALLGATE__LISTEN__HEADER_TIMEOUT", "2s");
        let process = Process::start(command).await;
        ask(&process, &format!("/calls/{ID}")).await;
        let before = resident(process.pid());
        let mut held = Vec::with_capacity(CONNECTIONS);
        for n in 0..CONNECTIONS {
            let connected = timeout(SOON, TcpStream::connect(process.address)).await;
            let mut stream = connected.expect("soon").expect("connected");
            // Who was let in before may have had to leave by now; half a head keeps its place while it has time.
            let _ = match n % 3 {
                1 if most == ROOM => stream.write_all(b"GET /calls/a HTTP/1.1\r\nho").await,
                2 => stream.write_all(request("GET", "/calls/no.id", &[]).as_bytes()).await,
                _ => Ok(()),
            };
            held.push(stream);
        }
        for _ in 0..10 {
            let hit = ask(&process, &format!("/calls/{ID}")).await;
            assert!(hit.cache().starts_with("callgate; hit"), "{most}: {hit:?}");
        }
        assert_eq!(ask(&process, "/calls/cold").await.status, 200);
        let open = metric(&process, "callgate_connections").await;
        assert!(open <= most.parse().expect("a number"), "{open} of {most}");
        let grown = resident(process.pid()).saturating_sub(before);
        assert!(grown < CONNECTIONS * 64 * 1024, "{grown} bytes for {CONNECTIONS} connections");
        drop(held);
        assert_eq!(vendor.requests(), 2);
        logged(process).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_sixty_four_descriptors_callers_cannot_take_the_vendors() {
    let vendor = vendor().await;
    let as_is = serving(vendor.address);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" serve"]).arg(as_is.get_program()).env_clear();
    command.envs(as_is.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("CALLGATE__LISTEN__HEADER_TIMEOUT", "1s").stdin(std::process::Stdio::null());
    command.stderr(std::process::Stdio::piped());
    let process = Process::start(command).await;
    assert!(process.said().contains("the limit of open files is too low"), "{}", process.said());
    let mut held = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(process.address).await.expect("connected, if only by the kernel");
        if n % 2 == 0 {
            let _ = stream.write_all(b"GET /calls/a HTTP/1.1\r\nho").await;
        }
        held.push(stream);
    }
    // Half heads have their time, and then there is room.
    let began = Instant::now();
    for n in 0..20 {
        let asked = async {
            let mut caller = Caller::connect(process.address).await;
            caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
            caller.answer().await
        };
        let fresh = within(asked).await;
        assert_eq!((fresh.status, fresh.text()), (200, settled(&id(n))), "after {:?}", began.elapsed());
    }
    assert_eq!(ask(&process, &format!("/calls/{}", id(1))).await.status, 200);
    assert_eq!(metric(&process, "callgate_upstream_in_flight").await, 0.0);
    logged(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refused_requests_is_counted_in_full_and_logged_in_part() {
    const REFUSED: u64 = 5_000;
    let vendor = vendor().await;
    let process = Process::start(serving(vendor.address)).await;
    let began = Instant::now();
    let mut caller = Caller::connect(process.address).await;
    for n in 0..REFUSED {
        let target = if n % 2 == 0 { "/calls/no.id" } else { "/nowhere" };
        caller.send(request("GET", target, &[])).await;
        assert!(caller.answer().await.status >= 400);
    }
    // What was answered has its line all the same.
    for n in 0..30 {
        assert_eq!(ask(&process, &format!("/calls/{}", id(n))).await.status, 200);
    }
    let seconds = began.elapsed().as_secs() + 1;
    let counted = metric(&process, "callgate_requests_total{route=\"lookup\",cache=\"none\",code=\"400\"}")
        .await
        + metric(&process, "callgate_requests_total{route=\"other\",cache=\"none\",code=\"404\"}").await;
    assert_eq!(counted, REFUSED as f64);
    let (lines, left_out) = logged(process).await;
    let (answered, refused): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["status"] == 200);
    assert_eq!(answered.len(), 30);
    assert!(!refused.is_empty() && refused.len() as u64 <= 20 * seconds, "{} in {seconds} s", refused.len());
    assert_eq!(refused.len() as u64 + left_out, REFUSED, "every one is told of");
}

/// Numbers that look random, the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A request with some bytes changed, bytes alone, or a frame of something else.
    fn garbage(&mut self) -> Vec<u8> {
        let size = 1 + self.next() % 600;
        let raw = |noise: &mut Self, size: u64| (0..size).map(|_| noise.next().to_le_bytes()[2]).collect();
        match self.next() % 4 {
            0 => raw(self, size),
            1 => [b"\x16\x03\x01".to_vec(), raw(self, size)].concat(),
            2 => [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), raw(self, size)].concat(),
            _ => {
                // No few changes make an id of this.
                let mut bytes =
                    request("GET", "/calls/......", &[("x", "y"), ("content-length", "0")]).into_bytes();
                for _ in 0..1 + self.next() % 6 {
                    let at = self.next() as usize % bytes.len();
                    bytes[at] = self.next().to_le_bytes()[3];
                }
                bytes
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_changes_nothing_for_others() {
    const FOR: Duration = Duration::from_secs(4);
    for http2 in ["false", "true"] {
        let vendor = vendor().await;
        let mut command = serving(vendor.address);
        command.env("CALLGATE__LISTEN__HTTP2", http2);
        let process = Process::start(command).await;
        ask(&process, &format!("/calls/{ID}")).await;
        let before = resident(process.pid());
        let (address, end) = (process.address, Instant::now() + FOR);
        let throwers: Vec<_> = (1..=4)
            .map(|seed| {
                tokio::spawn(async move {
                    let mut noise = Noise(0x9e37_79b9_7f4a_7c15_u64.rotate_left(seed));
                    while Instant::now() < end {
                        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
                        let _ = stream.write_all(&noise.garbage()).await;
                        let _ = stream.shutdown().await;
                        let _ = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
                    }
                })
            })
            .collect();
        let mut hits = 0;
        while Instant::now() < end {
            assert!(ask(&process, &format!("/calls/{ID}")).await.cache().starts_with("callgate; hit"));
            hits += 1;
        }
        for thrower in throwers {
            within(thrower).await.expect("no panic");
        }
        assert!(hits > 20, "{hits}");
        assert_eq!(vendor.requests(), 1, "nobody was asked for any of it");
        let grown = resident(process.pid()).saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes");
        let (lines, _) = logged(process).await;
        let refused = lines.iter().filter(|line| line["cache"] != "hit").count();
        assert!(refused as u64 <= 20 * (FOR.as_secs() + 2), "{refused} lines");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_without_end_fill_the_cache_and_no_more() {
    const IDS: usize = 4_000;
    const CAPACITY: usize = 8 << 20;
    const CALLERS: usize = 8;
    let vendor = Vendor::start(|seen| {
        let more = format!(r#","endTime":1680000300,"transcript":"{}""#, "x".repeat(8_000));
        Play::Send(ok(record(seen.id(), "completed", &more)))
    })
    .await;
    let mut command = serving(vendor.address);
    command.env("CALLGATE__CACHE__CAPACITY", "8MiB").env("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "1000000");
    let process = Process::start(command).await;
    let before = resident(process.pid());
    let address = process.address;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            tokio::spawn(async move {
                let mut stream = Caller::connect(address).await;
                for n in (caller..IDS).step_by(CALLERS) {
                    stream.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
                    assert_eq!(stream.answer().await.status, 200);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    assert_eq!(vendor.requests(), IDS, "four times what there is room for");
    let kept = metric(&process, "callgate_cache_bytes{tier=\"memory\"}").await;
    assert!(kept > 0.8 * CAPACITY as f64 && kept <= CAPACITY as f64, "{kept}");
    // What is kept, a fifth for what lies around it, and what the program takes to be at work at all.
    let grown = resident(process.pid()).saturating_sub(before);
    assert!(grown < CAPACITY / 5 * 6 + (12 << 20), "{grown} bytes for {kept}");
    logged(process).await;
}
