//! Servers that fail, refuse, lie or say nothing: what is tried again, what is not, and what ends the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Cli, Finished, assert_failed, field};
use crate::server::{Received, Reply, Server};

/// Replies so to the first attempt of every request and answers the second.
fn at_first(reply: Reply) -> Server {
    Server::start(move |_, attempt| if attempt == 1 { reply.clone() } else { Reply::Answer })
}

/// Always replies so.
fn always(reply: Reply) -> Server {
    Server::start(move |_, _| reply.clone())
}

/// Runs one row against the server and returns its answer.
fn one_row(server: &Server, code: i32, arguments: &[&str]) -> Value {
    let cli = Cli::with_prompts(1);
    cli.job(server, arguments).exits(code);
    cli.answers().remove(0)
}

fn rate_limit() -> Reply {
    Reply::error(429, "requests", "rate_limit_exceeded", "rate limit reached for requests")
}

/// The time between the first two requests.
fn gap(received: &[Arc<Received>]) -> Duration {
    received[1].at - received[0].at
}

#[test]
fn a_refused_request_waits_as_long_as_the_server_says() {
    for (name, value, least) in [("retry-after", "1", 1_000), ("retry-after-ms", "700", 700)] {
        let server = at_first(rate_limit().with_header(name, value));
        let answer = one_row(&server, 0, &[]);
        assert_eq!(answer["attempts"], 2);
        let waited = gap(&server.received());
        assert!(waited >= Duration::from_millis(least), "{name}: {waited:?}");
        assert!(waited < Duration::from_secs(20), "{name}: {waited:?}");
    }
}

#[test]
fn the_finer_of_two_retry_headers_wins() {
    let server = at_first(rate_limit().with_header("retry-after", "60").with_header("retry-after-ms", "300"));
    one_row(&server, 0, &[]);
    assert!(gap(&server.received()) < Duration::from_secs(30));
}

#[test]
fn a_wait_longer_than_allowed_ends_the_row() {
    let server = always(rate_limit().with_header("retry-after", "3600"));
    assert_failed(&one_row(&server, 3, &["--max-wait", "2s"]), "rate_limited", "");
    assert_eq!(server.count(), 1);
}

#[test]
fn what_may_pass_is_tried_again() {
    for status in [408, 409, 429, 500, 502, 503, 504, 529] {
        let server = at_first(Reply::error(status, "error", "passing", "try again"));
        let answer = one_row(&server, 0, &[]);
        assert_eq!(answer["status"], "ok", "{status}");
        assert_eq!(answer["attempts"], 2, "{status}");
    }
}

#[test]
fn what_is_wrong_with_the_request_is_not_tried_again() {
    for (status, code, kind) in [
        (400, "invalid_value", "bad_request"),
        (400, "context_length_exceeded", "context_length"),
        (400, "content_policy_violation", "content_filter"),
        (422, "unprocessable", "bad_request"),
    ] {
        let server = always(Reply::error(status, "invalid_request_error", code, "it is wrong"));
        let answer = one_row(&server, 3, &[]);
        assert_failed(&answer, kind, "");
        assert_eq!(answer["error"]["status"], status);
        assert_eq!(answer["error"]["code"], code);
        assert!(answer["error"]["message"].as_str().unwrap().contains("it is wrong"));
        assert_eq!(server.count(), 1, "{status}");
    }
}

#[test]
fn a_row_is_given_up_after_so_many_attempts() {
    let server = always(Reply::broken());
    let answer = one_row(&server, 3, &["--max-attempts", "3"]);
    assert_failed(&answer, "server", "");
    assert_eq!(answer["attempts"], 3);
    assert_eq!(answer["error"]["status"], 500);
    assert_eq!(server.count(), 3);
}

