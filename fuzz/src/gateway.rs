//! A whole gateway in the thread of its target, and the plain sockets around it.
//!
//! Everything happens in turns: the gateway goes on as far as it comes without waiting, then it is looked at what it has
//! sent. Nobody waits for a time to pass but where nothing else moves any more.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Read as _, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use callgate::{
    app::{App, Sockets, Surroundings},
    downstream::listener::Handed,
    drain::Signals,
    settings::Settings,
    upstream::vendor::Vendor,
};
use tokio::runtime::Runtime;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// The key: never to be seen but by the vendor.
pub const KEY: &str = "canary-0071e5-4f3c9a77d2b8";
/// The workspaces; the first is the default.
pub const WORKSPACES: [&str; 2] = ["ws-1", "ws-2"];
/// The most that the vendor may answer with, in bytes.
pub const MAX_BODY: usize = 64 << 10;

/// Turns in which nothing moves before nothing is expected to.
pub const STILL: usize = 24;
/// Milliseconds after which it hangs.
pub const LONG: usize = 5_000;

/// What a gateway is started with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// HTTP/2 is spoken to callers as well, and what they want of caches is obeyed.
    pub obliging: bool,
    /// Failures are not remembered.
    pub forgetful: bool,
}

/// The vendor that a gateway is started before.
pub enum Before {
    /// This one, without sockets.
    Vendor(Arc<dyn Vendor>),
    /// Whoever listens there.
    Address(SocketAddr),
}

/// A gateway that runs, as far as it is given its turn.
pub struct Gateway {
    runtime: Runtime,
    callers: SocketAddr,
    log: Log,
    _logging: DefaultGuard,
}

/// The log of one gateway, at its most talkative.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// No end is asked for.
struct Never;

impl Signals for Never {
    async fn next(&mut self) {
        std::future::pending().await
    }
}

thread_local! {
    /// The gateway's sockets, for callers and for operators: bound once a thread, and handed to each.
    static LISTENERS: [TcpListener; 2] = [bound(), bound()];
    static SETTINGS: RefCell<Vec<(Variant, Settings)>> = const { RefCell::new(Vec::new()) };
}

/// A socket that listens on a port of its own, and lets nobody wait.
pub fn bound() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    listener
}

/// Lets go of whoever has connected for an earlier gateway.
pub fn forget(listener: &TcpListener) {
    while listener.accept().is_ok() {}
}

impl Gateway {
    /// One that answers from now on.
    pub fn start(variant: Variant, before: Before) -> Self {
        let log = Log::default();
        let talkative = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        let logging = tracing::subscriber::set_default(talkative.with_writer(log.clone()).finish());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut settings = settings(variant);
        let (callers, sockets) = LISTENERS.with(|[callers, operators]| {
            forget(callers);
            let handed = |listener: &TcpListener| vec![Handed::Tcp(listener.try_clone().expect("a socket"))];
            let sockets =
                Sockets { internal: handed(callers), admin: handed(operators), metrics: Vec::new() };
            (callers.local_addr().expect("an address"), sockets)
        });
        let surroundings = Surroundings { sockets, ..Surroundings::default() };
        let app = match before {
            Before::Vendor(vendor) => runtime.block_on(App::bind_before(settings, surroundings, vendor)),
            Before::Address(address) => {
                settings.upstream.origin.authority = address.to_string().parse().expect("an authority");
                runtime.block_on(App::bind(settings, surroundings))
            }
        };
        let app = app.expect("bound");
        runtime.spawn(async move { app.run(&mut Never).await });
        Self { runtime, callers, log, _logging: logging }
    }

    /// A caller that has connected.
    pub fn connect(&self) -> Line {
        Line::new(TcpStream::connect(self.callers).expect("connected"))
    }

    /// Gives it its turn.
    pub fn turn(&self) {
        self.runtime.block_on(tokio::task::yield_now());
    }

    /// Lets a moment pass.
    pub fn pause(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    }

    /// Whether these bytes stand in its log.
    pub fn has_logged(&self, bytes: &[u8]) -> bool {
        contains(&self.log.0.lock().unwrap_or_else(PoisonError::into_inner), bytes)
    }
}

/// Whether these bytes stand in those.
pub fn contains(bytes: &[u8], these: &[u8]) -> bool {
    bytes.windows(these.len()).any(|window| window == these)
}

/// Read once for each.
fn settings(variant: Variant) -> Settings {
    SETTINGS.with_borrow_mut(|known| {
        if let Some((_, settings)) = known.iter().find(|(own, _)| *own == variant) {
            return settings.clone();
        }
        let Variant { obliging, forgetful } = variant;
        let failure_ttl = if forgetful { "0s" } else { "1s" };
        let mut text = format!(
            "listen.http2 = {obliging}\nlookup.obey_no_cache = {obliging}\nlookup.failure_ttl = \"{failure_ttl}\"\n\
             upstream.base_url = \"http://127.0.0.1:1\"\nupstream.retries = 0\nupstream.max_body = \"64KiB\"\n\
             budget.requests_per_minute = 100000\n"
        );
        for workspace in WORKSPACES {
            text.push_str(&format!("\n[[workspaces]]\nworkspace_id = \"{workspace}\"\napi_key = \"{KEY}\"\n"));
        }
        let loaded = Settings::load_str(&text, &BTreeMap::new()).unwrap_or_else(|p| panic!("{p:?}"));
        known.push((variant, loaded.settings.clone()));
        loaded.settings
    })
}

/// One end of a connection, which never waits.
pub struct Line {
    stream: TcpStream,
    /// What came.
    pub received: Vec<u8>,
    /// Nothing comes any more.
    pub ended: bool,
}

impl Line {
    /// Of a connected socket.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, received: Vec::new(), ended: false }
    }

    /// Takes what is there; whether there was anything, be it the end.
    pub fn receive(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        let mut any = false;
        while !self.ended {
            match self.stream.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(n) => self.received.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.ended = true,
            }
            any = true;
        }
        any
    }

    /// Sends as much of it as finds room, and takes that off; all of it where nobody listens any more.
    pub fn send(&mut self, bytes: &mut &[u8]) {
        match self.stream.write(bytes) {
            Ok(n) => *bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => *bytes = &[],
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        // Where it fails the other side has gone already.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}
