//! Hands the fuzzer's bytes to [`adit_testkit::fuzz::share_log_segment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| adit_testkit::fuzz::share_log_segment::run(bytes));
