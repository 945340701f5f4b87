//! The commands of `callgate`, one small file each. Here is what they have in common: how arguments are read, and
//! what exit statuses say: 0 a clean end, 1 it could not run, 2 bad usage or configuration.
//!
//! The environment comes from `main` as a map; nothing below reads it.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

pub mod check;
pub mod demo;
pub mod doctor;
pub(crate) mod duration;
pub mod health;
mod http;
mod inherited;
mod notify;
mod process;
pub mod sandbox;
pub mod serve;
pub mod shell;
pub mod warm;

/// A caching reverse proxy for call records: one key, one budget, one upstream request a call
#[derive(Debug, Parser)]
#[command(name = "callgate", version, propagate_version = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Files,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (also without a command)
    Serve(Files),
    /// Gateway and simulated vendor in one process: a tour with real requests, then something to try
    Demo(demo::Args),
    /// The simulated vendor alone
    Sandbox(sandbox::Args),
    /// Check the configuration and print what comes of it
    Check(Files),
    /// Ask a running gateway whether it is ready
    Health(health::Args),
    /// Ask the real vendor once, and say what is right and what is wrong
    Doctor(doctor::Args),
    /// Have a running gateway fetch calls ahead of need
    Warm(warm::Args),
    /// Print what a shell needs to complete arguments
    Completions(shell::Completions),
    /// Print a man page
    Man(shell::Man),
}

/// The configuration files of the commands that read any.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Files {
    /// A configuration file, in TOML; may be given several times, later files win
    #[arg(long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
}

/// The status for bad usage and bad configuration.
const BAD_CONFIGURATION: u8 = 2;

/// Runs the command that the arguments name.
pub fn run(env: &BTreeMap<String, String>) -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(args) => serve::run(&args, env),
        Command::Demo(args) => demo::run(&args, env),
        Command::Sandbox(args) => process::block_on(env, sandbox::run(args)),
        Command::Check(args) => check::run(&args, env),
        Command::Health(args) => health::run(&args, env),
        Command::Doctor(args) => doctor::run(&args, env),
        Command::Warm(args) => warm::run(&args, env),
        Command::Completions(args) => shell::completions(args, Arguments::command()),
        Command::Man(args) => shell::man(&args, Arguments::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_a_command_the_gateway_is_run() {
        let parsed =
            Arguments::try_parse_from(["callgate", "--config", "a", "--config", "b"]).expect("arguments");
        assert!(parsed.command.is_none());
        assert_eq!(parsed.serve.config.len(), 2);
        assert!(Arguments::try_parse_from(["callgate", "--config", "a", "check"]).is_err());
    }
}
