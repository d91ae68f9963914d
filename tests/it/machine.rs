//! Faults of the machine: each is said once, in words that name the place, and the same command goes on afterwards.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cli::{Cli, MODEL, field, lines, package};
use crate::server::{Reply, Server};

/// The arguments of a job against a server, for a shell.
fn job<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "in.jsonl", "-m", MODEL, "--base-url", url, "--progress", "none"], more].concat()
}

#[test]
fn a_full_disk_ends_the_run_and_room_lets_it_go_on() {
    let server = Server::echo();
    let cli = Cli::with_prompts(300);
    let url = server.base_url();
    let arguments = job(&url, &["-o", "out.jsonl", "-c", "4"]);
    // A file may have 20 or 40 KiB, as the shell counts: the write fails as on a full disk.
    let finished = cli.start_in_shell("ulimit -f 40;", &arguments, "").wait().exits(1);
    finished
        .says("error: cannot write out.jsonl.promptmill/ledger.jsonl: File too large")
        .says("make room there");
    let paid = server.count();
    assert!(paid < 300, "it stopped");
    cli.run(&arguments).exits(0);
    assert_eq!(field(&cli.answers(), "index"), (0..300).collect::<Vec<_>>());
    let twice = server.count() - 300;
    assert!(twice <= 8, "{twice} of {paid} rows were paid twice");
}

#[test]
fn a_log_on_a_full_disk_costs_a_warning_and_not_the_run() {
    let server = Server::echo();
    let cli = Cli::with_prompts(200);
    let finished = cli.job(&server, &["--log-file", "/dev/full"]).exits(0);
    let warning = "warning: cannot write the log /dev/full: No space left on device";
    assert_eq!(finished.stderr.matches(warning).count(), 1, "{}", finished.stderr);
    assert_eq!(cli.answers().len(), 200);
}

#[test]
#[cfg(unix)]
fn a_report_on_a_full_disk_is_an_error_that_names_it_and_the_rows_are_safe() {
    let server = Server::echo();
    let cli = Cli::with_prompts(3);
    std::os::unix::fs::symlink("/dev/full", cli.path("report.json")).unwrap();
    let finished = cli.job(&server, &["--report", "report.json"]).exits(1);
    finished.says("cannot write the report report.json: No space left on device");
    assert_eq!(cli.answers().len(), 3);
    cli.job(&server, &["--report", "other.json"]).exits(0);
    assert_eq!(server.count(), 3);
}

#[test]
fn standard_output_on_a_full_disk_is_an_error_wherever_something_is_written_to_it() {
    let server = Server::echo();
    let cli = Cli::with_prompts(3);
    let url = server.base_url();
    let full = "cannot write standard output: No space left on device";
    cli.start_in_shell("", &job(&url, &["-o", "-"]), ">/dev/full").wait().exits(1).says(full);
    cli.start_in_shell("", &job(&url, &["-o", "-", "--dry-run"]), ">/dev/full").wait().exits(1).says(full);
    cli.job(&server, &[]).exits(0);
    cli.start_in_shell("", &["report", "out.jsonl"], ">/dev/full").wait().exits(1).says(full);
}

