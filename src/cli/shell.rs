//! `callgate completions` and `callgate man`: what a shell and `man` want to know of the arguments, made from the
//! arguments themselves, so that they cannot differ.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Command, ValueEnum};
use clap_complete::{aot, generate};

use super::{BAD_CONFIGURATION, process};

/// The arguments of `callgate completions`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Completions {
    /// The shell that is to complete
    shell: Shell,
}

/// A shell.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The arguments of `callgate man`.
#[derive(Clone, Debug, clap::Args)]
pub struct Man {
    /// One of the commands; the page of callgate itself without
    command: Option<String>,
}

/// Prints the completions of `command` for a shell.
#[must_use]
pub fn completions(args: Completions, mut command: Command) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    match args.shell {
        Shell::Bash => generate(aot::Bash, &mut command, name, &mut script),
        Shell::Zsh => generate(aot::Zsh, &mut command, name, &mut script),
        Shell::Fish => generate(aot::Fish, &mut command, name, &mut script),
    }
    print(&script)
}

/// Prints the page of `command`, or of one of its commands, as roff.
#[must_use]
pub fn man(args: &Man, mut command: Command) -> ExitCode {
    // Only then do the commands know their full names, as in `callgate-warm`.
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => return process::fail(&format!("there is no command `{name}`"), BAD_CONFIGURATION),
        },
    };
    let mut roff = Vec::new();
    match clap_mangen::Man::new(page).render(&mut roff) {
        Ok(()) => print(&roff),
        Err(error) => process::fail(&error, 1),
    }
}

fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => process::fail(&format!("standard output: {error}"), 1),
    }
}
