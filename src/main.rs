//! Arguments and environment in, exit code out; decides nothing.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // What is not UTF-8 cannot be a setting that holds; with its bytes replaced it is refused as one.
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    callgate::cli::run(&std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
}
