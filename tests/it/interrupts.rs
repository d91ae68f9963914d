//! Whoever interrupts a run gets it to end, loses nothing that was paid for, and can go on later.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::cli::{Cli, MODEL, Running, field, lines};
use crate::server::{Reply, Server};

/// What a run that has nothing to wait for may take to end.
const SOON: Duration = Duration::from_secs(5);

/// So long that the process is where the test wants it, on a machine that is not overloaded.
const A_WHILE: Duration = Duration::from_millis(400);

fn ends_soon(mut running: Running) -> crate::cli::Finished {
    assert!(running.ends_within(SOON), "it did not end within {SOON:?}");
    running.wait()
}

fn prompts(numbers: impl Iterator<Item = usize>) -> String {
    lines(numbers.map(|i| format!("{{\"id\":\"r{i}\",\"prompt\":\"What is the square of {i}?\"}}")))
}

#[test]
fn a_request_to_end_and_a_closed_terminal_are_obeyed_like_ctrl_c() {
    for signal in ["INT", "TERM", "HUP"] {
        if signal == "HUP" && ignores_hangups() {
            continue;
        }
        let server = Server::start(|_, _| Reply::Answer.after(2 * A_WHILE));
        let cli = Cli::with_prompts(12);
        let running = cli.start_job(&server, &["-c", "4"]);
        server.wait_for(4);
        running.signal(signal);
        let finished = ends_soon(running).exits(130);
        finished
            .says("finishing 4 requests in flight (at most 10m)")
            .says("run the same command again to continue");
        assert_eq!(server.count(), 4, "{signal}");
        assert_eq!(cli.answers().len(), 4, "{signal}");
        cli.job(&server, &["-c", "12"]).exits(0);
        assert_eq!(cli.answers().len(), 12);
        assert_eq!(server.count(), 12, "nothing is paid twice");
    }
}

/// Whether whoever runs the tests has made hangups ignored, as `nohup` does.
fn ignores_hangups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
    u64::from_str_radix(&mask, 16).unwrap() & 1 == 1
}

#[test]
fn a_run_that_is_to_outlive_its_terminal_does() {
    let server = Server::start(|_, _| Reply::Answer.after(A_WHILE));
    let cli = Cli::with_prompts(2);
    let url = server.base_url();
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--base-url", &url, "-c", "1"];
    let running = cli.start_in_shell("trap '' HUP;", &job, "");
    server.wait_for(1);
    running.signal("HUP");
    running.wait().exits(0);
    assert_eq!(cli.answers().len(), 2);
}

#[test]
fn rows_that_wait_for_their_next_attempt_are_left_for_the_next_run() {
    let server = Server::start(|_, attempt| match attempt {
        1 => Reply::broken().with_header("retry-after", "60"),
        _ => Reply::Answer,
    });
    let cli = Cli::with_prompts(3);
    let mut running = cli.start_job(&server, &[]);
    server.wait_for(3);
    running.goes_on_for(A_WHILE);
    running.interrupt();
    ends_soon(running).exits(130).says("nothing is in flight");
    assert_eq!(cli.answers().len(), 0, "they are neither answered nor failed");
    cli.job(&server, &[]).exits(0);
    assert_eq!(field(&cli.answers(), "attempts"), [2, 2, 2]);
    assert_eq!(server.count(), 6);
}

#[test]
fn a_run_that_waits_for_a_dead_endpoint_ends_soon_and_goes_on_when_it_lives() {
    let cli = Cli::with_prompts(3);
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--base-url", "http://127.0.0.1:9/v1"];
    let mut running = cli.start(&job);
    running.goes_on_for(A_WHILE);
    running.signal("TERM");
    ends_soon(running).exits(130).says("cannot connect");
    let server = Server::echo();
    cli.job(&server, &[]).exits(0);
    assert_eq!(cli.answers().len(), 3);
}

