//! Arguments and environment in, exit code out; decides nothing.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// A kept record is half a dozen allocations, most of them small: glibc's allocator spends 310 bytes more on each record
/// of 2 KB than this one, and gives back less when they go (`benches/compare --only memory`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // What is not UTF-8 cannot be a setting that holds; with its bytes replaced it is refused as one.
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    callgate::cli::run(&std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
}
