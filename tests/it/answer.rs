//! What the test server says: `echo: PROMPT` in the shapes of the API, whole or streamed, and what it bills for it.

use std::fmt::Write;
use std::iter::Sum;

use serde_json::{Value, json};

use crate::server::Received;
use crate::wire;

/// Token counts, as the server bills them and as our outputs have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub reasoning: u64,
}

impl Usage {
    /// What the server bills: other counts for other texts.
    pub fn of(prompt: &str, answer: &str) -> Self {
        let (prompt, completion) = (prompt.len() as u64 + 3, answer.len() as u64);
        Self { prompt, completion, cached: prompt / 4, reasoning: completion / 5 }
    }

    /// What one of our rows or reports says.
    pub fn read(usage: &Value) -> Self {
        let count = |name: &str| usage[name].as_u64().unwrap_or_else(|| panic!("no {name} in {usage}"));
        let read = Self {
            prompt: count("prompt_tokens"),
            completion: count("completion_tokens"),
            cached: count("cached_tokens"),
            reasoning: count("reasoning_tokens"),
        };
        assert_eq!(count("total_tokens"), read.prompt + read.completion);
        read
    }

    /// The shape of the API.
    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        })
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |sum, item| Self {
            prompt: sum.prompt + item.prompt,
            completion: sum.completion + item.completion,
            cached: sum.cached + item.cached,
            reasoning: sum.reasoning + item.reasoning,
        })
    }
}

/// Head and body of the answer, and what it is billed at.
pub fn answer(received: &Received) -> (Vec<u8>, Vec<u8>, Usage) {
    if received.method == "GET" {
        let body = models(&received.path).to_string().into_bytes();
        return (head(200, &[], body.len()), body, Usage::default());
    }
    let request = received.json();
    let answers: Vec<(String, String)> = prompts_of(&request)
        .into_iter()
        .flat_map(|prompt| {
            let answer = format!("echo: {prompt}");
            vec![(prompt, answer); request["n"].as_u64().map_or(1, |n| usize::try_from(n).unwrap())]
        })
        .collect();
    let usage = answers.iter().map(|(prompt, answer)| Usage::of(prompt, answer)).sum();
    let texts: Vec<String> = answers.into_iter().map(|(_, answer)| answer).collect();
    let chat = received.path.ends_with("/chat/completions");
    let (kind, body) = if request["stream"] == true {
        ("text/event-stream", streamed(chat, &request, &texts, usage))
    } else {
        ("application/json", whole(chat, &request, &texts, usage).to_string())
    };
    let headers = [("content-type".to_owned(), kind.to_owned())];
    (head(200, &headers, body.len()), body.into_bytes(), usage)
}

fn whole(chat: bool, request: &Value, texts: &[String], usage: Usage) -> Value {
    let choices: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let mut choice = json!({"index": index, "finish_reason": "stop", "logprobs": null});
            if chat {
                choice["message"] = json!({"role": "assistant", "content": text, "refusal": null});
            } else {
                choice["text"] = json!(text);
            }
            choice
        })
        .collect();
    let object = if chat { "chat.completion" } else { "text_completion" };
    json!({"id": "answer-1", "object": object, "created": 1_790_000_000, "model": request["model"],
        "choices": choices, "usage": usage.json()})
}

/// The answer as server-sent events, each text in two pieces.
fn streamed(chat: bool, request: &Value, texts: &[String], usage: Usage) -> String {
    let mut events = String::new();
    let mut send = |choices: Value, usage: Value| {
        let object = if chat { "chat.completion.chunk" } else { "text_completion" };
        let chunk = json!({"id": "answer-1", "object": object, "created": 1_790_000_000,
            "model": request["model"], "choices": choices, "usage": usage});
        write!(events, "data: {chunk}\n\n").unwrap();
    };
    for (index, text) in texts.iter().enumerate() {
        let (first, second) = text.split_at("echo: ".len());
        for (piece, finish) in [(first, Value::Null), (second, Value::Null), ("", json!("stop"))] {
            let mut choice = json!({"index": index, "finish_reason": finish});
            if chat {
                choice["delta"] = json!({"content": piece});
            } else {
                choice["text"] = json!(piece);
            }
            send(json!([choice]), Value::Null);
        }
    }
    if request["stream_options"]["include_usage"] == true {
        send(json!([]), usage.json());
    }
    events + "data: [DONE]\n\n"
}

/// The texts that a request asks about; prompts of token numbers as the JSON they came in.
pub fn prompts_of(request: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(messages) = request["messages"].as_array() {
        return vec![text(&messages.last().unwrap()["content"])];
    }
    match &request["prompt"] {
        Value::Array(prompts) if !prompts[0].is_number() => prompts.iter().map(text).collect(),
        prompt => vec![text(prompt)],
    }
}

/// The endpoint's models, or one of them.
pub fn models(path: &str) -> Value {
    let model = |id: &str, owner: &str| {
        let extra = json!({"tier": 1});
        json!({"id": id, "object": "model", "created": 1_735_689_600, "owned_by": owner, "x_extra": extra})
    };
    match path.rsplit_once("/models/") {
        Some((_, id)) => model(id, "the-tests"),
        None => {
            json!({"object": "list", "data": [model("small-1", "the-tests"), model("large-1", "others")]})
        }
    }
}

/// The head of a JSON answer, unless the headers name another type.
pub fn head(status: u16, headers: &[(String, String)], length: usize) -> Vec<u8> {
    let mut headers = headers.to_vec();
    headers.push(("content-length".to_owned(), length.to_string()));
    if wire::find(&headers, "content-type").is_none() {
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    wire::head(&format!("HTTP/1.1 {status} Scripted"), &headers)
}
