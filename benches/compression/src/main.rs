//! What it would bring to keep records compressed, and what it would cost: see "Compression, weighed" in
//! ARCHITECTURE.md, which has the figures and what follows from them.
//!
//! `callgate sandbox --listen 127.0.0.1:8081 --calls 3000 --rate-limit 0 --latency 0ms`, and beside it
//! `cargo run --release --manifest-path benches/compression/Cargo.toml -- 127.0.0.1:8081`. For records of 2, 16 and 50 KB it prints how small they become, how many
//! more fit into a MiB of memory, and the CPU that is spent on compressing one when it is admitted, on decompressing one
//! for a caller that takes no encoding, and on one turn of a bare socket (a request read, an answer written) with the
//! record as it is and compressed: the least that a hit can cost.
//!
//! Twice: as the sandbox writes them, and with this repository's prose in the place of what is said in them. The
//! sandbox has two dozen phrases for all its calls, so its records shrink as no true ones would; people in a call
//! repeat themselves more than a README does. The truth lies between the two, nearer to the second.

use std::{
    error::Error,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bodies of records, in bytes, about.
const SIZES: [usize; 3] = [2_000, 16_000, 50_000];
/// Records of each size, so that none is compressed with its own bytes still at hand.
const RECORDS: usize = 24;
/// What an entry takes in memory beside its body, in bytes, about: measured with a million of them.
const OVERHEAD: usize = 1_000;
/// Each is measured so often; the median counts.
const ROUNDS: usize = 9;
/// Turns of a socket in one round.
const TURNS: usize = 2_000;
/// The heads that callers and the gateway write, in bytes, about.
const REQUEST: usize = 220;
const HEAD: usize = 430;

const PROSE: [&str; 3] = [
    include_str!("../../../README.md"),
    include_str!("../../../ARCHITECTURE.md"),
    include_str!("../../../SECURITY.md"),
];

#[derive(Clone, Copy)]
enum Codec {
    Gzip(u32),
    Zstd(i32),
}

const CODECS: [Codec; 4] = [Codec::Gzip(1), Codec::Gzip(6), Codec::Zstd(1), Codec::Zstd(3)];

impl Codec {
    fn name(self) -> String {
        match self {
            Self::Gzip(level) => format!("gzip -{level}"),
            Self::Zstd(level) => format!("zstd -{level}"),
        }
    }

    fn compress(self, body: &[u8]) -> Outcome<Vec<u8>> {
        match self {
            Self::Gzip(level) => {
                let mut encoder = GzEncoder::new(Vec::with_capacity(body.len()), Compression::new(level));
                encoder.write_all(body)?;
                Ok(encoder.finish()?)
            }
            Self::Zstd(level) => Ok(zstd::bulk::compress(body, level)?),
        }
    }

    /// `length` is that of the plain body, which an entry would know.
    fn decompress(self, body: &[u8], length: usize) -> Outcome<Vec<u8>> {
        match self {
            Self::Gzip(_) => {
                let mut plain = Vec::with_capacity(length);
                GzDecoder::new(body).read_to_end(&mut plain)?;
                Ok(plain)
            }
            Self::Zstd(_) => Ok(zstd::bulk::decompress(body, length)?),
        }
    }
}

fn main() -> Outcome<()> {
    let sandbox = std::env::args().nth(1).ok_or("usage: compression ADDRESS, of a callgate sandbox")?;
    let prose = sentences();
    println!(
        "  body words    codec     bytes ratio  entries/MiB  compress  decompress   turn, plain  turn, compr."
    );
    for size in SIZES {
        let written = records(&sandbox, size)?;
        let spoken = written.iter().enumerate().map(|(nth, body)| retold(body, &prose, nth * 61, size));
        let spoken = spoken.collect::<Outcome<Vec<_>>>()?;
        for (words, bodies) in [("sandbox", &written), ("prose", &spoken)] {
            let plain = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len();
            let turn = turn(plain)?;
            for codec in CODECS {
                let small = bodies.iter().map(|body| codec.compress(body)).collect::<Outcome<Vec<_>>>()?;
                let bytes = small.iter().map(Vec::len).sum::<usize>() / small.len();
                let compress = cost(|| bodies.iter().try_for_each(|body| codec.compress(body).map(drop)))?;
                let pairs = || small.iter().zip(bodies);
                if pairs()
                    .any(|(small, body)| codec.decompress(small, body.len()).ok().as_ref() != Some(body))
                {
                    return Err("what was compressed does not come back".into());
                }
                let decompress = cost(|| {
                    pairs().try_for_each(|(small, body)| codec.decompress(small, body.len()).map(drop))
                })?;
                println!(
                    "{plain:>6} {words:<8} {:<8} {bytes:>6} {:>5.1} {:>4} to {:>4} {:>6.0} us {:>8.1} us {:>10.1} us {:>10.1} us",
                    codec.name(),
                    plain as f64 / bytes as f64,
                    (1 << 20) / (plain + OVERHEAD),
                    (1 << 20) / (bytes + OVERHEAD),
                    micros(compress) / RECORDS as f64,
                    micros(decompress) / RECORDS as f64,
                    micros(turn),
                    micros(self::turn(bytes)?),
                );
            }
        }
    }
    Ok(())
}

/// The CPU time that this takes, the median of some rounds, after one that does not count.
fn cost(mut work: impl FnMut() -> Outcome<()>) -> Outcome<Duration> {
    work()?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = cpu();
        work()?;
        rounds.push(cpu().saturating_sub(began));
    }
    rounds.sort();
    Ok(rounds[ROUNDS / 2])
}

