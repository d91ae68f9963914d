//! What a run keeps of the runs before it: rows that come, go, move and change between them, what it says of them,
//! what it leaves on the disk, and what happens to an output that something else has touched.

use std::fs;

use serde_json::{Value, json};

use crate::cli::{Cli, field, lines};
use crate::server::{Reply, Server};

fn prompt(id: &str, text: &str) -> Value {
    json!({"id": id, "prompt": text})
}

/// A server that refuses the prompts that have this in them, for as long as they are new to it.
fn refusing(text: &'static str, times: usize) -> Server {
    Server::start(move |received, attempt| {
        if received.prompt().contains(text) && attempt <= times {
            Reply::bad_request()
        } else {
            Reply::Answer
        }
    })
}

/// The lengths of the output and of all files in its folder.
fn on_disk(cli: &Cli, output: &str) -> (u64, u64) {
    let length = |path: &std::path::Path| fs::metadata(path).unwrap().len();
    let folder = cli.path(&format!("{output}.promptmill"));
    let files = fs::read_dir(folder).unwrap().map(|entry| length(&entry.unwrap().path()));
    (length(&cli.path(output)), files.sum())
}

#[test]
fn edited_inserted_moved_and_removed_rows_cost_what_is_new_and_are_said_in_one_line() {
    let server = Server::echo();
    let mut rows: Vec<Value> = (0..20).map(|i| prompt(&format!("r{i}"), &format!("Row {i}"))).collect();
    let cli = Cli::with_rows(&rows);
    cli.job(&server, &[]).exits(0);
    for at in [3, 7, 11] {
        rows[at]["prompt"] = json!(format!("Row {at}, edited"));
    }
    rows.remove(5);
    rows.insert(0, prompt("first", "Row before all"));
    rows.push(prompt("last", "Row behind all"));
    let moved = rows.remove(2);
    rows.insert(9, moved);
    cli.write_rows("in.jsonl", &rows);
    let resuming =
        "resuming: 16 kept (1 moved), 3 edited, 2 not answered yet, 1 gone from the input; 5 to send";
    cli.job(&server, &[]).exits(0).says(resuming);
    assert_eq!(server.count(), 25);
    let answers = cli.answers();
    assert_eq!(field(&answers, "index"), (0..21).collect::<Vec<_>>());
    for (row, answer) in rows.iter().zip(&answers) {
        assert_eq!(answer["id"], row["id"]);
        assert_eq!(answer["output"], format!("echo: {}", row["prompt"].as_str().unwrap()));
    }
}

#[test]
fn rows_without_ids_are_known_by_what_they_ask_when_other_columns_change() {
    let server = Server::echo();
    let cli = Cli::new();
    let table = |note: &str| format!("prompt,note\nA,{note}\nB,x\nB,y\nA,{note}{note}\n");
    cli.write("in.csv", table("old"));
    let run = ["in.csv", "-o", "out.jsonl"];
    cli.run_on(&server, &run).exits(0);
    assert_eq!(server.count(), 4);
    cli.write("in.csv", table("new"));
    cli.run_on(&server, &run).exits(0).says("4 kept").says("0 to send");
    assert_eq!(server.count(), 4);
    let notes: Vec<_> = cli.answers().iter().map(|row| row["input"]["note"].clone()).collect();
    assert_eq!(notes, ["new", "x", "y", "newnew"]);
    cli.run_on(&server, &run).exits(0).says("4 kept; 0 to send");
    cli.write("in.csv", format!("{}A,once more\n", table("new")));
    cli.run_on(&server, &run).exits(0).says("4 kept, 1 not answered yet; 1 to send");
    assert_eq!(server.count(), 5);
}

#[test]
fn an_answer_whose_row_is_gone_comes_back_with_it_even_after_other_runs() {
    for output in ["out.jsonl", "out.csv"] {
        let server = Server::echo();
        let cli = Cli::with_prompts(6);
        let whole = cli.read("in.jsonl");
        let run = || cli.run_on(&server, &["in.jsonl", "-o", output]).exits(0);
        run();
        let fewer = lines(whole.lines().skip(2).map(str::to_owned));
        cli.write("in.jsonl", &fewer);
        run().says("2 gone from the input");
        for _ in 0..2 {
            assert!(!run().stderr.contains("gone"), "what is gone is said once");
        }
        cli.write("in.jsonl", fewer.replacen("square of 3", "cube of 3", 1));
        run().says("1 edited");
        cli.write("in.jsonl", &whole);
        run().says("6 kept").says("0 to send");
        assert_eq!(server.count(), 7);
        assert_eq!(cli.read(output).lines().count(), if output.ends_with("csv") { 7 } else { 6 });
    }
}

