//! Feeds [`callgate_fuzz::caller`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate_fuzz::caller(bytes));
