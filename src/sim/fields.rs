//! A JSON object of parameters, read one by one so that every complaint names its parameter as OpenAI's do.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::prose::short_hash;
use super::refusal::Refusal;
use crate::domain::IdentityHasher;

/// The members of one object. Their values are not parsed before they are asked for.
pub(super) struct Fields<'a> {
    /// What stands before a name in complaints: empty, or like `messages[2].`.
    path: String,
    members: Members<'a>,
}

type Result<T> = std::result::Result<T, Refusal>;

impl<'a> Fields<'a> {
    /// Reads the body of a request.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self> {
        let members = serde_json::from_slice(body).map_err(|error| Refusal::not_json(&error.to_string()))?;
        Ok(Self { path: String::new(), members })
    }

    /// Reads an object inside of the body; `path` says where.
    pub(super) fn of_value(value: &'a RawValue, path: &str) -> Result<Self> {
        let members = serde_json::from_str(value.get()).map_err(|_| wrong_type(path, "an object", value))?;
        Ok(Self { path: format!("{path}."), members })
    }

    /// A member as written; `null` counts as absent.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.raw_or_null(name).filter(|value| value.get() != "null")
    }

    /// A member as written, also if it is `null`.
    pub(super) fn raw_or_null(&self, name: &str) -> Option<&'a RawValue> {
        // The last of several wins, as in most parsers.
        self.members.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// A member that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&'a RawValue> {
        self.raw(name).ok_or_else(|| self.missing(name))
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>> {
        let text = |value| text_of(value).ok_or_else(|| self.mistyped(name, "a string", value));
        self.raw(name).map(text).transpose()
    }

    /// One of several words.
    pub(super) fn word(&self, name: &str, words: &[&str]) -> Result<Option<Cow<'a, str>>> {
        let Some(word) = self.text(name)? else {
            return Ok(None);
        };
        if words.contains(&word.as_ref()) {
            return Ok(Some(word));
        }
        let message = format!("Invalid value: '{word}'. Supported values are: '{}'.", words.join("', '"));
        Err(Refusal::parameter(self.path_of(name), Some("invalid_value"), message))
    }

    /// A boolean; false if it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        let Some(value) = self.raw(name) else {
            return Ok(false);
        };
        serde_json::from_str(value.get()).map_err(|_| self.mistyped(name, "a boolean", value))
    }

    /// A number within a range.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        let number = serde_json::from_str(value.get()).map_err(|_| self.mistyped(name, "a number", value))?;
        self.in_range(name, number, &range, ["decimal_below_min_value", "decimal_above_max_value"])
    }

    /// A whole number within a range.
    pub(super) fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        let number =
            serde_json::from_str(value.get()).map_err(|_| self.mistyped(name, "an integer", value))?;
        self.in_range(name, number, &range, ["integer_below_min_value", "integer_above_max_value"])
    }

    /// A count from `least` on.
    pub(super) fn count(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<usize>> {
        Ok(self.integer(name, range)?.and_then(|count| usize::try_from(count).ok()))
    }

    fn in_range<T: PartialOrd + Display + Copy>(
        &self,
        name: &str,
        value: T,
        range: &RangeInclusive<T>,
        [too_small, too_large]: [&'static str; 2],
    ) -> Result<Option<T>> {
        let (code, sign, bound) = if range.contains(&value) {
            return Ok(Some(value));
        } else if value > *range.end() {
            (too_large, "<=", range.end())
        } else {
            (too_small, ">=", range.start())
        };
        let message = format!(
            "Invalid '{}': {}. Expected a value {sign} {bound}, but got {value} instead.",
            self.path_of(name),
            code.replace('_', " ").replace(" min", " minimum").replace(" max", " maximum"),
        );
        Err(Refusal::parameter(self.path_of(name), Some(code), message))
    }

    /// The complaint that a member is not there.
    pub(super) fn missing(&self, name: &str) -> Refusal {
        let path = self.path_of(name);
        let message = format!("Missing required parameter: '{path}'.");
        Refusal::parameter(path, Some("missing_required_parameter"), message)
    }

    /// The complaint that a member is of the wrong type.
    pub(super) fn mistyped(&self, name: &str, expected: &str, value: &RawValue) -> Refusal {
        wrong_type(&self.path_of(name), expected, value)
    }

    /// The complaint that a member does not go together with others.
    pub(super) fn invalid(&self, name: &str, reason: &str) -> Refusal {
        let path = self.path_of(name);
        let message = format!("Invalid '{path}': {reason}.");
        Refusal::parameter(path, Some("invalid_value"), message)
    }

    /// Where a member stands.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// A hash of all members, whatever their order.
    pub(super) fn hash(&self) -> u64 {
        let mut members: Vec<_> = self.members.0.iter().collect();
        members.sort_by(|a, b| a.0.cmp(&b.0));
        let mut hasher = IdentityHasher::new("simulated body");
        for (name, value) in members {
            hasher.field(name, value.get().as_bytes());
        }
        short_hash(&hasher)
    }
}

/// The complaint that a value is of the wrong type.
pub(super) fn wrong_type(path: &str, expected: &str, value: &RawValue) -> Refusal {
    let found = match value.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ if value.get().contains(['.', 'e', 'E']) => "a decimal number",
        _ => "an integer",
    };
    let message = format!("Invalid type for '{path}': expected {expected}, but got {found} instead.");
    Refusal::parameter(path.into(), Some("invalid_type"), message)
}

/// The string that a value is.
pub(super) fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text>(value.get()).ok().map(|text| text.0)
}

/// The items of the array that a value is.
pub(super) fn items_of(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some((Text(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_body_knows_no_order() {
        let hash = |body: &str| Fields::of_body(body.as_bytes()).unwrap().hash();
        assert_eq!(hash(r#"{"a":1,"b":"x"}"#), hash(r#"{ "b": "x", "a": 1 }"#));
        assert_ne!(hash(r#"{"a":1,"b":"x"}"#), hash(r#"{"a":1,"b":"y"}"#));
    }

    #[test]
    fn a_complaint_names_the_parameter() {
        let fields = Fields::of_body(br#"{"temperature":3,"n":"x","seed":1.5,"best_of":0}"#).unwrap();
        let complaint = fields.number("temperature", 0.0..=2.0).unwrap_err();
        assert_eq!(
            complaint.message,
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead."
        );
        assert_eq!(complaint.param.as_deref(), Some("temperature"));
        let complaint = fields.integer("best_of", 1..=20).unwrap_err();
        assert_eq!(complaint.code, Some("integer_below_min_value"));
        let complaint = fields.integer("n", 1..=128).unwrap_err();
        assert_eq!(complaint.message, "Invalid type for 'n': expected an integer, but got a string instead.");
        assert_eq!(fields.integer("seed", 0..=9).unwrap_err().code, Some("invalid_type"));
        assert_eq!(fields.required("model").unwrap_err().message, "Missing required parameter: 'model'.");
        assert!(Fields::of_body(b"[1]").is_err() && Fields::of_body(b"{\"a\":").is_err());
    }
}
