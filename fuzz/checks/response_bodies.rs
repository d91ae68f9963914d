//! Response bodies: an answer or a classified failure, never a count that the body lacks.

use promptmill::domain::{Advice, Answer, AttemptFailure, Tokens, Usage};
use promptmill::provider::{ErrorBody, Pace, classify, read_answer, read_stream};
use serde_json::Value;

use super::writing::check_answer_written;

const ERRORS: [u16; 11] = [302, 400, 401, 402, 403, 404, 408, 413, 429, 500, 503];

pub fn check(data: &[u8]) {
    // A body that even the general parser does not read (a number out of range) says nothing here.
    let parsed: Option<Value> = serde_json::from_slice(data).ok();
    let read = read_answer(data, 200, true);
    match &read {
        Ok(answer) => check_answer(answer, parsed.as_ref()),
        Err(failure) => check_failure(failure, 200),
    }
    if let Some(body) = &parsed {
        let usage = read.as_ref().map_or_else(|failure| failure.usage, |answer| answer.usage);
        check_usage(usage, &body["usage"]);
        check_as_stream(body, &read);
    }
    if let Ok(answer) = read {
        check_answer_written(answer);
    }
    for status in ERRORS {
        let failure = classify(status, ErrorBody::parse(data), Pace::default());
        check_failure(&failure, status);
        assert!(!matches!(failure.advice, Advice::Resend { .. }));
        assert!(failure.usage.is_unknown());
    }
}

fn check_answer(answer: &Answer, body: Option<&Value>) {
    assert!(answer.completion.finish_reason.as_deref().is_some_and(|reason| !reason.is_empty()));
    assert!(!answer.completion.outputs.is_empty());
    assert!(answer.completion.response.is_some());
    if let Some(body) = body {
        assert!(body.is_object(), "{body} is no answer");
        assert_eq!(body["choices"].as_array().map(Vec::len), Some(answer.completion.outputs.len()));
        assert_eq!(body["model"].as_str(), answer.model.as_deref());
    }
}

pub fn check_failure(failure: &AttemptFailure, status: u16) {
    assert_eq!(failure.failure.status, Some(status));
    let message = &failure.failure.message;
    assert!(!message.is_empty() && !message.chars().any(char::is_control), "{message:?}");
}

fn check_usage(read: Usage, said: &Value) {
    let prompt = &said["prompt_tokens_details"];
    for (read, said) in [
        (read.prompt_tokens, &said["prompt_tokens"]),
        (read.completion_tokens, &said["completion_tokens"]),
        (read.total_tokens, &said["total_tokens"]),
        (read.cached_tokens, &prompt["cached_tokens"]),
        (read.cache_write_tokens, &prompt["cache_write_tokens"]),
        (read.reasoning_tokens, &said["completion_tokens_details"]["reasoning_tokens"]),
    ] {
        assert!(read.is_none() || read == said.as_u64().map(Tokens), "{read:?} where the body has {said}");
    }
}

/// The same body as the one event of a stream gives the same answer, where both have the same shape.
fn check_as_stream(body: &Value, read: &Result<Answer, AttemptFailure>) {
    let Ok(answer) = read else { return };
    let choices = body["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
    let places: Vec<Option<u64>> = choices.iter().map(|choice| choice["index"].as_u64()).collect();
    let in_order =
        places.windows(2).all(|pair| pair[0] < pair[1]) && !(places.len() > 1 && places[0].is_none());
    let is_simple = |choice: &Value| choice.get("text").is_none() || choice.get("message").is_none();
    // A stream may be cut between two choices; a whole body is not.
    let is_whole = |choice: &Value| choice["finish_reason"].as_str().is_some_and(|reason| !reason.is_empty());
    if !in_order || !choices.iter().all(|choice| is_simple(choice) && is_whole(choice)) {
        return;
    }
    let stream = format!("data: {body}\n\n");
    let streamed = read_stream([stream.as_bytes()], 200).expect("an answer is one as a stream too");
    assert_eq!(streamed.completion.outputs, answer.completion.outputs);
    assert_eq!(streamed.completion.finish_reason, answer.completion.finish_reason);
    assert_eq!(streamed.completion.refusal, answer.completion.refusal);
    assert_eq!(streamed.completion.reasoning, answer.completion.reasoning);
    assert_eq!((streamed.usage, streamed.model), (answer.usage, answer.model.clone()));
}
