//! Hands the fuzzer's bytes to [`adit_testkit::fuzz::legacy_upstream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| adit_testkit::fuzz::legacy_upstream::run(bytes));
