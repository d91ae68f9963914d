//! The fuzz targets without a fuzzer: each over its corpus and some hundred small changes of every file in it, the
//! same ones each time.

use std::fs;

use crate::cli::package;
use crate::random::Random;

#[path = "../../fuzz/checks/mod.rs"]
#[expect(clippy::expect_used, reason = "a check that cannot go on has found something")]
mod checks;

/// How many changes are tried of each file.
const CHANGES: u64 = 300;

/// Bytes that mean something to one of the parsers.
const TELLING: &[u8] = b"\"\\,:{}[]\n\r\t 0-9.e<\xff\xc3\x00";

#[test]
fn jsonl_rows_hold() {
    over_the_corpus("jsonl_rows", checks::jsonl_rows::check);
}

#[test]
fn json_rows_hold() {
    over_the_corpus("json_rows", checks::json_rows::check);
}

#[test]
fn csv_rows_hold() {
    over_the_corpus("csv_rows", checks::csv_rows::check);
}

#[test]
fn ledger_lines_hold() {
    over_the_corpus("ledger_lines", checks::ledger_lines::check);
}

#[test]
fn response_bodies_hold() {
    over_the_corpus("response_bodies", checks::response_bodies::check);
}

#[test]
fn event_streams_hold() {
    over_the_corpus("event_streams", checks::event_streams::check);
}

#[test]
fn pace_headers_hold() {
    over_the_corpus("pace_headers", checks::pace_headers::check);
}

#[test]
fn every_fuzz_target_is_run_here() {
    let folder = package().join("fuzz/fuzz_targets");
    let here = fs::read_to_string(package().join("tests/it/fuzz.rs")).unwrap();
    for target in fs::read_dir(folder).unwrap() {
        let name = target.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(here.contains(&format!("over_the_corpus(\"{name}\", checks::{name}::check)")), "{name}");
    }
}

fn over_the_corpus(target: &str, check: fn(&[u8])) {
    let mut files: Vec<_> = fs::read_dir(package().join("fuzz/corpus").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    for file in files {
        let whole = fs::read(&file).unwrap();
        let name = format!("{target}/{}", file.file_name().unwrap().display());
        checked(check, &whole, &name);
        for seed in 0..CHANGES {
            checked(check, &changed(&whole, seed), &format!("{name}, change {seed}"));
        }
    }
    checked(check, b"", "nothing");
}

/// Says on a failure what the input was.
fn checked(check: fn(&[u8]), data: &[u8], name: &str) {
    struct Shown<'a>(&'a [u8], &'a str);
    impl Drop for Shown<'_> {
        #[expect(clippy::print_stderr, reason = "shown by the test harness, of a test that failed")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input was {}: b\"{}\"", self.1, self.0.escape_ascii());
            }
        }
    }
    let shown = Shown(data, name);
    check(data);
    drop(shown);
}

/// The data with one to four changes: a byte flipped or replaced, a part cut out, doubled or moved, something put in.
fn changed(data: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut data = data.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        let part = at..data.len().min(at + 1 + random.below(24));
        match random.below(7) {
            0 if !part.is_empty() => data[at] ^= 1 << random.below(8),
            1 if !part.is_empty() => data[at] = TELLING[random.below(TELLING.len())],
            2 => drop(data.drain(part)),
            3 => data.truncate(at),
            4 => {
                let doubled = data[part].to_vec();
                data.splice(at..at, doubled);
            }
            5 => {
                let moved: Vec<u8> = data.drain(part).collect();
                let to = random.below(data.len() + 1);
                data.splice(to..to, moved);
            }
            _ => data.insert(at, TELLING[random.below(TELLING.len())]),
        }
    }
    data
}
