//! Hands the fuzzer's bytes to [`adit_testkit::fuzz::proxy_header`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| adit_testkit::fuzz::proxy_header::run(bytes));
