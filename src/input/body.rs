//! The JSON body of a request and the hash that says what is asked for.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{type_of, without_position};
use super::parameters::Parameters;
use crate::domain::{Endpoint, IdentityHasher, Request, RequestHash};

/// What the model is asked.
pub(super) enum Content<'a> {
    /// One prompt, for either endpoint.
    Text { system: Option<String>, prompt: JsonText<'a> },
    /// Chat messages as they came.
    Messages { system: Option<String>, messages: &'a RawValue },
    /// A prompt that is no string: several prompts, or token numbers.
    Prompts { field: String, prompts: &'a RawValue },
}

/// A string as it stands in a body: in quotes, with as few escapes as can be.
pub(super) struct JsonText<'a>(Cow<'a, str>);

impl<'a> JsonText<'a> {
    pub(super) fn of(text: &str) -> Self {
        Self(Cow::Owned(json_string(text)))
    }

    /// The text of a JSON string. Most need no change: without a backslash there is no other way to write it.
    pub(super) fn of_json(raw: &'a RawValue) -> serde_json::Result<Self> {
        if memchr::memchr(b'\\', raw.get().as_bytes()).is_none() {
            return Ok(Self(Cow::Borrowed(raw.get())));
        }
        serde_json::from_str::<String>(raw.get()).map(|text| Self::of(&text))
    }
}

pub(super) struct BodyBuilder<'a> {
    endpoint: Endpoint,
    realm: &'static str,
    max_completion_tokens: bool,
    model: Option<&'a str>,
}

impl<'m> BodyBuilder<'m> {
    /// `model` is that of requests whose parameters name none.
    pub(super) fn new(
        endpoint: Endpoint,
        realm: &'static str,
        max_completion_tokens: bool,
        model: Option<&'m str>,
    ) -> Self {
        Self { endpoint, realm, max_completion_tokens, model }
    }

    /// Writes the body: model, content, then the parameters by name.
    pub(super) fn build(&self, mut parameters: Parameters, content: Content<'_>) -> Result<Request, String> {
        let model = match (parameters.remove("model"), self.model) {
            (Some(Value::String(model)), _) if !model.is_empty() => model,
            (None, Some(model)) if !model.is_empty() => model.to_owned(),
            (Some(other), _) => return Err(format!("model must be a name, not {other}")),
            (None, Some(empty)) => return Err(format!("model must be a name, not {empty:?}")),
            (None, None) => {
                return Err("no model: give one with --model, or in the row as params.model".into());
            }
        };
        let (name, content, prompts) = self.content(content)?;
        let n = parameters.get("n").and_then(Value::as_u64).unwrap_or(1);
        let answers = prompts * n;
        let per_answer = ["max_completion_tokens", "max_tokens"]
            .into_iter()
            .find_map(|name| parameters.get(name).and_then(Value::as_u64));
        let stream = parameters.get("stream").and_then(Value::as_bool).unwrap_or(false);
        if stream {
            // Without this a stream ends without saying what it consumed.
            parameters
                .entry("stream_options".into())
                .or_insert_with(|| serde_json::json!({"include_usage": true}));
        }
        let (body, content) = self.write(&model, name, &content, &parameters);
        let hash = self.hash(&model, name, &body[content], &parameters);
        Ok(Request {
            endpoint: self.endpoint,
            body: body.into(),
            model,
            stream,
            answers,
            max_completion_tokens: per_answer.map(|tokens| tokens.saturating_mul(answers)),
            hash,
        })
    }

    /// The member's name, its JSON text in parts, and how many prompts are in it.
    fn content<'a>(&self, content: Content<'a>) -> Result<(&'static str, Parts<'a>, u64), String> {
        match (self.endpoint, content) {
            (Endpoint::Chat, Content::Text { system, prompt }) => {
                let before = system.map_or_else(
                    || Cow::Borrowed("[{\"role\":\"user\",\"content\":"),
                    |text| format!("[{},{{\"role\":\"user\",\"content\":", message("system", &text)).into(),
                );
                Ok(("messages", [before, prompt.0, "}]".into()], 1))
            }
            (Endpoint::Completions, Content::Text { prompt, .. }) => Ok(("prompt", one(prompt.0), 1)),
            (Endpoint::Chat, Content::Messages { system, messages }) => {
                Ok(("messages", one(with_system(messages, system)?.into()), 1))
            }
            (Endpoint::Completions, Content::Messages { .. }) => {
                Err("messages are for the chat endpoint; add --endpoint chat".into())
            }
            (Endpoint::Chat, Content::Prompts { field, prompts }) => Err(format!(
                "field {field:?} must be a string for the chat endpoint, found {}; lists of prompts or tokens need \
                 --endpoint completions",
                type_of(prompts)
            )),
            (Endpoint::Completions, Content::Prompts { field, prompts }) => {
                let count = count_prompts(&field, prompts)?;
                Ok(("prompt", one(compact(prompts.get()).into()), count))
            }
        }
    }

    /// The body, and where in it the content stands.
    fn write(
        &self,
        model: &str,
        name: &str,
        content: &Parts<'_>,
        parameters: &Parameters,
    ) -> (String, Range<usize>) {
        let length: usize = content.iter().map(|part| part.len()).sum();
        let mut body = String::with_capacity(length + model.len() + 32 + 32 * parameters.len());
        body.push_str("{\"model\":");
        body.push_str(&json_string(model));
        body.push_str(",\"");
        body.push_str(name);
        body.push_str("\":");
        let start = body.len();
        for part in content {
            body.push_str(part);
        }
        let end = body.len();
        for (name, value) in parameters {
            body.push(',');
            body.push_str(&json_string(self.sent_name(name)));
            body.push(':');
            body.push_str(&value.to_string());
        }
        body.push('}');
        (body, start..end)
    }

    fn sent_name<'a>(&self, name: &'a str) -> &'a str {
        if self.max_completion_tokens && self.endpoint == Endpoint::Chat && name == "max_tokens" {
            "max_completion_tokens"
        } else {
            name
        }
    }

    /// What is asked, apart from how it is sent: whether an answer is streamed does not make it another answer, nor
    /// does the name under which a host takes the token limit.
    fn hash(&self, model: &str, name: &str, content: &str, parameters: &Parameters) -> RequestHash {
        let mut hasher = IdentityHasher::new("request");
        hasher.field("realm", self.realm.as_bytes());
        hasher.field("endpoint", self.endpoint.name().as_bytes());
        hasher.field("model", model.as_bytes());
        hasher.field(name, content.as_bytes());
        for (name, value) in parameters {
            if !matches!(name.as_str(), "stream" | "stream_options") {
                hasher.field(name, value.to_string().as_bytes());
            }
        }
        RequestHash(hasher.finish())
    }
}

