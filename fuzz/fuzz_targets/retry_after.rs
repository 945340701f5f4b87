//! Feeds [`callgate_fuzz::retry_after`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate_fuzz::retry_after(bytes));
