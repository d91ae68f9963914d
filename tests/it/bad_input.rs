//! Inputs as they really are: a bad row is named by file and line and fails alone; a bad input ends the run.

use serde_json::{Value, json};

use crate::cli::{Cli, assert_failed, field};
use crate::server::Server;

/// Runs an input of three rows whose second is bad, and returns the three; the first and the third are answered.
fn with_bad_second_row(name: &str, content: impl AsRef<[u8]>) -> Vec<Value> {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write(name, content);
    cli.run_on(&server, &[name, "-o", "out.jsonl"]).exits(3);
    let answers = cli.answers();
    assert_eq!(field(&answers, "index"), [0, 1, 2]);
    assert_eq!(field(&answers, "status"), ["ok", "error", "ok"]);
    assert_eq!(answers[0]["output"], "echo: one");
    assert_eq!(answers[2]["output"], "echo: three");
    assert_eq!(answers[1]["attempts"], 0);
    assert_eq!(server.count(), 2);
    answers
}

const BROKEN_JSON: &str = r#"{"prompt": "two", }"#;

#[test]
fn a_line_that_is_not_json_fails_alone_and_is_kept_as_text() {
    let answers = with_bad_second_row("in.jsonl", format!("\"one\"\n{BROKEN_JSON}\n\"three\"\n"));
    assert_failed(&answers[1], "invalid_input", "in.jsonl:2:");
    assert_eq!(answers[1]["id"], "1");
    assert_eq!(answers[1]["input"], BROKEN_JSON);
}

#[test]
fn the_line_of_a_message_counts_blank_lines_and_the_index_does_not() {
    let answers = with_bad_second_row("in.jsonl", "\n\"one\"\n\n\n{\n\n\"three\"\n");
    assert_failed(&answers[1], "invalid_input", "in.jsonl:5:");
}

#[test]
fn a_row_of_a_table_with_too_many_or_too_few_cells_fails_at_the_line_where_it_begins() {
    for bad in ["2,two,more", "2"] {
        let table = format!("id,prompt\n\"1\n\",one\n{bad}\n3,three\n");
        let answers = with_bad_second_row("in.csv", table);
        assert_failed(&answers[1], "invalid_input", "in.csv:4:");
    }
}

#[test]
fn an_id_that_an_earlier_row_has_fails_the_later_row_and_stays_as_it_came() {
    let rows =
        ["{\"id\":7,\"prompt\":\"one\"}", "{\"id\":7,\"prompt\":\"two\"}", "{\"id\":8,\"prompt\":\"three\"}"];
    let answers = with_bad_second_row("in.jsonl", rows.join("\n"));
    assert_failed(&answers[1], "invalid_input", "in.jsonl:2:");
    assert_eq!(field(&answers, "id"), [7, 7, 8]);
}

#[test]
fn a_row_without_a_prompt_is_told_what_is_missing() {
    for bad in [r#"{"text":"two"}"#, r#"{"prompt":null}"#, r#"{"prompt":17}"#] {
        let answers = with_bad_second_row("in.jsonl", format!("\"one\"\n{bad}\n\"three\"\n"));
        assert_failed(&answers[1], "invalid_input", "in.jsonl:2:");
        assert!(answers[1]["error"]["message"].as_str().unwrap().contains("prompt"), "{}", answers[1]);
    }
}

#[test]
fn json_that_is_neither_an_object_nor_a_text_is_no_row() {
    for bad in ["[1]", "12", "null", "true"] {
        let answers = with_bad_second_row("in.jsonl", format!("\"one\"\n{bad}\n\"three\"\n"));
        assert_failed(&answers[1], "invalid_input", "in.jsonl:2:");
    }
}

#[test]
fn broken_utf_8_is_found_to_the_character() {
    let content = [b"\"one\"\n{\"prompt\":\"\xc3\xa4b\xff\"}\n\"three\"\n".as_slice()].concat();
    let answers = with_bad_second_row("in.jsonl", content);
    assert_failed(&answers[1], "invalid_input", "in.jsonl:2:14:");
    let answers = with_bad_second_row("in.csv", b"prompt,note\none,x\n\xfftwo,y\nthree,z\n".as_slice());
    assert_failed(&answers[1], "invalid_input", "in.csv:3:");
}

