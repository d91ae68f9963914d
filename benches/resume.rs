//! How long it takes to continue a large run, and in how much memory: `cargo bench --bench resume -- ROWS`.
//!
//! Two outputs are made up, one finished and one killed shortly before its end, and `promptmill run` continues each.
//! Beside them stands a yardstick of the same minute: reading all the files of the finished one line by line and
//! parsing each line as JSON, which no program that looks at its data can avoid.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on ends here")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use promptmill::domain::{Identity, JobHash, RecordBody, RequestHash, RowId, RowSource, StatusCounts};
use promptmill::ledger::{
    Durability, EndOfRun, Entry, Head, LEDGER_FILE, Ledger, Lines, NextLedger, Opening, folder_of,
};
use promptmill::output::StoredRow;

/// Rows unless an argument says otherwise.
const ROWS: u64 = 1_000_000;

/// Rows that the killed run had not come to.
const LEFT: u64 = 1_000;

/// The format of outputs as promptmill numbers it: JSON lines in the order of the input, from its first row.
const FORM: u64 = 2;

fn main() {
    // `cargo test` only looks whether it still works.
    let usual = if std::env::args().any(|argument| argument == "--bench") { ROWS } else { 2 * LEFT };
    let rows = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(usual);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_input(&at("in.jsonl"), rows);
    println!("{rows} rows\n\n{:30} {:>8} {:>8} {:>9}", "", "seconds", "ratio", "peak MiB");
    make_up(folder.path(), "finished.jsonl", rows, true);
    let yardstick = parse_all(&[at("in.jsonl"), at("finished.jsonl"), ledger(&at("finished.jsonl"))]);
    line("parse every line", yardstick, yardstick, None);
    for (name, output) in [("finished run", "finished.jsonl"), ("killed run", "killed.jsonl")] {
        if output == "killed.jsonl" {
            fs::remove_file(at("finished.jsonl")).unwrap();
            make_up(folder.path(), output, rows - LEFT, false);
        }
        let ran = promptmill(folder.path(), output);
        line(&format!("{name}, looked through"), ran.looked_through, yardstick, None);
        line(&format!("{name}, to its end"), ran.took, yardstick, Some(ran.peak_kib));
    }
}

fn line(name: &str, took: Duration, yardstick: Duration, peak: Option<u64>) {
    let peak = peak.map_or_else(String::new, |kib| (kib / 1024).to_string());
    let ratio = took.as_secs_f64() / yardstick.as_secs_f64();
    println!("{name:30} {:>8.1} {ratio:>8.2} {peak:>9}", took.as_secs_f64());
}

fn row(n: u64) -> String {
    format!(r#"{{"id":"r{n}","prompt":"Tell me something about the number {n}, please."}}"#)
}

fn write_input(path: &Path, rows: u64) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    for n in 0..rows {
        writeln!(file, "{}", row(n)).unwrap();
    }
    file.flush().unwrap();
}

fn ledger(output: &Path) -> std::path::PathBuf {
    folder_of(output).join(LEDGER_FILE)
}

struct Ran {
    /// Until it says what it keeps, and begins to send what is left.
    looked_through: Duration,
    took: Duration,
    peak_kib: u64,
}

/// Continues the run to its end.
fn promptmill(folder: &Path, output: &str) -> Ran {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_promptmill"))
        .args(["run", "in.jsonl", "--sim", "-o", output, "--progress", "none"])
        .current_dir(folder)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let process = child.id();
    let (ended, has_ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let mut peak = 0;
        while has_ended.recv_timeout(Duration::from_millis(10)).is_err() {
            peak = peak_kib(process).unwrap_or(peak);
        }
        peak
    });
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let resuming = lines.find(|line| line.as_ref().unwrap().starts_with("resuming:"));
    let looked_through = started.elapsed();
    assert!(resuming.is_some());
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    let took = started.elapsed();
    ended.send(()).unwrap();
    Ran { looked_through, took, peak_kib: watch.join().unwrap() }
}

fn peak_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Writes an output, or a ledger without one, as if a run had. What job that is, a run of one row tells.
fn make_up(folder: &Path, output: &str, rows: u64, finished: bool) {
    let path = folder.join(output);
    let run = ["run", "in.jsonl", "--sim", "-o", output, "--progress", "none", "--limit", "1"];
    let binary = env!("CARGO_BIN_EXE_promptmill");
    Command::new(binary).args(run).current_dir(folder).stderr(Stdio::null()).status().unwrap();
    let text = fs::read(&path).unwrap();
    let opening = Opening { overwrite: true, job: job_of(&path), durability: Durability::Off };
    fs::remove_file(&path).unwrap();
    let (mut ledger, _) = Ledger::open(&path, &opening).unwrap();
    let mut new = finished.then(|| ledger.begin_output(NextLedger::PointsIntoOutput).unwrap());
    if let Some(new) = &mut new {
        new.keep(&Entry::Run(opening.job).to_line()).unwrap();
    }
    let mut lines = Vec::new();
    for n in 0..rows {
        let source = RowSource::of_id(&RowId::Text(format!("r{n}")));
        let head = Head {
            identity: Some(Identity { source, request: RequestHash([0; 16]) }),
            input: RecordBody::Json(row(n)).hash().short(),
            statuses: StatusCounts([(200, 1)].into()),
            ..Head::default()
        };
        let row = answered(&text, n);
        match &mut new {
            Some(new) => new.row(&head, &row).unwrap(),
            None => lines.extend_from_slice(&head.with_row(&row)),
        }
        if lines.len() > 1 << 20 {
            ledger.append(&std::mem::take(&mut lines)).unwrap();
        }
    }
    ledger.append(&lines).unwrap();
    if let Some(new) = new {
        let totals = promptmill::accounting::Summary::default().to_saved();
        ledger.publish(new, &EndOfRun::default(), totals, FORM, true).unwrap();
    }
}

/// The row of the run of one row, as if it were another's.
fn answered(first: &[u8], n: u64) -> Vec<u8> {
    let stored = StoredRow::parse(first).unwrap();
    let rest = std::str::from_utf8(first).unwrap().trim_end();
    let (start, _) = rest.split_once(",\"input\":").unwrap();
    let start = start.split_once(&format!("\"index\":{}", stored.index)).unwrap().1;
    format!("{{\"id\":\"r{n}\",\"index\":{n}{start},\"input\":{}}}", row(n)).into_bytes()
}

fn job_of(output: &Path) -> JobHash {
    let mut lines = Lines::open(&ledger(output)).unwrap();
    while let Some((_, line)) = lines.next_line().unwrap() {
        if let Ok(Entry::Run(job)) = Entry::parse(line) {
            return job;
        }
    }
    unreachable!("a run says which job it does");
}

fn parse_all(files: &[std::path::PathBuf]) -> Duration {
    let started = Instant::now();
    for file in files {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(file).unwrap());
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).unwrap() > 0 {
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert!(value.is_object());
            line.clear();
        }
    }
    started.elapsed()
}