#[test]
fn a_job_that_changes_again_and_again_is_counted_against_its_last_output_only() {
    let server = Server::echo();
    let cli = Cli::with_prompts(5);
    cli.job(&server, &["--temperature", "0.1"]).exits(0);
    for (round, heat) in ["0.2", "0.3", "0.4"].into_iter().enumerate() {
        cli.job(&server, &["--temperature", heat])
            .exits(1)
            .says("5 of 5 answers")
            .says("these answers cost")
            .says("temperature");
        cli.job(&server, &["--temperature", heat, "--resend"]).exits(0);
        assert_eq!(server.count(), 10 + 5 * round);
        cli.job(&server, &["--temperature", heat]).exits(0).says("5 kept; 0 to send");
    }
    cli.job(&server, &["--temperature", "0.1", "--resend"]).exits(0).says("5 kept");
    assert_eq!(server.count(), 20, "the first answers were never thrown away");
}

#[test]
fn answers_that_are_kept_for_a_changed_job_are_its_own_from_then_on() {
    let server = Server::echo();
    let cli = Cli::with_rows(&[json!({"prompt": "A"}), json!({"prompt": "B"}), prompt("c", "C")]);
    cli.job(&server, &[]).exits(0);
    let template = ["--template", "Say: {{ prompt }}"];
    cli.job(&server, &template).exits(1).says("--keep-answers");
    cli.job(&server, &[&template[..], &["--keep-answers"]].concat()).exits(0).says("3 kept; 0 to send");
    cli.job(&server, &template).exits(0).says("3 kept; 0 to send");
    assert_eq!(server.count(), 3);
}

#[test]
fn failed_rows_are_tried_again_all_of_them_or_some_or_none() {
    let server = Server::start(|received, attempt| match received.prompt().as_str() {
        "bad" if attempt == 1 => Reply::bad_request(),
        "broken" if attempt <= 2 => Reply::broken(),
        _ => Reply::Answer,
    });
    let cli = Cli::with_rows(&[prompt("a", "fine"), prompt("b", "bad"), prompt("c", "broken")]);
    let run = |retry: &str| cli.job(&server, &["--max-attempts", "1", "--retry", retry]);
    run("all").exits(3);
    assert_eq!(server.count(), 3);
    run("none").exits(3).says("1 kept, 2 failed before and left so; 0 to send");
    run("timeout,rate_limited").exits(3);
    assert_eq!(server.count(), 3);
    run("server").exits(3).says("1 failed before, 1 failed before and left so; 1 to send");
    assert_eq!(server.count(), 4);
    assert_eq!(field(&cli.answers(), "status"), ["ok", "error", "error"]);
    assert_eq!(cli.answers()[2]["attempts"], 2, "attempts of all runs count");
    run("all").exits(0);
    assert_eq!(server.count(), 6);
    cli.job(&server, &["--retry", "sometimes"]).exits(2).says("rate_limited");
}

#[test]
fn a_finished_run_leaves_each_answer_on_the_disk_once() {
    let server = Server::echo();
    let long = "Tell me more. ".repeat(100);
    let rows: Vec<Value> = (0..50).map(|i| prompt(&format!("r{i}"), &format!("{i}: {long}"))).collect();
    let cli = Cli::with_rows(&rows);
    for _ in 0..2 {
        cli.job(&server, &[]).exits(0);
        let (output, folder) = on_disk(&cli, "out.jsonl");
        assert!(folder * 8 < output, "{folder} bytes beside {output}");
    }
    assert_eq!(server.count(), 50);
}

