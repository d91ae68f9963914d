//! Connections that are refused, cut, reset, lied about, or kept busy without an end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::{Cli, Finished, MODEL, assert_failed};
use crate::faults::{check, fault};
use crate::server::{Reply, Server};

/// Runs one row at this base URL, with a short patience.
fn at(url: &str, arguments: &[&str]) -> (Cli, Finished) {
    let cli = Cli::with_prompts(1);
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--base-url", url, "--max-wait", "300ms"];
    let finished = cli.run(&[&job[..], &["--backoff-base", "10ms"], arguments].concat());
    (cli, finished)
}

/// A plain HTTP answer with this `Content-Length`, whose JSON is not as long.
fn with_length(length: usize) -> String {
    format!("200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}")
}

const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#;

#[test]
fn an_endpoint_that_cannot_be_reached_is_said_so_and_costs_no_attempt() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, says) in [
        (format!("http://127.0.0.1:{port}/v1"), "Connection refused"),
        ("http://no-such-host.invalid/v1".to_owned(), "the host's name cannot be looked up"),
    ] {
        let (cli, finished) = at(&url, &[]);
        let finished = finished.exits(3).says(format!("warning: cannot connect to {url}: ")).says(says);
        finished.says("is --base-url right, and is the server running?");
        let row = cli.answers().remove(0);
        assert_failed(&row, "connection", &format!("cannot connect to {url}: "));
        assert_eq!(row["attempts"], 0);
    }
}

#[test]
fn a_host_that_does_not_take_the_connection_is_given_up_after_connect_timeout() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // Nobody takes these, and the queue is full: the next one gets no word.
    let _waiting: Vec<_> =
        (0..3).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()).collect();
    for limits in [
        ["--connect-timeout", "200ms", "--timeout", "1m"],
        ["--connect-timeout", "10s", "--timeout", "200ms"],
    ] {
        let (cli, finished) = at(&format!("http://{address}/v1"), &limits);
        finished.exits(3).says("no connection within --connect-timeout");
        assert_eq!(cli.answers()[0]["attempts"], 0, "nothing was sent");
    }
}

#[test]
fn tls_with_a_server_that_speaks_none_stops_the_run_and_says_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    // What a web server says to a greeting that it cannot read.
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            drop(client.read(&mut [0; 2048]));
            drop(client.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"));
        }
    });
    let (cli, finished) = at(&url, &[]);
    finished.exits(1).says("the server does not speak TLS; is it http:// instead of https://?");
    assert_eq!(cli.answers()[0]["attempts"], 0);

    // One that just hangs up may be about to start: it is waited for.
    let server = Server::echo();
    let (cli, finished) = at(&server.base_url().replace("http://", "https://"), &[]);
    finished.exits(3).says("the server hung up in the TLS handshake; does it speak TLS?");
    assert_eq!(cli.answers()[0]["attempts"], 0);
}

#[test]
fn an_answer_that_breaks_off_is_tried_again_and_fails_as_a_broken_connection() {
    let middle = "the connection broke in the middle of the answer";
    let begun = |then| Reply::begun(&with_length(500), &ANSWER[..20], then);
    let reset = begun(Reply::Reset.after(Duration::from_millis(50)));
    let chunks = "200 OK\r\ntransfer-encoding: chunked";
    check(
        vec![
            fault("reset in mid-body", reset, "connection", middle, 2),
            fault("cut short", begun(Reply::Close), "connection", middle, 2),
            fault(
                "whole but announced as longer",
                Reply::begun(&with_length(99), ANSWER, Reply::Close),
                "connection",
                middle,
                2,
            ),
            fault(
                "announced as shorter",
                Reply::begun(&with_length(30), ANSWER, Reply::Keep),
                "bad_response",
                "cut short",
                2,
            ),
            fault(
                "broken chunk",
                Reply::begun(chunks, "zz\r\nhello\r\n", Reply::Close),
                "connection",
                middle,
                2,
            ),
            fault(
                "no last chunk",
                Reply::begun(chunks, "5\r\nhello\r\n", Reply::Close),
                "connection",
                middle,
                2,
            ),
            fault(
                "two lengths",
                Reply::begun("200 OK\r\ncontent-length: 5\r\ncontent-length: 7", ANSWER, Reply::Close),
                "bad_response",
                "no HTTP answer",
                2,
            ),
            fault(
                "length of no number",
                Reply::begun("200 OK\r\ncontent-length: many", ANSWER, Reply::Close),
                "bad_response",
                "no HTTP answer",
                2,
            ),
            fault(
                "TLS",
                Reply::RawBytes(b"\x15\x03\x01\x00\x02\x02\x46".to_vec()),
                "bad_response",
                "no HTTP answer",
                2,
            ),
        ],
        &[],
    );
}

#[test]
fn what_stands_behind_an_answer_is_never_taken_for_the_next_one() {
    // The second answer on the wire was not asked for: whoever sends it could answer any row in another's place.
    let smuggled = ANSWER.replace("hi", "smuggled");
    let body = format!("{ANSWER}HTTP/1.1 {}\r\n\r\n{smuggled}", with_length(smuggled.len()));
    let server = Server::start(move |_, _| Reply::begun(&with_length(ANSWER.len()), &body, Reply::Keep));
    let cli = Cli::with_prompts(20);
    cli.job(&server, &["-c", "1"]).exits(0);
    assert!(cli.answers().iter().all(|row| row["output"] == "hi"));
}

