//! The endpoint as its clients see it: over a socket.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Faults, Settings, Simulator, count_tokens};
use crate::domain::Secret;

/// The longest that a test waits for the endpoint.
const PATIENCE: Duration = Duration::from_secs(10);

fn start(settings: Settings) -> Simulator {
    Simulator::start(settings).unwrap()
}

fn connect(simulator: &Simulator) -> TcpStream {
    let address = simulator.base_url().strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.map(|line| line[name.len() + 1..].trim())
    }
}

/// Sends a request on a connection of its own and reads what comes until the endpoint closes it.
fn exchange(simulator: &Simulator, start: &str, headers: &str, body: &str) -> std::io::Result<Got> {
    let mut stream = connect(simulator);
    let length = body.len();
    write!(
        stream,
        "{start} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let got = Got { status, head: head.into(), body: body.into() };
    Ok(if got.header("transfer-encoding").is_some() { Got { body: unchunked(body), ..got } } else { got })
}

/// Takes the chunks of a body apart, as far as they came.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}

fn post(simulator: &Simulator, path: &str, body: &Value) -> Got {
    exchange(simulator, &format!("POST /v1/{path}"), "", &body.to_string()).unwrap()
}

fn get(simulator: &Simulator, path: &str) -> Got {
    exchange(simulator, &format!("GET {path}"), "", "").unwrap()
}

fn chat(content: &str) -> Value {
    json!({"model": "sim-1", "messages": [{"role": "user", "content": content}]})
}

fn events(body: &str) -> Vec<Value> {
    let data: Vec<_> =
        body.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    data[..data.len() - 1].iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Waits until the account says so.
fn until(simulator: &Simulator, done: impl Fn(&super::Stats) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(&simulator.stats()) {
        assert!(Instant::now() < deadline, "the account never said so: {:?}", simulator.stats());
        std::thread::yield_now();
    }
}

#[test]
fn a_chat_is_answered_and_billed_the_same_way_every_time() {
    let simulator = start(Settings::default());
    let got = post(&simulator, "chat/completions", &chat("Why is the sky blue?"));
    assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")));
    assert!(got.header("x-request-id").is_some() && got.header("openai-processing-ms").is_some());
    let answer = got.json();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.starts_with("On \"Why is the sky blue?\": "));
    assert_eq!(answer["usage"]["completion_tokens"], count_tokens(content));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(post(&simulator, "chat/completions", &chat("Why is the sky blue?")).body, got.body);

    let stats = simulator.stats();
    assert_eq!((stats.requests, stats.by_status.get(&200), stats.connections), (2, Some(&2), 2));
    assert_eq!((stats.answered_prompts, stats.answered_twice), (1, 1));
    assert_eq!(stats.completion_tokens, 2 * count_tokens(content));
    let shown: super::Stats = serde_json::from_value(get(&simulator, "/sim/stats").json()).unwrap();
    assert_eq!(shown, super::Stats { connections: 3, ..stats });
    let reset = exchange(&simulator, "POST /sim/reset", "", "").unwrap();
    assert_eq!(reset.json()["requests"], 0);
}

#[test]
fn a_stream_put_together_is_the_whole_answer() {
    let simulator = start(Settings { latency: Duration::from_millis(20), ..Settings::default() });
    let mut body =
        json!({"model": "sim-1", "prompt": "Tell a story", "n": 2, "max_tokens": 30, "logprobs": 2});
    let whole = post(&simulator, "completions", &body).json();
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let got = post(&simulator, "completions", &body);
    assert_eq!(got.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = events(&got.body);
    for index in 0..2 {
        let parts = || {
            events.iter().filter_map(|event| event["choices"].get(0)).filter(|part| part["index"] == index)
        };
        let text: String = parts().filter_map(|part| part["text"].as_str()).collect();
        assert_eq!(text, whole["choices"][index]["text"].as_str().unwrap());
        assert_eq!(parts().next_back().unwrap()["finish_reason"], "length");
        let offsets: Vec<_> = parts().filter_map(|part| part["logprobs"]["text_offset"].get(0)).collect();
        assert_eq!(json!(offsets), whole["choices"][index]["logprobs"]["text_offset"]);
    }
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    assert_eq!(simulator.stats().completion_tokens, 120);

    let mut body = chat("Hello");
    let whole = post(&simulator, "chat/completions", &body).json();
    body["stream"] = true.into();
    let events = self::events(&post(&simulator, "chat/completions", &body).body);
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
}

#[test]
fn a_wrong_request_is_told_which_parameter_is_wrong() {
    let simulator = start(Settings::default());
    let prompt = |more: Value| {
        let mut body = json!({"model": "sim-1", "prompt": "x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("completions", body)
    };
    let talk = |more: Value| {
        let mut body = chat("x");
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("chat/completions", body)
    };
    for ((path, body), param) in [
        (("completions", json!({"model": "sim-1"})), "prompt"),
        (("chat/completions", json!({"model": "sim-1"})), "messages"),
        (("completions", json!({"prompt": "x"})), "model"),
        (prompt(json!({"temperature": 2.1})), "temperature"),
        (prompt(json!({"n": 0})), "n"),
        (prompt(json!({"n": 3, "best_of": 2})), "best_of"),
        (prompt(json!({"best_of": 2, "stream": true})), "best_of"),
        (prompt(json!({"max_tokens": -1})), "max_tokens"),
        (prompt(json!({"logprobs": 6})), "logprobs"),
        (prompt(json!({"stop": ["a", "b", "c", "d", "e"]})), "stop"),
        (prompt(json!({"prompt": [1, "x"]})), "prompt"),
        (prompt(json!({"logit_bias": {"7": 101}})), "logit_bias"),
        (talk(json!({"max_tokens": 0})), "max_tokens"),
        (talk(json!({"top_logprobs": 2})), "top_logprobs"),
        (talk(json!({"stream_options": {"include_usage": true}})), "stream_options"),
        (talk(json!({"messages": [{"role": "nobody", "content": "x"}]})), "messages[0].role"),
        (talk(json!({"messages": [{"role": "user"}]})), "messages[0].content"),
        (talk(json!({"response_format": {"type": "xml"}})), "response_format.type"),
    ] {
        let got = post(&simulator, path, &body);
        let error = &got.json()["error"];
        assert_eq!((got.status, error["param"].as_str()), (400, Some(param)), "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    assert_eq!(exchange(&simulator, "POST /v1/completions", "", "{").unwrap().status, 400);
    assert_eq!(simulator.stats().prompt_tokens, 0);
}

#[test]
fn models_paths_and_keys_are_checked() {
    let simulator = start(Settings { api_key: Some(Secret::new("sk-right".into())), ..Settings::default() });
    let ask = |start: &str, key: &str, body: &str| {
        let got = exchange(&simulator, start, &format!("authorization: Bearer {key}\r\n"), body).unwrap();
        (got.status, got.json()["error"]["code"].clone())
    };
    let unknown = chat("x").to_string().replace("sim-1", "gpt-7");
    let path = "POST /v1/chat/completions";
    assert_eq!(ask(path, "sk-right", &unknown), (404, json!("model_not_found")));
    assert_eq!(ask(path, "sk-wrong", &chat("x").to_string()), (401, json!("invalid_api_key")));
    assert_eq!(ask("GET /v1/models/gpt-7", "sk-right", ""), (404, json!("model_not_found")));
    assert_eq!(ask("GET /v1/models/sim-1", "sk-right", "").0, 200);
    assert_eq!(ask("GET /v1/nothing", "sk-right", ""), (404, json!(null)));
    assert_eq!(get(&simulator, "/v1/models").status, 401);

    let open = start(Settings { models: Vec::new(), ..Settings::default() });
    assert_eq!(post(&open, "chat/completions", &serde_json::from_str(&unknown).unwrap()).status, 200);
    let models = start(Settings::default());
    assert_eq!(get(&models, "/v1/models").json()["data"][1]["id"], "sim-1-mini");
}

#[test]
fn limits_are_kept_without_a_word_where_that_is_asked_for() {
    let simulator = start(Settings { rpm: Some(60), tells_limits: false, ..Settings::default() });
    let ask = || post(&simulator, "chat/completions", &chat("x"));
    let [first, second] = [ask(), ask()];
    assert_eq!((first.status, second.status), (200, 429));
    for got in [first, second] {
        let head = got.head.to_ascii_lowercase();
        assert!(!head.contains("ratelimit") && !head.contains("retry-after"), "{head}");
    }
}

#[test]
fn limits_are_shown_and_kept() {
    let simulator = start(Settings { rpm: Some(60), tpm: Some(600_000), ..Settings::default() });
    let first = post(&simulator, "chat/completions", &chat("x"));
    assert_eq!((first.status, first.header("x-ratelimit-remaining-requests")), (200, Some("0")));
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("600000"));
    let second = post(&simulator, "chat/completions", &chat("x"));
    assert_eq!((second.status, second.header("retry-after")), (429, Some("1")));
    assert!(second.header("retry-after-ms").unwrap().parse::<u64>().unwrap() <= 1000);
    assert_eq!(second.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(simulator.stats().by_status, [(200, 1), (429, 1)].into());
}

#[test]
fn more_requests_at_once_than_are_served_are_refused() {
    let faults = Faults { hang: 1.0, ..Faults::default() };
    let simulator = start(Settings { max_inflight: Some(1), faults, ..Settings::default() });
    let body = chat("x").to_string();
    let mut hanging = connect(&simulator);
    write!(
        hanging,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    until(&simulator, |stats| stats.hung == 1);
    let refused = post(&simulator, "chat/completions", &chat("x"));
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (429, Some("slow_down")));
    drop(hanging);
    until(&simulator, |stats| stats.in_flight == 0);
    let stats = simulator.stats();
    assert_eq!((stats.max_in_flight, stats.abandoned, stats.requests), (1, 0, 2));
}

/// Sends a chat and does not wait for what comes.
fn begin(simulator: &Simulator, content: &str) -> TcpStream {
    let (mut stream, body) = (connect(simulator), chat(content).to_string());
    let length = body.len();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

#[test]
fn requests_beyond_the_slots_wait_in_line_and_none_is_refused() {
    let slots = NonZeroUsize::new(2);
    let latency = Duration::from_hours(1);
    let simulator = start(Settings { latency, slots, ..Settings::default() });
    let mut streams = Vec::new();
    for sent in 1..=5 {
        streams.push(begin(&simulator, "x"));
        until(&simulator, |stats| stats.in_flight == sent && stats.waiting == sent.saturating_sub(2));
    }
    drop(streams.remove(0));
    until(&simulator, |stats| (stats.abandoned, stats.waiting) == (1, 2));
    drop(streams.pop());
    until(&simulator, |stats| (stats.abandoned, stats.waiting) == (2, 1));
    let stats = simulator.stats();
    assert_eq!((stats.in_flight, stats.max_waiting, stats.by_status), (3, 3, [].into()));
}

#[test]
fn one_slot_answers_in_the_order_of_arrival_streamed_or_not() {
    let settings = Settings {
        slots: NonZeroUsize::new(1),
        latency: Duration::from_millis(30),
        models: Vec::new(),
        ..Settings::default()
    };
    let simulator = start(settings);
    let mut streamed = chat("first");
    streamed["stream"] = true.into();
    let bodies = [streamed, chat("second"), chat("third")];
    let sent = Instant::now();
    let took = std::thread::scope(|scope| {
        let waits: Vec<_> = bodies
            .iter()
            .zip(1..)
            .map(|(body, count)| {
                let wait = scope.spawn(|| {
                    let got = post(&simulator, "chat/completions", body);
                    (got.status, sent.elapsed())
                });
                until(&simulator, |stats| stats.requests == count);
                wait
            })
            .collect();
        waits.into_iter().map(|wait| wait.join().unwrap()).collect::<Vec<_>>()
    });
    for ((status, took), least) in took.into_iter().zip([30, 60, 90]) {
        assert!(status == 200 && took >= Duration::from_millis(least), "{took:?} instead of {least} ms");
    }
    assert_eq!((simulator.stats().waiting, simulator.stats().in_flight), (0, 0));
}

#[test]
fn an_answer_takes_longer_the_more_tokens_it_has() {
    let per_token = Duration::from_millis(3);
    let simulator = start(Settings { latency_per_token: per_token, ..Settings::default() });
    for (tokens, stream) in [(1, false), (30, false), (30, true)] {
        let body =
            json!({"model": "sim-1", "prompt": "Tell a story", "max_tokens": tokens, "stream": stream});
        let sent = Instant::now();
        assert_eq!(post(&simulator, "completions", &body).status, 200);
        assert!(sent.elapsed() >= per_token * tokens, "{tokens} tokens after {:?}", sent.elapsed());
    }
}

#[test]
fn faults_break_what_they_shall_and_are_not_billed() {
    let with = |faults| start(Settings { faults, ..Settings::default() });
    let ask = |simulator: &Simulator| {
        exchange(simulator, "POST /v1/chat/completions", "x-client-request-id: a\r\n", &chat("x").to_string())
    };
    let resetting = with(Faults { reset: 1.0, ..Faults::default() });
    assert_eq!(ask(&resetting).err().unwrap().kind(), ErrorKind::ConnectionReset);
    let truncating = with(Faults { truncate: 1.0, ..Faults::default() });
    let cut = ask(&truncating).unwrap();
    let announced: usize = cut.header("content-length").unwrap().parse().unwrap();
    assert!(cut.status == 200 && announced / 2 == cut.body.len());
    let failing = with(Faults { server_error: 1.0, ..Faults::default() });
    assert_eq!(ask(&failing).unwrap().json()["error"]["type"], "server_error");
    let refusing = with(Faults { too_many_requests: 1.0, ..Faults::default() });
    let refused = ask(&refusing).unwrap();
    assert_eq!(
        (refused.status, refused.header("retry-after-ms"), refused.header("retry-after")),
        (429, Some("20"), Some("0"))
    );
    assert_eq!((resetting.stats().resets, truncating.stats().truncated), (1, 1));
    for simulator in [resetting, truncating, failing, refusing] {
        let stats = simulator.stats();
        assert_eq!((stats.requests, stats.completion_tokens, stats.answered_prompts), (1, 0, 0));
        assert_eq!((stats.distinct_client_request_ids, stats.in_flight), (1, 0));
    }
}

#[test]
fn a_stream_cut_in_the_middle_has_no_end() {
    let faults = Faults { truncate: 1.0, ..Faults::default() };
    let simulator = start(Settings { faults, ..Settings::default() });
    let mut body = chat("x");
    body["stream"] = true.into();
    let cut = post(&simulator, "chat/completions", &body);
    assert!(cut.body.starts_with("data: ") && !cut.body.contains("[DONE]"));
    assert_eq!((simulator.stats().truncated, simulator.stats().completion_tokens), (1, 0));
}

#[test]
fn an_answer_takes_the_latency_and_one_that_nobody_waits_for_is_not_billed() {
    let latency = Duration::from_millis(50);
    let simulator = start(Settings { latency, ..Settings::default() });
    let started = Instant::now();
    assert_eq!(post(&simulator, "chat/completions", &chat("x")).status, 200);
    assert!(started.elapsed() >= latency);
    let patient = start(Settings { latency: Duration::from_hours(1), ..Settings::default() });
    let body = chat("x").to_string();
    let mut stream = connect(&patient);
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    until(&patient, |stats| stats.in_flight == 1);
    drop(stream);
    until(&patient, |stats| stats.abandoned == 1);
    assert_eq!((patient.stats().completion_tokens, patient.stats().requests), (0, 1));
    patient.stop();
}

#[test]
fn a_port_that_is_taken_and_wrong_faults_are_refused() {
    let simulator = start(Settings::default());
    let port = simulator.base_url().strip_suffix("/v1").unwrap().rsplit(':').next().unwrap().parse().unwrap();
    let again = Simulator::start(Settings { port, ..Settings::default() });
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    let faults = Faults { hang: 1.5, ..Faults::default() };
    let wrong = Simulator::start(Settings { faults, ..Settings::default() });
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);
}
