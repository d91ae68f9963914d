//! The endpoint is kept at its limit and hardly ever refuses: limits that are given, and limits that are found.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Cli, MODEL};
use crate::limited::{Limit, Limited};
use crate::server::{Reply, Server};

/// Rows with prompts of so many bytes, in turn.
fn rows(count: usize, bytes: &[usize]) -> Vec<Value> {
    let prompt = |i: usize| format!("{i} {}", "word ".repeat(bytes[i % bytes.len()] / 5));
    (0..count).map(|i| json!({"id": i, "prompt": prompt(i)})).collect()
}

/// Runs rows against a server with this limit, and checks that all are answered, how much of the limit was used, and
/// how many requests were refused.
fn keeps_to(limit: Limit, rows: &[Value], arguments: &[&str], least_used: f64, most_refused: f64) -> Cli {
    let limited = Limited::start(limit, Duration::from_millis(20));
    let cli = Cli::with_rows(rows);
    let url = limited.server.base_url();
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--base-url", &url, "--progress", "none"];
    let finished = cli.run(&[&job[..], &["--report", "report.json"], arguments].concat());
    finished.exits(0);
    assert_eq!(cli.answers().len(), rows.len());
    let passed = limited.passed();
    assert_eq!(passed.requests, rows.len() as u64, "no row is asked twice");
    let (used, refused) = (passed.used_share(limit), passed.refused_share());
    assert!(used >= least_used, "{used} of the limit was used");
    assert!(refused <= most_refused, "{refused} of the requests were refused");
    let endpoint = &cli.json("report.json")["endpoints"][0];
    assert_eq!(endpoint["refused"], passed.refused);
    assert_eq!(endpoint["requests"], passed.refused + passed.requests);
    cli
}

/// Lengths of prompts of which the longest is four hundred times the shortest.
const UNEQUAL: [usize; 8] = [40, 200, 40, 4000, 800, 40, 16_000, 400];

#[test]
fn a_limit_of_requests_that_is_given_is_used_up_and_not_passed() {
    let cli = keeps_to(Limit::requests(6000), &rows(1000, &[500]), &["--rpm", "6000"], 0.9, 0.01);
    let limit = &cli.json("report.json")["endpoints"][0]["requests_per_minute"];
    assert_eq!(*limit, json!({"per_minute": 6000, "learned": false}));
}

#[test]
fn a_limit_of_tokens_that_is_given_is_used_up_and_not_passed() {
    let tokens = 60_000;
    keeps_to(Limit::tokens(tokens * 6), &rows(80, &UNEQUAL), &["--tpm", "360000"], 0.85, 0.03);
}

#[test]
fn a_limit_that_the_headers_tell_is_found() {
    keeps_to(Limit::requests(6000), &rows(1000, &[500]), &[], 0.85, 0.04);
}

#[test]
fn a_limit_that_only_refusals_tell_is_found() {
    // It takes some hundred refusals to find it, and hardly one to hold it.
    keeps_to(Limit::requests(6000).silent(), &rows(1500, &[500]), &[], 0.85, 0.2);
}

#[test]
#[ignore = "takes a minute"]
fn what_it_takes_to_find_a_limit_is_little_in_a_minute() {
    keeps_to(Limit::requests(6000).silent(), &rows(6000, &[500]), &[], 0.9, 0.05);
}

#[test]
fn the_requests_of_a_day_are_used_up_and_the_run_stops_until_more_may_go() {
    let server = Server::echo();
    let cli = Cli::with_prompts(30);
    cli.job(&server, &["--rpd", "20"]).exits(4).says("the requests of the day are used up (--rpd)");
    assert_eq!((server.count(), cli.answers().len()), (20, 20));
    cli.job(&server, &["--rpd", "20"]).exits(0);
    assert_eq!((server.count(), cli.answers().len()), (30, 30));
}

#[test]
fn a_request_larger_than_the_limit_of_tokens_goes_all_the_same() {
    let server = Server::echo();
    let cli = Cli::with_rows(&rows(2, &[8000]));
    cli.job(&server, &["--tpm", "50000"]).exits(0);
    assert_eq!(server.count(), 2);
}

/// A server that works on so many requests at once, each for this long; the others wait in line.
fn slots(count: usize, latency: Duration) -> Server {
    let free_at = Mutex::new(vec![Instant::now(); count]);
    Server::start(move |_, _| {
        let now = Instant::now();
        let mut free_at = free_at.lock().unwrap();
        let slot = free_at.iter_mut().min().unwrap();
        *slot = now.max(*slot) + latency;
        Reply::Answer.after(slot.saturating_duration_since(now))
    })
}

#[test]
fn about_as_many_requests_are_in_flight_as_the_endpoint_has_slots() {
    let server = slots(8, Duration::from_millis(50));
    let cli = Cli::with_prompts(1600);
    cli.job(&server, &["--report", "report.json"]).exits(0);
    let report = cli.json("report.json");
    let endpoint = &report["endpoints"][0];
    assert_eq!(endpoint["adaptive"], true);
    let found = endpoint["concurrency"].as_u64().unwrap();
    assert!((4..=24).contains(&found), "{found} in flight for 8 slots");
    // Three times as many in flight as there are slots make an answer take three times as long.
    let latency = report["latency_ms"]["p50"].as_f64().unwrap();
    assert!(latency < 150.0, "{latency} ms");
}
