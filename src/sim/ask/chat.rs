//! `POST /v1/chat/completions`: its messages and parameters.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::fields::{Fields, items_of, text_of};
use super::super::refusal::Refusal;
use super::super::tokens::count_tokens;
use super::{Ask, Format, read_max_tokens};
use crate::domain::IdentityHasher;

/// Tokens around each message, for a name, and after the last message.
const AROUND_MESSAGE: u64 = 3;
const FOR_NAME: u64 = 1;
const AT_END: u64 = 3;

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// The efforts there are, and the tokens each of them spends.
const EFFORTS: [(&str, u64); 7] =
    [("none", 0), ("minimal", 0), ("low", 16), ("medium", 32), ("high", 64), ("xhigh", 128), ("max", 256)];

pub(super) fn read<'a>(fields: &Fields<'a>, common: Ask<'a>) -> Result<Ask<'a>, Refusal> {
    let mut ask = Ask {
        max_tokens: read_limit(fields)?,
        logprobs: read_logprobs(fields)?,
        format: read_format(fields)?,
        reasoning: read_effort(fields)?,
        ..common
    };
    read_messages(fields, &mut ask)?;
    Ok(ask)
}

fn read_limit(fields: &Fields<'_>) -> Result<Option<u64>, Refusal> {
    let old = read_max_tokens(fields, "max_tokens", 1)?;
    let new = read_max_tokens(fields, "max_completion_tokens", 1)?;
    if old.is_some() && new.is_some() {
        let reason = "setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported";
        return Err(fields.invalid("max_tokens", reason));
    }
    Ok(new.or(old))
}

fn read_logprobs(fields: &Fields<'_>) -> Result<Option<usize>, Refusal> {
    let logprobs = fields.flag("logprobs")?;
    let top = fields.count("top_logprobs", 0..=20)?;
    if top.is_some() && !logprobs {
        return Err(fields.invalid("top_logprobs", "only allowed when 'logprobs' is enabled"));
    }
    Ok(logprobs.then_some(top.unwrap_or(0)))
}

fn read_effort(fields: &Fields<'_>) -> Result<u64, Refusal> {
    let effort = fields.word("reasoning_effort", &EFFORTS.map(|(name, _)| name))?;
    Ok(effort
        .and_then(|effort| EFFORTS.iter().find(|(name, _)| effort == *name))
        .map_or(0, |(_, tokens)| *tokens))
}

fn read_format<'a>(fields: &Fields<'a>) -> Result<Format<'a>, Refusal> {
    let Some(value) = fields.raw("response_format") else {
        return Ok(Format::Text);
    };
    let format = Fields::of_value(value, "response_format")?;
    format.required("type")?;
    let kind = format.word("type", &["text", "json_object", "json_schema"])?;
    match kind.as_deref() {
        Some("json_object") => Ok(Format::JsonObject),
        Some("json_schema") => {
            let inner = Fields::of_value(format.required("json_schema")?, "response_format.json_schema")?;
            check_schema_name(&inner)?;
            match inner.raw("schema") {
                Some(schema) if schema.get().starts_with('{') => Ok(Format::Schema(schema)),
                Some(schema) => Err(inner.mistyped("schema", "an object", schema)),
                None => Ok(Format::JsonObject),
            }
        }
        _ => Ok(Format::Text),
    }
}

fn check_schema_name(fields: &Fields<'_>) -> Result<(), Refusal> {
    fields.required("name")?;
    let name = fields.text("name")?.unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(fields.invalid("name", "1 to 64 letters, digits, '_' and '-' were expected"))
}

fn read_messages<'a>(fields: &Fields<'a>, ask: &mut Ask<'a>) -> Result<(), Refusal> {
    let value = fields.required("messages")?;
    let messages =
        items_of(value).ok_or_else(|| fields.mistyped("messages", "an array of objects", value))?;
    if messages.is_empty() {
        return Err(fields.invalid("messages", "empty array, expected at least one message"));
    }
    let mut hasher = ask.hasher(fields);
    let mut tokens = AT_END;
    let mut quoted = None;
    for (index, message) in messages.into_iter().enumerate() {
        let message = read_message(message, index)?;
        tokens += message.tokens;
        message.hash(&mut hasher);
        // The last user message is what the answer is about; without one, the last message is.
        if message.role == "user" || !matches!(&quoted, Some((true, _))) {
            quoted = Some((message.role == "user", message.text));
        }
    }
    ask.add_prompt(quoted.map(|(_, text)| text).unwrap_or_default(), tokens, &hasher);
    Ok(())
}

struct Message<'a> {
    role: Cow<'a, str>,
    text: Cow<'a, str>,
    /// What is no text but belongs to the prompt: images, tool calls.
    rest: Vec<&'a RawValue>,
    tokens: u64,
}

impl Message<'_> {
    fn hash(&self, hasher: &mut IdentityHasher) {
        hasher.field("role", self.role.as_bytes());
        hasher.field("text", self.text.as_bytes());
        for rest in &self.rest {
            hasher.field("rest", rest.get().as_bytes());
        }
    }
}

fn read_message(value: &RawValue, index: usize) -> Result<Message<'_>, Refusal> {
    let fields = Fields::of_value(value, &format!("messages[{index}]"))?;
    fields.required("role")?;
    let role = fields.word("role", &ROLES)?.unwrap_or_default();
    let calls = fields.raw("tool_calls").or_else(|| fields.raw("function_call"));
    let mut rest: Vec<_> = calls.into_iter().collect();
    let text = match fields.raw("content") {
        Some(content) => read_content(&fields, content, &mut rest)?,
        None if calls.is_some() => "".into(),
        None => return Err(fields.missing("content")),
    };
    let name = fields.text("name")?.map_or(0, |_| FOR_NAME);
    let others: u64 = rest.iter().map(|value| count_tokens(value.get())).sum();
    let tokens = AROUND_MESSAGE + count_tokens(&role) + count_tokens(&text) + name + others;
    Ok(Message { role, text, rest, tokens })
}

/// The text of a message; parts of other kinds go to `rest`.
fn read_content<'a>(
    message: &Fields<'a>,
    content: &'a RawValue,
    rest: &mut Vec<&'a RawValue>,
) -> Result<Cow<'a, str>, Refusal> {
    if let Some(text) = text_of(content) {
        return Ok(text);
    }
    let parts = items_of(content)
        .ok_or_else(|| message.mistyped("content", "a string or an array of parts", content))?;
    let mut texts = String::new();
    for (index, value) in parts.into_iter().enumerate() {
        let part = Fields::of_value(value, &format!("{}[{index}]", message.path_of("content")))?;
        part.required("type")?;
        if part.text("type")?.as_deref() == Some("text") {
            part.required("text")?;
            texts.push_str(&part.text("text")?.unwrap_or_default());
        } else {
            rest.push(value);
        }
    }
    Ok(texts.into())
}
