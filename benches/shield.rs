//! The shield under load: 200 callers ask for 1,000 calls, a third of them under way, before a vendor that allows 60
//! requests a minute and counts them.
//!
//! `cargo bench --bench shield`, or `cargo bench --bench shield -- --seconds 60` for a shorter run. It prints a table,
//! and ends with status 1 if the vendor had to send a 429, counted more than 60 requests in any minute, a caller had
//! to wait longer than `budget.queue_timeout` and `upstream.response_timeout` allow, the vendor was left unasked although
//! there was budget, or anything but 200, 429 and 503 was answered.

use std::{
    collections::BTreeMap,
    error::Error,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use callgate::{
    app::{App, Surroundings},
    downstream::listener::LocalAddress,
    drain::Signals,
    sandbox::{Config, Sandbox},
    settings::Settings,
};
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

const CALLERS: usize = 200;
const CALLS: usize = 1_000;
const LIMIT: u32 = 60;
/// What the settings below promise a caller, and a little for the machine.
const DEADLINE: Duration = Duration::from_millis(2_000 + 15_000 + 500);

type Failed = Box<dyn Error + Send + Sync>;

/// What one caller, or all of them, saw.
#[derive(Default)]
struct Seen {
    /// By status and by what `cache-status` says in short.
    answers: BTreeMap<(u16, &'static str), Vec<Duration>>,
}

/// Asks for the end once.
struct Until(Option<oneshot::Receiver<()>>);

impl Signals for Until {
    async fn next(&mut self) {
        match &mut self.0 {
            Some(end) => drop(end.await),
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--seconds").skip(1);
    let seconds = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(180);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime
        .map_err(Failed::from)
        .and_then(|runtime| runtime.block_on(run(Duration::from_secs(seconds))))
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(length: Duration) -> Result<bool, Failed> {
    let ongoing = CALLS / 3;
    let config = Config {
        // Of the sandbox's own calls a tenth is under way; the rest of the third is begun below.
        calls: (CALLS - ongoing) * 10 / 9,
        rate_limit: LIMIT,
        // Longer than the run: a third stays under way.
        call_length: length * 10,
        ..Config::default()
    };
    let (key, workspace) = (config.api_key.clone(), config.workspace_id.clone());
    let sandbox = Sandbox::bind(config, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let (vendor, origin) = (sandbox.handle(), sandbox.local_addr());
    let (stop_vendor, vendor_stopped) = oneshot::channel::<()>();
    let selling = tokio::spawn(sandbox.run(async {
        let _ = vendor_stopped.await;
    }));
    let mut ids = vendor.ids();
    let under_way = vendor.ongoing_ids().len();
    ids.extend((under_way..ongoing).map(|_| vendor.start_call()));

    let text = format!(
        "[listen]\ninternal = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[upstream]\nbase_url = \"http://{origin}\"\n\
         [[workspaces]]\nworkspace_id = \"{workspace}\"\napi_key = \"{key}\"\n"
    );
    let loaded = Settings::load_str(&text, &BTreeMap::new()).map_err(|p| format!("{p:?}"))?;
    let app = App::bind(loaded.settings, Surroundings::default()).await?;
    let Some(LocalAddress::Tcp(gateway)) = app.internal_addresses().next().cloned() else {
        return Err("no TCP listener".into());
    };
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move { app.run(&mut Until(Some(stopped))).await });

    println!(
        "{CALLERS} callers, {} calls ({ongoing} under way), {} s, {LIMIT} requests a minute\n",
        ids.len(),
        length.as_secs()
    );
    let (ids, seen) = (Arc::new(ids), Arc::new(Mutex::new(Seen::default())));
    let end = Instant::now() + length;
    let callers = (0..CALLERS).map(|_| tokio::spawn(call(gateway, Arc::clone(&ids), end, Arc::clone(&seen))));
    for caller in join_all(callers).await {
        caller??;
    }
    let (requests, rejected, busiest) = (vendor.requests(), vendor.rejected(), vendor.busiest_minute());
    let _ = stop.send(());
    serving.await?;
    let _ = stop_vendor.send(());
    selling.await?;

    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let longest = seen.print();
    println!("\nvendor: {requests} requests, {rejected} times 429, at most {busiest} in any minute");
    println!(
        "longest wait of a caller: {:.1} ms of {} ms",
        longest.as_secs_f64() * 1e3,
        DEADLINE.as_millis()
    );
    // A gateway that asked for nothing would keep every limit.
    let least = u64::from(LIMIT) * length.as_secs() / 60 * 9 / 10;
    let sound = seen.answers.keys().all(|(status, _)| matches!(status, 200 | 429 | 503));
    Ok(rejected == 0 && busiest <= LIMIT as usize && longest <= DEADLINE && requests >= least && sound)
}

/// One caller: asks for a call, thinks for up to a second, asks for another.
async fn call(
    gateway: SocketAddr,
    ids: Arc<Vec<String>>,
    end: Instant,
    seen: Arc<Mutex<Seen>>,
) -> Result<(), Failed> {
    let mut connection: Option<SendRequest<Empty<Bytes>>> = None;
    while Instant::now() < end {
        let mut sender = match connection.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                let (sender, driver) =
                    http1::handshake(TokioIo::new(TcpStream::connect(gateway).await?)).await?;
                tokio::spawn(driver);
                sender
            }
        };
        let id = &ids[fastrand::usize(..ids.len())];
        let request = Request::get(format!("/v2/api/call-history/{id}")).header("host", "localhost");
        let request = request.body(Empty::new())?;
        let began = Instant::now();
        sender.ready().await?;
        let answer = timeout(DEADLINE * 2, sender.send_request(request)).await??;
        let status = answer.status().as_u16();
        let how =
            short(answer.headers().get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or(""));
        answer.into_body().collect().await?;
        let took = began.elapsed();
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .answers
            .entry((status, how))
            .or_default()
            .push(took);
        connection = Some(sender);
        sleep(Duration::from_millis(fastrand::u64(..1_000))).await;
    }
    Ok(())
}

/// What a `cache-status` says, in a word.
fn short(status: &str) -> &'static str {
    let has = |word| status.contains(word);
    match () {
        () if has("detail=failure") => "a failure remembered",
        () if has("stale-if-error") => "stale, as the vendor fails",
        () if has("; hit") => "hit",
        () if has("rate_limit_exceeded") => "no budget",
        () if has("overloaded") => "queue full",
        () if has("collapsed") => "collapsed",
        () if has("detail=ongoing") => "bypass: ongoing",
        () if has("stored") => "miss, kept",
        () => "other",
    }
}

impl Seen {
    /// Prints the table, and gives the longest wait.
    fn print(&self) -> Duration {
        println!("| status | how | answers | p50 | p99 | longest |\n|---|---|---:|---:|---:|---:|");
        let mut longest = Duration::ZERO;
        for ((status, how), times) in &self.answers {
            let mut times = times.clone();
            times.sort_unstable();
            let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
            println!(
                "| {status} | {how} | {} | {:.1} ms | {:.1} ms | {:.1} ms |",
                times.len(),
                at(50),
                at(99),
                at(100)
            );
            longest = longest.max(times.last().copied().unwrap_or_default());
        }
        longest
    }
}
