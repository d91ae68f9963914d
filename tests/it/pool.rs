//! Several endpoints: rows go where there is room, away from where they fail, and back when that works again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Cli, MODEL, field};
use crate::server::{Reply, Server};

const LATENCY: Duration = Duration::from_millis(50);

fn server() -> Server {
    Server::start(|_, _| Reply::Answer.after(LATENCY))
}

/// The arguments of a run over these endpoints.
fn job<'a>(urls: &'a [String], arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--progress", "none"];
    all.extend(["--share-key", "--report", "report.json"]);
    all.extend(urls.iter().flat_map(|url| ["--base-url", url]));
    all.extend(arguments);
    all
}

fn assert_all_ok(cli: &Cli, rows: usize) {
    let answers = cli.answers();
    let expected: Vec<Value> = (0..rows).map(|i| json!(format!("r{i}"))).collect();
    assert_eq!(field(&answers, "id"), expected.iter().collect::<Vec<_>>());
    assert!(answers.iter().all(|row| row["status"] == "ok"));
}

/// Runs rows on three endpoints, of which one dies and is away for so long. Returns how long after its return it was
/// used again.
fn one_of_three_is_away(rows: usize, away: Duration) -> Duration {
    let [first, second, third] = [server(), server(), server()];
    let urls: Vec<String> = [&first, &second, &third].map(Server::base_url).to_vec();
    let cli = Cli::with_prompts(rows);
    let mut running = cli.start(&job(&urls, &["-c", "24"]));
    third.wait_for(100);
    let address = third.address();
    drop(third);
    let before = first.count() + second.count();
    let died = Instant::now();
    running.goes_on_for(away);
    let meanwhile = first.count() + second.count() - before;
    // What the others do without it is as much as all would do: they have room.
    let ideal = died.elapsed().as_millis() * 24 / LATENCY.as_millis();
    assert!(meanwhile as u128 * 10 > ideal * 7, "{meanwhile} of {ideal} rows were answered meanwhile");

    let third = Server::start_at(address, |_, _| Reply::Answer.after(LATENCY));
    let back = Instant::now();
    third.wait_for(20);
    let used_again = back.elapsed();
    running.wait().exits(0).says(format!("{} answers again", urls[2]));
    assert_all_ok(&cli, rows);
    used_again
}

#[test]
fn an_endpoint_that_dies_costs_no_row_and_is_used_again_when_it_is_back() {
    one_of_three_is_away(4000, Duration::from_secs(3));
}

#[test]
#[ignore = "takes a minute"]
fn an_endpoint_that_is_away_for_twenty_seconds_is_used_again_within_ten() {
    let used_again = one_of_three_is_away(17_000, Duration::from_secs(20));
    assert!(used_again < Duration::from_secs(10), "{used_again:?}");
}

#[test]
fn an_endpoint_that_only_fails_is_left_alone_and_its_rows_go_elsewhere() {
    let broken = Server::start(|_, _| Reply::broken());
    let good = server();
    let urls = vec![broken.base_url(), good.base_url()];
    let cli = Cli::with_prompts(300);
    cli.run(&job(&urls, &["-c", "16", "--backoff-base", "10ms"])).exits(0);
    assert_all_ok(&cli, 300);
    assert!(broken.count() < 60, "{} requests went to the broken one", broken.count());
    assert_eq!(good.count(), 300);
}

#[test]
fn the_keys_are_wrong_at_one_endpoint_and_the_run_names_it() {
    let locked = Server::start(|_, _| Reply::error(401, "invalid_request_error", "invalid_api_key", "no"));
    let urls = vec![server().base_url(), locked.base_url()];
    let cli = Cli::with_prompts(50);
    cli.run(&job(&urls, &["-c", "4"])).exits(1).says(&urls[1]);
}
