//! `callgate sandbox`: the simulated vendor alone, until Ctrl-C or SIGTERM.
//!
//! Here is how its options are written, the grammar of `--fault` above all; what they mean is for [`crate::sandbox`].

use std::{io, net::SocketAddr, time::Duration};

use clap::{Args as ClapArgs, value_parser};
use http::StatusCode;
use tokio::signal::unix::{SignalKind, signal};

use super::duration::parse_duration;
use crate::sandbox::{Config, Fault, FaultKind, Sandbox};

/// The options of `callgate sandbox`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// Address to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9900")]
    listen: SocketAddr,
    /// The x-api-key that is accepted
    #[arg(long, value_name = "K", default_value = "sandbox-key-0123456789abcdef")]
    api_key: String,
    /// The x-workspace-id that is accepted
    #[arg(long, value_name = "W", default_value = "ws-sandbox")]
    workspace_id: String,
    /// How many calls there are at start; a tenth of them is under way
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u32).range(..=1_000_000))]
    calls: u32,
    /// What ids, records and the choice of faults follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How long a call takes
    #[arg(long, value_name = "DUR", default_value = "45s", value_parser = parse_duration)]
    call_length: Duration,
    /// How long after its end a call is analysed
    #[arg(long, value_name = "DUR", default_value = "20s", value_parser = parse_duration)]
    analysis_delay: Duration,
    /// How long an answer takes
    #[arg(long, value_name = "DUR", default_value = "120ms", value_parser = parse_duration)]
    latency: Duration,
    /// Requests accepted in any minute; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 60)]
    rate_limit: u32,
    /// Compress answers where gzip is accepted
    #[arg(long)]
    gzip: bool,
    /// What goes wrong, and with what share of the requests (0 to 1); may be repeated
    ///
    /// KIND is one of: status-NNN (200 to 999), delay or delay:DUR (2s), reset, cut, drip or drip:DUR (100ms from
    /// byte to byte), garbage, echo-key, hang, gzip-bomb or gzip-bomb:MIB (64), html, redirect, foreign-workspace,
    /// wrong-id. Faults are asked in the order given, and the first that strikes is the one. Example: --fault status-503=0.1 --fault delay:5s=1
    #[arg(long = "fault", value_name = "KIND=RATE", value_parser = parse_fault)]
    faults: Vec<Fault>,
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        Self {
            api_key: args.api_key,
            workspace_id: args.workspace_id,
            calls: args.calls as usize,
            seed: args.seed,
            call_length: args.call_length,
            analysis_delay: args.analysis_delay,
            latency: args.latency,
            rate_limit: args.rate_limit,
            faults: args.faults,
            gzip: args.gzip,
            // Nobody could ask for it here.
            journal: false,
            ..Self::default()
        }
    }
}

