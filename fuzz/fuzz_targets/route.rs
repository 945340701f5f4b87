//! Feeds [`callgate_fuzz::route`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate_fuzz::route(bytes));
