//! Hands the fuzzer's bytes to [`adit_testkit::fuzz::node_template`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| adit_testkit::fuzz::node_template::run(bytes));
