#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::response_bodies::check(data));
