//! `--job FILE`: the options of a run in a file, and several endpoints with their keys.

use serde_json::json;

use crate::cli::Cli;
use crate::server::Server;

/// A place with this job file and three prompts.
fn with_job(job: &str) -> Cli {
    let cli = Cli::with_prompts(3);
    cli.write("job.toml", job);
    cli
}

#[test]
fn the_file_has_all_that_a_run_needs_and_what_is_typed_wins() {
    let server = Server::echo();
    let job = format!(
        r#"
        # A comment.
        input = "in.jsonl"
        output = "out.jsonl"
        base_url = "{}"
        model = "from-the-file"
        temperature = 0.25
        stop = ["one", "two"]
        max_attempts = 1
        no_input = true
        echo = false
        progress = "none"
        [params]
        top_k = 5
        mode = "fast"
        "#,
        server.base_url()
    );
    let cli = with_job(&job);
    cli.run(&["run", "--job", "job.toml"]).exits(0);
    let asked = server.received()[0].json();
    assert_eq!(asked["model"], "from-the-file");
    assert_eq!((&asked["temperature"], &asked["stop"]), (&json!(0.25), &json!(["one", "two"])));
    assert_eq!((&asked["top_k"], &asked["mode"]), (&json!(5), &json!("fast")));
    assert!(cli.answers().iter().all(|row| row["input"].is_null()));

    let typed = ["-m", "typed", "--temperature", "1", "--stop", "three", "-o", "other.jsonl"];
    cli.run(&[&["run", "--job=job.toml"][..], &typed].concat()).exits(0);
    let asked = server.received()[3].json();
    assert_eq!(asked["model"], "typed");
    assert_eq!((&asked["temperature"], &asked["stop"]), (&json!(1), &json!("three")));
    assert_eq!(cli.read("other.jsonl").lines().count(), 3);
}

#[test]
fn each_endpoint_of_the_file_has_its_own_key_and_no_other() {
    let [first, second] = [Server::echo(), Server::echo()];
    let job = format!(
        "input = 'in.jsonl'\noutput = 'out.jsonl'\nmodel = 'm'\nprogress = 'none'\nconcurrency = 4\n\
         [[endpoints]]\nbase_url = '{}'\nweight = 3\napi_key_env = 'FIRST_KEY'\n\
         [[endpoints]]\nbase_url = '{}'\nrpm = 60000\napi_key_env = 'SECOND_KEY'\n",
        first.base_url(),
        second.base_url()
    );
    let mut cli = with_job(&job);
    cli.write_rows("in.jsonl", &(0..200).map(|i| json!({"prompt": i.to_string()})).collect::<Vec<_>>());
    cli.set("FIRST_KEY", "sk-first-1111");
    cli.set("SECOND_KEY", "sk-second-2222");
    cli.run(&["run", "--job", "job.toml"]).exits(0);
    for (server, key) in [(&first, "Bearer sk-first-1111"), (&second, "Bearer sk-second-2222")] {
        assert!(server.count() > 0);
        assert!(server.received().iter().all(|request| request.header("authorization") == Some(key)));
    }
    assert_eq!(first.count() + second.count(), 200);
    assert!(first.count() > second.count(), "the first has three times the weight");
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_its_line() {
    for (job, says) in [
        ("model = 'm'\nmodle = 'm'\n", "job.toml:2: modle: no such option"),
        ("\n\ntemperture = 1\n", "did you mean temperature?"),
        ("rpm = 0\n", "job.toml:1: invalid value '0' for '--rpm"),
        ("\nno_input = 'yes'\n", "job.toml:2: no_input: must be true or false"),
        ("api_key = 'sk-1'\n", "api_key_env names the variable"),
        ("model = \n", "job.toml:1:"),
        ("timeout = 1979-05-27\n", "job.toml:1: timeout: a date is no value"),
        (
            "[[endpoints]]\nbase_url = 'http://a'\nwieght = 2\n",
            "endpoints: wieght=…: no option of an endpoint",
        ),
        ("[[endpoints]]\nweight = 2\n", "job.toml:1: endpoints: base_url is missing"),
    ] {
        let cli = with_job(job);
        let finished = cli.run(&["run", "in.jsonl", "-o", "out.jsonl", "--job", "job.toml"]).exits(2);
        assert!(!finished.stderr.contains("sk-1"), "{}", finished.stderr);
        finished.says(says);
    }
    Cli::with_prompts(1)
        .run(&["run", "in.jsonl", "-o", "o", "--job", "no.toml"])
        .exits(1)
        .says("--job no.toml:");
}

#[test]
fn one_key_goes_to_several_hosts_only_if_that_is_said() {
    let cli = Cli::with_prompts(1);
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", "m", "--max-wait", "10ms"];
    let urls = ["--base-url", "http://127.0.0.1:9/v1", "--base-url", "http://b.invalid/v1"];
    let all = [&job[..], &urls].concat();
    cli.run(&all)
        .exits(2)
        .says("one key would go to several hosts: b.invalid, localhost")
        .says("--share-key");
    let header = ["--header", "Authorization: Bearer sk-9", "--api-key-env", "HOME"];
    cli.run(&[&all[..], &header].concat()).exits(2).says("several hosts");
    // Two servers of one machine are one host.
    let local = ["--base-url", "http://127.0.0.1:9/v1", "--base-url", "http://localhost:7/v1"];
    cli.run(&[&job[..], &local].concat()).exits(3);
    let twice = ["--base-url", "http://127.0.0.1:9/v1", "--base-url", "http://127.0.0.1:9/v1"];
    cli.run(&[&job[..], &twice].concat()).exits(2).says("given twice");
}
