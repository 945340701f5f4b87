//! The callers of `benches/compare` that wrk cannot play: a crowd that asks for one call at the same moment, one that
//! keeps its connections open and unused, and one that walks over very many ids.
//!
//! - `crowd stampede ADDRESS ID CALLERS`: all connect, then all ask. Prints the number answered 200, and p50 and
//!   maximum in milliseconds.
//! - `crowd idle ADDRESS ID CONNECTIONS`: each asks once and stays. Prints `open`, and ends when its input does.
//! - `crowd walk ADDRESS CONNECTIONS LOOKUPS IDS [FIRST]`: asks for ids at random out of so many, or for each once where
//!   there are as many lookups. Prints the number answered 200, and p50, p99 and maximum in microseconds.
//! - `crowd repeat ADDRESS ID LOOKUPS [ETAG]`: asks for one call over one connection, one lookup after the other, with
//!   `if-none-match` where there is an entity tag. Prints the number answered 200, or 304 where there is one, and the
//!   last entity tag.
//! - `crowd herd ADDRESS CALLERS ROUNDS`: all ask for one cold call at the same moment, and for the next one when all
//!   have their answer. Prints the number answered 200.
//! - `crowd first ADDRESS ID`: asks for one call until it is answered 200, for a minute at the most. Prints the time of
//!   day at which it was, in microseconds.
//!
//! An address is `HOST:PORT`. What is measured is the time from the first byte sent to the last one read, at a caller
//! that does nothing else.

use std::{
    error::Error,
    io::{self, Read as _, Write as _},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
    sync::Barrier,
    time::{Instant, sleep},
};

/// Where calls are looked up.
const CALLS: &str = "/v2/api/call-history/";

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match arguments.as_slice() {
        ["stampede", address, id, callers] => runtime.block_on(stampede(address, id, callers.parse()?)),
        ["idle", address, id, connections] => runtime.block_on(idle(address, id, connections.parse()?)),
        ["walk", address, connections, lookups, ids] => {
            runtime.block_on(walk(address, connections.parse()?, lookups.parse()?, ids.parse()?, 0))
        }
        ["walk", address, connections, lookups, ids, first] => runtime.block_on(walk(
            address,
            connections.parse()?,
            lookups.parse()?,
            ids.parse()?,
            first.parse()?,
        )),
        ["repeat", address, id, lookups] => runtime.block_on(repeat(address, id, lookups.parse()?, None)),
        ["repeat", address, id, lookups, etag] => {
            runtime.block_on(repeat(address, id, lookups.parse()?, Some(etag)))
        }
        ["herd", address, callers, rounds] => {
            runtime.block_on(herd(address, callers.parse()?, rounds.parse()?))
        }
        ["first", address, id] => runtime.block_on(first(address, id)),
        _ => Err(
            "usage: crowd stampede|idle|walk|repeat|herd|first ADDRESS …; the head of the source says more"
                .into(),
        ),
    }
}

/// One caller with a connection of its own.
struct Caller(SendRequest<Empty<Bytes>>);

impl Caller {
    async fn connect(address: &str) -> Outcome<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Asks for a call, and how long it took.
    async fn ask(&mut self, address: &str, id: &str) -> Outcome<(StatusCode, Duration)> {
        let request = Request::get(format!("{CALLS}{id}")).header(header::HOST, address).body(Empty::new())?;
        // Who closes a connection that it was to keep open fails here.
        self.0.ready().await?;
        let asked = Instant::now();
        let response = self.0.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok((status, asked.elapsed()))
    }
}

async fn stampede(address: &str, id: &str, callers: usize) -> Outcome<()> {
    let barrier = Arc::new(Barrier::new(callers));
    let asked = try_join_all((0..callers).map(|_| {
        let (address, id, barrier) = (address.to_owned(), id.to_owned(), Arc::clone(&barrier));
        async move {
            let caller = async {
                let mut socket = TcpStream::connect(&address).await?;
                socket.set_nodelay(true)?;
                barrier.wait().await;
                ask_once(&mut socket, &address, &id).await
            };
            tokio::time::timeout(Duration::from_secs(60), caller).await?
        }
    }))
    .await?;
    let (good, times) = sorted(&asked);
    println!("{good} {:.1} {:.1}", at(&times, 0.5) / 1e3, at(&times, 1.0) / 1e3);
    Ok(())
}

