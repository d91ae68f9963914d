//! How near promptmill keeps to the limits of an endpoint: `cargo bench --bench pace [-- CASE...]`.
//!
//! The endpoint is `promptmill sim`, a process of its own, which lets requests and tokens through evenly and counts
//! what it refused. Cases: `given` and `learned` (a minute each, several limits at once), `auto` (every fixed
//! concurrency is tried beside it), `hedge`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on ends here")]
#![expect(clippy::cast_precision_loss, reason = "counts become ratios")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_promptmill");

/// Prompts of very unequal length, in words, each of which is a token.
const UNEQUAL: [usize; 10] = [10, 25, 4000, 10, 120, 700, 15, 60, 2000, 10];
const EQUAL: [usize; 1] = [80];

/// Tokens of a prompt around its words, and of an answer, on average: only to choose how many rows make a minute.
const TOKENS_BESIDE: usize = 70;

fn main() {
    let cases: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    // `cargo test` only looks whether it still works.
    if !std::env::args().any(|argument| argument == "--bench") {
        limits(
            "given",
            &[Limit { flag: "--rpm", a_minute: 6000, words: &EQUAL }],
            &[&[]],
            Duration::from_secs(1),
        );
        return;
    }
    let wanted = |name: &str| cases.is_empty() || cases.iter().any(|case| case == name);
    let requests = [600, 6_000, 60_000].map(|a_minute| Limit { flag: "--rpm", a_minute, words: &EQUAL });
    let tokens =
        [60_000, 600_000, 6_000_000].map(|a_minute| Limit { flag: "--tpm", a_minute, words: &UNEQUAL });
    let minute = Duration::from_secs(60);
    if wanted("given") {
        heading("limit given", "used", "refused");
        limits("given", &requests, &[&[]], minute);
        limits("given", &tokens, &[&[]], minute);
    }
    if wanted("learned") {
        heading("limit learned", "used", "refused");
        limits("learned", &requests, &[&[], &["--no-limit-headers"]], minute);
        limits("learned", &tokens, &[&[], &["--no-limit-headers"]], minute);
    }
    if wanted("auto") {
        heading("concurrency", "rows/s", "mean ms");
        for slots in [8, 64, 500] {
            auto(slots);
        }
    }
    if wanted("hedge") {
        heading("one in a thousand hangs", "seconds", "ratio");
        hedge();
    }
}

fn heading(name: &str, first: &str, second: &str) {
    println!("\n{name:42} {first:>9} {second:>9}");
}

#[derive(Clone, Copy)]
struct Limit {
    flag: &'static str,
    a_minute: usize,
    words: &'static [usize],
}

impl Limit {
    /// How many rows use the limit up in this time.
    fn rows(&self, time: Duration) -> usize {
        let a_row = if self.flag == "--rpm" {
            1
        } else {
            self.words.iter().sum::<usize>() / self.words.len() + TOKENS_BESIDE
        };
        usize::try_from(u64::try_from(self.a_minute / a_row).unwrap() * time.as_secs() / 60).unwrap()
    }
}

