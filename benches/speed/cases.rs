//! The cases of the table, and the table.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::measure::{CORES_APART, Core, Server, Took, on, promptmill, run, this};

/// Characters of a prompt.
const PROMPT: usize = 500;

/// Both programs run this often, in turns; the best time of each counts.
const ROUNDS: usize = 3;

/// The input of the case that looks at the start.
const LARGE_INPUT_BYTES: u64 = 1 << 30;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Whole,
    /// Only whether it works.
    Tiny,
}

impl Size {
    fn rows(self, rows: u64) -> u64 {
        if self == Self::Tiny { rows.min(200) } else { rows }
    }

    fn rounds(self) -> usize {
        if self == Self::Tiny { 1 } else { ROUNDS }
    }
}

/// One case, which prints its lines of the table.
pub struct Case {
    pub name: &'static str,
    pub run: fn(Size),
}

/// All of them.
pub const CASES: [Case; 6] = [
    Case { name: "latency0", run: latency0 },
    Case { name: "latency100", run: latency100 },
    Case { name: "latency1000", run: latency1000 },
    Case { name: "memory", run: memory },
    Case { name: "startup", run: startup },
    Case { name: "limit", run: limit },
];

pub fn print_heading() {
    if !*CORES_APART {
        println!("server and client share their cores: there is one only, or no taskset\n");
    }
    println!(
        "{:12} {:>9} {:>8}  {:12} {:>8} {:>7} {:>7} {:>8} {:>8}",
        "latency", "in flight", "rows", "program", "rows/s", "of bare", "of most", "us a row", "peak MiB"
    );
}

/// What was done.
#[derive(Clone, Copy)]
struct Load {
    latency: u64,
    in_flight: u64,
    rows: u64,
}

impl Load {
    /// How long it takes if nothing but the latency takes time.
    fn least(self) -> Option<Duration> {
        let rounds = self.rows.div_ceil(self.in_flight);
        (self.latency > 0).then(|| Duration::from_millis(rounds * self.latency))
    }

    fn line(self, program: &str, took: Took, bare: Option<Took>) {
        let per_second = per_second(self.rows, took.wall);
        let ratio = |other: Option<Duration>| {
            other.map_or("-".to_owned(), |other| {
                format!("{:.2}", other.as_secs_f64() / took.wall.as_secs_f64())
            })
        };
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        let cpu = took.cpu.as_secs_f64() * 1e6 / self.rows as f64;
        println!(
            "{:12} {:>9} {:>8}  {program:12} {per_second:>8.0} {:>7} {:>7} {cpu:>8.1} {:>8}",
            format!("{} ms", self.latency),
            self.in_flight,
            self.rows,
            ratio(bare.map(|bare| bare.wall)),
            ratio(self.least()),
            took.peak_kib / 1024,
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with five digits")]
fn per_second(rows: u64, wall: Duration) -> f64 {
    rows as f64 / wall.as_secs_f64()
}

fn prompt() -> String {
    "Name the longest river of the country and say where it rises. ".chars().cycle().take(PROMPT).collect()
}

/// What promptmill sends for a row, for the bare loop to send as well.
pub fn request_body() -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, prompt())
}

fn write_input(path: &Path, rows: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let prompt = prompt();
    for n in 0..rows {
        writeln!(file, r#"{{"id":"r{n}","prompt":"{prompt}"}}"#).unwrap();
    }
    file.flush().unwrap();
}

/// A run with all that a user has: ledger, the input in the output, a report.
fn run_promptmill(folder: &TempDir, url: &str, in_flight: u64) -> Took {
    for file in ["out.jsonl", "report.json"] {
        let _ = fs::remove_file(folder.path().join(file));
    }
    let _ = fs::remove_dir_all(folder.path().join("out.jsonl.promptmill"));
    run(&mut command(folder, url, in_flight))
}

fn command(folder: &TempDir, url: &str, in_flight: u64) -> Command {
    let mut command = promptmill(Core::Client);
    command.args(["run", "in.jsonl", "-m", "m", "-o", "out.jsonl", "--report", "report.json"]);
    command.args(["--progress", "none", "--base-url", url, "-c", &in_flight.to_string()]);
    command.env("OPENAI_API_KEY", "sk-none").current_dir(folder.path());
    command
}

fn run_bare(url: &str, load: Load) -> Took {
    run(this(Core::Client, "bare").args([url, &load.rows.to_string(), &load.in_flight.to_string()]))
}

/// Both programs in turns.
fn compare(load: Load, rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    write_input(&folder.path().join("in.jsonl"), load.rows);
    let server = Server::lean(load.latency);
    let (mut bare, mut ours): (Option<Took>, Option<Took>) = (None, None);
    for _ in 0..rounds {
        let took = run_bare(&server.url, load);
        bare = Some(bare.map_or(took, |best| best.better(took)));
        let took = run_promptmill(&folder, &server.url, load.in_flight);
        ours = Some(ours.map_or(took, |best| best.better(took)));
    }
    load.line("bare loop", bare.unwrap(), bare);
    load.line("promptmill", ours.unwrap(), bare);
}

fn latency0(size: Size) {
    let load = Load { latency: 0, in_flight: 256, rows: size.rows(200_000) };
    compare(load, size.rounds());
    wrk(load);
}

fn latency100(size: Size) {
    for (in_flight, rows, rounds) in [(64, 6_400, 1), (512, 51_200, 1), (4096, 204_800, 1)] {
        compare(Load { latency: 100, in_flight, rows: size.rows(rows) }, rounds);
    }
}

fn latency1000(size: Size) {
    compare(Load { latency: 1000, in_flight: 4096, rows: size.rows(40_960) }, 1);
}

/// The same with ten times as many rows: neither rate nor memory should care.
fn memory(size: Size) {
    let server = Server::lean(0);
    for rows in [100_000, 1_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let load = Load { latency: 0, in_flight: 256, rows: size.rows(rows) };
        write_input(&folder.path().join("in.jsonl"), load.rows);
        let bare = run_bare(&server.url, load);
        let ours = run_promptmill(&folder, &server.url, load.in_flight);
        load.line("bare loop", bare, Some(bare));
        load.line("promptmill", ours, Some(bare));
    }
}

/// A server without a client library to it, as far as it is there to measure with.
fn wrk(load: Load) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("post.lua");
    let body = request_body().replace('"', "\\\"");
    let text = format!(
        "wrk.method = \"POST\"\nwrk.body = \"{body}\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\n"
    );
    fs::write(&script, text).unwrap();
    let server = Server::lean(load.latency);
    let ran = on(Core::Client, "wrk")
        .args(["-t1", "-d3s", "-c", &load.in_flight.to_string(), "-s", script.to_str().unwrap()])
        .arg(format!("{}/chat/completions", server.url))
        .stderr(Stdio::null())
        .output();
    let said = ran.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse::<f64>().ok());
    if let Some(rate) = rate {
        println!("{:12} {:>9} {:>8}  {:12} {rate:>8.0}", "0 ms", load.in_flight, "-", "wrk");
    }
}

