//! What arrives at the server: every parameter in the JSON type that the API wants, and nothing that was not asked for.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::cli::{Cli, KEY, MODEL, assert_failed, field};
use crate::server::{Reply, Server};

/// The body that is sent for one row with these arguments.
fn body_of(row: Value, arguments: &[&str]) -> Value {
    let server = Server::echo();
    Cli::with_rows(&[row]).job(&server, arguments).exits(0);
    server.only().json()
}

/// The body of a completion of `hello`, without model and prompt.
fn completion_parameters(arguments: &[&str]) -> Value {
    let mut body = body_of(json!({"prompt": "hello"}), &[&["--endpoint", "completions"], arguments].concat());
    assert_eq!(body.as_object_mut().unwrap().remove("model"), Some(json!(MODEL)));
    assert_eq!(body.as_object_mut().unwrap().remove("prompt"), Some(json!("hello")));
    body
}

/// The body of a chat about `hello`, without model and messages.
fn chat_parameters(arguments: &[&str]) -> Value {
    let mut body = body_of(json!({"prompt": "hello"}), arguments);
    assert_eq!(body.as_object_mut().unwrap().remove("model"), Some(json!(MODEL)));
    let messages = json!([{"role": "user", "content": "hello"}]);
    assert_eq!(body.as_object_mut().unwrap().remove("messages"), Some(messages));
    body
}

#[test]
fn parameters_that_are_not_set_are_not_sent() {
    assert_eq!(chat_parameters(&[]), json!({}));
    assert_eq!(completion_parameters(&[]), json!({}));
}

