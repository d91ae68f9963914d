//! What an endpoint says when it does not answer as it should: each fault with its kind, its message and how often
//! it is tried. `FAULTS.md` lists them all.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{Cli, field};
use crate::server::{Reply, Server};

/// The longest that a message may be; it stands in a table and on a screen.
const LONGEST_MESSAGE: usize = 700;

/// A server that always replies so, and how a row that may be tried twice fails on it.
pub struct Fault {
    pub name: &'static str,
    pub reply: Reply,
    pub kind: &'static str,
    pub says: &'static str,
    pub attempts: usize,
}

pub fn fault(
    name: &'static str,
    reply: Reply,
    kind: &'static str,
    says: &'static str,
    attempts: usize,
) -> Fault {
    Fault { name, reply, kind, says, attempts }
}

/// Runs a row on every one of these servers.
pub fn check(faults: Vec<Fault>, arguments: &[&str]) {
    for Fault { name, reply, kind, says, attempts } in faults {
        let server = Server::start(move |_, _| reply.clone());
        let cli = Cli::with_prompts(1);
        let finished =
            cli.job(&server, &[&["--max-attempts", "2", "--max-wait", "100ms"], arguments].concat());
        assert!(matches!(finished.code, Some(1 | 3)), "{name}: {finished:?}");
        let row = cli.answers().remove(0);
        assert_eq!(row["status"], "error", "{name}: {row}");
        assert_eq!(row["error"]["kind"], kind, "{name}: {row}");
        let message = row["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{name}: {message}");
        assert!(
            !message.contains(['\n', '\r', '\0']) && message.len() < LONGEST_MESSAGE,
            "{name}: {message}"
        );
        assert!(finished.stderr.contains(kind), "{name}: {}", finished.stderr);
        assert_eq!(row["attempts"], server.count(), "{name}: {row}");
        if attempts > 0 {
            assert_eq!(server.count(), attempts, "{name}: {row}");
        }
    }
}

/// Runs a row on a server that always replies so, which must be taken for an answer.
fn answered(reply: Reply, arguments: &[&str]) -> Value {
    let server = Server::start(move |_, _| reply.clone());
    let cli = Cli::with_prompts(1);
    cli.job(&server, arguments).exits(0);
    assert_eq!(server.count(), 1);
    cli.answers().remove(0)
}

fn status(status: u16) -> Reply {
    Reply::error(status, "error", "some_code", "said so")
}

