//! Whole answers of the chat and completions endpoints. Every field is optional and of any type: servers differ, and
//! what was paid for is not thrown away over a field nobody asked for.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::errors::{ErrorBody, Pace, classify, no_answer, text_of_page};
use super::usual;
use crate::domain::{Answer, AttemptFailure, Completion, FailureKind, Tokens, Usage};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

type Raw<'a> = Option<&'a RawValue>;

/// A response body, its parts unparsed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) model: Raw<'a>,
    #[serde(borrow)]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
    #[serde(borrow)]
    pub(super) error: Raw<'a>,
}

/// One choice, of a whole answer or of a chunk of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice<'a> {
    #[serde(borrow)]
    pub(super) index: Raw<'a>,
    #[serde(borrow)]
    pub(super) text: Raw<'a>,
    #[serde(borrow, alias = "delta")]
    pub(super) message: Option<Message<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Raw<'a>,
    #[serde(borrow)]
    pub(super) logprobs: Raw<'a>,
}

/// The message of a chat choice, or the part of one that a chunk brings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
    #[serde(borrow)]
    pub(super) refusal: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_calls: Raw<'a>,
    #[serde(borrow)]
    pub(super) reasoning_content: Raw<'a>,
    #[serde(borrow)]
    pub(super) reasoning: Raw<'a>,
}

impl<'a> Body<'a> {
    pub(super) fn parse(body: &'a [u8], status: u16) -> Result<Self, AttemptFailure> {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(no_answer(status, "the answer is a list instead of an object", Usage::default()));
        }
        let parsed: Result<Self, _> = serde_json::from_slice(body);
        let body = parsed.map_err(|error| {
            let what = if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<') {
                page_instead(body)
            } else if body.iter().all(u8::is_ascii_whitespace) {
                "the server's answer is empty".to_owned()
            } else if error.is_eof() {
                "the answer's JSON is cut short".to_owned()
            } else {
                format!("the answer is not the JSON it should be: {error}")
            };
            no_answer(status, what, Usage::default())
        })?;
        match body.error {
            Some(error) if error.get() != "null" => Err(error_in_good_status(error, status, body.usage)),
            _ => Ok(body),
        }
    }
}

/// An error object under a good status (`OpenRouter` does it): by the status its code names, else a broken answer.
pub(super) fn error_in_good_status(error: &RawValue, status: u16, usage: Raw<'_>) -> AttemptFailure {
    let value = serde_json::from_str(error.get()).unwrap_or_default();
    let error = ErrorBody::from_value(&value);
    let mut failure = if let Some(meant) = error.status_in_code() {
        classify(meant, error, Pace::default())
    } else {
        let described = classify(status, error, Pace::default());
        let mut failure = no_answer(status, described.failure.message, Usage::default());
        failure.failure.code = described.failure.code;
        failure
    };
    failure.failure.status = Some(status);
    failure.usage = usage_of(usage);
    failure
}

/// Reads a whole answer, the body of a response under a good status, and keeps that body where it is asked for.
///
/// # Errors
/// The body is no answer: it is broken, cut short, an error, or withheld.
pub fn read(bytes: &[u8], status: u16, keep_response: bool) -> Result<Answer, AttemptFailure> {
    let mut answer = match usual::read(bytes) {
        Some(answer) => answer,
        None => read_any(bytes, status)?,
    };
    check(&answer.completion, status, answer.usage)?;
    if keep_response {
        let text = String::from_utf8_lossy(bytes);
        answer.completion.response = RawValue::from_string(on_one_line(&text)).ok();
    }
    Ok(answer)
}

/// Reads an answer of whatever shape.
pub(super) fn read_any(bytes: &[u8], status: u16) -> Result<Answer, AttemptFailure> {
    let body = Body::parse(bytes, status)?;
    let usage = usage_of(body.usage);
    let mut choices = body.choices.unwrap_or_default();
    // Several prompts come back in one flat list, and not every server keeps it in order.
    choices.sort_by_key(|choice| number(choice.index));
    let Some(first) = choices.first() else {
        return Err(no_answer(status, "the answer has no choices", usage));
    };
    let finish_reason = text(first.finish_reason).filter(|reason| !reason.is_empty());
    let message = first.message.as_ref();
    let completion = Completion {
        outputs: choices.iter().map(output).collect(),
        finish_reason: finish_reason.map(Cow::into_owned),
        tool_calls: message.and_then(|message| kept(message.tool_calls)).filter(|calls| calls.get() != "[]"),
        refusal: message.and_then(|message| owned(message.refusal)),
        reasoning: message
            .and_then(|message| owned(message.reasoning_content).or_else(|| owned(message.reasoning))),
        logprobs: logprobs(&choices),
        ttft: None,
        response: None,
    };
    Ok(Answer { completion, usage, model: owned(body.model) })
}

