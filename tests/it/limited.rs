//! A server that keeps to a limit of requests or of tokens a minute and remembers what it let through. It shares no code with the product's own simulator.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{Received, Reply, Server};

const COMPLETION_TOKENS: u64 = 20;

/// What a refusal and an answer say of the limit.
#[derive(Clone, Copy, PartialEq)]
pub enum Says {
    /// The limit headers on every response, and `Retry-After` on refusals.
    Headers,
    /// Nothing but the status 429.
    Nothing,
}

/// The limit: so many requests in a bucket that leaks out in this time, or so many tokens in a window of it.
#[derive(Clone, Copy)]
pub struct Limit {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
    pub window: Duration,
    /// What is let through leaks out evenly, instead of all at once when the window is over.
    pub leaks: bool,
    pub says: Says,
}

impl Limit {
    /// So many requests a minute, in a bucket that holds a second's worth.
    pub fn requests(a_minute: u64) -> Self {
        let window = Duration::from_secs(1);
        Self { requests: Some(a_minute / 60), tokens: None, window, leaks: true, says: Says::Headers }
    }

    /// So many tokens a minute, looked at over five seconds.
    pub fn tokens(a_minute: u64) -> Self {
        let window = Duration::from_secs(5);
        Self { requests: None, tokens: Some(a_minute / 12), window, leaks: false, says: Says::Headers }
    }

    /// The same without a word.
    pub fn silent(self) -> Self {
        Self { says: Says::Nothing, ..self }
    }
}

/// What was let through.
#[derive(Default)]
pub struct Passed {
    /// Until when each counts, and its tokens.
    recent: VecDeque<(Instant, u64)>,
    tokens_in_window: u64,
    pub requests: u64,
    pub tokens: u64,
    pub refused: u64,
    pub first: Option<Instant>,
    pub last: Option<Instant>,
}

impl Passed {
    /// The share of all requests that was refused.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    pub fn refused_share(&self) -> f64 {
        self.refused as f64 / (self.refused + self.requests) as f64
    }

    /// The share of the limit that was used from the first to the last request.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests and tokens")]
    pub fn used_share(&self, limit: Limit) -> f64 {
        let seconds = (self.last.unwrap() - self.first.unwrap()).as_secs_f64() / limit.window.as_secs_f64();
        match (limit.requests, limit.tokens) {
            (Some(requests), _) => self.requests as f64 / (requests as f64 * seconds),
            (_, tokens) => self.tokens as f64 / (tokens.unwrap() as f64 * seconds),
        }
    }
}

/// The server with its limit.
pub struct Limited {
    pub server: Server,
    passed: Arc<Mutex<Passed>>,
}

impl Limited {
    pub fn start(limit: Limit, latency: Duration) -> Self {
        let passed = Arc::<Mutex<Passed>>::default();
        let seen = Arc::clone(&passed);
        let server = Server::start(move |received, _| reply(received, limit, &seen).after(latency));
        Self { server, passed }
    }

    pub fn passed(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap()
    }
}

/// A quarter of a token for each byte of the prompt, as English has.
fn prompt_tokens(received: &Received) -> u64 {
    received.prompt().len() as u64 / 4
}

fn reply(received: &Received, limit: Limit, passed: &Mutex<Passed>) -> Reply {
    let mut passed = passed.lock().unwrap();
    let now = Instant::now();
    let tokens = prompt_tokens(received) + COMPLETION_TOKENS;
    while let Some((until, tokens)) = passed.recent.front().copied()
        && now >= until
    {
        passed.recent.pop_front();
        passed.tokens_in_window -= tokens;
    }
    let reset =
        passed.recent.front().map_or(Duration::ZERO, |(until, _)| until.saturating_duration_since(now));
    let requests_left = limit.requests.map(|limit| limit.saturating_sub(passed.recent.len() as u64));
    let tokens_left = limit.tokens.map(|limit| limit.saturating_sub(passed.tokens_in_window));
    let refused = requests_left == Some(0) || tokens_left.is_some_and(|left| left < tokens);
    if refused {
        passed.refused += 1;
    } else {
        let until = match limit.requests {
            Some(requests) if limit.leaks => {
                let last = passed.recent.back().map_or(now, |(until, _)| *until);
                last.max(now) + limit.window / u32::try_from(requests).unwrap()
            }
            _ => now + limit.window,
        };
        passed.recent.push_back((until, tokens));
        passed.tokens_in_window += tokens;
        passed.requests += 1;
        passed.tokens += tokens;
        passed.first.get_or_insert(now);
        passed.last = Some(now);
    }
    drop(passed);
    let windows = 60 / limit.window.as_secs();
    let mut reply = if refused {
        Reply::error(429, "requests", "rate_limit_exceeded", "Rate limit reached. Please slow down.")
    } else {
        let usage = json!({
            "prompt_tokens": tokens - COMPLETION_TOKENS, "completion_tokens": COMPLETION_TOKENS, "total_tokens": tokens,
        });
        let message = json!({"role": "assistant", "content": format!("echo: {}", received.prompt().len())});
        let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
        Reply::ok(json!({"object": "chat.completion", "choices": choices, "usage": usage}).to_string())
    };
    if limit.says == Says::Headers {
        for (name, limit, left) in
            [("requests", limit.requests, requests_left), ("tokens", limit.tokens, tokens_left)]
        {
            let (Some(limit), Some(left)) = (limit, left) else { continue };
            let a_minute = (limit * windows).to_string();
            reply = reply
                .with_header(&format!("x-ratelimit-limit-{name}"), &a_minute)
                .with_header(&format!("x-ratelimit-remaining-{name}"), &left.saturating_sub(1).to_string())
                .with_header(&format!("x-ratelimit-reset-{name}"), &format!("{}ms", reset.as_millis()));
        }
        if refused {
            reply = reply.with_header("retry-after-ms", &(reset.as_millis() + 1).to_string());
        }
    }
    reply
}
