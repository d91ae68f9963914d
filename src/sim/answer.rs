//! Makes the answer to what is asked: texts, why they end, and the bill. It depends on the request's content alone.

use std::borrow::Cow;

use serde_json::json;

use super::ask::{Ask, Format, Prompt};
use super::prose::{self, Draw};
use super::schema;
use super::tokens::{count_tokens, pieces};

/// Prompts from this many tokens on are read from the cache for one half, in steps, as OpenAI's are.
const CACHED_FROM: u64 = 1024;
const CACHE_STEP: u64 = 128;

/// What is billed for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Billed {
    pub prompt: u64,
    pub completion: u64,
    /// Part of the prompt.
    pub cached: u64,
    /// Part of the completion.
    pub reasoning: u64,
}

/// An answer with all its choices.
pub(super) struct Answer<'a> {
    /// First all choices of the first prompt, then those of the second.
    pub choices: Vec<Choice<'a>>,
    pub billed: Billed,
}

/// One choice.
pub(super) struct Choice<'a> {
    pub prompt: &'a Prompt<'a>,
    /// What was made, without the echo.
    pub text: String,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
}

impl Choice<'_> {
    /// The text as it is sent: the prompt first if it is to be echoed.
    pub(super) fn sent(&self, echo: bool) -> Cow<'_, str> {
        if echo {
            Cow::Owned(format!("{}{}", self.prompt.text, self.text))
        } else {
            Cow::Borrowed(&self.text)
        }
    }
}

/// Answers a request.
pub(super) fn answer<'a>(ask: &'a Ask<'a>) -> Answer<'a> {
    let mut answer =
        Answer { choices: Vec::with_capacity(ask.prompts.len() * ask.n), billed: Billed::default() };
    for prompt in &ask.prompts {
        answer.billed.prompt += prompt.tokens;
        answer.billed.cached += cached(prompt.tokens);
        for index in 0..ask.best_of {
            let choice = choose(ask, prompt, index);
            let reasoning = ask.reasoning.min(ask.max_tokens.unwrap_or(u64::MAX));
            answer.billed.reasoning += reasoning;
            answer.billed.completion += reasoning + count_tokens(&choice.text);
            // No choice is better than another here: the first `n` are the best.
            if index < ask.n {
                answer.choices.push(choice);
            }
        }
    }
    answer
}

fn cached(prompt_tokens: u64) -> u64 {
    if prompt_tokens < CACHED_FROM { 0 } else { prompt_tokens / 2 / CACHE_STEP * CACHE_STEP }
}

fn choose<'a>(ask: &Ask<'_>, prompt: &'a Prompt<'a>, index: usize) -> Choice<'a> {
    let mut text = compose(ask, prompt, &mut Draw::new(prompt.hash, index));
    cut_at_stop(&mut text, &ask.stop);
    let left = ask.max_tokens.map(|limit| limit.saturating_sub(ask.reasoning));
    let cut = left.is_some_and(|left| cut_at_length(&mut text, left));
    Choice { prompt, text, finish_reason: if cut { "length" } else { "stop" } }
}

fn compose(ask: &Ask<'_>, prompt: &Prompt<'_>, draw: &mut Draw) -> String {
    match ask.format {
        Format::Text => prose::compose(&prompt.text, ask.suffix.as_deref(), draw),
        Format::JsonObject => {
            json!({"about": prose::quote(&prompt.text), "answer": prose::sentence(draw), "score": draw.below(11)})
                .to_string()
        }
        Format::Schema(schema) => schema::instance(schema.get(), draw).to_string(),
    }
}

/// Cuts a text where the first of the stop sequences begins.
fn cut_at_stop(text: &mut String, stops: &[Cow<'_, str>]) {
    let found =
        stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_ref())).min();
    if let Some(end) = found {
        text.truncate(end);
    }
}