/// Whether what came back is an answer at all. One without a reason to end is a stream that was cut.
pub(super) fn check(completion: &Completion, status: u16, usage: Usage) -> Result<(), AttemptFailure> {
    let empty = completion.outputs.first().is_none_or(|text| text.as_ref().is_none_or(String::is_empty));
    match completion.finish_reason.as_deref() {
        None => Err(no_answer(status, "the answer ends without a finish_reason: it was cut short", usage)),
        Some("error") => Err(no_answer(status, "the server gave up in the middle of the answer", usage)),
        Some("content_filter") if empty => {
            let mut failure = no_answer(status, "the provider's content filter withheld the answer", usage);
            failure.failure.kind = FailureKind::ContentFilter;
            failure.advice = crate::domain::Advice::GiveUp;
            Err(failure)
        }
        Some(reason) if reason != "length" && is_nothing(completion) => {
            Err(no_answer(status, "the answer has neither text nor tool calls nor a refusal", usage))
        }
        Some(_) => Ok(()),
    }
}

/// Whether there is no text at all, not even an empty one, and nothing in its stead.
fn is_nothing(completion: &Completion) -> bool {
    completion.outputs.iter().all(Option::is_none)
        && completion.tool_calls.is_none()
        && completion.refusal.is_none()
        && completion.reasoning.is_none()
}

fn page_instead(body: &[u8]) -> String {
    let says = text_of_page(body).map(|text| format!(" ({text})")).unwrap_or_default();
    format!("the server answered with a web page instead of JSON{says}; is --base-url right?")
}

