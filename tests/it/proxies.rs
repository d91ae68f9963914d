//! The way through a proxy.

use crate::cli::Cli;
use crate::proxy::Proxy;
use crate::server::Server;

/// The request lines that the proxy should have seen for three rows.
fn expected(server: &Server) -> Vec<String> {
    vec![format!("POST {}/chat/completions HTTP/1.1", server.base_url()); 3]
}

#[test]
fn a_proxy_that_is_named_sees_every_request_even_those_for_this_machine() {
    let (server, proxy) = (Server::echo(), Proxy::start());
    let mut cli = Cli::with_prompts(3);
    cli.set("NO_PROXY", "*");
    cli.job(&server, &["--proxy", &proxy.url()]).exits(0);
    assert_eq!(proxy.seen(), expected(&server));
    assert_eq!(server.count(), 3);
}

#[test]
fn the_usual_variable_names_the_proxy_too() {
    let (server, proxy) = (Server::echo(), Proxy::start());
    let mut cli = Cli::with_prompts(3);
    cli.set("HTTP_PROXY", &proxy.url());
    cli.job(&server, &[]).exits(0);
    assert_eq!(proxy.seen(), expected(&server));
}

#[test]
fn hosts_in_no_proxy_are_asked_directly() {
    let (server, proxy) = (Server::echo(), Proxy::start());
    let mut cli = Cli::with_prompts(3);
    cli.set("HTTP_PROXY", &proxy.url());
    cli.set("NO_PROXY", "127.0.0.1");
    cli.job(&server, &[]).exits(0);
    assert!(proxy.seen().is_empty());
    assert_eq!(server.count(), 3);
}

#[test]
fn a_request_by_https_goes_through_the_proxy_as_a_tunnel() {
    let (server, proxy) = (Server::echo(), Proxy::start());
    let url = server.base_url().replace("http://", "https://");
    let cli = Cli::with_prompts(1);
    let finished = cli.run(&[
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--base-url",
        &url,
        "-m",
        "m",
        "--proxy",
        &proxy.url(),
        "--max-attempts",
        "1",
        "--timeout",
        "5s",
        "--max-wait",
        "1s",
    ]);
    assert_ne!(finished.code, Some(0), "the server speaks no TLS");
    assert!(proxy.seen()[0].starts_with("CONNECT 127.0.0.1:"), "{:?}", proxy.seen());
}

#[test]
fn the_simulator_is_asked_directly_whatever_the_environment_says() {
    let proxy = Proxy::start();
    let mut cli = Cli::with_prompts(3);
    cli.set("HTTP_PROXY", &proxy.url());
    cli.run(&["run", "in.jsonl", "--sim", "-o", "out.jsonl"]).exits(0);
    assert_eq!(cli.answers().len(), 3);
    assert!(proxy.seen().is_empty());
}
