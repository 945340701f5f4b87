//! `callgate demo`: gateway and simulated vendor in one process, and a short tour of real requests over real sockets
//! which shows what each cost. No account is needed. Afterwards it serves until Ctrl-C, so that one can try it.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use tokio::{net::TcpListener, sync::oneshot};

use super::process;
use crate::{
    app::{App, BindError, Surroundings},
    downstream::listener::LocalAddress,
    drain::Signals,
    sandbox::{Config, Handle, Sandbox},
    settings::Settings,
};

mod tour;

/// The arguments of `callgate demo`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// End after the tour
    #[arg(long)]
    pub once: bool,
}

/// The addresses that a gateway listens on by itself, for the `curl` lines to be those of the README.
const INTERNAL: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 9090);

/// Runs the demo.
#[must_use]
pub fn run(args: &Args, env: &BTreeMap<String, String>) -> ExitCode {
    // Only the log level may be the caller's: the tour is about the sandbox, whatever else the environment holds.
    let settings = crate::telemetry::Settings {
        format: crate::telemetry::Format::Auto,
        level: "warn".to_owned(),
        hits: 1.0,
    };
    let log = match process::log(&settings, env) {
        Ok(log) => log,
        Err(error) => return process::fail(&error, super::BAD_CONFIGURATION),
    };
    let ended = process::run_to_end(demo(args)).flatten();
    drop(log);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => process::fail(&error, 1),
    }
}

/// Ends when the sender is dropped, and by Ctrl-C and SIGTERM where those are listened to.
struct End {
    toured: oneshot::Receiver<()>,
    left: bool,
    terminations: process::Terminations,
}

impl Signals for End {
    async fn next(&mut self) {
        tokio::select! {
            _ = &mut self.toured, if !self.left => self.left = true,
            () = self.terminations.next() => {}
        }
    }
}

async fn demo(args: &Args) -> io::Result<()> {
    let config = Config { calls: 400, latency: Duration::from_millis(120), ..Config::default() };
    let (key, workspace) = (config.api_key.clone(), config.workspace_id.clone());
    let sandbox = Sandbox::bind(config, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let vendor = sandbox.handle();
    let origin = sandbox.local_addr();
    let (stop_vendor, vendor_stopped) = oneshot::channel::<()>();
    let selling = tokio::spawn(sandbox.run(async {
        let _ = vendor_stopped.await;
    }));

    let app = bind(origin, &key, &workspace).await?;
    let internal = first(app.internal_addresses())?;
    let admin = first(app.admin_addresses())?;
    let (leave, toured) = oneshot::channel::<()>();
    let mut end = End { toured, left: false, terminations: process::Terminations::listen()? };
    let serving = tokio::spawn(async move { app.run(&mut end).await });

    let visited = tour::walk(internal, &vendor).await;
    let told = match visited {
        Ok(()) if !args.once => invite(internal, admin, &vendor),
        other => other,
    };
    if args.once || told.is_err() {
        drop(leave);
        let _ = serving.await;
    } else {
        let _ = serving.await;
        drop(leave);
    }
    drop(stop_vendor);
    let _ = selling.await;
    told
}

/// A gateway before the sandbox, on the usual ports where they are free.
async fn bind(origin: SocketAddr, key: &str, workspace: &str) -> io::Result<App> {
    let (internal, admin) = (free(INTERNAL.into()).await, free(ADMIN.into()).await);
    let usual = settings(internal, admin, origin, key, workspace)?;
    match App::bind(usual, Surroundings::default()).await {
        // Somebody was faster, between the look and the binding.
        Err(BindError::Listen(error)) if error.kind() == io::ErrorKind::AddrInUse => {
            let any = SocketAddr::new(internal.ip(), 0);
            let other = settings(any, any, origin, key, workspace)?;
            App::bind(other, Surroundings::default()).await
        }
        bound => bound,
    }
    .map_err(io::Error::other)
}

fn settings(
    internal: SocketAddr,
    admin: SocketAddr,
    origin: SocketAddr,
    key: &str,
    workspace: &str,
) -> io::Result<Settings> {
    let text = format!(
        "[listen]\ninternal = \"{internal}\"\nadmin = \"{admin}\"\n\
         [upstream]\nbase_url = \"http://{origin}\"\n\
         [drain]\ntimeout = \"1s\"\n\
         [[workspaces]]\nname = \"demo\"\nworkspace_id = \"{workspace}\"\napi_key = \"{key}\"\n"
    );
    Settings::load_str(&text, &BTreeMap::new()).map(|loaded| loaded.settings).map_err(|problems| {
        io::Error::other(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// `wanted`, or the same with a port of the system's choice where it is taken.
async fn free(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted).await {
        Ok(_) => wanted,
        Err(_) => SocketAddr::new(wanted.ip(), 0),
    }
}

fn first<'a>(mut addresses: impl Iterator<Item = &'a LocalAddress>) -> io::Result<SocketAddr> {
    match addresses.next() {
        Some(LocalAddress::Tcp(address)) => Ok(*address),
        Some(LocalAddress::Unix(_)) | None => Err(io::Error::other("no TCP listener")),
    }
}

/// Says what to try while it serves.
fn invite(internal: SocketAddr, admin: SocketAddr, vendor: &Handle) -> io::Result<()> {
    let settled = vendor.settled_ids().pop().unwrap_or_default();
    let ongoing = vendor.start_call();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\nThe gateway serves on. For up to a minute the tour has used the vendor's requests up: what is kept is"
    )?;
    writeln!(out, "answered, the rest gets a 429 that says when. In another terminal:\n")?;
    writeln!(out, "  a call that is over   curl -i http://{internal}/v2/api/call-history/{settled}")?;
    writeln!(out, "  a call under way      curl -i http://{internal}/calls/{ongoing}")?;
    writeln!(
        out,
        "  a list of calls       curl -i 'http://{internal}/v2/api/call-history?status=failed&limit=3'"
    )?;
    writeln!(out, "  the status page       http://{admin}/ in a browser")?;
    writeln!(out, "  what was counted      curl -s http://{admin}/metrics")?;
    writeln!(out, "\nThe vendor's key went with none of them. Ctrl-C ends it.")?;
    out.flush()
}