/// The content's JSON text, in parts that are written one behind the other.
type Parts<'a> = [Cow<'a, str>; 3];

fn one(text: Cow<'_, str>) -> Parts<'_> {
    [text, "".into(), "".into()]
}

fn json_string(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

fn message(role: &str, content: &str) -> String {
    format!("{{\"role\":\"{role}\",\"content\":{}}}", json_string(content))
}

/// The messages, with the job's system message in front unless they bring one of their own.
fn with_system(messages: &RawValue, system: Option<String>) -> Result<String, String> {
    let list: Vec<&RawValue> = serde_json::from_str(messages.get())
        .map_err(|_| format!("messages must be an array, found {}", type_of(messages)))?;
    if list.is_empty() {
        return Err("messages is empty".into());
    }
    if let Some(other) = list.iter().find(|message| !message.get().starts_with('{')) {
        return Err(format!("messages must hold objects, found {}", type_of(other)));
    }
    let all = compact(messages.get());
    let own = list.iter().any(|message| {
        #[derive(serde::Deserialize)]
        struct Role<'a> {
            #[serde(borrow)]
            role: Option<Cow<'a, str>>,
        }
        serde_json::from_str::<Role<'_>>(message.get())
            .is_ok_and(|message| matches!(message.role.as_deref(), Some("system" | "developer")))
    });
    Ok(match system {
        Some(system) if !own => format!("[{},{}", message("system", &system), &all[1..]),
        _ => all,
    })
}

/// How many prompts: a string or one list of tokens is one, a list of either as many as it has.
fn count_prompts(field: &str, prompts: &RawValue) -> Result<u64, String> {
    let value: Value = serde_json::from_str(prompts.get()).map_err(|error| without_position(&error))?;
    let tokens = |list: &[Value]| !list.is_empty() && list.iter().all(Value::is_u64);
    let wrong = || {
        Err(format!(
            "field {field:?} must be a string, an array of strings, an array of token numbers, or an array of those"
        ))
    };
    match &value {
        Value::String(_) => Ok(1),
        Value::Array(list) if tokens(list) => Ok(1),
        Value::Array(list) if !list.is_empty() => {
            let strings = list.iter().all(Value::is_string);
            let lists = list.iter().all(|item| item.as_array().is_some_and(|item| tokens(item)));
            if strings || lists { Ok(list.len() as u64) } else { wrong() }
        }
        _ => wrong(),
    }
}

/// JSON without the white space between its parts; the parts as they were written.
#[must_use]
pub fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_written_in_one_way_however_it_came() {
        for (came, written) in [
            ("\"plain \u{e9}\u{7f} /\"", "\"plain \u{e9}\u{7f} /\""),
            (r#""\u0041\/\n\u0007""#, r#""A/\n\u0007""#),
            (r#""\"\\\ud83d\ude00""#, "\"\\\"\\\\\u{1f600}\""),
        ] {
            let raw: &RawValue = serde_json::from_str(came).unwrap();
            assert_eq!(JsonText::of_json(raw).unwrap().0, written);
            let text: String = serde_json::from_str(came).unwrap();
            assert_eq!(JsonText::of(&text).0, written);
        }
    }

    #[test]
    fn compacting_touches_nothing_inside_of_strings() {
        assert_eq!(
            compact("{ \"a b\" : [1.0,\n 2e3 , \"\\\" x\\\\\" ] }"),
            "{\"a b\":[1.0,2e3,\"\\\" x\\\\\"]}"
        );
    }
}
