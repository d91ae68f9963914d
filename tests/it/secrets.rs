//! The key goes to the server and nowhere else.

use std::fs;

use crate::cli::{Cli, Finished, KEY};
use crate::server::{Reply, Server};

/// A server that gives the key away wherever it can.
fn indiscreet() -> Server {
    Server::start(|received, attempt| {
        let message = format!("the key {KEY} (Bearer {KEY}) may not do this");
        let reply = match received.prompt().as_bytes()[22] % 3 {
            0 => Reply::error(400, "invalid_request_error", "invalid_value", &message),
            1 if attempt == 1 => Reply::Status(502, Vec::new(), format!("<html>{message}</html>")),
            2 if attempt == 1 => Reply::error(500, KEY, KEY, &message),
            _ => return Reply::Answer,
        };
        reply.with_header("x-request-id", KEY).with_header("x-echo", KEY)
    })
}

/// Asserts that the key is in no file and no stream that promptmill wrote.
fn assert_kept(cli: &Cli, finished: &Finished, key_file: Option<&str>) {
    assert!(!finished.stdout.contains(KEY), "{}", finished.stdout);
    assert!(!finished.stderr.contains(KEY), "{}", finished.stderr);
    let own = key_file.map(|name| cli.path(name));
    let files = cli.files();
    assert!(files.len() > 3, "{files:?}");
    for file in files.into_iter().filter(|file| Some(file) != own.as_ref()) {
        let content = fs::read(&file).unwrap();
        let found = content.windows(KEY.len()).any(|part| part == KEY.as_bytes());
        assert!(!found, "the key is in {}", file.display());
    }
}

const TALKATIVE: [&str; 8] = [
    "-vv",
    "--log-file",
    "log.txt",
    "--report",
    "report.json",
    "--report",
    "report.md",
    "--include-response",
];

#[test]
fn a_key_from_the_environment_is_in_nothing_that_the_run_leaves() {
    let server = indiscreet();
    let cli = Cli::with_prompts(12);
    let finished = cli.job(&server, &TALKATIVE).exits(3);
    assert!(!cli.read("log.txt").is_empty());
    assert!(cli.answers().iter().any(|row| row["status"] == "error"));
    assert_kept(&cli, &finished, None);
}

#[test]
fn a_key_from_a_file_is_in_nothing_that_the_run_leaves() {
    let server = indiscreet();
    let mut cli = Cli::with_prompts(12);
    cli.unset("OPENAI_API_KEY");
    cli.write("key.txt", format!("{KEY}\n"));
    let finished = cli.job(&server, &[&TALKATIVE[..], &["--api-key-file", "key.txt"]].concat()).exits(3);
    assert_eq!(server.received()[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_kept(&cli, &finished, Some("key.txt"));
}

#[test]
fn a_key_that_the_server_calls_wrong_is_not_repeated() {
    let message = format!("Incorrect API key provided: {KEY}");
    let server =
        Server::start(move |_, _| Reply::error(401, "invalid_request_error", "invalid_api_key", &message));
    let cli = Cli::with_prompts(3);
    let finished = cli.job(&server, &TALKATIVE).exits(1).says("Incorrect API key provided");
    assert_kept(&cli, &finished, None);
}

#[test]
fn the_key_is_not_on_the_command_line_that_others_can_see() {
    let server = Server::start(|_, _| Reply::Hang);
    let cli = Cli::with_prompts(1);
    let running = cli.start_job(&server, &[]);
    server.wait_for(1);
    let command_line = fs::read_to_string(format!("/proc/{}/cmdline", running.id())).unwrap();
    running.kill();
    assert!(command_line.contains("promptmill") && !command_line.contains(KEY), "{command_line}");
}

#[test]
fn there_is_no_option_that_takes_a_key() {
    let server = Server::echo();
    Cli::with_prompts(1).job(&server, &["--api-key", KEY]).exits(2);
    assert_eq!(server.count(), 0);
}