/// Cuts a text after so many tokens; says whether it was longer.
fn cut_at_length(text: &mut String, tokens: u64) -> bool {
    let kept = pieces(text).take(usize::try_from(tokens).unwrap_or(usize::MAX)).map(str::len).sum();
    let longer = kept < text.len();
    text.truncate(kept);
    longer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Endpoint;

    fn with_ask<T>(endpoint: Endpoint, body: &str, look: impl FnOnce(&Ask<'_>, &Answer<'_>) -> T) -> T {
        let ask = Ask::read(endpoint, body.as_bytes()).map_err(|refusal| refusal.message).unwrap();
        look(&ask, &answer(&ask))
    }

    fn texts(endpoint: Endpoint, body: &str) -> Vec<(String, &'static str)> {
        with_ask(endpoint, body, |ask, answer| {
            answer
                .choices
                .iter()
                .map(|choice| (choice.sent(ask.echo).into_owned(), choice.finish_reason))
                .collect()
        })
    }

    fn bill(endpoint: Endpoint, body: &str) -> Billed {
        with_ask(endpoint, body, |_, answer| answer.billed)
    }

    #[test]
    fn the_answer_depends_on_the_content_alone() {
        let ask = |rest: &str| {
            texts(Endpoint::Chat, &format!(r#"{{"messages":[{{"role":"user","content":"Hi"}}]{rest}}}"#))
        };
        let plain = ask(r#","model":"m""#);
        assert_eq!(plain, ask(r#", "user":"somebody", "stream":true, "model":"m""#));
        assert_ne!(plain, ask(r#","model":"other""#));
        assert_ne!(plain, ask(r#","model":"m","seed":1"#));
        assert!(plain[0].0.starts_with("On \"Hi\": ") && plain[0].1 == "stop");
    }

    #[test]
    fn a_limit_cuts_after_so_many_tokens() {
        let body = r#"{"model":"m","prompt":"Tell a story","max_tokens":LIMIT}"#;
        let (whole, reason) = texts(Endpoint::Completions, &body.replace("LIMIT", "1000")).remove(0);
        assert_eq!(reason, "stop");
        for limit in [0, 1, 7, 20] {
            let body = body.replace("LIMIT", &limit.to_string());
            let (text, reason) = texts(Endpoint::Completions, &body).remove(0);
            assert!(whole.starts_with(&text) && reason == "length");
            assert_eq!((count_tokens(&text), bill(Endpoint::Completions, &body).completion), (limit, limit));
        }
        let exactly = body.replace("LIMIT", &count_tokens(&whole).to_string());
        assert_eq!(texts(Endpoint::Completions, &exactly), [(whole, "stop")]);
        assert_eq!(bill(Endpoint::Completions, r#"{"model":"m","prompt":"x"}"#).completion, 16);
    }

    #[test]
    fn the_earliest_stop_sequence_ends_the_text() {
        let body =
            r#"{"model":"m","prompt":"Tell a story","max_tokens":99,"stop":["never there",".","\":"]}"#;
        assert_eq!(texts(Endpoint::Completions, body), [("On \"Tell a story".into(), "stop")]);
    }

    #[test]
    fn every_prompt_has_its_choices_in_order() {
        let body = r#"{"model":"m","prompt":["one","two"],"n":2,"best_of":3,"echo":true,"max_tokens":40}"#;
        let choices = texts(Endpoint::Completions, body);
        let starts = ["oneOn \"one\"", "oneOn \"one\"", "twoOn \"two\"", "twoOn \"two\""];
        assert!(
            choices.len() == 4
                && choices.iter().zip(starts).all(|(choice, start)| choice.0.starts_with(start))
        );
        assert_ne!(choices[0], choices[1]);
        let billed = bill(Endpoint::Completions, body);
        let sent: u64 = choices.iter().map(|(text, _)| count_tokens(text) - 1).sum();
        assert!(billed.prompt == 2 && billed.completion > sent);
        assert_eq!(bill(Endpoint::Completions, r#"{"model":"m","prompt":[[1,2,3],[4]]}"#).prompt, 4);
        assert_eq!(bill(Endpoint::Completions, r#"{"model":"m","prompt":[1,2,3]}"#).prompt, 3);
    }

    #[test]
    fn messages_reasoning_and_the_cache_are_billed() {
        let chat = |content: &str, rest: &str| {
            let body = r#"{"model":"m","messages":[{"role":"user","content":"CONTENT"}]REST}"#;
            bill(Endpoint::Chat, &body.replace("CONTENT", content).replace("REST", rest))
        };
        assert_eq!(chat("one two", "").prompt, 3 + 3 + 1 + 2);
        let billed = chat("x", r#","reasoning_effort":"low","max_completion_tokens":20"#);
        assert_eq!((billed.reasoning, billed.completion), (16, 20));
        let billed = chat("x", r#","reasoning_effort":"high","max_completion_tokens":20"#);
        assert_eq!((billed.reasoning, billed.completion), (20, 20));
        assert_eq!((chat(&"a ".repeat(500), "").cached, chat(&" a".repeat(2000), "").cached), (0, 896));
    }

    #[test]
    fn json_is_answered_with_json() {
        let ask = |format: &str| {
            let body =
                r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"response_format":FORMAT}"#;
            let (text, _) = texts(Endpoint::Chat, &body.replace("FORMAT", format)).remove(0);
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        assert_eq!(ask(r#"{"type":"json_object"}"#)["about"], "Hi");
        let schema = r#"{"type":"object","properties":{"kind":{"enum":["a","b"]},"many":{"type":"integer","minimum":3}}}"#;
        let format = r#"{"type":"json_schema","json_schema":{"name":"x","schema":SCHEMA}}"#;
        let answer = ask(&format.replace("SCHEMA", schema));
        assert!(
            ["a", "b"].contains(&answer["kind"].as_str().unwrap()) && answer["many"].as_u64().unwrap() >= 3
        );
    }
}