/// Flags that both endpoints know, and what they become.
fn common_flags() -> Vec<(&'static [&'static str], Value)> {
    vec![
        (&["--max-tokens", "64"], json!({"max_tokens": 64})),
        (&["--temperature", "0.25"], json!({"temperature": 0.25})),
        (&["--top-p", "0.5"], json!({"top_p": 0.5})),
        (&["--n", "3"], json!({"n": 3})),
        (&["--stop", "\n\n", "--stop", "END"], json!({"stop": ["\n\n", "END"]})),
        (&["--presence-penalty=-1.5"], json!({"presence_penalty": -1.5})),
        (&["--frequency-penalty", "0.75"], json!({"frequency_penalty": 0.75})),
        (&["--logit-bias", r#"{"50256":-100}"#], json!({"logit_bias": {"50256": -100}})),
        (&["--user", "team-7"], json!({"user": "team-7"})),
        (&["--seed", "42"], json!({"seed": 42})),
        (&["--param", "top_k=40"], json!({"top_k": 40})),
        (&["--param", "metadata={\"run\":\"a\"}"], json!({"metadata": {"run": "a"}})),
        (
            &["--param", "service_tier=\"flex\"", "--param", "store=false"],
            json!({"service_tier": "flex", "store": false}),
        ),
    ]
}

#[test]
fn every_flag_becomes_the_chat_parameter_in_its_json_type() {
    let mut flags = common_flags();
    flags.extend::<Vec<(&[&str], Value)>>(vec![
        (&["--logprobs", "3"], json!({"logprobs": true, "top_logprobs": 3})),
        (&["--response-format", "json_object"], json!({"response_format": {"type": "json_object"}})),
        (&["--response-format", r#"{"type":"text"}"#], json!({"response_format": {"type": "text"}})),
    ]);
    for (arguments, parameters) in flags {
        assert_eq!(chat_parameters(arguments), parameters, "{arguments:?}");
    }
}

#[test]
fn every_flag_becomes_the_completions_parameter_in_its_json_type() {
    let mut flags = common_flags();
    flags.extend::<Vec<(&[&str], Value)>>(vec![
        (&["--logprobs", "5"], json!({"logprobs": 5})),
        (&["--echo"], json!({"echo": true})),
        (&["--echo", "--max-tokens", "0"], json!({"echo": true, "max_tokens": 0})),
        (&["--suffix", "the end."], json!({"suffix": "the end."})),
        (&["--best-of", "4", "--n", "2"], json!({"best_of": 4, "n": 2})),
    ]);
    for (arguments, parameters) in flags {
        assert_eq!(completion_parameters(arguments), parameters, "{arguments:?}");
    }
}

#[test]
fn all_flags_can_be_given_at_once() {
    let flags = common_flags();
    let arguments: Vec<&str> = flags.iter().flat_map(|(arguments, _)| *arguments).copied().collect();
    let parameters: Value =
        flags.into_iter().flat_map(|(_, value)| value.as_object().unwrap().clone()).collect();
    assert_eq!(chat_parameters(&arguments), parameters);
}

#[test]
fn a_streamed_request_asks_for_its_usage_too() {
    for sent in [chat_parameters(&["--stream"]), completion_parameters(&["--stream"])] {
        assert_eq!(sent["stream"], true);
        assert_eq!(sent["stream_options"]["include_usage"], true);
    }
}

#[test]
fn the_endpoint_is_the_path_that_is_asked() {
    for (endpoint, path) in [("chat", "/v1/chat/completions"), ("completions", "/v1/completions")] {
        let server = Server::echo();
        Cli::with_prompts(1).job(&server, &["--endpoint", endpoint]).exits(0);
        assert_eq!((server.only().method.as_str(), server.only().path.as_str()), ("POST", path));
    }
}

#[test]
fn a_prompt_for_completions_can_be_text_texts_tokens_or_lists_of_tokens() {
    for prompt in [json!("x"), json!(["x", "y"]), json!([1, 22, 333]), json!([[1, 2], [3]])] {
        let sent = body_of(json!({"prompt": prompt}), &["--endpoint", "completions"]);
        assert_eq!(sent["prompt"], prompt);
    }
}

#[test]
fn messages_are_sent_as_they_came() {
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "ann"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye."},
    ]);
    assert_eq!(body_of(json!({"messages": messages}), &[])["messages"], messages);
}

#[test]
fn a_row_s_own_params_win_over_flags() {
    let row =
        json!({"prompt": "x", "params": {"temperature": 1.5, "model": "other", "stop": ["a"], "top_k": 3}});
    let sent = body_of(row, &["--temperature", "0.1", "--max-tokens", "9"]);
    assert_eq!(sent["temperature"], 1.5);
    assert_eq!(sent["model"], "other");
    assert_eq!(sent["stop"], json!(["a"]));
    assert_eq!(sent["top_k"], 3);
    assert_eq!(sent["max_tokens"], 9);
}

#[test]
fn param_columns_win_over_flags_and_an_empty_cell_leaves_the_flag() {
    let server = Server::echo();
    let cli = Cli::new();
    cli.write("in.csv", "prompt,param.temperature,param.max_tokens,param.user\na,1.5,7,ann\nb,,,\n");
    let arguments = ["in.csv", "-o", "out.jsonl", "-c", "1", "--temperature", "0.5"];
    cli.run_on(&server, &arguments).exits(0);
    let bodies: Vec<Value> = server.received().iter().map(|received| received.json()).collect();
    assert_eq!(field(&bodies, "temperature"), [1.5, 0.5]);
    assert_eq!(field(&bodies, "max_tokens"), [&json!(7), &Value::Null]);
    assert_eq!(field(&bodies, "user"), [&json!("ann"), &Value::Null]);
}

#[test]
fn a_bad_flag_is_refused_by_name_before_anything_is_sent() {
    let chat: &[(&[&str], &str)] = &[
        (&["--temperature", "2.1"], "--temperature"),
        (&["--temperature=-0.1"], "--temperature"),
        (&["--temperature", "hot"], "--temperature"),
        (&["--temperature", "NaN"], "--temperature"),
        (&["--top-p", "1.01"], "--top-p"),
        (&["--top-p=-0.5"], "--top-p"),
        (&["--n", "0"], "--n"),
        (&["--max-tokens", "0"], "--max-tokens"),
        (&["--max-tokens=-5"], "--max-tokens"),
        (&["--max-tokens", "1.5"], "--max-tokens"),
        (&["--presence-penalty", "2.5"], "--presence-penalty"),
        (&["--frequency-penalty=-2.5"], "--frequency-penalty"),
        (&["--logprobs", "21"], "--logprobs"),
        (&["--logit-bias", r#"{"1":101}"#], "--logit-bias"),
        (&["--logit-bias", r#"{"word":1}"#], "--logit-bias"),
        (&["--logit-bias", "[1]"], "--logit-bias"),
        (&["--logit-bias", "{"], "--logit-bias"),
        (&["--seed", "x"], "--seed"),
        (&["--stop", "a", "--stop", "b", "--stop", "c", "--stop", "d", "--stop", "e"], "--stop"),
        (&["--response-format", "xml"], "--response-format"),
        (&["--param", "top_k"], "--param"),
        (&["--param", "top_k={"], "--param"),
        (&["--header", "no colon"], "--header"),
        (&["--timeout", "5 parsecs"], "--timeout"),
        (&["--backoff-max", "soon"], "--backoff-max"),
        (&["-c", "0"], "--concurrency"),
        (&["--max-attempts", "0"], "--max-attempts"),
        (&["--max-failures", "120%"], "--max-failures"),
        (&["--endpoint", "chats"], "--endpoint"),
        (&["--order", "random"], "--order"),
        (&["--limit", "many"], "--limit"),
    ];
    let completions: &[(&[&str], &str)] = &[
        (&["--logprobs", "6"], "--logprobs"),
        (&["--best-of", "0"], "--best-of"),
        (&["--best-of", "2", "--n", "3"], "--best-of"),
        (&["--best-of", "2", "--stream"], "--best-of"),
        (&["--max-tokens", "0"], "--max-tokens"),
    ];
    let server = Server::echo();
    let cli = Cli::with_prompts(2);
    let check = |arguments: &[&str], flag: &str| {
        let finished = cli.job(&server, arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(flag), "{arguments:?}: {}", finished.stderr);
        assert_eq!(server.count(), 0, "{arguments:?}");
    };
    for (arguments, flag) in chat {
        check(arguments, flag);
    }
    for (arguments, flag) in completions {
        check(&[&["--endpoint", "completions"], *arguments].concat(), flag);
    }
}

#[test]
fn a_row_with_a_bad_parameter_fails_by_name_and_the_others_are_answered() {
    let bad = [
        ("temperature", json!(9)),
        ("top_p", json!("high")),
        ("n", json!(0)),
        ("max_tokens", json!(1.5)),
        ("logit_bias", json!({"5": 500})),
        ("presence_penalty", json!(-3)),
        ("stop", json!(["a", "b", "c", "d", "e"])),
    ];
    let mut rows = vec![json!({"prompt": "first"})];
    rows.extend(bad.iter().map(|(name, value)| json!({"prompt": "x", "params": {*name: value}})));
    rows.push(json!({"prompt": "last"}));
    let server = Server::echo();
    let cli = Cli::with_rows(&rows);
    cli.job(&server, &[]).exits(3);
    let answers = cli.answers();
    for (i, (name, _)) in bad.iter().enumerate() {
        assert_failed(&answers[i + 1], "invalid_input", &format!("in.jsonl:{}: params.{name}", i + 2));
        assert_eq!(answers[i + 1]["attempts"], 0);
    }
    assert_eq!(answers[0]["output"], "echo: first");
    assert_eq!(answers.last().unwrap()["output"], "echo: last");
    assert_eq!(server.count(), 2);
}

#[test]
fn strict_sends_nothing_when_any_row_is_bad() {
    let server = Server::echo();
    let rows = [json!({"prompt": "good"}), json!({"prompt": "x", "params": {"n": 0}}), json!({"text": "x"})];
    let finished = Cli::with_rows(&rows).job(&server, &["--strict"]).exits(1);
    finished.says("in.jsonl:2: params.n").says("in.jsonl:3:");
    assert_eq!(server.count(), 0);
}

#[test]
fn strict_runs_when_all_rows_are_good() {
    let server = Server::echo();
    Cli::with_prompts(3).job(&server, &["--strict"]).exits(0);
    assert_eq!(server.count(), 3);
}

#[test]
fn a_template_makes_the_prompt_and_an_undefined_variable_is_an_error_of_its_row() {
    let server = Server::echo();
    let rows = [json!({"name": "Ann", "to": {"city": "Ulm"}}), json!({"name": "Bob"})];
    let cli = Cli::with_rows(&rows);
    let template = "Dear {{ name|upper }} in {{ to.city }}";
    cli.job(&server, &["--template", template, "--system", "You write to {{ name }}."]).exits(3);
    let messages = json!([
        {"role": "system", "content": "You write to Ann."},
        {"role": "user", "content": "Dear ANN in Ulm"},
    ]);
    assert_eq!(server.only().json()["messages"], messages);
    assert_failed(&cli.answers()[1], "invalid_input", "in.jsonl:2:");
}

#[test]
fn templates_can_stand_in_files() {
    let server = Server::echo();
    let cli = Cli::with_rows(&[json!({"lines": ["a", "b"]})]);
    cli.write("list.jinja", "{% for line in lines %}- {{ line }}\n{% endfor %}");
    cli.write("system.jinja", "There are {{ lines|length }}.");
    cli.job(&server, &["--template-file", "list.jinja", "--system-file", "system.jinja"]).exits(0);
    let messages = server.only().json()["messages"].clone();
    assert_eq!(messages[0]["content"], "There are 2.");
    assert_eq!(messages[1]["content"].as_str().unwrap().trim_end(), "- a\n- b");
}

#[test]
fn a_template_with_a_mistake_is_refused_before_anything_is_sent() {
    let server = Server::echo();
    Cli::with_prompts(1).job(&server, &["--template", "{{ prompt"]).refuses().says("--template");
    assert_eq!(server.count(), 0);
}

#[test]
fn rows_in_batch_format_are_sent_as_they_are_and_the_job_fills_only_what_they_leave_out() {
    let server = Server::echo();
    let body = json!({"model": "row-model", "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.3, "vendor": {"x": [1, 2.50]}});
    let row = |id: &str, url: &str, body: &Value| json!({"custom_id": id, "method": "POST", "url": url, "body": body});
    let rows = [
        row("chat", "/v1/chat/completions", &body),
        row("completion", "/v1/completions", &json!({"prompt": "Once"})),
    ];
    let cli = Cli::with_rows(&rows);
    cli.job(&server, &["-c", "1", "--temperature", "0.9", "--max-tokens", "5"]).exits(0);
    let received = server.received();
    let mut chat = body;
    chat["max_tokens"] = json!(5);
    assert_eq!(received[0].path, "/v1/chat/completions");
    assert_eq!(received[0].json(), chat);
    assert_eq!(received[1].path, "/v1/completions");
    let completion = json!({"prompt": "Once", "model": MODEL, "temperature": 0.9, "max_tokens": 5});
    assert_eq!(received[1].json(), completion);
    assert_eq!(field(&cli.answers(), "id"), ["chat", "completion"]);
}

#[test]
fn the_headers_say_who_asks_and_each_request_has_an_id_of_its_own() {
    let server = Server::start(|_, attempt| if attempt == 1 { Reply::broken() } else { Reply::Answer });
    let arguments = ["--organization", "org-1", "--project", "proj-1", "--header", "X-Team: blue: green"];
    Cli::with_prompts(10).job(&server, &arguments).exits(0);
    let expected = [
        ("authorization", format!("Bearer {KEY}")),
        ("openai-organization", "org-1".to_owned()),
        ("openai-project", "proj-1".to_owned()),
        ("x-team", "blue: green".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("user-agent", format!("promptmill/{}", env!("CARGO_PKG_VERSION"))),
    ];
    let mut ids = HashSet::new();
    for received in server.received() {
        for (name, value) in &expected {
            assert_eq!(received.header(name), Some(value.as_str()), "{name}");
        }
        assert!(ids.insert(received.header("x-client-request-id").unwrap().to_owned()), "an id came twice");
    }
    assert_eq!(ids.len(), 20);
}

#[test]
fn the_base_url_can_come_from_the_environment() {
    let server = Server::echo();
    let mut cli = Cli::with_prompts(1);
    cli.set("OPENAI_BASE_URL", &server.base_url());
    cli.run(&["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL]).exits(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn the_key_can_come_from_another_variable_or_from_a_file() {
    for arguments in [["--api-key-env", "TEAM_KEY"], ["--api-key-file", "key.txt"]] {
        let server = Server::echo();
        let mut cli = Cli::with_prompts(1);
        cli.set("TEAM_KEY", "sk-of-the-team");
        cli.write("key.txt", "sk-of-the-team\n");
        cli.job(&server, &arguments).exits(0);
        assert_eq!(server.only().header("authorization"), Some("Bearer sk-of-the-team"));
    }
}
