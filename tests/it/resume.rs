//! Again and again: killed, interrupted, finished or changed, the same command goes on where it stopped.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{Cli, field, lines};
use crate::server::{Reply, Server};

/// A server that takes a while for each answer.
fn slow(milliseconds: u64) -> Server {
    Server::start(move |_, _| Reply::Answer.after(Duration::from_millis(milliseconds)))
}

/// Asserts that the output has so many rows, in order, all answered.
fn assert_complete(answers: &[Value], rows: usize) {
    assert_eq!(field(answers, "index"), (0..rows).collect::<Vec<_>>());
    for (i, row) in answers.iter().enumerate() {
        assert_eq!(row["output"], format!("echo: What is the square of {i}?"), "{row}");
    }
}

#[test]
fn a_killed_run_goes_on_and_pays_twice_only_for_what_was_in_flight() {
    const ROWS: usize = 300;
    const IN_FLIGHT: usize = 8;
    let server = slow(5);
    let cli = Cli::with_prompts(ROWS);
    for kill_after in [60, 150] {
        let running = cli.start_job(&server, &["-c", "8"]);
        server.wait_for(kill_after);
        running.kill();
    }
    cli.job(&server, &["-c", "8"]).exits(0);
    assert_complete(&cli.answers(), ROWS);
    let twice = server.count() - ROWS;
    assert!(twice <= 2 * IN_FLIGHT, "{twice} rows were paid twice");
    assert!(server.prompts().values().all(|&times| times <= 3));
    assert_eq!(server.prompts().len(), ROWS);
}

#[test]
fn a_killed_run_without_ids_goes_on_too_even_when_prompts_are_equal() {
    let server = slow(5);
    let cli = Cli::with_rows(&vec![json!({"prompt": "Roll a die."}); 100]);
    let running = cli.start_job(&server, &["-c", "4"]);
    server.wait_for(40);
    running.kill();
    cli.job(&server, &["-c", "4"]).exits(0);
    assert_eq!(field(&cli.answers(), "index"), (0..100).collect::<Vec<_>>());
    assert!((100..=104).contains(&server.count()), "{} requests were sent", server.count());
}

#[test]
fn a_finished_run_sends_nothing_when_it_is_run_again() {
    let server = Server::echo();
    let cli = Cli::with_prompts(20);
    cli.job(&server, &[]).exits(0);
    let before = cli.read("out.jsonl");
    cli.job(&server, &["--report", "report.json"]).exits(0);
    assert_eq!(server.count(), 20);
    assert_eq!(cli.read("out.jsonl"), before);
    let rows = cli.json("report.json")["rows"].clone();
    assert_eq!(rows, json!({"total": 20, "ok": 20, "failed": 0, "cached": 0, "resumed": 20}));
}

#[test]
fn failed_rows_are_tried_again() {
    let server = Server::start(|received, attempt| {
        if received.prompt().ends_with("of 4?") && attempt == 1 {
            Reply::bad_request()
        } else {
            Reply::Answer
        }
    });
    let cli = Cli::with_prompts(10);
    cli.job(&server, &[]).exits(3);
    assert_eq!(cli.answers()[4]["status"], "error");
    cli.job(&server, &[]).exits(0);
    assert_complete(&cli.answers(), 10);
    assert_eq!(server.count(), 11);
}

#[test]
fn an_edited_row_is_sent_anew_and_the_others_are_kept() {
    let server = Server::echo();
    let cli = Cli::with_prompts(5);
    cli.job(&server, &[]).exits(0);
    let edited = cli.read("in.jsonl").replace("square of 2", "cube of 2");
    cli.write("in.jsonl", edited);
    cli.job(&server, &[]).exits(0);
    assert_eq!(server.count(), 6);
    let answers = cli.answers();
    assert_eq!(answers.len(), 5);
    assert_eq!(answers[2]["output"], "echo: What is the cube of 2?");
}

#[test]
fn rows_that_are_added_or_moved_keep_the_answers_that_were_paid_for() {
    let server = Server::echo();
    let cli = Cli::with_prompts(6);
    cli.job(&server, &[]).exits(0);
    let mut rows: Vec<String> = cli.read("in.jsonl").lines().map(str::to_owned).collect();
    rows.reverse();
    rows.push(json!({"id": "new", "prompt": "And now?"}).to_string());
    cli.write("in.jsonl", lines(rows));
    cli.job(&server, &[]).exits(0);
    assert_eq!(server.count(), 7);
    let answers = cli.answers();
    assert_eq!(field(&answers, "id"), ["r5", "r4", "r3", "r2", "r1", "r0", "new"]);
    assert_eq!(field(&answers, "index"), (0..7).collect::<Vec<_>>());
}

#[test]
fn the_answer_of_a_row_that_is_taken_out_comes_back_with_the_row() {
    let server = Server::echo();
    let cli = Cli::with_prompts(6);
    cli.job(&server, &[]).exits(0);
    let whole = cli.read("in.jsonl");
    cli.write("in.jsonl", lines(whole.lines().skip(2).map(str::to_owned)));
    cli.job(&server, &[]).exits(0);
    assert_eq!(field(&cli.answers(), "id"), ["r2", "r3", "r4", "r5"]);
    cli.write("in.jsonl", whole);
    cli.job(&server, &[]).exits(0);
    assert_complete(&cli.answers(), 6);
    assert_eq!(server.count(), 6);
}

