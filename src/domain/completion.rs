//! What came back for a row that was answered.

use std::time::Duration;

use serde_json::value::RawValue;

/// An answer. Parts that only some answers have are kept as the JSON the server sent.
#[derive(Clone, Debug, Default)]
pub struct Completion {
    /// The text of each choice, in the server's order: `None` for a choice without text (tool calls, a refusal).
    pub outputs: Vec<Option<String>>,
    /// Why the first choice ended, as the server said it.
    pub finish_reason: Option<String>,
    /// The first choice's tool calls, as they came.
    pub tool_calls: Option<Box<RawValue>>,
    /// The first choice's refusal.
    pub refusal: Option<String>,
    /// The first choice's reasoning, where the server gives it in a field of its own.
    pub reasoning: Option<String>,
    /// The log probabilities of the first choice (of all, in an array, where there are several), as they came.
    pub logprobs: Option<Box<RawValue>>,
    /// Time to the first token, when streaming.
    pub ttft: Option<Duration>,
    /// The body as it came, when it is to be kept.
    pub response: Option<Box<RawValue>>,
}
