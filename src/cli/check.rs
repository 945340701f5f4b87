//! `callgate check`: says what is wrong with a configuration, or what comes of it. Like `nginx -t`.
//!
//! It opens no port and sends nothing. Problems go to standard error, one a line, with exit status 2; else the
//! effective configuration goes to standard output, as TOML without secrets, and the status is 0; what is only worth
//! knowing is a notice before it, on standard error. A closed standard output is no problem; one that cannot be written
//! to is, with status 1.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use super::{Files, process, serve};
use crate::settings::Settings;

/// Runs the command on this process's standard output and error.
#[must_use]
pub fn run(args: &Files, env: &BTreeMap<String, String>) -> ExitCode {
    // It reads the keys to tell whether they are any good.
    process::keep_from_dumps();
    ExitCode::from(run_to(args, env, &mut io::stdout().lock(), &mut io::stderr().lock()))
}

/// The same on any output; the exit status.
pub fn run_to(args: &Files, env: &BTreeMap<String, String>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let loaded = match Settings::load(&args.config, env) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in problems {
                // Nobody is left to tell if this fails; the status says it still.
                let _ = writeln!(err, "{problem}");
            }
            return 2;
        }
    };
    for notice in loaded.notices.into_iter().chain(serve::collector(env).err()) {
        let _ = writeln!(err, "notice: {notice}");
    }
    match write!(out, "{}", loaded.settings.effective).and_then(|()| out.flush()) {
        Ok(()) => 0,
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let _ = writeln!(err, "standard output: {error}");
            1
        }
    }
}
