//! Feeds [`callgate_fuzz::prefer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate_fuzz::prefer(bytes));