/// How soon the first request is sent, whatever the size of the input.
fn startup(size: Size) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("1 row", 1), ("1 GiB", LARGE_INPUT_BYTES)] {
        let bytes = if size == Size::Tiny { bytes.min(1 << 20) } else { bytes };
        write_large_input(&folder.path().join("in.jsonl"), bytes);
        let best = (0..size.rounds() + 2).map(|_| first_request(&folder)).min().unwrap();
        println!("startup      {name} of input: first request after {:.1} ms", best.as_secs_f64() * 1e3);
    }
}

fn write_large_input(path: &Path, bytes: u64) {
    let row = format!("{{\"prompt\":\"{}\"}}\n", prompt());
    let block = row.repeat(2048);
    let mut file = File::create(path).unwrap();
    file.write_all(row.as_bytes()).unwrap();
    for _ in 0..bytes / block.len() as u64 {
        file.write_all(block.as_bytes()).unwrap();
    }
}

/// From the start of the program to the first byte of its first request.
fn first_request(folder: &TempDir) -> Duration {
    let _ = fs::remove_dir_all(folder.path().join("out.jsonl.promptmill"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let started = Instant::now();
    let mut child = command(folder, &url, 256).stderr(Stdio::null()).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let took = started.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

/// A server that lets 6,000 requests through in a minute: what part of them is used, and how many are refused.
fn limit(size: Size) {
    const ALLOWED_A_MINUTE: u64 = 6_000;
    let folder = tempfile::tempdir().unwrap();
    let rows = size.rows(1_500);
    write_input(&folder.path().join("in.jsonl"), rows);
    let rpm = ALLOWED_A_MINUTE.to_string();
    let server =
        Server::start(promptmill(Core::Server).args(["sim", "--port", "0", "--model", "*", "--rpm", &rpm]));
    let took = run_promptmill(&folder, &server.url, 64);
    let report = fs::read(folder.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let sent = report["requests"]["sent"].as_u64().unwrap();
    // A second's worth of the limit may come at once.
    let least = Duration::from_millis(rows.saturating_sub(ALLOWED_A_MINUTE / 60) * 60_000 / ALLOWED_A_MINUTE);
    #[expect(clippy::cast_precision_loss, reason = "a percentage with one decimal")]
    let refused = (sent - rows) as f64 * 100.0 / sent as f64;
    println!(
        "limit        {ALLOWED_A_MINUTE} a minute, {rows} rows in {:.1} s: {:.2} of the limit used, {refused:.1} % refused",
        took.wall.as_secs_f64(),
        least.as_secs_f64() / took.wall.as_secs_f64(),
    );
}