#[test]
fn whoever_reads_the_answers_may_stop_and_that_is_no_error() {
    let server = Server::start(|received, _| match received.prompt() {
        last if last.ends_with("of 299?") => Reply::Hang,
        _ => Reply::Answer,
    });
    let cli = Cli::with_prompts(300);
    // Of the first rows one hangs: nobody is there any more to wait for its answer.
    let mut rows: Vec<String> = cli.read("in.jsonl").lines().map(str::to_owned).collect();
    rows.rotate_right(1);
    cli.write("in.jsonl", lines(rows));
    let url = server.base_url();
    let mut child = Command::new(env!("CARGO_BIN_EXE_promptmill"))
        .args(job(&url, &["-o", "-", "-c", "4"]))
        .current_dir(cli.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(!stderr.contains("error"), "{stderr}");
    assert!(server.count() < 300, "it stopped");
}

#[test]
fn an_output_folder_that_is_removed_while_the_run_goes_on_costs_no_answer() {
    let server = Server::start(|_, _| Reply::Answer.after(Duration::from_millis(20)));
    let cli = Cli::with_prompts(40);
    fs::create_dir(cli.path("results")).unwrap();
    let url = server.base_url();
    let arguments = job(&url, &["-o", "results/out.jsonl", "-c", "4"]);
    let running = cli.start(&arguments);
    server.wait_for(10);
    fs::remove_dir_all(cli.path("results")).unwrap();
    running.wait().exits(1).says("results/out.jsonl.promptmill was removed while the run went on");
    cli.run(&arguments).exits(0).says("40 kept; 0 to send");
    assert_eq!(server.count(), 40);
    assert_eq!(cli.read("results/out.jsonl").lines().count(), 40);
}

#[test]
fn an_input_that_breaks_off_in_the_middle_keeps_what_came_before_and_goes_on_when_it_is_mended() {
    let server = Server::echo();
    let cli = Cli::new();
    let row = |i: u32| format!("{{\"prompt\":\"{}\"}}", i.wrapping_mul(2_654_435_761));
    let rows = lines((0..200).map(row));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(rows.as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    cli.write("in.jsonl.gz", &whole[..whole.len() / 2]);
    let finished = cli.run_on(&server, &["in.jsonl.gz", "-o", "out.jsonl"]).exits(1);
    finished.says("in.jsonl.gz: gzip data is cut short after").says("mend it and run the same command again");
    let first = cli.answers().len();
    assert!(first < 200 && first == server.count(), "{first}");
    cli.write("in.jsonl.gz", whole);
    cli.run_on(&server, &["in.jsonl.gz", "-o", "out.jsonl"]).exits(0);
    assert_eq!((cli.answers().len(), server.count()), (200, 200));
}

#[test]
fn a_read_error_of_the_system_is_named_with_its_place() {
    if !Path::new("/proc/self/mem").exists() {
        return;
    }
    let server = Server::echo();
    let cli = Cli::with_prompts(2);
    let finished =
        cli.run_on(&server, &["in.jsonl", "/proc/self/mem", "--input-format", "jsonl", "-o", "out.jsonl"]);
    finished.exits(1).says("/proc/self/mem:1: cannot be read any further").says("Input/output error");
    cli.run_on(&server, &["in.jsonl", "-o", "out.jsonl"]).exits(0);
    assert_eq!((cli.answers().len(), server.count()), (2, 2));
}

#[test]
fn a_limit_on_open_files_is_raised_where_it_may_be_and_else_lowers_the_concurrency() {
    let slow = || Server::start(|_, _| Reply::Answer.after(Duration::from_millis(100)));
    let cli = Cli::with_prompts(64);
    for (limit, most) in [("ulimit -Sn 40;", 9..=64), ("ulimit -n 40;", 1..=8)] {
        let server = slow();
        let url = server.base_url();
        let arguments = job(&url, &["-o", "out.jsonl", "-c", "64", "--overwrite"]);
        let finished = cli.start_in_shell(limit, &arguments, "").wait().exits(0);
        assert_eq!(finished.stderr.contains("ulimit -n"), *most.end() == 8, "{}", finished.stderr);
        assert_eq!(server.count(), 64);
        assert!(most.contains(&server.max_in_flight()), "{} were in flight", server.max_in_flight());
        assert!(field(&cli.answers(), "attempts").iter().all(|attempts| **attempts == 1));
    }
}

#[test]
fn too_few_open_files_are_said_before_anything_is_sent() {
    let server = Server::echo();
    let cli = Cli::with_prompts(3);
    let url = server.base_url();
    let arguments = job(&url, &["-o", "out.jsonl"]);
    let finished = cli.start_in_shell("ulimit -n 20;", &arguments, "").wait().exits(1);
    finished.says("the system allows 20 open files, which is not enough").says("ulimit -n");
    assert_eq!(server.count(), 0);
}

#[test]
fn closed_standard_streams_do_not_matter_to_a_run_that_does_not_need_them() {
    for redirect in ["2>&-", "<&-", ">&-", "<&- >&- 2>&-"] {
        let server = Server::echo();
        let cli = Cli::with_prompts(20);
        let url = server.base_url();
        let arguments = job(&url, &["-o", "out.jsonl", "-vv"]);
        cli.start_in_shell("", &arguments, redirect).wait().exits(0);
        assert_eq!(cli.answers().len(), 20, "{redirect}");
        assert!(!cli.read("out.jsonl.promptmill/ledger.jsonl").contains("row r1:"), "{redirect}");
    }
}

#[test]
fn no_wait_follows_the_clock_on_the_wall_which_may_be_set_back() {
    let allowed = ["cli/log.rs", "cli/models.rs", "provider/openai.rs", "sim/"];
    let (mut folders, mut found) = (vec![package().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path).unwrap().contains("SystemTime::now") {
                found.push(path.strip_prefix(package().join("src")).unwrap().display().to_string());
            }
        }
    }
    // A line of a log, and dates that a server names.
    found.retain(|file| !allowed.iter().any(|allowed| file.starts_with(allowed)));
    assert!(found.is_empty(), "{found:?}");
}