/// A chat answer with this message and this reason to end.
fn chat(message: impl Into<Value>, finish_reason: impl Into<Value>) -> Value {
    let (message, finish_reason) = (message.into(), finish_reason.into());
    json!({"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
}

fn ok(body: &Value) -> Reply {
    Reply::ok(body.to_string())
}

fn typed(kind: &str, body: &str) -> Reply {
    Reply::ok(body).with_header("content-type", kind)
}

const ANY: usize = 0;

#[test]
fn each_status_has_its_kind_its_message_and_its_number_of_attempts() {
    let quota = |code| Reply::error(429, "insufficient_quota", code, "no credit");
    check(
        vec![
            fault("408", status(408), "timeout", "the server answered 408: said so (after 2 attempts)", 2),
            fault("409", status(409), "server", "the server answered 409: said so", 2),
            fault(
                "429",
                status(429),
                "rate_limited",
                "said so; the wait would be longer than --max-wait",
                ANY,
            ),
            fault("429 later", status(429).with_header("retry-after", "9"), "rate_limited", "--max-wait", 1),
            fault("429 quota", quota("insufficient_quota"), "quota", "no credit", 1),
            fault("429 credit", quota("credit_balance_exhausted"), "quota", "no credit", 1),
            fault("500", status(500), "server", "the server answered 500: said so (after 2 attempts)", 2),
            fault("502", status(502), "server", "the server answered 502: said so", 2),
            fault("503", status(503), "server", "the server answered 503: said so", 2),
            fault(
                "503 later",
                status(503).with_header("retry-after", "9"),
                "rate_limited",
                "503: said so",
                1,
            ),
            fault("504", status(504), "server", "the server answered 504: said so", 2),
            fault("529", status(529), "rate_limited", "the server answered 529: said so", ANY),
            fault("599", Reply::Status(599, vec![], String::new()), "server", "599 without a message", 2),
        ],
        &[],
    );
}

#[test]
fn a_limit_that_the_headers_explain_closes_the_gate_for_all_until_it_is_back() {
    const CLOSED: Duration = Duration::from_millis(400);
    let server = Server::start(|_, attempt| {
        let refusal = status(429)
            .with_header("x-ratelimit-remaining-requests", "0")
            .with_header("x-ratelimit-reset-requests", "400ms");
        if attempt == 1 { refusal } else { Reply::Answer }
    });
    let cli = Cli::with_prompts(2);
    let url = server.base_url();
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", "m", "--base-url", &url, "-c", "1"];
    cli.run(&[&job[..], &["--backoff-base", "1ms", "--max-attempts", "1"]].concat()).exits(0);
    assert!(cli.answers().iter().all(|row| row["attempts"] == 2), "refusals use up no attempt");
    let received = server.received();
    assert!(received[1].at - received[0].at >= CLOSED, "somebody went through a closed gate");
}

#[test]
fn answers_of_other_statuses_are_no_answers() {
    let empty = |status| Reply::Status(status, vec![], String::new());
    check(
        vec![
            fault(
                "204",
                Reply::RawBytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
                "bad_response",
                "empty",
                2,
            ),
            fault(
                "304",
                Reply::RawBytes(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()),
                "bad_response",
                "304",
                2,
            ),
            fault("300", empty(300), "bad_response", "the server answered 300", 2),
            fault(
                "101",
                Reply::RawBytes(b"HTTP/1.1 101 Switching\r\n\r\n".to_vec()),
                "bad_response",
                "101",
                2,
            ),
            fault(
                "302",
                empty(302).with_header("location", "http://127.0.0.1:1/x"),
                "not_found",
                "a redirect to",
                1,
            ),
            fault(
                "308",
                empty(308).with_header("location", "/v2"),
                "not_found",
                "give the right --base-url",
                1,
            ),
        ],
        &[],
    );
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".to_vec();
    let row = answered(Reply::First(interim, Box::new(Reply::Answer)), &[]);
    assert_eq!(row["output"], "echo: What is the square of 0?");
    let created = chat(json!({"content": "made"}), "stop").to_string();
    assert_eq!(answered(Reply::Status(201, vec![], created), &[])["output"], "made");
}

#[test]
fn what_is_no_answer_under_a_good_status_is_a_bad_response() {
    let page = "<!doctype html>\n<html><title>Busy</title><p>Come back later</p></html>";
    let not_asked = "the answer is encoded as gzip, which was not asked for";
    let cut = &ok(&chat(json!({"content": "whole"}), "stop"));
    let Reply::Status(_, _, body) = cut else { unreachable!() };
    let cut = &body[..body.len() / 2];
    check(
        vec![
            fault(
                "html",
                typed("text/html", page),
                "bad_response",
                "a web page instead of JSON (Busy Come back",
                2,
            ),
            fault(
                "html 502",
                Reply::Status(502, vec![], page.into()),
                "server",
                "502: Busy Come back later",
                2,
            ),
            fault("cut JSON", Reply::ok(cut), "bad_response", "the answer's JSON is cut short", 2),
            fault("empty", Reply::ok(""), "bad_response", "the server's answer is empty", 2),
            fault("blank", Reply::ok("\r\n  \n"), "bad_response", "the server's answer is empty", 2),
            fault("text", Reply::ok("busy"), "bad_response", "the answer is not the JSON it should be", 2),
            fault("number", Reply::ok("42"), "bad_response", "the answer is not the JSON it should be", 2),
            fault("null", Reply::ok("null"), "bad_response", "the answer", 2),
            fault("NUL", Reply::ok("\0\0\0"), "bad_response", "the answer is not the JSON it should be", 2),
            fault(
                "gzip",
                Reply::ok("\x1f").with_header("content-encoding", "gzip"),
                "bad_response",
                not_asked,
                2,
            ),
            fault("deep", Reply::ok("[".repeat(100_000)), "bad_response", "the answer", 2),
            fault("error", ok(&json!({"error": {"message": "fell over"}})), "bad_response", "fell over", 2),
            fault("error text", ok(&json!({"error": "fell over"})), "bad_response", "fell over", 2),
            fault("error 502", ok(&json!({"error": {"message": "up", "code": 502}})), "server", "502: up", 2),
            fault(
                "error 429",
                ok(&json!({"error": {"message": "up", "code": 429}})),
                "rate_limited",
                "429: up",
                ANY,
            ),
            fault("error 401", ok(&json!({"error": {"message": "up", "code": 401}})), "auth", "401: up", 1),
        ],
        &[],
    );
}

#[test]
fn an_answer_without_its_parts_is_a_bad_response() {
    let text = json!({"content": "half an"});
    let nothing = "the answer has neither text nor tool calls nor a refusal";
    check(
        vec![
            fault("no choices", ok(&json!({"choices": []})), "bad_response", "the answer has no choices", 2),
            fault(
                "null choices",
                ok(&json!({"choices": null})),
                "bad_response",
                "the answer has no choices",
                2,
            ),
            fault(
                "no reason",
                ok(&chat(text.clone(), Value::Null)),
                "bad_response",
                "without a finish_reason",
                2,
            ),
            fault("odd reason", ok(&chat(text.clone(), 7)), "bad_response", "without a finish_reason", 2),
            fault("gave up", ok(&chat(text, "error")), "bad_response", "gave up in the middle", 2),
            fault("nothing", ok(&chat(json!({"content": null}), "stop")), "bad_response", nothing, 2),
            fault("no message", ok(&chat(Value::Null, "stop")), "bad_response", nothing, 2),
            fault("number", ok(&chat(json!({"content": 42}), "stop")), "bad_response", nothing, 2),
            fault(
                "choices",
                ok(&json!({"choices": {"a": 1}})),
                "bad_response",
                "not the JSON it should be",
                2,
            ),
            fault("message", ok(&chat("hi", "stop")), "bad_response", "not the JSON it should be", 2),
            fault(
                "filter",
                ok(&chat(json!({"content": ""}), "content_filter")),
                "content_filter",
                "withheld",
                1,
            ),
        ],
        &[],
    );
}

#[test]
fn what_an_unused_answer_consumed_is_counted_as_wasted() {
    let server =
        Server::start(
            |_, attempt| {
                if attempt == 1 { ok(&chat(json!({"content": null}), "stop")) } else { Reply::Answer }
            },
        );
    let cli = Cli::with_prompts(1);
    cli.job(&server, &["--report", "report.json"]).exits(0);
    assert_eq!(cli.json("report.json")["usage"]["wasted_tokens"], 7);
    let billed = server.billed();
    assert_eq!(cli.answers()[0]["usage"]["total_tokens"], billed.prompt + billed.completion + 7);
}

#[test]
fn an_answer_that_lacks_only_what_can_be_done_without_is_an_answer() {
    let with_usage = |usage: Value| {
        let mut body = chat(json!({"content": "hi"}), "stop");
        body["usage"] = usage;
        answered(ok(&body), &[])
    };
    let usage = with_usage(Value::Null)["usage"].clone();
    assert_eq!([&usage["prompt_tokens"], &usage["total_tokens"]], [&Value::Null, &Value::Null]);
    assert_eq!(with_usage(json!("many"))["usage"]["prompt_tokens"], Value::Null);
    let odd = json!({"prompt_tokens": 5, "completion_tokens": "2", "prompt_tokens_details": "none", "total_tokens": -1});
    let usage = with_usage(odd)["usage"].clone();
    assert_eq!(usage["prompt_tokens"], 5);
    assert_eq!(
        [&usage["completion_tokens"], &usage["total_tokens"], &usage["cached_tokens"]],
        [&Value::Null; 3]
    );
    let mut without = chat(json!({"content": "hi"}), "stop");
    without.as_object_mut().unwrap().remove("usage");
    assert_eq!(answered(ok(&without), &[])["usage"]["prompt_tokens"], Value::Null);
    assert_eq!(answered(Reply::ok(format!("\u{feff}{without}")), &[])["output"], "hi");
}

#[test]
fn an_answer_of_a_refusal_of_tool_calls_or_of_nothing_within_the_length_is_an_answer() {
    let refusal = answered(ok(&chat(json!({"content": null, "refusal": "I will not"}), "stop")), &[]);
    assert_eq!((&refusal["output"], &refusal["refusal"]), (&Value::Null, &json!("I will not")));
    let calls = json!([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let tools = answered(ok(&chat(json!({"content": null, "tool_calls": calls}), "tool_calls")), &[]);
    assert_eq!((&tools["output"], &tools["tool_calls"]), (&Value::Null, &calls));
    let cut = answered(ok(&chat(json!({"content": null}), "length")), &[]);
    assert_eq!((&cut["output"], &cut["finish_reason"]), (&Value::Null, &json!("length")));
    assert_eq!(answered(ok(&chat(json!({"content": ""}), "stop")), &[])["output"], "");
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_nul_characters_kept() {
    let body = chat(json!({"content": "AB\u{0}C"}), "stop").to_string();
    let at = body.find("AB").unwrap() + 1;
    let mut bytes = body.into_bytes();
    bytes[at] = 0xff;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
    let row = answered(Reply::RawBytes([head.into_bytes(), bytes].concat()), &[]);
    assert_eq!(row["output"], "A\u{fffd}\u{0}C");
}

#[test]
fn a_stream_that_is_cut_or_brings_an_error_is_no_answer() {
    let events =
        |events: &[&str]| typed("text/event-stream", &format!("data: {}\n\n", events.join("\n\ndata: ")));
    let half = r#"{"choices":[{"index":0,"delta":{"content":"half an"},"finish_reason":null}]}"#;
    let done = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let second = r#"{"choices":[{"index":1,"delta":{"content":"half an"}}]}"#;
    let error = r#"{"error":{"code":502,"message":"upstream is gone"}}"#;
    let plain_error = r#"{"error":{"message":"upstream is gone"}}"#;
    let cut = "the stream ends without [DONE] or a finish_reason";
    check(
        vec![
            fault("cut", events(&[half]), "bad_response", cut, 2),
            fault("one of two cut", events(&[half, second, done]), "bad_response", cut, 2),
            fault("empty", events(&[]), "bad_response", "the stream ended without a choice", 2),
            fault("only done", events(&["[DONE]"]), "bad_response", "the stream ended without a choice", 2),
            fault("error", events(&[half, error]), "server", "502: upstream is gone", 2),
            fault("plain error", events(&[half, plain_error]), "bad_response", "upstream is gone", 2),
            fault("no JSON", events(&[half, "busy"]), "bad_response", "the stream holds what is no JSON", 2),
        ],
        &["--stream"],
    );
    assert_eq!(answered(events(&[half, done]), &["--stream"])["output"], "half an");
}

#[test]
fn what_comes_after_the_end_of_a_stream_does_not_spoil_its_answer() {
    let events = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"all\"},\"finish_reason\":\"stop\"}]}\n\n\
        data: [DONE]\n\n";
    let head = "200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999";
    for then in [Reply::Close, Reply::Hang] {
        let row = answered(Reply::begun(head, events, then), &["--stream", "--timeout", "20s"]);
        assert_eq!(row["output"], "all");
    }
}

#[test]
fn a_message_about_a_missing_model_says_what_to_do_and_blames_no_url_that_is_right() {
    let server =
        Server::start(|_, _| Reply::error(404, "invalid_request_error", "model_not_found", "no such"));
    let finished = Cli::with_prompts(1).job(&server, &[]).exits(1).says("promptmill models");
    assert!(!finished.stderr.contains("--base-url"), "{}", finished.stderr);
    let cli = Cli::with_prompts(1);
    let url = server.base_url().replace("/v1", "");
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", "m", "--base-url", &url];
    cli.run(&job).exits(1).says("should --base-url end in the version");
    assert_eq!(field(&cli.answers(), "status"), ["error"]);
}
