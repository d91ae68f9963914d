//! The request parameters that are known: their types, ranges and rules across each other, per endpoint. Ranges are
//! those of OpenAI's API reference (chat completions and completions, November 2026). Nothing is sent from here.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::Endpoint;

/// Parameters by name, in the order of their names.
pub type Parameters = BTreeMap<String, Value>;

/// What is wrong with a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadParameter {
    /// The parameter's name in the API.
    pub name: String,
    /// What is wrong and what would be right; without the name.
    pub message: String,
}

enum Kind {
    Number { min: f64, max: f64 },
    Integer { min: i64, max: i64 },
    Flag,
    Text,
    Stop,
    LogitBias,
    Object,
    Logprobs,
}

struct Known {
    name: &'static str,
    kind: Kind,
    chat: bool,
    completions: bool,
}

const fn known(name: &'static str, kind: Kind, chat: bool, completions: bool) -> Known {
    Known { name, kind, chat, completions }
}

/// A server may take up to this many choices a prompt.
const MOST_CHOICES: i64 = 128;
const MOST_BEST_OF: i64 = 20;
const MOST_COMPLETION_LOGPROBS: i64 = 5;
const MOST_CHAT_LOGPROBS: i64 = 20;
const MOST_STOPS: usize = 4;

const KNOWN: &[Known] = &[
    known("best_of", Kind::Integer { min: 0, max: MOST_BEST_OF }, false, true),
    known("echo", Kind::Flag, false, true),
    known("frequency_penalty", Kind::Number { min: -2.0, max: 2.0 }, true, true),
    known("logit_bias", Kind::LogitBias, true, true),
    known("logprobs", Kind::Logprobs, true, true),
    known("max_completion_tokens", Kind::Integer { min: 1, max: i64::MAX }, true, false),
    known("max_tokens", Kind::Integer { min: 0, max: i64::MAX }, true, true),
    known("n", Kind::Integer { min: 1, max: MOST_CHOICES }, true, true),
    known("presence_penalty", Kind::Number { min: -2.0, max: 2.0 }, true, true),
    known("response_format", Kind::Object, true, false),
    known("seed", Kind::Integer { min: i64::MIN, max: i64::MAX }, true, true),
    known("stop", Kind::Stop, true, true),
    known("stream", Kind::Flag, true, true),
    known("suffix", Kind::Text, false, true),
    known("temperature", Kind::Number { min: 0.0, max: 2.0 }, true, true),
    known("top_logprobs", Kind::Integer { min: 0, max: MOST_CHAT_LOGPROBS }, true, false),
    known("top_p", Kind::Number { min: 0.0, max: 1.0 }, true, true),
    known("user", Kind::Text, true, true),
];

fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// Whether the parameter's value is text, so that a table's cell is taken as it stands and not read as JSON.
#[must_use]
pub fn is_text(name: &str) -> bool {
    find(name).is_some_and(|known| matches!(known.kind, Kind::Text | Kind::Stop))
}

/// Brings shorthands into the form the endpoint wants: chat's `logprobs` is a flag with `top_logprobs` beside it.
pub fn normalize(endpoint: Endpoint, parameters: &mut Parameters) {
    if endpoint == Endpoint::Chat && parameters.get("logprobs").is_some_and(Value::is_number) {
        let count = parameters.insert("logprobs".into(), Value::Bool(true)).unwrap_or_default();
        if !parameters.contains_key("top_logprobs") {
            parameters.insert("top_logprobs".into(), count);
        }
    }
}

/// Checks every known parameter against its type and range, and the rules between them. Unknown names pass: servers
/// have parameters of their own.
///
/// # Errors
/// The first parameter that the endpoint would refuse.
pub fn check(endpoint: Endpoint, parameters: &Parameters) -> Result<(), BadParameter> {
    for (name, value) in parameters {
        check_one(endpoint, name, value).map_err(|message| BadParameter { name: name.clone(), message })?;
    }
    check_together(endpoint, parameters)
}