/// Runs at several limits at once, each on an endpoint of its own; `servers` are what the endpoints do differently.
fn limits(how: &str, limits: &[Limit], servers: &[&[&str]], time: Duration) {
    let run = |limit: Limit, server: &[&str]| {
        let a_minute = limit.a_minute.to_string();
        let sim = Sim::start(&[&["--latency", "50ms", limit.flag, &a_minute], server].concat());
        let folder = tempfile::tempdir().unwrap();
        write_rows(folder.path(), limit.rows(time), limit.words);
        let given = [limit.flag, a_minute.as_str()];
        let arguments = if how == "given" { &given[..] } else { &[] };
        let ran = promptmill(folder.path(), &sim, arguments);
        let stats = sim.stats();
        let count = |name: &str| stats[name].as_u64().unwrap_or_default() as f64;
        let done = if limit.flag == "--rpm" {
            stats["by_status"]["200"].as_u64().unwrap() as f64
        } else {
            count("prompt_tokens") + count("completion_tokens")
        };
        let used = done / (limit.a_minute as f64 * ran.wall.as_secs_f64() / 60.0);
        let refused = stats["by_status"]["429"].as_u64().unwrap_or_default() as f64 / count("requests");
        let name = format!("{how} {} {a_minute} {}", limit.flag, server.join(" "));
        format!("{name:42} {used:>9.3} {refused:>9.4}")
    };
    let lines: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = servers
            .iter()
            .flat_map(|server| limits.iter().map(move |limit| (*limit, *server)))
            .map(|(limit, server)| scope.spawn(move || run(limit, server)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    println!("{}", lines.join("\n"));
}

/// A server that works on so many requests at once, at every fixed concurrency and at the one that is found.
fn auto(slots: usize) {
    // With a latency of 100 ms.
    const ANSWERS_A_SECOND: usize = 10;
    let sim_slots = slots.to_string();
    let measure = |concurrency: &str, rows: usize| {
        let sim = Sim::start(&["--latency", "100ms", "--slots", &sim_slots]);
        let folder = tempfile::tempdir().unwrap();
        write_rows(folder.path(), rows, &EQUAL);
        let ran = promptmill(folder.path(), &sim, &["-c", concurrency]);
        (rows as f64 / ran.wall.as_secs_f64(), ran.report["latency_ms"]["mean"].as_f64().unwrap(), ran)
    };
    let mut best: Option<(f64, f64, usize)> = None;
    let near = [slots * 5 / 4, slots * 3 / 2];
    let mut fixed: Vec<usize> = (0..=10).map(|power| 1 << power).chain(near).collect();
    fixed.sort_unstable();
    for concurrency in fixed.into_iter().filter(|fixed| *fixed >= slots / 8 && *fixed <= slots * 8) {
        let rows = 5 * ANSWERS_A_SECOND * concurrency.min(slots);
        let (rate, latency, _) = measure(&concurrency.to_string(), rows);
        line(&format!("{slots} slots, -c {concurrency}"), rate, latency);
        // The smallest one that is as good as any.
        if best.is_none_or(|(best, ..)| rate > best * 1.01) {
            best = Some((rate, latency, concurrency));
        }
    }
    let (best_rate, best_latency, best) = best.unwrap();
    let (rate, latency, ran) = measure("auto", 20 * ANSWERS_A_SECOND * slots);
    line(&format!("{slots} slots, -c auto, 20 s"), rate, latency);
    let found = &ran.report["endpoints"][0]["concurrency"];
    line(
        &format!("{slots} slots, auto ({found}) to best ({best})"),
        rate / best_rate,
        latency / best_latency,
    );
}

fn line(name: &str, first: f64, second: f64) {
    println!("{name:42} {first:>9.2} {second:>9.2}");
}

/// Twenty thousand rows, with and without answers that hang.
fn hedge() {
    let measure = |server: &[&str], arguments: &[&str]| {
        let sim = Sim::start(&[&["--latency", "50ms"], server].concat());
        let folder = tempfile::tempdir().unwrap();
        write_rows(folder.path(), 20_000, &EQUAL);
        promptmill(folder.path(), &sim, &[&["-c", "64"], arguments].concat()).wall.as_secs_f64()
    };
    let yardstick = measure(&[], &[]);
    line("nothing hangs", yardstick, 1.0);
    let hedged = measure(&["--fault-hang", "0.001"], &["--hedge", "p99", "--timeout", "60s"]);
    line("--hedge p99", hedged, hedged / yardstick);
    let waited = measure(&["--fault-hang", "0.001"], &["--timeout", "60s"]);
    line("no --hedge, --timeout 60s", waited, waited / yardstick);
}

fn write_rows(folder: &Path, rows: usize, words: &[usize]) {
    let mut file = BufWriter::new(File::create(folder.join("in.jsonl")).unwrap());
    for n in 0..rows {
        let prompt = "word ".repeat(words[n % words.len()]);
        writeln!(file, r#"{{"id":{n},"prompt":"{n} {prompt}"}}"#).unwrap();
    }
    file.flush().unwrap();
}

struct Ran {
    wall: Duration,
    report: Value,
}

fn promptmill(folder: &Path, sim: &Sim, arguments: &[&str]) -> Ran {
    let started = Instant::now();
    let status = Command::new(BINARY)
        .args(["run", "in.jsonl", "-o", "out.jsonl", "-m", "sim-1", "--base-url", &sim.url, "-q"])
        .args(["--report", "report.json"])
        .args(arguments)
        .current_dir(folder)
        .env_remove("OPENAI_API_KEY")
        .status()
        .unwrap();
    assert!(status.success());
    let report = fs::read(folder.join("report.json")).unwrap();
    Ran { wall: started.elapsed(), report: serde_json::from_slice(&report).unwrap() }
}

struct Sim {
    process: Child,
    url: String,
}

impl Sim {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("sim").args(arguments).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { process, url: url.trim().to_owned() }
    }

    /// What it received.
    fn stats(&self) -> Value {
        let host = self.url.strip_prefix("http://").unwrap().split('/').next().unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET /sim/stats HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
