//! Hands the fuzzer's bytes to [`adit_testkit::fuzz::frame_stream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| adit_testkit::fuzz::frame_stream::run(bytes));