/// What the server's side of a connection over the loopback costs for each turn, with a body of as many bytes.
fn turn(body: usize) -> Outcome<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let caller = std::thread::spawn(move || -> Outcome<()> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let (request, mut answer) = ([b'x'; REQUEST], vec![0; HEAD + body]);
        for _ in 0..TURNS * (ROUNDS + 1) {
            socket.write_all(&request)?;
            socket.read_exact(&mut answer)?;
        }
        Ok(())
    });
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let (mut request, answer) = ([0; REQUEST], vec![b'x'; HEAD + body]);
    let all = cost(|| {
        for _ in 0..TURNS {
            socket.read_exact(&mut request)?;
            socket.write_all(&answer)?;
        }
        Ok(())
    })?;
    caller.join().map_err(|_| "the caller died")??;
    Ok(all / TURNS as u32)
}

/// What this thread has used so far.
fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or_default())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Settled records of about that size, as the sandbox sends them.
fn records(sandbox: &str, size: usize) -> Outcome<Vec<Vec<u8>>> {
    let mut bodies = Vec::with_capacity(RECORDS);
    for page in 1.. {
        let list = ask(sandbox, &format!("/v1/api/call-history?status=completed&limit=100&page={page}"))?;
        let calls: Vec<Value> = serde_json::from_slice(&list)?;
        if calls.is_empty() {
            break;
        }
        for id in calls.iter().filter_map(|call| call["_id"].as_str()) {
            let body = ask(sandbox, &format!("/v2/api/call-history/{id}"))?;
            if body.len().abs_diff(size) <= size / 6 {
                bodies.push(body);
            }
            if bodies.len() == RECORDS {
                return Ok(bodies);
            }
        }
    }
    Err("too few calls of that size: more with --calls".into())
}

/// The body of an answer of the sandbox's, with its own key and workspace.
fn ask(sandbox: &str, target: &str) -> Outcome<Vec<u8>> {
    let mut socket = TcpStream::connect(sandbox)?;
    let head = format!(
        "GET {target} HTTP/1.1\r\nhost: sandbox\r\nx-api-key: sandbox-key-0123456789abcdef\r\n\
         x-workspace-id: ws-sandbox\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no answer")?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err("the sandbox does not answer 200: is it one, without a rate limit?".into());
    }
    Ok(answer.split_off(end + 4))
}

/// The sentences of this repository's prose, one after the other.
fn sentences() -> Vec<String> {
    let words = PROSE.concat().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    words.chunks(14).map(|some| some.join(" ")).collect()
}

/// The same record with other words in its transcript, from some place in the prose on.
fn retold(body: &[u8], prose: &[String], from: usize, size: usize) -> Outcome<Vec<u8>> {
    let mut record: Value = serde_json::from_slice(body)?;
    let mut left = size.saturating_sub(1_000);
    let mut lines = Vec::new();
    for (nth, text) in prose.iter().cycle().skip(from).take(size / 40).enumerate() {
        let line = json!({
            "role": if nth % 2 == 0 { "agent" } else { "user" },
            "text": text,
            "time": (nth as f64 * 4_217.0).round() / 1e3,
        });
        left = left.saturating_sub(line.to_string().len() + 1);
        lines.push(line);
        if left == 0 {
            break;
        }
    }
    record["transcript"] = Value::Array(lines);
    Ok(serde_json::to_vec(&record)?)
}
