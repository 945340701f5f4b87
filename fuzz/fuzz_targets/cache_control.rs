//! Feeds [`callgate_fuzz::cache_control`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate_fuzz::cache_control(bytes));
