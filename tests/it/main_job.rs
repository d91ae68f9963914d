//! The main job: rows in, answers out, each where it belongs.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::answer::Usage;
use crate::cli::{Cli, field, lines, rows_of};
use crate::server::{Reply, Server};

/// A prompt that is awkward to carry through JSON, files and pipes, another one for each number.
fn awkward(i: usize) -> String {
    match i % 12 {
        0 => format!("say \"{i}\" and \\\"{i}\\\""),
        1 => format!("C:\\new\\table\\{i}\\u0041"),
        2 => format!("first line {i}\nsecond\r\nthird\tend\n"),
        3 => format!("emoji 👩‍👩‍👧‍👦🏳️‍🌈 {i} 🧪"),
        4 => format!("nul \u{0} and bell \u{7} {i}"),
        5 => format!("שלום עולם {i} مرحبا \u{202e}reversed\u{202c}"),
        6 => format!("line\u{2028}separator\u{2029}{i}\u{85}"),
        7 if i.is_multiple_of(5) => format!("long {i} ").repeat(4_000),
        7 => format!("{i}: {{\"json\": [1, 2, {{}}]}}, <b>&amp;</b>"),
        8 => format!("  spaces around {i}  "),
        9 => format!("汉字かな交じり文 {i} 한국어"),
        10 => format!("{{{{ not.a.template }}}} {{% {i} %}} ${{HOME}} %s"),
        _ => format!("e\u{301}\u{200b}\u{feff} {i} \u{10ffff}"),
    }
}

/// The same JSON with everything but ASCII escaped, surrogate pairs included.
fn escaped(row: &Value) -> String {
    let escape = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    row.to_string().encode_utf16().map(escape).collect()
}

fn sum_of_usage(rows: &[Value]) -> Usage {
    rows.iter().map(|row| Usage::read(&row["usage"])).sum()
}

#[test]
fn ten_thousand_awkward_rows_come_back_in_order_each_with_its_own_answer_and_every_token_counted() {
    const ROWS: usize = 10_000;
    let server = Server::start(|_, _| Reply::Answer.after(Duration::from_millis(2)));
    let cli = Cli::new();
    let rows: Vec<Value> =
        (0..ROWS).map(|i| json!({"id": format!("row-{i}"), "prompt": awkward(i)})).collect();
    let texts = rows.iter().enumerate();
    let texts = texts.map(|(i, row)| if (i / 12).is_multiple_of(2) { row.to_string() } else { escaped(row) });
    cli.write("in.jsonl", lines(texts));

    cli.job(&server, &["-c", "64", "--report", "report.json"]).exits(0);

    let answers = cli.answers();
    assert_eq!(answers.len(), ROWS);
    for (i, answer) in answers.iter().enumerate() {
        let (prompt, text) = (awkward(i), format!("echo: {}", awkward(i)));
        assert_eq!(answer["index"], i);
        assert_eq!(answer["id"], format!("row-{i}"));
        assert_eq!(answer["status"], "ok");
        assert_eq!(answer["output"], text);
        assert_eq!(answer["finish_reason"], "stop");
        assert_eq!(answer["attempts"], 1);
        assert_eq!(answer["input"], rows[i]);
        assert_eq!(Usage::read(&answer["usage"]), Usage::of(&prompt, &text));
    }
    assert_eq!(server.count(), ROWS);
    assert_eq!(sum_of_usage(&answers), server.billed());
    let report = cli.json("report.json");
    assert_eq!(Usage::read(&report["usage"]), server.billed());
    assert_eq!(report["rows"]["ok"], ROWS);
    assert_eq!(report["requests"], json!({"sent": ROWS, "retried": 0, "by_status": {"200": ROWS}}));
    let most = server.max_in_flight();
    assert!((32..=64).contains(&most), "{most} in flight at once");
}

#[test]
fn no_more_requests_are_in_flight_than_asked_for_even_when_many_are_retried() {
    let server = Server::start(|_, attempt| {
        let reply = if attempt == 1 { Reply::broken() } else { Reply::Answer };
        reply.after(Duration::from_millis(2))
    });
    Cli::with_prompts(300).job(&server, &["-c", "7"]).exits(0);
    assert_eq!(server.count(), 600);
    assert_eq!(server.max_in_flight(), 7);
}

/// A table with everything that a spreadsheet puts into cells.
const TABLE: &str = "id,prompt,note,\"odd, name\"\r\n\
    1,\"Two lines:\none\r\ntwo\n\",\"she said \"\"no\"\"\",plain\r\n\
    2,汉字 👩‍👧 שלום,\"a, b\", spaces \r\n\
    003,\"\"\"quoted\"\"\",,\"\n\"\r\n\
    4,x,\"tab\there\",\\backslash\r\n";

fn records(table: &str) -> Vec<csv::ByteRecord> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(table.as_bytes());
    reader.byte_records().map(Result::unwrap).collect()
}

