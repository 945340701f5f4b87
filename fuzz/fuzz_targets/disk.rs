//! Feeds [`callgate_fuzz::disk`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate_fuzz::disk(bytes));
