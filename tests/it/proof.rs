//! The proof: a server that fails fifteen requests in a hundred, in eight ways, and not a row, an attempt or a token
//! is lost or counted twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::answer::Usage;
use crate::cli::Cli;
use crate::server::{Received, Reply, Server};

/// Of a hundred requests so many fail.
const FAILING: u64 = 15;

/// A number that looks drawn by lot, the same in every run.
fn drawn(received: &Received, attempt: usize) -> u64 {
    let bytes = received.body.iter().copied().chain(attempt.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

fn failure(way: u64) -> Reply {
    match way {
        0 => Reply::error(429, "requests", "rate_limit_exceeded", "too fast")
            .with_header("retry-after-ms", "20"),
        1 => Reply::broken(),
        2 => Reply::error(503, "error", "overloaded", "busy"),
        3 => Reply::Reset,
        4 => Reply::Truncate,
        5 => Reply::ok(r#"{"choices":[{"index":0,"message":{"content":"#),
        6 => Reply::ok("<html>busy</html>").with_header("content-type", "text/html"),
        _ => Reply::Close,
    }
}

fn prove(rows: usize) {
    let (failed, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&failed), Arc::clone(&closed));
    let server = Server::start(move |received, attempt| {
        let lot = drawn(received, attempt);
        if lot % 100 >= FAILING {
            return Reply::Answer;
        }
        counts.0.fetch_add(1, Ordering::Relaxed);
        let way = lot / 100 % 8;
        if way == 7 && received.nth_on_connection > 1 {
            counts.1.fetch_add(1, Ordering::Relaxed);
        }
        failure(way)
    });
    let cli = Cli::with_prompts(rows);
    cli.job(&server, &["--max-attempts", "20", "--report", "report.json"]).exits(0);

    let answers = cli.answers();
    assert_eq!(answers.len(), rows);
    for (i, row) in answers.iter().enumerate() {
        assert_eq!(row["id"], format!("r{i}"));
        assert_eq!(row["index"], i);
        assert_eq!(row["status"], "ok");
        assert_eq!(row["output"], format!("echo: What is the square of {i}?"));
    }
    let seen = server.count();
    let (failed, closed) = (failed.load(Ordering::Relaxed), closed.load(Ordering::Relaxed));
    assert_eq!(seen, rows + failed);
    assert!(failed > rows / 10 && closed > 0, "{failed} failed, {closed} of them on dead connections");
    let attempts: u64 = answers.iter().map(|row| row["attempts"].as_u64().unwrap()).sum();
    // What was sent again because a reused connection had been closed counts once.
    assert_eq!(attempts, (seen - closed) as u64, "{closed} were closed");
    let report = cli.json("report.json");
    assert_eq!(report["requests"]["sent"], attempts);
    let by_status = report["requests"]["by_status"].as_object().unwrap();
    assert_eq!(by_status.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), attempts, "{report}");
    let consumed: Usage = answers.iter().map(|row| Usage::read(&row["usage"])).sum();
    assert_eq!(consumed, server.billed());
    assert_eq!(Usage::read(&report["usage"]), server.billed());
}

#[test]
fn three_thousand_rows_come_through_a_server_that_fails_in_eight_ways() {
    prove(3_000);
}

/// The same with more rows: `cargo test --release -- --ignored twenty_thousand`.
#[test]
#[ignore = "takes a while in a debug build"]
fn twenty_thousand_rows_come_through_a_server_that_fails_in_eight_ways() {
    prove(20_000);
}
