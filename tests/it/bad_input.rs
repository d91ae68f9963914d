//! Inputs as they really are: a bad row is named by file and line and fails alone; a bad input ends the run.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{Cli, MODEL, assert_failed, field, lines};
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

#[test]
fn other_encodings_are_named_with_what_to_do_and_nothing_is_sent() {
    let server = Server::echo();
    let cli = Cli::new();
    let text = "{\"prompt\":\"one\"}\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let wide: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    let marked = |mark: &[u8], text: &[u8]| [mark, text].concat();
    for (content, encoding) in [
        (marked(b"\xff\xfe", &little), "UTF-16"),
        (marked(b"\xfe\xff", &big), "UTF-16"),
        (little, "UTF-16LE"),
        (big, "UTF-16BE"),
        (marked(b"\xff\xfe\0\0", &wide), "UTF-32"),
    ] {
        cli.write("in.jsonl", content);
        let finished = cli.job(&server, &[]).exits(1);
        finished.says(format!("in.jsonl: is {encoding}; convert it to UTF-8: iconv -f {encoding} -t UTF-8"));
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn an_input_without_rows_is_no_error_but_is_said() {
    let server = Server::echo();
    let cli = Cli::new();
    for (name, content) in
        [("in.jsonl", ""), ("in.csv", "id,prompt\n"), ("in.json", "[]"), ("in.txt", "\n\n")]
    {
        cli.write(name, content);
        let finished = cli.run_on(&server, &[name, "-o", "out.jsonl", "--overwrite"]).exits(0);
        finished.says(format!("warning: there are no rows to answer in {name}"));
        assert_eq!(cli.read("out.jsonl"), "");
    }
    let url = server.base_url();
    let job = ["run", "-", "-o", "-", "-m", MODEL, "--base-url", &url];
    cli.run_with_input(&job, "").exits(0).says("warning: there are no rows to answer in -");
}

#[test]
fn a_job_without_any_model_is_one_error_before_anything_is_sent() {
    let server = Server::echo();
    let cli = Cli::with_prompts(60);
    let url = server.base_url();
    let job = |input| {
        ["run", input, "-o", "out.jsonl", "--base-url", &url, "--progress", "none"].map(str::to_owned)
    };
    let run = |input| cli.run(&job(input).each_ref().map(String::as_str));
    let finished = run("in.jsonl").exits(2).says("error: no model: name one with -m");
    assert_eq!(finished.stderr.matches("no model").count(), 1, "{}", finished.stderr);
    assert!(!cli.path("out.jsonl").exists() && !cli.path("out.jsonl.promptmill").exists());
    assert_eq!(server.count(), 0);

    cli.write("own.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\",\"params\":{\"model\":\"mine\"}}\n");
    run("own.jsonl").exits(3);
    assert_eq!(server.only().json()["model"], "mine");
    cli.write("own.csv", "prompt,param.model\na,theirs\n");
    cli.run(&[&job("own.csv").each_ref().map(String::as_str)[..], &["--overwrite"]].concat()).exits(0);
    assert_eq!(server.received()[1].json()["model"], "theirs");
    let body = json!({"model": "batched", "messages": [{"role": "user", "content": "c"}]});
    cli.write_rows(
        "batch.jsonl",
        &[json!({"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body})],
    );
    cli.run(&[&job("batch.jsonl").each_ref().map(String::as_str)[..], &["--overwrite"]].concat()).exits(0);
    assert_eq!(server.received()[2].json()["model"], "batched");
}

#[test]
fn a_missing_folder_is_named_and_not_what_was_to_be_made_in_it() {
    let server = Server::echo();
    let cli = Cli::with_prompts(1);
    let finished = cli.run_on(&server, &["in.jsonl", "-o", "results/2026/out.jsonl"]).exits(1);
    let finished = finished.says("error: -o results/2026/out.jsonl: there is no folder results/2026");
    assert!(!finished.stderr.contains(".promptmill"), "{}", finished.stderr);
}

#[test]
fn a_template_that_names_a_field_the_row_lacks_is_told_what_it_has_and_what_it_cannot_use() {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for (row, expected) in [
        (
            r#"{"title":"a","body":"b"}"#.to_owned(),
            "`text` is undefined; a row has no such field; it has: body, title",
        ),
        (
            r#"{"title":"a","text":1e999}"#.into(),
            "it has: title; a template cannot use: text (number out of range)",
        ),
        (r#"{"title":"a","text":"\ud800"}"#.into(), "a template cannot use: text (half of a surrogate pair"),
        (
            format!(r#"{{"title":"a","text":{deep}}}"#),
            "a template cannot use: text (nested more than 127 deep)",
        ),
    ] {
        let server = Server::echo();
        let cli = Cli::new();
        cli.write("in.jsonl", format!("{row}\n{{\"text\":\"two\",\"other\":{deep}}}\n"));
        cli.job(&server, &["--template", "{{ text }}"]).exits(3);
        let answers = texts(&cli.read("out.jsonl"));
        assert!(
            answers[0].contains("\"invalid_input\",\"message\":\"in.jsonl:1: --template:1: "),
            "{}",
            answers[0]
        );
        assert!(answers[0].contains(expected), "{}", answers[0]);
        let echoed = answers[1].contains("\"output\":\"echo: two\"");
        assert!(echoed, "what the template does not use may be anything: {}", answers[1]);
    }
}

#[test]
fn json_at_its_limits_breaks_no_row_but_its_own() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let (arrays, objects) = (deep("[", "]"), deep("{\"a\":", "}"));
    let params = |value: &str| format!(r#"{{"prompt":"x","params":{value}}}"#);
    let failing = [
        (arrays.clone(), "expected an object or a string, found an array"),
        ("[".repeat(100_000), "broken JSON"),
        (format!(r#"{{"prompt":{arrays}}}"#), "must be a string"),
        (params(&format!(r#"{{"x":{objects}}}"#)), "field \"params\": nested more than 127 deep"),
        (params(r#"{"temperature":1e999}"#), "field \"params\": number out of range"),
        (params(r#"{"max_tokens":99999999999999999999999}"#), "params.max_tokens must be a whole number"),
        (params(r#"{"top_p":-1e300}"#), "params.top_p"),
        (r#"{"prompt":"\ud800 alone"}"#.into(), "field \"prompt\": half of a surrogate pair"),
        (r#"{"prompt":"x","id":"\udc00"}"#.into(), "field \"id\": "),
        ("\0\0\0".into(), "in.jsonl:14:1: broken JSON"),
        (
            "{\"prompt\":\"a\"}\r{\"prompt\":\"b\"}".into(),
            "if the lines end with CR alone, convert them to LF",
        ),
    ];
    let answered = [
        (format!(r#"{{"prompt":"deep","x":{arrays},"y":{objects}}}"#), "echo: deep"),
        (r#"{"prompt":"huge","id":1e400,"x":123456789012345678901234567890}"#.into(), "echo: huge"),
        (r#"{"prompt":"first","prompt":"last"}"#.into(), "echo: last"),
        (r#"{"prompt":"nul \u0000"}"#.into(), "echo: nul \0"),
    ];
    let server = Server::echo();
    let cli = Cli::new();
    let rows = answered.iter().map(|(row, _)| row).chain(failing.iter().map(|(row, _)| row));
    cli.write("in.jsonl", lines(rows.cloned()));
    // Twice: what was written is read again.
    for _ in 0..2 {
        cli.job(&server, &[]).exits(3);
        let answers = texts(&cli.read("out.jsonl"));
        for (i, (_, output)) in answered.iter().enumerate() {
            assert!(answers[i].contains(&format!("\"output\":{}", json!(output))), "{:.300}", answers[i]);
        }
        for (i, (_, message)) in failing.iter().enumerate() {
            let row = &answers[answered.len() + i];
            assert!(row.contains("\"kind\":\"invalid_input\""), "{row:.300}");
            assert!(row.contains(&format!("in.jsonl:{}:", answered.len() + i + 1)), "{row:.300}");
            assert!(row.contains(json!(message).to_string().trim_matches('"')), "{message}: {row:.400}");
        }
    }
    assert_eq!(server.count(), answered.len());
    cli.run(&["report", "out.jsonl"]).exits(0);
    cli.run_on(&server, &["in.jsonl", "-o", "out.csv"]).exits(3);
}

/// The lines of a text. Not every JSON parser goes as deep as these.
fn texts(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn two_columns_of_one_name_are_refused_with_their_places() {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("in.csv", "id,prompt,prompt\n1,a,b\n");
    let finished = cli.run_on(&server, &["in.csv", "-o", "out.jsonl"]).exits(1);
    finished.says("in.csv:1: columns 2 and 3 are both named \"prompt\"");
    assert_eq!(server.count(), 0);
}

#[test]
fn a_line_of_a_gigabyte_fails_alone_in_bounded_memory() {
    // In a table every byte is looked at, which takes longer.
    for (name, head, line, bytes) in
        [("in.jsonl", "\"one\"\n", 2, 1 << 30), ("in.csv", "prompt\none\n", 3, 128 << 20)]
    {
        let server = Server::echo();
        let cli = Cli::new();
        cli.write(name, head);
        let mut file = File::options().append(true).open(cli.path(name)).unwrap();
        file.set_len(head.len() as u64 + bytes).unwrap();
        file.write_all(b"\n\"three\"\n").unwrap();
        let mut running = cli.start_on(&server, &[name, "-o", "out.jsonl", "--max-row-bytes", "1MiB"]);
        let mut peak = 0;
        while !running.ends_within(Duration::from_millis(50)) {
            peak = running.peak_memory().max(peak);
        }
        running.wait().exits(3);
        let answers = cli.answers();
        assert_eq!(field(&answers, "status"), ["ok", "error", "ok"]);
        let message = format!("{name}:{line}: row is longer than 1 MiB; raise --max-row-bytes");
        assert_failed(&answers[1], "invalid_input", &message);
        assert!(0 < peak && peak < 64 << 20, "{name}: {peak} bytes were used");
    }
}

#[test]
#[cfg(unix)]
fn a_pipe_with_a_name_is_read_once_also_when_its_rows_are_needed_twice() {
    let server = Server::echo();
    let cli = Cli::with_prompts(20);
    assert!(Command::new("mkfifo").arg(cli.path("pipe.jsonl")).status().unwrap().success());
    let run = |arguments: &[&str], input: &str| {
        let mut running = cli.start_on(&server, &[&["pipe.jsonl", "-o", "out.jsonl"], arguments].concat());
        std::fs::write(cli.path("pipe.jsonl"), input).unwrap();
        assert!(running.ends_within(Duration::from_secs(20)));
        running.wait()
    };
    let all = cli.read("in.jsonl");
    let half: String = all.lines().take(10).map(|line| line.to_owned() + "\n").collect();
    run(&["--strict"], &half).exits(0);
    assert_eq!(cli.answers().len(), 10);
    run(&[], &all).exits(0);
    assert_eq!((cli.answers().len(), server.count()), (20, 20));
    let finished = run(&["--strict"], &(all + "{\n")).exits(1);
    finished.says("pipe.jsonl:21:");
    assert_eq!(std::fs::read_dir(cli.path("tmp")).unwrap().count(), 0, "no copy is left");
}