#[test]
fn the_columns_of_a_csv_come_out_byte_for_byte_with_the_answers_behind_them() {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("in.csv", TABLE);
    cli.run_on(&server, &["in.csv", "-o", "out.csv"]).exits(0);

    let (before, after) = (records(TABLE), records(&cli.read("out.csv")));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        let kept: Vec<&[u8]> = after.iter().take(before.len()).collect();
        assert_eq!(kept, before.iter().collect::<Vec<_>>());
    }
    let added: Vec<&[u8]> = after[0].iter().skip(before[0].len()).collect();
    let names = "output,status,finish_reason,model,prompt_tokens,completion_tokens,total_tokens,cost_usd,\
        attempts,latency_ms,error";
    assert_eq!(added, names.split(',').map(str::as_bytes).collect::<Vec<_>>());
    for row in &after[1..] {
        assert_eq!(row[4], [b"echo: ", &row[1]].concat());
        assert_eq!(&row[5], b"ok");
    }
}

#[test]
fn a_csv_column_that_has_the_name_of_one_of_ours_is_kept_and_ours_gets_a_prefix() {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("in.csv", "prompt,status,output\nhello,draft,none yet\n");
    cli.run_on(&server, &["in.csv", "-o", "out.csv"]).exits(0);
    let table = cli.read("out.csv");
    assert!(table.starts_with("prompt,status,output,pm_output,pm_status,finish_reason,"), "{table}");
    assert!(table.contains("\nhello,draft,none yet,echo: hello,ok,stop,"), "{table}");
}

#[test]
fn a_row_of_a_csv_is_an_object_of_its_cells_in_jsonl_output() {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("in.csv", TABLE);
    cli.run_on(&server, &["in.csv", "-o", "out.jsonl"]).exits(0);
    let answers = cli.answers();
    assert_eq!(field(&answers, "id"), ["1", "2", "003", "4"]);
    let input = json!({"id": "2", "prompt": "汉字 👩‍👧 שלום", "note": "a, b", "odd, name": " spaces "});
    assert_eq!(answers[1]["input"], input);
}

#[test]
fn the_input_object_keeps_its_numbers_and_its_order_as_written() {
    let server = Server::echo();
    let cli = Cli::new();
    let row = r#"{"z":1.0,"prompt":"hello","a":12345678901234567890123,"m":1e5,"e":"\u00e9"}"#;
    cli.write("in.jsonl", format!("{row}\n"));
    cli.job(&server, &[]).exits(0);
    let line = cli.read("out.jsonl");
    assert!(line.contains(&format!("\"input\":{row}")), "{line}");
}

#[test]
fn in_order_of_completion_a_slow_row_comes_last() {
    let server = Server::start(|received, _| {
        let wait = if received.prompt() == "slow" { 400 } else { 0 };
        Reply::Answer.after(Duration::from_millis(wait))
    });
    let cli = Cli::with_rows(&["slow", "a", "b", "c"].map(|prompt| json!({"prompt": prompt})));
    cli.job(&server, &["-c", "2", "--order", "completion"]).exits(0);
    let answers = cli.answers();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[3]["index"], 0);
    assert_eq!(answers[3]["output"], "echo: slow");
}

#[test]
fn the_input_is_left_out_when_not_wanted() {
    let server = Server::echo();
    let cli = Cli::with_prompts(2);
    cli.job(&server, &["--no-input"]).exits(0);
    assert!(cli.answers().iter().all(|row| row.get("input").is_none() && row["status"] == "ok"));
}

#[test]
fn the_body_is_kept_as_it_came_when_asked_for() {
    let body = r#"{"id":"x","object":"chat.completion","vendor":{"b":1.50,"a":2},"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":null}"#;
    let server = Server::start(|_, _| Reply::Status(200, Vec::new(), body.to_owned()));
    let cli = Cli::with_prompts(1);
    cli.job(&server, &["--include-response"]).exits(0);
    assert!(cli.read("out.jsonl").contains(&format!("\"response\":{body}")));
    let answer = &cli.answers()[0];
    assert_eq!(answer["output"], "hi");
    assert_eq!(answer["model"], "m");
    assert_eq!(answer["usage"]["prompt_tokens"], Value::Null, "what the server did not say is null, not 0");
}

#[test]
fn a_dash_writes_the_rows_and_nothing_else_to_standard_output() {
    let server = Server::echo();
    let cli = Cli::with_prompts(20);
    let finished = cli.run_on(&server, &["in.jsonl", "-o", "-"]).exits(0);
    let mut answers = rows_of(&finished.stdout);
    answers.sort_by_key(|row| row["index"].as_u64());
    assert_eq!(field(&answers, "index"), (0..20).collect::<Vec<_>>());
    assert!(answers.iter().all(|row| row["status"] == "ok"));
}

#[test]
fn without_a_dash_standard_output_stays_empty() {
    let server = Server::echo();
    let finished = Cli::with_prompts(3).job(&server, &[]).exits(0);
    assert_eq!(finished.stdout, "");
}

/// Runs a job on one input and returns the answers.
fn answers_for(name: &str, content: impl AsRef<[u8]>) -> Vec<Value> {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write(name, content);
    cli.run_on(&server, &[name, "-o", "out.jsonl"]).exits(0);
    cli.answers()
}

