//! Every sample runs, with no key and no network.

use crate::cli::{Cli, package};

/// Each input among the samples, its number of rows, and what it is run with.
const SAMPLES: [(&str, usize, &[&str]); 7] = [
    ("prompts.jsonl", 12, &[]),
    ("prompts.csv", 9, &[]),
    ("prompts.txt", 8, &[]),
    ("chat.jsonl", 6, &[]),
    ("batch.jsonl", 5, &[]),
    ("articles.csv", 6, &["--template-file", "samples/summary.jinja"]),
    ("completions.jsonl", 6, &["--endpoint", "completions"]),
];

#[test]
fn every_sample_is_answered_by_the_simulator_row_by_row() {
    for (name, rows, arguments) in SAMPLES {
        let mut cli = Cli::new();
        cli.unset("OPENAI_API_KEY");
        let input = package().join("samples").join(name);
        let arguments: Vec<String> = arguments
            .iter()
            .map(|argument| argument.replace("samples/", &format!("{}/samples/", package().display())))
            .collect();
        let mut all = vec!["run", input.to_str().unwrap(), "--sim", "-o", "out.jsonl"];
        all.extend(arguments.iter().map(String::as_str));
        cli.run(&all).exits(0);
        let answers = cli.answers();
        assert_eq!(answers.len(), rows, "{name}");
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(answer["index"], index, "{name}");
            assert_eq!(answer["status"], "ok", "{name}");
            assert!(!answer["output"].as_str().unwrap().is_empty(), "{name}");
            assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0, "{name}");
        }
    }
}

#[test]
fn the_sample_of_a_job_file_runs_as_it_is() {
    let mut cli = Cli::new();
    cli.unset("OPENAI_API_KEY");
    for name in ["job.toml", "prompts.jsonl"] {
        let name = format!("samples/{name}");
        cli.write(&name, std::fs::read(package().join(&name)).unwrap());
    }
    cli.run(&["run", "--job", "samples/job.toml"]).exits(0);
    assert_eq!(cli.read("answers.jsonl").lines().count(), 12);
    assert_eq!(cli.json("report.json")["rows"]["ok"], 12);
}

#[test]
fn every_file_among_the_samples_is_one_that_a_test_runs() {
    let mut known: Vec<&str> = SAMPLES.iter().map(|(name, ..)| *name).collect();
    known.extend(["summary.jinja", "job.toml"]);
    for entry in package().join("samples").read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name.as_str()), "no test runs samples/{name}");
    }
}