/// Asks for a call, and how long it took: with as little of its own as it can, since hundreds share one core.
async fn ask_once(socket: &mut TcpStream, address: &str, id: &str) -> Outcome<(StatusCode, Duration)> {
    let request = format!("GET {CALLS}{id} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let asked = Instant::now();
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(4 << 10);
    loop {
        if socket.read_buf(&mut answer).await? == 0 {
            return Err("the answer broke off".into());
        }
        let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?.to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.ok_or("an answer without a length")?.trim().parse()?;
        if answer.len() >= head + 4 + length {
            let status = text.split(' ').nth(1).ok_or("no status")?.parse()?;
            return Ok((status, asked.elapsed()));
        }
    }
}

async fn idle(address: &str, id: &str, connections: usize) -> Outcome<()> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut caller = Caller::connect(address).await?;
        caller.ask(address, id).await?;
        open.push(caller);
    }
    println!("open");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(open);
    Ok(())
}

async fn walk(address: &str, connections: u64, lookups: u64, ids: u64, first: u64) -> Outcome<()> {
    let walks = (0..connections).map(|n| {
        let address = address.to_owned();
        let share = lookups / connections + u64::from(n < lookups % connections);
        tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(first.wrapping_mul(1 << 20).wrapping_add(n));
            let mut caller = Caller::connect(&address).await?;
            let mut asked = Vec::new();
            for step in 0..share {
                let id = first + if lookups == ids { n + step * connections } else { rng.u64(..ids) };
                asked.push(caller.ask(&address, &format!("{:024x}", (1_u128 << 92) + u128::from(id))).await?);
            }
            Outcome::Ok(asked)
        })
    });
    let mut asked = Vec::new();
    for walk in walks.collect::<Vec<_>>() {
        asked.extend(walk.await??);
    }
    let (good, times) = sorted(&asked);
    println!("{good} {:.0} {:.0} {:.0}", at(&times, 0.5), at(&times, 0.99), at(&times, 1.0));
    Ok(())
}

async fn repeat(address: &str, id: &str, lookups: u64, etag: Option<&str>) -> Outcome<()> {
    let mut caller = Caller::connect(address).await?;
    let (mut answered, mut last) = (0, String::from("-"));
    for _ in 0..lookups {
        let mut request = Request::get(format!("{CALLS}{id}")).header(header::HOST, address);
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = caller.0.send_request(request.body(Empty::new())?).await?;
        let expected = if etag.is_some() { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        answered += u64::from(response.status() == expected);
        if let Some(etag) = response.headers().get(header::ETAG) {
            last = etag.to_str()?.to_owned();
        }
        response.into_body().collect().await?;
    }
    println!("{answered} {last}");
    Ok(())
}

async fn herd(address: &str, callers: usize, rounds: usize) -> Outcome<()> {
    let barrier = Arc::new(Barrier::new(callers));
    let asked = try_join_all((0..callers).map(|_| {
        let (address, barrier) = (address.to_owned(), Arc::clone(&barrier));
        async move {
            let mut caller = Caller::connect(&address).await?;
            let mut good = 0;
            for round in 0..rounds {
                barrier.wait().await;
                let (status, _) =
                    caller.ask(&address, &format!("{:024x}", (1_u128 << 92) + round as u128)).await?;
                good += usize::from(status == StatusCode::OK);
            }
            Outcome::Ok(good)
        }
    }))
    .await?;
    println!("{}", asked.iter().sum::<usize>());
    Ok(())
}

async fn first(address: &str, id: &str) -> Outcome<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if let Ok(mut caller) = Caller::connect(address).await
            && let Ok((StatusCode::OK, _)) = caller.ask(address, id).await
        {
            #[expect(clippy::disallowed_methods, reason = "it is compared with another process's clock")]
            let now = SystemTime::now();
            println!("{}", now.duration_since(UNIX_EPOCH)?.as_micros());
            return Ok(());
        }
        sleep(Duration::from_micros(200)).await;
    }
    Err("nobody answered within a minute".into())
}

/// How many were answered 200, and all times in microseconds, in order.
fn sorted(asked: &[(StatusCode, Duration)]) -> (usize, Vec<f64>) {
    let mut times: Vec<f64> = asked.iter().map(|(_, took)| took.as_secs_f64() * 1e6).collect();
    times.sort_by(f64::total_cmp);
    (asked.iter().filter(|(status, _)| *status == StatusCode::OK).count(), times)
}

/// The quantile, by nearest rank.
fn at(times: &[f64], quantile: f64) -> f64 {
    let rank = (times.len() as f64 * quantile).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
