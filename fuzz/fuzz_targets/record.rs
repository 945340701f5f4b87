//! Feeds [`callgate_fuzz::record`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate_fuzz::record(bytes));
