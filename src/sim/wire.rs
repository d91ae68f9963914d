//! Answers in OpenAI's JSON shapes, sent whole. Shapes: OpenAI's API reference, `CreateChatCompletionResponse`,
//! `CreateCompletionResponse`, `CompletionUsage`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::{Answer, Billed, Choice};
use super::ask::Ask;
use super::logprobs::Run;
use super::tokens::pieces;
use crate::domain::Endpoint;

/// When every answer was made: a time of its own would make equal answers differ.
pub(super) const CREATED: u64 = 1_767_225_600;

/// The version of the "model".
pub(super) const FINGERPRINT: &str = "fp_promptmill";

/// The body of the answer.
pub(super) fn whole(ask: &Ask<'_>, answer: &Answer<'_>) -> Vec<u8> {
    let id = id(ask);
    let usage = Usage::from(&answer.billed);
    let choices = || answer.choices.iter().enumerate();
    let written = match ask.endpoint {
        Endpoint::Chat => {
            let choices = choices().map(|(index, choice)| message(ask, choice, index)).collect();
            serde_json::to_vec(&Envelope::new(&id, "chat.completion", ask, choices, Some(usage)))
        }
        Endpoint::Completions => {
            let choices = choices().map(|(index, choice)| text(ask, choice, index)).collect();
            serde_json::to_vec(&Envelope::new(&id, "text_completion", ask, choices, Some(usage)))
        }
    };
    // Writing these structures into memory cannot fail.
    written.unwrap_or_default()
}

/// The answer's id: the same request has the same one.
pub(super) fn id(ask: &Ask<'_>) -> String {
    let prefix = match ask.endpoint {
        Endpoint::Chat => "chatcmpl",
        Endpoint::Completions => "cmpl",
    };
    format!("{prefix}-{:016x}", ask.body)
}

/// What stands around the choices, in whole answers and in the chunks of streams.
#[derive(Serialize)]
pub(super) struct Envelope<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<C>,
    usage: Option<Usage>,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

impl<'a, C> Envelope<'a, C> {
    pub(super) fn new(
        id: &'a str,
        object: &'static str,
        ask: &'a Ask<'_>,
        choices: Vec<C>,
        usage: Option<Usage>,
    ) -> Self {
        Self {
            id,
            object,
            created: CREATED,
            model: &ask.model,
            choices,
            usage,
            service_tier: "default",
            system_fingerprint: FINGERPRINT,
        }
    }
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<&Billed> for Usage {
    fn from(billed: &Billed) -> Self {
        Self {
            prompt_tokens: billed.prompt,
            completion_tokens: billed.completion,
            total_tokens: billed.prompt + billed.completion,
            prompt_tokens_details: PromptDetails { cached_tokens: billed.cached },
            completion_tokens_details: CompletionDetails { reasoning_tokens: billed.reasoning },
        }
    }
}

#[derive(Serialize)]
struct MessageChoice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<Box<RawValue>>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<&'a str>,
    annotations: [&'a str; 0],
}

#[derive(Serialize)]
struct TextChoice<'a> {
    text: Cow<'a, str>,
    index: usize,
    logprobs: Option<Box<RawValue>>,
    finish_reason: &'static str,
}

fn message<'a>(ask: &Ask<'_>, choice: &'a Choice<'_>, index: usize) -> MessageChoice<'a> {
    let content = choice.text.as_str();
    MessageChoice {
        index,
        message: Message { role: "assistant", content, refusal: None, annotations: [] },
        logprobs: logprobs(ask, choice, content),
        finish_reason: choice.finish_reason,
    }
}

fn text<'a>(ask: &Ask<'_>, choice: &'a Choice<'_>, index: usize) -> TextChoice<'a> {
    let text = choice.sent(ask.echo);
    TextChoice { index, logprobs: logprobs(ask, choice, &text), text, finish_reason: choice.finish_reason }
}

fn logprobs(ask: &Ask<'_>, choice: &Choice<'_>, text: &str) -> Option<Box<RawValue>> {
    let run = Run::start(ask, choice)?;
    let tokens: Vec<_> = pieces(text).collect();
    Run { tokens: &tokens, ..run }.written(ask.endpoint)
}