#[test]
fn an_output_that_was_removed_is_not_paid_for_again_unasked() {
    let server = Server::echo();
    let cli = Cli::with_prompts(5);
    cli.job(&server, &[]).exits(0);
    let output = cli.read("out.jsonl");
    fs::rename(cli.path("out.jsonl"), cli.path("elsewhere.jsonl")).unwrap();
    cli.job(&server, &[]).exits(1).says("out.jsonl is gone, and 5 answers with it").says("--overwrite");
    assert_eq!(server.count(), 5);
    fs::rename(cli.path("elsewhere.jsonl"), cli.path("out.jsonl")).unwrap();
    cli.job(&server, &[]).exits(0);
    assert_eq!(cli.read("out.jsonl"), output);
    fs::remove_file(cli.path("out.jsonl")).unwrap();
    cli.job(&server, &["--overwrite"]).exits(0);
    assert_eq!(server.count(), 10);
}

#[test]
fn an_output_that_was_edited_is_kept_and_costs_only_the_edited_row() {
    let server = Server::echo();
    let cli = Cli::with_prompts(5);
    cli.job(&server, &[]).exits(0);
    let edited = cli.read("out.jsonl").replacen("echo: What is the square of 3?", "nine, obviously", 1);
    cli.write("out.jsonl", &edited);
    for _ in 0..2 {
        cli.job(&server, &[]).exits(1).says("out.jsonl").says("line").says("rename it");
        assert_eq!(cli.read("out.jsonl"), edited, "what exists is not destroyed");
    }
    fs::rename(cli.path("out.jsonl"), cli.path("mine.jsonl")).unwrap();
    cli.job(&server, &[]).exits(0).says("4 kept, 1 not answered yet; 1 to send");
    assert_eq!(server.count(), 6);
    assert_eq!(cli.read("out.jsonl").lines().count(), 5);
}

#[test]
fn lines_taken_out_of_an_output_are_asked_again_and_no_others() {
    let server = Server::echo();
    let cli = Cli::with_prompts(8);
    cli.job(&server, &[]).exits(0);
    let kept: Vec<String> = cli.read("out.jsonl").lines().map(str::to_owned).collect();
    let fewer = [&kept[6..], &kept[..2], &kept[3..6]].concat();
    cli.write("out.jsonl", lines(fewer));
    cli.job(&server, &[]).exits(0).says("7 kept, 1 not answered yet; 1 to send");
    assert_eq!(server.count(), 9);
    assert_eq!(field(&cli.answers(), "index"), (0..8).collect::<Vec<_>>());
}

#[test]
fn an_output_that_was_only_copied_is_what_it_was() {
    for output in ["out.jsonl", "out.csv"] {
        let server = Server::echo();
        let cli = Cli::with_prompts(5);
        let run = || cli.run_on(&server, &["in.jsonl", "-o", output]);
        run().exits(0);
        let content = cli.read(output);
        fs::remove_file(cli.path(output)).unwrap();
        cli.write(output, &content);
        run().exits(0).says("5 kept; 0 to send");
        assert_eq!(server.count(), 5);
        assert_eq!(cli.read(output), content);
    }
}

#[test]
fn a_table_that_was_edited_is_not_overwritten() {
    let server = Server::echo();
    let cli = Cli::with_prompts(3);
    let run = || cli.run_on(&server, &["in.jsonl", "-o", "out.csv"]);
    run().exits(0);
    let edited = cli.read("out.csv") + "a,remark,of,mine\n";
    cli.write("out.csv", &edited);
    run().exits(1).says("out.csv").says("rename it");
    assert_eq!(cli.read("out.csv"), edited);
    fs::remove_file(cli.path("out.csv")).unwrap();
    run().exits(0).says("3 kept");
    assert_eq!(server.count(), 3);
}

#[cfg(unix)]
#[test]
fn an_output_that_is_a_link_is_written_where_it_leads() {
    let server = Server::echo();
    let cli = Cli::with_prompts(3);
    cli.write("far/away.jsonl", "");
    std::os::unix::fs::symlink("far/away.jsonl", cli.path("out.jsonl")).unwrap();
    cli.job(&server, &["--overwrite"]).exits(0);
    assert!(cli.path("out.jsonl").is_symlink());
    assert_eq!(cli.read("far/away.jsonl").lines().count(), 3);
    cli.job(&server, &[]).exits(0).says("3 kept");
    cli.run(&["report", "out.jsonl"]).exits(0);
    cli.run_on(&server, &["in.jsonl", "-o", "/dev/null"]).exits(1).says("/dev/null");
}