/// Runs the sandbox until Ctrl-C or SIGTERM.
///
/// # Errors
/// Where the address cannot be listened on, or signals cannot be received.
pub async fn run(args: Args) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let address = args.listen;
    let sandbox = Sandbox::bind(args.into(), address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    tracing::info!(address = %sandbox.local_addr(), "sandbox listening");
    sandbox
        .run(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await;
    Ok(())
}

/// Reads `KIND[:ARGUMENT]=RATE`.
fn parse_fault(text: &str) -> Result<Fault, String> {
    let (what, rate) = text.split_once('=').ok_or("expected KIND=RATE, such as reset=0.1")?;
    let rate = rate
        .parse()
        .ok()
        .filter(|rate| (0.0..=1.0).contains(rate))
        .ok_or_else(|| format!("the rate `{rate}` is not a number from 0 to 1"))?;
    let (kind, argument) = match what.split_once(':') {
        Some((kind, argument)) => (kind, Some(argument)),
        None => (what, None),
    };
    let duration = |default| argument.map_or(Ok(default), parse_duration);
    let (kind, takes_argument) = match kind {
        "delay" => (FaultKind::Delay(duration(Duration::from_secs(2))?), true),
        "drip" => (FaultKind::Drip(duration(Duration::from_millis(100))?), true),
        "gzip-bomb" => (FaultKind::GzipBomb(mebibytes(argument.unwrap_or("64"))?), true),
        "reset" => (FaultKind::Reset, false),
        "cut" => (FaultKind::Cut, false),
        "garbage" => (FaultKind::Garbage, false),
        "echo-key" => (FaultKind::EchoKey, false),
        "hang" => (FaultKind::Hang, false),
        "html" => (FaultKind::Html, false),
        "redirect" => (FaultKind::Redirect, false),
        "foreign-workspace" => (FaultKind::ForeignWorkspace, false),
        "wrong-id" => (FaultKind::WrongId, false),
        other => match other.strip_prefix("status-") {
            Some(status) => (FaultKind::Status(final_status(status)?), false),
            None => return Err(format!("unknown fault `{other}`")),
        },
    };
    if argument.is_some() && !takes_argument {
        return Err(format!("`{what}`: this fault takes no argument"));
    }
    Ok(Fault { kind, rate })
}

/// A status that ends a response: 1xx does not.
fn final_status(text: &str) -> Result<StatusCode, String> {
    let status = StatusCode::from_bytes(text.as_bytes()).ok();
    status
        .filter(|s| !s.is_informational())
        .ok_or_else(|| format!("`{text}` is not a status from 200 to 999"))
}

/// MiB as bytes; up to 4095, which is as much as the length in a gzip trailer can tell.
fn mebibytes(text: &str) -> Result<u64, String> {
    let mib = text.parse().ok().filter(|mib| (1..4_096).contains(mib));
    mib.map(|mib: u64| mib << 20).ok_or_else(|| format!("`{text}` is not a number of MiB from 1 to 4095"))
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Command::try_parse_from([&["sandbox"], args].concat()).map(|command| command.args)
    }

    #[test]
    fn the_defaults_are_those_of_the_configuration() {
        let config = Config::from(parse(&[]).expect("sound"));
        let default = Config::default();
        assert_eq!((&config.api_key, &config.workspace_id), (&default.api_key, &default.workspace_id));
        assert_eq!(
            (config.calls, config.seed, config.rate_limit),
            (default.calls, default.seed, default.rate_limit)
        );
        assert_eq!(
            (config.call_length, config.analysis_delay, config.latency),
            (default.call_length, default.analysis_delay, default.latency)
        );
        assert!(config.faults.is_empty() && !config.gzip);
    }

    #[test]
    fn every_fault_has_its_name() {
        for (text, kind, rate) in [
            ("status-503=0.5", FaultKind::Status(StatusCode::SERVICE_UNAVAILABLE), 0.5),
            ("delay=1", FaultKind::Delay(Duration::from_secs(2)), 1.0),
            ("delay:250ms=0.1", FaultKind::Delay(Duration::from_millis(250)), 0.1),
            ("reset=0", FaultKind::Reset, 0.0),
            ("cut=1.0", FaultKind::Cut, 1.0),
            ("drip=1", FaultKind::Drip(Duration::from_millis(100)), 1.0),
            ("drip:1s=1", FaultKind::Drip(Duration::from_secs(1)), 1.0),
            ("garbage=1", FaultKind::Garbage, 1.0),
            ("echo-key=1", FaultKind::EchoKey, 1.0),
            ("hang=1", FaultKind::Hang, 1.0),
            ("gzip-bomb=1", FaultKind::GzipBomb(64 << 20), 1.0),
            ("gzip-bomb:2=1", FaultKind::GzipBomb(2 << 20), 1.0),
            ("html=1", FaultKind::Html, 1.0),
            ("redirect=1", FaultKind::Redirect, 1.0),
            ("foreign-workspace=1", FaultKind::ForeignWorkspace, 1.0),
            ("wrong-id=1", FaultKind::WrongId, 1.0),
        ] {
            assert_eq!(parse_fault(text), Ok(Fault { kind, rate }), "{text}");
        }
    }

    #[test]
    fn what_is_no_fault_is_a_usage_error() {
        for text in [
            "reset",
            "reset=",
            "=1",
            "reset=1.1",
            "reset=-0.1",
            "reset=NaN",
            "reset=often",
            "rest=1",
            "status-=1",
            "status-99=1",
            "status-101=1",
            "status-1000=1",
            "reset:1s=1",
            "delay:soon=1",
            "gzip-bomb:0=1",
            "gzip-bomb:4096=1",
        ] {
            let error = parse(&["--fault", text]).expect_err(text);
            assert_eq!((error.kind(), error.exit_code()), (ErrorKind::ValueValidation, 2), "{text}");
        }
    }

    #[test]
    fn faults_add_up_in_their_order() {
        let args = parse(&["--fault", "reset=0.1", "--fault", "html=0.2"]).expect("sound");
        let kinds: Vec<_> = args.faults.into_iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds, [FaultKind::Reset, FaultKind::Html]);
    }

    #[test]
    fn more_calls_than_ids_are_made_for_are_refused() {
        assert!(parse(&["--calls", "1000000"]).is_ok());
        assert!(parse(&["--calls", "1000001"]).is_err());
    }
}
