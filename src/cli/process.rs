//! What every command needs of its process: settings, a runtime, a log, signals, and limits that keep a key out of
//! dumps.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{BAD_CONFIGURATION, Files};
use crate::{
    drain::Signals,
    settings::{Loaded, Settings},
    telemetry::{self, Format, Telemetry},
};

/// How often the runtime looks up at the least. No timeout of a request is shorter.
const BEAT: Duration = Duration::from_secs(1);

/// Says on standard error why the command ends, and with which status.
pub(super) fn fail(what: &dyn std::fmt::Display, status: u8) -> ExitCode {
    // Nobody is left to tell if this fails; the status says it still.
    let _ = writeln!(io::stderr(), "callgate: {what}");
    ExitCode::from(status)
}

/// Reads the settings of a command.
///
/// # Errors
/// The status, once standard error has every problem on a line of its own.
pub(super) fn settings(files: &Files, env: &BTreeMap<String, String>) -> Result<Loaded, ExitCode> {
    Settings::load(&files.config, env).map_err(|problems| {
        for problem in problems {
            let _ = fail(&problem, BAD_CONFIGURATION);
        }
        ExitCode::from(BAD_CONFIGURATION)
    })
}

/// Runs a command to its end on a runtime of its own. What then still blocks a thread, such as the look-up of a name
/// that takes its time, is left behind: nobody waits for it any more.
///
/// On one core the runtime has one thread: a queue that threads could steal from costs each request some 700
/// instructions, which is 5 % of a hit (`benches/instructions`). On more there is one runtime with a thread for each: a
/// runtime for each core, with a socket of its own, took 0.89 of the CPU a hit and doubled the p99, from 4.4 to 8.0 ms
/// (`benches/compare --only cores`), since the kernel deals connections out and not work.
pub(super) fn run_to_end<T>(command: impl Future<Output = T>) -> io::Result<T> {
    let mut runtime = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => tokio::runtime::Builder::new_current_thread(),
        Ok(_) | Err(_) => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    runtime.spawn(beat());
    let ended = runtime.block_on(command);
    runtime.shutdown_background();
    Ok(ended)
}

/// Keeps one timer near. A timer that is nearer than all others makes tokio wake whoever waits for them, by a write to
/// a descriptor of its own and a look at it: two system calls, or another thread, for each request that the vendor is
/// asked. Those of a request are seconds away, so that they are never the nearest as long as this one stands.
async fn beat() {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
    }
}

/// Sets the log up as the settings say, and `RUST_LOG` above them.
pub(super) fn log(
    settings: &telemetry::Settings,
    env: &BTreeMap<String, String>,
) -> Result<Telemetry, telemetry::Error> {
    telemetry::init(settings, env.get("RUST_LOG").map(String::as_str), io::stderr().is_terminal())
}

/// Runs a command that has no settings, with its log at the usual level.
pub(super) fn block_on(
    env: &BTreeMap<String, String>,
    command: impl Future<Output = io::Result<()>>,
) -> ExitCode {
    let settings = telemetry::Settings { format: Format::Auto, level: "info".to_owned(), hits: 1.0 };
    let _log = match log(&settings, env) {
        Ok(log) => log,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    match run_to_end(command).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Keeps the memory of this process, where the key will lie, out of core dumps and away from other processes of the same
/// user. Both are needed: a core that is piped to a collector does not ask for the limit. To be called before settings
/// are read, and so before there is a log: what to warn of in it comes back.
pub(super) fn keep_from_dumps() -> Vec<String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let core = setrlimit(Resource::Core, none);
    let core = core.err().map(|error| format!("core dumps could not be turned off: {error}"));
    let undumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let undumpable =
        undumpable.err().map(|error| format!("the process could not be made undumpable: {error}"));
    core.into_iter().chain(undumpable).collect()
}

/// Lets this process open as many files as it may, and says how many; `None` where there is no limit.
pub(super) fn raise_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if raised.is_ok() { limit.maximum } else { limit.current }
}

/// SIGHUP: a terminal that is gone, or an operator who asks for a reload. It does not end a process that listens to it,
/// and those that come in a burst are one.
pub(super) struct Hangups(Signal);

impl Hangups {
    /// Listens from now on, until the process is over.
    pub(super) fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one; `None` where none will come.
    pub(super) async fn next(&mut self) -> Option<()> {
        self.0.recv().await
    }
}

/// SIGTERM, and Ctrl-C.
pub(super) struct Terminations {
    terminate: Signal,
    interrupt: Signal,
}

impl Terminations {
    /// Listens from now on; the signals do not end the process any more.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

impl Signals for Terminations {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