#[test]
fn an_output_that_is_to_look_different_costs_nothing() {
    let server = Server::echo();
    let cli = Cli::with_prompts(8);
    let whole = cli.read("in.jsonl");
    cli.write("in.jsonl", lines(whole.lines().skip(1).map(str::to_owned)));
    cli.job(&server, &[]).exits(0);
    cli.write("in.jsonl", &whole);
    for look in [
        &["--no-input"][..],
        &[],
        &["--order", "completion"],
        &["--output-format", "csv"],
        &["--output-format", "csv", "--order", "completion"],
        &["--no-input"],
        &["--output-format", "csv"],
        &["--offset", "3", "--drop-unmatched"],
        &[],
    ] {
        cli.job(&server, look).exits(0);
        assert_eq!(server.count(), 8, "{look:?}");
        cli.run(&["report", "out.jsonl", "--report", "report.json"]).exits(0);
        let rows = if look.contains(&"3") { 5 } else { 8 };
        assert_eq!(cli.json("report.json")["rows"]["ok"], rows, "{look:?}");
        if look.contains(&"csv") {
            assert_eq!(cli.read("out.jsonl").lines().count(), 9);
            continue;
        }
        let mut answers = cli.answers();
        answers.sort_by_key(|row| row["index"].as_u64());
        let first = 8 - rows;
        assert_eq!(field(&answers, "index"), (first..8).collect::<Vec<_>>(), "{look:?}");
        for row in &answers {
            let input =
                json!({"id": row["id"], "prompt": format!("What is the square of {}?", row["index"])});
            let expected = if look.contains(&"--no-input") { Value::Null } else { input };
            assert_eq!(row["input"], expected, "{look:?}");
        }
    }
}

#[test]
fn every_durability_answers_every_row() {
    for durability in ["off", "row", "10ms", "0s"] {
        let server = Server::echo();
        let cli = Cli::with_prompts(50);
        cli.job(&server, &["--durability", durability]).exits(0);
        cli.job(&server, &["--durability", durability]).exits(0);
        assert_eq!(server.count(), 50);
    }
    Cli::with_prompts(1).run(&["run", "in.jsonl", "-o", "o", "--durability", "never"]).exits(2).says("off");
}

#[test]
fn a_report_counts_the_attempts_of_rows_that_were_not_finished() {
    let server =
        Server::start(
            |received, _| {
                if received.prompt().ends_with("of 3?") { Reply::broken() } else { Reply::Answer }
            },
        );
    let cli = Cli::with_prompts(4);
    let run = ["-c", "1", "--max-attempts", "1000000", "--report", "report.json"];
    let running = cli.start_job(&server, &run);
    server.wait_for(10);
    running.interrupt();
    running.wait().exits(130);
    let sent = server.count();
    for report in [cli.json("report.json"), {
        cli.run(&["report", "out.jsonl", "--report", "again.json"]).exits(0);
        cli.json("again.json")
    }] {
        assert_eq!(report["requests"]["sent"], sent, "{report}");
        assert_eq!(report["requests"]["by_status"]["500"], sent - 3, "{report}");
        assert_eq!(report["rows"]["ok"], 3);
    }
}

#[test]
fn what_a_killed_run_did_is_in_a_report() {
    let server = refusing("of 30?", 1);
    let cli = Cli::with_prompts(40);
    cli.job(&server, &["--limit", "20"]).exits(0);
    let running = cli.start_job(&server, &["-c", "2"]);
    server.wait_for(33);
    running.kill();
    cli.run(&["report", "out.jsonl", "--json"]).exits(0);
    cli.job(&server, &["--report", "run.json"]).exits(0);
    cli.run(&["report", "out.jsonl", "--report", "again.json"]).exits(0);
    for part in ["rows", "requests", "usage", "by_model", "latency_ms"] {
        assert_eq!(cli.json("run.json")[part], cli.json("again.json")[part]);
    }
    assert_eq!(cli.json("run.json")["rows"]["total"], 40);
}
