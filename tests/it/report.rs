//! The report: the same figures at the end of the run, in files, and again from the output alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::Usage;
use crate::cli::{Cli, MODEL};
use crate::server::{Reply, Server};

/// Twenty rows: one fails for good, one with a reset and one with an error are tried again, one names another model.
fn mixed_run() -> (Cli, Server) {
    let server = Server::start(|received, attempt| match received.prompt().as_str() {
        "bad" => Reply::bad_request(),
        "reset" if attempt == 1 => Reply::Reset,
        "broken" if attempt == 1 => Reply::broken(),
        _ => Reply::Answer.after(Duration::from_millis(2)),
    });
    let mut rows: Vec<Value> =
        (0..16).map(|i| json!({"id": i, "prompt": format!("prompt number {i}")})).collect();
    rows.extend(["bad", "reset", "broken"].map(|prompt| json!({"id": prompt, "prompt": prompt})));
    rows.push(json!({"id": "other", "prompt": "another model", "params": {"model": "large-1"}}));
    let cli = Cli::with_rows(&rows);
    let arguments = ["-c", "2", "--report", "report.json", "--report", "report.md"];
    cli.job(&server, &arguments).exits(3);
    (cli, server)
}

/// `promptmill report` of an output, as JSON.
fn report_of(cli: &Cli, output: &str) -> Value {
    serde_json::from_str(&cli.run(&["report", output, "--json"]).exits(0).stdout).unwrap()
}