#[test]
fn a_request_that_resets_reused_connections_is_sent_once_more_than_it_may_at_the_most() {
    let nine = "What is the square of 9?";
    let server = Server::start(move |received, _| {
        if received.prompt() == nine && received.nth_on_connection > 1 { Reply::Reset } else { Reply::Answer }
    });
    let cli = Cli::with_prompts(10);
    cli.job(&server, &["-c", "1", "--max-attempts", "1"]).exits(0);
    assert_eq!(cli.answers()[9]["attempts"], 2, "the reset and the answer");

    // Four connections are open when the last row goes.
    let server = Server::start(move |received, _| {
        if received.prompt() == nine { Reply::Reset } else { Reply::Answer.after(Duration::from_millis(50)) }
    });
    let cli = Cli::with_prompts(10);
    cli.job(&server, &["-c", "4", "--max-attempts", "2"]).exits(3);
    let row = cli.answers().remove(9);
    assert_failed(&row, "connection", "the connection broke before an answer came");
    assert_eq!(server.prompts()[nine], 3);
    assert_eq!(row["attempts"], 3);
}

#[test]
fn a_body_that_drips_is_ended_by_the_timeout() {
    let drip = Reply::Endless(b" ".to_vec(), Duration::from_millis(20));
    let slow = "the answer was not complete within 400ms (--timeout)";
    let events = "200 OK\r\ncontent-type: text/event-stream";
    let begin = Instant::now();
    check(
        vec![
            fault("body", Reply::begun(&with_length(9999), "{", drip.clone()), "timeout", slow, 2),
            fault("stream", Reply::begun(events, ": ", drip.clone()), "timeout", slow, 2),
            fault(
                "error",
                Reply::begun("500 Oops", "no room left", drip.clone()),
                "server",
                "the server answered 500: no room left",
                2,
            ),
            fault(
                "head",
                Reply::First(b"HTTP/1.1 200 OK\r\nx: ".to_vec(), Box::new(drip)),
                "timeout",
                "no answer within 400ms",
                2,
            ),
        ],
        &["--timeout", "400ms", "--stream"],
    );
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn an_answer_that_stops_coming_is_ended_by_the_idle_timeout() {
    let stalled = "nothing more of the answer came for 200ms (--idle-timeout)";
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let events = "200 OK\r\ncontent-type: text/event-stream";
    check(
        vec![
            fault("body", Reply::begun(&with_length(500), &ANSWER[..20], Reply::Hang), "timeout", stalled, 2),
            fault("stream", Reply::begun(events, event, Reply::Hang), "timeout", stalled, 2),
        ],
        &["--idle-timeout", "200ms", "--timeout", "2m", "--stream"],
    );

    // Waiting for the first byte is not idling: that is what an answer takes.
    let server = Server::start(|_, _| Reply::Answer.after(Duration::from_millis(600)));
    let cli = Cli::with_prompts(1);
    cli.job(&server, &["--idle-timeout", "200ms"]).exits(0);
    assert_eq!(server.count(), 1);
}

/// Runs a row on a server that does not stop talking; its memory must not grow with what is said.
fn bounded(most_mib: u64, reply: Reply, kind: &str, says: &str) {
    let server = Server::start(move |_, _| reply.clone());
    let cli = Cli::with_prompts(1);
    let mut running = cli.start_job(&server, &["--max-attempts", "1"]);
    let mut peak = 0;
    while !running.ends_within(Duration::from_millis(5)) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.map_or(peak, |line| line.trim().trim_end_matches(" kB").parse().unwrap());
    }
    running.wait().exits(3);
    assert_failed(&cli.answers()[0], kind, says);
    assert!(peak > 0 && peak < most_mib << 10, "{peak} KiB");
}

#[test]
fn what_has_no_end_takes_no_more_than_bounded_memory() {
    let flood = |bytes: &[u8]| Reply::Endless(bytes.repeat(4096), Duration::ZERO);
    let gibibyte = with_length(1 << 30);
    bounded(
        160,
        Reply::begun(&gibibyte, "{", flood(b"        ")),
        "bad_response",
        "the answer is larger than 64 MiB",
    );
    let head = Reply::First(b"HTTP/1.1 200 OK\r\n".to_vec(), Box::new(flood(b"x-more: yes\r\n")));
    bounded(40, head, "bad_response", "what the server sent is no HTTP answer: ");
    let error = Reply::begun("500 Oops\r\ncontent-length: 1073741824", "busy ", flood(b"        "));
    bounded(40, error, "server", "the server answered 500: busy");
    let bomb = Reply::begun(&format!("{gibibyte}\r\ncontent-encoding: gzip"), "", flood(b"\0\0\0\0"));
    bounded(40, bomb, "bad_response", "the answer is encoded as gzip, which was not asked for");
}
