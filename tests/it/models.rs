//! `promptmill models`: what the endpoint offers.

use serde_json::Value;

use crate::answer::models;
use crate::cli::{Cli, Finished, KEY};
use crate::server::{Reply, Server};

fn run(server: &Server, arguments: &[&str]) -> Finished {
    Cli::new().run(&[&["models", "--base-url", &server.base_url()], arguments].concat())
}

#[test]
fn the_models_are_listed_as_a_table() {
    let server = Server::echo();
    let finished = run(&server, &[]).exits(0);
    for word in ["small-1", "large-1", "the-tests"] {
        assert!(finished.stdout.contains(word), "{}", finished.stdout);
    }
    assert!(!finished.stdout.contains('{'), "a table is for people: {}", finished.stdout);
    let request = server.only();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/v1/models"));
    assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
}

#[test]
fn one_model_is_shown() {
    let server = Server::echo();
    let finished = run(&server, &["org/small-1"]).exits(0);
    assert!(finished.stdout.contains("small-1"), "{}", finished.stdout);
    assert!(server.only().path.starts_with("/v1/models/org"), "{}", server.only().path);
}

#[test]
fn json_is_the_server_s_own() {
    let server = Server::echo();
    for (arguments, path) in [(&["--json"][..], "/v1/models"), (&["small-1", "--json"], "/v1/models/small-1")]
    {
        let finished = run(&server, arguments).exits(0);
        let shown: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(shown, models(path));
    }
}

#[test]
fn a_model_that_does_not_exist_is_an_error_in_the_server_s_words() {
    let server = Server::start(|_, _| {
        Reply::error(404, "invalid_request_error", "model_not_found", "The model `nope` does not exist")
    });
    let finished = run(&server, &["nope"]).exits(1).says("The model `nope` does not exist");
    assert_eq!(finished.stdout, "");
}
