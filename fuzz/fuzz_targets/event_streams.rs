#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::event_streams::check(data));
