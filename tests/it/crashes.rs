//! Death at any moment: after each one, every answer that was written is kept, and in the end every row is answered
//! once. The moments are random but the same in every test run.

use std::collections::HashSet;
use std::fs;

use serde_json::Value;

use crate::cli::{Cli, field};
use crate::random::Random;
use crate::server::Server;

/// The ids of the rows that are on the disk, whatever the process that wrote them thought.
fn written(cli: &Cli) -> HashSet<String> {
    let mut ids = HashSet::new();
    let mut note = |row: &Value| ids.insert(row["id"].as_str().unwrap().to_owned());
    let ledger = fs::read_to_string(cli.path("out.jsonl.promptmill/ledger.jsonl")).unwrap_or_default();
    for line in ledger.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["t"] == "outcome" && line["row"]["status"] == "ok" {
            note(&line["row"]);
        }
    }
    for line in fs::read_to_string(cli.path("out.jsonl")).unwrap_or_default().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        if row["status"] == "ok" {
            note(&row);
        }
    }
    ids
}

/// Asserts that the output has every row once, in order, with its own answer.
fn assert_exact(cli: &Cli, rows: usize) {
    let answers = cli.answers();
    assert_eq!(field(&answers, "index"), (0..rows).collect::<Vec<_>>());
    for (i, row) in answers.iter().enumerate() {
        assert_eq!(row["id"], format!("r{i}"));
        assert_eq!(row["output"], format!("echo: What is the square of {i}?"));
    }
}

#[expect(clippy::print_stderr, reason = "a figure for people, with --nocapture")]
/// Kills a run so many times, and checks after each death that no more than what was in flight is lost.
fn killed_again_and_again(rows: usize, kills: usize, in_flight: usize) -> usize {
    let server = Server::echo();
    let cli = Cli::with_prompts(rows);
    let mut random = Random(0x5eed_0000_0000_0001 + kills as u64);
    let concurrency = in_flight.to_string();
    let mut most = 0;
    for kill in 0..kills {
        let before = server.count();
        let running = cli.start_job(&server, &["-c", &concurrency]);
        // From before the first request to far behind it; some runs end before they are killed.
        let until = random.below(2 * rows / kills);
        if before + until < rows {
            server.wait_for(before + until);
        }
        running.kill();
        let asked = server.prompts();
        let lost = asked.len() - written(&cli).len();
        assert!(lost <= in_flight, "kill {kill}: {lost} rows were asked and not written");
        most = most.max(lost);
        assert!(asked.values().all(|&times| times <= kill + 2));
    }
    cli.job(&server, &["-c", &concurrency]).exits(0);
    assert_exact(&cli, rows);
    let twice = server.count() - rows;
    // A figure for people, with `--nocapture`.
    eprintln!("{kills} kills: {twice} rows asked twice, at most {most} by one kill");
    let finished = server.count();
    cli.job(&server, &[]).exits(0);
    assert_eq!(server.count(), finished, "a finished run sends nothing");
    twice
}

#[test]
fn twenty_kills_lose_no_more_than_what_was_in_flight() {
    let twice = killed_again_and_again(2_000, 20, 32);
    assert!(twice <= 20 * 32);
}

/// `cargo test --release --test it -- --ignored --nocapture two_hundred_kills`
#[test]
#[ignore = "takes minutes; tests/run runs it"]
fn two_hundred_kills_lose_no_more_than_what_was_in_flight() {
    killed_again_and_again(50_000, 200, 256);
}

/// With the feature `fault-points` the process dies at a chosen place, as if the power had failed.
#[cfg(feature = "fault-points")]
mod at_fault_points {
    use serde_json::json;

    use super::*;

    const ROWS: usize = 60;

    /// Where it can die: around each write, flush, fsync and rename.
    const POINTS: [&str; 7] = [
        "before-write",
        "half-written",
        "written",
        "synced",
        "output-written",
        "ledger-written",
        "output-moved",
    ];

    fn die_at(cli: &mut Cli, server: &Server, output: &str, point: &str, nth: usize, lose: bool) -> bool {
        cli.set("PROMPTMILL_DIE_AT", &format!("{point}:{nth}"));
        if lose {
            cli.set("PROMPTMILL_LOSE_UNSYNCED", "1");
        }
        let run = ["in.jsonl", "-o", output, "-c", "4", "--durability", if lose { "row" } else { "1s" }];
        let died = cli.run_on(server, &run).code.is_none();
        cli.unset("PROMPTMILL_DIE_AT");
        cli.unset("PROMPTMILL_LOSE_UNSYNCED");
        died
    }

    #[test]
    fn at_every_point_what_was_written_is_kept_and_the_output_is_exact() {
        let mut deaths = 0;
        for point in POINTS {
            for nth in [1, 2, 3, 5, 9] {
                let server = Server::echo();
                let mut cli = Cli::with_prompts(ROWS);
                // A finished output to lose, too.
                cli.job(&server, &["--limit", "20"]).exits(0);
                deaths += usize::from(die_at(&mut cli, &server, "out.jsonl", point, nth, false));
                let asked = server.prompts();
                let lost = asked.len() - written(&cli).len();
                assert!(lost <= 4, "{point}:{nth}: {lost} rows were asked and not written");
                cli.job(&server, &["-c", "4"]).exits(0);
                assert_exact(&cli, ROWS);
                assert!(server.count() <= ROWS + 4, "{point}:{nth}: what was written was asked again");
                cli.job(&server, &[]).exits(0).says("0 to send");
            }
        }
        assert!(deaths >= POINTS.len(), "only {deaths} runs died");
    }

    #[test]
    fn with_a_sync_for_every_row_a_power_cut_loses_no_finished_row() {
        for point in ["before-write", "half-written", "written", "synced"] {
            for nth in [2, 4, 7] {
                let server = Server::echo();
                let mut cli = Cli::with_prompts(ROWS);
                assert!(die_at(&mut cli, &server, "out.jsonl", point, nth, true), "{point}:{nth}");
                let lost = server.prompts().len() - written(&cli).len();
                assert!(lost <= 4, "{point}:{nth}: {lost} finished rows were lost");
                cli.job(&server, &["-c", "4"]).exits(0);
                assert_exact(&cli, ROWS);
            }
        }
    }

    #[test]
    fn a_table_survives_every_point_too() {
        for point in ["written", "output-written", "output-moved"] {
            for nth in [1, 2, 4] {
                let server = Server::echo();
                let mut cli = Cli::with_prompts(ROWS);
                let run = |rows: &str| cli.run_on(&server, &["in.jsonl", "-o", "out.csv", "--limit", rows]);
                run("20").exits(0);
                die_at(&mut cli, &server, "out.csv", point, nth, false);
                cli.run_on(&server, &["in.jsonl", "-o", "out.csv", "-c", "4"]).exits(0);
                assert_eq!(cli.read("out.csv").lines().count(), ROWS + 1);
                assert!(server.count() <= ROWS + 4, "{point}:{nth}");
            }
        }
    }

    #[test]
    fn an_answer_that_is_half_written_is_no_answer() {
        let server = Server::echo();
        let mut cli = Cli::with_rows(&[json!({"id": "r0", "prompt": "What is the square of 0?"})]);
        assert!(die_at(&mut cli, &server, "out.jsonl", "half-written", 3, false));
        assert!(written(&cli).is_empty());
        cli.job(&server, &[]).exits(0);
        assert_exact(&cli, 1);
        assert_eq!(server.count(), 2);
    }
}
