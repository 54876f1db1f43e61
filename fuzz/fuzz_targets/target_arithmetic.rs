//! Hands the fuzzer's bytes to [`adit_testkit::fuzz::target_arithmetic`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| adit_testkit::fuzz::target_arithmetic::run(bytes));