#[test]
fn a_row_that_is_too_long_fails_alone() {
    let server = Server::echo();
    let cli = Cli::with_rows(&[json!("one"), json!("x".repeat(5_000)), json!("three")]);
    cli.job(&server, &["--max-row-bytes", "4KiB"]).exits(3);
    let answers = cli.answers();
    assert_eq!(field(&answers, "status"), ["ok", "error", "ok"]);
    assert_failed(&answers[1], "invalid_input", "in.jsonl:2:");
}

#[test]
fn a_mark_at_the_beginning_and_windows_line_ends_are_no_part_of_the_text() {
    let inputs = [
        ("in.jsonl", "\u{feff}{\"id\":\"a\",\"prompt\":\"one\"}\r\n{\"id\":\"b\",\"prompt\":\"two\"}\r\n"),
        ("in.csv", "\u{feff}id,prompt\r\na,one\r\nb,two\r\n"),
        ("in.json", "\u{feff}[{\"id\":\"a\",\"prompt\":\"one\"},\r\n{\"id\":\"b\",\"prompt\":\"two\"}]\r\n"),
    ];
    for (name, content) in inputs {
        let server = Server::echo();
        let cli = Cli::new();
        cli.write(name, content);
        cli.run_on(&server, &[name, "-o", "out.jsonl"]).exits(0);
        assert_eq!(field(&cli.answers(), "output"), ["echo: one", "echo: two"], "{name}");
        assert_eq!(field(&cli.answers(), "id"), ["a", "b"], "{name}");
    }
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("in.txt", "\u{feff}one\r\ntwo\r\n");
    cli.run_on(&server, &["in.txt", "-o", "out.jsonl"]).exits(0);
    assert_eq!(field(&cli.answers(), "output"), ["echo: one", "echo: two"]);
}

#[test]
fn an_input_that_cannot_be_read_ends_the_run_before_anything_is_sent() {
    let server = Server::echo();
    let cli = Cli::with_prompts(3);
    cli.write("in.xyz", "?");
    for missing in ["missing.jsonl", "none-*.jsonl", "tmp", "in.xyz"] {
        cli.run_on(&server, &["in.jsonl", missing, "-o", "out.jsonl"]).refuses().says(missing);
    }
    assert_eq!(server.count(), 0);
    assert!(!cli.path("out.jsonl").exists());
}

#[test]
fn a_compressed_input_that_was_cut_ends_the_run_with_its_name() {
    let server = Server::echo();
    let cli = Cli::new();
    let whole = zstd::encode_all("{\"prompt\":\"one\"}\n".repeat(50_000).as_bytes(), 0).unwrap();
    cli.write("cut.jsonl.zst", &whole[..whole.len() / 2]);
    cli.run_on(&server, &["cut.jsonl.zst", "-o", "out.jsonl"]).exits(1).says("cut.jsonl.zst");
}

#[test]
fn a_table_without_the_column_of_the_prompt_sends_nothing_and_says_what_is_missing() {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("in.csv", "id,question\n1,one\n");
    let finished = cli.run_on(&server, &["in.csv", "-o", "out.jsonl"]);
    assert!(matches!(finished.code, Some(1..=3)), "{finished:?}");
    finished.says("prompt");
    assert_eq!(server.count(), 0);
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    let server = Server::echo();
    let cli = Cli::with_prompts(1);
    for arguments in [&["--temprature", "1"][..], &["--input-format", "xls"], &["--output-format", "xls"]] {
        cli.job(&server, arguments).exits(2).says(arguments[0]);
    }
    cli.run(&["run"]).exits(2);
    cli.run(&["walk"]).exits(2).says("walk");
    assert_eq!(server.count(), 0);
}