const TWO_ROWS: &str = "{\"prompt\":\"one\"}\n{\"prompt\":\"two\"}\n";
const TWO_ANSWERS: [&str; 2] = ["echo: one", "echo: two"];

#[test]
fn every_input_format_is_known_by_its_extension() {
    let array = "[\n  {\"prompt\":\n \"one\"}, {\"prompt\":\"two\"}\n]";
    let inputs = [
        ("in.jsonl", TWO_ROWS),
        ("in.ndjson", TWO_ROWS),
        ("in.json", array),
        ("in.csv", "prompt,x\none,1\ntwo,2\n"),
        ("in.tsv", "prompt\tx\none\t1\ntwo\t2\n"),
        ("in.txt", "one\n\ntwo\n"),
        ("in.jsonl", "\"one\"\n\n\"two\""),
    ];
    for (name, content) in inputs {
        let answers = answers_for(name, content);
        assert_eq!(field(&answers, "output"), TWO_ANSWERS, "{name}");
        assert_eq!(field(&answers, "index"), [0, 1], "{name}");
        assert_eq!(field(&answers, "id"), ["0", "1"], "{name}");
    }
}

#[test]
fn compressed_inputs_are_read_as_what_they_hold() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(TWO_ROWS.as_bytes()).unwrap();
    assert_eq!(field(&answers_for("in.jsonl.gz", gzip.finish().unwrap()), "output"), TWO_ANSWERS);
    let zstandard = zstd::encode_all(TWO_ROWS.as_bytes(), 0).unwrap();
    assert_eq!(field(&answers_for("in.jsonl.zst", zstandard), "output"), TWO_ANSWERS);
}

#[test]
fn a_dash_reads_standard_input() {
    let server = Server::echo();
    let cli = Cli::new();
    let url = server.base_url();
    let arguments = ["run", "-", "--input-format", "txt", "-o", "out.jsonl", "--base-url", &url, "-m", "m"];
    cli.run_with_input(&arguments, "one\ntwo\n").exits(0);
    assert_eq!(field(&cli.answers(), "output"), TWO_ANSWERS);
}

#[test]
fn several_inputs_and_a_quoted_glob_are_one_sequence_of_rows() {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("last.txt", "four\n");
    cli.write("parts/b.jsonl", "{\"prompt\":\"three\"}");
    cli.write("parts/a.jsonl", TWO_ROWS);
    cli.run_on(&server, &["parts/*.jsonl", "last.txt", "-o", "out.jsonl"]).exits(0);
    let answers = cli.answers();
    assert_eq!(field(&answers, "output"), ["echo: one", "echo: two", "echo: three", "echo: four"]);
    assert_eq!(field(&answers, "index"), [0, 1, 2, 3]);
}

#[test]
fn a_part_of_the_rows_keeps_the_index_that_it_has_in_the_whole() {
    let server = Server::echo();
    let cli = Cli::with_prompts(10);
    cli.job(&server, &["--offset", "3", "--limit", "4"]).exits(0);
    let answers = cli.answers();
    assert_eq!(field(&answers, "index"), [3, 4, 5, 6]);
    assert_eq!(field(&answers, "id"), ["r3", "r4", "r5", "r6"]);
    assert_eq!(server.count(), 4);
}

#[test]
fn ids_come_out_as_they_came_from_the_field_that_is_named() {
    let server = Server::echo();
    let rows = [json!({"key": 7, "question": "one", "id": "other"}), json!({"key": "x", "question": "two"})];
    let cli = Cli::with_rows(&rows);
    cli.job(&server, &["--id-field", "key", "--prompt-field", "question"]).exits(0);
    let answers = cli.answers();
    assert_eq!(field(&answers, "id"), [&json!(7), &json!("x")]);
    assert_eq!(field(&answers, "output"), TWO_ANSWERS);
}

#[test]
fn several_answers_to_a_row_stand_beside_the_first() {
    let server = Server::echo();
    let cli = Cli::with_rows(&[json!({"prompt": ["one", "two"]})]);
    cli.job(&server, &["--endpoint", "completions", "--n", "2"]).exits(0);
    let answer = &cli.answers()[0];
    assert_eq!(answer["output"], "echo: one");
    assert_eq!(answer["outputs"], json!(["echo: one", "echo: one", "echo: two", "echo: two"]));
}

#[test]
fn a_streamed_run_has_the_same_answers_and_the_time_to_the_first_token() {
    let server = Server::echo();
    for endpoint in ["chat", "completions"] {
        let cli = Cli::with_prompts(5);
        cli.job(&server, &["--endpoint", endpoint, "--stream"]).exits(0);
        let streamed = cli.answers();
        cli.job(&server, &["--endpoint", endpoint, "--overwrite"]).exits(0);
        for (streamed, whole) in streamed.iter().zip(&cli.answers()) {
            for name in ["id", "index", "status", "output", "finish_reason", "model", "usage", "attempts"] {
                assert_eq!(streamed[name], whole[name], "{endpoint}: {name}");
            }
            assert!(streamed["ttft_ms"].as_f64().unwrap() <= streamed["latency_ms"].as_f64().unwrap());
            assert!(whole.get("ttft_ms").is_none());
        }
    }
}
