//! What a request asks for, read and checked, in one shape for all endpoints. It answers nothing.
//!
//! Another endpoint (embeddings, responses) is another file here, another variant of [`Ask`]'s endpoint, and another
//! writer beside `wire`.

mod chat;
mod completions;

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fields::{Fields, items_of, text_of, wrong_type};
use super::prose::short_hash;
use super::refusal::Refusal;
use crate::domain::{Endpoint, IdentityHasher};

/// The most stop sequences of a request.
const MAX_STOPS: usize = 4;

/// What a request asks for.
pub(super) struct Ask<'a> {
    pub endpoint: Endpoint,
    pub model: Cow<'a, str>,
    /// At least one; a chat is one prompt.
    pub prompts: Vec<Prompt<'a>>,
    /// Choices for each prompt that are sent back.
    pub n: usize,
    /// Choices for each prompt that are made and billed; at least `n`.
    pub best_of: usize,
    /// The most tokens a choice may have.
    pub max_tokens: Option<u64>,
    pub stop: Vec<Cow<'a, str>>,
    /// How many alternatives are shown for each token, if log probabilities are.
    pub logprobs: Option<usize>,
    pub echo: bool,
    pub suffix: Option<Cow<'a, str>>,
    pub format: Format<'a>,
    /// Tokens that each choice spends on reasoning before it begins.
    pub reasoning: u64,
    pub stream: Option<Stream>,
    /// A hash of the whole body.
    pub body: u64,
}

/// One prompt.
pub(super) struct Prompt<'a> {
    /// What is quoted and echoed.
    pub text: Cow<'a, str>,
    pub tokens: u64,
    /// Decides the answer: a hash of the prompt, the model and the seed.
    pub hash: u64,
}

/// The form of the answer.
pub(super) enum Format<'a> {
    Text,
    JsonObject,
    Schema(&'a RawValue),
}

/// How an answer is streamed.
pub(super) struct Stream {
    pub include_usage: bool,
}

impl<'a> Ask<'a> {
    /// Reads and checks the body of a request.
    pub(super) fn read(endpoint: Endpoint, body: &'a [u8]) -> Result<Self, Refusal> {
        let fields = Fields::of_body(body)?;
        let common = Self::read_common(endpoint, &fields)?;
        match endpoint {
            Endpoint::Chat => chat::read(&fields, common),
            Endpoint::Completions => completions::read(&fields, common),
        }
    }

    /// The parameters that all endpoints have. Those without influence on the answer are only checked.
    fn read_common(endpoint: Endpoint, fields: &Fields<'a>) -> Result<Self, Refusal> {
        fields.required("model")?;
        fields.number("temperature", 0.0..=2.0)?;
        fields.number("top_p", 0.0..=1.0)?;
        fields.number("presence_penalty", -2.0..=2.0)?;
        fields.number("frequency_penalty", -2.0..=2.0)?;
        fields.integer("seed", i64::MIN..=i64::MAX)?;
        fields.text("user")?;
        check_logit_bias(fields)?;
        let n = fields.count("n", 1..=128)?.unwrap_or(1);
        Ok(Self {
            endpoint,
            model: fields.text("model")?.unwrap_or_default(),
            prompts: Vec::new(),
            n,
            best_of: n,
            max_tokens: None,
            stop: read_stop(fields)?,
            logprobs: None,
            echo: false,
            suffix: None,
            format: Format::Text,
            reasoning: 0,
            stream: read_stream(fields)?,
            body: fields.hash(),
        })
    }

    /// Begins the hash that decides an answer.
    fn hasher(&self, fields: &Fields<'_>) -> IdentityHasher {
        let mut hasher = IdentityHasher::new("simulated answer");
        hasher.field("model", self.model.as_bytes());
        hasher.field("seed", fields.raw("seed").map_or("", RawValue::get).as_bytes());
        hasher
    }

    fn add_prompt(&mut self, text: Cow<'a, str>, tokens: u64, hasher: &IdentityHasher) {
        self.prompts.push(Prompt { text, tokens, hash: short_hash(hasher) });
    }
}

fn check_logit_bias(fields: &Fields<'_>) -> Result<(), Refusal> {
    let Some(value) = fields.raw("logit_bias") else {
        return Ok(());
    };
    let biases: std::collections::BTreeMap<String, f64> =
        serde_json::from_str(value.get()).map_err(|_| fields.mistyped("logit_bias", "an object", value))?;
    match biases.iter().find(|(_, bias)| !(-100.0..=100.0).contains(*bias)) {
        Some((token, bias)) => {
            let reason = format!("the bias of token {token} is {bias}, not between -100 and 100");
            Err(fields.invalid("logit_bias", &reason))
        }
        None => Ok(()),
    }
}

fn read_stop<'a>(fields: &Fields<'a>) -> Result<Vec<Cow<'a, str>>, Refusal> {
    let Some(value) = fields.raw("stop") else {
        return Ok(Vec::new());
    };
    if let Some(stop) = text_of(value) {
        return Ok(vec![stop]);
    }
    let wrong = || fields.mistyped("stop", "a string or an array of strings", value);
    let stops = items_of(value).ok_or_else(wrong)?;
    if stops.len() > MAX_STOPS {
        return Err(fields.invalid("stop", "an array of at most 4 sequences was expected"));
    }
    stops.into_iter().map(|stop| text_of(stop).ok_or_else(|| wrong_type("stop", "a string", stop))).collect()
}

fn read_stream(fields: &Fields<'_>) -> Result<Option<Stream>, Refusal> {
    let stream = fields.flag("stream")?;
    let include_usage = match fields.raw("stream_options") {
        Some(_) if !stream => {
            return Err(fields.invalid("stream_options", "only allowed when 'stream' is enabled"));
        }
        Some(options) => Fields::of_value(options, "stream_options")?.flag("include_usage")?,
        None => false,
    };
    Ok(stream.then_some(Stream { include_usage }))
}

/// A limit on tokens, from `least` on.
fn read_max_tokens(fields: &Fields<'_>, name: &str, least: i64) -> Result<Option<u64>, Refusal> {
    Ok(fields.integer(name, least..=i64::MAX)?.and_then(|tokens| u64::try_from(tokens).ok()))
}
