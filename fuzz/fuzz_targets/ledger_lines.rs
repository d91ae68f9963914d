#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::ledger_lines::check(data));