fn check_one(endpoint: Endpoint, name: &str, value: &Value) -> Result<(), String> {
    let Some(known) = find(name) else { return Ok(()) };
    let (allowed, other) = match endpoint {
        Endpoint::Chat => (known.chat, Endpoint::Completions),
        Endpoint::Completions => (known.completions, Endpoint::Chat),
    };
    if !allowed {
        return Err(format!("is a parameter of the {other} endpoint, not of {endpoint}"));
    }
    match known.kind {
        Kind::Number { min, max } => check_number(value, min, max),
        Kind::Integer { min, max } => check_integer(value, min, max),
        Kind::Flag => value.is_boolean().then_some(()).ok_or_else(|| wants("true or false", value)),
        Kind::Text => value.is_string().then_some(()).ok_or_else(|| wants("a string", value)),
        Kind::Stop => check_stop(value),
        Kind::LogitBias => check_logit_bias(value),
        Kind::Object => value.is_object().then_some(()).ok_or_else(|| wants("an object", value)),
        Kind::Logprobs => check_logprobs(endpoint, value),
    }
}

fn wants(what: &str, value: &Value) -> String {
    format!("must be {what}, not {value}")
}

fn check_number(value: &Value, min: f64, max: f64) -> Result<(), String> {
    let fits = value.as_f64().is_some_and(|number| (min..=max).contains(&number));
    fits.then_some(()).ok_or_else(|| wants(&format!("a number from {min} to {max}"), value))
}

fn check_integer(value: &Value, min: i64, max: i64) -> Result<(), String> {
    let fits = value.as_i64().is_some_and(|number| (min..=max).contains(&number));
    fits.then_some(()).ok_or_else(|| match (min, max) {
        (i64::MIN, i64::MAX) => wants("a whole number", value),
        (min, i64::MAX) => wants(&format!("a whole number, at least {min}"), value),
        (min, max) => wants(&format!("a whole number from {min} to {max}"), value),
    })
}

fn check_stop(value: &Value) -> Result<(), String> {
    let fits = match value {
        Value::String(_) => true,
        Value::Array(stops) => (1..=MOST_STOPS).contains(&stops.len()) && stops.iter().all(Value::is_string),
        _ => false,
    };
    fits.then_some(()).ok_or_else(|| wants(&format!("a string or 1 to {MOST_STOPS} strings"), value))
}

fn check_logit_bias(value: &Value) -> Result<(), String> {
    let Value::Object(biases) = value else {
        return Err(wants("a map of token ids to numbers from -100 to 100", value));
    };
    for (token, bias) in biases {
        if token.parse::<u64>().is_err() {
            return Err(format!("has the key {token:?}, which is not a token id"));
        }
        check_number(bias, -100.0, 100.0).map_err(|message| format!("for token {token} {message}"))?;
    }
    Ok(())
}

fn check_logprobs(endpoint: Endpoint, value: &Value) -> Result<(), String> {
    match endpoint {
        Endpoint::Chat => value.is_boolean().then_some(()).ok_or_else(|| {
            wants(&format!("true, false, or a whole number from 0 to {MOST_CHAT_LOGPROBS}"), value)
        }),
        Endpoint::Completions => check_integer(value, 0, MOST_COMPLETION_LOGPROBS),
    }
}

