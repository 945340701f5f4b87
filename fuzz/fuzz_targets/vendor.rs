//! Feeds [`callgate_fuzz::vendor`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate_fuzz::vendor(bytes));
