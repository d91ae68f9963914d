//! The usual answer, one choice with text, read in one pass. Whatever is not quite as usual is left to
//! [`super::answer`], which understands more and takes longer; nothing is decided here.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::domain::{Answer, Completion, Tokens, Usage};

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object. `serde` would take an array for one, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    choices: Vec<Object<Choice<'a>>>,
    usage: Option<Object<Counts>>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Object<Message<'a>>>,
    delta: Option<IgnoredAny>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
    logprobs: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Text<'a>>,
    refusal: Option<IgnoredAny>,
    tool_calls: Option<IgnoredAny>,
    reasoning_content: Option<IgnoredAny>,
    reasoning: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<Object<PromptCounts>>,
    completion_tokens_details: Option<Object<CompletionCounts>>,
}

#[derive(Deserialize)]
struct PromptCounts {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionCounts {
    reasoning_tokens: Option<u64>,
}

/// The answer, if it is a usual one.
pub(super) fn read(bytes: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let Object(body): Object<Body<'_>> = serde_json::from_str(text).ok()?;
    let mut choices = body.choices.into_iter();
    let (Some(Object(choice)), None, None) = (choices.next(), choices.next(), body.error) else {
        return None;
    };
    if choice.delta.is_some() || choice.logprobs.is_some() {
        return None;
    }
    let output = match choice.message {
        None => choice.text?,
        Some(Object(message)) => message.into_text()?,
    };
    let completion = Completion {
        outputs: vec![Some(output.0.into_owned())],
        finish_reason: Some(choice.finish_reason?.0.into_owned()).filter(|reason| !reason.is_empty()),
        ..Completion::default()
    };
    let usage = body.usage.map_or_else(Usage::default, |Object(counts)| counts.into());
    Some(Answer { completion, usage, model: body.model.map(|model| model.0.into_owned()) })
}

impl<'a> Message<'a> {
    /// Its text, if it has nothing else.
    fn into_text(self) -> Option<Text<'a>> {
        let others = [self.refusal, self.tool_calls, self.reasoning_content, self.reasoning];
        self.content.filter(|_| others.iter().all(Option::is_none))
    }
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        let prompt = counts.prompt_tokens_details.map(|Object(prompt)| prompt);
        let completion = counts.completion_tokens_details.map(|Object(completion)| completion);
        Self {
            prompt_tokens: counts.prompt_tokens.map(Tokens),
            completion_tokens: counts.completion_tokens.map(Tokens),
            total_tokens: counts.total_tokens.map(Tokens),
            cached_tokens: prompt.as_ref().and_then(|prompt| prompt.cached_tokens).map(Tokens),
            reasoning_tokens: completion.and_then(|completion| completion.reasoning_tokens).map(Tokens),
            cache_write_tokens: prompt.and_then(|prompt| prompt.cache_write_tokens).map(Tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::answer::read_any;

    #[test]
    fn an_answer_is_the_same_whether_it_is_taken_for_a_usual_one_or_not() {
        let message = r#"{"role":"assistant","content":"h\u00e9 \"x\"","refusal":null}"#;
        let usage = r#"{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"extra":[1],
            "prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":1},
            "completion_tokens_details":{"reasoning_tokens":null}}"#;
        let choices = [
            format!(r#"{{"index":0,"message":{message},"logprobs":null,"finish_reason":"stop"}}"#),
            r#"{"text":"x","finish_reason":"length","message":null}"#.to_owned(),
            format!(r#"{{"message":{message},"finish_reason":""}}"#),
            r#"{"delta":{"content":"d"},"text":"t","finish_reason":"stop"}"#.to_owned(),
            r#"{"message":{"content":"c","reasoning":"r"},"finish_reason":"stop"}"#.to_owned(),
            r#"{"message":["c"],"text":"t","finish_reason":"stop"}"#.to_owned(),
        ];
        let mut usual_ones = 0;
        for choice in &choices {
            for usage in [usage, "null", "[5,7]", r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":5.0}"#] {
                for rest in ["", r#","error":null"#, r#","error":{"message":"no"}"#, r#","model":7"#] {
                    let body = format!(r#"{{"model":"m","choices":[{choice}],"usage":{usage}{rest}}}"#);
                    let Some(answer) = read(body.as_bytes()) else { continue };
                    usual_ones += 1;
                    let slowly = read_any(body.as_bytes(), 200).unwrap();
                    assert_eq!(format!("{answer:?}"), format!("{slowly:?}"), "{body}");
                }
            }
        }
        assert_eq!(usual_ones, 12, "of three choices, two usages and two ends each");
    }
}