#[test]
fn another_input_on_the_same_output_is_refused_until_it_is_meant() {
    let server = Server::echo();
    let cli = Cli::with_prompts(6);
    cli.job(&server, &[]).exits(0);
    let before = cli.read("out.jsonl");
    cli.write("in.jsonl", "\"something else\"\n\"entirely\"\n");
    cli.job(&server, &[]).exits(1).says("--drop-unmatched");
    assert_eq!(cli.read("out.jsonl"), before);
    assert_eq!(server.count(), 6);
    cli.job(&server, &["--drop-unmatched"]).exits(0);
    assert_eq!(field(&cli.answers(), "output"), ["echo: something else", "echo: entirely"]);
}

#[test]
fn overwrite_starts_over() {
    let server = Server::echo();
    let cli = Cli::with_prompts(5);
    cli.job(&server, &[]).exits(0);
    cli.job(&server, &["--overwrite"]).exits(0);
    assert_eq!(server.count(), 10);
    assert_complete(&cli.answers(), 5);
}

#[test]
fn an_output_that_is_not_ours_is_not_touched() {
    let server = Server::echo();
    let cli = Cli::with_prompts(2);
    cli.write("out.jsonl", "my only copy\n");
    cli.job(&server, &[]).exits(1).says("out.jsonl").says("--overwrite");
    assert_eq!(cli.read("out.jsonl"), "my only copy\n");
    assert_eq!(server.count(), 0);
}

#[test]
fn an_output_that_is_an_input_is_refused_even_with_overwrite() {
    let server = Server::echo();
    let cli = Cli::with_prompts(2);
    let before = cli.read("in.jsonl");
    for arguments in [
        &["in.jsonl", "-o", "in.jsonl"][..],
        &["in.jsonl", "-o", "in.jsonl", "--overwrite"],
        &["*.jsonl", "-o", "./in.jsonl", "--overwrite"],
    ] {
        cli.run_on(&server, arguments).refuses().says("in.jsonl");
        assert_eq!(cli.read("in.jsonl"), before);
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn an_interrupted_run_keeps_all_it_has_paid_for_and_goes_on_later() {
    let server = slow(20);
    let cli = Cli::with_prompts(200);
    let running = cli.start_job(&server, &["-c", "4"]);
    server.wait_for(40);
    running.interrupt();
    running.wait().exits(130);
    let answers = cli.answers();
    assert_eq!(answers.len(), server.count(), "what was in flight is finished, the rest is not begun");
    assert!(answers.len() < 200);
    assert!(answers.is_sorted_by_key(|row| row["index"].as_u64()));
    cli.job(&server, &["-c", "4"]).exits(0);
    assert_complete(&cli.answers(), 200);
    assert_eq!(server.count(), 200);
}

#[test]
fn a_second_interrupt_does_not_wait_for_what_is_in_flight() {
    let server =
        Server::start(
            |received, _| {
                if received.prompt().ends_with("of 9?") { Reply::Hang } else { Reply::Answer }
            },
        );
    let cli = Cli::with_prompts(10);
    let mut running = cli.start_job(&server, &["-c", "1"]);
    server.wait_for(10);
    running.interrupt();
    assert!(!running.ends_within(Duration::from_millis(500)), "the first waits");
    running.interrupt();
    running.wait().exits(130);
    assert_complete(&cli.answers(), 9);
}

#[test]
fn two_runs_on_one_output_at_once_are_refused() {
    let server = Server::start(|_, _| Reply::Hang);
    let cli = Cli::with_prompts(2);
    let first = cli.start_job(&server, &["-c", "1"]);
    server.wait_for(1);
    cli.job(&server, &[]).exits(1).says("out.jsonl");
    assert_eq!(server.count(), 1);
    first.kill();
}

#[test]
fn a_changed_job_is_refused_until_the_user_says_what_becomes_of_the_answers() {
    let server = Server::echo();
    let cli = Cli::with_prompts(5);
    cli.job(&server, &["--temperature", "0.5"]).exits(0);
    cli.job(&server, &["--temperature", "0.7"]).exits(1).says("--resend").says("--keep-answers");
    assert_eq!(server.count(), 5);
    cli.job(&server, &["--temperature", "0.7", "--keep-answers"]).exits(0);
    assert_eq!(server.count(), 5);
    cli.job(&server, &["--temperature", "0.9", "--resend"]).exits(0);
    assert_eq!(server.count(), 10);
    assert_complete(&cli.answers(), 5);
}

#[test]
fn nothing_of_a_run_is_left_beside_the_output_and_its_folder() {
    let server = Server::echo();
    let cli = Cli::with_prompts(3);
    cli.job(&server, &[]).exits(0);
    let here = cli.path("");
    let mut names: Vec<String> = fs::read_dir(Path::new(&here))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["in.jsonl", "out.jsonl", "out.jsonl.promptmill", "tmp"]);
}

#[test]
fn an_output_in_a_folder_that_is_not_there_makes_no_folder() {
    let server = Server::echo();
    let cli = Cli::with_prompts(1);
    cli.run_on(&server, &["in.jsonl", "-o", "typo/out.jsonl", "-m", "m"]).exits(1).says("typo");
    assert!(!cli.path("typo").exists());
    assert_eq!(server.count(), 0);
}
