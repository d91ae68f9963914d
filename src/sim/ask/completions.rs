//! `POST /v1/completions`: its parameters and its four kinds of prompts.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::fields::{Fields, text_of};
use super::super::refusal::Refusal;
use super::super::tokens::count_tokens;
use super::{Ask, read_max_tokens};

/// The limit that OpenAI sets where the request has none.
const DEFAULT_MAX_TOKENS: u64 = 16;

/// What stands for a prompt that is `null`.
const NO_PROMPT: &str = "<|endoftext|>";

/// What the numbers of a token array say when they are read aloud.
const WORDS: [&str; 8] = [" stone", " river", " seven", " light", " under", " early", " paper", " north"];

pub(super) fn read<'a>(fields: &Fields<'a>, common: Ask<'a>) -> Result<Ask<'a>, Refusal> {
    let mut ask = Ask {
        max_tokens: read_max_tokens(fields, "max_tokens", 0)?.or(Some(DEFAULT_MAX_TOKENS)),
        logprobs: fields.count("logprobs", 0..=5)?,
        echo: fields.flag("echo")?,
        suffix: fields.text("suffix")?,
        ..common
    };
    if let Some(best_of) = fields.count("best_of", 0..=20)? {
        // 0 is in OpenAI's range and means the default.
        if best_of != 0 && best_of < ask.n {
            return Err(fields.invalid("best_of", "it must be at least 'n'"));
        }
        if best_of > 1 && ask.stream.is_some() {
            return Err(fields.invalid("best_of", "results with 'best_of' cannot be streamed"));
        }
        ask.best_of = ask.n.max(best_of);
    }
    read_prompts(fields, &mut ask)?;
    Ok(ask)
}

fn read_prompts<'a>(fields: &Fields<'a>, ask: &mut Ask<'a>) -> Result<(), Refusal> {
    let value = fields.raw_or_null("prompt").ok_or_else(|| fields.missing("prompt"))?;
    let prompts = prompts_of(value).ok_or_else(|| {
        fields.mistyped("prompt", "a string, an array of strings, or arrays of tokens", value)
    })?;
    if prompts.is_empty() {
        return Err(fields.invalid("prompt", "empty array, expected at least one prompt"));
    }
    for (text, tokens) in prompts {
        let mut hasher = ask.hasher(fields);
        hasher.field("prompt", text.as_bytes());
        hasher.field("suffix", ask.suffix.as_deref().unwrap_or_default().as_bytes());
        let suffix = ask.suffix.as_deref().map_or(0, count_tokens);
        ask.add_prompt(text, tokens + suffix, &hasher);
    }
    Ok(())
}

/// The prompts, each with its tokens.
fn prompts_of(value: &RawValue) -> Option<Vec<(Cow<'_, str>, u64)>> {
    let counted = |text: Cow<'static, str>, numbers: &[u32]| (text, numbers.len() as u64);
    if value.get() == "null" {
        return Some(vec![(NO_PROMPT.into(), count_tokens(NO_PROMPT))]);
    }
    if let Some(text) = text_of(value) {
        let tokens = count_tokens(&text);
        return Some(vec![(text, tokens)]);
    }
    if let Ok(texts) = serde_json::from_str::<Vec<String>>(value.get()) {
        let counted = |text: String| (count_tokens(&text), text);
        return Some(texts.into_iter().map(counted).map(|(tokens, text)| (text.into(), tokens)).collect());
    }
    if let Ok(numbers) = serde_json::from_str::<Vec<u32>>(value.get()) {
        return Some(vec![counted(read_aloud(&numbers).into(), &numbers)]);
    }
    let several = serde_json::from_str::<Vec<Vec<u32>>>(value.get()).ok()?;
    Some(several.iter().map(|numbers| counted(read_aloud(numbers).into(), numbers)).collect())
}

/// A text for token numbers: a word and the number, so that different prompts read differently.
fn read_aloud(numbers: &[u32]) -> String {
    let word =
        |number: &u32| format!("{} {number}", WORDS[usize::try_from(*number).unwrap_or(0) % WORDS.len()]);
    numbers.iter().map(word).collect()
}