#[test]
fn a_run_that_waits_for_standard_input_ends_soon_also_when_it_continues() {
    let server = Server::echo();
    let cli = Cli::new();
    let url = server.base_url();
    let job = ["run", "-", "-o", "out.jsonl", "-m", MODEL, "--base-url", &url, "--progress", "none"];
    let mut running = cli.start(&job);
    running.feed(&prompts(0..2));
    server.wait_for(2);
    running.goes_on_for(A_WHILE);
    running.interrupt();
    ends_soon(running).exits(130);
    assert_eq!(cli.answers().len(), 2);

    let mut running = cli.start(&job);
    running.feed(&prompts(0..2));
    running.goes_on_for(A_WHILE);
    running.interrupt();
    ends_soon(running).exits(130).says("interrupted before anything was sent");
    assert_eq!(server.count(), 2);
    assert_eq!(fs::read_dir(cli.path("tmp")).unwrap().count(), 0, "the copy of the input is gone");

    cli.run_with_input(&job, &prompts(0..3)).exits(0);
    assert_eq!(server.count(), 3);
    assert_eq!(cli.answers().len(), 3);
}

#[test]
fn a_run_that_still_checks_its_rows_ends_soon() {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("in.txt", "row\n".repeat(1_000_000));
    let mut running = cli.start_on(&server, &["in.txt", "-o", "out.jsonl", "--strict"]);
    running.goes_on_for(A_WHILE);
    running.interrupt();
    ends_soon(running).exits(130).says("interrupted before anything was sent");
    assert_eq!(server.count(), 0);
}

#[test]
fn an_interrupt_ends_a_look_at_the_input_that_takes_long() {
    let server = Server::echo();
    let cli = Cli::new();
    // A line that takes long to pass over.
    fs::File::create(cli.path("in.txt")).unwrap().set_len(64 << 30).unwrap();
    let mut running = cli.start_on(&server, &["in.txt", "-o", "out.jsonl", "--strict"]);
    running.goes_on_for(Duration::from_millis(250));
    running.interrupt();
    ends_soon(running).exits(130);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_second_interrupt_says_what_will_be_sent_again_and_the_next_run_sends_it() {
    let server = Server::start(|_, attempt| if attempt == 1 { Reply::Hang } else { Reply::Answer });
    let cli = Cli::with_prompts(3);
    let mut running = cli.start_job(&server, &["-c", "3"]);
    server.wait_for(3);
    running.interrupt();
    running.goes_on_for(A_WHILE);
    running.signal("TERM");
    ends_soon(running).exits(130).says("stopping now; 3 in flight will be sent again");
    assert!(cli.answers().is_empty());
    cli.job(&server, &[]).exits(0);
    assert_eq!(cli.answers().len(), 3);
}

#[test]
fn a_ctrl_c_does_not_show_beside_the_bar_and_the_terminal_is_as_before_afterwards() {
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return;
    }
    let server = Server::start(|_, _| Reply::Answer.after(Duration::from_millis(1500)));
    let cli = Cli::with_prompts(1);
    let url = server.base_url();
    let program = env!("CARGO_BIN_EXE_promptmill");
    let job = format!("{program} run in.jsonl -o out.jsonl -m m --base-url {url} --progress bar");
    // The terminal's settings while the bar is there, and after it.
    let shown = format!(
        "(until test -e sent; do sleep 0.05; done; stty -a < /dev/tty > during.txt) & {job}; stty -a > after.txt < /dev/tty"
    );
    let mut running = cli.start_program("script", &["-qec", &shown, "/dev/null"]);
    server.wait_for(1);
    cli.write("sent", "");
    assert!(running.ends_within(SOON));
    assert!(cli.read("during.txt").contains("-echoctl"), "{}", cli.read("during.txt"));
    assert!(cli.read("after.txt").contains("echoctl"));
    assert!(!cli.read("after.txt").contains("-echoctl"), "{}", cli.read("after.txt"));
}