/// The rules between parameters, for an endpoint's parameters that are each right by themselves.
fn check_together(endpoint: Endpoint, parameters: &Parameters) -> Result<(), BadParameter> {
    let integer = |name: &str| parameters.get(name).and_then(Value::as_i64);
    let flag = |name: &str| parameters.get(name).and_then(Value::as_bool).unwrap_or(false);
    let bad = |name: &str, message: String| Err(BadParameter { name: name.into(), message });
    if let Some(best_of) = integer("best_of") {
        let n = integer("n").unwrap_or(1);
        if best_of < n {
            return bad("best_of", format!("must be at least n ({n}), not {best_of}"));
        }
        if flag("stream") {
            return bad("best_of", "cannot be used with stream".into());
        }
    }
    if integer("max_tokens") == Some(0) && !flag("echo") {
        return bad("max_tokens", "must be at least 1, or 0 with echo".into());
    }
    if endpoint == Endpoint::Chat && integer("top_logprobs").is_some() && !flag("logprobs") {
        return bad("top_logprobs", "needs logprobs".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(endpoint: Endpoint, json: &str) -> Result<(), String> {
        let mut parameters: Parameters = serde_json::from_str(json).unwrap();
        normalize(endpoint, &mut parameters);
        check(endpoint, &parameters).map_err(|bad| format!("{} {}", bad.name, bad.message))
    }

    #[test]
    fn values_at_the_edge_of_their_range_pass() {
        for json in [
            r#"{"temperature":0,"top_p":1,"presence_penalty":-2,"frequency_penalty":2,"n":1,"seed":-5}"#,
            r#"{"temperature":2.0,"stop":["a","b","c","d"],"user":"u","stream":true,"max_tokens":1}"#,
            r#"{"logit_bias":{"50256":-100,"1":100},"vendor_parameter":[1]}"#,
        ] {
            assert_eq!(checked(Endpoint::Chat, json), Ok(()));
            assert_eq!(checked(Endpoint::Completions, json), Ok(()));
        }
        assert_eq!(
            checked(Endpoint::Completions, r#"{"best_of":3,"n":3,"logprobs":5,"suffix":"x"}"#),
            Ok(())
        );
        assert_eq!(checked(Endpoint::Completions, r#"{"max_tokens":0,"echo":true}"#), Ok(()));
        assert_eq!(checked(Endpoint::Chat, r#"{"logprobs":20,"response_format":{"type":"text"}}"#), Ok(()));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (endpoint, json, name) in [
            (Endpoint::Chat, r#"{"temperature":2.01}"#, "temperature"),
            (Endpoint::Chat, r#"{"temperature":"1"}"#, "temperature"),
            (Endpoint::Chat, r#"{"top_p":-0.1}"#, "top_p"),
            (Endpoint::Chat, r#"{"n":0}"#, "n"),
            (Endpoint::Chat, r#"{"n":1.5}"#, "n"),
            (Endpoint::Chat, r#"{"max_tokens":0}"#, "max_tokens"),
            (Endpoint::Completions, r#"{"max_tokens":-1}"#, "max_tokens"),
            (Endpoint::Completions, r#"{"logprobs":6}"#, "logprobs"),
            (Endpoint::Completions, r#"{"logprobs":true}"#, "logprobs"),
            (Endpoint::Chat, r#"{"logprobs":21}"#, "top_logprobs"),
            (Endpoint::Chat, r#"{"presence_penalty":2.5}"#, "presence_penalty"),
            (Endpoint::Chat, r#"{"frequency_penalty":-3}"#, "frequency_penalty"),
            (Endpoint::Completions, r#"{"best_of":1,"n":2}"#, "best_of"),
            (Endpoint::Completions, r#"{"best_of":2,"stream":true}"#, "best_of"),
            (Endpoint::Chat, r#"{"best_of":2}"#, "best_of"),
            (Endpoint::Chat, r#"{"logit_bias":{"50256":-101}}"#, "logit_bias"),
            (Endpoint::Chat, r#"{"logit_bias":{"the":1}}"#, "logit_bias"),
            (Endpoint::Chat, r#"{"logit_bias":[1]}"#, "logit_bias"),
            (Endpoint::Chat, r#"{"stop":["a","b","c","d","e"]}"#, "stop"),
            (Endpoint::Chat, r#"{"stop":5}"#, "stop"),
            (Endpoint::Chat, r#"{"stream":"yes"}"#, "stream"),
            (Endpoint::Completions, r#"{"response_format":{}}"#, "response_format"),
        ] {
            let message = checked(endpoint, json).unwrap_err();
            assert!(message.starts_with(&format!("{name} ")), "{json}: {message}");
        }
    }
}
