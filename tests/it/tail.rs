//! The last rows do not wait behind one request that hangs: a second copy of it is sent, and both are counted.

use std::time::Duration;

use crate::answer::Usage;
use crate::cli::Cli;
use crate::server::{Received, Reply, Server};

/// Rows of which every fiftieth is slow at its first request.
const ROWS: usize = 1000;
const SLOW: usize = ROWS / 50;

/// A server at which the first requests of slow rows meet with this.
fn server(slow: Reply) -> Server {
    let is_slow =
        |received: &Received| received.prompt().ends_with("49?") || received.prompt().ends_with("99?");
    Server::start(move |received, attempt| {
        if attempt == 1 && is_slow(received) {
            slow.clone()
        } else {
            Reply::Answer.after(Duration::from_millis(3))
        }
    })
}

fn slow_answer() -> Reply {
    Reply::Answer.after(Duration::from_millis(450))
}

#[test]
fn a_request_that_hangs_is_sent_again_in_time_and_the_first_answer_counts() {
    for hedge in ["p95", "300ms"] {
        let (server, cli) = (server(Reply::Hang), Cli::with_prompts(ROWS));
        // Nothing else would end a request that hangs within the time that a test may take.
        let arguments = ["-c", "16", "--timeout", "10m", "--hedge", hedge, "--report", "report.json"];
        cli.job(&server, &arguments).exits(0);
        let answers = cli.answers();
        assert_eq!(answers.len(), ROWS);
        assert!(answers.iter().all(|row| row["status"] == "ok"));
        let twice = answers.iter().filter(|row| row["attempts"] == 2).count();
        assert!(twice >= SLOW, "{twice} of {SLOW}");
        assert_eq!(cli.json("report.json")["requests"]["sent"], server.count(), "copies are requests, too");
    }
}

#[test]
fn what_both_copies_consumed_is_in_the_totals_and_one_of_them_was_wasted() {
    let (server, cli) = (server(slow_answer()), Cli::with_prompts(ROWS));
    cli.job(&server, &["-c", "16", "--hedge", "300ms", "--report", "report.json"]).exits(0);
    let report = cli.json("report.json");
    assert_eq!(server.count(), ROWS + SLOW);
    assert_eq!(report["requests"]["sent"], server.count());
    assert_eq!(Usage::read(&report["usage"]), server.billed());
    let slow: Vec<_> = cli.answers().into_iter().filter(|row| row["attempts"] == 2).collect();
    assert_eq!(slow.len(), SLOW);
    let wasted: u64 = slow.iter().map(|row| row["usage"]["total_tokens"].as_u64().unwrap() / 2).sum();
    assert_eq!(report["usage"]["wasted_tokens"], wasted);
}

#[test]
fn nothing_is_sent_twice_unless_it_is_asked_for() {
    let (server, cli) = (server(slow_answer()), Cli::with_prompts(ROWS));
    cli.job(&server, &["-c", "16"]).exits(0);
    assert_eq!(server.count(), ROWS);
}
