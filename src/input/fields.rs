//! A record's fields by name, parsed once, without building a tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::domain::RecordBody;

/// The fields of a row. JSON values are still text; a table's cells are plain strings.
#[derive(Debug)]
pub enum Fields<'a> {
    /// The row is one string: a line of text or a bare JSON string.
    Prompt(Cow<'a, str>),
    /// The members of a JSON object, in their order.
    Object(Object<'a>),
    /// Columns and cells.
    Table(&'a [String], &'a [String]),
}

/// The members of a JSON object, in their order, values unparsed.
#[derive(Debug, Default)]
pub struct Object<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// The value of a member; of several with one name the last, as JSON parsers do.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

/// One field's value.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// The text of a JSON value.
    Json(&'a RawValue),
    /// A table's cell.
    Cell(&'a str),
}

/// Why a row's JSON cannot be used.
#[derive(Debug)]
pub struct BadJson {
    /// Where in the line, in bytes from 1; `None` when the whole value is of the wrong type.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl<'a> Fields<'a> {
    /// Parses the body of a record.
    ///
    /// # Errors
    /// The JSON is broken, or neither an object nor a string.
    pub fn of(body: &'a RecordBody) -> Result<Self, BadJson> {
        match body {
            RecordBody::Text(text) => Ok(Self::Prompt(Cow::Borrowed(text))),
            RecordBody::Table(row) => Ok(Self::Table(&row.columns, &row.cells)),
            RecordBody::Json(json) => parse(json),
        }
    }

    /// A field that is there: neither missing, nor `null`, nor an empty cell.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Field<'_>> {
        match self {
            Self::Prompt(_) => None,
            Self::Object(object) => object.get(name).filter(|value| value.get() != "null").map(Field::Json),
            Self::Table(columns, cells) => {
                let place = columns.iter().position(|column| column == name)?;
                cells.get(place).filter(|cell| !cell.is_empty()).map(|cell| Field::Cell(cell))
            }
        }
    }
}

fn parse(json: &str) -> Result<Fields<'_>, BadJson> {
    let parsed = match json.as_bytes().first() {
        Some(b'{') => serde_json::from_str(json).map(Fields::Object),
        Some(b'"') => serde_json::from_str::<Text>(json).map(|text| Fields::Prompt(text.0)),
        _ => serde_json::from_str::<&RawValue>(json).and_then(|value| {
            Err(de::Error::custom(format!("expected an object or a string, found {}", type_of(value))))
        }),
    };
    parsed.map_err(|error| BadJson {
        column: (error.line() > 0).then_some(error.column()),
        message: without_position(&error),
    })
}

/// What kind of JSON value this is, in words.
#[must_use]
pub fn type_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// How deep `serde_json` goes into a value that has to be understood and not only passed on.
const DEEPEST: u8 = 127;

/// The message of a JSON error without serde's "at line 1 column 17": every row is line 1 to it.
#[must_use]
pub fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(head, _)| head);
    match message {
        "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
            "half of a surrogate pair, which is no character (\\ud800 to \\udfff come in twos)".to_owned()
        }
        "recursion limit exceeded" => format!("nested more than {DEEPEST} deep"),
        _ => message.to_owned(),
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_text_and_the_last_of_a_name_wins() {
        let body = RecordBody::Json(r#"{"a":1.10,"a\u0062":"x","a":{"k":[1, 2]},"n":null}"#.into());
        let fields = Fields::of(&body).unwrap();
        assert!(matches!(fields.get("a"), Some(Field::Json(raw)) if raw.get() == r#"{"k":[1, 2]}"#));
        assert!(matches!(fields.get("ab"), Some(Field::Json(raw)) if raw.get() == r#""x""#));
        assert!(fields.get("n").is_none());
    }

    #[test]
    fn broken_json_says_where_and_without_a_line_of_its_own() {
        let body = RecordBody::Json(r#"{"a":1,}"#.into());
        let error = Fields::of(&body).unwrap_err();
        assert_eq!((error.column, error.message.as_str()), (Some(8), "trailing comma"));
        let body = RecordBody::Json("17".into());
        assert_eq!(Fields::of(&body).unwrap_err().message, "expected an object or a string, found a number");
    }
}
