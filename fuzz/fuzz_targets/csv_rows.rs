#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::csv_rows::check(data));