/// The counts of a `usage` object; what is missing, null or no whole number is unknown.
pub(super) fn usage_of(usage: Raw<'_>) -> Usage {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wire<'a> {
        #[serde(borrow)]
        prompt_tokens: Raw<'a>,
        #[serde(borrow)]
        completion_tokens: Raw<'a>,
        #[serde(borrow)]
        total_tokens: Raw<'a>,
        #[serde(borrow)]
        prompt_tokens_details: Raw<'a>,
        #[serde(borrow)]
        completion_tokens_details: Raw<'a>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details<'a> {
        #[serde(borrow)]
        cached_tokens: Raw<'a>,
        #[serde(borrow)]
        cache_write_tokens: Raw<'a>,
        #[serde(borrow)]
        reasoning_tokens: Raw<'a>,
    }
    let wire: Wire<'_> = object(usage).unwrap_or_default();
    let count = |raw: Raw<'_>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).map(Tokens);
    let prompt: Details<'_> = object(wire.prompt_tokens_details).unwrap_or_default();
    let completion: Details<'_> = object(wire.completion_tokens_details).unwrap_or_default();
    Usage {
        prompt_tokens: count(wire.prompt_tokens),
        completion_tokens: count(wire.completion_tokens),
        total_tokens: count(wire.total_tokens),
        cached_tokens: count(prompt.cached_tokens),
        reasoning_tokens: count(completion.reasoning_tokens),
        cache_write_tokens: count(prompt.cache_write_tokens),
    }
}

/// The members of an object that are known here. An array is none, though `serde` would take it for one.
fn object<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    raw.filter(|raw| raw.get().starts_with('{')).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn output(choice: &Choice<'_>) -> Option<String> {
    match (&choice.message, choice.text) {
        (Some(message), _) => content(message.content).map(Cow::into_owned),
        (None, text) => owned(text),
    }
}

/// A message's content: a string, or (Mistral, some gateways) a list of parts of which the texts count.
pub(super) fn content(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Part<'a> {
        #[serde(borrow)]
        text: Raw<'a>,
    }
    if raw?.get().starts_with('[') {
        let parts: Vec<&RawValue> = serde_json::from_str(raw?.get()).ok()?;
        let text_of = |part| text(object::<Part<'_>>(Some(part))?.text);
        return Some(Cow::Owned(parts.into_iter().filter_map(text_of).collect()));
    }
    text(raw)
}

fn logprobs(choices: &[Choice<'_>]) -> Option<Box<RawValue>> {
    let given: Vec<&RawValue> =
        choices.iter().filter_map(|choice| choice.logprobs).filter(|raw| raw.get() != "null").collect();
    match given.as_slice() {
        [] => None,
        [one] => kept(Some(one)),
        all => {
            let all: Vec<&str> = all.iter().map(|raw| raw.get()).collect();
            RawValue::from_string(on_one_line(&format!("[{}]", all.join(",")))).ok()
        }
    }
}

pub(super) fn number(raw: Raw<'_>) -> u64 {
    raw.and_then(|raw| raw.get().parse().ok()).unwrap_or(0)
}

/// A JSON string's text; half a surrogate pair, which no UTF-8 can hold, becomes a replacement character.
pub(super) fn text(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let raw = raw?.get();
    if !raw.starts_with('"') {
        return None;
    }
    match serde_json::from_str::<Text<'_>>(raw) {
        Ok(text) => Some(text.0),
        Err(_) => serde_json::from_str::<LossyText>(raw).ok().map(|text| Cow::Owned(text.0)),
    }
}

/// `serde_json` reads a string with lone surrogates only as bytes (WTF-8).
struct LossyText(String);

impl<'de> Deserialize<'de> for LossyText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = LossyText;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<LossyText, E> {
                Ok(LossyText(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

pub(super) fn owned(raw: Raw<'_>) -> Option<String> {
    text(raw).map(Cow::into_owned)
}

fn kept(raw: Raw<'_>) -> Option<Box<RawValue>> {
    raw.filter(|raw| raw.get() != "null").and_then(|raw| RawValue::from_string(on_one_line(raw.get())).ok())
}

/// A line of output is one line: JSON that a server indented loses its line breaks, which stand only between parts
/// (inside of strings JSON escapes them).
pub(super) fn on_one_line(json: &str) -> String {
    json.trim().replace(['\n', '\r'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        read(body.as_bytes(), 200, false).unwrap()
    }

    fn kind(body: &str) -> FailureKind {
        read(body.as_bytes(), 200, false).unwrap_err().failure.kind
    }

    #[test]
    fn an_answer_with_every_field_is_read() {
        let answer = answer(
            r#"{"id":"x","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"h\u00e9"},
            "logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#,
        );
        assert_eq!(answer.completion.outputs, [Some("hé".to_owned())]);
        assert_eq!(answer.usage.cached_tokens, Some(Tokens(4)));
        assert_eq!(answer.usage.reasoning_tokens, Some(Tokens(3)));
        assert_eq!(answer.model.as_deref(), Some("m-1"));
    }

    #[test]
    fn odd_answers_of_real_servers_are_answers() {
        let tools = answer(
            r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":1}]},"finish_reason":"tool_calls"}]}"#,
        );
        assert_eq!(tools.completion.outputs, [None]);
        assert_eq!(tools.completion.tool_calls.unwrap().get(), r#"[{"id":1}]"#);
        assert!(tools.usage.is_unknown());
        let refusal = answer(
            r#"{"choices":[{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}],"usage":null}"#,
        );
        assert_eq!(refusal.completion.refusal.as_deref(), Some("no"));
        let parts = answer(
            r#"{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"text":"b"}]},"finish_reason":"stop"}]}"#,
        );
        assert_eq!(parts.completion.outputs, [Some("ab".to_owned())]);
        let broken_part = answer(
            r#"{"choices":[{"message":{"content":["?",{"text":7},{"text":"x\ud83d"},{"text":"y"}]},"finish_reason":"stop"}]}"#,
        );
        let text = broken_part.completion.outputs[0].as_ref().unwrap();
        assert!(text.starts_with('x') && text.ends_with('y'), "{text}");
        let swapped = answer(
            r#"{"choices":[{"index":1,"text":"b","finish_reason":"stop"},{"index":0,"text":"a","finish_reason":"stop"}]}"#,
        );
        assert_eq!(swapped.completion.outputs, [Some("a".to_owned()), Some("b".to_owned())]);
        let lone = answer(
            r#"{"choices":[{"text":"x\ud83d","finish_reason":"stop"}],"usage":{"prompt_tokens":"5"}}"#,
        );
        assert!(lone.completion.outputs[0].as_ref().unwrap().starts_with('x'));
        assert!(lone.usage.is_unknown());
    }

    #[test]
    fn log_probabilities_of_several_indented_choices_are_on_one_line() {
        let choice = "{\"text\":\"x\",\"finish_reason\":\"stop\",\"logprobs\":{\n \"tokens\":[]\n}}";
        let logprobs = answer(&format!("{{\"choices\":[{choice},\n{choice}]}}")).completion.logprobs.unwrap();
        assert_eq!(logprobs.get(), r#"[{ "tokens":[]},{ "tokens":[]}]"#);
    }

    #[test]
    fn a_usage_of_another_shape_is_unknown_and_costs_no_more_than_itself() {
        let with = |usage: &str| {
            answer(&format!(r#"{{"choices":[{{"text":"x","finish_reason":"stop"}}],"usage":{usage}}}"#)).usage
        };
        for usage in ["[5,7,12]", "\"many\"", "7", "{}"] {
            assert!(with(usage).is_unknown(), "{usage}");
        }
        for details in ["[4]", "4", "null"] {
            let usage = with(&format!(r#"{{"prompt_tokens":5,"prompt_tokens_details":{details}}}"#));
            assert_eq!((usage.prompt_tokens, usage.cached_tokens), (Some(Tokens(5)), None), "{details}");
        }
    }

    #[test]
    fn what_is_no_answer_is_never_taken_for_one() {
        for body in [
            "",
            "<html>busy</html>",
            r#"{"choices":[{"message":{"content":"cut"#,
            r#"{"choices":[]}"#,
            r#"["m",[{"text":"x","finish_reason":"stop"}]]"#,
            r#"{"choices":[{"message":{"content":"x"},"finish_reason":null}]}"#,
            r#"{"choices":[{"message":{"content":"x"},"finish_reason":"error"}]}"#,
            r#"{"error":{"message":"upstream"}}"#,
        ] {
            assert_eq!(kind(body), FailureKind::BadResponse, "{body}");
        }
        assert_eq!(kind(r#"{"error":{"code":429,"message":"slow"}}"#), FailureKind::RateLimited);
        assert_eq!(
            kind(r#"{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}"#),
            FailureKind::ContentFilter
        );
    }
}