#[test]
fn the_report_has_every_figure_and_each_is_what_the_server_saw() {
    let (cli, server) = mixed_run();
    let report = cli.json("report.json");
    assert_eq!(report["rows"], json!({"total": 20, "ok": 19, "failed": 1, "cached": 0, "resumed": 0}));
    let by_status = json!({"200": 19, "400": 1, "500": 1, "none": 1});
    assert_eq!(report["requests"], json!({"sent": server.count(), "retried": 2, "by_status": by_status}));
    assert_eq!(Usage::read(&report["usage"]), server.billed());
    assert_eq!(report["usage"]["wasted_tokens"], 0);
    assert!(report["cost"]["unpriced_rows"].as_u64().unwrap() >= 19, "{}", report["cost"]);

    let latency = ["p50", "p90", "p99", "max"].map(|name| report["latency_ms"][name].as_f64().unwrap());
    assert!(latency.is_sorted() && latency[0] > 0.0, "{latency:?}");
    let mean = report["latency_ms"]["mean"].as_f64().unwrap();
    assert!(mean > 0.0 && mean <= latency[3]);
    assert!(report["throughput"]["rows_per_s"].as_f64().unwrap() > 0.0);
    assert!(report["throughput"]["completion_tokens_per_s"].as_f64().unwrap() > 0.0);
    assert!(report["wall_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_report_says_how_the_endpoint_was_used() {
    let (cli, server) = mixed_run();
    let endpoint = json!({
        "base_url": server.base_url(), "requests": server.count(), "refused": 0, "most_in_flight": 2,
        "concurrency": 2, "adaptive": false, "requests_per_minute": null, "tokens_per_minute": null,
    });
    assert_eq!(cli.json("report.json")["endpoints"], json!([endpoint]));
    assert!(cli.read("report.md").contains("at most 2 in flight"));
    let shown = cli.run(&["report", "out.jsonl"]).exits(0).stdout;
    assert!(shown.contains("at most 2 in flight (limit 2)"), "{shown}");

    // Two outputs from one endpoint: it is one endpoint.
    cli.run_on(&server, &["in.jsonl", "-o", "again.jsonl"]).exits(3);
    let both = cli.run(&["report", "out.jsonl", "again.jsonl", "--json"]).exits(0).stdout;
    let both: Value = serde_json::from_str(&both).unwrap();
    assert_eq!(both["endpoints"].as_array().unwrap().len(), 1);
    assert_eq!(both["endpoints"][0]["requests"], server.count());
}

#[test]
fn the_report_tells_models_and_errors_apart() {
    let (cli, server) = mixed_run();
    let report = cli.json("report.json");
    let models = report["by_model"].as_array().unwrap();
    let model = |name: &str| models.iter().find(|entry| entry["model"] == name).unwrap();
    assert_eq!(models.len(), 2);
    assert_eq!(Usage::read(&model("large-1")["usage"]), Usage::of("another model", "echo: another model"));
    assert_eq!(model("large-1")["rows"], 1);
    let both = [MODEL, "large-1"].map(|name| Usage::read(&model(name)["usage"]));
    assert_eq!(both.into_iter().sum::<Usage>(), server.billed());

    let errors = report["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0]["kind"], "bad_request");
    assert_eq!(errors[0]["status"], 400);
    assert_eq!(errors[0]["count"], 1);
    assert_eq!(errors[0]["example"]["id"], "bad");
    assert!(errors[0]["example"]["message"].as_str().unwrap().contains("this prompt is not wanted"));
}

#[test]
fn the_report_from_the_output_alone_is_the_one_that_was_written() {
    let (cli, _server) = mixed_run();
    let (written, computed) = (cli.json("report.json"), report_of(&cli, "out.jsonl"));
    for part in ["rows", "requests", "usage", "cost", "by_model", "errors", "latency_ms", "endpoints"] {
        assert_eq!(computed[part], written[part], "{part}");
    }
}

#[test]
fn an_output_that_was_copied_elsewhere_still_reports() {
    let (cli, _server) = mixed_run();
    cli.write("elsewhere/copy.jsonl", cli.read("out.jsonl"));
    let (written, computed) = (cli.json("report.json"), report_of(&cli, "elsewhere/copy.jsonl"));
    for part in ["rows", "usage", "by_model", "errors"] {
        assert_eq!(computed[part], written[part], "{part}");
    }
}

#[test]
fn the_report_is_a_table_in_markdown_and_a_text_for_people() {
    let (cli, _server) = mixed_run();
    let markdown = cli.read("report.md");
    assert!(markdown.lines().any(|line| line.starts_with('|') && line.contains("---")), "{markdown}");
    assert!(markdown.contains("large-1") && markdown.contains("bad_request"), "{markdown}");
    let finished = cli.run(&["report", "out.jsonl"]).exits(0);
    assert!(finished.stdout.contains("bad_request"), "{}", finished.stdout);
}

#[test]
fn the_end_of_a_run_is_summed_up_on_standard_error_unless_it_is_to_be_quiet() {
    let server = Server::echo();
    let usage = Usage::of("hello", "echo: hello");
    let cli = Cli::with_rows(&[json!({"prompt": "hello"})]);
    cli.job(&server, &[]).exits(0).says(usage.prompt).says(usage.completion);
    let quiet = cli.job(&server, &["-q", "--overwrite"]).exits(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_a_request_is_paid_for() {
    let server = Server::echo();
    let cli = Cli::with_prompts(1);
    for name in ["missing-folder/report.json", "report.docx"] {
        cli.job(&server, &["--report", name]).refuses().says(name);
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn the_report_of_a_file_that_is_not_there_is_an_error() {
    Cli::new().run(&["report", "nothing.jsonl"]).exits(1).says("nothing.jsonl");
}

#[test]
fn a_server_that_gives_no_usage_is_named_as_such() {
    let body =
        json!({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}).to_string();
    let server = Server::start(move |_, _| Reply::Status(200, Vec::new(), body.clone()));
    let cli = Cli::with_prompts(3);
    cli.job(&server, &[]).exits(0).says("usage");
    assert!(cli.answers().iter().all(|row| row["usage"]["prompt_tokens"].is_null()));
}

#[test]
fn a_report_of_several_outputs_adds_them_up() {
    let (cli, _server) = mixed_run();
    cli.write("copy.jsonl", cli.read("out.jsonl"));
    let finished = cli.run(&["report", "out.jsonl", "copy.jsonl", "--json"]).exits(0);
    let both: Value = serde_json::from_str(&finished.stdout).unwrap();
    let one = cli.json("report.json");
    assert_eq!(both["rows"]["total"], one["rows"]["total"].as_u64().unwrap() * 2);
    assert_eq!(both["usage"]["total_tokens"], one["usage"]["total_tokens"].as_u64().unwrap() * 2);
}
