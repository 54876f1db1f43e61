//! Hands the fuzzer's bytes to [`adit_testkit::fuzz::sv1_session`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| adit_testkit::fuzz::sv1_session::run(bytes));
