//! The programs beside this one that some tests need: a Redis, a browser, a Prometheus. Without one of them the tests that
//! need it are left out, and that is said once, past the harness, which shows nothing of a test that passes.
//!
//! With `CALLGATE_TESTS_NEED_ALL` in the environment what is missing is a failure: `tests/run` sets it where it has found
//! or installed everything.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
    sync::Mutex,
};

/// Whether this program is here.
pub(crate) fn is_here(program: &str) -> bool {
    static ASKED: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    let mut asked = ASKED.lock().expect("sound");
    let found = *asked.entry(program.to_owned()).or_insert_with(|| {
        let mut version = Command::new(program);
        version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let found = version.status().is_ok_and(|status| status.success());
        if !found {
            let _ = writeln!(std::io::stderr(), "no {program} here: the tests that need it are left out");
        }
        found
    });
    drop(asked);
    assert!(found || !all_are_needed(), "no {program} here, and CALLGATE_TESTS_NEED_ALL is set");
    found
}

#[expect(clippy::disallowed_methods, reason = "it is for the tests, not for the gateway")]
fn all_are_needed() -> bool {
    std::env::var_os("CALLGATE_TESTS_NEED_ALL").is_some_and(|set| !set.is_empty())
}