#[test]
fn one_bad_row_does_not_hold_up_the_others() {
    let server = Server::start(|received, _| {
        if received.prompt().ends_with("of 3?") { Reply::bad_request() } else { Reply::Answer }
    });
    let cli = Cli::with_prompts(10);
    cli.job(&server, &["-c", "2"]).exits(3);
    let answers = cli.answers();
    assert_eq!(field(&answers, "index"), (0..10).collect::<Vec<_>>());
    assert_eq!(answers.iter().filter(|row| row["status"] == "ok").count(), 9);
    assert_failed(&answers[3], "bad_request", "");
}

/// Runs two hundred rows against a server that always replies so; the run must stop at once.
fn stops_at_once(reply: Reply) -> Finished {
    let server = always(reply);
    let finished = Cli::with_prompts(200).job(&server, &["-c", "4"]).exits(1);
    assert!(server.count() <= 8, "{} requests were sent", server.count());
    finished
}

#[test]
fn a_wrong_key_stops_the_run_at_once() {
    let reply = Reply::error(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided");
    stops_at_once(reply).says("Incorrect API key provided");
    stops_at_once(Reply::error(
        403,
        "forbidden",
        "unsupported_country_region_territory",
        "not in your region",
    ));
}

#[test]
fn a_model_that_does_not_exist_stops_the_run_at_once() {
    let message = "The model `test-model` does not exist";
    stops_at_once(Reply::error(404, "invalid_request_error", "model_not_found", message)).says(message);
}

#[test]
fn an_account_without_credit_stops_the_run_at_once() {
    stops_at_once(Reply::error(
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota",
    ))
    .says("You exceeded your current quota");
    stops_at_once(Reply::error(429, "insufficient_quota", "credit_balance_exhausted", "no credit left"));
}

#[test]
fn a_model_that_one_row_names_and_does_not_exist_fails_that_row_only() {
    let server = Server::start(|received, _| {
        if received.json()["model"] == "nowhere" {
            Reply::error(404, "invalid_request_error", "model_not_found", "no such model")
        } else {
            Reply::Answer
        }
    });
    let cli = Cli::with_rows(&[
        json!({"prompt": "a"}),
        json!({"prompt": "b", "params": {"model": "nowhere"}}),
        json!({"prompt": "c"}),
    ]);
    cli.job(&server, &["-c", "1"]).exits(3);
    let answers = cli.answers();
    assert_eq!(field(&answers, "status"), ["ok", "error", "ok"]);
    assert_failed(&answers[1], "not_found", "");
}

#[test]
fn a_redirect_is_not_followed_and_the_key_stays_here() {
    let elsewhere = Server::echo();
    let location = format!("{}/chat/completions", elsewhere.base_url());
    for status in [302, 307] {
        let server =
            always(Reply::Status(status, vec![("location".into(), location.clone())], String::new()));
        let finished = Cli::with_prompts(1).job(&server, &["--max-attempts", "2"]);
        assert!(matches!(finished.code, Some(1 | 3)), "{finished:?}");
    }
    assert_eq!(elsewhere.count(), 0);
}

fn html(status: u16) -> Reply {
    let headers = vec![("content-type".to_owned(), "text/html".to_owned())];
    Reply::Status(status, headers, "<html><body><h1>Bad gateway</h1></body></html>".into())
}

#[test]
fn broken_answers_are_tried_again_and_fail_as_what_they_were() {
    let cut = Reply::Status(200, Vec::new(), r#"{"id":"x","choices":[{"message":{"content":"#.into());
    let cases = [
        ("reset", Reply::Reset, &["connection"][..]),
        ("closed", Reply::Close, &["connection"]),
        ("truncated", Reply::Truncate, &["connection", "bad_response"]),
        (
            "no HTTP",
            Reply::RawBytes(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()),
            &["connection", "bad_response"],
        ),
        ("html", html(200), &["bad_response"]),
        ("cut JSON", cut, &["bad_response"]),
        ("another JSON", Reply::Status(200, Vec::new(), "[]".into()), &["bad_response"]),
        ("html error", html(502), &["server"]),
    ];
    for (name, reply, kinds) in cases {
        let answer = one_row(&at_first(reply.clone()), 0, &[]);
        assert_eq!(answer["attempts"], 2, "{name}");
        assert!(answer["output"].as_str().unwrap().starts_with("echo: "), "{name}");

        let server = always(reply);
        let answer = one_row(&server, 3, &["--max-attempts", "2"]);
        let kind = answer["error"]["kind"].as_str().unwrap();
        assert!(kinds.contains(&kind), "{name}: {answer}");
        assert_eq!(answer["attempts"], 2, "{name}");
        assert_eq!(server.count(), 2, "{name}");
    }
}

#[test]
fn an_error_that_comes_with_status_200_is_no_answer() {
    let body = json!({"error": {"message": "upstream fell over", "code": 502}}).to_string();
    let server = always(Reply::Status(200, Vec::new(), body));
    let answer = one_row(&server, 3, &["--max-attempts", "2"]);
    assert_eq!(answer["status"], "error");
    assert!(answer["error"]["message"].as_str().unwrap().contains("upstream fell over"));
}

#[test]
fn a_stream_that_breaks_off_is_no_answer() {
    let events =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half an\"},\"finish_reason\":null}]}\n\n";
    let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
    let server = at_first(Reply::Status(200, headers, events.into()));
    let answer = one_row(&server, 0, &["--stream"]);
    assert_eq!(answer["attempts"], 2);
    assert_eq!(answer["output"], "echo: What is the square of 0?");
}

#[test]
fn a_connection_that_the_server_closed_while_it_was_idle_is_no_strike() {
    let server = Server::start(
        |received, _| {
            if received.nth_on_connection > 1 { Reply::Close } else { Reply::Answer }
        },
    );
    let cli = Cli::with_prompts(10);
    cli.job(&server, &["-c", "1", "--max-attempts", "1"]).exits(0);
    assert!(cli.answers().iter().all(|row| row["attempts"] == 1));
}

#[test]
fn a_server_that_says_nothing_is_a_timeout() {
    let server = always(Reply::Hang);
    let begin = Instant::now();
    let answer = one_row(&server, 3, &["--timeout", "300ms", "--max-attempts", "2"]);
    assert_failed(&answer, "timeout", "");
    assert_eq!(answer["attempts"], 2);
    assert_eq!(server.count(), 2);
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn too_many_failures_stop_the_run() {
    let server = always(Reply::bad_request());
    let cli = Cli::with_prompts(100);
    cli.job(&server, &["-c", "1", "--max-failures", "5"]).exits(4);
    assert!((5..=10).contains(&server.count()), "{} requests were sent", server.count());
    assert_eq!(cli.answers().len(), server.count(), "what was tried is in the output, the rest is not");
}

#[test]
fn a_run_whose_first_fifty_rows_all_fail_stops_unless_told_not_to() {
    let server = always(Reply::bad_request());
    Cli::with_prompts(120).job(&server, &["-c", "2"]).exits(4);
    assert!((50..60).contains(&server.count()), "{} requests were sent", server.count());
    let server = always(Reply::bad_request());
    Cli::with_prompts(120).job(&server, &["-c", "2", "--max-failures", "none"]).exits(3);
    assert_eq!(server.count(), 120);
}

#[test]
fn rows_that_waited_for_a_dead_endpoint_fail_as_such_and_the_rest_is_left_for_the_next_run() {
    let cli = Cli::with_prompts(500);
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", "m", "--base-url", "http://127.0.0.1:9/v1"];
    let finished = cli.run(&[&job[..], &["--max-wait", "1s", "--max-failures", "none"]].concat());
    finished.exits(1).says("cannot connect to http://127.0.0.1:9/v1").says("--max-wait");
    let rows = cli.answers();
    assert!(!rows.is_empty() && rows.len() < 500, "{}", rows.len());
    for row in &rows {
        assert_failed(row, "connection", "cannot connect");
        assert_eq!(row["attempts"], 0, "nothing reached a server");
    }
    let few = cli.run(&[&job[..], &["--max-wait", "1s", "--limit", "1", "--overwrite"]].concat());
    few.exits(3);
    assert_eq!(cli.answers().len(), 1);
}
